package schema_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/edfisync/edfisync/schema"
)

// bundledModel returns a bundled standard.
func bundledModel(t testing.TB, version string) *schema.Model {
	t.Helper()
	m, err := schema.Bundled(version)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func resourceOf(t testing.TB, m *schema.Model, path string) *schema.Resource {
	t.Helper()
	r, ok := m.Resource(path)
	if !ok {
		t.Fatalf("%s has no resource %s", m.Name, path)
	}
	return r
}

// pathsOf returns the paths of resources.
func pathsOf(resources []*schema.Resource) []string {
	paths := make([]string, 0, len(resources))
	for _, r := range resources {
		paths = append(paths, r.Path)
	}
	return paths
}

// walk visits every property of a payload.
func walk(fields *schema.Fields, prefix string, visit func(path string, p *schema.Property)) {
	for _, p := range fields.Properties {
		visit(prefix+p.Name, p)
		if p.Fields != nil {
			walk(p.Fields, prefix+p.Name+".", visit)
		}
	}
}

func TestResourceIsFoundAsURLsNameIt(t *testing.T) {
	t.Parallel()
	m := bundledModel(t, "5.2")
	for path, want := range map[string]bool{
		"ed-fi/students":                               true,
		"/ed-fi/students":                              true,
		"/ed-fi/StudentSchoolAssociations":             true,
		"ED-FI/studentctEPROGRAMAssociations":          true,
		"students":                                     false,
		"ed-fi/student":                                false,
		"//ed-fi/students":                             false,
		"ed-fi/students/":                              false,
		"tpdm/students":                                false,
		"":                                             false,
		"/ed-fi/termDescriptors":                       true,
		"ed-fi/schoolYearTypes":                        true,
		"ed-fi/educationOrganizations":                 false, // abstract
		"ed-fi/generalStudentProgramAssociations":      false, // abstract
		"ed-fi/studentLearningObjectives":              false, // only before data standard 5
		"ed-fi/studentContactAssociations":             true,
		"ed-fi/assessmentAdministrationParticipations": true,
	} {
		if _, got := m.Resource(path); got != want {
			t.Errorf("Resource(%q) found %v, want %v", path, got, want)
		}
	}
}

func TestConcreteResourcesOfAnEntity(t *testing.T) {
	t.Parallel()
	m := bundledModel(t, "5.2")
	for entity, want := range map[string][]string{
		"Student": {"ed-fi/students"},
		"EducationOrganization": {
			"ed-fi/communityOrganizations", "ed-fi/communityProviders", "ed-fi/educationOrganizationNetworks", "ed-fi/educationServiceCenters",
			"ed-fi/localEducationAgencies", "ed-fi/organizationDepartments", "ed-fi/postSecondaryInstitutions", "ed-fi/schools",
			"ed-fi/stateEducationAgencies",
		},
		"GeneralStudentProgramAssociation": {
			"ed-fi/studentCTEProgramAssociations", "ed-fi/studentHomelessProgramAssociations",
			"ed-fi/studentLanguageInstructionProgramAssociations", "ed-fi/studentMigrantEducationProgramAssociations",
			"ed-fi/studentNeglectedOrDelinquentProgramAssociations", "ed-fi/studentProgramAssociations",
			"ed-fi/studentSchoolFoodServiceProgramAssociations", "ed-fi/studentSection504ProgramAssociations",
			"ed-fi/studentSpecialEducationProgramAssociations", "ed-fi/studentTitleIPartAProgramAssociations",
		},
		"Unknown": {},
	} {
		if diff := cmp.Diff(pathsOf(m.Concrete(entity)), want); diff != "" {
			t.Errorf("Concrete(%q), - got + want:\n%s", entity, diff)
		}
	}
}

func TestEntityIsFoundHoweverItsAcronymIsWritten(t *testing.T) {
	t.Parallel()
	for _, version := range schema.BundledVersions() {
		m := bundledModel(t, version)
		for _, name := range []string{"CTEProgramServiceDescriptor", "CteProgramServiceDescriptor"} {
			r, ok := m.Entity(name)
			if !ok || r.Name != "CTEProgramServiceDescriptor" {
				t.Errorf("%s: Entity(%q) = %v, %v", m.Name, name, r, ok)
			}
		}
	}
}

func TestPropertyByPath(t *testing.T) {
	t.Parallel()
	m := bundledModel(t, "5.2")
	for _, c := range []struct {
		resource, path string
		kind           schema.Kind
	}{
		{"ed-fi/sections", "sectionIdentifier", schema.String},
		{"ed-fi/sections", "courseOfferingReference", schema.Reference},
		{"ed-fi/sections", "courseOfferingReference.schoolId", schema.Long},
		{"ed-fi/sections", "classPeriods.classPeriodReference.classPeriodName", schema.String},
		{"ed-fi/schools", "addresses", schema.Collection},
		{"ed-fi/schools", "addresses.city", schema.String},
		{"ed-fi/schools", "addresses.periods.beginDate", schema.Date},
		{"ed-fi/studentAcademicRecords", "classRanking", schema.Object},
		{"ed-fi/studentAcademicRecords", "classRanking.classRankingDate", schema.Date},
		{"ed-fi/sections", "SectionIdentifier", 0},
		{"ed-fi/sections", "courseOfferingReference.link", 0},
		{"ed-fi/sections", "sectionIdentifier.length", 0},
		{"ed-fi/sections", "", 0},
		{"ed-fi/sections", "id", 0},
	} {
		p, ok := resourceOf(t, m, c.resource).Property(c.path)
		if ok != (c.kind != 0) {
			t.Errorf("%s %q: found %v", c.resource, c.path, ok)
		} else if ok && p.Kind != c.kind {
			t.Errorf("%s %q: %s, want %s", c.resource, c.path, p.Kind, c.kind)
		}
	}
}

func TestNearestPath(t *testing.T) {
	t.Parallel()
	m := bundledModel(t, "5.2")
	for _, c := range []struct{ resource, path, want string }{
		{"ed-fi/students", "firstNam", "firstName"},
		{"ed-fi/students", "fristName", "firstName"},
		{"ed-fi/students", "FIRSTNAME", "firstName"},
		{"ed-fi/students", "lastSurName", "lastSurname"},
		{"ed-fi/studentSchoolAssociations", "schoolReference.schoolid", "schoolReference.schoolId"},
		{"ed-fi/studentSchoolAssociations", "schoolRefernce.schoolId", "schoolReference.schoolId"},
		{"ed-fi/classPeriods", "schoolId", "schoolReference.schoolId"},
		{"ed-fi/studentSchoolAssociations", "studentUniqueId", "studentReference.studentUniqueId"},
		{"ed-fi/students", "favouriteColour", ""},
		{"ed-fi/students", "", ""},
	} {
		if got := m.Nearest(resourceOf(t, m, c.resource), c.path); got != c.want {
			t.Errorf("Nearest(%s, %q) = %q, want %q", c.resource, c.path, got, c.want)
		}
	}
}

func TestKindsHaveNames(t *testing.T) {
	t.Parallel()
	for kind := schema.String; kind <= schema.Collection; kind++ {
		text, err := kind.MarshalText()
		if err != nil {
			t.Fatal(err)
		}
		var back schema.Kind
		if err := back.UnmarshalText(text); err != nil || back != kind {
			t.Errorf("%s reads back as %s, %v", text, back, err)
		}
	}
	var k schema.Kind
	if err := k.UnmarshalText([]byte("uuid")); err == nil || !strings.Contains(err.Error(), `"uuid"`) {
		t.Errorf("unknown kind: %v", err)
	}
	if err := k.UnmarshalText(nil); err == nil {
		t.Error("no kind was accepted")
	}
}

// thing is a resource with a one-part key.
func thing(path, name string, more ...*schema.Property) *schema.Resource {
	id := &schema.Property{Name: "id" + name, Kind: schema.Long, Required: true, Identity: true}
	return &schema.Resource{
		Path: path,
		Name: name,
		Root: &schema.Fields{Name: name, Properties: append([]*schema.Property{id}, more...)},
		Key:  []schema.KeyPart{{Name: id.Name, Paths: []string{id.Name}, Kind: schema.Long}},
	}
}

func reference(name, target string, required bool, leaves ...string) *schema.Property {
	p := &schema.Property{Name: name, Kind: schema.Reference, Target: target, Required: required, Fields: &schema.Fields{Name: target + "Reference"}}
	for _, leaf := range leaves {
		p.Fields.Properties = append(p.Fields.Properties, &schema.Property{Name: leaf, Kind: schema.Long, Required: true, Identity: true})
	}
	return p
}

func TestNewModelReportsWhatDoesNotFit(t *testing.T) {
	t.Parallel()
	twice := func() *schema.Property { return &schema.Property{Name: "city", Kind: schema.String} }
	for name, c := range map[string]struct {
		resources []*schema.Resource
		want      string
	}{
		"two resources with one path": {
			[]*schema.Resource{thing("x/things", "A"), thing("x/Things", "B")}, "resource x/things: listed twice",
		},
		"two resources with one entity name": {
			[]*schema.Resource{thing("x/things", "Thing"), thing("x/thingies", "Thing")}, "both are entity Thing",
		},
		"two properties with one name": {
			[]*schema.Resource{thing("x/things", "Thing", twice(), twice())}, "resource x/things: object Thing: property city is listed twice",
		},
		"a key part without its property": {
			[]*schema.Resource{{Path: "x/things", Name: "Thing", Root: &schema.Fields{}, Key: []schema.KeyPart{{Name: "a", Paths: []string{"b.a"}}}}},
			"resource x/things: key part a: no property b.a",
		},
		"a resource without properties": {
			[]*schema.Resource{{Path: "x/things", Name: "Thing"}}, "resource x/things: no properties",
		},
		"a reference with too many leaves": {
			[]*schema.Resource{thing("x/things", "Thing"), thing("x/others", "Other", reference("thingReference", "Thing", true, "idThing", "idOther"))},
			"resource x/others: reference thingReference does not carry the key of x/things",
		},
	} {
		_, err := schema.NewModel("test", "", c.resources)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
}

func TestReferencesGetTheirParts(t *testing.T) {
	t.Parallel()
	ref := reference("firstThingReference", "Thing", true, "thingNumber")
	m, err := schema.NewModel("test", "", []*schema.Resource{thing("x/others", "Other", ref), thing("x/things", "Thing")})
	if err != nil {
		t.Fatal(err)
	}
	p, _ := resourceOf(t, m, "x/others").Property("firstThingReference")
	if diff := cmp.Diff(p.Parts, []schema.RefPart{{Leaf: "thingNumber", Part: "idThing"}}); diff != "" {
		t.Errorf("- got + want:\n%s", diff)
	}
}

func TestAnExtensionMayReuseAnEntityName(t *testing.T) {
	t.Parallel()
	for _, order := range [][]string{{"ed-fi/things", "zz/things"}, {"aa/things", "ed-fi/things"}} {
		m, err := schema.NewModel("test", "", []*schema.Resource{thing(order[0], "Thing"), thing(order[1], "Thing")})
		if err != nil {
			t.Fatal(err)
		}
		if r, _ := m.Entity("Thing"); r.Path != "ed-fi/things" {
			t.Errorf("Thing is %s", r.Path)
		}
		for _, path := range order {
			resourceOf(t, m, path)
		}
	}
}

func TestModelIsSortedByPath(t *testing.T) {
	t.Parallel()
	for _, version := range schema.BundledVersions() {
		m := bundledModel(t, version)
		if !slices.IsSorted(pathsOf(m.Resources)) {
			t.Errorf("%s is not sorted", m.Name)
		}
	}
}
