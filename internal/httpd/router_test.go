package httpd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// keyring is a store of keys and sessions in memory.
type keyring struct {
	mu       sync.Mutex
	keys     map[string]Credential
	sessions map[SecretHash]Credential
	down     bool
	used     int
}

func (k *keyring) Key(_ context.Context, id string) (Credential, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	c, ok := k.keys[id]
	switch {
	case k.down:
		return Credential{}, errors.New("the database is away")
	case !ok:
		return Credential{}, ErrUnknown
	}
	return c, nil
}

func (k *keyring) KeyUsed(context.Context, string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.used++
	return nil
}

func (k *keyring) Session(_ context.Context, hash SecretHash) (Credential, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	c, ok := k.sessions[hash]
	if !ok {
		return Credential{}, ErrUnknown
	}
	return c, nil
}

// add makes a key and returns it as its owner has it.
func (k *keyring) add(p Principal, change func(*Credential)) string {
	id := NewKeyID()
	secret, hash := NewSecret()
	p.ID = id
	c := Credential{Principal: p, Secrets: []Secret{{Hash: hash}}}
	if change != nil {
		change(&c)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.keys[id] = c
	return FormatKey(id, secret)
}

// bench is a router with some routes, a clock that stands still, and what its audit trail heard.
type bench struct {
	*Router
	store   *keyring
	now     time.Time
	mu      sync.Mutex
	denials []Denial
}

func newBench(change func(*RouterConfig)) *bench {
	b := &bench{store: &keyring{keys: map[string]Credential{}, sessions: map[SecretHash]Credential{}}, now: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)}
	c := RouterConfig{
		Keys: b.store, Sessions: b.store, Now: func() time.Time { return b.now },
		PerPrincipal: Limit{PerSecond: 1e6, Burst: 1e6}, PerClient: Limit{PerSecond: 1e6, Burst: 1e6},
		Denied: func(_ context.Context, d Denial) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.denials = append(b.denials, d)
		},
	}
	if change != nil {
		change(&c)
	}
	b.Router = NewRouter(c)
	who := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, PrincipalOf(r.Context()).Name) })
	b.Handle("GET /public", Rule{Public: true}, who)
	b.Handle("GET /healthz", Rule{Public: true, Anywhere: true}, who)
	b.Handle("GET /read", Rule{Least: Viewer}, who)
	b.Handle("POST /run", Rule{Least: Operator, Unlimited: true}, who)
	b.Handle("POST /decide/{id}", Rule{Least: Approver}, who)
	b.Handle("POST /keys", Rule{Least: Admin}, who)
	b.Handle("GET /audit", Rule{Least: Admin, Auditor: true}, who)
	b.Handle("GET /payload", Rule{Least: Viewer, StudentData: true}, who)
	b.Handle("GET /ledger", Rule{Least: Admin, EveryTenant: true}, who)
	b.Handle("POST /echo", Rule{Least: Viewer, MaxBody: 100}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var tooLong *http.MaxBytesError
		if errors.As(err, &tooLong) {
			Refuse(w, r, http.StatusRequestEntityTooLarge, "too-large", "")
			return
		}
		_, _ = w.Write(body)
	}))
	b.Handle("GET /panic", Rule{Public: true}, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("Ada Lovelace") }))
	return b
}

// do makes a request; header is pairs of name and value.
func (b *bench) do(method, path, key string, header ...string) *httptest.ResponseRecorder {
	return b.send(method, path, "", key, header...)
}

func (b *bench) send(method, path, body, key string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	if body == "" {
		r = httptest.NewRequest(method, path, http.NoBody)
	}
	r.RemoteAddr = "198.51.100.7:40000"
	if key != "" {
		r.Header.Set("Authorization", "Bearer "+key)
	}
	for i := 0; i < len(header); i += 2 {
		switch header[i] {
		case "remote":
			r.RemoteAddr = header[i+1]
		default:
			r.Header.Add(header[i], header[i+1])
		}
	}
	w := httptest.NewRecorder()
	b.ServeHTTP(w, r)
	return w
}

func problemOf(t *testing.T, w *httptest.ResponseRecorder) Problem {
	t.Helper()
	var p Problem
	if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil {
		t.Fatalf("the answer %q is not a problem: %v", w.Body, err)
	}
	if ct := w.Header().Get("Content-Type"); ct != ProblemType {
		t.Errorf("content type %q, want %q", ct, ProblemType)
	}
	if p.CorrelationID == "" || p.CorrelationID != w.Header().Get("X-Request-Id") || p.Status != w.Code {
		t.Errorf("problem %+v does not fit the answer %d %v", p, w.Code, w.Header())
	}
	return p
}

