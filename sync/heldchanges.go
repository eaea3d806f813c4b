package sync

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/edfisync/edfisync/edfi"
	"github.com/edfisync/edfisync/schema"
	"github.com/edfisync/edfisync/source"
	"github.com/edfisync/edfisync/syncdb"
)

// HeldChange is one call that a hold keeps back, and what it would change.
type HeldChange struct {
	Resource   string          `json:"resource"`
	Verb       string          `json:"verb" enum:"create,update,delete"`
	Record     string          `json:"record"`               // names the record without student data
	NaturalKey json.RawMessage `json:"naturalKey,omitempty"` // data; as the ledger has it
	SourceKey  string          `json:"sourceKey,omitempty"`  // data; of the row in the source
	From       string          `json:"from,omitempty"`       // where the values before are from: history (sent last, and confirmed) or target (its copy now); "" = there are none
	Elements   []string        `json:"elements"`             // that differ, by path
	Fields     []FieldChange   `json:"fields,omitempty"`     // data: the same with values
	Note       string          `json:"note,omitempty"`       // what is known besides: the row has changed since, or a side could not be read
}

// HeldChanges says what calls of a hold would change, element by element, in their order. It writes nothing. What a record was is taken from the sealed
// history when that has exactly it, and else from the target, by id and never by key (engine.md §6); what it would be from the source as it is now. Without
// data there are names of elements and no values. It reads the queries of the resources of the ops once.
func (e *Engine) HeldChanges(ctx context.Context, l TraceLedger, ops []syncdb.PlanOp, data bool) ([]HeldChange, error) {
	h := heldReader{e: e, l: l, data: data, rows: map[heldRow]pickedRow{}}
	if err := h.read(ctx, ops); err != nil {
		return nil, err
	}
	out := make([]HeldChange, len(ops))
	for i, op := range ops {
		var err error
		if out[i], err = h.change(ctx, op); err != nil {
			return nil, fmt.Errorf("compare a held record of %s: %w", op.Resource, err)
		}
	}
	return out, nil
}

// heldRow names a source row.
type heldRow struct {
	resource string
	source   syncdb.Hash
}

type heldReader struct {
	e    *Engine
	l    TraceLedger
	data bool
	rows map[heldRow]pickedRow // of the ops, as they are in the source now
}

// read finds the source rows of the ops, in one snapshot.
func (h *heldReader) read(ctx context.Context, ops []syncdb.PlanOp) error {
	wanted := map[string]map[syncdb.Hash]struct{}{}
	for _, op := range ops {
		if op.Verb == syncdb.Delete {
			continue // its row is gone
		}
		if wanted[op.Resource] == nil {
			wanted[op.Resource] = map[syncdb.Hash]struct{}{}
		}
		wanted[op.Resource][op.SourceHash] = struct{}{}
	}
	if len(wanted) == 0 {
		return nil
	}
	snapshot, err := h.e.Source.Begin(ctx)
	if err != nil {
		return fmt.Errorf("open a snapshot of the source: %w", err)
	}
	defer snapshot.Close()
	for _, q := range h.e.Source.Queries() {
		if err := h.readFrom(ctx, snapshot, q, wanted[q.Resource.Path]); err != nil {
			return fmt.Errorf("read %s: %w", q.Query.File, err)
		}
	}
	return nil
}

func (h *heldReader) readFrom(ctx context.Context, snapshot Snapshot, q *source.Bound, wanted map[syncdb.Hash]struct{}) error {
	if len(wanted) == 0 {
		return nil
	}
	rows, err := snapshot.Open(ctx, q)
	if err != nil {
		return err
	}
	defer rows.Close()
	m := newMapper(&scanner{e: h.e}, nil, q)
	var batch source.Batch
	for len(wanted) > 0 {
		err := rows.Next(ctx, &batch)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		for i := range batch.Len() {
			row := batch.Row(i)
			key := q.Key(row)
			if key == nil {
				continue
			}
			at := m.sourceHash(key)
			if _, ok := wanted[at]; !ok {
				continue
			}
			delete(wanted, at)
			q.Template.Encode(q.Values(row), &m.enc)
			h.rows[heldRow{q.Resource.Path, at}] = m.picked(row)
		}
	}
	return nil
}

