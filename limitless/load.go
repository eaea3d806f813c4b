package limitless

import (
	"context"
	"database/sql"
	"fmt"
	"strings"

	"github.com/jmoiron/sqlx"
)

// batch holds rows waiting to be written, by table: values one after the other, as many to a row as the table has columns.
type batch struct {
	values [tableCount][]any
	rows   [tableCount]int
}

// add puts one row in; the values are in the order of the columns in schema.sql.
func (b *batch) add(t table, values ...any) {
	b.values[t] = append(b.values[t], values...)
	b.rows[t]++
}

// loader writes batches in one transaction, in the way that is fastest on its database.
type loader struct {
	dialect Dialect
	layouts []layout
	tx      *sqlx.Tx
	bulk    map[table]*sqlx.Stmt // prepared inserts of rowsPerInsert rows
}

func newLoader(ctx context.Context, db *sqlx.DB, dialect Dialect) (*loader, error) {
	if dialect != SQLite && dialect != Postgres && dialect != MySQL {
		return nil, fmt.Errorf("unknown dialect %q", dialect)
	}
	tx, err := db.BeginTxx(ctx, nil)
	if err != nil {
		return nil, fmt.Errorf("begin: %w", err)
	}
	return &loader{dialect: dialect, layouts: layouts(), tx: tx, bulk: map[table]*sqlx.Stmt{}}, nil
}

func (l *loader) commit() error { return l.tx.Commit() }

// rollback undoes what was not committed; after commit it does nothing.
func (l *loader) rollback() { _ = l.tx.Rollback() }

// flush writes a batch and empties it.
func (l *loader) flush(ctx context.Context, b *batch) error {
	for t := range tableCount {
		if b.rows[t] == 0 {
			continue
		}
		lay, values := l.layouts[t], b.values[t]
		if len(values) != b.rows[t]*len(lay.columns) {
			return fmt.Errorf("write %s: %d values for %d rows of %d columns", lay.name, len(values), b.rows[t], len(lay.columns))
		}
		write := l.insert
		if l.dialect == Postgres {
			write = l.copy
		}
		if err := write(ctx, t, values); err != nil {
			return fmt.Errorf("write %s: %w", lay.name, err)
		}
		clear(values)
		b.values[t], b.rows[t] = values[:0], 0
	}
	return nil
}

// copy writes rows by PostgreSQL's COPY.
func (l *loader) copy(ctx context.Context, t table, values []any) (err error) {
	lay := l.layouts[t]
	stmt, err := l.tx.PrepareContext(ctx, fmt.Sprintf("COPY %s (%s) FROM STDIN", lay.name, strings.Join(lay.columns, ", ")))
	if err != nil {
		return err
	}
	defer func() {
		if cerr := stmt.Close(); err == nil {
			err = cerr
		}
	}()
	width := len(lay.columns)
	for ; len(values) > 0; values = values[width:] {
		if _, err := stmt.ExecContext(ctx, values[:width]...); err != nil {
			return err
		}
	}
	_, err = stmt.ExecContext(ctx)
	return err
}

// rowsPerInsert keeps a statement's parameters under SQLite's 32,766 and MariaDB's 65,535, where more of them no longer helps.
const rowsPerInsert = 64

// insert writes rows by inserts of many rows each.
func (l *loader) insert(ctx context.Context, t table, values []any) error {
	lay := l.layouts[t]
	width := len(lay.columns)
	full := rowsPerInsert * width
	for ; len(values) >= full; values = values[full:] {
		stmt, ok := l.bulk[t]
		if !ok {
			var err error
			if stmt, err = l.tx.PreparexContext(ctx, insertSQL(lay, rowsPerInsert)); err != nil {
				return err
			}
			l.bulk[t] = stmt
		}
		if _, err := stmt.ExecContext(ctx, values[:full]...); err != nil {
			return err
		}
	}
	if len(values) == 0 {
		return nil
	}
	_, err := l.tx.ExecContext(ctx, insertSQL(lay, len(values)/width), values...)
	return err
}

func insertSQL(lay layout, rows int) string {
	row := "(" + strings.Repeat("?, ", len(lay.columns)-1) + "?)"
	return "INSERT INTO " + lay.name + " (" + strings.Join(lay.columns, ", ") + ") VALUES " + strings.Repeat(row+", ", rows-1) + row
}

// number reads one integer, NULL as 0.
func number(ctx context.Context, q sqlx.QueryerContext, query string, args ...any) (int, error) {
	var n sql.NullInt64
	err := sqlx.GetContext(ctx, q, &n, query, args...)
	return int(n.Int64), err
}
