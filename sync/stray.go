package sync

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	gosync "sync"

	"github.com/edfisync/edfisync/schema"
	"github.com/edfisync/edfisync/syncdb"
)

// maxStrays is how many strays of a resource one run looks up. The next run looks at the next ones.
const maxStrays = 10_000

// errScanAgain: the ledger has other keys than those the rows were compared with.
var errScanAgain = errors.New("natural keys were corrected in the ledger: the source has to be scanned again")

// astray reports whether a natural key contains that of a parent the ledger has no entry of. The target does not let a parent go before what refers
// to it, so it has given the record another key together with the parent, in a run that could not tell which: the row was invalid, or waited for
// something else.
func (s *scope) astray(found []*scanned, cs cascades, key []byte, hasher *schema.Hasher) bool {
	for _, ref := range cs.identifying(hasher, key) {
		t := s.targets[ref.Target]
		known := !t.Complete
		for _, j := range t.Resources {
			i := found[j].table.find(ref.Hash)
			known = known || i >= 0 && found[j].table.flags[i]&slotEntry != 0
		}
		if !known {
			return true
		}
	}
	return false
}

// findStrays reads the records of strays by id, and moves their entries to the keys the records have (I2). Else rows would be compared with keys
// nobody has (I1), and parents kept, or deleted, for references that are not there (I6). It reports whether it moved any.
func (e *Engine) findStrays(ctx context.Context, k *keeper, o Options, s *scope, found []*scanned) (moved bool, err error) {
	hasher := schema.NewHasher(e.Keys.HashMAC())
	left := map[reference]struct{}{} // keys of strays that were moved: what is below them strays too
	for i, r := range found {
		if err := e.straysBelow(ctx, s, r, left, hasher); err != nil {
			return moved, err
		}
		if len(r.strays) == 0 {
			continue
		}
		now, err := keysOf(ctx, e.Target(func() error { return nil }), o, r)
		if err != nil {
			return moved, err
		}
		var keys []syncdb.Hash
		for _, text := range now {
			if len(text) > 0 {
				keys = append(keys, hasher.Sum(text))
			}
		}
		known, err := e.Ledger.Lookup(ctx, e.Connection.ID, r.Path, keys)
		if err != nil {
			return moved, fmt.Errorf("look up entries: %w", err)
		}
		var put []syncdb.Entry
		var drop []syncdb.Hash
		for n, entry := range r.strays {
			key := hasher.Sum(now[n])
			other, taken := known[key]
			if len(now[n]) == 0 || key == entry.KeyHash || taken && other.EdfiID != entry.EdfiID {
				continue
			}
			drop = append(drop, entry.KeyHash)
			if !taken { // else an earlier run came no further than half of this
				entry.KeyHash, entry.Key = key, now[n]
				put = append(put, entry)
			}
		}
		if len(drop) == 0 {
			continue
		}
		// New keys before old ones go: a crash in between leaves one id under two keys, never a record nobody knows.
		if len(put) > 0 {
			if err := e.putEntries(ctx, k, r.Path, put); err != nil {
				return moved, fmt.Errorf("note natural keys that changed with those of parents: %w", err)
			}
		}
		if err := e.dropEntries(ctx, k, r.Path, drop); err != nil {
			return moved, fmt.Errorf("drop natural keys that changed with those of parents: %w", err)
		}
		moved = true
		for t, target := range s.targets {
			if slices.Contains(target.Resources, i) {
				for _, key := range drop {
					left[reference{Target: uint16(t), Hash: key}] = struct{}{}
				}
			}
		}
		e.logger().Info("records had got other natural keys with their parents; the ledger has them now", slog.String("resource", r.Path), slog.Int("records", len(drop)))
	}
	return moved, nil
}

// straysBelow adds the entries to a resource's strays that no row has the key of and that are below a key left behind.
func (e *Engine) straysBelow(ctx context.Context, s *scope, r *scanned, left map[reference]struct{}, hasher *schema.Hasher) error {
	cs := r.cascades(s)
	if len(left) == 0 || !slices.ContainsFunc(cs, func(c cascade) bool { return s.leads(c.target, left) }) || r.table.unseen() == 0 {
		return nil
	}
	had := map[syncdb.Hash]struct{}{}
	for _, entry := range r.strays {
		had[entry.KeyHash] = struct{}{}
	}
	err := e.Ledger.Each(ctx, e.Connection.ID, r.Path, func(entry *syncdb.Entry) error {
		if _, twice := had[entry.KeyHash]; twice || entry.EdfiID == "" || r.inUse(entry) || len(r.strays) >= maxStrays {
			return nil
		}
		if slices.ContainsFunc(cs.identifying(hasher, entry.Key), func(ref reference) bool { _, ok := left[ref]; return ok }) {
			r.strays = append(r.strays, own(entry))
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read entries: %w", err)
	}
	return nil
}

// leads reports whether one of the keys is of a target.
func (s *scope) leads(target uint16, keys map[reference]struct{}) bool {
	for ref := range keys {
		if ref.Target == target {
			return true
		}
	}
	return false
}

// keysOf reads the natural keys the strays of a resource have at the target, several at a time; none for a record it does not have or show. When many
// in a row have no answer, the rest is left for the next run (I20).
func keysOf(ctx context.Context, target Target, o Options, r *scanned) ([][]byte, error) {
	var (
		wg    gosync.WaitGroup
		out   = make([][]byte, len(r.strays))
		quiet = silence{most: o.silence()}
		slots = make(chan struct{}, max(1, target.Concurrency()))
	)
	for i, entry := range r.strays {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			if quiet.lasts() {
				return
			}
			body, _, err := target.Get(ctx, r.Path, entry.EdfiID)
			quiet.heard(err)
			if err != nil {
				return
			}
			if key, err := r.CanonicalKey(nil, body, o.Rules); err == nil {
				out[i] = key
			}
		})
	}
	wg.Wait()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return out, nil
}
