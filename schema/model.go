// Package schema is the Ed-Fi data model as data: resources, natural keys, references, types and collections, read from a bundled
// catalog or a live OpenAPI document. On that model it validates payloads, writes canonical JSON and keyed hashes, and compiles
// mapping columns into encoders. It is pure: it does no I/O but read a document it is given, and it does not know rows, calls or ledgers.
package schema

import (
	"fmt"
	"slices"
	"strings"
)

// Kind is the type of a property's value.
type Kind uint8

// The kinds of the Ed-Fi model (Ed-Fi Unifying Data Model, API types). Object, Reference and Collection hold other properties.
const (
	String     Kind = iota + 1
	Boolean         // true or false
	Integer         // 32-bit
	Long            // 64-bit
	Decimal         // number with Precision digits in all, Scale of them after the point
	Date            // yyyy-MM-dd
	DateTime        // ISO 8601, normalised to UTC
	Time            // HH:mm:ss, no zone
	Descriptor      // URI "uri://org/XDescriptor#codeValue", compared without case
	Object          // inline object (common type, _ext and the extension objects in it)
	Reference       // object with the natural key of another resource
	Collection      // array of objects
)

// Model is one data standard (plus extensions). It is immutable after it was read and safe for concurrent use.
type Model struct {
	Name      string      // "ds-5.2", or the title of the OpenAPI document it was read from
	Standard  string      // version of the Ed-Fi data standard, "5.2.0"
	Resources []*Resource // sorted by Path, descriptors included

	byPath   map[string]*Resource   // lower-cased Path
	byName   map[string]*Resource   // entity name, "Student"
	subtypes map[string][]*Resource // abstract entity name → concrete resources, by Path
}

// Resource is one collection endpoint of the API.
type Resource struct {
	Path         string     // "ed-fi/students": schema segment of the URL and collection name
	Name         string     // entity name, "Student"; for descriptors "TermDescriptor"
	Descriptor   bool       // a descriptor resource; its key is namespace + codeValue
	Extends      string     // abstract entity this one is a kind of: "EducationOrganization", "GeneralStudentProgramAssociation"; or ""
	KeyUpdatable bool       // PUT may change the natural key (x-Ed-Fi-isUpdatable)
	Root         *Fields    // the payload
	Key          []KeyPart  // natural key, sorted by Name, unified: equal-valued paths are one part
	Unify        [][]string // groups of dotted paths whose values must be equal in a payload (key unification)
}

// KeyPart is one value of a natural key.
type KeyPart struct {
	Name  string   // the part's name in this resource's key, as references to it and GET query parameters call it: "schoolYear", "gradingPeriodSchoolYear"
	Paths []string // dotted paths in the payload that hold it, first one authoritative: "schoolReference.schoolId", "sessionReference.schoolId"
	Kind  Kind
}

// Fields is the property list of a payload, an inline object, a reference or a collection's item.
type Fields struct {
	Name       string      // for messages: "Section", "SectionClassPeriod"
	Properties []*Property // sorted by Name

	byName map[string]*Property
}

// Property is one member of an object.
type Property struct {
	Name       string
	Kind       Kind
	Required   bool
	Identity   bool // part of the natural key of the object it is in (a collection item: its key within the parent)
	MinLength  int
	MaxLength  int // characters; 0 = no limit known
	Precision  int // Decimal: digits in all; 0 = unknown
	Scale      int // Decimal: digits after the point; -1 = unknown
	HasRange   bool
	Min, Max   int64     // Integer, Long: allowed range when HasRange
	Target     string    // Reference: entity referred to ("School", abstract "EducationOrganization"); Descriptor: entity name ("TermDescriptor")
	Parts      []RefPart // Reference: which leaf holds which part of the target's key, sorted by Part
	Fields     *Fields   // Object, Reference, Collection (its item)
	ItemKey    []string  // Collection: dotted paths in the item that must be unique together; empty = the whole item
	MinItems   int       // Collection: 1 when at least one item is required
	Deprecated bool
	Doc        string // one sentence from the standard, may be empty
}

// RefPart says that the leaf of a reference carries one part of the key of the resource referred to. For an abstract target with one-part
// keys (EducationOrganization) the Part is the leaf's own name and stands for whatever part the concrete resource has.
type RefPart struct {
	Leaf string // property of the reference, "educationOrganizationId"
	Part string // KeyPart.Name of the target
}

