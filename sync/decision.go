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
	plans    []syncdb.Plan // the oldest first
	gates    []*gate
	approved *approvals
	unasked  map[opID]struct{} // ops of the plans that the scan does not ask for
}

// decisions reads what people said about ops of earlier runs, and gives every gate the ops it concerns. An op is meant only when it is the
// same in every part; another one on the same record is judged anew. Later decisions go before earlier ones.
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
	undone, err := e.Ledger.Plans(ctx, e.Connection.ID, syncdb.PlanFilter{Kind: syncdb.PlanUndo, States: []syncdb.PlanState{syncdb.PlanDiscarded}})
	if err != nil {
		return nil, fmt.Errorf("read what was undone: %w", err)
	}
	d.plans = append(decided, undone...)
	slices.SortFunc(d.plans, func(a, b syncdb.Plan) int { return cmp.Compare(a.ID, b.ID) })
	said := map[opID]int{} // index of the approved hold, or -1-index of the plan that says no
	d.unasked = map[opID]struct{}{}
	for i, p := range d.plans {
		verdict := -1 - i
		if p.Kind == syncdb.PlanHold && p.State == syncdb.PlanApproved {
			verdict = len(d.approved.holds)
			d.approved.holds = append(d.approved.holds, p)
		}
		err := e.Ledger.PlanOps(ctx, e.Connection.ID, p.ID, func(o syncdb.PlanOp) error {
			said[identify(o)], d.unasked[identify(o)] = verdict, struct{}{}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("read what is held: %w", err)
		}
	}
	d.approved.wanted, d.approved.done = make([]int64, len(d.approved.holds)), make([]atomic.Int64, len(d.approved.holds))
	if len(said) == 0 {
		return d, nil
	}
	err = e.eachOp(ctx, s, found, func(resource int, o syncdb.PlanOp) error {
		id := identify(o)
		verdict, ok := said[id]
		if !ok {
			return nil
		}
		delete(d.unasked, id)
		g := d.gates[resource]
		g.decided[o.Verb]++
		if verdict < 0 {
			g.refused[o.KeyHash] = &d.plans[-1-verdict]
			return nil
		}
		g.approved[o.KeyHash] = verdict
		d.approved.wanted[verdict]++
		return nil
	})
	return d, err
}

// endDecisions takes the ops out of decided plans that a complete scan does not ask for: the row came back, or changed, or the op was made. Should
// the same be asked for again one day, it is judged anew. A source that is behind ends nothing, nor does a target that is not what it was, and
// neither does a row that breaks rules this time.
func (e *Engine) endDecisions(ctx context.Context, k *keeper, found []*scanned, d *decisions, st standing) error {
	if len(d.unasked) == 0 || st.alarm != "" || st.behind != "" {
		return nil
	}
	waits, err := d.waiting(found)
	if err != nil {
		return err
	}
	stays := func(o syncdb.PlanOp) bool {
		_, unasked := d.unasked[identify(o)]
		return !unasked || waits(o)
	}
	for _, p := range d.plans {
		counts, left := map[string]map[string]int64{}, int64(0)
		err := e.Ledger.PlanOps(ctx, e.Connection.ID, p.ID, func(o syncdb.PlanOp) error {
			if stays(o) {
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
		if left == p.Ops {
			continue
		}
		if p.Counts, err = json.Marshal(counts); err != nil {
			return fmt.Errorf("write the counts of a plan: %w", err)
		}
		narrowed, err := e.Ledger.NarrowPlan(ctx, k.current(), p, e.opsOf(ctx, p.ID, stays))
		var state *syncdb.PlanStateError
		var edition *syncdb.PlanEditionError
		switch {
		case errors.As(err, &state), errors.As(err, &edition): // a person decided otherwise meanwhile: the next run sees what
		case err != nil:
			return fmt.Errorf("end what was decided: %w", err)
		default:
			e.logger().Info("a decision has ended for calls the source does not ask for any more", slog.String("kind", string(p.Kind)), slog.Int64("plan", p.ID),
				slog.Int64("calls", p.Ops-left), slog.Int64("left", left), slog.String("state", string(narrowed.State)))
		}
	}
	return nil
}

// waiting says of ops the scan does not ask for whether that is only so this time: the resource is not in the scope, the row breaks rules or is one
// of several with its natural key, or the record cannot be deleted now though its row is gone (I5).
func (d *decisions) waiting(found []*scanned) (func(syncdb.PlanOp) bool, error) {
	index := map[string]*scanned{}
	stuck := make([]map[syncdb.Hash]struct{}, len(found)) // by resource: gone, and not deleted
	for i, r := range found {
		index[r.Path], stuck[i] = r, map[syncdb.Hash]struct{}{}
		err := r.gone.each(func(rec *record) error {
			if !r.moved(rec.KeyHash) && !r.deletable(r.goneEntry(rec)) {
				stuck[i][rec.KeyHash] = struct{}{}
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
		_, invalid := r.heldSource[o.SourceHash]
		for _, key := range [...]syncdb.Hash{o.KeyHash, o.OldKeyHash} {
			_, held := r.heldKey[key]
			_, dup := r.dups[key]
			invalid = invalid || held || dup
		}
		_, stays := stuck[r.index][o.KeyHash]
		return invalid || stays && o.Verb == syncdb.Delete
	}, nil
}

// opsOf lists the ops of a plan that pick wants.
func (e *Engine) opsOf(ctx context.Context, plan int64, pick func(syncdb.PlanOp) bool) iter.Seq2[syncdb.PlanOp, error] {
	return func(yield func(syncdb.PlanOp, error) bool) {
		err := e.Ledger.PlanOps(ctx, e.Connection.ID, plan, func(o syncdb.PlanOp) error {
			if pick(o) && !yield(o, nil) {
				return errEnough
			}
			return nil
		})
		if err != nil && !errors.Is(err, errEnough) {
			yield(syncdb.PlanOp{}, err)
		}
	}
}
