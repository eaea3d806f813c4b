package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"text/tabwriter"

	"github.com/edfisync/edfisync/cmd/edfisync/internal/config"
	"github.com/edfisync/edfisync/internal/keys"
	"github.com/edfisync/edfisync/sync"
	"github.com/edfisync/edfisync/syncdb"
)

// forecastOf is the forecast of one connection.
type forecastOf struct {
	Connection string `json:"connection"`
	*sync.Forecast
}

// code is the exit code a run would end with, as far as a forecast can tell.
func (f *forecastOf) code() exitCode {
	if len(f.Reasons) > 0 {
		return exitProblems
	}
	return exitOK
}

// forecast predicts a run of one connection. A ledger that is not there yet is stood in for by an empty one that is thrown away.
func (a *app) forecast(ctx context.Context, cfg *config.Config, conn *config.Connection) (*forecastOf, error) {
	o, err := a.openWithoutLedger(ctx, cfg, conn)
	if err != nil {
		return nil, err
	}
	defer o.close()
	if shown := a.newProgress(); shown != nil {
		o.engine.Progress = shown.event
		defer shown.finish()
	}
	target, ok := o.engine.Reader.(sync.ForecastTarget)
	if !ok {
		return nil, errors.New("this target cannot be asked for a forecast") // an *edfi.Client can
	}
	f, err := o.engine.Forecast(ctx, target)
	if err != nil {
		return nil, hinted(err)
	}
	return &forecastOf{conn.FullName(), f}, nil
}

// openWithoutLedger opens a connection to look at it, and makes nothing: its work folder is a temporary one, and a ledger that is not there yet is
// stood in for by an empty one in it. The caller calls close.
func (a *app) openWithoutLedger(ctx context.Context, cfg *config.Config, conn *config.Connection) (*opened, error) {
	o := &opened{}
	log := logger(a.err, cfg.Log).With(slog.String("connection", conn.FullName()))
	err := func() error {
		dir, err := os.MkdirTemp("", "edfisync-look-*")
		if err != nil {
			return fmt.Errorf("make a temporary folder: %w", err)
		}
		o.closers = append(o.closers, func() { logClose(log, "temporary folder", os.RemoveAll(dir)) })
		if unmade(cfg) {
			o.ledger, err = syncdb.Open(ctx, syncdb.Config{DSN: config.SQLiteLedger + filepath.Join(dir, "ledger.sqlite"), Master: keys.GenerateMaster()})
		} else {
			o.ledger, err = existingLedger(ctx, cfg)
		}
		if err != nil {
			return err
		}
		o.closers = append(o.closers, func() { logClose(log, "ledger", o.ledger.Close()) })
		if err := o.open(ctx, cfg, conn, log); err != nil {
			return err
		}
		o.engine.Options.WorkDir = dir
		return nil
	}()
	if err != nil {
		o.close()
		return nil, hinted(a.located(cfg, conn, err))
	}
	return o, nil
}

// print writes the forecast as a person reads it: the figures, who must act on what, and what could not be found out.
func (f *forecastOf) print(out io.Writer) {
	fmt.Fprintf(out, "\nforecast of %s: of %s, %s would arrive, %s would not, %s are there already; nothing was sent\n", f.Connection,
		counted(f.Rows, "row"), grouped(f.Arrive), grouped(f.Fail), grouped(f.Unchanged))
	if len(f.Reasons) > 0 {
		w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "ROWS\tFREES\tWHO ACTS\tCODE\tRESOURCE\tCAUSE")
		for _, r := range f.Reasons {
			rows := grouped(r.Rows)
			if r.Rows+r.Frees == 0 {
				rows = "all"
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", rows, grouped(r.Frees), r.Owner, r.Code, r.Resource, r.Cause)
		}
		flush(w)
	}
	told := map[string]bool{}
	for _, r := range f.Reasons {
		if !told[r.Code] {
			fmt.Fprintf(out, "%s (%s): %s\n", r.Code, r.Owner, r.Hint)
		}
		told[r.Code] = true
	}
	writeWarnings(out, f.Warnings)
	for _, note := range f.Notes {
		fmt.Fprintf(out, "not known: %s\n", note)
	}
}