func TestOnlyAKeyThatIsGoodOpensARoute(t *testing.T) {
	t.Parallel()
	b := newBench(nil)
	past, future := b.now.Add(-time.Second), b.now.Add(time.Second)
	good := b.store.add(Principal{Name: "ada", Role: Viewer}, nil)
	id, secret, _ := ParseKey(good)
	other := b.store.add(Principal{Name: "eve", Role: Viewer}, nil)
	otherID, otherSecret, _ := ParseKey(other)
	_, random := NewSecret()
	expired := b.store.add(Principal{Role: Viewer}, func(c *Credential) { c.Expires = past })
	expiresNow := b.store.add(Principal{Role: Viewer}, func(c *Credential) { c.Expires = b.now })
	lives := b.store.add(Principal{Name: "lives", Role: Viewer}, func(c *Credential) { c.Expires = future })
	revoked := b.store.add(Principal{Role: Admin}, func(c *Credential) { c.Revoked = true })
	noSecret := b.store.add(Principal{Role: Admin}, func(c *Credential) { c.Secrets = nil })
	zeroHash := b.store.add(Principal{Role: Admin}, func(c *Credential) { c.Secrets = []Secret{{}} })
	rotated := b.store.add(Principal{Name: "rotated", Role: Viewer}, func(c *Credential) {
		c.Secrets[0].Until = future
		c.Secrets = append(c.Secrets, Secret{Hash: random})
	})
	rotatedOut := b.store.add(Principal{Role: Viewer}, func(c *Credential) {
		c.Secrets[0].Until = past
		c.Secrets = append(c.Secrets, Secret{Hash: random})
	})
	elsewhere := b.store.add(Principal{Role: Viewer}, func(c *Credential) { c.Networks = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")} })
	here := b.store.add(Principal{Name: "here", Role: Viewer}, func(c *Credential) { c.Networks = []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")} })
	noRole := b.store.add(Principal{}, nil)
	unknownRole := b.store.add(Principal{Role: 99}, nil)
	sessionToken, sessionHash := NewSecret()
	b.store.sessions[sessionHash] = Credential{Principal: Principal{ID: "s", Name: "grace", Role: Viewer}, Secrets: []Secret{{Hash: sessionHash}}, Expires: future}
	endedToken, endedHash := NewSecret()
	b.store.sessions[endedHash] = Credential{Principal: Principal{ID: "e", Role: Admin}, Secrets: []Secret{{Hash: endedHash}}, Expires: past}
	jwt := "eyJhbGciOiJub25lIn0.eyJyb2xlIjoiYWRtaW4ifQ."

	for _, c := range []struct {
		name   string
		header []string
		status int
		says   string
	}{
		{"a good key", []string{"Authorization", "Bearer " + good}, 200, "ada"},
		{"the scheme in lower case", []string{"Authorization", "bearer " + good}, 200, "ada"},
		{"a key that has not expired", []string{"Authorization", "Bearer " + lives}, 200, "lives"},
		{"the old secret while both are valid", []string{"Authorization", "Bearer " + rotated}, 200, "rotated"},
		{"a key from its network", []string{"Authorization", "Bearer " + here}, 200, "here"},
		{"a session", []string{"Cookie", "edfisync=" + sessionToken}, 200, "grace"},
		{"no key", nil, 401, "needs a key"},
		{"an empty header", []string{"Authorization", ""}, 401, "Bearer"},
		{"only the scheme", []string{"Authorization", "Bearer"}, 401, "not valid"},
		{"an empty key", []string{"Authorization", "Bearer "}, 401, "not valid"},
		{"the key without a scheme", []string{"Authorization", good}, 401, "Bearer"},
		{"the scheme Basic", []string{"Authorization", "Basic " + good}, 401, "Bearer"},
		{"two headers", []string{"Authorization", "Bearer " + other, "Authorization", "Bearer " + good}, 401, "Bearer"},
		{"the key in the URL", []string{"query", "key=" + good}, 401, "needs a key"},
		{"the key as a cookie", []string{"Cookie", "edfisync=" + good}, 401, "session"},
		{"a session's token as a key", []string{"Authorization", "Bearer " + sessionToken}, 401, "not valid"},
		{"the session in another cookie", []string{"Cookie", "session=" + sessionToken}, 401, "needs a key"},
		{"the cookie of TLS without TLS", []string{"Cookie", "__Host-edfisync=" + sessionToken}, 401, "needs a key"},
		{"an ended session", []string{"Cookie", "edfisync=" + endedToken}, 401, "session"},
		{"a session beside a wrong key", []string{"Authorization", "Bearer x", "Cookie", "edfisync=" + sessionToken}, 401, "not valid"},
		{"another's secret", []string{"Authorization", "Bearer " + FormatKey(id, otherSecret)}, 401, "not valid"},
		{"another's id", []string{"Authorization", "Bearer " + FormatKey(otherID, secret)}, 401, "not valid"},
		{"an unknown id", []string{"Authorization", "Bearer " + FormatKey(NewKeyID(), secret)}, 401, "not valid"},
		{"the secret in upper case", []string{"Authorization", "Bearer " + FormatKey(id, strings.ToUpper(secret))}, 401, "not valid"},
		{"a secret too short", []string{"Authorization", "Bearer " + good[:len(good)-1]}, 401, "not valid"},
		{"a secret too long", []string{"Authorization", "Bearer " + good + "a"}, 401, "not valid"},
		{"one letter changed", []string{"Authorization", "Bearer " + good[:len(good)-1] + swap(good[len(good)-1])}, 401, "not valid"},
		{"another prefix", []string{"Authorization", "Bearer sk" + good[3:]}, 401, "not valid"},
		{"a hash for a secret", []string{"Authorization", "Bearer " + FormatKey(id, fmt.Sprintf("%x", HashSecret(secret))[:52])}, 401, "not valid"},
		{"a JSON web token without a signature", []string{"Authorization", "Bearer " + jwt}, 401, "not valid"},
		{"SQL in the id", []string{"Authorization", "Bearer efs_' OR '1'='1_" + secret}, 401, "not valid"},
		{"10,000 characters", []string{"Authorization", "Bearer efs_" + strings.Repeat("a", 10_000)}, 401, "not valid"},
		{"an expired key", []string{"Authorization", "Bearer " + expired}, 401, "expired"},
		{"a key that expires now", []string{"Authorization", "Bearer " + expiresNow}, 401, "expired"},
		{"a revoked key", []string{"Authorization", "Bearer " + revoked}, 401, "revoked"},
		{"a key without a secret", []string{"Authorization", "Bearer " + noSecret}, 401, "not valid"},
		{"a key whose hash is nothing", []string{"Authorization", "Bearer " + zeroHash}, 401, "not valid"},
		{"the old secret when its time is over", []string{"Authorization", "Bearer " + rotatedOut}, 401, "replaced"},
		{"a key from another network", []string{"Authorization", "Bearer " + elsewhere}, 403, "address"},
		{"a key from another network that claims to be in its own", []string{"Authorization", "Bearer " + elsewhere, "X-Forwarded-For", "10.0.0.1"}, 403, "address"},
		{"a key without a role", []string{"Authorization", "Bearer " + noRole}, 403, "viewer"},
		{"a key with a role there is not", []string{"Authorization", "Bearer " + unknownRole}, 403, "viewer"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path, header := "/read", append([]string{}, c.header...)
			if len(header) > 0 && header[0] == "query" {
				path, header = path+"?"+header[1], nil
			}
			b.lockout = newLockout()
			before := len(b.denials)
			b.denied = newOnce(time.Minute)
			w := b.do("GET", path, "", header...)
			if w.Code != c.status || !strings.Contains(w.Body.String(), c.says) {
				t.Fatalf("got %d %s, want %d with %q", w.Code, w.Body, c.status, c.says)
			}
			if c.status == 200 {
				return
			}
			problemOf(t, w)
			if c.status == 401 && w.Header().Get("WWW-Authenticate") == "" {
				t.Error("401 does not say how to log in")
			}
			if len(b.denials) != before+1 {
				t.Errorf("%d refusals were audited, want one", len(b.denials)-before)
			}
			if strings.Contains(w.Body.String(), secret) {
				t.Error("the answer repeats the secret")
			}
		})
	}
	if b.store.used == 0 {
		t.Error("no use of a key was noted")
	}
}

func swap(c byte) string {
	if c == 'a' {
		return "b"
	}
	return "a"
}

func TestEachRoleMayWhatItsRulesSay(t *testing.T) {
	t.Parallel()
	routes := []string{"GET /public", "GET /read", "POST /run", "POST /decide/1", "POST /keys", "GET /audit", "GET /payload", "GET /ledger"}
	want := map[string]string{ // a dot is no
		"nobody": "y.......", "viewer": "yy......", "operator": "yyy.....", "approver": "yyyy....", "admin": "yyyyyy.y", "auditor": "yy...y..",
		"viewer, student data": "yy....y.", "admin, student data": "yyyyyyyy", "auditor, student data": "yy...yy.", "admin of one tenant": "yyyyyy..",
	}
	said := map[string]string{"POST /run": "this needs the role operator", "POST /decide/1": "this needs the role approver", "GET /audit": "this needs the role auditor or admin"}
	b := newBench(nil)
	got := map[string]string{}
	try := func(name string, p *Principal) {
		key := ""
		if p != nil {
			key = b.store.add(*p, nil)
		}
		for _, route := range routes {
			method, path, _ := strings.Cut(route, " ")
			switch w := b.do(method, path, key); w.Code {
			case 200:
				got[name] += "y"
			case 401, 403:
				got[name] += "."
				if want := said[route]; w.Code == 403 && p != nil && want != "" && !strings.Contains(w.Body.String(), want+"; yours is "+p.Role.String()) {
					t.Errorf("%s, %s: got %s, want it to say %q", name, route, w.Body, want)
				}
			default:
				t.Errorf("%s, %s: %d %s", name, route, w.Code, w.Body)
			}
		}
	}
	try("nobody", nil)
	for _, r := range Roles() {
		try(r.String(), &Principal{Role: r})
	}
	try("viewer, student data", &Principal{Role: Viewer, StudentData: true})
	try("admin, student data", &Principal{Role: Admin, StudentData: true})
	try("auditor, student data", &Principal{Role: Auditor, StudentData: true})
	try("admin of one tenant", &Principal{Role: Admin, Tenant: "acme"})
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("over %v (-want +got):\n%s", routes, d)
	}
}

func TestARouteNeedsARule(t *testing.T) {
	t.Parallel()
	h := http.NotFoundHandler()
	for name, rule := range map[string]Rule{
		"none": {}, "public with a role": {Public: true, Least: Viewer}, "public with student data": {Public: true, StudentData: true},
		"auditors only": {Auditor: true}, "least is auditor": {Least: Auditor}, "a role there is not": {Least: 77},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rt := NewRouter(RouterConfig{Keys: &keyring{}})
			defer func() {
				if recover() == nil || len(rt.Routes()) != 0 {
					t.Error("the route was registered")
				}
			}()
			rt.Handle("GET /x", rule, h)
		})
	}
	b := newBench(nil)
	if n := len(b.Routes()); n != 11 || b.Routes()[2] != (Route{"GET /read", Rule{Least: Viewer}}) {
		t.Errorf("got %d routes %v", n, b.Routes())
	}
}

