package sync_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	gosync "sync"
	"testing"
	"time"

	"github.com/edfisync/edfisync/edfi"
	"github.com/edfisync/edfisync/internal/keys"
	"github.com/edfisync/edfisync/internal/tinysis"
	"github.com/edfisync/edfisync/sandbox"
	"github.com/edfisync/edfisync/schema"
	"github.com/edfisync/edfisync/source"
	"github.com/edfisync/edfisync/sync"
	"github.com/edfisync/edfisync/syncdb"
	"github.com/edfisync/edfisync/syncdb/memdb"
)

// opKind is a kind of input or output an operation is.
type opKind string

const (
	httpWrite   opKind = "write call"
	httpRead    opKind = "read call"
	httpToken   opKind = "token call"
	ledgerWrite opKind = "ledger write"
	ledgerRead  opKind = "ledger read"
	snapshot    opKind = "snapshot"
	query       opKind = "query"
	rows        opKind = "rows"
)

// fault is what happens to an operation instead of what should.
type fault string

// Faults of each kind, F-numbers of the catalogue where they have one.
const (
	lostBefore   fault = "dropped before commit" // F5, F7
	lostAfter    fault = "dropped after commit"  // F6, F50
	truncated    fault = "answer cut short"      // F8
	html         fault = "a proxy's page"        // F9
	answers500   fault = "500"                   // F14
	answers500in fault = "500 after commit"      // F14
	answers503   fault = "503"                   // F14
	answers429   fault = "429"                   // F15
	answers401   fault = "401"                   // F19
	fails        fault = "error"                 // F37, F49–F52, F55
	fenced       fault = "fenced"                // F58
	noRows       fault = "no rows"               // F38
	breaksOff    fault = "error after some rows" // F37
)

// faultsOf are the faults that apply to a kind of operation.
func faultsOf(k opKind) []fault {
	switch k {
	case httpWrite:
		return []fault{lostBefore, lostAfter, truncated, html, answers500, answers500in, answers503, answers429, answers401}
	case httpRead:
		return []fault{lostBefore, truncated, html, answers500, answers503, answers429, answers401}
	case httpToken:
		return []fault{lostBefore, truncated, html, answers500, answers429, answers401}
	case ledgerWrite:
		return []fault{fails, lostAfter, fenced}
	case rows:
		return []fault{breaksOff, noRows}
	default:
		return []fault{fails}
	}
}

// script counts operations and says which of them meet a fault. Safe for concurrent use.
type script struct {
	mu    gosync.Mutex
	kinds []opKind // of the operations so far
	at    int      // index of the first operation that meets the fault; operations of other kinds pass
	kind  opKind   // "" = nothing happens
	fault fault
	runs  int // for how many runs of the engine it goes on after its first time; 0 = once
	hit   bool
	what  string // the operation that met it first
	over  bool
}

// next counts an operation and returns the fault it meets, "" for none.
func (s *script) next(k opKind, name string) fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over { // what the healing runs do meets nothing
		return ""
	}
	s.kinds = append(s.kinds, k)
	if k != s.kind || len(s.kinds)-1 < s.at || s.hit && s.runs == 0 {
		return ""
	}
	if !s.hit {
		s.what = name
	}
	s.hit = true
	return s.fault
}

// nextRun tells that a run of the engine ended.
func (s *script) nextRun() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.hit {
		s.runs--
		s.over = s.over || s.runs <= 0
	}
}

// lab is a place for scenarios: a sandbox that is used again and again, everything else is new for each scenario.
type lab struct {
	t       *testing.T
	model   *schema.Model
	sandbox *sandbox.Server
	api     *tinysis.API
	deps    []schema.Dependency
	dir     string
	made    int
}

