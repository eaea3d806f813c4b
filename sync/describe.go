package sync

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sort"
	"strings"
	gosync "sync"

	"github.com/edfisync/edfisync/syncdb"
)

// Change is one planned call, or one row that cannot be sent, field by field. It holds student data and is made only on request.
type Change struct {
	Verb      string          `json:"verb"` // create, update, rekey (the natural key changes too), delete, invalid
	Resource  string          `json:"resource"`
	SourceKey string          `json:"sourceKey,omitempty"`
	Key       json.RawMessage `json:"key,omitempty"` // values of the natural key
	Fields    []FieldChange   `json:"fields,omitempty"`
	Problems  json.RawMessage `json:"problems,omitempty"`
	Held      string          `json:"held,omitempty"` // why the call is not made in a run; "" = it is
	Note      string          `json:"note,omitempty"` // why the fields are not what they should be
}

// FieldChange is one element of a payload, before and after. An absent side is nil.
type FieldChange struct {
	Path   string          `json:"path"`
	Before json.RawMessage `json:"before,omitempty"`
	After  json.RawMessage `json:"after,omitempty"`
}

// describer collects the details of a plan.
type describer struct {
	e     *Engine
	limit int

	mu  gosync.Mutex
	bad []Change
}

// errEnough ends the reading of a spool early.
var errEnough = errors.New("enough")

// errSkip leaves one record out.
var errSkip = errors.New("skip")

func (d *describer) invalid(ps []syncdb.Problem) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, p := range ps {
		if len(d.bad) >= d.limit {
			return nil
		}
		d.bad = append(d.bad, Change{Verb: "invalid", Resource: p.Resource, SourceKey: p.SourceKey, Problems: p.Detail})
	}
	return nil
}

// describe describes as many changes as there is room for, resource by resource. Rows that several have the key of are told of as invalid.
func (d *describer) describe(ctx context.Context, found []*scanned, plan *Plan) ([]Change, error) {
	out := d.bad
	target := d.e.Target(func() error { return nil })
	for i, r := range found {
		take := func(sp *spool, verb syncdb.Verb, fn func(*record) (Change, error)) error {
			err := sp.each(func(rec *record) error {
				if len(out) >= d.limit {
					return errEnough
				}
				if err := ctx.Err(); err != nil {
					return err
				}
				if _, dup := r.dups[rec.KeyHash]; dup && verb != syncdb.Delete {
					return nil
				}
				c, err := fn(rec)
				if errors.Is(err, errSkip) {
					return nil
				}
				if err != nil {
					return err
				}
				c.Resource = r.Path
				c.Held = r.judged(plan.gates[i], verb, rec.KeyHash).why()
				if _, blocked := plan.blocked[i][rec.KeyHash]; blocked && c.Held == "" && verb != syncdb.Delete {
					c.Held = "blocked: what it refers to is neither at the target nor about to be sent"
				}
				if _, kept := plan.kept[i][rec.KeyHash]; kept && verb == syncdb.Delete {
					c.Held = "blocked: a record that refers to it, or another one of its person, stays"
				}
				if c.Key == nil {
					c.Key = clone(rec.Key)
				}
				out = append(out, c)
				return nil
			})
			if errors.Is(err, errEnough) {
				return nil
			}
			return err
		}
		err := errors.Join(
			take(r.changed, syncdb.Update, func(rec *record) (Change, error) { return d.update(ctx, target, r, rec) }),
			take(r.fresh, syncdb.Create, func(rec *record) (Change, error) {
				if m, ok := r.moves[rec.KeyHash]; ok && m.how != moveRecreate {
					return d.compare(ctx, target, r, rec, "rekey", m.edfiID)
				}
				fields, err := fieldChanges(r, nil, rec.Payload)
				return Change{Verb: "create", Key: asSent(rec.Key, rec.Payload), SourceKey: string(rec.SourceKey), Fields: fields}, err
			}),
			take(r.gone, syncdb.Delete, func(rec *record) (Change, error) {
				if r.moved(rec.KeyHash) || !r.deletable(r.goneEntry(rec)) {
					return Change{}, errSkip
				}
				return Change{Verb: "delete"}, nil
			}),
		)
		if err != nil {
			return nil, fmt.Errorf("describe %s: %w", r.Path, err)
		}
	}
	return out, nil
}

