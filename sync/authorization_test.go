package sync_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/edfisync/edfisync/sandbox"
	"github.com/edfisync/edfisync/sync"
)

// Staff and contacts beside the tiny SIS's students, for the relationships that go through them.
const peopleSchema = `
create table staff (id integer primary key, uid text, first text, last text);
create table assignment (id integer primary key, staff integer, agency integer, begun text);
create table contact (id integer primary key, uid text, first text, last text);
create table relation (id integer primary key, student integer, contact integer, prime integer);
`

var peoplePack = map[string]string{
	"staffs.sql": `select id as "_key", uid as "staffUniqueId", first as "firstName", last as "lastSurname" from staff`,
	"staffEducationOrganizationAssignmentAssociations.sql": `-- path: edorg = educationOrganizationReference.educationOrganizationId
select a.id as "_key", s.uid as "staffReference.staffUniqueId", a.agency as "edorg", a.begun as "beginDate",
	'Teacher' as "staffClassificationDescriptor" from assignment a join staff s on s.id = a.staff`,
	"contacts.sql": `select id as "_key", uid as "contactUniqueId", first as "firstName", last as "lastSurname" from contact`,
	"studentContactAssociations.sql": `select r.id as "_key", s.uid as "studentReference.studentUniqueId", c.uid as "contactReference.contactUniqueId",
	case prime when 1 then 'true' else 'false' end as "primaryContactStatus" from relation r join student s on s.id = r.student join contact c on c.id = r.contact`,
}

const (
	adminID   = "admin"
	neighbour = "neighbour" // another vendor of the same API, for another agency
)

// newVendorWorld is a world whose API belongs to somebody else: its organizations are there, our client has the SIS Vendor claim set for agency
// 1, a neighbour the same for agency 2 with school 20. The mapping pack has no organizations.
func newVendorWorld(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	w.exec(peopleSchema)
	w.exec(`insert into agency values (1, 'District', null), (2, 'Neighbour', null)`)
	w.exec(`insert into school values (10, 'North', 1), (11, 'South', 1), (20, 'Far', 2)`)
	if err := w.sandbox.SetClient(sandbox.Client{ID: adminID, Secret: "secret"}); err != nil {
		t.Fatal(err)
	}
	w.mustRun() // with full access still: the API's host loads its organizations
	for id, agency := range map[string]int64{"id": 1, neighbour: 2} {
		if err := w.sandbox.SetClient(sandbox.Client{ID: id, Secret: "secret", ClaimSet: sandbox.SISVendor, EducationOrganizations: []int64{agency}}); err != nil {
			t.Fatal(err)
		}
	}
	delete(w.pack, "localEducationAgencies.sql")
	delete(w.pack, "schools.sql")
	for name, text := range peoplePack {
		w.pack[name] = &fstest.MapFile{Data: []byte(text)}
	}
	descriptors := w.pack["descriptors.yaml"].Data
	w.pack["descriptors.yaml"] = &fstest.MapFile{Data: append(bytes.Clone(descriptors), "StaffClassificationDescriptor:\n  Teacher: Teacher\n"...)}
	w.ledger = newMemLedger(t)
	var err error
	if w.conn, w.ring, err = w.ledger.Connection(t.Context(), "default", "tiny"); err != nil {
		t.Fatal(err)
	}
	return w
}

// enrol adds n students from number first on, with enrolment, demographics, and a contact each.
func (w *world) enrol(first, n int) {
	w.t.Helper()
	for i := first; i < first+n; i++ {
		w.exec(`insert into student values (?, ?, ?, 'Surname', '2010-02-03')`, i, fmt.Sprintf("S%04d", i), fmt.Sprintf("First%d", i))
		w.exec(`insert into enrolment values (?, ?, ?, '2025-08-18', '9')`, i, i, 10+i%2)
		w.exec(`insert into demographic values (?, ?, 1, ?)`, i, i, fmt.Sprintf("login%d", i))
		w.exec(`insert into contact values (?, ?, ?, 'Surname')`, i, fmt.Sprintf("C%04d", i), fmt.Sprintf("Parent%d", i))
		w.exec(`insert into relation values (?, ?, ?, 1)`, i, i, i)
	}
}

