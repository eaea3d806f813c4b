package schema

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// deduceKey finds the natural key of a resource. Its part names are the GET parameters marked as identity; they are held by own
// properties so marked and by the required references whose every leaf is, under some name, one of them. Two references that hold the
// same part are unified: their values must be equal.
//
// Without such parameters (a Data Management Service marks none, a write-only profile has none) there are two other ways: the key the
// resource has in a bundled data standard, if it has all its paths, else the leaves of references to it.
func (d *apiDocument) deduceKey(r *Resource) error {
	isKey := d.queryNames(r.Path)
	if !slices.Contains(slices.Collect(maps.Values(isKey)), true) {
		if ok, err := borrowKey(r); ok || err != nil {
			return err
		}
		d.markReferenced(r, isKey)
	}
	parts := make(map[string]*KeyPart)
	hold := func(part, path string, kind Kind) {
		if parts[part] == nil {
			parts[part] = &KeyPart{Name: part, Kind: kind}
		}
		parts[part].Paths = append(parts[part].Paths, path)
	}
	for _, p := range r.Root.Properties {
		if p.Fields == nil && p.Identity {
			hold(p.Name, p.Name, p.Kind)
		}
	}
	for _, p := range r.Root.Properties {
		if p.Kind != Reference || !p.Required {
			continue
		}
		held, ok := identifying(p, isKey)
		if !ok {
			continue
		}
		p.Identity = true
		for i, leaf := range p.Fields.Properties {
			hold(held[i], p.Name+"."+leaf.Name, leaf.Kind)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(isKey)) {
		if !isKey[name] || parts[name] != nil {
			continue
		}
		// A parameter marked as identity whose own property is not: some documents have such gaps.
		p, ok := rootProperty(r, name)
		if !ok || !p.Required || p.Fields != nil {
			return fmt.Errorf("key part %s (a GET parameter marked x-Ed-Fi-isIdentity) is held by no required property", name)
		}
		p.Identity = true
		hold(name, name, p.Kind)
	}
	if len(parts) == 0 {
		return errors.New("no natural key: nothing is marked x-Ed-Fi-isIdentity")
	}
	for _, part := range parts {
		r.Key = append(r.Key, *part)
		if len(part.Paths) > 1 {
			r.Unify = append(r.Unify, slices.Clone(part.Paths))
		}
	}
	slices.SortFunc(r.Key, func(a, b KeyPart) int { return strings.Compare(a.Name, b.Name) })
	slices.SortFunc(r.Unify, slices.Compare)
	return nil
}

// borrowKey gives r the key it has in the newest bundled data standard that knows its path, if r has all paths of it.
func borrowKey(r *Resource) (bool, error) {
	for _, version := range slices.Backward(BundledVersions()) {
		standard, err := Bundled(version)
		if err != nil {
			return false, err
		}
		same, ok := standard.Resource(r.Path)
		if !ok || same.Descriptor {
			continue
		}
		own := &Resource{Path: r.Path, Name: r.Name, Root: r.Root}
		for _, part := range same.Key {
			own.Key = append(own.Key, KeyPart{Name: part.Name, Paths: slices.Clone(part.Paths), Kind: part.Kind})
		}
		if !own.takeKinds() {
			continue
		}
		r.Key, r.KeyUpdatable = own.Key, same.KeyUpdatable
		for _, part := range r.Key {
			if len(part.Paths) > 1 {
				r.Unify = append(r.Unify, slices.Clone(part.Paths))
			}
		}
		return true, nil
	}
	return false, nil
}

// takeKinds marks the properties of the key as identity and takes their kinds. It reports whether all are there; nothing is marked else.
func (r *Resource) takeKinds() bool {
	var marked []*Property
	for i, part := range r.Key {
		for _, path := range part.Paths {
			top, leaf, nested := strings.Cut(path, ".")
			p, ok := rootProperty(r, top)
			if !ok || nested != (p.Kind == Reference) {
				return false
			}
			marked = append(marked, p)
			if nested {
				at := slices.IndexFunc(p.Fields.Properties, func(l *Property) bool { return l.Name == leaf })
				if at < 0 {
					return false
				}
				p = p.Fields.Properties[at]
			}
			r.Key[i].Kind = p.Kind
		}
	}
	for _, p := range marked {
		p.Identity = true
	}
	return true
}

// markReferenced adds to isKey the leaves of references to r.
func (d *apiDocument) markReferenced(r *Resource, isKey map[string]bool) {
	for _, schemas := range []map[string]*apiSchema{d.Components.Schemas, d.Definitions} {
		for name, schema := range schemas {
			if schema == nil || entityOf(name) != r.Name+"Reference" {
				continue
			}
			for leaf := range schema.Properties {
				if leaf != "link" {
					isKey[leaf] = true
				}
			}
		}
	}
}

// queryNames returns the GET parameters of a collection, and which of them are marked as identity.
func (d *apiDocument) queryNames(path string) map[string]bool {
	names := make(map[string]bool)
	item := d.Paths["/"+path]
	if item == nil || item.Get == nil {
		return names
	}
	for _, p := range slices.Concat(item.Parameters, item.Get.Parameters) {
		if p != nil && p.Ref != "" {
			p = d.parameter(p.Ref)
		}
		if p != nil && p.In == "query" && p.Name != "" {
			names[p.Name] = p.marked()
		}
	}
	return names
}

// marked reports whether the parameter is part of the natural key.
func (p *parameter) marked() bool {
	return p != nil && (p.IsIdentity || p.Schema != nil && p.Schema.IsIdentity)
}

func (d *apiDocument) parameter(ref string) *parameter {
	if name, ok := strings.CutPrefix(ref, "#/components/parameters/"); ok {
		return d.Components.Parameters[name]
	}
	return d.Parameters[strings.TrimPrefix(ref, "#/parameters/")]
}

// identifying returns the key part each leaf of a reference holds, if all hold one of their own. A leaf that has a parameter of its own
// that is not marked is not in the key: chartOfAccountReference.accountIdentifier of localAccounts is chartOfAccountIdentifier, though
// an accountIdentifier is in the key. Leaves with the least choice choose first: studentAssessmentReference.studentAssessmentIdentifier
// before …assessmentIdentifier, which may have the same name.
func identifying(ref *Property, isKey map[string]bool) ([]string, bool) {
	leaves := ref.Fields.Properties
	choices := make([][]string, len(leaves))
	order := make([]int, len(leaves))
	for i, leaf := range leaves {
		choices[i] = slices.DeleteFunc(KeyPartNames(ref, leaf.Name), func(name string) bool {
			_, known := isKey[name]
			return !known
		})
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return len(choices[a]) - len(choices[b]) })
	held := make([]string, len(leaves))
	for _, leaf := range order {
		i := slices.IndexFunc(choices[leaf], func(name string) bool { return !slices.Contains(held, name) })
		if i < 0 || !isKey[choices[leaf][i]] {
			return nil, false
		}
		held[leaf] = choices[leaf][i]
	}
	return held, len(held) > 0
}

