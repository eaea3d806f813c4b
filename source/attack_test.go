package source

import (
	"context"
	"crypto/rand"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/edfisync/edfisync/internal/attacktest"
)

// A mapping pack, which may come from somebody else, reads the SIS and nothing else: no files, no network, no programs, no writes, and not for ever.
func TestAPackReadsTheSISAndNothingElse(t *testing.T) {
	t.Parallel()
	const endless = `with recursive n(i) as (select 1 union all select i+1 from n) select `
	cases := []struct {
		name, driver, statement string
	}{
		{"deletes", SQLite, `delete from s`},
		{"deletes after it read", SQLite, `select 1 as _key; delete from s`},
		{"deletes after a comment that hides it", SQLite, "select 1 as _key /* ; */ ; -- x\ndelete from s"},
		{"opens another file", SQLite, `attach database '/etc/passwd' as other`},
		{"changes how the database works", SQLite, `pragma query_only = 0`},
		{"drops a table where a select is expected", SQLite, `with x as (select 1) delete from s returning id as _key`},
		{"loads a library", SQLite, `select load_extension('/tmp/evil.so') as _key`},
		{"reads a file", SQLite, `select readfile('/etc/passwd') as _key`},
		{"writes a file", SQLite, `select writefile('/tmp/edfisync-attack', 'x') as _key`},
		{"runs a program", SQLite, `select edit('x', 'sh') as _key`},
		{"never ends before its first row", SQLite, endless + `count(*) as _key from n`},
		{"never ends while rows come", SQLite, endless + `i as _key from n`},
		{"makes all pairs of all rows", SQLite, endless + `a.i as _key from n a, n b where a.i + b.i < 0`},
		{"asks for more memory than a value may have", SQLite, `select zeroblob(2000000000) as _key`},
		{"deletes within a select", Postgres, `with gone as (delete from s returning id) select id as "_key" from gone`},
		{"writes a table it makes", Postgres, `select 1 as "_key" into made from s`},
		{"counts a sequence up", Postgres, `select nextval('numbers') as "_key"`},
		{"turns writing on", Postgres, `select set_config('transaction_read_only', 'off', true) as "_key"`},
		{"writes a file of the server", Postgres, `select lo_export(1, '/tmp/edfisync-attack') as "_key"`},
		{"takes a lock and sleeps", Postgres, `select pg_sleep(3600) as "_key"`},
		{"locks rows", Postgres, `select id as "_key" from s for update`},
		{"deletes within a select", MySQL, "select 1 as `_key`; delete from s"},
		{"writes a file of the server", MySQL, "select 1 as `_key` into outfile '/tmp/edfisync-attack'"},
		{"writes a file of the server in what looks like a comment", MySQL, "select 1 as `_key` /*!50000 into outfile '/tmp/edfisync-attack' */"},
		{"writes a file of the server in what looks like a comment to others", MySQL, "select 1 as `_key` /*M! into dumpfile '/tmp/edfisync-attack' */"},
		{"sleeps", MySQL, "select sleep(3600) as `_key`"},
		{"counts a sequence up", MySQL, "select nextval(numbers) as `_key`"},
	}
	path, sis := sqliteFile(t, `create table s (id integer primary key)`, `insert into s values (1), (2), (3)`)
	limit := Config{Driver: SQLite, DSN: path, StatementTimeout: 300 * time.Millisecond}
	databases := map[string]*DB{SQLite: open(t, limit)}
	counts := map[string]func() (n int){}
	counted := func(driver string, query func(string, ...any) interface{ Scan(...any) error }) {
		counts[driver] = func() (n int) {
			if err := query(`select count(*) from s`).Scan(&n); err != nil {
				t.Error(err)
			}
			return n
		}
	}
	counted(SQLite, func(q string, a ...any) interface{ Scan(...any) error } { return sis.QueryRow(q, a...) })
	for _, v := range servers() {
		d, w := v.start(t, Config{StatementTimeout: 300 * time.Millisecond})
		exec(t, w, `create table s (id integer primary key)`, `insert into s values (1), (2), (3)`, `create sequence numbers`)
		databases[v.driver] = d
		counted(v.driver, func(q string, a ...any) interface{ Scan(...any) error } { return w.QueryRow(q, a...) })
	}
	unserved := []struct{ name, statement string }{ // no such server here: it must not come so far
		{"makes a table", `select id as [_key] into made from s`},
		{"deletes behind a common table", `with x as (select 1 as a) delete from s`},
		{"begins a second statement without a semicolon", `select id as [_key] from s drop table s`},
		{"runs a program", `select 1 as [_key] exec xp_cmdshell 'dir'`},
		{"runs a procedure after a comment", "select 1 as [_key] -- x\n/* y */ execute ('drop table s')"},
		{"reads a file of the server", `select * from openrowset(bulk 'c:\secret.txt', single_clob) as x`},
		{"asks another server", `select * from openquery(other, 'select 1 as [_key]')`},
		{"waits", `select 1 as [_key] waitfor delay '01:00:00'`},
		{"makes a new login", `select 1 as [_key] create login eve with password = 'x'`},
	}
	hidden := []struct{ name, driver, statement string }{ // where a database and who does not know it see the end of a comment or string in different places
		{"into behind comments that do not nest", MySQL, "select 1 as `_key` /* /* */ into outfile '/tmp/edfisync-attack' -- */"},
		{"a statement behind comments that do not nest", SQLite, "select 1 as _key /* /* */; delete from s -- */"},
		{"into behind comments that nest", Postgres, `select 1 as "_key" /* /* */ ' */ into made from s --'`},
		{"a program behind comments that nest", SQLServer, `select 1 as [_key] /* /* */ ' */ exec xp_cmdshell 'dir' --'`},
		{"into behind a backslash that escapes nothing", MySQL, `select '\' as "_key" into outfile '/tmp/edfisync-attack' -- '`},
		{"into behind a backslash that escapes", Postgres, `select E'\'' as "_key" into made from s -- '`},
		{"into between dollars that quote nothing", MySQL, "select 1 as $$ into outfile '/tmp/edfisync-attack' -- $$"},
		{"into behind a bracket that quotes nothing", Postgres, `select (array[']'])[1] as "_key" into made from s -- '`},
		{"into in capitals", Postgres, `select 1 as "_key" INTO made from s`},
		{"a column in what looks like a comment", MySQL, "select 1 as `_key` /*!50000 , 2 as x */"},
		{"a column in what looks like a comment to others", MySQL, "select 1 as `_key` /*M! , 2 as x */"},
		{"a comment that does not end", MySQL, "select 1 as `_key` /* into outfile"},
		{"a string that does not end", Postgres, `select 1 as "_key", 'into made`},
		{"a dollar quote that does not end", Postgres, `select 1 as "_key", $x$ into made`},
	}
	for _, c := range unserved {
		hidden = append(hidden, struct{ name, driver, statement string }{c.name, SQLServer, c.statement})
	}
	for _, c := range hidden {
		t.Run(c.driver+" "+c.name, func(t *testing.T) {
			_, err := LoadPack(files("s.sql", "-- resource: ed-fi/students\n"+c.statement), c.driver)
			if err == nil {
				t.Error("it was taken")
			}
		})
	}
	for _, c := range cases {
		t.Run(c.driver+" "+c.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), longest)
			defer cancel()
			err := readStatement(ctx, databases[c.driver], c.statement)
			if ctx.Err() != nil {
				t.Fatal("nothing but this test ended it")
			}
			if err == nil && c.name != "turns writing on" {
				t.Error("it was done")
			}
			if n := counts[c.driver](); n != 3 {
				t.Errorf("the SIS has %d rows, want the 3 it had", n)
			}
		})
	}
	t.Run("writing is still off in the next statement of a snapshot where one turned it on", func(t *testing.T) {
		s := snapshot(t, databases[Postgres])
		for _, text := range []string{`select set_config('transaction_read_only', 'off', false) as "_key"`, `with gone as (delete from s returning id) select id as "_key" from gone`} {
			q := query(t, Postgres, `select 1 as "_key"`)
			q.stmt.text = text
			_, _, _ = readAll(t.Context(), s, q)
		}
		if n := counts[Postgres](); n != 3 {
			t.Errorf("the SIS has %d rows, want the 3 it had", n)
		}
	})
	all := []string{"writing is still off in the next statement"}
	for _, c := range pastTheParser() { // each database refuses what the parser would not have let through
		name := c.driver + " past the parser " + c.name
		all = append(all, name)
		t.Run(name, func(t *testing.T) {
			d, count := databases[c.driver], counts[c.driver]
			if c.dsn != "" {
				d, count = memory(t, c.dsn)
			}
			s := snapshot(t, d)
			for _, text := range c.statements {
				q := query(t, c.driver, `select 1 as _key`)
				q.stmt.text = text
				_, _, _ = readAll(t.Context(), s, q)
			}
			if n := count(); n != 3 {
				t.Errorf("the SIS has %d rows, want the 3 it had", n)
			}
		})
	}
	all = append(all, serversOfOtherHabits(t)...)
	for _, c := range cases {
		all = append(all, c.driver+" "+c.name)
	}
	for _, c := range hidden {
		all = append(all, c.driver+" "+c.name)
	}
	attacktest.Played(t, attacktest.Mapping, all)
}

