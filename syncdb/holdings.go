package syncdb

import (
	"context"
	"fmt"

	"github.com/jmoiron/sqlx"
)

// Holdings are what the ledger knows at the target for a connection, whether or not that is defined anywhere.
type Holdings struct {
	Owned     int64             `json:"owned"`               // records the connection created or adopted, those whose last call was not answered among them
	Met       int64             `json:"met,omitempty"`       // records that were at the target before its first call: never its to delete (I9)
	CutOff    int64             `json:"cutOff,omitempty"`    // calls of a run that was cut off and that no run has settled: each may have made a record
	Resources []ResourceHolding `json:"resources,omitempty"` // those of Owned, by resource
}

// ResourceHolding is how many records of one resource there are.
type ResourceHolding struct {
	Resource string `json:"resource" db:"path"`
	Owned    int64  `json:"owned" db:"owned"`
	Met      int64  `json:"-" db:"met"`
}

// None reports whether the connection has nothing at the target that is its to remove.
func (h Holdings) None() bool { return h.Owned+h.CutOff == 0 }

// HoldingsOf counts what the ledger knows at the target for a connection; nothing for one it does not know. It reads all entries of the connection.
func (d *DB) HoldingsOf(ctx context.Context, tenant, name string) (Holdings, error) {
	var out Holdings
	var rows []ResourceHolding
	err := d.store.reads().SelectContext(ctx, &rows, d.bind(`SELECT r.path, sum(CASE WHEN e.origin = ? THEN 0 ELSE 1 END) AS owned, sum(CASE WHEN e.origin = ? THEN 1 ELSE 0 END) AS met
		FROM connection AS c JOIN entry AS e ON e.connection_id = c.id JOIN resource AS r ON r.id = e.resource_id
		WHERE c.tenant = ? AND c.name = ? AND e.state <> ? GROUP BY r.path ORDER BY r.path`), int(Met), int(Met), tenant, name, int(Missing))
	if err == nil {
		err = d.store.reads().GetContext(ctx, &out.CutOff, d.bind(`SELECT coalesce(sum(j.intents), 0) FROM journal AS j JOIN connection AS c ON c.id = j.connection_id
			WHERE c.tenant = ? AND c.name = ?`), tenant, name)
	}
	if err != nil {
		return Holdings{}, fmt.Errorf("count what connection %s has at the target: %w", name, err)
	}
	for _, r := range rows {
		out.Owned, out.Met = out.Owned+r.Owned, out.Met+r.Met
		if r.Owned > 0 {
			out.Resources = append(out.Resources, r)
		}
	}
	return out, nil
}

// Forget drops what the ledger knows of the records of a connection that is defined nowhere in it any more, as a Change with Forget does. It returns a
// *RunningError while the connection runs, and ErrVersion when it is defined after all. Its audit row is part of the transaction (I16). Nothing is sent.
func (d *DB) Forget(ctx context.Context, tenant, name string, act AuditRow) error {
	err := d.transact(ctx, func(tx *sqlx.Tx) error {
		current, err := d.currentVersion(ctx, tx, tenant, name)
		if err == nil && current.Definition.Valid {
			err = ErrVersion
		}
		if err == nil {
			err = d.stop(ctx, tx, tenant, name)
		}
		if err == nil {
			err = d.forget(ctx, tx, tenant, name)
		}
		if err != nil {
			return err
		}
		return d.audit(ctx, tx, act)
	})
	if err != nil {
		return fmt.Errorf("forget the records of connection %s: %w", name, err)
	}
	return nil
}

// forget drops everything that is about records of a connection: a later one of that name begins as if it had never sent anything, and never deletes what
// this one made (I9). Runs, receipts and the audit trail stay.
func (d *DB) forget(ctx context.Context, tx *sqlx.Tx, tenant, name string) error {
	var ids []int64 // one, or none
	if err := tx.SelectContext(ctx, &ids, d.bind(`SELECT id FROM connection WHERE tenant = ? AND name = ?`), tenant, name); err != nil || len(ids) == 0 {
		return err
	}
	for _, table := range []string{"journal", "entry", "problem", "issue", "ranking", "plan", "history", "target", "scope"} {
		if _, err := d.exec(ctx, tx, `DELETE FROM `+table+` WHERE connection_id = ?`, ids[0]); err != nil {
			return fmt.Errorf("forget %s: %w", table, err)
		}
	}
	return nil
}
