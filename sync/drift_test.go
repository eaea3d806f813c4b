package sync_test

import (
	"strings"
	"testing"
	"testing/fstest"
)

// A session gets another name, and rows below it still say the old one, which no row of the source has any more: the target re-keys what is below it
// all the same, so nothing that names a record by the old key is sent, in the very run that renames it (I6).
func TestRowsBelowARenamedRecordThatSayItsOldKeyWaitForTheirSource(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		file string // what changes below
		text string
	}{
		{name: "a section", file: "sections.sql", text: `select x.id as "_key", 'ALG-1' as "courseOfferingReference.localCourseCode", 10 as "courseOfferingReference.schoolId",
			2026 as "courseOfferingReference.schoolYear", 'Fall' as "courseOfferingReference.sessionName", x.name as "sectionIdentifier", 'new' as "sectionName" from section x`},
		{name: "two levels down", file: "studentSectionAssociations.sql", text: `select t.id as "_key", st.uid as "studentReference.studentUniqueId", t.begins as "beginDate",
			'ALG-1' as "sectionReference.localCourseCode", 10 as "sectionReference.schoolId", 2026 as "sectionReference.schoolYear", 'Fall' as "sectionReference.sessionName",
			x.name as "sectionReference.sectionIdentifier", 1 as "homeroomIndicator" from seat t join student st on st.id = t.student join section x on x.id = t.section`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newCourses(t, 2)
			w.mustRun()
			before := map[string]*fstest.MapFile{}
			freeze := func(file, text string) {
				before[file] = w.pack[file]
				w.pack[file] = &fstest.MapFile{Data: []byte(text)}
			}
			freeze("courseOfferings.sql", `select o.id as "_key", c.code as "courseReference.courseCode", 1 as "courseReference.educationOrganizationId", o.code as "localCourseCode",
				ss.school as "schoolReference.schoolId", ss.school as "sessionReference.schoolId", 2026 as "sessionReference.schoolYear", 'Fall' as "sessionReference.sessionName"
				from offering o join course c on c.id = o.course join session ss on ss.id = o.session`)
			for _, file := range []string{"sections.sql", "studentSectionAssociations.sql", "grades.sql"} {
				freeze(file, strings.ReplaceAll(string(w.pack[file].Data), `ss.name as "`, `'Fall' as "`))
			}
			w.mustRun() // says the same in other words
			w.pack[c.file] = &fstest.MapFile{Data: []byte(c.text)}
			w.exec(`update session set name = 'Autumn' where id = 1`)
			sum, calls := w.mustRun()
			if got := tally(calls); len(got) != 1 || got["PUT ed-fi/sessions"] != 1 {
				t.Errorf("the run that renames the session made calls %v, want the session's PUT alone", got)
			}
			if n := sum.Totals.Blocked; n == 0 {
				t.Errorf("no row waits for what it refers to: %+v", sum.Totals)
			}
			for file, text := range before {
				w.pack[file] = text
			}
			w.mustRun()
			w.mustRun()
			w.converged()
			w.sameAsFresh()
		})
	}
}
