package sync

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"slices"
	"sync/atomic"

	"github.com/edfisync/edfisync/schema"
	"github.com/edfisync/edfisync/syncdb"
)

// approvals are the holds a person approved, and how far a run gets with them.
type approvals struct {
	holds  []syncdb.Plan
	wanted []int64        // ops the source still asks for
	done   []atomic.Int64 // of these: answered for good
}

// decisions are what people said about ops of earlier runs.
type decisions struct {
	plans    []syncdb.Plan // the oldest decision first
	gates    []*gate
	approved *approvals
	unasked  map[opID]struct{}      // ops of the plans that the scan does not ask for, as their plan means them
	renewed  map[opID]syncdb.PlanOp // deletes of the plans whose record has another key by now, or an id, or whose plan is an older program's: as the scan asks for them
	open     []syncdb.Plan          // holds nobody has decided about
}

// saysNo reports whether a decided plan keeps its ops back.
func saysNo(p *syncdb.Plan) bool { return p.Kind != syncdb.PlanHold || p.State == syncdb.PlanDiscarded }

// Decided is a part of the calls that is not made because a person or the configuration said so before, and nobody is asked again.
type Decided struct {
	By       DecidedBy `json:"by"`
	Hold     int64     `json:"hold,omitempty"` // its number among the holds; 0 with ByConfiguration
	Edition  int64     `json:"edition,omitempty"`
	Undone   int64     `json:"undone,omitempty"`   // ByUndo: the run that was undone
	Resource string    `json:"resource,omitempty"` // ByConfiguration: the resource under prevent_delete, or that of records which stay with one of those
	Below    bool      `json:"below,omitempty"`    // ByConfiguration: prevent_delete keeps records below these, so they stay too
	Ops      int64     `json:"ops"`
}

// DecidedBy says what a decision was.
type DecidedBy string

// What keeps calls back without a question.
const (
	ByDiscard       DecidedBy = "discarded"      // somebody discarded the hold they were in
	ByUndo          DecidedBy = "undone"         // they would do again what an undone run did
	ByConfiguration DecidedBy = "prevent-delete" // deletes of a resource under prevent_delete
)

// Why says it for a person: "somebody discarded hold 3.1", "run 12 was undone (hold 4.1)".
func (d Decided) Why() string {
	switch d.By {
	case ByDiscard:
		return fmt.Sprintf("somebody discarded hold %d.%d", d.Hold, d.Edition)
	case ByUndo:
		return fmt.Sprintf("run %d was undone (hold %d.%d)", d.Undone, d.Hold, d.Edition)
	default:
		if d.Below {
			return "prevent_delete keeps records below these of " + d.Resource
		}
		return "prevent_delete lists " + d.Resource
	}
}

// decidedIn is what a discarded hold or an undone run says of ops.
func decidedIn(p *syncdb.Plan, ops int64) Decided {
	d := Decided{By: ByDiscard, Hold: p.ID, Edition: p.Edition, Ops: ops}
	if p.Kind == syncdb.PlanUndo {
		d.By, d.Undone = ByUndo, p.RunID
	}
	return d
}

// decidedParts counts the ops of a run that nobody is asked about: by hold, then by resource under prevent_delete.
func decidedParts(gates []*gate, resources []ResourcePlan, of *part) []Decided {
	count := map[*syncdb.Plan]int64{}
	for i, g := range gates {
		for key, p := range g.refused {
			if of.writes(i, key) || of.deletes(i, key) {
				count[p]++
			}
		}
	}
	var out []Decided
	for p, n := range count {
		out = append(out, decidedIn(p, n))
	}
	slices.SortFunc(out, func(a, b Decided) int { return cmp.Compare(a.Hold, b.Hold) })
	for i, g := range gates {
		var with int64
		for key := range g.kept {
			if of.deletes(i, key) {
				with++
			}
		}
		if with > 0 {
			out = append(out, Decided{By: ByConfiguration, Resource: resources[i].Resource, Below: true, Ops: with})
		}
		if rest := g.rest[syncdb.Delete]; rest == nil || rest.Rule != RulePreventDelete {
			continue
		}
		n := resources[i].Delete - g.decided[syncdb.Delete]
		if of != nil {
			n = min(n, int64(len(of.chosen[i].gone)))
		}
		if n > 0 {
			out = append(out, Decided{By: ByConfiguration, Resource: resources[i].Resource, Ops: n})
		}
	}
	return out
}

