package sandbox

import (
	"bytes"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/edfisync/edfisync/schema"
)

// store holds all records of a sandbox and keeps two promises under any concurrency: natural keys are unique within their space, and no
// stored record refers to one that is not there.
//
// Locks, in this order: world (shared by every operation, exclusive for key changes and for the persister's snapshots), then one space's
// lock at a time. A record's key cannot change while world is held shared.
type store struct {
	cat  *catalog
	hash hasher
	fold bool // Options.CaseInsensitiveKeys
	like *traits
	now  func() time.Time

	world    sync.RWMutex
	versions atomic.Int64 // the newest change version
	tally    tally
	scans    scans
	late     hidden
	dirty    *dirtyList // nil without a store file
	saved    saved
	ties     *tieds // nil while no client is restricted
}

func newStore(cat *catalog, fold bool, now func() time.Time) *store {
	st := &store{like: &traits{lastModified: true, cursors: true}, cat: cat, hash: newHasher(), fold: fold, now: now}
	for _, s := range cat.spaces {
		s.index = map[keyHash]uint32{}
	}
	st.tally.reset(len(cat.tables), now())
	return st
}

// refusal is why the store does not do what it was asked. How it reads on the wire is for the server to say.
type refusal struct {
	kind     refusalKind
	name     string   // entity the message is about
	problems problems // of refusedInvalid, refusedDescriptors, and of refusedUnresolved when all are told (DMS)
	keys     string   // of refusedDuplicate: "(A, B) = (1, 2)"
	denial   *denial  // of refusedDenied
}

type refusalKind uint8

const (
	refusedInvalid      refusalKind = iota + 1
	refusedUnresolved               // a referenced item does not exist
	refusedDependent                // an item of entity name refers to this one
	refusedDuplicate                // the key belongs to an item of entity name
	refusedKeyChange                // the key of an item of entity name cannot be changed
	refusedGone                     // there is no such record
	refusedPrecondition             // If-Match does not match
	refusedExists                   // it is there, and was only to be created (DMS)
	refusedDescriptors              // descriptors do not exist, and maybe items referred to neither (DMS)
	refusedDenied                   // the caller may not do it
	refusedConcurrent               // another write came between authorization and this one
	refusedInternal                 // no more row numbers, or a fault of ours
)

// change is what a write came to.
type change struct {
	address
	modified ticks
	kind     changeKind
}

type changeKind uint8

const (
	unchanged changeKind = iota
	created
	updated
)

// match is an If-Match condition: the ETag a record must have; "" means none.
type match string

const anyVersion match = "*" // any version there is (DMS)

func (m match) holds(t ticks) bool {
	var buf [24]byte
	return m == "" || m == anyVersion || string(m) == string(t.appendETag(buf[:0]))
}

// post creates the record of a checked payload or replaces the one with its natural key.
func (st *store) post(d *draft, t *table, root int32, m match) (change, *refusal) {
	st.world.RLock()
	defer st.world.RUnlock()
	return st.postHeld(d, t, root, m)
}

// postHeld is post for callers that hold the world.
func (st *store) postHeld(d *draft, t *table, root int32, m match) (change, *refusal) {
	if f := st.prepare(d, t, root); f != nil {
		return change{}, f
	}
	if f := st.folding(t); f != exact {
		st.keepKeyText(d, t, root)
	}
	return st.upsert(d, t, m)
}

// keepKeyText gives a payload the spelling of the key its record has: a POST finds the record without regard to case, but never changes its key.
func (st *store) keepKeyText(d *draft, t *table, root int32) {
	t.space.mu.RLock()
	entry, ok := t.space.index[d.hash]
	t.space.mu.RUnlock()
	a := t.space.address(entry)
	if !ok || a.table != t {
		return
	}
	rec, ok := st.copyRecord(nil, a)
	if !ok {
		return
	}
	changed := false
	for i := range t.key {
		at := &t.key[i].path
		p, s := d.scalarAt(t.shape, root, at.steps)
		if p == nil || p.Kind != schema.String || at.part >= 0 {
			continue
		}
		c := cursor{st.appendStored(nil, t.shape, rec, at, exact)}
		if text := c.text(); !bytes.Equal(text, d.text(s)) {
			s.lo = uint32(len(d.body))
			d.body = append(d.body, text...)
			s.hi = uint32(len(d.body))
			changed = true
		}
	}
	if changed {
		d.rec = d.rec[:0]
		d.encode(t.shape, root)
	}
}

