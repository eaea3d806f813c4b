package sync_test

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	gosync "sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edfisync/edfisync/internal/dbtest"
	"github.com/edfisync/edfisync/internal/keys"
	"github.com/edfisync/edfisync/sync"
	"github.com/edfisync/edfisync/syncdb"
)

// useLedger replaces the ledger in memory by a real one and returns what closes it.
func (w *world) useLedger(dsn string) func() {
	w.t.Helper()
	master, err := keys.ParseMaster("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")
	if err != nil {
		w.t.Fatal(err)
	}
	db, err := syncdb.Open(w.t.Context(), syncdb.Config{DSN: dsn, Master: master, Grace: time.Millisecond})
	if err != nil {
		w.t.Fatal(err)
	}
	w.ledger = db
	if w.conn, w.ring, err = db.Connection(w.t.Context(), "default", "tiny"); err != nil {
		w.t.Fatal(err)
	}
	return func() { _ = db.Close() }
}

// atWrite calls fn when the n-th write call arrives.
func (w *world) atWrite(n int64, fn func()) {
	var seen atomic.Int64
	w.front.intercept(func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodGet && strings.HasPrefix(r.URL.Path, "/data/") && seen.Add(1) == n {
			fn()
		}
		return false
	})
}

func openSQL(t *testing.T, driver, dsn string) *sql.DB {
	t.Helper()
	db, err := sql.Open(driver, dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func mustExec(t *testing.T, db *sql.DB, statement string) {
	t.Helper()
	if _, err := db.ExecContext(context.WithoutCancel(t.Context()), statement); err != nil {
		t.Errorf("%s: %v", statement, err)
	}
}

// F50: the database server cuts every connection of the ledger in the middle of a run. The run ends or goes on; the next one settles what was
// open, and nothing is there twice.
func TestF50LedgerServerCutsItsConnections(t *testing.T) {
	t.Parallel()
	for _, at := range []int64{1, 30, 100} {
		t.Run(fmt.Sprintf("at write call %d", at), func(t *testing.T) {
			t.Parallel()
			dsn := dbtest.Postgres(t)
			other := openSQL(t, "postgres", dsn)
			w := newWorld(t)
			w.fill(60)
			closeLedger := w.useLedger(dsn)
			defer closeLedger()
			cut := false
			w.atWrite(at, func() {
				cut = true
				mustExec(t, other, `select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()`)
			})
			_, _, _ = w.run()
			if !cut {
				t.Fatal("no connection was cut")
			}
			w.front.intercept(nil)
			w.mustRun()
			w.converged()
			w.sameAsFresh()
		})
	}
}

// F51: the server breaks transactions off for a serialization failure or a deadlock. They have rolled back, so they are made again.
func TestF51SerializationFailuresAreRepeated(t *testing.T) {
	t.Parallel()
	for _, code := range []string{"40001", "40P01"} {
		t.Run(code, func(t *testing.T) {
			t.Parallel()
			dsn := dbtest.Postgres(t)
			other := openSQL(t, "postgres", dsn)
			w := newWorld(t)
			w.fill(40)
			closeLedger := w.useLedger(dsn)
			defer closeLedger()
			// Every third frame of the journal is refused once; a sequence keeps counting when its transaction rolls back.
			mustExec(t, other, `create sequence refusals`)
			mustExec(t, other, `create function refuse() returns trigger language plpgsql as $$ begin
				if nextval('refusals') % 3 = 0 then raise exception 'broken off' using errcode = '`+code+`'; end if; return new; end $$`)
			mustExec(t, other, `create trigger refuse before insert on journal for each row execute function refuse()`)
			s, _ := w.mustRun()
			if s.Failed > 0 {
				t.Errorf("got totals %+v, want nothing failed", s.Totals)
			}
			var refused int
			if err := other.QueryRow(`select last_value / 3 from refusals`).Scan(&refused); err != nil || refused == 0 {
				t.Fatalf("got %d refusals and %v, want some", refused, err)
			}
			w.converged()
			w.sameAsFresh()
		})
	}
}

// F52: another process holds the ledger's write lock. A short while is waited out; longer than the ledger waits ends the run before the calls
// whose intents could not be written, and the next run continues.
func TestF52LedgerIsLocked(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		held time.Duration
	}{
		{"for half a second", 500 * time.Millisecond},
		{"for longer than anybody waits", time.Minute},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "ledger.db")
			w := newWorld(t)
			w.fill(60)
			w.options.RenewEvery = time.Minute // a renewal would wait as well
			closeLedger := w.useLedger("sqlite:" + path)
			defer closeLedger()
			other := openSQL(t, "sqlite", "file:"+path+"?_pragma=busy_timeout(5000)&_txlock=immediate")
			locked, unlock := false, make(chan struct{})
			var holding gosync.WaitGroup
			w.atWrite(20, func() {
				tx, err := other.BeginTx(context.WithoutCancel(t.Context()), nil)
				if err != nil {
					t.Errorf("lock the ledger: %v", err)
					return
				}
				locked = true
				holding.Go(func() {
					select {
					case <-time.After(c.held):
					case <-unlock:
					}
					_ = tx.Rollback()
				})
			})
			_, _, err := w.run()
			close(unlock)
			holding.Wait()
			if !locked {
				t.Fatal("the ledger was never locked")
			}
			if gaveUp := c.held > 20*time.Second; gaveUp != (err != nil) {
				t.Errorf("got %v from a run whose ledger was locked for %s", err, c.held)
			}
			w.front.intercept(nil)
			w.mustRun()
			w.converged()
			w.sameAsFresh()
		})
	}
}

