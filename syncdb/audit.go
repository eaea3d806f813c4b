package syncdb

import (
	"context"
	"crypto/hmac"
	"database/sql"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/edfisync/edfisync/internal/keys"

	"github.com/edfisync/edfisync/internal/failpoint"
)

// Check returns an error when the row does not say who did what, or its Detail is not JSON.
func (a *AuditRow) Check() error {
	switch {
	case a.Who == "":
		return errors.New("audit: nobody is named who did it")
	case a.Action == "":
		return errors.New("audit: no action is named")
	case len(a.Detail) > 0 && !json.Valid(a.Detail):
		return errors.New("audit: the detail is not JSON")
	}
	return nil
}

// Chain returns the hash of the row that follows a row with the hash before (nil for the first), under the chain's key: whoever lacks the
// key can neither change a row nor make one that fits.
func (a *AuditRow) Chain(mac hash.Hash, before []byte) []byte {
	b := appendBytes([]byte("audit row\x00"), before)
	b = binary.BigEndian.AppendUint64(b, uint64(a.ID))
	b = binary.BigEndian.AppendUint64(b, uint64(a.At.UnixMilli()))
	for _, s := range [...]string{a.Who, a.Action, a.Connection, a.Object, string(a.Detail)} {
		b = appendBytes(b, s)
	}
	mac.Reset()
	mac.Write(b)
	return mac.Sum(nil)
}

// auditHead is the stored end of the chain.
type auditHead struct {
	DataKey []byte `db:"data_key"`
	LastID  int64  `db:"last_id"`
	Hash    []byte `db:"hash"`
	MAC     []byte `db:"mac"`
	CutID   int64  `db:"cut_id"`   // rows up to this one were removed by retention; 0 = none
	CutHash []byte `db:"cut_hash"` // of that row: the first one that is left follows it

	ring *keys.Ring
}

// seal returns what MAC must be.
func (h *auditHead) seal() []byte {
	mac := h.ring.ReceiptMAC()
	b := appendBytes(binary.BigEndian.AppendUint64([]byte("audit head\x00"), uint64(h.LastID)), h.Hash)
	if h.CutID != 0 { // a chain that was never cut is sealed as before there were cuts
		b = appendBytes(binary.BigEndian.AppendUint64(append(b, "cut\x00"...), uint64(h.CutID)), h.CutHash)
	}
	mac.Write(b)
	return mac.Sum(nil)
}

// Audit writes one act of a person or program, at the ledger's time, at the end of the chain; ID, At and Hash of a are ignored. When it
// returns an error the act must not happen (I16). Safe for concurrent use; called twice it writes two rows. Acts whose change is in the
// ledger itself, such as DecidePlan, write their row in the same transaction and need no call.
func (d *DB) Audit(ctx context.Context, a AuditRow) error {
	failpoint.Reach(failpoint.AuditBefore, "", "")
	if err := d.transact(ctx, func(tx *sqlx.Tx) error { return d.audit(ctx, tx, a) }); err != nil {
		return fmt.Errorf("write audit row: %w", err)
	}
	failpoint.Reach(failpoint.AuditAfter, "", "")
	return nil
}

// AuditFailures counts how often this process could not write an audit row, so that the act it was for did not happen (I16).
func (d *DB) AuditFailures() int64 { return d.auditFailures.Load() }

// audit appends to the chain within tx. It locks the head, so rows are numbered without gaps.
func (d *DB) audit(ctx context.Context, tx *sqlx.Tx, a AuditRow) error {
	err := d.appendAudit(ctx, tx, a)
	if err != nil && !d.store.repeatable(err) {
		d.auditFailures.Add(1)
	}
	return err
}

