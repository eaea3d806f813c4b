package sync_test

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/edfisync/edfisync/edfi"
	"github.com/edfisync/edfisync/sync"
	"github.com/edfisync/edfisync/syncdb"
)

// What was said of a delete is about the record: it stays said when the record gets another natural key, or other content.

const sections = "ed-fi/sections"

// newTerms is a world of three sections, two of them without a row, whose deletes a safeguard held. From then on only that keeps them.
func newTerms(t *testing.T) *world {
	t.Helper()
	w := newCourses(t, 1)
	w.options.History = time.Hour
	w.exec(`delete from grade`)
	w.exec(`delete from seat`)
	w.mustRun()
	w.options.Safeguards = lenient()
	w.options.Safeguards.Resources = map[string]sync.ResourceSafeguards{
		sections: {Deletes: sync.Limit{Percent: 1, Count: 1}, ShortSource: sync.Limit{Percent: 100, Count: 100}},
	}
	w.exec(`delete from section`)
	w.exec(`insert into section values (7, 1, 'A7', 1)`)
	w.mustRun()
	if h := w.oneHold(syncdb.PlanOpen); h.Ops != 2 || w.count(sections) != 3 {
		t.Fatalf("got %+v, want two deletes held", h)
	}
	w.options.Safeguards = lenient()
	return w
}

func TestWhatWasSaidOfADeleteFollowsTheRecord(t *testing.T) {
	t.Parallel()
	decided := map[string]func(w *world){
		"discarded":    func(w *world) { w.decide(syncdb.PlanDiscarded) },
		"held":         func(*world) {},
		"held by then": func(w *world) { w.mustRun() },
	}
	changes := map[string]func(w *world){
		"its parent is renamed": func(w *world) { w.exec(`update session set name = 'Autumn' where id = 1`) },
		"its parent is renamed twice": func(w *world) {
			w.exec(`update session set name = 'Autumn' where id = 1`)
			w.mustRun()
			w.exec(`update session set name = 'Herbst' where id = 1`)
		},
	}
	for said, decide := range decided {
		for name, change := range changes {
			t.Run(said+", "+name, func(t *testing.T) {
				t.Parallel()
				w := newTerms(t)
				decide(w)
				change(w)
				for run := range 3 {
					if _, calls := w.mustRun(); slices.Contains(calls, "DELETE "+sections) {
						t.Fatalf("run %d after it: calls %v, want no record deleted that nobody let go", run+1, tally(calls))
					}
				}
				if n := w.count(sections); n != 3 {
					t.Errorf("%d of 3 sections left", n)
				}
				w.converged()
			})
		}
	}
}

// What another client makes of the record is told by a resync, and by the id it is still the same record.
func TestWhatWasSaidOfADeleteStaysSaidThoughAnotherClientWroteTheRecord(t *testing.T) {
	t.Parallel()
	const demographic = `{"studentReference":{"studentUniqueId":"S0001"},"educationOrganizationReference":{"educationOrganizationId":1},"loginId":"theirs"}`
	tests := []struct {
		name, resource, property, value, table, body string
	}{
		{"its content", demographics, "loginId", "login1", "demographic", demographic},
		{"its natural key", "ed-fi/classPeriods", "classPeriodName", "P1", "period", `{"classPeriodName":"theirs","schoolReference":{"schoolId":10}}`},
	}
	for _, tt := range tests {
		for _, discard := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, discarded %t", tt.name, discard), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t)
				w.fill(20)
				for i := 3; i <= 20; i++ {
					w.exec(`insert into period values (?, ?, 10)`, i, fmt.Sprintf("P%d", i))
				}
				w.mustRun()
				w.options.Safeguards.Resources = map[string]sync.ResourceSafeguards{tt.resource: {Deletes: sync.Limit{Percent: 1, Count: 1}}}
				w.exec(`delete from ` + tt.table + ` where id < 4`)
				w.mustRun()
				if discard {
					w.decide(syncdb.PlanDiscarded)
				}
				w.options.Safeguards = lenient()
				id := w.idsBy(tt.resource, tt.property)[tt.value]
				w.other(func(ctx context.Context, c *edfi.Client) {
					if _, err := c.Put(ctx, tt.resource, id, []byte(tt.body)); err != nil {
						t.Fatal(err)
					}
				})
				if _, calls := w.resync(); len(calls) > 0 {
					t.Errorf("nobody let the records go: calls %v", calls)
				}
				w.converged()
				if n := w.count(tt.resource); n != 20 {
					t.Errorf("%d of 20 records left", n)
				}
			})
		}
	}
}