// longest is how long a case may take whose statement has a limit of 300 ms.
const longest = 60 * time.Second

type passed struct {
	driver, name string
	statements   []string // one after another in a snapshot
	dsn          string   // of a database in memory; "" = the one of the driver
}

// pastTheParser are statements that LoadPack refuses: what would come of them if it did not. They commit, for what a snapshot did is rolled back.
func pastTheParser() []passed {
	return []passed{
		{SQLite, "deletes, in a file that is opened for reading", []string{`pragma query_only = 0`, `delete from s`, `commit`}, ""},
		{SQLite, "deletes, in a database in memory", []string{`delete from s`, `commit`}, "file:attack?mode=memory&cache=shared"},
		{SQLite, "a second statement deletes", []string{`select 1 as _key; delete from s; commit`}, ""},
		{Postgres, "deletes", []string{`delete from s returning id as "_key"`, `commit`}, ""},
		{MySQL, "deletes", []string{"delete from s", "commit"}, ""},
		{MySQL, "a second statement ends what keeps it from writing, a third deletes", []string{"select 1 as `_key`; rollback; delete from s"}, ""},
	}
}

// memory is a SIS with three rows in memory.
func memory(t *testing.T, dsn string) (*DB, func() int) {
	t.Helper()
	keep, err := sql.Open("sqlite", dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = keep.Close() })
	keep.SetMaxIdleConns(1)
	exec(t, keep, `create table s (id integer primary key)`, `insert into s values (1), (2), (3)`)
	return open(t, Config{Driver: SQLite, DSN: dsn}), func() (n int) {
		if err := keep.QueryRowContext(t.Context(), `select count(*) from s`).Scan(&n); err != nil {
			t.Error(err)
		}
		return n
	}
}

