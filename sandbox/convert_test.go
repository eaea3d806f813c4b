package sandbox

import (
	"testing"

	"github.com/edfisync/edfisync/schema"
)

// TestValuesAreConvertedAsAnODSConvertsThem checks what becomes of JSON values on their way into a record and back.
func TestValuesAreConvertedAsAnODSConvertsThem(t *testing.T) {
	t.Parallel()
	kind := func(k schema.Kind) *schema.Property {
		return &schema.Property{Name: "p", Kind: k, Precision: 9, Scale: 3}
	}
	free := &schema.Property{Name: "p", Kind: schema.Decimal, Scale: -1}
	for _, tt := range []struct {
		name    string
		p       *schema.Property
		in      string // JSON
		want    string // JSON
		problem string
	}{
		{"an integer", kind(schema.Integer), `42`, `42`, ""},
		{"an integer in quotes", kind(schema.Integer), `"42"`, `42`, ""},
		{"a hexadecimal integer", kind(schema.Long), `"0x1F"`, `31`, ""},
		{"the smallest long", kind(schema.Long), `-9223372036854775808`, `-9223372036854775808`, ""},
		{"an integer too large for 32 bits", kind(schema.Integer), `2147483648`, ``, "JSON integer 2147483648 is too large or small for an Int32."},
		{"an integer too large for 64 bits", kind(schema.Long), `9223372036854775808`, ``, "Error converting value 9223372036854775808 to type 'System.Int64'."},
		{"an integer with a fraction", kind(schema.Integer), `1.0`, ``, "Could not convert string to integer: 1.0."},
		{"a decimal", kind(schema.Decimal), `1.5`, `1.5`, ""},
		{"zeros that say nothing", kind(schema.Decimal), `"007.500"`, `7.5`, ""},
		{"a whole decimal", kind(schema.Decimal), `24.000`, `24`, ""},
		{"minus nothing", kind(schema.Decimal), `-0.000`, `0`, ""},
		{"a small negative", kind(schema.Decimal), `-0.250`, `-0.25`, ""},
		{"an exponent", kind(schema.Decimal), `-12.5e-1`, `-1.25`, ""},
		{"a large exponent", kind(schema.Decimal), `1e5`, `100000`, ""},
		{"a fraction rounded up", kind(schema.Decimal), `1.2345`, `1.235`, ""},
		{"a fraction rounded down", kind(schema.Decimal), `1.2344999`, `1.234`, ""},
		{"a negative rounded away from zero", kind(schema.Decimal), `-1.2345`, `-1.235`, ""},
		{"nines that carry", kind(schema.Decimal), `9.9996`, `10`, ""},
		{"a decimal out of range", kind(schema.Decimal), `1000000`, ``, "P must be between -999999.999 and 999999.999."},
		{"a decimal rounded out of range", kind(schema.Decimal), `999999.9999`, ``, "P must be between -999999.999 and 999999.999."},
		{"a decimal of unknown scale", free, `123456789012345678901234567890.12345`, `123456789012345678901234567890.12345`, ""},
		{"a decimal with letters", kind(schema.Decimal), `"1,5"`, ``, "Could not convert string to decimal: 1,5."},
		{"a leap day", kind(schema.Date), `"2024-02-29"`, `"2024-02-29"`, ""},
		{"no leap day", kind(schema.Date), `"2023-02-29"`, ``, "String was not recognized as a valid date."},
		{"a date long ago", kind(schema.Date), `"0001-01-01"`, `"0001-01-01"`, ""},
		{"a date far away", kind(schema.Date), `"9999-12-31"`, `"9999-12-31"`, ""},
		{"a date as a number", kind(schema.Date), `20240101`, ``, "String was not recognized as a valid date."},
		{"a date-time with an offset", kind(schema.DateTime), `"2026-01-31T22:30:00-05:00"`, `"2026-02-01T03:30:00Z"`, ""},
		{"a date-time without a zone", kind(schema.DateTime), `"2026-01-31T22:30:00.1230000"`, `"2026-01-31T22:30:00.123Z"`, ""},
		{"a date-time of 1901", kind(schema.DateTime), `"1901-01-31T22:30:00.5Z"`, `"1901-01-31T22:30:00.5Z"`, ""},
		{"a time without seconds", kind(schema.Time), `"08:05"`, `"08:05:00"`, ""},
		{"a time with an offset", kind(schema.Time), `"23:30:15-02"`, `"01:30:15"`, ""},
		{"a time with a zone", kind(schema.Time), `"00:30:00+01:00"`, `"23:30:00"`, ""},
		{"a time of one digit", kind(schema.Time), `"8:05"`, ``, "Unexpected time value format found '8:05'."},
		{"a minute there is not", kind(schema.Time), `"08:60"`, ``, "Unexpected time value format found '08:60'."},
		{"true", kind(schema.Boolean), `true`, `true`, ""},
		{"false in quotes", kind(schema.Boolean), `"False"`, `false`, ""},
		{"a boolean that is none", kind(schema.Boolean), `"yes"`, ``, "Could not convert string to boolean: yes."},
		{"a text", kind(schema.String), `"caf\u00e9 \ud83d\ude00 \"\\\/\n\u0001"`, `"café 😀 \"\\/\n\u0001"`, ""},
		{"half a surrogate pair", kind(schema.String), `"a\ud83dz"`, "\"a\ufffdz\"", ""},
		{"a number for a text", kind(schema.String), `255901`, `"255901"`, ""},
		{"an object for a text", kind(schema.String), `{"a":1}`, ``, "Unexpected character encountered while parsing value: {."},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := &shape{name: "X", props: []prop{{Property: tt.p, title: "P", quoted: `"p":`}}, exact: map[string]uint16{"p": 0}, fold: map[string]uint16{"p": 0}}
			body := []byte(`{"p": ` + tt.in + `}`)
			d := &draft{body: body, end: len(body)}
			root, err := d.read(s)
			if err != nil {
				t.Fatal(err)
			}
			if tt.problem != "" {
				if got := d.problems["$.p"]; len(got) != 1 || got[0] != tt.problem {
					t.Errorf("got %q, want %q", d.problems, tt.problem)
				}
				return
			}
			if len(d.problems) > 0 {
				t.Fatal(d.problems)
			}
			d.encode(s, root)
			got, _ := renderer{bare: true}.members([]byte("{"), s, &cursor{d.rec})
			if want := `{"p":` + tt.want; string(got) != want {
				t.Errorf("got %s, want %s", got, want)
			}
		})
	}
}

func TestIDsAreReadBack(t *testing.T) {
	t.Parallel()
	ids, err := newIdentifiers(make([]byte, 16))
	if err != nil {
		t.Fatal(err)
	}
	a, other := &table{number: 3}, &table{number: 4}
	id := string(ids.append(nil, address{a, 77}))
	dashed := id[:8] + "-" + id[8:12] + "-" + id[12:16] + "-" + id[16:20] + "-" + id[20:]
	for _, tt := range []struct {
		name           string
		table          *table
		id             string
		wellFormed, ok bool
	}{
		{"its own", a, id, true, true},
		{"with dashes", a, dashed, true, true},
		{"of another table", other, id, true, false},
		{"made up", a, "0123456789abcdef0123456789abcdef", true, false},
		{"too short", a, id[:31], false, false},
		{"too long", a, id + "0", false, false},
		{"not hexadecimal", a, "g" + id[1:], false, false},
		{"nothing", a, "", false, false},
	} {
		row, wellFormed, ok := ids.row(tt.table, tt.id)
		if wellFormed != tt.wellFormed || ok != tt.ok || ok && row != 77 {
			t.Errorf("%s: got row %d, %v, %v", tt.name, row, wellFormed, ok)
		}
	}
}
