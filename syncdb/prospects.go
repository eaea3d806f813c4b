package syncdb

import (
	"context"
	"database/sql"
	"fmt"
	"time"
)

// Prospect is what the ledger says of a connection that decides when it is run next without anybody asking for it.
type Prospect struct {
	Connection  int64
	Ticked      time.Time // the last tick of its schedule that was kept; zero when none was
	Paused      bool      // it was, and nobody resumed it: it is until PausedUntil
	PausedUntil time.Time // zero: until somebody resumes it
	Failing     Failing
	Failed      int64  // its last run, errands aside, when that failed; 0 = it did not, or another one waits or runs
	Failure     string // why, as NoteFailure has it; "" = for another reason
	Scheduled   bool   // Failed, or one that failed before it since the last that was done, was one of the schedule
	Waiting     int64  // its run that waits; 0 = none
	Asked       bool   // a person or a program asked for that
	Running     bool   // a run is under way, errands aside
}

// Prospects returns those of all connections, by connection. What a person had his process do, an errand, is no sync of what changed, and no last run.
func (d *DB) Prospects(ctx context.Context) (map[int64]Prospect, error) {
	var rows []struct {
		ID        int64          `db:"id"`
		TickedAt  sql.NullInt64  `db:"ticked_at"`
		PausedAt  sql.NullInt64  `db:"paused_at"`
		ResumeAt  sql.NullInt64  `db:"resume_at"`
		Failures  int            `db:"failures"`
		FailedAt  sql.NullInt64  `db:"failed_at"`
		Failed    sql.NullInt64  `db:"failed_id"`
		Failure   sql.NullString `db:"failure"`
		Scheduled bool           `db:"scheduled"`
		Waiting   sql.NullInt64  `db:"waiting_id"`
		Asked     sql.NullInt64  `db:"asked"`
		Running   sql.NullInt64  `db:"running_id"`
	}
	if err := d.store.reads().SelectContext(ctx, &rows, `SELECT c.id, c.ticked_at, c.paused_at, c.resume_at, c.failures, c.failed_at, f.id AS failed_id, f.failure,
		w.id AS waiting_id, w.asked, u.id AS running_id,
		f.id IS NOT NULL AND EXISTS (SELECT 1 FROM run s WHERE s.connection_id = c.id AND s.state = 'failed' AND s.reason IN ('cron', 'retry')
			AND s.id > coalesce((SELECT max(o.id) FROM run o WHERE o.connection_id = c.id AND o.state = 'done'), 0)) AS scheduled
		FROM connection c
		LEFT JOIN run f ON c.failures > 0 AND f.id = (`+lastRun+`) AND f.state = 'failed'
		LEFT JOIN run w ON w.connection_id = c.id AND w.state = 'waiting'
		LEFT JOIN run u ON u.connection_id = c.id AND u.state = 'running' AND u.errand = 0 ORDER BY c.id`); err != nil {
		return nil, fmt.Errorf("read what decides when connections are run next: %w", err)
	}
	out := make(map[int64]Prospect, len(rows))
	for _, r := range rows {
		out[r.ID] = Prospect{
			Connection: r.ID, Ticked: instant(r.TickedAt), Paused: r.PausedAt.Valid, PausedUntil: instant(r.ResumeAt), Failing: Failing{r.Failures, instant(r.FailedAt)},
			Failed: r.Failed.Int64, Failure: r.Failure.String, Scheduled: r.Scheduled, Waiting: r.Waiting.Int64, Asked: r.Asked.Int64 != 0, Running: r.Running.Valid,
		}
	}
	return out, nil
}
