package sync_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edfisync/edfisync/edfi"
	"github.com/edfisync/edfisync/sync"
	"github.com/edfisync/edfisync/syncdb"
)

// newWorldWithHistory is a world that keeps what it sends.
func newWorldWithHistory(t *testing.T, students int) *world {
	t.Helper()
	w := newWorld(t)
	w.options.History = time.Hour
	w.options.Safeguards = lenient()
	w.fill(students)
	w.mustRun()
	return w
}

// undo undoes a run and returns what it came to and the calls it made.
func (w *world) undo(o sync.UndoOptions) (*sync.Undo, []string) {
	w.t.Helper()
	e, closeAll := w.engine()
	defer closeAll()
	w.front.take()
	u, err := e.Undo(w.t.Context(), o)
	if err != nil {
		w.t.Fatalf("undo: %v", err)
	}
	return u, w.front.take()
}

func TestUndoBringsBackWhatWasBeforeTheRun(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		edit  []string // of the source, before the run that is undone
		calls []string // of the undo
		left  map[sync.LeftOut]int64
	}{
		{
			"an update gets its previous content",
			[]string{`update demographic set login = 'other' where id = 1`},
			[]string{"PUT ed-fi/studentEducationOrganizationAssociations"}, nil,
		},
		{
			"a created record is deleted",
			[]string{`insert into period values (3, 'P3', 11)`},
			[]string{"DELETE ed-fi/classPeriods"}, nil,
		},
		{
			"a deleted record is created again",
			[]string{`delete from demographic where id = 2`},
			[]string{"POST ed-fi/studentEducationOrganizationAssociations"}, nil,
		},
		{
			"a natural key changed by PUT is changed back",
			[]string{`update period set name = 'P1 new' where id = 1`},
			[]string{"PUT ed-fi/classPeriods"}, nil,
		},
		{
			"an enrolment's entry date is changed back by PUT",
			[]string{`update enrolment set entry = '2025-09-01' where id = 1`},
			[]string{"PUT ed-fi/studentSchoolAssociations"}, nil,
		},
		{
			"a natural key changed by delete and create is changed back the same way",
			[]string{`update demographic set agency = 2 where id = 1`},
			[]string{"POST ed-fi/studentEducationOrganizationAssociations", "DELETE ed-fi/studentEducationOrganizationAssociations"}, nil,
		},
		{
			"a person comes back before what refers to it, and goes after it",
			[]string{
				`insert into student values (100, 'S0100', 'New', 'Pupil', '2011-01-01')`, `insert into enrolment values (100, 100, 10, '2025-08-18', '10')`,
				`delete from demographic where id = 3`, `delete from enrolment where id = 3`, `delete from student where id = 3`,
			},
			[]string{
				"POST ed-fi/students", "POST ed-fi/studentSchoolAssociations", "POST ed-fi/studentEducationOrganizationAssociations",
				"DELETE ed-fi/studentSchoolAssociations", "DELETE ed-fi/students",
			}, nil,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorldWithHistory(t, 5)
			w.exec(`insert into agency values (2, 'Other', null)`)
			w.mustRun()
			before := w.everything()
			for _, statement := range tt.edit {
				w.exec(statement)
			}
			s, _ := w.mustRun()
			planned, calls := w.undo(sync.UndoOptions{Run: s.RunID, Plan: true})
			if len(calls) != 0 || planned.Writes() != int64(len(tt.calls)) {
				t.Errorf("planning made calls %v and counts %d, want none made and %d counted", calls, planned.Writes(), len(tt.calls))
			}
			u, calls := w.undo(sync.UndoOptions{Run: s.RunID, Who: "ada", Why: "wrong file"})
			if diff := cmp.Diff(tally(calls), tally(tt.calls)); diff != "" {
				t.Errorf("calls (-got +want):\n%s", diff)
			}
			if first, last := index(calls, "POST ed-fi/students"), index(calls, "POST ed-fi/studentSchoolAssociations"); first > last {
				t.Errorf("got %v: the enrolment came before its student (I6)", calls)
			}
			if diff := cmp.Diff(w.everything(), before); diff != "" {
				t.Errorf("the target after the undo (-got +before):\n%s", diff)
			}
			if u.LeftOut() != 0 || u.Summary.Failed != 0 {
				t.Errorf("got %+v, want nothing left out and nothing failed", u)
			}
			s, calls = w.mustRun()
			if len(calls) != 0 || s.Totals.Decided == 0 || s.Totals.Blocked != 0 {
				t.Errorf("the next run made calls %v, totals %+v: want what was undone kept back, and nothing blocked by it", calls, s.Totals)
			}
			if v, _ := w.verify(sync.VerifyOptions{}); v.Wrong() != 0 {
				t.Errorf("got %+v, want a ledger that says what the target holds (I2)", v)
			}
		})
	}
}

