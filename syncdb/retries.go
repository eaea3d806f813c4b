package syncdb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/jmoiron/sqlx"
)

// lastRun finds the last run of the connection c, errands aside: what a person had his process do is no sync of what changed.
const lastRun = `SELECT max(n.id) FROM run n WHERE n.connection_id = c.id AND n.errand = 0`

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
