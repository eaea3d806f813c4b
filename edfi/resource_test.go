package edfi

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestPostTellsWhatTheTargetDid(t *testing.T) {
	t.Parallel()
	h := newHost(t, nil)
	var got *http.Request
	var body string
	answer := http.StatusCreated
	h.data("POST /ed-fi/students", func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		got, body = r, string(b)
		w.Header().Set("Location", h.URL+"/api/data/v3/ed-fi/students/"+testID)
		w.Header().Set("ETag", `"525"`)
		w.WriteHeader(answer)
	})
	c := h.client(t, func(c *Config) { c.UserAgent = "edfisync/1" })
	for status, want := range map[int]Answer{
		201: {Status: 201, ID: testID, ETag: "525", Created: true},
		200: {Status: 200, ID: testID, ETag: "525"}, // F10
	} {
		answer = status
		have, err := c.Post(t.Context(), "ed-fi/students", []byte(`{"a":1}`))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, have); diff != "" {
			t.Errorf("answer (-want +got):\n%s", diff)
		}
	}
	if body != `{"a":1}` || got.ContentLength != 7 || got.Header.Get("Content-Type") != "application/json" || got.Header.Get("User-Agent") != "edfisync/1" {
		t.Errorf("request body %q, headers %v", body, got.Header)
	}
	if got.Header.Get("If-None-Match") != "" {
		t.Error("a post is conditional")
	}
	if _, err := c.Create(t.Context(), "ed-fi/students", []byte(`{}`)); err != nil || got.Header.Get("If-None-Match") != "*" {
		t.Errorf("create: %v, If-None-Match %q", err, got.Header.Get("If-None-Match"))
	}
}

func TestLocations(t *testing.T) {
	t.Parallel()
	const id = "BASE/api/data/v3/ed-fi/students/" + testID
	for name, tt := range map[string]struct{ location, want string }{
		"absolute":                      {id, testID},
		"relative (F13)":                {"/api/data/v3/ed-fi/students/" + testID, testID},
		"in another case (F13)":         {strings.ToUpper("BASE/api/data/v3/ed-fi/students/") + testID, testID},
		"with a trailing slash (F13)":   {id + "/", testID},
		"with a query":                  {id + "?a=b", testID},
		"on another host (F12)":         {"https://inner.example.org:8443/x/ed-fi/students/" + testID, testID},
		"with the dashes of a DMS":      {"BASE/api/data/ed-fi/students/01234567-89ab-cdef-0123-456789abcdef", "01234567-89ab-cdef-0123-456789abcdef"},
		"the collection":                {"BASE/api/data/v3/ed-fi/students", ""},
		"the collection in other case":  {"BASE/api/data/v3/ed-fi/Students/", ""},
		"absent":                        {"", ""},
		"not a URL":                     {"http://[::1", ""},
		"an id with forbidden letters":  {"BASE/api/data/v3/ed-fi/students/a%20b", ""},
		"an id that leads somewhere":    {"BASE/api/data/v3/ed-fi/students/..", ""},
		"an id that is far too long":    {"BASE/api/data/v3/ed-fi/students/" + strings.Repeat("a", 65), ""},
		"an opaque address":             {"mailto:students", ""},
		"a host and nothing behind it":  {"BASE", ""},
		"spaces around":                 {" " + id + " ", testID},
		"an encoded slash in the path ": {"BASE/api/data/v3/ed-fi/students%2F" + testID, testID},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u, _ := url.Parse("https://api.example.org/api/data/v3/ed-fi/students")
			r := &route{name: "ed-fi/students", url: u, prefix: u.String() + "/", last: "students"}
			c := &core{log: Config{}.withDefaults().Logger}
			if got := c.locationID(strings.ReplaceAll(tt.location, "BASE", "https://api.example.org"), r); got != tt.want {
				t.Errorf("id %q, want %q", got, tt.want)
			}
		})
	}
}

