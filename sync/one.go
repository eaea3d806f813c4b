package sync

import (
	"context"
	"fmt"
	"slices"

	"github.com/edfisync/edfisync/schema"
	"github.com/edfisync/edfisync/syncdb"
)

// Sent is what came of sending one record, step by step.
type Sent struct {
	RunID    int64     `json:"run"`
	Resource string    `json:"resource"`
	Outcome  string    `json:"outcome"` // unchanged, created, updated, invalid, blocked, held, rejected, failed
	Notes    []Note    `json:"steps"`
	Problems []Problem `json:"problems,omitempty"`
	Decided  *Decided  `json:"decided,omitempty"` // the decision that keeps the call back

	total Totals
}

// Note is one step of sending a record.
type Note struct {
	Step string `json:"step"` // settle, row, parent, compare, call, decision, result
	Text string `json:"text"` // holds no value of the record

	// Data: what a call sent, and what was answered when it was refused. The caller shows it on request only (I14).
	Attempt *syncdb.Attempt `json:"-"`
}

// Problem is why the record did not arrive.
type Problem struct {
	Code  string `json:"code"`
	Owner string `json:"owner"`
	Cause string `json:"cause"`
	Hint  string `json:"hint,omitempty"`
}

// SendOne sends one record now, through the same journal, checks and answers as a run, and nothing else: no other row is read into the plan and
// nothing is deleted. What a person discarded stays back. So does, as in a run, a row whose natural key other rows have with another payload, and a new
// one that refers to such a key (F42). A row whose natural key changed is left to a run, which re-keys it or deletes the
// old record; so is a row that is gone, and one whose key a renamed record had before while records below that may not be known by their new keys. It takes the connection's lease: a run in progress is *syncdb.BusyError. A name that cannot be one
// is *UnknownRecordError. Called again it sends nothing new: the record is unchanged then.
func (e *Engine) SendOne(ctx context.Context, name RecordName) (*Sent, error) {
	o := e.options()
	o.RetryRejected = true // somebody asks for it
	r, queries, err := e.subject(name)
	if err != nil {
		return nil, err
	}
	if len(queries) == 0 {
		return nil, &UnknownRecordError{fmt.Sprintf("the connection does not sync %s", r.Path)}
	}
	key, err := keyNamed(r, name, o.Rules)
	if err != nil {
		return nil, err
	}
	rows, err := e.pick(ctx, queries, name.SourceKey, key)
	if err != nil {
		return nil, err
	}
	switch len(rows) {
	case 0:
		return nil, &UnknownRecordError{"no source row is of that name; if its record is still at the target, a run deletes it"}
	case 1:
	default:
		return nil, &UnknownRecordError{fmt.Sprintf("%d source rows are of that name, so none of them is sent: give the source key of one to trace, and correct the others", len(rows))}
	}
	p := newProgress(nil)
	defer p.stop()
	out := &Sent{Resource: r.Path}
	err = e.errand(ctx, o, "sync-one", p, func(ctx context.Context, k *keeper, s *Summary) error {
		out.RunID = s.RunID
		if s.Recovered > 0 {
			out.note("settle", fmt.Sprintf("%d calls of earlier runs had no answer: their entries are unknown until they are sent again", s.Recovered))
		}
		err := e.sendOne(ctx, o, k, &rows[0], out)
		s.Totals = out.total
		return err
	})
	return out, err
}

func (s *Sent) note(step, text string) { s.Notes = append(s.Notes, Note{Step: step, Text: text}) }

func (s *Sent) problem(p syncdb.Problem) {
	shown := Problem{Code: p.Code, Owner: p.Owner, Cause: p.Cause}
	if a, ok := AdviceOn(p.Code); ok {
		shown.Hint = a.Hint
	}
	s.Problems = append(s.Problems, shown)
}

// sendOne is a run with a plan of one op.
func (e *Engine) sendOne(ctx context.Context, o Options, k *keeper, row *pickedRow, out *Sent) error {
	if t, err := e.Ledger.Target(ctx, e.Connection.ID); err != nil {
		return err
	} else if t.Alarm != "" {
		return fmt.Errorf("nothing is sent: %s", t.Alarm)
	}
	out.note("row", "found by "+row.query)
	if len(row.problems) > 0 {
		out.total.Rows = 1
		out.total.add(Invalid, true)
		out.Outcome = Invalid.String()
		for _, p := range row.problems {
			out.problem(syncdb.Problem{Code: p.Code, Owner: owner(p), Cause: cause(p)})
		}
		out.note("result", "it breaks rules of the model, so nothing is sent; the run files it")
		return nil
	}
	sc, err := newScope(e.Model, e.Source.Queries(), e.Dependencies)
	if err != nil {
		return err
	}
	dir, err := e.spoolDir(o.WorkDir)
	if err != nil {
		return err
	}
	defer dir.remove()
	if out.Outcome, err = e.notSynced(ctx, o, sc, dir, row, out); err != nil || out.Outcome != "" {
		return err
	}
	found, at, err := e.planOne(ctx, o, k, sc, dir, row, out)
	defer closeAll(found)
	if err != nil || out.Outcome != "" {
		return err
	}
	said, err := e.decisions(ctx, sc, found, standing{})
	if err != nil {
		return err
	}
	plan := &Plan{gates: said.gates, approved: said.approved}
	for _, r := range found {
		plan.Resources = append(plan.Resources, r.plan())
	}
	x, release := newExecutor(ctx, e, o, sc, found, plan, k, dir)
	defer release()
	x.report = func(string, int64) {}
	x.watch = func(a syncdb.Attempt) {
		text := fmt.Sprintf("%s: status %d, the record is %s", verbName(a.Verb), a.Status, effectName(a.Effect))
		out.Notes = append(out.Notes, Note{Step: "call", Text: text, Attempt: &a})
	}
	if err := x.run(sc.steps()); err != nil {
		return err
	}
	out.total = found[at].totals
	if p := said.gates[at].judge(syncdb.Update, row.keyHash); p.refused {
		by := decidedIn(p.by, 1)
		out.Decided = &by
		out.note("decision", by.Why()+": this call is not made")
	}
	return e.concludeOne(ctx, k, found[at], row, out)
}

