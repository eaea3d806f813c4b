package sync

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/edfisync/edfisync/schema"
	"github.com/edfisync/edfisync/syncdb"
)

// UndoOptions say which run to undo, and who wants it.
type UndoOptions struct {
	Run  int64
	Plan bool // only count: nothing is written
	Who  string
	Why  string // required when a safeguard would hold what the undo makes
}

// Undo is what undoing a run comes to.
type Undo struct {
	Run       int64          `json:"undone"`        // the run that is undone
	By        int64          `json:"run,omitempty"` // the run that did it; 0 when it was only planned
	Planned   bool           `json:"planned,omitempty"`
	Resources []ResourceUndo `json:"resources"`
	// NotKept is how many of the run's calls the history does not have: history was off, is gone by now, or the process was killed.
	NotKept int64 `json:"notKept,omitempty"`
	// Held is what safeguards would hold of the calls if a run made them. An undo makes them, when somebody says why.
	Held []HeldPart `json:"held,omitempty"`
	// Kept is the number of the plan that keeps the next run from doing the same again.
	Kept    int64    `json:"plan,omitempty"`
	Summary *Summary `json:"summary,omitempty"` // what came of the calls
}

// ResourceUndo is the part of one resource: calls by what they do, and records left as they are, by reason.
type ResourceUndo struct {
	Resource string            `json:"resource"`
	Delete   int64             `json:"delete"`   // records the run created
	Restore  int64             `json:"restore"`  // records the run updated, or moved to another natural key
	Recreate int64             `json:"recreate"` // records the run deleted; they get new ids
	Left     map[LeftOut]int64 `json:"left,omitempty"`
}

// Writes returns how many calls the undo makes.
func (u *Undo) Writes() int64 {
	var n int64
	for _, r := range u.Resources {
		n += r.Delete + r.Restore + r.Recreate
	}
	return n
}

// LeftOut returns how many records are left as they are although the run changed them.
func (u *Undo) LeftOut() int64 {
	var n int64
	for _, r := range u.Resources {
		for _, left := range r.Left {
			n += left
		}
	}
	return n
}

// undoReason is why a run was asked for that undoes another one.
const undoReason = "undo"

// HeldUndoError refuses an undo of which a safeguard would hold a part, because nobody said why it has to be. Nothing was written.
type HeldUndoError struct {
	Run  int64
	Held []HeldPart
}

// Error names what would be held.
func (e *HeldUndoError) Error() string {
	text := fmt.Sprintf("run %d is not undone without a reason, for a safeguard would hold a part of it", e.Run)
	for _, h := range e.Held {
		text += fmt.Sprintf("; %s (%d calls): %s", h.What(), h.Ops, h.Reason)
	}
	return text
}

// ErrNothingKept says that the history holds no call of a run.
var ErrNothingKept = errors.New("the history holds no call of that run: it made none, or it was too long ago (history in the configuration)")

// Undo brings the records a run wrote back to what they were before it, from the sealed history: what it created is deleted, what it updated gets its
// previous content, what it deleted is created again, under a new id. Records that were written since, and those of which nothing earlier is kept,
// stay as they are and are counted. It is a run of its own, through the same journal and in the same order as any (I3, I6); it does not read the
// source. The next runs do not do what was undone again until its rows change. Nothing is deleted of a resource under prevent_delete, nothing is written
// while the target's reset is not dealt with, and more calls than the safeguards allow need a reason (*HeldUndoError).
func (e *Engine) Undo(ctx context.Context, uo UndoOptions) (*Undo, error) {
	o := e.options()
	o.RetryRejected = true
	p := newProgress(e.Progress)
	defer p.stop()
	if uo.Plan || uo.Why == "" {
		planned, err := e.planUndo(ctx, o, uo)
		if err != nil || uo.Plan {
			return planned, err
		}
		if len(planned.Held) > 0 {
			return planned, &HeldUndoError{Run: uo.Run, Held: planned.Held}
		}
	}
	o.Reason = undoReason
	var out *Undo
	err := e.errand(ctx, o, p, func(ctx context.Context, k *keeper, s *Summary) error {
		dir, err := e.spoolDir(o.WorkDir)
		if err != nil {
			return err
		}
		defer dir.remove()
		u, err := e.newUndoing(ctx, o, uo, k, dir)
		if err != nil {
			return err
		}
		defer closeAll(u.found)
		if len(u.out.Held) > 0 && uo.Why == "" {
			return &HeldUndoError{Run: uo.Run, Held: u.out.Held} // the ledger changed since it was planned
		}
		out = u.out
		out.By, out.Planned, out.Summary = s.RunID, false, s
		return u.send(ctx, k, p, s)
	})
	return out, err
}

