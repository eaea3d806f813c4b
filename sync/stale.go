package sync

import (
	"context"
	"fmt"
	"log/slog"
	"slices"

	"github.com/edfisync/edfisync/schema"
	"github.com/edfisync/edfisync/syncdb"
)

// A reference outside the natural key changes at the target when what it refers to gets another natural key by PUT, and the ledger has the record as it
// was sent. Mostly its row follows in the same run: it says the new key. When it cannot, for it is invalid, shares its key, or its resource is not synced any more, and a
// new record gets the old key, the row may say again what was sent once, while the target's record refers to another. Such entries are Unknown from
// the run on that brings the old key into being, or changes it (I1, I2).

// suspects are targets that rows may bring natural keys into being of which records had before: indexes into scope.targets.
type suspects map[uint16]struct{}

// suspects finds the targets a resource refers to outside its key. found are the resources above it, scanned.
func (s *scope) suspects(r *schema.Resource, found []*scanned) suspects {
	var out suspects
	eachOutside(r, func(entity string) {
		t, ok := s.entity[entity]
		if !ok || !slices.ContainsFunc(s.targets[t].Resources, func(i int) bool { return i < len(found) && found[i].bears() }) {
			return
		}
		if out == nil {
			out = suspects{}
		}
		out[t] = struct{}{}
	})
	return out
}

// eachOutside calls fn for the entity of every reference of a resource that is not part of its natural key.
func eachOutside(r *schema.Resource, fn func(entity string)) {
	own := lineages(r)
	eachReference(r.Root, "", func(path string, p *schema.Property) {
		if !slices.ContainsFunc(own, func(l lineage) bool { return l.name == path }) {
			fn(p.Target)
		}
	})
}

// outdated notes an unchanged row that refers to a natural key which the ledger has no entry of: what was sent cannot be what the target has.
func (m *mapper) outdated(i int, row [][]byte) {
	m.refs = m.q.Template.References(m.q.Values(row), m.refs[:0])
	for _, ref := range m.refs {
		t, ok := m.s.scope.entity[ref.Target]
		if _, suspect := m.res.suspects[t]; !ok || !suspect || m.res.identifies(ref.Path) {
			continue
		}
		if hash := m.hasher.Sum(ref.Key); m.s.arises(t, hash) {
			m.res.mu.Lock()
			m.res.stale = append(m.res.stale, m.keys[i])
			m.res.mu.Unlock()
			return
		}
	}
}

// arises reports whether rows bring a natural key into being that no entry of the target has.
func (s *scanner) arises(t uint16, key syncdb.Hash) bool {
	arises := false
	for _, j := range s.scope.targets[t].Resources {
		if j >= len(s.found) {
			continue
		}
		r := s.found[j]
		i := r.table.find(key)
		if i >= 0 && r.table.flags[i]&slotEntry != 0 {
			return false
		}
		arises = arises || i >= 0 && r.table.flags[i]&slotNew != 0 && r.bears()
	}
	return arises
}

// markStale lets the ledger say that it does not know what the target has of records whose references may have changed. It reports whether it did so
// for any of the scope, which then has to be compared again.
func (e *Engine) markStale(ctx context.Context, k *keeper, f *family) (marked bool, err error) {
	for _, of := range f.all {
		var keys []syncdb.Hash
		if of.in != nil {
			keys, err = of.in.outdatedKeys()
		} else if f.renamesOutside(of.Resource) {
			keys, err = e.liveKeys(ctx, of.Path)
		}
		if err != nil {
			return marked, fmt.Errorf("find records of %s whose references may have changed: %w", of.Path, err)
		}
		for some := range slices.Chunk(keys, 1000) {
			if err := e.markUnknown(ctx, k, of.Path, some); err != nil {
				return marked, fmt.Errorf("note records of %s whose references may have changed: %w", of.Path, err)
			}
		}
		if len(keys) > 0 {
			marked = marked || of.in != nil
			e.logger().Info("what records refer to may have got another natural key at the target; they are sent again", slog.String("resource", of.Path), slog.Int("records", len(keys)))
		}
	}
	return marked, nil
}

// outdatedKeys lists the live entries of which a run does not know what they refer to: those it saw, those several rows claim, and those an invalid row
// stands for.
func (r *scanned) outdatedKeys() ([]syncdb.Hash, error) {
	keys := slices.Clone(r.stale)
	if len(r.suspects) == 0 {
		return keys, nil
	}
	for key := range r.dups {
		if r.table.live(key) {
			keys = append(keys, key)
		}
	}
	if r.kept.count == 0 {
		return keys, nil
	}
	err := r.kept.each(func(rec *record) error {
		if e := r.goneEntry(rec); e.State == syncdb.Live {
			keys = append(keys, e.KeyHash)
		}
		return nil
	})
	return keys, err
}

func (e *Engine) liveKeys(ctx context.Context, path string) (keys []syncdb.Hash, err error) {
	err = e.Ledger.Hashes(ctx, e.Connection.ID, path, func(key, _, _ syncdb.Hash, state syncdb.State) error {
		if state == syncdb.Live {
			keys = append(keys, key)
		}
		return nil
	})
	return keys, err
}

func (e *Engine) markUnknown(ctx context.Context, k *keeper, path string, keys []syncdb.Hash) error {
	entries, err := e.Ledger.Lookup(ctx, e.Connection.ID, path, keys)
	if err != nil {
		return err
	}
	var put []syncdb.Entry
	for _, entry := range entries {
		entry.State, entry.RecordHash = syncdb.Unknown, syncdb.Hash{}
		put = append(put, entry)
	}
	return e.putEntries(ctx, k, path, put)
}

// renamesOutside reports whether natural keys that records of the resource refer to outside their own may change in this run.
func (f *family) renamesOutside(r *schema.Resource) bool {
	renames := false
	eachOutside(r, func(entity string) {
		renames = renames || slices.ContainsFunc(f.model.Concrete(entity), f.renamesAbove)
	})
	return renames
}
