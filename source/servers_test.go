package source

import (
	"database/sql"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edfisync/edfisync/internal/dbtest"
)

// servers are the databases the tests below run on, and what differs between them.
func servers() map[string]server {
	return map[string]server{
		"PostgreSQL": {
			driver: Postgres, dsn: dbtest.Postgres, numbers: "generate_series(1, %d) as n(i)",
			sleep: "pg_sleep(20)", isolation: "serializable",
		},
		"MariaDB": {driver: MySQL, dsn: dbtest.MariaDB, numbers: "(select seq as i from seq_1_to_%d) n", sleep: "sleep(20)"},
	}
}

type server struct {
	driver    string
	dsn       func(testing.TB) string
	numbers   string // a table expression of n.i = 1 … %d
	sleep     string
	isolation string
}

// start makes a database and opens it twice: as a source, and as the SIS that writes it.
func (v server) start(t testing.TB, cfg Config) (*DB, *sql.DB) {
	t.Helper()
	cfg.Driver, cfg.DSN = v.driver, v.dsn(t)
	w, err := sql.Open(v.driver, cfg.DSN)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	return open(t, cfg), w
}

func (v server) count(n int) string { return fmt.Sprintf(v.numbers, n) }

// onServers runs a test on every server.
func onServers(t *testing.T, test func(t *testing.T, v server)) {
	t.Parallel()
	for name, v := range servers() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, v)
		})
	}
}

