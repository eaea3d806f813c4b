package httpd

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"time"
)

// Keys is what the router needs of the store of API keys. Safe for concurrent use.
type Keys interface {
	// Key returns what is known of a key, revoked and expired ones too; ErrUnknown when there is none with that id.
	Key(ctx context.Context, id string) (Credential, error)
	// KeyUsed notes that a key opened something. The router calls it once a minute for each key at most, and goes on when it fails.
	KeyUsed(ctx context.Context, id string) error
}

// Sessions is what the router needs of the store of browser sessions. Safe for concurrent use.
type Sessions interface {
	// Session returns the session whose token has this hash; ErrUnknown when there is none, ended ones included.
	Session(ctx context.Context, hash SecretHash) (Credential, error)
}

// SessionCookie is the name of the cookie with a session's token: behind TLS one that no other host, and no plain connection, can set (session
// fixation).
func SessionCookie(secure bool) string {
	if secure {
		return "__Host-edfisync"
	}
	return "edfisync"
}

// SetSession gives the browser a session's token; "" takes it away. It must be a new one for each log-in. The browser does not send it with what another
// site began.
func SetSession(w http.ResponseWriter, r *http.Request, token string, expires time.Time) {
	tls := Secure(r.Context())
	c := &http.Cookie{
		Name: SessionCookie(tls), Value: token, Path: "/", Expires: expires, Secure: tls, HttpOnly: true, SameSite: http.SameSiteStrictMode,
	}
	if token == "" {
		c.MaxAge = -1
	}
	http.SetCookie(w, c)
}

// SessionToken is the token in the browser's cookie; "" when there is none.
func SessionToken(r *http.Request) string {
	c, err := r.Cookie(SessionCookie(Secure(r.Context())))
	if err != nil {
		return ""
	}
	return c.Value
}

// Denial is a request that was refused, for the audit trail: who tried what from where. Nothing of it is what the client may have made up, but Path's
// pattern names the route and not the object.
type Denial struct {
	Reason    string // "no-key", "bad-key", "locked-out", "forbidden", "network", "cross-origin", "rate-limit"
	Route     string // pattern of the route: "POST /api/v1/connections/{name}/runs"
	Client    netip.Addr
	Principal Principal // zero when it is not known
	KeyID     string    // bad-key: the id that was tried, when it has the shape of one
	RequestID string
}

// refusal is why a request goes no further.
type refusal struct {
	status int
	code   string
	detail string
	wait   time.Duration // for Retry-After
	allow  string        // for Allow
	denial Denial        // Reason "" = nothing to audit
}

// authenticate finds out who makes a request: by its Authorization header when there is one, else by its session cookie.
func (rt *Router) authenticate(r *http.Request, client netip.Addr, tls bool) (Principal, *refusal) {
	if values := r.Header.Values("Authorization"); len(values) > 0 {
		scheme, token, _ := strings.Cut(values[0], " ")
		if len(values) > 1 || !strings.EqualFold(scheme, "Bearer") {
			return Principal{}, unauthorized("send the key as Authorization: Bearer efs_…", Denial{Reason: "bad-key"})
		}
		return rt.byKey(r.Context(), strings.TrimSpace(token), client)
	}
	if rt.c.Sessions != nil {
		if c, err := r.Cookie(SessionCookie(tls)); err == nil && c.Value != "" {
			return rt.bySession(r.Context(), c.Value, client)
		}
	}
	return Principal{}, unauthorized("this needs a key: send it as Authorization: Bearer efs_…", Denial{Reason: "no-key"})
}

// LogIn finds out whose key somebody logs in with, under the same rules and lock-outs as a request with that key. When it is none, the request is answered
// and ok is false.
func (rt *Router) LogIn(w http.ResponseWriter, r *http.Request, key string) (p Principal, ok bool) {
	p, ref := rt.byKey(r.Context(), strings.TrimSpace(key), ClientOf(r.Context()))
	if ref != nil {
		rt.refuse(w, r, r.Pattern, ref)
		return Principal{}, false
	}
	return p, true
}

// Still reports whether whoever makes a request that is still being answered may go on: by a key or session that is as good as when it began, under the rule
// of its route. For answers that take long.
func (rt *Router) Still(r *http.Request) bool {
	about, rule := info(r.Context()), rt.rules[r.Pattern]
	if rule.Public {
		return true
	}
	p, ref := rt.authenticate(r, about.client, about.secure)
	return ref == nil && p == about.principal && rule.Allows(p)
}

