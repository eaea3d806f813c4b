package sync

import (
	"context"
	"errors"
	"fmt"
	gosync "sync"

	"github.com/edfisync/edfisync/internal/failpoint"
	"github.com/edfisync/edfisync/syncdb"
)

// batch is a group commit: ops whose intents became durable together. Its arena holds their bytes.
type batch struct {
	ops   []*op
	arena []byte
	left  gosync.WaitGroup
}

// add puts an op into the current batch and commits the batch when it is full. It fails once the run is to end.
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
		b.arena = make([]byte, 0, max(min(64<<10, max(512, 4*cap(b.arena))), len(v)))
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
	if err := s.saveProblems(500); err != nil { // before the intents: afterwards nothing may stand between them and their calls
		return err
	}
	if err := s.saveHistory(s.x.ctx, false); err != nil {
		return err
	}
	results, err := s.reserve(len(b.ops))
	if err != nil {
		return err
	}
	intents := make([]syncdb.Intent, 0, len(b.ops))
	for _, o := range b.ops {
		in := syncdb.Intent{
			Op: o.id, Verb: o.verb, Resource: s.r.Path, KeyHash: o.key, RecordHash: o.record, SourceHash: o.source,
			PersonHash: o.person, EdfiID: o.edfiID, Key: o.keyText, OldKeyHash: o.oldKey,
		}
		if o.verb == syncdb.Create {
			in.SentKey = s.r.SentKey(o.payload, o.keyText) // I1, I3: what nobody answers is looked for by this one
		}
		intents = append(intents, in)
	}
	failpoint.Reach(failpoint.IntentBefore, s.r.Path, method(s.st.Verb))
	if err := s.x.e.Ledger.Append(s.x.ctx, s.x.keeper.current(), s.st.Position, intents, results); err != nil {
		return s.broke(fmt.Errorf("write intents: %w", err))
	}
	failpoint.Reach(failpoint.IntentAfter, s.r.Path, method(s.st.Verb))
	if more := len(results) - len(b.ops); more > 0 {
		s.x.budget.give(more)
	}
	b.left.Add(len(b.ops))
	s.open = append(s.open, b)
	s.staff()
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
	failpoint.Reach(failpoint.ResultBefore, s.r.Path, method(s.st.Verb))
	if err := s.x.e.Ledger.Append(ctx, s.x.keeper.current(), s.st.Position, nil, results); err != nil {
		return false, s.broke(fmt.Errorf("write results: %w", err))
	}
	failpoint.Reach(failpoint.ResultAfter, s.r.Path, method(s.st.Verb))
	s.x.budget.give(len(results))
	return true, nil
}

// broke ends the run at once, for all steps: after a journal write that failed nothing more may be sent (I3), least of all when another process
// has taken over (I7).
func (s *stepRun) broke(err error) error {
	s.broken = true
	s.x.stop(s.named(err))
	return err
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
	failpoint.Reach(failpoint.FoldBefore, s.r.Path, method(s.st.Verb))
	if _, err := s.x.e.Ledger.Fold(ctx, s.x.keeper.current(), s.st.Position); err != nil {
		return fmt.Errorf("fold the journal: %w", err)
	}
	failpoint.Reach(failpoint.FoldAfter, s.r.Path, method(s.st.Verb))
	s.folded = 0
	return nil
}

func (s *stepRun) finish(ctx context.Context) error {
	if s.broken {
		return errors.Join(s.saveProblems(0), s.saveHistory(ctx, true)) // writing the same results twice would be worse than writing them never (I3, F50)
	}
	err := s.fold(ctx)
	if err == nil {
		err = s.closeMet(ctx)
	}
	return errors.Join(err, s.saveProblems(0), s.saveHistory(ctx, true))
}

// closeMet closes the problems of records that were at the target before us and are not any more. The ledger says so already.
func (s *stepRun) closeMet(ctx context.Context) error {
	if len(s.unmet) == 0 {
		return nil
	}
	if _, err := s.x.e.Ledger.DropProblems(ctx, s.x.keeper.current(), s.r.Path, s.unmet); err != nil {
		return fmt.Errorf("close problems of records that are gone: %w", err)
	}
	return nil
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
		failpoint.Reach(failpoint.ProblemsBefore, s.r.Path, "")
		if err := s.x.e.Ledger.SaveProblems(ctx, s.x.keeper.current(), problems); err != nil {
			return fmt.Errorf("save problems: %w", err)
		}
		failpoint.Reach(failpoint.ProblemsAfter, s.r.Path, "")
	}
	return nil
}

// settleOpen sends the current batch and waits for all answers.
func (s *stepRun) settleOpen() error {
	if err := s.commit(); err != nil {
		return err
	}
	for len(s.open) > 0 {
		s.retire()
	}
	return nil
}