func index(calls []string, call string) int {
	for i, c := range calls {
		if c == call {
			return i
		}
	}
	return -1
}

// everything is what the target holds, by resource and id-free canonical payload.
func (w *world) everything() map[string]map[string]bool {
	w.t.Helper()
	out := map[string]map[string]bool{}
	w.other(func(ctx context.Context, c *edfi.Client) {
		for _, resource := range []string{
			"ed-fi/localEducationAgencies", "ed-fi/schools", "ed-fi/classPeriods", "ed-fi/students", "ed-fi/studentSchoolAssociations",
			"ed-fi/studentEducationOrganizationAssociations",
		} {
			r, ok := w.model.Resource(resource)
			if !ok {
				w.t.Fatal(resource)
			}
			out[resource] = map[string]bool{}
			err := c.Each(ctx, resource, edfi.PageOptions{}, func(item json.RawMessage) error {
				text, err := r.Canonical(nil, item)
				out[resource][string(text)] = true
				return err
			})
			if err != nil {
				w.t.Fatal(err)
			}
		}
	})
	return out
}

func TestUndoneRowIsSentAgainOnceItChanges(t *testing.T) {
	t.Parallel()
	w := newWorldWithHistory(t, 3)
	w.exec(`update demographic set login = 'wrong' where id = 1`)
	s, _ := w.mustRun()
	w.undo(sync.UndoOptions{Run: s.RunID, Who: "ada"})
	w.exec(`update demographic set login = 'right' where id = 1`)
	if _, calls := w.mustRun(); cmp.Diff(calls, []string{"PUT ed-fi/studentEducationOrganizationAssociations"}) != "" {
		t.Errorf("got calls %v, want the changed row sent", calls)
	}
	w.converged()
}

func TestAnUndoneCallIsMadeOnceItsRowHasChangedInBetween(t *testing.T) {
	t.Parallel()
	w := newWorldWithHistory(t, 3)
	login := func(to string, want int) {
		t.Helper()
		w.exec(`update demographic set login = ? where id = 1`, to)
		if _, calls := w.mustRun(); len(calls) != want {
			t.Errorf("after the row became %s: got calls %v, want %d", to, calls, want)
		}
	}
	w.exec(`update demographic set login = 'flip' where id = 1`)
	s, _ := w.mustRun()
	u, _ := w.undo(sync.UndoOptions{Run: s.RunID, Who: "ada"})
	login("flip", 0)
	login("login1", 0)
	if p, err := w.ledger.PlanByID(t.Context(), w.conn.ID, u.Kept); err != nil || p.State != syncdb.PlanReleased {
		t.Errorf("got %+v, %v: want what was undone released, for the row is what it was before", p, err)
	}
	login("flip", 1)
}

func TestAnUndoOfAnUndoKeepsNothingBack(t *testing.T) {
	t.Parallel()
	w := newWorldWithHistory(t, 3)
	w.exec(`update demographic set login = 'new'`)
	s, _ := w.mustRun()
	u, _ := w.undo(sync.UndoOptions{Run: s.RunID, Who: "ada"})
	again, _ := w.undo(sync.UndoOptions{Run: u.By, Who: "ada", Why: "it was right after all"})
	if again.Kept != 0 {
		t.Errorf("got plan %d: what an undo did no source row asked for, so there is nothing to keep back", again.Kept)
	}
	w.exec(`update demographic set login = 'login' || id`) // and then the source is corrected
	if _, calls := w.mustRun(); len(calls) != 3 {
		t.Errorf("got calls %v, want the three corrected rows sent", calls)
	}
	w.converged()
}

