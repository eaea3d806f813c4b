package syncdb_test

import (
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/edfisync/edfisync/internal/keys"
	"github.com/edfisync/edfisync/syncdb"
)

// table is all rows of a table of testdata/ledger-1.json: a ledger as the program before migration 2 left it, when it died in its second run
// with two results not folded and three calls open. Bytes are written as "hex:" and digits. The values are SQLite's; PostgreSQL's are the same.
type table struct {
	Name    string   `json:"table"`
	Columns []string `json:"columns"`
	Rows    [][]any  `json:"rows"`
}

// oldLedger makes the ledger of schema version 1 and returns its configuration, a connection to its database, and its tables.
func oldLedger(t *testing.T, c ledgerCase) (syncdb.Config, *sql.DB, []table) {
	t.Helper()
	master, err := keys.ParseMaster(strings.Repeat("5a", keys.Size))
	ok(t, err)
	now := time.Date(2026, 9, 2, 4, 0, 10, 0, time.UTC) // ten seconds after the second run was started
	cfg := syncdb.Config{DSN: c.ledger, Master: master, Clock: func() time.Time { return now }}
	db, err := syncdb.Open(t.Context(), cfg)
	ok(t, err)
	ok(t, db.MigrateDownTo(t.Context(), 1))
	ok(t, db.Close())

	b, err := os.ReadFile("testdata/ledger-1.json")
	ok(t, err)
	var tables []table
	ok(t, json.Unmarshal(b, &tables))
	raw, err := sql.Open(c.driver, c.direct)
	ok(t, err)
	t.Cleanup(func() { raw.Close() })
	_, err = raw.ExecContext(t.Context(), `DELETE FROM meta`)
	ok(t, err)
	for _, tb := range tables {
		values, identity := make([]string, len(tb.Columns)), ""
		for i := range values {
			values[i] = fmt.Sprintf("$%d", i+1)
		}
		if c.driver == "postgres" {
			identity = "OVERRIDING SYSTEM VALUE "
		}
		for _, row := range tb.Rows {
			args := make([]any, len(row))
			for i, v := range row {
				args[i] = v
				if s, is := v.(string); is && strings.HasPrefix(s, "hex:") {
					args[i], err = hex.DecodeString(s[len("hex:"):])
					ok(t, err)
				}
				if f, is := v.(float64); is {
					args[i] = int64(f)
				}
			}
			_, err := raw.ExecContext(t.Context(), fmt.Sprintf(`INSERT INTO %s (%s) %sVALUES (%s)`, tb.Name, strings.Join(tb.Columns, ", "), identity,
				strings.Join(values, ", ")), args...)
			ok(t, err)
		}
		if c.driver == "postgres" && tb.Columns[0] == "id" {
			_, err := raw.ExecContext(t.Context(), fmt.Sprintf(`SELECT setval(pg_get_serial_sequence('%s', 'id'), max(id)) FROM %s`, tb.Name, tb.Name))
			ok(t, err)
		}
	}
	return cfg, raw, tables
}

// read returns the same tables and columns as they are now.
func read(t *testing.T, db *sql.DB, tables []table) []table {
	t.Helper()
	out := make([]table, len(tables))
	for i, tb := range tables {
		out[i] = table{Name: tb.Name, Columns: tb.Columns}
		rows, err := db.QueryContext(t.Context(), `SELECT `+strings.Join(tb.Columns, ", ")+` FROM `+tb.Name)
		ok(t, err)
		defer rows.Close()
		for rows.Next() {
			row, places := make([]any, len(tb.Columns)), make([]any, len(tb.Columns))
			for j := range row {
				places[j] = &row[j]
			}
			ok(t, rows.Scan(places...))
			for j, v := range row {
				switch v := v.(type) {
				case []byte:
					row[j] = "hex:" + hex.EncodeToString(v)
				case int64:
					row[j] = float64(v)
				}
			}
			out[i].Rows = append(out[i].Rows, row)
		}
		ok(t, rows.Err())
	}
	return out
}

var inAnyOrder = cmpopts.SortSlices(func(a, b []any) bool { return fmt.Sprint(a) < fmt.Sprint(b) })

