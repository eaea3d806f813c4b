package sandbox

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/edfisync/edfisync/schema"
)

// resolve replaces descriptors and references of a checked payload by the records they name and pins these, so that nobody deletes them
// before this payload is stored. Descriptors that do not exist are problems; unresolved is the entity of the first item that does not.
func (st *store) resolve(d *draft, s *shape, block int32, up *where) (unresolved string) {
	for i := range s.props {
		p := &s.props[i]
		sl := &d.slots[block+int32(i)]
		if sl.state != present || p.shape == nil && p.Kind != schema.Descriptor {
			continue
		}
		if missing := st.resolveMember(d, p, sl, up); unresolved == "" {
			unresolved = missing
		}
	}
	return unresolved
}

func (st *store) resolveMember(d *draft, p *prop, sl *slot, up *where) (unresolved string) {
	at := where{up, p.Name, -1}
	switch p.Kind {
	case schema.Descriptor:
		st.resolveDescriptor(d, p, sl, &at)
	case schema.Reference:
		return st.resolveReference(d, p, sl, &at)
	case schema.Object:
		return st.resolve(d, p.shape, sl.child, &at)
	case schema.Collection:
		for head := sl.child; head != 0; head = d.slots[head].next {
			at.index++
			if missing := st.resolve(d, p.shape, head+1, &at); unresolved == "" {
				unresolved = missing
			}
		}
	}
	return unresolved
}

func (st *store) resolveDescriptor(d *draft, p *prop, s *slot, at *where) {
	if p.desc == nil {
		return
	}
	uri := d.text(s)
	if entry, r := st.pinDescriptor(d, p.desc, uri); r != nil {
		d.pins = append(d.pins, r)
		s.num = int64(entry)
		return
	}
	s.state = broken
	if d.allMissing {
		uri = bytes.ToLower(uri)
	}
	d.problem(at, fmt.Sprintf("%s value '%s' does not exist.", p.Target, uri))
}

// pinDescriptor looks up a descriptor URI ("uri://ed-fi.org/TermDescriptor#Fall Semester").
func (st *store) pinDescriptor(d *draft, t *table, uri []byte) (uint32, *row) {
	i := bytes.IndexByte(uri, '#')
	if i < 0 {
		return 0, nil
	}
	d.tmp = appendFolded(d.tmp[:0], uri[i+1:], false) // key order: codeValue, namespace
	d.tmp = appendFolded(d.tmp, uri[:i], false)
	return st.pin(t.space, -1, st.hash.sum(d.tmp))
}

func (st *store) resolveReference(d *draft, p *prop, s *slot, at *where) (missing string) {
	for _, leaf := range p.ref.leaves {
		q := &p.shape.props[leaf]
		if q.Kind != schema.Descriptor {
			continue
		}
		l := &d.slots[s.child+int32(leaf)]
		kept := len(d.pins)
		if st.resolveMember(d, q, l, at); l.state == broken {
			return ""
		}
		for _, r := range d.pins[kept:] {
			r.inbound.Add(-1) // the record referred to keeps it
		}
		d.pins = d.pins[:kept]
	}
	f := exact
	if st.fold {
		f = ignoreTails
	}
	d.tmp = d.tmp[:0]
	for _, leaf := range p.ref.leaves {
		q := &p.shape.props[leaf]
		d.tmp = d.appendKeyValue(d.tmp, q, &d.slots[s.child+int32(leaf)], f)
	}
	entry, r := st.pin(p.ref.space, p.ref.ordinal, st.hash.sum(d.tmp))
	if r == nil {
		if d.allMissing {
			if d.unresolved == nil {
				d.unresolved = problems{}
			}
			d.unresolved[at.String()] = []string{"The referenced " + p.Target + " item does not exist."}
		}
		return p.Target
	}
	d.pins = append(d.pins, r)
	s.num = int64(entry)
	return ""
}

// pin finds a record by key hash and raises its inbound count in one step, so that a delete either sees the count or comes first.
func (st *store) pin(s *space, ordinal int, h keyHash) (uint32, *row) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	entry, ok := s.index[h]
	if !ok || ordinal >= 0 && int(entry&(maxKinds-1)) != ordinal {
		return 0, nil
	}
	a := s.address(entry)
	r := a.table.row(a.row)
	r.inbound.Add(1)
	return entry, r
}

// findDescriptors adds to a draft's problems the descriptors that do not exist.
func (st *store) findDescriptors(d *draft, t *table, root int32) {
	st.world.RLock()
	defer st.world.RUnlock()
	st.resolve(d, t.shape, root, nil)
	d.unpin()
}

