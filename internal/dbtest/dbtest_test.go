package dbtest_test

import (
	"database/sql"
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
