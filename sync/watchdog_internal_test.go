package sync

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestWatchdogCutsShortWhatMakesNoProgressAndNothingElse(t *testing.T) {
	t.Parallel()
	wait := func(ctx context.Context, d time.Duration) error {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(d):
			return nil
		}
	}
	for _, c := range []struct {
		name      string
		options   Options
		work      func(ctx context.Context, e *Engine) error
		cutAfter  time.Duration // 0 = it is not
		abandoned bool
		says      string
	}{
		{name: "a call every ten minutes is progress", options: Options{Stalled: 15 * time.Minute}, work: func(ctx context.Context, e *Engine) error {
			for range 100 {
				if err := wait(ctx, 10*time.Minute); err != nil {
					return err
				}
				e.Progress(Event{Phase: "send"})
			}
			return nil
		}},
		{name: "nothing at all is none", options: Options{Stalled: 15 * time.Minute}, cutAfter: 25 * time.Minute, says: "nothing for 15m0s while send of ed-fi/students",
			work: func(ctx context.Context, e *Engine) error {
				if err := wait(ctx, 10*time.Minute); err != nil {
					return err
				}
				e.Progress(Event{Phase: "send", Resource: "ed-fi/students"})
				return wait(ctx, 100*time.Hour)
			}},
		{name: "without a limit nothing is cut short", work: func(ctx context.Context, _ *Engine) error { return wait(ctx, 100*time.Hour) }},
		{name: "a query may take as long as the source lets it", options: Options{Stalled: 15 * time.Minute, QueryTimeout: time.Hour},
			work: func(ctx context.Context, e *Engine) error {
				done := e.Source.(watchedSource).w.asking()
				defer done()
				return wait(ctx, 70*time.Minute)
			}},
		{name: "and not longer", options: Options{Stalled: 15 * time.Minute, QueryTimeout: time.Hour}, cutAfter: 75 * time.Minute, says: "while waiting for the source",
			work: func(ctx context.Context, e *Engine) error {
				done := e.Source.(watchedSource).w.asking()
				defer done()
				return wait(ctx, 100*time.Hour)
			}},
		{name: "one without a limit may take for ever", options: Options{Stalled: 15 * time.Minute}, work: func(ctx context.Context, e *Engine) error {
			done := e.Source.(watchedSource).w.asking()
			defer done()
			return wait(ctx, 100*time.Hour)
		}},
		{name: "a long settle delay is no stall", options: Options{Stalled: 15 * time.Minute, SettleDelay: time.Hour},
			work: func(ctx context.Context, _ *Engine) error { return wait(ctx, 119*time.Minute) }},
		{name: "what does not hear that it is over is given up", options: Options{Stalled: 15 * time.Minute}, cutAfter: 15*time.Minute + unwind, abandoned: true,
			work: func(context.Context, *Engine) error { time.Sleep(100 * time.Hour); return nil }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				abandoned, err := (&Engine{}).watched(t.Context(), c.options, c.work)
				took := time.Since(began)
				switch {
				case c.cutAfter == 0 && err != nil:
					t.Errorf("after %s: %v", took, err)
				case c.cutAfter != 0 && (!errors.Is(err, ErrStalled) || took != c.cutAfter || !strings.Contains(err.Error(), c.says)):
					t.Errorf("after %s: %v; want it cut short after %s with %q", took, err, c.cutAfter, c.says)
				}
				if abandoned != c.abandoned {
					t.Errorf("given up: %v, want %v", abandoned, c.abandoned)
				}
				time.Sleep(100 * time.Hour) // what was given up ends
			})
		})
	}
}

func TestARunThatWasGivenUpMakesNoCall(t *testing.T) {
	t.Parallel()
	k := &keeper{callTimeout: time.Second}
	k.lease.TTL, k.lease.RenewedAt = time.Minute, time.Now()
	if err := k.check(); err != nil {
		t.Fatal(err)
	}
	if k.end(); !errors.Is(k.check(), ErrLeaseLost) {
		t.Error("its check lets calls through")
	}
}
