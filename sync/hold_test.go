package sync_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/edfisync/edfisync/sync"
	"github.com/edfisync/edfisync/syncdb"
)

const (
	demographics = "ed-fi/studentEducationOrganizationAssociations"
	enrolments   = "ed-fi/studentSchoolAssociations"
)

// holds returns the connection's holds in a state.
func (w *world) holds(state syncdb.PlanState) []syncdb.Plan {
	w.t.Helper()
	holds, err := w.ledger.Plans(w.t.Context(), w.conn.ID, syncdb.PlanFilter{Kind: syncdb.PlanHold, States: []syncdb.PlanState{state}})
	if err != nil {
		w.t.Fatal(err)
	}
	return holds
}

// oneHold fails unless exactly one hold is in the state.
func (w *world) oneHold(state syncdb.PlanState) syncdb.Plan {
	w.t.Helper()
	holds := w.holds(state)
	if len(holds) != 1 {
		w.t.Fatalf("got %d holds that are %s, want one: %+v", len(holds), state, holds)
	}
	return holds[0]
}

// decide lets a person decide about the one open hold.
func (w *world) decide(to syncdb.PlanState) syncdb.Plan {
	w.t.Helper()
	h := w.oneHold(syncdb.PlanOpen)
	h, err := w.ledger.DecidePlan(w.t.Context(), w.conn.ID, h.ID, syncdb.Decision{From: []syncdb.PlanState{syncdb.PlanOpen}, To: to, Who: "ada", Why: "the test says so"})
	if err != nil {
		w.t.Fatal(err)
	}
	return h
}

// openIssues lists codes of open issues with their rows.
func (w *world) openIssues() map[string]int64 {
	w.t.Helper()
	issues, err := w.ledger.Issues(w.t.Context(), w.conn.ID, true)
	if err != nil {
		w.t.Fatal(err)
	}
	out := map[string]int64{}
	for _, i := range issues {
		out[i.Code] += i.Rows
	}
	return out
}

func TestHeldDeletesWaitForApprovalAndAreMadeOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(100)
	w.mustRun()
	w.exec(`delete from demographic where id > 30`)
	w.exec(`update student set first = 'Ada' where id = 1`)
	s, calls := w.mustRun()
	if diff := cmp.Diff(tally(calls), map[string]int{"PUT ed-fi/students": 1}); diff != "" {
		t.Errorf("only the deletes of the resource wait: calls (-got +want):\n%s", diff)
	}
	h := w.oneHold(syncdb.PlanOpen)
	if h.Resource != demographics || h.Verb != syncdb.Delete || h.Rule != string(sync.RuleMassDelete) || h.Ops != 70 || string(h.Counts) != `{"`+demographics+`":{"delete":70}}` {
		t.Errorf("got hold %+v", h)
	}
	if len(s.HeldBack) != 1 || s.HeldBack[0].Hold != h.ID || s.Totals.Kept != 70 || s.Totals.Decided != 0 {
		t.Errorf("got summary %+v and totals %+v", s.HeldBack, s.Totals)
	}
	if diff := cmp.Diff(w.openIssues(), map[string]int64{"mass-delete": 70}); diff != "" {
		t.Errorf("issues (-got +want):\n%s", diff)
	}
	w.mustRun()
	if again := w.oneHold(syncdb.PlanOpen); again.ID != h.ID || again.Ops != 70 {
		t.Errorf("the next run made another hold: %+v", again)
	}
	w.decide(syncdb.PlanApproved)
	s, calls = w.mustRun()
	if diff := cmp.Diff(tally(calls), map[string]int{"DELETE " + demographics: 70}); diff != "" || len(s.HeldBack) != 0 {
		t.Errorf("held back %v, calls (-got +want):\n%s", s.HeldBack, diff)
	}
	if applied := w.oneHold(syncdb.PlanApplied); applied.AppliedRun != s.RunID || applied.DecidedBy != "ada" || applied.Why != "the test says so" {
		t.Errorf("got %+v, want the run and who decided", applied)
	}
	if issues := w.openIssues(); len(issues) != 0 {
		t.Errorf("issues are left: %v", issues)
	}
	w.converged()
}

