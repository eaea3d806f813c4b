package sandbox

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestPostCreatesThenUpdatesByNaturalKey(t *testing.T) {
	t.Parallel()
	c := start(t)
	first := c.must(http.StatusCreated, http.MethodPost, "students/", studentBody)
	if first.Body != "" || len(first.id()) != 32 || first.etag() == "" {
		t.Errorf("got body %q, headers %v", first.Body, first.Header)
	}
	if want := c.s.URL() + "/data/v3/ed-fi/students/"; !strings.HasPrefix(first.Header.Get("Location"), want) {
		t.Errorf("Location %s, want %s…", first.Header.Get("Location"), want)
	}
	same := c.must(http.StatusOK, http.MethodPost, "Students", ` { "LASTSURNAME":"Brown","firstName":"\u0054yrone","middleName":null,"unknown":{"a":[1]},
		"studentUniqueId" : "604822", "birthDate":"2010-01-13", "addresses":[] } `)
	if same.id() != first.id() || same.etag() != first.etag() {
		t.Errorf("an equal body: got %s %s, want %s %s", same.id(), same.etag(), first.id(), first.etag())
	}
	changed := c.must(http.StatusOK, http.MethodPost, "students", strings.Replace(studentBody, "Tyrone", "Ty", 1))
	if changed.id() != first.id() || changed.etag() == first.etag() {
		t.Errorf("another body: got %s %s", changed.id(), changed.etag())
	}
	want := Counts{Created: 1, Updated: 1, Unchanged: 1, RepeatedWrites: 1, RepeatedKeys: 1}
	if d := cmp.Diff(want, c.s.Stats().Counts); d != "" {
		t.Errorf("counts (-want +got):\n%s", d)
	}
}

func TestGetShowsWhatTheServerAdds(t *testing.T) {
	t.Parallel()
	c := start(t)
	c.district()
	a := c.must(http.StatusOK, http.MethodGet, "studentSchoolAttendanceEvents", "")
	id, school := c.first("studentSchoolAttendanceEvents"), c.first("schools")
	for _, want := range []string{
		`[{"id":"` + id + `","attendanceEventCategoryDescriptor":"uri://ed-fi.org/AttendanceEventCategoryDescriptor#Excused Absence",`,
		`"eventDate":"2025-09-03"`,
		`"schoolReference":{"schoolId":255901001,"link":{"rel":"School","href":"/ed-fi/schools/` + school + `"}}`,
		`"_etag":"5`, `"_lastModifiedDate":"20`,
	} {
		if !strings.Contains(a.Body, want) {
			t.Errorf("%s is not in %s", want, a.Body)
		}
	}
	c.must(http.StatusOK, http.MethodGet, "studentSchoolAttendanceEvents/"+id, "")
	courses := c.must(http.StatusOK, http.MethodGet, "courses", "")
	if !strings.Contains(courses.Body, `"educationOrganizationReference":{"educationOrganizationId":255901001,"link":{"rel":"School",`) {
		t.Errorf("the link of an abstract reference does not name the kind: %s", courses.Body)
	}
}

func TestUpdatesReplaceTheWholeRecord(t *testing.T) {
	t.Parallel()
	c := start(t)
	full := strings.Replace(studentBody, `"firstName"`, `"middleName":"J","otherNames":[{"otherNameTypeDescriptor":"uri://ed-fi.org/OtherNameTypeDescriptor#Nickname","firstName":"T","lastSurname":"B"}],"firstName"`, 1)
	id := c.must(http.StatusCreated, http.MethodPost, "students", full).id()
	put := c.must(http.StatusNoContent, http.MethodPut, "students/"+id, `{"id":"ignored",`+studentBody[1:])
	if put.id() != id {
		t.Errorf("Location of PUT: %s", put.Header.Get("Location"))
	}
	a := c.must(http.StatusOK, http.MethodGet, "students/"+id, "")
	if strings.Contains(a.Body, "middleName") || !strings.Contains(a.Body, `"otherNames":[]`) {
		t.Errorf("omitted elements are still there: %s", a.Body)
	}
	if a.etag() != put.etag() {
		t.Errorf("ETag of GET %s, of PUT %s", a.etag(), put.etag())
	}
}

