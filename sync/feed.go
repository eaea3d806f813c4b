package sync

import (
	"encoding/json"
	"fmt"

	"github.com/edfisync/edfisync/schema"
	"github.com/edfisync/edfisync/syncdb"
)

// feeds returns what the step has to work off, in order; none means the step has nothing to do.
func (s *stepRun) feeds() []func() error {
	r := s.r
	var out []func() error
	spooled := func(sp *spool, verb syncdb.Verb) {
		if sp.count > 0 {
			out = append(out, func() error { return s.feedRecords(sp, verb) })
		}
	}
	switch s.st.Verb {
	case syncdb.Create:
		if r.claims.count > 0 {
			out = append(out, s.feedClaims)
		}
		spooled(r.fresh, syncdb.Create)
		if !r.twoPhase() {
			spooled(r.changed, syncdb.Update)
		}
	case syncdb.Update:
		spooled(r.changed, syncdb.Update)
		spooled(s.x.deferred[s.st.Resource], syncdb.Create)
	case syncdb.Delete:
		if r.gone.count > 0 {
			out = append(out, s.feedGone)
		}
	}
	return out
}

// feedRecords hands out the creates or updates of a spool. Rows that cannot be sent get their outcome here: no call is made for them.
func (s *stepRun) feedRecords(sp *spool, verb syncdb.Verb) error {
	if s.rejected == nil && !s.x.o.RetryRejected {
		rejected, err := s.x.e.Ledger.Rejected(s.x.ctx, s.x.e.Connection.ID, s.r.Path)
		if err != nil {
			return fmt.Errorf("read what was refused before: %w", err)
		}
		s.rejected = rejected
	}
	deferred := s.st.Verb == syncdb.Update && verb == syncdb.Create
	var pending []*op // updates whose entries must be looked up
	flush := func() error {
		if len(pending) == 0 {
			return nil
		}
		err := s.feedUpdates(pending)
		pending = pending[:0]
		return err
	}
	err := sp.each(func(rec *record) error {
		o := &op{
			verb: verb, key: rec.KeyHash, record: rec.RecordHash, source: rec.SourceHash, person: rec.PersonHash, known: rec.Known,
			keyText: rec.Key, srcKey: rec.SourceKey, payload: rec.Payload, refs: rec.Refs,
		}
		if deferred {
			return s.add(o) // judged before it was deferred
		}
		if m, ok := s.r.moves[rec.KeyHash]; ok && verb == syncdb.Create {
			o.move(m)
		}
		if _, dup := s.r.dups[rec.KeyHash]; dup {
			s.hold(o, Invalid, "duplicate-natural-key", "another row has the same natural key and a different payload: none of them is sent", "mapping", nil)
			return nil
		}
		if last, ok := s.rejected[rec.SourceHash]; ok && !rec.Known && last == whole(rec.KeyHash, rec.RecordHash) {
			s.mu.Lock()
			s.totals.add(Rejected, true)
			s.keep = append(s.keep, rec.SourceHash)
			s.mu.Unlock()
			return s.saveProblems(500)
		}
		if blocked, own := s.x.blockedBy(s.st.Resource, rec.Refs); blocked != nil {
			if own {
				s.waiting = append(s.waiting, o.detach())
				return nil
			}
			s.blocked(o, blocked)
			return s.saveProblems(500)
		}
		if s.r.twoPhase() {
			o.refs = append([]reference(nil), rec.Refs...)
		} else {
			o.refs = nil
		}
		if err := s.refusedByHost(); err != nil {
			s.mu.Lock()
			s.totals.add(Rejected, true)
			s.problems = append(s.problems, s.refused(o, Rejected.String(), err))
			s.mu.Unlock()
			return s.saveProblems(500)
		}
		if o.planned() || verb == syncdb.Create && !rec.Known {
			return s.add(o)
		}
		pending = append(pending, o.detach())
		if len(pending) >= 500 {
			return flush()
		}
		return nil
	})
	if err != nil {
		return err
	}
	return flush()
}

// move makes a create of a row whose record has another key at the target into what its kind of move asks for.
func (o *op) move(m move) {
	switch {
	case m.how == moveRecreate:
		o.was = &m
		return
	case m.how == moveFollow && !m.changed:
		o.silent = follow
	}
	o.verb, o.edfiID, o.oldKey, o.known = syncdb.Update, m.edfiID, m.old, true
}

// whole stands for a payload with its natural key, which a record hash leaves out.
func whole(key, record syncdb.Hash) syncdb.Hash {
	for i := range key {
		record[i] ^= key[i]
	}
	return record
}

// planned reports whether the natural-key change the op is part of says already what it does.
func (o *op) planned() bool { return o.was != nil || !o.oldKey.IsZero() }

// detach gives the op bytes of its own, for ops that outlive the spool's buffer.
func (o *op) detach() *op {
	o.keyText, o.srcKey, o.payload = clone(o.keyText), clone(o.srcKey), clone(o.payload)
	o.refs = append([]reference(nil), o.refs...)
	return o
}