// change compares what a record is with what the call would make of it.
func (h *heldReader) change(ctx context.Context, op syncdb.PlanOp) (HeldChange, error) {
	at := op.KeyHash
	if !op.OldKeyHash.IsZero() { // its key would change: the ledger knows it by the one it has
		at = op.OldKeyHash
	}
	c := HeldChange{Resource: op.Resource, Verb: verbName(op.Verb), Record: RecordID{op.Resource, at, op.SourceHash}.String(), Elements: []string{}}
	r, ok := h.e.Model.Resource(op.Resource)
	if !ok {
		c.Note = "the model has no such resource any more"
		return c, nil
	}
	entries, err := h.e.Ledger.Lookup(ctx, h.e.Connection.ID, op.Resource, []syncdb.Hash{at})
	if err != nil {
		return c, fmt.Errorf("look up the entry: %w", err)
	}
	entry, there := entries[at]
	var before []byte
	if there {
		if before, err = h.before(ctx, &c, op, at, entry); err != nil {
			return c, err
		}
	}
	after, known := h.after(&c, op)
	if h.data {
		c.NaturalKey = clone(entry.Key)
	}
	if !known || before == nil && op.Verb != syncdb.Create {
		return c, nil // one side alone tells no change
	}
	fields, err := fieldChanges(&scanned{scoped: &scoped{Resource: r}}, before, after)
	if err != nil {
		return c, err
	}
	for _, f := range fields {
		c.Elements = append(c.Elements, f.Path)
	}
	if h.data {
		c.Fields = fields
	}
	return c, nil
}

// before is what the record is as far as anybody knows; nil when nobody does.
func (h *heldReader) before(ctx context.Context, c *HeldChange, op syncdb.PlanOp, key syncdb.Hash, entry syncdb.Entry) ([]byte, error) {
	var sent []byte
	err := h.l.Attempts(ctx, h.e.Connection.ID, op.Resource, key, func(a *syncdb.Attempt) error {
		if a.Effect == syncdb.EffectLive && a.EdfiID == entry.EdfiID && !op.OldRecord.IsZero() && a.RecordHash == op.OldRecord && entry.RecordHash == op.OldRecord {
			sent = clone(a.Payload)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read history: %w", err)
	}
	if len(sent) > 0 {
		c.From = "history"
		return sent, nil
	}
	if entry.EdfiID == "" {
		c.note("its id at the target is not known")
		return nil, nil
	}
	body, _, err := h.e.Target(func() error { return nil }).Get(ctx, op.Resource, entry.EdfiID)
	switch {
	case err == nil:
		c.From = "target"
		return body, nil
	case ctx.Err() != nil:
		return nil, err
	case edfi.ClassOf(err) == edfi.NotFound:
		c.note("the target does not have it any more")
	default:
		c.note("the target's copy could not be read")
	}
	return nil, nil
}

// after is what the call would send; known is false when the source does not say any more. Of a delete it is nothing.
func (h *heldReader) after(c *HeldChange, op syncdb.PlanOp) (payload []byte, known bool) {
	if op.Verb == syncdb.Delete {
		return nil, true
	}
	row, ok := h.rows[heldRow{op.Resource, op.SourceHash}]
	if !ok {
		c.note("its row is not in the source any more")
		return nil, false
	}
	if h.data {
		c.SourceKey = string(row.sourceKey)
	}
	switch {
	case row.payload == nil:
		c.note(fmt.Sprintf("its row breaks rules since then: %s", firstRule(row.problems)))
		return nil, false
	case row.record != op.NewRecord || row.keyHash != op.KeyHash:
		c.note("its row has changed since then: the next run judges it anew, and this is what it would send")
	}
	return row.payload, true
}

func (c *HeldChange) note(text string) {
	if c.Note != "" {
		c.Note += "; "
	}
	c.Note += text
}

// firstRule names the first rule a row breaks, without its value.
func firstRule(problems []schema.Problem) string {
	if len(problems) == 0 {
		return "none"
	}
	return problems[0].Code + " at " + problems[0].Path
}
