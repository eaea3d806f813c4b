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

// Connections returns all connections of the ledger, by tenant and name. Their keys are opened by Connection.
func (d *DB) Connections(ctx context.Context) ([]Connection, error) {
	var rows []struct {
		ID     int64  `db:"id"`
		Tenant string `db:"tenant"`
		Name   string `db:"name"`
	}
	if err := d.store.reads().SelectContext(ctx, &rows, `SELECT id, tenant, name FROM connection ORDER BY tenant, name`); err != nil {
		return nil, fmt.Errorf("read connections: %w", err)
	}
	out := make([]Connection, len(rows))
	for i, r := range rows {
		out[i] = Connection{ID: r.ID, Tenant: r.Tenant, Name: r.Name}
	}
	return out, nil
}

// OpenRun is a run that waits or runs, with what decides whether it may begin.
type OpenRun struct {
	Run
	Age  time.Duration // since it was asked for, by the database's clock
	Lost bool          // it runs, and the lease of its process ended longer than the grace ago: StartRun can take over

	Holder string // of the lease of a run that runs

	Asked       bool // by a person or a program, at first or later; not by a schedule alone
	Paused      bool // its connection
	PausedUntil time.Time
	Failing     Failing
	Limits      Limits
}

// OpenRuns returns the runs of all connections that wait or run, oldest first.
func (d *DB) OpenRuns(ctx context.Context) ([]OpenRun, error) {
	var rows []struct {
		runRow
		ExpiresAt  sql.NullInt64  `db:"expires_at"`
		Holder     sql.NullString `db:"holder"`
		Now        int64          `db:"now"`
		PausedAt   sql.NullInt64  `db:"paused_at"`
		ResumeAt   sql.NullInt64  `db:"resume_at"`
		Failures   int            `db:"failures"`
		FailedAt   sql.NullInt64  `db:"failed_at"`
		Target     string         `db:"target_place"`
		TargetRuns int            `db:"target_runs"`
		Source     string         `db:"source_place"`
		SourceRuns int            `db:"source_runs"`
	}
	one := `SELECT run.id, run.connection_id, run.state, run.reason, run.errand, run.scope, run.created_at, run.started_at, run.ended_at, run.totals, run.error, run.failure,
		run.asked, run.waits_for, run.waits_until, run.waits_at, lease.expires_at, lease.holder, ` + d.store.words().now + ` AS now,
		c.paused_at, c.resume_at, c.failures, c.failed_at, c.target_place, c.target_runs, c.source_place, c.source_runs
		FROM run JOIN connection c ON c.id = run.connection_id
		LEFT JOIN lease ON lease.connection_id = run.connection_id AND lease.run_id = run.id WHERE run.state = `
	query := one + `'waiting' UNION ALL ` + one + `'running' ORDER BY 1` // a partial index each
	if err := d.store.reads().SelectContext(ctx, &rows, d.bind(query), d.now(), d.now()); err != nil {
		return nil, fmt.Errorf("read open runs: %w", err)
	}
	open := make([]OpenRun, len(rows))
	for i, r := range rows {
		open[i] = OpenRun{
			Run: r.run(), Age: time.Duration(r.Now-r.CreatedAt) * time.Millisecond, Holder: r.Holder.String, Asked: r.Asked != 0,
			Failing: Failing{Runs: r.Failures, At: instant(r.FailedAt)},
			Limits:  Limits{Target: Place{r.Target, r.TargetRuns}, Source: Place{r.Source, r.SourceRuns}},
		}
		if r.PausedAt.Valid && (!r.ResumeAt.Valid || r.ResumeAt.Int64 > r.Now) {
			open[i].Paused, open[i].PausedUntil = true, instant(r.ResumeAt)
		}
		// A run without a lease was released by a process that died before it could say how the run ended.
		open[i].Lost = r.State == string(RunRunning) && (!r.ExpiresAt.Valid || r.ExpiresAt.Int64+d.grace.Load() <= r.Now)
	}
	return open, nil
}

// RequestRecovery is RequestScoped for the connection and the scope of a run that lost its process, as long as that run looks running; asked is false when
// it does not any more, or when a run waits already, whose scope becomes the union. Of the processes that notice a loss one asks. Nobody goes on with an
// errand: it is failed with LostErrand as soon as its lease can be taken over, so that it does not look running for ever (I20).
func (d *DB) RequestRecovery(ctx context.Context, lost Run) (run Run, asked bool, err error) {
	if lost.Errand {
		return Run{}, false, d.bury(ctx, lost.ConnectionID)
	}
	var row runRow
	err = d.transact(ctx, func(tx *sqlx.Tx) error {
		var now runRow
		asked = false
		err := tx.GetContext(ctx, &now, d.bind(`SELECT `+runColumns+` FROM run WHERE id = ?`+d.store.words().lock), lost.ID)
		if errors.Is(err, sql.ErrNoRows) || err == nil && now.State != string(RunRunning) {
			return nil
		}
		if err != nil {
			return err
		}
		var joined bool
		row, joined, _, err = d.ask(ctx, tx, now.ConnectionID, "recovery", now.Scope)
		asked = !joined
		return err
	})
	if err != nil {
		return Run{}, false, fmt.Errorf("request a run that takes over: %w", err)
	}
	if !asked {
		return Run{}, false, nil
	}
	return row.run(), true, nil
}

