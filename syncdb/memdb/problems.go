package memdb

import (
	"bytes"
	"cmp"
	"context"
	"maps"
	"slices"

	"github.com/edfisync/edfisync/syncdb"
)

type problem struct {
	syncdb.Problem
	issue   *syncdb.Issue
	lastRun int64
}

// SaveProblems is syncdb.DB.SaveProblems.
func (d *DB) SaveProblems(ctx context.Context, l syncdb.Lease, problems []syncdb.Problem) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	c, err := d.fenced(ctx, l)
	if err != nil {
		return err
	}
	for _, p := range problems {
		p.Detail, p.BlockedBy = slices.Clone(p.Detail), slices.Clone(p.BlockedBy)
		issue := d.issue(c, &p)
		issue.Owner, issue.Outcome, issue.LastRun, issue.ClearedRun = p.Owner, p.Outcome, l.RunID, 0
		if issue.FirstRun == 0 {
			issue.FirstRun = l.RunID
		}
		rows := c.problems[p.Resource]
		if rows == nil {
			rows = map[syncdb.Hash]*problem{}
			c.problems[p.Resource] = rows
		}
		had := rows[p.SourceHash]
		if had == nil || had.issue != issue || !same(&had.Problem, &p) {
			c.ranking.Current = false
		}
		if had == nil || had.issue != issue {
			issue.Archived = syncdb.Archived{}
		}
		rows[p.SourceHash] = &problem{Problem: p, issue: issue, lastRun: l.RunID}
	}
	return nil
}

func (d *DB) issue(c *connection, p *syncdb.Problem) *syncdb.Issue {
	for _, i := range c.issues {
		if i.Code == p.Code && i.Resource == p.Resource && i.Cause == p.Cause {
			return i
		}
	}
	d.lastIssue++
	i := &syncdb.Issue{ID: d.lastIssue, Code: p.Code, Resource: p.Resource, Cause: p.Cause}
	c.issues = append(c.issues, i)
	return i
}

// KeepProblems is syncdb.DB.KeepProblems.
func (d *DB) KeepProblems(ctx context.Context, l syncdb.Lease, resource string, sources []syncdb.Hash) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	c, err := d.fenced(ctx, l)
	if err != nil {
		return err
	}
	for _, source := range sources {
		if p := c.problems[resource][source]; p != nil {
			p.lastRun, p.issue.LastRun, p.issue.ClearedRun = l.RunID, l.RunID, 0
		}
	}
	return nil
}

// CloseProblems is syncdb.DB.CloseProblems.
func (d *DB) CloseProblems(ctx context.Context, l syncdb.Lease, resources []string) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	c, err := d.fenced(ctx, l)
	if err != nil {
		return 0, err
	}
	if resources == nil {
		resources = slices.Collect(maps.Keys(c.problems))
	}
	cleared := 0
	for _, resource := range resources {
		for hash, p := range c.problems[resource] {
			if p.lastRun != l.RunID && p.Outcome != syncdb.OutcomeMet {
				delete(c.problems[resource], hash)
				c.ranking.Current = false
				cleared++
			}
		}
		for _, i := range c.issues {
			if i.Resource == resource && i.ClearedRun == 0 && c.rows(i) == 0 {
				i.ClearedRun = l.RunID
			}
		}
	}
	return cleared, nil
}

// CloseProblemsOf is syncdb.DB.CloseProblemsOf.
func (d *DB) CloseProblemsOf(ctx context.Context, l syncdb.Lease, resource string, sources []syncdb.Hash) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	c, err := d.fenced(ctx, l)
	if err != nil {
		return 0, err
	}
	cleared := 0
	for _, hash := range sources {
		if p, ok := c.problems[resource][hash]; ok && p.lastRun != l.RunID && p.Outcome != syncdb.OutcomeMet {
			delete(c.problems[resource], hash)
			c.ranking.Current = false
			cleared++
		}
	}
	for _, i := range c.issues {
		if i.Resource == resource && i.ClearedRun == 0 && c.rows(i) == 0 {
			i.ClearedRun = l.RunID
		}
	}
	return cleared, nil
}

