package schema

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"golang.org/x/text/unicode/norm"
	"pgregory.net/rapid"
)

// testModel has one of everything. Its resource "Visit" has a key of a date, a descriptor and a unified reference part.
func testModel(tb testing.TB) (*Model, *Resource) {
	tb.Helper()
	leaf := func(name string, kind Kind) *Property { return &Property{Name: name, Kind: kind, Scale: -1} }
	key := func(p *Property) *Property { p.Required, p.Identity = true, true; return p }
	reference := func(name, target string, leaves ...*Property) *Property {
		p := &Property{Name: name, Kind: Reference, Target: target, Fields: &Fields{Name: target + "Reference"}}
		for _, l := range leaves {
			p.Fields.Properties = append(p.Fields.Properties, key(l))
			p.Parts = append(p.Parts, RefPart{Leaf: l.Name, Part: l.Name})
		}
		return p
	}
	text := func(name string, most int) *Property {
		p := leaf(name, String)
		p.MinLength, p.MaxLength = 1, most
		return p
	}
	kind := func(name, target string) *Property {
		p := leaf(name, Descriptor)
		p.Target, p.MaxLength = target, 306
		return p
	}
	score := leaf("score", Decimal)
	score.Precision, score.Scale = 5, 2
	rank := leaf("rank", Integer)
	rank.HasRange, rank.Min, rank.Max = true, -8, 8
	visit := &Resource{
		Path: "ed-fi/visits", Name: "Visit",
		Root: &Fields{Name: "Visit", Properties: []*Property{
			key(leaf("visitDate", Date)), key(kind("visitTypeDescriptor", "VisitTypeDescriptor")),
			key(reference("schoolReference", "School", leaf("schoolId", Long))),
			key(reference("roomReference", "Room", text("roomCode", 10), leaf("schoolId", Long))),
			reference("hostReference", "Host", text("hostId", 10)),
			reference("otherSchoolReference", "School", leaf("schoolId", Long)),
			text("note", 20), score, rank, leaf("total", Long), leaf("share", Decimal), leaf("open", Boolean),
			leaf("seenAt", DateTime), leaf("startTime", Time),
			{Name: "place", Kind: Object, Fields: &Fields{Name: "VisitPlace", Properties: []*Property{
				text("city", 30), {Name: "wing", Kind: String, Required: true, MaxLength: 5},
			}}},
			{Name: "guests", Kind: Collection, ItemKey: []string{"guestName", "guestTypeDescriptor"}, Fields: &Fields{Name: "VisitGuest", Properties: []*Property{
				key(text("guestName", 30)), kind("guestTypeDescriptor", "GuestTypeDescriptor"), leaf("adult", Boolean),
				{Name: "periods", Kind: Collection, ItemKey: []string{"beginDate"}, Fields: &Fields{Name: "VisitGuestPeriod", Properties: []*Property{
					key(leaf("beginDate", Date)), leaf("endDate", Date),
				}}},
			}}},
			{Name: "rooms", Kind: Collection, ItemKey: []string{"roomReference.roomCode", "roomReference.schoolId"}, Fields: &Fields{Name: "VisitRoom", Properties: []*Property{
				key(reference("roomReference", "Room", text("roomCode", 10), leaf("schoolId", Long))),
			}}},
			{Name: "tags", Kind: Collection, MinItems: 1, Required: true, Fields: &Fields{Name: "VisitTag", Properties: []*Property{text("tag", 10), text("hue", 10)}}},
		}},
		Key: []KeyPart{
			{Name: "roomCode", Paths: []string{"roomReference.roomCode"}, Kind: String},
			{Name: "schoolId", Paths: []string{"schoolReference.schoolId", "roomReference.schoolId"}, Kind: Long},
			{Name: "visitDate", Paths: []string{"visitDate"}, Kind: Date},
			{Name: "visitTypeDescriptor", Paths: []string{"visitTypeDescriptor"}, Kind: Descriptor},
		},
		Unify: [][]string{{"schoolReference.schoolId", "roomReference.schoolId", "rooms.roomReference.schoolId"}},
	}
	simple := func(name string, parts ...*Property) *Resource {
		r := &Resource{Path: "ed-fi/" + strings.ToLower(name) + "s", Name: name, Root: &Fields{Name: name}}
		for _, p := range parts {
			r.Root.Properties = append(r.Root.Properties, key(p))
			r.Key = append(r.Key, KeyPart{Name: p.Name, Paths: []string{p.Name}, Kind: p.Kind})
		}
		return r
	}
	school := simple("School", leaf("schoolId", Long))
	m, err := NewModel("test", "1.0.0", []*Resource{visit, school, simple("Room", text("roomCode", 10), leaf("schoolId", Long)), simple("Host", text("hostId", 10))})
	if err != nil {
		tb.Fatal(err)
	}
	return m, visit
}

