package sandbox

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"log/slog"
	"net/url"
	"strings"
	"sync"
	"time"

	_ "modernc.org/sqlite" // the driver "sqlite"
)

// file keeps the records in SQLite. Requests never wait for it: what they change is noted in a dirtyList and written by one goroutine, four
// times a second, in transactions that hold a consistent state. A crash loses at most what came after the last one.
type file struct {
	db  *sql.DB
	st  *store
	log *slog.Logger

	stop chan struct{}
	done chan struct{}
}

const (
	flushEvery = 250 * time.Millisecond
	// rowGap is how far row numbers jump at a start after a crash, so that a row given out after the last flush does not share its number, and with
	// it its id, with another record.
	rowGap = 1 << 16
)

const fileSchema = `
CREATE TABLE IF NOT EXISTS meta (
	name  TEXT PRIMARY KEY,
	value BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS resource (
	number   INTEGER PRIMARY KEY,    -- place in the model's list
	next_row INTEGER NOT NULL        -- rows below were given out
);
CREATE TABLE IF NOT EXISTS record (
	resource INTEGER NOT NULL,
	row      INTEGER NOT NULL,
	modified INTEGER NOT NULL,       -- ticks of .NET
	body     BLOB    NOT NULL,       -- see encode.go
	version  INTEGER NOT NULL DEFAULT 0, -- change version
	PRIMARY KEY (resource, row)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS deletion (
	resource INTEGER NOT NULL,
	version  INTEGER NOT NULL,
	row      INTEGER NOT NULL,
	key      BLOB    NOT NULL,       -- encoded, see resolve.go
	key_json BLOB    NOT NULL,
	PRIMARY KEY (resource, version)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS key_change (
	resource INTEGER NOT NULL,
	version  INTEGER NOT NULL,
	row      INTEGER NOT NULL,
	old_json BLOB    NOT NULL,
	new_json BLOB    NOT NULL,
	PRIMARY KEY (resource, version)
) WITHOUT ROWID;`

// dirtyList names the records the file does not have yet as they are.
type dirtyList struct {
	mu      sync.Mutex
	list    []address
	rewrite bool // the file has nothing that counts: a backup was restored
	// change version up to which the file has deletions and key changes; only the writer uses it
	tracked int64
}

// all forgets the list: everything is to be written. The caller holds the world.
func (l *dirtyList) all() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list, l.rewrite = nil, true
}

func (l *dirtyList) add(a address) {
	l.mu.Lock()
	l.list = append(l.list, a)
	l.mu.Unlock()
}

func (l *dirtyList) take() (list []address, rewrite bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	list, rewrite = l.list, l.rewrite
	l.list, l.rewrite = nil, false
	return list, rewrite
}

// openFile loads path into st and starts writing changes back. idKey becomes the one of the file when that exists already.
func openFile(path string, st *store, idKey []byte, log *slog.Logger) (*file, error) {
	// EXCLUSIVE: two sandboxes on one file would overwrite each other.
	dsn := "file:" + (&url.URL{Path: path}).EscapedPath() +
		"?_pragma=locking_mode(EXCLUSIVE)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=busy_timeout(2000)"
	db, err := sql.Open("sqlite", dsn)
	if err != nil {
		return nil, fmt.Errorf("open store %s: %w", path, err)
	}
	db.SetMaxOpenConns(1)
	f := &file{db: db, st: st, log: log, stop: make(chan struct{}), done: make(chan struct{})}
	if err := f.load(idKey); err != nil {
		return nil, errors.Join(fmt.Errorf("open store %s: %w", path, err), db.Close())
	}
	st.dirty = &dirtyList{tracked: st.versions.Load()}
	go f.run()
	return f, nil
}

func (f *file) load(idKey []byte) error {
	ctx := context.Background() // a start is not cancelled half way
	if _, err := f.db.ExecContext(ctx, fileSchema); err != nil {
		return fmt.Errorf("create tables: %w", err)
	}
	if err := f.addVersion(ctx); err != nil {
		return err
	}
	model := f.st.cat.fingerprint()
	for name, value := range map[string][]byte{"model": []byte(model), "id_key": idKey} {
		if _, err := f.db.ExecContext(ctx, `INSERT INTO meta (name, value) VALUES (?, ?) ON CONFLICT (name) DO NOTHING`, name, value); err != nil {
			return fmt.Errorf("write meta: %w", err)
		}
	}
	var have, key []byte
	if err := f.db.QueryRowContext(ctx, `SELECT value FROM meta WHERE name = 'model'`).Scan(&have); err != nil {
		return fmt.Errorf("read meta: %w", err)
	}
	if string(have) != model {
		return errors.New("the file was written for another data model; use the same model or another file")
	}
	if err := f.db.QueryRowContext(ctx, `SELECT value FROM meta WHERE name = 'id_key'`).Scan(&key); err != nil {
		return fmt.Errorf("read meta: %w", err)
	}
	copy(idKey, key)
	gap, err := f.begin(ctx)
	if err != nil {
		return err
	}
	if err := errors.Join(f.loadRecords(ctx), f.loadChanges(ctx)); err != nil {
		return err
	}
	if err := f.loadNext(ctx, gap); err != nil {
		return err
	}
	return f.st.reindex()
}

