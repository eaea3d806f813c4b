package sync

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	gosync "sync"

	"github.com/edfisync/edfisync/edfi"
	"github.com/edfisync/edfisync/schema"
	"github.com/edfisync/edfisync/syncdb"
)

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

// readings is what a run has learned of strays, over its scans.
type readings struct {
	done  bool                 // they were read: what is not known now stays so in this run
	clear map[strayID]struct{} // the ledger has the key the target has, or the target has no such record
}

type strayID struct{ path, id string }

// findStrays reads the records of strays by id, and moves their entries to the keys the records have (I2). Else rows would be compared with keys
// nobody has (I1), and parents kept, or deleted, for references that are not there (I6). It reports whether it moved any of the scope.
//
// The latest time to do it is before a row brings the key into being that a stray's key contains: from then on the stray would pass for the record
// of the row that has its key now, whether the rows of its resource are read in this run or not. Such keys wait while a stray below them could not be
// read (I1, I3).
func (e *Engine) findStrays(ctx context.Context, k *keeper, o Options, f *family, known *readings) (moved bool, err error) {
	left := leftKeys{} // keys of strays that were moved, or may have been: what is below them strays too
	for _, of := range f.all {
		strays, err := e.straysOf(ctx, f, of, left, func(entry *syncdb.Entry) {
			if _, is := known.clear[strayID{of.Path, entry.EdfiID}]; !is {
				f.unread(of, entry, left)
			}
		})
		if err != nil {
			return moved, err
		}
		if of.in != nil {
			for _, key := range of.in.unread {
				left.add(of.Path, key)
				of.in.unclear(key)
			}
		}
		if !known.done {
			drop, err := e.moveStrays(ctx, k, o, f, of.Path, known.open(of, strays), known)
			if err != nil {
				return moved, err
			}
			for _, key := range drop {
				left.add(of.Path, key)
			}
			moved = moved || of.in != nil && len(drop) > 0
		}
		for _, entry := range known.open(of, strays) {
			f.unread(of, &entry, left)
		}
	}
	known.done = true
	return moved, nil
}

// unread is for a stray of which nobody knows what key it has: one that could not be read, or one of more than a run reads.
func (f *family) unread(of *kin, entry *syncdb.Entry, left leftKeys) {
	left.add(of.Path, entry.KeyHash)
	for _, a := range f.awaits(of.Resource, entry.Key) {
		a.in.wait(a.key)
	}
	if of.in == nil {
		return
	}
	of.in.unseenIDs.note(entry.EdfiID, entry.Origin) // whatever key it has, it stays what it was
	if of.in.inUse(entry) {                          // what has its id may have another row's key
		of.in.wait(entry.KeyHash)
	}
	of.in.unclear(entry.KeyHash)
}

// unclear notes that a record may have another natural key than its entry: nothing is sent that refers to it by that one (I6), and when no row has that
// key, and a row is invalid, the record may have the invalid row's, and stays (I5f).
func (r *scanned) unclear(key syncdb.Hash) {
	r.table.setLive(key, false)
	if len(r.heldSource) > 0 && !r.inUse(&syncdb.Entry{KeyHash: key}) {
		r.stay(key)
	}
}

// open returns the strays of which nobody knows what key they have.
func (known *readings) open(of *kin, strays []syncdb.Entry) []syncdb.Entry {
	return slices.DeleteFunc(slices.Clone(strays), func(entry syncdb.Entry) bool {
		_, is := known.clear[strayID{of.Path, entry.EdfiID}]
		return is
	})
}

// wait keeps a natural key from coming into being in this run, and the record that had it last from being sent.
func (r *scanned) wait(key syncdb.Hash) {
	if r.waits == nil {
		r.waits = map[syncdb.Hash]struct{}{}
	}
	r.waits[key] = struct{}{}
}