const fullVisit = `{
	"guests":[
		{"guestName":"Zoë","guestTypeDescriptor":"uri://ed-fi.org/GuestTypeDescriptor#Parent","adult":true,
		 "periods":[{"beginDate":"2024-02-01","endDate":"2024-02-02"},{"beginDate":"2024-01-01"}]},
		{"guestName":"Ann"}],
	"hostReference":{"hostId":"Ab1"},
	"note":"Tom \"T\" \\ é",
	"open":false,
	"place":{"city":"Austin","wing":"W"},
	"rank":-3,
	"roomReference":{"roomCode":"R1","schoolId":255901},
	"rooms":[{"roomReference":{"roomCode":"R2","schoolId":255901}},{"roomReference":{"roomCode":"R1"}}],
	"schoolReference":{"schoolId":255901},
	"score":12.5,
	"seenAt":"2024-02-29T23:59:59.120Z",
	"share":0.125,
	"startTime":"08:05:00",
	"tags":[{"tag":"b"},{"tag":"a","hue":"x"}],
	"total":9223372036854775807,
	"visitDate":"2024-02-29",
	"visitTypeDescriptor":"uri://ed-fi.org/VisitTypeDescriptor#Open House"
}`

func canonical(tb testing.TB, r *Resource, payload string) string {
	tb.Helper()
	got, err := r.Canonical(nil, []byte(payload))
	if err != nil {
		tb.Fatal(err)
	}
	return string(got)
}

func TestCanonicalForm(t *testing.T) {
	t.Parallel()
	_, visit := testModel(t)
	want := `{"guests":[` +
		`{"guestName":"Ann"},` +
		`{"adult":true,"guestName":"Zoë","guestTypeDescriptor":"uri://ed-fi.org/guesttypedescriptor#parent","periods":[{"beginDate":"2024-01-01"},{"beginDate":"2024-02-01","endDate":"2024-02-02"}]}],` +
		`"hostReference":{"hostId":"Ab1"},"note":"Tom \"T\" \\ é","open":false,"place":{"city":"Austin","wing":"W"},"rank":-3,` +
		`"roomReference":{"roomCode":"R1","schoolId":255901},` +
		`"rooms":[{"roomReference":{"roomCode":"R1"}},{"roomReference":{"roomCode":"R2"}}],` +
		`"schoolReference":{"schoolId":255901},"score":12.50,"seenAt":"2024-02-29T23:59:59.12Z","share":0.125,"startTime":"08:05:00",` +
		`"tags":[{"hue":"x","tag":"a"},{"tag":"b"}],"total":9223372036854775807,"visitDate":"2024-02-29",` +
		`"visitTypeDescriptor":"uri://ed-fi.org/visittypedescriptor#open house"}`
	if got := canonical(t, visit, fullVisit); got != want {
		t.Errorf("Canonical:\n got %s\nwant %s", got, want)
	}
	body, err := visit.CanonicalBody([]byte("x"), []byte(fullVisit), Rules{Version: 1, FoldKeys: true})
	if err != nil {
		t.Fatal(err)
	}
	wantBody := "x" + strings.NewReplacer(
		`"roomReference":{"roomCode":"R1","schoolId":255901},`, ``,
		`"schoolReference":{"schoolId":255901},`, ``,
		`"visitDate":"2024-02-29",`, ``,
		`,"visitTypeDescriptor":"uri://ed-fi.org/visittypedescriptor#open house"`, ``,
		`"Ab1"`, `"ab1"`,
		`{"roomReference":{"roomCode":"R`, `{"roomReference":{"roomCode":"r`,
	).Replace(strings.ReplaceAll(want, `,"visitDate":"2024-02-29"`, ``))
	if string(body) != wantBody {
		t.Errorf("CanonicalBody:\n got %s\nwant %s", body, wantBody)
	}
}

