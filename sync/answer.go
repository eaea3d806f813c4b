package sync

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/edfisync/edfisync/edfi"
	"github.com/edfisync/edfisync/internal/failpoint"
	"github.com/edfisync/edfisync/syncdb"
)

// call makes one call and files its answer. It runs in a worker.
func (s *stepRun) call(o *op) {
	defer o.batch.left.Done()
	defer s.x.budget.poke()
	var (
		answer edfi.Answer
		err    error
	)
	over := s.x.ctx.Err() != nil
	if !over {
		failpoint.Reach(failpoint.CallBefore, s.r.Path, method(o.verb))
		answer, err = s.send(o)
		failpoint.Reach(failpoint.CallAfter, s.r.Path, method(o.verb))
		over = s.x.ctx.Err() != nil && neverSent(err)
	}
	if over { // the run ended before the call left: the intent is closed, nothing changed, the row was not reached
		s.mu.Lock()
		s.results = append(s.results, syncdb.Result{Op: o.id})
		s.mu.Unlock()
		return
	}
	r := judge(o.verb, s.r.twoPhase() && s.st.Verb == syncdb.Create, err)
	if r.outcome == Rejected && s.respelled(o, err) {
		r = ruling{next: nextCreate}
	}
	if r = o.refine(r, err); r.outcome == Blocked && s.takenByOther(o, err) {
		r = ruling{next: nextTake}
	}
	if o.lack = s.lacks(o, err); o.lack.final(o, s.r) && r.outcome == Blocked {
		r.outcome = Rejected
	}
	if o.silent != notSilent {
		r = o.silent.ruling()
	}
	if o.loosens && r.next != nextStop {
		r.next = nextNothing // the delete tells what becomes of the record
	}
	result := syncdb.Result{Op: o.id, Effect: r.effect}
	if r.effect == syncdb.EffectLive {
		result.EdfiID = answer.ID
		if o.verb == syncdb.Create && (!o.known || answer.Created && !answer.Repeated) {
			result.Origin = syncdb.Created // I4: of an entry, too: what stood there before us is gone, and this one is ours
		}
	}
	met := err == nil && o.verb == syncdb.Create && o.silent == notSilent && !answer.Created
	if met {
		s.x.mu.Lock()
		s.x.ids[answer.ID] = struct{}{}
		s.x.mu.Unlock()
		r.outcome = Updated
		switch {
		case o.was != nil && o.was.edfiID == answer.ID:
			// The target had re-keyed our own record already: it stays what it was.
			result.Origin, met = o.was.origin, false
		case !o.known && s.r.unseenIDs.origin(answer.ID) != 0:
			// So it had, and the row was made again under another source key.
			result.Origin, met = s.r.unseenIDs.origin(answer.ID), false
		case !o.known && s.originAdrift(answer.ID) != 0:
			// So it had, and another row still says the old key.
			result.Origin, met = s.originAdrift(answer.ID), false
		case o.lastID != "" && o.lastID != answer.ID && !answer.Repeated:
			result.Origin = syncdb.Met // I9: ours is gone, another client has made its own
		case answer.Repeated:
			met, r.outcome = false, Created // an attempt before this one may have created it: it is ours
		case !o.known:
			result.Origin = syncdb.Met // I9: it was there before us
		}
	}
	if s.r.wanted || len(s.r.movedFrom) > 0 {
		s.r.mu.Lock()
		switch {
		case r.effect == syncdb.EffectLive, r.next == nextLater:
			s.r.table.setLive(o.key, !o.anew) // what hangs on the record's old key must not follow (I1)
			if r.effect == syncdb.EffectLive {
				s.r.table.wrote(o.key)
			}
			if !o.oldKey.IsZero() {
				s.r.table.setLive(o.oldKey, false)
			}
		case r.effect == syncdb.EffectGone, r.effect == syncdb.EffectMissing:
			s.r.table.setLive(o.key, false)
		}
		s.r.mu.Unlock()
	}
	if o.verb == syncdb.Delete && r.effect != syncdb.EffectGone && !(r.outcome == Blocked && s.r.nested) {
		s.strand(o)
	}
	s.attempts.note(o, s.r.Path, result, answer.Status, err)
	s.file(o, r, result, met, err)
	s.x.heard(r, err)
	s.x.missed(o, err)
	if r.next == nextStop {
		s.x.stop(fmt.Errorf("the target accepts no more calls: %w", err))
	}
}

// respelled reports whether a PUT was refused only because its key is spelled in another way than the target's: the target compares keys without case when
// it looks records up, and letter by letter when it looks for key changes. A POST finds the record in any spelling, and leaves the target's (F32).
func (s *stepRun) respelled(o *op, err error) bool {
	var e *edfi.Error
	return s.x.o.Rules.FoldKeys && o.verb == syncdb.Update && o.oldKey.IsZero() && errors.As(err, &e) && e.Code == "key-change-not-supported"
}

