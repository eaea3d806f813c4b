package sandbox

import (
	"bytes"
	"slices"

	"github.com/edfisync/edfisync/schema"
)

// A key change by PUT cascades. Records refer to others by row, so their stored bytes need no change; what changes is the natural key of
// every record whose key holds a part of the changed one, and where key unification ties the changed value to another reference of the same
// record, that reference must point at the item with the new value. All of it happens with the world locked, or not at all.

// rekeying is one key change in progress.
type rekeying struct {
	st   *store
	undo []func()
	work []rekeyStep
	seen map[address]bool // records already given new bytes
	drop []staleRecord    // records' former bytes, whose references end when all went well
	pins []*row           // references the new bytes have raised
	keys []rekeyed        // what becomes key changes
	late []address        // records whose new key another one has, until one of them is aligned
}

// rekeyed is a record whose natural key changes.
type rekeyed struct {
	address
	old []byte // key values as JSON
}

type rekeyStep struct {
	address
	rec []byte
}

type staleRecord struct {
	table *table
	rec   []byte
}

// rekey replaces a record by a payload with another natural key.
func (st *store) rekey(d *draft, a address, root int32, m match) (change, *refusal) {
	st.world.Lock()
	defer st.world.Unlock()
	r := a.table.liveRow(a.row)
	switch {
	case r == nil:
		return change{}, &refusal{kind: refusedGone}
	case !m.holds(r.modified):
		return change{}, &refusal{kind: refusedPrecondition}
	}
	d.problems = nil
	if f := st.prepare(d, a.table, root); f != nil {
		return change{}, f
	}
	if entry, taken := a.table.space.index[d.hash]; taken && entry != a.table.entry(a.row) {
		d.unpin()
		return change{}, st.duplicate(a.table, d)
	}
	k := &rekeying{st: st, seen: map[address]bool{}, pins: d.pins}
	d.pins = nil
	k.work = append(k.work, rekeyStep{a, append([]byte(nil), d.rec...)})
	if f := k.run(); f != nil {
		for i := len(k.undo) - 1; i >= 0; i-- {
			k.undo[i]()
		}
		for _, r := range k.pins {
			r.inbound.Add(-1)
		}
		return change{}, f
	}
	for _, s := range k.drop {
		st.release(s.table, s.rec)
	}
	k.noteKeyChanges()
	return change{a, r.modified, updated}, nil
}

// run takes steps until no record is left to change.
func (k *rekeying) run() *refusal {
	for len(k.work) > 0 {
		step := k.work[0]
		k.work = k.work[1:]
		if f := k.apply(step); f != nil {
			return f
		}
	}
	for _, a := range k.late {
		if !k.index(a) {
			return &refusal{kind: refusedDuplicate, name: a.table.res.Name, keys: "a dependent item's"}
		}
	}
	return nil
}

// apply gives one record its new bytes and moves everything whose key depends on it in the index.
func (k *rekeying) apply(step rekeyStep) *refusal {
	rekeyed := k.dependents(step.address)
	for _, a := range rekeyed {
		k.rememberKey(a)
		k.unindex(a)
	}
	k.replace(step)
	for _, a := range rekeyed {
		if !k.index(a) {
			k.late = append(k.late, a) // half of its new key may be to come: what key unification ties it to follows
		}
	}
	return k.follow(rekeyed)
}

// dependents lists a record and all whose natural key holds a part of its key, directly or through others.
func (k *rekeying) dependents(a address) []address {
	all := []address{a}
	in := map[address]bool{a: true}
	for from := 0; from < len(all); {
		level := all[from:]
		from = len(all)
		for _, b := range k.referring(level, true) {
			if !in[b] {
				in[b] = true
				all = append(all, b)
			}
		}
	}
	return all
}

