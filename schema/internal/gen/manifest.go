package main

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/edfisync/edfisync/schema"
)

// manifest is the model of data standard 5.2 as published: JSON paths with their types.
type manifest struct {
	ProjectVersion string              `json:"projectVersion"`
	Resources      map[string]*listing `json:"resources"` // by collection name
}

type listing struct {
	Name       string   `json:"name"`
	Descriptor bool     `json:"descriptor"`
	Identity   []string `json:"identity"`
	References []struct {
		Path     string `json:"path"`
		Target   string `json:"target"` // collection name; empty or a database table where the target is abstract or was not resolved
		Required bool   `json:"required"`
	} `json:"references"`
	Properties []struct {
		Path      string `json:"path"`
		Type      string `json:"type"`
		Nullable  bool   `json:"nullable"`
		MaxLength int    `json:"max_length"`
		Precision int    `json:"precision"`
		Scale     int    `json:"scale"`
	} `json:"properties"`
	Collections []struct {
		Scope    string   `json:"scope"`
		UniqueBy []string `json:"uniqueBy"`
	} `json:"collections"`
	KeyUnification [][]string `json:"keyUnification"`
}

// Facts of data standard 5.2 that the manifest lacks.
const (
	educationOrganization = "EducationOrganization"
	programAssociation    = "GeneralStudentProgramAssociation"
)

// standard52 makes the model of data standard 5.2 from the manifest, and from the OpenAPI documents of 5.0 what the manifest lacks.
func (in *sources) standard52() (*schema.Model, error) {
	names := make(schema.EntityNames)
	names.Add(educationOrganization)
	names.Add(programAssociation)
	for _, l := range in.manifest.Resources {
		names.Add(l.Name)
	}
	var resources []*schema.Resource
	var problems []error
	for _, collection := range slices.Sorted(maps.Keys(in.manifest.Resources)) {
		l := in.manifest.Resources[collection]
		path := "ed-fi/" + collection
		r := &schema.Resource{Path: path, Name: l.Name, Descriptor: l.Descriptor}
		older, _ := in.openAPI50.Resource(path)
		if l.Descriptor {
			describe(r, older)
		} else if err := in.build(r, l, names, older); err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", collection, err))
		}
		resources = append(resources, r)
	}
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	setKinds(resources)
	likeTargets(resources)
	return schema.NewModel("ds-5.2", in.manifest.ProjectVersion, resources)
}

func (in *sources) build(r *schema.Resource, l *listing, names schema.EntityNames, older *schema.Resource) error {
	t := newTree(l.Name)
	for _, ref := range l.References {
		p, err := t.at(dotted(ref.Path))
		if err != nil {
			return err
		}
		if p.Kind != 0 && p.Kind != schema.Reference {
			return fmt.Errorf("%s is both %s and reference", ref.Path, p.Kind)
		}
		p.Kind, p.Required = schema.Reference, ref.Required
		p.Target = in.target(ref.Target, p.Name, names)
		if p.Target == "" {
			return fmt.Errorf("%s: no entity ends its name", ref.Path)
		}
	}
	for _, c := range l.Collections {
		p, err := t.at(dotted(c.Scope))
		if err != nil {
			return err
		}
		p.Kind = schema.Collection
		for _, path := range c.UniqueBy {
			p.ItemKey = append(p.ItemKey, dotted(path))
		}
		slices.Sort(p.ItemKey)
	}
	for _, listed := range l.Properties {
		p, err := t.at(dotted(listed.Path))
		if err != nil {
			return err
		}
		if p.Kind, err = kindOf(listed.Type); err != nil {
			return fmt.Errorf("%s: %w", listed.Path, err)
		}
		p.Required, p.MaxLength, p.Precision, p.Scale = !listed.Nullable, listed.MaxLength, listed.Precision, listed.Scale
		if p.Kind == schema.Descriptor {
			p.MaxLength = descriptorLength
			p.Target = names.Ending(p.Name)
			if p.Target == "" {
				return fmt.Errorf("%s: no descriptor ends its name", listed.Path)
			}
		}
	}
	r.Root = t.root
	t.finish(t.root)
	var pairs [][]string
	for _, pair := range l.KeyUnification {
		a, b := dotted(pair[0]), dotted(pair[1])
		if !separate[[3]string{l.Name, a, b}] {
			pairs = append(pairs, []string{a, b})
		}
	}
	r.Unify = groups(pairs, l.Identity)
	if older != nil {
		r.KeyUpdatable = older.KeyUpdatable
		enrich(r.Root, older.Root)
	}
	for _, path := range required[r.Name] {
		holder, name, _ := strings.Cut(path, ".")
		p := find(r.Root, holder)
		if p == nil || find(p.Fields, name) == nil {
			return fmt.Errorf("no property %s", path)
		}
		find(p.Fields, name).Required = true
	}
	return in.setKey(r, l, older)
}

