package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/edfisync/edfisync/sync"
	"github.com/edfisync/edfisync/syncdb"
)

type holdsCmd struct {
	List    holdsListCmd    `cmd:"" default:"withargs" help:"List what safeguards hold back (the default)."`
	Show    holdsShowCmd    `cmd:"" help:"Show one hold; with --ops, some of its calls."`
	Approve holdsApproveCmd `cmd:"" help:"Let the next run make exactly the calls of a hold."`
	Discard holdsDiscardCmd `cmd:"" help:"Never make exactly the calls of a hold."`
	Reopen  holdsReopenCmd  `cmd:"" help:"Take a decision back: a hold is asked about again, what was undone may be done again."`
}

// Help is the long help of the command.
func (holdsCmd) Help() string {
	return `A safeguard that is exceeded keeps calls back and opens a hold. It waits until somebody approves or discards it. A decision covers exactly the
calls that are in the hold: a record that changes afterwards is judged anew. Rows that come back in the source leave the hold by themselves,
whatever was decided. A run that was undone is listed too, with the calls that are not made again because of it.

Examples:

    edfisync holds
    edfisync holds show 3.1 --ops 20
    edfisync holds show 3.1 --changes 20 --show-data
    edfisync holds approve 3.1 --why "school 12 closed"
    edfisync holds discard 3.1 --why "the export was cut off"
    edfisync holds reopen 3.1 --why "it was right after all"

3.1 is the first edition of hold 3. A run that would hold other calls makes it 3.2, and then 3.1 is refused: nobody decides about calls they have not
seen. 3 alone means the edition there is now.`
}

type holdsListCmd struct {
	Connection string `placeholder:"NAME" help:"Connection; not needed when there is only one."`
	All        bool   `help:"List those that are applied and released too."`
}

// Run lists holds and undone runs that keep calls back, the newest first.
func (c *holdsListCmd) Run(ctx context.Context, a *app) error {
	return a.look(ctx, c.Connection, func(ledger *syncdb.DB, conn syncdb.Connection) error {
		filter := syncdb.PlanFilter{}
		if !c.All {
			filter.States = []syncdb.PlanState{syncdb.PlanOpen, syncdb.PlanApproved, syncdb.PlanDiscarded}
		}
		holds, err := ledger.Plans(ctx, conn.ID, filter)
		if err != nil {
			return err
		}
		holds = slices.DeleteFunc(holds, func(h syncdb.Plan) bool { return h.Kind == syncdb.PlanSaved })
		target, err := ledger.Target(ctx, conn.ID)
		if err != nil {
			return err
		}
		if a.JSON {
			if target.Alarm != "" { // it has no number: nobody approves it
				holds = append([]syncdb.Plan{{Kind: syncdb.PlanHold, State: syncdb.PlanOpen, RunID: target.AlarmRun, Rule: string(sync.RuleTargetReset), Reason: target.Alarm,
					CreatedAt: target.UpdatedAt, UpdatedAt: target.UpdatedAt}}, holds...)
			}
			out := make([]holdJSON, len(holds))
			for i, h := range holds {
				out[i] = holdAsJSON(h)
			}
			a.printJSON(out)
			return nil
		}
		if target.Alarm != "" {
			fmt.Fprintf(a.out, "everything is held since run %d (%s): %s\n  %s\n", target.AlarmRun, sync.RuleTargetReset, target.Alarm, alarmRemedy)
		}
		if len(holds) == 0 && target.Alarm != "" {
			return nil
		}
		if len(holds) == 0 {
			fmt.Fprintln(a.out, "nothing is held")
			return nil
		}
		w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "HOLD\tSTATE\tRULE\tCALLS\tWHAT\tSINCE\tWHY")
		for _, h := range holds {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", refTo(h), h.State, ruleOf(h), grouped(h.Ops), whatIsHeld(h), when(h.CreatedAt), h.Reason)
		}
		flush(w)
		return nil
	})
}

// holdJSON is a hold as --json prints it.
type holdJSON struct {
	syncdb.Plan
	Verb string `json:"verb,omitempty"` // delete, update; none = several
}

func holdAsJSON(h syncdb.Plan) holdJSON {
	out := holdJSON{Plan: h}
	if h.Verb != 0 {
		out.Verb = verbWord(h.Verb)
	}
	return out
}

// ruleOf is the safeguard that opened a hold. An undone run keeps its calls back without one.
func ruleOf(h syncdb.Plan) string {
	if h.Kind == syncdb.PlanUndo {
		return "undo"
	}
	return h.Rule
}

