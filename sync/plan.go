package sync

import (
	"errors"
	"fmt"
	"slices"

	"github.com/edfisync/edfisync/schema"
	"github.com/edfisync/edfisync/syncdb"
)

// ResourcePlan is what a run means to do with one resource.
type ResourcePlan struct {
	Resource  string `json:"resource"`
	Entries   int64  `json:"entries"` // in the ledger before the run
	Rows      int64  `json:"rows"`
	Unchanged int64  `json:"unchanged"`
	Create    int64  `json:"create"`
	Update    int64  `json:"update"`
	KeyUpdate int64  `json:"keyUpdate,omitempty"` // of the updates: their natural key changes, by PUT
	Recreate  int64  `json:"recreate,omitempty"`  // of the creates, and as many of the deletes: their natural key changes, and PUT cannot change it
	Rekey     int64  `json:"rekey,omitempty"`     // ledger only: the target re-keys them with their parent
	Delete    int64  `json:"delete"`
	Rollover  int64  `json:"rollover,omitempty"` // rows that now are of another school year: created anew, and no delete of the resource goes without a person (F68)
	Invalid   int64  `json:"invalid"`
	Blocked   int64  `json:"blocked"`        // rows that refer to a record that is neither at the target nor about to be sent; deletes of what a record that stays refers to
	Kept      int64  `json:"kept"`           // entries without a row that are left alone: an invalid row stands for them, or they are not ours to delete
	Held      int64  `json:"held,omitempty"` // of the calls above: those a safeguard, or a person, keeps back

	OutOfScope int64 `json:"outOfScope,omitempty"` // of the rows: of schools the connection does not sync
}

// PlanTotals are the figures of a plan for all resources together.
type PlanTotals struct {
	Rows      int64 `json:"rows"`
	Unchanged int64 `json:"unchanged"`
	Create    int64 `json:"create"`
	Update    int64 `json:"update"`
	Delete    int64 `json:"delete"`
	Held      int64 `json:"held"` // of the three above: calls that a safeguard or a decision keeps back
	Invalid   int64 `json:"invalid"`
	Blocked   int64 `json:"blocked"`
	Calls     int64 `json:"calls"` // write calls a run would make: create, update and delete less held

	OutOfScope int64 `json:"outOfScope,omitempty"` // of the rows: of schools the connection does not sync
}

// Plan is the result of a scan: what would be sent, in load order. It is decided by exact totals and nothing else.
type Plan struct {
	Resources []ResourcePlan `json:"resources"`
	Totals    PlanTotals     `json:"totals"`
	// Held is what safeguards keep back, by resource and verb, and why.
	Held []HeldPart `json:"held,omitempty"`
	// Decided is what is kept back without a question: what people discarded or undid, and what the configuration forbids.
	Decided []Decided `json:"decided,omitempty"`
	// Open counts intents an earlier run left without an answer; the next run settles them first, so the figures may shift by as many.
	Open int `json:"open,omitempty"`
	// Unfinished is the run that is in progress, or was cut off: what it has done is not all in the ledger's entries yet, so the figures are too high.
	Unfinished int64 `json:"unfinished,omitempty"`
	// Estimate is how long the calls would take; nil when no earlier run tells.
	Estimate *Estimate `json:"estimate,omitempty"`
	// SourceBehind says why the source is not believed when it says that something is gone; "" = it is.
	SourceBehind string `json:"sourceBehind,omitempty"`
	// Warnings are what the connection's schools name and is not there.
	Warnings []Warning `json:"warnings,omitempty"`
	// Changes are field-level details, at most as many as were asked for.
	Changes []Change `json:"changes,omitempty"`

	gates []*gate // by resource
	stopped
	kept     []map[syncdb.Hash]struct{} // by resource: keys of the records that would not be deleted because one that refers to them, or needs them, stays
	approved *approvals
	mark     string // the source's watermark
	part     *part  // what of it the run sends; nil = all
}

// Writes returns how many calls the plan would make.
func (p *Plan) Writes() int64 {
	var n int64
	for _, r := range p.Resources {
		n += r.Create + r.Update + r.Delete - r.Held
	}
	return n
}

// sum adds the resources up.
func (p *Plan) sum() {
	t := PlanTotals{Calls: p.Writes()}
	for _, r := range p.Resources {
		t.Rows, t.Unchanged, t.Create, t.Update, t.Delete = t.Rows+r.Rows, t.Unchanged+r.Unchanged, t.Create+r.Create, t.Update+r.Update, t.Delete+r.Delete
		t.Held, t.Invalid, t.Blocked = t.Held+r.Held, t.Invalid+r.Invalid, t.Blocked+r.Blocked
		t.OutOfScope += r.OutOfScope
	}
	p.Totals = t
}

// why says why an op is not made, "" when it goes.
func (p pass) why() string {
	switch {
	case p.refused:
		return decidedIn(p.by, 1).Why()
	case p.held != nil:
		if p.held.Reason == p.held.Rule.cause() || p.held.Rule == RulePreventDelete {
			return p.held.Reason
		}
		return string(p.held.Rule) + ": " + p.held.Reason
	}
	return ""
}

