package syncdb

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jmoiron/sqlx"
)

// Definition is a connection that was defined in the ledger, as opposed to the configuration file. The ledger does not know what it means.
type Definition struct {
	Tenant  string
	Name    string
	Version int64           // 1, 2, 3…, also over a removal
	Text    json.RawMessage // what a connection of the configuration is; secrets as references only. nil = it was removed
	Guarded bool            // its target was named by somebody who may not have the service call whatever it reaches
	Who     string
	At      time.Time
}

// Definition errors.
var (
	// ErrVersion says that a definition is not, or no longer, of the version that the change was made to.
	ErrVersion = errors.New("somebody has changed the connection meanwhile; look again")
)

// RunningError says that a run of the connection is under way.
type RunningError struct{ Run int64 }

func (e *RunningError) Error() string {
	return fmt.Sprintf("run %d of the connection is under way; wait for it to end, or cancel it", e.Run)
}

// Change makes a new version of a definition.
type Change struct {
	Tenant, Name string
	From         int64           // the version that is changed; 0 = there is none
	Text         json.RawMessage // nil = it is removed
	Guarded      bool
	Secrets      map[string][]byte // to be sealed with it, by name
	Forget       bool              // with a removal: what the ledger knows of the connection's records goes, too. Nothing at the target changes
	Act          AuditRow
}

