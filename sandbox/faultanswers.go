package sandbox

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/edfisync/edfisync/internal/httpd"
)

// injury is one fault happening to one call.
type injury struct {
	s     *Server
	w     http.ResponseWriter
	r     *http.Request
	table *table // nil at the token endpoint
	fault Fault
}

const (
	elsewhere  = "https://elsewhere.invalid"
	bigAnswer  = 10 << 20
	bombMember = 1 << 20
	bombSize   = 1 << 30
)

func (i *injury) delay(otherwise time.Duration) time.Duration {
	if i.fault.Delay > 0 {
		return i.fault.Delay
	}
	return otherwise
}

func (i *injury) host() string {
	if i.fault.Host != "" {
		return strings.TrimRight(i.fault.Host, "/")
	}
	return elsewhere
}

// wait returns early when the client has gone.
func (i *injury) wait(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-i.r.Context().Done():
	}
}

// inflict acts the fault out.
func (i *injury) inflict() {
	kind, after := strings.CutSuffix(string(i.fault.Kind), "-after")
	if p := i.refusal(); p != nil {
		i.s.refuse(i.w, i.r, p)
		return
	}
	switch FaultKind(kind) {
	case FaultDelay, FaultTokenSlow:
		otherwise := time.Second
		if i.fault.Kind == FaultTokenSlow {
			otherwise = 5 * time.Second
		}
		i.wait(i.delay(otherwise))
		i.s.serve(i.w, i.r)
		return
	case FaultExpired:
		i.s.tokens.forget(i.r.Header.Get("Authorization"))
		i.s.serve(i.w, i.r)
		return
	case FaultRedirect301, FaultRedirect302, FaultRedirect307:
		i.redirect()
		return
	case FaultTruncate, FaultSlow, FaultBig, FaultBomb, FaultNoLocation, FaultLocationHost, FaultLocationRelative, FaultLocationLower,
		FaultLocationSlash, FaultTokenScope, FaultLate:
		i.spoil(i.done())
		return
	}
	if after {
		i.done()
	}
	i.instead(FaultKind(kind))
}

// done lets the sandbox do the call and keeps the answer.
func (i *injury) done() *captured {
	c := &captured{header: http.Header{}}
	i.s.serve(c, i.r)
	return c
}

// instead answers in place of the API, or not at all.
func (i *injury) instead(kind FaultKind) {
	switch kind {
	case FaultHang:
		i.wait(i.delay(time.Minute))
		panic(http.ErrAbortHandler)
	case FaultDrop:
		panic(http.ErrAbortHandler) // closes the connection
	case FaultReset:
		i.reset()
	case FaultHTML:
		i.page(http.StatusOK, "Sign in to the network to continue.")
	case FaultEmpty:
		i.w.WriteHeader(http.StatusOK)
	case Fault500:
		i.s.refuse(i.w, i.r, systemError())
	case Fault502, Fault503, Fault504, FaultTokenDown:
		status := http.StatusServiceUnavailable
		if n, err := strconv.Atoi(string(kind)); err == nil {
			status = n
		}
		i.page(status, http.StatusText(status))
	case Fault429, Fault429Seconds, Fault429Date, Fault429Absurd:
		i.limit(kind)
	}
}

// page is what proxies answer.
func (i *injury) page(status int, text string) {
	i.w.Header().Set("Content-Type", "text/html; charset=utf-8")
	i.w.WriteHeader(status)
	_, _ = i.w.Write([]byte("<html><head><title>" + text + "</title></head><body><h1>" + text + "</h1></body></html>\n")) // the client may have gone
}

func (i *injury) limit(kind FaultKind) {
	d := i.delay(time.Second)
	switch kind {
	case Fault429Seconds:
		i.w.Header().Set("Retry-After", strconv.Itoa(int((d+time.Second-1)/time.Second)))
	case Fault429Date:
		i.w.Header().Set("Retry-After", i.s.opts.Now().Add(d).UTC().Format(http.TimeFormat))
	case Fault429Absurd:
		i.w.Header().Set("Retry-After", "1000000000")
	}
	i.page(http.StatusTooManyRequests, http.StatusText(http.StatusTooManyRequests))
}

