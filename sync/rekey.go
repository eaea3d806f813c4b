package sync

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/edfisync/edfisync/schema"
	"github.com/edfisync/edfisync/syncdb"
)

// move is one natural-key change: a source row had an entry under another key before.
type move struct {
	old     syncdb.Hash
	edfiID  string
	origin  syncdb.Origin
	how     moveKind
	changed bool        // the rest of the record differs too
	record  syncdb.Hash // what the entry under the old key has
	becomes syncdb.Hash // what the row has now

	kept      bool // the old entry is one an invalid row stands for
	otherYear bool // the new key is of another school year: the old record usually stays (F68)
}

type moveKind uint8

const (
	moveRecreate moveKind = iota // create under the new key, delete under the old one
	movePut                      // the resource allows PUT with a new key
	moveFollow                   // only keys of parents changed, and the target cascades them: the ledger follows
)

// renames are natural keys that change at the target in this run: canonical key after it, by the hash of the one before.
type renames map[syncdb.Hash][]byte

// joinKeys finds rows whose natural key changed: new under one key, gone under another (engine.md §1). Resources come in load order, so that a
// change of a parent is known before its children are looked at. With more than most gone entries a resource is joined without its keys (joinMany).
func joinKeys(ctx context.Context, s *scope, found []*scanned, hasher *schema.Hasher, tied tiedParts, most int64) error {
	moved := map[uint16]renames{} // by target: PUTs, and what the target does with them
	blind := map[uint16]bool{}    // targets of which the target changes keys that are not in moved: there are too many
	s.drift = drift{}
	for i, r := range found {
		if err := ctx.Err(); err != nil {
			return err
		}
		n := r.gone.count + r.kept.count
		if n == 0 || r.fresh.count == 0 && len(moved) == 0 {
			continue
		}
		unclear, err := r.stayBelow(r.cascades(s), blind)
		if err != nil {
			return fmt.Errorf("look through what is gone of %s: %w", r.Path, err)
		}
		var renamed renames
		if n <= most {
			renamed, err = r.join(s, hasher, moved, tied)
		} else {
			var follow bool
			follow, err = r.joinMany(r.cascades(s), hasher, moved)
			unclear = unclear || follow
		}
		if err != nil {
			return fmt.Errorf("join new and gone rows of %s: %w", r.Path, err)
		}
		for _, t := range s.entity {
			if !slices.Contains(s.targets[t].Resources, i) {
				continue
			}
			if moved[t] == nil {
				moved[t] = renames{}
			}
			maps.Copy(moved[t], renamed)
			s.drift.lose(t, r, renamed)
			blind[t] = blind[t] || unclear
		}
	}
	s.drift.spread(s, found)
	return nil
}

// goneRow is an entry no row has the key of.
type goneRow struct {
	key, record, source, person syncdb.Hash
	text                        []byte
	id                          string
	state                       syncdb.State
	origin                      syncdb.Origin
	kept                        bool   // an invalid row stands for it
	follows                     []byte // the key its record gets with its parents in this run; nil = it keeps its own
}

// join pairs fresh rows with gone entries. A row gets the record that will have its key once parents are re-keyed, whatever row that was made for: at
// the target no other record can have the key. Without such a record it gets the one it was before, by its source key. renamed are all keys
// that change by that, of records without a row too.
func (r *scanned) join(s *scope, hasher *schema.Hasher, moved map[uint16]renames, tied tiedParts) (renamed renames, err error) {
	bySource, byKey, err := r.goneRows(r.cascades(s), hasher, moved)
	if err != nil {
		return nil, err
	}
	renamed = renames{}
	for _, g := range byKey {
		renamed[g.key] = g.follows
	}
	err = r.fresh.each(func(rec *record) error {
		g, follows := byKey[rec.KeyHash]
		before, had := bySource[rec.SourceHash]
		if _, dup := r.dups[rec.KeyHash]; rec.Known || dup || !follows && !had {
			return nil
		}
		if had { // a source key that is given twice moves one record only; and all the row was before stays until it is there (I5f)
			delete(bySource, rec.SourceHash)
			for _, b := range before {
				r.noteMove(b.key, rec.KeyHash)
			}
		}
		if !follows {
			g = before[len(before)-1]
		}
		m := move{
			old: g.key, edfiID: g.id, origin: g.origin, record: g.record, becomes: rec.RecordHash,
			changed: g.state != syncdb.Live || g.record != rec.RecordHash, kept: g.kept,
		}
		switch {
		case r.otherYear(g.text, rec.Key):
			// F68: last year's records are not turned into this year's; the safeguards hold their deletion for a person.
			r.rollover++
			m.otherYear = true
		case follows:
			m.how = moveFollow
		case authorises(r.Name) && g.person != rec.PersonHash:
			// Moving an enrolment to another person by PUT would take away the right to delete what the first one still has.
		case r.KeyUpdatable && !tied.changed(r.Resource, g.text, rec.Key):
			m.how = movePut
			renamed[g.key] = clone(rec.Key)
		}
		r.noteMove(g.key, rec.KeyHash)
		r.moves[rec.KeyHash] = m
		if m.how != moveRecreate {
			r.usedIDs[m.edfiID] = struct{}{} // I5d: it is the row's now, whatever other entry has it
		}
		return nil
	})
	return renamed, err
}

