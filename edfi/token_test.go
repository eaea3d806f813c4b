package edfi

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestSixteenWorkersMeetAnExpiredTokenAndRenewItOnce(t *testing.T) { // F19
	t.Parallel()
	h := newHost(t, nil)
	h.data("POST /ed-fi/students", h.created(testID))
	c := h.client(t)
	if err := c.Login(t.Context()); err != nil {
		t.Fatal(err)
	}
	for round := range 3 {
		h.expire()
		var group sync.WaitGroup
		for range 16 {
			group.Go(func() {
				for range 5 {
					if _, err := c.Post(t.Context(), "ed-fi/students", []byte(`{}`)); err != nil {
						t.Errorf("post: %v", err)
					}
				}
			})
		}
		group.Wait()
		if got, want := h.tokenCalls.Load(), int64(round+2); got != want {
			t.Fatalf("%d token calls after %d expiries, want %d", got, round+1, want)
		}
	}
}

func TestNoCallsMeansNoTokenAndManyCallsMeanOne(t *testing.T) {
	t.Parallel()
	h := newHost(t, nil)
	h.data("POST /ed-fi/students", h.created(testID))
	c := h.client(t)
	if got := h.tokenCalls.Load(); got != 0 {
		t.Fatalf("connecting took %d token calls, want 0", got)
	}
	var group sync.WaitGroup
	for range 16 {
		group.Go(func() {
			if _, err := c.Post(t.Context(), "ed-fi/students", []byte(`{}`)); err != nil {
				t.Errorf("post: %v", err)
			}
		})
	}
	group.Wait()
	if got := h.tokenCalls.Load(); got != 1 {
		t.Errorf("%d token calls, want 1", got)
	}
}

func TestATokenIsRenewedBeforeItExpires(t *testing.T) {
	t.Parallel()
	h := newHost(t, nil)
	h.lifetime = 100
	h.data("POST /ed-fi/students", h.created(testID))
	c := h.client(t)
	if err := c.Login(t.Context()); err != nil {
		t.Fatal(err)
	}
	held := c.tokens.shared.Load()
	life := held.deadAt.Sub(held.born) // what is left of the 100 s when the answer was read
	if margin := held.deadAt.Sub(held.renewAt); margin != life/5 || life > 100*time.Second || life < 50*time.Second {
		t.Errorf("safety margin %v of %v, want a fifth", margin, life)
	}
	held.renewAt = time.Now().Add(-time.Second)
	if _, err := c.Post(t.Context(), "ed-fi/students", []byte(`{}`)); err != nil {
		t.Fatal(err)
	}
	if got := h.tokenCalls.Load(); got != 2 {
		t.Errorf("%d token calls, want 2", got)
	}
}

func TestATokenIsUsedToItsEndWhileTheTokenEndpointIsDown(t *testing.T) { // F20
	t.Parallel()
	h := newHost(t, nil)
	h.data("POST /ed-fi/students", h.created(testID))
	c := h.client(t)
	if err := c.Login(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.tokenFn = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }
	c.tokens.shared.Load().renewAt = time.Now().Add(-time.Second)
	for range 3 {
		if _, err := c.Post(t.Context(), "ed-fi/students", []byte(`{}`)); err != nil {
			t.Fatalf("post with a token that still works: %v", err)
		}
	}
	if got := h.tokenCalls.Load(); got != 2 {
		t.Errorf("%d token calls, want 2: a failed renewal is not repeated with every call", got)
	}
}

func TestARefusedFreshTokenIsNotReplacedForEver(t *testing.T) {
	t.Parallel()
	h := newHost(t, nil)
	h.mux.HandleFunc("POST /api/data/v3/ed-fi/students", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, 401, map[string]any{"type": "urn:ed-fi:api:security:authentication"})
	})
	c := h.client(t)
	var group sync.WaitGroup
	for range 16 {
		group.Go(func() {
			for range 3 {
				_, err := c.Post(t.Context(), "ed-fi/students", []byte(`{}`))
				if e, ok := err.(*Error); !ok || e.Class != Stop || e.Code != "unauthenticated" {
					t.Errorf("post: %v, want a stop", err)
				}
			}
		})
	}
	group.Wait()
	if got := h.tokenCalls.Load(); got != 2 {
		t.Errorf("%d token calls, want 2", got)
	}
}