// TestOldLedgerIsUpgraded: what an old program left, calls in flight included, is there for the new one, and its new tables work (T8).
func TestOldLedgerIsUpgraded(t *testing.T) {
	t.Parallel()
	for _, c := range []ledgerCase{sqliteCase(t), postgresCase(t)} {
		t.Run(c.driver, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			cfg, raw, tables := oldLedger(t, c)
			db := open(t, cfg)
			if d := cmp.Diff(tables, read(t, raw, tables), inAnyOrder); d != "" {
				t.Errorf("the upgrade changed what was there (-before +after):\n%s", d)
			}
			conn, _, err := db.Connection(ctx, "north district", "students 2027")
			ok(t, err)
			ps, err := db.Problems(ctx, conn.ID, syncdb.ProblemFilter{})
			ok(t, err)
			if len(ps) != 4 || ps[0].BlockedResource != "" || !ps[0].BlockedKey.IsZero() || string(ps[0].BlockedBy) != `{"resource":"ed-fi/students"}` {
				t.Errorf("got problems %+v, want the four of the old program", ps)
			}
			rejected, err := db.Rejected(ctx, conn.ID, "ed-fi/students")
			ok(t, err)
			if d := cmp.Diff(map[syncdb.Hash]syncdb.Hash{mixed(5002): mixed(5004)}, rejected); d != "" {
				t.Errorf("rejected (-want +got):\n%s", d)
			}

			// The old process may be alive: its lease holds. Then the new one takes over and finds out what came of its calls.
			var busy *syncdb.BusyError
			if _, _, err := db.StartRun(ctx, conn.ID, "new program", time.Minute); !errors.As(err, &busy) || busy.Holder != "old program" {
				t.Errorf("start beside the old program: got %v, want a BusyError", err)
			}
			later := cfg
			later.Clock = func() time.Time { return cfg.Clock().Add(time.Hour) }
			db = open(t, later)
			run, l, err := db.StartRun(ctx, conn.ID, "new program", time.Minute)
			ok(t, err)
			if run.ID != 3 {
				t.Errorf("got run %d, want the one that waited", run.ID)
			}
			if n, err := db.Open(ctx, conn.ID); err != nil || n != 3 {
				t.Errorf("%d open intents, %v, want 3", n, err)
			}
			if err := db.PutEntries(ctx, l, "ed-fi/students", nil); !errors.Is(err, syncdb.ErrUnsettled) {
				t.Errorf("entries put past the old program's journal: got %v, want ErrUnsettled", err)
			}
			stats, err := db.Recover(ctx, l)
			ok(t, err)
			if d := cmp.Diff(syncdb.RecoverStats{Folded: 2, Open: 3}, stats); d != "" {
				t.Errorf("recovered (-want +got):\n%s", d)
			}
			entries, err := db.Lookup(ctx, conn.ID, "ed-fi/students", []syncdb.Hash{mixed(1), mixed(2), mixed(3), mixed(7), mixed(31), mixed(33)})
			ok(t, err)
			for n, want := range map[uint64]struct {
				state  syncdb.State
				origin syncdb.Origin
				id     string
			}{
				1: {syncdb.Live, syncdb.Created, "id-000001"}, 2: {syncdb.Unknown, syncdb.Created, "id-000002"}, 3: {syncdb.Unknown, syncdb.Created, "id-000003"},
				7: {syncdb.Live, syncdb.Met, "id-000007"}, 31: {syncdb.Live, syncdb.Created, "id-000031"}, 33: {syncdb.Unknown, syncdb.Created, ""},
			} {
				e := entries[mixed(n)]
				if e.State != want.state || e.Origin != want.origin || e.EdfiID != want.id || string(e.Key) != fmt.Sprintf(`["%06d"]`, n) {
					t.Errorf("entry %d is %+v, want %+v", n, e, want)
				}
			}
			if n, err := db.Count(ctx, conn.ID, "ed-fi/students"); err != nil || n != 23 {
				t.Errorf("%d students, %v, want 23", n, err)
			}
			keepSomething(t, db, conn.ID, l)
			ok(t, db.FinishRun(ctx, l, syncdb.RunDone, nil, ""))
		})
	}
}

