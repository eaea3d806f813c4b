package console_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/edfisync/edfisync/console"
	"github.com/edfisync/edfisync/syncdb"
)

func TestAKeyIsMadeRotatedAndRevokedInTheBrowser(t *testing.T) {
	t.Parallel()
	s := newService(t, nil)
	cookie := s.logIn(s.key(console.NewKey{Role: "admin", StudentData: true}))
	secret := regexp.MustCompile(`id="secret">(efs_[a-z0-9]+_[a-z0-9]+)<`)
	post := func(path string, form url.Values) answer {
		return s.do("POST", path, "", form.Encode(), "Cookie", cookie)
	}
	a := post("/keys", url.Values{"name": {"Ada <b>"}, "role": {"operator"}, "tenant": {"acme"}, "networks": {"192.0.2.0/24, 2001:db8::/32"}, "lasts": {"720h"}, "studentData": {"yes"}})
	made := secret.FindStringSubmatch(a.body)
	if a.status != 200 || made == nil || a.header.Get("Cache-Control") != "no-store" || strings.Contains(a.body, "Ada <b>") {
		t.Fatalf("make: %d %s", a.status, a.body)
	}
	var me struct {
		ID, Name, Role, Tenant string
		StudentData            bool
	}
	s.get("/me", made[1], &me)
	if me.Name != "Ada <b>" || me.Role != "operator" || me.Tenant != "acme" || !me.StudentData {
		t.Errorf("the key is %+v", me)
	}
	id := strings.Split(made[1], "_")[1]
	if again := s.do("GET", "/keys", "", "", "Cookie", cookie); strings.Contains(again.body, made[1]) || !strings.Contains(again.body, id) || !strings.Contains(again.body, "192.0.2.0/24") {
		t.Errorf("the page of keys: %s", again.body)
	}
	a = post("/keys/"+id+"/rotate", url.Values{"overlap": {"0s"}})
	next := secret.FindStringSubmatch(a.body)
	if a.status != 200 || next == nil || next[1] == made[1] {
		t.Fatalf("rotate: %d %s", a.status, a.body)
	}
	s.refused(s.do("GET", "/api/v1/me", made[1], ""), 401, "unauthorized", "")
	s.get("/me", next[1], &me)
	if a := post("/keys/"+id+"/revoke", nil); a.status != 303 || a.header.Get("Location") != "/keys" {
		t.Errorf("revoke: %d", a.status)
	}
	s.refused(s.do("GET", "/api/v1/me", next[1], ""), 401, "unauthorized", "")
	for _, c := range []struct {
		path string
		form url.Values
		code int
		says string
	}{
		{"/keys", url.Values{"name": {" "}, "role": {"viewer"}}, 422, "name"},
		{"/keys", url.Values{"name": {"x"}, "role": {"king"}}, 422, "role"},
		{"/keys", url.Values{"name": {"x"}, "role": {"viewer"}, "lasts": {"-1h"}}, 422, "good for a while"},
		{"/keys", url.Values{"name": {"x"}, "role": {"viewer"}, "networks": {"anywhere"}}, 422, "networks"},
		{"/keys/" + id + "/rotate", nil, 409, "revoked"},
		{"/keys/nobody/revoke", nil, 404, "no such key"},
	} {
		if a := post(c.path, c.form); a.status != c.code || !strings.Contains(a.body, c.says) {
			t.Errorf("%s %v: %d %s, want %d %q", c.path, c.form, a.status, a.body, c.code, c.says)
		}
	}
	if acts := strings.Join(s.acts(), " "); !strings.Contains(acts, "key.create") || !strings.Contains(acts, "key.rotate") || !strings.Contains(acts, "key.revoke") {
		t.Errorf("audited: %s", acts)
	}
}

