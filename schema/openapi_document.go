package schema

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
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
	Minimum      json.Number           `json:"minimum"`
	Maximum      json.Number           `json:"maximum"`
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
