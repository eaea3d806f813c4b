package jobs

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/edfisync/edfisync/syncdb"
)

func TestWhatComesNextAndWhy(t *testing.T) {
	t.Parallel()
	two := time.Date(2026, 11, 22, 2, 0, 0, 0, time.UTC) // of the schedule
	ended := two.Add(3 * time.Minute)
	retry := Retry{First: 2 * time.Minute, Longest: time.Hour, Failures: []string{"target-unreachable"}}
	quarantine := Quarantine{After: 3, First: 30 * time.Minute, Longest: 6 * time.Hour}
	type given struct {
		schedule *Schedule
		p        syncdb.Prospect
		retry    Retry
		now      time.Time
	}
	done := func(g *given) { g.p.Failing, g.p.Failed, g.p.Failure, g.p.Scheduled = syncdb.Failing{}, 0, "", false }
	fails := func(n int) func(*given) { return func(g *given) { g.p.Failing.Runs = n } }
	waits := func(g *given) { g.p.Waiting, g.p.Failed, g.p.Scheduled = 8, 0, false }
	asked := func(g *given) { g.p.Asked = true }
	paused := func(until time.Time) func(*given) {
		return func(g *given) { g.p.Paused, g.p.PausedUntil = true, until }
	}
	for _, c := range []struct {
		name           string
		change         []func(g *given)
		earliest, most time.Duration // after the failure; 0, 0 = At is left out
		reason, text   string        // "" = nothing comes
	}{
		{"the schedule's next time, when all is well", []func(*given){done}, 23*time.Hour + 57*time.Minute, 23*time.Hour + 57*time.Minute, NextSchedule, "by its schedule"},
		{"nothing without a schedule", []func(*given){func(g *given) { g.schedule = nil }}, 0, 0, "", ""},
		{"a failed run again, after the first wait", nil, 90 * time.Second, 2 * time.Minute, NextRetry, "attempt 2 of 3 after target-unreachable"},
		{"after twice as long, when it failed again", []func(*given){fails(2)}, 3 * time.Minute, 4 * time.Minute, NextRetry, "attempt 3 of 3 after target-unreachable"},
		{"when the quarantine is over", []func(*given){fails(3)}, 22 * time.Minute, 30 * time.Minute, NextQuarantine,
			"in quarantine until then: 3 runs failed one after the other, attempt 4 after target-unreachable"},
		{"at once, when no process was there at its time", []func(*given){func(g *given) { g.now = ended.Add(time.Hour) }}, time.Hour, time.Hour, NextRetry, ""},
		{"the schedule's time when somebody has to act", []func(*given){func(g *given) { g.p.Failure = "credentials-refused" }},
			23*time.Hour + 57*time.Minute, 23*time.Hour + 57*time.Minute, NextSchedule, "by its schedule, attempt 2 of 3 after credentials-refused"},
		{"the schedule's time when the run failed for another reason", []func(*given){func(g *given) { g.p.Failure = "" }}, 23*time.Hour + 57*time.Minute, 24 * time.Hour, NextSchedule, "by its schedule, attempt 2 of 3"},
		{"the schedule's time when nobody but a person asked for the run", []func(*given){func(g *given) { g.p.Scheduled = false }}, 23*time.Hour + 57*time.Minute, 24 * time.Hour, NextSchedule, ""},
		{"the schedule's time when retries are switched off", []func(*given){func(g *given) { g.retry = Retry{} }}, 23*time.Hour + 57*time.Minute, 24 * time.Hour, NextSchedule, ""},
		{"the schedule's time when it comes first", []func(*given){func(g *given) { g.schedule.Cron = "4 * * * *" }}, time.Minute, time.Minute, NextSchedule, ""},
		{"the schedule's time when its last is longer ago than is made up for", []func(*given){func(g *given) { g.now = ended.Add(13 * time.Hour) }}, 23 * time.Hour, 24 * time.Hour, NextSchedule, ""},
		{"the schedule's time when nothing is made up for", []func(*given){func(g *given) { g.schedule.CatchUp = 0 }}, 23 * time.Hour, 24 * time.Hour, NextSchedule, ""},
		{"a failed run again when a planned pause is over", []func(*given){func(g *given) {
			g.schedule.Pauses = []PlannedPause{{From: ended, To: ended.Add(time.Hour)}}
		}}, time.Hour, time.Hour, NextRetry, ""},
		{"the schedule's time when a planned pause is over only then", []func(*given){func(g *given) {
			g.schedule.Pauses = []PlannedPause{{From: ended, To: ended.Add(20 * time.Hour)}}
		}}, 23 * time.Hour, 24 * time.Hour, NextSchedule, ""},
		{"the schedule's time when no tick of it was kept", []func(*given){func(g *given) { g.schedule.Last = time.Time{} }}, 23 * time.Hour, 24 * time.Hour, NextSchedule, ""},
		{"the last tick of the ledger counts", []func(*given){func(g *given) { g.schedule.Last, g.p.Ticked = time.Time{}, two }}, 90 * time.Second, 2 * time.Minute, NextRetry, ""},
		{"a failed run again when the pause is over", []func(*given){paused(ended.Add(time.Hour))}, time.Hour, time.Hour, NextPause, "paused until then, attempt 2 of 3 after target-unreachable"},
		{"a tick's run when the pause is over", []func(*given){done, paused(two.Add(30 * time.Hour))}, 30*time.Hour - 3*time.Minute, 30*time.Hour - 3*time.Minute, NextPause, "paused until then"},
		{"nobody knows when, in a pause without end", []func(*given){paused(time.Time{})}, 0, 0, NextPause, "paused until somebody resumes it, attempt 2 of 3 after target-unreachable"},
		{"the tick of a schedule in quarantine when that is over", []func(*given){fails(3), func(g *given) { g.schedule.Cron = "*/5 * * * *" }}, 22 * time.Minute, 30 * time.Minute, NextQuarantine, ""},
		{"the tick after a quarantine", []func(*given){fails(3), func(g *given) { g.p.Failure = "source-empty" }}, 23 * time.Hour, 24 * time.Hour, NextSchedule, "by its schedule, attempt 4 after source-empty"},
		{"a run that waits has its turn", []func(*given){done, waits}, 0, 0, NextTurn, "run 8 waits for its turn"},
		{"one of the schedule waits for the quarantine's end", []func(*given){fails(3), waits}, 22 * time.Minute, 30 * time.Minute, NextQuarantine, ""},
		{"one that somebody asked for does not", []func(*given){fails(3), waits, asked}, 0, 0, NextTurn, "run 8 waits for its turn, attempt 4 after target-unreachable"},
		{"but it does for a pause's end", []func(*given){fails(3), waits, asked, paused(ended.Add(time.Hour))}, time.Hour, time.Hour, NextPause, ""},
		{"the later one of pause and quarantine", []func(*given){fails(3), waits, paused(ended.Add(time.Minute))}, 22 * time.Minute, 30 * time.Minute, NextQuarantine, ""},
		{"while a run is under way, the schedule's time, whatever failed before", []func(*given){fails(9), func(g *given) { g.p.Running, g.p.Failed, g.p.Failure, g.schedule.Cron = true, 0, "", "*/5 * * * *" }},
			2 * time.Minute, 2 * time.Minute, NextSchedule, "by its schedule"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			g := given{
				&Schedule{Connection: 1, Cron: "0 2 * * *", CatchUp: 12 * time.Hour, Last: two},
				syncdb.Prospect{Connection: 1, Failed: 7, Failure: "target-unreachable", Scheduled: true, Failing: syncdb.Failing{Runs: 1, At: ended}}, retry, ended,
			}
			for _, change := range c.change {
				change(&g)
			}
			got := Coming(g.schedule, g.p, g.retry, quarantine, g.now)
			if got == nil || c.reason == "" {
				if got != nil || c.reason != "" {
					t.Fatalf("what comes is %+v, want %q", got, c.reason)
				}
				return
			}
			if got.Reason != c.reason || c.text != "" && got.Text != c.text {
				t.Errorf("it comes for %q: %q, want %q: %q", got.Reason, got.Text, c.reason, c.text)
			}
			switch after := got.At.Sub(ended); {
			case c.most == 0 && got.At.IsZero():
			case c.most == 0 || got.At.IsZero() || after < c.earliest || after > c.most:
				t.Errorf("it comes at %s, %s after the failure; want %s to %s", got.At, after, c.earliest, c.most)
			}
		})
	}
}

