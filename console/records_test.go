package console_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/edfisync/edfisync/console"
	"github.com/edfisync/edfisync/sync"
	"github.com/edfisync/edfisync/syncdb"
)

// records knows one record, at a SIS and a target that can be away.
type records struct {
	away  error
	trace sync.Trace
	asked []sync.TraceOptions
}

func (r *records) Trace(_ context.Context, _ console.Connection, _ sync.RecordName, o sync.TraceOptions) (*sync.Trace, error) {
	r.asked = append(r.asked, o)
	if r.away != nil {
		return nil, r.away
	}
	t := r.trace
	t.Resource, t.Synced, t.Rows = "ed-fi/students", true, []sync.TraceRow{{Query: "students.sql", SourceHash: "02"}}
	if o.Data {
		t.Rows[0].SourceKey, t.Rows[0].Payload = "4711", json.RawMessage(`{"lastSurname":"Lovelace"}`)
	}
	return &t, nil
}

func (r *records) HeldChanges(_ context.Context, _ console.Connection, ops []syncdb.PlanOp, data bool) ([]sync.HeldChange, error) {
	r.asked = append(r.asked, sync.TraceOptions{Data: data})
	if r.away != nil {
		return nil, r.away
	}
	out := make([]sync.HeldChange, len(ops))
	for i, o := range ops {
		out[i] = sync.HeldChange{Resource: o.Resource, Verb: "update", Record: sync.RecordID{Resource: o.Resource, Key: o.KeyHash}.String(), From: "history", Elements: []string{"lastSurname"}}
		if data {
			out[i].SourceKey, out[i].Fields = "4711", []sync.FieldChange{{Path: "lastSurname", Before: json.RawMessage(`"King"`), After: json.RawMessage(`"Lovelace"`)}}
		}
	}
	return out, nil
}

func (r *records) Find(_ context.Context, _ console.Connection, name sync.RecordName) (sync.RecordID, error) {
	if r.away != nil {
		return sync.RecordID{}, r.away
	}
	switch name.Key["studentUniqueId"] {
	case "604822":
		return sync.RecordID{Resource: "ed-fi/students", Key: syncdb.Hash{11}}, nil
	case "604821": // the row of service.hold
		return sync.RecordID{Resource: "ed-fi/students", Row: syncdb.Hash{2}}, nil
	case "604823": // of which the ledger has nothing
		return sync.RecordID{Resource: "ed-fi/students", Key: syncdb.Hash{9}}, nil
	}
	return sync.RecordID{}, &sync.UnknownRecordError{Reason: "no such record"}
}

