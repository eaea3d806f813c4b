package schema

import (
	"bytes"
	"fmt"
	"slices"
	"sync"
)

// Canonical appends a payload in canonical form (see docs/adr/0002) to dst: two payloads that mean the same have the same bytes. What a
// target adds to what it was sent is left out: id, _etag, _lastModifiedDate, the link of a reference, and values in a collection's items
// that equal those they would be taken from if absent. Values that do not read as the model says are kept in a form of their own, so
// that they compare as different. It fails only when payload is no JSON object.
func (r *Resource) Canonical(dst, payload []byte) ([]byte, error) {
	return r.canonical(dst, payload, Rules{Version: CanonicalVersion}, false)
}

// CanonicalBody appends the canonical form of what the record hash covers to dst: the payload without the values of its own natural key,
// at any of their paths, and without values that must equal them. So a new key, of this record or cascading from a parent, does not
// change it.
func (r *Resource) CanonicalBody(dst, payload []byte, rules Rules) ([]byte, error) {
	return r.canonical(dst, payload, rules, true)
}

func (r *Resource) canonical(dst, payload []byte, rules Rules, body bool) ([]byte, error) {
	c, err := r.canonicalise(payload, rules)
	if err != nil {
		return dst, err
	}
	defer c.release()
	c.out, c.body = dst, body
	if wrote, _ := c.object(r.planned().root, c.top); !wrote {
		c.put("{}")
	}
	return c.out, nil
}

// canonicaliser writes the nodes of a document in canonical form. With wire set it also writes them as they travel, in the same order
// of items.
type canonicaliser struct {
	document
	top   int32
	rules Rules
	body  bool // leave out stripped elements

	part *Template // the document is one column's value in a row of this template; nil = it is a whole payload
	row  [][]byte

	out  []byte
	wire []byte
	both bool

	pool *sync.Pool

	gathered []int32
	items    []item
	spare    []byte
}

// item is an item of a collection while it is sorted: where its key and its two forms are.
type item struct{ key, out, wire span }

type span struct{ from, to int }

func (s span) of(b []byte) []byte { return b[s.from:s.to] }

// canonicalise parses a payload. The result is to be released when nothing of it is in use any more.
func (r *Resource) canonicalise(payload []byte, rules Rules) (*canonicaliser, error) {
	p := r.planned()
	c, ok := p.idle.Get().(*canonicaliser)
	if !ok {
		c = &canonicaliser{pool: &p.idle}
	}
	c.rules = rules
	top, err := c.parse(payload)
	if err == nil && c.nodes[top].kind == objectToken {
		c.top = top
		return c, nil
	}
	c.release()
	if err != nil {
		return nil, fmt.Errorf("parse payload: %w", err)
	}
	return nil, errNotObject
}

// release gives a canonicaliser back.
func (c *canonicaliser) release() {
	c.out, c.wire = nil, nil
	if c.reusable() {
		c.pool.Put(c)
	}
}

// reusable forgets the payload, and says whether the storage is worth keeping: not after an unusually large one (I21).
func (c *canonicaliser) reusable() bool {
	clear(c.nodes)
	return c.size() <= largestKept
}

// size is how many bytes of storage a document holds on to.
func (c *canonicaliser) size() int { return cap(c.nodes)*64 + cap(c.buf) + cap(c.spare) }

// find returns the node at an element's path, without going into collections; 0 when there is none.
func (c *document) find(top int32, e *element) int32 {
	if e.parent == nil {
		return top
	}
	n := c.find(top, e.parent)
	if n == 0 {
		return 0
	}
	return c.child(n, e.Name)
}

func (c *canonicaliser) put(s string) {
	c.out = append(c.out, s...)
	if c.both {
		c.wire = append(c.wire, s...)
	}
}

// object writes an object's members. It writes nothing, and returns wrote false, when none has content. present says whether one has
// content that was left out as stripped.
func (c *canonicaliser) object(e *element, n int32) (wrote, present bool) {
	from := len(c.gathered)
	for m := c.nodes[n].first; m != 0; m = c.nodes[m].next {
		c.gathered = append(c.gathered, m)
	}
	c.gathered = c.gathered[:from+c.sortMembers(c.gathered[from:])]
	outFrom, wireFrom := len(c.out), len(c.wire)
	c.put("{")
	outEmpty, wireEmpty := len(c.out), len(c.wire)
	kids := e.kids
	for i := from; i < len(c.gathered); i++ {
		name := c.nodes[c.gathered[i]].name
		for len(kids) > 0 && kids[0].Name < string(name) {
			kids = kids[1:]
		}
		var kid *element
		if len(kids) > 0 && kids[0].Name == string(name) {
			kid = kids[0]
		}
		if c.member(e, kid, c.gathered[i]) {
			present = true
		}
	}
	c.gathered = c.gathered[:from]
	c.out, wrote = closeObject(c.out, outFrom, outEmpty)
	if c.both {
		var wroteWire bool
		c.wire, wroteWire = closeObject(c.wire, wireFrom, wireEmpty)
		present = present || wroteWire
	}
	return wrote, present || wrote
}

