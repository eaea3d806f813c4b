package edfi

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func problemBody(typeSuffix, detail, more string) string {
	return `{"detail":"` + detail + `","type":"urn:ed-fi:api:` + typeSuffix + `","title":"T","correlationId":"00000000-0000-0000-0000-0000000000c1"` + more + `}`
}

// The bodies are those of Ed-Fi's error knowledge base, source and tests, with values that must never be printed marked by "SECRET".
func TestClassify(t *testing.T) {
	t.Parallel()
	html := http.Header{"Content-Type": {"text/html; charset=utf-8"}}
	page := "<!DOCTYPE html><html><body>SECRET</body></html>"
	tests := []struct {
		name   string
		status int
		header http.Header
		body   string
		method string
		class  Class
		code   string
		causes []string
	}{
		// ODS/API 7.1 and later
		{name: "a missing descriptor, an empty collection and a partial reference in one answer", status: 400, method: "POST",
			body:  `{"detail":"Data validation failed. See 'validationErrors' for details.","type":"urn:ed-fi:api:bad-request:data-validation-failed","title":"Data Validation Failed","status":400,"correlationId":"00000000-0000-0000-0000-0000000000c1","validationErrors":{"$.termDescriptor":["TermDescriptor value 'uri://ed-fi.org/TermDescriptor#SECRET' does not exist."],"$.classPeriods":["BellScheduleClassPeriods must have at least one item."],"$.calendarReference":["CalendarReference is missing the following properties: SchoolId"]}}`,
			class: Invalid, code: "descriptor-unknown",
			causes: []string{"$.calendarReference: reference lacks SchoolId", "$.classPeriods: needs at least one item", "$.termDescriptor: TermDescriptor value does not exist"}},
		{name: "required, too long, disagreeing references, a duplicate item", status: 400, method: "PUT",
			body:  problemBody("bad-request:data-validation-failed", "x", `,"validationErrors":{"$.firstName":["FirstName is required."],"$.lastSurname":["LastSurname must be at most 75 characters in length."],"$.schoolReference.schoolId":["All values supplied for 'schoolId' must match. Review all references and align the following conflicting values: 'SECRET', 'SECRET'"],"$.academicSubjects":["The 3rd item of the AssessmentAcademicSubjects has the same identifying values as another item earlier in the list."],"$.startTime":["Unexpected time value format found 'SECRET'."]}`),
			class: Invalid, code: "data-validation-failed",
			causes: []string{"$.academicSubjects: duplicate item", "$.firstName: required", "$.lastSurname: length out of bounds", "$.schoolReference.schoolId: references disagree on schoolId", "$.startTime: wrong type or format"}},
		{name: "a path that is no path is not repeated", status: 400, method: "POST",
			body:  problemBody("bad-request:data-validation-failed", "x", `,"validationErrors":{"$.SECRET value":["Jane SECRET is odd"]}`),
			class: Invalid, code: "data-validation-failed", causes: []string{"body: refused"}},
		{name: "an id in the body", status: 400, method: "POST",
			body:  problemBody("bad-request:data-validation-failed", "x", `,"errors":["Resource identifiers cannot be assigned by the client. The 'id' property should not be included in the request body."]`),
			class: Invalid, code: "data-validation-failed"},
		{name: "an empty body", status: 400, method: "POST", body: problemBody("bad-request", "The request could not be processed. See 'errors' for details.", `,"errors":["A non-empty request body is required."]`),
			class: Invalid, code: "bad-request"},
		{name: "a changed key on a resource that does not allow it (F25)", status: 400, method: "PUT",
			body:  problemBody("bad-request:data-validation-failed:key-change-not-supported", "Identifying values for the StudentProgramAssociation item cannot be changed. Delete and recreate the item instead.", ""),
			class: Rejected, code: "key-change-not-supported"},
		{name: "a page size above the host's", status: 400, method: "GET", body: problemBody("bad-request:parameter-validation-failed", "x", `,"errors":["Limit must be a value between 0 and 500."]`),
			class: Rejected, code: "parameter"},
		{name: "a profile that forbids the item", status: 400, method: "POST", body: problemBody("bad-request:data-policy-enforced", "x", ""), class: Rejected, code: "profile"},
		{name: "a misused profile", status: 400, method: "POST", body: problemBody("profile:invalid-profile-usage", "x", ""), class: Rejected, code: "profile"},
		{name: "a token the host does not know", status: 401, method: "POST", body: problemBody("security:authentication", "The caller could not be authenticated.", `,"errors":["Invalid Authorization header."]`),
			class: Stop, code: "unauthenticated"},
		{name: "no relationship with the student (F21)", status: 403, method: "PUT",
			body:  `{"detail":"Access to the requested data could not be authorized. Hint: You may need to create a corresponding 'StudentSchoolAssociation' item.","type":"urn:ed-fi:api:security:authorization","title":"Authorization Denied","status":403,"correlationId":"00000000-0000-0000-0000-0000000000c1","errors":["No relationships have been established between the caller's education organization id claims (255901, 19255901) and one or more of the following properties of the resource item: 'EducationOrganizationId', 'StudentUniqueId'."]}`,
			class: Blocked, code: "no-relationship", causes: []string{"by EducationOrganizationId, StudentUniqueId", "needs StudentSchoolAssociation"}},
		{name: "a claim set without the action", status: 403, method: "POST", body: problemBody("security:authorization:access-denied:action", "Access to the requested data could not be authorized.", ""), class: Rejected, code: "claim-denied"},
		{name: "a claim set without the resource", status: 403, method: "POST", body: problemBody("security:authorization:access-denied:resource", "x", ""), class: Rejected, code: "claim-denied"},
		{name: "another namespace", status: 403, method: "POST", body: problemBody("security:authorization:namespace:access-denied:namespace-mismatch", "x", ""), class: Rejected, code: "namespace-denied"},
		{name: "another owner", status: 403, method: "PUT", body: problemBody("security:authorization:ownership:access-denied:ownership-mismatch", "x", ""), class: Rejected, code: "ownership-denied"},
		{name: "an uninitialized element of a relationship", status: 403, method: "PUT", body: problemBody("security:authorization:relationships:invalid-data:element-uninitialized", "x", ""), class: Blocked, code: "no-relationship"},
		{name: "a custom view", status: 403, method: "PUT", body: problemBody("security:authorization:custom-view:anything", "x", ""), class: Rejected, code: "forbidden"},
		{name: "a client the host does not know", status: 403, method: "PUT", body: problemBody("security:authorization:no-client-details", "x", ""), class: Stop, code: "no-client"},
		{name: "several profiles, none chosen", status: 403, method: "POST", body: problemBody("security:data-policy:incorrect-usage", "x", ""), class: Rejected, code: "profile"},
		{name: "an item to delete that is gone (F26)", status: 404, method: "DELETE", body: problemBody("not-found", "Resource to delete was not found.", ""), class: NotFound, code: "not-found"},
		{name: "an item to update that is gone", status: 404, method: "PUT", body: problemBody("not-found", "Resource to update was not found.", ""), class: NotFound, code: "not-found"},
		{name: "an item that is not there", status: 404, method: "GET", body: problemBody("not-found", "The specified item could not be found.", ""), class: NotFound, code: "not-found"},
		{name: "a resource the host does not have is no missing item", status: 404, method: "DELETE", body: problemBody("not-found", "The specified data could not be found.", ""), class: Rejected, code: "no-such-resource"},
		{name: "a resource to post to that the host does not have", status: 404, method: "POST", body: problemBody("not-found", "x", ""), class: Rejected, code: "no-such-resource"},
		{name: "a method", status: 405, method: "PUT", body: problemBody("method-not-allowed", "The endpoint of the request does not support the 'PUT' method.", ""), class: Rejected, code: "method-not-allowed", causes: []string{"method PUT"}},
		{name: "a composite that cannot be read", status: 405, method: "GET", body: problemBody("security:authorization:composite:not-readable", "x", ""), class: Rejected, code: "method-not-allowed"},
		{name: "a missing parent (F22)", status: 409, method: "POST", body: problemBody("data-conflict:unresolved-reference", "The referenced 'SchoolYearType' item does not exist.", ""),
			class: Blocked, code: "unresolved-reference", causes: []string{"referenced SchoolYearType does not exist"}},
		{name: "a child of the item (F23)", status: 409, method: "DELETE", body: problemBody("data-conflict:dependent-item-exists", "The requested action cannot be performed because this item is referenced by an existing 'StudentSchoolAssociation' item.", ""),
			class: Blocked, code: "dependent-exists", causes: []string{"referenced by StudentSchoolAssociation"}},
		{name: "a key in use (F24), whose values the host prints", status: 409, method: "POST",
			body:  `{"detail":"The identifying value(s) of the item are the same as another item that already exists.","type":"urn:ed-fi:api:data-conflict:non-unique-identity","title":"Identifying Values Are Not Unique","status":409,"errors":["A primary key conflict occurred when attempting to create or update a record in the 'ClassPeriod' table. The duplicate key is (ClassPeriodName, SchoolId) = (SECRET, SECRET)."],"correlationId":"00000000-0000-0000-0000-0000000000c1"}`,
			class: Rejected, code: "identity-conflict", causes: []string{"table ClassPeriod"}},
		{name: "an alternate key in use", status: 409, method: "POST", body: problemBody("data-conflict:non-unique-values", "The value supplied for property 'X' of entity 'Y' is not unique.", ""), class: Rejected, code: "non-unique-values"},
		{name: "a concurrent write", status: 409, method: "PUT", body: problemBody("data-conflict:multi-user-conflict", "x", ""), class: Transient, code: "multi-user-conflict"},
		{name: "an item changed since it was read (F27)", status: 412, method: "PUT", body: problemBody("optimistic-lock-failed", "The item has been modified by another user.", ""), class: Transient, code: "changed-meanwhile"},
		{name: "a content type", status: 415, method: "POST", body: problemBody("unsupported-media-type", "x", ""), class: Rejected, code: "media-type"},
		{name: "too many tokens", status: 429, method: "POST", body: problemBody("security:authentication:too-many-tokens", "x", ""), class: Transient, code: "too-many-tokens"},
		{name: "an unexpected problem (F14)", status: 500, method: "POST", body: problemBody("system", "An unexpected problem has occurred.", ""), class: Transient, code: "target-error"},
		{name: "a wrong configuration of the host", status: 500, method: "POST", body: problemBody("system:configuration:security", "x", ""), class: Transient, code: "target-error"},
		{name: "the host without its database", status: 500, method: "POST", body: problemBody("system:database-connection", "x", ""), class: Transient, code: "unavailable"},
		{name: "a type of the future refines one of today", status: 409, method: "POST", body: problemBody("data-conflict:unresolved-reference:person", "x", ""), class: Blocked, code: "unresolved-reference"},
		{name: "a type that contradicts its status does not count", status: 502, method: "POST", body: problemBody("data-conflict:unresolved-reference", "x", ""), class: Transient, code: "unavailable"},

		// ODS/API 5 and 6
		{name: "v5: an unresolved person is a 400", status: 400, method: "POST", body: `{"message":"Validation of 'StudentSchoolAssociation' failed.\n\tStudent reference could not be resolved.\n"}`,
			class: Blocked, code: "unresolved-reference", causes: []string{"referenced Student does not exist"}},
		{name: "v5: model state", status: 400, method: "POST", body: `{"message":"The request is invalid.","modelState":{"request.schoolReference.schoolId":["JSON integer SECRET is too large or small for an Int32. Path 'schoolReference.schoolId', line 1, position 328."]}}`,
			class: Invalid, code: "data-validation-failed", causes: []string{"schoolReference.schoolId: out of range"}},
		{name: "v5: another validation message", status: 400, method: "POST", body: `{"message":"Validation of 'Student' failed.\n\tSECRET is odd\n"}`, class: Invalid, code: "data-validation-failed"},
		{name: "v5: a missing parent", status: 409, method: "POST", body: `{"message":"The value supplied for the related 'studentschoolassociation' resource does not exist."}`,
			class: Blocked, code: "unresolved-reference", causes: []string{"referenced studentschoolassociation does not exist"}},
		{name: "v6: a missing parent without its name", status: 409, method: "POST", body: `{"message":"The value supplied for a related resource does not exist."}`, class: Blocked, code: "unresolved-reference"},
		{name: "v6: a child of the item", status: 409, method: "DELETE", body: `{"message":"The resource (or a subordinate entity of the resource) cannot be deleted because it is a dependency of the 'section' entity."}`,
			class: Blocked, code: "dependent-exists", causes: []string{"referenced by section"}},
		{name: "v6: a key in use", status: 409, method: "POST", body: `{"message":"A natural key conflict occurred when attempting to create a new resource 'Student' with a duplicate key. The duplicated columns and values are [StudentUniqueId] (SECRET)."}`, class: Rejected, code: "identity-conflict"},
		{name: "v6: values that are not unique", status: 409, method: "POST", body: `{"message":"The values supplied for properties 'A, B' of entity 'C' are not unique."}`, class: Rejected, code: "non-unique-values"},
		{name: "v6: no relationship", status: 403, method: "POST", body: `{"message":"Authorization denied. No relationships have been established between the caller's education organization id claims (SECRET) and the resource item's StudentUniqueId value."}`, class: Blocked, code: "no-relationship"},
		{name: "v6: the claim set", status: 403, method: "POST", body: `{"message":"Access to the resource could not be authorized. The API client's assigned claim set (currently 'SIS Vendor') must include one of the following resource claims to provide access to this resource: X."}`, class: Rejected, code: "claim-denied"},
		{name: "v6: a namespace", status: 403, method: "POST", body: `{"message":"Access to the resource item could not be authorized based on the caller's NamespacePrefix claims: 'SECRET'."}`, class: Rejected, code: "namespace-denied"},
		{name: "v6: an item that is gone, without a body", status: 404, method: "DELETE", class: NotFound, code: "not-found"},
		{name: "v6: a failure", status: 500, method: "POST", body: `{"message":"An unexpected error occurred on the server. SECRET"}`, class: Transient, code: "target-error"},

		// DMS
		{name: "DMS: all missing parents in one answer", status: 409, method: "POST", body: `{"detail":"One or more references could not be resolved. See 'validationErrors' for details.","type":"urn:ed-fi:api:data-conflict:unresolved-reference","title":"Unresolved Reference","status":409,"correlationId":"00000000-0000-0000-0000-0000000000c1","validationErrors":{"$.schoolReference":["The referenced School item does not exist."],"$.sessionReference":["The referenced Session item does not exist."]},"errors":[]}`,
			class: Blocked, code: "unresolved-reference", causes: []string{"$.schoolReference: referenced School does not exist", "$.sessionReference: referenced Session does not exist"}},
		{name: "DMS: a missing descriptor outweighs a missing parent", status: 400, method: "POST", body: `{"detail":"Data validation failed. See 'validationErrors' for details.","type":"urn:ed-fi:api:bad-request","title":"Bad Request","status":400,"correlationId":"00000000-0000-0000-0000-0000000000c1","validationErrors":{"$.schoolReference":["The referenced School item does not exist."],"$.termDescriptor":["TermDescriptor value 'uri://ed-fi.org/termdescriptor#secret' does not exist."]},"errors":[]}`,
			class: Invalid, code: "descriptor-unknown", causes: []string{"$.schoolReference: referenced School does not exist", "$.termDescriptor: TermDescriptor value does not exist"}},
		{name: "DMS: the id of a PUT", status: 400, method: "PUT", body: problemBody("bad-request:data-validation-failed", "x", `,"validationErrors":{"$.id":["id is required."]},"errors":[]`), class: Invalid, code: "data-validation-failed", causes: []string{"$.id: required"}},
		{name: "DMS: a key in use", status: 409, method: "POST", body: problemBody("identity-conflict", "The identifying value(s) of the item are the same as another item that already exists.", `,"validationErrors":{},"errors":["A natural key conflict occurred when attempting to create a new resource School with a duplicate key. The duplicate keys and values are (schoolId = SECRET)"]`), class: Rejected, code: "identity-conflict"},
		{name: "DMS: a child of the item", status: 409, method: "DELETE", body: problemBody("data-conflict:dependent-item-exists", "The requested action cannot be performed because this item is referenced by existing GradingPeriod item(s).", ""), class: Blocked, code: "dependent-exists", causes: []string{"referenced by GradingPeriod"}},
		{name: "DMS: a write conflict without a body", status: 409, method: "PUT", class: Transient, code: "multi-user-conflict"},
		{name: "DMS: an item that exists, on create only", status: 412, method: "POST", body: problemBody("precondition-failed:if-none-match", "x", ""), class: Transient, code: "changed-meanwhile"},
		{name: "DMS: the rate limit", status: 429, method: "POST", body: problemBody("too-many-requests", "x", ""), class: Transient, code: "too-many-requests"},
		{name: "DMS: the circuit breaker", status: 503, method: "POST", body: problemBody("service-unavailable", "x", ""), class: Transient, code: "unavailable"},
		{name: "DMS: a tenant that does not exist, in words", status: 404, method: "DELETE", body: problemBody("not-found", "The specified tenant could not be found.", ""), class: Stop, code: "route"},
		{name: "DMS: a claim failure of the plain type", status: 403, method: "PUT", body: problemBody("security:authorization", "Access to the resource could not be authorized.", ""), class: Rejected, code: "claim-denied"},
		{name: "a key change told by its words only", status: 400, method: "PUT", body: problemBody("bad-request:data-validation-failed", "Identifying values for the Grade item cannot be changed. Delete and recreate the item instead.", ""), class: Rejected, code: "key-change-not-supported"},
		{name: "v6: a stale item", status: 409, method: "PUT", body: `{"message":"The item was modified by another user."}`, class: Transient, code: "multi-user-conflict"},
		{name: "v6: a key change", status: 400, method: "PUT", body: `{"message":"Identifying values for the Grade resource cannot be changed."}`, class: Rejected, code: "key-change-not-supported"},
		{name: "DMS: a tenant that does not exist", status: 404, method: "PUT", body: problemBody("route-resolution-error", "x", ""), class: Stop, code: "route"},
		{name: "DMS: a database that is not provisioned", status: 503, method: "POST", body: problemBody("database-not-provisioned", "x", ""), class: Transient, code: "unavailable"},

		// Something in between
		{name: "a web page with 200 is no success (F9)", status: 200, header: html, body: page, method: "POST", class: Transient, code: "not-the-api"},
		{name: "a proxy's 404 does not say that the item is gone", status: 404, header: html, body: page, method: "DELETE", class: Transient, code: "not-the-api"},
		{name: "a router's 404 in plain text neither", status: 404, header: http.Header{"Content-Type": {"text/plain"}}, body: "404 page not found", method: "DELETE", class: Transient, code: "not-the-api"},
		{name: "a firewall's 403", status: 403, header: html, body: page, method: "POST", class: Rejected, code: "refused-before-api"},
		{name: "a web server's 405", status: 405, header: html, body: page, method: "PUT", class: Rejected, code: "method-not-allowed"},
		{name: "a proxy's size limit", status: 413, header: html, body: page, method: "POST", class: Invalid, code: "too-large"},
		{name: "a gateway without its upstream", status: 502, header: html, body: page, method: "POST", class: Transient, code: "unavailable"},
		{name: "a gateway that waited in vain", status: 504, header: html, body: page, method: "POST", class: Transient, code: "unavailable"},
		{name: "a temporary redirect (F28)", status: 302, method: "POST", class: Transient, code: "redirected"},
		{name: "a permanent redirect (F28)", status: 308, method: "POST", class: Stop, code: "moved"},
		{name: "a request that took too long to arrive", status: 408, method: "POST", class: Transient, code: "unavailable"},
		{name: "half a problem document still has its status", status: 409, body: `{"detail":"The referen`, method: "POST", class: Transient, code: "not-the-api"},
		{name: "a teapot", status: 418, method: "POST", class: Rejected, code: "refused"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			e := Classify(tt.status, tt.header, []byte(tt.body), tt.method)
			if e.Class != tt.class || e.Code != tt.code {
				t.Errorf("class %v, code %s; want %v, %s", e.Class, e.Code, tt.class, tt.code)
			}
			if tt.causes != nil {
				if diff := cmp.Diff(tt.causes, e.Causes); diff != "" {
					t.Errorf("causes (-want +got):\n%s", diff)
				}
			}
			if text := e.Error() + e.Hint + e.Title + e.Type + strings.Join(e.Causes, ""); strings.Contains(strings.ToUpper(text), "SECRET") {
				t.Errorf("a value of the record is printed: %s", text)
			}
			if e.Hint == "" || e.Owner == "" || e.Title == "" {
				t.Errorf("no hint, owner or title: %+v", e)
			}
			if string(e.Body) != tt.body {
				t.Errorf("body is not kept")
			}
			if e.repeat && e.Class != Transient {
				t.Errorf("a %v error is repeated", e.Class)
			}
		})
	}
}

