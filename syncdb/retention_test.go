package syncdb_test

import (
	"bytes"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/edfisync/edfisync/internal/keys"
	"github.com/edfisync/edfisync/syncdb"
)

// keptWorld is a ledger whose time can be moved.
type keptWorld struct {
	*testing.T
	*syncdb.DB
	now  time.Time
	conn int64
	raw  *sql.DB
	cfg  syncdb.Config
	c    ledgerCase
}

func onBothKept(t *testing.T, test func(w *keptWorld)) {
	for _, c := range []ledgerCase{sqliteCase(t), postgresCase(t)} {
		t.Run(c.driver, func(t *testing.T) {
			t.Parallel()
			w := &keptWorld{T: t, now: time.Date(2026, 9, 1, 4, 0, 0, 0, time.UTC), c: c}
			w.cfg = syncdb.Config{DSN: c.ledger, Master: keys.GenerateMaster(), Clock: func() time.Time { return w.now }}
			w.DB = open(t, w.cfg)
			conn, _, err := w.Connection(t.Context(), "default", "one")
			ok(t, err)
			w.conn = conn.ID
			w.raw, err = sql.Open(c.driver, c.direct)
			ok(t, err)
			t.Cleanup(func() { w.raw.Close() })
			test(w)
		})
	}
}

// run does a run with a step, a problem, a receipt, and when it is said a kept call; the next run clears the problem.
func (w *keptWorld) run(cause string, call bool) int64 {
	w.Helper()
	ctx := w.Context()
	_, _, err := w.RequestRun(ctx, w.conn, "cron")
	ok(w.T, err)
	_, l, err := w.StartRun(ctx, w.conn, "holder", time.Minute)
	ok(w.T, err)
	ok(w.T, w.SaveStep(ctx, l, syncdb.Step{Position: 1, Resource: "ed-fi/students", Verb: syncdb.Create, State: "done"}))
	if cause != "" {
		ok(w.T, w.SaveProblems(ctx, l, []syncdb.Problem{{
			Resource: "ed-fi/students", SourceHash: syncdb.Hash{9}, Outcome: "invalid", Code: "required-missing", Cause: cause, Owner: "source data", SourceKey: "1",
		}}))
	}
	if call {
		ok(w.T, w.SaveAttempts(ctx, l, []syncdb.Attempt{{Op: 1, Resource: "ed-fi/students", Verb: syncdb.Create, KeyHash: syncdb.Hash{1}, At: w.now, Status: 201, Payload: []byte(`{}`)}}))
	}
	_, err = w.CloseProblems(ctx, l, nil)
	ok(w.T, err)
	ok(w.T, w.AddRunLog(ctx, l.RunID, []syncdb.LogLine{{Line: 1, At: w.now, Text: "the run begins"}}))
	ok(w.T, w.SaveReceipt(ctx, l, syncdb.Receipt{RunID: l.RunID, Document: json.RawMessage(`{"statement":{}}`)}))
	ok(w.T, w.FinishRun(ctx, l, syncdb.RunDone, json.RawMessage(`{}`), ""))
	return l.RunID
}

func (w *keptWorld) count(query string, args ...any) (n int) {
	w.Helper()
	ok(w.T, w.raw.QueryRowContext(w.Context(), query, args...).Scan(&n))
	return n
}

// purge purges what is older than an age, after it was counted.
func (w *keptWorld) purge(class syncdb.Class, age time.Duration, want int64) {
	w.Helper()
	before := w.now.Add(-age)
	counted, err := w.Purgeable(w.Context(), class, w.conn, before)
	ok(w.T, err)
	n, err := w.Purge(w.Context(), class, before, "ada")
	ok(w.T, err)
	if n != want || counted != want {
		w.Errorf("%s older than %s: counted %d, purged %d, want %d", class, age, counted, n, want)
	}
	if again, err := w.Purge(w.Context(), class, before, "ada"); err != nil || again != 0 && class != syncdb.ClassAudit {
		w.Errorf("%s once more: %d, %v", class, again, err)
	}
}

func (w *keptWorld) verified() {
	w.Helper()
	if bad, err := w.VerifyAudit(w.Context()); bad != 0 || err != nil {
		w.Errorf("audit row %d does not verify, %v", bad, err)
	}
}

const aDay = 24 * time.Hour

