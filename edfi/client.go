// Package edfi is a client of one Ed-Fi API: ODS/API 5.3 to 7.3 and DMS ("Ed-Fi API v8"). It discovers the API's addresses, keeps a token,
// makes calls, repeats what may be repeated, adapts how many run at once, and says through one classifier what a failure means. It does
// not know rows, ledgers or plans: whether a call should be made, and what follows from its outcome, is the caller's.
//
// # What leaves for which host
//
// The configured base URL decides. Addresses in the root document are used as they are when they name the same scheme, host and port;
// otherwise only their path counts and they are rebased onto the base URL, as a host behind a proxy announces its inner name. The one
// exception is the token endpoint, where DMS installations use a service of their own: another host is accepted for it when the root
// document, fetched from the base URL, names it and its scheme is not weaker than the base URL's. Config.TokenURL overrules both.
// Redirects are never followed, and the address in a Location header is never called: only the id is taken from it.
package edfi

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"
)

// Config is what a client needs to know. BaseURL, ClientID and ClientSecret are required; the zero value of all else is usable.
type Config struct {
	// BaseURL is the address of the API's root document, "https://host/v7.3/api". A trailing slash does not matter; "/api" may be left
	// out and "/data/v3" left on.
	BaseURL string
	// TokenURL overrules the token endpoint named by the root document.
	TokenURL string
	// ClientID and ClientSecret are the API key and secret.
	ClientID, ClientSecret string
	// Scope narrows the token to one education organization id. Empty asks for no scope.
	Scope string
	// SchoolYear fills the school year of year-specific and context-routed hosts; other hosts ignore it.
	SchoolYear int
	// Tenant fills {tenantIdentifier} of multi-tenant hosts.
	Tenant string
	// Context fills other placeholders of routes, by their name.
	Context map[string]string

	// Timeout bounds each attempt from dial to last byte. 0 means 30 s. The fence of a run counts on it (I7).
	Timeout time.Duration
	// MaxConcurrency and MinConcurrency bound the calls in flight. 0 means 16 and 1.
	MaxConcurrency, MinConcurrency int
	// MaxRetries is the number of repeats after the first attempt. 0 means 5, negative means none.
	MaxRetries int
	// RetryWait and MaxRetryWait are the first and the longest pause between attempts, jittered. 0 means 250 ms and 30 s.
	RetryWait, MaxRetryWait time.Duration
	// MaxRetryAfter caps what a Retry-After header may ask for. 0 means 2 min.
	MaxRetryAfter time.Duration
	// MaxResponse bounds a response body after decompression, in bytes. 0 means 64 MiB.
	MaxResponse int64
	// HTTP2 allows HTTP/2. One HTTP/2 connection carries about half of what several HTTP/1.1 connections do.
	HTTP2 bool

	// TLS is the TLS configuration, for private certificate authorities and client certificates. nil verifies against the system's.
	TLS *tls.Config
	// DialContext replaces the dialer, for an egress policy. nil dials directly.
	DialContext func(ctx context.Context, network, address string) (net.Conn, error)
	// Transport replaces the whole transport, for simulations. With it, HTTP2, TLS and DialContext are ignored.
	Transport http.RoundTripper

	UserAgent string // "" means "edfisync"
	// Observer is told of every exchange. nil observes nothing.
	Observer Observer
	// Logger receives one debug line per attempt and a warning per oddity of the host. nil discards them.
	Logger *slog.Logger
}

