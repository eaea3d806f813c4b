package sync

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/edfisync/edfisync/schema"
	"github.com/edfisync/edfisync/syncdb"
)

// SavedPlan is a plan that is kept to be applied as it is (I8). It holds no student data.
type SavedPlan struct {
	ID       int64                       `json:"plan"`
	Config   string                      `json:"config,omitempty"` // version of configuration and mapping pack
	Ops      int64                       `json:"ops"`
	Counts   map[string]map[string]int64 `json:"counts"` // resource → create, update, delete → calls
	Held     []HeldPart                  `json:"held,omitempty"`
	Checksum string                      `json:"checksum"` // over every op, in order
}

// Staleness says what makes an op of a saved plan another one now.
type Staleness string

// The causes.
const (
	SourceChanged Staleness = "source row changed"
	LedgerChanged Staleness = "ledger entry changed"
	ConfigChanged Staleness = "configuration changed"
)

// Difference is one op of a saved plan that a run would not make any more. The record is named by the beginning of its keyed hash: it tells
// records apart and nothing about them (I14).
type Difference struct {
	Resource string    `json:"resource"`
	Verb     string    `json:"verb"`
	Record   string    `json:"record"`
	Cause    Staleness `json:"cause"`
}

// maxDifferences is how many differences a refusal names.
const maxDifferences = 100

// StalePlanError refuses a saved plan: not every op of it is what a run would do now. Nothing was written to the target.
type StalePlanError struct {
	Plan   int64               `json:"plan"`
	Counts map[Staleness]int64 `json:"counts"`
	First  []Difference        `json:"differences,omitempty"` // at most 100
}

// Error counts the differences by cause.
func (e *StalePlanError) Error() string {
	text := fmt.Sprintf("plan %d is stale, and nothing was sent", e.Plan)
	for _, c := range []Staleness{SourceChanged, LedgerChanged, ConfigChanged} {
		if n := e.Counts[c]; n > 0 {
			text += fmt.Sprintf("; %s: %d", c, n)
		}
	}
	return text
}

// SavePlan is Plan, and keeps every op of it in the ledger for Options.Apply: also those a safeguard would hold in a run, because applying a plan is
// their approval. Ops a person has discarded are left out, and those the configuration forbids. A target that was reset, or a source that is
// behind, is refused: there is nothing to rely on.
func (e *Engine) SavePlan(ctx context.Context, details int) (*Plan, *SavedPlan, error) {
	var saved *SavedPlan
	plan, err := e.scanPlan(ctx, details, func(sc *scope, found []*scanned, p *Plan) error {
		for _, h := range p.Held {
			if h.Rule == RuleTargetReset {
				return fmt.Errorf("no plan is saved: %s", h.Reason)
			}
		}
		if p.SourceBehind != "" {
			return fmt.Errorf("no plan is saved: %s", p.SourceBehind)
		}
		out, err := e.unsaved(sc, found, p)
		if err != nil {
			return err
		}
		held := slices.DeleteFunc(slices.Clone(p.Held), func(h HeldPart) bool { return h.Rule == RuleOutOfScope }) // not in the plan
		s := &SavedPlan{Config: e.Config, Counts: map[string]map[string]int64{}, Held: held}
		wanted := func(resource int, o syncdb.PlanOp) bool {
			left := out.blocked
			if o.Verb == syncdb.Delete {
				left = out.stays
			}
			if _, ok := left[resource][o.KeyHash]; ok {
				return false
			}
			return found[resource].approvable(p.gates[resource], o)
		}
		err = e.eachOp(ctx, sc, found, func(resource int, o syncdb.PlanOp) error {
			if !wanted(resource, o) {
				return nil
			}
			if s.Counts[o.Resource] == nil {
				s.Counts[o.Resource] = map[string]int64{}
			}
			s.Counts[o.Resource][verbName(o.Verb)]++
			return nil
		})
		if err != nil {
			return err
		}
		counts, err := json.Marshal(s.Counts)
		if err != nil {
			return fmt.Errorf("write the counts of a plan: %w", err)
		}
		kept, err := e.Ledger.SavePlan(ctx, e.Connection.ID, syncdb.Plan{Kind: syncdb.PlanSaved, Reason: overridden(held), Config: e.Config, Counts: counts}, e.opsWhere(ctx, sc, found, wanted))
		if err != nil {
			return err
		}
		s.ID, s.Ops = kept.ID, kept.Ops
		s.Checksum, err = e.PlanChecksum(ctx, kept.ID)
		saved = s
		return err
	})
	return plan, saved, err
}

