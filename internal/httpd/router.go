package httpd

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"path"
	"runtime"
	"runtime/debug"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/time/rate"
)

// RouterConfig says how a Router treats requests. Keys is required unless every route is public.
type RouterConfig struct {
	Keys     Keys
	Sessions Sessions // nil = no browser logs in
	Logger   *slog.Logger

	Proxies []netip.Prefix // whose X-Forwarded-For and X-Forwarded-Proto are believed
	Allow   []netip.Prefix // networks that may call at all, but for routes with Rule.Anywhere; none = everybody

	PerPrincipal Limit         // zero means 20 a second, 100 at once
	PerClient    Limit         // of one address, before it is known who calls; zero means 50 a second, 200 at once
	MaxBody      int64         // bytes of a request's body, where the rule says nothing else; 0 means 1 MiB
	ReadBody     time.Duration // longest wait for a request's body; 0 means 30 s
	Answer       time.Duration // longest time for a request as a whole, but for routes with Rule.Stream; 0 means 60 s

	// Denied is told of requests that were refused, for the audit trail: of equal ones (reason, route, client, principal) one a minute, and of all one
	// a second in the long run, so that nobody fills the trail.
	Denied func(ctx context.Context, d Denial)
	// RefusePage answers people who may not, on routes with Rule.Page and for browsers on paths that are not there; nil answers them as programs.
	RefusePage func(w http.ResponseWriter, r *http.Request, status int, code, detail string)
	Now        func() time.Time // nil means time.Now
	// Observe is told of every request that was answered: pattern and rule of the route, none when there is no such route. nil: nobody is.
	Observe func(pattern string, rule Rule, status int, took time.Duration)
}

// Route is one registered route.
type Route struct {
	Pattern string // "GET /api/v1/runs/{id}"
	Rule    Rule
}

// Router calls the handlers of routes for those whom the rule of the route allows. Register all routes, then serve; serving is safe for concurrent
// use, registering is not.
type Router struct {
	c       RouterConfig
	mux     *http.ServeMux
	routes  []Route
	rules   map[string]Rule
	origin  *http.CrossOriginProtection
	log     *slog.Logger
	clients *limiter
	people  *limiter
	lockout *lockout
	used    *once
	denied  *once
	told    *rate.Limiter // of Denied
}

// NewRouter returns a Router without routes.
func NewRouter(c RouterConfig) *Router {
	c.PerPrincipal = orDefault(c.PerPrincipal, Limit{PerSecond: 20, Burst: 100})
	c.PerClient = orDefault(c.PerClient, Limit{PerSecond: 50, Burst: 200})
	c.MaxBody = orDefault(c.MaxBody, 1<<20)
	c.ReadBody = orDefault(c.ReadBody, 30*time.Second)
	c.Answer = orDefault(c.Answer, 60*time.Second)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return &Router{
		c: c, mux: http.NewServeMux(), rules: map[string]Rule{}, origin: http.NewCrossOriginProtection(), log: c.Logger,
		clients: newLimiter(c.PerClient), people: newLimiter(c.PerPrincipal), lockout: newLockout(), used: newOnce(time.Minute), denied: newOnce(time.Minute),
		told: rate.NewLimiter(1, 100),
	}
}

// Handle registers a route as http.ServeMux does. Like it, it panics when the pattern is wrong or taken; and when the rule is none, or one that
// contradicts itself.
func (rt *Router) Handle(pattern string, rule Rule, h http.Handler) {
	if err := rule.Check(); err != nil {
		panic(fmt.Sprintf("httpd: route %q: %v", pattern, err))
	}
	if !rule.Public && rt.c.Keys == nil && rt.c.Sessions == nil {
		panic(fmt.Sprintf("httpd: route %q is not public, and nobody can log in", pattern))
	}
	rt.mux.Handle(pattern, h)
	rt.rules[pattern] = rule
	rt.routes = append(rt.routes, Route{pattern, rule})
}

// Routes lists the routes in the order they were registered.
func (rt *Router) Routes() []Route { return append([]Route(nil), rt.routes...) }

