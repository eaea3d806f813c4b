package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/edfisync/edfisync/cmd/edfisync/internal/config"
	"github.com/edfisync/edfisync/internal/keys"
	"github.com/edfisync/edfisync/jobs"
	"github.com/edfisync/edfisync/sync"
	"github.com/edfisync/edfisync/syncdb"
)

type runsCmd struct {
	Number     int64  `arg:"" optional:"" name:"run" help:"Show this run: how far it is, its steps and its log."`
	Connection string `placeholder:"NAME" help:"Connection; not needed when there is only one."`
	Limit      int    `default:"20" placeholder:"N" help:"Show the last N (default: 20)."`
}

// Help is the long help of the command.
func (runsCmd) Help() string {
	return `Lists past runs, the newest first. With the number of a run: how far it is, how fast it goes and how long that takes, its steps, and its log.

Examples:

    edfisync runs
    edfisync runs 214
    edfisync runs 214 --json`
}

// Run lists past runs, the newest first, or shows one.
func (c *runsCmd) Run(ctx context.Context, a *app) error {
	if c.Number != 0 {
		return a.lookAtLedger(ctx, func(ledger *syncdb.DB) error { return a.showRun(ctx, ledger, c.Number) })
	}
	return a.look(ctx, c.Connection, func(ledger *syncdb.DB, conn syncdb.Connection) error {
		runs, err := ledger.Runs(ctx, conn.ID, c.Limit)
		if err != nil {
			return err
		}
		if a.JSON {
			out := make([]listedRun, len(runs))
			for i, r := range runs {
				out[i].Warnings, r.Totals = sync.WarningsOf(r.Totals)
				out[i].Run = r
			}
			a.printJSON(out)
			return nil
		}
		cutOff := map[int64]sync.Totals{}
		for _, r := range runs {
			if len(r.Totals) > 0 {
				continue
			}
			if cutOff[r.ID], err = sync.TotalsOfSteps(ctx, ledger, r.ID); err != nil {
				return err
			}
		}
		if err := printRuns(a.out, runs, cutOff); err != nil {
			return err
		}
		return a.tellStanding(ctx, ledger, conn)
	})
}

// listedRun is a run as --json lists it.
type listedRun struct {
	syncdb.Run
	Warnings []sync.Warning `json:"warnings,omitempty"` // what the connection's schools and the scope name and is not there
}

// printRuns is a table of runs with their counts, and below it what kept runs from finishing. Of a run that wrote no totals, because it lost its
// process or is in progress, cutOff has those of the steps that were finished: at least so many.
func printRuns(out io.Writer, runs []syncdb.Run, cutOff map[int64]sync.Totals) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "RUN\tSTATE\tWHY\tSTARTED\tTOOK\tCREATED\tUPDATED\tDELETED\tHELD\tINVALID\tBLOCKED\tFAILED")
	for _, r := range runs {
		took := ""
		if !r.EndedAt.IsZero() && !r.StartedAt.IsZero() {
			took = r.EndedAt.Sub(r.StartedAt).Round(time.Millisecond).String()
		}
		reason := r.Reason
		if !r.Scope.All() {
			reason += ": " + scopeText(r.Scope)
		}
		fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s", r.ID, r.State, reason, when(r.StartedAt), took)
		t, atLeast := cutOff[r.ID], "+"
		if len(r.Totals) > 0 {
			atLeast = ""
			if err := json.Unmarshal(r.Totals, &t); err != nil {
				return fmt.Errorf("read the totals of run %d: %w", r.ID, err)
			}
		}
		for _, n := range []int64{t.Created, t.Updated, t.Deleted, t.Kept, t.Invalid, t.Blocked, t.Failed()} {
			fmt.Fprintf(w, "\t%s%s", grouped(n), atLeast)
		}
		fmt.Fprintln(w)
	}
	flush(w)
	for _, r := range runs {
		if r.Wait != nil {
			fmt.Fprintf(out, "\nrun %d waits: %s\n", r.ID, r.Wait)
		}
		if r.Error != "" {
			fmt.Fprintf(out, "\nrun %d %s: %s\n", r.ID, r.State, r.Error)
			if hint := sync.FailureHints()[r.Failure]; hint != "" {
				fmt.Fprintf(out, "  %s; what to do: %s\n", r.Failure, hint)
			}
		}
	}
	return nil
}

