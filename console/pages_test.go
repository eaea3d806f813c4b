package console_test

import (
	"io/fs"
	"net/url"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/edfisync/edfisync/console"
)

// logIn logs a browser in over the form, and returns its cookie.
func (s *service) logIn(key string) string {
	s.t.Helper()
	a := s.do("POST", "/login", "", url.Values{"key": {key}, "next": {"/"}}.Encode())
	cookie, attributes, _ := strings.Cut(a.header.Get("Set-Cookie"), ";")
	if a.status != 303 || a.header.Get("Location") != "/" || !strings.Contains(attributes, "HttpOnly") || !strings.Contains(attributes, "SameSite=Strict") {
		s.t.Fatalf("log in: %d, to %q, cookie %q", a.status, a.header.Get("Location"), a.header.Get("Set-Cookie"))
	}
	return cookie
}

func TestPagesOfferWhatTheirReaderMayDo(t *testing.T) {
	t.Parallel()
	s := newService(t, nil)
	run, hold, _ := s.hold("lincoln")
	s.running("lincoln")
	for role, want := range map[string]struct{ asks, decides bool }{
		"viewer": {}, "auditor": {}, "operator": {asks: true}, "approver": {true, true}, "admin": {true, true},
	} {
		cookie := s.logIn(s.key(console.NewKey{Role: role}))
		page := func(path string) string {
			a := s.do("GET", path, "", "", "Cookie", cookie)
			if a.status != 200 {
				t.Fatalf("%s as %s: %d", path, role, a.status)
			}
			return a.body
		}
		if got := strings.Contains(page("/connections/lincoln"), "Sync now"); got != want.asks {
			t.Errorf("%s: Sync now is offered: %v", role, got)
		}
		if got := strings.Contains(page("/connections/lincoln"), "/pause"); got != want.asks {
			t.Errorf("%s: pausing is offered: %v", role, got)
		}
		if got := strings.Contains(page("/runs/2"), "Cancel the run"); got != want.asks {
			t.Errorf("%s: canceling is offered: %v", role, got)
		}
		if got := strings.Contains(page("/connections/lincoln/holds"), "/approve"); got != want.decides {
			t.Errorf("%s: approving is offered: %v", role, got)
		}
		for _, path := range []string{"/", "/runs/1", "/connections/lincoln/issues", "/connections/lincoln/issues?state=cleared"} {
			page(path)
		}
	}
	if run != 1 || hold != 1 {
		t.Fatalf("the pages were of run 1 and hold 1, not of %d and %d", run, hold)
	}
}

// What a form does is in the audit trail, and says by whom.
func TestFormsDoWhatTheAPIDoes(t *testing.T) {
	t.Parallel()
	s := newService(t, nil)
	_, hold, _ := s.hold("lincoln")
	cookie := s.logIn(s.key(console.NewKey{Role: "approver"}))
	for _, c := range []struct{ path, form, to string }{
		{"/connections/lincoln/runs", "", "/runs/2"},
		{"/connections/lincoln/pause", "why=holidays&lasts=1h", "/connections/lincoln"},
		{"/connections/lincoln/resume", "", "/connections/lincoln"},
		{"/runs/2/cancel", "", "/runs/2"},
		{"/holds/1/approve", "edition=1&why=moved+away", "/connections/lincoln/holds#hold-1"},
		{"/holds/1/reopen", "edition=1&why=a+mistake", "/connections/lincoln/holds#hold-1"},
		{"/holds/1/discard", "edition=1&why=not+now", "/connections/lincoln/holds#hold-1"},
		{"/logout", "", "/login"},
	} {
		if a := s.do("POST", c.path, "", c.form, "Cookie", cookie); a.status != 303 || a.header.Get("Location") != c.to {
			t.Errorf("%s: %d to %q, want 303 to %s", c.path, a.status, a.header.Get("Location"), c.to)
		}
	}
	if hold != 1 {
		t.Fatalf("the forms were of hold 1, not of %d", hold)
	}
	acts := strings.Join(s.acts(), " ")
	for _, want := range []string{"session.open", "run.ask", "connection.pause", "connection.resume", "run.cancel", "session.close"} {
		if !strings.Contains(acts, want) {
			t.Errorf("the audit trail has no %s: %s", want, acts)
		}
	}
	if a := s.do("GET", "/", "", "", "Cookie", cookie); a.status != 303 || a.header.Get("Location") != "/login" {
		t.Errorf("after logging out: %d to %q", a.status, a.header.Get("Location"))
	}
}

