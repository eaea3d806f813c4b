package syncdb

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/pressly/goose/v3"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

const (
	// sqliteWindow is how many entries one statement carries: enough to make its own cost vanish, few enough for the parser.
	sqliteWindow = 400
	// sqliteReaders bounds the connections that read beside the one that writes.
	sqliteReaders = 8
)

// sqliteStore has one connection that writes, because SQLite has one writer, and a pool that reads beside it (WAL).
type sqliteStore struct {
	path   string
	reader *sqlx.DB
	writer *sqlx.DB
}

func openSQLite(path string) (store, error) {
	path = strings.TrimPrefix(path, "//")
	if path == "" || strings.HasPrefix(path, ":") || strings.ContainsRune(path, 0) {
		return nil, errors.New(`open ledger: "sqlite:" must be followed by the path of a file`)
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("open ledger: %w", err)
	}
	// The file is made here so that only its owner can read it; SQLite gives -wal and -shm the same mode.
	f, err := os.OpenFile(abs, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open ledger: %w", err)
	}
	if err := f.Close(); err != nil {
		return nil, fmt.Errorf("open ledger: %w", err)
	}
	s := &sqliteStore{path: abs}
	if s.writer, err = sqlx.Open("sqlite", sqliteDSN(abs, "_txlock=immediate", "cache_size(-65536)")); err != nil {
		return nil, fmt.Errorf("open ledger %s: %w", abs, err)
	}
	if s.reader, err = sqlx.Open("sqlite", sqliteDSN(abs, "", "query_only(1)", "cache_size(-4096)")); err != nil {
		return nil, fmt.Errorf("open ledger %s: %w", abs, errors.Join(err, s.writer.Close()))
	}
	s.writer.SetMaxOpenConns(1)
	s.reader.SetMaxOpenConns(sqliteReaders)
	s.reader.SetMaxIdleConns(sqliteReaders)
	return s, nil
}

// sqliteDSN asks for durable commits: synchronous(FULL) syncs the WAL before COMMIT returns (I3).
func sqliteDSN(path, option string, pragmas ...string) string {
	q := url.Values{"_pragma": append([]string{
		"busy_timeout(10000)", "journal_mode(WAL)", "synchronous(FULL)", "foreign_keys(1)", "wal_autocheckpoint(4000)", "temp_store(MEMORY)",
	}, pragmas...)}
	u := url.URL{Scheme: "file", Path: filepath.ToSlash(path), RawQuery: q.Encode()}
	if !strings.HasPrefix(u.Path, "/") {
		u.Path = "/" + u.Path // C:/folder/file
	}
	dsn := u.String()
	if option != "" {
		dsn += "&" + option
	}
	return dsn
}

func (s *sqliteStore) name() string     { return s.path }
func (s *sqliteStore) reads() *sqlx.DB  { return s.reader }
func (s *sqliteStore) writes() *sqlx.DB { return s.writer }

// sqliteNow is dialect.now.
const sqliteNow = `coalesce(?, CAST(unixepoch('subsec') * 1000 AS INTEGER))`

// words has no lock clauses: a transaction that may write has the whole database from its start.
func (s *sqliteStore) words() dialect { return dialect{now: sqliteNow} }

func (s *sqliteStore) close() error { return errors.Join(s.reader.Close(), s.writer.Close()) }

func (s *sqliteStore) repeatable(err error) bool {
	var e *sqlite.Error
	return errors.As(err, &e) && e.Code()&0xff == sqlite3.SQLITE_BUSY
}

// migrate may race with another process that migrates the same new file: each migration is a transaction, so the loser's second look
// finds it done.
func (s *sqliteStore) migrate(ctx context.Context) error {
	const attempts = 5
	for attempt := 1; ; attempt++ {
		err := s.logs(ctx)
		if err == nil {
			err = migrate(ctx, s.writer, goose.DialectSQLite3, "sqlite")
		}
		var e *sqlite.Error
		if err == nil || attempt == attempts || !errors.As(err, &e) || e.Code() == sqlite3.SQLITE_NOTADB || e.Code() == sqlite3.SQLITE_CORRUPT {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Duration(attempt) * 50 * time.Millisecond):
		}
	}
}