// ServeHTTP answers a request.
func (rt *Router) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	about := &requestInfo{id: requestID(r), client: clientAddr(r, rt.c.Proxies), secure: secure(r, rt.c.Proxies)}
	r = r.WithContext(context.WithValue(r.Context(), requestKey, about))
	secureHeaders(w, about)
	if len(r.TransferEncoding) > 0 {
		// It may have had a length as well, by which a proxy reads where the next request begins: there is no next one (RFC 9112, 6.1).
		w.Header().Set("Connection", "close")
	}

	_, pattern := rt.mux.Handler(r)
	rule, known := rt.rules[pattern]
	plain := w
	if rt.c.Observe != nil {
		began, seen := time.Now(), &statusWriter{ResponseWriter: w}
		w = seen
		defer func() {
			told := pattern
			if !known {
				told = ""
			}
			rt.c.Observe(told, rule, seen.code(), time.Since(began))
		}()
	}
	defer rt.recovered(w, r)
	if !known || !clean(r.URL.Path) { // a mux would redirect; whoever writes such a path does not mean well
		rt.refuse(w, r, pattern, rt.unknown(r))
		return
	}
	if ref := rt.admit(r, rule, about); ref != nil {
		rt.refuse(w, r, pattern, ref)
		return
	}
	if !textQuery(r.URL.RawQuery) {
		rt.refuse(w, r, pattern, &refusal{status: http.StatusUnprocessableEntity, code: "invalid", detail: "the query is not UTF-8 text"})
		return
	}
	most := orDefault(rule.MaxBody, rt.c.MaxBody)
	if r.ContentLength > most {
		rt.refuse(w, r, pattern, &refusal{status: http.StatusRequestEntityTooLarge, code: "too-large", detail: fmt.Sprintf("the body may have %d bytes", most)})
		return
	}
	r.Body = http.MaxBytesReader(plain, r.Body, most) // which closes the connection of who sends more
	control := http.NewResponseController(w)
	if r.ContentLength != 0 {
		_ = control.SetReadDeadline(time.Now().Add(rt.c.ReadBody)) // a recorder in tests has no deadlines
	}
	if rule.Stream {
		_ = control.SetWriteDeadline(time.Time{})
	} else {
		_ = control.SetWriteDeadline(time.Now().Add(rt.c.Answer + 5*time.Second)) // a handler whose time is over can still say so
		ctx, cancel := context.WithTimeout(r.Context(), rt.c.Answer)
		defer cancel()
		r = r.WithContext(ctx)
	}
	rt.mux.ServeHTTP(w, r)
}

// clean reports whether a path is written as it is meant: in text, without empty elements and dots.
func clean(p string) bool {
	return p != "" && isText(p) && (path.Clean(p) == p || p != "/" && strings.HasSuffix(p, "/") && path.Clean(p) == p[:len(p)-1])
}

// isText reports whether a text of a client is one for every database: UTF-8 without NUL.
func isText(s string) bool { return utf8.ValidString(s) && !strings.Contains(s, "\x00") }

// textQuery reports whether what the query says is text.
func textQuery(raw string) bool {
	if raw == "" {
		return true
	}
	text, err := url.QueryUnescape(raw)
	return err == nil && isText(text)
}

// admit decides whether a request may go to its handler, and notes who makes it. The cheapest checks come first, and all that does not ask a store
// comes before what does.
func (rt *Router) admit(r *http.Request, rule Rule, about *requestInfo) *refusal {
	now := rt.c.Now()
	if len(rt.c.Allow) > 0 && !rule.Anywhere && !contains(rt.c.Allow, about.client) {
		return &refusal{status: http.StatusForbidden, code: "network", detail: "this address may not call", denial: Denial{Reason: "network"}}
	}
	// For requests by key it does no harm, and log-in forms need it as well.
	if err := rt.origin.Check(r); err != nil {
		return &refusal{status: http.StatusForbidden, code: "cross-origin", detail: "a page of another site may not do this", denial: Denial{Reason: "cross-origin"}}
	}
	if !rule.Unlimited {
		if wait, ok := rt.clients.take(household(about.client), now); !ok {
			return tooMany(wait)
		}
	}
	if rule.Public {
		return nil
	}
	p, ref := rt.authenticate(r, about.client, about.secure)
	if ref != nil {
		return ref
	}
	about.principal = p
	if !rule.Unlimited {
		if wait, ok := rt.people.take(p.ID, now); !ok {
			return tooMany(wait)
		}
	}
	if !rule.Allows(p) {
		return &refusal{status: http.StatusForbidden, code: "forbidden", detail: missing(rule, p), denial: Denial{Reason: "forbidden"}}
	}
	return nil
}

// missing says what a principal lacks.
func missing(rule Rule, p Principal) string {
	switch {
	case rule.EveryTenant && p.Tenant != "":
		return "this is for keys that are bound to no tenant"
	case rule.StudentData && !p.StudentData && Rule{Least: rule.Least, Auditor: rule.Auditor}.Allows(p):
		return "this needs the right to see student data"
	}
	least := rule.Least.String()
	if rule.Auditor && rule.Least > Viewer {
		least = Auditor.String() + " or " + least
	}
	return fmt.Sprintf("this needs the role %s; yours is %s", least, p.Role)
}

func tooMany(wait time.Duration) *refusal {
	return &refusal{status: http.StatusTooManyRequests, code: "rate-limit", detail: "too many requests; wait as Retry-After says", wait: wait,
		denial: Denial{Reason: "rate-limit"}}
}

