package sync_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/edfisync/edfisync/edfi"
	"github.com/edfisync/edfisync/sandbox"
	"github.com/edfisync/edfisync/schema"
)

// courseTables are what keys hang on four deep: session ← course offering ← section ← student in section ← grade; and program participations,
// whose key PUT cannot change.
const courseTables = `
create table session (id integer primary key, school integer, name text);
create table course (id integer primary key, code text);
create table offering (id integer primary key, course integer, session integer, code text);
create table section (id integer primary key, offering integer, name text, period integer);
create table seat (id integer primary key, student integer, section integer, begins text);
create table grade (id integer primary key, seat integer, letter text);
create table participation (id integer primary key, student integer, begins text, reason text);
`

const sectionKey = `%[1]s.code as "%[2]s.localCourseCode", ss.school as "%[2]s.schoolId", 2026 as "%[2]s.schoolYear", ss.name as "%[2]s.sessionName"`

func coursePack() map[string]string {
	section := func(reference string) string {
		return fmt.Sprintf(sectionKey, "o", reference)
	}
	return map[string]string{
		"sessions.sql": `select id as "_key", school as "schoolReference.schoolId", 2026 as "schoolYearTypeReference.schoolYear", name as "sessionName",
			'2025-08-18' as "beginDate", '2025-12-20' as "endDate", 'Fall' as "termDescriptor", 80 as "totalInstructionalDays" from session`,
		"gradingPeriods.sql": `select id as "_key", school as "schoolReference.schoolId", 2026 as "schoolYearTypeReference.schoolYear", 'Q1' as "gradingPeriodName",
			'Q1' as "gradingPeriodDescriptor", '2025-08-18' as "beginDate", '2025-10-20' as "endDate", 40 as "totalInstructionalDays" from session`,
		"courses.sql": `select id as "_key", code as "courseCode", code as "courseTitle", 1 as "educationOrganizationReference.educationOrganizationId", 1 as "numberOfParts",
			json_array(json_object('courseIdentificationSystemDescriptor', 'LEA', 'identificationCode', code)) as "identificationCodes" from course`,
		"courseOfferings.sql": `select o.id as "_key", c.code as "courseReference.courseCode", 1 as "courseReference.educationOrganizationId", o.code as "localCourseCode",
			ss.school as "schoolReference.schoolId", ss.school as "sessionReference.schoolId", 2026 as "sessionReference.schoolYear", ss.name as "sessionReference.sessionName"
			from offering o join course c on c.id = o.course join session ss on ss.id = o.session`,
		"sections.sql": `select x.id as "_key", ` + section("courseOfferingReference") + `, x.name as "sectionIdentifier"
			from section x join offering o on o.id = x.offering join session ss on ss.id = o.session`,
		"studentSectionAssociations.sql": `select t.id as "_key", st.uid as "studentReference.studentUniqueId", t.begins as "beginDate", ` + section("sectionReference") + `,
			x.name as "sectionReference.sectionIdentifier"
			from seat t join student st on st.id = t.student join section x on x.id = t.section join offering o on o.id = x.offering join session ss on ss.id = o.session`,
		"grades.sql": `select g.id as "_key", st.uid as "studentSectionAssociationReference.studentUniqueId", t.begins as "studentSectionAssociationReference.beginDate", ` +
			section("studentSectionAssociationReference") + `, x.name as "studentSectionAssociationReference.sectionIdentifier", 'Final' as "gradeTypeDescriptor",
			'Q1' as "gradingPeriodReference.gradingPeriodDescriptor", 'Q1' as "gradingPeriodReference.gradingPeriodName", ss.school as "gradingPeriodReference.schoolId",
			2026 as "gradingPeriodReference.schoolYear", g.letter as "letterGradeEarned"
			from grade g join seat t on t.id = g.seat join student st on st.id = t.student join section x on x.id = t.section join offering o on o.id = x.offering join session ss on ss.id = o.session`,
		"programs.sql": `select id as "_key", 1 as "educationOrganizationReference.educationOrganizationId", 'Reading' as "programName", 'Gifted' as "programTypeDescriptor" from agency where id = 1`,
		"studentProgramAssociations.sql": `select p.id as "_key", st.uid as "studentReference.studentUniqueId", p.begins as "beginDate", 1 as "educationOrganizationReference.educationOrganizationId",
			1 as "programReference.educationOrganizationId", 'Reading' as "programReference.programName", 'Gifted' as "programReference.programTypeDescriptor",
			case when p.reason = 'served' then 1 end as "servedOutsideOfRegularSession"
			from participation p join student st on st.id = p.student`,
		"descriptors.yaml": sisPack["descriptors.yaml"] + `TermDescriptor:
  Fall: Fall Semester
GradingPeriodDescriptor:
  Q1: First Nine Weeks
CourseIdentificationSystemDescriptor:
  LEA: LEA course code
GradeTypeDescriptor:
  Final: Final
ProgramTypeDescriptor:
  Gifted: Gifted and Talented
`,
	}
}

