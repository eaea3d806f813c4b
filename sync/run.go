package sync

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	gosync "sync"
	"time"

	"github.com/edfisync/edfisync/internal/failpoint"
	"github.com/edfisync/edfisync/schema"
	"github.com/edfisync/edfisync/syncdb"
)

// Summary is the result of a run.
type Summary struct {
	RunID     int64             `json:"run"`
	State     syncdb.RunState   `json:"state"`
	Created   int64             `json:"created"`
	Updated   int64             `json:"updated"`
	Deleted   int64             `json:"deleted"`
	Unchanged int64             `json:"unchanged"`
	Held      int64             `json:"held"`   // invalid + blocked + held
	Failed    int64             `json:"failed"` // rejected + failed
	Calls     int64             `json:"calls"`  // write calls
	Totals    Totals            `json:"totals"`
	Resynced  *Resynced         `json:"resynced,omitempty"`  // what a reading of the target corrected in the ledger, with Options.Resync
	Recovered int               `json:"recovered,omitempty"` // intents an earlier run left without an answer
	Cleared   int               `json:"cleared,omitempty"`   // rows with a problem before this run and none after it
	Took      time.Duration     `json:"tookNanoseconds"`
	Resources []ResourceSummary `json:"resources"`
	Alarm     string            `json:"alarm,omitempty"`    // the target was wiped or restored, so that nothing was written: what tells
	HeldBack  []HeldPart        `json:"heldBack,omitempty"` // what safeguards keep back, and why
	// SourceBehind says why the source is not believed when it says that something is gone; "" = it is.
	SourceBehind string          `json:"sourceBehind,omitempty"`
	Decided      []Decided       `json:"decided,omitempty"`   // what is kept back without a question, because somebody decided so before
	PlanLeft     int64           `json:"planLeft,omitempty"`  // with Options.Apply: calls of the plan that were blocked or failed; any run takes them
	Scope        syncdb.RunScope `json:"scope,omitzero"`      // what the run was to send; zero = all that changed
	Pending      int64           `json:"pending,omitempty"`   // calls that are not made because they are out of the scope: a run without one makes them
	Warnings     []Warning       `json:"warnings,omitempty"`  // what the connection's schools and the scope name and is not there
	LeftAlone    []string        `json:"leftAlone,omitempty"` // resources with entries in the ledger that the connection no longer syncs (I5g)
}

// ResourceSummary is the result for one resource.
type ResourceSummary struct {
	Resource string `json:"resource"`
	Totals
}

// Run asks for a run, does it, and returns what came of it. A run another process holds the lease for is *syncdb.BusyError. When the run
// had to end early the summary says how far it came, and the next run continues from there.
//
// The promise of one run is I1, I3–I7, I9, I11, I17, I19 and I22 of docs/guarantees.md.
func (e *Engine) Run(ctx context.Context) (*Summary, error) {
	o := e.options()
	begun := time.Now()
	h, err := e.begin(ctx, o)
	if err != nil {
		return nil, err
	}
	defer h.release()
	ctx, k, run := h.ctx, h.keeper, h.run

	o.Scope = run.Scope // with what others asked for
	s := &Summary{RunID: run.ID, Scope: run.Scope}
	abandoned, err := e.watched(ctx, o, func(ctx context.Context, e *Engine) error { return e.work(ctx, o, k, s) })
	if abandoned {
		s = &Summary{RunID: run.ID, Scope: run.Scope} // the other is not ours any more
		k.end()
	}
	if err != nil && ctx.Err() != nil {
		err = errors.Join(context.Cause(ctx)) // the reason, not its echo
	}
	s.Took = time.Since(begun)
	return s, e.close(ctx, k, s, err)
}

