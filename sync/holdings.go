package sync

import (
	"bytes"
	"context"
	"fmt"
	"hash/maphash"
	"slices"

	"github.com/edfisync/edfisync/syncdb"
)

// holdings are the ledger's entries of one resource, small enough to compare a million records of the target with: 33 bytes for each. Not safe
// for concurrent use.
type holdings struct {
	keys  []syncdb.Hash // sorted
	recs  []uint64
	ids   []uint64
	flags []heldFlag
	seed  maphash.Seed
}

type heldFlag uint8

const (
	heldLive      heldFlag = 1 << iota // the ledger says the target has it
	heldHasID                          // the ledger knows its id
	heldSeen                           // a record of the target has its key
	heldElsewhere                      // its own record has another key
	heldMoved                          // and that was told
	heldTaken                          // another record has its key
	heldHidden                         // the target does not show its record
)

// hold reads the entries of a resource.
func (e *Engine) holdings(ctx context.Context, resource string) (*holdings, error) {
	n, err := e.Ledger.Count(ctx, e.Connection.ID, resource)
	if err != nil {
		return nil, fmt.Errorf("count entries: %w", err)
	}
	h := &holdings{
		keys: make([]syncdb.Hash, 0, n), recs: make([]uint64, 0, n), ids: make([]uint64, 0, n), flags: make([]heldFlag, 0, n), seed: maphash.MakeSeed(),
	}
	err = e.Ledger.Each(ctx, e.Connection.ID, resource, func(entry *syncdb.Entry) error { // in key order
		var flags heldFlag
		if entry.State == syncdb.Live {
			flags |= heldLive
		}
		if entry.EdfiID != "" {
			flags |= heldHasID
		}
		h.keys, h.recs = append(h.keys, entry.KeyHash), append(h.recs, cut8(entry.RecordHash))
		h.ids, h.flags = append(h.ids, h.cutID(entry.EdfiID)), append(h.flags, flags)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read entries: %w", err)
	}
	return h, nil
}

func (h *holdings) cutID(id string) uint64 { return maphash.String(h.seed, id) }

// find returns the index of a key, or -1.
func (h *holdings) find(key syncdb.Hash) int {
	i, ok := slices.BinarySearchFunc(h.keys, key, func(a, b syncdb.Hash) int { return bytes.Compare(a[:], b[:]) })
	if !ok {
		return -1
	}
	return i
}

// compare says whether an entry tells what a record with its key is.
func (h *holdings) compare(i int, id uint64, record syncdb.Hash) finding {
	if h.flags[i]&heldLive != 0 && h.ids[i] == id && h.recs[i] == cut8(record) {
		return foundSame
	}
	return foundDifferent
}

// unseenIDs are the ids, cut, of entries whose key no record has.
func (h *holdings) unseenIDs() map[uint64]int {
	out := map[uint64]int{}
	for i, flags := range h.flags {
		if flags&(heldSeen|heldHasID) == heldHasID {
			out[h.ids[i]] = i
		}
	}
	return out
}
