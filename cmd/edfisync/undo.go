package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"text/tabwriter"

	"github.com/edfisync/edfisync/cmd/edfisync/internal/config"
	"github.com/edfisync/edfisync/sync"
	"github.com/edfisync/edfisync/syncdb"
)

type undoCmd struct {
	ID         int64  `arg:"" name:"run" help:"Number of the run to undo (edfisync runs)."`
	Connection string `placeholder:"NAME" help:"Connection; not needed when there is only one."`
	Yes        bool   `help:"Do it. Without, the undo is only planned."`
	Why        string `placeholder:"TEXT" help:"Why, for the audit trail; required when a safeguard would hold a part of it. No student data, please."`
	Wait       bool   `help:"Wait for a run that is in progress instead of failing."`
}

// Help is the long help of the command.
func (undoCmd) Help() string {
	return `Brings the records a run wrote back to what they were before it, from the history the ledger keeps sealed (history in the configuration): what the run
created is deleted, what it updated gets its previous content, what it deleted is created again, under a new id. Without --yes nothing is sent.

Records that were written again since, and those of which nothing earlier is kept, are left as they are and counted; so is the other record of a row whose
natural key changed, and what refers to a record that is left. The next runs do not do what was undone again, until the rows change; correct the source before that, or the cause. edfisync holds lists what is not done again, and ends that.

Nothing is deleted of the resources under prevent_delete. More calls than the safeguards allow are named, and need --why.

Examples:

    edfisync undo 12
    edfisync undo 12 --yes --why "the SIS had last year's file"`
}

// leftOut says in words why records are left as they are, of one record or more.
func leftOut(why sync.LeftOut) string {
	switch why {
	case sync.LeftNoPrevious:
		return "the history does not have the content from before that run"
	case sync.LeftChanged:
		return "written again since"
	case sync.LeftUnsettled:
		return "a call had no usable answer in that run"
	case sync.LeftParent:
		return "the natural key changed, and that of other records with it"
	case sync.LeftPrevented:
		return "undoing it is a delete, and prevent_delete lists the resource"
	case sync.LeftNotOurs:
		return "at the target before our first call"
	case sync.LeftScope:
		return "of a resource that the connection does not sync any more"
	case sync.LeftHalf:
		return "the row changed its natural key, and its other record stays or cannot come back: a row keeps one"
	case sync.LeftDependent:
		return "refers to a record that is left, or is referred to by one that stays"
	}
	return string(why)
}

// Run undoes a run, or says what that would be.
func (c *undoCmd) Run(ctx context.Context, a *app) error {
	cfg, conn, err := a.picked(ctx, c.Connection)
	if err != nil {
		return err
	}
	if missing(cfg) {
		_, err := existingLedger(ctx, cfg)
		return err
	}
	o, err := a.openKnown(ctx, cfg, conn, false)
	if err != nil {
		return err
	}
	defer o.close()
	finish := a.follow(o)
	defer finish()
	undone, err := c.undo(ctx, a, cfg, o)
	finish()
	if undone != nil {
		if a.JSON && err == nil {
			a.printJSON(undone)
		} else if !a.JSON {
			a.printUndo(undone)
		}
	}
	var held *sync.HeldUndoError
	switch {
	case errors.As(err, &held):
		return usageError(fmt.Errorf("%w: say why with --why; nothing was sent", err))
	case errors.Is(err, syncdb.ErrNoRun), errors.Is(err, sync.ErrNothingKept):
		return usageError(err)
	case err != nil:
		return hinted(err)
	}
	code := exitOK
	if undone.Planned && len(undone.Held) > 0 {
		code = exitHeld
	}
	if undone.LeftOut() > 0 || undone.NotKept > 0 {
		code = worst(code, exitProblems)
	}
	if undone.Summary != nil {
		code = worst(code, codeOfSummary(undone.Summary))
	}
	return quietly(code)
}

func (c *undoCmd) undo(ctx context.Context, a *app, cfg *config.Config, o *opened) (undone *sync.Undo, err error) {
	options := sync.UndoOptions{Run: c.ID, Plan: !c.Yes, Who: operator(), Why: c.Why}
	if !c.Yes {
		return o.engine.Undo(ctx, options)
	}
	if err := a.audit(ctx, o.ledger, o.engine.Connection, "undo", fmt.Sprintf("run %d", c.ID), map[string]any{"why": c.Why}); err != nil {
		return nil, err
	}
	err = a.exclusively(ctx, cfg, o, c.Wait, func() error {
		undone, err = o.engine.Undo(ctx, options)
		return err
	})
	a.witnessed(ctx, cfg, o)
	return undone, err
}

func (a *app) printUndo(u *sync.Undo) {
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "delete\trestore\trecreate\tleft\t")
	all := map[sync.LeftOut]int64{}
	for _, r := range u.Resources {
		var left int64
		for why, n := range r.Left {
			left += n
			all[why] += n
		}
		if r.Delete+r.Restore+r.Recreate+left > 0 {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t  %s\n", grouped(r.Delete), grouped(r.Restore), grouped(r.Recreate), grouped(left), r.Resource)
		}
	}
	flush(w)
	fmt.Fprintln(a.out)
	for _, why := range slices.Sorted(maps.Keys(all)) {
		fmt.Fprintf(a.out, "%s left alone: %s\n", counted(all[why], "record"), leftOut(why))
	}
	if u.NotKept > 0 {
		fmt.Fprintf(a.out, "%s of run %d not in the history, so nothing is known of them\n", counted(u.NotKept, "call")+are(u.NotKept), u.Run)
	}
	for _, h := range u.Held {
		fmt.Fprintf(a.out, "a safeguard would hold %s (%s): %s\n", h.What(), counted(h.Ops, "call"), h.Reason)
	}
	s := u.Summary
	switch {
	case u.Planned && u.Writes() == 0, s != nil && u.Writes() == 0:
		fmt.Fprintf(a.out, "there is nothing of run %d to undo\n", u.Run)
	case u.Planned:
		why := ""
		if len(u.Held) > 0 {
			why = " --why TEXT"
		}
		fmt.Fprintf(a.out, "undoing run %d would make %s; nothing was sent. Do it with: edfisync undo %d --yes%s\n", u.Run, counted(u.Writes(), "write call"), u.Run, why)
	case s != nil:
		fmt.Fprintf(a.out, "run %d undid run %d: %s, %s created, %s updated, %s deleted, %s failed or blocked\n", u.By, u.Run, counted(s.Calls, "write call"),
			grouped(s.Created), grouped(s.Updated), grouped(s.Deleted), grouped(s.Failed+s.Held))
		if u.Kept != 0 {
			fmt.Fprintf(a.out, "the next runs do not do it again until the rows change (hold %d; edfisync holds)\n", u.Kept)
		}
	}
}
