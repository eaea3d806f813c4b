package syncdb

import (
	"bytes"
	"context"
	"fmt"

	"github.com/jmoiron/sqlx"

	"github.com/edfisync/edfisync/internal/keys"
)

// choose takes the first of the keys into use that the ledger is under, or returns keys.ErrWrongMaster. nil is none.
func (d *DB) choose(check []byte, candidates ...*keys.Master) error {
	for _, m := range candidates {
		if m != nil && bytes.Equal(check, m.Check(d.ledger)) {
			d.master.Store(m)
			return nil
		}
	}
	return keys.ErrWrongMaster
}

// CheckMaster returns keys.ErrWrongMaster when another process has brought the ledger under another master key since it was opened. What is open
// stays open, but nothing can be audited, and so nothing be done, until UseMaster.
func (d *DB) CheckMaster(ctx context.Context) error {
	check, err := d.masterCheck(ctx, d.store.reads(), "")
	if err != nil {
		return err
	}
	return d.choose(check, d.master.Load())
}

// UseMaster takes that of the keys into use which the ledger is under, or returns keys.ErrWrongMaster and changes nothing.
func (d *DB) UseMaster(ctx context.Context, candidates ...*keys.Master) error {
	check, err := d.masterCheck(ctx, d.store.reads(), "")
	if err != nil {
		return err
	}
	return d.choose(check, candidates...)
}

func (d *DB) masterCheck(ctx context.Context, q sqlx.QueryerContext, lock string) (check []byte, err error) {
	if err := sqlx.GetContext(ctx, q, &check, `SELECT master_check FROM meta`+lock); err != nil {
		return nil, fmt.Errorf("read check value of the master key: %w", err)
	}
	return check, nil
}

// newDataKey makes a data key in the transaction that keeps it. A process that still has the old master key after a Rekey makes none.
func (d *DB) newDataKey(ctx context.Context, tx *sqlx.Tx, context []byte) ([]byte, error) {
	check, err := d.masterCheck(ctx, tx, d.store.words().share)
	if err != nil {
		return nil, err
	}
	master := d.master.Load()
	if !bytes.Equal(check, master.Check(d.ledger)) {
		return nil, keys.ErrWrongMaster
	}
	return master.NewDataKey(context), nil
}

// Rekey wraps every data key of the ledger by another master key, in one transaction with its audit row (I16), and goes on under that. What is sealed
// stays as it is: the data keys are the same. done is false when the ledger was under that key already, so that it can be repeated whatever became of
// the call before; then nothing is written. Processes that have the old key need UseMaster.
func (d *DB) Rekey(ctx context.Context, to *keys.Master, act AuditRow) (dataKeys int, done bool, err error) {
	err = d.transact(ctx, func(tx *sqlx.Tx) error {
		dataKeys, done = 0, false
		check, err := d.masterCheck(ctx, tx, d.store.words().lock)
		if err != nil {
			return err
		}
		from := d.master.Load()
		switch {
		case bytes.Equal(check, to.Check(d.ledger)):
			return nil
		case !bytes.Equal(check, from.Check(d.ledger)):
			return keys.ErrWrongMaster
		}
		if err := d.audit(ctx, tx, act); err != nil { // it makes the chain's key if there is none yet
			return err
		}
		if dataKeys, err = d.rewrap(ctx, tx, from, to); err != nil {
			return err
		}
		done = true
		_, err = d.exec(ctx, tx, `UPDATE meta SET master_check = ?`, to.Check(d.ledger))
		return err
	})
	if err != nil {
		return 0, false, fmt.Errorf("bring the ledger under another master key: %w", err)
	}
	d.master.Store(to)
	return dataKeys, done, nil
}

// rewrap wraps the keys of connections, tenants and the audit chain anew.
func (d *DB) rewrap(ctx context.Context, tx *sqlx.Tx, from, to *keys.Master) (n int, err error) {
	again := func(wrapped, context []byte, update string, args ...any) error {
		fresh, err := from.Rewrap(wrapped, context, to)
		if err != nil {
			return err
		}
		n++
		_, err = d.exec(ctx, tx, update, append([]any{fresh}, args...)...)
		return err
	}
	var connections []struct {
		ID      int64  `db:"id"`
		Tenant  string `db:"tenant"`
		Name    string `db:"name"`
		DataKey []byte `db:"data_key"`
	}
	if err := tx.SelectContext(ctx, &connections, `SELECT id, tenant, name, data_key FROM connection ORDER BY id`); err != nil {
		return 0, err
	}
	for _, c := range connections {
		if err := again(c.DataKey, d.keyContext(c.Tenant, c.Name), `UPDATE connection SET data_key = ? WHERE id = ?`, c.ID); err != nil {
			return 0, fmt.Errorf("data key of connection %s: %w", c.Name, err)
		}
	}
	var tenants []struct {
		Tenant  string `db:"tenant"`
		DataKey []byte `db:"data_key"`
	}
	if err := tx.SelectContext(ctx, &tenants, `SELECT tenant, data_key FROM tenant_key ORDER BY tenant`); err != nil {
		return 0, err
	}
	for _, t := range tenants {
		if err := again(t.DataKey, d.tenantContext(t.Tenant), `UPDATE tenant_key SET data_key = ? WHERE tenant = ?`, t.Tenant); err != nil {
			return 0, fmt.Errorf("data key of tenant %s: %w", t.Tenant, err)
		}
	}
	var head []byte
	if err := tx.GetContext(ctx, &head, `SELECT data_key FROM audit_head`); err != nil {
		return 0, err
	}
	if err := again(head, d.auditContext(), `UPDATE audit_head SET data_key = ?`); err != nil {
		return 0, fmt.Errorf("data key of the audit chain: %w", err)
	}
	return n, nil
}
