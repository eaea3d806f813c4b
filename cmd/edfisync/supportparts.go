package main

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/edfisync/edfisync/cmd/edfisync/internal/config"
	"github.com/edfisync/edfisync/cmd/edfisync/internal/support"
	"github.com/edfisync/edfisync/jobs"
	"github.com/edfisync/edfisync/source"
	"github.com/edfisync/edfisync/sync"
	"github.com/edfisync/edfisync/syncdb"
)

const (
	supportRuns  = 500 // in a bundle
	supportSteps = 20  // runs whose steps are in it
	supportActs  = 200
)

// gatherer fills a bundle.
type gatherer struct {
	*app
	cfg    *config.Config
	ledger *syncdb.DB
	b      *support.Bundle
	ids    map[string]int64 // of connections in the ledger
}

// note keeps what a part failed with.
func (g *gatherer) note(part string, err error) {
	if err != nil {
		g.b.Unread = append(g.b.Unread, support.Unread{Part: support.Constant(part), Error: support.MarksOfError(err)})
	}
}

func seconds64(d config.Duration) support.Seconds { return support.Seconds(time.Duration(d).Seconds()) }

func (g *gatherer) configuration() {
	c, kind := g.cfg, "postgres"
	if ledgerFile(c) != "" {
		kind = "sqlite"
	}
	g.b.Configuration = support.Configuration{
		Ledger: support.Constant(kind), LogLevel: support.OneOf(c.Log.Level.String(), "DEBUG", "INFO", "WARN", "ERROR"), LogFormat: support.OneOf(c.Log.Format, "text", "json"),
		Workers: c.Service.Workers, Drain: seconds64(c.Service.Drain), TLS: c.Service.TLS.Certificate != "", Allow: len(c.Service.Allow), Proxies: len(c.Service.Proxies),
	}
	for i := range c.Connections {
		g.b.Configuration.Connections = append(g.b.Configuration.Connections, g.connection(&c.Connections[i]))
	}
}

func (g *gatherer) connection(c *config.Connection) support.Connection {
	pack := "folder"
	if name, embedded := strings.CutPrefix(c.Pack, config.EmbeddedPack); embedded {
		pack = string(support.OneOf(name, "limitless", "limitless-4.0"))
	}
	t, s := c.Target, c.Safeguards
	edge := func(l config.Limit) support.Edge { return support.Edge{Percent: l.Percent, Count: l.Count} }
	out := support.Connection{
		Number: g.ids[c.FullName()], Tenant: support.Name(c.Tenant), Name: support.Name(c.Name), SchoolYear: c.SchoolYear,
		Driver:  support.OneOf(c.Source.Driver, source.SQLite, "postgres", "mysql", "sqlserver"),
		Readers: c.Source.Readers, Statement: seconds64(c.Source.StatementTimeout), Pack: support.Constant(pack),
		Descriptors: len(c.Descriptors), Params: len(c.Source.Params), FoldKeys: c.FoldKeys, Standard: support.Version(t.Standard), TLS: strings.HasPrefix(t.URL, "https:"),
		Tenanted: t.Tenant != "", Context: len(t.Context), MinConcurrency: t.Concurrency.Min, MaxConcurrency: t.Concurrency.Max, Timeout: seconds64(t.Timeout), Retries: t.Retries,
		Settle: seconds64(c.SettleDelay), History: seconds64(c.History), Scheduled: c.Schedule.Cron != "", Jitter: seconds64(c.Schedule.Jitter), CatchUp: seconds64(c.Schedule.CatchUp),
		Safeguards: map[string]support.Edge{
			"deletes": edge(s.Deletes), "updates": edge(s.Updates), "short_source": edge(s.ShortSource), "run.deletes": edge(s.Run.Deletes), "run.updates": edge(s.Run.Updates),
		},
		PreventDelete: len(s.PreventDelete), Overridden: len(s.Resources),
	}
	for _, name := range c.Resources {
		out.Resources = append(out.Resources, support.Resource(fullResource(name)))
	}
	return out
}

// numbers finds the ledger's numbers of the connections, and makes none.
func (g *gatherer) numbers(ctx context.Context) error {
	known, err := g.ledger.Connections(ctx)
	for _, k := range known {
		conn := config.Connection{Tenant: k.Tenant, Name: k.Name}
		g.ids[conn.FullName()] = k.ID
	}
	return err
}

func (g *gatherer) shape(ctx context.Context) error {
	i, err := g.ledger.Inventory(ctx)
	if err != nil {
		return err
	}
	l := support.Ledger{Kind: support.Constant(i.Kind), Database: support.Version(i.Database), Schema: i.Schema, Bytes: i.Bytes, Free: i.Free}
	for _, t := range i.Tables {
		l.Tables = append(l.Tables, support.Table{Table: support.Constant(t.Table), Rows: t.Rows})
	}
	for _, e := range i.Entries {
		l.Entries = append(l.Entries, support.Counts{Connection: e.Connection, Resource: support.Resource(e.Resource), Entries: e.Entries})
	}
	g.b.Ledger = l
	return nil
}

// totalNames are the names of a run's counts.
func totalNames() []string {
	text, err := json.Marshal(sync.Totals{Decided: 1, NotSent: 1})
	var all map[string]int64
	if err == nil && json.Unmarshal(text, &all) == nil {
		return slices.Sorted(maps.Keys(all))
	}
	return nil
}

