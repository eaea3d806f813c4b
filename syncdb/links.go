package syncdb

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/jmoiron/sqlx"
)

// ProblemLinks calls fn with what each open problem of the connection hangs on, by resource and source hash: enough to rank causes without
// opening anything sealed. An error of fn ends it and is returned. fn may call the ledger.
func (d *DB) ProblemLinks(ctx context.Context, connID int64, fn func(ProblemLink) error) error {
	from, args := ProblemFilter{}.query(connID)
	rows, err := d.store.reads().QueryContext(ctx, d.bind(`SELECT r.path, p.natural_key_hash, p.source_hash, p.issue_id, p.outcome,
		coalesce(b.path, ''), p.blocked_key_hash `+from), args...)
	if err == nil {
		err = scanLinks(rows, fn)
	}
	if err != nil {
		return fmt.Errorf("read problem links: %w", err)
	}
	return nil
}

func scanLinks(rows *sql.Rows, fn func(ProblemLink) error) error {
	defer rows.Close()
	for rows.Next() {
		var l ProblemLink
		var key, source, blocked sql.RawBytes
		if err := rows.Scan(&l.Resource, &key, &source, &l.IssueID, &l.Outcome, &l.BlockedResource, &blocked); err != nil {
			return err
		}
		l.KeyHash, l.SourceHash, l.BlockedKey = hashOf(key), hashOf(source), hashOf(blocked)
		if err := fn(l); err != nil {
			return err
		}
	}
	return rows.Err()
}

// RetryProblems lets the rows that pass the filter and that the target refused be sent again in the next run, though they have not changed:
// Rejected does not return them until they are refused again. It returns how many there are; rows with another outcome are sent again
// anyway and not counted. It needs no lease and may be called again.
func (d *DB) RetryProblems(ctx context.Context, connID int64, f ProblemFilter) (int, error) {
	return d.retryProblems(ctx, connID, f, nil)
}

// RetryProblemsAs is RetryProblems of somebody: the audit row is part of the transaction (I16).
func (d *DB) RetryProblemsAs(ctx context.Context, connID int64, f ProblemFilter, act AuditRow) (int, error) {
	return d.retryProblems(ctx, connID, f, &act)
}

func (d *DB) retryProblems(ctx context.Context, connID int64, f ProblemFilter, act *AuditRow) (int, error) {
	if f.Outcome == "" {
		f.Outcome = OutcomeRejected
	}
	from, args := f.query(connID)
	var n int64
	err := d.transact(ctx, func(tx *sqlx.Tx) error {
		n = 0
		var err error
		if f.Outcome == OutcomeRejected {
			// Without its content hash a row counts as changed when the same refusal is saved again.
			n, err = d.exec(ctx, tx, `UPDATE problem SET full_record_hash = NULL, content_hash = ? WHERE (connection_id, resource_id, source_hash)
				IN (SELECT p.connection_id, p.resource_id, p.source_hash `+from+`)`, append([]any{[]byte{}}, args...)...)
		}
		if err == nil && act != nil {
			err = d.audit(ctx, tx, *act)
		}
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("retry problems: %w", err)
	}
	return int(n), nil
}