func (c Config) withDefaults() Config {
	defaultTo := func(d *time.Duration, value time.Duration) {
		if *d <= 0 {
			*d = value
		}
	}
	defaultTo(&c.Timeout, 30*time.Second)
	defaultTo(&c.RetryWait, 250*time.Millisecond)
	defaultTo(&c.MaxRetryWait, 30*time.Second)
	defaultTo(&c.MaxRetryAfter, 2*time.Minute)
	if c.MaxConcurrency <= 0 {
		c.MaxConcurrency = 16
	}
	c.MinConcurrency = min(max(c.MinConcurrency, 1), c.MaxConcurrency)
	if c.MaxRetries == 0 {
		c.MaxRetries = 5
	}
	c.MaxRetries = max(c.MaxRetries, 0)
	if c.MaxResponse <= 0 {
		c.MaxResponse = 64 << 20
	}
	if c.UserAgent == "" {
		c.UserAgent = "edfisync"
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// validate reports every problem at once.
func (c Config) validate() error {
	var problems []error
	if _, err := parseBase(c.BaseURL); err != nil {
		problems = append(problems, fmt.Errorf("base URL: %w", err))
	}
	if c.TokenURL != "" {
		if _, err := parseBase(c.TokenURL); err != nil {
			problems = append(problems, fmt.Errorf("token URL: %w", err))
		}
	}
	if c.ClientID == "" || c.ClientSecret == "" {
		problems = append(problems, errors.New("client id and secret are required"))
	}
	return errors.Join(problems...)
}

// Client calls one Ed-Fi API. It is safe for concurrent use. Close it to drop its connections.
type Client struct {
	*core
	guard func() error // nil, or called before every write attempt
}

// core is what a client shares with its guarded twins.
type core struct {
	config    Config
	log       *slog.Logger
	transport http.RoundTripper
	limiter   *limiter
	tokens    *tokens
	info      Info
	addresses addresses

	routes       sync.Map // resource name → *route
	warnLocation sync.Once
}

// Connect reads the root document and returns a client for what it announces. It sends no credentials: Login does, or the first call.
// The error is an *Error whose Hint says what to change, or names what is wrong in config.
func Connect(ctx context.Context, config Config) (*Client, error) {
	if err := config.validate(); err != nil {
		return nil, fmt.Errorf("check configuration of the Ed-Fi API: %w", err)
	}
	config = config.withDefaults()
	c := &core{
		config:    config,
		log:       config.Logger,
		transport: config.Transport,
		limiter:   newLimiter(config.MinConcurrency, config.MaxConcurrency),
	}
	if c.transport == nil {
		c.transport = newTransport(config)
	}
	if err := c.discover(ctx); err != nil {
		c.close()
		return nil, err
	}
	c.tokens = newTokens(config, c.info.URLs.OAuth, c.transport)
	return &Client{core: c}, nil
}

// Info returns what the root document said.
func (c *Client) Info() Info { return c.info }

// Guarded returns the same client, calling check right before every attempt of a write, repeats included. When check fails nothing is
// sent and the write stops with an *Error of class Stop that wraps its error (I7). Reads are not guarded. check must be safe for
// concurrent use and quick.
func (c *Client) Guarded(check func() error) *Client {
	return &Client{core: c.core, guard: check}
}

// Login makes sure that there is a valid token, so that wrong credentials are found before a run. It may be called at any time.
func (c *Client) Login(ctx context.Context) error {
	if _, err := c.tokens.current(ctx); err != nil {
		return err
	}
	return nil
}

// Concurrency returns how many calls may be in flight now: between Config.MinConcurrency and MaxConcurrency.
func (c *Client) Concurrency() int { return c.limiter.current() }

// Close drops idle connections. Calls in flight are not interrupted; Close may be called twice.
func (c *Client) Close() { c.close() }

func (c *core) close() {
	if t, ok := c.transport.(interface{ CloseIdleConnections() }); ok {
		t.CloseIdleConnections()
	}
}

// newTransport is tuned for many equal calls to one host: every connection that may be in use stays open.
func newTransport(config Config) *http.Transport {
	dial := config.DialContext
	if dial == nil {
		dial = (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}).DialContext
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(config.HTTP2)
	tlsConfig := config.TLS.Clone()
	if tlsConfig == nil {
		tlsConfig = &tls.Config{}
	}
	tlsConfig.MinVersion = max(tlsConfig.MinVersion, tls.VersionTLS12)
	return &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            dial,
		TLSClientConfig:        tlsConfig,
		TLSHandshakeTimeout:    10 * time.Second,
		Protocols:              protocols,
		MaxIdleConns:           config.MaxConcurrency + 4,
		MaxIdleConnsPerHost:    config.MaxConcurrency + 4,
		IdleConnTimeout:        90 * time.Second,
		MaxResponseHeaderBytes: 64 << 10,
	}
}

// parseBase parses an absolute http or https URL without user info, query or fragment.
func parseBase(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return nil, errors.New("not a URL")
	}
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, errors.New("must begin with https:// (or http:// in a closed network)")
	case u.Host == "":
		return nil, errors.New("names no host")
	case u.User != nil:
		return nil, errors.New("must not hold credentials; use client id and secret")
	case u.RawQuery != "" || u.Fragment != "":
		return nil, errors.New("must not have a query or fragment")
	}
	return u, nil
}