func TestNobodyGetsInWhileKeysCannotBeLookedUp(t *testing.T) {
	t.Parallel()
	b := newBench(nil)
	key := b.store.add(Principal{Role: Admin}, nil)
	b.store.down = true
	w := b.do("GET", "/read", key)
	if w.Code != 503 || w.Header().Get("Retry-After") == "" || strings.Contains(w.Body.String(), "database") {
		t.Errorf("got %d %v %s", w.Code, w.Header(), w.Body)
	}
}

func TestFailingLogInsWaitLongerAndLonger(t *testing.T) {
	t.Parallel()
	b := newBench(nil)
	key := b.store.add(Principal{Role: Operator}, nil)
	id, _, _ := ParseKey(key)
	wrong, _ := NewSecret()
	fail := func() (status int) {
		for range failuresPerKey {
			status = b.do("POST", "/run", FormatKey(id, wrong)).Code
		}
		return status
	}
	if got := fail(); got != 401 {
		t.Fatalf("the last attempt got %d, want 401", got)
	}
	w := b.do("POST", "/run", key)
	if w.Code != 429 || w.Header().Get("Retry-After") != "60" {
		t.Errorf("after %d failures: %d, Retry-After %s; want 429 and 60 s, on a route without a rate limit, too", failuresPerKey, w.Code, w.Header().Get("Retry-After"))
	}
	if w := b.do("POST", "/run", key, "remote", "198.51.100.8:1"); w.Code != 200 {
		t.Errorf("the owner is locked out at another address: %d", w.Code)
	}
	if w := b.do("POST", "/run", b.store.add(Principal{Role: Operator}, nil)); w.Code != 200 {
		t.Errorf("another key at the same address is locked out: %d", w.Code)
	}
	b.now = b.now.Add(61 * time.Second)
	if w := b.do("GET", "/read", FormatKey(id, wrong)); w.Code != 401 {
		t.Errorf("after the wait: %d, want 401", w.Code)
	}
	fail()
	if w := b.do("GET", "/read", key); w.Header().Get("Retry-After") != "120" {
		t.Errorf("the second lock is %s s, want 120", w.Header().Get("Retry-After"))
	}
	b.now = b.now.Add(121 * time.Second)
	if w := b.do("GET", "/read", key); w.Code != 200 {
		t.Errorf("the right key after the wait: %d", w.Code)
	}
}

