package sync

import (
	"encoding/binary"
	"math/bits"

	"github.com/edfisync/edfisync/syncdb"
)

// slotFlag is the state of one slot of a table.
type slotFlag uint8

const (
	slotEntry   slotFlag = 1 << iota // the ledger has an entry for it
	slotLive                         // the target holds it, as far as we know now
	slotSeen                         // a row of this scan has this key
	slotNew                          // spooled in this scan
	slotWritten                      // the target took a write of it in this run
	slotOutside                      // the row with this key is of a school the connection does not sync
)

// table is the probe table of one resource: the ledger's hashes, cut to 8 bytes of key hash, 8 of record hash and 4 of source hash, with
// open addressing at a load of at most 3/4 (engine.md §1). A match of cut hashes may drop an unchanged row, but never decides alone to
// write or to delete: the ledger is asked for the whole hash first. Not safe for concurrent use.
type table struct {
	keys  []uint64 // 0 = empty slot
	recs  []uint64
	srcs  []uint32
	flags []slotFlag
	n     int
}

// newTable returns a table with room for n entries.
func newTable(n int) *table {
	t := &table{}
	t.alloc(max(4, n*4/3+1)) // most resources of most runs are small, and many have no entry at all
	return t
}

func (t *table) alloc(slots int) {
	t.keys = make([]uint64, slots)
	t.recs = make([]uint64, slots)
	t.srcs = make([]uint32, slots)
	t.flags = make([]slotFlag, slots)
	t.n = 0
}

func cut8(h syncdb.Hash) uint64 { return max(1, binary.LittleEndian.Uint64(h[:8])) }

func cut4(h syncdb.Hash) uint32 { return binary.LittleEndian.Uint32(h[:4]) }

// start returns the first slot to look at; multiplying keeps any table size usable.
func (t *table) start(key uint64) int {
	hi, _ := bits.Mul64(key, uint64(len(t.keys)))
	return int(hi)
}

// find returns the slot of a key, or -1.
func (t *table) find(key syncdb.Hash) int {
	k := cut8(key)
	for i := t.start(k); ; {
		switch t.keys[i] {
		case k:
			return i
		case 0:
			return -1
		}
		if i++; i == len(t.keys) {
			i = 0
		}
	}
}

// put adds a key that is not in the table yet and returns its slot.
func (t *table) put(key, record, source syncdb.Hash, flags slotFlag) int {
	if (t.n+1)*4 > len(t.keys)*3 {
		t.grow()
	}
	return t.insert(cut8(key), cut8(record), cut4(source), flags)
}

func (t *table) insert(key, rec uint64, src uint32, flags slotFlag) int {
	i := t.start(key)
	for t.keys[i] != 0 {
		if i++; i == len(t.keys) {
			i = 0
		}
	}
	t.keys[i], t.recs[i], t.srcs[i], t.flags[i] = key, rec, src, flags
	t.n++
	return i
}

func (t *table) grow() {
	old := *t
	t.alloc(len(old.keys)*3/2 + 64)
	for i, k := range old.keys {
		if k != 0 {
			t.insert(k, old.recs[i], old.srcs[i], old.flags[i])
		}
	}
}

// live reports whether the target holds a record with this key, as far as we know.
func (t *table) live(key syncdb.Hash) bool {
	i := t.find(key)
	return i >= 0 && t.flags[i]&slotLive != 0
}

// setLive notes that the target now holds, or no longer holds, the record with this key.
func (t *table) setLive(key syncdb.Hash, live bool) {
	i := t.find(key)
	switch {
	case i < 0 && live:
		t.put(key, syncdb.Hash{}, syncdb.Hash{}, slotLive)
	case i >= 0 && live:
		t.flags[i] |= slotLive
	case i >= 0:
		t.flags[i] &^= slotLive
	}
}

// outside reports whether the row with this key is of a school the connection does not sync.
func (t *table) outside(key syncdb.Hash) bool {
	i := t.find(key)
	return i >= 0 && t.flags[i]&slotOutside != 0
}

// wrote notes that the target took a write of the record with this key in this run.
func (t *table) wrote(key syncdb.Hash) {
	if i := t.find(key); i >= 0 {
		t.flags[i] |= slotWritten
	}
}

// unseen counts the ledger's entries no row of the scan had.
func (t *table) unseen() int {
	n := 0
	for _, f := range t.flags {
		if f&(slotEntry|slotSeen) == slotEntry {
			n++
		}
	}
	return n
}
