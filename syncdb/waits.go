package syncdb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/jmoiron/sqlx"
)

// The reasons why a run waits. They are stored; never rename one.
const (
	WaitRun           = "run"           // another run of the connection is in progress
	WaitPause         = "pause"         // the connection is paused
	WaitQuarantine    = "quarantine"    // its runs failed time after time, and nobody but the schedule asked for this one
	WaitTarget        = "target"        // the target has as many runs at once as its limit allows
	WaitSource        = "source"        // the source has
	WaitConfiguration = "configuration" // the process that looked last has no configuration of the connection
)

// Wait says why a run waits, as the process saw it that looked last.
type Wait struct {
	For   string    `json:"for" enum:"run,pause,quarantine,target,source,configuration"`
	Until time.Time `json:"until,omitzero"` // when that is over, if anybody knows

	At time.Time `json:"-"` // when it was noted; set by the ledger
}

// String says it to a person.
func (w Wait) String() string {
	text := map[string]string{
		WaitRun:           "another run of the connection is in progress",
		WaitPause:         "the connection is paused",
		WaitQuarantine:    "its runs failed time after time; sync now goes through",
		WaitTarget:        "the target has as many runs at once as target.max_runs allows",
		WaitSource:        "the source has as many runs at once as source.max_runs allows",
		WaitConfiguration: "no process with the connection's configuration has taken it yet",
	}[w.For]
	if text == "" {
		text = w.For
	}
	if !w.Until.IsZero() {
		text += ", until " + w.Until.UTC().Format(time.RFC3339)
	}
	return text
}

// ByPerson reports whether a run with this reason was asked for by a person or a program, who waits for it, and not by a schedule.
func ByPerson(reason string) bool {
	switch reason {
	case "cron", "feed", "recovery", "retry":
		return false
	}
	return true
}

// asked is ByPerson for the database.
func asked(reason string) int {
	if ByPerson(reason) {
		return 1
	}
	return 0
}

// NoteWait notes why a run waits, for every process to show; the zero Wait takes the note away. It reports whether it wrote: not when that was noted
// already, unless a while ago, and not when the run has begun.
func (d *DB) NoteWait(ctx context.Context, runID int64, w Wait) (noted bool, err error) {
	const again = 20 * time.Second
	now := d.store.words().now
	var until int64
	if !w.Until.IsZero() {
		until = w.Until.UnixMilli()
	}
	n, err := d.exec(ctx, d.store.writes(), `UPDATE run SET waits_for = ?, waits_until = ?, waits_at = `+now+` WHERE id = ? AND state = 'waiting'
		AND (waits_for <> ? OR coalesce(waits_until, 0) <> ? OR waits_for <> '' AND waits_at < `+now+` - ?)`,
		w.For, millis(w.Until), d.now(), runID, w.For, until, d.now(), again.Milliseconds())
	if err != nil {
		return false, fmt.Errorf("note why run %d waits: %w", runID, err)
	}
	return n > 0, nil
}

// Place is what takes only so many runs at once: a target or a source, by a name that all connections of it have in common.
type Place struct {
	Name string
	Runs int // of all connections of it together, as this connection sees it; 0 = any number
}

// Limits are the places of a connection.
type Limits struct {
	Target, Source Place
}

// SetLimits notes the limits of a connection. It writes only what is new.
func (d *DB) SetLimits(ctx context.Context, connID int64, l Limits) error {
	args := []any{l.Target.Name, l.Target.Runs, l.Source.Name, l.Source.Runs}
	var same bool
	err := d.store.reads().GetContext(ctx, &same, d.bind(`SELECT target_place = ? AND target_runs = ? AND source_place = ? AND source_runs = ?
		FROM connection WHERE id = ?`), append(args, connID)...)
	if err == nil && !same {
		_, err = d.exec(ctx, d.store.writes(), `UPDATE connection SET target_place = ?, target_runs = ?, source_place = ?, source_runs = ? WHERE id = ?`,
			append(args, connID)...)
	}
	if err != nil {
		return fmt.Errorf("note the limits of the connection: %w", err)
	}
	return nil
}

