package sandbox

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sort"
)

// trackedChange is a deletion or a key change on its way to or from the file.
type trackedChange struct {
	table    *table
	deletion *deletion  // or
	rekeyed  *keyChange // one of the two
}

// changesAfter lists deletions and key changes after a change version. The world is locked.
func (st *store) changesAfter(version int64) (out []trackedChange) {
	for _, t := range st.cat.tables {
		from := sort.Search(len(t.deletions), func(i int) bool { return t.deletions[i].version > version })
		for i := range t.deletions[from:] {
			out = append(out, trackedChange{table: t, deletion: &t.deletions[from+i]})
		}
		from = sort.Search(len(t.keyChanges), func(i int) bool { return t.keyChanges[i].version > version })
		for i := range t.keyChanges[from:] {
			out = append(out, trackedChange{table: t, rekeyed: &t.keyChanges[from+i]})
		}
	}
	return out
}

// writeChanges empties the file when it is to be written anew, and adds deletions, key changes and the newest change version.
func (f *file) writeChanges(ctx context.Context, tx *sql.Tx, fl *flushed) error {
	if fl.rewrite {
		for _, table := range []string{"record", "deletion", "key_change"} {
			if _, err := tx.ExecContext(ctx, "DELETE FROM "+table); err != nil {
				return fmt.Errorf("empty %s: %w", table, err)
			}
		}
	}
	for _, c := range fl.changes {
		var err error
		if d := c.deletion; d != nil {
			_, err = tx.ExecContext(ctx, `INSERT INTO deletion (resource, version, row, key, key_json) VALUES (?, ?, ?, ?, ?)`,
				c.table.number, d.version, d.row, d.key, d.values)
		} else {
			k := c.rekeyed
			_, err = tx.ExecContext(ctx, `INSERT INTO key_change (resource, version, row, old_json, new_json) VALUES (?, ?, ?, ?, ?)`,
				c.table.number, k.version, k.row, k.old, k.now)
		}
		if err != nil {
			return fmt.Errorf("write change: %w", err)
		}
	}
	_, err := tx.ExecContext(ctx, `INSERT INTO meta (name, value) VALUES ('change_version', ?)
		ON CONFLICT (name) DO UPDATE SET value = excluded.value`, fl.version)
	if err != nil {
		return fmt.Errorf("write change version: %w", err)
	}
	return nil
}

// addVersion brings a file of an earlier version of the sandbox up to date: its records have change version 0.
func (f *file) addVersion(ctx context.Context) error {
	var n int
	if err := f.db.QueryRowContext(ctx, `SELECT count(*) FROM pragma_table_info('record') WHERE name = 'version'`).Scan(&n); err != nil {
		return fmt.Errorf("look at the tables: %w", err)
	}
	if n == 1 {
		return nil
	}
	if _, err := f.db.ExecContext(ctx, `ALTER TABLE record ADD COLUMN version INTEGER NOT NULL DEFAULT 0`); err != nil {
		return fmt.Errorf("add change versions: %w", err)
	}
	return nil
}

// loadChanges reads deletions, key changes and the newest change version.
func (f *file) loadChanges(ctx context.Context) error {
	var version int64
	err := f.db.QueryRowContext(ctx, `SELECT value FROM meta WHERE name = 'change_version'`).Scan(&version)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return fmt.Errorf("read change version: %w", err)
	}
	f.st.versions.Store(version)
	err = f.eachChange(ctx, `SELECT resource, version, row, key, key_json FROM deletion ORDER BY resource, version`,
		func(t *table, version int64, row uint32, a, b []byte) {
			t.deletions = append(t.deletions, deletion{row, version, a, b})
		})
	return errors.Join(err, f.eachChange(ctx, `SELECT resource, version, row, old_json, new_json FROM key_change ORDER BY resource, version`,
		func(t *table, version int64, row uint32, a, b []byte) {
			t.keyChanges = append(t.keyChanges, keyChange{row, version, a, b})
		}))
}

func (f *file) eachChange(ctx context.Context, query string, fn func(t *table, version int64, row uint32, a, b []byte)) (err error) {
	rows, err := f.db.QueryContext(ctx, query)
	if err != nil {
		return fmt.Errorf("read changes: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var number int
		var version int64
		var row uint32
		var a, b []byte
		if err := rows.Scan(&number, &version, &row, &a, &b); err != nil {
			return fmt.Errorf("read changes: %w", err)
		}
		if number < 0 || number >= len(f.st.cat.tables) {
			return fmt.Errorf("read changes: there is no resource %d", number)
		}
		fn(f.st.cat.tables[number], version, row, a, b)
	}
	return rows.Err()
}
