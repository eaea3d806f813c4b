package sandbox

import (
	"encoding/binary"
	"hash/maphash"
	"sync"
	"sync/atomic"

	"github.com/edfisync/edfisync/schema"
)

// table holds the records of one resource. Its rows and arena are guarded by its space's lock.
type table struct {
	res     *schema.Resource
	number  uint16 // index in catalog.tables
	path    string // "ed-fi/students"
	shape   *shape
	space   *space
	ordinal uint8 // index in space.tables

	key        []keyPart
	unify      []unifyGroup
	params     map[string]path // query parameter in lower case → where its value is
	paramNames []string        // beside the natural key's, as written

	subjects    []subject    // what relationship strategies look at
	namespace   *path        // what NamespaceBased looks at; nil for none
	association *association // relations its records make; nil for none, or while none are kept

	rows  []*[chunkRows]row // a chunk may be nil: rows never used
	next  uint32            // number of the next new row
	live  int64
	arena arena

	deletions  []deletion  // in the order of their change versions
	keyChanges []keyChange // likewise; guarded by the store's world
}

// row is the fixed part of a record. Rows are numbered from 0 in the order of creation and never reused, so a number names one record for
// ever and an id made from it does too.
type row struct {
	at       position     // 0: the record was deleted
	modified ticks        // of the last change; makes the ETag
	version  int64        // change version of the last change
	inbound  atomic.Int32 // references to this record that exist or are about to be made
	window   uint16       // tally window of the last write; see tally
	repeats  uint8        // 1 once a write of the window came again
	dirty    bool         // waits to be written to the store file
}

const (
	chunkRows = 1 << 8
	kindBits  = 5
	maxKinds  = 1 << kindBits        // tables of a space
	maxRows   = 1 << (32 - kindBits) // rows of a table, deleted ones included
)

// records is the index of a space by natural key.
type records struct {
	mu        sync.RWMutex
	index     map[keyHash]uint32 // → row number << kindBits | table ordinal
	referrers []*table           // tables that may hold references to this space's records
}

// keyHash is 128 bits of the encoded natural key under random seeds; two equal ones are taken for equal keys.
type keyHash [16]byte

type hasher struct{ a, b maphash.Seed }

func newHasher() hasher { return hasher{maphash.MakeSeed(), maphash.MakeSeed()} }

func (h hasher) sum(key []byte) (k keyHash) {
	binary.LittleEndian.PutUint64(k[:8], maphash.Bytes(h.a, key))
	binary.LittleEndian.PutUint64(k[8:], maphash.Bytes(h.b, key))
	return k
}

// address names a record of the sandbox.
type address struct {
	table *table
	row   uint32
}

func (t *table) entry(row uint32) uint32 { return row<<kindBits | uint32(t.ordinal) }

func (s *space) address(entry uint32) address {
	return address{s.tables[entry&(maxKinds-1)], entry >> kindBits}
}

// row returns a row that exists; the caller holds the space's lock. The pointer stays valid without it, but then only inbound may be used.
func (t *table) row(n uint32) *row { return &t.rows[n/chunkRows][n%chunkRows] }

// liveRow is row, nil when the record is gone or never was.
func (t *table) liveRow(n uint32) *row {
	if r := t.usedRow(n); r != nil && r.at != 0 {
		return r
	}
	return nil
}

// usedRow is row, nil when the number was never given out by this process or loaded.
func (t *table) usedRow(n uint32) *row {
	if c := int(n / chunkRows); n >= t.next || c >= len(t.rows) || t.rows[c] == nil {
		return nil
	}
	return t.row(n)
}

// newRow makes the next row. The caller holds the space's lock for writing.
func (t *table) newRow() (uint32, *row) {
	n := t.next
	t.next++
	return n, t.makeRow(n)
}

func (t *table) makeRow(n uint32) *row {
	c := int(n / chunkRows)
	for len(t.rows) <= c {
		t.rows = append(t.rows, nil)
	}
	if t.rows[c] == nil {
		t.rows[c] = new([chunkRows]row)
	}
	return t.row(n)
}

// put stores rec as the record of row n, in place of what it was. The caller holds the space's lock for writing.
func (t *table) put(n uint32, r *row, rec []byte) {
	old := r.at
	if old == 0 {
		t.live++
	}
	if t.association != nil {
		if old != 0 {
			t.association.add(t, t.arena.bytes(old), -1)
		}
		t.association.add(t, rec, 1)
	}
	r.at = t.arena.add(n, rec)
	if old != 0 {
		t.forget(old)
	}
}

// remove empties row n. The caller holds the space's lock for writing.
func (t *table) remove(r *row) {
	old := r.at
	if t.association != nil {
		t.association.add(t, t.arena.bytes(old), -1)
	}
	r.at = 0
	t.live--
	t.forget(old)
}

func (t *table) forget(p position) {
	t.arena.drop(p,
		func(n uint32) position { return t.row(n).at },
		func(n uint32, to position) { t.row(n).at = to })
}