func TestOrderOfItemsAndCaseOfDescriptorsDoNotChangeARecord(t *testing.T) {
	t.Parallel()
	c := start(t)
	two := `"gradeLevels":[{"gradeLevelDescriptor":"uri://ed-fi.org/GradeLevelDescriptor#Ninth grade"},{"gradeLevelDescriptor":"uri://ed-fi.org/GradeLevelDescriptor#Tenth grade"}]`
	swapped := `"gradeLevels":[{"gradeLevelDescriptor":"uri://ed-fi.org/GRADELEVELDescriptor#tenth grade"},{"gradeLevelDescriptor":"uri://ed-fi.org/GradeLevelDescriptor#Ninth grade"}]`
	head, _, _ := strings.Cut(schoolBody, `"gradeLevels"`)
	first := c.must(http.StatusCreated, http.MethodPost, "schools", head+two+"}")
	again := c.must(http.StatusOK, http.MethodPost, "schools", head+swapped+"}")
	if first.etag() != again.etag() {
		t.Error("the record changed")
	}
	if a := c.must(http.StatusOK, http.MethodGet, "schools/"+first.id(), ""); !strings.Contains(a.Body, "GradeLevelDescriptor#Tenth grade") {
		t.Errorf("the descriptor does not show in its stored casing: %s", a.Body)
	}
}

func TestETagsGuardReadsAndWrites(t *testing.T) {
	t.Parallel()
	c := start(t)
	a := c.must(http.StatusCreated, http.MethodPost, "students", studentBody)
	path := "students/" + a.id()
	c.must(http.StatusNotModified, http.MethodGet, path, "", "If-None-Match: "+a.etag())
	c.must(http.StatusOK, http.MethodGet, path, "", `If-None-Match: "`+a.etag()+`"`) // the ODS never matches a quoted one
	b := c.must(http.StatusNoContent, http.MethodPut, path, strings.Replace(studentBody, "Tyrone", "Ty", 1), `If-Match: "`+a.etag()+`"`)
	c.must(http.StatusPreconditionFailed, http.MethodPut, path, studentBody, "If-Match: "+a.etag())
	c.must(http.StatusPreconditionFailed, http.MethodDelete, path, "", "If-Match: "+a.etag())
	c.must(http.StatusNoContent, http.MethodDelete, path, "", "If-Match: "+b.etag())
	c.must(http.StatusNotFound, http.MethodDelete, path, "")
	if got := c.s.Stats().RepeatedWrites; got != 1 {
		t.Errorf("a DELETE that came twice: repeatedWrites %d, want 1", got)
	}
}

func TestDeleteNeedsDependentsGone(t *testing.T) {
	t.Parallel()
	c := start(t)
	c.district()
	student := "students/" + c.first("students")
	for _, dependent := range []string{"studentSchoolAttendanceEvents", "studentSectionAssociations", "studentSchoolAssociations"} {
		c.must(http.StatusConflict, http.MethodDelete, student, "")
		c.must(http.StatusNoContent, http.MethodDelete, dependent+"/"+c.first(dependent), "")
	}
	c.must(http.StatusNoContent, http.MethodDelete, student, "")
	c.must(http.StatusCreated, http.MethodPost, "students", studentBody)
}

func TestReferencesMayLeaveOutWhatUnificationGives(t *testing.T) {
	t.Parallel()
	c := start(t)
	c.district()
	c.must(http.StatusCreated, http.MethodPost, "classPeriods", `{"classPeriodName":"01","schoolReference":{"schoolId":255901001}}`)
	c.must(http.StatusCreated, http.MethodPost, "bellSchedules", `{"bellScheduleName":"Day","schoolReference":{"schoolId":255901001},"classPeriods":[{"classPeriodReference":{"classPeriodName":"01"}}]}`)
	a := c.must(http.StatusOK, http.MethodGet, "bellSchedules", "")
	if !strings.Contains(a.Body, `"classPeriodReference":{"classPeriodName":"01","schoolId":255901001,`) {
		t.Errorf("got %s", a.Body)
	}
}

