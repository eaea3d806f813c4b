package schema

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
)

// resolve follows a $ref to a named schema.
func (d *apiDocument) resolve(s *apiSchema) (string, *apiSchema, error) {
	name, ok := strings.CutPrefix(s.Ref, "#/components/schemas/")
	schemas := d.Components.Schemas
	if !ok {
		name, ok = strings.CutPrefix(s.Ref, "#/definitions/")
		schemas = d.Definitions
	}
	if !ok {
		return "", nil, fmt.Errorf("$ref %q does not lead to a schema of this document", s.Ref)
	}
	target := schemas[name]
	if target == nil {
		return "", nil, fmt.Errorf("$ref %q: there is no such schema", s.Ref)
	}
	return name, target, nil
}

// entityOf returns the entity name in a schema name: "CourseOffering" of "edFi_courseOffering" and of "EdFi_CourseOffering".
func entityOf(schema string) string {
	_, name, ok := strings.Cut(schema, "_")
	if !ok {
		name = schema
	}
	return upperFirst(strings.ReplaceAll(name, "_", ""))
}

// fieldsOf reads the properties of a named schema; schemas used twice are read once.
func (d *apiDocument) fieldsOf(name string, schema *apiSchema, depth int) (*Fields, error) {
	if f, ok := d.fields[name]; ok {
		if f == nil {
			return nil, fmt.Errorf("schema %s: contains itself", name)
		}
		return f, nil
	}
	d.fields[name] = nil
	f, err := d.readFields(entityOf(name), schema, depth)
	if err != nil {
		return nil, fmt.Errorf("schema %s: %w", name, err)
	}
	d.fields[name] = f
	return f, nil
}

func (d *apiDocument) readFields(name string, schema *apiSchema, depth int) (*Fields, error) {
	if depth > maxOpenAPIDepth {
		return nil, fmt.Errorf("nested deeper than %d", maxOpenAPIDepth)
	}
	f := &Fields{Name: name}
	for _, property := range slices.Sorted(maps.Keys(schema.Properties)) {
		s := schema.Properties[property]
		if s == nil {
			return nil, fmt.Errorf("property %s: no schema", property)
		}
		if property == "link" && strings.HasSuffix(name, "Reference") {
			continue
		}
		p, err := d.property(property, s, depth)
		if err != nil {
			return nil, fmt.Errorf("property %s: %w", property, err)
		}
		p.Required = slices.Contains(schema.Required, property)
		if p.Required && p.Kind == Collection {
			p.MinItems = max(p.MinItems, 1)
		}
		f.Properties = append(f.Properties, p)
		if d.sizes[f] += 1 + d.sizes[p.Fields]; d.sizes[f] > maxOpenAPIProperties {
			return nil, tooLarge()
		}
	}
	return f, nil
}

func tooLarge() error {
	return fmt.Errorf("more than %d properties, every $ref followed", maxOpenAPIProperties)
}

func (d *apiDocument) property(name string, s *apiSchema, depth int) (*Property, error) {
	p := &Property{
		Name:       name,
		Identity:   s.IsIdentity,
		MinLength:  s.MinLength,
		MaxLength:  s.MaxLength,
		Deprecated: s.IsDeprecated || s.Deprecated,
		Doc:        firstSentence(s.Description),
	}
	if s.Ref == "" && len(s.AllOf) == 1 && s.AllOf[0] != nil && s.AllOf[0].Ref != "" {
		s = s.AllOf[0] // how some generators attach a description to a $ref
	}
	if s.Ref != "" {
		return p, d.named(p, s, depth)
	}
	switch s.Type {
	case "string":
		p.Kind = stringKind(name, s)
	case "boolean":
		p.Kind = Boolean
	case "integer":
		p.Kind = Integer
		if s.Format == "int64" {
			p.Kind = Long
		}
		p.setRange(s)
	case "number":
		p.Kind = Decimal
		p.setDigits(s)
	case "array":
		if s.Items == nil {
			return nil, errors.New("array without items")
		}
		p.Kind, p.MinItems = Collection, s.MinItems
		return p, d.items(p, s.Items, depth)
	case "object", "":
		fields, err := d.readFields(upperFirst(name), s, depth+1)
		if err != nil {
			return nil, err
		}
		p.Kind, p.Fields = Object, fields
	default:
		return nil, fmt.Errorf("unknown type %q", s.Type)
	}
	return p, nil
}

