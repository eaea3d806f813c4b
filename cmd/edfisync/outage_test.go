package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	gosync "sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edfisync/edfisync/alerts"
	"github.com/edfisync/edfisync/internal/dbtest"
	"github.com/edfisync/edfisync/internal/tinysis"
	"github.com/edfisync/edfisync/sandbox"
	"github.com/edfisync/edfisync/schema"
)

// pager is a webhook that believes signed calls only and acts upon each notice once.
type pager struct {
	*httptest.Server
	verifier alerts.Verifier
	mu       gosync.Mutex
	got      []alerts.Notice
	bytes    bytes.Buffer // everything that came
}

func newPager(t *testing.T, secret string) *pager {
	t.Helper()
	p := &pager{verifier: alerts.Verifier{Secrets: []string{secret}}}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		p.bytes.Write(body)
		n, err := p.verifier.Verify(r.Header.Get(alerts.SignatureHeader), body, time.Now())
		switch {
		case errors.Is(err, alerts.ErrSeen):
		case err != nil:
			t.Errorf("a call is not believed: %v", err)
			w.WriteHeader(http.StatusUnauthorized)
		default:
			p.got = append(p.got, n)
		}
	}))
	t.Cleanup(p.Close)
	return p
}

func (p *pager) told() (out []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, n := range p.got {
		out = append(out, n.Kind+" "+n.Connection+" "+string(n.Condition))
	}
	return out
}

// A scripted outage of a real service: serve and a worker that share a PostgreSQL ledger, an API that goes down, comes back and flaps, a SIS that is not there, deletes
// that are held. Receivers hear of each change once, though one of them hangs all the time.
func TestAScriptedOutageIsToldOnceForEachChange(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	model, err := schema.Bundled("5.2")
	if err != nil {
		t.Fatal(err)
	}
	sis, err := tinysis.Create(t.Context(), filepath.Join(dir, "sis.sqlite"), 60)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sis.Close() })
	if err := os.CopyFS(filepath.Join(dir, "pack"), tinysis.Pack()); err != nil {
		t.Fatal(err)
	}
	api, err := sandbox.New(sandbox.Options{Model: model, ClientID: sandboxClientID, ClientSecret: sandboxSecret, SchoolYears: []int{2026}, MaxTokens: 100})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { api.Close() })
	handler := api.Handler()
	var down atomic.Bool
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if down.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		handler.ServeHTTP(w, r)
	}))
	t.Cleanup(front.Close)
	const secret = "what only the pager and we know"
	p := newPager(t, secret)
	hanging := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // only then a server notices that the client has gone
		<-r.Context().Done()
	}))
	t.Cleanup(hanging.Close)
	text := fmt.Sprintf(`work_dir: work
log: {level: error}
ledger: {dsn: %q, key: %q}
service:
  egress: {allow: [127.0.0.1]}
  alerts:
    every: 50ms
    quiet: 1500ms
    webhooks:
      - {name: hangs, url: %q, secret: %q}
      - {name: pager, url: %q, secret: %q}
connections:
  - name: north
    school_year: 2026
    source: {driver: sqlite, dsn: sis.sqlite}
    pack: pack
    settle_delay: 1ms
    safeguards: {deletes: {percent: 1, count: 5}}
    target: {url: %q, client_id: demo, client_secret: demo-secret, timeout: 1s, retries: 0}
`, dbtest.Postgres(t), strings.Repeat("5a", 32), hanging.URL, secret, p.URL, secret, front.URL)
	file := filepath.Join(dir, "edfisync.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var made bytes.Buffer
	if code := run(t.Context(), []string{"keys", "create", "test", "--role", "admin", "--json", "-c", file}, streams{out: &made, err: &made}, os.LookupEnv); code != 0 {
		t.Fatal(made.String())
	}
	s := serveHere(t, "serve", "-c", file, "--listen", "127.0.0.1:0")
	other := serveHere(t, "worker", "-c", file)
	if err := json.Unmarshal(made.Bytes(), s); err != nil {
		t.Fatal(err)
	}
	s.Connection = "north"
	var want []string
	expect := func(notice string) {
		t.Helper()
		want = append(want, notice)
		for deadline := time.Now().Add(30 * time.Second); len(p.told()) < len(want); time.Sleep(20 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("not told: %s; only %v\n%s", notice, p.told(), s.errs)
			}
		}
	}
	silence := func() { time.Sleep(300 * time.Millisecond) } // six looks of each process

	s.sync()
	silence()
	down.Store(true)
	s.sync()
	expect("firing north target-unreachable")
	s.sync()      // still down
	for range 3 { // flapping
		down.Store(false)
		s.sync()
		silence()
		down.Store(true)
		s.sync()
		silence()
	}
	down.Store(false)
	s.sync()
	expect("recovered north target-unreachable")

	moved := filepath.Join(dir, "sis.moved")
	if err := os.Rename(filepath.Join(dir, "sis.sqlite"), moved); err != nil {
		t.Fatal(err)
	}
	s.sync()
	expect("firing north source-unreachable")
	other.stop() // one of the processes ends in the middle of it, and another begins
	serveHere(t, "worker", "-c", file)
	silence()
	if err := os.Rename(moved, filepath.Join(dir, "sis.sqlite")); err != nil {
		t.Fatal(err)
	}
	s.sync()
	expect("recovered north source-unreachable")

	if err := sis.Drop(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	s.sync()
	expect("firing north hold-waiting")
	_, body := s.call("GET", s.URL+"/api/v1/alerts", s.Key, "")
	if !bytes.Contains(body, []byte(`"condition":"hold-waiting"`)) {
		t.Errorf("the API shows %s", body)
	}
	_, body = s.call("GET", s.URL+"/api/v1/connections/north/holds", s.Key, "")
	var holds struct {
		Items []struct {
			ID      int64 `json:"id"`
			Edition int   `json:"edition"`
		} `json:"items"`
	}
	if err := json.Unmarshal(body, &holds); err != nil || len(holds.Items) == 0 {
		t.Fatalf("%v: %s", err, body)
	}
	for _, h := range holds.Items {
		if status, body := s.call("POST", fmt.Sprintf("%s/api/v1/holds/%d/discard", s.URL, h.ID), s.Key, fmt.Sprintf(`{"edition": %d, "why": "they stay"}`, h.Edition)); status != http.StatusOK {
			t.Fatalf("%d %s", status, body)
		}
	}
	expect("recovered north hold-waiting")
	_, figures := s.call("GET", s.URL+"/metrics", s.Key, "")
	for _, line := range []string{`edfisync_alerts_firing{condition="target-unreachable",connection="north",tenant="default"} 0`, `edfisync_alerts_firing{condition="hold-waiting",connection="north",tenant="default"} 0`} {
		if !bytes.Contains(figures, []byte(line)) {
			t.Errorf("the metrics do not say %s", line)
		}
	}
	s.stop() // now there is only the worker
	down.Store(true)
	var asked bytes.Buffer
	if code := run(t.Context(), []string{"run", "--ask", "-c", file}, streams{out: &asked, err: &asked}, os.LookupEnv); code != 0 {
		t.Fatal(asked.String())
	}
	expect("firing north target-unreachable")
	silence()
	if d := cmp.Diff(want, p.told()); d != "" {
		t.Errorf("told (-want +got):\n%s", d)
	}
}