func stateOf(s syncdb.RunState) support.Word {
	return support.OneOf(s, syncdb.RunWaiting, syncdb.RunRunning, syncdb.RunDone, syncdb.RunFailed, syncdb.RunCanceled)
}

func (g *gatherer) runs(ctx context.Context) error {
	runs, err := g.ledger.FindRuns(ctx, syncdb.RunFilter{Limit: supportRuns})
	if err != nil {
		return err
	}
	for i, r := range runs {
		run := support.Run{
			Run: r.ID, Connection: r.ConnectionID, State: stateOf(r.State),
			Reason:  support.OneOf(r.Reason, "cron", "api", "console", "cli", "feed", "apply", "undo", "adopt", "sync-one", "recovery", "retry"),
			Created: r.CreatedAt, Started: r.StartedAt, Ended: r.EndedAt, Totals: numbersOf(r.Totals), Error: support.MarksOf(r.Error),
		}
		if i < supportSteps {
			steps, err := g.ledger.Steps(ctx, r.ID)
			if err != nil {
				return err
			}
			for _, s := range steps {
				verb, _ := s.Verb.MarshalText()
				run.Steps = append(run.Steps, support.Step{
					Position: s.Position, Resource: support.Resource(s.Resource), Verb: support.OneOf(string(verb), "create", "update", "delete"),
					State: support.OneOf(s.State, "waiting", "running", "done", "failed", "canceled"), Totals: numbersOf(s.Totals),
				})
			}
		}
		g.b.Runs = append(g.b.Runs, run)
	}
	return nil
}

func (g *gatherer) issues(ctx context.Context) error {
	counts, err := g.ledger.IssueCounts(ctx)
	if err != nil {
		return err
	}
	for _, c := range counts {
		_, known := sync.AdviceOn(c.Code)
		g.b.Issues = append(g.b.Issues, support.IssueCount{
			Connection: c.Connection, Resource: support.Resource(c.Resource), Code: support.Code(c.Code, known || c.Code == "no-answer"),
			Owner:   support.OneOf(c.Owner, "mapping", "source data", "target host", "us"),
			Outcome: support.OneOf(c.Outcome, "invalid", "blocked", "rejected", "held", "failed", syncdb.OutcomeMet), Issues: c.Issues, Rows: c.Rows,
		})
	}
	return nil
}

func (g *gatherer) health(ctx context.Context) error {
	h := &g.b.Health
	h.Chain, h.Witness = support.Constant("not read"), support.Constant("none")
	if _, _, err := g.ledger.Identity(ctx); err != nil {
		return err
	}
	h.Ledger = true
	if bad, err := g.ledger.VerifyAudit(ctx); err == nil {
		h.Chain = support.Constant("verified")
		if bad != 0 {
			h.Chain = support.Constant("broken")
		}
	}
	if w := g.witnessesOf(g.cfg); w.there() != "" {
		h.Witness = support.Constant("agrees")
		state, err := observe(ctx, g.ledger)
		last, _, unread := w.read()
		if err != nil || unread != nil || len(last.Refused) > 0 || last.contradicts(ctx, g.ledger, state) != nil {
			h.Witness = support.Constant("contradicts")
		}
	}
	open, err := g.ledger.OpenRuns(ctx)
	if err != nil {
		return err
	}
	for _, r := range open {
		h.Open = append(h.Open, support.OpenRun{
			Run: r.ID, Connection: r.ConnectionID, State: stateOf(r.State), Age: support.Seconds(r.Age.Seconds()), Lost: r.Lost,
		})
	}
	pauses, err := g.ledger.Pauses(ctx)
	if err != nil {
		return err
	}
	for _, id := range slices.Sorted(maps.Keys(pauses)) {
		h.Paused = append(h.Paused, support.Paused{Connection: id, At: pauses[id].At, Until: pauses[id].Until})
	}
	alarms, err := g.ledger.Alarms(ctx)
	if err != nil {
		return err
	}
	for _, a := range alarms {
		conn := config.Connection{Tenant: a.Tenant, Name: a.Name}
		h.Alarms = append(h.Alarms, support.Alarm{Connection: g.ids[conn.FullName()], Run: a.AlarmRun})
	}
	waiting, err := g.ledger.OpenCounts(ctx)
	if err != nil {
		return err
	}
	for _, id := range slices.Sorted(maps.Keys(waiting)) {
		h.Waiting = append(h.Waiting, support.Waiting{Connection: id, Holds: waiting[id].Holds, Issues: waiting[id].Issues})
	}
	return nil
}

func (g *gatherer) audit(ctx context.Context) error {
	rows, err := g.ledger.FindAudit(ctx, syncdb.AuditFilter{Limit: supportActs})
	for _, r := range rows {
		g.b.Audit = append(g.b.Audit, support.Act{Row: r.ID, At: r.At, Action: support.Action(r.Action), Object: support.Object(r.Object)})
	}
	return err
}

func (g *gatherer) jobs(ctx context.Context) error {
	dsn := queueDSN(g.cfg)
	if file, isFile := strings.CutPrefix(dsn, config.SQLiteLedger); isFile {
		if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
			return nil // the first serve makes it
		}
	}
	states, err := jobs.States(ctx, dsn)
	for _, s := range states {
		g.b.Jobs = append(g.b.Jobs, support.JobState{
			State: support.OneOf(s.State, "available", "cancelled", "completed", "discarded", "pending", "retryable", "running", "scheduled"), Jobs: s.Jobs, Oldest: s.Oldest,
		})
	}
	return err
}