func TestWhoTriesManyKeysIsLockedOut(t *testing.T) {
	t.Parallel()
	b := newBench(nil)
	for range failuresPerClient {
		secret, _ := NewSecret()
		b.do("POST", "/run", FormatKey(NewKeyID(), secret))
	}
	if w := b.do("POST", "/run", b.store.add(Principal{Role: Operator}, nil)); w.Code != 429 {
		t.Errorf("got %d, want 429", w.Code)
	}
}

func TestRequestsAreLimited(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name         string
		people, home Limit
		ask          func(b *bench, keys [2]string, i int) *httptest.ResponseRecorder
		ok           int // of 20
	}{
		{"of one principal from many addresses", Limit{1, 5}, Limit{1e6, 1e6}, func(b *bench, k [2]string, i int) *httptest.ResponseRecorder {
			return b.do("GET", "/read", k[0], "remote", fmt.Sprintf("198.51.100.%d:1", i))
		}, 5},
		{"of many principals from one address", Limit{1e6, 1e6}, Limit{1, 5}, func(b *bench, k [2]string, i int) *httptest.ResponseRecorder {
			return b.do("GET", "/read", k[i%2])
		}, 5},
		{"of each principal by itself", Limit{1, 5}, Limit{1e6, 1e6}, func(b *bench, k [2]string, i int) *httptest.ResponseRecorder {
			return b.do("GET", "/read", k[i%2])
		}, 10},
		{"of nobody from one address", Limit{1, 5}, Limit{1, 5}, func(b *bench, _ [2]string, _ int) *httptest.ResponseRecorder { return b.do("GET", "/public", "") }, 5},
		{"of one IPv6 network", Limit{1e6, 1e6}, Limit{1, 5}, func(b *bench, k [2]string, i int) *httptest.ResponseRecorder {
			return b.do("GET", "/read", k[0], "remote", fmt.Sprintf("[2001:db8::%x]:1", i+1))
		}, 5},
		{"but not the trigger that coalesces", Limit{1, 5}, Limit{1, 5}, func(b *bench, k [2]string, _ int) *httptest.ResponseRecorder { return b.do("POST", "/run", k[0]) }, 20},
		{"whatever address a client claims", Limit{1e6, 1e6}, Limit{1, 5}, func(b *bench, k [2]string, i int) *httptest.ResponseRecorder {
			return b.do("GET", "/read", k[0], "X-Forwarded-For", fmt.Sprintf("203.0.113.%d", i))
		}, 5},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(func(rc *RouterConfig) { rc.PerPrincipal, rc.PerClient = c.people, c.home })
			keys := [2]string{b.store.add(Principal{Role: Operator}, nil), b.store.add(Principal{Role: Operator}, nil)}
			ok := 0
			for i := range 20 {
				w := c.ask(b, keys, i)
				switch {
				case w.Code == 200:
					ok++
				case w.Code != 429 || w.Header().Get("Retry-After") != "1":
					t.Fatalf("got %d, Retry-After %q", w.Code, w.Header().Get("Retry-After"))
				}
			}
			if ok != c.ok {
				t.Errorf("%d of 20 requests were let in, want %d", ok, c.ok)
			}
			b.now = b.now.Add(time.Second)
			if w := c.ask(b, keys, 19); w.Code != 200 {
				t.Errorf("after Retry-After: %d", w.Code)
			}
		})
	}
}

