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

// TestChangesAreReadFromTheSandbox follows changes of a resource by change version, page by page, through deletions, key changes and a restore.
func TestChangesAreReadFromTheSandbox(t *testing.T) {
	t.Parallel()
	model, err := schema.Bundled("5.2")
	if err != nil {
		t.Fatal(err)
	}
	s, err := sandbox.New(sandbox.Options{Model: model, ClientID: "key", ClientSecret: "secret", SchoolYears: []int{2027}, PageLimit: 7})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(s.Handler())
	t.Cleanup(server.Close)
	c, err := edfi.Connect(t.Context(), edfi.Config{BaseURL: server.URL, ClientID: "key", ClientSecret: "secret", RetryWait: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	ctx := t.Context()
	newest := func() int64 {
		t.Helper()
		v, err := c.ChangeVersions(ctx)
		if err != nil || v.Oldest != 0 {
			t.Fatalf("got %+v, %v", v, err)
		}
		return v.Newest
	}
	post := func(resource, body string) string {
		t.Helper()
		a, err := c.Post(ctx, resource, []byte(body))
		if err != nil {
			t.Fatal(err)
		}
		return a.ID
	}
	post("ed-fi/schools", `{"schoolId":1,"nameOfInstitution":"North","educationOrganizationCategories":[{"educationOrganizationCategoryDescriptor":"uri://ed-fi.org/EducationOrganizationCategoryDescriptor#School"}],"gradeLevels":[{"gradeLevelDescriptor":"uri://ed-fi.org/GradeLevelDescriptor#Ninth grade"}]}`)
	var ids []string
	for i := range 30 {
		ids = append(ids, post("ed-fi/classPeriods", fmt.Sprintf(`{"classPeriodName":"P%02d","schoolReference":{"schoolId":1}}`, i)))
	}
	before := newest()
	s.Snapshot("before")
	for i, id := range ids {
		var err error
		switch {
		case i < 12:
			_, err = c.Delete(ctx, "ed-fi/classPeriods", id)
		case i < 22:
			_, err = c.Put(ctx, "ed-fi/classPeriods", id, fmt.Appendf(nil, `{"classPeriodName":"Q%02d","schoolReference":{"schoolId":1}}`, i))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	window := edfi.PageOptions{MinChangeVersion: before + 1, MaxChangeVersion: newest(), Limit: 5}
	count := func(o edfi.PageOptions) (changed, deleted, rekeyed int) {
		t.Helper()
		seen := map[string]bool{}
		once := func(id string) error {
			if seen[id] {
				return fmt.Errorf("%s came twice", id)
			}
			seen[id] = true
			return nil
		}
		err := c.Each(ctx, "ed-fi/classPeriods", o, func(item json.RawMessage) error {
			changed++
			var v struct{ ID string }
			if err := json.Unmarshal(item, &v); err != nil {
				return err
			}
			return once(v.ID)
		})
		if err != nil {
			t.Fatal(err)
		}
		err = c.Deletes(ctx, "ed-fi/classPeriods", o, func(d edfi.Deletion) error {
			deleted++
			if want := fmt.Sprintf(`{"classPeriodName":"P%02d","schoolId":1}`, slices.Index(ids, d.ID)); string(d.KeyValues) != want || d.ChangeVersion <= before {
				return fmt.Errorf("got %s at %d, want %s", d.KeyValues, d.ChangeVersion, want)
			}
			return once(d.ID)
		})
		if err != nil {
			t.Fatal(err)
		}
		clear(seen)
		err = c.KeyChanges(ctx, "ed-fi/classPeriods", o, func(k edfi.KeyChange) error {
			rekeyed++
			i := slices.Index(ids, k.ID)
			want := fmt.Sprintf(`{"classPeriodName":"P%02d","schoolId":1}{"classPeriodName":"Q%02d","schoolId":1}`, i, i)
			if got := string(k.OldKeyValues) + string(k.NewKeyValues); got != want {
				return fmt.Errorf("got %s, want %s", got, want)
			}
			return once(k.ID)
		})
		if err != nil {
			t.Fatal(err)
		}
		return changed, deleted, rekeyed
	}
	if a, d, k := count(window); a != 10 || d != 12 || k != 10 {
		t.Errorf("%d changed, %d deleted, %d re-keyed; want 10, 12, 10", a, d, k)
	}
	if a, d, k := count(edfi.PageOptions{Limit: 500}); a != 18 || d != 12 || k != 10 { // more than the target allows
		t.Errorf("in all: %d, %d deleted, %d re-keyed; want 18, 12, 10", a, d, k)
	}
	if err := s.Restore("before"); err != nil {
		t.Fatal(err)
	}
	if got := newest(); got != before {
		t.Errorf("change version %d after a restore, want %d", got, before)
	}
	if a, d, k := count(edfi.PageOptions{}); a != 30 || d != 0 || k != 0 {
		t.Errorf("after a restore: %d, %d deleted, %d re-keyed; want 30, 0, 0", a, d, k)
	}
	if err := s.Wipe(); err != nil {
		t.Fatal(err)
	}
	if got := newest(); got >= before {
		t.Errorf("change version %d after a wipe, want less than %d", got, before)
	}
}
