package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/edfisync/edfisync/cmd/edfisync/internal/config"
	"github.com/edfisync/edfisync/internal/failpoint"
	"github.com/edfisync/edfisync/internal/keys"
	"github.com/edfisync/edfisync/syncdb"
)

// ledgerDSN is where the ledger is.
func ledgerDSN(cfg *config.Config) string {
	if dsn := cfg.Ledger.DSN.Reveal(); dsn != "" {
		return dsn
	}
	return config.SQLiteLedger + filepath.Join(cfg.WorkDir, "ledger.sqlite")
}

// ledgerFile is the ledger's file, "" when it is on a server.
func ledgerFile(cfg *config.Config) string {
	path, isFile := strings.CutPrefix(ledgerDSN(cfg), config.SQLiteLedger)
	if !isFile {
		return ""
	}
	return path
}

// missing tells whether the ledger is a file that is not there, so that looking does not make one.
func missing(cfg *config.Config) bool {
	path := ledgerFile(cfg)
	if path == "" {
		return false
	}
	_, err := os.Stat(path)
	return errors.Is(err, fs.ErrNotExist)
}

// unmade tells whether the ledger or its key is one that the first run makes, and none is there yet.
func unmade(cfg *config.Config) bool {
	if missing(cfg) {
		return true
	}
	if cfg.Ledger.Key != "" || len(cfg.Ledger.KeyCommand) > 0 {
		return false
	}
	_, err := masterKey(cfg)
	return errors.Is(err, errNoKey)
}

// openLedger opens the sync database with its key, making an embedded one and its key when this is the first start.
func openLedger(ctx context.Context, cfg *config.Config) (*syncdb.DB, error) {
	if err := makeFolder(machineStorage{}, cfg.WorkDir); err != nil {
		return nil, usageError(fmt.Errorf("make work_dir: %w", err))
	}
	master, err := masterKey(cfg)
	if errors.Is(err, errNoKey) {
		failpoint.Reach(failpoint.KeyBefore, "", "")
		master, err = keys.LoadOrCreateFile(keyFile(cfg))
		failpoint.Reach(failpoint.KeyAfter, "", "")
	}
	if err != nil {
		return nil, usageError(fmt.Errorf("ledger key: %w", err))
	}
	return openLedgerWith(ctx, cfg, master)
}

// existingLedger opens the sync database to look at, and makes none.
func existingLedger(ctx context.Context, cfg *config.Config) (*syncdb.DB, error) {
	master, err := masterKey(cfg)
	switch {
	case missing(cfg), errors.Is(err, errNoKey):
		return nil, &exitError{code: exitFailed, err: errors.New("there is no ledger yet: the first edfisync run makes it")}
	case err != nil:
		return nil, usageError(fmt.Errorf("ledger key: %w", err))
	}
	return openLedgerWith(ctx, cfg, master)
}

// openLedgerWith opens the sync database and makes neither folder nor key.
func openLedgerWith(ctx context.Context, cfg *config.Config, master *keys.Master) (*syncdb.DB, error) {
	var grace time.Duration // a lease may be taken over when its last call must have ended, whichever connection's it was
	for i := range cfg.Connections {
		grace = max(grace, time.Duration(cfg.Connections[i].Target.Timeout))
	}
	next, err := nextKey(cfg)
	if err != nil {
		return nil, usageError(err)
	}
	ledger, err := syncdb.Open(ctx, syncdb.Config{DSN: ledgerDSN(cfg), Master: master, Next: next, Grace: grace})
	if errors.Is(err, keys.ErrWrongMaster) {
		return nil, usageError(err)
	}
	return ledger, remedied(err)
}

// remedied adds what to do to an error of opening the ledger that waiting does not mend; it is one of the configuration then.
func remedied(err error) error {
	if remedy := syncdb.Remedy(err); remedy != "" {
		return usageError(fmt.Errorf("%w (%s)", err, remedy))
	}
	return err
}

// keyFile is where the ledger's key is when it is not in the configuration.
func keyFile(cfg *config.Config) string {
	if cfg.Ledger.KeyFile != "" {
		return cfg.Ledger.KeyFile
	}
	return filepath.Join(cfg.WorkDir, "ledger.key")
}

// errNoKey: the key is the one of the work folder, and the first run has not made it yet.
var errNoKey = errors.New("there is none yet; the first run makes it")

// masterKey reads the ledger's key and makes none.
func masterKey(cfg *config.Config) (*keys.Master, error) {
	if cfg.Ledger.Key != "" {
		return keys.ParseMaster(cfg.Ledger.Key.Reveal())
	}
	if len(cfg.Ledger.KeyCommand) > 0 {
		return keyOf(cfg.Ledger.KeyCommand)
	}
	path := keyFile(cfg)
	made := ledgerFile(cfg) != "" && !missing(cfg) // looked at before the key, which is made first
	_, err := os.Stat(path)
	switch {
	case err == nil:
		return keys.LoadOrCreateFile(path)
	case cfg.Ledger.KeyFile != "":
		// A file somebody named is not made here: a path with a mistake in it must not become a second key.
		return nil, fmt.Errorf("%w (make one with: umask 077; openssl rand -hex 32 > FILE)", err)
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	case made:
		return nil, fmt.Errorf("%s is not there, and the ledger %s was made with it (put the key back; docs/operations.md says what to do when it is lost)", path, ledgerFile(cfg))
	}
	return nil, errNoKey
}

// nextKey reads the key that the ledger shall come under, or is under already when edfisync secrets rekey was there; nil when none is named.
func nextKey(cfg *config.Config) (*keys.Master, error) {
	next := cfg.Ledger.Next
	var master *keys.Master
	var err error
	switch {
	case next.Key != "":
		master, err = keys.ParseMaster(next.Key.Reveal())
	case len(next.KeyCommand) > 0:
		master, err = keyOf(next.KeyCommand)
	case next.KeyFile != "":
		if _, err = os.Stat(next.KeyFile); err == nil { // it is not made here: a path with a mistake in it must not become a key
			master, err = keys.LoadOrCreateFile(next.KeyFile)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("ledger.next: %w", err)
	}
	return master, nil
}

// keyCommandTime is how long a program may take to print a key.
const keyCommandTime = 30 * time.Second

// keyOf runs a program that prints a master key. What it prints is in no message (I15).
func keyOf(command []string) (*keys.Master, error) {
	ctx, cancel := context.WithTimeout(context.Background(), keyCommandTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.WaitDelay = time.Second
	text, err := cmd.Output()
	if ctx.Err() != nil {
		err = fmt.Errorf("took longer than %s", keyCommandTime)
	}
	if err != nil {
		return nil, fmt.Errorf("key_command %s: %w (run it by hand, as the user edfisync runs as, to see why)", command[0], err)
	}
	master, err := keys.ParseMaster(string(text))
	if err != nil {
		return nil, fmt.Errorf("key_command %s printed something else: %w", command[0], err)
	}
	return master, nil
}
