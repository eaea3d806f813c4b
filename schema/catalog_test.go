package schema_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/edfisync/edfisync/schema"
)

func TestBundledByVersion(t *testing.T) {
	t.Parallel()
	for version, want := range map[string]string{"5.2": "ds-5.2", "5.2.0": "ds-5.2", "4.0": "ds-4.0", "4.0.0": "ds-4.0"} {
		m, err := schema.Bundled(version)
		if err != nil || m.Name != want {
			t.Errorf("Bundled(%q) = %v, %v", version, m, err)
		}
	}
	for _, version := range []string{"", "5", "5.2.1", "6.0", "5.2.0.0", "v5.2"} {
		if _, err := schema.Bundled(version); err == nil || !strings.Contains(err.Error(), "there are 4.0, 5.2") {
			t.Errorf("Bundled(%q): %v", version, err)
		}
	}
}

func TestBundledIsReadOnce(t *testing.T) {
	t.Parallel()
	if bundledModel(t, "5.2") != bundledModel(t, "5.2.0") {
		t.Error("two models of one version")
	}
}

func TestCatalogSizes(t *testing.T) {
	t.Parallel()
	for version, want := range map[string]struct{ resources, descriptors int }{"4.0": {125, 189}, "5.2": {138, 211}} {
		var resources, descriptors int
		for _, r := range bundledModel(t, version).Resources {
			if r.Descriptor {
				descriptors++
			} else {
				resources++
			}
		}
		if resources != want.resources || descriptors != want.descriptors {
			t.Errorf("%s: %d resources and %d descriptors, want %d and %d", version, resources, descriptors, want.resources, want.descriptors)
		}
	}
}

// keyOf writes a natural key as "part=path,path part=path".
func keyOf(r *schema.Resource) string {
	parts := make([]string, 0, len(r.Key))
	for _, part := range r.Key {
		parts = append(parts, part.Name+"="+strings.Join(part.Paths, ","))
	}
	return strings.Join(parts, " ")
}

