package sync_test

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/edfisync/edfisync/sync"
	"github.com/edfisync/edfisync/syncdb"
)

// A student leaves for good, and prevent_delete keeps one record of hers: what this one refers to, and what authorises us for it, stays with it.
func TestWhatPreventDeleteKeepsKeepsWhatItStandsOn(t *testing.T) {
	t.Parallel()
	w := newVendorWorld(t)
	w.options.Safeguards = lenient()
	w.options.Safeguards.PreventDelete = []string{demographics}
	w.enrol(1, 6)
	w.mustRun()
	w.leave(2)
	e, closeAll := w.engine()
	defer closeAll()
	planned, saved, err := e.SavePlan(t.Context(), 100)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]int{"DELETE ed-fi/contacts": 1, "DELETE ed-fi/studentContactAssociations": 1}
	if planned.Writes() != 2 || saved.Ops != 2 || planned.Totals.Held != 3 {
		t.Errorf("a plan of %d calls with totals %+v, saved with %d ops; want 2 calls and 3 held", planned.Writes(), planned.Totals, saved.Ops)
	}
	decided := []sync.Decided{
		{By: sync.ByConfiguration, Resource: demographics, Ops: 1}, {By: sync.ByConfiguration, Resource: enrolments, Below: true, Ops: 1},
		{By: sync.ByConfiguration, Resource: "ed-fi/students", Below: true, Ops: 1},
	}
	if diff := cmp.Diff(decided, sorted(planned.Decided)); diff != "" {
		t.Errorf("what the plan says is decided (-want +got):\n%s", diff)
	}
	s, calls := w.mustRun()
	if diff := cmp.Diff(want, tally(calls)); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(decided, sorted(s.Decided)); diff != "" {
		t.Errorf("what the run says is decided (-want +got):\n%s", diff)
	}
	for range 2 {
		if s.Held != 3 || s.Totals.Decided != 3 || s.Failed != 0 || len(s.HeldBack) != 0 {
			t.Errorf("got totals %+v, held back %v: three stay as the configuration says, and nobody is asked", s.Totals, s.HeldBack)
		}
		if diff := cmp.Diff(map[string]int64{"prevent-delete": 3}, w.openIssues()); diff != "" {
			t.Errorf("issues (-want +got):\n%s", diff)
		}
		if s, calls = w.mustRun(); len(calls) != 0 {
			t.Errorf("calls %v", calls)
		}
	}
	w.options.Safeguards.PreventDelete = nil
	if s, calls = w.mustRun(); len(calls) != 3 || s.Held+s.Failed != 0 {
		t.Errorf("not kept any more: calls %v, totals %+v, want the three deletes", calls, s.Totals)
	}
	w.converged()
}

// What stays with a kept record is none of what the safeguards count, and no approval makes its delete.
func TestNoHoldHasWhatPreventDeleteKeeps(t *testing.T) {
	t.Parallel()
	w := newVendorWorld(t)
	w.options.Safeguards = lenient()
	w.enrol(1, 10)
	w.mustRun()
	w.options.Safeguards.Deletes = sync.Limit{Percent: 10, Count: 2}
	for i := 1; i <= 4; i++ {
		w.leave(i)
	}
	w.mustRun()
	for _, h := range w.holds(syncdb.PlanOpen) {
		w.decideOn(h, syncdb.PlanApproved)
	}
	w.options.Safeguards.PreventDelete = []string{demographics}
	s, calls := w.mustRun()
	if diff := cmp.Diff(map[string]int{"DELETE ed-fi/contacts": 4, "DELETE ed-fi/studentContactAssociations": 4}, tally(calls)); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
	if s.Totals.Decided != 12 || s.Held != 12 || len(s.HeldBack) != 0 {
		t.Errorf("got totals %+v, held back %v", s.Totals, s.HeldBack)
	}
	if n := len(w.holds(syncdb.PlanOpen)) + len(w.holds(syncdb.PlanApproved)); n != 0 {
		t.Errorf("%d holds wait for what is never made", n)
	}
}

// What stands under a kept record stays with it, too, where the connection syncs neither any more: the removal that is offered has none of it.
func TestNoRemovalHasWhatPreventDeleteKeeps(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.options.Safeguards.PreventDelete = []string{demographics}
	w.fill(3)
	w.exec(`delete from demographic where id = 3`)
	w.mustRun()
	for _, resource := range []string{"students", "studentSchoolAssociations", "studentEducationOrganizationAssociations"} {
		delete(w.pack, resource+".sql")
	}
	s, calls := w.mustRun()
	if diff := cmp.Diff(map[string]int64{"ed-fi/students": 1, enrolments: 1}, w.removals(s)); len(calls) > 0 || diff != "" {
		t.Fatalf("calls %v, removal (-want +got):\n%s", calls, diff)
	}
	decided := []sync.Decided{
		{By: sync.ByConfiguration, Resource: demographics, Ops: 2}, {By: sync.ByConfiguration, Resource: enrolments, Below: true, Ops: 2},
		{By: sync.ByConfiguration, Resource: "ed-fi/students", Below: true, Ops: 2},
	}
	if diff := cmp.Diff(decided, sorted(s.Decided)); diff != "" {
		t.Errorf("what the run says is decided (-want +got):\n%s", diff)
	}
	w.decide(syncdb.PlanApproved)
	if _, calls = w.mustRun(); len(calls) != 2 {
		t.Errorf("approved: calls %v", calls)
	}
	if diff := cmp.Diff(records(2, 2, 2, 2, 2), w.holdings()); diff != "" {
		t.Errorf("the target holds (-want +got):\n%s", diff)
	}
	w.converged()
}

// A record of a resource that is off stays as long as one that refers to it: nothing is sent that the target would refuse (I6).
func TestWhatIsOffStaysUnderWhatStays(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(3)
	w.exec(`delete from demographic where id <> 2`)
	w.mustRun()
	delete(w.pack, "students.sql")
	delete(w.pack, "studentSchoolAssociations.sql")
	w.exec(`update demographic set agency = null`) // invalid: what it produced stays
	w.mustRun()
	w.decide(syncdb.PlanApproved)
	s, calls := w.mustRun()
	if diff := cmp.Diff(map[string]int{deleteStudent: 2, deleteEnrol: 3}, tally(calls)); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
	if s.Totals.Blocked != 1 || w.openIssues()["dependent-kept"] != 1 {
		t.Errorf("totals %+v, issues %v, want the student to wait for the row that refers to it", s.Totals, w.openIssues())
	}
}

func sorted(of []sync.Decided) []sync.Decided {
	of = slices.Clone(of)
	slices.SortFunc(of, func(a, b sync.Decided) int { return slices.Compare([]byte(a.Resource), []byte(b.Resource)) })
	return of
}

// decideOn lets a person decide about a hold.
func (w *world) decideOn(h syncdb.Plan, to syncdb.PlanState) {
	w.t.Helper()
	if _, err := w.ledger.DecidePlan(w.t.Context(), w.conn.ID, h.ID, syncdb.Decision{From: []syncdb.PlanState{syncdb.PlanOpen}, To: to, Who: "ada", Why: "the test says so"}); err != nil {
		w.t.Fatal(err)
	}
}