// work is scan → plan → execute. A scan that is not complete ends the run before anything is sent (I5c).
func (e *Engine) work(ctx context.Context, o Options, k *keeper, s *Summary) error {
	p := newProgress(e.Progress)
	defer p.stop()

	p.phase("recover", "")
	failpoint.Reach(failpoint.RecoverBefore, "", "")
	recovered, err := e.Ledger.Recover(ctx, k.current())
	if err != nil {
		return fmt.Errorf("settle what the last run left: %w", err)
	}
	failpoint.Reach(failpoint.RecoverAfter, "", "")
	s.Recovered = recovered.Open
	if recovered.Open > 0 {
		e.logger().Warn("an earlier run ended without knowing the answers to some calls; they are settled now", slog.Int("calls", recovered.Open))
	}

	sc, err := e.runScope(ctx, o)
	if err != nil {
		return err
	}
	failpoint.Reach(failpoint.SpoolsBefore, "", "")
	dir, err := e.spoolDir(o.WorkDir)
	if err != nil {
		return err
	}
	failpoint.Reach(failpoint.SpoolsAfter, "", "")
	defer dir.remove()
	if o.Resync {
		synced, err := newScope(e.Model, e.Source.Queries(), e.Dependencies)
		if err != nil {
			return err
		}
		if s.Resynced, err = e.resync(ctx, o, k, synced, dir, p); err != nil {
			return err
		}
	}

	p.phase("scan", "")
	scan, found, err := e.scanSettled(ctx, o, k, sc, dir, p)
	if err != nil {
		return err
	}
	defer closeAll(found)
	if s.Warnings, err = scan.warnings(o.Scope, found); err != nil {
		return err
	}
	e.tellWarnings(ctx, s.Warnings)
	p.phase("look", "")
	state, err := e.look(ctx, o, &scan.sample, found)
	if err != nil {
		return err
	}
	if state.raised {
		if err := e.raise(ctx, k, state.alarm, state.newest); err != nil {
			return err
		}
	}

	st, err := e.trust(ctx, k, found, standing{alarm: state.alarm, behind: behind(found, scan.mark), mark: scan.mark})
	if err != nil {
		return err
	}
	chosen, err := e.choose(ctx, sc, found, o.Scope)
	if err != nil {
		return err
	}
	plan, err := e.decidedPlan(ctx, o, k, sc, found, st, chosen)
	if err != nil {
		return err
	}
	if err := e.saveMarks(ctx, k, found, scan.mark); err != nil {
		return err
	}
	e.logPlan(ctx, plan)
	if s.LeftAlone, err = e.outOfScope(ctx, found); err != nil {
		return err
	}
	s.Decided, s.Alarm, s.SourceBehind = plan.Decided, st.alarm, st.behind
	if s.HeldBack, err = e.touched(ctx, sc, found, plan); err != nil {
		return err
	}
	s.HeldBack = waitingParts(s.HeldBack)
	if chosen != nil {
		s.Pending = chosen.left
		if err := chosen.leave(found, func(ps []syncdb.Problem) error { return e.Ledger.SaveProblems(ctx, k.current(), ps) }); err != nil {
			return fmt.Errorf("file problems of the scan: %w", err)
		}
	}

	x, release := newExecutor(ctx, e, o, sc, found, plan, k, dir)
	defer release()
	x.report = p.sender(max(0, plan.Writes()-s.Pending))
	err = x.run(sc.steps())
	s.count(found, err != nil)
	if errors.Is(err, ErrTargetReset) {
		err = errors.Join(err, e.raise(ctx, k, x.resetReason(), state.newest))
	}
	if err != nil {
		return err
	}
	p.phase("close", "")
	if err := s.accounted(); err != nil {
		return err
	}
	if state.alarm != "" && s.Totals.Kept == 0 {
		if err := e.tellAlarm(ctx, k); err != nil {
			return err
		}
	}
	failpoint.Reach(failpoint.ClearBefore, "", "")
	if s.Cleared, err = e.closeProblems(ctx, k, chosen); err != nil {
		return fmt.Errorf("clear problems that are gone: %w", err)
	}
	failpoint.Reach(failpoint.ClearAfter, "", "")
	if o.Apply != 0 { // I8: what was not made of an applied plan is told
		s.PlanLeft = plan.approved.wanted[0] - plan.approved.done[0].Load()
	}
	if state.alarm == "" {
		if err := errors.Join(e.closeHolds(ctx, k, plan), e.remember(ctx, k, state, s.Calls)); err != nil {
			return err
		}
	}
	if err := e.receipt(ctx, o, k, found, s, recovered.Open+recovered.Folded > 0 || o.Resync); err != nil {
		return err
	}
	return e.purgeHistory(ctx, o, s.RunID)
}

