package syncdb

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jmoiron/sqlx"
)

// Alert is a condition of a connection, or of the ledger as a whole, that was seen at least once.
type Alert struct {
	ConnectionID int64 // 0 = of the ledger as a whole
	Condition    string
	Firing       bool
	Told         bool      // receivers were told last that it fires
	Since        time.Time // it fires, or does not
	Turning      time.Time // since when the facts say otherwise, while that is not believed yet; zero = they do not
	Detail       string    // no student values
	Version      int64     // 0 = not kept yet
}

type alertRow struct {
	ConnectionID int64         `db:"connection_id"`
	Condition    string        `db:"condition"`
	Firing       bool          `db:"firing"`
	Told         bool          `db:"told"`
	Since        int64         `db:"since"`
	Turning      sql.NullInt64 `db:"turning"`
	Detail       string        `db:"detail"`
	Version      int64         `db:"version"`
}

// Alerts returns all alerts that were ever seen, by connection and condition.
func (d *DB) Alerts(ctx context.Context) ([]Alert, error) {
	var rows []alertRow
	if err := d.store.reads().SelectContext(ctx, &rows, `SELECT connection_id, condition, firing, told, since, turning, detail, version FROM alert
		ORDER BY connection_id, condition`); err != nil {
		return nil, fmt.Errorf("read alerts: %w", err)
	}
	out := make([]Alert, len(rows))
	for i, r := range rows {
		out[i] = Alert{r.ConnectionID, r.Condition, r.Firing, r.Told, time.UnixMilli(r.Since).UTC(), instant(r.Turning), r.Detail, r.Version}
	}
	return out, nil
}

// AlertNotice is what receivers are told of a change.
type AlertNotice struct {
	ID           string // receivers know by it that they have it already
	ConnectionID int64
	Condition    string
	Body         json.RawMessage // no student values
	Receivers    []string
}

// ChangeAlert keeps an alert as it is now and, when there is a notice, lays that out for its receivers, in one transaction. Of several processes that
// change the version they read one does so; for the others changed is false, and nothing was done.
func (d *DB) ChangeAlert(ctx context.Context, a Alert, notice *AlertNotice) (changed bool, err error) {
	err = d.transact(ctx, func(tx *sqlx.Tx) error {
		var n int64
		var err error
		if a.Version == 0 {
			n, err = d.exec(ctx, tx, `INSERT INTO alert (connection_id, condition, firing, told, since, turning, detail, version) VALUES (?, ?, ?, ?, ?, ?, ?, 1)
				ON CONFLICT DO NOTHING`, a.ConnectionID, a.Condition, a.Firing, a.Told, a.Since.UnixMilli(), millis(a.Turning), a.Detail)
		} else {
			n, err = d.exec(ctx, tx, `UPDATE alert SET firing = ?, told = ?, since = ?, turning = ?, detail = ?, version = version + 1
				WHERE connection_id = ? AND condition = ? AND version = ?`,
				a.Firing, a.Told, a.Since.UnixMilli(), millis(a.Turning), a.Detail, a.ConnectionID, a.Condition, a.Version)
		}
		changed = n == 1
		if err != nil || !changed || notice == nil {
			return err
		}
		return d.layOut(ctx, tx, notice)
	})
	if err != nil {
		return false, fmt.Errorf("keep an alert: %w", err)
	}
	return changed, nil
}

// layOut writes a notice and what is to be delivered of it.
func (d *DB) layOut(ctx context.Context, tx *sqlx.Tx, n *AlertNotice) error {
	now := d.store.words().now
	var seq int64
	if err := tx.GetContext(ctx, &seq, d.bind(`INSERT INTO alert_notice (id, connection_id, condition, body, created_at) VALUES (?, ?, ?, ?, `+now+`) RETURNING seq`),
		n.ID, n.ConnectionID, n.Condition, string(n.Body), d.now()); err != nil {
		return err
	}
	for _, receiver := range n.Receivers {
		if _, err := d.exec(ctx, tx, `INSERT INTO alert_delivery (receiver, seq, next_at) VALUES (?, ?, `+now+`)`, receiver, seq, d.now()); err != nil {
			return err
		}
	}
	return nil
}

// AlertDelivery is a notice that a receiver has to get.
type AlertDelivery struct {
	Receiver  string
	Seq       int64
	ID        string
	Body      json.RawMessage
	Attempts  int // this one too
	CreatedAt time.Time
}