// Define makes all changes, or none, in one transaction with their audit rows (I16) and the secrets that come with them. It returns ErrVersion when one
// was made to another version than there is, and a *RunningError when a connection is removed while it runs; a run of it that waits is canceled.
func (d *DB) Define(ctx context.Context, changes ...Change) ([]Definition, error) {
	var out []Definition
	err := d.transact(ctx, func(tx *sqlx.Tx) error {
		out = nil
		for i := range changes {
			def, err := d.define(ctx, tx, &changes[i])
			if err != nil {
				return fmt.Errorf("%s: %w", changes[i].Name, err)
			}
			out = append(out, def)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("change connection %w", err)
	}
	return out, nil
}

func (d *DB) define(ctx context.Context, tx *sqlx.Tx, c *Change) (Definition, error) {
	for name, value := range c.Secrets {
		if _, err := d.setSecret(ctx, tx, c.Tenant, name, value, c.Act.Who); err != nil {
			return Definition{}, err
		}
	}
	current, err := d.currentVersion(ctx, tx, c.Tenant, c.Name)
	if err != nil {
		return Definition{}, err
	}
	if there := current.Definition.Valid; c.From != 0 && (c.From != current.Version || !there) || c.From == 0 && there {
		return Definition{}, ErrVersion
	}
	if c.Text == nil {
		if err := d.stop(ctx, tx, c.Tenant, c.Name); err != nil {
			return Definition{}, err
		}
		if c.Forget {
			if err := d.forget(ctx, tx, c.Tenant, c.Name); err != nil {
				return Definition{}, err
			}
		}
	}
	var row definitionRow
	now := d.store.words().now
	err = tx.GetContext(ctx, &row, d.bind(`INSERT INTO connection_version (tenant, name, version, definition, guarded, who, at) VALUES (?, ?, ?, ?, ?, ?, `+now+`)
		ON CONFLICT DO NOTHING RETURNING `+definitionColumns), c.Tenant, c.Name, current.Version+1, sql.NullString{String: string(c.Text), Valid: c.Text != nil}, c.Guarded, c.Act.Who, d.now())
	if errors.Is(err, sql.ErrNoRows) {
		return Definition{}, ErrVersion
	}
	if err != nil {
		return Definition{}, err
	}
	return row.definition(), d.audit(ctx, tx, c.Act)
}

func (d *DB) currentVersion(ctx context.Context, tx *sqlx.Tx, tenant, name string) (definitionRow, error) {
	var row definitionRow
	err := tx.GetContext(ctx, &row, d.bind(`SELECT `+definitionColumns+` FROM connection_version WHERE tenant = ? AND name = ? ORDER BY version DESC LIMIT 1`), tenant, name)
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	return row, err
}

// stop sees to it that nothing runs or waits for a connection that goes. Who is about to begin a run has the lease row until that is written (lend), so it
// takes the row first: a run that it did not see would go on without entries and journal (I3, I7).
func (d *DB) stop(ctx context.Context, tx *sqlx.Tx, tenant, name string) error {
	var leases []int64
	if err := tx.SelectContext(ctx, &leases, d.bind(`SELECT connection_id FROM lease
		WHERE connection_id IN (SELECT id FROM connection WHERE tenant = ? AND name = ?)`+d.store.words().lock), tenant, name); err != nil {
		return fmt.Errorf("wait for runs that begin: %w", err)
	}
	var running int64
	err := tx.GetContext(ctx, &running, d.bind(`SELECT run.id FROM run JOIN connection ON connection.id = run.connection_id
		WHERE connection.tenant = ? AND connection.name = ? AND run.state = 'running'`), tenant, name)
	if err == nil {
		return &RunningError{running}
	}
	if !errors.Is(err, sql.ErrNoRows) {
		return err
	}
	_, err = d.exec(ctx, tx, `UPDATE run SET state = 'canceled', ended_at = `+d.store.words().now+`, error = ? WHERE state = 'waiting'
		AND connection_id IN (SELECT id FROM connection WHERE tenant = ? AND name = ?)`, d.now(), "canceled before it began: its connection was removed", tenant, name)
	return err
}

// Definitions returns the connections that are defined in the ledger, by tenant and name.
func (d *DB) Definitions(ctx context.Context) ([]Definition, error) {
	out, err := d.definitions(ctx, d.store.reads(), ``)
	if err != nil {
		return nil, fmt.Errorf("read the connections of the ledger: %w", err)
	}
	return out, nil
}

// Definition returns one of them, or ErrNotFound.
func (d *DB) Definition(ctx context.Context, tenant, name string) (Definition, error) {
	all, err := d.definitions(ctx, d.store.reads(), `AND tenant = ? AND name = ?`, tenant, name)
	if err == nil && len(all) == 0 {
		err = ErrNotFound
	}
	if err != nil {
		return Definition{}, fmt.Errorf("read connection %s: %w", name, err)
	}
	return all[0], nil
}

// DefinitionVersions returns all versions of a connection that is or was defined in the ledger, the newest first.
func (d *DB) DefinitionVersions(ctx context.Context, tenant, name string) ([]Definition, error) {
	var rows []definitionRow
	err := d.store.reads().SelectContext(ctx, &rows, d.bind(`SELECT `+definitionColumns+` FROM connection_version WHERE tenant = ? AND name = ? ORDER BY version DESC`), tenant, name)
	if err != nil {
		return nil, fmt.Errorf("read versions of connection %s: %w", name, err)
	}
	return definitionsOf(rows), nil
}

func (d *DB) definitions(ctx context.Context, q sqlx.QueryerContext, where string, args ...any) ([]Definition, error) {
	var rows []definitionRow
	err := sqlx.SelectContext(ctx, q, &rows, d.bind(`SELECT `+definitionColumns+` FROM connection_version AS v
		WHERE definition IS NOT NULL AND version = (SELECT max(version) FROM connection_version AS w WHERE w.tenant = v.tenant AND w.name = v.name) `+where+`
		ORDER BY tenant, name`), args...)
	return definitionsOf(rows), err
}

type definitionRow struct {
	Tenant     string         `db:"tenant"`
	Name       string         `db:"name"`
	Version    int64          `db:"version"`
	Definition sql.NullString `db:"definition"`
	Guarded    bool           `db:"guarded"`
	Who        string         `db:"who"`
	At         int64          `db:"at"`
}

const definitionColumns = `tenant, name, version, definition, guarded, who, at`

func (r *definitionRow) definition() Definition {
	return Definition{Tenant: r.Tenant, Name: r.Name, Version: r.Version, Text: raw(r.Definition), Guarded: r.Guarded, Who: r.Who, At: time.UnixMilli(r.At).UTC()}
}

func definitionsOf(rows []definitionRow) []Definition {
	out := make([]Definition, len(rows))
	for i := range rows {
		out[i] = rows[i].definition()
	}
	return out
}

// RecordsOf counts what the ledger knows at the target for a connection, whether or not it is still defined anywhere.
func (d *DB) RecordsOf(ctx context.Context, tenant, name string) (n int64, err error) {
	err = d.store.reads().GetContext(ctx, &n, d.bind(`SELECT coalesce(sum(scope.entries), 0) FROM scope JOIN connection ON connection.id = scope.connection_id
		WHERE connection.tenant = ? AND connection.name = ?`), tenant, name)
	if err != nil {
		return 0, fmt.Errorf("count records of connection %s: %w", name, err)
	}
	return n, nil
}
