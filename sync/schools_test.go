package sync_test

import (
	"encoding/json"
	"slices"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/edfisync/edfisync/sync"
	"github.com/edfisync/edfisync/syncdb"
)

// holdings are how many records the target has, by resource.
func (w *world) holdings() map[string]int {
	w.t.Helper()
	out := map[string]int{}
	for _, r := range []string{"schools", "classPeriods", "students", "studentSchoolAssociations", "studentEducationOrganizationAssociations"} {
		out[r] = w.count("ed-fi/" + r)
	}
	return out
}

func records(schools, periods, students, enrolments, demographics int) map[string]int {
	return map[string]int{
		"schools": schools, "classPeriods": periods, "students": students, "studentSchoolAssociations": enrolments, "studentEducationOrganizationAssociations": demographics,
	}
}

// removals are the deletes that wait as out of scope, by resource; another hold fails the test.
func (w *world) removals(s *sync.Summary) map[string]int64 {
	w.t.Helper()
	out := map[string]int64{}
	for _, part := range s.HeldBack {
		if part.Rule != sync.RuleOutOfScope || part.Verb != "delete" || part.Hold == 0 {
			w.t.Errorf("held: %+v", part)
		}
		h, err := w.ledger.PlanByID(w.t.Context(), w.conn.ID, part.Hold)
		if err != nil {
			w.t.Fatal(err)
		}
		var counts map[string]map[string]int64
		if err := json.Unmarshal(h.Counts, &counts); err != nil {
			w.t.Fatal(err)
		}
		err = w.ledger.PlanOps(w.t.Context(), w.conn.ID, part.Hold, func(o syncdb.PlanOp) error { out[o.Resource]++; return nil })
		if err != nil {
			w.t.Fatal(err)
		}
		for resource, n := range out {
			if counts[resource]["delete"] != n {
				w.t.Errorf("the hold counts %v, its calls are %v", counts, out)
			}
		}
	}
	return out
}

// TestAConnectionOfSomeSchoolsSyncsTheirPart: students 1 to 8 are enrolled in turn at schools 11 and 10; class periods 1 and 2 are of school 10.
func TestAConnectionOfSomeSchoolsSyncsTheirPart(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		edit    []string
		schools sync.Schools
		want    map[string]int
	}{
		{"one school", nil, sync.Schools{Only: []int64{10}}, records(1, 2, 4, 4, 4)},
		{"the other", nil, sync.Schools{Only: []int64{11}}, records(1, 0, 4, 4, 4)},
		{"both", nil, sync.Schools{Only: []int64{10, 11}}, records(2, 2, 8, 8, 8)},
		{"all but one", nil, sync.Schools{Except: []int64{10}}, records(1, 0, 4, 4, 4)},
		{"one that is not there", nil, sync.Schools{Only: []int64{12}}, records(0, 0, 0, 0, 0)},
		{"all but one that is not there", nil, sync.Schools{Except: []int64{12}}, records(2, 2, 8, 8, 8)},
		{
			"a student of two schools comes with the enrolment at the one that is synced",
			[]string{`insert into enrolment values (20, 1, 10, '2025-08-18', '9')`},
			sync.Schools{Only: []int64{10}},
			records(1, 2, 5, 5, 5),
		},
		{
			"a student without an enrolment is of no school",
			[]string{`delete from enrolment where student = 2`},
			sync.Schools{Only: []int64{10}},
			records(1, 2, 3, 3, 3),
		},
		{
			"and comes when schools are left out",
			[]string{`delete from enrolment where student = 2`},
			sync.Schools{Except: []int64{11}},
			records(1, 2, 4, 3, 4),
		},
		{
			"an invalid enrolment still tells where its student is",
			[]string{`update enrolment set grade = 'none' where student = 2`},
			sync.Schools{Only: []int64{10}},
			records(1, 2, 4, 3, 4),
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.fill(8)
			for _, statement := range c.edit {
				w.exec(statement)
			}
			w.options.Schools = c.schools
			s, _ := w.mustRun()
			if diff := cmp.Diff(w.holdings(), c.want); diff != "" {
				t.Errorf("the target holds (-got +want):\n%s", diff)
			}
			if len(s.HeldBack) > 0 || s.Totals.Rows != s.Totals.Created+s.Totals.Outside+s.Totals.Invalid+s.Totals.Blocked {
				t.Errorf("held %v, totals %+v", s.HeldBack, s.Totals)
			}
			w.converged()
			w.converged()
		})
	}
}