// unpin gives up what the draft pinned.
func (d *draft) unpin() {
	for _, r := range d.pins {
		r.inbound.Add(-1)
	}
	d.pins = d.pins[:0]
}

// folding is how key texts are brought to the form in which they are compared.
type folding uint8

const (
	exact       folding = iota // letter by letter
	ignoreCase                 // descriptor resources, always
	ignoreTails                // Options.CaseInsensitiveKeys: without case and trailing spaces
)

// folding of a table's natural keys.
func (st *store) folding(t *table) folding {
	switch {
	case t.res.Descriptor:
		return ignoreCase
	case st.fold:
		return ignoreTails
	}
	return exact
}

// appendKeyText encodes a text of a key.
func appendKeyText(dst, text []byte, p *prop, f folding) []byte {
	switch {
	case p.Kind == schema.Descriptor:
		return appendFolded(dst, text, false) // one whose resource the model lacks
	case p.Kind != schema.String || f == exact:
		return appendText(dst, text)
	}
	return appendFolded(dst, text, f == ignoreTails)
}

// appendKeyValue encodes one part of a natural key so that equal keys give equal bytes.
func (d *draft) appendKeyValue(dst []byte, p *prop, s *slot, f folding) []byte {
	if p.storedAsText() {
		return appendKeyText(dst, d.text(s), p, f)
	}
	return d.appendScalar(dst, p, s)
}

// appendKey encodes the payload's own natural key.
func (d *draft) appendKey(dst []byte, t *table, root int32, f folding) []byte {
	for i := range t.key {
		p, s := d.scalarAt(t.shape, root, t.key[i].path.steps)
		if s == nil {
			dst = append(dst, 0) // an optional part that is not given
			continue
		}
		dst = d.appendKeyValue(dst, p, s, f)
	}
	return dst
}

// makeKey encodes and hashes the payload's own natural key.
func (st *store) makeKey(d *draft, t *table, root int32) {
	d.key = d.appendKey(d.key[:0], t, root, st.folding(t))
	d.hash = st.hash.sum(d.key)
}

func (d *draft) scalarAt(s *shape, block int32, steps []uint16) (*prop, *slot) {
	for n, step := range steps {
		p := &s.props[step]
		sl := &d.slots[block+int32(step)]
		if sl.state != present {
			return nil, nil
		}
		if n == len(steps)-1 {
			return p, sl
		}
		s, block = p.shape, sl.child
	}
	return nil, nil
}

// appendKey encodes the natural key of a stored record, as draft.appendKey does for a payload.
func (st *store) appendKey(dst []byte, t *table, rec []byte, f folding) []byte {
	for i := range t.key {
		mark := len(dst)
		dst = st.appendStored(dst, t.shape, rec, &t.key[i].path, f)
		if len(dst) == mark {
			dst = append(dst, 0)
		}
	}
	return dst
}

// appendStored encodes the scalar at a path of a stored record; nothing when it is absent.
func (st *store) appendStored(dst []byte, s *shape, rec []byte, at *path, f folding) []byte {
	c := cursor{rec}
	for n, step := range at.steps {
		if !c.find(s, int(step)) {
			return dst
		}
		p := &s.props[step]
		switch {
		case p.Kind == schema.Object:
			s = p.shape
			continue
		case p.Kind == schema.Reference:
			if part := p.ref.part[at.steps[n+1]]; part >= 0 {
				return st.appendKeyPart(dst, p.ref.space, uint32(c.uvarint()), part, f)
			}
			return dst
		case p.storedAsText():
			return appendKeyText(dst, c.text(), p, f)
		case p.storedAsEntry():
			return binary.AppendUvarint(dst, c.uvarint())
		case p.Kind == schema.Collection:
			return dst
		}
		return binary.AppendVarint(dst, c.varint())
	}
	return dst
}

// appendKeyPart encodes one part of another record's key.
func (st *store) appendKeyPart(dst []byte, s *space, entry uint32, part int, f folding) []byte {
	a := s.address(entry)
	var buf [256]byte
	rec, ok := st.copyRecord(buf[:0], a)
	if !ok {
		return dst
	}
	return st.appendStored(dst, a.table.shape, rec, &a.table.key[part].path, f)
}

// copyRecord appends a record's bytes to dst; false when it is gone.
func (st *store) copyRecord(dst []byte, a address) ([]byte, bool) {
	s := a.table.space
	s.mu.RLock()
	defer s.mu.RUnlock()
	r := a.table.liveRow(a.row)
	if r == nil {
		return dst, false
	}
	return append(dst, a.table.arena.bytes(r.at)...), true
}
