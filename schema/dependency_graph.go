package schema

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"slices"
	"strings"
)

// Edge says that From is loaded before To.
type Edge struct{ From, To string }

// Graph is the dependency graph of a model. Nodes are resource paths with their leading slash, "/ed-fi/students". It is read-only.
type Graph struct {
	Nodes []string // sorted without regard to case
	Edges []Edge   // sorted so too, From first

	waits []wait
}

// wait is a person's second step: after the associations that authorize the person, before what needs an authorized person.
type wait struct {
	person  string   // "/ed-fi/students"
	through []string // "/ed-fi/studentSchoolAssociations"
	update  []string // what the person's own update comes after
	before  []string // what used the person and now waits for through
}

// person is an entity whose records other resources may use only after an association authorizes it.
type person struct {
	entity       string
	associations []string // what others wait for in place of the person
	update       []string // what the person's own update waits for
}

// people lists them. A student is reached through the enrolment, a staff member through assignment or employment, a contact (parent,
// before data standard 5) through the student it is associated with.
func people() []person {
	return []person{
		{"Student", []string{"StudentSchoolAssociation"}, []string{"StudentSchoolAssociation"}},
		{
			"Staff",
			[]string{"StaffEducationOrganizationAssignmentAssociation", "StaffEducationOrganizationEmploymentAssociation"},
			[]string{"StaffEducationOrganizationAssignmentAssociation", "StaffEducationOrganizationEmploymentAssociation"},
		},
		{"Contact", []string{"StudentContactAssociation"}, []string{"StudentContactAssociation", "StudentSchoolAssociation"}},
		{"Parent", []string{"StudentParentAssociation"}, []string{"StudentParentAssociation", "StudentSchoolAssociation"}},
	}
}

// DependencyGraph computes what must exist before what, as an Ed-Fi ODS/API does: an edge from every resource a payload may refer to
// and every descriptor it may hold; for a reference to an abstract entity from each of its kinds; what needs a person waits for the
// person's authorizing association instead. schoolYearTypes, which targets own, take no part, nor do references to the own kind.
// Cycles are broken where a reference may be left out; it is an error when one has no such reference.
func DependencyGraph(m *Model) (*Graph, error) {
	b := graphBuilder{m: m, edges: make(map[Edge]bool)}
	g := &Graph{}
	for _, r := range m.Resources {
		if r.Name == schoolYearType {
			continue
		}
		g.Nodes = append(g.Nodes, "/"+r.Path)
		b.collect(r, r.Root, false)
	}
	slices.SortFunc(g.Nodes, compareFold)
	for _, p := range people() {
		if w, ok := b.wait(p); ok {
			g.waits = append(g.waits, w)
		}
	}
	if err := b.breakCycles(g.Nodes); err != nil {
		return nil, err
	}
	for e := range b.edges {
		g.Edges = append(g.Edges, e)
	}
	slices.SortFunc(g.Edges, compareEdges)
	return g, nil
}

const schoolYearType = "SchoolYearType"

type graphBuilder struct {
	m     *Model
	edges map[Edge]bool // → whether it may be left out: all references it stands for are optional
}

// collect adds an edge for every reference and descriptor below fields.
func (b *graphBuilder) collect(r *Resource, fields *Fields, optional bool) {
	for _, p := range fields.Properties {
		soft := optional || !p.Required
		switch p.Kind {
		case Descriptor, Reference:
			for _, target := range b.m.Concrete(p.Target) {
				if target != r && target.Name != schoolYearType {
					b.add(Edge{"/" + target.Path, "/" + r.Path}, soft)
				}
			}
		case Object, Collection:
			b.collect(r, p.Fields, soft)
		default:
		}
	}
}

func (b *graphBuilder) add(e Edge, soft bool) {
	other, ok := b.edges[e]
	b.edges[e] = soft && (other || !ok)
}

// wait lets everything that uses a person wait for the associations through which the person is authorized; they themselves go on
// needing the person. It does nothing in a model without them.
func (b *graphBuilder) wait(p person) (wait, bool) {
	r, ok := b.m.Entity(p.entity)
	w := wait{through: b.nodes(p.associations), update: b.nodes(p.update)}
	if !ok || len(w.through) == 0 {
		return w, false
	}
	w.person = "/" + r.Path
	for e := range b.edges {
		if e.From == w.person && !slices.Contains(w.through, e.To) {
			w.before = append(w.before, e.To)
		}
	}
	slices.SortFunc(w.before, compareFold)
	for _, to := range w.before {
		e := Edge{w.person, to}
		for _, association := range w.through {
			b.add(Edge{association, to}, b.edges[e])
		}
		delete(b.edges, e)
	}
	return w, true
}