// begin notes that the file is in use. It returns by how much row numbers jump: 0 when the last user closed the file.
func (f *file) begin(ctx context.Context) (gap uint32, err error) {
	res, err := f.db.ExecContext(ctx, `DELETE FROM meta WHERE name = 'closed'`)
	if err != nil {
		return 0, fmt.Errorf("write meta: %w", err)
	}
	if n, err := res.RowsAffected(); err != nil || n == 1 {
		return 0, err
	}
	return rowGap, nil
}

func (f *file) loadRecords(ctx context.Context) (err error) {
	rows, err := f.db.QueryContext(ctx, `SELECT resource, row, modified, version, body FROM record ORDER BY resource, row`)
	if err != nil {
		return fmt.Errorf("read records: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	var number int
	var n uint32
	var modified, version int64
	var body sql.RawBytes
	for rows.Next() {
		if err := rows.Scan(&number, &n, &modified, &version, &body); err != nil {
			return fmt.Errorf("read records: %w", err)
		}
		if number < 0 || number >= len(f.st.cat.tables) || n >= maxRows {
			return fmt.Errorf("read records: there is no row %d of resource %d", n, number)
		}
		t := f.st.cat.tables[number]
		r := t.makeRow(n)
		t.put(n, r, body)
		r.modified, r.version = ticks(modified), version
		t.next = n + 1
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("read records: %w", err)
	}
	return nil
}

func (f *file) loadNext(ctx context.Context, gap uint32) (err error) {
	rows, err := f.db.QueryContext(ctx, `SELECT number, next_row FROM resource`)
	if err != nil {
		return fmt.Errorf("read row numbers: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var number int
		var next uint32
		if err := rows.Scan(&number, &next); err != nil {
			return fmt.Errorf("read row numbers: %w", err)
		}
		if number < 0 || number >= len(f.st.cat.tables) {
			return fmt.Errorf("read row numbers: there is no resource %d", number)
		}
		t := f.st.cat.tables[number]
		t.next = max(t.next, next) + gap
	}
	return rows.Err()
}

// reindex builds the indexes and inbound counts of loaded records.
func (st *store) reindex() error {
	for _, t := range st.cat.tables {
		var rows []uint32
		t.each(func(n uint32, _ []byte) bool {
			rows = append(rows, n)
			return true
		})
		for _, n := range rows {
			rec := t.arena.bytes(t.row(n).at)
			dangling := false
			c := cursor{rec}
			c.links(t.shape, func(p *prop, entry uint32) bool {
				a := p.targetSpace().address(entry)
				r := a.table.liveRow(a.row)
				if dangling = r == nil; !dangling {
					r.inbound.Add(1)
				}
				return !dangling
			})
			if dangling {
				return fmt.Errorf("row %d of %s refers to a record that is not there", n, t.path)
			}
			h := st.hash.sum(st.appendKey(nil, t, rec, st.folding(t)))
			if _, taken := t.space.index[h]; taken {
				return fmt.Errorf("row %d of %s has the key of another record (keys were compared with case before?)", n, t.path)
			}
			t.space.index[h] = t.entry(n)
		}
	}
	return nil
}

func (f *file) run() {
	defer close(f.done)
	tick := time.NewTicker(flushEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if err := f.flush(); err != nil {
				f.log.Error("sandbox store: write", slog.Any("error", err))
			}
		case <-f.stop:
			return
		}
	}
}

// close writes what is not written and closes the file. It is called once.
func (f *file) close() error {
	close(f.stop)
	<-f.done
	err := f.flush()
	if err == nil {
		_, err = f.db.ExecContext(context.Background(), `INSERT INTO meta (name, value) VALUES ('closed', x'01')`)
	}
	return errors.Join(err, f.db.Close())
}

// image is a record as it was at a flush.
type image struct {
	address
	modified ticks
	version  int64
	lo, hi   int // of the bytes in the flush's buffer; equal: deleted
}

// flushed is what one flush writes.
type flushed struct {
	images  []image
	data    []byte
	rewrite bool
	after   int64 // deletions and key changes after this change version are to be written
	version int64 // the newest change version
	changes []trackedChange
}

// flush writes what the file does not have yet in one transaction. What could not be written stays dirty.
func (f *file) flush() error {
	fl := f.st.snapshot()
	if len(fl.images) == 0 && !fl.rewrite && len(fl.changes) == 0 {
		return nil
	}
	if err := f.write(&fl); err != nil {
		if fl.rewrite {
			f.st.dirty.all()
		}
		for _, im := range fl.images {
			f.st.markDirty(im.address)
		}
		return err
	}
	f.st.dirty.tracked = fl.version
	return nil
}

// snapshot takes the dirty records as they are at one moment, with nobody writing.
func (st *store) snapshot() (fl flushed) {
	st.world.Lock()
	defer st.world.Unlock()
	list, rewrite := st.dirty.take()
	fl.rewrite, fl.after, fl.version = rewrite, st.dirty.tracked, st.versions.Load()
	if rewrite {
		fl.after = 0
		list = st.everything()
	}
	for _, a := range list {
		r := a.table.row(a.row)
		r.dirty = false
		im := image{address: a, modified: r.modified, version: r.version, lo: len(fl.data)}
		if r.at != 0 {
			fl.data = append(fl.data, a.table.arena.bytes(r.at)...)
		}
		im.hi = len(fl.data)
		fl.images = append(fl.images, im)
	}
	fl.changes = st.changesAfter(fl.after)
	return fl
}

// everything lists all live records.
func (st *store) everything() (out []address) {
	for _, t := range st.cat.tables {
		t.each(func(n uint32, _ []byte) bool {
			out = append(out, address{t, n})
			return true
		})
	}
	return out
}

func (st *store) markDirty(a address) {
	s := a.table.space
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := a.table.usedRow(a.row); r != nil && !r.dirty { // nil: a backup was restored meanwhile
		r.dirty = true
		st.dirty.add(a)
	}
}

func (f *file) write(fl *flushed) (err error) {
	ctx := context.Background() // a flush is not cancelled half way
	tx, err := f.db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	defer func() {
		if err != nil {
			_ = tx.Rollback()
		}
	}()
	if err := f.writeChanges(ctx, tx, fl); err != nil {
		return err
	}
	put, err := tx.PrepareContext(ctx, `INSERT INTO record (resource, row, modified, version, body) VALUES (?, ?, ?, ?, ?)
		ON CONFLICT (resource, row) DO UPDATE SET modified = excluded.modified, version = excluded.version, body = excluded.body`)
	if err != nil {
		return fmt.Errorf("prepare: %w", err)
	}
	remove, err := tx.PrepareContext(ctx, `DELETE FROM record WHERE resource = ? AND row = ?`)
	if err != nil {
		return fmt.Errorf("prepare: %w", err)
	}
	next := map[uint16]uint32{}
	for _, im := range fl.images {
		number := im.table.number
		next[number] = max(next[number], im.row+1)
		if im.lo == im.hi {
			_, err = remove.ExecContext(ctx, number, im.row)
		} else {
			_, err = put.ExecContext(ctx, number, im.row, int64(im.modified), im.version, fl.data[im.lo:im.hi])
		}
		if err != nil {
			return fmt.Errorf("write record: %w", err)
		}
	}
	for number, row := range next {
		_, err = tx.ExecContext(ctx, `INSERT INTO resource (number, next_row) VALUES (?, ?)
			ON CONFLICT (number) DO UPDATE SET next_row = max(next_row, excluded.next_row)`, number, row)
		if err != nil {
			return fmt.Errorf("write row numbers: %w", err)
		}
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}

// fingerprint is a hash of everything the encoding of records depends on.
func (c *catalog) fingerprint() string {
	h := sha256.New()
	for _, t := range c.tables {
		_, _ = fmt.Fprintf(h, "%s %s %d\n", t.path, t.space.name, t.ordinal)
		t.shape.print(h)
	}
	return hex.EncodeToString(h.Sum(nil))
}

func (s *shape) print(h hash.Hash) {
	for i := range s.props {
		p := &s.props[i]
		_, _ = fmt.Fprintf(h, "%s %d %s\n", p.Name, p.Kind, strings.ToLower(p.Target))
		if p.shape != nil {
			p.shape.print(h)
		}
	}
	_, _ = fmt.Fprintln(h)
}
