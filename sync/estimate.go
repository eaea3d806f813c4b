package sync

import (
	"encoding/json"
	"time"

	"github.com/edfisync/edfisync/syncdb"
)

// Estimate says how long the calls of a plan would take at the pace of an earlier run.
type Estimate struct {
	Seconds        float64 `json:"seconds"`
	CallsPerSecond float64 `json:"callsPerSecond"`
	Run            int64   `json:"run"` // whose pace that was
}

const (
	// paceCalls is how many calls a run must have made for its pace to mean anything, paceRuns how far back one is looked for.
	paceCalls = 20
	paceRuns  = 50
)

// estimate returns how long so many calls take, from the newest of the runs with enough calls; nil when there is none. The pace includes reading
// the source, as the run that is asked about will.
func estimate(runs []syncdb.Run, calls int64) *Estimate {
	if calls == 0 {
		return nil
	}
	for _, r := range runs {
		var made Totals
		if r.State != syncdb.RunDone || json.Unmarshal(r.Totals, &made) != nil || made.Calls < paceCalls {
			continue
		}
		if took := r.EndedAt.Sub(r.StartedAt); took >= time.Millisecond {
			pace := float64(made.Calls) / took.Seconds()
			return &Estimate{Seconds: float64(calls) / pace, CallsPerSecond: pace, Run: r.ID}
		}
	}
	return nil
}
