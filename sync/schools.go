package sync

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/edfisync/edfisync/schema"
	"github.com/edfisync/edfisync/syncdb"
)

// Schools is the part of a district a connection syncs, by schoolId. The zero value is every school. It lasts: what lies outside no run asks for, and what was
// sent of it before is neither updated nor deleted until a person approves the removal (I5g).
//
// A row is of a school when its natural key names the school, or, if that names none, what it refers to beside it. A row that names no school and a person
// is where the person is: where an enrolment, an assignment or an employment, and for contacts their students, tie them; of several people students decide.
// A row that names neither is the district's, and belongs to the part whatever the part is. What rows of the part refer to, and what gives the right to its
// people, belongs to it, too (I6).
type Schools struct {
	Only   []int64 // none = every school
	Except []int64 // of these
}

// All reports whether every school is synced.
func (s Schools) All() bool { return len(s.Only)+len(s.Except) == 0 }

func (s Schools) covers(id int64) bool {
	return (len(s.Only) == 0 || slices.Contains(s.Only, id)) && !slices.Contains(s.Except, id)
}

// schoolTies say what ties a person to schools.
type schoolTies uint8

const (
	rowInside    schoolTies = 1 << iota // a row, to a school of the part
	rowOutside                          // a row, to another one
	entryInside                         // an entry of the ledger, to a school of the part
	entryOutside                        // an entry of the ledger, to another one
)

// kinship finds the people that records refer to.
type kinship struct {
	scope  *scope
	hasher *schema.Hasher
	cs     []cascades // by resource
}

func newKinship(e *Engine, s *scope, found []*scanned) kinship {
	k := kinship{scope: s, hasher: schema.NewHasher(e.Keys.HashMAC())}
	for _, r := range found {
		k.cs = append(k.cs, r.cascades(s))
	}
	return k
}

// persons calls fn with each person a record refers to, or is, and with the kind of person.
func (k *kinship) persons(r *scanned, rec *record, fn func(reference, string)) {
	if _, is := people[r.Name]; is {
		if t, ok := k.scope.entity[r.Name]; ok {
			fn(reference{t, rec.KeyHash}, r.Name)
		}
	}
	refs := rec.Refs
	if len(refs) == 0 { // of an entry, or an invalid row, only the key is known
		refs = k.cs[r.index].identifying(k.hasher, rec.Key)
	}
	for _, ref := range refs {
		if entity := k.scope.targets[ref.Target].Entity; people[entity] != nil {
			fn(ref, entity)
		}
	}
}

// district tells the part of the source that a connection of some schools syncs from the rest. Rows alone decide what of the source belongs to it: what
// the ledger holds has no say, so the same rows are the same part in every run (I1).
type district struct {
	kinship
	schools Schools
	found   []*scanned
	ties    map[reference]schoolTies
	wanted  []map[syncdb.Hash]struct{} // by resource: natural keys that rows of the part refer to and no valid row has
	needs   map[reference]struct{}     // people whom rows of the part refer to, and who are tied to other schools only
	grew    bool
}

// confine leaves out the rows that are outside the schools of the connection, once all are read: they are counted, and nothing else is done about them.
// Entries of the ledger that such rows stand for are told apart from those whose row is gone.
func (s *scanner) confine(ctx context.Context, found []*scanned) error {
	if s.o.Schools.All() {
		return nil
	}
	d := &district{
		kinship: newKinship(s.e, s.scope, found), schools: s.o.Schools, found: found, ties: map[reference]schoolTies{},
		wanted: make([]map[syncdb.Hash]struct{}, len(found)), needs: map[reference]struct{}{},
	}
	for i := range found {
		d.wanted[i] = map[syncdb.Hash]struct{}{}
	}
	s.district = d
	entries := func(r *scanned, fn func(*record, bool) error) error {
		return s.e.Ledger.Each(ctx, s.e.Connection.ID, r.Path, func(e *syncdb.Entry) error {
			_, bySource := r.heldSource[e.SourceHash]
			_, byKey := r.heldKey[e.KeyHash]
			return fn(&record{KeyHash: e.KeyHash, Key: e.Key, Schools: s.schools.of(nil, r.Resource, e.Key, nil)}, bySource || byKey)
		})
	}
	if err := d.tiePeople(entries); err != nil {
		return fmt.Errorf("find the people of the connection's schools: %w", err)
	}
	if err := d.mark(ctx); err != nil {
		return fmt.Errorf("find the rows of the connection's schools: %w", err)
	}
	for _, r := range found {
		if err := s.leaveOut(r); err != nil {
			return fmt.Errorf("leave out %s of other schools: %w", r.Path, err)
		}
	}
	return nil
}

