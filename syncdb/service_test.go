package syncdb_test

import (
	"encoding/json"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edfisync/edfisync/internal/keys"
	"github.com/edfisync/edfisync/syncdb"
)

// onBoth runs a test on a new ledger of each database, whose clock the test moves.
func onBoth(t *testing.T, test func(t *testing.T, db *syncdb.DB, forward func(time.Duration))) {
	for _, c := range []ledgerCase{sqliteCase(t), postgresCase(t)} {
		t.Run(c.driver, func(t *testing.T) {
			t.Parallel()
			var at atomic.Int64
			at.Store(time.Date(2026, 9, 2, 4, 0, 0, 0, time.UTC).UnixMilli())
			clock := func() time.Time { return time.UnixMilli(at.Load()).UTC() }
			db := open(t, syncdb.Config{DSN: c.ledger, Master: keys.GenerateMaster(), Clock: clock, Grace: 30 * time.Second})
			test(t, db, func(d time.Duration) { at.Add(d.Milliseconds()) })
		})
	}
}

func TestOfManyProcessesOneKeepsATick(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, db *syncdb.DB, _ func(time.Duration)) {
		ctx := t.Context()
		conn, _, err := db.Connection(ctx, "tenant", "connection")
		ok(t, err)
		two := time.Date(2026, 9, 2, 2, 0, 0, 0, time.UTC)
		var asked, runs atomic.Int64
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				run, fired, err := db.Tick(ctx, conn.ID, two, "cron")
				if err != nil {
					t.Error(err)
				}
				if fired {
					asked.Add(1)
				}
				if run.ID != 0 {
					runs.Add(1)
				}
			})
		}
		wg.Wait()
		if asked.Load() != 1 || runs.Load() != 1 {
			t.Errorf("%d processes kept the tick and %d runs were made, want one", asked.Load(), runs.Load())
		}
		if _, fired, err := db.Tick(ctx, conn.ID, two.Add(-time.Hour), "cron"); fired || err != nil {
			t.Errorf("an older tick is kept again: %v", err)
		}
		run, fired, err := db.Tick(ctx, conn.ID, two.Add(time.Hour), "cron")
		if !fired || run.ID != 0 || err != nil {
			t.Errorf("the next tick: fired %v with run %d (%v), want it kept by the run that waits", fired, run.ID, err)
		}
		prospects, err := db.Prospects(ctx)
		ok(t, err)
		if last := prospects[conn.ID].Ticked; !last.Equal(two.Add(time.Hour)) {
			t.Errorf("last tick is %s", last)
		}
	})
}

func TestOpenRunsSayWhichLostTheirProcess(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, db *syncdb.DB, forward func(time.Duration)) {
		ctx := t.Context()
		var ids []int64
		for _, name := range []string{"a", "b"} {
			conn, _, err := db.Connection(ctx, "tenant", name)
			ok(t, err)
			run, _, err := db.RequestRun(ctx, conn.ID, "cli")
			ok(t, err)
			ids = append(ids, run.ID)
			if name == "a" {
				_, _, err = db.StartRun(ctx, conn.ID, "holder", time.Minute)
				ok(t, err)
			}
		}
		type seen struct {
			ID    int64
			State syncdb.RunState
			Age   time.Duration
			Lost  bool
		}
		look := func() (out []seen) {
			open, err := db.OpenRuns(ctx)
			ok(t, err)
			for _, r := range open {
				out = append(out, seen{r.ID, r.State, r.Age, r.Lost})
			}
			return out
		}
		forward(89 * time.Second) // the lease is over, the grace is not
		want := []seen{{ids[0], syncdb.RunRunning, 89 * time.Second, false}, {ids[1], syncdb.RunWaiting, 89 * time.Second, false}}
		if diff := cmp.Diff(want, look()); diff != "" {
			t.Errorf("before the grace is over (-want +got):\n%s", diff)
		}
		forward(time.Second)
		want = []seen{{ids[0], syncdb.RunRunning, 90 * time.Second, true}, {ids[1], syncdb.RunWaiting, 90 * time.Second, false}}
		if diff := cmp.Diff(want, look()); diff != "" {
			t.Errorf("after it (-want +got):\n%s", diff)
		}
	})
}

func TestOfManyProcessesOneAsksForTheRunThatTakesOver(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, db *syncdb.DB, forward func(time.Duration)) {
		ctx := t.Context()
		conn, _, err := db.Connection(ctx, "tenant", "connection")
		ok(t, err)
		lost, _, err := db.RequestRun(ctx, conn.ID, "cli")
		ok(t, err)
		_, _, err = db.StartRun(ctx, conn.ID, "holder", time.Minute)
		ok(t, err)
		forward(2 * time.Minute)
		_, asked, err := db.RequestRecovery(ctx, lost)
		ok(t, err)
		_, again, err := db.RequestRecovery(ctx, lost)
		ok(t, err)
		if !asked || again {
			t.Errorf("asked %v, then %v; want once", asked, again)
		}
		_, l, err := db.StartRun(ctx, conn.ID, "another", time.Minute)
		ok(t, err)
		ok(t, db.FinishRun(ctx, l, syncdb.RunDone, nil, ""))
		if _, asked, err := db.RequestRecovery(ctx, lost); asked || err != nil {
			t.Errorf("asked after somebody took over: %v", err)
		}
	})
}