// errNoLog: SQLite answers the request for a write-ahead log with the mode it has, and no error, where the file system cannot have one.
var errNoLog = errors.New("SQLite cannot keep a write-ahead log there, without which a loss of power may take back notes of calls already made; " +
	"put the ledger on a local disk, or on PostgreSQL")

// logs returns errNoLog unless commits go to a log that is synced before they return (I3): with a rollback journal the removal of the journal is the
// commit, and nothing makes it durable.
func (s *sqliteStore) logs(ctx context.Context) error {
	var mode string
	if err := s.writer.GetContext(ctx, &mode, `PRAGMA journal_mode`); err != nil {
		return fmt.Errorf("ask for the journal mode: %w", err)
	}
	if mode != "wal" {
		return errNoLog
	}
	return nil
}

// takesWrites: the folder says so, and who asks looks at it.
func (s *sqliteStore) takesWrites(context.Context) (bool, error) { return true, nil }

func (s *sqliteStore) hashes(ctx context.Context, connID, resourceID int64, _ bool, fn func(key, record, source Hash, state State) error) error {
	rows, err := s.reader.QueryContext(ctx, `SELECT natural_key_hash, full_record_hash, source_hash, state FROM entry
		WHERE connection_id = ? AND resource_id = ? ORDER BY natural_key_hash`, connID, resourceID)
	if err != nil {
		return err
	}
	defer rows.Close()
	var key, record, source sql.RawBytes
	var state State
	for rows.Next() {
		if err := rows.Scan(&key, &record, &source, &state); err != nil {
			return err
		}
		if err := fn(hashOf(key), hashOf(record), hashOf(source), state); err != nil {
			return err
		}
	}
	return rows.Err()
}

func (s *sqliteStore) bulk(ctx context.Context, c connection, fn func(bulk) error) error {
	return repeat(ctx, s, func() error {
		tx, err := s.writer.BeginTxx(ctx, nil)
		if err != nil {
			return fmt.Errorf("begin: %w", err)
		}
		defer tx.Rollback() //nolint:errcheck // after Commit it does nothing
		b := &sqliteBulk{tx: tx, c: c}
		if err := fn(b); err != nil {
			return err
		}
		if err := tx.Commit(); err != nil {
			return fmt.Errorf("commit: %w", err)
		}
		return nil
	})
}

type sqliteBulk struct {
	tx   *sqlx.Tx
	c    connection
	full [2]*sql.Stmt // insert of a full window: skipping, replacing
	args []any
	buf  []byte
}

func (b *sqliteBulk) window() int { return sqliteWindow }

func (b *sqliteBulk) fence(ctx context.Context, l Lease, now any) error {
	var one int
	err := b.tx.GetContext(ctx, &one, fenceSQL(sqliteNow, ""), l.ConnectionID, l.Token, l.RunID, now)
	if errors.Is(err, sql.ErrNoRows) {
		return ErrFenced
	}
	return err
}

func (b *sqliteBulk) load(ctx context.Context, resource foldResource, hashes []Hash) (map[Hash]*Entry, error) {
	if len(hashes) == 0 {
		return nil, nil
	}
	rows, err := b.tx.QueryContext(ctx, `SELECT `+entryColumns+` FROM entry WHERE connection_id = ? AND resource_id = ?
		AND natural_key_hash IN (`+list("?", len(hashes))+`)`, b.keys(resource, hashes)...)
	if err != nil {
		return nil, err
	}
	found := make(map[Hash]*Entry, len(hashes))
	err = scanEntries(rows, b.c, resource.name, resource.id, func(e *Entry) error {
		found[e.KeyHash] = e
		return nil
	})
	return found, err
}

// keys are the parameters of a statement about these entries.
func (b *sqliteBulk) keys(resource foldResource, hashes []Hash) []any {
	b.args = append(b.args[:0], b.c.ID, resource.id)
	for i := range hashes {
		b.args = append(b.args, hashes[i][:])
	}
	return b.args
}

