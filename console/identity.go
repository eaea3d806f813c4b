package console

import (
	"context"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/edfisync/edfisync/internal/httpd"
	"github.com/edfisync/edfisync/syncdb"
)

// Identity is an identity provider at which people log in (OpenID Connect), beside log-in by key.
type Identity struct {
	Issuer       string // URL of the provider, as its tokens name it
	URL          string // of this console, as browsers reach it, without a path
	ClientID     string
	ClientSecret string
	Scopes       []string          // besides openid
	RoleClaim    string            // names the claim, a text or a list of texts, whose values Roles maps
	Roles        map[string]string // value of the claim → role; of several the strongest
	StudentData  []string          // values of the claim whose people may see student data
	TenantClaim  string            // names the claim with the tenant a person is bound to; "" = everybody sees every tenant
	Algorithms   []string          // that tokens may be signed with
	Egress       httpd.Egress      // what may be called of what the provider names, besides the issuer's own host
}

// Check returns an error that says what is missing or wrong.
func (i Identity) Check() error {
	for what, text := range map[string]string{"issuer": i.Issuer, "url": i.URL} {
		u, err := url.Parse(text)
		loopback := err == nil && (u.Hostname() == "localhost" || u.Hostname() == "127.0.0.1" || u.Hostname() == "::1")
		if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.Scheme != "https" && (u.Scheme != "http" || !loopback) {
			return fmt.Errorf("%s: want an address such as https://login.example.org", what)
		}
		if what == "url" && u.Path != "" {
			return errors.New("url: want the address of the console without a path, such as https://sync.example.org")
		}
	}
	switch {
	case i.ClientID == "":
		return errors.New("client_id is missing")
	case i.RoleClaim == "" || len(i.Roles) == 0:
		return errors.New("role_claim and roles say who may do what; without them nobody could log in")
	case len(i.Algorithms) == 0:
		return errors.New("algorithms: name at least one")
	}
	for value, role := range i.Roles {
		if _, err := httpd.ParseRole(role); err != nil {
			return fmt.Errorf("roles: %s: %w", value, err)
		}
	}
	for _, value := range i.StudentData {
		if _, ok := i.Roles[value]; !ok {
			return fmt.Errorf("student_data: %q is not in roles", value)
		}
	}
	for _, a := range i.Algorithms {
		switch a { // asymmetric ones: with none, or with a secret that both know, somebody else could write a token
		case oidc.RS256, oidc.RS384, oidc.RS512, oidc.ES256, oidc.ES384, oidc.ES512, oidc.PS256, oidc.PS384, oidc.PS512, oidc.EdDSA:
		default:
			return fmt.Errorf("algorithms: %q is not one of RS256, RS384, RS512, ES256, ES384, ES512, PS256, PS384, PS512, EdDSA", a)
		}
	}
	return nil
}

// Bounds of a log-in at the provider.
const (
	identityTime = 10 * time.Minute // from the first click to the way back
	identityWait = 15 * time.Second // for answers of the provider
	identityMost = 1 << 20          // bytes of an answer
	callbackPath = "/login/oidc/callback"
)

// identity logs people in at the provider. Safe for concurrent use.
type identity struct {
	Identity
	client *http.Client
	now    func() time.Time

	mu       sync.Mutex
	provider *oidc.Provider // nil until the provider has answered once
}

func newIdentity(i Identity, now func() time.Time) (*identity, error) {
	if err := i.Check(); err != nil {
		return nil, fmt.Errorf("log-in at an identity provider: %w", err)
	}
	u, err := url.Parse(i.Issuer)
	if err != nil {
		return nil, err
	}
	// The issuer's host is the configuration's word; what the provider's documents name besides must be on the public internet, or allowed.
	guard := i.Egress
	guard.Hosts, guard.Timeout = append([]string{u.Hostname()}, guard.Hosts...), identityWait
	client := guard.Client()
	client.Transport = bounded{client.Transport}
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse } // a secret is not sent on
	return &identity{Identity: i, client: client, now: now}, nil
}

// bounded ends answers that are too long.
type bounded struct{ http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := b.RoundTripper.RoundTrip(r)
	if err == nil {
		resp.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(resp.Body, identityMost), resp.Body}
	}
	return resp, err
}

// discovered is what the provider says of itself, asked for until it answers once.
func (i *identity) discovered() (*oidc.Provider, oauth2.Config, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.provider == nil {
		// Not the request's context: the provider keeps it to ask for keys later. The client has a time limit.
		p, err := oidc.NewProvider(oidc.ClientContext(context.Background(), i.client), i.Issuer)
		if err != nil {
			return nil, oauth2.Config{}, err
		}
		i.provider = p
	}
	return i.provider, oauth2.Config{
		ClientID: i.ClientID, ClientSecret: i.ClientSecret, Endpoint: i.provider.Endpoint(), RedirectURL: i.URL + callbackPath, Scopes: append([]string{oidc.ScopeOpenID}, i.Scopes...),
	}, nil
}

