package syncdb

import (
	"context"
	"fmt"
	"time"
)

// CodeCount is how many open issues of a connection have a code.
type CodeCount struct {
	ConnectionID int64  `db:"connection_id"`
	Code         string `db:"code"`
	Issues       int64  `db:"issues"`
}

// IssueCodes counts the open issues of all connections by code.
func (d *DB) IssueCodes(ctx context.Context) ([]CodeCount, error) {
	var out []CodeCount
	if err := d.store.reads().SelectContext(ctx, &out, `SELECT connection_id, code, count(*) AS issues FROM issue WHERE cleared_run = 0
		GROUP BY connection_id, code ORDER BY connection_id, code`); err != nil {
		return nil, fmt.Errorf("count issues by code: %w", err)
	}
	return out, nil
}

// EndedRuns returns the newest run of each connection that ended, by connection; canceled ones are left out, and so are connections without any.
func (d *DB) EndedRuns(ctx context.Context) (map[int64]Run, error) {
	var rows []runRow
	if err := d.store.reads().SelectContext(ctx, &rows, `SELECT `+runColumns+` FROM run WHERE id IN (
		SELECT (SELECT max(r.id) FROM run r WHERE r.connection_id = c.id AND r.state IN ('done', 'failed')) FROM connection c)`); err != nil {
		return nil, fmt.Errorf("read the last runs that ended: %w", err)
	}
	out := make(map[int64]Run, len(rows))
	for i := range rows {
		out[rows[i].ConnectionID] = rows[i].run()
	}
	return out, nil
}

// Time is the ledger's clock.
func (d *DB) Time(ctx context.Context) (time.Time, error) { return d.clock(ctx, d.store.reads()) }
