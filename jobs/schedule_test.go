package jobs_test

import (
	"strings"
	"testing"
	"time"

	"github.com/edfisync/edfisync/jobs"
)

func at(t *testing.T, text string) time.Time {
	t.Helper()
	v, err := time.Parse(time.RFC3339, text)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestScheduleFollowsTheClockOfItsZone(t *testing.T) {
	t.Parallel()
	chicago, err := time.LoadLocation("America/Chicago")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		cron        string
		zone        *time.Location
		after, want string
	}{
		"UTC":                                   {"0 2 * * *", nil, "2026-11-22T01:00:00Z", "2026-11-22T02:00:00Z"},
		"winter in Chicago":                     {"0 2 * * *", chicago, "2026-11-22T01:00:00Z", "2026-11-22T08:00:00Z"},
		"summer in Chicago":                     {"0 2 * * *", chicago, "2026-07-01T01:00:00Z", "2026-07-01T07:00:00Z"},
		"an hour the clock leaves out":          {"30 2 * * *", chicago, "2026-03-08T07:00:00Z", "2026-03-09T07:30:00Z"},
		"an hour the clock repeats comes twice": {"30 1 * * *", chicago, "2026-11-01T06:30:00Z", "2026-11-01T07:30:00Z"},
		"a word":                                {"@hourly", nil, "2026-11-22T01:30:00Z", "2026-11-22T02:00:00Z"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ticks, err := jobs.Schedule{Cron: c.cron, Zone: c.zone}.Parse()
			if err != nil {
				t.Fatal(err)
			}
			if got := ticks.Next(at(t, c.after)); !got.Equal(at(t, c.want)) {
				t.Errorf("after %s comes %s, want %s", c.after, got.UTC().Format(time.RFC3339), c.want)
			}
		})
	}
}

func TestOnlyTheLastMissedTickIsMadeUpForAndOnlyWithinTheWindow(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		catchUp   time.Duration
		last, now string
		want      string // "" = none
	}{
		"three days missed, one wanted":      {24 * time.Hour, "2026-11-19T02:00:00Z", "2026-11-22T12:00:00Z", "2026-11-22T02:00:00Z"},
		"the window is over":                 {time.Hour, "2026-11-19T02:00:00Z", "2026-11-22T12:00:00Z", ""},
		"the last tick was kept":             {24 * time.Hour, "2026-11-22T02:00:00Z", "2026-11-22T12:00:00Z", ""},
		"a new schedule makes up for none":   {24 * time.Hour, "", "2026-11-22T12:00:00Z", ""},
		"it is time":                         {0, "2026-11-21T02:00:00Z", "2026-11-22T02:00:01Z", "2026-11-22T02:00:00Z"},
		"the process slept for a minute":     {0, "2026-11-21T02:00:00Z", "2026-11-22T02:01:00Z", "2026-11-22T02:00:00Z"},
		"the clock went back after the tick": {0, "2026-11-22T02:00:00Z", "2026-11-22T01:59:00Z", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := jobs.Schedule{Cron: "0 2 * * *", CatchUp: c.catchUp}
			if c.last != "" {
				s.Last = at(t, c.last)
			}
			ticks, err := s.Parse()
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			if due := ticks.Due(at(t, c.now)); !due.IsZero() {
				got = due.UTC().Format(time.RFC3339)
			}
			if got != c.want {
				t.Errorf("due is %q, want %q", got, c.want)
			}
		})
	}
}

func TestJitterSpreadsConnectionsAndStaysTheSame(t *testing.T) {
	t.Parallel()
	seen := map[time.Time]bool{}
	for c := range int64(50) {
		s := jobs.Schedule{Connection: c, Cron: "0 2 * * *", Jitter: 30 * time.Minute}
		a, err := s.Parse()
		if err != nil {
			t.Fatal(err)
		}
		b, err := s.Parse()
		if err != nil {
			t.Fatal(err)
		}
		next := a.Next(at(t, "2026-11-22T01:59:00Z"))
		if !next.Equal(b.Next(at(t, "2026-11-22T01:59:00Z"))) {
			t.Errorf("connection %d starts at another time each time", c)
		}
		if late := next.Sub(at(t, "2026-11-22T02:00:00Z")); late < 0 || late >= 30*time.Minute {
			t.Errorf("connection %d starts %s late", c, late)
		}
		seen[next] = true
	}
	if len(seen) < 25 {
		t.Errorf("50 connections start at %d times", len(seen))
	}
}

func TestWrongSchedulesAreRefusedWithAReason(t *testing.T) {
	t.Parallel()
	for _, cron := range []string{"", "2am", "60 2 * * *", "* * * *", "0 0 30 2 *", "* * * * * *", "@fortnightly", strings.Repeat("1,", 5000) + "1 * * * *"} {
		if _, err := (jobs.Schedule{Cron: cron}).Parse(); err == nil && len(cron) < 100 {
			t.Errorf("%q is taken for a schedule", cron)
		}
	}
}

func TestAScheduleStartsNothingInAPlannedPause(t *testing.T) {
	t.Parallel()
	ticks, err := jobs.Schedule{
		Cron: "0 2 * * *", CatchUp: 24 * time.Hour, Last: at(t, "2027-06-01T02:00:00Z"),
		Pauses: []jobs.PlannedPause{
			{From: at(t, "2027-06-20T00:00:00Z"), To: at(t, "2027-07-01T00:00:00Z")}, {From: at(t, "2027-06-30T00:00:00Z"), To: at(t, "2027-07-06T02:00:00Z")},
		},
	}.Parse()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, at, next, due string }{
		{"before it", "2027-06-19T12:00:00Z", "2027-07-06T02:00:00Z", "2027-06-19T02:00:00Z"},
		{"in it, right after its beginning", "2027-06-20T00:00:00Z", "2027-07-06T02:00:00Z", ""},
		{"where two overlap", "2027-06-30T12:00:00Z", "2027-07-06T02:00:00Z", ""},
		{"its end is the first moment after it", "2027-07-06T02:00:00Z", "2027-07-07T02:00:00Z", "2027-07-06T02:00:00Z"},
		{"what came due in it is not made up for", "2027-07-06T01:59:59Z", "2027-07-06T02:00:00Z", ""},
	} {
		now := at(t, c.at)
		if got := ticks.Next(now); !got.Equal(at(t, c.next)) {
			t.Errorf("%s: the next tick is %s, want %s", c.name, got.UTC().Format(time.RFC3339), c.next)
		}
		got := ticks.Due(now)
		if c.due == "" && !got.IsZero() || c.due != "" && !got.Equal(at(t, c.due)) {
			t.Errorf("%s: due is %s, want %q", c.name, got.UTC().Format(time.RFC3339), c.due)
		}
	}
}
