package sync

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	gosync "sync"
	"sync/atomic"
	"time"

	"github.com/edfisync/edfisync/internal/failpoint"
	"github.com/edfisync/edfisync/syncdb"
)

// op is one planned call.
type op struct {
	id      uint64
	verb    syncdb.Verb
	key     syncdb.Hash
	record  syncdb.Hash
	source  syncdb.Hash
	person  syncdb.Hash
	edfiID  string
	known   bool   // the ledger has an entry for it
	met     bool   // of a record that was at the target before us (I9)
	lastID  string // id of that entry
	keyText []byte
	srcKey  []byte
	payload []byte
	refs    []reference
	before  syncdb.Hash // what the ledger says the record is now; zero = not known
	oldKey  syncdb.Hash // Update: the key the entry has now, when the natural key changes
	was     *move       // Create: the row's record under its old key, which is deleted in this run
	silent  silent      // no call
	anew    bool        // Create: in place of a natural-key change that was refused, so nothing was re-keyed with the record
	loosens bool        // Update: takes a reference away that stands against a delete, and is no outcome of its own
	unsure  bool        // whether the target has the record is not known: a call of an earlier run had no answer
	lack    *lack       // once it was refused for want of a relationship
	hold    int         // index of the approved hold it belongs to, plus 1; 0 = none
	batch   *batch
}

// executor sends a plan, step by step.
type executor struct {
	e      *Engine
	o      Options
	scope  *scope
	found  []*scanned
	target Target
	keeper *keeper
	plan   *Plan

	ctx     context.Context // ends when nothing new may be started
	stop    context.CancelCauseFunc
	calls   context.Context // ends a little later, so that calls in flight can finish (I19)
	nextOp  atomic.Uint64
	active  atomic.Int64 // steps running now
	budget  *budget      // intents without a durable result, over all steps: at most two batches
	sent    atomic.Int64
	met     atomic.Int64 // PUTs and DELETEs of records that were there
	lost    atomic.Int64 // and of those that were not
	unheard atomic.Int64 // calls without a usable answer since the last one with
	report  func(resource string, done int64)
	watch   func(syncdb.Attempt) // when set, called with every answered call

	mu       gosync.Mutex
	ids      map[string]struct{}   // ids of records a POST met in this run (I5d)
	stranded map[syncdb.Hash]place // people with a delete that did not go through, and which
	needed   map[reference]place   // records that others refer to which should have been deleted and were not (I6)
	against  map[place]place       // records to be deleted → a record that may refer to them and was not sent
	gives    map[reference]place   // people to whom rows would give us the right that were not sent
	deferred []*spool              // by resource: creates of people moved to the update step

	formerMu gosync.Mutex
	former   []map[uint64][]syncdb.Hash // by resource, once asked for
	rights   rights
}

// callGrace is how long calls in flight may go on after a cancel.
const callGrace = 1500 * time.Millisecond

func newExecutor(ctx context.Context, e *Engine, o Options, s *scope, found []*scanned, p *Plan, k *keeper, dir *workspace) (*executor, func()) {
	x := &executor{
		e: e, o: o, scope: s, found: found, plan: p, keeper: k,
		ids: map[string]struct{}{}, stranded: map[syncdb.Hash]place{}, needed: map[reference]place{},
		gives: map[reference]place{}, against: map[place]place{},
	}
	x.rights.e, x.rights.scope, x.rights.found = e, s, found
	x.budget = newBudget(2 * maxBatch(o.Workers))
	for _, r := range found {
		x.deferred = append(x.deferred, newSpool(dir, r.Path+"#deferred", e.Keys))
		maps.Copy(x.needed, r.needs)
		maps.Copy(x.gives, r.unsendable.gives)
	}
	x.ctx, x.stop = context.WithCancelCause(ctx)
	for _, r := range found {
		for ref, at := range r.unsendable.says {
			x.standAgainst([]reference{ref}, at)
		}
	}
	x.target = e.Target(func() error {
		if x.ctx.Err() != nil { // no new attempt once the run is to end, repeats and waiting calls included (I19)
			return context.Cause(x.ctx)
		}
		return k.check()
	})
	calls, cancelCalls := context.WithCancel(context.WithoutCancel(ctx))
	x.calls = calls
	var timer *time.Timer
	var mu gosync.Mutex
	release := context.AfterFunc(x.ctx, func() {
		x.budget.poke()
		mu.Lock()
		defer mu.Unlock()
		timer = time.AfterFunc(callGrace, cancelCalls)
	})
	return x, func() {
		release()
		x.stop(nil)
		mu.Lock()
		defer mu.Unlock()
		if timer != nil {
			timer.Stop()
		}
		cancelCalls()
		for _, d := range x.deferred {
			_ = d.close()
		}
	}
}

