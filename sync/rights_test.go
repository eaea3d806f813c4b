package sync_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/edfisync/edfisync/edfi"
	"github.com/edfisync/edfisync/sync"
)

// The enrolment of a new student cannot be sent, so the target refuses all other records of hers: that is the enrolment's doing, and nobody else's.
func TestWhatAnEnrolmentWouldGiveTheRightToWaitsForItsRow(t *testing.T) {
	t.Parallel()
	w := newVendorWorld(t)
	w.enrol(1, 4)
	w.exec(`update enrolment set grade = '11' where student = 1`)
	w.exec(`insert into staff values (1, 'T1', 'A', 'B')`)
	f := w.forecast(&edfi.TokenInfo{}, "")
	if f.Fail != 1 || f.Unsure != 2 || !strings.Contains(strings.Join(f.Notes, "\n"), "2 of the rows that would arrive") {
		t.Errorf("forecast %+v: want 1 row that fails, and 2 more where the host authorises by relationship", f)
	}
	s, _ := w.mustRun()
	if s.Totals.Invalid != 1 || s.Totals.Blocked != 2 || s.Failed != 0 {
		t.Errorf("got totals %+v", s.Totals)
	}
	if diff := cmp.Diff(map[string]int64{"descriptor-unmapped": 1, "missing-association": 2}, w.openIssues()); diff != "" {
		t.Errorf("issues (-want +got):\n%s", diff)
	}
	causes, err := sync.RankCauses(t.Context(), w.ledger, w.conn.ID)
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range causes {
		switch {
		case i == 0 && (c.Code != "descriptor-unmapped" || c.Own != 1 || c.Frees != 2):
			t.Errorf("first is %s with %d of its own and %d that wait, want the code to map with 1 and 2", c.Code, c.Own, c.Frees)
		case i > 0 && (!c.Waiting() || c.Owner != "source data"):
			t.Errorf("%s of %s does not wait for the row: %+v", c.Code, c.Resource, c)
		}
	}
	w.exec(`update enrolment set grade = '10' where student = 1`)
	s, _ = w.mustRun()
	clean(t, s)
	w.converged()
}

// A student leaves after the last enrolment was deleted: the target lets nobody delete the rest. It is asked once, and the advice works.
func TestWhatAnEnrolmentGaveTheRightToIsDeletedOnceItIsBack(t *testing.T) {
	t.Parallel()
	w := newVendorWorld(t)
	w.options.Safeguards = lenient()
	w.enrol(1, 4)
	w.mustRun()
	w.exec(`delete from enrolment where student = 1`)
	s, calls := w.mustRun()
	clean(t, s)
	if diff := cmp.Diff([]string{"DELETE ed-fi/studentSchoolAssociations"}, calls); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
	w.leave(1)
	refused := map[string]int{"DELETE ed-fi/studentEducationOrganizationAssociations": 1, "DELETE ed-fi/studentContactAssociations": 1}
	for _, want := range []map[string]int{refused, {}, {}} {
		s, calls = w.mustRun()
		if diff := cmp.Diff(want, tally(calls)); diff != "" {
			t.Errorf("calls (-want +got):\n%s", diff)
		}
		if s.Totals.Rejected != 2 || s.Totals.Blocked != 2 || !cmp.Equal(w.openIssues(), map[string]int64{"no-association": 2, "dependent-kept": 2}) {
			t.Errorf("got totals %+v, issues %v", s.Totals, w.openIssues())
		}
	}
	w.options.RetryRejected = true // somebody asks for it: the host may have given the right
	if _, calls = w.mustRun(); !cmp.Equal(tally(calls), refused) {
		t.Errorf("calls %v, want both deletes tried again", tally(calls))
	}
	w.options.RetryRejected = false

	w.exec(`insert into student values (1, 'S0001', 'First1', 'Surname', '2010-02-03')`)
	w.exec(`insert into enrolment values (90, 1, 10, '2025-10-01', '9')`)
	s, calls = w.mustRun()
	clean(t, s)
	want := map[string]int{"POST ed-fi/studentSchoolAssociations": 1, "DELETE ed-fi/contacts": 1}
	for call, n := range refused {
		want[call] = n
	}
	if diff := cmp.Diff(want, tally(calls)); diff != "" {
		t.Errorf("with an enrolment back: calls (-want +got):\n%s", diff)
	}
	w.leave(1)
	s, calls = w.mustRun()
	clean(t, s)
	if len(calls) != 2 {
		t.Errorf("calls %v, want the enrolment and the student deleted", calls)
	}
	w.converged()
}

// The SIS drops student and enrolment and keeps the student's other rows: the student cannot be deleted for them, and to delete those rows would not help
// either. What is told is what helps.
func TestAStudentWithoutAnEnrolmentUnderOtherRecordsIsToldAsThat(t *testing.T) {
	t.Parallel()
	w := newVendorWorld(t)
	w.options.Safeguards = lenient()
	w.enrol(1, 4)
	w.query("studentEducationOrganizationAssociations.sql", `select d.id as "_key", printf('S%04d', d.student) as "studentReference.studentUniqueId",
		d.agency as "educationOrganizationReference.educationOrganizationId", d.login as "loginId" from demographic d`)
	w.mustRun()
	w.exec(`delete from relation where student = 1`)
	w.exec(`delete from contact where id = 1`)
	w.exec(`delete from enrolment where student = 1`)
	w.exec(`delete from student where id = 1`)
	s, _ := w.mustRun()
	if s.Totals.Blocked != 1 || !cmp.Equal(w.openIssues(), map[string]int64{"no-association": 1}) {
		t.Errorf("got totals %+v, issues %v, want the student to wait for an enrolment", s.Totals, w.openIssues())
	}
	w.exec(`insert into student values (1, 'S0001', 'First1', 'Surname', '2010-02-03')`)
	w.exec(`insert into enrolment values (90, 1, 10, '2025-10-01', '9')`)
	s, _ = w.mustRun()
	clean(t, s)
	w.leave(1)
	s, _ = w.mustRun()
	clean(t, s)
	w.converged()
}