// Deny refuses a request as the router does: with a problem or a page, told to the audit trail for a reason ("" = not). For handlers of public routes that
// find out themselves who calls.
func (rt *Router) Deny(w http.ResponseWriter, r *http.Request, status int, code, detail, reason string) {
	rt.refuse(w, r, r.Pattern, &refusal{status: status, code: code, detail: detail, denial: Denial{Reason: reason}})
}

// refuse answers with a problem or a page, and tells the audit trail.
func (rt *Router) refuse(w http.ResponseWriter, r *http.Request, pattern string, ref *refusal) {
	if ref.wait > 0 {
		retryAfter(w, ref.wait)
	}
	if ref.allow != "" {
		w.Header().Set("Allow", ref.allow)
	}
	if ref.status == http.StatusUnauthorized && !rt.rules[pattern].Page {
		w.Header().Set("WWW-Authenticate", `Bearer realm="edfisync"`)
	}
	// A browser that opens a page before it has logged in is sent to do so: nothing was tried, and nothing has to be kept of it.
	visit := ref.denial.Reason == "no-key" && r.Method == http.MethodGet && rt.rules[pattern].Page && r.Header.Get("Cookie") == ""
	if d := ref.denial; d.Reason != "" && !visit && rt.c.Denied != nil {
		about := info(r.Context())
		d.Route, d.Client, d.RequestID = pattern, about.client, about.id
		if d.Principal == (Principal{}) {
			d.Principal = about.principal
		}
		now := rt.c.Now()
		if rt.denied.first(d.Reason+" "+household(d.Client)+" "+d.Principal.ID+" "+pattern, now) && rt.told.AllowN(now, 1) {
			rt.c.Denied(r.Context(), d)
		}
	}
	rule, known := rt.rules[pattern]
	if rt.c.RefusePage != nil && (rule.Page || !known && strings.Contains(r.Header.Get("Accept"), "text/html")) {
		rt.c.RefusePage(w, r, ref.status, ref.code, ref.detail)
		return
	}
	Refuse(w, r, ref.status, ref.code, ref.detail)
}

// unknown tells a path that is not there from a method that is not.
func (rt *Router) unknown(r *http.Request) *refusal {
	var allowed []string
	if !clean(r.URL.Path) {
		return &refusal{status: http.StatusNotFound, code: "not-found", detail: "there is nothing at this path"}
	}
	for _, m := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete} {
		other := r.Clone(r.Context())
		other.Method = m
		if _, pattern := rt.mux.Handler(other); rt.rules[pattern] != (Rule{}) {
			allowed = append(allowed, m)
		}
	}
	if allowed != nil {
		methods := strings.Join(allowed, ", ")
		return &refusal{status: http.StatusMethodNotAllowed, code: "method", detail: "the methods here are " + methods, allow: methods}
	}
	return &refusal{status: http.StatusNotFound, code: "not-found", detail: "there is nothing at this path"}
}

// recovered answers for a handler that panicked. What the panic says may hold student values, so of anything but an error of the run time only the
// type is logged (I14).
func (rt *Router) recovered(w http.ResponseWriter, r *http.Request) {
	v := recover()
	if v == nil {
		return
	}
	if v == http.ErrAbortHandler { //nolint:errorlint,err113 // it is compared like this by net/http
		panic(v)
	}
	what := fmt.Sprintf("%T", v)
	if err, ok := v.(runtime.Error); ok {
		what = err.Error()
	}
	rt.log.ErrorContext(r.Context(), "a handler panicked", slog.String("request", RequestID(r.Context())), slog.String("panic", what),
		slog.String("stack", string(debug.Stack())))
	Refuse(w, r, http.StatusInternalServerError, "internal", "something went wrong here; the log says more under this correlationId")
}

// requestID is the client's own X-Request-Id when it is short and plain, so that its log and ours can be joined; else a new one.
func requestID(r *http.Request) string {
	id := r.Header.Get("X-Request-Id")
	ok := len(id) >= 8 && len(id) <= 64
	for i := 0; ok && i < len(id); i++ {
		c := id[i]
		ok = c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_' || c == '.'
	}
	if ok {
		return id
	}
	return rand.Text()
}

// contentPolicy lets pages load our own files only, and run no script that is written into them.
const contentPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; connect-src 'self'; " +
	"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

func secureHeaders(w http.ResponseWriter, about *requestInfo) {
	h := w.Header()
	h.Set("X-Request-Id", about.id)
	h.Set("Content-Security-Policy", contentPolicy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=()")
	h.Set("Cache-Control", "no-store") // handlers of files may say otherwise
	if about.secure {
		h.Set("Strict-Transport-Security", "max-age=31536000")
	}
}
