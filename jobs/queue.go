package jobs

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/riverdriver/riversqlite"
	"github.com/riverqueue/river/rivermigrate"
	"github.com/riverqueue/river/rivertype"

	_ "modernc.org/sqlite" // driver "sqlite"
)

// riverSchema is where River's tables are in the ledger's PostgreSQL database.
const riverSchema = "river"

// ring is the doorbell of a run.
type ring struct {
	RunID int64 `json:"run"`
}

// Kind names the job to River.
func (ring) Kind() string { return "run" }

// doorbell is what a River client of either database does for us.
type doorbell interface {
	Ring(ctx context.Context, runID int64, priority int, once bool) error
	Start(ctx context.Context) error
	// Stop lets the workers end what they do, and cancels it when ctx ends.
	Stop(ctx context.Context) error
	Close() error
}

// QueueConfig says where the queue is and who works it off.
type QueueConfig struct {
	DSN     string // postgres://…, the ledger's; or sqlite: and a path
	Name    string // of the process, unique among those of the queue
	Workers int    // runs at once in this process; 0 = none: it only rings
	Logger  *slog.Logger

	// Poll is how often waiting runs are looked for; 0 means 1 s, where PostgreSQL also notifies, and 200 ms on SQLite.
	Poll time.Duration
}

// client is a River client with the database it works on.
type client[TTx any] struct {
	river *river.Client[TTx]
	close func() error
}

// openQueue opens the queue and makes or migrates its tables.
func openQueue(ctx context.Context, c QueueConfig, work func(context.Context, int64) error) (doorbell, error) {
	scheme, rest, _ := strings.Cut(c.DSN, ":")
	switch scheme {
	case "sqlite":
		return openSQLite(ctx, c, rest, work)
	case "postgres", "postgresql":
		return openPostgres(ctx, c, work)
	}
	return nil, errors.New(`open queue: the address must be "sqlite:" and a file, or start with "postgres://"`)
}

func openSQLite(ctx context.Context, c QueueConfig, path string, work func(context.Context, int64) error) (doorbell, error) {
	q := url.Values{"_pragma": {"busy_timeout(10000)", "journal_mode(WAL)", "synchronous(NORMAL)"}, "_txlock": {"immediate"}}
	db, err := sql.Open("sqlite", "file:"+(&url.URL{Path: path}).EscapedPath()+"?"+q.Encode())
	if err != nil {
		return nil, fmt.Errorf("open queue %s: %w", path, err)
	}
	db.SetMaxOpenConns(1) // SQLite has one writer; River would wait for itself
	if c.Poll == 0 {
		c.Poll = 200 * time.Millisecond
	}
	return newClient(ctx, c, riversqlite.New(db), "", db.Close, work)
}

func openPostgres(ctx context.Context, c QueueConfig, work func(context.Context, int64) error) (doorbell, error) {
	config, err := pgxpool.ParseConfig(c.DSN)
	if err != nil {
		return nil, errors.New("open queue: the address of the database cannot be read") // err may hold the password (I15)
	}
	config.MaxConns = 4
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("open queue: %w", err)
	}
	unlock, err := lockTables(ctx, pool)
	if err != nil {
		pool.Close()
		return nil, fmt.Errorf("make the schema of the queue: %w", err)
	}
	defer unlock()
	return newClient(ctx, c, riverpgxv5.New(pool), riverSchema, func() error { pool.Close(); return nil }, work)
}

// lockTables makes the queue's schema and lets one process at a time make its tables: River's migrations do not stand two.
func lockTables(ctx context.Context, pool *pgxpool.Pool) (unlock func(), err error) {
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return nil, err
	}
	const number = 0x6564666971 // of the lock, among those of the database
	if _, err = conn.Exec(ctx, `SELECT pg_advisory_lock($1)`, number); err == nil {
		_, err = conn.Exec(ctx, `CREATE SCHEMA IF NOT EXISTS `+riverSchema)
	}
	unlock = func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		if _, err := conn.Exec(ctx, `SELECT pg_advisory_unlock($1)`, number); err != nil {
			_ = conn.Conn().Close(ctx) // which gives the lock back, too
		}
		conn.Release()
	}
	if err != nil {
		unlock()
		return nil, err
	}
	return unlock, nil
}