// reset breaks the connection without the orderly end a close has, where there is one to break.
func (i *injury) reset() {
	if h, ok := i.w.(http.Hijacker); ok {
		if conn, _, err := h.Hijack(); err == nil {
			if tcp, ok := conn.(*net.TCPConn); ok {
				_ = tcp.SetLinger(0) // without it the close is orderly, which is a fault too
			}
			_ = conn.Close() // it is gone either way
			return
		}
	}
	panic(http.ErrAbortHandler)
}

func (i *injury) redirect() {
	status, _ := strconv.Atoi(strings.TrimPrefix(string(i.fault.Kind), "redirect-"))
	i.w.Header().Set("Location", i.host()+i.r.URL.RequestURI())
	i.w.WriteHeader(status)
}

// refusal is the answer of the kinds that are an API's ordinary refusals.
func (i *injury) refusal() *httpd.Problem {
	if i.table == nil {
		return nil
	}
	name := i.table.res.Name
	switch i.fault.Kind {
	case FaultNoRelationship:
		p := problem(http.StatusForbidden, "security:authorization", "Authorization Denied",
			"Access to the requested data could not be authorized.",
			"No relationships have been established between the caller's education organization id claims and one or more properties of the resource item.")
		return p
	case FaultDenied:
		return problem(http.StatusForbidden, "security:authorization:access-denied:action", "Authorization Denied",
			"Access to the requested data could not be authorized.",
			"The API client's assigned claim set does not grant permission of the requested action on the resource '"+name+"'.")
	case FaultUnresolved:
		return (&refusal{kind: refusedUnresolved, name: name}).problem("")
	case FaultDependent:
		return (&refusal{kind: refusedDependent, name: name}).problem("")
	case FaultDuplicate:
		return (&refusal{kind: refusedDuplicate, name: name, keys: "that of another item"}).problem("")
	case FaultConflict:
		return conflict("multi-user-conflict", "Multi-User Conflict", "The item has been modified by another user.")
	case FaultKeyChange:
		return (&refusal{kind: refusedKeyChange, name: name}).problem("")
	case FaultGone:
		return notFound(map[string]string{http.MethodPut: textNoUpdate, http.MethodDelete: textNoDelete, http.MethodGet: textNoItem}[i.r.Method])
	case FaultNoRoute:
		return notFound(textNoResource)
	case FaultChanged:
		return (&refusal{kind: refusedPrecondition}).problem("")
	}
	return nil
}

// spoil sends the answer of a call that was done, but not as it is.
func (i *injury) spoil(c *captured) {
	h := c.header
	at := h.Get("Location")
	switch i.fault.Kind {
	case FaultNoLocation:
		h.Del("Location")
	case FaultLocationHost:
		setLocation(h, at, func(u *url.URL) string { return i.host() + u.RequestURI() })
	case FaultLocationRelative:
		setLocation(h, at, (*url.URL).RequestURI)
	case FaultLocationLower:
		setLocation(h, at, func(u *url.URL) string { return strings.ToLower(u.String()) })
	case FaultLocationSlash:
		setLocation(h, at, func(u *url.URL) string { return u.String() + "/" })
	case FaultTokenScope:
		var members map[string]any
		if json.Unmarshal(c.body.Bytes(), &members) == nil && members["access_token"] != nil {
			members["scope"] = "999999999"
			body, err := json.Marshal(members)
			if err == nil { // what was just read can be written
				c.body.Reset()
				c.body.Write(body)
			}
		}
	case FaultLate:
		i.late(at)
	case FaultBig:
		c.body.Write(bytes.Repeat([]byte(" "), bigAnswer)) // space after the JSON is still JSON
	case FaultTruncate:
		i.truncate(c)
		return
	case FaultSlow:
		i.trickle(c)
		return
	case FaultBomb:
		i.bomb(c)
		return
	}
	c.copyTo(i.w)
}

