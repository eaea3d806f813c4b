// Package dbtest gives tests real database servers: each call makes a fresh database, which is dropped when the test ends. The servers
// come from the environment (EDFISYNC_TEST_POSTGRES, EDFISYNC_TEST_MARIADB, as cmd/testdb prints them), else each test program starts
// its own, on a free port of the loopback interface, and they end with it. Without the programs the test is skipped; with
// EDFISYNC_TEST_REQUIRE_DB=1 it fails.
package dbtest

import (
	"context"
	"crypto/rand"
	"database/sql"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	_ "github.com/lib/pq" // database/sql driver "postgres"
)

// The environment variables.
const (
	EnvPostgres = "EDFISYNC_TEST_POSTGRES"   // postgres:// URL of a database whose role may create databases
	EnvMariaDB  = "EDFISYNC_TEST_MARIADB"    // go-sql-driver DSN of a user that may create databases
	EnvRequire  = "EDFISYNC_TEST_REQUIRE_DB" // 1: a missing server fails tests instead of skipping them
)

// shared is a server that all tests of this process use. It is started by the first and ends with the process, because no test can
// know that it is the last.
type shared struct {
	once    sync.Once
	server  *Server
	problem error
}

var (
	sharedPostgres shared
	sharedMariaDB  shared
)

func (s *shared) get(t testing.TB, env string, start func(context.Context, bool) (*Server, error)) string {
	t.Helper()
	s.once.Do(func() {
		if dsn := os.Getenv(env); dsn != "" {
			s.server = &Server{DSN: dsn}
			return
		}
		s.server, s.problem = start(context.Background(), false)
	})
	if s.problem != nil {
		if os.Getenv(EnvRequire) == "1" {
			t.Fatalf("%v (%s=1)", s.problem, EnvRequire)
		}
		t.Skip(s.problem)
	}
	return s.server.DSN
}

// Postgres returns the postgres:// URL of a fresh PostgreSQL database.
func Postgres(t testing.TB) string {
	t.Helper()
	admin := sharedPostgres.get(t, EnvPostgres, StartPostgres)
	name := fresh(t, "postgres", admin, `CREATE DATABASE %s`, `DROP DATABASE %s WITH (FORCE)`)
	u, err := url.Parse(admin)
	if err != nil {
		t.Fatalf("%s is not a URL", EnvPostgres)
	}
	u.Path = "/" + name
	return u.String()
}

// DurablePostgres is StartDurablePostgres for a test: a server of its own, which is stopped when the test ends.
func DurablePostgres(t testing.TB) *Server {
	t.Helper()
	s, err := StartDurablePostgres(t.Context())
	if err != nil {
		if os.Getenv(EnvRequire) == "1" {
			t.Fatalf("%v (%s=1)", err, EnvRequire)
		}
		t.Skip(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Errorf("stop server: %v", err)
		}
	})
	return s
}

// MariaDB returns the go-sql-driver DSN of a fresh MariaDB database.
func MariaDB(t testing.TB) string {
	t.Helper()
	admin := sharedMariaDB.get(t, EnvMariaDB, StartMariaDB)
	name := fresh(t, "mysql", admin, `CREATE DATABASE %s CHARACTER SET utf8mb4`, `DROP DATABASE %s`)
	cfg, err := mysql.ParseDSN(admin)
	if err != nil {
		t.Fatalf("%s is not a DSN: %v", EnvMariaDB, err)
	}
	cfg.DBName = name
	return cfg.FormatDSN()
}

// fresh makes a database of a new name and drops it when the test ends.
func fresh(t testing.TB, driver, admin, create, drop string) string {
	t.Helper()
	name := "test_" + strings.ToLower(rand.Text()[:12])
	if err := run(driver, admin, fmt.Sprintf(create, name)); err != nil {
		t.Fatalf("create test database: %v", err)
	}
	t.Cleanup(func() {
		if err := run(driver, admin, fmt.Sprintf(drop, name)); err != nil {
			t.Errorf("drop test database: %v", err)
		}
	})
	return name
}

func run(driver, dsn, statement string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	db, err := sql.Open(driver, dsn)
	if err != nil {
		return err
	}
	defer db.Close()
	_, err = db.ExecContext(ctx, statement)
	return err
}
