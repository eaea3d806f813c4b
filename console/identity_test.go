package console_test

import (
	"crypto"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html/template"
	"maps"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edfisync/edfisync/console"
	"github.com/edfisync/edfisync/internal/attacktest"
	"github.com/edfisync/edfisync/internal/httpd"
)

// provider is an identity provider: OpenID Connect with PKCE, its keys at an address of its own. What it does wrong, a test tells it.
type provider struct {
	*httptest.Server
	key, other *rsa.PrivateKey

	mu     sync.Mutex
	codes  map[string]url.Values // the request that each code was given for; used ones are taken away
	claims map[string]any        // over those of a good token; nil takes one away
	header map[string]any        // of the token
	sign   func(signed string) []byte
	token  func(w http.ResponseWriter, form url.Values) bool // answers in the token endpoint's place when it returns true
}

func newProvider(t testing.TB) *provider {
	t.Helper()
	p := &provider{codes: map[string]url.Values{}}
	for _, k := range []**rsa.PrivateKey{&p.key, &p.other} {
		var err error
		if *k, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
			t.Fatal(err)
		}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		answerJSON(w, map[string]any{
			"issuer": p.URL, "authorization_endpoint": p.URL + "/authorize", "token_endpoint": p.URL + "/token", "jwks_uri": p.URL + "/keys",
			"id_token_signing_alg_values_supported": []string{"none", "HS256", "RS256"}, "response_types_supported": []string{"code"}, "subject_types_supported": []string{"public"},
		})
	})
	mux.HandleFunc("GET /keys", func(w http.ResponseWriter, _ *http.Request) {
		answerJSON(w, map[string]any{"keys": []any{map[string]any{
			"kty": "RSA", "use": "sig", "kid": "one", "n": base64.RawURLEncoding.EncodeToString(p.key.N.Bytes()), "e": base64.RawURLEncoding.EncodeToString(big.NewInt(int64(p.key.E)).Bytes()),
		}}})
	})
	mux.HandleFunc("GET /authorize", func(w http.ResponseWriter, r *http.Request) { // a person, who only clicks
		q := r.URL.Query()
		back := q.Get("redirect_uri") + "?" + url.Values{"code": {p.authorize(q)}, "state": {q.Get("state")}, "iss": {p.URL}}.Encode()
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(w, `<!doctype html><title>Provider</title><a id="go" href="%s">It is me</a>`, template.HTMLEscapeString(back))
	})
	mux.HandleFunc("POST /token", func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		defer p.mu.Unlock()
		_ = r.ParseForm()
		if p.token != nil && p.token(w, r.PostForm) {
			return
		}
		asked, ok := p.codes[r.PostFormValue("code")]
		delete(p.codes, r.PostFormValue("code"))
		id, secret, _ := r.BasicAuth()
		challenge := sha256.Sum256([]byte(r.PostFormValue("code_verifier")))
		if !ok || id != "console" || secret != "client-secret" || base64.RawURLEncoding.EncodeToString(challenge[:]) != asked.Get("code_challenge") ||
			r.PostFormValue("redirect_uri") != asked.Get("redirect_uri") {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusBadRequest)
			fmt.Fprint(w, `{"error":"invalid_grant","error_description":"Lovelace"}`)
			return
		}
		answerJSON(w, map[string]any{"access_token": "a", "token_type": "Bearer", "expires_in": 300, "id_token": p.idToken(asked.Get("nonce"))})
	})
	p.Server = httptest.NewServer(mux)
	t.Cleanup(p.Close)
	return p
}

func answerJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v)
}