// judged is what the gate says of a row to create or update.
func (r *scanned) judged(g *gate, verb syncdb.Verb, key syncdb.Hash) pass {
	if m, ok := r.moves[key]; ok && verb == syncdb.Create {
		if m.how == moveRecreate {
			return g.recreate(key, m)
		}
		verb = syncdb.Update
	}
	return g.judge(verb, key)
}

// decide turns what the scan counted into the plan. What people said about ops of earlier runs is in the gates; the safeguards judge the
// rest, by exact totals (I5e).
func decide(found []*scanned, gates []*gate, open []syncdb.Plan, g Safeguards, st standing) *Plan {
	p := &Plan{gates: gates}
	tallies := make([]tally, len(found))
	beyond := map[string]int64{} // what is out of the connection's scope, by resource
	for i, r := range found {
		rp := r.plan()
		p.Resources = append(p.Resources, rp)
		if g.prevents(r.Path) {
			gates[i].rest[syncdb.Delete] = &HeldPart{Resource: r.Path, Verb: "delete", Rule: RulePreventDelete, Reason: RulePreventDelete.cause()}
		}
		out := gates[i].undecided()
		if out > 0 && gates[i].rest[syncdb.Delete] == nil && st.alarm == "" {
			beyond[r.Path] = out
		}
		tallies[i] = tally{ // what is out of the connection's scope is none of what the limits are about
			resource: r.Path, entries: rp.Entries - r.entriesBeyond, rows: rp.Rows - r.totals.Outside, creates: rp.Create - gates[i].decided[syncdb.Create], updates: rp.Update - gates[i].decided[syncdb.Update],
			deletes: rp.Delete - gates[i].decided[syncdb.Delete] - out - int64(len(gates[i].kept)), rollover: rp.Rollover, letThrough: slices.Contains(g.ApproveDeletes, r.Path),
			nameless: r.nameless, openDeletes: gates[i].opens(syncdb.Delete), openUpdates: gates[i].opens(syncdb.Update),
		}
		if gates[i].rest[syncdb.Delete] != nil {
			tallies[i].deletes, tallies[i].openDeletes = 0, 0 // they do not happen, so nothing else has to hold them
		}
	}
	held := g.judge(tallies, st)
	p.Held = slices.Grow(held, len(open)+1) // the gates point into it
	shut(p.Held, gates, tallies)
	if len(beyond) > 0 {
		at := len(p.Held)
		p.Held = append(p.Held, removal(beyond))
		for i, r := range found {
			if beyond[r.Path] > 0 {
				gates[i].removal = &p.Held[at]
			}
		}
	}
	p.Held = keepOpen(p.Held, open, gates, tallies)
	p.Decided = decidedParts(gates, p.Resources, nil)
	for i, r := range found {
		p.Resources[i].Held = r.waiting(p.Resources[i], gates[i])
	}
	return p
}

// removal holds the deletes that are out of the connection's scope, of all resources together: the offer to remove what was sent (I5g).
func removal(counts map[string]int64) HeldPart {
	part := HeldPart{Verb: "delete", verb: syncdb.Delete, Rule: RuleOutOfScope, counts: counts}
	for _, n := range counts {
		part.Ops += n
	}
	part.Reason = fmt.Sprintf("sent before, and out of the connection's scope now: %d of the target's records; approve to remove them there, discard to leave them", part.Ops)
	return part
}

// plan is what a run would do with the resource if nothing were held.
func (r *scanned) plan() ResourcePlan {
	rp := ResourcePlan{
		Resource: r.Path, Entries: r.entries, Rows: r.totals.Rows, Unchanged: r.totals.Unchanged,
		Create: r.fresh.count - r.dupFresh, Update: r.changed.count - r.dupChanged, Delete: r.gone.count - r.notOurs,
		Invalid: r.totals.Invalid + r.dupFresh + r.dupChanged,
		Kept:    int64(len(r.heldSource)) - r.heldOutside + r.notOurs, Rollover: r.rollover, OutOfScope: r.totals.Outside,
	}
	for _, m := range r.moves {
		switch {
		case m.how == moveRecreate:
			rp.Recreate++
			continue
		case m.how == moveFollow && !m.changed:
			rp.Rekey++
		case m.how == moveFollow:
			rp.Update++
		default:
			rp.Update++
			rp.KeyUpdate++
		}
		rp.Create--
		if !m.kept {
			rp.Delete--
		}
	}
	return rp
}

// waiting counts the calls of a resource that the gate keeps back.
func (r *scanned) waiting(p ResourcePlan, g *gate) int64 {
	var n int64
	for verb, all := range map[syncdb.Verb]int64{syncdb.Create: p.Create, syncdb.Update: p.Update, syncdb.Delete: p.Delete} {
		if g.rest[verb] != nil {
			n += all - g.decided[verb]
			continue
		}
		n += g.opens(verb)
		if verb == syncdb.Delete {
			n += int64(len(g.kept))
		}
		if verb == syncdb.Delete && g.removal != nil {
			n += g.undecided()
		}
	}
	n += int64(len(g.refused))
	for key, m := range r.moves {
		if _, counted := g.refused[key]; counted || m.how != moveRecreate {
			continue
		}
		if pass := g.recreate(key, m); g.rest[syncdb.Create] == nil && !pass.goes() {
			n++
		}
	}
	return n
}

