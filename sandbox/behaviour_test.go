package sandbox

import (
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// refusals are requests against the small district that an ODS/API 7.3 refuses, and how. None changes anything, so that the table can be run
// against a real host that holds the district. "{id}" in a path is the id of the record named by from.
var refusals = []struct {
	name         string
	method, path string
	from         string // resource whose first record gives {id}
	body         string
	headers      []string

	status           int
	kind             string // type without urn:ed-fi:api:
	title            string
	detail           string
	errors           []string
	validationErrors map[string][]string
}{
	{
		name: "an empty body", method: "POST", path: "students", headers: []string{"Content-Type: application/json"},
		status: 400, kind: "bad-request", title: "Bad Request", errors: []string{"A non-empty request body is required."},
	},
	{
		name: "a body that is no JSON", method: "POST", path: "students", body: `{"studentUniqueId":`,
		status: 400, kind: "bad-request", title: "Bad Request", errors: []string{"Unexpected end of JSON in the request body."},
	},
	{
		name: "a body with an id", method: "POST", path: "students", body: `{"id":"00000000000000000000000000000001",` + studentBody[1:],
		status: 400, kind: "bad-request:data-validation-failed", title: "Data Validation Failed",
		detail: "Data validation failed. See 'errors' for details.", errors: []string{textClientID},
	},
	{
		name: "every missing required element at once", method: "POST", path: "students", body: `{"studentUniqueId":"1"}`,
		status: 400, kind: "bad-request:data-validation-failed", title: "Data Validation Failed",
		detail: "Data validation failed. See 'validationErrors' for details.",
		validationErrors: map[string][]string{
			"$.birthDate": {"BirthDate is required."}, "$.firstName": {"FirstName is required."}, "$.lastSurname": {"LastSurname is required."},
		},
	},
	{
		name: "a required text of blanks", method: "POST", path: "students", body: strings.Replace(studentBody, "Tyrone", "  ", 1),
		status: 400, kind: "bad-request:data-validation-failed",
		validationErrors: map[string][]string{"$.firstName": {"FirstName is required and should not be left empty."}},
	},
	{
		name: "a text too long", method: "POST", path: "students", body: strings.Replace(studentBody, "Tyrone", strings.Repeat("é", 76), 1),
		status: 400, kind: "bad-request:data-validation-failed",
		validationErrors: map[string][]string{"$.firstName": {"FirstName must be between 1 and 75 characters in length."}},
	},
	{
		name: "a key with a blank at its end", method: "POST", path: "students", body: strings.Replace(studentBody, "604822", "604823 ", 1),
		status: 400, kind: "bad-request:data-validation-failed",
		validationErrors: map[string][]string{"$.studentUniqueId": {"StudentUniqueId cannot contain leading or trailing spaces."}},
	},
	{
		name: "script in a text", method: "POST", path: "students", body: strings.Replace(studentBody, "Tyrone", "<script>", 1),
		status: 400, kind: "bad-request:data-validation-failed",
		validationErrors: map[string][]string{"$.firstName": {"FirstName contains a value that could be dangerous for downstream systems."}},
	},
	{
		name: "a date with a time", method: "POST", path: "students", body: strings.Replace(studentBody, "2010-01-13", "2010-01-13T00:00:00", 1),
		status: 400, kind: "bad-request:data-validation-failed",
		validationErrors: map[string][]string{"$.birthDate": {"String was not recognized as a valid date."}},
	},
	{
		name: "a day that does not exist", method: "POST", path: "students", body: strings.Replace(studentBody, "2010-01-13", "2010-02-30", 1),
		status: 400, kind: "bad-request:data-validation-failed",
		validationErrors: map[string][]string{"$.birthDate": {"String was not recognized as a valid date."}},
	},
	{
		name: "a required number of 0", method: "POST", path: "sessions", body: strings.Replace(sessionBody, "80", "0", 1),
		status: 400, kind: "bad-request:data-validation-failed",
		validationErrors: map[string][]string{"$.totalInstructionalDays": {"TotalInstructionalDays value must be different than 0."}},
	},
	{
		name: "a number with letters", method: "POST", path: "schools", body: strings.Replace(schoolBody, "255901001", `"25590A"`, 1),
		status: 400, kind: "bad-request:data-validation-failed",
		validationErrors: map[string][]string{"$.schoolId": {"Error converting value 25590A to type 'System.Int64'."}},
	},
	{
		name: "a required collection without items", method: "POST", path: "schools",
		body:   `{"schoolId":255901002,"nameOfInstitution":"X","educationOrganizationCategories":[],"gradeLevels":[{"gradeLevelDescriptor":"uri://ed-fi.org/GradeLevelDescriptor#Ninth grade"}]}`,
		status: 400, kind: "bad-request:data-validation-failed",
		validationErrors: map[string][]string{"$.educationOrganizationCategories": {"SchoolEducationOrganizationCategories must have at least one item."}},
	},
	{
		name: "two items with one key", method: "POST", path: "schools",
		body:   `{"schoolId":255901002,"nameOfInstitution":"X","educationOrganizationCategories":[{"educationOrganizationCategoryDescriptor":"uri://ed-fi.org/EducationOrganizationCategoryDescriptor#School"}],"gradeLevels":[{"gradeLevelDescriptor":"uri://ed-fi.org/GradeLevelDescriptor#Ninth grade"},{"gradeLevelDescriptor":"uri://ed-fi.org/GradeLevelDescriptor#Tenth grade"},{"gradeLevelDescriptor":"uri://ed-fi.org/gradeleveldescriptor#ninth GRADE"}]}`,
		status: 400, kind: "bad-request:data-validation-failed",
		validationErrors: map[string][]string{"$.gradeLevels": {"The 3rd item of the SchoolGradeLevels has the same identifying values as another item earlier in the list."}},
	},
	{
		name: "descriptors that do not exist, each at its path", method: "POST", path: "schools",
		body:   `{"schoolId":255901002,"nameOfInstitution":"X","educationOrganizationCategories":[{"educationOrganizationCategoryDescriptor":"uri://ed-fi.org/EducationOrganizationCategoryDescriptor#School"}],"gradeLevels":[{"gradeLevelDescriptor":"uri://ed-fi.org/GradeLevelDescriptor#Ninth grade"},{"gradeLevelDescriptor":"uri://ed-fi.org/GradeLevelDescriptor#99"}],"schoolTypeDescriptor":"Regular"}`,
		status: 400, kind: "bad-request:data-validation-failed",
		validationErrors: map[string][]string{
			"$.gradeLevels[1].gradeLevelDescriptor": {"GradeLevelDescriptor value 'uri://ed-fi.org/GradeLevelDescriptor#99' does not exist."},
			"$.schoolTypeDescriptor":                {"SchoolTypeDescriptor value 'Regular' does not exist."},
		},
	},
	{
		name: "a reference with a part of its key", method: "POST", path: "studentSchoolAssociations",
		body:   strings.Replace(enrolBody, `"studentReference"`, `"calendarReference":{"calendarCode":"C1","schoolYear":2026},"classOfSchoolYearTypeReference":{},"graduationPlanReference":{"educationOrganizationId":255901},"studentReference"`, 1),
		status: 400, kind: "bad-request:data-validation-failed",
		validationErrors: map[string][]string{
			"$.calendarReference":       {"CalendarReference is missing the following properties: SchoolId"},
			"$.graduationPlanReference": {"GraduationPlanReference is missing the following properties: GraduationPlanTypeDescriptor, GraduationSchoolYear"},
		},
	},
	{
		name: "values that must match and do not", method: "POST", path: "courseOfferings",
		body:   strings.Replace(offerBody, `"sessionReference":{"schoolId":255901001`, `"sessionReference":{"schoolId":255901107`, 1),
		status: 400, kind: "bad-request:data-validation-failed",
		validationErrors: map[string][]string{
			"$.schoolReference.schoolId":  {"All values supplied for 'schoolId' must match. Review all references and align the following conflicting values: '255901001', '255901107'"},
			"$.sessionReference.schoolId": {"All values supplied for 'schoolId' must match. Review all references and align the following conflicting values: '255901001', '255901107'"},
		},
	},
	{
		name: "a reference to nothing", method: "POST", path: "studentSchoolAssociations", body: strings.Replace(enrolBody, "604822", "1", 1),
		status: 409, kind: "data-conflict:unresolved-reference", title: "Unresolved Reference", detail: "The referenced 'Student' item does not exist.",
	},
	{
		name: "a reference to a school that is a district", method: "POST", path: "studentSchoolAssociations", body: strings.Replace(enrolBody, "255901001", "255901", 1),
		status: 409, kind: "data-conflict:unresolved-reference", detail: "The referenced 'School' item does not exist.",
	},
	{
		name: "an unknown organization of any kind", method: "POST", path: "courses", body: strings.Replace(courseBody, `"educationOrganizationId":255901001`, `"educationOrganizationId":7`, 1),
		status: 409, kind: "data-conflict:unresolved-reference", detail: "The referenced 'EducationOrganization' item does not exist.",
	},
	{
		name: "a school with the id of a district", method: "POST", path: "schools", body: strings.Replace(schoolBody, "255901001", "255901", 1),
		status: 409, kind: "data-conflict:non-unique-identity", title: "Identifying Values Are Not Unique",
		detail: "The identifying value(s) of the item are the same as another item that already exists.",
		errors: []string{"A primary key conflict occurred when attempting to create or update a record in the 'EducationOrganization' table. The duplicate key is (EducationOrganizationId) = (255901)."},
	},
	{
		name: "a change of a key that cannot be changed", method: "PUT", path: "students/{id}", from: "students", body: strings.Replace(studentBody, "604822", "604823", 1),
		status: 400, kind: "bad-request:data-validation-failed:key-change-not-supported", title: "Key Change Not Supported",
		detail: "Identifying values for the Student item cannot be changed. Delete and recreate the item instead.",
	},
	{
		name: "a PUT of nothing", method: "PUT", path: "students/00000000000000000000000000000001", body: studentBody,
		status: 404, kind: "not-found", title: "Not Found", detail: textNoUpdate,
	},
	{
		name: "a PUT under the id of another resource", method: "PUT", path: "students/{id}", from: "schools", body: studentBody,
		status: 404, kind: "not-found", detail: textNoUpdate,
	},
	{
		name: "a PUT of everything", method: "PUT", path: "students", body: studentBody,
		status: 405, kind: "method-not-allowed", title: "Method Not Allowed", errors: []string{textPutAll},
	},
	{
		name: "a POST to an item", method: "POST", path: "students/{id}", from: "students", body: studentBody,
		status: 405, kind: "method-not-allowed", errors: []string{textPostItem},
	},
	{
		name: "a DELETE of everything", method: "DELETE", path: "students",
		status: 405, kind: "method-not-allowed", errors: []string{textDeleteAll},
	},
	{
		name: "a PATCH", method: "PATCH", path: "students", body: `{}`,
		status: 405, kind: "method-not-allowed", errors: []string{"The endpoint of the request does not support the 'PATCH' method."},
	},
	{
		name: "a DELETE of nothing", method: "DELETE", path: "students/00000000000000000000000000000001",
		status: 404, kind: "not-found", detail: textNoDelete,
	},
	{
		name: "a DELETE with an id that is none", method: "DELETE", path: "students/17",
		status: 400, kind: "bad-request:data-validation-failed", validationErrors: map[string][]string{"$.id": {"The value '17' is not valid."}},
	},
	{
		name: "a DELETE of what others refer to", method: "DELETE", path: "courseOfferings/{id}", from: "courseOfferings",
		status: 409, kind: "data-conflict:dependent-item-exists", title: "Dependent Item Exists",
		detail: "The requested action cannot be performed because this item is referenced by an existing 'Section' item.",
	},
	{
		name: "a DELETE of a descriptor in use", method: "DELETE", path: "termDescriptors/{id}", from: "termDescriptors?codeValue=Fall%20Semester&namespace=uri%3A%2F%2Fed-fi.org%2FTermDescriptor",
		status: 409, kind: "data-conflict:dependent-item-exists",
		detail: "The requested action cannot be performed because this item is referenced by an existing 'Session' item.",
	},
	{
		name: "a DELETE with an old ETag", method: "DELETE", path: "studentSchoolAttendanceEvents/{id}", from: "studentSchoolAttendanceEvents",
		headers: []string{`If-Match: "1"`},
		status:  412, kind: "optimistic-lock-failed", title: "Optimistic Lock Failed", detail: "The item has been modified by another user.",
	},
	{
		name: "an update by POST with an old ETag", method: "POST", path: "students", body: studentBody, headers: []string{"If-Match: 1"},
		status: 412, kind: "optimistic-lock-failed",
	},
	{
		name: "an item that does not exist", method: "GET", path: "students/00000000000000000000000000000001",
		status: 404, kind: "not-found", detail: textNoItem,
	},
	{
		name: "a resource that does not exist", method: "GET", path: "pupils",
		status: 404, kind: "not-found", detail: textNoResource,
	},
	{
		name: "a body of another type", method: "POST", path: "students", body: studentBody, headers: []string{"Content-Type: text/plain"},
		status: 415, kind: "unsupported-media-type", title: "Unsupported Media Type",
		errors: []string{"The value specified in the 'Content-Type' header is not supported by this host."},
	},
	{
		name: "a limit too large", method: "GET", path: "students?limit=501",
		status: 400, kind: "bad-request:parameter-validation-failed", title: "Parameter Validation Failed",
		errors: []string{"Limit must be a value between 0 and 500."},
	},
	{
		name: "a page size without a token", method: "GET", path: "students?pageSize=10",
		status: 400, kind: "bad-request:parameter-validation-failed", errors: []string{"PageToken is required when pageSize is specified."},
	},
	{
		name: "offset and token", method: "GET", path: "students?offset=0&pageToken=AAAAAP____8",
		status: 400, kind: "bad-request:parameter-validation-failed",
		errors: []string{"Both offset and pageToken parameters were provided, but they support alternative paging approaches and cannot be used together."},
	},
	{
		name: "limit and token", method: "GET", path: "students?limit=5&pageToken=AAAAAP____8",
		status: 400, kind: "bad-request:parameter-validation-failed",
		errors: []string{"Use pageSize instead of limit when using cursor paging with pageToken."},
	},
	{
		name: "page size and offset", method: "GET", path: "students?offset=5&pageSize=5",
		status: 400, kind: "bad-request:parameter-validation-failed",
		errors: []string{"Use limit instead of pageSize when using limit/offset paging."},
	},
	{
		name: "a filter that is no number", method: "GET", path: "schools?schoolId=x",
		status: 400, kind: "bad-request:parameter-validation-failed", errors: []string{"The value 'x' is not valid for SchoolId."},
	},
	{
		name: "no token", method: "GET", path: "students", headers: []string{"Authorization: "},
		status: 401, kind: "security:authentication", title: "Authentication Failed", detail: "The caller could not be authenticated.",
		errors: []string{"Authorization header is missing."},
	},
	{
		name: "another scheme", method: "GET", path: "students", headers: []string{"Authorization: Basic a2V5OnNlY3JldA=="},
		status: 401, kind: "security:authentication", errors: []string{"Unknown Authorization header scheme."},
	},
	{
		name: "a scheme without a token", method: "GET", path: "students", headers: []string{"Authorization: Bearer"},
		status: 401, kind: "security:authentication", errors: []string{"Missing Authorization header bearer token value."},
	},
	{
		name: "a token nobody issued", method: "GET", path: "students", headers: []string{"Authorization: bearer 0123456789abcdef0123456789abcdef"},
		status: 401, kind: "security:authentication", errors: []string{"Invalid Authorization header."},
	},
}

func TestRefusalsReadAsThoseOfAnODS(t *testing.T) {
	t.Parallel()
	c := start(t)
	c.district()
	before := c.s.Stats().Counts
	c.refusals()
	after := c.s.Stats().Counts
	if after.Created != before.Created || after.Updated != before.Updated || after.Deleted != before.Deleted {
		t.Errorf("a refused request changed something: %+v, then %+v", before, after)
	}
}

// TestRefusalsOfARealHost runs the table against the ODS/API 7.3 (data standard 5.2, default descriptors, school year 2026) whose URL, key and
// secret are in EDFISYNC_TEST_ODS, separated by blanks. It adds the small district and leaves it there: give it a host made for the purpose,
// and a client that may do everything.
func TestRefusalsOfARealHost(t *testing.T) {
	t.Parallel()
	host := strings.Fields(os.Getenv("EDFISYNC_TEST_ODS"))
	if len(host) != 3 {
		t.Skip("EDFISYNC_TEST_ODS does not name a host, a key and a secret")
	}
	c := &client{t: t, base: strings.TrimRight(host[0], "/")}
	c.login(host[1], host[2])
	for _, p := range districtBodies() {
		if a := c.do(http.MethodPost, p[0], p[1]); a.Status != http.StatusCreated && a.Status != http.StatusOK {
			t.Fatalf("POST %s: %d %s", p[0], a.Status, a.Body)
		}
	}
	c.refusals()
}

func (c *client) refusals() {
	for _, tt := range refusals {
		c.t.Run(tt.name, func(t *testing.T) {
			c := &client{t: t, s: c.s, base: c.base, token: c.token}
			path := tt.path
			if tt.from != "" {
				path = strings.Replace(path, "{id}", c.first(tt.from), 1)
			}
			a := c.do(tt.method, path, tt.body, append([]string{"correlation-id: abc-1"}, tt.headers...)...)
			p := a.Problem
			if a.Status != tt.status || p.Status != tt.status || p.Type != "urn:ed-fi:api:"+tt.kind || p.CorrelationID != "abc-1" {
				t.Fatalf("got %d %s (%q), want %d %s", a.Status, p.Type, a.Body, tt.status, tt.kind)
			}
			if tt.title != "" && p.Title != tt.title {
				t.Errorf("title: got %q, want %q", p.Title, tt.title)
			}
			if tt.detail != "" && p.Detail != tt.detail {
				t.Errorf("detail: got %q, want %q", p.Detail, tt.detail)
			}
			if d := cmp.Diff(tt.errors, p.Errors); d != "" {
				t.Errorf("errors (-want +got):\n%s", d)
			}
			if d := cmp.Diff(tt.validationErrors, p.ValidationErrors); d != "" {
				t.Errorf("validationErrors (-want +got):\n%s", d)
			}
			if ct := a.Header.Get("Content-Type"); !strings.HasPrefix(ct, "application/json") {
				t.Errorf("content type %s", ct)
			}
		})
	}
}

// first returns the id of the first record a GET finds.
func (c *client) first(path string) string {
	c.t.Helper()
	a := c.must(http.StatusOK, http.MethodGet, path, "")
	_, rest, ok := strings.Cut(a.Body, `"id":"`)
	if !ok {
		c.t.Fatalf("GET %s: nothing found", path)
	}
	id, _, _ := strings.Cut(rest, `"`)
	return id
}
