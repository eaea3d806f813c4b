package jobs_test

import (
	"context"
	"fmt"
	gosync "sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edfisync/edfisync/jobs"
	"github.com/edfisync/edfisync/syncdb"
)

// limited gives a connection a target that it shares.
func (f *fleet) limited(name string, runs int) int64 {
	f.t.Helper()
	c := f.connection(name)
	if err := f.ledger.SetLimits(f.t.Context(), c, syncdb.Limits{Target: syncdb.Place{Name: "api.example.org", Runs: runs}}); err != nil {
		f.t.Fatal(err)
	}
	return c
}

func TestATargetsLimitHoldsAcrossProcessesAndNobodyIsForgotten(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, f *fleet) {
		const limit = 2
		var running, began, over atomic.Int64
		two := make(chan struct{}) // closed when two run at once
		var services []*jobs.Service
		for i := range 3 {
			name := fmt.Sprint("process ", i)
			services = append(services, f.start(name, 4, func(c *jobs.Config) {
				c.Sweep = time.Minute // ends of runs ring for the next, not the sweep
				c.Run = func(ctx context.Context, run syncdb.Run) error {
					_, lease, err := f.ledger.StartRun(ctx, run.ConnectionID, name, time.Minute)
					if err != nil {
						return err
					}
					if running.Add(1) > limit {
						over.Add(1)
					}
					if began.Add(1) == limit {
						close(two)
					}
					<-two
					time.Sleep(10 * time.Millisecond) // for one too many to begin
					running.Add(-1)
					return f.ledger.FinishRun(ctx, lease, syncdb.RunDone, nil, "")
				}
			}))
		}
		var wg gosync.WaitGroup
		for i := range 20 {
			c := f.limited(fmt.Sprint("district-", i), limit)
			wg.Go(func() {
				if _, _, err := ask(t.Context(), services[i%3], c, "cron"); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		f.eventually("all runs are done", f.idle)
		if over.Load() != 0 {
			t.Errorf("%d times more runs at once than the limit of %d", over.Load(), limit)
		}
	})
}

func TestWhoAskedGoesBeforeTheScheduleAndBothSayWhatTheyWaitFor(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, f *fleet) {
		release, begun := make(chan struct{}), make(chan int64, 10)
		s := f.start("process", 4, func(c *jobs.Config) {
			c.Run = func(ctx context.Context, run syncdb.Run) error {
				_, lease, err := f.ledger.StartRun(ctx, run.ConnectionID, "process", time.Minute)
				if err != nil {
					return err
				}
				begun <- run.ConnectionID
				<-release
				return f.ledger.FinishRun(ctx, lease, syncdb.RunDone, nil, "")
			}
		})
		ask := func(c int64, reason string) int64 {
			run, _, err := ask(t.Context(), s, c, reason)
			if err != nil {
				t.Fatal(err)
			}
			return run.ID
		}
		first, scheduled, person := f.limited("first", 1), f.limited("scheduled", 1), f.limited("person", 1)
		ask(first, "cron")
		<-begun
		ids := []int64{ask(scheduled, "cron"), ask(person, "console")}
		f.eventually("they say that they wait for the target", func() bool {
			for _, id := range ids {
				run, err := f.ledger.RunByID(t.Context(), id)
				if err != nil {
					t.Fatal(err)
				}
				if run.Wait == nil || run.Wait.For != syncdb.WaitTarget {
					return false
				}
			}
			return true
		})
		close(release)
		if got := []int64{<-begun, <-begun}; got[0] != person || got[1] != scheduled {
			t.Errorf("connection %d went before %d, want who asked first", got[0], got[1])
		}
		f.eventually("all runs are done", f.idle)
	})
}

func TestAFailingConnectionIsLeftAloneByItsScheduleAndNotByAPerson(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, f *fleet) {
		c := f.connection("failing")
		var fails atomic.Bool
		fails.Store(true)
		s := f.start("process", 2, func(cfg *jobs.Config) {
			cfg.Quarantine = jobs.Quarantine{After: 3, First: time.Hour, Longest: 6 * time.Hour}
			cfg.Run = func(ctx context.Context, run syncdb.Run) error {
				_, lease, err := f.ledger.StartRun(ctx, run.ConnectionID, "process", time.Minute)
				if err != nil {
					return err
				}
				if fails.Load() {
					return f.ledger.FinishRun(ctx, lease, syncdb.RunFailed, nil, "the target does not answer")
				}
				return f.ledger.FinishRun(ctx, lease, syncdb.RunDone, nil, "")
			}
		})
		ask := func(reason string) syncdb.Run {
			run, _, err := ask(t.Context(), s, c, reason)
			if err != nil {
				t.Fatal(err)
			}
			return run
		}
		for range 3 {
			ask("cron")
			f.eventually("the run failed", f.idle)
		}
		held := ask("cron")
		f.eventually("the fourth says that it waits in quarantine", func() bool {
			run, err := f.ledger.RunByID(t.Context(), held.ID)
			return err == nil && run.Wait != nil && run.Wait.For == syncdb.WaitQuarantine && time.Until(run.Wait.Until) > 30*time.Minute
		})
		fails.Store(false)
		if run := ask("console"); run.ID != held.ID || run.Wait != nil {
			t.Errorf("a person got run %d, which waits for %v; want %d, which begins", run.ID, run.Wait, held.ID)
		}
		f.eventually("the run that a person joined is done", f.idle)
		if got := f.states(c); got[0] != syncdb.RunDone {
			t.Errorf("it is %v", got)
		}
		ask("cron")
		f.eventually("the schedule's next run is done", func() bool { return f.idle() && len(f.states(c)) == 5 })
	})
}
