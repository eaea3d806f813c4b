package sync_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	gosync "sync"
	"testing"

	"github.com/edfisync/edfisync/sync"
	"github.com/edfisync/edfisync/syncdb"
)

// alarmed fails unless a run made no call and says that the target was reset.
func (w *world) alarmed() {
	w.t.Helper()
	s, calls := w.mustRun()
	if len(calls) != 0 || len(s.HeldBack) != 1 || s.HeldBack[0].Rule != sync.RuleTargetReset {
		w.t.Fatalf("got calls %v, held back %v, want no call and an alarm", calls, s.HeldBack)
	}
	if w.openIssues()["target-reset"] == 0 {
		w.t.Errorf("no issue tells of the alarm: %v", w.openIssues())
	}
	if s.Alarm == "" {
		w.t.Error("the summary does not have the alarm")
	}
	if runs, err := w.ledger.Runs(w.t.Context(), w.conn.ID, 1); err != nil || len(runs) != 1 || !strings.Contains(runs[0].Error, "nothing was written: "+s.Alarm) {
		w.t.Errorf("the ledger has %+v (%v), want a run that says why nothing was written", runs, err)
	}
	if issues, err := w.ledger.Issues(w.t.Context(), w.conn.ID, true); s.Totals.Kept == 0 && (err != nil || len(issues) != 1 || issues[0].Resource != "target") {
		w.t.Errorf("got issues %+v and error %v, want one of the target as a whole", issues, err)
	}
	if state, err := w.ledger.Target(w.t.Context(), w.conn.ID); err != nil || state.Alarm == "" || state.AlarmRun == 0 {
		w.t.Errorf("got target state %+v and error %v, want the alarm noted", state, err)
	}
}

// resynced heals with run --resync, and fails unless that converges.
func (w *world) resynced() {
	w.t.Helper()
	w.options.Resync = true
	w.mustRun()
	w.options.Resync = false
	w.converged()
	if issues := w.openIssues(); len(issues) != 0 {
		w.t.Errorf("issues are left: %v", issues)
	}
}

func TestF29WipedTargetIsNoticedAndNothingIsWritten(t *testing.T) {
	t.Parallel()
	for name, edit := range map[string]string{
		"with nothing to send":    ``,
		"with an update to send":  `update student set first = 'Ada' where id = 1`,
		"with deletes to send":    `delete from demographic where id < 5`,
		"with everything deleted": `delete from demographic`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.fill(10)
			w.mustRun()
			w.converged()
			if err := w.sandbox.Wipe(); err != nil {
				t.Fatal(err)
			}
			if edit != "" {
				w.exec(edit)
			}
			w.alarmed()
			w.alarmed() // it stands until somebody deals with it
			if len(w.holds(syncdb.PlanOpen)) != 0 {
				t.Error("an alarm cannot be approved, and yet a hold is open")
			}
			w.options.Safeguards = sync.Safeguards{ApproveDeletes: []string{demographics}}
			w.resynced()
		})
	}
}

func TestF30RestoredTargetIsNoticedByItsChangeVersion(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(40)
	w.mustRun()
	w.sandbox.Snapshot("yesterday")
	w.exec(`update student set first = 'Ada' where id = 1`) // one record of many: no look-up would tell
	w.mustRun()
	if err := w.sandbox.Restore("yesterday"); err != nil {
		t.Fatal(err)
	}
	w.alarmed()
	w.resynced()
}

// noChangeQueries makes the target one without them.
func (w *world) noChangeQueries() {
	w.front.intercept(func(rw http.ResponseWriter, r *http.Request) bool {
		if strings.Contains(strings.ToLower(r.URL.Path), "availablechangeversions") {
			http.NotFound(rw, r)
			return true
		}
		return false
	})
}

func TestF29WipedTargetWithoutChangeQueriesIsNoticedByItsRecords(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.noChangeQueries()
	w.fill(10)
	w.mustRun()
	if err := w.sandbox.Wipe(); err != nil {
		t.Fatal(err)
	}
	w.alarmed()
	w.resynced()
}