func TestTheSameDataGivesTheSameText(t *testing.T) {
	onServers(t, func(t *testing.T, v server) {
		d, w := v.start(t, Config{})
		timestamp := "timestamp"
		if v.driver == MySQL {
			timestamp = "datetime(6)"
		}
		exec(t, w, `create table v (id bigint primary key, t varchar(100), c char(4), i integer, r double precision, n numeric(9,2), b boolean, d date, ts `+timestamp+`, tm time)`,
			`insert into v values (1, 'Ana ''Ñ'' 😀', 'ab', 42, 1.50, 12.50, true, '2026-08-17', '2026-08-17 08:05:00', '08:05:00'),
				(2, null, null, null, null, null, null, null, null, null),
				(3, '', 'abcd', -2147483648, 1e21, -0.05, false, '2024-02-29', '2026-08-17 00:00:00.25', '23:59:59')`)
		s := snapshot(t, d)
		columns, rows, err := readAll(t.Context(), s, query(t, v.driver, `select t as "a.t", id as "_key", i, r, n, b, d, ts, tm, 'a' || 'b\' as x, 1 as "_note" from v order by id`))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(columns, []string{"a.t", "i", "r", "n", "b", "d", "ts", "tm", "x", "_key"}); diff != "" {
			t.Errorf("columns (-got +want):\n%s", diff)
		}
		yes, no, n := "true", "false", nullCell
		if v.driver == MySQL {
			yes, no = "1", "0"
		}
		want := [][]string{
			{`Ana 'Ñ' 😀`, "42", "1.5", "12.50", yes, "2026-08-17", "2026-08-17T08:05:00Z", "08:05:00", `ab\`, "1"},
			{n, n, n, n, n, n, n, n, `ab\`, "2"},
			{"", "-2147483648", "1000000000000000000000", "-0.05", no, "2024-02-29", "2026-08-17T00:00:00.25Z", "23:59:59", `ab\`, "3"},
		}
		if diff := cmp.Diff(rows, want); diff != "" {
			t.Errorf("rows (-got +want):\n%s", diff)
		}
	})
}

func TestPostgresTypesAsText(t *testing.T) {
	t.Parallel()
	d, _ := servers()["PostgreSQL"].start(t, Config{})
	_, rows, err := readAll(t.Context(), snapshot(t, d), query(t, Postgres, `select 'b'::"char", 'x'::name, '6f9619ff-8b86-d011-b42d-00c04fc964ff'::uuid, 'abc'::bytea,
		'{"a": 1}'::json, '{"a":1}'::jsonb, array['a','b'], 0.1::real, 'infinity'::date, 'NaN'::float8, 'NaN'::numeric, timestamptz '2026-08-17 08:05:00+02',
		time '08:05:00.5', timetz '08:05:00+02', 9223372036854775807, 1::smallint, interval '1 day', 'ab'::char(4), '0044-03-15 BC'::date, 1 as _key`))
	if err != nil {
		t.Fatal(err)
	}
	want := [][]string{{
		"b", "x", "6f9619ff-8b86-d011-b42d-00c04fc964ff", "abc", `{"a": 1}`, `{"a": 1}`, "{a,b}", "0.1", "infinity", "NaN", "NaN", "2026-08-17T06:05:00Z",
		"08:05:00.5", "08:05:00", "9223372036854775807", "1", "1 day", "ab  ", "-0043-03-15", "1",
	}}
	if diff := cmp.Diff(rows, want); diff != "" {
		t.Errorf("rows (-got +want):\n%s", diff)
	}
}

func TestMySQLTypesAsText(t *testing.T) {
	t.Parallel()
	d, w := servers()["MariaDB"].start(t, Config{Params: map[string]string{"one": "1"}})
	exec(t, w, `set @@session.sql_mode = ''`, `create table v (u bigint unsigned, f float, bits bit(10), bin varbinary(5), js json, y year, ts timestamp, e enum('a','b'), z date)`,
		`insert into v values (18446744073709551615, 0.1, b'1000000001', 'abc', '{"a": 1}', 2026, '2026-08-17 08:05:00', 'b', '2026-08-17')`)
	q := query(t, MySQL, `select v.*, :one as p, :one + 1 as s, 1 as _key from v`)
	q.params = map[string]Param{"one": {Name: "one", Type: "integer"}}
	s := snapshot(t, d)
	for range 2 { // both protocols give the same text: with parameters the statement is prepared, without it is not
		_, rows, err := readAll(t.Context(), s, q)
		if err != nil {
			t.Fatal(err)
		}
		want := [][]string{{"18446744073709551615", "0.1", "513", "abc", `{"a": 1}`, "2026", "2026-08-17T08:05:00Z", "b", "2026-08-17", "1", "2", "1"}}
		if diff := cmp.Diff(rows, want); diff != "" {
			t.Errorf("rows (-got +want):\n%s", diff)
		}
		q = query(t, MySQL, `select v.*, 1 as p, 1 + 1 as s, 1 as _key from v`)
	}
}

func TestSnapshotsOfServersDoNotSeeLaterCommits(t *testing.T) {
	onServers(t, func(t *testing.T, v server) {
		d, w := v.start(t, Config{Readers: 3})
		exec(t, w, `create table s (id integer primary key)`, `insert into s select i from `+v.count(5000))
		s := snapshot(t, d)
		if want := map[string]int{Postgres: 3, MySQL: 1}[v.driver]; s.Readers() != want {
			t.Errorf("%d readers, want %d", s.Readers(), want)
		}
		exec(t, w, `delete from s where id <= 100`)
		var open []*Rows
		for range s.Readers() {
			r, err := s.Open(t.Context(), query(t, v.driver, `select id as "_key" from s order by id`))
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			open = append(open, r)
		}
		var b Batch
		for i, r := range open {
			n := 0
			for {
				err := r.Next(t.Context(), &b)
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				n += b.Len()
				exec(t, w, `delete from s where id > 2000 and id % 7 = 0`, `insert into s select max(id) + 1 from s`)
			}
			if n != 5000 {
				t.Errorf("reader %d sees %d rows, want the 5000 of the snapshot's beginning", i, n)
			}
		}
	})
}

func TestServerErrorsMidStreamAreNoEnd(t *testing.T) {
	onServers(t, func(t *testing.T, v server) {
		d, w := v.start(t, Config{})
		exec(t, w, `create table s (id integer primary key)`, `insert into s select i from `+v.count(200000))
		t.Run("the query fails", func(t *testing.T) {
			s := snapshot(t, d)
			_, rows, err := readAll(t.Context(), s, query(t, v.driver, `select id as "_key", case when id < 150000 then 1 else (select x.i from `+v.count(2)+` join (select 1 as k) k on s.id > 0 join (select i from `+v.count(2)+`) x on true) end as v from s order by id`))
			if err == nil || errors.Is(err, io.EOF) {
				t.Fatalf("got %d rows and %v, want an error that is not io.EOF", len(rows), err)
			}
			if !strings.Contains(err.Error(), "more than") {
				t.Errorf("got %v", err)
			}
		})
		t.Run("the connection is lost", func(t *testing.T) {
			s := snapshot(t, d)
			r, err := s.Open(t.Context(), query(t, v.driver, `select id as "_key", repeat('x', 1000) as v from s`))
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			var b Batch
			if err := r.Next(t.Context(), &b); err != nil {
				t.Fatal(err)
			}
			killReaders(t, v, w)
			n := b.Len()
			for err == nil {
				err = r.Next(t.Context(), &b)
				n += b.Len()
			}
			if errors.Is(err, io.EOF) {
				t.Errorf("the end of rows after %d", n)
			}
			var e *Error
			if !errors.As(err, &e) {
				t.Errorf("got %v", err)
			}
			if _, err := s.Open(t.Context(), query(t, v.driver, `select 1 as "_key"`)); !errors.Is(err, errNoReader) {
				t.Errorf("Open after the loss: %v", err)
			}
		})
		t.Run("the next snapshot works", func(t *testing.T) {
			if _, rows, err := readAll(t.Context(), snapshot(t, d), query(t, v.driver, `select count(*) as "_key" from s`)); err != nil || rows[0][0] != "200000" {
				t.Errorf("got %v, %v", rows, err)
			}
		})
	})
}

// killReaders ends every other connection of the database.
func killReaders(t *testing.T, v server, w *sql.DB) {
	t.Helper()
	if v.driver == Postgres {
		exec(t, w, `select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid() and datname = current_database() and application_name = 'edfisync'`)
		return
	}
	rows, err := w.QueryContext(t.Context(), `select id from information_schema.processlist where id <> connection_id() and db = database() and info like '%repeat%'`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var ids []int
	for rows.Next() {
		var id int
		if err := rows.Scan(&id); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	if err := rows.Err(); err != nil || len(ids) == 0 {
		t.Fatalf("no reader found: %v", err)
	}
	for _, id := range ids {
		exec(t, w, fmt.Sprintf(`kill %d`, id))
	}
}

func TestServersEndAQueryAtItsTimeout(t *testing.T) {
	onServers(t, func(t *testing.T, v server) {
		d, _ := v.start(t, Config{StatementTimeout: 100 * time.Millisecond})
		_, _, err := readAll(t.Context(), snapshot(t, d), query(t, v.driver, `select `+v.sleep+` as v, 1 as "_key" from `+v.count(2)))
		if err == nil || !strings.Contains(err.Error(), "source.statement_timeout") {
			t.Errorf("got %v, want the statement timeout", err)
		}
	})
}

func TestServersRefuseToWrite(t *testing.T) {
	onServers(t, func(t *testing.T, v server) {
		d, w := v.start(t, Config{})
		exec(t, w, `create table s (id integer primary key)`)
		q := query(t, v.driver, `select 1 as "_key"`)
		q.stmt.text = `insert into s values (1) returning id`
		if _, _, err := readAll(t.Context(), snapshot(t, d), q); err == nil || !strings.Contains(strings.ToLower(err.Error()), "read") {
			t.Errorf("got %v, want the refusal to write", err)
		}
	})
}

func TestLongAliasesThroughTheHeader(t *testing.T) {
	onServers(t, func(t *testing.T, v server) {
		d, _ := v.start(t, Config{})
		long := strings.Repeat("employment", 7) + ".hireDate"
		q := query(t, v.driver, "-- path: hired = "+long+"\nselect 1 as \"_key\", date '2026-08-17' as \"hired\"")
		columns, rows, err := readAll(t.Context(), snapshot(t, d), q)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([][]string{columns, rows[0]}, [][]string{{"hired", "_key"}, {"2026-08-17", "1"}}); diff != "" {
			t.Errorf("-got +want:\n%s", diff)
		}
	})
}

func TestCollectionsAreNotCut(t *testing.T) {
	onServers(t, func(t *testing.T, v server) {
		d, _ := v.start(t, Config{})
		aggregate := map[string]string{
			Postgres: `json_agg(json_build_object('city', repeat('x', 100)))`,
			MySQL:    `json_arrayagg(json_object('city', repeat('x', 100)))`,
		}[v.driver]
		const items = 30000 // 3.4 MB: MariaDB cuts at 1 MiB unless told otherwise
		_, rows, err := readAll(t.Context(), snapshot(t, d), query(t, v.driver, `select `+aggregate+` as "addresses[]", 1 as "_key" from `+v.count(items)))
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Count(rows[0][0], "city"); got != items || !strings.HasSuffix(rows[0][0], "]") {
			t.Errorf("%d items in %d bytes, want %d", got, len(rows[0][0]), items)
		}
	})
}

func TestPostgresSeesWhoReads(t *testing.T) {
	t.Parallel()
	d, w := servers()["PostgreSQL"].start(t, Config{ApplicationName: "edfisync test", Readers: 2, StatementTimeout: time.Minute})
	s := snapshot(t, d)
	_, rows, err := readAll(t.Context(), s, query(t, Postgres, `select current_setting('application_name') as a, current_setting('transaction_isolation') as i, current_setting('transaction_read_only') as r,
		current_setting('statement_timeout') as s, current_setting('lock_timeout') as l, current_setting('timezone') as z, 1 as _key`))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(rows, [][]string{{"edfisync test", "repeatable read", "on", "1min", "5s", "UTC", "1"}}); diff != "" {
		t.Errorf("settings (-got +want):\n%s", diff)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	var open int
	if err := w.QueryRowContext(t.Context(), `select count(*) from pg_stat_activity where application_name = 'edfisync test' and xact_start is not null`).Scan(&open); err != nil || open != 0 {
		t.Errorf("%d transactions are open after Close (%v)", open, err)
	}
}