// recordExamples is how the matrix calls the routes of rows and records.
func recordExamples() map[string]example {
	out := map[string]example{}
	add := func(pattern, body string, path func(o objects) string) {
		e := example{path: path}
		if body != "" {
			e.body = func(objects) string { return body }
		}
		out[pattern] = e
	}
	const record = "/connections/{connection}/records/{schema}/{resource}/{record}"
	for _, rest := range []string{"", "/trace", "/data"} {
		add("GET "+record+rest, "", func(o objects) string { return "/connections/" + o.connection + o.record + rest })
		add("GET /api/v1"+record+rest, "", func(o objects) string { return "/api/v1/connections/" + o.connection + o.record + rest })
	}
	issue := func(base, rest string) func(o objects) string {
		return func(o objects) string { return fmt.Sprintf("%s/issues/%d%s", base, o.issue, rest) }
	}
	hold := func(path string) func(o objects) string {
		return func(o objects) string { return fmt.Sprintf(path, o.hold) }
	}
	add("POST /connections/{connection}/test", "", func(o objects) string { return "/connections/" + o.connection + "/test" })
	add("GET /holds/{id}", "", hold("/holds/%d"))
	add("GET /api/v1/holds/{id}/calls", "", hold("/api/v1/holds/%d/calls"))
	for _, rest := range []string{"/changes", "/data"} {
		add("GET /holds/{id}"+rest, "", hold("/holds/%d"+rest))
		add("GET /api/v1/holds/{id}"+rest, "", hold("/api/v1/holds/%d"+rest))
	}
	add("GET /issues/{id}", "", issue("", ""))
	add("GET /issues/{id}/data", "", issue("", "/data"))
	add("POST /issues/{id}/retry", "", issue("", "/retry"))
	add("POST /issues/{id}/archive", "why=matrix", issue("", "/archive"))
	add("POST /issues/{id}/unarchive", "", issue("", "/unarchive"))
	add("GET /api/v1/issues/{id}/rows", "", issue("/api/v1", "/rows"))
	add("GET /api/v1/issues/{id}/data", "", issue("/api/v1", "/data"))
	add("POST /api/v1/issues/{id}/retry", "", issue("/api/v1", "/retry"))
	add("POST /api/v1/issues/{id}/archive", `{"why": "matrix"}`, issue("/api/v1", "/archive"))
	add("POST /api/v1/issues/{id}/unarchive", "", issue("/api/v1", "/unarchive"))
	find := func(base string) func(o objects) string {
		return func(o objects) string { return base + "/connections/" + o.connection + "/records/find" }
	}
	add("POST /connections/{connection}/records/find", "resource=ed-fi/students&key=studentUniqueId%3D604821", find(""))
	add("POST /api/v1/connections/{connection}/records/find", `{"resource": "ed-fi/students", "naturalKey": {"studentUniqueId": "604821"}}`, find("/api/v1"))
	add("POST /api/v1/connections/{connection}/retry", `{"resource": "ed-fi/students"}`, func(o objects) string { return "/api/v1/connections/" + o.connection + "/retry" })
	for _, path := range []string{"/status", "/badge.svg", "/resources", "/descriptors"} {
		add("GET /api/v1/connections/{connection}"+path, "", func(o objects) string { return "/api/v1/connections/" + o.connection + path })
	}
	ofRun := func(base, rest string) func(o objects) string {
		return func(o objects) string { return fmt.Sprintf("%s/runs/%d%s", base, o.run, rest) }
	}
	add("GET /api/v1/runs/{id}/receipt/verify", "", ofRun("/api/v1", "/receipt/verify"))
	add("GET /runs/{id}/receipt", "", ofRun("", "/receipt"))
	add("GET /connections/{connection}/descriptors", "", func(o objects) string { return "/connections/" + o.connection + "/descriptors?find=x" })
	add("GET /connections/{connection}/receipts", "", func(o objects) string { return "/connections/" + o.connection + "/receipts" })
	for pattern, path := range map[string]string{
		"GET /audit": "/audit?who=test&action=key.", "GET /audit/verify": "/audit/verify", "GET /keys": "/keys", "GET /settings": "/settings", "GET /api/v1/settings": "/api/v1/settings",
	} {
		out[pattern] = example{path: func(objects) string { return path }, open: true}
	}
	out["POST /keys"] = example{open: true, path: func(objects) string { return "/keys" }, body: func(objects) string { return fmt.Sprintf("name=form+%d&role=viewer", time.Now().UnixNano()) }}
	add("POST /keys/{id}/rotate", "overlap=24h", func(o objects) string { return "/keys/" + o.key + "/rotate" })
	add("POST /keys/{id}/revoke", "", func(o objects) string { return "/keys/" + o.key + "/revoke" })
	add("GET /connections/{connection}/badge", "", func(o objects) string { return "/connections/" + o.connection + "/badge" })
	return out
}

// showsData reports whether a route shows student data, or finds by it.
func showsData(pattern string) bool {
	return strings.HasSuffix(pattern, "/data") || strings.HasSuffix(pattern, "/records/find")
}

