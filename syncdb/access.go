package syncdb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jmoiron/sqlx"
)

// APIKey is what is known of a key of the API. The key itself is nowhere: its secret is shown once, when it is made.
type APIKey struct {
	ID          string    `json:"id"`
	Name        string    `json:"name"`
	Role        string    `json:"role"`             // viewer, operator, approver, admin, auditor
	Tenant      string    `json:"tenant,omitempty"` // the one it is bound to; "" = every tenant
	StudentData bool      `json:"studentData"`      // may see student data
	Networks    []string  `json:"networks,omitempty"`
	CreatedAt   time.Time `json:"createdAt"`
	CreatedBy   string    `json:"createdBy"`
	ExpiresAt   time.Time `json:"expiresAt,omitzero"`
	RotatedAt   time.Time `json:"rotatedAt,omitzero"`
	OldUntil    time.Time `json:"oldUntil,omitzero"` // until when the secret before the last rotation is good, too
	RevokedAt   time.Time `json:"revokedAt,omitzero"`
	UsedAt      time.Time `json:"usedAt,omitzero"` // last use, to the minute

	Hash    [32]byte `json:"-"` // SHA-256 of its secret
	OldHash [32]byte `json:"-"` // of the one before; means nothing when OldUntil is zero
}

// Errors of keys.
var (
	// ErrKeyName says that another key of the tenant, which is not revoked, has the name.
	ErrKeyName = errors.New("another key has this name; revoke it first, or choose another name")
	// ErrKeyRevoked says that a key was revoked. That is for good.
	ErrKeyRevoked = errors.New("the key is revoked")
)

type apiKeyRow struct {
	ID          string        `db:"id"`
	Name        string        `db:"name"`
	Role        string        `db:"role"`
	Tenant      string        `db:"tenant"`
	StudentData bool          `db:"student_data"`
	Networks    string        `db:"networks"`
	Hash        []byte        `db:"secret_hash"`
	OldHash     []byte        `db:"old_hash"`
	OldUntil    sql.NullInt64 `db:"old_until"`
	CreatedAt   int64         `db:"created_at"`
	CreatedBy   string        `db:"created_by"`
	ExpiresAt   sql.NullInt64 `db:"expires_at"`
	RotatedAt   sql.NullInt64 `db:"rotated_at"`
	RevokedAt   sql.NullInt64 `db:"revoked_at"`
	UsedAt      sql.NullInt64 `db:"used_at"`
}

const apiKeyColumns = `id, name, role, tenant, student_data, networks, secret_hash, old_hash, old_until, created_at, created_by, expires_at, rotated_at,
	revoked_at, used_at`

func (r *apiKeyRow) key() APIKey {
	k := APIKey{
		ID: r.ID, Name: r.Name, Role: r.Role, Tenant: r.Tenant, StudentData: r.StudentData, Networks: strings.Fields(r.Networks),
		CreatedAt: time.UnixMilli(r.CreatedAt).UTC(), CreatedBy: r.CreatedBy, ExpiresAt: instant(r.ExpiresAt), RotatedAt: instant(r.RotatedAt),
		OldUntil: instant(r.OldUntil), RevokedAt: instant(r.RevokedAt), UsedAt: instant(r.UsedAt),
	}
	copy(k.Hash[:], r.Hash)
	copy(k.OldHash[:], r.OldHash)
	return k
}

func millis(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UnixMilli()
}

// CreateKey keeps a new key and the audit row of it in one transaction (I16). ID, Name, Role, Hash and CreatedBy must be set; the times but ExpiresAt
// are the ledger's. It returns ErrKeyName when the tenant has another key with the name that is not revoked.
func (d *DB) CreateKey(ctx context.Context, k APIKey, act AuditRow) (APIKey, error) {
	var row apiKeyRow
	err := d.transact(ctx, func(tx *sqlx.Tx) error {
		err := tx.GetContext(ctx, &row, d.bind(`INSERT INTO api_key (id, name, role, tenant, student_data, networks, secret_hash, created_at, created_by, expires_at)
			VALUES (?, ?, ?, ?, ?, ?, ?, `+d.store.words().now+`, ?, ?) ON CONFLICT (tenant, name) WHERE revoked_at IS NULL DO NOTHING RETURNING `+apiKeyColumns),
			k.ID, k.Name, k.Role, k.Tenant, k.StudentData, strings.Join(k.Networks, " "), k.Hash[:], d.now(), k.CreatedBy, millis(k.ExpiresAt))
		if errors.Is(err, sql.ErrNoRows) {
			return ErrKeyName
		}
		if err != nil {
			return err
		}
		return d.audit(ctx, tx, act)
	})
	if err != nil {
		return APIKey{}, fmt.Errorf("create key: %w", err)
	}
	return row.key(), nil
}

