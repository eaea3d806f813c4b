package sandbox

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const (
	sisID       = "sis"
	otherDenied = "No relationships have been established between the caller's education organization id claim (255901) and "
)

// vendor is a sandbox whose small world an administrator has set up, and a client of it with the SIS Vendor claim set for one agency.
func vendor(t *testing.T, change ...func(*Options)) (admin, sis *client) {
	t.Helper()
	admin = start(t, append([]func(*Options){func(o *Options) {
		o.Clients = append(o.Clients, Client{
			ID: sisID, Secret: testSecret, ClaimSet: SISVendor, EducationOrganizations: []int64{255901}, NamespacePrefixes: []string{"uri://gbisd.org"},
		})
	}}, change...)...)
	admin.must(http.StatusCreated, http.MethodPost, "localEducationAgencies", leaBody)
	admin.must(http.StatusCreated, http.MethodPost, "localEducationAgencies", strings.ReplaceAll(leaBody, "255901", "255902"))
	admin.must(http.StatusCreated, http.MethodPost, "schools", ofAgency("255901001", "255901"))
	admin.must(http.StatusCreated, http.MethodPost, "schools", ofAgency("255902001", "255902"))
	return admin, admin.as(sisID)
}

func ofAgency(school, agency string) string {
	return `{"localEducationAgencyReference":{"localEducationAgencyId":` + agency + `},` + strings.ReplaceAll(schoolBody, "255901001", school)[1:]
}

// as is another client of the same sandbox.
func (c *client) as(id string) *client {
	c.t.Helper()
	other := &client{t: c.t, s: c.s, base: c.base}
	other.login(id, testSecret)
	return other
}