func TestKeyChangeCascadesThroughKeysOfKeys(t *testing.T) {
	t.Parallel()
	c := start(t)
	c.district()
	session := "sessions/" + c.first("sessions")
	roster := c.must(http.StatusOK, http.MethodGet, "studentSectionAssociations", "")
	c.must(http.StatusNoContent, http.MethodPut, session, strings.Replace(sessionBody, `"Fall"`, `"Autumn"`, 1))
	after := c.must(http.StatusOK, http.MethodGet, "studentSectionAssociations", "")
	if !strings.Contains(after.Body, `"sessionName":"Autumn"`) || strings.Contains(after.Body, `"sessionName":"Fall"`) {
		t.Errorf("the roster still shows the old name: %s", after.Body)
	}
	if roster.Body[:40] != after.Body[:40] {
		t.Errorf("the roster's id changed: %s, then %s", roster.Body[:40], after.Body[:40])
	}
	c.must(http.StatusConflict, http.MethodPost, "studentSectionAssociations", rosterBody) // names the old session
	c.must(http.StatusOK, http.MethodPost, "studentSectionAssociations", strings.Replace(rosterBody, "Fall", "Autumn", 1))
	c.must(http.StatusCreated, http.MethodPost, "sessions", sessionBody) // the old name is free
	c.must(http.StatusConflict, http.MethodPut, session, sessionBody)    // and taken again
}

func TestKeyChangeMovesUnifiedReferencesAlong(t *testing.T) {
	t.Parallel()
	c := start(t)
	c.district()
	session := "sessions/" + c.first("sessions")
	moved := strings.Replace(sessionBody, "255901001", "255901002", 1)
	if a := c.must(http.StatusConflict, http.MethodPut, session, moved); a.Problem.Detail != "The referenced 'School' item does not exist." {
		t.Errorf("to a school that does not exist: %s", a.Problem.Detail)
	}
	c.must(http.StatusCreated, http.MethodPost, "schools", strings.Replace(schoolBody, "255901001", "255901002", 1))
	if a := c.must(http.StatusNoContent, http.MethodPut, session, moved); a.Body != "" {
		t.Error(a.Body)
	}
	for _, path := range []string{"courseOfferings", "sections", "studentSectionAssociations", "studentSchoolAttendanceEvents"} {
		a := c.must(http.StatusOK, http.MethodGet, path, "")
		if strings.Contains(a.Body, `"schoolId":255901001`) || !strings.Contains(a.Body, `"schoolId":255901002`) {
			t.Errorf("%s did not move: %s", path, a.Body)
		}
	}
	offered := strings.NewReplacer(`"schoolReference":{"schoolId":255901001`, `"schoolReference":{"schoolId":255901002`,
		`"sessionReference":{"schoolId":255901001`, `"sessionReference":{"schoolId":255901002`).Replace(offerBody)
	c.must(http.StatusOK, http.MethodPost, "courseOfferings", offered)
	checkIntegrity(t, c.s)
}

