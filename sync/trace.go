package sync

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/edfisync/edfisync/edfi"
	"github.com/edfisync/edfisync/schema"
	"github.com/edfisync/edfisync/source"
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
	Synced     bool            `json:"synced"`               // the connection syncs the resource
	Rows       []TraceRow      `json:"rows"`
	Entries    []TraceEntry    `json:"entries"` // of the key, and of the row under a key it had before
	OpenCalls  int             `json:"openCalls"`
	Problems   []TraceProblem  `json:"problems"`
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
	EdfiID  string          `json:"id"`
	Found   bool            `json:"found"`
	Error   string          `json:"error,omitempty"`
	Differs []string        `json:"differs,omitempty"`
	Fields  []FieldChange   `json:"fields,omitempty"` // data: target's value before, row's value after
	Copy    json.RawMessage `json:"copy,omitempty"`   // data
}

// tracer collects a trace.
type tracer struct {
	e         *Engine
	l         TraceLedger
	o         TraceOptions
	rules     schema.Rules
	hasher    *schema.Hasher
	resource  *schema.Resource
	queries   []*source.Bound
	scope     *scope
	rows      []pickedRow
	sourceKey string
	key       []byte
	keyHash   syncdb.Hash
	entry     *syncdb.Entry // the one to ask the target for
	out       *Trace
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
	if t.key, err = e.keyOf(r, name, t.rules); err != nil {
		return nil, err
	}
	if t.scope, err = newScope(e.Model, e.Source.Queries(), e.Dependencies); err != nil {
		return nil, err
	}
	t.resource, t.queries, t.sourceKey = r, queries, name.SourceKey
	t.out = &Trace{
		Resource: r.Path, Synced: len(queries) > 0, Rows: []TraceRow{}, Entries: []TraceEntry{}, Problems: []TraceProblem{}, Attempts: []TraceAttempt{},
		Parents: []TraceParent{}, Children: []TraceChildren{},
	}
	if t.rows, err = e.pick(ctx, queries, name.SourceKey, t.key); err != nil {
		return nil, err
	}
	for _, step := range []func(context.Context) error{t.sourceRows, t.entries, t.problems, t.attempts, t.parents, t.children, t.target} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	return t.out, nil
}

// data returns a value when values are to be shown.
func (t *tracer) data(b []byte) json.RawMessage {
	if !t.o.Data || len(b) == 0 || !json.Valid(b) {
		return nil
	}
	return clone(b)
}

func hashText(h syncdb.Hash) string {
	if h.IsZero() {
		return ""
	}
	return fmt.Sprintf("%x", h[:])
}

func (t *tracer) sourceRows(context.Context) error {
	for _, p := range t.rows {
		row := TraceRow{Query: p.query, SourceHash: hashText(p.source), RecordHash: hashText(p.record), Payload: t.data(p.payload)}
		if t.o.Data {
			row.SourceKey = string(p.sourceKey)
		}
		for _, problem := range p.problems {
			rule := TraceRule{Code: problem.Code, Path: problem.Path, Message: problem.Message}
			if t.o.Data {
				rule.Value = problem.Value
			}
			row.Problems = append(row.Problems, rule)
		}
		t.out.Rows = append(t.out.Rows, row)
		if t.key == nil {
			t.key = p.key
		}
	}
	return nil
}

