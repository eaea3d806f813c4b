package syncdb_test

import (
	"testing"

	"github.com/edfisync/edfisync/internal/dbtest"
	"github.com/edfisync/edfisync/syncdb"
	"github.com/edfisync/edfisync/syncdb/syncdbtest"
)

func TestPostgres(t *testing.T) {
	t.Parallel()
	syncdbtest.Exercise(t, func(t *testing.T) syncdbtest.Opener {
		dsn := dbtest.Postgres(t)
		return func(t *testing.T, cfg syncdb.Config) syncdbtest.Ledger {
			cfg.DSN = dsn
			return open(t, cfg)
		}
	})
}
