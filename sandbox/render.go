package sandbox

import (
	"strconv"
	"unicode/utf8"

	"github.com/edfisync/edfisync/schema"
)

// renderer prints stored records as the JSON a GET returns.
type renderer struct {
	st   *store
	ids  *identifiers
	bare bool // leave out what the server adds: id, links, _etag, _lastModifiedDate
}

// record appends a record's JSON; false when it, or something it refers to, was deleted meanwhile.
func (r renderer) record(dst []byte, a address) ([]byte, bool) {
	var buf [512]byte
	mark := len(dst)
	s := a.table.space
	s.mu.RLock()
	row := a.table.liveRow(a.row)
	if row == nil {
		s.mu.RUnlock()
		return dst, false
	}
	rec := append(buf[:0], a.table.arena.bytes(row.at)...)
	modified := row.modified
	s.mu.RUnlock()

	dst = append(dst, '{')
	if !r.bare {
		dst = append(dst, `"id":"`...)
		dst = r.ids.append(dst, a)
		dst = append(dst, '"')
	}
	c := cursor{rec}
	dst, ok := r.members(dst, a.table.shape, &c)
	if !ok {
		return dst[:mark], false
	}
	if !r.bare {
		dst = append(dst, `,"_etag":"`...)
		dst = r.st.like.appendETag(dst, modified)
		if r.st.like.lastModified {
			dst = append(dst, `","_lastModifiedDate":"`...)
			dst = modified.appendTime(dst)
		}
		dst = append(dst, '"')
	}
	return append(dst, '}'), true
}

// members prints an object's members, empty collections included as the ODS does and a DMS does not.
func (r renderer) members(dst []byte, s *shape, c *cursor) ([]byte, bool) {
	ok := true
	next := c.member()
	for i := range s.props {
		p := &s.props[i]
		if i != next && (p.Kind != schema.Collection || r.bare || r.st.like.dms) {
			continue
		}
		if last := dst[len(dst)-1]; last != '{' {
			dst = append(dst, ',')
		}
		dst = append(dst, p.quoted...)
		if i != next {
			dst = append(dst, "[]"...)
			continue
		}
		if dst, ok = r.value(dst, p, c); !ok {
			return dst, false
		}
		next = c.member()
	}
	return dst, true
}

func (r renderer) value(dst []byte, p *prop, c *cursor) ([]byte, bool) {
	ok := true
	switch p.Kind {
	case schema.String:
		dst = appendQuoted(dst, c.text())
	case schema.Decimal:
		dst = append(dst, c.text()...)
	case schema.Boolean:
		dst = strconv.AppendBool(dst, c.varint() == 1)
	case schema.Integer, schema.Long:
		dst = strconv.AppendInt(dst, c.varint(), 10)
	case schema.Date:
		dst = append(appendDate(append(dst, '"'), c.varint()), '"')
	case schema.DateTime:
		dst = append(ticks(c.varint()).appendTime(append(dst, '"')), '"')
	case schema.Time:
		dst = append(appendClock(append(dst, '"'), c.varint()), '"')
	case schema.Descriptor:
		if p.desc == nil {
			return appendQuoted(dst, c.text()), true
		}
		return r.st.appendDescriptor(dst, p.desc.space.address(uint32(c.uvarint())))
	case schema.Reference:
		return r.reference(dst, p, uint32(c.uvarint()))
	case schema.Object:
		dst = append(dst, '{')
		if dst, ok = r.members(dst, p.shape, c); !ok {
			return dst, false
		}
		dst = append(dst, '}')
	case schema.Collection:
		dst = append(dst, '[')
		for n := c.uvarint(); n > 0; n-- {
			dst = append(dst, '{')
			if dst, ok = r.members(dst, p.shape, c); !ok {
				return dst, false
			}
			dst = append(dst, '}')
			if n > 1 {
				dst = append(dst, ',')
			}
		}
		dst = append(dst, ']')
	}
	return dst, true
}

func (r renderer) reference(dst []byte, p *prop, entry uint32) ([]byte, bool) {
	a := p.ref.space.address(entry)
	var buf [512]byte
	rec, ok := r.st.copyRecord(buf[:0], a)
	if !ok {
		return dst, false
	}
	dst = append(dst, '{')
	for i := range p.shape.props {
		part := p.ref.part[i]
		if part < 0 {
			continue
		}
		mark := len(dst)
		if dst[len(dst)-1] != '{' {
			dst = append(dst, ',')
		}
		dst = append(dst, p.shape.props[i].quoted...)
		var found bool
		if dst, found, ok = r.scalar(dst, a.table, rec, &a.table.key[part].path); !ok {
			return dst, false
		} else if !found {
			dst = dst[:mark]
		}
	}
	if !r.bare {
		dst = append(dst, `,"link":{"rel":"`...)
		dst = append(dst, a.table.res.Name...)
		dst = append(dst, `","href":"/`...)
		dst = append(dst, a.table.path...)
		dst = append(dst, '/')
		dst = r.ids.append(dst, a)
		dst = append(dst, `"}`...)
	}
	return append(dst, '}'), true
}

// scalar prints the scalar at a path of a record. found is false when it is absent, ok when a record on the way is gone.
func (r renderer) scalar(dst []byte, t *table, rec []byte, at *path) (out []byte, found, ok bool) {
	c := cursor{rec}
	s := t.shape
	for n, step := range at.steps {
		if !c.find(s, int(step)) {
			return dst, false, true
		}
		p := &s.props[step]
		switch p.Kind {
		case schema.Object:
			s = p.shape
		case schema.Reference:
			part := p.ref.part[at.steps[n+1]]
			if part < 0 {
				return dst, false, true
			}
			target := p.ref.space.address(uint32(c.uvarint()))
			var buf [512]byte
			next, ok := r.st.copyRecord(buf[:0], target)
			if !ok {
				return dst, false, false
			}
			return r.scalar(dst, target.table, next, &target.table.key[part].path)
		default:
			dst, ok := r.value(dst, p, &c)
			return dst, true, ok
		}
	}
	return dst, false, true
}

// appendDescriptor prints a descriptor's URI in the casing it was stored with.
func (st *store) appendDescriptor(dst []byte, a address) ([]byte, bool) {
	var buf [512]byte
	rec, ok := st.copyRecord(buf[:0], a)
	if !ok {
		return dst, false
	}
	var code, namespace []byte
	c := cursor{rec}
	for i := c.member(); i >= 0; i = c.member() {
		p := &a.table.shape.props[i]
		switch p.Name {
		case "codeValue":
			code = c.text()
		case "namespace":
			namespace = c.text()
		default:
			c.skip(p)
		}
	}
	dst = append(dst, '"')
	dst = appendEscaped(dst, namespace)
	dst = append(dst, '#')
	dst = appendEscaped(dst, code)
	return append(dst, '"'), true
}

func appendQuoted(dst, text []byte) []byte { return append(appendEscaped(append(dst, '"'), text), '"') }

func appendEscaped(dst, text []byte) []byte {
	const hex = "0123456789abcdef"
	for _, c := range text {
		switch {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c >= ' ' || c >= utf8.RuneSelf:
			dst = append(dst, c)
		case c == '\n':
			dst = append(dst, `\n`...)
		case c == '\r':
			dst = append(dst, `\r`...)
		case c == '\t':
			dst = append(dst, `\t`...)
		default:
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
	}
	return dst
}