// A no is about one record: another one that gets its natural key later is judged for itself.
func TestARecordThatGetsTheKeyOfADiscardedOneIsJudgedForItself(t *testing.T) {
	t.Parallel()
	w := newTerms(t)
	w.decide(syncdb.PlanDiscarded)
	w.exec(`update session set name = 'Autumn' where id = 1`)
	w.mustRun()
	w.mustRun()
	w.exec(`insert into session values (3, 10, 'Fall')`)
	w.exec(`insert into offering values (3, 1, 3, 'ALG-1')`)
	w.exec(`insert into section values (8, 3, 'A1', 1)`)
	w.mustRun()
	if n := w.count(sections); n != 4 {
		t.Fatalf("%d sections, want the two that were discarded and two with rows", n)
	}
	w.exec(`delete from section where id = 8`)
	if _, calls := w.mustRun(); tally(calls)["DELETE "+sections] != 1 {
		t.Errorf("got calls %v, want the new section deleted", calls)
	}
	if n := w.count(sections); n != 3 {
		t.Errorf("%d of 3 sections left", n)
	}
}

// What somebody wanted kept and another client deleted is forgotten, without a call, and its parent need not stay for it.
func TestWhatWasDiscardedAndIsGoneKeepsNothing(t *testing.T) {
	t.Parallel()
	w := newTerms(t)
	w.exec(`delete from section`)
	w.mustRun()
	h := w.decide(syncdb.PlanDiscarded)
	w.mustRun()
	ids := w.idsBy(sections, "sectionIdentifier")
	w.other(func(ctx context.Context, c *edfi.Client) {
		for _, id := range ids {
			if _, err := c.Delete(ctx, sections, id); err != nil {
				t.Fatal(err)
			}
		}
	})
	if _, calls := w.resync(); len(calls) > 0 {
		t.Errorf("calls %v for records that are gone", calls)
	}
	w.converged()
	if entries := w.entries(sections); len(entries) != 0 {
		t.Errorf("the ledger has %d sections, the target none", len(entries))
	}
	if p, err := w.ledger.PlanByID(t.Context(), w.conn.ID, h.ID); err != nil || p.State != syncdb.PlanReleased {
		t.Errorf("got %+v, %v, want the decision over", p, err)
	}
	w.exec(`delete from offering where id = 1`)
	if _, calls := w.mustRun(); tally(calls)["DELETE ed-fi/courseOfferings"] != 1 {
		t.Errorf("got calls %v, want the offering deleted", calls)
	}
}

// What an undo created again keeps its natural key by its parent only, and no row.
func TestAnUndoneDeleteFollowsTheRecord(t *testing.T) {
	t.Parallel()
	w := newTerms(t)
	w.decide(syncdb.PlanApproved)
	s, calls := w.mustRun()
	if tally(calls)["DELETE "+sections] != 2 {
		t.Fatalf("calls %v, want two deletes", calls)
	}
	w.undo(sync.UndoOptions{Run: s.RunID, Who: "ada", Why: "wrong file"})
	w.exec(`update session set name = 'Autumn' where id = 1`)
	for run := range 3 {
		if _, calls := w.mustRun(); slices.Contains(calls, "DELETE "+sections) {
			t.Fatalf("run %d after the undo: calls %v", run+1, calls)
		}
	}
	if n := w.count(sections); n != 3 {
		t.Errorf("%d of 3 sections left", n)
	}
}

// Of two decisions about one call the later one counts, whichever hold is older.
func TestTheLatestDecisionCounts(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		first, then syncdb.PlanState // of the newer hold, of the older one
		deletes     int
	}{
		"discarded, and approved later": {syncdb.PlanDiscarded, syncdb.PlanApproved, 3},
		"approved, and discarded later": {syncdb.PlanApproved, syncdb.PlanDiscarded, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.fill(20)
			w.mustRun()
			w.options.Safeguards.Resources = map[string]sync.ResourceSafeguards{demographics: {Deletes: sync.Limit{Percent: 1, Count: 1}}}
			w.exec(`delete from demographic where id < 4`)
			w.mustRun()
			older := w.oneHold(syncdb.PlanOpen)
			newer := older
			newer.State, newer.DecidedBy, newer.Why = tt.first, "bob", "the test says so"
			newer, err := w.ledger.SavePlan(t.Context(), w.conn.ID, newer, func(yield func(syncdb.PlanOp, error) bool) {
				if err := w.ledger.PlanOps(t.Context(), w.conn.ID, older.ID, func(o syncdb.PlanOp) error {
					yield(o, nil)
					return nil
				}); err != nil {
					t.Error(err)
				}
			})
			if err != nil || newer.Ops != 3 || newer.ID <= older.ID {
				t.Fatalf("got %+v, %v", newer, err)
			}
			for !time.Now().Truncate(time.Millisecond).After(newer.DecidedAt) { // a ledger's clock ticks in milliseconds
				runtime.Gosched()
			}
			if h := w.decide(tt.then); !h.DecidedAt.After(newer.DecidedAt) {
				t.Fatalf("decided at %v, want that after %v", h.DecidedAt, newer.DecidedAt)
			}
			if _, calls := w.mustRun(); len(calls) != tt.deletes {
				t.Errorf("got calls %v, want %d deletes", calls, tt.deletes)
			}
		})
	}
}
