package jobs_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/edfisync/edfisync/jobs"
	"github.com/edfisync/edfisync/syncdb"
)

// Several processes keep a schedule: what failed for what passes is tried again once, by one of them, until it is done; what somebody must mend is not.
func TestProcessesTryAFailedRunAgainOnce(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, f *fleet) {
		passing, mending, asked := f.connection("passing"), f.connection("mending"), f.connection("asked")
		fail := func(connection int64, reason, failure string) syncdb.Run {
			t.Helper()
			ctx := t.Context()
			_, _, err := f.ledger.RequestRun(ctx, connection, reason)
			if err != nil {
				t.Fatal(err)
			}
			run, lease, err := f.ledger.StartRun(ctx, connection, "before", time.Minute)
			if err == nil {
				err = f.ledger.NoteFailure(ctx, lease, failure)
			}
			if err == nil {
				err = f.ledger.FinishRun(ctx, lease, syncdb.RunFailed, nil, "no answer")
			}
			if err != nil {
				t.Fatal(err)
			}
			return run
		}
		fail(passing, "cron", "target-unreachable")
		fail(mending, "cron", "credentials-refused")
		fail(asked, "api", "target-unreachable")
		tick := time.Now() // a leap year's day, so that no tick comes while the test runs
		failures := 2      // of the connection that passes, after the first
		for _, name := range []string{"process 1", "process 2", "process 3"} {
			f.start(name, 2, func(c *jobs.Config) {
				c.Retry = jobs.Retry{First: time.Millisecond, Longest: time.Millisecond, Failures: []string{"target-unreachable"}}
				c.Schedules = func(context.Context) ([]jobs.Schedule, error) {
					var out []jobs.Schedule
					for _, id := range []int64{passing, mending, asked} {
						out = append(out, jobs.Schedule{Connection: id, Cron: "0 0 29 2 *", CatchUp: time.Hour, Last: tick})
					}
					return out, nil
				}
				c.Run = func(ctx context.Context, run syncdb.Run) error {
					_, lease, err := f.ledger.StartRun(ctx, run.ConnectionID, c.Queue.Name, time.Minute)
					if err != nil {
						return err
					}
					runs, err := f.ledger.Runs(ctx, run.ConnectionID, 0)
					if err != nil {
						return err
					}
					if len(runs) > 1+failures {
						return f.ledger.FinishRun(context.WithoutCancel(ctx), lease, syncdb.RunDone, nil, "")
					}
					if err := f.ledger.NoteFailure(ctx, lease, "target-unreachable"); err != nil {
						return err
					}
					return errors.Join(errors.New("no answer"), f.ledger.FinishRun(context.WithoutCancel(ctx), lease, syncdb.RunFailed, nil, "no answer"))
				}
			})
		}
		f.eventually("the run is tried again until it is done", func() bool {
			states := f.states(passing)
			return len(states) > 0 && states[0] == syncdb.RunDone && f.idle()
		})
		runs, err := f.ledger.Runs(t.Context(), passing, 0)
		if err != nil {
			t.Fatal(err)
		}
		if len(runs) != 2+failures {
			t.Errorf("%d runs, want the first, %d that failed and one that was done", len(runs), failures)
		}
		for _, r := range runs[:len(runs)-1] {
			if r.Reason != "retry" {
				t.Errorf("run %d is for %q, want retry", r.ID, r.Reason)
			}
		}
		for name, id := range map[string]int64{"one that somebody must mend": mending, "one that somebody asked for": asked} {
			if states := f.states(id); len(states) != 1 {
				t.Errorf("%s was tried again: %v", name, states)
			}
		}
	})
}

// What may be tried again is the last run of a connection, and it is asked for once.
func TestOnlyTheLastRunIsTriedAgain(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, f *fleet) {
		ctx := t.Context()
		id := f.connection("north")
		must := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		end := func(reason string, state syncdb.RunState) syncdb.Run {
			t.Helper()
			if reason != "" {
				_, _, err := f.ledger.RequestRun(ctx, id, reason)
				must(err)
			}
			run, lease, err := f.ledger.StartRun(ctx, id, "x", time.Minute)
			must(err)
			must(f.ledger.FinishRun(ctx, lease, state, nil, ""))
			return run
		}
		failed := func() (out []int64) {
			t.Helper()
			all, err := f.ledger.Prospects(ctx)
			must(err)
			if p := all[id]; p.Scheduled {
				out = append(out, p.Failed)
			}
			return out
		}
		is := func(when string, want ...int64) {
			t.Helper()
			got := failed()
			if len(got) != len(want) || len(got) == 1 && got[0] != want[0] {
				t.Errorf("%s: may be tried again: %v, want %v", when, got, want)
			}
		}
		retry := func(run int64, want bool) {
			t.Helper()
			_, asked, err := f.ledger.RequestRetry(ctx, id, run)
			must(err)
			if asked != want {
				t.Errorf("run %d is asked for again: %v, want %v", run, asked, want)
			}
		}
		end("api", syncdb.RunFailed)
		is("when somebody asked for it")
		first := end("cron", syncdb.RunFailed)
		is("when it failed", first.ID)
		must(f.ledger.SetPause(ctx, id, &syncdb.Pause{Who: "ada", Why: "x"}, syncdb.AuditRow{Who: "ada", Action: "connection.pause"}))
		is("while the connection is paused, when that is over", first.ID)
		must(f.ledger.SetPause(ctx, id, nil, syncdb.AuditRow{Who: "ada", Action: "connection.resume"}))
		retry(first.ID, true)
		retry(first.ID, false)
		is("when a run waits")
		second := end("", syncdb.RunFailed)
		is("when that failed, too", second.ID)
		retry(first.ID, false)
		third := end("api", syncdb.RunFailed)
		is("when somebody asked meanwhile", third.ID)
		end("api", syncdb.RunCanceled)
		is("when somebody canceled")
		end("api", syncdb.RunDone)
		end("api", syncdb.RunFailed)
		is("when the schedule's was made good")
	})
}
