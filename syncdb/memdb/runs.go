package memdb

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/edfisync/edfisync/syncdb"
)

// RequestRun is syncdb.DB.RequestRun.
func (d *DB) RequestRun(ctx context.Context, connID int64, reason string) (syncdb.Run, bool, error) {
	return d.RequestScoped(ctx, connID, reason, syncdb.RunScope{})
}

// RequestScoped is syncdb.DB.RequestScoped.
func (d *DB) RequestScoped(ctx context.Context, connID int64, reason string, scope syncdb.RunScope) (syncdb.Run, bool, error) {
	if err := ctx.Err(); err != nil {
		return syncdb.Run{}, false, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	c := d.connection(connID)
	if c.ID == 0 {
		return syncdb.Run{}, false, fmt.Errorf("request run: no connection %d", connID)
	}
	if r := c.in(syncdb.RunWaiting); r != nil {
		r.widen(scope)
		return r.Run, true, nil
	}
	return d.ask(c, reason, scope).Run, false, nil
}

// ask makes a run that waits.
func (d *DB) ask(c *connection, reason string, scope syncdb.RunScope) *run {
	d.lastRun++
	r := &run{
		Run:   syncdb.Run{ID: d.lastRun, ConnectionID: c.ID, State: syncdb.RunWaiting, Reason: reason, Scope: scope, CreatedAt: d.now()},
		steps: map[int]syncdb.Step{},
	}
	d.runs[r.ID] = r
	c.runs = append(c.runs, r)
	return r
}

// widen adds a scope to that of a run.
func (r *run) widen(scope syncdb.RunScope) {
	if !r.Scope.Covers(scope) {
		r.Scope = r.Scope.Union(scope)
	}
}

// in returns the one run in this state, waiting or running.
func (c *connection) in(state syncdb.RunState) *run {
	for _, r := range slices.Backward(c.runs) {
		if r.State == state {
			return r
		}
	}
	return nil
}

// now is the clock at the resolution the SQL ledgers store.
func (d *DB) now() time.Time { return d.clock().UTC().Truncate(time.Millisecond) }

// StartRun is syncdb.DB.StartRun.
func (d *DB) StartRun(ctx context.Context, connID int64, holder string, ttl time.Duration) (syncdb.Run, syncdb.Lease, error) {
	return d.lend(ctx, connID, holder, ttl, func(c *connection, lost *run) *run {
		r := c.in(syncdb.RunWaiting)
		if r != nil && lost != nil {
			r.widen(lost.Scope)
		}
		return r
	})
}

// StartErrand is syncdb.DB.StartErrand.
func (d *DB) StartErrand(ctx context.Context, connID int64, reason, holder string, ttl time.Duration) (syncdb.Run, syncdb.Lease, error) {
	return d.lend(ctx, connID, holder, ttl, func(c *connection, lost *run) *run {
		d.again(c, lost)
		r := d.ask(c, reason, syncdb.RunScope{})
		r.Errand = true
		return r
	})
}

// lend gives a new lease to the run that next returns; nil = there is none. lost is a run that lost its process.
func (d *DB) lend(ctx context.Context, connID int64, holder string, ttl time.Duration, next func(c *connection, lost *run) *run) (syncdb.Run, syncdb.Lease, error) {
	if err := ctx.Err(); err != nil {
		return syncdb.Run{}, syncdb.Lease{}, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	c, now := d.connection(connID), d.clock()
	if c.ID == 0 {
		return syncdb.Run{}, syncdb.Lease{}, fmt.Errorf("start run: no connection %d", connID)
	}
	var lost *run
	if running := c.in(syncdb.RunRunning); running != nil {
		if until := c.lease.expires.Add(d.grace); until.After(now) {
			return syncdb.Run{}, syncdb.Lease{}, &syncdb.BusyError{Holder: c.lease.holder, RunID: running.ID, Until: until}
		}
		running.State, running.Error, running.Failure, running.EndedAt = syncdb.RunFailed, syncdb.LostErrand, syncdb.FailureProcess, d.now()
		if !running.Errand {
			running.Error, lost = syncdb.LostProcess, running
		}
		c.lease = lease{token: c.lease.token + 1} // I7: whoever held it is fenced out from here on
	}
	r := next(c, lost)
	if r == nil {
		d.again(c, lost)
		return syncdb.Run{}, syncdb.Lease{}, syncdb.ErrNoRun
	}
	c.lease = lease{token: c.lease.token + 1, runID: r.ID, holder: holder, expires: now.Add(ttl)}
	r.State, r.StartedAt = syncdb.RunRunning, d.now()
	d.generation++
	return r.Run, syncdb.Lease{ConnectionID: connID, RunID: r.ID, Token: c.lease.token, Holder: holder, TTL: ttl, RenewedAt: now}, nil
}

// again asks for a run that goes on with a lost one; nil = there is none.
func (d *DB) again(c *connection, lost *run) {
	if lost == nil {
		return
	}
	if r := c.in(syncdb.RunWaiting); r != nil {
		r.widen(lost.Scope)
		return
	}
	d.ask(c, "recovery", lost.Scope)
}

// Renew is syncdb.DB.Renew.
func (d *DB) Renew(ctx context.Context, l syncdb.Lease) (syncdb.Lease, bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	c, err := d.fenced(ctx, l)
	if err != nil {
		return l, false, err
	}
	l.RenewedAt = d.clock()
	c.lease.expires = l.RenewedAt.Add(l.TTL)
	return l, c.lease.cancel, nil
}

// ExpireLease is syncdb.DB.ExpireLease.
func (d *DB) ExpireLease(ctx context.Context, connID int64, holder string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if c := d.connection(connID); c.lease.holder == holder {
		c.lease.expires = time.Time{}
	}
	return nil
}

// Cancel is syncdb.DB.Cancel.
func (d *DB) Cancel(ctx context.Context, connID int64) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	c := d.connection(connID)
	if c.in(syncdb.RunRunning) == nil {
		return syncdb.ErrNoRun
	}
	c.lease.cancel = true
	return nil
}

// FinishRun is syncdb.DB.FinishRun.
func (d *DB) FinishRun(ctx context.Context, l syncdb.Lease, state syncdb.RunState, totals json.RawMessage, errText string) error {
	if !state.Final() {
		return fmt.Errorf("finish run: %q is not a final state", state)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	c, err := d.fenced(ctx, l)
	if err != nil {
		return err
	}
	r := d.runs[l.RunID]
	r.State, r.Totals, r.Error, r.EndedAt = state, slices.Clone(totals), errText, d.now()
	c.lease = lease{token: c.lease.token}
	d.generation++
	return nil
}

// Runs is syncdb.DB.Runs.
func (d *DB) Runs(ctx context.Context, connID int64, limit int) ([]syncdb.Run, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []syncdb.Run
	for _, r := range slices.Backward(d.connection(connID).runs) {
		if limit > 0 && len(out) == limit {
			break
		}
		out = append(out, r.Run)
	}
	return out, nil
}

// RunByID is syncdb.DB.RunByID.
func (d *DB) RunByID(ctx context.Context, id int64) (syncdb.Run, error) {
	if err := ctx.Err(); err != nil {
		return syncdb.Run{}, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if r := d.runs[id]; r != nil {
		return r.Run, nil
	}
	return syncdb.Run{}, syncdb.ErrNoRun
}

// NoteFailure is syncdb.DB.NoteFailure.
func (d *DB) NoteFailure(ctx context.Context, l syncdb.Lease, failure string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, err := d.fenced(ctx, l); err != nil {
		return err
	}
	d.runs[l.RunID].Failure = failure
	return nil
}

// SaveStep is syncdb.DB.SaveStep.
func (d *DB) SaveStep(ctx context.Context, l syncdb.Lease, s syncdb.Step) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, err := d.fenced(ctx, l); err != nil {
		return err
	}
	s.Totals = slices.Clone(s.Totals)
	d.runs[l.RunID].steps[s.Position] = s
	return nil
}

// Steps is syncdb.DB.Steps.
func (d *DB) Steps(ctx context.Context, runID int64) ([]syncdb.Step, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	r := d.runs[runID]
	if r == nil {
		return nil, nil
	}
	out := make([]syncdb.Step, 0, len(r.steps))
	for _, s := range r.steps {
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b syncdb.Step) int { return a.Position - b.Position })
	return out, nil
}