// A grade is reached through its section's new key twice: with the session, and once the section meets in the class period of the other school.
func TestKeyChangeReachesARecordOnTwoWays(t *testing.T) {
	t.Parallel()
	c := start(t)
	c.district()
	const (
		period  = `{"classPeriodName":"P1","schoolReference":{"schoolId":255901001}}`
		quarter = `{"gradingPeriodName":"Q1","gradingPeriodDescriptor":"uri://ed-fi.org/GradingPeriodDescriptor#First Nine Weeks","beginDate":"2025-08-20","endDate":"2025-10-20","totalInstructionalDays":40,"schoolReference":{"schoolId":255901001},"schoolYearTypeReference":{"schoolYear":2026}}`
		grade   = `{"gradeTypeDescriptor":"uri://ed-fi.org/GradeTypeDescriptor#Final","letterGradeEarned":"A","gradingPeriodReference":{"gradingPeriodDescriptor":"uri://ed-fi.org/GradingPeriodDescriptor#First Nine Weeks","gradingPeriodName":"Q1","schoolId":255901001,"schoolYear":2026},` +
			`"studentSectionAssociationReference":{"beginDate":"2025-08-23","localCourseCode":"ALG-1","schoolId":255901001,"schoolYear":2026,"sectionIdentifier":"S1","sessionName":"Fall","studentUniqueId":"604822"}}`
	)
	moved := func(body string) string { return strings.ReplaceAll(body, "255901001", "255901002") }
	c.must(http.StatusCreated, http.MethodPost, "schools", moved(schoolBody))
	for _, p := range [][2]string{{"classPeriods", period}, {"gradingPeriods", quarter}} {
		c.must(http.StatusCreated, http.MethodPost, p[0], p[1])
		c.must(http.StatusCreated, http.MethodPost, p[0], moved(p[1]))
	}
	c.must(http.StatusOK, http.MethodPost, "sections", strings.Replace(sectionBody, `{`, `{"classPeriods":[{"classPeriodReference":{"classPeriodName":"P1"}}],`, 1))
	c.must(http.StatusCreated, http.MethodPost, "grades", grade)
	c.must(http.StatusNoContent, http.MethodPut, "sessions/"+c.first("sessions"), moved(sessionBody))
	for _, path := range []string{"sections", "studentSectionAssociations", "grades"} {
		a := c.must(http.StatusOK, http.MethodGet, path, "")
		if strings.Contains(a.Body, `"schoolId":255901001`) || !strings.Contains(a.Body, `"schoolId":255901002`) {
			t.Errorf("%s did not move: %s", path, a.Body)
		}
	}
	checkIntegrity(t, c.s)
}

// On its way to another school and another name an absence has, for a moment, the new name and the old school, which another absence may have for good.
func TestKeyChangeMayPassAKeyThatIsTaken(t *testing.T) {
	t.Parallel()
	c := start(t)
	c.district()
	const (
		absence = `{"attendanceEventCategoryDescriptor":"uri://ed-fi.org/AttendanceEventCategoryDescriptor#Tardy","eventDate":"2025-09-02","schoolReference":{"schoolId":255901001},` +
			`"sessionReference":{"schoolId":255901001,"schoolYear":2026,"sessionName":"Fall"},"studentReference":{"studentUniqueId":"604822"}}`
	)
	fall := c.first("sessions")
	spring := func(body string) string { return strings.ReplaceAll(body, `"Fall"`, `"Spring"`) }
	moved := func(body string) string { return strings.ReplaceAll(body, "255901001", "255901002") }
	c.must(http.StatusCreated, http.MethodPost, "schools", moved(schoolBody))
	c.must(http.StatusCreated, http.MethodPost, "sessions", spring(sessionBody))
	c.must(http.StatusCreated, http.MethodPost, "studentSchoolAttendanceEvents", absence)
	c.must(http.StatusCreated, http.MethodPost, "studentSchoolAttendanceEvents", spring(absence))
	c.must(http.StatusNoContent, http.MethodPut, "sessions/"+fall, spring(moved(sessionBody)))
	c.must(http.StatusOK, http.MethodPost, "studentSchoolAttendanceEvents", spring(moved(absence))) // it went along
	c.must(http.StatusOK, http.MethodPost, "studentSchoolAttendanceEvents", spring(absence))
	checkIntegrity(t, c.s)
}

func TestKeyChangeByUpdatableResources(t *testing.T) {
	t.Parallel()
	c := start(t)
	c.district()
	id := c.first("studentSchoolAssociations")
	c.must(http.StatusNoContent, http.MethodPut, "studentSchoolAssociations/"+id, strings.Replace(enrolBody, "2025-08-23", "2025-08-30", 1))
	a := c.must(http.StatusOK, http.MethodGet, "studentSchoolAssociations/"+id, "")
	if !strings.Contains(a.Body, `"entryDate":"2025-08-30"`) {
		t.Errorf("got %s", a.Body)
	}
	c.must(http.StatusOK, http.MethodPost, "studentSchoolAssociations", strings.Replace(enrolBody, "2025-08-23", "2025-08-30", 1))
	checkIntegrity(t, c.s)
}

