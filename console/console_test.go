package console_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edfisync/edfisync/console"
	"github.com/edfisync/edfisync/internal/dbtest"
	"github.com/edfisync/edfisync/internal/httpd"
	"github.com/edfisync/edfisync/internal/keys"
	"github.com/edfisync/edfisync/jobs"
	"github.com/edfisync/edfisync/syncdb"
)

// service is a console on a ledger of its own, with connections of two tenants. Nobody does the runs but the test.
type service struct {
	t       testing.TB
	ledger  *syncdb.DB
	console *console.Console
	ids     map[string]int64 // of connections, by name in paths
	clock   *atomic.Int64    // added to the real time, ns
}

// asker asks the ledger, and rings nowhere.
type asker struct{ *syncdb.DB }

func (a asker) AskAs(ctx context.Context, connection int64, reason string, scope syncdb.RunScope, act syncdb.AuditRow) (syncdb.Run, bool, error) {
	return a.RequestAudited(ctx, connection, reason, scope, act)
}

func newService(t testing.TB, change func(*console.Config)) *service {
	t.Helper()
	return newServiceOn(t, "sqlite:"+filepath.Join(t.TempDir(), "ledger.db"), change)
}

// onBoth runs a test on an embedded ledger and on PostgreSQL.
func onBoth(t *testing.T, change func(*console.Config), test func(t *testing.T, s *service)) {
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		test(t, newService(t, change))
	})
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		test(t, newServiceOn(t, dbtest.Postgres(t), change))
	})
}

func newServiceOn(t testing.TB, dsn string, change func(*console.Config)) *service {
	t.Helper()
	s := &service{t: t, ids: map[string]int64{}, clock: &atomic.Int64{}}
	now := func() time.Time { return time.Now().Add(time.Duration(s.clock.Load())) }
	var err error
	s.ledger, err = syncdb.Open(t.Context(), syncdb.Config{DSN: dsn, Master: keys.GenerateMaster(), Clock: now})
	s.ok(err)
	t.Cleanup(func() { s.ledger.Close() })
	var connections []console.Connection
	for _, c := range []struct{ tenant, name string }{{"default", "lincoln"}, {"acme", "north"}, {"acme", "south"}, {"other", "north"}} {
		conn, _, err := s.ledger.Connection(t.Context(), c.tenant, c.name)
		s.ok(err)
		shown := console.Connection{ID: conn.ID, Tenant: c.tenant, Name: c.name, SchoolYear: 2027}
		if c.name == "lincoln" {
			shown.Schedule = &jobs.Schedule{Connection: conn.ID, Cron: "0 2 * * *"}
		}
		connections = append(connections, shown)
		name := c.tenant + "~" + c.name
		if c.tenant == "default" {
			name = c.name
		}
		s.ids[name] = conn.ID
	}
	config := console.Config{
		Ledger: s.ledger, Runs: asker{s.ledger}, Version: "test", Poll: 20 * time.Millisecond, Records: &records{},
		TryReceivers: func(context.Context) []console.Tried {
			return []console.Tried{{Receiver: "pager"}, {Receiver: "smtp", Error: "nobody answers"}}
		},
		Metrics:     http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "# figures") }),
		Definitions: ledgerDefinitions{s.ledger}, Secrets: s.ledger,
		Connections: func(ctx context.Context) ([]console.Connection, error) {
			defined, err := s.ledger.Definitions(ctx)
			all := append([]console.Connection{}, connections...)
			for _, d := range defined {
				conn, _, err := s.ledger.Connection(ctx, d.Tenant, d.Name)
				if err != nil {
					return nil, err
				}
				all = append(all, console.Connection{ID: conn.ID, Tenant: d.Tenant, Name: d.Name, Version: d.Version})
			}
			return all, err
		},
		Support: func(_ context.Context, w io.Writer, goroutines bool) error {
			_, err := fmt.Fprintf(w, "a bundle, goroutines: %v", goroutines)
			return err
		},
		Router: httpd.RouterConfig{PerPrincipal: httpd.Limit{PerSecond: 1e6, Burst: 1e6}, PerClient: httpd.Limit{PerSecond: 1e6, Burst: 1e6}, Now: now},
	}
	if change != nil {
		change(&config)
	}
	s.console, err = console.New(config)
	s.ok(err)
	return s
}

