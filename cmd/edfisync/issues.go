package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"

	"github.com/edfisync/edfisync/sync"
	"github.com/edfisync/edfisync/syncdb"
)

type issuesCmd struct {
	Show      issuesShowCmd      `cmd:"" default:"withargs" help:"List issues by cause, or show the rows of one (this is what edfisync issues does)."`
	Export    issuesExportCmd    `cmd:"" help:"Write the rows of all issues as CSV, for people without a command line."`
	Archive   issuesArchiveCmd   `cmd:"" help:"Put an issue out of sight, with the reason, until its cause comes up for other rows."`
	Unarchive issuesUnarchiveCmd `cmd:"" help:"Bring an archived issue back into sight."`
}

// Help is the long help of the command.
func (issuesCmd) Help() string {
	return `Lists what keeps records out of the target, grouped by cause, the cause first whose solution lets most records through. docs/operations.md
says what to do about each code.

The list holds no student data. With the number of an issue, its rows are shown: their keys in the SIS, every rule they break, what they
wait for, and what the target said. That is noted in the audit trail.

Examples:

    edfisync issues
    edfisync issues --cleared
    edfisync issues --archived
    edfisync issues 7
    edfisync issues 7 --rows 500 --json
    edfisync issues 7 --answer
    edfisync issues export --out issues.csv
    edfisync issues archive 7 --why "exchange students, no birth date on file"`
}

type issuesShowCmd struct {
	ID         int64  `arg:"" optional:"" help:"Issue to show with its rows. They hold student data. Default: list all."`
	Connection string `placeholder:"NAME" help:"Connection; not needed when there is only one."`
	All        bool   `xor:"which" help:"List issues that are archived or settled too."`
	Archived   bool   `xor:"which" help:"List archived issues only, with who archived each and why."`
	Cleared    bool   `xor:"which" help:"List settled issues only, with the run that settled each."`
	Rows       int    `default:"20" placeholder:"N" help:"Of one issue, show N rows (default: 20)."`
	Answer     bool   `help:"Of one issue, show what the target answered, word for word. It may quote student data."`
}

// Run lists issues, or shows one.
func (c *issuesShowCmd) Run(ctx context.Context, a *app) error {
	if c.Rows < 1 {
		return usageError(fmt.Errorf("--rows: want 1 or more"))
	}
	return a.look(ctx, c.Connection, func(ledger *syncdb.DB, conn syncdb.Connection) error {
		if c.ID != 0 {
			return c.show(ctx, a, ledger, conn)
		}
		causes, hidden, err := c.list(ctx, ledger, conn.ID)
		if err != nil {
			return err
		}
		if a.JSON {
			a.printJSON(causes)
			return nil
		}
		printCauses(a.out, causes, hidden)
		return nil
	})
}

// list reads the issues the flags ask for: open ones by rank, then settled ones, the latest first. hidden is how many it leaves out because they are archived.
func (c *issuesShowCmd) list(ctx context.Context, ledger *syncdb.DB, conn int64) (causes []sync.Cause, hidden int, err error) {
	causes = []sync.Cause{}
	if !c.Cleared {
		ranked, err := sync.OpenCauses(ctx, ledger, conn, 0)
		if err != nil {
			return nil, 0, err
		}
		inSight, archived := sync.PartArchived(ranked)
		switch {
		case c.Archived:
			causes = append(causes, archived...)
		case c.All:
			causes = append(causes, ranked...)
		default:
			causes, hidden = append(causes, inSight...), len(archived)
		}
	}
	if c.All || c.Cleared {
		issues, err := ledger.Issues(ctx, conn, false)
		if err != nil {
			return nil, 0, err
		}
		slices.SortStableFunc(issues, func(a, b syncdb.Issue) int { return int(b.ClearedRun - a.ClearedRun) })
		for _, i := range issues {
			if i.ClearedRun != 0 {
				causes = append(causes, sync.Cause{Issue: i})
			}
		}
	}
	return causes, hidden, nil
}