func TestApprovedOpsDoNotCountAgainstTheLimits(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(100)
	w.mustRun()
	w.exec(`delete from demographic where id > 30`)
	w.mustRun()
	w.decide(syncdb.PlanApproved)
	w.exec(`delete from demographic where id > 10`) // twenty more, which alone are too few to be held
	if s, calls := w.mustRun(); len(calls) != 90 || len(s.HeldBack) != 0 {
		t.Errorf("got %d calls, held back %v, want the 70 approved and 20 more deletes", len(calls), s.HeldBack)
	}
	w.converged()
}

func TestOpsBesidesTheApprovedOnesAreJudgedAnew(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(100)
	w.mustRun()
	w.exec(`delete from demographic where id > 70`)
	w.mustRun()
	w.decide(syncdb.PlanApproved)
	w.exec(`delete from demographic where id > 10`) // sixty more
	s, calls := w.mustRun()
	if len(calls) != 30 || len(s.HeldBack) != 1 || s.HeldBack[0].Ops != 60 || w.oneHold(syncdb.PlanOpen).Ops != 60 {
		t.Errorf("got %d calls, held back %v, want the 30 approved deletes made and 60 others in a new hold", len(calls), s.HeldBack)
	}
}

func TestDiscardedOpsStayBackAndNobodyIsAskedAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(100)
	w.mustRun()
	w.exec(`delete from demographic where id > 30`)
	w.mustRun()
	w.decide(syncdb.PlanDiscarded)
	for range 2 {
		s, calls := w.mustRun()
		if len(calls) != 0 || len(s.HeldBack) != 0 || s.Totals.Kept != 70 || s.Totals.Decided != 70 || len(w.holds(syncdb.PlanOpen)) != 0 || len(w.openIssues()) != 0 {
			t.Errorf("got %d calls, held back %v, totals %+v, open holds %v, issues %v, want 70 deletes held in silence",
				len(calls), s.HeldBack, s.Totals, w.holds(syncdb.PlanOpen), w.openIssues())
		}
	}
	// A row that comes back with another payload, and goes again, is another delete.
	w.exec(`insert into demographic values (100, 100, 1, 'other')`)
	if _, calls := w.mustRun(); len(calls) != 1 {
		t.Errorf("got calls %v, want the row that came back updated", calls)
	}
	w.exec(`delete from demographic where id = 100`)
	if s, calls := w.mustRun(); len(calls) != 1 || s.Deleted != 1 || s.Totals.Kept != 69 {
		t.Errorf("got calls %v, totals %+v, want the new delete made and the old ones kept", calls, s.Totals)
	}
}

func TestRowsThatReappearLeaveTheHoldByThemselves(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(100)
	w.mustRun()
	back := func(from, to int) {
		for i := from; i <= to; i++ {
			w.exec(`insert into demographic values (?, ?, 1, ?)`, i, i, fmt.Sprintf("login%d", i))
		}
	}
	w.exec(`delete from demographic where id > 30`)
	w.mustRun()
	back(31, 40)
	w.mustRun()
	if h := w.oneHold(syncdb.PlanOpen); h.Ops != 60 {
		t.Errorf("got hold %+v, want 60 ops", h)
	}
	back(41, 100)
	w.converged()
	if h := w.oneHold(syncdb.PlanReleased); h.Ops != 0 || len(w.openIssues()) != 0 {
		t.Errorf("got hold %+v, issues %v", h, w.openIssues())
	}
}

func TestApprovalOfOpsThatAreNoLongerWantedIsReleased(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(40)
	w.mustRun()
	w.exec(`delete from demographic`)
	w.mustRun()
	w.decide(syncdb.PlanApproved)
	for i := 1; i <= 40; i++ {
		w.exec(`insert into demographic values (?, ?, 1, ?)`, i, i, fmt.Sprintf("login%d", i))
	}
	w.converged()
	w.oneHold(syncdb.PlanReleased)
	w.exec(`delete from demographic`) // the same deletes again, for which nobody has been asked
	if s, calls := w.mustRun(); len(calls) != 0 || len(s.HeldBack) != 1 || s.HeldBack[0].Rule != sync.RuleEmptySource {
		t.Errorf("got calls %v, held back %v", calls, s.HeldBack)
	}
}