func TestAStudentsLifeUnderTheSISVendorClaimSet(t *testing.T) {
	t.Parallel()
	admin, sis := vendor(t)
	const (
		relationship = "urn:ed-fi:api:security:authorization"
		hint         = "Access to the requested data could not be authorized. Hint: You may need to create a corresponding 'StudentSchoolAssociation' item."
		demographic  = `{"educationOrganizationReference":{"educationOrganizationId":255901},"studentReference":{"studentUniqueId":"604822"}}`
	)
	ids := map[string]string{}
	for _, step := range []struct {
		name, method, path, body string
		status                   int
		detail, err              string // of a 403 for want of a relationship
	}{
		{"an enrolment of a student who is not there names the student", "POST", "studentSchoolAssociations", enrolBody, 409, "", ""},
		{"anybody may create a student", "POST", "students", studentBody, 201, "", ""},
		{"who cannot be read before the enrolment", "GET", "students/{students}", "", 403, hint, otherDenied + "the resource item's 'StudentUniqueId' value."},
		{"nor posted again", "POST", "students", studentBody, 403, hint, otherDenied + "the resource item's 'StudentUniqueId' value."},
		{"nor replaced", "PUT", "students/{students}", studentBody, 403, hint, otherDenied + "the resource item's 'StudentUniqueId' value."},
		{"and is not among those listed", "GET", "students?totalCount=true", "", 200, "", "0"},
		{"nor found by the key", "GET", "students?studentUniqueId=604822", "", 200, "", ""},
		{"what depends on the student waits", "POST", "studentEducationOrganizationAssociations", demographic, 403, hint,
			otherDenied + "one or more of the following properties of the resource item: 'EducationOrganizationId', 'StudentUniqueId'."},
		{"a student who is not there gives the same answer", "POST", "studentEducationOrganizationAssociations", strings.Replace(demographic, "604822", "1", 1), 403, hint,
			otherDenied + "one or more of the following properties of the resource item: 'EducationOrganizationId', 'StudentUniqueId'."},
		{"an enrolment at another agency's school is refused", "POST", "studentSchoolAssociations", strings.Replace(enrolBody, "255901001", "255902001", 1), 403,
			"Access to the requested data could not be authorized.", otherDenied + "the resource item's 'SchoolId' value."},
		{"as one at a school that is not there", "POST", "studentSchoolAssociations", strings.Replace(enrolBody, "255901001", "255901999", 1), 403,
			"Access to the requested data could not be authorized.", otherDenied + "the resource item's 'SchoolId' value."},
		{"the enrolment needs the school only", "POST", "studentSchoolAssociations", enrolBody, 201, "", ""},
		{"now the student can be read", "GET", "students/{students}", "", 200, "", ""},
		{"and is listed", "GET", "students?totalCount=true", "", 200, "", "1"},
		{"and posted again", "POST", "students", studentBody, 200, "", ""},
		{"and replaced", "PUT", "students/{students}", strings.Replace(studentBody, "Tyrone", "Ty", 1), 204, "", ""},
		{"what depends on the student is taken", "POST", "studentEducationOrganizationAssociations", demographic, 201, "", ""},
		{"but not for another agency", "POST", "studentEducationOrganizationAssociations", strings.Replace(demographic, "255901", "255902", 1), 403, hint,
			otherDenied + "one or more of the following properties of the resource item: 'EducationOrganizationId', 'StudentUniqueId'."},
		{"an enrolment cannot be moved to another agency's school", "PUT", "studentSchoolAssociations/{studentSchoolAssociations}",
			strings.Replace(enrolBody, "255901001", "255902001", 1), 403, hint,
			otherDenied + "one or more of the following properties of the resource item: 'SchoolId', 'StudentUniqueId'."},
		{"a withdrawal leaves the relationship", "PUT", "studentSchoolAssociations/{studentSchoolAssociations}",
			strings.Replace(enrolBody, `"schoolReference"`, `"exitWithdrawDate":"2025-10-01","schoolReference"`, 1), 204, "", ""},
		{"so the student can still be read", "GET", "students/{students}", "", 200, "", ""},
		{"the last enrolment can be deleted first", "DELETE", "studentSchoolAssociations/{studentSchoolAssociations}", "", 204, "", ""},
		{"then what depended on the student is out of reach", "DELETE", "studentEducationOrganizationAssociations/{studentEducationOrganizationAssociations}", "", 403, hint,
			otherDenied + "one or more of the following properties of the resource item: 'EducationOrganizationId', 'StudentUniqueId'."},
		{"and the student is protected by it", "DELETE", "students/{students}", "", 409, "", ""},
		{"a new enrolment mends it", "POST", "studentSchoolAssociations", enrolBody, 201, "", ""},
		{"dependents first", "DELETE", "studentEducationOrganizationAssociations/{studentEducationOrganizationAssociations}", "", 204, "", ""},
		{"then the enrolment", "DELETE", "studentSchoolAssociations/{studentSchoolAssociations}", "", 204, "", ""},
		{"and the student, who needs no relationship", "DELETE", "students/{students}", "", 204, "", ""},
		{"what is gone is not forbidden but gone", "GET", "students/{students}", "", 404, "", ""},
	} {
		path := step.path
		for resource, id := range ids {
			path = strings.ReplaceAll(path, "{"+resource+"}", id)
		}
		a := sis.do(step.method, path, step.body)
		if a.Status != step.status {
			t.Fatalf("%s: %s %s: got %d, want %d: %s", step.name, step.method, path, a.Status, step.status, a.Body)
		}
		if a.Status == http.StatusCreated {
			ids[step.path] = a.id()
		}
		switch {
		case step.status == http.StatusForbidden:
			if a.Problem.Type != relationship || a.Problem.Title != "Authorization Denied" || a.Problem.Detail != step.detail || !slices.Equal(a.Problem.Errors, []string{step.err}) {
				t.Errorf("%s: got %s", step.name, a.Body)
			}
		case step.status == http.StatusOK && step.method == http.MethodGet && strings.Contains(path, "totalCount") && a.Header.Get("Total-Count") != step.err:
			t.Errorf("%s: total %s, want %s", step.name, a.Header.Get("Total-Count"), step.err)
		case strings.Contains(path, "?studentUniqueId") && a.Body != "[]":
			t.Errorf("%s: got %s", step.name, a.Body)
		}
	}
	if n := len(admin.s.store.ties.enrolled.ties); n != 0 {
		t.Errorf("%d students are still tied to schools", n)
	}
}

