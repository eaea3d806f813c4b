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

// Archived says that somebody has put an issue out of sight. The zero value says that nobody has. It changes nothing that is synced.
type Archived struct {
	At  time.Time `json:"at"`
	Who string    `json:"who"`
	Why string    `json:"why"` // no student values
}

// IsZero reports whether the issue is in sight.
func (a Archived) IsZero() bool { return a == Archived{} }

// Scan reads the column of an issue.
func (a *Archived) Scan(src any) error {
	*a = Archived{}
	var text []byte
	switch v := src.(type) {
	case string:
		text = []byte(v)
	case []byte:
		text = v
	case nil:
	default:
		return fmt.Errorf("archived: want text, not %T", src)
	}
	if len(text) == 0 {
		return nil
	}
	if err := json.Unmarshal(text, a); err != nil {
		return fmt.Errorf("archived: %w", err)
	}
	return nil
}

// IssueSettledError says that an issue was settled: nothing is out of sync for it, so there is nothing to put out of sight.
type IssueSettledError struct{ ID, Run int64 }

func (e *IssueSettledError) Error() string {
	return fmt.Sprintf("issue %d was settled by run %d: no record is out of sync for it", e.ID, e.Run)
}

// ArchiveIssue puts an open issue of the connection out of sight, and writes who did so to the audit trail in the same transaction (I16). At of a is the
// ledger's. SaveProblems brings it back with the first row that was not of it. It returns ErrNotFound when the connection has no such issue, and an
// *IssueSettledError when it is settled. A repeated call replaces the reason.
func (d *DB) ArchiveIssue(ctx context.Context, connID, id int64, a Archived, act AuditRow) error {
	now, err := d.Time(ctx)
	if err != nil {
		return fmt.Errorf("archive issue %d: %w", id, err)
	}
	a.At = now.UTC()
	text, err := json.Marshal(a)
	if err != nil {
		return fmt.Errorf("archive issue %d: %w", id, err)
	}
	err = d.transact(ctx, func(tx *sqlx.Tx) error {
		n, err := d.exec(ctx, tx, `UPDATE issue SET archived = ? WHERE id = ? AND connection_id = ? AND cleared_run = 0`, string(text), id, connID)
		if err != nil {
			return err
		}
		if n == 0 {
			cleared, err := d.settledBy(ctx, tx, connID, id)
			if err == nil {
				err = &IssueSettledError{id, cleared}
			}
			return err
		}
		return d.audit(ctx, tx, act)
	})
	if err != nil {
		return fmt.Errorf("archive issue %d: %w", id, err)
	}
	return nil
}

// UnarchiveIssue brings an issue of the connection back into sight, and writes who did so to the audit trail in the same transaction (I16). It reports
// whether it was archived; when it was not, nothing is done or written. It returns ErrNotFound when the connection has no such issue.
func (d *DB) UnarchiveIssue(ctx context.Context, connID, id int64, act AuditRow) (was bool, err error) {
	err = d.transact(ctx, func(tx *sqlx.Tx) error {
		n, err := d.exec(ctx, tx, `UPDATE issue SET archived = '' WHERE id = ? AND connection_id = ? AND archived <> ''`, id, connID)
		if err != nil {
			return err
		}
		if was = n > 0; !was {
			_, err := d.settledBy(ctx, tx, connID, id)
			return err
		}
		return d.audit(ctx, tx, act)
	})
	if err != nil {
		return false, fmt.Errorf("bring issue %d back: %w", id, err)
	}
	return was, nil
}

// settledBy is the run that settled an issue, 0 when it is open, or ErrNotFound.
func (d *DB) settledBy(ctx context.Context, tx *sqlx.Tx, connID, id int64) (run int64, err error) {
	err = tx.GetContext(ctx, &run, d.bind(`SELECT cleared_run FROM issue WHERE id = ? AND connection_id = ?`), id, connID)
	if errors.Is(err, sql.ErrNoRows) {
		err = ErrNotFound
	}
	return run, err
}

// returnIssues brings archived issues back into sight. It is part of the transaction that saves a row that was not of them, so that nothing new stays hidden.
func (d *DB) returnIssues(ctx context.Context, tx *sqlx.Tx, connID int64, issues []any) error {
	if len(issues) == 0 {
		return nil
	}
	_, err := d.exec(ctx, tx, `UPDATE issue SET archived = '' WHERE connection_id = ? AND id IN (`+list("?", len(issues))+`)`, append([]any{connID}, issues...)...)
	return err
}