func TestCanonicalKey(t *testing.T) {
	t.Parallel()
	_, visit := testModel(t)
	for _, tt := range []struct {
		name    string
		payload string
		rules   Rules
		want    string
		wantErr string
	}{
		{"parts in the order of the key", fullVisit, Rules{}, `["R1",255901,"2024-02-29","uri://ed-fi.org/visittypedescriptor#open house"]`, ""},
		{"strings fold as the target compares", `{"roomReference":{"roomCode":"ÉB  "},"schoolReference":{"schoolId":1},"visitDate":"2024-02-29","visitTypeDescriptor":"U"}`,
			Rules{FoldKeys: true}, `["éb",1,"2024-02-29","u"]`, ""},
		{"the second path serves when the first is absent", `{"roomReference":{"roomCode":"b","schoolId":"07"},"visitDate":"2024-02-29","visitTypeDescriptor":"U"}`,
			Rules{}, `["b",7,"2024-02-29","u"]`, ""},
		{"an absent part is named", `{"roomReference":{"roomCode":"b","schoolId":7},"visitDate":null,"visitTypeDescriptor":"U"}`, Rules{}, "", "key part visitDate: absent"},
		{"an unreadable part is named without its value", `{"roomReference":{"roomCode":"b","schoolId":7},"visitDate":"secret","visitTypeDescriptor":"U"}`, Rules{}, "", "key part visitDate: not a date"},
		{"an array is no payload", `[]`, Rules{}, "", "payload is not a JSON object"},
		{"broken JSON is located, not quoted", `{"secret":`, Rules{}, "", "parse payload: unexpected character at byte 10"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := visit.CanonicalKey(nil, []byte(tt.payload), tt.rules)
			if string(got) != tt.want || fmt.Sprint(err) != cmpErr(tt.wantErr) {
				t.Errorf("CanonicalKey = %s, %v; want %s, %s", got, err, tt.want, tt.wantErr)
			}
		})
	}
}

func TestSentKeySpellsStringsAsThePayloadDoes(t *testing.T) {
	t.Parallel()
	_, visit := testModel(t)
	const visited = `,"schoolReference":{"schoolId":"007"},"visitDate":"2024-02-29T00:00:00Z","visitTypeDescriptor":"uri://x/D#Open"}`
	for _, tt := range []struct{ name, payload, want string }{
		{"a decomposed letter stays decomposed", `{"roomReference":{"roomCode":"Re` + "\u0301" + `"}` + visited, `["Re` + "\u0301" + `",7,"2024-02-29","uri://x/D#Open"]`},
		{"and so does one that JSON escapes", `{"roomReference":{"roomCode":"Re\u0301"}` + visited, `["Re` + "\u0301" + `",7,"2024-02-29","uri://x/D#Open"]`},
		{"case and spaces stay", `{"roomReference":{"roomCode":"É  "}` + visited, `["É  ",7,"2024-02-29","uri://x/D#Open"]`},
		{"what is ASCII finds a folded key as it is", `{"roomReference":{"roomCode":"B  "}` + visited, ""},
		{"the canonical key is not given again", `{"roomReference":{"roomCode":"é"},"schoolReference":{"schoolId":7},"visitDate":"2024-02-29","visitTypeDescriptor":"u"}`, ""},
		{"a payload without a key has none", `{"é":1}`, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			canonical, _ := visit.CanonicalKey(nil, []byte(tt.payload), Rules{Version: CanonicalVersion, FoldKeys: true})
			got := visit.SentKey([]byte(tt.payload), canonical)
			if string(got) != tt.want {
				t.Errorf("SentKey = %s, want %s", got, tt.want)
			}
			if query, err := visit.KeyQuery(got); tt.want != "" && (err != nil || len(query) != 4) {
				t.Errorf("KeyQuery = %v, %v; want a value for each part", query, err)
			}
		})
	}
}

func cmpErr(text string) string {
	if text == "" {
		return "<nil>"
	}
	return text
}

