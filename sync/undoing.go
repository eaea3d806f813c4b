package sync

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/edfisync/edfisync/syncdb"
)

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
	all   pasts // those that are left among them
	bonds
	ops []syncdb.PlanOp // what the next run would do again
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
	if err := u.bind(ctx, previous); err != nil {
		return err
	}
	u.release()
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
	u.pasts.pair()
	u.all = maps.Clone(u.pasts)
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
		for part := range slices.Chunk(u.keysOf(i), 1000) {
			entries, err := u.e.Ledger.Lookup(ctx, u.e.Connection.ID, r.Path, part)
			if err != nil {
				return fmt.Errorf("look up entries of %s: %w", r.Path, err)
			}
			for _, key := range part {
				entry, there := entries[key]
				u.judgeOne(pastKey{i, key}, entry, there)
			}
		}
		if err := u.leaveShared(ctx, i, r.Path); err != nil {
			return err
		}
	}
	return nil
}

// leaveShared leaves out the deletes of records that another entry stands for, too: a later call met the record under another spelling of its key (I5d).
func (u *undoing) leaveShared(ctx context.Context, resource int, path string) error {
	made := map[string]syncdb.Hash{} // ids of the records to delete → their key
	for at, p := range u.pasts {
		if verb, _ := p.inverse(); at.resource == resource && verb == syncdb.Delete {
			made[p.id] = at.key
		}
	}
	if len(made) == 0 {
		return nil
	}
	err := u.e.Ledger.Each(ctx, u.e.Connection.ID, path, func(entry *syncdb.Entry) error {
		if key, ok := made[entry.EdfiID]; ok && key != entry.KeyHash {
			u.leave(pastKey{resource, key}, LeftChanged)
			delete(made, entry.EdfiID)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read entries of %s: %w", path, err)
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
	if p := u.pasts[at]; u.comes[pastKey{at.resource, p.before}] == at {
		delete(u.comes, pastKey{at.resource, p.before})
	}
	delete(u.pasts, at)
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
