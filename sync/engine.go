// Package sync is the product: it keeps the records of an Ed-Fi API equal to what the rows of a source say. One run is scan → plan →
// execute → close (design.md, "How a record travels"). The planner decides and does nothing else; the executor acts and decides nothing.
// It knows the source, the target and the ledger only through the small interfaces of this package.
package sync

import (
	"context"
	"encoding/json"
	"iter"
	"log/slog"
	"net/url"
	"time"

	"github.com/edfisync/edfisync/edfi"
	"github.com/edfisync/edfisync/internal/keys"
	"github.com/edfisync/edfisync/schema"
	"github.com/edfisync/edfisync/source"
	"github.com/edfisync/edfisync/syncdb"
)

// Source gives the rows of one connection. One run uses it at a time.
type Source interface {
	// Queries are the compiled queries of the mapping pack.
	Queries() []*source.Bound
	// Begin opens one snapshot for all queries of a run.
	Begin(ctx context.Context) (Snapshot, error)
}

// Snapshot is one consistent view of the source.
type Snapshot interface {
	// Open starts a query. Rows ends with io.EOF only when every row was read; any other error means the scan is incomplete (I5).
	Open(ctx context.Context, q *source.Bound) (Rows, error)
	// Watermark says how new the state is, for source.Behind to compare; "" when nothing tells.
	Watermark() string
	// Close releases the snapshot; it may be called twice.
	Close() error
}

// Rows streams one query's rows in batches.
type Rows interface {
	Next(ctx context.Context, b *source.Batch) error
	Close() error
}

// Target is the Ed-Fi API. Its calls are retried inside where that is safe; an error is an *edfi.Error. Safe for concurrent use.
type Target interface {
	Post(ctx context.Context, resource string, body []byte) (edfi.Answer, error)
	Put(ctx context.Context, resource, id string, body []byte) (edfi.Answer, error)
	Delete(ctx context.Context, resource, id string) (edfi.Answer, error)
	Get(ctx context.Context, resource, id string) (body []byte, etag string, err error)
	FindByKey(ctx context.Context, resource string, key url.Values) (id string, body []byte, found bool, err error)
	// ChangeVersions is an error of class NotFound or another one when the target has no change queries.
	ChangeVersions(ctx context.Context) (edfi.ChangeVersions, error)
	// Concurrency is how many calls the target takes at once now.
	Concurrency() int
}

// Runs is the part of the ledger that coalesces runs and lends the right to write (I7).
type Runs interface {
	RequestScoped(ctx context.Context, connection int64, reason string, scope syncdb.RunScope) (run syncdb.Run, joined bool, err error)
	StartRun(ctx context.Context, connection int64, holder string, ttl time.Duration) (syncdb.Run, syncdb.Lease, error)
	// StartErrand starts a run of its own that never waits, and leaves the one that does to StartRun.
	StartErrand(ctx context.Context, connection int64, reason, holder string, ttl time.Duration) (syncdb.Run, syncdb.Lease, error)
	Renew(ctx context.Context, lease syncdb.Lease) (renewed syncdb.Lease, cancel bool, err error)
	SaveStep(ctx context.Context, lease syncdb.Lease, s syncdb.Step) error
	// NoteFailure keeps why the run is about to fail: what FailureOf says.
	NoteFailure(ctx context.Context, lease syncdb.Lease, failure string) error
	FinishRun(ctx context.Context, lease syncdb.Lease, state syncdb.RunState, totals json.RawMessage, errText string) error
}

// Journal is the part of the ledger that makes intents durable before calls (I3).
type Journal interface {
	Append(ctx context.Context, lease syncdb.Lease, step int, intents []syncdb.Intent, results []syncdb.Result) error
	Fold(ctx context.Context, lease syncdb.Lease, step int) (int, error)
	Recover(ctx context.Context, lease syncdb.Lease) (syncdb.RecoverStats, error)
	// Open counts intents without an answer.
	Open(ctx context.Context, connection int64) (int, error)
}

// Entries is the part of the ledger that says what the target holds.
type Entries interface {
	Count(ctx context.Context, connection int64, resource string) (int64, error)
	Hashes(ctx context.Context, connection int64, resource string, fn func(key, record, source syncdb.Hash, state syncdb.State) error) error
	Each(ctx context.Context, connection int64, resource string, fn func(*syncdb.Entry) error) error
	// OwnedElsewhere gives the ids of records that other connections of the ledger made or adopted.
	OwnedElsewhere(ctx context.Context, connection int64, resource string, fn func(edfiID string) error) error
	Lookup(ctx context.Context, connection int64, resource string, keys []syncdb.Hash) (map[syncdb.Hash]syncdb.Entry, error)
	Resources(ctx context.Context, connection int64) ([]string, error)
	Scope(ctx context.Context, connection int64, resource string) (syncdb.Scope, error)
	SetScope(ctx context.Context, lease syncdb.Lease, s syncdb.Scope) error
	Claim(ctx context.Context, lease syncdb.Lease, resource string, updates []syncdb.Entry) error
}