func TestPurgeRemovesRunsAndLeavesWhatTheEngineNeeds(t *testing.T) {
	t.Parallel()
	onBothKept(t, func(w *keptWorld) {
		old := []int64{w.run("birthDate", false), w.run("", false)}
		undoable := w.run("", true)
		held := w.run("", false)
		_, _, err := w.RequestRun(w.Context(), w.conn, "cron")
		ok(t, err)
		_, l, err := w.StartRun(w.Context(), w.conn, "holder", time.Minute)
		ok(t, err)
		hold, err := w.SaveHold(w.Context(), l, syncdb.Plan{Resource: "ed-fi/students", Verb: syncdb.Delete, Rule: "mass-delete"}, func(yield func(syncdb.PlanOp, error) bool) {
			yield(syncdb.PlanOp{Step: 1, Resource: "ed-fi/students", Verb: syncdb.Delete, KeyHash: syncdb.Hash{1}}, nil)
		})
		ok(t, err)
		ok(t, w.FinishRun(w.Context(), l, syncdb.RunFailed, nil, "the target went away"))
		w.now = w.now.Add(400 * aDay)
		last := w.run("", false)
		w.now = w.now.Add(400 * aDay) // every run is old now
		w.purge(syncdb.ClassRuns, 390*aDay, 3)
		for _, id := range append(old, held) {
			if n := w.count(`SELECT (SELECT count(*) FROM run WHERE id = $1) + (SELECT count(*) FROM step WHERE run_id = $1) + (SELECT count(*) FROM receipt WHERE run_id = $1) + (SELECT count(*) FROM run_log WHERE run_id = $1)`, id); n != 0 {
				t.Errorf("of run %d %d rows are left", id, n)
			}
		}
		for what, id := range map[string]int64{"the newest": last, "one with kept calls, which can be undone": undoable, "the one of an open hold": hold.RunID} {
			if w.count(`SELECT count(*) FROM run WHERE id = $1`, id) != 1 {
				t.Errorf("%s was removed", what)
			}
		}
		if n := w.count(`SELECT count(*) FROM receipt WHERE run_id = $1`, last); n != 1 {
			t.Error("the last receipt was removed")
		}
		if got, err := w.PlanByID(w.Context(), w.conn, hold.ID); err != nil || got.State != syncdb.PlanOpen {
			t.Errorf("the open hold: %+v, %v", got, err)
		}

		// What was removed is proved.
		rows, err := w.FindAudit(w.Context(), syncdb.AuditFilter{Limit: 1})
		ok(t, err)
		var proof struct {
			What        string
			Rows        int64
			First, Last int64
			SHA256      string
			Before      time.Time
		}
		ok(t, json.Unmarshal(rows[0].Detail, &proof))
		ids := append(append([]int64{}, old...), held)
		sum := sha256.New()
		ok(t, binary.Write(sum, binary.BigEndian, ids))
		if rows[0].Action != "purge.runs" || rows[0].Who != "ada" || proof.What != "runs" || proof.Rows != 3 || proof.First != old[0] || proof.Last != held ||
			proof.SHA256 != hex.EncodeToString(sum.Sum(nil)) || !proof.Before.Equal(w.now.Add(-390*aDay)) {
			t.Errorf("the proof is %s of %s: %s", rows[0].Action, rows[0].Who, rows[0].Detail)
		}
		w.verified()
	})
}

func TestPurgeRemovesSettledIssuesOnly(t *testing.T) {
	t.Parallel()
	onBothKept(t, func(w *keptWorld) {
		w.run("birthDate", false)
		w.run("firstName", false) // settles the one before
		w.now = w.now.Add(89 * aDay)
		w.purge(syncdb.ClassIssues, 90*aDay, 0)
		w.now = w.now.Add(2 * aDay)
		w.purge(syncdb.ClassIssues, 90*aDay, 1)
		issues, err := w.Issues(w.Context(), w.conn, false)
		ok(t, err)
		if len(issues) != 1 || issues[0].Cause != "firstName" || issues[0].Rows != 1 {
			t.Errorf("got %+v, want the open one", issues)
		}
		w.verified()
	})
}

func TestPurgedHistoryIsProvedAndOverwritten(t *testing.T) {
	t.Parallel()
	onBothKept(t, func(w *keptWorld) {
		w.run("", true)
		var sealed []byte
		ok(t, w.raw.QueryRowContext(t.Context(), `SELECT body_sealed FROM history`).Scan(&sealed))
		w.now = w.now.Add(31 * aDay)
		counted, err := w.Purgeable(t.Context(), syncdb.ClassHistory, w.conn, w.now.Add(-30*aDay))
		ok(t, err)
		n, err := w.PurgeAttempts(t.Context(), w.conn, w.now.Add(-30*aDay))
		ok(t, err)
		if n != 1 || counted != 1 {
			t.Errorf("counted %d, purged %d calls, want 1", counted, n)
		}
		rows, err := w.FindAudit(t.Context(), syncdb.AuditFilter{})
		ok(t, err)
		if len(rows) != 1 || rows[0].Action != "purge.history" || rows[0].Who != syncdb.Retainer || rows[0].Connection != "default/one" {
			t.Errorf("the proof: %+v", rows)
		}
		if w.c.driver != "sqlite" {
			return
		}
		ok(t, w.Scrub(t.Context()))
		for _, suffix := range []string{"", "-wal"} {
			text, err := os.ReadFile(w.c.direct + suffix)
			if err == nil && bytes.Contains(text, sealed) {
				t.Errorf("what was removed is still in the file ledger.db%s", suffix)
			}
		}
	})
}