func TestWhoComesFromManyAddressesFillsNoMemory(t *testing.T) {
	t.Parallel()
	r := newRecent[*int](100)
	for i := range 1000 {
		r.get(fmt.Sprint(i), func() *int { return new(int) })
		r.get("kept", func() *int { return new(int) })
	}
	if len(r.by) != 100 || r.order.Len() != 100 {
		t.Errorf("%d keys are kept, %d in order, want 100", len(r.by), r.order.Len())
	}
	if _, ok := r.peek("kept"); !ok {
		t.Error("the key that is in use was dropped")
	}
}

func TestTheClientIsTheLastOneWeTrustToKnow(t *testing.T) {
	t.Parallel()
	proxies, err := ParseNetworks([]string{"10.0.0.0/8", "2001:db8:1::/48"})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		remote string
		header []string
		want   string
	}{
		"without a proxy":                       {"198.51.100.7:1", nil, "198.51.100.7"},
		"a client that forges the header":       {"198.51.100.7:1", []string{"203.0.113.9"}, "198.51.100.7"},
		"behind a proxy":                        {"10.1.1.1:1", []string{"198.51.100.7"}, "198.51.100.7"},
		"behind a proxy, with a forged part":    {"10.1.1.1:1", []string{"203.0.113.9, 198.51.100.7"}, "198.51.100.7"},
		"a forged part that looks like a proxy": {"10.1.1.1:1", []string{"10.9.9.9, 198.51.100.7"}, "198.51.100.7"},
		"behind two proxies":                    {"10.1.1.1:1", []string{"198.51.100.7, 10.2.2.2"}, "198.51.100.7"},
		"two headers":                           {"10.1.1.1:1", []string{"203.0.113.9", "198.51.100.7"}, "198.51.100.7"},
		"nothing but proxies":                   {"10.1.1.1:1", []string{"10.3.3.3, 10.2.2.2"}, "10.3.3.3"},
		"a proxy that says nothing":             {"10.1.1.1:1", nil, "10.1.1.1"},
		"a proxy that says nonsense":            {"10.1.1.1:1", []string{"198.51.100.7, unknown"}, "10.1.1.1"},
		"SQL":                                   {"10.1.1.1:1", []string{"' OR 1=1 --"}, "10.1.1.1"},
		"an address with a port":                {"10.1.1.1:1", []string{"198.51.100.7:4711"}, "198.51.100.7"},
		"IPv6 behind a proxy":                   {"[2001:db8:1::1]:1", []string{"2001:db8:2::7"}, "2001:db8:2::7"},
		"IPv6 with a port":                      {"[2001:db8:1::1]:1", []string{"[2001:db8:2::7]:4711"}, "2001:db8:2::7"},
		"a proxy as IPv4 in IPv6":               {"[::ffff:10.1.1.1]:1", []string{"198.51.100.7"}, "198.51.100.7"},
		"a client as IPv4 in IPv6":              {"10.1.1.1:1", []string{"::ffff:198.51.100.7"}, "198.51.100.7"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := httptest.NewRequest("GET", "/", nil)
			r.RemoteAddr = c.remote
			for _, h := range c.header {
				r.Header.Add("X-Forwarded-For", h)
			}
			if got := clientAddr(r, proxies).String(); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

func TestNetworksAreReadStrictly(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"10.0.0.0/8": "10.0.0.0/8", "192.0.2.7": "192.0.2.7/32", "2001:db8::/32": "2001:db8::/32", "::1": "::1/128", "::ffff:10.0.0.0/104": "10.0.0.0/8", "0.0.0.0/0": "0.0.0.0/0",
		"10.0.0.1/8": "", "10.0.0.0/33": "", "": "", "example.org": "", "10.0.0.0-10.0.0.9": "", "010.0.0.1": "",
	} {
		got, err := ParseNetworks([]string{text})
		if want == "" && err == nil || want != "" && (err != nil || got[0].String() != want) {
			t.Errorf("%q: got %v, %v, want %q", text, got, err, want)
		}
	}
}

func TestOnlyAllowedNetworksMayCall(t *testing.T) {
	t.Parallel()
	b := newBench(func(c *RouterConfig) {
		c.Allow = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8:7::/48")}
		c.Proxies = []netip.Prefix{netip.MustParsePrefix("192.0.2.1/32")}
	})
	key := b.store.add(Principal{Role: Viewer}, nil)
	for _, c := range []struct {
		path, remote, forwarded string
		want                    int
	}{
		{"/read", "10.1.1.1:1", "", 200}, {"/read", "[2001:db8:7::1]:1", "", 200}, {"/read", "[::ffff:10.1.1.1]:1", "", 200}, {"/read", "192.0.2.1:1", "10.1.1.1", 200},
		{"/read", "11.1.1.1:1", "", 403}, {"/read", "[2001:db8:8::1]:1", "", 403}, {"/read", "192.0.2.1:1", "11.1.1.1", 403}, {"/read", "11.1.1.1:1", "10.1.1.1", 403},
		{"/public", "11.1.1.1:1", "", 403}, {"/healthz", "11.1.1.1:1", "", 200}, {"/read", "nonsense", "", 403},
	} {
		if w := b.do("GET", c.path, key, "remote", c.remote, "X-Forwarded-For", c.forwarded); w.Code != c.want {
			t.Errorf("%s from %s (%s): got %d, want %d", c.path, c.remote, c.forwarded, w.Code, c.want)
		}
	}
}

func TestPagesOfOtherSitesChangeNothing(t *testing.T) {
	t.Parallel()
	b := newBench(nil)
	token, hash := NewSecret()
	b.store.sessions[hash] = Credential{Principal: Principal{ID: "s", Role: Admin}, Secrets: []Secret{{Hash: hash}}}
	for _, c := range []struct {
		method, path string
		header       []string
		want         int
	}{
		{"POST", "/run", []string{"Sec-Fetch-Site", "same-origin"}, 200},
		{"POST", "/run", []string{"Sec-Fetch-Site", "none"}, 200},
		{"POST", "/run", []string{"Sec-Fetch-Site", "cross-site"}, 403},
		{"POST", "/run", []string{"Sec-Fetch-Site", "same-site"}, 403},
		{"POST", "/run", []string{"Origin", "https://evil.example"}, 403},
		{"POST", "/run", []string{"Origin", "null"}, 403},
		{"POST", "/run", []string{"Origin", "http://example.com"}, 200}, // the host of httptest's requests
		{"POST", "/run", []string{"Origin", "http://example.com:81"}, 403},
		{"GET", "/read", []string{"Sec-Fetch-Site", "cross-site"}, 200}, // a link
	} {
		if w := b.do(c.method, c.path, "", append(c.header, "Cookie", "edfisync="+token)...); w.Code != c.want {
			t.Errorf("%s %s with %v: got %d, want %d", c.method, c.path, c.header, w.Code, c.want)
		}
	}
}

func TestASessionsCookieIsSafe(t *testing.T) {
	t.Parallel()
	rt := NewRouter(RouterConfig{Keys: &keyring{}, Proxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}})
	rt.Handle("POST /login", Rule{Public: true}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		SetSession(w, r, "token", time.Now().Add(time.Hour))
	}))
	for name, c := range map[string]struct {
		remote, proto, cookie string
		secure                bool
	}{
		"plain":                {"198.51.100.7:1", "", "edfisync", false},
		"a client's own claim": {"198.51.100.7:1", "https", "edfisync", false},
		"behind TLS":           {"10.0.0.1:1", "https", "__Host-edfisync", true},
	} {
		r := httptest.NewRequest("POST", "/login", nil)
		r.RemoteAddr = c.remote
		r.Header.Set("X-Forwarded-Proto", c.proto)
		w := httptest.NewRecorder()
		rt.ServeHTTP(w, r)
		got := w.Result().Cookies()[0]
		if got.Name != c.cookie || got.Secure != c.secure || !got.HttpOnly || got.SameSite != http.SameSiteStrictMode || got.Path != "/" || got.Domain != "" {
			t.Errorf("%s: cookie %v", name, got)
		}
		if (w.Header().Get("Strict-Transport-Security") != "") != c.secure {
			t.Errorf("%s: header %q", name, w.Header().Get("Strict-Transport-Security"))
		}
	}
}