// bury ends what a lost process left running, without a run that takes over.
func (d *DB) bury(ctx context.Context, connID int64) error {
	err := d.transact(ctx, func(tx *sqlx.Tx) error {
		lost, err := d.retire(ctx, tx, connID)
		if err != nil {
			return err
		}
		return d.again(ctx, tx, connID, lost) // the errand was seen to, and another run was lost since
	})
	var busy *BusyError
	if err == nil || errors.As(err, &busy) {
		return nil
	}
	return fmt.Errorf("end a lost errand: %w", err)
}

// Tick is RequestRun for a tick of the connection's schedule. Of the processes that keep the schedule one asks; the others, and those that come later
// with the same tick or an older one, get fired = false. When a run waits already the tick is kept, and the run is that one: it sends all that changed
// then (F64).
func (d *DB) Tick(ctx context.Context, connID int64, tick time.Time, reason string) (run Run, fired bool, err error) {
	var row runRow
	err = d.transact(ctx, func(tx *sqlx.Tx) error {
		row, fired = runRow{}, false
		n, err := d.exec(ctx, tx, `UPDATE connection SET ticked_at = ? WHERE id = ? AND (ticked_at IS NULL OR ticked_at < ?)`,
			tick.UnixMilli(), connID, tick.UnixMilli())
		if err != nil || n == 0 {
			return err
		}
		fired = true
		asked, joined, _, err := d.ask(ctx, tx, connID, reason, RunScope{})
		if !joined {
			row = asked
		}
		return err
	})
	if err != nil {
		return Run{}, false, fmt.Errorf("keep a tick of the schedule: %w", err)
	}
	return row.run(), fired, nil
}

// Pause says that nothing is sent for a connection for a while.
type Pause struct {
	At    time.Time `json:"at"`
	Who   string    `json:"who"`
	Why   string    `json:"why"`            // no student values
	Until time.Time `json:"until,omitzero"` // zero: until somebody resumes it
}

// SetPause pauses a connection, or resumes it when p is nil, and writes who did it to the audit trail in the same transaction (I16). A run under way
// goes on; Cancel ends it. It may be called twice.
func (d *DB) SetPause(ctx context.Context, connID int64, p *Pause, act AuditRow) error {
	err := d.transact(ctx, func(tx *sqlx.Tx) error {
		var err error
		if p == nil {
			_, err = d.exec(ctx, tx, `UPDATE connection SET paused_at = NULL, paused_by = '', paused_why = '', resume_at = NULL WHERE id = ?`, connID)
		} else {
			var until any
			if !p.Until.IsZero() {
				until = p.Until.UnixMilli()
			}
			_, err = d.exec(ctx, tx, `UPDATE connection SET paused_at = `+d.store.words().now+`, paused_by = ?, paused_why = ?, resume_at = ? WHERE id = ?`,
				d.now(), p.Who, p.Why, until, connID)
		}
		if err != nil {
			return err
		}
		return d.audit(ctx, tx, act)
	})
	if err != nil {
		return fmt.Errorf("pause or resume the connection: %w", err)
	}
	return nil
}

type pauseRow struct {
	ID    int64         `db:"id"`
	At    int64         `db:"paused_at"`
	By    string        `db:"paused_by"`
	Why   string        `db:"paused_why"`
	Until sql.NullInt64 `db:"resume_at"`
}

func (r *pauseRow) pause() Pause {
	return Pause{At: time.UnixMilli(r.At).UTC(), Who: r.By, Why: r.Why, Until: instant(r.Until)}
}

func pauseQuery(now string) string {
	return `SELECT id, paused_at, paused_by, paused_why, resume_at FROM connection
		WHERE paused_at IS NOT NULL AND (resume_at IS NULL OR resume_at > ` + now + `)`
}

// Pauses returns the connections that are paused now.
func (d *DB) Pauses(ctx context.Context) (map[int64]Pause, error) {
	var rows []pauseRow
	if err := d.store.reads().SelectContext(ctx, &rows, d.bind(pauseQuery(d.store.words().now)), d.now()); err != nil {
		return nil, fmt.Errorf("read pauses: %w", err)
	}
	out := map[int64]Pause{}
	for i := range rows {
		out[rows[i].ID] = rows[i].pause()
	}
	return out, nil
}

// SaveProgress notes how far the lease's run is; the note is JSON without student values. It is not worth failing a run for.
func (d *DB) SaveProgress(ctx context.Context, runID int64, progress json.RawMessage) error {
	if _, err := d.exec(ctx, d.store.writes(), `UPDATE run SET progress = ?, progress_at = `+d.store.words().now+` WHERE id = ? AND state = 'running'`,
		string(progress), d.now(), runID); err != nil {
		return fmt.Errorf("note how far the run is: %w", err)
	}
	return nil
}

// Progress returns the last note of SaveProgress and when it was made; nil when there is none.
func (d *DB) Progress(ctx context.Context, runID int64) (json.RawMessage, time.Time, error) {
	var row struct {
		Progress sql.NullString `db:"progress"`
		At       sql.NullInt64  `db:"progress_at"`
	}
	if err := d.store.reads().GetContext(ctx, &row, d.bind(`SELECT progress, progress_at FROM run WHERE id = ?`), runID); err != nil {
		return nil, time.Time{}, fmt.Errorf("read how far the run is: %w", err)
	}
	return raw(row.Progress), instant(row.At), nil
}