// planOne compares the row with the ledger. Of other resources only what the row may refer to is loaded; other rows are read only for whether they share
// a natural key with it or with what it refers to.
func (e *Engine) planOne(ctx context.Context, o Options, k *keeper, sc *scope, dir *workspace, row *pickedRow, out *Sent) (found []*scanned, at int, err error) {
	for i, r := range sc.resources {
		if r.Path == out.Resource {
			at = i
		}
	}
	if found, err = e.loadOne(ctx, o, sc, dir, at); err != nil {
		return found, at, err
	}
	if settled, err := e.settleDoubts(ctx, o, k, found); err != nil {
		return found, at, err
	} else if settled {
		closeAll(found)
		if found, err = e.loadOne(ctx, o, sc, dir, at); err != nil {
			return found, at, err
		}
	}
	if err := e.markDoubts(ctx, found); err != nil {
		return found, at, err
	}
	r := found[at]
	rec := &record{KeyHash: row.keyHash, RecordHash: row.record, SourceHash: row.source, SourceKey: row.sourceKey, Key: row.key, Payload: row.payload}
	hasher := schema.NewHasher(e.Keys.HashMAC())
	for _, ref := range row.refs {
		t, ok := sc.entity[ref.Target]
		if !ok {
			continue
		}
		key := hasher.Sum(ref.Key)
		rec.Refs = append(rec.Refs, reference{Target: t, Hash: key})
		if _, person := people[ref.Target]; person && rec.PersonHash.IsZero() {
			rec.PersonHash = key
		}
		state := "is at the target"
		if x := (&executor{found: found}); !x.anyLive(sc.targets[t], key) {
			state = "is not at the target, as far as the ledger knows"
		}
		out.note("parent", fmt.Sprintf("%s (%s) %s", ref.Target, ref.Path, state))
	}
	if err := e.share(ctx, sc, found, sc.keysThatCount(r, rec)); err != nil {
		return found, at, fmt.Errorf("look for rows that share a natural key: %w", err)
	}
	_, shared := r.dups[row.keyHash]
	if former, err := e.formerKey(ctx, r, row); err != nil {
		return found, at, err
	} else if former && !shared {
		r.totals.Rows, out.Outcome = 1, Held.String()
		r.totals.add(Held, true)
		out.total = r.totals
		out.note("compare", "the natural key of the row changed since it was sent: a run moves its record to the new key, or deletes the old one")
		return found, at, nil
	}
	r.totals.Rows = 1
	verdict, _ := r.judge(row.keyHash, row.record, row.source)
	switch {
	case shared && (verdict == changedRow || verdict == claimRow): // I5: what the target has under the key may be another row's
		r.dupChanged++
		return found, at, r.changed.add(rec)
	case shared && verdict != sameRow:
		r.dupFresh++
		return found, at, r.fresh.add(rec)
	}
	switch verdict {
	case sameRow:
		r.totals.add(Unchanged, true)
		out.total, out.Outcome = r.totals, Unchanged.String()
		out.note("compare", "the target holds exactly this, as far as the ledger knows: there is nothing to send")
		return found, at, nil
	case claimRow:
		r.totals.add(Unchanged, true)
		rec.Payload = nil
		out.note("compare", "the target holds exactly this, from another source row: the ledger notes the new one")
		return found, at, r.claims.add(rec)
	case changedRow:
		out.note("compare", "it differs from what the target holds: PUT")
		return found, at, r.changed.add(rec)
	case knownRow:
		rec.Known = true
		out.note("compare", "the ledger does not know what the target holds: POST settles it")
	default:
		if err := e.knownIDs(ctx, sc, r); err != nil {
			return found, at, err
		}
		if err := r.fresh.add(rec); err != nil {
			return found, at, err
		}
		if strays, err := e.hasStrays(ctx, o, found); err != nil {
			return found, at, err
		} else if strays { // I1: from then on nobody could tell whose records they are
			r.totals.add(Held, true)
			out.total, out.Outcome = r.totals, Held.String()
			out.note("compare", "another record had its natural key before, and records whose keys contained it may have got other keys with that one: a run finds out first")
			return found, at, nil
		}
		out.note("compare", "the ledger has no entry for it: POST")
		return found, at, nil
	}
	return found, at, r.fresh.add(rec)
}

