package syncdb_test

import (
	"path/filepath"
	"testing"

	"github.com/edfisync/edfisync/syncdb"
	"github.com/edfisync/edfisync/syncdb/syncdbtest"
)

func open(t *testing.T, cfg syncdb.Config) *syncdb.DB {
	t.Helper()
	db, err := syncdb.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return db
}

func TestSQLite(t *testing.T) {
	t.Parallel()
	syncdbtest.Exercise(t, func(t *testing.T) syncdbtest.Opener {
		dsn := "sqlite:" + filepath.Join(t.TempDir(), "ledger.db")
		return func(t *testing.T, cfg syncdb.Config) syncdbtest.Ledger {
			cfg.DSN = dsn
			return open(t, cfg)
		}
	})
}