func TestTheAuditTrailIsNarrowedAndVerified(t *testing.T) {
	t.Parallel()
	onBoth(t, nil, func(t *testing.T, s *service) {
		key := s.key(console.NewKey{Name: "the auditor", Role: "auditor"})
		for i := range 60 {
			s.ok(s.ledger.Audit(t.Context(), syncdb.AuditRow{
				Who: fmt.Sprintf("Ada_%d (x)", i), Action: "connection.pause", Connection: "acme/north", Object: "<b>", Detail: json.RawMessage(`{"why":"50% off","n":2}`),
			}))
		}
		type row struct{ Action, Who, Connection string }
		for query, want := range map[string]int{
			"action=connection.pause": 60, "action=connection.": 60, "action=connection": 0, "who=ada_1+": 1, "who=ADA_5": 11, "who=ada%25": 0, "connection=acme~north": 60, "connection=lincoln": 0,
			"action=connection.&who=ada_59&connection=acme~north": 1, "who='+OR+1=1+--": 0,
		} {
			var got page[row]
			if s.get("/audit?limit=500&"+query, key, &got); len(got.Items) != want {
				t.Errorf("%s: %d rows, want %d", query, len(got.Items), want)
			}
		}
		cookie := s.logIn(key)
		a := s.do("GET", "/audit?action=connection.", "", "", "Cookie", cookie)
		if a.status != 200 || strings.Count(a.body, "<code>connection.pause</code>") != 50 || !strings.Contains(a.body, "50% off") || strings.Contains(a.body, "<b>") {
			t.Errorf("the page: %d %s", a.status, a.body)
		}
		next := regexp.MustCompile(`href="(/audit\?[^"]+)">Older`).FindStringSubmatch(a.body)
		if next == nil {
			t.Fatal("there is no next page")
		}
		if a := s.do("GET", strings.ReplaceAll(next[1], "&amp;", "&"), "", "", "Cookie", cookie); strings.Count(a.body, "<code>connection.pause</code>") != 10 {
			t.Errorf("the next page: %d", strings.Count(a.body, "<code>connection.pause</code>"))
		}
		if a := s.do("GET", "/audit/verify", "", "", "Cookie", cookie); a.status != 200 || !strings.Contains(a.body, "as they were written") || !strings.Contains(a.body, "Anchor") {
			t.Errorf("verify: %d %s", a.status, a.body)
		}
	})
}

// A receipt that no run signed is said to be none.
func TestAReceiptIsVerifiedOnItsPage(t *testing.T) {
	t.Parallel()
	s := newService(t, nil)
	run, _, _ := s.hold("lincoln")
	key := s.key(console.NewKey{Role: "viewer"})
	var verdict struct {
		OK   bool
		Says string
	}
	if s.get(fmt.Sprintf("/runs/%d/receipt/verify", run), key, &verdict); verdict.OK || !strings.Contains(verdict.Says, "not a receipt as it was signed") {
		t.Errorf("got %+v", verdict)
	}
	cookie := s.logIn(key)
	if a := s.do("GET", fmt.Sprintf("/runs/%d/receipt", run), "", "", "Cookie", cookie); a.status != 200 || !strings.Contains(a.body, "does not verify") {
		t.Errorf("the page: %d %s", a.status, a.body)
	}
	if a := s.do("GET", "/connections/lincoln/receipts", "", "", "Cookie", cookie); a.status != 200 || !strings.Contains(a.body, fmt.Sprintf("/runs/%d/receipt", run)) {
		t.Errorf("the list: %d %s", a.status, a.body)
	}
	if a := s.do("GET", "/connections/lincoln/receipts?cursor=x", "", "", "Cookie", cookie); a.status != 422 {
		t.Errorf("a wrong cursor: %d", a.status)
	}
}

func TestSettingsAreShownToWhoKeepsTheService(t *testing.T) {
	t.Parallel()
	s := newService(t, func(c *console.Config) {
		c.Settings = []console.Setting{{Name: "service.listen", Value: ":8780", Means: "where it answers"}}
	})
	admin := s.key(console.NewKey{Role: "admin"})
	var got struct {
		Version  string
		Settings []console.Setting
	}
	if s.get("/settings", admin, &got); got.Version != "test" || len(got.Settings) != 1 {
		t.Errorf("got %+v", got)
	}
	if a := s.do("GET", "/settings", "", "", "Cookie", s.logIn(admin)); a.status != 200 || !strings.Contains(a.body, ":8780") {
		t.Errorf("the page: %d %s", a.status, a.body)
	}
	s.refused(s.do("GET", "/api/v1/settings", s.key(console.NewKey{Role: "admin", Tenant: "acme"}), ""), 403, "forbidden", "no tenant")
}

