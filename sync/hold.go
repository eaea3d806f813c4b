package sync

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"github.com/edfisync/edfisync/schema"
	"github.com/edfisync/edfisync/syncdb"
)

// saveHolds writes what the safeguards keep back, each part with exactly its ops, and releases the open holds nothing asks for any more.
// It comes before the first call (I5e).
func (e *Engine) saveHolds(ctx context.Context, k *keeper, s *scope, found []*scanned, p *Plan) error {
	if slices.ContainsFunc(p.Held, func(part HeldPart) bool { return !part.asked() }) {
		return nil // an alarm: nothing can be judged before somebody has dealt with it
	}
	mine, err := e.touched(ctx, s, found, p)
	if err != nil {
		return err
	}
	open, err := e.Ledger.Plans(ctx, e.Connection.ID, syncdb.PlanFilter{Kind: syncdb.PlanHold, States: []syncdb.PlanState{syncdb.PlanOpen}})
	if err != nil {
		return fmt.Errorf("read what is held: %w", err)
	}
	for i := range p.Held {
		part := &p.Held[i]
		if !slices.ContainsFunc(mine, func(h HeldPart) bool {
			return h.Resource == part.Resource && h.verb == part.verb && h.Rule == part.Rule
		}) {
			continue
		}
		counts := map[string]map[string]int64{}
		for resource, n := range part.counts {
			counts[resource] = map[string]int64{part.Verb: n}
		}
		text, err := json.Marshal(counts)
		if err != nil {
			return fmt.Errorf("write the counts of a hold: %w", err)
		}
		mark := ""
		if part.Rule == RuleSourceBehind {
			mark = heldMark(open, p.mark)
		}
		h, err := e.Ledger.SaveHold(ctx, k.current(), syncdb.Plan{
			Resource: part.Resource, Verb: part.verb, Rule: string(part.Rule), Reason: part.Reason, Config: e.Config, Counts: text, Mark: mark,
		}, e.opsWhere(ctx, s, found, func(resource int, o syncdb.PlanOp) bool {
			return p.gates[resource].judge(o.Verb, o.KeyHash).held == part
		}))
		if err != nil {
			return fmt.Errorf("keep what is held: %w", err)
		}
		part.Hold, part.Edition, part.Ops = h.ID, h.Edition, h.Ops
	}
	if p.part != nil {
		return nil // what nothing asks for any more a run without a scope releases
	}
	for _, h := range open {
		held := slices.ContainsFunc(p.Held, func(part HeldPart) bool { return part.Hold == h.ID })
		if held || slices.ContainsFunc(p.approved.holds, func(a syncdb.Plan) bool { return a.ID == h.ID }) { // let through: it is closed when its ops are made
			continue
		}
		// No ops, so it is released: the rows are back.
		nothing := func(func(syncdb.PlanOp, error) bool) {}
		if _, err := e.Ledger.SaveHold(ctx, k.current(), h, nothing); err != nil {
			return fmt.Errorf("release hold %d: %w", h.ID, err)
		}
	}
	return nil
}

// closeHolds closes the approved holds of a run that came to its end: applied when every op of it that the source still asked for was answered,
// released when it asked for none. What was blocked or failed stays approved for the next run. A saved plan is applied once: what of it failed
// is any run's to send.
func (e *Engine) closeHolds(ctx context.Context, k *keeper, p *Plan) error {
	a := p.approved
	for i, h := range a.holds {
		to := syncdb.PlanApplied
		switch {
		case h.Kind == syncdb.PlanSaved:
		case a.wanted[i] == 0 && p.part != nil:
			continue
		case a.wanted[i] == 0:
			to = syncdb.PlanReleased
		case a.done[i].Load() < a.wanted[i]:
			continue
		}
		if err := e.closeHold(ctx, k, h, to); err != nil {
			return err
		}
	}
	return nil
}

// closeHold closes one hold, unless a person decided about it meanwhile.
func (e *Engine) closeHold(ctx context.Context, k *keeper, h syncdb.Plan, to syncdb.PlanState) error {
	err := e.Ledger.ClosePlan(ctx, k.current(), h.ID, to)
	var decided *syncdb.PlanStateError
	if err != nil && !errors.As(err, &decided) {
		return fmt.Errorf("close hold %d: %w", h.ID, err)
	}
	if err == nil {
		e.logger().Info("hold closed", slog.Int64("hold", h.ID), slog.String("rule", h.Rule), slog.String("state", string(to)))
	}
	return nil
}

// keptBack reports whether an op is kept back by a safeguard or by what a person said, and files it as held then (I5e, I11).
func (s *stepRun) keptBack(o *op) bool {
	var p pass
	if o.was != nil {
		p = s.gate.recreate(o.key, *o.was)
	} else {
		p = s.gate.judge(o.verb, o.key)
	}
	switch {
	case o.silent != notSilent && (p.held == nil || p.held.Rule != RuleTargetReset):
		return false // no call is made
	case p.refused:
		s.mu.Lock()
		defer s.mu.Unlock()
		s.totals.add(Held, o.verb != syncdb.Delete)
		s.totals.Decided++
		return true
	case p.held == nil:
		o.hold = p.hold + 1
		return false
	}
	if p.held.Rule == RuleOutsidePlan { // the person who applied the plan decided so; what was known of the row stays
		at := o.source
		if o.verb == syncdb.Delete {
			at = goneProblem(o.key)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.totals.add(Held, o.verb != syncdb.Delete)
		s.totals.Decided++
		s.keep = append(s.keep, at)
		return true
	}
	if p.held.Rule == RulePreventDelete {
		s.mu.Lock()
		s.totals.Decided++
		s.mu.Unlock()
	}
	advice, _ := AdviceOn(string(p.held.Rule))
	text := p.held.Rule.cause()
	if p.held.Rule == RulePreventDelete {
		text = p.held.Reason // the same in every run, too
	}
	s.hold(o, Held, string(p.held.Rule), text, advice.Owner, nil)
	return true
}

// strand notes a delete that is not made or did not go through: what it was authorised by and what it refers to have to stay (I6).
func (s *stepRun) strand(o *op) {
	at := place{s.r.Path, o.key}
	if !s.r.authorisesItself() {
		s.x.strand(o.person, at)
	}
	if o.verb != syncdb.Delete || len(o.keyText) == 0 {
		return
	}
	s.x.need(s.r.cascades(s.x.scope).identifying(schema.NewHasher(s.x.e.Keys.HashMAC()), o.keyText), at)
}

// need notes that records stay, because others refer to them.
func (x *executor) need(refs []reference, by place) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, ref := range refs {
		x.needed[ref] = by
	}
}

// isNeeded reports whether a record of the resource is referred to by one that should have been deleted and was not, and by which. Only references that are part
// of the natural key are known without asking the target.
func (x *executor) isNeeded(resource int, key syncdb.Hash) (by place, needed bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if len(x.needed) == 0 {
		return place{}, false
	}
	for t := range x.scope.targets {
		if by, needed = x.needed[reference{Target: uint16(t), Hash: key}]; needed && x.scope.targets[t].holds(resource) {
			return by, true
		}
	}
	return place{}, false
}
