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

	"github.com/jmoiron/sqlx"

	"github.com/edfisync/edfisync/internal/failpoint"
)

const planColumns = `id, connection_id, kind, state, run_id, resource, verb, rule, reason, config, edition, digest, ops, counts, created_at,
	updated_at, decided_at, decided_by, why, applied_run, mark`

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
	Mark         string         `db:"mark"`
}

func (r *planRow) plan() Plan {
	return Plan{
		ID: r.ID, ConnectionID: r.ConnectionID, Kind: PlanKind(r.Kind), State: PlanState(r.State), RunID: r.RunID, Resource: r.Resource,
		Verb: r.Verb, Rule: r.Rule, Reason: r.Reason, Config: r.Config, Edition: r.Edition, Ops: r.Ops, Counts: raw(r.Counts), CreatedAt: instant(r.CreatedAt),
		UpdatedAt: instant(r.UpdatedAt), DecidedAt: instant(r.DecidedAt), DecidedBy: r.DecidedBy, Why: r.Why, AppliedRun: r.AppliedRun,
		Mark: r.Mark,
	}
}

// SaveHold opens a hold for ops a safeguard kept back, or replaces the ops, reason, counts, configuration version and Mark of the connection's
// open hold with the same Resource, Verb and Rule. Other ops, or another Mark, are a new edition. Without ops such a hold becomes released, and where there is none nothing is written
// and the zero Plan returned. Kind and State of p are ignored; RunID is the lease's run when zero. ops may come in any order and is read
// once, the most of a large one inside the transaction: it must not write to the ledger. An error it yields, or a lost lease (ErrFenced, I7), leaves the ledger as
// it was. Another hold with the same rule that was approved or discarded stays as it is.
func (d *DB) SaveHold(ctx context.Context, l Lease, p Plan, ops iter.Seq2[PlanOp, error]) (Plan, error) {
	failpoint.Reach(failpoint.HoldBefore, p.Resource, "")
	p.Kind, p.State, p.RunID = PlanHold, PlanOpen, cmp.Or(p.RunID, l.RunID)
	var saved planRow
	err := d.writePlan(ctx, l.ConnectionID, &l, ops, func(tx *sqlx.Tx, c connection, reader *opReader) error {
		w := d.store.words()
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
		if had && bytes.Equal(digest, saved.Digest) && p.Mark == saved.Mark {
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
		return tx.GetContext(ctx, &saved, d.bind(`UPDATE plan SET state = ?, reason = ?, config = ?, edition = ?, digest = ?, ops = ?, counts = ?, mark = ?,
			updated_at = `+w.now+` WHERE id = ? RETURNING `+planColumns), string(state), p.Reason, p.Config, edition, digest, n,
			nullable(p.Counts), p.Mark, d.now(), saved.ID)
	})
	if errors.Is(err, errNothingHeld) {
		return Plan{}, nil
	}
	if err != nil {
		return Plan{}, fmt.Errorf("save hold: %w", err)
	}
	failpoint.Reach(failpoint.HoldAfter, p.Resource, "")
	return saved.plan(), nil
}

// writePlan is a transaction that writes a plan with its ops, of which the first part is read before it, and fences it when it is under a lease (I7).
func (d *DB) writePlan(ctx context.Context, connID int64, l *Lease, ops iter.Seq2[PlanOp, error], write func(*sqlx.Tx, connection, *opReader) error) error {
	reader, err := readOps(ops)
	defer reader.stop()
	if err != nil {
		return err
	}
	c, err := d.connection(ctx, connID)
	if err != nil {
		return err
	}
	return d.once(ctx, func(tx *sqlx.Tx) error {
		if l != nil {
			if err := d.fence(ctx, tx, *l, d.store.words().share); err != nil {
				return err
			}
		}
		return write(tx, c, reader)
	})
}

// errNothingHeld rolls back a hold that turned out to have no ops.
var errNothingHeld = errors.New("nothing is held")

// NarrowPlan replaces the ops and counts of a plan somebody has decided about (approved or discarded) by those of them that a scan still asks
// for, as it does now: a decision ends for an op whose row came back or changed, and follows a record to another natural key. p is the plan as it was read, with its new Counts and Mark; without ops it becomes
// released. The decision stays with it. It returns a *PlanStateError or a *PlanEditionError when the plan is another one by now, and leaves it
// as it is then. ops is read as by SaveHold, and may be read from the plan itself. A lost lease (ErrFenced, I7) or an error it yields leaves the
// ledger as it was.
func (d *DB) NarrowPlan(ctx context.Context, l Lease, p Plan, ops iter.Seq2[PlanOp, error]) (Plan, error) {
	failpoint.Reach(failpoint.HoldBefore, p.Resource, "")
	var saved planRow
	err := d.writePlan(ctx, l.ConnectionID, &l, ops, func(tx *sqlx.Tx, c connection, reader *opReader) error {
		w := d.store.words()
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
		return tx.GetContext(ctx, &saved, d.bind(`UPDATE plan SET state = ?, edition = ?, digest = ?, ops = ?, counts = ?, mark = ?, updated_at = `+w.now+`
			WHERE id = ? RETURNING `+planColumns), string(is.State), row.Edition+1, digest, n, nullable(p.Counts), p.Mark, d.now(), row.ID)
	})
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
	var saved planRow
	err := d.writePlan(ctx, connID, nil, ops, func(tx *sqlx.Tx, c connection, reader *opReader) error {
		if err := d.insertPlan(ctx, tx, c, &p, &saved); err != nil {
			return err
		}
		n, digest, err := d.savePlanOps(ctx, tx, c, saved.ID, saved.Edition, reader)
		if err != nil {
			return err
		}
		return tx.GetContext(ctx, &saved, d.bind(`UPDATE plan SET ops = ?, digest = ? WHERE id = ? RETURNING `+planColumns), n, digest, saved.ID)
	})
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
		p.AppliedRun, p.Mark, d.now(), d.now(),
	}
	if p.DecidedBy != "" {
		decided, args = now, append(args, d.now())
	}
	return tx.GetContext(ctx, saved, d.bind(`INSERT INTO plan (connection_id, kind, state, run_id, resource, verb, rule, reason, config, edition,
		ops, counts, decided_by, why, applied_run, mark, created_at, updated_at, decided_at)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 1, 0, ?, ?, ?, ?, ?, `+now+`, `+now+`, `+decided+`) RETURNING `+planColumns), args...)
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