// APIKeys returns all keys, revoked ones too, by tenant and name.
func (d *DB) APIKeys(ctx context.Context) ([]APIKey, error) {
	var rows []apiKeyRow
	if err := d.store.reads().SelectContext(ctx, &rows, `SELECT `+apiKeyColumns+` FROM api_key ORDER BY tenant, name, created_at, id`); err != nil {
		return nil, fmt.Errorf("read keys: %w", err)
	}
	out := make([]APIKey, len(rows))
	for i := range rows {
		out[i] = rows[i].key()
	}
	return out, nil
}

// APIKey returns one key, revoked ones too, or ErrNotFound.
func (d *DB) APIKey(ctx context.Context, id string) (APIKey, error) {
	var row apiKeyRow
	err := d.store.reads().GetContext(ctx, &row, d.bind(`SELECT `+apiKeyColumns+` FROM api_key WHERE id = ?`), id)
	if errors.Is(err, sql.ErrNoRows) {
		err = ErrNotFound
	}
	if err != nil {
		return APIKey{}, fmt.Errorf("read key: %w", err)
	}
	return row.key(), nil
}

// RotateKey gives a key another secret, whose hash is given. The one it had opens it until the overlap is over; one that was replaced before does not any
// more. It returns ErrNotFound or ErrKeyRevoked. The audit row is part of the transaction (I16).
func (d *DB) RotateKey(ctx context.Context, id string, hash [32]byte, overlap time.Duration, act AuditRow) (APIKey, error) {
	now := d.store.words().now
	return d.changeKey(ctx, "rotate key", id, act, `UPDATE api_key SET old_hash = secret_hash, old_until = `+now+` + ?, secret_hash = ?, rotated_at = `+now+`
		WHERE id = ? AND revoked_at IS NULL RETURNING `+apiKeyColumns, d.now(), max(overlap, 0).Milliseconds(), hash[:], d.now(), id)
}

// RevokeKey ends a key, and the sessions that were opened with it, for good. It returns ErrNotFound, or ErrKeyRevoked when it was before. The audit row
// is part of the transaction (I16).
func (d *DB) RevokeKey(ctx context.Context, id string, act AuditRow) (APIKey, error) {
	return d.changeKey(ctx, "revoke key", id, act, `UPDATE api_key SET revoked_at = `+d.store.words().now+` WHERE id = ? AND revoked_at IS NULL
		RETURNING `+apiKeyColumns, d.now(), id)
}

func (d *DB) changeKey(ctx context.Context, what, id string, act AuditRow, update string, args ...any) (APIKey, error) {
	var row apiKeyRow
	err := d.transact(ctx, func(tx *sqlx.Tx) error {
		err := tx.GetContext(ctx, &row, d.bind(update), args...)
		if errors.Is(err, sql.ErrNoRows) {
			err = tx.GetContext(ctx, &row, d.bind(`SELECT `+apiKeyColumns+` FROM api_key WHERE id = ?`), id)
			if errors.Is(err, sql.ErrNoRows) {
				return ErrNotFound
			}
			if err == nil {
				return ErrKeyRevoked
			}
		}
		if err != nil {
			return err
		}
		return d.audit(ctx, tx, act)
	})
	if err != nil {
		return APIKey{}, fmt.Errorf("%s: %w", what, err)
	}
	return row.key(), nil
}

// UseKey notes that a key was used now.
func (d *DB) UseKey(ctx context.Context, id string) error {
	if _, err := d.exec(ctx, d.store.writes(), `UPDATE api_key SET used_at = `+d.store.words().now+` WHERE id = ?`, d.now(), id); err != nil {
		return fmt.Errorf("note the use of a key: %w", err)
	}
	return nil
}

// Session is a browser that logged in: by a key, and then it may what the key may, for as long as the key may it; or at an identity provider.
type Session struct {
	Hash        [32]byte // SHA-256 of the token in its cookie
	KeyID       string   // "" = at an identity provider
	Subject     string   // the person's id there; "" = by a key
	Name        string
	Role        string
	Tenant      string
	StudentData bool
	CreatedAt   time.Time // set by the ledger
	ExpiresAt   time.Time
}

// CreateSession keeps a session and the audit row of the log-in in one transaction (I16), and forgets sessions that have ended.
func (d *DB) CreateSession(ctx context.Context, s Session, act AuditRow) error {
	err := d.transact(ctx, func(tx *sqlx.Tx) error {
		now := d.store.words().now
		if _, err := d.exec(ctx, tx, `DELETE FROM session WHERE expires_at <= `+now, d.now()); err != nil {
			return err
		}
		var key any
		if s.KeyID != "" {
			key = s.KeyID
		}
		if _, err := d.exec(ctx, tx, `INSERT INTO session (hash, key_id, subject, name, role, tenant, student_data, created_at, expires_at)
			VALUES (?, ?, ?, ?, ?, ?, ?, `+now+`, ?)`, s.Hash[:], key, s.Subject, s.Name, s.Role, s.Tenant, s.StudentData, d.now(), s.ExpiresAt.UnixMilli()); err != nil {
			return err
		}
		return d.audit(ctx, tx, act)
	})
	if err != nil {
		return fmt.Errorf("open session: %w", err)
	}
	return nil
}

