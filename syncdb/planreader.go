package syncdb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/jmoiron/sqlx"
)

// Plans returns the connection's plans that pass the filter, newest first.
func (d *DB) Plans(ctx context.Context, connID int64, f PlanFilter) ([]Plan, error) {
	query, args := `SELECT `+planColumns+` FROM plan WHERE connection_id = ?`, []any{connID}
	if f.Kind != "" {
		query, args = query+` AND kind = ?`, append(args, string(f.Kind))
	}
	if len(f.States) > 0 {
		query += ` AND state IN (` + list("?", len(f.States)) + `)`
		for _, s := range f.States {
			args = append(args, string(s))
		}
	}
	query += ` ORDER BY id DESC`
	if f.Limit > 0 {
		query, args = query+` LIMIT ?`, append(args, f.Limit)
	}
	var rows []planRow
	if err := d.store.reads().SelectContext(ctx, &rows, d.bind(query), args...); err != nil {
		return nil, fmt.Errorf("read plans: %w", err)
	}
	plans := make([]Plan, len(rows))
	for i := range rows {
		plans[i] = rows[i].plan()
	}
	return plans, nil
}

// PlanByID returns one plan of the connection, or ErrNotFound.
func (d *DB) PlanByID(ctx context.Context, connID, id int64) (Plan, error) {
	row, err := d.planByID(ctx, d.store.reads(), connID, id, "")
	if err != nil {
		return Plan{}, fmt.Errorf("read plan %d: %w", id, err)
	}
	return row.plan(), nil
}

func (d *DB) planByID(ctx context.Context, q sqlx.QueryerContext, connID, id int64, lock string) (row planRow, err error) {
	err = sqlx.GetContext(ctx, q, &row, d.bind(`SELECT `+planColumns+` FROM plan WHERE connection_id = ? AND id = ?`+lock), connID, id)
	if errors.Is(err, sql.ErrNoRows) {
		err = ErrNotFound
	}
	return row, err
}

// PlanOps calls fn with each op of a plan, by step and key hash. An error of fn ends it and is returned. fn may call the ledger. When the
// ops are replaced meanwhile (SaveHold) it returns an error rather than a mixture. ErrNotFound says that there is no such plan.
func (d *DB) PlanOps(ctx context.Context, connID, id int64, fn func(PlanOp) error) error {
	if err := d.planOps(ctx, connID, id, fn); err != nil {
		return fmt.Errorf("read ops of plan %d: %w", id, err)
	}
	return nil
}

func (d *DB) planOps(ctx context.Context, connID, id int64, fn func(PlanOp) error) error {
	c, err := d.connection(ctx, connID)
	if err != nil {
		return err
	}
	row, err := d.planByID(ctx, d.store.reads(), connID, id, "")
	if err != nil {
		return err
	}
	var places []struct {
		Part     int64 `db:"part"`
		Segments int64 `db:"segments"`
		Ops      int64 `db:"ops"`
	}
	if row.Edition == 0 {
		return errPlanPurged
	}
	if err := d.store.reads().SelectContext(ctx, &places, d.bind(`SELECT part, count(*) AS segments, sum(ops) AS ops FROM plan_segment
		WHERE plan_id = ? AND edition = ? GROUP BY part ORDER BY part`), id, row.Edition); err != nil {
		return err
	}
	parts, total := make([]*planPartReader, len(places)), int64(0)
	for i, p := range places {
		total += p.Ops
		parts[i] = &planPartReader{d: d, c: c, at: planPlace{plan: id, edition: row.Edition, part: p.Part}, segments: p.Segments}
		if err := parts[i].next(ctx); err != nil {
			return err
		}
	}
	if total != row.Ops {
		return errPlanChanged
	}
	for {
		var first *planPartReader // few parts, so a heap would not pay
		for _, p := range parts {
			if len(p.ops) > 0 && (first == nil || p.ops[0].Compare(&first.ops[0]) < 0) {
				first = p
			}
		}
		if first == nil {
			return nil
		}
		if err := fn(first.ops[0]); err != nil {
			return err
		}
		if err := first.next(ctx); err != nil {
			return err
		}
	}
}

var errPlanChanged = errors.New("its ops were replaced meanwhile, or some are gone; read it again")

// errPlanPurged says that PurgePlans was there.
var errPlanPurged = fmt.Errorf("they are not kept any more: %w", ErrNotFound)

// planPartReader reads the sorted segments of one part, one at a time.
type planPartReader struct {
	d        *DB
	c        connection
	at       planPlace
	segments int64
	ops      []PlanOp // the segment at hand; empty = the end
}

// next goes to the next op.
func (p *planPartReader) next(ctx context.Context) error {
	if len(p.ops) > 1 {
		p.ops = p.ops[1:]
		return nil
	}
	p.ops = nil
	if p.at.seq == p.segments {
		return nil
	}
	var sealed []byte
	err := p.d.store.reads().GetContext(ctx, &sealed, p.d.bind(`SELECT body_sealed FROM plan_segment
		WHERE plan_id = ? AND edition = ? AND part = ? AND seq = ?`), p.at.plan, p.at.edition, p.at.part, p.at.seq)
	if errors.Is(err, sql.ErrNoRows) {
		return errPlanChanged
	}
	if err != nil {
		return err
	}
	plain, err := p.c.ring.Open(nil, sealed, p.c.planAAD(p.at))
	if err != nil {
		return fmt.Errorf("open segment: %w", err)
	}
	p.at.seq++
	p.ops, err = readPlanOps(plain)
	return err
}