// TestWhatAScopeLeavesOutIsNeitherChangedNorDeleted: until somebody approves the removal (I5g), which leaves exactly the part.
func TestWhatAScopeLeavesOutIsNeitherChangedNorDeleted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(8)
	w.mustRun()
	w.options.Schools = sync.Schools{Only: []int64{10}}
	edits := []string{
		``,
		`update student set last = 'Changed' where id in (1, 2)`,                                 // one of each school
		`insert into enrolment values (30, 30, 11, '2025-08-18', '9')`,                           // without its student
		`update enrolment set grade = 'none' where id = 3`,                                       // invalid, at the other school
		`delete from demographic where student in (1, 2)`,                                        // one of each school
		`delete from enrolment where student in (5, 7); delete from demographic where student=5`, // of the other school
	}
	want := [][]string{nil, {putStudent}, nil, nil, {deleteDemo}, nil}
	for i, edit := range edits {
		if edit != "" {
			w.exec(edit)
		}
		s, calls := w.mustRun()
		if diff := cmp.Diff(calls, want[i]); diff != "" {
			t.Errorf("after %q: calls (-got +want):\n%s", edit, diff)
		}
		if diff := cmp.Diff(w.removals(s), map[string]int64{
			"ed-fi/schools": 1, "ed-fi/students": 4, "ed-fi/studentSchoolAssociations": 4, "ed-fi/studentEducationOrganizationAssociations": 4,
		}); diff != "" {
			t.Errorf("after %q: held (-got +want):\n%s", edit, diff)
		}
	}
	open, err := w.ledger.Issues(t.Context(), w.conn.ID, true)
	if err != nil {
		t.Fatal(err)
	}
	for _, issue := range open {
		if issue.Code != string(sync.RuleOutOfScope) {
			t.Errorf("issue %s (%s): rows of other schools are nobody's concern", issue.Code, issue.Resource)
		}
	}
	w.decide(syncdb.PlanApproved)
	s, calls := w.mustRun()
	if diff := cmp.Diff(tally(calls), map[string]int{"DELETE ed-fi/schools": 1, deleteStudent: 4, deleteEnrol: 4, deleteDemo: 4}); diff != "" {
		t.Errorf("calls of the removal (-got +want):\n%s", diff)
	}
	if i := slices.Index(calls, deleteEnrol); i < 0 || slices.Contains(calls[i:], deleteDemo) {
		t.Errorf("order of the removal: %v", calls)
	}
	if len(s.HeldBack) > 0 {
		t.Errorf("held after the removal: %v", s.HeldBack)
	}
	if diff := cmp.Diff(w.holdings(), records(1, 2, 4, 4, 3)); diff != "" {
		t.Errorf("the target holds (-got +want):\n%s", diff)
	}
	w.converged()
	w.options.Schools = sync.Schools{}
	w.exec(`update enrolment set grade = '9' where id = 3`)
	w.mustRun()
	if diff := cmp.Diff(w.holdings(), records(2, 2, 8, 6, 5)); diff != "" {
		t.Errorf("with every school again, the target holds (-got +want):\n%s", diff)
	}
}

// TestWhatIsDiscardedStays: nobody is asked again, and a school that is synced again is as if it had never been left out.
func TestARemovalThatIsDiscardedStaysAndEndsWithTheScope(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(8)
	w.mustRun()
	w.options.Schools = sync.Schools{Except: []int64{11}}
	s, calls := w.mustRun()
	if len(calls) > 0 || len(w.removals(s)) != 4 {
		t.Fatalf("calls %v, held %v", calls, s.HeldBack)
	}
	w.decide(syncdb.PlanDiscarded)
	for range 2 {
		if s, calls = w.mustRun(); len(calls)+len(s.HeldBack) > 0 || len(s.Decided) != 1 {
			t.Errorf("calls %v, held %v, decided %v", calls, s.HeldBack, s.Decided)
		}
	}
	w.exec(`update student set last = 'Changed' where id in (1, 2)`)
	w.options.Schools = sync.Schools{}
	if _, calls = w.mustRun(); !cmp.Equal(tally(calls), map[string]int{putStudent: 2}) {
		t.Errorf("calls %v, want the two changes", calls)
	}
	w.converged()
	w.exec(`delete from demographic where student = 1`)
	if _, calls = w.mustRun(); !cmp.Equal(calls, []string{deleteDemo}) {
		t.Errorf("calls %v: what was said of the scope has ended with it", calls)
	}
}

