package schema

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// TestEncodeAgreesWithThePayloadItWrites draws a resource, a mapping and rows, good and bad, and checks that what Encode says of a row
// is what the other functions say of its payload.
func TestEncodeAgreesWithThePayloadItWrites(t *testing.T) {
	t.Parallel()
	models := []*Model{mustBundled(t, "4.0"), mustBundled(t, "5.2")}
	rapid.Check(t, func(rt *rapid.T) {
		m := models[rapid.IntRange(0, 1).Draw(rt, "model")]
		g := &rowGenerator{T: rt, model: m, resource: drawResource(rt, m)}
		rules := Rules{Version: 1, FoldKeys: rapid.Bool().Draw(rt, "foldKeys")}
		template := g.compile(rules)
		var out, carefully Encoded
		var refs []RefKey
		for range 3 {
			row := g.row()
			template.Encode(row, &out)
			carefully.reset(template)
			template.slow(row, &carefully)
			report := func(what string) {
				rt.Fatalf("%s %s\nrow %q\nwire %s\nbody %s\nkey %s\nproblems %+v", g.resource.Path, what, row, out.Wire, out.Body, out.Key, out.Problems)
			}
			if !bytes.Equal(out.Wire, carefully.Wire) || !bytes.Equal(out.Body, carefully.Body) || !bytes.Equal(out.Key, carefully.Key) {
				report(fmt.Sprintf("fast and slow differ:\n%s\n%s\n%s", carefully.Wire, carefully.Body, carefully.Key))
			}
			if utf8.Valid(out.Wire) && !json.Valid(out.Wire) {
				report("wire is not JSON")
			}
			found := g.resource.Validate(out.Wire)
			if (len(found) == 0) != (len(out.Problems) == 0) {
				report(fmt.Sprintf("Validate differs: %+v", found))
			}
			body, err := g.resource.CanonicalBody(nil, out.Wire, rules)
			if err != nil || !bytes.Equal(body, out.Body) {
				report(fmt.Sprintf("CanonicalBody differs: %s %v", body, err))
			}
			key, err := g.resource.CanonicalKey(nil, out.Wire, rules)
			if (err != nil) != (len(out.Key) == 0) || !bytes.Equal(key, out.Key) {
				report(fmt.Sprintf("CanonicalKey differs: %s %v", key, err))
			}
			if len(out.Problems) > 0 {
				continue
			}
			refs = template.References(row, refs)
			want, err := g.resource.References(m, out.Wire, rules)
			if err != nil {
				report("References: " + err.Error())
			}
			if diff := cmp.Diff(refs, want); diff != "" && len(refs)+len(want) > 0 {
				report("References differ (-template +payload): " + diff)
			}
		}
	})
}