// whatIsHeld names the calls of a hold: "deletes of ed-fi/students".
func whatIsHeld(h syncdb.Plan) string {
	if h.Kind == syncdb.PlanUndo {
		return fmt.Sprintf("what run %d did", h.RunID)
	}
	if h.Rule == string(sync.RuleOutOfScope) {
		return "the removal of what is out of scope"
	}
	verb := verbWord(h.Verb) + "s"
	if h.Resource == "" {
		return "all " + verb
	}
	return verb + " of " + h.Resource
}

func verbWord(v syncdb.Verb) string {
	switch v {
	case syncdb.Create:
		return "create"
	case syncdb.Update:
		return "update"
	case syncdb.Delete:
		return "delete"
	default:
		return "call"
	}
}

// holdRef names a hold, or one edition of it: "3", "3.2".
type holdRef struct {
	ID      int64
	Edition int64 // 0 = whichever there is
}

// UnmarshalText reads what is given on the command line.
func (r *holdRef) UnmarshalText(text []byte) error {
	id, edition, exact := strings.Cut(string(text), ".")
	var err error
	if r.ID, err = strconv.ParseInt(id, 10, 64); err == nil && exact {
		r.Edition, err = strconv.ParseInt(edition, 10, 64)
	}
	if err != nil || r.ID <= 0 || exact && r.Edition <= 0 {
		return fmt.Errorf("%q is not the number of a hold; want one as edfisync holds lists them, such as 3.1", text)
	}
	return nil
}

// refTo names the edition of a hold there is now.
func refTo(h syncdb.Plan) string {
	if h.Edition == 0 { // its calls are not kept any more
		return strconv.FormatInt(h.ID, 10)
	}
	return fmt.Sprintf("%d.%d", h.ID, h.Edition)
}

type holdsShowCmd struct {
	Hold       holdRef `arg:"" help:"Number of the hold, such as 3.1."`
	Connection string  `placeholder:"NAME" help:"Connection; not needed when there is only one."`
	Changes    int     `default:"0" placeholder:"N" help:"Show which elements the first N of its calls would change. SIS and target are asked."`
	ShowData   bool    `help:"With --changes, show the values before and after. They are student data; the look is noted in the audit trail."`
	Ops        int     `default:"0" placeholder:"N" help:"Show N of its calls with natural and source keys. They are student data; the look is noted in the audit trail."`
}

// holdShown is one hold as show prints it.
type holdShown struct {
	holdJSON
	Calls   []heldCall        `json:"calls,omitempty"`
	Changes []sync.HeldChange `json:"changes,omitempty"`
}

// heldCall is one call of a hold. It holds student data.
type heldCall struct {
	Verb      string          `json:"verb"`
	Resource  string          `json:"resource"`
	Key       json.RawMessage `json:"naturalKey,omitempty"`
	SourceKey string          `json:"sourceKey,omitempty"` // of updates; the row of a delete is gone
}

// Run shows one hold.
func (c *holdsShowCmd) Run(ctx context.Context, a *app) error {
	if c.Ops < 0 || c.Changes < 0 {
		return usageError(errors.New("--ops, --changes: want 0 or more"))
	}
	if c.ShowData && c.Changes == 0 {
		return usageError(errors.New("--show-data goes with --changes"))
	}
	var changes []sync.HeldChange
	if c.Changes > 0 {
		var err error
		if changes, err = c.changes(ctx, a); err != nil {
			return err
		}
	}
	return a.look(ctx, c.Connection, func(ledger *syncdb.DB, conn syncdb.Connection) error {
		h, err := holdByRef(ctx, ledger, conn.ID, c.Hold)
		if err != nil {
			return err
		}
		shown := holdShown{holdJSON: holdAsJSON(h), Changes: changes}
		if c.Ops > 0 {
			if err := a.audit(ctx, ledger, conn, "hold.show", fmt.Sprintf("hold %d", h.ID), map[string]any{"ops": c.Ops}); err != nil {
				return err
			}
			if shown.Calls, err = callsOf(ctx, ledger, conn.ID, h, c.Ops); err != nil {
				return err
			}
		}
		if a.JSON {
			a.printJSON(shown)
			return nil
		}
		shown.print(a.out)
		return nil
	})
}

// changes asks SIS and target what calls of the hold would change.
func (c *holdsShowCmd) changes(ctx context.Context, a *app) ([]sync.HeldChange, error) {
	_, o, err := a.openNamed(ctx, c.Connection)
	if err != nil {
		return nil, err
	}
	defer o.close()
	conn := o.engine.Connection
	h, err := holdByRef(ctx, o.ledger, conn.ID, c.Hold)
	if err != nil {
		return nil, err
	}
	if c.ShowData {
		if err := a.audit(ctx, o.ledger, conn, "hold.show", fmt.Sprintf("hold %d", h.ID), map[string]any{"ops": c.Changes, "edition": h.Edition}); err != nil {
			return nil, err
		}
	}
	ops, err := opsOf(ctx, o.ledger, conn.ID, h, c.Changes)
	if err != nil {
		return nil, err
	}
	changes, err := o.engine.HeldChanges(ctx, o.ledger, ops, c.ShowData)
	if err != nil {
		return nil, hinted(err)
	}
	return changes, nil
}

