package schema

import (
	"bytes"
	"slices"
	"strings"
)

// RefKey is a reference of a payload: which record it needs.
type RefKey struct {
	Path   string // dotted, "sections.sectionReference"
	Target string // entity referred to, maybe abstract
	Key    []byte // canonical key of the target, as its CanonicalKey gives it
}

// References returns the references of a payload, those in collections too, each once, sorted by path and key. Absent, incomplete and
// unreadable ones are left out: Validate reports those. So are references to entities the model does not have. A value that a
// collection's item takes from its parent is filled in.
func (r *Resource) References(m *Model, payload []byte, rules Rules) ([]RefKey, error) {
	c, err := r.canonicalise(payload, rules)
	if err != nil {
		return nil, err
	}
	defer c.release()
	w := refWalker{canonicaliser: c, model: m}
	w.object(r.planned().root, c.top)
	return tidyReferences(w.refs), nil
}

func tidyReferences(refs []RefKey) []RefKey {
	slices.SortFunc(refs, func(a, b RefKey) int {
		if c := strings.Compare(a.Path, b.Path); c != 0 {
			return c
		}
		return bytes.Compare(a.Key, b.Key)
	})
	return slices.CompactFunc(refs, func(a, b RefKey) bool { return a.Path == b.Path && bytes.Equal(a.Key, b.Key) })
}

type refWalker struct {
	*canonicaliser
	model *Model
	refs  []RefKey
}

func (w *refWalker) object(e *element, n int32) {
	for _, kid := range e.kids {
		if kid.isLeaf() {
			continue
		}
		m := w.child(n, kid.Name)
		if m == 0 {
			continue
		}
		switch {
		case kid.Kind == Collection && w.nodes[m].kind == arrayToken:
			for it := w.nodes[m].first; it != 0; it = w.nodes[it].next {
				if w.nodes[it].kind == objectToken {
					w.object(kid, it)
				}
			}
		case kid.Kind == Object && w.nodes[m].kind == objectToken:
			w.object(kid, m)
		case kid.Kind == Reference && w.nodes[m].kind == objectToken:
			w.reference(kid, m)
		}
	}
}

func (w *refWalker) reference(e *element, n int32) {
	begin := len(w.out)
	key, ok := appendTargetKey(w.out, w.model, e, func(dst []byte, leaf *element) ([]byte, bool) { return w.leaf(dst, leaf, n) })
	if !ok {
		return
	}
	w.out = key
	w.refs = append(w.refs, RefKey{Path: e.path, Target: e.Target, Key: key[begin:len(key):len(key)]})
}

// leaf appends the canonical value of a reference's leaf, its own or the one it inherits.
func (w *refWalker) leaf(dst []byte, leaf *element, n int32) ([]byte, bool) {
	m := w.child(n, leaf.Name)
	for _, from := range leaf.inherits {
		if m != 0 && w.nodes[m].kind != nullToken {
			break
		}
		m = w.find(w.top, from)
	}
	if m == 0 {
		return dst, false
	}
	s, ok := leaf.normalise(scalar{w.nodes[m].kind, w.nodes[m].text}, &w.buf)
	if !ok || len(s.text) == 0 {
		return dst, false
	}
	return leaf.appendCanonical(dst, s, w.rules), true
}

// appendTargetKey appends the key of a reference's target: its parts in the order of the target's key, each by the value of the leaf
// that carries it.
func appendTargetKey(dst []byte, m *Model, e *element, value func([]byte, *element) ([]byte, bool)) ([]byte, bool) {
	dst = append(dst, '[')
	for _, leaf := range m.keyLeaves(e) {
		var ok bool
		if dst, ok = value(dst, leaf); !ok {
			return dst, false
		}
		dst = append(dst, ',')
	}
	if dst[len(dst)-1] != ',' {
		return dst, false
	}
	dst[len(dst)-1] = ']'
	return dst, true
}

// keyLeaves returns the leaves of a reference in the order of its target's key; none when the model lacks the target or does not say
// which leaf carries which part. The kinds of an abstract entity share one key, or one-part keys under different names; in both cases
// the order is that of the parts' names.
func (m *Model) keyLeaves(e *element) []*element {
	var leaves []*element
	target, concrete := m.Entity(e.Target)
	if !concrete {
		if len(m.Concrete(e.Target)) == 0 {
			return nil
		}
		for _, part := range e.Parts {
			leaves = append(leaves, e.byName[part.Leaf])
		}
		return leaves
	}
	for _, part := range target.Key {
		i := slices.IndexFunc(e.Parts, func(p RefPart) bool { return p.Part == part.Name })
		if i < 0 || e.byName[e.Parts[i].Leaf] == nil {
			return nil
		}
		leaves = append(leaves, e.byName[e.Parts[i].Leaf])
	}
	return leaves
}