func TestKeyFromPartsEqualsCanonicalKey(t *testing.T) {
	t.Parallel()
	_, visit := testModel(t)
	for _, rules := range []Rules{{}, {FoldKeys: true}} {
		want, err := visit.CanonicalKey(nil, []byte(fullVisit), rules)
		if err != nil {
			t.Fatal(err)
		}
		parts := map[string]string{"roomCode": "R1", "schoolId": "0255901", "visitDate": "2024-02-29T00:00:00Z", "visitTypeDescriptor": "URI://Ed-Fi.org/VisitTypeDescriptor#Open House"}
		got, err := visit.KeyFromParts(nil, parts, rules)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("KeyFromParts = %s, %v; want %s", got, err, want)
		}
		query, err := visit.KeyQuery(got)
		if err != nil {
			t.Fatal(err)
		}
		back := map[string]string{}
		for name := range query {
			back[name] = query.Get(name)
		}
		if again, err := visit.KeyFromParts(nil, back, rules); err != nil || !bytes.Equal(again, want) {
			t.Errorf("KeyFromParts of KeyQuery = %s, %v; want %s", again, err, want)
		}
	}
	if _, err := visit.KeyFromParts(nil, map[string]string{"roomCode": "R1"}, Rules{}); err == nil || err.Error() != "key part schoolId: absent" {
		t.Errorf("KeyFromParts with a part missing: %v", err)
	}
	for _, key := range []string{``, `{}`, `[]`, `[1,2,3]`, `[1,2,3,4,5]`, `[1,2,3,[]]`} {
		if _, err := visit.KeyQuery([]byte(key)); err == nil {
			t.Errorf("KeyQuery(%s) succeeded", key)
		}
	}
}

func TestCanonicalMeansTheSame(t *testing.T) {
	t.Parallel()
	_, visit := testModel(t)
	want := canonical(t, visit, fullVisit)
	for _, tt := range []struct{ name, old, new string }{
		{"what a target adds", `{
	"guests"`, `{"id":"x","_etag":"1","_lastModifiedDate":"2024","guests"`},
		{"the link of a reference", `{"hostId":"Ab1"}`, `{"hostId":"Ab1","link":{"rel":"Host","href":"/ed-fi/hosts/1"}}`},
		{"a null", `"open":false`, `"open":false,"x":null`},
		{"an empty collection and object", `"open":false`, `"open":false,"otherSchoolReference":{},"y":[]`},
		{"an object of nulls", `"open":false`, `"open":false,"otherSchoolReference":{"schoolId":null}`},
		{"a null item", `"tags":[`, `"tags":[null,`},
		{"another case of a descriptor", "VisitTypeDescriptor#Open House", "VISITTYPEDESCRIPTOR#open hOUSE"},
		{"another spelling of a decimal", "12.5", "1250e-2"},
		{"a decimal as text", "12.5", `"12.50"`},
		{"an integer as text", ":255901", `:"255901"`},
		{"another zone of a moment", "2024-02-29T23:59:59.120Z", "2024-03-01T01:59:59.12+02:00"},
		{"a time without seconds", "08:05:00", "08:05"},
		{"a decomposed character", "é", "e\u0301"},
		{"a value an item takes from its parent", `{"roomReference":{"roomCode":"R1"}}`, `{"roomReference":{"schoolId":255901,"roomCode":"R1"}}`},
		{"a needless escape", "Austin", `\u0041ustin`},
		{"the last of two members counts", `"rank":-3`, `"rank":5,"rank":-3`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			payload := strings.ReplaceAll(fullVisit, tt.old, tt.new)
			if payload == fullVisit {
				t.Fatal("nothing was replaced")
			}
			if got := canonical(t, visit, payload); got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		})
	}
}