type rowDoc struct {
	Record           string            `json:"record"`
	Outcome          string            `json:"outcome"`
	SourceKey        string            `json:"sourceKey"`
	Answer           string            `json:"answer"`
	Problems         []json.RawMessage `json:"problems"`
	WaitsForResource string            `json:"waitsForResource"`
	WaitsForRecord   string            `json:"waitsForRecord"`
}

// secrets are the student values that rows of these tests hold.
var secrets = []string{"Lovelace", "604822", "4711", "Ada"}

// refused has a record that the target refused, one that breaks rules and one that waits for it, and what was sent. It returns the issue of the first.
func (s *service) troubled(connection string) (issue int64) {
	s.t.Helper()
	ctx, l := s.t.Context(), s.running(connection)
	s.ok(s.ledger.SaveProblems(ctx, l, []syncdb.Problem{
		{
			Resource: "ed-fi/students", SourceHash: syncdb.Hash{1}, KeyHash: syncdb.Hash{11}, RecordHash: syncdb.Hash{21}, Outcome: "rejected", Code: "refused", Cause: "update answered 400",
			Owner: "target host", SourceKey: "4711",
			Detail: []byte(`{"call":"update","status":400,"type":"urn:ed-fi:api:bad-request","correlationId":"c-1","answer":"{\"detail\":\"Lovelace is not good\"}","naturalKey":["604822"]}`),
		},
		{
			Resource: "ed-fi/students", SourceHash: syncdb.Hash{2}, Outcome: "invalid", Code: "descriptor-unmapped", Cause: "$.sex", Owner: "mapping", SourceKey: "4712",
			Detail: []byte(`{"query":"students.sql","problems":[{"code":"descriptor-unmapped","path":"$.sex","message":"no map has the code","value":"Ada"}]}`),
		},
		{
			Resource: "ed-fi/studentSchoolAssociations", SourceHash: syncdb.Hash{3}, Outcome: "blocked", Code: "missing-reference", Cause: "Student", Owner: "source data", SourceKey: "4711-1",
			BlockedBy: []byte(`{"entity":"Student","naturalKey":["604822"]}`), BlockedResource: "ed-fi/students", BlockedKey: syncdb.Hash{11},
		},
	}))
	s.ok(s.ledger.SaveAttempts(ctx, l, []syncdb.Attempt{{
		Resource: "ed-fi/students", KeyHash: syncdb.Hash{11}, Verb: syncdb.Update, Status: 400, At: time.Now(), Key: []byte(`["604822"]`),
		Payload: []byte(`{"lastSurname":"Lovelace"}`), Answer: []byte(`{"detail":"Lovelace is not good"}`),
	}}))
	s.finish(l, syncdb.RunDone)
	issues, err := s.ledger.Issues(ctx, s.ids[connection], true)
	s.ok(err)
	i := slices.IndexFunc(issues, func(i syncdb.Issue) bool { return i.Code == "refused" })
	return issues[i].ID
}

// clear reports an answer that holds student data.
func (s *service) clear(what, body string) {
	s.t.Helper()
	for _, secret := range secrets {
		if strings.Contains(body, secret) {
			s.t.Errorf("%s shows %s: %s", what, secret, body)
		}
	}
}

