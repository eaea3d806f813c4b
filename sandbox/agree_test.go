package sandbox

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/edfisync/edfisync/schema"
)

// spoil changes one place of a payload: drops it, or gives it another value.
func spoil(t *rapid.T, at any) string {
	for {
		switch v := at.(type) {
		case map[string]any:
			names := make([]string, 0, len(v))
			for name := range v {
				names = append(names, name)
			}
			if len(names) == 0 {
				return "nothing"
			}
			slices.Sort(names)
			name := rapid.SampledFrom(names).Draw(t, "member")
			switch child := v[name].(type) {
			case map[string]any, []any:
				if rapid.IntRange(0, 3).Draw(t, "deeper") > 0 {
					at = child
					continue
				}
			}
			if rapid.Bool().Draw(t, "drop") {
				delete(v, name)
				return "drop " + name
			}
			v[name] = rapid.SampledFrom([]any{
				nil, true, "", " ", "x", strings.Repeat("y", 400), 0, 1, -7, json.Number("1.25"), json.Number("123456789012345678"),
				"2026-02-30", "2026-03-01", "10:61:00", "09:00:00", "uri://ed-fi.org/TermDescriptor#Nothing", []any{}, []any{map[string]any{}},
			}).Draw(t, "value")
			return fmt.Sprintf("%s = %v", name, v[name])
		case []any:
			if len(v) == 0 {
				return "nothing"
			}
			at = v[0]
		default:
			return "nothing"
		}
	}
}

// lenient are the problems package schema reports and an ODS does not mind, or finds only when it looks the descriptor up.
func lenient(p schema.Problem) bool {
	switch p.Code {
	case schema.CodeUnknownProperty, schema.CodeWrongType, schema.CodeLooseType, schema.CodeTooPrecise, schema.CodeNotDescriptor, schema.CodeWrongDescriptor:
		return true
	case schema.CodeEmpty, schema.CodeZero, schema.CodeOutOfRange, schema.CodeTooShort, schema.CodeTooLong, schema.CodeBlankEnds, schema.CodeDangerous:
		return strings.HasSuffix(p.Owner, "Reference") // such a reference is simply not resolved
	}
	return false
}

// What the sandbox refuses, schema reports (but for an empty inline object, which schema takes for absent and an ODS does not); what schema reports, the sandbox refuses, unless an ODS is lenient there. They share no code, so
// that their agreement is evidence for both.
func TestValidationAgreesWithSchema(t *testing.T) {
	t.Parallel()
	m := model(t, "5.2")
	cat, err := compile(m)
	if err != nil {
		t.Fatal(err)
	}
	comp := &composer{m: m, full: true, keys: map[string]map[string]any{}, descriptors: map[string]string{}}
	for _, r := range m.Resources {
		if r.Descriptor {
			comp.descriptors[r.Name] = "uri://ed-fi.org/" + r.Name + "#A"
		}
	}
	deps, err := schema.Dependencies(m)
	if err != nil {
		t.Fatal(err)
	}
	comp.keys["SchoolYearType"] = map[string]any{"schoolYear": 2026}
	type sample struct {
		t    *table
		body string
	}
	var samples []sample
	for _, dep := range deps {
		r, ok := m.Resource(dep.Resource)
		if !ok || r.Descriptor || comp.keys[r.Name] != nil {
			continue
		}
		p := comp.payload(r)
		comp.remember(r, p)
		body, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		samples = append(samples, sample{cat.byName[r.Name], string(body)})
	}
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.SampledFrom(samples).Draw(t, "resource")
		dec := json.NewDecoder(strings.NewReader(s.body))
		dec.UseNumber()
		var p map[string]any
		if err := dec.Decode(&p); err != nil {
			t.Fatal(err)
		}
		what := spoil(t, p)
		body, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		d := &draft{body: slices.Clone(body), end: len(body)}
		root, err := d.read(s.t.shape)
		if err != nil {
			t.Fatal(err)
		}
		d.check(s.t, root)
		theirs := s.t.res.Validate(body)
		strict := slices.DeleteFunc(slices.Clone(theirs), lenient)
		if len(d.problems) > 0 && len(theirs) == 0 || len(d.problems) == 0 && len(strict) > 0 {
			t.Fatalf("%s, %s\nschema:  %v\nsandbox: %v\n%s", s.t.path, what, theirs, d.problems, body)
		}
	})
}
