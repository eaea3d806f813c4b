package syncdb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

const (
	postgresWindow      = 8000
	postgresConnections = 16 // of lib/pq, for everything
	postgresBulk        = 4  // of pgx, for folds and for reading whole resources
)

// postgresStore uses sqlx over lib/pq for everything, and a small pgx pool beside it where entries go by the hundred thousand: pgx
// sends arrays in binary and hands out rows without decoding them.
type postgresStore struct {
	redacted string
	db       *sqlx.DB
	pool     *pgxpool.Pool
}

func openPostgres(ctx context.Context, dsn string) (store, error) {
	u, err := url.Parse(dsn)
	if err != nil {
		return nil, errors.New("open ledger: the postgres:// address is not a valid URL (is a special character in the password not escaped?)")
	}
	s := &postgresStore{redacted: u.Redacted()}
	if s.db, err = sqlx.Open("postgres", dsn); err != nil {
		return nil, fmt.Errorf("open ledger %s: %w", s.redacted, err)
	}
	s.db.SetMaxOpenConns(postgresConnections)
	s.db.SetMaxIdleConns(postgresConnections)
	cfg, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return nil, fmt.Errorf("open ledger %s: %w", s.redacted, errors.Join(err, s.db.Close()))
	}
	cfg.MaxConns = postgresBulk
	if s.pool, err = pgxpool.NewWithConfig(ctx, cfg); err != nil {
		return nil, fmt.Errorf("open ledger %s: %w", s.redacted, errors.Join(err, s.db.Close()))
	}
	return s, nil
}

func (s *postgresStore) name() string     { return s.redacted }
func (s *postgresStore) reads() *sqlx.DB  { return s.db }
func (s *postgresStore) writes() *sqlx.DB { return s.db }

// words: KEY SHARE lets the holder's own Renew pass, which changes no key column, while FOR UPDATE of a take-over waits for it (I7).
func (s *postgresStore) words() dialect {
	return dialect{
		now:   `coalesce(?::bigint, (extract(epoch FROM clock_timestamp()) * 1000)::bigint)`,
		share: ` FOR KEY SHARE`,
		lock:  ` FOR UPDATE`,

		snapshot: sql.LevelRepeatableRead,
	}
}

func (s *postgresStore) close() error {
	s.pool.Close()
	return s.db.Close()
}

// repeatable: serialization failure and deadlock, both of which have rolled back (F51). For pgx also a connection that the server had cut while
// it waited in the pool (F50): database/sql takes another one by itself, the pool does not.
func (s *postgresStore) repeatable(err error) bool {
	var bulk *pgconn.PgError
	if errors.As(err, &bulk) {
		return bulk.Code == "40001" || bulk.Code == "40P01" || bulk.Code == "57P01" // admin_shutdown: ends a transaction before its commit, never after
	}
	if pgconn.SafeToRetry(err) {
		return true // nothing of it was sent
	}
	var e *pq.Error
	return errors.As(err, &e) && (e.Code == "40001" || e.Code == "40P01")
}

func (s *postgresStore) migrate(ctx context.Context) error {
	var commit string
	if err := s.db.GetContext(ctx, &commit, `SHOW synchronous_commit`); err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	if commit == "off" { // I3: a commit must be durable when it returns
		return errors.New("synchronous_commit is off: a crash of the server would lose notes of calls already made; " +
			"switch it on for the ledger's role: ALTER ROLE … SET synchronous_commit = on")
	}
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, 300)) // try every second, for five minutes
	if err != nil {
		return fmt.Errorf("make migration lock: %w", err)
	}
	return migrate(ctx, s.db, goose.DialectPostgres, "postgres", goose.WithSessionLocker(locker))
}

func (s *postgresStore) takesWrites(ctx context.Context) (bool, error) {
	var only string
	if err := s.db.GetContext(ctx, &only, `SHOW transaction_read_only`); err != nil {
		return false, fmt.Errorf("ask whether it is read-only: %w", err)
	}
	return only == "off", nil
}

func (s *postgresStore) hashes(ctx context.Context, connID, resourceID int64, sorted bool, fn func(key, record, source Hash, state State) error) error {
	query := `SELECT natural_key_hash, full_record_hash, source_hash, state FROM entry WHERE connection_id = $1 AND resource_id = $2`
	if sorted {
		query += ` ORDER BY natural_key_hash`
	}
	rows, err := s.pool.Query(ctx, query, connID, resourceID)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		raw := rows.RawValues() // bytea as it is, smallint in two bytes
		if err := fn(hashOf(raw[0]), hashOf(raw[1]), hashOf(raw[2]), State(raw[3][1])); err != nil {
			return err
		}
	}
	return rows.Err()
}

func (s *postgresStore) bulk(ctx context.Context, c connection, fn func(bulk) error) error {
	return repeat(ctx, s, func() error {
		return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
			return fn(&postgresBulkTx{tx: tx, c: c, bind: s.db.Rebind, now: s.words().now, share: s.words().share})
		})
	})
}

type postgresBulkTx struct {
	tx         pgx.Tx
	c          connection
	bind       func(string) string
	now, share string
}

func (b *postgresBulkTx) window() int { return postgresWindow }

