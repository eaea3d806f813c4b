package console_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/edfisync/edfisync/console"
	"github.com/edfisync/edfisync/internal/attacktest"
	"github.com/edfisync/edfisync/internal/httpd"
)

// Nobody gets past the log-in: each of these requests would end a key for good if it were let in.
func TestNobodyComesInWithoutAKeyThatIsGood(t *testing.T) {
	t.Parallel()
	a := newAttacked(t, false, nil, httpd.Options{})
	admin := a.key(console.NewKey{Role: "admin", Name: "admin"})
	id, secret, _ := httpd.ParseKey(admin)
	_, otherSecret, _ := httpd.ParseKey(a.key(console.NewKey{Role: "admin", Tenant: "acme", Name: "eve"}))
	expired := a.key(console.NewKey{Role: "admin", Name: "expired", ExpiresAt: time.Now().Add(time.Hour)})
	expiredSession := a.session(expired)
	revoked := a.key(console.NewKey{Role: "admin", Name: "revoked"})
	revokedSession := a.session(revoked)
	rotated := a.key(console.NewKey{Role: "admin", Name: "rotated"})
	twice := a.key(console.NewKey{Role: "admin", Name: "twice"})
	elsewhere := a.key(console.NewKey{Role: "admin", Name: "elsewhere", Networks: []string{"10.0.0.0/8"}})
	old := a.session(admin)
	for _, c := range []struct{ path, body string }{{"/keys/" + a.keyID(rotated) + "/rotate", `{"overlap": "1h"}`}, {"/keys/" + a.keyID(twice) + "/rotate", `{"overlap": "720h"}`}, {"/keys/" + a.keyID(twice) + "/rotate", `{"overlap": "720h"}`}} {
		if got := a.send("POST", "/api/v1"+c.path, c.body, bearer(admin)...); got.status != 200 {
			t.Fatalf("rotate: %d %s", got.status, got.body)
		}
	}
	if got := a.send("DELETE", "/api/v1/keys/"+a.keyID(revoked), "", bearer(admin)...); got.status != 200 {
		t.Fatalf("revoke: %d %s", got.status, got.body)
	}
	a.clock.Add(int64(13 * time.Hour))
	loggedOut, replaced := a.session(admin), a.session(admin)
	if got := a.send("DELETE", "/api/v1/session", "", "Cookie", loggedOut); got.status != 204 {
		t.Fatalf("log out: %d %s", got.status, got.body)
	}
	a.session(admin, "Cookie", replaced)
	token := func(cookie string) string { _, v, _ := strings.Cut(cookie, "="); return v }
	jwt := func(alg, key string) string {
		b := base64.RawURLEncoding
		head := b.EncodeToString([]byte(`{"alg":"`+alg+`","typ":"JWT","kid":"`+id+`"}`)) + "." + b.EncodeToString([]byte(`{"sub":"`+id+`","role":"admin","exp":9999999999}`))
		if key == "" {
			return head + "."
		}
		mac := hmac.New(sha256.New, []byte(key))
		mac.Write([]byte(head))
		return head + "." + b.EncodeToString(mac.Sum(nil))
	}
	fresh := a.session(admin)
	victim := a.own["default"].key
	path := "/api/v1/keys/" + victim
	hash := httpd.HashSecret(secret)
	wrong, _ := httpd.NewSecret()
	cases := []struct {
		name    string
		header  []string
		path    string // default: path
		status  int    // default: 401
		code    string // default: unauthorized
		audited string // default: refused.bad-key
	}{
		{name: "no key at all", audited: "refused.no-key"},
		{name: "an empty Authorization", header: []string{"Authorization", ""}},
		{name: "a scheme and no key", header: []string{"Authorization", "Bearer"}},
		{name: "the key as password of Basic", header: []string{"Authorization", "Basic " + base64.StdEncoding.EncodeToString([]byte("admin:"+admin))}},
		{name: "the key in the query", path: path + "?key=" + admin + "&access_token=" + admin, audited: "refused.no-key"},
		{name: "the key in a header of its own", header: []string{"X-Api-Key", admin}, audited: "refused.no-key"},
		{name: "the key behind another one", header: []string{"Authorization", "Bearer x", "Authorization", "Bearer " + admin}},
		{name: "two keys in one header", header: []string{"Authorization", "Bearer " + admin + ", Bearer " + admin}},
		{name: "the key for a session", header: []string{"Cookie", "edfisync=" + admin}},
		{name: "a secret that is made up", header: bearer(httpd.FormatKey(id, wrong))},
		{name: "an id that is made up", header: bearer(httpd.FormatKey(httpd.NewKeyID(), secret))},
		{name: "the secret of another tenant's admin", header: bearer(httpd.FormatKey(id, otherSecret))},
		{name: "the secret less its last letter", header: bearer(admin[:len(admin)-1])},
		{name: "the secret and one letter more", header: bearer(admin + "a")},
		{name: "the secret in capitals", header: bearer(httpd.FormatKey(id, strings.ToUpper(secret)))},
		{name: "the hash that the ledger stores", header: bearer(httpd.FormatKey(id, hex.EncodeToString(hash[:])[:52]))},
		{name: "an id with SQL", header: bearer("efs_' OR 1=1 --_" + secret)},
		{name: "an id with a wildcard", header: bearer("efs_%%%%%%%%%%%%%_" + secret)},
		{name: "ten thousand letters", header: bearer("efs_" + strings.Repeat("a", 10_000))},
		{name: "letters that are not ASCII", header: bearer(httpd.FormatKey(id, "ä"+secret[2:]))},
		{name: "a web token that is signed by nobody", header: bearer(jwt("none", ""))},
		{name: "a web token signed with the id of the key", header: bearer(jwt("HS256", id))},
		{name: "a web token signed with nothing", header: bearer(jwt("HS256", "")[:20] + ".e30.")},
		{name: "a key that has expired", header: bearer(expired)},
		{name: "a session of a key that has expired", header: []string{"Cookie", expiredSession}, audited: "refused.no-key"},
		{name: "a key that was revoked", header: bearer(revoked)},
		{name: "a session of a key that was revoked", header: []string{"Cookie", revokedSession}, audited: "refused.no-key"},
		{name: "a secret that was replaced, when both were good for long enough", header: bearer(rotated)},
		{name: "a secret that was replaced twice, while the second is still good", header: bearer(twice)},
		{name: "a key from a network that is not its own", header: bearer(elsewhere), status: 403, code: "network", audited: "refused.network"},
		{name: "a key that claims its own network", header: append(bearer(elsewhere), "X-Forwarded-For", "10.0.0.1"), status: 403, code: "network", audited: "refused.network"},
		{name: "a key that claims its own network in other words", header: append(bearer(elsewhere), "Forwarded", "for=10.0.0.1", "X-Real-Ip", "10.0.0.1", "True-Client-Ip", "10.0.0.1"), status: 403, code: "network", audited: "refused.network"},
		{name: "a session that was logged out, sent again", header: []string{"Cookie", loggedOut}, audited: "refused.no-key"},
		{name: "a session that a new log-in ended", header: []string{"Cookie", replaced}, audited: "refused.no-key"},
		{name: "a session after half a day", header: []string{"Cookie", old}, audited: "refused.no-key"},
		{name: "a session as a key", header: bearer(token(fresh))},
		{name: "a session under another name", header: []string{"Cookie", "session=" + token(fresh)}, audited: "refused.no-key"},
		{name: "a session under the name it has behind TLS", header: []string{"Cookie", "__Host-edfisync=" + token(fresh)}, audited: "refused.no-key"},
		{name: "the hash of a session", header: []string{"Cookie", fmt.Sprintf("edfisync=%x", httpd.HashSecret(token(fresh)))}},
		{name: "a session that an attacker planted", header: []string{"Cookie", "edfisync=" + strings.Repeat("a", 52)}, audited: "refused.no-key"},
		{name: "a session in a second cookie of the name", header: []string{"Cookie", "edfisync=x; edfisync=" + token(fresh)}},
		{name: "a session beside a wrong key", header: []string{"Authorization", "Bearer x", "Cookie", fresh}},
		{name: "the host of this machine", header: []string{"Host", "127.0.0.1", "X-Forwarded-Host", "localhost"}, audited: "refused.no-key"},
		{name: "the path of a public route in a header", header: []string{"X-Original-Url", "/healthz", "X-Rewrite-Url", "/healthz"}, audited: "refused.no-key"},
		{name: "the path with an empty element", path: "/" + path, status: 404, code: "not-found", audited: "-"},
		{name: "the path through a public one", path: "/assets/.." + path, status: 404, code: "not-found", audited: "-"},
		{name: "the path through a public one, encoded", path: "/healthz/%2e%2e" + path, status: 404, code: "not-found", audited: "-"},
		{name: "the path in capitals", path: strings.Replace(path, "/api/v1", "/API/V1", 1), status: 404, code: "not-found", audited: "-"},
		{name: "the path with a parameter", path: strings.Replace(path, "/keys", "/keys;x", 1), status: 404, code: "not-found", audited: "-"},
	}
	before := a.stored()
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			a := a.on(t)
			send := func() {
				got := a.send("DELETE", either(c.path, path), "", c.header...)
				a.isProblem(got, either(c.status, 401), either(c.code, "unauthorized"))
				a.tells(got)
				if got.status == 401 && got.header.Get("Www-Authenticate") == "" {
					t.Error("it does not say how to log in")
				}
				if strings.Contains(got.body, secret) {
					t.Error("the answer repeats the secret")
				}
			}
			if c.audited == "-" { // nothing was tried that is there
				send()
			} else {
				a.noted(either(c.audited, "refused.bad-key"), send)
			}
			a.unchanged(before)
		})
	}
	if strings.Contains(a.log.String(), secret) || strings.Contains(a.log.String(), otherSecret) {
		t.Error("the log holds a secret")
	}
	a.verified()
	if got := a.send("DELETE", path, "", "Cookie", fresh); got.status != 200 {
		t.Errorf("the way in that is good: %d %s", got.status, got.body)
	}
	attacktest.Played(t, attacktest.LogIn, names(cases, func(c struct {
		name    string
		header  []string
		path    string
		status  int
		code    string
		audited string
	}) string {
		return c.name
	}))
}