// F53: a page of the ledger's file is garbage. The program refuses to start, or the run ends, or the page was of no use; nothing is ever sent for
// what could not be read.
func TestF53DamagedLedgerSendsNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	w := newWorld(t)
	w.fill(120)
	good := filepath.Join(dir, "good.db")
	closeLedger := w.useLedger("sqlite:" + good)
	w.mustRun()
	closeLedger() // the last one to close moves the log into the file
	text, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	const page = 4096
	master, err := keys.ParseMaster("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")
	if err != nil {
		t.Fatal(err)
	}
	refused := 0
	rng := rand.New(rand.NewPCG(1, 2))
	for i := 0; i < len(text)/page; i += 1 + i/3 { // all of the first pages, then fewer and fewer
		damaged := slices.Clone(text)
		for j := range page {
			damaged[i*page+j] = byte(rng.Uint32())
		}
		path := filepath.Join(dir, fmt.Sprintf("page%d.db", i))
		if err := os.WriteFile(path, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		w.front.take()
		db, err := syncdb.Open(t.Context(), syncdb.Config{DSN: "sqlite:" + path, Master: master, Grace: time.Millisecond})
		if err == nil {
			w.ledger = db
			if w.conn, w.ring, err = db.Connection(t.Context(), "default", "tiny"); err == nil {
				_, _, err = w.run()
			}
			_ = db.Close()
		}
		if err != nil {
			refused++
		}
		if calls := w.front.take(); len(calls) > 0 {
			t.Errorf("page %d of %d damaged: calls %v, error %v", i, len(text)/page, calls, err)
		}
	}
	if refused == 0 {
		t.Error("no damage was noticed")
	}
}

// F59, F51: several connections share one PostgreSQL ledger and run at once: each target gets its own records, once.
func TestF59ConnectionsSideBySideInOneLedger(t *testing.T) {
	t.Parallel()
	dsn := dbtest.Postgres(t)
	const districts = 4
	worlds := make([]*world, districts)
	for i := range worlds {
		w := newWorld(t)
		w.fill(30 + i)
		defer w.useLedger(dsn)()
		db, ok := w.ledger.(*syncdb.DB)
		if !ok {
			t.Fatal("not a real ledger")
		}
		var err error
		if w.conn, w.ring, err = db.Connection(t.Context(), "default", fmt.Sprintf("district %d", i)); err != nil {
			t.Fatal(err)
		}
		worlds[i] = w
	}
	engines := map[int]*sync.Engine{}
	for i, w := range worlds {
		e, closeAll := w.engine()
		defer closeAll()
		engines[i] = e
	}
	var wg gosync.WaitGroup
	errs := make([]error, districts)
	for _, i := range slices.Sorted(maps.Keys(engines)) {
		wg.Go(func() { _, errs[i] = engines[i].Run(t.Context()) })
	}
	wg.Wait()
	for i, w := range worlds {
		if errs[i] != nil {
			t.Errorf("district %d: %v", i, errs[i])
		}
		if n := tally(w.front.take()); n["POST ed-fi/students"] != 30+i {
			t.Errorf("district %d: got %d student creates, want %d", i, n["POST ed-fi/students"], 30+i)
		}
		w.converged()
		w.sameAsFresh()
	}
}
