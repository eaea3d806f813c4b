package sync

import (
	"fmt"
	"slices"
	"sort"
	"strings"

	"github.com/edfisync/edfisync/schema"
	"github.com/edfisync/edfisync/source"
	"github.com/edfisync/edfisync/syncdb"
)

// scope is what one connection syncs: the resources its mapping pack has queries for, in load order, and how they depend on each other.
type scope struct {
	model     *schema.Model
	resources []*scoped
	targets   []target
	entity    map[string]uint16 // entity name, as references call it → index in targets
	drift     drift             // of the rows at hand
}

// scoped is one resource of the scope.
type scoped struct {
	*schema.Resource
	Queries  []*source.Bound
	CreateAt int   // load order of Create
	UpdateAt int   // load order of Update; later than CreateAt for people (two phases)
	after    []int // resources whose records must be there first; indexes into scope.resources, all earlier in load order
	nested   bool  // its records refer to records of the same resource
	rekeys   bool  // its records can get another natural key at the target: by PUT, or with a parent
	off      bool  // the connection does not sync it any more, and the ledger has entries of it: they are out of the scope (I5g)
	hangs    bool  // records of others hang on its rows that are not sent (unsent.go)
	wanted   bool  // another resource of the scope refers to it, so its live keys are kept for the run
}

// target is what a reference can point to: the resources of the scope that hold such records.
type target struct {
	Entity    string
	Resources []int
	Off       []int // those that hold such records and are off: what refers to one keeps it, and nothing else is known by it
	Complete  bool  // every resource that could hold one is in the scope: absent here is absent
}

// people are the resources an API creates before it lets anybody read or update them, and the associations that give that right
// (edfi-api.md §a, "two-phase people rows"). They are what a record is authorised through.
var people = map[string][]string{
	"Student": {"StudentSchoolAssociation"},
	"Staff":   {"StaffEducationOrganizationAssignmentAssociation", "StaffEducationOrganizationEmploymentAssociation"},
	"Contact": {"StudentContactAssociation", "StudentSchoolAssociation"},
	"Parent":  {"StudentParentAssociation", "StudentSchoolAssociation"},
}

// newScope orders the resources of the bound queries by the target's dependencies. An error names the resources the target does not have. Those that are off
// have a place in the order of deletes, and nothing else: what is not of the scope may be at the target without our knowing.
func newScope(m *schema.Model, bound []*source.Bound, deps []schema.Dependency, off ...*schema.Resource) (*scope, error) {
	create, update := map[string]int{}, map[string]int{}
	for _, d := range deps {
		path := strings.ToLower(strings.TrimPrefix(d.Resource, "/"))
		for _, op := range d.Operations {
			switch op {
			case "Create":
				create[path] = d.Order
			case "Update":
				update[path] = d.Order
			}
		}
	}
	byPath := map[string]*scoped{}
	s := &scope{model: m, entity: map[string]uint16{}}
	var unknown []string
	for _, b := range bound {
		path := strings.ToLower(b.Resource.Path)
		r := byPath[path]
		if r == nil {
			at, ok := create[path]
			if !ok {
				unknown = append(unknown, b.Resource.Path)
				continue
			}
			r = &scoped{Resource: b.Resource, CreateAt: at, UpdateAt: max(at, update[path])}
			byPath[path] = r
			s.resources = append(s.resources, r)
		}
		r.Queries = append(r.Queries, b)
	}
	if len(unknown) > 0 {
		slices.Sort(unknown)
		return nil, fmt.Errorf("the target's dependency list has no %s: leave these resources out of the connection (resources:), "+
			"or use a mapping pack for the target's data standard", strings.Join(slices.Compact(unknown), ", "))
	}
	for _, r := range off {
		path := strings.ToLower(r.Path)
		if at, ok := create[path]; ok && byPath[path] == nil {
			s.resources = append(s.resources, &scoped{Resource: r, CreateAt: at, UpdateAt: max(at, update[path]), off: true})
		}
	}
	sort.Slice(s.resources, func(i, j int) bool {
		a, b := s.resources[i], s.resources[j]
		if a.CreateAt != b.CreateAt {
			return a.CreateAt < b.CreateAt
		}
		return a.Path < b.Path
	})
	s.link()
	return s, nil
}