func TestRowsOfAnIssueAreShownWithoutStudentDataToWhoMayNotSeeIt(t *testing.T) {
	t.Parallel()
	onBoth(t, nil, func(t *testing.T, s *service) {
		issue := s.troubled("lincoln")
		viewer, sees := s.key(console.NewKey{Role: "viewer"}), s.key(console.NewKey{Role: "viewer", StudentData: true})
		path := fmt.Sprintf("/issues/%d", issue)
		var rows page[rowDoc]
		s.get(path+"/rows", viewer, &rows)
		id := sync.RecordID{Key: syncdb.Hash{11}, Row: syncdb.Hash{1}}.String()
		if len(rows.Items) != 1 || rows.Items[0].Record != id || rows.Items[0].Outcome != "rejected" {
			t.Errorf("rows: %+v, want record %s", rows, id)
		}
		for _, at := range []string{"/rows", ""} {
			s.clear(path+at, s.do("GET", "/api/v1"+path+at, viewer, "").body)
		}
		before := len(s.acts())
		s.refused(s.do("GET", "/api/v1"+path+"/data", viewer, ""), 403, "forbidden", "student data")
		s.get(path+"/data", sees, &rows)
		if rows.Items[0].SourceKey != "4711" || !strings.Contains(rows.Items[0].Answer, "Lovelace") {
			t.Errorf("rows with data: %+v", rows)
		}
		if acts := s.acts(); acts[0] != "issues.show" || len(acts) != before+2 { // and the refusal
			t.Errorf("audited: %v, want the look and the refusal", acts[:len(acts)-before])
		}
		// What a row waits for leads to it.
		issues, err := s.ledger.Issues(t.Context(), s.ids["lincoln"], true)
		s.ok(err)
		for _, i := range issues {
			s.get(fmt.Sprintf("/issues/%d/rows", i.ID), viewer, &rows)
			if i.Code == "missing-reference" && (rows.Items[0].WaitsForResource != "ed-fi/students" || rows.Items[0].WaitsForRecord != sync.RecordID{Key: syncdb.Hash{11}}.String()) {
				t.Errorf("what waits: %+v", rows)
			}
			if i.Code == "descriptor-unmapped" && len(rows.Items[0].Problems) != 1 {
				t.Errorf("what breaks a rule: %+v", rows)
			}
			for _, at := range []string{"/rows"} {
				s.clear(i.Code, s.do("GET", fmt.Sprintf("/api/v1/issues/%d%s", i.ID, at), viewer, "").body)
			}
			s.clear("the page of "+i.Code, s.do("GET", fmt.Sprintf("/issues/%d", i.ID), "", "", "Cookie", s.logIn(viewer)).body)
		}
	})
}

func TestRowsOfAnIssueHavePages(t *testing.T) {
	t.Parallel()
	onBoth(t, nil, func(t *testing.T, s *service) {
		l := s.running("lincoln")
		var problems []syncdb.Problem
		for i := range 7 {
			problems = append(problems, syncdb.Problem{
				Resource: "ed-fi/students", SourceHash: syncdb.Hash{byte(250 - i)}, Outcome: "invalid", Code: "required-missing", Cause: "x", Owner: "source data", SourceKey: "k",
			})
		}
		s.ok(s.ledger.SaveProblems(t.Context(), l, problems))
		s.finish(l, syncdb.RunDone)
		key := s.key(console.NewKey{Role: "viewer"})
		var all []string
		for cursor := ""; ; {
			var rows page[rowDoc]
			s.get("/issues/1/rows?limit=3&cursor="+cursor, key, &rows)
			for _, r := range rows.Items {
				all = append(all, r.Record)
			}
			if cursor = rows.Next; cursor == "" {
				break
			}
		}
		if len(all) != 7 || !slices.IsSorted(all) {
			t.Errorf("pages show %v, want 7 rows in order", all)
		}
		s.refused(s.do("GET", "/api/v1/issues/1/rows?cursor=x", key, ""), 422, "invalid", "cursor")
	})
}

