package jobs

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// State is how many jobs of the queue have a state.
type State struct {
	State  string // of River: available, running, scheduled, retryable, completed, cancelled, discarded, pending
	Jobs   int64
	Oldest time.Time // when the oldest was scheduled for
}

// States counts the jobs of a queue; dsn is that of QueueConfig. It makes no queue where there is none: that is an error.
func States(ctx context.Context, dsn string) ([]State, error) {
	out, err := states(ctx, dsn)
	if err != nil {
		return nil, fmt.Errorf("count the jobs of the queue: %w", err)
	}
	return out, nil
}

func states(ctx context.Context, dsn string) ([]State, error) {
	scheme, rest, _ := strings.Cut(dsn, ":")
	switch scheme {
	case "sqlite":
		db, err := sql.Open("sqlite", "file:"+(&url.URL{Path: rest}).EscapedPath()+"?mode=ro&_pragma=busy_timeout(5000)")
		if err != nil {
			return nil, err
		}
		defer db.Close()
		rows, err := db.QueryContext(ctx, `SELECT state, count(*), CAST(unixepoch(min(scheduled_at)) AS INTEGER) FROM river_job GROUP BY state ORDER BY state`)
		if err != nil {
			return nil, err
		}
		defer rows.Close()
		return readStates(rows)
	case "postgres", "postgresql":
		conn, err := pgx.Connect(ctx, dsn)
		if err != nil {
			return nil, errors.New("the database does not answer") // err may hold the address (I15)
		}
		defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // nothing was written
		rows, err := conn.Query(ctx, `SELECT state::text, count(*), extract(epoch FROM min(scheduled_at))::bigint FROM `+riverSchema+`.river_job GROUP BY state ORDER BY state::text`)
		if err != nil {
			return nil, err
		}
		defer rows.Close()
		return readStates(rows)
	}
	return nil, errors.New("it is neither on SQLite nor on PostgreSQL")
}

func readStates(rows interface {
	Next() bool
	Scan(into ...any) error
	Err() error
},
) (out []State, err error) {
	for rows.Next() {
		var s State
		var oldest int64
		if err := rows.Scan(&s.State, &s.Jobs, &oldest); err != nil {
			return nil, err
		}
		s.Oldest = time.Unix(oldest, 0).UTC()
		out = append(out, s)
	}
	return out, rows.Err()
}
