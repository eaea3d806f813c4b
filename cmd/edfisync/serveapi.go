package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	gosync "sync"
	"syscall"
	"time"

	"github.com/edfisync/edfisync/cmd/edfisync/internal/config"
	"github.com/edfisync/edfisync/console"
	"github.com/edfisync/edfisync/internal/httpd"
	"github.com/edfisync/edfisync/jobs"
)

// handler is what a process of the fleet answers over HTTP: serve the API and health, worker health.
func (s *service) handler(api bool) (http.Handler, error) {
	if !api {
		return s.health(), nil
	}
	cfg := s.cfg.Service
	router := httpd.RouterConfig{Logger: s.log, Observe: s.observed}
	var err error
	if router.Allow, err = httpd.ParseNetworks(cfg.Allow); err != nil {
		return nil, fmt.Errorf("service.allow: %w", err)
	}
	if router.Proxies, err = httpd.ParseNetworks(cfg.Proxies); err != nil {
		return nil, fmt.Errorf("service.proxies: %w", err)
	}
	identity, err := identityOf(cfg)
	if err != nil {
		return nil, err
	}
	c, err := console.New(console.Config{
		Ledger: s.ledger, Runs: s.jobs, Connections: s.shown.read, Version: buildInfo().Version, Support: s.support, Metrics: s.metrics.Handler(), Router: router,
		Records: &askedRecords{service: s, busy: map[int64]chan struct{}{}}, Scope: s.scope, Embed: cfg.Embed, Quarantine: quarantineOf(s.cfg), Retry: retryOf(s.cfg),
		Settings: s.settings(), Descriptors: s.descriptors, Mapped: s.mapped,
		Definitions: &definitions{s}, Secrets: &sealedSecrets{s}, Ready: s.readiness.check,
		TryReceivers: s.tryReceivers, Identity: identity, Misconfigured: s.misconfigured,
	})
	if err != nil {
		return nil, err
	}
	return c, nil
}

// listen opens the address of the configuration, with its certificate when it names one.
func (s *service) listen(ctx context.Context, cfg config.Service, api bool) (*httpd.Server, error) {
	handler, err := s.handler(api)
	if err != nil {
		return nil, err
	}
	return s.listenWith(ctx, cfg, handler)
}

// listenWith opens the address of the configuration for a handler.
func (s *service) listenWith(ctx context.Context, cfg config.Service, handler http.Handler) (*httpd.Server, error) {
	options := httpd.Options{Logger: s.log}
	if cfg.TLS.Certificate != "" {
		certificate, err := httpd.LoadCertificate(cfg.TLS.Certificate, cfg.TLS.Key, s.log)
		if err != nil {
			return nil, usageError(err)
		}
		options.TLS = certificate.Config()
	}
	server, err := httpd.Listen(context.WithoutCancel(ctx), cfg.Listen, handler, options)
	if err != nil {
		return nil, usageError(taken(err, "service.listen or --listen"))
	}
	return server, nil
}

// taken says of an address that another program has how to choose another one.
func taken(err error, where string) error {
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("%w (another program listens there, perhaps another edfisync: end it, or choose another address with %s)", err, where)
	}
	return err
}

// health answers what orchestrators and load balancers ask.
func (s *service) health() http.Handler {
	router := httpd.NewRouter(httpd.RouterConfig{Logger: s.log, Keys: console.Keys(s.ledger), Observe: s.observed})
	router.Handle("GET /metrics", metricsRule(), s.metrics.Handler())
	rule := httpd.Rule{Public: true, Anywhere: true}
	router.Handle("GET /healthz", rule, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, `{"status":"ok"}`) }))
	router.Handle("GET /readyz", rule, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), 5*time.Second)
		defer cancel()
		if err := s.readiness.check(ctx); err != nil {
			httpd.Refuse(w, r, http.StatusServiceUnavailable, "unavailable", err.Error())
			return
		}
		console.TellReady(w, s.misconfigured())
	}))
	return router
}

