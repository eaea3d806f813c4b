package sync_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/edfisync/edfisync/sync"
	"github.com/edfisync/edfisync/syncdb"
)

// TestAPlanKnowsWhatStaysUnderWhatStays: a plan counts deletes that wait for a record that stays as the run then does, and a saved plan has none of them.
func TestAPlanKnowsWhatStaysUnderWhatStays(t *testing.T) {
	t.Parallel()
	type figures struct{ Calls, Held, Blocked int64 }
	for _, c := range []struct {
		name  string
		edit  string
		ready func(w *world)
		want  figures // of plan and run
		saved int64   // ops of a saved plan, which overrides safeguards
	}{
		{"an invalid row stands for a record below", `delete from student where id = 1; delete from enrolment where id = 1`, func(w *world) {
			w.query("studentEducationOrganizationAssociations.sql", strings.Replace(sisPack["studentEducationOrganizationAssociations.sql"], "join", "left join", 1))
		}, figures{Calls: 1, Blocked: 1}, 1},
		{"a safeguard holds what is below", `delete from demographic; delete from student where id = 1; delete from enrolment where id = 1`,
			func(*world) {}, figures{Held: 12, Blocked: 2}, 14},
		{"a person discarded what is below", `delete from demographic where id = 1; delete from student where id = 1; delete from enrolment where id = 1`, func(w *world) {
			w.options.Safeguards.Resources = map[string]sync.ResourceSafeguards{demographics: {Deletes: sync.Limit{Percent: 1, Count: 1}}}
			w.exec(`delete from demographic where id <= 2`)
			w.mustRun()
			w.decide(syncdb.PlanDiscarded)
		}, figures{Held: 2, Blocked: 2}, 0},
		{"a safeguard holds the new key of what is above", `update student set uid = 'N' || uid where id <= 3`, func(w *world) {
			w.options.Safeguards = lenient()
			w.options.Safeguards.Resources = map[string]sync.ResourceSafeguards{"ed-fi/students": {Deletes: sync.Limit{Percent: 1, Count: 1}}}
		}, figures{Held: 6, Blocked: 12}, 18},
		{"the configuration keeps the old record of a row that refers to what two rows share", `update student set uid = 'S0002' where id = 1`, func(w *world) {
			w.exec(`delete from demographic where id = 2`)
			w.mustRun()
			w.options.Safeguards.PreventDelete = []string{demographics}
		}, figures{Held: 2, Blocked: 2}, 0},
		{"records that were there before us", `delete from demographic where id = 1; delete from student where id = 1; delete from enrolment where id = 1`, func(w *world) {
			w.ledger = newMemLedger(w.t)
			var err error
			if w.conn, w.ring, err = w.ledger.Connection(w.t.Context(), "default", "tiny"); err != nil {
				w.t.Fatal(err)
			}
			w.mustRun()
		}, figures{Blocked: 3}, 0},
		{"nothing stays", `delete from demographic where id = 1; delete from student where id = 1; delete from enrolment where id = 1`, func(*world) {}, figures{Calls: 3}, 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.fill(12)
			w.mustRun()
			c.ready(w)
			w.exec(c.edit)
			e, closeAll := w.engine()
			defer closeAll()
			p, saved, err := e.SavePlan(t.Context(), 0)
			if err != nil {
				t.Fatal(err)
			}
			planned := figures{p.Totals.Calls, p.Totals.Held, p.Totals.Blocked}
			if saved.Ops != c.saved {
				t.Errorf("a saved plan has %d ops, want %d", saved.Ops, c.saved)
			}
			s, _ := w.mustRun()
			done := figures{s.Totals.Calls, s.Totals.Kept, s.Totals.Blocked}
			if diff := cmp.Diff(map[string]figures{"plan": c.want, "run": c.want}, map[string]figures{"plan": planned, "run": done}); diff != "" {
				t.Errorf("calls (-want +got):\n%s", diff)
			}
		})
	}
}
