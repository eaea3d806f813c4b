package syncdb

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"
)

// bulk is one transaction made for many entries of one connection. Hashes are given in key order.
type bulk interface {
	// fence is DB.fence, sharing the lease row until commit. now is the parameter of dialect.now.
	fence(ctx context.Context, l Lease, now any) error
	// window is how many entries a call should be given.
	window() int
	// load returns the entries that exist.
	load(ctx context.Context, resource foldResource, hashes []Hash) (map[Hash]*Entry, error)
	// insert writes entries whose keys are not in the table; replace says what happens to those that are: written over, or skipped.
	// It returns how many were written.
	insert(ctx context.Context, resource foldResource, entries []*Entry, replace bool) (int64, error)
	// remove deletes entries and returns how many there were.
	remove(ctx context.Context, resource foldResource, hashes []Hash) (int64, error)
	// grow adds to the number of entries of a resource.
	grow(ctx context.Context, resource foldResource, by int64) error
	// frames counts the connection's journal frames.
	frames(ctx context.Context) (int64, error)
	// drop deletes journal frames; rewrite replaces one by a frame of intents only.
	drop(ctx context.Context, frames []int64) error
	rewrite(ctx context.Context, frame int64, intents int, sealed []byte) error
}

// settlement applies the closed ops of a folder in one transaction.
type settlement struct {
	f     *folder
	tx    bulk
	grown []int64 // by resource

	// of the window at hand
	intents []Intent
	results []Result
	load    []Hash
	fresh   []*Entry // written without having looked for an entry before
	put     []*Entry
	gone    []Hash
}

// settle applies the gathered ops, in key order, to the entries. Ops that move entries from key to key, and all others on those keys,
// are settled apart, in the order of the journal.
func (f *folder) settle(ctx context.Context, tx bulk) error {
	s := &settlement{f: f, tx: tx, grown: make([]int64, len(f.resources))}
	apart, keys := f.moving()
	for from := 0; from < len(f.closed); {
		resource := f.closed[from].resource
		end := from
		for groups := 0; end < len(f.closed) && f.closed[end].resource == resource; end++ {
			if end == from || f.closed[end].key != f.closed[end-1].key {
				if groups++; groups > tx.window() {
					break
				}
			}
		}
		if err := s.window(ctx, f.closed[from:end], keys); err != nil {
			return err
		}
		from = end
	}
	if err := s.moves(ctx, apart, keys); err != nil {
		return err
	}
	for i, by := range s.grown { // last, so that two folds of one resource meet only when both are about to commit
		if by == 0 {
			continue
		}
		if err := tx.grow(ctx, f.resources[i], by); err != nil {
			return fmt.Errorf("count entries: %w", err)
		}
	}
	return nil
}

type resourceKey struct {
	resource uint16
	key      Hash
}

// moving returns the ops that touch a key some move comes from or goes to, in journal order, and those keys.
func (f *folder) moving() ([]foldOp, map[resourceKey]*Entry) {
	var keys map[resourceKey]*Entry
	var in Intent
	for i := range f.closed {
		if op := &f.closed[i]; op.moves {
			if keys == nil {
				keys = map[resourceKey]*Entry{}
			}
			f.intent(op, &in)
			keys[resourceKey{op.resource, in.KeyHash}] = nil
			keys[resourceKey{op.resource, in.OldKeyHash}] = nil
		}
	}
	if keys == nil {
		return nil, nil
	}
	var apart []foldOp
	for _, op := range f.closed {
		if _, ok := keys[resourceKey{op.resource, op.key}]; ok {
			apart = append(apart, op)
		}
	}
	slices.SortFunc(apart, func(a, b foldOp) int { return cmp.Compare(a.seq, b.seq) })
	return apart, keys
}

// window settles ops of one resource, sorted by key, but for those on keys that are settled apart.
func (s *settlement) window(ctx context.Context, ops []foldOp, apart map[resourceKey]*Entry) error {
	resource := s.f.resources[ops[0].resource]
	s.decode(ops)
	s.load, s.fresh, s.put, s.gone = s.load[:0], s.fresh[:0], s.put[:0], s.gone[:0]
	for i := range ops {
		if (i == 0 || ops[i].key != ops[i-1].key) && !decides(&s.intents[i], s.results[i]) {
			s.load = append(s.load, ops[i].key)
		}
	}
	had, err := s.tx.load(ctx, resource, s.load)
	if err != nil {
		return fmt.Errorf("look up entries: %w", err)
	}
	load := s.load
	for from := 0; from < len(ops); {
		key := ops[from].key
		end := from + 1
		for end < len(ops) && ops[end].key == key {
			end++
		}
		loaded := len(load) > 0 && load[0] == key
		if loaded {
			load = load[1:]
		}
		if _, ok := apart[resourceKey{ops[from].resource, key}]; !ok {
			s.group(ops, from, end, had[key], loaded)
		}
		from = end
	}
	return s.write(ctx, ops[0].resource)
}