// run executes every step as soon as all it depends on are done; independent steps run side by side. It returns the reason when the run
// had to end early.
func (x *executor) run(steps []step) error {
	var mu gosync.Mutex
	left := make([]int, len(steps))     // how many steps each waits for
	next := make([][]int, len(steps))   // which ones wait for it
	ready := make([]int, 0, len(steps)) // wait for none
	for i, st := range steps {
		if left[i] = len(st.After); left[i] == 0 {
			ready = append(ready, i)
		}
		for _, after := range st.After {
			next[after] = append(next[after], i)
		}
	}
	var wg gosync.WaitGroup
	var begin func()
	done := func(i int) {
		for _, j := range next[i] {
			if left[j]--; left[j] == 0 {
				ready = append(ready, j)
			}
		}
	}
	begin = func() { // with mu held
		for len(ready) > 0 {
			i := ready[len(ready)-1]
			ready = ready[:len(ready)-1]
			if x.idle(steps[i]) { // most steps of most runs
				done(i)
				continue
			}
			wg.Go(func() {
				if x.ctx.Err() == nil {
					if err := x.step(steps[i]); err != nil {
						x.stop(err)
					}
				}
				mu.Lock()
				defer mu.Unlock()
				done(i)
				begin()
			})
		}
	}
	mu.Lock()
	begin()
	mu.Unlock()
	wg.Wait()
	if x.ctx.Err() != nil {
		return context.Cause(x.ctx)
	}
	return nil
}

// step executes one step: feed ops into batches, commit each batch's intents, call, collect results, fold.
func (x *executor) step(st step) error {
	r := x.found[st.Resource]
	s := &stepRun{x: x, st: st, r: r, gate: x.plan.gates[st.Resource], attempts: x.newAttempts(), calls: x.calls}
	s.drifting = once(s.driftingIDs)
	if r.scope != nil {
		failpoint.Reach(failpoint.ScopeBefore, r.Path, "")
		if err := x.e.Ledger.SetScope(x.ctx, x.keeper.current(), *r.scope); err != nil {
			return fmt.Errorf("note the hash rules of %s: %w", r.Path, err)
		}
		failpoint.Reach(failpoint.ScopeAfter, r.Path, "")
		r.scope = nil
	}
	x.active.Add(1)
	defer x.active.Add(-1)
	begun, watched := time.Now(), func(Totals, error) {}
	if x.e.Steps != nil {
		s.calls, watched = x.e.Steps.Step(x.calls, r.Path, verbName(st.Verb))
	}
	failure := s.run(s.feeds())
	watched(s.totals, failure)
	r.mu.Lock()
	r.totals.merge(s.totals)
	r.mu.Unlock()
	x.e.logger().Info("step done", slog.String("resource", r.Path), slog.String("verb", verbName(st.Verb)),
		slog.Int64("calls", s.totals.Calls), slog.Duration("took", time.Since(begun)))
	text, err := json.Marshal(s.totals)
	if err != nil {
		return fmt.Errorf("write step totals: %w", err)
	}
	if failure != nil {
		failure = s.named(failure)
	}
	failpoint.Reach(failpoint.StepBefore, r.Path, method(st.Verb))
	err = x.e.Ledger.SaveStep(context.WithoutCancel(x.ctx), x.keeper.current(), syncdb.Step{
		Position: st.Position, Resource: r.Path, Verb: st.Verb, State: s.state(failure), Totals: text,
	})
	failpoint.Reach(failpoint.StepAfter, r.Path, method(st.Verb))
	return errors.Join(failure, err)
}

