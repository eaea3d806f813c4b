package sandbox

import (
	"encoding/json"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// like starts a sandbox with a personality, its own data standard, and the small district in it.
func like(t *testing.T, p Personality, change ...func(*Options)) *client {
	t.Helper()
	m := model(t, p.Standard())
	return start(t, append([]func(*Options){func(o *Options) { o.Personality, o.Model, o.Descriptors = p, m, fewDescriptors(m) }}, change...)...)
}

func TestVersionsBeforeSevenAnswerWithMessages(t *testing.T) {
	t.Parallel()
	c := like(t, ODS61)
	c.district()
	school := c.do(http.MethodGet, "schools", "")
	var schools []struct{ ID string }
	if err := json.Unmarshal([]byte(school.Body), &schools); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, method, path, body string
		headers                  []string
		status                   int
		want                     string
	}{
		{"a student who is not there", "POST", "studentSchoolAssociations", strings.Replace(enrolBody, "604822", "1", 1), nil, 400,
			`{"message":"Validation of 'StudentSchoolAssociation' failed.\n\tStudent reference could not be resolved.\n"}`},
		{"a school that is not there", "POST", "studentSchoolAssociations", strings.Replace(enrolBody, "255901001", "9", 1), nil, 409,
			`{"message":"The value supplied for the related 'school' resource does not exist."}`},
		{"what is required", "POST", "students", `{"studentUniqueId":"1","firstName":"A"}`, nil, 400,
			`{"message":"Validation of 'Student' failed.\n\tBirthDate is required.\n\tLastSurname is required.\n"}`},
		{"a number that is none", "POST", "schools", strings.Replace(schoolBody, "255901001", `"x"`, 1), nil, 400,
			`{"message":"The request is invalid.","modelState":{"request.schoolId":["Could not convert string to integer: x."]}}`},
		{"a descriptor value that is not there", "POST", "studentSchoolAssociations", strings.Replace(enrolBody, "Ninth grade", "99", 1), nil, 400,
			`{"message":"Validation of 'StudentSchoolAssociation' failed.\n\tEntryGradeLevelDescriptor is required.\n"}`},
		{"an id in a POST", "POST", "students", `{"id":"x",` + studentBody[1:], nil, 400, `{"message":"Resource identifiers cannot be assigned by the client."}`},
		{"what something refers to", "DELETE", "schools/" + schools[0].ID, "", nil, 409,
			`{"message":"The resource (or a subordinate entity of the resource) cannot be deleted because it is a dependency of the 'courseOffering' entity."}`},
		{"an old ETag", "DELETE", "schools/" + schools[0].ID, "", []string{"If-Match: 1"}, 412, `{"message":"Resource was modified by another consumer."}`},
		{"a resource that is not there", "GET", "nonsenses", "", nil, 404, ""},
		{"partitions, which there are none of", "GET", "students/partitions", "", nil, 400, `{"message":"Validation of 'Student' failed.\n\tThe value 'partitions' is not valid.\n"}`},
	} {
		a := c.do(tt.method, tt.path, tt.body, tt.headers...)
		if a.Status != tt.status || a.Body != tt.want {
			t.Errorf("%s: got %d %s\nwant %d %s", tt.name, a.Status, a.Body, tt.status, tt.want)
		}
	}
	a := c.do(http.MethodPost, "schools", strings.Replace(schoolBody, "255901001", "255901", 1))
	if a.Status != 409 || !strings.Contains(a.Body, "The duplicated columns and values are [EducationOrganizationId] (255901)") {
		t.Errorf("a school with an agency's id: %d %s", a.Status, a.Body)
	}
	if a := c.do(http.MethodGet, "students?pageToken=x&pageSize=1", ""); a.Status != 200 || a.Header.Get("Next-Page-Token") != "" || strings.Contains(a.Body, "_lastModifiedDate") {
		t.Errorf("cursors, or dates of change: %d %v %s", a.Status, a.Header, a.Body)
	}
	if n := c.s.Stats().Resources["ed-fi/studentSchoolAssociations"].Calls["POST"][400]; n != 2 {
		t.Errorf("%d POSTs of enrolments are counted as answered 400, want 2: the statuses are those sent", n)
	}
}

