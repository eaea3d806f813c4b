package memdb

import (
	"bytes"
	"context"
	"maps"

	"github.com/edfisync/edfisync/syncdb"
)

// RankingOf is syncdb.DB.RankingOf.
func (d *DB) RankingOf(ctx context.Context, connID int64) (syncdb.Ranking, error) {
	if err := ctx.Err(); err != nil {
		return syncdb.Ranking{}, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.connection(connID).ranking, nil
}

// RankedIssues is syncdb.DB.RankedIssues.
func (d *DB) RankedIssues(ctx context.Context, connID int64) ([]syncdb.RankedIssue, error) {
	issues, err := d.Issues(ctx, connID, true)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	c := d.connection(connID)
	var out []syncdb.RankedIssue
	for _, i := range issues {
		r := syncdb.RankedIssue{Issue: i}
		if r.Rank, r.Ranked = c.ranks[i.ID]; r.Ranked {
			r.Rows = r.Own + r.Waits
		}
		out = append(out, r)
	}
	return out, nil
}

// MoreProblems is syncdb.DB.MoreProblems.
func (d *DB) MoreProblems(ctx context.Context, connID int64, n int) (bool, error) {
	problems, err := d.Problems(ctx, connID, syncdb.ProblemFilter{Limit: n + 1})
	return len(problems) > n, err
}

// SaveRanking is syncdb.DB.SaveRanking.
func (d *DB) SaveRanking(ctx context.Context, l syncdb.Lease, ranks map[int64]syncdb.Rank) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	c, err := d.fenced(ctx, l)
	if err != nil {
		return err
	}
	c.ranking, c.ranks = syncdb.Ranking{Run: l.RunID, Current: true}, maps.Clone(ranks)
	return nil
}

// same reports whether a problem of a source row says what the one before said.
func same(a, b *syncdb.Problem) bool {
	return a.Outcome == b.Outcome && a.KeyHash == b.KeyHash && a.RecordHash == b.RecordHash && a.SourceKey == b.SourceKey && bytes.Equal(a.Detail, b.Detail) &&
		bytes.Equal(a.BlockedBy, b.BlockedBy) && a.BlockedResource == b.BlockedResource && a.BlockedKey == b.BlockedKey
}
