package jobs_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/edfisync/edfisync/jobs"
	"github.com/edfisync/edfisync/syncdb"
)

func TestAFailedRunIsTriedAgainBeforeTheNextTick(t *testing.T) {
	t.Parallel()
	retry := jobs.Retry{First: 2 * time.Minute, Longest: time.Hour, Failures: []string{"target-unreachable"}}
	quarantine := jobs.Quarantine{After: 3, First: 30 * time.Minute, Longest: 6 * time.Hour}
	last := at(t, "2026-11-22T02:00:00Z")
	type given struct {
		schedule jobs.Schedule
		failed   syncdb.FailedRun
		retry    jobs.Retry
		now      time.Time
	}
	for _, c := range []struct {
		name           string
		change         func(g *given)
		earliest, most time.Duration // after the failure; 0, 0 = never
	}{
		{"after the first wait", nil, 90 * time.Second, 2 * time.Minute},
		{"after twice as long, when it failed again", func(g *given) { g.failed.Failing.Runs = 2 }, 3 * time.Minute, 4 * time.Minute},
		{"when the quarantine is over", func(g *given) { g.failed.Failing.Runs = 3 }, 22 * time.Minute, 30 * time.Minute},
		{"at once, when no process was there at its time", func(g *given) { g.now = g.failed.Failing.At.Add(time.Hour) }, time.Hour, time.Hour},
		{"not when somebody has to act", func(g *given) { g.failed.Failure = "credentials-refused" }, 0, 0},
		{"not when it failed for another reason", func(g *given) { g.failed.Failure = "" }, 0, 0},
		{"not when it is switched off", func(g *given) { g.retry = jobs.Retry{} }, 0, 0},
		{"not when the schedule comes first", func(g *given) { g.schedule.Cron = "* * * * *" }, 0, 0},
		{"not when its time is longer ago than is made up for", func(g *given) { g.now = g.failed.Failing.At.Add(13 * time.Hour) }, 0, 0},
		{"not when nothing is made up for", func(g *given) { g.schedule.CatchUp = 0 }, 0, 0},
		{"not in a planned pause", func(g *given) {
			g.schedule.Pauses = []jobs.PlannedPause{{From: g.failed.Failing.At, To: g.failed.Failing.At.Add(time.Hour)}}
		}, 0, 0},
		{"not when no tick of the schedule was kept", func(g *given) { g.schedule.Last = time.Time{} }, 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			ended := last.Add(3 * time.Minute)
			g := given{
				jobs.Schedule{Connection: 1, Cron: "0 2 * * *", CatchUp: 12 * time.Hour, Last: last},
				syncdb.FailedRun{Connection: 1, Run: 7, Failure: "target-unreachable", Failing: syncdb.Failing{Runs: 1, At: ended}}, retry, ended,
			}
			if c.change != nil {
				c.change(&g)
			}
			ticks, err := g.schedule.Parse()
			if err != nil {
				t.Fatal(err)
			}
			got := ticks.At(g.retry, quarantine, g.failed, g.now)
			switch after := got.Sub(ended); {
			case c.most == 0 && got.IsZero():
			case c.most == 0 || got.IsZero() || after < c.earliest || after > c.most:
				t.Errorf("it is tried again at %s, %s after it failed; want %s to %s", got, after, c.earliest, c.most)
			}
		})
	}
}

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
			runs, err := f.ledger.FailedRuns(ctx)
			must(err)
			for _, r := range runs {
				out = append(out, r.Run)
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
		is("while the connection is paused")
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