func (s *service) ok(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// key makes a key.
func (s *service) key(k console.NewKey) string {
	s.t.Helper()
	if k.Name == "" {
		k.Name = fmt.Sprintf("%s %s %v %d", k.Role, k.Tenant, k.StudentData, time.Now().UnixNano())
	}
	_, token, err := console.CreateKey(s.t.Context(), s.ledger, k, "test")
	s.ok(err)
	return token
}

// answer is what a request got.
type answer struct {
	status int
	header http.Header
	body   string
}

// do makes a request; header is pairs of name and value.
func (s *service) do(method, path, key, body string, header ...string) answer {
	s.t.Helper()
	var b io.Reader = http.NoBody
	if body != "" {
		b = strings.NewReader(body)
	}
	r := httptest.NewRequestWithContext(s.t.Context(), method, path, b)
	switch {
	case body != "" && !strings.HasPrefix(path, "/api/"):
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	case body != "":
		r.Header.Set("Content-Type", "application/json")
	}
	if key != "" {
		r.Header.Set("Authorization", "Bearer "+key)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	s.console.ServeHTTP(w, r)
	return answer{w.Code, w.Header(), w.Body.String()}
}

// get reads a document.
func (s *service) get(path, key string, to any) {
	s.t.Helper()
	a := s.do("GET", "/api/v1"+path, key, "")
	if a.status != 200 {
		s.t.Fatalf("GET %s: %d %s", path, a.status, a.body)
	}
	s.ok(json.Unmarshal([]byte(a.body), to))
}

// refused expects a problem with a code, and text in it.
func (s *service) refused(a answer, status int, code, says string) {
	s.t.Helper()
	var p httpd.Problem
	err := json.Unmarshal([]byte(a.body), &p)
	if err != nil || a.status != status || p.Type != "urn:edfisync:problem:"+code || p.Status != status || p.Title == "" || p.CorrelationID == "" ||
		a.header.Get("Content-Type") != httpd.ProblemType || !strings.Contains(a.body, says) {
		s.t.Errorf("got %d %s (%s), want problem %d %s with %q", a.status, a.body, a.header.Get("Content-Type"), status, code, says)
	}
}

// running starts a run of a connection and returns its lease.
func (s *service) running(connection string) syncdb.Lease {
	s.t.Helper()
	_, _, err := s.ledger.RequestRun(s.t.Context(), s.ids[connection], "test")
	s.ok(err)
	_, l, err := s.ledger.StartRun(s.t.Context(), s.ids[connection], "test", time.Minute)
	s.ok(err)
	return l
}

func (s *service) finish(l syncdb.Lease, state syncdb.RunState) {
	s.t.Helper()
	s.ok(s.ledger.FinishRun(s.t.Context(), l, state, json.RawMessage(`{"created":3}`), ""))
}

// hold opens a hold for a connection, and an issue, in a run that is done.
func (s *service) hold(connection string) (run, hold, issue int64) {
	s.t.Helper()
	ctx := s.t.Context()
	l := s.running(connection)
	op := syncdb.PlanOp{Step: 1, Resource: "ed-fi/students", Verb: syncdb.Delete, KeyHash: syncdb.Hash{1}}
	p, err := s.ledger.SaveHold(ctx, l, syncdb.Plan{Resource: "ed-fi/students", Verb: syncdb.Delete, Rule: "delete-percent", Reason: "50 % of students would go"},
		func(yield func(syncdb.PlanOp, error) bool) { yield(op, nil) })
	s.ok(err)
	s.ok(s.ledger.SaveProblems(ctx, l, []syncdb.Problem{{
		Resource: "ed-fi/students", SourceHash: syncdb.Hash{2}, Outcome: "invalid", Code: "required-missing", Cause: "birthDate", Owner: "source data", SourceKey: "Lovelace",
	}}))
	s.ok(s.ledger.SaveStep(ctx, l, syncdb.Step{Position: 1, Resource: "ed-fi/students", Verb: syncdb.Create, State: "done"}))
	s.ok(s.ledger.SaveReceipt(ctx, l, syncdb.Receipt{RunID: l.RunID, Document: json.RawMessage(`{"statement":{}}`)}))
	s.finish(l, syncdb.RunDone)
	issues, err := s.ledger.Issues(ctx, s.ids[connection], true)
	s.ok(err)
	return l.RunID, p.ID, issues[0].ID
}

// saved keeps a plan of a connection.
func (s *service) saved(connection string) int64 {
	s.t.Helper()
	p, err := s.ledger.SavePlan(s.t.Context(), s.ids[connection], syncdb.Plan{Kind: syncdb.PlanSaved}, func(func(syncdb.PlanOp, error) bool) {})
	s.ok(err)
	return p.ID
}

// acts are the actions of the audit trail, the newest first.
func (s *service) acts() (out []string) {
	s.t.Helper()
	rows, err := s.ledger.FindAudit(s.t.Context(), syncdb.AuditFilter{})
	s.ok(err)
	for _, r := range rows {
		out = append(out, r.Action)
	}
	return out
}

// status makes a request and returns its status; of a stream, as soon as it begins.
func (s *service) status(method, path, key, body string) int {
	s.t.Helper()
	if !strings.HasSuffix(path, "/events") {
		return s.do(method, path, key, body).status
	}
	ctx, cancel := context.WithCancel(s.t.Context())
	defer cancel()
	r := httptest.NewRequestWithContext(ctx, method, path, http.NoBody)
	if key != "" {
		r.Header.Set("Authorization", "Bearer "+key)
	}
	w := &begun{httptest.NewRecorder(), cancel}
	s.console.ServeHTTP(w, r)
	return w.Code
}

// begun is a client that goes as soon as an answer begins.
type begun struct {
	*httptest.ResponseRecorder
	leave func()
}

func (b *begun) WriteHeader(status int) {
	b.ResponseRecorder.WriteHeader(status)
	b.leave()
}

// try makes a request that may be none; ok tells whether it was one.
func (s *service) try(method, path, key, body string) (status int, ok bool) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second) //nolint:usetesting // a fuzz target must not use what made the service
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, "http://example.com", strings.NewReader(body))
	if err != nil {
		return 0, false
	}
	if r.URL, err = url.ParseRequestURI(path); err != nil {
		return 0, false
	}
	r.RequestURI, r.RemoteAddr = path, "192.0.2.1:1234"
	r.Header.Set("Authorization", "Bearer "+key)
	r.Header.Set("Content-Type", "application/json")
	w := &begun{httptest.NewRecorder(), cancel}
	s.console.ServeHTTP(w, r)
	return w.Code, true
}
