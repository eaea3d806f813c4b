package edfi

import (
	"container/list"
	"context"
	"sync"
	"time"
)

// limiter bounds the calls in flight and finds out how many the target bears: it doubles the bound each round trip until the first sign
// of trouble, then adds one per round trip and cuts on trouble. Trouble is a 429, a 503, a timeout, or latency that is both several times
// the best seen and long in itself. A target that answers in milliseconds gets all connections, whatever queues in it.
type limiter struct {
	min, max int

	mu       sync.Mutex
	limit    float64
	inFlight int
	waiting  list.List // of chan struct{}, first come first served
	starting bool      // no trouble yet: the bound doubles
	average  float64   // moving average of latency, seconds
	best     float64   // lowest latency of the current and the last window, seconds
	nextBest float64
	window   time.Time // end of the current window
	calmAt   time.Time // no second cut before: calls in flight then were sent under the old bound
	resumeAt time.Time // the target asked for silence until then
}

const (
	startLimit      = 8
	averageWeight   = 0.1
	bestWindow      = time.Minute
	slowFactor      = 4.0
	slowLatency     = 0.5 // seconds; below it latency alone is no trouble
	cutOnTrouble    = 0.7
	cutOnSlowness   = 0.85
	minCutInterval  = 100 * time.Millisecond
	saturationSlack = 0.9
)

func newLimiter(minimum, maximum int) *limiter {
	return &limiter{min: minimum, max: maximum, limit: float64(min(max(startLimit, minimum), maximum)), starting: true}
}

// current returns the bound.
func (l *limiter) current() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return int(l.limit)
}

// acquire waits for a place, and for the end of a silence the target asked for. The caller gives the place back with release.
func (l *limiter) acquire(ctx context.Context) error {
	l.mu.Lock()
	if l.inFlight < int(l.limit) && l.waiting.Len() == 0 {
		l.inFlight++
		resumeAt := l.resumeAt
		l.mu.Unlock()
		return l.silence(ctx, resumeAt)
	}
	turn := make(chan struct{})
	place := l.waiting.PushBack(turn)
	l.mu.Unlock()
	select {
	case <-turn:
		l.mu.Lock()
		resumeAt := l.resumeAt
		l.mu.Unlock()
		return l.silence(ctx, resumeAt)
	case <-ctx.Done():
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-turn: // came in the same moment: pass it on
		l.inFlight--
		l.wake()
	default:
		l.waiting.Remove(place)
	}
	return ctx.Err()
}

// silence waits until resumeAt, holding a place; on cancellation the place is given back.
func (l *limiter) silence(ctx context.Context, resumeAt time.Time) error {
	if resumeAt.IsZero() {
		return nil
	}
	if err := pause(ctx, time.Until(resumeAt)); err != nil {
		l.leave()
		return err
	}
	return nil
}

// hold asks all calls to wait until the given moment.
func (l *limiter) hold(until time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if until.After(l.resumeAt) {
		l.resumeAt = until
	}
}

// leave gives a place back without a lesson: the call was not made.
func (l *limiter) leave() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.inFlight--
	l.wake()
}

// release gives a place back and learns from the call: when it ended, how long it took and whether the target was in trouble.
func (l *limiter) release(now time.Time, latency time.Duration, trouble bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	saturated := l.waiting.Len() > 0 || float64(l.inFlight) >= l.limit*saturationSlack
	l.inFlight--
	switch {
	case trouble:
		l.cut(now, cutOnTrouble)
	case l.slow(now, latency.Seconds()):
		l.cut(now, cutOnSlowness)
	case saturated && l.starting:
		l.limit = min(l.limit+1, float64(l.max))
	case saturated:
		l.limit = min(l.limit+1/l.limit, float64(l.max))
	}
	l.wake()
}

// slow adds one latency and reports whether the average has become trouble.
func (l *limiter) slow(now time.Time, seconds float64) bool {
	if l.average == 0 {
		l.average, l.best, l.nextBest = seconds, seconds, seconds
		l.window = now.Add(bestWindow)
	}
	l.average += averageWeight * (seconds - l.average)
	l.nextBest = min(l.nextBest, seconds)
	l.best = min(l.best, seconds)
	if now.After(l.window) {
		l.best, l.nextBest = l.nextBest, seconds
		l.window = now.Add(bestWindow)
	}
	return l.average > slowLatency && l.average > slowFactor*l.best
}

func (l *limiter) cut(now time.Time, factor float64) {
	if now.Before(l.calmAt) {
		return
	}
	l.starting = false
	l.limit = max(l.limit*factor, float64(l.min))
	l.calmAt = now.Add(max(minCutInterval, time.Duration(l.average*float64(time.Second))))
}

func (l *limiter) wake() {
	for l.inFlight < int(l.limit) && l.waiting.Len() > 0 {
		l.inFlight++
		close(l.waiting.Remove(l.waiting.Front()).(chan struct{}))
	}
}

// pause waits for d or until ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