// prepare resolves, pins and encodes a payload. On refusal nothing stays pinned.
func (st *store) prepare(d *draft, t *table, root int32) *refusal {
	missing := st.resolve(d, t.shape, root, nil)
	switch {
	case len(d.problems) > 0 && d.allMissing:
		d.unpin()
		for path, texts := range d.unresolved {
			d.problems[path] = append(d.problems[path], texts...)
		}
		return &refusal{kind: refusedDescriptors, name: t.res.Name, problems: d.problems}
	case len(d.problems) > 0:
		d.unpin()
		return &refusal{kind: refusedInvalid, name: t.res.Name, problems: d.problems}
	case d.by.restricted():
		if f := st.authorizeWrite(d, t, root); f != nil {
			d.unpin()
			return f
		}
	}
	if missing != "" {
		d.unpin()
		return &refusal{kind: refusedUnresolved, name: missing, problems: d.unresolved}
	}
	st.makeKey(d, t, root)
	d.rec = d.rec[:0]
	d.encode(t.shape, root)
	return nil
}

func (st *store) upsert(d *draft, t *table, m match) (change, *refusal) {
	s := t.space
	s.mu.Lock()
	entry, ok := s.index[d.hash]
	if ok && d.as == Create || !ok && d.as == Update {
		s.mu.Unlock()
		d.unpin()
		return change{}, &refusal{kind: refusedConcurrent}
	}
	if !ok {
		if t.next >= maxRows {
			s.mu.Unlock()
			d.unpin()
			return change{}, &refusal{kind: refusedInternal}
		}
		n, r := t.newRow()
		t.put(n, r, d.rec)
		r.modified = ticksOf(st.now())
		s.index[d.hash] = t.entry(n)
		c := change{address{t, n}, r.modified, created}
		st.wrote(t, n, r, false)
		s.mu.Unlock()
		return c, nil
	}
	a := s.address(entry)
	if a.table != t {
		s.mu.Unlock()
		d.unpin()
		return change{}, st.duplicate(t, d)
	}
	if d.createOnly {
		s.mu.Unlock()
		d.unpin()
		return change{}, &refusal{kind: refusedExists}
	}
	return st.replace(d, a, m)
}

// replace gives a live row the draft's record, unless it has it already. The caller holds the space's lock, replace releases it.
func (st *store) replace(d *draft, a address, m match) (change, *refusal) {
	t, s := a.table, a.table.space
	r := t.row(a.row)
	if !m.holds(r.modified) {
		s.mu.Unlock()
		d.unpin()
		return change{}, &refusal{kind: refusedPrecondition}
	}
	old := t.arena.bytes(r.at)
	if bytes.Equal(old, d.rec) {
		c := change{a, r.modified, unchanged}
		st.wrote(t, a.row, r, true)
		s.mu.Unlock()
		d.unpin() // the record has pins of its own
		return c, nil
	}
	d.old = append(d.old[:0], old...)
	t.put(a.row, r, d.rec)
	r.modified = max(ticksOf(st.now()), r.modified+1)
	c := change{a, r.modified, updated}
	st.wrote(t, a.row, r, false)
	s.mu.Unlock()
	st.release(t, d.old)
	return c, nil
}

// release lowers the inbound counts a record that is no more had raised. The caller holds world, and no space.
func (st *store) release(t *table, rec []byte) {
	c := cursor{rec}
	c.links(t.shape, func(p *prop, entry uint32) bool {
		s := p.targetSpace()
		s.mu.RLock()
		a := s.address(entry)
		r := a.table.row(a.row)
		s.mu.RUnlock()
		r.inbound.Add(-1)
		return true
	})
}

