package memdb

import (
	"context"
	"slices"

	"github.com/edfisync/edfisync/syncdb"
)

// issueOf finds an issue by its number. Called with d.mu held.
func (d *DB) issueOf(ctx context.Context, connID, id int64) (*syncdb.Issue, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	c := d.connection(connID)
	i := slices.IndexFunc(c.issues, func(i *syncdb.Issue) bool { return i.ID == id })
	if i < 0 {
		return nil, syncdb.ErrNotFound
	}
	return c.issues[i], nil
}

// ArchiveIssue is syncdb.DB.ArchiveIssue.
func (d *DB) ArchiveIssue(ctx context.Context, connID, id int64, a syncdb.Archived, act syncdb.AuditRow) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	issue, err := d.issueOf(ctx, connID, id)
	if err != nil {
		return err
	}
	if issue.ClearedRun != 0 {
		return &syncdb.IssueSettledError{ID: id, Run: issue.ClearedRun}
	}
	if err := d.audit(act); err != nil { // I16: no row, no act
		return err
	}
	a.At = d.now()
	issue.Archived = a
	return nil
}

// UnarchiveIssue is syncdb.DB.UnarchiveIssue.
func (d *DB) UnarchiveIssue(ctx context.Context, connID, id int64, act syncdb.AuditRow) (bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	issue, err := d.issueOf(ctx, connID, id)
	if err != nil || issue.Archived.IsZero() {
		return false, err
	}
	if err := d.audit(act); err != nil {
		return false, err
	}
	issue.Archived = syncdb.Archived{}
	return true, nil
}