func TestARecordIsRememberedWithoutStudentData(t *testing.T) {
	t.Parallel()
	s := newService(t, func(c *console.Config) { c.Records = &records{} })
	s.troubled("lincoln")
	viewer, sees := s.key(console.NewKey{Role: "viewer"}), s.key(console.NewKey{Role: "viewer", StudentData: true})
	path := "/connections/lincoln/records/ed-fi/students/" + sync.RecordID{Key: syncdb.Hash{11}, Row: syncdb.Hash{1}}.String()
	for _, rest := range []string{"", "/trace"} {
		a := s.do("GET", "/api/v1"+path+rest, viewer, "")
		if a.status != 200 || !strings.Contains(a.body, `"status":400`) && rest == "" {
			t.Errorf("%s: %d %s", rest, a.status, a.body)
		}
		s.clear(rest, a.body)
		if p := s.do("GET", path+rest, "", "", "Cookie", s.logIn(viewer)); p.status != 200 || !strings.Contains(p.body, "which your key may not see") {
			t.Errorf("the page %s: %d %s", rest, p.status, p.body)
		} else {
			s.clear("the page "+rest, p.body)
		}
	}
	s.refused(s.do("GET", "/api/v1"+path+"/data", viewer, ""), 403, "forbidden", "student data")
	a := s.do("GET", "/api/v1"+path+"/data", sees, "")
	if a.status != 200 || !strings.Contains(a.body, `"payload":{"lastSurname":"Lovelace"}`) || !strings.Contains(a.body, `"asked":true`) {
		t.Errorf("with data: %d %s", a.status, a.body)
	}
	if acts := s.acts(); acts[0] != "trace.show" {
		t.Errorf("audited: %v", acts[0])
	}
	rows, err := s.ledger.FindAudit(t.Context(), syncdb.AuditFilter{Limit: 1})
	s.ok(err)
	if !strings.HasPrefix(rows[0].Object, "ed-fi/students key 0b") {
		t.Errorf("the trail names %q", rows[0].Object)
	}
	s.clear("the trail", rows[0].Object+string(rows[0].Detail))
	for _, wrong := range []string{"x", "k11", "k" + strings.Repeat("0", 32), "r" + strings.Repeat("f", 32), "k" + strings.Repeat("A", 32)} {
		s.refused(s.do("GET", "/api/v1/connections/lincoln/records/ed-fi/students/"+wrong, viewer, ""), 404, "not-found", "record")
	}
	s.refused(s.do("GET", "/api/v1"+strings.Replace(path, "lincoln", "acme~north", 1), viewer, ""), 404, "not-found", "record")
}

// When SIS and target are away, who looks at a record sees what the ledger has, and no text of theirs.
func TestARecordIsShownWhileItsSISIsAway(t *testing.T) {
	t.Parallel()
	s := newService(t, func(c *console.Config) { c.Records = &records{away: errors.New("dial 10.1.2.3: Lovelace refused")} })
	s.troubled("lincoln")
	sees := s.key(console.NewKey{Role: "viewer", StudentData: true})
	path := "/connections/lincoln/records/ed-fi/students/" + sync.RecordID{Key: syncdb.Hash{11}}.String()
	a := s.do("GET", "/api/v1"+path+"/data", sees, "")
	if a.status != 200 || !strings.Contains(a.body, `"asked":false`) || !strings.Contains(a.body, `{"lastSurname":"Lovelace"}`) || strings.Contains(a.body, "10.1.2.3") {
		t.Errorf("got %d %s", a.status, a.body)
	}
	if p := s.do("GET", path+"/data", "", "", "Cookie", s.logIn(sees)); p.status != 200 || !strings.Contains(p.body, "not shown") || strings.Contains(p.body, "10.1.2.3") {
		t.Errorf("the page: %d %s", p.status, p.body)
	}
	s.refused(s.do("POST", "/api/v1/connections/lincoln/records/find", sees, `{"resource": "ed-fi/students", "sourceKey": "1"}`), 502, "unreachable", "could not be asked")
}