// idToken signs a token, as a test wants it.
func (p *provider) idToken(nonce string) string {
	now := time.Now()
	claims := map[string]any{"iss": p.URL, "aud": "console", "sub": "u-17", "nonce": nonce, "iat": now.Unix(), "exp": now.Add(24 * time.Hour).Unix(), "name": "Grace Hopper", "groups": []string{"staff", "ops"}}
	maps.Copy(claims, p.claims)
	maps.DeleteFunc(claims, func(_ string, v any) bool { return v == nil })
	header := map[string]any{"alg": "RS256", "typ": "JWT", "kid": "one"}
	maps.Copy(header, p.header)
	part := func(v any) string {
		b, _ := json.Marshal(v)
		return base64.RawURLEncoding.EncodeToString(b)
	}
	signed := part(header) + "." + part(claims)
	sign := p.sign
	if sign == nil {
		sign = p.signWith(p.key)
	}
	return signed + "." + base64.RawURLEncoding.EncodeToString(sign(signed))
}

func (p *provider) signWith(key *rsa.PrivateKey) func(string) []byte {
	return func(signed string) []byte {
		sum := sha256.Sum256([]byte(signed))
		s, _ := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, sum[:])
		return s
	}
}

// authorize is what a person does at the provider: they log in, and get a code for the request their browser brought.
func (p *provider) authorize(request url.Values) (code string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	code = rand.Text()
	p.codes[code] = request
	return code
}

// do changes what the provider does.
func (p *provider) do(change func(p *provider)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.claims, p.header, p.sign, p.token = nil, nil, nil, nil
	if change != nil {
		change(p)
	}
}

// identityOf is the configuration of a console that people log in to at a provider.
func identityOf(p *provider) *console.Identity {
	return &console.Identity{
		Issuer: p.URL, URL: "https://sync.example.org", ClientID: "console", ClientSecret: "client-secret", Scopes: []string{"profile"}, RoleClaim: "groups",
		Roles:       map[string]string{"ops": "operator", "leads": "approver", "watchers": "viewer", "auditors": "auditor", "admins": "admin"},
		StudentData: []string{"leads"}, Algorithms: []string{"RS256"},
	}
}

// begin begins a log-in and returns the cookie and what the provider is asked.
func (a *attacked) begin(next string) (cookie string, asked url.Values) {
	a.t.Helper()
	got := a.send("GET", "/login/oidc?next="+url.QueryEscape(next), "")
	to, err := url.Parse(got.header.Get("Location"))
	a.ok(err)
	cookie, _, _ = strings.Cut(got.header.Get("Set-Cookie"), ";")
	if got.status != 303 || cookie == "" || to.Query().Get("state") == "" {
		a.t.Fatalf("begin: %d %v %s", got.status, got.header, got.body)
	}
	return cookie, to.Query()
}

// back is the browser that comes back from the provider.
func (a *attacked) back(cookie string, q url.Values, header ...string) answer {
	a.t.Helper()
	if cookie != "" {
		header = append(header, "Cookie", cookie)
	}
	return a.send("GET", "/login/oidc/callback?"+q.Encode(), "", header...)
}

// sessionCookie is the session an answer gives; "" when it gives none.
func sessionCookie(got answer) string {
	for _, c := range got.header.Values("Set-Cookie") {
		if strings.HasPrefix(c, "edfisync=") {
			cookie, _, _ := strings.Cut(c, ";")
			return cookie
		}
	}
	return ""
}

