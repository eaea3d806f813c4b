package sync

import (
	"fmt"
	"slices"

	"github.com/edfisync/edfisync/edfi"
	"github.com/edfisync/edfisync/syncdb"
)

// What hangs on rows that a run does not send. A record may refer to another outside its natural key, and only its row tells: as long as the row is
// not sent, the target's record keeps what it had. And people are authorised through associations: as long as the row of one is not sent, nothing of
// its person can be.

// place is where the record of a row, or of an entry without one, is filed when it is not in sync: what others wait for.
type place struct {
	resource string
	key      syncdb.Hash
}

// unsendable are the rows that broke a rule, as far as others hang on them. It grows with what they name, not with their number.
type unsendable struct {
	says  map[reference]place // what they refer to outside their natural keys
	gives map[reference]place // people they would give us the right to
}

// unsendable notes what hangs on a row that breaks a rule.
func (m *mapper) unsendable(i int, row [][]byte) {
	if !m.res.hangs {
		return
	}
	m.refs = m.q.Template.References(m.q.Values(row), m.refs[:0])
	for _, ref := range m.refs {
		target, ok := m.s.scope.entity[ref.Target]
		if !ok {
			continue
		}
		r, to, at := m.res, reference{Target: target, Hash: m.hasher.Sum(ref.Key)}, place{m.res.Path, m.keys[i]}
		r.mu.Lock()
		if slices.Contains(people[ref.Target], r.Name) {
			r.unsendable.gives[to] = at
		}
		if !r.identifies(ref.Path) {
			r.unsendable.says[to] = at
		}
		r.mu.Unlock()
	}
}

// hangsOn reports whether anything can hang on rows of a resource that are not sent.
func (s *scope) hangsOn(r *scoped) bool {
	hangs := authorises(r.Name)
	eachOutside(r.Resource, func(entity string) {
		_, in := s.entity[entity]
		hangs = hangs || in
	})
	return hangs
}

// unsent notes what hangs on a row that this run does not send, or that the target did not take. A row of which the target has nothing yet refers
// to nothing.
func (x *executor) unsent(r *scanned, refs []reference, key syncdb.Hash, isNew bool) {
	at := place{r.Path, key}
	for _, ref := range refs {
		if slices.Contains(people[x.scope.targets[ref.Target].Entity], r.Name) {
			x.mu.Lock()
			x.gives[ref] = at
			x.mu.Unlock()
		}
	}
	if !isNew {
		x.standAgainst(refs, at)
	}
}

// standAgainst notes that the record of a row may stand against the delete of those that had other natural keys before the ones the row refers to, and
// whose rows have new records: the target's copy may say the old key still. Whether it does the row does not tell, only the target's answer to the
// delete: so that is made, and a refusal is this row's doing.
func (x *executor) standAgainst(refs []reference, at place) {
	for _, ref := range refs {
		for _, j := range x.scope.targets[ref.Target].Resources {
			for _, key := range x.formerOf(j)[cut8(ref.Hash)] {
				x.mu.Lock()
				x.against[place{x.found[j].Path, key}] = at
				x.mu.Unlock()
			}
		}
	}
}

// blameUnsent finds out whether a delete was refused for what refers to the record because the row of that was not sent.
func (s *stepRun) blameUnsent(o *op, e *edfi.Error) (at place, is bool) {
	if e.Code != "dependent-exists" || o.verb != syncdb.Delete {
		return place{}, false
	}
	s.x.mu.Lock()
	defer s.x.mu.Unlock()
	at, is = s.x.against[place{s.r.Path, o.key}]
	return at, is
}

// formerOf returns the natural keys that records to be deleted have, by the cut hash of the key under which their row has a record now.
func (x *executor) formerOf(resource int) map[uint64][]syncdb.Hash {
	r := x.found[resource]
	if r.gone.count == 0 {
		return nil
	}
	x.formerMu.Lock()
	defer x.formerMu.Unlock()
	if x.former == nil {
		x.former = make([]map[uint64][]syncdb.Hash, len(x.found))
	}
	if x.former[resource] == nil {
		former, err := r.former(x.o.limits.moves)
		if err != nil {
			x.stop(fmt.Errorf("look for what %s had as keys before: %w", r.Path, err))
		}
		x.former[resource] = former
	}
	return x.former[resource]
}

// former finds, for the gone entries whose source row is there under another natural key, what that is: a change of this run, or of an earlier one whose
// delete did not come about. Above so many gone entries as a run joins with their rows it looks for none: the target itself will not delete what something refers to.
func (r *scanned) former(most int64) (map[uint64][]syncdb.Hash, error) {
	out, bySource := map[uint64][]syncdb.Hash{}, map[uint32][]syncdb.Hash{}
	if r.gone.count > most {
		return out, nil
	}
	err := r.gone.each(func(rec *record) error {
		now, moved := r.movedFrom[rec.KeyHash]
		switch {
		case r.moved(rec.KeyHash):
		case moved:
			out[cut8(now)] = append(out[cut8(now)], rec.KeyHash)
		case !rec.SourceHash.IsZero():
			bySource[cut4(rec.SourceHash)] = append(bySource[cut4(rec.SourceHash)], rec.KeyHash)
		}
		return nil
	})
	if err != nil || len(bySource) == 0 {
		return out, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, flags := range r.table.flags {
		if flags&slotSeen != 0 {
			if keys := bySource[r.table.srcs[i]]; keys != nil {
				out[r.table.keys[i]] = append(out[r.table.keys[i]], keys...)
			}
		}
	}
	return out, nil
}

// waitsAt notes that a problem waits for what is filed at another place.
func (x *executor) waitsAt(p *syncdb.Problem, at place) {
	if at.resource == "" {
		return
	}
	b := blocker{}
	for _, r := range x.found {
		if r.Path == at.resource {
			b.Entity = r.Name
		}
	}
	waitsFor(p, b, at.resource, at.key)
}
