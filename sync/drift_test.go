package sync_test

import (
	"net/http"
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

// A row that is not what it should be still says the key a record had before its session was renamed, and the row it was made for the new one. The
// POST of that row meets the record: it stays ours (I4), and is deleted when nobody asks for it any more (I1).
func TestRecordThatAnotherRowClaimsByItsOldKeyStaysOurs(t *testing.T) {
	t.Parallel()
	w := newCourses(t, 2)
	const file = "studentSectionAssociations.sql"
	query := string(w.pack[file].Data)
	const claim = ` union all select 'stale', (select uid from student where id = 1), '2025-08-18', 'ALG-1', 10, 2026, 'Fall', 'A1'`
	w.pack[file] = &fstest.MapFile{Data: []byte(query + claim)}
	w.mustRun()
	created := len(w.records("ed-fi/studentSectionAssociations"))
	w.exec(`update session set name = 'Autumn' where id = 1`)
	w.mustRun()
	w.exec(`delete from grade where seat = 11`)
	w.exec(`delete from seat where id = 11`)
	w.pack[file] = &fstest.MapFile{Data: []byte(query)}
	w.mustRun()
	w.mustRun()
	if got := len(w.records("ed-fi/studentSectionAssociations")); got != created-1 {
		t.Errorf("the target has %d associations, want %d: the one without a row is deleted", got, created-1)
	}
	w.converged()
	w.sameAsFresh()
}

// A record got another key with its session while its row, made again under another source key, was invalid. In the run after it cannot be read: it
// may be the invalid row's, and stays (I5f).
func TestRecordWhoseKeyCannotBeReadIsNotDeletedWhileRowsAreInvalid(t *testing.T) {
	t.Parallel()
	w := newCourses(t, 2)
	const file = "studentSectionAssociations.sql"
	query := strings.Replace(string(w.pack[file].Data), `t.begins as "beginDate"`, `t.begins as "beginDate", case when t.id = 77 then 'perhaps' end as "homeroomIndicator"`, 1)
	w.pack[file] = &fstest.MapFile{Data: []byte(query)}
	delete(w.pack, "grades.sql")
	w.mustRun()
	before := len(w.records("ed-fi/studentSectionAssociations"))
	w.exec(`update seat set id = 77 where id = 11`)
	w.exec(`update session set name = 'Autumn' where id = 1`)
	w.mustRun()
	w.front.intercept(func(rw http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodGet || !strings.Contains(r.URL.Path, "studentSectionAssociations/") {
			return false
		}
		rw.WriteHeader(http.StatusServiceUnavailable)
		return true
	})
	_, calls := w.mustRun()
	if n := tally(calls)["DELETE ed-fi/studentSectionAssociations"]; n > 0 {
		t.Errorf("%d associations are deleted, want none: the row of one is invalid", n)
	}
	w.front.intercept(nil)
	w.exec(`update seat set id = 78 where id = 77`)
	w.mustRun()
	w.mustRun()
	if got := len(w.records("ed-fi/studentSectionAssociations")); got != before {
		t.Errorf("the target has %d associations, want %d", got, before)
	}
	w.converged()
	w.sameAsFresh()
}

// More records than a run looks up got other keys with their session while a row, made again under another source key, was invalid: any of those that are
// left may be that row's, and stays (I5f).
func TestRecordsBeyondTheLimitOfLookUpsAreNotDeletedWhileRowsAreInvalid(t *testing.T) {
	t.Parallel()
	w := newCourses(t, 4)
	const file = "studentSectionAssociations.sql"
	query := strings.Replace(string(w.pack[file].Data), `t.begins as "beginDate"`, `t.begins as "beginDate", case when t.id > 1000 then 'perhaps' end as "homeroomIndicator"`, 1)
	w.pack[file] = &fstest.MapFile{Data: []byte(query)}
	delete(w.pack, "grades.sql")
	w.mustRun()
	before := len(w.records("ed-fi/studentSectionAssociations"))
	w.exec(`update seat set id = id + 1000`)
	w.exec(`update session set name = 'Autumn' where id = 1`)
	w.mustRun()
	w.options.LookingUp(2)
	for range 5 {
		if _, calls := w.mustRun(); tally(calls)["DELETE ed-fi/studentSectionAssociations"] > 0 {
			t.Errorf("got calls %v, want no delete: the rows are invalid", calls)
		}
	}
	w.exec(`update seat set id = id - 1000`)
	w.mustRun()
	w.mustRun()
	if got := len(w.records("ed-fi/studentSectionAssociations")); got != before {
		t.Errorf("the target has %d associations, want %d", got, before)
	}
	w.converged()
	w.sameAsFresh()
}