// loadOne opens the resources of the scope with what the ledger has of one of them, and of those it may refer to.
func (e *Engine) loadOne(ctx context.Context, o Options, sc *scope, dir *workspace, at int) (found []*scanned, err error) {
	needed := map[int]bool{at: true}
	for _, j := range sc.resources[at].after {
		needed[j] = true
	}
	s := &scanner{e: e, o: o, scope: sc, dir: dir}
	for i, r := range sc.resources {
		bare := *r
		bare.Queries = nil
		res := newScanned(&bare, i, dir, e.Keys)
		found = append(found, res)
		if !needed[i] {
			continue
		}
		if err := s.load(ctx, res); err != nil {
			return found, fmt.Errorf("read the ledger's %s: %w", r.Path, err)
		}
	}
	return found, nil
}

// keysThatCount are the natural keys, by resource, that decide about a row when other rows have them too: its own, and those a new row refers to.
func (s *scope) keysThatCount(r *scanned, rec *record) map[int]map[syncdb.Hash]struct{} {
	out := map[int]map[syncdb.Hash]struct{}{r.index: {rec.KeyHash: {}}}
	if r.table.live(rec.KeyHash) {
		return out
	}
	for _, ref := range rec.Refs {
		for _, j := range s.targets[ref.Target].Resources {
			if out[j] == nil {
				out[j] = map[syncdb.Hash]struct{}{}
			}
			out[j][ref.Hash] = struct{}{}
		}
	}
	return out
}

// knownIDs notes the ids the ledger has of a resource whose records can get other natural keys with their parents. A POST that meets one of them meets a
// record the ledger knows under the key it had before: it stays what it was, ours or another's (I4, I9). No row was read, so all of them may be it.
func (e *Engine) knownIDs(ctx context.Context, sc *scope, r *scanned) error {
	if len(r.cascades(sc)) == 0 {
		return nil
	}
	err := e.Ledger.Each(ctx, e.Connection.ID, r.Path, func(entry *syncdb.Entry) error {
		r.unseenIDs.note(entry.EdfiID, entry.Origin)
		return nil
	})
	if err != nil {
		return fmt.Errorf("read the ids of the ledger's entries: %w", err)
	}
	return nil
}

// formerKey reports whether the row has an entry under another natural key.
func (e *Engine) formerKey(ctx context.Context, r *scanned, row *pickedRow) (bool, error) {
	if i := r.table.find(row.keyHash); i >= 0 {
		return false, nil
	}
	former := false
	err := e.Ledger.Hashes(ctx, e.Connection.ID, r.Path, func(key, _, source syncdb.Hash, _ syncdb.State) error {
		former = former || source == row.source && key != row.keyHash
		return nil
	})
	if err != nil {
		return false, fmt.Errorf("look for the row's entry: %w", err)
	}
	return former, nil
}

// concludeOne says what became of the record and drops its problem when it has none any more.
func (e *Engine) concludeOne(ctx context.Context, k *keeper, r *scanned, row *pickedRow, out *Sent) error {
	for outcome := range outcomes {
		if *out.total.field(outcome) > 0 {
			out.Outcome = outcome.String()
		}
	}
	filed, ok, err := filedUnder(ctx, e.Ledger, e.Connection.ID, r.Path, row.source)
	if err != nil {
		return err
	}
	switch out.Outcome {
	case Created.String(), Updated.String(), Unchanged.String():
		if ok && filed.Outcome != syncdb.OutcomeMet {
			if _, err := e.Ledger.DropProblems(ctx, k.current(), r.Path, []syncdb.Hash{row.source}); err != nil {
				return err
			}
		}
		out.note("result", out.Outcome+": the ledger's entry is live")
	default:
		if ok {
			out.problem(filed)
		}
		out.note("result", out.Outcome)
	}
	return nil
}

// notSynced returns the outcome of a row that is of a school the connection does not sync; "" when it is synced. It reads the source: where people are
// other rows say.
func (e *Engine) notSynced(ctx context.Context, o Options, sc *scope, dir *workspace, row *pickedRow, out *Sent) (string, error) {
	p := newProgress(nil)
	defer p.stop()
	outside, err := e.outsiders(ctx, o, sc, dir, p)
	if err != nil {
		return "", err
	}
	at := slices.IndexFunc(sc.resources, func(r *scoped) bool { return r.Path == out.Resource })
	if at < 0 || !outside(at, row.keyHash) {
		return "", nil
	}
	out.note("result", "it is of a school the connection does not sync: nothing is sent")
	return string(RuleOutOfScope), nil
}