// required are properties of inline objects new in 5.2 that must be there once the object is, as the API documents of 5.2 say. The
// manifest has columns of the owner's table, which may all be null.
var required = map[string][]string{ //nolint:gochecknoglobals // a table of facts
	"StudentTransportation": {"studentBusDetails.busNumber", "studentBusDetails.busRouteDescriptor"},
}

// separate are pairs the manifest unifies and an ODS/API does not: there they are two parts of the key, with names of their own, in its
// API documents and in references. Were they one part here, no reference to such a record could be written.
var separate = map[[3]string]bool{ //nolint:gochecknoglobals // a table of facts
	{"Grade", "gradingPeriodReference.schoolYear", "studentSectionAssociationReference.schoolYear"}: true,
}

// target returns the entity a reference leads to.
func (in *sources) target(listed, property string, names schema.EntityNames) string {
	if l := in.manifest.Resources[listed]; l != nil {
		return l.Name
	}
	return names.Ending(strings.TrimSuffix(property, "Reference"))
}

// setKey names the parts of the natural key: as the API documents of 5.0 do where they have them, as references to the resource do, else
// by the rule of KeyPartNames.
func (in *sources) setKey(r *schema.Resource, l *listing, older *schema.Resource) error {
	known := make(map[string]string) // path → name in 5.0
	if older != nil {
		for _, part := range older.Key {
			for _, path := range part.Paths {
				known[path] = part.Name
			}
		}
	}
	leaves := in.leavesTo(l.Name)
	var groupsOfKey [][]string
	for _, identity := range l.Identity {
		path := dotted(identity)
		i := slices.IndexFunc(groupsOfKey, func(g []string) bool { return sameGroup(r.Unify, g[0], path) })
		if i < 0 {
			groupsOfKey = append(groupsOfKey, []string{path})
		} else {
			groupsOfKey[i] = append(groupsOfKey[i], path)
		}
	}
	taken := make(map[string]bool)
	for _, paths := range groupsOfKey {
		slices.Sort(paths)
		name := ""
		for _, path := range paths {
			if name = known[path]; name != "" && !taken[name] {
				break
			}
			name = ""
		}
		if name == "" {
			name = nameOf(r, paths, leaves, groupsOfKey)
		}
		if taken[name] {
			return fmt.Errorf("two key parts are named %s", name)
		}
		taken[name] = true
		first, err := markIdentity(r, paths)
		if err != nil {
			return err
		}
		r.Key = append(r.Key, schema.KeyPart{Name: name, Paths: paths, Kind: first.Kind})
	}
	return nil
}

// leavesTo returns the leaves of all references to an entity: the names of its key parts.
func (in *sources) leavesTo(entity string) map[string]bool {
	leaves := make(map[string]bool)
	for _, l := range in.manifest.Resources {
		for _, ref := range l.References {
			last := ref.Path[strings.LastIndexByte(ref.Path, '.')+1:]
			if target := in.manifest.Resources[ref.Target]; (target == nil || target.Name != entity) &&
				(target != nil || !strings.EqualFold(last, entity+"Reference")) {
				continue
			}
			for _, p := range l.Properties {
				if leaf, ok := strings.CutPrefix(p.Path, ref.Path+"."); ok {
					leaves[leaf] = true
				}
			}
		}
	}
	return leaves
}

