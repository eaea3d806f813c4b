package source

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/jmoiron/sqlx"
	_ "modernc.org/sqlite" // the "sqlite" driver
)

// sqliteDialect reads a SQLite file through modernc.org/sqlite, opened read-only.
type sqliteDialect struct{}

func (sqliteDialect) open(cfg Config) (*sqlx.DB, []string, error) {
	dsn, err := sqliteDSN(cfg)
	if err != nil {
		return nil, nil, err
	}
	db, err := sqlx.Open("sqlite", dsn)
	return db, nil, err
}

// sqliteDSN is the file: URI with the settings of a reader. A plain path is escaped; a URI keeps its own parameters, but mode is ro
// unless it names a memory database.
func sqliteDSN(cfg Config) (string, error) {
	path, query := cfg.DSN, url.Values{}
	if rest, isURI := strings.CutPrefix(cfg.DSN, "file:"); isURI {
		p, q, _ := strings.Cut(rest, "?")
		values, err := url.ParseQuery(q)
		if err != nil {
			return "", errors.New("the part of the file: URI after ? is not of the form name=value&…")
		}
		path, query = p, values
	} else {
		path = escapePath(path)
	}
	if path == "" {
		return "", errors.New("the connection string names no file")
	}
	if query.Get("mode") != "memory" {
		query.Set("mode", "ro")
	}
	query.Add("_pragma", fmt.Sprintf("busy_timeout(%d)", cfg.LockTimeout.Milliseconds()))
	query.Add("_pragma", "query_only(1)")
	return "file:" + path + "?" + query.Encode(), nil
}

// begin takes a deferred transaction and reads at once: SQLite fixes the snapshot with the first read, not with BEGIN.
func (sqliteDialect) begin(ctx context.Context, conn *sqlx.Conn, _ Config, _ string) (string, func(context.Context) error, error) {
	if err := execAll(ctx, conn, "begin deferred"); err != nil {
		return "", nil, err
	}
	var n int
	if err := conn.GetContext(ctx, &n, "select count(*) from sqlite_schema"); err != nil {
		return "", nil, errors.Join(err, execAll(ctx, conn, "rollback"))
	}
	return "", ender(conn, "rollback"), nil
}

func (sqliteDialect) placeholder(int) string { return "?" }

func (sqliteDialect) describe(query string) string {
	return "select * from " + wrapped(query) + " limit 0"
}

func (sqliteDialect) exact(expr string) string { return expr + " collate binary" }

func (sqliteDialect) format(typeName string) format {
	switch typeName {
	case "DATE":
		return dateOnly
	case "TIME":
		return timeOnly
	}
	return asIs
}

// escapePath makes a path fit for a file: URI.
func escapePath(path string) string {
	return strings.NewReplacer("%", "%25", "?", "%3f", "#", "%23").Replace(path)
}
