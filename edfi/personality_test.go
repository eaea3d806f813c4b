package edfi_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/edfisync/edfisync/edfi"
	"github.com/edfisync/edfisync/sandbox"
	"github.com/edfisync/edfisync/schema"
)

// personalities are the versions of the API, each with every data standard it has here, and the ways its addresses can be.
var personalities = []struct {
	name     sandbox.Personality
	standard string
	route    sandbox.Route
	base     string // what a person configures behind the host's name; "" is enough where the client finds the rest
	old      bool   // ODS/API before 7: {"message"} errors, key changes ignored
}{
	{name: sandbox.ODS53, standard: "4.0", old: true},
	{name: sandbox.ODS53, standard: "4.0", route: sandbox.Route{SchoolYear: 2027}, old: true},
	{name: sandbox.ODS61, standard: "4.0", old: true},
	{name: sandbox.ODS61, standard: "4.0", route: sandbox.Route{SchoolYear: 2027}, old: true},
	{name: sandbox.ODS73, standard: "4.0"},
	{name: sandbox.ODS73, standard: "5.2"},
	{name: sandbox.ODS73, standard: "5.2", route: sandbox.Route{Tenant: "north", SchoolYear: 2027}},
	{name: sandbox.ODS73, standard: "5.2", route: sandbox.Route{Tenant: "north", SchoolYear: 2027}, base: "/north/2027"},
	{name: sandbox.DMS, standard: "5.2"},
	{name: sandbox.DMS, standard: "5.2", base: "/api"},
	{name: sandbox.DMS, standard: "5.2", route: sandbox.Route{Tenant: "north"}},
}

// Payloads of the personality tests. GradeLevel and the others are in both data standards.
const (
	agencyBody = `{"localEducationAgencyId":255901,"nameOfInstitution":"North","localEducationAgencyCategoryDescriptor":"uri://ed-fi.org/LocalEducationAgencyCategoryDescriptor#Regular public school district",` +
		`"categories":[{"educationOrganizationCategoryDescriptor":"uri://ed-fi.org/EducationOrganizationCategoryDescriptor#Local Education Agency"}]}`
	schoolPayload = `{"schoolId":255901001,"nameOfInstitution":"High","localEducationAgencyReference":{"localEducationAgencyId":255901},` +
		`"educationOrganizationCategories":[{"educationOrganizationCategoryDescriptor":"uri://ed-fi.org/EducationOrganizationCategoryDescriptor#School"}],` +
		`"gradeLevels":[{"gradeLevelDescriptor":"uri://ed-fi.org/GradeLevelDescriptor#Ninth grade"}]}`
	coursePayload = `{"courseCode":"ALG-1","courseTitle":"Algebra","numberOfParts":1,"educationOrganizationReference":{"educationOrganizationId":255901001},` +
		`"identificationCodes":[{"courseIdentificationSystemDescriptor":"uri://ed-fi.org/CourseIdentificationSystemDescriptor#LEA course code","identificationCode":"X"}]}`
	studentPayload = `{"studentUniqueId":"S1","birthDate":"2010-01-13","firstName":"A","lastSurname":"B"}`
	enrolPayload   = `{"entryDate":"2025-08-23","entryGradeLevelDescriptor":"uri://ed-fi.org/GradeLevelDescriptor#Ninth grade","schoolReference":{"schoolId":255901001},"studentReference":{"studentUniqueId":"S1"}}`
	periodPayload  = `{"classPeriodName":"P1","schoolReference":{"schoolId":255901001}}`
)

