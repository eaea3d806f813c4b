package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"text/tabwriter"
	"time"

	"github.com/edfisync/edfisync/cmd/edfisync/internal/config"
	"github.com/edfisync/edfisync/syncdb"
)

type purgeCmd struct {
	DryRun bool `help:"Count what is old enough to be removed, and remove nothing."`
}

// Help is the long help of the command.
func (purgeCmd) Help() string {
	return `Removes from the ledger what was kept for as long as the configuration says: what was sent and answered (history of the connection), causes of
issues that were settled, summaries and receipts of runs, and the audit trail (ledger.retention). The service does so every day, and so does
"edfisync run" when nobody has for a day; this does it now.

What the engine needs stays, however old it is: open issues and holds, calls whose answer is not known, the newest run and receipt of each
connection, runs that can be undone. Each removal is in the audit trail, with a hash of what was removed, and the trail still verifies.

Examples:

    edfisync purge --dry-run
    edfisync purge`
}

// purged is what became of one class of data.
type purged struct {
	Class      syncdb.Class `json:"class"`
	Connection string       `json:"connection,omitempty"`
	Kept       float64      `json:"keptDays"`
	Before     time.Time    `json:"before"` // what is older is removed
	Rows       int64        `json:"rows"`   // calls, issues, runs and plans, acts
}

// Run purges, or counts.
func (c *purgeCmd) Run(ctx context.Context, a *app) error {
	cfg, err := a.load()
	if err != nil {
		return err
	}
	ledger, err := existingLedger(ctx, cfg)
	if err != nil {
		return err
	}
	out, err := purge(ctx, cfg, ledger, operator(), time.Time{}, c.DryRun)
	if err = errors.Join(err, ledger.Close()); err != nil {
		return err
	}
	if a.JSON {
		a.printJSON(map[string]any{"dryRun": c.DryRun, "classes": out})
		return nil
	}
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	head := "REMOVED"
	if c.DryRun {
		head = "WOULD REMOVE"
	}
	fmt.Fprintf(w, "DATA\tCONNECTION\tKEPT\tOLDER THAN\t%s\n", head)
	for _, p := range out {
		fmt.Fprintf(w, "%s\t%s\t%g days\t%s\t%s\n", p.Class, p.Connection, p.Kept, when(p.Before), grouped(p.Rows))
	}
	flush(w)
	return nil
}

// purge removes what is old enough of every class, or counts it. Each class has its turn even if another one cannot be done. What is old is what the clocks
// of this process and of the ledger agree is; last is when that was looked for before, zero when a person asks (F57).
func purge(ctx context.Context, cfg *config.Config, ledger *syncdb.DB, who string, last time.Time, dryRun bool) ([]purged, error) {
	now, err := ledger.Time(ctx)
	if err != nil {
		return nil, err
	}
	if here := time.Now(); here.Before(now) {
		now = here
	}
	now = syncdb.Believed(now, last)
	entry := func(class syncdb.Class, connection string, kept config.Duration) purged {
		return purged{Class: class, Connection: connection, Kept: time.Duration(kept).Hours() / 24, Before: now.Add(-time.Duration(kept)).UTC().Truncate(time.Millisecond)}
	}
	var out []purged
	known, problems := ledger.Connections(ctx)
	for _, k := range known {
		conn, ok := cfg.Connection(k.Tenant + "/" + k.Name)
		if !ok {
			continue // whoever has its configuration knows how long it is kept
		}
		p := entry(syncdb.ClassHistory, conn.FullName(), conn.History)
		before := p.Before
		if conn.History <= 0 {
			before = syncdb.Always()
		}
		var err error
		if dryRun {
			p.Rows, err = ledger.Purgeable(ctx, syncdb.ClassHistory, k.ID, before)
		} else if p.Rows, err = ledger.PurgeAttempts(ctx, k.ID, before); err == nil {
			_, err = ledger.PurgePlans(ctx, k.ID, before)
		}
		problems = errors.Join(problems, err)
		out = append(out, p)
	}
	kept := cfg.Ledger.Retention
	for _, p := range []purged{entry(syncdb.ClassIssues, "", kept.Issues), entry(syncdb.ClassRuns, "", kept.Runs), entry(syncdb.ClassAudit, "", kept.Audit)} {
		var err error
		if dryRun {
			p.Rows, err = ledger.Purgeable(ctx, p.Class, 0, p.Before)
		} else {
			p.Rows, err = ledger.Purge(ctx, p.Class, p.Before, who)
		}
		problems = errors.Join(problems, err)
		out = append(out, p)
	}
	if !dryRun {
		problems = errors.Join(problems, ledger.Scrub(ctx))
	}
	return out, problems
}

// retainEvery is how often what is old enough is removed.
const retainEvery = 24 * time.Hour

// retain removes what is old enough when no process has done so for a day. That it fails is no reason for a run or a service to.
func retain(ctx context.Context, cfg *config.Config, ledger *syncdb.DB, log *slog.Logger) {
	last, mine, err := ledger.ClaimRetention(ctx, retainEvery)
	if err == nil && mine {
		var out []purged
		out, err = purge(ctx, cfg, ledger, syncdb.Retainer, last, false)
		for _, p := range out {
			if p.Rows > 0 {
				log.InfoContext(ctx, "old data was removed", slog.String("class", string(p.Class)), slog.Int64("rows", p.Rows))
			}
		}
	}
	if err != nil && ctx.Err() == nil {
		log.WarnContext(ctx, "old data could not be removed; it is tried again tomorrow, and edfisync purge does it now", slog.Any("error", err))
	}
}

// retains keeps at it until ctx ends.
func (s *service) retains(ctx context.Context) {
	ticker := time.NewTicker(time.Hour)
	defer ticker.Stop()
	for {
		retain(ctx, s.config(ctx), s.ledger, s.log)
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}