func TestTheAuditTrailVerifiesAfterItsBeginningWasRemoved(t *testing.T) {
	t.Parallel()
	onBothKept(t, func(w *keptWorld) {
		ctx := t.Context()
		act := func(n int) {
			for i := range n {
				ok(t, w.Audit(ctx, syncdb.AuditRow{Who: "ada", Action: "test", Object: fmt.Sprint("run ", i)}))
			}
		}
		act(20)
		w.now = w.now.Add(1000 * aDay)
		act(10)
		w.now = w.now.Add(200 * aDay)
		w.purge(syncdb.ClassAudit, 1100*aDay, 20)
		w.verified()
		row, hash, err := w.AuditCut(ctx)
		ok(t, err)
		if row != 20 || len(hash) != 32 || w.count(`SELECT count(*) FROM audit WHERE id <= 20`) != 0 || w.count(`SELECT count(*) FROM audit`) != 11 {
			t.Errorf("cut at %d, %d rows are left", row, w.count(`SELECT count(*) FROM audit`))
		}
		act(5)
		w.verified()

		// Tampering is still found, the cut itself too.
		for _, tamper := range []struct{ do, undo string }{
			{`UPDATE audit SET who = 'eve' WHERE id = 21`, `UPDATE audit SET who = 'ada' WHERE id = 21`},
			{`UPDATE audit SET object = 'x' WHERE id = 36`, `UPDATE audit SET object = 'run 4' WHERE id = 36`},
			{`UPDATE audit SET id = 99 WHERE id = 21`, `UPDATE audit SET id = 21 WHERE id = 99`},
			{`UPDATE audit_head SET cut_id = 19`, `UPDATE audit_head SET cut_id = 20`},
			{`UPDATE audit_head SET cut_id = 0`, `UPDATE audit_head SET cut_id = 20`},
			{`UPDATE audit_head SET cut_hash = (SELECT hash FROM audit WHERE id = 21)`, ``},
		} {
			var kept []byte
			ok(t, w.raw.QueryRowContext(ctx, `SELECT cut_hash FROM audit_head`).Scan(&kept))
			_, err := w.raw.ExecContext(ctx, tamper.do)
			ok(t, err)
			if bad, err := w.VerifyAudit(ctx); bad == 0 || err != nil {
				t.Errorf("%s was not found: %d, %v", tamper.do, bad, err)
			}
			if n, err := w.Purge(ctx, syncdb.ClassAudit, w.now.Add(time.Hour), "eve"); err == nil {
				t.Errorf("after %s %d rows could be removed", tamper.do, n)
			}
			if tamper.undo != "" {
				_, err = w.raw.ExecContext(ctx, tamper.undo)
			} else {
				_, err = w.raw.ExecContext(ctx, `UPDATE audit_head SET cut_hash = $1`, kept)
			}
			ok(t, err)
			w.verified()
		}
		// Whoever drops rows and moves the cut over them lacks the key for it.
		for _, query := range []string{`UPDATE audit_head SET cut_id = 25, cut_hash = (SELECT hash FROM audit WHERE id = 25)`, `DELETE FROM audit WHERE id <= 25`} {
			_, err := w.raw.ExecContext(ctx, query)
			ok(t, err)
		}
		if bad, err := w.VerifyAudit(ctx); bad == 0 || err != nil {
			t.Errorf("a cut that nobody made was not found: %d, %v", bad, err)
		}
	})
}

func TestOneProcessRemovesOldDataEverySoOften(t *testing.T) {
	t.Parallel()
	onBothKept(t, func(w *keptWorld) {
		other := open(t, w.cfg)
		for i, want := range []bool{true, false, false, true, false} {
			if i == 3 {
				w.now = w.now.Add(aDay)
			}
			db := w.DB
			if i%2 == 1 {
				db = other
			}
			last, got, err := db.ClaimRetention(t.Context(), aDay)
			if err != nil || got != want {
				t.Errorf("ask %d: got %v, %v, want %v", i, got, err, want)
			}
			if i == 0 && !last.IsZero() || i == 3 && !last.Equal(w.now.Add(-aDay)) {
				t.Errorf("ask %d: somebody did last at %s", i, last)
			}
		}
		w.now = w.now.Add(-30 * aDay) // the clock was wrong, and is right again
		if _, got, err := w.ClaimRetention(t.Context(), aDay); err != nil || !got {
			t.Errorf("after the clock went back: got %v, %v", got, err)
		}
	})
}

// More rows than one batch has are removed in several, each with its proof.
func TestPurgeWorksInBatches(t *testing.T) {
	t.Parallel()
	onBothKept(t, func(w *keptWorld) {
		ctx := t.Context()
		for range 450 { // two batches and a half
			_, err := w.raw.ExecContext(ctx, `INSERT INTO run (connection_id, state, reason, created_at, ended_at) VALUES ($1, 'failed', 'cron', 1, 2)`, w.conn)
			ok(t, err)
		}
		w.run("", false)
		w.purge(syncdb.ClassRuns, aDay, 450)
		rows, err := w.FindAudit(ctx, syncdb.AuditFilter{})
		ok(t, err)
		if len(rows) != 3 {
			t.Errorf("%d proofs, want 3", len(rows))
		}
		w.verified()
	})
}
