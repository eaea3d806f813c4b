package syncdb

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/edfisync/edfisync/internal/keys"
)

// Bounds of one history segment. A segment is compressed, sealed and opened as a whole.
const (
	maxAttempts    = 8192
	maxAttemptText = 8 << 20 // bytes of keys, payloads and answers; the last may go past it
)

// keyPrefix is how many bytes of a natural key hash stand in clear beside a segment.
const keyPrefix = 8

// CheckAttempts returns an error when an attempt could not be found again.
func CheckAttempts(attempts []Attempt) error {
	for i := range attempts {
		a := &attempts[i]
		switch {
		case a.Resource == "":
			return fmt.Errorf("the attempt of op %d names no resource", a.Op)
		case a.KeyHash.IsZero():
			return fmt.Errorf("the attempt of op %d has no key hash", a.Op)
		case a.Verb < Create || a.Verb > Delete:
			return fmt.Errorf("the attempt of op %d has no verb", a.Op)
		}
	}
	return nil
}

// segment is a sealed piece of history about to be written.
type segment struct {
	resource int64
	run      int64
	newest   time.Time
	attempts int
	prefixes []byte
	sealed   []byte
}

// SaveAttempts keeps answered calls, in one transaction: one or more sealed segments per resource. Gather some hundred to some thousand before
// calling it; the ledger keeps nothing back. RunID of the attempts is set by the ledger, At is kept to the millisecond. After an error it is
// not known whether they were written; saving them again would show them twice. It returns ErrFenced when the lease is lost (I7). Safe for
// concurrent use.
func (d *DB) SaveAttempts(ctx context.Context, l Lease, attempts []Attempt) error {
	if len(attempts) == 0 {
		return nil
	}
	segments, err := d.segments(ctx, l, attempts)
	if err == nil {
		err = d.fenced(ctx, l, func(tx *sqlx.Tx) error {
			for _, s := range segments {
				if _, err := d.exec(ctx, tx, `INSERT INTO history (connection_id, resource_id, run_id, newest_at, attempts, key_prefixes, body_sealed)
					VALUES (?, ?, ?, ?, ?, ?, ?)`, l.ConnectionID, s.resource, s.run, s.newest.UnixMilli(), s.attempts, s.prefixes, s.sealed); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err != nil {
		return fmt.Errorf("save history: %w", err)
	}
	return nil
}

// segments packs and seals the attempts, before the transaction: it is most of the work.
func (d *DB) segments(ctx context.Context, l Lease, attempts []Attempt) ([]segment, error) {
	if err := CheckAttempts(attempts); err != nil {
		return nil, err
	}
	c, err := d.connection(ctx, l.ConnectionID)
	if err != nil {
		return nil, err
	}
	order := make([]*Attempt, len(attempts))
	for i := range attempts {
		order[i] = &attempts[i]
	}
	slices.SortStableFunc(order, func(a, b *Attempt) int { return strings.Compare(a.Resource, b.Resource) })
	p := d.packers.Get().(*packer)
	defer d.packers.Put(p)
	defer p.clear()
	var out []segment
	for len(order) > 0 {
		s := segment{run: l.RunID}
		resource := order[0].Resource
		if s.resource, err = d.ensureResource(ctx, resource); err != nil {
			return nil, err
		}
		p.clear()
		for len(order) > 0 && order[0].Resource == resource && s.attempts < maxAttempts && len(p.text) < maxAttemptText {
			a := order[0]
			p.add(a)
			s.prefixes = append(s.prefixes, a.KeyHash[:keyPrefix]...)
			if !a.OldKeyHash.IsZero() {
				s.prefixes = append(s.prefixes, a.OldKeyHash[:keyPrefix]...)
			}
			if a.At.After(s.newest) {
				s.newest = a.At
			}
			s.attempts++
			order = order[1:]
		}
		packed, err := p.pack()
		if err != nil {
			return nil, err
		}
		s.sealed = c.ring.Seal(make([]byte, 0, len(packed)+keys.Overhead), packed, c.historyAAD(s.resource, s.run))
		out = append(out, s)
	}
	return out, nil
}

// historyAAD binds a segment to its resource and run. Its id is not known before it is written.
func (c connection) historyAAD(resourceID, runID int64) []byte {
	place := binary.BigEndian.AppendUint64(nil, uint64(resourceID))
	return c.aad("history", binary.BigEndian.AppendUint64(place, uint64(runID))...)
}

// Attempts calls fn with what is kept of the calls about one record, oldest first; a call that changed the natural key is found under both
// keys. The attempt is fn's to keep. An error of fn ends it and is returned. fn may call the ledger.
func (d *DB) Attempts(ctx context.Context, connID int64, resource string, key Hash, fn func(*Attempt) error) error {
	id, err := d.resourceID(ctx, resource)
	if err != nil || id == 0 {
		return err
	}
	var found []*Attempt
	places, err := d.historyOf(ctx, connID, id, key)
	for i := 0; err == nil && i < len(places); i++ {
		err = d.readHistory(ctx, connID, places[i], func(a *Attempt) error {
			if a.KeyHash == key || a.OldKeyHash == key {
				a.Key, a.Payload, a.Answer = bytes.Clone(a.Key), bytes.Clone(a.Payload), bytes.Clone(a.Answer)
				found = append(found, a)
			}
			return nil
		})
	}
	if err != nil {
		return fmt.Errorf("read history of a record of %s: %w", resource, err)
	}
	// Segments are in the order they were saved, which for two steps that run side by side need not be that of the answers.
	slices.SortStableFunc(found, func(a, b *Attempt) int { return a.At.Compare(b.At) })
	for _, a := range found {
		if err := fn(a); err != nil {
			return err
		}
	}
	return nil
}

// historyOf returns the segments whose key prefixes say that they may hold the record, oldest first.
func (d *DB) historyOf(ctx context.Context, connID, resourceID int64, key Hash) ([]int64, error) {
	rows, err := d.store.reads().QueryContext(ctx, d.bind(`SELECT id, key_prefixes FROM history WHERE connection_id = ? AND resource_id = ?
		ORDER BY id`), connID, resourceID)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var places []int64
	var prefixes []byte
	for rows.Next() {
		var id int64
		if err := rows.Scan(&id, &prefixes); err != nil {
			return nil, err
		}
		for b := prefixes; len(b) >= keyPrefix; b = b[keyPrefix:] {
			if [keyPrefix]byte(b) == [keyPrefix]byte(key[:keyPrefix]) {
				places = append(places, id)
				break
			}
		}
	}
	return places, rows.Err()
}

// readHistory opens one segment. One that was purged meanwhile holds nothing.
func (d *DB) readHistory(ctx context.Context, connID, id int64, fn func(*Attempt) error) error {
	c, err := d.connection(ctx, connID)
	if err != nil {
		return err
	}
	var rows []struct {
		Resource int64  `db:"resource_id"`
		Path     string `db:"path"`
		Run      int64  `db:"run_id"`
		Sealed   []byte `db:"body_sealed"`
	}
	if err := d.store.reads().SelectContext(ctx, &rows, d.bind(`SELECT h.resource_id, r.path, h.run_id, h.body_sealed
		FROM history h JOIN resource r ON r.id = h.resource_id WHERE h.connection_id = ? AND h.id = ?`), connID, id); err != nil || len(rows) == 0 {
		return err
	}
	row := rows[0]
	packed, err := c.ring.Open(nil, row.Sealed, c.historyAAD(row.Resource, row.Run))
	if err != nil {
		return fmt.Errorf("open segment: %w", err)
	}
	return readAttempts(packed, row.Path, row.Run, fn)
}

// AttemptsOfRun calls fn with what is kept of the calls of one run, in the order they were saved. The attempt is fn's to keep. An error of
// fn ends it and is returned. fn may call the ledger.
func (d *DB) AttemptsOfRun(ctx context.Context, connID, runID int64, fn func(*Attempt) error) error {
	var places []int64
	err := d.store.reads().SelectContext(ctx, &places, d.bind(`SELECT id FROM history WHERE connection_id = ? AND run_id = ? ORDER BY id`),
		connID, runID)
	for i := 0; err == nil && i < len(places); i++ {
		err = d.readHistory(ctx, connID, places[i], fn)
	}
	if err != nil {
		return fmt.Errorf("read history of run %d: %w", runID, err)
	}
	return nil
}

// PurgeAttempts removes history of the connection, segment by segment, in which every answer came before that time, and returns how many
// attempts. Each batch writes to the audit trail, in its own transaction, what it removed. It needs no lease and may be called again. What is removed from the tables is in older backups still.
func (d *DB) PurgeAttempts(ctx context.Context, connID int64, before time.Time) (int64, error) {
	const some = 100 // segments in one transaction, so that a run beside it need not wait
	var purged int64
	for {
		var segments []struct {
			ID       int64 `db:"id"`
			Attempts int64 `db:"attempts"`
		}
		err := d.purging(ctx, func(tx *sqlx.Tx) error {
			segments = nil
			if err := tx.SelectContext(ctx, &segments, d.bind(`DELETE FROM history WHERE connection_id = ? AND id IN (SELECT id FROM history
				WHERE connection_id = ? AND newest_at < ? ORDER BY newest_at LIMIT ?) RETURNING id, attempts`),
				connID, connID, before.UnixMilli(), some); err != nil || len(segments) == 0 {
				return err
			}
			ids := make([]int64, len(segments))
			for i, s := range segments {
				ids[i] = s.ID
			}
			return d.proveHistory(ctx, tx, connID, "history", before, ids)
		})
		if err != nil {
			return purged, fmt.Errorf("purge history: %w", err)
		}
		for _, s := range segments {
			purged += s.Attempts
		}
		if len(segments) < some {
			return purged, nil
		}
	}
}