// TestASchoolThatIsSyncedAgainLeavesTheHold by itself.
func TestASchoolThatIsSyncedAgainLeavesTheHold(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(8)
	w.mustRun()
	w.options.Schools = sync.Schools{Only: []int64{10}}
	w.mustRun()
	w.options.Schools = sync.Schools{Only: []int64{10, 11}}
	if s, calls := w.mustRun(); len(calls)+len(s.HeldBack) > 0 {
		t.Errorf("calls %v, held %v", calls, s.HeldBack)
	}
	if n := len(w.holds(syncdb.PlanOpen)); n != 0 {
		t.Errorf("%d holds are open", n)
	}
}

// TestAStudentWhoMovesOutOfTheScope: the enrolment at the school that is synced is deleted only together with what it gives the right to (I6), which somebody
// has to approve.
func TestAStudentWhoMovesOutOfTheScope(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.options.Safeguards = lenient()
	w.fill(8)
	w.options.Schools = sync.Schools{Only: []int64{10}}
	w.mustRun()
	w.exec(`update enrolment set school = 11 where student = 2`)
	s, calls := w.mustRun()
	if len(calls) > 0 || !cmp.Equal(w.removals(s), map[string]int64{"ed-fi/students": 1, "ed-fi/studentEducationOrganizationAssociations": 1}) {
		t.Errorf("calls %v, held %v", calls, s.HeldBack)
	}
	w.decide(syncdb.PlanApproved)
	if _, calls = w.mustRun(); !cmp.Equal(tally(calls), map[string]int{deleteDemo: 1, deleteEnrol: 1, deleteStudent: 1}) {
		t.Errorf("calls %v", calls)
	}
	w.converged()
	w.exec(`update enrolment set school = 10 where student in (1, 2)`)
	if _, calls = w.mustRun(); !cmp.Equal(tally(calls), map[string]int{postStudent: 2, postEnrol: 2, postDemo: 2}) {
		t.Errorf("calls %v, want the students who moved in", calls)
	}
	w.converged()
}

// TestPeopleAreWhereAssociationsTieThem: contacts with their students, staff where they are assigned; what a row of the part refers to comes along.
func TestPeopleAreWhereAssociationsTieThem(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(4) // 2 and 4 at school 10, 1 and 3 at school 11
	w.exec(`create table contact (id integer primary key); create table guardian (contact integer, student integer)`)
	w.exec(`create table staff (id integer primary key); create table assignment (staff integer, place integer)`)
	w.exec(`insert into contact values (1), (2), (3), (4)`)
	w.exec(`insert into guardian values (1, 1), (2, 2), (3, 1), (3, 2)`) // 3 is of both schools, 4 of nobody
	w.exec(`insert into staff values (1), (2), (3), (4), (5)`)
	w.exec(`insert into assignment values (1, 10), (2, 11), (3, 10), (3, 11), (4, 1)`) // 4 is at the district's office, 5 nowhere
	for name, text := range map[string]string{
		"contacts.sql": `select id as "_key", 'C' || id as "contactUniqueId", 'First' as "firstName", 'Last' as "lastSurname" from contact`,
		"studentContactAssociations.sql": `select g.contact || '-' || g.student as "_key", 'C' || g.contact as "contactReference.contactUniqueId",
			s.uid as "studentReference.studentUniqueId" from guardian g join student s on s.id = g.student`,
		"staffs.sql": `select id as "_key", 'T' || id as "staffUniqueId", 'First' as "firstName", 'Last' as "lastSurname" from staff`,
		"staffEducationOrganizationAssignmentAssociations.sql": `select staff || '-' || place as "_key", 'T' || staff as "staffReference.staffUniqueId",
			place as "educationOrganizationReference.educationOrganizationId", '2025-08-01' as "beginDate", 'Teacher' as "staffClassificationDescriptor" from assignment`,
	} {
		w.pack[name] = &fstest.MapFile{Data: []byte(text)}
	}
	descriptors := w.pack["descriptors.yaml"]
	descriptors.Data = append(descriptors.Data, "StaffClassificationDescriptor:\n  Teacher: Teacher\n"...)
	w.options.Schools = sync.Schools{Only: []int64{10}}
	s, _ := w.mustRun()
	if s.Failed+s.Held > 0 {
		t.Fatalf("totals %+v", s.Totals)
	}
	people := func() map[string]int {
		out := map[string]int{}
		for _, r := range []string{"students", "contacts", "studentContactAssociations", "staffs", "staffEducationOrganizationAssignmentAssociations"} {
			out[r] = w.count("ed-fi/" + r)
		}
		return out
	}
	want := map[string]int{"students": 2, "contacts": 2, "studentContactAssociations": 2, "staffs": 2, "staffEducationOrganizationAssignmentAssociations": 2}
	if diff := cmp.Diff(people(), want); diff != "" {
		t.Errorf("of school 10 (-got +want):\n%s", diff)
	}
	w.converged()
	w.options.Schools = sync.Schools{Except: []int64{10}}
	s, calls := w.mustRun()
	if slices.ContainsFunc(calls, func(c string) bool { return c[:4] != "POST" }) {
		t.Errorf("calls %v", calls)
	}
	if diff := cmp.Diff(w.removals(s), map[string]int64{
		"ed-fi/schools": 1, "ed-fi/classPeriods": 2, "ed-fi/students": 2, "ed-fi/studentSchoolAssociations": 2, "ed-fi/studentEducationOrganizationAssociations": 2,
		"ed-fi/contacts": 1, "ed-fi/studentContactAssociations": 2, "ed-fi/staffs": 1, "ed-fi/staffEducationOrganizationAssignmentAssociations": 2,
	}); diff != "" {
		t.Errorf("held (-got +want):\n%s", diff)
	}
	w.decide(syncdb.PlanApproved)
	w.mustRun()
	want = map[string]int{"students": 2, "contacts": 3, "studentContactAssociations": 2, "staffs": 4, "staffEducationOrganizationAssignmentAssociations": 3}
	if diff := cmp.Diff(people(), want); diff != "" {
		t.Errorf("of all but school 10 (-got +want):\n%s", diff)
	}
	w.converged()
}