// tiePeople finds out to which schools associations tie people: first those that name a school, then those that tie contacts to students, who belong where
// their students do. An entry that an invalid row stands for counts as a row (I5f).
func (d *district) tiePeople(entries func(*scanned, func(*record, bool) error) error) error {
	for _, named := range []bool{true, false} {
		for _, r := range d.found {
			if !authorises(r.Name) {
				continue
			}
			if err := r.every(func(rec *record) error { d.tie(r, rec, named, rowInside, rowOutside); return nil }); err != nil {
				return err
			}
			if r.entries == 0 {
				continue
			}
			if err := entries(r, func(rec *record, stands bool) error {
				if stands {
					d.tie(r, rec, named, rowInside, rowOutside)
				}
				d.tie(r, rec, named, entryInside, entryOutside)
				return nil
			}); err != nil {
				return err
			}
		}
	}
	return nil
}

// tie notes whom an association that names a school, or one that names none, ties to schools.
func (d *district) tie(r *scanned, rec *record, named bool, in, out schoolTies) {
	if named != (len(rec.Schools) > 0) {
		return
	}
	bit := out
	if slices.ContainsFunc(rec.Schools, d.schools.covers) {
		bit = in
	}
	if !named {
		var through schoolTies
		d.persons(r, rec, func(person reference, entity string) {
			if !slices.Contains(people[entity], r.Name) {
				through |= d.ties[person]
			}
		})
		switch {
		case through&(rowInside|in) != 0:
			bit = in
		case through == 0:
			return // an assignment to the district's office ties nobody to a school
		}
	}
	d.persons(r, rec, func(person reference, entity string) {
		if slices.Contains(people[entity], r.Name) {
			d.ties[person] |= bit
		}
	})
}

// decisive calls fn with the people who decide where a record is: the students, or, where it names none, all.
func (d *district) decisive(r *scanned, rec *record, fn func(reference)) {
	students := false
	d.persons(r, rec, func(_ reference, entity string) { students = students || entity == "Student" })
	d.persons(r, rec, func(person reference, entity string) {
		if !students || entity == "Student" {
			fn(person)
		}
	})
}

// inside reports whether a row belongs to the part by what it names.
func (d *district) inside(r *scanned, rec *record) bool {
	if len(rec.Schools) > 0 {
		return slices.ContainsFunc(rec.Schools, d.schools.covers)
	}
	anybody, in := false, false
	d.decisive(r, rec, func(person reference) {
		ties := d.ties[person]
		anybody = true
		in = in || ties&rowInside != 0 || len(d.schools.Only) == 0 && ties&rowOutside == 0
	})
	return in || !anybody
}

// mark finds the rows of the part, and what goes along with them: what they refer to, and what gives the right to people who are tied to other schools
// only. The slots of all other rows say that they are outside.
func (d *district) mark(ctx context.Context) error {
	for _, r := range d.found {
		look := func(seen slotFlag) func(*record) error {
			return func(rec *record) error {
				if i := r.table.find(rec.KeyHash); i >= 0 && r.table.flags[i]&slotSeen == seen && !d.inside(r, rec) {
					r.table.flags[i] |= slotOutside
				}
				return nil
			}
		}
		// An invalid row says nothing about a natural key that a valid one has.
		err := errors.Join(r.same.each(look(slotSeen)), r.claims.each(look(slotSeen)), r.fresh.each(look(slotSeen)), r.changed.each(look(slotSeen)), r.troubled.each(look(0)))
		if err != nil {
			return err
		}
	}
	for d.grew = true; d.grew; {
		d.grew = false
		for _, r := range slices.Backward(d.found) {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := r.every(func(rec *record) error { d.follow(r, rec); return nil }); err != nil {
				return err
			}
		}
	}
	return nil
}

// follow takes along what a row of the part needs.
func (d *district) follow(r *scanned, rec *record) {
	if d.leaves(r, rec) {
		if !authorises(r.Name) || len(d.needs) == 0 {
			return
		}
		brings := false
		d.persons(r, rec, func(person reference, entity string) {
			_, needed := d.needs[person]
			brings = brings || needed && slices.Contains(people[entity], r.Name)
		})
		i := r.table.find(rec.KeyHash)
		if !brings || i < 0 {
			return
		}
		r.table.flags[i] &^= slotOutside
		d.grew = true
	}
	for _, ref := range rec.Refs {
		for _, j := range d.scope.targets[ref.Target].Resources {
			t := d.found[j].table
			if i := t.find(ref.Hash); i < 0 {
				d.wanted[j][ref.Hash] = struct{}{}
			} else if t.flags[i]&slotOutside != 0 {
				t.flags[i] &^= slotOutside
				d.grew = true
			}
		}
	}
	d.persons(r, rec, func(person reference, _ string) {
		if _, had := d.needs[person]; !had && d.ties[person]&(rowInside|rowOutside) == rowOutside {
			d.needs[person] = struct{}{}
			d.grew = true
		}
	})
}

