package sync_test

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/edfisync/edfisync/sync"
)

// sendOne sends one record and returns what came of it, with the write calls that arrived.
func (w *world) sendOne(name sync.RecordName) (*sync.Sent, []string, error) {
	w.t.Helper()
	e, closeAll := w.engine()
	defer closeAll()
	w.front.take()
	sent, err := e.SendOne(w.t.Context(), name)
	return sent, w.front.take(), err
}

func enrolment(row string) sync.RecordName {
	return sync.RecordName{Resource: "studentSchoolAssociations", SourceKey: row}
}

func TestOneRecordIsSentAloneAndAfterWhatItRefersTo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(5)
	w.mustRun()
	w.exec(`insert into student values (9, 'S0009', 'New', 'Pupil', '2011-01-01')`)
	w.exec(`insert into enrolment values (9, 9, 10, '2025-08-18', '9')`)
	w.exec(`update student set last = 'Changed' where id in (1, 2)`)
	w.exec(`delete from demographic where id = 3`)
	w.exec(`update student set birth = null where id = 4`)
	w.exec(`update period set name = 'P1b' where id = 1`)
	for _, c := range []struct {
		name    string
		record  sync.RecordName
		outcome string
		calls   []string
		code    string
	}{
		{"what it refers to is not there", enrolment("9"), "blocked", nil, "missing-reference"},
		{"a new one", student("S0009"), "created", []string{"POST ed-fi/students"}, ""},
		{"now it is there", enrolment("9"), "created", []string{"POST ed-fi/studentSchoolAssociations"}, ""},
		{"once more", enrolment("9"), "unchanged", nil, ""},
		{"a changed one", student("S0001"), "updated", []string{"PUT ed-fi/students"}, ""},
		{"one that breaks a rule", student("S0004"), "invalid", nil, "required-missing"},
		{"one whose key changed", sync.RecordName{Resource: "classPeriods", SourceKey: "1"}, "held", nil, ""},
	} {
		sent, calls, err := w.sendOne(c.record)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if sent.Outcome != c.outcome || !slices.Equal(calls, c.calls) {
			t.Errorf("%s: got %s with calls %v, want %s with %v", c.name, sent.Outcome, calls, c.outcome, c.calls)
		}
		code := ""
		for _, p := range sent.Problems {
			code = p.Code
		}
		if code != c.code {
			t.Errorf("%s: got problem %q, want %q", c.name, code, c.code)
		}
	}
	if issues, err := w.ledger.Issues(t.Context(), w.conn.ID, true); err != nil || len(issues) != 0 {
		t.Errorf("issues are %v, %v; the blocked row has arrived since", issues, err)
	}
	// The run after does the rest and nothing twice.
	_, calls := w.mustRun()
	want := map[string]int{"PUT ed-fi/students": 1, "PUT ed-fi/classPeriods": 1, "DELETE ed-fi/studentEducationOrganizationAssociations": 1}
	if diff := cmp.Diff(want, tally(calls)); diff != "" {
		t.Errorf("calls of the run (-want +got):\n%s", diff)
	}
	w.converged()
}

func TestRecordThatWasRefusedIsSentWhenItIsNamed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(2)
	w.refuseBodies("students", "S0001", 400, invalidData, "x")
	w.mustRun()
	sent, calls, err := w.sendOne(student("S0001"))
	if err != nil || sent.Outcome != "rejected" || len(calls) != 1 || len(sent.Problems) != 1 || sent.Problems[0].Hint == "" {
		t.Fatalf("got %+v with calls %v and %v, want it refused again, with what to do", sent, calls, err)
	}
	i := slices.IndexFunc(sent.Notes, func(n sync.Note) bool { return n.Attempt != nil })
	if i < 0 || sent.Notes[i].Attempt.Status != 400 || len(sent.Notes[i].Attempt.Answer) == 0 {
		t.Errorf("steps are %+v, want the call with its answer", sent.Notes)
	}
	w.front.intercept(nil)
	if sent, _, err := w.sendOne(student("S0001")); err != nil || sent.Outcome != "created" {
		t.Errorf("got %+v and %v, want it created", sent, err)
	}
	w.mustRun()
	w.converged()
}

