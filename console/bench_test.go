package console_test

import (
	"context"
	"database/sql"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver that the ledger uses, too

	"github.com/edfisync/edfisync/console"
	"github.com/edfisync/edfisync/internal/dbtest"
	"github.com/edfisync/edfisync/internal/httpd"
	"github.com/edfisync/edfisync/internal/keys"
	"github.com/edfisync/edfisync/jobs"
	"github.com/edfisync/edfisync/sync"
	"github.com/edfisync/edfisync/syncdb"
)

// The fleet that pages are measured with.
const (
	benchConnections = 200
	benchRuns        = 10_000
	benchRows        = 1_000_000 // that are not in sync
	benchWorst       = 200_000   // of them of one connection
	benchAudit       = 100_000
)

// fleet fills a ledger on PostgreSQL and serves it.
type fleet struct {
	*service
	connections []console.Connection
	config      console.Config
	cookie      string
	issue       int64  // the largest of the worst connection
	record      string // path of one of its records
}

// BenchmarkPages draws each page of the console, at 200 connections, 10,000 runs and a million rows that are not in sync; the aim is below 100 ms each.
func BenchmarkPages(b *testing.B) {
	f := newFleet(b)
	for _, page := range []struct{ name, path string }{
		{"overview", "/"}, {"overview-failing", "/?state=failing"}, {"connection", "/connections/c000"}, {"issues", "/connections/c000/issues"}, {"settled", "/connections/c000/issues?state=cleared"},
		{"issue", fmt.Sprintf("/issues/%d", f.issue)}, {"issue-data", fmt.Sprintf("/issues/%d/data", f.issue)}, {"record", f.record}, {"record-data", f.record + "/data"},
		{"holds", "/connections/c000/holds"}, {"run", "/runs/200"}, {"receipts", "/connections/c000/receipts"}, {"receipt", "/runs/200/receipt"}, {"audit", "/audit"},
		{"audit-narrowed", "/audit?action=connection.pause&who=nobody"}, {"keys", "/keys"}, {"settings", "/settings"},
		{"status", "/api/v1/connections/c000/status"}, {"runs", "/api/v1/runs?limit=500"},
	} {
		b.Run(page.name, func(b *testing.B) { f.draw(b, page.path) })
	}
	// Whoever looks first waits no longer than others, after a run and while one is under way that has changed rows.
	b.Run("issues-first", f.drawFirst)
	_, _, err := f.ledger.RequestRun(b.Context(), f.connections[0].ID, "bench")
	f.ok(err)
	_, l, err := f.ledger.StartRun(b.Context(), f.connections[0].ID, "bench", time.Hour)
	f.ok(err)
	f.ok(f.ledger.SaveProblems(b.Context(), l, []syncdb.Problem{{Resource: "ed-fi/resource00", SourceHash: syncdb.Hash{255}, Outcome: "invalid", Code: "too-long", Owner: "mapping"}}))
	b.Run("issues-during", f.drawFirst)
}

// drawFirst draws the issues of the worst connection in a console that has just started.
func (f *fleet) drawFirst(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		var err error
		f.console, err = console.New(f.config)
		f.ok(err)
		b.StartTimer()
		f.draw1(b, "/connections/c000/issues")
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/1000/float64(b.N), "ms/page")
}

func (f *fleet) draw(b *testing.B, path string) {
	f.draw1(b, path) // what is kept between looks is made
	for b.Loop() {
		f.draw1(b, path)
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/1000/float64(b.N), "ms/page")
}

func (f *fleet) draw1(b *testing.B, path string) {
	r := httptest.NewRequestWithContext(b.Context(), http.MethodGet, path, http.NoBody)
	r.Header.Set("Cookie", f.cookie)
	w := httptest.NewRecorder()
	f.console.ServeHTTP(w, r)
	if w.Code != http.StatusOK {
		b.Fatalf("%s: %d %s", path, w.Code, w.Body)
	}
}

func newFleet(b *testing.B) *fleet {
	dsn := dbtest.Postgres(b)
	f := &fleet{service: &service{t: b, ids: map[string]int64{}}}
	var err error
	f.ledger, err = syncdb.Open(b.Context(), syncdb.Config{DSN: dsn, Master: keys.GenerateMaster()})
	f.ok(err)
	b.Cleanup(func() { f.ledger.Close() })
	db, err := sql.Open("pgx", dsn)
	f.ok(err)
	defer db.Close()
	for i := range benchConnections {
		name := fmt.Sprintf("c%03d", i)
		c, _, err := f.ledger.Connection(b.Context(), "default", name)
		f.ok(err)
		f.ids[name] = c.ID
		f.connections = append(f.connections, console.Connection{ID: c.ID, Tenant: "default", Name: name, SchoolYear: 2027, Schedule: &jobs.Schedule{Connection: c.ID, Cron: "0 2 * * *"}})
	}
	key := f.key(console.NewKey{Name: "bench", Role: "admin", StudentData: true}) // begins the audit trail
	began := time.Now()
	f.fill(db)
	b.Logf("filled in %s", time.Since(began).Round(time.Second))
	f.config = console.Config{
		Ledger: f.ledger, Runs: asker{f.ledger}, Definitions: ledgerDefinitions{f.ledger}, Secrets: f.ledger, Version: "bench", Records: &records{}, Connections: func(context.Context) ([]console.Connection, error) { return f.connections, nil },
		Router: httpd.RouterConfig{PerPrincipal: httpd.Limit{PerSecond: 1e6, Burst: 1e6}, PerClient: httpd.Limit{PerSecond: 1e6, Burst: 1e6}},
	}
	f.console, err = console.New(f.config)
	f.ok(err)
	f.cookie = f.logIn(key)
	return f
}

