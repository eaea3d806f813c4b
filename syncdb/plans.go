package syncdb

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/edfisync/edfisync/internal/failpoint"
)

const planColumns = `id, connection_id, kind, state, run_id, resource, verb, rule, reason, config, edition, digest, ops, counts, created_at,
	updated_at, decided_at, decided_by, why, applied_run`

type planRow struct {
	ID           int64          `db:"id"`
	ConnectionID int64          `db:"connection_id"`
	Kind         string         `db:"kind"`
	State        string         `db:"state"`
	RunID        int64          `db:"run_id"`
	Resource     string         `db:"resource"`
	Verb         Verb           `db:"verb"`
	Rule         string         `db:"rule"`
	Reason       string         `db:"reason"`
	Config       string         `db:"config"`
	Edition      int64          `db:"edition"`
	Digest       []byte         `db:"digest"`
	Ops          int64          `db:"ops"`
	Counts       sql.NullString `db:"counts"`
	CreatedAt    sql.NullInt64  `db:"created_at"`
	UpdatedAt    sql.NullInt64  `db:"updated_at"`
	DecidedAt    sql.NullInt64  `db:"decided_at"`
	DecidedBy    string         `db:"decided_by"`
	Why          string         `db:"why"`
	AppliedRun   int64          `db:"applied_run"`
}

func (r *planRow) plan() Plan {
	return Plan{
		ID: r.ID, ConnectionID: r.ConnectionID, Kind: PlanKind(r.Kind), State: PlanState(r.State), RunID: r.RunID, Resource: r.Resource,
		Verb: r.Verb, Rule: r.Rule, Reason: r.Reason, Config: r.Config, Edition: r.Edition, Ops: r.Ops, Counts: raw(r.Counts), CreatedAt: instant(r.CreatedAt),
		UpdatedAt: instant(r.UpdatedAt), DecidedAt: instant(r.DecidedAt), DecidedBy: r.DecidedBy, Why: r.Why, AppliedRun: r.AppliedRun,
	}
}

// SaveHold opens a hold for ops a safeguard kept back, or replaces the ops, reason, counts and configuration version of the connection's
// open hold with the same Resource, Verb and Rule. Without ops such a hold becomes released, and where there is none nothing is written
// and the zero Plan returned. Kind and State of p are ignored; RunID is the lease's run when zero. ops may come in any order and is read
// once, the most of a large one inside the transaction: it must not write to the ledger. An error it yields, or a lost lease (ErrFenced, I7), leaves the ledger as
// it was. Another hold with the same rule that was approved or discarded stays as it is.
func (d *DB) SaveHold(ctx context.Context, l Lease, p Plan, ops iter.Seq2[PlanOp, error]) (Plan, error) {
	failpoint.Reach(failpoint.HoldBefore, p.Resource, "")
	p.Kind, p.State, p.RunID = PlanHold, PlanOpen, cmp.Or(p.RunID, l.RunID)
	reader, err := readOps(ops)
	defer reader.stop()
	var c connection
	if err == nil {
		c, err = d.connection(ctx, l.ConnectionID)
	}
	var saved planRow
	if err == nil {
		err = d.once(ctx, func(tx *sqlx.Tx) error {
			w := d.store.words()
			if err := d.fence(ctx, tx, l, w.share); err != nil {
				return err
			}
			err := tx.GetContext(ctx, &saved, d.bind(`SELECT `+planColumns+` FROM plan WHERE connection_id = ? AND resource = ? AND verb = ?
				AND rule = ? AND kind = 'hold' AND state = 'open'`+w.lock), c.ID, p.Resource, p.Verb, p.Rule)
			had := err == nil
			if errors.Is(err, sql.ErrNoRows) {
				err = d.insertPlan(ctx, tx, c, &p, &saved)
			}
			if err != nil {
				return err
			}
			edition := saved.Edition
			if had {
				edition++
			}
			n, digest, err := d.savePlanOps(ctx, tx, c, saved.ID, edition, reader)
			if err != nil {
				return err
			}
			if had && bytes.Equal(digest, saved.Digest) {
				edition = saved.Edition // the same ops: whoever looked at them has seen them (I8)
			}
			state := PlanOpen
			if n == 0 {
				if !had {
					return errNothingHeld
				}
				state, p.Counts = PlanReleased, nil
			}
			if _, err := d.exec(ctx, tx, `DELETE FROM plan_segment WHERE plan_id = ? AND edition <> ?`, saved.ID, edition); err != nil {
				return err
			}
			return tx.GetContext(ctx, &saved, d.bind(`UPDATE plan SET state = ?, reason = ?, config = ?, edition = ?, digest = ?, ops = ?, counts = ?,
				updated_at = `+w.now+` WHERE id = ? RETURNING `+planColumns), string(state), p.Reason, p.Config, edition, digest, n,
				nullable(p.Counts), d.now(), saved.ID)
		})
	}
	if errors.Is(err, errNothingHeld) {
		return Plan{}, nil
	}
	if err != nil {
		return Plan{}, fmt.Errorf("save hold: %w", err)
	}
	failpoint.Reach(failpoint.HoldAfter, p.Resource, "")
	return saved.plan(), nil
}

