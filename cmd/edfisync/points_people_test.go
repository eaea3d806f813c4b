package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/edfisync/edfisync/cmd/edfisync/internal/config"
	"github.com/edfisync/edfisync/internal/failpoint"
	"github.com/edfisync/edfisync/internal/keys"
	"github.com/edfisync/edfisync/syncdb"
)

// onlyPeople are points no run reaches by itself: somebody saves a plan, decides, or adopts.
var onlyPeople = []failpoint.Point{
	failpoint.HoldBefore, failpoint.HoldAfter, failpoint.PlanBefore, failpoint.PlanAfter, failpoint.DecideBefore, failpoint.DecideAfter,
	failpoint.CloseBefore, failpoint.CloseAfter, failpoint.AuditBefore, failpoint.AuditAfter, failpoint.EntriesBefore, failpoint.EntriesAfter,
}

// act is one command of a story.
type act struct {
	name  string
	args  func(w *pointWorld) []string
	codes []exitCode // it may end with
}

// story is what people do with the program, command after command; each command of it may be killed, and is given again then.
type story struct {
	name    string
	prepare func(w *pointWorld)
	acts    []act
	points  []failpoint.Point                // where it is killed besides; nil = where people act
	died    func(w *pointWorld, what string) // looks at what a process left that was killed; nil = nothing to look at
	done    func(w *pointWorld, what string) // looks at the end; nil = nothing to look at
}

func words(args ...string) func(*pointWorld) []string {
	return func(*pointWorld) []string { return args }
}

// stories are what people do. The invalid student of the tiny SIS is a problem in each run.
func stories() []story {
	run := []exitCode{exitOK, exitProblems}
	return []story{
		{name: "deletes that are held and approved", prepare: func(w *pointWorld) { w.guard(1); w.edit(deletes) }, acts: []act{
			{"the run that holds", words("run", "--json"), append(run, exitHeld)},
			{"the approval", (*pointWorld).approval, append(run, exitUsage)}, // usage: it was approved when the process died
			{"the run that deletes", words("run", "--json"), run},
		}},
		{name: "a plan that is applied", prepare: func(w *pointWorld) { w.edit(puts) }, acts: []act{
			{"the plan", words("plan", "--out", "p.plan"), run},
			// usage: the calls of the run that died are made, so the plan is stale, or it is applied already; the next run makes what is left
			{"apply", words("apply", "p.plan"), append(run, exitUsage)},
			{"the run after it", words("run", "--json"), run},
		}},
		{name: "a lost ledger and adoption", prepare: (*pointWorld).loseLedger, acts: []act{
			{"adopt", words("adopt"), run},
			{"the run after it", words("run", "--json"), run},
		}},
	}
}

// upkeep is what people do with a ledger as a whole.
func upkeep() []story {
	ok, run := []exitCode{exitOK}, []exitCode{exitOK, exitProblems}
	return []story{
		{
			name: "a purge", prepare: (*pointWorld).grownOld, points: []failpoint.Point{
				failpoint.RemoveBefore, failpoint.RemoveAfter, failpoint.CutBefore, failpoint.CutAfter, failpoint.ScrubBefore, failpoint.ScrubAfter, failpoint.TransactionWritten,
			}, died: (*pointWorld).sound,
			acts: []act{{"purge", words("purge"), ok}, {"the run after it", words("run", "--json"), run}},
			done: func(w *pointWorld, what string) {
				var out struct {
					Classes []struct {
						Class string
						Rows  int64
					}
				}
				if e := w.command("", 0, "purge", "--dry-run", "--json"); json.Unmarshal(e.stdout, &out) != nil || len(out.Classes) < 3 {
					w.t.Errorf("%s: %s", what, e.output)
				}
				for _, c := range out.Classes {
					if c.Rows != 0 {
						w.t.Errorf("%s: %d rows of %s are left", what, c.Rows, c.Class)
					}
				}
				if e := w.command("", 0, "audit", "--json", "--limit", "1000"); strings.Contains(e.output, "long ago") || !strings.Contains(e.output, "purge.audit") || !strings.Contains(e.output, "purge.runs") {
					w.t.Errorf("%s: the audit trail is %s", what, e.output)
				}
			},
		},
		{
			name: "a backup that is restored", prepare: func(w *pointWorld) {
				w.backups++
				if e := w.command("", 0, w.backup()...); e.code != exitOK {
					w.t.Fatalf("back up: %s", e.output)
				}
				w.edit(puts) // the ledger goes on from there
				w.finish()
			}, points: []failpoint.Point{
				failpoint.BackupBefore, failpoint.BackupCopied, failpoint.BackupWritten, failpoint.BackupAfter,
				failpoint.RestoreUnpacked, failpoint.RestoreTried, failpoint.RestoreAside, failpoint.RestorePlaced, failpoint.RestoreAfter,
			}, died: (*pointWorld).sound,
			acts: []act{
				{"another backup", func(w *pointWorld) []string { w.backups++; return w.backup() }, ok},
				{"restore", func(w *pointWorld) []string { return []string{"restore", w.first()} }, ok},
				{"adopt", words("adopt"), run},
				{"the run after it", words("run", "--json"), run},
			},
		},
	}
}

