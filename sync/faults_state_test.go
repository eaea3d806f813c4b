package sync_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edfisync/edfisync/sandbox"
)

// Faults of the target's state, by their numbers in the catalogue: what we left there is not there any more, or not as it was.

// F29: the ODS is wiped. A resync creates everything again, each record once; nothing is deleted.
func TestF29TargetIsWiped(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(20)
	w.mustRun()
	if err := w.sandbox.Wipe(); err != nil {
		t.Fatal(err)
	}
	s, calls := w.resync()
	if s.Created != s.Totals.Rows || int64(len(calls)) != s.Totals.Rows {
		t.Errorf("got %d calls and totals %+v, want each row created by one call", len(calls), s.Totals)
	}
	w.converged()
	w.sameAsFresh()
}

// F30: the ODS is restored to yesterday. A resync puts today's edits, creates and deletes there again, and nothing else; a record whose delete was undone
// is deleted only once somebody has adopted it.
func TestF30TargetIsRestoredToYesterday(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(20)
	w.mustRun()
	w.sandbox.Snapshot("yesterday")
	w.edit(1)
	w.mustRun()
	w.sameAsFresh()
	if err := w.sandbox.Restore("yesterday"); err != nil {
		t.Fatal(err)
	}
	_, calls := w.resync()
	for _, c := range calls {
		if strings.HasPrefix(c, "DELETE") {
			t.Errorf("calls %v: a record that the ledger does not know was deleted (I9)", calls)
		}
	}
	w.converged()
	back := w.idOf("studentEducationOrganizationAssociations", "studentUniqueId=S0002") // its row went today
	w.neighbour(http.MethodDelete, "studentEducationOrganizationAssociations/"+back, "", http.StatusNoContent)
	w.sameAsFresh()
}

// F31: another client edits and deletes our records. It is noticed when we next write the record, and put right then; only what changed is written.
func TestF31OtherClientChangesOurRecords(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(6)
	w.mustRun()
	edited := w.idOf("studentEducationOrganizationAssociations", "studentUniqueId=S0001")
	w.neighbour(http.MethodPut, "studentEducationOrganizationAssociations/"+edited,
		`{"studentReference":{"studentUniqueId":"S0001"},"educationOrganizationReference":{"educationOrganizationId":1},"loginId":"theirs"}`, http.StatusNoContent)
	deleted := w.idOf("studentEducationOrganizationAssociations", "studentUniqueId=S0002")
	w.neighbour(http.MethodDelete, "studentEducationOrganizationAssociations/"+deleted, "", http.StatusNoContent)
	w.converged() // nothing changed in the source: nothing is written
	w.exec(`update demographic set login = login || '!' where id <= 2`)
	s, calls := w.mustRun()
	want := map[string]int{"PUT ed-fi/studentEducationOrganizationAssociations": 2, "POST ed-fi/studentEducationOrganizationAssociations": 1}
	if diff := cmp.Diff(want, tally(calls)); diff != "" || s.Failed != 0 {
		t.Errorf("got totals %+v, calls (-want +got):\n%s", s.Totals, diff)
	}
	w.converged()
	w.sameAsFresh()
}