func TestStaffAndContactsNeedTheirAssociations(t *testing.T) {
	t.Parallel()
	_, sis := vendor(t, withDescriptors)
	for _, step := range []struct {
		name, path, body string
		status           int
		hint             string
	}{
		{"staff can be created", "staffs", `{"staffUniqueId":"S1","firstName":"A","lastSurname":"B"}`, 201, ""},
		{"but not posted again", "staffs", `{"staffUniqueId":"S1","firstName":"A","lastSurname":"B"}`, 403,
			"You may need to create corresponding 'StaffEducationOrganizationEmploymentAssociation' or 'StaffEducationOrganizationAssignmentAssociation' items."},
		{"an assignment needs the organization only", "staffEducationOrganizationAssignmentAssociations",
			`{"beginDate":"2025-08-01","staffClassificationDescriptor":"uri://ed-fi.org/StaffClassificationDescriptor#Teacher","educationOrganizationReference":{"educationOrganizationId":255901},"staffReference":{"staffUniqueId":"S1"}}`, 201, ""},
		{"then staff is the client's", "staffs", `{"staffUniqueId":"S1","firstName":"A","lastSurname":"C"}`, 200, ""},
		{"a student", "students", studentBody, 201, ""},
		{"a contact can be created", "contacts", `{"contactUniqueId":"C1","firstName":"A","lastSurname":"B"}`, 201, ""},
		{"but not tied to a student who is not the client's", "studentContactAssociations", `{"contactReference":{"contactUniqueId":"C1"},"studentReference":{"studentUniqueId":"604822"}}`, 403,
			"You may need to create a corresponding 'StudentSchoolAssociation' item."},
		{"nor posted again", "contacts", `{"contactUniqueId":"C1","firstName":"A","lastSurname":"B"}`, 403,
			"You may need to create corresponding 'StudentSchoolAssociation' and 'StudentContactAssociation' items."},
		{"after the enrolment", "studentSchoolAssociations", enrolBody, 201, ""},
		{"the student is, the contact is not yet", "contacts", `{"contactUniqueId":"C1","firstName":"A","lastSurname":"B"}`, 403,
			"You may need to create corresponding 'StudentSchoolAssociation' and 'StudentContactAssociation' items."},
		{"the tie can be made", "studentContactAssociations", `{"contactReference":{"contactUniqueId":"C1"},"studentReference":{"studentUniqueId":"604822"}}`, 201, ""},
		{"and the contact is the client's", "contacts", `{"contactUniqueId":"C1","firstName":"A","lastSurname":"C"}`, 200, ""},
	} {
		a := sis.do(http.MethodPost, step.path, step.body)
		if a.Status != step.status || step.hint != "" && a.Problem.Detail != textDenied+" Hint: "+step.hint {
			t.Fatalf("%s: got %d, want %d: %s", step.name, a.Status, step.status, a.Body)
		}
	}
}

func withDescriptors(o *Options) { o.Descriptors = nil }

func TestWipeAndRestoreTakeTheRelationsAlong(t *testing.T) {
	t.Parallel()
	admin, sis := vendor(t)
	sis.must(http.StatusCreated, http.MethodPost, "students", studentBody)
	sis.must(http.StatusCreated, http.MethodPost, "studentSchoolAssociations", enrolBody)
	admin.s.Snapshot("enrolled")
	if err := admin.s.Wipe(); err != nil {
		t.Fatal(err)
	}
	sis.must(http.StatusCreated, http.MethodPost, "students", studentBody)
	sis.must(http.StatusForbidden, http.MethodPost, "students", studentBody)
	if err := admin.s.Restore("enrolled"); err != nil {
		t.Fatal(err)
	}
	sis.must(http.StatusOK, http.MethodPost, "students", studentBody)
	a := sis.must(http.StatusForbidden, http.MethodGet, "students/deletes", "")
	if !strings.HasSuffix(a.Problem.Type, ":access-denied:action") || !strings.Contains(a.Problem.Errors[0], "'ReadChanges'") {
		t.Errorf("deletes without the claim: %s", a.Body)
	}
}

