package sync_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edfisync/edfisync/edfi"
	"github.com/edfisync/edfisync/sandbox"
	"github.com/edfisync/edfisync/sync"
	"github.com/edfisync/edfisync/syncdb"
)

// A row whose natural key changes gives two calls where no PUT changes it: the delete of its old record and the create of its new one. They are undone,
// left, kept back and ended as one, so that the row always has one record (I1, I5).

// newAgencies is a world in which demographics can move to another agency, which is a delete and a create.
func newAgencies(t *testing.T) *world {
	t.Helper()
	w := newWorldWithHistory(t, 5)
	w.exec(`insert into agency values (2, 'Other', null), (3, 'Third', null)`)
	w.mustRun()
	return w
}

// demographic lists what the target has of a student's demographics: agency and login.
func (w *world) demographic(student string) []string {
	w.t.Helper()
	out := []string{}
	w.other(func(ctx context.Context, c *edfi.Client) {
		err := c.Each(ctx, demographics, edfi.PageOptions{}, func(item json.RawMessage) error {
			var d struct {
				StudentReference               struct{ StudentUniqueID string }
				EducationOrganizationReference struct{ EducationOrganizationID int }
				LoginID                        string
			}
			if err := json.Unmarshal(item, &d); err != nil {
				return err
			}
			if d.StudentReference.StudentUniqueID == student {
				out = append(out, fmt.Sprintf("%d %s", d.EducationOrganizationReference.EducationOrganizationID, d.LoginID))
			}
			return nil
		})
		if err != nil {
			w.t.Fatal(err)
		}
	})
	slices.Sort(out)
	return out
}

// refusing lets the target refuse calls of a method on a resource while do runs.
func (w *world) refusing(method, resource string, do func()) {
	w.t.Helper()
	w.front.intercept(func(rw http.ResponseWriter, r *http.Request) bool {
		if r.Method != method || !strings.Contains(r.URL.Path, resource) {
			return false
		}
		rw.WriteHeader(http.StatusConflict)
		return true
	})
	do()
	w.front.intercept(nil)
}

func leftBy(u *sync.Undo) map[sync.LeftOut]int64 {
	got := map[sync.LeftOut]int64{}
	for _, r := range u.Resources {
		for why, n := range r.Left {
			got[why] += n
		}
	}
	return got
}

