package edfi

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"github.com/edfisync/edfisync/internal/failpoint"
)

// token is one access token with the request headers that carry it, built once. net/http only reads them, so all calls share them.
type token struct {
	value   string
	write   http.Header
	read    http.Header
	born    time.Time
	renewAt time.Time // zero: the host gave no lifetime
	deadAt  time.Time
	suspect bool        // was asked for because the one before it was refused
	proven  atomic.Bool // a call was not refused for want of authentication
}

// tokens keeps the one token all calls share. It is renewed before it expires, and once when the target refuses it, however many calls
// find out at the same time: a host keeps few live tokens per client (15 by default) and answers 429 beyond (F19).
type tokens struct {
	config    clientcredentials.Config
	scope     string
	userAgent string
	observe   func(ctx context.Context, e Exchange) (http.Header, func(Result))
	client    *http.Client
	log       *slog.Logger
	shared    atomic.Pointer[token]

	mu          sync.Mutex
	flight      *flight   // a request under way
	styleKnown  bool      // config.AuthStyle has worked
	refusal     *Error    // the host refused the credentials
	refusedTill time.Time // believe it until then
	renewAgain  time.Time // a failed renewal is not repeated before
}

// flight is a token request that several calls wait for.
type flight struct {
	done  chan struct{}
	token *token
	err   *Error
}

const (
	renewMargin   = 2 * time.Minute  // at most; a fifth of the lifetime for short ones
	renewRetry    = 10 * time.Second // between attempts to renew a token that still works
	refusalMemory = time.Minute      // refused credentials are not tried again for so long
	suspectMemory = 5 * time.Minute  // a second refused token in a row is not replaced for so long
)

func newTokens(config Config, tokenURL string, transport http.RoundTripper) *tokens {
	t := &tokens{
		config: clientcredentials.Config{
			ClientID: config.ClientID, ClientSecret: config.ClientSecret, TokenURL: tokenURL, AuthStyle: oauth2.AuthStyleInHeader,
		},
		scope:     config.Scope,
		userAgent: config.UserAgent,
		observe:   config.observe,
		log:       config.Logger,
	}
	if config.Scope != "" {
		t.config.Scopes = []string{config.Scope}
	}
	if strings.Contains(config.ClientID+config.ClientSecret, ":") { // the ODS cuts the decoded header at every colon
		t.config.AuthStyle, t.styleKnown = oauth2.AuthStyleInParams, true
	}
	t.client = &http.Client{
		Transport:     plainBasic{next: transport, id: config.ClientID, secret: config.ClientSecret, userAgent: config.UserAgent},
		Timeout:       config.Timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // F28
	}
	return t
}

// plainBasic replaces the percent-encoded Basic credentials of x/oauth2 by plain ones: the ODS does not decode them.
type plainBasic struct {
	next                  http.RoundTripper
	id, secret, userAgent string
}

func (p plainBasic) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	if r.Header.Get("Authorization") != "" {
		r.SetBasicAuth(p.id, p.secret)
	}
	r.Header.Set("User-Agent", p.userAgent)
	r.Header.Set("Accept", "application/json")
	return p.next.RoundTrip(r)
}

// current returns a token that is not about to expire. A token within its safety margin is renewed by one caller while the others go on
// with it; when the token endpoint is down it is used to its end (F20).
func (t *tokens) current(ctx context.Context) (*token, *Error) {
	have := t.shared.Load()
	if have == nil {
		return t.fetch(ctx, nil, false)
	}
	if have.renewAt.IsZero() {
		return have, nil
	}
	now := time.Now()
	switch {
	case now.Before(have.renewAt):
		return have, nil
	case now.After(have.deadAt):
		return t.fetch(ctx, have, false)
	case !t.mayRenew(now):
		return have, nil
	}
	next, err := t.fetch(ctx, have, false)
	if err != nil {
		t.log.Warn("renew token before it expires", "error", err)
		return have, nil
	}
	return next, nil
}

// mayRenew reports whether this caller should renew a token that still works: nobody does, and nobody just tried.
func (t *tokens) mayRenew(now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.flight != nil || now.Before(t.renewAgain) {
		return false
	}
	t.renewAgain = now.Add(renewRetry)
	return true
}

// replace returns a token other than the one that was refused with a 401: the one another call has fetched meanwhile, or a new one. When
// a fresh token, itself a replacement, is refused too, asking on would only use up the client's tokens: it reports false.
func (t *tokens) replace(ctx context.Context, refused *token) (*token, bool, *Error) {
	if have := t.shared.Load(); have != refused && have != nil {
		return have, true, nil
	}
	if refused.suspect && !refused.proven.Load() && time.Since(refused.born) < suspectMemory {
		return nil, false, nil
	}
	next, err := t.fetch(ctx, refused, true)
	return next, err == nil, err
}

// fetch returns a token newer than old. Of callers at the same time one asks the host and all get its answer.
func (t *tokens) fetch(ctx context.Context, old *token, suspect bool) (*token, *Error) {
	for {
		t.mu.Lock()
		if have := t.shared.Load(); have != nil && have != old {
			t.mu.Unlock()
			return have, nil
		}
		if t.refusal != nil && time.Now().Before(t.refusedTill) {
			refusal := t.refusal.clone()
			t.mu.Unlock()
			return nil, refusal
		}
		f := t.flight
		if f == nil {
			f = &flight{done: make(chan struct{})}
			t.flight = f
			t.mu.Unlock()
			t.fly(ctx, f, suspect)
			return f.token, f.err.clone()
		}
		t.mu.Unlock()
		select {
		case <-f.done:
		case <-ctx.Done():
			return nil, interrupted(ctx.Err())
		}
		if f.err == nil {
			return f.token, nil
		}
		if !isContext(f.err.Err) {
			return nil, f.err.clone()
		}
		// The caller who asked gave up. That is no answer: ask again.
	}
}

