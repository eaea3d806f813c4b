package source

import (
	"context"
	"database/sql"
	"fmt"
	"strings"

	"github.com/go-sql-driver/mysql"
	"github.com/jmoiron/sqlx"
)

// mysqlDialect reads MySQL and MariaDB through go-sql-driver/mysql.
type mysqlDialect struct{}

func (mysqlDialect) open(cfg Config) (*sqlx.DB, []string, error) {
	c, err := mysql.ParseDSN(cfg.DSN)
	if err != nil {
		return nil, secretParts(cfg.DSN, passwordOf(cfg.DSN)), err
	}
	secrets := secretParts(cfg.DSN, c.Passwd)
	c.ParseTime = false         // dates stay text: 0000-00-00 must not become a year 1
	c.InterpolateParams = false // parameters are bound by the server
	c.MultiStatements = false
	c.AllowAllFiles = false       // a server could ask for any file of this machine
	c.Logger = &mysql.NopLogger{} // what goes wrong is returned; the driver would write it to stderr besides
	c.ConnectionAttributes = strings.TrimPrefix(c.ConnectionAttributes+",program_name:"+cfg.ApplicationName, ",")
	if cfg.Dial != nil {
		if err := guardMySQL(c, cfg.Dial); err != nil {
			return nil, secrets, err
		}
	}
	connector, err := mysql.NewConnector(c)
	if err != nil {
		return nil, secrets, err
	}
	return sqlx.NewDb(sql.OpenDB(connector), "mysql"), secrets, nil
}

// mysqlMode makes MySQL read a pack as the other databases do: "…" quotes names, || concatenates, a backslash is a backslash.
const mysqlMode = "ANSI_QUOTES,PIPES_AS_CONCAT,NO_BACKSLASH_ESCAPES,STRICT_TRANS_TABLES,ERROR_FOR_DIVISION_BY_ZERO"

// groupConcatMaxLen is how long one JSON_ARRAYAGG or GROUP_CONCAT may get, in bytes: MariaDB cuts JSON_ARRAYAGG there, by default at 1 MiB.
const groupConcatMaxLen = 64 << 20

func (mysqlDialect) begin(ctx context.Context, conn *sqlx.Conn, cfg Config, _ string) (string, func(context.Context) error, error) {
	var version string
	if err := conn.GetContext(ctx, &version, "select version()"); err != nil {
		return "", nil, err
	}
	err := execAll(ctx, conn,
		"set session sql_mode = '"+mysqlMode+"'",
		"set session time_zone = '+00:00'",
		fmt.Sprintf("set session group_concat_max_len = %d", groupConcatMaxLen),
		mysqlTimeout(version, cfg),
		fmt.Sprintf("set session lock_wait_timeout = %d", max(1, int(cfg.LockTimeout.Seconds()))),
		"set session transaction isolation level repeatable read",
		"start transaction with consistent snapshot, read only")
	if err != nil {
		return "", nil, err
	}
	return "", ender(conn, "rollback"), nil
}

// mysqlTimeout limits a statement: MariaDB counts seconds, MySQL milliseconds.
func mysqlTimeout(version string, cfg Config) string {
	if strings.Contains(version, "MariaDB") {
		return fmt.Sprintf("set session max_statement_time = %.3f", cfg.StatementTimeout.Seconds())
	}
	return fmt.Sprintf("set session max_execution_time = %d", cfg.StatementTimeout.Milliseconds())
}

func (mysqlDialect) placeholder(int) string { return "?" }

func (mysqlDialect) describe(query string) string {
	return "select * from " + wrapped(query) + " limit 0"
}

// exact undoes the case-insensitive collations that are MySQL's default.
func (mysqlDialect) exact(expr string) string { return "cast(" + expr + " as binary)" }

func (mysqlDialect) format(typeName string) format {
	switch typeName {
	case "DATETIME", "TIMESTAMP":
		return dateTimeText
	case "BIT":
		return bitField
	}
	return asIs
}
