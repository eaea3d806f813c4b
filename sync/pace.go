package sync

import (
	"math"
	"time"
)

// Progress is how far a run is, and how fast it goes.
type Progress struct {
	Event
	Since time.Time `json:"since"`          // the phase began
	Rate  float64   `json:"rate,omitempty"` // records a second, over the last half minute; 0 = not known yet
	// Left is how many seconds the phase takes until its end at this rate; nil = not known: there is no plan yet that says how much there is, or nothing moves.
	Left *int64 `json:"secondsLeft,omitempty"`
}

// paceOver is the time over which a rate is taken, and paceLeast the least of it that says anything.
const (
	paceOver  = 30 * time.Second
	paceLeast = 2 * time.Second
)

// Pace reckons how fast a run goes, from its events. The zero value works. It is used from one goroutine at a time.
type Pace struct {
	last  Event
	since time.Time
	seen  []reached // within paceOver, the oldest first
}

// reached is how far a phase was at a time.
type reached struct {
	at   time.Time
	done int64
}

// Note takes an event and says how far the run is, and how fast it goes, by then.
func (p *Pace) Note(e Event, now time.Time) Progress {
	another := p.since.IsZero() || e.Phase != p.last.Phase
	if another {
		p.since = now
	}
	// Reading the target counts for each resource anew.
	if another || e.Done < p.last.Done || e.Phase == "read" && e.Resource != p.last.Resource {
		p.seen = p.seen[:0]
	}
	p.last = e
	p.seen = append(p.seen, reached{now, e.Done})
	for len(p.seen) > 2 && now.Sub(p.seen[1].at) >= paceOver { // one that is as old as that stays, so that the rate is of the whole time
		p.seen = p.seen[1:]
	}
	out := Progress{Event: e, Since: p.since}
	if over := now.Sub(p.seen[0].at); over >= paceLeast {
		out.Rate = math.Round(float64(e.Done-p.seen[0].done)/over.Seconds()*10) / 10
	}
	if e.Total > 0 && out.Rate > 0 {
		left := int64(math.Ceil(float64(max(0, e.Total-e.Done)) / out.Rate))
		out.Left = &left
	}
	return out
}