func TestErrorTextNamesCallAndCauses(t *testing.T) {
	t.Parallel()
	e := Classify(400, nil, []byte(problemBody("bad-request:data-validation-failed", "x", `,"validationErrors":{"$.a":["a is required."]}`)), "POST")
	e.Resource = "ed-fi/students"
	want := "post ed-fi/students: the target refuses the content (400 Bad Request); $.a: required [correlation id 00000000-0000-0000-0000-0000000000c1]"
	if got := e.Error(); got != want {
		t.Errorf("error text\n got %s\nwant %s", got, want)
	}
}

func FuzzClassify(f *testing.F) {
	f.Add(400, "application/json", `{"type":"urn:ed-fi:api:bad-request:data-validation-failed","validationErrors":{"$.a":["x"]}}`, "POST")
	f.Add(409, "application/problem+json", `{"type":"urn:ed-fi:api:data-conflict:unresolved-reference","detail":"The referenced 'Student' item does not exist."}`, "PUT")
	f.Add(403, "", `{"message":"No relationships have been established"}`, "DELETE")
	f.Add(200, "text/html", "<html>", "POST")
	f.Add(404, "", `{"errors":{"a":1},"validationErrors":[],"type":7}`, "GET")
	f.Fuzz(func(t *testing.T, status int, contentType, body, method string) {
		e := Classify(status, http.Header{"Content-Type": {contentType}}, []byte(body), method)
		if e.Class < Invalid || e.Class > NotFound {
			t.Errorf("class %d", e.Class)
		}
		if e.Code == "" || e.Hint == "" || e.Title == "" || e.Owner == "" {
			t.Errorf("incomplete: %+v", e)
		}
		if e.repeat && e.Class != Transient {
			t.Errorf("a %v error is repeated", e.Class)
		}
		if len(e.Causes) > maxCauses {
			t.Errorf("%d causes", len(e.Causes))
		}
		for _, cause := range e.Causes {
			if len(cause) > 600 || strings.ContainsAny(cause, "\r\n\x1b<>") {
				t.Errorf("cause %q", cause)
			}
		}
		if e.Class == NotFound && (status < 400 || status >= 500) {
			t.Errorf("status %d is not found", status)
		}
	})
}