func TestUndoLeavesAloneWhatItCannotBringBack(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		do   func(t *testing.T, w *world) int64 // returns the run to undo
		want sync.LeftOut
	}{
		{
			"a record that a later run wrote again",
			func(t *testing.T, w *world) int64 {
				w.exec(`update demographic set login = 'one' where id = 1`)
				s, _ := w.mustRun()
				w.exec(`update demographic set login = 'two' where id = 1`)
				w.mustRun()
				return s.RunID
			},
			sync.LeftChanged,
		},
		{
			"a record whose earlier content was not kept",
			func(t *testing.T, w *world) int64 {
				w.options.History = 0
				w.mustRun() // drops what was kept
				w.options.History = time.Hour
				w.exec(`update demographic set login = 'one' where id = 1`)
				s, _ := w.mustRun()
				return s.RunID
			},
			sync.LeftNoPrevious,
		},
		{
			"a record whose content before is of a run that could not keep its history",
			func(t *testing.T, w *world) int64 {
				w.exec(`update demographic set login = 'second' where id = 1`)
				w.runWithoutHistory()
				w.exec(`update demographic set login = 'third' where id = 1`)
				s, _ := w.mustRun()
				return s.RunID
			},
			sync.LeftNoPrevious,
		},
		{
			"a record that was deleted after a run that could not keep its history",
			func(t *testing.T, w *world) int64 {
				w.exec(`update demographic set login = 'second' where id = 1`)
				w.runWithoutHistory()
				w.exec(`delete from demographic where id = 1`)
				s, _ := w.mustRun()
				return s.RunID
			},
			sync.LeftNoPrevious,
		},
		{
			"a record that another client had written, as a resync found",
			func(t *testing.T, w *world) int64 {
				ids := w.idsBy(demographics, "loginId")
				w.other(func(ctx context.Context, c *edfi.Client) {
					if _, err := c.Put(ctx, demographics, ids["login1"], []byte(`{"studentReference":{"studentUniqueId":"S0001"},
						"educationOrganizationReference":{"educationOrganizationId":1},"loginId":"theirs"}`)); err != nil {
						t.Fatal(err)
					}
				})
				w.exec(`update demographic set login = 'new' where id = 1`)
				w.options.Resync = true
				s, _ := w.mustRun()
				w.options.Resync = false
				return s.RunID
			},
			sync.LeftNoPrevious,
		},
		{
			"a record another client had made, which the run's create met",
			func(t *testing.T, w *world) int64 {
				w.other(func(ctx context.Context, c *edfi.Client) {
					if _, err := c.Post(ctx, "ed-fi/students", []byte(`{"studentUniqueId":"S0100","firstName":"Theirs","lastSurname":"Surname","birthDate":"2010-02-03"}`)); err != nil {
						t.Fatal(err)
					}
				})
				w.exec(`insert into student values (100, 'S0100', 'Ours', 'Surname', '2010-02-03')`)
				s, _ := w.mustRun()
				return s.RunID
			},
			sync.LeftNoPrevious,
		},
		{
			"a call that had no usable answer",
			func(t *testing.T, w *world) int64 {
				w.exec(`update demographic set login = 'one' where id = 1`)
				w.front.intercept(func(rw http.ResponseWriter, r *http.Request) bool {
					if r.Method == http.MethodPut {
						panic(http.ErrAbortHandler)
					}
					return false
				})
				s, _, err := w.run()
				if err != nil {
					t.Fatal(err)
				}
				w.front.intercept(nil)
				return s.RunID
			},
			sync.LeftUnsettled,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorldWithHistory(t, 3)
			run := tt.do(t, w)
			u, calls := w.undo(sync.UndoOptions{Run: run, Who: "ada"})
			got := map[sync.LeftOut]int64{}
			for _, r := range u.Resources {
				for why, n := range r.Left {
					got[why] += n
				}
			}
			if diff := cmp.Diff(got, map[sync.LeftOut]int64{tt.want: 1}); diff != "" || len(calls) > 0 {
				t.Errorf("got calls %v, left out (-got +want):\n%s", calls, diff)
			}
		})
	}
}

