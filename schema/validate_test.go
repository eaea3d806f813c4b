package schema

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func found(problems []Problem) []string {
	var lines []string
	for _, p := range problems {
		lines = append(lines, p.Path+" "+p.Code)
	}
	return lines
}

func TestValidate(t *testing.T) {
	t.Parallel()
	_, visit := testModel(t)
	for _, tt := range []struct {
		name string
		old  string // replaced in fullVisit, everywhere
		new  string
		want []string
	}{
		{"a complete payload is valid", "Austin", "Austin", nil},
		{"malformed JSON", `"open":false`, `"open":nope`, []string{"$ malformed-json"}},
		{"text after the payload", "Open House\"\n}", "Open House\"\n}x", []string{"$ malformed-json"}},
		{"a member given twice", `"open":false`, `"open":false,"open":true`, []string{"$.open duplicate-key"}},
		{"a property the model does not have", `"open":false`, `"open":false,"opne":1`, []string{"$.opne unknown-property"}},
		{"a property in another case", `"open":false`, `"Open":false`, []string{"$.Open unknown-property"}},
		{"a property whose name is no identifier", `"open":false`, `"a b\"\u00e9":false`, []string{`$["a b\"\u00e9"] unknown-property`}},
		{"a property of an item", `"adult":true`, `"adlut":true`, []string{"$.guests[0].adlut unknown-property"}},
		{"an identifier of the server", `"open":false`, `"id":"1"`, []string{"$.id unknown-property"}},
		{"a required scalar is absent", `"visitDate":"2024-02-29",`, ``, []string{"$.visitDate required-missing"}},
		{"a required scalar is null", `"visitDate":"2024-02-29"`, `"visitDate":null`, []string{"$.visitDate required-missing"}},
		{"a required reference is absent", `"schoolReference":{"schoolId":255901},`, ``, []string{"$.schoolReference required-missing"}},
		{"a required reference is empty", `"schoolReference":{"schoolId":255901},`, `"schoolReference":{"schoolId":null},`, []string{"$.schoolReference required-missing"}},
		{"no value to take from the parent", `255901`, `null`, []string{
			"$.roomReference reference-incomplete", "$.rooms[0].roomReference reference-incomplete", "$.rooms[1].roomReference reference-incomplete",
			"$.schoolReference required-missing",
		}},
		{"a required reference is partial", `"roomCode":"R1","schoolId"`, `"schoolId"`, []string{"$.roomReference reference-incomplete"}},
		{"an optional reference is partial", `"open":false`, `"otherSchoolReference":{"link":{}}`, []string{
			"$.otherSchoolReference reference-incomplete", "$.otherSchoolReference.link unknown-property",
		}},
		{"a required collection is absent", `"tags":[{"tag":"b"},{"tag":"a","hue":"x"}],`, ``, []string{"$.tags too-few-items"}},
		{"a required collection is empty", `"tags":[{"tag":"b"},{"tag":"a","hue":"x"}],`, `"tags":[],`, []string{"$.tags too-few-items"}},
		{"a required collection of nulls", `"tags":[{"tag":"b"},{"tag":"a","hue":"x"}],`, `"tags":[null],`, []string{"$.tags too-few-items"}},
		{"a required element of an optional object", `,"wing":"W"`, ``, []string{"$.place.wing required-missing"}},
		{"an optional object of nulls", `{"city":"Austin","wing":"W"}`, `{"wing":null}`, nil},
		{"an optional object is empty", `{"city":"Austin","wing":"W"}`, `{}`, nil},
		{"a required string is empty", `"wing":"W"`, `"wing":""`, []string{"$.place.wing required-empty"}},
		{"a required string is blank", `"wing":"W"`, `"wing":" \t"`, []string{"$.place.wing required-empty"}},
		{"an optional string is empty", `"Austin"`, `""`, []string{"$.place.city too-short"}},
		{"a string is too long", `"wing":"W"`, `"wing":"WWWWWW"`, []string{"$.place.wing too-long"}},
		{"characters count, not bytes", `"wing":"W"`, `"wing":"ééééé"`, nil},
		{"an emoji counts twice", `"wing":"W"`, `"wing":"1234😀"`, []string{"$.place.wing too-long"}},
		{"an identity with blanks", `"Ann"`, `" Ann"`, []string{"$.guests[1].guestName blank-ends"}},
		{"a reference with blanks", `"Ab1"`, `"Ab1\u00a0"`, []string{"$.hostReference.hostId blank-ends"}},
		{"other strings may begin with blanks", `"Austin"`, `" Austin "`, nil},
		{"markup is dangerous", `"Austin"`, `"a<b"`, []string{"$.place.city dangerous-text"}},
		{"a character reference is dangerous", `"Austin"`, `"a&#b"`, []string{"$.place.city dangerous-text"}},
		{"less-than before a digit is not", `"Austin"`, `"a<5 & b"`, nil},
		{"several rules at once", `"Ann"`, `" <AnnAnnAnnAnnAnnAnnAnnAnnAnnAnnAnn"`, []string{
			"$.guests[1].guestName blank-ends", "$.guests[1].guestName dangerous-text", "$.guests[1].guestName too-long",
		}},
		{"bytes that are no UTF-8", `"Austin"`, "\"A\xff\"", []string{"$.place.city invalid-utf8"}},
		{"half a surrogate pair", `"Austin"`, `"\ud83d"`, []string{"$.place.city invalid-utf8"}},
		{"a NUL", `"Austin"`, `"a\u0000b"`, []string{"$.place.city nul-character"}},
		{"a number for a string", `"Austin"`, `5`, []string{"$.place.city loose-type"}},
		{"a boolean for a string", `"Austin"`, `true`, []string{"$.place.city wrong-type"}},
		{"an object for a string", `"Austin"`, `{}`, []string{"$.place.city wrong-type"}},
		{"a string for an object", `{"city":"Austin","wing":"W"}`, `"x"`, []string{"$.place wrong-type"}},
		{"an object for an array", `[{"tag":"b"},{"tag":"a","hue":"x"}]`, `{"tag":"b"}`, []string{"$.tags wrong-type"}},
		{"a string for an item", `{"tag":"b"}`, `"b"`, []string{"$.tags[0] wrong-type"}},
		{"text for a boolean", `"open":false`, `"open":"false"`, []string{"$.open loose-type"}},
		{"a number for a boolean", `"open":false`, `"open":2`, []string{"$.open not-a-boolean"}},
		{"text for an integer", `"rank":-3`, `"rank":"-3"`, []string{"$.rank loose-type"}},
		{"words for an integer", `"rank":-3`, `"rank":"three"`, []string{"$.rank not-an-integer"}},
		{"a fraction for an integer", `"rank":-3`, `"rank":-3.5`, []string{"$.rank not-an-integer"}},
		{"an integer below its range", `"rank":-3`, `"rank":-9`, []string{"$.rank out-of-range"}},
		{"an integer above its type", `"rank":-3`, `"rank":3000000000`, []string{"$.rank out-of-range"}},
		{"a long above its type", `9223372036854775807`, `9223372036854775808`, []string{"$.total out-of-range"}},
		{"the smallest long", `9223372036854775807`, `-9223372036854775808`, nil},
		{"a long of seventy digits", `9223372036854775807`, strings.Repeat("9", 70), []string{"$.total out-of-range"}},
		{"a required integer of 0", `255901`, `0`, []string{
			"$.roomReference.schoolId required-zero", "$.rooms[0].roomReference.schoolId required-zero", "$.schoolReference.schoolId required-zero",
		}},
		{"a decimal with too many digits before the point", `12.5`, `1000`, []string{"$.score out-of-range"}},
		{"a decimal with too many digits after the point", `12.5`, `12.505`, []string{"$.score too-precise"}},
		{"zeros after the point do not count", `12.5`, `999.99000`, nil},
		{"a decimal below one", `12.5`, `-0.01`, nil},
		{"a decimal without known scale", `0.125`, `0.123456789`, nil},
		{"a word for a decimal", `12.5`, `"NaN"`, []string{"$.score not-a-number"}},
		{"a date with a time", `"2024-02-29"`, `"2024-02-29T00:00:00Z"`, []string{"$.visitDate not-a-date"}},
		{"a day that is not", `"2024-02-29"`, `"2023-02-29"`, []string{"$.visitDate not-a-date"}},
		{"the year 0000", `"2024-02-29"`, `"0000-02-29"`, []string{"$.visitDate not-a-date"}},
		{"a number for a date", `"2024-02-29"`, `20240229`, []string{"$.visitDate wrong-type"}},
		{"a date-time without a zone", `.120Z"`, `"`, nil},
		{"no date-time", `2024-02-29T23:59:59.120Z`, `2024-02-29T23:59:61Z`, []string{"$.seenAt not-a-date-time"}},
		{"a time with a zone", `08:05:00`, `08:05-06:00`, nil},
		{"a time of one digit", `08:05:00`, `8:05`, []string{"$.startTime not-a-time"}},
		{"a time with a fraction", `08:05:00`, `08:05:00.0`, []string{"$.startTime not-a-time"}},
		{"a local code for a descriptor", `uri://ed-fi.org/VisitTypeDescriptor#Open House`, `OH`, []string{"$.visitTypeDescriptor not-a-descriptor"}},
		{"a descriptor without a code", `#Open House`, `#`, []string{"$.visitTypeDescriptor not-a-descriptor"}},
		{"a descriptor without an organisation", `ed-fi.org/V`, `/V`, []string{"$.visitTypeDescriptor not-a-descriptor"}},
		{"a value of another descriptor", `/VisitTypeDescriptor#`, `/GuestTypeDescriptor#`, []string{"$.visitTypeDescriptor wrong-descriptor"}},
		{"a descriptor in another case", `VisitTypeDescriptor#`, `visittypedescriptor#`, nil},
		{"an empty descriptor that is required", `uri://ed-fi.org/VisitTypeDescriptor#Open House`, ``, []string{"$.visitTypeDescriptor required-empty"}},
		{"values that must be equal", `"schoolReference":{"schoolId":255901}`, `"schoolReference":{"schoolId":255902}`, []string{
			"$.roomReference.schoolId unified-differs", "$.rooms[0].roomReference.schoolId unified-differs", "$.schoolReference.schoolId unified-differs",
		}},
		{"two items of one key", `{"guestName":"Ann"}`, `{"guestName":"Ann"},{"guestName":"Ann","adult":false}`, []string{"$.guests[2] duplicate-item"}},
		{"two items of one key in other cases of the descriptor", `{"guestName":"Ann"}`, `{"guestName":"Zoë","guestTypeDescriptor":"URI://ED-FI.ORG/guestTypeDescriptor#PARENT"}`,
			[]string{"$.guests[1] duplicate-item"}},
		{"two items of one key, one inherits a part", `{"roomReference":{"roomCode":"R1"}}`, `{"roomReference":{"roomCode":"R2"}}`, []string{"$.rooms[1] duplicate-item"}},
		{"two equal items without a key", `{"tag":"b"}`, `{"hue":"x","tag":"a"}`, []string{"$.tags[1] duplicate-item"}},
		{"two items of one key in a nested collection", `{"beginDate":"2024-01-01"}`, `{"beginDate":"2024-02-01"}`, []string{"$.guests[0].periods[1] duplicate-item"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			payload := strings.ReplaceAll(fullVisit, tt.old, tt.new)
			if payload == fullVisit && tt.old != tt.new {
				t.Fatal("nothing was replaced")
			}
			problems := visit.Validate([]byte(payload))
			if diff := cmp.Diff(found(problems), tt.want); diff != "" {
				t.Errorf("-got +want:\n%s", diff)
			}
			for _, p := range problems {
				if p.Message == "" {
					t.Errorf("%s has no message", p.Code)
				}
				if p.Property == nil && p.Code != CodeMalformed && p.Code != CodeUnknownProperty && p.Code != CodeDuplicateKey && !strings.HasSuffix(p.Path, "]") {
					t.Errorf("%s has no property", p.Code)
				}
			}
		})
	}
}

