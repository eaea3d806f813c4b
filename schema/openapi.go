package schema

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Bounds of an OpenAPI document. The documents of data standard 5 have 6,000 properties when every $ref is followed each time, and nest
// five deep; a document made to double at every step must not make its reader run for ever.
const (
	maxOpenAPIDepth      = 16
	maxOpenAPIProperties = 100_000
)

// ReadOpenAPI reads a model from the OpenAPI 3 or Swagger 2 documents of an Ed-Fi API: its resources and its descriptors, extensions
// included. Either may be nil. Natural keys are deduced: x-Ed-Fi-isIdentity marks own scalars, and a required reference is identifying
// when all its leaves are among the GET parameters so marked. Errors name document, schema and property, and all that were found are
// reported.
//
// OpenAPI does not tell decimal places, which references share values beyond the natural key, or the standard's version.
func ReadOpenAPI(resources, descriptors []byte) (*Model, error) {
	var all []*Resource
	var problems []error
	name := ""
	for _, in := range []struct {
		label string
		data  []byte
	}{{"resources", resources}, {"descriptors", descriptors}} {
		if len(in.data) == 0 {
			continue
		}
		doc, err := parseDocument(in.data)
		if err != nil {
			return nil, fmt.Errorf("read OpenAPI document of %s: %w", in.label, err)
		}
		if name == "" {
			name = doc.Info.Title
		}
		found, errs := doc.resources()
		for _, err := range errs {
			problems = append(problems, fmt.Errorf("read OpenAPI document of %s: %w", in.label, err))
		}
		all = append(all, found...)
	}
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	if len(all) == 0 {
		return nil, errors.New("read OpenAPI documents: no Ed-Fi resource is described (no path of two segments with a POST or GET)")
	}
	all = addSchoolYears(all)
	linkDescriptors(all)
	linkAbstract(all)
	m, err := NewModel(name, "", all)
	if err != nil {
		return nil, fmt.Errorf("read OpenAPI documents: %w", err)
	}
	return m, nil
}

// addSchoolYears adds the resource schoolYearTypes when it is referred to: documents leave it out, targets serve it.
func addSchoolYears(resources []*Resource) []*Resource {
	const entity = "SchoolYearType"
	var leaf *Property
	for _, r := range resources {
		if r.Name == entity {
			return resources
		}
		r.Root.walk("", func(_ string, p *Property) {
			if p.Kind == Reference && p.Target == entity && leaf == nil && len(p.Fields.Properties) == 1 {
				leaf = p.Fields.Properties[0]
			}
		})
	}
	if leaf == nil {
		return resources
	}
	return append(resources, &Resource{
		Path: standardSchema + "/schoolYearTypes",
		Name: entity,
		Key:  []KeyPart{{Name: leaf.Name, Paths: []string{leaf.Name}, Kind: leaf.Kind}},
		Root: &Fields{Name: entity, Properties: []*Property{
			{Name: "currentSchoolYear", Kind: Boolean, Required: true},
			{Name: leaf.Name, Kind: leaf.Kind, Required: true, Identity: true},
			{Name: "schoolYearDescription", Kind: String, Required: true, MaxLength: 50},
		}},
	})
}

// linkDescriptors finds the descriptor each property takes its values from: the one its name ends in ("birthCountryDescriptor" →
// CountryDescriptor), else, in a document without descriptors, the one of the property's own name.
func linkDescriptors(resources []*Resource) {
	names := make(EntityNames)
	for _, r := range resources {
		if r.Descriptor {
			names.Add(r.Name)
		}
	}
	for _, r := range resources {
		r.Root.walk("", func(_ string, p *Property) {
			if p.Kind == Descriptor && p.Target == "" {
				p.Target = names.Ending(p.Name)
				if p.Target == "" {
					p.Target = upperFirst(p.Name)
				}
			}
		})
	}
}

// linkAbstract finds the kinds of each entity that is referred to and has no resource of its own. Of EducationOrganization they are the
// resources with a one-part key and the name of an institution, of others (GeneralStudentProgramAssociation) those with the key the
// reference carries.
func linkAbstract(resources []*Resource) {
	concrete := make(map[string]bool, len(resources))
	for _, r := range resources {
		concrete[r.Name] = true
	}
	abstract := make(map[string]*Property)
	for _, r := range resources {
		r.Root.walk("", func(_ string, p *Property) {
			if p.Kind == Reference && !concrete[p.Target] && abstract[p.Target] == nil {
				abstract[p.Target] = p
			}
		})
	}
	for _, entity := range slices.Sorted(maps.Keys(abstract)) {
		ref := abstract[entity]
		for _, r := range resources {
			if isKind(r, entity, ref) {
				r.Extends = entity
			}
		}
	}
}

func isKind(r *Resource, entity string, ref *Property) bool {
	if r.Descriptor {
		return false
	}
	if entity == "EducationOrganization" {
		_, institution := rootProperty(r, "nameOfInstitution")
		return institution && len(r.Key) == 1 && (r.Key[0].Kind == Integer || r.Key[0].Kind == Long)
	}
	return len(r.Key) > 1 && slices.EqualFunc(r.Key, ref.Fields.Properties, func(part KeyPart, leaf *Property) bool { return part.Name == leaf.Name })
}

// rootProperty looks a top-level property up before the resource is indexed.
func rootProperty(r *Resource, name string) (*Property, bool) {
	i := slices.IndexFunc(r.Root.Properties, func(p *Property) bool { return p.Name == name })
	if i < 0 {
		return nil, false
	}
	return r.Root.Properties[i], true
}

func parseDocument(data []byte) (*apiDocument, error) {
	var d apiDocument
	if err := json.Unmarshal(data, &d); err != nil {
		var wrong *json.UnmarshalTypeError
		if errors.As(err, &wrong) {
			return nil, fmt.Errorf("byte %d, %s: %s where %s belongs", wrong.Offset, wrong.Field, wrong.Value, wrong.Type)
		}
		return nil, fmt.Errorf("parse JSON: %w", err)
	}
	if !strings.HasPrefix(d.OpenAPI, "3.") && !strings.HasPrefix(d.Swagger, "2.") {
		return nil, errors.New(`neither "openapi": "3.x" nor "swagger": "2.0" is there`)
	}
	d.fields = make(map[string]*Fields)
	d.sizes = make(map[*Fields]int)
	d.marksItems = marksIdentity(d.Components.Schemas) || marksIdentity(d.Definitions)
	return &d, nil
}

func marksIdentity(schemas map[string]*apiSchema) bool {
	for _, s := range schemas {
		if s == nil {
			continue
		}
		for _, p := range s.Properties {
			if p != nil && p.IsIdentity {
				return true
			}
		}
	}
	return false
}

func upperFirst(s string) string { return firstRune(s, unicode.ToUpper) }

func lowerFirst(s string) string { return firstRune(s, unicode.ToLower) }

func firstRune(s string, change func(rune) rune) string {
	r, size := utf8.DecodeRuneInString(s)
	if size == 0 {
		return ""
	}
	return string(change(r)) + s[size:]
}
