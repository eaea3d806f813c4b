package syncdb_test

import (
	"testing"
	"time"

	"github.com/edfisync/edfisync/syncdb"
)

func TestAnErrandThatLostItsProcessIsMarkedByWhoeverNotices(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, db *syncdb.DB, forward func(time.Duration)) {
		ctx := t.Context()
		conn, _, err := db.Connection(ctx, "tenant", "connection")
		ok(t, err)
		lost, _, err := db.StartErrand(ctx, conn.ID, "undo", "holder", time.Minute)
		ok(t, err)
		notice := func(lost syncdb.Run) {
			t.Helper()
			open, err := db.OpenRuns(ctx)
			ok(t, err)
			for _, r := range open {
				if r.ID == lost.ID && !r.Errand {
					t.Error("whoever looks for lost runs is not told that it is an errand")
				}
			}
			if run, asked, err := db.RequestRecovery(ctx, lost); asked || err != nil {
				t.Errorf("run %d goes on with an errand: asked %t, %v", run.ID, asked, err)
			}
		}
		state := func(want syncdb.RunState) {
			t.Helper()
			run, err := db.RunByID(ctx, lost.ID)
			ok(t, err)
			if run.State != want || want == syncdb.RunFailed && run.Error != syncdb.LostErrand {
				t.Errorf("the errand is %s (%q), want it %s", run.State, run.Error, want)
			}
		}
		notice(lost) // its process lives
		state(syncdb.RunRunning)
		forward(2 * time.Minute)
		notice(lost)
		state(syncdb.RunFailed)
		notice(lost) // another process has seen to it
		open, err := db.OpenRuns(ctx)
		ok(t, err)
		if len(open) != 0 {
			t.Errorf("after that these runs wait: %+v", open)
		}

		// Who has looked before another process did does no harm to the run that came since.
		asked, _, err := db.RequestRun(ctx, conn.ID, "api")
		ok(t, err)
		_, l, err := db.StartRun(ctx, conn.ID, "holder", time.Minute)
		ok(t, err)
		notice(lost)
		if run, err := db.RunByID(ctx, asked.ID); err != nil || run.State != syncdb.RunRunning {
			t.Errorf("the run that came since is %s, %v", run.State, err)
		}
		forward(2 * time.Minute)
		notice(lost)
		waits, joined, err := db.RequestRun(ctx, conn.ID, "api")
		ok(t, err)
		if !joined || waits.Reason != "recovery" {
			t.Errorf("the run that was lost since is not gone on with: run %d waits for %q, joined %t", waits.ID, waits.Reason, joined)
		}
		if _, _, err := db.Renew(ctx, l); err == nil {
			t.Error("its process holds the lease still")
		}
	})
}

// An errand is no sync: neither does its end make the connection fresh, nor its failure one that fails.
func TestAnErrandSaysNothingOfTheRunsThatSync(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, db *syncdb.DB, forward func(time.Duration)) {
		ctx := t.Context()
		conn, _, err := db.Connection(ctx, "tenant", "connection")
		ok(t, err)
		sync := func(state syncdb.RunState) int64 {
			t.Helper()
			_, _, err := db.RequestRun(ctx, conn.ID, "cron")
			ok(t, err)
			run, l, err := db.StartRun(ctx, conn.ID, "holder", time.Minute)
			ok(t, err)
			ok(t, db.FinishRun(ctx, l, state, nil, ""))
			return run.ID
		}
		errand := func(reason string, state syncdb.RunState) int64 {
			t.Helper()
			forward(time.Minute)
			run, l, err := db.StartErrand(ctx, conn.ID, reason, "holder", time.Minute)
			ok(t, err)
			ok(t, db.FinishRun(ctx, l, state, nil, ""))
			return run.ID
		}
		want := func(what string, fresh, ended int64, failures int) {
			t.Helper()
			_, done, err := db.LastRuns(ctx)
			ok(t, err)
			if done[conn.ID].ID != fresh {
				t.Errorf("%s: fresh as of run %d, want %d", what, done[conn.ID].ID, fresh)
			}
			facts, _, err := db.AlertFacts(ctx)
			ok(t, err)
			f := facts[conn.ID]
			if f.Ended.ID != ended || f.Failures != failures {
				t.Errorf("%s: for alerts run %d ended last, with %d failures; want run %d with %d", what, f.Ended.ID, f.Failures, ended, failures)
			}
			if fresh == 0 {
				return
			}
			run, err := db.RunByID(ctx, fresh)
			ok(t, err)
			if !f.FreshAsOf.Equal(run.StartedAt) {
				t.Errorf("%s: for alerts it is fresh as of %s, want %s", what, f.FreshAsOf, run.StartedAt)
			}
		}
		errand("adopt", syncdb.RunDone)
		want("adopted before the first run", 0, 0, 0)
		first := sync(syncdb.RunDone)
		for _, reason := range []string{"adopt", "undo", "sync-one"} {
			errand(reason, syncdb.RunDone)
			want("after "+reason, first, first, 0)
			errand(reason, syncdb.RunFailed)
			want("after "+reason+" was refused", first, first, 0)
		}
		failed := sync(syncdb.RunFailed)
		want("after a run that failed", first, failed, 1)
		applied := errand("apply", syncdb.RunDone)
		want("after a plan was applied", applied, failed, 0)
	})
}
