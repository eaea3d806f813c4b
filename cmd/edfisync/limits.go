package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/edfisync/edfisync/cmd/edfisync/internal/config"
	"github.com/edfisync/edfisync/jobs"
	"github.com/edfisync/edfisync/source"
	"github.com/edfisync/edfisync/sync"
	"github.com/edfisync/edfisync/syncdb"
)

// limitsOf are how many runs target and source of a connection take at once, all connections and processes together. A target goes by its host, a source
// by its server, of which the ledger gets a digest only: a DSN is a secret (I15).
func limitsOf(conn *config.Connection) syncdb.Limits {
	l := syncdb.Limits{Target: syncdb.Place{Runs: conn.Target.MaxRuns}, Source: syncdb.Place{Runs: conn.Source.MaxRuns}}
	if u, err := url.Parse(conn.Target.URL); err == nil {
		l.Target.Name = strings.ToLower(u.Host)
	}
	server := source.Server(conn.Source.Driver, conn.Source.DSN.Reveal())
	if server == "" {
		server = conn.Source.DSN.Reveal()
	}
	digest := sha256.Sum256([]byte(conn.Source.Driver + " " + server))
	l.Source.Name = hex.EncodeToString(digest[:8])
	return l
}

// retryOf says how runs of the schedule that failed are tried again, as jobs wants it.
func retryOf(cfg *config.Config) jobs.Retry {
	r := cfg.Service.Retry
	return jobs.Retry{First: time.Duration(r.FirstWait), Longest: time.Duration(r.LongestWait), Failures: sync.PassingFailures()}
}

// quarantineOf is the service's quarantine as jobs wants it.
func quarantineOf(cfg *config.Config) jobs.Quarantine {
	q := cfg.Service.Quarantine
	return jobs.Quarantine{After: q.After, First: time.Duration(q.FirstWait), Longest: time.Duration(q.LongestWait)}
}

// limit notes in the ledger how many runs target and source of a connection take at once, when this process has not done so.
func (s *service) limit(ctx context.Context, conn *config.Connection, id int64) error {
	limits := limitsOf(conn)
	s.mu.Lock()
	noted := s.limits[id] == limits
	s.mu.Unlock()
	if noted {
		return nil
	}
	if err := s.ledger.SetLimits(ctx, id, limits); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.limits[id] = limits
	return nil
}

// mayRun refuses a run of a connection that somebody paused.
func (o *opened) mayRun(ctx context.Context) error {
	p, paused, err := o.ledger.PauseOf(ctx, o.engine.Connection.ID)
	if err != nil || !paused {
		return err
	}
	return &pausedError{p}
}

// pausedError says that nothing is sent for a connection for a while.
type pausedError struct{ pause syncdb.Pause }

func (e *pausedError) Error() string {
	text := fmt.Sprintf("the connection is paused since %s by %s: %s", e.pause.At.Format(time.RFC3339), e.pause.Who, e.pause.Why)
	if !e.pause.Until.IsZero() {
		text += "; until " + e.pause.Until.Format(time.RFC3339)
	}
	return text
}
