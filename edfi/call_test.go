package edfi

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// faultyPost answers the first calls by faults, one each, and later ones like a healthy host. It returns the number of calls made.
func faultyPost(h *host, faults ...http.HandlerFunc) *atomic.Int64 {
	calls := new(atomic.Int64)
	h.data("POST /ed-fi/students", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if n := int(calls.Add(1)); n <= len(faults) {
			faults[n-1](w, r)
			return
		}
		h.created(testID)(w, r)
	})
	return calls
}

func status(code int, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i+1 < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(code)
	}
}

func problemAnswer(code int, typeSuffix string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, code, map[string]any{"type": typePrefix + typeSuffix, "status": code, "correlationId": "00000000-0000-0000-0000-0000000000c1"})
	}
}

// hangUp breaks the connection without an answer.
func hangUp(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

func htmlPage(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/html")
	_, _ = io.WriteString(w, "<html>Sign in</html>")
}

func TestPostUnderFaults(t *testing.T) {
	t.Parallel()
	always := func(fn http.HandlerFunc) []http.HandlerFunc { return []http.HandlerFunc{fn, fn, fn, fn} }
	tests := []struct {
		name     string
		faults   []http.HandlerFunc
		calls    int64
		class    Class // 0 means success
		code     string
		sent     bool
		repeated bool
	}{
		{"the connection breaks before the answer (F6)", []http.HandlerFunc{hangUp}, 2, 0, "", false, true},
		{"it breaks every time", always(hangUp), 4, Transient, "dropped", true, false},
		{"500, then well (F14)", []http.HandlerFunc{status(500)}, 2, 0, "", false, true},
		{"502, 503, 504, then well (F14)", []http.HandlerFunc{status(502), status(503), status(504)}, 4, 0, "", false, true},
		{"500 for good (F14)", always(problemAnswer(500, "system")), 4, Transient, "target-error", true, false},
		{"429 with seconds (F15)", []http.HandlerFunc{status(429, "Retry-After", "0")}, 2, 0, "", false, false},
		{"429 without a time (F15)", []http.HandlerFunc{status(429)}, 2, 0, "", false, false},
		{"429 with an absurd time is capped (F15)", []http.HandlerFunc{status(429, "Retry-After", "1000000000")}, 2, 0, "", false, false},
		{"429 with a date (F15)", []http.HandlerFunc{status(429, "Retry-After", "Fri, 31 Dec 2100 23:59:59 GMT")}, 2, 0, "", false, false},
		{"429 for good was surely not done", always(status(429)), 4, Transient, "too-many-requests", false, false},
		{"500, then 429 for good may have been done", append([]http.HandlerFunc{status(500)}, always(status(429))...), 4, Transient, "too-many-requests", true, false},
		{"a web page for an answer (F9)", []http.HandlerFunc{htmlPage}, 2, 0, "", false, true},
		{"a web page for good (F9)", always(htmlPage), 4, Transient, "not-the-api", true, false},
		{"a concurrent write", []http.HandlerFunc{problemAnswer(409, "data-conflict:multi-user-conflict")}, 2, 0, "", false, false},
		{"a missing parent is not repeated (F22)", always(problemAnswer(409, "data-conflict:unresolved-reference")), 1, Blocked, "unresolved-reference", false, false},
		{"a refused content is not repeated", always(problemAnswer(400, "bad-request:data-validation-failed")), 1, Invalid, "data-validation-failed", false, false},
		{"a refused operation is not repeated", always(problemAnswer(403, "security:authorization:access-denied:action")), 1, Rejected, "claim-denied", false, false},
		{"a 201 without Location (F11)", always(status(201)), 1, Transient, "no-id", true, false},
		{"a 200 without body or id (F10, F11)", always(status(200)), 1, Transient, "no-id", true, false},
		{"a Location that is the collection (F11)", always(status(201, "Location", "/api/data/v3/ed-fi/students/")), 1, Transient, "no-id", true, false},
		{"an answer cut in its body after the write (F8)", []http.HandlerFunc{func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", r.URL.Path+"/"+testID)
			w.Header().Set("Content-Length", "100")
			w.WriteHeader(http.StatusCreated)
			_, _ = io.WriteString(w, `{"a":`)
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}}, 1, 0, "", false, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t, nil)
			h.Config.ErrorLog = discardLog()
			calls := faultyPost(h, tt.faults...)
			c := h.client(t, func(c *Config) { c.MaxRetries = 3 })
			answer, err := c.Post(t.Context(), "ed-fi/students", []byte(`{"studentUniqueId":"SECRET"}`))
			if got := calls.Load(); got != tt.calls {
				t.Errorf("%d calls, want %d", got, tt.calls)
			}
			if tt.class == 0 {
				if err != nil || answer.ID != testID || !answer.Created || answer.Repeated != tt.repeated {
					t.Errorf("answer %+v, error %v, want id, created, repeated=%v", answer, err, tt.repeated)
				}
				return
			}
			e := failureOf(t, err)
			if e.Class != tt.class || e.Code != tt.code || e.Sent != tt.sent || int64(e.Attempts) != tt.calls {
				t.Errorf("got %v %s sent=%v attempts=%d (%v), want %v %s sent=%v", e.Class, e.Code, e.Sent, e.Attempts, e, tt.class, tt.code, tt.sent)
			}
			if tt.code == "no-id" && (!errors.Is(err, ErrNoID) || answer.Status == 0) {
				t.Errorf("answer %+v, error %v, want the status and ErrNoID", answer, err)
			}
		})
	}
}