// What each refusal for want of a right says; no such request changes anything.
func TestRefusalsForWantOfARight(t *testing.T) {
	t.Parallel()
	admin, sis := vendor(t, withDescriptors, func(o *Options) {
		o.Clients = append(o.Clients,
			Client{ID: "bare", Secret: testSecret, ClaimSet: SISVendor},
			Client{ID: "district", Secret: testSecret, ClaimSet: DistrictHostedSISVendor, EducationOrganizations: []int64{255901, 255902, 1, 2, 3, 4}})
	})
	created := func(path, body string) string {
		t.Helper()
		return admin.must(http.StatusCreated, http.MethodPost, path, body).id()
	}
	book := created("gradebookEntries", `{"gradebookEntryIdentifier":"G1","namespace":"uri://other.org/x","sourceSectionIdentifier":"S","title":"T","dateAssigned":"2025-09-01"}`)
	course := created("courses", strings.ReplaceAll(courseBody, "255901001", "255902"))
	term := `{"codeValue":"X","namespace":"uri://gbisd.org/TermDescriptor","shortDescription":"X"}`
	for _, tt := range []struct {
		name         string
		by           *client
		method, path string
		body         string
		kind         string
		detail, err  string
	}{
		{"a resource the claim set does not name", sis, "POST", "localBudgets", `{}`, ":access-denied:resource", "do not have permissions to access this data",
			"(currently 'SIS Vendor') must include one of the following resource claims to provide access to this resource: 'http://ed-fi.org/identity/claims/ed-fi/localBudget'."},
		{"a school of one's own", sis, "POST", "schools", ofAgency("255901002", "255901"), ":access-denied:action", "do not have permissions to perform the requested operation",
			"must grant permission of the 'Create' action on one of the following resource claims: 'http://ed-fi.org/identity/claims/ed-fi/school'."},
		{"a system descriptor", sis, "POST", "termDescriptors", term, ":access-denied:action", "", "'Create' action"},
		{"a bad body for a resource one may not write", sis, "PUT", "schools/00000000000000000000000000000000", "{", ":access-denied:action", "", "'Update' action"},
		{"a namespace of somebody else", sis, "POST", "gradebookEntries",
			`{"gradebookEntryIdentifier":"G2","namespace":"uri://other.org/x","sourceSectionIdentifier":"S","title":"T","dateAssigned":"2025-09-01"}`,
			":namespace:access-denied:namespace-mismatch", "The 'Namespace' value of the data does not start with any of the caller's associated namespace prefixes ('uri://gbisd.org').", ""},
		{"an item in somebody else's namespace", sis, "GET", "gradebookEntries/" + book, "", ":namespace:access-denied:namespace-mismatch", "The existing 'Namespace' value", ""},
		{"a client without namespaces", admin.as("bare"), "GET", "gradebookEntries/" + book, "", ":namespace:invalid-client:no-namespaces", textMisconfigured, "doesn't have any namespace prefixes assigned"},
		{"a client without organizations", admin.as("bare"), "GET", "courses/" + course, "", "", textDenied, "organization id claims (none) and the resource item's 'EducationOrganizationId' value."},
		{"more organizations than a text lists", admin.as("district"), "POST", "courses", strings.ReplaceAll(courseBody, "255901001", "77"), "", textDenied, "claims (1, 2, 3, 4, 255901, ...) and"},
		{"an item of another agency", sis, "GET", "courses/" + course, "", "", textDenied, otherDenied},
		{"its deletion", sis, "DELETE", "courses/" + course, "", "", textDenied, otherDenied},
		{"its deletion with a wrong ETag", sis, "DELETE", "courses/" + course, "", "", textDenied, otherDenied},
	} {
		before := admin.do(http.MethodGet, "courses/"+course, "").Body
		a := tt.by.do(tt.method, tt.path, tt.body)
		errs := strings.Join(a.Problem.Errors, " ")
		if a.Status != http.StatusForbidden || a.Problem.Type != "urn:ed-fi:api:security:authorization"+tt.kind || a.Problem.Title != "Authorization Denied" ||
			!strings.Contains(a.Problem.Detail, tt.detail) || !strings.Contains(errs, tt.err) || tt.err == "" && errs != "" || a.Problem.CorrelationID == "" {
			t.Errorf("%s: got %d %s", tt.name, a.Status, a.Body)
		}
		if after := admin.do(http.MethodGet, "courses/"+course, "").Body; after != before {
			t.Errorf("%s: changed the course", tt.name)
		}
	}
	if a := sis.do(http.MethodGet, "gradebookEntries", ""); a.Body != "[]" {
		t.Errorf("entries of another namespace are listed: %s", a.Body)
	}
	sis.token = "00000000000000000000000000000000"
	if a := sis.do(http.MethodPost, "schools", schoolBody); a.Status != http.StatusUnauthorized {
		t.Errorf("an unknown token: got %d, want 401 before any 403", a.Status)
	}
}