// Problems is the part of the ledger that keeps what a person must act on.
type Problems interface {
	SaveProblems(ctx context.Context, lease syncdb.Lease, problems []syncdb.Problem) error
	// CloseProblems removes what the run did not save or keep; nil means of all resources, also of those that are not in scope any more.
	CloseProblems(ctx context.Context, lease syncdb.Lease, resources []string) (int, error)
	Rejected(ctx context.Context, connection int64, resource string) (map[syncdb.Hash]syncdb.Hash, error)
	// KeepProblems says that the problems of these source rows are as they were.
	KeepProblems(ctx context.Context, lease syncdb.Lease, resource string, sources []syncdb.Hash) error
	// CloseProblemsOf is CloseProblems for these source rows of a resource only.
	CloseProblemsOf(ctx context.Context, lease syncdb.Lease, resource string, sources []syncdb.Hash) (int, error)
	ProblemLinks(ctx context.Context, connection int64, fn func(syncdb.ProblemLink) error) error
	Problems(ctx context.Context, connection int64, f syncdb.ProblemFilter) ([]syncdb.Problem, error)
	Issues(ctx context.Context, connection int64, openOnly bool) ([]syncdb.Issue, error)
	RankingOf(ctx context.Context, connection int64) (syncdb.Ranking, error)
	// SaveRanking keeps what RankCauses found, by issue, until a problem changes.
	SaveRanking(ctx context.Context, lease syncdb.Lease, ranks map[int64]syncdb.Rank) error
	// DropProblems removes problems that are no more, those with OutcomeMet too.
	DropProblems(ctx context.Context, lease syncdb.Lease, resource string, sources []syncdb.Hash) (int, error)
}

// Bulk is the part of the ledger that takes over what a reading of the target found. Writes are refused while intents are open.
type Bulk interface {
	// PutEntries inserts or replaces whole entries by their key.
	PutEntries(ctx context.Context, lease syncdb.Lease, resource string, entries []syncdb.Entry) error
	DropEntries(ctx context.Context, lease syncdb.Lease, resource string, keys []syncdb.Hash) error
	// SortedHashes streams the hashes of a resource by key, bytewise.
	SortedHashes(ctx context.Context, connection int64, resource string, fn func(key, record syncdb.Hash, state syncdb.State) error) error
}

// TargetMemory is what the ledger remembers of the target from run to run.
type TargetMemory interface {
	Target(ctx context.Context, connection int64) (syncdb.TargetState, error)
	SetTarget(ctx context.Context, lease syncdb.Lease, t syncdb.TargetState) error
}

// Holds is the part of the ledger that keeps what waits for a person (engine.md §6).
type Holds interface {
	// SaveHold replaces the ops of the open hold with the same resource, verb and rule, or opens one. Without ops such a hold is released.
	SaveHold(ctx context.Context, lease syncdb.Lease, p syncdb.Plan, ops iter.Seq2[syncdb.PlanOp, error]) (syncdb.Plan, error)
	// NarrowPlan replaces the ops of a plan somebody has decided about by those of them that a scan still asks for, as it does now. Without ops it is released.
	// It returns a *syncdb.PlanStateError or a *syncdb.PlanEditionError when a person decided otherwise meanwhile.
	NarrowPlan(ctx context.Context, lease syncdb.Lease, p syncdb.Plan, ops iter.Seq2[syncdb.PlanOp, error]) (syncdb.Plan, error)
	Plans(ctx context.Context, connection int64, f syncdb.PlanFilter) ([]syncdb.Plan, error)
	SavePlan(ctx context.Context, connection int64, p syncdb.Plan, ops iter.Seq2[syncdb.PlanOp, error]) (syncdb.Plan, error)
	PlanByID(ctx context.Context, connection, id int64) (syncdb.Plan, error)
	PlanOps(ctx context.Context, connection, id int64, fn func(syncdb.PlanOp) error) error
	// ClosePlan returns a *syncdb.PlanStateError when a person decided otherwise meanwhile.
	ClosePlan(ctx context.Context, lease syncdb.Lease, id int64, to syncdb.PlanState) error
}

// Past is what undo needs of the ledger: the sealed history, and a place for what must not be done again.
type Past interface {
	// AttemptsOfRun calls fn with what is kept of the calls of a run, in the order they were saved.
	AttemptsOfRun(ctx context.Context, connection, run int64, fn func(*syncdb.Attempt) error) error
	SavePlan(ctx context.Context, connection int64, p syncdb.Plan, ops iter.Seq2[syncdb.PlanOp, error]) (syncdb.Plan, error)
}

// Ledger is all of it. *syncdb.DB and *memdb.DB are ledgers.
type Ledger interface {
	Runs
	Journal
	Entries
	Problems
	History
	Bulk
	TargetMemory
	Receipts
	Past
	Holds
}