func FuzzLocation(f *testing.F) {
	f.Add("https://api.example.org/data/v3/ed-fi/students/" + testID)
	f.Add("/data/v3/ed-fi/students/")
	f.Add("//host")
	f.Add("http://[::1")
	f.Fuzz(func(t *testing.T, location string) {
		id, _ := parseLocation(location, "students")
		if id != "" && (!safeItemID(id) || strings.EqualFold(id, "students") || !strings.Contains(strings.ToLower(location), strings.ToLower(id)) && !strings.Contains(location, "%")) {
			t.Errorf("id %q of %q", id, location)
		}
	})
}

func TestPutAndDelete(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name     string
		root     func(string) map[string]any
		path     string
		wantBody string
	}{
		{"an ODS gets the body as it is", plainRoot, "/api/data/v3/ed-fi/students/" + testID, `{"a":1}`},
		{"a DMS gets the id in the body", dmsRoot, "/api/data/ed-fi/students/" + testID, `{"id":"` + testID + `","a":1}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t, tt.root)
			var body, match string
			h.mux.HandleFunc(tt.path, func(w http.ResponseWriter, r *http.Request) {
				b, _ := io.ReadAll(r.Body)
				body, match = string(b), r.Header.Get("If-Match")
				w.Header().Set("ETag", `"7"`)
				w.WriteHeader(http.StatusNoContent)
			})
			c := h.client(t)
			answer, err := c.Put(t.Context(), "ed-fi/students", testID, []byte(`{"a":1}`))
			if err != nil || body != tt.wantBody || match != "" {
				t.Errorf("put: %v, body %s, If-Match %q; want body %s", err, body, match, tt.wantBody)
			}
			if diff := cmp.Diff(Answer{Status: 204, ID: testID, ETag: "7"}, answer); diff != "" {
				t.Errorf("answer (-want +got):\n%s", diff)
			}
			if _, err := c.PutMatching(t.Context(), "ed-fi/students", testID, "6", []byte(`{"a":1}`)); err != nil || match != `"6"` {
				t.Errorf("put matching: %v, If-Match %q", err, match)
			}
			if _, err := c.Delete(t.Context(), "ed-fi/students", testID); err != nil || body != "" || match != "" {
				t.Errorf("delete: %v, body %q, If-Match %q", err, body, match)
			}
			if _, err := c.DeleteMatching(t.Context(), "ed-fi/students", testID, "6"); err != nil || match != `"6"` {
				t.Errorf("delete matching: %v, If-Match %q", err, match)
			}
		})
	}
}

func TestWithID(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{
		`{}`:            `{"id":"x"}`,
		` { } `:         `{"id":"x"}`,
		`{"a":{}}`:      `{"id":"x","a":{}}`,
		"\n{\n\"a\":1}": `{"id":"x","a":1}`,
	} {
		got, err := withID([]byte(body), "x")
		if err != nil || string(got) != want || !json.Valid(got) {
			t.Errorf("%q with id is %q, %v; want %q", body, got, err, want)
		}
	}
	if _, err := withID([]byte(`[]`), "x"); err == nil {
		t.Error("an array got an id")
	}
}

func TestAMissingItemIsNotFound(t *testing.T) { // F26
	t.Parallel()
	h := newHost(t, nil)
	h.data("/ed-fi/students/"+testID, problemAnswer(404, "not-found"))
	h.data("/ed-fi/sections/"+testID, func(w http.ResponseWriter, r *http.Request) { http.NotFound(w, r) })
	c := h.client(t, func(c *Config) { c.MaxRetries = -1 })
	_, put := c.Put(t.Context(), "ed-fi/students", testID, []byte(`{}`))
	_, del := c.Delete(t.Context(), "ed-fi/students", testID)
	_, _, get := c.Get(t.Context(), "ed-fi/students", testID)
	for verb, err := range map[string]error{"put": put, "delete": del, "get": get} {
		if ClassOf(err) != NotFound || failureOf(t, err).Sent {
			t.Errorf("%s: %v, want not found, surely without effect", verb, err)
		}
	}
	if _, err := c.Delete(t.Context(), "ed-fi/sections", testID); ClassOf(err) != Transient {
		t.Errorf("a 404 that is not the API's: %v, want transient", err)
	}
}

func TestNamesAndIDsThatWouldLeadElsewhereAreRefused(t *testing.T) {
	t.Parallel()
	h := newHost(t, nil)
	c := h.client(t)
	for _, resource := range []string{"", "students", "ed-fi/students/x", "ed-fi/../oauth", "ed-fi/students?limit=1", "ed-fi//students", "http://x/y"} {
		if _, err := c.Post(t.Context(), resource, []byte(`{}`)); err == nil {
			t.Errorf("resource %q is accepted", resource)
		}
	}
	for _, id := range []string{"", "..", "a/b", "a b", "a?b", "ä", strings.Repeat("a", 65)} {
		if _, err := c.Delete(t.Context(), "ed-fi/students", id); err == nil {
			t.Errorf("id %q is accepted", id)
		}
	}
	if got := h.tokenCalls.Load(); got != 0 {
		t.Errorf("%d token calls for calls that are refused, want 0", got)
	}
}

func TestGet(t *testing.T) {
	t.Parallel()
	h := newHost(t, nil)
	h.data("GET /ed-fi/students/"+testID, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("ETag", `"7"`)
		writeJSON(w, 200, map[string]string{"id": testID})
	})
	h.data("GET /ed-fi/sections/"+testID, htmlPage)
	h.data("GET /ed-fi/courses/"+testID, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"id":`) })
	c := h.client(t, func(c *Config) { c.MaxRetries = 1 })
	body, etag, err := c.Get(t.Context(), "ed-fi/students", testID)
	if err != nil || etag != "7" || !strings.Contains(string(body), testID) {
		t.Errorf("get: %s %q %v", body, etag, err)
	}
	for _, resource := range []string{"ed-fi/sections", "ed-fi/courses"} { // F9, F8
		if _, _, err := c.Get(t.Context(), resource, testID); failureOf(t, err).Code != "not-the-api" || failureOf(t, err).Attempts != 2 {
			t.Errorf("get of what is no JSON: %v", err)
		}
	}
}

