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
	// paceCalls is how many calls a run must have made for its pace to mean anything: in fewer, reading the source is most of its time. enoughCalls
	// are as good as any more. paceRuns is how far back a run is looked for.
	paceCalls   = 20
	enoughCalls = 1000
	paceRuns    = 50
)

// estimate returns how long so many calls take, from the newest of the runs that made as many, or enoughCalls; else from the one that made most. Nil
// when none made paceCalls. The pace includes reading the source, as the run that is asked about will.
func estimate(runs []syncdb.Run, calls int64) *Estimate {
	if calls == 0 {
		return nil
	}
	var best *Estimate
	var most int64
	for _, r := range runs {
		var made Totals
		if r.State != syncdb.RunDone || json.Unmarshal(r.Totals, &made) != nil || made.Calls < paceCalls || made.Calls <= most {
			continue
		}
		took := r.EndedAt.Sub(r.StartedAt)
		if took < time.Millisecond {
			continue
		}
		pace := float64(made.Calls) / took.Seconds()
		best, most = &Estimate{Seconds: float64(calls) / pace, CallsPerSecond: pace, Run: r.ID}, made.Calls
		if made.Calls >= min(calls, enoughCalls) {
			break
		}
	}
	return best
}
