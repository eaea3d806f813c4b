package sync_test

import (
	"errors"
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/edfisync/edfisync/sync"
	"github.com/edfisync/edfisync/syncdb"
)

// save keeps a plan and approves it.
func (w *world) save() *sync.SavedPlan {
	w.t.Helper()
	e, closeAll := w.engine()
	defer closeAll()
	_, saved, err := e.SavePlan(w.t.Context(), 0)
	if err != nil {
		w.t.Fatal(err)
	}
	w.front.take()
	if _, err := w.ledger.DecidePlan(w.t.Context(), w.conn.ID, saved.ID, syncdb.Decision{From: []syncdb.PlanState{syncdb.PlanOpen}, To: syncdb.PlanApproved, Who: "ada", Why: "apply"}); err != nil {
		w.t.Fatal(err)
	}
	return saved
}

// apply runs a saved plan.
func (w *world) apply(id int64) (*sync.Summary, []string, error) {
	w.t.Helper()
	w.options.Apply = id
	defer func() { w.options.Apply = 0 }()
	return w.run()
}

func TestApplyMakesExactlyThePlan(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(60)
	w.mustRun()
	w.exec(`delete from demographic where id > 20`) // more than the safeguard allows: applying is the approval
	w.exec(`update student set first = 'Ada' where id = 1`)
	w.exec(`insert into period values (9, 'P9', 10)`)
	saved := w.save()
	if diff := cmp.Diff(saved.Counts, map[string]map[string]int64{
		demographics: {"delete": 40}, "ed-fi/students": {"update": 1}, "ed-fi/classPeriods": {"create": 1},
	}); diff != "" || saved.Ops != 42 || len(saved.Held) != 1 {
		t.Errorf("saved %+v, counts (-got +want):\n%s", saved, diff)
	}
	w.exec(`update student set first = 'Bea' where id = 2`) // after the plan: waits
	w.exec(`insert into student values (99, 'S9999', 'New', 'Student', '2010-02-03')`)
	s, calls, err := w.apply(saved.ID)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(tally(calls), map[string]int{"DELETE " + demographics: 40, "PUT ed-fi/students": 1, "POST ed-fi/classPeriods": 1}); diff != "" {
		t.Errorf("calls (-got +want):\n%s", diff)
	}
	if s.Totals.Kept != 2 || s.Totals.Decided != 2 || len(w.openIssues()) != 0 {
		t.Errorf("got totals %+v and issues %v, want two rows outside the plan to wait in silence", s.Totals, w.openIssues())
	}
	var state *syncdb.PlanStateError
	if _, calls, err := w.apply(saved.ID); !errors.As(err, &state) || state.State != syncdb.PlanApplied || len(calls) != 0 {
		t.Errorf("applied again: error %v, calls %v", err, calls)
	}
	if _, calls := w.mustRun(); len(calls) != 2 {
		t.Errorf("got calls %v, want what waited", calls)
	}
	w.converged()
}

func TestApplyRefusesAStalePlanAndNamesWhatChanged(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(w *world)
		want   map[sync.Staleness]int64
	}{
		"a row of an update changed":    {func(w *world) { w.exec(`update student set first = 'Eve' where id = 1`) }, map[sync.Staleness]int64{sync.SourceChanged: 1}},
		"a row to delete came back":     {func(w *world) { w.exec(`insert into demographic values (30, 30, 1, 'login30')`) }, map[sync.Staleness]int64{sync.SourceChanged: 1}},
		"a row to create is gone":       {func(w *world) { w.exec(`delete from period where id = 9`) }, map[sync.Staleness]int64{sync.SourceChanged: 1}},
		"another run made all of it":    {func(w *world) { w.mustRun() }, map[sync.Staleness]int64{sync.LedgerChanged: 3}},
		"configuration or pack changed": {func(w *world) { w.config = new("v2") }, map[sync.Staleness]int64{sync.ConfigChanged: 3}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.config = new("v1")
			w.fill(30)
			w.mustRun()
			w.exec(`delete from demographic where id = 30`)
			w.exec(`update student set first = 'Ada' where id = 1`)
			w.exec(`insert into period values (9, 'P9', 10)`)
			saved := w.save()
			c.change(w)
			w.front.take()
			_, calls, err := w.apply(saved.ID)
			var stale *sync.StalePlanError
			if !errors.As(err, &stale) || len(calls) != 0 {
				t.Fatalf("got error %v and calls %v, want the plan refused and nothing sent", err, calls)
			}
			if diff := cmp.Diff(stale.Counts, c.want); diff != "" {
				t.Errorf("causes (-got +want):\n%s", diff)
			}
			if name != "configuration or pack changed" && len(stale.First) == 0 {
				t.Error("no difference is named")
			}
			var state *syncdb.PlanStateError
			if _, _, err := w.apply(saved.ID); !errors.As(err, &state) || state.State != syncdb.PlanStale {
				t.Errorf("applied again: %v", err)
			}
		})
	}
}

