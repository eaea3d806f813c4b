package schema

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func columns(paths ...string) []Column {
	var cols []Column
	for _, p := range paths {
		cols = append(cols, Column{Name: p, Path: p})
	}
	return cols
}

// visitColumns are the columns every mapping of a visit needs.
func visitColumns(more ...string) []Column {
	return append(columns("visitDate", "visitTypeDescriptor", "schoolReference.schoolId", "roomReference.roomCode", "roomReference.schoolId", "tags[]"), columns(more...)...)
}

func visitMaps() DescriptorMaps {
	return DescriptorMaps{
		"VisitTypeDescriptor": {"OH": "uri://ed-fi.org/VisitTypeDescriptor#Open House"},
		"GuestTypeDescriptor": {"P": "uri://ed-fi.org/GuestTypeDescriptor#Parent", "1": "uri://ed-fi.org/GuestTypeDescriptor#One"},
	}
}

func visitRow(more ...string) [][]byte {
	row := [][]byte{[]byte("2024-02-29"), []byte("OH"), []byte("255901"), []byte("R1"), []byte("255901"), []byte(`[{"tag":"a"}]`)}
	for _, text := range more {
		if text == "NULL" {
			row = append(row, nil)
		} else {
			row = append(row, []byte(text))
		}
	}
	return row
}

func TestCompileReportsEveryProblemAtOnce(t *testing.T) {
	t.Parallel()
	m, visit := testModel(t)
	for _, tt := range []struct {
		name string
		cols []Column
		maps DescriptorMaps
		want []string
	}{
		{"a complete mapping", visitColumns("place.wing", "guests", "hostReference.hostId"), visitMaps(), nil},
		{"a column that is no part of the payload", append(visitColumns(), Column{Name: "_key"}), nil, nil},
		{"an object as JSON", visitColumns("place"), nil, nil},
		{"an unknown path", visitColumns("noet"), nil, []string{"noet: Visit has no element noet → note"}},
		{"a path given twice", append(visitColumns("note"), Column{Name: "remark", Path: "note"}), nil, []string{"remark: note is given twice, by column note too"}},
		{"a path into a collection", visitColumns("guests.adult"), nil, []string{
			"guests.adult: guests.adult is in a collection: give the collection guests as one column of JSON → guests",
		}},
		{"an array mark on a scalar", visitColumns("note[]"), nil, []string{"note[]: note is no collection → note"}},
		{"an array mark on an object", visitColumns("place[]"), nil, []string{"place[]: place is no collection → place"}},
		{"a column and the JSON around it", visitColumns("place", "place.wing"), nil, []string{
			"place.wing: place.wing is also given by column place, which holds the JSON of all of place",
		}},
		{"the JSON around a column", visitColumns("place.wing", "place"), nil, []string{
			"place.wing: place.wing is also given by column place, which holds the JSON of all of place",
		}},
		{"required elements without a column", columns("roomReference.roomCode", "note"), nil, []string{
			": roomReference is incomplete: no column gives roomReference.schoolId",
			": schoolReference is required, and no column gives schoolReference.schoolId",
			": tags is required, and no column gives it",
			": visitDate is required, and no column gives it",
			": visitTypeDescriptor is required, and no column gives it",
		}},
		{"one of several unified paths", columns("visitDate", "visitTypeDescriptor", "schoolReference.schoolId", "roomReference.roomCode", "tags"), nil, []string{
			": roomReference is incomplete: no column gives roomReference.schoolId (it must equal column schoolReference.schoolId)",
		}},
		{"a required element of an optional object", visitColumns("place.city"), nil, []string{": place.wing is required, and no column gives it"}},
		{"a descriptor map with a value that is no URI", visitColumns(), DescriptorMaps{"VisitTypeDescriptor": {"OH": "Open House", "X": "uri://ed-fi.org/GuestTypeDescriptor#Parent"}}, []string{
			`: descriptor map VisitTypeDescriptor: the value of code "OH" is not a URI of the form uri://organization/VisitTypeDescriptor#code`,
			`: descriptor map VisitTypeDescriptor: the value of code "X" is not a URI of the form uri://organization/VisitTypeDescriptor#code`,
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			template, problems := m.Compile(visit, tt.cols, tt.maps, Rules{Version: 1})
			var got []string
			for _, p := range problems {
				line := p.Column + ": " + p.Message
				if p.Nearest != "" {
					line += " → " + p.Nearest
				}
				got = append(got, line)
			}
			if diff := cmp.Diff(got, tt.want); diff != "" {
				t.Errorf("-got +want:\n%s", diff)
			}
			if (template == nil) != (len(tt.want) > 0) {
				t.Errorf("template %v with problems %v", template, problems)
			}
		})
	}
}

