package syncdb

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/edfisync/edfisync/internal/failpoint"
	"github.com/edfisync/edfisync/internal/keys"
)

// DB is a ledger on SQLite or PostgreSQL. Safe for concurrent use, by several processes too.
type DB struct {
	cfg    Config
	store  store
	ledger []byte // meta.ledger_id
	master atomic.Pointer[keys.Master]
	grace  atomic.Int64 // cfg.Grace in ms, or more
	fold   int          // results per transaction of a fold: maxFold, less in tests

	packers sync.Pool // of *packer: a compressor takes a megabyte

	auditFailures atomic.Int64

	mu          sync.Mutex
	connections map[int64]connection // opened so far
	resources   map[string]int64     // dictionary, as far as we have seen it; ids never change
}

type connection struct {
	Connection
	ring *keys.Ring
}

// store is what differs between SQLite and PostgreSQL.
type store interface {
	// name names the database for errors, without its password (I15).
	name() string
	// reads and writes are the pools to use; they may be the same one.
	reads() *sqlx.DB
	writes() *sqlx.DB
	// words are the dialect's words in otherwise shared statements.
	words() dialect
	// hashes is DB.Hashes of a resource that has a number, by key when sorted.
	hashes(ctx context.Context, connID, resourceID int64, sorted bool, fn func(key, record, source Hash, state State) error) error
	// bulk runs fn in one transaction made for many entries. fn may run again when the database asked for it.
	bulk(ctx context.Context, c connection, fn func(bulk) error) error
	// repeatable reports whether err means that a transaction was rolled back and may be run again.
	repeatable(err error) bool
	migrate(ctx context.Context) error
	// takesWrites reports whether a transaction may write.
	takesWrites(ctx context.Context) (bool, error)
	// size fills in what Inventory says of the database.
	size(ctx context.Context, out *Inventory) error
	// overwrites says whether what a transaction deletes is overwritten, where the database can do that.
	overwrites(ctx context.Context, tx *sqlx.Tx, on bool) error
	// scrub is what DB.Scrub does.
	scrub(ctx context.Context) error
	close() error
}

// dialect holds the words in which the two databases differ.
type dialect struct {
	now   string // SQL of the time in ms; takes one parameter, NULL for the database's own clock
	share string // ends a SELECT that must keep a row from being taken over until commit
	lock  string // ends a SELECT that takes a row for itself until commit

	snapshot sql.IsolationLevel // under which a reading transaction sees one moment
}

// Open opens the ledger, making and migrating its tables as needed. It refuses a ledger with a newer schema than this program knows
// (F53) and a wrong master key. Errors name the file or URL without its password (I15).
func Open(ctx context.Context, cfg Config) (*DB, error) {
	if cfg.Master == nil {
		return nil, errors.New("open ledger: no master key")
	}
	cfg = cfg.WithDefaults()
	s, err := openStore(ctx, cfg.DSN)
	if err != nil {
		return nil, err
	}
	d := &DB{cfg: cfg, store: s, fold: maxFold, connections: map[int64]connection{}, resources: map[string]int64{}}
	d.master.Store(cfg.Master)
	d.grace.Store(cfg.Grace.Milliseconds())
	d.packers.New = func() any { return newPacker() }
	if err := d.prepare(ctx); err != nil {
		return nil, fmt.Errorf("open ledger %s: %w", s.name(), errors.Join(err, s.close()))
	}
	return d, nil
}

func (d *DB) prepare(ctx context.Context) error {
	failpoint.Reach(failpoint.MigrateBefore, "", "")
	if err := d.store.migrate(ctx); err != nil {
		return err
	}
	failpoint.Reach(failpoint.MigrateAfter, "", "")
	var check []byte
	read := func() error {
		return d.store.reads().QueryRowContext(ctx, `SELECT ledger_id, master_check FROM meta`).Scan(&d.ledger, &check)
	}
	err := read()
	if errors.Is(err, sql.ErrNoRows) { // new: write only now, for a write would wait for another process's fold
		id := make([]byte, 16)
		_, _ = rand.Read(id)
		failpoint.Reach(failpoint.IdentityBefore, "", "")
		_, err = d.exec(ctx, d.store.writes(), `INSERT INTO meta (one, ledger_id, master_check) VALUES (1, ?, ?) ON CONFLICT DO NOTHING`,
			id, d.master.Load().Check(id))
		failpoint.Reach(failpoint.IdentityAfter, "", "")
		if err == nil {
			err = read()
		}
	}
	if err != nil {
		return fmt.Errorf("read ledger id: %w", err)
	}
	return d.choose(check, d.cfg.Master, d.cfg.Next)
}