// TestCanonicalProperties draws payloads of the bundled models, writes each in many ways, and changes one value at a time.
func TestCanonicalProperties(t *testing.T) {
	t.Parallel()
	m := mustBundled(t, "5.2")
	rapid.Check(t, func(rt *rapid.T) {
		r := drawResource(rt, m)
		g := &rowGenerator{T: rt, model: m, resource: r}
		template := g.compile(Rules{Version: 1})
		var out Encoded
		template.Encode(g.row(), &out)
		if len(out.Problems) > 0 {
			rt.Skip("not a valid payload")
		}
		var payload any
		decoder := json.NewDecoder(bytes.NewReader(out.Wire))
		decoder.UseNumber()
		if err := decoder.Decode(&payload); err != nil {
			rt.Fatal(err)
		}
		want := canonical(t, r, string(out.Wire))
		if again := canonical(t, r, want); again != want {
			rt.Fatalf("not idempotent:\n%s\n%s", want, again)
		}
		d := disguise{T: rt}
		if got := canonical(t, r, d.value(r.planned().root, payload)); got != want {
			rt.Fatalf("the same payload, written another way:\n%s\n%s", want, got)
		}
		count := leaves(r.planned().root, payload)
		d.change = rapid.IntRange(1, count).Draw(rt, "leaf to change")
		if got := canonical(t, r, d.value(r.planned().root, payload)); got == want {
			rt.Fatalf("changing leaf %d changes nothing:\n%s", d.change, got)
		}
	})
}

// disguise writes a payload in another way that means the same, but for the leaf it is told to change.
type disguise struct {
	*rapid.T
	change int // 1 = the first leaf met, 0 = none
}

func (d *disguise) value(e *element, v any) string {
	switch v := v.(type) {
	case map[string]any:
		var members []string
		for name, inner := range v {
			members = append(members, name)
			_ = inner
		}
		slices.Sort(members) // leaves are counted in the same order each time
		for i, name := range members {
			members[i] = string(appendQuoted(nil, []byte(name))) + ": " + d.value(e.byName[name], v[name])
		}
		members = rapid.Permutation(members).Draw(d.T, "order")
		for _, kid := range e.kids {
			if _, there := v[kid.Name]; !there && rapid.IntRange(0, 3).Draw(d.T, "empty") == 0 {
				empty := []string{"null"}
				switch kid.Kind {
				case Collection:
					empty = append(empty, "[]", "[null]")
				case Object, Reference:
					empty = append(empty, "{}", `{"link":null}`)
				}
				members = append(members, `"`+kid.Name+`":`+rapid.SampledFrom(empty).Draw(d.T, "emptiness"))
			}
		}
		return "{" + strings.Join(members, ",") + "}"
	case []any:
		items := make([]string, len(v))
		for i := range v {
			items[i] = d.value(e, v[i])
		}
		return "[" + strings.Join(rapid.Permutation(items).Draw(d.T, "items"), ",") + "]"
	}
	d.change--
	if d.change == 0 {
		return changed(e, v)
	}
	return d.leaf(e, v)
}

func (d *disguise) leaf(e *element, v any) string {
	text := fmt.Sprint(v)
	var ways []string
	switch e.Kind {
	case Integer, Long, Decimal:
		ways = []string{text, `"` + text + `"`, text + "e0", text + "E+00"}
		if strings.Contains(text, ".") {
			ways = append(ways, text+"00")
		} else {
			ways = append(ways, text+".0")
		}
	case Boolean:
		ways = []string{text, `"` + text + `"`}
	case Descriptor:
		ways = []string{quoted(text), quoted(strings.ToUpper(text)), quoted(norm.NFD.String(text)), quoted(strings.ToLower(text))}
	case String:
		ways = []string{quoted(norm.NFD.String(text)), quoted(norm.NFC.String(text)), escaped(text)}
	case Time:
		ways = []string{quoted(text), quoted(strings.TrimSuffix(text, ":00")), quoted(text + "+00:00"), quoted(text + "Z")}
		if len(strings.TrimSuffix(text, ":00")) < 5 {
			ways = ways[:1]
		}
	case DateTime:
		ways = []string{quoted(text), quoted(strings.TrimSuffix(text, "Z") + "+00:00"), quoted(strings.TrimSuffix(text, "Z"))}
	default:
		ways = []string{quoted(text), escaped(text)}
	}
	return rapid.SampledFrom(ways).Draw(d.T, "spelling")
}

func quoted(text string) string { return string(appendQuoted(nil, []byte(text))) }