func verbName(v syncdb.Verb) string {
	switch v {
	case syncdb.Create:
		return "create"
	case syncdb.Update:
		return "update"
	default:
		return "delete"
	}
}

// method is the HTTP method of a verb, by which failpoints name it.
func method(v syncdb.Verb) string {
	switch v {
	case syncdb.Create:
		return "POST"
	case syncdb.Update:
		return "PUT"
	default:
		return "DELETE"
	}
}

// stepRun is one step while it runs.
type stepRun struct {
	x    *executor
	st   step
	r    *scanned
	gate *gate

	calls context.Context //nolint:containedctx // of the step's calls: as the executor's, with what a StepWatcher put into it

	rejected map[syncdb.Hash]syncdb.Hash // source hash → record hash the target refused before

	work    chan *op
	workers gosync.WaitGroup
	staffed int      // of them
	current *batch   // being filled
	open    []*batch // committed, calls not all answered; at most two
	spare   []*batch

	mu       gosync.Mutex
	results  []syncdb.Result
	problems []syncdb.Problem
	keep     []syncdb.Hash // refused before, still the same
	unmet    []syncdb.Hash // problems of met records that are gone, or ours now
	again    []*op         // to be created after a PUT met 404, or a key that is taken
	stopped  []stoppedOp   // deletes that records of the same resource stand against
	loosened bool          // circles of them were looked for
	accepted int64         // writes the target took
	byHost   int64         // refusals that are the host's to mend

	lastByHost    error
	deletedBefore int64
	broken        bool // a journal write failed: whether the frame is there is for the next run's Recover to find out
	totals        Totals
	folded        int             // results since the last fold
	drifting      func() *origins // ids of entries whose records got another key while a row says the old one; read once, when asked for
	waiting       []*op           // blocked by a row of the same step
	attempts      *attempts       // nil = nobody wants to know
}

// silent says what an op does instead of a call: only the ledger learns something.
type silent uint8

const (
	notSilent silent = iota
	release          // drop the entry: the target does not hold it, or another row owns the record
	follow           // move the entry to the key its record got with its parent
)

// ruling is what a silent op means.
func (s silent) ruling() ruling {
	if s == follow {
		return ruling{effect: syncdb.EffectLive, outcome: Rekeyed}
	}
	return ruling{effect: syncdb.EffectGone}
}

// stoppedOp is a delete to be tried again, and what the target said.
type stoppedOp struct {
	op  *op
	err error
}

// named says which step an error is of.
func (s *stepRun) named(err error) error {
	return fmt.Errorf("%s %s: %w", verbName(s.st.Verb), s.r.Path, err)
}

func (s *stepRun) state(failure error) string {
	switch {
	case errors.Is(failure, ErrCanceled), errors.Is(failure, context.Canceled):
		return "canceled"
	case failure != nil:
		return "failed"
	}
	return "done"
}

// run drives the step. Order matters for I3: intents are durable before any call of their batch leaves.
func (s *stepRun) run(feeds []func() error) (err error) {
	s.work = make(chan *op, 2*maxBatch(s.x.o.Workers))
	for _, feed := range feeds {
		if err = feed(); err != nil {
			break
		}
	}
	if err == nil {
		err = s.retryWaiting()
	}
	if err == nil {
		err = s.sendAgain()
	}
	if err == nil {
		err = s.deleteUpwards()
	}
	for _, b := range s.open {
		b.left.Wait()
	}
	close(s.work)
	s.workers.Wait()
	// What was answered is kept even when the step ends early: results first, then the fold (I3).
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.x.ctx), 30*time.Second)
	defer cancel()
	if ferr := s.finish(ctx); err == nil {
		err = ferr
	}
	return err
}

// staff starts workers until there is one for each op of the open batches, or as many as the run may have: most steps have few ops.
func (s *stepRun) staff() {
	ops := 0
	for _, b := range s.open {
		ops += len(b.ops)
	}
	for ; s.staffed < min(ops, s.x.o.Workers); s.staffed++ {
		s.workers.Go(func() {
			for o := range s.work {
				s.call(o)
			}
		})
	}
}

func clone(b []byte) []byte { return append([]byte(nil), b...) }