// An ODS before 7 keeps the natural key of a resource whose key cannot be changed, in whatever reference it is, and takes the rest of the PUT.
func TestVersionsBeforeSevenIgnoreKeyChanges(t *testing.T) {
	t.Parallel()
	for _, p := range []Personality{ODS53, ODS61} {
		c := like(t, p)
		c.district()
		c.must(http.StatusCreated, http.MethodPost, "schools", strings.Replace(schoolBody, "255901001", "255901002", 1))
		offer := c.must(http.StatusOK, http.MethodPost, "courseOfferings", offerBody).id()
		c.must(http.StatusNoContent, http.MethodPut, "courseOfferings/"+offer,
			strings.NewReplacer("ALG-1\",\"courseR", "OTHER\",\"localCourseTitle\":\"New\",\"courseR", `"schoolReference":{"schoolId":255901001}`, `"schoolReference":{"schoolId":255901002}`,
				`"sessionReference":{"schoolId":255901001`, `"sessionReference":{"schoolId":255901002`).Replace(offerBody))
		a := c.do(http.MethodGet, "courseOfferings/"+offer, "")
		var got struct {
			LocalCourseCode, LocalCourseTitle string
			SchoolReference                   struct{ SchoolID int }
			SessionReference                  struct {
				SchoolID    int
				SessionName string
			}
		}
		if err := json.Unmarshal([]byte(a.Body), &got); err != nil {
			t.Fatal(err)
		}
		if got.LocalCourseCode != "ALG-1" || got.LocalCourseTitle != "New" || got.SchoolReference.SchoolID != 255901001 || got.SessionReference.SchoolID != 255901001 {
			t.Errorf("%s: got %+v", p, got)
		}
		c.must(http.StatusOK, http.MethodPost, "courseOfferings", offerBody) // still there under its key
		if student := c.must(http.StatusOK, http.MethodPost, "students", studentBody).id(); true {
			c.must(http.StatusNoContent, http.MethodPut, "students/"+student, strings.NewReplacer("604822", "9", "Tyrone", "Ty").Replace(studentBody))
			if a := c.do(http.MethodGet, "students/"+student, ""); !strings.Contains(a.Body, `"studentUniqueId":"604822"`) || !strings.Contains(a.Body, `"firstName":"Ty"`) {
				t.Errorf("%s: %s", p, a.Body)
			}
		}
	}
}

