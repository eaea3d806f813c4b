package edfi

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/edfisync/edfisync/internal/failpoint"
)

// call is one logical call: attempts until an outcome.
type call struct {
	method string
	name   string   // for logs and errors: "ed-fi/students", "discovery"; never an id or a key (I14)
	url    *url.URL // not logged: it may hold a key
	body   []byte   // must not change while the call runs, nor after: a transport may read on
	header http.Header
	auth   bool  // with a token, and a place among the calls in flight
	limit  int64 // bound on the response body, 0 means Config.MaxResponse
	tries  int   // bound on attempts below Config.MaxRetries + 1, 0 means none

	write   bool         // changes an item
	guard   func() error // of a write; may be nil
	ifNone  string       // If-None-Match
	ifMatch string       // If-Match, without quotes
}

// answer is a successful response.
type answer struct {
	status   int
	header   http.Header
	body     []byte
	attempts int
	repeated bool // an earlier attempt may have reached the target
}

// call makes attempts until one succeeds, cannot succeed, or Config.MaxRetries is used up. Every write of the API is safe to repeat: POST
// is an upsert on the natural key, PUT replaces, DELETE of what is gone answers 404 (I3).
func (c *core) call(ctx context.Context, k *call) (answer, *Error) {
	var waits *backoff.ExponentialBackOff
	var renewed, sent bool
	for attempt := 1; ; attempt++ {
		a, used, err := c.attempt(ctx, k, attempt)
		if err == nil {
			a.attempts, a.repeated = attempt, sent
			return a, nil
		}
		sent = sent || err.Sent
		if err.Method == "" {
			err.Method, err.Resource = k.method, k.name
		}
		if err.Status == http.StatusUnauthorized && used != nil && !renewed {
			renewed = true
			_, ok, tokenErr := c.tokens.replace(ctx, used)
			if ok {
				continue
			}
			if tokenErr != nil {
				err = tokenErr
			}
		}
		err.Attempts, err.Sent = attempt, sent
		if !err.repeat || attempt > c.config.MaxRetries || attempt == k.tries {
			return answer{}, err
		}
		if waits == nil {
			waits = newWaits(c.config)
		}
		if pauseErr := pause(ctx, c.wait(waits, k, err)); pauseErr != nil {
			err.Err = errors.Join(pauseErr, err.Err)
			return answer{}, err
		}
	}
}

// attempt makes one HTTP exchange, within the limits, under the guard. It returns the token it used.
func (c *core) attempt(ctx context.Context, k *call, number int) (answer, *token, *Error) {
	if err := ctx.Err(); err != nil {
		return answer{}, nil, interrupted(err) // nothing was sent
	}
	header := k.header
	var used *token
	if k.auth {
		var err *Error
		if used, err = c.tokens.current(ctx); err != nil {
			return answer{}, nil, err
		}
		if header = used.read; k.write || k.body != nil {
			header = used.write
		}
		if err := c.limiter.acquire(ctx); err != nil {
			return answer{}, nil, interrupted(err)
		}
	}
	if k.guard != nil { // I7: the last thing before the call
		if err := k.guard(); err != nil {
			if k.auth {
				c.limiter.leave()
			}
			e := guardFailed().error()
			e.Err = err
			return answer{}, nil, e
		}
	}
	added, done := c.config.observe(ctx, Exchange{Method: k.method, Resource: k.name, Attempt: number, Write: k.write})
	began := time.Now()
	a, err := c.exchange(ctx, k, merged(header, added))
	ended := time.Now()
	done(Result{Status: a.status, Code: codeOf(err), Took: ended.Sub(began)})
	if k.auth {
		c.limiter.release(ended, ended.Sub(began), err != nil && isTrouble(err))
		if !used.proven.Load() && (err == nil || err.Status != 0 && err.Status != http.StatusUnauthorized) {
			used.proven.Store(true)
		}
	}
	c.logAttempt(ctx, k, number, ended.Sub(began), a.status, err)
	return a, used, err
}

