// Package syncdbtest is the conformance suite of the ledgers: SQLite, PostgreSQL and memory pass the same tests, so that what is tested
// against one holds for all.
package syncdbtest

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/edfisync/edfisync/internal/keys"
	"github.com/edfisync/edfisync/syncdb"
)

// Ledger is the whole API of a ledger. The contract of each method is written at syncdb.DB.
type Ledger interface {
	Close() error
	Identity(ctx context.Context) (ledger string, generation int64, err error)
	Connection(ctx context.Context, tenant, name string) (syncdb.Connection, *keys.Ring, error)

	RequestRun(ctx context.Context, connID int64, reason string) (run syncdb.Run, joined bool, err error)
	RequestScoped(ctx context.Context, connID int64, reason string, scope syncdb.RunScope) (run syncdb.Run, joined bool, err error)
	StartRun(ctx context.Context, connID int64, holder string, ttl time.Duration) (syncdb.Run, syncdb.Lease, error)
	StartErrand(ctx context.Context, connID int64, reason, holder string, ttl time.Duration) (syncdb.Run, syncdb.Lease, error)
	Renew(ctx context.Context, l syncdb.Lease) (renewed syncdb.Lease, cancel bool, err error)
	ExpireLease(ctx context.Context, connID int64, holder string) error
	Cancel(ctx context.Context, connID int64) error
	NoteFailure(ctx context.Context, l syncdb.Lease, failure string) error
	FinishRun(ctx context.Context, l syncdb.Lease, state syncdb.RunState, totals json.RawMessage, errText string) error
	Runs(ctx context.Context, connID int64, limit int) ([]syncdb.Run, error)
	RunByID(ctx context.Context, id int64) (syncdb.Run, error)
	SaveStep(ctx context.Context, l syncdb.Lease, s syncdb.Step) error
	Steps(ctx context.Context, runID int64) ([]syncdb.Step, error)

	Append(ctx context.Context, l syncdb.Lease, step int, intents []syncdb.Intent, results []syncdb.Result) error
	Fold(ctx context.Context, l syncdb.Lease, step int) (folded int, err error)
	Recover(ctx context.Context, l syncdb.Lease) (syncdb.RecoverStats, error)
	Open(ctx context.Context, connID int64) (int, error)

	Hashes(ctx context.Context, connID int64, resource string, fn func(key, record, source syncdb.Hash, state syncdb.State) error) error
	Count(ctx context.Context, connID int64, resource string) (int64, error)
	Each(ctx context.Context, connID int64, resource string, fn func(*syncdb.Entry) error) error
	OwnedElsewhere(ctx context.Context, connID int64, resource string, fn func(edfiID string) error) error
	Lookup(ctx context.Context, connID int64, resource string, hashes []syncdb.Hash) (map[syncdb.Hash]syncdb.Entry, error)
	Claim(ctx context.Context, l syncdb.Lease, resource string, updates []syncdb.Entry) error
	Resources(ctx context.Context, connID int64) ([]string, error)
	Scope(ctx context.Context, connID int64, resource string) (syncdb.Scope, error)
	SetScope(ctx context.Context, l syncdb.Lease, s syncdb.Scope) error

	SaveProblems(ctx context.Context, l syncdb.Lease, problems []syncdb.Problem) error
	KeepProblems(ctx context.Context, l syncdb.Lease, resource string, sources []syncdb.Hash) error
	CloseProblems(ctx context.Context, l syncdb.Lease, resources []string) (cleared int, err error)
	CloseProblemsOf(ctx context.Context, l syncdb.Lease, resource string, sources []syncdb.Hash) (cleared int, err error)
	DropProblems(ctx context.Context, l syncdb.Lease, resource string, sources []syncdb.Hash) (dropped int, err error)
	Issues(ctx context.Context, connID int64, openOnly bool) ([]syncdb.Issue, error)
	Problems(ctx context.Context, connID int64, f syncdb.ProblemFilter) ([]syncdb.Problem, error)
	Rejected(ctx context.Context, connID int64, resource string) (map[syncdb.Hash]syncdb.Hash, error)
	RetryProblems(ctx context.Context, connID int64, f syncdb.ProblemFilter) (int, error)
	ProblemLinks(ctx context.Context, connID int64, fn func(syncdb.ProblemLink) error) error
	RankingOf(ctx context.Context, connID int64) (syncdb.Ranking, error)
	RankedIssues(ctx context.Context, connID int64) ([]syncdb.RankedIssue, error)
	MoreProblems(ctx context.Context, connID int64, n int) (bool, error)
	SaveRanking(ctx context.Context, l syncdb.Lease, ranks map[int64]syncdb.Rank) error
	ArchiveIssue(ctx context.Context, connID, id int64, a syncdb.Archived, act syncdb.AuditRow) error
	UnarchiveIssue(ctx context.Context, connID, id int64, act syncdb.AuditRow) (was bool, err error)

	PutEntries(ctx context.Context, l syncdb.Lease, resource string, entries []syncdb.Entry) error
	DropEntries(ctx context.Context, l syncdb.Lease, resource string, keys []syncdb.Hash) error
	SortedHashes(ctx context.Context, connID int64, resource string, fn func(key, record syncdb.Hash, state syncdb.State) error) error

	SaveHold(ctx context.Context, l syncdb.Lease, p syncdb.Plan, ops iter.Seq2[syncdb.PlanOp, error]) (syncdb.Plan, error)
	NarrowPlan(ctx context.Context, l syncdb.Lease, p syncdb.Plan, ops iter.Seq2[syncdb.PlanOp, error]) (syncdb.Plan, error)
	SavePlan(ctx context.Context, connID int64, p syncdb.Plan, ops iter.Seq2[syncdb.PlanOp, error]) (syncdb.Plan, error)
	Plans(ctx context.Context, connID int64, f syncdb.PlanFilter) ([]syncdb.Plan, error)
	PlanByID(ctx context.Context, connID, id int64) (syncdb.Plan, error)
	PlanOps(ctx context.Context, connID, id int64, fn func(syncdb.PlanOp) error) error
	DecidePlan(ctx context.Context, connID, id int64, decision syncdb.Decision) (syncdb.Plan, error)
	ClosePlan(ctx context.Context, l syncdb.Lease, id int64, to syncdb.PlanState) error
	PurgePlans(ctx context.Context, connID int64, before time.Time) (int64, error)

	SaveAttempts(ctx context.Context, l syncdb.Lease, attempts []syncdb.Attempt) error
	Attempts(ctx context.Context, connID int64, resource string, key syncdb.Hash, fn func(*syncdb.Attempt) error) error
	AttemptsOfRun(ctx context.Context, connID, runID int64, fn func(*syncdb.Attempt) error) error
	PurgeAttempts(ctx context.Context, connID int64, before time.Time) (int64, error)

	Target(ctx context.Context, connID int64) (syncdb.TargetState, error)
	SetTarget(ctx context.Context, l syncdb.Lease, t syncdb.TargetState) error
	SaveReceipt(ctx context.Context, l syncdb.Lease, r syncdb.Receipt) error
	Receipts(ctx context.Context, connID int64, limit int) ([]syncdb.Receipt, error)
	ReceiptOf(ctx context.Context, connID, runID int64) (syncdb.Receipt, error)

	Audit(ctx context.Context, a syncdb.AuditRow) error
	AuditRows(ctx context.Context, after int64, limit int) ([]syncdb.AuditRow, error)
	VerifyAudit(ctx context.Context) (firstBad int64, err error)
}

