package syncdb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/jmoiron/sqlx"
)

// AlertMute says that nobody is told of alerts for a while.
type AlertMute struct {
	ID           int64     `json:"id"`
	Tenant       string    `json:"-"` // "" = every one
	ConnectionID int64     `json:"-"` // 0 = all of the tenant
	Condition    string    `json:"condition,omitempty"`
	Who          string    `json:"who"`
	Why          string    `json:"why"` // no student values
	At           time.Time `json:"at"`
	Until        time.Time `json:"until"`
}

// Covers reports whether the mute is about a condition of a connection of a tenant.
func (m *AlertMute) Covers(tenant string, connection int64, condition string) bool {
	return (m.Tenant == "" || m.Tenant == tenant) && (m.ConnectionID == 0 || m.ConnectionID == connection) && (m.Condition == "" || m.Condition == condition)
}

type muteRow struct {
	ID           int64  `db:"id"`
	Tenant       string `db:"tenant"`
	ConnectionID int64  `db:"connection_id"`
	Condition    string `db:"condition"`
	Who          string `db:"who"`
	Why          string `db:"why"`
	At           int64  `db:"created_at"`
	Until        int64  `db:"until"`
}

func (r *muteRow) mute() AlertMute {
	return AlertMute{r.ID, r.Tenant, r.ConnectionID, r.Condition, r.Who, r.Why, time.UnixMilli(r.At).UTC(), time.UnixMilli(r.Until).UTC()}
}

const muteColumns = `id, tenant, connection_id, condition, who, why, created_at, until`

// SetMute begins a mute and writes who did it to the audit trail in the same transaction (I16). ID and At of m are the ledger's.
func (d *DB) SetMute(ctx context.Context, m AlertMute, act AuditRow) (AlertMute, error) {
	var row muteRow
	err := d.transact(ctx, func(tx *sqlx.Tx) error {
		if err := tx.GetContext(ctx, &row, d.bind(`INSERT INTO alert_mute (tenant, connection_id, condition, who, why, created_at, until)
			VALUES (?, ?, ?, ?, ?, `+d.store.words().now+`, ?) RETURNING `+muteColumns),
			m.Tenant, m.ConnectionID, m.Condition, m.Who, m.Why, d.now(), m.Until.UnixMilli()); err != nil {
			return err
		}
		act.Object = fmt.Sprintf("mute %d", row.ID)
		return d.audit(ctx, tx, act)
	})
	if err != nil {
		return AlertMute{}, fmt.Errorf("mute alerts: %w", err)
	}
	return row.mute(), nil
}

// Mute returns a mute, also one that is over, or ErrNotFound.
func (d *DB) Mute(ctx context.Context, id int64) (AlertMute, error) {
	var row muteRow
	err := d.store.reads().GetContext(ctx, &row, d.bind(`SELECT `+muteColumns+` FROM alert_mute WHERE id = ?`), id)
	if errors.Is(err, sql.ErrNoRows) {
		err = ErrNotFound
	}
	if err != nil {
		return AlertMute{}, fmt.Errorf("read mute %d: %w", id, err)
	}
	return row.mute(), nil
}

// Mutes returns the mutes that are not over, the newest first.
func (d *DB) Mutes(ctx context.Context) ([]AlertMute, error) {
	var rows []muteRow
	if err := d.store.reads().SelectContext(ctx, &rows, d.bind(`SELECT `+muteColumns+` FROM alert_mute WHERE until > `+d.store.words().now+` ORDER BY id DESC`),
		d.now()); err != nil {
		return nil, fmt.Errorf("read mutes: %w", err)
	}
	out := make([]AlertMute, len(rows))
	for i := range rows {
		out[i] = rows[i].mute()
	}
	return out, nil
}

// EndMute ends a mute at once and writes who did it to the audit trail in the same transaction (I16). It returns ErrNotFound when there is none with that
// number, or it is over.
func (d *DB) EndMute(ctx context.Context, id int64, act AuditRow) error {
	err := d.transact(ctx, func(tx *sqlx.Tx) error {
		now := d.store.words().now
		n, err := d.exec(ctx, tx, `UPDATE alert_mute SET until = `+now+` WHERE id = ? AND until > `+now, d.now(), id, d.now())
		if err != nil {
			return err
		}
		if n == 0 {
			return ErrNotFound
		}
		act.Object = fmt.Sprintf("mute %d", id)
		return d.audit(ctx, tx, act)
	})
	if err != nil {
		return fmt.Errorf("end mute %d: %w", id, err)
	}
	return nil
}
