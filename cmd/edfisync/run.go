package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/edfisync/edfisync/cmd/edfisync/internal/config"
	"github.com/edfisync/edfisync/internal/failpoint"
	"github.com/edfisync/edfisync/jobs"
	"github.com/edfisync/edfisync/sync"
	"github.com/edfisync/edfisync/syncdb"
)

type runCmd struct {
	Connection    string   `placeholder:"NAME" help:"Connection to run; not needed when there is only one."`
	Wait          bool     `help:"Wait for a run that is in progress instead of failing."`
	ApproveDelete []string `name:"approve-deletes" placeholder:"RESOURCE" help:"Let this run's deletes of a resource through the safeguard. May be repeated."`
	Resync        bool     `help:"Read the whole target first and repair what others changed in it, deletes included; clears the alarm of a target that was reset."`
	Resource      []string `placeholder:"RESOURCE" help:"Send only what changed of a resource, and what must go along. May be repeated."`
	School        []int64  `placeholder:"ID" help:"Send only what changed of a school, by schoolId; with --resource, of both. May be repeated."`
	Record        []string `placeholder:"RESOURCE:KEY" help:"Send only a record, by natural key: students:studentUniqueId=604822. May be repeated."`
	SourceRow     []string `placeholder:"RESOURCE:KEY" help:"Send only the record of a source row, by its _key: students:1017. May be repeated."`
	Ask           bool     `help:"Only ask for the run, and leave it to a serve or worker process."`
	AcceptLedger  bool     `help:"Go on with a ledger that is new, or was restored from a backup."`
}

// Help is the long help of the command.
func (runCmd) Help() string {
	text := `One full run: the source is read in one snapshot, compared with the ledger, and exactly what is new, changed or gone is sent.

Examples:

    edfisync run
    edfisync run --connection lincoln-2027 --wait --json
    edfisync run --approve-deletes ed-fi/studentSectionAssociations
    edfisync run --resync
    edfisync run --school 255901001
    edfisync run --resource students --resource studentSchoolAssociations --school 255901001

With --resource, --school, --record or --source-row the source is read and judged as a whole, but only that part of the changes is sent, with what must go
along with it. The rest stays as it is, issues and holds too, and the next run without them sends it.

Exit codes:

`
	for _, m := range meanings() {
		text += fmt.Sprintf("    %3d  %s\n", m.Code, m.Meaning)
	}
	return text
}

// waitEvery is how often --wait looks whether the run in progress has ended.
const waitEvery = 2 * time.Second

