package sync_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync/atomic"
)

// warnings is a slog.Handler that counts warnings.
type warnings struct{ n *atomic.Int64 }

// Enabled is slog.Handler's.
func (w warnings) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelWarn }

// Handle is slog.Handler's.
func (w warnings) Handle(context.Context, slog.Record) error {
	w.n.Add(1)
	return nil
}

// WithAttrs is slog.Handler's.
func (w warnings) WithAttrs([]slog.Attr) slog.Handler { return w }

// WithGroup is slog.Handler's.
func (w warnings) WithGroup(string) slog.Handler { return w }

// token asks the sandbox at base for a token.
func (w *world) token(base string) string {
	w.t.Helper()
	r, err := http.PostForm(base+"/oauth/token", url.Values{"grant_type": {"client_credentials"}, "client_id": {"id"}, "client_secret": {"secret"}})
	if err != nil {
		w.t.Fatal(err)
	}
	defer r.Body.Close()
	var answer struct {
		AccessToken string `json:"access_token"`
	}
	if err := json.NewDecoder(r.Body).Decode(&answer); err != nil || answer.AccessToken == "" {
		w.t.Fatalf("no token: %d, %v", r.StatusCode, err)
	}
	return answer.AccessToken
}

// idOf finds the id of the one record of a collection a query selects.
func (w *world) idOf(collection, query string) string {
	w.t.Helper()
	srv := httptest.NewServer(w.sandbox.Handler())
	defer srv.Close()
	req, err := http.NewRequestWithContext(w.t.Context(), http.MethodGet, srv.URL+"/data/v3/ed-fi/"+collection+"?"+query, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+w.token(srv.URL))
	r, err := http.DefaultClient.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer r.Body.Close()
	var items []struct{ ID string }
	if err := json.NewDecoder(r.Body).Decode(&items); err != nil || len(items) != 1 {
		w.t.Fatalf("%s?%s: got %d items, %v", collection, query, len(items), err)
	}
	return items[0].ID
}