func TestADMSHasItsOwnRules(t *testing.T) {
	t.Parallel()
	c := like(t, DMS)
	c.data = "/data/ed-fi/"
	c.district()
	student := c.must(http.StatusOK, http.MethodPost, "students", studentBody)
	id, etag := student.id(), student.Header.Get("Etag")
	if !regexp.MustCompile(`^"\d+-[0-9a-f]{8}\.j\._\.l\.i"$`).MatchString(etag) || !strings.HasPrefix(student.Header.Get("Location"), c.base+"/data/ed-fi/students/") {
		t.Errorf("ETag %s, Location %s", etag, student.Header.Get("Location"))
	}
	withID := func(body string) string { return `{"id":"` + id + `",` + body[1:] }
	nobody := strings.Repeat("0", 32)
	for _, tt := range []struct {
		name, method, path, body string
		headers                  []string
		status                   int
		kind                     string
		detail                   string
		errors                   []string
		validationErrors         map[string][]string
	}{
		{name: "a PUT without the id", method: "PUT", path: "students/" + id, body: studentBody, status: 400, kind: "bad-request:data-validation-failed",
			validationErrors: map[string][]string{"$.id": {"id is required."}}},
		{name: "a PUT with another id", method: "PUT", path: "students/" + id, body: `{"id":"` + nobody + `",` + studentBody[1:], status: 400, kind: "bad-request",
			errors: []string{"Request body id must match the id in the url."}},
		{name: "a PUT with the id", method: "PUT", path: "students/" + id, body: withID(studentBody), status: 204},
		{name: "under any version", method: "PUT", path: "students/" + id, body: withID(studentBody), headers: []string{"If-Match: *"}, status: 204},
		{name: "under the version there is", method: "PUT", path: "students/" + id, body: withID(studentBody), headers: []string{"If-Match: " + etag}, status: 204},
		{name: "under half of it", method: "PUT", path: "students/" + id, body: withID(studentBody), headers: []string{"If-Match: " + etag[1:19]}, status: 412, kind: "optimistic-lock-failed"},
		{name: "a GET of what is known, quoted", method: "GET", path: "students/" + id, headers: []string{"If-None-Match: " + etag}, status: 304},
		{name: "a condition on what is not there", method: "DELETE", path: "students/" + nobody, headers: []string{"If-Match: *"}, status: 412, kind: "optimistic-lock-failed"},
		{name: "no condition on it", method: "DELETE", path: "students/" + nobody, status: 404, kind: "not-found"},
		{name: "a POST that may only create", method: "POST", path: "students", body: studentBody, headers: []string{"If-None-Match: *"}, status: 412, kind: "precondition-failed:if-none-match"},
		{name: "an id in a POST", method: "POST", path: "students", body: strings.Replace(withID(studentBody), `"id"`, `"ID"`, 1), status: 400, kind: "bad-request:data-validation-failed"},
		{name: "a required property in another case", method: "POST", path: "students", body: strings.Replace(studentBody, `"firstName"`, `"FirstName"`, 1), status: 400,
			kind: "bad-request:data-validation-failed", validationErrors: map[string][]string{"$.firstName": {"firstName is required."}}},
		{name: "all references that do not resolve", method: "POST", path: "studentSchoolAssociations", body: strings.NewReplacer("604822", "1", "255901001", "9").Replace(enrolBody), status: 409,
			kind: "data-conflict:unresolved-reference", detail: "One or more references could not be resolved. See 'validationErrors' for details.",
			validationErrors: map[string][]string{"$.schoolReference": {"The referenced School item does not exist."}, "$.studentReference": {"The referenced Student item does not exist."}}},
		{name: "a descriptor with them", method: "POST", path: "studentSchoolAssociations", body: strings.NewReplacer("604822", "1", "Ninth grade", "Twelfth").Replace(enrolBody), status: 400,
			kind: "bad-request", validationErrors: map[string][]string{
				"$.entryGradeLevelDescriptor": {"GradeLevelDescriptor value 'uri://ed-fi.org/gradeleveldescriptor#twelfth' does not exist."},
				"$.studentReference":          {"The referenced Student item does not exist."},
			}},
		{name: "two items with one identity", method: "POST", path: "schools", body: strings.Replace(schoolBody, "255901001", "255901", 1), status: 409, kind: "identity-conflict",
			errors: []string{"A natural key conflict occurred when attempting to create a new resource EducationOrganization with a duplicate key. The duplicate keys and values are (educationOrganizationId = 255901)"}},
		{name: "what something refers to", method: "DELETE", path: "students/" + id, status: 409, kind: "data-conflict:dependent-item-exists",
			detail: "The requested action cannot be performed because this item is referenced by existing StudentSchoolAssociation item(s)."},
		{name: "too many at once", method: "GET", path: "students?limit=501", status: 400, kind: "bad-request:parameter-validation-failed",
			errors: []string{"Limit must be omitted or set to a numeric value between 0 and 500."}},
	} {
		a := c.do(tt.method, tt.path, tt.body, tt.headers...)
		if a.Status != tt.status {
			t.Errorf("%s: got %d, want %d: %s", tt.name, a.Status, tt.status, a.Body)
			continue
		}
		if tt.status < 400 {
			continue
		}
		if a.Problem.Type != problemPrefix+tt.kind || a.Header.Get("Content-Type") != "application/problem+json" ||
			!strings.Contains(a.Body, `"validationErrors":{`) || !strings.Contains(a.Body, `"errors":[`) || tt.detail != "" && a.Problem.Detail != tt.detail {
			t.Errorf("%s: got %s", tt.name, a.Body)
		}
		if d := cmp.Diff(tt.validationErrors, a.Problem.ValidationErrors); tt.validationErrors != nil && d != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, d)
		}
		if d := cmp.Diff(tt.errors, a.Problem.Errors); tt.errors != nil && d != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, d)
		}
	}
	a := c.do(http.MethodGet, "students/"+id, "")
	if !strings.Contains(a.Body, `"_etag":"`+strings.Trim(etag, `"`)+`"`) || strings.Contains(a.Body, "[]") {
		t.Errorf("got %s", a.Body)
	}
	var index map[string]string
	if err := json.Unmarshal([]byte(c.raw(http.MethodGet, "/metadata", "").Body), &index); err != nil || index["specifications"] != c.base+"/metadata/specifications" {
		t.Errorf("metadata: %v %v", index, err)
	}
	for _, path := range []string{"/data/v3/ed-fi/students", "/metadata/data/v3/dependencies"} {
		if a := c.raw(http.MethodGet, path, ""); a.Status != http.StatusNotFound {
			t.Errorf("%s of an ODS is there: %d", path, a.Status)
		}
	}
}

