package jobs_test

import (
	"strings"
	"testing"
	"time"

	"github.com/edfisync/edfisync/internal/attacktest"
	"github.com/edfisync/edfisync/jobs"
)

// A schedule that somebody wrote to keep the service busy is refused, or comes once a second at most and is worked out at once.
func TestSchedulesThatAskForTooMuchAreBounded(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	cases := []struct {
		name, cron string
		refused    bool
	}{
		{"every nanosecond", "@every 1ns", false},
		{"every minute of every list", strings.TrimSuffix(strings.Repeat("0-59,", 10_000), ",") + " * * * *", false},
		{"steps of nothing", "*/0 * * * *", true},
		{"a range of four billion", "0-4294967295 * * * *", true},
		{"a number there is not", "99999999999999999999 * * * *", true},
		{"a day that never comes", "0 0 31 2 *", true},
		{"a hundred thousand fields", strings.Repeat("* ", 100_000), true},
		{"SQL", "'; DROP TABLE run; -- * * * *", true},
		{"a zone that is a file", "TZ=../../etc/passwd * * * * *", true},
		{"a zone and nothing else", "TZ=UTC", true},
		{"backwards", "@every -1h", false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			began := time.Now()
			ticks, err := jobs.Schedule{Cron: c.cron, CatchUp: 30 * 24 * time.Hour, Last: now.Add(-30 * 24 * time.Hour)}.Parse()
			if (err != nil) != c.refused {
				t.Fatalf("got %v, want refused %v", err, c.refused)
			}
			if err == nil {
				if next := ticks.Next(now); next.Sub(now) < 100*time.Millisecond {
					t.Errorf("it comes after %s", next.Sub(now))
				}
				if due := ticks.Due(now); due.After(now) {
					t.Errorf("due at %s", due)
				}
			}
			if took := time.Since(began); took > 20*time.Second {
				t.Errorf("it took %s", took)
			}
		})
	}
	all := make([]string, len(cases))
	for i, c := range cases {
		all[i] = c.name
	}
	attacktest.Played(t, attacktest.Load, all)
}
