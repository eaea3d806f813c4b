package main

import (
	"archive/zip"
	"compress/flate"
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
	"time"

	"github.com/edfisync/edfisync/internal/failpoint"
	"github.com/edfisync/edfisync/syncdb"
)

type backupCmd struct {
	File string `arg:"" placeholder:"FILE" help:"File to write; there must be none."`
}

// Help is the long help of the command.
func (backupCmd) Help() string {
	return `Writes the embedded ledger, as it is at one moment, into one file; the service and runs go on meanwhile. The copy is read through before the
command ends, and a manifest beside it says which ledger in which state it is. Everything about students in it is sealed, as in the ledger.

The ledger's key is not in the backup: keep a copy of it in another place. A ledger on PostgreSQL is backed up with pg_dump (docs/ledger.md).

Examples:

    edfisync backup /mnt/backup/edfisync-$(date +%F).zip
    edfisync restore /mnt/backup/edfisync-2026-11-22.zip`
}

// The files of a backup.
const (
	backupLedger   = "ledger.sqlite"
	backupManifest = "manifest.json"
	backupFormat   = 1
)

// manifest says what a backup is.
type manifest struct {
	Format     int       `json:"format"`
	Made       time.Time `json:"made"`
	Version    string    `json:"version"`    // of the program that made it
	Schema     int64     `json:"schema"`     // of the ledger
	Ledger     string    `json:"ledger"`     // its id
	Generation int64     `json:"generation"` // grows when a run starts, and when it ends: what the witness knows, too
	Bytes      int64     `json:"bytes"`
	SHA256     string    `json:"sha256"`           // of the ledger's file
	Anchor     string    `json:"anchor,omitempty"` // of the audit trail: its last row and hash
}

// backedUp is what the command prints.
type backedUp struct {
	File     string   `json:"file"`
	Size     int64    `json:"size"`
	Manifest manifest `json:"manifest"`
}

// Run makes the backup.
func (c *backupCmd) Run(ctx context.Context, a *app) (err error) {
	return a.lookAtLedger(ctx, func(ledger *syncdb.DB) error {
		m, err := c.make(ctx, ledger)
		if errors.Is(err, syncdb.ErrOnServer) {
			return usageError(err)
		}
		if err != nil {
			return err
		}
		failpoint.Reach(failpoint.BackupAfter, "", "")
		info, err := os.Stat(c.File)
		if err != nil {
			return err
		}
		if a.JSON {
			a.printJSON(backedUp{c.File, info.Size(), m})
			return nil
		}
		fmt.Fprintf(a.out, "%s is made and read through: %s bytes, generation %d of the ledger\n", c.File, grouped(info.Size()), m.Generation)
		fmt.Fprintln(a.out, "its key is not in it: keep a copy of that in another place")
		return nil
	})
}

// unfinishedBackup begins the names of the folders in which backups are made, beside where they are to lie.
const unfinishedBackup = ".edfisync-backup-"

// forgottenBackup is the age at which such a folder was left by a process that was killed: making a backup takes minutes.
const forgottenBackup = 24 * time.Hour

// make makes the backup under another name and gives it its own when it is whole and on disk: whatever ends the process, there is no part of a backup that
// could be taken for one.
func (c *backupCmd) make(ctx context.Context, ledger *syncdb.DB) (m manifest, err error) {
	if _, err := os.Lstat(c.File); err == nil {
		return m, c.taken()
	}
	folder := filepath.Dir(c.File)
	dropForgotten(folder)
	dir, err := os.MkdirTemp(folder, unfinishedBackup)
	if err != nil {
		return m, usageError(err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	whole := filepath.Join(dir, "backup.zip")
	out, err := os.OpenFile(whole, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return m, err
	}
	m, err = backUp(ctx, ledger, out, dir)
	if err == nil {
		err = out.Sync()
	}
	if err = errors.Join(err, out.Close()); err != nil {
		return m, err
	}
	failpoint.Reach(failpoint.BackupWritten, "", "")
	switch err := os.Link(whole, c.File); { // does not replace a file that came into being meanwhile
	case errors.Is(err, fs.ErrExist):
		return m, c.taken()
	case err != nil: // a file system without links
		if err := os.Rename(whole, c.File); err != nil {
			return m, err
		}
	}
	return m, machineStorage{}.Sync(folder)
}

func (c *backupCmd) taken() error {
	return usageError(fmt.Errorf("%s is there already; name another file", c.File))
}

// dropForgotten removes what processes that were killed have left in a folder. What cannot be removed does no harm but for the room it takes.
func dropForgotten(folder string) {
	left, err := filepath.Glob(filepath.Join(folder, unfinishedBackup+"*"))
	if err != nil {
		return
	}
	for _, dir := range left {
		if info, err := os.Lstat(dir); err == nil && info.IsDir() && time.Since(info.ModTime()) > forgottenBackup {
			_ = os.RemoveAll(dir)
		}
	}
}

// backUp writes ledger and manifest into a zip file. The plain copy lies in folder for as long as that takes.
func backUp(ctx context.Context, ledger *syncdb.DB, out io.Writer, folder string) (m manifest, err error) {
	if err := ledger.Audit(ctx, syncdb.AuditRow{Who: operator(), Action: "ledger.backup"}); err != nil {
		return m, fmt.Errorf("write the audit trail, without which this is not done: %w", err)
	}
	failpoint.Reach(failpoint.BackupBefore, "", "")
	plain := filepath.Join(folder, backupLedger)
	defer removeLedger(plain)
	if err := ledger.Backup(ctx, plain); err != nil {
		return m, err
	}
	failpoint.Reach(failpoint.BackupCopied, "", "")
	seen, err := syncdb.Inspect(ctx, plain)
	if err != nil {
		return m, fmt.Errorf("read the copy through: %w", err)
	}
	m = manifest{
		Format: backupFormat, Made: time.Now().UTC().Truncate(time.Second), Version: buildInfo().Version, Schema: seen.Schema, Ledger: seen.Ledger, Generation: seen.Generation,
	}
	last, err := ledger.FindAudit(ctx, syncdb.AuditFilter{Limit: 1})
	if err != nil {
		return m, err
	}
	if len(last) > 0 {
		m.Anchor = fmt.Sprintf("%d:%x", last[0].ID, last[0].Hash)
	}
	z := zip.NewWriter(out)
	z.RegisterCompressor(zip.Deflate, func(w io.Writer) (io.WriteCloser, error) { return flate.NewWriter(w, flate.BestSpeed) })
	in, err := os.Open(plain)
	if err != nil {
		return m, err
	}
	defer in.Close()
	w, err := z.CreateHeader(&zip.FileHeader{Name: backupLedger, Method: zip.Deflate, Modified: m.Made})
	if err != nil {
		return m, err
	}
	sum := sha256.New()
	if m.Bytes, err = io.Copy(io.MultiWriter(w, sum), in); err != nil {
		return m, err
	}
	m.SHA256 = hex.EncodeToString(sum.Sum(nil))
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return m, err
	}
	if w, err = z.CreateHeader(&zip.FileHeader{Name: backupManifest, Method: zip.Deflate, Modified: m.Made}); err != nil {
		return m, err
	}
	if _, err := w.Write(text); err != nil {
		return m, err
	}
	return m, z.Close()
}