func TestTokenEndpointAnswers(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		handler http.HandlerFunc
		class   Class
		code    string
		calls   int64 // with two retries
	}{
		{"wrong secret: asked in both styles, then no more", func(w http.ResponseWriter, _ *http.Request) {
			writeJSON(w, 401, map[string]string{"error": "invalid_client"})
		}, Stop, "credentials-refused", 2},
		{"a grant type it does not know", func(w http.ResponseWriter, _ *http.Request) {
			writeJSON(w, 400, map[string]string{"error": "unsupported_grant_type"})
		}, Stop, "credentials-refused", 2},
		{"no such endpoint", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "404 page not found", 404) }, Transient, "not-the-api", 3},
		{"too many live tokens", func(w http.ResponseWriter, _ *http.Request) {
			writeJSON(w, 429, map[string]string{"type": "urn:ed-fi:api:security:authentication:too-many-tokens"})
		}, Transient, "too-many-tokens", 3},
		{"429 of something in front", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(429) }, Transient, "too-many-tokens", 3},
		{"down", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(502) }, Transient, "unavailable", 3},
		{"a web page", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			_, _ = w.Write([]byte("<html>SECRET</html>"))
		}, Transient, "not-the-api", 3},
		{"a redirect elsewhere is not followed", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://login.example.org/", http.StatusMovedPermanently)
		}, Stop, "moved", 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t, nil)
			h.tokenFn = tt.handler
			c := h.client(t, func(c *Config) { c.MaxRetries = 2 })
			_, err := c.Post(t.Context(), "ed-fi/students", []byte(`{}`))
			e := failureOf(t, err)
			if e.Class != tt.class || e.Code != tt.code || e.Resource != "token" || e.Sent {
				t.Errorf("got %v %s %s sent=%v (%v), want %v %s token", e.Class, e.Code, e.Resource, e.Sent, e, tt.class, tt.code)
			}
			if strings.Contains(e.Error(), "SECRET") {
				t.Errorf("response is printed: %v", e)
			}
			if got := h.tokenCalls.Load(); got != tt.calls {
				t.Errorf("%d token calls, want %d", got, tt.calls)
			}
			if tt.class == Stop {
				if err := c.Login(t.Context()); ClassOf(err) != Stop {
					t.Errorf("second login: %v", err)
				}
				if got := h.tokenCalls.Load(); got != tt.calls {
					t.Errorf("refused credentials were sent again: %d token calls, want %d", got, tt.calls)
				}
			}
		})
	}
}

func TestASlowTokenEndpointFailsInTime(t *testing.T) { // F20
	t.Parallel()
	h := newHost(t, nil)
	release := make(chan struct{})
	defer close(release)
	h.tokenFn = func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}
	c := h.client(t, func(c *Config) { c.Timeout, c.MaxRetries = 50*time.Millisecond, -1 })
	if e := failureOf(t, c.Login(t.Context())); e.Code != "timeout" {
		t.Errorf("login: %v, want a timeout", e)
	}
}

func TestOneCallerGivingUpDoesNotFailTheOthers(t *testing.T) {
	t.Parallel()
	h := newHost(t, nil)
	arrived, release := make(chan struct{}), make(chan struct{})
	var first atomic.Bool
	h.tokenFn = func(w http.ResponseWriter, r *http.Request) {
		if first.CompareAndSwap(false, true) {
			close(arrived)
			select {
			case <-release:
			case <-r.Context().Done():
			}
			return
		}
		h.grant(w, "token")
	}
	c := h.client(t)
	ctx, cancel := context.WithCancel(t.Context())
	gaveUp := make(chan error, 1)
	go func() { gaveUp <- c.Login(ctx) }()
	<-arrived
	other := make(chan error, 1)
	go func() { other <- c.Login(t.Context()) }()
	cancel()
	if err := <-gaveUp; !errors.Is(err, context.Canceled) {
		t.Errorf("login that was cancelled: %v, want context.Canceled", err)
	}
	if err := <-other; err != nil {
		t.Errorf("login of another caller: %v", err)
	}
	close(release)
}