// unsaved finds what is not in a saved plan because something else is not, so that every call of it is made when it is applied (I8): what a safeguard holds is in it.
func (e *Engine) unsaved(s *scope, found []*scanned, p *Plan) (stopped, error) {
	hasher := schema.NewHasher(e.Keys.HashMAC())
	in := func(i int, verb syncdb.Verb, key syncdb.Hash) bool {
		return found[i].approvable(p.gates[i], syncdb.PlanOp{Verb: verb, KeyHash: key})
	}
	out, err := eachBlocked(s, found, hasher, e.Options.Rules, in, func(int, syncdb.Verb, syncdb.Hash) {})
	if err != nil {
		return out, err
	}
	deleted := func(i int, key syncdb.Hash) bool {
		_, stays := out.stays[i][key]
		return !stays && in(i, syncdb.Delete, key)
	}
	return out, eachKept(s, found, hasher, deleted, func(i int, key syncdb.Hash, _ bool) { out.stays[i][key] = struct{}{} })
}

// approvable reports whether a call may be in a saved plan: whatever a safeguard would hold, and nothing a person or the configuration said no to. What is out
// of the connection's scope is removed with its hold only. A
// natural-key change by create and delete is one thing: without the one the other is not in the plan either, but for a create whose old record
// stays anyway, so that every call of the plan is made when it is applied (I8).
func (r *scanned) approvable(g *gate, o syncdb.PlanOp) bool {
	if own := g.judge(o.Verb, o.KeyHash); own.refused || own.held != nil && own.held.Rule == RulePreventDelete || g.removes(o.Verb, o.KeyHash) {
		return false
	}
	if m, ok := r.moves[o.KeyHash]; ok && o.Verb == syncdb.Create && m.how == moveRecreate {
		return m.otherYear || !g.judge(syncdb.Delete, m.old).refused
	}
	if now, ok := r.movedFrom[o.KeyHash]; ok && o.Verb == syncdb.Delete {
		return !g.judge(syncdb.Create, now).refused
	}
	return true
}

// overridden names what a saved plan makes although a safeguard would hold it; "" = nothing. The ledger keeps it with the plan.
func overridden(held []HeldPart) string {
	text := make([]string, len(held))
	for i, h := range held {
		text[i] = fmt.Sprintf("%s (%d calls): %s", h.What(), h.Ops, h.Reason)
	}
	return strings.Join(text, "; ")
}

// PlanChecksum stands for every op of a saved plan, in order.
func (e *Engine) PlanChecksum(ctx context.Context, id int64) (string, error) {
	sum := sha256.New()
	err := e.Ledger.PlanOps(ctx, e.Connection.ID, id, func(o syncdb.PlanOp) error {
		op := identify(o)
		_, err := sum.Write(op[:])
		return err
	})
	if err != nil {
		return "", fmt.Errorf("read plan %d: %w", id, err)
	}
	return fmt.Sprintf("sha256:%x", sum.Sum(nil)), nil
}