// fly makes the request of a flight and lands it, also when the transport panics: waiters must not wait for ever.
func (t *tokens) fly(ctx context.Context, f *flight, suspect bool) {
	f.err = interrupted(errors.New("token request did not return"))
	defer func() {
		t.mu.Lock()
		t.flight = nil
		if f.err == nil {
			t.shared.Store(f.token)
			t.refusal = nil
		} else if f.err.Class == Stop {
			t.refusal, t.refusedTill = f.err, time.Now().Add(refusalMemory)
		}
		t.mu.Unlock()
		close(f.done)
	}()
	_, done := t.observe(ctx, Exchange{Method: http.MethodPost, Resource: "token", Attempt: 1})
	began := time.Now()
	f.token, f.err = t.request(ctx, suspect)
	result := Result{Status: http.StatusOK, Took: time.Since(began)}
	if f.err != nil {
		result.Status, result.Code = f.err.Status, f.err.Code
	}
	done(result)
}

// request asks the token endpoint: with a Basic header, and when the host refuses that and no way is known to work, with the
// credentials in the body.
func (t *tokens) request(ctx context.Context, suspect bool) (*token, *Error) {
	ctx = context.WithValue(ctx, oauth2.HTTPClient, t.client)
	failpoint.Reach(failpoint.TokenBefore, "", "")
	granted, err := t.config.Token(ctx)
	failpoint.Reach(failpoint.TokenAfter, "", "")
	if err != nil && !t.styleKnown && wantsOtherStyle(err) {
		body := t.config
		body.AuthStyle = oauth2.AuthStyleInParams
		if inBody, bodyErr := body.Token(ctx); bodyErr == nil {
			t.config.AuthStyle, granted, err = oauth2.AuthStyleInParams, inBody, nil
		}
	}
	if err != nil {
		return nil, t.tokenError(ctx, err)
	}
	t.styleKnown = true
	if scope, ok := granted.Extra("scope").(string); ok && scope != "" && scope != t.scope {
		if t.scope != "" {
			return nil, wrongScope()
		}
		t.log.Warn("token endpoint narrowed the token to a scope that was not asked for", "scope", scope)
	}
	return t.newToken(granted, suspect), nil
}

func (t *tokens) newToken(granted *oauth2.Token, suspect bool) *token {
	authorization := []string{"Bearer " + granted.AccessToken}
	agent, accept := []string{t.userAgent}, []string{"application/json"}
	n := &token{
		value: granted.AccessToken,
		write: http.Header{
			"Authorization": authorization, "Accept": accept, "User-Agent": agent,
			"Content-Type":    {"application/json"},
			"Accept-Encoding": {"identity"}, // answers to writes are empty or short
		},
		read:    http.Header{"Authorization": authorization, "Accept": accept, "User-Agent": agent},
		born:    time.Now(),
		suspect: suspect,
	}
	if !granted.Expiry.IsZero() {
		life := time.Until(granted.Expiry)
		n.deadAt = n.born.Add(life)
		n.renewAt = n.deadAt.Add(-min(renewMargin, life/5))
	}
	return n
}

// wantsOtherStyle reports whether the answer may mean that the host does not read Basic headers.
func wantsOtherStyle(err error) bool {
	var refused *oauth2.RetrieveError
	return errors.As(err, &refused) &&
		(refused.Response.StatusCode == http.StatusBadRequest || refused.Response.StatusCode == http.StatusUnauthorized)
}

var oauthCode = regexp.MustCompile(`^[a-z_]{1,40}$`)

// tokenError turns an error of x/oauth2, whose text quotes the response, into one of ours.
func (t *tokens) tokenError(ctx context.Context, err error) *Error {
	var refused *oauth2.RetrieveError
	if !errors.As(err, &refused) {
		var e *Error
		var dial *url.Error
		if errors.As(err, &dial) || ctx.Err() != nil {
			e = networkError(ctx, err)
		} else {
			e = notTheAPI().error() // a 200 that holds no token (F9)
		}
		e.Method, e.Resource, e.Sent = http.MethodPost, "token", false // no record was written
		return e
	}
	e := Classify(refused.Response.StatusCode, refused.Response.Header, refused.Body, http.MethodPost)
	switch status := refused.Response.StatusCode; {
	case status == http.StatusTooManyRequests:
		e.become(tooManyTokens())
	case e.Class != Transient && status < 500 && (status < 300 || status >= 400):
		e.become(tokenRefused())
		if status == http.StatusNotFound {
			e.Title, e.Hint = "there is no token endpoint at this address", "Correct the base URL, or set the token URL."
		}
	}
	if oauthCode.MatchString(refused.ErrorCode) {
		e.Causes = append(e.Causes, refused.ErrorCode)
	}
	e.Resource = "token"
	e.retryAfter = retryAfter(refused.Response.Header, time.Now())
	return e
}

func wrongScope() *Error {
	return &Error{
		Class: Stop, Code: "token-scope", Owner: OwnerTarget, Method: http.MethodPost, Resource: "token",
		Title: "the token is for another scope than the one asked for",
		Hint:  "Ask the target's host which education organizations the credentials are for.",
	}
}