func escaped(text string) string {
	var b strings.Builder
	for _, r := range text {
		if r > 0xFFFF {
			b.WriteRune(r)
		} else {
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return `"` + b.String() + `"`
}

// changed writes another value than v.
func changed(e *element, v any) string {
	switch e.Kind {
	case Boolean:
		return fmt.Sprint(v != true)
	case Integer, Long, Decimal:
		if text := fmt.Sprint(v); strings.HasPrefix(text, "-") {
			return text[1:]
		} else if text == "0" {
			return "1"
		} else {
			return "-" + text
		}
	case Date:
		return `"1999-12-31"`
	case DateTime:
		return `"1999-12-31T00:00:00Z"`
	case Time:
		return `"11:11:11"`
	}
	return quoted(fmt.Sprint(v) + "x")
}

func leaves(e *element, v any) int {
	n := 0
	switch v := v.(type) {
	case map[string]any:
		for name, inner := range v {
			n += leaves(e.byName[name], inner)
		}
		return n
	case []any:
		for _, item := range v {
			n += leaves(e, item)
		}
		return n
	}
	return 1
}

func TestKeyChangesLeaveTheBodyAlone(t *testing.T) {
	t.Parallel()
	_, visit := testModel(t)
	want, err := visit.CanonicalBody(nil, []byte(fullVisit), Rules{Version: 1})
	if err != nil {
		t.Fatal(err)
	}
	moved := strings.NewReplacer("255901", "7", "2024-02-29\"", "2024-03-01\"", `"roomReference":{"roomCode":"R1",`, `"roomReference":{"roomCode":"Q",`, "Open House", "Other").Replace(fullVisit)
	got, err := visit.CanonicalBody(nil, []byte(moved), Rules{Version: 1})
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("body after a key change:\n got %s\nwant %s", got, want)
	}
	for _, tt := range []struct{ name, old, new string }{
		{"a reference to the same school", `"open":false`, `"open":false,"otherSchoolReference":{"schoolId":255901}`},
		{"an item without content", `"tags":[`, `"tags":[{},`},
		{"one room more", `{"roomReference":{"roomCode":"R1"}}`, `{"roomReference":{"roomCode":"R1"}},{"roomReference":{"roomCode":"R3"}}`},
	} {
		got, err := visit.CanonicalBody(nil, []byte(strings.ReplaceAll(fullVisit, tt.old, tt.new)), Rules{Version: 1})
		if err != nil || bytes.Equal(got, want) {
			t.Errorf("%s is not seen in the body", tt.name)
		}
	}
}

func FuzzCanonical(f *testing.F) {
	for _, seed := range []string{
		fullVisit, `{}`, `[]`, `{"roomReference":{"schoolId":1},"rooms":[{},{"roomReference":{"schoolId":1}}]}`, `{"tags":[[],"",{"tag":null}]}`, `{"tags":[{}],"note":"\ud800","rank":1e99,"place":[],"guests":{"a":[null,{"b":{}}]}}`, "{\"note\":\"\xff\"}",
		`{"a":{"a":1,"a":2},"seenAt":"2024-02-29 23:59","score":-0.00,"visitTypeDescriptor":"İẖ"}`, strings.Repeat(`{"a":`, 70), `{"share":1E400}`, `{"é":1,"e` + "\u0301" + `":2}`,
	} {
		f.Add([]byte(seed))
	}
	_, visit := testModel(f)
	f.Fuzz(func(t *testing.T, payload []byte) {
		visit.Validate(payload)
		once, err := visit.Canonical(nil, payload)
		if err != nil {
			return
		}
		twice, err := visit.Canonical(nil, once)
		if err != nil || !bytes.Equal(once, twice) {
			t.Fatalf("%q\n%q\n%q, %v", payload, once, twice, err)
		}
		for _, rules := range []Rules{{}, {FoldKeys: true}} {
			body, err := visit.CanonicalBody(nil, payload, rules)
			if err != nil {
				t.Fatal(err)
			}
			of, err := visit.CanonicalBody(nil, once, rules)
			if err != nil || !bytes.Equal(body, of) {
				t.Fatalf("body of the canonical form: %q\n%q, %v", body, of, err)
			}
			key, keyErr := visit.CanonicalKey(nil, payload, rules)
			ofKey, err := visit.CanonicalKey(nil, once, rules)
			if (keyErr == nil) != (err == nil) || !bytes.Equal(key, ofKey) {
				t.Fatalf("key of the canonical form: %q\n%q, %v, %v", key, ofKey, keyErr, err)
			}
		}
	})
}