// newCourses is a world with n students, who all sit in both sections of one course, have a grade in each, and take part in a program.
func newCourses(t *testing.T, n int) *world {
	t.Helper()
	w := newWorld(t)
	w.exec(courseTables)
	for name, text := range coursePack() {
		w.pack[name] = &fstest.MapFile{Data: []byte(text)}
	}
	w.fill(n)
	w.exec(`insert into session values (1, 10, 'Fall'), (2, 11, 'Fall')`)
	w.exec(`insert into course values (1, 'ALG-1'), (2, 'ART')`)
	w.exec(`insert into offering values (1, 1, 1, 'ALG-1'), (2, 2, 2, 'ART')`)
	w.exec(`insert into section values (1, 1, 'A1', 1), (2, 1, 'A2', 2)`)
	w.exec(`insert into seat select id * 10 + x, id, x, '2025-08-18' from student, (select 1 as x union select 2)`)
	w.exec(`insert into grade select id, id, 'A' from seat`)
	w.exec(`insert into participation select id, id, '2025-08-18', null from student`)
	w.options.Safeguards = lenient()
	return w
}

// records returns what the target has of a resource, canonical and sorted, without the server's own fields.
func (w *world) records(resource string) []string {
	w.t.Helper()
	e, closeAll := w.engine()
	defer closeAll()
	client, ok := e.Target(func() error { return nil }).(*edfi.Client)
	if !ok {
		w.t.Fatal("target is not a client")
	}
	r, ok := w.model.Resource(resource)
	if !ok {
		w.t.Fatalf("no resource %s", resource)
	}
	var out []string
	err := client.Each(w.t.Context(), resource, edfi.PageOptions{}, func(item json.RawMessage) error {
		c, err := r.Canonical(nil, item)
		out = append(out, string(c))
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	slices.Sort(out)
	return out
}

var allResources = []string{
	"ed-fi/localEducationAgencies", "ed-fi/schools", "ed-fi/classPeriods", "ed-fi/students", "ed-fi/studentSchoolAssociations",
	"ed-fi/studentEducationOrganizationAssociations", "ed-fi/sessions", "ed-fi/gradingPeriods", "ed-fi/courses", "ed-fi/courseOfferings", "ed-fi/sections",
	"ed-fi/studentSectionAssociations", "ed-fi/grades", "ed-fi/programs", "ed-fi/studentProgramAssociations", "ed-fi/bellSchedules",
}

// sameAsFresh fails unless the target holds exactly what a first load of the same SIS into an empty target gives (I1, I2).
func (w *world) sameAsFresh() {
	w.t.Helper()
	fresh := newWorld(w.t)
	fresh.sisPath, fresh.pack = w.sisPath, w.pack
	fresh.mustRun()
	for _, resource := range allResources {
		if _, ok := w.pack[strings.TrimPrefix(resource, "ed-fi/")+".sql"]; !ok {
			continue
		}
		if diff := cmp.Diff(w.records(resource), fresh.records(resource)); diff != "" {
			w.t.Errorf("%s (-target +first load):\n%s", resource, diff)
		}
	}
}

// Natural-key changes: what the SIS does, and the exact calls that follow.
func TestNaturalKeyChanges(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		edit  []string
		calls map[string]int
		order []string // these calls come in this order
	}{
		{
			name:  "a class period is renamed",
			edit:  []string{`update period set name = 'P1 renamed' where id = 1`},
			calls: map[string]int{"PUT ed-fi/classPeriods": 1},
		},
		{
			name:  "a session is renamed: what hangs on it four deep follows in the ledger only",
			edit:  []string{`update session set name = 'Autumn' where id = 1`},
			calls: map[string]int{"PUT ed-fi/sessions": 1},
		},
		{
			name:  "a section is renamed and one of its grades changes",
			edit:  []string{`update section set name = 'A9' where id = 1`, `update grade set letter = 'B' where id = 11`},
			calls: map[string]int{"PUT ed-fi/sections": 1, "PUT ed-fi/grades": 1},
			order: []string{"PUT ed-fi/sections", "PUT ed-fi/grades"},
		},
		{
			name:  "an enrolment begins on another day",
			edit:  []string{`update enrolment set entry = '2025-09-01' where id = 2`},
			calls: map[string]int{"PUT ed-fi/studentSchoolAssociations": 1},
		},
		{
			name:  "a student's seat begins on another day: the grade follows",
			edit:  []string{`update seat set begins = '2025-09-01' where id = 11`},
			calls: map[string]int{"PUT ed-fi/studentSectionAssociations": 1},
		},
		{
			name:  "a participation begins on another day",
			edit:  []string{`update participation set begins = '2025-09-01' where id = 1`},
			calls: map[string]int{"POST ed-fi/studentProgramAssociations": 1, "DELETE ed-fi/studentProgramAssociations": 1},
			order: []string{"POST ed-fi/studentProgramAssociations", "DELETE ed-fi/studentProgramAssociations"},
		},
		{
			name: "a student gets another unique id",
			edit: []string{`update student set uid = 'S9999' where id = 1`},
			calls: map[string]int{
				"POST ed-fi/students": 1, "POST ed-fi/studentSchoolAssociations": 1, "POST ed-fi/studentEducationOrganizationAssociations": 1,
				"POST ed-fi/studentProgramAssociations": 1, "PUT ed-fi/studentSectionAssociations": 2,
				"DELETE ed-fi/students": 1, "DELETE ed-fi/studentSchoolAssociations": 1, "DELETE ed-fi/studentEducationOrganizationAssociations": 1,
				"DELETE ed-fi/studentProgramAssociations": 1,
			},
			order: []string{
				"POST ed-fi/students", "POST ed-fi/studentSchoolAssociations", "PUT ed-fi/studentSectionAssociations",
				"DELETE ed-fi/studentSchoolAssociations", "DELETE ed-fi/students",
			},
		},
		{
			name:  "two class periods of a school swap their names",
			edit:  []string{`update period set name = case id when 1 then 'P2' else 'P1' end`},
			calls: map[string]int{},
		},
		{
			name: "two students swap their unique ids",
			edit: []string{`update student set uid = case id when 1 then 'S0002' else 'S0001' end where id in (1, 2)`},
			// The records stay where their keys are, and get the other student's values. Enrolments: S0001 was at 11, S0002 at 10.
			calls: map[string]int{
				"PUT ed-fi/students": 2, "POST ed-fi/studentSchoolAssociations": 2, "DELETE ed-fi/studentSchoolAssociations": 2,
				"PUT ed-fi/studentEducationOrganizationAssociations": 2,
			},
		},
		{
			name:  "class periods move along: P1 becomes P2, P2 becomes P3",
			edit:  []string{`update period set name = 'P' || (id + 1)`},
			calls: map[string]int{"POST ed-fi/classPeriods": 1, "DELETE ed-fi/classPeriods": 1},
		},
		{
			name:  "a class period moves to another school",
			edit:  []string{`update period set school = 11 where id = 1`},
			calls: map[string]int{"PUT ed-fi/classPeriods": 1},
		},
		{
			name:  "a student moves to another school",
			edit:  []string{`update enrolment set school = 21 - school where id = 1`},
			calls: map[string]int{"PUT ed-fi/studentSchoolAssociations": 1},
		},
		{
			name:  "the SIS makes a row again under another id",
			edit:  []string{`update seat set id = 999 where id = 11`, `update grade set seat = 999 where seat = 11`},
			calls: map[string]int{},
		},
		{
			name: "a section moves to another course",
			edit: []string{`insert into offering values (3, 2, 1, 'ART')`, `update section set offering = 3 where id = 1`},
			calls: map[string]int{
				"POST ed-fi/courseOfferings": 1, "PUT ed-fi/sections": 1,
			},
			order: []string{"POST ed-fi/courseOfferings", "PUT ed-fi/sections"},
		},
		{
			name: "a course is renumbered, and its offering with it: both are made again, with all that hangs on them",
			edit: []string{`update offering set code = 'ALG-9' where id = 1`},
			calls: map[string]int{
				"POST ed-fi/courseOfferings": 1, "PUT ed-fi/sections": 2, "DELETE ed-fi/courseOfferings": 1,
			},
			order: []string{"POST ed-fi/courseOfferings", "PUT ed-fi/sections", "DELETE ed-fi/courseOfferings"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newCourses(t, 4)
			w.mustRun()
			for _, statement := range c.edit {
				w.exec(statement)
			}
			planned := w.plannedCalls()
			s, calls := w.mustRun()
			if planned != int64(len(calls)) {
				t.Errorf("the plan said %d calls, the run made %d", planned, len(calls))
			}
			if diff := cmp.Diff(tally(calls), c.calls); diff != "" {
				t.Errorf("totals %+v, calls (-got +want):\n%s", s.Totals, diff)
			}
			at := -1
			for _, want := range c.order {
				i := slices.Index(calls, want)
				if i <= at {
					t.Errorf("%s comes too early in %v", want, calls)
				}
				at = max(at, i)
			}
			w.converged()
			w.sameAsFresh()
		})
	}
}

// plannedCalls is how many calls a plan announces; every change of a key in it is either an update, a re-creation, or follows.
func (w *world) plannedCalls() int64 {
	w.t.Helper()
	e, closeAll := w.engine()
	defer closeAll()
	p, err := e.Plan(w.t.Context(), 0)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, r := range p.Resources {
		if r.KeyUpdate > r.Update || r.Recreate > min(r.Create, r.Delete) {
			w.t.Errorf("key changes do not fit the calls: %+v", r)
		}
	}
	return p.Writes()
}

// A parent changes its key while something is wrong with a child: once that is mended, nothing is there twice or missing.
func TestKeyChangeOfAParentAndTrouble(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		trouble func(w *world)
		mend    func(w *world)
	}{
		{
			name:    "a child is invalid meanwhile",
			trouble: func(w *world) { w.exec(`update seat set begins = 'soon' where id = 11`) },
			mend:    func(w *world) { w.exec(`update seat set begins = '2025-08-18' where id = 11`) },
		},
		{
			name:    "a child's row goes away in the same run",
			trouble: func(w *world) { w.exec(`delete from grade where id = 11`) },
			mend:    func(*world) {},
		},
		{
			name: "the answer to the parent's PUT is lost",
			trouble: func(w *world) {
				w.front.intercept(func(rw http.ResponseWriter, r *http.Request) bool {
					if r.Method != http.MethodPut || !strings.Contains(r.URL.Path, "sessions") {
						return false
					}
					w.sandbox.Handler().ServeHTTP(httptest.NewRecorder(), r)
					panic(http.ErrAbortHandler)
				})
			},
			mend: func(w *world) { w.front.intercept(nil) },
		},
		{
			name: "the parent's PUT is refused",
			trouble: func(w *world) {
				w.front.intercept(func(rw http.ResponseWriter, r *http.Request) bool {
					if r.Method != http.MethodPut || !strings.Contains(r.URL.Path, "sessions") {
						return false
					}
					rw.Header().Set("Content-Type", "application/problem+json")
					rw.WriteHeader(http.StatusConflict)
					fmt.Fprint(rw, `{"type":"urn:ed-fi:api:conflict:non-unique-identity","title":"Identifying Values Are Not Unique","status":409}`)
					return true
				})
			},
			mend: func(w *world) { w.front.intercept(nil); w.options.RetryRejected = true },
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newCourses(t, 2)
			w.mustRun()
			w.exec(`update session set name = 'Autumn' where id = 1`)
			c.trouble(w)
			_, _, _ = w.run() // what comes of it is checked below
			c.mend(w)
			w.mustRun()
			w.mustRun()
			w.converged()
			w.sameAsFresh()
		})
	}
}

