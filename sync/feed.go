package sync

import (
	"fmt"

	"github.com/edfisync/edfisync/internal/failpoint"
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

// idle reports whether a step has nothing to feed, now that all it waits for are done.
func (x *executor) idle(st step) bool {
	r := x.found[st.Resource]
	switch st.Verb {
	case syncdb.Create:
		return r.claims.count == 0 && r.fresh.count == 0 && (r.twoPhase() || r.changed.count == 0)
	case syncdb.Update:
		return r.changed.count == 0 && x.deferred[st.Resource].count == 0
	default:
		return r.gone.count == 0
	}
}

// feedRecords hands out the creates or updates of a spool. Rows that cannot be sent get their outcome here: no call is made for them.
func (s *stepRun) feedRecords(sp *spool, verb syncdb.Verb) error {
	if err := s.readRejected(); err != nil {
		return err
	}
	deferred := s.st.Verb == syncdb.Update && verb == syncdb.Create
	var pending []*op // updates whose entries must be looked up
	flush := func() error {
		if len(pending) == 0 {
			return nil
		}
		feed := s.feedUpdates
		if deferred {
			feed = s.feedDeferred
		}
		err := feed(pending)
		pending = pending[:0]
		return err
	}
	hasher := schema.NewHasher(s.x.e.Keys.HashMAC())
	err := sp.each(func(rec *record) error {
		if !s.x.plan.part.writes(s.st.Resource, rec.KeyHash) {
			return nil // it is counted already
		}
		o := &op{
			verb: verb, key: rec.KeyHash, record: rec.RecordHash, source: rec.SourceHash, person: rec.PersonHash, known: rec.Known,
			keyText: rec.Key, srcKey: rec.SourceKey, payload: rec.Payload, refs: rec.Refs,
		}
		if deferred { // judged before
			if !o.known {
				return s.add(o)
			}
			pending = append(pending, o.detach())
			if len(pending) >= 500 {
				return flush()
			}
			return nil
		}
		if m, ok := s.r.moves[rec.KeyHash]; ok && verb == syncdb.Create {
			o.move(m)
		}
		unsent := func() error {
			s.x.unsent(s.r, rec.Refs, rec.KeyHash, o.isNew())
			return s.saveProblems(500)
		}
		if s.r.keysStay && !o.oldKey.IsZero() {
			s.hold(o, Blocked, "unsettled-below", "its natural key changes, and a record whose key contains it could not be looked up: whether the "+
				"target has that one is not known", byHost, nil)
			return unsent()
		}
		if _, waits := s.r.waits[rec.KeyHash]; waits {
			doubt := "another record had its natural key before, and one below that could not be read: whether it still has that key in its own is not known"
			if rec.Known {
				doubt = "a call without an answer may have changed the natural key of the record, and it could not be read: whether another row's record has it is not known"
			}
			s.hold(o, Blocked, "unsettled-below", doubt, byHost, nil)
			return unsent()
		}
		if _, dup := s.r.dups[rec.KeyHash]; dup {
			s.hold(o, Invalid, "duplicate-natural-key", "another row has the same natural key and a different payload: what the target has under that key stays as it is", "mapping", nil)
			return unsent()
		}
		if last, ok := s.rejected[rec.SourceHash]; ok && !rec.Known && s.waits(rec, last) {
			s.mu.Lock()
			s.totals.add(Rejected, true)
			s.keep = append(s.keep, rec.SourceHash)
			s.mu.Unlock()
			return unsent()
		}
		if s.keptBack(o) { // before what it refers to is looked at: that may be kept back with it, and then nobody is to act on the row
			return unsent()
		}
		if verb == syncdb.Create {
			if ref := s.x.scope.ambiguousIn(s.x.found, rec.Refs); ref != nil {
				s.blocked(o, ref)
				return unsent()
			}
		}
		if blocked, own := s.x.blockedBy(s.st.Resource, rec.Refs); blocked != nil {
			if own {
				s.waiting = append(s.waiting, o.detach())
				return nil
			}
			s.blocked(o, blocked)
			return unsent()
		}
		if ref := s.x.scope.adrift(s.x.found, s.r.Resource, hasher, s.x.o.Rules, rec.Refs, rec.Payload); ref != nil {
			s.blocked(o, ref)
			return unsent()
		}
		if s.r.twoPhase() {
			o.refs = append([]reference(nil), rec.Refs...)
		} else {
			o.refs = nil
		}
		if err := s.refusedByHost(); err != nil {
			s.refuse(o, Rejected, err)
			return unsent()
		}
		if !o.needsEntry() {
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

// readRejected reads what the target refused before, unless somebody asks for it.
func (s *stepRun) readRejected() error {
	if s.rejected != nil || s.x.o.RetryRejected {
		return nil
	}
	rejected, err := s.x.e.Ledger.Rejected(s.x.ctx, s.x.e.Connection.ID, s.r.Path)
	if err != nil {
		return fmt.Errorf("read what was refused before: %w", err)
	}
	s.rejected = rejected
	return nil
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
	o.verb, o.edfiID, o.oldKey, o.before, o.known = syncdb.Update, m.edfiID, m.old, m.record, true
}

// whole stands for a payload with its natural key, which a record hash leaves out.
func whole(key, record syncdb.Hash) syncdb.Hash {
	for i := range key {
		record[i] ^= key[i]
	}
	return record
}

// needsEntry reports whether the ledger's entry decides what the op does: not for a first create, nor for a natural-key change, which says so
// already.
func (o *op) needsEntry() bool {
	return (o.known || o.verb != syncdb.Create) && o.was == nil && o.oldKey.IsZero()
}

// isNew reports whether the target has no record of the op's row yet.
func (o *op) isNew() bool { return o.verb == syncdb.Create && !o.known && o.was == nil }

// detach gives the op bytes of its own, for ops that outlive the spool's buffer.
func (o *op) detach() *op {
	o.keyText, o.srcKey, o.payload = clone(o.keyText), clone(o.srcKey), clone(o.payload)
	o.refs = append([]reference(nil), o.refs...)
	return o
}

// lookUp gives ops what the ledger knows of their records before the call, and returns the entries.
func (s *stepRun) lookUp(ops []*op) (map[syncdb.Hash]syncdb.Entry, error) {
	keys := make([]syncdb.Hash, len(ops))
	for i, o := range ops {
		keys[i] = o.key
	}
	entries, err := s.x.e.Ledger.Lookup(s.x.ctx, s.x.e.Connection.ID, s.r.Path, keys)
	if err != nil {
		return nil, fmt.Errorf("look up entries: %w", err)
	}
	for _, o := range ops {
		o.lastID, o.met = entries[o.key].EdfiID, entries[o.key].Origin == syncdb.Met
	}
	return entries, nil
}

// feedDeferred hands out creates again that have an entry: whose record they meet shows in its id (I9).
func (s *stepRun) feedDeferred(ops []*op) error {
	if _, err := s.lookUp(ops); err != nil {
		return err
	}
	for _, o := range ops {
		if err := s.add(o); err != nil {
			return err
		}
	}
	return nil
}

// feedUpdates looks the entries up by their whole hash: a match of cut hashes alone decides no write (engine.md §1).
func (s *stepRun) feedUpdates(ops []*op) error {
	entries, err := s.lookUp(ops)
	if err != nil {
		return err
	}
	for _, o := range ops {
		entry, ok := entries[o.key]
		switch {
		case !ok:
			o.verb, o.known = syncdb.Create, false
		case entry.EdfiID != "" && entry.State == syncdb.Unknown && s.r.KeyUpdatable:
			// A PUT that changed its key may have been the call nobody answered: only the id finds the record for sure (I1).
			o.verb, o.edfiID, o.known, o.unsure = syncdb.Update, entry.EdfiID, true, true
		case entry.State != syncdb.Live || entry.EdfiID == "":
			o.verb, o.known = syncdb.Create, true
		case entry.RecordHash == o.record:
			s.mu.Lock()
			s.totals.add(Unchanged, true)
			s.mu.Unlock()
			continue
		default:
			o.verb, o.edfiID, o.before, o.known = syncdb.Update, entry.EdfiID, entry.RecordHash, true
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
		failpoint.Reach(failpoint.ClaimBefore, s.r.Path, "")
		err := s.x.e.Ledger.Claim(s.x.ctx, s.x.keeper.current(), s.r.Path, batch)
		failpoint.Reach(failpoint.ClaimAfter, s.r.Path, "")
		batch = batch[:0]
		return err
	}
	err := s.r.claims.each(func(rec *record) error {
		if !s.x.plan.part.writes(s.st.Resource, rec.KeyHash) {
			return nil
		}
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

// ambiguousIn returns the first reference to a natural key that rows with different payloads share, nil when there is none. A row that is new
// under such a key waits: one of the rows has a wrong key, and what refers to it would move to another's record (I5). What the target
// has under the key already goes on.
func (s *scope) ambiguousIn(found []*scanned, refs []reference) *reference {
	for i := range refs {
		for _, j := range s.targets[refs[i].Target].Resources {
			if _, dup := found[j].dups[refs[i].Hash]; dup {
				return &refs[i]
			}
		}
	}
	return nil
}

func (x *executor) ambiguous(ref *reference) bool {
	return x.scope.ambiguousIn(x.found, []reference{*ref}) != nil
}

// hold files an op that is not sent, with the reason.
func (s *stepRun) hold(o *op, outcome Outcome, code, text, who string, d map[string]any) {
	var rules map[string]any
	if outcome == Invalid { // its row says why as those do that break a rule of the model
		rules = map[string]any{"problems": ruleOf(code, text)}
	}
	p := s.problem(o, outcome.String(), code, text, who, rules)
	if d != nil {
		p.BlockedBy = detail(d)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.totals.add(outcome, o.verb != syncdb.Delete)
	s.problems = append(s.problems, p)
}
