package source

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"
)

// postgresDialect reads PostgreSQL, a hot standby included, through lib/pq.
type postgresDialect struct{}

func (postgresDialect) open(cfg Config) (*sqlx.DB, []string, error) {
	c, err := pq.NewConfig(cfg.DSN)
	if err != nil {
		return nil, secretParts(cfg.DSN, passwordOf(cfg.DSN)), err
	}
	secrets := secretParts(cfg.DSN, c.Password)
	if c.ApplicationName == "" {
		c.ApplicationName = cfg.ApplicationName
	}
	if cfg.Dial != nil {
		if err := guardPostgres(&c, cfg.DSN); err != nil {
			return nil, secrets, err
		}
	}
	connector, err := pq.NewConnectorConfig(c)
	if err != nil {
		return nil, secrets, err
	}
	if cfg.Dial != nil {
		connector.Dialer(dialer{cfg.Dial})
	}
	return sqlx.NewDb(sql.OpenDB(connector), "postgres"), secrets, nil
}

// begin sets everything with SET LOCAL, which a pooler in transaction mode (pgbouncer) lets through. The first connection exports its
// snapshot, the others import it; both work on a hot standby.
func (postgresDialect) begin(ctx context.Context, conn *sqlx.Conn, cfg Config, token string) (string, func(context.Context) error, error) {
	if err := execAll(ctx, conn, "begin transaction isolation level repeatable read, read only"); err != nil {
		return "", nil, err
	}
	shared, err := postgresJoin(ctx, conn, cfg, token)
	if err != nil {
		return "", nil, errors.Join(err, execAll(ctx, conn, "rollback"))
	}
	return shared, ender(conn, "rollback"), nil
}

func postgresJoin(ctx context.Context, conn *sqlx.Conn, cfg Config, token string) (string, error) {
	if token != "" {
		if err := execAll(ctx, conn, "set transaction snapshot "+pq.QuoteLiteral(token)); err != nil {
			return "", err
		}
	}
	err := execAll(ctx, conn,
		"set local standard_conforming_strings = on", // a pack was checked as one whose strings end where the standard has them end, and not behind a backslash
		fmt.Sprintf("set local statement_timeout = %d", cfg.StatementTimeout.Milliseconds()),
		fmt.Sprintf("set local lock_timeout = %d", cfg.LockTimeout.Milliseconds()),
		"set local timezone = 'UTC'")
	if err != nil || token != "" {
		return token, err
	}
	query := "select 1::text" // fixes the snapshot now, not with the first mapping query
	if cfg.Readers > 1 {
		query = "select pg_export_snapshot()"
	}
	err = conn.GetContext(ctx, &token, query)
	return token, err
}

func (postgresDialect) placeholder(n int) string { return fmt.Sprintf("$%d", n) }

func (postgresDialect) describe(query string) string {
	return "select * from " + wrapped(query) + " limit 0"
}

func (postgresDialect) exact(expr string) string { return expr }

func (postgresDialect) format(typeName string) format {
	switch typeName {
	case "DATE":
		return dateOnly
	case "TIME", "TIMETZ":
		return timeOnly
	}
	return asIs
}
