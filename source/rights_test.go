package source

import (
	"fmt"
	"math/rand/v2"
	"net/url"
	"path/filepath"
	"testing"

	"github.com/go-sql-driver/mysql"
	"github.com/jmoiron/sqlx"

	"github.com/edfisync/edfisync/internal/dbtest"
)

func TestAnAccountThatMayWriteIsKnown(t *testing.T) {
	t.Parallel()
	reader := fmt.Sprintf("reader%d", rand.Uint32())
	statements := func(t *testing.T, driver, dsn string, all ...string) {
		t.Helper()
		db, err := sqlx.Connect(driver, dsn)
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		for _, s := range all {
			if _, err := db.Exec(s); err != nil {
				t.Fatalf("%s: %v", s, err)
			}
		}
	}
	for _, c := range []struct {
		name, driver string
		dsn          func(t *testing.T) string
		want         bool
	}{
		{"the owner on PostgreSQL", Postgres, func(t *testing.T) string {
			dsn := dbtest.Postgres(t)
			statements(t, "postgres", dsn, `create table student (id int)`)
			return dsn
		}, true},
		{"a reader on PostgreSQL", Postgres, func(t *testing.T) string {
			dsn := dbtest.Postgres(t)
			statements(t, "postgres", dsn, `create table student (id int)`, `create role `+reader, `grant usage on schema public to `+reader, `grant select on student to `+reader)
			t.Cleanup(func() { statements(t, "postgres", dsn, `drop owned by `+reader, `drop role `+reader) })
			u, err := url.Parse(dsn)
			if err != nil {
				t.Fatal(err)
			}
			q := u.Query()
			q.Set("options", "-c role="+reader)
			u.RawQuery = q.Encode()
			return u.String()
		}, false},
		{"the owner on MariaDB", MySQL, func(t *testing.T) string { return dbtest.MariaDB(t) }, true},
		{"a reader on MariaDB", MySQL, func(t *testing.T) string {
			dsn := dbtest.MariaDB(t)
			c, err := mysql.ParseDSN(dsn)
			if err != nil {
				t.Fatal(err)
			}
			user := "'" + reader + "'@'%'"
			statements(t, "mysql", dsn, `create user `+user+` identified by 'reads'`, "grant select on `"+c.DBName+"`.* to "+user)
			t.Cleanup(func() { statements(t, "mysql", dsn, `drop user `+user) })
			c.User, c.Passwd = reader, "reads"
			return c.FormatDSN()
		}, false},
		{"a SQLite file", SQLite, func(t *testing.T) string {
			file := filepath.Join(t.TempDir(), "sis.sqlite")
			statements(t, "sqlite", file, `create table student (id int)`)
			return file
		}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			db, err := Open(t.Context(), Config{Driver: c.driver, DSN: c.dsn(t)})
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			if got, err := db.MayWrite(t.Context()); got != c.want || err != nil {
				t.Errorf("it may write: %v, %v; want %v", got, err, c.want)
			}
		})
	}
}

func TestGrantsOfMySQL(t *testing.T) {
	t.Parallel()
	for grant, want := range map[string]bool{
		"GRANT USAGE ON *.* TO `r`@`%`":                                   false,
		"GRANT SELECT, SHOW VIEW ON `insert_update`.* TO `r`@`%`":         false,
		"GRANT `INSERT`@`%` TO `r`@`%`":                                   false,
		"GRANT SELECT, INSERT (`name`), UPDATE ON `s`.`t` TO `r`@`%`":     true,
		"GRANT ALL PRIVILEGES ON `s`.* TO `r`@`%`":                        true,
		"GRANT SELECT, DELETE HISTORY ON `s`.* TO `r`@`%`":                true,
		"GRANT SELECT ON `s`.* TO `r`@`%` IDENTIFIED BY PASSWORD 'x ON '": false,
	} {
		if got := grantsWrite([]string{"GRANT USAGE ON *.* TO `r`@`%`", grant}); got != want {
			t.Errorf("%s: may write is %v, want %v", grant, got, want)
		}
	}
}
