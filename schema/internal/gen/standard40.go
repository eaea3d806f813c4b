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
		if strings.HasPrefix(r.Path, "ed-fi/") {
			withoutExtensions(r.Root)
			resources = append(resources, r)
		}
	}
	m, err := schema.NewModel("ds-4.0", "4.0.0", resources)
	if err != nil {
		return nil, err
	}
	return schema.Complete(m, newer)
}

func withoutExtensions(fields *schema.Fields) {
	fields.Properties = slices.DeleteFunc(fields.Properties, func(p *schema.Property) bool { return p.Name == "_ext" })
	for _, p := range fields.Properties {
		if p.Fields != nil {
			withoutExtensions(p.Fields)
		}
	}
}