// scanSettled scans, after the ledger has learned what it did not know for sure. When that are keys, or what a record is that somebody decided about, the
// rows are compared with it in a second scan; and in a third, when only the keys that were learned show which references may have changed (I1).
func (e *Engine) scanSettled(ctx context.Context, o Options, k *keeper, sc *scope, dir *workspace, p *progress) (*scanner, []*scanned, error) {
	var saving gosync.Mutex
	known := &readings{clear: map[strayID]struct{}{}}
	for pass := 0; ; pass++ {
		scan := &scanner{
			e: e, o: o, scope: sc, dir: dir, report: p.scanned, schools: e.schoolNames(o.Scope, o.Schools), asked: e.rowsAsked(o.Scope), later: !o.Scope.All(), sample: sample{salt: uint64(k.current().RunID)},
			problems: func(ps []syncdb.Problem) error {
				saving.Lock()
				defer saving.Unlock()
				return e.Ledger.SaveProblems(ctx, k.current(), ps)
			},
			settle: func(ctx context.Context, found []*scanned) error {
				settled := false
				if pass == 0 {
					var err error
					if settled, err = e.settleDoubts(ctx, o, k, found); err != nil {
						return err
					}
				}
				f, err := e.family(ctx, o, found)
				if err != nil {
					return err
				}
				corrected, err := e.findStrays(ctx, k, o, f, known)
				if err != nil {
					return err
				}
				stale := false
				if pass < 2 {
					if stale, err = e.markStale(ctx, k, f); err != nil {
						return err
					}
				}
				if corrected || settled || stale {
					return errScanAgain
				}
				if err := e.markDoubts(ctx, found); err != nil {
					return err
				}
				return e.settleLost(ctx, o, k, f)
			},
		}
		found, err := scan.scan(ctx)
		if pass == 2 || !errors.Is(err, errScanAgain) {
			return scan, found, err
		}
	}
}

// decidedPlan is the plan of a run, with what is held written down: that of its own scan, or a saved one.
func (e *Engine) decidedPlan(ctx context.Context, o Options, k *keeper, sc *scope, found []*scanned, st standing, chosen *part) (*Plan, error) {
	d, err := e.decisions(ctx, sc, found, st)
	if err != nil {
		return nil, err
	}
	plan := decide(found, d.gates, d.open, o.Safeguards, st)
	plan.approved, plan.part, plan.mark = d.approved, chosen, st.mark
	if err := e.endDecisions(ctx, k, found, d, st); err != nil {
		return nil, err
	}
	plan.Decided = decidedParts(d.gates, plan.Resources, chosen) // the editions may be others now
	if o.Apply != 0 {
		return e.planOf(ctx, k, sc, found, o.Apply, st)
	}
	failpoint.Reach(failpoint.Planned, "", "")
	return plan, e.saveHolds(ctx, k, sc, found, plan)
}

// close writes the end of the run. A run that failed leaves a state the next one continues from: intents without an answer stay in the
// journal (I3).
func (e *Engine) close(ctx context.Context, k *keeper, s *Summary, err error) error {
	s.State = syncdb.RunDone
	text := ""
	switch {
	case canceled(ctx, err):
		s.State, text = syncdb.RunCanceled, context.Cause(ctx).Error()
	case err != nil:
		s.State, text = syncdb.RunFailed, err.Error()
	case s.Alarm != "":
		text = "nothing was written: " + s.Alarm
	}
	totals, jerr := json.Marshal(endedAs{s.Totals, s.Warnings})
	if jerr != nil {
		return errors.Join(err, fmt.Errorf("write totals: %w", jerr))
	}
	if !errors.Is(err, ErrStalled) { // whatever the run hangs in would hold this up, too
		e.keepRanking(ctx, k)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 15*time.Second)
	defer cancel()
	if failure := FailureOf(err); failure != "" && s.State == syncdb.RunFailed {
		if nerr := e.Ledger.NoteFailure(ctx, k.current(), failure); nerr != nil {
			e.logger().WarnContext(ctx, "note why the run failed", slog.Any("error", nerr))
		}
	}
	failpoint.Reach(failpoint.FinishBefore, "", "")
	if ferr := e.Ledger.FinishRun(ctx, k.current(), s.State, totals, text); ferr != nil {
		return errors.Join(err, fmt.Errorf("finish the run: %w", &unfinishedError{ferr}))
	}
	failpoint.Reach(failpoint.FinishAfter, "", "")
	return err
}