// feedUpdates looks the entries up by their whole hash: a match of cut hashes alone decides no write (engine.md §1).
func (s *stepRun) feedUpdates(ops []*op) error {
	keys := make([]syncdb.Hash, len(ops))
	for i, o := range ops {
		keys[i] = o.key
	}
	entries, err := s.x.e.Ledger.Lookup(s.x.ctx, s.x.e.Connection.ID, s.r.Path, keys)
	if err != nil {
		return fmt.Errorf("look up entries: %w", err)
	}
	for _, o := range ops {
		entry, ok := entries[o.key]
		o.lastID = entry.EdfiID
		switch {
		case !ok:
			o.verb, o.known = syncdb.Create, false
		case entry.EdfiID != "" && entry.State == syncdb.Unknown && s.r.KeyUpdatable:
			// A PUT that changed its key may have been the call nobody answered: only the id finds the record for sure (I1).
			o.verb, o.edfiID, o.known = syncdb.Update, entry.EdfiID, true
		case entry.State != syncdb.Live || entry.EdfiID == "":
			o.verb, o.known = syncdb.Create, true
		case entry.RecordHash == o.record:
			s.mu.Lock()
			s.totals.add(Unchanged, true)
			s.mu.Unlock()
			continue
		default:
			o.verb, o.edfiID, o.known = syncdb.Update, entry.EdfiID, true
		}
		if err := s.add(o); err != nil {
			return err
		}
	}
	return nil
}

// feedClaims notes unchanged records that another source row now stands for. No call is made.
func (s *stepRun) feedClaims() error {
	var batch []syncdb.Entry
	flush := func() error {
		if len(batch) == 0 {
			return nil
		}
		err := s.x.e.Ledger.Claim(s.x.ctx, s.x.keeper.current(), s.r.Path, batch)
		batch = batch[:0]
		return err
	}
	err := s.r.claims.each(func(rec *record) error {
		batch = append(batch, syncdb.Entry{
			Resource: s.r.Path, KeyHash: rec.KeyHash, SourceHash: rec.SourceHash, PersonHash: rec.PersonHash,
		})
		if len(batch) >= 1000 {
			return flush()
		}
		return nil
	})
	if err == nil {
		err = flush()
	}
	if err != nil {
		return fmt.Errorf("note new source keys: %w", err)
	}
	return nil
}