// connectionsKept is for how long connections are shown as they were read: a thousand who ask at once must not read the file a thousand times.
const connectionsKept = 2 * time.Second

// shownConnections are the connections of the configuration as the API shows them. Safe for concurrent use.
type shownConnections struct {
	*service

	mu   gosync.Mutex
	at   time.Time
	kept []console.Connection
}

// read returns the connections; the slice must not be changed.
func (s *shownConnections) read(ctx context.Context) ([]console.Connection, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.at.IsZero() && time.Since(s.at) < connectionsKept {
		return s.kept, nil
	}
	cfg := s.config(ctx)
	secrets, err := s.ledger.Secrets(ctx, "")
	if err != nil {
		return nil, err
	}
	set := make(map[string]bool, len(secrets))
	for _, secret := range secrets {
		set[secret.Tenant+"/"+secret.Name] = true
	}
	kept := make([]console.Connection, 0, len(cfg.Connections))
	for i := range cfg.Connections {
		conn := &cfg.Connections[i]
		id, err := s.connectionID(ctx, conn)
		if err != nil {
			return nil, err
		}
		c := console.Connection{ID: id, Tenant: conn.Tenant, Name: conn.Name, SchoolYear: conn.SchoolYear, Version: conn.Version, Pauses: plannedPauses(conn)}
		if conn.Off() {
			c.Resources = []string{}
		} else {
			for _, name := range conn.Resources {
				c.Resources = append(c.Resources, fullResource(name))
			}
		}
		for _, name := range append(conn.Source.DSN.Sealed(), conn.Target.ClientSecret.Sealed()...) {
			if !set[conn.Tenant+"/"+name] {
				c.Problem = notSet(conn, name).Error()
			}
		}
		if conn.Schedule.Cron != "" {
			schedule, err := scheduleOf(conn, id)
			if err != nil {
				return nil, err
			}
			c.Schedule = &schedule
		}
		kept = append(kept, c)
	}
	for _, lost := range s.unusable() {
		id, err := s.connectionID(ctx, lost.conn)
		if err != nil {
			return nil, err
		}
		kept = append(kept, console.Connection{
			ID: id, Tenant: lost.conn.Tenant, Name: lost.conn.Name, SchoolYear: lost.conn.SchoolYear, Version: lost.conn.Version, Problem: lost.err.Error(),
		})
	}
	s.at, s.kept = time.Now(), kept
	return kept, nil
}

// forget makes the connections be read again: they have changed.
func (s *shownConnections) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at = time.Time{}
}

// plannedPauses are the pauses of a connection, which were checked when it was read.
func plannedPauses(conn *config.Connection) []console.PlannedPause {
	zone, err := time.LoadLocation(conn.Schedule.TimeZone)
	if err != nil {
		return nil
	}
	var out []console.PlannedPause
	for _, p := range conn.Pauses {
		if from, to, err := p.Times(zone); err == nil {
			out = append(out, console.PlannedPause{From: from, To: to, Reason: p.Reason})
		}
	}
	return out
}

// scheduleOf is the schedule of a connection that has one, without its last tick.
func scheduleOf(conn *config.Connection, id int64) (jobs.Schedule, error) {
	zone, err := time.LoadLocation(conn.Schedule.TimeZone)
	if err != nil {
		return jobs.Schedule{}, fmt.Errorf("schedule of %s: %w", conn.FullName(), err)
	}
	var pauses []jobs.PlannedPause
	for _, p := range plannedPauses(conn) {
		pauses = append(pauses, jobs.PlannedPause{From: p.From, To: p.To})
	}
	return jobs.Schedule{
		Connection: id, Cron: conn.Schedule.Cron, Zone: zone, Pauses: pauses, Jitter: time.Duration(conn.Schedule.Jitter), CatchUp: time.Duration(conn.Schedule.CatchUp),
	}, nil
}
