package source

import (
	"context"
	"strings"

	"github.com/jmoiron/sqlx"
)

// dialect is what differs between databases. Implementations are stateless.
type dialect interface {
	// open makes the pool; it need not connect. secrets are the parts of the DSN that must never be shown.
	open(cfg Config) (db *sqlx.DB, secrets []string, err error)
	// begin starts the read transaction of a snapshot on a connection. token is "" for the first connection; it returns the token with
	// which others join the same snapshot. end finishes the transaction; it is called once.
	begin(ctx context.Context, conn *sqlx.Conn, cfg Config, token string) (shared string, end func(context.Context) error, err error)
	// placeholder is the n-th parameter, from 1.
	placeholder(n int) string
	// describe wraps a query so that it yields its columns and no row.
	describe(query string) string
	// exact makes an expression compare byte by byte.
	exact(expr string) string
	// format tells how values of a column type, as the driver names it, become text.
	format(typeName string) format
}

func dialectOf(driver string) (dialect, bool) {
	switch driver {
	case SQLite:
		return sqliteDialect{}, true
	case Postgres:
		return postgresDialect{}, true
	case MySQL:
		return mysqlDialect{}, true
	case SQLServer:
		return sqlserverDialect{}, true
	}
	return nil, false
}

// wrapped is the query as a derived table. The line break keeps a closing -- comment from swallowing the parenthesis.
func wrapped(query string) string { return "(" + query + "\n) as edfisync_q" }

// execAll runs statements one after the other.
func execAll(ctx context.Context, conn *sqlx.Conn, statements ...string) error {
	for _, s := range statements {
		if s == "" {
			continue
		}
		if _, err := conn.ExecContext(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

// ender finishes a transaction by statement.
func ender(conn *sqlx.Conn, statement string) func(context.Context) error {
	return func(ctx context.Context) error {
		_, err := conn.ExecContext(ctx, statement)
		return err
	}
}

// secretParts lists what of a connection string must not be shown: the password, and the string itself.
func secretParts(dsn, password string) []string {
	var out []string
	for _, s := range []string{dsn, password} {
		if strings.TrimSpace(s) != "" {
			out = append(out, s)
		}
	}
	return out
}