func TestAPauseHoldsUntilItsEndOrUntilSomebodyResumes(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, db *syncdb.DB, forward func(time.Duration)) {
		ctx := t.Context()
		conn, _, err := db.Connection(ctx, "tenant", "connection")
		ok(t, err)
		act := syncdb.AuditRow{Who: "ada", Action: "connection.pause", Connection: "connection"}
		paused := func() bool {
			all, err := db.Pauses(ctx)
			ok(t, err)
			_, yes := all[conn.ID]
			return yes
		}
		now := time.Date(2026, 9, 2, 4, 0, 0, 0, time.UTC)
		ok(t, db.SetPause(ctx, conn.ID, &syncdb.Pause{Who: "ada", Why: "rollover", Until: now.Add(time.Hour)}, act))
		all, err := db.Pauses(ctx)
		ok(t, err)
		if diff := cmp.Diff(map[int64]syncdb.Pause{conn.ID: {At: now, Who: "ada", Why: "rollover", Until: now.Add(time.Hour)}}, all); diff != "" {
			t.Errorf("paused (-want +got):\n%s", diff)
		}
		forward(time.Hour)
		if paused() {
			t.Error("it is paused after the end of its pause")
		}
		ok(t, db.SetPause(ctx, conn.ID, &syncdb.Pause{Who: "ada", Why: "for good"}, act))
		if !paused() {
			t.Error("it is not paused")
		}
		ok(t, db.SetPause(ctx, conn.ID, nil, act))
		if paused() {
			t.Error("it is paused after somebody resumed it")
		}
		rows, err := db.AuditRows(ctx, 0, 0)
		ok(t, err)
		if len(rows) != 3 {
			t.Errorf("%d acts are in the audit trail, want 3 (I16)", len(rows))
		}
		if err := db.SetPause(ctx, conn.ID, &syncdb.Pause{Who: "ada"}, syncdb.AuditRow{}); err == nil || paused() {
			t.Error("it is paused though the audit row could not be written (I16)")
		}
	})
}

func TestProgressIsKeptWhileARunRuns(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, db *syncdb.DB, _ func(time.Duration)) {
		ctx := t.Context()
		conn, _, err := db.Connection(ctx, "tenant", "connection")
		ok(t, err)
		run, _, err := db.RequestRun(ctx, conn.ID, "cli")
		ok(t, err)
		note := json.RawMessage(`{"phase":"send","done":3}`)
		ok(t, db.SaveProgress(ctx, run.ID, note))
		if got, _, err := db.Progress(ctx, run.ID); got != nil || err != nil {
			t.Errorf("a run that waits has progress %s (%v)", got, err)
		}
		_, l, err := db.StartRun(ctx, conn.ID, "holder", time.Minute)
		ok(t, err)
		ok(t, db.SaveProgress(ctx, run.ID, note))
		got, at, err := db.Progress(ctx, run.ID)
		ok(t, err)
		if string(got) != string(note) || at.IsZero() {
			t.Errorf("progress is %s at %s", got, at)
		}
		ok(t, db.FinishRun(ctx, l, syncdb.RunDone, nil, ""))
		ok(t, db.SaveProgress(ctx, run.ID, json.RawMessage(`{"phase":"late"}`)))
		if got, _, _ := db.Progress(ctx, run.ID); string(got) != string(note) {
			t.Errorf("a note that came late is kept: %s", got)
		}
	})
}