// The same situation has the same class and code whatever version of the API it is met in. Where a version does something else, the table says so.
func TestEveryVersionGivesEverySituationOneClass(t *testing.T) {
	t.Parallel()
	for _, tt := range personalities {
		t.Run(fmt.Sprintf("%s %s %v %s", tt.name, tt.standard, tt.route, tt.base), func(t *testing.T) {
			t.Parallel()
			model, err := schema.Bundled(tt.standard)
			if err != nil {
				t.Fatal(err)
			}
			s, err := sandbox.New(sandbox.Options{
				Model: model, ClientID: "key", ClientSecret: "secret", SchoolYears: []int{2027}, Personality: tt.name, Route: tt.route,
				Clients: []sandbox.Client{{ID: "sis", Secret: "secret", ClaimSet: sandbox.SISVendor, EducationOrganizations: []int64{255901}, NamespacePrefixes: []string{"uri://gbisd.org"}}},
			})
			if err != nil {
				t.Fatal(err)
			}
			server := httptest.NewServer(s.Handler())
			t.Cleanup(func() {
				server.Close()
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			})
			connect := func(id string) *edfi.Client {
				t.Helper()
				c, err := edfi.Connect(t.Context(), edfi.Config{
					BaseURL: server.URL + tt.base, ClientID: id, ClientSecret: "secret", RetryWait: time.Millisecond, Tenant: tt.route.Tenant, SchoolYear: tt.route.SchoolYear,
				})
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(c.Close)
				return c
			}
			v := &version{t: t, c: connect("key"), sis: connect("sis"), old: tt.old, dms: tt.name == sandbox.DMS}
			v.describes(tt.name, tt.standard)
			v.situations()
			v.rights()
			v.reads()
		})
	}
}

// version is one version of the API under test.
type version struct {
	t        *testing.T
	c, sis   *edfi.Client
	old, dms bool
}

// describes checks what the API says of itself.
func (v *version) describes(name sandbox.Personality, standard string) {
	v.t.Helper()
	info := v.c.Info()
	want := map[sandbox.Personality]string{sandbox.ODS53: "5.3", sandbox.ODS61: "6.1", sandbox.ODS73: "7.3", sandbox.DMS: "8.0"}[name]
	if info.Version != want || !strings.HasPrefix(info.Standard, standard) || info.DMS != v.dms || (info.APIMode != "") != v.old {
		v.t.Errorf("info %+v", info)
	}
	deps, err := v.c.Dependencies(v.t.Context())
	if err != nil || !slices.ContainsFunc(deps, func(d schema.Dependency) bool { return d.Resource == "/ed-fi/students" }) {
		v.t.Errorf("dependencies: %d, %v", len(deps), err)
	}
	resources, descriptors, err := v.c.OpenAPI(v.t.Context())
	if err != nil {
		v.t.Fatal(err)
	}
	if _, err := schema.ReadOpenAPI(resources, descriptors); err != nil {
		v.t.Error(err)
	}
	token, err := v.sis.TokenInfo(v.t.Context())
	var e *edfi.Error
	switch {
	case v.old && (!errors.As(err, &e) || e.Code != "no-token-info"):
		v.t.Errorf("token info of a version that does not announce it: %v", err)
	case !v.old && (err != nil || token.ClaimSet.Name != sandbox.SISVendor || len(token.NamespacePrefixes) != 1):
		v.t.Errorf("token info: %+v, %v", token, err)
	}
}

// post creates an item and returns its id.
func (v *version) post(resource, body string) edfi.Answer {
	v.t.Helper()
	a, err := v.c.Post(v.t.Context(), "ed-fi/"+resource, []byte(body))
	if err != nil || a.ID == "" {
		v.t.Fatalf("post %s: %+v, %v", resource, a, err)
	}
	return a
}

func (v *version) expect(situation string, err error, class edfi.Class, code string) {
	v.t.Helper()
	var e *edfi.Error
	if !errors.As(err, &e) || e.Class != class || e.Code != code {
		body := ""
		if e != nil {
			body = fmt.Sprintf("%s %s: %s", e.Class, e.Code, e.Body)
		}
		v.t.Errorf("%s: got %v (%s), want %s %s", situation, err, body, class, code)
	}
}

