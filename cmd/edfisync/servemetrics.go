package main

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/edfisync/edfisync/cmd/edfisync/internal/config"
	"github.com/edfisync/edfisync/cmd/edfisync/internal/metrics"
	"github.com/edfisync/edfisync/console"
	"github.com/edfisync/edfisync/internal/httpd"
	"github.com/edfisync/edfisync/sync"
	"github.com/edfisync/edfisync/syncdb"
)

// newMetrics makes the metrics of the process.
func (s *service) newMetrics() *metrics.Metrics {
	b := buildInfo()
	m := metrics.New(metrics.Build{Version: b.Version, Commit: b.Commit}, s.cfg.Service.Workers)
	m.CountAuditFailures(s.ledger.AuditFailures)
	m.ShowMisconfigured(func() bool { return s.misconfigured() != nil })
	m.Collect(metrics.Limits(s.clients.limits))
	m.Collect(metrics.NewFleet(s.ledger, s.measured, s.log))
	return m
}

// measured are the connections whose figures are shown.
func (s *service) measured(ctx context.Context) (map[int64]metrics.Connection, error) {
	all, err := s.shown.read(ctx)
	if err != nil {
		return nil, err
	}
	out := make(map[int64]metrics.Connection, len(all))
	for _, c := range all {
		out[c.ID] = metrics.Connection{Tenant: c.Tenant, Name: c.Name}
	}
	return out, nil
}

// tookOver counts a run that goes on for a process that died.
func (s *service) tookOver(lost syncdb.Run) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if all, err := s.measured(ctx); err == nil {
		if c, ok := all[lost.ConnectionID]; ok {
			s.metrics.TookOver(c)
		}
	}
}

// measure counts a run that ended, or that could not begin, and returns how it ended.
func (s *service) measure(ctx context.Context, conn *config.Connection, summary *sync.Summary, err error) (ended string) {
	var busy *syncdb.BusyError
	switch {
	case errors.As(err, &busy), errors.Is(err, syncdb.ErrNoRun): // another process does it
		return "elsewhere"
	case summary != nil && summary.State == syncdb.RunCanceled, summary == nil && ctx.Err() != nil:
		ended = "canceled"
	case err != nil || summary == nil:
		ended = "failed"
	default:
		ended = map[exitCode]string{exitOK: "ok", exitProblems: "problems", exitHeld: "held"}[codeOfSummary(summary)]
	}
	s.metrics.RunEnded(metrics.Connection{Tenant: conn.Tenant, Name: conn.Name}, ended, summary)
	return ended
}

// observed counts the requests to this process.
func (s *service) observed(pattern string, rule httpd.Rule, status int, took time.Duration) {
	s.metrics.Request(pattern, rule.Stream, status, took)
}

// metricsRule is for those who may see figures of all tenants.
func metricsRule() httpd.Rule { return httpd.Rule{Least: httpd.Viewer, EveryTenant: true} }

// listenForMetrics opens the address of service.metrics. Who can reach an address of this machine's own needs no key; any other asks for one.
func (s *service) listenForMetrics(ctx context.Context, address string) (*httpd.Server, error) {
	router := httpd.NewRouter(httpd.RouterConfig{Logger: s.log, Keys: console.Keys(s.ledger)})
	rule := metricsRule()
	if isLoopback(address) {
		rule = httpd.Rule{Public: true}
	}
	router.Handle("GET /metrics", rule, s.metrics.Handler())
	server, err := httpd.Listen(context.WithoutCancel(ctx), address, router, httpd.Options{Logger: s.log})
	if err != nil {
		return nil, usageError(taken(err, "service.metrics.listen"))
	}
	return server, nil
}

// isLoopback reports whether only this machine reaches an address.
func isLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	a, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil && a.IsLoopback() || host == "localhost"
}
