package sync_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/edfisync/edfisync/sync"
	"github.com/edfisync/edfisync/syncdb"
)

const offerings = "ed-fi/courseOfferings"

// A course gets another code, which is a create and a delete, and the records that refer to it outside their keys are not sent: the target refuses to delete
// the old course, and that is their rows' doing.
func TestARecordUnderItsOldKeyWaitsForTheRowsThatReferToIt(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, code string
		stop, mend func(w *world)
		calls      map[string]int // beside those of the course
	}{
		{
			name: "their updates are held", code: "mass-update",
			stop: func(w *world) {
				w.options.Safeguards.Resources = map[string]sync.ResourceSafeguards{offerings: {Updates: sync.Limit{Percent: 1, Count: 1}}}
			},
			mend: func(w *world) { w.decide(syncdb.PlanApproved) },
		},
		{
			name: "their rows break a rule", code: "too-long",
			stop: func(w *world) { w.exec(`update offering set title = ? where course = 1`, strings.Repeat("x", 200)) },
			mend: func(w *world) { w.exec(`update offering set title = 'Algebra' where course = 1`) },
		},
		{
			name: "the target refuses them", code: "data-validation-failed",
			stop: func(w *world) {
				w.front.intercept(func(rw http.ResponseWriter, r *http.Request) bool {
					refused := r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/courseOfferings/")
					if refused {
						problemJSON(rw, http.StatusBadRequest, "urn:ed-fi:api:bad-request:data-validation-failed", "x")
					}
					return refused
				})
			},
			mend: func(w *world) {
				w.front.intercept(nil)
				w.options.RetryRejected = true
			},
			calls: map[string]int{"PUT " + offerings: 2},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newCourses(t, 1)
			w.exec(`alter table offering add column title text`)
			w.query("courseOfferings.sql", strings.Replace(coursePack()["courseOfferings.sql"], "o.code as", `o.title as "localCourseTitle", o.code as`, 1))
			w.exec(`insert into offering values (3, 1, 1, 'ALG-2', null)`)
			w.mustRun()
			w.exec(`update course set code = 'ALG-9' where id = 1`)
			c.stop(w)
			want := map[string]int{"POST ed-fi/courses": 1, "DELETE ed-fi/courses": 1}
			for call, n := range c.calls {
				want[call] = n
			}
			_, calls := w.mustRun()
			if diff := cmp.Diff(want, tally(calls)); diff != "" {
				t.Errorf("calls (-want +got):\n%s", diff)
			}
			for range 2 {
				if diff := cmp.Diff(map[string]int64{c.code: 2, "dependent-kept": 1}, w.openIssues()); diff != "" {
					t.Errorf("issues (-want +got):\n%s", diff)
				}
				causes, err := sync.RankCauses(t.Context(), w.ledger, w.conn.ID)
				if err != nil {
					t.Fatal(err)
				}
				if causes[0].Code != c.code || causes[0].Own != 2 || causes[0].Frees != 1 || !causes[len(causes)-1].Waiting() {
					t.Errorf("causes %+v: the old course waits for the rows, whoever has to mend these", causes)
				}
				if _, calls = w.mustRun(); len(calls) != 1 || calls[0] != "DELETE ed-fi/courses" {
					t.Errorf("calls %v, want the delete tried again and no other", calls)
				}
			}
			c.mend(w)
			_, calls = w.mustRun()
			if diff := cmp.Diff(map[string]int{"PUT " + offerings: 2, "DELETE ed-fi/courses": 1}, tally(calls)); diff != "" {
				t.Errorf("calls (-want +got):\n%s", diff)
			}
			w.options.RetryRejected = false
			w.converged()
			w.sameAsFresh()
		})
	}
}
