package source

import (
	"strings"
	"testing"
	"testing/fstest"
	"unicode/utf8"
)

// FuzzLoadPack: no pack makes the loader panic, hang or succeed with a query that has no resource or no statement.
func FuzzLoadPack(f *testing.F) {
	f.Add(goodManifest, "select 1 as _key", "GradeLevelDescriptor: {A: B}", "descriptor,code,value\nSexDescriptor,F,Female\n", uint8(0))
	f.Add("params:\n  a: {type: date, default: 2026-01-01}", "-- resource: ed-fi/students\n-- path: a = b\nselect $$x$$, :a", "", "", uint8(1))
	f.Add("&a [*a]", "/* /* */", "<<: x", "\"", uint8(2))
	f.Fuzz(func(t *testing.T, manifest, sql, yaml, csv string, driver uint8) {
		fsys := fstest.MapFS{
			packFile: {Data: []byte(manifest)}, "students.sql": {Data: []byte(sql)},
			mapsFile: {Data: []byte(yaml)}, mapsDir + "/a.csv": {Data: []byte(csv)},
		}
		p, err := LoadPack(fsys, Drivers()[int(driver)%len(Drivers())])
		if err != nil {
			for _, p := range Problems(err) {
				if p.Message == "" || p.Line < 0 {
					t.Errorf("empty problem %+v", p)
				}
			}
			if len(Problems(err)) == 0 {
				t.Errorf("error without problem: %v", err)
			}
			return
		}
		if len(p.Queries) != 1 || p.Queries[0].Resource == "" || p.Queries[0].SQL == "" || p.Name == "" {
			t.Errorf("accepted %+v", p)
		}
		for descriptor, codes := range p.Maps {
			for code, uri := range codes {
				if !strings.HasSuffix(descriptor, "Descriptor") || code == "" || !strings.HasPrefix(uri, "uri://") {
					t.Errorf("accepted %q %q %q", descriptor, code, uri)
				}
			}
		}
	})
}

// FuzzHeader: parameters are where they are said to be, and replacing them leaves the rest of the statement as it was.
func FuzzHeader(f *testing.F) {
	f.Add("-- resource: ed-fi/students\nselect :a, ':b', x::int", uint8(1))
	f.Add("select 'x' /* :c */ -- :d\n, \":e\" ;", uint8(0))
	f.Add("select E'\\'' || $t$ :x $t$ || :y;", uint8(1))
	f.Fuzz(func(t *testing.T, text string, driver uint8) {
		q, problems := parseQuery("students", "students.sql", text, Drivers()[int(driver)%len(Drivers())])
		if q == nil || len(problems) > 0 {
			return
		}
		out, args := q.stmt.expand(func(int) string { return "\x00" }, func(name string) any { return name })
		if len(args) != len(q.stmt.params) {
			t.Fatalf("%d parameters, %d values", len(q.stmt.params), len(args))
		}
		for _, a := range args {
			out = strings.Replace(out, "\x00", ":"+a.(string), 1)
		}
		if out != q.SQL && !strings.Contains(text, "\x00") {
			t.Errorf("%q became %q", q.SQL, out)
		}
		if !utf8.ValidString(q.SQL) {
			t.Errorf("%q is not UTF-8", q.SQL)
		}
	})
}