// fill writes what a fleet has after weeks: with SQL where the ledger's own way would take hours.
func (f *fleet) fill(db *sql.DB) {
	do := func(statement string, args ...any) {
		f.t.Helper()
		_, err := db.ExecContext(f.t.Context(), statement, args...)
		f.ok(err)
	}
	do(`INSERT INTO run (connection_id, state, reason, created_at, started_at, ended_at, totals, error)
		SELECT c.id, CASE WHEN n % 17 = 0 THEN 'failed' ELSE 'done' END, 'cron', n * 1000, n * 1000, n * 1000 + 500,
			'{"created":' || n % 900 || ',"invalid":' || n % 7 || ',"calls":10}', CASE WHEN n % 17 = 0 THEN 'the target does not answer' ELSE '' END
		FROM generate_series(1, $1) n JOIN connection c ON c.name = 'c' || lpad((n % $2)::text, 3, '0') ORDER BY n`, benchRuns-benchConnections, benchConnections)
	for i := range 30 {
		do(`INSERT INTO resource (path) VALUES ($1) ON CONFLICT DO NOTHING`, fmt.Sprintf("ed-fi/resource%02d", i))
	}
	do(`INSERT INTO step (run_id, position, resource_id, verb, state, totals) SELECT run.id, r.id, r.id, 1, 'done', '{"created":3}' FROM run, resource r`)
	do(`INSERT INTO receipt (run_id, connection_id, at, document) SELECT id, connection_id, ended_at, $1 FROM run WHERE state = 'done'`, benchReceipt())
	do(`INSERT INTO audit (id, at, who, action, connection, object, detail, hash)
		SELECT n - 1000000, n, 'ada (1)', 'hold.approve', 'default/c000', 'hold 1', '{"why":"moved away"}', sha256(n::text::bytea) FROM generate_series(1, $1) n`, benchAudit)
	rest := (benchRows - benchWorst) / (benchConnections - 1)
	for i, c := range f.connections {
		rows, causes := rest, 20
		if i == 0 {
			rows, causes = benchWorst, 400
		}
		f.problems(c, rows, causes)
	}
	do(`ANALYZE`)
	issues, err := f.ledger.Issues(f.t.Context(), f.connections[0].ID, true)
	f.ok(err)
	f.issue = issues[0].ID
	f.record = "/connections/c000/records/ed-fi/resource00/r" + strings.Repeat("00", 15) + "01"
}

// problems files rows of a connection, in a last run that is done.
func (f *fleet) problems(c console.Connection, rows, causes int) {
	ctx := f.t.Context()
	_, _, err := f.ledger.RequestRun(ctx, c.ID, "bench")
	f.ok(err)
	_, l, err := f.ledger.StartRun(ctx, c.ID, "bench", time.Hour)
	f.ok(err)
	const part = 10_000
	all := make([]syncdb.Problem, 0, part)
	for n := range rows {
		cause := n % causes
		if n%2 == 0 { // half of all rows have one cause
			cause = 0
		}
		p := syncdb.Problem{
			Outcome: "invalid", Code: "required-missing", Cause: fmt.Sprintf("$.element%03d is required", cause), Owner: "source data", SourceKey: "4711",
			Resource: fmt.Sprintf("ed-fi/resource%02d", cause%30), Detail: []byte(`{"query":"x.sql","problems":[{"code":"required-missing","path":"$.x","message":"x is required"}]}`),
		}
		binary.BigEndian.PutUint64(p.SourceHash[8:], uint64(n)+1)
		binary.BigEndian.PutUint64(p.KeyHash[:], uint64(n)+1)
		if n%3 == 2 { // waits for the one before
			p.Outcome, p.Code, p.Cause, p.BlockedResource = "blocked", "missing-reference", fmt.Sprintf("element%03d", n%causes), fmt.Sprintf("ed-fi/resource%02d", (n-1)%causes%30)
			binary.BigEndian.PutUint64(p.BlockedKey[:], uint64(n))
		}
		if all = append(all, p); len(all) == part || n == rows-1 {
			f.ok(f.ledger.SaveProblems(ctx, l, all))
			all = all[:0]
		}
	}
	ranked, err := sync.RankCauses(ctx, f.ledger, c.ID)
	f.ok(err)
	ranks := map[int64]syncdb.Rank{}
	for _, cause := range ranked {
		ranks[cause.ID] = syncdb.Rank{Own: cause.Own, Frees: cause.Frees, Waits: cause.Waits}
	}
	f.ok(f.ledger.SaveRanking(ctx, l, ranks))
	f.ok(f.ledger.FinishRun(ctx, l, syncdb.RunDone, json.RawMessage(`{"created":3,"invalid":9}`), ""))
}

// benchReceipt is a receipt of 30 resources, as of a run that wrote five of them.
func benchReceipt() string {
	resources, buckets := make([]string, 30), make([]string, 5)
	for i := range resources {
		resources[i] = fmt.Sprintf(`{"entries":1000,"exceptions":{"blocked":0,"failed":0,"held":0,"invalid":%d,"rejected":0},"live":1000,"resource":"ed-fi/resource%02d","root":"","rootRun":1,"rows":1000,"valid":1000}`, i%3, i)
	}
	for i := range buckets {
		buckets[i] = fmt.Sprintf(`"ed-fi/resource%02d":%q`, i, strings.Repeat("AAAA", 256*16/3))
	}
	return `{"buckets":{` + strings.Join(buckets, ",") + `},"publicKey":"","signature":"","statement":{"resources":[` + strings.Join(resources, ",") + `]}}`
}