// update compares a changed record with the target's copy.
func (d *describer) update(ctx context.Context, target Target, r *scanned, rec *record) (Change, error) {
	entries, err := d.e.Ledger.Lookup(ctx, d.e.Connection.ID, r.Path, []syncdb.Hash{rec.KeyHash})
	if err != nil {
		return Change{}, fmt.Errorf("look up entry: %w", err)
	}
	return d.compare(ctx, target, r, rec, "update", entries[rec.KeyHash].EdfiID)
}

// compare reads the target's copy by id: never by key, so that no student id gets into a URL that is logged somewhere. A copy that cannot be
// read is noted with the change; the rest of the plan stands.
func (d *describer) compare(ctx context.Context, target Target, r *scanned, rec *record, verb, id string) (Change, error) {
	c := Change{Verb: verb, Key: asSent(rec.Key, rec.Payload), SourceKey: string(rec.SourceKey)}
	before, _, err := target.Get(ctx, r.Path, id)
	if err != nil {
		if ctx.Err() != nil {
			return c, err
		}
		c.Note = "the target's copy could not be read, so every element is shown: " + err.Error()
	}
	c.Fields, err = fieldChanges(r, before, rec.Payload)
	return c, err
}

// spellings maps the texts of a payload, without case, to how they are written there.
func spellings(payload []byte) map[string]json.RawMessage {
	leaves, out := map[string]json.RawMessage{}, map[string]json.RawMessage{}
	if len(payload) == 0 || flatten(leaves, "", payload) != nil {
		return out
	}
	for _, v := range leaves {
		out[strings.ToLower(string(v))] = v
	}
	return out
}

// spelled is a canonical value as the payload writes it.
func spelled(written map[string]json.RawMessage, v json.RawMessage) json.RawMessage {
	if w, ok := written[strings.ToLower(string(v))]; ok && v != nil {
		return w
	}
	return v
}

// asSent writes a natural key, whose canonical form has descriptors in lower case, the way its payload does.
func asSent(key, payload []byte) json.RawMessage {
	var values []json.RawMessage
	if json.Unmarshal(key, &values) != nil {
		return clone(key)
	}
	written := spellings(payload)
	for i, v := range values {
		values[i] = spelled(written, v)
	}
	text, err := json.Marshal(values)
	if err != nil {
		return clone(key)
	}
	return text
}

// fieldChanges lists the elements in which two payloads differ in canonical form, by path, with their values as they are written. Either may be
// nil.
func fieldChanges(r *scanned, before, after []byte) ([]FieldChange, error) {
	flat := func(payload []byte) (map[string]json.RawMessage, error) {
		out := map[string]json.RawMessage{}
		if len(payload) == 0 {
			return out, nil
		}
		canonical, err := r.Canonical(nil, payload)
		if err != nil {
			return nil, fmt.Errorf("read payload: %w", err)
		}
		return out, flatten(out, "", canonical)
	}
	b, err := flat(before)
	if err != nil {
		return nil, err
	}
	a, err := flat(after)
	if err != nil {
		return nil, err
	}
	var out []FieldChange
	written, there := spellings(after), spellings(before)
	for path, v := range a {
		if old := b[path]; !bytes.Equal(old, v) {
			out = append(out, FieldChange{Path: path, Before: spelled(there, old), After: spelled(written, v)})
		}
	}
	for path, old := range b {
		if _, ok := a[path]; !ok {
			out = append(out, FieldChange{Path: path, Before: spelled(there, old)})
		}
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Path < out[j].Path })
	return out, nil
}

// flatten lists the leaves of a JSON value by path.
func flatten(out map[string]json.RawMessage, path string, v json.RawMessage) error {
	switch v[0] {
	case '{':
		var o map[string]json.RawMessage
		if err := json.Unmarshal(v, &o); err != nil {
			return fmt.Errorf("read object: %w", err)
		}
		for name, member := range o {
			p := name
			if path != "" {
				p = path + "." + name
			}
			if err := flatten(out, p, member); err != nil {
				return err
			}
		}
	case '[':
		var items []json.RawMessage
		if err := json.Unmarshal(v, &items); err != nil {
			return fmt.Errorf("read array: %w", err)
		}
		for i, item := range items {
			if err := flatten(out, fmt.Sprintf("%s[%d]", path, i), item); err != nil {
				return err
			}
		}
	default:
		out[path] = v
	}
	return nil
}