// TestAdoptTakesNothingOfOtherSchools, and a record of one is not sent alone.
func TestAdoptTakesNothingOfOtherSchools(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(8)
	w.mustRun()
	w.loseLedger()
	w.options.Schools = sync.Schools{Only: []int64{10}}
	e, closeAll := w.engine()
	defer closeAll()
	a, err := e.Adopt(t.Context(), sync.AdoptOptions{Extra: true})
	if err != nil {
		t.Fatal(err)
	}
	adopted := map[string]int64{}
	for _, r := range a.Resources {
		adopted[r.Resource] = r.Adopted
	}
	if diff := cmp.Diff(adopted, map[string]int64{
		"ed-fi/localEducationAgencies": 1, "ed-fi/schools": 1, "ed-fi/classPeriods": 2, "ed-fi/students": 4, "ed-fi/studentSchoolAssociations": 4,
		"ed-fi/studentEducationOrganizationAssociations": 4,
	}); diff != "" {
		t.Errorf("adopted (-got +want):\n%s", diff)
	}
	if s, calls := w.mustRun(); len(calls)+len(s.HeldBack) > 0 {
		t.Errorf("calls %v, held %v", calls, s.HeldBack)
	}
	w.exec(`update student set last = 'Changed' where id in (1, 2)`)
	for student, want := range map[string]string{"1": string(sync.RuleOutOfScope), "2": "updated"} {
		e, closeAll := w.engine()
		defer closeAll()
		sent, err := e.SendOne(t.Context(), sync.RecordName{Resource: "ed-fi/students", SourceKey: student})
		if err != nil || sent.Outcome != want {
			t.Errorf("student %s: %+v, %v; want it %s", student, sent, err, want)
		}
	}
}

// TestARunWithAScopeOfAConnectionOfSomeSchools sends what is in both.
func TestARunWithAScopeOfAConnectionOfSomeSchools(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(8)
	w.mustRun()
	w.options.Schools = sync.Schools{Only: []int64{10}}
	w.exec(`update student set last = 'Changed'`)
	if s, calls := w.mustAsk(sync.Ask{Schools: []int64{11}}); len(calls) > 0 {
		t.Errorf("of the other school: calls %v, totals %+v", calls, s.Totals)
	}
	if s, calls := w.mustAsk(sync.Ask{Schools: []int64{10, 11}, Resources: []string{"students"}}); !cmp.Equal(calls, map[string]int{putStudent: 4}) {
		t.Errorf("of both: calls %v, totals %+v", calls, s.Totals)
	}
	w.decide(syncdb.PlanApproved)
	if _, calls := w.mustAsk(sync.Ask{Schools: []int64{10}}); len(calls) > 0 {
		t.Errorf("calls %v: the removal is of the other school", calls)
	}
	w.mustRun()
	if diff := cmp.Diff(w.holdings(), records(1, 2, 4, 4, 4)); diff != "" {
		t.Errorf("the target holds (-got +want):\n%s", diff)
	}
}

