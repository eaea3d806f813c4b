// Package schema is the Ed-Fi data model as data: resources, natural keys, references, types and collections, read from a bundled
// catalog or a live OpenAPI document. On that model it validates payloads, writes canonical JSON and keyed hashes, and compiles
// mapping columns into encoders. It is pure: it does no I/O but read a document it is given, and it does not know rows, calls or ledgers.
package schema

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
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

func kindNames() [Collection + 1]string {
	return [...]string{
		String: "string", Boolean: "boolean", Integer: "integer", Long: "long", Decimal: "decimal", Date: "date", DateTime: "datetime", Time: "time",
		Descriptor: "descriptor", Object: "object", Reference: "reference", Collection: "collection",
	}
}

// String returns the kind's name in lower case, "datetime".
func (k Kind) String() string {
	names := kindNames()
	if k == 0 || int(k) >= len(names) {
		return fmt.Sprintf("kind %d", uint8(k))
	}
	return names[k]
}

// MarshalText writes the kind as String does.
func (k Kind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText reads what MarshalText writes.
func (k *Kind) UnmarshalText(text []byte) error {
	names := kindNames()
	if i := slices.Index(names[:], string(text)); i > 0 {
		*k = Kind(i) //nolint:gosec // below len(names)
		return nil
	}
	return fmt.Errorf("unknown kind of property %q", text)
}

// Model is one data standard (plus extensions). It is immutable after it was read and safe for concurrent use. Its JSON form is that of the
// bundled catalogs.
type Model struct {
	Name      string      `json:"name"`               // "ds-5.2", or the title of the OpenAPI document it was read from
	Standard  string      `json:"standard,omitempty"` // version of the Ed-Fi data standard, "5.2.0"; empty when a live document does not say
	Resources []*Resource `json:"resources"`          // sorted by Path, descriptors included

	byPath   map[string]*Resource   // lower-cased Path
	byName   map[string]*Resource   // entity name as it is, and lower-cased
	subtypes map[string][]*Resource // abstract entity name → concrete resources, by Path
}

// Resource is one collection endpoint of the API.
type Resource struct {
	Path         string     `json:"path"`                   // "ed-fi/students": schema segment of the URL and collection name
	Name         string     `json:"name"`                   // entity name, "Student"; for descriptors "TermDescriptor"
	Descriptor   bool       `json:"descriptor,omitempty"`   // a descriptor resource; its key is namespace + codeValue
	Extends      string     `json:"extends,omitempty"`      // abstract entity this one is a kind of: "EducationOrganization", "GeneralStudentProgramAssociation"; or ""
	KeyUpdatable bool       `json:"keyUpdatable,omitempty"` // PUT may change the natural key (x-Ed-Fi-isUpdatable)
	Key          []KeyPart  `json:"key"`                    // natural key, sorted by Name, unified: equal-valued paths are one part
	Unify        [][]string `json:"unify,omitempty"`        // groups of dotted paths whose values must be equal in a payload (key unification)
	Root         *Fields    `json:"root"`                   // the payload

	plan atomic.Pointer[plan] // how payloads are checked and written, made at first use
}

// KeyPart is one value of a natural key.
type KeyPart struct {
	Name  string   `json:"name"`  // the part's name in this resource's key, as references to it and GET query parameters call it: "schoolYear", "gradingPeriodSchoolYear"
	Paths []string `json:"paths"` // dotted paths in the payload that hold it, first one authoritative: "schoolReference.schoolId", "sessionReference.schoolId"
	Kind  Kind     `json:"kind"`
}

// Fields is the property list of a payload, an inline object, a reference or a collection's item.
type Fields struct {
	Name       string      `json:"name"`       // for messages: "Section", "SectionClassPeriod"
	Properties []*Property `json:"properties"` // sorted by Name

	byName map[string]*Property
}

// Property is one member of an object.
type Property struct {
	Name       string    `json:"name"`
	Kind       Kind      `json:"kind"`
	Required   bool      `json:"required,omitempty"`
	Identity   bool      `json:"identity,omitempty"` // part of the natural key of the object it is in (a collection item: its key within the parent)
	MinLength  int       `json:"minLength,omitempty"`
	MaxLength  int       `json:"maxLength,omitempty"` // characters; 0 = no limit known
	Precision  int       `json:"precision,omitempty"` // Decimal: digits in all; 0 = unknown
	Scale      int       `json:"scale,omitempty"`     // Decimal: digits after the point; -1 = unknown
	HasRange   bool      `json:"hasRange,omitempty"`
	Min        int64     `json:"min,omitempty"`      // Integer, Long: least value allowed when HasRange
	Max        int64     `json:"max,omitempty"`      // Integer, Long: greatest value allowed when HasRange
	Target     string    `json:"target,omitempty"`   // Reference: entity referred to ("School", abstract "EducationOrganization"); Descriptor: entity name ("TermDescriptor")
	Parts      []RefPart `json:"parts,omitempty"`    // Reference: which leaf holds which part of the target's key, sorted by Part
	Fields     *Fields   `json:"fields,omitempty"`   // Object, Reference, Collection (its item)
	ItemKey    []string  `json:"itemKey,omitempty"`  // Collection: dotted paths in the item that must be unique together; empty = the whole item
	MinItems   int       `json:"minItems,omitempty"` // Collection: 1 when at least one item is required
	Deprecated bool      `json:"deprecated,omitempty"`
	Doc        string    `json:"doc,omitempty"` // one sentence from the standard, may be empty
}

// RefPart says that the leaf of a reference carries one part of the key of the resource referred to. For an abstract target with one-part
// keys (EducationOrganization) the Part is the leaf's own name and stands for whatever part the concrete resource has.
type RefPart struct {
	Leaf string `json:"leaf"` // property of the reference, "educationOrganizationId"
	Part string `json:"part"` // KeyPart.Name of the target
}

// NewModel sorts, links and indexes resources into a model, which owns them from then on. References without Parts get them: each leaf
// carries the part of its own name, or the only part of the target's key. Reported are two resources with one path or one entity name,
// two properties of one name in an object, key parts whose path is no property, and references that do not carry exactly the key of
// their target.
func NewModel(name, standard string, resources []*Resource) (*Model, error) {
	m := &Model{
		Name:      name,
		Standard:  standard,
		Resources: resources,
		byPath:    make(map[string]*Resource, len(resources)),
		byName:    make(map[string]*Resource, len(resources)),
		subtypes:  make(map[string][]*Resource),
	}
	if slices.Contains(resources, nil) {
		return nil, errors.New("a resource is nil")
	}
	slices.SortFunc(m.Resources, func(a, b *Resource) int { return strings.Compare(a.Path, b.Path) })
	for _, r := range m.Resources {
		if err := m.add(r); err != nil {
			return nil, err
		}
	}
	var problems []error
	for _, r := range m.Resources {
		problems = append(problems, m.linkReferences(r)...)
	}
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	return m, nil
}

func (m *Model) add(r *Resource) error {
	key := strings.ToLower(r.Path)
	if _, ok := m.byPath[key]; ok {
		return fmt.Errorf("resource %s: listed twice", r.Path)
	}
	m.byPath[key] = r
	named := r
	name := strings.ToLower(r.Name)
	if other, ok := m.byName[name]; ok {
		if schemaOf(r.Path) == schemaOf(other.Path) {
			return fmt.Errorf("resources %s and %s: both are entity %s", other.Path, r.Path, r.Name)
		}
		// An extension may call its entity as the standard calls one of its own; the standard's keeps the plain name.
		if schemaOf(other.Path) == standardSchema {
			named = other
		}
	}
	m.byName[name], m.byName[named.Name] = named, named
	if r.Extends != "" {
		m.subtypes[r.Extends] = append(m.subtypes[r.Extends], r)
	}
	if r.Root == nil {
		return fmt.Errorf("resource %s: no properties", r.Path)
	}
	if err := r.Root.index(); err != nil {
		return fmt.Errorf("resource %s: %w", r.Path, err)
	}
	slices.SortFunc(r.Key, func(a, b KeyPart) int { return strings.Compare(a.Name, b.Name) })
	for _, part := range r.Key {
		for _, path := range part.Paths {
			if _, ok := r.Property(path); !ok {
				return fmt.Errorf("resource %s: key part %s: no property %s", r.Path, part.Name, path)
			}
		}
	}
	return nil
}

// linkReferences fills in the parts of r's references and reports those that do not carry their target's key.
func (m *Model) linkReferences(r *Resource) []error {
	var problems []error
	r.Root.walk("", func(path string, p *Property) {
		if p.Kind != Reference {
			return
		}
		if len(p.Parts) == 0 {
			p.Parts = m.refParts(p)
		}
		for _, target := range m.Concrete(p.Target) {
			if !carriesKey(p, target) {
				problems = append(problems, fmt.Errorf("resource %s: reference %s does not carry the key of %s", r.Path, path, target.Path))
			}
		}
	})
	return problems
}

func (m *Model) refParts(p *Property) []RefPart {
	parts := make([]RefPart, 0, len(p.Fields.Properties))
	target, concrete := m.Entity(p.Target)
	for _, leaf := range p.Fields.Properties {
		part := leaf.Name
		if concrete && len(p.Fields.Properties) == 1 && len(target.Key) == 1 {
			part = target.Key[0].Name
		}
		parts = append(parts, RefPart{Leaf: leaf.Name, Part: part})
	}
	slices.SortFunc(parts, func(a, b RefPart) int { return strings.Compare(a.Part, b.Part) })
	return parts
}

// carriesKey reports whether the parts of a reference are the key of target, part by part. A one-part key of a kind of an abstract
// entity has a name of its own ("schoolId" for "educationOrganizationId").
func carriesKey(p *Property, target *Resource) bool {
	if target.Extends == p.Target && len(p.Parts) == 1 && len(target.Key) == 1 {
		return true
	}
	return slices.EqualFunc(p.Parts, target.Key, func(ref RefPart, part KeyPart) bool { return ref.Part == part.Name })
}

// standardSchema is the first path segment of every resource of the data standard itself.
const standardSchema = "ed-fi"

// schemaOf returns the first segment of a resource path, "ed-fi" of "ed-fi/students".
func schemaOf(path string) string {
	schema, _, _ := strings.Cut(path, "/")
	return schema
}

// index sorts and indexes properties and those they hold. It may be called again: documents share what they name.
func (f *Fields) index() error {
	if slices.Contains(f.Properties, nil) {
		return fmt.Errorf("object %s: a property is nil", f.Name)
	}
	slices.SortFunc(f.Properties, func(a, b *Property) int { return strings.Compare(a.Name, b.Name) })
	f.byName = make(map[string]*Property, len(f.Properties))
	for _, p := range f.Properties {
		if _, ok := f.byName[p.Name]; ok {
			return fmt.Errorf("object %s: property %s is listed twice", f.Name, p.Name)
		}
		f.byName[p.Name] = p
		slices.SortFunc(p.Parts, func(a, b RefPart) int { return strings.Compare(a.Part, b.Part) })
		if holds := p.Kind >= Object; p.Kind < String || p.Kind > Collection || holds != (p.Fields != nil) {
			return fmt.Errorf("object %s: property %s is a %s with the wrong content", f.Name, p.Name, p.Kind)
		}
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

// Entity returns the resource of a concrete entity, "Student". Case does not matter: documents write acronyms either way
// ("CteProgramServiceDescriptor"). Of two entities with one name the data standard's is returned. Abstract entities have no resource of
// their own, see Concrete.
func (m *Model) Entity(name string) (*Resource, bool) {
	if r, ok := m.byName[name]; ok {
		return r, true
	}
	r, ok := m.byName[strings.ToLower(name)]
	return r, ok
}

// Concrete returns the resources a reference to entity may lead to: the entity's own, or every kind of an abstract one ("School",
// "LocalEducationAgency", … for "EducationOrganization"), by Path. It is empty for an unknown entity. The slice is the model's own: do
// not change it.
func (m *Model) Concrete(entity string) []*Resource {
	if kinds, ok := m.subtypes[entity]; ok {
		return kinds
	}
	r, ok := m.Entity(entity)
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