// backup is the command that writes the next backup, under a name that none before it had.
func (w *pointWorld) backup() []string { return []string{"backup", fmt.Sprintf("%d.zip", w.backups)} }

// first is the first backup since the story began. A killed command left a whole one under its name, or none.
func (w *pointWorld) first() string {
	w.t.Helper()
	for i := 1; i <= w.backups; i++ {
		name := fmt.Sprintf("%d.zip", i)
		_, err := unpackBackup(filepath.Join(w.dir, name), filepath.Join(w.t.TempDir(), "ledger"))
		if err == nil {
			return name
		}
		if !errors.Is(err, fs.ErrNotExist) {
			w.t.Errorf("%s is part of a backup: %v", name, err)
		}
	}
	w.t.Fatal("there is no backup")
	return ""
}

// sound fails unless the ledger opens and its audit trail verifies, or there is none and the program says so, which happens between two names of a restore only.
func (w *pointWorld) sound(what string) {
	w.t.Helper()
	e := w.command("", 0, "audit", "verify")
	missing := strings.Contains(what, string(failpoint.RestoreAside)) && strings.Contains(e.output, "there is no ledger") && len(w.tables()) == 0
	if e.code != exitOK && !missing {
		w.t.Errorf("%s: what is left ends with code %d\n%s", what, e.code, e.output)
	}
	if missing {
		if e := w.command("", 0, "run"); !strings.Contains(e.output, "is not there, and there was a ledger before") || len(w.tables()) != 0 {
			w.t.Errorf("%s: a run without its ledger ends with code %d, want it refused\n%s", what, e.code, e.output)
		}
	}
}

// grownOld makes a ledger whose first runs and acts are five years old.
func (w *pointWorld) grownOld() {
	w.t.Helper()
	w.fresh()
	w.ok(os.MkdirAll(filepath.Join(w.dir, "work"), 0o700))
	master, err := keys.ParseMaster(oldMaster)
	w.ok(err)
	cfg := &config.Config{WorkDir: filepath.Join(w.dir, "work")}
	w.ok(os.WriteFile(keyFile(cfg), []byte(oldMaster), 0o600))
	ctx := w.t.Context()
	ago := 5
	db, err := syncdb.Open(ctx, syncdb.Config{
		DSN: config.SQLiteLedger + filepath.Join(cfg.WorkDir, "ledger.sqlite"), Master: master, Clock: func() time.Time { return time.Now().AddDate(-ago, 0, 0) },
	})
	w.ok(err)
	conn, _, err := db.Connection(ctx, "default", "tiny")
	w.ok(err)
	for range 3 {
		run, _, err := db.RequestRun(ctx, conn.ID, "cli")
		w.ok(err)
		_, err = db.CancelRun(ctx, run.ID, syncdb.AuditRow{Who: "ada", Action: "run.cancel", Object: "long ago"})
		w.ok(err)
	}
	ago = 0
	_, mine, err := db.ClaimRetention(ctx, time.Hour) // so that the run does not purge by itself
	if w.ok(err); !mine {
		w.t.Fatal("somebody else removes what is old")
	}
	w.ok(db.Close())
	w.finish()
}

// loseLedger takes the ledger away, with its key and witness, and leaves the target as it is.
func (w *pointWorld) loseLedger() {
	w.t.Helper()
	w.ok(os.RemoveAll(filepath.Join(w.dir, "work")))
	if err := os.Remove(filepath.Join(w.dir, "edfisync.yaml.witness")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		w.t.Fatal(err)
	}
	w.sandbox.ResetStats()
}