// takenByOther reports whether a natural-key change was refused because a record that is none of ours has the new key. Nobody gives it up in this
// run or the next, so waiting would be for ever (I1): the row takes that record over, which is never deleted by us (I9). An approved plan did not
// say so, and waits (I8).
func (s *stepRun) takenByOther(o *op, err error) bool {
	if !keyTaken(o, err) || s.x.o.Apply != 0 {
		return false
	}
	id, err := findByKey(s.x.calls, s.x.target, s.r.Resource, s.x.o.Rules, o.keyText, s.r.SentKey(o.payload, o.keyText))
	return err == nil && id != "" && id != o.edfiID && s.r.unseenIDs.origin(id) == 0 && s.originAdrift(id) == 0
}

// file books the outcome of a call.
func (s *stepRun) file(o *op, r ruling, result syncdb.Result, met bool, err error) {
	var refusal syncdb.Problem
	unmet := !o.loosens && r.next != nextCreate && r.next != nextTake && r.next != nextLater && (r.outcome == Blocked || r.outcome == Rejected || r.outcome == Failed)
	if unmet {
		refusal = s.refused(o, r.outcome.String(), err)
		if o.verb != syncdb.Delete {
			s.x.unsent(s.r, s.referred(o), o.key, o.isNew())
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.results = append(s.results, result)
	if o.silent == notSilent {
		s.totals.Calls++
		s.x.report(s.r.Path, s.x.sent.Add(1))
	}
	switch r.next {
	case nextCreate, nextTake:
		again := *o
		again.verb, again.edfiID, again.lastID, again.known = syncdb.Create, "", o.edfiID, true
		again.anew = !o.oldKey.IsZero()
		if r.next == nextTake { // the entry of the old key stays: its record has no row any more, and is deleted for that (I1)
			again.lastID, again.known, again.oldKey, again.before = "", false, syncdb.Hash{}, syncdb.Hash{}
		}
		again.keyText, again.srcKey, again.payload = clone(o.keyText), clone(o.srcKey), clone(o.payload)
		s.again = append(s.again, &again)
		return
	case nextLater:
		s.x.mu.Lock()
		defer s.x.mu.Unlock()
		if derr := s.x.deferred[s.st.Resource].add(&record{
			Known: o.known, KeyHash: o.key, RecordHash: o.record, SourceHash: o.source, PersonHash: o.person,
			SourceKey: o.srcKey, Key: o.keyText, Payload: o.payload, Refs: o.refs,
		}); derr != nil {
			s.x.stop(derr)
		}
		return
	}
	if o.loosens {
		return
	}
	if o.met && (o.silent == release || result.Origin == syncdb.Created) {
		s.unmet = append(s.unmet, metProblem(o.key))
	}
	if o.hold > 0 && r.outcome != Blocked && r.outcome != Failed {
		s.x.plan.approved.done[o.hold-1].Add(1)
	}
	if o.silent == release {
		s.totals.Released++
		return
	}
	if r.outcome == Blocked && o.verb == syncdb.Delete && s.r.nested {
		s.stopped = append(s.stopped, stoppedOp{op: o.detach(), err: err})
		return
	}
	s.totals.add(r.outcome, o.verb != syncdb.Delete)
	switch host := hostRefused(err); {
	case err == nil && o.silent == notSilent:
		s.accepted++
	case host && r.outcome == Rejected && o.lack == nil:
		s.byHost, s.lastByHost = s.byHost+1, err
	}
	if met && !o.known {
		s.totals.Met++
		s.problems = append(s.problems, s.problem(o, syncdb.OutcomeMet, "met-existing", "the record was at the target before our first call: it is "+
			"kept up to date, and never deleted by us", "target host", nil))
	}
	if unmet {
		s.problems = append(s.problems, refusal)
	}
}

// neverSent reports whether a call failed before anything of it can have reached the target.
func neverSent(err error) bool {
	var e *edfi.Error
	return errors.As(err, &e) && e.Status == 0 && !e.Sent
}

// hostRefused reports whether only the target's host can mend what an answer complains of.
func hostRefused(err error) bool {
	var e *edfi.Error
	return errors.As(err, &e) && e.Owner == edfi.OwnerTarget
}

// refused describes an answer for a person. The cause holds no value of a record; the answer itself goes into the sealed detail.
func (s *stepRun) refused(o *op, outcome string, err error) syncdb.Problem {
	code, who, text := "no-answer", "target host", "no answer that says what happened"
	d := map[string]any{"call": verbName(o.verb)}
	var e *edfi.Error
	if errors.As(err, &e) {
		code, who, text = e.Code, string(e.Owner), e.Title
		for i, c := range e.Causes {
			if i == 3 {
				break
			}
			text += "; " + c
		}
		d["status"], d["type"], d["hint"], d["correlationId"], d["answer"] = e.Status, e.Type, e.Hint, e.CorrelationID, string(e.Body)
	} else if err != nil {
		d["error"] = err.Error()
	}
	if o.lack != nil {
		who = bySource
		code, text = o.lack.describe()
		delete(d, "hint") // what the answer advises is about another case
	}
	var by place
	if e != nil {
		if at, is := s.blameUnsent(o, e); is {
			by = at
			code, who, text = "dependent-kept", byUs, "a record that refers to it still does at the target, because its own row was not sent, so it stays too"
			delete(d, "hint")
		}
	}
	p := s.problem(o, outcome, code, text, who, d)
	s.blame(&p, o, err)
	if o.lack == nil {
		s.x.waitsAt(&p, by)
		return p
	}
	s.x.waitsAt(&p, o.lack.by)
	if outcome == Rejected.String() && o.verb == syncdb.Delete {
		p.RecordHash = s.x.attemptedDelete(o, o.lack.of)
	} else if outcome == Rejected.String() {
		p.RecordHash = s.x.attemptedWithout(p.RecordHash, o.lack.of)
	}
	return p
}

func (s *stepRun) problem(o *op, outcome, code, text, who string, d map[string]any) syncdb.Problem {
	if d == nil {
		d = map[string]any{}
	}
	d["naturalKey"] = json.RawMessage(clone(o.keyText))
	// Problems of entries have keys of their own: they must not take the place of the row's (the row may have moved on).
	at := o.source
	switch {
	case o.verb == syncdb.Delete:
		at = goneProblem(o.key)
	case outcome == syncdb.OutcomeMet:
		at = metProblem(o.key)
	}
	var hash syncdb.Hash
	if outcome == Rejected.String() && o.verb != syncdb.Delete && waitsForChange(who) {
		hash = s.x.attempted(o.key, o.record, s.referred(o))
	}
	return syncdb.Problem{
		Resource: s.r.Path, SourceHash: at, Outcome: outcome, Code: code, Cause: text, Owner: who,
		KeyHash: o.key, RecordHash: hash, SourceKey: string(o.srcKey), Detail: detail(d),
	}
}

// metProblem is where the problem of a record that was at the target before us is filed.
func metProblem(key syncdb.Hash) syncdb.Hash { return whole(key, syncdb.Hash{'m', 'e', 't'}) }

// send makes the call an op stands for.
func (s *stepRun) send(o *op) (edfi.Answer, error) {
	t := s.x.target
	switch {
	case o.silent != notSilent:
		return edfi.Answer{ID: o.edfiID}, nil
	case o.verb == syncdb.Create:
		return t.Post(s.calls, s.r.Path, o.payload)
	case o.verb == syncdb.Update:
		answer, err := t.Put(s.calls, s.r.Path, o.edfiID, o.payload)
		if answer.ID == "" {
			answer.ID = o.edfiID
		}
		return answer, err
	}
	return t.Delete(s.calls, s.r.Path, o.edfiID)
}

// heard ends the run when the target has given no usable answer to many calls in a row, repeats included: what is left would only wait for
// the same, and the next run takes it (I18, I20).
func (x *executor) heard(r ruling, err error) {
	if r.outcome != Failed || err == nil {
		x.unheard.Store(0)
		return
	}
	if n := x.unheard.Add(1); n >= x.o.silence() {
		x.stop(fmt.Errorf("%w: %d calls in a row had no usable answer, the last one: %w", ErrTargetSilent, n, err))
	}
}

// silentCalls is how many calls in a row may stay without a usable answer before a run gives up; twice the calls in flight when that is more.
const silentCalls = 20

func (o Options) silence() int64 { return int64(max(silentCalls, 2*o.Workers)) }

// ErrTargetSilent means that the target stopped answering in the middle of a run. The next run continues.
var ErrTargetSilent = errors.New("the target does not answer any more; nothing is lost, the next run continues")

func (x *executor) strand(person syncdb.Hash, at place) {
	if person.IsZero() {
		return
	}
	x.mu.Lock()
	x.stranded[person] = at
	x.mu.Unlock()
}

// refuse files an op that no answer of its own stands for with the refusal it gets.
func (s *stepRun) refuse(o *op, outcome Outcome, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.totals.add(outcome, o.verb != syncdb.Delete)
	s.problems = append(s.problems, s.refused(o, outcome.String(), err))
}
