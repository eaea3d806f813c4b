package source

import (
	"context"
	"database/sql"
	"fmt"
	"strings"

	"github.com/jmoiron/sqlx"
	mssql "github.com/microsoft/go-mssqldb"
	"github.com/microsoft/go-mssqldb/msdsn"
)

// sqlserverDialect reads SQL Server through go-mssqldb. Its SQL is tested, but it has not been run against a server.
type sqlserverDialect struct{}

func (sqlserverDialect) open(cfg Config) (*sqlx.DB, []string, error) {
	if cfg.Dial != nil {
		if err := filesSQLServer(cfg.DSN); err != nil {
			return nil, nil, err
		}
	}
	c, err := msdsn.Parse(cfg.DSN)
	if err != nil {
		return nil, secretParts(cfg.DSN, passwordOf(cfg.DSN)), err
	}
	if c.AppName == "" || c.AppName == "go-mssqldb" {
		c.AppName = cfg.ApplicationName
	}
	c.ReadOnlyIntent = true
	connector, secrets := mssql.NewConnectorConfig(c), secretParts(cfg.DSN, c.Password)
	if cfg.Dial != nil {
		if err := guardSQLServer(connector, &c, cfg.Dial); err != nil {
			return nil, secrets, err
		}
	}
	return sqlx.NewDb(sql.OpenDB(connector), "sqlserver"), secrets, nil
}

// begin asks for snapshot isolation. A database that does not allow it answers error 3952 with the first query; there is no fall-back,
// since a scan without a snapshot may miss rows that move (I5).
func (sqlserverDialect) begin(ctx context.Context, conn *sqlx.Conn, cfg Config, _ string) (string, func(context.Context) error, error) {
	err := execAll(ctx, conn, fmt.Sprintf("set lock_timeout %d", cfg.LockTimeout.Milliseconds()), "set quoted_identifier on")
	if err != nil {
		return "", nil, err
	}
	tx, err := conn.BeginTx(context.WithoutCancel(ctx), &sql.TxOptions{Isolation: sql.LevelSnapshot})
	if err != nil {
		return "", nil, err
	}
	return "", func(context.Context) error { return tx.Rollback() }, nil
}

func (sqlserverDialect) placeholder(n int) string { return fmt.Sprintf("@p%d", n) }

// describe cannot wrap the query: a derived table may hold neither WITH nor ORDER BY. FMTONLY reads columns without running it.
func (sqlserverDialect) describe(query string) string {
	return "set fmtonly on; " + strings.TrimRight(query, " \n") + "\n; set fmtonly off"
}

func (sqlserverDialect) exact(expr string) string { return expr + " collate Latin1_General_BIN2" }

func (sqlserverDialect) format(typeName string) format {
	switch typeName {
	case "DATE":
		return dateOnly
	case "TIME":
		return timeOnly
	case "UNIQUEIDENTIFIER":
		return guid
	}
	return asIs
}