func TestClaimsReachDownTheOrganizationsAndReadStateCourses(t *testing.T) {
	t.Parallel()
	orgs := []struct{ path, body string }{
		{"stateEducationAgencies", `{"stateEducationAgencyId":1,"nameOfInstitution":"State","categories":[{"educationOrganizationCategoryDescriptor":"uri://ed-fi.org/EducationOrganizationCategoryDescriptor#State Education Agency"}]}`},
		{"educationServiceCenters", `{"educationServiceCenterId":20,"stateEducationAgencyReference":{"stateEducationAgencyId":1},"nameOfInstitution":"Center","categories":[{"educationOrganizationCategoryDescriptor":"uri://ed-fi.org/EducationOrganizationCategoryDescriptor#Education Service Center"}]}`},
		{"localEducationAgencies", `{"educationServiceCenterReference":{"educationServiceCenterId":20},` + strings.ReplaceAll(leaBody, "255901", "300")[1:]},
		{"schools", ofAgency("4000", "300")},
	}
	admin := start(t, withDescriptors)
	for _, o := range orgs {
		admin.must(http.StatusCreated, http.MethodPost, o.path, o.body)
	}
	course := func(org string) string { return strings.ReplaceAll(courseBody, "255901001", org) }
	for _, tt := range []struct {
		claim         int64
		writes, reads string // organizations whose courses the client may write and list
	}{
		{1, "1 20 300 4000", "1 20 300 4000"},
		{20, "20 300 4000", "1 20 300 4000"},
		{300, "300 4000", "1 20 300 4000"},
		{4000, "4000", "1 20 300 4000"},
		{5, "", ""},
	} {
		id := fmt.Sprint("client", tt.claim)
		if err := admin.s.SetClient(Client{ID: id, Secret: testSecret, ClaimSet: SISVendor, EducationOrganizations: []int64{tt.claim}}); err != nil {
			t.Fatal(err)
		}
		c := admin.as(id)
		var writes []string
		for _, org := range []string{"1", "20", "300", "4000"} {
			if a := c.do(http.MethodPost, "courses", course(org)); a.Status < 300 {
				writes = append(writes, org)
			} else if a.Status != http.StatusForbidden {
				t.Errorf("claim %d, course of %s: %d %s", tt.claim, org, a.Status, a.Body)
			}
			admin.do(http.MethodPost, "courses", course(org))
		}
		var listed []struct {
			Org struct {
				ID int `json:"educationOrganizationId"`
			} `json:"educationOrganizationReference"`
		}
		if err := json.Unmarshal([]byte(c.do(http.MethodGet, "courses", "").Body), &listed); err != nil {
			t.Fatal(err)
		}
		var reads []string
		for _, l := range listed {
			reads = append(reads, fmt.Sprint(l.Org.ID))
		}
		slices.SortFunc(reads, func(a, b string) int { return len(a) - len(b) })
		if got := strings.Join(writes, " "); got != tt.writes {
			t.Errorf("claim %d: writes courses of %q, want %q", tt.claim, got, tt.writes)
		}
		if got := strings.Join(reads, " "); got != tt.reads {
			t.Errorf("claim %d: lists courses of %q, want %q", tt.claim, got, tt.reads)
		}
	}
}

func TestTokenInfoTellsOrganizationsNamespacesAndClaims(t *testing.T) {
	t.Parallel()
	_, sis := vendor(t)
	var info struct {
		ClientID      string           `json:"client_id"`
		Prefixes      []string         `json:"namespace_prefixes"`
		Organizations []map[string]any `json:"education_organizations"`
		ClaimSet      struct {
			Name string `json:"name"`
		} `json:"claim_set"`
		Resources []claimedResource `json:"resources"`
	}
	a := sis.raw(http.MethodPost, "/oauth/token_info", `{"token":"`+sis.token+`"}`)
	if err := json.Unmarshal([]byte(a.Body), &info); err != nil {
		t.Fatal(err)
	}
	if info.ClientID != sisID || info.ClaimSet.Name != SISVendor || !slices.Equal(info.Prefixes, []string{"uri://gbisd.org"}) || len(info.Organizations) != 1 ||
		info.Organizations[0]["type"] != "edfi.LocalEducationAgency" || info.Organizations[0]["local_education_agency_id"] != 255901.0 {
		t.Errorf("got %s", a.Body[:300])
	}
	got := map[string]string{}
	for _, r := range info.Resources {
		got[r.Resource] = fmt.Sprint(r.Operations)
	}
	for path, want := range map[string]string{
		"/ed-fi/students":                   "[Create Read Update Delete]",
		"/ed-fi/schools":                    "[Read]",
		"/ed-fi/termDescriptors":            "[Read]",
		"/ed-fi/reasonNotTestedDescriptors": "[Create Read Update Delete]",
		"/ed-fi/localBudgets":               "",
	} {
		if got[path] != want {
			t.Errorf("%s: %s, want %s", path, got[path], want)
		}
	}
}

