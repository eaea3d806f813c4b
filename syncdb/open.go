package syncdb

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/jmoiron/sqlx"
	"github.com/pressly/goose/v3"
)

//go:embed migrations
var migrations embed.FS

// openStore opens the database a DSN names. Its errors never hold the DSN itself, which may hold a password (I15).
func openStore(ctx context.Context, dsn string) (store, error) {
	scheme, rest, _ := strings.Cut(dsn, ":")
	switch scheme {
	case "sqlite":
		return openSQLite(rest)
	case "postgres", "postgresql":
		return openPostgres(ctx, dsn)
	default:
		return nil, errors.New(`open ledger: the address must be "sqlite:" and a file, or start with "postgres://"`)
	}
}

// migrate brings the schema to the newest version, and refuses a newer one (F53).
func migrate(ctx context.Context, db *sqlx.DB, dialect goose.Dialect, folder string, opts ...goose.ProviderOption) error {
	p, err := provider(db, dialect, folder, opts...)
	if err != nil {
		return fmt.Errorf("read migrations: %w", err)
	}
	have, newest, err := p.GetVersions(ctx)
	if err != nil {
		return fmt.Errorf("read schema version: %w", err)
	}
	if have > newest {
		return fmt.Errorf("its schema has version %d, this program knows up to %d; use the newer program, or restore a backup from before it ran",
			have, newest)
	}
	if have == newest {
		return nil
	}
	if _, err := p.Up(ctx); err != nil {
		return fmt.Errorf("migrate schema: %w", err)
	}
	return nil
}

// provider runs the migrations of one dialect.
func provider(db *sqlx.DB, dialect goose.Dialect, folder string, opts ...goose.ProviderOption) (*goose.Provider, error) {
	dir, err := fs.Sub(migrations, "migrations/"+folder)
	if err != nil {
		return nil, err
	}
	return goose.NewProvider(dialect, db.DB, dir, append(opts, goose.WithTableName("ledger_version"), goose.WithDisableGlobalRegistry(true))...)
}
