package syncdb

import (
	"context"
	"fmt"
)

// Inventory is the shape and size of a ledger: counts only, nothing that names anybody.
type Inventory struct {
	Kind     string // sqlite, postgres
	Database string // version of SQLite or of the server
	Schema   int64  // newest migration
	Bytes    int64
	Free     int64 // of Bytes: kept inside for reuse; SQLite
	Tables   []TableCount
	Entries  []EntryCount
}

// TableCount is how many rows a table has.
type TableCount struct {
	Table string
	Rows  int64
}

// EntryCount is how many records of a resource the ledger has of a connection.
type EntryCount struct {
	Connection int64  `db:"connection_id"`
	Resource   string `db:"path"`
	Entries    int64  `db:"entries"`
}

// countedTables are those whose rows Inventory counts; entries it takes from the sums that are kept of them.
func countedTables() []string {
	return []string{
		"connection", "resource", "scope", "journal", "run", "run_log", "step", "issue", "problem", "plan", "plan_segment", "history", "target", "receipt", "audit", "api_key", "session", "request",
	}
}

// Inventory counts what the ledger holds. It reads whole indexes: a second or two for a large ledger.
func (d *DB) Inventory(ctx context.Context) (*Inventory, error) {
	out := &Inventory{}
	db := d.store.reads()
	if err := d.store.size(ctx, out); err != nil {
		return nil, fmt.Errorf("measure the ledger: %w", err)
	}
	if err := db.GetContext(ctx, &out.Schema, `SELECT max(version_id) FROM ledger_version`); err != nil {
		return nil, fmt.Errorf("read schema version: %w", err)
	}
	for _, table := range countedTables() {
		c := TableCount{Table: table}
		if err := db.GetContext(ctx, &c.Rows, `SELECT count(*) FROM `+table); err != nil {
			return nil, fmt.Errorf("count %s: %w", table, err)
		}
		out.Tables = append(out.Tables, c)
	}
	if err := db.SelectContext(ctx, &out.Entries, `SELECT s.connection_id, r.path, s.entries FROM scope s JOIN resource r ON r.id = s.resource_id
		ORDER BY s.connection_id, r.path`); err != nil {
		return nil, fmt.Errorf("count entries: %w", err)
	}
	return out, nil
}

func (s *sqliteStore) size(ctx context.Context, out *Inventory) error {
	out.Kind = "sqlite"
	var page, pages, free int64
	for query, into := range map[string]any{
		`SELECT sqlite_version()`: &out.Database, `PRAGMA page_size`: &page, `PRAGMA page_count`: &pages, `PRAGMA freelist_count`: &free,
	} {
		if err := s.reader.GetContext(ctx, into, query); err != nil {
			return err
		}
	}
	out.Bytes, out.Free = page*pages, page*free
	return nil
}

func (s *postgresStore) size(ctx context.Context, out *Inventory) error {
	out.Kind = "postgres"
	return s.db.QueryRowContext(ctx, `SELECT current_setting('server_version'), pg_database_size(current_database())`).Scan(&out.Database, &out.Bytes)
}

// IssueCount is how many open issues, and rows with them, have a code.
type IssueCount struct {
	Connection int64  `db:"connection_id"`
	Resource   string `db:"path"`
	Code       string `db:"code"`
	Owner      string `db:"owner"`
	Outcome    string `db:"outcome"`
	Issues     int64  `db:"issues"`
	Rows       int64  `db:"problems"`
}

// IssueCounts counts open issues of all connections by what they are, without their causes.
func (d *DB) IssueCounts(ctx context.Context) ([]IssueCount, error) {
	var out []IssueCount
	if err := d.store.reads().SelectContext(ctx, &out, `SELECT i.connection_id, r.path, i.code, i.owner, i.outcome, count(*) AS issues,
		CAST(coalesce(sum((SELECT count(*) FROM problem p WHERE p.connection_id = i.connection_id AND p.issue_id = i.id)), 0) AS bigint) AS problems
		FROM issue i JOIN resource r ON r.id = i.resource_id WHERE i.cleared_run = 0
		GROUP BY i.connection_id, r.path, i.code, i.owner, i.outcome ORDER BY i.connection_id, r.path, i.code, i.owner, i.outcome`); err != nil {
		return nil, fmt.Errorf("count issues: %w", err)
	}
	return out, nil
}
