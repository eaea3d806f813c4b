package jobs

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edfisync/edfisync/syncdb"
)

func TestTurns(t *testing.T) {
	t.Parallel()
	noon := time.Date(2026, 9, 2, 12, 0, 0, 0, time.UTC)
	quarantine := Quarantine{After: 3, First: 4 * time.Minute, Longest: time.Hour}
	limits := func(target string, n int, source string, m int) syncdb.Limits {
		return syncdb.Limits{Target: syncdb.Place{Name: target, Runs: n}, Source: syncdb.Place{Name: source, Runs: m}}
	}
	api := limits("api", 1, "sis", 0)
	// run makes a run of a connection with the same number, asked for by the schedule a minute ago, at noon.
	run := func(id int64, state syncdb.RunState, change ...func(*syncdb.OpenRun)) syncdb.OpenRun {
		r := syncdb.OpenRun{
			Run: syncdb.Run{ID: id, ConnectionID: id, State: state, Reason: "cron", CreatedAt: noon.Add(-time.Minute)}, Age: time.Minute, Limits: api,
		}
		for _, c := range change {
			c(&r)
		}
		return r
	}
	of := func(connection int64) func(*syncdb.OpenRun) {
		return func(r *syncdb.OpenRun) { r.ConnectionID = connection }
	}
	with := func(l syncdb.Limits) func(*syncdb.OpenRun) { return func(r *syncdb.OpenRun) { r.Limits = l } }
	asked := func(r *syncdb.OpenRun) { r.Asked = true }
	old := func(r *syncdb.OpenRun) { r.Age, r.CreatedAt = 11*time.Minute, noon.Add(-11*time.Minute) }
	lost := func(r *syncdb.OpenRun) { r.Lost = true }
	paused := func(r *syncdb.OpenRun) { r.Paused = true }
	failing := func(n int, ago time.Duration) func(*syncdb.OpenRun) {
		return func(r *syncdb.OpenRun) { r.Failing = syncdb.Failing{Runs: n, At: noon.Add(-ago)} }
	}
	noted := func(why string, ago time.Duration) func(*syncdb.OpenRun) {
		return func(r *syncdb.OpenRun) { r.Wait = &syncdb.Wait{For: why, At: noon.Add(-ago)} }
	}
	const waiting, running = syncdb.RunWaiting, syncdb.RunRunning
	for _, c := range []struct {
		name string
		open []syncdb.OpenRun
		want map[int64]string
	}{
		{"one that waits begins", []syncdb.OpenRun{run(1, waiting)}, nil},
		{"one waits for another of its connection", []syncdb.OpenRun{run(1, running, with(syncdb.Limits{})), run(2, waiting, of(1))}, map[int64]string{2: "run"}},
		{"but not for one that lost its process", []syncdb.OpenRun{run(1, running, lost), run(2, waiting, of(1))}, nil},
		{"one of a paused connection waits, whoever asked", []syncdb.OpenRun{run(1, waiting, paused, asked)}, map[int64]string{1: "pause"}},
		{"the oldest gets the target's one place", []syncdb.OpenRun{run(1, waiting), run(2, waiting)}, map[int64]string{2: "target"}},
		{"one that a person asked for gets it first", []syncdb.OpenRun{run(1, waiting), run(2, waiting, asked)}, map[int64]string{1: "target"}},
		{"but not before one that has waited long", []syncdb.OpenRun{run(1, waiting, old), run(2, waiting, asked)}, map[int64]string{2: "target"}},
		{"those that cannot begin keep no place", []syncdb.OpenRun{run(1, waiting, paused), run(2, waiting, failing(3, time.Second)), run(3, waiting)},
			map[int64]string{1: "pause", 2: "quarantine"}},
		{"nor does one that no process knew a moment ago", []syncdb.OpenRun{run(1, waiting, noted("configuration", 10*time.Second)), run(2, waiting)}, nil},
		{"a run that lost its process keeps no place", []syncdb.OpenRun{run(1, running, lost), run(2, waiting)}, nil},
		{"a full target is no other's matter", []syncdb.OpenRun{run(1, running), run(2, waiting, with(limits("other", 1, "sis", 0)))}, nil},
		{"a source has its limit, too", []syncdb.OpenRun{run(1, running, with(limits("a", 9, "sis", 1))), run(2, waiting, with(limits("b", 9, "sis", 1)))},
			map[int64]string{2: "source"}},
		{"each connection keeps the limit of its own configuration",
			[]syncdb.OpenRun{run(1, running), run(2, waiting, with(limits("api", 2, "sis", 0))), run(3, waiting, with(limits("api", 1, "sis", 0)))},
			map[int64]string{3: "target"}},
		{"one that waits for its source lets others have the target",
			[]syncdb.OpenRun{run(1, running, with(limits("x", 1, "sis", 1))), run(2, waiting, with(limits("api", 1, "sis", 1))), run(3, waiting)},
			map[int64]string{2: "source"}},
		{"until it has waited for long: then it keeps the place it could have",
			[]syncdb.OpenRun{run(1, running, with(limits("x", 1, "sis", 1))), run(2, waiting, with(limits("api", 1, "sis", 1)), old), run(3, waiting)},
			map[int64]string{2: "source", 3: "target"}},
		{"two failures are no quarantine", []syncdb.OpenRun{run(1, waiting, failing(2, time.Second))}, nil},
		{"three are, for the schedule", []syncdb.OpenRun{run(1, waiting, failing(3, time.Second))}, map[int64]string{1: "quarantine"}},
		{"and for a run that takes over", []syncdb.OpenRun{run(1, waiting, failing(3, time.Second), func(r *syncdb.OpenRun) { r.Reason = "recovery" })},
			map[int64]string{1: "quarantine"}},
		{"not for a person", []syncdb.OpenRun{run(1, waiting, failing(3, time.Second), asked)}, nil},
		{"it ends", []syncdb.OpenRun{run(1, waiting, failing(3, 5*time.Minute))}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var got map[int64]string
			for id, w := range turns(c.open, quarantine, func(r syncdb.OpenRun) bool { return r.Lost }) {
				if got == nil {
					got = map[int64]string{}
				}
				got[id] = w.For
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("who waits (-want +got):\n%s", diff)
			}
		})
	}
}

