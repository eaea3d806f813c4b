package jobs

import (
	"cmp"
	"slices"
	"time"

	"github.com/edfisync/edfisync/syncdb"
)

// patience is how long a run lets others go first: after it a schedule's run is as urgent as a person's, and a run that waits for two places keeps the
// one that is free. So none starves, however many are asked for.
const patience = 10 * time.Minute

// elsewhere is for how long a run that a process could not do, for want of its connection's configuration, keeps no place for itself: another process may
// take it at any time, and nobody may ever.
const elsewhere = time.Minute

// turns says of each run that waits why it does; those that are not in the result may begin. It decides by what the ledger says, so that all processes
// decide alike; StartRun then keeps the limits in its transaction, whoever was wrong. gone reports whether the process of a run is no more.
//
//	the connection has a run in progress   run
//	it is paused                           pause
//	it is in quarantine                    quarantine, unless a person or a program asked
//	target or source have enough runs      target, source: places go to those who asked first, people before schedules
func turns(open []syncdb.OpenRun, q Quarantine, gone func(syncdb.OpenRun) bool) map[int64]syncdb.Wait {
	waits, busy, taken := map[int64]syncdb.Wait{}, map[int64]bool{}, places{}
	for _, r := range open {
		if r.State == syncdb.RunRunning && !gone(r) {
			busy[r.ConnectionID] = true
			taken.take(r.Limits)
		}
	}
	var contenders []syncdb.OpenRun
	for _, r := range open {
		if r.State != syncdb.RunWaiting {
			continue
		}
		held := hold(r.ConnectionID, r.Asked, r.Paused, r.PausedUntil, r.Failing, q, now(r))
		switch {
		case busy[r.ConnectionID]:
			waits[r.ID] = syncdb.Wait{For: syncdb.WaitRun}
		case held.For != "":
			waits[r.ID] = held
		default:
			contenders = append(contenders, r)
		}
	}
	slices.SortFunc(contenders, func(a, b syncdb.OpenRun) int { return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.ID, b.ID)) })
	for _, r := range contenders {
		full := taken.full(r.Limits)
		if full != "" {
			waits[r.ID] = syncdb.Wait{For: full}
		}
		here := r.Wait == nil || r.Wait.For != syncdb.WaitConfiguration || now(r).Sub(r.Wait.At) > elsewhere
		if here && (full == "" || r.Age > patience) {
			taken.take(r.Limits)
		}
	}
	return waits
}

// now is the database's time when the runs were read.
func now(r syncdb.OpenRun) time.Time { return r.CreatedAt.Add(r.Age) }

// rank orders those who want a place: people, and what has waited for long, come before schedules.
func rank(r syncdb.OpenRun) int {
	if r.Asked || r.Reason == "recovery" || r.Age > patience {
		return 1
	}
	return 2
}

// place is a target or a source.
type place struct {
	what string // syncdb.WaitTarget or syncdb.WaitSource
	name string
}

// places counts the runs that have a place.
type places map[place]int

func (p places) take(l syncdb.Limits) {
	p[place{syncdb.WaitTarget, l.Target.Name}]++
	p[place{syncdb.WaitSource, l.Source.Name}]++
}

// full says which place takes no more runs; "" = none.
func (p places) full(l syncdb.Limits) string {
	switch {
	case l.Target.Runs > 0 && p[place{syncdb.WaitTarget, l.Target.Name}] >= l.Target.Runs:
		return syncdb.WaitTarget
	case l.Source.Runs > 0 && p[place{syncdb.WaitSource, l.Source.Name}] >= l.Source.Runs:
		return syncdb.WaitSource
	}
	return ""
}