func TestNaturalKeys(t *testing.T) {
	t.Parallel()
	for version, keys := range map[string]map[string]string{
		"5.2": {
			"ed-fi/students":      "studentUniqueId=studentUniqueId",
			"ed-fi/schools":       "schoolId=schoolId",
			"ed-fi/calendarDates": "calendarCode=calendarReference.calendarCode date=date schoolId=calendarReference.schoolId schoolYear=calendarReference.schoolYear",
			"ed-fi/courseOfferings": "localCourseCode=localCourseCode schoolId=schoolReference.schoolId,sessionReference.schoolId " +
				"schoolYear=sessionReference.schoolYear sessionName=sessionReference.sessionName",
			"ed-fi/gradingPeriods": "gradingPeriodDescriptor=gradingPeriodDescriptor gradingPeriodName=gradingPeriodName " +
				"schoolId=schoolReference.schoolId schoolYear=schoolYearTypeReference.schoolYear",
			"ed-fi/graduationPlans": "educationOrganizationId=educationOrganizationReference.educationOrganizationId " +
				"graduationPlanTypeDescriptor=graduationPlanTypeDescriptor graduationSchoolYear=graduationSchoolYearTypeReference.schoolYear",
			"ed-fi/grades": "beginDate=studentSectionAssociationReference.beginDate gradeTypeDescriptor=gradeTypeDescriptor " +
				"gradingPeriodDescriptor=gradingPeriodReference.gradingPeriodDescriptor gradingPeriodName=gradingPeriodReference.gradingPeriodName " +
				"gradingPeriodSchoolYear=gradingPeriodReference.schoolYear localCourseCode=studentSectionAssociationReference.localCourseCode " +
				"schoolId=gradingPeriodReference.schoolId,studentSectionAssociationReference.schoolId " +
				"schoolYear=studentSectionAssociationReference.schoolYear sectionIdentifier=studentSectionAssociationReference.sectionIdentifier " +
				"sessionName=studentSectionAssociationReference.sessionName studentUniqueId=studentSectionAssociationReference.studentUniqueId",
			"ed-fi/courseTranscripts": "courseAttemptResultDescriptor=courseAttemptResultDescriptor courseCode=courseReference.courseCode " +
				"courseEducationOrganizationId=courseReference.educationOrganizationId " +
				"educationOrganizationId=studentAcademicRecordReference.educationOrganizationId schoolYear=studentAcademicRecordReference.schoolYear " +
				"studentUniqueId=studentAcademicRecordReference.studentUniqueId termDescriptor=studentAcademicRecordReference.termDescriptor",
			"ed-fi/studentProgramAssociations": "beginDate=beginDate educationOrganizationId=educationOrganizationReference.educationOrganizationId " +
				"programEducationOrganizationId=programReference.educationOrganizationId programName=programReference.programName " +
				"programTypeDescriptor=programReference.programTypeDescriptor studentUniqueId=studentReference.studentUniqueId",
			"ed-fi/studentSection504ProgramAssociations": "beginDate=beginDate educationOrganizationId=educationOrganizationReference.educationOrganizationId " +
				"programEducationOrganizationId=programReference.educationOrganizationId programName=programReference.programName " +
				"programTypeDescriptor=programReference.programTypeDescriptor studentUniqueId=studentReference.studentUniqueId",
			"ed-fi/feederSchoolAssociations": "beginDate=beginDate feederSchoolId=feederSchoolReference.schoolId schoolId=schoolReference.schoolId",
			"ed-fi/localAccounts":            "accountIdentifier=accountIdentifier educationOrganizationId=educationOrganizationReference.educationOrganizationId fiscalYear=fiscalYear",
			"ed-fi/studentSchoolAttendanceEvents": "attendanceEventCategoryDescriptor=attendanceEventCategoryDescriptor eventDate=eventDate " +
				"schoolId=schoolReference.schoolId,sessionReference.schoolId schoolYear=sessionReference.schoolYear " +
				"sessionName=sessionReference.sessionName studentUniqueId=studentReference.studentUniqueId",
			"ed-fi/schoolYearTypes": "schoolYear=schoolYear",
			"ed-fi/termDescriptors": "codeValue=codeValue namespace=namespace",
		},
		"4.0": {
			"ed-fi/gradingPeriods": "gradingPeriodDescriptor=gradingPeriodDescriptor periodSequence=periodSequence schoolId=schoolReference.schoolId " +
				"schoolYear=schoolYearTypeReference.schoolYear",
			"ed-fi/parents":         "parentUniqueId=parentUniqueId",
			"ed-fi/schoolYearTypes": "schoolYear=schoolYear",
			"ed-fi/reportCards": "educationOrganizationId=educationOrganizationReference.educationOrganizationId " +
				"gradingPeriodDescriptor=gradingPeriodReference.gradingPeriodDescriptor gradingPeriodSchoolId=gradingPeriodReference.schoolId " +
				"gradingPeriodSchoolYear=gradingPeriodReference.schoolYear gradingPeriodSequence=gradingPeriodReference.periodSequence " +
				"studentUniqueId=studentReference.studentUniqueId",
		},
	} {
		m := bundledModel(t, version)
		for path, want := range keys {
			if diff := cmp.Diff(strings.Fields(keyOf(resourceOf(t, m, path))), strings.Fields(want)); diff != "" {
				t.Errorf("%s %s, - got + want:\n%s", version, path, diff)
			}
		}
	}
}

func TestReferencesCarryTheKeyOfTheirTarget(t *testing.T) {
	t.Parallel()
	for _, version := range schema.BundledVersions() {
		m := bundledModel(t, version)
		references := 0
		for _, r := range m.Resources {
			walk(r.Root, "", func(path string, p *schema.Property) {
				if p.Kind != schema.Reference {
					return
				}
				references++
				checkReference(t, m, r, path, p)
			})
		}
		if references < 250 {
			t.Errorf("%s: only %d references", version, references)
		}
	}
}