func (b *graphBuilder) nodes(entities []string) []string {
	var nodes []string
	for _, name := range entities {
		if r, ok := b.m.Entity(name); ok {
			nodes = append(nodes, "/"+r.Path)
		}
	}
	return nodes
}

// breakCycles removes, from each cycle it meets, the last edge that may be left out.
func (b *graphBuilder) breakCycles(nodes []string) error {
	for {
		cycle := b.cycle(nodes)
		if cycle == nil {
			return nil
		}
		i := len(cycle) - 1
		for i >= 0 && !b.edges[cycle[i]] {
			i--
		}
		if i < 0 {
			path := []string{cycle[0].From}
			for _, e := range cycle {
				path = append(path, e.To)
			}
			return fmt.Errorf("order resources: required references go round in a circle: %s", strings.Join(path, " → "))
		}
		delete(b.edges, cycle[i])
	}
}

// cycle returns the edges of one cycle, the same for the same graph, or nil.
func (b *graphBuilder) cycle(nodes []string) []Edge {
	s := cycleSearch{next: make(map[string][]string), done: make(map[string]bool)}
	for e := range b.edges {
		s.next[e.From] = append(s.next[e.From], e.To)
	}
	for _, next := range s.next {
		slices.SortFunc(next, compareFold)
	}
	for _, node := range nodes {
		if found := s.visit(node); found != nil {
			return found
		}
	}
	return nil
}

// cycleSearch is a depth-first search.
type cycleSearch struct {
	next map[string][]string
	done map[string]bool
	path []string
}

func (s *cycleSearch) visit(node string) []Edge {
	if s.done[node] {
		return nil
	}
	if start := slices.Index(s.path, node); start >= 0 {
		var round []Edge
		for i := start; i < len(s.path)-1; i++ {
			round = append(round, Edge{s.path[i], s.path[i+1]})
		}
		return append(round, Edge{s.path[len(s.path)-1], node})
	}
	s.path = append(s.path, node)
	for _, next := range s.next[node] {
		if found := s.visit(next); found != nil {
			return found
		}
	}
	s.path = s.path[:len(s.path)-1]
	s.done[node] = true
	return nil
}

// levels returns the topological level of each node: 1 without predecessors, else one more than the highest of them.
func (g *Graph) levels() map[string]int {
	before := make(map[string][]string)
	for _, e := range g.Edges {
		before[e.To] = append(before[e.To], e.From)
	}
	levels := make(map[string]int, len(g.Nodes))
	var level func(node string) int
	level = func(node string) int {
		if known := levels[node]; known > 0 {
			return known
		}
		highest := 0
		for _, from := range before[node] {
			highest = max(highest, level(from))
		}
		levels[node] = highest + 1
		return highest + 1
	}
	for _, node := range g.Nodes {
		level(node)
	}
	return levels
}

// GraphML writes the graph as a target's dependencies endpoint answers Accept: application/graphml. A person's second step is a node of
// its own there: …/studentSchoolAssociations → …/students#Retry → all that needs a student.
func (g *Graph) GraphML() []byte {
	nodes := slices.Clone(g.Nodes)
	edges := make(map[Edge]bool, len(g.Edges))
	for _, e := range g.Edges {
		edges[e] = true
	}
	for _, w := range g.waits {
		retry := w.person + "#Retry"
		nodes = append(nodes, retry)
		for _, association := range w.through {
			edges[Edge{association, retry}] = true
			for _, to := range w.before {
				if edges[Edge{association, to}] {
					delete(edges, Edge{association, to})
					edges[Edge{retry, to}] = true
				}
			}
		}
	}
	sorted := make([]Edge, 0, len(edges))
	for e := range edges {
		sorted = append(sorted, e)
	}
	slices.SortFunc(nodes, compareFold)
	slices.SortFunc(sorted, compareEdges)

	var b bytes.Buffer
	b.WriteString(xml.Header + `<graphml xmlns="http://graphml.graphdrawing.org/xmlns"><graph id="EdFi Dependencies" edgedefault="directed">`)
	for _, node := range nodes {
		b.WriteString(`<node id="`)
		escape(&b, node)
		b.WriteString(`"/>`)
	}
	for _, e := range sorted {
		b.WriteString(`<edge source="`)
		escape(&b, e.From)
		b.WriteString(`" target="`)
		escape(&b, e.To)
		b.WriteString(`"/>`)
	}
	b.WriteString("</graph></graphml>")
	return b.Bytes()
}

func escape(b *bytes.Buffer, text string) {
	_ = xml.EscapeText(b, []byte(text)) // a buffer takes everything
}

func compareFold(a, b string) int { return strings.Compare(strings.ToLower(a), strings.ToLower(b)) }

func compareEdges(a, b Edge) int {
	if c := compareFold(a.From, b.From); c != 0 {
		return c
	}
	return compareFold(a.To, b.To)
}