// link fills targets and the dependencies between resources.
func (s *scope) link() {
	index := map[string]int{}
	changing := map[string]bool{}
	for i, r := range s.resources {
		index[r.Name] = i
		r.rekeys = rekeys(s.model, r.Resource, changing)
	}
	for i, r := range s.resources {
		need := map[int]bool{}
		want := func(entity string) {
			for _, c := range s.model.Concrete(entity) {
				r.nested = r.nested || c.Name == r.Name
				if j, ok := index[c.Name]; ok && j != i && s.resources[j].CreateAt < r.CreateAt {
					need[j] = true
				}
			}
		}
		eachTarget(r.Root, func(p *schema.Property) {
			want(p.Target)
			if p.Kind != schema.Reference {
				return
			}
			for _, association := range people[p.Target] {
				want(association)
			}
			s.addTarget(p.Target, index)
		})
		for j := range need {
			r.after = append(r.after, j)
			s.resources[j].wanted = true
		}
		slices.Sort(r.after)
	}
	for _, t := range s.targets {
		for _, j := range t.Resources {
			s.resources[j].wanted = true // self-references count too
		}
	}
	for _, r := range s.resources {
		r.hangs = s.hangsOn(r)
	}
}

func (s *scope) addTarget(entity string, index map[string]int) {
	if _, ok := s.entity[entity]; ok {
		return
	}
	t := target{Entity: entity, Complete: true}
	for _, c := range s.model.Concrete(entity) {
		j, known := index[c.Name]
		switch on := known && !s.resources[j].off; {
		case on:
			t.Resources = append(t.Resources, j)
			continue
		case known:
			t.Off = append(t.Off, j)
		}
		t.Complete = false
	}
	if len(t.Resources) == 0 {
		t.Complete = false
	}
	s.entity[entity] = uint16(len(s.targets))
	s.targets = append(s.targets, t)
}

// holds reports whether records of a resource are among what references to the target mean.
func (t *target) holds(resource int) bool {
	return slices.Contains(t.Resources, resource) || slices.Contains(t.Off, resource)
}

// eachTarget calls fn for every reference and every descriptor property of a payload, at any depth.
func eachTarget(f *schema.Fields, fn func(*schema.Property)) {
	if f == nil {
		return
	}
	for _, p := range f.Properties {
		switch p.Kind {
		case schema.Reference, schema.Descriptor:
			fn(p)
		case schema.Object, schema.Collection:
			eachTarget(p.Fields, fn)
		}
	}
}

// step is one (resource, verbs) of a run. It starts when every step in After is done.
type step struct {
	Position int
	Resource int // index into scope.resources
	Verb     syncdb.Verb
	After    []int
}

// steps lays out the run: creates and updates in load order, two steps for two-phase people, then deletes, where a resource waits for all
// that refer to it: the create order inverted (I6). Enrolments go after everything that is authorised through them, people after
// enrolments, because creates come in that order too.
//
//	create students → create enrolments → update students, create attendance → delete attendance → delete enrolments → delete students
func (s *scope) steps() []step {
	var out []step
	create := make([]int, len(s.resources))
	add := func(resource int, verb syncdb.Verb, after []int) int {
		slices.Sort(after)
		out = append(out, step{Position: len(out), Resource: resource, Verb: verb, After: slices.Compact(after)})
		return len(out) - 1
	}
	for i, r := range s.resources {
		var after []int
		for _, j := range r.after {
			after = append(after, create[j])
		}
		create[i] = add(i, syncdb.Create, after)
	}
	for i, r := range s.resources {
		if r.UpdateAt == r.CreateAt {
			continue
		}
		after := []int{create[i]}
		for j, other := range s.resources {
			if other.CreateAt < r.UpdateAt && slices.Contains(other.after, i) {
				after = append(after, create[j])
			}
		}
		add(i, syncdb.Update, after)
	}
	writes := make([]int, len(out))
	for i := range writes {
		writes[i] = i
	}
	deletes := make([]int, len(s.resources))
	for i := len(s.resources) - 1; i >= 0; i-- {
		after := slices.Clone(writes)
		for j := i + 1; j < len(s.resources); j++ {
			if slices.Contains(s.resources[j].after, i) {
				after = append(after, deletes[j])
			}
		}
		deletes[i] = add(i, syncdb.Delete, after)
	}
	return out
}

// twoPhase reports whether updates of the resource have a step of their own.
func (r *scoped) twoPhase() bool { return r.UpdateAt != r.CreateAt }
