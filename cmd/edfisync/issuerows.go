package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/edfisync/edfisync/sync"
)

// issueDetail is one issue with rows.
type issueDetail struct {
	sync.Cause
	Details []sync.IssueRow `json:"details"` // at most as many as were asked for
}

// print writes the issue as a person reads it.
func (d *issueDetail) print(out io.Writer) {
	fmt.Fprintf(out, "issue %d: %s %s: %s\n", d.ID, d.Resource, d.Outcome, d.Code)
	fmt.Fprintf(out, "  %s\n", d.Cause.Cause)
	fmt.Fprintf(out, "  who can act: %s; docs/operations.md and docs/errors.md explain the code\n", d.Owner)
	if a, ok := sync.AdviceOn(d.Code); ok {
		fmt.Fprintf(out, "  what to do: %s\n", a.Hint)
	}
	fmt.Fprintf(out, "  since run %d, last in run %d", d.FirstRun, d.LastRun)
	if d.ClearedRun > 0 {
		fmt.Fprintf(out, ", settled by run %d", d.ClearedRun)
	}
	fmt.Fprintf(out, "; %s\n", counted(d.Issue.Rows, "row"))
	if !d.Archived.IsZero() && d.ClearedRun == 0 {
		fmt.Fprintf(out, "  archived by %s, %s: %s\n", d.Archived.Who, when(d.Archived.At), d.Archived.Why)
	}
	for i := range d.Details {
		printRow(out, &d.Details[i])
	}
	if more := d.Issue.Rows - int64(len(d.Details)); more > 0 {
		fmt.Fprintf(out, "\nand %s; --rows %d shows all\n", counted(more, "more row"), d.Issue.Rows)
	}
}

func printRow(out io.Writer, r *sync.IssueRow) {
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
	line("waits for", r.WaitsFor())
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