// RaiseGrace makes Config.Grace at least so long, when a connection came along whose calls may take longer. It is never lowered again (I7).
func (d *DB) RaiseGrace(grace time.Duration) {
	for ms := grace.Milliseconds(); ; {
		have := d.grace.Load()
		if have >= ms || d.grace.CompareAndSwap(have, ms) {
			return
		}
	}
}

// Close closes the ledger. Calls in progress end with an error. It may be called twice.
func (d *DB) Close() error { return d.store.close() }

// Identity returns the ledger's own id and its generation, which grows by one when a run starts and when it ends. A copy of both kept elsewhere
// shows when an older backup was restored (F54).
func (d *DB) Identity(ctx context.Context) (ledger string, generation int64, err error) {
	if err := d.store.reads().GetContext(ctx, &generation, `SELECT generation FROM meta`); err != nil {
		return "", 0, fmt.Errorf("read ledger generation: %w", err)
	}
	return hex.EncodeToString(d.ledger), generation, nil
}

// Mark returns what a generation of the ledger is known by, in hexadecimal: a copy of the ledger that was restored from a backup gets to the same
// numbers, and to other marks. 0 stands for the generation of now. It is "" for generations before the first one with a mark, and for those a million or
// more behind.
func (d *DB) Mark(ctx context.Context, generation int64) (mark string, err error) {
	var raw []byte
	query, args := `SELECT mark FROM generation_mark WHERE generation = ?`, []any{generation}
	if generation == 0 {
		query, args = `SELECT g.mark FROM meta m JOIN generation_mark g ON g.generation = m.generation`, nil
	}
	switch err := d.store.reads().GetContext(ctx, &raw, d.bind(query), args...); {
	case errors.Is(err, sql.ErrNoRows):
		return "", nil
	case err != nil:
		return "", fmt.Errorf("read a mark of the ledger: %w", err)
	}
	return hex.EncodeToString(raw), nil
}

// Connection returns the connection of that tenant and name, and its keys. It is made, with a new data key, when there is none yet.
func (d *DB) Connection(ctx context.Context, tenant, name string) (Connection, *keys.Ring, error) {
	var id int64
	find := func(q sqlx.QueryerContext) error {
		return sqlx.GetContext(ctx, q, &id, d.bind(`SELECT id FROM connection WHERE tenant = ? AND name = ?`), tenant, name)
	}
	err := find(d.store.reads())
	if errors.Is(err, sql.ErrNoRows) {
		failpoint.Reach(failpoint.ConnectionBefore, "", "")
		err = d.transact(ctx, func(tx *sqlx.Tx) error {
			fresh, err := d.newDataKey(ctx, tx, d.keyContext(tenant, name))
			if err != nil {
				return err
			}
			if _, err := d.exec(ctx, tx, `INSERT INTO connection (tenant, name, data_key) VALUES (?, ?, ?) ON CONFLICT DO NOTHING`,
				tenant, name, fresh); err != nil {
				return err
			}
			if err := find(tx); err != nil {
				return err
			}
			_, err = d.exec(ctx, tx, `INSERT INTO lease (connection_id) VALUES (?) ON CONFLICT DO NOTHING`, id)
			return err
		})
		failpoint.Reach(failpoint.ConnectionAfter, "", "")
	}
	if err != nil {
		return Connection{}, nil, fmt.Errorf("open connection %s: %w", name, err)
	}
	c, err := d.connection(ctx, id)
	return c.Connection, c.ring, err
}

// connection returns an existing connection with its keys.
func (d *DB) connection(ctx context.Context, id int64) (connection, error) {
	d.mu.Lock()
	c, ok := d.connections[id]
	d.mu.Unlock()
	if ok {
		return c, nil
	}
	var wrapped []byte
	var generation int
	c.ID = id
	row := d.store.reads().QueryRowContext(ctx, d.bind(`SELECT tenant, name, data_key, key_generation FROM connection WHERE id = ?`), id)
	if err := row.Scan(&c.Tenant, &c.Name, &wrapped, &generation); err != nil {
		return c, fmt.Errorf("read connection %d: %w", id, err)
	}
	ring, err := d.master.Load().Ring(wrapped, d.keyContext(c.Tenant, c.Name), generation)
	if err != nil {
		return c, fmt.Errorf("open data key of connection %s: %w", c.Name, err)
	}
	c.ring = ring
	d.mu.Lock()
	defer d.mu.Unlock()
	d.connections[id] = c
	return c, nil
}

// keyContext binds a wrapped data key to its ledger and connection (I13).
func (d *DB) keyContext(tenant, name string) []byte {
	b := append([]byte("connection"), d.ledger...)
	b = binary.AppendUvarint(b, uint64(len(tenant)))
	return append(append(b, tenant...), name...)
}

// aad binds a sealed value to its table, connection and place in it (I13).
func (c connection) aad(table string, place ...byte) []byte {
	b := make([]byte, 0, 64)
	b = append(append(b, table...), 0)
	return append(binary.BigEndian.AppendUint64(b, uint64(c.ID)), place...)
}