func newLab(t *testing.T) *lab {
	t.Helper()
	l := &lab{t: t, dir: t.TempDir()}
	var err error
	l.model, err = schema.Bundled("5.2")
	l.ok(err)
	l.sandbox, err = sandbox.New(sandbox.Options{Model: l.model, ClientID: "id", ClientSecret: "secret", MaxTokens: 1 << 30})
	l.ok(err)
	t.Cleanup(func() { l.sandbox.Close() })
	l.api = &tinysis.API{Handler: l.sandbox.Handler(), ClientID: "id", ClientSecret: "secret"}
	l.deps, err = schema.Dependencies(l.model)
	l.ok(err)
	return l
}

func (l *lab) ok(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}

// trial is one scenario under one script.
type trial struct {
	*lab
	script *script
	sis    *tinysis.DB
	ledger sweepLedger
	conn   syncdb.Connection
	ring   *keys.Ring

	mu         gosync.Mutex
	violations []string
	expected   map[string]tinysis.Record // what the SIS says now
	durable    map[string]int            // intents that were durable before their call: "PUT ed-fi/students/ID", "POST ed-fi/students"
	posted     map[string]map[[32]byte]bool
	guarded    bool     // the safeguard of deletes is narrow
	fencedOut  bool     // the ledger said so in this run
	late       int      // write calls that left since
	trace      []string // runs and writes, for who has to find out
}

// sweepLedger is what the sweep needs of a ledger beside the engine's part.
type sweepLedger interface {
	ledger
	ExpireLease(ctx context.Context, connID int64, holder string) error
}

// newTrial makes the SIS, a foreign record at the target and an empty ledger. onDisk says that the ledger is SQLite.
func (l *lab) newTrial(s *script, onDisk bool) *trial {
	l.t.Helper()
	l.ok(l.api.Wipe())
	l.made++
	tr := &trial{lab: l, script: s, durable: map[string]int{}, posted: map[string]map[[32]byte]bool{}}
	var err error
	tr.sis, err = tinysis.Create(l.t.Context(), filepath.Join(l.dir, fmt.Sprintf("sis%d.db", l.made)), 2)
	l.ok(err)
	master, err := keys.ParseMaster("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")
	l.ok(err)
	cfg := syncdb.Config{Master: master, Grace: time.Millisecond}
	if onDisk {
		cfg.DSN = "sqlite:" + filepath.Join(l.dir, fmt.Sprintf("ledger%d.db", l.made))
		tr.ledger, err = syncdb.Open(l.t.Context(), cfg)
		l.ok(err)
	} else {
		tr.ledger = memdb.Open(cfg)
	}
	tr.conn, tr.ring, err = tr.ledger.Connection(l.t.Context(), "default", "sweep")
	l.ok(err)
	return tr
}

func (tr *trial) close() {
	_ = tr.sis.Close()
	if c, ok := tr.ledger.(io.Closer); ok {
		_ = c.Close()
	}
}

func (tr *trial) violation(format string, args ...any) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.violations = append(tr.violations, fmt.Sprintf(format, args...))
}

