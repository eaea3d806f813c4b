package sync

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	gosync "sync"
	"time"

	"github.com/edfisync/edfisync/edfi"
	"github.com/edfisync/edfisync/schema"
	"github.com/edfisync/edfisync/syncdb"
)

// doubts are the entries of each resource of a scope that somebody has said no about while nobody knows what the target has of them: a call had no
// answer, most likely one of the undo itself. A run usually settles such an entry by an idempotent repeat of what its row says now, and that is just
// what must not be made here.
type doubts [][]syncdb.Entry

// in are the natural keys in doubt of one resource.
func (d doubts) in(resource int) map[syncdb.Hash]struct{} {
	if resource >= len(d) || len(d[resource]) == 0 {
		return nil
	}
	out := map[syncdb.Hash]struct{}{}
	for _, entry := range d[resource] {
		out[entry.KeyHash] = struct{}{}
	}
	return out
}

// refusals are the plans that keep their ops back: discarded holds, and what was undone.
func (e *Engine) refusals(ctx context.Context) ([]syncdb.Plan, error) {
	var out []syncdb.Plan
	for _, kind := range []syncdb.PlanKind{syncdb.PlanHold, syncdb.PlanUndo} {
		plans, err := e.Ledger.Plans(ctx, e.Connection.ID, syncdb.PlanFilter{Kind: kind, States: []syncdb.PlanState{syncdb.PlanDiscarded}})
		if err != nil {
			return nil, fmt.Errorf("read what was discarded and undone: %w", err)
		}
		out = append(out, plans...)
	}
	return out, nil
}

