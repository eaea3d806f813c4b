package edfi

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// watcher writes down what it is told.
type watcher struct {
	mu   sync.Mutex
	seen []string
}

func (w *watcher) Begin(_ context.Context, e Exchange) (http.Header, func(Result)) {
	return http.Header{"Traceparent": {"trace"}}, func(r Result) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.seen = append(w.seen, fmt.Sprintf("%s %s #%d write=%t: %d %s", e.Method, e.Resource, e.Attempt, e.Write, r.Status, r.Code))
	}
}

func TestAnObserverIsToldOfEveryExchange(t *testing.T) {
	t.Parallel()
	h := newHost(t, nil)
	posts, traced := 0, 0
	h.data("POST /ed-fi/students", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Traceparent") == "trace" && r.Header.Get("Authorization") != "" {
			traced++
		}
		if posts++; posts == 1 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		h.created("1234")(w, r)
	})
	h.data("DELETE /ed-fi/students/1234", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) })
	w := &watcher{}
	c, err := Connect(t.Context(), Config{BaseURL: h.URL + "/api", ClientID: testKey, ClientSecret: testSecret, RetryWait: 1, Observer: w})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Post(t.Context(), "ed-fi/students", []byte(`{}`)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Delete(t.Context(), "ed-fi/students", "1234"); ClassOf(err) != NotFound && err != nil {
		t.Fatal(err)
	}
	want := []string{
		"GET discovery #1 write=false: 200 ",
		"POST token #1 write=false: 200 ",
		"POST ed-fi/students #1 write=true: 503 unavailable",
		"POST ed-fi/students #2 write=true: 201 ",
		"DELETE ed-fi/students #1 write=true: 404 not-found",
	}
	if d := cmp.Diff(want, w.seen); d != "" {
		t.Errorf("told (-want +got):\n%s", d)
	}
	if traced != 2 {
		t.Errorf("the observer's header was on %d of 2 requests", traced)
	}
}

func TestAnObserverIsToldThatCredentialsAreRefused(t *testing.T) {
	t.Parallel()
	h := newHost(t, nil)
	w := &watcher{}
	c, err := Connect(t.Context(), Config{BaseURL: h.URL + "/api", ClientID: testKey, ClientSecret: "wrong", MaxRetries: -1, Observer: w})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Login(t.Context()); err == nil {
		t.Fatal("logged in with a wrong secret")
	}
	if got := w.seen[len(w.seen)-1]; got != "POST token #1 write=false: 401 credentials-refused" {
		t.Errorf("told %q", got)
	}
}
