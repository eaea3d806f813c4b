package schema_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/edfisync/edfisync/schema"
)

// document returns an OpenAPI document written for these tests.
func document(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", "openapi", name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// published returns a real Ed-Fi document of the folder $EDFISYNC_SHARED, by default shared beside the repository. Without it the test
// is skipped.
func published(t testing.TB, elements ...string) []byte {
	t.Helper()
	shared := os.Getenv("EDFISYNC_SHARED")
	if shared == "" {
		shared = filepath.Join("..", "..", "shared")
	}
	data, err := os.ReadFile(filepath.Join(append([]string{shared, "data", "edfi"}, elements...)...))
	if os.IsNotExist(err) {
		t.Skip("the published Ed-Fi documents are not here; EDFISYNC_SHARED names their folder")
	}
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func publishedModel(t testing.TB, version string) *schema.Model {
	t.Helper()
	m, err := schema.ReadOpenAPI(published(t, "openapi", "resources-ds"+version+".json"), published(t, "openapi", "descriptors-ds"+version+".json"))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func readOpenAPI(t testing.TB, name string) *schema.Model {
	t.Helper()
	m, err := schema.ReadOpenAPI(document(t, name), nil)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestReadOpenAPI3(t *testing.T) {
	t.Parallel()
	m := readOpenAPI(t, "v3.json")
	if m.Name != "Two schemas" {
		t.Errorf("name %q", m.Name)
	}
	want := []string{"ed-fi/clubTypeDescriptors", "ed-fi/clubs", "ed-fi/schoolYearTypes", "ed-fi/schools", "sample/clubMembers"}
	if diff := cmp.Diff(pathsOf(m.Resources), want); diff != "" {
		t.Errorf("resources, - got + want:\n%s", diff)
	}
	for path, key := range map[string]string{
		"ed-fi/clubs":               "clubName=clubName schoolId=schoolReference.schoolId",
		"ed-fi/schools":             "schoolId=schoolId",
		"ed-fi/schoolYearTypes":     "schoolYear=schoolYear",
		"ed-fi/clubTypeDescriptors": "codeValue=codeValue namespace=namespace",
		"sample/clubMembers": "clubName=clubReference.clubName clubSchoolId=clubReference.schoolId " +
			"joinedSchoolYear=joinedSchoolYearTypeReference.schoolYear schoolId=schoolReference.schoolId",
	} {
		if got := keyOf(resourceOf(t, m, path)); got != key {
			t.Errorf("%s: key %s, want %s", path, got, key)
		}
	}
	club := resourceOf(t, m, "ed-fi/clubs")
	if !club.KeyUpdatable || resourceOf(t, m, "ed-fi/schools").KeyUpdatable {
		t.Error("clubs are key-updatable, schools are not")
	}
	if diff := cmp.Diff(pathsOf(m.Concrete("EducationOrganization")), []string{"ed-fi/schools"}); diff != "" {
		t.Errorf("education organizations, - got + want:\n%s", diff)
	}
	var lines []string
	walk(club.Root, "", func(path string, p *schema.Property) { lines = append(lines, describe(path, p)) })
	if diff := cmp.Diff(lines, []string{
		"_ext object",
		"_ext.sample object",
		"_ext.sample.motto string ≤80",
		"budget long -9223372036854775808…1000000",
		"changedAt datetime",
		"clubName string required identity 1≤60 // The name of the club.",
		"favouriteTypeDescriptor descriptor required ≤306 → FavouriteTypeDescriptor",
		"fee decimal 0.-1",
		"founded date deprecated",
		"meetingTime time",
		"members integer 0…2147483647",
		"open boolean",
		"primaryClubTypeDescriptor descriptor ≤306 → ClubTypeDescriptor",
		"room object",
		"room.number string required ≤5",
		"schoolReference reference required identity → School [schoolId=schoolId]",
		"schoolReference.schoolId long required identity",
		"share decimal 0.-1",
		"sponsors collection required [amount schoolReference.schoolId] ≥1 // Who pays for it.",
		"sponsors.amount integer required identity",
		"sponsors.remark string ≤10",
		"sponsors.schoolReference reference required identity → School [schoolId=schoolId]",
		"sponsors.schoolReference.schoolId long required identity",
		"wealth decimal 19.4",
	}); diff != "" {
		t.Errorf("properties of clubs, - got + want:\n%s", diff)
	}
}

// describe writes a property in one line.
func describe(path string, p *schema.Property) string {
	b := &strings.Builder{}
	say := func(when bool, format string, args ...any) {
		if when {
			fmt.Fprintf(b, " "+format, args...)
		}
	}
	fmt.Fprintf(b, "%s %s", path, p.Kind)
	say(p.Required, "required")
	say(p.Identity, "identity")
	say(p.MinLength > 0, "%d≤%d", p.MinLength, p.MaxLength)
	say(p.MinLength == 0 && p.MaxLength > 0, "≤%d", p.MaxLength)
	say(p.Kind == schema.Decimal, "%d.%d", p.Precision, p.Scale)
	say(p.HasRange, "%d…%d", p.Min, p.Max)
	say(p.Target != "", "→ %s", p.Target)
	parts := make([]string, 0, len(p.Parts))
	for _, part := range p.Parts {
		parts = append(parts, part.Leaf+"="+part.Part)
	}
	say(len(parts) > 0, "%v", parts)
	say(len(p.ItemKey) > 0, "%v", p.ItemKey)
	say(p.MinItems > 0, "≥%d", p.MinItems)
	say(p.Deprecated, "deprecated")
	say(p.Doc != "", "// %s", p.Doc)
	return b.String()
}

func TestReadSwagger2(t *testing.T) {
	t.Parallel()
	m := readOpenAPI(t, "v2.json")
	for path, want := range map[string]string{
		"ed-fi/students":    "studentUniqueId=studentUniqueId",
		"ed-fi/studentPets": "petName=petName studentUniqueId=studentReference.studentUniqueId",
	} {
		if got := keyOf(resourceOf(t, m, path)); got != want {
			t.Errorf("%s: key %s, want %s", path, got, want)
		}
	}
	if p, ok := resourceOf(t, m, "ed-fi/students").Property("birthDate"); !ok || p.Kind != schema.Date {
		t.Errorf("birthDate: %v", p)
	}
}

func TestReadOpenAPIWithoutIdentityMarks(t *testing.T) {
	t.Parallel()
	m := readOpenAPI(t, "unmarked.json")
	for path, want := range map[string]string{
		"ed-fi/schools":    "schoolId=schoolId",
		"ed-fi/sessions":   "schoolId=schoolReference.schoolId schoolYear=schoolYearTypeReference.schoolYear sessionName=sessionName",
		"sample/buses":     "busId=busId schoolId=schoolReference.schoolId",
		"sample/busRoutes": "busId=busReference.busId routeNumber=routeNumber schoolId=busReference.schoolId",
	} {
		if got := keyOf(resourceOf(t, m, path)); got != want {
			t.Errorf("%s: key %s, want %s", path, got, want)
		}
	}
	sessions := resourceOf(t, m, "ed-fi/sessions")
	if !sessions.KeyUpdatable {
		t.Error("sessions are key-updatable in every standard")
	}
	if p, _ := sessions.Property("gradingPeriods"); len(p.ItemKey) != 0 {
		t.Errorf("item key %v was guessed", p.ItemKey)
	}
}

func TestCompleteAddsWhatOpenAPICannotTell(t *testing.T) {
	t.Parallel()
	m := publishedModel(t, "5.0")
	c, err := schema.Complete(m, bundledModel(t, "5.2"))
	if err != nil {
		t.Fatal(err)
	}
	credits, _ := resourceOf(t, c, "ed-fi/sections").Property("availableCredits")
	if credits.Precision != 9 || credits.Scale != 3 {
		t.Errorf("availableCredits has %d digits, %d decimal places", credits.Precision, credits.Scale)
	}
	before, _ := resourceOf(t, m, "ed-fi/sections").Property("availableCredits")
	if before.Precision != 0 {
		t.Error("the model that was read has changed")
	}
	want := [][]string{
		{"courseOfferingReference.schoolId", "classPeriods.classPeriodReference.schoolId"},
		{"locationReference.schoolId", "locationSchoolReference.schoolId"},
	}
	if diff := cmp.Diff(resourceOf(t, c, "ed-fi/sections").Unify, want); diff != "" {
		t.Errorf("sections, - got + want:\n%s", diff)
	}
	eligibility := resourceOf(t, c, "ed-fi/studentSpecialEducationProgramEligibilityAssociations")
	if p, _ := eligibility.Property("ideaPartDescriptor"); p.Target != "IDEAPartDescriptor" {
		t.Errorf("ideaPartDescriptor takes %s", p.Target)
	}
	if _, ok := c.Resource("tpdm/candidates"); !ok {
		t.Error("the extension was lost")
	}
}

func TestCompleteTakesTheReferencesOfTheKeyFromTheStandard(t *testing.T) {
	t.Parallel()
	model := func(identifying bool) *schema.Model {
		ref := reference("schoolReference", "School", true, "idSchool")
		ref.Identity = identifying
		local := thing("ed-fi/clubs", "Club", ref, &schema.Property{Name: "idSchool", Kind: schema.Long, Required: true, Identity: true})
		paths := []string{"idSchool"}
		if identifying {
			paths = append(paths, "schoolReference.idSchool")
			local.Unify = [][]string{paths}
		}
		local.Key = append(local.Key, schema.KeyPart{Name: "idSchool", Paths: paths, Kind: schema.Long})
		m, err := schema.NewModel("test", "", []*schema.Resource{local, thing("ed-fi/schools", "School")})
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	c, err := schema.Complete(model(true), model(false))
	if err != nil {
		t.Fatal(err)
	}
	club := resourceOf(t, c, "ed-fi/clubs")
	if got, want := keyOf(club), "idClub=idClub idSchool=idSchool"; got != want {
		t.Errorf("key %s, want %s", got, want)
	}
	if p, _ := club.Property("schoolReference"); p.Identity || len(club.Unify) != 0 {
		t.Errorf("the reference is identifying: %v, equal values %v", p.Identity, club.Unify)
	}
}

// TestNaturalKeysOfPublishedDocuments reads the keys out of the real OpenAPI documents and compares them with the catalogs.
func TestNaturalKeysOfPublishedDocuments(t *testing.T) {
	t.Parallel()
	const renamedGradingPeriod = "grading periods are keyed by periodSequence before data standard 5, by gradingPeriodName since"
	for _, c := range []struct {
		document, catalog string
		exceptions        map[string]string // resource → why its key differs
		least             int
	}{
		{document: "4.0", catalog: "4.0", least: 124},
		{document: "5.0", catalog: "5.2", least: 127, exceptions: map[string]string{
			"ed-fi/studentSpecialEducationProgramEligibilityAssociations": "5.2 keeps the program's education organization apart from the association's",
		}},
		{document: "4.0", catalog: "5.2", least: 119, exceptions: map[string]string{
			"ed-fi/grades":                      renamedGradingPeriod,
			"ed-fi/gradingPeriods":              renamedGradingPeriod,
			"ed-fi/reportCards":                 renamedGradingPeriod,
			"ed-fi/studentCompetencyObjectives": renamedGradingPeriod,
			"ed-fi/staffSectionAssociations":    "5 added beginDate, so that a teacher may leave a section and return",
		}},
	} {
		t.Run(c.document+" against the catalog of "+c.catalog, func(t *testing.T) {
			t.Parallel()
			catalog := bundledModel(t, c.catalog)
			compared := 0
			for _, r := range publishedModel(t, c.document).Resources {
				if r.Descriptor || !strings.HasPrefix(r.Path, "ed-fi/") || r.Name == "SchoolYearType" {
					continue
				}
				same, ok := catalog.Resource(r.Path)
				if !ok {
					continue
				}
				compared++
				_, excepted := c.exceptions[r.Path]
				if got, want := keyOf(r), keyOf(same); got == want && excepted {
					t.Errorf("%s: the key does not differ", r.Path)
				} else if got != want && !excepted {
					t.Errorf("%s\n document %s\n catalog  %s", r.Path, got, want)
				}
				if r.Extends != same.Extends || r.KeyUpdatable != same.KeyUpdatable {
					t.Errorf("%s: a kind of %q, updatable %v; in the catalog %q, %v", r.Path, r.Extends, r.KeyUpdatable, same.Extends, same.KeyUpdatable)
				}
			}
			if compared < c.least {
				t.Errorf("only %d resources were compared", compared)
			}
		})
	}
}

func TestPublishedExtensions(t *testing.T) {
	t.Parallel()
	m := publishedModel(t, "5.0")
	for path, want := range map[string]string{
		"tpdm/candidates":                  "candidateIdentifier=candidateIdentifier",
		"tpdm/educatorPreparationPrograms": "educationOrganizationId=educationOrganizationReference.educationOrganizationId programName=programName programTypeDescriptor=programTypeDescriptor",
	} {
		if got := keyOf(resourceOf(t, m, path)); got != want {
			t.Errorf("%s: key %s, want %s", path, got, want)
		}
	}
	if p, ok := resourceOf(t, m, "ed-fi/credentials").Property("_ext.tpdm.boardCertificationIndicator"); !ok || p.Kind != schema.Boolean {
		t.Errorf("credentials._ext.tpdm.boardCertificationIndicator: %v", p)
	}
	if _, err := schema.Dependencies(m); err != nil {
		t.Errorf("order: %v", err)
	}
}

func TestReadOpenAPIReportsWhatIsWrong(t *testing.T) {
	t.Parallel()
	valid := string(document(t, "v3.json"))
	with := func(old, replacement string) string {
		if !strings.Contains(valid, old) {
			t.Fatalf("the document has no %s", old)
		}
		return strings.Replace(valid, old, replacement, 1)
	}
	for name, c := range map[string]struct{ document, want string }{
		"nothing":                     {"", "no Ed-Fi resource is described"},
		"not JSON":                    {"<html>", "read OpenAPI document of resources: parse JSON"},
		"cut off":                     {valid[:len(valid)/2], "read OpenAPI document of resources: parse JSON"},
		"another kind of document":    {`{"paths":{}}`, `neither "openapi": "3.x" nor "swagger": "2.0"`},
		"no resources":                {`{"openapi":"3.0.0","paths":{"/ping":{"get":{}}}}`, "no Ed-Fi resource is described"},
		"a number where text belongs": {with(`"maxLength": 60`, `"maxLength": "sixty"`), "maxLength"},
		"a $ref to nowhere": {
			with(`"room": {"$ref": "#/components/schemas/edFi_clubRoom"}`, `"room": {"$ref": "#/components/schemas/edFi_hall"}`),
			`path /ed-fi/clubs: schema edFi_club: property room: $ref "#/components/schemas/edFi_hall": there is no such schema`,
		},
		"a $ref out of the document": {
			with(`"room": {"$ref": "#/components/schemas/edFi_clubRoom"}`, `"room": {"$ref": "https://example.org/room.json"}`),
			`property room: $ref "https://example.org/room.json" does not lead to a schema of this document`,
		},
		"a schema in itself": {
			with(`"room": {"$ref": "#/components/schemas/edFi_clubRoom"}`, `"room": {"$ref": "#/components/schemas/edFi_club"}`),
			"property room: schema edFi_club: contains itself",
		},
		"an array of strings": {
			with(`"open": {"type": ["boolean", "null"]}`, `"open": {"type": "array", "items": {"type": "string"}}`),
			"property open: array of string, where an array of objects belongs",
		},
		"an unknown type":         {with(`"fee": {"type": "number"`, `"fee": {"type": "money"`), `property fee: unknown type "money"`},
		"a key part held nowhere": {with(`"name": "joinedSchoolYear"`, `"name": "leftSchoolYear"`), "path /sample/clubMembers: key part leftSchoolYear"},
		"a reference with a leaf that is in no key": {
			with(`"edFi_schoolReference": {
        "required": ["schoolId"],
        "properties": {`, `"edFi_schoolReference": {
        "properties": {
          "campus": {"type": "string"},`),
			"path /ed-fi/clubs: key part schoolId (a GET parameter marked x-Ed-Fi-isIdentity) is held by no required property",
		},
	} {
		_, err := schema.ReadOpenAPI([]byte(c.document), nil)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
}

func TestReadOpenAPIReportsEveryResourceWithAProblem(t *testing.T) {
	t.Parallel()
	text := strings.NewReplacer(`"fee": {"type": "number"`, `"fee": {"type": "money"`, `"joinedSchoolYear"`, `"leftSchoolYear"`).Replace(string(document(t, "v3.json")))
	_, err := schema.ReadOpenAPI([]byte(text), nil)
	if err == nil || !strings.Contains(err.Error(), "/ed-fi/clubs") || !strings.Contains(err.Error(), "/sample/clubMembers") {
		t.Errorf("got %v", err)
	}
}

// TestReadOpenAPIEndsOnHostileDocuments reads documents that would be endless, or as good as, if every $ref were followed each time.
func TestReadOpenAPIEndsOnHostileDocuments(t *testing.T) {
	t.Parallel()
	deep := `{"openapi":"3.0.0","paths":{"/x/things":{"post":{"requestBody":{"content":{"application/json":{"schema":{"$ref":"#/components/schemas/x"}}}}}}},` +
		`"components":{"schemas":{"x":` + strings.Repeat(`{"properties":{"a":`, 3000) + `{"type":"string"}` + strings.Repeat(`}}`, 3000) + `}}}`
	for name, c := range map[string]struct{ document, want string }{
		"a schema nested in itself again and again":    {deep, "nested deeper than"},
		"schemas that use the next one twice, deeply":  {multiplying(t, 60, 2), "nested deeper than"},
		"schemas that use the next one fifty times":    {multiplying(t, 10, 50), "more than 100000 properties"},
		"schemas that use the next one twice, shallow": {multiplying(t, 3, 2), "no natural key"},
	} {
		if _, err := schema.ReadOpenAPI([]byte(c.document), nil); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// multiplying writes a document of levels schemas, each of which has times properties of the next.
func multiplying(t *testing.T, levels, times int) string {
	t.Helper()
	ref := func(i int) map[string]any { return map[string]any{"$ref": fmt.Sprintf("#/components/schemas/x_%d", i)} }
	schemas := map[string]any{fmt.Sprintf("x_%d", levels): map[string]any{"properties": map[string]any{"id": map[string]any{"type": "integer"}}}}
	for i := range levels {
		properties := map[string]any{}
		for p := range times {
			properties[fmt.Sprintf("p%d", p)] = ref(i + 1)
		}
		schemas[fmt.Sprintf("x_%d", i)] = map[string]any{"properties": properties}
	}
	text, err := json.Marshal(map[string]any{
		"openapi": "3.0.0",
		"paths": map[string]any{"/x/things": map[string]any{"post": map[string]any{"requestBody": map[string]any{
			"content": map[string]any{"application/json": map[string]any{"schema": ref(0)}},
		}}}},
		"components": map[string]any{"schemas": schemas},
	})
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func FuzzReadOpenAPI(f *testing.F) {
	// Small ones: the fuzzer first minimises whatever is new, and learns nothing while it does.
	for _, seed := range []string{
		`{"openapi":"3.0.0","paths":{"/x/as":{"get":{"parameters":[{"name":"i","in":"query","x-Ed-Fi-isIdentity":true}]},"post":{"requestBody":{"content":{"application/json":{"schema":{"$ref":"#/components/schemas/x_a"}}}}}}},` +
			`"components":{"schemas":{"x_a":{"required":["bReference"],"properties":{"bReference":{"$ref":"#/components/schemas/x_bReference"},"l":{"type":"array","items":{"properties":{"d":{"type":"number"}}}}}},"x_bReference":{"properties":{"i":{"type":"integer"}}}}}}`,
		`{"swagger":"2.0","paths":{"/x/as":{"get":{"parameters":[{"$ref":"#/parameters/p"}],"responses":{"200":{"schema":{"items":{"$ref":"#/definitions/x_a"}}}}}}},` +
			`"parameters":{"p":{"name":"i","in":"query","x-Ed-Fi-isIdentity":true}},"definitions":{"x_a":{"required":["i"],"properties":{"i":{"type":"string"},"_ext":{"$ref":"#/definitions/e"}}},"e":{"allOf":[null]}}}`,
		`{"openapi":"3.0.0","paths":{"/x/as":{"post":{"requestBody":{"content":{"c":{"schema":{"$ref":"#/components/schemas/x_A"}}}}}}},` +
			`"components":{"schemas":{"x_A":{"required":["i"],"properties":{"i":{"type":"integer"}}},"x_A_Reference":{"properties":{"i":{"type":"integer"}}}}}}`,
		`{"swagger":"2.0","paths":{"/x/as":{"post":{"parameters":[{"in":"body","schema":{"$ref":"#/definitions/a"}}]}}},"definitions":{"a":{"required":["i"],"properties":{"i":{"type":"string"},"ïn":{}}},"aReference":{"properties":{"i":{}}}}}`,
		`{"openapi":"3.1.0","paths":{"/x/ds":{"post":{"requestBody":{"content":{"c":{"schema":{"$ref":"#/components/schemas/x_aDescriptor"}}}}}}},` +
			`"components":{"schemas":{"x_aDescriptor":{"properties":{"codeValue":{"type":["string","null"]},"namespace":{"type":"string"}}}}}}`,
	} {
		f.Add([]byte(seed), []byte(nil))
		f.Add([]byte(nil), []byte(seed))
	}
	f.Fuzz(func(t *testing.T, resources, descriptors []byte) {
		m, err := schema.ReadOpenAPI(resources, descriptors)
		if err != nil {
			if m != nil {
				t.Error("a model and an error")
			}
			return
		}
		text, err := m.Catalog()
		if err != nil {
			t.Fatal(err)
		}
		back, err := schema.ParseCatalog(text)
		if err != nil {
			t.Fatalf("a model that was read cannot be read back: %v", err)
		}
		again, err := back.Catalog()
		if err != nil || !bytes.Equal(again, text) {
			t.Fatalf("the model changes when it is written and read: %v", err)
		}
		for _, r := range m.Resources {
			if len(r.Key) == 0 {
				t.Errorf("%s has no key", r.Path)
			}
			m.Nearest(r, "schoolReference.schoolId")
		}
		if _, err := schema.Dependencies(m); err != nil && !strings.Contains(err.Error(), "circle") {
			t.Error(err)
		}
	})
}

func BenchmarkReadOpenAPI(b *testing.B) {
	resources, descriptors := published(b, "openapi", "resources-ds5.0.json"), published(b, "openapi", "descriptors-ds5.0.json")
	b.SetBytes(int64(len(resources) + len(descriptors)))
	for b.Loop() {
		if _, err := schema.ReadOpenAPI(resources, descriptors); err != nil {
			b.Fatal(err)
		}
	}
}