// resourceID returns the dictionary number of a resource, 0 when it has none yet.
func (d *DB) resourceID(ctx context.Context, path string) (int64, error) {
	d.mu.Lock()
	id, ok := d.resources[path]
	d.mu.Unlock()
	if ok {
		return id, nil
	}
	err := d.store.reads().GetContext(ctx, &id, d.bind(`SELECT id FROM resource WHERE path = ?`), path)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("look up resource: %w", err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.resources[path] = id
	return id, nil
}

// ensureResource is resourceID, but gives the resource a number. It commits at once, so call it before the transaction that uses it.
func (d *DB) ensureResource(ctx context.Context, path string) (int64, error) {
	id, err := d.resourceID(ctx, path)
	if err != nil || id != 0 {
		return id, err
	}
	failpoint.Reach(failpoint.NumberBefore, path, "")
	if _, err := d.exec(ctx, d.store.writes(), `INSERT INTO resource (path) VALUES (?) ON CONFLICT DO NOTHING`, path); err != nil {
		return 0, fmt.Errorf("number resource: %w", err)
	}
	failpoint.Reach(failpoint.NumberAfter, path, "")
	return d.resourceID(ctx, path)
}

// transact runs fn in one transaction on the writing pool. fn may run again when the database asks for it, so it must not leave
// anything half done outside.
func (d *DB) transact(ctx context.Context, fn func(*sqlx.Tx) error) error {
	return repeat(ctx, d.store, func() error { return d.once(ctx, fn) })
}

// once is transact without repetition, for an fn that reads what can be read only once.
func (d *DB) once(ctx context.Context, fn func(*sqlx.Tx) error) error {
	tx, err := d.store.writes().BeginTxx(ctx, nil)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	defer tx.Rollback() //nolint:errcheck // after Commit it does nothing
	failpoint.Reach(failpoint.TransactionBegun, "", "")
	if err := fn(tx); err != nil {
		return err
	}
	failpoint.Reach(failpoint.TransactionWritten, "", "")
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	failpoint.Reach(failpoint.TransactionAfter, "", "")
	return nil
}

// repeat runs a transaction again while the database says it was rolled back for a reason that passes (F51).
func repeat(ctx context.Context, s store, transaction func() error) error {
	const attempts = 5
	for attempt := 1; ; attempt++ {
		err := transaction()
		if err == nil || attempt == attempts || ctx.Err() != nil || !s.repeatable(err) {
			return err
		}
	}
}

// fenced is transact for writes of a run: the transaction begins with the fence.
func (d *DB) fenced(ctx context.Context, l Lease, fn func(*sqlx.Tx) error) error {
	return d.transact(ctx, func(tx *sqlx.Tx) error {
		if err := d.fence(ctx, tx, l, d.store.words().share); err != nil {
			return err
		}
		return fn(tx)
	})
}

// fence returns ErrFenced unless the lease is the newest of its connection and has not expired (I7). The lock clause keeps the lease
// row as it is until the transaction ends, so a take-over waits for it.
func (d *DB) fence(ctx context.Context, q sqlx.QueryerContext, l Lease, lock string) error {
	var one int
	err := sqlx.GetContext(ctx, q, &one, d.bind(fenceSQL(d.store.words().now, lock)), l.ConnectionID, l.Token, l.RunID, d.now())
	if errors.Is(err, sql.ErrNoRows) {
		return ErrFenced
	}
	if err != nil {
		return fmt.Errorf("check lease: %w", err)
	}
	return nil
}

func fenceSQL(now, lock string) string {
	return `SELECT 1 FROM lease WHERE connection_id = ? AND token = ? AND run_id = ? AND expires_at > ` + now + lock
}

// now is the parameter of dialect.now: the configured clock, or NULL for the database's.
func (d *DB) now() any {
	if d.cfg.Clock == nil {
		return nil
	}
	return d.cfg.Clock().UnixMilli()
}

// clock reads the time, to the millisecond: the configured clock's, or the database's.
func (d *DB) clock(ctx context.Context, q sqlx.QueryerContext) (time.Time, error) {
	var ms int64
	if err := sqlx.GetContext(ctx, q, &ms, d.bind(`SELECT `+d.store.words().now), d.now()); err != nil {
		return time.Time{}, fmt.Errorf("read clock: %w", err)
	}
	return time.UnixMilli(ms).UTC(), nil
}

// bind writes ? parameters the way the database wants them.
func (d *DB) bind(query string) string { return d.store.writes().Rebind(query) }

func (d *DB) exec(ctx context.Context, q sqlx.ExecerContext, query string, args ...any) (int64, error) {
	res, err := q.ExecContext(ctx, d.bind(query), args...)
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}