// A plan says how long it would take: at the pace of the newest run that made enough calls, and nothing when there is none.
func TestPlanEstimatesAtThePaceOfAnEarlierRun(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	estimate := func() *sync.Estimate {
		t.Helper()
		e, done := w.engine()
		defer done()
		plan, err := e.Plan(t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
		return plan.Estimate
	}
	w.fill(60)
	if e := estimate(); e != nil {
		t.Errorf("before the first run: got %+v, want no estimate", e)
	}
	first, _ := w.mustRun()
	if e := estimate(); e != nil {
		t.Errorf("with nothing to do: got %+v, want no estimate", e)
	}
	w.exec(`update student set first = 'Ada' where id = 1`)
	w.mustRun() // one call: too few for a pace
	w.exec(`update student set first = 'Bea' where id < 4`)
	runs, err := w.ledger.Runs(t.Context(), w.conn.ID, 10)
	if err != nil || len(runs) != 2 {
		t.Fatalf("got runs %v and error %v, want two", runs, err)
	}
	took := runs[1].EndedAt.Sub(runs[1].StartedAt).Seconds()
	want := &sync.Estimate{Seconds: 3 * took / float64(first.Totals.Calls), CallsPerSecond: float64(first.Totals.Calls) / took, Run: runs[1].ID}
	if diff := cmp.Diff(estimate(), want, cmpopts.EquateApprox(1e-9, 0)); diff != "" {
		t.Errorf("three updates (-got +want):\n%s", diff)
	}
}

// A row that would be blocked is no call of the plan: the plan counts what a run would send, and is applied once that was sent.
func TestPlanLeavesBlockedRowsOutAndIsAppliedWithoutThem(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(4)
	w.mustRun()
	w.exec(`insert into student values (99, 'S0099', null, 'Nameless', '2010-02-03')`) // invalid, so what refers to it is blocked
	w.exec(`insert into enrolment values (99, 99, 10, '2025-08-20', 'Ninth grade')`)
	w.exec(`update student set first = 'Ada' where id = 1`)
	saved := w.save()
	if diff := cmp.Diff(saved.Counts, map[string]map[string]int64{"ed-fi/students": {"update": 1}}); diff != "" || saved.Ops != 1 {
		t.Errorf("saved %+v, counts (-got +want):\n%s", saved, diff)
	}
	_, calls, err := w.apply(saved.ID)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(tally(calls), map[string]int{"PUT ed-fi/students": 1}); diff != "" {
		t.Errorf("calls (-got +want):\n%s", diff)
	}
	kept, err := w.ledger.PlanByID(t.Context(), w.conn.ID, saved.ID)
	if err != nil || kept.State != syncdb.PlanApplied {
		t.Errorf("the plan is %s (%v), want it applied", kept.State, err)
	}
}

// A natural-key change by create and delete is one thing: a delete that is forbidden leaves the create in the plan, one that was discarded takes it
// out; and every call of the plan is made.
func TestApplyMakesEveryCallOfAKeyChangeWhoseDeleteDoesNotGo(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		before func(w *world)
		want   map[string]int
	}{
		"the delete is forbidden": {func(w *world) {
			w.options.Safeguards.PreventDelete = []string{demographics}
			w.exec(`update demographic set agency = 2 where id < 4`)
		}, map[string]int{"POST " + demographics: 3}},
		"the delete was discarded": {func(w *world) {
			w.options.Safeguards.Resources = map[string]sync.ResourceSafeguards{demographics: {Deletes: sync.Limit{Percent: 1, Count: 1}}}
			w.exec(`update demographic set agency = 2 where id < 4`)
			w.mustRun()
			w.decide(syncdb.PlanDiscarded)
			w.exec(`update student set first = 'Ada' where id = 1`)
		}, map[string]int{"PUT ed-fi/students": 1}},
		"the delete would be held": {func(w *world) {
			w.options.Safeguards.Resources = map[string]sync.ResourceSafeguards{demographics: {Deletes: sync.Limit{Percent: 1, Count: 1}}}
			w.exec(`update demographic set agency = 2 where id < 4`)
		}, map[string]int{"POST " + demographics: 3, "DELETE " + demographics: 3}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.fill(10)
			w.exec(`insert into agency values (2, 'Other', null)`)
			w.mustRun()
			c.before(w)
			saved := w.save()
			s, calls, err := w.apply(saved.ID)
			if err != nil || s.PlanLeft != 0 || int64(len(calls)) != saved.Ops {
				t.Errorf("the plan has %d calls, %d were made and %d are left: %v", saved.Ops, len(calls), s.PlanLeft, err)
			}
			if diff := cmp.Diff(tally(calls), c.want); diff != "" {
				t.Errorf("calls (-got +want):\n%s", diff)
			}
		})
	}
}

// An applied plan of which a call failed says so.
func TestApplyTellsWhatItDidNotMake(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(4)
	w.mustRun()
	w.exec(`update student set first = 'Ada' where id < 3`)
	saved := w.save()
	w.front.intercept(func(rw http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPut {
			rw.WriteHeader(http.StatusInternalServerError)
		}
		return r.Method == http.MethodPut
	})
	s, _, err := w.apply(saved.ID)
	if err != nil || s.PlanLeft != 2 || s.Failed != 2 {
		t.Errorf("got %d calls left and %d failed (%v), want two", s.PlanLeft, s.Failed, err)
	}
}
