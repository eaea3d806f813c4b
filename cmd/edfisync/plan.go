package main

import (
	"context"
	"fmt"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/edfisync/edfisync/cmd/edfisync/internal/config"
	"github.com/edfisync/edfisync/sync"
)

type planCmd struct {
	Connection string `placeholder:"NAME" help:"Connection to plan; not needed when there is only one."`
	Out        string `type:"path" placeholder:"FILE" help:"Save the plan for edfisync apply. The ledger keeps it; the file holds no student data."`
	Details    int    `default:"0" placeholder:"N" help:"Show N changes field by field. They hold student data."`
}

// Help is the long help of the command.
func (planCmd) Help() string {
	return `Reads the source and says what a run would send. Nothing is sent, and the ledger stays as it is.

Examples:

    edfisync plan
    edfisync plan --details 20
    edfisync plan --out monday.plan
    edfisync plan --connection lincoln-2027 --json`
}

// Run prints the plan.
func (c *planCmd) Run(ctx context.Context, a *app) error {
	if c.Details < 0 {
		return usageError(fmt.Errorf("--details: want 0 or more"))
	}
	cfg, conn, err := a.picked(ctx, c.Connection)
	if err != nil {
		return err
	}
	o, err := c.open(ctx, a, cfg, conn)
	if err != nil {
		return err
	}
	defer o.close()
	finish := a.follow(o)
	var saved *sync.SavedPlan
	var plan *sync.Plan
	if c.Out == "" {
		plan, err = o.engine.Plan(ctx, c.Details)
	} else {
		plan, saved, err = o.engine.SavePlan(ctx, c.Details)
	}
	finish()
	if err != nil {
		return hinted(err)
	}
	if a.JSON {
		a.printJSON(planJSON{conn.FullName(), plan, saved})
	} else {
		a.printPlan(plan)
	}
	if saved != nil {
		f := planFile{Connection: conn.Tenant + "/" + conn.Name, SavedPlan: *saved}
		if err := f.write(c.Out); err != nil {
			return err
		}
		if !a.JSON {
			f.print(a.out, c.Out)
		}
	}
	return quietly(codeOfPlan(plan))
}

// open opens what a plan needs. Before the first run an empty ledger that is thrown away stands in for the one that is not there, unless the
// plan is to be kept in it.
func (c *planCmd) open(ctx context.Context, a *app, cfg *config.Config, conn *config.Connection) (*opened, error) {
	if c.Out != "" || !unmade(cfg) {
		return a.openKnown(ctx, cfg, conn, false)
	}
	if err := a.witnessesOf(cfg).missed(); err != nil {
		return nil, strangeLedger(cfg, fmt.Errorf("there is no ledger, and there was one before: %w", err))
	}
	return a.openWithoutLedger(ctx, cfg, conn)
}

// planJSON is what --json prints for a plan.
type planJSON struct {
	Connection string `json:"connection"`
	*sync.Plan
	Saved *sync.SavedPlan `json:"saved,omitempty"`
}

// codeOfPlan is the exit code a run of the plan would end with, as far as a plan can tell.
func codeOfPlan(p *sync.Plan) exitCode {
	code := exitOK
	if len(p.Held) > 0 {
		code = exitHeld
	}
	for _, r := range p.Resources {
		if r.Invalid > 0 || r.Blocked > 0 {
			code = worst(code, exitProblems)
		}
	}
	return code
}

