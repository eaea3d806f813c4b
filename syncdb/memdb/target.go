package memdb

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/edfisync/edfisync/syncdb"
)

// Target is syncdb.DB.Target.
func (d *DB) Target(ctx context.Context, connID int64) (syncdb.TargetState, error) {
	if err := ctx.Err(); err != nil {
		return syncdb.TargetState{}, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.connection(connID).target, nil
}

// SetTarget is syncdb.DB.SetTarget.
func (d *DB) SetTarget(ctx context.Context, l syncdb.Lease, t syncdb.TargetState) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	c, err := d.fenced(ctx, l)
	if err != nil {
		return err
	}
	t.UpdatedAt = d.now()
	c.target = t
	return nil
}

// SaveReceipt is syncdb.DB.SaveReceipt. The document is kept as it is, not as a copy: nobody may change it any more.
func (d *DB) SaveReceipt(ctx context.Context, l syncdb.Lease, r syncdb.Receipt) error {
	if err := r.Check(l.RunID); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	c, err := d.fenced(ctx, l)
	if err != nil {
		return err
	}
	for _, kept := range c.receipts {
		if kept.RunID != r.RunID {
			continue
		}
		if !bytes.Equal(kept.Document, r.Document) {
			return syncdb.ErrReceiptKept
		}
		return nil
	}
	if r.At.IsZero() {
		r.At = d.now()
	}
	r.At = r.At.UTC().Truncate(time.Millisecond)
	c.receipts = append(c.receipts, r)
	return nil
}

// Receipts is syncdb.DB.Receipts.
func (d *DB) Receipts(ctx context.Context, connID int64, limit int) ([]syncdb.Receipt, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	out := []syncdb.Receipt{}
	for _, r := range slices.Backward(d.connection(connID).receipts) {
		if limit > 0 && len(out) == limit {
			break
		}
		r.Document = slices.Clip(r.Document) // never changed
		out = append(out, r)
	}
	return out, nil
}

// ReceiptOf is syncdb.DB.ReceiptOf.
func (d *DB) ReceiptOf(ctx context.Context, connID, runID int64) (syncdb.Receipt, error) {
	receipts, err := d.Receipts(ctx, connID, 0)
	if err != nil {
		return syncdb.Receipt{}, err
	}
	for _, r := range receipts {
		if r.RunID == runID {
			return r, nil
		}
	}
	return syncdb.Receipt{}, fmt.Errorf("receipt of run %d: %w", runID, syncdb.ErrNotFound)
}

// Audit is syncdb.DB.Audit.
func (d *DB) Audit(ctx context.Context, a syncdb.AuditRow) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.audit(a)
}

// audit appends to the chain. Called with d.mu held.
func (d *DB) audit(a syncdb.AuditRow) error {
	if err := a.Check(); err != nil {
		return err
	}
	a.ID, a.At, a.Detail = int64(len(d.acts))+1, d.now(), bytes.Clone(a.Detail)
	a.Hash = a.Chain(d.auditRing.ReceiptMAC(), d.lastAct())
	d.acts = append(d.acts, a)
	return nil
}

func (d *DB) lastAct() []byte {
	if len(d.acts) == 0 {
		return nil
	}
	return d.acts[len(d.acts)-1].Hash
}

// AuditRows is syncdb.DB.AuditRows.
func (d *DB) AuditRows(ctx context.Context, after int64, limit int) ([]syncdb.AuditRow, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	rows := d.acts[min(max(after, 0), int64(len(d.acts))):]
	if limit > 0 && len(rows) > limit {
		rows = rows[:limit]
	}
	out := slices.Clone(rows)
	for i := range out {
		out[i].Detail, out[i].Hash = bytes.Clone(out[i].Detail), bytes.Clone(out[i].Hash)
	}
	return out, nil
}

// VerifyAudit is syncdb.DB.VerifyAudit.
func (d *DB) VerifyAudit(ctx context.Context) (int64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	var before []byte
	for i := range d.acts {
		a := &d.acts[i]
		if !bytes.Equal(a.Hash, a.Chain(d.auditRing.ReceiptMAC(), before)) {
			return a.ID, nil
		}
		before = a.Hash
	}
	return 0, nil
}