func TestUndoNamesWhatIsOutOfScopeNow(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		gone  []string // files of the pack
		calls []string
	}{
		{"one resource", []string{"studentEducationOrganizationAssociations.sql"}, []string{"PUT ed-fi/students", "PUT ed-fi/students"}},
		{"all of them", []string{"studentEducationOrganizationAssociations.sql", "studentSchoolAssociations.sql", "students.sql"}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorldWithHistory(t, 3)
			w.exec(`update demographic set login = 'wrong' where id = 1`)
			w.exec(`delete from demographic where id = 2`)
			w.exec(`update student set first = 'Wrong' where id < 3`)
			s, _ := w.mustRun()
			for _, file := range tt.gone {
				delete(w.pack, file)
			}
			u, calls := w.undo(sync.UndoOptions{Run: s.RunID, Who: "ada"})
			if diff := cmp.Diff(calls, tt.calls); diff != "" {
				t.Errorf("calls (-got +want):\n%s", diff)
			}
			if want := int64(4 - len(tt.calls)); u.LeftOut() != want {
				t.Errorf("%d of 4 records left out, want %d: %+v", u.LeftOut(), want, u.Resources)
			}
			for _, r := range u.Resources {
				if r.Resource == demographics && r.Left[sync.LeftScope] != 2 {
					t.Errorf("got %+v, want both records of the resource that is not synced any more named", r)
				}
			}
		})
	}
}

// runWithoutHistory is a run of a process that dies before it keeps its history.
func (w *world) runWithoutHistory() {
	w.t.Helper()
	whole := w.ledger
	w.ledger = noHistory{whole}
	defer func() { w.ledger = whole }()
	w.mustRun()
}

// noHistory is a ledger that keeps no history.
type noHistory struct{ ledger }

func (noHistory) SaveAttempts(context.Context, syncdb.Lease, []syncdb.Attempt) error { return nil }

// What a record was is known when history has any call that left it so, though calls after that one were not kept.
func TestUndoBringsBackWhatItKnowsFromBeforeAGapInTheHistory(t *testing.T) {
	t.Parallel()
	w := newWorldWithHistory(t, 3)
	before := w.everything()
	for _, login := range []string{"second", "login1"} {
		w.exec(`update demographic set login = ? where id = 1`, login)
		w.runWithoutHistory()
	}
	w.exec(`update demographic set login = 'third' where id = 1`)
	s, _ := w.mustRun()
	u, _ := w.undo(sync.UndoOptions{Run: s.RunID, Who: "ada"})
	if diff := cmp.Diff(w.everything(), before); diff != "" || u.LeftOut() != 0 {
		t.Errorf("left out %d; the target after the undo (-got +before):\n%s", u.LeftOut(), diff)
	}
}

// Two records have one natural key, one after the other, for both were re-keyed with their sessions.
func TestUndoTakesNoOtherRecordsPreviousContent(t *testing.T) {
	t.Parallel()
	w := newCourses(t, 1)
	w.options.History = time.Hour
	for _, table := range []string{"grade", "seat", "section", "offering", "session"} {
		w.exec(`delete from ` + table)
	}
	w.exec(`insert into session values (1, 10, 'Fall'), (2, 10, 'Spring')`)
	w.exec(`insert into offering values (1, 1, 1, 'ALG-1'), (2, 2, 2, 'ALG-1')`) // of other courses, with other local codes alike
	w.mustRun()
	w.exec(`update session set name = 'Old' where id = 2`)
	w.mustRun()
	w.exec(`update session set name = 'Spring' where id = 1`)
	w.exec(`insert into course values (3, 'NEW')`)
	w.mustRun()
	w.exec(`update offering set course = 3 where id = 1`)
	s, _ := w.mustRun()
	u, calls := w.undo(sync.UndoOptions{Run: s.RunID, Who: "ada", Why: "wrong course"})
	if len(calls) > 0 || u.LeftOut() != 1 {
		t.Errorf("got calls %v and %d left out, want the offering left: all that history has under its key is of another one", calls, u.LeftOut())
	}
}

func TestUndoDeletesNothingUnderPreventDelete(t *testing.T) {
	t.Parallel()
	w := newWorldWithHistory(t, 3)
	w.exec(`insert into period values (3, 'P3', 11)`)
	w.exec(`update demographic set login = 'other' where id = 1`)
	s, _ := w.mustRun()
	w.options.Safeguards.PreventDelete = []string{"ed-fi/classPeriods"}
	for _, plan := range []bool{true, false} {
		u, calls := w.undo(sync.UndoOptions{Run: s.RunID, Plan: plan, Who: "ada"})
		want := []string{"PUT " + demographics}
		if plan {
			want = nil
		}
		if diff := cmp.Diff(tally(calls), tally(want)); diff != "" || u.Writes() != 1 || u.LeftOut() != 1 {
			t.Errorf("plan %t: %d calls counted, %d left out, calls (-got +want):\n%s", plan, u.Writes(), u.LeftOut(), diff)
		}
		for _, r := range u.Resources {
			if r.Resource == "ed-fi/classPeriods" && r.Left[sync.LeftPrevented] != 1 {
				t.Errorf("got %+v, want the class period left for prevent_delete", r)
			}
		}
	}
	w.converged() // and it is still ours to keep up to date
}