// ErrUnfinished means that a run has ended, with no call under way any more, and that the ledger did not take that down: there it looks as if it ran.
var ErrUnfinished = errors.New("the end of the run could not be noted")

// unfinishedError is ErrUnfinished with what the ledger said.
type unfinishedError struct{ err error }

func (e *unfinishedError) Error() string        { return e.err.Error() }
func (e *unfinishedError) Unwrap() error        { return e.err }
func (e *unfinishedError) Is(target error) bool { return target == ErrUnfinished }

// canceled reports whether a run ended with err because somebody wanted it to end. A call that something else ended is a failure, whatever it
// was told.
func canceled(ctx context.Context, err error) bool {
	cause := context.Cause(ctx)
	return err != nil && (errors.Is(cause, ErrCanceled) || errors.Is(cause, context.Canceled))
}

// count adds the outcomes up. Rows a run that ended early did not reach are failed: nothing is known to be wrong with them, the next run
// takes them (I11).
func (s *Summary) count(found []*scanned, endedEarly bool) {
	for _, r := range found {
		r.mu.Lock()
		t := r.totals
		r.mu.Unlock()
		if missed := t.Rows - t.WithRow; missed > 0 && endedEarly {
			t.Errors, t.NotSent, t.WithRow = t.Errors+missed, missed, t.Rows
		}
		s.Resources = append(s.Resources, ResourceSummary{Resource: r.Path, Totals: t})
		s.Totals.merge(t)
	}
	t := s.Totals
	s.Created, s.Updated, s.Deleted, s.Unchanged = t.Created, t.Updated, t.Deleted, t.Unchanged
	s.Held, s.Failed, s.Calls = t.Held(), t.Failed(), t.Calls
}

// accounted checks I11: every row has exactly one outcome.
func (s *Summary) accounted() error {
	for _, r := range s.Resources {
		if r.Rows != r.WithRow {
			return fmt.Errorf("%s: %d rows were read and %d got an outcome; this is a defect of edfisync, please report it", r.Resource, r.Rows, r.WithRow)
		}
	}
	return nil
}

// Plan scans and says what Run would do. It writes nothing, at the target or in the ledger, and needs no lease. At most details changes
// are described field by field; for updates the target's copies are read by id.
func (e *Engine) Plan(ctx context.Context, details int) (*Plan, error) {
	return e.scanPlan(ctx, details, func(*scope, []*scanned, *Plan) error { return nil })
}

