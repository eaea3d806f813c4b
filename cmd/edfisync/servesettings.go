package main

import (
	"runtime"
	"strconv"
	"strings"

	"github.com/edfisync/edfisync/console"
)

// settings are how the process was started, for people who look at the console. None is a secret.
func (s *service) settings() []console.Setting {
	cfg, list := s.cfg.Service, func(all []string) string { return strings.Join(all, ", ") }
	ledger := "PostgreSQL"
	if ledgerFile(s.cfg) != "" {
		ledger = "SQLite, a file of this machine"
	}
	certificate := "none: plain HTTP"
	if cfg.TLS.Certificate != "" {
		certificate = "own"
	}
	return []console.Setting{
		{Name: "service.listen", Value: cfg.Listen, Means: "where it answers"},
		{Name: "service.workers", Value: strconv.Itoa(cfg.Workers), Means: "runs at once in this process"},
		{Name: "service.drain", Value: cfg.Drain.String(), Means: "how long runs may go on when it is asked to end"},
		{Name: "service.allow", Value: list(cfg.Allow), Means: "networks that may call; none = all"},
		{Name: "service.proxies", Value: list(cfg.Proxies), Means: "proxies whose word on the client is taken"},
		{Name: "service.embed", Value: list(cfg.Embed), Means: "origins whose pages may show the badge in a frame"},
		{Name: "service.oidc.issuer", Value: cfg.OIDC.Issuer, Means: "identity provider at which people log in; none = by key only"},
		{Name: "service.tls", Value: certificate, Means: "certificate"},
		{Name: "service.metrics.listen", Value: cfg.Metrics.Listen, Means: "another address of GET /metrics"},
		{Name: "ledger", Value: ledger, Means: "where the sync database is"},
		{Name: "log.level", Value: s.cfg.Log.Level.String(), Means: "what is logged"},
		{Name: "connections", Value: strconv.Itoa(len(s.cfg.Connections)), Means: "in the configuration when it was started"},
		{Name: "program", Value: runtime.Version() + " " + runtime.GOOS + "/" + runtime.GOARCH, Means: "built with, and for"},
	}
}
