//go:build unix

package powerloss

import (
	"fmt"
	"net/url"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/edfisync/edfisync/internal/dbtest"
	"github.com/edfisync/edfisync/syncdb"
)

// servant is a life whose ledger is on a PostgreSQL server that is killed.
type servant struct {
	*life
	server *dbtest.Server
	dsn    string
	loose  bool // commits are not waited for in the runs in which it is killed
	armed  bool // this is such a run

	onRun     func()
	timer     *time.Timer // that kills it
	killed    atomic.Bool
	dead      chan death // gives how the server died, once it is dead
	last      *death     // that the next process has not looked at
	known     contents
	kills     int
	open      int // kills after which intents were open
	intents   int // … how many, all together
	onTheWay  int // kills with a call on its way
	inBetween int // kills at another moment of a run
}

func (l *lab) newServant(seed uint64, server *dbtest.Server) *servant {
	l.t.Helper()
	s := &servant{life: l.newLife(seed), server: server, onRun: func() {}}
	name := fmt.Sprintf("life%d", seed)
	s.administer(`DROP DATABASE IF EXISTS ` + name)
	s.administer(`CREATE DATABASE ` + name)
	u, err := url.Parse(server.DSN)
	l.ok(err)
	u.Path = "/" + name
	s.dsn = u.String()
	return s
}

// administer executes statements on the server.
func (s *servant) administer(statements ...string) {
	s.t.Helper()
	db, err := sqlx.Open("postgres", s.server.DSN)
	s.ok(err)
	defer db.Close()
	for _, statement := range statements {
		_, err := db.ExecContext(s.t.Context(), statement)
		s.ok(err)
	}
}

// death is the moment a server was killed.
type death struct {
	when    string
	inCalls bool // while a call was on its way
	inRun   bool
	problem error
}

// kill ends the server, unless it is dead.
func (s *servant) kill(d death) {
	if s.killed.CompareAndSwap(false, true) {
		d.problem = s.server.Kill()
		s.dead <- d
	}
}

// aim picks the moment the server is killed: when a call has left, or at any moment of a run.
func (s *servant) aim() {
	s.killed.Store(false)
	s.dead = make(chan death, 1)
	if s.r.IntN(3) > 0 {
		var left atomic.Int64
		nth := int64(1 + s.r.IntN(8))
		s.onCall = func() {
			if left.Add(1) == nth {
				s.kill(death{when: fmt.Sprintf("with call %d on its way", nth), inCalls: true, inRun: true})
			}
		}
		return
	}
	after := time.Duration(s.r.IntN(100)) * time.Millisecond
	s.onRun = func() {
		s.timer = time.AfterFunc(after, func() { s.kill(death{when: after.String() + " after the start of a run", inRun: true}) })
	}
}

// process is one process: it opens the ledger as the program does, and runs.
func (s *servant) process() (err error) {
	s.t.Helper()
	ctx := s.t.Context()
	ledger, err := syncdb.Open(ctx, syncdb.Config{DSN: s.dsn, Master: s.master})
	if err != nil {
		return err
	}
	defer ledger.Close() //nolint:errcheck // its server may be gone
	conn, _, err := ledger.Connection(ctx, "default", "tiny")
	if err != nil {
		return err
	}
	open, err := ledger.Open(ctx, conn.ID)
	if err != nil {
		return err
	}
	if s.last != nil {
		s.survived(*s.last, open)
		s.last = nil
	}
	s.begin(open)
	if s.loose && s.armed {
		s.administer(`ALTER SYSTEM SET synchronous_commit = off`, `SELECT pg_reload_conf()`)
		time.Sleep(100 * time.Millisecond) // until every process of the server has read it
	}
	s.timer = nil
	s.onRun()
	if err := s.run(ledger); err != nil {
		return err
	}
	if timer := s.timer; timer != nil {
		s.timer = nil
		if !timer.Stop() {
			return nil // it is being killed
		}
	}
	if s.killed.Load() {
		return nil
	}
	s.mirrors(ledger, conn.ID)
	s.known, err = s.read()
	return err
}

// read reads every row of every table of the ledger.
func (s *servant) read() (contents, error) {
	db, err := sqlx.Open("postgres", s.dsn)
	if err != nil {
		return nil, err
	}
	defer db.Close()
	return read(s.t.Context(), db, `SELECT tablename FROM pg_tables WHERE schemaname = current_schema()`)
}

// survived compares what a process found with what the one before had noted.
func (s *servant) survived(d death, open int) {
	s.t.Helper()
	s.tell("%d intents are open", open)
	s.lost(open)
	if open > 0 {
		s.open++
		s.intents += open
	}
	switch {
	case d.inCalls:
		s.onTheWay++
		if open == 0 {
			s.violation("I3: a call had left and its intent is gone")
		}
	case !d.inRun:
		found, err := s.read()
		s.ok(err)
		if lost := differences(s.known, found); len(lost) > 0 {
			s.violation("I3: what a run had written when it ended is gone, of %s", strings.Join(lost, ", "))
		}
	default:
		s.inBetween++
	}
}

