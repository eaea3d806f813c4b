package sandbox

import (
	"fmt"
	"slices"
	"strings"

	"github.com/edfisync/edfisync/schema"
)

// catalog is a schema.Model compiled for the sandbox: one table per resource, one space per set of resources that share their natural
// keys, and shapes that the payload reader, the validator and the record codec walk. It is read-only once built.
type catalog struct {
	model  *schema.Model
	tables []*table          // in the order of model.Resources; table.number is the index
	byPath map[string]*table // "ed-fi/students", and in lower case
	byName map[string]*table // entity name
	spaces map[string]*space // entity name, abstract ones included
}

// shape is the member list of a payload, an inline object, a reference or a collection's item.
type shape struct {
	name  string
	props []prop            // sorted by name; the index is the property's ordinal
	exact map[string]uint16 // name → ordinal
	fold  map[string]uint16 // the same in lower case: the ODS takes property names without regard to case
	item  [][]uint16        // item key of a collection as ordinal paths; empty: the whole item
}

// prop is one member of a shape.
type prop struct {
	*schema.Property
	title  string // as ODS texts name it: "TermDescriptor"
	quoted string // `"termDescriptor":`
	shape  *shape // of Object, Reference, Collection
	desc   *table // of a Descriptor: where its values live; nil when the model does not have it
	ref    *refTarget
}

// refTarget is what a reference points at.
type refTarget struct {
	entity  string
	space   *space
	ordinal int      // of the one table meant, −1 for an abstract entity: any table of the space
	leaves  []uint16 // ordinal of the leaf that carries the i-th part of the target's key
	part    []int    // leaf ordinal → part of the target's key, −1 for none
}

// space is a set of resources whose natural keys must differ from one another: a resource by itself, or all concrete kinds of an abstract
// entity (a school and an agency may not have the same educationOrganizationId).
type space struct {
	name   string
	tables []*table // by ordinal

	records
}

// path leads from a shape's root to a scalar. steps are ordinals; part ≥ 0 says that the last step is a reference and the value is that
// part of the target's key.
type path struct {
	dotted string
	steps  []uint16
	part   int
	last   *prop // the scalar (the leaf, for a reference)
}

// keyPart is one value of a table's natural key.
type keyPart struct {
	name string
	kind schema.Kind
	path path
}

// unifyGroup is a set of places that must hold the same value.
type unifyGroup struct {
	name  string // "schoolId"
	paths []path
}

func compile(m *schema.Model) (*catalog, error) {
	c := &catalog{model: m, byPath: map[string]*table{}, byName: map[string]*table{}, spaces: map[string]*space{}}
	for i, r := range m.Resources {
		t := &table{res: r, number: uint16(i), path: r.Path}
		c.tables = append(c.tables, t)
		c.byPath[r.Path], c.byPath[strings.ToLower(r.Path)] = t, t
		c.byName[r.Name] = t
		name := r.Name
		if r.Extends != "" {
			name = r.Extends
		}
		s := c.spaces[name]
		if s == nil {
			s = &space{name: name}
			c.spaces[name] = s
		}
		t.space, t.ordinal = s, uint8(len(s.tables))
		s.tables = append(s.tables, t)
		if len(s.tables) > maxKinds {
			return nil, fmt.Errorf("compile model: more than %d kinds of %s", maxKinds, name)
		}
	}
	for _, t := range c.tables {
		var err error
		if t.shape, err = c.shape(t.res.Root); err != nil {
			return nil, fmt.Errorf("compile %s: %w", t.path, err)
		}
	}
	for _, t := range c.tables {
		if err := c.paths(t); err != nil {
			return nil, fmt.Errorf("compile %s: %w", t.path, err)
		}
	}
	for _, t := range c.tables {
		c.referrers(t, t.shape)
	}
	c.subjects()
	return c, nil
}

func (c *catalog) shape(f *schema.Fields) (*shape, error) {
	s := &shape{name: f.Name, exact: map[string]uint16{}, fold: map[string]uint16{}}
	for i, p := range f.Properties {
		q := prop{Property: p, title: upperFirst(p.Name), quoted: `"` + p.Name + `":`}
		s.exact[p.Name], s.fold[strings.ToLower(p.Name)] = uint16(i), uint16(i)
		var err error
		switch p.Kind {
		case schema.Object, schema.Collection, schema.Reference:
			if q.shape, err = c.shape(p.Fields); err != nil {
				return nil, fmt.Errorf("%s: %w", p.Name, err)
			}
		case schema.Descriptor:
			q.desc = c.byName[p.Target]
		}
		if p.Kind == schema.Reference {
			if q.ref, err = c.target(p, q.shape); err != nil {
				return nil, fmt.Errorf("%s: %w", p.Name, err)
			}
		}
		s.props = append(s.props, q)
	}
	for i := range s.props {
		if p := &s.props[i]; p.Kind == schema.Collection {
			for _, dotted := range p.ItemKey {
				steps, _, err := p.shape.steps(dotted)
				if err != nil {
					return nil, fmt.Errorf("item key of %s: %w", p.Name, err)
				}
				p.shape.item = append(p.shape.item, steps)
			}
		}
	}
	return s, nil
}

