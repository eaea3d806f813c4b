package syncdb

import (
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/jmoiron/sqlx"
)

// maxLookup is how many keys one look-up statement carries.
const maxLookup = 1000

const entryColumns = `natural_key_hash, full_record_hash, source_hash, person_hash, edfi_id, key_sealed, state, origin, run_id`

// Hashes streams the key, record and source hash and the state of every entry of the resource, in any order; hashes not known are zero.
// It is the fast way to read a whole resource: half of a run that finds nothing changed. An error of fn ends it and is returned. fn may
// call the ledger.
func (d *DB) Hashes(ctx context.Context, connID int64, resource string, fn func(key, record, source Hash, state State) error) error {
	id, err := d.resourceID(ctx, resource)
	if err != nil || id == 0 {
		return err
	}
	if err := d.store.hashes(ctx, connID, id, false, fn); err != nil {
		return fmt.Errorf("read hashes of %s: %w", resource, err)
	}
	return nil
}

// Count returns how many entries the resource has, from a counter the folds keep.
func (d *DB) Count(ctx context.Context, connID int64, resource string) (int64, error) {
	var n int64
	err := d.store.reads().GetContext(ctx, &n, d.bind(`SELECT s.entries FROM scope s JOIN resource r ON r.id = s.resource_id
		WHERE s.connection_id = ? AND r.path = ?`), connID, resource)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return 0, fmt.Errorf("count entries of %s: %w", resource, err)
	}
	return n, nil
}

// Resources returns the resources that have entries, sorted.
func (d *DB) Resources(ctx context.Context, connID int64) ([]string, error) {
	var names []string
	if err := d.store.reads().SelectContext(ctx, &names, d.bind(`SELECT r.path FROM scope s JOIN resource r ON r.id = s.resource_id
		WHERE s.connection_id = ? AND s.entries > 0`), connID); err != nil {
		return nil, fmt.Errorf("list resources: %w", err)
	}
	slices.Sort(names)
	return names, nil
}

// Each calls fn with every entry of the resource, in key order. The entry and its keys are fn's to keep. An error of fn ends it and is
// returned. fn may call the ledger.
func (d *DB) Each(ctx context.Context, connID int64, resource string, fn func(*Entry) error) error {
	id, err := d.resourceID(ctx, resource)
	if err != nil || id == 0 {
		return err
	}
	c, err := d.connection(ctx, connID)
	if err != nil {
		return err
	}
	rows, err := d.store.reads().QueryContext(ctx, d.bind(`SELECT `+entryColumns+` FROM entry WHERE connection_id = ? AND resource_id = ?
		ORDER BY natural_key_hash`), connID, id)
	if err == nil {
		err = scanEntries(rows, c, resource, id, fn)
	}
	if err != nil {
		return fmt.Errorf("read entries of %s: %w", resource, err)
	}
	return nil
}

// OwnedElsewhere calls fn with the target's id of every record of the resource that another connection of the ledger made or adopted. An error of fn
// ends it and is returned.
func (d *DB) OwnedElsewhere(ctx context.Context, connID int64, resource string, fn func(edfiID string) error) error {
	id, err := d.resourceID(ctx, resource)
	if err != nil || id == 0 {
		return err
	}
	rows, err := d.store.reads().QueryContext(ctx, d.bind(`SELECT edfi_id FROM entry WHERE connection_id <> ? AND resource_id = ? AND edfi_id IS NOT NULL
		AND origin IN (?, ?)`), connID, id, Created, Adopted)
	if err != nil {
		return fmt.Errorf("read entries of %s: %w", resource, err)
	}
	defer rows.Close()
	for rows.Next() {
		var edfiID string
		if err := rows.Scan(&edfiID); err != nil {
			return fmt.Errorf("read entries of %s: %w", resource, err)
		}
		if err := fn(edfiID); err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("read entries of %s: %w", resource, err)
	}
	return nil
}

// Lookup returns the entries of these keys that exist.
func (d *DB) Lookup(ctx context.Context, connID int64, resource string, hashes []Hash) (map[Hash]Entry, error) {
	found := make(map[Hash]Entry, len(hashes))
	id, err := d.resourceID(ctx, resource)
	if err != nil || id == 0 {
		return found, err
	}
	c, err := d.connection(ctx, connID)
	if err != nil {
		return nil, err
	}
	for part := range slices.Chunk(hashes, maxLookup) {
		args := make([]any, 0, len(part)+2)
		args = append(args, connID, id)
		for i := range part {
			args = append(args, part[i][:])
		}
		rows, err := d.store.reads().QueryContext(ctx, d.bind(`SELECT `+entryColumns+` FROM entry
			WHERE connection_id = ? AND resource_id = ? AND natural_key_hash IN (`+list("?", len(part))+`)`), args...)
		if err == nil {
			err = scanEntries(rows, c, resource, id, func(e *Entry) error {
				found[e.KeyHash] = *e
				return nil
			})
		}
		if err != nil {
			return nil, fmt.Errorf("look up entries of %s: %w", resource, err)
		}
	}
	return found, nil
}

