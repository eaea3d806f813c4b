package console_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/edfisync/edfisync/console"
	"github.com/edfisync/edfisync/syncdb"
)

type statusDoc struct {
	State, Says, FreshAsOf, NextRun, Path string
	OpenIssues, OpenHolds                 int
	Running                               *struct{ Done, Total int }
}

func TestTheStatusOfAConnectionIsSmallAndSaysWhenItChanged(t *testing.T) {
	t.Parallel()
	onBoth(t, nil, func(t *testing.T, s *service) {
		key := s.key(console.NewKey{Role: "viewer"})
		const path = "/api/v1/connections/lincoln/status"
		ask := func(etag string) (answer, statusDoc) {
			t.Helper()
			a := s.do("GET", path, key, "", "If-None-Match", etag)
			var doc statusDoc
			if a.status == 200 {
				s.ok(json.Unmarshal([]byte(a.body), &doc))
			}
			return a, doc
		}
		a, doc := ask("")
		if a.status != 200 || doc.State != "never" || !strings.Contains(doc.Says, "not been synced") || !strings.Contains(doc.NextRun, "T02:00:00Z") || doc.Path != "/connections/lincoln" {
			t.Errorf("before the first run: %d %s", a.status, a.body)
		}
		if again, _ := ask(a.header.Get("ETag")); again.status != 304 || again.body != "" || a.header.Get("ETag") == "" || !strings.Contains(a.header.Get("Cache-Control"), "private") {
			t.Errorf("unchanged: %d %q, ETag %s", again.status, again.body, a.header.Get("ETag"))
		}
		l := s.running("lincoln")
		s.ok(s.ledger.SaveProgress(t.Context(), l.RunID, json.RawMessage(`{"phase":"send","done":25,"total":100}`)))
		now, doc := ask(a.header.Get("ETag"))
		if now.status != 200 || doc.State != "running" || doc.Running == nil || doc.Running.Done != 25 || !strings.Contains(doc.Says, "25 %") {
			t.Errorf("while it runs: %d %s", now.status, now.body)
		}
		s.finish(l, syncdb.RunDone)
		if _, doc = ask(""); doc.State != "ok" || doc.FreshAsOf == "" || doc.Running != nil || !strings.HasPrefix(doc.Says, "Students as of ") {
			t.Errorf("after it: %+v", doc)
		}
		s.hold("lincoln")
		if _, doc = ask(""); doc.State != "attention" || doc.OpenHolds != 1 || doc.OpenIssues != 1 || !strings.Contains(doc.Says, "1 decision waits; 1 issue is open") {
			t.Errorf("with a hold: %+v", doc)
		}
		if len(now.body) > 500 {
			t.Errorf("the status has %d bytes", len(now.body))
		}
	})
}

// What only informs needs nobody.
func TestAConnectionThatNeedsNobodyIsOK(t *testing.T) {
	t.Parallel()
	s := newService(t, nil)
	key := s.key(console.NewKey{Role: "viewer"})
	l := s.running("lincoln")
	s.ok(s.ledger.SaveProblems(t.Context(), l, []syncdb.Problem{{
		Resource: "ed-fi/students", SourceHash: syncdb.Hash{2}, Outcome: syncdb.OutcomeMet, Code: "met-existing", Cause: "there before", Owner: "target host",
	}}))
	s.finish(l, syncdb.RunDone)
	var doc struct{ State string }
	if s.get("/connections/lincoln", key, &doc); doc.State != "ok" {
		t.Errorf("the connection is %s", doc.State)
	}
	s.troubled("lincoln")
	if s.get("/connections/lincoln", key, &doc); doc.State != "attention" {
		t.Errorf("with issues the connection is %s", doc.State)
	}
}

