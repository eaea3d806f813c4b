package syncdb

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/edfisync/edfisync/internal/failpoint"
)

// Class of data that is kept for a time.
type Class string

// The classes. Their names are in the audit trail; never rename.
const (
	ClassHistory Class = "history" // what was sent and answered; ops of plans that are done with
	ClassIssues  Class = "issues"  // causes that were settled
	ClassRuns    Class = "runs"    // summaries, steps and receipts of runs; plans that are done with
	ClassAudit   Class = "audit"   // acts of people and programs
)

// Classes lists them, the one that is kept shortest first.
func Classes() []Class { return []Class{ClassHistory, ClassIssues, ClassRuns, ClassAudit} }

// Retainer is who removes what was kept for long enough, in the audit trail, when no person does.
const Retainer = "edfisync (retention)"

// removal is how the rows of one table of a class are found and removed.
type removal struct {
	class Class
	table string
	batch int    // rows in one transaction, so that a run beside it need not wait
	find  string // ids, oldest first; parameters: before, before
	drop  string // with the ids for IN (?)
	proof string // where the audit row says the ids are from
}

// removals are what Purge knows but history, which has a time of its own for each connection, and the audit trail, which is a chain. What the engine needs
// stays however old it is:
//
//	run      the newest that was done, and the newest with a receipt, of each connection; one that has history, from which it could be undone; one that an
//	         open or decided plan is about; one whose calls are not settled; the one of the target's alarm
//	issue    every one that is open, or has rows; they are counted, and not asked for with EXISTS, so that PostgreSQL looks into the partition of each
//	         instead of reading all of them for a join
//	plan     every one that is open, approved, discarded or keeps what was undone from coming back
func removals() []removal {
	return []removal{
		{
			ClassIssues, "issue", 500, `SELECT i.id FROM issue i WHERE i.cleared_run <> 0 AND (SELECT count(*) FROM problem p WHERE p.connection_id = i.connection_id AND p.issue_id = i.id) = 0
				AND NOT EXISTS (SELECT 1 FROM run r WHERE r.id = i.cleared_run AND (r.ended_at IS NULL OR r.ended_at >= ? OR r.ended_at >= ?)) ORDER BY i.id`,
			`DELETE FROM issue WHERE id IN (?)`, "issues",
		},
		{
			ClassRuns, "plan", 500, `SELECT p.id FROM plan p WHERE p.edition = 0 AND p.state IN ('applied', 'released', 'stale') AND p.updated_at < ?
				AND coalesce(p.decided_at, 0) < ? ORDER BY p.id`, `DELETE FROM plan WHERE id IN (?)`, "plans",
		},
		{
			ClassRuns, "run", 200, `SELECT r.id FROM run r WHERE r.ended_at < ? AND r.created_at < ?
				AND r.id < (SELECT max(n.id) FROM run n WHERE n.connection_id = r.connection_id)
				AND r.id <> coalesce((SELECT max(n.id) FROM run n WHERE n.connection_id = r.connection_id AND n.state = 'done' AND n.errand = 0), 0)
				AND r.id <> coalesce((SELECT max(c.run_id) FROM receipt c WHERE c.connection_id = r.connection_id), 0)
				AND NOT EXISTS (SELECT 1 FROM history h WHERE h.connection_id = r.connection_id AND h.run_id = r.id)
				AND NOT EXISTS (SELECT 1 FROM journal j WHERE j.connection_id = r.connection_id AND j.run_id = r.id)
				AND NOT EXISTS (SELECT 1 FROM plan p WHERE p.connection_id = r.connection_id AND (p.run_id = r.id OR p.applied_run = r.id))
				AND NOT EXISTS (SELECT 1 FROM target t WHERE t.connection_id = r.connection_id AND t.alarm_run = r.id)
				AND NOT EXISTS (SELECT 1 FROM lease l WHERE l.connection_id = r.connection_id AND l.run_id = r.id) ORDER BY r.id`,
			`DELETE FROM run WHERE id IN (?)`, "runs", // steps and receipt go with it
		},
	}
}

