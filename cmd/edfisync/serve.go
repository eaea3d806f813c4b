package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	gosync "sync"
	"time"
	_ "time/tzdata" // time zones of schedules, where the system has none

	"github.com/edfisync/edfisync/cmd/edfisync/internal/config"
	"github.com/edfisync/edfisync/cmd/edfisync/internal/metrics"
	"github.com/edfisync/edfisync/cmd/edfisync/internal/traces"
	"github.com/edfisync/edfisync/edfi"
	"github.com/edfisync/edfisync/internal/httpd"
	"github.com/edfisync/edfisync/jobs"
	"github.com/edfisync/edfisync/syncdb"
)

type serveCmd struct {
	Listen  string `placeholder:"HOST:PORT" help:"Where to listen (default: service.listen of the configuration)."`
	Workers int    `placeholder:"N" help:"Runs at once in this process; 0 leaves all of them to workers (default: service.workers)." default:"-1"`

	Demo     bool          `help:"Serve a made-up district with an Ed-Fi API of its own, without any configuration."`
	Students int           `default:"300" placeholder:"N" help:"Students of the district of --demo (default: 300, about 30,000 records)."`
	Latency  time.Duration `default:"5ms" placeholder:"DURATION" help:"Wait of the Ed-Fi API of --demo before each answer, to imitate a distant host (default: 5ms)."`
}

// Help is the long help of the command.
func (serveCmd) Help() string {
	return `Runs day and night: keeps the schedules of the connections, does their runs, and answers over HTTP. Any number of serve and worker processes
share the work when the ledger is on PostgreSQL: each run is done once, and when its process dies another one goes on. SIGTERM ends it in good
order: runs may take service.drain to end, and are gone on with later when that is not enough. The configuration is read again for each run.

Examples:

    edfisync serve --demo                      to try it: SIS and API are made up and gone when it ends
    edfisync serve
    edfisync serve --listen :8780 --workers 8
    edfisync serve --workers 0                 schedules and HTTP only; edfisync worker does the runs`
}

// Run serves until it is interrupted.
func (c *serveCmd) Run(ctx context.Context, a *app) error {
	if c.Demo {
		return c.demo(ctx, a)
	}
	cfg, err := a.load()
	if err != nil {
		return err
	}
	c.change(cfg)
	return a.serve(ctx, cfg, serving{schedules: true})
}

// change takes what the command line says over into the configuration.
func (c *serveCmd) change(cfg *config.Config) {
	if c.Listen != "" {
		cfg.Service.Listen = c.Listen
	}
	if c.Workers >= 0 {
		cfg.Service.Workers = c.Workers
	}
}

type workerCmd struct {
	Listen  string `placeholder:"HOST:PORT" help:"Answer /healthz and /readyz there (default: nowhere)."`
	Workers int    `placeholder:"N" help:"Runs at once in this process (default: service.workers)."`
}

// Help is the long help of the command.
func (workerCmd) Help() string {
	return `Does runs that schedules, people and programs ask for, as serve does, and tells the receivers of service.alerts. The ledger must be on PostgreSQL for
processes of several machines to share it.

Examples:

    edfisync worker
    edfisync worker --workers 8 --listen :8781`
}

// Run works until it is interrupted.
func (c *workerCmd) Run(ctx context.Context, a *app) error {
	cfg, err := a.load()
	if err != nil {
		return err
	}
	cfg.Service.Listen = c.Listen
	if c.Workers > 0 {
		cfg.Service.Workers = c.Workers
	}
	return a.serve(ctx, cfg, serving{})
}

// service is one process of the fleet.
type service struct {
	*app
	log    *slog.Logger
	ledger *syncdb.DB
	jobs   *jobs.Service

	clients   *clients
	begun     time.Time
	metrics   *metrics.Metrics
	traces    *traces.Traces // nil = none are sent
	shown     *shownConnections
	readiness *readiness

	mu    gosync.Mutex
	file  *config.Config   // as it was read last without an error
	cfg   *config.Config   // that, with the connections of the ledger
	wrong error            // why the configuration cannot be used as it is now; nil = it is in force
	lost  []unusable       // connections of the ledger that cannot be used here
	ids   map[string]int64 // of the connections, by full name

	limits map[int64]syncdb.Limits // of connections, as they were noted in the ledger

	fixed bool // the configuration is not a file that could change
}