func TestPeopleLogInAtAnIdentityProvider(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	a := newAttacked(t, false, func(c *console.Config) { c.Identity = identityOf(p) }, httpd.Options{})
	if page := a.send("GET", "/login?next=/runs/1", ""); !strings.Contains(page.body, `href="/login/oidc?next=%2fruns%2f1"`) {
		t.Errorf("the log-in page does not lead to the provider: %s", page.body)
	}
	cookie, asked := a.begin("/runs/1?x=y")
	for name, want := range map[string]string{
		"response_type": "code", "client_id": "console", "redirect_uri": "https://sync.example.org/login/oidc/callback", "scope": "openid profile", "code_challenge_method": "S256",
	} {
		if asked.Get(name) != want {
			t.Errorf("%s is %q, want %q", name, asked.Get(name), want)
		}
	}
	var got answer
	a.noted("session.open", func() { got = a.back(cookie, url.Values{"state": {asked.Get("state")}, "code": {p.authorize(asked)}}) })
	session := sessionCookie(got)
	if got.status != 200 || session == "" || got.header.Get("Refresh") != "0; url=/runs/1?x=y" {
		t.Fatalf("back: %d %v %s", got.status, got.header, got.body)
	}
	var me struct {
		ID, Name, Role, Tenant string
		StudentData            bool
	}
	a.ok(json.Unmarshal([]byte(a.send("GET", "/api/v1/me", "", "Cookie", session).body), &me))
	if me.ID != "oidc:u-17" || me.Name != "Grace Hopper" || me.Role != "operator" || me.StudentData || me.Tenant != "" {
		t.Errorf("the session is of %+v", me)
	}
	if got := a.send("POST", "/connections/lincoln/pause", "why=x", "Cookie", session); got.status != 303 {
		t.Errorf("an operator pauses: %d", got.status)
	}
	if got := a.send("POST", fmt.Sprintf("/holds/%d/approve", a.own["default"].hold), "edition=1&why=x", "Cookie", session); got.status != 403 {
		t.Errorf("an operator approves: %d", got.status)
	}
	if got := a.send("POST", "/logout", "", "Cookie", session); got.status != 303 {
		t.Errorf("log out: %d", got.status)
	}
	if got := a.send("GET", "/api/v1/me", "", "Cookie", session); got.status != 401 {
		t.Errorf("after logging out: %d", got.status)
	}
	a.verified()
}