// stopped are the ops that a run, or a saved plan, leaves out because of others that it does not make, by resource.
type stopped struct {
	blocked []map[syncdb.Hash]struct{} // natural keys of the rows that are not sent because what they refer to is missing or not clear
	stays   []map[syncdb.Hash]struct{} // natural keys of the records that are not deleted because their row is blocked under its new key
}

// predictBlocked takes the rows out of a plan that a run would not send because what they refer to is missing, or not clear, and counts them as blocked. Answers
// of the target can block more.
func predictBlocked(s *scope, found []*scanned, p *Plan, hasher *schema.Hasher, rules schema.Rules) (err error) {
	goes := func(i int, verb syncdb.Verb, key syncdb.Hash) bool {
		return found[i].judged(p.gates[i], verb, key).goes()
	}
	p.stopped, err = eachBlocked(s, found, hasher, rules, goes, func(i int, verb syncdb.Verb, key syncdb.Hash) {
		rp := &p.Resources[i]
		rp.Blocked++
		m, moves := found[i].moves[key]
		switch {
		case verb == syncdb.Update:
			rp.Update-- // the record stays live
		case moves:
			found[i].unmove(rp, m)
			if m.how == moveRecreate && !m.otherYear && p.gates[i].judge(syncdb.Delete, m.old).goes() {
				rp.Delete-- // that of its old record waits for it; a held one is counted as that
				rp.Blocked++
			}
		default:
			rp.Create--
		}
	})
	return err
}

// eachBlocked calls fn for each row whose op goes, and is not sent for what it refers to, in load order: a new record that is not sent, for whatever reason,
// blocks those that refer to it.
func eachBlocked(s *scope, found []*scanned, hasher *schema.Hasher, rules schema.Rules, goes func(int, syncdb.Verb, syncdb.Hash) bool, fn func(int, syncdb.Verb, syncdb.Hash)) (stopped, error) {
	missing := make([]map[syncdb.Hash]struct{}, len(found)) // those that are not at the target yet
	out := stopped{make([]map[syncdb.Hash]struct{}, len(found)), make([]map[syncdb.Hash]struct{}, len(found))}
	for i, r := range found {
		missing[i], out.blocked[i], out.stays[i] = map[syncdb.Hash]struct{}{}, map[syncdb.Hash]struct{}{}, map[syncdb.Hash]struct{}{}
		look := func(verb syncdb.Verb) func(*record) error {
			return func(rec *record) error {
				if _, dup := r.dups[rec.KeyHash]; dup {
					return nil
				}
				unclear := verb == syncdb.Create && s.ambiguousIn(found, rec.Refs) != nil
				lacks := unclear || s.lacks(found, missing, rec.Refs) || s.adrift(found, r.Resource, hasher, rules, rec.Refs, rec.Payload) != nil
				sent := goes(i, verb, rec.KeyHash)
				if verb == syncdb.Create && (lacks || !sent) {
					missing[i][rec.KeyHash] = struct{}{}
				}
				if !lacks {
					return nil
				}
				out.blocked[i][rec.KeyHash] = struct{}{}
				if !sent {
					return nil // it is counted as held, whatever it refers to
				}
				if m, moves := r.moves[rec.KeyHash]; moves && verb == syncdb.Create {
					out.stays[i][m.old] = struct{}{}
				}
				fn(i, verb, rec.KeyHash)
				return nil
			}
		}
		if err := errors.Join(r.fresh.each(look(syncdb.Create)), r.changed.each(look(syncdb.Update))); err != nil {
			return out, fmt.Errorf("look for missing references of %s: %w", r.Path, err)
		}
	}
	return out, nil
}

// unmove takes a natural-key change that is not made out of the counts, but for the delete of the old record.
func (r *scanned) unmove(rp *ResourcePlan, m move) {
	switch {
	case m.how == moveRecreate:
		rp.Recreate--
		rp.Create--
	case m.how == moveFollow && !m.changed:
		rp.Rekey--
	case m.how == moveFollow:
		rp.Update--
	default:
		rp.Update--
		rp.KeyUpdate--
	}
}

// lacks reports whether a reference has no record to point to once the plan is carried out.
func (s *scope) lacks(found []*scanned, blocked []map[syncdb.Hash]struct{}, refs []reference) bool {
	for _, ref := range refs {
		t := s.targets[ref.Target]
		there := !t.Complete
		for _, j := range t.Resources {
			slot := found[j].table.find(ref.Hash)
			if slot < 0 || found[j].table.flags[slot]&(slotLive|slotNew) == 0 {
				continue
			}
			_, stopped := blocked[j][ref.Hash]
			there = there || !stopped
		}
		if !there {
			return true
		}
	}
	return false
}
