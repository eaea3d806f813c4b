package sync

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"github.com/edfisync/edfisync/schema"
)

// tie is a reference that shares some values with the natural key of the record it is in, and has others the key does not contain: a bell schedule's
// class periods are of the schedule's school. When what it refers to gets other shared values by PUT, the target gives the record another key
// too, or refuses. Which records those are no natural key tells, so such a change is a create and a delete (I1).
type tie struct {
	path   string // of the reference in the payload, dotted
	entity string
	parts  []int // of the target's key: those that are shared
}

// ties lists the ties of a resource.
func ties(r *schema.Resource) []tie {
	shared := map[string]bool{}
	for _, p := range r.Key {
		for _, path := range p.Paths {
			shared[path] = true
		}
	}
	own := lineages(r)
	for _, group := range r.Unify {
		if !slices.ContainsFunc(group, func(path string) bool { return shared[path] }) {
			continue
		}
		for _, path := range group {
			shared[path] = true
		}
	}
	var out []tie
	eachReference(r.Root, "", func(path string, p *schema.Property) {
		t := tie{path: path, entity: p.Target}
		for i, part := range p.Parts { // sorted by part: the target's key order
			if shared[path+"."+part.Leaf] {
				t.parts = append(t.parts, i)
			}
		}
		if len(t.parts) == 0 || path == p.Name && slices.ContainsFunc(own, func(l lineage) bool { return l.name == p.Name }) {
			return
		}
		out = append(out, t)
	})
	return out
}

// eachReference calls fn for every reference of a payload, at any depth, with its dotted path.
func eachReference(f *schema.Fields, above string, fn func(path string, p *schema.Property)) {
	if f == nil {
		return
	}
	for _, p := range f.Properties {
		switch p.Kind {
		case schema.Reference:
			fn(above+p.Name, p)
		case schema.Object, schema.Collection:
			eachReference(p.Fields, above+p.Name+".", fn)
		}
	}
}

// tiedParts are parts of natural keys that no PUT changes, because ties share them: by resource, indexes into Resource.Key.
type tiedParts map[string][]int

func (t tiedParts) add(r *schema.Resource, part int) bool {
	if slices.Contains(t[r.Path], part) {
		return false
	}
	t[r.Path] = append(t[r.Path], part)
	return true
}

// changed reports whether two natural keys of a resource differ in a part that no PUT changes.
func (t tiedParts) changed(r *schema.Resource, before, after []byte) bool {
	parts := t[r.Path]
	if len(parts) == 0 {
		return false
	}
	was, err := keyValues(before)
	now, err2 := keyValues(after)
	if err != nil || err2 != nil || len(was) != len(r.Key) || len(now) != len(r.Key) {
		return true
	}
	return slices.ContainsFunc(parts, func(i int) bool { return !bytes.Equal(was[i], now[i]) })
}

// tied finds the parts of natural keys that no PUT changes. The connection's records may have the references with reports; of resources no longer
// synced they may have any. A part that is shared is so wherever the target would change it from.
func tied(m *schema.Model, all []*schema.Resource, has func(r *schema.Resource, path string) bool) tiedParts {
	out := tiedParts{}
	for _, r := range all {
		for _, t := range ties(r) {
			if !has(r, t.path) {
				continue
			}
			for _, c := range m.Concrete(t.entity) {
				for _, part := range t.parts {
					out.add(c, part)
				}
			}
		}
	}
	for more := len(out) > 0; more; {
		more = false
		for path := range out {
			r, ok := m.Resource(path)
			if !ok {
				continue
			}
			for _, l := range lineages(r) {
				for i, part := range l.parts {
					if !slices.Contains(out[path], part) {
						continue
					}
					for _, c := range m.Concrete(l.entity) {
						more = out.add(c, i) || more
					}
				}
			}
		}
	}
	return out
}

// tied finds what no PUT changes in this run.
func (s *scanner) tied(ctx context.Context, found []*scanned) (tiedParts, error) {
	if !slices.ContainsFunc(found, (*scanned).renames) {
		return nil, nil
	}
	in := map[string]*scanned{}
	var all []*schema.Resource
	for _, r := range found {
		in[r.Path] = r
		all = append(all, r.Resource)
	}
	paths, err := s.e.Ledger.Resources(ctx, s.e.Connection.ID)
	if err != nil {
		return nil, fmt.Errorf("list the ledger's resources: %w", err)
	}
	for _, path := range paths {
		if r, ok := s.e.Model.Resource(path); ok && in[r.Path] == nil {
			all = append(all, r)
		}
	}
	return tied(s.e.Model, all, func(r *schema.Resource, path string) bool {
		of := in[r.Path]
		if of == nil {
			return true
		}
		for _, q := range of.Queries {
			if q.Template.Sends(path) {
				return true
			}
		}
		return false
	}), nil
}