// keepSomething writes to every table of migrations 2 and 4.
func keepSomething(t *testing.T, db *syncdb.DB, conn int64, l syncdb.Lease) {
	t.Helper()
	ctx := t.Context()
	op := syncdb.PlanOp{Step: 1, Resource: "ed-fi/students", Verb: syncdb.Delete, KeyHash: mixed(1)}
	held, err := db.SaveHold(ctx, l, syncdb.Plan{Resource: "ed-fi/students", Verb: syncdb.Delete, Rule: "delete-percent"},
		func(yield func(syncdb.PlanOp, error) bool) { yield(op, nil) })
	ok(t, err)
	_, err = db.DecidePlan(ctx, conn, held.ID, syncdb.Decision{From: []syncdb.PlanState{syncdb.PlanOpen}, To: syncdb.PlanApproved, Who: "ada", Why: "they left"})
	ok(t, err)
	ok(t, db.SaveAttempts(ctx, l, []syncdb.Attempt{{Op: 1, Resource: "ed-fi/students", Verb: syncdb.Create, KeyHash: mixed(1), Payload: []byte(`{}`)}}))
	ok(t, db.SetTarget(ctx, l, syncdb.TargetState{ChangeVersion: 17}))
	ok(t, db.SaveReceipt(ctx, l, syncdb.Receipt{RunID: l.RunID, Document: json.RawMessage(`{}`)}))
	ok(t, db.SaveProblems(ctx, l, []syncdb.Problem{{
		Resource: "ed-fi/studentSchoolAssociations", SourceHash: mixed(5004), Outcome: "blocked", Code: "parent", BlockedResource: "ed-fi/students",
		BlockedKey: mixed(1),
	}}))
	_, err = db.CreateKey(ctx, syncdb.APIKey{ID: "key", Name: "key", Role: "viewer", CreatedBy: "ada"}, syncdb.AuditRow{Who: "ada", Action: "key.create"})
	ok(t, err)
	ok(t, db.CreateSession(ctx, syncdb.Session{KeyID: "key", ExpiresAt: time.Now()}, syncdb.AuditRow{Who: "ada", Action: "session.open"}))
	_, err = db.KeepAsked(ctx, syncdb.AskedRun{Owner: "key", Key: "1", RunID: l.RunID})
	ok(t, err)
	if bad, err := db.VerifyAudit(ctx); bad != 0 || err != nil {
		t.Errorf("audit row %d does not verify, %v", bad, err)
	}
}

// TestUpgradeCanBeTakenBack: taking migration 2 back leaves the ledger as the old program knew it, calls in flight included, whatever the new
// program kept in its own tables; and it can be upgraded again.
func TestUpgradeCanBeTakenBack(t *testing.T) {
	t.Parallel()
	for _, c := range []ledgerCase{sqliteCase(t), postgresCase(t)} {
		t.Run(c.driver, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			cfg, raw, tables := oldLedger(t, c)
			db := open(t, cfg)
			south, _, err := db.Connection(ctx, "south district", "students 2027")
			ok(t, err)
			before := read(t, raw, tables)
			_, err = db.SavePlan(ctx, south.ID, syncdb.Plan{Kind: syncdb.PlanSaved}, func(func(syncdb.PlanOp, error) bool) {})
			ok(t, err)
			ok(t, db.Audit(ctx, syncdb.AuditRow{Who: "ada", Action: "test"}))
			ok(t, db.MigrateDownTo(ctx, 1))
			if d := cmp.Diff(before, read(t, raw, tables), inAnyOrder); d != "" {
				t.Errorf("going back changed what was there (-before +after):\n%s", d)
			}
			var columns int
			count := `SELECT count(*) FROM pragma_table_info('problem')`
			if c.driver == "postgres" {
				count = `SELECT count(*) FROM information_schema.columns WHERE table_name = 'problem' AND table_schema = current_schema()`
			}
			ok(t, raw.QueryRowContext(ctx, count).Scan(&columns))
			if columns != 10 {
				t.Errorf("problem has %d columns, want the 10 of the old schema", columns)
			}
			for _, name := range []string{"plan", "plan_segment", "history", "target", "receipt", "audit", "audit_head", "api_key", "session", "request", "run_log"} {
				if rows, err := raw.QueryContext(ctx, `SELECT 1 FROM `+name); err == nil {
					rows.Close()
					t.Errorf("table %s is still there", name)
				}
			}

			db = open(t, cfg)
			plans, err := db.Plans(ctx, south.ID, syncdb.PlanFilter{})
			ok(t, err)
			if len(plans) != 0 {
				t.Errorf("got plans %+v after going back and forth, want none", plans)
			}
			_, _, err = db.RequestRun(ctx, south.ID, "cli")
			ok(t, err)
			_, l, err := db.StartRun(ctx, south.ID, "new program", time.Minute)
			ok(t, err)
			keepSomething(t, db, south.ID, l)
		})
	}
}