// A proxy's bare 200 must not pass for a PUT or DELETE that was done: nothing would ever send it again (F10).
func TestABare200ToAPutOrDeleteIsNoAnswer(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		answer http.HandlerFunc
		done   bool
	}{
		{"200 with nothing", status(200), false},
		{"200 with an ETag", status(200, "ETag", `"7"`), true},
		{"200 with JSON", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, 200, map[string]string{"id": testID}) }, true},
		{"204", status(204), true},
		{"201", status(201), true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t, nil)
			h.data("PUT /ed-fi/students/"+testID, tt.answer)
			h.data("DELETE /ed-fi/students/"+testID, tt.answer)
			c := h.client(t, func(c *Config) { c.MaxRetries = 1 })
			_, put := c.Put(t.Context(), "ed-fi/students", testID, []byte(`{}`))
			_, del := c.Delete(t.Context(), "ed-fi/students", testID)
			for _, err := range []error{put, del} {
				if tt.done {
					if err != nil {
						t.Error(err)
					}
					continue
				}
				if e := failureOf(t, err); e.Class != Transient || !e.Sent {
					t.Errorf("got %v sent=%v, want transient, sent", e.Class, e.Sent)
				}
			}
		})
	}
}

func TestTimeoutsCoverTheWholeAnswer(t *testing.T) {
	t.Parallel()
	drip := func(w http.ResponseWriter, r *http.Request) { // F16: a byte at a time
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Length", "1000")
		for range 1000 {
			if _, err := io.WriteString(w, " "); err != nil || r.Context().Err() != nil {
				return
			}
			w.(http.Flusher).Flush()
			select {
			case <-r.Context().Done():
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	}
	silent := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() } // F5
	for name, handler := range map[string]http.HandlerFunc{"no answer (F5)": silent, "a byte at a time (F16)": drip} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t, nil)
			h.data("GET /ed-fi/students/"+testID, handler)
			c := h.client(t, func(c *Config) { c.Timeout, c.MaxRetries = 80*time.Millisecond, 1 })
			_, _, err := c.Get(t.Context(), "ed-fi/students", testID)
			if e := failureOf(t, err); e.Code != "timeout" || e.Attempts != 2 {
				t.Errorf("got %v after %d attempts, want a timeout after 2", e, e.Attempts)
			}
		})
	}
}

func TestResponsesAreBounded(t *testing.T) {
	t.Parallel()
	big := bytes.Repeat([]byte("[[[[[[[["), 1<<13) // 64 KiB
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	for range 128 {
		_, _ = z.Write(big)
	}
	z.Close()
	h := newHost(t, nil)
	h.data("GET /ed-fi/students/1", func(w http.ResponseWriter, _ *http.Request) { // F17
		for range 10 {
			if _, err := w.Write(big); err != nil {
				return
			}
		}
	})
	h.data("GET /ed-fi/students/2", func(w http.ResponseWriter, r *http.Request) { // F18
		if r.Header.Get("Accept-Encoding") != "gzip" {
			t.Error("a read does not accept gzip")
		}
		w.Header().Set("Content-Encoding", "gzip")
		_, _ = w.Write(bomb.Bytes())
	})
	h.data("GET /ed-fi/students/3", func(w http.ResponseWriter, _ *http.Request) { // F17
		w.WriteHeader(400)
		for range 10 {
			if _, err := w.Write(big); err != nil {
				return
			}
		}
	})
	c := h.client(t, func(c *Config) { c.MaxResponse = 1 << 18 })
	for id, code := range map[string]string{"1": "response-too-large", "2": "response-too-large", "3": "refused-before-api"} {
		_, _, err := c.Get(t.Context(), "ed-fi/students", id)
		if e := failureOf(t, err); e.Code != code || len(e.Body) > maxErrorBody {
			t.Errorf("get %s: %v with %d bytes, want %s", id, e, len(e.Body), code)
		}
	}
}