func TestEncode(t *testing.T) {
	t.Parallel()
	m, visit := testModel(t)
	const (
		rest = `"roomReference":{"roomCode":"R1","schoolId":255901},"schoolReference":{"schoolId":255901},"tags":[{"tag":"a"}],` +
			`"visitDate":"2024-02-29","visitTypeDescriptor":"uri://ed-fi.org/VisitTypeDescriptor#Open House"}`
		key = `["R1",255901,"2024-02-29","uri://ed-fi.org/visittypedescriptor#open house"]`
	)
	for _, tt := range []struct {
		name     string
		path     string
		value    string
		wire     string // the member, or "" when there is none
		body     string // the same in the body, when it differs
		problems []string
	}{
		{"NULL is absent", "note", "NULL", "", "", nil},
		{"an empty text is absent", "note", "", "", "", nil},
		{"a plain string", "note", "Tom", `"note":"Tom"`, "", nil},
		{"a string that needs escapes", "note", "a\"b\\c\nd\x01", `"note":"a\"b\\c\nd\u0001"`, "", nil},
		{"a decomposed string is sent as it is and compared composed", "note", "Mari\u0301a", "\"note\":\"Mari\u0301a\"", `"note":"María"`, nil},
		{"an emoji", "note", "👩🏽‍🎓", `"note":"👩🏽‍🎓"`, "", nil},
		{"a string of the full length", "note", strings.Repeat("é", 20), `"note":"` + strings.Repeat("é", 20) + `"`, "", nil},
		{"a string too long", "note", strings.Repeat("x", 21), `"note":"` + strings.Repeat("x", 21) + `"`, "", []string{"$.note too-long"}},
		{"bytes that are no UTF-8", "note", "a\xffb", "\"note\":\"a\xffb\"", "", []string{"$.note invalid-utf8"}},
		{"a NUL", "note", "a\x00b", `"note":"a\u0000b"`, "", []string{"$.note nul-character"}},
		{"an integer", "rank", "007", `"rank":7`, "", nil},
		{"an integer printed as a decimal", "rank", "-3.00", `"rank":-3`, "", nil},
		{"an integer out of range", "rank", "9", `"rank":9`, "", []string{"$.rank out-of-range"}},
		{"no integer", "rank", "ten", `"rank":"ten"`, "", []string{"$.rank not-an-integer"}},
		{"a decimal gets its scale in the body only", "score", "3.50", `"score":3.5`, `"score":3.50`, nil},
		{"a whole decimal", "score", "12", `"score":12`, `"score":12.00`, nil},
		{"a decimal is never rounded", "score", "3.456", `"score":3.456`, "", []string{"$.score too-precise"}},
		{"not a number", "score", "NaN", `"score":"NaN"`, "", []string{"$.score not-a-number"}},
		{"a boolean", "open", "Y", `"open":true`, "", nil},
		{"a boolean of another kind", "open", "maybe", `"open":"maybe"`, "", []string{"$.open not-a-boolean"}},
		{"a moment", "seenAt", "2024-02-29 23:59:59.120000", `"seenAt":"2024-02-29T23:59:59.12Z"`, "", nil},
		{"a time", "startTime", "08:05", `"startTime":"08:05:00"`, "", nil},
		{"the year 0000", "seenAt", "0000-01-01 00:00:00", `"seenAt":"0000-01-01 00:00:00"`, "", []string{"$.seenAt not-a-date-time"}},
		{"an optional reference", "hostReference.hostId", "Ab1", `"hostReference":{"hostId":"Ab1"}`, "", nil},
		{"an absent optional reference", "hostReference.hostId", "NULL", "", "", nil},
		{"an object as JSON", "place", `{"wing":"W","city":null}`, `"place":{"wing":"W"}`, "", nil},
		{"an object that lacks a required element", "place", `{"city":"Austin"}`, `"place":{"city":"Austin"}`, "", []string{"$.place.wing required-missing"}},
		{"an empty array", "guests", `[]`, "", "", nil},
		{"an aggregate over no rows", "guests", `[null]`, "", "", nil},
		{"an outer join's row of nulls", "guests", `[{"guestName":null,"guestTypeDescriptor":null,"periods":[]}]`, "", "", nil},
		{"items are sorted by key, local codes mapped, 0 and 1 booleans", "guests", `[{"guestName":"b","adult":1,"guestTypeDescriptor":"P"},{"guestName":"a","adult":0,"guestTypeDescriptor":1}]`,
			`"guests":[{"adult":false,"guestName":"a","guestTypeDescriptor":"uri://ed-fi.org/GuestTypeDescriptor#One"},{"adult":true,"guestName":"b","guestTypeDescriptor":"uri://ed-fi.org/GuestTypeDescriptor#Parent"}]`,
			`"guests":[{"adult":false,"guestName":"a","guestTypeDescriptor":"uri://ed-fi.org/guesttypedescriptor#one"},{"adult":true,"guestName":"b","guestTypeDescriptor":"uri://ed-fi.org/guesttypedescriptor#parent"}]`, nil},
		{"JSON inside JSON as text", "guests", `["{\"guestName\":\"a\",\"periods\":\"[{\\\"beginDate\\\":\\\"2024-01-01 00:00:00\\\"}]\"}"]`,
			`"guests":[{"guestName":"a","periods":[{"beginDate":"2024-01-01"}]}]`, "", nil},
		{"problems in items are located in the payload as sent", "guests", `[{"guestName":"b","adult":"perhaps"},{"guestName":"a","guestTypeDescriptor":"Q","x":1}]`,
			`"guests":[{"guestName":"a","guestTypeDescriptor":"Q","x":1},{"adult":"perhaps","guestName":"b"}]`,
			`"guests":[{"guestName":"a","guestTypeDescriptor":"q","x":1},{"adult":"perhaps","guestName":"b"}]`,
			[]string{"$.guests[0].guestTypeDescriptor descriptor-unmapped", "$.guests[0].x unknown-property", "$.guests[1].adult not-a-boolean"}},
		{"text that is no JSON", "guests", `[{"guestName":`, `"guests":"[{\"guestName\":"`, "", []string{"$.guests malformed-json"}},
		{"JSON with a member twice", "guests", `[{"guestName":"a","guestName":"b"}]`, `"guests":"[{\"guestName\":\"a\",\"guestName\":\"b\"}]"`, "", []string{"$.guests malformed-json"}},
		{"an object for a collection", "guests", `{"guestName":"a"}`, `"guests":{"guestName":"a"}`, "", []string{"$.guests wrong-type"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			template, problems := m.Compile(visit, visitColumns(tt.path), visitMaps(), Rules{Version: 1})
			if len(problems) > 0 {
				t.Fatal(problems)
			}
			var out Encoded
			template.Encode(visitRow(tt.value), &out)
			if diff := cmp.Diff(found(out.Problems), tt.problems); diff != "" {
				t.Errorf("problems -got +want:\n%s", diff)
			}
			if got := memberOf(t, visit, out.Wire, tt.path); got != tt.wire {
				t.Errorf("wire %s\nwant %s\nin %s", got, tt.wire, out.Wire)
			}
			body := tt.body
			if body == "" {
				body = tt.wire
			}
			if !bytes.Contains(out.Body, []byte(body)) || bytes.Contains(out.Body, []byte("255901")) {
				t.Errorf("body %s\nwant %s in it", out.Body, body)
			}
			if string(out.Key) != key {
				t.Errorf("key %s", out.Key)
			}
		})
	}
}