// referring lists the records that refer to one of targets; only those whose key does, when byKey is set.
func (k *rekeying) referring(targets []address, byKey bool) []address {
	bySpace := map[*space]map[uint32]bool{}
	for _, a := range targets {
		if a.table.row(a.row).inbound.Load() == 0 {
			continue
		}
		s := a.table.space
		if bySpace[s] == nil {
			bySpace[s] = map[uint32]bool{}
		}
		bySpace[s][a.table.entry(a.row)] = true
	}
	var out []address
	seen := map[address]bool{}
	for s, entries := range bySpace {
		for _, t := range s.referrers {
			if byKey && !t.keyHolds(s) {
				continue
			}
			t.each(func(n uint32, rec []byte) bool {
				hit := false
				if byKey {
					hit = t.keyRefersTo(rec, s, entries)
				} else {
					c := cursor{rec}
					c.links(t.shape, func(p *prop, e uint32) bool {
						hit = p.targetSpace() == s && entries[e]
						return !hit
					})
				}
				if a := (address{t, n}); hit && !seen[a] {
					seen[a] = true
					out = append(out, a)
				}
				return true
			})
		}
	}
	return out
}

// keyHolds says whether the table's key has parts of references to s.
func (t *table) keyHolds(s *space) bool {
	for i := range t.key {
		if p := t.key[i].path.reference(t.shape); p != nil && p.ref.space == s {
			return true
		}
	}
	return false
}

func (t *table) keyRefersTo(rec []byte, s *space, entries map[uint32]bool) bool {
	for i := range t.key {
		at := &t.key[i].path
		if p := at.reference(t.shape); p == nil || p.ref.space != s {
			continue
		}
		c := cursor{rec}
		sh, ok := t.shape, true
		for _, step := range at.steps[:len(at.steps)-1] {
			if ok = ok && c.find(sh, int(step)); ok {
				sh = sh.props[step].shape
			}
		}
		if ok && entries[uint32(c.uvarint())] {
			return true
		}
	}
	return false
}

// reference is the reference a path ends in, nil for a plain scalar.
func (at *path) reference(s *shape) *prop {
	var p *prop
	for _, step := range at.steps[:len(at.steps)-1] {
		p = &s.props[step]
		s = p.shape
	}
	if p == nil || p.Kind != schema.Reference {
		return nil
	}
	return p
}

func (k *rekeying) keyHash(a address) keyHash {
	rec := a.table.arena.bytes(a.table.row(a.row).at)
	return k.st.hash.sum(k.st.appendKey(nil, a.table, rec, k.st.folding(a.table)))
}

func (k *rekeying) unindex(a address) {
	h, index := k.keyHash(a), a.table.space.index
	if index[h] != a.table.entry(a.row) {
		return
	}
	delete(index, h)
	k.undo = append(k.undo, func() { index[h] = a.table.entry(a.row) })
}

// index makes a record known by its key, unless another one is.
func (k *rekeying) index(a address) bool {
	h, index := k.keyHash(a), a.table.space.index
	if entry, taken := index[h]; taken {
		return entry == a.table.entry(a.row)
	}
	index[h] = a.table.entry(a.row)
	k.undo = append(k.undo, func() { delete(index, h) })
	return true
}

func (k *rekeying) replace(step rekeyStep) {
	t, r := step.table, step.table.row(step.row)
	old := append([]byte(nil), t.arena.bytes(r.at)...)
	k.drop = append(k.drop, staleRecord{t, old})
	t.put(step.row, r, step.rec)
	k.undo = append(k.undo, func() { t.put(step.row, r, old) })
	k.touch(step.address)
}

// touch marks a record as changed.
func (k *rekeying) touch(a address) {
	r := a.table.row(a.row)
	modified, version := r.modified, r.version
	r.modified = max(ticksOf(k.st.now()), r.modified+1)
	k.undo = append(k.undo, func() { r.modified, r.version = modified, version })
	k.st.wrote(a.table, a.row, r, false)
}