func (b *sqliteBulk) remove(ctx context.Context, resource foldResource, hashes []Hash) (int64, error) {
	return affected(b.tx.ExecContext(ctx, `DELETE FROM entry WHERE connection_id = ? AND resource_id = ?
		AND natural_key_hash IN (`+list("?", len(hashes))+`)`, b.keys(resource, hashes)...))
}

const sqliteReplace = ` ON CONFLICT DO UPDATE SET full_record_hash = excluded.full_record_hash, source_hash = excluded.source_hash,
	person_hash = excluded.person_hash, edfi_id = excluded.edfi_id, key_sealed = excluded.key_sealed, state = excluded.state,
	origin = excluded.origin, run_id = excluded.run_id`

func sqliteInsert(n int, replace bool) string {
	// OR FAIL: the transaction is given up on any error, so SQLite need not keep what the statement changes (ABORT would).
	q := `INSERT OR FAIL INTO entry (connection_id, resource_id, natural_key_hash, full_record_hash, source_hash, person_hash, edfi_id, key_sealed,
		state, origin, run_id) VALUES ` + list("(?1, ?2, ?, ?, ?, ?, ?, ?, ?, ?, ?)", n)
	if replace {
		return q + sqliteReplace
	}
	return q + ` ON CONFLICT DO NOTHING`
}

func (b *sqliteBulk) insert(ctx context.Context, resource foldResource, entries []*Entry, replace bool) (int64, error) {
	b.args = append(b.args[:0], b.c.ID, resource.id)
	b.buf = b.buf[:0]
	for _, e := range entries {
		from := len(b.buf)
		b.buf = b.c.sealKeys(b.buf, resource.id, e)
		b.args = append(b.args, e.KeyHash[:], nullHash(&e.RecordHash), nullHash(&e.SourceHash), nullHash(&e.PersonHash), nullText(e.EdfiID),
			b.buf[from:len(b.buf):len(b.buf)], int64(e.State), int64(e.Origin), e.RunID)
	}
	if len(entries) != sqliteWindow {
		return affected(b.tx.ExecContext(ctx, sqliteInsert(len(entries), replace), b.args...))
	}
	which := 0
	if replace {
		which = 1
	}
	if b.full[which] == nil {
		stmt, err := b.tx.PrepareContext(ctx, sqliteInsert(sqliteWindow, replace)) // closed with the transaction
		if err != nil {
			return 0, err
		}
		b.full[which] = stmt
	}
	return affected(b.full[which].ExecContext(ctx, b.args...))
}

func (b *sqliteBulk) grow(ctx context.Context, resource foldResource, by int64) error {
	_, err := b.tx.ExecContext(ctx, `INSERT INTO scope (connection_id, resource_id, entries) VALUES (?1, ?2, max(?3, 0))
		ON CONFLICT DO UPDATE SET entries = entries + ?3`, b.c.ID, resource.id, by)
	return err
}

func (b *sqliteBulk) drop(ctx context.Context, frames []int64) error {
	ids, err := json.Marshal(frames)
	if err != nil {
		return err
	}
	_, err = b.tx.ExecContext(ctx, `DELETE FROM journal WHERE id IN (SELECT value FROM json_each(?))`, string(ids))
	return err
}

func (b *sqliteBulk) frames(ctx context.Context) (n int64, err error) {
	err = b.tx.GetContext(ctx, &n, `SELECT count(*) FROM journal WHERE connection_id = ?`, b.c.ID)
	return n, err
}

func (b *sqliteBulk) rewrite(ctx context.Context, frame int64, intents int, sealed []byte) error {
	_, err := b.tx.ExecContext(ctx, `UPDATE journal SET intents = ?, results = 0, frame_sealed = ? WHERE id = ?`, intents, sealed, frame)
	return err
}

// list returns item n times, with commas between.
func list(item string, n int) string {
	return strings.TrimSuffix(strings.Repeat(item+", ", n), ", ")
}

func affected(res sql.Result, err error) (int64, error) {
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}