func (d *DB) appendAudit(ctx context.Context, tx *sqlx.Tx, a AuditRow) error {
	if err := a.Check(); err != nil {
		return err
	}
	head, err := d.auditHead(ctx, tx)
	if err != nil {
		return err
	}
	if a.At, err = d.clock(ctx, tx); err != nil {
		return err
	}
	a.ID = head.LastID + 1
	a.Hash = a.Chain(head.ring.ReceiptMAC(), head.Hash)
	if _, err := d.exec(ctx, tx, `INSERT INTO audit (id, at, who, action, connection, object, detail, hash) VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
		a.ID, a.At.UnixMilli(), a.Who, a.Action, a.Connection, a.Object, string(a.Detail), a.Hash); err != nil {
		return err
	}
	head.LastID, head.Hash = a.ID, a.Hash
	_, err = d.exec(ctx, tx, `UPDATE audit_head SET last_id = ?, hash = ?, mac = ?`, head.LastID, head.Hash, head.seal())
	return err
}

// auditHead locks and returns the end of the chain. The first call of a ledger makes it; a chain that lost its head is not gone on with.
func (d *DB) auditHead(ctx context.Context, tx *sqlx.Tx) (*auditHead, error) {
	head, err := d.readAuditHead(ctx, tx, d.store.words().lock)
	if !errors.Is(err, sql.ErrNoRows) {
		return head, err
	}
	fresh := &auditHead{Hash: []byte{}}
	if fresh.DataKey, err = d.newDataKey(ctx, tx, d.auditContext()); err != nil {
		return nil, err
	}
	if fresh.ring, err = d.master.Load().Ring(fresh.DataKey, d.auditContext(), 1); err != nil {
		return nil, err
	}
	n, err := d.exec(ctx, tx, `INSERT INTO audit_head (one, data_key, last_id, hash, mac) VALUES (1, ?, 0, ?, ?) ON CONFLICT DO NOTHING`,
		fresh.DataKey, fresh.Hash, fresh.seal())
	if err != nil {
		return nil, err
	}
	if n == 0 { // of two processes that start a chain at once, one wins
		return d.readAuditHead(ctx, tx, d.store.words().lock)
	}
	var rows int
	if err := tx.GetContext(ctx, &rows, `SELECT count(*) FROM audit`); err != nil {
		return nil, err
	}
	if rows > 0 {
		return nil, errors.New("the end of the audit chain is missing: somebody changed the ledger; restore it from a backup")
	}
	return fresh, nil
}

func (d *DB) readAuditHead(ctx context.Context, q sqlx.QueryerContext, lock string) (*auditHead, error) {
	head := &auditHead{}
	if err := sqlx.GetContext(ctx, q, head, `SELECT data_key, last_id, hash, mac, cut_id, cut_hash FROM audit_head`+lock); err != nil {
		return nil, err
	}
	var err error
	head.ring, err = d.master.Load().Ring(head.DataKey, d.auditContext(), 1)
	return head, err
}

// auditContext binds the chain's key to its ledger.
func (d *DB) auditContext() []byte { return append([]byte("audit"), d.ledger...) }

const auditColumns = `id, at, who, action, connection, object, detail, hash`

// AuditRows returns the rows after that id, oldest first, at most limit of them; 0 means all.
func (d *DB) AuditRows(ctx context.Context, after int64, limit int) ([]AuditRow, error) {
	query, args := `SELECT `+auditColumns+` FROM audit WHERE id > ? ORDER BY id`, []any{after}
	if limit > 0 {
		query, args = query+` LIMIT ?`, append(args, limit)
	}
	rows, err := d.store.reads().QueryContext(ctx, d.bind(query), args...)
	var out []AuditRow
	if err == nil {
		err = scanAudit(rows, func(a *AuditRow) error { out = append(out, *a); return nil })
	}
	if err != nil {
		return nil, fmt.Errorf("read audit rows: %w", err)
	}
	return out, nil
}

// scanAudit reads rows of auditColumns and closes them.
func scanAudit(rows *sql.Rows, fn func(*AuditRow) error) error {
	defer rows.Close()
	for rows.Next() {
		a := &AuditRow{}
		var at int64
		var detail string
		if err := rows.Scan(&a.ID, &at, &a.Who, &a.Action, &a.Connection, &a.Object, &detail, &a.Hash); err != nil {
			return err
		}
		a.At = time.UnixMilli(at).UTC()
		if detail != "" {
			a.Detail = json.RawMessage(detail)
		}
		if err := fn(a); err != nil {
			return err
		}
	}
	return rows.Err()
}

// VerifyAudit reads the whole chain and returns the id of the first row that is not as it was written: changed, out of its place or
// missing; 0 when all rows are there. A missing tail shows by the stored end of the chain. Whoever can write to the database can put back an
// older copy of the whole chain, or take all of it away; only a row kept elsewhere shows that.
func (d *DB) VerifyAudit(ctx context.Context) (firstBad int64, err error) {
	// One transaction, so that rows written meanwhile do not look as if they followed the end.
	tx, err := d.store.reads().BeginTxx(ctx, &sql.TxOptions{Isolation: d.store.words().snapshot, ReadOnly: true})
	if err != nil {
		return 0, fmt.Errorf("verify audit chain: %w", err)
	}
	defer tx.Rollback() //nolint:errcheck // nothing was written
	head, err := d.readAuditHead(ctx, tx, "")
	switch {
	case errors.Is(err, sql.ErrNoRows): // a ledger in which nothing was audited yet, or a chain without its end
		err = tx.GetContext(ctx, &firstBad, `SELECT coalesce(min(id), 0) FROM audit`)
	case errors.Is(err, keys.ErrWrongMaster): // the wrapped key was changed: nothing can be believed
		return 1, nil
	case err == nil:
		firstBad, err = verifyChain(ctx, tx, head)
	}
	if err != nil {
		return 0, fmt.Errorf("verify audit chain: %w", err)
	}
	return firstBad, nil
}

var errBadRow = errors.New("the row does not fit")

func verifyChain(ctx context.Context, tx *sqlx.Tx, head *auditHead) (firstBad int64, err error) {
	rows, err := tx.QueryContext(ctx, `SELECT `+auditColumns+` FROM audit ORDER BY id`)
	if err != nil {
		return 0, err
	}
	mac, last, before := head.ring.ReceiptMAC(), head.CutID, head.CutHash
	err = scanAudit(rows, func(a *AuditRow) error {
		if a.ID != last+1 || !hmac.Equal(a.Hash, a.Chain(mac, before)) {
			return errBadRow
		}
		last, before = a.ID, a.Hash
		return nil
	})
	switch {
	case errors.Is(err, errBadRow):
		return last + 1, nil
	case err != nil:
		return 0, err
	case last < head.LastID:
		return last + 1, nil
	case last != head.LastID || !hmac.Equal(before, head.Hash) || !hmac.Equal(head.MAC, head.seal()):
		return max(last, 1), nil
	}
	return 0, nil
}