// memberOf cuts the top member a path leads to from a payload.
func memberOf(tb testing.TB, r *Resource, payload []byte, path string) string {
	tb.Helper()
	name, _, _ := strings.Cut(path, ".")
	from := bytes.Index(payload, []byte(`"`+name+`":`))
	if from < 0 {
		return ""
	}
	to := len(payload) - 1
	for _, p := range r.Root.Properties {
		if p.Name > name {
			if i := bytes.Index(payload[from:], []byte(`,"`+p.Name+`":`)); i >= 0 {
				to = min(to, from+i)
			}
		}
	}
	return string(payload[from:to])
}

func TestEncodeReportsEveryProblemOfARow(t *testing.T) {
	t.Parallel()
	m, visit := testModel(t)
	template, problems := m.Compile(visit, visitColumns("hostReference.hostId", "otherSchoolReference.schoolId", "rank"), visitMaps(), Rules{Version: 1})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	row := visitRow(" x", "NULL", "many")
	row[0], row[1], row[2], row[5] = []byte("29.02.2024"), []byte("??"), []byte("7"), nil
	var out Encoded
	template.Encode(row, &out)
	want := []string{
		"$.hostReference.hostId blank-ends", "$.rank not-an-integer", "$.roomReference.schoolId unified-differs", "$.schoolReference.schoolId unified-differs",
		"$.tags too-few-items", "$.visitDate not-a-date", "$.visitTypeDescriptor descriptor-unmapped",
	}
	if diff := cmp.Diff(found(out.Problems), want); diff != "" {
		t.Errorf("-got +want:\n%s", diff)
	}
	if len(out.Key) > 0 {
		t.Errorf("key %s of a row whose key cannot be read", out.Key)
	}
	if p := out.Problems[len(out.Problems)-1]; p.Value != "??" {
		t.Errorf("value %q of an unmapped descriptor", p.Value)
	}

	t.Run("and the next row starts afresh", func(t *testing.T) {
		template.Encode(visitRow("x", "NULL", "1"), &out)
		if len(out.Problems) > 0 || len(out.Key) == 0 {
			t.Errorf("problems %v, key %s", out.Problems, out.Key)
		}
	})
	t.Run("a value of 10 MB is refused and not kept", func(t *testing.T) {
		row := visitRow(strings.Repeat("x", 10<<20), "NULL", "1")
		template.Encode(row, &out)
		if diff := cmp.Diff(found(out.Problems), []string{"$.hostReference.hostId too-long"}); diff != "" {
			t.Errorf("-got +want:\n%s", diff)
		}
		template.Encode(visitRow("x", "NULL", "1"), &out)
		if kept := cap(out.Wire) + cap(out.Body) + cap(out.buf); kept > largestKept {
			t.Errorf("%d bytes kept", kept)
		}
	})
}

