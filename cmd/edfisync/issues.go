package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/edfisync/edfisync/schema"
	"github.com/edfisync/edfisync/syncdb"
)

type issuesCmd struct {
	ID         int64  `arg:"" optional:"" help:"Issue to show with its rows. They hold student data. Default: list all."`
	Connection string `placeholder:"NAME" help:"Connection; not needed when there is only one."`
	All        bool   `help:"List issues that are settled too."`
	Rows       int    `default:"20" placeholder:"N" help:"Of one issue, show N rows (default: 20)."`
	Answer     bool   `help:"Of one issue, show what the target answered, word for word. It may quote student data."`
}

// Help is the long help of the command.
func (issuesCmd) Help() string {
	return `Lists what keeps records out of the target, grouped by cause. docs/operations.md says what to do about each code.

The list holds no student data. With the number of an issue, its rows are shown: their keys in the SIS, every rule they break, what they
wait for, and what the target said.

Examples:

    edfisync issues
    edfisync issues 7
    edfisync issues 7 --rows 500 --json
    edfisync issues 7 --answer`
}

// Run lists issues, or shows one.
func (c *issuesCmd) Run(ctx context.Context, a *app) error {
	if c.Rows < 1 {
		return usageError(fmt.Errorf("--rows: want 1 or more"))
	}
	return a.look(ctx, c.Connection, func(ledger *syncdb.DB, id int64) error {
		issues, err := ledger.Issues(ctx, id, !c.All && c.ID == 0)
		if err != nil {
			return err
		}
		if c.ID == 0 {
			return a.listIssues(issues)
		}
		i := slices.IndexFunc(issues, func(i syncdb.Issue) bool { return i.ID == c.ID })
		if i < 0 {
			return usageError(fmt.Errorf("there is no issue %d; edfisync issues --all lists them", c.ID))
		}
		problems, err := ledger.Problems(ctx, id, syncdb.ProblemFilter{IssueID: c.ID, Limit: c.Rows})
		if err != nil {
			return err
		}
		shown := issueDetail{Issue: issues[i], Details: make([]issueRow, len(problems))}
		for i := range problems {
			if shown.Details[i], err = readRow(&problems[i], c.Answer); err != nil {
				return fmt.Errorf("read a row of issue %d: %w", c.ID, err)
			}
		}
		if a.JSON {
			a.printJSON(shown)
			return nil
		}
		shown.print(a.out)
		return nil
	})
}

func (a *app) listIssues(issues []syncdb.Issue) error {
	if a.JSON {
		a.printJSON(append([]syncdb.Issue{}, issues...))
		return nil
	}
	if len(issues) == 0 {
		fmt.Fprintln(a.out, "no issues")
		return nil
	}
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ISSUE\tROWS\tOUTCOME\tOWNER\tCODE\tRESOURCE\tCAUSE\tSINCE RUN")
	for _, i := range issues {
		fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%s\t%s\t%d\n", i.ID, grouped(i.Rows), i.Outcome, i.Owner, i.Code, i.Resource, i.Cause, i.FirstRun)
	}
	flush(w)
	fmt.Fprintln(a.out, "\nthe rows of one, with their keys in the SIS: edfisync issues ISSUE")
	return nil
}

// issueDetail is one issue with rows.
type issueDetail struct {
	syncdb.Issue
	Details []issueRow `json:"details"` // at most as many as were asked for
}

// issueRow is one row that is not in sync. It holds student data: it is shown to who asks for it and goes nowhere else (I14).
type issueRow struct {
	SourceKey string          `json:"sourceKey,omitempty"`
	Outcome   string          `json:"outcome"`
	BlockedBy json.RawMessage `json:"blockedBy,omitempty"`
	rowDetail
}

// rowDetail is what the engine keeps of a row (syncdb.Problem.Detail): of an invalid one the rules it breaks, of a call the answer.
type rowDetail struct {
	Query         string           `json:"query,omitempty"`
	NaturalKey    json.RawMessage  `json:"naturalKey,omitempty"`
	Message       string           `json:"message,omitempty"`
	Problems      []schema.Problem `json:"problems,omitempty"`
	Call          string           `json:"call,omitempty"`
	Status        int              `json:"status,omitempty"`
	Type          string           `json:"type,omitempty"`
	CorrelationID string           `json:"correlationId,omitempty"`
	Hint          string           `json:"hint,omitempty"`
	Error         string           `json:"error,omitempty"`
	Answer        string           `json:"answer,omitempty"`
}

// readRow decodes a problem. The target's own words are left out unless asked for: they may quote any value of the record.
func readRow(p *syncdb.Problem, answer bool) (issueRow, error) {
	row := issueRow{SourceKey: p.SourceKey, Outcome: p.Outcome, BlockedBy: p.BlockedBy}
	if len(p.Detail) > 0 {
		if err := json.Unmarshal(p.Detail, &row.rowDetail); err != nil {
			return issueRow{}, fmt.Errorf("decode its details: %w", err)
		}
	}
	if string(row.NaturalKey) == "null" {
		row.NaturalKey = nil
	}
	if !answer {
		row.Answer = ""
	}
	return row, nil
}

// print writes the issue as a person reads it.
func (d *issueDetail) print(out io.Writer) {
	fmt.Fprintf(out, "issue %d: %s %s: %s\n", d.ID, d.Resource, d.Outcome, d.Code)
	fmt.Fprintf(out, "  %s\n", d.Cause)
	fmt.Fprintf(out, "  who can act: %s; docs/operations.md and docs/errors.md explain the code\n", d.Owner)
	fmt.Fprintf(out, "  since run %d, last in run %d", d.FirstRun, d.LastRun)
	if d.ClearedRun > 0 {
		fmt.Fprintf(out, ", settled by run %d", d.ClearedRun)
	}
	fmt.Fprintf(out, "; %s\n", counted(d.Issue.Rows, "row"))
	for i := range d.Details {
		d.Details[i].print(out)
	}
	if more := d.Issue.Rows - int64(len(d.Details)); more > 0 {
		fmt.Fprintf(out, "\nand %s; --rows %d shows all\n", counted(more, "more row"), d.Issue.Rows)
	}
}

func (r *issueRow) print(out io.Writer) {
	name := "source row " + r.SourceKey
	if r.SourceKey == "" {
		name = "a record without a source row" // a delete
	}
	fmt.Fprintf(out, "\n%s: %s\n", name, r.Outcome)
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(out, "  %s: %s\n", name, strings.ReplaceAll(value, "\n", "\n    "))
		}
	}
	line("query", r.Query)
	line("natural key", string(r.NaturalKey))
	line("why", r.Message)
	for _, p := range r.Problems {
		value := ""
		if p.Value != "" {
			value = fmt.Sprintf(": %q", p.Value)
		}
		line(p.Path, p.Message+" ("+p.Code+")"+value)
	}
	line("waits for", blocker(r.BlockedBy))
	if r.Call != "" {
		said := "no answer"
		if r.Status != 0 {
			said = fmt.Sprintf("%d %s", r.Status, r.Type)
		}
		line(r.Call, strings.TrimSpace(said))
	}
	line("error", r.Error)
	line("correlation id", r.CorrelationID)
	line("advice", r.Hint)
	line("answer", r.Answer)
}

// blocker names what a row waits for: its entity, or whatever else the engine noted.
func blocker(text json.RawMessage) string {
	var by struct {
		Entity string `json:"entity"`
	}
	if err := json.Unmarshal(text, &by); err != nil || by.Entity == "" {
		return string(text)
	}
	return by.Entity
}