// ClaimDelivery takes the oldest notice that a receiver did not get, for so long, unless another process is at it or it is not time yet to try again;
// then found is false. Notices of one receiver go one after the other, in their order.
func (d *DB) ClaimDelivery(ctx context.Context, receiver string, lasts time.Duration) (out AlertDelivery, found bool, err error) {
	var row struct {
		Seq       int64  `db:"seq"`
		Attempts  int    `db:"attempts"`
		ID        string `db:"id"`
		Body      string `db:"body"`
		CreatedAt int64  `db:"created_at"`
	}
	now := d.store.words().now
	// Most of the time there is nothing, which a look tells without a write.
	var open int
	if err := d.store.reads().GetContext(ctx, &open, d.bind(`SELECT count(*) FROM alert_delivery WHERE receiver = ? AND ended_at IS NULL AND next_at <= `+now),
		receiver, d.now()); err != nil || open == 0 {
		if err != nil {
			err = fmt.Errorf("look for a notice to deliver: %w", err)
		}
		return AlertDelivery{}, false, err
	}
	err = d.transact(ctx, func(tx *sqlx.Tx) error {
		if err := tx.GetContext(ctx, &row.Seq, d.bind(`UPDATE alert_delivery SET claimed_until = `+now+` + ?, attempts = attempts + 1
			WHERE receiver = ? AND seq = (SELECT min(seq) FROM alert_delivery WHERE receiver = ? AND ended_at IS NULL)
			AND ended_at IS NULL AND next_at <= `+now+` AND claimed_until <= `+now+` RETURNING seq`),
			d.now(), lasts.Milliseconds(), receiver, receiver, d.now(), d.now()); err != nil {
			return err
		}
		return tx.GetContext(ctx, &row, d.bind(`SELECT n.seq, d.attempts, n.id, n.body, n.created_at FROM alert_delivery d JOIN alert_notice n ON n.seq = d.seq
			WHERE d.receiver = ? AND d.seq = ?`), receiver, row.Seq)
	})
	if errors.Is(err, sql.ErrNoRows) {
		return AlertDelivery{}, false, nil
	}
	if err != nil {
		return AlertDelivery{}, false, fmt.Errorf("claim a notice to deliver: %w", err)
	}
	return AlertDelivery{receiver, row.Seq, row.ID, json.RawMessage(row.Body), row.Attempts, time.UnixMilli(row.CreatedAt).UTC()}, true, nil
}

// DeliveryEnd is what came of a claimed delivery.
type DeliveryEnd struct {
	Sent    bool
	GivenUp bool          // it is not tried again
	Again   time.Duration // when it is neither: how long until it is tried again
	Why     string        // of what was not sent; no student values, no secrets
}

// EndDelivery notes what came of a claimed delivery. A process that was too slow, so that another one has claimed it since, changes nothing.
func (d *DB) EndDelivery(ctx context.Context, x AlertDelivery, end DeliveryEnd) error {
	now := d.store.words().now
	outcome := ""
	switch {
	case end.Sent:
		outcome = "sent"
	case end.GivenUp:
		outcome = "given-up"
	}
	var err error
	if outcome != "" {
		_, err = d.exec(ctx, d.store.writes(), `UPDATE alert_delivery SET ended_at = `+now+`, outcome = ?, error = ?, claimed_until = 0
			WHERE receiver = ? AND seq = ? AND attempts = ? AND ended_at IS NULL`, d.now(), outcome, end.Why, x.Receiver, x.Seq, x.Attempts)
	} else {
		_, err = d.exec(ctx, d.store.writes(), `UPDATE alert_delivery SET next_at = `+now+` + ?, error = ?, claimed_until = 0
			WHERE receiver = ? AND seq = ? AND attempts = ? AND ended_at IS NULL`, d.now(), end.Again.Milliseconds(), end.Why, x.Receiver, x.Seq, x.Attempts)
	}
	if err != nil {
		return fmt.Errorf("note what came of a notice: %w", err)
	}
	return nil
}

