package edfi_test

import (
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/edfisync/edfisync/edfi"
	"github.com/edfisync/edfisync/sandbox"
	"github.com/edfisync/edfisync/schema"
)

// connect starts a sandbox of the data standard and connects to it.
func connect(t *testing.T, standard string) *edfi.Client {
	t.Helper()
	model, err := schema.Bundled(standard)
	if err != nil {
		t.Fatal(err)
	}
	s, err := sandbox.New(sandbox.Options{Model: model, ClientID: "key", ClientSecret: "secret", SchoolYears: []int{2027}})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(s.Handler())
	t.Cleanup(func() {
		server.Close()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	c, err := edfi.Connect(t.Context(), edfi.Config{BaseURL: server.URL, ClientID: "key", ClientSecret: "secret", RetryWait: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// TestARecordsLifeInTheSandbox follows records of a whole API from creation to deletion, errors included.
func TestARecordsLifeInTheSandbox(t *testing.T) {
	t.Parallel()
	for _, standard := range schema.BundledVersions() {
		t.Run(standard, func(t *testing.T) {
			t.Parallel()
			c := connect(t, standard)
			ctx := t.Context()
			if got := c.Info().Standard; !strings.HasPrefix(got, standard) {
				t.Errorf("standard %s, want %s", got, standard)
			}
			body := func(course, title string) []byte {
				return fmt.Appendf(nil, `{"courseCode":%q,"courseTitle":%q,"numberOfParts":1,"educationOrganizationReference":{"educationOrganizationId":255901},`+
					`"identificationCodes":[{"courseIdentificationSystemDescriptor":"uri://ed-fi.org/CourseIdentificationSystemDescriptor#LEA course code","identificationCode":%q}]}`, course, title, course)
			}
			_, err := c.Post(ctx, "ed-fi/courses", body("ALG-1", "Algebra"))
			if edfi.ClassOf(err) != edfi.Blocked {
				t.Fatalf("course of an agency that is not there: %v, want blocked", err)
			}
			agency := `{"localEducationAgencyId":255901,"nameOfInstitution":"North",` +
				`"localEducationAgencyCategoryDescriptor":"uri://ed-fi.org/LocalEducationAgencyCategoryDescriptor#Regular public school district",` +
				`"categories":[{"educationOrganizationCategoryDescriptor":"uri://ed-fi.org/EducationOrganizationCategoryDescriptor#Local Education Agency"}]}`
			parent, err := c.Post(ctx, "ed-fi/localEducationAgencies", []byte(agency))
			if err != nil {
				t.Fatal(err)
			}
			created, err := c.Post(ctx, "ed-fi/courses", body("ALG-1", "Algebra"))
			if err != nil || !created.Created || created.ID == "" || created.ETag == "" {
				t.Fatalf("post: %+v, %v", created, err)
			}
			again, err := c.Post(ctx, "ed-fi/courses", body("ALG-1", "Algebra I"))
			if err != nil || again.Created || again.ID != created.ID {
				t.Errorf("second post: %+v, %v, want the same id and no creation", again, err)
			}
			put, err := c.Put(ctx, "ed-fi/courses", created.ID, body("ALG-1", "Algebra One"))
			if err != nil || put.Status != 204 || put.ID != created.ID {
				t.Errorf("put: %+v, %v", put, err)
			}
			if _, err = c.PutMatching(ctx, "ed-fi/courses", created.ID, created.ETag, body("ALG-1", "Algebra")); err == nil || err.(*edfi.Error).Status != 412 {
				t.Errorf("put with an old ETag: %v, want 412", err)
			}
			item, etag, err := c.Get(ctx, "ed-fi/courses", created.ID)
			if err != nil || !strings.Contains(string(item), "Algebra One") || etag != put.ETag {
				t.Errorf("get: %s, ETag %s, %v; want ETag %s", item, etag, err, put.ETag)
			}
			key := url.Values{"courseCode": {"ALG-1"}, "educationOrganizationId": {"255901"}}
			if id, _, found, err := c.FindByKey(ctx, "ed-fi/courses", key); err != nil || !found || id != created.ID {
				t.Errorf("find: %s %v %v, want %s", id, found, err, created.ID)
			}
			if _, err := c.Post(ctx, "ed-fi/courses", []byte(`{"courseCode":"X"}`)); edfi.ClassOf(err) != edfi.Invalid {
				t.Errorf("incomplete course: %v, want invalid", err)
			}
			if _, err := c.Put(ctx, "ed-fi/courses", created.ID, body("ALG-2", "Algebra")); edfi.ClassOf(err) != edfi.Rejected {
				t.Errorf("changed key: %v, want rejected", err)
			}
			for i := range 12 {
				if _, err := c.Post(ctx, "ed-fi/courses", body(fmt.Sprintf("C-%d", i), "Course")); err != nil {
					t.Fatal(err)
				}
			}
			seen := map[string]bool{}
			if err := c.Each(ctx, "ed-fi/courses", edfi.PageOptions{Limit: 5}, func(raw json.RawMessage) error {
				var course struct{ CourseCode string }
				err := json.Unmarshal(raw, &course)
				seen[course.CourseCode] = true
				return err
			}); err != nil || len(seen) != 13 {
				t.Errorf("walk: %d courses, %v; want 13", len(seen), err)
			}
			if _, err := c.Delete(ctx, "ed-fi/localEducationAgencies", parent.ID); edfi.ClassOf(err) != edfi.Blocked || !strings.Contains(err.Error(), "Course") {
				t.Errorf("delete of what a course refers to: %v, want blocked by Course", err)
			}
			if _, err := c.Delete(ctx, "ed-fi/courses", created.ID); err != nil {
				t.Errorf("delete: %v", err)
			}
			if _, err := c.Delete(ctx, "ed-fi/courses", created.ID); edfi.ClassOf(err) != edfi.NotFound {
				t.Errorf("second delete: %v, want not found", err)
			}
			if _, err := c.Post(ctx, "ed-fi/nonsenses", []byte(`{}`)); edfi.ClassOf(err) != edfi.Rejected {
				t.Errorf("post to a resource that does not exist: %v, want rejected", err)
			}
		})
	}
}

func TestTheSandboxDescribesItself(t *testing.T) {
	t.Parallel()
	c := connect(t, "5.2")
	dependencies, err := c.Dependencies(t.Context())
	if err != nil || !slices.ContainsFunc(dependencies, func(d schema.Dependency) bool { return d.Resource == "/ed-fi/students" }) {
		t.Errorf("dependencies: %d entries, %v", len(dependencies), err)
	}
	resources, descriptors, err := c.OpenAPI(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	model, err := schema.ReadOpenAPI(resources, descriptors)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := model.Resource("ed-fi/students"); !ok {
		t.Error("the OpenAPI document has no students")
	}
	info, err := c.TokenInfo(t.Context())
	if err != nil || !info.Active {
		t.Errorf("token info: %+v, %v", info, err)
	}
}