func TestClaimsSayWhatAPersonMay(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	plain := newAttacked(t, false, func(c *console.Config) { c.Identity = identityOf(p) }, httpd.Options{})
	bound := newAttacked(t, false, func(c *console.Config) {
		c.Identity = identityOf(p)
		c.Identity.TenantClaim = "district"
	}, httpd.Options{})
	for _, c := range []struct {
		name   string
		at     *attacked
		claims map[string]any
		want   string // role, tenant, whether they may see student data; or the status
	}{
		{"one group as text", plain, map[string]any{"groups": "watchers"}, "viewer  false"},
		{"the strongest of several", plain, map[string]any{"groups": []string{"watchers", "leads", "ops"}}, "approver  true"},
		{"an auditor who is an operator, too", plain, map[string]any{"groups": []string{"auditors", "ops"}}, "operator  false"},
		{"an operator who is an auditor, too", plain, map[string]any{"groups": []string{"ops", "auditors"}}, "operator  false"},
		{"an auditor", plain, map[string]any{"groups": []string{"auditors"}}, "auditor  false"},
		{"a tenant", bound, map[string]any{"district": "acme"}, "operator acme false"},
		{"no group", plain, map[string]any{"groups": nil}, "403"},
		{"groups without a role", plain, map[string]any{"groups": []string{"staff", "everybody"}}, "403"},
		{"a role by its own name", plain, map[string]any{"groups": []string{"admin"}}, "403"},
		{"a group in other letters", plain, map[string]any{"groups": []string{"ADMINS"}}, "403"},
		{"groups that are numbers", plain, map[string]any{"groups": []int{1, 2}}, "403"},
		{"no tenant where one is wanted", bound, nil, "403"},
		{"an empty tenant", bound, map[string]any{"district": ""}, "403"},
		{"two tenants", bound, map[string]any{"district": []string{"acme", "other"}}, "403"},
		{"a tenant that is none", bound, map[string]any{"district": "../other"}, "403"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := c.at.on(t)
			p.do(func(p *provider) { p.claims = c.claims })
			cookie, asked := a.begin("/")
			send := func() answer {
				return a.back(cookie, url.Values{"state": {asked.Get("state")}, "code": {p.authorize(asked)}})
			}
			if c.want == "403" {
				a.noted("refused.no-role", func() {
					if got := send(); got.status != 403 || sessionCookie(got) != "" || !strings.Contains(got.body, "ask who administers it") {
						t.Errorf("got %d %s", got.status, got.body)
					}
				})
				return
			}
			var me struct {
				Role, Tenant string
				StudentData  bool
			}
			a.ok(json.Unmarshal([]byte(a.send("GET", "/api/v1/me", "", "Cookie", sessionCookie(send())).body), &me))
			if got := fmt.Sprint(me.Role, " ", me.Tenant, " ", me.StudentData); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// Nobody comes in by a token that the provider did not make for this console and this log-in.
func TestNobodyComesInByAForgedLogIn(t *testing.T) {
	t.Parallel()
	p, evil := newProvider(t), newProvider(t)
	var reached atomic.Bool
	evil.do(func(p *provider) {
		p.token = func(http.ResponseWriter, url.Values) bool {
			reached.Store(true)
			return false
		}
	})
	a := newAttacked(t, false, func(c *console.Config) { c.Identity = identityOf(p) }, httpd.Options{})
	claim := func(name string, value any) func(*provider) {
		return func(p *provider) { p.claims = map[string]any{name: value, "groups": []string{"admins"}} }
	}
	public := x509Text(p)
	signHS := func(key []byte) func(string) []byte {
		return func(signed string) []byte {
			mac := hmac.New(sha256.New, key)
			mac.Write([]byte(signed))
			return mac.Sum(nil)
		}
	}
	good := func(cookie string, asked url.Values) answer {
		return a.back(cookie, url.Values{"state": {asked.Get("state")}, "code": {p.authorize(asked)}})
	}
	cases := []struct {
		name   string
		change func(p *provider)
		come   func(cookie string, asked url.Values) answer // default: as everybody comes back
	}{
		{"a token that nobody signed", func(p *provider) {
			p.header, p.sign = map[string]any{"alg": "none"}, func(string) []byte { return nil }
		}, nil},
		{"a token that nobody signed, in other letters", func(p *provider) {
			p.header, p.sign = map[string]any{"alg": "nOnE"}, func(string) []byte { return nil }
		}, nil},
		{"a token signed with the client's secret", func(p *provider) {
			p.header, p.sign = map[string]any{"alg": "HS256"}, signHS([]byte("client-secret"))
		}, nil},
		{"a token signed with the provider's public key as a secret", func(p *provider) { p.header, p.sign = map[string]any{"alg": "HS256"}, signHS(public) }, nil},
		{"a token signed with a key that the provider does not have", func(p *provider) { p.sign = p.signWith(p.other) }, nil},
		{"a token with a key of its own in its header", func(p *provider) {
			p.sign, p.header = p.signWith(p.other), map[string]any{"kid": "two", "jwk": map[string]any{"kty": "RSA", "n": base64.RawURLEncoding.EncodeToString(p.other.N.Bytes()), "e": "AQAB"}, "jku": evil.URL + "/keys"}
		}, nil},
		{"a token without a signature", func(p *provider) { p.sign = func(string) []byte { return nil } }, nil},
		{"a token for another client", claim("aud", "other"), nil},
		{"a token for nobody", claim("aud", nil), nil},
		{"a token for us and others that names none", claim("aud", []string{"console", "other"}), nil},
		{"a token that another client asked for", func(p *provider) { p.claims = map[string]any{"azp": "other"} }, nil},
		{"a token of another issuer", claim("iss", "https://evil.example"), nil},
		{"a token of the issuer with a slash", func(p *provider) { p.claims = map[string]any{"iss": p.URL + "/"} }, nil},
		{"a token that has expired", claim("exp", time.Now().Add(-time.Hour).Unix()), nil},
		{"a token that does not expire", claim("exp", nil), nil},
		{"a token from tomorrow", claim("iat", time.Now().Add(24*time.Hour).Unix()), nil},
		{"a token that is not good yet", claim("nbf", time.Now().Add(24*time.Hour).Unix()), nil},
		{"a token of another log-in", claim("nonce", "another"), nil},
		{"a token of no log-in", claim("nonce", nil), nil},
		{"a token about nobody", claim("sub", ""), nil},
		{"no token", func(p *provider) {
			p.token = func(w http.ResponseWriter, _ url.Values) bool {
				answerJSON(w, map[string]any{"access_token": "a", "token_type": "Bearer"})
				return true
			}
		}, nil},
		{"a token of ten megabytes", func(p *provider) {
			p.token = func(w http.ResponseWriter, _ url.Values) bool {
				answerJSON(w, map[string]any{"access_token": "a", "token_type": "Bearer", "id_token": strings.Repeat("a", 10<<20)})
				return true
			}
		}, nil},
		{"a code sent on to another address", func(p *provider) {
			p.token = func(w http.ResponseWriter, _ url.Values) bool {
				w.Header().Set("Location", evil.URL+"/token")
				w.WriteHeader(http.StatusTemporaryRedirect)
				return true
			}
		}, nil},
		{"the state of another browser", nil, func(cookie string, asked url.Values) answer {
			_, other := a.begin("/")
			return a.back(cookie, url.Values{"state": {other.Get("state")}, "code": {p.authorize(asked)}})
		}},
		{"no state", nil, func(cookie string, asked url.Values) answer {
			return a.back(cookie, url.Values{"code": {p.authorize(asked)}})
		}},
		{"two states", nil, func(cookie string, asked url.Values) answer {
			return a.back(cookie, url.Values{"state": {asked.Get("state"), "x"}, "code": {p.authorize(asked)}})
		}},
		{"a log-in that this browser did not begin", nil, func(_ string, asked url.Values) answer { return good("", asked) }},
		{"a log-in that was made up", nil, func(_ string, asked url.Values) answer {
			return good("edfisync-login="+base64.RawURLEncoding.EncodeToString([]byte(`{"s":"`+asked.Get("state")+`"}`)), asked)
		}},
		{"the code of a log-in in another browser", nil, func(cookie string, asked url.Values) answer {
			_, victim := a.begin("/")
			return a.back(cookie, url.Values{"state": {asked.Get("state")}, "code": {p.authorize(victim)}})
		}},
		{"a code that was used", nil, func(cookie string, asked url.Values) answer {
			q := url.Values{"state": {asked.Get("state")}, "code": {p.authorize(asked)}}
			if got := a.back(cookie, q); sessionCookie(got) == "" {
				a.t.Errorf("the first time: %d %s", got.status, got.body)
			}
			return a.back(cookie, q)
		}},
		{"a code that was made up", nil, func(cookie string, asked url.Values) answer {
			return a.back(cookie, url.Values{"state": {asked.Get("state")}, "code": {"made-up"}})
		}},
		{"no code", nil, func(cookie string, asked url.Values) answer {
			return a.back(cookie, url.Values{"state": {asked.Get("state")}})
		}},
		{"the code of another provider", nil, func(cookie string, asked url.Values) answer {
			return a.back(cookie, url.Values{"state": {asked.Get("state")}, "code": {evil.authorize(asked)}})
		}},
		{"an answer that names another provider", nil, func(cookie string, asked url.Values) answer {
			return a.back(cookie, url.Values{"state": {asked.Get("state")}, "code": {p.authorize(asked)}, "iss": {evil.URL}})
		}},
		{"an error with words of its own", nil, func(cookie string, asked url.Values) answer {
			return a.back(cookie, url.Values{"state": {asked.Get("state")}, "error": {"access_denied"}, "error_description": {"Lovelace <script>alert(1)</script>"}})
		}},
		{"a log-in of an hour ago", nil, func(cookie string, asked url.Values) answer {
			a.clock.Add(int64(time.Hour))
			defer a.clock.Add(-int64(time.Hour))
			return good(cookie, asked)
		}},
	}
	before := a.stored()
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			a := a.on(t)
			a.clock.Store(0)
			p.do(c.change)
			defer p.do(nil)
			cookie, asked := a.begin("/")
			come := either2(c.come, good)
			got := come(cookie, asked)
			if got.status == 503 && (c.name == "a code sent on to another address" || c.name == "a token of ten megabytes") {
				got.status = 401 // the provider is broken
			}
			if got.status != 401 || sessionCookie(got) != "" || !strings.Contains(got.header.Get("Content-Type"), "text/html") {
				t.Errorf("got %d %v %s", got.status, got.header, got.body)
			}
			a.tells(got)
			if c.name != "a code that was used" {
				a.unchanged(before)
			} else {
				before = a.stored()
			}
		})
	}
	if strings.Contains(a.log.String(), "client-secret") || strings.Contains(a.log.String(), "eyJ") || strings.Contains(a.log.String(), "Lovelace") {
		t.Errorf("the log holds a secret or a token: %s", a.log.String())
	}
	if reached.Load() {
		t.Error("a code, and the client's secret, were sent on to another address")
	}
	next := []string{"https://evil.example/", "//evil.example", `/\evil.example`, "/\t/evil.example", "javascript:alert(1)", "/login/oidc"}
	for _, to := range next {
		t.Run("goes on to "+to, func(t *testing.T) {
			a := a.on(t)
			cookie, asked := a.begin(to)
			got := good(cookie, asked)
			if sessionCookie(got) == "" || got.header.Get("Refresh") != "0; url=/" || strings.Contains(got.body, "evil") {
				t.Errorf("got %d %v", got.status, got.header)
			}
		})
	}
	for _, route := range []string{"Host", "X-Forwarded-Host"} {
		got := a.send("GET", "/login/oidc", "", route, "evil.example")
		if to, err := url.Parse(got.header.Get("Location")); err != nil || to.Query().Get("redirect_uri") != "https://sync.example.org/login/oidc/callback" {
			t.Errorf("%s leads back to %s", route, got.header.Get("Location"))
		}
	}
	a.verified()
	all := names(cases, func(c struct {
		name   string
		change func(p *provider)
		come   func(cookie string, asked url.Values) answer
	}) string {
		return c.name
	})
	for _, to := range next {
		all = append(all, "goes on to "+to)
	}
	attacktest.Played(t, attacktest.Identity, append(all, "another host in Host", "another host in X-Forwarded-Host"))
}