// discarded is a world in which somebody said no to the deletes of demographics 31 to 100.
func discarded(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	w.fill(100)
	w.mustRun()
	w.exec(`delete from demographic where id > 30`)
	w.mustRun()
	w.decide(syncdb.PlanDiscarded)
	w.mustRun()
	return w
}

func (w *world) demographicsBack(from, to int) {
	w.t.Helper()
	for i := from; i <= to; i++ {
		w.exec(`insert into demographic values (?, ?, 1, ?)`, i, i, fmt.Sprintf("login%d", i))
	}
}

func TestADecisionEndsForRowsThatComeBack(t *testing.T) {
	t.Parallel()
	w := discarded(t)
	w.demographicsBack(31, 90)
	if _, calls := w.mustRun(); len(calls) != 0 {
		t.Errorf("got calls %v, want none: the rows are back as they were", calls)
	}
	if h := w.oneHold(syncdb.PlanDiscarded); h.Ops != 10 || h.Edition != 2 || string(h.Counts) != `{"`+demographics+`":{"delete":10}}` || h.DecidedBy != "ada" {
		t.Errorf("got hold %+v, want the ten deletes that are still asked for, and who decided", h)
	}
	w.exec(`delete from demographic where id between 31 and 35`) // they leave for real
	if s, calls := w.mustRun(); len(calls) != 5 || s.Deleted != 5 || s.Totals.Decided != 10 {
		t.Errorf("got calls %v, totals %+v, want five deletes made and ten kept back", tally(calls), s.Totals)
	}
	w.demographicsBack(31, 35)
	w.demographicsBack(91, 100)
	w.mustRun()
	w.converged()
	if h := w.oneHold(syncdb.PlanReleased); h.Ops != 0 || h.DecidedBy != "ada" {
		t.Errorf("got hold %+v, want it released without calls", h)
	}
}

func TestADecisionEndsForRowsThatChange(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.options.Safeguards.Updates = sync.Limit{Percent: 50, Count: 10}
	w.fill(30)
	w.mustRun()
	w.exec(`update demographic set login = 'x' || login`)
	w.mustRun()
	w.decide(syncdb.PlanDiscarded)
	w.exec(`update demographic set login = 'z' || login where id = 1`)
	w.mustRun()
	if h := w.oneHold(syncdb.PlanDiscarded); h.Ops != 29 {
		t.Errorf("got hold %+v, want 29 updates left", h)
	}
	w.exec(`update demographic set login = 'login1' where id = 1`)
	w.mustRun()
	w.exec(`update demographic set login = 'xlogin1' where id = 1`) // what was discarded once, and then was not asked for
	if _, calls := w.mustRun(); len(calls) != 1 {
		t.Errorf("got calls %v, want the update made", calls)
	}
}

func TestAnApprovalEndsForRowsThatComeBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(100)
	w.mustRun()
	w.exec(`delete from demographic where id > 30`)
	w.mustRun()
	w.decide(syncdb.PlanApproved)
	w.demographicsBack(31, 80)
	w.front.intercept(func(rw http.ResponseWriter, r *http.Request) bool { // nothing is deleted in this run, so the approval stays
		if r.Method == http.MethodDelete {
			rw.WriteHeader(http.StatusConflict)
			return true
		}
		return false
	})
	w.mustRun()
	w.front.intercept(nil)
	if h := w.oneHold(syncdb.PlanApproved); h.Ops != 20 {
		t.Errorf("got hold %+v, want the twenty deletes the source asks for", h)
	}
	w.exec(`delete from demographic where id between 31 and 80`) // nobody has approved these since
	s, calls := w.mustRun()
	if len(calls) != 20 || len(s.HeldBack) != 1 || s.HeldBack[0].Ops != 50 {
		t.Errorf("got calls %v, held back %+v, want the twenty approved made and fifty asked about", tally(calls), s.HeldBack)
	}
}

