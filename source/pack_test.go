package source

import (
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/edfisync/edfisync/schema"
)

const goodManifest = "name: demo\nedfi: [\"5.2\"]\n"

// files makes a pack: a valid pack.yaml unless one is given.
func files(pairs ...string) fstest.MapFS {
	f := fstest.MapFS{packFile: {Data: []byte(goodManifest)}}
	for i := 0; i < len(pairs); i += 2 {
		f[pairs[i]] = &fstest.MapFile{Data: []byte(pairs[i+1])}
	}
	return f
}

func TestLoadPack(t *testing.T) {
	t.Parallel()
	p, err := LoadPack(files(
		packFile, "\ufeffname: limitless\ndescription: the demo\nedfi: [\"4.0\", 5.2]\ndrivers: [sqlite, mysql]\nnamespace: uri://demo.example/\nparams:\n  year: {type: integer, default: 2026, description: school year}\n  district:\n",
		"students.sql", "-- Students of the district.\n-- dirty: sis.student.id\n/* a note:\n   -- resource: nothing */\n\n-- path: \"short\" = birthSexDescriptor\nselect s.id as \"_key\" -- the key: a number\n  from student s where s.year = :year and s.name <> ':x' and s.d = :district;\n",
		"students.postgres.sql", "this is not for us",
		"calendarDates-holidays.sql", "-- resource: /tpdm/candidates\nwith x as (select 1) select 1 as _key from x",
		"calendarDates-holidays.mysql.sql", "-- resource: ed-fi/calendarDates\nvalues (1)",
		"descriptors.yaml", "GradeLevelDescriptor:\n  09: Ninth grade\n  KG: uri://x.example/GradeLevelDescriptor#Kindergarten\nTermDescriptor:\n",
		"descriptors/sex.csv", "descriptor,code,value,note\nSexDescriptor,F,Female,as stored\n\"SexDescriptor\",\"M\",\"Male\",\n",
		"README.md", "ignored",
	), MySQL)
	if err != nil {
		t.Fatal(err)
	}
	want := &Pack{
		Name: "limitless", Description: "the demo", Standards: []string{"4.0", "5.2"}, Drivers: []string{"sqlite", "mysql"}, Namespace: "uri://demo.example",
		Params: []Param{
			{Name: "district", Type: "string", Line: 8},
			{Name: "year", Type: "integer", Default: "2026", HasDefault: true, Description: "school year", Line: 7},
		},
		Queries: []*Query{
			{Resource: "ed-fi/calendarDates", Part: "calendarDates-holidays", File: "calendarDates-holidays.mysql.sql", SQL: "-- resource: ed-fi/calendarDates\nvalues (1)", Paths: map[string]string{}},
			{
				Resource: "ed-fi/students", Part: "students", File: "students.sql",
				SQL:   "-- Students of the district.\n-- dirty: sis.student.id\n/* a note:\n   -- resource: nothing */\n\n-- path: \"short\" = birthSexDescriptor\nselect s.id as \"_key\" -- the key: a number\n  from student s where s.year = :year and s.name <> ':x' and s.d = :district",
				Paths: map[string]string{"short": "birthSexDescriptor"}, Dirty: []Dirty{{Table: "sis.student", Column: "id", Line: 2}},
			},
		},
		Maps: schema.DescriptorMaps{
			"GradeLevelDescriptor": {"09": "uri://demo.example/GradeLevelDescriptor#Ninth grade", "KG": "uri://x.example/GradeLevelDescriptor#Kindergarten"},
			"SexDescriptor":        {"F": "uri://demo.example/SexDescriptor#Female", "M": "uri://demo.example/SexDescriptor#Male"},
		},
	}
	if diff := cmp.Diff(p, want, cmpopts.IgnoreUnexported(Query{})); diff != "" {
		t.Errorf("pack (-got +want):\n%s", diff)
	}
	text, args := p.Queries[1].stmt.expand(postgresDialect{}.placeholder, func(name string) any { return "<" + name + ">" })
	if !strings.Contains(text, "s.year = $1 and s.name <> ':x' and s.d = $2") || cmp.Diff(args, []any{"<year>", "<district>"}) != "" {
		t.Errorf("expanded to %s with %v", text, args)
	}
}

