package syncdb

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/jmoiron/sqlx"
)

// Rank is what an open issue stands in the way of, in rows of its connection that are not in sync.
type Rank struct {
	Own   int64 `json:"own" db:"own"`     // rows of the issue that wait for no other row
	Frees int64 `json:"frees" db:"frees"` // rows of any issue that wait for rows of Own
	Waits int64 `json:"waits" db:"waits"` // rows of the issue that wait for rows of other issues
}

// RankedIssue is an open issue with the rank it had when a run ended.
type RankedIssue struct {
	Issue
	Rank
	Ranked bool // false: the issue is younger than the ranking; it has no rank yet, and its rows were counted
}

// Ranking is what is kept of the ranking of causes.
type Ranking struct {
	Run     int64 // that made it; 0 = none is kept
	Current bool  // no problem has changed since
}

// RankingOf says which ranking of causes the ledger has of a connection. It is one small read.
func (d *DB) RankingOf(ctx context.Context, connID int64) (Ranking, error) {
	var row struct {
		Run     int64 `db:"run_id"`
		Current bool  `db:"fresh"`
	}
	err := d.store.reads().GetContext(ctx, &row, d.bind(`SELECT run_id, fresh FROM ranking WHERE connection_id = ?`), connID)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return Ranking{}, fmt.Errorf("read which ranking of causes there is: %w", err)
	}
	return Ranking(row), nil
}

// RankedIssues returns the connection's open issues, oldest first, with the kept ranks. It reads no rows but those of issues that have none.
func (d *DB) RankedIssues(ctx context.Context, connID int64) ([]RankedIssue, error) {
	var issues []RankedIssue
	if err := d.store.reads().SelectContext(ctx, &issues, d.bind(`SELECT i.id, i.code, r.path AS resource, i.cause, i.owner, i.outcome, i.first_run AS firstrun, i.last_run AS lastrun,
		i.cleared_run AS clearedrun, i.archived, i.own + i.waits AS rows, i.own, i.frees, i.waits, coalesce(i.ranked_run = k.run_id, 1 = 0) AS ranked
		FROM issue i JOIN resource r ON r.id = i.resource_id LEFT JOIN ranking k ON k.connection_id = i.connection_id
		WHERE i.connection_id = ? AND i.cleared_run = 0 ORDER BY i.id`), connID); err != nil {
		return nil, fmt.Errorf("read ranked issues: %w", err)
	}
	young := map[int64]*RankedIssue{}
	for i := range issues {
		if !issues[i].Ranked {
			issues[i].Rows, issues[i].Rank = 0, Rank{}
			young[issues[i].ID] = &issues[i]
		}
	}
	for ids := range slices.Chunk(slices.Sorted(maps.Keys(young)), maxProblems) {
		args := []any{connID}
		for _, id := range ids {
			args = append(args, id)
		}
		var counts []struct {
			ID   int64 `db:"issue_id"`
			Rows int64 `db:"n"`
		}
		if err := d.store.reads().SelectContext(ctx, &counts, d.bind(`SELECT issue_id, count(*) AS n FROM problem WHERE connection_id = ? AND issue_id IN (`+list("?", len(ids))+`)
			GROUP BY issue_id`), args...); err != nil {
			return nil, fmt.Errorf("count rows of issues: %w", err)
		}
		for _, c := range counts {
			young[c.ID].Rows = c.Rows
		}
	}
	return issues, nil
}

// MoreProblems reports whether more than n rows of the connection are not in sync. It reads no more of them than that.
func (d *DB) MoreProblems(ctx context.Context, connID int64, n int) (bool, error) {
	var found int
	if err := d.store.reads().GetContext(ctx, &found, d.bind(`SELECT count(*) FROM (SELECT 1 FROM problem WHERE connection_id = ? LIMIT ?) x`), connID, n+1); err != nil {
		return false, fmt.Errorf("count problems: %w", err)
	}
	return found > n, nil
}

// SaveRanking keeps the ranks of the connection's open issues, by issue id, as those of the lease's run: of problems as they are, which only the holder of the
// lease can change (I7). The next change of a problem takes the ranking's Current back, in the transaction of that change. It may be called again.
func (d *DB) SaveRanking(ctx context.Context, l Lease, ranks map[int64]Rank) error {
	type row struct {
		id int64
		Rank
	}
	rows := make([]row, 0, len(ranks))
	for id, r := range ranks {
		rows = append(rows, row{id, r})
	}
	slices.SortFunc(rows, func(a, b row) int { return cmp.Compare(a.id, b.id) }) // as all who write several issues
	err := d.fenced(ctx, l, func(tx *sqlx.Tx) error {
		for _, r := range rows {
			if _, err := d.exec(ctx, tx, `UPDATE issue SET ranked_run = ?, own = ?, frees = ?, waits = ? WHERE id = ? AND connection_id = ?`,
				l.RunID, r.Own, r.Frees, r.Waits, r.id, l.ConnectionID); err != nil {
				return err
			}
		}
		_, err := d.exec(ctx, tx, `INSERT INTO ranking (connection_id, run_id, fresh) VALUES (?, ?, 1)
			ON CONFLICT (connection_id) DO UPDATE SET run_id = excluded.run_id, fresh = 1`, l.ConnectionID, l.RunID)
		return err
	})
	if err != nil {
		return fmt.Errorf("save the ranking of causes: %w", err)
	}
	return nil
}

// outrank says that the kept ranking is not that of the problems any more. It is part of each transaction that changes them, so that no ranking passes for
// a later one (I2 of what people are shown).
func (d *DB) outrank(ctx context.Context, tx *sqlx.Tx, connID int64) error {
	_, err := d.exec(ctx, tx, `UPDATE ranking SET fresh = 0 WHERE connection_id = ? AND fresh = 1`, connID)
	return err
}