// TestDatabasesGiveTheSamePayload has one row as SQLite, PostgreSQL and MariaDB print it.
func TestDatabasesGiveTheSamePayload(t *testing.T) {
	t.Parallel()
	m, visit := testModel(t)
	template, problems := m.Compile(visit, visitColumns("score", "open", "seenAt", "startTime", "guests", "total"), visitMaps(), Rules{Version: 1})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	rows := map[string][][]byte{
		"SQLite": visitRow("3.5", "1", "2024-02-29 23:59:59", "08:05:00",
			`[{"guestName":"Zoë","adult":1,"guestTypeDescriptor":"P","periods":"[{\"beginDate\":\"2024-01-01\",\"endDate\":null}]"},{"guestName":"Ann","adult":0}]`, "12"),
		"PostgreSQL": visitRow("3.50", "t", "2024-02-29T23:59:59Z", "08:05:00",
			`[{"guestName" : "Ann", "adult" : false, "guestTypeDescriptor" : null, "periods" : []}, {"guestName" : "Zoë", "adult" : true, "guestTypeDescriptor" : "P", "periods" : [{"beginDate" : "2024-01-01", "endDate" : null}]}]`, "12"),
		"MariaDB": visitRow("3.50", "1", "2024-02-29 23:59:59.000000", "08:05:00.000000",
			`[{"guestTypeDescriptor": "P", "guestName": "Zo\u00eb", "adult": 1, "periods": [{"beginDate": "2024-01-01 00:00:00.000000"}]},{"guestName": "Ann", "adult": 0, "periods": [null]}]`, "12"),
	}
	rows["PostgreSQL"][0] = []byte("2024-02-29T00:00:00Z")
	var first string
	for _, name := range []string{"SQLite", "PostgreSQL", "MariaDB"} {
		var out Encoded
		template.Encode(rows[name], &out)
		if len(out.Problems) > 0 {
			t.Fatalf("%s: %+v", name, out.Problems)
		}
		got := fmt.Sprintf("%s\n%s\n%s", out.Wire, out.Key, out.Body)
		if first == "" {
			first = got
		} else if diff := cmp.Diff(got, first); diff != "" {
			t.Errorf("%s, -got +SQLite:\n%s", name, diff)
		}
	}
}

