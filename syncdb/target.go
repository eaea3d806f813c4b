package syncdb

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/edfisync/edfisync/internal/failpoint"
)

// Target returns what is remembered of the connection's target; the zero value when nothing is yet.
func (d *DB) Target(ctx context.Context, connID int64) (TargetState, error) {
	var t TargetState
	var updated int64
	err := d.store.reads().QueryRowContext(ctx, d.bind(`SELECT change_version, alarm, alarm_run, updated_at FROM target WHERE connection_id = ?`),
		connID).Scan(&t.ChangeVersion, &t.Alarm, &t.AlarmRun, &updated)
	if errors.Is(err, sql.ErrNoRows) {
		return TargetState{}, nil
	}
	if err != nil {
		return TargetState{}, fmt.Errorf("read target state: %w", err)
	}
	t.UpdatedAt = time.UnixMilli(updated).UTC()
	return t, nil
}

// Alarm is a standing alarm of a connection's target.
type Alarm struct {
	Tenant, Name string // of the connection
	TargetState
}

// Alarms returns the standing alarms of all connections, by tenant and name. It makes no connection known.
func (d *DB) Alarms(ctx context.Context) ([]Alarm, error) {
	rows, err := d.store.reads().QueryContext(ctx, d.bind(`SELECT c.tenant, c.name, t.change_version, t.alarm, t.alarm_run, t.updated_at
		FROM target t JOIN connection c ON c.id = t.connection_id WHERE t.alarm <> ? ORDER BY c.tenant, c.name`), "")
	if err != nil {
		return nil, fmt.Errorf("read alarms: %w", err)
	}
	defer rows.Close()
	var out []Alarm
	for rows.Next() {
		var a Alarm
		var updated int64
		if err := rows.Scan(&a.Tenant, &a.Name, &a.ChangeVersion, &a.Alarm, &a.AlarmRun, &updated); err != nil {
			return nil, fmt.Errorf("read alarms: %w", err)
		}
		a.UpdatedAt = time.UnixMilli(updated).UTC()
		out = append(out, a)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read alarms: %w", err)
	}
	return out, nil
}

// SetTarget replaces it, as a whole; UpdatedAt is set by the ledger. It returns ErrFenced when the lease is lost (I7).
func (d *DB) SetTarget(ctx context.Context, l Lease, t TargetState) error {
	failpoint.Reach(failpoint.TargetBefore, "", "")
	err := d.fenced(ctx, l, func(tx *sqlx.Tx) error {
		_, err := d.exec(ctx, tx, `INSERT INTO target (connection_id, change_version, alarm, alarm_run, updated_at)
			VALUES (?, ?, ?, ?, `+d.store.words().now+`) ON CONFLICT (connection_id) DO UPDATE SET change_version = excluded.change_version,
			alarm = excluded.alarm, alarm_run = excluded.alarm_run, updated_at = excluded.updated_at`,
			l.ConnectionID, t.ChangeVersion, t.Alarm, t.AlarmRun, d.now())
		return err
	})
	if err != nil {
		return fmt.Errorf("set target state: %w", err)
	}
	failpoint.Reach(failpoint.TargetAfter, "", "")
	return nil
}

// Check returns an error when the receipt is not one of that run. Whether its document is a receipt as it was signed is for who reads it to find out.
func (r *Receipt) Check(runID int64) error {
	if r.RunID != runID {
		return fmt.Errorf("the receipt of run %d cannot be saved by run %d", r.RunID, runID)
	}
	return nil
}

// SaveReceipt keeps the receipt of the lease's run, byte for byte; At is to the millisecond, and the ledger's time when zero. Saving the same
// document again changes nothing; another one is refused with ErrReceiptKept. It returns ErrFenced when the lease is lost (I7).
func (d *DB) SaveReceipt(ctx context.Context, l Lease, r Receipt) error {
	failpoint.Reach(failpoint.ReceiptBefore, "", "")
	err := r.Check(l.RunID)
	if err == nil {
		err = d.fenced(ctx, l, func(tx *sqlx.Tx) error {
			at := any(r.At.UnixMilli())
			if r.At.IsZero() {
				now, err := d.clock(ctx, tx)
				if err != nil {
					return err
				}
				at = now.UnixMilli()
			}
			n, err := d.exec(ctx, tx, `INSERT INTO receipt (run_id, connection_id, at, document) VALUES (?, ?, ?, ?) ON CONFLICT (run_id) DO NOTHING`,
				r.RunID, l.ConnectionID, at, string(r.Document))
			if err != nil || n > 0 {
				return err
			}
			var kept string
			if err := tx.GetContext(ctx, &kept, d.bind(`SELECT document FROM receipt WHERE run_id = ?`), r.RunID); err != nil {
				return err
			}
			if kept != string(r.Document) {
				return ErrReceiptKept
			}
			return nil
		})
	}
	if err != nil {
		return fmt.Errorf("save receipt: %w", err)
	}
	failpoint.Reach(failpoint.ReceiptAfter, "", "")
	return nil
}

type receiptRow struct {
	RunID    int64  `db:"run_id"`
	At       int64  `db:"at"`
	Document string `db:"document"`
}

func (r *receiptRow) receipt() Receipt {
	return Receipt{RunID: r.RunID, At: time.UnixMilli(r.At).UTC(), Document: json.RawMessage(r.Document)}
}

// Receipts returns the connection's receipts, newest first, at most limit of them; 0 means all.
func (d *DB) Receipts(ctx context.Context, connID int64, limit int) ([]Receipt, error) {
	return d.ReceiptsBefore(ctx, connID, 0, limit)
}

// ReceiptOf returns the receipt of one run of the connection, or ErrNotFound.
func (d *DB) ReceiptOf(ctx context.Context, connID, runID int64) (Receipt, error) {
	var row receiptRow
	err := d.store.reads().GetContext(ctx, &row, d.bind(`SELECT run_id, at, document FROM receipt WHERE connection_id = ? AND run_id = ?`),
		connID, runID)
	if errors.Is(err, sql.ErrNoRows) {
		err = ErrNotFound
	}
	if err != nil {
		return Receipt{}, fmt.Errorf("read receipt of run %d: %w", runID, err)
	}
	return row.receipt(), nil
}