// purgeProof is the detail of the audit row that each transaction of a purge writes: enough to say later what was removed, and to check a list of ids from
// a backup against it.
type purgeProof struct {
	What   string    `json:"what"`
	Before time.Time `json:"before"` // everything of it was older
	Rows   int64     `json:"rows"`
	First  int64     `json:"first"`  // smallest and greatest id
	Last   int64     `json:"last"`   //
	SHA256 string    `json:"sha256"` // of the ids in order, eight bytes each, most significant first
}

func proofOf(what string, before time.Time, ids []int64) purgeProof {
	h := sha256.New()
	for _, id := range ids {
		_ = binary.Write(h, binary.BigEndian, id) // a hash takes everything
	}
	return purgeProof{what, before.UTC().Truncate(time.Millisecond), int64(len(ids)), ids[0], ids[len(ids)-1], hex.EncodeToString(h.Sum(nil))}
}

// prove writes the audit row of a purge, within its transaction: what cannot be proved is not removed (I16).
func (d *DB) prove(ctx context.Context, tx *sqlx.Tx, who, connection string, class Class, p purgeProof) error {
	detail, err := json.Marshal(p)
	if err != nil {
		return err
	}
	return d.audit(ctx, tx, AuditRow{Who: who, Action: "purge." + string(class), Connection: connection, Detail: detail})
}

// Purge removes what is older than before of a class other than ClassHistory, batch by batch, and returns how many rows. What the engine needs stays. Each
// batch writes to the audit trail, in its own transaction, what it removed; who is whom the row names. It needs no lease, may be called again, and by several processes at once.
func (d *DB) Purge(ctx context.Context, class Class, before time.Time, who string) (int64, error) {
	if class == ClassAudit {
		n, err := d.purgeAudit(ctx, before, who)
		if err != nil {
			return n, fmt.Errorf("purge the audit trail: %w", err)
		}
		return n, nil
	}
	var purged int64
	for _, r := range removals() {
		for more := r.class == class; more; {
			n, err := d.purgeBatch(ctx, r, before, who)
			if err != nil {
				return purged, fmt.Errorf("purge %s: %w", r.proof, err)
			}
			purged += n
			more = n == int64(r.batch)
		}
	}
	return purged, nil
}

// proveHistory is prove for what is removed of one connection's history.
func (d *DB) proveHistory(ctx context.Context, tx *sqlx.Tx, connID int64, what string, before time.Time, ids []int64) error {
	c, err := d.connection(ctx, connID)
	if err != nil {
		return err
	}
	slices.Sort(ids)
	return d.prove(ctx, tx, Retainer, c.Tenant+"/"+c.Name, ClassHistory, proofOf(what, before, ids))
}

// purging is transact for a removal: what is removed is overwritten where the database can do that.
func (d *DB) purging(ctx context.Context, fn func(*sqlx.Tx) error) error {
	return d.transact(ctx, func(tx *sqlx.Tx) error {
		if err := d.store.overwrites(ctx, tx, true); err != nil {
			return err
		}
		if err := fn(tx); err != nil {
			return errors.Join(err, d.store.overwrites(ctx, tx, false))
		}
		return d.store.overwrites(ctx, tx, false)
	})
}

func (d *DB) purgeBatch(ctx context.Context, r removal, before time.Time, who string) (n int64, err error) {
	failpoint.Reach(failpoint.RemoveBefore, "", "")
	defer failpoint.Reach(failpoint.RemoveAfter, "", "")
	err = d.purging(ctx, func(tx *sqlx.Tx) error {
		var ids []int64
		if err := tx.SelectContext(ctx, &ids, d.bind(r.find+fmt.Sprintf(` LIMIT %d`, r.batch)+d.store.words().lock), before.UnixMilli(), before.UnixMilli()); err != nil {
			return err
		}
		if n = int64(len(ids)); n == 0 {
			return nil
		}
		query, args, err := sqlx.In(r.drop, ids)
		if err != nil {
			return err
		}
		if _, err := d.exec(ctx, tx, query, args...); err != nil {
			return err
		}
		return d.prove(ctx, tx, who, "", r.class, proofOf(r.proof, before, ids))
	})
	return n, err
}