func TestTheBadgeIsShownInFramesOfTheConfigurationOnly(t *testing.T) {
	t.Parallel()
	for _, embed := range [][]string{nil, {"https://sis.example.org", "http://localhost:3000"}} {
		s := newService(t, func(c *console.Config) { c.Embed = embed })
		s.hold("lincoln")
		cookie := s.logIn(s.key(console.NewKey{Role: "viewer"}))
		for who, header := range map[string][]string{"somebody": {"Cookie", cookie}, "nobody": nil} {
			a := s.do("GET", "/connections/lincoln/badge", "", "", header...)
			policy, options := a.header.Get("Content-Security-Policy"), a.header.Get("X-Frame-Options")
			if embed == nil && (!strings.Contains(policy, "frame-ancestors 'none'") || options != "DENY") {
				t.Errorf("without origins: policy %q, %q", policy, options)
			}
			if embed != nil && (!strings.Contains(policy, "frame-ancestors 'self' https://sis.example.org http://localhost:3000") || options != "") {
				t.Errorf("with origins: policy %q, %q", policy, options)
			}
			if want := map[string]int{"somebody": 200, "nobody": 401}[who]; a.status != want {
				t.Errorf("%s: %d, want %d", who, a.status, want)
			}
			if strings.Contains(a.body, "Students as of") != (who == "somebody") || strings.Contains(a.body, "Log in") != (who == "nobody") {
				t.Errorf("%s sees %s", who, a.body)
			}
		}
		if a := s.do("GET", "/connections/lincoln", "", "", "Cookie", cookie); !strings.Contains(a.header.Get("Content-Security-Policy"), "frame-ancestors 'none'") {
			t.Errorf("another page: %s", a.header.Get("Content-Security-Policy"))
		}
	}
}

func TestTheBadgeIsAPicture(t *testing.T) {
	t.Parallel()
	s := newService(t, nil)
	s.hold("lincoln")
	key := s.key(console.NewKey{Role: "viewer"})
	a := s.do("GET", "/api/v1/connections/lincoln/badge.svg", key, "")
	if a.status != 200 || a.header.Get("Content-Type") != "image/svg+xml" || !strings.Contains(a.body, "needs somebody, as of 2") || !strings.Contains(a.body, `aria-label="Students as of `) {
		t.Errorf("got %d %s %s", a.status, a.header.Get("Content-Type"), a.body)
	}
	if again := s.do("GET", "/api/v1/connections/lincoln/badge.svg", key, "", "If-None-Match", a.header.Get("ETag")); again.status != 304 {
		t.Errorf("again: %d", again.status)
	}
	s.refused(s.do("GET", "/api/v1/connections/nowhere/badge.svg", key, ""), 404, "not-found", "connection")
	s.refused(s.do("GET", "/api/v1/connections/nowhere/status", key, ""), 404, "not-found", "connection")
}

// Each resource is as fresh as the last run that read it.
func TestResourcesSayAsOfWhenTheyAre(t *testing.T) {
	t.Parallel()
	s := newService(t, nil)
	key := s.key(console.NewKey{Role: "viewer"})
	run := func(resources ...string) int64 {
		l := s.running("lincoln")
		text := ""
		for i, r := range resources {
			text += fmt.Sprintf(`%s{"entries":5,"exceptions":{"blocked":1,"failed":0,"held":1,"invalid":1,"rejected":0},"live":5,"resource":%q,"rows":8,"valid":7}`, map[bool]string{true: ","}[i > 0], r)
		}
		s.ok(s.ledger.SaveReceipt(t.Context(), l, syncdb.Receipt{RunID: l.RunID, Document: json.RawMessage(`{"statement":{"resources":[` + text + `]}}`)}))
		s.finish(l, syncdb.RunDone)
		s.clock.Add(int64(time.Hour))
		return l.RunID
	}
	type resource struct {
		Resource, FreshAsOf string
		On                  bool
		Run                 int64
		Rows, Waits         int
	}
	list := func(s *service) map[string]resource {
		var got page[resource]
		s.get("/connections/lincoln/resources", key, &got)
		out := map[string]resource{}
		for _, r := range got.Items {
			out[r.Resource] = r
		}
		return out
	}
	if got := list(s); len(got) != 0 {
		t.Errorf("before the first run: %+v", got)
	}
	run("ed-fi/schools", "ed-fi/students")
	second := run("ed-fi/students")
	got := list(s)
	if r := got["ed-fi/students"]; len(got) != 1 || r.Run != second || r.Rows != 8 || r.Waits != 3 || !r.On || r.FreshAsOf == "" {
		t.Errorf("got %+v", got)
	}
}
