package source

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"time"

	"github.com/jmoiron/sqlx"
)

// DB is an open source: a small pool of read-only connections. It is safe for concurrent use.
type DB struct {
	cfg     Config
	dialect dialect
	db      *sqlx.DB
	secrets []string // parts of the DSN that are never shown (I15)
}

// connectTimeout bounds Open: a host that does not answer must not hang a check.
const connectTimeout = 15 * time.Second

// Open connects to the source and makes sure it answers. Errors are *Error with a hint, and never hold the DSN.
func Open(ctx context.Context, cfg Config) (*DB, error) {
	dialect, ok := dialectOf(cfg.Driver)
	if !ok {
		err := fmt.Errorf("unknown driver %q", cfg.Driver)
		return nil, &Error{Op: "connect", Err: err, Hint: "one of " + fmt.Sprint(Drivers())}
	}
	d := &DB{cfg: cfg.withDefaults(), dialect: dialect}
	db, secrets, err := dialect.open(d.cfg)
	d.secrets = secrets
	var known *Error
	if errors.As(err, &known) {
		return nil, err
	}
	if err != nil {
		// What a driver says of a connection string it cannot read quotes pieces of it.
		return nil, &Error{Op: "read the connection string", Err: errors.New("it is not of the form the driver " + cfg.Driver + " wants: " + d.redact(withoutQuoted(err.Error())))}
	}
	// Every connection belongs to a snapshot, which holds Readers of them, so a cap could only make two snapshots wait for each other.
	// None is kept for long while nothing runs.
	db.SetMaxIdleConns(1)
	db.SetConnMaxIdleTime(30 * time.Second)
	d.db = db
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	if err := db.PingContext(ctx); err != nil {
		return nil, errors.Join(d.connectFailure(ctx, err), db.Close())
	}
	return d, nil
}

func (d *DB) connectFailure(ctx context.Context, err error) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return &Error{Op: "connect", Err: fmt.Errorf("no answer within %s", connectTimeout), Hint: "check host, port and firewall"}
	}
	return d.failure("connect", "", err)
}

// Close closes the pool. Snapshots must be closed before. It may be called twice.
func (d *DB) Close() error {
	if err := d.db.Close(); err != nil {
		return d.failure("close", "", err)
	}
	return nil
}

// Driver is the driver the source was opened with.
func (d *DB) Driver() string { return d.cfg.Driver }

// Statement is a query as this source runs it: its text with the driver's placeholders, and the values of its parameters. Tools use it that
// measure or explain the query by themselves.
func (d *DB) Statement(q *Query) (string, []any, error) {
	var problem error
	text, args := q.stmt.expand(d.dialect.placeholder, func(name string) any {
		v, err := q.arg(name, d.cfg.Params)
		problem = errors.Join(problem, err)
		return v
	})
	return text, args, problem
}

// passwordPatterns find a password in a connection string that the driver could not parse.
func passwordPatterns() []*regexp.Regexp {
	return []*regexp.Regexp{
		regexp.MustCompile(`^[a-z]+://[^:/@]*:(.*)@`),
		regexp.MustCompile(`(?i)(?:password|pwd)\s*=\s*'?([^'\s;]+)`),
		regexp.MustCompile(`^[^:/@]*:(.*)@`),
	}
}

func passwordOf(dsn string) string {
	i := slices.IndexFunc(passwordPatterns(), func(p *regexp.Regexp) bool { return p.MatchString(dsn) })
	if i < 0 {
		return ""
	}
	return passwordPatterns()[i].FindStringSubmatch(dsn)[1]
}
