package sync

import (
	"context"
	"fmt"
	"slices"

	"github.com/edfisync/edfisync/schema"
	"github.com/edfisync/edfisync/syncdb"
)

// What one source row gave in a run is undone as one: a record is deleted only when what its row had before is there or comes back with it, and one is
// brought back only when its row has no other record that stays (I1, I5). Nothing is sent that cannot succeed: a record comes back only when what it
// refers to is there, and goes only when nothing stays that has its natural key in its own (I6).

// bonds are what the records of an undo hang on.
type bonds struct {
	comes map[pastKey]pastKey               // natural key a record gets back → where its past is filed
	refs  map[pastKey][]reference           // what a previous content refers to that the undo may take away, or the ledger does not have
	below map[pastKey][]pastKey             // records that may be deleted → those that have their natural key in their own
	ofRow map[int]map[syncdb.Hash][]pastKey // resource → source row of which the run deleted a record → its records now
	rowOf map[pastKey]syncdb.Hash           // of records that get their previous content: the row that was for
	made  map[pastKey]syncdb.Hash           // of the records in ofRow: the row the newest call that history has was for
}

// pair joins what one source row gave in the run: its record under the old key, deleted, and the one under the new key, created.
func (p pasts) pair() {
	type row struct {
		resource int
		source   syncdb.Hash
	}
	before := map[row]pastKey{}
	for at, past := range p {
		if past.existed && !past.exists && !past.source.IsZero() {
			r := row{at.resource, past.source}
			if first, ok := before[r]; !ok || compareHashes(at.key, first.key) < 0 {
				before[r] = at
			}
		}
	}
	for at, past := range p {
		if past.existed || !past.exists || past.source.IsZero() {
			continue
		}
		old, ok := before[row{at.resource, past.source}]
		if past.replaces.IsZero() && ok {
			past.replaces = old.key
		}
		if other := p[pastKey{at.resource, past.replaces}]; other != nil && !other.exists {
			other.instead = whole(at.key, past.record)
		}
	}
}