// opsOf reads the first calls of a hold.
func opsOf(ctx context.Context, ledger *syncdb.DB, conn int64, h syncdb.Plan, limit int) (ops []syncdb.PlanOp, err error) {
	enough := errors.New("enough")
	err = ledger.PlanOps(ctx, conn, h.ID, func(o syncdb.PlanOp) error {
		if len(ops) == limit {
			return enough
		}
		ops = append(ops, o)
		return nil
	})
	if errors.Is(err, enough) {
		err = nil
	}
	return ops, err
}

// callsOf reads the first calls of a hold with the keys of their records.
func callsOf(ctx context.Context, ledger *syncdb.DB, conn int64, h syncdb.Plan, limit int) ([]heldCall, error) {
	ops, err := opsOf(ctx, ledger, conn, h, limit)
	if err != nil {
		return nil, err
	}
	calls := make([]heldCall, len(ops))
	for i, o := range ops {
		calls[i] = heldCall{Verb: verbWord(o.Verb), Resource: o.Resource}
		at := o.KeyHash
		if !o.OldKeyHash.IsZero() {
			at = o.OldKeyHash
		}
		entries, err := ledger.Lookup(ctx, conn, o.Resource, []syncdb.Hash{at})
		if err != nil {
			return nil, err
		}
		calls[i].Key = entries[at].Key
		if o.Verb == syncdb.Delete {
			continue
		}
		before := o.SourceHash
		for b := len(before) - 1; b >= 0; b-- { // the hash before it: problems are paged by it
			before[b]--
			if before[b] != 0xff {
				break
			}
		}
		problems, err := ledger.Problems(ctx, conn, syncdb.ProblemFilter{Resource: o.Resource, After: before, Limit: 1})
		if err != nil {
			return nil, err
		}
		if len(problems) == 1 && problems[0].SourceHash == o.SourceHash {
			calls[i].SourceKey = problems[0].SourceKey
		}
	}
	return calls, nil
}

func (h holdShown) print(out io.Writer) {
	by := fmt.Sprintf("opened by run %d, last looked at", h.RunID)
	if h.Kind == syncdb.PlanUndo {
		by = "last changed"
	}
	fmt.Fprintf(out, "hold %s: %s, %s\n  rule: %s\n  why: %s\n  state: %s\n  %s %s\n",
		refTo(h.Plan), whatIsHeld(h.Plan), counted(h.Ops, "call"), ruleOf(h.Plan), h.Reason, h.State, by, when(h.UpdatedAt))
	if h.DecidedBy != "" {
		fmt.Fprintln(out, strings.TrimSuffix(fmt.Sprintf("  decided by %s on %s: %s", h.DecidedBy, when(h.DecidedAt), h.Why), ": "))
	}
	if h.AppliedRun != 0 {
		fmt.Fprintf(out, "  applied by run %d\n", h.AppliedRun)
	}
	var counts map[string]map[string]int64
	if json.Unmarshal(h.Counts, &counts) == nil && len(counts) > 1 {
		for _, r := range slices.Sorted(maps.Keys(counts)) {
			for _, verb := range slices.Sorted(maps.Keys(counts[r])) {
				fmt.Fprintf(out, "  %s of %s\n", counted(counts[r][verb], verb), r)
			}
		}
	}
	for _, c := range h.Calls {
		fmt.Fprintf(out, "%s %s %s", c.Verb, c.Resource, c.Key)
		if c.SourceKey != "" {
			fmt.Fprintf(out, " (source row %s)", c.SourceKey)
		}
		fmt.Fprintln(out)
	}
	for _, c := range h.Changes {
		printHeldChange(out, c)
	}
}

// printHeldChange writes one call of a hold with what it would change.
func printHeldChange(out io.Writer, c sync.HeldChange) {
	fmt.Fprintf(out, "%s %s %s", c.Verb, c.Resource, c.Record)
	if c.NaturalKey != nil {
		fmt.Fprintf(out, " %s", c.NaturalKey)
	}
	if c.SourceKey != "" {
		fmt.Fprintf(out, " (source row %s)", c.SourceKey)
	}
	fmt.Fprintln(out)
	if c.Note != "" {
		fmt.Fprintf(out, "  %s\n", c.Note)
	}
	for _, f := range c.Fields {
		fmt.Fprintf(out, "  %s: %s -> %s\n", f.Path, orNone(f.Before), orNone(f.After))
	}
	if c.Fields == nil && len(c.Elements) > 0 {
		fmt.Fprintf(out, "  %s\n", strings.Join(c.Elements, ", "))
	}
}

