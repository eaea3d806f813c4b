package schema

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
)

// apiDocument is what is read of an OpenAPI 3 or Swagger 2 document.
type apiDocument struct {
	OpenAPI string `json:"openapi"`
	Swagger string `json:"swagger"`
	Info    struct {
		Title string `json:"title"`
	} `json:"info"`
	Paths      map[string]*pathItem `json:"paths"`
	Components struct {
		Schemas    map[string]*apiSchema `json:"schemas"`
		Parameters map[string]*parameter `json:"parameters"`
	} `json:"components"`
	Definitions map[string]*apiSchema `json:"definitions"` // Swagger 2
	Parameters  map[string]*parameter `json:"parameters"`  // Swagger 2

	fields     map[string]*Fields // schema name → its properties, once read; nil while they are being read
	sizes      map[*Fields]int    // properties in an object and all it holds
	properties int                // of all resources so far, against maxOpenAPIProperties
	marksItems bool               // whether x-Ed-Fi-isIdentity is used in schemas at all
}

type pathItem struct {
	Get        *operation   `json:"get"`
	Put        *operation   `json:"put"`
	Post       *operation   `json:"post"`
	Parameters []*parameter `json:"parameters"`
}

type operation struct {
	Parameters  []*parameter         `json:"parameters"`
	RequestBody *body                `json:"requestBody"`
	Responses   map[string]*response `json:"responses"`
	IsUpdatable bool                 `json:"x-Ed-Fi-isUpdatable"`
}

type body struct {
	Content map[string]*mediaType `json:"content"`
}

type response struct {
	Content map[string]*mediaType `json:"content"`
	Schema  *apiSchema            `json:"schema"` // Swagger 2
}

type mediaType struct {
	Schema *apiSchema `json:"schema"`
}

type parameter struct {
	Ref        string     `json:"$ref"`
	Name       string     `json:"name"`
	In         string     `json:"in"`
	Schema     *apiSchema `json:"schema"`
	IsIdentity bool       `json:"x-Ed-Fi-isIdentity"`
}

// apiSchema is a schema.
type apiSchema struct {
	Ref          string                `json:"$ref"`
	Type         typeNames             `json:"type"`
	Format       string                `json:"format"`
	MinLength    int                   `json:"minLength"`
	MaxLength    int                   `json:"maxLength"`
	MinItems     int                   `json:"minItems"`
	Minimum      *float64              `json:"minimum"`
	Maximum      *float64              `json:"maximum"`
	Items        *apiSchema            `json:"items"`
	AllOf        []*apiSchema          `json:"allOf"`
	Properties   map[string]*apiSchema `json:"properties"`
	Required     []string              `json:"required"`
	Description  string                `json:"description"`
	IsIdentity   bool                  `json:"x-Ed-Fi-isIdentity"`
	IsDeprecated bool                  `json:"x-Ed-Fi-isDeprecated"`
	Deprecated   bool                  `json:"deprecated"`
}

// typeNames is a schema's type: one name, or in OpenAPI 3.1 a list of which "null" says nothing here.
type typeNames string

func (t *typeNames) UnmarshalJSON(data []byte) error {
	data = bytes.TrimSpace(data)
	if len(data) == 0 || data[0] != '[' {
		return json.Unmarshal(data, (*string)(t))
	}
	var names []string
	if err := json.Unmarshal(data, &names); err != nil {
		return err
	}
	for _, name := range names {
		if name != "null" {
			*t = typeNames(name)
		}
	}
	return nil
}

// resources reads every resource of the document.
func (d *apiDocument) resources() ([]*Resource, []error) {
	var found []*Resource
	var problems []error
	for _, path := range slices.Sorted(maps.Keys(d.Paths)) {
		item := d.Paths[path]
		segments := strings.Split(strings.Trim(path, "/"), "/")
		if len(segments) != 2 || segments[0] == "" || segments[1] == "" || strings.Contains(path, "{") || item == nil {
			continue
		}
		schema := item.payload()
		if schema == nil {
			continue
		}
		r, err := d.resource(strings.Join(segments, "/"), schema)
		if err != nil {
			problems = append(problems, fmt.Errorf("path %s: %w", path, err))
			continue
		}
		if byID := d.Paths[path+"/{id}"]; byID != nil && byID.Put != nil {
			r.KeyUpdatable = byID.Put.IsUpdatable
		}
		found = append(found, r)
	}
	return found, problems
}