func TestFormsThatMakeNoSenseAreRefusedWithAPage(t *testing.T) {
	t.Parallel()
	s := newService(t, nil)
	s.hold("lincoln")
	cookie := s.logIn(s.key(console.NewKey{Role: "approver", Tenant: "default"}))
	for _, c := range []struct {
		path, form string
		header     []string
		status     int
		says       string
	}{
		{"/connections/lincoln/pause", "why=+", nil, 422, "say why"},
		{"/connections/lincoln/pause", "why=x&lasts=-1h", nil, 422, "last for a while"},
		{"/connections/lincoln/pause", "why=" + strings.Repeat("x", 501), nil, 422, "500 characters"},
		{"/connections/lincoln/resume", "", nil, 409, "not paused"},
		{"/connections/acme~north/runs", "", nil, 404, "no such connection"},
		{"/runs/0/cancel", "", nil, 404, "no such"},
		{"/runs/1/cancel", "", nil, 409, "nothing to cancel"},
		{"/holds/1/approve", "why=x", nil, 422, "edition"},
		{"/holds/1/approve", "why=x&edition=2", nil, 409, "look at it again"},
		{"/connections/lincoln/runs", "", []string{"Origin", "https://evil.example"}, 403, "another site"},
		{"/connections/lincoln/runs", "", []string{"Sec-Fetch-Site", "cross-site"}, 403, "another site"},
	} {
		a := s.do("POST", c.path, "", c.form, append([]string{"Cookie", cookie}, c.header...)...)
		if a.status != c.status || !strings.Contains(a.body, c.says) || !strings.HasPrefix(a.header.Get("Content-Type"), "text/html") {
			t.Errorf("%s %s: %d %s, want a page with %d and %q", c.path, c.form, a.status, a.body, c.status, c.says)
		}
	}
	if a := s.do("POST", "/connections/lincoln/runs", "", ""); a.status != 401 || !strings.Contains(a.body, `href="/login"`) {
		t.Errorf("without a session: %d %s", a.status, a.body)
	}
}

func TestLoggingInGoesOnToPagesOfThisConsoleOnly(t *testing.T) {
	t.Parallel()
	s := newService(t, nil)
	key := s.key(console.NewKey{Role: "viewer"})
	if a := s.do("GET", "/runs/1?x=y", "", ""); a.status != 303 || a.header.Get("Location") != "/login?next=%2Fruns%2F1%3Fx%3Dy" {
		t.Errorf("without a session: %d to %q", a.status, a.header.Get("Location"))
	}
	for next, want := range map[string]string{
		"/runs/1?x=y": "/runs/1?x=y", "": "/", "https://evil.example/": "/", "//evil.example": "/", `/\evil.example`: "/", "/\t/evil.example": "/", "javascript:alert(1)": "/",
		"runs/1": "/", "/login?next=/login": "/", "%zz": "/",
	} {
		a := s.do("POST", "/login", "", url.Values{"key": {key}, "next": {next}}.Encode())
		if a.status != 303 || a.header.Get("Location") != want {
			t.Errorf("next %q: %d to %q, want %s", next, a.status, a.header.Get("Location"), want)
		}
	}
	a := s.do("POST", "/login", "", url.Values{"key": {key + "x"}, "next": {"/runs/1"}}.Encode())
	if a.status != 401 || !strings.Contains(a.body, "the key is not valid") || !strings.Contains(a.body, `value="/runs/1"`) || strings.Contains(a.body, key) {
		t.Errorf("a wrong key: %d %s", a.status, a.body)
	}
}

// The policy that pages are sent with lets no script or style run that is written into them, and what people wrote is text.
func TestPagesHoldNoScript(t *testing.T) {
	t.Parallel()
	s := newService(t, nil)
	cookie := s.logIn(s.key(console.NewKey{Name: "<script>alert(1)</script>", Role: "admin"}))
	s.do("POST", "/connections/lincoln/pause", "", "why=<img+src=x+onerror=alert(1)>", "Cookie", cookie)
	for _, path := range []string{"/", "/connections/lincoln", "/login"} {
		a := s.do("GET", path, "", "", "Cookie", cookie)
		if policy := a.header.Get("Content-Security-Policy"); !strings.Contains(policy, "default-src 'none'") || strings.Contains(policy, "unsafe") {
			t.Errorf("%s: policy %q", path, policy)
		}
		if strings.Contains(a.body, "<script>") || strings.Contains(a.body, "<img src=x") {
			t.Errorf("%s has what somebody wrote as HTML: %s", path, a.body)
		}
	}
	inline := regexp.MustCompile(`(?i)<script(?:>| [^>]*[^s]>)[^<]|<style|\sstyle=|\son[a-z]+=|https?://`)
	err := fs.WalkDir(os.DirFS("web"), ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".html") {
			return err
		}
		text, err := os.ReadFile("web/" + path)
		if found := inline.Find(text); found != nil {
			t.Errorf("%s has %q", path, found)
		}
		return err
	})
	s.ok(err)
}

func TestFilesOfPagesAreSentOnce(t *testing.T) {
	t.Parallel()
	s := newService(t, nil)
	for _, name := range []string{"console.css", "console.js", "icon.svg"} {
		a := s.do("GET", "/assets/"+name, "", "")
		if a.status != 200 || a.body == "" || a.header.Get("ETag") == "" {
			t.Errorf("%s: %d, ETag %q", name, a.status, a.header.Get("ETag"))
		}
		if again := s.do("GET", "/assets/"+name, "", "", "If-None-Match", a.header.Get("ETag")); again.status != 304 {
			t.Errorf("%s again: %d", name, again.status)
		}
	}
	if a := s.do("GET", "/assets/frame.html", "", ""); a.status != 404 {
		t.Errorf("a template: %d", a.status)
	}
}