func setLocation(h http.Header, at string, change func(*url.URL) string) {
	if u, err := url.Parse(at); err == nil && at != "" {
		h.Set("Location", change(u))
	}
}

// late hides what the call created.
func (i *injury) late(location string) {
	id := location[strings.LastIndexByte(location, '/')+1:]
	if row, _, ok := i.s.ids.row(i.table, id); ok {
		i.s.store.late.hide(address{i.table, row}, i.s.opts.Now().Add(i.delay(2*time.Second)))
	}
}

// truncate announces the whole answer and sends half of it; an answer without a body announces one.
func (i *injury) truncate(c *captured) {
	body := c.body.Bytes()
	if len(body) == 0 {
		body = []byte("{}")
	}
	c.header.Set("Content-Length", strconv.Itoa(len(body)))
	c.headTo(i.w)
	_, _ = i.w.Write(body[:len(body)/2]) // the client may have gone
	flush(i.w)
	panic(http.ErrAbortHandler)
}

// trickle sends the answer byte by byte; one without a body gets a minute's worth of space.
func (i *injury) trickle(c *captured) {
	body := c.body.Bytes()
	if len(body) == 0 {
		body = bytes.Repeat([]byte(" "), 60)
		if c.status == http.StatusNoContent {
			c.status = http.StatusOK // 204 cannot have a body
		}
	}
	c.header.Set("Content-Length", strconv.Itoa(len(body)))
	c.headTo(i.w)
	for n := range body {
		flush(i.w)
		i.wait(i.delay(time.Second))
		if i.r.Context().Err() != nil {
			panic(http.ErrAbortHandler)
		}
		_, _ = i.w.Write(body[n : n+1]) // the context says when the client has gone
	}
}

// bomb sends the answer as the beginning of very much space, compressed.
func (i *injury) bomb(c *captured) {
	if c.status == http.StatusNoContent {
		c.status = http.StatusOK
	}
	c.header.Del("Content-Length")
	c.header.Set("Content-Encoding", "gzip")
	c.headTo(i.w)
	member := func(data []byte) []byte {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		_, _ = z.Write(data) // a buffer takes everything
		_ = z.Close()
		return b.Bytes()
	}
	_, _ = i.w.Write(member(c.body.Bytes())) // the client may have gone
	space := member(bytes.Repeat([]byte(" "), bombMember))
	for range bombSize / bombMember {
		if _, err := i.w.Write(space); err != nil {
			return
		}
	}
}

// captured is an answer that is not sent yet.
type captured struct {
	header http.Header
	status int
	body   bytes.Buffer
}

// Header is http.ResponseWriter's.
func (c *captured) Header() http.Header { return c.header }

// WriteHeader is http.ResponseWriter's.
func (c *captured) WriteHeader(status int) {
	if c.status == 0 {
		c.status = status
	}
}

// Write is http.ResponseWriter's.
func (c *captured) Write(b []byte) (int, error) {
	c.WriteHeader(http.StatusOK)
	return c.body.Write(b)
}

func (c *captured) headTo(w http.ResponseWriter) {
	for name, values := range c.header {
		w.Header()[name] = values
	}
	w.WriteHeader(c.status)
}

func (c *captured) copyTo(w http.ResponseWriter) {
	if c.body.Len() > 0 && c.status == http.StatusNoContent {
		c.status = http.StatusOK
	}
	if c.header.Get("Content-Length") != "" {
		c.header.Set("Content-Length", strconv.Itoa(c.body.Len()))
	}
	c.headTo(w)
	_, _ = w.Write(c.body.Bytes()) // the client may have gone
}

func flush(w http.ResponseWriter) {
	if f, ok := w.(http.Flusher); ok {
		f.Flush()
	}
}