func TestUndoLeavesBothHalvesOfAKeyChangeOrNone(t *testing.T) {
	t.Parallel()
	move := func(w *world, agency int) int64 {
		w.exec(`update demographic set agency = ? where id = 1`, agency)
		s, _ := w.mustRun()
		return s.RunID
	}
	tests := []struct {
		name string
		do   func(w *world) int64 // returns the run to undo
		left map[sync.LeftOut]int64
		have string // the target's record of the row, before the undo and after it
	}{
		{"what the old record was is not kept", func(w *world) int64 {
			w.options.History = 0
			w.mustRun()
			w.options.History = time.Hour
			return move(w, 2)
		}, map[sync.LeftOut]int64{sync.LeftNoPrevious: 1, sync.LeftHalf: 1}, "2 login1"},
		{"the new record was written again since", func(w *world) int64 {
			run := move(w, 2)
			w.exec(`update demographic set login = 'other' where id = 1`)
			w.mustRun()
			return run
		}, map[sync.LeftOut]int64{sync.LeftChanged: 1, sync.LeftHalf: 1}, "2 other"},
		{"the row moved on since", func(w *world) int64 {
			run := move(w, 2)
			move(w, 3)
			return run
		}, map[sync.LeftOut]int64{sync.LeftChanged: 1, sync.LeftHalf: 1}, "3 login1"},
		{"the new record was made again, for another client had deleted it", func(w *world) int64 {
			run := move(w, 2)
			w.other(func(ctx context.Context, c *edfi.Client) {
				for _, e := range w.entries(demographics) {
					if _, err := c.Delete(ctx, demographics, e.EdfiID); err != nil {
						w.t.Fatal(err)
					}
				}
			})
			w.resync()
			return run
		}, map[sync.LeftOut]int64{sync.LeftChanged: 1, sync.LeftHalf: 1}, "2 login1"},
		{"only the create is of that run", func(w *world) int64 {
			var run int64
			w.refusing(http.MethodDelete, demographics, func() { run = move(w, 2) })
			w.mustRun()
			return run
		}, map[sync.LeftOut]int64{sync.LeftHalf: 1}, "2 login1"},
		{"only the delete is of that run", func(w *world) int64 {
			w.refusing(http.MethodDelete, demographics, func() { move(w, 2) })
			s, _ := w.mustRun()
			return s.RunID
		}, map[sync.LeftOut]int64{sync.LeftHalf: 1}, "2 login1"},
		{"it was undone, and that was undone", func(w *world) int64 {
			run := move(w, 2)
			u, _ := w.undo(sync.UndoOptions{Run: run, Who: "ada"})
			w.undo(sync.UndoOptions{Run: u.By, Who: "ada"})
			return run
		}, map[sync.LeftOut]int64{sync.LeftChanged: 1, sync.LeftHalf: 1}, "2 login1"},
		{"the call on the old record had no answer", func(w *world) int64 {
			w.front.intercept(func(rw http.ResponseWriter, r *http.Request) bool {
				if r.Method == http.MethodDelete {
					panic(http.ErrAbortHandler)
				}
				return false
			})
			run := move(w, 2)
			w.front.intercept(nil)
			return run
		}, map[sync.LeftOut]int64{sync.LeftUnsettled: 1, sync.LeftHalf: 1}, ""},
		{"nothing of the resource is deleted any more", func(w *world) int64 {
			run := move(w, 2)
			w.options.Safeguards.PreventDelete = []string{demographics}
			return run
		}, map[sync.LeftOut]int64{sync.LeftPrevented: 1, sync.LeftHalf: 1}, "2 login1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newAgencies(t)
			run := tt.do(w)
			u, calls := w.undo(sync.UndoOptions{Run: run, Who: "ada", Why: "wrong"})
			if diff := cmp.Diff(leftBy(u), tt.left); diff != "" || len(calls) > 0 {
				t.Errorf("got calls %v, left (-got +want):\n%s", calls, diff)
			}
			if diff := cmp.Diff(w.demographic("S0001"), []string{tt.have}); tt.have != "" && diff != "" {
				t.Errorf("records of the row after the undo (-got +want):\n%s", diff)
			}
			w.mustRun()
			w.converged()
		})
	}
}

// What the undo of one half could not do, the other half is not done for either, and no row is left without a record or with two.
func TestAnUndoOfWhichOneHalfFailsIsTakenBack(t *testing.T) {
	t.Parallel()
	for _, method := range []string{http.MethodPost, http.MethodDelete} {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			w := newAgencies(t)
			w.exec(`update demographic set agency = 2 where id = 1`)
			s, _ := w.mustRun()
			w.refusing(method, demographics, func() { w.undo(sync.UndoOptions{Run: s.RunID, Who: "ada"}) })
			if !slices.Contains(w.demographic("S0001"), "2 login1") {
				t.Errorf("got %v, want the row's record there until the old one is", w.demographic("S0001"))
			}
			w.mustRun()
			w.mustRun()
			if diff := cmp.Diff(w.demographic("S0001"), []string{"2 login1"}); diff != "" {
				t.Errorf("two runs later (-got +want):\n%s", diff)
			}
			w.converged()
		})
	}
}

// rowChange is what becomes of the first of three rows whose key changes are kept back.
type rowChange struct {
	name  string
	do    func(w *world)
	have  []string // what the target then has of the row
	ended bool     // the decision about the row
}

