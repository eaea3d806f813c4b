package sync

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	gosync "sync"
	"sync/atomic"
	"time"

	"github.com/edfisync/edfisync/edfi"
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
	lastID  string // id of that entry
	keyText []byte
	srcKey  []byte
	payload []byte
	refs    []reference
	oldKey  syncdb.Hash // Update: the key the entry has now, when the natural key changes
	was     *move       // Create: the row's record under its old key, which is deleted in this run
	silent  silent      // no call
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

	ctx    context.Context // ends when nothing new may be started
	stop   context.CancelCauseFunc
	calls  context.Context // ends a little later, so that calls in flight can finish (I19)
	nextOp atomic.Uint64
	active atomic.Int64 // steps running now
	budget *budget      // intents without a durable result, over all steps: at most two batches
	sent   atomic.Int64
	silent atomic.Int64 // calls without a usable answer since the last one with
	report func(resource string, done int64)

	mu       gosync.Mutex
	ids      map[string]struct{}      // ids of records a POST met in this run (I5d)
	stranded map[syncdb.Hash]struct{} // people with a delete that did not go through
	deferred []*spool                 // by resource: creates of people moved to the update step
}

// callGrace is how long calls in flight may go on after a cancel.
const callGrace = 1500 * time.Millisecond

func newExecutor(ctx context.Context, e *Engine, o Options, s *scope, found []*scanned, p *Plan, k *keeper, dir string) (*executor, func()) {
	x := &executor{
		e: e, o: o, scope: s, found: found, plan: p, keeper: k,
		ids: map[string]struct{}{}, stranded: map[syncdb.Hash]struct{}{},
	}
	x.budget = newBudget(2 * maxBatch(o.Workers))
	for _, r := range found {
		x.deferred = append(x.deferred, newSpool(dir, r.Path+"#deferred", e.Keys))
	}
	x.ctx, x.stop = context.WithCancelCause(ctx)
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
	done := make([]chan struct{}, len(steps))
	for i := range done {
		done[i] = make(chan struct{})
	}
	var wg gosync.WaitGroup
	for i, st := range steps {
		wg.Go(func() {
			defer close(done[i])
			for _, after := range st.After {
				<-done[after]
			}
			if x.ctx.Err() != nil {
				return
			}
			if err := x.step(st); err != nil {
				x.stop(err)
			}
		})
	}
	wg.Wait()
	if x.ctx.Err() != nil {
		return context.Cause(x.ctx)
	}
	return nil
}

// step executes one step: feed ops into batches, commit each batch's intents, call, collect results, fold.
func (x *executor) step(st step) error {
	r := x.found[st.Resource]
	s := &stepRun{x: x, st: st, r: r, held: x.plan.Resources[st.Resource].Held}
	feeds := s.feeds()
	if len(feeds) == 0 {
		return nil
	}
	if r.scope != nil {
		if err := x.e.Ledger.SetScope(x.ctx, x.keeper.current(), *r.scope); err != nil {
			return fmt.Errorf("note the hash rules of %s: %w", r.Path, err)
		}
		r.scope = nil
	}
	x.active.Add(1)
	defer x.active.Add(-1)
	begun := time.Now()
	failure := s.run(feeds)
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
		failure = fmt.Errorf("%s %s: %w", verbName(st.Verb), r.Path, failure)
	}
	return errors.Join(failure, x.e.Ledger.SaveStep(context.WithoutCancel(x.ctx), x.keeper.current(), syncdb.Step{
		Position: st.Position, Resource: r.Path, Verb: st.Verb, State: s.state(failure), Totals: text,
	}))
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

