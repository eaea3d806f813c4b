package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/edfisync/edfisync/sync"
	"github.com/edfisync/edfisync/syncdb"
)

type applyCmd struct {
	File string `arg:"" type:"path" help:"File that plan --out wrote."`
	Wait bool   `help:"Wait for a run that is in progress instead of failing."`
	Why  string `placeholder:"TEXT" help:"Why; required when the plan has calls a safeguard would hold. It is kept with the plan and in the audit trail; no student data, please."`
}

// Help is the long help of the command.
func (applyCmd) Help() string {
	return `Reads the source again and makes exactly the calls of a saved plan, or none: when a row, the ledger, the configuration or the mapping pack changed since,
the plan is refused, and the first differences are named by cause. What is not in the plan waits for the next run. Applying a plan approves the
calls in it that a safeguard would hold, and then --why has to say why; who applied it is noted in the audit trail.

Examples:

    edfisync plan --out monday.plan
    edfisync apply monday.plan
    edfisync apply monday.plan --why "school 12 closed"`
}

// planFile is what plan --out writes: which plan of which ledger, and what it must say. It holds no student data.
type planFile struct {
	Connection string `json:"connection"`
	sync.SavedPlan
}

// write puts the file where only its owner can read it.
func (f planFile) write(name string) error {
	text, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	if err := os.WriteFile(name, append(text, '\n'), 0o600); err != nil {
		return fmt.Errorf("write the plan: %w", err)
	}
	return nil
}

func readPlanFile(name string) (planFile, error) {
	var f planFile
	text, err := os.ReadFile(name)
	if err == nil {
		if json.Unmarshal(text, &f) != nil {
			f = planFile{}
		}
	}
	if err == nil && (f.ID == 0 || f.Connection == "" || f.Checksum == "") {
		err = errors.New("it is no file that plan --out wrote")
	}
	if err != nil {
		return f, usageError(fmt.Errorf("read %s: %w", name, err))
	}
	return f, nil
}

// print says what was saved.
func (f planFile) print(out io.Writer, name string) {
	fmt.Fprintf(out, "\nplan %d is saved in %s: %s\n", f.ID, name, counted(f.Ops, "call"))
	resources := make([]string, 0, len(f.Counts))
	for r := range f.Counts {
		resources = append(resources, r)
	}
	slices.Sort(resources)
	for _, r := range resources {
		for _, verb := range []string{"create", "update", "delete"} {
			if n := f.Counts[r][verb]; n > 0 {
				fmt.Fprintf(out, "  %s of %s\n", counted(n, verb), r)
			}
		}
	}
	for _, h := range f.Held {
		fmt.Fprintf(out, "a safeguard would hold %s (%s); applying the plan approves them\n", h.What(), counted(h.Ops, "call"))
	}
	why := ""
	if len(f.Held) > 0 {
		why = " --why TEXT"
	}
	fmt.Fprintf(out, "carry it out with: edfisync apply %s%s\n", name, why)
}

// Run applies a saved plan.
func (c *applyCmd) Run(ctx context.Context, a *app) error {
	f, err := readPlanFile(c.File)
	if err != nil {
		return err
	}
	cfg, conn, err := a.picked(ctx, f.Connection)
	if err != nil {
		return err
	}
	o, err := a.openKnown(ctx, cfg, conn, false)
	if err != nil {
		return err
	}
	defer o.close()
	if err := c.approve(ctx, o, f); err != nil {
		return err
	}
	o.engine.Options.Apply = f.ID
	finish := a.follow(o)
	defer finish()
	summary, err := a.runOnce(ctx, cfg, o, c.Wait)
	a.witnessed(ctx, cfg, o)
	finish()
	var stale *sync.StalePlanError
	var decided *syncdb.PlanStateError
	switch {
	case errors.As(err, &stale):
		return c.refused(a, stale)
	case errors.As(err, &decided):
		return c.over(f, decided.State)
	}
	if summary != nil {
		a.printSummary(ctx, summary, err)
	}
	if err != nil {
		if summary != nil && a.JSON {
			return quietly(codeOf(ctx, err)) // the summary has the error
		}
		return hinted(err)
	}
	return quietly(codeOfSummary(summary))
}

// approve makes sure that file and ledger mean the same plan, and notes who applies it (I16).
func (c *applyCmd) approve(ctx context.Context, o *opened, f planFile) error {
	conn := o.engine.Connection.ID
	kept, err := o.ledger.PlanByID(ctx, conn, f.ID)
	if errors.Is(err, syncdb.ErrNotFound) || err == nil && kept.Kind != syncdb.PlanSaved {
		return usageError(fmt.Errorf("the ledger has no plan %d of this connection", f.ID))
	}
	if err != nil {
		return err
	}
	sum, err := o.engine.PlanChecksum(ctx, f.ID)
	if err != nil {
		return err
	}
	var counts map[string]map[string]int64
	if err := json.Unmarshal(kept.Counts, &counts); err != nil {
		return fmt.Errorf("read the counts of plan %d: %w", f.ID, err)
	}
	same := maps.EqualFunc(counts, f.Counts, maps.Equal[map[string]int64, map[string]int64])
	if sum != f.Checksum || kept.Ops != f.Ops || kept.Config != f.Config || !same { // who read the file has seen something else (I8)
		return usageError(fmt.Errorf("%s is not what the ledger has as plan %d: nothing was sent", c.File, f.ID))
	}
	from := []syncdb.PlanState{syncdb.PlanOpen, syncdb.PlanApproved} // approved: an apply before this one could not begin
	if !slices.Contains(from, kept.State) {
		return c.over(f, kept.State)
	}
	why := strings.TrimSpace(c.Why)
	if why == "" && (kept.Reason != "" || len(f.Held) > 0) {
		return usageError(fmt.Errorf("plan %d has calls a safeguard would hold: %s. Say why with --why; nothing was sent", f.ID, kept.Reason))
	}
	if why == "" {
		why = "edfisync apply"
	}
	_, err = o.ledger.DecidePlan(ctx, conn, f.ID, syncdb.Decision{From: from, To: syncdb.PlanApproved, Who: operator(), Why: why})
	var decided *syncdb.PlanStateError
	if errors.As(err, &decided) {
		return c.over(f, decided.State)
	}
	return err
}

// over says that a plan is not one to apply any more.
func (c *applyCmd) over(f planFile, state syncdb.PlanState) error {
	if state == syncdb.PlanStale {
		return usageError(fmt.Errorf("plan %d is stale: an earlier apply said what had changed, and nothing was sent\nMake a new one: edfisync plan --out %s", f.ID, c.File))
	}
	return usageError(fmt.Errorf("plan %d is %s: nothing was sent", f.ID, state))
}

// refused says why a plan is stale. Nothing was done, so a new plan is what helps: code 2.
func (c *applyCmd) refused(a *app, stale *sync.StalePlanError) error {
	if a.JSON {
		a.printJSON(struct {
			Error string   `json:"error"`
			Code  exitCode `json:"exitCode"`
			*sync.StalePlanError
		}{stale.Error(), exitUsage, stale})
		return quietly(exitUsage)
	}
	for _, d := range stale.First {
		fmt.Fprintf(a.out, "%s %s, record %s: %s\n", d.Verb, d.Resource, d.Record, d.Cause)
	}
	return usageError(fmt.Errorf("%w\nMake a new one: edfisync plan --out %s", stale, c.File))
}