// named makes p a reference or an inline object, by the name of its schema.
func (d *apiDocument) named(p *Property, s *apiSchema, depth int) error {
	name, schema, err := d.resolve(s)
	if err != nil {
		return err
	}
	fields, err := d.fieldsOf(name, schema, depth+1)
	if err != nil {
		return err
	}
	p.Kind, p.Fields = Object, fields
	if p.Doc == "" {
		p.Doc = firstSentence(schema.Description)
	}
	if target, ok := strings.CutSuffix(fields.Name, "Reference"); ok && strings.HasSuffix(p.Name, "Reference") && target != "" {
		p.Kind, p.Target = Reference, target
		for _, leaf := range fields.Properties {
			leaf.Identity, leaf.Required = true, true
		}
	}
	return nil
}

func (d *apiDocument) items(p *Property, s *apiSchema, depth int) error {
	if s.Ref == "" {
		if len(s.Properties) == 0 {
			return fmt.Errorf("array of %s, where an array of objects belongs", cmp.Or(string(s.Type), "nothing"))
		}
		fields, err := d.readFields(upperFirst(p.Name), s, depth+1)
		if err != nil {
			return err
		}
		p.Fields = fields
	} else {
		name, schema, err := d.resolve(s)
		if err != nil {
			return err
		}
		if p.Fields, err = d.fieldsOf(name, schema, depth+1); err != nil {
			return err
		}
	}
	if d.marksItems {
		p.ItemKey = itemKey(p.Fields)
	}
	return nil
}

// itemKey is what must be unique among the items of a collection: the flagged scalars and the leaves of required references, of
// which the document does not say whether they are identifying. (A key too wide overlooks a duplicate, which the target then reports;
// one too narrow would refuse a good record. So without marks it is the whole item.)
func itemKey(item *Fields) []string {
	var key []string
	for _, p := range item.Properties {
		switch {
		case p.Kind == Reference && p.Required:
			p.Identity = true
			for _, leaf := range p.Fields.Properties {
				key = append(key, p.Name+"."+leaf.Name)
			}
		case p.Identity && p.Fields == nil:
			key = append(key, p.Name)
		}
	}
	return key
}

// stringKind tells descriptors and times, which most documents write as plain strings. A string that is neither has a length.
func stringKind(name string, s *apiSchema) Kind {
	switch {
	case s.Format == "date":
		return Date
	case s.Format == "date-time":
		return DateTime
	case s.Format == "time", s.Format == "" && s.MaxLength == 0 && strings.Contains(strings.ToLower(name), "time"):
		return Time
	case strings.HasSuffix(name, "Descriptor"):
		return Descriptor
	}
	return String
}

// setRange takes over the range of an integer, one-sided ones up to the limits of its kind.
func (p *Property) setRange(s *apiSchema) {
	if s.Minimum == "" && s.Maximum == "" {
		return
	}
	p.HasRange, p.Min, p.Max = true, math.MinInt32, math.MaxInt32
	if p.Kind == Long {
		p.Min, p.Max = math.MinInt64, math.MaxInt64
	}
	if least, err := s.Minimum.Int64(); err == nil {
		p.Min = max(p.Min, least)
	}
	if most, err := s.Maximum.Int64(); err == nil {
		p.Max = min(p.Max, most)
	}
}

// setDigits reads the digits of a decimal off its maximum: 9999999999.99999 has 15, five of them after the point. Documents before data
// standard 5.2 have none.
func (p *Property) setDigits(s *apiSchema) {
	p.Scale = -1
	whole, fraction, ok := strings.Cut(s.Maximum.String(), ".")
	if ok && strings.Trim(whole+fraction, "9") == "" {
		p.Precision, p.Scale = len(whole)+len(fraction), len(fraction)
	}
}

// firstSentence shortens a description to what fits beside a name.
func firstSentence(text string) string {
	const prefix, longest = "An unordered collection of ", 160
	text = strings.Join(strings.Fields(text), " ")
	if strings.HasPrefix(text, prefix) {
		_, text, _ = strings.Cut(text, ". ")
	}
	if i := strings.Index(text, ". "); i >= 0 {
		text = text[:i+1]
	}
	if len(text) <= longest {
		return text
	}
	cut := strings.LastIndexByte(text[:longest], ' ')
	if cut < 0 {
		return ""
	}
	return strings.TrimRight(text[:cut], ",;: ") + " …"
}
