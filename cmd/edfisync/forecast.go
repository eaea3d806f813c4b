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
	o := &opened{}
	defer o.close()
	log := logger(a.err, cfg.Log).With(slog.String("connection", conn.FullName()))
	dir, err := os.MkdirTemp("", "edfisync-forecast-*")
	if err != nil {
		return nil, fmt.Errorf("make a folder for the forecast: %w", err)
	}
	o.closers = append(o.closers, func() { logClose(log, "forecast", os.RemoveAll(dir)) })
	if _, err := masterKey(cfg); missing(cfg) || errors.Is(err, errNoKey) {
		o.ledger, err = syncdb.Open(ctx, syncdb.Config{DSN: config.SQLiteLedger + filepath.Join(dir, "ledger.sqlite"), Master: keys.GenerateMaster()})
		if err != nil {
			return nil, err
		}
	} else if o.ledger, err = existingLedger(ctx, cfg); err != nil {
		return nil, err
	}
	o.closers = append(o.closers, func() { logClose(log, "ledger", o.ledger.Close()) })
	if err := o.open(ctx, cfg, conn, log); err != nil {
		return nil, hinted(err)
	}
	o.engine.Options.WorkDir = dir
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
		if !told[r.Code] && len(told) < hintsShown {
			fmt.Fprintf(out, "%s (%s): %s\n", r.Code, r.Owner, r.Hint)
		}
		told[r.Code] = true
	}
	for _, note := range f.Notes {
		fmt.Fprintf(out, "not known: %s\n", note)
	}
}