// errNothingHeld rolls back a hold that turned out to have no ops.
var errNothingHeld = errors.New("nothing is held")

// NarrowPlan replaces the ops and counts of a plan somebody has decided about (approved or discarded) by those of them that a scan still asks
// for, as it does now: a decision ends for an op whose row came back or changed, and follows a record to another natural key. p is the plan as it was read, with its new Counts; without ops it becomes
// released. The decision stays with it. It returns a *PlanStateError or a *PlanEditionError when the plan is another one by now, and leaves it
// as it is then. ops is read as by SaveHold, and may be read from the plan itself. A lost lease (ErrFenced, I7) or an error it yields leaves the
// ledger as it was.
func (d *DB) NarrowPlan(ctx context.Context, l Lease, p Plan, ops iter.Seq2[PlanOp, error]) (Plan, error) {
	failpoint.Reach(failpoint.HoldBefore, p.Resource, "")
	reader, err := readOps(ops)
	defer reader.stop()
	var c connection
	if err == nil {
		c, err = d.connection(ctx, l.ConnectionID)
	}
	var saved planRow
	if err == nil {
		err = d.once(ctx, func(tx *sqlx.Tx) error {
			w := d.store.words()
			if err := d.fence(ctx, tx, l, w.share); err != nil {
				return err
			}
			row, err := d.planByID(ctx, tx, c.ID, p.ID, w.lock)
			if err != nil {
				return err
			}
			is := row.plan()
			if err := is.Narrows(p.Edition); err != nil {
				return err
			}
			n, digest, err := d.savePlanOps(ctx, tx, c, row.ID, row.Edition+1, reader)
			if err != nil {
				return err
			}
			if n == 0 {
				is.State, p.Counts = PlanReleased, nil
			}
			if _, err := d.exec(ctx, tx, `DELETE FROM plan_segment WHERE plan_id = ? AND edition <> ?`, row.ID, row.Edition+1); err != nil {
				return err
			}
			return tx.GetContext(ctx, &saved, d.bind(`UPDATE plan SET state = ?, edition = ?, digest = ?, ops = ?, counts = ?, updated_at = `+w.now+`
				WHERE id = ? RETURNING `+planColumns), string(is.State), row.Edition+1, digest, n, nullable(p.Counts), d.now(), row.ID)
		})
	}
	if err != nil {
		return Plan{}, fmt.Errorf("narrow plan %d: %w", p.ID, err)
	}
	failpoint.Reach(failpoint.HoldAfter, p.Resource, "")
	return saved.plan(), nil
}

// SavePlan keeps a new plan of any kind, open unless its State says otherwise, and returns it with its id. It needs no lease: a plan
// writes nothing to the target by itself. ops is read as by SaveHold. Called twice it keeps two.
func (d *DB) SavePlan(ctx context.Context, connID int64, p Plan, ops iter.Seq2[PlanOp, error]) (Plan, error) {
	failpoint.Reach(failpoint.PlanBefore, "", "")
	p.State = cmp.Or(p.State, PlanOpen)
	if err := p.Check(); err != nil {
		return Plan{}, fmt.Errorf("save plan: %w", err)
	}
	reader, err := readOps(ops)
	defer reader.stop()
	var c connection
	if err == nil {
		c, err = d.connection(ctx, connID)
	}
	var saved planRow
	if err == nil {
		err = d.once(ctx, func(tx *sqlx.Tx) error {
			if err := d.insertPlan(ctx, tx, c, &p, &saved); err != nil {
				return err
			}
			n, digest, err := d.savePlanOps(ctx, tx, c, saved.ID, saved.Edition, reader)
			if err != nil {
				return err
			}
			return tx.GetContext(ctx, &saved, d.bind(`UPDATE plan SET ops = ?, digest = ? WHERE id = ? RETURNING `+planColumns), n, digest, saved.ID)
		})
	}
	if err != nil {
		return Plan{}, fmt.Errorf("save plan: %w", err)
	}
	failpoint.Reach(failpoint.PlanAfter, "", "")
	return saved.plan(), nil
}