func TestARecordIsFoundByItsKeysWhichAreInNoAddress(t *testing.T) {
	t.Parallel()
	s := newService(t, nil)
	s.troubled("lincoln")
	sees := s.key(console.NewKey{Role: "viewer", StudentData: true})
	if a := s.do("GET", "/api/v1/connections/lincoln/records/ed-fi/students/k0b"+strings.Repeat("0", 30), sees, ""); a.status != 200 || strings.Contains(a.body, "inScope") {
		t.Errorf("a record whose source was not asked: %d %s", a.status, a.body)
	}
	a := s.do("POST", "/api/v1/connections/lincoln/records/find", sees, `{"resource": "ed-fi/students", "naturalKey": {"studentUniqueId": "604822"}}`)
	want := "/connections/lincoln/records/ed-fi/students/k0b" + strings.Repeat("0", 30)
	if a.status != 200 || a.header.Get("Location") != "/api/v1"+want {
		t.Errorf("got %d to %s: %s", a.status, a.header.Get("Location"), a.body)
	}
	s.refused(s.do("POST", "/api/v1/connections/lincoln/records/find", sees, `{"resource": "ed-fi/students", "naturalKey": {"studentUniqueId": "604823"}}`), 404, "not-found", "no record has this key")
	cookie := s.logIn(sees)
	a = s.do("POST", "/connections/lincoln/records/find", "", url.Values{"resource": {"ed-fi/students"}, "key": {"studentUniqueId=604822"}}.Encode(), "Cookie", cookie)
	if a.status != 303 || a.header.Get("Location") != want {
		t.Errorf("the form: %d to %s", a.status, a.header.Get("Location"))
	}
	for form, says := range map[string]string{"resource=x&key=604822": "name=value", "resource=&key=a%3D1": "give the resource", "resource=x&key=studentUniqueId%3D1": "no such record"} {
		if a := s.do("POST", "/connections/lincoln/records/find", "", form, "Cookie", cookie); a.status != 422 || !strings.Contains(a.body, says) {
			t.Errorf("%s: %d %s", form, a.status, a.body)
		}
	}
	rows, err := s.ledger.FindAudit(t.Context(), syncdb.AuditFilter{})
	s.ok(err)
	found := 0
	for _, r := range rows {
		s.clear("the trail", r.Object+string(r.Detail))
		if r.Action == "record.find" {
			found++
		}
	}
	if found < 2 {
		t.Errorf("%d looks are in the trail", found)
	}
}

func TestRefusedRecordsAreSentAgainWhenSomebodyAsks(t *testing.T) {
	t.Parallel()
	onBoth(t, nil, func(t *testing.T, s *service) {
		issue := s.troubled("lincoln")
		key := s.key(console.NewKey{Role: "operator"})
		rejected := func() int {
			all, err := s.ledger.Rejected(t.Context(), s.ids["lincoln"], "ed-fi/students")
			s.ok(err)
			return len(all)
		}
		if rejected() != 1 {
			t.Fatal("nothing is rejected")
		}
		a := s.do("POST", fmt.Sprintf("/api/v1/issues/%d/retry", issue), key, "")
		if a.status != 200 || !strings.Contains(a.body, `"records":1`) || rejected() != 0 {
			t.Errorf("got %d %s, %d rejected", a.status, a.body, rejected())
		}
		if acts := s.acts(); acts[0] != "retry" {
			t.Errorf("audited: %v", acts)
		}
		for body, want := range map[string]string{"": `"records":1`, `{"resource": "ed-fi/students"}`: `"records":1`, `{"resource": "ed-fi/schools"}`: `"records":0`} {
			if a := s.do("POST", "/api/v1/connections/lincoln/retry", key, body); a.status != 200 || !strings.Contains(a.body, want) {
				t.Errorf("%s: %d %s, want %s", body, a.status, a.body, want)
			}
		}
		if a := s.do("POST", fmt.Sprintf("/issues/%d/retry", issue), "", "", "Cookie", s.logIn(key)); a.status != 303 || a.header.Get("Location") != fmt.Sprintf("/issues/%d?sent=1", issue) {
			t.Errorf("the form: %d to %s", a.status, a.header.Get("Location"))
		}
		l := s.running("lincoln")
		_, err := s.ledger.CloseProblems(t.Context(), l, nil)
		s.ok(err)
		s.finish(l, syncdb.RunDone)
		s.refused(s.do("POST", fmt.Sprintf("/api/v1/issues/%d/retry", issue), key, ""), 409, "issue-settled", "settled")
	})
}