// serving says how a process serves.
type serving struct {
	schedules bool // it asks for runs by itself, and answers the API
	fixed     bool // the configuration is not a file that could change
	// tell says where it can be reached; nil says it as serve and worker do.
	tell func(ctx context.Context, s *service, server *httpd.Server) error
}

// serve works until ctx ends.
func (a *app) serve(ctx context.Context, cfg *config.Config, how serving) (err error) {
	s := &service{app: a, log: logger(a.err, cfg.Log), file: cfg, cfg: cfg, ids: map[string]int64{}, limits: map[int64]syncdb.Limits{}, fixed: how.fixed, begun: time.Now()}
	s.clients = &clients{log: s.log, known: map[string]*knownClient{}}
	s.shown, s.readiness = &shownConnections{service: s}, newReadiness(s, cfg)
	defer s.clients.close()
	if s.ledger, err = s.awaitLedger(ctx, cfg); err != nil {
		if ctx.Err() != nil {
			return nil // it was asked to end while it waited
		}
		return err
	}
	defer func() { err = errors.Join(err, s.ledger.Close()) }()
	if cfg, err = s.merge(ctx, cfg); err != nil {
		return err
	}
	s.metrics = s.newMetrics()
	ended, err := s.trace(ctx)
	if err != nil {
		return err
	}
	defer ended()
	s.clients.observe = func(conn *config.Connection) edfi.Observer {
		return s.traced(s.metrics.Target(metrics.Connection{Tenant: conn.Tenant, Name: conn.Name}))
	}
	holder, err := newHolder(cfg.WorkDir) // names the process to the queue, too
	if err != nil {
		return err
	}
	defer holder.release()
	c := jobs.Config{
		Ledger: s.ledger, Run: s.run, Logger: s.log, Drain: time.Duration(cfg.Service.Drain),
		Dead: func(holder string) bool { return isDead(cfg.WorkDir, holder) }, TookOver: s.tookOver, Quarantine: quarantineOf(cfg), Retry: retryOf(cfg), Ready: s.readiness.check,
		Queue: jobs.QueueConfig{DSN: queueDSN(cfg), Name: holder.name, Workers: cfg.Service.Workers, Logger: quiet(s.log)},
	}
	if how.schedules {
		c.Schedules = s.schedules
	}
	if s.jobs, err = jobs.Open(ctx, c); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.jobs.Close()) }()
	var server *httpd.Server
	if cfg.Service.Listen != "" {
		if server, err = s.listen(ctx, cfg.Service, how.schedules); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, server.Close()) }()
	}
	if cfg.Service.Metrics.Listen != "" {
		var apart *httpd.Server
		if apart, err = s.listenForMetrics(ctx, cfg.Service.Metrics.Listen); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, apart.Close()) }()
	}
	watched := s.watchKey(ctx)
	defer watched()
	if how.schedules || cfg.Service.Alerts.Told() {
		watch, err := s.newAlerts()
		if err != nil {
			return err
		}
		watch.Start(ctx)
		defer watch.Stop()
	}
	if err := s.jobs.Start(ctx); err != nil {
		return err
	}
	keeping, stop := context.WithCancel(ctx)
	var kept gosync.WaitGroup
	kept.Go(func() { s.retains(keeping) })
	defer func() { stop(); kept.Wait() }()
	if how.tell == nil {
		a.tellServing(server, cfg)
	} else if err := how.tell(ctx, s, server); err != nil {
		return errors.Join(err, s.jobs.Stop(context.WithoutCancel(ctx)))
	}
	s.tellManager(ctx, notifyReady)
	<-ctx.Done()
	s.tellManager(ctx, notifyStopping)
	if !a.JSON {
		fmt.Fprintf(a.err, "ending: runs under way have %s\n", cfg.Service.Drain)
	}
	return s.jobs.Stop(context.WithoutCancel(ctx))
}

