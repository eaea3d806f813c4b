package syncdb_test

import (
	"encoding/binary"
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

// TestSQLiteInSmallFolds lets every fold take many transactions, between which open intents are carried.
func TestSQLiteInSmallFolds(t *testing.T) {
	t.Parallel()
	syncdbtest.Exercise(t, func(t *testing.T) syncdbtest.Opener {
		dsn := "sqlite:" + filepath.Join(t.TempDir(), "ledger.db")
		return func(t *testing.T, cfg syncdb.Config) syncdbtest.Ledger {
			cfg.DSN = dsn
			db := open(t, cfg)
			db.SetMaxFold(20)
			return db
		}
	})
}

// mixed is a hash that stands for a number.
func mixed(n uint64) (h syncdb.Hash) {
	x := n*0x9E3779B97F4A7C15 + 1
	x ^= x >> 29
	x *= 0xBF58476D1CE4E5B9
	x ^= x >> 32
	binary.BigEndian.PutUint64(h[:8], x)
	binary.BigEndian.PutUint64(h[8:], n+1)
	return h
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
