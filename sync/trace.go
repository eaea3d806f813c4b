package sync

import (
	"context"
	"encoding/json"
	"time"

	"github.com/edfisync/edfisync/schema"
	"github.com/edfisync/edfisync/syncdb"
)

// TraceLedger is the part of the ledger that a trace needs beside the engine's.
type TraceLedger interface {
	ProblemLinks(ctx context.Context, connection int64, fn func(syncdb.ProblemLink) error) error
	// Attempts calls fn with what was sent for the record with this key, oldest first.
	Attempts(ctx context.Context, connection int64, resource string, key syncdb.Hash, fn func(*syncdb.Attempt) error) error
}

// TraceOptions say how much a trace shows.
type TraceOptions struct {
	// Data shows values: keys, payloads, answers. The caller has it noted in the audit trail first (I16). Without it a trace has hashes, codes,
	// states and times only.
	Data bool
	// Attempts is how many of the last calls are shown; 0 means 20.
	Attempts int
}

// Trace is all that is known of one record, from the source to the target.
type Trace struct {
	Resource   string          `json:"resource"`
	KeyHash    string          `json:"keyHash,omitempty"`
	NaturalKey json.RawMessage `json:"naturalKey,omitempty"` // data
	Synced     bool            `json:"-"`                    // the connection syncs the resource; false when the source was not asked, too
	InScope    *bool           `json:"inScope,omitempty"`    // the same; nil = the source was not asked
	Rows       []TraceRow      `json:"rows"`
	Entries    []TraceEntry    `json:"entries"` // of the key, and of the row under a key it had before
	OpenCalls  int             `json:"openCalls"`
	Problems   []TraceProblem  `json:"problems"`
	Decided    []TraceDecision `json:"decided,omitempty"` // what people decided about the call a run would make of it
	Attempts   []TraceAttempt  `json:"attempts"`
	Earlier    int             `json:"earlierAttempts,omitempty"` // not shown
	Parents    []TraceParent   `json:"parents"`
	Children   []TraceChildren `json:"children"`
	Target     *TraceTarget    `json:"target,omitempty"` // nil when no id is known to ask for
}

// TraceRow is one source row of the record. More than one is a mistake.
type TraceRow struct {
	Query      string          `json:"query"`
	SourceKey  string          `json:"sourceKey,omitempty"` // data
	SourceHash string          `json:"sourceHash"`
	RecordHash string          `json:"recordHash,omitempty"`
	Problems   []TraceRule     `json:"problems,omitempty"`
	Payload    json.RawMessage `json:"payload,omitempty"` // data
}

// TraceRule is one rule a row breaks.
type TraceRule struct {
	Code    string `json:"code"`
	Path    string `json:"path"`
	Message string `json:"message"`
	Value   string `json:"value,omitempty"` // data
}

// TraceEntry is what the ledger believes the target holds.
type TraceEntry struct {
	KeyHash    string          `json:"keyHash"`
	NaturalKey json.RawMessage `json:"naturalKey,omitempty"` // data
	State      string          `json:"state"`                // live, unknown, missing
	Origin     string          `json:"origin"`               // created, adopted, met
	EdfiID     string          `json:"id,omitempty"`
	RecordHash string          `json:"recordHash,omitempty"`
	Run        int64           `json:"run"`
	Former     bool            `json:"former,omitempty"` // under another key than the row has now
}

// TraceProblem is why the record is not in sync.
type TraceProblem struct {
	Code    string          `json:"code"`
	Outcome string          `json:"outcome"`
	Owner   string          `json:"owner"`
	Cause   string          `json:"cause"`
	Hint    string          `json:"hint,omitempty"`
	Detail  json.RawMessage `json:"detail,omitempty"` // data
}

// TraceDecision is what somebody decided about the call a run would make of the record as it is now.
type TraceDecision struct {
	Decided
	Call  string `json:"call"`  // create, update, delete
	State string `json:"state"` // approved, discarded
}

// TraceAttempt is one answered call.
type TraceAttempt struct {
	Run     int64           `json:"run"`
	At      time.Time       `json:"at"`
	Call    string          `json:"call"` // create, update, delete
	Status  int             `json:"status"`
	Effect  string          `json:"effect"`
	EdfiID  string          `json:"id,omitempty"`
	Payload json.RawMessage `json:"payload,omitempty"` // data
	Answer  string          `json:"answer,omitempty"`  // data
}

// TraceParent is one record this one refers to.
type TraceParent struct {
	Entity     string          `json:"entity"`
	Path       string          `json:"path"`
	Resource   string          `json:"resource,omitempty"`
	KeyHash    string          `json:"keyHash"`
	NaturalKey json.RawMessage `json:"naturalKey,omitempty"` // data
	State      string          `json:"state"`                // live, unknown, missing, absent, elsewhere (the connection does not sync it)
	Issue      int64           `json:"issue,omitempty"`      // open issue of that record
}

// TraceChildren are records of one resource that refer to this one: those in the ledger whose natural key holds its key, and rows that wait for
// it.
type TraceChildren struct {
	Resource string            `json:"resource"`
	Entries  int64             `json:"entries"`
	Waiting  int64             `json:"waiting"`
	Keys     []json.RawMessage `json:"keys,omitempty"` // data; of the first few entries
}

// TraceTarget is the target's copy now, and how it differs from the row's payload, by path.
type TraceTarget struct {
	EdfiID   string          `json:"id"`
	Found    bool            `json:"found"`
	Error    string          `json:"error,omitempty"`
	Compared bool            `json:"compared"` // with what the row gives now; false = there is no row, or it breaks rules
	Differs  []string        `json:"differs,omitempty"`
	Fields   []FieldChange   `json:"fields,omitempty"` // data: target's value before, row's value after
	Copy     json.RawMessage `json:"copy,omitempty"`   // data
}

// Trace collects all that is known of one record. It writes nothing. It reads the resource's queries, the ledger, and the record at the target by
// its id, never by its key. A name that cannot be one is *UnknownRecordError.
func (e *Engine) Trace(ctx context.Context, l TraceLedger, name RecordName, o TraceOptions) (*Trace, error) {
	if o.Attempts <= 0 {
		o.Attempts = 20
	}
	t := &tracer{e: e, l: l, o: o, rules: e.options().Rules, hasher: schema.NewHasher(e.Keys.HashMAC())}
	r, queries, err := e.subject(name)
	if err != nil {
		return nil, err
	}
	if t.key, err = keyNamed(r, name, t.rules); err != nil {
		return nil, err
	}
	if t.scope, err = newScope(e.Model, e.Source.Queries(), e.Dependencies); err != nil {
		return nil, err
	}
	t.resource, t.queries, t.sourceKey = r, queries, name.SourceKey
	t.out = newTrace(r.Path)
	t.out.Synced = len(queries) > 0
	t.out.InScope = &t.out.Synced
	if t.rows, err = e.pick(ctx, queries, name.SourceKey, t.key); err != nil {
		return nil, err
	}
	for _, step := range []func(context.Context) error{t.sourceRows, t.entries, t.problems, t.decisions, t.attempts, t.parents, t.children, t.target} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	return t.out, nil
}

func newTrace(resource string) *Trace {
	return &Trace{
		Resource: resource, Rows: []TraceRow{}, Entries: []TraceEntry{}, Problems: []TraceProblem{}, Attempts: []TraceAttempt{}, Parents: []TraceParent{}, Children: []TraceChildren{},
	}
}