// stepRun is one step while it runs.
type stepRun struct {
	x    *executor
	st   step
	r    *scanned
	held string

	rejected map[syncdb.Hash]syncdb.Hash // source hash → record hash the target refused before

	work    chan *op
	current *batch   // being filled
	open    []*batch // committed, calls not all answered; at most two
	spare   []*batch

	mu       gosync.Mutex
	results  []syncdb.Result
	problems []syncdb.Problem
	keep     []syncdb.Hash // refused before, still the same
	again    []*op         // to be created after a PUT met 404
	stopped  []stoppedOp   // deletes that records of the same resource stand against
	accepted int64         // writes the target took
	byHost   int64         // refusals that are the host's to mend

	lastByHost    error
	deletedBefore int64
	broken        bool // a journal write failed: whether the frame is there is for the next run's Recover to find out
	totals        Totals
	folded        int   // results since the last fold
	waiting       []*op // blocked by a row of the same step
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

// batch is a group commit: ops whose intents became durable together. Its arena holds their bytes.
type batch struct {
	ops   []*op
	arena []byte
	left  gosync.WaitGroup
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
	s.work = make(chan *op, 2048)
	var workers gosync.WaitGroup
	for range s.x.o.Workers {
		workers.Go(func() {
			for o := range s.work {
				s.call(o)
			}
		})
	}
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
	workers.Wait()
	// What was answered is kept even when the step ends early: results first, then the fold (I3).
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.x.ctx), 30*time.Second)
	defer cancel()
	if ferr := s.finish(ctx); err == nil {
		err = ferr
	}
	return err
}

// feed hands out ops until there are none, or the run is to end.
func (s *stepRun) add(o *op) error {
	if s.x.ctx.Err() != nil {
		return context.Cause(s.x.ctx)
	}
	if s.current == nil {
		s.current = s.newBatch()
	}
	b := s.current
	o.id = s.x.nextOp.Add(1)
	o.batch = b
	o.keyText, o.srcKey, o.payload = b.hold(o.keyText), b.hold(o.srcKey), b.hold(o.payload)
	b.ops = append(b.ops, o)
	if len(b.ops) >= s.batchSize() {
		return s.commit()
	}
	return nil
}

// batchSize is four times the calls in flight, 64 to 1,024, shared between the steps that run side by side: a kill leaves at most two such
// batches open.
func (s *stepRun) batchSize() int {
	n := maxBatch(min(s.x.target.Concurrency(), s.x.o.Workers))
	return max(1, n/int(max(1, s.x.active.Load())))
}

// maxBatch is four times the calls in flight (adr/0009), so that a group commit costs each call little.
func maxBatch(calls int) int { return min(1024, max(64, 4*calls)) }

func (s *stepRun) newBatch() *batch {
	if n := len(s.spare); n > 0 {
		b := s.spare[n-1]
		s.spare = s.spare[:n-1]
		return b
	}
	return &batch{}
}

// hold copies bytes into the batch. A grown arena leaves earlier slices on the old one, which stays valid.
func (b *batch) hold(v []byte) []byte {
	if len(v) == 0 {
		return nil
	}
	if cap(b.arena)-len(b.arena) < len(v) {
		b.arena = make([]byte, 0, max(64<<10, len(v)))
	}
	from := len(b.arena)
	b.arena = append(b.arena, v...)
	return b.arena[from:len(b.arena):len(b.arena)]
}

// commit makes the intents of the current batch durable, together with the results so far, and lets its calls go (I3, I7: the ledger
// checks the fence in the same transaction). At most two batches are open: this one and the one before.
func (s *stepRun) commit() error {
	b := s.current
	if b == nil || len(b.ops) == 0 {
		return nil
	}
	s.current = nil
	for len(s.open) >= 2 {
		s.retire()
	}
	if err := s.foldSometimes(); err != nil {
		return err
	}
	results, err := s.reserve(len(b.ops))
	if err != nil {
		return err
	}
	intents := make([]syncdb.Intent, 0, len(b.ops))
	for _, o := range b.ops {
		intents = append(intents, syncdb.Intent{
			Op: o.id, Verb: o.verb, Resource: s.r.Path, KeyHash: o.key, RecordHash: o.record, SourceHash: o.source,
			PersonHash: o.person, EdfiID: o.edfiID, Key: o.keyText, OldKeyHash: o.oldKey,
		})
	}
	if err := s.x.e.Ledger.Append(s.x.ctx, s.x.keeper.current(), s.st.Position, intents, results); err != nil {
		s.broken = true
		return fmt.Errorf("write intents: %w", err)
	}
	if more := len(results) - len(b.ops); more > 0 {
		s.x.budget.give(more)
	}
	if err := s.saveProblems(500); err != nil {
		return err
	}
	b.left.Add(len(b.ops))
	s.open = append(s.open, b)
	for _, o := range b.ops {
		s.work <- o
	}
	return nil
}