func either[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}

// Who tries secrets is locked out, whatever they change about their requests.
func TestWhoGuessesIsLockedOut(t *testing.T) {
	t.Parallel()
	a := newAttacked(t, false, nil, httpd.Options{})
	cases := []struct {
		name string
		try  func(a *attacked, key, wrong string, i int) answer
	}{
		{"by header", func(a *attacked, _, wrong string, _ int) answer {
			return a.send("GET", "/api/v1/me", "", bearer(wrong)...)
		}},
		{"by log-in of a program", func(a *attacked, _, wrong string, _ int) answer {
			return a.send("POST", "/api/v1/session", `{"key": "`+wrong+`"}`)
		}},
		{"by log-in of a person", func(a *attacked, _, wrong string, _ int) answer { return a.send("POST", "/login", "key="+wrong) }},
		{"claiming another address each time", func(a *attacked, _, wrong string, i int) answer {
			return a.send("GET", "/api/v1/me", "", append(bearer(wrong), "X-Forwarded-For", fmt.Sprintf("192.0.2.%d", i))...)
		}},
		{"with another browser each time", func(a *attacked, _, wrong string, i int) answer {
			return a.send("GET", "/api/v1/me", "", append(bearer(wrong), "User-Agent", fmt.Sprint("browser ", i), "X-Request-Id", fmt.Sprint("request-", i))...)
		}},
		{"on another route each time", func(a *attacked, _, wrong string, i int) answer {
			return a.send("GET", []string{"/api/v1/me", "/api/v1/runs", "/api/v1/keys", "/api/v1/audit"}[i%4], "", bearer(wrong)...)
		}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			a := a.on(t)
			a.clock.Add(int64(time.Hour)) // nobody is locked out any more
			key := a.key(console.NewKey{Role: "viewer"})
			a.noted("refused.locked-out", func() {
				for i := range 10 {
					wrong, _ := httpd.NewSecret()
					if got := c.try(a, key, httpd.FormatKey(a.keyID(key), wrong), i); got.status != 401 {
						t.Fatalf("attempt %d: %d %s", i+1, got.status, got.body)
					}
				}
				got := c.try(a, key, key, 11)
				if got.status != 429 || got.header.Get("Retry-After") == "" {
					t.Errorf("the right key after ten wrong ones: %d %s", got.status, got.body)
				}
			})
			a.clock.Add(int64(2 * time.Minute))
			if got := a.send("GET", "/api/v1/me", "", bearer(key)...); got.status != 200 {
				t.Errorf("after the lock-out: %d %s", got.status, got.body)
			}
		})
	}
	attacktest.Played(t, attacktest.LogIn, names(cases, func(c struct {
		name string
		try  func(a *attacked, key, wrong string, i int) answer
	}) string {
		return c.name
	}))
}

