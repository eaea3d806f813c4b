package syncdb_test

import (
	"database/sql"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/edfisync/edfisync/internal/keys"
	"github.com/edfisync/edfisync/syncdb"
)

// TestTamperedAuditIsFound edits, drops, moves, inserts or cuts off rows of the audit chain, and every time the chain says where (I16). `make tampers` does
// so 10,000 times.
func TestTamperedAuditIsFound(t *testing.T) {
	t.Parallel()
	const rows = 40
	trials := tamperTrials
	if text := os.Getenv("EDFISYNC_TEST_TAMPERS"); text != "" {
		var err error
		trials, err = strconv.Atoi(text)
		ok(t, err)
	}
	ctx := t.Context()
	path := filepath.Join(t.TempDir(), "ledger.db")
	db := open(t, syncdb.Config{DSN: "sqlite:" + path, Master: keys.GenerateMaster()})
	for i := range rows {
		ok(t, db.Audit(ctx, syncdb.AuditRow{
			Who: fmt.Sprint("user ", i%3), Action: "hold.approve", Connection: "north", Object: fmt.Sprint("hold ", i), Detail: []byte(`{"ops":1}`),
		}))
	}
	raw, err := sql.Open("sqlite", path)
	ok(t, err)
	defer raw.Close()
	raw.SetMaxOpenConns(1)
	exec := func(query string, args ...any) {
		t.Helper()
		_, err := raw.ExecContext(ctx, query, args...)
		ok(t, err)
	}
	verify := func() int64 {
		t.Helper()
		bad, err := db.VerifyAudit(ctx)
		ok(t, err)
		return bad
	}
	for _, q := range []string{"PRAGMA synchronous = OFF", "CREATE TABLE audit_was AS SELECT * FROM audit", "CREATE TABLE head_was AS SELECT * FROM audit_head"} {
		exec(q)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	kinds := map[string]func() (what string, bad int64){
		"edit": func() (string, int64) {
			id := 1 + rng.Int64N(rows)
			edit := []string{
				"at = at + 1", "who = who || ' '", "who = 'eve'", "action = 'hold.discard'", "connection = 'south'", "connection = 'nort', object = 'h' || object",
				"object = 'hold 99'", "detail = '{\"ops\":2}'", "detail = ''", "hash = zeroblob(32)", "hash = (SELECT hash FROM audit_was WHERE id = 1 + ?1 % 40)",
				"who = who || action, action = 'x'",
			}[rng.IntN(12)]
			exec("UPDATE audit SET "+edit+" WHERE id = ?1", id)
			return edit, id
		},
		"drop": func() (string, int64) {
			id := 1 + rng.Int64N(rows)
			exec("DELETE FROM audit WHERE id = ?", id)
			if rng.IntN(2) == 0 { // and close the gap
				exec("UPDATE audit SET id = -id WHERE id > ?", id)
				exec("UPDATE audit SET id = -id - 1 WHERE id < 0")
			}
			return "drop", id
		},
		"reorder": func() (string, int64) {
			a := 1 + rng.Int64N(rows-1)
			b := a + 1 + rng.Int64N(rows-a)
			exec("UPDATE audit SET id = -1 WHERE id = ?", a)
			exec("UPDATE audit SET id = ? WHERE id = ?", a, b)
			exec("UPDATE audit SET id = ? WHERE id = -1", b)
			return fmt.Sprint("swap with ", b), a
		},
		"truncate": func() (string, int64) {
			last := rng.Int64N(rows)
			exec("DELETE FROM audit WHERE id > ?", last)
			if last > 0 && rng.IntN(2) == 0 { // and say that it always ended there
				exec("UPDATE audit_head SET last_id = ?1, hash = (SELECT hash FROM audit WHERE id = ?1)", last)
				return "truncate with its head", last
			}
			return "truncate", last + 1
		},
		"insert": func() (string, int64) { // a row in the middle, as another was, and those after it move on
			id := 1 + rng.Int64N(rows)
			exec("UPDATE audit SET id = -id WHERE id >= ?", id)
			exec("UPDATE audit SET id = -id + 1 WHERE id < 0")
			from := id + 1
			if rng.IntN(2) == 0 && id > 1 {
				from = id - 1
			}
			exec("INSERT INTO audit SELECT ?, at, who, action, connection, object, detail, hash FROM audit WHERE id = ?", id, from)
			if from == id+1 { // the row that was there is there still; what comes after it is out of place
				return "insert the row again", id + 1
			}
			return "insert the row before", id
		},
		"swap": func() (string, int64) { // one column of two rows
			a := 1 + rng.Int64N(rows-1)
			b := a + 1 + rng.Int64N(rows-a)
			column := []string{"object", "hash"}[rng.IntN(2)]
			exec("UPDATE audit SET "+column+" = (SELECT "+column+" FROM audit_was w WHERE w.id = ?1 + ?2 - audit.id) WHERE id IN (?1, ?2)", a, b)
			return "swap " + column, a
		},
		"append": func() (string, int64) {
			exec("INSERT INTO audit SELECT 41, at, who, action, connection, object, detail, hash FROM audit WHERE id = 40")
			return "append", 41
		},
		"head": func() (string, int64) {
			switch rng.IntN(4) {
			case 0:
				exec("DELETE FROM audit_head")
				return "head gone", 1
			case 1:
				exec("UPDATE audit_head SET mac = zeroblob(32)")
			case 2:
				exec("UPDATE audit_head SET hash = (SELECT hash FROM audit WHERE id = 39)")
			case 3:
				exec("UPDATE audit_head SET data_key = zeroblob(length(data_key))")
				return "key of the chain replaced", 1
			}
			return "head", 40
		},
	}
	names := []string{"edit", "edit", "edit", "drop", "reorder", "truncate", "append", "head", "insert", "swap"}
	if bad := verify(); bad != 0 {
		t.Fatalf("row %d of the untouched chain does not verify", bad)
	}
	found := 0
	for trial := range trials {
		name := names[trial%len(names)]
		what, want := kinds[name]()
		if got := verify(); got != want {
			t.Errorf("trial %d, %s (%s): first bad row %d, want %d", trial, name, what, got, want)
		} else {
			found++
		}
		for _, q := range []string{"DELETE FROM audit", "INSERT INTO audit SELECT * FROM audit_was", "DELETE FROM audit_head", "INSERT INTO audit_head SELECT * FROM head_was"} {
			exec(q)
		}
	}
	if bad := verify(); bad != 0 {
		t.Fatalf("row %d of the restored chain does not verify", bad)
	}
	t.Logf("tampers=%d found=%d", trials, found)
}

// TestDecisionThatCannotBeAuditedIsNotTaken: no audit row, no decision (I16).
func TestDecisionThatCannotBeAuditedIsNotTaken(t *testing.T) {
	t.Parallel()
	for _, c := range []ledgerCase{sqliteCase(t), postgresCase(t)} {
		t.Run(c.driver, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			db := open(t, syncdb.Config{DSN: c.ledger, Master: keys.GenerateMaster()})
			conn, _, err := db.Connection(ctx, "tenant", "connection")
			ok(t, err)
			p, err := db.SavePlan(ctx, conn.ID, syncdb.Plan{Kind: syncdb.PlanHold}, func(func(syncdb.PlanOp, error) bool) {})
			ok(t, err)
			ok(t, db.Audit(ctx, syncdb.AuditRow{Who: "ada", Action: "test"}))
			raw, err := sql.Open(c.driver, c.direct)
			ok(t, err)
			defer raw.Close()
			for _, damage := range []struct{ how, error string }{
				{`DELETE FROM audit_head`, "audit chain"}, // a chain without its end is not gone on with
				{`DROP TABLE audit`, "audit"},
			} {
				_, err = raw.ExecContext(ctx, damage.how)
				ok(t, err)
				_, err = db.DecidePlan(ctx, conn.ID, p.ID, syncdb.Decision{From: []syncdb.PlanState{syncdb.PlanOpen}, To: syncdb.PlanApproved, Who: "ada"})
				if err == nil || !strings.Contains(err.Error(), damage.error) {
					t.Errorf("decision after %s: got %v, want an error about the audit", damage.how, err)
				}
				if err := db.Audit(ctx, syncdb.AuditRow{Who: "ada", Action: "test"}); err == nil {
					t.Errorf("an audit row was written after %s", damage.how)
				}
				got, err := db.PlanByID(ctx, conn.ID, p.ID)
				ok(t, err)
				if got.State != syncdb.PlanOpen || !got.DecidedAt.IsZero() {
					t.Errorf("after %s the plan is %s, want open", damage.how, got.State)
				}
			}
		})
	}
}
