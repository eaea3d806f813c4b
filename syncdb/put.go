package syncdb

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/edfisync/edfisync/internal/failpoint"
)

// CheckEntries returns an error when an entry cannot be stored as it is.
func CheckEntries(entries []Entry) error {
	for i := range entries {
		e := &entries[i]
		switch {
		case e.KeyHash.IsZero():
			return errors.New("an entry has no key hash")
		case e.State < Live || e.State > Missing:
			return errors.New("an entry has no state")
		case e.Origin < Created || e.Origin > Met:
			return errors.New("an entry has no origin")
		case e.State == Live && (e.RecordHash.IsZero() || e.EdfiID == ""):
			return errors.New("a live entry has no record hash or no id")
		}
	}
	return nil
}

// PutEntries writes whole entries of one resource past the journal, replacing those with the same KeyHash: for adopting and resyncing
// records that the target was seen to hold. Resource and RunID of the entries are set by the ledger; of two with one key the last counts.
// All are written in one transaction, or none. It returns ErrUnsettled while the journal of the connection holds calls that are open or not
// folded, for folding them later would undo what is put here (I3), and ErrFenced when the lease is lost (I7). It may be called again.
func (d *DB) PutEntries(ctx context.Context, l Lease, resource string, entries []Entry) error {
	failpoint.Reach(failpoint.EntriesBefore, resource, "")
	err := CheckEntries(entries)
	if err == nil {
		err = d.pastJournal(ctx, l, resource, func(tx bulk, r foldResource) error {
			last := make(map[Hash]*Entry, len(entries))
			for i := range entries {
				e := entries[i]
				e.Resource, e.RunID = resource, l.RunID
				last[e.KeyHash] = &e
			}
			put := make([]*Entry, 0, len(last))
			for _, e := range last {
				put = append(put, e)
			}
			slices.SortFunc(put, func(a, b *Entry) int { return bytes.Compare(a.KeyHash[:], b.KeyHash[:]) })
			grown := int64(0)
			for window := range slices.Chunk(put, tx.window()) {
				n, err := tx.insert(ctx, r, window, false)
				if err == nil && n < int64(len(window)) { // some were there: write over them, and count only the others
					_, err = tx.insert(ctx, r, window, true)
				}
				if err != nil {
					return err
				}
				grown += n
			}
			return tx.grow(ctx, r, grown)
		})
	}
	if err != nil {
		return fmt.Errorf("put entries of %s: %w", resource, err)
	}
	failpoint.Reach(failpoint.EntriesAfter, resource, "")
	return nil
}

// DropEntries removes the entries of these keys past the journal, under the rules of PutEntries: records that the target was seen not to hold,
// or that are not ours any more. Keys without an entry are passed over. It may be called again.
func (d *DB) DropEntries(ctx context.Context, l Lease, resource string, keys []Hash) error {
	failpoint.Reach(failpoint.EntriesBefore, resource, "")
	err := d.pastJournal(ctx, l, resource, func(tx bulk, r foldResource) error {
		sorted := slices.SortedFunc(slices.Values(keys), func(a, b Hash) int { return bytes.Compare(a[:], b[:]) })
		gone := int64(0)
		for window := range slices.Chunk(slices.Compact(sorted), tx.window()) {
			n, err := tx.remove(ctx, r, window)
			if err != nil {
				return err
			}
			gone += n
		}
		return tx.grow(ctx, r, -gone)
	})
	if err != nil {
		return fmt.Errorf("drop entries of %s: %w", resource, err)
	}
	failpoint.Reach(failpoint.EntriesAfter, resource, "")
	return nil
}

// pastJournal runs fn in one fenced transaction in which the connection's journal is empty (I3, I7).
func (d *DB) pastJournal(ctx context.Context, l Lease, resource string, fn func(bulk, foldResource) error) error {
	if resource == "" {
		return errors.New("no resource is named")
	}
	c, err := d.connection(ctx, l.ConnectionID)
	if err != nil {
		return err
	}
	id, err := d.ensureResource(ctx, resource)
	if err != nil {
		return err
	}
	return d.store.bulk(ctx, c, func(tx bulk) error {
		if err := tx.fence(ctx, l, d.now()); err != nil {
			return err
		}
		frames, err := tx.frames(ctx)
		if err != nil {
			return err
		}
		if frames > 0 {
			return fmt.Errorf("%d journal frames are not folded: %w", frames, ErrUnsettled)
		}
		return fn(tx, foldResource{name: resource, id: id})
	})
}

// SortedHashes streams the key and record hash and the state of every entry of the resource, by key, bytewise. Record hashes not known are
// zero. An error of fn ends it and is returned. fn may call the ledger.
func (d *DB) SortedHashes(ctx context.Context, connID int64, resource string, fn func(key, record Hash, state State) error) error {
	id, err := d.resourceID(ctx, resource)
	if err != nil || id == 0 {
		return err
	}
	if err := d.store.hashes(ctx, connID, id, true, func(key, record, _ Hash, state State) error { return fn(key, record, state) }); err != nil {
		return fmt.Errorf("read hashes of %s: %w", resource, err)
	}
	return nil
}
