package sync

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

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

	otherYear bool // the new key is of another school year: the old record usually stays (F68)
}

type moveKind uint8

const (
	moveRecreate moveKind = iota // create under the new key, delete under the old one
	movePut                      // the resource allows PUT with a new key
	moveFollow                   // only keys of parents changed, and the target cascades them: the ledger follows
)

// maxMoves bounds the memory of joining new and gone rows. Above it key changes of a resource are creates and deletes, which is right too,
// with more calls.
const maxMoves = 200_000

// joinKeys finds rows whose natural key changed: new under one key, gone under another, same source key (engine.md §1). Resources come in load
// order, so that a change of a parent is known before its children are looked at.
func joinKeys(ctx context.Context, s *scope, found []*scanned, hasher *schema.Hasher) error {
	moved := make(map[uint16]map[syncdb.Hash]syncdb.Hash) // target → old key → new key, of moves by PUT and of those that follow
	for i, r := range found {
		if err := ctx.Err(); err != nil {
			return err
		}
		if r.fresh.count == 0 || r.gone.count == 0 || r.gone.count > maxMoves {
			continue
		}
		if err := r.join(s, hasher, moved); err != nil {
			return fmt.Errorf("join new and gone rows of %s: %w", r.Path, err)
		}
		for _, t := range s.entity {
			if !slices.Contains(s.targets[t].Resources, i) {
				continue
			}
			if moved[t] == nil {
				moved[t] = map[syncdb.Hash]syncdb.Hash{}
			}
			for key, m := range r.moves {
				if m.how != moveRecreate {
					moved[t][m.old] = key
				}
			}
		}
	}
	return nil
}

func (r *scanned) join(s *scope, hasher *schema.Hasher, moved map[uint16]map[syncdb.Hash]syncdb.Hash) error {
	type goneRow struct {
		key, record, person syncdb.Hash
		text                []byte
		id                  string
		state               syncdb.State
		origin              syncdb.Origin
	}
	gone := make(map[syncdb.Hash]goneRow, r.gone.count)
	err := r.gone.each(func(rec *record) error {
		e := r.goneEntry(rec)
		if !e.SourceHash.IsZero() && e.EdfiID != "" && e.State != syncdb.Missing {
			gone[e.SourceHash] = goneRow{e.KeyHash, e.RecordHash, e.PersonHash, e.Key, e.EdfiID, e.State, e.Origin}
		}
		return nil
	})
	if err != nil || len(gone) == 0 {
		return err
	}
	cascades := r.cascades(s)
	return r.fresh.each(func(rec *record) error {
		g, ok := gone[rec.SourceHash]
		_, dup := r.dups[rec.KeyHash]
		if !ok || rec.Known || dup {
			return nil
		}
		delete(gone, rec.SourceHash) // a source key that is given twice moves one record only
		m := move{old: g.key, edfiID: g.id, origin: g.origin, record: g.record, changed: g.state != syncdb.Live || g.record != rec.RecordHash}
		follows, err := cascades.explain(g.text, rec.Key, hasher, moved)
		switch {
		case err != nil:
			return err
		case r.otherYear(g.text, rec.Key):
			// F68: last year's records are not turned into this year's; the safeguards hold their deletion for a person.
			r.rollover++
			m.otherYear = true
		case follows:
			m.how = moveFollow
		case authorises(r.Name) && g.person != rec.PersonHash:
			// Moving an enrolment to another person by PUT would take away the right to delete what the first one still has.
		case r.KeyUpdatable:
			m.how = movePut
		}
		if r.moves == nil {
			r.moves, r.movedFrom = map[syncdb.Hash]move{}, map[syncdb.Hash]syncdb.Hash{}
		}
		r.moves[rec.KeyHash] = m
		r.movedFrom[g.key] = rec.KeyHash
		return nil
	})
}

// otherYear reports whether two natural keys of the resource are of different school years.
func (r *scanned) otherYear(before, after []byte) bool {
	var b, a []json.RawMessage
	if json.Unmarshal(before, &b) != nil || json.Unmarshal(after, &a) != nil || len(a) != len(b) || len(a) != len(r.Key) {
		return false // explain has said what is wrong with them
	}
	for i, part := range r.Key {
		if part.Kind == schema.Integer && strings.HasSuffix(strings.ToLower(part.Name), "schoolyear") && !bytes.Equal(a[i], b[i]) {
			return true
		}
	}
	return false
}

// cascade tells which parts of a resource's key come from one identifying reference.
type cascade struct {
	target uint16
	parts  []int // for each part of the target's key, in its order: the index of the part in our key
}

type cascades []cascade

// cascades lists the identifying references of a resource whose targets are in the scope.
func (r *scanned) cascades(s *scope) cascades {
	partOf := map[string]int{}
	for i, p := range r.Key {
		for _, path := range p.Paths {
			partOf[path] = i
		}
	}
	var out cascades
	for _, p := range r.Root.Properties {
		t, ok := s.entity[p.Target]
		if p.Kind != schema.Reference || !ok {
			continue
		}
		c := cascade{target: t}
		identifying := true
		for _, part := range p.Parts { // sorted by part: the target's key order
			i, in := partOf[p.Name+"."+part.Leaf]
			identifying = identifying && in
			c.parts = append(c.parts, i)
		}
		if identifying {
			out = append(out, c)
		}
	}
	return out
}

// explain reports whether every difference between two natural keys comes from parents that moved in this plan: then the target re-keys the
// record itself when it re-keys the parent.
func (cs cascades) explain(before, after []byte, hasher *schema.Hasher, moved map[uint16]map[syncdb.Hash]syncdb.Hash) (bool, error) {
	var b, a []json.RawMessage
	if err := json.Unmarshal(before, &b); err != nil {
		return false, fmt.Errorf("read the old key: %w", err)
	}
	if err := json.Unmarshal(after, &a); err != nil {
		return false, fmt.Errorf("read the new key: %w", err)
	}
	if len(a) != len(b) {
		return false, nil
	}
	explained := make([]bool, len(a))
	for i := range a {
		explained[i] = bytes.Equal(a[i], b[i])
	}
	for _, c := range cs {
		if now, ok := moved[c.target][hasher.Sum(c.key(b))]; ok && now == hasher.Sum(c.key(a)) {
			for _, i := range c.parts {
				explained[i] = true
			}
		}
	}
	return !slices.Contains(explained, false), nil
}

// key is the canonical key of the reference's target, made of our own key's values.
func (c cascade) key(values []json.RawMessage) []byte {
	out := []byte{'['}
	for i, part := range c.parts {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(out, values[part]...)
	}
	return append(out, ']')
}