func checkReference(t *testing.T, m *schema.Model, r *schema.Resource, path string, p *schema.Property) {
	t.Helper()
	targets := m.Concrete(p.Target)
	if len(targets) == 0 {
		t.Errorf("%s %s %s: no resource of %s", m.Name, r.Path, path, p.Target)
	}
	leaves := make([]string, 0, len(p.Parts))
	for _, part := range p.Parts {
		leaves = append(leaves, part.Leaf)
	}
	var fields []string
	for _, leaf := range p.Fields.Properties {
		fields = append(fields, leaf.Name)
		if !leaf.Required || !leaf.Identity {
			t.Errorf("%s %s %s.%s is not required identity", m.Name, r.Path, path, leaf.Name)
		}
	}
	slices.Sort(leaves)
	if diff := cmp.Diff(leaves, fields); diff != "" {
		t.Errorf("%s %s %s: parts are not its leaves, - parts + leaves:\n%s", m.Name, r.Path, path, diff)
	}
	for _, target := range targets {
		if len(p.Parts) != len(target.Key) {
			t.Errorf("%s %s %s: %d parts for the key of %s with %d", m.Name, r.Path, path, len(p.Parts), target.Path, len(target.Key))
			continue
		}
		for i, part := range p.Parts {
			key := target.Key[i]
			if part.Part != key.Name && (target.Extends != p.Target || len(target.Key) != 1) {
				t.Errorf("%s %s %s.%s: part %s, the key of %s has %s", m.Name, r.Path, path, part.Leaf, part.Part, target.Path, key.Name)
			}
			leaf, _ := p.Fields.Property(part.Leaf)
			if leaf.Kind != key.Kind {
				t.Errorf("%s %s %s.%s is %s, %s of %s is %s", m.Name, r.Path, path, part.Leaf, leaf.Kind, key.Name, target.Path, key.Kind)
			}
		}
	}
}

func TestKeyPathsAreRequiredIdentity(t *testing.T) {
	t.Parallel()
	for _, version := range schema.BundledVersions() {
		m := bundledModel(t, version)
		for _, r := range m.Resources {
			if len(r.Key) == 0 {
				t.Errorf("%s %s has no key", version, r.Path)
			}
			held := make(map[string]string)
			for _, part := range r.Key {
				for _, path := range part.Paths {
					if other, ok := held[path]; ok {
						t.Errorf("%s %s: %s holds %s and %s", version, r.Path, path, other, part.Name)
					}
					held[path] = part.Name
					top, _, _ := strings.Cut(path, ".")
					for _, name := range []string{top, path} {
						p, ok := r.Property(name)
						if !ok || !p.Required || !p.Identity || p.Kind == schema.Collection || p.Kind == schema.Object {
							t.Errorf("%s %s: %s of key part %s is not required identity", version, r.Path, name, part.Name)
						}
					}
					if p, _ := r.Property(path); p.Kind != part.Kind {
						t.Errorf("%s %s: %s is %s, key part %s is %s", version, r.Path, path, p.Kind, part.Name, part.Kind)
					}
				}
			}
		}
	}
}

func TestUnifiedPathsAreOfOneKind(t *testing.T) {
	t.Parallel()
	for _, version := range schema.BundledVersions() {
		for _, r := range bundledModel(t, version).Resources {
			seen := make(map[string]bool)
			for _, group := range r.Unify {
				if len(group) < 2 {
					t.Errorf("%s %s: %v is no group", version, r.Path, group)
				}
				var kind schema.Kind
				for _, path := range group {
					p, ok := r.Property(path)
					if !ok || p.Fields != nil || kind != 0 && p.Kind != kind {
						t.Errorf("%s %s: %s of %v is not a value of one kind", version, r.Path, path, group)
						continue
					}
					kind = p.Kind
					if seen[path] {
						t.Errorf("%s %s: %s is in two groups", version, r.Path, path)
					}
					seen[path] = true
				}
			}
			for _, part := range r.Key {
				if len(part.Paths) > 1 && !slices.ContainsFunc(r.Unify, func(g []string) bool { return containsAll(g, part.Paths) }) {
					t.Errorf("%s %s: the paths of key part %s are not unified", version, r.Path, part.Name)
				}
			}
		}
	}
}

func containsAll(group, paths []string) bool {
	return !slices.ContainsFunc(paths, func(path string) bool { return !slices.Contains(group, path) })
}

func TestKeyUpdatableResources(t *testing.T) {
	t.Parallel()
	want := []string{
		"ed-fi/classPeriods", "ed-fi/gradebookEntries", "ed-fi/grades", "ed-fi/locations", "ed-fi/sections", "ed-fi/sessions",
		"ed-fi/studentSchoolAssociations", "ed-fi/studentSectionAssociations",
	}
	for _, version := range schema.BundledVersions() {
		var got []string
		for _, r := range bundledModel(t, version).Resources {
			if r.KeyUpdatable {
				got = append(got, r.Path)
			}
		}
		if diff := cmp.Diff(got, want); diff != "" {
			t.Errorf("%s, - got + want:\n%s", version, diff)
		}
	}
}