// clients keeps the clients of targets from run to run, with their tokens, connections and what they learned of how much the target stands. An ODS
// keeps 15 tokens for a key, so that a run every minute must not fetch one each. Safe for concurrent use.
type clients struct {
	log     *slog.Logger
	observe func(conn *config.Connection) edfi.Observer // of the requests of a connection, always the same one
	mu      gosync.Mutex
	known   map[string]*knownClient // by connection
}

type knownClient struct {
	config edfi.Config   // without DialContext, which cannot be compared
	guard  *httpd.Egress // what that is made of
	client *edfi.Client
	of     metrics.Connection
}

// limits are how many requests may be in flight now.
func (c *clients) limits() map[metrics.Connection]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make(map[metrics.Connection]int, len(c.known))
	for _, k := range c.known {
		out[k.of] = k.client.Concurrency()
	}
	return out
}

// client returns the connection's client, a new one when its configuration has changed.
func (c *clients) client(ctx context.Context, conn *config.Connection) (*edfi.Client, error) {
	connection, config := conn.FullName(), targetConfig(conn, c.log)
	if c.observe != nil {
		config.Observer = c.observe(conn)
	}
	c.mu.Lock()
	have := c.known[connection]
	c.mu.Unlock()
	bare := config
	bare.DialContext = nil
	if have != nil && reflect.DeepEqual(have.guard, conn.Guard) && reflect.DeepEqual(have.config, bare) {
		return have.client, nil
	}
	client, err := edfi.Connect(ctx, config)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if old := c.known[connection]; old != nil {
		old.client.Close()
	}
	c.known[connection] = &knownClient{bare, conn.Guard, client, metrics.Connection{Tenant: conn.Tenant, Name: conn.Name}}
	return client, nil
}

func (c *clients) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, k := range c.known {
		k.client.Close()
	}
}

// tellServing says where it can be reached.
func (a *app) tellServing(server *httpd.Server, cfg *config.Config) {
	url := ""
	if server != nil {
		url = server.URL()
	}
	if a.JSON {
		a.printJSON(map[string]any{"url": url, "workers": cfg.Service.Workers, "connections": cfg.Names()})
		return
	}
	fmt.Fprintf(a.out, "edfisync does the runs of %s, %d at once", counted(int64(len(cfg.Connections)), "connection"), cfg.Service.Workers)
	if url != "" {
		fmt.Fprintf(a.out, ", and answers at %s", url)
	}
	fmt.Fprintln(a.out, "; Ctrl-C ends it")
}

// queueDSN is where the queue is: in the ledger's database on PostgreSQL, else in a file of its own beside the ledger, since a run's long
// transactions would keep a doorbell waiting.
func queueDSN(cfg *config.Config) string {
	if file := ledgerFile(cfg); file != "" {
		return config.SQLiteLedger + file + ".jobs"
	}
	return ledgerDSN(cfg)
}

// quiet leaves out what the queue says below a warning.
func quiet(log *slog.Logger) *slog.Logger {
	return slog.New(leveled{log.Handler(), slog.LevelWarn})
}

// leveled is a handler with a level of its own.
type leveled struct {
	slog.Handler
	level slog.Level
}

func (h leveled) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= h.level && h.Handler.Enabled(ctx, level)
}
func (h leveled) WithAttrs(attrs []slog.Attr) slog.Handler {
	return leveled{h.Handler.WithAttrs(attrs), h.level}
}
func (h leveled) WithGroup(name string) slog.Handler {
	return leveled{h.Handler.WithGroup(name), h.level}
}

// connectionID is the ledger's number of a connection, which it gets now if it has none.
func (s *service) connectionID(ctx context.Context, conn *config.Connection) (int64, error) {
	name := conn.FullName()
	s.mu.Lock()
	id, ok := s.ids[name]
	s.mu.Unlock()
	if ok {
		return id, nil
	}
	c, _, err := s.ledger.Connection(ctx, conn.Tenant, conn.Name)
	if err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ids[name] = c.ID
	return c.ID, nil
}