// doubts finds them in the ledger. It reads nothing else.
func (e *Engine) doubts(ctx context.Context, sc *scope) (doubts, error) {
	plans, err := e.refusals(ctx)
	if err != nil || len(plans) == 0 {
		return nil, err
	}
	keys := map[string]map[syncdb.Hash]struct{}{}
	for _, r := range sc.resources {
		keys[r.Path] = map[syncdb.Hash]struct{}{}
	}
	for _, p := range plans {
		err := e.Ledger.PlanOps(ctx, e.Connection.ID, p.ID, func(o syncdb.PlanOp) error {
			if of, ok := keys[o.Resource]; ok {
				of[o.KeyHash] = struct{}{}
				if !o.OldKeyHash.IsZero() {
					of[o.OldKeyHash] = struct{}{}
				}
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("read what was discarded and undone: %w", err)
		}
	}
	out := make(doubts, len(sc.resources))
	for i, r := range sc.resources {
		for part := range slices.Chunk(slices.SortedFunc(maps.Keys(keys[r.Path]), compareHashes), 1000) {
			entries, err := e.Ledger.Lookup(ctx, e.Connection.ID, r.Path, part)
			if err != nil {
				return nil, fmt.Errorf("look up entries of %s: %w", r.Path, err)
			}
			for _, key := range part {
				if entry, ok := entries[key]; ok && entry.State == syncdb.Unknown {
					out[i] = append(out[i], entry)
				}
			}
		}
	}
	return out, nil
}

// doubt is one of them while it is looked at.
type doubt struct {
	r     *scoped
	entry syncdb.Entry
	sighting
	there bool
	err   error // nobody knows
}

// settleDoubts reads the records in doubt from the target, by id or, where a create was never answered, by natural key, and makes the ledger say what
// they are (I2), before any row is compared with it: then the call that somebody said no about is asked for as it was, or not at all. What could not
// be read stays in doubt, and is returned: nothing is made of it in this run.
func (e *Engine) settleDoubts(ctx context.Context, o Options, k *keeper, sc *scope) (doubts, error) {
	found, err := e.doubts(ctx, sc)
	if err != nil {
		return nil, err
	}
	var all []*doubt
	for i, entries := range found {
		for _, entry := range entries {
			all = append(all, &doubt{r: sc.resources[i], entry: entry})
		}
	}
	if len(all) == 0 {
		return nil, nil
	}
	if t, err := e.Ledger.Target(ctx, e.Connection.ID); err != nil {
		return nil, fmt.Errorf("read what is known of the target: %w", err)
	} else if t.Alarm != "" {
		return found, nil // it is not what it was
	}
	open := all
	for try := 0; try < 2 && len(open) > 0; try++ {
		if try == 1 { // "not found" is believed only the second time (F36)
			select {
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			case <-time.After(o.SettleDelay):
			}
		}
		if err := e.lookAt(ctx, o, open); err != nil {
			return nil, err
		}
		open = slices.DeleteFunc(slices.Clone(open), func(d *doubt) bool { return d.there || d.err != nil })
	}
	for i, r := range sc.resources {
		if len(found[i]) == 0 {
			continue
		}
		of := slices.DeleteFunc(slices.Clone(all), func(d *doubt) bool { return d.r != r })
		if found[i], err = e.noteSeen(ctx, k, r, of); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// lookAt reads the records, several at a time. An error means that nothing more can succeed.
func (e *Engine) lookAt(ctx context.Context, o Options, all []*doubt) error {
	var (
		wg     gosync.WaitGroup
		target = e.Target(func() error { return nil })
		rd     = &reading{model: e.Model, rules: o.Rules}
		quiet  = silence{most: o.silence()}
		slots  = make(chan struct{}, max(1, target.Concurrency()))
	)
	for _, d := range all {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			if quiet.lasts() {
				d.err = errNotLookedUp
				return
			}
			d.there, d.err = d.look(ctx, target, rd, schema.NewHasher(e.Keys.HashMAC()))
			quiet.heard(d.err)
		})
	}
	wg.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	for _, d := range all {
		if edfi.ClassOf(d.err) == edfi.Stop {
			return fmt.Errorf("look at a record that somebody decided about: %w", d.err)
		}
	}
	return nil
}

// look reads one record.
func (d *doubt) look(ctx context.Context, target Target, rd *reading, h *schema.Hasher) (there bool, err error) {
	id := d.entry.EdfiID
	if id == "" {
		if id, err = findByKey(ctx, target, d.r.Resource, rd.rules, d.entry.Key, d.entry.SentKey); err != nil || id == "" {
			return false, err
		}
	}
	body, _, err := target.Get(ctx, d.r.Path, id)
	if edfi.ClassOf(err) == edfi.NotFound {
		return false, nil
	}
	if err == nil {
		err = rd.identify(d.r.Resource, h, body, &d.sighting)
	}
	return err == nil, err
}

// noteSeen writes what was seen of one resource's records and returns the entries that stay in doubt. An entry without an id whose record was not found
// stays as it is too, and not in doubt: the scan looks it up once more when no row has its key, and drops it.
func (e *Engine) noteSeen(ctx context.Context, k *keeper, r *scoped, all []*doubt) (left []syncdb.Entry, err error) {
	var moved []syncdb.Hash
	for _, d := range all {
		if d.there && d.KeyHash != d.entry.KeyHash {
			moved = append(moved, d.KeyHash)
		}
	}
	known, err := e.Ledger.Lookup(ctx, e.Connection.ID, r.Path, moved)
	if err != nil {
		return nil, fmt.Errorf("look up entries of %s: %w", r.Path, err)
	}
	var put []syncdb.Entry
	var drop []syncdb.Hash
	for _, d := range all {
		other, taken := known[d.KeyHash]
		switch {
		case d.err != nil, d.there && taken && other.EdfiID != d.ID:
			left = append(left, d.entry)
		case !d.there:
			if gone := missing(&d.entry); gone.put != nil {
				put = append(put, *gone.put)
			}
		default:
			put = append(put, d.seen(r.Path, &d.entry))
			if d.KeyHash != d.entry.KeyHash {
				drop = append(drop, d.entry.KeyHash)
			}
		}
	}
	// New keys before old ones go: a crash in between leaves one id under two keys, never a record nobody knows.
	if len(put) > 0 {
		err = e.putEntries(ctx, k, r.Path, put)
	}
	if err == nil && len(drop) > 0 {
		err = e.dropEntries(ctx, k, r.Path, drop)
	}
	if err != nil {
		return nil, fmt.Errorf("note what records are that somebody decided about: %w", err)
	}
	if len(left) > 0 {
		e.logger().Warn("records somebody decided about could not be read, so nothing is made of them", slog.String("resource", r.Path), slog.Int("records", len(left)))
	}
	return left, nil
}

// inDoubt returns the natural key of an op under which nobody knows what the target has.
func (r *scanned) inDoubt(o syncdb.PlanOp) (syncdb.Hash, bool) {
	for _, key := range [...]syncdb.Hash{o.KeyHash, o.OldKeyHash} {
		if _, ok := r.doubts[key]; ok {
			return key, true
		}
	}
	return syncdb.Hash{}, false
}

// neverMade reports whether the op is the delete of an entry whose create never arrived: it is dropped without a call, whatever was decided.
func (r *scanned) neverMade(o syncdb.PlanOp) bool {
	f, looked := r.fates[o.KeyHash]
	return o.Verb == syncdb.Delete && looked && f.err == nil && f.id == ""
}