// planUndo says what an undo comes to. It writes nothing.
func (e *Engine) planUndo(ctx context.Context, o Options, uo UndoOptions) (*Undo, error) {
	dir, err := e.errandDir(o.WorkDir, nil)
	if err != nil {
		return nil, err
	}
	defer dir.remove()
	u, err := e.newUndoing(ctx, o, uo, nil, dir)
	if err != nil {
		return nil, err
	}
	defer closeAll(u.found)
	return u.out, nil
}

// undoing is one undo.
type undoing struct {
	e     *Engine
	o     Options
	uo    UndoOptions
	scope *scope
	index map[string]int // resource path → index in the scope, or after it for one that is in it no more
	dir   *workspace
	found []*scanned
	pasts pasts
	ops   []syncdb.PlanOp // what the next run would do again
	// ofUndo: the run is an undo itself. No row of the source asked for what it did, so no run would do it again.
	ofUndo bool
	seen   seen // of the target, before the first call
	out    *Undo
}

// newUndoing plans: history to pasts, pasts to calls. Without a keeper nothing is written.
func (e *Engine) newUndoing(ctx context.Context, o Options, uo UndoOptions, k *keeper, dir *workspace) (*undoing, error) {
	sc, err := newScope(e.Model, e.Source.Queries(), e.Dependencies)
	if err != nil {
		return nil, err
	}
	u := &undoing{
		e: e, o: o, uo: uo, scope: sc, dir: dir, pasts: pasts{}, index: map[string]int{}, out: &Undo{Run: uo.Run, Planned: true},
	}
	for i, r := range sc.resources {
		u.index[r.Path] = i
		u.out.Resources = append(u.out.Resources, ResourceUndo{Resource: r.Path})
	}
	if err := u.plan(ctx, k); err != nil {
		closeAll(u.found)
		return nil, err
	}
	return u, nil
}

func (u *undoing) plan(ctx context.Context, k *keeper) error {
	if err := u.read(ctx); err != nil {
		return err
	}
	if err := u.look(ctx, k); err != nil {
		return err
	}
	if err := u.judge(ctx); err != nil {
		return err
	}
	previous := newPrevious(u)
	defer previous.close()
	if err := previous.find(ctx); err != nil {
		return err
	}
	if err := u.fill(ctx, previous); err != nil {
		return err
	}
	u.weigh()
	return nil
}

// load reads what the ledger has of the scope.
func (u *undoing) load(ctx context.Context) (*scanner, error) {
	s := &scanner{e: u.e, o: u.o, scope: u.scope, dir: u.dir, sample: sample{salt: uint64(u.uo.Run)}}
	u.found = nil
	for i, r := range u.scope.resources {
		f, err := s.entries(ctx, i, r)
		u.found = append(u.found, f)
		if err != nil {
			return nil, fmt.Errorf("read the ledger's %s: %w", r.Path, err)
		}
	}
	return s, nil
}

// look reads what the ledger has of the scope, and looks at the target as a run does: of one that was wiped or restored behind our back the ledger says
// nothing true, and nothing is written to it (F29, F30). The alarm is raised when the undo may write.
func (u *undoing) look(ctx context.Context, k *keeper) error {
	s, err := u.load(ctx)
	if err != nil {
		return err
	}
	if k != nil { // what an undo before this one was never told of
		if settled, err := u.e.settleDoubts(ctx, u.o, k, u.found); err != nil {
			return err
		} else if settled {
			closeAll(u.found)
			if s, err = u.load(ctx); err != nil {
				return err
			}
		}
	}
	if u.seen, err = u.e.look(ctx, u.o, &s.sample, u.found); err != nil || u.seen.alarm == "" {
		return err
	}
	err = fmt.Errorf("run %d is not undone: %s; adopt or run --resync first", u.uo.Run, u.seen.alarm)
	if u.seen.raised && k != nil {
		err = errors.Join(err, u.e.raise(ctx, k, u.seen.alarm, u.seen.newest))
	}
	return err
}

// weigh says what safeguards would hold of the calls (I5e). An undo reads no source, so those that compare with its rows have nothing to say.
func (u *undoing) weigh() {
	tallies := make([]tally, len(u.found))
	for i, f := range u.found {
		r := u.out.Resources[i]
		tallies[i] = tally{resource: f.Path, entries: f.entries, rows: max(f.entries, 1), creates: r.Recreate, updates: r.Restore, deletes: r.Delete}
	}
	u.out.Held = u.o.Safeguards.judge(tallies, standing{})
	shut(u.out.Held, newGates(u.found), tallies)
}