// reserve waits until n more intents may be open, and returns the results that are to become durable with them: each makes room for one.
// When that is not enough, what this step knows is made durable at once, so that steps side by side never wait for each other in a
// circle.
func (s *stepRun) reserve(n int) ([]syncdb.Result, error) {
	for {
		version := s.x.budget.seen()
		results := s.takeResults()
		if more := n - len(results); more <= 0 || s.x.budget.take(more) {
			return results, nil
		}
		s.putBack(results)
		if s.x.ctx.Err() != nil {
			return nil, context.Cause(s.x.ctx)
		}
		wrote, err := s.saveResults(s.x.ctx)
		if err != nil {
			return nil, err
		}
		if !wrote {
			s.x.budget.wait(version)
		}
	}
}

// saveResults makes the results so far durable.
func (s *stepRun) saveResults(ctx context.Context) (wrote bool, err error) {
	results := s.takeResults()
	if len(results) == 0 {
		return false, nil
	}
	if err := s.x.e.Ledger.Append(ctx, s.x.keeper.current(), s.st.Position, nil, results); err != nil {
		s.broken = true
		return false, fmt.Errorf("write results: %w", err)
	}
	s.x.budget.give(len(results))
	return true, nil
}

// putBack keeps results for a later transaction.
func (s *stepRun) putBack(results []syncdb.Result) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.folded -= len(results)
	s.results = append(results, s.results...)
}

// retire waits for the oldest open batch and keeps its memory for the next one.
func (s *stepRun) retire() {
	b := s.open[0]
	b.left.Wait()
	s.open = s.open[1:]
	b.ops, b.arena = b.ops[:0], b.arena[:0]
	s.spare = append(s.spare, b)
}

func (s *stepRun) takeResults() []syncdb.Result {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.results
	s.results = nil
	s.folded += len(out)
	return out
}

// foldSometimes keeps the journal and the memory of a fold small in long steps. Folding needs every intent of the step closed, so it
// waits for the open batches.
func (s *stepRun) foldSometimes() error {
	if s.folded < s.x.o.FoldEvery {
		return nil
	}
	for len(s.open) > 0 {
		s.retire()
	}
	return s.fold(s.x.ctx)
}

func (s *stepRun) fold(ctx context.Context) error {
	if _, err := s.saveResults(ctx); err != nil {
		return err
	}
	if s.folded == 0 {
		return nil
	}
	if _, err := s.x.e.Ledger.Fold(ctx, s.x.keeper.current(), s.st.Position); err != nil {
		return fmt.Errorf("fold the journal: %w", err)
	}
	s.folded = 0
	return nil
}

func (s *stepRun) finish(ctx context.Context) error {
	if s.broken {
		return s.saveProblems(0) // writing the same results twice would be worse than writing them never (I3, F50)
	}
	return errors.Join(s.fold(ctx), s.saveProblems(0))
}

// saveProblems writes what was collected once there is more than keep of it.
func (s *stepRun) saveProblems(keep int) error {
	s.mu.Lock()
	problems, refused := s.problems, s.keep
	if len(problems)+len(refused) <= keep {
		s.mu.Unlock()
		return nil
	}
	s.problems, s.keep = nil, nil
	s.mu.Unlock()
	ctx := context.WithoutCancel(s.x.ctx)
	if len(refused) > 0 {
		if err := s.x.e.Ledger.KeepProblems(ctx, s.x.keeper.current(), s.r.Path, refused); err != nil {
			return fmt.Errorf("keep problems: %w", err)
		}
	}
	if len(problems) > 0 {
		if err := s.x.e.Ledger.SaveProblems(ctx, s.x.keeper.current(), problems); err != nil {
			return fmt.Errorf("save problems: %w", err)
		}
	}
	return nil
}