// decisions reads what people said about ops of earlier runs, and gives every gate the ops it concerns. An op is meant only when it is the
// same in every part; another one on the same record is judged anew. Only of a delete a no is about the record. Later decisions go before earlier ones.
func (e *Engine) decisions(ctx context.Context, s *scope, found []*scanned, st standing) (*decisions, error) {
	d := &decisions{gates: newGates(found), approved: &approvals{}}
	if st.alarm != "" {
		return d, nil // no approval covers a target that is not what it was
	}
	decided, err := e.Ledger.Plans(ctx, e.Connection.ID, syncdb.PlanFilter{
		Kind: syncdb.PlanHold, States: []syncdb.PlanState{syncdb.PlanApproved, syncdb.PlanDiscarded},
	})
	if err != nil {
		return nil, fmt.Errorf("read what is held: %w", err)
	}
	guards := e.options().Safeguards
	if err := preserve(s, found, d.gates, guards, schema.NewHasher(e.Keys.HashMAC())); err != nil {
		return nil, err
	}
	open, err := e.Ledger.Plans(ctx, e.Connection.ID, syncdb.PlanFilter{Kind: syncdb.PlanHold, States: []syncdb.PlanState{syncdb.PlanOpen}})
	if err != nil {
		return nil, fmt.Errorf("read what is held: %w", err)
	}
	letThrough := func(o syncdb.Verb, resource string) bool { // by an operator for this run, which is no decision that stays
		return o == syncdb.Delete && st.behind == "" && slices.Contains(guards.ApproveDeletes, resource)
	}
	for _, h := range open {
		switch {
		case h.Rule == string(RuleOutOfScope): // what is in the scope again is judged as any other
		case letThrough(h.Verb, h.Resource):
			decided = append(decided, h)
		case h.Rule != string(RuleSourceBehind): // which ends with its reason
			d.open = append(d.open, h)
		}
	}
	undone, err := e.Ledger.Plans(ctx, e.Connection.ID, syncdb.PlanFilter{Kind: syncdb.PlanUndo, States: []syncdb.PlanState{syncdb.PlanDiscarded}})
	if err != nil {
		return nil, fmt.Errorf("read what was undone: %w", err)
	}
	d.plans = append(decided, undone...)
	slices.SortFunc(d.plans, func(a, b syncdb.Plan) int { return cmp.Or(a.DecidedAt.Compare(b.DecidedAt), cmp.Compare(a.ID, b.ID)) })
	said, err := e.sayings(ctx, d, found)
	if err != nil {
		return nil, err
	}
	if len(d.unasked)+len(said.waits) == 0 {
		return d, nil
	}
	if err := errors.Join(e.hearYes(ctx, s, found, d, said), e.hearOlder(ctx, s, found, d, said), e.findWholePairs(ctx, s, found, said)); err != nil {
		return nil, err
	}
	err = e.eachOp(ctx, s, found, func(resource int, o syncdb.PlanOp) error {
		no, refused := said.refuses(found[resource], o)
		yes, approved := said.yes[identify(o)]
		beyond := d.gates[resource].removes(o.Verb, o.KeyHash)
		// That a record whose row is gone may be deleted is no approval to remove one that is out of the scope, and the other way round (I5g).
		approved = approved && beyond == (d.plans[yes].Rule == string(RuleOutOfScope))
		stays := d.gates[resource].keeps(o.Verb, o.KeyHash)
		if !refused && !approved {
			if i, waits := said.waiting(o); waits && !letThrough(o.Verb, o.Resource) && !beyond && !stays {
				d.gates[resource].open[o.KeyHash] = waiting{hold: i, verb: o.Verb}
			}
			return nil
		}
		d.asked(o, said)
		if refused && approved { // the later one
			refused, approved = no > yes, yes > no
		}
		if approved && (o.Verb == syncdb.Delete && guards.prevents(o.Resource) || stays) {
			return nil // no approval goes before prevent_delete (I5)
		}
		g := d.gates[resource]
		delete(g.kept, o.KeyHash) // a person has said so, too
		g.decided[o.Verb]++
		if refused {
			g.refused[o.KeyHash] = &d.plans[no]
			return nil
		}
		hold := said.hold[yes]
		g.approved[o.KeyHash] = hold
		d.approved.wanted[hold]++
		return nil
	})
	return d, err
}

