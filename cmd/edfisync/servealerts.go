package main

import (
	"context"
	"fmt"
	"time"

	"github.com/edfisync/edfisync/alerts"
	"github.com/edfisync/edfisync/cmd/edfisync/internal/config"
	"github.com/edfisync/edfisync/console"
)

// receiversOf are the receivers of the configuration. Where they are must be allowed; what a name stands for is checked when it is called.
func receiversOf(cfg *config.Config) ([]alerts.Receiver, error) {
	egress, err := cfg.Service.Egress.Guard()
	if err != nil {
		return nil, usageError(err)
	}
	var out []alerts.Receiver
	for i, w := range cfg.Service.Alerts.Webhooks {
		secrets := []string{w.Secret.Reveal()}
		if w.OldSecret != "" {
			secrets = append(secrets, w.OldSecret.Reveal())
		}
		r, err := alerts.NewWebhook(w.Name, w.URL.Reveal(), secrets, w.Tenants, *egress)
		if err != nil {
			return nil, usageError(fmt.Errorf("service.alerts.webhooks[%d].url: %w", i, err))
		}
		out = append(out, r)
	}
	if s := cfg.Service.Alerts.SMTP; s.Address != "" {
		m := &alerts.Mail{
			Address: s.Address, From: s.From, To: s.To, Username: s.Username, Password: s.Password.Reveal(), Mode: s.TLS, Tenants: s.Tenants, Dial: egress.Dial,
		}
		if err := m.Check(); err != nil {
			return nil, usageError(fmt.Errorf("service.alerts.smtp: %w", err))
		}
		out = append(out, m)
	}
	return out, nil
}

// freshWithin is how old the last good run of a connection may be; 0 = any age. One that runs when somebody asks only may be as old as they like.
func freshWithin(cfg *config.Config, conn *config.Connection) time.Duration {
	switch {
	case conn.FreshWithin > 0:
		return time.Duration(conn.FreshWithin)
	case conn.Schedule.Cron != "":
		return time.Duration(cfg.Service.Alerts.FreshWithin)
	}
	return 0
}

// newAlerts makes what looks after alerts in this process.
func (s *service) newAlerts() (*alerts.Service, error) {
	receivers, err := receiversOf(s.cfg)
	if err != nil {
		return nil, err
	}
	c := s.cfg.Service.Alerts
	audit := time.Duration(c.Audit)
	if audit == 0 {
		audit = -1 // never
	}
	return alerts.New(alerts.Config{
		Ledger: s.ledger, Connections: s.watched, Receivers: receivers, Every: time.Duration(c.Every), AuditEvery: audit,
		Damping: alerts.Damping{For: time.Duration(c.For), Quiet: time.Duration(c.Quiet)}, Logger: s.log, Delivered: s.metrics.Delivered,
		Misconfigured: func() bool { return s.misconfigured() != nil },
	}), nil
}

// watched are the connections whose alerts are kept.
func (s *service) watched(ctx context.Context) ([]alerts.Connection, error) {
	cfg := s.config(ctx)
	out := make([]alerts.Connection, 0, len(cfg.Connections))
	for i := range cfg.Connections {
		conn := &cfg.Connections[i]
		id, err := s.connectionID(ctx, conn)
		if err != nil {
			return nil, err
		}
		out = append(out, alerts.Connection{ID: id, Tenant: conn.Tenant, Name: conn.Name, Limits: alerts.Limits{FreshWithin: freshWithin(cfg, conn), Failures: cfg.Service.Quarantine.After}})
	}
	return out, nil
}

// tried is what came of a test notice.
type tried struct {
	Receiver string `json:"receiver"`
	Error    string `json:"error,omitempty"` // "" = it was delivered
}

// tryReceivers sends each receiver a test notice at once, without repeats.
func tryReceivers(ctx context.Context, receivers []alerts.Receiver) []tried {
	n := alerts.NewTest(time.Now())
	out := make([]tried, len(receivers))
	done := make(chan struct{})
	for i, r := range receivers {
		go func() {
			defer func() { done <- struct{}{} }()
			ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
			defer cancel()
			out[i].Receiver = r.Name()
			if err := r.Send(ctx, n); err != nil {
				out[i].Error = err.Error()
			}
		}()
	}
	for range receivers {
		<-done
	}
	return out
}

// tryReceivers is tryReceivers of the receivers this process was started with.
func (s *service) tryReceivers(ctx context.Context) []console.Tried {
	receivers, err := receiversOf(s.config(ctx))
	if err != nil {
		return []console.Tried{{Error: err.Error()}} // it was right when the process was started
	}
	var out []console.Tried
	for _, r := range tryReceivers(ctx, receivers) {
		out = append(out, console.Tried(r))
	}
	return out
}
