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
		out, err := os.OpenFile(c.File, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if errors.Is(err, fs.ErrExist) {
			return usageError(fmt.Errorf("%s is there already; name another file", c.File))
		}
		if err != nil {
			return usageError(err)
		}
		m, err := backUp(ctx, ledger, out, filepath.Dir(c.File))
		failpoint.Reach(failpoint.BackupWritten, "", "")
		if err == nil {
			err = out.Sync()
		}
		if err = errors.Join(err, out.Close()); err == nil {
			err = machineStorage{}.Sync(filepath.Dir(c.File))
		}
		if err != nil {
			err = errors.Join(err, os.Remove(c.File))
			if errors.Is(err, syncdb.ErrOnServer) {
				return usageError(err)
			}
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

// backUp writes ledger and manifest into a zip file. The plain copy lies in folder for as long as that takes.
func backUp(ctx context.Context, ledger *syncdb.DB, out io.Writer, folder string) (m manifest, err error) {
	if err := ledger.Audit(ctx, syncdb.AuditRow{Who: operator(), Action: "ledger.backup"}); err != nil {
		return m, fmt.Errorf("write the audit trail, without which this is not done: %w", err)
	}
	failpoint.Reach(failpoint.BackupBefore, "", "")
	dir, err := os.MkdirTemp(folder, ".edfisync-backup-")
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	plain := filepath.Join(dir, backupLedger)
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
