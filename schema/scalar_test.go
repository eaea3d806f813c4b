package schema

import (
	"math/big"
	"testing"

	"pgregory.net/rapid"
)

func TestNormalForms(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		kind Kind
		text string
		want string // "" = does not read as the kind
	}{
		{"integer as it is", Integer, "42", "42"},
		{"integer loses leading zeros", Integer, "007", "7"},
		{"integer printed as a decimal", Long, "12.00", "12"},
		{"integer with an exponent", Long, "25e2", "2500"},
		{"negative zero is zero", Integer, "-0", "0"},
		{"integer with a fraction", Integer, "1.5", ""},
		{"integer with a plus", Integer, "+1", ""},
		{"integer in words", Integer, "one", ""},
		{"integer in Arabic digits", Integer, "٣", ""},
		{"integer followed by text", Integer, "12a", ""},
		{"integer of seventy digits", Long, "1234567890123456789012345678901234567890123456789012345678901234567890", ""},
		{"decimal loses trailing zeros", Decimal, "3.50", "3.5"},
		{"decimal without a fraction loses the point", Decimal, "3.000", "3"},
		{"decimal without digits before the point", Decimal, ".5", "0.5"},
		{"decimal without digits after the point", Decimal, "5.", "5"},
		{"decimal with a small exponent", Decimal, "5e-3", "0.005"},
		{"negative decimal", Decimal, "-0.50", "-0.5"},
		{"negative decimal zero", Decimal, "-0.00", "0"},
		{"decimal with a huge exponent", Decimal, "1e999", ""},
		{"decimal zero with a huge exponent", Decimal, "0e999", "0"},
		{"not a number", Decimal, "NaN", ""},
		{"infinity", Decimal, "Infinity", ""},
		{"only a sign", Decimal, "-", ""},
		{"only a point", Decimal, ".", ""},
		{"only an exponent", Decimal, "e5", ""},
		{"decimal comma", Decimal, "1,5", ""},
		{"date", Date, "2024-02-29", "2024-02-29"},
		{"date with midnight of PostgreSQL", Date, "2024-02-29T00:00:00Z", "2024-02-29"},
		{"date with midnight of MariaDB", Date, "2024-02-29 00:00:00.000000", "2024-02-29"},
		{"date with midnight and offset", Date, "2024-02-29T00:00:00+00:00", "2024-02-29"},
		{"date with a time", Date, "2024-02-29T08:00:00Z", ""},
		{"date with midnight elsewhere", Date, "2024-02-29T00:00:00-06:00", ""},
		{"29 February of a common year", Date, "2023-02-29", ""},
		{"29 February of a century", Date, "1900-02-29", ""},
		{"31 April", Date, "2024-04-31", ""},
		{"year 0000", Date, "0000-01-01", ""},
		{"zero date of MySQL", Date, "0000-00-00", ""},
		{"American date", Date, "08/14/2024", ""},
		{"date with one digit", Date, "2024-8-14", ""},
		{"date-time", DateTime, "2024-02-29T23:59:59Z", "2024-02-29T23:59:59Z"},
		{"date-time of a database without zone", DateTime, "2024-02-29 23:59:59.120000", "2024-02-29T23:59:59.12Z"},
		{"date-time with an offset crosses midnight", DateTime, "2024-02-29T23:59:59-06:00", "2024-03-01T05:59:59Z"},
		{"date-time with an offset of PostgreSQL", DateTime, "2024-02-29 23:59:59+00", "2024-02-29T23:59:59Z"},
		{"date-time with an offset of SQL Server", DateTime, "2024-02-29 23:59:59.0000000 +01:30", "2024-02-29T22:29:59Z"},
		{"date-time without a time", DateTime, "2024-02-29", "2024-02-29T00:00:00Z"},
		{"date-time before the year 1", DateTime, "0001-01-01T00:00:00+01:00", ""},
		{"date-time after the year 9999", DateTime, "9999-12-31T23:59:59-01:00", ""},
		{"date-time at 24:00", DateTime, "2024-02-29T24:00:00Z", ""},
		{"leap second", DateTime, "2016-12-31T23:59:60Z", ""},
		{"time", Time, "08:05:09", "08:05:09"},
		{"time without seconds", Time, "08:05", "08:05:00"},
		{"time with empty fraction", Time, "08:05:09.000000", "08:05:09"},
		{"time as Go prints it", Time, "0000-01-01T08:05:09Z", "08:05:09"},
		{"time with an offset is converted as the ODS does", Time, "23:30:00-01:00", "00:30:00"},
		{"time with a fraction", Time, "08:05:09.5", ""},
		{"time with one digit", Time, "8:05", ""},
		{"time of the twelve-hour clock", Time, "08:05 PM", ""},
		{"boolean of PostgreSQL", Boolean, "t", "true"},
		{"boolean of SQLite", Boolean, "0", "false"},
		{"boolean in capitals", Boolean, "TRUE", "true"},
		{"boolean as Y or N", Boolean, "N", "false"},
		{"bit of MySQL", Boolean, "\x01", "true"},
		{"boolean as text", Boolean, "maybe", ""},
		{"string stays as it is", String, " Mari\u0301a ", " Mari\u0301a "},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			e := &element{Property: &Property{Kind: tt.kind}}
			var arena []byte
			got, ok := e.normalise(scalar{columnToken, []byte(tt.text)}, &arena)
			if ok != (tt.want != "") || ok && string(got.text) != tt.want {
				t.Fatalf("normalise(%q) = %q, %v; want %q", tt.text, got.text, ok, tt.want)
			}
			if !ok {
				return
			}
			again, ok := e.normalise(got, &arena)
			if !ok || string(again.text) != tt.want || again.kind != got.kind {
				t.Errorf("normalise of its own result = %q (%d), %v; want %q", again.text, again.kind, ok, tt.want)
			}
		})
	}
}

func TestNormalNumberKeepsTheValue(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringMatching(`-?[0-9]{1,12}(\.[0-9]{1,8})?([eE][+-]?[0-9])?`).Draw(t, "number")
		var arena []byte
		got, ok := normalNumber([]byte(text), &arena)
		want, isNumber := new(big.Rat).SetString(text)
		if !isNumber {
			t.Fatal(text)
		}
		if !ok {
			t.Fatalf("normalNumber(%q) refused", text)
		}
		if value, _ := new(big.Rat).SetString(string(got)); value == nil || value.Cmp(want) != 0 {
			t.Fatalf("normalNumber(%q) = %q", text, got)
		}
		if again, _ := normalNumber(got, &arena); string(again) != string(got) {
			t.Fatalf("normalNumber(%q) = %q, not %q", got, again, got)
		}
		if end, ok := scanNumber(got, 0); !ok || end != len(got) {
			t.Fatalf("normalNumber(%q) = %q, which is not JSON", text, got)
		}
	})
}