func TestADecisionOutlastsWhatOnlyLooksLikeItsEnd(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		do   func(w *world)
	}{
		{"rows that are back and break rules", func(w *world) {
			for i := 31; i <= 100; i++ {
				w.exec(`insert into demographic values (?, ?, 1, ?)`, i, i, strings.Repeat("x", 200))
			}
			w.mustRun()
			w.exec(`delete from demographic where id > 30`)
		}},
		{"a scan that breaks off", func(w *world) {
			w.demographicsBack(31, 100)
			e, closeAll := w.engine()
			defer closeAll()
			w.exec(`alter table student rename to elsewhere`)
			if _, err := e.Run(w.t.Context()); err == nil {
				w.t.Fatal("the run went well")
			}
			w.exec(`alter table elsewhere rename to student`)
			w.exec(`delete from demographic where id > 30`)
		}},
		{"a source that is behind", func(w *world) {
			w.exec(`create table clock (seen integer)`)
			w.exec(`insert into clock values (100)`)
			w.pack["watermark.sql"] = &fstest.MapFile{Data: []byte(`select max(seen) from clock`)}
			w.mustRun()
			w.exec(`update clock set seen = 99`)
			w.demographicsBack(31, 100)
			w.mustRun()
			w.exec(`update clock set seen = 101`)
			w.exec(`delete from demographic where id > 30`)
		}},
		{"a resource that is out of scope for a while", func(w *world) {
			query := w.pack["studentEducationOrganizationAssociations.sql"]
			delete(w.pack, "studentEducationOrganizationAssociations.sql")
			w.mustRun()
			w.pack["studentEducationOrganizationAssociations.sql"] = query
		}},
		{"a plan, which writes nothing", func(w *world) {
			w.demographicsBack(31, 100)
			e, closeAll := w.engine()
			defer closeAll()
			if _, err := e.Plan(w.t.Context(), 0); err != nil {
				w.t.Fatal(err)
			}
			w.exec(`delete from demographic where id > 30`)
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := discarded(t)
			tt.do(w)
			s, calls := w.mustRun()
			if h := w.oneHold(syncdb.PlanDiscarded); h.Ops != 70 || h.Edition != 1 || len(calls) != 0 || s.Totals.Decided != 70 {
				t.Errorf("got hold %+v, calls %v, totals %+v: want the decision as it was", h, tally(calls), s.Totals)
			}
		})
	}
}

func TestAHoldWhoseDeletesAnOperatorLetThroughIsApplied(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(100)
	w.mustRun()
	w.exec(`delete from demographic where id > 30`)
	w.mustRun()
	w.exec(`delete from demographic where id = 30`) // and one that was not in the hold
	w.options.Safeguards.ApproveDeletes = []string{demographics}
	s, calls := w.mustRun()
	if h := w.oneHold(syncdb.PlanApplied); len(calls) != 71 || h.Ops != 70 || h.AppliedRun != s.RunID || len(w.holds(syncdb.PlanReleased)) != 0 {
		t.Errorf("got %d calls, hold %+v, want it applied by run %d", len(calls), h, s.RunID)
	}
}

func TestNoApprovalGoesBeforePreventDelete(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(100)
	w.mustRun()
	w.exec(`delete from demographic where id > 30`)
	w.mustRun()
	w.decide(syncdb.PlanApproved)
	w.options.Safeguards.PreventDelete = []string{demographics} // somebody thinks better of it
	if s, calls := w.mustRun(); len(calls) != 0 || s.Totals.Kept != 70 {
		t.Errorf("got calls %v, totals %+v, want nothing deleted", tally(calls), s.Totals)
	}
}

func TestMassUpdateIsHeldBesideCreatesAndDeletes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.options.Safeguards.Updates = sync.Limit{Percent: 50, Count: 10}
	w.fill(30)
	w.mustRun()
	w.exec(`update demographic set login = 'x' || login`) // F67: the mapping, or a column, changed for all
	w.exec(`delete from demographic where id = 1`)
	w.exec(`insert into student values (99, 'S9999', 'New', 'Student', '2010-02-03')`)
	s, calls := w.mustRun()
	if diff := cmp.Diff(tally(calls), map[string]int{"POST ed-fi/students": 1, "DELETE " + demographics: 1}); diff != "" || s.Totals.Kept != 29 {
		t.Errorf("totals %+v, calls (-got +want):\n%s", s.Totals, diff)
	}
	h := w.decide(syncdb.PlanApproved)
	if h.Rule != string(sync.RuleMassUpdate) || h.Verb != syncdb.Update || h.Ops != 29 {
		t.Errorf("got hold %+v", h)
	}
	w.exec(`update demographic set login = 'y' where id = 2`) // not what was approved, but one update alone is no mass update
	if s, calls := w.mustRun(); len(calls) != 29 || len(s.HeldBack) != 0 {
		t.Errorf("got %d calls, held back %v, want 29 updates", len(calls), s.HeldBack)
	}
	w.converged()
}