func TestCodesThatNoMapHasComeFirst(t *testing.T) {
	t.Parallel()
	s := newService(t, func(c *console.Config) {
		c.Descriptors = func(context.Context, console.Connection) (console.DescriptorMaps, error) {
			return console.DescriptorMaps{Pack: "limitless", Edit: "Add it there.", Entries: []console.DescriptorEntry{
				{Descriptor: "GradeLevelDescriptor", Code: "09", URI: "uri://ed-fi.org/GradeLevelDescriptor#Ninth grade", From: "pack"}, {Descriptor: "SexDescriptor", Code: "F", URI: "uri://ed-fi.org/SexDescriptor#Female", From: "connection"},
			}}, nil
		}
	})
	s.troubled("lincoln")
	key := s.key(console.NewKey{Role: "viewer"})
	var got struct {
		Unmapped []struct {
			Code string
			Own  int
		}
		Entries []console.DescriptorEntry
		Edit    string
	}
	if s.get("/connections/lincoln/descriptors", key, &got); len(got.Unmapped) != 1 || got.Unmapped[0].Code != "descriptor-unmapped" || got.Unmapped[0].Own != 1 || len(got.Entries) != 2 || got.Edit == "" {
		t.Errorf("got %+v", got)
	}
	cookie := s.logIn(key)
	if a := s.do("GET", "/connections/lincoln/descriptors?find=NINTH", "", "", "Cookie", cookie); a.status != 200 || !strings.Contains(a.body, "Ninth grade") || strings.Contains(a.body, "Female") ||
		!strings.Contains(a.body, "Add it there.") || !strings.Contains(a.body, `href="/issues/`) {
		t.Errorf("the page: %d %s", a.status, a.body)
	}
}

func TestTheCallsOfAHoldLeadToTheirRecords(t *testing.T) {
	t.Parallel()
	onBoth(t, nil, func(t *testing.T, s *service) {
		ctx, l := t.Context(), s.running("lincoln")
		var ops []syncdb.PlanOp
		for i := range 7 {
			ops = append(ops, syncdb.PlanOp{Step: 1, Resource: "ed-fi/students", Verb: syncdb.Update, KeyHash: syncdb.Hash{byte(i + 1)}, SourceHash: syncdb.Hash{0xaa, byte(i)}})
		}
		p, err := s.ledger.SaveHold(ctx, l, syncdb.Plan{Resource: "ed-fi/students", Verb: syncdb.Update, Rule: "mass-update", Reason: "many"}, func(yield func(syncdb.PlanOp, error) bool) {
			for _, op := range ops {
				if !yield(op, nil) {
					return
				}
			}
		})
		s.ok(err)
		s.finish(l, syncdb.RunDone)
		key := s.key(console.NewKey{Role: "viewer"})
		type call struct{ Resource, Verb, Record string }
		var all []call
		for cursor := ""; ; {
			var got page[call]
			s.get(fmt.Sprintf("/holds/%d/calls?limit=3&cursor=%s", p.ID, cursor), key, &got)
			all = append(all, got.Items...)
			if cursor = got.Next; cursor == "" {
				break
			}
		}
		if len(all) != 7 || all[0].Verb != "update" || all[0].Record != (sync.RecordID{Key: syncdb.Hash{1}, Row: syncdb.Hash{0xaa, 0}}).String() {
			t.Errorf("got %+v", all)
		}
		a := s.do("GET", fmt.Sprintf("/holds/%d", p.ID), "", "", "Cookie", s.logIn(key))
		if a.status != 200 || !strings.Contains(a.body, "/records/ed-fi/students/"+all[6].Record+"/trace") {
			t.Errorf("the page: %d %s", a.status, a.body)
		}
		s.refused(s.do("GET", "/api/v1/holds/99/calls", key, ""), 404, "not-found", "hold")
	})
}