// wrote gives a changed row its change version, keeps the tally's account of repeated writes and tells the persister. The caller holds the
// space's lock.
func (st *store) wrote(t *table, n uint32, r *row, same bool) {
	if !same {
		r.version = st.versions.Add(1)
	}
	w := uint16(st.tally.window.Load())
	again := same && r.window == w
	if r.window != w {
		r.window, r.repeats = w, 0
	}
	if again {
		c := st.tally.now.Load().resources[t.number]
		c.repeatedWrites.Add(1)
		if r.repeats == 0 {
			r.repeats = 1
			c.repeatedKeys.Add(1)
		}
	}
	if !same && st.dirty != nil && !r.dirty {
		r.dirty = true
		st.dirty.add(address{t, n})
	}
}

// put replaces the record of a row by a checked payload; its natural key may change where the resource allows it.
func (st *store) put(d *draft, a address, root int32, m match) (change, *refusal) {
	c, f, rekey := st.putSameKey(d, a, root, m)
	if rekey {
		return st.rekey(d, a, root, m)
	}
	return c, f
}

func (st *store) putSameKey(d *draft, a address, root int32, m match) (c change, f *refusal, rekey bool) {
	st.world.RLock()
	defer st.world.RUnlock()
	d.at = a
	modified, ok := st.version(a)
	if !ok {
		return c, &refusal{kind: refusedGone}, false
	}
	if f := st.authorizeRecord(d.by, a, Update); f != nil {
		return c, f, false
	}
	if !m.holds(modified) {
		return c, &refusal{kind: refusedPrecondition}, false
	}
	if st.like.keepsKeys && !a.table.res.KeyUpdatable && !st.withOldKey(d, a, root) {
		return c, &refusal{kind: refusedGone}, false
	}
	if f := st.prepare(d, a.table, root); f != nil {
		return c, f, false
	}
	same, live := st.sameKey(d, a, root)
	switch {
	case !live:
		d.unpin()
		return c, &refusal{kind: refusedGone}, false
	case !same:
		d.unpin()
		if !a.table.res.KeyUpdatable {
			return c, &refusal{kind: refusedKeyChange, name: a.table.res.Name}, false
		}
		return c, nil, true
	}
	s := a.table.space
	s.mu.Lock()
	if a.table.liveRow(a.row) == nil {
		s.mu.Unlock()
		d.unpin()
		return c, &refusal{kind: refusedGone}, false
	}
	c, f = st.replace(d, a, m)
	return c, f, false
}

// sameKey compares the payload's key with that of a row letter by letter: for a PUT a change of case is a change of key.
func (st *store) sameKey(d *draft, a address, root int32) (same, live bool) {
	rec, live := st.copyRecord(nil, a)
	if !live {
		return false, false
	}
	d.tmp = d.appendKey(d.tmp[:0], a.table, root, exact)
	return bytes.Equal(st.appendKey(nil, a.table, rec, exact), d.tmp), true
}

// version returns when a live record was last changed.
func (st *store) version(a address) (ticks, bool) {
	s := a.table.space
	s.mu.RLock()
	defer s.mu.RUnlock()
	if r := a.table.liveRow(a.row); r != nil {
		return r.modified, true
	}
	return 0, false
}

// delete removes a record nothing refers to.
func (st *store) delete(by *caller, a address, m match) *refusal {
	st.world.RLock()
	defer st.world.RUnlock()
	rec, ok := st.copyRecord(nil, a)
	if !ok {
		st.deletedAgain(a)
		return &refusal{kind: refusedGone}
	}
	if f := st.authorizeRecord(by, a, Delete); f != nil {
		return f
	}
	key := st.appendKey(nil, a.table, rec, st.folding(a.table))
	values, ok := renderer{st: st}.keyValues(nil, a.table, rec)
	if !ok {
		return &refusal{kind: refusedGone} // it, with what it refers to, was deleted while we looked
	}
	if f := st.unlink(a, deletion{row: a.row, key: key, values: values}, m, &rec); f != nil {
		if f.kind == refusedDependent {
			f.name = st.referrer(a)
		}
		return f
	}
	st.release(a.table, rec)
	return nil
}