// straysOf lists the strays of a resource: entries without a row below a parent the ledger does not know, those below a key that was left behind or
// that a row brings into being, and those whose own key may have been changed by a call without an answer, while rows have new keys. It calls rest with
// those that are more than a run looks up.
func (e *Engine) straysOf(ctx context.Context, f *family, of *kin, left leftKeys, rest func(*syncdb.Entry)) ([]syncdb.Entry, error) {
	most := e.options().limits.strays
	var out []syncdb.Entry
	had := map[syncdb.Hash]struct{}{}
	if of.in != nil {
		out = of.in.strays
	}
	for _, entry := range out {
		had[entry.KeyHash] = struct{}{}
	}
	waiting, below := false, false
	for _, l := range f.linesOf(of.Resource) {
		for _, c := range f.model.Concrete(l.entity) {
			waiting, below = waiting || f.bearsAbove(c), below || len(left[c.Path]) > 0
		}
	}
	// A PUT that changed its key may have been the call nobody answered: its key may be one that a new row has.
	unsure := of.in != nil && of.KeyUpdatable && len(of.in.unknown) > 0 && of.in.fresh.count > 0
	if !waiting && !below && !unsure {
		return out, nil
	}
	err := e.Ledger.Each(ctx, e.Connection.ID, of.Path, func(entry *syncdb.Entry) error {
		if _, twice := had[entry.KeyHash]; twice || entry.EdfiID == "" {
			return nil
		}
		if unsure && entry.State == syncdb.Unknown || below && f.refersTo(of.Resource, entry.Key, left) || waiting && len(f.awaits(of.Resource, entry.Key)) > 0 {
			if len(out) < most {
				out = append(out, own(entry))
			} else {
				rest(entry)
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read entries: %w", err)
	}
	return out, nil
}

// hasStrays reports whether an entry would have to be read before the rows of the scan are sent.
func (e *Engine) hasStrays(ctx context.Context, o Options, found []*scanned) (bool, error) {
	f, err := e.family(ctx, o, found)
	if err != nil {
		return false, err
	}
	for _, of := range f.all {
		strays, err := e.straysOf(ctx, f, of, nil, func(*syncdb.Entry) {})
		if err != nil || len(strays) > 0 {
			return err == nil, err
		}
	}
	return false, nil
}

// moveStrays reads records by id and moves their entries to the keys the records have. It returns the keys they are not under any more, and notes
// what is clear now.
func (e *Engine) moveStrays(ctx context.Context, k *keeper, o Options, f *family, path string, strays []syncdb.Entry, known *readings) ([]syncdb.Hash, error) {
	if len(strays) == 0 {
		return nil, nil
	}
	now, err := keysOf(ctx, e.Target(func() error { return nil }), o, f.byPath[path].Resource, strays)
	if err != nil {
		return nil, err
	}
	var keys []syncdb.Hash
	for _, read := range now {
		if len(read.key) > 0 {
			keys = append(keys, f.hasher.Sum(read.key))
		}
	}
	entries, err := e.Ledger.Lookup(ctx, e.Connection.ID, path, keys)
	if err != nil {
		return nil, fmt.Errorf("look up entries: %w", err)
	}
	var put []syncdb.Entry
	var drop []syncdb.Hash
	for n, entry := range strays {
		key := f.hasher.Sum(now[n].key)
		other, taken := entries[key]
		gone, same := len(now[n].key) == 0, key == entry.KeyHash
		if !now[n].answered || !gone && !same && taken && other.EdfiID != entry.EdfiID {
			continue
		}
		known.clear[strayID{path, entry.EdfiID}] = struct{}{}
		if gone || same {
			continue
		}
		drop = append(drop, entry.KeyHash)
		if !taken { // else an earlier run came no further than half of this
			entry.KeyHash, entry.Key = key, now[n].key
			put = append(put, entry)
		}
	}
	if len(drop) == 0 {
		return nil, nil
	}
	// New keys before old ones go: a crash in between leaves one id under two keys, never a record nobody knows.
	if len(put) > 0 {
		if err := e.putEntries(ctx, k, path, put); err != nil {
			return nil, fmt.Errorf("note natural keys that changed with those of parents: %w", err)
		}
	}
	if err := e.dropEntries(ctx, k, path, drop); err != nil {
		return nil, fmt.Errorf("drop natural keys that changed with those of parents: %w", err)
	}
	e.logger().Info("records had got other natural keys with their parents; the ledger has them now", slog.String("resource", path), slog.Int("records", len(drop)))
	return drop, nil
}

// keyRead is what reading a stray said.
type keyRead struct {
	key      []byte // the natural key it has; none when the target does not have the record
	answered bool   // false: nobody knows
}

// keysOf reads the natural keys strays have at the target, several at a time. When many in a row have no answer, the rest is left for the next run (I20).
func keysOf(ctx context.Context, target Target, o Options, r *schema.Resource, strays []syncdb.Entry) ([]keyRead, error) {
	var (
		wg    gosync.WaitGroup
		out   = make([]keyRead, len(strays))
		quiet = silence{most: o.silence()}
		slots = make(chan struct{}, max(1, target.Concurrency()))
	)
	for i, entry := range strays {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			if quiet.lasts() {
				return
			}
			body, _, err := target.Get(ctx, r.Path, entry.EdfiID)
			quiet.heard(err)
			if err != nil {
				out[i].answered = edfi.ClassOf(err) == edfi.NotFound
				return
			}
			if key, err := r.CanonicalKey(nil, body, o.Rules); err == nil {
				out[i] = keyRead{key: key, answered: true}
			}
		})
	}
	wg.Wait()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return out, nil
}