func TestRowThatIsNotThereIsNotSent(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(1)
	w.mustRun()
	w.exec(`delete from enrolment`)
	if sent, calls, err := w.sendOne(enrolment("1")); err == nil || len(calls) != 0 {
		t.Errorf("got %+v with calls %v, want an error and none", sent, calls)
	}
}

func TestRowThatSharesItsNaturalKeyIsNotSentAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(3)
	w.mustRun()
	w.exec(`insert into student values (50, 'S0001', 'Somebody', 'Else', '2001-01-01'), (51, 'S0051', 'One', 'Pupil', '2001-01-01'), (52, 'S0051', 'Other', 'Pupil', '2001-01-01')`)
	before := w.records("ed-fi/students")
	for _, row := range []string{"50", "51", "52"} {
		sent, calls, err := w.sendOne(sync.RecordName{Resource: "students", SourceKey: row})
		if err != nil {
			t.Fatalf("row %s: %v", row, err)
		}
		if sent.Outcome != "invalid" || len(calls) != 0 || len(sent.Problems) != 1 || sent.Problems[0].Code != "duplicate-natural-key" {
			t.Errorf("row %s: got %+v with calls %v, want duplicate-natural-key and none", row, sent, calls)
		}
	}
	if sent, calls, err := w.sendOne(sync.RecordName{Resource: "students", SourceKey: "1"}); err != nil || sent.Outcome != "unchanged" || len(calls) != 0 {
		t.Errorf("got %+v with calls %v and %v, want what the target has of the first row unchanged, as in a run", sent, calls, err)
	}
	if diff := cmp.Diff(before, w.records("ed-fi/students")); diff != "" {
		t.Errorf("students at the target (-before +after):\n%s", diff)
	}
	w.exec(`delete from student where id in (50, 52)`)
	if sent, calls, err := w.sendOne(sync.RecordName{Resource: "students", SourceKey: "51"}); err != nil || sent.Outcome != "created" || len(calls) != 1 {
		t.Errorf("got %+v with calls %v and %v, want the row that shares its key no more created", sent, calls, err)
	}
	w.mustRun()
	w.converged()
}

func TestRowThatRefersToASharedNaturalKeyIsNotSentAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(3)
	w.mustRun()
	w.exec(`insert into student values (50, 'S0001', 'Somebody', 'Else', '2001-01-01')`)
	w.exec(`insert into enrolment values (50, 50, 10, '2025-09-09', '9')`)
	w.exec(`update enrolment set grade = '10' where id = 1`)
	sent, calls, err := w.sendOne(enrolment("50"))
	if err != nil || sent.Outcome != "blocked" || len(calls) != 0 || len(sent.Problems) != 1 || sent.Problems[0].Code != "ambiguous-reference" {
		t.Errorf("got %+v with calls %v and %v, want ambiguous-reference and none", sent, calls, err)
	}
	if sent, calls, err := w.sendOne(enrolment("1")); err != nil || sent.Outcome != "updated" || len(calls) != 1 {
		t.Errorf("got %+v with calls %v and %v, want what the target has under the key updated, as in a run", sent, calls, err)
	}
	w.exec(`delete from student where id = 50`)
	w.exec(`delete from enrolment where id = 50`)
	w.mustRun()
	w.converged()
}

func TestRecordThatFollowedItsParentStaysOursWhenItsRowIsSentAlone(t *testing.T) {
	t.Parallel()
	w := newCourses(t, 1)
	w.exec(`delete from grade`)
	w.exec(`delete from seat`)
	w.exec(`delete from section`)
	w.mustRun()
	w.exec(`update offering set code = null where id = 1`) // invalid while its session gets another name
	w.exec(`update session set name = 'Autumn' where id = 1`)
	w.mustRun()
	w.exec(`delete from offering where id = 1`)
	w.exec(`insert into offering values (9, 1, 1, 'ALG-1')`)
	sent, calls, err := w.sendOne(sync.RecordName{Resource: "courseOfferings", SourceKey: "9"})
	if err != nil || sent.Outcome != "updated" || len(calls) != 1 {
		t.Fatalf("got %+v with calls %v and %v, want the record that followed its session met", sent, calls, err)
	}
	w.mustRun()
	w.sameAsFresh()
	w.exec(`delete from offering where id = 9`)
	w.mustRun()
	if n := w.count("ed-fi/courseOfferings"); n != 1 {
		t.Errorf("the target has %d offerings, want the one that has a row: the other is ours (I4)", n)
	}
}