// leave removes everything of a student from the SIS.
func (w *world) leave(student int) {
	w.t.Helper()
	for _, table := range []string{"relation", "demographic", "enrolment"} {
		w.exec(`delete from `+table+` where student = ?`, student)
	}
	w.exec(`delete from contact where id = ?`, student)
	w.exec(`delete from student where id = ?`, student)
}

// as makes one call as another client of the API and returns its status and, of a POST, the id.
func (w *world) as(client, method, path, body string) (status int, id string) {
	w.t.Helper()
	srv := httptest.NewServer(w.sandbox.Handler())
	defer srv.Close()
	base, data := srv.URL, "/data/v3/ed-fi/"
	if w.api == sandbox.DMS {
		base, data = srv.URL+"/api", "/data/ed-fi/"
	}
	form := url.Values{"grant_type": {"client_credentials"}, "client_id": {client}, "client_secret": {"secret"}}
	r, err := http.PostForm(base+"/oauth/token", form)
	if err != nil {
		w.t.Fatal(err)
	}
	text, err := io.ReadAll(r.Body)
	r.Body.Close()
	if err != nil {
		w.t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), `"access_token":"`)
	token, _, _ := strings.Cut(rest, `"`)
	req, err := http.NewRequestWithContext(w.t.Context(), method, base+data+path, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/json")
	if r, err = http.DefaultClient.Do(req); err != nil {
		w.t.Fatal(err)
	}
	defer r.Body.Close()
	location := r.Header.Get("Location")
	return r.StatusCode, location[strings.LastIndexByte(location, '/')+1:]
}

// mustAs is as that has to answer with a status.
func (w *world) mustAs(client string, want int, method, path, body string) (id string) {
	w.t.Helper()
	status, id := w.as(client, method, path, body)
	if status != want {
		w.t.Fatalf("%s: %s %s: got %d, want %d", client, method, path, status, want)
	}
	return id
}