// exchange sends the request and reads the whole response, within Config.Timeout.
func (c *core) exchange(parent context.Context, k *call, header http.Header) (answer, *Error) {
	ctx, cancel := context.WithTimeout(parent, c.config.Timeout)
	defer cancel()
	request := (&http.Request{
		Method: k.method, URL: k.url, Host: k.url.Host, Header: header,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}).WithContext(ctx)
	if k.body != nil {
		// No GetBody: net/http must not send a write twice by itself, past the guard (I7). What it could not begin to write it may put onto
		// another connection, within the deadline the guard counts on.
		request.Body, request.ContentLength = io.NopCloser(bytes.NewReader(k.body)), int64(len(k.body))
	}
	if k.ifMatch != "" || k.ifNone != "" {
		request.Header = conditional(header, k)
	}
	failpoint.Reach(failpoint.AttemptBefore, k.name, k.method)
	response, err := c.transport.RoundTrip(request)
	failpoint.Reach(failpoint.AttemptHeaders, k.name, k.method)
	if err != nil {
		e := networkError(parent, err)
		e.Sent = e.Sent && k.write
		return answer{}, e
	}
	defer response.Body.Close()
	success := response.StatusCode >= 200 && response.StatusCode < 300
	limit := k.limit
	switch {
	case !success:
		limit = maxErrorBody
	case limit == 0:
		limit = c.config.MaxResponse
	}
	body, err := readBody(response, limit)
	failpoint.Reach(failpoint.AttemptAfter, k.name, k.method)
	body = bytes.TrimPrefix(body, []byte("\xef\xbb\xbf")) // some web servers put a byte order mark in front
	a := answer{status: response.StatusCode, header: response.Header, body: body}
	switch {
	case !success:
		// Half an error document is still an error: what could be read decides.
		e := Classify(response.StatusCode, response.Header, body, k.method)
		e.Sent = k.write && mayHaveTakenEffect(response.StatusCode)
		e.retryAfter = retryAfter(response.Header, time.Now())
		return a, e
	case k.write && fromAPI(k.method, response, body):
		return a, nil // the status line says that the write is done, whatever became of the body
	case err != nil:
		e := networkError(parent, err)
		e.Sent = k.write
		return a, e
	case k.write || !json.Valid(body): // F9
		e := Classify(response.StatusCode, response.Header, body, k.method)
		e.Sent = k.write
		return a, e
	}
	return a, nil
}

// mayHaveTakenEffect reports whether a write that was answered so may have been done: a refusal says that it was not, a failure does not.
func mayHaveTakenEffect(status int) bool {
	return status < 300 || status >= 500 || status == http.StatusRequestTimeout
}

// fromAPI reports whether a 2xx answer to a write may come from the API: its body is empty or JSON. A proxy's page is not, nor is a bare 200 to a
// PUT or DELETE, which every version of the API answers with 204 (F9, F10): believing one would forget an update or a delete.
func fromAPI(method string, response *http.Response, body []byte) bool {
	body = bytes.TrimSpace(body)
	if len(body) == 0 {
		bare := response.StatusCode == http.StatusOK && response.Header.Get("ETag") == "" && response.Header.Get("Location") == ""
		return !(bare && method != http.MethodPost) && (response.ContentLength <= 0 || !isHTML(response.Header))
	}
	return !isHTML(response.Header) && (body[0] == '{' || body[0] == '[')
}

func conditional(header http.Header, k *call) http.Header {
	header = header.Clone()
	if k.ifMatch != "" {
		header.Set("If-Match", `"`+k.ifMatch+`"`)
	}
	if k.ifNone != "" {
		header.Set("If-None-Match", k.ifNone)
	}
	return header
}

var errTooMuch = errors.New("response exceeds its bound")

// readBody reads a body up to limit bytes after decompression: what comes beyond is not read, so neither an endless body nor a gzip bomb
// costs more (F17, F18). An error response is cut silently.
func readBody(response *http.Response, limit int64) ([]byte, error) {
	if response.ContentLength == 0 || response.Body == http.NoBody {
		return nil, nil
	}
	var buffer bytes.Buffer
	if n := response.ContentLength; n > 0 && n <= limit {
		buffer.Grow(int(n) + bytes.MinRead)
	}
	n, err := buffer.ReadFrom(io.LimitReader(response.Body, limit+1))
	if n > limit {
		return buffer.Bytes()[:limit], errTooMuch
	}
	return buffer.Bytes(), err
}

// isTrouble reports whether a failure says that the target bears no more calls.
func isTrouble(err *Error) bool {
	return err.Status == http.StatusTooManyRequests || err.Status == http.StatusServiceUnavailable ||
		err.Status == http.StatusGatewayTimeout || err.Code == timedOut().code
}