func TestApprovedUpdateThatChangedIsNotTheApprovedOne(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.options.Safeguards.Updates = sync.Limit{Percent: 50, Count: 10}
	w.fill(30)
	w.mustRun()
	w.exec(`update demographic set login = 'x' || login`)
	w.mustRun()
	w.decide(syncdb.PlanApproved)
	w.exec(`update demographic set login = 'z' || login where id <= 25`) // F63: the approval is stale for these
	s, calls := w.mustRun()
	if len(calls) != 5 || len(s.HeldBack) != 1 || s.HeldBack[0].Ops != 25 {
		t.Errorf("got %d calls, held back %v, want five updates made and 25 held again", len(calls), s.HeldBack)
	}
}

func TestHeldKeyChangeKeepsItsCreateBackToo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(40)
	w.mustRun()
	w.exec(`insert into agency values (2, 'Other', null)`)
	w.exec(`update demographic set agency = 2`) // part of the natural key, on a resource that does not allow its change
	s, calls := w.mustRun()
	if diff := cmp.Diff(tally(calls), map[string]int{"POST ed-fi/localEducationAgencies": 1}); diff != "" {
		t.Errorf("calls (-got +want):\n%s", diff)
	}
	if h := w.decide(syncdb.PlanApproved); h.Ops != 40 || s.Totals.Kept != 80 {
		t.Errorf("got hold %+v and totals %+v, want 40 deletes, and 40 rows beside them", h, s.Totals)
	}
	if _, calls := w.mustRun(); len(calls) != 80 {
		t.Errorf("got %v, want 40 creates and 40 deletes", tally(calls))
	}
	w.oneHold(syncdb.PlanApplied)
	w.converged()
}

func TestParentsOfHeldDeletesStay(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.options.Safeguards.Deletes = sync.Limit{Percent: 20, Count: 1000}
	w.options.Safeguards.ShortSource = sync.Limit{Percent: 100, Count: 1000}
	w.fill(30)
	w.mustRun()
	w.exec(`delete from period`)
	w.exec(`delete from demographic`) // empty tables are held
	w.exec(`delete from student where id = 30`)
	w.exec(`delete from enrolment where id = 30`)
	w.exec(`delete from enrolment where school = 10`)
	w.exec(`delete from school where id = 10`)
	s, calls := w.mustRun()
	if len(calls) != 0 {
		t.Errorf("got calls %v: what held deletes refer to, and are authorised by, has to stay (I6)", calls)
	}
	issues := w.openIssues()
	if issues["dependent-kept"] != 2 || issues["person-still-has-records"] != 15 || s.Totals.Blocked != 17 {
		t.Errorf("got issues %v and totals %+v, want school, student and enrolments to wait", issues, s.Totals)
	}
}

func TestPreventDeleteKeepsRecordsWithoutAsking(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.options.Safeguards.PreventDelete = []string{demographics}
	w.fill(30)
	w.mustRun()
	w.exec(`delete from demographic`)
	s, calls := w.mustRun()
	if len(calls) != 0 || len(s.HeldBack) != 0 || s.Totals.Kept != 30 || s.Totals.Decided != 30 || len(w.holds(syncdb.PlanOpen)) != 0 {
		t.Errorf("got calls %v, held back %v, totals %+v", calls, s.HeldBack, s.Totals)
	}
	if diff := cmp.Diff(w.openIssues(), map[string]int64{"prevent-delete": 30}); diff != "" {
		t.Errorf("issues (-got +want):\n%s", diff)
	}
}

