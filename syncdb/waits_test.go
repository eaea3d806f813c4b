package syncdb_test

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edfisync/edfisync/syncdb"
)

// connectionsOf makes n connections of one target, each with a run that waits.
func connectionsOf(t *testing.T, db *syncdb.DB, n int, limits func(i int) syncdb.Limits) []int64 {
	t.Helper()
	ids := make([]int64, n)
	for i := range ids {
		conn, _, err := db.Connection(t.Context(), "tenant", fmt.Sprint("district-", i))
		ok(t, err)
		ok(t, db.SetLimits(t.Context(), conn.ID, limits(i)))
		_, _, err = db.RequestRun(t.Context(), conn.ID, "cron")
		ok(t, err)
		ids[i] = conn.ID
	}
	return ids
}

func TestATargetTakesNoMoreRunsAtOnceThanItsLimitHoweverManyStart(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, db *syncdb.DB, forward func(time.Duration)) {
		ids := connectionsOf(t, db, 12, func(int) syncdb.Limits { return syncdb.Limits{Target: syncdb.Place{Name: "api.example.org", Runs: 3}} })
		var mu sync.Mutex
		var leases []syncdb.Lease
		var refused atomic.Int64
		start := func(id int64) {
			_, l, err := db.StartRun(t.Context(), id, "process", time.Minute)
			var limit *syncdb.LimitError
			switch {
			case errors.As(err, &limit):
				refused.Add(1)
				if limit.For != syncdb.WaitTarget || limit.Runs != 3 {
					t.Errorf("got %+v", limit)
				}
			case err != nil:
				t.Error(err)
			default:
				mu.Lock()
				leases = append(leases, l)
				mu.Unlock()
			}
		}
		var wg sync.WaitGroup
		for _, id := range ids {
			wg.Go(func() { start(id) })
		}
		wg.Wait()
		if len(leases) != 3 || refused.Load() != 9 {
			t.Fatalf("%d runs began and %d were refused, want 3 and 9", len(leases), refused.Load())
		}
		ok(t, db.FinishRun(t.Context(), leases[0], syncdb.RunDone, nil, ""))
		leases = nil
		for _, id := range ids {
			if runs, err := db.Runs(t.Context(), id, 1); err != nil || runs[0].State == syncdb.RunWaiting {
				start(id)
			}
		}
		if len(leases) != 1 {
			t.Errorf("after one had ended %d began, want one", len(leases))
		}
		forward(10 * time.Minute) // their processes are gone: they take no place any more
		leases = nil
		for _, id := range ids {
			if runs, err := db.Runs(t.Context(), id, 1); err != nil || runs[0].State == syncdb.RunWaiting {
				start(id)
			}
		}
		if len(leases) != 3 {
			t.Errorf("after their processes were lost %d began, want 3", len(leases))
		}
	})
}

func TestLimitsAreOfEachTargetAndEachSource(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, db *syncdb.DB, _ func(time.Duration)) {
		ids := connectionsOf(t, db, 4, func(i int) syncdb.Limits {
			return syncdb.Limits{Target: syncdb.Place{Name: fmt.Sprint("target ", i%2), Runs: 1}, Source: syncdb.Place{Name: fmt.Sprint("source ", i/3), Runs: 2}}
		})
		var got []string
		for _, id := range ids {
			_, _, err := db.StartRun(t.Context(), id, "process", time.Minute)
			var limit *syncdb.LimitError
			switch {
			case errors.As(err, &limit):
				got = append(got, limit.For)
			case err != nil:
				t.Fatal(err)
			default:
				got = append(got, "began")
			}
		}
		if want := []string{"began", "began", "target", "target"}; !cmp.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	})
}

func TestFailedRunsAreCountedUntilOneIsDone(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, db *syncdb.DB, forward func(time.Duration)) {
		ctx := t.Context()
		conn, _, err := db.Connection(ctx, "tenant", "district")
		ok(t, err)
		for i, c := range []struct {
			ends syncdb.RunState
			want int
		}{
			{syncdb.RunFailed, 1}, {syncdb.RunFailed, 2}, {syncdb.RunCanceled, 2}, {"", 3}, {syncdb.RunDone, 0}, {syncdb.RunFailed, 1},
		} {
			_, _, err := db.RequestRun(ctx, conn.ID, "cron")
			ok(t, err)
			_, lease, err := db.StartRun(ctx, conn.ID, "process", time.Minute)
			ok(t, err)
			if c.ends == "" { // its process dies
				forward(2 * time.Minute)
				if _, _, err := db.StartRun(ctx, conn.ID, "process", time.Minute); !errors.Is(err, syncdb.ErrNoRun) {
					t.Fatal(err)
				}
			} else {
				ok(t, db.FinishRun(ctx, lease, c.ends, nil, "why"))
			}
			all, err := db.Prospects(ctx)
			ok(t, err)
			got := all[conn.ID].Failing
			if got.Runs != c.want || got.At.IsZero() != (c.want == 0) {
				t.Errorf("after run %d, which ended as %q: %+v, want %d failures", i, c.ends, got, c.want)
			}
		}
	})
}

func TestARunSaysWhyItWaitsUntilItBegins(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, db *syncdb.DB, _ func(time.Duration)) {
		ctx := t.Context()
		conn, _, err := db.Connection(ctx, "tenant", "district")
		ok(t, err)
		run, _, err := db.RequestRun(ctx, conn.ID, "cron")
		ok(t, err)
		if run.Wait != nil {
			t.Errorf("nobody has looked, and it waits for %+v", run.Wait)
		}
		until := time.Date(2026, 9, 2, 5, 0, 0, 0, time.UTC)
		for _, want := range []bool{true, false} {
			if noted, err := db.NoteWait(ctx, run.ID, syncdb.Wait{For: syncdb.WaitQuarantine, Until: until}); err != nil || noted != want {
				t.Errorf("noted %v (%v), want %v", noted, err, want)
			}
		}
		joined, _, err := db.RequestRun(ctx, conn.ID, "console")
		ok(t, err)
		if joined.Wait == nil || joined.Wait.For != syncdb.WaitQuarantine || !joined.Wait.Until.Equal(until) {
			t.Errorf("it waits for %+v", joined.Wait)
		}
		open, err := db.OpenRuns(ctx)
		ok(t, err)
		if len(open) != 1 || !open[0].Asked || open[0].Reason != "cron" {
			t.Errorf("a person joined the schedule's run, and it is %+v", open)
		}
		started, _, err := db.StartRun(ctx, conn.ID, "process", time.Minute)
		ok(t, err)
		if noted, err := db.NoteWait(ctx, run.ID, syncdb.Wait{For: syncdb.WaitTarget}); err != nil || noted {
			t.Errorf("why a run waits was noted though it runs (%v)", err)
		}
		again, err := db.RunByID(ctx, run.ID)
		ok(t, err)
		if started.Wait != nil || again.Wait != nil {
			t.Errorf("it runs, and waits for %v, %v", started.Wait, again.Wait)
		}
	})
}
