package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/edfisync/edfisync/syncdb"
)

type cancelCmd struct {
	Number int64  `arg:"" name:"run" help:"Number of a run that waits or runs; edfisync runs lists them."`
	Why    string `placeholder:"TEXT" help:"For the audit trail."`
}

// Help is the long help of the command.
func (cancelCmd) Help() string {
	return `Ends a run that waits, or asks the process that does it to end it, wherever that is: it sends no further call within two seconds. What the
run did stays, and the connection's next run goes on from there.

Examples:

    edfisync cancel 214
    edfisync cancel 214 --why "the SIS is being restored"`
}

// Run cancels the run.
func (c *cancelCmd) Run(ctx context.Context, a *app) error {
	return a.lookAtLedger(ctx, func(ledger *syncdb.DB) error {
		run, err := ledger.RunByID(ctx, c.Number)
		if errors.Is(err, syncdb.ErrNoRun) {
			return usageError(fmt.Errorf("there is no run %d; edfisync runs lists them", c.Number))
		}
		if err != nil {
			return err
		}
		conn, err := connectionOf(ctx, ledger, run.ConnectionID)
		if err != nil {
			return err
		}
		act, err := actOf(conn, "run.cancel", fmt.Sprintf("run %d", run.ID), c.Why)
		if err != nil {
			return err
		}
		run, err = ledger.CancelRun(ctx, run.ID, act)
		var state *syncdb.RunStateError
		switch {
		case errors.As(err, &state):
			return fmt.Errorf("run %d is %s: there is nothing to cancel", state.ID, state.State)
		case err != nil:
			return err
		case a.JSON:
			a.printJSON(run)
		case run.State == syncdb.RunCanceled:
			fmt.Fprintf(a.out, "run %d is canceled before it began\n", run.ID)
		default:
			fmt.Fprintf(a.out, "run %d is asked to end; edfisync runs shows when it has\n", run.ID)
		}
		return nil
	})
}

type pauseCmd struct {
	Name       string        `arg:"" optional:"" help:"Connection; not needed when there is only one."`
	Connection string        `placeholder:"NAME" help:"The same as NAME."`
	Why        string        `required:"" placeholder:"TEXT" help:"For those who will ask. No student data, please."`
	For        time.Duration `placeholder:"DURATION" xor:"end" help:"How long, such as 8h (default: until somebody resumes it)."`
	Until      time.Time     `placeholder:"TIME" xor:"end" help:"Until when, such as 2027-07-01T06:00:00Z."`
}

// Help is the long help of the command.
func (pauseCmd) Help() string {
	return `Starts no run of a connection until it is resumed: for a planned change, such as a rollover of the SIS. Runs that are asked for meanwhile wait.
One under way goes on; edfisync cancel ends it.

Examples:

    edfisync pause lincoln-2027 --why "rollover" --for 48h
    edfisync pause --why "the target is being moved"`
}

// Run pauses the connection.
func (c *pauseCmd) Run(ctx context.Context, a *app) error {
	if strings.TrimSpace(c.Why) == "" {
		return usageError(errors.New("--why: say why"))
	}
	name, err := nameGiven(c.Name, c.Connection)
	if err != nil {
		return err
	}
	p := syncdb.Pause{At: time.Now().UTC(), Who: operator(), Why: c.Why, Until: c.Until}
	if c.For != 0 {
		p.Until = p.At.Add(c.For)
	}
	if !p.Until.IsZero() && !p.Until.After(p.At) {
		return usageError(errors.New("the pause would be over already"))
	}
	return a.look(ctx, name, func(ledger *syncdb.DB, conn syncdb.Connection) error {
		act, err := actOf(conn, "connection.pause", "", c.Why)
		if err != nil {
			return err
		}
		if err := ledger.SetPause(ctx, conn.ID, &p, act); err != nil {
			return err
		}
		if a.JSON {
			a.printJSON(p)
			return nil
		}
		fmt.Fprintln(a.out, "no run begins until the connection is resumed; one under way goes on")
		return nil
	})
}

type resumeCmd struct {
	Name       string `arg:"" optional:"" help:"Connection; not needed when there is only one."`
	Connection string `placeholder:"NAME" help:"The same as NAME."`
}

// Help is the long help of the command.
func (resumeCmd) Help() string {
	return `Ends a pause. A run that waited begins within seconds, when a serve or worker process is there.

Examples:

    edfisync resume lincoln-2027`
}

// Run resumes the connection.
func (c *resumeCmd) Run(ctx context.Context, a *app) error {
	name, err := nameGiven(c.Name, c.Connection)
	if err != nil {
		return err
	}
	return a.look(ctx, name, func(ledger *syncdb.DB, conn syncdb.Connection) error {
		_, paused, err := ledger.PauseOf(ctx, conn.ID)
		if err != nil {
			return err
		}
		if paused {
			act, err := actOf(conn, "connection.resume", "", "")
			if err != nil {
				return err
			}
			if err := ledger.SetPause(ctx, conn.ID, nil, act); err != nil {
				return err
			}
		}
		switch {
		case a.JSON:
			a.printJSON(map[string]bool{"resumed": paused})
		case paused:
			fmt.Fprintln(a.out, "the connection is resumed")
		default:
			fmt.Fprintln(a.out, "the connection is not paused")
		}
		return nil
	})
}

// nameGiven is a connection that may be named by an argument or by --connection.
func nameGiven(argument, flag string) (string, error) {
	if argument != "" && flag != "" && argument != flag {
		return "", usageError(errors.New("two connections are named: give one, as NAME or with --connection"))
	}
	return cmp.Or(argument, flag), nil
}

// connectionOf is the connection of that number.
func connectionOf(ctx context.Context, ledger *syncdb.DB, id int64) (syncdb.Connection, error) {
	all, err := ledger.Connections(ctx)
	if err != nil {
		return syncdb.Connection{}, err
	}
	for _, c := range all {
		if c.ID == id {
			return c, nil
		}
	}
	return syncdb.Connection{}, fmt.Errorf("no connection %d", id)
}

// actOf is the audit row of what the person at this terminal does, for a transaction of the ledger to write (I16).
func actOf(conn syncdb.Connection, action, object, why string) (syncdb.AuditRow, error) {
	row := syncdb.AuditRow{Who: operator(), Action: action, Connection: conn.Tenant + "/" + conn.Name, Object: object}
	if why == "" {
		return row, nil
	}
	var err error
	row.Detail, err = json.Marshal(map[string]string{"why": why})
	return row, err
}