// Run does one run of one connection.
func (c *runCmd) Run(ctx context.Context, a *app) error {
	cfg, conn, err := a.picked(ctx, c.Connection)
	if err != nil {
		return err
	}
	if c.Resync && c.scoped() {
		return usageError(errors.New("--resync reads and repairs everything: it goes with none of --resource, --school, --record and --source-row"))
	}
	if c.Ask {
		return c.ask(ctx, a, cfg, conn)
	}
	approved, err := c.approved(conn)
	if err != nil {
		return err
	}
	o, err := a.openKnown(ctx, cfg, conn, c.AcceptLedger)
	if err != nil {
		return err
	}
	defer o.close()
	if err := c.awaitPause(ctx, a, o); err != nil {
		return err
	}
	if len(approved) > 0 { // I16
		if err := a.audit(ctx, o.ledger, o.engine.Connection, "run.approve-deletes", "deletes", map[string]any{"resources": approved}); err != nil {
			return err
		}
	}
	if o.engine.Options.Scope, err = c.scope(o.engine.Scoper()); err != nil {
		return err
	}
	o.engine.Options.Safeguards.ApproveDeletes = approved
	if o.engine.Options.Resync = c.Resync; c.Resync {
		if err := a.audit(ctx, o.ledger, o.engine.Connection, "run.resync", "", nil); err != nil {
			return err
		}
	}
	finish := a.follow(o)
	defer finish()
	summary, err := a.runOnce(ctx, cfg, o, c.Wait)
	finish()
	a.witnessed(ctx, cfg, o)
	if err == nil {
		retain(ctx, cfg, o.ledger, logger(a.err, cfg.Log))
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

// awaitPause waits for the end of the connection's pause, with --wait, and refuses the run without.
func (c *runCmd) awaitPause(ctx context.Context, a *app, o *opened) error {
	for told := false; ; told = true {
		err := o.mayRun(ctx)
		var paused *pausedError
		switch {
		case !errors.As(err, &paused):
			return err
		case !c.Wait:
			return fmt.Errorf("%w (edfisync resume ends that, --wait waits for it)", err)
		case !told && !a.JSON:
			fmt.Fprintf(a.err, "waiting: %s\n", err)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(waitEvery):
		}
	}
}

// ask asks for a run and leaves it to the service.
func (c *runCmd) ask(ctx context.Context, a *app, cfg *config.Config, conn *config.Connection) (err error) {
	if c.Wait || len(c.ApproveDelete) > 0 || c.Resync || c.AcceptLedger {
		return usageError(errors.New("--ask goes with no other flag of run but --resource, --school, --record and --source-row: the service does a plain run"))
	}
	ledger, err := existingLedger(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ledger.Close()) }()
	id, _, err := ledger.Connection(ctx, conn.Tenant, conn.Name)
	if err != nil {
		return err
	}
	var scope syncdb.RunScope
	if c.scoped() {
		o := &opened{ledger: ledger}
		defer o.close()
		scoper, err := o.scoper(ctx, conn, logger(a.err, cfg.Log))
		if err != nil {
			return err
		}
		if scope, err = c.scope(scoper); err != nil {
			return err
		}
	}
	bell, err := jobs.Open(ctx, jobs.Config{Ledger: ledger, Queue: jobs.QueueConfig{DSN: queueDSN(cfg)}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, bell.Close()) }()
	act := syncdb.AuditRow{Who: operator(), Action: "run.ask", Connection: nameOf(id)}
	if !scope.All() {
		if act.Detail, err = json.Marshal(map[string]any{"scope": scope}); err != nil {
			return err
		}
	}
	run, joined, err := bell.AskAs(ctx, id.ID, "cli", scope, act)
	if err != nil {
		return err
	}
	pause, paused, err := ledger.PauseOf(ctx, id.ID)
	if err != nil {
		return err
	}
	switch {
	case a.JSON:
		answer := map[string]any{"run": run.ID, "joined": joined}
		if paused {
			answer["pause"] = pause
		}
		a.printJSON(answer)
	case paused:
		fmt.Fprintf(a.out, "run %d waits: %s\n", run.ID, &pausedError{pause})
	case joined && run.Wait != nil:
		fmt.Fprintf(a.out, "run %d waits already: %s\n", run.ID, run.Wait)
	case joined:
		fmt.Fprintf(a.out, "run %d waits already\n", run.ID)
	default:
		fmt.Fprintf(a.out, "run %d is asked for; edfisync runs shows what becomes of it\n", run.ID)
	}
	return nil
}

// approved are the resources --approve-deletes names, as the engine calls them.
func (c *runCmd) approved(conn *config.Connection) ([]string, error) {
	if len(c.ApproveDelete) == 0 {
		return nil, nil
	}
	pack, err := loadPack(conn)
	if err != nil {
		return nil, usageError(err)
	}
	resources, err := resourcesOf(mapped(pack), c.ApproveDelete)
	if err != nil {
		return nil, usageError(fmt.Errorf("--approve-deletes: %w", err))
	}
	return resources, nil
}

// runOnce runs the engine as this process.
func (a *app) runOnce(ctx context.Context, cfg *config.Config, o *opened, wait bool) (summary *sync.Summary, err error) {
	err = a.exclusively(ctx, cfg, o, wait, func() error {
		summary, err = o.engine.Run(ctx)
		return err
	})
	return summary, err
}

// exclusively does fn, which takes the connection's lease, as this process. A lease whose process is gone is ended instead of waited out.
func (a *app) exclusively(ctx context.Context, cfg *config.Config, o *opened, wait bool, fn func() error) error {
	h, err := newHolder(cfg.WorkDir)
	if err != nil {
		return err
	}
	failpoint.Reach(failpoint.HolderMade, "", "")
	abandoned := false
	defer func() {
		if !abandoned {
			h.release()
		}
	}()
	o.engine.Options.Holder = h.name
	defer logged(ctx, o, o.ledger)()
	told := false
	for {
		err := fn()
		var busy *syncdb.BusyError
		var limit *syncdb.LimitError
		if errors.Is(err, sync.ErrUnfinished) && !errors.Is(err, syncdb.ErrFenced) {
			h.abandon() // the next run need not wait until the lease has ended
			abandoned = true
		}
		if !errors.As(err, &busy) && !errors.As(err, &limit) {
			return err
		}
		if busy != nil && isDead(cfg.WorkDir, busy.Holder) {
			if err := a.takeOver(ctx, cfg, o, busy); err != nil {
				return fmt.Errorf("take over from a process that is gone: %w", err)
			}
			continue
		}
		if !wait {
			return fmt.Errorf("%w; --wait waits for it", err)
		}
		if !told && !a.JSON {
			if busy != nil {
				fmt.Fprintf(a.err, "waiting: run %d is in progress\n", busy.RunID)
			} else {
				fmt.Fprintf(a.err, "waiting: %s\n", limit)
			}
			told = true
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(waitEvery):
		}
	}
}

// takeOver ends the lease of a process that is gone. Calls it had under way may still take effect at the target, as long as a call may take:
// what this run sends must come after them, or a late create would bring back what this run deletes, a late update undo what it updates
// (I1, engine.md §4). So with calls open it waits for as long first.
func (a *app) takeOver(ctx context.Context, cfg *config.Config, o *opened, busy *syncdb.BusyError) error {
	open, err := o.ledger.Open(ctx, o.engine.Connection.ID)
	if err != nil {
		return err
	}
	if open > 0 {
		wait := o.engine.Options.CallTimeout
		if !a.JSON {
			fmt.Fprintf(a.err, "run %d was killed with %s under way: waiting %s, until none of them can take effect any more\n",
				busy.RunID, counted(int64(open), "call"), wait)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(wait):
		}
	}
	failpoint.Reach(failpoint.ExpireBefore, "", "")
	if err := o.ledger.ExpireLease(ctx, o.engine.Connection.ID, busy.Holder); err != nil {
		return err
	}
	failpoint.Reach(failpoint.ExpireAfter, "", "")
	bury(cfg.WorkDir, busy.Holder)
	return nil
}

// codeOfSummary is the exit code of a run that finished.
func codeOfSummary(s *sync.Summary) exitCode {
	code := exitOK
	if s.State != syncdb.RunDone {
		code = worst(code, exitFailed)
	}
	if len(s.HeldBack) > 0 || s.Totals.Kept > s.Totals.Decided {
		code = worst(code, exitHeld)
	}
	if s.Held > s.Totals.Decided || s.Failed > 0 { // what somebody decided about is no problem
		code = worst(code, exitProblems)
	}
	return code
}

// summaryJSON is what --json prints for a run.
type summaryJSON struct {
	*sync.Summary
	Error string `json:"error,omitempty"`
}

func (a *app) printSummary(ctx context.Context, s *sync.Summary, err error) {
	if a.JSON {
		out := summaryJSON{Summary: s}
		switch {
		case codeOf(ctx, err) == exitInterrupted:
			out.Error = errInterrupted.Error()
		case err != nil:
			out.Error = hinted(err).Error()
		}
		a.printJSON(out)
		return
	}
	writeSummary(a.out, s)
}

// alarmRemedy is what helps when the target was wiped or restored.
const alarmRemedy = "ask the target's host what happened; then edfisync adopt, or edfisync run --resync"

// extraRemedy is what helps when records of ours came back with a restore of the target, and no row wants them.
const extraRemedy = "edfisync adopt --extra --plan counts those that no row has; edfisync adopt --extra takes them over, and the next run deletes them"

// writeSummary is a run as a table: a line for each resource with something to tell, and the totals.
func writeSummary(out io.Writer, s *sync.Summary) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "created\tupdated\tdeleted\tunchanged\theld\tinvalid\tblocked\tfailed\t")
	row := func(name string, t *sync.Totals) {
		for _, n := range []int64{t.Created, t.Updated, t.Deleted, t.Unchanged, t.Kept, t.Invalid, t.Blocked, t.Failed()} {
			fmt.Fprint(w, grouped(n), "\t")
		}
		fmt.Fprintf(w, "  %s\n", name)
	}
	for i := range s.Resources {
		row(s.Resources[i].Resource, &s.Resources[i].Totals)
	}
	row("all", &s.Totals)
	flush(w)
	fmt.Fprintf(out, "\nrun %d %s in %s: %s\n", s.RunID, s.State, s.Took.Round(time.Millisecond), counted(s.Calls, "write call"))
	if !s.Scope.All() {
		fmt.Fprintf(out, "scope: %s; %s out of it, %s left to a run of everything\n", scopeText(s.Scope), counted(s.Totals.Outside, "row"), counted(s.Pending, "call"))
	} else if n := s.Totals.Outside; n > 0 {
		fmt.Fprintf(out, "%s of schools the connection does not sync\n", counted(n, "row")+are(n))
	}
	writeWarnings(out, s.Warnings)
	if s.Recovered > 0 {
		fmt.Fprintf(out, "settled %s an earlier run left without an answer\n", counted(int64(s.Recovered), "call"))
	}
	if r := s.Resynced; r != nil {
		fmt.Fprintf(out, "read %s of the target and corrected %s of the ledger's entries: %s missing, %s different, %s moved; %s extra left alone\n",
			counted(r.Read, "record"), grouped(r.Corrected), grouped(r.Missing), grouped(r.Different), grouped(r.Moved), grouped(r.Extra))
		if r.Extra > 0 {
			fmt.Fprintf(out, "  extra = at the target, and not in the ledger: another client's, or ours from before the target was restored. %s\n", extraRemedy)
		}
		for resource, why := range r.Left {
			fmt.Fprintf(out, "%s could not be read, its entries stay as they were: %s\n", resource, why)
		}
	}
	if s.SourceBehind != "" && !slices.ContainsFunc(s.HeldBack, func(h sync.HeldPart) bool { return h.Rule == sync.RuleSourceBehind }) {
		writeBehind(out, s.SourceBehind)
	}
	for _, h := range s.HeldBack {
		if h.Rule == sync.RuleTargetReset {
			fmt.Fprintf(out, "nothing was written: %s\n  %s\n", h.Reason, alarmRemedy)
			continue
		}
		fmt.Fprintf(out, "held: %s (%s): %s\n", h.What(), counted(h.Ops, "call"), h.Reason)
		if h.Hold != 0 {
			fmt.Fprintf(out, "  look: edfisync holds show %d.%d; then approve or discard it\n", h.Hold, h.Edition)
		}
	}
	if s.Totals.Met > 0 {
		fmt.Fprintf(out, "%s at the target before our first call: kept up to date, and not deleted until edfisync adopt takes them over\n", counted(s.Totals.Met, "record")+were(s.Totals.Met))
	}
	if n := s.Totals.NotSent; n > 0 {
		fmt.Fprintf(out, "%s not reached; the next run sends %s\n", counted(n, "record")+were(n), them(n))
	}
	if n := s.PlanLeft; n > 0 {
		fmt.Fprintf(out, "%s of the plan blocked or failed; the next run takes %s\n", counted(n, "call"), them(n))
	}
	filed := s.Held + s.Failed - s.Totals.NotSent - s.Totals.Decided
	for _, d := range s.Decided {
		writeDecided(out, d)
		if d.By == sync.ByConfiguration {
			filed += d.Ops
		}
	}
	if filed > 0 {
		fmt.Fprintln(out, "what stands in the way: edfisync issues")
	}
}

// writeBehind says that a source is behind that asks for no delete: nothing is held, and nobody has to decide anything yet.
func writeBehind(out io.Writer, why string) {
	fmt.Fprintf(out, "the source is behind: %s; what it lacks is not deleted before somebody approves\n", why)
}

// writeWarnings says what the configuration or the request names and is not there.
func writeWarnings(out io.Writer, of []sync.Warning) {
	for _, w := range of {
		fmt.Fprintf(out, "warning: %s (%s)\n  %s\n", w.Text, w.Code, w.Hint)
	}
}

// writeDecided says what is kept back without a question, and how to see or end that.
func writeDecided(out io.Writer, d sync.Decided) {
	fmt.Fprintf(out, "not made: %s, because %s\n", counted(d.Ops, "call"), d.Why())
	if d.Hold != 0 {
		fmt.Fprintf(out, "  look: edfisync holds show %d.%d; end it: edfisync holds reopen %d.%d --why TEXT\n", d.Hold, d.Edition, d.Hold, d.Edition)
	}
}

func were(n int64) string {
	if n == 1 {
		return " was"
	}
	return " were"
}

func them(n int64) string {
	if n == 1 {
		return "it"
	}
	return "them"
}