// codes are the codes of the connection's open issues.
func (w *world) codes() []string {
	w.t.Helper()
	issues, err := w.ledger.Issues(w.t.Context(), w.conn.ID, true)
	if err != nil {
		w.t.Fatal(err)
	}
	var out []string
	for _, i := range issues {
		out = append(out, i.Code)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// clean fails unless nothing was held, failed, blocked or refused.
func clean(t *testing.T, s *sync.Summary) {
	t.Helper()
	if s.Held+s.Failed != 0 {
		t.Errorf("held or failed: totals %+v", s.Totals)
	}
}

func TestAVendorsFirstLoadIsOneCallARecord(t *testing.T) {
	t.Parallel()
	w := newVendorWorld(t)
	w.enrol(1, 20)
	w.exec(`insert into staff values (1, 'T1', 'A', 'B'), (2, 'T2', 'C', 'D')`)
	w.exec(`insert into assignment values (1, 1, 1, '2025-08-01'), (2, 2, 1, '2025-08-01')`)
	s, calls := w.mustRun()
	clean(t, s)
	want := map[string]int{
		"POST ed-fi/students": 20, "POST ed-fi/studentSchoolAssociations": 20, "POST ed-fi/studentEducationOrganizationAssociations": 20,
		"POST ed-fi/contacts": 20, "POST ed-fi/studentContactAssociations": 20,
		"POST ed-fi/staffs": 2, "POST ed-fi/staffEducationOrganizationAssignmentAssociations": 2,
	}
	if diff := cmp.Diff(want, tally(calls)); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
	w.converged()
}

func TestAVendorsEditsGoThroughRelationships(t *testing.T) {
	t.Parallel()
	w := newVendorWorld(t)
	w.enrol(1, 4)
	w.exec(`insert into staff values (1, 'T1', 'A', 'B')`)
	w.exec(`insert into assignment values (1, 1, 1, '2025-08-01')`)
	w.mustRun()
	w.exec(`update student set last = 'New' where id = 1`)
	w.exec(`update demographic set login = 'new' where student = 2`)
	w.exec(`update contact set last = 'New' where id = 3`)
	w.exec(`update relation set prime = 0 where id = 3`)
	w.exec(`update staff set last = 'New' where id = 1`)
	w.exec(`update enrolment set school = 11 where student = 4`) // to another school of ours: a key change by PUT
	w.exec(`update enrolment set entry = '2025-09-01' where student = 1`)
	s, calls := w.mustRun()
	clean(t, s)
	want := map[string]int{
		"PUT ed-fi/students": 1, "PUT ed-fi/studentEducationOrganizationAssociations": 1, "PUT ed-fi/contacts": 1, "PUT ed-fi/studentContactAssociations": 1,
		"PUT ed-fi/staffs": 1, "PUT ed-fi/studentSchoolAssociations": 2,
	}
	if diff := cmp.Diff(want, tally(calls)); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
	w.converged()
}

// What authorises us for a person is deleted after everything we need it for (I6).
func TestAPersonWhoLeavesIsDeletedInTheOnlyOrderThatWorks(t *testing.T) {
	t.Parallel()
	w := newVendorWorld(t)
	w.enrol(1, 5)
	w.exec(`insert into staff values (1, 'T1', 'A', 'B'), (2, 'T2', 'A', 'B')`)
	w.exec(`insert into assignment values (1, 1, 1, '2025-08-01'), (2, 2, 1, '2025-08-01')`)
	w.mustRun()
	w.leave(2)
	w.exec(`delete from assignment where id = 1`)
	w.exec(`delete from staff where id = 1`)
	s, calls := w.mustRun()
	clean(t, s)
	if s.Deleted != 7 {
		t.Errorf("%d deletes, want 7: totals %+v", s.Deleted, s.Totals)
	}
	at := func(resource string) int {
		i := slices.Index(calls, "DELETE ed-fi/"+resource)
		if i < 0 {
			t.Errorf("no DELETE of %s in %v", resource, calls)
		}
		return i
	}
	for _, before := range [][2]string{
		{"studentEducationOrganizationAssociations", "studentSchoolAssociations"}, {"studentContactAssociations", "studentSchoolAssociations"},
		{"studentSchoolAssociations", "students"}, {"studentContactAssociations", "contacts"}, {"staffEducationOrganizationAssignmentAssociations", "staffs"},
	} {
		if at(before[0]) > at(before[1]) {
			t.Errorf("%s was deleted after %s", before[0], before[1])
		}
	}
	w.converged()
}

// In an API that several vendors share a student may be there before us, and is not ours until the enrolment is (engine.md §4).
func TestAStudentOfAnotherVendorIsTakenOverAfterTheEnrolment(t *testing.T) {
	t.Parallel()
	w := newVendorWorld(t)
	w.mustAs(neighbour, 201, "POST", "students", `{"studentUniqueId":"S0001","birthDate":"2010-02-03","firstName":"Theirs","lastSurname":"Surname"}`)
	w.mustAs(neighbour, 201, "POST", "studentSchoolAssociations", `{"entryDate":"2024-08-18","entryGradeLevelDescriptor":"uri://ed-fi.org/GradeLevelDescriptor#Ninth grade",
		"schoolReference":{"schoolId":20},"studentReference":{"studentUniqueId":"S0001"}}`)
	w.enrol(1, 2)
	s, calls := w.mustRun()
	clean(t, s)
	if got := tally(calls)["POST ed-fi/students"]; got != 3 {
		t.Errorf("%d POSTs of students, want 3: the refused one once more after its enrolment", got)
	}
	if s.Totals.Met != 1 {
		t.Errorf("met %d records, want the student: totals %+v", s.Totals.Met, s.Totals)
	}
	w.converged()

	// The student leaves us: what is ours goes, the student stays with the neighbour (I9).
	w.leave(1)
	_, calls = w.mustRun()
	want := map[string]int{
		"DELETE ed-fi/studentEducationOrganizationAssociations": 1, "DELETE ed-fi/studentContactAssociations": 1, "DELETE ed-fi/studentSchoolAssociations": 1,
		"DELETE ed-fi/contacts": 1,
	}
	if diff := cmp.Diff(want, tally(calls)); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
	if n := w.sandbox.Stats().Resources["ed-fi/students"].Live; n != 2 {
		t.Errorf("%d students, want 2", n)
	}
}

// Our student was deleted, and somebody else has made the student anew since: once an enrolment lets us write it, it is taken over, and stays theirs (I9).
func TestAStudentMadeAnewByOthersIsNotOursWhenTheEnrolmentLetsUsWriteIt(t *testing.T) {
	t.Parallel()
	w := newVendorWorld(t)
	w.enrol(1, 6)
	w.mustRun()
	id := w.idOf("students", "studentUniqueId=S0001")
	for _, table := range []string{"relation", "demographic", "enrolment"} {
		w.exec(`delete from ` + table + ` where student = 1`)
	}
	s, _ := w.mustRun()
	clean(t, s)
	w.mustAs(adminID, 204, "DELETE", "students/"+id, "")
	w.mustAs(adminID, 201, "POST", "students", `{"studentUniqueId":"S0001","birthDate":"2010-02-03","firstName":"Theirs","lastSurname":"Surname"}`)
	w.exec(`update student set last = 'Changed' where id = 1`)
	if s, _ = w.mustRun(); s.Totals.Blocked != 1 || !slices.Contains(w.codes(), "no-association") {
		t.Fatalf("got totals %+v and issues %v, want the student blocked as no-association", s.Totals, w.codes())
	}
	w.exec(`insert into enrolment values (1, 1, 10, '2025-08-18', '9')`)
	s, calls := w.mustRun()
	clean(t, s)
	if got := tally(calls)["POST ed-fi/students"]; got != 2 {
		t.Errorf("%d POSTs of students, want 2: the refused one once more after the enrolment", got)
	}
	w.leave(1)
	_, calls = w.mustRun()
	if diff := cmp.Diff(map[string]int{"DELETE ed-fi/studentSchoolAssociations": 1, "DELETE ed-fi/contacts": 1}, tally(calls)); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
}

// A student we made whom another vendor has enrolled since cannot be deleted; nothing else is held up.
func TestAStudentWhomAnotherVendorEnrolledStays(t *testing.T) {
	t.Parallel()
	w := newVendorWorld(t)
	w.enrol(1, 3)
	w.mustRun()
	theirs := w.mustAs(neighbour, 201, "POST", "studentSchoolAssociations", `{"entryDate":"2025-10-01","entryGradeLevelDescriptor":"uri://ed-fi.org/GradeLevelDescriptor#Ninth grade",
		"schoolReference":{"schoolId":20},"studentReference":{"studentUniqueId":"S0001"}}`)
	w.leave(1)
	s, _ := w.mustRun()
	if s.Deleted != 4 || s.Totals.Blocked != 1 {
		t.Errorf("got totals %+v, want 4 deleted and the student blocked", s.Totals)
	}
	if got := w.codes(); !slices.Contains(got, "dependent-exists") {
		t.Errorf("issues %v, want dependent-exists", got)
	}
	w.mustAs(neighbour, 204, "DELETE", "studentSchoolAssociations/"+theirs, "")
	if s, calls := w.mustRun(); s.Deleted != 1 || len(calls) != 1 {
		t.Errorf("after the neighbour let go: calls %v, totals %+v", calls, s.Totals)
	}
	w.converged()
}

// Demographics whose enrolment is gone are out of reach: the run says so, and goes on as soon as an enrolment is back (F21).
func TestWithoutAnEnrolmentWhatIsLeftWaitsAndHealsWithIt(t *testing.T) {
	t.Parallel()
	w := newVendorWorld(t)
	w.enrol(1, 3)
	w.mustRun()
	w.exec(`delete from enrolment where student = 1`)
	s, calls := w.mustRun()
	if diff := cmp.Diff([]string{"DELETE ed-fi/studentSchoolAssociations"}, calls); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
	clean(t, s)
	w.exec(`update demographic set login = 'changed' where student = 1`)
	w.exec(`update student set last = 'Changed' where id = 1`)
	for _, want := range []map[string]int{{"PUT ed-fi/studentEducationOrganizationAssociations": 1, "PUT ed-fi/students": 1}, {}, {}} {
		s, calls = w.mustRun()
		if diff := cmp.Diff(want, tally(calls)); diff != "" {
			t.Errorf("what cannot succeed is not sent again and again: calls (-want +got):\n%s", diff)
		}
		if s.Totals.Rejected != 2 || !cmp.Equal(w.openIssues(), map[string]int64{"no-association": 2}) {
			t.Errorf("got totals %+v and issues %v, want both changes refused for want of an enrolment", s.Totals, w.openIssues())
		}
	}
	w.exec(`insert into enrolment values (90, 1, 10, '2025-10-01', '9')`)
	s, calls = w.mustRun()
	clean(t, s)
	want := map[string]int{"POST ed-fi/studentSchoolAssociations": 1, "PUT ed-fi/studentEducationOrganizationAssociations": 1, "PUT ed-fi/students": 1}
	if diff := cmp.Diff(want, tally(calls)); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
	w.converged()
}

// A dependent that cannot be deleted keeps the enrolment, which alone lets us delete it later.
func TestAnEnrolmentStaysWhileADependentsDeleteIsUnfinished(t *testing.T) {
	t.Parallel()
	w := newVendorWorld(t)
	w.enrol(1, 3)
	w.mustRun()
	w.leave(1)
	w.front.intercept(func(rw http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodDelete || !strings.Contains(r.URL.Path, "studentEducationOrganizationAssociations") {
			return false
		}
		rw.WriteHeader(http.StatusInternalServerError)
		return true
	})
	_, calls := w.mustRun()
	if slices.Contains(calls, "DELETE ed-fi/studentSchoolAssociations") || slices.Contains(calls, "DELETE ed-fi/students") {
		t.Errorf("the enrolment was deleted under its dependents: %v", calls)
	}
	w.front.intercept(nil)
	s, _ := w.mustRun()
	clean(t, s)
	w.converged()
	if n := w.sandbox.Stats().Resources["ed-fi/students"].Live; n != 2 {
		t.Errorf("%d students, want 2", n)
	}
}

// A student who moves to a neighbour's school is none of ours any more; a row of ours for that school is refused, and harms nothing else (I17).
func TestARowForASchoolThatIsNotOursHarmsNothingElse(t *testing.T) {
	t.Parallel()
	w := newVendorWorld(t)
	w.enrol(1, 4)
	w.exec(`update enrolment set school = 20 where student = 1`)
	s, _ := w.mustRun()
	if s.Totals.Created != 4*5-3 { // without student 1's enrolment, demographics and contact's tie; the student and contact themselves need nobody
		t.Errorf("got totals %+v", s.Totals)
	}
	if got := w.codes(); !slices.Contains(got, "no-relationship") {
		t.Errorf("issues %v, want no-relationship", got)
	}
	w.exec(`update enrolment set school = 10 where student = 1`)
	s, _ = w.mustRun()
	clean(t, s)
	w.converged()
}

// Claims taken away while nothing else changed are the host's to mend; when they are back, the next run does what was left (F35).
func TestAClaimSetThatIsNarrowedStopsOnlyWhatItNoLongerAllows(t *testing.T) {
	t.Parallel()
	w := newVendorWorld(t)
	w.enrol(1, 3)
	w.mustRun()
	set, _ := sandbox.ShippedClaimSet(w.model, sandbox.SISVendor)
	if err := w.sandbox.SetClient(sandbox.Client{ID: "id", Secret: "secret", ClaimSet: sandbox.DistrictHostedSISVendor, EducationOrganizations: []int64{2}}); err != nil {
		t.Fatal(err)
	}
	w.exec(`update demographic set login = 'changed'`)
	if s, _ := w.mustRun(); s.Updated != 0 || s.Totals.Blocked+s.Totals.Rejected != 3 {
		t.Errorf("with another agency's claims: totals %+v", s.Totals)
	}
	if err := w.sandbox.SetClient(sandbox.Client{ID: "id", Secret: "secret", ClaimSet: set.Name, EducationOrganizations: []int64{1}}); err != nil {
		t.Fatal(err)
	}
	s, calls := w.mustRun()
	clean(t, s)
	if len(calls) != 3 {
		t.Errorf("calls %v, want the three updates", calls)
	}
	w.converged()
}
