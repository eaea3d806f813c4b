package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/edfisync/edfisync/cmd/edfisync/internal/config"
	"github.com/edfisync/edfisync/syncdb"
)

type runsCmd struct {
	Connection string `placeholder:"NAME" help:"Connection; not needed when there is only one."`
	Limit      int    `default:"20" placeholder:"N" help:"Show the last N (default: 20)."`
}

// Run lists past runs, the newest first.
func (c *runsCmd) Run(ctx context.Context, a *app) error {
	return a.look(ctx, c.Connection, func(ledger *syncdb.DB, id int64) error {
		runs, err := ledger.Runs(ctx, id, c.Limit)
		if err != nil {
			return fmt.Errorf("list runs: %w", err)
		}
		if a.JSON {
			a.printJSON(append([]syncdb.Run{}, runs...))
			return nil
		}
		w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "RUN\tSTATE\tWHY\tSTARTED\tTOOK\tERROR")
		for _, r := range runs {
			took := ""
			if !r.EndedAt.IsZero() && !r.StartedAt.IsZero() {
				took = r.EndedAt.Sub(r.StartedAt).Round(time.Millisecond).String()
			}
			fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%s\n", r.ID, r.State, r.Reason, when(r.StartedAt), took, firstLine(r.Error))
		}
		flush(w)
		return nil
	})
}

// look calls fn with the ledger and the connection's id in it.
func (a *app) look(ctx context.Context, name string, fn func(ledger *syncdb.DB, id int64) error) error {
	cfg, err := a.load()
	if err != nil {
		return err
	}
	conn, err := pick(cfg, name)
	if err != nil {
		return err
	}
	if missing(cfg) {
		return &exitError{code: exitFailed, err: errors.New("there is no ledger yet: the first edfisync run makes it")}
	}
	ledger, err := openLedger(ctx, cfg)
	if err != nil {
		return err
	}
	id, _, err := ledger.Connection(ctx, conn.Tenant, conn.Name)
	if err != nil {
		return errors.Join(fmt.Errorf("open the connection's part of the ledger: %w", err), ledger.Close())
	}
	return errors.Join(fn(ledger, id.ID), ledger.Close())
}

// missing tells whether the ledger is a file that is not there, so that looking does not make one.
func missing(cfg *config.Config) bool {
	dsn, _ := ledgerConfig(cfg)
	path, isFile := strings.CutPrefix(dsn, config.SQLiteLedger)
	if !isFile {
		return false
	}
	_, err := os.Stat(path)
	return errors.Is(err, fs.ErrNotExist)
}

func when(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Local().Format("2006-01-02 15:04:05")
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}
