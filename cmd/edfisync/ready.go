package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	gosync "sync"
	"syscall"
	"time"

	"github.com/edfisync/edfisync/cmd/edfisync/internal/config"
	"github.com/edfisync/edfisync/internal/keys"
)

// Readiness in words for anybody to see: without folders, addresses and what a database said.
var (
	errLedgerAway  = errors.New("the ledger does not answer")
	errLedgerReads = errors.New("the ledger's database takes no writes: it is a standby, or read-only")
	errMaster      = errors.New("the ledger was brought under another master key, which this process does not have")
	errDiskFull    = errors.New("the disk of work_dir, or of the embedded ledger, is full")
	errDiskReads   = errors.New("work_dir, or the folder of the embedded ledger, cannot be written")
)

// readiness finds out whether a process can do runs. Safe for concurrent use.
type readiness struct {
	service *service
	folders []string

	mu   gosync.Mutex
	at   time.Time // when it was found out last
	last error
}

// readinessKept is for how long it is believed: anybody may ask, and each time something is written.
const readinessKept = 2 * time.Second

func newReadiness(s *service, cfg *config.Config) *readiness {
	r := &readiness{service: s, folders: []string{cfg.WorkDir}}
	if file := ledgerFile(cfg); file != "" && filepath.Dir(file) != filepath.Clean(cfg.WorkDir) {
		r.folders = append(r.folders, filepath.Dir(file))
	}
	return r
}

// check returns why the process is not ready, in words for anybody; nil when it is. What is behind it goes to the log.
func (r *readiness) check(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.at.IsZero() && time.Since(r.at) < readinessKept {
		return r.last
	}
	cause, err := r.look(ctx)
	if err != nil && (r.last == nil || !errors.Is(r.last, err)) {
		r.service.log.ErrorContext(ctx, "not ready: "+err.Error(), slog.Any("error", cause))
	}
	if err == nil && r.last != nil {
		r.service.log.WarnContext(ctx, "ready again")
	}
	r.at, r.last = time.Now(), err
	return err
}

func (r *readiness) look(ctx context.Context) (cause, public error) {
	writes, err := r.service.ledger.TakesWrites(ctx)
	switch {
	case err != nil:
		return err, errLedgerAway
	case !writes:
		return errLedgerReads, errLedgerReads
	}
	if err := r.service.ledger.CheckMaster(ctx); errors.Is(err, keys.ErrWrongMaster) {
		return err, errMaster
	} else if err != nil {
		return err, errLedgerAway
	}
	for _, folder := range r.folders {
		err := writeSome(folder)
		switch {
		case errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT):
			return err, errDiskFull
		case err != nil:
			return err, errDiskReads
		}
	}
	return nil, nil
}

// writeSome writes a file of a size that a run at least needs, and takes it away again.
func writeSome(folder string) (err error) {
	f, err := os.CreateTemp(folder, "ready-*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(f.Name())) }()
	_, err = f.Write(make([]byte, 256<<10))
	return err
}