func TestCancellationIsPrompt(t *testing.T) { // I19
	t.Parallel()
	tests := []struct {
		name    string
		handler http.HandlerFunc
		sent    bool
	}{
		{"while a call is under way", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, true},
		{"while waiting for the next attempt", status(429, "Retry-After", "3600"), false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t, nil)
			arrived := make(chan struct{})
			var once sync.Once
			h.data("POST /ed-fi/students", func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				once.Do(func() { close(arrived) })
				tt.handler(w, r)
			})
			c := h.client(t, func(c *Config) { c.MaxRetryAfter = time.Hour })
			ctx, cancel := context.WithCancel(t.Context())
			failed := make(chan error)
			go func() {
				_, err := c.Post(ctx, "ed-fi/students", []byte(`{}`))
				failed <- err
			}()
			<-arrived
			for !tt.sent && !c.limiter.silenced() {
				time.Sleep(time.Millisecond) // until the answer has been read
			}
			cancel()
			err := <-failed
			e := failureOf(t, err)
			if !errors.Is(err, context.Canceled) || e.Class != Transient || e.Sent != tt.sent {
				t.Errorf("got %v %v sent=%v, want a cancelled transient error, sent=%v", e.Class, e, e.Sent, tt.sent)
			}
		})
	}
}

func TestNothingIsSentAfterCancellation(t *testing.T) { // I19
	t.Parallel()
	h := newHost(t, nil)
	calls := faultyPost(h)
	c := h.client(t)
	if err := c.Login(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := c.Post(ctx, "ed-fi/students", []byte(`{}`))
	if e := failureOf(t, err); !errors.Is(err, context.Canceled) || e.Sent || calls.Load() != 0 {
		t.Errorf("post after cancellation: %v sent=%v, %d calls", e, e.Sent, calls.Load())
	}
}

func TestTheGuardIsAskedBeforeEveryAttempt(t *testing.T) { // I7
	t.Parallel()
	fenced := errors.New("lease lost")
	var asked atomic.Int64
	check := func() error {
		if asked.Add(1) > 2 {
			return fenced
		}
		return nil
	}
	h := newHost(t, nil)
	calls := faultyPost(h, status(503), status(503), status(503), status(503))
	c := h.client(t)
	guarded := c.Guarded(check)
	_, err := guarded.Post(t.Context(), "ed-fi/students", []byte(`{}`))
	e := failureOf(t, err)
	if !errors.Is(err, fenced) || e.Class != Stop || !e.Sent || calls.Load() != 2 {
		t.Errorf("got %v %v sent=%v after %d calls, want a stop that wraps the guard's error after 2", e.Class, e, e.Sent, calls.Load())
	}
	if _, err := guarded.Put(t.Context(), "ed-fi/students", testID, []byte(`{}`)); !errors.Is(err, fenced) || failureOf(t, err).Sent {
		t.Errorf("put: %v, want the guard's error and nothing sent", err)
	}
	if _, err := guarded.Delete(t.Context(), "ed-fi/students", testID); !errors.Is(err, fenced) {
		t.Errorf("delete: %v, want the guard's error", err)
	}
	h.data("GET /ed-fi/students/"+testID, func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, 200, map[string]string{"id": testID}) })
	if _, _, err := guarded.Get(t.Context(), "ed-fi/students", testID); err != nil {
		t.Errorf("get is guarded: %v", err)
	}
	if got := c.limiter.inFlight; got != 0 {
		t.Errorf("%d places are not given back", got)
	}
}