// unlink takes a row out of table and index and notes its deletion; rec becomes what it was at that moment.
func (st *store) unlink(a address, del deletion, m match, rec *[]byte) *refusal {
	t, s := a.table, a.table.space
	s.mu.Lock()
	defer s.mu.Unlock()
	r := t.liveRow(a.row)
	if r == nil {
		return &refusal{kind: refusedGone}
	}
	if !m.holds(r.modified) {
		return &refusal{kind: refusedPrecondition}
	}
	*rec = append((*rec)[:0], t.arena.bytes(r.at)...)
	if r.inbound.Load() > a.selfLinks(*rec) {
		return &refusal{kind: refusedDependent}
	}
	t.remove(r)
	delete(s.index, st.hash.sum(del.key))
	st.wrote(t, a.row, r, false)
	del.version = r.version
	t.deletions = append(t.deletions, del)
	return nil
}

// selfLinks counts the references of a record to itself; they do not keep it alive.
func (a address) selfLinks(rec []byte) (n int32) {
	c := cursor{rec}
	c.links(a.table.shape, func(p *prop, entry uint32) bool {
		if p.targetSpace() == a.table.space && entry == a.table.entry(a.row) {
			n++
		}
		return true
	})
	return n
}

// deletedAgain accounts for a DELETE of a record this period already saw written or deleted.
func (st *store) deletedAgain(a address) {
	s := a.table.space
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := a.table.usedRow(a.row); r != nil {
		st.wrote(a.table, a.row, r, true)
	}
}

// referrer names an entity that refers to a record. It looks through all records that may, until it finds one.
func (st *store) referrer(a address) string {
	s := a.table.space
	entry := a.table.entry(a.row)
	for _, t := range s.referrers {
		found := false
		t.each(func(_ uint32, rec []byte) bool {
			c := cursor{rec}
			c.links(t.shape, func(p *prop, e uint32) bool {
				found = e == entry && p.targetSpace() == s
				return !found
			})
			return !found
		})
		if found {
			return t.res.Name
		}
	}
	return a.table.res.Name // it went away meanwhile; the refusal stands, a repeat will succeed
}

// each calls f with the live rows of a table in order, until f returns false. f must not take the space's lock.
func (t *table) each(f func(n uint32, rec []byte) bool) {
	s := t.space
	for c := 0; ; c++ {
		s.mu.RLock()
		if c >= len(t.rows) {
			s.mu.RUnlock()
			return
		}
		more := true
		if t.rows[c] != nil {
			for i := range t.rows[c] {
				r := &t.rows[c][i]
				if r.at != 0 && more {
					more = f(uint32(c*chunkRows+i), t.arena.bytes(r.at))
				}
			}
		}
		s.mu.RUnlock()
		if !more {
			return
		}
	}
}

// duplicate describes a key that another item of the space has.
func (st *store) duplicate(t *table, d *draft) *refusal {
	name := t.res.Name
	if t.res.Extends != "" {
		name = t.res.Extends
	}
	return &refusal{kind: refusedDuplicate, name: name, keys: d.keyText(t)}
}

func (d *draft) keyText(t *table) string {
	var names, values bytes.Buffer
	for i := range t.key {
		if i > 0 {
			names.WriteString(", ")
			values.WriteString(", ")
		}
		if name := t.key[i].name; t.res.Extends != "" && len(t.key) == 1 {
			names.WriteString(t.res.Extends + "Id") // the table is the abstract entity's
		} else {
			names.WriteString(upperFirst(name))
		}
		if p, s := d.scalarAt(t.shape, 1, t.key[i].path.steps); p != nil {
			values.WriteString(d.print(p, s))
		}
	}
	return fmt.Sprintf("(%s) = (%s)", names.String(), values.String())
}