// round is a change of the source and a run in which the server is killed, one time in five twice; then target and ledger must come in line.
func (s *servant) round() {
	s.t.Helper()
	s.edit()
	for again := true; again && len(s.violations) == 0; again = s.r.IntN(5) == 0 {
		s.aim()
		s.armed = true
		err := s.process()
		s.armed = false
		s.onCall, s.onRun = func() {}, func() {}
		if err != nil && s.timer != nil {
			s.timer.Stop()
		}
		if err != nil && !s.killed.Load() {
			s.violation("a run fails while the server is there: %v", err)
			return
		}
		s.kill(death{when: "after a run"}) // or it is killed just now
		d := <-s.dead
		s.ok(d.problem)
		s.last = &d
		s.kills++
		s.tell("the server is killed %s (%v)", d.when, err)
		s.ok(s.server.Restart(s.t.Context()))
		if s.loose {
			s.administer(`ALTER SYSTEM RESET synchronous_commit`, `SELECT pg_reload_conf()`)
		}
		if s.r.IntN(3) == 0 {
			s.edit()
		}
	}
	if len(s.violations) == 0 {
		s.converged(s.process)
	}
}

func (l *lab) serve(seed uint64, server *dbtest.Server, kills int, loose bool) *servant {
	l.t.Helper()
	s := l.newServant(seed, server)
	defer s.sis.Close()
	s.loose = loose
	for s.kills < kills && len(s.violations) == 0 {
		s.round()
	}
	return s
}

func durable(t *testing.T) *dbtest.Server {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("servers are killed on Linux only")
	}
	server := dbtest.DurablePostgres(t)
	db, err := sqlx.Open("postgres", server.DSN)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, setting := range []string{"fsync", "full_page_writes", "synchronous_commit"} {
		var is string
		if err := db.GetContext(t.Context(), &is, `SHOW `+setting); err != nil || is != "on" {
			t.Fatalf("%s is %s, %v", setting, is, err)
		}
	}
	return server
}

// T4: the database server is killed with all its processes in the middle of runs, started again, and the next process finds every intent that
// was noted, and converges. EDFISYNC_TEST_POSTGRES_KILLS says how often (default 3); make powerloss: 200. EDFISYNC_TEST_POSTGRES_SEED plays one
// life and tells its story.
func TestPowerLossOfThePostgresServer(t *testing.T) {
	t.Parallel()
	server := durable(t)
	wanted, first := 3, uint64(1)
	if text := os.Getenv("EDFISYNC_TEST_POSTGRES_KILLS"); text != "" {
		var err error
		if wanted, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	told := os.Getenv("EDFISYNC_TEST_POSTGRES_SEED")
	if told != "" {
		var err error
		if first, err = strconv.ParseUint(told, 10, 64); err != nil {
			t.Fatal(err)
		}
		wanted = 1
	}
	l := newLab(t)
	kills, open, intents, onTheWay, inBetween := 0, 0, 0, 0, 0
	for seed := first; kills < wanted; seed++ {
		s := l.serve(seed, server, min(wanted-kills, 10), false)
		kills, open, intents = kills+s.kills, open+s.open, intents+s.intents
		onTheWay, inBetween = onTheWay+s.onTheWay, inBetween+s.inBetween
		if told != "" {
			t.Log(strings.Join(s.told, "\n"))
		}
		if len(s.violations) > 0 {
			t.Fatalf("seed %d (EDFISYNC_TEST_POSTGRES_SEED=%[1]d plays it again): %s\n%s", seed, strings.Join(s.violations, "; "), strings.Join(s.told, "\n"))
		}
	}
	t.Logf("server killed %d times: %d with a call on its way, %d at another moment of a run, the others after a run; intents were open %d times, %d in all",
		kills, onTheWay, inBetween, open, intents)
	if open < kills/4 {
		t.Errorf("intents were open after %d of %d kills only: this shows little", open, kills)
	}
}

// A server that acknowledges commits before they are on its disk loses intents when it is killed: the harness must see it. The product refuses to
// open a ledger on such a server (TestPostgresWithoutDurableCommitsIsRefused); here it is made one after the ledger was opened.
func TestPowerLossShowsAServerThatDoesNotWait(t *testing.T) {
	t.Parallel()
	server := durable(t)
	l := newLab(t)
	l.newServant(0, server).administer(`ALTER SYSTEM SET wal_writer_delay = '10s'`, `SELECT pg_reload_conf()`)
	for seed := range uint64(5) {
		s := l.serve(seed+1, server, 2, true)
		if len(s.violations) > 0 {
			t.Logf("found in life %d, the server having been killed %d times: %s", seed+1, s.kills, s.violations[0])
			return
		}
	}
	t.Error("nothing was found in 5 lives")
}
