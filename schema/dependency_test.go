package schema_test

import (
	"encoding/xml"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/edfisync/edfisync/schema"
)

var update = flag.Bool("update", false, "write the golden files again")

func dependenciesOf(t testing.TB, version string) []schema.Dependency {
	t.Helper()
	deps, err := schema.Dependencies(bundledModel(t, version))
	if err != nil {
		t.Fatal(err)
	}
	return deps
}

// TestDependenciesEqualThePublishedOnes compares with what the dependencies endpoint of a real host answers.
func TestDependenciesEqualThePublishedOnes(t *testing.T) {
	t.Parallel()
	for version, rows := range map[string]int{"4.0": 316, "5.2": 351} {
		want, err := schema.ParseDependencies(published(t, "dependencies", "ods-7.3-ds"+version+".0.dependencies.json"))
		if err != nil {
			t.Fatal(err)
		}
		if len(want) != rows {
			t.Errorf("%s: %d rows were published, want %d", version, len(want), rows)
		}
		if diff := cmp.Diff(dependenciesOf(t, version), want); diff != "" {
			t.Errorf("%s, - computed + published:\n%s", version, diff)
		}
	}
}

// TestDependenciesAreAsTheyWere compares with the order this package computed when it equalled the published one.
func TestDependenciesAreAsTheyWere(t *testing.T) {
	t.Parallel()
	for _, version := range schema.BundledVersions() {
		var b strings.Builder
		for _, d := range dependenciesOf(t, version) {
			fmt.Fprintf(&b, "%d %s %s\n", d.Order, d.Resource, strings.Join(d.Operations, "+"))
		}
		golden := filepath.Join("testdata", "dependencies-"+version+".txt")
		if *update {
			if err := os.WriteFile(golden, []byte(b.String()), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(b.String(), string(want)); diff != "" {
			t.Errorf("%s, - got + want:\n%s", version, diff)
		}
	}
}

func TestPeopleAreLoadedInTwoSteps(t *testing.T) {
	t.Parallel()
	for version, want := range map[string]map[string]string{
		"4.0": {"/ed-fi/students": "3 15", "/ed-fi/staffs": "3 9", "/ed-fi/parents": "3 16", "/ed-fi/studentSchoolAssociations": "14"},
		"5.2": {"/ed-fi/students": "3 14", "/ed-fi/staffs": "3 9", "/ed-fi/contacts": "3 15", "/ed-fi/studentSchoolAssociations": "13"},
	} {
		got := make(map[string]string)
		for _, d := range dependenciesOf(t, version) {
			if _, ok := want[d.Resource]; ok {
				got[d.Resource] = strings.TrimSpace(got[d.Resource] + fmt.Sprintf(" %d", d.Order))
			}
		}
		if diff := cmp.Diff(got, want); diff != "" {
			t.Errorf("%s, - got + want:\n%s", version, diff)
		}
	}
}

func TestEveryReferenceIsLoadedBeforeItsResource(t *testing.T) {
	t.Parallel()
	for _, version := range schema.BundledVersions() {
		m := bundledModel(t, version)
		created := make(map[string]int)
		for _, d := range dependenciesOf(t, version) {
			if slices.Contains(d.Operations, schema.OperationCreate) {
				created[d.Resource] = d.Order
			}
		}
		for _, r := range m.Resources {
			walk(r.Root, "", func(path string, p *schema.Property) {
				if p.Kind != schema.Reference && p.Kind != schema.Descriptor {
					return
				}
				for _, target := range m.Concrete(p.Target) {
					if target != r && created["/"+target.Path] >= created["/"+r.Path] && target.Name != "SchoolYearType" && r.Name != "SchoolYearType" {
						t.Errorf("%s: %s.%s is loaded at %d, %s at %d", version, r.Path, path, created["/"+r.Path], target.Path, created["/"+target.Path])
					}
				}
			})
		}
		if _, ok := created["/ed-fi/schoolYearTypes"]; ok {
			t.Errorf("%s: schoolYearTypes take part", version)
		}
	}
}

func TestParseDependenciesReportsWhatIsWrong(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ document, want string }{
		"not JSON":                 {"<graphml/>", "parse dependencies: invalid character"},
		"an object":                {"{}", "parse dependencies: json"},
		"no collection":            {`[{"resource":"/students","order":1,"operations":["Create"]}]`, `entry 1: resource "/students" is not /schema/collection`},
		"no order":                 {`[{"resource":"/ed-fi/students","operations":["Create"]}]`, "entry 1, /ed-fi/students: order 0 is not positive"},
		"no operations":            {`[{"resource":"/ed-fi/students","order":1}]`, "entry 1, /ed-fi/students: no operations"},
		"an operation we know not": {`[{"resource":"/ed-fi/students","order":1,"operations":["Merge"]}]`, `unknown operation "Merge"`},
	} {
		if _, err := schema.ParseDependencies([]byte(c.document)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
}

func TestACircleIsBrokenAtAnOptionalReference(t *testing.T) {
	t.Parallel()
	m, err := schema.NewModel("test", "", []*schema.Resource{
		thing("x/as", "A", reference("bReference", "B", true, "idB"), reference("aReference", "A", true, "idA")),
		thing("x/bs", "B", reference("cReference", "C", false, "idC")),
		thing("x/cs", "C", reference("aReference", "A", true, "idA")),
	})
	if err != nil {
		t.Fatal(err)
	}
	deps, err := schema.Dependencies(m)
	if err != nil {
		t.Fatal(err)
	}
	var order []string
	for _, d := range deps {
		order = append(order, d.Resource)
	}
	if diff := cmp.Diff(order, []string{"/x/bs", "/x/as", "/x/cs"}); diff != "" {
		t.Errorf("- got + want:\n%s", diff)
	}
}

func TestACircleOfRequiredReferencesIsAnError(t *testing.T) {
	t.Parallel()
	m, err := schema.NewModel("test", "", []*schema.Resource{
		thing("x/as", "A", reference("bReference", "B", true, "idB")),
		thing("x/bs", "B", reference("aReference", "A", true, "idA")),
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := schema.Dependencies(m); err == nil || !strings.Contains(err.Error(), "/x/as → /x/bs → /x/as") {
		t.Errorf("got %v", err)
	}
}

func TestGraphMLHasTheSecondStepsOfPeople(t *testing.T) {
	t.Parallel()
	g, err := schema.DependencyGraph(bundledModel(t, "5.2"))
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		XMLName xml.Name `xml:"http://graphml.graphdrawing.org/xmlns graphml"`
		Graph   struct {
			ID    string `xml:"id,attr"`
			Nodes []struct {
				ID string `xml:"id,attr"`
			} `xml:"node"`
			Edges []struct {
				Source string `xml:"source,attr"`
				Target string `xml:"target,attr"`
			} `xml:"edge"`
		} `xml:"graph"`
	}
	if err := xml.Unmarshal(g.GraphML(), &doc); err != nil {
		t.Fatal(err)
	}
	nodes := make(map[string]bool)
	for _, n := range doc.Graph.Nodes {
		nodes[n.ID] = true
	}
	if doc.Graph.ID != "EdFi Dependencies" || len(nodes) != len(g.Nodes)+3 {
		t.Errorf("graph %q has %d nodes, the model %d and three second steps", doc.Graph.ID, len(nodes), len(g.Nodes))
	}
	edges := make(map[schema.Edge]bool)
	for _, e := range doc.Graph.Edges {
		edges[schema.Edge{From: e.Source, To: e.Target}] = true
		if !nodes[e.Source] || !nodes[e.Target] {
			t.Errorf("edge %s → %s has an end that is no node", e.Source, e.Target)
		}
	}
	for e, want := range map[schema.Edge]bool{
		{From: "/ed-fi/schools", To: "/ed-fi/classPeriods"}:                                             true,
		{From: "/ed-fi/students", To: "/ed-fi/studentSchoolAssociations"}:                               true,
		{From: "/ed-fi/students", To: "/ed-fi/studentSectionAssociations"}:                              false,
		{From: "/ed-fi/studentSchoolAssociations", To: "/ed-fi/students#Retry"}:                         true,
		{From: "/ed-fi/students#Retry", To: "/ed-fi/studentSectionAssociations"}:                        true,
		{From: "/ed-fi/studentSchoolAssociations", To: "/ed-fi/studentSectionAssociations"}:             false,
		{From: "/ed-fi/staffEducationOrganizationAssignmentAssociations", To: "/ed-fi/staffs#Retry"}:    true,
		{From: "/ed-fi/staffEducationOrganizationEmploymentAssociations", To: "/ed-fi/staffs#Retry"}:    true,
		{From: "/ed-fi/staffs#Retry", To: "/ed-fi/staffSectionAssociations"}:                            true,
		{From: "/ed-fi/studentContactAssociations", To: "/ed-fi/contacts#Retry"}:                        true,
		{From: "/ed-fi/schoolYearTypes", To: "/ed-fi/sessions"}:                                         false,
		{From: "/ed-fi/localEducationAgencies", To: "/ed-fi/localEducationAgencies"}:                    false,
		{From: "/ed-fi/termDescriptors", To: "/ed-fi/sessions"}:                                         true,
		{From: "/ed-fi/stateEducationAgencies", To: "/ed-fi/courses"}:                                   true,
		{From: "/ed-fi/studentSection504ProgramAssociations", To: "/ed-fi/studentCompetencyObjectives"}: true,
	} {
		if edges[e] != want {
			t.Errorf("%s → %s: %v, want %v", e.From, e.To, edges[e], want)
		}
	}
}

func BenchmarkDependencies(b *testing.B) {
	m := bundledModel(b, "5.2")
	for b.Loop() {
		if _, err := schema.Dependencies(m); err != nil {
			b.Fatal(err)
		}
	}
}
