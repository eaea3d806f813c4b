package syncdb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/edfisync/edfisync/internal/keys"
)

// Secret is what may be known of a sealed secret. Its value is for OpenSecret only.
type Secret struct {
	Tenant  string    `json:"tenant"`
	Name    string    `json:"name"`
	Version int64     `json:"version"` // +1 each time it is set
	SetAt   time.Time `json:"setAt"`
	SetBy   string    `json:"setBy"`
}

// SecretReference is how a definition refers to a secret of its tenant.
func SecretReference(name string) string { return "${sealed:" + name + "}" }

// SecretUsedError says that connections of the ledger refer to a secret.
type SecretUsedError struct {
	Name        string
	Connections []string
}

func (e *SecretUsedError) Error() string {
	return fmt.Sprintf("connections refer to the secret %s: %s; change or remove them first", e.Name, strings.Join(e.Connections, ", "))
}

// SetSecret keeps a secret of a tenant, sealed under the tenant's data key, in place of the one of that name; whoever opens it next gets the new one.
// The audit row is part of the transaction (I16); the value is in neither (I15).
func (d *DB) SetSecret(ctx context.Context, tenant, name string, value []byte, act AuditRow) (Secret, error) {
	var out Secret
	err := d.transact(ctx, func(tx *sqlx.Tx) (err error) {
		if out, err = d.setSecret(ctx, tx, tenant, name, value, act.Who); err != nil {
			return err
		}
		return d.audit(ctx, tx, act)
	})
	if err != nil {
		return Secret{}, fmt.Errorf("keep secret %s: %w", name, err)
	}
	return out, nil
}

func (d *DB) setSecret(ctx context.Context, tx *sqlx.Tx, tenant, name string, value []byte, who string) (Secret, error) {
	ring, err := d.tenantRing(ctx, tx, tenant, true)
	if err != nil {
		return Secret{}, err
	}
	var row secretRow
	now := d.store.words().now
	err = tx.GetContext(ctx, &row, d.bind(`INSERT INTO secret (tenant, name, sealed, version, set_at, set_by) VALUES (?, ?, ?, 1, `+now+`, ?)
		ON CONFLICT (tenant, name) DO UPDATE SET sealed = excluded.sealed, version = secret.version + 1, set_at = excluded.set_at, set_by = excluded.set_by
		RETURNING `+secretColumns), tenant, name, ring.Seal(nil, value, secretAAD(tenant, name)), d.now(), who)
	return row.secret(), err
}

// OpenSecret returns the value of a secret, for the one who needs it to call a source or a target, or ErrNotFound. It must go nowhere else (I15).
func (d *DB) OpenSecret(ctx context.Context, tenant, name string) ([]byte, error) {
	var sealed []byte
	err := d.store.reads().GetContext(ctx, &sealed, d.bind(`SELECT sealed FROM secret WHERE tenant = ? AND name = ?`), tenant, name)
	if errors.Is(err, sql.ErrNoRows) {
		err = ErrNotFound
	}
	var ring *keys.Ring
	if err == nil {
		ring, err = d.tenantRing(ctx, d.store.reads(), tenant, false)
	}
	var value []byte
	if err == nil {
		value, err = ring.Open(nil, sealed, secretAAD(tenant, name))
	}
	if err != nil {
		return nil, fmt.Errorf("open secret %s: %w", name, err)
	}
	return value, nil
}

// Secrets lists the secrets of a tenant, or of all with "", by tenant and name.
func (d *DB) Secrets(ctx context.Context, tenant string) ([]Secret, error) {
	var rows []secretRow
	err := d.store.reads().SelectContext(ctx, &rows, d.bind(`SELECT `+secretColumns+` FROM secret WHERE ? IN ('', tenant) ORDER BY tenant, name`), tenant)
	if err != nil {
		return nil, fmt.Errorf("read secrets: %w", err)
	}
	out := make([]Secret, len(rows))
	for i := range rows {
		out[i] = rows[i].secret()
	}
	return out, nil
}

// RemoveSecret removes a secret. It returns ErrNotFound, and a *SecretUsedError while a definition refers to it. The audit row is part of the
// transaction (I16).
func (d *DB) RemoveSecret(ctx context.Context, tenant, name string, act AuditRow) error {
	err := d.transact(ctx, func(tx *sqlx.Tx) error {
		n, err := d.exec(ctx, tx, `DELETE FROM secret WHERE tenant = ? AND name = ?`, tenant, name)
		if err != nil {
			return err
		}
		if n == 0 {
			return ErrNotFound
		}
		all, err := d.definitions(ctx, tx, `AND tenant = ?`, tenant)
		if err != nil {
			return err
		}
		used := &SecretUsedError{Name: name}
		for _, def := range all {
			if strings.Contains(string(def.Text), SecretReference(name)) {
				used.Connections = append(used.Connections, def.Name)
			}
		}
		if len(used.Connections) > 0 {
			return used
		}
		return d.audit(ctx, tx, act)
	})
	if err != nil {
		return fmt.Errorf("remove secret %s: %w", name, err)
	}
	return nil
}

type secretRow struct {
	Tenant  string `db:"tenant"`
	Name    string `db:"name"`
	Version int64  `db:"version"`
	SetAt   int64  `db:"set_at"`
	SetBy   string `db:"set_by"`
}

const secretColumns = `tenant, name, version, set_at, set_by`

func (r *secretRow) secret() Secret {
	return Secret{Tenant: r.Tenant, Name: r.Name, Version: r.Version, SetAt: time.UnixMilli(r.SetAt).UTC(), SetBy: r.SetBy}
}

// secretAAD binds a sealed secret to its place (I13).
func secretAAD(tenant, name string) []byte {
	return appendBytes(appendBytes([]byte("secret\x00"), tenant), name)
}

// tenantContext binds a tenant's wrapped data key to its ledger and tenant (I13).
func (d *DB) tenantContext(tenant string) []byte {
	return append(append([]byte("tenant"), d.ledger...), tenant...)
}

// tenantRing opens the data key of a tenant. With make, which needs a transaction, it is made when there is none.
func (d *DB) tenantRing(ctx context.Context, q sqlx.QueryerContext, tenant string, create bool) (*keys.Ring, error) {
	var wrapped []byte
	find := func() error {
		return sqlx.GetContext(ctx, q, &wrapped, d.bind(`SELECT data_key FROM tenant_key WHERE tenant = ?`), tenant)
	}
	err := find()
	if tx, ok := q.(*sqlx.Tx); ok && create && errors.Is(err, sql.ErrNoRows) {
		fresh, err := d.newDataKey(ctx, tx, d.tenantContext(tenant))
		if err != nil {
			return nil, err
		}
		if _, err := d.exec(ctx, tx, `INSERT INTO tenant_key (tenant, data_key) VALUES (?, ?) ON CONFLICT DO NOTHING`, tenant, fresh); err != nil {
			return nil, err
		}
		if err := find(); err != nil {
			return nil, err
		}
	} else if err != nil {
		return nil, err
	}
	ring, err := d.master.Load().Ring(wrapped, d.tenantContext(tenant), 1)
	if err != nil {
		return nil, fmt.Errorf("open data key of tenant %s: %w", tenant, err)
	}
	return ring, nil
}