// follow touches every record that shows a part of a changed key, and plans new bytes for those that now hold two values where key
// unification wants one.
func (k *rekeying) follow(rekeyed []address) *refusal {
	changed := map[address]bool{}
	for _, a := range rekeyed {
		changed[a] = true
	}
	for _, b := range k.referring(rekeyed, false) {
		if !k.seen[b] {
			k.touch(b)
		}
		if len(b.table.unify) == 0 {
			continue
		}
		pins := len(k.pins)
		rec, f := k.align(b, changed)
		switch {
		case f != nil:
			return f
		case rec == nil:
		case !k.seen[b]:
			k.seen[b] = true
			k.work = append(k.work, rekeyStep{b, rec})
		case k.waits(b, rec): // reached on two ways, and both want the same
			for _, r := range k.pins[pins:] {
				r.inbound.Add(-1)
			}
			k.pins = k.pins[:pins]
		default:
			return &refusal{kind: refusedUnresolved, name: b.table.res.Name} // two changes want different values
		}
	}
	return nil
}

// waits reports whether a record is to get these bytes already.
func (k *rekeying) waits(a address, rec []byte) bool {
	return slices.ContainsFunc(k.work, func(s rekeyStep) bool { return s.address == a && bytes.Equal(s.rec, rec) })
}

// align returns new bytes for a record whose unified values have come apart: those reached through a changed record win, the others follow.
// nil when nothing has come apart.
func (k *rekeying) align(b address, changed map[address]bool) ([]byte, *refusal) {
	st, t := k.st, b.table
	body, ok := renderer{st: st, bare: true}.record(nil, b)
	if !ok {
		return nil, &refusal{kind: refusedGone}
	}
	d := &draft{body: body, end: len(body)}
	root, err := d.read(t.shape)
	if err != nil {
		return nil, &refusal{kind: refusedInternal} // what we print we can read: FuzzPayload
	}
	st.resolve(d, t.shape, root, nil) // marks each reference with the record it points at
	d.unpin()
	apart := false
	for i := range t.unify {
		al := aligner{d: d, changed: changed}
		for j := range t.unify[i].paths {
			al.walk(t.shape, root, t.unify[i].paths[j].steps, nil, nil, false)
		}
		if al.value == nil || !al.apart {
			continue
		}
		apart = true
		for j := range t.unify[i].paths {
			al.walk(t.shape, root, t.unify[i].paths[j].steps, nil, nil, true)
		}
	}
	if !apart {
		return nil, nil
	}
	d.problems = nil
	if f := st.prepare(d, t, root); f != nil {
		return nil, f
	}
	k.pins = append(k.pins, d.pins...)
	return append([]byte(nil), d.rec...), nil
}

// aligner visits the places of one unification group.
type aligner struct {
	d       *draft
	changed map[address]bool
	value   *slot // found through a changed record
	other   *slot // found elsewhere
	apart   bool
}

func (al *aligner) walk(s *shape, block int32, steps []uint16, ref *prop, refSlot *slot, set bool) {
	p := &s.props[steps[0]]
	sl := &al.d.slots[block+int32(steps[0])]
	switch {
	case sl.state != present:
	case len(steps) == 1:
		al.leaf(p, sl, ref, refSlot, set)
	case p.Kind == schema.Collection:
		for head := sl.child; head != 0; head = al.d.slots[head].next {
			al.walk(p.shape, head+1, steps[1:], nil, nil, set)
		}
	case p.Kind == schema.Reference:
		al.walk(p.shape, sl.child, steps[1:], p, sl, set)
	default:
		al.walk(p.shape, sl.child, steps[1:], nil, nil, set)
	}
}

func (al *aligner) leaf(p *prop, s *slot, ref *prop, refSlot *slot, set bool) {
	switch {
	case set:
		*s = *al.value
	case ref != nil && al.changed[ref.ref.space.address(uint32(refSlot.num))]:
		al.value = s
		al.apart = al.apart || al.other != nil && !al.d.same(p, s, al.other)
	default:
		al.other = s
		al.apart = al.apart || al.value != nil && !al.d.same(p, s, al.value)
	}
}