func TestKeysWithoutCaseFindTheRecordAndKeepItsSpelling(t *testing.T) {
	t.Parallel()
	c := start(t, func(o *Options) { o.CaseInsensitiveKeys = true })
	id := c.must(http.StatusCreated, http.MethodPost, "students", strings.Replace(studentBody, "604822", "Ab1", 1)).id()
	again := c.must(http.StatusOK, http.MethodPost, "students", strings.Replace(studentBody, "604822", "aB1", 1))
	if again.id() != id {
		t.Error("another record was made")
	}
	a := c.must(http.StatusOK, http.MethodGet, "students/"+id, "")
	if !strings.Contains(a.Body, `"studentUniqueId":"Ab1"`) {
		t.Errorf("the spelling changed: %s", a.Body)
	}
	c.must(http.StatusBadRequest, http.MethodPut, "students/"+id, strings.Replace(studentBody, "604822", "aB1", 1))
	if a := c.must(http.StatusOK, http.MethodGet, "students?studentUniqueId=AB1", ""); !strings.Contains(a.Body, id) {
		t.Errorf("not found by another spelling: %s", a.Body)
	}
}

func TestDescriptorsCanBeAddedAndUsedAtOnce(t *testing.T) {
	t.Parallel()
	c := start(t)
	body := `{"namespace":"uri://state.edu/TermDescriptor","codeValue":"Intersession","shortDescription":"Intersession"}`
	id := c.must(http.StatusCreated, http.MethodPost, "termDescriptors", body).id()
	c.must(http.StatusCreated, http.MethodPost, "schools", schoolBody)
	c.must(http.StatusCreated, http.MethodPost, "sessions", strings.Replace(sessionBody, "uri://ed-fi.org/TermDescriptor#Fall Semester", "uri://state.edu/TermDescriptor#Intersession", 1))
	c.must(http.StatusBadRequest, http.MethodPut, "termDescriptors/"+id, strings.Replace(body, `"Intersession","s`, `"Other","s`, 1))
	c.must(http.StatusConflict, http.MethodDelete, "termDescriptors/"+id, "")
	for _, bad := range []string{strings.Replace(body, "uri://state.edu/", "state/", 1), strings.Replace(body, "Intersession", "a#b", 1)} {
		c.must(http.StatusBadRequest, http.MethodPost, "termDescriptors", bad)
	}
}

func TestValuesAreNormalisedAsAnODSStoresThem(t *testing.T) {
	t.Parallel()
	c := start(t)
	c.district()
	c.must(http.StatusCreated, http.MethodPost, "classPeriods", `{"classPeriodName":"01","schoolReference":{"schoolId":"0xf40bd49"},"officialAttendancePeriod":"true","meetingTimes":[{"startTime":"08:15","endTime":"10:05:30-05:00"}]}`)
	a := c.must(http.StatusOK, http.MethodGet, "classPeriods", "")
	for _, want := range []string{`"startTime":"08:15:00"`, `"endTime":"15:05:30"`, `"officialAttendancePeriod":true`, `"schoolId":255901001`} {
		if !strings.Contains(a.Body, want) {
			t.Errorf("%s is not in %s", want, a.Body)
		}
	}
}

func TestLongCollectionsAreCheckedForRepeatedItems(t *testing.T) {
	t.Parallel()
	c := start(t)
	c.district()
	var periods []string
	for i := range 100 {
		name := fmt.Sprint("P", i)
		c.must(http.StatusCreated, http.MethodPost, "classPeriods", `{"classPeriodName":"`+name+`","schoolReference":{"schoolId":255901001}}`)
		periods = append(periods, `{"classPeriodReference":{"classPeriodName":"`+name+`"}}`)
	}
	body := func(items []string) string {
		return `{"bellScheduleName":"Day","schoolReference":{"schoolId":255901001},"classPeriods":[` + strings.Join(items, ",") + `]}`
	}
	c.must(http.StatusCreated, http.MethodPost, "bellSchedules", body(periods))
	a := c.must(http.StatusBadRequest, http.MethodPost, "bellSchedules", body(append(periods, periods[3])))
	want := "The 101st item of the BellScheduleClassPeriods has the same identifying values as another item earlier in the list."
	if got := a.Problem.ValidationErrors["$.classPeriods"]; len(got) != 1 || got[0] != want {
		t.Errorf("got %q", got)
	}
}

