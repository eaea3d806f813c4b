package source

import (
	"database/sql/driver"
	"math"
	"testing"
	"time"
)

func TestCellsAsText(t *testing.T) {
	t.Parallel()
	day := time.Date(2026, 8, 17, 0, 0, 0, 0, time.UTC)
	moment := time.Date(2026, 8, 17, 8, 5, 0, 250_000_000, time.FixedZone("", -5*3600))
	tests := map[string]struct {
		value  driver.Value
		format format
		want   string
	}{
		"text":                            {"Ana", asIs, "Ana"},
		"empty text":                      {"", asIs, ""},
		"bytes":                           {[]byte("Ana"), asIs, "Ana"},
		"smallest integer":                {int64(math.MinInt64), asIs, "-9223372036854775808"},
		"unsigned":                        {uint64(math.MaxUint64), asIs, "18446744073709551615"},
		"true":                            {true, asIs, "true"},
		"false":                           {false, asIs, "false"},
		"double without exponent":         {1e21, asIs, "1000000000000000000000"},
		"small double":                    {1e-7, asIs, "0.0000001"},
		"whole double":                    {3.0, asIs, "3"},
		"single keeps its own digits":     {float32(0.1), asIs, "0.1"},
		"not a number":                    {math.NaN(), asIs, "NaN"},
		"date":                            {day, dateOnly, "2026-08-17"},
		"date of year 1":                  {time.Date(1, 1, 2, 0, 0, 0, 0, time.UTC), dateOnly, "0001-01-02"},
		"date with a time of day":         {moment, dateOnly, "2026-08-17T08:05:00.25-05:00"},
		"date beyond year 9999":           {time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC), dateOnly, "10000-01-01"},
		"timestamp at midnight":           {day, asIs, "2026-08-17T00:00:00Z"},
		"timestamp with zone":             {moment, asIs, "2026-08-17T13:05:00.25Z"},
		"time":                            {time.Date(0, 1, 1, 8, 5, 0, 0, time.UTC), timeOnly, "08:05:00"},
		"time with fraction":              {time.Date(0, 1, 1, 8, 5, 0, 500_000_000, time.UTC), timeOnly, "08:05:00.5"},
		"MySQL timestamp":                 {[]byte("2026-08-17 08:05:00"), dateTimeText, "2026-08-17T08:05:00Z"},
		"MySQL timestamp with fraction":   {[]byte("2026-08-17 08:05:00.250000"), dateTimeText, "2026-08-17T08:05:00.25Z"},
		"MySQL timestamp with zeros only": {[]byte("2026-08-17 08:05:00.000000"), dateTimeText, "2026-08-17T08:05:00Z"},
		"MySQL timestamp of other shape":  {[]byte("2026-08-17 08:05:00+02:00"), dateTimeText, "2026-08-17 08:05:00+02:00"},
		"MySQL bit field":                 {[]byte{1, 0}, bitField, "256"},
		"SQL Server uniqueidentifier": {
			[]byte{0xff, 0x19, 0x96, 0x6f, 0x86, 0x8b, 0x11, 0xd0, 0xb4, 0x2d, 0x00, 0xc0, 0x4f, 0xc9, 0x64, 0xff},
			guid, "6f9619ff-8b86-d011-b42d-00c04fc964ff",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var b Batch
			b.reset(2)
			b.appendCell(nil, test.format)
			b.appendCell(test.value, test.format)
			b.rows++
			b.finish()
			row := b.Row(0)
			if row[0] != nil {
				t.Errorf("NULL became %q", row[0])
			}
			if row[1] == nil || string(row[1]) != test.want {
				t.Errorf("got %q, want %q", row[1], test.want)
			}
		})
	}
}
