package syncdb_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edfisync/edfisync/syncdb"
)

func TestWhatEndedLastIsKnownByConnection(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, db *syncdb.DB, forward func(time.Duration)) {
		ctx := t.Context()
		one, _, err := db.Connection(ctx, "acme", "one")
		ok(t, err)
		two, _, err := db.Connection(ctx, "acme", "two")
		ok(t, err)
		end := func(c int64, state syncdb.RunState, problems ...syncdb.Problem) int64 {
			t.Helper()
			_, _, err := db.RequestRun(ctx, c, "api")
			ok(t, err)
			run, lease, err := db.StartRun(ctx, c, "test", time.Minute)
			ok(t, err)
			ok(t, db.SaveProblems(ctx, lease, problems))
			ok(t, db.FinishRun(ctx, lease, state, nil, ""))
			forward(time.Second)
			return run.ID
		}
		problem := func(n byte, code, cause string) syncdb.Problem {
			return syncdb.Problem{Resource: "ed-fi/students", SourceHash: syncdb.Hash{n}, Outcome: "invalid", Code: code, Cause: cause, Owner: "mapping"}
		}
		end(one.ID, syncdb.RunDone, problem(1, "too-long", "a"), problem(2, "too-long", "b"), problem(3, "too-long", "b"), problem(4, "required-missing", "a"))
		failed := end(one.ID, syncdb.RunFailed)
		end(one.ID, syncdb.RunCanceled)
		end(two.ID, syncdb.RunCanceled)
		ended, err := db.EndedRuns(ctx)
		ok(t, err)
		if len(ended) != 1 || ended[one.ID].ID != failed || ended[one.ID].State != syncdb.RunFailed {
			t.Errorf("ended: %+v, want run %d of the first connection only", ended, failed)
		}
		codes, err := db.IssueCodes(ctx)
		ok(t, err)
		want := []syncdb.CodeCount{{ConnectionID: one.ID, Code: "required-missing", Issues: 1}, {ConnectionID: one.ID, Code: "too-long", Issues: 2}}
		if d := cmp.Diff(want, codes); d != "" {
			t.Errorf("issues by code (-want +got):\n%s", d)
		}
	})
}

func TestAuditRowsThatCannotBeWrittenAreCounted(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, db *syncdb.DB, _ func(time.Duration)) {
		ok(t, db.Audit(t.Context(), byAda("look")))
		if n := db.AuditFailures(); n != 0 {
			t.Errorf("%d failures of none", n)
		}
		if err := db.Audit(t.Context(), syncdb.AuditRow{Action: "nobody's"}); err == nil {
			t.Error("a row of nobody was written")
		}
		if n := db.AuditFailures(); n != 1 {
			t.Errorf("%d failures, want 1", n)
		}
	})
}
