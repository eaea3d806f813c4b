package syncdb_test

import (
	"testing"

	"github.com/edfisync/edfisync/internal/dbtest"
	"github.com/edfisync/edfisync/internal/keys"
	"github.com/edfisync/edfisync/syncdb"
	"github.com/edfisync/edfisync/syncdb/syncdbtest"
)

func TestPostgres(t *testing.T) {
	t.Parallel()
	dsn, master := dbtest.Postgres(t), keys.GenerateMaster() // one for all: 64 partitions take a while to make
	syncdbtest.Exercise(t, func(*testing.T) syncdbtest.Opener {
		return func(t *testing.T, cfg syncdb.Config) syncdbtest.Ledger {
			cfg.DSN, cfg.Master = dsn, master
			return open(t, cfg)
		}
	})
}
