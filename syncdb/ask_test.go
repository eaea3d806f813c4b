package syncdb_test

import (
	"sync"
	"testing"
	"time"

	"github.com/edfisync/edfisync/syncdb"
)

// asks counts the rows of the audit trail about who asked for a run.
func asks(t *testing.T, db *syncdb.DB) int {
	t.Helper()
	rows, err := db.FindAudit(t.Context(), syncdb.AuditFilter{Action: "run.ask"})
	ok(t, err)
	return len(rows)
}

func TestWhoChangesWhatARunSendsIsInTheAuditTrail(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, db *syncdb.DB, _ func(time.Duration)) {
		ctx := t.Context()
		conn, _, err := db.Connection(ctx, "tenant", "connection")
		ok(t, err)
		one, two := syncdb.RunScope{Parts: []syncdb.ScopePart{{School: 1}}}, syncdb.RunScope{Parts: []syncdb.ScopePart{{School: 2}}}
		act := syncdb.AuditRow{Who: "ada", Action: "run.ask", Connection: "tenant/connection"}

		// No audit row, no act.
		if run, _, err := db.RequestAudited(ctx, conn.ID, "api", one, syncdb.AuditRow{Action: "run.ask"}); err == nil {
			t.Errorf("run %d was asked for by nobody", run.ID)
		}
		if runs, err := db.Runs(ctx, conn.ID, 0); err != nil || len(runs) != 0 {
			t.Errorf("an ask that could not be audited left %+v, %v", runs, err)
		}
		_, _, err = db.Tick(ctx, conn.ID, time.Date(2026, 9, 1, 5, 0, 0, 0, time.UTC), "cron")
		ok(t, err)
		if _, _, err := db.RequestAudited(ctx, conn.ID, "api", one, syncdb.AuditRow{Action: "run.ask"}); err == nil {
			t.Error("nobody made the run of a schedule his own")
		}
		if open, err := db.OpenRuns(ctx); err != nil || len(open) != 1 || open[0].Asked {
			t.Errorf("after that the run of the schedule is %+v, %v", open, err)
		}

		ask := func(what string, scope syncdb.RunScope, want int) {
			t.Helper()
			_, _, err := db.RequestAudited(ctx, conn.ID, "api", scope, act)
			ok(t, err)
			if got := asks(t, db); got != want {
				t.Errorf("%s: %d asks are in the audit trail, want %d", what, got, want)
			}
		}
		ask("who makes the run of a schedule his own", one, 1) // it goes through although the connection is in quarantine
		ask("who joins", two, 1)
		_, l, err := db.StartRun(ctx, conn.ID, "holder", time.Minute)
		ok(t, err)
		ask("who asks beside a run", one, 2)
		ask("who asks for what is asked for", one, 2)
		ask("who asks for more", two, 3)
		ask("who asks for less", one, 3)
		ask("who asks for all", syncdb.RunScope{}, 4)
		ok(t, db.FinishRun(ctx, l, syncdb.RunDone, nil, ""))
		if bad, err := db.VerifyAudit(ctx); bad != 0 || err != nil {
			t.Errorf("row %d of the audit trail does not verify: %v", bad, err)
		}
	})
}

// I16, F60: however askers and a worker that begins what waits come in each other's way, each run has one row.
func TestEachRunThatIsAskedForHasOneAuditRow(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, db *syncdb.DB, _ func(time.Duration)) {
		ctx := t.Context()
		conn, _, err := db.Connection(ctx, "tenant", "connection")
		ok(t, err)
		const askers, each = 8, 12
		var asking sync.WaitGroup
		for range askers {
			asking.Go(func() {
				for range each {
					if _, _, err := db.RequestAudited(ctx, conn.ID, "api", syncdb.RunScope{}, syncdb.AuditRow{Who: "ada", Action: "run.ask"}); err != nil {
						t.Errorf("ask: %v", err)
					}
				}
			})
		}
		over := make(chan struct{})
		var working sync.WaitGroup
		working.Go(func() {
			for {
				if _, l, err := db.StartRun(ctx, conn.ID, "holder", time.Minute); err == nil {
					if err := db.FinishRun(ctx, l, syncdb.RunDone, nil, ""); err != nil {
						t.Errorf("finish: %v", err)
					}
				}
				select {
				case <-over:
					return
				default:
				}
			}
		})
		asking.Wait()
		close(over)
		working.Wait()
		runs, err := db.Runs(ctx, conn.ID, 0)
		ok(t, err)
		if got := asks(t, db); got != len(runs) || got == 0 {
			t.Errorf("%d asks are in the audit trail, want one of each of the %d runs", got, len(runs))
		}
	})
}
