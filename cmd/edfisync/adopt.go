package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"text/tabwriter"

	"github.com/edfisync/edfisync/sync"
)

type adoptCmd struct {
	Connection string `placeholder:"NAME" help:"Connection; not needed when there is only one."`
	Plan       bool   `help:"Only count: write nothing."`
	Extra      bool   `help:"Take over records no source row has, too. The next run deletes them, under the safeguards."`
	IDs        int    `name:"ids" default:"0" placeholder:"N" help:"List up to N of the target's ids per resource and kind."`
	Wait       bool   `help:"Wait for a run that is in progress instead of failing."`
}

// Help is the long help of the command.
func (adoptCmd) Help() string {
	return `Builds the ledger from what the target already holds: when the ledger was lost, at the first contact with a target that is not empty, when another
tool's records are taken over, and after the target was wiped or restored. Nothing is sent to the target.

Records a source row has the key of are ours from then on: kept up to date, and deleted when their row goes. Records no row has are counted and left
alone, unless you ask for them with --extra; those of another connection of the same ledger stay even then. Look first who else writes to the target:
what another ledger or another program has there passes for nobody's. Entries whose record is gone are dropped, so that the next run creates the record again.

Examples:

    edfisync adopt --plan
    edfisync adopt
    edfisync adopt --extra --plan --ids 20`
}

// Run adopts, or says what adopting would do.
func (c *adoptCmd) Run(ctx context.Context, a *app) error {
	if c.IDs < 0 {
		return usageError(fmt.Errorf("--ids: want 0 or more"))
	}
	cfg, conn, err := a.picked(ctx, c.Connection)
	if err != nil {
		return err
	}
	o, err := a.open(ctx, cfg, conn)
	if err != nil {
		return err
	}
	defer o.close()
	finish := a.follow(o)
	defer finish()
	options := sync.AdoptOptions{Extra: c.Extra, Plan: c.Plan, IDs: c.IDs}
	var adopted *sync.Adoption
	if c.Plan {
		adopted, err = o.engine.Adopt(ctx, options)
	} else {
		detail := map[string]any{"extra": c.Extra}
		if err := a.audit(ctx, o.ledger, o.engine.Connection, "adopt", "", detail); err != nil {
			return err
		}
		err = a.exclusively(ctx, cfg, o, c.Wait, func() (err error) {
			adopted, err = o.engine.Adopt(ctx, options)
			return err
		})
		if err == nil {
			err = a.adoptedLedger(ctx, cfg, o)
		}
	}
	finish()
	if err != nil {
		return hinted(err)
	}
	if a.JSON {
		a.printJSON(adopted)
	} else {
		a.printAdoption(adopted)
	}
	if adopted.Left() > 0 {
		return quietly(exitProblems)
	}
	return nil
}

func (a *app) printAdoption(ad *sync.Adoption) {
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "rows\tread\tknown\tadopted\tcorrected\tgone\textra\tleft\t")
	var all sync.ResourceAdoption
	row := func(name string, r sync.ResourceAdoption) {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t  %s\n", grouped(r.Rows), grouped(r.Read), grouped(r.Known), grouped(r.Adopted), grouped(r.Corrected),
			grouped(r.Gone), grouped(r.Extra), grouped(r.Duplicate+r.Unread), name)
	}
	for _, r := range ad.Resources {
		row(r.Resource, r)
		all.Rows, all.Read, all.Known, all.Adopted = all.Rows+r.Rows, all.Read+r.Read, all.Known+r.Known, all.Adopted+r.Adopted
		all.Corrected, all.Gone, all.Extra = all.Corrected+r.Corrected, all.Gone+r.Gone, all.Extra+r.Extra
		all.Others += r.Others
		all.Duplicate, all.Unread = all.Duplicate+r.Duplicate, all.Unread+r.Unread
		all.ToCreate, all.ToUpdate, all.ToDelete = all.ToCreate+r.ToCreate, all.ToUpdate+r.ToUpdate, all.ToDelete+r.ToDelete
	}
	row("all", all)
	flush(w)
	if ad.Planned {
		fmt.Fprint(a.out, "\nnothing was written; edfisync adopt without --plan takes these records over\n")
	} else {
		fmt.Fprintf(a.out, "\nrun %d: %s adopted\n", ad.RunID, counted(all.Adopted, "record"))
	}
	fmt.Fprintf(a.out, "the next run would create %s, update %s and delete %s\n", grouped(all.ToCreate), grouped(all.ToUpdate), grouped(all.ToDelete))
	if all.ToCreate > 0 && all.ToDelete > 0 {
		fmt.Fprintln(a.out, "  rows whose natural key changed are among both: edfisync plan tells which of them one update sets right")
	}
	if n := all.Extra - all.Others; n > 0 {
		fmt.Fprintf(a.out, "%s in no source row: left alone; --extra takes them over, and then the next run deletes them\n", counted(n, "record")+are(n))
	}
	if all.Others > 0 {
		fmt.Fprintf(a.out, "%s of other connections of this ledger: left alone in any case\n", counted(all.Others, "record")+are(all.Others))
	}
	for _, r := range ad.Resources {
		if r.Failed != "" {
			fmt.Fprintf(a.out, "%s could not be read: %s\n", r.Resource, r.Failed)
		}
		if r.Unclear != "" {
			fmt.Fprintf(a.out, "%s: extra records were left alone: %s\n", r.Resource, r.Unclear)
		}
		a.printIDs(r.Resource, r.IDs)
	}
	if all.Duplicate+all.Unread > 0 {
		fmt.Fprintln(a.out, "records that could not be taken over: edfisync issues")
	}
}

// printIDs lists the target's ids, which say nothing about anybody.
func (a *app) printIDs(resource string, ids map[string][]string) {
	for _, kind := range slices.Sorted(maps.Keys(ids)) {
		for _, id := range ids[kind] {
			fmt.Fprintf(a.out, "%s %s %s\n", kind, resource, id)
		}
	}
}

func are(n int64) string {
	if n == 1 {
		return " is"
	}
	return " are"
}