// run syncs once, as a process that starts and ends.
func (tr *trial) run() (*sync.Summary, error) {
	tr.t.Helper()
	ctx := tr.t.Context()
	var err error
	if tr.expected, err = tr.sis.Expected(ctx); err != nil {
		tr.t.Fatal(err)
	}
	tr.fencedOut, tr.late = false, 0
	tr.trace = append(tr.trace, "a run")
	defer tr.script.nextRun()
	client, err := edfi.Connect(ctx, edfi.Config{
		BaseURL: "http://target.example", ClientID: "id", ClientSecret: "secret", MaxConcurrency: 2, MinConcurrency: 2,
		RetryWait: time.Millisecond, MaxRetryWait: time.Millisecond, MaxRetries: 1, Transport: &sweepTransport{tr},
	})
	if err != nil {
		return nil, err
	}
	defer client.Close()
	if err := client.Login(ctx); err != nil {
		return nil, err
	}
	pack, err := source.LoadPack(tinysis.Pack(), source.SQLite)
	tr.ok(err)
	db, err := source.Open(ctx, source.Config{Driver: source.SQLite, DSN: tr.sis.Path})
	tr.ok(err)
	defer db.Close()
	rules, safeguards := schema.Rules{Version: 1}, lenient()
	if tr.guarded {
		safeguards.RunDeletes = sync.Limit{Percent: 1, Count: 1}
	}
	bound, err := db.Bind(ctx, nil, pack, tr.model, rules, nil)
	tr.ok(err)
	e := &sync.Engine{
		Model: tr.model, Dependencies: tr.deps, Source: sweepSource{sync.FromSource(db, bound), tr}, Ledger: faultyLedger{tr.ledger, tr},
		Keys: tr.ring, Connection: tr.conn, Target: func(check func() error) sync.Target { return client.Guarded(check) },
		Options: sync.Options{
			WorkDir: tr.dir, SettleDelay: time.Millisecond, Workers: 2, Mappers: 1, Rules: rules, Holder: "sweep",
			Safeguards: safeguards, History: time.Hour,
		},
	}
	// A lease left behind is one of a process that ended: what the next one does about it is the program's part.
	if err := tr.ledger.ExpireLease(ctx, tr.conn.ID, "sweep"); err != nil {
		tr.t.Fatal(err)
	}
	s, err := e.Run(ctx)
	if err == nil && s != nil {
		tr.accounted(s)
	}
	return s, err
}

// accounted checks I11 from the outside: the outcomes of each resource add up to its rows.
func (tr *trial) accounted(s *sync.Summary) {
	for _, r := range s.Resources {
		t := r.Totals
		if sum := t.Unchanged + t.Created + t.Updated + t.Rekeyed + t.Invalid; sum > t.Rows {
			tr.violation("I11: %s: %d rows, %d outcomes", r.Resource, t.Rows, sum)
		}
	}
}

// sweepTransport is the target without a network, with faults, and with eyes on what reaches it.
type sweepTransport struct{ tr *trial }