// Options tune a run. The zero value works.
type Options struct {
	WorkDir string // where spools go; default: the system's temporary directory
	Holder  string // names this process in the lease; default "edfisync"
	Reason  string // why the run was asked for: cron, api, console, cli (default), feed; errands have their own
	// Scope is the part of what changed that the run is to send. A run that waits already is joined, and sends what others asked for, too. Adopt,
	// Verify, Undo, SendOne and a run with Apply do without.
	Scope       syncdb.RunScope
	Schools     Schools       // the part of the district that the connection syncs, in every run
	Waiting     bool          // do the run that waits, and return syncdb.ErrNoRun when none does: another process was faster
	LeaseTTL    time.Duration // default 60 s
	RenewEvery  time.Duration // default 10 s
	CallTimeout time.Duration // longest one call may take; default 30 s. The lease must outlive it
	SettleDelay time.Duration // how long "not found" is not believed when a lost create is looked up; default 5 s
	Workers     int           // calls in flight at most; default 16
	Mappers     int           // goroutines that map rows; default: the number of processors
	Rules       schema.Rules  // canonical form and key comparison
	Safeguards  Safeguards
	// Apply is the number of a saved plan that a person has approved: the run makes exactly its ops, or refuses with a *StalePlanError (I8). It is an
	// errand: a run that waits goes on waiting.
	Apply int64
	// RetryRejected sends again what the target refused before, though it has not changed.
	RetryRejected bool
	// History is how long what was sent and answered is kept, sealed, to trace a record and to undo a run; 0 = it is not kept, and what was kept
	// is dropped. A process that is killed loses the last calls of it.
	History time.Duration
	// Resync reads the whole target first and makes the ledger say what it holds, so that the run repairs what other clients, a wipe or a
	// restore did to it. It needs Engine.Reader.
	Resync bool
	// Stalled is how long a run may go without progress before it is cut short with ErrStalled; 0 = for ever. It must be longer than a call may take with all
	// its repeats and the pauses a target asks for.
	Stalled time.Duration
	// QueryTimeout is how long the source lets a query take: while one is under way no progress is missed for as long. 0 = it has no limit.
	QueryTimeout time.Duration

	FoldEvery int // results after which the journal is folded inside a step; default 250,000

	limits limits
}

// limits bound what one run keeps in memory of single records. The zero value has the defaults.
type limits struct {
	moves  int64 // gone entries of a resource that are joined with new rows as natural-key changes; default 200,000
	strays int   // strays of a resource that are looked up, the next ones by the next run; default 10,000
}

// Engine syncs one connection. It is used for one run or plan at a time.
type Engine struct {
	Model        *schema.Model
	Dependencies []schema.Dependency // load order, from the target or schema.Dependencies
	Source       Source
	// Target returns the target with a check that runs before every write attempt, retries included (I7).
	Target func(check func() error) Target
	// Reader reads records back for Adopt, Verify, a run with Options.Resync, and Undo; other runs do without.
	Reader     Reader
	Ledger     Ledger
	Keys       *keys.Ring
	Connection syncdb.Connection
	// Config is the version of configuration and mapping pack; a change of it is reason enough to send rejected records again. May be "".
	Config  string
	Options Options
	Logger  *slog.Logger
	// Begun, when set, is called when a run has its lease, before anything is sent: the ledger's generation is a new one, for a witness to note (F54).
	Begun func(ctx context.Context, run syncdb.Run)
	// Steps, when set, is told of steps that have something to do.
	Steps StepWatcher
	// Progress, when set, is called from one goroutine at a time, a few times a second.
	Progress func(Event)
}

// StepWatcher is told of the steps of runs, for traces. Safe for concurrent use; it must be quick.
type StepWatcher interface {
	// Step is called when a step begins; verb is create, update or delete. The step's calls are made with the context it returns, which must end when ctx does;
	// done is called once, with what the step did.
	Step(ctx context.Context, resource, verb string) (calls context.Context, done func(t Totals, err error))
}

// Event tells how far a run is.
type Event struct {
	Phase    string `json:"phase"` // recover, read, scan, look, delete-evidence, send, close
	Resource string `json:"resource,omitempty"`
	Done     int64  `json:"done"`
	Total    int64  `json:"total,omitempty"` // 0 = not known yet
}

func (e *Engine) options() Options {
	o := e.Options
	set := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	set(&o.LeaseTTL, 60*time.Second)
	set(&o.RenewEvery, min(10*time.Second, o.LeaseTTL/4))
	set(&o.CallTimeout, min(30*time.Second, o.LeaseTTL/2))
	set(&o.SettleDelay, 5*time.Second)
	if o.Holder == "" {
		o.Holder = "edfisync"
	}
	if o.Reason == "" {
		o.Reason = "cli"
	}
	if o.Workers <= 0 {
		o.Workers = 16
	}
	if o.FoldEvery <= 0 {
		o.FoldEvery = 250_000
	}
	if o.limits.moves <= 0 {
		o.limits.moves = 200_000
	}
	if o.limits.strays <= 0 {
		o.limits.strays = 10_000
	}
	if o.Rules.Version == 0 {
		o.Rules.Version = 1
	}
	return o
}

func (e *Engine) logger() *slog.Logger {
	if e.Logger == nil {
		return slog.New(slog.DiscardHandler)
	}
	return e.Logger
}