func TestF30RestoredTargetWithoutChangeQueriesIsNoticedByTheRecordsWrittenLast(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.noChangeQueries()
	w.fill(60)
	w.mustRun()
	w.sandbox.Snapshot("yesterday")
	for i := 61; i <= 66; i++ {
		w.exec(`insert into student values (?, ?, 'New', 'Surname', '2010-02-03')`, i, fmt.Sprintf("S%04d", i))
	}
	w.mustRun()
	if err := w.sandbox.Restore("yesterday"); err != nil {
		t.Fatal(err)
	}
	w.alarmed()
	w.resynced()
}

func TestRecordsThatShowLateAreNoAlarm(t *testing.T) { // F36
	t.Parallel()
	w := newWorld(t)
	w.fill(10)
	w.mustRun()
	var mu gosync.Mutex
	asked := map[string]bool{}
	w.front.intercept(func(rw http.ResponseWriter, r *http.Request) bool {
		mu.Lock()
		defer mu.Unlock()
		if r.Method != http.MethodGet || !strings.Contains(r.URL.Path, "/data/v3/ed-fi/") || asked[r.URL.Path] {
			return false
		}
		asked[r.URL.Path] = true
		notFound(rw)
		return true
	})
	w.converged()
	mu.Lock()
	defer mu.Unlock()
	if len(asked) != 10 {
		t.Errorf("%d records were looked up, want 10", len(asked))
	}
	if state, err := w.ledger.Target(t.Context(), w.conn.ID); err != nil || state.Alarm != "" || state.ChangeVersion == 0 {
		t.Errorf("got target state %+v and error %v, want no alarm and the change version noted", state, err)
	}
}

func notFound(rw http.ResponseWriter) {
	rw.Header().Set("Content-Type", "application/problem+json")
	rw.WriteHeader(http.StatusNotFound)
	fmt.Fprint(rw, `{"type":"urn:ed-fi:api:not-found","title":"Not Found","status":404,"detail":"The specified item could not be found."}`)
}

func TestF26MassNotFoundEndsTheRunBeforeAnythingIsCreatedAgain(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ method, edit string }{
		"to updates": {http.MethodPut, `update demographic set login = 'x' || login`},
		"to deletes": {http.MethodDelete, `delete from demographic where id <= 60`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.options.Safeguards = lenient()
			w.fill(100)
			w.mustRun()
			w.exec(c.edit)
			w.front.intercept(func(rw http.ResponseWriter, r *http.Request) bool {
				if r.Method == c.method {
					notFound(rw)
					return true
				}
				return false
			})
			_, calls, err := w.run()
			if !errors.Is(err, sync.ErrTargetReset) || tally(calls)["POST "+demographics] != 0 {
				t.Errorf("got error %v and calls %v, want the run ended and nothing created", err, tally(calls))
			}
			w.front.intercept(nil)
			w.alarmed()
			w.resynced()
		})
	}
}

func TestDeletesThatAnEarlierRunMadeAreNoAlarm(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.options.Safeguards = lenient()
	w.options.Workers = 32
	w.fill(100)
	w.mustRun()
	w.exec(`delete from demographic where id <= 60`)
	w.front.intercept(func(rw http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodDelete {
			return false
		}
		lost := &loseAnswer{}
		w.sandbox.Handler().ServeHTTP(lost, r) // made, and the answer lost
		panic(http.ErrAbortHandler)
	})
	if s, _, err := w.run(); err == nil && s.Totals.Errors != 60 {
		t.Fatalf("got totals %+v, want no delete answered", s.Totals)
	}
	w.front.intercept(nil)
	w.mustRun()
	w.converged()
}

// loseAnswer takes an answer and shows it to nobody.
type loseAnswer struct{ header http.Header }

func (l *loseAnswer) Header() http.Header {
	if l.header == nil {
		l.header = http.Header{}
	}
	return l.header
}

func (l *loseAnswer) Write(p []byte) (int, error) { return len(p), nil }

func (l *loseAnswer) WriteHeader(int) {}