func TestUndoOverTheSafeguardsNeedsAReason(t *testing.T) {
	t.Parallel()
	w := newWorldWithHistory(t, 60)
	first := sync.UndoOptions{Run: 1, Who: "ada"}
	w.options.Safeguards = sync.Safeguards{}
	first.Plan = true
	planned, _ := w.undo(first)
	var got []string
	for _, h := range planned.Held {
		got = append(got, string(h.Rule)+" "+h.What())
	}
	if diff := cmp.Diff(got, []string{"mass-delete deletes of ed-fi/students", "mass-delete deletes of " + enrolments, "mass-delete deletes of " + demographics}); diff != "" {
		t.Errorf("what safeguards would hold (-got +want):\n%s", diff)
	}
	if h := planned.Held[0]; h.Ops != 60 || !strings.HasPrefix(h.Reason, "60 of 60 records would be deleted (100.0 %") {
		t.Errorf("got %+v, want counts and the share", h)
	}
	first.Plan = false
	e, closeAll := w.engine()
	defer closeAll()
	runs, err := w.ledger.Runs(t.Context(), w.conn.ID, 0)
	if err != nil {
		t.Fatal(err)
	}
	var held *sync.HeldUndoError
	if _, err := e.Undo(t.Context(), first); !errors.As(err, &held) || len(held.Held) != len(planned.Held) {
		t.Errorf("got %v, want the undo refused without a reason", err)
	}
	if after, err := w.ledger.Runs(t.Context(), w.conn.ID, 0); err != nil || len(after) != len(runs) || len(w.front.take()) != 0 {
		t.Errorf("got %d runs, %v, want none for what was refused, and no call", len(after)-len(runs), err)
	}
	first.Why = "the wrong district"
	if u, calls := w.undo(first); u.Writes() != planned.Writes() || int64(len(calls)) < u.Writes() {
		t.Errorf("got %d of %d calls, want the undo made with a reason", len(calls), planned.Writes())
	}
}

func TestUndoWaitsForATargetThatWasReset(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		first  bool // the undo is what meets the reset first
		plan   bool
		raises bool
	}{
		{"a run has raised the alarm", false, false, true},
		{"the undo is the first to look", true, false, true},
		{"the plan of an undo is the first to look, and writes nothing", true, true, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorldWithHistory(t, 20)
			w.exec(`update demographic set login = 'other' where id < 6`)
			s, _ := w.mustRun()
			w.wipe()
			if !tt.first {
				if s, _ := w.mustRun(); s.Alarm == "" {
					t.Fatal("no alarm was raised")
				}
			}
			e, closeAll := w.engine()
			defer closeAll()
			w.front.take()
			_, err := e.Undo(t.Context(), sync.UndoOptions{Run: s.RunID, Who: "ada", Why: "x", Plan: tt.plan})
			if err == nil || !strings.Contains(err.Error(), "not undone") {
				t.Errorf("got %v, want the undo refused while the reset is not dealt with", err)
			}
			if calls := w.front.take(); len(calls) > 0 {
				t.Errorf("calls %v were made to a target that was wiped", tally(calls))
			}
			if state, err := w.ledger.Target(t.Context(), w.conn.ID); err != nil || (state.Alarm != "") != tt.raises {
				t.Errorf("got the alarm %q, %v, want it raised: %t", state.Alarm, err, tt.raises)
			}
		})
	}
}

// What an undo writes counts for the next look at the target, as what a run writes does: a restore to before it shows (F30).
func TestUndoNotesHowFarTheTargetHasCome(t *testing.T) {
	t.Parallel()
	w := newWorldWithHistory(t, 5)
	w.exec(`update demographic set login = 'other'`)
	s, _ := w.mustRun()
	before, err := w.ledger.Target(t.Context(), w.conn.ID)
	if err != nil {
		t.Fatal(err)
	}
	w.undo(sync.UndoOptions{Run: s.RunID, Who: "ada"})
	if after, err := w.ledger.Target(t.Context(), w.conn.ID); err != nil || after.ChangeVersion <= before.ChangeVersion {
		t.Errorf("got change version %d after %d, %v, want that of the undo's calls noted", after.ChangeVersion, before.ChangeVersion, err)
	}
}

func TestUndoOfARunWithoutHistoryIsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(2)
	s, _ := w.mustRun()
	e, closeAll := w.engine()
	defer closeAll()
	if _, err := e.Undo(t.Context(), sync.UndoOptions{Run: s.RunID, Plan: true}); !errors.Is(err, sync.ErrNothingKept) {
		t.Errorf("got %v, want ErrNothingKept", err)
	}
	if _, err := e.Undo(t.Context(), sync.UndoOptions{Run: 4711, Plan: true}); err == nil || !strings.Contains(err.Error(), "no run 4711") {
		t.Errorf("got %v, want the run named", err)
	}
}

func TestUndoOfAnUndoBringsTheRunBack(t *testing.T) {
	t.Parallel()
	w := newWorldWithHistory(t, 3)
	w.exec(`update demographic set login = 'new' where id = 1`)
	w.exec(`delete from demographic where id = 2`)
	s, _ := w.mustRun()
	after := w.everything()
	u, _ := w.undo(sync.UndoOptions{Run: s.RunID, Who: "ada"})
	again, _ := w.undo(sync.UndoOptions{Run: u.By, Who: "ada", Why: "it was right after all"})
	if diff := cmp.Diff(w.everything(), after); diff != "" || again.LeftOut() != 0 {
		t.Errorf("left out %d; target (-got +want):\n%s", again.LeftOut(), diff)
	}
	w.converged()
}

// What was undone stays undone as long as no row changes: not when the rows were away for a while and nobody believed it (I5e, F38), and not when
// the expression of the rows' source key changes.
func TestAnUndoIsNotEndedByWhatChangesNoRow(t *testing.T) {
	t.Parallel()
	away := func(w *world, meanwhile func()) {
		w.options.Safeguards = sync.Safeguards{}
		w.exec(`create table aside as select * from demographic`)
		w.exec(`delete from demographic`)
		if s, calls := w.mustRun(); len(calls) > 0 || len(s.HeldBack) == 0 {
			w.t.Fatalf("calls %v, want the empty source held", calls)
		}
		meanwhile()
		w.exec(`insert into demographic select * from aside`)
	}
	for name, change := range map[string]func(w *world){
		"the source was empty": func(w *world) { away(w, func() {}) },
		"the source was empty and the deletes were discarded": func(w *world) {
			away(w, func() { w.decide(syncdb.PlanDiscarded); w.mustRun() })
		},
		"the source key is another one": func(w *world) {
			d := w.pack["studentEducationOrganizationAssociations.sql"]
			d.Data = []byte(strings.Replace(string(d.Data), `d.id as "_key"`, `'d' || d.id as "_key"`, 1))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorldWithHistory(t, 20)
			w.exec(`update demographic set login = 'wrong' where id < 4`)
			s, _ := w.mustRun()
			w.undo(sync.UndoOptions{Run: s.RunID, Who: "ada", Why: "wrong"})
			if _, calls := w.mustRun(); len(calls) > 0 {
				t.Fatalf("before the change: calls %v", calls)
			}
			change(w)
			if _, calls := w.mustRun(); len(calls) > 0 {
				t.Errorf("what was undone is made again: %v", calls)
			}
			w.exec(`update demographic set login = 'right' where id = 1`)
			if _, calls := w.mustRun(); len(calls) != 1 {
				t.Errorf("after a row changed: got calls %v, want it sent", calls)
			}
		})
	}
}

// On a target that compares keys without case two rows have one record. The undo of the run that created it for one of them leaves it to the other (I5d).
func TestUndoDeletesNoRecordThatAnotherRowHas(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.foldingTarget()
	w.options.History, w.options.Safeguards = time.Hour, lenient()
	w.fill(2)
	w.mustRun()
	w.exec(`insert into period values (3, 'P3', 11)`)
	s, _ := w.mustRun()
	w.exec(`insert into period values (4, 'p3', 11)`)
	w.mustRun()
	u, calls := w.undo(sync.UndoOptions{Run: s.RunID, Who: "ada", Why: "wrong file"})
	if len(calls) != 0 || u.LeftOut() != 1 {
		t.Errorf("got calls %v and %+v, want the record left: a row has it", calls, u)
	}
	w.mustRun()
	if got := w.count("ed-fi/classPeriods"); got != 3 {
		t.Errorf("the target has %d class periods, want 3", got)
	}
}