// foldingTarget gives the world a target that compares keys without case and trailing spaces.
func (w *world) foldingTarget() {
	w.t.Helper()
	s, err := sandbox.New(sandbox.Options{
		Model: w.model, ClientID: "id", ClientSecret: "secret", SchoolYears: []int{2026}, MaxTokens: 1000, CaseInsensitiveKeys: true,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.sandbox, w.front.next = s, s.Handler()
}

// F32: the target compares keys without case and trailing spaces. A key edit of case only makes no second record and deletes none (the fifth mechanism),
// whether the connection is told so or not.
func TestF32CaseInsensitiveKeys(t *testing.T) {
	t.Parallel()
	t.Run("and the connection knows", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.foldingTarget()
		w.foldKeys = true
		w.fill(6)
		w.mustRun()
		w.exec(`update student set uid = 's0001' where id = 1`)
		w.exec(`update period set name = 'p1' where id = 1`)
		w.converged()
		w.exec(`update student set last = 'Renamed' where id = 1`) // the record can still be written
		s, calls := w.mustRun()
		if diff := cmp.Diff([]string{"PUT ed-fi/students", "POST ed-fi/students"}, calls); diff != "" || s.Failed != 0 || s.Updated != 1 {
			t.Errorf("got totals %+v, calls (-want +got):\n%s", s.Totals, diff)
		}
		if got := strings.Join(w.records("ed-fi/students"), ""); !strings.Contains(got, `"lastSurname":"Renamed"`) || !strings.Contains(got, "S0001") {
			t.Errorf("got %s, want the record renamed, in the target's spelling", got)
		}
		w.converged()
		// Two rows whose keys differ by case are one record: named, and neither takes the other's place.
		w.exec(`insert into student values (1000, 'S0002', 'Twin', 'Surname', '2010-02-03')`)
		w.exec(`update student set uid = 's0002' where id = 1000`)
		if s, calls := w.mustRun(); s.Totals.Invalid == 0 || len(calls) != 0 {
			t.Errorf("got totals %+v and calls %v, want duplicates named and nothing sent", s.Totals, calls)
		}
		if got := w.count("ed-fi/students"); got != 6 {
			t.Errorf("got %d students, want 6", got)
		}
	})
	t.Run("and the connection does not know", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.foldingTarget()
		w.options.Safeguards = lenient()
		w.fill(6)
		w.mustRun()
		w.exec(`update student set uid = 's0001' where id = 1`)
		w.exec(`update period set name = 'p1' where id = 1`)
		for range 2 {
			_, calls := w.mustRun()
			for _, c := range calls {
				if strings.HasPrefix(c, "DELETE") {
					t.Errorf("calls %v: a record of a live row was deleted (I5d)", calls)
				}
			}
		}
		w.converged()
		for resource, want := range map[string]int{"ed-fi/students": 6, "ed-fi/classPeriods": 2, "ed-fi/studentSchoolAssociations": 6, "ed-fi/studentEducationOrganizationAssociations": 6} {
			if got := w.count(resource); got != want {
				t.Errorf("got %d %s, want %d", got, resource, want)
			}
		}
	})
	t.Run("and a trailing space comes with a key", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.foldingTarget()
		w.foldKeys = true
		w.fill(6)
		w.mustRun()
		w.exec(`update student set uid = 'S0001 ' where id = 1`)
		for range 2 {
			_, calls := w.mustRun()
			for _, c := range calls {
				if !strings.HasPrefix(c, "PUT") {
					t.Errorf("calls %v: a trailing space makes no new record and deletes none", calls)
				}
			}
		}
		if got := w.count("ed-fi/students"); got != 6 {
			t.Errorf("got %d students, want 6", got)
		}
	})
}

// F33: the target cascades a changed key to all that refers to it. Our own change is one PUT, and the ledger follows; one that somebody else made behind our
// back blocks what still says the old key, makes nothing twice, and ends when the SIS has it too.
func TestF33CascadedKeyChange(t *testing.T) {
	t.Parallel()
	t.Run("of ours", func(t *testing.T) {
		t.Parallel()
		w := newCourses(t, 3)
		w.mustRun()
		w.exec(`update session set name = 'Autumn' where id = 1`)
		_, calls := w.mustRun()
		if diff := cmp.Diff([]string{"PUT ed-fi/sessions"}, calls); diff != "" {
			t.Errorf("calls (-want +got):\n%s", diff)
		}
		w.converged()
		w.sameAsFresh()
	})
	t.Run("of another client", func(t *testing.T) {
		t.Parallel()
		w := newCourses(t, 3)
		w.mustRun()
		id := w.idOf("sessions", "schoolId=10")
		w.neighbour(http.MethodPut, "sessions/"+id, `{"sessionName":"Autumn","beginDate":"2025-08-18","endDate":"2025-12-20","totalInstructionalDays":80,
			"termDescriptor":"uri://ed-fi.org/TermDescriptor#Fall Semester","schoolReference":{"schoolId":10},"schoolYearTypeReference":{"schoolYear":2026}}`, http.StatusNoContent)
		w.exec(`update grade set letter = 'B' where id = 11`)
		s, _ := w.mustRun()
		if s.Totals.Blocked != 1 || s.Created+s.Deleted != 0 {
			t.Errorf("got totals %+v, want the grade blocked and nothing else done", s.Totals)
		}
		w.exec(`update session set name = 'Autumn' where id = 1`)
		w.heals()
	})
}