func either2[F func(string, url.Values) answer](v, def F) F {
	if v == nil {
		return def
	}
	return v
}

// x509Text is a public key as its owner shows it.
func x509Text(p *provider) []byte {
	return []byte(base64.RawURLEncoding.EncodeToString(p.key.N.Bytes()))
}

func TestAProviderThatIsAwayLeavesLogInByKey(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	a := newAttacked(t, false, func(c *console.Config) { c.Identity = identityOf(p) }, httpd.Options{})
	p.Close()
	if got := a.send("GET", "/login/oidc", ""); got.status != 503 || !strings.Contains(got.body, "log in with a key") || !strings.Contains(got.body, `name="key"`) {
		t.Errorf("got %d %s", got.status, got.body)
	}
	a.session(a.key(console.NewKey{Role: "viewer"}))
}

func TestAnIdentityProviderIsConfiguredCompletely(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(i *console.Identity){
		"no issuer":                            func(i *console.Identity) { i.Issuer = "" },
		"an issuer without TLS":                func(i *console.Identity) { i.Issuer = "http://login.example.org" },
		"an issuer with a password":            func(i *console.Identity) { i.Issuer = "https://a:b@login.example.org" },
		"a console with a path":                func(i *console.Identity) { i.URL = "https://sync.example.org/console" },
		"no client":                            func(i *console.Identity) { i.ClientID = "" },
		"no roles":                             func(i *console.Identity) { i.Roles = nil },
		"a role there is not":                  func(i *console.Identity) { i.Roles = map[string]string{"ops": "king"} },
		"student data for a group without one": func(i *console.Identity) { i.StudentData = []string{"others"} },
		"no algorithm":                         func(i *console.Identity) { i.Algorithms = nil },
		"tokens that nobody signs":             func(i *console.Identity) { i.Algorithms = []string{"none"} },
		"tokens signed with a shared secret":   func(i *console.Identity) { i.Algorithms = []string{"HS256"} },
	} {
		i := console.Identity{
			Issuer: "https://login.example.org", URL: "https://sync.example.org", ClientID: "c", RoleClaim: "groups", Roles: map[string]string{"ops": "operator"}, Algorithms: []string{"RS256"},
		}
		if err := i.Check(); err != nil {
			t.Fatal(err)
		}
		if change(&i); i.Check() == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}