// The service, its clock in the test's hands, starts the next run exactly when that was shown all the time before, for whatever schedule, failures, pauses and
// quarantines; and it starts none when none was shown.
func TestARunBeginsWhenItWasShownTo(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		minutes := func(label string, least, most int) time.Duration {
			return time.Duration(rapid.IntRange(least, most).Draw(t, label)) * time.Minute
		}
		now := time.Date(2026, 11, 22, 2, 0, 0, 0, time.UTC).Add(minutes("now", 0, 2000))
		sched := Schedule{
			Connection: rapid.Int64Range(1, 40).Draw(t, "connection"), Cron: rapid.SampledFrom([]string{"0 */3 * * *", "*/5 * * * *", "17 * * * *", "0 0 29 2 *"}).Draw(t, "cron"),
			CatchUp: minutes("catch up", 0, 700), Jitter: minutes("jitter", 0, 30),
		}
		if from := minutes("planned pause", 0, 600); from > 300 {
			sched.Pauses = []PlannedPause{{From: now.Add(from - 400*time.Minute), To: now.Add(from - 300*time.Minute)}}
		}
		retry := Retry{First: minutes("retry", 0, 10), Longest: time.Hour, Failures: []string{"target-unreachable"}}
		quarantine := Quarantine{After: rapid.IntRange(0, 4).Draw(t, "after"), First: minutes("first", 1, 60), Longest: 6 * time.Hour}
		p := syncdb.Prospect{Connection: sched.Connection}
		if ago := minutes("ticked", 0, 300); ago > 0 {
			p.Ticked = now.Add(-ago)
		}
		if n := rapid.IntRange(0, 5).Draw(t, "failures"); n > 0 {
			p.Failing = syncdb.Failing{Runs: n, At: now.Add(-minutes("failed", 0, 120))}
			p.Failed, p.Failure, p.Scheduled = 7, rapid.SampledFrom([]string{"target-unreachable", "credentials-refused"}).Draw(t, "failure"), rapid.Bool().Draw(t, "scheduled")
		}
		switch rapid.IntRange(0, 4).Draw(t, "pause") {
		case 0:
			p.Paused = true
		case 1:
			p.Paused, p.PausedUntil = true, now.Add(minutes("until", -10, 300))
		}
		if rapid.IntRange(0, 3).Draw(t, "waits") == 0 {
			p.Waiting, p.Asked, p.Failed, p.Scheduled = 8, rapid.Bool().Draw(t, "asked"), 0, false
		}

		ledger := &clockedLedger{p: p}
		s := &Service{c: Config{Ledger: ledger, Retry: retry, Quarantine: quarantine, Schedules: func(context.Context) ([]Schedule, error) { return []Schedule{sched}, nil }}, bell: silence{}, log: slog.New(slog.DiscardHandler)}
		first, begun := Coming(&sched, p, retry, quarantine, now), now
		for end := now.Add(8 * time.Hour); now.Before(end); {
			if shown := Coming(&sched, ledger.p, retry, quarantine, now); now.Before(first.At) && !shown.At.Equal(first.At) {
				t.Fatalf("at %s what is shown is %+v, before it was %+v", now, shown, first)
			}
			ledger.now = now
			wake, err := s.tick(t.Context(), now)
			if err != nil {
				t.Fatal(err)
			}
			open, _ := ledger.OpenRuns(t.Context())
			waits := turns(open, quarantine, func(syncdb.OpenRun) bool { return false })
			if len(open) > 0 && waits[open[0].ID].For == "" {
				if overdue := first.At.Before(begun) && now.Equal(begun); !first.At.IsZero() && !first.At.Equal(now) && !overdue {
					t.Fatalf("it begins at %s, and was to at %s (%s)", now, first.At, first.Text)
				}
				if first.At.IsZero() && first.Reason != NextTurn {
					t.Fatalf("it begins at %s, and nobody was to know when: %+v", now, first)
				}
				return
			}
			for _, w := range waits {
				if w.Until.After(now) && w.Until.Before(wake) || len(open) > 0 && w.Until.IsZero() {
					wake = w.Until
				}
			}
			if wake.IsZero() { // a pause without end
				if first.Reason != NextPause || !first.At.IsZero() {
					t.Fatalf("it waits for somebody, and what was shown is %+v", first)
				}
				return
			}
			now = wake
		}
		if !first.At.IsZero() && first.At.Before(now) {
			t.Fatalf("no run began until %s, and one was to: %+v", now, first)
		}
	})
}