// call makes one call and files its answer. It runs in a worker.
func (s *stepRun) call(o *op) {
	defer o.batch.left.Done()
	defer s.x.budget.poke()
	if s.x.ctx.Err() != nil {
		// The intent is durable, the call never left: nothing changed.
		s.mu.Lock()
		s.results = append(s.results, syncdb.Result{Op: o.id})
		s.mu.Unlock()
		return
	}
	answer, err := s.send(o)
	if s.x.ctx.Err() != nil && neverSent(err) {
		s.mu.Lock() // the run ended before the call left: the row was not reached
		s.results = append(s.results, syncdb.Result{Op: o.id})
		s.mu.Unlock()
		return
	}
	r := judge(o.verb, s.r.twoPhase() && s.st.Verb == syncdb.Create, err)
	if o.silent != notSilent {
		r = o.silent.ruling()
	}
	result := syncdb.Result{Op: o.id, Effect: r.effect}
	if r.effect == syncdb.EffectLive {
		result.EdfiID = answer.ID
		if o.verb == syncdb.Create && !o.known {
			result.Origin = syncdb.Created
		}
	}
	met := err == nil && o.verb == syncdb.Create && o.silent == notSilent && !answer.Created
	if met {
		s.x.mu.Lock()
		s.x.ids[answer.ID] = struct{}{}
		s.x.mu.Unlock()
		r.outcome = Updated
		switch {
		case o.was != nil && o.was.edfiID == answer.ID:
			// The target had re-keyed our own record already: it stays what it was.
			result.Origin, met = o.was.origin, false
		case o.lastID != "" && o.lastID != answer.ID && !answer.Repeated:
			result.Origin = syncdb.Met // I9: ours is gone, another client has made its own
		case answer.Repeated:
			met, r.outcome = false, Created // an attempt before this one may have created it: it is ours
		case !o.known:
			result.Origin = syncdb.Met // I9: it was there before us
		}
	}
	if s.r.wanted || len(s.r.moves) > 0 {
		s.r.mu.Lock()
		switch {
		case r.effect == syncdb.EffectLive, r.next == nextLater:
			s.r.table.setLive(o.key, true)
			if !o.oldKey.IsZero() {
				s.r.table.setLive(o.oldKey, false)
			}
		case r.effect == syncdb.EffectGone, r.effect == syncdb.EffectMissing:
			s.r.table.setLive(o.key, false)
		}
		s.r.mu.Unlock()
	}
	if o.verb == syncdb.Delete && r.effect != syncdb.EffectGone && !(r.outcome == Blocked && s.r.nested) {
		s.x.strand(o.person)
	}
	s.file(o, r, result, met, err)
	s.x.heard(r, err)
	if r.next == nextStop {
		s.x.stop(fmt.Errorf("the target accepts no more calls: %w", err))
	}
}

// file books the outcome of a call.
func (s *stepRun) file(o *op, r ruling, result syncdb.Result, met bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.results = append(s.results, result)
	if o.silent == notSilent {
		s.totals.Calls++
		s.x.report(s.r.Path, s.x.sent.Add(1))
	}
	switch r.next {
	case nextCreate:
		again := *o
		again.verb, again.edfiID, again.lastID, again.known = syncdb.Create, "", o.edfiID, true
		again.keyText, again.srcKey, again.payload = clone(o.keyText), clone(o.srcKey), clone(o.payload)
		s.again = append(s.again, &again)
		return
	case nextLater:
		s.x.mu.Lock()
		defer s.x.mu.Unlock()
		if derr := s.x.deferred[s.st.Resource].add(&record{
			Known: o.known, KeyHash: o.key, RecordHash: o.record, SourceHash: o.source, PersonHash: o.person,
			SourceKey: o.srcKey, Key: o.keyText, Payload: o.payload, Refs: o.refs,
		}); derr != nil {
			s.x.stop(derr)
		}
		return
	}
	if o.silent == release {
		s.totals.Released++
		return
	}
	if r.outcome == Blocked && o.verb == syncdb.Delete && s.r.nested {
		s.stopped = append(s.stopped, stoppedOp{op: o.detach(), err: err})
		return
	}
	s.totals.add(r.outcome, o.verb != syncdb.Delete)
	switch host := hostRefused(err); {
	case err == nil && o.silent == notSilent:
		s.accepted++
	case host && r.outcome == Rejected:
		s.byHost, s.lastByHost = s.byHost+1, err
	}
	if met && !o.known {
		s.totals.Met++
		s.problems = append(s.problems, s.problem(o, syncdb.OutcomeMet, "met-existing", "the record was at the target before our first call: it is "+
			"kept up to date, and never deleted by us", "target host", nil))
	}
	if r.outcome == Blocked || r.outcome == Rejected || r.outcome == Failed {
		s.problems = append(s.problems, s.refused(o, r.outcome.String(), err))
	}
}