// newModel sorts and indexes resources into a model. It owns what it is given. It reports two resources with one path or entity name,
// and two properties of one name in an object: a look-up could not tell them apart.
func newModel(name, standard string, resources []*Resource) (*Model, error) {
	m := &Model{
		Name:      name,
		Standard:  standard,
		Resources: resources,
		byPath:    make(map[string]*Resource, len(resources)),
		byName:    make(map[string]*Resource, len(resources)),
		subtypes:  make(map[string][]*Resource),
	}
	slices.SortFunc(m.Resources, func(a, b *Resource) int { return strings.Compare(a.Path, b.Path) })
	for _, r := range m.Resources {
		key := strings.ToLower(r.Path)
		if _, ok := m.byPath[key]; ok {
			return nil, fmt.Errorf("resource %s: listed twice", r.Path)
		}
		m.byPath[key] = r
		if other, ok := m.byName[r.Name]; ok {
			// An extension may call its entity as the standard calls one of its own; the standard's keeps the plain name.
			if schemaOf(r.Path) == schemaOf(other.Path) {
				return nil, fmt.Errorf("resources %s and %s: both are entity %s", other.Path, r.Path, r.Name)
			}
			if schemaOf(other.Path) == standardSchema {
				r = other
			}
		}
		m.byName[r.Name] = r
	}
	for _, r := range m.Resources {
		if r.Extends != "" {
			m.subtypes[r.Extends] = append(m.subtypes[r.Extends], r)
		}
		slices.SortFunc(r.Key, func(a, b KeyPart) int { return strings.Compare(a.Name, b.Name) })
		if err := r.Root.index(); err != nil {
			return nil, fmt.Errorf("resource %s: %w", r.Path, err)
		}
	}
	return m, nil
}

// standardSchema is the first path segment of every resource of the data standard itself.
const standardSchema = "ed-fi"

// schemaOf returns the first segment of a resource path, "ed-fi" of "ed-fi/students".
func schemaOf(path string) string {
	schema, _, _ := strings.Cut(path, "/")
	return schema
}

func (f *Fields) index() error {
	slices.SortFunc(f.Properties, func(a, b *Property) int { return strings.Compare(a.Name, b.Name) })
	f.byName = make(map[string]*Property, len(f.Properties))
	for _, p := range f.Properties {
		if _, ok := f.byName[p.Name]; ok {
			return fmt.Errorf("object %s: property %s is listed twice", f.Name, p.Name)
		}
		f.byName[p.Name] = p
		slices.SortFunc(p.Parts, func(a, b RefPart) int { return strings.Compare(a.Part, b.Part) })
		if p.Fields == nil {
			continue
		}
		if err := p.Fields.index(); err != nil {
			return err
		}
	}
	return nil
}

// Resource returns the resource at a path such as "ed-fi/students". Case and one leading slash do not matter, as in the API's URLs.
func (m *Model) Resource(path string) (*Resource, bool) {
	path = strings.TrimPrefix(path, "/")
	if r, ok := m.byPath[path]; ok {
		return r, true
	}
	r, ok := m.byPath[strings.ToLower(path)]
	return r, ok
}

// Entity returns the resource of a concrete entity, "Student". Of two entities with one name the data standard's is returned. Abstract
// entities have no resource of their own, see Concrete.
func (m *Model) Entity(name string) (*Resource, bool) {
	r, ok := m.byName[name]
	return r, ok
}

// Concrete returns the resources a reference to entity may lead to: the entity's own, or every kind of an abstract one ("School",
// "LocalEducationAgency", … for "EducationOrganization"), by Path. It is empty for an unknown entity. The slice is the model's own: do
// not change it.
func (m *Model) Concrete(entity string) []*Resource {
	if kinds, ok := m.subtypes[entity]; ok {
		return kinds
	}
	r, ok := m.byName[entity]
	if !ok {
		return nil
	}
	return []*Resource{r}
}

// Property returns the property a dotted path leads to, through inline objects, references and collection items:
// "schoolReference.schoolId", "addresses.city". Case matters, as it does in a payload.
func (r *Resource) Property(path string) (*Property, bool) {
	return r.Root.Property(path)
}

// Property returns the property a dotted path leads to from these fields.
func (f *Fields) Property(path string) (*Property, bool) {
	for f != nil {
		name, rest, deeper := strings.Cut(path, ".")
		p, ok := f.byName[name]
		if !ok || !deeper {
			return p, ok
		}
		f, path = p.Fields, rest
	}
	return nil, false
}