// entries finds the entry of the key, and those the row had under other keys.
func (t *tracer) entries(ctx context.Context) error {
	var keys []syncdb.Hash
	if t.key != nil {
		t.keyHash = t.hasher.Sum(t.key)
		keys = append(keys, t.keyHash)
	}
	sources := map[syncdb.Hash]bool{}
	for _, p := range t.rows {
		sources[p.source] = true
	}
	if len(t.rows) == 0 && t.sourceKey != "" { // the row is gone: its entry still has its source hash
		for _, q := range t.queries {
			sources[newMapper(&scanner{e: t.e}, nil, q).sourceHash([]byte(t.sourceKey))] = true
		}
	}
	if len(sources) > 0 {
		err := t.e.Ledger.Hashes(ctx, t.e.Connection.ID, t.resource.Path, func(key, _, source syncdb.Hash, _ syncdb.State) error {
			if sources[source] && key != t.keyHash && len(keys) < 1+maxPicked {
				keys = append(keys, key)
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("look for entries of the row: %w", err)
		}
	}
	found, err := t.e.Ledger.Lookup(ctx, t.e.Connection.ID, t.resource.Path, keys)
	if err != nil {
		return fmt.Errorf("look up the entry: %w", err)
	}
	for _, key := range keys {
		entry, ok := found[key]
		if !ok {
			continue
		}
		former := t.key != nil && key != t.keyHash
		if t.entry == nil {
			t.entry = &entry
		}
		if t.key == nil {
			t.key, t.keyHash = entry.Key, key
		}
		t.out.Entries = append(t.out.Entries, TraceEntry{
			KeyHash: hashText(key), NaturalKey: t.data(entry.Key), State: stateName(entry.State), Origin: originName(entry.Origin), EdfiID: entry.EdfiID,
			RecordHash: hashText(entry.RecordHash), Run: entry.RunID, Former: former,
		})
	}
	t.out.KeyHash, t.out.NaturalKey = hashText(t.keyHash), t.data(t.key)
	t.out.OpenCalls, err = t.e.Ledger.Open(ctx, t.e.Connection.ID)
	if err != nil {
		return fmt.Errorf("count open intents: %w", err)
	}
	return nil
}

func stateName(s syncdb.State) string {
	switch s {
	case syncdb.Live:
		return "live"
	case syncdb.Unknown:
		return "unknown"
	case syncdb.Missing:
		return "missing"
	}
	return "absent"
}

func originName(o syncdb.Origin) string {
	switch o {
	case syncdb.Created:
		return "created"
	case syncdb.Adopted:
		return "adopted"
	case syncdb.Met:
		return "met"
	}
	return ""
}

func effectName(e syncdb.Effect) string {
	switch e {
	case syncdb.EffectLive:
		return "live"
	case syncdb.EffectGone:
		return "gone"
	case syncdb.EffectUnknown:
		return "unknown"
	case syncdb.EffectMissing:
		return "missing"
	}
	return "none"
}

// problems reads what is filed under the rows, and under the record itself.
func (t *tracer) problems(ctx context.Context) error {
	var at []syncdb.Hash
	for _, p := range t.rows {
		at = append(at, p.source)
	}
	if !t.keyHash.IsZero() {
		at = append(at, whole(t.keyHash, syncdb.Hash{'g', 'o', 'n', 'e'}), whole(t.keyHash, syncdb.Hash{'m', 'e', 't'}))
	}
	for _, source := range at {
		p, ok, err := filedUnder(ctx, t.e.Ledger, t.e.Connection.ID, t.resource.Path, source)
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		shown := TraceProblem{Code: p.Code, Outcome: p.Outcome, Owner: p.Owner, Cause: p.Cause, Detail: t.data(p.Detail)}
		if a, ok := AdviceOn(p.Code); ok {
			shown.Hint = a.Hint
		}
		t.out.Problems = append(t.out.Problems, shown)
	}
	return nil
}

// filedUnder reads the problem of one source hash.
func filedUnder(ctx context.Context, l Problems, connection int64, resource string, source syncdb.Hash) (p syncdb.Problem, ok bool, err error) {
	before := source
	for i := len(before) - 1; i >= 0; i-- { // the filter wants the hash before
		if before[i]--; before[i] != 0xff {
			break
		}
	}
	found, err := l.Problems(ctx, connection, syncdb.ProblemFilter{Resource: resource, After: before, Limit: 1})
	if err != nil {
		return p, false, fmt.Errorf("read problems: %w", err)
	}
	if len(found) == 0 || found[0].SourceHash != source {
		return p, false, nil
	}
	return found[0], true, nil
}

func (t *tracer) attempts(ctx context.Context) error {
	if t.keyHash.IsZero() {
		return nil
	}
	err := t.l.Attempts(ctx, t.e.Connection.ID, t.resource.Path, t.keyHash, func(a *syncdb.Attempt) error {
		t.out.Attempts = append(t.out.Attempts, t.attempt(a))
		if len(t.out.Attempts) > t.o.Attempts {
			t.out.Attempts = t.out.Attempts[1:]
			t.out.Earlier++
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read history: %w", err)
	}
	return nil
}

func (t *tracer) attempt(a *syncdb.Attempt) TraceAttempt {
	out := TraceAttempt{Run: a.RunID, At: a.At, Call: verbName(a.Verb), Status: a.Status, Effect: effectName(a.Effect), EdfiID: a.EdfiID, Payload: t.data(a.Payload)}
	if t.o.Data {
		out.Answer = string(a.Answer)
	}
	return out
}

// parents lists the records the row's payload refers to.
func (t *tracer) parents(ctx context.Context) error {
	if len(t.rows) == 0 {
		return nil
	}
	issues := map[string]int64{}
	for _, ref := range t.rows[0].refs {
		key := t.hasher.Sum(ref.Key)
		p := TraceParent{Entity: ref.Target, Path: ref.Path, KeyHash: hashText(key), NaturalKey: t.data(ref.Key), State: "elsewhere"}
		if i, ok := t.scope.entity[ref.Target]; ok {
			for _, j := range t.scope.targets[i].Resources {
				resource := t.scope.resources[j].Path
				found, err := t.e.Ledger.Lookup(ctx, t.e.Connection.ID, resource, []syncdb.Hash{key})
				if err != nil {
					return fmt.Errorf("look up a parent: %w", err)
				}
				if entry, ok := found[key]; ok {
					p.Resource, p.State = resource, stateName(entry.State)
				} else if p.State == "elsewhere" && t.scope.targets[i].Complete {
					p.State = "absent"
				}
				issues[resource+"\x00"+string(key[:])] = 0
			}
		}
		t.out.Parents = append(t.out.Parents, p)
	}
	err := t.l.ProblemLinks(ctx, t.e.Connection.ID, func(l syncdb.ProblemLink) error {
		if _, ok := issues[l.Resource+"\x00"+string(l.KeyHash[:])]; ok {
			for i := range t.out.Parents {
				if t.out.Parents[i].KeyHash == hashText(l.KeyHash) {
					t.out.Parents[i].Issue, t.out.Parents[i].Resource = l.IssueID, l.Resource
				}
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read problems of parents: %w", err)
	}
	return nil
}

// maxChildKeys is how many children of one resource are named.
const maxChildKeys = 5

// children counts the records that hold this one's key in theirs, and the rows that wait for it.
func (t *tracer) children(ctx context.Context) error {
	if t.keyHash.IsZero() {
		return nil
	}
	count := map[string]*TraceChildren{}
	of := func(resource string) *TraceChildren {
		if count[resource] == nil {
			count[resource] = &TraceChildren{Resource: resource}
		}
		return count[resource]
	}
	err := t.l.ProblemLinks(ctx, t.e.Connection.ID, func(l syncdb.ProblemLink) error {
		if l.BlockedResource == t.resource.Path && l.BlockedKey == t.keyHash {
			of(l.Resource).Waiting++
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read what waits for it: %w", err)
	}
	for _, r := range t.scope.resources {
		for _, c := range (&scanned{scoped: r}).cascades(t.scope) {
			if !t.holds(c) {
				continue
			}
			err := t.e.Ledger.Each(ctx, t.e.Connection.ID, r.Path, func(e *syncdb.Entry) error {
				var values []json.RawMessage
				if json.Unmarshal(e.Key, &values) != nil || len(values) != len(r.Key) || !bytes.Equal(c.key(values), t.key) {
					return nil
				}
				child := of(r.Path)
				child.Entries++
				if key := t.data(e.Key); key != nil && len(child.Keys) < maxChildKeys {
					child.Keys = append(child.Keys, key)
				}
				return nil
			})
			if err != nil {
				return fmt.Errorf("look for children: %w", err)
			}
		}
	}
	for _, r := range t.scope.resources { // in load order
		if child := count[r.Path]; child != nil {
			t.out.Children = append(t.out.Children, *child)
		}
	}
	return nil
}

// holds reports whether an identifying reference can point to records of the traced resource.
func (t *tracer) holds(c cascade) bool {
	for _, j := range t.scope.targets[c.target].Resources {
		if t.scope.resources[j].Path == t.resource.Path {
			return true
		}
	}
	return false
}

// target reads the target's copy by id and compares it with what the row gives now.
func (t *tracer) target(ctx context.Context) error {
	if t.entry == nil || t.entry.EdfiID == "" {
		return nil
	}
	out := &TraceTarget{EdfiID: t.entry.EdfiID}
	t.out.Target = out
	body, _, err := t.e.Target(func() error { return nil }).Get(ctx, t.resource.Path, t.entry.EdfiID)
	switch {
	case edfi.ClassOf(err) == edfi.NotFound:
		return nil
	case ctx.Err() != nil:
		return err
	case err != nil:
		out.Error = err.Error()
		var target *edfi.Error
		if !errors.As(err, &target) {
			return fmt.Errorf("read the target's copy: %w", err)
		}
		return nil
	}
	out.Found, out.Copy = true, t.data(body)
	if len(t.rows) == 0 || t.rows[0].payload == nil {
		return nil
	}
	fields, err := fieldChanges(&scanned{scoped: &scoped{Resource: t.resource}}, body, t.rows[0].payload)
	if err != nil {
		return fmt.Errorf("compare with the target's copy: %w", err)
	}
	for _, f := range fields {
		out.Differs = append(out.Differs, f.Path)
	}
	if t.o.Data {
		out.Fields = fields
	}
	return nil
}