// TestWhatAResourceThatIsOffHasSent stays until somebody approves its removal, which goes in the order of all deletes.
func TestWhatAResourceThatIsOffHasSent(t *testing.T) {
	t.Parallel()
	off := []string{"students", "studentSchoolAssociations", "studentEducationOrganizationAssociations"}
	held := map[string]int64{"ed-fi/students": 3, "ed-fi/studentSchoolAssociations": 3, "ed-fi/studentEducationOrganizationAssociations": 3}
	for _, c := range []struct {
		name  string
		edit  string
		do    func(w *world)
		calls map[string]int
		want  map[string]int
	}{
		{"nobody decides", "", func(*world) {}, map[string]int{}, records(2, 2, 3, 3, 3)},
		{"its rows go", `delete from student; delete from enrolment; delete from demographic`, func(*world) {}, map[string]int{}, records(2, 2, 3, 3, 3)},
		{"approved", "", func(w *world) { w.decide(syncdb.PlanApproved) }, map[string]int{deleteStudent: 3, deleteEnrol: 3, deleteDemo: 3}, records(2, 2, 0, 0, 0)},
		{"discarded", "", func(w *world) { w.decide(syncdb.PlanDiscarded) }, map[string]int{}, records(2, 2, 3, 3, 3)},
		{"on again", "", func(w *world) { w.on(off) }, map[string]int{}, records(2, 2, 3, 3, 3)},
		{"on again after the approval", "", func(w *world) { w.decide(syncdb.PlanApproved); w.on(off) }, map[string]int{}, records(2, 2, 3, 3, 3)},
		{"under prevent_delete", "", func(w *world) {
			w.decide(syncdb.PlanApproved)
			for resource := range held {
				w.options.Safeguards.PreventDelete = append(w.options.Safeguards.PreventDelete, resource)
			}
		}, map[string]int{}, records(2, 2, 3, 3, 3)},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.fill(3)
			w.mustRun()
			for _, resource := range off {
				delete(w.pack, resource+".sql")
			}
			if c.edit != "" {
				w.exec(c.edit)
			}
			s, calls := w.mustRun()
			if diff := cmp.Diff(w.removals(s), held); len(calls) > 0 || diff != "" {
				t.Fatalf("calls %v, held (-got +want):\n%s", calls, diff)
			}
			c.do(w)
			_, calls = w.mustRun()
			if diff := cmp.Diff(tally(calls), c.calls); diff != "" {
				t.Errorf("calls (-got +want):\n%s", diff)
			}
			if diff := cmp.Diff(w.holdings(), c.want); diff != "" {
				t.Errorf("the target holds (-got +want):\n%s", diff)
			}
			w.converged()
		})
	}
}

// on puts resources back into the pack.
func (w *world) on(resources []string) {
	for _, r := range resources {
		w.pack[r+".sql"] = &fstest.MapFile{Data: []byte(sisPack[r+".sql"])}
	}
}

// TestWhatWasApprovedBeforeIsNoApprovalOfARemoval: the deletes of rows that are gone were approved; then the rows are back, and out of the scope (I5). Found by
// the simulation.
func TestWhatWasApprovedBeforeIsNoApprovalOfARemoval(t *testing.T) {
	t.Parallel()
	for name, approve := range map[string]func(w *world){
		"a hold": func(w *world) { w.decide(syncdb.PlanApproved) },
		"--approve-deletes": func(w *world) {
			w.options.Safeguards.ApproveDeletes = []string{"ed-fi/studentEducationOrganizationAssociations"}
		},
		"nothing is let off": func(*world) {},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.fill(4)
			w.mustRun()
			w.exec(`create table aside as select * from demographic`)
			w.exec(`delete from demographic`)
			if s, calls := w.mustRun(); len(calls) > 0 || len(s.HeldBack) != 1 {
				t.Fatalf("calls %v, held %v, want the empty source held", calls, s.HeldBack)
			}
			approve(w)
			w.exec(`insert into demographic select * from aside`)
			w.options.Schools = sync.Schools{Only: []int64{12}}
			s, calls := w.mustRun()
			if len(calls) > 0 || w.removals(s)["ed-fi/studentEducationOrganizationAssociations"] != 4 {
				t.Errorf("calls %v, held %v", calls, s.HeldBack)
			}
			w.options.Schools = sync.Schools{}
			w.converged()
		})
	}
}

// TestASavedPlanRemovesNothingThatIsOutOfScope: the hold is the one place where that is approved.
func TestASavedPlanRemovesNothingThatIsOutOfScope(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(4)
	w.mustRun()
	w.options.Schools = sync.Schools{Only: []int64{10}}
	w.exec(`update student set last = 'Changed'`)
	e, closeAll := w.engine()
	defer closeAll()
	_, saved, err := e.SavePlan(t.Context(), 0)
	if err != nil || saved.Ops != 2 || len(saved.Held) > 0 {
		t.Errorf("saved %+v, %v; want the two updates", saved, err)
	}
}
