package sandbox

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/edfisync/edfisync/schema"
)

// composer makes one payload per resource such that all of them fit together: every reference points at the one record of its target.
type composer struct {
	m           *schema.Model
	full        bool                      // optional elements too
	keys        map[string]map[string]any // entity → part of its key → value
	descriptors map[string]string         // entity → a URI
}

func (c *composer) payload(r *schema.Resource) map[string]any {
	p := c.object(r.Root)
	for _, group := range r.Unify {
		c.unify(p, group)
	}
	return p
}

func (c *composer) object(f *schema.Fields) map[string]any {
	out := map[string]any{}
	for _, p := range f.Properties {
		if !c.full && !p.Required && p.MinItems == 0 && !p.Identity {
			continue
		}
		switch p.Kind {
		case schema.Reference:
			if key := c.keys[p.Target]; key != nil {
				ref := map[string]any{}
				for _, part := range p.Parts {
					ref[part.Leaf] = key[part.Part]
					if len(p.Parts) == 1 {
						for _, only := range key {
							ref[part.Leaf] = only
						}
					}
				}
				out[p.Name] = ref
			}
		case schema.Object:
			if o := c.object(p.Fields); complete(p.Fields, o) {
				out[p.Name] = o
			}
		case schema.Collection:
			if item := c.object(p.Fields); len(item) > 0 && complete(p.Fields, item) {
				out[p.Name] = []any{item}
			}
		default:
			out[p.Name] = c.scalar(p)
		}
	}
	return out
}

// complete says whether an item has what it must; an optional collection of references to what does not exist yet is left out.
func complete(f *schema.Fields, item map[string]any) bool {
	for _, p := range f.Properties {
		if p.Required && item[p.Name] == nil {
			return false
		}
	}
	return true
}

func (c *composer) scalar(p *schema.Property) any {
	switch p.Kind {
	case schema.Boolean:
		return true
	case schema.Integer, schema.Long:
		if strings.HasSuffix(strings.ToLower(p.Name), "year") {
			return 2026
		}
		if p.HasRange {
			return max(p.Min, 1)
		}
		return 5
	case schema.Decimal:
		return json.Number("1.5")
	case schema.Date:
		return "2026-01-31"
	case schema.DateTime:
		return "2026-01-31T10:20:30Z"
	case schema.Time:
		return "10:20:30"
	case schema.Descriptor:
		return c.descriptors[p.Target]
	}
	text := "Té\"xt " + p.Name
	for len(text) < p.MinLength {
		text += "x"
	}
	if p.MaxLength > 0 && len([]rune(text)) > p.MaxLength {
		text = "xyz4567890123456789012345678901234567890"[:p.MaxLength]
	}
	return text
}

// unify gives plain scalars the value a reference has.
func (c *composer) unify(payload map[string]any, group []string) {
	var value any
	for _, path := range group {
		if ref, leaf, ok := strings.Cut(path, "."); ok && value == nil {
			if r, ok := payload[ref].(map[string]any); ok {
				value = r[leaf]
			}
		}
	}
	for _, path := range group {
		if _, there := payload[path]; there && value != nil {
			payload[path] = value
		}
	}
}

func (c *composer) remember(r *schema.Resource, payload map[string]any) {
	key := map[string]any{}
	for _, part := range r.Key {
		var at any = payload
		for step := range strings.SplitSeq(part.Paths[0], ".") {
			at = at.(map[string]any)[step]
		}
		key[part.Name] = at
	}
	c.keys[r.Name] = key
	if r.Extends != "" && (c.keys[r.Extends] == nil || r.Name == "School") {
		c.keys[r.Extends] = key
	}
}

// distinct keeps the kinds of an abstract entity apart, which share one id space.
func distinct(r *schema.Resource, payload map[string]any, n int) {
	if r.Extends == "" {
		return
	}
	for _, part := range r.Key {
		if _, own := payload[part.Paths[0]]; own && (part.Kind == schema.Long || part.Kind == schema.Integer) {
			payload[part.Paths[0]] = 1000 + n
		}
		if own := part.Paths[0]; part.Kind == schema.Date && payload[own] != nil {
			payload[own] = fmt.Sprintf("2026-02-%02d", 1+n%28)
		}
	}
}

