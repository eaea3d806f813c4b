package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/edfisync/edfisync/cmd/edfisync/internal/config"
	"github.com/edfisync/edfisync/internal/httpd"
	"github.com/edfisync/edfisync/syncdb"
)

// How long a process waits before it asks for the ledger again: the first time, and at most.
const (
	awaitFirst = time.Second
	awaitMost  = 30 * time.Second
)

// awaitLedger opens the ledger, and waits for one whose database does not answer: a service that is started before its database, or while that is moved,
// needs nobody. Meanwhile the process answers health. What waiting does not mend ends it.
func (s *service) awaitLedger(ctx context.Context, cfg *config.Config) (ledger *syncdb.DB, err error) {
	ledger, err = reachLedger(ctx, cfg)
	if !syncdb.Passes(err) {
		return ledger, err
	}
	if cfg.Service.Listen != "" {
		server, cannot := s.listenWith(ctx, cfg.Service, s.unready())
		if cannot != nil {
			return nil, cannot
		}
		defer func() { err = errors.Join(err, server.Close()) }()
	}
	s.tellManager(ctx, notifyReady) // it would end a process that does not start in time
	for wait := awaitFirst; ; wait = min(2*wait, awaitMost) {
		s.log.ErrorContext(ctx, "not ready: "+errLedgerAway.Error()+"; it is asked again", slog.Duration("in", wait), slog.Any("error", err))
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(wait):
		}
		ledger, err = reachLedger(ctx, cfg)
		switch {
		case err == nil:
			s.log.WarnContext(ctx, "the ledger answers")
			return ledger, nil
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case !syncdb.Passes(err):
			return nil, err
		}
	}
}

// reachLedger opens the ledger when its server answers: Open itself has no limit, since it may have much to migrate.
func reachLedger(ctx context.Context, cfg *config.Config) (*syncdb.DB, error) {
	if err := syncdb.Reach(ctx, ledgerDSN(cfg)); err != nil {
		return nil, remedied(err)
	}
	return openLedger(ctx, cfg)
}

// unready is what a process answers that waits for the ledger.
func (s *service) unready() http.Handler {
	router := httpd.NewRouter(httpd.RouterConfig{Logger: s.log})
	rule := httpd.Rule{Public: true, Anywhere: true}
	router.Handle("GET /healthz", rule, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, `{"status":"ok"}`) }))
	router.Handle("/", rule, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Retry-After", "5")
		httpd.Refuse(w, r, http.StatusServiceUnavailable, "unavailable", errLedgerAway.Error())
	}))
	return router
}
