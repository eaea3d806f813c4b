package alerts_test

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edfisync/edfisync/alerts"
	"github.com/edfisync/edfisync/syncdb"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func TestConditionsAreComputedFromFacts(t *testing.T) {
	t.Parallel()
	failed := func(failure string) syncdb.Run {
		return syncdb.Run{ID: 7, State: syncdb.RunFailed, Error: "why", Failure: failure}
	}
	done := syncdb.Run{ID: 8, State: syncdb.RunDone}
	ago := func(d time.Duration) time.Time { return noon.Add(-d) }
	for name, c := range map[string]struct {
		facts  syncdb.AlertFacts
		within time.Duration
		want   []alerts.Condition
	}{
		"nothing was ever done":                         {syncdb.AlertFacts{}, time.Hour, nil},
		"all is well":                                   {syncdb.AlertFacts{Ended: done, FreshAsOf: ago(time.Minute)}, time.Hour, nil},
		"a run failed":                                  {syncdb.AlertFacts{Ended: failed("")}, 0, []alerts.Condition{alerts.RunFailed}},
		"the target does not answer":                    {syncdb.AlertFacts{Ended: failed("target-unreachable")}, 0, []alerts.Condition{alerts.TargetUnreachable}},
		"the source does not answer":                    {syncdb.AlertFacts{Ended: failed("source-unreachable")}, 0, []alerts.Condition{alerts.SourceUnreachable}},
		"the key is refused":                            {syncdb.AlertFacts{Ended: failed("credentials-refused")}, 0, []alerts.Condition{alerts.CredentialsRefused}},
		"a process died, and another goes on":           {syncdb.AlertFacts{Ended: syncdb.Run{State: syncdb.RunFailed, Error: syncdb.LostProcess}, Open: true}, 0, nil},
		"a process died, and nobody goes on":            {syncdb.AlertFacts{Ended: syncdb.Run{State: syncdb.RunFailed, Error: syncdb.LostProcess}}, 0, []alerts.Condition{alerts.RunFailed}},
		"the last good run is just in time":             {syncdb.AlertFacts{Ended: done, FreshAsOf: ago(time.Hour)}, time.Hour, nil},
		"the last good run is too long ago":             {syncdb.AlertFacts{Ended: done, FreshAsOf: ago(time.Hour + 1)}, time.Hour, []alerts.Condition{alerts.NotFresh}},
		"it is long ago, and may be":                    {syncdb.AlertFacts{Ended: done, FreshAsOf: ago(time.Hour * 999)}, 0, nil},
		"it is too long ago, but the connection paused": {syncdb.AlertFacts{Ended: done, FreshAsOf: ago(2 * time.Hour), Paused: true}, time.Hour, nil},
		"there was no good run since the first":         {syncdb.AlertFacts{Ended: failed(""), FirstRun: ago(2 * time.Hour)}, time.Hour, []alerts.Condition{alerts.RunFailed, alerts.NotFresh}},
		"holds wait":                                    {syncdb.AlertFacts{Ended: done, Holds: 2}, 0, []alerts.Condition{alerts.HoldWaiting}},
		"two runs failed in a row":                      {syncdb.AlertFacts{Ended: failed(""), Failures: 2}, 0, []alerts.Condition{alerts.RunFailed}},
		"so many that it is in quarantine":              {syncdb.AlertFacts{Ended: failed(""), Failures: 3}, 0, []alerts.Condition{alerts.RunFailed, alerts.Quarantined}},
		"the target was wiped":                          {syncdb.AlertFacts{Ended: done, Alarm: "it is empty"}, 0, []alerts.Condition{alerts.TargetReset}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got []alerts.Condition
			for _, claim := range alerts.Of(c.facts, alerts.Limits{FreshWithin: c.within, Failures: 3}, noon) {
				if claim.Holds {
					got = append(got, claim.Condition)
				}
			}
			if d := cmp.Diff(c.want, got); d != "" {
				t.Errorf("conditions (-want +got):\n%s", d)
			}
		})
	}
}

func TestEveryConditionSaysWhatItMeansAndWhatToDo(t *testing.T) {
	t.Parallel()
	all := alerts.Conditions()
	for _, c := range all {
		if c.Title() == string(c) || c.Remedy() == "" {
			t.Errorf("%s has no title or remedy", c)
		}
	}
	for _, claim := range alerts.Of(syncdb.AlertFacts{}, alerts.Limits{}, noon) {
		if !slices.Contains(all, claim.Condition) {
			t.Errorf("%s is not among the conditions", claim.Condition)
		}
	}
}

func TestAnAlertTellsEachChangeOnce(t *testing.T) {
	t.Parallel()
	// A letter for each minute: what the facts say then, x = it holds, . = it does not; M and : the same while it is muted. Want: f = told that it fires, r = that it
	// has recovered, - = nothing is told.
	for name, c := range map[string]struct {
		damping     alerts.Damping
		facts, want string
	}{
		"at once, both ways":                      {alerts.Damping{}, "..xxx..", "--f--r-"},
		"recovered after it was quiet for long":   {alerts.Damping{Quiet: 3 * time.Minute}, ".xx......", "-f----r--"},
		"flapping tells once":                     {alerts.Damping{Quiet: 3 * time.Minute}, "x.x.x..x.x....", "f------------r"},
		"fires only when it lasts":                {alerts.Damping{For: 2 * time.Minute}, "x.xx.xxxx.", "-------f-r"},
		"muted all the time":                      {alerts.Damping{}, ".MMM::", "------"},
		"muted, and firing when the mute is over": {alerts.Damping{}, ".MMxx.", "---f-r"},
		"muted, and over when the mute is over":   {alerts.Damping{}, ".MM::..", "-------"},
		"recovers while muted":                    {alerts.Damping{}, "xx::..", "f---r-"},
		"comes back while muted":                  {alerts.Damping{}, "xx:Mxx", "f-----"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var s alerts.State
			got := ""
			for i, now := range c.facts {
				claim := alerts.Claim{Condition: alerts.RunFailed, Holds: now == 'x' || now == 'M'}
				at, muted := noon.Add(time.Duration(i)*time.Minute), now == 'M' || now == ':'
				next, tell := s.Next(claim, at, c.damping, muted)
				if again, twice := next.Next(claim, at, c.damping, muted); twice || again != next {
					t.Errorf("minute %d: the same facts again change %+v to %+v, tell %t", i, next, again, twice)
				}
				switch s = next; {
				case !tell:
					got += "-"
				case next.Firing:
					got += "f"
				default:
					got += "r"
				}
			}
			if got != c.want {
				t.Errorf("facts %s\ntold  %s\nwant  %s", c.facts, got, c.want)
			}
		})
	}
}