func TestTheTargetsConcurrencyIsRespected(t *testing.T) {
	t.Parallel()
	h := newHost(t, nil)
	var inFlight, most atomic.Int64
	h.data("POST /ed-fi/students", func(w http.ResponseWriter, r *http.Request) {
		n := inFlight.Add(1)
		for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
		}
		time.Sleep(time.Millisecond)
		inFlight.Add(-1)
		h.created(testID)(w, r)
	})
	c := h.client(t, func(c *Config) { c.MaxConcurrency = 4 })
	var group sync.WaitGroup
	for range 20 {
		group.Go(func() {
			for range 10 {
				if _, err := c.Post(t.Context(), "ed-fi/students", []byte(`{}`)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	if got := most.Load(); got > 4 || got < 2 {
		t.Errorf("%d calls were in flight, want up to 4", got)
	}
	if got := c.Concurrency(); got != 4 {
		t.Errorf("concurrency %d, want 4", got)
	}
}

func TestTheCallersBufferIsItsOwnAfterwards(t *testing.T) {
	t.Parallel()
	h := newHost(t, nil)
	h.data("POST /ed-fi/students", func(w http.ResponseWriter, _ *http.Request) { problemAnswer(413, "x")(w, nil) }) // answers before it has read
	c := h.client(t)
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			body := bytes.Repeat([]byte("x"), 1<<20)
			for range 20 {
				_, _ = c.Post(t.Context(), "ed-fi/students", body)
				clear(body) // the race detector finds a transport that still reads
			}
		})
	}
	group.Wait()
}

func TestLogsHoldNoValuesOfRecords(t *testing.T) { // I14, I15
	t.Parallel()
	var logged bytes.Buffer
	var mu sync.Mutex
	logger := slog.New(slog.NewJSONHandler(writerFunc(func(b []byte) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		return logged.Write(b)
	}), &slog.HandlerOptions{Level: slog.LevelDebug}))
	h := newHost(t, nil)
	faultyPost(h, func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, 409, map[string]any{"type": typePrefix + "data-conflict:non-unique-identity", "errors": []string{"The duplicate key is (StudentUniqueId) = (CANARY)."}})
	}, status(201, "Location", "http://inner.example.org/data/v3/ed-fi/students/"+testID))
	h.data("GET /ed-fi/students", func(w http.ResponseWriter, _ *http.Request) { hangUp(w, nil) })
	h.Config.ErrorLog = discardLog()
	c := h.client(t, func(c *Config) { c.Logger, c.MaxRetries = logger, 1 })
	var texts []string
	_, err := c.Post(t.Context(), "ed-fi/students", []byte(`{"studentUniqueId":"CANARY"}`))
	texts = append(texts, err.Error(), fmt.Sprintf("%v", err))
	for range 2 {
		if answer, err := c.Post(t.Context(), "ed-fi/students", []byte(`{"studentUniqueId":"CANARY"}`)); err != nil || answer.ID != testID {
			t.Fatalf("post: %+v %v", answer, err)
		}
	}
	_, _, _, err = c.FindByKey(t.Context(), "ed-fi/students", map[string][]string{"studentUniqueId": {"CANARY"}})
	texts = append(texts, err.Error())
	texts = append(texts, logged.String())
	for _, text := range texts {
		for _, forbidden := range []string{"CANARY", testSecret, "token-1", testID} {
			if strings.Contains(text, forbidden) {
				t.Errorf("%q is in %s", forbidden, text)
			}
		}
	}
	if got := strings.Count(logged.String(), "another host"); got != 1 {
		t.Errorf("a Location on another host was warned of %d times, want once", got)
	}
	if !strings.Contains(logged.String(), `"verb":"POST","resource":"ed-fi/students","status":201`) {
		t.Errorf("no line of the call in %s", logged.String())
	}
}

type writerFunc func([]byte) (int, error)

func (fn writerFunc) Write(b []byte) (int, error) { return fn(b) }

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	for value, want := range map[string]time.Duration{
		"":                              0,
		"7":                             7 * time.Second,
		" 7 ":                           7 * time.Second,
		"-7":                            0,
		"soon":                          0,
		"1000000000":                    maxRetryAfter,
		"99999999999999999999":          0,
		"Sun, 22 Nov 2026 12:00:30 GMT": 30 * time.Second,
		"Sun, 22 Nov 2026 11:00:00 GMT": 0,
		"Fri, 31 Dec 9999 23:59:59 GMT": maxRetryAfter,
	} {
		if got := retryAfter(http.Header{"Retry-After": {value}}, now); got != want {
			t.Errorf("Retry-After %q is %v, want %v", value, got, want)
		}
	}
}
