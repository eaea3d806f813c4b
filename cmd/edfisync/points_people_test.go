package main

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"github.com/edfisync/edfisync/internal/failpoint"
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
}

func words(args ...string) func(*pointWorld) []string {
	return func(*pointWorld) []string { return args }
}

// stories are what people do. The invalid student of the tiny SIS is a problem in each run.
func stories() []story {
	run := []exitCode{exitOK, exitProblems}
	return []story{
		{"deletes that are held and approved", func(w *pointWorld) { w.guard(1); w.edit(deletes) }, []act{
			{"the run that holds", words("run", "--json"), append(run, exitHeld)},
			{"the approval", (*pointWorld).approval, append(run, exitUsage)}, // usage: it was approved when the process died
			{"the run that deletes", words("run", "--json"), run},
		}},
		{"a plan that is applied", func(w *pointWorld) { w.edit(puts) }, []act{
			{"the plan", words("plan", "--out", "p.plan"), run},
			// usage: the calls of the run that died are made, so the plan is stale, or it is applied already; the next run makes what is left
			{"apply", words("apply", "p.plan"), append(run, exitUsage)},
			{"the run after it", words("run", "--json"), run},
		}},
		{"a lost ledger and adoption", (*pointWorld).loseLedger, []act{
			{"adopt", words("adopt"), run},
			{"the run after it", words("run", "--json"), run},
		}},
	}
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
		}
		args := a.args(w)
		e := w.command("", 0, args...)
		if !slices.Contains(a.codes, e.code) {
			w.t.Errorf("%s: %s %v ended with code %d\n%s", what, a.name, args, e.code, e.output)
		}
		reached = append(reached, e)
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
	program := failpointProgram(t)
	all := wanted(t, "EDFISYNC_TEST_KILLS", 30) > 1000
	reached := map[failpoint.Point]bool{}
	for _, s := range stories() {
		w := newPointWorld(t, program)
		acts := w.tell(s, -1, "", "")
		kills := 0
		for i, act := range acts {
			counts := act.counts()
			for _, p := range failpoint.All() {
				n := counts[string(p)]
				if n == 0 || !slices.Contains(onlyPeople, p) {
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
	for _, p := range onlyPeople {
		if !reached[p] {
			t.Errorf("no story reaches %s", p)
		}
	}
}