// endDecisions takes the ops out of decided plans that a complete scan does not ask for: the row came back, or changed, or the op was made. Should
// the same be asked for again one day, it is judged anew. A source that is behind ends nothing, nor does a target that is not what it was, and
// neither does a row that breaks rules this time, or a source whose deletes nobody believes yet (I5e). It comes after the safeguards. What was said of
// a delete is kept with the record as it is named now.
func (e *Engine) endDecisions(ctx context.Context, k *keeper, found []*scanned, d *decisions, st standing) error {
	if len(d.unasked)+len(d.renewed) == 0 || st.alarm != "" || st.behind != "" {
		return nil
	}
	waits, err := d.waiting(found)
	if err != nil {
		return err
	}
	single := func(p *syncdb.Plan, o syncdb.PlanOp) bool {
		_, unasked := d.unasked[means(p, o)]
		return !unasked || waits(o)
	}
	for i, p := range d.plans {
		if p.State == syncdb.PlanOpen {
			continue
		}
		counts, left, renewed := map[string]map[string]int64{}, int64(0), false
		halves := map[half]bool{} // creates of key changes: whether the delete stays in the plan
		if saysNo(&p) {
			if err := e.eachHalf(ctx, &p, func(o syncdb.PlanOp, h half) { halves[h] = halves[h] || single(&p, o) }); err != nil {
				return err
			}
		}
		stays := func(p *syncdb.Plan, o syncdb.PlanOp) bool {
			if with, ok := halves[halfOf(o)]; ok && o.Verb == syncdb.Create {
				return with
			}
			return single(p, o)
		}
		err := e.Ledger.PlanOps(ctx, e.Connection.ID, p.ID, func(o syncdb.PlanOp) error {
			if stays(&p, o) {
				renewed = renewed || d.renew(&p, o) != o
				if counts[o.Resource] == nil {
					counts[o.Resource] = map[string]int64{}
				}
				counts[o.Resource][verbName(o.Verb)]++
				left++
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("read what was decided: %w", err)
		}
		if left == p.Ops && !renewed {
			continue
		}
		if p.Counts, err = json.Marshal(counts); err != nil {
			return fmt.Errorf("write the counts of a plan: %w", err)
		}
		narrowed, err := e.Ledger.NarrowPlan(ctx, k.current(), p, e.opsOf(ctx, p.ID, func(o syncdb.PlanOp) (syncdb.PlanOp, bool) {
			return d.renew(&p, o), stays(&p, o)
		}))
		var state *syncdb.PlanStateError
		var edition *syncdb.PlanEditionError
		switch {
		case errors.As(err, &state), errors.As(err, &edition): // a person decided otherwise meanwhile: the next run sees what
		case err != nil:
			return fmt.Errorf("end what was decided: %w", err)
		default:
			d.plans[i] = narrowed
			if left == p.Ops {
				continue
			}
			e.logger().Info("a decision has ended for calls the source does not ask for any more", slog.String("kind", string(p.Kind)), slog.Int64("plan", p.ID),
				slog.Int64("calls", p.Ops-left), slog.Int64("left", left), slog.String("state", string(narrowed.State)))
		}
	}
	return nil
}

// waiting says of ops the scan does not ask for whether that is only so this time: the resource is not in the scope, the row breaks rules or is one
// of several with its natural key, the record is not deleted though its row is gone (I5), or a safeguard holds the deletes of the resource: what
// the source lacks then is not known to be gone (I5e, F38).
func (d *decisions) waiting(found []*scanned) (func(syncdb.PlanOp) bool, error) {
	index := map[string]*scanned{}
	stuck := make([]map[syncdb.Hash]struct{}, len(found)) // by resource: gone, and cannot be deleted
	kept := make([]map[syncdb.Hash]struct{}, len(found))  // gone, and the delete is held or was discarded
	for i, r := range found {
		index[r.Path], stuck[i], kept[i] = r, map[syncdb.Hash]struct{}{}, map[syncdb.Hash]struct{}{}
		err := r.gone.each(func(rec *record) error {
			if !r.moved(rec.KeyHash) && !r.deletable(r.goneEntry(rec)) {
				stuck[i][rec.KeyHash] = struct{}{}
			} else if p := d.gates[i].judge(syncdb.Delete, rec.KeyHash); p.refused || p.held != nil && p.held.Rule != RulePreventDelete {
				kept[i][rec.KeyHash] = struct{}{}
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("look through what is gone of %s: %w", r.Path, err)
		}
	}
	return func(o syncdb.PlanOp) bool {
		r, ok := index[o.Resource]
		if !ok {
			return true
		}
		if now := r.instead(o.KeyHash); o.Verb == syncdb.Delete && !now.IsZero() && now != o.NewRecord && !o.Untold() {
			return false // its row is there, and asks for something else
		}
		if rest := d.gates[r.index].rest[syncdb.Delete]; rest != nil && rest.Rule != RulePreventDelete {
			return true
		}
		_, invalid := r.heldSource[o.SourceHash]
		for _, key := range [...]syncdb.Hash{o.KeyHash, o.OldKeyHash} {
			_, held := r.heldKey[key]
			_, dup := r.dups[key]
			invalid = invalid || held || dup
		}
		_, stays := stuck[r.index][o.KeyHash]
		_, stands := kept[r.index][o.KeyHash]
		_, doubtful := r.inDoubt(o)
		return invalid || doubtful || stands || stays && o.Verb == syncdb.Delete
	}, nil
}

// opsOf lists the ops of a plan that pick wants, as it gives them.
func (e *Engine) opsOf(ctx context.Context, plan int64, pick func(syncdb.PlanOp) (syncdb.PlanOp, bool)) iter.Seq2[syncdb.PlanOp, error] {
	return func(yield func(syncdb.PlanOp, error) bool) {
		err := e.Ledger.PlanOps(ctx, e.Connection.ID, plan, func(o syncdb.PlanOp) error {
			if o, ok := pick(o); ok && !yield(o, nil) {
				return errEnough
			}
			return nil
		})
		if err != nil && !errors.Is(err, errEnough) {
			yield(syncdb.PlanOp{}, err)
		}
	}
}
