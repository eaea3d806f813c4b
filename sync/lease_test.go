package sync

import (
	"errors"
	"testing"
	"time"

	"github.com/edfisync/edfisync/syncdb"
)

// F57: the clock is stepped. A lease counts as run out by whichever clock says so; a clock put back does not make an old lease young, since the
// monotonic reading stays.
func TestF57LeaseUnderASteppedClock(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		renewed func(now time.Time) time.Time
		holds   bool
	}{
		{"renewed just now", func(now time.Time) time.Time { return now }, true},
		{"renewed 20 s ago: a call of 30 s still fits", func(now time.Time) time.Time { return now.Add(-20 * time.Second) }, true},
		{"renewed 40 s ago: a call of 30 s could outlive it", func(now time.Time) time.Time { return now.Add(-40 * time.Second) }, false},
		{"the wall clock went an hour ahead", func(now time.Time) time.Time { return now.Round(0).Add(-time.Hour) }, false},
		{"the wall clock went a year ahead", func(now time.Time) time.Time { return now.Round(0).AddDate(-1, 0, 0) }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			k := &keeper{callTimeout: 30 * time.Second, lease: syncdb.Lease{RenewedAt: c.renewed(time.Now()), TTL: time.Minute}}
			if err := k.check(); (err == nil) != c.holds || err != nil && !errors.Is(err, ErrLeaseLost) {
				t.Errorf("got %v, want the lease to hold: %v", err, c.holds)
			}
		})
	}
}
