package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/edfisync/edfisync/syncdb"
)

type retryCmd struct {
	What       string `arg:"" optional:"" help:"Number of an issue, or a resource such as ed-fi/students."`
	All        bool   `help:"Every refused record of the connection."`
	Connection string `placeholder:"NAME" help:"Connection; not needed when there is only one."`
}

// Help is the long help of the command.
func (retryCmd) Help() string {
	return `Lets the next run send refused records again though they have not changed: when you know that something was mended which edfisync cannot see,
such as a descriptor the target's host has loaded. Nothing is sent now. Everything but refused records is tried again by every run
anyway.

Examples:

    edfisync retry 7
    edfisync retry ed-fi/students
    edfisync retry --all`
}

// Run marks the records.
func (c *retryCmd) Run(ctx context.Context, a *app) error {
	if c.All != (c.What == "") {
		return usageError(errors.New("give the number of an issue, a resource, or --all"))
	}
	return a.look(ctx, c.Connection, func(ledger *syncdb.DB, conn syncdb.Connection) error {
		filter, name, err := c.filter(ctx, ledger, conn.ID)
		if err != nil {
			return err
		}
		act := syncdb.AuditRow{Who: operator(), Action: "retry", Connection: conn.Tenant + "/" + conn.Name, Object: name}
		n, err := ledger.RetryProblemsAs(ctx, conn.ID, filter, act)
		if err != nil {
			return err
		}
		if a.JSON {
			a.printJSON(struct {
				Records int `json:"records"`
			}{n})
			return nil
		}
		if n == 0 {
			fmt.Fprintln(a.out, "no refused record is waiting there; everything else is tried again by every run")
			return nil
		}
		fmt.Fprintf(a.out, "the next run sends %s again\n", counted(int64(n), "refused record"))
		return nil
	})
}

// filter finds what the argument names among the open issues.
func (c *retryCmd) filter(ctx context.Context, ledger *syncdb.DB, conn int64) (syncdb.ProblemFilter, string, error) {
	if c.All {
		return syncdb.ProblemFilter{}, "all", nil
	}
	issues, err := ledger.Issues(ctx, conn, true)
	if err != nil {
		return syncdb.ProblemFilter{}, "", err
	}
	if id, err := strconv.ParseInt(c.What, 10, 64); err == nil {
		if !slices.ContainsFunc(issues, func(i syncdb.Issue) bool { return i.ID == id }) {
			return syncdb.ProblemFilter{}, "", usageError(fmt.Errorf("there is no open issue %d; edfisync issues lists them", id))
		}
		return syncdb.ProblemFilter{IssueID: id}, fmt.Sprintf("issue %d", id), nil
	}
	i := slices.IndexFunc(issues, func(i syncdb.Issue) bool { return strings.EqualFold(i.Resource, fullResource(c.What)) })
	if i < 0 {
		return syncdb.ProblemFilter{}, "", usageError(fmt.Errorf("no open issue is of a resource %q; edfisync issues lists them", c.What))
	}
	return syncdb.ProblemFilter{Resource: issues[i].Resource}, issues[i].Resource, nil
}
