package sandbox

import (
	"bytes"
	"cmp"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/edfisync/edfisync/schema"
)

const testID, testSecret = "key", "secret"

// client talks to a started sandbox, or to a real host, with a token of its own.
type client struct {
	t     *testing.T
	s     *Server // nil for a real host
	base  string
	data  string // what comes before a resource; "" is that of an ODS
	token string
}

// answer is a response as tests look at it.
type answer struct {
	Status  int
	Header  http.Header
	Body    string
	Problem struct {
		Detail           string              `json:"detail"`
		Type             string              `json:"type"`
		Title            string              `json:"title"`
		Status           int                 `json:"status"`
		CorrelationID    string              `json:"correlationId"`
		ValidationErrors map[string][]string `json:"validationErrors"`
		Errors           []string            `json:"errors"`
	}
}

func (a answer) id() string {
	return a.Header.Get("Location")[strings.LastIndexByte(a.Header.Get("Location"), '/')+1:]
}
func (a answer) etag() string { return strings.Trim(a.Header.Get("Etag"), `"`) }

func model(t testing.TB, version string) *schema.Model {
	t.Helper()
	m, err := schema.Bundled(version)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// fewDescriptors are the values of the descriptors tests use; all of them would take most of a test's time.
func fewDescriptors(m *schema.Model) []schema.DescriptorValue {
	used := " EducationOrganizationCategory GradeLevel LocalEducationAgencyCategory Term AttendanceEventCategory CourseIdentificationSystem OtherNameType GradingPeriod GradeType "
	return slices.DeleteFunc(m.DescriptorValues(), func(v schema.DescriptorValue) bool {
		return !strings.Contains(used, " "+strings.TrimSuffix(v.Name, "Descriptor")+" ")
	})
}

// start serves a sandbox of data standard 5.2 and returns a client of it.
func start(t *testing.T, change ...func(*Options)) *client {
	t.Helper()
	m := model(t, "5.2")
	o := Options{Model: m, ClientID: testID, ClientSecret: testSecret, SchoolYears: []int{2025, 2026}, Descriptors: fewDescriptors(m)}
	for _, f := range change {
		f(&o)
	}
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := s.Start(t.Context(), "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	c := &client{t: t, s: s, base: s.URL()}
	c.login(testID, testSecret)
	return c
}

func (c *client) login(id, secret string) {
	c.t.Helper()
	form := url.Values{"grant_type": {"client_credentials"}, "client_id": {id}, "client_secret": {secret}}
	r, err := http.PostForm(c.base+"/oauth/token", form)
	if err != nil {
		c.t.Fatal(err)
	}
	defer func() { _ = r.Body.Close() }()
	var tok struct {
		AccessToken string `json:"access_token"`
	}
	if err := json.NewDecoder(r.Body).Decode(&tok); err != nil || tok.AccessToken == "" {
		c.t.Fatalf("no token: status %d, %v", r.StatusCode, err)
	}
	c.token = tok.AccessToken
}

// do sends a request under /data/v3/ed-fi/ with headers as "Name: value".
func (c *client) do(method, path, body string, headers ...string) answer {
	c.t.Helper()
	return c.raw(method, cmp.Or(c.data, "/data/v3/ed-fi/")+path, body, headers...)
}

func (c *client) raw(method, path, body string, headers ...string) answer {
	c.t.Helper()
	var rd io.Reader
	if body != "" {
		rd = bytes.NewReader([]byte(body))
	}
	req, err := http.NewRequestWithContext(c.t.Context(), method, c.base+path, rd)
	if err != nil {
		c.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+c.token)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Set(name, value)
	}
	r, err := http.DefaultClient.Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	defer func() { _ = r.Body.Close() }()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	a := answer{Status: r.StatusCode, Header: r.Header, Body: string(text)}
	if r.StatusCode >= 400 && len(text) > 0 {
		if err := json.Unmarshal(text, &a.Problem); err != nil {
			c.t.Fatalf("%s %s: %d with a body that is no JSON: %s", method, path, r.StatusCode, text)
		}
	}
	return a
}

// must posts and fails the test unless the answer has the status.
func (c *client) must(status int, method, path, body string, headers ...string) answer {
	c.t.Helper()
	a := c.do(method, path, body, headers...)
	if a.Status != status {
		c.t.Fatalf("%s %s: got %d, want %d: %s", method, path, a.Status, status, a.Body)
	}
	return a
}

// Payloads of a small district.
const (
	leaBody     = `{"localEducationAgencyId":255901,"nameOfInstitution":"Grand Bend","localEducationAgencyCategoryDescriptor":"uri://ed-fi.org/LocalEducationAgencyCategoryDescriptor#Independent","categories":[{"educationOrganizationCategoryDescriptor":"uri://ed-fi.org/EducationOrganizationCategoryDescriptor#Local Education Agency"}]}`
	schoolBody  = `{"schoolId":255901001,"nameOfInstitution":"Grand Bend High","educationOrganizationCategories":[{"educationOrganizationCategoryDescriptor":"uri://ed-fi.org/EducationOrganizationCategoryDescriptor#School"}],"gradeLevels":[{"gradeLevelDescriptor":"uri://ed-fi.org/GradeLevelDescriptor#Ninth grade"}]}`
	studentBody = `{"studentUniqueId":"604822","birthDate":"2010-01-13","firstName":"Tyrone","lastSurname":"Brown"}`
	enrolBody   = `{"entryDate":"2025-08-23","entryGradeLevelDescriptor":"uri://ed-fi.org/GradeLevelDescriptor#Ninth grade","schoolReference":{"schoolId":255901001},"studentReference":{"studentUniqueId":"604822"}}`
	sessionBody = `{"sessionName":"Fall","beginDate":"2025-08-20","endDate":"2025-12-20","totalInstructionalDays":80,"termDescriptor":"uri://ed-fi.org/TermDescriptor#Fall Semester","schoolReference":{"schoolId":255901001},"schoolYearTypeReference":{"schoolYear":2026}}`
	courseBody  = `{"courseCode":"ALG-1","courseTitle":"Algebra I","numberOfParts":1,"educationOrganizationReference":{"educationOrganizationId":255901001},"identificationCodes":[{"courseIdentificationSystemDescriptor":"uri://ed-fi.org/CourseIdentificationSystemDescriptor#LEA course code","identificationCode":"ALG-1"}]}`
	offerBody   = `{"localCourseCode":"ALG-1","courseReference":{"courseCode":"ALG-1","educationOrganizationId":255901001},"schoolReference":{"schoolId":255901001},"sessionReference":{"schoolId":255901001,"schoolYear":2026,"sessionName":"Fall"}}`
	sectionBody = `{"sectionIdentifier":"S1","courseOfferingReference":{"localCourseCode":"ALG-1","schoolId":255901001,"schoolYear":2026,"sessionName":"Fall"}}`
	rosterBody  = `{"beginDate":"2025-08-23","sectionReference":{"localCourseCode":"ALG-1","schoolId":255901001,"schoolYear":2026,"sectionIdentifier":"S1","sessionName":"Fall"},"studentReference":{"studentUniqueId":"604822"}}`
	attendBody  = `{"attendanceEventCategoryDescriptor":"uri://ed-fi.org/AttendanceEventCategoryDescriptor#Excused Absence","eventDate":"2025-09-03","schoolReference":{"schoolId":255901001},"sessionReference":{"schoolId":255901001,"schoolYear":2026,"sessionName":"Fall"},"studentReference":{"studentUniqueId":"604822"}}`
)

// districtBodies are the resources and payloads of the small district, in order.
func districtBodies() [][2]string {
	return [][2]string{
		{"localEducationAgencies", leaBody}, {"schools", schoolBody}, {"students", studentBody}, {"studentSchoolAssociations", enrolBody},
		{"sessions", sessionBody}, {"courses", courseBody}, {"courseOfferings", offerBody}, {"sections", sectionBody},
		{"studentSectionAssociations", rosterBody}, {"studentSchoolAttendanceEvents", attendBody},
	}
}

// district posts the small district.
func (c *client) district() {
	c.t.Helper()
	for _, p := range districtBodies() {
		c.must(http.StatusCreated, http.MethodPost, p[0], p[1])
	}
}

func TestDistrictCanBeLoadedReadAndLoadedAgain(t *testing.T) {
	t.Parallel()
	c := start(t)
	c.district()
	a := c.must(http.StatusOK, http.MethodGet, "studentSectionAssociations", "")
	if !strings.Contains(a.Body, `"sessionName":"Fall","link":{"rel":"Section"`) {
		t.Errorf("got %s", a.Body)
	}
	c.must(http.StatusOK, http.MethodPost, "studentSectionAssociations", rosterBody)
}

func TestBundledDescriptorsAndSchoolYearsExistAtStart(t *testing.T) {
	t.Parallel()
	m := model(t, "4.0")
	s, err := New(Options{Model: m, ClientID: testID, ClientSecret: testSecret, SchoolYears: []int{2025, 2026}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	var got int64
	for _, tb := range s.cat.tables {
		got += s.store.count(tb)
	}
	if want := int64(len(m.DescriptorValues()) + 2); got != want || want < 3000 {
		t.Errorf("%d records, want %d", got, want)
	}
}