// purgeAudit removes rows from the beginning of the chain. What is left is verified from the hash of the last row that was removed, which the head keeps
// under its MAC. The row that says so is the chain's last by then.
func (d *DB) purgeAudit(ctx context.Context, before time.Time, who string) (int64, error) {
	const batch = 1000
	var purged int64
	if n, err := d.Purgeable(ctx, ClassAudit, 0, before); err != nil || n == 0 {
		return 0, err
	}
	if bad, err := d.VerifyAudit(ctx); err != nil {
		return 0, err
	} else if bad != 0 {
		return 0, badTrail(bad)
	}
	for {
		var n int64
		failpoint.Reach(failpoint.CutBefore, "", "")
		err := d.purging(ctx, func(tx *sqlx.Tx) error {
			n = 0
			head, err := d.auditHead(ctx, tx)
			if err != nil {
				return err
			}
			rows, err := d.oldAudit(ctx, tx, head, before, batch)
			if err != nil || len(rows) == 0 {
				return err
			}
			ids := make([]int64, len(rows))
			for i := range rows {
				ids[i] = rows[i].ID
			}
			last := rows[len(rows)-1]
			if _, err := d.exec(ctx, tx, `DELETE FROM audit WHERE id <= ?`, last.ID); err != nil {
				return err
			}
			head.CutID, head.CutHash = last.ID, last.Hash
			if _, err := d.exec(ctx, tx, `UPDATE audit_head SET cut_id = ?, cut_hash = ?, mac = ?`, head.CutID, head.CutHash, head.seal()); err != nil {
				return err
			}
			n = int64(len(rows))
			return d.prove(ctx, tx, who, "", ClassAudit, proofOf("audit", before, ids))
		})
		if err != nil {
			return purged, err
		}
		failpoint.Reach(failpoint.CutAfter, "", "")
		purged += n
		if n < batch {
			return purged, nil
		}
	}
}

// oldAudit returns the rows that may be cut off: those from the beginning that are old, up to the first that is not. One that is not as it was written is an
// error: a trail somebody tampered with is evidence.
func (d *DB) oldAudit(ctx context.Context, tx *sqlx.Tx, head *auditHead, before time.Time, limit int) ([]AuditRow, error) {
	rows, err := tx.QueryContext(ctx, d.bind(`SELECT `+auditColumns+` FROM audit WHERE id > ? ORDER BY id LIMIT ?`), head.CutID, limit)
	if err != nil {
		return nil, err
	}
	var out []AuditRow
	young, mac, hash := false, head.ring.ReceiptMAC(), head.CutHash
	err = scanAudit(rows, func(a *AuditRow) error {
		if young = young || !a.At.Before(before); young {
			return nil
		}
		if a.ID != head.CutID+int64(len(out))+1 || !hmac.Equal(a.Hash, a.Chain(mac, hash)) {
			return badTrail(a.ID)
		}
		hash = a.Hash
		out = append(out, *a)
		return nil
	})
	return out, err
}

func badTrail(row int64) error {
	return fmt.Errorf("row %d is not as it was written, so nothing of the trail is removed: see edfisync audit verify", row)
}