// What people, a SIS or a target wrote is text on every page, whatever it is.
func TestPlantedTextIsInert(t *testing.T) {
	t.Parallel()
	planted := []string{
		`</script><script>alert(1)</script>`, `"><img src=x onerror=alert(1)>`, `' onmouseover='alert(1)`, "\r\nSet-Cookie: a=b", "\x1b[31mred", "\u202egnp.exe", `{{.Me}}`, `javascript:alert(1)`, `<svg/onload=alert(1)>`,
		`]]><!--`, "\x00", `</title></textarea></style>`,
	}
	s := newService(t, func(c *console.Config) {
		all := strings.Join(planted, " ")
		c.Records = &records{}
		c.Settings = []console.Setting{{Name: all, Value: all, Means: all}}
		c.Version = all
	})
	key := s.key(console.NewKey{Role: "admin", StudentData: true})
	cookie := s.logIn(key)
	for _, p := range planted {
		quoted, _ := json.Marshal(p)
		l := s.running("lincoln")
		s.ok(s.ledger.SaveProblems(t.Context(), l, []syncdb.Problem{{
			Resource: "ed-fi/students", SourceHash: syncdb.Hash{1}, KeyHash: syncdb.Hash{11}, Outcome: "rejected", Code: "refused", Cause: p, Owner: p, SourceKey: p,
			Detail:    []byte(fmt.Sprintf(`{"call":"update","status":400,"type":%[1]s,"correlationId":%[1]s,"answer":%[1]s,"naturalKey":[%[1]s],"message":%[1]s,"error":%[1]s,"query":%[1]s,"problems":[{"code":%[1]s,"path":%[1]s,"message":%[1]s,"value":%[1]s}]}`, quoted)),
			BlockedBy: []byte(fmt.Sprintf(`{"entity":%s}`, quoted)),
		}}))
		s.ok(s.ledger.SaveAttempts(t.Context(), l, []syncdb.Attempt{{
			Resource: "ed-fi/students", KeyHash: syncdb.Hash{11}, Verb: syncdb.Update, Status: 400, Key: quoted, EdfiID: p, Payload: []byte(fmt.Sprintf(`{"lastSurname":%s}`, quoted)), Answer: []byte(p),
		}}))
		s.ok(s.ledger.SetTarget(t.Context(), l, syncdb.TargetState{Alarm: p, AlarmRun: l.RunID}))
		s.ok(s.ledger.FinishRun(t.Context(), l, syncdb.RunFailed, nil, p))
		s.ok(s.ledger.Audit(t.Context(), syncdb.AuditRow{Who: "x" + p, Action: "x" + p, Connection: "default/" + p, Object: p, Detail: json.RawMessage(fmt.Sprintf(`{%s:%s}`, quoted, quoted))}))
	}
	issues, err := s.ledger.Issues(t.Context(), s.ids["lincoln"], false)
	s.ok(err)
	record := "/connections/lincoln/records/ed-fi/students/k0b" + strings.Repeat("00", 15)
	paths := []string{
		"/", "/connections/lincoln", "/connections/lincoln/badge", "/connections/lincoln/issues", "/connections/lincoln/issues?state=cleared", "/audit", "/audit?who=" + url.QueryEscape(strings.Join(planted[:4], "")),
		"/?find=" + url.QueryEscape(planted[1]), "/settings", "/keys", record, record + "/trace", record + "/data", "/connections/" + url.PathEscape(planted[0]), "/login?next=" + url.QueryEscape(planted[1]),
	}
	for _, i := range issues {
		paths = append(paths, fmt.Sprintf("/issues/%d", i.ID), fmt.Sprintf("/issues/%d/data", i.ID))
	}
	for run := range planted {
		paths = append(paths, fmt.Sprintf("/runs/%d", run+1))
	}
	// Elements and attributes that no page of ours has, as they would be when the text were not inert.
	alive := regexp.MustCompile(`(?i)<script>|<img src=x|<svg/|\son\w+\s*=\s*['"]?alert|href="javascript:|<!--|\{\{`)
	shown := 0
	for _, path := range paths {
		a := s.do("GET", path, "", "", "Cookie", cookie)
		if strings.Contains(a.body, "&lt;script&gt;alert(1)") {
			shown++
		}
		if a.status != 200 && a.status != 404 {
			t.Errorf("%s: %d", path, a.status)
		}
		text := strings.ReplaceAll(a.body, "{{.Me}}", "") // it is text: a template would have read it
		if found := alive.FindString(strings.ReplaceAll(strings.ReplaceAll(text, "&#39; onmouseover=&#39;alert", ""), "&#34;&gt;&lt;img src=x onerror=alert", "")); found != "" {
			t.Errorf("%s has %q", path, found)
		}
		if strings.ContainsAny(a.body, "\x00\x1b\r\u202e") {
			t.Errorf("%s has a control or a mark of direction", path)
		}
		if a.header.Get("Set-Cookie") != "" {
			t.Errorf("%s sets a cookie", path)
		}
	}
	if shown < 8 {
		t.Errorf("%d pages show what was planted: the others do not show what this test is about", shown)
	}
	a := s.do("GET", "/api/v1/connections/lincoln/badge.svg", key, "")
	if alive.MatchString(a.body) {
		t.Errorf("the badge: %s", a.body)
	}
}
