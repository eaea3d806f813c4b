package sync

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/edfisync/edfisync/edfi"
	"github.com/edfisync/edfisync/schema"
	"github.com/edfisync/edfisync/source"
	"github.com/edfisync/edfisync/syncdb"
)

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
		t.out.Entries = append(t.out.Entries, t.entryShown(&entry, former))
	}
	t.out.KeyHash, t.out.NaturalKey = hashText(t.keyHash), t.data(t.key)
	t.out.OpenCalls, err = t.e.Ledger.Open(ctx, t.e.Connection.ID)
	if err != nil {
		return fmt.Errorf("count open intents: %w", err)
	}
	return nil
}

func (t *tracer) entryShown(e *syncdb.Entry, former bool) TraceEntry {
	return TraceEntry{
		KeyHash: hashText(e.KeyHash), NaturalKey: t.data(e.Key), State: stateName(e.State), Origin: originName(e.Origin), EdfiID: e.EdfiID,
		RecordHash: hashText(e.RecordHash), Run: e.RunID, Former: former,
	}
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
		at = append(at, filedUnderKey(t.keyHash)...)
	}
	for _, source := range at {
		p, ok, err := filedUnder(ctx, t.e.Ledger, t.e.Connection.ID, t.resource.Path, source)
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		t.out.Problems = append(t.out.Problems, t.problemShown(&p))
	}
	return nil
}

func (t *tracer) problemShown(p *syncdb.Problem) TraceProblem {
	shown := TraceProblem{Code: p.Code, Outcome: p.Outcome, Owner: p.Owner, Cause: p.Cause, Detail: t.data(p.Detail)}
	if a, ok := AdviceOn(p.Code); ok {
		shown.Hint = a.Hint
	}
	return shown
}

// filedUnderKey are the source hashes under which problems of a record are filed that has no row: deletes, and records that were there before us.
func filedUnderKey(key syncdb.Hash) []syncdb.Hash {
	return []syncdb.Hash{whole(key, syncdb.Hash{'g', 'o', 'n', 'e'}), metProblem(key)}
}

// decisions looks for the record in what people approved, discarded and undid. What they said of the record as it was before does not count any more.
func (t *tracer) decisions(ctx context.Context) error {
	if t.keyHash.IsZero() {
		return nil
	}
	plans, err := t.e.Ledger.Plans(ctx, t.e.Connection.ID, syncdb.PlanFilter{States: []syncdb.PlanState{syncdb.PlanApproved, syncdb.PlanDiscarded}})
	if err != nil {
		return fmt.Errorf("read what people decided: %w", err)
	}
	for i := range plans {
		p := &plans[i]
		if p.Kind == syncdb.PlanSaved {
			continue
		}
		err := t.e.Ledger.PlanOps(ctx, t.e.Connection.ID, p.ID, func(o syncdb.PlanOp) error {
			if o.Resource != t.resource.Path || o.KeyHash != t.keyHash || !t.asksFor(p, o) {
				return nil
			}
			t.out.Decided = append(t.out.Decided, TraceDecision{Decided: decidedIn(p, 1), Call: verbName(o.Verb), State: string(p.State)})
			return nil
		})
		if err != nil {
			return fmt.Errorf("read what people decided: %w", err)
		}
	}
	return nil
}

// asksFor reports whether the record as it is now asks for the op of a plan.
func (t *tracer) asksFor(p *syncdb.Plan, o syncdb.PlanOp) bool {
	if o.Verb == syncdb.Delete && slices.ContainsFunc(t.rows, func(r pickedRow) bool { return whole(r.keyHash, r.record) == o.NewRecord }) {
		return true // of what the row's record was before its natural key changed
	}
	if o.Verb == syncdb.Delete {
		return len(t.rows) == 0 && t.entry != nil && (saysNo(p) || t.entry.RecordHash == o.OldRecord)
	}
	if o.Verb == syncdb.Update && (t.entry == nil || t.entry.RecordHash != o.OldRecord) {
		return false
	}
	for _, row := range t.rows {
		if row.source == o.SourceHash && row.record == o.NewRecord {
			return true
		}
	}
	return false
}

// problemReader is the part of the ledger that problems are read from.
type problemReader interface {
	Problems(ctx context.Context, connection int64, f syncdb.ProblemFilter) ([]syncdb.Problem, error)
}

// filedUnder reads the problem of one source hash.
func filedUnder(ctx context.Context, l problemReader, connection int64, resource string, source syncdb.Hash) (p syncdb.Problem, ok bool, err error) {
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
	err := t.l.Attempts(ctx, t.e.Connection.ID, t.resource.Path, t.keyHash, func(a *syncdb.Attempt) error { t.keep(a); return nil })
	if err != nil {
		return fmt.Errorf("read history: %w", err)
	}
	return nil
}

// keep adds a call to the last ones.
func (t *tracer) keep(a *syncdb.Attempt) {
	t.out.Attempts = append(t.out.Attempts, t.attempt(a))
	if len(t.out.Attempts) > t.o.Attempts {
		t.out.Attempts = t.out.Attempts[1:]
		t.out.Earlier++
	}
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
	out.Compared = true
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