// PurgeNotices forgets notices that are older than that, delivered or not, and mutes that were over by then, and returns how many notices.
func (d *DB) PurgeNotices(ctx context.Context, age time.Duration) (int64, error) {
	var n int64
	err := d.transact(ctx, func(tx *sqlx.Tx) error {
		var err error
		now := d.store.words().now
		if n, err = d.exec(ctx, tx, `DELETE FROM alert_notice WHERE created_at < `+now+` - ?`, d.now(), age.Milliseconds()); err != nil {
			return err
		}
		_, err = d.exec(ctx, tx, `DELETE FROM alert_mute WHERE until < `+now+` - ?`, d.now(), age.Milliseconds())
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("forget old notices: %w", err)
	}
	return n, nil
}

// AlertFacts is what alerts of a connection are computed from.
type AlertFacts struct {
	Ended     Run       // the newest run that was done or failed, errands aside: who does one sees what becomes of it; zero = none
	Open      bool      // a run waits or is under way
	FreshAsOf time.Time // when the last run began that was done, had no scope, and wrote what it had to; zero = none
	FirstRun  time.Time // when the first run was asked for that is known; zero = none
	Holds     int64     // open ones
	Alarm     string    // why everything is held; "" = it is not
	Paused    bool
	Failures  int // runs that failed since the last that was done
}

// AlertFacts returns the facts of all connections at one moment, and which moment that is by the ledger's clock.
func (d *DB) AlertFacts(ctx context.Context) (facts map[int64]AlertFacts, now time.Time, err error) {
	tx, err := d.store.reads().BeginTxx(ctx, &sql.TxOptions{Isolation: d.store.words().snapshot, ReadOnly: true})
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("read the facts of alerts: %w", err)
	}
	defer tx.Rollback() //nolint:errcheck // nothing was written
	var runs []runRow
	var rows []struct {
		ID       int64         `db:"id"`
		FreshAt  sql.NullInt64 `db:"fresh_at"`
		FirstAt  sql.NullInt64 `db:"first_at"`
		OpenRuns int64         `db:"open_runs"`
		Holds    int64         `db:"holds"`
		Alarm    string        `db:"alarm"`
		Paused   bool          `db:"paused"`
		Failures int           `db:"failures"`
	}
	w := d.store.words()
	if now, err = d.clock(ctx, tx); err == nil {
		err = tx.SelectContext(ctx, &rows, d.bind(`SELECT c.id,
			(SELECT r.started_at FROM run r WHERE r.id = (SELECT max(x.id) FROM run x WHERE x.connection_id = c.id AND x.state = 'done' AND x.error = '' AND `+whole("x")+`)) AS fresh_at,
			(SELECT r.created_at FROM run r WHERE r.id = (SELECT min(x.id) FROM run x WHERE x.connection_id = c.id)) AS first_at,
			(SELECT count(*) FROM run r WHERE r.connection_id = c.id AND r.state = 'waiting') + (SELECT count(*) FROM run r WHERE r.connection_id = c.id AND r.state = 'running') AS open_runs,
			(SELECT count(*) FROM plan p WHERE p.connection_id = c.id AND p.kind = 'hold' AND p.state = 'open') AS holds,
			coalesce((SELECT t.alarm FROM target t WHERE t.connection_id = c.id), '') AS alarm,
			CASE WHEN c.paused_at IS NOT NULL AND (c.resume_at IS NULL OR c.resume_at > `+w.now+`) THEN 1 ELSE 0 END AS paused, c.failures
			FROM connection c`), d.now())
	}
	if err == nil {
		err = tx.SelectContext(ctx, &runs, `SELECT `+runColumns+` FROM run WHERE id IN (
			SELECT (SELECT max(r.id) FROM run r WHERE r.connection_id = c.id AND r.state IN ('done', 'failed') AND r.errand = 0) FROM connection c)`)
	}
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("read the facts of alerts: %w", err)
	}
	facts = make(map[int64]AlertFacts, len(rows))
	for _, r := range rows {
		facts[r.ID] = AlertFacts{Open: r.OpenRuns > 0, FreshAsOf: instant(r.FreshAt), FirstRun: instant(r.FirstAt), Holds: r.Holds, Alarm: r.Alarm, Paused: r.Paused, Failures: r.Failures}
	}
	for i := range runs {
		f := facts[runs[i].ConnectionID]
		f.Ended = runs[i].run()
		facts[runs[i].ConnectionID] = f
	}
	return facts, now, nil
}

// ClaimAuditCheck reports whether it is this process's turn to read the audit trail through: of several that ask within that time one gets it.
func (d *DB) ClaimAuditCheck(ctx context.Context, every time.Duration) (bool, error) {
	now := d.store.words().now
	n, err := d.exec(ctx, d.store.writes(), `UPDATE audit_check SET checked_at = `+now+` WHERE checked_at <= `+now+` - ?`, d.now(), d.now(), every.Milliseconds())
	if err != nil {
		return false, fmt.Errorf("take the turn to check the audit trail: %w", err)
	}
	return n == 1, nil
}

// SaveAuditCheck keeps what VerifyAudit found.
func (d *DB) SaveAuditCheck(ctx context.Context, firstBad int64) error {
	if _, err := d.exec(ctx, d.store.writes(), `UPDATE audit_check SET first_bad = ?`, firstBad); err != nil {
		return fmt.Errorf("keep what the check of the audit trail found: %w", err)
	}
	return nil
}

// AuditCheck returns what the last check of the audit trail found: the first row that is not as it was written, 0 = all are; and when that was, zero =
// it was never checked.
func (d *DB) AuditCheck(ctx context.Context) (firstBad int64, at time.Time, err error) {
	var row struct {
		At  int64 `db:"checked_at"`
		Bad int64 `db:"first_bad"`
	}
	if err := d.store.reads().GetContext(ctx, &row, `SELECT checked_at, first_bad FROM audit_check`); err != nil {
		return 0, time.Time{}, fmt.Errorf("read what the check of the audit trail found: %w", err)
	}
	if row.At != 0 {
		at = time.UnixMilli(row.At).UTC()
	}
	return row.Bad, at, nil
}
