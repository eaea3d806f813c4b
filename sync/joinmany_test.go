package sync_test

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/edfisync/edfisync/sync"
)

// refuseCreates answers every POST of a resource in the target's place.
func (w *world) refuseCreates(resource string) {
	w.front.intercept(func(rw http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPost || r.URL.Path != "/data/v3/ed-fi/"+resource {
			return false
		}
		rw.WriteHeader(http.StatusBadRequest)
		return true
	})
}

// More records than a run joins get other keys with their parent. Their creates meet them: they stay ours, and go with their rows (I1, I9).
func TestRecordsReKeyedBeyondTheLimitStayOurs(t *testing.T) {
	t.Parallel()
	w := newCourses(t, 3)
	w.mustRun()
	w.options.Joining(2)
	w.exec(`update session set name = 'Autumn' where id = 1`)
	w.settled()
	w.exec(`delete from grade; delete from seat`)
	w.options.Safeguards.ApproveDeletes = []string{"ed-fi/grades", "ed-fi/studentSectionAssociations"}
	w.mustRun()
	if got := w.count("ed-fi/grades") + w.count("ed-fi/studentSectionAssociations"); got != 0 {
		t.Errorf("got %d records without a row, want none: what we created we delete", got)
	}
	w.converged()
}

// The rows of more records than a run joins have other keys, and the target refuses the new ones: the old ones stay until the new ones are there (I5f).
func TestRecordsWhoseNewKeysAreRefusedStayBeyondTheLimit(t *testing.T) {
	t.Parallel()
	w := newCourses(t, 3)
	w.mustRun()
	w.options.Joining(2)
	w.exec(`update participation set begins = '2025-08-19'`)
	w.refuseCreates("studentProgramAssociations")
	for range 2 {
		if _, calls := w.mustRun(); tally(calls)["DELETE ed-fi/studentProgramAssociations"] != 0 {
			t.Errorf("got calls %v, want no delete of what has a row", calls)
		}
	}
	if got := w.count("ed-fi/studentProgramAssociations"); got != 3 {
		t.Errorf("the target has %d, want all 3", got)
	}
	w.front.intercept(nil)
	w.options.RetryRejected = true
	w.settled()
}

// A record gets the key of an invalid row with its parent, among more than a run joins: it stays, and so does what is below it (I5f, I6).
func TestRecordThatGetsTheKeyOfAnInvalidRowStaysBeyondTheLimit(t *testing.T) {
	t.Parallel()
	for _, resource := range []string{"studentSectionAssociations", "grades"} {
		t.Run(resource, func(t *testing.T) {
			t.Parallel()
			w := newCourses(t, 3)
			w.exec(`delete from grade where id > 31`)
			if resource != "grades" {
				w.exec(`delete from grade`)
			}
			w.mustRun()
			before := map[string]int{"seats": w.count("ed-fi/studentSectionAssociations"), "grades": w.count("ed-fi/grades")}
			w.options.Joining(5) // of 6 seats
			w.exec(`update session set name = 'Autumn' where id = 1`)
			pack := coursePack()
			switch resource {
			case "grades": // their rows are made again, and one of them is wrong
				w.exec(`update grade set id = id + 1000`)
				w.query("grades.sql", fmt.Sprintf("select q.*, case when q._key = 1011 then 'A plus' end as \"numericGradeEarned\" from (%s) q", pack["grades.sql"]))
			default:
				w.exec(`update seat set id = id + 1000`)
				w.query("studentSectionAssociations.sql", fmt.Sprintf("select q.*, case when q._key = 1011 then 'no date' end as \"endDate\" from (%s) q", pack["studentSectionAssociations.sql"]))
			}
			for range 2 {
				w.mustRun()
			}
			got := map[string]int{"seats": w.count("ed-fi/studentSectionAssociations"), "grades": w.count("ed-fi/grades")}
			if diff := cmp.Diff(got, before); diff != "" {
				t.Errorf("the target's records (-got +want):\n%s", diff)
			}
			w.query("grades.sql", pack["grades.sql"])
			w.query("studentSectionAssociations.sql", pack["studentSectionAssociations.sql"])
			for range 2 {
				w.settled()
			}
		})
	}
}

// More rows than a run joins have moved to another school year: no delete goes without a person, whatever the limits (F68).
func TestTheNextYearsRowsDeleteNothingBeyondTheLimit(t *testing.T) {
	t.Parallel()
	w := newCourses(t, 3)
	w.exec(`delete from grade; delete from seat; delete from section; delete from offering`)
	w.mustRun()
	w.options.Joining(1)
	w.query("gradingPeriods.sql", `select id as "_key", school as "schoolReference.schoolId", 2027 as "schoolYearTypeReference.schoolYear", 'Q1' as "gradingPeriodName",
		'Q1' as "gradingPeriodDescriptor", '2025-08-18' as "beginDate", '2025-10-20' as "endDate", 40 as "totalInstructionalDays" from session`)
	s, calls := w.mustRun()
	if tally(calls)["DELETE ed-fi/gradingPeriods"] != 0 || len(s.HeldBack) != 1 || s.HeldBack[0].Rule != sync.RuleRollover {
		t.Errorf("got calls %v and %+v held back, want the deletes held for the new school year", calls, s.HeldBack)
	}
}
