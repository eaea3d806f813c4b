package syncdb

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"time"

	"github.com/jmoiron/sqlx"
)

// LogLine is one line of a run's log. It holds no student values (I14).
type LogLine struct {
	Line   int64           `json:"line"` // 1, 2, 3, …
	At     time.Time       `json:"at"`
	Level  slog.Level      `json:"level"`
	Text   string          `json:"text"`
	Detail json.RawMessage `json:"detail,omitempty"` // an object of strings and numbers; nil = none
}

// AddRunLog keeps lines of the log of a run, in one transaction. A line that is there already stays as it is, so it may be called again with the same lines
// after an error that does not say whether they were kept. One process does a run, so its lines need no lease.
func (d *DB) AddRunLog(ctx context.Context, runID int64, lines []LogLine) error {
	if len(lines) == 0 {
		return nil
	}
	err := d.transact(ctx, func(tx *sqlx.Tx) error {
		for _, l := range lines {
			detail := "{}"
			if l.Detail != nil {
				detail = string(l.Detail)
			}
			if _, err := d.exec(ctx, tx, `INSERT INTO run_log (run_id, line, at, level, text, detail) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (run_id, line) DO NOTHING`,
				runID, l.Line, l.At.UnixMilli(), int(l.Level), l.Text, detail); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("keep the log of run %d: %w", runID, err)
	}
	return nil
}

// RunLog returns the lines of a run's log after a line, 0 for all, in order and at most limit of them.
func (d *DB) RunLog(ctx context.Context, runID, after int64, limit int) ([]LogLine, error) {
	var rows []struct {
		Line   int64  `db:"line"`
		At     int64  `db:"at"`
		Level  int    `db:"level"`
		Text   string `db:"text"`
		Detail string `db:"detail"`
	}
	if err := d.store.reads().SelectContext(ctx, &rows, d.bind(`SELECT line, at, level, text, detail FROM run_log WHERE run_id = ? AND line > ? ORDER BY line LIMIT ?`),
		runID, after, limit); err != nil {
		return nil, fmt.Errorf("read the log of run %d: %w", runID, err)
	}
	lines := make([]LogLine, len(rows))
	for i, r := range rows {
		lines[i] = LogLine{Line: r.Line, At: time.UnixMilli(r.At).UTC(), Level: slog.Level(r.Level), Text: r.Text}
		if r.Detail != "{}" {
			lines[i].Detail = json.RawMessage(r.Detail)
		}
	}
	return lines, nil
}
