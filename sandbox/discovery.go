package sandbox

import (
	"net/http"
	"slices"
	"strings"

	"github.com/edfisync/edfisync/schema"
)

type rootDocument struct {
	Version              string            `json:"version"`
	ApplicationName      string            `json:"applicationName,omitempty"`
	InformationalVersion string            `json:"informationalVersion"`
	Suite                string            `json:"suite"`
	Build                string            `json:"build"`
	APIMode              string            `json:"apiMode,omitempty"`
	DataModels           []dataModel       `json:"dataModels"`
	URLs                 map[string]string `json:"urls"`
}

type dataModel struct {
	Name                 string `json:"name"`
	Version              string `json:"version"`
	InformationalVersion string `json:"informationalVersion"`
}

// serveRoot answers with the root document; as a template, when the host's own root is asked and tenant or year come behind it.
func (s *Server) serveRoot(w http.ResponseWriter, r *http.Request, template bool) {
	if r.Method != http.MethodGet {
		s.refuse(w, r, unsupportedMethod(r.Method))
		return
	}
	writeJSON(w, http.StatusOK, rootDocument{
		Version: s.like.version, ApplicationName: s.like.application, InformationalVersion: s.like.informational, Suite: apiSuite, Build: s.like.build,
		APIMode: s.like.apiMode(s.routes), DataModels: s.cat.dataModels(), URLs: s.like.urls(s.base(r), s.routes, template),
	})
}

const apiSuite = "3"

// serveMetadataIndex answers what a DMS has at /metadata: where the lists are.
func (s *Server) serveMetadataIndex(w http.ResponseWriter, r *http.Request) {
	at := s.base(r) + s.routes.root + "/metadata/"
	writeJSON(w, http.StatusOK, map[string]string{"dependencies": at + "dependencies", "specifications": at + "specifications"})
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
		writeJSON(w, http.StatusOK, s.like.sections(s.base(r), s.routes))
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
