package httpd

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestAnObserverIsToldOfEveryRequestByTheRouteOnly(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var seen []string
	rt := NewRouter(RouterConfig{Observe: func(pattern string, rule Rule, status int, _ time.Duration) {
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, fmt.Sprint(pattern, " ", rule.Stream, " ", status))
	}})
	public := Rule{Public: true}
	rt.Handle("GET /things/{id}", public, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "thing") }))
	rt.Handle("POST /things", public, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusCreated) }))
	rt.Handle("GET /panics", public, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("student 4711") }))
	rt.Handle("GET /events", Rule{Public: true, Stream: true}, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if err := http.NewResponseController(w).Flush(); err != nil {
			t.Errorf("a stream cannot be flushed: %v", err)
		}
	}))
	server := httptest.NewServer(rt)
	defer server.Close()
	for _, c := range [][2]string{{"GET", "/things/4711"}, {"POST", "/things"}, {"GET", "/panics"}, {"GET", "/events"}, {"GET", "/nothing/4711"}, {"DELETE", "/things"}} {
		request, err := http.NewRequestWithContext(t.Context(), c[0], server.URL+c[1], http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
	}
	server.Close() // waits for handlers
	want := []string{" false 404", " false 405", "GET /events true 200", "GET /panics false 500", "GET /things/{id} false 200", "POST /things false 201"}
	slices.Sort(seen)
	if d := cmp.Diff(want, seen); d != "" {
		t.Errorf("told (-want +got):\n%s", d)
	}
}
