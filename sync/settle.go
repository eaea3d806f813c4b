package sync

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	gosync "sync"
	"sync/atomic"
	"time"

	"github.com/edfisync/edfisync/edfi"
	"github.com/edfisync/edfisync/schema"
	"github.com/edfisync/edfisync/syncdb"
)

// fate is what a look-up by natural key said of an entry that has no id and no row: a create was never answered, and its row is gone, invalid,
// or under another key since.
type fate struct {
	id  string // "" = the target does not have the record
	err error  // nobody knows
}

// lost is an entry to look up.
type lost struct {
	of    *kin
	entry syncdb.Entry
	fate
}

// settleLost looks the records of all entries without id and row up, and keeps the ids it finds, durably, before anything is planned, let
// alone sent: all such an entry knows of its record is the natural key, and a PUT of this very run that changes the key of a parent would
// change it too (I1, I3). For that, entries below such a parent are looked up too when a row has their key, or when nobody asked for rows of theirs.
// "Not found" is believed only the second time, after the delay, because a target may show a new record late
// (engine.md §3, F36).
func (e *Engine) settleLost(ctx context.Context, o Options, k *keeper, f *family) error {
	var all, open []*lost
	for _, of := range f.all {
		entries, err := e.lostOf(ctx, f, of)
		if err != nil {
			return err
		}
		for _, entry := range entries {
			all = append(all, &lost{of: of, entry: entry})
		}
	}
	if len(all) == 0 {
		return nil
	}
	target := e.Target(func() error { return nil })
	open = all
	for try := 0; try < 2 && len(open) > 0; try++ {
		if try == 1 {
			select {
			case <-ctx.Done():
				return context.Cause(ctx)
			case <-time.After(o.SettleDelay):
			}
		}
		if err := lookUp(ctx, target, o, open); err != nil {
			return err
		}
		var missing []*lost
		for _, l := range open {
			if l.id == "" && l.err == nil {
				missing = append(missing, l)
			}
		}
		open = missing
	}
	for _, of := range f.all {
		var put []syncdb.Entry
		for _, l := range all {
			if l.of != of {
				continue
			}
			of.settle(l)
			if l.id != "" {
				l.entry.EdfiID, l.entry.SentKey = l.id, nil
				put = append(put, l.entry)
			}
		}
		if len(put) == 0 {
			continue
		}
		if err := e.putEntries(ctx, k, of.Path, put); err != nil {
			return fmt.Errorf("note the ids of records that were found by key: %w", err)
		}
	}
	waitForLost(f)
	return nil
}

// settle notes what a look-up said.
func (of *kin) settle(l *lost) {
	r := of.in
	if r == nil {
		of.unsettled = of.unsettled || l.err != nil
		r = of.off
	}
	if r != nil {
		r.fates[l.entry.KeyHash] = l.fate
		r.unseenIDs.note(l.id, l.entry.Origin)
	}
}

// lostOf lists the entries of a resource that are to be looked up by natural key.
func (e *Engine) lostOf(ctx context.Context, f *family, of *kin) ([]syncdb.Entry, error) {
	var out []syncdb.Entry
	switch {
	case of.in != nil:
		out = of.in.lost
	case of.off != nil:
		return of.off.lost, nil // all that have no id: it has no rows
	}
	above := false
	for _, l := range f.linesOf(of.Resource) {
		above = above || slices.ContainsFunc(f.model.Concrete(l.entity), f.renamesAbove)
	}
	if !above {
		return out, nil
	}
	unknown := of.in != nil && len(of.in.unknown) > 0
	if of.in == nil { // hashes first: they are fast to read, and usually none is unknown
		err := e.Ledger.Hashes(ctx, e.Connection.ID, of.Path, func(_, _, _ syncdb.Hash, state syncdb.State) error {
			unknown = unknown || state == syncdb.Unknown
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("read entries: %w", err)
		}
	}
	if !unknown {
		return out, nil
	}
	err := e.Ledger.Each(ctx, e.Connection.ID, of.Path, func(entry *syncdb.Entry) error {
		if entry.EdfiID == "" && (of.in == nil || of.in.inUse(entry)) {
			out = append(out, own(entry))
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read entries: %w", err)
	}
	return out, nil
}

// silence counts calls without a usable answer since the last one with. Safe for concurrent use.
type silence struct {
	calls atomic.Int64
	most  int64
}

func (s *silence) heard(err error) {
	if unanswered(err) {
		s.calls.Add(1)
	} else {
		s.calls.Store(0)
	}
}

// lasts reports whether there is no use in calling any more.
func (s *silence) lasts() bool { return s.calls.Load() >= s.most }

// errNotLookedUp: so many look-ups in a row had no answer that the rest was not tried.
var errNotLookedUp = errors.New("the target answers no look-ups by natural key; the next run tries again")

// lookUp finds the ids of entries by natural key, several at a time. A look-up the target refuses, or answers with another record, concerns
// that entry only (I17). When many in a row have no answer the rest is left for the next run (I20). An error means that nothing more can succeed.
func lookUp(ctx context.Context, target Target, o Options, entries []*lost) (err error) {
	var (
		wg    gosync.WaitGroup
		mu    gosync.Mutex
		quiet = silence{most: o.silence()}
		slots = make(chan struct{}, max(1, target.Concurrency()))
	)
	for _, l := range entries {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			if quiet.lasts() {
				l.err = errNotLookedUp
				return
			}
			l.id, l.err = findByKey(ctx, target, l.of.Resource, o.Rules, l.entry.Key, l.entry.SentKey)
			quiet.heard(l.err)
			if edfi.ClassOf(l.err) == edfi.Stop {
				mu.Lock()
				defer mu.Unlock()
				err = fmt.Errorf("look up a record by key: %w", l.err)
			}
		})
	}
	wg.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// errOtherRecord: what was found by key has another key. A target that ignores a parameter answers like that.
var errOtherRecord = errors.New("the target answered a look-up by natural key with a record of another key")

// findByKey returns the id of the record with a natural key, "" when the target has none. The key of what is found is compared: a record
// that only looks like it is not ours to delete (I5a, I9). sent is the key as it was sent; nil = as keyText has it.
func findByKey(ctx context.Context, target Target, r *schema.Resource, rules schema.Rules, keyText, sent []byte) (string, error) {
	if len(sent) == 0 {
		sent = keyText
	}
	query, err := r.KeyQuery(sent)
	if err != nil {
		return "", fmt.Errorf("make the query: %w", err)
	}
	id, body, found, err := target.FindByKey(ctx, r.Path, query)
	if err != nil || !found {
		return "", err
	}
	key, err := r.CanonicalKey(nil, body, rules)
	if err != nil {
		return "", fmt.Errorf("read the record found: %w", err)
	}
	if !bytes.Equal(key, keyText) {
		return "", errOtherRecord
	}
	return id, nil
}

// holdsLost reports whether the look-up of a record failed that is known by its natural key alone.
func (r *scanned) holdsLost() bool {
	for _, f := range r.fates {
		if f.err != nil {
			return true
		}
	}
	return false
}

// waitForLost marks the resources whose natural keys must stay in this run: below them is a record that is known by its key alone, and
// the target would change that key with them (I1, I3).
func waitForLost(f *family) {
	for _, of := range f.all {
		if of.unsettled || of.in != nil && of.in.holdsLost() {
			f.keepKeysAbove(of.Resource)
		}
	}
}