// Session returns the session with that hash, or ErrNotFound: one that has ended, or whose key was revoked or has expired, is none.
func (d *DB) Session(ctx context.Context, hash [32]byte) (Session, error) {
	var row struct {
		KeyID       sql.NullString `db:"key_id"`
		Subject     string         `db:"subject"`
		Name        string         `db:"name"`
		Role        string         `db:"role"`
		Tenant      string         `db:"tenant"`
		StudentData bool           `db:"student_data"`
		CreatedAt   int64          `db:"created_at"`
		ExpiresAt   int64          `db:"expires_at"`
	}
	now := d.store.words().now
	err := d.store.reads().GetContext(ctx, &row, d.bind(`SELECT s.key_id, s.subject, coalesce(k.name, s.name) AS name, coalesce(k.role, s.role) AS role,
		coalesce(k.tenant, s.tenant) AS tenant, coalesce(k.student_data, s.student_data) AS student_data, s.created_at, s.expires_at
		FROM session s LEFT JOIN api_key k ON k.id = s.key_id
		WHERE s.hash = ? AND s.expires_at > `+now+` AND (s.key_id IS NULL OR k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > `+now+`))`),
		hash[:], d.now(), d.now())
	if errors.Is(err, sql.ErrNoRows) {
		err = ErrNotFound
	}
	if err != nil {
		return Session{}, fmt.Errorf("read session: %w", err)
	}
	return Session{
		Hash: hash, KeyID: row.KeyID.String, Subject: row.Subject, Name: row.Name, Role: row.Role, Tenant: row.Tenant, StudentData: row.StudentData,
		CreatedAt: time.UnixMilli(row.CreatedAt).UTC(), ExpiresAt: time.UnixMilli(row.ExpiresAt).UTC(),
	}, nil
}

// EndSession forgets a session. It may be called twice.
func (d *DB) EndSession(ctx context.Context, hash [32]byte) error {
	if _, err := d.exec(ctx, d.store.writes(), `DELETE FROM session WHERE hash = ?`, hash[:]); err != nil {
		return fmt.Errorf("end session: %w", err)
	}
	return nil
}

// AskedRun is the answer to a request with an idempotency key.
type AskedRun struct {
	Owner       string // who sent it
	Key         string
	Fingerprint string // of what was asked for
	RunID       int64
}

// requestsKept is for how long an idempotency key is known.
const requestsKept = 24 * time.Hour

// Asked returns what a request with that key was answered in the last day, or ErrNotFound.
func (d *DB) Asked(ctx context.Context, owner, key string) (AskedRun, error) {
	a := AskedRun{Owner: owner, Key: key}
	err := d.store.reads().QueryRowContext(ctx, d.bind(`SELECT fingerprint, run_id FROM request WHERE owner = ? AND key = ? AND created_at > `+d.store.words().now+` - ?`),
		owner, key, d.now(), requestsKept.Milliseconds()).Scan(&a.Fingerprint, &a.RunID)
	if errors.Is(err, sql.ErrNoRows) {
		err = ErrNotFound
	}
	if err != nil {
		return AskedRun{}, fmt.Errorf("look for an earlier request: %w", err)
	}
	return a, nil
}

// KeepAsked keeps what a request was answered, and returns it; or what another request with the same owner and key was answered before it. It forgets
// what is older than a day.
func (d *DB) KeepAsked(ctx context.Context, a AskedRun) (AskedRun, error) {
	err := d.transact(ctx, func(tx *sqlx.Tx) error {
		now := d.store.words().now
		if _, err := d.exec(ctx, tx, `DELETE FROM request WHERE created_at <= `+now+` - ?`, d.now(), requestsKept.Milliseconds()); err != nil {
			return err
		}
		if _, err := d.exec(ctx, tx, `INSERT INTO request (owner, key, fingerprint, run_id, created_at) VALUES (?, ?, ?, ?, `+now+`) ON CONFLICT (owner, key) DO NOTHING`,
			a.Owner, a.Key, a.Fingerprint, a.RunID, d.now()); err != nil {
			return err
		}
		return tx.QueryRowContext(ctx, d.bind(`SELECT fingerprint, run_id FROM request WHERE owner = ? AND key = ?`), a.Owner, a.Key).Scan(&a.Fingerprint, &a.RunID)
	})
	if err != nil {
		return AskedRun{}, fmt.Errorf("keep a request: %w", err)
	}
	return a, nil
}