func TestProblemsCarryWhatTextsNeed(t *testing.T) {
	t.Parallel()
	_, visit := testModel(t)
	payload := `{"place":{"city":"x","wing":"toolong"},"roomReference":{"roomCode":"R"},"tags":[{"tag":"a"},{"tag":"a"}],"visitTypeDescriptor":"local","visitDate":"2024-01-01"}`
	want := map[string]string{
		"$.place.wing":          "VisitPlace 5 [] 0 ",
		"$.roomReference":       "Visit 0 [schoolId] 0 ",
		"$.schoolReference":     "Visit 0 [] 0 ",
		"$.tags[1]":             "Visit 0 [] 1 ",
		"$.visitTypeDescriptor": "Visit 306 [] 0 local",
	}
	got := map[string]string{}
	for _, p := range visit.Validate([]byte(payload)) {
		got[p.Path] = fmt.Sprintf("%s %d %v %d %s", p.Owner, p.Property.MaxLength, p.Missing, p.Index, p.Value)
	}
	if diff := cmp.Diff(got, want); diff != "" {
		t.Errorf("-got +want:\n%s", diff)
	}
}

// TestProblemsHoldNoValues fills every element with a mark and looks for it in what problems say (I14).
func TestProblemsHoldNoValues(t *testing.T) {
	t.Parallel()
	const mark = "S3CRET"
	m := mustBundled(t, "5.2")
	for _, r := range m.Resources {
		for _, value := range []string{`"` + mark + strings.Repeat("x", 400) + `<b"`, `" ` + mark + `\u0000"`, `[["` + mark + `"]]`, `{"x":"` + mark + `"}`, "\"" + mark + "\xff\"", `"2024-13-` + mark + `"`} {
			var members []string
			for _, p := range r.Root.Properties {
				members = append(members, quoted(p.Name)+":"+value)
			}
			problems := r.Validate([]byte("{" + strings.Join(members, ",") + "}"))
			if len(problems) == 0 {
				t.Errorf("%s: no problem", r.Path)
			}
			for _, p := range problems {
				text := p.Code + p.Path + p.Message + p.Owner + strings.Join(p.Missing, "")
				if p.Property != nil && p.Property.Kind != Descriptor {
					text += p.Value
				}
				if strings.Contains(text, mark) {
					t.Fatalf("%s: a problem holds a value: %+v", r.Path, p)
				}
			}
		}
	}
}

