package simulate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// fault is what becomes of one call.
type fault uint8

const (
	noFault fault = iota
	lostAfter
	lostBefore
	refused
	status503
	status500
	status502After
	status504After
	status429
	status401
	status403
	timeoutAfter
	timeoutBefore
	pageInstead
	page404
	multiUser
	noLocation
	otherHost
	slow
	faults
)

// weights says how often each fault is drawn, in 100.
func (f fault) weight() int {
	return [faults]int{
		0, 24, 12, 8, 8, 4, 4, 4, 6, 4, 2, 4, 3, 3, 2, 3, 2, 3, 4,
	}[f]
}

func (f fault) String() string {
	return [faults]string{
		"ok", "answer lost after commit", "lost before commit", "connection refused", "503", "500", "502 after commit", "504 page after commit", "429", "401",
		"403 claim", "timeout after commit", "timeout before commit", "200 page instead of the API", "404 page instead of the API", "409 multi-user", "no Location",
		"Location at another host", "slow",
	}[f]
}

// forWrites tells the faults that only make sense for calls that change something.
func drawFault(r *rand.Rand, method string) fault {
	n := r.IntN(100)
	for f := range faults {
		if n -= f.weight(); n < 0 {
			if (f == noLocation || f == otherHost) && method != http.MethodPost {
				return lostAfter
			}
			return f
		}
	}
	return slow
}

var errReset = errors.New("read: connection reset by peer")

// RoundTrip carries a call of the process to the target: http.RoundTripper.
func (p *process) RoundTrip(req *http.Request) (*http.Response, error) {
	var body []byte
	if req.Body != nil {
		body = make([]byte, req.ContentLength) // the client always knows it
		if _, err := io.ReadFull(req.Body, body); err != nil {
			return nil, err
		}
		_ = req.Body.Close()
	}
	c := p.w.describe(p, req, body)
	n := p.attempt("call", c.label, "")
	p.w.gate.pass(p.name, "call", c.label, n)
	late, err := p.enter()
	if err != nil {
		return nil, err
	}
	r := p.w.rollCall(p.name, "call", c.label, "", n)
	f := noFault
	if c.kind >= 0 || c.token {
		p.started(c)
		if r.Float64() < p.calls {
			f = drawFault(r.Rand, req.Method)
		}
		if c.token && f != refused && f != status503 && f != slow && f != lostAfter {
			f = noFault
		}
	}
	c.first = n == 1
	if f != noFault {
		p.hit()
		p.w.note("%s: %s: %s", p.name, c.label, f)
	}
	latency := time.Duration(1+r.IntN(60)) * time.Millisecond
	if p.crawl && c.kind >= 0 {
		latency = time.Duration(4+r.IntN(16)) * time.Second
		if p.cutFor > 0 {
			latency += 9 * time.Second // a batch shall last longer than a lease that is not renewed
		}
	}
	switch f {
	case slow:
		latency = time.Duration(2+r.IntN(24)) * time.Second
	case timeoutAfter:
		latency = 45 * time.Second
	case timeoutBefore:
		latency = 100 * time.Second // half of which is beyond the deadline
	}
	diceCup.Put(r)
	a, err := p.travel(req.Context(), c, f, latency, body, late, n)
	if c.method == http.MethodPost && c.kind >= 0 && f != refused && (err != nil || a.status >= 500 || f == pageInstead || f == page404) {
		p.w.committing.Lock()
		what := p.conn.creates(p.w.u.kinds[c.kind], []byte(c.key))
		p.w.committing.Unlock()
		p.w.leaveUnclear(p.conn, what) // a repeat answered 200 may be the record this one made
	}
	p.w.gate.pass(p.name, "answer", c.label, n)
	if p.w.gate.on() {
		p.w.trace("call", p.name, c.label, fmt.Sprint(f, a.status, err != nil))
	}
	if err != nil {
		return nil, err
	}
	if p.isDead() {
		return nil, errDead
	}
	return a.response(req), nil
}

// travel waits, lets the target do the call in the middle of the way, and brings back an answer.
func (p *process) travel(ctx context.Context, c *callInfo, f fault, latency time.Duration, body []byte, late bool, n int) (answer, error) {
	if f == refused {
		return answer{}, &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("connection refused")}
	}
	if err := p.w.rest(ctx, latency/2); err != nil {
		return answer{}, err
	}
	p.w.gate.pass(p.name, "arrival", c.label, n)
	if p.isDead() && p.w.rollCall(p.name, "flying", c.label, "", n).IntN(2) == 0 {
		return answer{}, errDead // it never left; the other half of the calls in flight arrive
	}
	var a answer
	switch f {
	case lostBefore, timeoutBefore:
	case status503:
		a = problem(503, "service-unavailable", "")
	case status500:
		a = problem(500, "system", "An unexpected problem has occurred.")
	case status429:
		a = problem(429, "too-many-requests", "")
		a.header.Set("Retry-After", fmt.Sprint(1+latency/(20*time.Millisecond)))
	case status401:
		a = problem(401, "security:authentication", "The caller could not be authenticated.")
	case status403:
		a = problem(403, "security:authorization:access-denied:action", "Access to the resource could not be authorized.")
	case multiUser:
		a = problem(409, "data-conflict:multi-user-conflict", "")
	case pageInstead:
		a = page(200)
	case page404:
		a = page(404)
	default:
		a = p.w.commit(p, c, body, f)
	}
	if late {
		p.dieNow()
		return answer{}, errDead
	}
	if err := p.w.rest(ctx, latency-latency/2); err != nil {
		return answer{}, err
	}
	switch f {
	case lostAfter, lostBefore, timeoutAfter, timeoutBefore:
		return answer{}, errReset
	case status502After:
		return problem(502, "bad-gateway", ""), nil
	case status504After:
		return page(504), nil
	case noLocation:
		a.header.Del("Location")
	case otherHost:
		if at, err := url.Parse(a.header.Get("Location")); err == nil && at.Host != "" {
			at.Host = "inner.example:8443"
			a.header.Set("Location", at.String())
		}
	}
	return a, nil
}