// show prints one issue with its rows, once that is in the audit trail (I16).
func (c *issuesShowCmd) show(ctx context.Context, a *app, ledger *syncdb.DB, conn syncdb.Connection) error {
	issues, err := ledger.Issues(ctx, conn.ID, false)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(issues, func(i syncdb.Issue) bool { return i.ID == c.ID })
	if i < 0 {
		return usageError(fmt.Errorf("there is no issue %d; edfisync issues --all lists them", c.ID))
	}
	if err := a.audit(ctx, ledger, conn, "issues.show", fmt.Sprintf("issue %d", c.ID), map[string]any{"rows": c.Rows, "answer": c.Answer}); err != nil {
		return err
	}
	problems, err := ledger.Problems(ctx, conn.ID, syncdb.ProblemFilter{IssueID: c.ID, Limit: c.Rows})
	if err != nil {
		return err
	}
	cause, err := causeOf(ctx, ledger, conn.ID, issues[i])
	if err != nil {
		return err
	}
	shown := issueDetail{Cause: cause, Details: make([]sync.IssueRow, len(problems))}
	level := sync.ShowValues
	if c.Answer {
		level = sync.ShowAnswer
	}
	for i := range problems {
		if shown.Details[i], err = sync.ReadRow(&problems[i], level); err != nil {
			return fmt.Errorf("read a row of issue %d: %w", c.ID, err)
		}
	}
	if a.JSON {
		a.printJSON(shown)
		return nil
	}
	shown.print(a.out)
	return nil
}

// causeOf is an issue with what the list says of it: how many rows it stands in the way of, and what to do.
func causeOf(ctx context.Context, ledger *syncdb.DB, conn int64, issue syncdb.Issue) (sync.Cause, error) {
	ranked, err := sync.OpenCauses(ctx, ledger, conn, 0)
	if err != nil {
		return sync.Cause{}, err
	}
	if i := slices.IndexFunc(ranked, func(c sync.Cause) bool { return c.ID == issue.ID }); i >= 0 {
		return ranked[i], nil
	}
	advice, _ := sync.AdviceOn(issue.Code)
	return sync.Cause{Issue: issue, Hint: advice.Hint}, nil // settled
}

// hintsShown is for how many causes the list says at once what to do.
const hintsShown = 5

// printCauses is the list of issues as a person reads it; hidden are archived.
func printCauses(out io.Writer, causes []sync.Cause, hidden int) {
	archived := func() {
		if hidden > 0 {
			fmt.Fprintf(out, "%s not shown: archived; edfisync issues --archived\n", counted(int64(hidden), "issue"))
		}
	}
	if len(causes) == 0 {
		fmt.Fprintln(out, "no issues")
		archived()
		return
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ISSUE\tROWS\tFREES\tOUTCOME\tOWNER\tCODE\tRESOURCE\tCAUSE\tRUNS")
	for i := range causes {
		c := &causes[i]
		frees, runs := grouped(c.Own+c.Frees), fmt.Sprintf("since %d", c.FirstRun)
		switch {
		case c.ClearedRun != 0:
			frees, runs = "", fmt.Sprintf("%d, settled by %d", c.FirstRun, c.ClearedRun)
		case c.Informs:
			frees = "-"
		case c.Waiting():
			frees = "follows"
		}
		fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", c.ID, grouped(c.Rows), frees, c.Outcome, c.Owner, c.Code, c.Resource, c.Cause, runs)
	}
	flush(w)
	fmt.Fprintln(out)
	for i := range causes[:min(len(causes), hintsShown)] {
		c := &causes[i]
		if !c.Archived.IsZero() {
			continue
		}
		if c.ClearedRun == 0 && !c.Waiting() && !c.Informs && c.Hint != "" {
			fmt.Fprintf(out, "issue %d (%s) → frees %s: %s\n", c.ID, c.Owner, grouped(c.Own+c.Frees), c.Hint)
		}
	}
	for i := range causes {
		if c := &causes[i]; c.ClearedRun == 0 && !c.Archived.IsZero() {
			fmt.Fprintf(out, "issue %d is archived by %s, %s: %s\n", c.ID, c.Archived.Who, when(c.Archived.At), c.Archived.Why)
		}
	}
	archived()
	fmt.Fprintln(out, "the rows of one, with their keys in the SIS: edfisync issues ISSUE")
}