// goneRows lists the gone entries whose record can get another key: by the row they were made for, which may have more than one when a delete did not
// go through, and by the key their record gets with its parents.
func (r *scanned) goneRows(cs cascades, hasher *schema.Hasher, moved map[uint16]renames) (bySource map[syncdb.Hash][]goneRow, byKey map[syncdb.Hash]goneRow, err error) {
	bySource, byKey = map[syncdb.Hash][]goneRow{}, map[syncdb.Hash]goneRow{}
	take := func(kept bool) func(*record) error {
		return func(rec *record) error {
			e := r.goneEntry(rec)
			if _, used := r.usedIDs[e.EdfiID]; used || e.EdfiID == "" || e.State == syncdb.Missing || r.table.outside(rec.KeyHash) {
				return nil
			}
			g := goneRow{e.KeyHash, e.RecordHash, e.SourceHash, e.PersonHash, e.Key, e.EdfiID, e.State, e.Origin, kept, nil}
			if g.follows, err = cs.follow(g.text, hasher, moved); err != nil {
				return err
			}
			wanted := false
			if g.follows != nil {
				now := hasher.Sum(g.follows)
				byKey[now], wanted = g, r.asksFor(now)
				if _, held := r.heldKey[now]; held && !kept {
					r.stay(g.key)
					r.keep(cs, hasher, g.follows, now)
				}
			}
			if !kept && !wanted && !g.source.IsZero() {
				bySource[g.source] = append(bySource[g.source], g)
			}
			return nil
		}
	}
	if err = r.gone.each(take(false)); err == nil {
		err = r.kept.each(take(true))
	}
	return bySource, byKey, err
}

// stay notes that a gone entry is not deleted.
func (r *scanned) stay(key syncdb.Hash) {
	if r.stays == nil {
		r.stays = map[syncdb.Hash]struct{}{}
	}
	r.stays[key] = struct{}{}
}

// asksFor reports whether a row that can be sent has a natural key the ledger has no entry of.
func (r *scanned) asksFor(key syncdb.Hash) bool {
	i := r.table.find(key)
	_, dup := r.dups[key]
	return i >= 0 && r.table.flags[i]&(slotNew|slotEntry) == slotNew && !dup
}

// noteMove notes that the row which an old key was of has a new one.
func (r *scanned) noteMove(old, now syncdb.Hash) {
	if r.moves == nil {
		r.moves, r.movedFrom = map[syncdb.Hash]move{}, map[syncdb.Hash]syncdb.Hash{}
	}
	r.movedFrom[old] = now
}

// instead stands for what the row of a gone record asks for now, under its new natural key; zero when no row of the record is known, or the record
// usually stays beside the new one (F68).
func (r *scanned) instead(key syncdb.Hash) syncdb.Hash {
	now := r.movedFrom[key]
	m, ok := r.moves[now]
	if !ok || m.otherYear {
		return syncdb.Hash{}
	}
	return whole(now, m.becomes)
}

// otherYear reports whether two natural keys of the resource are of different school years.
func (r *scanned) otherYear(before, after []byte) bool {
	return differentYears(r.schoolYears(before), r.schoolYears(after))
}

// lineage tells which parts of a resource's key come from one identifying reference.
type lineage struct {
	name   string // of the reference
	entity string
	parts  []int // for each part of the target's key, in its order: the index of the part in our key
}

