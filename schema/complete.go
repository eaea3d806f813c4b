package schema

import (
	"fmt"
	"slices"
	"strings"
)

// Complete returns a copy of a model read from OpenAPI documents with what such documents cannot tell, taken from a data standard's model
// where that has the same resource and property: digits of decimals, which references hold the natural key, values that must be equal
// beyond it (key unification), the keys of collection items, and how the standard writes acronyms in entity names. A natural key with
// parts of other names, of another version of the standard, stays as it was read, and so do extensions.
func Complete(m, standard *Model) (*Model, error) {
	data, err := m.Catalog()
	if err != nil {
		return nil, err
	}
	c, err := ParseCatalog(data)
	if err != nil {
		return nil, fmt.Errorf("complete %s: %w", m.Name, err)
	}
	renamed := make(map[string]string)
	for _, r := range c.Resources {
		same, ok := standard.Resource(r.Path)
		if !ok {
			continue
		}
		if r.Name != same.Name && strings.EqualFold(r.Name, same.Name) {
			renamed[r.Name] = same.Name
			r.Name = same.Name
		}
		completeKey(r, same)
		r.Unify = joinGroups(r, same)
		completeFields(r.Root, same.Root)
	}
	for _, r := range c.Resources {
		rename(r.Root, renamed)
	}
	return c, nil
}

// completeKey takes the paths of r's key parts from the standard. A document without parameters for what is not in the key shows a
// required reference with like-named leaves as identifying when it is not (chartOfAccountReference of localAccounts).
func completeKey(r, standard *Resource) {
	sameName := func(a, b KeyPart) bool { return a.Name == b.Name }
	samePaths := func(a, b KeyPart) bool { return slices.Equal(a.Paths, b.Paths) }
	if !slices.EqualFunc(r.Key, standard.Key, sameName) || slices.EqualFunc(r.Key, standard.Key, samePaths) {
		return
	}
	for _, part := range standard.Key {
		if !r.Root.hasAll(part.Paths) {
			return
		}
	}
	for _, part := range r.Key {
		r.Unify = slices.DeleteFunc(r.Unify, func(g []string) bool { return slices.Equal(g, part.Paths) })
	}
	for _, p := range r.Root.Properties {
		p.Identity = false
	}
	for i, part := range standard.Key {
		r.Key[i].Paths = slices.Clone(part.Paths)
		for _, path := range part.Paths {
			top, _, _ := strings.Cut(path, ".")
			r.Root.byName[top].Identity = true
		}
		if len(part.Paths) > 1 {
			r.Unify = append(r.Unify, slices.Clone(part.Paths))
		}
	}
}

func completeFields(fields, standard *Fields) {
	for _, p := range fields.Properties {
		same, ok := standard.byName[p.Name]
		if !ok || same.Kind != p.Kind {
			continue
		}
		if p.Kind == Decimal && p.Precision == 0 {
			p.Precision, p.Scale = same.Precision, same.Scale
		}
		if p.Kind == Collection && p.Fields.hasAll(same.ItemKey) {
			p.ItemKey = slices.Clone(same.ItemKey)
		}
		if p.Fields != nil {
			completeFields(p.Fields, same.Fields)
		}
	}
}

func (f *Fields) hasAll(paths []string) bool {
	for _, path := range paths {
		if _, ok := f.Property(path); !ok {
			return false
		}
	}
	return len(paths) > 0
}

func rename(fields *Fields, renamed map[string]string) {
	if name, ok := renamed[fields.Name]; ok {
		fields.Name = name
	}
	for _, p := range fields.Properties {
		if name, ok := renamed[p.Target]; ok {
			p.Target = name
		}
		if p.Fields != nil {
			rename(p.Fields, renamed)
		}
	}
}

// joinGroups returns r's groups of equal-valued paths together with those of the standard, as far as r has their paths. Two different
// parts of r's key are never joined.
func joinGroups(r, standard *Resource) [][]string {
	groups := slices.Clone(r.Unify)
	for _, g := range standard.Unify {
		known := slices.DeleteFunc(slices.Clone(g), func(path string) bool {
			_, ok := r.Property(path)
			return !ok
		})
		merged := mergeGroup(groups, known)
		if len(known) > 1 && keyPartsIn(r, merged[len(merged)-1]) <= 1 {
			groups = merged
		}
	}
	for _, g := range groups {
		slices.Sort(g)
		slices.SortStableFunc(g, func(a, b string) int { return keyPartsIn(r, []string{b}) - keyPartsIn(r, []string{a}) })
	}
	slices.SortFunc(groups, slices.Compare)
	return groups
}

// mergeGroup returns groups with one more, last, which has taken in those it overlaps.
func mergeGroup(groups [][]string, more []string) [][]string {
	merged := slices.Clone(more)
	var apart [][]string
	for _, g := range groups {
		if slices.ContainsFunc(g, func(path string) bool { return slices.Contains(more, path) }) {
			merged = append(merged, g...)
		} else {
			apart = append(apart, g)
		}
	}
	slices.Sort(merged)
	return append(apart, slices.Compact(merged))
}

// keyPartsIn counts the parts of r's key that have a path among paths.
func keyPartsIn(r *Resource, paths []string) int {
	n := 0
	for _, part := range r.Key {
		if slices.ContainsFunc(part.Paths, func(path string) bool { return slices.Contains(paths, path) }) {
			n++
		}
	}
	return n
}