func TestAddressesOfOtherTenantsAndYearsAreNotThere(t *testing.T) {
	t.Parallel()
	type addresses struct{ there, absent string }
	for _, tt := range []struct {
		name  string
		like  Personality
		route Route
		at    []addresses
		root  string // path of a root document
		data  string // what it says
		mode  string
	}{
		{"5.3", ODS53, Route{}, []addresses{{there: "/data/v3/ed-fi/schools", absent: "/data/v3/2026/ed-fi/schools"}}, "/", "/data/v3/", "Shared Instance"},
		{"6.1 by year", ODS61, Route{SchoolYear: 2026}, []addresses{
			{there: "/data/v3/2026/ed-fi/schools", absent: "/data/v3/2025/ed-fi/schools"}, {there: "/metadata/2026", absent: "/metadata/2025"},
			{there: "/metadata/data/v3/2026/dependencies", absent: "/metadata/data/v3/dependencies"}, {there: "/changeQueries/v1/2026/availableChangeVersions", absent: "/data/v3/ed-fi/schools"},
		}, "/", "/data/v3/2026", "Year Specific"},
		{"7.3 by tenant and year", ODS73, Route{Tenant: "north", SchoolYear: 2026}, []addresses{
			{there: "/north/2026/data/v3/ed-fi/schools", absent: "/south/2026/data/v3/ed-fi/schools"}, {there: "/north/2026/metadata/", absent: "/metadata/"},
		}, "/", "/{tenantIdentifier}/{schoolYearFromRoute}/data/v3/", ""},
		{"7.3, its tenant's own root", ODS73, Route{Tenant: "north"}, []addresses{{there: "/north/data/v3/ed-fi/schools", absent: "/data/v3/ed-fi/schools"}}, "/north/", "/north/data/v3/", ""},
		{"DMS", DMS, Route{}, []addresses{{there: "/api/data/ed-fi/schools", absent: "/data/ed-fi/schools"}}, "/api", "/api/data", ""},
		{"DMS by tenant", DMS, Route{Tenant: "north"}, []addresses{{there: "/api/north/data/ed-fi/schools", absent: "/api/data/ed-fi/schools"}}, "/api/", "/api/{tenantIdentifier}/data", ""},
	} {
		c := like(t, tt.like, func(o *Options) { o.Route = tt.route })
		host := strings.TrimSuffix(c.base, c.s.routes.root)
		c.base = host
		for _, a := range tt.at {
			if got := c.raw(http.MethodGet, a.there, "").Status; got != http.StatusOK {
				t.Errorf("%s: %s answers %d", tt.name, a.there, got)
			}
			if got := c.raw(http.MethodGet, a.absent, "").Status; got != http.StatusNotFound {
				t.Errorf("%s: %s answers %d, want 404", tt.name, a.absent, got)
			}
		}
		var root rootDocument
		if err := json.Unmarshal([]byte(c.raw(http.MethodGet, tt.root, "").Body), &root); err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		if root.URLs["dataManagementApi"] != host+tt.data || root.APIMode != tt.mode {
			t.Errorf("%s: root names %s in mode %q, want %s", tt.name, root.URLs["dataManagementApi"], root.APIMode, host+tt.data)
		}
		if a := c.raw(http.MethodGet, "/sandbox/stats", ""); a.Status != http.StatusOK {
			t.Errorf("%s: stats answer %d", tt.name, a.Status)
		}
	}
}

func TestPersonalitiesThatCannotBe(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name     string
		like     Personality
		standard string
		route    Route
		want     string
	}{
		{"one that is not there", "ods-9", "5.2", Route{}, "there are ods-5.3, ods-6.1, ods-7.3, dms"},
		{"6.1 with data standard 5", ODS61, "5.2", Route{}, "use 4.0"},
		{"DMS with data standard 4", DMS, "4.0", Route{}, "use 5.2"},
		{"tenants before 7", ODS53, "4.0", Route{Tenant: "x"}, "no tenants"},
		{"a tenant of two segments", ODS73, "5.2", Route{Tenant: "x/y"}, "one segment"},
	} {
		_, err := New(Options{Model: model(t, tt.standard), ClientID: "a", ClientSecret: "b", Personality: tt.like, Route: tt.route})
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", tt.name, err, tt.want)
		}
	}
}