// F34: a descriptor is removed from the target. Rows that use it are refused and named, others go on; once it is back, or another one is mapped, they are
// sent again on request or with the new mapping.
func TestF34DescriptorIsRemoved(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(6)
	w.mustRun()
	id := w.idOf("gradeLevelDescriptors", "codeValue=Tenth%20grade")
	w.neighbour(http.MethodDelete, "gradeLevelDescriptors/"+id, "", http.StatusNoContent)
	w.exec(`update enrolment set grade = '10' where id <= 2`)
	w.exec(`update student set last = 'Renamed' where id = 5`)
	s, calls := w.mustRun()
	if s.Totals.Rejected != 2 || !w.hasIssue("descriptor-unknown") || tally(calls)["PUT ed-fi/students"] != 1 {
		t.Errorf("got totals %+v, want two rows refused and the student updated", s.Totals)
	}
	w.neighbour(http.MethodPost, "gradeLevelDescriptors", `{"codeValue":"Tenth grade","namespace":"uri://ed-fi.org/GradeLevelDescriptor","shortDescription":"Tenth grade"}`, http.StatusCreated)
	w.options.RetryRejected = true
	w.heals()
}

// F35: the claim set is narrowed in the middle of a load. What it no longer allows is refused and named, the rest goes on; when it is back, the next run does
// what is left by itself.
func TestF35ClaimSetIsNarrowedDuringALoad(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(80)
	w.breakCalls(sandbox.FaultRule{Method: http.MethodPost, Resource: "ed-fi/studentEducationOrganizationAssociations", Nth: 10, Always: true, Kind: sandbox.FaultDenied})
	s, _ := w.mustRun()
	if s.Totals.Rejected != 71 || !w.hasIssue("claim-denied") || w.count("ed-fi/studentSchoolAssociations") != 80 {
		t.Errorf("got totals %+v, want 71 rows refused and everything else there", s.Totals)
	}
	w.heals()
}

// F36: the target shows a new record late. A create whose answer was lost and whose row is gone since is looked up by key until the target must show it, and
// deleted: "not found" right after a POST is not believed.
func TestF36RecordIsSeenLate(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(6)
	w.mustRun()
	w.options.SettleDelay = 3 * time.Second
	w.exec(`insert into student values (1000, 'S1000', 'New', 'Surname', '2010-02-03')`)
	w.breakCalls(sandbox.FaultRule{Method: http.MethodPost, Resource: "ed-fi/students", Always: true, Kind: sandbox.FaultLate, Delay: 2 * time.Second})
	var lost atomic.Int64
	w.front.intercept(func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, "/students") {
			w.sandbox.Handler().ServeHTTP(httptest.NewRecorder(), r)
			lost.Add(1)
			panic(http.ErrAbortHandler)
		}
		return false
	})
	w.mustRun()
	w.front.intercept(nil)
	w.exec(`delete from student where id = 1000`)
	s, calls := w.mustRun()
	if lost.Load() == 0 || s.Deleted != 1 {
		t.Errorf("%d answers were lost, got totals %+v and calls %v; want the orphan found and deleted (I4)", lost.Load(), s.Totals, calls)
	}
	w.heals()
}