func TestEncodeAllocatesNothingForAValidRow(t *testing.T) {
	template, row := enrolment(t)
	hasher := NewHasher(hmac.New(sha256.New, []byte("key")))
	m, visit := testModel(t)
	withJSON, problems := m.Compile(visit, visitColumns("guests", "note", "score"), visitMaps(), Rules{Version: 1})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	jsonRow := visitRow(`[{"guestName":"b\u00e9","adult":1,"guestTypeDescriptor":"P"},{"guestName":"a","periods":[{"beginDate":"2024-02-01"},{"beginDate":"2024-01-01"}]}]`, `"é`, "1.5")
	var out, outJSON Encoded
	for name, fn := range map[string]func(){
		"flat row and both hashes": func() {
			template.Encode(row, &out)
			hasher.Sum(out.Key)
			hasher.Sum(out.Body)
		},
		"row with a collection": func() { withJSON.Encode(jsonRow, &outJSON) },
	} {
		if n := testing.AllocsPerRun(100, fn); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
	if len(out.Problems)+len(outJSON.Problems) > 0 {
		t.Errorf("problems %v %v", out.Problems, outJSON.Problems)
	}
}

func TestTemplateIsSafeForConcurrentUse(t *testing.T) {
	t.Parallel()
	m, visit := testModel(t) // a fresh model: what is made at first use is made here
	template, problems := m.Compile(visit, visitColumns("guests", "rooms", "note"), visitMaps(), Rules{Version: 1})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	rows := [][][]byte{
		visitRow(`[{"guestName":"b"},{"guestName":"a"}]`, `[{"roomReference":{"roomCode":"R2"}}]`, "x"),
		visitRow(`[{"guestName":"b","adult":"no"}]`, "NULL", "é"),
	}
	var want [2]string
	for i, row := range rows {
		var out Encoded
		template.Encode(row, &out)
		want[i] = fmt.Sprintf("%s %s %s %v", out.Wire, out.Body, out.Key, found(out.Problems))
	}
	var wait sync.WaitGroup
	for range 4 {
		wait.Go(func() {
			var out Encoded
			for n := range 200 {
				i := n % 2
				template.Encode(rows[i], &out)
				if got := fmt.Sprintf("%s %s %s %v", out.Wire, out.Body, out.Key, found(out.Problems)); got != want[i] {
					t.Errorf("got %s\nwant %s", got, want[i])
				}
				template.References(rows[0], nil)
			}
		})
	}
	wait.Wait()
}

// FuzzEncode holds what Encode says of a row to what the other functions say of its payload, for any bytes a database may hand over.
func FuzzEncode(f *testing.F) {
	for _, seed := range [][4]string{
		{"Tom", `[{"guestName":"a"}]`, "3.50", "2024-02-29"}, {"a\xffb", "[", "NaN", "0000-00-00"}, {"e\u0301", `["{\"guestName\":\"\"}"]`, "-0", "2024-02-29T00:00:00Z"},
		{"<b>", `[{"guestName":"a","guestName":"b"}]`, "1e3", ""}, {"\x00", `[null,{"periods":"[]"}]`, "007", "9999-12-31 00:00"}, {" ", "{}", ".5", "uri://"},
	} {
		f.Add([]byte(seed[0]), []byte(seed[1]), []byte(seed[2]), []byte(seed[3]))
	}
	m, visit := testModel(f)
	rules := Rules{Version: 1, FoldKeys: true}
	template, problems := m.Compile(visit, visitColumns("note", "guests", "score", "seenAt", "hostReference.hostId", "rooms", "rank", "open"), visitMaps(), rules)
	if len(problems) > 0 {
		f.Fatal(problems)
	}
	f.Fuzz(func(t *testing.T, a, b, c, d []byte) {
		var out, slow Encoded
		row := append(visitRow(), a, b, c, d, a, b, c, d)
		row[0], row[1], row[3] = d, a, a
		template.Encode(row, &out)
		slow.reset(template)
		template.slow(row, &slow)
		if !bytes.Equal(out.Wire, slow.Wire) || !bytes.Equal(out.Body, slow.Body) || !bytes.Equal(out.Key, slow.Key) {
			t.Errorf("fast and slow differ:\n%s %s %s\n%s %s %s", out.Wire, out.Body, out.Key, slow.Wire, slow.Body, slow.Key)
		}
		if problems := visit.Validate(out.Wire); len(problems) != len(out.Problems) {
			t.Errorf("%s: %v, Validate: %v", out.Wire, found(out.Problems), found(problems))
		}
		if body, err := visit.CanonicalBody(nil, out.Wire, rules); err != nil || !bytes.Equal(body, out.Body) {
			t.Errorf("body %s, CanonicalBody %s, %v", out.Body, body, err)
		}
		if key, err := visit.CanonicalKey(nil, out.Wire, rules); (err != nil) != (len(out.Key) == 0) || !bytes.Equal(key, out.Key) {
			t.Errorf("key %s, CanonicalKey %s, %v", out.Key, key, err)
		}
	})
}

func TestReferences(t *testing.T) {
	t.Parallel()
	m, visit := testModel(t)
	rules := Rules{Version: 1, FoldKeys: true}
	got, err := visit.References(m, []byte(fullVisit), rules)
	if err != nil {
		t.Fatal(err)
	}
	want := []RefKey{
		{"hostReference", "Host", []byte(`["ab1"]`)},
		{"roomReference", "Room", []byte(`["r1",255901]`)},
		{"rooms.roomReference", "Room", []byte(`["r1",255901]`)}, // takes schoolId from its parent
		{"rooms.roomReference", "Room", []byte(`["r2",255901]`)},
		{"schoolReference", "School", []byte(`[255901]`)},
	}
	if diff := cmp.Diff(got, want); diff != "" {
		t.Errorf("-got +want:\n%s", diff)
	}
	room, _ := m.Entity("Room")
	key, err := room.CanonicalKey(nil, []byte(`{"roomCode":"R1","schoolId":255901}`), rules)
	if err != nil || !bytes.Equal(key, want[1].Key) {
		t.Errorf("the referenced record's own key is %s, %v", key, err)
	}
	template, problems := m.Compile(visit, visitColumns("hostReference.hostId", "otherSchoolReference.schoolId", "rooms"), visitMaps(), rules)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	row := visitRow("Ab1", "NULL", `[{"roomReference":{"roomCode":"R2","schoolId":255901}},{"roomReference":{"roomCode":"R1"}}]`)
	if diff := cmp.Diff(template.References(row, nil), want); diff != "" {
		t.Errorf("Template.References -got +want:\n%s", diff)
	}
}

func TestReferencesOfAbstractTargets(t *testing.T) {
	t.Parallel()
	m := mustBundled(t, "5.2")
	r, _ := m.Resource("ed-fi/studentProgramAssociations")
	payload := `{"beginDate":"2024-08-01","educationOrganizationReference":{"educationOrganizationId":255901},"studentReference":{"studentUniqueId":"1"},
		"programReference":{"educationOrganizationId":255901,"programName":"P","programTypeDescriptor":"uri://ed-fi.org/ProgramTypeDescriptor#T"}}`
	got, err := r.References(m, []byte(payload), Rules{Version: 1})
	if err != nil {
		t.Fatal(err)
	}
	want := []RefKey{
		{"educationOrganizationReference", "EducationOrganization", []byte(`[255901]`)},
		{"programReference", "Program", []byte(`[255901,"P","uri://ed-fi.org/programtypedescriptor#t"]`)},
		{"studentReference", "Student", []byte(`["1"]`)},
	}
	if diff := cmp.Diff(got, want); diff != "" {
		t.Errorf("-got +want:\n%s", diff)
	}
	school, _ := m.Resource("ed-fi/schools")
	key, err := school.CanonicalKey(nil, []byte(`{"schoolId":255901}`), Rules{Version: 1})
	if err != nil || string(key) != string(want[0].Key) {
		t.Errorf("a school's key is %s, %v", key, err)
	}
}

func TestHasher(t *testing.T) {
	t.Parallel()
	h := NewHasher(hmac.New(sha256.New, []byte("key")))
	one, two, again := h.Sum([]byte("one")), h.Sum([]byte("two")), h.Sum([]byte("one"))
	mac := hmac.New(sha256.New, []byte("key"))
	mac.Write([]byte("one"))
	if want := Hash(mac.Sum(nil)[:16]); one != want || again != want || two == want {
		t.Errorf("sums %x %x %x, want %x for the first and last", one, two, again, want)
	}
}