// The shipped claim sets cover what an ODS/API 7.3 with data standard 5.2 grants; these are its counts.
func TestShippedClaimSets(t *testing.T) {
	t.Parallel()
	m := model(t, "5.2")
	for _, tt := range []struct {
		name                              string
		resources, create, update, remove int
	}{
		{FullAccess, len(m.Resources), len(m.Resources), len(m.Resources), len(m.Resources)},
		{SISVendor, 333, 116, 116, 116},
		{DistrictHostedSISVendor, 332, 118, 119, 118},
		{EdFiSandbox, 349, 348, 348, 348},
	} {
		set, ok := ShippedClaimSet(m, tt.name)
		if !ok {
			t.Fatalf("there is no %s", tt.name)
		}
		count := func(a Action) (n int) {
			for _, c := range set.Claims {
				if _, ok := c[a]; ok {
					n++
				}
			}
			return n
		}
		if got := []int{len(set.Claims), count(Create), count(Update), count(Delete)}; !slices.Equal(got, []int{tt.resources, tt.create, tt.update, tt.remove}) {
			t.Errorf("%s: got %v", tt.name, got)
		}
	}
	want := map[string]Claim{
		"ed-fi/students": {Create: {NoFurtherAuthorizationRequired}, Read: {RelationshipsWithEdOrgsAndPeople}, Update: {RelationshipsWithEdOrgsAndPeople},
			Delete: {NoFurtherAuthorizationRequired}},
		"ed-fi/studentSchoolAssociations": {Create: {RelationshipsWithEdOrgsOnly}, Read: {RelationshipsWithEdOrgsAndPeople}, Update: {RelationshipsWithEdOrgsAndPeople},
			Delete: {RelationshipsWithEdOrgsAndPeople}},
		"ed-fi/studentContactAssociations": {Create: {RelationshipsWithStudentsOnly}, Read: {RelationshipsWithStudentsOnly}, Update: {RelationshipsWithStudentsOnly},
			Delete: {RelationshipsWithStudentsOnly}},
		"ed-fi/gradebookEntries": {Create: {NamespaceBased}, Read: {NamespaceBased}, Update: {NamespaceBased}, Delete: {NamespaceBased}},
		"ed-fi/schools":          {Read: {NoFurtherAuthorizationRequired}},
	}
	set, _ := ShippedClaimSet(m, SISVendor)
	for path, claim := range want {
		if d := cmp.Diff(claim, set.Claims[path]); d != "" {
			t.Errorf("%s (-want +got):\n%s", path, d)
		}
	}
}

func TestEveryRelationshipRuleHasSubjects(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"4.0", "5.2"} {
		m := model(t, version)
		cat, err := compile(m)
		if err != nil {
			t.Fatal(err)
		}
		set, _ := ShippedClaimSet(m, EdFiSandbox)
		for path, claim := range set.Claims {
			tb := cat.byPath[path]
			for action, strategies := range claim {
				r := newRule(strategies)
				for _, s := range r.relationships {
					if !slices.ContainsFunc(tb.subjects, func(sub subject) bool { return s.looksAt(sub.kind) }) {
						t.Errorf("%s %s: %s has nothing to look at", version, action, path)
					}
				}
				if r.namespace && tb.namespace == nil {
					t.Errorf("%s %s: %s has no namespace", version, action, path)
				}
			}
		}
	}
	cat, err := compile(model(t, "5.2"))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"CourseTranscript":          "EducationOrganizationId StudentUniqueId", // not the course's organization
		"DisciplineAction":          "SchoolId StudentUniqueId",                // the responsible school stands beside the key
		"StudentProgramAssociation": "EducationOrganizationId StudentUniqueId", // not the program's
		"Section":                   "SchoolId",
		"Student":                   "StudentUniqueId",
		"Grade":                     "SchoolId StudentUniqueId",
		"StudentContactAssociation": "ContactUniqueId StudentUniqueId",
		"ProgramEvaluation":         "ProgramEducationOrganizationId",
	} {
		var got []string
		for _, s := range cat.byName[name].subjects {
			got = append(got, s.name)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %v, want %s", name, got, want)
		}
	}
}

// The relations are what a new count of all associations gives, whatever was written in whatever order.
func TestRelationsFollowEveryWrite(t *testing.T) {
	t.Parallel()
	admin, _ := vendor(t)
	rnd := rand.New(rand.NewPCG(7, 11))
	ids := map[string]string{}
	for i := range 4 {
		admin.must(http.StatusCreated, http.MethodPost, "students", strings.Replace(studentBody, "604822", fmt.Sprint(i), 1))
	}
	for range 400 {
		student, school, day := fmt.Sprint(rnd.IntN(4)), []string{"255901001", "255902001"}[rnd.IntN(2)], fmt.Sprintf("2025-08-%02d", 1+rnd.IntN(3))
		body := strings.NewReplacer("604822", student, "255901001", school, "2025-08-23", day).Replace(enrolBody)
		key := student + school + day
		switch id := ids[key]; {
		case id == "":
			ids[key] = admin.must(http.StatusCreated, http.MethodPost, "studentSchoolAssociations", body).id()
		case rnd.IntN(2) == 0:
			admin.must(http.StatusNoContent, http.MethodDelete, "studentSchoolAssociations/"+id, "")
			delete(ids, key)
		default: // to another key, which may be taken
			other := fmt.Sprintf("2025-08-%02d", 1+rnd.IntN(3))
			if a := admin.do(http.MethodPut, "studentSchoolAssociations/"+id, strings.Replace(body, day, other, 1)); a.Status == http.StatusNoContent {
				delete(ids, key)
				ids[student+school+other] = id
			}
		}
	}
	st := admin.s.store
	got := st.ties.enrolled.ties
	st.ties = nil
	st.relate()
	order := func(m map[uint32][]tie) map[uint32]string {
		out := map[uint32]string{}
		for person, ties := range m {
			slices.SortFunc(ties, func(a, b tie) int { return int(a.entry) - int(b.entry) })
			out[person] = fmt.Sprint(ties)
		}
		return out
	}
	if d := cmp.Diff(order(st.ties.enrolled.ties), order(got)); d != "" || len(got) == 0 {
		t.Errorf("counted anew (-) and kept (+):\n%s", d)
	}
}