// insertPlan writes a header without ops.
func (d *DB) insertPlan(ctx context.Context, tx *sqlx.Tx, c connection, p *Plan, saved *planRow) error {
	now := d.store.words().now
	decided, args := `NULL`, []any{
		c.ID, string(p.Kind), string(p.State), p.RunID, p.Resource, p.Verb, p.Rule, p.Reason, p.Config, nullable(p.Counts), p.DecidedBy, p.Why,
		p.AppliedRun, d.now(), d.now(),
	}
	if p.DecidedBy != "" {
		decided, args = now, append(args, d.now())
	}
	return tx.GetContext(ctx, saved, d.bind(`INSERT INTO plan (connection_id, kind, state, run_id, resource, verb, rule, reason, config, edition,
		ops, counts, decided_by, why, applied_run, created_at, updated_at, decided_at)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 1, 0, ?, ?, ?, ?, `+now+`, `+now+`, `+decided+`) RETURNING `+planColumns), args...)
}

// savePlanOps writes the ops in sealed segments and returns how many there were, and their digest. Memory is that of one part.
func (d *DB) savePlanOps(ctx context.Context, tx *sqlx.Tx, c connection, plan, edition int64, ops *opReader) (n int64, digest []byte, err error) {
	var sum opsDigest
	for at := (planPlace{plan: plan, edition: edition}); len(ops.part) > 0; at.part++ {
		at.seq = 0
		for segment := range slices.Chunk(ops.part, planSegment) {
			sealed := c.ring.Seal(nil, appendPlanOps(nil, segment), c.planAAD(at))
			if _, err := d.exec(ctx, tx, `INSERT INTO plan_segment (plan_id, edition, part, seq, ops, body_sealed) VALUES (?, ?, ?, ?, ?, ?)`,
				at.plan, at.edition, at.part, at.seq, len(segment), sealed); err != nil {
				return 0, nil, fmt.Errorf("write ops: %w", err)
			}
			at.seq++
		}
		for i := range ops.part {
			sum.add(&ops.part[i])
		}
		n += int64(len(ops.part))
		if err := ops.fill(); err != nil {
			return 0, nil, err
		}
	}
	return n, sum.bytes(), nil
}

// opsDigest is the sum of hashes of ops: the same for the same ops in whatever order they come. It tells editions of a plan apart; it is no
// proof against somebody who writes to the ledger, which the seals are.
type opsDigest [4]uint64

func (s *opsDigest) add(o *PlanOp) {
	text := append(make([]byte, 0, 160), o.Resource...)
	text = append(text, 0, byte(o.Verb))
	for _, h := range [...]Hash{o.KeyHash, o.OldKeyHash, o.SourceHash, o.OldRecord, o.NewRecord, o.RecordID} {
		text = append(text, h[:]...)
	}
	hash := sha256.Sum256(text)
	for i := range s {
		s[i] += binary.BigEndian.Uint64(hash[8*i:])
	}
}

func (s *opsDigest) bytes() []byte {
	var b []byte
	for _, n := range s {
		b = binary.BigEndian.AppendUint64(b, n)
	}
	return b
}

// opReader reads ops a part at a time. The first part is read before the transaction, and few plans have another, so the ledger is not kept from
// others while a caller goes through its spools.
type opReader struct {
	next func() (PlanOp, error, bool)
	stop func()
	part []PlanOp // sorted; empty = the end
}

// readOps reads the first part. The reader's stop must be called even after an error.
func readOps(ops iter.Seq2[PlanOp, error]) (*opReader, error) {
	r := &opReader{}
	r.next, r.stop = iter.Pull2(ops)
	return r, r.fill()
}

// fill reads the next part.
func (r *opReader) fill() error {
	r.part = r.part[:0]
	for len(r.part) < planPart {
		o, err, ok := r.next()
		if !ok {
			break
		}
		if err == nil {
			err = o.Check()
		}
		if err != nil {
			return err
		}
		r.part = append(r.part, o)
	}
	slices.SortStableFunc(r.part, func(a, b PlanOp) int { return a.Compare(&b) })
	return nil
}

// planPlace is where a segment is.
type planPlace struct{ plan, edition, part, seq int64 }

func (c connection) planAAD(at planPlace) []byte {
	var b []byte
	for _, n := range [...]int64{at.plan, at.edition, at.part, at.seq} {
		b = binary.BigEndian.AppendUint64(b, uint64(n))
	}
	return c.aad("plan_segment", b...)
}

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
	err := d.transact(ctx, func(tx *sqlx.Tx) error {
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
		n = int64(len(ids))
		return nil
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