func TestRequiredCollections(t *testing.T) {
	t.Parallel()
	for _, version := range schema.BundledVersions() {
		m := bundledModel(t, version)
		for path, collections := range map[string][]string{
			"ed-fi/schools":                {"educationOrganizationCategories", "gradeLevels"},
			"ed-fi/localEducationAgencies": {"categories"},
			"ed-fi/courses":                {"identificationCodes"},
			"ed-fi/calendarDates":          {"calendarEvents"},
			"ed-fi/bellSchedules":          {"classPeriods"},
			"ed-fi/disciplineActions":      {"disciplines"},
			"ed-fi/sections":               nil,
			"ed-fi/students":               nil,
		} {
			var got []string
			for _, p := range resourceOf(t, m, path).Root.Properties {
				if p.Kind == schema.Collection && p.MinItems > 0 {
					got = append(got, p.Name)
					if !p.Required {
						t.Errorf("%s %s: %s has least items but is not required", version, path, p.Name)
					}
				}
			}
			if diff := cmp.Diff(got, collections); diff != "" {
				t.Errorf("%s %s, - got + want:\n%s", version, path, diff)
			}
		}
	}
}

func TestCollectionItemKeysArePathsOfTheItem(t *testing.T) {
	t.Parallel()
	for _, version := range schema.BundledVersions() {
		for _, r := range bundledModel(t, version).Resources {
			walk(r.Root, "", func(path string, p *schema.Property) {
				if p.Kind != schema.Collection {
					return
				}
				if len(p.ItemKey) == 0 {
					t.Errorf("%s %s %s has no item key", version, r.Path, path)
				}
				for _, key := range p.ItemKey {
					if leaf, ok := p.Fields.Property(key); !ok || leaf.Fields != nil || !leaf.Required {
						t.Errorf("%s %s %s: %s of its item key is no required value", version, r.Path, path, key)
					}
				}
			})
		}
	}
}

func TestDescriptorPropertiesNameADescriptor(t *testing.T) {
	t.Parallel()
	for _, version := range schema.BundledVersions() {
		m := bundledModel(t, version)
		for _, r := range m.Resources {
			walk(r.Root, "", func(path string, p *schema.Property) {
				if p.Kind != schema.Descriptor {
					return
				}
				if d, ok := m.Entity(p.Target); !ok || !d.Descriptor || d.Name != p.Target || p.MaxLength != 306 {
					t.Errorf("%s %s %s takes %q, at most %d characters", version, r.Path, path, p.Target, p.MaxLength)
				}
			})
		}
	}
}

func TestFactsOfProperties(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		version, resource, path string
		want                    schema.Property
	}{
		{"5.2", "ed-fi/students", "studentUniqueId", schema.Property{Kind: schema.String, Required: true, Identity: true, MinLength: 1, MaxLength: 32}},
		{"5.2", "ed-fi/students", "middleName", schema.Property{Kind: schema.String, MinLength: 1, MaxLength: 75}},
		{"5.2", "ed-fi/sections", "availableCredits", schema.Property{Kind: schema.Decimal, Precision: 9, Scale: 3}},
		{"5.2", "ed-fi/courses", "numberOfParts", schema.Property{Kind: schema.Integer, Required: true, HasRange: true, Min: 1, Max: 8}},
		{"5.2", "ed-fi/bellSchedules", "startTime", schema.Property{Kind: schema.Time}},
		{"5.2", "ed-fi/students", "birthCountryDescriptor", schema.Property{Kind: schema.Descriptor, MaxLength: 306, Target: "CountryDescriptor"}},
		{"5.2", "ed-fi/studentAssessments", "administrationDate", schema.Property{Kind: schema.DateTime}},
		{"5.2", "ed-fi/students", "identificationDocuments.identificationDocumentUseDescriptor", schema.Property{Kind: schema.Descriptor, Required: true, Identity: true, MaxLength: 306, Target: "IdentificationDocumentUseDescriptor"}},
		{"5.2", "ed-fi/students", "identificationDocuments.documentTitle", schema.Property{Kind: schema.String, MinLength: 1, MaxLength: 60}},
		{"5.2", "ed-fi/studentTransportations", "studentBusDetails.busNumber", schema.Property{Kind: schema.String, Required: true, MaxLength: 36}},
		{"4.0", "ed-fi/sections", "availableCredits", schema.Property{Kind: schema.Decimal, Precision: 9, Scale: 3}},
		{"4.0", "ed-fi/schools", "schoolId", schema.Property{Kind: schema.Integer, Required: true, Identity: true}},
		{"4.0", "ed-fi/studentAcademicRecords", "cumulativeGradePointAverage", schema.Property{Kind: schema.Decimal, Scale: -1, Deprecated: true}},
		{"4.0", "ed-fi/studentGradebookEntries", "timeFulfilled", schema.Property{Kind: schema.Time}},
	} {
		p, ok := resourceOf(t, bundledModel(t, c.version), c.resource).Property(c.path)
		if !ok {
			t.Errorf("%s %s %s is missing", c.version, c.resource, c.path)
			continue
		}
		got := schema.Property{
			Kind: p.Kind, Required: p.Required, Identity: p.Identity, MinLength: p.MinLength, MaxLength: p.MaxLength, Precision: p.Precision,
			Scale: p.Scale, HasRange: p.HasRange, Min: p.Min, Max: p.Max, Target: p.Target, Deprecated: p.Deprecated,
		}
		if diff := cmp.Diff(got, c.want); diff != "" {
			t.Errorf("%s %s %s, - got + want:\n%s", c.version, c.resource, c.path, diff)
		}
		if p.Doc == "" && c.resource != "ed-fi/studentTransportations" { // newer than the documents that have docs
			t.Errorf("%s %s %s has no doc", c.version, c.resource, c.path)
		}
	}
}