func TestCredentialStyles(t *testing.T) {
	t.Parallel()
	inBody := func(r *http.Request, id, secret string) bool {
		_, _, basic := r.BasicAuth()
		return !basic && r.PostFormValue("client_id") == id && r.PostFormValue("client_secret") == secret
	}
	inHeader := func(r *http.Request, id, secret string) bool {
		gotID, gotSecret, ok := r.BasicAuth()
		return ok && gotID == id && gotSecret == secret && r.PostFormValue("client_id") == ""
	}
	tests := []struct {
		name, secret string
		accepts      func(*http.Request, string, string) bool
		calls        int64 // for two tokens
	}{
		{"a host that reads the header gets it, not percent-encoded", "a+b/c=%", inHeader, 2},
		{"a host that reads the body only is found out once", "secret", inBody, 3},
		{"a colon, which the header cannot carry, goes into the body", "se:cret", inBody, 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t, nil)
			h.tokenFn = func(w http.ResponseWriter, r *http.Request) {
				if !tt.accepts(r, testKey, tt.secret) {
					writeJSON(w, 400, map[string]string{"error": "invalid_client"})
					return
				}
				h.grant(w, "token")
			}
			c := h.client(t, func(c *Config) { c.ClientSecret = tt.secret })
			if err := c.Login(t.Context()); err != nil {
				t.Fatal(err)
			}
			if _, err := c.tokens.fetch(t.Context(), c.tokens.shared.Load(), false); err != nil {
				t.Fatal(err)
			}
			if got := h.tokenCalls.Load(); got != tt.calls {
				t.Errorf("%d token calls for two tokens, want %d", got, tt.calls)
			}
		})
	}
}

func TestScope(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, asked, granted string
		ok                   bool
	}{
		{"the scope asked for", "255901", "255901", true},
		{"none of either", "", "", true},
		{"another one", "255901", "255902", false},
		{"one that was not asked for", "", "255902", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t, nil)
			h.tokenFn = func(w http.ResponseWriter, r *http.Request) {
				if got := r.PostFormValue("scope"); got != tt.asked {
					t.Errorf("scope %q was asked for, want %q", got, tt.asked)
				}
				writeJSON(w, 200, map[string]any{"access_token": "t", "expires_in": 60, "token_type": "bearer", "scope": tt.granted})
			}
			c := h.client(t, func(c *Config) { c.Scope = tt.asked })
			if err := c.Login(t.Context()); (err == nil) != tt.ok {
				t.Errorf("login: %v, want ok=%v", err, tt.ok)
			}
		})
	}
}

func TestTheTokenNeverGoesToAnotherHost(t *testing.T) { // F12, F28
	t.Parallel()
	var reached atomic.Int64
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Add(1) }))
	defer other.Close()
	h := newHost(t, nil)
	h.data("POST /ed-fi/students", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", other.URL+"/data/v3/ed-fi/students/"+testID)
		w.WriteHeader(http.StatusCreated)
	})
	c := h.client(t, func(c *Config) { c.MaxRetries = -1 })
	answer, err := c.Post(t.Context(), "ed-fi/students", []byte(`{}`))
	if err != nil || answer.ID != testID {
		t.Errorf("post: %+v, %v", answer, err)
	}
	h.data("PUT /ed-fi/students/"+testID, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, other.URL, http.StatusTemporaryRedirect)
	})
	_, err = c.Put(t.Context(), "ed-fi/students", testID, []byte(`{}`))
	if e := failureOf(t, err); e.Code != "redirected" || e.Sent {
		t.Errorf("put that is redirected: %v sent=%v", e, e.Sent)
	}
	h.data("DELETE /ed-fi/students/"+testID, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, other.URL, http.StatusMovedPermanently)
	})
	_, err = c.Delete(t.Context(), "ed-fi/students", testID)
	if e := failureOf(t, err); e.Class != Stop || e.Code != "moved" {
		t.Errorf("delete that is redirected for good: %v", e)
	}
	if n := reached.Load(); n != 0 {
		t.Errorf("%d requests reached the other host", n)
	}
}
