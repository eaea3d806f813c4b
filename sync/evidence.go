package sync

import (
	"errors"
	"slices"

	"github.com/edfisync/edfisync/schema"
	"github.com/edfisync/edfisync/syncdb"
)

// feedGone hands out deletes, each with the evidence of I5: the entry is ours and has an id (a), no row had its key (b), the scan was
// complete (c: an incomplete one ends the run), no live row owns its id (d), no safeguard holds it (e), no invalid row stands for it (f,
// the scan left those out), its resource is in the scope (g).
func (s *stepRun) feedGone() error {
	if err := s.readRejected(); err != nil {
		return err
	}
	hasher, cs := schema.NewHasher(s.x.e.Keys.HashMAC()), s.r.cascades(s.x.scope)
	return s.r.gone.each(func(rec *record) error {
		if !s.x.plan.part.deletes(s.st.Resource, rec.KeyHash) {
			s.x.need(cs.identifying(hasher, rec.Key), place{}) // it stays, so what it refers to does (I6)
			return nil
		}
		now, moved := s.r.movedFrom[rec.KeyHash]
		if s.r.moved(rec.KeyHash) {
			return nil // its record moved to another key
		}
		if _, stays := s.r.stays[rec.KeyHash]; stays {
			return nil // I5f
		}
		entry := s.r.goneEntry(rec)
		o := &op{
			verb: syncdb.Delete, key: entry.KeyHash, source: entry.SourceHash, person: entry.PersonHash, edfiID: entry.EdfiID,
			before: entry.RecordHash, known: true, met: entry.Origin == syncdb.Met, keyText: entry.Key, unsure: entry.State != syncdb.Live,
		}
		if moved && !s.x.live(s.r, now) && s.gate.judge(syncdb.Delete, rec.KeyHash).goes() {
			// The row is there, its record under the new key is not: what the target has under the old one stays. The row's own problem
			// tells why (I5f).
			s.strand(o)
			s.mu.Lock()
			s.totals.add(Blocked, false)
			s.mu.Unlock()
			return nil
		}
		neededBy, needed := s.x.isNeeded(s.st.Resource, o.key)
		unfinished, unsafe := s.x.unfinished(s.r.Name, entry.PersonHash)
		switch {
		case s.x.ownedByRow(s.r, entry.EdfiID): // I5d: two spellings of one key; the other one stays
			o.silent = release
		case o.met && entry.State == syncdb.Missing: // somebody has deleted it, and no row asks for it
			o.silent = release
		case o.met: // I9
			return s.keepBack(o, Blocked, "met-existing-gone", "its row is gone from the source, but the record was at the target before our first call: "+
				"we never delete such records, delete it there if nobody else needs it", "target host", place{})
		case entry.State == syncdb.Missing && s.gate.judge(syncdb.Delete, o.key).refused:
			o.silent = release // what somebody wanted kept is gone: only the ledger forgets it, and what it refers to need not stay for it
		case s.r.neverMade(o.key):
			o.silent = release
			if s.keptBack(o) { // by a reset of the target alone
				return s.saveProblems(500)
			}
			o.verb = syncdb.Create
		case s.keptBack(o):
			s.strand(o)
			return s.saveProblems(500)
		case needed:
			return s.keepBack(o, Blocked, "dependent-kept", "a record that refers to it stays at the target, so it stays too", "us", neededBy)
		case unsafe:
			return s.keepBack(o, Blocked, "person-still-has-records",
				"it authorises us for a person of whom another record could not be deleted", "us", unfinished)
		case entry.EdfiID != "" && len(s.rejected) > 0:
			if still, err := s.stillRefused(o); err != nil || still {
				s.mu.Lock()
				s.totals.add(Rejected, false)
				s.keep = append(s.keep, goneProblem(o.key))
				s.mu.Unlock()
				s.strand(o)
				return errors.Join(err, s.saveProblems(500))
			}
		case entry.EdfiID == "":
			s.refuse(o, Failed, s.r.fates[o.key].err)
			s.strand(o)
			return s.saveProblems(500)
		}
		return s.add(o)
	})
}

// keepBack files a delete that is not made, with the reason, and with what it waits for; what authorises us for its person has to stay too.
func (s *stepRun) keepBack(o *op, outcome Outcome, code, text, who string, by place) error {
	p := s.problem(o, outcome.String(), code, text, who, nil)
	s.x.waitsAt(&p, by)
	s.mu.Lock()
	s.totals.add(outcome, false)
	s.problems = append(s.problems, p)
	s.mu.Unlock()
	s.strand(o)
	return s.saveProblems(500)
}

// ownedByRow reports whether a row of this run, or an entry in use, has the target's id.
func (x *executor) ownedByRow(r *scanned, id string) bool {
	if id == "" {
		return false
	}
	if _, ok := r.usedIDs[id]; ok {
		return true
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	_, ok := x.ids[id]
	return ok
}

// live reports whether the target holds a record with this key now.
func (x *executor) live(r *scanned, key syncdb.Hash) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.table.live(key)
}

// unfinished reports whether the record authorises us for a person who still has records that should have been deleted (engine.md §3), and one of these.
func (x *executor) unfinished(entity string, person syncdb.Hash) (one place, has bool) {
	if person.IsZero() || !authorises(entity) {
		return place{}, false
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	one, has = x.stranded[person]
	return one, has
}

// authorisesItself reports whether a record of the resource gives us the right to the person it refers to: while it is there it can be deleted, whatever
// becomes of other such records.
func (r *scoped) authorisesItself() bool {
	itself := false
	for _, p := range r.Root.Properties {
		associations, person := people[p.Target]
		if p.Kind != schema.Reference || !person {
			continue
		}
		if itself = slices.Contains(associations, r.Name); !itself {
			return false
		}
	}
	return itself
}

func authorises(entity string) bool {
	for _, associations := range people {
		for _, a := range associations {
			if a == entity {
				return true
			}
		}
	}
	return false
}