func (v *version) situations() {
	v.t.Helper()
	ctx := v.t.Context()
	_, err := v.c.Post(ctx, "ed-fi/courses", []byte(coursePayload))
	v.expect("an organization that is not there", err, edfi.Blocked, "unresolved-reference")
	agency := v.post("localEducationAgencies", agencyBody)
	v.post("schools", schoolPayload)
	_, err = v.c.Post(ctx, "ed-fi/studentSchoolAssociations", []byte(enrolPayload))
	v.expect("a student who is not there", err, edfi.Blocked, "unresolved-reference")
	v.post("students", studentPayload)
	_, err = v.c.Post(ctx, "ed-fi/students", []byte(`{"studentUniqueId":"S2"}`))
	v.expect("required properties that are missing", err, edfi.Invalid, "data-validation-failed")
	_, err = v.c.Post(ctx, "ed-fi/students", []byte(strings.Replace(studentPayload, "2010-01-13", "yesterday", 1)))
	v.expect("a date that is none", err, edfi.Invalid, "data-validation-failed")
	_, err = v.c.Post(ctx, "ed-fi/students", []byte(`{"id":"00000000000000000000000000000001",`+studentPayload[1:]))
	v.expect("an id in a POST", err, edfi.Invalid, "data-validation-failed")
	unknown := "descriptor-unknown"
	if v.old { // which says only that the descriptor is required
		unknown = "data-validation-failed"
	}
	_, err = v.c.Post(ctx, "ed-fi/studentSchoolAssociations", []byte(strings.Replace(enrolPayload, "Ninth grade", "99", 1)))
	v.expect("a descriptor that is not there", err, edfi.Invalid, unknown)
	_, err = v.c.Post(ctx, "ed-fi/schools", []byte(strings.Replace(schoolPayload, "255901001", "255901", 1)))
	v.expect("a school with an agency's id", err, edfi.Rejected, "identity-conflict")
	_, err = v.c.Post(ctx, "ed-fi/nonsenses", []byte(`{}`))
	v.expect("a resource that is not there", err, edfi.Rejected, "no-such-resource")

	course := v.post("courses", coursePayload)
	again := v.post("courses", strings.Replace(coursePayload, "Algebra", "Algebra I", 1))
	if !course.Created || again.Created || again.ID != course.ID || course.ETag == "" || again.ETag == course.ETag {
		v.t.Errorf("first %+v, again %+v", course, again)
	}
	_, err = v.c.PutMatching(ctx, "ed-fi/courses", course.ID, course.ETag, []byte(coursePayload))
	v.expect("a PUT under an old ETag", err, edfi.Transient, "changed-meanwhile")
	if a, err := v.c.PutMatching(ctx, "ed-fi/courses", course.ID, again.ETag, []byte(coursePayload)); err != nil || a.Status != 204 {
		v.t.Errorf("a PUT under the right ETag: %+v, %v", a, err)
	}
	_, err = v.c.Delete(ctx, "ed-fi/localEducationAgencies", agency.ID)
	v.expect("a DELETE of what a school refers to", err, edfi.Blocked, "dependent-exists")
	if !strings.Contains(strings.ToLower(fmt.Sprint(err)), "referenced by school") {
		v.t.Errorf("the dependent is not named: %v", err)
	}
	v.keys(course.ID)

	_, err = v.c.Create(ctx, "ed-fi/courses", []byte(coursePayload))
	if v.dms {
		v.expect("a create-only POST of what is there", err, edfi.Transient, "changed-meanwhile")
	} else if err != nil {
		v.t.Errorf("a create-only POST, which an ODS does not know: %v", err)
	}
	if _, err := v.c.Delete(ctx, "ed-fi/courses", course.ID); err != nil {
		v.t.Errorf("delete: %v", err)
	}
	_, err = v.c.Delete(ctx, "ed-fi/courses", course.ID)
	v.expect("a second DELETE", err, edfi.NotFound, "not-found")
	_, err = v.c.Put(ctx, "ed-fi/courses", course.ID, []byte(coursePayload))
	v.expect("a PUT to what is gone", err, edfi.NotFound, "not-found")
	_, _, err = v.c.Get(ctx, "ed-fi/courses", course.ID)
	v.expect("a GET of what is gone", err, edfi.NotFound, "not-found")
}