// leaves reports whether a row is left out. An invalid row may have no slot: then what it names, and whether a row of the part refers to it, tells.
func (d *district) leaves(r *scanned, rec *record) bool {
	if i := r.table.find(rec.KeyHash); i >= 0 {
		return r.table.flags[i]&slotOutside != 0
	}
	_, wanted := d.wanted[r.index][rec.KeyHash]
	return !wanted && !d.inside(r, rec)
}

// leaveOut takes the rows that are outside out of what the scan found of a resource (I11).
func (s *scanner) leaveOut(r *scanned) error {
	t := &r.totals
	for _, part := range []struct {
		of   **spool
		left func(*record)
	}{
		{&r.same, func(*record) { t.Unchanged-- }},
		{&r.claims, func(*record) { t.Unchanged-- }},
		{&r.troubled, func(*record) { t.Invalid-- }},
		{&r.fresh, func(rec *record) { t.WithRow++; r.forgetDuplicate(rec.KeyHash, &r.dupFresh) }},
		{&r.changed, func(rec *record) { t.WithRow++; r.forgetDuplicate(rec.KeyHash, &r.dupChanged) }},
	} {
		rest := newSpool(s.dir, (*part.of).name, s.e.Keys)
		err := (*part.of).each(func(rec *record) error {
			if !s.district.leaves(r, rec) {
				return rest.add(rec)
			}
			t.Outside++
			part.left(rec)
			if _, held := r.heldSource[rec.SourceHash]; held {
				r.heldOutside++
			}
			return nil
		})
		if err := errors.Join(err, (*part.of).close()); err != nil {
			return errors.Join(err, rest.close())
		}
		*part.of = rest
	}
	for i, f := range r.table.flags {
		if f&slotOutside != 0 {
			r.table.flags[i] = f &^ (slotSeen | slotNew)
		}
	}
	return nil
}

// forgetDuplicate takes a natural key that several rows outside have out of the counts.
func (r *scanned) forgetDuplicate(key syncdb.Hash, count *int64) {
	if _, dup := r.dups[key]; dup {
		delete(r.dups, key)
		*count--
	}
}

// beyond reports whether an entry no row of the part has the key of lies outside: its row does, or, without a row, the schools it names, or those its people
// are tied to. An entry nothing is known of is one whose row is gone.
func (s *scanner) beyond(r *scanned, e *syncdb.Entry) bool {
	d := s.district
	if d == nil {
		return false
	}
	if r.table.outside(e.KeyHash) {
		return true
	}
	rec := &record{KeyHash: e.KeyHash, Key: e.Key, Schools: s.schools.of(nil, r.Resource, e.Key, nil)}
	if len(rec.Schools) > 0 {
		return !slices.ContainsFunc(rec.Schools, d.schools.covers)
	}
	in, out := false, false
	d.decisive(r, rec, func(person reference) {
		ties := d.ties[person]
		_, needed := d.needs[person]
		in = in || needed || ties&(rowInside|entryInside) != 0
		out = out || ties&(rowOutside|entryOutside) != 0 || d.outside(person)
	})
	return out && !in
}

// outside reports whether the row of a person is there, and outside.
func (d *district) outside(person reference) bool {
	return slices.ContainsFunc(d.scope.targets[person.Target].Resources, func(j int) bool {
		return d.found[j].table.outside(person.Hash)
	})
}

// outsiders reads the source and tells which natural keys, by resource, have rows that a connection of some schools does not sync. Nothing for a connection
// of every school, which reads nothing. Nothing is written.
func (e *Engine) outsiders(ctx context.Context, o Options, sc *scope, dir *workspace, p *progress) (func(resource int, key syncdb.Hash) bool, error) {
	if o.Schools.All() {
		return func(int, syncdb.Hash) bool { return false }, nil
	}
	s := &scanner{
		e: e, o: o, scope: sc, dir: dir, report: p.scanned, schools: e.schoolNames(syncdb.RunScope{}, o.Schools),
		problems: func([]syncdb.Problem) error { return nil },
	}
	found, err := s.read(ctx)
	if err != nil {
		return nil, err
	}
	tables := make([]*table, len(found))
	for i, r := range found {
		tables[i] = r.table
	}
	closeAll(found)
	return func(resource int, key syncdb.Hash) bool {
		return tables[resource].outside(key)
	}, nil
}

// fileTroubles files the problems of the rows of the part.
func (s *scanner) fileTroubles(found []*scanned) error {
	for _, r := range found {
		err := r.troubles(func(*record) (bool, error) { return true, nil }, s.problems)
		if err != nil {
			return err
		}
	}
	return nil
}