// neverSent reports whether a call failed before anything of it can have reached the target.
func neverSent(err error) bool {
	var e *edfi.Error
	return errors.As(err, &e) && e.Status == 0 && !e.Sent
}

// hostRefused reports whether only the target's host can mend what an answer complains of.
func hostRefused(err error) bool {
	var e *edfi.Error
	return errors.As(err, &e) && e.Owner == edfi.OwnerTarget
}

// refused describes an answer for a person. The cause holds no value of a record; the answer itself goes into the sealed detail.
func (s *stepRun) refused(o *op, outcome string, err error) syncdb.Problem {
	code, who, text := "no-answer", "target host", "no answer that says what happened"
	d := map[string]any{"call": verbName(o.verb)}
	var e *edfi.Error
	if errors.As(err, &e) {
		code, who, text = e.Code, string(e.Owner), e.Title
		for i, c := range e.Causes {
			if i == 3 {
				break
			}
			text += "; " + c
		}
		d["status"], d["type"], d["hint"], d["correlationId"], d["answer"] = e.Status, e.Type, e.Hint, e.CorrelationID, string(e.Body)
	} else if err != nil {
		d["error"] = err.Error()
	}
	return s.problem(o, outcome, code, text, who, d)
}

func (s *stepRun) problem(o *op, outcome, code, text, who string, d map[string]any) syncdb.Problem {
	if d == nil {
		d = map[string]any{}
	}
	d["naturalKey"] = json.RawMessage(clone(o.keyText))
	// Problems of entries have keys of their own: they must not take the place of the row's (the row may have moved on).
	at := o.source
	switch {
	case o.verb == syncdb.Delete:
		at = whole(o.key, syncdb.Hash{'g', 'o', 'n', 'e'})
	case outcome == syncdb.OutcomeMet:
		at = whole(o.key, syncdb.Hash{'m', 'e', 't'})
	}
	hash := whole(o.key, o.record)
	if who == string(edfi.OwnerTarget) {
		hash = syncdb.Hash{} // sent again in the next run: the host may have mended its side
	}
	return syncdb.Problem{
		Resource: s.r.Path, SourceHash: at, Outcome: outcome, Code: code, Cause: text, Owner: who,
		KeyHash: o.key, RecordHash: hash, SourceKey: string(o.srcKey), Detail: detail(d),
	}
}

// send makes the call an op stands for.
func (s *stepRun) send(o *op) (edfi.Answer, error) {
	t := s.x.target
	switch {
	case o.silent != notSilent:
		return edfi.Answer{ID: o.edfiID}, nil
	case o.verb == syncdb.Create:
		return t.Post(s.x.calls, s.r.Path, o.payload)
	case o.verb == syncdb.Update:
		answer, err := t.Put(s.x.calls, s.r.Path, o.edfiID, o.payload)
		if answer.ID == "" {
			answer.ID = o.edfiID
		}
		return answer, err
	}
	return t.Delete(s.x.calls, s.r.Path, o.edfiID)
}

// heard ends the run when the target has given no usable answer to many calls in a row, repeats included: what is left would only wait for
// the same, and the next run takes it (I18, I20).
func (x *executor) heard(r ruling, err error) {
	if r.outcome != Failed || err == nil {
		x.silent.Store(0)
		return
	}
	if n := x.silent.Add(1); n >= int64(max(silentCalls, 2*x.o.Workers)) {
		x.stop(fmt.Errorf("%w: %d calls in a row had no usable answer, the last one: %w", ErrTargetSilent, n, err))
	}
}

// silentCalls is how many calls in a row may stay without a usable answer before a run gives up; twice the calls in flight when that is more.
const silentCalls = 20

// ErrTargetSilent means that the target stopped answering in the middle of a run. The next run continues.
var ErrTargetSilent = errors.New("the target does not answer any more; nothing is lost, the next run continues")

func (x *executor) strand(person syncdb.Hash) {
	if person.IsZero() {
		return
	}
	x.mu.Lock()
	x.stranded[person] = struct{}{}
	x.mu.Unlock()
}

func clone(b []byte) []byte { return append([]byte(nil), b...) }
