package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/edfisync/edfisync/schema"
)

// descriptorLength is the length of a descriptor URI: namespace (255), "#", code value (50).
const descriptorLength = 306

// tree grows a payload from dotted paths.
type tree struct {
	root *schema.Fields
}

func newTree(name string) *tree {
	return &tree{root: &schema.Fields{Name: name}}
}

// at returns the property at a path; it is made, with its holders, when it is new.
func (t *tree) at(path string) (*schema.Property, error) {
	fields := t.root
	for {
		name, rest, deeper := strings.Cut(path, ".")
		if name == "" {
			return nil, fmt.Errorf("path %q has an empty segment", path)
		}
		p := find(fields, name)
		if p == nil {
			p = &schema.Property{Name: name}
			fields.Properties = append(fields.Properties, p)
		}
		if !deeper {
			return p, nil
		}
		if p.Fields == nil {
			p.Fields = &schema.Fields{Name: fields.Name + strings.ToUpper(name[:1]) + name[1:]}
		}
		fields, path = p.Fields, rest
	}
}

// finish completes what follows from the shape: holders without a kind are inline objects, every leaf of a reference is required, and
// what is in a collection's item key is its identity.
func (t *tree) finish(fields *schema.Fields) {
	slices.SortFunc(fields.Properties, func(a, b *schema.Property) int { return strings.Compare(a.Name, b.Name) })
	for _, p := range fields.Properties {
		if p.Fields == nil {
			continue
		}
		if p.Kind == 0 {
			p.Kind = schema.Object
		}
		t.finish(p.Fields)
		if p.Kind == schema.Reference {
			p.Fields.Name = p.Target + "Reference"
			for _, leaf := range p.Fields.Properties {
				leaf.Required, leaf.Identity = true, true
			}
		}
		for _, path := range p.ItemKey {
			name, _, _ := strings.Cut(path, ".")
			if key := find(p.Fields, name); key != nil {
				key.Identity = true
			}
		}
	}
}

func find(fields *schema.Fields, name string) *schema.Property {
	if fields == nil {
		return nil
	}
	i := slices.IndexFunc(fields.Properties, func(p *schema.Property) bool { return p.Name == name })
	if i < 0 {
		return nil
	}
	return fields.Properties[i]
}

// groups joins pairs of equal-valued paths to groups, in each the paths of the key first.
func groups(pairs [][]string, identity []string) [][]string {
	var joined [][]string
	for _, pair := range pairs {
		merged := slices.Clone(pair)
		joined = slices.DeleteFunc(joined, func(g []string) bool {
			if !slices.Contains(g, pair[0]) && !slices.Contains(g, pair[1]) {
				return false
			}
			merged = append(merged, g...)
			return true
		})
		slices.Sort(merged)
		joined = append(joined, slices.Compact(merged))
	}
	keyFirst := func(path string) int {
		if slices.Contains(identity, "$."+path) {
			return 0
		}
		return 1
	}
	for _, g := range joined {
		slices.SortStableFunc(g, func(a, b string) int { return keyFirst(a) - keyFirst(b) })
	}
	slices.SortFunc(joined, slices.Compare)
	return joined
}

func sameGroup(groups [][]string, a, b string) bool {
	return slices.ContainsFunc(groups, func(g []string) bool { return slices.Contains(g, a) && slices.Contains(g, b) })
}

// describe gives a descriptor resource its payload, the same for all.
func describe(r, older *schema.Resource) {
	r.Descriptor = true
	r.Key = []schema.KeyPart{
		{Name: "codeValue", Paths: []string{"codeValue"}, Kind: schema.String},
		{Name: "namespace", Paths: []string{"namespace"}, Kind: schema.String},
	}
	r.Root = &schema.Fields{Name: r.Name, Properties: []*schema.Property{
		{Name: "codeValue", Kind: schema.String, Required: true, Identity: true, MaxLength: 50},
		{Name: "description", Kind: schema.String, MaxLength: 1024},
		{Name: "effectiveBeginDate", Kind: schema.Date},
		{Name: "effectiveEndDate", Kind: schema.Date},
		{Name: "namespace", Kind: schema.String, Required: true, Identity: true, MaxLength: 255},
		{Name: "shortDescription", Kind: schema.String, Required: true, MaxLength: 75},
	}}
	if older != nil {
		enrich(r.Root, older.Root)
	}
}

// enrich takes over from another description of the same object what the manifest does not tell: least lengths, ranges, required
// collections, what an inline object requires once it is there, deprecation and docs.
func enrich(fields, from *schema.Fields) {
	for _, p := range fields.Properties {
		other := find(from, p.Name)
		if other == nil {
			continue
		}
		p.Doc, p.Deprecated = other.Doc, other.Deprecated
		if p.Kind == other.Kind {
			p.MinLength, p.HasRange, p.Min, p.Max = other.MinLength, other.HasRange, other.Min, other.Max
		}
		if p.Kind == schema.Collection {
			p.MinItems, p.Required = other.MinItems, other.Required
		}
		if p.Kind == schema.Object && other.Kind == schema.Object {
			p.Required = other.Required
			for _, inner := range p.Fields.Properties {
				if o := find(other.Fields, inner.Name); o != nil {
					inner.Required = o.Required
				}
			}
		}
		if p.Identity && other.Identity {
			p.Required = true // a key has no gaps; the manifest leaves two of identificationDocuments open
		}
		if p.Fields != nil && other.Fields != nil {
			enrich(p.Fields, other.Fields)
		}
	}
}
