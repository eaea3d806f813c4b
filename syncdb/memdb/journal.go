package memdb

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/edfisync/edfisync/syncdb"
)

// frame is one Append: it stays until its step is folded or the next run recovers.
type frame struct {
	run     int64
	step    int
	intents []syncdb.Intent
	results []syncdb.Result
}

// Append is syncdb.DB.Append.
func (d *DB) Append(ctx context.Context, l syncdb.Lease, step int, intents []syncdb.Intent, results []syncdb.Result) error {
	if len(intents) == 0 && len(results) == 0 {
		return nil
	}
	if err := syncdb.CheckIntents(intents); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	c, err := d.fenced(ctx, l)
	if err != nil {
		return err
	}
	f := frame{run: l.RunID, step: step, intents: slices.Clone(intents), results: slices.Clone(results)}
	for i := range f.intents {
		f.intents[i].Key, f.intents[i].SentKey = slices.Clone(f.intents[i].Key), slices.Clone(f.intents[i].SentKey)
	}
	c.journal = append(c.journal, f)
	return nil
}

// Fold is syncdb.DB.Fold.
func (d *DB) Fold(ctx context.Context, l syncdb.Lease, step int) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	c, err := d.fenced(ctx, l)
	if err != nil {
		return 0, err
	}
	closed, open := c.read(func(f *frame) bool { return f.run == l.RunID && f.step == step })
	if len(open) > 0 {
		return 0, fmt.Errorf("fold step %d: %d calls: %w", step, len(open), syncdb.ErrUnsettled)
	}
	c.settle(closed)
	c.journal = slices.DeleteFunc(c.journal, func(f frame) bool { return f.run == l.RunID && f.step == step })
	return len(closed), nil
}

// Recover is syncdb.DB.Recover.
func (d *DB) Recover(ctx context.Context, l syncdb.Lease) (syncdb.RecoverStats, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	c, err := d.fenced(ctx, l)
	if err != nil {
		return syncdb.RecoverStats{}, err
	}
	closed, open := c.read(func(f *frame) bool { return f.run != l.RunID })
	c.settle(closed)
	c.settle(open)
	c.journal = slices.DeleteFunc(c.journal, func(f frame) bool { return f.run != l.RunID })
	return syncdb.RecoverStats{Folded: len(closed), Open: len(open)}, nil
}

// Open is syncdb.DB.Open.
func (d *DB) Open(ctx context.Context, connID int64) (int, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	_, open := d.connection(connID).read(func(*frame) bool { return true })
	return len(open), nil
}

// op is an intent with its result.
type op struct {
	run int64
	seq int
	in  syncdb.Intent
	res syncdb.Result
}

// read pairs intents with results, both in the order their intents were appended. An open one gets the effect unknown.
func (c *connection) read(want func(*frame) bool) (closed, open []op) {
	type id struct {
		run int64
		op  uint64
	}
	waiting, seq := map[id]op{}, 0
	for i := range c.journal {
		f := &c.journal[i]
		if !want(f) {
			continue
		}
		for _, in := range f.intents {
			seq++
			waiting[id{f.run, in.Op}] = op{run: f.run, seq: seq, in: in, res: syncdb.Result{Op: in.Op, Effect: syncdb.EffectUnknown}}
		}
		for _, r := range f.results {
			if o, ok := waiting[id{f.run, r.Op}]; ok {
				o.res = r
				closed = append(closed, o)
				delete(waiting, id{f.run, r.Op})
			}
		}
	}
	for _, o := range waiting {
		open = append(open, o)
	}
	inOrder := func(a, b op) int { return cmp.Compare(a.seq, b.seq) }
	slices.SortFunc(closed, inOrder)
	slices.SortFunc(open, inOrder)
	return closed, open
}

func (c *connection) settle(ops []op) {
	for i := range ops {
		o := &ops[i]
		entries := c.scope(o.in.Resource).entries
		at, old := syncdb.Settle(&o.in, o.res, o.run, entries[o.in.KeyHash], entries[o.in.OldKeyHash])
		if !o.in.OldKeyHash.IsZero() && o.in.OldKeyHash != o.in.KeyHash {
			put(entries, o.in.OldKeyHash, old)
		}
		put(entries, o.in.KeyHash, at)
	}
}

func put(entries map[syncdb.Hash]*syncdb.Entry, key syncdb.Hash, e *syncdb.Entry) {
	if e == nil {
		delete(entries, key)
		return
	}
	entries[key] = e
}