// Rights change, records come and go, and everything is restored while restricted clients call: no answer is one nobody gives.
func TestRightsChangeWhileClientsCall(t *testing.T) {
	t.Parallel()
	admin, sis := vendor(t)
	for i := range 3 {
		admin.must(http.StatusCreated, http.MethodPost, "students", strings.Replace(studentBody, "604822", fmt.Sprint(i), 1))
	}
	admin.s.Snapshot("students")
	var wg sync.WaitGroup
	worker := func(f func(i int)) {
		wg.Go(func() {
			for i := range 40 {
				f(i)
			}
		})
	}
	allowed := func(a answer, statuses ...int) {
		if !slices.Contains(statuses, a.Status) {
			t.Errorf("got %d %s", a.Status, a.Body)
		}
	}
	for w := range 2 {
		c := &client{t: t, s: sis.s, base: sis.base, token: sis.token}
		worker(func(i int) {
			student := fmt.Sprint((i + w) % 3)
			a := c.do(http.MethodPost, "studentSchoolAssociations", strings.Replace(enrolBody, "604822", student, 1))
			allowed(a, 200, 201, 403, 409)
			allowed(c.do(http.MethodPost, "students", strings.NewReplacer("604822", student, "Tyrone", fmt.Sprint("T", i)).Replace(studentBody)), 200, 201, 403, 409)
			allowed(c.do(http.MethodGet, "students?totalCount=true", ""), 200)
			if a.Status == http.StatusCreated {
				allowed(c.do(http.MethodDelete, "studentSchoolAssociations/"+a.id(), ""), 204, 403, 404, 409)
			}
		})
	}
	worker(func(i int) {
		org := []int64{255901, 255902}[i%2]
		if err := admin.s.SetClient(Client{ID: sisID, Secret: testSecret, ClaimSet: SISVendor, EducationOrganizations: []int64{org}}); err != nil {
			t.Error(err)
		}
		if i%13 == 7 {
			if err := admin.s.Restore("students"); err != nil {
				t.Error(err)
			}
		}
	})
	wg.Wait()
	checkIntegrity(t, admin.s)
}

func TestWithoutRestrictedClientsNoRelationsAreKept(t *testing.T) {
	t.Parallel()
	c := start(t)
	c.district()
	if c.s.store.ties != nil || c.s.cat.byName["StudentSchoolAssociation"].association != nil {
		t.Error("relations are kept though every client may do everything")
	}
	// Rights that come later find the associations there are.
	if err := c.s.SetClient(Client{ID: testID, Secret: testSecret, ClaimSet: SISVendor, EducationOrganizations: []int64{255901001}}); err != nil {
		t.Fatal(err)
	}
	if a := c.do(http.MethodPost, "students", studentBody); a.Status != http.StatusOK {
		t.Errorf("an enrolled student: %d %s", a.Status, a.Body)
	}
	if a := c.do(http.MethodPost, "schools", schoolBody); a.Status != http.StatusForbidden {
		t.Errorf("a claim taken away from a live token: %d", a.Status)
	}
}