// Opener opens the same ledger every time it is called, as another process would. The suite sets all of cfg but the DSN.
type Opener func(t *testing.T, cfg syncdb.Config) Ledger

// Exercise runs the suite. fresh makes a ledger for one test and returns how to open it; it is called from parallel tests. Tests may
// share a ledger, since each has connections of its own; then the Opener must set one master key for all.
func Exercise(t *testing.T, fresh func(t *testing.T) Opener) {
	for name, test := range map[string]func(*testing.T, *world){
		"connections":                        connections,
		"requests for runs coalesce":         coalescing,
		"scopes of runs":                     runScopes,
		"requests for parts coalesce":        scopedCoalescing,
		"runs and their steps":               runs,
		"lease":                              lease,
		"a lost lease writes nothing":        fencing,
		"take-over":                          takeOver,
		"errands":                            errands,
		"effects on entries":                 effects,
		"fold order":                         foldOrder,
		"moves":                              moves,
		"fold refuses an unsettled step":     unsettled,
		"big fold":                           bigFold,
		"interrupted fold":                   interruptedFold,
		"recover":                            recovery,
		"death between any two calls":        crashPoints,
		"random histories":                   histories,
		"entries":                            entries,
		"scopes":                             scopes,
		"problems and issues":                problems,
		"connections do not see one another": isolation,
		"retried problems and links":         retries,
		"ranking of causes":                  rankings,
		"archived issues":                    archived,
		"entries put past the journal":       putting,
		"plans":                              plans,
		"ops of plans":                       planOps,
		"holds":                              holds,
		"decisions":                          decisions,
		"closing plans":                      closing,
		"narrowing plans":                    narrowing,
		"releasing what was undone":          releasing,
		"retention of plans":                 planRetention,
		"history":                            keptHistory,
		"target state and receipts":          targets,
		"audit":                              audit,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, newWorld(t, fresh(t)))
		})
	}
}

