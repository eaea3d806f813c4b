package jobs

import (
	"context"
	"fmt"
	"hash/fnv"
	"log/slog"
	"slices"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/edfisync/edfisync/syncdb"
)

// Retry says when a run of the schedule that failed is tried again before the schedule's next time. The zero value is never.
type Retry struct {
	First    time.Duration // the first wait, which doubles with each failure; 0 = never
	Longest  time.Duration
	Failures []string // why a run must have failed to be tried again: what passes by itself, and needs nobody
}

// At is when a failed run is tried again by itself, never before now; zero when it is not:
//
//	it failed for what somebody must mend       no
//	the schedule comes first                    no
//	its time was longer ago than CatchUp then   no
//	a planned pause then                        no
//	in quarantine                               when that is over (I18)
//
// Every process computes the same for one failure; connections that fail together are spread by up to a quarter of the wait.
func (t *Ticks) At(r Retry, q Quarantine, f syncdb.FailedRun, now time.Time) time.Time {
	if r.First <= 0 || t.s.Last.IsZero() || !slices.Contains(r.Failures, f.Failure) {
		return time.Time{}
	}
	waits := backoff.NewExponentialBackOff(backoff.WithInitialInterval(r.First), backoff.WithMultiplier(2), backoff.WithRandomizationFactor(0),
		backoff.WithMaxInterval(r.Longest), backoff.WithMaxElapsedTime(0))
	wait := waits.NextBackOff()
	for n := 1; n < f.Failing.Runs && wait < r.Longest; n++ {
		wait = waits.NextBackOff()
	}
	h := fnv.New64a()
	fmt.Fprint(h, "retry ", f.Connection, " ", f.Failing.Runs)
	spread := 1 - 0.25*float64(h.Sum64()%1000)/1000
	at := f.Failing.At.Add(time.Duration(float64(min(wait, r.Longest)) * spread))
	for _, later := range []time.Time{q.Until(f.Connection, f.Failing), now} {
		if later.After(at) {
			at = later
		}
	}
	next := t.Next(f.Failing.At)
	if !next.IsZero() && !next.After(at) || at.After(t.s.Last.Add(max(t.s.CatchUp, leastCatchUp))) || !t.s.paused(at).IsZero() {
		return time.Time{}
	}
	return at
}

// retry asks for the runs that are to be tried again and returns when the next one is, if that is before wake. Every process does so; the ledger lets one of
// them ask (Ledger.RequestRetry).
func (s *Service) retry(ctx context.Context, ticks map[int64]*Ticks, now, wake time.Time) (time.Time, error) {
	if s.c.Retry.First <= 0 {
		return wake, nil
	}
	failed, err := s.c.Ledger.FailedRuns(ctx)
	if err != nil {
		return wake, fmt.Errorf("look for runs that failed: %w", err)
	}
	for _, f := range failed {
		t := ticks[f.Connection]
		if t == nil {
			continue // it has no schedule any more
		}
		at := t.At(s.c.Retry, s.c.Quarantine, f, now)
		switch {
		case at.IsZero():
		case at.After(now):
			if at.Before(wake) {
				wake = at
			}
		default:
			run, asked, err := s.c.Ledger.RequestRetry(ctx, f.Connection, f.Run)
			if err != nil {
				return wake, fmt.Errorf("ask for a run again that failed: %w", err)
			}
			if asked {
				s.log.InfoContext(ctx, "a run that failed is tried again", slog.Int64("connection", f.Connection), slog.Int64("failed", f.Run), slog.Int64("run", run.ID))
				s.ring(ctx, run.ID, run.Reason, true)
			}
		}
	}
	return wake, nil
}
