package schema

import (
	"slices"
	"strings"
	"sync"
)

// Rules say how a connection compares what it sends with what it sent before. Hashes made under different rules are not comparable, so
// the version is stored beside them.
type Rules struct {
	Version  int  // of the canonical form; 1 is the only one
	FoldKeys bool // the target compares key strings without case and trailing spaces (SQL Server's default collations)
}

// CanonicalVersion is the newest version of the canonical form, for Rules.Version.
const CanonicalVersion = 1

// plan is what the walkers over payloads need to know of a resource beyond its property list: what follows from the place of each property.
type plan struct {
	root   *element
	byPath map[string]*element
	keys   [][]*element // of each part of Resource.Key, its elements; missing paths left out
	groups [][]*element // key unification: elements whose values must be equal

	idle           sync.Pool // of *canonicaliser
	idleValidators sync.Pool // of *validator
}

// element is one property in its place in a payload.
type element struct {
	*Property
	owner    string // Fields.Name of the object it is in
	path     string // dotted path from the payload
	parent   *element
	prefix   []byte // `"name":`, as both forms of JSON begin a member
	kids     []*element
	byName   map[string]*element
	itemKey  []*element // Collection: key of an item without what it inherits; empty = the whole item
	group    int        // index of its unification group + 1, 0 = none
	inherits []*element // in a collection's item: the elements outside of collections that it must equal, and is taken from when absent
	stripped bool       // left out of the body: it is, or must equal, a part of the resource's own key
	foldable bool       // a string of this or another resource's key, compared as the target compares keys
	trimmed  bool       // a string that must not begin or end with white space
	form     form
}

// form is a rule on the text of a string beyond its length.
type form uint8

const (
	namespaceForm form = iota + 1 // of a descriptor resource: uri://org/Name
	codeValueForm                 // of a descriptor resource: without "#"
)

func (e *element) isLeaf() bool { return e.Kind < Object }

// planned returns the plan, made at first use. Two goroutines may make it at once; either result will do.
func (r *Resource) planned() *plan {
	if p := r.plan.Load(); p != nil {
		return p
	}
	p := newPlan(r)
	r.plan.Store(p)
	return p
}

func newPlan(r *Resource) *plan {
	p := &plan{byPath: make(map[string]*element)}
	p.root = &element{Property: &Property{Kind: Object, Required: true, Fields: r.Root}}
	if r.Root != nil {
		p.root.owner = r.Root.Name
	}
	p.grow(p.root, "")
	p.keys = make([][]*element, len(r.Key))
	for i, part := range r.Key {
		for _, path := range part.Paths {
			if e := p.byPath[path]; e != nil {
				p.keys[i] = append(p.keys[i], e)
				e.stripped = true
				e.foldable = e.Kind == String
			}
		}
	}
	p.unify(r.Unify)
	p.nameItemKeys(p.root)
	if r.Descriptor {
		p.root.shape("namespace", namespaceForm)
		p.root.shape("codeValue", codeValueForm)
	}
	return p
}

func (e *element) shape(name string, f form) {
	if kid := e.byName[name]; kid != nil && kid.Kind == String {
		kid.form = f
	}
}

func (p *plan) grow(e *element, prefix string) {
	if e.Fields == nil {
		return
	}
	e.byName = make(map[string]*element, len(e.Fields.Properties))
	for _, property := range e.Fields.Properties {
		kid := &element{
			Property: property,
			owner:    e.Fields.Name,
			path:     prefix + property.Name,
			parent:   e,
			foldable: e.Kind == Reference && property.Kind == String,
			trimmed:  property.Kind == String && (property.Identity || e.Kind == Reference),
		}
		kid.prefix = append(appendQuoted(nil, []byte(property.Name)), ':')
		e.kids = append(e.kids, kid)
		e.byName[property.Name] = kid
		p.byPath[kid.path] = kid
		p.grow(kid, kid.path+".")
	}
	// Members are written in this order, which the canonical form prescribes, whatever the order of the model.
	slices.SortFunc(e.kids, func(a, b *element) int { return strings.Compare(a.Name, b.Name) })
}

// unify joins overlapping groups, and marks what follows from them.
func (p *plan) unify(groups [][]string) {
	for _, paths := range groups {
		var members []*element
		for _, path := range paths {
			if e := p.byPath[path]; e != nil && e.isLeaf() {
				members = append(members, e)
			}
		}
		if len(members) > 1 {
			p.join(members)
		}
	}
	p.groups = slices.DeleteFunc(p.groups, func(g []*element) bool { return len(g) == 0 })
	for i, group := range p.groups {
		var outside []*element
		for _, e := range group {
			if e.collection() == nil {
				outside = append(outside, e)
			}
		}
		stripped := slices.ContainsFunc(group, func(e *element) bool { return e.stripped })
		for _, e := range group {
			e.group = i + 1
			e.stripped = stripped
			if e.collection() != nil {
				e.inherits = outside
			}
		}
	}
}

func (p *plan) join(members []*element) {
	for i, group := range p.groups {
		if slices.ContainsFunc(members, func(e *element) bool { return slices.Contains(group, e) }) {
			members = append(members, group...)
			p.groups[i] = nil
		}
	}
	slices.SortFunc(members, func(a, b *element) int { return strings.Compare(a.path, b.path) })
	p.groups = append(p.groups, slices.Compact(members))
}

func (p *plan) nameItemKeys(e *element) {
	for _, kid := range e.kids {
		p.nameItemKeys(kid)
	}
	if e.Kind != Collection {
		return
	}
	for _, path := range e.ItemKey {
		if leaf := p.byPath[e.path+"."+path]; leaf != nil && len(leaf.inherits) == 0 {
			e.itemKey = append(e.itemKey, leaf)
		}
	}
}

// collection returns the innermost collection an element is in.
func (e *element) collection() *element {
	for up := e.parent; up != nil; up = up.parent {
		if up.Kind == Collection {
			return up
		}
	}
	return nil
}
