package syncdb

import (
	"context"
	"fmt"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/edfisync/edfisync/internal/failpoint"
)

// DecidePlan lets a person approve, discard or reopen a plan. The change and its audit row are one transaction: without the row nothing is
// decided (I16). It returns a *PlanStateError, which names the state the plan is in, when somebody else was first (F63), a *PlanEditionError
// when a run has replaced the ops the person looked at (I8), and ErrNotFound when the connection has no such plan.
func (d *DB) DecidePlan(ctx context.Context, connID, id int64, decision Decision) (Plan, error) {
	failpoint.Reach(failpoint.DecideBefore, "", "")
	c, err := d.connection(ctx, connID)
	var decided planRow
	if err == nil {
		err = d.transact(ctx, func(tx *sqlx.Tx) error {
			row, err := d.planByID(ctx, tx, connID, id, d.store.words().lock)
			if err != nil {
				return err
			}
			now, err := d.clock(ctx, tx)
			if err != nil {
				return err
			}
			if decision.To == PlanOpen && row.Kind == string(PlanHold) {
				if err := d.onlyHold(ctx, tx, &row); err != nil {
					return err
				}
			}
			was := row.plan()
			after, audit, err := was.Decide(decision, now)
			if err != nil {
				return err
			}
			if err := tx.GetContext(ctx, &decided, d.bind(`UPDATE plan SET state = ?, decided_at = ?, decided_by = ?, why = ? WHERE id = ?
				RETURNING `+planColumns), string(after.State), now.UnixMilli(), after.DecidedBy, after.Why, id); err != nil {
				return err
			}
			audit.Connection = c.Tenant + "/" + c.Name
			return d.audit(ctx, tx, audit) // I16
		})
	}
	if err != nil {
		return Plan{}, fmt.Errorf("decide plan %d: %w", id, err)
	}
	failpoint.Reach(failpoint.DecideAfter, "", "")
	return decided.plan(), nil
}

// PurgePlans forgets the ops of the connection's saved plans and holds that were applied, released or refused, and last touched before that time;
// the rest of the plan and its decision stay. Ops that were undone or discarded stay too while they are not wanted. It returns how many
// plans. PlanOps of them returns ErrNotFound. It needs no lease and may be called again.
func (d *DB) PurgePlans(ctx context.Context, connID int64, before time.Time) (int64, error) {
	var n int64
	err := d.purging(ctx, func(tx *sqlx.Tx) error {
		var ids []int64
		if err := tx.SelectContext(ctx, &ids, d.bind(`SELECT id FROM plan WHERE connection_id = ? AND edition > 0
			AND (state IN ('applied', 'stale') AND kind <> 'undo' OR state = 'released') AND updated_at < ? AND coalesce(decided_at, 0) < ?`), connID, before.UnixMilli(),
			before.UnixMilli()); err != nil {
			return err
		}
		for _, id := range ids {
			if _, err := d.exec(ctx, tx, `DELETE FROM plan_segment WHERE plan_id = ?`, id); err != nil {
				return err
			}
			if _, err := d.exec(ctx, tx, `UPDATE plan SET edition = 0 WHERE id = ?`, id); err != nil {
				return err
			}
		}
		if n = int64(len(ids)); n == 0 {
			return nil
		}
		return d.proveHistory(ctx, tx, connID, "calls of plans", before, ids)
	})
	if err != nil {
		return 0, fmt.Errorf("purge plans: %w", err)
	}
	return n, nil
}

// onlyHold returns ErrHoldOpen when another hold like this one is open.
func (d *DB) onlyHold(ctx context.Context, tx *sqlx.Tx, h *planRow) error {
	var others int
	err := tx.GetContext(ctx, &others, d.bind(`SELECT count(*) FROM plan WHERE connection_id = ? AND resource = ? AND verb = ? AND rule = ?
		AND kind = 'hold' AND state = 'open' AND id <> ?`), h.ConnectionID, h.Resource, h.Verb, h.Rule, h.ID)
	if err == nil && others > 0 {
		err = ErrHoldOpen
	}
	return err
}

// ClosePlan says what a run did with an open or approved plan: applied it (which sets AppliedRun), found that nothing of it is wanted any
// more (released), or refused it (stale). It may be called again. It returns a *PlanStateError when the plan is in another state, and
// ErrFenced when the lease is lost (I7).
func (d *DB) ClosePlan(ctx context.Context, l Lease, id int64, to PlanState) error {
	failpoint.Reach(failpoint.CloseBefore, "", "")
	err := d.fenced(ctx, l, func(tx *sqlx.Tx) error {
		row, err := d.planByID(ctx, tx, l.ConnectionID, id, d.store.words().lock)
		if err != nil {
			return err
		}
		was := row.plan()
		after, err := was.Close(to, l.RunID)
		if err != nil {
			return err
		}
		_, err = d.exec(ctx, tx, `UPDATE plan SET state = ?, applied_run = ? WHERE id = ?`, string(after.State), after.AppliedRun, id)
		return err
	})
	if err != nil {
		return fmt.Errorf("close plan %d: %w", id, err)
	}
	failpoint.Reach(failpoint.CloseAfter, "", "")
	return nil
}