// bind finds out what the records hang on.
func (u *undoing) bind(ctx context.Context, previous *previous) error {
	u.bonds = bonds{
		comes: map[pastKey]pastKey{}, refs: map[pastKey][]reference{}, below: map[pastKey][]pastKey{},
		ofRow: map[int]map[syncdb.Hash][]pastKey{}, rowOf: map[pastKey]syncdb.Hash{}, made: map[pastKey]syncdb.Hash{},
	}
	for at, p := range u.all {
		if p.existed && !p.exists && !p.source.IsZero() && at.resource < len(u.found) {
			if u.ofRow[at.resource] == nil {
				u.ofRow[at.resource] = map[syncdb.Hash][]pastKey{}
			}
			u.ofRow[at.resource][p.source] = nil
		}
	}
	for at, p := range u.pasts {
		switch verb, ok := p.inverse(); {
		case !ok: // of a resource that is out of the scope
			continue
		case verb == syncdb.Delete:
			u.below[at] = nil
			continue
		case !previous.has(at):
			u.leave(at, LeftNoPrevious)
			continue
		case verb == syncdb.Create || p.before != at.key:
			u.comes[pastKey{at.resource, p.before}] = at
		}
	}
	hasher := schema.NewHasher(u.e.Keys.HashMAC())
	err := previous.each(func(at pastKey, rec *record) error {
		u.rowOf[at] = rec.SourceHash
		refs, err := u.found[at.resource].References(u.e.Model, rec.Payload, u.o.Rules)
		if err != nil {
			return fmt.Errorf("read a previous payload of %s: %w", u.found[at.resource].Path, err)
		}
		for _, ref := range refs {
			target, ok := u.scope.entity[ref.Target]
			if r := (reference{Target: target, Hash: hasher.Sum(ref.Key)}); ok && !u.firm(r) {
				u.refs[at] = append(u.refs[at], r)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for i, r := range u.found {
		if err := u.bindEntries(ctx, i, r, hasher); err != nil {
			return fmt.Errorf("read what the ledger has of %s: %w", r.Path, err)
		}
	}
	return u.findMade(ctx)
}

// findMade finds out which rows the records in ofRow were written for: a row that has the key of another one's record is taken for its row without a call.
func (u *undoing) findMade(ctx context.Context) error {
	want := map[pastKey]bool{}
	for _, rows := range u.ofRow {
		for _, records := range rows {
			for _, at := range records {
				want[at] = true
			}
		}
	}
	if len(want) == 0 {
		return nil
	}
	runs, err := u.e.Ledger.Runs(ctx, u.e.Connection.ID, 0) // newest first
	if err != nil {
		return fmt.Errorf("list runs: %w", err)
	}
	for _, r := range runs {
		last := map[pastKey]syncdb.Hash{}
		err := u.e.Ledger.AttemptsOfRun(ctx, u.e.Connection.ID, r.ID, func(a *syncdb.Attempt) error {
			if i, ok := u.index[a.Resource]; ok && a.Effect == syncdb.EffectLive && want[pastKey{i, a.KeyHash}] {
				last[pastKey{i, a.KeyHash}] = a.SourceHash
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("read the history: %w", err)
		}
		for at, row := range last {
			u.made[at] = row
			delete(want, at)
		}
		if len(want) == 0 {
			return nil
		}
	}
	return nil
}

// rowBefore returns the source row a record was of before the run, or was made for by it, or since.
func (u *undoing) rowBefore(at pastKey) (row syncdb.Hash, known bool) {
	switch p := u.all[at]; {
	case p != nil && p.existed && p.exists:
		row, known = u.rowOf[at]
	case p != nil && !p.existed:
		row, known = p.source, true
	default:
		row, known = u.made[at]
	}
	return row, known
}

// torn are resources in which a row has, without its old record coming back, one that was another row's before: the records the run created for other
// rows may be all these have.
func (u *undoing) torn() map[int]bool {
	out := map[int]bool{}
	for at, p := range u.all {
		if _, comes := u.comes[pastKey{at.resource, p.before}]; comes || !p.existed || p.exists || at.resource >= len(u.found) {
			continue
		}
		for _, other := range u.ofRow[at.resource][p.source] {
			row, known := u.rowBefore(other)
			out[at.resource] = out[at.resource] || other.key != at.key && !u.goes(other) && !(known && row == p.source)
		}
	}
	return out
}

// bindEntries looks through the records of a resource for those of rows that get one back, and for those that have a natural key in their own that may go.
func (u *undoing) bindEntries(ctx context.Context, i int, r *scanned, hasher *schema.Hasher) error {
	cs := r.cascades(u.scope)
	if len(u.ofRow[i]) == 0 && !u.mayHaveBelow(cs) {
		return nil
	}
	return u.e.Ledger.Each(ctx, u.e.Connection.ID, r.Path, func(entry *syncdb.Entry) error {
		if entry.State == syncdb.Missing {
			return nil
		}
		at := pastKey{i, entry.KeyHash}
		if of, ok := u.ofRow[i][entry.SourceHash]; ok && !entry.SourceHash.IsZero() {
			u.ofRow[i][entry.SourceHash] = append(of, at)
		}
		for _, ref := range cs.identifying(hasher, entry.Key) {
			for _, j := range u.scope.targets[ref.Target].Resources {
				parent := pastKey{j, ref.Hash}
				if list, ok := u.below[parent]; ok && parent != at {
					u.below[parent] = append(list, at)
				}
			}
		}
		return nil
	})
}

// mayHaveBelow reports whether records with these identifying references may have the natural key of one in their own that may be deleted.
func (u *undoing) mayHaveBelow(cs cascades) bool {
	return slices.ContainsFunc(cs, func(c cascade) bool {
		return slices.ContainsFunc(u.scope.targets[c.target].Resources, func(j int) bool {
			for at := range u.below {
				if at.resource == j {
					return true
				}
			}
			return false
		})
	})
}

// firm reports whether what is referred to is there whatever becomes of the undo.
func (u *undoing) firm(ref reference) bool {
	t := u.scope.targets[ref.Target]
	for _, j := range t.Resources {
		at := pastKey{j, ref.Hash}
		if u.found[j].table.live(ref.Hash) && !u.goes(at) {
			return true
		}
	}
	return !t.Complete
}

// goes reports whether the undo takes the record under a natural key away: deletes it, or gives it its old key back.
func (u *undoing) goes(at pastKey) bool {
	p := u.pasts[at]
	if p == nil {
		return false
	}
	verb, _ := p.inverse()
	return verb == syncdb.Delete || p.before != at.key
}

// stands reports whether the target has a record under the natural key once the undo is done.
func (u *undoing) stands(at pastKey) bool {
	if _, comes := u.comes[at]; comes {
		return true
	}
	return u.found[at.resource].table.live(at.key) && !u.goes(at)
}

// release leaves out what hangs on what is left, until nothing more does.
func (u *undoing) release() {
	for more := true; more; {
		more = false
		torn := u.torn()
		for i := range u.scope.resources {
			for _, key := range u.keysOf(i) {
				at := pastKey{i, key}
				if why := u.hangs(at, torn[i]); why != "" {
					u.leave(at, why)
					more = true
				}
			}
		}
	}
}

// hangs says why a record cannot be brought back to what it was, as far as other records are concerned; "" = it can.
func (u *undoing) hangs(at pastKey, torn bool) LeftOut {
	p := u.pasts[at]
	verb, _ := p.inverse()
	if verb == syncdb.Delete {
		if p.replaces.IsZero() && torn || !p.replaces.IsZero() && !u.stands(pastKey{at.resource, p.replaces}) {
			return LeftHalf
		}
		for _, child := range u.below[at] {
			if !u.goes(child) {
				return LeftDependent
			}
		}
		return ""
	}
	for _, other := range u.ofRow[at.resource][p.source] {
		row, known := u.rowBefore(other)
		if verb == syncdb.Create && other.key != at.key && !u.goes(other) && !(known && row != p.source) {
			return LeftHalf
		}
	}
	for _, ref := range u.refs[at] {
		t, there := u.scope.targets[ref.Target], false
		for _, j := range t.Resources {
			there = there || u.stands(pastKey{j, ref.Hash})
		}
		if !there && t.Complete {
			return LeftDependent
		}
	}
	return ""
}
