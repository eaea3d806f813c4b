package memdb_test

import (
	"testing"

	"github.com/edfisync/edfisync/syncdb"
	"github.com/edfisync/edfisync/syncdb/memdb"
	"github.com/edfisync/edfisync/syncdb/syncdbtest"
)

func TestLedger(t *testing.T) {
	t.Parallel()
	syncdbtest.Exercise(t, func(*testing.T) syncdbtest.Opener {
		var db *memdb.DB
		return func(_ *testing.T, cfg syncdb.Config) syncdbtest.Ledger {
			if db == nil {
				db = memdb.Open(cfg)
			}
			return db
		}
	})
}
