package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/edfisync/edfisync/syncdb"
)

type issuesArchiveCmd struct {
	ID         int64  `arg:"" name:"issue" help:"Number of an open issue; edfisync issues lists them."`
	Connection string `placeholder:"NAME" help:"Connection; not needed when there is only one."`
	Why        string `required:"" placeholder:"TEXT" help:"For those who will ask. No student data, please."`
}

// Help is the long help of the command.
func (issuesArchiveCmd) Help() string {
	return `Puts an issue out of sight: a cause that is known, and that nobody is going to mend. It is hidden from edfisync issues, API and console unless
they are asked for archived ones, and does not call for anybody. What is synced does not change: its rows stay out of the target, every run
looks at them as before, and the exit code of runs says so.

It comes back by itself when its cause comes up for a row that was not among its rows, and edfisync issues unarchive brings it back. A row that gets
another cause is of another issue, which is in sight.

Examples:

    edfisync issues archive 7 --why "exchange students, no birth date on file"
    edfisync issues --archived
    edfisync issues unarchive 7`
}

// Run archives the issue (I16).
func (c *issuesArchiveCmd) Run(ctx context.Context, a *app) error {
	if strings.TrimSpace(c.Why) == "" {
		return usageError(errors.New("--why: say why"))
	}
	return a.look(ctx, c.Connection, func(ledger *syncdb.DB, conn syncdb.Connection) error {
		act, err := actOf(conn, "issue.archive", fmt.Sprintf("issue %d", c.ID), c.Why)
		if err != nil {
			return err
		}
		err = ledger.ArchiveIssue(ctx, conn.ID, c.ID, syncdb.Archived{Who: operator(), Why: c.Why}, act)
		var settled *syncdb.IssueSettledError
		switch {
		case errors.Is(err, syncdb.ErrNotFound):
			return usageError(fmt.Errorf("there is no issue %d; edfisync issues lists them", c.ID))
		case errors.As(err, &settled):
			return usageError(settled)
		case err != nil:
			return err
		case a.JSON:
			a.printJSON(map[string]int64{"archived": c.ID})
		default:
			fmt.Fprintf(a.out, "issue %d is archived; it comes back when its cause comes up for other rows\n", c.ID)
		}
		return nil
	})
}

type issuesUnarchiveCmd struct {
	ID         int64  `arg:"" name:"issue" help:"Number of an archived issue; edfisync issues --archived lists them."`
	Connection string `placeholder:"NAME" help:"Connection; not needed when there is only one."`
	Why        string `placeholder:"TEXT" help:"For the audit trail."`
}

// Help is the long help of the command.
func (issuesUnarchiveCmd) Help() string {
	return `Brings an archived issue back into sight.

Examples:

    edfisync issues unarchive 7`
}

// Run brings the issue back (I16).
func (c *issuesUnarchiveCmd) Run(ctx context.Context, a *app) error {
	return a.look(ctx, c.Connection, func(ledger *syncdb.DB, conn syncdb.Connection) error {
		act, err := actOf(conn, "issue.unarchive", fmt.Sprintf("issue %d", c.ID), c.Why)
		if err != nil {
			return err
		}
		was, err := ledger.UnarchiveIssue(ctx, conn.ID, c.ID, act)
		switch {
		case errors.Is(err, syncdb.ErrNotFound):
			return usageError(fmt.Errorf("there is no issue %d; edfisync issues --archived lists archived ones", c.ID))
		case err != nil:
			return err
		case a.JSON:
			a.printJSON(map[string]bool{"unarchived": was})
		case was:
			fmt.Fprintf(a.out, "issue %d is in sight again\n", c.ID)
		default:
			fmt.Fprintf(a.out, "issue %d is not archived\n", c.ID)
		}
		return nil
	})
}