// feedGone hands out deletes, each with the evidence of I5: the entry is ours and has an id (a), no row had its key (b), the scan was
// complete (c: an incomplete one ends the run), no live row owns its id (d), no safeguard holds it (e), no invalid row stands for it (f,
// the scan left those out), its resource is in the scope (g).
func (s *stepRun) feedGone() error {
	var lost []*op
	err := s.r.gone.each(func(rec *record) error {
		now, moved := s.r.movedFrom[rec.KeyHash]
		if moved && s.r.moves[now].how != moveRecreate {
			return nil // its record moved to another key
		}
		entry := goneEntry(s.r.Path, rec)
		if moved && !s.x.live(s.r, now) {
			// The row is there, its record under the new key is not: what the target has under the old one stays. The row's own problem
			// tells why (I5f).
			s.x.strand(entry.PersonHash)
			s.mu.Lock()
			s.totals.add(Blocked, false)
			s.mu.Unlock()
			return nil
		}
		o := &op{
			verb: syncdb.Delete, key: entry.KeyHash, source: entry.SourceHash, person: entry.PersonHash, edfiID: entry.EdfiID,
			known: true, keyText: entry.Key,
		}
		switch {
		case s.x.ownedByRow(s.r, entry.EdfiID): // I5d: two spellings of one key; the other one stays
			o.silent = release
		case entry.Origin == syncdb.Met: // I9
			s.hold(o, Blocked, "met-existing-gone", "its row is gone from the source, but the record was at the target before our first call: "+
				"we never delete such records, delete it there if nobody else needs it", "target host", nil)
			s.x.strand(entry.PersonHash)
			return s.saveProblems(500)
		case s.held != "":
			s.hold(o, Held, "mass-delete", s.held, "source data", nil)
			s.x.strand(entry.PersonHash)
			return s.saveProblems(500)
		case s.x.unfinished(s.r.Name, entry.PersonHash):
			s.hold(o, Blocked, "person-still-has-records", "it authorises us for a person of whom another record could not be deleted", "us", nil)
			s.x.strand(entry.PersonHash)
			return s.saveProblems(500)
		case entry.EdfiID == "":
			lost = append(lost, o.detach())
			return nil
		}
		return s.add(o)
	})
	if err != nil {
		return err
	}
	return s.settleLost(lost)
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

// unfinished reports whether the record authorises us for a person who still has records that should have been deleted (engine.md §3).
func (x *executor) unfinished(entity string, person syncdb.Hash) bool {
	if person.IsZero() || !authorises(entity) {
		return false
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	_, ok := x.stranded[person]
	return ok
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

// blockedBy returns the first reference of a record that has no live record to point to, nil when all have (I6). own tells that only rows
// of the same step are missing, so it is worth trying again after them. A reference that may point outside the scope is for the target
// to judge.
func (x *executor) blockedBy(resource int, refs []reference) (missing *reference, own bool) {
	for i := range refs {
		t := x.scope.targets[refs[i].Target]
		if !t.Complete {
			continue
		}
		found, self := false, false
		for _, j := range t.Resources {
			r := x.found[j]
			r.mu.Lock()
			found = found || r.table.live(refs[i].Hash)
			r.mu.Unlock()
			self = self || j == resource
		}
		if !found {
			if !self {
				return &refs[i], false
			}
			missing, own = &refs[i], true
		}
	}
	return missing, own
}

// blocked files a row whose reference is missing.
func (s *stepRun) blocked(o *op, ref *reference) {
	entity := s.x.scope.targets[ref.Target].Entity
	missing := map[string]any{"entity": entity}
	if refs, err := s.r.References(s.x.scope.model, o.payload, s.x.o.Rules); err == nil {
		hasher := schema.NewHasher(s.x.e.Keys.HashMAC())
		for _, r := range refs {
			if r.Target == entity && hasher.Sum(r.Key) == ref.Hash {
				missing["path"], missing["naturalKey"] = r.Path, json.RawMessage(r.Key)
			}
		}
	}
	s.hold(o, Blocked, "missing-reference", "the "+entity+" it refers to is not at the target, because it is not in the source or was not sent",
		"source data", missing)
}

// hold files an op that is not sent, with the reason.
func (s *stepRun) hold(o *op, outcome Outcome, code, text, who string, d map[string]any) {
	p := s.problem(o, outcome.String(), code, text, who, nil)
	if d != nil {
		p.BlockedBy = detail(d)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.totals.add(outcome, o.verb != syncdb.Delete)
	s.problems = append(s.problems, p)
}

// retryWaiting tries rows that wait for others of the same step again, as long as a pass makes progress (self-references: the parent
// agency of an agency, engine.md §2).
func (s *stepRun) retryWaiting() error {
	for len(s.waiting) > 0 {
		if err := s.settleOpen(); err != nil {
			return err
		}
		waiting := s.waiting
		s.waiting = nil
		var updates []*op
		for _, o := range waiting {
			if blocked, _ := s.x.blockedBy(s.st.Resource, o.refs); blocked != nil {
				s.waiting = append(s.waiting, o)
				continue
			}
			if o.verb == syncdb.Update && !o.planned() {
				updates = append(updates, o)
				continue
			}
			if err := s.add(o); err != nil {
				return err
			}
		}
		for len(updates) > 0 {
			n := min(500, len(updates))
			if err := s.feedUpdates(updates[:n]); err != nil {
				return err
			}
			updates = updates[n:]
		}
		if len(s.waiting) == len(waiting) {
			break
		}
	}
	for _, o := range s.waiting {
		blocked, _ := s.x.blockedBy(s.st.Resource, o.refs)
		s.blocked(o, blocked)
	}
	s.waiting = nil
	return nil
}

// settleOpen sends the current batch and waits for all answers.
func (s *stepRun) settleOpen() error {
	if err := s.commit(); err != nil {
		return err
	}
	for len(s.open) > 0 {
		s.retire()
	}
	return nil
}

// sendAgain works off creates that follow a PUT answered 404, after all other ops of the step.
func (s *stepRun) sendAgain() error {
	for {
		if err := s.settleOpen(); err != nil {
			return err
		}
		s.mu.Lock()
		again := s.again
		s.again = nil
		s.mu.Unlock()
		if len(again) == 0 {
			return nil
		}
		for _, o := range again {
			if err := s.add(o); err != nil {
				return err
			}
		}
	}
}

// deleteUpwards tries deletes again that other records of the same resource stood against, as long as a pass makes progress: children
// before parents (I6).
func (s *stepRun) deleteUpwards() error {
	for {
		if err := s.settleOpen(); err != nil {
			return err
		}
		s.mu.Lock()
		stopped, deleted := s.stopped, s.totals.Deleted
		s.stopped = nil
		progress := deleted > s.deletedBefore
		s.deletedBefore = deleted
		s.mu.Unlock()
		for _, f := range stopped {
			if !progress {
				s.mu.Lock()
				s.totals.add(Blocked, false)
				s.problems = append(s.problems, s.refused(f.op, Blocked.String(), f.err))
				s.mu.Unlock()
				s.x.strand(f.op.person)
				continue
			}
			if err := s.add(f.op); err != nil {
				return err
			}
		}
		if len(stopped) == 0 || !progress {
			return nil
		}
	}
}

// hostRefusals is how many refusals by the target's host, without a single success, a step takes before it believes them for the rest of
// its rows. They are tried again in the next run: the host may have mended its side (F34, F35).
const hostRefusals = 20

// refusedByHost returns the refusal all rows of the step get, nil when they are to be sent.
func (s *stepRun) refusedByHost() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.accepted > 0 || s.byHost < hostRefusals {
		return nil
	}
	return s.lastByHost
}
