package sandbox

import (
	"bytes"
	"encoding/binary"
	"slices"

	"github.com/edfisync/edfisync/schema"
)

// A record is stored as its present members: ordinal + 1 (uvarint) and value, then 0. Values by kind:
//
//	String, Decimal            length (uvarint), text
//	Boolean, Integer, Long,
//	Date, DateTime, Time       varint (days since 1970, ticks, seconds)
//	Descriptor, Reference      the target's index entry (uvarint): row number and kind; never the key, so a key change of the target
//	                           shows in every record that refers to it without touching them
//	Object                     its members, then 0
//	Collection                 count (uvarint), each item's members, then 0; items sorted by their bytes
//
// Absent, null, empty objects and empty collections are not stored. Equal payloads give equal bytes.

// encode writes the block's members to d.rec and says whether there were any.
func (d *draft) encode(s *shape, block int32) (some bool) {
	for i := range s.props {
		p := &s.props[i]
		sl := &d.slots[block+int32(i)]
		if sl.state != present {
			continue
		}
		mark := len(d.rec)
		d.rec = binary.AppendUvarint(d.rec, uint64(i+1))
		kept := true
		switch p.Kind {
		case schema.Object:
			kept = d.encode(p.shape, sl.child)
		case schema.Collection:
			if kept = sl.num > 0; kept {
				d.encodeItems(p.shape, sl)
			}
		default:
			d.rec = d.appendScalar(d.rec, p, sl)
		}
		if !kept {
			d.rec = d.rec[:mark]
			continue
		}
		some = true
	}
	d.rec = append(d.rec, 0)
	return some
}

func (d *draft) encodeItems(s *shape, sl *slot) {
	d.rec = binary.AppendUvarint(d.rec, uint64(sl.num))
	if sl.num == 1 {
		d.encode(s, sl.child+1)
		return
	}
	start := len(d.rec)
	ranges := make([][2]int, 0, sl.num)
	for head := sl.child; head != 0; head = d.slots[head].next {
		from := len(d.rec)
		d.encode(s, head+1)
		ranges = append(ranges, [2]int{from, len(d.rec)})
	}
	order := func(a, b [2]int) int { return bytes.Compare(d.rec[a[0]:a[1]], d.rec[b[0]:b[1]]) }
	if slices.IsSortedFunc(ranges, order) {
		return
	}
	slices.SortFunc(ranges, order)
	d.tmp = d.tmp[:0]
	for _, r := range ranges {
		d.tmp = append(d.tmp, d.rec[r[0]:r[1]]...)
	}
	copy(d.rec[start:], d.tmp)
}

// appendScalar encodes a scalar, or a resolved reference.
func (d *draft) appendScalar(dst []byte, p *prop, s *slot) []byte {
	switch p.Kind {
	case schema.String, schema.Decimal:
		return appendText(dst, d.text(s))
	case schema.Descriptor:
		if p.desc == nil {
			return appendText(dst, d.text(s))
		}
		return binary.AppendUvarint(dst, uint64(s.num))
	case schema.Reference:
		return binary.AppendUvarint(dst, uint64(s.num))
	}
	return binary.AppendVarint(dst, s.num)
}

// appendFolded is appendText for text compared without case, and without trailing spaces when trim is set.
func appendFolded(dst, text []byte, trim bool) []byte {
	if trim {
		text = bytes.TrimRight(text, " ")
	}
	dst = binary.AppendUvarint(dst, uint64(len(text)))
	mark := len(dst)
	for _, c := range text {
		if c >= 0x80 {
			return append(dst[:mark], bytes.ToLower(text)...)
		}
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		dst = append(dst, c)
	}
	return dst
}

// cursor walks an encoded record.
type cursor struct {
	b []byte
}

func (c *cursor) uvarint() uint64 {
	v, n := binary.Uvarint(c.b)
	c.b = c.b[n:]
	return v
}

func (c *cursor) varint() int64 {
	v, n := binary.Varint(c.b)
	c.b = c.b[n:]
	return v
}

func (c *cursor) text() []byte {
	n := c.uvarint()
	t := c.b[:n]
	c.b = c.b[n:]
	return t
}

// member returns the ordinal of the next member, −1 at the end of the object.
func (c *cursor) member() int { return int(c.uvarint()) - 1 }

// storedAsText says how scalars of a property lie in a record.
func (p *prop) storedAsText() bool {
	return p.Kind == schema.String || p.Kind == schema.Decimal || p.Kind == schema.Descriptor && p.desc == nil
}

// storedAsEntry says that the value is an index entry of another record.
func (p *prop) storedAsEntry() bool {
	return p.Kind == schema.Reference || p.Kind == schema.Descriptor && p.desc != nil
}

func (p *prop) targetSpace() *space {
	if p.ref != nil {
		return p.ref.space
	}
	return p.desc.space
}

func (c *cursor) skipObject(s *shape) {
	for i := c.member(); i >= 0; i = c.member() {
		c.skip(&s.props[i])
	}
}

func (c *cursor) skip(p *prop) {
	switch {
	case p.storedAsText():
		c.text()
	case p.storedAsEntry():
		c.uvarint()
	case p.Kind == schema.Object:
		c.skipObject(p.shape)
	case p.Kind == schema.Collection:
		for n := c.uvarint(); n > 0; n-- {
			c.skipObject(p.shape)
		}
	default:
		c.varint()
	}
}

// links calls f for every reference and descriptor of a record, until f returns false.
func (c *cursor) links(s *shape, f func(p *prop, entry uint32) bool) bool {
	for i := c.member(); i >= 0; i = c.member() {
		p := &s.props[i]
		switch {
		case p.storedAsEntry():
			if !f(p, uint32(c.uvarint())) {
				return false
			}
		case p.Kind == schema.Object:
			if !c.links(p.shape, f) {
				return false
			}
		case p.Kind == schema.Collection:
			for n := c.uvarint(); n > 0; n-- {
				if !c.links(p.shape, f) {
					return false
				}
			}
		default:
			c.skip(p)
		}
	}
	return true
}

// find moves to the member with the given ordinal and says whether it is there.
func (c *cursor) find(s *shape, ordinal int) bool {
	for i := c.member(); i >= 0 && i <= ordinal; i = c.member() {
		if i == ordinal {
			return true
		}
		c.skip(&s.props[i])
	}
	return false
}
