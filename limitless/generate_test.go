package limitless_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jmoiron/sqlx"

	"github.com/edfisync/edfisync/limitless"
)

// newSQLite makes a demo SIS in a temporary file.
func newSQLite(t *testing.T, opts limitless.Options) (*sqlx.DB, limitless.Stats) {
	t.Helper()
	db, err := limitless.OpenSQLite(filepath.Join(t.TempDir(), "sis with space.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db, fill(t, db, limitless.SQLite, opts)
}

// fill makes and fills the demo SIS in an empty database.
func fill(t *testing.T, db *sqlx.DB, dialect limitless.Dialect, opts limitless.Options) limitless.Stats {
	t.Helper()
	if err := limitless.Create(context.Background(), db, dialect); err != nil {
		t.Fatal(err)
	}
	stats, err := limitless.Generate(context.Background(), db, dialect, opts)
	if err != nil {
		t.Fatal(err)
	}
	return stats
}

// digest is a hash of every row of a table, in the order of its first two columns.
func digest(t *testing.T, db *sqlx.DB, table string) string {
	t.Helper()
	rows, err := db.Queryx("SELECT * FROM " + table + " ORDER BY 1, 2")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	h := sha256.New()
	for rows.Next() {
		values, err := rows.SliceScan()
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintln(h, values...)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", h.Sum(nil))
}

func TestTheSameOptionsGiveTheSameRows(t *testing.T) {
	t.Parallel()
	opts := limitless.Options{Seed: 42, Students: 60, AttendancePerStudent: 5, Flaws: 5}
	a, stats := newSQLite(t, opts)
	b, again := newSQLite(t, opts)
	opts.Seed = 43
	other, _ := newSQLite(t, opts)
	if diff := cmp.Diff(again, stats); diff != "" {
		t.Errorf("statistics differ (-again +first):\n%s", diff)
	}
	for table := range stats.Rows {
		if digest(t, a, table) != digest(t, b, table) {
			t.Errorf("table %s differs between two runs with the same options", table)
		}
	}
	if digest(t, a, "person") == digest(t, other, "person") {
		t.Error("another seed gave the same people")
	}
}

func TestStatsCountTheRowsOfEveryTable(t *testing.T) {
	t.Parallel()
	db, stats := newSQLite(t, limitless.Options{Students: 100, AttendancePerStudent: 3, Flaws: 7})
	var tables []string
	if err := db.Select(&tables, "SELECT name FROM sqlite_master WHERE type = 'table'"); err != nil {
		t.Fatal(err)
	}
	got := map[string]int{}
	for _, table := range tables {
		var n int
		if err := db.Get(&n, "SELECT count(*) FROM "+table); err != nil {
			t.Fatal(err)
		}
		got[table] = n
	}
	if diff := cmp.Diff(stats.Rows, got); diff != "" {
		t.Errorf("rows by table (-stats +database):\n%s", diff)
	}
	if got := len(stats.Flaws); got != 7 {
		t.Errorf("flaws listed: got %d, want 7", got)
	}
}

func TestProgressReachesTheTotal(t *testing.T) {
	t.Parallel()
	var done, total int
	newSQLite(t, limitless.Options{Students: 600, AttendancePerStudent: 1, Progress: func(d, n int) { done, total = d, n }})
	if done != total || total < 600 {
		t.Errorf("last progress: got %d of %d", done, total)
	}
}

func TestImpossibleOptionsAreRefused(t *testing.T) {
	t.Parallel()
	for name, opts := range map[string]limitless.Options{
		"too few students":      {Students: 3},
		"attendance past limit": {AttendancePerStudent: 181},
		"year out of range":     {SchoolYear: 26},
		"more flaws than fit":   {Students: 100, Flaws: 11},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db, err := limitless.OpenSQLite(filepath.Join(t.TempDir(), "sis.db"))
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			if _, err := limitless.Generate(context.Background(), db, limitless.SQLite, opts); err == nil {
				t.Error("got no error")
			}
		})
	}
}