// keys changes natural keys by PUT.
func (v *version) keys(course string) {
	v.t.Helper()
	ctx := v.t.Context()
	code := func() string {
		v.t.Helper()
		item, _, err := v.c.Get(ctx, "ed-fi/courses", course)
		if err != nil {
			v.t.Fatal(err)
		}
		var c struct{ CourseCode, CourseTitle string }
		if err := json.Unmarshal(item, &c); err != nil {
			v.t.Fatal(err)
		}
		return c.CourseCode + " " + c.CourseTitle
	}
	other := strings.NewReplacer("ALG-1", "ALG-2", "Algebra", "Other", "255901001", "255901").Replace(coursePayload)
	_, err := v.c.Put(ctx, "ed-fi/courses", course, []byte(other))
	switch {
	case v.old: // keeps the key, takes the rest, says nothing
		if got := code(); err != nil || got != "ALG-1 Other" {
			v.t.Errorf("a changed key: %q, %v, want the old key and the new title", got, err)
		}
		if _, _, found, err := v.c.FindByKey(ctx, "ed-fi/courses", url.Values{"courseCode": {"ALG-2"}, "educationOrganizationId": {"255901"}}); found || err != nil {
			v.t.Errorf("the ignored key is found: %v", err)
		}
	default:
		v.expect("a changed key", err, edfi.Rejected, "key-change-not-supported")
		if got := code(); got != "ALG-1 Algebra" {
			v.t.Errorf("after a refused key change: %q", got)
		}
	}
	period := v.post("classPeriods", periodPayload)
	if _, err := v.c.Put(ctx, "ed-fi/classPeriods", period.ID, []byte(strings.Replace(periodPayload, "P1", "P2", 1))); err != nil {
		v.t.Errorf("a changed key where it may change: %v", err)
	}
	if id, _, found, err := v.c.FindByKey(ctx, "ed-fi/classPeriods", url.Values{"classPeriodName": {"P2"}, "schoolId": {"255901001"}}); !found || id != period.ID || err != nil {
		v.t.Errorf("it is not found under the new one: %s %v %v", id, found, err)
	}
}

func (v *version) rights() {
	v.t.Helper()
	ctx := v.t.Context()
	_, err := v.sis.Post(ctx, "ed-fi/students", []byte(studentPayload))
	v.expect("a student without an enrolment", err, edfi.Blocked, "no-relationship")
	if !strings.Contains(fmt.Sprint(err), "by StudentUniqueId") && !strings.Contains(fmt.Sprint(err), "StudentSchoolAssociation") && !v.old {
		v.t.Errorf("it does not say what it takes: %v", err)
	}
	_, err = v.sis.Post(ctx, "ed-fi/schools", []byte(schoolPayload))
	v.expect("an action the claim set does not have", err, edfi.Rejected, "claim-denied")
	_, err = v.sis.Post(ctx, "ed-fi/localBudgets", []byte(`{}`))
	v.expect("a resource the claim set does not have", err, edfi.Rejected, "claim-denied")
	_, err = v.sis.Post(ctx, "ed-fi/descriptorMappings", []byte(`{"namespace":"uri://other.org/A","value":"a","mappedNamespace":"uri://other.org/B","mappedValue":"b"}`))
	v.expect("a namespace of somebody else", err, edfi.Rejected, "namespace-denied")
	if _, err := v.sis.Post(ctx, "ed-fi/studentSchoolAssociations", []byte(enrolPayload)); err != nil {
		v.t.Errorf("the enrolment: %v", err)
	}
	if _, err := v.sis.Post(ctx, "ed-fi/students", []byte(studentPayload)); err != nil {
		v.t.Errorf("the student after it: %v", err)
	}
}

func (v *version) reads() {
	v.t.Helper()
	ctx := v.t.Context()
	for i := range 12 {
		v.post("courses", strings.Replace(coursePayload, "ALG-1", fmt.Sprintf("C-%d", i), 1))
	}
	seen := map[string]bool{}
	err := v.c.Each(ctx, "ed-fi/courses", edfi.PageOptions{Limit: 5}, func(raw json.RawMessage) error {
		var course struct{ CourseCode string }
		err := json.Unmarshal(raw, &course)
		seen[course.CourseCode] = true
		return err
	})
	if err != nil || len(seen) != 12 {
		v.t.Errorf("walk: %d courses, %v; want 12", len(seen), err)
	}
	a := v.post("students", strings.NewReplacer("S1", "S9", `"firstName"`, `"MiddleName":"M","firstName"`).Replace(studentPayload))
	item, _, err := v.c.Get(ctx, "ed-fi/students", a.ID)
	if err != nil {
		v.t.Fatal(err)
	}
	var fields map[string]any
	if err := json.Unmarshal(item, &fields); err != nil {
		v.t.Fatal(err)
	}
	if _, taken := fields["middleName"]; taken == v.dms {
		v.t.Errorf("a property in another case was taken: %v", taken)
	}
	if _, has := fields["_lastModifiedDate"]; has == v.old {
		v.t.Errorf("_lastModifiedDate: %v", has)
	}
}
