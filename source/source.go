// Package source reads the student information system: it loads mapping packs, opens the SIS database read-only, takes one snapshot per
// run and streams the rows of each mapping query as text. It knows rows and columns, and of Ed-Fi only the model it checks aliases
// against; it makes no calls and keeps no ledger.
package source

import "time"

// The drivers a source can be read with; they name dialect files of a pack too (students.postgres.sql).
const (
	SQLite    = "sqlite"
	Postgres  = "postgres"
	MySQL     = "mysql" // MariaDB too
	SQLServer = "sqlserver"
)

// Drivers lists the drivers in the order they are named in messages.
func Drivers() []string { return []string{SQLite, Postgres, MySQL, SQLServer} }

// Config says how to reach a source. The zero value of everything but Driver and DSN is usable.
type Config struct {
	Driver           string            // one of Drivers
	DSN              string            // as the driver wants it; for SQLite a path or a file: URI. Never printed
	Readers          int               // connections that read one snapshot side by side; more than one only on PostgreSQL. 0 = 1
	StatementTimeout time.Duration     // how long one mapping query may take, reading its rows included. 0 = no limit
	LockTimeout      time.Duration     // how long a query may wait for a lock at the source. 0 = 5 s
	ApplicationName  string            // what the database's list of sessions shows. "" = "edfisync"
	Watermark        *Query            // of the pack: says how new a snapshot is, in place of what the database tells. nil = none
	Dial             Dial              // connects to the server; refuses what the connection string may not lead to. nil = anything may be connected to
	Params           map[string]string // values for the pack's parameters, over its defaults
}

// What a zero Config means.
const (
	defaultReaders         = 1
	defaultLockTimeout     = 5 * time.Second
	defaultApplicationName = "edfisync"
)

func (c Config) withDefaults() Config {
	if c.Readers < 1 || c.Driver != Postgres {
		c.Readers = defaultReaders
	}
	if c.LockTimeout <= 0 {
		c.LockTimeout = defaultLockTimeout
	}
	if c.ApplicationName == "" {
		c.ApplicationName = defaultApplicationName
	}
	return c
}
