package edfi

import (
	"net/http"
	"strings"
	"testing"

	"github.com/edfisync/edfisync/schema"
	"github.com/google/go-cmp/cmp"
)

// anonymous answers a document and complains about a token: metadata is public, and the token is not for it.
func anonymous(t *testing.T, body string, h *host) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" {
			t.Errorf("a token is sent to %s", r.URL.Path)
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(strings.ReplaceAll(body, "BASE", h.URL+"/api")))
	}
}

func TestDependencies(t *testing.T) {
	t.Parallel()
	h := newHost(t, nil)
	h.mux.HandleFunc("GET /api/metadata/data/v3/dependencies", anonymous(t, `[{"resource":"/ed-fi/students","order":3,"operations":["Create"]}]`, h))
	got, err := h.client(t).Dependencies(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]schema.Dependency{{Resource: "/ed-fi/students", Order: 3, Operations: []string{"Create"}}}, got); diff != "" {
		t.Errorf("dependencies (-want +got):\n%s", diff)
	}
	other := newHost(t, dmsRoot)
	other.mux.HandleFunc("GET /api/metadata/dependencies", anonymous(t, `{"a":1}`, other))
	if _, err := other.client(t, func(c *Config) { c.MaxRetries = -1 }).Dependencies(t.Context()); failureOf(t, err).Code != "not-the-api" {
		t.Errorf("dependencies that are none: %v", err)
	}
}

func TestOpenAPI(t *testing.T) {
	t.Parallel()
	array := `[{"name":"Identity","endpointUri":"BASE/metadata/identity/v2/swagger.json","prefix":"Other"},
		{"name":"Descriptors","endpointUri":"http://inner:8080/metadata/data/v3/descriptors/swagger.json","prefix":""},
		{"name":"Resources","endpointUri":"BASE/metadata/data/v3/resources/swagger.json","prefix":""}]`
	t.Run("the list of an ODS", func(t *testing.T) {
		t.Parallel()
		h := newHost(t, nil)
		array := strings.ReplaceAll(array, "http://inner:8080", "http://inner:8080/api")
		h.mux.HandleFunc("GET /api/metadata/", anonymous(t, array, h))
		h.mux.HandleFunc("GET /api/metadata/data/v3/resources/swagger.json", anonymous(t, `{"r":1}`, h))
		h.mux.HandleFunc("GET /api/api/metadata/data/v3/descriptors/swagger.json", http.NotFound)
		h.mux.HandleFunc("GET /api/metadata/data/v3/descriptors/swagger.json", anonymous(t, `{"d":1}`, h))
		resources, descriptors, err := h.client(t).OpenAPI(t.Context())
		if err != nil || string(resources) != `{"r":1}` || string(descriptors) != `{"d":1}` {
			t.Errorf("got %s, %s, %v", resources, descriptors, err)
		}
	})
	t.Run("the object of a DMS", func(t *testing.T) {
		t.Parallel()
		h := newHost(t, func(base string) map[string]any {
			root := dmsRoot(base)
			root["urls"].(map[string]string)["openApiMetadata"] = base + "/metadata"
			return root
		})
		h.mux.HandleFunc("GET /api/metadata", anonymous(t, `{"dependencies":"BASE/metadata/dependencies","specifications":"BASE/metadata/specifications"}`, h))
		h.mux.HandleFunc("GET /api/metadata/specifications", anonymous(t, `[{"name":"Resources","endpointUri":"BASE/metadata/specifications/resources-spec.json","prefix":""},{"name":"Descriptor docs","endpointUri":"BASE/metadata/specifications/descriptors-spec.json","prefix":"x"}]`, h))
		h.mux.HandleFunc("GET /api/metadata/specifications/resources-spec.json", anonymous(t, `{"r":1}`, h))
		h.mux.HandleFunc("GET /api/metadata/specifications/descriptors-spec.json", anonymous(t, `{"d":1}`, h))
		resources, descriptors, err := h.client(t, func(c *Config) { c.MaxRetries = -1 }).OpenAPI(t.Context())
		if err != nil || string(resources) != `{"r":1}` || string(descriptors) != `{"d":1}` {
			t.Errorf("got %s, %s, %v", resources, descriptors, err)
		}
	})
	t.Run("a host without it", func(t *testing.T) {
		t.Parallel()
		h := newHost(t, func(base string) map[string]any {
			root := plainRoot(base)
			delete(root["urls"].(map[string]string), "openApiMetadata")
			return root
		})
		if _, _, err := h.client(t).OpenAPI(t.Context()); failureOf(t, err).Code != "no-openapi" {
			t.Errorf("got %v, want no-openapi", err)
		}
	})
}

func TestTokenInfo(t *testing.T) {
	t.Parallel()
	h := newHost(t, nil)
	h.mux.HandleFunc("POST /api/oauth/token_info", func(w http.ResponseWriter, r *http.Request) {
		if !h.authorized(r) || r.PostFormValue("token") != strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ") {
			writeJSON(w, 401, map[string]string{"type": typePrefix + "security:authentication"})
			return
		}
		_, _ = w.Write([]byte(`{"active":true,"client_id":"key","namespace_prefixes":["uri://ed-fi.org"],
			"education_organizations":[{"education_organization_id":255901,"name_of_institution":"North","type":"edfi.LocalEducationAgency"}],
			"assigned_profiles":[],"claim_set":{"name":"SIS Vendor"},"resources":[{"resource":"/ed-fi/students","operations":["Create","Read"]}]}`))
	})
	c := h.client(t)
	if err := c.Login(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.expire() // token_info is asked with an expired token, which has to be renewed in header and body
	info, err := c.TokenInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := &TokenInfo{
		Active: true, ClientID: "key", NamespacePrefixes: []string{"uri://ed-fi.org"}, AssignedProfiles: []string{},
		EducationOrganizations: []EducationOrganization{{ID: 255901, Name: "North", Type: "edfi.LocalEducationAgency"}},
		Resources:              []ResourceClaim{{Resource: "/ed-fi/students", Operations: []string{"Create", "Read"}}},
	}
	want.ClaimSet.Name = "SIS Vendor"
	if diff := cmp.Diff(want, info); diff != "" {
		t.Errorf("token info (-want +got):\n%s", diff)
	}
	if got := h.tokenCalls.Load(); got != 2 {
		t.Errorf("%d token calls, want 2", got)
	}
}
