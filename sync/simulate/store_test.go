package simulate

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	gosync "sync"
	"testing"
	"time"

	"github.com/edfisync/edfisync/internal/keys"
	"github.com/edfisync/edfisync/sync"
	"github.com/edfisync/edfisync/syncdb"
	"github.com/edfisync/edfisync/syncdb/memdb"
)

// store is the ledger of a world: *memdb.DB in most, in one of fifty *syncdb.DB on a SQLite file.
type store interface {
	sync.Ledger
	Connection(ctx context.Context, tenant, name string) (syncdb.Connection, *keys.Ring, error)
	Cancel(ctx context.Context, conn int64) error
}

// openLedger opens the ledger of a world, in its bubble. Its clock is the virtual one. A world has one pool of SQLite connections for all its
// processes, so that nobody ever waits for a lock in real time.
func openLedger(t *testing.T, p *plan, dir string, master *keys.Master) (store, error) {
	if !p.sqlite {
		return memdb.Open(syncdb.Config{Master: master}), nil
	}
	db, err := syncdb.Open(t.Context(), syncdb.Config{DSN: "sqlite:" + filepath.Join(dir, ledgerFile), Master: master, Clock: time.Now})
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { _ = db.Close() })
	return db, nil
}

const ledgerFile = "ledger.db"

// ledgerDir makes a directory with an empty ledger in it: in memory, where a sync costs nothing, when the machine has such a place, else below dir.
func ledgerDir(dir string) (string, error) {
	image, err := emptyLedger()
	if err != nil {
		return "", fmt.Errorf("make an empty ledger: %w", err)
	}
	const memory = "/dev/shm"
	if _, err := os.Stat(memory); err == nil {
		dir = memory
	}
	made, err := os.MkdirTemp(dir, "edfisync-simulate-*")
	if err != nil {
		return "", err
	}
	return made, os.WriteFile(filepath.Join(made, ledgerFile), image, 0o600)
}

// emptyLedger is a SQLite ledger with its tables: to make them takes longer than many a world.
var emptyLedger = gosync.OnceValues(func() (image []byte, err error) {
	dir, err := os.MkdirTemp("", "simulate-ledger-*")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	master, err := keys.ParseMaster(masterKey)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, ledgerFile)
	db, err := syncdb.Open(context.Background(), syncdb.Config{DSN: "sqlite:" + path, Master: master})
	if err != nil {
		return nil, err
	}
	if err := db.Close(); err != nil {
		return nil, err
	}
	return os.ReadFile(path)
})
