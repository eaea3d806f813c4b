package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/edfisync/edfisync/sync"
	"github.com/edfisync/edfisync/syncdb"
)

// shownRun is one run with all that the ledger says of it.
type shownRun struct {
	syncdb.Run
	Connection string           `json:"connection"`
	Warnings   []sync.Warning   `json:"warnings,omitempty"` // what the connection's schools and the scope name and is not there
	Progress   *sync.Progress   `json:"progress,omitempty"` // of a run that is under way
	Steps      []syncdb.Step    `json:"steps"`
	Log        []syncdb.LogLine `json:"log"`
}

// showRun shows one run, of whatever connection.
func (a *app) showRun(ctx context.Context, ledger *syncdb.DB, number int64) error {
	run, err := ledger.FindProgress(ctx, number)
	if errors.Is(err, syncdb.ErrNoRun) {
		return usageError(fmt.Errorf("there is no run %d; edfisync runs lists them", number))
	}
	if err != nil {
		return err
	}
	conn, err := connectionOf(ctx, ledger, run.ConnectionID)
	if err != nil {
		return err
	}
	out := shownRun{Run: run.Run, Connection: conn.Name, Steps: []syncdb.Step{}, Log: []syncdb.LogLine{}}
	out.Warnings, out.Run.Totals = sync.WarningsOf(out.Run.Totals)
	if run.State == syncdb.RunRunning && run.Progress != nil {
		out.Progress = &sync.Progress{}
		if err := json.Unmarshal(run.Progress, out.Progress); err != nil {
			return fmt.Errorf("read how far run %d is: %w", number, err)
		}
	}
	steps, err := ledger.Steps(ctx, number)
	if err != nil {
		return err
	}
	out.Steps = append(out.Steps, steps...)
	lines, err := ledger.RunLog(ctx, number, 0, runLogMost+1)
	if err != nil {
		return err
	}
	out.Log = append(out.Log, lines...)
	if a.JSON {
		a.printJSON(out)
		return nil
	}
	var cutOff map[int64]sync.Totals
	if len(run.Totals) == 0 {
		totals, err := sync.TotalsOfSteps(ctx, ledger, number)
		if err != nil {
			return err
		}
		cutOff = map[int64]sync.Totals{number: totals}
	}
	if err := printRuns(a.out, []syncdb.Run{run.Run}, cutOff); err != nil {
		return err
	}
	if out.Progress != nil {
		fmt.Fprintf(a.out, "\n%s\n", progressLine(*out.Progress))
	}
	writeWarnings(a.out, out.Warnings)
	return out.print(a.out)
}

// progressLine says how far a run is, how fast it goes, and how long that takes.
func progressLine(p sync.Progress) string {
	line := phrase(p.Phase)
	if p.Resource != "" {
		line += " " + p.Resource
	}
	line += ": " + grouped(p.Done)
	if p.Total > 0 {
		line += " of " + grouped(p.Total)
	}
	if p.Rate > 0 {
		line += fmt.Sprintf(", %.1f/s", p.Rate)
	}
	if p.Left == nil {
		return line + ", time left unknown"
	}
	return line + ", " + (time.Duration(*p.Left) * time.Second).String() + " left"
}

// print writes the steps and the log.
func (r shownRun) print(out io.Writer) error {
	if len(r.Steps) > 0 {
		fmt.Fprintln(out)
		w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "STEP\tVERB\tSTATE\tCREATED\tUPDATED\tDELETED\tHELD\tINVALID\tBLOCKED\tFAILED")
		for _, s := range r.Steps {
			var t sync.Totals
			if len(s.Totals) > 0 {
				if err := json.Unmarshal(s.Totals, &t); err != nil {
					return fmt.Errorf("read the totals of a step: %w", err)
				}
			}
			fmt.Fprintf(w, "%s\t%s\t%s", s.Resource, verbWord(s.Verb), s.State)
			for _, n := range []int64{t.Created, t.Updated, t.Deleted, t.Kept, t.Invalid, t.Blocked, t.Failed()} {
				fmt.Fprintf(w, "\t%s", grouped(n))
			}
			fmt.Fprintln(w)
		}
		flush(w)
	}
	if len(r.Log) == 0 {
		return nil
	}
	fmt.Fprintln(out)
	for _, l := range r.Log {
		fmt.Fprintln(out, logLineText(l))
	}
	return nil
}

// logLineText is a line of a run's log as people read it.
func logLineText(l syncdb.LogLine) string {
	var b strings.Builder
	b.WriteString(when(l.At))
	if l.Level >= slog.LevelWarn {
		fmt.Fprintf(&b, " %s:", strings.ToLower(l.Level.String()))
	}
	b.WriteString(" " + l.Text)
	var detail map[string]any
	_ = json.Unmarshal(l.Detail, &detail) // none is no detail
	for _, name := range slices.Sorted(maps.Keys(detail)) {
		fmt.Fprintf(&b, " %s=%v", name, detail[name])
	}
	return b.String()
}