// begun is a log-in that was begun, as the browser keeps it: what comes back must fit what this browser began. It is no secret to the browser's owner.
type begunLogIn struct {
	State    string    `json:"s"`
	Nonce    string    `json:"n"`
	Verifier string    `json:"v"` // PKCE: whoever gets hold of the code only can do nothing with it
	Next     string    `json:"x"`
	Until    time.Time `json:"u"`
}

// logInCookie is the name of the cookie of a log-in that was begun.
func logInCookie(secure bool) string {
	if secure {
		return "__Host-edfisync-login"
	}
	return "edfisync-login"
}

// setLogIn gives the browser a log-in that was begun; nil takes it away. The way back begins at another site, so the cookie is lax; it opens nothing.
func setLogIn(w http.ResponseWriter, r *http.Request, b *begunLogIn) {
	tls := httpd.Secure(r.Context())
	c := &http.Cookie{Name: logInCookie(tls), Path: "/", Secure: tls, HttpOnly: true, SameSite: http.SameSiteLaxMode, MaxAge: -1}
	if b != nil {
		text, err := json.Marshal(b)
		if err != nil {
			return // there is nothing in it that cannot be written
		}
		c.Value, c.MaxAge = base64.RawURLEncoding.EncodeToString(text), int(identityTime.Seconds())
	}
	http.SetCookie(w, c)
}

// begunBy is the log-in that a browser began; ok is false when there is none, or it was too long ago.
func (i *identity) begunBy(r *http.Request) (b begunLogIn, ok bool) {
	c, err := r.Cookie(logInCookie(httpd.Secure(r.Context())))
	if err != nil {
		return b, false
	}
	text, err := base64.RawURLEncoding.DecodeString(c.Value)
	if err != nil || json.Unmarshal(text, &b) != nil || b.State == "" || b.Nonce == "" || b.Verifier == "" || !i.now().Before(b.Until) {
		return begunLogIn{}, false
	}
	return b, true
}

// logInError is why a person is not logged in.
type logInError struct {
	status int
	code   string
	reason string // for the audit trail
	detail string // for the person
	err    error  // for the log; nil = nothing more is known
}

func (e *logInError) Error() string { return e.detail }

func wrongLogIn(detail string, err error) *logInError {
	return &logInError{http.StatusUnauthorized, "unauthorized", "bad-log-in", detail, err}
}

// person checks the way back from the provider, and returns who came.
func (i *identity) person(r *http.Request, b begunLogIn) (syncdb.Session, *logInError) {
	q := r.URL.Query()
	const again = "the log-in did not work; try again"
	if subtle.ConstantTimeCompare([]byte(q.Get("state")), []byte(b.State)) != 1 || len(q["state"]) != 1 || len(q["code"]) > 1 {
		return syncdb.Session{}, wrongLogIn("this log-in was begun in another window, or long ago; try again", nil)
	}
	if iss := q.Get("iss"); iss != "" && iss != i.Issuer { // RFC 9207: the answer of another provider
		return syncdb.Session{}, wrongLogIn(again, errors.New("the answer names another issuer"))
	}
	if code := q.Get("error"); code != "" {
		return syncdb.Session{}, wrongLogIn("the identity provider did not log you in; try again, or ask who runs it", errors.New("the provider answered with an error"))
	}
	provider, config, err := i.discovered()
	if err != nil {
		return syncdb.Session{}, providerAway(err)
	}
	ctx, cancel := context.WithTimeout(oidc.ClientContext(r.Context(), i.client), identityWait)
	defer cancel()
	token, err := config.Exchange(ctx, q.Get("code"), oauth2.VerifierOption(b.Verifier))
	var refusedCode *oauth2.RetrieveError
	switch {
	case errors.As(err, &refusedCode) && refusedCode.Response != nil && refusedCode.Response.StatusCode < http.StatusInternalServerError:
		return syncdb.Session{}, wrongLogIn(again, fmt.Errorf("the provider refused the code with status %d", refusedCode.Response.StatusCode))
	case err != nil:
		return syncdb.Session{}, providerAway(err)
	}
	raw, _ := token.Extra("id_token").(string)
	verifier := provider.Verifier(&oidc.Config{ClientID: i.ClientID, SupportedSigningAlgs: i.Algorithms, Now: i.now})
	id, err := verifier.Verify(ctx, raw)
	if err != nil {
		return syncdb.Session{}, wrongLogIn(again, fmt.Errorf("the token is not valid: %w", err))
	}
	if subtle.ConstantTimeCompare([]byte(id.Nonce), []byte(b.Nonce)) != 1 {
		return syncdb.Session{}, wrongLogIn(again, errors.New("the token is of another log-in"))
	}
	if id.Subject == "" || len(id.Subject) > 255 || id.IssuedAt.After(i.now().Add(5*time.Minute)) {
		return syncdb.Session{}, wrongLogIn(again, errors.New("the token names nobody, or is from the future"))
	}
	claims := map[string]any{}
	if err := id.Claims(&claims); err != nil {
		return syncdb.Session{}, wrongLogIn(again, errors.New("the claims cannot be read"))
	}
	if party, named := claims["azp"]; named && party != i.ClientID || !named && len(id.Audience) > 1 {
		return syncdb.Session{}, wrongLogIn(again, errors.New("the token was made for another client"))
	}
	return i.rights(id.Subject, claims)
}