// clockedLedger has one connection, and the clock of the test.
type clockedLedger struct {
	Ledger

	p   syncdb.Prospect
	now time.Time
}

func (l *clockedLedger) Prospects(context.Context) (map[int64]syncdb.Prospect, error) {
	return map[int64]syncdb.Prospect{l.p.Connection: l.p}, nil
}

func (l *clockedLedger) Tick(_ context.Context, _ int64, tick time.Time, _ string) (syncdb.Run, bool, error) {
	if !tick.After(l.p.Ticked) {
		return syncdb.Run{}, false, nil
	}
	l.p.Ticked = tick
	return l.ask(), true, nil
}

func (l *clockedLedger) RequestRetry(_ context.Context, _, failed int64) (syncdb.Run, bool, error) {
	if l.p.Failed != failed || l.p.Waiting != 0 {
		return syncdb.Run{}, false, nil
	}
	return l.ask(), true, nil
}

// ask makes a run that waits, unless one does.
func (l *clockedLedger) ask() syncdb.Run {
	if l.p.Waiting != 0 {
		return syncdb.Run{}
	}
	l.p.Waiting, l.p.Failed, l.p.Scheduled = 9, 0, false
	return syncdb.Run{ID: 9, Reason: "cron"}
}

func (l *clockedLedger) OpenRuns(context.Context) ([]syncdb.OpenRun, error) {
	if l.p.Waiting == 0 {
		return nil, nil
	}
	return []syncdb.OpenRun{{
		Run: syncdb.Run{ID: l.p.Waiting, ConnectionID: l.p.Connection, State: syncdb.RunWaiting, Reason: "cron", CreatedAt: l.now}, Asked: l.p.Asked,
		Paused: l.p.Paused && (l.p.PausedUntil.IsZero() || l.p.PausedUntil.After(l.now)), PausedUntil: l.p.PausedUntil, Failing: l.p.Failing,
	}}, nil
}

// silence is a doorbell nobody hears.
type silence struct{ doorbell }

func (silence) Ring(context.Context, int64, int, bool) error { return nil }