func TestSchedulesSendEverythingAndARecoverySendsWhatWasLost(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, db *syncdb.DB, forward func(time.Duration)) {
		ctx := t.Context()
		conn, _, err := db.Connection(ctx, "tenant", "connection")
		ok(t, err)
		one := syncdb.RunScope{Parts: []syncdb.ScopePart{{School: 1}}}
		two := syncdb.RunScope{Parts: []syncdb.ScopePart{{School: 2}}}
		want := func(what string, id int64, scope syncdb.RunScope) {
			t.Helper()
			run, err := db.RunByID(ctx, id)
			ok(t, err)
			if diff := cmp.Diff(scope, run.Scope); diff != "" {
				t.Errorf("%s (-want +got):\n%s", what, diff)
			}
		}
		lost, _, err := db.RequestScoped(ctx, conn.ID, "api", one)
		ok(t, err)
		_, _, err = db.StartRun(ctx, conn.ID, "holder", time.Minute)
		ok(t, err)
		forward(2 * time.Minute)
		run, asked, err := db.RequestRecovery(ctx, lost)
		ok(t, err)
		if !asked {
			t.Error("no run takes over")
		}
		want("the run that takes over", run.ID, one)
		_, _, err = db.RequestScoped(ctx, conn.ID, "api", two)
		ok(t, err)
		want("joined by another", run.ID, one.Union(two))
		_, _, err = db.Tick(ctx, conn.ID, time.Date(2026, 9, 2, 5, 0, 0, 0, time.UTC), "cron")
		ok(t, err)
		want("joined by a schedule", run.ID, syncdb.RunScope{})
		_, l, err := db.StartRun(ctx, conn.ID, "another", time.Minute)
		ok(t, err)
		ok(t, db.FinishRun(ctx, l, syncdb.RunDone, nil, ""))

		waits, _, err := db.RequestScoped(ctx, conn.ID, "api", one)
		ok(t, err)
		_, _, err = db.StartRun(ctx, conn.ID, "holder", time.Minute)
		ok(t, err)
		next, _, err := db.RequestScoped(ctx, conn.ID, "api", two)
		ok(t, err)
		forward(2 * time.Minute)
		for range 2 { // every sweep asks
			if _, asked, err := db.RequestRecovery(ctx, waits); asked || err != nil {
				t.Errorf("asked %v beside a run that waits: %v", asked, err)
			}
		}
		want("the run that waited beside a lost one", next.ID, one.Union(two))

		last, done, err := db.LastRuns(ctx)
		ok(t, err)
		if last[conn.ID].ID != next.ID || done[conn.ID].ID != run.ID {
			t.Errorf("the last run is %d and the last that sent all changes is %d, want %d and %d", last[conn.ID].ID, done[conn.ID].ID, next.ID, run.ID)
		}
		_, l, err = db.StartRun(ctx, conn.ID, "holder", time.Minute)
		ok(t, err)
		ok(t, db.FinishRun(ctx, l, syncdb.RunDone, nil, ""))
		if _, done, err = db.LastRuns(ctx); err != nil || done[conn.ID].ID != run.ID {
			t.Errorf("a run that sent a part is run %d for the freshness of the connection, want %d still (%v)", done[conn.ID].ID, run.ID, err)
		}
	})
}

func TestAScopeThatIsNotUnderstoodIsNotTheWhole(t *testing.T) {
	t.Parallel()
	for _, text := range []string{`[]`, `[{}]`, `{}`, `[{"schools":[1]}]`, `[{"keyHash":"12"}]`, `[{"keyHash":"zz"}]`, `"all"`, ``} {
		var s syncdb.RunScope
		if err := s.UnmarshalJSON([]byte(text)); err == nil {
			t.Errorf("%s is read as %+v", text, s)
		}
	}
	full := syncdb.RunScope{Parts: []syncdb.ScopePart{{Resource: "ed-fi/students", School: 7, Key: syncdb.Hash{1, 2}, Source: syncdb.Hash{3}}}}
	text, err := json.Marshal(full)
	ok(t, err)
	var again syncdb.RunScope
	ok(t, json.Unmarshal(text, &again))
	if diff := cmp.Diff(full, again); diff != "" {
		t.Errorf("read back (-want +got):\n%s", diff)
	}
}

func TestAUnionWithTooManyPartsIsTheWhole(t *testing.T) {
	t.Parallel()
	var s syncdb.RunScope
	for i := range 1001 {
		one := syncdb.RunScope{Parts: []syncdb.ScopePart{{School: int64(i + 1)}}}
		if i == 0 {
			s = one
		} else if s.All() {
			t.Fatalf("with %d parts it is the whole", i)
		}
		s = s.Union(one)
	}
	if !s.All() {
		t.Error("it is not the whole")
	}
}

func TestAUnionMeansWhatEitherMeansAndNothingTwice(t *testing.T) {
	t.Parallel()
	var parts []syncdb.ScopePart
	for _, resource := range []string{"", "ed-fi/schools", "ed-fi/students"} {
		for _, school := range []int64{0, 1, 2} {
			for _, key := range []syncdb.Hash{{}, {1}} {
				for _, source := range []syncdb.Hash{{}, {1}} {
					if p := (syncdb.ScopePart{Resource: resource, School: school, Key: key, Source: source}); p != (syncdb.ScopePart{}) {
						parts = append(parts, p)
					}
				}
			}
		}
	}
	of := func(parts ...syncdb.ScopePart) syncdb.RunScope { return syncdb.RunScope{Parts: parts} }
	for _, a := range parts {
		for _, b := range parts {
			got := of(a).Union(of(b))
			aCovers, bCovers := of(a).Covers(of(b)), of(b).Covers(of(a))
			want := 2
			if aCovers || bCovers {
				want = 1
			}
			if !got.Covers(of(a, b)) || !of(a, b).Covers(got) || len(got.Parts) != want {
				t.Errorf("%+v and %+v: %+v", a, b, got)
			}
		}
	}
}