// Claim writes the SourceHash and PersonHash of entries by their KeyHash, without a call to the target: the row was made again in the
// SIS. Keys that have no entry are passed over. All are written in one transaction, or none.
func (d *DB) Claim(ctx context.Context, l Lease, resource string, updates []Entry) error {
	id, err := d.ensureResource(ctx, resource)
	if err == nil {
		err = d.fenced(ctx, l, func(tx *sqlx.Tx) error {
			stmt, err := tx.PreparexContext(ctx, d.bind(`UPDATE entry SET source_hash = ?, person_hash = ?, run_id = ?
				WHERE connection_id = ? AND resource_id = ? AND natural_key_hash = ?`))
			if err != nil {
				return err
			}
			defer stmt.Close()
			for i := range updates {
				e := &updates[i]
				if _, err := stmt.ExecContext(ctx, nullHash(&e.SourceHash), nullHash(&e.PersonHash), l.RunID, l.ConnectionID, id,
					e.KeyHash[:]); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err != nil {
		return fmt.Errorf("claim entries of %s: %w", resource, err)
	}
	return nil
}

// Scope returns what the entries of a resource were made with; all zero when it was never set.
func (d *DB) Scope(ctx context.Context, connID int64, resource string) (Scope, error) {
	s := Scope{Resource: resource}
	row := d.store.reads().QueryRowContext(ctx, d.bind(`SELECT s.key_generation, s.hash_rules, s.scan_mark
		FROM scope s JOIN resource r ON r.id = s.resource_id WHERE s.connection_id = ? AND r.path = ?`), connID, resource)
	if err := row.Scan(&s.KeyGeneration, &s.HashRules, &s.ScanMark); err != nil && !errors.Is(err, sql.ErrNoRows) {
		return Scope{}, fmt.Errorf("read scope of %s: %w", resource, err)
	}
	return s, nil
}

// SetScope writes it.
func (d *DB) SetScope(ctx context.Context, l Lease, s Scope) error {
	if s.Resource == "" {
		return errors.New("set scope: no resource")
	}
	id, err := d.ensureResource(ctx, s.Resource)
	if err == nil {
		err = d.fenced(ctx, l, func(tx *sqlx.Tx) error {
			_, err := d.exec(ctx, tx, `INSERT INTO scope (connection_id, resource_id, key_generation, hash_rules, scan_mark)
				VALUES (?, ?, ?, ?, ?) ON CONFLICT (connection_id, resource_id) DO UPDATE
				SET key_generation = excluded.key_generation, hash_rules = excluded.hash_rules, scan_mark = excluded.scan_mark`,
				l.ConnectionID, id, s.KeyGeneration, s.HashRules, s.ScanMark)
			return err
		})
	}
	if err != nil {
		return fmt.Errorf("set scope of %s: %w", s.Resource, err)
	}
	return nil
}

// entryAAD binds a sealed natural key to its row: under another key it does not open.
func (c connection) entryAAD(resourceID int64, key *Hash) []byte {
	var place [24]byte
	binary.BigEndian.PutUint64(place[:], uint64(resourceID))
	copy(place[8:], key[:])
	return c.aad("entry", place[:]...)
}

// sealKeys appends the sealed natural key of an entry.
func (c connection) sealKeys(dst []byte, resourceID int64, e *Entry) []byte {
	return c.ring.Seal(dst, joinKeys(e.Key, e.SentKey), c.entryAAD(resourceID, &e.KeyHash))
}

// openKeys opens it. KeyHash is there already.
func (c connection) openKeys(e *Entry, resourceID int64, sealed []byte) error {
	text, err := c.ring.Open(nil, sealed, c.entryAAD(resourceID, &e.KeyHash))
	if err != nil {
		return fmt.Errorf("open natural key: %w", err)
	}
	e.Key, e.SentKey = splitKeys(text)
	return nil
}

// scanEntries reads rows of entryColumns and closes them.
func scanEntries(rows *sql.Rows, c connection, resource string, resourceID int64, fn func(*Entry) error) error {
	defer rows.Close()
	var key, record, source, person, sealed sql.RawBytes
	var id sql.NullString
	for rows.Next() {
		e := &Entry{Resource: resource}
		if err := rows.Scan(&key, &record, &source, &person, &id, &sealed, &e.State, &e.Origin, &e.RunID); err != nil {
			return err
		}
		e.KeyHash, e.RecordHash, e.SourceHash, e.PersonHash, e.EdfiID = hashOf(key), hashOf(record), hashOf(source), hashOf(person), id.String
		if err := c.openKeys(e, resourceID, sealed); err != nil {
			return err
		}
		if err := fn(e); err != nil {
			return err
		}
	}
	return rows.Err()
}

func hashOf(b []byte) (h Hash) {
	copy(h[:], b)
	return h
}

// nullHash is the parameter of a hash column in which NULL stands for the zero hash.
func nullHash(h *Hash) any {
	if h.IsZero() {
		return nil
	}
	return h[:]
}

func nullText(s string) any {
	if s == "" {
		return nil
	}
	return s
}

// nullID is the parameter of a dictionary number in which NULL stands for none.
func nullID(id int64) any {
	if id == 0 {
		return nil
	}
	return id
}
