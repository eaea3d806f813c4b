package schema

import "bytes"

// readJSON parses a column and brings it to the form in which it travels. ok is false when it is not JSON, or with careful
// set names a member twice.
func (t *Template) readJSON(o *op, row [][]byte, v *validator, careful bool) (top int32, ok bool) {
	v.part, v.row = t, row
	top, err := v.parse(row[o.column])
	if err != nil {
		return 0, false
	}
	n := normaliser{document: &v.document, uris: t.uris, careful: careful}
	n.value(o.element, top)
	return top, !n.broken
}

// gives says whether a row has a value for an element that is a column.
func (t *Template) gives(e *element, row [][]byte) bool {
	i, ok := t.columns[e]
	return ok && len(row[i]) > 0
}

// canonical writes a node in both forms after what wire and body hold.
func (t *Template) canonical(o *op, n int32, v *validator, wire, body []byte) (_, _ []byte, wrote, present bool) {
	c := &v.canonicaliser
	out := c.out // the validator's own scratch
	c.out, c.wire, c.rules, c.body, c.both = body, wire, t.rules, true, true
	wrote, present = c.value(o.element, n)
	wire, body = c.wire, c.out
	c.out, c.wire, c.body, c.both = out, nil, false, false
	return wire, body, wrote, present
}

// normaliser brings the JSON a database makes to the form in which it travels, in place. SQL engines differ: booleans are 1 and 0, dates
// have times, decimals have zeros, an aggregate over no rows gives null or an item of nulls, and JSON inside JSON may arrive as a string
// (MariaDB, SQLite).
type normaliser struct {
	*document
	uris    map[string]map[string][]byte
	careful bool // look for members that are there twice; else that is left to the validator
	broken  bool // a known member is there twice, or a string that should hold JSON does not
}

func (z *normaliser) value(e *element, n int32) {
	kind := z.nodes[n].kind
	switch {
	case e.isLeaf():
		z.leaf(e, n)
	case kind == stringToken:
		z.nested(e, n)
	case e.Kind == Collection && kind == arrayToken:
		z.collection(e, n)
	case e.Kind != Collection && kind == objectToken:
		z.object(e, n)
	}
}

func (z *normaliser) leaf(e *element, n int32) {
	v := &z.nodes[n]
	if v.kind >= objectToken || v.kind == nullToken {
		return
	}
	if v.kind == stringToken && len(v.text) == 0 {
		v.kind = nullToken // as in a column, an empty text is no value
		return
	}
	s := resolve(e, scalar{v.kind, v.text}, z.uris[e.Target], &z.buf)
	v.kind, v.text = s.kind, s.text
}

// resolve normalises a value and translates a local code. What cannot be read stays as it is.
func resolve(e *element, s scalar, uris map[string][]byte, arena *[]byte) scalar {
	if e.Kind == Descriptor && s.kind != boolToken {
		u := uris[string(s.text)]
		if u == nil {
			u = uris[string(bytes.TrimRight(s.text, " "))] // CHAR columns are padded
		}
		if u != nil {
			return scalar{stringToken, u}
		}
	}
	s, _ = e.normalise(s, arena)
	return s
}

// nested reads a string that holds JSON.
func (z *normaliser) nested(e *element, n int32) {
	if len(z.nodes[n].text) == 0 {
		z.nodes[n].kind = nullToken
		return
	}
	top, err := z.more(z.nodes[n].text)
	if err != nil {
		z.broken = true
		return
	}
	if z.nodes[top].kind == stringToken {
		return // JSON in a string in a string: leave it, it is of the wrong type
	}
	inner, outer := z.nodes[top], &z.nodes[n]
	outer.kind, outer.text, outer.first = inner.kind, inner.text, inner.first
	z.value(e, n)
}

func (z *normaliser) object(e *element, n int32) {
	empty := true
	for m := z.nodes[n].first; m != 0; m = z.nodes[m].next {
		kid := e.byName[string(z.nodes[m].name)]
		if kid != nil {
			if z.careful && z.child(n, kid.Name) != m {
				z.broken = true
				return
			}
			z.value(kid, m)
		}
		empty = empty && z.nodes[m].kind == nullToken
	}
	if empty {
		z.nodes[n].kind = nullToken
	}
}

func (z *normaliser) collection(e *element, n int32) {
	empty := true
	for m := z.nodes[n].first; m != 0; m = z.nodes[m].next {
		switch z.nodes[m].kind {
		case objectToken:
			z.object(e, m)
		case stringToken:
			z.nestedItem(e, m)
		}
		empty = empty && z.nodes[m].kind == nullToken
	}
	if empty {
		z.nodes[n].kind = nullToken
	}
}

// nestedItem reads an item that is a string holding an object.
func (z *normaliser) nestedItem(e *element, n int32) {
	top, err := z.more(z.nodes[n].text)
	if err != nil || z.nodes[top].kind != objectToken {
		z.broken = z.broken || err != nil
		return
	}
	z.nodes[n].kind, z.nodes[n].first = objectToken, z.nodes[top].first
	z.object(e, n)
}
