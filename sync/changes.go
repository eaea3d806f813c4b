package sync

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/edfisync/edfisync/edfi"
	"github.com/edfisync/edfisync/schema"
	"github.com/edfisync/edfisync/syncdb"
)

// ErrNoPosition says that no run has noted a change version of the target, so there is nothing to verify from.
var ErrNoPosition = errors.New("no run has noted the target's change version yet: verify without --since-last, or after the next run")

// sinceLast reads what the target's change queries tell about the time after the last run.
func (v *verifier) sinceLast(ctx context.Context, resources []*schema.Resource) error {
	state, err := v.e.Ledger.Target(ctx, v.e.Connection.ID)
	if err != nil {
		return fmt.Errorf("read the target's state: %w", err)
	}
	if state.ChangeVersion == 0 {
		return ErrNoPosition
	}
	if _, err := v.rd.reader.ChangeVersions(ctx); err != nil {
		return fmt.Errorf("read the target's change versions: %w", err)
	}
	v.out.Since = state.ChangeVersion
	window := edfi.PageOptions{MinChangeVersion: state.ChangeVersion + 1}
	for _, r := range resources {
		c := &changes{v: v, r: r, hasher: v.rd.keys(), out: &ResourceVerification{Resource: r.Path}}
		if err := c.read(ctx, window); err != nil {
			if c.out.Failed = refusal(err); c.out.Failed == "" {
				return fmt.Errorf("read changes of %s: %w", r.Path, err)
			}
		}
		v.out.Resources = append(v.out.Resources, *c.out)
	}
	return nil
}

// changes is what happened to one resource after the last run.
type changes struct {
	v      *verifier
	r      *schema.Resource
	hasher *schema.Hasher
	out    *ResourceVerification

	moved map[string]syncdb.Hash // id → key before
	there map[string]struct{}    // ids that are there now
	wait  []sighting
}

// read takes key changes first, so that a record that moved is not taken for an extra one, and deletes last, so that one that was made again is
// not taken for missing.
func (c *changes) read(ctx context.Context, window edfi.PageOptions) error {
	c.moved, c.there = map[string]syncdb.Hash{}, map[string]struct{}{}
	err := c.v.rd.reader.KeyChanges(ctx, c.r.Path, window, func(k edfi.KeyChange) error {
		if key, ok := c.keyOf(k.OldKeyValues); ok {
			c.moved[k.ID] = key
		}
		return nil
	})
	if err != nil {
		return err
	}
	err = c.v.rd.reader.Each(ctx, c.r.Path, window, func(item json.RawMessage) error {
		var s sighting
		c.out.Read++
		c.v.rd.report(c.r.Path, c.out.Read)
		if c.v.rd.identify(c.r, c.hasher, item, &s) != nil {
			c.out.Unread++
			return nil
		}
		c.there[s.ID] = struct{}{}
		return c.add(ctx, s)
	})
	if err == nil {
		err = c.flush(ctx)
	}
	if err != nil {
		return err
	}
	err = c.v.rd.reader.Deletes(ctx, c.r.Path, window, func(d edfi.Deletion) error {
		key, ok := c.keyOf(d.KeyValues)
		if _, again := c.there[d.ID]; again || !ok {
			return nil
		}
		return c.add(ctx, sighting{Finding: foundGone, ID: d.ID, KeyHash: key})
	})
	if err == nil {
		err = c.flush(ctx)
	}
	return err
}

// keyOf hashes the natural key a change query tells. Keys that cannot be read are counted: they must not pass in silence.
func (c *changes) keyOf(values json.RawMessage) (syncdb.Hash, bool) {
	var fields map[string]any
	d := json.NewDecoder(strings.NewReader(string(values)))
	d.UseNumber() // ids of 12 digits stay what they are
	parts := map[string]string{}
	if d.Decode(&fields) == nil {
		for name, value := range fields {
			parts[name] = fmt.Sprint(value)
		}
	}
	key, err := c.r.KeyFromParts(nil, parts, c.v.rd.rules)
	if err != nil {
		c.out.Unread++
		return syncdb.Hash{}, false
	}
	return c.hasher.Sum(key), true
}

func (c *changes) add(ctx context.Context, s sighting) error {
	if c.wait = append(c.wait, s); len(c.wait) < 500 {
		return nil
	}
	return c.flush(ctx)
}

// flush compares what was gathered with the ledger.
func (c *changes) flush(ctx context.Context) error {
	keys := make([]syncdb.Hash, 0, len(c.wait))
	for _, s := range c.wait {
		keys = append(keys, s.KeyHash)
		if before, ok := c.moved[s.ID]; ok {
			keys = append(keys, before)
		}
	}
	entries, err := c.v.rd.lookup(ctx, c.r.Path, keys)
	if err != nil {
		return fmt.Errorf("look up entries: %w", err)
	}
	for _, s := range c.wait {
		entry, ok := entries[s.KeyHash]
		before, moved := entries[c.moved[s.ID]]
		switch {
		case s.Finding == foundGone:
			if ok && entry.State == syncdb.Live && entry.EdfiID == s.ID {
				c.out.Missing++
				c.v.note(c.out, "missing", s.ID)
			}
		case moved && before.EdfiID == s.ID && before.KeyHash != s.KeyHash: // whatever entry has the key it has now
			c.out.Moved++
			c.v.note(c.out, "moved", s.ID)
		case ok && entry.State != syncdb.Live:
			c.out.Unsettled++
		case ok && entry.EdfiID == s.ID && entry.RecordHash == s.Record:
			c.out.Same++
		case ok:
			c.out.Different++
			c.v.note(c.out, "different", s.ID)
		default:
			c.out.Extra++
			c.v.note(c.out, "extra", s.ID)
		}
	}
	c.wait = c.wait[:0]
	return nil
}