func TestLoadPackReportsEveryProblem(t *testing.T) {
	t.Parallel()
	good := "select 1 as _key"
	tests := map[string]struct {
		fs     fstest.MapFS
		driver string
		want   []string
	}{
		"no pack.yaml": {fstest.MapFS{"students.sql": {Data: []byte(good)}}, SQLite, []string{
			"pack.yaml: cannot be read: file does not exist",
		}},
		"an empty folder": {fstest.MapFS{}, SQLite, []string{
			"the pack has no query (no *.sql file)",
			"pack.yaml: cannot be read: file does not exist",
		}},
		"pack.yaml with every mistake": {files("students.sql", good, packFile, `nmae: x
name: Bad Name
name: again
edfi: []
drivers: [postgress]
namespace: http://x
params:
  Year: {default: 1}
  n: {type: number, defualt: 3}
  d: {type: date, default: 2026-13-01}
  s: text
`), SQLite, []string{
			`pack.yaml:1: unknown key "nmae"; known: name, description, edfi, drivers, namespace, params, watermark (did you mean "name"?)`,
			`pack.yaml:2: name: lower-case letters, digits, - and _, starting with a letter`,
			`pack.yaml:3: "name" is given twice, first at line 2`,
			`pack.yaml:4: edfi is empty`,
			`pack.yaml:5: unknown driver "postgress" (did you mean "postgres"?)`,
			`pack.yaml:5: the pack does not support the driver sqlite (it supports postgress)`,
			`pack.yaml:6: namespace: starts with uri://`,
			`pack.yaml:8: parameter "Year": a name is lower-case letters, digits and _, starting with a letter`,
			`pack.yaml:9: unknown type "number"; known: string, integer, decimal, boolean, date`,
			`pack.yaml:9: unknown key "defualt"; known: description, type, default (did you mean "default"?)`,
			`pack.yaml:10: default of parameter d: "2026-13-01" is no date: write yyyy-mm-dd`,
			`pack.yaml:11: a parameter must be a mapping (name: value)`,
		}},
		"pack.yaml that is no YAML": {files("students.sql", good, packFile, "name: [\n"), SQLite, []string{
			"pack.yaml:1: did not find expected node content",
		}},
		"two documents in pack.yaml": {files("students.sql", good, packFile, goodManifest+"---\nname: b\n"), SQLite, []string{
			"pack.yaml:3: holds a second document",
		}},
		"a query that falls away on this driver": {files("students.postgres.sql", good, "schools.sql", good), SQLite, []string{
			"students.sql: is missing, and there is no students.sqlite.sql: on this driver the query would fall away",
		}},
		"files in the wrong place or of an unknown kind": {files("students.sql", good, "schools.postgre.sql", good, "more/staffs.sql", good, "grades.csv", "", "maps.yaml", "", ".sql", good), SQLite, []string{
			".sql: has no name before the first dot",
			"grades.csv: is no file of a pack: maps are descriptors.yaml and descriptors/*.csv",
			"maps.yaml: is no file of a pack: maps are descriptors.yaml and descriptors/*.csv",
			"more/staffs.sql: query files belong in the pack's own folder, not in a sub-folder",
			`schools.postgre.sql: unknown driver "postgre" in the file name; known: sqlite, postgres, mysql, sqlserver (did you mean "postgres"?)`,
		}},
		"a header with every mistake": {files("students.sql", `-- resorce: ed-fi/students
-- resource: students
-- resource: ed-fi/students
-- resource: ed-fi/schools
-- path:
-- path: a
-- path: a = b
-- path: a = c
-- path: _key = d
-- dirty: student
-- dirty: student.id or so
select 1 as _key
-- path: late = x
`), SQLite, []string{
			`students.sql:1: unknown directive "resorce" (did you mean "resource"?)`,
			`students.sql:2: "students" is no resource: write schema segment and collection name, as in ed-fi/students`,
			`students.sql:4: a second resource; line 3 names ed-fi/students. One file fills one resource`,
			`students.sql:5: the directive "path" has no value`,
			`students.sql:6: write -- path: alias = dotted.path`,
			`students.sql:8: alias "a" was given a path at line 7 already`,
			`students.sql:9: _key is the source key and stands for no path`,
			`students.sql:10: write -- dirty: table.column`,
			`students.sql:11: write -- dirty: table.column`,
			`students.sql:13: the directive "path" stands after the statement's first word; move it to the top`,
		}},
		"a file name that is no collection": {files("my-students.sql", good), SQLite, []string{
			`my-students.sql:1: the header names no resource, and "my-students" is no collection name`,
		}},
		"statements that do not only read": {files("a.sql", "delete from x", "b.sql", good+"; drop table x", "c.sql", "-- nothing\n/* at all */\n", "d.sql", "select 'x"), SQLite, []string{
			`a.sql:1: a query starts with select, with or values, not with "delete"`,
			`b.sql:1: a second statement follows the first; a file holds one`,
			`c.sql:1: the file has no statement`,
			`d.sql:1: a string is not closed`,
		}},
		"text that is not UTF-8": {files("students.sql", "select '\xff' as _key"), SQLite, []string{"students.sql: is not UTF-8"}},
		"parameters that are not declared": {files("students.sql", "select 1 as _key\nfrom x where a = :school_yer and b = :Year",
			packFile, goodManifest+"params:\n  school_year: {default: 2026}\n"), SQLite, []string{
			`students.sql:2: parameter :Year: a name is lower-case letters, digits and _, starting with a letter`,
			`students.sql:2: parameter :school_yer is not declared in pack.yaml (did you mean "school_year"?)`,
		}},
		"an alias PostgreSQL would cut": {files("students.sql", "select 1 as _key,\n 2 as \"employmentStaffEducationOrganizationEmploymentAssociationReference.hireDate\""), Postgres, []string{
			`students.sql:2: column "employmentStaffEducationOrganizationEmploymentAssociationReference.hireDate": is 75 bytes long and PostgreSQL cuts names at 63: choose a short alias and add the header line -- path: alias = employmentStaffEducationOrganizationEmploymentAssociationReference.hireDate`,
		}},
		"descriptor maps with every mistake": {files("students.sql", good,
			"descriptors.yaml", "GradeLevel:\n  A: B\nGradeLevelDescriptor:\n  A: \"\"\n  B: [x]\n  C: uri://x/y\n  D: First\n  D: Second\nSexDescriptor: F\n",
			"descriptors/a.csv", "descriptor,code,value\nGradeLevelDescriptor,D,Third\nSexDescriptor,F\nSexDescriptor,,Female\n",
			"descriptors/b.csv", "code,value\n",
			"descriptors/c.csv", "",
			"descriptors/d.csv", "descriptor,code,value\nSexDescriptor,\"M,Male\n",
		), SQLite, []string{
			`descriptors.yaml:2: "GradeLevel" is no descriptor name: it ends in Descriptor, as in GradeLevelDescriptor`,
			`descriptors.yaml:4: GradeLevelDescriptor: empty value`,
			`descriptors.yaml:5: B must be a text or number`,
			`descriptors.yaml:6: GradeLevelDescriptor: "uri://x/y" is no descriptor URI: write uri://namespace/GradeLevelDescriptor#code value`,
			`descriptors.yaml:7: GradeLevelDescriptor: code "D" is given twice, first at descriptors/a.csv:2`,
			`descriptors.yaml:8: "D" is given twice, first at line 7`,
			`descriptors.yaml:9: SexDescriptor must be a mapping (name: value)`,
			`descriptors/a.csv:3: has 2 fields instead of 3`,
			`descriptors/a.csv:4: SexDescriptor: empty code`,
			`descriptors/b.csv:1: the first line must be descriptor,code,value, or descriptor,code,value,note`,
			`descriptors/c.csv: is empty; its first line is descriptor,code,value`,
			`descriptors/d.csv:2: extraneous or missing " in quoted-field`,
		}},
		"an unknown driver": {files("students.sql", good), "postgresql", []string{`pack.yaml: unknown driver "postgresql" (did you mean "postgres"?)`}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, err := LoadPack(test.fs, test.driver)
			if err == nil {
				t.Fatalf("the pack was loaded: %+v", p)
			}
			var got []string
			for _, p := range Problems(err) {
				got = append(got, p.Error())
			}
			if diff := cmp.Diff(got, test.want); diff != "" {
				t.Errorf("problems (-got +want):\n%s", diff)
			}
		})
	}
}

