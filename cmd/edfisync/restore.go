package main

import (
	"archive/zip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/edfisync/edfisync/cmd/edfisync/internal/config"
	"github.com/edfisync/edfisync/internal/failpoint"
	"github.com/edfisync/edfisync/internal/keys"
	"github.com/edfisync/edfisync/syncdb"
)

type restoreCmd struct {
	File string `arg:"" placeholder:"FILE" help:"What edfisync backup wrote."`
}

// Help is the long help of the command.
func (restoreCmd) Help() string {
	return `Puts a backup of the embedded ledger in the place of the ledger, after it was read through and opened with the ledger's key. The ledger that was there
is kept beside it under another name. End the service first: a ledger that a process has open is not replaced.

A restored ledger does not know what was sent since the backup was made. The next run notices that and sends nothing; edfisync adopt reads what the target
holds and makes it right.

Examples:

    edfisync restore /mnt/backup/edfisync-2026-11-22.zip
    edfisync adopt --connection lincoln
    edfisync run --connection lincoln`
}

// restored is what the command prints.
type restored struct {
	Ledger   string   `json:"ledger"`         // the file
	Kept     string   `json:"kept,omitempty"` // where the one before is now
	Manifest manifest `json:"manifest"`
}

// Run puts the backup in place.
func (c *restoreCmd) Run(ctx context.Context, a *app) error {
	cfg, err := a.load()
	if err != nil {
		return err
	}
	file := ledgerFile(cfg)
	if file == "" {
		return usageError(errors.New("the ledger is on PostgreSQL: restore it there as any database, then edfisync adopt (docs/ledger.md)"))
	}
	if alive(cfg.WorkDir) {
		return usageError(fmt.Errorf("a service or a run works with %s; end it first", cfg.WorkDir))
	}
	master, err := masterKey(cfg)
	switch {
	case errors.Is(err, errNoKey):
		return usageError(fmt.Errorf("%s is not there: put the key of the ledger there first; a backup does not hold it", keyFile(cfg)))
	case err != nil:
		return usageError(fmt.Errorf("ledger key: %w", err))
	}
	if err := makeFolder(machineStorage{}, filepath.Dir(file)); err != nil {
		return usageError(err)
	}
	out := restored{Ledger: file}
	fresh := file + ".restoring"
	defer removeLedger(fresh)
	if out.Manifest, err = unpackBackup(c.File, fresh); err != nil {
		return usageError(fmt.Errorf("%s is not restored: %w", c.File, err))
	}
	failpoint.Reach(failpoint.RestoreUnpacked, "", "")
	if err := tryBackup(ctx, master, fresh, out.Manifest); err != nil {
		return usageError(fmt.Errorf("%s is not restored: %w", c.File, err))
	}
	failpoint.Reach(failpoint.RestoreTried, "", "")
	if out.Kept, err = swapLedger(ctx, cfg, fresh, file); err != nil {
		return err
	}
	failpoint.Reach(failpoint.RestoreAfter, "", "")
	if a.JSON {
		a.printJSON(out)
		return nil
	}
	fmt.Fprintf(a.out, "%s is the ledger of %s again, generation %d\n", file, out.Manifest.Made.Local().Format("2006-01-02 15:04:05"), out.Manifest.Generation)
	if out.Kept != "" {
		fmt.Fprintf(a.out, "the one before is %s; remove it when all is well\n", out.Kept)
	}
	fmt.Fprintln(a.out, "It does not know what was sent since. For each connection: edfisync adopt reads what the target holds (adopt --plan only counts), then runs go on.")
	return nil
}

// alive reports whether a process of this machine works with the folder.
func alive(workDir string) bool {
	files, err := filepath.Glob(lockPath(workDir, "*"))
	if err != nil {
		return false
	}
	for _, name := range files {
		file, err := os.OpenFile(name, os.O_RDWR, 0)
		if err != nil {
			continue
		}
		free, err := lock(file)
		_ = file.Close()
		if err == nil && !free {
			return true
		}
	}
	return false
}

// Bounds of what is unpacked of a file that somebody says is a backup.
const (
	maxManifest  = 1 << 20
	maxRatio     = 100      // a ledger is sealed texts and hashes for the most part, which do not become smaller
	alwaysUnpack = 64 << 20 // that much, whatever the ratio: a ledger that is new holds empty pages
)