// networkError judges an error below HTTP. parent is the context without the attempt's own deadline.
func networkError(parent context.Context, err error) *Error {
	var e *Error
	var certificate *tls.CertificateVerificationError
	var operation *net.OpError
	switch {
	case parent.Err() != nil:
		e = interrupted(parent.Err())
		e.Sent = true
		return e
	case errors.Is(err, errTooMuch):
		e = tooMuch().error()
	case errors.As(err, &certificate):
		e = untrusted().error()
		e.Err = errors.New(certificateProblem(certificate))
		return e
	case isTLSFailure(err):
		e = untrusted().error()
		e.Title = "the target does not speak TLS as expected; nothing was sent"
		e.Hint = "Check https against http in the base URL, the port, and the TLS versions of the host."
		e.Err = plain(err)
		return e
	case errors.As(err, &operation) && operation.Op == "dial", isDNS(err):
		e = unreachable().error()
		e.Err = plain(err)
		return e // nothing was sent
	case isTimeout(err):
		e = timedOut().error()
	default:
		e = dropped().error()
		e.Err = plain(err)
	}
	e.Sent = true
	return e
}

// certificateProblem says what is wrong with a certificate; x509 texts hold names of hosts and dates only.
func certificateProblem(err *tls.CertificateVerificationError) string {
	return strings.TrimPrefix(err.Err.Error(), "x509: ")
}

func isTLSFailure(err error) bool {
	var header tls.RecordHeaderError
	var alert tls.AlertError
	return errors.As(err, &header) || errors.As(err, &alert) || strings.Contains(err.Error(), "server gave HTTP response to HTTPS client")
}

func isDNS(err error) bool {
	var dns *net.DNSError
	return errors.As(err, &dns)
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout()
}

// plain keeps only errors of the network, whose texts hold addresses and causes, never a URL with a key in it.
func plain(err error) error {
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		return wrapped.Err
	}
	return err
}

// interrupted is the error of a call whose context ended.
func interrupted(cause error) *Error {
	e := cancelled().error()
	e.Err = cause
	return e
}

func isContext(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

func newWaits(config Config) *backoff.ExponentialBackOff {
	return backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(config.RetryWait),
		backoff.WithMaxInterval(config.MaxRetryWait),
		backoff.WithMultiplier(2),
		backoff.WithRandomizationFactor(0.5),
		backoff.WithMaxElapsedTime(0),
	)
}

// wait says how long to pause before the next attempt, and makes all calls keep the silence a limiting target asks for (F15).
func (c *core) wait(waits *backoff.ExponentialBackOff, k *call, err *Error) time.Duration {
	d := waits.NextBackOff()
	asked := err.retryAfter
	if asked <= 0 {
		return d
	}
	if asked > c.config.MaxRetryAfter {
		c.log.Warn("target asks for a longer pause than allowed; the cap is used", "resource", k.name, "asked", asked, "cap", c.config.MaxRetryAfter)
		asked = c.config.MaxRetryAfter
	}
	if k.auth && (err.Status == http.StatusTooManyRequests || err.Status == http.StatusServiceUnavailable) {
		c.limiter.hold(time.Now().Add(asked))
	}
	return max(d, asked)
}

// retryAfter reads a Retry-After header: seconds or an HTTP date. Anything else, and the past, is 0.
func retryAfter(header http.Header, now time.Time) time.Duration {
	value := strings.TrimSpace(header.Get("Retry-After"))
	if value == "" {
		return 0
	}
	if seconds, err := strconv.ParseInt(value, 10, 64); err == nil {
		return time.Duration(min(max(seconds, 0), int64(maxRetryAfter/time.Second))) * time.Second
	}
	if at, err := http.ParseTime(value); err == nil {
		return min(max(at.Sub(now), 0), maxRetryAfter)
	}
	return 0
}

// maxRetryAfter keeps absurd values within what a time.Duration holds.
const maxRetryAfter = 10 * 365 * 24 * time.Hour

func (c *core) logAttempt(ctx context.Context, k *call, number int, took time.Duration, status int, err *Error) {
	if !c.log.Enabled(ctx, slog.LevelDebug) {
		return
	}
	attrs := []slog.Attr{
		slog.String("verb", k.method), slog.String("resource", k.name), slog.Int("status", status),
		slog.Duration("duration", took), slog.Int("attempt", number),
	}
	if err != nil {
		attrs = append(attrs, slog.String("code", err.Code))
	}
	c.log.LogAttrs(ctx, slog.LevelDebug, "call", attrs...)
}

// plainHeader is for calls without a token.
func (c *core) plainHeader() http.Header {
	return http.Header{"Accept": {"application/json"}, "User-Agent": {c.config.UserAgent}}
}
