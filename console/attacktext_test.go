package console_test

import (
	"encoding/json"
	"fmt"
	"html/template"
	"net/url"
	"strings"
	"testing"

	"github.com/edfisync/edfisync/console"
	"github.com/edfisync/edfisync/internal/attacktest"
	"github.com/edfisync/edfisync/internal/httpd"
	"github.com/edfisync/edfisync/syncdb"
)

// What a SIS, a target or a person wrote is text on every page that shows it, and text in the log.
func TestWhatOthersWroteIsText(t *testing.T) {
	t.Parallel()
	a := newAttacked(t, false, nil, httpd.Options{})
	markup := map[string]string{
		"a script":                        `<script>alert(1)</script>`,
		"the end of a script and another": `</script><script>alert(1)</script>`,
		"an image that cannot be loaded":  `<img src=x onerror=alert(1)>`,
		"the end of an attribute":         `" autofocus onfocus="alert(1)`,
		"the end of another attribute":    `' onmouseover='alert(1)`,
		"the end of a title":              `</title></textarea><svg onload=alert(1)>`,
		"a form to another site":          `<form action=//evil.example><input name=key>`,
		"a comment that is not closed":    `<!-- <base href=//evil.example>`,
		"a template":                      `{{printf "x" .}}<b>`,
		"markup in entities":              `&lt;script&gt;"'`,
	}
	places := []struct {
		name  string
		write func(a *attacked, text, cookie string) (path string) // of the page that shows it
	}{
		{"the reason of a pause", func(a *attacked, text, cookie string) string {
			a.accepted3(a.send("POST", "/connections/lincoln/pause", "why="+url.QueryEscape(text), "Cookie", cookie))
			return "/connections/lincoln"
		}},
		{"the reason of a decision", func(a *attacked, text, cookie string) string {
			path := fmt.Sprintf("/holds/%d/", a.own["default"].hold)
			a.send("POST", path+"reopen", "edition=1&why=again", "Cookie", cookie) // which the first one has no need of
			a.accepted3(a.send("POST", path+"discard", "edition=1&why="+url.QueryEscape(text), "Cookie", cookie))
			return "/connections/lincoln/holds"
		}},
		{"the key of a row", func(a *attacked, text, _ string) string { return a.problem(syncdb.Problem{SourceKey: text}) }},
		{"the answer of a target", func(a *attacked, text, _ string) string {
			return a.problem(syncdb.Problem{SourceKey: "1", Detail: []byte(`{"call":"update","status":400,"answer":` + quoted(text) + `,"naturalKey":["1"]}`)})
		}},
		{"a value of the SIS", func(a *attacked, text, _ string) string {
			return a.problem(syncdb.Problem{SourceKey: "1", Detail: []byte(`{"query":"students.sql","problems":[{"code":"descriptor-unmapped","path":"$.sex","message":"no map has the code","value":` + quoted(text) + `}]}`)})
		}},
		{"a part of a natural key", func(a *attacked, text, _ string) string {
			return a.problem(syncdb.Problem{SourceKey: "1", Outcome: "blocked", Code: "missing-reference", BlockedBy: []byte(`{"entity":"Student","naturalKey":[` + quoted(text) + `]}`), BlockedResource: "ed-fi/students", BlockedKey: syncdb.Hash{11}})
		}},
		{"the error of a run", func(a *attacked, text, _ string) string {
			l := a.running("lincoln")
			a.ok(a.ledger.FinishRun(a.t.Context(), l, syncdb.RunFailed, nil, text))
			return fmt.Sprintf("/runs/%d", l.RunID)
		}},
		{"the name of who looks", nil},
		{"the page to go to after the log-in", func(_ *attacked, text, _ string) string { return "/login?next=" + url.QueryEscape("/x"+text) }},
	}
	key := a.key(console.NewKey{Role: "admin", StudentData: true})
	cookie := a.session(key)
	played := []string{}
	for _, place := range places {
		for kind, text := range markup {
			played = append(played, kind+" in "+place.name)
			t.Run(kind+" in "+place.name, func(t *testing.T) {
				a, path, as := a.on(t), "/connections/lincoln", cookie
				if place.write == nil {
					as = a.session(a.key(console.NewKey{Role: "viewer", Name: text}))
				} else {
					path = place.write(a, text, cookie)
				}
				page := a.send("GET", path, "", "Cookie", as)
				if page.status != 200 {
					t.Fatalf("%s: %d %s", path, page.status, page.body)
				}
				if strings.Contains(page.body, text) {
					t.Errorf("%s has it as markup", path)
				}
				if shown := template.HTMLEscapeString(text); !strings.Contains(page.body, shown) && !strings.Contains(page.body, strings.ReplaceAll(shown, "+", "&#43;")) &&
					!strings.Contains(page.body, template.HTMLEscapeString(quoted(text))) {
					t.Errorf("%s does not show %s", path, shown)
				}
				if policy := page.header.Get("Content-Security-Policy"); !strings.Contains(policy, "default-src 'none'; script-src 'self'") || strings.Contains(policy, "unsafe") {
					t.Errorf("policy %q", policy)
				}
			})
		}
	}
	a.verified()
	lines := a.injectLines(t, key, cookie)
	attacktest.Played(t, attacktest.Text, append(played, lines...))
}