// closeObject ends an object whose members were each followed by a comma, or takes it back when it has none.
func closeObject(b []byte, from, empty int) ([]byte, bool) {
	if len(b) == empty {
		return b[:from], false
	}
	b[len(b)-1] = '}'
	return b, true
}

// sortByName sorts members by name, those of one name in their order.
func (c *canonicaliser) sortByName(members []int32) {
	for i := 1; i < len(members); i++ {
		if bytes.Compare(c.nodes[members[i-1]].name, c.nodes[members[i]].name) > 0 {
			slices.SortStableFunc(members, func(a, b int32) int { return bytes.Compare(c.nodes[a].name, c.nodes[b].name) })
			return
		}
	}
}

// sortMembers sorts members by name and drops all but the last of each name. It returns how many are left.
func (c *canonicaliser) sortMembers(members []int32) int {
	c.sortByName(members)
	n := 0
	for i, m := range members {
		if i+1 < len(members) && bytes.Equal(c.nodes[m].name, c.nodes[members[i+1]].name) {
			continue
		}
		members[n] = m
		n++
	}
	return n
}

// member writes one member, e in the model if it has it, followed by a comma, unless it is empty. It says whether the member has content, written or stripped.
func (c *canonicaliser) member(owner, e *element, m int32) bool {
	name := c.nodes[m].name
	if c.nodes[m].kind == nullToken || e == nil && owner.addedByTarget(name) {
		return false
	}
	outFrom, wireFrom := len(c.out), len(c.wire)
	if e == nil {
		c.out = append(appendQuoted(c.out, name), ':')
		if c.both {
			c.wire = append(appendQuoted(c.wire, name), ':')
		}
	} else {
		c.out = append(c.out, e.prefix...)
		if c.both {
			c.wire = append(c.wire, e.prefix...)
		}
	}
	wrote, present := c.value(e, m)
	if !wrote && present && e.marksPresence() {
		c.out, wrote = append(c.out, "{}"...), true
	}
	if wrote {
		c.out = append(c.out, ',')
	} else {
		c.out = c.out[:outFrom]
	}
	if c.both {
		if present {
			c.wire = append(c.wire, ',')
		} else {
			c.wire = c.wire[:wireFrom]
		}
	}
	return present
}

// marksPresence says whether an object whose content is all left out of the body is still written, as {}: an optional one, of which the
// body must tell whether it is there.
func (e *element) marksPresence() bool { return !e.isLeaf() && !e.Required }

// addedByTarget says whether a target adds a member of this name, which the model does not have, to what it was sent.
func (e *element) addedByTarget(name []byte) bool {
	if e.parent == nil {
		switch string(name) {
		case "id", "_etag", "_lastModifiedDate":
			return true
		}
		return false
	}
	return e.Kind == Reference && string(name) == "link"
}

// value writes the value of a member or item that is not null. e is nil for a member the model does not know.
func (c *canonicaliser) value(e *element, n int32) (wrote, present bool) {
	v := &c.nodes[n]
	switch {
	case e == nil:
	case e.Kind == Collection && v.kind == arrayToken:
		return c.collection(e, n)
	case e.isLeaf() && v.kind < objectToken:
		return c.leaf(e, n), true
	case (e.Kind == Object || e.Kind == Reference) && v.kind == objectToken:
		return c.object(e, n)
	}
	from := len(c.out)
	c.out = c.untyped(c.out, n)
	if c.both {
		c.wire = append(c.wire, c.out[from:]...)
	}
	wrote = len(c.out) > from
	return wrote, wrote
}

func (c *canonicaliser) leaf(e *element, n int32) (wrote bool) {
	s := scalar{c.nodes[n].kind, c.nodes[n].text}
	s, _ = e.normalise(s, &c.buf)
	if c.both {
		c.wire = appendWire(c.wire, s)
	}
	if c.body && e.stripped || c.inherited(e, s) {
		return false
	}
	c.out = e.appendCanonical(c.out, s, c.rules)
	return true
}

// inherited says whether a value equals the one its item would take from the payload around it if it were absent. It is left out then,
// so that it does not matter whether it was sent.
func (c *canonicaliser) inherited(e *element, s scalar) bool {
	if !e.parent.Required {
		return false // an optional reference shows by its values that it is there
	}
	for _, from := range e.inherits {
		if c.part != nil {
			if c.part.gives(from, c.row) {
				return true // equal, or Encode takes the careful way
			}
			continue
		}
		n := c.find(c.top, from)
		if n == 0 || c.nodes[n].kind == nullToken {
			continue
		}
		if outer, _ := from.normalise(scalar{c.nodes[n].kind, c.nodes[n].text}, &c.buf); outer.kind == s.kind && (e.same(outer.text, s.text) || c.sameCanonical(e, outer, s)) {
			return true
		}
	}
	return false
}

