package dbtest_test

import (
	"database/sql"
	"runtime"
	"testing"

	"github.com/edfisync/edfisync/internal/dbtest"
)

func TestServersAnswerWithFreshDatabases(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		driver string
		open   func(testing.TB) string
	}{{"postgres", dbtest.Postgres}, {"mysql", dbtest.MariaDB}} {
		t.Run(c.driver, func(t *testing.T) {
			t.Parallel()
			for range 2 { // each has its own table of the same name
				db, err := sql.Open(c.driver, c.open(t))
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { db.Close() })
				if _, err := db.ExecContext(t.Context(), `CREATE TABLE word (text varchar(20) NOT NULL)`); err != nil {
					t.Fatal(err)
				}
				if _, err := db.ExecContext(t.Context(), `INSERT INTO word VALUES ('Zoë 🎒')`); err != nil {
					t.Fatal(err)
				}
				var got string
				if err := db.QueryRowContext(t.Context(), `SELECT text FROM word`).Scan(&got); err != nil || got != "Zoë 🎒" {
					t.Errorf("got %q, %v", got, err)
				}
			}
		})
	}
}

func TestKilledServerKeepsWhatItCommitted(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("servers are killed on Linux only")
	}
	s := dbtest.DurablePostgres(t)
	for n := 1; n <= 3; n++ {
		db, err := sql.Open("postgres", s.DSN)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := db.ExecContext(t.Context(), `CREATE TABLE IF NOT EXISTS word (n int)`); err != nil {
			t.Fatal(err)
		}
		if _, err := db.ExecContext(t.Context(), `INSERT INTO word VALUES (1)`); err != nil {
			t.Fatal(err)
		}
		if err := s.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := db.PingContext(t.Context()); err == nil {
			t.Error("a killed server answers")
		}
		db.Close()
		if err := s.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		db, err = sql.Open("postgres", s.DSN)
		if err != nil {
			t.Fatal(err)
		}
		var got int
		if err := db.QueryRowContext(t.Context(), `SELECT count(*) FROM word`).Scan(&got); err != nil || got != n {
			t.Errorf("%d rows, %v; want %d", got, err, n)
		}
		db.Close()
	}
}