func (c *catalog) target(p *schema.Property, leaves *shape) (*refTarget, error) {
	r := &refTarget{entity: p.Target, ordinal: -1}
	var key []schema.KeyPart
	if t := c.byName[p.Target]; t != nil {
		r.space, r.ordinal, key = t.space, int(t.ordinal), t.res.Key
	} else if r.space = c.spaces[p.Target]; r.space != nil {
		key = r.space.tables[0].res.Key
	} else {
		return nil, fmt.Errorf("there is no entity %s", p.Target)
	}
	parts := slices.SortedFunc(slices.Values(p.Parts), func(a, b schema.RefPart) int { return strings.Compare(a.Part, b.Part) })
	if len(parts) != len(key) {
		return nil, fmt.Errorf("the key of %s has %d parts, the reference %d", p.Target, len(key), len(parts))
	}
	r.part = make([]int, len(leaves.props))
	for i := range r.part {
		r.part[i] = -1
	}
	for i, part := range parts {
		if len(key) > 1 && part.Part != key[i].Name {
			return nil, fmt.Errorf("%s is no part of the key of %s", part.Part, p.Target)
		}
		leaf, ok := leaves.exact[part.Leaf]
		if !ok {
			return nil, fmt.Errorf("there is no leaf %s", part.Leaf)
		}
		r.leaves = append(r.leaves, leaf)
		r.part[leaf] = i
	}
	return r, nil
}

// steps finds a dotted path. It goes through collections too (all items are meant then).
func (s *shape) steps(dotted string) ([]uint16, *prop, error) {
	var steps []uint16
	var last *prop
	at := s
	for name := range strings.SplitSeq(dotted, ".") {
		if at == nil {
			return nil, nil, fmt.Errorf("path %s goes through a scalar", dotted)
		}
		i, ok := at.exact[name]
		if !ok {
			return nil, nil, fmt.Errorf("there is no path %s", dotted)
		}
		steps = append(steps, i)
		last = &at.props[i]
		at = last.shape
	}
	return steps, last, nil
}

func (s *shape) path(dotted string) (path, error) {
	steps, last, err := s.steps(dotted)
	p := path{dotted: dotted, steps: steps, part: -1, last: last}
	if err != nil {
		return p, err
	}
	at := s
	for i, step := range steps {
		q := &at.props[step]
		if q.Kind == schema.Reference && i == len(steps)-2 {
			p.part = q.ref.part[steps[i+1]]
		}
		at = q.shape
	}
	return p, nil
}

// paths resolves a table's key, unification groups and query parameters.
func (c *catalog) paths(t *table) error {
	t.params = map[string]path{}
	for _, k := range t.res.Key {
		if len(k.Paths) == 0 {
			return fmt.Errorf("key part %s has no path", k.Name)
		}
		p, err := t.shape.path(k.Paths[0])
		if err != nil {
			return fmt.Errorf("key: %w", err)
		}
		t.key = append(t.key, keyPart{name: k.Name, kind: p.last.Kind, path: p})
		t.params[strings.ToLower(k.Name)] = p
	}
	for _, group := range t.res.Unify {
		g := unifyGroup{name: group[0][strings.LastIndexByte(group[0], '.')+1:]}
		for _, dotted := range group {
			p, err := t.shape.path(dotted)
			if err != nil {
				return fmt.Errorf("key unification: %w", err)
			}
			g.paths = append(g.paths, p)
		}
		t.unify = append(t.unify, g)
	}
	t.queryParams("", t.shape)
	return nil
}

// queryParams adds the parameters of a GET: the scalars of the root and the leaves of its references, these with the reference's role
// before their name ("classOfSchoolYear" of classOfSchoolYearTypeReference).
func (t *table) queryParams(prefix string, s *shape) {
	for i := range s.props {
		p := &s.props[i]
		switch p.Kind {
		case schema.Collection, schema.Object:
		case schema.Reference:
			role := strings.TrimSuffix(p.title, "Reference")
			role = lowerFirst(strings.TrimSuffix(role, p.Target))
			for _, leaf := range p.shape.props {
				t.addParam(roleName(role, leaf.Name), prefix+p.Name+"."+leaf.Name)
			}
		default:
			t.addParam(p.Name, prefix+p.Name)
		}
	}
}

func (t *table) addParam(name, dotted string) {
	if _, taken := t.params[strings.ToLower(name)]; taken {
		return // a key part or an equal-valued leaf of another reference
	}
	if p, err := t.shape.path(dotted); err == nil {
		t.params[strings.ToLower(name)] = p
		t.paramNames = append(t.paramNames, name)
	}
}

func roleName(role, leaf string) string {
	if role == "" {
		return leaf
	}
	if strings.HasPrefix(leaf, role) {
		return leaf
	}
	return role + upperFirst(leaf)
}

// referrers notes on every space which tables refer to it, and on t whether its key holds parts of references.
func (c *catalog) referrers(t *table, s *shape) {
	for i := range s.props {
		p := &s.props[i]
		switch {
		case p.Kind == schema.Reference:
			p.ref.space.addReferrer(t)
		case p.desc != nil:
			p.desc.space.addReferrer(t)
		case p.shape != nil:
			c.referrers(t, p.shape)
		}
	}
}

func (s *space) addReferrer(t *table) {
	for _, have := range s.referrers {
		if have == t {
			return
		}
	}
	s.referrers = append(s.referrers, t)
}

func upperFirst(s string) string {
	if s == "" || s[0] < 'a' || s[0] > 'z' {
		return s
	}
	return string(s[0]-32) + s[1:]
}

func lowerFirst(s string) string {
	if s == "" || s[0] < 'A' || s[0] > 'Z' {
		return s
	}
	return string(s[0]+32) + s[1:]
}