func (b *postgresBulkTx) fence(ctx context.Context, l Lease, now any) error {
	var one int
	err := b.tx.QueryRow(ctx, b.bind(fenceSQL(b.now, b.share)), l.ConnectionID, l.Token, l.RunID, now).Scan(&one)
	if errors.Is(err, pgx.ErrNoRows) {
		return ErrFenced
	}
	return err
}

func (b *postgresBulkTx) load(ctx context.Context, resource foldResource, hashes []Hash) (map[Hash]*Entry, error) {
	if len(hashes) == 0 {
		return nil, nil
	}
	rows, err := b.tx.Query(ctx, `SELECT `+entryColumns+` FROM entry WHERE connection_id = $1 AND resource_id = $2
		AND natural_key_hash = ANY($3::bytea[])`, b.c.ID, resource.id, byteas(hashes))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	found := make(map[Hash]*Entry, len(hashes))
	var key, record, source, person, sealed []byte
	var id sql.NullString
	for rows.Next() {
		e := &Entry{Resource: resource.name}
		if err := rows.Scan(&key, &record, &source, &person, &id, &sealed, &e.State, &e.Origin, &e.RunID); err != nil {
			return nil, err
		}
		e.KeyHash, e.RecordHash, e.SourceHash, e.PersonHash, e.EdfiID = hashOf(key), hashOf(record), hashOf(source), hashOf(person), id.String
		if err := b.c.openKeys(e, resource.id, sealed); err != nil {
			return nil, err
		}
		found[e.KeyHash] = e
	}
	return found, rows.Err()
}

const postgresInsert = `INSERT INTO entry (connection_id, resource_id, natural_key_hash, full_record_hash, source_hash, person_hash,
		edfi_id, key_sealed, state, origin, run_id)
	SELECT $1, $2, * FROM unnest($3::bytea[], $4::bytea[], $5::bytea[], $6::bytea[], $7::text[], $8::bytea[], $9::smallint[],
		$10::smallint[], $11::bigint[])
	ON CONFLICT (connection_id, resource_id, natural_key_hash) DO `

const postgresReplace = `UPDATE SET full_record_hash = excluded.full_record_hash, source_hash = excluded.source_hash,
	person_hash = excluded.person_hash, edfi_id = excluded.edfi_id, key_sealed = excluded.key_sealed, state = excluded.state,
	origin = excluded.origin, run_id = excluded.run_id`

func (b *postgresBulkTx) insert(ctx context.Context, resource foldResource, entries []*Entry, replace bool) (int64, error) {
	n := len(entries)
	key, record, source, person, sealed := make([][]byte, n), make([][]byte, n), make([][]byte, n), make([][]byte, n), make([][]byte, n)
	id, state, origin, run := make([]*string, n), make([]int16, n), make([]int16, n), make([]int64, n)
	for i, e := range entries {
		key[i], record[i], source[i], person[i] = e.KeyHash[:], nullBytes(&e.RecordHash), nullBytes(&e.SourceHash), nullBytes(&e.PersonHash)
		sealed[i] = b.c.sealKeys(nil, resource.id, e)
		if e.EdfiID != "" {
			id[i] = &e.EdfiID
		}
		state[i], origin[i], run[i] = int16(e.State), int16(e.Origin), e.RunID
	}
	query := postgresInsert + `NOTHING`
	if replace {
		query = postgresInsert + postgresReplace
	}
	tag, err := b.tx.Exec(ctx, query, b.c.ID, resource.id, key, record, source, person, id, sealed, state, origin, run)
	return tag.RowsAffected(), err
}

func (b *postgresBulkTx) remove(ctx context.Context, resource foldResource, hashes []Hash) (int64, error) {
	tag, err := b.tx.Exec(ctx, `DELETE FROM entry WHERE connection_id = $1 AND resource_id = $2 AND natural_key_hash = ANY($3::bytea[])`,
		b.c.ID, resource.id, byteas(hashes))
	return tag.RowsAffected(), err
}

func (b *postgresBulkTx) grow(ctx context.Context, resource foldResource, by int64) error {
	_, err := b.tx.Exec(ctx, `INSERT INTO scope (connection_id, resource_id, entries) VALUES ($1, $2, greatest($3::bigint, 0))
		ON CONFLICT (connection_id, resource_id) DO UPDATE SET entries = scope.entries + $3::bigint`, b.c.ID, resource.id, by)
	return err
}

func (b *postgresBulkTx) drop(ctx context.Context, frames []int64) error {
	_, err := b.tx.Exec(ctx, `DELETE FROM journal WHERE id = ANY($1::bigint[])`, frames)
	return err
}

func (b *postgresBulkTx) frames(ctx context.Context) (n int64, err error) {
	err = b.tx.QueryRow(ctx, `SELECT count(*) FROM journal WHERE connection_id = $1`, b.c.ID).Scan(&n)
	return n, err
}

func (b *postgresBulkTx) rewrite(ctx context.Context, frame int64, intents int, sealed []byte) error {
	_, err := b.tx.Exec(ctx, `UPDATE journal SET intents = $1, results = 0, frame_sealed = $2 WHERE id = $3`, intents, sealed, frame)
	return err
}

func byteas(hashes []Hash) [][]byte {
	out := make([][]byte, len(hashes))
	for i := range hashes {
		out[i] = hashes[i][:]
	}
	return out
}

func nullBytes(h *Hash) []byte {
	if h.IsZero() {
		return nil
	}
	return h[:]
}
