package schema

import "pgregory.net/rapid"

// DrawnPayload is a payload that a random mapping made of a random row, for tests outside of this package.
type DrawnPayload struct {
	Resource *Resource
	Wire     []byte
	Problems []Problem
}

// DrawPayload draws a resource of the model, a mapping of it and a row, and encodes the row.
func DrawPayload(t *rapid.T, m *Model) DrawnPayload {
	g := &rowGenerator{T: t, model: m, resource: drawResource(t, m)}
	template := g.compile(Rules{Version: 1})
	var out Encoded
	template.Encode(g.row(), &out)
	return DrawnPayload{Resource: g.resource, Wire: out.Wire, Problems: out.Problems}
}