// read takes the run's calls from the history.
func (u *undoing) read(ctx context.Context) error {
	run, err := u.runOf(ctx)
	if err != nil {
		return err
	}
	u.ofUndo = run.Reason == undoReason
	var kept int64
	err = u.e.Ledger.AttemptsOfRun(ctx, u.e.Connection.ID, u.uo.Run, func(a *syncdb.Attempt) error {
		kept++
		i, ok := u.index[a.Resource]
		if !ok {
			i = len(u.out.Resources)
			u.index[a.Resource] = i
			u.out.Resources = append(u.out.Resources, ResourceUndo{Resource: a.Resource})
		}
		u.pasts.note(i, a)
		return nil
	})
	if err != nil {
		return fmt.Errorf("read the history: %w", err)
	}
	if kept == 0 {
		return ErrNothingKept
	}
	if calls := totalsOf(run).Calls; calls > kept {
		u.out.NotKept = calls - kept
	}
	return nil
}

// runOf finds the run to undo.
func (u *undoing) runOf(ctx context.Context) (syncdb.Run, error) {
	runs, err := u.e.Ledger.Runs(ctx, u.e.Connection.ID, 0)
	if err != nil {
		return syncdb.Run{}, fmt.Errorf("list runs: %w", err)
	}
	i := slices.IndexFunc(runs, func(r syncdb.Run) bool { return r.ID == u.uo.Run })
	if i < 0 {
		return syncdb.Run{}, fmt.Errorf("%w: this connection has no run %d", syncdb.ErrNoRun, u.uo.Run)
	}
	return runs[i], nil
}

// judge leaves out what cannot be undone, by what the ledger says now.
func (u *undoing) judge(ctx context.Context) error {
	for at, p := range u.pasts {
		if _, ok := p.inverse(); at.resource >= len(u.scope.resources) && (ok || p.unsettled) {
			u.leave(at, LeftScope)
		}
	}
	for i, r := range u.scope.resources {
		var keys []syncdb.Hash
		for at := range u.pasts {
			if at.resource == i {
				keys = append(keys, at.key)
			}
		}
		slices.SortFunc(keys, compareHashes)
		for part := range slices.Chunk(keys, 1000) {
			entries, err := u.e.Ledger.Lookup(ctx, u.e.Connection.ID, r.Path, part)
			if err != nil {
				return fmt.Errorf("look up entries of %s: %w", r.Path, err)
			}
			for _, key := range part {
				entry, there := entries[key]
				u.judgeOne(pastKey{i, key}, entry, there)
			}
		}
	}
	return nil
}

func (u *undoing) judgeOne(at pastKey, entry syncdb.Entry, there bool) {
	p := u.pasts[at]
	verb, ok := p.inverse()
	switch {
	case p.unsettled:
		u.leave(at, LeftUnsettled)
	case !ok:
		delete(u.pasts, at)
	case p.changedSince(entry, there):
		u.leave(at, LeftChanged)
	case verb == syncdb.Delete && entry.Origin == syncdb.Met:
		u.leave(at, LeftNotOurs)
	case verb == syncdb.Delete && u.o.Safeguards.prevents(u.scope.resources[at.resource].Path):
		u.leave(at, LeftPrevented)
	case p.before != at.key && u.referredTo(at.resource):
		u.leave(at, LeftParent)
	}
}

// referredTo reports whether records of the scope have the resource's natural key in theirs, or might: the target re-keys them with it.
func (u *undoing) referredTo(resource int) bool {
	return slices.ContainsFunc(u.scope.targets, func(t target) bool { return slices.Contains(t.Resources, resource) })
}

func (u *undoing) leave(at pastKey, why LeftOut) {
	r := &u.out.Resources[at.resource]
	if r.Left == nil {
		r.Left = map[LeftOut]int64{}
	}
	r.Left[why]++
	delete(u.pasts, at)
}

// fill makes the calls: the spools a scan would have made, for the executor that carries out runs.
func (u *undoing) fill(ctx context.Context, previous *previous) error {
	for i, f := range u.found {
		keys := u.keysOf(i)
		for part := range slices.Chunk(keys, 1000) {
			entries, err := u.e.Ledger.Lookup(ctx, u.e.Connection.ID, f.Path, part)
			if err != nil {
				return fmt.Errorf("look up entries of %s: %w", f.Path, err)
			}
			for _, key := range part {
				at := pastKey{i, key}
				verb, _ := u.pasts[at].inverse()
				if verb != syncdb.Delete {
					if !previous.has(at) {
						u.leave(at, LeftNoPrevious)
					}
					continue
				}
				entry := entries[key]
				if err := f.gone.add(goneRecord(&entry)); err != nil {
					return err
				}
				u.out.Resources[i].Delete++
				u.ops = append(u.ops, u.op(at, syncdb.Hash{}))
			}
		}
	}
	return previous.each(func(at pastKey, rec *record) error { return u.restore(at, rec) })
}

