package main

import (
	"context"
	"log/slog"
	"time"

	"github.com/edfisync/edfisync/cmd/edfisync/internal/config"
	"github.com/edfisync/edfisync/cmd/edfisync/internal/traces"
	"github.com/edfisync/edfisync/edfi"
	"github.com/edfisync/edfisync/syncdb"
)

// trace begins to send traces, when the configuration or the environment says where to. ended sends what is left.
func (s *service) trace(ctx context.Context) (ended func(), err error) {
	c := s.cfg.Service.Traces
	if !traces.On(c.Endpoint, s.lookupEnv) {
		return func() {}, nil
	}
	s.traces, err = traces.New(ctx, traces.Config{Endpoint: c.Endpoint, Sample: c.Sample, Propagate: c.Propagate, Version: buildInfo().Version, Logger: s.log})
	if err != nil {
		return nil, usageError(err)
	}
	return func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		if err := s.traces.Close(ctx); err != nil {
			s.log.WarnContext(ctx, "send the last traces", slog.Any("error", err))
		}
	}, nil
}

// traced makes spans of requests, when traces are sent.
func (s *service) traced(o edfi.Observer) edfi.Observer {
	if s.traces == nil {
		return o
	}
	return s.traces.Observer(o)
}

// traceRun begins the span of a run, when traces are sent; ended is called once.
func (s *service) traceRun(ctx context.Context, conn *config.Connection, run syncdb.Run) (inRun context.Context, ended func(outcome string, err error)) {
	if s.traces == nil {
		return ctx, func(string, error) {}
	}
	return s.traces.Run(ctx, conn.Tenant, conn.Name, run)
}