func TestLargeBodiesAreRefused(t *testing.T) {
	t.Parallel()
	b := newBench(nil)
	key := b.store.add(Principal{Role: Viewer}, nil)
	for n, want := range map[int]int{0: 200, 100: 200, 101: 413, 10 << 20: 413} {
		if w := b.send("POST", "/echo", strings.Repeat("a", n), key); w.Code != want {
			t.Errorf("%d bytes: got %d, want %d", n, w.Code, want)
		}
	}
	srv := httptest.NewServer(b)
	t.Cleanup(srv.Close)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, srv.URL+"/echo", io.LimitReader(endless{}, 10<<20)) // of no declared length
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+key)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return // the server hung up while we sent
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); err == nil && len(body) > 4096 {
		t.Errorf("%d bytes were echoed", len(body))
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'a'
	}
	return len(p), nil
}

func TestASlowBodyIsCutOff(t *testing.T) {
	t.Parallel()
	b := newBench(func(c *RouterConfig) { c.ReadBody = 100 * time.Millisecond })
	srv := httptest.NewServer(b)
	t.Cleanup(srv.Close)
	in, out := io.Pipe()
	t.Cleanup(func() { _ = out.Close() })
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, srv.URL+"/echo", in)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+b.store.add(Principal{Role: Viewer}, nil))
	go func() { _, _ = out.Write([]byte("a")) }() // and never more
	resp, err := http.DefaultClient.Do(r)         // returns only because the server gave up
	if err == nil {
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
	}
}