func TestClassesHaveNames(t *testing.T) {
	t.Parallel()
	for class, want := range map[Class]string{
		Invalid: "invalid", Rejected: "rejected", Blocked: "blocked", Transient: "transient", Stop: "stop", NotFound: "not-found", 0: "unclassified",
	} {
		if got := class.String(); got != want {
			t.Errorf("class %d is %s, want %s", class, got, want)
		}
	}
	if got := ClassOf(fmt.Errorf("send: %w", &Error{Class: Blocked})); got != Blocked {
		t.Errorf("class of a wrapped error is %v, want blocked", got)
	}
	if got := ClassOf(io.EOF); got != 0 {
		t.Errorf("class of a foreign error is %v, want none", got)
	}
}

func TestErrorShowsTheFirstCauses(t *testing.T) {
	t.Parallel()
	e := &Error{Title: "refused", Causes: strings.Split("a b c d e f g h i j", " "), Err: io.EOF}
	if got, want := e.Error(), "refused; a; b; c; d; e; f; g; h; and 2 more: EOF"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// A host that puts values where names belong, as texts of databases and of proxies do, gets none of them into causes, types and correlation ids (I14).
func TestClassifyTakesNamesOfTheDataStandardOnly(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, body string
		causes     []string
	}{
		{"a path", `{"validationErrors":{"$.Kowalska":["X"],"$.addresses[2].Kowalska":["is required."],"$._ext.tx.birthDate":["is required."],"Kowalska":["X"]}}`,
			[]string{"$._ext.(other).birthDate: required", "$.addresses[2].(other): required", "body: refused"}},
		{"a path that is none", `{"validationErrors":{"$.birth Date of O'Neill":["X"],"604822":["X"],"":["X"]}}`, []string{"body: refused"}},
		{"a name in a message", `{"validationErrors":{"$.schoolReference":["The referenced Kowalska item does not exist.","Kowalska is missing the following properties: SchoolId, Kowalska"]}}`,
			[]string{"$.schoolReference: reference lacks SchoolId, (other)", "$.schoolReference: referenced (other) does not exist"}},
		{"a name in a text", `{"detail":"it is referenced by an existing 'Kowalska' item"}`, []string{"referenced by (other)"}},
		{"properties", `{"errors":["one or more of the following properties of the resource item: 'Kowalska', 'StudentUniqueId'."]}`, []string{"by (other), StudentUniqueId"}},
	} {
		e := Classify(400, nil, []byte(tt.body), "POST")
		if diff := cmp.Diff(tt.causes, e.Causes); diff != "" {
			t.Errorf("%s: causes (-want +got):\n%s", tt.name, diff)
		}
	}
	for id, want := range map[string]string{
		"Kowalska": "", "604822": "", "c-1": "", "0HMVFE0A284AM:00000001": "0HMVFE0A284AM:00000001", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
		"6f2a1c9e-7a1b-4c6d-9e1f-0123456789ab": "6f2a1c9e-7a1b-4c6d-9e1f-0123456789ab", "6f2a1c9e7a1b4c6d9e1f0123456789ab": "6f2a1c9e7a1b4c6d9e1f0123456789ab",
	} {
		if got := Classify(500, nil, fmt.Appendf(nil, `{"correlationId": %q}`, id), "POST").CorrelationID; got != want {
			t.Errorf("correlation id %s: got %q, want %q", id, got, want)
		}
	}
	for from, want := range map[string]string{
		"security:authorization:kowalska": "security:authorization", "kowalska": "", "data-conflict:unresolved-reference": "data-conflict:unresolved-reference", "bad-request:kowalska": "bad-request",
	} {
		if want != "" {
			want = typePrefix + want
		}
		if got := Classify(400, nil, fmt.Appendf(nil, `{"type": "urn:ed-fi:api:%s"}`, from), "POST").Type; got != want {
			t.Errorf("type %s: got %q, want %q", from, got, want)
		}
	}
}
