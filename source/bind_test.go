package source

import (
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/edfisync/edfisync/schema"
)

func model(t testing.TB) *schema.Model {
	t.Helper()
	m, err := schema.Bundled("5.2")
	if err != nil {
		t.Fatal(err)
	}
	return m
}

const studentTable = `create table student (id integer primary key, number text, first text, last text, born date)`

// load makes a pack of one students.sql and whatever else.
func load(t testing.TB, driver string, fsys fstest.MapFS) *Pack {
	t.Helper()
	p, err := LoadPack(fsys, driver)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestBoundQueriesEncodeTheirRows(t *testing.T) {
	t.Parallel()
	path, _ := sqliteFile(t, studentTable, `insert into student values (7, 'S1', 'Ana', 'Ñandú', '2010-02-03')`)
	p := load(t, SQLite, files("students.sql", `-- path: b = birthDate
select number as studentUniqueId, id as _key, 'ignored' as _note, 0 as _person, first as firstName, last as "lastSurname", born as b, :country as birthCountryDescriptor from student`,
		"descriptors.yaml", "CountryDescriptor:\n  US: US\n", packFile, goodManifest+"params:\n  country: {default: US}\n"))
	d := open(t, Config{Driver: SQLite, DSN: path, Params: map[string]string{"country": "MX"}})
	bound, err := d.Bind(t.Context(), nil, p, model(t), schema.Rules{Version: 1}, schema.DescriptorMaps{"CountryDescriptor": {"MX": "MX"}})
	if err != nil {
		t.Fatal(err)
	}
	if len(bound) != 1 {
		t.Fatalf("%d queries", len(bound))
	}
	b := bound[0]
	if diff := cmp.Diff(b.Columns, []string{"studentUniqueId", "firstName", "lastSurname", "b", "birthCountryDescriptor", "_key"}); diff != "" {
		t.Errorf("columns (-got +want):\n%s", diff)
	}
	if diff := cmp.Diff(b.Warnings, []string{`students.sql: column "_note" is ignored, as its name starts with _`}); diff != "" {
		t.Errorf("warnings (-got +want):\n%s", diff)
	}
	s := snapshot(t, d)
	r, err := s.Open(t.Context(), b.Query)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var batch Batch
	if err := r.Next(t.Context(), &batch); err != nil {
		t.Fatal(err)
	}
	var out schema.Encoded
	b.Template.Encode(b.Values(batch.Row(0)), &out)
	if len(out.Problems) > 0 {
		t.Fatal(out.Problems)
	}
	if got, want := string(out.Wire), `{"birthCountryDescriptor":"uri://ed-fi.org/CountryDescriptor#MX","birthDate":"2010-02-03","firstName":"Ana","lastSurname":"Ñandú","studentUniqueId":"S1"}`; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got := string(b.Key(batch.Row(0))); got != "7" {
		t.Errorf("key %q", got)
	}
}

func TestBindReportsEveryProblem(t *testing.T) {
	t.Parallel()
	path, _ := sqliteFile(t, studentTable)
	fine := `select id as _key, number as studentUniqueId, first as firstName, last as lastSurname, born as birthDate from student`
	tests := map[string]struct {
		sql    []string
		config map[string]string
		extra  schema.DescriptorMaps
		want   []string
	}{
		"an alias that is no path": {[]string{"students.sql", "select id as _key, number as studentUniqueId, first as firstName, last as lastSurname,\n born as \"birthdate\", 1 as birthDate from student"}, nil, nil, []string{
			`students.sql:2: column "birthdate": Student has no element birthdate (did you mean "birthDate"?)`,
		}},
		"an alias of the header that is no column": {[]string{"students.sql", "-- path: bron = birthDate\n" + fine}, nil, nil, []string{
			`students.sql:1: column "bron": has a -- path: directive, but the query has no such column`,
		}},
		"no source key": {[]string{"students.sql", strings.Replace(fine, "_key", `"_kye"`, 1)}, nil, nil, []string{
			`students.sql: column "_key": is missing: select the row's stable source key as "_key" (did you mean "_kye"?)`,
		}},
		"two source keys": {[]string{"students.sql", strings.Replace(fine, "from", `, 1 as "_key" from`, 1)}, nil, nil, []string{
			`students.sql:1: column "_key": is selected twice`,
		}},
		"a resource the standard lacks": {[]string{"students.sql", fine, "studnts.sql", fine}, nil, nil, []string{
			`studnts.sql: the data standard 5.2.0 has no resource ed-fi/studnts (did you mean "ed-fi/students"?)`,
		}},
		"problems in several files": {[]string{"students.sql", "select id as _key from student", "schools.sql", "select 1 as _key, x as schoolId from nowhere"}, nil, nil, []string{
			`schools.sql: SQL logic error: no such table: nowhere (1) (the schema of the source is not the one the pack was written for)`,
			`students.sql: birthDate is required, and no column gives it`,
			`students.sql: firstName is required, and no column gives it`,
			`students.sql: lastSurname is required, and no column gives it`,
			`students.sql: studentUniqueId is required, and no column gives it`,
		}},
		"a configured parameter that is none": {[]string{"students.sql", fine}, map[string]string{"x": "1"}, nil, []string{
			`configured parameter x is not declared in the pack's pack.yaml`,
		}},
		"configured codes that are none": {[]string{"students.sql", fine}, nil, schema.DescriptorMaps{"Sex": {"F": "Female"}, "SexDescriptor": {"M": ""}}, []string{
			`configured descriptor map: "Sex" is no descriptor name: it ends in Descriptor, as in GradeLevelDescriptor`,
			`configured descriptor map: SexDescriptor: empty value`,
		}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := open(t, Config{Driver: SQLite, DSN: path, Params: test.config})
			_, err := d.Bind(t.Context(), nil, load(t, SQLite, files(test.sql...)), model(t), schema.Rules{Version: 1}, test.extra)
			if err == nil {
				t.Fatal("the pack was bound")
			}
			var got []string
			for _, p := range Problems(err) {
				got = append(got, p.Error())
			}
			if diff := cmp.Diff(got, test.want); diff != "" {
				t.Errorf("problems (-got +want):\n%s\n%v", diff, err)
			}
		})
	}
}