var rowChanges = []rowChange{
	{"nothing", func(*world) {}, []string{"1 login1"}, false},
	{"its natural key, again", func(w *world) { w.exec(`update demographic set agency = 3 where id = 1`) }, []string{"3 login1"}, true},
	{"its content", func(w *world) { w.exec(`update demographic set login = 'other' where id = 1`) }, []string{"2 other"}, true},
	{"both", func(w *world) { w.exec(`update demographic set agency = 3, login = 'other' where id = 1`) }, []string{"3 other"}, true},
	{"it is what it was", func(w *world) { w.exec(`update demographic set agency = 1 where id = 1`) }, []string{"1 login1"}, true},
	{"it goes", func(w *world) { w.exec(`delete from demographic where id = 1`) }, []string{}, true},
	{"it goes and comes back", func(w *world) {
		w.exec(`delete from demographic where id = 1`)
		w.mustRun()
		w.exec(`insert into demographic values (1, 1, 2, 'login1')`)
	}, []string{"2 login1"}, true},
	{"it comes back under another source key", func(w *world) {
		w.exec(`delete from demographic where id = 1`)
		w.mustRun()
		w.exec(`insert into demographic values (77, 1, 2, 'login1')`)
	}, []string{"2 login1"}, true},
	{"its source key only", func(w *world) { w.exec(`update demographic set id = 77 where id = 1`) }, []string{"1 login1"}, false},
	{"it breaks rules for a while", func(w *world) {
		w.exec(`update demographic set login = replace(hex(zeroblob(200)), '0', 'x') where id = 1`)
		w.mustRun()
		w.exec(`update demographic set login = 'login1' where id = 1`)
	}, []string{"1 login1"}, false},
}

func TestADecisionAboutAKeyChangeEndsWhenTheRowAsksForSomethingElse(t *testing.T) {
	t.Parallel()
	decided := map[string]func(w *world){
		"undone": func(w *world) {
			w.exec(`update demographic set agency = 2 where id < 4`)
			s, _ := w.mustRun()
			w.undo(sync.UndoOptions{Run: s.RunID, Who: "ada"})
		},
		"discarded": func(w *world) {
			w.options.Safeguards.Resources = map[string]sync.ResourceSafeguards{demographics: {Deletes: sync.Limit{Percent: 1, Count: 1}}}
			w.exec(`update demographic set agency = 2 where id < 4`)
			w.mustRun()
			w.decide(syncdb.PlanDiscarded)
			w.options.Safeguards = lenient()
		},
		"undone twice": func(w *world) {
			w.exec(`update demographic set agency = 2 where id < 4`)
			s, _ := w.mustRun()
			u, _ := w.undo(sync.UndoOptions{Run: s.RunID, Who: "ada"})
			again, _ := w.undo(sync.UndoOptions{Run: u.By, Who: "ada"})
			w.undo(sync.UndoOptions{Run: again.By, Who: "ada"})
		},
	}
	for said, decide := range decided {
		for _, tt := range rowChanges {
			t.Run(said+", "+tt.name, func(t *testing.T) {
				t.Parallel()
				w := newAgencies(t)
				decide(w)
				for range 2 {
					if s, calls := w.mustRun(); len(calls) > 0 || s.Totals.Kept != 6 || s.Totals.Decided != 6 || len(s.Decided) != 1 || s.Decided[0].Ops != 6 {
						t.Fatalf("before the change: calls %v, totals %+v, not made %+v, want both calls of three rows kept back", calls, s.Totals, s.Decided)
					}
				}
				e, closeAll := w.engine()
				p, err := e.Plan(t.Context(), 0)
				closeAll()
				if err != nil || p.Totals.Held != 6 || p.Totals.Calls != 0 {
					t.Errorf("got plan %+v, %v, want six calls held", p.Totals, err)
				}
				w.afterChange(tt)
			})
		}
	}
}

// afterChange makes the change, and checks that both calls of the other rows are kept back still, and those of this one while the decision has not ended.
func (w *world) afterChange(c rowChange) {
	w.t.Helper()
	c.do(w)
	s, _ := w.mustRun()
	if diff := cmp.Diff(w.demographic("S0001"), c.have); diff != "" {
		w.t.Errorf("records of the row (-got +want):\n%s", diff)
	}
	want := int64(6)
	if c.ended {
		want = 4
	}
	if s.Totals.Decided != want {
		w.t.Errorf("got totals %+v, want %d calls kept back", s.Totals, want)
	}
	if diff := cmp.Diff(w.demographic("S0002"), []string{"1 login2"}); diff != "" {
		w.t.Errorf("records of another row (-got +want):\n%s", diff)
	}
	w.converged()
}