// approval is the command that approves the newest hold, in the edition there is now.
func (w *pointWorld) approval() []string {
	w.t.Helper()
	var holds []syncdb.Plan
	if e := w.command("", 0, "holds", "--all", "--json"); json.Unmarshal(e.stdout, &holds) != nil || len(holds) == 0 {
		w.t.Fatalf("nothing is held\n%s", e.output)
	}
	return []string{"holds", "approve", refTo(holds[0]), "--why", "they have left"}
}

// tell plays a story and kills the process that carries out the act with that number at the n-th time a point is reached; -1 kills none. It
// returns the points each act reached when it was not killed.
func (w *pointWorld) tell(s story, dies int, order string, point failpoint.Point) (reached []ended) {
	w.t.Helper()
	what := s.name + ", without a kill"
	w.guard(1000)
	w.edit(posts)
	w.finish()
	s.prepare(w)
	for i, a := range s.acts {
		if i == dies {
			what = s.name + ": " + a.name + " killed at " + order
			if e := w.command(order, 0, a.args(w)...); !e.diedAt(point) {
				w.t.Errorf("%s: the kill did not take place\n%s", what, e.output)
			}
			if s.died != nil {
				s.died(w, what)
			}
		}
		args := a.args(w)
		e := w.command("", 0, args...)
		if !slices.Contains(a.codes, e.code) {
			w.t.Errorf("%s: %s %v ended with code %d\n%s", what, a.name, args, e.code, e.output)
		}
		reached = append(reached, e)
	}
	if s.done != nil {
		s.done(w, what)
	}
	w.equal(what)
	if w.guard(1000); w.finish().summary["calls"] != 0.0 {
		w.t.Errorf("%s: a run with nothing to do made calls (I1, I22)", what)
	}
	if n := w.open(); n != 0 {
		w.t.Errorf("%s: %d intents are open (I3)", what, n)
	}
	if e := w.command("", 0, "audit", "verify"); e.code != exitOK {
		w.t.Errorf("%s: the audit trail does not verify (I16)\n%s", what, e.output)
	}
	return reached
}

// T3: kill -9 while something waits for a person, is decided, planned, applied or adopted. Whoever gives the command again gets what they
// wanted: the API equals the SIS, one more run writes nothing, and the audit trail verifies.
func TestKill9InWhatPeopleDo(t *testing.T) {
	t.Parallel()
	killPeople(t, stories(), onlyPeople)
}

// T3: kill -9 in a purge, a backup and a restore. Whatever the moment, the ledger that is left opens and its audit trail verifies, or, between two names of
// a restore, the program says that there is none; and whoever gives the command again gets what they wanted.
func TestKill9InUpkeepOfTheLedger(t *testing.T) {
	t.Parallel()
	killPeople(t, upkeep(), upkeepPoints())
}

func upkeepPoints() (points []failpoint.Point) {
	for _, s := range upkeep() {
		points = append(points, s.points...)
	}
	return points
}

// killPeople tells each story without a kill, and then once for each point that each of its acts reaches. All these points must be reached by some story.
func killPeople(t *testing.T, stories []story, points []failpoint.Point) {
	t.Helper()
	program := failpointProgram(t)
	all := wanted(t, "EDFISYNC_TEST_KILLS", 30) > 1000
	reached := map[failpoint.Point]bool{}
	for _, s := range stories {
		w := newPointWorld(t, program)
		acts := w.tell(s, -1, "", "")
		kills := 0
		for i, act := range acts {
			counts := act.counts()
			for _, p := range failpoint.All() {
				n := counts[string(p)]
				if s.points == nil && !slices.Contains(points, p) || s.points != nil && !slices.Contains(s.points, p) || n == 0 {
					continue
				}
				reached[p] = true
				times := []int{1, n}
				if !all {
					times = times[:1]
				}
				for _, nth := range slices.Compact(times) {
					w.tell(s, i, string(p)+":"+strconv.Itoa(nth), p)
					kills++
				}
			}
		}
		t.Logf("%s: %d kills", s.name, kills)
	}
	for _, p := range points {
		if !reached[p] {
			t.Errorf("no story reaches %s", p)
		}
	}
}