func TestServersNameTheLineOfAWrongStatement(t *testing.T) {
	onServers(t, func(t *testing.T, v server) {
		d, w := v.start(t, Config{})
		exec(t, w, studentTable)
		p := load(t, v.driver, files("students.sql", "-- a comment, longer than é\nselect id as \"_key\",\n  nubmer as \"studentUniqueId\"\nfrom student",
			"schools.sql", "select id as \"_key\" from student -- no semicolon"))
		_, err := d.Bind(t.Context(), nil, p, model(t), schema.Rules{Version: 1}, nil)
		problems := Problems(err)
		if len(problems) < 2 {
			t.Fatalf("got %v", err)
		}
		last := problems[len(problems)-1]
		if last.File != "students.sql" || !strings.Contains(last.Message, "nubmer") {
			t.Errorf("got %v", last)
		}
		if v.driver == Postgres && last.Line != 3 {
			t.Errorf("line %d, want 3", last.Line)
		}
	})
}

func TestCheckCountsWhatOnlyRowsShow(t *testing.T) {
	onServers(t, func(t *testing.T, v server) {
		d, w := v.start(t, Config{})
		checkRows(t, v.driver, d, func(script ...string) { exec(t, w, script...) })
	})
}

func TestCheckCountsWhatOnlyRowsShowOnSQLite(t *testing.T) {
	t.Parallel()
	path, w := sqliteFile(t, `create table x (a)`)
	checkRows(t, SQLite, open(t, Config{Driver: SQLite, DSN: path}), func(script ...string) { exec(t, w, script...) })
}

func checkRows(t *testing.T, driver string, d *DB, exec func(...string)) {
	t.Helper()
	exec(`create table student (id varchar(9), number varchar(9), first varchar(9), last varchar(9), born date)`,
		`insert into student values ('a', 'S1', 'Ana', 'B', '2010-02-03'), ('A', 's1', 'Ana', 'B', '2010-02-03')`)
	p := load(t, driver, files("students.sql", `-- path: n = studentUniqueId
select id as "_key", number as "n", first as "firstName", last as "lastSurname", born as "birthDate" from student -- all of them`))
	bound, err := d.Check(t.Context(), p, model(t), schema.Rules{Version: 1}, nil)
	if err != nil || len(bound) != 1 {
		t.Fatalf("got %d queries, %v; keys that differ in case only are different", len(bound), err)
	}
	exec(`insert into student values (null, 'S3', 'Ana', 'B', '2010-02-03'), ('a', 'S1', 'Eva', 'B', '2010-02-03'), ('a', 'S4', 'Eva', 'B', '2010-02-03')`,
		`insert into student values ('n', null, 'Ana', 'B', '2010-02-03'), ('m', null, 'Eva', 'B', '2010-02-03')`) // without a key they are nobody's duplicates
	bound, err = d.Check(t.Context(), p, model(t), schema.Rules{Version: 1}, nil)
	var got []string
	for _, p := range Problems(err) {
		got = append(got, p.Error())
	}
	want := []string{
		`students.sql:1: column "n": 1 natural keys (n) come from more than one row; only one can be sent`,
		`students.sql:2: column "_key": is NULL in 1 of 7 rows`,
		`students.sql:2: column "_key": is not unique: 2 of 7 rows repeat a source key`,
	}
	if diff := cmp.Diff(got, want); diff != "" || len(bound) != 1 {
		t.Errorf("%d queries, problems (-got +want):\n%s\n%v", len(bound), diff, err)
	}
}