func TestManyPostsOfOneKeyMakeOneRecord(t *testing.T) {
	t.Parallel()
	c := start(t)
	const n = 32
	var mu sync.Mutex
	got := map[int]int{}
	ids := map[string]bool{}
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			a := c.do(http.MethodPost, "students", strings.Replace(studentBody, "Tyrone", fmt.Sprint("N", i%3), 1))
			mu.Lock()
			defer mu.Unlock()
			got[a.Status]++
			ids[a.id()] = true
		})
	}
	wg.Wait()
	if d := cmp.Diff(map[int]int{http.StatusCreated: 1, http.StatusOK: n - 1}, got); d != "" || len(ids) != 1 {
		t.Errorf("%d ids, answers (-want +got):\n%s", len(ids), d)
	}
}

func TestParentsDeletedWhileChildrenArriveLeaveNothingDangling(t *testing.T) {
	t.Parallel()
	c := start(t)
	c.must(http.StatusCreated, http.MethodPost, "schools", schoolBody)
	for round := range 20 {
		student := strings.Replace(studentBody, "604822", fmt.Sprint(round), 1)
		id := c.must(http.StatusCreated, http.MethodPost, "students", student).id()
		var wg sync.WaitGroup
		var child, parent answer
		wg.Go(func() {
			child = c.do(http.MethodPost, "studentSchoolAssociations", strings.Replace(enrolBody, "604822", fmt.Sprint(round), 1))
		})
		wg.Go(func() { parent = c.do(http.MethodDelete, "students/"+id, "") })
		wg.Wait()
		if (child.Status == http.StatusCreated) == (parent.Status == http.StatusNoContent) {
			t.Fatalf("child %d, parent %d", child.Status, parent.Status)
		}
	}
	checkIntegrity(t, c.s)
}

// checkIntegrity checks by looking at every record: no dangling reference, inbound counts right, index complete and unique.
func checkIntegrity(t testing.TB, s *Server) {
	t.Helper()
	checkWhole(t, s)
}

func checkWhole(t interface{ Errorf(string, ...any) }, s *Server) {
	st := s.store
	inbound := map[address]int32{}
	live := map[*space]int{}
	for _, tb := range s.cat.tables {
		var rows []uint32
		tb.each(func(n uint32, _ []byte) bool { rows = append(rows, n); return true })
		if int64(len(rows)) != tb.live {
			t.Errorf("%s: %d rows, live says %d", tb.path, len(rows), tb.live)
		}
		for _, n := range rows {
			live[tb.space]++
			rec := tb.arena.bytes(tb.row(n).at)
			c := cursor{rec}
			c.links(tb.shape, func(p *prop, entry uint32) bool {
				a := p.targetSpace().address(entry)
				inbound[a]++
				if a.table.liveRow(a.row) == nil {
					t.Errorf("%s row %d: dangling %s", tb.path, n, p.Name)
				}
				return true
			})
			if got := tb.space.index[st.hash.sum(st.appendKey(nil, tb, rec, st.folding(tb)))]; got != tb.entry(n) {
				t.Errorf("%s row %d: the index has %d, want %d", tb.path, n, got, tb.entry(n))
			}
		}
	}
	for _, sp := range s.cat.spaces {
		if len(sp.index) != live[sp] {
			t.Errorf("%s: %d index entries, %d rows", sp.name, len(sp.index), live[sp])
		}
	}
	for _, tb := range s.cat.tables {
		tb.each(func(n uint32, _ []byte) bool {
			if got, want := tb.row(n).inbound.Load(), inbound[address{tb, n}]; got != want {
				t.Errorf("%s row %d: inbound %d, want %d", tb.path, n, got, want)
			}
			return true
		})
	}
}