const (
	grace = 30 * time.Second
	ttl   = time.Minute
)

// world is one test's ledger, clock and connection.
type world struct {
	t      *testing.T
	open   Opener
	master *keys.Master
	clock  *clock
	Ledger
	conn int64
}

func newWorld(t *testing.T, open Opener) *world {
	w := &world{
		t: t, open: open, master: keys.GenerateMaster(), clock: &clock{now: time.Date(2026, 1, 5, 6, 0, 0, 0, time.UTC)},
	}
	w.restart()
	w.conn = w.connect("connection")
	return w
}

// connect returns the connection of that name, of a tenant that only this test has.
func (w *world) connect(name string) int64 {
	w.t.Helper()
	c, _, err := w.Connection(w.t.Context(), w.t.Name(), name)
	must(w.t, err)
	return c.ID
}

// restart opens the ledger anew and forgets the old one without closing it, as a process does that dies.
func (w *world) restart() {
	w.Ledger = w.open(w.t, syncdb.Config{Master: w.master, Clock: w.clock.Now, Grace: grace})
}

// start requests and starts a run.
func (w *world) start() syncdb.Lease {
	w.t.Helper()
	_, _, err := w.RequestRun(w.t.Context(), w.conn, "cli")
	must(w.t, err)
	_, l, err := w.StartRun(w.t.Context(), w.conn, "process 1", ttl)
	must(w.t, err)
	return l
}

func (w *world) finish(l syncdb.Lease) {
	w.t.Helper()
	must(w.t, w.FinishRun(w.t.Context(), l, syncdb.RunDone, nil, ""))
}

// die ends the run's process; the next one takes over when it may.
func (w *world) die() syncdb.Lease {
	w.t.Helper()
	w.clock.advance(ttl + grace)
	w.restart()
	return w.start()
}

// do appends the intents and then their results, and folds the step.
func (w *world) do(l syncdb.Lease, step int, ops ...op) {
	w.t.Helper()
	w.journal(l, step, ops...)
	w.fold(l, step, len(ops))
}

func (w *world) journal(l syncdb.Lease, step int, ops ...op) {
	w.t.Helper()
	for _, o := range ops {
		must(w.t, w.Append(w.t.Context(), l, step, []syncdb.Intent{o.Intent}, nil))
		if !o.open {
			must(w.t, w.Append(w.t.Context(), l, step, nil, []syncdb.Result{o.Result}))
		}
	}
}

func (w *world) fold(l syncdb.Lease, step, want int) {
	w.t.Helper()
	n, err := w.Fold(w.t.Context(), l, step)
	must(w.t, err)
	if n != want {
		w.t.Fatalf("folded %d results, want %d", n, want)
	}
}