// keysOf are the records of one resource, in key order, so that the same undo is the same every time.
func (u *undoing) keysOf(resource int) []syncdb.Hash {
	var keys []syncdb.Hash
	for at := range u.pasts {
		if at.resource == resource {
			keys = append(keys, at.key)
		}
	}
	slices.SortFunc(keys, compareHashes)
	return keys
}

func compareHashes(a, b syncdb.Hash) int { return bytes.Compare(a[:], b[:]) }

// restore plans the call that gives a record its previous content.
func (u *undoing) restore(at pastKey, rec *record) error {
	p, f := u.pasts[at], u.found[at.resource]
	hasher := schema.NewHasher(u.e.Keys.HashMAC())
	refs, err := f.References(u.e.Model, rec.Payload, u.o.Rules)
	if err != nil {
		return fmt.Errorf("read a previous payload of %s: %w", f.Path, err)
	}
	rec.SourceHash, rec.PersonHash, rec.Refs = p.source, personOf(refs, hasher), nil
	for _, ref := range refs {
		if target, ok := u.scope.entity[ref.Target]; ok {
			rec.Refs = append(rec.Refs, reference{Target: target, Hash: hasher.Sum(ref.Key)})
		}
	}
	r := &u.out.Resources[at.resource]
	u.ops = append(u.ops, u.op(at, rec.RecordHash))
	f.totals.Rows++
	verb, _ := p.inverse()
	switch {
	case verb == syncdb.Create:
		r.Recreate++
		f.expect(rec)
		return f.fresh.add(rec)
	case p.before != at.key: // back to the old natural key
		r.Restore++
		if f.moves == nil {
			f.moves, f.movedFrom = map[syncdb.Hash]move{}, map[syncdb.Hash]syncdb.Hash{}
		}
		f.moves[p.before] = move{old: at.key, edfiID: p.id, record: p.record, origin: syncdb.Created, how: movePut, changed: true}
		f.movedFrom[at.key] = p.before
		f.expect(rec)
		return f.fresh.add(rec)
	}
	r.Restore++
	rec.Known = true
	return f.changed.add(rec)
}

// expect notes a record that is about to be sent under a key the ledger does not have.
func (r *scanned) expect(rec *record) {
	if r.table.find(rec.KeyHash) < 0 {
		r.table.put(rec.KeyHash, rec.RecordHash, rec.SourceHash, slotSeen|slotNew)
	}
}

// op is what the next run would do again, in its place.
func (u *undoing) op(at pastKey, record syncdb.Hash) syncdb.PlanOp {
	o := u.pasts[at].again(at.key, record)
	if o.Verb == syncdb.Delete {
		o.KeyHash = u.pasts[at].before
	}
	o.Resource = u.scope.resources[at.resource].Path
	for _, st := range u.scope.steps() {
		if st.Resource == at.resource && st.Verb == o.Verb {
			o.Step = st.Position
		}
	}
	return o
}

// send makes the calls. What the next run must not do again is written first: a crash in between leaves ops nobody asks for, not an undo that is undone.
func (u *undoing) send(ctx context.Context, k *keeper, p *progress, s *Summary) error {
	if u.out.Writes() == 0 {
		return nil
	}
	slices.SortFunc(u.ops, func(a, b syncdb.PlanOp) int {
		return cmp.Or(cmp.Compare(a.Step, b.Step), compareHashes(a.KeyHash, b.KeyHash))
	})
	if !u.ofUndo {
		saved, err := u.e.Ledger.SavePlan(ctx, u.e.Connection.ID, syncdb.Plan{
			Kind: syncdb.PlanUndo, State: syncdb.PlanDiscarded, RunID: u.uo.Run, Reason: fmt.Sprintf("run %d was undone", u.uo.Run),
			DecidedBy: u.uo.Who, Why: u.uo.Why,
		}, sequence(u.ops))
		if err != nil {
			return fmt.Errorf("keep what must not be done again: %w", err)
		}
		u.out.Kept = saved.ID
	}
	plan := &Plan{gates: newGates(u.found), approved: &approvals{}}
	x, release := newExecutor(ctx, u.e, u.o, u.scope, u.found, plan, k, u.dir)
	defer release()
	x.report = p.sender(u.out.Writes())
	p.phase("send", "")
	err := x.run(u.scope.steps())
	s.count(u.found, err != nil)
	if errors.Is(err, ErrTargetReset) {
		return errors.Join(err, u.e.raise(ctx, k, x.resetReason(), u.seen.newest))
	}
	if err != nil {
		return err
	}
	return u.e.remember(ctx, k, u.seen, s.Calls)
}

func sequence(ops []syncdb.PlanOp) iter.Seq2[syncdb.PlanOp, error] {
	return func(yield func(syncdb.PlanOp, error) bool) {
		for _, o := range ops {
			if !yield(o, nil) {
				return
			}
		}
	}
}