// Purgeable counts what Purge would remove of a class now; of ClassHistory, what PurgeAttempts would remove of the connection. It changes nothing.
func (d *DB) Purgeable(ctx context.Context, class Class, connID int64, before time.Time) (n int64, err error) {
	read := func(query string, args ...any) error {
		var m int64
		err := d.store.reads().GetContext(ctx, &m, d.bind(query), args...)
		n += m
		return err
	}
	ms := before.UnixMilli()
	switch class {
	case ClassHistory:
		err = read(`SELECT CAST(coalesce(sum(attempts), 0) AS bigint) FROM history WHERE connection_id = ? AND newest_at < ?`, connID, ms)
	case ClassAudit: // rows from the beginning up to the first that is not old
		err = read(`SELECT count(*) FROM audit WHERE id < coalesce((SELECT min(id) FROM audit WHERE at >= ?), (SELECT max(id) + 1 FROM audit))`, ms)
	default:
		for _, r := range removals() {
			if r.class == class && err == nil {
				err = read(`SELECT count(*) FROM (`+r.find+`) AS old`, ms, ms)
			}
		}
	}
	if err != nil {
		return 0, fmt.Errorf("count what is old of %s: %w", class, err)
	}
	return n, nil
}

// ClaimRetention reports whether it is the caller who looks for what is to be removed: of all processes one does, every so often. last is when somebody
// did before, by the ledger's clock; zero = never.
func (d *DB) ClaimRetention(ctx context.Context, every time.Duration) (last time.Time, mine bool, err error) {
	var n int64
	var at sql.NullInt64
	err = d.transact(ctx, func(tx *sqlx.Tx) (err error) {
		now, err := d.clock(ctx, tx)
		if err == nil {
			err = tx.GetContext(ctx, &at, `SELECT retained_at FROM meta`)
		}
		if err != nil {
			return err
		}
		n, err = d.exec(ctx, tx, `UPDATE meta SET retained_at = ? WHERE retained_at IS NULL OR retained_at <= ? OR retained_at > ?`,
			now.UnixMilli(), now.Add(-every).UnixMilli(), now.Add(every).UnixMilli()) // the clock was wrong once
		return err
	})
	if err != nil {
		return time.Time{}, false, fmt.Errorf("look when old data was removed last: %w", err)
	}
	return instant(at), n > 0, nil
}

// AuditCut returns the last row of the audit trail that retention removed and its hash; 0 when all rows are there.
func (d *DB) AuditCut(ctx context.Context) (row int64, hash []byte, err error) {
	var heads []auditHead
	if err := d.store.reads().SelectContext(ctx, &heads, `SELECT cut_id, cut_hash FROM audit_head`); err != nil {
		return 0, nil, fmt.Errorf("read where the audit trail begins: %w", err)
	}
	if len(heads) == 0 {
		return 0, nil, nil
	}
	return heads[0].CutID, heads[0].CutHash, nil
}

// Scrub makes what was removed unreadable in the database's own files, as far as that can be done from inside: SQLite's log is written back and emptied. On
// PostgreSQL that is the server's affair, and it does nothing.
func (d *DB) Scrub(ctx context.Context) error {
	failpoint.Reach(failpoint.ScrubBefore, "", "")
	if err := d.store.scrub(ctx); err != nil {
		return fmt.Errorf("empty the log of what was removed: %w", err)
	}
	failpoint.Reach(failpoint.ScrubAfter, "", "")
	return nil
}

func (s *postgresStore) overwrites(context.Context, *sqlx.Tx, bool) error { return nil }
func (s *postgresStore) scrub(context.Context) error                      { return nil }

// overwrites has SQLite write zeros over what is deleted, also on pages that become free. It costs writes, so only removals ask for it.
func (s *sqliteStore) overwrites(ctx context.Context, tx *sqlx.Tx, on bool) error {
	var state int
	return tx.QueryRowContext(ctx, fmt.Sprintf(`PRAGMA secure_delete = %v`, on)).Scan(&state)
}

// scrub empties the log. A reader that holds it open is waited for as long as busy_timeout says; what is left then is gone with the next scrub.
func (s *sqliteStore) scrub(ctx context.Context) error {
	var busy, log, done int64
	return s.writer.QueryRowContext(ctx, `PRAGMA wal_checkpoint(TRUNCATE)`).Scan(&busy, &log, &done)
}