// A browser's session is used by no page of another site, on no route that changes something: made from the routes.
func TestNoOtherSiteUsesASession(t *testing.T) {
	t.Parallel()
	a := newAttacked(t, false, nil, httpd.Options{})
	cookie := a.session(a.key(console.NewKey{Role: "admin", StudentData: true}))
	all, o := examples(), a.own["default"]
	for pattern, e := range recordExamples() {
		all[pattern] = e
	}
	sites := [][]string{
		{"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-site"}, {"Origin", "https://evil.example"}, {"Origin", "null"}, {"Origin", "http://" + a.addr + ".evil.example"},
		{"Origin", "http://127.0.0.1:1"},
	}
	before, played := a.stored(), 0
	for _, route := range a.console.Routes() {
		e := all[route.Pattern]
		method, _, _ := strings.Cut(route.Pattern, " ")
		if e.path == nil {
			t.Errorf("the matrix has no example of %s", route.Pattern)
			continue
		}
		if method == http.MethodGet {
			continue // a page of another site may send a browser here; that changes nothing
		}
		body := ""
		if e.body != nil {
			body = e.body(o)
		}
		for _, site := range sites {
			played++
			header := append([]string{"Cookie", cookie}, site...)
			if got := a.send(method, e.path(o), body, header...); got.status != 403 {
				t.Errorf("%s from %v: %d %s", route.Pattern, site, got.status, got.body)
			}
		}
		a.noted("refused.cross-origin", func() { a.send(method, e.path(o), body, "Cookie", cookie, "Origin", "https://evil.example") })
		for _, kind := range []string{"text/plain", "multipart/form-data; boundary=x"} { // what a form of another site can send without being asked
			if strings.HasPrefix(e.path(o), "/api/") && body != "" {
				played++
				if got := a.send(method, e.path(o), body, "Cookie", cookie, "Content-Type", kind, "Origin", "https://evil.example"); got.status < 400 {
					t.Errorf("%s as %s: %d", route.Pattern, kind, got.status)
				}
			}
		}
	}
	a.unchanged(before)
	if played < 100 {
		t.Errorf("%d requests: the test no longer finds the routes", played)
	}
	for _, route := range a.console.Routes() { // what is read changes nothing, wherever the request was begun
		method, _, _ := strings.Cut(route.Pattern, " ")
		if e := all[route.Pattern]; method == http.MethodGet && !strings.HasSuffix(route.Pattern, "/events") {
			a.send(method, e.path(o), "", "Cookie", cookie, "Sec-Fetch-Site", "cross-site")
		}
	}
	a.unchanged(before)
	a.verified()
}