// unpackBackup writes the ledger of a backup to a file, and returns its manifest. What it does not say of itself, or is not as long or not the same as it
// says, is not taken.
func unpackBackup(from, to string) (m manifest, err error) {
	z, err := zip.OpenReader(from)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return m, err
	case errors.Is(err, zip.ErrFormat), errors.Is(err, io.ErrUnexpectedEOF):
		return m, fmt.Errorf("it is damaged, or no backup: its end is missing, as of a file that was not copied to the end: %w", err)
	case err != nil:
		return m, fmt.Errorf("it is damaged, or no backup: %w", err)
	}
	defer z.Close()
	text, err := z.Open(backupManifest)
	if err != nil {
		return m, fmt.Errorf("it is no backup: it has no %s", backupManifest)
	}
	defer text.Close()
	if err := json.NewDecoder(io.LimitReader(text, maxManifest)).Decode(&m); err != nil {
		return m, fmt.Errorf("it is damaged: its manifest cannot be read: %w", err)
	}
	switch newest := syncdb.NewestSchema(); {
	case m.Format != backupFormat:
		return m, fmt.Errorf("it has format %d, this program knows %d: use the program that made it (%s), or a newer one", m.Format, backupFormat, m.Version)
	case m.Schema > newest:
		return m, fmt.Errorf("its schema has version %d, this program knows up to %d: use the program that made it (%s), or a newer one", m.Schema, newest, m.Version)
	case m.Bytes < 1:
		return m, errors.New("it is damaged: its manifest names no length")
	}
	packed, err := os.Stat(from)
	if err != nil {
		return m, err
	}
	if m.Bytes > max(alwaysUnpack, maxRatio*packed.Size()) {
		return m, fmt.Errorf("it is damaged, or no backup: %d bytes would become %d, which no ledger does", packed.Size(), m.Bytes)
	}
	in, err := z.Open(backupLedger)
	if err != nil {
		return m, fmt.Errorf("it is no backup: it has no %s", backupLedger)
	}
	defer in.Close()
	removeLedger(to)
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return m, err
	}
	sum := sha256.New()
	n, err := io.Copy(io.MultiWriter(out, sum), io.LimitReader(in, m.Bytes+1))
	if err == nil {
		err = out.Sync()
	}
	if err = errors.Join(err, out.Close()); err != nil {
		return m, fmt.Errorf("unpack it: %w", err)
	}
	if n != m.Bytes || hex.EncodeToString(sum.Sum(nil)) != m.SHA256 {
		return m, errors.New("it is damaged: the ledger in it is not what its manifest says")
	}
	return m, nil
}

// tryBackup reads an unpacked ledger through, opens it with its key, which brings it to the newest schema, and notes in its audit trail that it is restored (I16).
func tryBackup(ctx context.Context, master *keys.Master, file string, m manifest) error {
	seen, err := syncdb.Inspect(ctx, file)
	if err != nil {
		return err
	}
	if seen.Ledger != m.Ledger || seen.Generation != m.Generation || seen.Schema != m.Schema {
		return errors.New("it is damaged: the ledger in it is not the one its manifest names")
	}
	ledger, err := syncdb.Open(ctx, syncdb.Config{DSN: config.SQLiteLedger + file, Master: master})
	if err != nil {
		return err
	}
	bad, err := ledger.VerifyAudit(ctx)
	if err == nil && bad != 0 {
		err = fmt.Errorf("row %d of its audit trail is not as it was written", bad)
	}
	if err == nil {
		detail, merr := json.Marshal(map[string]any{"generation": m.Generation, "made": m.Made, "sha256": m.SHA256})
		err = errors.Join(merr, ledger.Audit(ctx, syncdb.AuditRow{Who: operator(), Action: "ledger.restore", Detail: detail}))
	}
	if err = errors.Join(err, ledger.Close()); err != nil {
		return err
	}
	return syncdb.Release(ctx, file)
}

// swapLedger puts a ledger in the place of another one, which is kept. Whenever the power fails one of them is there under its name, or the one before under
// its new name and none in its place: then the next run says that the ledger is not there. A log without a ledger is put aside, too: SQLite would write it
// into the backup.
func swapLedger(ctx context.Context, cfg *config.Config, fresh, file string) (kept string, err error) {
	if _, err := os.Stat(file); err == nil {
		if err := syncdb.Release(ctx, file); errors.Is(err, syncdb.ErrInUse) {
			return "", usageError(err)
		} // one that is damaged is put aside with its log
	}
	aside := fmt.Sprintf("%s.before-restore-%s", file, time.Now().UTC().Format("20060102T150405"))
	for _, suffix := range ledgerFiles() {
		switch err := os.Rename(file+suffix, aside+suffix); {
		case err == nil:
			kept = aside
		case !errors.Is(err, fs.ErrNotExist):
			return "", fmt.Errorf("put the ledger that is there aside: %w", err)
		}
	}
	failpoint.Reach(failpoint.RestoreAside, "", "")
	if err := os.Rename(fresh, file); err != nil {
		return "", fmt.Errorf("put the backup in place (the ledger before is %s): %w", kept, err)
	}
	failpoint.Reach(failpoint.RestorePlaced, "", "")
	if queue, isFile := strings.CutPrefix(queueDSN(cfg), config.SQLiteLedger); isFile {
		removeLedger(queue) // rings for runs that the ledger does not know; it is made anew
	}
	return kept, machineStorage{}.Sync(filepath.Dir(file))
}

// ledgerFiles are the ends of the names of a SQLite file and its log.
func ledgerFiles() []string { return []string{"", "-wal", "-shm", "-journal"} }

// removeLedger removes a SQLite file with its log. What is not there, or stays, does no harm.
func removeLedger(file string) {
	for _, suffix := range ledgerFiles() {
		_ = os.Remove(file + suffix)
	}
}