func newClient[TTx any](
	ctx context.Context, c QueueConfig, driver riverdriver.Driver[TTx], schema string, closeDB func() error, work func(context.Context, int64) error,
) (doorbell, error) {
	fail := func(what string, err error) (doorbell, error) {
		return nil, errors.Join(fmt.Errorf("%s: %w", what, err), closeDB())
	}
	log := c.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	migrator, err := rivermigrate.New(driver, &rivermigrate.Config{Schema: schema, Logger: log})
	if err != nil {
		return fail("read the queue's migrations", err)
	}
	for try := 0; ; try++ {
		_, err := migrator.Migrate(ctx, rivermigrate.DirectionUp, nil)
		if err == nil {
			break
		}
		if try == 5 || schema != "" { // on SQLite nothing keeps two processes from doing it at once; the slower one looks again
			return fail("make the queue's tables", err)
		}
		time.Sleep(100 * time.Millisecond << try)
	}
	config := &river.Config{
		ID: c.Name, Logger: log, Schema: schema, FetchPollInterval: c.Poll, RescueStuckJobsAfter: 2 * time.Minute, JobTimeout: -1,
		CompletedJobRetentionPeriod: time.Hour, CancelledJobRetentionPeriod: time.Hour, DiscardedJobRetentionPeriod: 24 * time.Hour,
	}
	if c.Workers > 0 {
		config.Workers = river.NewWorkers()
		if err := river.AddWorkerSafely(config.Workers, &worker{work: work}); err != nil {
			return fail("set the queue's worker", err)
		}
		config.Queues = map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: c.Workers}}
	} else {
		config.SkipUnknownJobCheck = true
	}
	rc, err := river.NewClient(driver, config)
	if err != nil {
		return fail("open queue", err)
	}
	return &client[TTx]{river: rc, close: closeDB}, nil
}

// Ring puts the run's doorbell into the queue; once: unless it is there already, or being answered. It may be called again: whoever hears the second ring
// finds nothing left to do.
func (c *client[TTx]) Ring(ctx context.Context, runID int64, priority int, once bool) error {
	opts := &river.InsertOpts{Priority: priority}
	if once {
		opts.UniqueOpts = river.UniqueOpts{ByArgs: true, ByState: []rivertype.JobState{
			rivertype.JobStateAvailable, rivertype.JobStatePending, rivertype.JobStateRunning, rivertype.JobStateRetryable, rivertype.JobStateScheduled,
		}}
	}
	if _, err := c.river.Insert(ctx, ring{RunID: runID}, opts); err != nil {
		return fmt.Errorf("ring for run %d: %w", runID, err)
	}
	return nil
}

func (c *client[TTx]) Start(ctx context.Context) error { return c.river.Start(ctx) }

func (c *client[TTx]) Stop(ctx context.Context) error {
	if err := c.river.Stop(ctx); err == nil || !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	// What is cancelled ends its calls in flight and leaves a state the next run goes on from (I3).
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	return c.river.StopAndCancel(ctx)
}

func (c *client[TTx]) Close() error { return c.close() }

// worker answers doorbells.
type worker struct {
	river.WorkerDefaults[ring]
	work func(context.Context, int64) error
}

// Timeout is none: a run takes as long as it takes, and its lease says whether it lives.
func (*worker) Timeout(*river.Job[ring]) time.Duration { return -1 }

// Work does the run, or comes back later when it cannot be done now.
func (w *worker) Work(ctx context.Context, job *river.Job[ring]) error {
	err := w.work(ctx, job.Args.RunID)
	var later *laterError
	if errors.As(err, &later) {
		return river.JobSnooze(later.wait)
	}
	return err
}

// laterError says that a run cannot be done now.
type laterError struct {
	wait time.Duration
	why  error
}

func (e *laterError) Error() string { return e.why.Error() }
func (e *laterError) Unwrap() error { return e.why }