func TestValidateSurvivesHostileInput(t *testing.T) {
	t.Parallel()
	_, visit := testModel(t)
	many := func(n int, item string) string { return strings.TrimSuffix(strings.Repeat(item+",", n), ",") }
	var names strings.Builder
	for i := range 100_000 {
		fmt.Fprintf(&names, `"n%06d":1,`, (i*7919)%100_000)
	}
	for name, payload := range map[string]string{
		"deep nesting":         strings.Repeat(`{"a":`, 1_000_000),
		"deep arrays":          strings.Repeat(`[`, 1_000_000),
		"a long string":        `{"note":"` + strings.Repeat("x", 10<<20) + `"}`,
		"a long number":        `{"rank":` + strings.Repeat("9", 10<<20) + `}`,
		"a million values":     `{"tags":[` + many(1_000_000, `1`) + `]}`,
		"many equal items":     `{"tags":[` + many(50_000, `{"tag":"a"}`) + `]}`,
		"many unknown members": `{` + names.String() + `"open":true}`,
		"many equal members":   `{` + many(100_000, `"note":"a"`) + `}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			start := time.Now()
			if len(visit.Validate([]byte(payload))) == 0 {
				t.Error("valid")
			}
			if _, err := visit.Canonical(nil, []byte(payload)); err != nil && strings.Contains(err.Error(), "xxx") {
				t.Error(err)
			}
			t.Log(time.Since(start))
		})
	}
}
