package mappings_test

import (
	"testing"

	_ "github.com/go-sql-driver/mysql"
	"github.com/google/go-cmp/cmp"
	"github.com/jmoiron/sqlx"
	_ "github.com/lib/pq"

	"github.com/edfisync/edfisync/internal/dbtest"
	"github.com/edfisync/edfisync/limitless"
	"github.com/edfisync/edfisync/source"
)

// server is a database server the demo SIS may live on.
type server struct {
	driver  string
	dialect limitless.Dialect
	fresh   func(testing.TB) string // DSN of an empty database
}

func servers() []server {
	return []server{
		{source.Postgres, limitless.Postgres, func(t testing.TB) string { return dbtest.Postgres(t) }},
		{source.MySQL, limitless.MySQL, func(t testing.TB) string { return dbtest.MariaDB(t) }},
	}
}

// on fills a demo SIS on a server.
func (s server) on(t *testing.T, opts limitless.Options) (*sqlx.DB, source.Config, limitless.Stats) {
	t.Helper()
	dsn := s.fresh(t)
	db, err := sqlx.Open(s.driver, dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db, source.Config{Driver: s.driver, DSN: dsn, Readers: 2}, generate(t, db, s.dialect, opts)
}

func TestTheSameSeedGivesTheSameBytesFromEveryDatabase(t *testing.T) {
	t.Parallel()
	opts := limitless.Options{Seed: 11, Students: 120, AttendancePerStudent: 10, Flaws: 10}
	lite, want := demo(t, opts)
	wanted := read(t, lite)
	for _, s := range servers() {
		t.Run(s.driver, func(t *testing.T) {
			t.Parallel()
			_, cfg, stats := s.on(t, opts)
			if diff := cmp.Diff(want, stats); diff != "" {
				t.Errorf("statistics (-sqlite +%s):\n%s", s.driver, diff)
			}
			for resource, rows := range read(t, cfg) {
				if got, want := len(rows), len(wanted[resource]); got != want {
					t.Errorf("%s: %d rows, want %d", resource, got, want)
				}
				different := 0
				for key, rec := range rows {
					if diff := cmp.Diff(wanted[resource][key], rec, cmp.AllowUnexported(record{})); diff != "" {
						if different++; different == 1 {
							t.Errorf("%s %s (-sqlite +%s):\n%s", resource, key, s.driver, diff)
						}
					}
				}
				if different > 1 {
					t.Errorf("%s: %d records differ", resource, different)
				}
			}
		})
	}
}

func TestEditsLeadToThePredictedCallsOnServers(t *testing.T) {
	t.Parallel()
	opts := limitless.Options{Students: 60, AttendancePerStudent: 5}
	for _, s := range servers() {
		t.Run(s.driver, func(t *testing.T) {
			t.Parallel()
			db, cfg, _ := s.on(t, opts)
			checkEdits(t, cfg, db, s.dialect, opts)
		})
	}
}