// scanPlan makes a plan and shows it to keep together with what the scan found.
func (e *Engine) scanPlan(ctx context.Context, details int, keep func(*scope, []*scanned, *Plan) error) (*Plan, error) {
	o := e.options()
	p := newProgress(e.Progress)
	defer p.stop()
	sc, err := e.runScope(ctx, o)
	if err != nil {
		return nil, err
	}
	dir, err := newWorkspace(o.WorkDir, "edfisync-plan-")
	if err != nil {
		return nil, err
	}
	defer dir.remove()
	p.phase("scan", "")
	d := &describer{e: e, limit: details}
	scan := &scanner{e: e, o: o, scope: sc, dir: dir, report: p.scanned, problems: d.invalid, schools: e.schoolNames(syncdb.RunScope{}, o.Schools)}
	found, err := scan.scan(ctx)
	if err != nil {
		return nil, err
	}
	defer closeAll(found)
	if err := e.markDoubts(ctx, found); err != nil {
		return nil, err
	}
	state, err := e.look(ctx, o, &scan.sample, found)
	if err != nil {
		return nil, err
	}
	st := standing{alarm: state.alarm, behind: behind(found, scan.mark), mark: scan.mark}
	if st.behind != "" && st.alarm == "" { // as a run would
		approved, err := e.acceptances(ctx)
		if err != nil {
			return nil, err
		}
		if accepted(approved, st.mark) {
			st.behind = ""
		}
	}
	said, err := e.decisions(ctx, sc, found, st)
	if err != nil {
		return nil, err
	}
	plan := decide(found, said.gates, said.open, o.Safeguards, st)
	plan.SourceBehind, plan.Held = st.behind, waitingParts(plan.Held)
	if plan.Warnings, err = scan.warnings(syncdb.RunScope{}, found); err != nil {
		return nil, err
	}
	hasher := schema.NewHasher(e.Keys.HashMAC())
	if err := predictBlocked(sc, found, plan, hasher, o.Rules); err != nil {
		return nil, err
	}
	if err := predictKept(sc, found, plan, hasher); err != nil {
		return nil, err
	}
	if plan.Open, err = e.Ledger.Open(ctx, e.Connection.ID); err != nil {
		return nil, fmt.Errorf("count open intents: %w", err)
	}
	runs, err := e.Ledger.Runs(ctx, e.Connection.ID, paceRuns)
	if err != nil {
		return nil, fmt.Errorf("read earlier runs: %w", err)
	}
	plan.Estimate = estimate(runs, plan.Writes())
	if i := slices.IndexFunc(runs, func(r syncdb.Run) bool { return r.State == syncdb.RunRunning }); i >= 0 {
		plan.Unfinished = runs[i].ID
	}
	plan.sum()
	p.phase("describe", "")
	if plan.Changes, err = d.describe(ctx, found, plan); err != nil {
		return nil, err
	}
	return plan, keep(sc, found, plan)
}

// runScope is the scope of a run: what the connection syncs, and, for the removal of what was sent to be offered, the resources the ledger has entries of
// though they are off. One whose hashes were made under other rules is left alone.
func (e *Engine) runScope(ctx context.Context, o Options) (*scope, error) {
	f := &family{byPath: map[string]*kin{}}
	for _, q := range e.Source.Queries() {
		f.byPath[q.Resource.Path] = &kin{Resource: q.Resource}
	}
	if err := e.addOutOfScope(ctx, o, f); err != nil {
		return nil, err
	}
	off := make([]*schema.Resource, len(f.all))
	for i, k := range f.all {
		off[i] = k.Resource
	}
	return newScope(e.Model, e.Source.Queries(), e.Dependencies, off...)
}

// outOfScope lists resources the ledger has entries of and the mapping pack no queries for. Nothing is deleted there without an approval (I5g).
func (e *Engine) outOfScope(ctx context.Context, found []*scanned) ([]string, error) {
	known, err := e.Ledger.Resources(ctx, e.Connection.ID)
	if err != nil {
		return nil, fmt.Errorf("list the ledger's resources: %w", err)
	}
	left := slices.DeleteFunc(known, func(path string) bool {
		return slices.ContainsFunc(found, func(r *scanned) bool { return r.Path == path && !r.off })
	})
	if len(left) > 0 {
		e.logger().Warn("the ledger has records of resources the connection no longer syncs; they stay, but for those whose removal was approved", slog.Any("resources", left))
	}
	return left, nil
}

func (e *Engine) logPlan(ctx context.Context, p *Plan) {
	if !e.logger().Enabled(ctx, slog.LevelError) {
		return // nobody listens
	}
	for _, r := range p.Resources {
		e.logger().Debug("planned", slog.String("resource", r.Resource), slog.Int64("rows", r.Rows), slog.Int64("create", r.Create),
			slog.Int64("update", r.Update), slog.Int64("delete", r.Delete), slog.Int64("unchanged", r.Unchanged), slog.Int64("invalid", r.Invalid))
	}
	for _, h := range p.Held {
		e.logger().Warn("held back", slog.String("what", h.What()), slog.String("rule", string(h.Rule)), slog.String("why", h.Reason), slog.Int64("ops", h.Ops))
	}
}