// planOf makes a saved plan, which a person has approved, the plan of this run: each of its ops must be there unchanged, and no other goes (I8).
// A plan of which one op differs is closed as stale with a *StalePlanError.
func (e *Engine) planOf(ctx context.Context, k *keeper, s *scope, found []*scanned, id int64, st standing) (*Plan, error) {
	if why := st.alarm + st.behind; why != "" {
		return nil, fmt.Errorf("plan %d is not applied: %s", id, why)
	}
	kept, err := e.Ledger.PlanByID(ctx, e.Connection.ID, id)
	if err != nil {
		return nil, err
	}
	if kept.Kind != syncdb.PlanSaved || kept.State != syncdb.PlanApproved {
		return nil, &syncdb.PlanStateError{ID: id, State: kept.State}
	}
	want, older := make(map[opID]struct{}, kept.Ops), map[opID]struct{}{}
	if err := e.Ledger.PlanOps(ctx, e.Connection.ID, id, func(o syncdb.PlanOp) error {
		at := slices.IndexFunc(found, func(r *scanned) bool { return r.Path == o.Resource })
		if at < 0 || o.Verb != syncdb.Delete || !found[at].neverMade(o.KeyHash) { // of a create that never arrived there is nothing to delete
			want[identify(o)] = struct{}{}
			if o.Untold() {
				older[identify(o)] = struct{}{}
			}
		}
		return nil
	}); err != nil {
		return nil, fmt.Errorf("read plan %d: %w", id, err)
	}
	gates := newGates(found)
	outside := &HeldPart{Verb: "write", Rule: RuleOutsidePlan, Reason: RuleOutsidePlan.cause()}
	for _, g := range gates {
		g.rest = [syncdb.Delete + 1]*HeldPart{syncdb.Create: outside, syncdb.Update: outside, syncdb.Delete: outside}
	}
	total := int64(len(want))
	err = e.eachOp(ctx, s, found, func(resource int, o syncdb.PlanOp) error {
		id := identify(o)
		if _, ok := older[identify(asOlder(o))]; ok && o.Verb == syncdb.Delete {
			id = identify(asOlder(o))
		}
		if _, ok := want[id]; ok && !gates[resource].removes(o.Verb, o.KeyHash) {
			delete(want, id)
			gates[resource].approved[o.KeyHash] = 0
			gates[resource].decided[o.Verb]++
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if len(want) > 0 || kept.Config != e.Config {
		stale, err := e.differences(ctx, kept, want)
		if err != nil {
			return nil, err
		}
		return nil, errors.Join(stale, e.closeHold(ctx, k, kept, syncdb.PlanStale))
	}
	p := &Plan{gates: gates, approved: &approvals{holds: []syncdb.Plan{kept}, wanted: []int64{total}, done: make([]atomic.Int64, 1)}}
	for i, r := range found {
		rp := r.plan()
		rp.Held = r.waiting(rp, gates[i])
		p.Resources = append(p.Resources, rp)
	}
	return p, nil
}

// differences says why the ops that are left of a plan are not what a run would do now.
func (e *Engine) differences(ctx context.Context, kept syncdb.Plan, left map[opID]struct{}) (*StalePlanError, error) {
	out := &StalePlanError{Plan: kept.ID, Counts: map[Staleness]int64{}}
	if kept.Config != e.Config {
		out.Counts[ConfigChanged] = kept.Ops
	}
	err := e.Ledger.PlanOps(ctx, e.Connection.ID, kept.ID, func(o syncdb.PlanOp) error {
		if _, ok := left[identify(o)]; !ok {
			return nil
		}
		cause := ConfigChanged
		if kept.Config == e.Config {
			at := o.KeyHash
			if !o.OldKeyHash.IsZero() {
				at = o.OldKeyHash
			}
			entries, err := e.Ledger.Lookup(ctx, e.Connection.ID, o.Resource, []syncdb.Hash{at})
			if err != nil {
				return fmt.Errorf("look up entry: %w", err)
			}
			entry, known := entries[at]
			cause = SourceChanged
			if o.Verb == syncdb.Create && known && entry.State == syncdb.Live || o.Verb != syncdb.Create && (!known || entry.RecordHash != o.OldRecord) {
				cause = LedgerChanged
			}
			out.Counts[cause]++
		}
		if len(out.First) < maxDifferences {
			out.First = append(out.First, Difference{Resource: o.Resource, Verb: verbName(o.Verb), Record: fmt.Sprintf("%x", o.KeyHash[:6]), Cause: cause})
		}
		return nil
	})
	return out, err
}