func TestQuarantineGrowsToItsLongestAndIsSpread(t *testing.T) {
	t.Parallel()
	q := Quarantine{After: 3, First: 5 * time.Minute, Longest: 6 * time.Hour}
	at := time.Date(2026, 9, 2, 12, 0, 0, 0, time.UTC)
	if got := q.Until(1, syncdb.Failing{Runs: 2, At: at}); !got.IsZero() {
		t.Errorf("after two failures it lasts until %s", got)
	}
	want, seen := 5*time.Minute, map[time.Duration]bool{}
	for n := 3; n < 5000; n++ {
		got := q.Until(1, syncdb.Failing{Runs: n, At: at}).Sub(at)
		if got > want || got < want*3/4 {
			t.Fatalf("after %d failures it lasts %s, want between three quarters of %s and all of it", n, got, want)
		}
		if again := q.Until(1, syncdb.Failing{Runs: n, At: at}).Sub(at); again != got {
			t.Fatalf("another process says %s, not %s", again, got)
		}
		want = min(2*want, q.Longest)
	}
	for connection := range int64(20) {
		seen[q.Until(connection, syncdb.Failing{Runs: 3, At: at}).Sub(at)] = true
	}
	if len(seen) < 10 {
		t.Errorf("20 connections that fail together try again at %d times", len(seen))
	}
	if got := (Quarantine{}).Until(1, syncdb.Failing{Runs: 100, At: at}); !got.IsZero() {
		t.Errorf("without a quarantine it lasts until %s", got)
	}
}