// KeyPartNames returns the names an Ed-Fi API may give the key part that a leaf of an identifying reference holds, likeliest first: with
// the whole name of the reference before it, with that of its target, with its role, and plain. programReference.educationOrganizationId
// is programEducationOrganizationId where another education organization is in the key, graduationSchoolYearTypeReference.schoolYear is
// graduationSchoolYear, sessionReference.schoolYear is schoolYear. Words that end the one and begin the other are written once:
// gradingPeriodReference.periodSequence is gradingPeriodSequence.
func KeyPartNames(ref *Property, leaf string) []string {
	whole := strings.TrimSuffix(ref.Name, "Reference")
	role := lowerFirst(strings.TrimSuffix(upperFirst(whole), ref.Target))
	names := make([]string, 0, 4)
	for _, prefix := range []string{whole, lowerFirst(ref.Target), role, ""} {
		if name := joinWords(prefix, leaf); !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// joinWords puts prefix before name, both in camel case, words they share written once.
func joinWords(prefix, name string) string {
	for i := range len(prefix) {
		if (i == 0 || prefix[i] >= 'A' && prefix[i] <= 'Z') && strings.HasPrefix(name, lowerFirst(prefix[i:])) {
			return prefix[:i] + cased(name, i > 0)
		}
	}
	return prefix + cased(name, prefix != "")
}

func cased(name string, upper bool) string {
	if upper {
		return upperFirst(name)
	}
	return name
}

// EntityNames finds the entity that a role-named property stands for.
type EntityNames map[string]string // lower-cased → as it is

// Add adds an entity's name.
func (n EntityNames) Add(name string) { n[strings.ToLower(name)] = name }

// Ending returns the longest entity name that a property's name, in camel case, ends in: "EducationOrganization" for
// "participatingEducationOrganization", "IDEAPartDescriptor" for "ideaPartDescriptor". It returns "" when there is none.
func (n EntityNames) Ending(property string) string {
	lower := strings.ToLower(property)
	for i := range len(property) {
		if i > 0 && (property[i] < 'A' || property[i] > 'Z') {
			continue
		}
		if name, ok := n[lower[i:]]; ok {
			return name
		}
	}
	return ""
}