// accepted3 expects that a form did something.
func (a *attacked) accepted3(got answer) {
	a.t.Helper()
	if got.status != 303 {
		a.t.Fatalf("got %d %s", got.status, got.body)
	}
}

// problem saves a row that is out of sync, and returns the page that shows its data.
func (a *attacked) problem(p syncdb.Problem) (page string) {
	a.t.Helper()
	l := a.running("acme~south")
	p.Resource, p.SourceHash, p.KeyHash, p.Owner, p.Cause = "ed-fi/students", syncdb.Hash{7}, syncdb.Hash{8}, "mapping", a.t.Name()
	p.Outcome, p.Code = either(p.Outcome, "rejected"), either(p.Code, "refused")
	a.ok(a.ledger.SaveProblems(a.t.Context(), l, []syncdb.Problem{p}))
	a.finish(l, syncdb.RunDone)
	issues, err := a.ledger.Issues(a.t.Context(), a.ids["acme~south"], true)
	a.ok(err)
	return fmt.Sprintf("/issues/%d/data", issues[len(issues)-1].ID)
}

// quoted is a JSON string as a target writes one: without escapes that are not needed.
func quoted(s string) string {
	return `"` + strings.ReplaceAll(s, `"`, `\"`) + `"`
}

// injectLines puts line breaks and control characters wherever a request has text: no line of the log begins with them, no header comes of them.
func (a *attacked) injectLines(t *testing.T, key, cookie string) (played []string) {
	t.Helper()
	const crlf = "x\r\nEvil: yes\r\n\r\n{\"level\":\"INFO\",\"msg\":\"forged\"}\n\x1b[2K"
	q := url.QueryEscape(crlf)
	cases := []struct {
		name string
		send func() answer
	}{
		{"a path", func() answer { return a.send("GET", "/api/v1/connections/"+url.PathEscape(crlf), "", bearer(key)...) }},
		{"a path that is not there", func() answer { return a.send("GET", "/"+url.PathEscape(crlf), "", "Accept", "text/html") }},
		{"a query", func() answer { return a.send("GET", "/api/v1/runs?connection="+q, "", bearer(key)...) }},
		{"the page to go to after the log-in", func() answer {
			return a.send("POST", "/login", "key="+key+"&next="+url.QueryEscape("/")+q)
		}},
		{"the page a stranger wants", func() answer { return a.send("GET", "/runs/1?"+q, "") }},
		{"the id of a request, in one header", func() answer {
			return a.send("GET", "/connections/nowhere", "", "Cookie", cookie, "X-Request-Id", `12345678"><script>forged(1)</script>`)
		}},
		{"the id of a key", func() answer { return a.send("DELETE", "/api/v1/keys/"+url.PathEscape(crlf), "", bearer(key)...) }},
		{"the name of a key", func() answer {
			return a.send("POST", "/api/v1/keys", `{"role": "viewer", "name": "a\r\nEvil: yes"}`, bearer(key)...)
		}},
		{"a key", func() answer {
			return a.wire("GET /api/v1/me HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer efs_\x1b[2K\x07\r\nConnection: close\r\n\r\n")
		}},
		{"the address in a header of a proxy", func() answer {
			return a.wire("DELETE /api/v1/keys/x HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 1.2.3.4\x1b[2K\r\nConnection: close\r\n\r\n")
		}},
		{"the reason of a pause", func() answer {
			return a.send("POST", "/connections/lincoln/pause", "why="+url.QueryEscape("a\x1b[2Kb"), "Cookie", cookie)
		}},
		{"the reason of a run", func() answer {
			return a.send("POST", "/api/v1/connections/lincoln/runs", `{"why": "a\u001b[2Kb"}`, bearer(key)...)
		}},
		{"the host", func() answer { return a.wire("GET / HTTP/1.1\r\nHost: x\x1b[2K\r\nConnection: close\r\n\r\n") }},
		{"the host of where a browser is sent", func() answer {
			return a.send("GET", "/", "", "Host", "evil.example", "X-Forwarded-Host", "evil.example")
		}},
		{"the method", func() answer { return a.wire("GE\x1bT / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n") }},
	}
	for _, c := range cases {
		name := "line breaks in " + c.name
		played = append(played, name)
		t.Run(name, func(t *testing.T) {
			got := c.send()
			if got.header.Get("Evil") != "" || strings.ContainsAny(fmt.Sprint(got.header), "\x1b<") || strings.Contains(got.header.Get("Location"), "evil.example") {
				t.Errorf("the header has it: %v", got.header)
			}
			if strings.ContainsAny(got.body, "\x1b\x07") {
				t.Errorf("the answer has control characters: %q", got.body)
			}
		})
	}
	for line := range strings.Lines(a.log.String()) {
		var entry struct{ Msg string }
		if err := json.Unmarshal([]byte(line), &entry); err != nil || entry.Msg == "forged" || strings.ContainsAny(strings.TrimSuffix(line, "\n"), "\x1b\x07\r\n") {
			t.Errorf("a line of the log: %q", line)
		}
	}
	rows, err := a.ledger.FindAudit(t.Context(), syncdb.AuditFilter{})
	a.ok(err)
	for _, r := range rows {
		if strings.ContainsAny(r.Who+r.Action+r.Connection+r.Object+string(r.Detail), "\x1b\x07\r") || strings.Contains(string(r.Detail), `\u001b`) {
			t.Errorf("a row of the audit trail: %+v", r)
		}
	}
	return played
}
