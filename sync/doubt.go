package sync

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	gosync "sync"
	"time"

	"github.com/edfisync/edfisync/edfi"
	"github.com/edfisync/edfisync/schema"
	"github.com/edfisync/edfisync/syncdb"
)

// A record is in doubt when somebody has said no about it while nobody knows what the target has: a call had no answer, most likely one of the undo
// itself. A run usually settles such an entry by an idempotent repeat of what its row says now, and that is just what must not be made here.

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

// doubts finds the entries in doubt among those the ledger calls unknown, by resource. It reads nothing else.
func (e *Engine) doubts(ctx context.Context, found []*scanned) (map[string][]syncdb.Entry, error) {
	unknown := map[string]map[syncdb.Hash]bool{} // by resource: whether somebody said no about the key
	for _, r := range found {
		for _, key := range r.unknown {
			if unknown[r.Path] == nil {
				unknown[r.Path] = map[syncdb.Hash]bool{}
			}
			unknown[r.Path][key] = false
		}
	}
	if len(unknown) == 0 {
		return nil, nil
	}
	plans, err := e.refusals(ctx)
	if err != nil {
		return nil, err
	}
	for _, p := range plans {
		err := e.Ledger.PlanOps(ctx, e.Connection.ID, p.ID, func(o syncdb.PlanOp) error {
			for _, key := range [...]syncdb.Hash{o.KeyHash, o.OldKeyHash} {
				if _, ok := unknown[o.Resource][key]; ok {
					unknown[o.Resource][key] = true
				}
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("read what was discarded and undone: %w", err)
		}
	}
	out := map[string][]syncdb.Entry{}
	for _, r := range found {
		keys := slices.DeleteFunc(slices.Clone(r.unknown), func(key syncdb.Hash) bool { return !unknown[r.Path][key] })
		slices.SortFunc(keys, compareHashes)
		entries, err := e.Ledger.Lookup(ctx, e.Connection.ID, r.Path, keys)
		if err != nil {
			return nil, fmt.Errorf("look up entries of %s: %w", r.Path, err)
		}
		for _, key := range keys {
			if entry, ok := entries[key]; ok && entry.State == syncdb.Unknown {
				out[r.Path] = append(out[r.Path], entry)
			}
		}
	}
	return out, nil
}

// markDoubts notes what is in doubt: nothing is made of it in this run.
func (e *Engine) markDoubts(ctx context.Context, found []*scanned) error {
	in, err := e.doubts(ctx, found)
	if err != nil {
		return err
	}
	for _, r := range found {
		r.doubts = map[syncdb.Hash]struct{}{}
		for _, entry := range in[r.Path] {
			r.doubts[entry.KeyHash] = struct{}{}
		}
		if n := len(r.doubts); n > 0 {
			e.logger().Warn("it is not known what records are that somebody decided about, so nothing is made of them", slog.String("resource", r.Path), slog.Int("records", n))
		}
	}
	return nil
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
// they are (I2). Rows that are compared with that ask for the call somebody said no about as it was, or not at all. It reports whether the ledger says
// something else than before; what could not be read stays in doubt.
func (e *Engine) settleDoubts(ctx context.Context, o Options, k *keeper, found []*scanned) (settled bool, err error) {
	in, err := e.doubts(ctx, found)
	if err != nil {
		return false, err
	}
	var all []*doubt
	for _, r := range found {
		for _, entry := range in[r.Path] {
			all = append(all, &doubt{r: r.scoped, entry: entry})
		}
	}
	if len(all) == 0 {
		return false, nil
	}
	if t, err := e.Ledger.Target(ctx, e.Connection.ID); err != nil {
		return false, fmt.Errorf("read what is known of the target: %w", err)
	} else if t.Alarm != "" {
		return false, nil // it is not what it was
	}
	open := all
	for try := 0; try < 2 && len(open) > 0; try++ {
		if try == 1 { // "not found" is believed only the second time (F36)
			select {
			case <-ctx.Done():
				return false, context.Cause(ctx)
			case <-time.After(o.SettleDelay):
			}
		}
		if err := e.lookAt(ctx, o, open); err != nil {
			return false, err
		}
		open = slices.DeleteFunc(slices.Clone(open), func(d *doubt) bool { return d.there || d.err != nil })
	}
	for _, r := range found {
		if len(in[r.Path]) == 0 {
			continue
		}
		of := slices.DeleteFunc(slices.Clone(all), func(d *doubt) bool { return d.r != r.scoped })
		wrote, err := e.noteSeen(ctx, k, r.Path, of)
		if err != nil {
			return settled, err
		}
		settled = settled || wrote
	}
	return settled, nil
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

// noteSeen writes what was seen of one resource's records, and reports whether it wrote any.
func (e *Engine) noteSeen(ctx context.Context, k *keeper, resource string, all []*doubt) (wrote bool, err error) {
	var moved []syncdb.Hash
	for _, d := range all {
		if d.there && d.KeyHash != d.entry.KeyHash {
			moved = append(moved, d.KeyHash)
		}
	}
	known, err := e.Ledger.Lookup(ctx, e.Connection.ID, resource, moved)
	if err != nil {
		return false, fmt.Errorf("look up entries of %s: %w", resource, err)
	}
	var put []syncdb.Entry
	var drop []syncdb.Hash
	for _, d := range all {
		other, taken := known[d.KeyHash]
		switch {
		case d.err != nil, d.there && taken && other.EdfiID != d.ID:
		case !d.there:
			gone := d.entry
			gone.State, gone.RecordHash = syncdb.Missing, syncdb.Hash{}
			put = append(put, gone)
		default:
			put = append(put, d.seen(resource, &d.entry))
			if d.KeyHash != d.entry.KeyHash {
				drop = append(drop, d.entry.KeyHash)
			}
		}
	}
	// New keys before old ones go: a crash in between leaves one id under two keys, never a record nobody knows.
	if len(put) > 0 {
		err = e.putEntries(ctx, k, resource, put)
	}
	if err == nil && len(drop) > 0 {
		err = e.dropEntries(ctx, k, resource, drop)
	}
	if err != nil {
		return false, fmt.Errorf("note what records are that somebody decided about: %w", err)
	}
	return len(put) > 0, nil
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

// neverMade reports whether the gone entry of a natural key is of a create that never arrived: it is dropped without a call, so that no safeguard and no
// person has to do with it.
func (r *scanned) neverMade(key syncdb.Hash) bool {
	f, looked := r.fates[key]
	return looked && f.err == nil && f.id == ""
}
