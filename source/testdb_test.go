package source

import (
	"context"
	"database/sql"
	"errors"
	"io"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"
	_ "modernc.org/sqlite"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// sqliteFile makes a database file from SQL and returns its path and a writer.
func sqliteFile(t testing.TB, script ...string) (string, *sql.DB) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "sis ?#%.db")
	db, err := sql.Open("sqlite", "file:"+escapePath(path)+"?_pragma=journal_mode(WAL)")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	exec(t, db, script...)
	return path, db
}

func exec(t testing.TB, db *sql.DB, script ...string) {
	t.Helper()
	for _, s := range script {
		if _, err := db.ExecContext(t.Context(), s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}

func open(t testing.TB, cfg Config) *DB {
	t.Helper()
	d, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

func snapshot(t testing.TB, d *DB) *Snapshot {
	t.Helper()
	s, err := d.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// query makes a query without a pack.
func query(t testing.TB, driver, text string) *Query {
	t.Helper()
	q, problems := parseQuery("students", "students.sql", text, driver)
	for _, p := range problems {
		t.Fatal(p)
	}
	return q
}

// nullCell is how tests show NULL.
const nullCell = "<null>"

// readAll gives every cell of a query's result as a string.
func readAll(ctx context.Context, s *Snapshot, q *Query) (columns []string, rows [][]string, err error) {
	r, err := s.Open(ctx, q)
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	var b Batch
	for {
		if err := r.Next(ctx, &b); err != nil {
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return r.Columns(), rows, err
		}
		for i := range b.Len() {
			var row []string
			for _, c := range b.Row(i) {
				if c == nil {
					row = append(row, nullCell)
				} else {
					row = append(row, string(c))
				}
			}
			rows = append(rows, row)
		}
	}
}
