package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestSQLiteValuesBecomeText(t *testing.T) {
	t.Parallel()
	path, _ := sqliteFile(t,
		`create table v (id integer primary key, t text, i integer, r real, b boolean, d date, ts timestamp, tm time, x blob, dt datetime)`,
		`insert into v values
			(1, 'Ana ''Ñ''', 42, 1.50, 1, '2026-08-17', '2026-08-17 08:05:00', '08:05:00', x'414243', '2026-08-17 00:00:00'),
			(2, null, null, null, null, null, null, null, null, null),
			(3, '', -9007199254740993, 1e21, 0, '2026-08-17', '2026-08-17T08:05:00.25Z', '08:05:30', x'', '2026-08-17')`)
	s := snapshot(t, open(t, Config{Driver: SQLite, DSN: path}))
	columns, rows, err := readAll(t.Context(), s, query(t, SQLite, `select t as "a.t", id as _key, i, r, b, d, ts, tm, x, dt, 1 as _note from v order by id`))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(columns, []string{"a.t", "i", "r", "b", "d", "ts", "tm", "x", "dt", "_key"}); diff != "" {
		t.Errorf("columns (-got +want):\n%s", diff)
	}
	n := nullCell
	want := [][]string{
		{"Ana 'Ñ'", "42", "1.5", "1", "2026-08-17", "2026-08-17T08:05:00Z", "08:05:00", "ABC", "2026-08-17T00:00:00Z", "1"},
		{n, n, n, n, n, n, n, n, n, "2"},
		{"", "-9007199254740993", "1000000000000000000000", "0", "2026-08-17", "2026-08-17T08:05:00.25Z", "08:05:30", "", "2026-08-17T00:00:00Z", "3"},
	}
	if diff := cmp.Diff(rows, want); diff != "" {
		t.Errorf("rows (-got +want):\n%s", diff)
	}
}

func TestBatchesHoldEveryRowOnce(t *testing.T) {
	t.Parallel()
	path, _ := sqliteFile(t, `create table x (a)`)
	d := open(t, Config{Driver: SQLite, DSN: path})
	tests := map[string]int{"no row": 0, "one row": 1, "one batch": 1024, "one row more than a batch": 1025, "many batches": 5000}
	for name, n := range tests {
		t.Run(name, func(t *testing.T) {
			s := snapshot(t, d)
			defer s.Close()
			q := query(t, SQLite, fmt.Sprintf(`with recursive n(i) as (select 1 union all select i+1 from n where i <= %d) select i as _key, 'v' || i as v from n where i <= %d`, n, n))
			_, rows, err := readAll(t.Context(), s, q)
			if err != nil {
				t.Fatal(err)
			}
			if len(rows) != n {
				t.Fatalf("got %d rows, want %d", len(rows), n)
			}
			for i, r := range rows {
				if r[0] != fmt.Sprintf("v%d", i+1) || r[1] != fmt.Sprint(i+1) {
					t.Fatalf("row %d is %v", i, r)
				}
			}
		})
	}
}