func mustBundled(t testing.TB, version string) *Model {
	t.Helper()
	m, err := Bundled(version)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// rowGenerator draws mappings of a resource and rows for them.
type rowGenerator struct {
	*rapid.T
	model    *Model
	resource *Resource
	columns  []*element
	groups   map[int]string
	wrong    bool // this row may hold bad values
}

func (g *rowGenerator) rarely(label string) bool { return rapid.IntRange(0, 24).Draw(g.T, label) == 24 }

func (g *rowGenerator) compile(rules Rules) *Template {
	g.choose(g.resource.planned().root)
	var cols []Column
	maps := DescriptorMaps{}
	for i, e := range g.columns {
		cols = append(cols, Column{Name: fmt.Sprint("c", i), Path: e.path})
	}
	for _, e := range g.resource.planned().byPath {
		if e.Kind == Descriptor {
			maps[e.Target] = map[string]string{"A": "uri://ed-fi.org/" + e.Target + "#Alpha", "b 2": "uri://tx.us/" + e.Target + "#Bêta 2"}
		}
	}
	template, problems := g.model.Compile(g.resource, cols, maps, rules)
	if len(problems) > 0 {
		g.Fatalf("compile %s: %+v", g.resource.Path, problems)
	}
	return template
}

// choose picks columns for an object: what is required, and some of the rest.
func (g *rowGenerator) choose(e *element) {
	for _, kid := range e.kids {
		if !kid.Required && kid.MinItems == 0 && e.Kind != Reference && rapid.IntRange(0, 2).Draw(g.T, "use "+kid.path) > 0 {
			continue
		}
		if kid.isLeaf() || kid.Kind == Collection || kid.Kind == Object && rapid.Bool().Draw(g.T, "as JSON") {
			g.columns = append(g.columns, kid)
		} else {
			g.choose(kid)
		}
	}
}

func (g *rowGenerator) row() [][]byte {
	g.wrong = rapid.IntRange(0, 2).Draw(g.T, "quality") == 0
	g.groups = map[int]string{}
	absent := map[*element]bool{}
	row := make([][]byte, len(g.columns))
	for i, e := range g.columns {
		optional := !e.Required && e.MinItems == 0
		if e.parent.Kind == Reference && !e.parent.Required {
			gone, drawn := absent[e.parent]
			if !drawn {
				gone = rapid.IntRange(0, 3).Draw(g.T, "absent") == 0
				absent[e.parent] = gone
			}
			if gone && !(g.wrong && g.rarely("partial")) {
				continue
			}
			optional = false
		}
		if optional && rapid.IntRange(0, 3).Draw(g.T, "null") == 0 || g.wrong && g.rarely("missing") {
			continue
		}
		if e.isLeaf() {
			row[i] = []byte(g.value(e, false))
		} else {
			row[i] = []byte(g.json(e))
		}
		if len(row[i]) == 0 {
			row[i] = nil
		}
	}
	return row
}

func (g *rowGenerator) pick(label string, choices ...string) string {
	return choices[rapid.IntRange(0, len(choices)-1).Draw(g.T, label)]
}

// value draws the text of a column, or of a JSON value with its quotes.
func (g *rowGenerator) value(e *element, inJSON bool) string {
	if e.group > 0 && !(g.wrong && g.rarely("not unified")) {
		if text, ok := g.groups[e.group]; ok {
			return quoteFor(e, text, inJSON)
		}
	}
	text := g.text(e)
	if e.group > 0 {
		g.groups[e.group] = text
	}
	return quoteFor(e, text, inJSON)
}

func quoteFor(e *element, text string, inJSON bool) string {
	if !inJSON {
		return text
	}
	switch e.Kind {
	case Boolean, Integer, Long, Decimal:
		if _, ok := scanNumber([]byte(text), 0); ok {
			if end, _ := scanNumber([]byte(text), 0); end == len(text) {
				return text
			}
		}
		if text == "true" || text == "false" {
			return text
		}
	}
	return string(appendQuoted(nil, []byte(text)))
}

func (g *rowGenerator) text(e *element) string {
	if g.wrong && g.rarely("poison") {
		return g.pick("poison text", "\xff\xfe", "a\x00b", "NaN", "0000-00-00", "0000-01-01", "-0", "1e400", " x ", "<script>", "&#60;", "uri://ed-fi.org/X#y", "uri://",
			strings.Repeat("9", 70), strings.Repeat("x", 400), "null", "[]", "{}", `"`, "\\", "\u2028", "é", "e\u0301", "👩🏽‍🎓", "٣", "  ", "1", "t", "2024-02-30", "24:00", "x")
	}
	switch e.Kind {
	case String:
		text := g.pick("string", "7", "255901", "O'Neil", "María", "Mari\u0301a", `Say "hi" \o/`, "Tom & Jo", "K", "İX", "H\u0331", "a b", "line\nbreak", "Abc-12")
		if e.MaxLength > 0 && textLength([]byte(text)) > e.MaxLength || len(text) < e.MinLength {
			text = "7"
		}
		return text
	case Boolean:
		return g.pick("boolean", "t", "f", "true", "FALSE", "1", "0", "Y", "n")
	case Integer, Long:
		least, most := e.limits()
		n := rapid.Int64Range(max(least, 1), min(most, 99999)).Draw(g.T, "integer")
		return fmt.Sprintf(g.pick("integer spelling", "%d", "%d", "%d.00", "%de0"), n)
	case Decimal:
		return g.pick("decimal", "0", "0.5", "0.50", "-0.25", "5e-1", "0.0", "-0.00", "0.750")
	case Date:
		return g.pick("date", "2024-02-29", "2023-08-14", "2023-08-14T00:00:00Z", "2023-08-14 00:00:00", "2023-08-14T00:00:00.000+00:00")
	case DateTime:
		return g.pick("date-time", "2024-02-29T23:59:59Z", "2024-02-29 23:59:59.120000", "2024-02-29T23:59:59-06:00", "2024-02-29")
	case Time:
		return g.pick("time", "08:05", "08:05:00", "23:59:59.000000", "0000-01-01T08:05:00Z")
	case Descriptor:
		return g.pick("descriptor", "A", "b 2", "A  ", "uri://ed-fi.org/"+e.Target+"#Gamma", "URI://Ed-Fi.org/"+strings.ToUpper(e.Target)+"#gÉmma", "unmapped")
	}
	return ""
}

// json draws the JSON of a collection, object or reference, as one of three databases might print it.
func (g *rowGenerator) json(e *element) string {
	if g.wrong && g.rarely("bad JSON") {
		return g.pick("bad JSON text", "", "null", "[", "[]x", "{}", "[]", "[null]", "[{}]", "[1]", `"x"`, `{"a":1,"a":2}`, `[{"x":{}}]`, `[[]]`, "\xff", `"[]"`)
	}
	if e.Kind != Collection {
		return g.object(e)
	}
	items := make([]string, rapid.IntRange(max(e.MinItems, 1), 3).Draw(g.T, "items"))
	for i := range items {
		items[i] = g.object(e)
	}
	if !g.wrong {
		slices.Sort(items)
		items = slices.Compact(items)
	}
	text := "[" + strings.Join(items, ", ") + "]"
	if g.rarely("nested text") {
		return string(appendQuoted(nil, []byte(text)))
	}
	return text
}

func (g *rowGenerator) object(e *element) string {
	var members []string
	for _, kid := range e.kids {
		if !kid.Required && kid.MinItems == 0 && e.Kind != Reference && rapid.Bool().Draw(g.T, "leave out") || g.wrong && g.rarely("lacks") {
			continue
		}
		if len(kid.inherits) > 0 && rapid.Bool().Draw(g.T, "inherit") {
			continue
		}
		text := ""
		if kid.isLeaf() {
			text = g.value(kid, true)
		} else {
			text = g.json(kid)
		}
		if text == "" {
			text = "null"
		}
		members = append(members, fmt.Sprintf("%q : %s", kid.Name, text))
		if g.wrong && g.rarely("twice") {
			members = append(members, members[len(members)-1])
		}
	}
	if g.wrong && g.rarely("unknown") {
		members = append(members, `"surprise":[1.50,{"z":null,"é":"é"}]`)
	}
	if rapid.Bool().Draw(g.T, "reverse") {
		slices.Reverse(members)
	}
	return "{" + strings.Join(members, ",") + "}"
}

// drawResource draws a resource; descriptors, which are all alike, seldom.
func drawResource(t *rapid.T, m *Model) *Resource {
	for {
		r := m.Resources[rapid.IntRange(0, len(m.Resources)-1).Draw(t, "resource")]
		if !r.Descriptor || rapid.IntRange(0, 9).Draw(t, "descriptor") == 0 {
			return r
		}
	}
}
