package syncdb

import (
	"context"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// ErrOnServer says that a ledger is on a database server, which has backups of its own.
var ErrOnServer = errors.New("the ledger is on PostgreSQL: back it up as any database there, with pg_dump or base backups (docs/ledger.md)")

// ErrInUse says that another process has a ledger's file open.
var ErrInUse = errors.New("another process has the ledger open; end it first")

// Backup writes a copy of a ledger on SQLite, as it is at one moment, to a file that is not there yet. Runs may go on beside it, of other processes too. Of a
// ledger on a server it returns ErrOnServer.
func (d *DB) Backup(ctx context.Context, file string) error {
	s, ok := d.store.(*sqliteStore)
	if !ok {
		return ErrOnServer
	}
	if _, err := s.writer.ExecContext(ctx, `VACUUM INTO ?`, file); err != nil {
		return fmt.Errorf("copy the ledger: %w", err)
	}
	return nil
}

// Copy is what a file with a ledger on SQLite says of itself.
type Copy struct {
	Ledger     string // its id, as DB.Identity gives it
	Generation int64
	Schema     int64
}

// Inspect reads a file with a ledger on SQLite that nobody has open, page by page, without its key and without changing it. It returns an error when a page is
// damaged, or when it is no ledger.
func Inspect(ctx context.Context, file string) (c Copy, err error) {
	db, err := sql.Open("sqlite", plainDSN(file, "mode=ro&immutable=1"))
	if err != nil {
		return c, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	var verdict string
	if err := db.QueryRowContext(ctx, `PRAGMA integrity_check(1)`).Scan(&verdict); err != nil {
		return c, fmt.Errorf("it is damaged, or no SQLite file: %w", err)
	}
	if verdict != "ok" {
		return c, errors.New("it is damaged: SQLite finds its pages inconsistent")
	}
	var id []byte
	if err := db.QueryRowContext(ctx, `SELECT ledger_id, generation, (SELECT max(version_id) FROM ledger_version) FROM meta`).Scan(&id, &c.Generation, &c.Schema); err != nil {
		return c, fmt.Errorf("it holds no ledger: %w", err)
	}
	c.Ledger = hex.EncodeToString(id)
	return c, nil
}

// NewestSchema is the newest version of the schema that this program knows.
func NewestSchema() int64 {
	names, err := fs.Glob(migrations, "migrations/sqlite/*.sql")
	var newest int64
	for _, name := range names {
		number, _, _ := strings.Cut(path.Base(name), "_")
		if n, perr := strconv.ParseInt(number, 10, 64); perr == nil {
			newest = max(newest, n)
		}
	}
	if err != nil {
		return 0
	}
	return newest
}

// Release folds a file's log into it, so that the file is all there is of the ledger and can be moved. While any other process has it open the error is ErrInUse.
func Release(ctx context.Context, file string) (err error) {
	db, err := sql.Open("sqlite", plainDSN(file, "mode=rw&_pragma=busy_timeout(500)"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	db.SetMaxOpenConns(1)
	var mode string
	err = db.QueryRowContext(ctx, `PRAGMA journal_mode = DELETE`).Scan(&mode) // needs the file for itself
	var e *sqlite.Error
	if errors.As(err, &e) && (e.Code()&0xff == sqlite3.SQLITE_BUSY || e.Code()&0xff == sqlite3.SQLITE_LOCKED) || err == nil && mode != "delete" {
		return ErrInUse
	}
	return err
}

func plainDSN(file, options string) string {
	if absolute, err := filepath.Abs(file); err == nil {
		file = absolute
	}
	p := filepath.ToSlash(file)
	if !strings.HasPrefix(p, "/") {
		p = "/" + p // C:/folder/file
	}
	return "file:" + (&url.URL{Path: p}).EscapedPath() + "?" + options
}