func unauthorized(detail string, d Denial) *refusal {
	return &refusal{status: http.StatusUnauthorized, code: "unauthorized", detail: detail, denial: d}
}

// byKey authenticates with an API key. Whoever fails too often waits.
func (rt *Router) byKey(ctx context.Context, token string, client netip.Addr) (Principal, *refusal) {
	now, home := rt.c.Now(), household(client)
	id, secret, ok := ParseKey(token)
	if ref := rt.lockedOut(now, home, home+" "+id); ref != nil {
		return Principal{}, ref
	}
	var c Credential
	err := errWrongSecret
	if ok {
		c, err = rt.c.Keys.Key(ctx, id)
		if err != nil && !errors.Is(err, ErrUnknown) {
			return Principal{}, rt.storeDown(ctx, err)
		}
		// An unknown key is compared as well, with no secret: both answers take one look-up and one hash.
		err = c.open(HashSecret(secret), now, client)
	}
	switch {
	case err == nil:
		rt.lockout.succeeded(home + " " + id)
		if rt.used.first(id, now) {
			// A ledger that a run is writing to must not keep whoever only reads waiting.
			noting, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
			defer cancel()
			if err := rt.c.Keys.KeyUsed(noting, id); err != nil {
				rt.log.WarnContext(ctx, "note the use of a key", slog.String("key", id), slog.Any("error", err))
			}
		}
		return c.Principal, nil
	case errors.Is(err, errWrongSecret):
		rt.fail(now, home, home+" "+id)
		return Principal{}, unauthorized(err.Error(), Denial{Reason: "bad-key", KeyID: id})
	case errors.Is(err, errNetwork):
		return Principal{}, &refusal{status: http.StatusForbidden, code: "network", detail: err.Error(),
			denial: Denial{Reason: "network", KeyID: id, Principal: c.Principal}}
	}
	return Principal{}, unauthorized(err.Error(), Denial{Reason: "bad-key", KeyID: id, Principal: c.Principal})
}

// bySession authenticates with a session's cookie.
func (rt *Router) bySession(ctx context.Context, token string, client netip.Addr) (Principal, *refusal) {
	now, home := rt.c.Now(), household(client)
	if ref := rt.lockedOut(now, home, home+" session"); ref != nil {
		return Principal{}, ref
	}
	hash := HashSecret(token)
	c, err := rt.c.Sessions.Session(ctx, hash)
	if err != nil && !errors.Is(err, ErrUnknown) {
		return Principal{}, rt.storeDown(ctx, err)
	}
	if err == nil {
		err = c.open(hash, now, client)
	}
	switch {
	case err == nil:
		return c.Principal, nil
	case errors.Is(err, errNetwork):
		return Principal{}, &refusal{status: http.StatusForbidden, code: "network", detail: err.Error(),
			denial: Denial{Reason: "network", Principal: c.Principal}}
	case len(token) == keySecretLength && plain(token):
		// An ended session looks like a wrong one, and a browser sends it with every request: it is no attempt to guess.
		return Principal{}, unauthorized("the session has ended; log in again", Denial{Reason: "no-key"})
	}
	rt.fail(now, home, home+" session")
	return Principal{}, unauthorized("the session has ended; log in again", Denial{Reason: "bad-key"})
}

func (rt *Router) lockedOut(now time.Time, keys ...string) *refusal {
	for _, key := range keys {
		if wait := rt.lockout.locked(key, now); wait > 0 {
			return &refusal{status: http.StatusTooManyRequests, code: "locked-out", detail: "too many failed log-ins from this address; wait", wait: wait,
				denial: Denial{Reason: "locked-out"}}
		}
	}
	return nil
}

func (rt *Router) fail(now time.Time, home, withKey string) {
	rt.lockout.failed(withKey, failuresPerKey, now)
	rt.lockout.failed(home, failuresPerClient, now)
}

// storeDown lets nobody in while it cannot be told who they are.
func (rt *Router) storeDown(ctx context.Context, err error) *refusal {
	rt.log.ErrorContext(ctx, "look a key up", slog.Any("error", err))
	return &refusal{status: http.StatusServiceUnavailable, code: "unavailable", detail: "keys cannot be checked now; try again soon", wait: 5 * time.Second}
}