// payload returns the schema a collection takes by POST, else the one it gives by GET.
func (item *pathItem) payload() *apiSchema {
	if post := item.Post; post != nil {
		if post.RequestBody != nil {
			if s := schemaOfContent(post.RequestBody.Content); s != nil {
				return s
			}
		}
		for _, p := range post.Parameters {
			if p != nil && p.In == "body" && p.Schema != nil {
				return p.Schema
			}
		}
	}
	if item.Get == nil || item.Get.Responses["200"] == nil {
		return nil
	}
	ok := item.Get.Responses["200"]
	list := ok.Schema
	if list == nil {
		list = schemaOfContent(ok.Content)
	}
	if list == nil {
		return nil
	}
	return list.Items
}

func schemaOfContent(content map[string]*mediaType) *apiSchema {
	if m := content["application/json"]; m != nil {
		return m.Schema
	}
	for _, name := range slices.Sorted(maps.Keys(content)) {
		if m := content[name]; m != nil && m.Schema != nil {
			return m.Schema
		}
	}
	return nil
}

func (d *apiDocument) resource(path string, schema *apiSchema) (*Resource, error) {
	if schema.Ref == "" {
		return nil, errors.New("the payload's schema is not named by a $ref")
	}
	name, schema, err := d.resolve(schema)
	if err != nil {
		return nil, err
	}
	root, err := d.fieldsOf(name, schema, 0)
	if err != nil {
		return nil, err
	}
	if d.properties += d.sizes[root]; d.properties > maxOpenAPIProperties {
		return nil, tooLarge()
	}
	r := &Resource{Path: path, Name: root.Name, Root: &Fields{Name: root.Name}}
	for _, p := range root.Properties {
		switch p.Name {
		case "id", "_etag", "_lastModifiedDate", "link":
		default:
			r.Root.Properties = append(r.Root.Properties, p)
		}
	}
	if r.asDescriptor() {
		return r, nil
	}
	return r, d.deduceKey(r)
}

// asDescriptor makes r a descriptor if it is one. Its key is namespace and code value, whatever the document says: some flag the
// database's own {x}DescriptorId.
func (r *Resource) asDescriptor() bool {
	if !strings.HasSuffix(r.Name, "Descriptor") {
		return false
	}
	codeValue, ok := rootProperty(r, "codeValue")
	if !ok || codeValue.Kind != String {
		return false
	}
	namespace, ok := rootProperty(r, "namespace")
	if !ok || namespace.Kind != String {
		return false
	}
	r.Descriptor = true
	surrogate := lowerFirst(r.Name) + "Id"
	r.Root.Properties = slices.DeleteFunc(r.Root.Properties, func(p *Property) bool { return p.Name == surrogate })
	for _, p := range []*Property{codeValue, namespace} {
		p.Identity, p.Required = true, true
		r.Key = append(r.Key, KeyPart{Name: p.Name, Paths: []string{p.Name}, Kind: String})
	}
	return true
}

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
		p.Kind, p.Scale = Decimal, -1
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
			return fmt.Errorf("array of %s, where an array of objects belongs", cmpOr(string(s.Type), "nothing"))
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
	if s.Minimum == nil && s.Maximum == nil {
		return
	}
	p.HasRange, p.Min, p.Max = true, math.MinInt32, math.MaxInt32
	if p.Kind == Long {
		p.Min, p.Max = math.MinInt64, math.MaxInt64
	}
	if s.Minimum != nil {
		p.Min = int64(max(*s.Minimum, float64(p.Min)))
	}
	if s.Maximum != nil && *s.Maximum < float64(p.Max) {
		p.Max = int64(*s.Maximum)
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

func cmpOr(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}
