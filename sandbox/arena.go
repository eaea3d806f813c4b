package sandbox

import "encoding/binary"

// arena keeps the encoded records of one table in few large byte slices without pointers, so that millions of them cost the garbage
// collector nothing. An entry is: row number (4 bytes), length (uvarint), bytes. Not safe for concurrent use; the space's lock guards it.
type arena struct {
	slabs []slab
	free  []uint32 // numbers of emptied slabs
	open  int      // slab that takes new entries; −1 none
}

type slab struct {
	data []byte
	live int // bytes of entries still referred to
}

const (
	firstSlab = 1 << 10
	lastSlab  = 1 << 20
)

// position of an entry: slab number + 1 in the upper half, offset in the lower. 0 is no position.
type position uint64

func newPosition(slab, off int) position { return position(slab+1)<<32 | position(off) }
func (p position) slab() int             { return int(p>>32) - 1 }
func (p position) offset() int           { return int(uint32(p)) }

func (a *arena) entry(p position) (data []byte, size int) {
	b := a.slabs[p.slab()].data[p.offset():]
	n, w := binary.Uvarint(b[4:])
	return b[4+w : 4+w+int(n)], 4 + w + int(n)
}

// bytes returns the record at p. They are valid while the lock is held.
func (a *arena) bytes(p position) []byte {
	data, _ := a.entry(p)
	return data
}

// add stores a record of row and returns where.
func (a *arena) add(row uint32, rec []byte) position {
	need := 4 + binary.MaxVarintLen32 + len(rec)
	if len(a.slabs) == 0 {
		a.open = -1
	}
	if a.open < 0 || cap(a.slabs[a.open].data)-len(a.slabs[a.open].data) < need {
		a.grow(need)
	}
	s := &a.slabs[a.open]
	off := len(s.data)
	s.data = binary.LittleEndian.AppendUint32(s.data, row)
	s.data = binary.AppendUvarint(s.data, uint64(len(rec)))
	s.data = append(s.data, rec...)
	s.live += len(s.data) - off
	return newPosition(a.open, off)
}

// grow opens a new slab: as large as all before it together, between the two bounds.
func (a *arena) grow(need int) {
	size := firstSlab << min(len(a.slabs), 10)
	s := slab{data: make([]byte, 0, max(min(size, lastSlab), need))}
	if n := len(a.free); n > 0 {
		a.open = int(a.free[n-1])
		a.free = a.free[:n-1]
		a.slabs[a.open] = s
		return
	}
	a.slabs = append(a.slabs, s)
	a.open = len(a.slabs) - 1
}

// drop forgets the entry at p. When less than half of its slab is still used the rest is moved elsewhere: moved is called with each row
// and its new position.
func (a *arena) drop(p position, stillAt func(row uint32) position, moved func(row uint32, to position)) {
	_, size := a.entry(p)
	n := p.slab()
	s := &a.slabs[n]
	s.live -= size
	if n == a.open || s.live > len(s.data)/2 {
		return
	}
	data := s.data
	for off := 0; off < len(data); {
		at := newPosition(n, off)
		rec, size := a.entry(at)
		row := binary.LittleEndian.Uint32(data[off:])
		if at != p && stillAt(row) == at {
			moved(row, a.add(row, rec)) // add may move a.slabs, data stays
		}
		off += size
	}
	a.slabs[n] = slab{}
	a.free = append(a.free, uint32(n))
}