func (a *app) printPlan(p *sync.Plan) {
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "create\tupdate\tdelete\theld\tunchanged\tinvalid\tblocked\t")
	row := func(name string, create, update, del, held, unchanged, invalid, blocked int64) {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t  %s\n", grouped(create), grouped(update), grouped(del), grouped(held), grouped(unchanged), grouped(invalid), grouped(blocked), name)
	}
	for _, r := range p.Resources {
		row(r.Resource, r.Create, r.Update, r.Delete, r.Held, r.Unchanged, r.Invalid, r.Blocked)
	}
	t := p.Totals
	row("all", t.Create, t.Update, t.Delete, t.Held, t.Unchanged, t.Invalid, t.Blocked)
	flush(w)
	held := ""
	if t.Held > 0 {
		held = fmt.Sprintf(", and keep %s back", grouped(t.Held))
	}
	fmt.Fprintf(a.out, "\na run would make %s%s; nothing was sent\n", counted(t.Calls, "write call"), held)
	if e := p.Estimate; e != nil {
		fmt.Fprintf(a.out, "that would take about %s, at the %.0f calls a second of run %d\n", roughly(e.Seconds), e.CallsPerSecond, e.Run)
	}
	if n := p.Totals.OutOfScope; n > 0 {
		fmt.Fprintf(a.out, "%s of schools the connection does not sync\n", counted(n, "row")+are(n))
	}
	writeWarnings(a.out, p.Warnings)
	for _, r := range p.Resources {
		if r.KeyUpdate > 0 {
			fmt.Fprintf(a.out, "natural keys change: %s of %s by update\n", grouped(r.KeyUpdate), r.Resource)
		}
		if r.Rekey > 0 {
			fmt.Fprintf(a.out, "natural keys change: %s of %s with what they refer to, without a call\n", grouped(r.Rekey), r.Resource)
		}
		if r.Recreate > 0 {
			fmt.Fprintf(a.out, "natural keys change: %s of %s are deleted and created again, since the API cannot change them\n", grouped(r.Recreate), r.Resource)
		}
	}
	if p.Unfinished != 0 {
		fmt.Fprintf(a.out, "run %d is in progress or was cut off: these figures count what it did last as to be done, and are too high\n", p.Unfinished)
	}
	if p.Open > 0 {
		fmt.Fprintf(a.out, "%s had no answer: a run settles these first\n", counted(int64(p.Open), "call"))
	}
	if p.SourceBehind != "" && !slices.ContainsFunc(p.Held, func(h sync.HeldPart) bool { return h.Rule == sync.RuleSourceBehind }) {
		writeBehind(a.out, p.SourceBehind)
	}
	for _, h := range p.Held {
		if h.Rule == sync.RuleTargetReset {
			fmt.Fprintf(a.out, "nothing would be written: %s\n  %s\n", h.Reason, alarmRemedy)
			continue
		}
		fmt.Fprintf(a.out, "held: %s (%s): %s\n", h.What(), counted(h.Ops, "call"), h.Reason)
	}
	for _, d := range p.Decided {
		writeDecided(a.out, d)
	}
	for _, change := range p.Changes {
		fmt.Fprintf(a.out, "\n%s %s %s", change.Verb, change.Resource, change.Key)
		if change.SourceKey != "" {
			fmt.Fprintf(a.out, " (source row %s)", change.SourceKey)
		}
		fmt.Fprintln(a.out)
		if change.Held != "" {
			fmt.Fprintf(a.out, "  not made: %s\n", change.Held)
		}
		for _, f := range change.Fields {
			fmt.Fprintf(a.out, "  %s: %s → %s\n", f.Path, orAbsent(f.Before), orAbsent(f.After))
		}
		if len(change.Problems) > 0 {
			fmt.Fprintf(a.out, "  %s\n", change.Problems)
		}
	}
}

// roughly is a length of time no more exact than an estimate is.
func roughly(seconds float64) time.Duration {
	d := time.Duration(seconds * float64(time.Second))
	switch {
	case d > 10*time.Minute:
		return d.Round(time.Minute)
	case d > 10*time.Second:
		return d.Round(time.Second)
	default:
		return max(d.Round(100*time.Millisecond), 100*time.Millisecond)
	}
}

func orAbsent(value []byte) string {
	if len(value) == 0 {
		return "(absent)"
	}
	return string(value)
}