func TestRunWideBreachHoldsAllDeletesOfTheRun(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.options.Safeguards.RunDeletes = sync.Limit{Percent: 5, Count: 20}
	w.fill(100)
	w.mustRun()
	w.exec(`delete from demographic where id > 85`)
	w.exec(`delete from enrolment where id > 85`)
	w.exec(`update student set first = 'Ada' where id = 1`)
	s, calls := w.mustRun()
	if diff := cmp.Diff(tally(calls), map[string]int{"PUT ed-fi/students": 1}); diff != "" {
		t.Errorf("calls (-got +want):\n%s", diff)
	}
	if len(s.HeldBack) != 1 || s.HeldBack[0].Rule != sync.RuleRunDelete || s.HeldBack[0].Ops != 30 {
		t.Errorf("held back %v", s.HeldBack)
	}
	h := w.decide(syncdb.PlanApproved)
	if want := `{"` + demographics + `":{"delete":15},"` + enrolments + `":{"delete":15}}`; h.Resource != "" || string(h.Counts) != want {
		t.Errorf("got hold %+v, want counts %s", h, want)
	}
	if _, calls := w.mustRun(); len(calls) != 30 {
		t.Errorf("got %d calls, want 30 deletes", len(calls))
	}
	w.converged()
}

func TestPlanSaysWhichCallsAreHeldAndWhy(t *testing.T) {
	t.Parallel()
	w := discarded(t)
	w.options.Safeguards.PreventDelete = []string{"ed-fi/classPeriods"}
	w.exec(`delete from period where id = 1`)
	w.exec(`update student set first = 'Ada' where id = 1`)
	e, closeAll := w.engine()
	defer closeAll()
	p, err := e.Plan(t.Context(), 100)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]int{}
	for _, c := range p.Changes {
		got[c.Verb+" "+c.Resource+" "+c.Held]++
	}
	want := map[string]int{
		"delete " + demographics + " somebody discarded hold 1.1":                                                  70,
		"delete ed-fi/classPeriods prevent_delete: the configuration says that nothing of the resource is deleted": 1,
		"update ed-fi/students ": 1,
	}
	if diff := cmp.Diff(got, want); diff != "" {
		t.Errorf("details (-got +want):\n%s", diff)
	}
	if tt := p.Totals; tt.Delete != 71 || tt.Held != 71 || tt.Update != 1 || tt.Calls != 1 || p.Writes() != 1 {
		t.Errorf("got totals %+v, want 72 calls of which 71 are held", tt)
	}
	decided := []sync.Decided{{By: sync.ByDiscard, Hold: 1, Edition: 1, Ops: 70}, {By: sync.ByConfiguration, Resource: "ed-fi/classPeriods", Ops: 1}}
	if diff := cmp.Diff(p.Decided, decided); diff != "" {
		t.Errorf("what is decided (-got +want):\n%s", diff)
	}
}

func TestPlanDoesNotCountAHeldRowAsBlockedToo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.options.Safeguards.Updates = sync.Limit{Percent: 10, Count: 1}
	w.fill(3)
	w.mustRun()
	w.exec(`update school set agency = 99`) // two updates, which are held, of an agency that is not there
	e, closeAll := w.engine()
	defer closeAll()
	p, err := e.Plan(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	s, calls := w.mustRun()
	if tt := p.Totals; tt.Calls != int64(len(calls)) || tt.Held != 2 || s.Totals.Kept != 2 || tt.Blocked != s.Totals.Blocked {
		t.Errorf("planned %+v, the run made %v with totals %+v", tt, tally(calls), s.Totals)
	}
}

func TestPlanSaysWhatPeopleDecided(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(100)
	w.mustRun()
	w.exec(`delete from demographic where id > 30`)
	w.mustRun()
	e, closeAll := w.engine()
	defer closeAll()
	writes := func() int64 {
		t.Helper()
		p, err := e.Plan(t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
		return p.Writes()
	}
	if got := writes(); got != 0 {
		t.Errorf("a plan of held deletes says %d writes", got)
	}
	w.decide(syncdb.PlanApproved)
	if got := writes(); got != 70 {
		t.Errorf("a plan of approved deletes says %d writes, want 70", got)
	}
}