func TestParametersAreFoundOutsideTextOnly(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		driver, text string
		want         []string
	}{
		"a parameter twice":                  {SQLite, "select :a, :b, :a", []string{"a", "b", "a"}},
		"a cast":                             {Postgres, "select x::date, :a::int", []string{"a"}},
		"an array slice":                     {Postgres, "select x[1:2], :a", []string{"a"}},
		"in a string":                        {SQLite, "select ':x', 'it''s :y', :a", []string{"a"}},
		"in a quoted name":                   {SQLite, `select ":x", ":""y", :a`, []string{"a"}},
		"in a line comment":                  {SQLite, "select 1 -- :x\n, :a", []string{"a"}},
		"in a block comment":                 {SQLite, "select 1 /* :x\n:y */, :a", []string{"a"}},
		"in a nested comment of PostgreSQL":  {Postgres, "select /* /* :x */ :y */ :a", []string{"a"}},
		"after the comment SQLite ends":      {SQLite, "select /* /* :x */ :a", []string{"a"}},
		"in a dollar-quoted string":          {Postgres, "select $$:x$$, $t$:y $$ :z$t$, :a", []string{"a"}},
		"in an escape string":                {Postgres, `select E'\':x', e':y\\', :a`, []string{"a"}},
		"a backslash that is only itself":    {MySQL, `select '\', :a`, []string{"a"}},
		"in backticks":                       {MySQL, "select `:x`, :a", []string{"a"}},
		"in brackets":                        {SQLServer, "select [:x], :a", []string{"a"}},
		"beside JSON in a string":            {SQLite, `select '{"a":"b"}', :a`, []string{"a"}},
		"none":                               {SQLite, "select 1", nil},
		"a time in a string, ends at a sign": {SQLite, "select '08:05', :a+1", []string{"a"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			st, problems := parseStatement(test.text, 1, test.driver)
			if len(problems) > 0 {
				t.Fatal(problems)
			}
			var got []string
			for _, p := range st.params {
				got = append(got, p.name)
			}
			if diff := cmp.Diff(got, test.want); diff != "" {
				t.Errorf("parameters (-got +want):\n%s", diff)
			}
		})
	}
}

