package syncdb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/jmoiron/sqlx"
)

// FailedRun is the last run of a connection whose schedule's run failed, and which may be tried again.
type FailedRun struct {
	Connection int64
	Run        int64
	Failure    string // why, as NoteFailure has it; "" = for another reason
	Failing    Failing
}

// lastRun finds the last run of the connection c, errands aside: what a person had his process do is no sync of what changed.
const lastRun = `SELECT max(n.id) FROM run n WHERE n.connection_id = c.id AND n.errand = 0`

// FailedRuns returns the connections whose last run failed, and of which a run of the schedule is among those that failed since the last that was done;
// connections that are paused are left out. A run that waits or is under way, or one that somebody canceled, is a last run that has not failed.
func (d *DB) FailedRuns(ctx context.Context) ([]FailedRun, error) {
	var rows []struct {
		ID       int64         `db:"id"`
		Run      int64         `db:"run_id"`
		Failure  string        `db:"failure"`
		Failures int           `db:"failures"`
		At       sql.NullInt64 `db:"failed_at"`
	}
	if err := d.store.reads().SelectContext(ctx, &rows, d.bind(`SELECT c.id, r.id AS run_id, r.failure, c.failures, c.failed_at
		FROM connection c JOIN run r ON r.id = (`+lastRun+`)
		WHERE c.failures > 0 AND r.state = 'failed' AND (c.paused_at IS NULL OR c.resume_at <= `+d.store.words().now+`)
		AND EXISTS (SELECT 1 FROM run s WHERE s.connection_id = c.id AND s.state = 'failed' AND s.reason IN ('cron', 'retry')
			AND s.id > coalesce((SELECT max(o.id) FROM run o WHERE o.connection_id = c.id AND o.state = 'done'), 0)) ORDER BY c.id`), d.now()); err != nil {
		return nil, fmt.Errorf("read which runs failed: %w", err)
	}
	out := make([]FailedRun, len(rows))
	for i, r := range rows {
		out[i] = FailedRun{r.ID, r.Run, r.Failure, Failing{r.Failures, instant(r.At)}}
	}
	return out, nil
}

// RequestRetry is RequestRun for a connection whose last run, errands aside, is this one, which failed; asked is false when there is a later one, and when a run
// waits already. Of the processes that try a run again one asks.
func (d *DB) RequestRetry(ctx context.Context, connID, failed int64) (run Run, asked bool, err error) {
	var row runRow
	err = d.transact(ctx, func(tx *sqlx.Tx) error {
		row, asked = runRow{}, false
		var one int64
		if err := tx.GetContext(ctx, &one, d.bind(`SELECT id FROM connection WHERE id = ?`+d.store.words().lock), connID); err != nil {
			return err // locked, so that of several processes the others see the run of the first
		}
		err := tx.GetContext(ctx, &one, d.bind(`SELECT r.id FROM connection c JOIN run r ON r.id = (`+lastRun+`) WHERE c.id = ? AND r.id = ? AND r.state = 'failed'`), connID, failed)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		var joined bool
		row, joined, _, err = d.ask(ctx, tx, connID, "retry", RunScope{})
		asked = !joined
		return err
	})
	if err != nil {
		return Run{}, false, fmt.Errorf("ask for a run again that failed: %w", err)
	}
	if !asked {
		return Run{}, false, nil
	}
	return row.run(), true, nil
}