// lineages lists the identifying references of a resource.
func lineages(r *schema.Resource) []lineage {
	partOf := map[string]int{}
	for i, p := range r.Key {
		for _, path := range p.Paths {
			partOf[path] = i
		}
	}
	var out []lineage
	for _, p := range r.Root.Properties {
		if p.Kind != schema.Reference {
			continue
		}
		l := lineage{name: p.Name, entity: p.Target}
		identifying := true
		for _, part := range p.Parts { // sorted by part: the target's key order
			i, in := partOf[p.Name+"."+part.Leaf]
			identifying = identifying && in
			l.parts = append(l.parts, i)
		}
		if identifying && len(l.parts) > 0 {
			out = append(out, l)
		}
	}
	return out
}

// cascade is an identifying reference to what the scope has.
type cascade struct {
	lineage
	target uint16
}

type cascades []cascade

// cascades lists the identifying references of a resource whose targets are in the scope.
func (r *scanned) cascades(s *scope) cascades {
	var out cascades
	for _, l := range lineages(r.Resource) {
		if t, ok := s.entity[l.entity]; ok {
			out = append(out, cascade{lineage: l, target: t})
		}
	}
	return out
}

// identifying returns the references a natural key contains to records of the scope; none when the key cannot be read.
func (cs cascades) identifying(hasher *schema.Hasher, key []byte) []reference {
	if len(cs) == 0 {
		return nil
	}
	values, err := keyValues(key)
	if err != nil {
		return nil // the target itself will not delete what something refers to
	}
	var out []reference
	for _, c := range cs {
		if slices.Max(c.parts) < len(values) {
			out = append(out, reference{Target: c.target, Hash: hasher.Sum(c.key(values))})
		}
	}
	return out
}

// follow returns the natural key a record gets when the target re-keys its parents; nil when it keeps its own.
func (cs cascades) follow(before []byte, hasher *schema.Hasher, moved map[uint16]renames) ([]byte, error) {
	if !slices.ContainsFunc(cs, func(c cascade) bool { return len(moved[c.target]) > 0 }) {
		return nil, nil
	}
	values, err := keyValues(before)
	if err != nil {
		return nil, err
	}
	now, changed := slices.Clone(values), false
	for _, c := range cs {
		parent, ok := moved[c.target][hasher.Sum(c.key(values))]
		if !ok {
			continue
		}
		parts, err := keyValues(parent)
		if err != nil || len(parts) != len(c.parts) {
			return nil, err
		}
		for i, part := range c.parts {
			if !bytes.Equal(now[part], parts[i]) {
				now[part], changed = parts[i], true
			}
		}
	}
	if !changed {
		return nil, nil
	}
	return joinValues(now), nil
}

// keyValues takes a canonical natural key apart, joinValues puts one together.
func keyValues(key []byte) ([]json.RawMessage, error) {
	if values := scalars(key); values != nil {
		return values, nil
	}
	var values []json.RawMessage
	if err := json.Unmarshal(key, &values); err != nil {
		return nil, fmt.Errorf("read a natural key: %w", err)
	}
	return values, nil
}

// scalars takes a canonical array apart that holds no arrays and objects, as natural keys do; nil for anything else. The values alias the key.
func scalars(key []byte) []json.RawMessage {
	if len(key) < 3 || key[0] != '[' || key[len(key)-1] != ']' {
		return nil
	}
	values := make([]json.RawMessage, 0, 1+bytes.Count(key, []byte{','}))
	for at := 1; at < len(key); {
		end := at
		switch c := key[at]; {
		case c == '"':
			for end++; end < len(key) && key[end] != '"'; end++ {
				if key[end] == '\\' {
					end++
				}
			}
			end++
		case c >= '0' && c <= '9', c == '-', c == 't', c == 'f', c == 'n':
			for end < len(key) && key[end] != ',' && key[end] != ']' {
				end++
			}
		}
		if end == at || end >= len(key) || key[end] != ',' && (key[end] != ']' || end != len(key)-1) {
			return nil
		}
		values = append(values, key[at:end:end])
		at = end + 1
	}
	return values
}

func joinValues(values []json.RawMessage) []byte {
	out := []byte{'['}
	for i, v := range values {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(out, v...)
	}
	return append(out, ']')
}

// key is the canonical key of the reference's target, made of our own key's values.
func (l lineage) key(values []json.RawMessage) []byte { return l.appendKey(nil, values) }

func (l lineage) appendKey(dst []byte, values []json.RawMessage) []byte {
	dst = append(dst, '[')
	for i, part := range l.parts {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, values[part]...)
	}
	return append(dst, ']')
}
