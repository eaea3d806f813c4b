package sync_test

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edfisync/edfisync/sync"
)

func (w *world) trace(name sync.RecordName, data bool) *sync.Trace {
	w.t.Helper()
	e, closeAll := w.engine()
	defer closeAll()
	got, err := e.Trace(w.t.Context(), w.ledger, name, sync.TraceOptions{Data: data})
	if err != nil {
		w.t.Fatal(err)
	}
	return got
}

func student(uid string) sync.RecordName {
	return sync.RecordName{Resource: "ed-fi/students", Key: map[string]string{"studentUniqueId": uid}}
}

func TestTraceShowsARecordFromSourceToTarget(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.options.History = time.Hour
	w.fill(3)
	w.mustRun()
	w.exec(`update student set last = 'Changed' where id = 1`)
	got := w.trace(student("S0001"), true)
	if len(got.Rows) != 1 || got.Rows[0].SourceKey != "1" || !strings.Contains(string(got.Rows[0].Payload), `"Changed"`) {
		t.Errorf("rows are %+v, want row 1 with its payload", got.Rows)
	}
	if len(got.Entries) != 1 || got.Entries[0].State != "live" || got.Entries[0].Origin != "created" || got.Entries[0].EdfiID == "" {
		t.Errorf("entries are %+v, want a live one", got.Entries)
	}
	if len(got.Attempts) != 1 || got.Attempts[0].Status != 201 || !strings.Contains(string(got.Attempts[0].Payload), `"Surname"`) {
		t.Errorf("attempts are %+v, want the create with what was sent", got.Attempts)
	}
	if got.Target == nil || !got.Target.Found || !slices.Equal(got.Target.Differs, []string{"lastSurname"}) || string(got.Target.Fields[0].Before) != `"Surname"` {
		t.Errorf("the target's copy is %+v, want one that differs in lastSurname", got.Target)
	}
	children := map[string]int64{}
	for _, c := range got.Children {
		children[c.Resource] = c.Entries
	}
	if diff := cmp.Diff(map[string]int64{"ed-fi/studentSchoolAssociations": 1, "ed-fi/studentEducationOrganizationAssociations": 1}, children); diff != "" {
		t.Errorf("children (-want +got):\n%s", diff)
	}
	enrolment := w.trace(sync.RecordName{Resource: "studentSchoolAssociations", SourceKey: "1"}, true)
	parents := map[string]string{}
	for _, p := range enrolment.Parents {
		parents[p.Entity] = p.State
	}
	if diff := cmp.Diff(map[string]string{"School": "live", "Student": "live"}, parents); diff != "" {
		t.Errorf("parents (-want +got):\n%s", diff)
	}
}

func TestTraceWithoutDataHoldsNoValue(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.options.History = time.Hour
	w.fill(2)
	w.refuseBodies("students", "S0002", 400, invalidData, "S0002 is not good")
	w.mustRun()
	w.front.intercept(nil)
	w.exec(`update enrolment set grade = 'Secret' where id = 1`)
	w.mustRun()
	for _, name := range []sync.RecordName{
		student("S0001"), student("S0002"), {Resource: "ed-fi/studentSchoolAssociations", SourceKey: "1"}, {Resource: "ed-fi/studentSchoolAssociations", SourceKey: "2"},
	} {
		text, err := json.Marshal(w.trace(name, false))
		if err != nil {
			t.Fatal(err)
		}
		for _, value := range []string{"S0001", "S0002", "First1", "Surname", "2010-02-03", "2025-08-18"} {
			if strings.Contains(string(text), value) {
				t.Errorf("the trace holds %s: %s", value, text)
			}
		}
	}
}

func TestTraceNamesWhatStandsInTheWay(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(2)
	w.exec(`update student set birth = null where id = 1`)
	w.mustRun()
	parent := w.trace(student("S0001"), false)
	if len(parent.Problems) != 1 || parent.Problems[0].Code != "required-missing" || parent.Problems[0].Hint == "" || parent.Target != nil || len(parent.Rows[0].Problems) == 0 {
		t.Errorf("got %+v, want the rule it breaks and what to do", parent)
	}
	var waiting int64
	for _, c := range parent.Children {
		waiting += c.Waiting
	}
	if waiting != 2 {
		t.Errorf("%d rows wait for it, want 2", waiting)
	}
	child := w.trace(sync.RecordName{Resource: "studentSchoolAssociations", SourceKey: "1"}, false)
	i := slices.IndexFunc(child.Parents, func(p sync.TraceParent) bool { return p.Entity == "Student" })
	if i < 0 || child.Parents[i].State != "absent" || child.Parents[i].Issue == 0 {
		t.Errorf("parents are %+v, want the student absent, with its issue", child.Parents)
	}
}

func TestTraceFindsTheEntryOfARowThatIsGoneOrHasAnotherKeyNow(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(2)
	w.mustRun()
	w.exec(`update student set uid = 'NEW' where id = 1`)
	w.exec(`delete from student where id = 2`)
	moved := w.trace(student("NEW"), true)
	if len(moved.Entries) != 1 || !moved.Entries[0].Former || string(moved.Entries[0].NaturalKey) != `["S0001"]` {
		t.Errorf("entries are %+v, want the one under the former key", moved.Entries)
	}
	gone := w.trace(sync.RecordName{Resource: "students", SourceKey: "2"}, true)
	if len(gone.Rows) != 0 || len(gone.Entries) != 1 || string(gone.NaturalKey) != `["S0002"]` || gone.Target == nil || !gone.Target.Found {
		t.Errorf("got %+v, want the entry and the target's copy without a row", gone)
	}
}

func TestNamesThatCannotBeOfARecordAreRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(1)
	e, closeAll := w.engine()
	defer closeAll()
	for name, c := range map[string]struct {
		name sync.RecordName
		want string
	}{
		"an unknown resource":      {sync.RecordName{Resource: "pupils", SourceKey: "1"}, "the model has no resource"},
		"neither key":              {sync.RecordName{Resource: "students"}, "give the natural key, or the source key"},
		"both keys":                {sync.RecordName{Resource: "students", SourceKey: "1", Key: map[string]string{"studentUniqueId": "1"}}, "give the natural key, or the source key"},
		"a part that is not one":   {sync.RecordName{Resource: "students", Key: map[string]string{"uid": "1"}}, "uid is no part of the natural key"},
		"a part that is not given": {sync.RecordName{Resource: "studentSchoolAssociations", Key: map[string]string{"studentUniqueId": "1"}}, "its natural key is: entryDate, schoolId, studentUniqueId"},
	} {
		_, err := e.Trace(t.Context(), w.ledger, c.name, sync.TraceOptions{})
		var unknown *sync.UnknownRecordError
		if !errors.As(err, &unknown) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %s", name, err, c.want)
		}
	}
}

// What the audit trail says was looked at is what the trace shows.
func TestObjectOfARowIsTheHashItsTraceShows(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(1)
	e, closeAll := w.engine()
	defer closeAll()
	name := sync.RecordName{Resource: "students", SourceKey: "1"}
	object, err := e.ObjectOf(name)
	if err != nil {
		t.Fatal(err)
	}
	if got := w.trace(name, false); len(got.Rows) != 1 || object != "ed-fi/students row "+got.Rows[0].SourceHash {
		t.Errorf("the object is %q, and the trace shows %+v", object, got.Rows)
	}
}