// nameOf names a key part the documents of 5.0 do not have.
func nameOf(r *schema.Resource, paths []string, leaves map[string]bool, all [][]string) string {
	plain := paths[0][strings.LastIndexByte(paths[0], '.')+1:]
	clashes := slices.ContainsFunc(all, func(g []string) bool {
		return g[0] != paths[0] && strings.HasSuffix(g[0], "."+plain)
	})
	for _, path := range paths {
		reference, leaf, ok := strings.Cut(path, ".")
		if !ok {
			return path
		}
		ref := find(r.Root, reference)
		candidates := schema.KeyPartNames(ref, leaf)
		if i := slices.IndexFunc(candidates, func(name string) bool { return leaves[name] }); i >= 0 {
			return candidates[i]
		}
		if role := len(candidates) - 2; role >= 0 && !strings.EqualFold(ref.Name, ref.Target+"Reference") {
			return candidates[role]
		}
		if clashes && ref.Target != educationOrganization {
			return candidates[0]
		}
	}
	return plain
}

func markIdentity(r *schema.Resource, paths []string) (*schema.Property, error) {
	var first *schema.Property
	for _, path := range paths {
		top, leaf, nested := strings.Cut(path, ".")
		p := find(r.Root, top)
		if p == nil {
			return nil, fmt.Errorf("identity %s: no such property", path)
		}
		p.Identity = true
		if nested {
			if p = find(p.Fields, leaf); p == nil {
				return nil, fmt.Errorf("identity %s: no such property", path)
			}
		}
		if first == nil {
			first = p
		}
	}
	return first, nil
}

// setKinds tells the kinds of the two abstract entities: education organizations have a one-part key and the name of an institution,
// program associations have the key of studentProgramAssociations.
func setKinds(resources []*schema.Resource) {
	var general []schema.KeyPart
	for _, r := range resources {
		if r.Name == "StudentProgramAssociation" {
			general = r.Key
		}
	}
	slices.SortFunc(general, func(a, b schema.KeyPart) int { return strings.Compare(a.Name, b.Name) })
	for _, r := range resources {
		if r.Descriptor {
			continue
		}
		slices.SortFunc(r.Key, func(a, b schema.KeyPart) int { return strings.Compare(a.Name, b.Name) })
		switch {
		case len(r.Key) == 1 && find(r.Root, "nameOfInstitution") != nil:
			r.Extends = educationOrganization
		case slices.EqualFunc(r.Key, general, func(a, b schema.KeyPart) bool { return a.Name == b.Name }):
			r.Extends = programAssociation
		}
	}
}

// likeTargets gives the leaves of references the least length and range of what they refer to: API documents of 5.0 have no word on
// references that are new in 5.2.
func likeTargets(resources []*schema.Resource) {
	targets := make(map[string]map[string]*schema.Property)
	for _, r := range resources {
		parts := make(map[string]*schema.Property)
		for _, part := range r.Key {
			top, leaf, nested := strings.Cut(part.Paths[0], ".")
			p := find(r.Root, top)
			if nested {
				p = find(p.Fields, leaf)
			}
			parts[part.Name] = p
		}
		targets[r.Name] = parts
	}
	var visit func(fields *schema.Fields) bool
	visit = func(fields *schema.Fields) bool {
		changed := false
		for _, p := range fields.Properties {
			if p.Fields == nil {
				continue
			}
			changed = visit(p.Fields) || changed
			for _, leaf := range p.Fields.Properties {
				like := targets[p.Target][leaf.Name]
				if like != nil && leaf.MinLength == 0 && !leaf.HasRange && (like.MinLength > 0 || like.HasRange) {
					leaf.MinLength, leaf.HasRange, leaf.Min, leaf.Max = like.MinLength, like.HasRange, like.Min, like.Max
					changed = true
				}
			}
		}
		return changed
	}
	for changed := true; changed; { // the target's own key may be held by a reference
		changed = false
		for _, r := range resources {
			changed = visit(r.Root) || changed
		}
	}
}

func dotted(path string) string {
	return strings.ReplaceAll(strings.TrimPrefix(path, "$."), "[*]", "")
}

func kindOf(listed string) (schema.Kind, error) {
	kinds := map[string]schema.Kind{
		"String": schema.String, "Boolean": schema.Boolean, "Int32": schema.Integer, "Int64": schema.Long, "Decimal": schema.Decimal,
		"Date": schema.Date, "DateTime": schema.DateTime, "Time": schema.Time, "Descriptor": schema.Descriptor,
	}
	kind, ok := kinds[listed]
	if !ok {
		return 0, fmt.Errorf("unknown type %s", listed)
	}
	return kind, nil
}