// decode reads the intents and results of ops, once: their frames lie all over memory.
func (s *settlement) decode(ops []foldOp) {
	s.intents, s.results = slices.Grow(s.intents[:0], len(ops))[:len(ops)], s.results[:0]
	for i := range ops {
		s.f.intent(&ops[i], &s.intents[i])
		s.results = append(s.results, s.f.result(&ops[i]))
	}
}

// group settles the ops of one key and notes what is to be written. loaded says that its entry was looked up; was is what was found.
func (s *settlement) group(ops []foldOp, from, end int, was *Entry, loaded bool) {
	e := was
	for i := from; i < end; i++ {
		e, _ = Settle(&s.intents[i], s.results[i], s.f.frames[ops[i].frame].owner.run, e, nil)
	}
	switch {
	case e == nil && (was != nil || !loaded):
		s.gone = append(s.gone, ops[from].key)
	case e == nil || e == was:
	case loaded:
		s.put = append(s.put, e)
		if was == nil {
			s.grown[ops[from].resource]++
		}
	default:
		s.fresh = append(s.fresh, e)
	}
}

// decides reports whether the op alone says what the entry is afterwards, whatever it was: then it need not be looked up.
func decides(in *Intent, r Result) bool {
	return in.Verb == Create && r.Effect == EffectLive && r.Origin != 0 && r.EdfiID != "" && !in.RecordHash.IsZero() && !in.moves()
}

func (s *settlement) write(ctx context.Context, index uint16) error {
	resource := s.f.resources[index]
	if len(s.gone) > 0 {
		n, err := s.tx.remove(ctx, resource, s.gone)
		if err != nil {
			return fmt.Errorf("remove entries: %w", err)
		}
		s.grown[index] -= n
	}
	if len(s.put) > 0 {
		if _, err := s.tx.insert(ctx, resource, s.put, true); err != nil {
			return fmt.Errorf("write entries: %w", err)
		}
	}
	if len(s.fresh) > 0 {
		n, err := s.tx.insert(ctx, resource, s.fresh, false)
		if err == nil && n < int64(len(s.fresh)) { // some were there: write over them, and count only the others
			_, err = s.tx.insert(ctx, resource, s.fresh, true)
		}
		if err != nil {
			return fmt.Errorf("write entries: %w", err)
		}
		s.grown[index] += n
	}
	return nil
}

// moves settles ops in journal order on entries held in memory, then writes what changed.
func (s *settlement) moves(ctx context.Context, ops []foldOp, entries map[resourceKey]*Entry) error {
	if len(ops) == 0 {
		return nil
	}
	sorted := make([]resourceKey, 0, len(entries))
	for k := range entries {
		sorted = append(sorted, k)
	}
	slices.SortFunc(sorted, func(a, b resourceKey) int {
		return cmp.Or(cmp.Compare(a.resource, b.resource), bytes.Compare(a.key[:], b.key[:]))
	})
	var windows [][]resourceKey
	for from := 0; from < len(sorted); {
		end := from + 1
		for end < len(sorted) && end-from < s.tx.window() && sorted[end].resource == sorted[from].resource {
			end++
		}
		windows = append(windows, sorted[from:end])
		from = end
	}
	was := make(map[resourceKey]*Entry, len(entries))
	for _, w := range windows {
		s.load = s.load[:0]
		for _, k := range w {
			s.load = append(s.load, k.key)
		}
		had, err := s.tx.load(ctx, s.f.resources[w[0].resource], s.load)
		if err != nil {
			return fmt.Errorf("look up entries: %w", err)
		}
		for _, k := range w {
			was[k], entries[k] = had[k.key], had[k.key]
		}
	}
	var in Intent
	for i := range ops {
		op := &ops[i]
		s.f.intent(op, &in)
		at, old := resourceKey{op.resource, in.KeyHash}, resourceKey{op.resource, in.OldKeyHash}
		newAt, newOld := Settle(&in, s.f.result(op), s.f.frames[op.frame].owner.run, entries[at], entries[old])
		if op.moves {
			entries[old] = newOld
		}
		entries[at] = newAt
	}
	for _, w := range windows {
		s.put, s.fresh, s.gone = s.put[:0], s.fresh[:0], s.gone[:0]
		for _, k := range w {
			switch e := entries[k]; {
			case e == was[k]:
			case e == nil:
				s.gone = append(s.gone, k.key)
			default:
				s.put = append(s.put, e)
				if was[k] == nil {
					s.grown[k.resource]++
				}
			}
		}
		if err := s.write(ctx, w[0].resource); err != nil {
			return err
		}
	}
	return nil
}