// rest waits in virtual time.
func (w *world) rest(ctx context.Context, d time.Duration) error {
	t := w.timer(d)
	var err error
	select {
	case <-t.C:
	case <-ctx.Done():
		t.Stop()
		err = ctx.Err()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.timers = append(w.timers, t)
	return err
}

// timer is one that nobody uses any more, or a new one.
func (w *world) timer(d time.Duration) *time.Timer {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := len(w.timers)
	if n == 0 {
		return time.NewTimer(d)
	}
	t := w.timers[n-1]
	w.timers = w.timers[:n-1]
	t.Reset(d)
	return t
}

// longestWait is how long a call may wait for its turn with a token in its hand: as long as a target may ask for silence.
const longestWait = 3 * time.Minute

// started is told of every call that leaves the process.
func (p *process) started(c *callInfo) {
	if expired := p.w.expiry(c); c.kind >= 0 && !expired.IsZero() && time.Since(expired) > longestWait {
		p.w.violate("token", "%s sends %s with a token that expired %s ago", p.name, c.label, time.Since(expired))
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.token {
		p.tokens++
	}
	if c.write && !p.stopAt.IsZero() && time.Since(p.stopAt) > 2*time.Second {
		p.w.violate("I19", "%s starts %s %s after it was told to stop", p.name, c.label, time.Since(p.stopAt))
	}
}

// answer is a response of the target: http.ResponseWriter.
type answer struct {
	status int
	header http.Header
	body   bytes.Buffer
}

func (a *answer) Header() http.Header         { return a.header }
func (a *answer) WriteHeader(status int)      { a.status = status }
func (a *answer) Write(b []byte) (int, error) { return a.body.Write(b) }

func (a *answer) response(req *http.Request) *http.Response {
	return &http.Response{
		StatusCode: a.status, Header: a.header, Body: io.NopCloser(bytes.NewReader(a.body.Bytes())), ContentLength: int64(a.body.Len()),
		Request: req, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}
}

func problem(status int, kind, detail string) answer {
	a := answer{status: status, header: http.Header{"Content-Type": {"application/json"}}}
	fmt.Fprintf(&a.body, `{"detail":%q,"type":"urn:ed-fi:api:%s","title":"x","status":%d}`, detail, kind, status)
	return a
}

// unrelated says that an item is there, and nothing authorises us for it yet.
func unrelated() answer {
	return problem(403, "security:authorization", "Access to the resource item could not be authorized. No relationships have been established.")
}

func page(status int) answer {
	a := answer{status: status, header: http.Header{"Content-Type": {"text/html"}}}
	a.body.WriteString("<html><body>Sign in</body></html>")
	return a
}

// callInfo is what the simulation knows of a call.
type callInfo struct {
	label  string // names the call the same way in every replay
	method string
	url    *url.URL
	header http.Header
	kind   int // -1 = none
	id     string
	key    string // of a POST
	write  bool
	token  bool
	intent string // that announces it
	first  bool   // of its kind by the process
	had    *held  // of a DELETE: what there was
}

const dataPath = "/data/v3/"

// describe works out what a call is about.
func (w *world) describe(p *process, req *http.Request, body []byte) *callInfo {
	c := &callInfo{method: req.Method, url: req.URL, header: req.Header, kind: -1}
	if req.URL.Host != "target.example" {
		w.violate("host", "%s calls %s", p.name, req.URL.Host)
	}
	path, ok := strings.CutPrefix(req.URL.Path, dataPath)
	if !ok {
		c.token = strings.HasSuffix(req.URL.Path, "/token")
		c.label = req.Method + " " + req.URL.Path
		return c
	}
	parts := strings.Split(path, "/")
	resource := parts[0] + "/" + parts[1]
	k, ok := w.u.byPath[resource]
	if !ok {
		c.label = req.Method + " " + path
		return c
	}
	c.kind = k
	if len(parts) > 2 {
		c.id = parts[2]
	}
	c.write = req.Method != http.MethodGet
	switch {
	case req.Method == http.MethodPost:
		key, err := w.u.kinds[k].resource.CanonicalKey(nil, body, w.rules)
		if err != nil {
			w.violate("I12", "%s sends a payload of %s nobody can read: %v", p.name, resource, err)
		}
		c.key = string(key)
		c.label = "POST " + resource + " " + c.key
	case c.id != "":
		c.label = req.Method + " " + resource + " " + w.nameOf(c.id)
	default:
		c.label = req.Method + " " + resource + "?" + req.URL.RawQuery
	}
	return c
}
