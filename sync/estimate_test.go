package sync

import (
	"fmt"
	"testing"
	"time"

	"github.com/edfisync/edfisync/syncdb"
)

// A run of a few calls says little about a large one: most of its time it read the source.
func TestEstimateTakesTheRunThatTellsMost(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 8, 1, 6, 0, 0, 0, time.UTC)
	run := func(id, calls int64, state syncdb.RunState) syncdb.Run {
		return syncdb.Run{ID: id, State: state, StartedAt: at, EndedAt: at.Add(time.Second), Totals: fmt.Appendf(nil, `{"calls":%d}`, calls)}
	}
	small, large, larger, huge := run(9, 20, syncdb.RunDone), run(8, 400, syncdb.RunDone), run(7, 900, syncdb.RunDone), run(6, 20000, syncdb.RunDone)
	for _, tt := range []struct {
		name  string
		runs  []syncdb.Run // the newest first
		calls int64
		want  int64 // the run whose pace it is
	}{
		{"as few calls as the newest run made", []syncdb.Run{small, large, huge}, 20, 9},
		{"more calls than the newest run made", []syncdb.Run{small, large, huge}, 300, 8},
		{"more calls than any made, but one made enough", []syncdb.Run{small, large, huge}, 100000, 6},
		{"more calls than any made", []syncdb.Run{small, large, larger}, 5000, 7},
		{"more calls than the only run made", []syncdb.Run{small}, 5000, 9},
		{"only a run of one call", []syncdb.Run{run(9, 1, syncdb.RunDone)}, 5, 0},
		{"only a run that failed", []syncdb.Run{run(9, 500, syncdb.RunFailed)}, 5, 0},
		{"nothing to do", []syncdb.Run{huge}, 0, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var got int64
			if e := estimate(tt.runs, tt.calls); e != nil {
				got = e.Run
			}
			if got != tt.want {
				t.Errorf("got the pace of run %d, want %d", got, tt.want)
			}
		})
	}
}
