package memdb

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/edfisync/edfisync/syncdb"
)

type plan struct {
	syncdb.Plan
	ops    []syncdb.PlanOp // replaced, never changed
	purged bool
}

// SaveHold is syncdb.DB.SaveHold.
func (d *DB) SaveHold(ctx context.Context, l syncdb.Lease, p syncdb.Plan, ops iter.Seq2[syncdb.PlanOp, error]) (syncdb.Plan, error) {
	all, err := gather(ops)
	if err != nil {
		return syncdb.Plan{}, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	c, err := d.fenced(ctx, l)
	if err != nil {
		return syncdb.Plan{}, err
	}
	i := slices.IndexFunc(c.plans, func(h *plan) bool {
		return h.Kind == syncdb.PlanHold && h.State == syncdb.PlanOpen && h.Resource == p.Resource && h.Verb == p.Verb && h.Rule == p.Rule
	})
	if i < 0 && len(all) == 0 {
		return syncdb.Plan{}, nil
	}
	if i < 0 {
		d.lastPlan++
		i = len(c.plans)
		c.plans = append(c.plans, &plan{Plan: syncdb.Plan{
			ID: d.lastPlan, ConnectionID: c.ID, Kind: syncdb.PlanHold, RunID: cmp.Or(p.RunID, l.RunID), Resource: p.Resource, Verb: p.Verb, Rule: p.Rule,
			CreatedAt: d.now(),
		}})
	}
	h := c.plans[i]
	h.State, h.Reason, h.Config, h.Counts, h.UpdatedAt = syncdb.PlanOpen, p.Reason, p.Config, slices.Clone(p.Counts), d.now()
	if h.Edition == 0 || h.Mark != p.Mark || !sameOps(h.ops, all) {
		h.Edition++
	}
	h.Mark, h.ops, h.Ops = p.Mark, all, int64(len(all))
	if len(all) == 0 {
		h.State, h.Counts = syncdb.PlanReleased, nil
	}
	return h.clone(), nil
}

// NarrowPlan is syncdb.DB.NarrowPlan.
func (d *DB) NarrowPlan(ctx context.Context, l syncdb.Lease, p syncdb.Plan, ops iter.Seq2[syncdb.PlanOp, error]) (syncdb.Plan, error) {
	all, err := gather(ops)
	if err != nil {
		return syncdb.Plan{}, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	c, err := d.fenced(ctx, l)
	if err != nil {
		return syncdb.Plan{}, err
	}
	h, err := c.plan(p.ID)
	if err == nil {
		err = h.Narrows(p.Edition)
	}
	if err != nil {
		return syncdb.Plan{}, err
	}
	h.Mark, h.ops, h.Ops, h.Counts, h.UpdatedAt = p.Mark, all, int64(len(all)), slices.Clone(p.Counts), d.now()
	h.Edition++
	if len(all) == 0 {
		h.State, h.Counts = syncdb.PlanReleased, nil
	}
	return h.clone(), nil
}

// SavePlan is syncdb.DB.SavePlan.
func (d *DB) SavePlan(ctx context.Context, connID int64, p syncdb.Plan, ops iter.Seq2[syncdb.PlanOp, error]) (syncdb.Plan, error) {
	p.State = cmp.Or(p.State, syncdb.PlanOpen)
	if err := p.Check(); err != nil {
		return syncdb.Plan{}, err
	}
	all, err := gather(ops)
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return syncdb.Plan{}, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	c := d.connection(connID)
	if c.ID == 0 {
		return syncdb.Plan{}, fmt.Errorf("save plan: no connection %d", connID)
	}
	d.lastPlan++
	p.ID, p.ConnectionID, p.Edition, p.Ops, p.Counts, p.CreatedAt = d.lastPlan, connID, 1, int64(len(all)), slices.Clone(p.Counts), d.now()
	p.UpdatedAt, p.DecidedAt = p.CreatedAt, time.Time{}
	if p.DecidedBy != "" {
		p.DecidedAt = p.CreatedAt
	}
	saved := &plan{Plan: p, ops: all}
	c.plans = append(c.plans, saved)
	return saved.clone(), nil
}

// sameOps compares ops in order. Where an op stands in the plan does not matter, nor whether the program said all of it that it could.
func sameOps(a, b []syncdb.PlanOp) bool {
	return slices.EqualFunc(a, b, func(a, b syncdb.PlanOp) bool {
		a.Step, b.Step, a.Alone, b.Alone = 0, 0, false, false
		return a == b
	})
}

func gather(ops iter.Seq2[syncdb.PlanOp, error]) ([]syncdb.PlanOp, error) {
	var all []syncdb.PlanOp
	for o, err := range ops {
		if err == nil {
			err = o.Check()
		}
		if err != nil {
			return nil, err
		}
		all = append(all, o)
	}
	slices.SortStableFunc(all, func(a, b syncdb.PlanOp) int { return a.Compare(&b) })
	return all, nil
}

func (p *plan) clone() syncdb.Plan {
	c := p.Plan
	c.Counts = slices.Clone(c.Counts)
	return c
}

// Plans is syncdb.DB.Plans.
func (d *DB) Plans(ctx context.Context, connID int64, f syncdb.PlanFilter) ([]syncdb.Plan, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	out := []syncdb.Plan{}
	for _, p := range slices.Backward(d.connection(connID).plans) {
		if f.Limit > 0 && len(out) == f.Limit {
			break
		}
		if (f.Kind == "" || f.Kind == p.Kind) && (len(f.States) == 0 || slices.Contains(f.States, p.State)) {
			out = append(out, p.clone())
		}
	}
	return out, nil
}

// plan returns a plan of the connection, or syncdb.ErrNotFound. Called with d.mu held.
func (c *connection) plan(id int64) (*plan, error) {
	for _, p := range c.plans {
		if p.ID == id {
			return p, nil
		}
	}
	return nil, fmt.Errorf("plan %d: %w", id, syncdb.ErrNotFound)
}

// PlanByID is syncdb.DB.PlanByID.
func (d *DB) PlanByID(ctx context.Context, connID, id int64) (syncdb.Plan, error) {
	if err := ctx.Err(); err != nil {
		return syncdb.Plan{}, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	p, err := d.connection(connID).plan(id)
	if err != nil {
		return syncdb.Plan{}, err
	}
	return p.clone(), nil
}

// PlanOps is syncdb.DB.PlanOps.
func (d *DB) PlanOps(ctx context.Context, connID, id int64, fn func(syncdb.PlanOp) error) error {
	d.mu.Lock()
	p, err := d.connection(connID).plan(id)
	var ops []syncdb.PlanOp
	if err == nil {
		ops = p.ops
		if p.purged {
			err = fmt.Errorf("ops of plan %d: %w", id, syncdb.ErrNotFound)
		}
	}
	d.mu.Unlock()
	for i := 0; err == nil && i < len(ops); i++ {
		if err = ctx.Err(); err == nil {
			err = fn(ops[i])
		}
	}
	return err
}

// DecidePlan is syncdb.DB.DecidePlan.
func (d *DB) DecidePlan(ctx context.Context, connID, id int64, decision syncdb.Decision) (syncdb.Plan, error) {
	if err := ctx.Err(); err != nil {
		return syncdb.Plan{}, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	c := d.connection(connID)
	p, err := c.plan(id)
	if err != nil {
		return syncdb.Plan{}, err
	}
	after, audit, err := p.Decide(decision, d.now())
	if err != nil {
		return syncdb.Plan{}, err
	}
	if decision.To == syncdb.PlanOpen && p.Kind == syncdb.PlanHold {
		for _, h := range c.plans {
			if h != p && h.Kind == p.Kind && h.State == decision.To && h.Resource == p.Resource && h.Verb == p.Verb && h.Rule == p.Rule {
				return syncdb.Plan{}, fmt.Errorf("decide plan %d: %w", id, syncdb.ErrHoldOpen)
			}
		}
	}
	audit.Connection = c.Tenant + "/" + c.Name
	if err := d.audit(audit); err != nil {
		return syncdb.Plan{}, err
	}
	p.Plan = after
	return p.clone(), nil
}

// ClosePlan is syncdb.DB.ClosePlan.
func (d *DB) ClosePlan(ctx context.Context, l syncdb.Lease, id int64, to syncdb.PlanState) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	c, err := d.fenced(ctx, l)
	if err != nil {
		return err
	}
	p, err := c.plan(id)
	if err != nil {
		return err
	}
	after, err := p.Close(to, l.RunID)
	if err != nil {
		return err
	}
	p.Plan = after
	return nil
}

// PurgePlans is syncdb.DB.PurgePlans.
func (d *DB) PurgePlans(ctx context.Context, connID int64, before time.Time) (n int64, err error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	final := func(p *plan) bool {
		return p.State == syncdb.PlanReleased || (p.State == syncdb.PlanApplied || p.State == syncdb.PlanStale) && p.Kind != syncdb.PlanUndo
	}
	for _, p := range d.connection(connID).plans {
		if !p.purged && final(p) && p.UpdatedAt.Before(before) && p.DecidedAt.Before(before) {
			p.ops, p.purged, p.Edition = nil, true, 0
			n++
		}
	}
	return n, nil
}