func TestAnswersCarryWhatBrowsersNeedToKnow(t *testing.T) {
	t.Parallel()
	b := newBench(nil)
	for _, path := range []string{"/public", "/read", "/nowhere", "/panic"} {
		h := b.do("GET", path, "").Header()
		if csp := h.Get("Content-Security-Policy"); !strings.Contains(csp, "default-src 'none'") || strings.Contains(csp, "unsafe") {
			t.Errorf("%s: policy %q", path, csp)
		}
		for name, want := range map[string]string{"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store"} {
			if got := h.Get(name); got != want {
				t.Errorf("%s: %s is %q, want %q", path, name, got, want)
			}
		}
	}
}

func TestWhatIsNotThereIsAProblem(t *testing.T) {
	t.Parallel()
	b := newBench(nil)
	for _, c := range []struct {
		method, path string
		status       int
		allow        string
	}{
		{"GET", "/nowhere", 404, ""}, {"GET", "/read/", 404, ""}, {"GET", "//read", 404, ""}, {"GET", "/public/../read", 404, ""}, {"DELETE", "/read", 405, "GET"}, {"GET", "/run", 405, "POST"},
		{"BREW", "/keys", 405, "POST"}, {"GET", "/%2e%2e/read", 404, ""}, {"GET", "/READ", 404, ""}, {"OPTIONS", "/read", 405, "GET"},
	} {
		w := b.do(c.method, c.path, "")
		if w.Code != c.status || w.Header().Get("Allow") != c.allow || w.Header().Get("Location") != "" {
			t.Errorf("%s %s: got %d, Allow %q, want %d, %q", c.method, c.path, w.Code, w.Header().Get("Allow"), c.status, c.allow)
		}
		problemOf(t, w)
	}
}