// orNone is a value, or that there is none.
func orNone(v json.RawMessage) string {
	if v == nil {
		return "(none)"
	}
	return string(v)
}

// decision is what approve, discard and reopen take.
type decision struct {
	Hold       holdRef `arg:"" help:"Number of the hold, such as 3.1."`
	Connection string  `placeholder:"NAME" help:"Connection; not needed when there is only one."`
	Why        string  `required:"" placeholder:"TEXT" help:"Why. It is kept with the hold and in the audit trail; no student data, please."`
}

type (
	holdsApproveCmd struct{ decision }
	holdsDiscardCmd struct{ decision }
	holdsReopenCmd  struct{ decision }
)

// Run approves a hold.
func (c *holdsApproveCmd) Run(ctx context.Context, a *app) error {
	return c.decide(ctx, a, []syncdb.PlanState{syncdb.PlanOpen}, syncdb.PlanApproved, "the next run makes %s")
}

// Run discards a hold.
func (c *holdsDiscardCmd) Run(ctx context.Context, a *app) error {
	return c.decide(ctx, a, []syncdb.PlanState{syncdb.PlanOpen}, syncdb.PlanDiscarded, "no run makes %s")
}

// Run reopens a hold.
func (c *holdsReopenCmd) Run(ctx context.Context, a *app) error {
	return c.decide(ctx, a, []syncdb.PlanState{syncdb.PlanApproved, syncdb.PlanDiscarded}, syncdb.PlanOpen, "the next run asks again about %s")
}

// decide writes a decision with who made it, when and why. A hold that somebody else decided about meanwhile stays as it is (F63), and so does
// one whose calls a run replaced since they were looked at (I8).
func (c *decision) decide(ctx context.Context, a *app, from []syncdb.PlanState, to syncdb.PlanState, text string) error {
	if strings.TrimSpace(c.Why) == "" {
		return usageError(errors.New("--why: say why"))
	}
	return a.look(ctx, c.Connection, func(ledger *syncdb.DB, conn syncdb.Connection) error {
		seen, err := holdByRef(ctx, ledger, conn.ID, c.Hold)
		if err != nil {
			return err
		}
		to, text := to, text
		if seen.Kind == syncdb.PlanUndo && to == syncdb.PlanOpen { // no safeguard asked about it, so there is no question to open again
			to, text = syncdb.PlanReleased, "the next run may make %s again, as far as the source asks for it"
		}
		h, err := ledger.DecidePlan(ctx, conn.ID, seen.ID, syncdb.Decision{From: from, To: to, Edition: seen.Edition, Who: operator(), Why: c.Why})
		var state *syncdb.PlanStateError
		var edition *syncdb.PlanEditionError
		switch {
		case errors.As(err, &state):
			return usageError(fmt.Errorf("hold %d is %s: nothing was changed", seen.ID, state.State))
		case errors.As(err, &edition):
			return usageError(replaced(seen.ID, edition.Edition, edition.Ops))
		case errors.Is(err, syncdb.ErrHoldOpen):
			return usageError(fmt.Errorf("hold %d cannot be reopened: a newer one of the same kind is open", seen.ID))
		case err != nil:
			return err
		}
		if a.JSON {
			a.printJSON(holdAsJSON(h))
			return nil
		}
		fmt.Fprintf(a.out, "hold %s is %s: "+text+"\n", refTo(h), h.State, whatIsHeld(h)+" ("+counted(h.Ops, "call")+")")
		return nil
	})
}

// holdByRef reads the hold somebody names. An edition that is not the one there is now is refused.
func holdByRef(ctx context.Context, ledger *syncdb.DB, conn int64, ref holdRef) (syncdb.Plan, error) {
	h, err := ledger.PlanByID(ctx, conn, ref.ID)
	switch {
	case errors.Is(err, syncdb.ErrNotFound) || err == nil && h.Kind == syncdb.PlanSaved:
		return h, usageError(fmt.Errorf("there is no hold %d; edfisync holds --all lists them", ref.ID))
	case err == nil && ref.Edition != 0 && ref.Edition != h.Edition:
		return h, usageError(replaced(h.ID, h.Edition, h.Ops))
	}
	return h, err
}

// replaced says that a hold has other calls than the edition that was named.
func replaced(id, edition, ops int64) error {
	if edition == 0 {
		return fmt.Errorf("the calls of hold %d are not kept any more: nothing was changed", id)
	}
	return fmt.Errorf("hold %d is now %d.%d, with %s: nothing was changed; look at it again with edfisync holds show %d.%d", id, id, edition, counted(ops, "call"), id, edition)
}