// The row of which two records are there, because something went wrong once, changes its key again.
func TestARowWithTwoOldRecordsKeepsOneUntilItsNewOneIsThere(t *testing.T) {
	t.Parallel()
	w := newAgencies(t)
	w.exec(`update demographic set agency = 2 where id = 1`)
	w.refusing(http.MethodDelete, demographics, func() { w.mustRun() })
	w.exec(`update demographic set agency = 3 where id = 1`)
	w.refusing(http.MethodPost, demographics, func() { w.mustRun() })
	if diff := cmp.Diff(w.demographic("S0001"), []string{"1 login1", "2 login1"}); diff != "" {
		t.Errorf("while the new record is refused (-got +want):\n%s", diff)
	}
	w.mustRun()
	if diff := cmp.Diff(w.demographic("S0001"), []string{"3 login1"}); diff != "" {
		t.Errorf("once it is there (-got +want):\n%s", diff)
	}
	w.converged()
}

// What refers to a record that is left as it is cannot be brought back, and what is referred to cannot go: both are left, with the reason.
func TestUndoLeavesWhatHangsOnWhatIsLeft(t *testing.T) {
	t.Parallel()
	t.Run("records that named a class period by its old name", func(t *testing.T) {
		t.Parallel()
		w := newCourses(t, 1)
		w.options.History = time.Hour
		query := w.pack["sections.sql"]
		query.Data = []byte(strings.NewReplacer(
			`x.name as "sectionIdentifier"`, `x.name as "sectionIdentifier", json_array(json_object('classPeriodReference', json_object('classPeriodName', p.name, 'schoolId', p.school))) as "classPeriods"`,
			`from section x`, `from section x join period p on p.id = x.period`).Replace(string(query.Data)))
		w.mustRun()
		w.exec(`update period set name = 'P1 new' where id = 1`)
		s, _ := w.mustRun()
		u, calls := w.undo(sync.UndoOptions{Run: s.RunID, Who: "ada"})
		if diff := cmp.Diff(leftBy(u), map[sync.LeftOut]int64{sync.LeftParent: 1, sync.LeftDependent: 1}); diff != "" || len(calls) > 0 {
			t.Errorf("got calls %v, left (-got +want):\n%s", calls, diff)
		}
	})
	t.Run("a parent of what a later run made", func(t *testing.T) {
		t.Parallel()
		w := newAgencies(t)
		w.exec(`insert into school values (12, 'West', 1)`)
		s, _ := w.mustRun()
		w.exec(`insert into period values (9, 'P9', 12)`)
		w.mustRun()
		u, calls := w.undo(sync.UndoOptions{Run: s.RunID, Who: "ada"})
		if diff := cmp.Diff(leftBy(u), map[sync.LeftOut]int64{sync.LeftDependent: 1}); diff != "" || len(calls) > 0 {
			t.Errorf("got calls %v, left (-got +want):\n%s", calls, diff)
		}
		w.converged()
	})
	t.Run("all of a person, when one record of the new number was written since", func(t *testing.T) {
		t.Parallel()
		w := newWorldOn(t, sandbox.ODS53, "4.0") // where a student gets another number by delete and create
		w.options.History, w.options.Safeguards = time.Hour, lenient()
		w.fill(5)
		w.mustRun()
		w.exec(`update student set uid = 'X0001' where id = 1`)
		s, _ := w.mustRun()
		w.exec(`update demographic set login = 'other' where id = 1`)
		w.mustRun()
		u, calls := w.undo(sync.UndoOptions{Run: s.RunID, Who: "ada"})
		if len(calls) > 0 {
			t.Errorf("got calls %v, left %v, want all of the student left", calls, leftBy(u))
		}
		if diff := cmp.Diff(leftBy(u), map[sync.LeftOut]int64{sync.LeftChanged: 1, sync.LeftHalf: 3, sync.LeftDependent: 2}); diff != "" {
			t.Errorf("left (-got +want):\n%s", diff)
		}
		w.converged()
	})
}