func TestAPanicIsAnsweredAndSaysNothing(t *testing.T) {
	t.Parallel()
	var log strings.Builder
	b := newBench(func(c *RouterConfig) { c.Logger = textLogger(&log) })
	w := b.do("GET", "/panic", "")
	p := problemOf(t, w)
	if w.Code != 500 || strings.Contains(w.Body.String()+log.String(), "Lovelace") || !strings.Contains(log.String(), p.CorrelationID) {
		t.Errorf("got %d %s, log %s", w.Code, w.Body, log.String())
	}
}

func TestARequestIDIsTakenOnlyWhenItIsPlain(t *testing.T) {
	t.Parallel()
	b := newBench(nil)
	for id, taken := range map[string]bool{
		"0123-abcd_XYZ.1": true, "": false, "short": false, "with space": false, "line\r\nbreak": false, "\x1b[31mred-text": false, strings.Repeat("a", 65): false, "<script>1</script>": false, "héllo-wörld": false,
	} {
		got := b.do("GET", "/public", "", "X-Request-Id", id).Header().Get("X-Request-Id")
		if (got == id) != taken || got == "" {
			t.Errorf("%q became %q", id, got)
		}
	}
}

func TestEqualRefusalsAreAuditedOnceAMinute(t *testing.T) {
	t.Parallel()
	b := newBench(nil)
	key := b.store.add(Principal{Name: "ada", Role: Viewer}, nil)
	for range 50 {
		b.do("POST", "/keys", key)
		b.do("POST", "/decide/7", key)
	}
	b.now = b.now.Add(time.Minute)
	b.do("POST", "/keys", key)
	if len(b.denials) != 3 {
		t.Fatalf("%d refusals were audited, want 3: %v", len(b.denials), b.denials)
	}
	d := b.denials[1]
	if d.Reason != "forbidden" || d.Route != "POST /decide/{id}" || d.Principal.Name != "ada" || d.Client.String() != "198.51.100.7" || d.RequestID == "" {
		t.Errorf("got %+v", d)
	}
	for i := range 500 {
		b.do("GET", "/read", "", "remote", fmt.Sprintf("203.0.%d.%d:1", i/250, i%250))
	}
	if len(b.denials) > 110 {
		t.Errorf("%d refusals were audited at one moment: anybody can fill the trail", len(b.denials))
	}
}

func TestAStreamMayTakeLongerThanAnAnswer(t *testing.T) {
	t.Parallel()
	var ended atomic.Int64
	rt := NewRouter(RouterConfig{Answer: 50 * time.Millisecond})
	wait := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-r.Context().Done():
			ended.Add(1)
		case <-time.After(300 * time.Millisecond):
			fmt.Fprint(w, "done")
		}
	})
	rt.Handle("GET /stream", Rule{Public: true, Stream: true}, wait)
	rt.Handle("GET /answer", Rule{Public: true}, wait)
	srv := httptest.NewServer(rt)
	t.Cleanup(srv.Close)
	resp, err := http.Get(srv.URL + "/stream")
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if string(body) != "done" || err != nil {
		t.Errorf("the stream gave %q, %v", body, err)
	}
	if resp, err := http.Get(srv.URL + "/answer"); err == nil {
		_ = resp.Body.Close()
	}
	if ended.Load() != 1 {
		t.Errorf("%d handlers were told that their time is over, want 1", ended.Load())
	}
}