// Each resource of the bundled standards, with as little and with as much as it can hold, is accepted by schema's validation and by the
// sandbox alike, and what comes back is what was sent, as schema's canonical form has it.
func TestEveryResourceCanBeWrittenAndReadBack(t *testing.T) {
	t.Parallel()
	for _, version := range schema.BundledVersions() {
		for _, full := range []bool{false, true} {
			t.Run(fmt.Sprint(version, " full ", full), func(t *testing.T) {
				t.Parallel()
				m := model(t, version)
				c := start(t, func(o *Options) { o.Model = m; o.Descriptors = []schema.DescriptorValue{} })
				comp := &composer{m: m, full: full, keys: map[string]map[string]any{"SchoolYearType": {"schoolYear": 2026}}, descriptors: map[string]string{}}
				deps, err := schema.Dependencies(m)
				if err != nil {
					t.Fatal(err)
				}
				slices.SortStableFunc(deps, func(a, b schema.Dependency) int { return a.Order - b.Order })
				var ids []string
				for n, dep := range deps {
					r, ok := m.Resource(dep.Resource)
					if !ok || !slices.Contains(dep.Operations, "Create") {
						continue
					}
					payload := comp.payload(r)
					if r.Descriptor {
						payload["namespace"], payload["codeValue"] = "uri://ed-fi.org/"+r.Name, "Té \"x\""
						comp.descriptors[r.Name] = "uri://ed-fi.org/" + r.Name + "#Té \"x\""
					}
					distinct(r, payload, n)
					for _, group := range r.Unify {
						comp.unify(payload, group)
					}
					comp.remember(r, payload)
					ids = append(ids, dep.Resource+"/"+c.roundTrip(r, payload))
				}
				checkIntegrity(t, c.s)
				for _, path := range slices.Backward(ids) {
					if a := c.raw(http.MethodDelete, "/data/v3"+path, ""); a.Status != http.StatusNoContent {
						t.Errorf("DELETE %s: %d %s", path, a.Status, a.Body)
					}
				}
				checkIntegrity(t, c.s)
			})
		}
	}
}

// roundTrip posts a payload, reads it back and returns its id.
func (c *client) roundTrip(r *schema.Resource, payload map[string]any) string {
	c.t.Helper()
	body, err := json.Marshal(payload)
	if err != nil {
		c.t.Fatal(err)
	}
	if ps := r.Validate(body); len(ps) > 0 {
		c.t.Errorf("%s: schema says %v of %s", r.Path, ps, body)
	}
	a := c.raw(http.MethodPost, "/data/v3/"+r.Path, string(body))
	if a.Status != http.StatusCreated {
		c.t.Fatalf("%s: %d %s\n%s", r.Path, a.Status, a.Body, body)
	}
	got := c.raw(http.MethodGet, "/data/v3/"+r.Path+"/"+a.id(), "")
	want, err := r.Canonical(nil, body)
	if err != nil {
		c.t.Fatalf("%s: %v", r.Path, err)
	}
	back, err := r.Canonical(nil, []byte(got.Body))
	if err != nil {
		c.t.Fatalf("%s: %v in %s", r.Path, err, got.Body)
	}
	if d := cmp.Diff(string(want), string(back)); d != "" {
		c.t.Errorf("%s (-sent +read):\n%s", r.Path, d)
	}
	query := []string{}
	for _, k := range r.Key {
		query = append(query, k.Name)
	}
	if again := c.raw(http.MethodPost, "/data/v3/"+r.Path, got.Body[:1]+strings.SplitN(got.Body, ",", 2)[1]); again.Status != http.StatusOK || again.etag() != a.etag() {
		c.t.Errorf("%s (%v): what was read, posted again: %d %s", r.Path, query, again.Status, again.Body)
	}
	return a.id()
}