// LimitError says that a target or a source has as many runs at once as its limit allows. The run still waits.
type LimitError struct {
	For  string // WaitTarget or WaitSource
	Runs int    // the limit
}

func (e *LimitError) Error() string {
	return fmt.Sprintf("the %s has as many runs at once as %s.max_runs allows: %d", e.For, e.For, e.Runs)
}

// admit returns a *LimitError unless the places of a connection take another run. Runs that lost their process do not count. On PostgreSQL it locks the
// ledger's one row of meta until the transaction ends, so that runs of different connections start one after the other.
func (d *DB) admit(ctx context.Context, tx *sqlx.Tx, connID int64) error {
	var of struct {
		Target     string `db:"target_place"`
		TargetRuns int    `db:"target_runs"`
		Source     string `db:"source_place"`
		SourceRuns int    `db:"source_runs"`
	}
	err := tx.GetContext(ctx, &of, d.bind(`SELECT target_place, target_runs, source_place, source_runs FROM connection WHERE id = ?`), connID)
	if err != nil || of.TargetRuns == 0 && of.SourceRuns == 0 {
		return err
	}
	w := d.store.words()
	var one int
	if err := tx.GetContext(ctx, &one, `SELECT one FROM meta`+w.lock); err != nil {
		return err
	}
	for _, place := range []struct {
		column, name, what string
		most               int
	}{{"target_place", of.Target, WaitTarget, of.TargetRuns}, {"source_place", of.Source, WaitSource, of.SourceRuns}} {
		if place.most == 0 {
			continue
		}
		var n int
		err := tx.GetContext(ctx, &n, d.bind(`SELECT count(*) FROM run JOIN connection c ON c.id = run.connection_id
			JOIN lease ON lease.connection_id = run.connection_id AND lease.run_id = run.id
			WHERE run.state = 'running' AND c.`+place.column+` = ? AND lease.expires_at + ? > `+w.now), place.name, d.grace.Load(), d.now())
		if err != nil {
			return err
		}
		if n >= place.most {
			return &LimitError{For: place.what, Runs: place.most}
		}
	}
	return nil
}

// Failing says how often the runs of a connection failed one after the other.
type Failing struct {
	Runs int       // since the last that was done; canceled ones do not count
	At   time.Time // when the last of them ended
}

// count notes that a run of the connection ended in this state.
func (d *DB) count(ctx context.Context, tx *sqlx.Tx, connID int64, state RunState) error {
	var err error
	switch state {
	case RunDone:
		_, err = d.exec(ctx, tx, `UPDATE connection SET failures = 0, failed_at = NULL WHERE id = ? AND failures > 0`, connID)
	case RunFailed:
		_, err = d.exec(ctx, tx, `UPDATE connection SET failures = failures + 1, failed_at = `+d.store.words().now+` WHERE id = ?`, d.now(), connID)
	}
	return err
}

// PauseOf returns the pause of a connection; paused is false when it has none now.
func (d *DB) PauseOf(ctx context.Context, connID int64) (p Pause, paused bool, err error) {
	var row pauseRow
	err = d.store.reads().GetContext(ctx, &row, d.bind(pauseQuery(d.store.words().now)+` AND id = ?`), d.now(), connID)
	if errors.Is(err, sql.ErrNoRows) {
		return Pause{}, false, nil
	}
	if err != nil {
		return Pause{}, false, fmt.Errorf("read the connection's pause: %w", err)
	}
	return row.pause(), true, nil
}

// TakesWrites reports whether the ledger's database answers and may be written: not when it is a standby that nobody has promoted. It writes nothing.
func (d *DB) TakesWrites(ctx context.Context) (bool, error) {
	if _, _, err := d.Identity(ctx); err != nil {
		return false, err
	}
	return d.store.takesWrites(ctx)
}