// sameCanonical compares two values in canonical form.
func (c *canonicaliser) sameCanonical(e *element, a, b scalar) bool {
	if isASCII(a.text) && isASCII(b.text) {
		return false
	}
	from := len(c.spare)
	c.spare = e.appendCanonical(c.spare, a, c.rules)
	middle := len(c.spare)
	c.spare = e.appendCanonical(c.spare, b, c.rules)
	equal := bytes.Equal(c.spare[from:middle], c.spare[middle:])
	c.spare = c.spare[:from]
	return equal
}

// same compares the texts of two normalised values of a kind.
func (e *element) same(a, b []byte) bool {
	return bytes.Equal(a, b) || e.Kind == Descriptor && bytes.EqualFold(a, b)
}

// appendWire appends a value as it travels.
func appendWire(dst []byte, s scalar) []byte {
	if s.kind == stringToken || s.kind == columnToken {
		return appendQuoted(dst, s.text)
	}
	return append(dst, s.text...)
}

// collection writes items in the order of their keys, then of their whole canonical form.
func (c *canonicaliser) collection(e *element, n int32) (wrote, present bool) {
	outFrom, wireFrom, spareFrom := len(c.out), len(c.wire), len(c.spare)
	from := len(c.items)
	for m := c.nodes[n].first; m != 0; m = c.nodes[m].next {
		if c.nodes[m].kind == nullToken {
			continue
		}
		it := item{out: span{from: len(c.out)}, wire: span{from: len(c.wire)}}
		if c.nodes[m].kind == objectToken {
			c.object(e, m)
		} else {
			c.value(nil, m)
		}
		c.keepItem(it)
		it.out.to, it.wire.to = len(c.out), len(c.wire)
		it.key.from = len(c.spare)
		c.spare = c.appendItemKey(c.spare, e, m)
		it.key.to = len(c.spare)
		c.items = append(c.items, it)
	}
	items := c.items[from:]
	if len(items) == 0 {
		return false, false
	}
	slices.SortFunc(items, func(a, b item) int {
		if o := bytes.Compare(a.key.of(c.spare), b.key.of(c.spare)); o != 0 {
			return o
		}
		return bytes.Compare(a.out.of(c.out), b.out.of(c.out))
	})
	c.out = c.arrange(c.out, outFrom, items, func(it item) span { return it.out })
	if c.both {
		c.wire = c.arrange(c.wire, wireFrom, items, func(it item) span { return it.wire })
	}
	c.items, c.spare = c.items[:from], c.spare[:spareFrom]
	return true, true
}

// keepItem writes an item of which nothing was written as {}: it still counts.
func (c *canonicaliser) keepItem(it item) {
	if len(c.out) == it.out.from {
		c.out = append(c.out, "{}"...)
	}
	if c.both && len(c.wire) == it.wire.from {
		c.wire = append(c.wire, "{}"...)
	}
}

// arrange rewrites the items at the end of b, from an offset on, as an array in their new order.
func (c *canonicaliser) arrange(b []byte, from int, items []item, of func(item) span) []byte {
	spare := len(c.spare)
	c.spare = append(c.spare, '[')
	for _, it := range items {
		c.spare = append(append(c.spare, of(it).of(b)...), ',')
	}
	c.spare[len(c.spare)-1] = ']'
	b = append(b[:from], c.spare[spare:]...)
	c.spare = c.spare[:spare]
	return b
}

// appendItemKey appends what an item is sorted and told apart by; nothing when that is the whole item.
func (c *canonicaliser) appendItemKey(dst []byte, e *element, n int32) []byte {
	for _, leaf := range e.itemKey {
		if m := c.findBelow(n, e, leaf); m != 0 && c.nodes[m].kind != nullToken {
			s, _ := leaf.normalise(scalar{c.nodes[m].kind, c.nodes[m].text}, &c.buf)
			if s.kind >= objectToken && s.kind != columnToken {
				dst = c.untyped(dst, m)
			} else {
				dst = leaf.appendCanonical(dst, s, c.rules)
			}
		}
		dst = append(dst, ',')
	}
	return dst
}

// findBelow returns the node of an element below an item of collection.
func (c *document) findBelow(n int32, collection, e *element) int32 {
	if e == collection {
		return n
	}
	up := c.findBelow(n, collection, e.parent)
	if up == 0 {
		return 0
	}
	return c.child(up, e.Name)
}