// tellStanding says what keeps a connection's schedule from running it, a pause or a quarantine, and when it is run next.
func (a *app) tellStanding(ctx context.Context, ledger *syncdb.DB, conn syncdb.Connection) error {
	pause, paused, err := ledger.PauseOf(ctx, conn.ID)
	if err != nil {
		return err
	}
	if paused {
		fmt.Fprintf(a.out, "\n%s\n", &pausedError{pause})
	}
	cfg, err := a.load()
	if err != nil {
		return err
	}
	prospects, err := ledger.Prospects(ctx)
	if err != nil {
		return err
	}
	failing := prospects[conn.ID].Failing
	if until := quarantineOf(cfg).Until(conn.ID, failing); !until.IsZero() {
		fmt.Fprintf(a.out, "\n%s failed one after the other: the schedule leaves the connection alone until %s; edfisync run, or sync now, goes through\n",
			counted(int64(failing.Runs), "run"), when(until))
	}
	definitions, err := ledger.Definitions(ctx)
	if err != nil {
		return err
	}
	if cfg, _, err = a.withDefined(cfg, definitions); err != nil {
		return usageError(err)
	}
	for i := range cfg.Connections {
		c := &cfg.Connections[i]
		if c.Tenant != conn.Tenant || c.Name != conn.Name {
			continue
		}
		next, err := nextRun(cfg, c, prospects[conn.ID])
		if err != nil {
			return err
		}
		if next != nil {
			fmt.Fprintf(a.out, "\nnext run: %s\n", nextText(next, c.Schedule.TimeZone))
		}
	}
	return nil
}

// nextRun says which run of a connection comes next when nobody asks for one, by what serve decides by; nil when none does.
func nextRun(cfg *config.Config, conn *config.Connection, p syncdb.Prospect) (*jobs.Next, error) {
	var schedule *jobs.Schedule
	if conn.Schedule.Cron != "" && p.Connection != 0 {
		s, err := scheduleOf(conn, p.Connection)
		if err != nil {
			return nil, err
		}
		schedule = &s
	}
	return jobs.Coming(schedule, p, retryOf(cfg), quarantineOf(cfg), time.Now()), nil
}

// nextText says when a run comes, by the clock of its connection's schedule, and why then.
func nextText(next *jobs.Next, zone string) string {
	if next.At.IsZero() {
		return next.Text
	}
	return inZone(next.At, zone) + ", " + next.Text
}

// inZone is a time by the clock of a time zone; one that is not known stands for UTC.
func inZone(t time.Time, zone string) string {
	where, err := time.LoadLocation(zone)
	if err != nil {
		where = time.UTC
	}
	return t.In(where).Format("2006-01-02 15:04:05 MST")
}

// look calls fn with the ledger and the connection as it is known there.
func (a *app) look(ctx context.Context, name string, fn func(ledger *syncdb.DB, conn syncdb.Connection) error) error {
	return a.lookWithKeys(ctx, name, func(ledger *syncdb.DB, conn syncdb.Connection, _ *keys.Ring) error { return fn(ledger, conn) })
}

// lookWithKeys calls fn with the ledger, the connection in it and its keys.
func (a *app) lookWithKeys(ctx context.Context, name string, fn func(ledger *syncdb.DB, conn syncdb.Connection, ring *keys.Ring) error) error {
	cfg, conn, err := a.picked(ctx, name)
	if err != nil {
		return err
	}
	ledger, err := existingLedger(ctx, cfg)
	if err != nil {
		return err
	}
	id, ring, err := ledger.Connection(ctx, conn.Tenant, conn.Name)
	if err != nil {
		return errors.Join(err, ledger.Close())
	}
	return errors.Join(fn(ledger, id, ring), ledger.Close())
}

// lookAtLedger calls fn with the ledger, whatever the connections.
func (a *app) lookAtLedger(ctx context.Context, fn func(ledger *syncdb.DB) error) error {
	cfg, err := a.load()
	if err != nil {
		return err
	}
	ledger, err := existingLedger(ctx, cfg)
	if err != nil {
		return err
	}
	return errors.Join(fn(ledger), ledger.Close())
}

func when(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Local().Format("2006-01-02 15:04:05")
}
