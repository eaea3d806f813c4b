package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/edfisync/edfisync/schema"
	"github.com/edfisync/edfisync/sync"
	"github.com/edfisync/edfisync/syncdb"
)

// issueDetail is one issue with rows.
type issueDetail struct {
	sync.Cause
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

// blocker names what a row waits for: its entity and key, or whatever else the engine noted.
func blocker(text json.RawMessage) string {
	type missing struct {
		Entity     string          `json:"entity"`
		NaturalKey json.RawMessage `json:"naturalKey"`
	}
	var by struct {
		missing
		OneOf []missing `json:"oneOf"`
	}
	if err := json.Unmarshal(text, &by); err != nil || by.Entity == "" {
		return string(text)
	}
	name := strings.TrimSpace(by.Entity + " " + string(by.NaturalKey))
	for i, one := range by.OneOf {
		if i == 0 {
			name = "one of " + one.Entity + " " + string(one.NaturalKey)
			continue
		}
		name += ", " + string(one.NaturalKey)
	}
	return name
}
