package source

import (
	"os"
	"regexp"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/edfisync/edfisync/schema"
)

// TestTheGuideIsTrue runs the chapter "A pack from nothing" of the mapping guide.
func TestTheGuideIsTrue(t *testing.T) {
	t.Parallel()
	guide, err := os.ReadFile("../docs/mapping-guide.md")
	if err != nil {
		t.Fatal(err)
	}
	fsys := fstest.MapFS{}
	sis := ""
	for _, m := range regexp.MustCompile("(?s)```(?:sql|yaml) (\\S+)\n(.*?)```").FindAllSubmatch(guide, -1) {
		if name := string(m[1]); name == "sis.sql" {
			sis = string(m[2])
		} else {
			fsys[name] = &fstest.MapFile{Data: m[2]}
		}
	}
	path, _ := sqliteFile(t, sis)
	d := open(t, Config{Driver: SQLite, DSN: path})
	bound, err := d.Check(t.Context(), load(t, SQLite, fsys), model(t), schema.Rules{Version: 1}, nil)
	if err != nil {
		t.Fatal(err)
	}
	s := snapshot(t, d)
	var got []string
	for _, b := range bound {
		r, err := s.Open(t.Context(), b.Query)
		if err != nil {
			t.Fatal(err)
		}
		var batch Batch
		for r.Next(t.Context(), &batch) == nil {
			for i := range batch.Len() {
				var out schema.Encoded
				b.Template.Encode(b.Values(batch.Row(i)), &out)
				if len(out.Problems) > 0 {
					t.Errorf("%s: %v", b.Query.File, out.Problems)
				}
				got = append(got, string(out.Wire))
			}
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	}
	want := []string{
		`{"educationOrganizationCategories":[{"educationOrganizationCategoryDescriptor":"uri://ed-fi.org/EducationOrganizationCategoryDescriptor#School"}],` +
			`"gradeLevels":[{"gradeLevelDescriptor":"uri://ed-fi.org/GradeLevelDescriptor#First grade"},{"gradeLevelDescriptor":"uri://ed-fi.org/GradeLevelDescriptor#Kindergarten"}],` +
			`"nameOfInstitution":"Lincoln Elementary","schoolCategories":[{"schoolCategoryDescriptor":"uri://ed-fi.org/SchoolCategoryDescriptor#Elementary School"}],"schoolId":255901001}`,
		`{"educationOrganizationCategories":[{"educationOrganizationCategoryDescriptor":"uri://ed-fi.org/EducationOrganizationCategoryDescriptor#School"}],` +
			`"gradeLevels":[{"gradeLevelDescriptor":"uri://ed-fi.org/GradeLevelDescriptor#Sixth grade"}],` +
			`"nameOfInstitution":"Adams Middle","schoolCategories":[{"schoolCategoryDescriptor":"uri://ed-fi.org/SchoolCategoryDescriptor#Middle School"}],"schoolId":255901002}`,
		`{"birthDate":"2019-09-03","firstName":"Ana","lastSurname":"Ruiz","studentUniqueId":"4000000001"}`,
	}
	if diff := cmp.Diff(got, want); diff != "" {
		t.Errorf("payloads (-got +want):\n%s", diff)
	}
}