func (s *sweepTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	kind := httpRead
	switch {
	case strings.HasSuffix(r.URL.Path, "/oauth/token"):
		kind = httpToken
	case r.Method != http.MethodGet:
		kind = httpWrite
	}
	var body []byte
	if r.Body != nil {
		var err error
		if body, err = io.ReadAll(r.Body); err != nil {
			return nil, err
		}
		r.Body.Close()
	}
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	if kind == httpWrite {
		s.tr.seen(r, body)
	}
	f := s.tr.script.next(kind, r.Method+" "+r.URL.Path)
	dropped := &net.OpError{Op: "read", Net: "tcp", Err: errors.New("connection reset by peer")}
	switch f {
	case lostBefore:
		return nil, dropped
	case html:
		return answer(r, http.StatusOK, "text/html", "<html><body>Welcome</body></html>"), nil
	case answers500:
		return answer(r, 500, "application/problem+json", `{"type":"urn:ed-fi:api:system","status":500}`), nil
	case answers503:
		return answer(r, 503, "text/html", "busy"), nil
	case answers429:
		return answer(r, 429, "text/plain", ""), nil
	case answers401:
		return answer(r, 401, "application/problem+json", `{"type":"urn:ed-fi:api:security:authentication","status":401}`), nil
	}
	inner := r.Clone(r.Context())
	inner.Body, inner.RequestURI = io.NopCloser(bytes.NewReader(body)), r.URL.RequestURI()
	w := httptest.NewRecorder()
	if kind == httpWrite && r.Method != http.MethodPost {
		parts := strings.Split(strings.TrimPrefix(r.URL.Path, "/data/v3/"), "/")
		if record, ok := s.tr.api.Get(parts[0]+"/"+parts[1], parts[2]); ok {
			s.tr.mu.Lock()
			s.tr.trace = append(s.tr.trace, "  of "+record.Name())
			s.tr.mu.Unlock()
		}
	}
	s.tr.sandbox.Handler().ServeHTTP(w, inner)
	if kind == httpWrite {
		s.tr.answered(r, w)
	}
	switch f {
	case lostAfter:
		return nil, dropped
	case answers500in:
		return answer(r, 500, "application/problem+json", `{"type":"urn:ed-fi:api:system","status":500}`), nil
	}
	response := w.Result()
	response.Request = r
	if f == truncated {
		text := w.Body.Bytes()
		response.ContentLength = int64(len(text)) + 1
		response.Body = io.NopCloser(io.MultiReader(bytes.NewReader(text[:len(text)/2]), brokenReader{}))
	}
	return response, nil
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func answer(r *http.Request, status int, kind, text string) *http.Response {
	return &http.Response{
		StatusCode: status, Status: fmt.Sprint(status), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{"Content-Type": {kind}},
		Body: io.NopCloser(strings.NewReader(text)), ContentLength: int64(len(text)), Request: r,
	}
}

// seen judges a write call as it leaves.
func (tr *trial) seen(r *http.Request, body []byte) {
	path := strings.TrimPrefix(r.URL.Path, "/data/v3/")
	parts := strings.SplitN(path, "/", 3)
	resource := strings.Join(parts[:min(2, len(parts))], "/")
	tr.mu.Lock()
	defer tr.mu.Unlock()
	if tr.fencedOut {
		tr.late++
	}
	if tr.late > inFlight {
		tr.violations = append(tr.violations, "I7: "+r.Method+" "+resource+" left after the ledger had fenced the run out")
	}
	if r.Method == http.MethodPost {
		if tr.posted[resource] == nil {
			tr.posted[resource] = map[[32]byte]bool{}
		}
		tr.posted[resource][sha256.Sum256(body)] = true
		if tr.durable["POST "+resource] < len(tr.posted[resource]) {
			tr.violations = append(tr.violations, "I3: POST "+resource+" left without a durable intent")
		}
		return
	}
	if tr.durable[r.Method+" "+path] == 0 {
		tr.violations = append(tr.violations, "I3: "+r.Method+" "+resource+" left without a durable intent")
	}
	if r.Method == http.MethodDelete {
		record, ok := tr.api.Get(resource, parts[len(parts)-1])
		if _, wanted := tr.expected[record.Name()]; ok && wanted {
			tr.violations = append(tr.violations, "I5: DELETE of "+record.Name()+", which is in the source")
		}
	}
}

// inFlight is how many calls may be on their way when a run learns that it is fenced out: what keeps two writers apart is the age of the lease,
// which is checked before each call.
const inFlight = 2 * 2 // two steps with two workers each

// answered judges what the target itself says to a write: none of ours may be refused for want of order.
func (tr *trial) answered(r *http.Request, w *httptest.ResponseRecorder) {
	if tr.script.fault == noRows { // a parent that the source does not show is not at the target
		return
	}
	tr.mu.Lock()
	tr.trace = append(tr.trace, fmt.Sprintf("%s %s %d", r.Method, strings.TrimPrefix(r.URL.Path, "/data/v3/"), w.Code))
	tr.mu.Unlock()
	if w.Code == http.StatusConflict || w.Code == http.StatusBadRequest {
		tr.violation("I6: %s %s was answered %d: %s", r.Method, r.URL.Path, w.Code, w.Body)
	}
}

// sweepSource is the source with faults.
type sweepSource struct {
	sync.Source
	tr *trial
}

func (s sweepSource) Begin(ctx context.Context) (sync.Snapshot, error) {
	if s.tr.script.next(snapshot, "Begin") != "" {
		return nil, errors.New("too many clients already")
	}
	inner, err := s.Source.Begin(ctx)
	if err != nil {
		return nil, err
	}
	return sweepSnapshot{inner, s.tr}, nil
}

type sweepSnapshot struct {
	sync.Snapshot
	tr *trial
}

func (s sweepSnapshot) Open(ctx context.Context, q *source.Bound) (sync.Rows, error) {
	if s.tr.script.next(query, q.Query.File) != "" {
		return nil, errors.New("canceling statement due to conflict with recovery")
	}
	inner, err := s.Snapshot.Open(ctx, q)
	if err != nil {
		return nil, err
	}
	return &sweepRows{inner, s.tr.script.next(rows, q.Query.File), 0}, nil
}

type sweepRows struct {
	sync.Rows
	fault fault
	calls int
}

func (s *sweepRows) Next(ctx context.Context, b *source.Batch) error {
	s.calls++
	switch {
	case s.fault == noRows:
		return io.EOF
	case s.fault == breaksOff && s.calls > 1:
		return errors.New("server closed the connection unexpectedly")
	}
	return s.Rows.Next(ctx, b)
}

// faultyLedger is the ledger with faults, and notes which intents are durable.
type faultyLedger struct {
	sweepLedger
	tr *trial
}

var errLedger = errors.New("disk I/O error")

// write carries out a write under the script.
func (f faultyLedger) write(name string, fn func() error) error {
	switch f.tr.script.next(ledgerWrite, name) {
	case fails:
		return errLedger
	case fenced:
		f.tr.mu.Lock()
		f.tr.fencedOut = true
		f.tr.mu.Unlock()
		return syncdb.ErrFenced
	case lostAfter:
		if err := fn(); err != nil {
			return err
		}
		return errLedger
	}
	return fn()
}

func (f faultyLedger) read(name string, fn func() error) error {
	if f.tr.script.next(ledgerRead, name) != "" {
		return errLedger
	}
	return fn()
}

func (f faultyLedger) RequestScoped(ctx context.Context, conn int64, reason string, scope syncdb.RunScope) (run syncdb.Run, joined bool, err error) {
	err = f.write("RequestScoped", func() (err error) {
		run, joined, err = f.sweepLedger.RequestScoped(ctx, conn, reason, scope)
		return err
	})
	return run, joined, err
}

func (f faultyLedger) StartRun(ctx context.Context, conn int64, holder string, ttl time.Duration) (run syncdb.Run, l syncdb.Lease, err error) {
	err = f.write("StartRun", func() (err error) { run, l, err = f.sweepLedger.StartRun(ctx, conn, holder, ttl); return err })
	return run, l, err
}

func (f faultyLedger) StartErrand(ctx context.Context, conn int64, reason, holder string, ttl time.Duration) (run syncdb.Run, l syncdb.Lease, err error) {
	err = f.write("StartErrand", func() (err error) {
		run, l, err = f.sweepLedger.StartErrand(ctx, conn, reason, holder, ttl)
		return err
	})
	return run, l, err
}

func (f faultyLedger) Renew(ctx context.Context, l syncdb.Lease) (renewed syncdb.Lease, cancel bool, err error) {
	err = f.write("Renew", func() (err error) { renewed, cancel, err = f.sweepLedger.Renew(ctx, l); return err })
	return renewed, cancel, err
}

func (f faultyLedger) SaveStep(ctx context.Context, l syncdb.Lease, s syncdb.Step) error {
	return f.write("SaveStep", func() error { return f.sweepLedger.SaveStep(ctx, l, s) })
}

func (f faultyLedger) FinishRun(ctx context.Context, l syncdb.Lease, state syncdb.RunState, totals json.RawMessage, text string) error {
	return f.write("FinishRun", func() error { return f.sweepLedger.FinishRun(ctx, l, state, totals, text) })
}

func (f faultyLedger) Append(ctx context.Context, l syncdb.Lease, step int, intents []syncdb.Intent, results []syncdb.Result) error {
	return f.write("Append", func() error {
		if err := f.sweepLedger.Append(ctx, l, step, intents, results); err != nil {
			return err
		}
		f.tr.mu.Lock()
		defer f.tr.mu.Unlock()
		for _, in := range intents {
			switch in.Verb {
			case syncdb.Create:
				f.tr.durable["POST "+in.Resource]++
			case syncdb.Update:
				f.tr.durable["PUT "+in.Resource+"/"+in.EdfiID]++
			case syncdb.Delete:
				f.tr.durable["DELETE "+in.Resource+"/"+in.EdfiID]++
			}
		}
		return nil
	})
}

func (f faultyLedger) Fold(ctx context.Context, l syncdb.Lease, step int) (n int, err error) {
	err = f.write("Fold", func() (err error) { n, err = f.sweepLedger.Fold(ctx, l, step); return err })
	return n, err
}

func (f faultyLedger) Recover(ctx context.Context, l syncdb.Lease) (s syncdb.RecoverStats, err error) {
	err = f.write("Recover", func() (err error) { s, err = f.sweepLedger.Recover(ctx, l); return err })
	return s, err
}

func (f faultyLedger) Open(ctx context.Context, conn int64) (n int, err error) {
	err = f.read("Open", func() (err error) { n, err = f.sweepLedger.Open(ctx, conn); return err })
	return n, err
}

func (f faultyLedger) Count(ctx context.Context, conn int64, resource string) (n int64, err error) {
	err = f.read("Count", func() (err error) { n, err = f.sweepLedger.Count(ctx, conn, resource); return err })
	return n, err
}

func (f faultyLedger) Hashes(ctx context.Context, conn int64, resource string, fn func(key, record, source syncdb.Hash, state syncdb.State) error) error {
	return f.read("Hashes", func() error { return f.sweepLedger.Hashes(ctx, conn, resource, fn) })
}

func (f faultyLedger) Each(ctx context.Context, conn int64, resource string, fn func(*syncdb.Entry) error) error {
	return f.read("Each", func() error { return f.sweepLedger.Each(ctx, conn, resource, fn) })
}

func (f faultyLedger) OwnedElsewhere(ctx context.Context, conn int64, resource string, fn func(string) error) error {
	return f.read("OwnedElsewhere", func() error { return f.sweepLedger.OwnedElsewhere(ctx, conn, resource, fn) })
}

func (f faultyLedger) Lookup(ctx context.Context, conn int64, resource string, keys []syncdb.Hash) (found map[syncdb.Hash]syncdb.Entry, err error) {
	err = f.read("Lookup", func() (err error) { found, err = f.sweepLedger.Lookup(ctx, conn, resource, keys); return err })
	return found, err
}

func (f faultyLedger) Resources(ctx context.Context, conn int64) (paths []string, err error) {
	err = f.read("Resources", func() (err error) { paths, err = f.sweepLedger.Resources(ctx, conn); return err })
	return paths, err
}

func (f faultyLedger) Scope(ctx context.Context, conn int64, resource string) (s syncdb.Scope, err error) {
	err = f.read("Scope", func() (err error) { s, err = f.sweepLedger.Scope(ctx, conn, resource); return err })
	return s, err
}

func (f faultyLedger) SetScope(ctx context.Context, l syncdb.Lease, s syncdb.Scope) error {
	return f.write("SetScope", func() error { return f.sweepLedger.SetScope(ctx, l, s) })
}

func (f faultyLedger) Claim(ctx context.Context, l syncdb.Lease, resource string, updates []syncdb.Entry) error {
	return f.write("Claim", func() error { return f.sweepLedger.Claim(ctx, l, resource, updates) })
}

func (f faultyLedger) SaveProblems(ctx context.Context, l syncdb.Lease, problems []syncdb.Problem) error {
	return f.write("SaveProblems", func() error { return f.sweepLedger.SaveProblems(ctx, l, problems) })
}

func (f faultyLedger) Issues(ctx context.Context, conn int64, openOnly bool) (out []syncdb.Issue, err error) {
	err = f.read("Issues", func() (err error) { out, err = f.sweepLedger.Issues(ctx, conn, openOnly); return err })
	return out, err
}

func (f faultyLedger) RankingOf(ctx context.Context, conn int64) (out syncdb.Ranking, err error) {
	err = f.read("RankingOf", func() (err error) { out, err = f.sweepLedger.RankingOf(ctx, conn); return err })
	return out, err
}

func (f faultyLedger) SaveRanking(ctx context.Context, l syncdb.Lease, ranks map[int64]syncdb.Rank) error {
	return f.write("SaveRanking", func() error { return f.sweepLedger.SaveRanking(ctx, l, ranks) })
}

func (f faultyLedger) CloseProblems(ctx context.Context, l syncdb.Lease, resources []string) (n int, err error) {
	err = f.write("CloseProblems", func() (err error) { n, err = f.sweepLedger.CloseProblems(ctx, l, resources); return err })
	return n, err
}

func (f faultyLedger) CloseProblemsOf(ctx context.Context, l syncdb.Lease, resource string, sources []syncdb.Hash) (n int, err error) {
	err = f.write("CloseProblemsOf", func() (err error) {
		n, err = f.sweepLedger.CloseProblemsOf(ctx, l, resource, sources)
		return err
	})
	return n, err
}

func (f faultyLedger) KeepProblems(ctx context.Context, l syncdb.Lease, resource string, sources []syncdb.Hash) error {
	return f.write("KeepProblems", func() error { return f.sweepLedger.KeepProblems(ctx, l, resource, sources) })
}

func (f faultyLedger) DropProblems(ctx context.Context, l syncdb.Lease, resource string, sources []syncdb.Hash) (n int, err error) {
	err = f.write("DropProblems", func() (err error) { n, err = f.sweepLedger.DropProblems(ctx, l, resource, sources); return err })
	return n, err
}

func (f faultyLedger) NoteFailure(ctx context.Context, l syncdb.Lease, failure string) error {
	return f.write("NoteFailure", func() error { return f.sweepLedger.NoteFailure(ctx, l, failure) })
}

func (f faultyLedger) ProblemLinks(ctx context.Context, conn int64, fn func(syncdb.ProblemLink) error) error {
	return f.read("ProblemLinks", func() error { return f.sweepLedger.ProblemLinks(ctx, conn, fn) })
}

func (f faultyLedger) Rejected(ctx context.Context, conn int64, resource string) (m map[syncdb.Hash]syncdb.Hash, err error) {
	err = f.read("Rejected", func() (err error) { m, err = f.sweepLedger.Rejected(ctx, conn, resource); return err })
	return m, err
}

func (f faultyLedger) Problems(ctx context.Context, conn int64, filter syncdb.ProblemFilter) (p []syncdb.Problem, err error) {
	err = f.read("Problems", func() (err error) { p, err = f.sweepLedger.Problems(ctx, conn, filter); return err })
	return p, err
}

func (f faultyLedger) SaveAttempts(ctx context.Context, l syncdb.Lease, attempts []syncdb.Attempt) error {
	return f.write("SaveAttempts", func() error { return f.sweepLedger.SaveAttempts(ctx, l, attempts) })
}

func (f faultyLedger) PurgeAttempts(ctx context.Context, conn int64, before time.Time) (n int64, err error) {
	err = f.write("PurgeAttempts", func() (err error) { n, err = f.sweepLedger.PurgeAttempts(ctx, conn, before); return err })
	return n, err
}

func (f faultyLedger) PurgePlans(ctx context.Context, conn int64, before time.Time) (n int64, err error) {
	err = f.write("PurgePlans", func() (err error) { n, err = f.sweepLedger.PurgePlans(ctx, conn, before); return err })
	return n, err
}

func (f faultyLedger) PutEntries(ctx context.Context, l syncdb.Lease, resource string, entries []syncdb.Entry) error {
	return f.write("PutEntries", func() error { return f.sweepLedger.PutEntries(ctx, l, resource, entries) })
}

func (f faultyLedger) DropEntries(ctx context.Context, l syncdb.Lease, resource string, keys []syncdb.Hash) error {
	return f.write("DropEntries", func() error { return f.sweepLedger.DropEntries(ctx, l, resource, keys) })
}

func (f faultyLedger) SortedHashes(ctx context.Context, conn int64, resource string, fn func(key, record syncdb.Hash, state syncdb.State) error) error {
	return f.read("SortedHashes", func() error { return f.sweepLedger.SortedHashes(ctx, conn, resource, fn) })
}

func (f faultyLedger) Target(ctx context.Context, conn int64) (t syncdb.TargetState, err error) {
	err = f.read("Target", func() (err error) { t, err = f.sweepLedger.Target(ctx, conn); return err })
	return t, err
}

func (f faultyLedger) SetTarget(ctx context.Context, l syncdb.Lease, t syncdb.TargetState) error {
	return f.write("SetTarget", func() error { return f.sweepLedger.SetTarget(ctx, l, t) })
}

func (f faultyLedger) SaveReceipt(ctx context.Context, l syncdb.Lease, r syncdb.Receipt) error {
	return f.write("SaveReceipt", func() error { return f.sweepLedger.SaveReceipt(ctx, l, r) })
}

func (f faultyLedger) Receipts(ctx context.Context, conn int64, limit int) (r []syncdb.Receipt, err error) {
	err = f.read("Receipts", func() (err error) { r, err = f.sweepLedger.Receipts(ctx, conn, limit); return err })
	return r, err
}

func (f faultyLedger) ReceiptOf(ctx context.Context, conn, run int64) (r syncdb.Receipt, err error) {
	err = f.read("ReceiptOf", func() (err error) { r, err = f.sweepLedger.ReceiptOf(ctx, conn, run); return err })
	return r, err
}

func (f faultyLedger) Runs(ctx context.Context, conn int64, limit int) (r []syncdb.Run, err error) {
	err = f.read("Runs", func() (err error) { r, err = f.sweepLedger.Runs(ctx, conn, limit); return err })
	return r, err
}

func (f faultyLedger) AttemptsOfRun(ctx context.Context, conn, run int64, fn func(*syncdb.Attempt) error) error {
	return f.read("AttemptsOfRun", func() error { return f.sweepLedger.AttemptsOfRun(ctx, conn, run, fn) })
}

func (f faultyLedger) SaveHold(ctx context.Context, l syncdb.Lease, p syncdb.Plan, ops iter.Seq2[syncdb.PlanOp, error]) (saved syncdb.Plan, err error) {
	err = f.write("SaveHold", func() (err error) { saved, err = f.sweepLedger.SaveHold(ctx, l, p, ops); return err })
	return saved, err
}

func (f faultyLedger) NarrowPlan(ctx context.Context, l syncdb.Lease, p syncdb.Plan, ops iter.Seq2[syncdb.PlanOp, error]) (saved syncdb.Plan, err error) {
	err = f.write("NarrowPlan", func() (err error) { saved, err = f.sweepLedger.NarrowPlan(ctx, l, p, ops); return err })
	return saved, err
}

func (f faultyLedger) Plans(ctx context.Context, conn int64, filter syncdb.PlanFilter) (p []syncdb.Plan, err error) {
	err = f.read("Plans", func() (err error) { p, err = f.sweepLedger.Plans(ctx, conn, filter); return err })
	return p, err
}

func (f faultyLedger) SavePlan(ctx context.Context, conn int64, p syncdb.Plan, ops iter.Seq2[syncdb.PlanOp, error]) (saved syncdb.Plan, err error) {
	err = f.write("SavePlan", func() (err error) { saved, err = f.sweepLedger.SavePlan(ctx, conn, p, ops); return err })
	return saved, err
}

func (f faultyLedger) PlanByID(ctx context.Context, conn, id int64) (p syncdb.Plan, err error) {
	err = f.read("PlanByID", func() (err error) { p, err = f.sweepLedger.PlanByID(ctx, conn, id); return err })
	return p, err
}

func (f faultyLedger) PlanOps(ctx context.Context, conn, id int64, fn func(syncdb.PlanOp) error) error {
	return f.read("PlanOps", func() error { return f.sweepLedger.PlanOps(ctx, conn, id, fn) })
}

func (f faultyLedger) ClosePlan(ctx context.Context, l syncdb.Lease, id int64, to syncdb.PlanState) error {
	return f.write("ClosePlan", func() error { return f.sweepLedger.ClosePlan(ctx, l, id, to) })
}