// schedules are those of the configuration.
func (s *service) schedules(ctx context.Context) ([]jobs.Schedule, error) {
	var out []jobs.Schedule
	cfg := s.config(ctx)
	for i := range cfg.Connections {
		conn, err := unsealed(ctx, s.ledger, &cfg.Connections[i])
		if lacksSecrets(err) {
			continue
		}
		id := int64(0)
		if err == nil {
			id, err = s.connectionID(ctx, conn)
		}
		if err == nil {
			err = s.limit(ctx, conn, id) // before their next runs, so that those who wait are told what is so now
		}
		if err != nil {
			return nil, err
		}
		if conn.Schedule.Cron == "" {
			continue
		}
		schedule, err := scheduleOf(conn, id)
		if err != nil {
			return nil, err
		}
		out = append(out, schedule)
	}
	return out, nil
}

// run does a run that waits.
func (s *service) run(ctx context.Context, run syncdb.Run) error {
	cfg := s.config(ctx)
	var conn *config.Connection
	for _, lost := range s.unusable() {
		if id, err := s.connectionID(ctx, lost.conn); err == nil && id == run.ConnectionID {
			return errors.Join(lost.err, s.giveUp(ctx, run, lost.conn, lost.err))
		}
	}
	for i := range cfg.Connections {
		id, err := s.connectionID(ctx, &cfg.Connections[i])
		if err != nil {
			return err
		}
		if id == run.ConnectionID {
			conn = &cfg.Connections[i]
		}
	}
	if conn == nil {
		return fmt.Errorf("%w: its connection is neither in the configuration nor in the ledger", jobs.ErrNotHere)
	}
	log := s.log.With(slog.String("connection", conn.FullName()), slog.Int64("run", run.ID))
	whole, err := unsealed(ctx, s.ledger, conn)
	if err != nil {
		return errors.Join(err, s.giveUp(ctx, run, conn, err))
	}
	conn = whole
	defer s.metrics.RunBegins()()
	ctx, ended := s.traceRun(ctx, conn, run)
	o, err := s.openWitnessed(ctx, cfg, conn, &opened{ledger: s.ledger, clients: s.clients}, false)
	if err != nil {
		ended(s.measure(ctx, conn, nil, err), err)
		return errors.Join(err, s.giveUp(ctx, run, conn, err))
	}
	defer o.close()
	o.engine.Options.Reason, o.engine.Options.Waiting = run.Reason, true
	if s.traces != nil {
		o.engine.Steps = s.traces
	}
	log.InfoContext(ctx, "run begins", slog.String("reason", run.Reason))
	summary, err := s.runOnce(ctx, cfg, o, false)
	s.witnessed(ctx, cfg, o)
	ended(s.measure(ctx, conn, summary, err), err)
	if summary != nil {
		level := slog.LevelInfo
		if err != nil || codeOfSummary(summary) != exitOK {
			level = slog.LevelWarn
		}
		log.Log(ctx, level, "run ended", slog.String("state", string(summary.State)), slog.Int64("created", summary.Created), slog.Int64("updated", summary.Updated),
			slog.Int64("deleted", summary.Deleted), slog.Int64("unchanged", summary.Unchanged), slog.Int64("held", summary.Held), slog.Int64("failed", summary.Failed),
			slog.Int64("calls", summary.Calls), slog.Duration("took", summary.Took))
	}
	return err
}

// giveUp ends a run that could not begin, so that whoever asked for it learns why.
func (s *service) giveUp(ctx context.Context, run syncdb.Run, conn *config.Connection, why error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 15*time.Second)
	defer cancel()
	_, lease, err := s.ledger.StartRun(ctx, run.ConnectionID, "gives up", leaseTTL(conn))
	if err != nil {
		return err
	}
	if failure := failureOf(why); failure != "" {
		if err := s.ledger.NoteFailure(ctx, lease, failure); err != nil {
			return err
		}
	}
	return s.ledger.FinishRun(ctx, lease, syncdb.RunFailed, nil, why.Error())
}
