package schema

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// Dependency is one step of the order in which resources are loaded, as GET …/dependencies gives it. Everything of a lower Order comes
// before; resources of one Order do not need each other.
type Dependency struct {
	Resource   string   `json:"resource"`   // URL path with its leading slash, "/ed-fi/students"
	Order      int      `json:"order"`      // from 1
	Operations []string `json:"operations"` // "Create", "Update"; people are created in one step and updated in a later one
}

// Operations of a Dependency.
const (
	OperationCreate = "Create"
	OperationUpdate = "Update"
)

// ParseDependencies reads the answer of a target's dependencies endpoint.
func ParseDependencies(doc []byte) ([]Dependency, error) {
	var deps []Dependency
	if err := json.Unmarshal(doc, &deps); err != nil {
		return nil, fmt.Errorf("parse dependencies: %w", err)
	}
	for i, d := range deps {
		switch {
		case strings.Count(d.Resource, "/") != 2 || !strings.HasPrefix(d.Resource, "/"):
			return nil, fmt.Errorf("parse dependencies: entry %d: resource %q is not /schema/collection", i+1, d.Resource)
		case d.Order < 1:
			return nil, fmt.Errorf("parse dependencies: entry %d, %s: order %d is not positive", i+1, d.Resource, d.Order)
		case len(d.Operations) == 0:
			return nil, fmt.Errorf("parse dependencies: entry %d, %s: no operations", i+1, d.Resource)
		}
		for _, op := range d.Operations {
			if op != OperationCreate && op != OperationUpdate {
				return nil, fmt.Errorf("parse dependencies: entry %d, %s: unknown operation %q", i+1, d.Resource, op)
			}
		}
	}
	return deps, nil
}

// Dependencies computes the load order of a model as an Ed-Fi ODS/API does: resources in topological levels, in a level by name. A
// person is created early and updated when the associations that authorize it are there: those updates come first in their level.
func Dependencies(m *Model) ([]Dependency, error) {
	g, err := DependencyGraph(m)
	if err != nil {
		return nil, err
	}
	levels := g.levels()
	deps := make([]Dependency, 0, len(levels))
	twice := make(map[string]bool)
	for _, w := range g.waits {
		twice[w.person] = true
		update := Dependency{Resource: w.person, Operations: []string{OperationUpdate}}
		for _, association := range w.update {
			update.Order = max(update.Order, levels[association]+1)
		}
		deps = append(deps, update)
	}
	for _, node := range g.Nodes {
		d := Dependency{Resource: node, Order: levels[node], Operations: []string{OperationCreate, OperationUpdate}}
		if twice[node] {
			d.Operations = []string{OperationCreate}
		}
		deps = append(deps, d)
	}
	slices.SortFunc(deps, func(a, b Dependency) int {
		return cmp.Or(cmp.Compare(a.Order, b.Order), cmp.Compare(creates(a), creates(b)), compareFold(a.Resource, b.Resource))
	})
	return deps, nil
}

// creates is 1 for a step that creates, 0 for one that only updates.
func creates(d Dependency) int {
	if slices.Contains(d.Operations, OperationCreate) {
		return 1
	}
	return 0
}