func TestFindByKey(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		answer string
		id     string
		found  bool
		err    error
		code   string
	}{
		{name: "nothing", answer: `[]`},
		{name: "the item", answer: `[{"id":"` + testID + `","studentUniqueId":"1"}]`, id: testID, found: true},
		{name: "several: the target ignores a parameter", answer: `[{"id":"a"},{"id":"b"}]`, err: ErrAmbiguous},
		{name: "an item without an id", answer: `[{"studentUniqueId":"1"}]`, code: "not-the-api"},
		{name: "an object", answer: `{"id":"a"}`, code: "not-the-api"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t, nil)
			var query url.Values
			h.data("GET /ed-fi/students", func(w http.ResponseWriter, r *http.Request) {
				query = r.URL.Query()
				_, _ = io.WriteString(w, tt.answer)
			})
			c := h.client(t)
			key := url.Values{"descriptor": {"uri://ed-fi.org/XDescriptor#a b"}, "studentUniqueId": {"1"}}
			id, body, found, err := c.FindByKey(t.Context(), "ed-fi/students", key)
			if tt.err == nil && tt.code == "" && err != nil || tt.err != nil && !errors.Is(err, tt.err) || tt.code != "" && failureOf(t, err).Code != tt.code {
				t.Fatalf("error %v, want %v %s", err, tt.err, tt.code)
			}
			if id != tt.id || found != tt.found || found && !strings.Contains(string(body), `"studentUniqueId":"1"`) {
				t.Errorf("got %q %s %v, want %q %v", id, body, found, tt.id, tt.found)
			}
			if query.Get("descriptor") != key.Get("descriptor") || query.Get("limit") != "2" {
				t.Errorf("query %v", query)
			}
		})
	}
	c := newHost(t, nil).client(t)
	if _, _, _, err := c.FindByKey(t.Context(), "ed-fi/students", nil); err == nil {
		t.Error("an empty key is looked up")
	}
}
