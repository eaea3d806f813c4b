package sync_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/edfisync/edfisync/sync"
)

// loseWrites loses the answers of all writes from now on: the target makes them, or they never arrive.
func (w *world) loseWrites(arrive bool) {
	w.front.intercept(func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodGet || !strings.Contains(r.URL.Path, "/ed-fi/") {
			return false
		}
		if arrive {
			w.front.next.ServeHTTP(httptest.NewRecorder(), r)
		}
		panic(http.ErrAbortHandler)
	})
}

// An undo whose answers were lost is found as it is by the next run: what came about is not made again, and what did not is as the run left it. Of a
// natural-key change by two calls only the first is made, for nobody knows that the old record is back, and the next run takes it back.
func TestUndoWhoseAnswersWereLostIsNotUndone(t *testing.T) {
	t.Parallel()
	const twoCalls = "a natural key changed by delete and create"
	for name, edit := range map[string]string{
		"an update":                    `update demographic set login = 'wrong' where id = 1`,
		"a create":                     `insert into period values (3, 'P3', 11)`,
		"a delete":                     `delete from demographic where id = 1`,
		"a natural key changed by PUT": `update period set name = 'wrong' where id = 1`,
		"natural keys of enrolments":   `update enrolment set entry = '2025-09-0' || id where id < 3`,
		twoCalls:                       `update demographic set agency = 2 where id = 1`,
	} {
		for _, arrive := range []bool{true, false} {
			for _, unread := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s, arrived %t, unread at first %t", name, arrive, unread), func(t *testing.T) {
					t.Parallel()
					w := newWorldWithHistory(t, 5)
					w.exec(`insert into agency values (2, 'Other', null)`)
					w.mustRun()
					want := w.everything()
					w.exec(edit)
					s, _ := w.mustRun()
					if !arrive || name == twoCalls {
						want = w.everything()
					}
					w.loseWrites(arrive)
					u, calls := w.undo(sync.UndoOptions{Run: s.RunID, Who: "ada", Why: "wrong"})
					if u.Summary.Failed == 0 || len(calls) == 0 {
						t.Fatalf("got %+v, calls %v, want calls without answers", u.Summary, calls)
					}
					w.front.intercept(nil)
					if unread {
						w.loseReads("studentEducationOrganizationAssociations", "classPeriods", "studentSchoolAssociations")
						if _, calls := w.mustRun(); len(calls) > 0 {
							t.Errorf("while nobody could tell what the records are: calls %v", calls)
						}
						w.front.intercept(nil)
					}
					_, calls = w.mustRun()
					if diff := cmp.Diff(w.everything(), want); diff != "" {
						t.Errorf("calls %v; the target (-got +want):\n%s", calls, diff)
					}
					w.converged()
					if v, _ := w.verify(sync.VerifyOptions{}); v.Wrong() != 0 {
						t.Errorf("got %+v, want a ledger that says what the target holds (I2)", v)
					}
				})
			}
		}
	}
}

// The plan after an undo without answers shows what the run after it does, and sync-one makes nothing of the record either.
func TestNothingIsPlannedOrSentForARecordWhoseUndoHadNoAnswer(t *testing.T) {
	t.Parallel()
	w := newWorldWithHistory(t, 3)
	w.exec(`update demographic set login = 'wrong' where id = 1`)
	s, _ := w.mustRun()
	w.loseWrites(true)
	w.undo(sync.UndoOptions{Run: s.RunID, Who: "ada"})
	w.front.intercept(nil)
	e, closeAll := w.engine()
	defer closeAll()
	plan, err := e.Plan(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	if len(plan.Decided) != 1 || plan.Decided[0].Undone != s.RunID || plan.Writes() != 0 {
		t.Errorf("the plan has %d writes and keeps back %+v, want one call of the undone run", plan.Writes(), plan.Decided)
	}
	one, err := e.SendOne(t.Context(), sync.RecordName{Resource: demographics, SourceKey: "1"})
	if err != nil {
		t.Fatal(err)
	}
	if one.Decided == nil || one.Decided.Undone != s.RunID {
		t.Errorf("got %+v, want the call kept back because the run was undone", one)
	}
	if calls := w.front.take(); len(calls) > 0 {
		t.Errorf("calls %v were made", calls)
	}
}

// Somebody who sees that an undo had no answers does it again: what arrived of the first one is found, and the rest is made now.
func TestAnUndoWithoutAnswersCanBeDoneAgain(t *testing.T) {
	t.Parallel()
	w := newWorldWithHistory(t, 3)
	before := w.everything()
	w.exec(`update demographic set login = 'wrong'`)
	w.exec(`delete from period where id = 1`)
	s, _ := w.mustRun()
	calls := 0
	w.front.intercept(func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodGet || !strings.Contains(r.URL.Path, "/ed-fi/") {
			return false
		}
		w.front.mu.Lock()
		calls++
		arrives := calls%2 == 0
		w.front.mu.Unlock()
		if arrives {
			w.front.next.ServeHTTP(httptest.NewRecorder(), r)
		}
		panic(http.ErrAbortHandler)
	})
	w.undo(sync.UndoOptions{Run: s.RunID, Who: "ada", Why: "wrong"})
	w.front.intercept(nil)
	w.undo(sync.UndoOptions{Run: s.RunID, Who: "ada", Why: "wrong"})
	if diff := cmp.Diff(w.everything(), before); diff != "" {
		t.Errorf("the target after the second undo (-got +before):\n%s", diff)
	}
	w.converged()
	if diff := cmp.Diff(w.everything(), before); diff != "" {
		t.Errorf("the target after the run (-got +before):\n%s", diff)
	}
}

// loseReads answers reads of resources with 500.
func (w *world) loseReads(resources ...string) {
	w.front.intercept(func(rw http.ResponseWriter, r *http.Request) bool {
		for _, resource := range resources {
			if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/"+resource) {
				rw.WriteHeader(http.StatusInternalServerError)
				return true
			}
		}
		return false
	})
}