func providerAway(err error) *logInError {
	return &logInError{http.StatusServiceUnavailable, "unavailable", "", "the identity provider does not answer; try again soon, or log in with a key", err}
}

// rights are what a person's claims say that they may.
func (i *identity) rights(subject string, claims map[string]any) (syncdb.Session, *logInError) {
	lacks := func(detail string) (syncdb.Session, *logInError) {
		return syncdb.Session{}, &logInError{http.StatusForbidden, "forbidden", "no-role", detail, nil}
	}
	// An id of its own kind, which is no id of a key.
	s := syncdb.Session{Subject: "oidc:" + subject, Name: personName(claims)}
	var best httpd.Role
	for _, value := range texts(claims[i.RoleClaim]) {
		role, err := httpd.ParseRole(i.Roles[value])
		if err != nil {
			continue
		}
		if best == 0 || best == httpd.Auditor || role > best && role != httpd.Auditor {
			best = role
		}
		for _, sees := range i.StudentData {
			s.StudentData = s.StudentData || sees == value
		}
	}
	if best == 0 {
		return lacks("you are known, but have no role in edfisync; ask who administers it for one")
	}
	s.Role = best.String()
	if i.TenantClaim != "" {
		tenant, ok := claims[i.TenantClaim].(string)
		if !ok || !slug(tenant) { // without it a person would see every tenant (I13)
			return lacks("you are known, but your account names no tenant; ask who administers it")
		}
		s.Tenant = tenant
	}
	return s, nil
}

// texts are those of a claim: a text or a list of texts.
func texts(claim any) (out []string) {
	switch c := claim.(type) {
	case string:
		out = []string{c}
	case []any:
		for _, v := range c {
			if text, ok := v.(string); ok {
				out = append(out, text)
			}
		}
	}
	return out
}

// personName is the first name among a person's claims that can be shown.
func personName(claims map[string]any) string {
	for _, claim := range []string{"name", "preferred_username", "email"} {
		name, _ := claims[claim].(string)
		name = strings.TrimSpace(name)
		if name != "" && len(name) <= 100 && legible(name) && !strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsGraphic(r) }) {
			return name
		}
	}
	return ""
}

// identityRoutes registers the way to the provider and the way back.
func (s *Console) identityRoutes() {
	public := httpd.Rule{Public: true}
	s.pageOf("GET /login/oidc", public, s.identityPage)
	s.pageOf("GET "+callbackPath, public, s.identityBack)
}

// identityPage sends a browser to the provider.
func (s *Console) identityPage(w http.ResponseWriter, r *http.Request) error {
	_, config, err := s.identity.discovered()
	if err != nil {
		return s.notLoggedIn(w, r, providerAway(err))
	}
	state, _ := httpd.NewSecret()
	nonce, _ := httpd.NewSecret()
	b := begunLogIn{State: state, Nonce: nonce, Verifier: oauth2.GenerateVerifier(), Next: nextOf(r.FormValue("next")), Until: s.now().Add(identityTime)}
	setLogIn(w, r, &b)
	http.Redirect(w, r, config.AuthCodeURL(b.State, oidc.Nonce(b.Nonce), oauth2.S256ChallengeOption(b.Verifier)), http.StatusSeeOther)
	return nil
}

// identityBack logs a person in who comes back from the provider. What this browser began is over in any case.
func (s *Console) identityBack(w http.ResponseWriter, r *http.Request) error {
	b, ok := s.identity.begunBy(r)
	setLogIn(w, r, nil)
	if !ok {
		return s.notLoggedIn(w, r, wrongLogIn("this log-in was begun in another browser, or long ago; try again", nil))
	}
	person, wrong := s.identity.person(r, b)
	if wrong != nil {
		return s.notLoggedIn(w, r, wrong)
	}
	if err := s.openSession(w, r, person); err != nil {
		return err
	}
	// Browsers do not send the session's strict cookie with a redirect that another site began, but they do from a page of ours.
	next, err := url.Parse(nextOf(b.Next))
	if err != nil {
		next = &url.URL{Path: "/"}
	}
	w.Header().Set("Refresh", "0; url="+next.String())
	s.show(w, r, http.StatusOK, "welcome", frame{Title: "Logged in", Page: refused{Next: next.String()}})
	return nil
}

// notLoggedIn tells a person why not, and the audit trail and the log what is known of it.
func (s *Console) notLoggedIn(w http.ResponseWriter, r *http.Request, e *logInError) error {
	if e.err != nil {
		s.log.WarnContext(r.Context(), "log-in at the identity provider", slog.String("request", httpd.RequestID(r.Context())), slog.Any("error", e.err))
	}
	s.router.Deny(w, r, e.status, e.code, e.detail, e.reason)
	return nil
}