func TestWideRowsEndABatchEarly(t *testing.T) {
	t.Parallel()
	path, _ := sqliteFile(t, `create table x (a)`)
	s := snapshot(t, open(t, Config{Driver: SQLite, DSN: path}))
	q := query(t, SQLite, `with recursive n(i) as (select 1 union all select i+1 from n where i < 40) select i as _key, hex(zeroblob(150000)) as v from n`)
	r, err := s.Open(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	total := 0
	var b Batch
	for {
		err := r.Next(t.Context(), &b)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if b.Len() > 4 {
			t.Errorf("a batch holds %d rows of 300 kB", b.Len())
		}
		for i := range b.Len() {
			if got := len(b.Row(i)[0]); got != 300000 {
				t.Errorf("cell has %d bytes", got)
			}
		}
		total += b.Len()
	}
	if total != 40 {
		t.Errorf("got %d rows, want 40", total)
	}
}

func TestErrorMidStreamIsNoEnd(t *testing.T) {
	t.Parallel()
	path, _ := sqliteFile(t, `create table x (a)`)
	s := snapshot(t, open(t, Config{Driver: SQLite, DSN: path}))
	q := query(t, SQLite, `with recursive n(i) as (select 1 union all select i+1 from n where i < 5000) select i as _key, json_extract(case when i = 3000 then '{' else '{}' end, '$') as v from n`)
	_, rows, err := readAll(t.Context(), s, q)
	if err == nil || errors.Is(err, io.EOF) {
		t.Fatalf("got %d rows and error %v, want an error that is not io.EOF", len(rows), err)
	}
	var e *Error
	if !errors.As(err, &e) || e.File != "students.sql" || !strings.Contains(err.Error(), "malformed JSON") {
		t.Errorf("got %v", err)
	}
}

func TestSnapshotDoesNotSeeLaterCommits(t *testing.T) {
	t.Parallel()
	path, w := sqliteFile(t, `create table s (id integer primary key)`,
		`with recursive n(i) as (select 1 union all select i+1 from n where i < 4000) insert into s select i from n`)
	s := snapshot(t, open(t, Config{Driver: SQLite, DSN: path}))
	exec(t, w, `delete from s where id = 1`)
	r, err := s.Open(t.Context(), query(t, SQLite, `select id as _key from s order by id`))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var b Batch
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
	if n != 4000 {
		t.Errorf("the snapshot shows %d rows, want the 4000 of its beginning", n)
	}
}

func TestSourceIsNeverWritten(t *testing.T) {
	t.Parallel()
	path, _ := sqliteFile(t, `create table s (id integer primary key)`)
	d := open(t, Config{Driver: SQLite, DSN: path})
	s := snapshot(t, d)
	q := query(t, SQLite, `select 1 as _key`)
	q.stmt.text = `insert into s values (1) returning id`
	if _, _, err := readAll(t.Context(), s, q); err == nil || !strings.Contains(err.Error(), "readonly") {
		t.Errorf("got %v, want the refusal to write", err)
	}
}

func TestStatementTimeoutEndsAQuery(t *testing.T) {
	t.Parallel()
	path, _ := sqliteFile(t, `create table x (a)`)
	s := snapshot(t, open(t, Config{Driver: SQLite, DSN: path, StatementTimeout: 50 * time.Millisecond}))
	for name, text := range map[string]string{
		"before the first row": `with recursive n(i) as (select 1 union all select i+1 from n) select count(*) as _key from n`,
		"while rows come":      `with recursive n(i) as (select 1 union all select i+1 from n) select i as _key from n`,
	} {
		s := s
		if name == "while rows come" {
			s = snapshot(t, s.db)
		}
		_, _, err := readAll(t.Context(), s, query(t, SQLite, text))
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "statement timeout") {
			t.Errorf("%s: got %v, want the statement timeout", name, err)
		}
	}
}

func TestReadingEndsWithItsContext(t *testing.T) {
	t.Parallel()
	path, _ := sqliteFile(t, `create table x (a)`)
	endless := `with recursive n(i) as (select 1 union all select i+1 from n) select i as _key from n`
	d := open(t, Config{Driver: SQLite, DSN: path})
	t.Run("canceled", func(t *testing.T) {
		s := snapshot(t, d)
		defer s.Close()
		ctx, cancel := context.WithCancel(t.Context())
		r, err := s.Open(ctx, query(t, SQLite, endless))
		if err != nil {
			t.Fatal(err)
		}
		var b Batch
		for range 3 {
			if err := r.Next(ctx, &b); err != nil {
				t.Fatal(err)
			}
		}
		cancel()
		for err == nil {
			err = r.Next(context.Background(), &b)
		}
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("rows closed early", func(t *testing.T) {
		s := snapshot(t, d)
		defer s.Close()
		r, err := s.Open(t.Context(), query(t, SQLite, endless))
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := r.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if err := r.Next(t.Context(), &Batch{}); err == nil || errors.Is(err, io.EOF) {
			t.Errorf("Next after Close: got %v", err)
		}
		if _, err := s.Open(t.Context(), query(t, SQLite, endless)); !errors.Is(err, errNoReader) {
			t.Errorf("Open after the only reader was given up: got %v", err)
		}
	})
	t.Run("snapshot closed", func(t *testing.T) {
		s := snapshot(t, d)
		r, err := s.Open(t.Context(), query(t, SQLite, endless))
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		var b Batch
		for err == nil {
			err = r.Next(t.Context(), &b)
		}
		if errors.Is(err, io.EOF) {
			t.Errorf("got the end of rows, want an error")
		}
		if _, err := s.Open(t.Context(), query(t, SQLite, endless)); err == nil {
			t.Error("Open on a closed snapshot worked")
		}
	})
}

func TestOneReaderServesOneResultAfterTheOther(t *testing.T) {
	t.Parallel()
	path, _ := sqliteFile(t, `create table x (a)`)
	s := snapshot(t, open(t, Config{Driver: SQLite, DSN: path, Readers: 4}))
	if got := s.Readers(); got != 1 {
		t.Errorf("SQLite has %d readers, want 1", got)
	}
	for range 3 {
		if _, rows, err := readAll(t.Context(), s, query(t, SQLite, `select 1 as _key`)); err != nil || len(rows) != 1 {
			t.Fatalf("got %v, %v", rows, err)
		}
	}
}