func TestClientsAreChecked(t *testing.T) {
	t.Parallel()
	m := model(t, "5.2")
	custom := ClaimSet{Name: "Mine", Claims: map[string]Claim{"ed-fi/students": {Read: nil}}}
	for _, tt := range []struct {
		name string
		o    Options
		want string // "" for none
	}{
		{"a client in place of ClientID", Options{Clients: []Client{{ID: "a", Secret: "b"}}}, ""},
		{"a claim set of one's own", Options{Clients: []Client{{ID: "a", Secret: "b", ClaimSet: "Mine"}}, ClaimSets: []ClaimSet{custom}}, ""},
		{"no client", Options{}, "required"},
		{"a client without a secret", Options{Clients: []Client{{ID: "a"}}}, "required"},
		{"a colon", Options{Clients: []Client{{ID: "a:", Secret: "b"}}}, "colon"},
		{"two clients of one id", Options{ClientID: "a", ClientSecret: "b", Clients: []Client{{ID: "a", Secret: "b"}}}, "two clients a"},
		{"a claim set that does not exist", Options{Clients: []Client{{ID: "a", Secret: "b", ClaimSet: "x"}}}, `no claim set "x"; there are Full Access, SIS Vendor`},
		{"a claim of no resource", Options{
			Clients: []Client{{ID: "a", Secret: "b", ClaimSet: "Bad"}}, ClaimSets: []ClaimSet{{Name: "Bad", Claims: map[string]Claim{"ed-fi/student": nil}}},
		}, "no resource ed-fi/student"},
		{"a strategy it does not have", Options{
			Clients: []Client{{ID: "a", Secret: "b", ClaimSet: "Bad"}}, ClaimSets: []ClaimSet{{Name: "Bad", Claims: map[string]Claim{"ed-fi/students": {Read: {"OwnershipBased"}}}}},
		}, `"OwnershipBased"`},
	} {
		tt.o.Model, tt.o.Descriptors = m, fewDescriptors(m)[:1]
		s, err := New(tt.o)
		if err == nil {
			_ = s.Close()
		}
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", tt.name, err, tt.want)
		}
	}
}

func TestClientsChangeOverTheAdminRoute(t *testing.T) {
	t.Parallel()
	_, sis := vendor(t)
	sis.must(http.StatusForbidden, http.MethodPost, "schools", ofAgency("255901002", "255901"))
	put := func(document string) answer { return sis.raw(http.MethodPut, "/sandbox/clients", document) }
	if a := put(`[{id: sis, secret: secret, claimSet: "` + DistrictHostedSISVendor + `", educationOrganizations: [255901]}, {id: x, secret: y, claimSet: None}]`); a.Status != http.StatusBadRequest {
		t.Errorf("a claim set that is not there: %d", a.Status)
	}
	sis.must(http.StatusForbidden, http.MethodPost, "schools", ofAgency("255901002", "255901"))
	if a := put(`[{id: sis, secret: secret, claimSet: "` + DistrictHostedSISVendor + `", educationOrganizations: [255901]}]`); a.Status != http.StatusNoContent {
		t.Fatalf("got %d %s", a.Status, a.Body)
	}
	sis.must(http.StatusCreated, http.MethodPost, "schools", ofAgency("255901002", "255901"))
	a := sis.raw(http.MethodGet, "/sandbox/clients", "")
	if !strings.Contains(a.Body, `{"id":"sis","claimSet":"District Hosted SIS Vendor","educationOrganizations":[255901],"namespacePrefixes":null}`) || strings.Contains(a.Body, testSecret) {
		t.Errorf("got %s", a.Body)
	}
}

func TestATokenOfAScopeSeesOneOrganization(t *testing.T) {
	t.Parallel()
	admin, _ := vendor(t, func(o *Options) {
		o.Clients = append(o.Clients, Client{ID: "both", Secret: testSecret, ClaimSet: SISVendor, EducationOrganizations: []int64{255901, 255902}})
	})
	c := admin.as("both")
	c.must(http.StatusCreated, http.MethodPost, "courses", strings.ReplaceAll(courseBody, "255901001", "255902"))
	a := c.raw(http.MethodPost, "/oauth/token", `{"grant_type":"client_credentials","client_id":"both","client_secret":"secret","scope":"255901"}`, "Authorization: ")
	var got struct {
		Token string `json:"access_token"`
	}
	if err := json.Unmarshal([]byte(a.Body), &got); err != nil {
		t.Fatal(err)
	}
	c.token = got.Token
	if a := c.do(http.MethodPost, "courses", strings.ReplaceAll(courseBody, "255901001", "255902")); a.Status != http.StatusForbidden {
		t.Errorf("the other organization: got %d, want 403", a.Status)
	}
	if a := c.raw(http.MethodPost, "/oauth/token", `{"grant_type":"client_credentials","client_id":"both","client_secret":"secret","scope":"255901001"}`, "Authorization: "); a.Status != http.StatusBadRequest {
		t.Errorf("a scope below one's own organization: got %d, want 400", a.Status)
	}
}
