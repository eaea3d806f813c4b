package main

import (
	"slices"
	"strings"

	"github.com/edfisync/edfisync/schema"
)

// standard40 makes the model of data standard 4.0 from its OpenAPI documents, extensions left out, and from 5.2 what they do not tell.
func (in *sources) standard40(newer *schema.Model) (*schema.Model, error) {
	var resources []*schema.Resource
	renamed := make(map[string]string) // acronyms, which API documents write as words
	for _, r := range in.openAPI40.Resources {
		if !strings.HasPrefix(r.Path, "ed-fi/") {
			continue
		}
		withoutExtensions(r.Root)
		if later, ok := newer.Resource(r.Path); ok {
			r.Unify = laterGroups(r, later)
			if r.Name != later.Name && strings.EqualFold(r.Name, later.Name) {
				renamed[r.Name] = later.Name
				r.Name = later.Name
			}
			setDecimals(r.Root, later.Root)
		}
		resources = append(resources, r)
	}
	for _, r := range resources {
		rename(r.Root, renamed)
	}
	return schema.NewModel("ds-4.0", "4.0.0", resources)
}

func rename(fields *schema.Fields, renamed map[string]string) {
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

// setDecimals takes precision and scale from the later standard where it has the same decimal.
func setDecimals(fields, later *schema.Fields) {
	for _, p := range fields.Properties {
		other := find(later, p.Name)
		if other == nil || other.Kind != p.Kind {
			continue
		}
		if p.Kind == schema.Decimal {
			p.Precision, p.Scale = other.Precision, other.Scale
		}
		if p.Fields != nil {
			setDecimals(p.Fields, other.Fields)
		}
	}
}

func withoutExtensions(fields *schema.Fields) {
	fields.Properties = slices.DeleteFunc(fields.Properties, func(p *schema.Property) bool { return p.Name == "_ext" })
	for _, p := range fields.Properties {
		if p.Fields != nil {
			withoutExtensions(p.Fields)
		}
	}
}

// laterGroups returns r's groups of equal-valued paths: its own, and those of the later standard as far as it has their paths.
func laterGroups(r, later *schema.Resource) [][]string {
	var pairs [][]string
	for _, g := range slices.Concat(r.Unify, later.Unify) {
		var known []string
		for _, path := range g {
			if _, ok := r.Property(path); ok {
				known = append(known, path)
			}
		}
		for i := 1; i < len(known); i++ {
			pairs = append(pairs, []string{known[0], known[i]})
		}
	}
	var identity []string
	for _, part := range r.Key {
		for _, path := range part.Paths {
			identity = append(identity, "$."+path)
		}
	}
	return groups(pairs, identity)
}