// targetOf puts an API of another version in the target's place. It drops what the tiny pack has that the version's data standard names differently.
func (w *world) targetOf(p sandbox.Personality, standard string) {
	w.t.Helper()
	var err error
	if w.model, err = schema.Bundled(standard); err != nil {
		w.t.Fatal(err)
	}
	if w.sandbox, err = sandbox.New(sandbox.Options{
		Model: w.model, ClientID: "id", ClientSecret: "secret", SchoolYears: []int{2026}, MaxTokens: 1000, Personality: p,
	}); err != nil {
		w.t.Fatal(err)
	}
	w.front.next = w.sandbox.Handler()
	w.pack["pack.yaml"] = &fstest.MapFile{Data: []byte("name: tiny\ndescription: a tiny SIS\nedfi: [\"4.0\", \"5.2\"]\n")}
	if standard == "4.0" { // other natural keys and required elements
		delete(w.pack, "studentEducationOrganizationAssociations.sql")
		delete(w.pack, "gradingPeriods.sql")
		delete(w.pack, "grades.sql")
	}
}

// The three certification scenarios in which a natural key changes, on every version of the API: old ones take a PUT with another key for a
// success and ignore the key, the DMS has its own error bodies.
func TestNaturalKeyChangesOnEveryVersionOfTheAPI(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		like     sandbox.Personality
		standard string
	}{
		{sandbox.ODS53, "4.0"}, {sandbox.ODS61, "4.0"}, {sandbox.ODS73, "4.0"}, {sandbox.ODS73, "5.2"}, {sandbox.DMS, "5.2"},
	} {
		t.Run(string(c.like)+" with data standard "+c.standard, func(t *testing.T) {
			t.Parallel()
			w := newCourses(t, 3)
			w.targetOf(c.like, c.standard)
			w.mustRun()
			w.exec(`update period set name = 'P1 renamed' where id = 1`)
			w.exec(`update participation set begins = '2025-09-01' where id = 1`)
			w.exec(`update enrolment set entry = '2025-09-01' where id = 2`)
			w.exec(`update session set name = 'Autumn' where id = 1`)
			s, calls := w.mustRun()
			want := map[string]int{
				"PUT ed-fi/classPeriods": 1, "PUT ed-fi/studentSchoolAssociations": 1, "PUT ed-fi/sessions": 1,
				"POST ed-fi/studentProgramAssociations": 1, "DELETE ed-fi/studentProgramAssociations": 1,
			}
			if diff := cmp.Diff(tally(calls), want); diff != "" {
				t.Errorf("totals %+v, calls (-got +want):\n%s", s.Totals, diff)
			}
			w.converged()
			for resource, holds := range map[string]string{
				"ed-fi/classPeriods": "P1 renamed", "ed-fi/studentProgramAssociations": "2025-09-01", "ed-fi/studentSchoolAssociations": "2025-09-01",
				"ed-fi/studentSectionAssociations": "Autumn",
			} {
				if got := strings.Join(w.records(resource), "\n"); !strings.Contains(got, holds) {
					t.Errorf("%s: the target does not have %s: %s", resource, holds, got)
				}
			}
			if got := w.count("ed-fi/studentProgramAssociations"); got != 3 {
				t.Errorf("got %d participations, want 3", got)
			}
		})
	}
}
