package sandbox

import (
	"net/http"
	"slices"
	"strings"

	"github.com/edfisync/edfisync/schema"
)

// The version this sandbox passes for.
const (
	apiVersion       = "7.3"
	apiInformational = "7.3.2"
	apiSuite         = "3"
	apiBuild         = "7.3.2.0"
)

type rootDocument struct {
	Version              string            `json:"version"`
	ApplicationName      string            `json:"applicationName"`
	InformationalVersion string            `json:"informationalVersion"`
	Suite                string            `json:"suite"`
	Build                string            `json:"build"`
	DataModels           []dataModel       `json:"dataModels"`
	URLs                 map[string]string `json:"urls"`
}

type dataModel struct {
	Name                 string `json:"name"`
	Version              string `json:"version"`
	InformationalVersion string `json:"informationalVersion"`
}

func (s *Server) serveRoot(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet {
		s.refuse(w, r, unsupportedMethod(r.Method))
		return
	}
	base := s.base(r)
	writeJSON(w, http.StatusOK, rootDocument{
		Version: apiVersion, ApplicationName: "Ed-Fi Alliance ODS/API", InformationalVersion: apiInformational, Suite: apiSuite, Build: apiBuild,
		DataModels: s.cat.dataModels(),
		URLs: map[string]string{
			"dependencies":            base + "/metadata/data/v3/dependencies",
			"openApiMetadata":         base + "/metadata/",
			"oauth":                   base + "/oauth/token",
			"oauthTokenIntrospection": base + "/oauth/token_info",
			"dataManagementApi":       base + "/data/v3/",
			"changeQueries":           base + changeQueriesPrefix,
		},
	})
}

// dataModels are the standard and, by the schema segment of their paths, the extensions.
func (c *catalog) dataModels() []dataModel {
	out := []dataModel{{"Ed-Fi", c.model.Standard, strings.TrimSpace("The Ed-Fi Data Model " + c.model.Standard)}}
	for _, t := range c.tables {
		segment, _, _ := strings.Cut(t.path, "/")
		known := segment == "ed-fi" || slices.ContainsFunc(out, func(m dataModel) bool { return m.Name == segment })
		if !known {
			out = append(out, dataModel{Name: segment, InformationalVersion: "Extension " + segment})
		}
	}
	return out
}

type metadataSection struct {
	Name        string `json:"name"`
	EndpointURI string `json:"endpointUri"`
	Prefix      string `json:"prefix"`
}

// serveMetadata answers the listing, the two OpenAPI documents and the dependencies; all anonymous.
func (s *Server) serveMetadata(w http.ResponseWriter, r *http.Request, path string) {
	if r.Method != http.MethodGet {
		s.refuse(w, r, unsupportedMethod(r.Method))
		return
	}
	switch strings.ToLower(path) {
	case "":
		base := s.base(r)
		writeJSON(w, http.StatusOK, []metadataSection{
			{"Descriptors", base + "/metadata/data/v3/descriptors/swagger.json", ""},
			{"Resources", base + "/metadata/data/v3/resources/swagger.json", ""},
		})
	case "data/v3/resources/swagger.json":
		s.sendDocument(w, r, s.docs.resources())
	case "data/v3/descriptors/swagger.json":
		s.sendDocument(w, r, s.docs.descriptors())
	case "data/v3/dependencies":
		s.serveDependencies(w, r)
	default:
		s.refuse(w, r, notFound(textNoResource))
	}
}

// serveDependencies answers with the load order, as JSON or as the graph it comes from.
func (s *Server) serveDependencies(w http.ResponseWriter, r *http.Request) {
	if strings.Contains(r.Header.Get("Accept"), "application/graphml") {
		graph, err := schema.DependencyGraph(s.cat.model)
		if err != nil {
			s.refuse(w, r, badRequest(err.Error()))
			return
		}
		w.Header().Set("Content-Type", "application/graphml")
		_, _ = w.Write(graph.GraphML()) // the client has gone when this fails
		return
	}
	deps, err := s.docs.dependencies()
	if err != nil {
		s.refuse(w, r, badRequest(err.Error()))
		return
	}
	writeJSON(w, http.StatusOK, deps)
}

// sendDocument sends a metadata document with an ETag, which If-None-Match may quote (here the ODS wants it quoted).
func (s *Server) sendDocument(w http.ResponseWriter, r *http.Request, doc document) {
	w.Header().Set("Etag", doc.etag)
	if r.Header.Get("If-None-Match") == doc.etag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	s.send(w, doc.text)
}
