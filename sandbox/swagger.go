package sandbox

import "strings"

// swagger2 turns an OpenAPI 3 document into the Swagger 2.0 an ODS/API 5 serves: the same schemas and operations, with bodies as parameters and
// types beside the names they belong to. It owns doc, whose values are those encoding/json reads into any.
func swagger2(doc object) object {
	components, _ := doc["components"].(object)
	delete(doc, "openapi")
	delete(doc, "components")
	doc["swagger"] = "2.0"
	doc["basePath"] = "/data/v3"
	doc["consumes"], doc["produces"] = []any{"application/json"}, []any{"application/json"}
	doc["definitions"], doc["parameters"], doc["responses"] = components["schemas"], components["parameters"], components["responses"]
	doc["securityDefinitions"] = object{"oauth2_client_credentials": object{
		"type": "oauth2", "flow": "application", "tokenUrl": "/oauth/token", "scopes": object{},
	}}
	return flatten(doc).(object)
}

// flatten rewrites what OpenAPI 3 nests deeper than Swagger 2.
func flatten(v any) any {
	switch v := v.(type) {
	case []any:
		for i := range v {
			v[i] = flatten(v[i])
		}
	case object:
		if body, ok := v["requestBody"].(object); ok {
			delete(v, "requestBody")
			params, _ := v["parameters"].([]any)
			v["parameters"] = append(params, object{
				"in": "body", "name": body["x-bodyName"], "required": body["required"], "content": body["content"],
			})
		}
		if content, ok := v["content"].(object); ok {
			if media, ok := content["application/json"].(object); ok {
				delete(v, "content")
				v["schema"] = media["schema"]
			}
		}
		if in, ok := v["in"].(string); ok && in != "body" {
			unnest(v)
		}
		if headers, ok := v["headers"].(object); ok {
			for _, h := range headers {
				if h, ok := h.(object); ok {
					unnest(h)
				}
			}
		}
		for name, member := range v {
			if text, ok := member.(string); ok && name == "$ref" {
				v[name] = strings.NewReplacer("#/components/schemas/", "#/definitions/", "#/components/", "#/").Replace(text)
				continue
			}
			v[name] = flatten(member)
		}
	}
	return v
}

// unnest moves the members of a schema up to what it describes.
func unnest(v object) {
	inner, ok := v["schema"].(object)
	if !ok {
		return
	}
	delete(v, "schema")
	for name, member := range inner {
		v[name] = member
	}
}