func (c *connection) rows(i *syncdb.Issue) (n int64) {
	for _, p := range c.problems[i.Resource] {
		if p.issue == i {
			n++
		}
	}
	return n
}

// Issues is syncdb.DB.Issues.
func (d *DB) Issues(ctx context.Context, connID int64, openOnly bool) ([]syncdb.Issue, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	c := d.connection(connID)
	var out []syncdb.Issue
	for _, i := range c.issues {
		if openOnly && i.ClearedRun != 0 {
			continue
		}
		issue := *i
		issue.Rows = c.rows(i)
		out = append(out, issue)
	}
	return out, nil
}

// Problems is syncdb.DB.Problems.
func (d *DB) Problems(ctx context.Context, connID int64, f syncdb.ProblemFilter) ([]syncdb.Problem, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []syncdb.Problem
	for resource, rows := range d.connection(connID).problems {
		if f.Resource != "" && f.Resource != resource {
			continue
		}
		for hash, p := range rows {
			switch {
			case f.Outcome != "" && f.Outcome != p.Outcome,
				f.IssueID != 0 && f.IssueID != p.issue.ID,
				!f.After.IsZero() && bytes.Compare(hash[:], f.After[:]) <= 0:
				continue
			}
			q := p.Problem
			q.Detail, q.BlockedBy = slices.Clone(q.Detail), slices.Clone(q.BlockedBy)
			out = append(out, q)
		}
	}
	slices.SortFunc(out, func(a, b syncdb.Problem) int {
		return cmp.Or(cmp.Compare(a.Resource, b.Resource), bytes.Compare(a.SourceHash[:], b.SourceHash[:]))
	})
	if f.Limit > 0 && len(out) > f.Limit {
		out = out[:f.Limit]
	}
	return out, nil
}

// Rejected is syncdb.DB.Rejected.
func (d *DB) Rejected(ctx context.Context, connID int64, resource string) (map[syncdb.Hash]syncdb.Hash, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	out := map[syncdb.Hash]syncdb.Hash{}
	for hash, p := range d.connection(connID).problems[resource] {
		if p.Outcome == syncdb.OutcomeRejected && !p.RecordHash.IsZero() {
			out[hash] = p.RecordHash
		}
	}
	return out, nil
}

// ProblemLinks is syncdb.DB.ProblemLinks.
func (d *DB) ProblemLinks(ctx context.Context, connID int64, fn func(syncdb.ProblemLink) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	d.mu.Lock()
	var links []syncdb.ProblemLink
	for resource, rows := range d.connection(connID).problems {
		for source, p := range rows {
			links = append(links, syncdb.ProblemLink{
				Resource: resource, KeyHash: p.KeyHash, SourceHash: source, IssueID: p.issue.ID, Outcome: p.Outcome,
				BlockedResource: p.BlockedResource, BlockedKey: p.BlockedKey,
			})
		}
	}
	d.mu.Unlock()
	slices.SortFunc(links, func(a, b syncdb.ProblemLink) int {
		return cmp.Or(cmp.Compare(a.Resource, b.Resource), bytes.Compare(a.SourceHash[:], b.SourceHash[:]))
	})
	for _, l := range links {
		if err := fn(l); err != nil {
			return err
		}
	}
	return nil
}

// RetryProblems is syncdb.DB.RetryProblems.
func (d *DB) RetryProblems(ctx context.Context, connID int64, f syncdb.ProblemFilter) (int, error) {
	if f.Outcome == "" {
		f.Outcome = syncdb.OutcomeRejected
	}
	if f.Outcome != syncdb.OutcomeRejected {
		return 0, ctx.Err()
	}
	found, err := d.Problems(ctx, connID, f)
	if err != nil {
		return 0, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	n := 0
	for i := range found {
		if p := d.connection(connID).problems[found[i].Resource][found[i].SourceHash]; p != nil && p.Outcome == syncdb.OutcomeRejected {
			p.RecordHash = syncdb.Hash{}
			n++
		}
	}
	return n, nil
}
