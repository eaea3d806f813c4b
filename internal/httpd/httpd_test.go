package httpd

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestServerServesUntilClosed(t *testing.T) {
	t.Parallel()
	hello := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") })
	s, err := Listen(t.Context(), "127.0.0.1:0", hello, Options{})
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.Get(s.URL())
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(r.Body)
	_ = r.Body.Close()
	if string(body) != "hello" {
		t.Errorf("got %q, want hello", body)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("second close: %v", err)
	}
	if _, err := http.Get(s.URL()); err == nil {
		t.Error("the server still answers after Close")
	}
}

func TestServerStopsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	s, err := Listen(ctx, "127.0.0.1:0", http.NotFoundHandler(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	<-s.Done()
}

func TestListenSaysWhichAddressIsTaken(t *testing.T) {
	t.Parallel()
	s, err := Listen(t.Context(), "127.0.0.1:0", http.NotFoundHandler(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	addr := strings.TrimPrefix(s.URL(), "http://")
	if _, err := Listen(t.Context(), addr, http.NotFoundHandler(), Options{}); err == nil || !strings.Contains(err.Error(), addr) {
		t.Errorf("got %v, want an error naming %s", err, addr)
	}
}

func TestURLOfAnUnspecifiedAddressIsUsable(t *testing.T) {
	t.Parallel()
	s, err := Listen(t.Context(), ":0", http.NotFoundHandler(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	if !strings.HasPrefix(s.URL(), "http://127.0.0.1:") {
		t.Errorf("got %s", s.URL())
	}
}

func TestProblemLeavesOutWhatIsEmpty(t *testing.T) {
	t.Parallel()
	w := httptest.NewRecorder()
	(&Problem{Type: "about:blank", Title: "Not Found", Status: 404}).Write(w, "application/json")
	var got map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{"type": "about:blank", "title": "Not Found", "status": 404.0}
	if d := cmp.Diff(want, got); d != "" || w.Code != 404 {
		t.Errorf("status %d, (-want +got):\n%s", w.Code, d)
	}
}