func TestTheCookieOfASessionIsForItsBrowserAndHostOnly(t *testing.T) {
	t.Parallel()
	proxied := newAttacked(t, false, func(c *console.Config) { c.Router.Proxies, _ = httpd.ParseNetworks([]string{"127.0.0.1"}) }, httpd.Options{})
	key := proxied.key(console.NewKey{Role: "viewer"})
	plain := proxied.send("POST", "/api/v1/session", `{"key": "`+key+`"}`)
	behindTLS := proxied.send("POST", "/api/v1/session", `{"key": "`+key+`"}`, "X-Forwarded-Proto", "https")
	form := proxied.send("POST", "/login", "key="+key, "X-Forwarded-Proto", "https")
	for _, c := range []struct {
		name string
		got  answer
		want []string
	}{
		{"without TLS", plain, []string{"edfisync=", "HttpOnly", "SameSite=Strict", "Path=/"}},
		{"behind TLS", behindTLS, []string{"__Host-edfisync=", "HttpOnly", "SameSite=Strict", "Path=/", "Secure"}},
		{"by the form, behind TLS", form, []string{"__Host-edfisync=", "HttpOnly", "SameSite=Strict", "Path=/", "Secure"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			cookie := c.got.header.Get("Set-Cookie")
			for _, want := range c.want {
				if !strings.Contains(cookie, want) {
					t.Errorf("the cookie %q lacks %s", cookie, want)
				}
			}
			if strings.Contains(cookie, "Domain=") || len(c.got.header.Values("Set-Cookie")) != 1 {
				t.Errorf("the cookie goes to other hosts: %q", c.got.header.Values("Set-Cookie"))
			}
		})
	}
}
