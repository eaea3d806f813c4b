package edfi

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// drive runs workers against a simulated target for a while: latency says how long a call takes with n in flight, and whether the target
// answers 429.
func drive(workers int, l *limiter, d time.Duration, latency func(inFlight int) (time.Duration, bool)) {
	var group sync.WaitGroup
	var mu sync.Mutex
	inFlight := 0
	end := time.Now().Add(d)
	for range workers {
		group.Go(func() {
			for time.Now().Before(end) {
				if l.acquire(context.Background()) != nil {
					return
				}
				mu.Lock()
				inFlight++
				n := inFlight
				mu.Unlock()
				took, trouble := latency(n)
				time.Sleep(took)
				mu.Lock()
				inFlight--
				mu.Unlock()
				l.release(time.Now(), took, trouble)
			}
		})
	}
	group.Wait()
}

func TestLimiterFindsTheTargetsCapacity(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name      string
		run       time.Duration
		latency   func(inFlight int) (time.Duration, bool)
		low, high int
	}{
		{"a target of 20 ms gets all 64 connections within 100 ms", 100 * time.Millisecond,
			func(int) (time.Duration, bool) { return 20 * time.Millisecond, false }, 64, 64},
		{"a fast local target keeps all connections although calls queue in it", time.Second,
			func(n int) (time.Duration, bool) { return time.Duration(n) * 100 * time.Microsecond, false }, 64, 64},
		{"a slow target that does not get slower keeps all connections", time.Minute,
			func(int) (time.Duration, bool) { return 2 * time.Second, false }, 64, 64},
		{"a target that answers 429 above 20 calls is held near 20", time.Minute,
			func(n int) (time.Duration, bool) { return 50 * time.Millisecond, n > 20 }, 12, 24},
		{"a target that drowns above 10 calls is held near there", time.Minute,
			func(n int) (time.Duration, bool) {
				return 100*time.Millisecond + time.Duration(max(n-10, 0))*200*time.Millisecond, false
			}, 6, 24},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				l := newLimiter(1, 64)
				drive(64, l, tt.run, tt.latency)
				if got := l.current(); got < tt.low || got > tt.high {
					t.Errorf("bound is %d, want %d to %d", got, tt.low, tt.high)
				}
			})
		})
	}
}

func TestLimiterNeverLeavesItsBounds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(3, 5)
		drive(10, l, 10*time.Second, func(n int) (time.Duration, bool) {
			if n > 5 {
				t.Errorf("%d calls in flight, want 5 at most", n)
			}
			return 10 * time.Millisecond, true
		})
		if got := l.current(); got != 3 {
			t.Errorf("bound after nothing but 429 is %d, want 3", got)
		}
	})
}

func TestLimiterForgetsWaitersThatGaveUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(1, 1)
		if err := l.acquire(t.Context()); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		failed := make(chan error)
		go func() { failed <- l.acquire(ctx) }()
		synctest.Wait()
		cancel()
		if err := <-failed; !errors.Is(err, context.Canceled) {
			t.Errorf("acquire after cancel: %v, want context.Canceled", err)
		}
		l.leave()
		if err := l.acquire(t.Context()); err != nil {
			t.Errorf("acquire of the freed place: %v", err)
		}
	})
}

func TestLimiterKeepsTheSilenceATargetAsksFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(1, 4)
		began := time.Now()
		l.hold(began.Add(7 * time.Second))
		l.hold(began.Add(2 * time.Second))
		if err := l.acquire(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := time.Since(began); got != 7*time.Second {
			t.Errorf("waited %v, want 7s", got)
		}
	})
}

func BenchmarkLimiter(b *testing.B) {
	l := newLimiter(1, 64)
	b.ReportAllocs()
	for b.Loop() {
		_ = l.acquire(b.Context())
		l.release(time.Now(), time.Millisecond, false)
	}
}

// silenced reports whether the target has asked for silence.
func (l *limiter) silenced() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.resumeAt.IsZero()
}
