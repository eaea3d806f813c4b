package limitless

import (
	"fmt"
	"net/url"
	"path/filepath"

	"github.com/jmoiron/sqlx"
	_ "modernc.org/sqlite" // registers the driver "sqlite"
)

// OpenSQLite opens, and makes when needed, a demo SIS in a SQLite file. The file is in WAL mode: a reader's snapshot and an edit do not
// wait for each other. The caller closes it.
func OpenSQLite(path string) (*sqlx.DB, error) {
	query := url.Values{"_pragma": {"journal_mode(WAL)", "synchronous(NORMAL)", "busy_timeout(10000)"}}
	path = (&url.URL{Path: filepath.ToSlash(path)}).EscapedPath()
	db, err := sqlx.Open("sqlite", "file:"+path+"?"+query.Encode())
	if err != nil {
		return nil, fmt.Errorf("open demo database: %w", err)
	}
	if err := db.Ping(); err != nil {
		_ = db.Close()
		return nil, fmt.Errorf("open demo database: %w", err)
	}
	return db, nil
}