func TestCatalogsRoundTrip(t *testing.T) {
	t.Parallel()
	for _, version := range schema.BundledVersions() {
		text, err := bundledModel(t, version).Catalog()
		if err != nil {
			t.Fatal(err)
		}
		back, err := schema.ParseCatalog(text)
		if err != nil {
			t.Fatal(err)
		}
		again, err := back.Catalog()
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(again, text) {
			t.Errorf("%s changes when it is written and read", version)
		}
	}
}

func TestParseCatalogRefusesGarbage(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "null", "[]", `{"resources":[null]}`, `{"resources":[{"path":"a/b"}]}`, `{"resources":[{"path":"a/b","root":{"properties":[null]}}]}`} {
		if m, err := schema.ParseCatalog([]byte(text)); err == nil && len(m.Resources) > 0 {
			t.Errorf("%q was accepted", text)
		}
	}
}

func TestDescriptorValues(t *testing.T) {
	t.Parallel()
	if got := len(schema.Descriptors()); got != 3292 {
		t.Errorf("%d values", got)
	}
	for version, want := range map[string]int{"4.0": 3137, "5.2": 3292} {
		m := bundledModel(t, version)
		values := m.DescriptorValues()
		if len(values) != want {
			t.Errorf("%s: %d values, want %d", version, len(values), want)
		}
		seen := make(map[string]bool, len(values))
		for _, v := range values {
			uri := strings.ToLower(v.URI())
			if seen[uri] {
				t.Errorf("%s: %s is listed twice", version, v.URI())
			}
			seen[uri] = true
			if !strings.HasPrefix(v.Namespace, "uri://ed-fi.org/") || v.CodeValue == "" || len([]rune(v.CodeValue)) > 50 || len([]rune(v.ShortDescription)) > 75 {
				t.Errorf("%s: %+v is no value a target would take", version, v)
			}
		}
		if !seen["uri://ed-fi.org/termdescriptor#fall semester"] {
			t.Errorf("%s: fall semester is missing", version)
		}
	}
}

func TestDescriptorsAreTheCallersOwn(t *testing.T) {
	t.Parallel()
	values := schema.Descriptors()
	values[0].CodeValue = "changed"
	if schema.Descriptors()[0].CodeValue == "changed" {
		t.Error("a caller changed the bundled values")
	}
}

func BenchmarkParseCatalog(b *testing.B) {
	text, err := bundledModel(b, "5.2").Catalog()
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := schema.ParseCatalog(text); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkProperty(b *testing.B) {
	r := resourceOf(b, bundledModel(b, "5.2"), "ed-fi/sections")
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := r.Property("classPeriods.classPeriodReference.classPeriodName"); !ok {
			b.Fatal("not found")
		}
	}
}