// serversOfOtherHabits: whoever runs the server of a SIS may have it end strings where the parser of packs does not. What is a string to the parser is one to
// the server all the same.
func serversOfOtherHabits(t *testing.T) (played []string) {
	t.Helper()
	out := filepath.Join(os.TempDir(), "edfisync-attack-"+rand.Text())
	t.Cleanup(func() { _ = os.Remove(out) })
	for _, c := range []struct{ server, name, habit, statement string }{
		{
			"PostgreSQL", "deletes where a backslash escapes the end of a string",
			`do $$ begin execute format('alter database %I set standard_conforming_strings = off', current_database()); end $$`, `select '\''; commit; delete from s; --' as "_key"`,
		},
		{"MariaDB", "writes a file of the server where a backslash escapes the end of a string", `do 1`, `select '\'' into outfile '` + out + `' -- ' as "_key"`},
	} {
		played = append(played, c.server+" "+c.name)
		t.Run(c.server+" "+c.name, func(t *testing.T) {
			v := servers()[c.server]
			dsn := v.dsn(t)
			w, err := sql.Open(v.driver, dsn)
			if err != nil {
				t.Fatal(err)
			}
			defer w.Close()
			exec(t, w, `create table s (id integer primary key)`, `insert into s values (1), (2), (3)`, c.habit)
			_ = readStatement(t.Context(), open(t, Config{Driver: v.driver, DSN: dsn}), c.statement) // or it reads one string
			var n int
			if err := w.QueryRowContext(t.Context(), `select count(*) from s`).Scan(&n); err != nil || n != 3 {
				t.Errorf("the SIS has %d rows, want the 3 it had, %v", n, err)
			}
			if _, err := os.Stat(out); err == nil {
				t.Error("it wrote a file")
			}
		})
	}
	return played
}

// readStatement does what a run does with a file of a pack: read it, then read its rows in a snapshot.
func readStatement(ctx context.Context, d *DB, statement string) error {
	p, err := LoadPack(files("s.sql", "-- resource: ed-fi/students\n"+statement), d.Driver())
	if err != nil {
		return err
	}
	s, err := d.Snapshot(ctx)
	if err != nil {
		return err
	}
	defer s.Close()
	_, _, err = readAll(ctx, s, p.Queries[0])
	return err
}

// The files of a pack are not made to take all there is of memory or time before anything is asked of the SIS.
func TestAPackIsReadInBounds(t *testing.T) {
	t.Parallel()
	aliases := "a: &a [x, x, x, x, x, x, x, x, x]\n"
	for c := 'b'; c <= 'k'; c++ {
		aliases += fmt.Sprintf("%c: &%c [*%c, *%c, *%c, *%c, *%c, *%c, *%c, *%c, *%c]\n", c, c, c-1, c-1, c-1, c-1, c-1, c-1, c-1, c-1, c-1)
	}
	good := "select 1 as _key"
	cases := []struct {
		name string
		pack fstest.MapFS
	}{
		{"aliases that multiply in pack.yaml", files("students.sql", good, packFile, aliases)},
		{"aliases that multiply in descriptors.yaml", files("students.sql", good, "descriptors.yaml", aliases)},
		{"lists a hundred thousand deep", files("students.sql", good, packFile, strings.Repeat("[", 100_000))},
		{"a statement of a hundred thousand brackets", files("students.sql", "select "+strings.Repeat("(", 100_000)+"1 as _key")},
		{"a statement of comments within comments", files("students.sql", strings.Repeat("/*", 100_000))},
		{"a file above the pack", fstest.MapFS{packFile: {Data: []byte(goodManifest)}, "../students.sql": {Data: []byte(good)}}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			began := time.Now()
			if _, err := LoadPack(c.pack, SQLite); err == nil && !strings.Contains(c.name, "brackets") {
				t.Error("it was loaded")
			}
			if took := time.Since(began); took > 10*time.Second {
				t.Errorf("it took %s", took)
			}
		})
	}
	all := make([]string, len(cases))
	for i := range cases {
		all[i] = cases[i].name
	}
	attacktest.Played(t, attacktest.Mapping, all)
}
