package jobs

import (
	"fmt"
	"hash/fnv"
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

// retryAt is when a failed run is tried again by itself, never before now; zero when it is not:
//
//	it failed for what somebody must mend       no
//	a run waits or is under way                 no
//	none of the failed ones was the schedule's  no
//	somebody paused it                          when that is over, if it is at all
//	in quarantine                               when that is over (I18)
//	a planned pause then                        when that is over
//	the schedule comes first                    no
//	its time was longer ago than CatchUp then   no
//
// Every process computes the same for one failure; connections that fail together are spread by up to a quarter of the wait.
func (t *Ticks) retryAt(r Retry, q Quarantine, p syncdb.Prospect, now time.Time) time.Time {
	if r.First <= 0 || p.Failed == 0 || p.Waiting != 0 || !p.Scheduled || t.s.Last.IsZero() || !slices.Contains(r.Failures, p.Failure) {
		return time.Time{}
	}
	if p.Paused && p.PausedUntil.IsZero() {
		return time.Time{}
	}
	waits := backoff.NewExponentialBackOff(backoff.WithInitialInterval(r.First), backoff.WithMultiplier(2), backoff.WithRandomizationFactor(0),
		backoff.WithMaxInterval(r.Longest), backoff.WithMaxElapsedTime(0))
	wait := waits.NextBackOff()
	for n := 1; n < p.Failing.Runs && wait < r.Longest; n++ {
		wait = waits.NextBackOff()
	}
	h := fnv.New64a()
	fmt.Fprint(h, "retry ", p.Connection, " ", p.Failing.Runs)
	spread := 1 - 0.25*float64(h.Sum64()%1000)/1000
	at := p.Failing.At.Add(time.Duration(float64(min(wait, r.Longest)) * spread))
	for _, later := range []time.Time{q.Until(p.Connection, p.Failing), p.PausedUntil, now} {
		if later.After(at) {
			at = later
		}
	}
	at = t.s.over(at)
	next := t.Next(p.Failing.At)
	if !next.IsZero() && !next.After(at) || at.After(t.s.Last.Add(max(t.s.CatchUp, leastCatchUp))) {
		return time.Time{}
	}
	return at
}