// all returns the entries of a resource in the order the ledger gives them.
func (w *world) all(resource string) []syncdb.Entry {
	w.t.Helper()
	var out []syncdb.Entry
	must(w.t, w.Each(w.t.Context(), w.conn, resource, func(e *syncdb.Entry) error {
		out = append(out, *e)
		return nil
	}))
	n, err := w.Count(w.t.Context(), w.conn, resource)
	must(w.t, err)
	if n != int64(len(out)) {
		w.t.Errorf("Count(%s) = %d, but there are %d entries", resource, n, len(out))
	}
	return out
}

// want compares the entries of a resource, without the run that wrote them.
func (w *world) want(resource string, want ...syncdb.Entry) {
	w.t.Helper()
	got, want := w.all(resource), sorted(want)
	for i := range got {
		got[i].RunID = 0
	}
	for i := range want {
		want[i].RunID = 0
	}
	diff(w.t, "entries of "+resource, got, want)
}

// op is an intent with its result; open ones have none.
type op struct {
	syncdb.Intent
	syncdb.Result
	open bool
}

// hash returns a hash that stands for a text.
func hash(text string) (h syncdb.Hash) {
	sum := sha256.Sum256([]byte(text))
	copy(h[:], sum[:])
	return h
}

func hashN(prefix string, n int) (h syncdb.Hash) {
	sum := sha256.Sum256(binary.AppendVarint([]byte(prefix), int64(n)))
	copy(h[:], sum[:])
	return h
}

const students = "ed-fi/students"

// live is a Live entry of a student with that key.
func live(key string) syncdb.Entry {
	return syncdb.Entry{
		Resource: students, KeyHash: hash(key), RecordHash: hash(key + " record"), SourceHash: hash(key + " source"),
		PersonHash: hash(key + " person"), EdfiID: key + "-id", Key: []byte(`["` + key + `"]`), State: syncdb.Live, Origin: syncdb.Created,
	}
}

// with returns the entry changed by fn.
func with(e syncdb.Entry, fn func(*syncdb.Entry)) syncdb.Entry {
	fn(&e)
	return e
}

func unknown(e syncdb.Entry) syncdb.Entry {
	e.State, e.RecordHash = syncdb.Unknown, syncdb.Hash{}
	return e
}

// intent is an intent that would lead to the entry.
func intent(n uint64, verb syncdb.Verb, e syncdb.Entry) syncdb.Intent {
	in := syncdb.Intent{
		Op: n, Verb: verb, Resource: e.Resource, KeyHash: e.KeyHash, RecordHash: e.RecordHash, SourceHash: e.SourceHash,
		PersonHash: e.PersonHash, EdfiID: e.EdfiID, Key: e.Key, SentKey: e.SentKey,
	}
	switch verb {
	case syncdb.Create:
		in.EdfiID = ""
	case syncdb.Delete:
		in.RecordHash = syncdb.Hash{}
	}
	return in
}

// create is a POST answered 201 with the entry's id.
func create(n uint64, e syncdb.Entry) op {
	return op{
		Intent: intent(n, syncdb.Create, e),
		Result: syncdb.Result{Op: n, Effect: syncdb.EffectLive, EdfiID: e.EdfiID, Origin: syncdb.Created},
	}
}

// call is a call about the entry with that effect.
func call(n uint64, verb syncdb.Verb, effect syncdb.Effect, e syncdb.Entry) op {
	o := op{Intent: intent(n, verb, e), Result: syncdb.Result{Op: n, Effect: effect}}
	if effect == syncdb.EffectLive {
		o.Result.EdfiID = e.EdfiID
	}
	return o
}

// lost is the op without its result.
func lost(o op) op {
	o.open = true
	return o
}

type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantErr(t *testing.T, what string, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Errorf("%s: got error %v, want %v", what, got, want)
	}
}

func diff(t *testing.T, what string, got, want any, opts ...cmp.Option) {
	t.Helper()
	if reflect.DeepEqual(got, want) { // much faster on thousands of entries
		return
	}
	if d := cmp.Diff(want, got, append(opts, cmpopts.EquateEmpty())...); d != "" {
		t.Errorf("%s (-want +got):\n%s", what, d)
	}
}

func name(prefix string, n int) string { return fmt.Sprintf("%s%06d", prefix, n) }
