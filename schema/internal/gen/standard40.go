package main

import (
	"slices"
	"strings"

	"github.com/edfisync/edfisync/schema"
)

// standard40 makes the model of data standard 4.0 from its OpenAPI documents, extensions left out, and from 5.2 what they do not tell.
func (in *sources) standard40(newer *schema.Model) (*schema.Model, error) {
	var resources []*schema.Resource
	for _, r := range in.openAPI40.Resources {
		if !strings.HasPrefix(r.Path, "ed-fi/") {
			continue
		}
		withoutExtensions(r.Root)
		if later, ok := newer.Resource(r.Path); ok {
			r.Unify = laterGroups(r, later)
		}
		resources = append(resources, r)
	}
	return schema.NewModel("ds-4.0", "4.0.0", resources)
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
