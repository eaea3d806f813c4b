package sync

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/edfisync/edfisync/schema"
	"github.com/edfisync/edfisync/syncdb"
)

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
					continue
				}
				entry := entries[key]
				if err := f.gone.add(goneRecord(&entry)); err != nil {
					return err
				}
				u.out.Resources[i].Delete++
				u.ops = append(u.ops, u.op(at, syncdb.Hash{}))
				u.replace(at)
			}
		}
	}
	return previous.each(func(at pastKey, rec *record) error {
		if u.pasts[at] == nil { // left
			return nil
		}
		return u.restore(at, rec)
	})
}

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

// replace says of a record that is deleted which one its row has then: it goes when that one is there, and not when it could not be made again (I5). Nor
// is that one deleted again by the next run, whichever run deleted it, or was about to.
func (u *undoing) replace(at pastKey) {
	p, f := u.pasts[at], u.found[at.resource]
	if p.replaces.IsZero() {
		return
	}
	old := pastKey{at.resource, p.replaces}
	f.noteMove(at.key, p.replaces)
	if _, comes := u.comes[old]; comes {
		f.moves[p.replaces] = move{old: at.key, edfiID: p.id, record: p.record, origin: syncdb.Created}
		return
	}
	u.ops = append(u.ops, syncdb.PlanOp{
		Step: u.step(at.resource, syncdb.Delete), Resource: f.Path, Verb: syncdb.Delete, KeyHash: p.replaces, SourceHash: p.source, NewRecord: whole(at.key, p.record),
	})
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
	o.Resource, o.Step = u.scope.resources[at.resource].Path, u.step(at.resource, o.Verb)
	return o
}

// step is the place of a resource's calls in load order.
func (u *undoing) step(resource int, verb syncdb.Verb) int {
	for _, st := range u.scope.steps() {
		if st.Resource == resource && st.Verb == verb {
			return st.Position
		}
	}
	return 0
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
		counts := map[string]map[string]int64{}
		for _, o := range u.ops {
			if counts[o.Resource] == nil {
				counts[o.Resource] = map[string]int64{}
			}
			counts[o.Resource][verbName(o.Verb)]++
		}
		byResource, err := json.Marshal(counts)
		if err != nil {
			return fmt.Errorf("write the counts of a plan: %w", err)
		}
		saved, err := u.e.Ledger.SavePlan(ctx, u.e.Connection.ID, syncdb.Plan{
			Kind: syncdb.PlanUndo, State: syncdb.PlanDiscarded, RunID: u.uo.Run, Reason: fmt.Sprintf("run %d was undone", u.uo.Run),
			DecidedBy: u.uo.Who, Why: u.uo.Why, Counts: byResource,
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