func TestConfiguredParameters(t *testing.T) {
	t.Parallel()
	p, err := LoadPack(files("students.sql", "select :year as _key, :d, :n, :b, :x",
		packFile, goodManifest+"params:\n  year: {type: integer, default: 2026}\n  d: {type: date}\n  n: {type: decimal}\n  b: {type: boolean}\n  x: {}\n"), SQLite)
	if err != nil {
		t.Fatal(err)
	}
	given := map[string]string{"d": "2026-08-17", "n": "1.5", "b": "true", "x": "; drop table students"}
	if problems := p.checkGiven(given); len(problems) > 0 {
		t.Fatal(problems)
	}
	want := map[string]any{"year": int64(2026), "d": "2026-08-17", "n": "1.5", "b": true, "x": "; drop table students"}
	for name, want := range want {
		if got, err := p.Queries[0].arg(name, given); err != nil || got != want {
			t.Errorf("%s: got %v (%v), want %v", name, got, err, want)
		}
	}
	var got []string
	for _, p := range p.checkGiven(map[string]string{"year": "MMXXVI", "d": "17.8.2026", "n": "many", "b": "si", "yaer": "1"}) {
		got = append(got, p.Error())
	}
	if diff := cmp.Diff(got, []string{
		`configured parameter b: "si" is no boolean: write true or false`,
		`configured parameter d: "17.8.2026" is no date: write yyyy-mm-dd`,
		`configured parameter n: "many" is no decimal number`,
		`pack.yaml:8: parameter x has no default and the configuration gives no value`,
		`configured parameter year: "MMXXVI" is no integer`,
		`configured parameter yaer is not declared in the pack's pack.yaml (did you mean "year"?)`,
	}); diff != "" {
		t.Errorf("problems (-got +want):\n%s", diff)
	}
}
