package syncdb_test

import (
	"bytes"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/edfisync/edfisync/internal/dbtest"
	"github.com/edfisync/edfisync/internal/keys"
	"github.com/edfisync/edfisync/syncdb"
)

func TestOpenRefusesWithPlaceAndRemedy(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	garbage := filepath.Join(dir, "garbage.db")
	if err := os.WriteFile(garbage, bytes.Repeat([]byte("not a database "), 1000), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		dsn  string
		want string
	}{
		"no address":                       {"", "sqlite:"},
		"another scheme":                   {"mysql://root:hunter2@host/db", "postgres://"},
		"no file":                          {"sqlite:", "path of a file"},
		"memory, which would not last":     {"sqlite::memory:", "path of a file"},
		"a folder":                         {"sqlite:" + dir, dir},
		"a folder that is not there":       {"sqlite:" + dir + "/none/ledger.db", dir + "/none/ledger.db"},
		"a file that is not a database":    {"sqlite:" + garbage, garbage},
		"no server":                        {"postgres://user:hunter2@127.0.0.1:1/ledger?sslmode=disable", "user:xxxxx@127.0.0.1:1/ledger"},
		"an address that cannot be parsed": {"postgres://user:hunter2%zz@host/ledger", "not a valid URL"},
		"an unknown setting":               {"postgres://user:hunter2@127.0.0.1:1/ledger?sslmode=perhaps", "user:xxxxx@127.0.0.1:1/ledger"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := syncdb.Open(t.Context(), syncdb.Config{DSN: c.dsn, Master: keys.GenerateMaster()})
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("got %v, want an error with %q and without the password", err, c.want)
			}
		})
	}
	if _, err := syncdb.Open(t.Context(), syncdb.Config{DSN: "sqlite:" + filepath.Join(dir, "x.db")}); err == nil {
		t.Error("a ledger was opened without a master key")
	}
}

func TestOpenRefusesTheWrongMasterKeyAndANewerSchema(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		driver string
		ledger string // its address
		direct string // for database/sql
	}{sqliteCase(t), postgresCase(t)} {
		t.Run(c.driver, func(t *testing.T) {
			t.Parallel()
			master := keys.GenerateMaster()
			open(t, syncdb.Config{DSN: c.ledger, Master: master})
			_, err := syncdb.Open(t.Context(), syncdb.Config{DSN: c.ledger, Master: keys.GenerateMaster()})
			if !errors.Is(err, keys.ErrWrongMaster) {
				t.Errorf("another master key: got %v, want ErrWrongMaster", err)
			}
			db, err := sql.Open(c.driver, c.direct)
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			if _, err := db.ExecContext(t.Context(), `UPDATE ledger_version SET version_id = 999 WHERE version_id = 1`); err != nil {
				t.Fatal(err)
			}
			_, err = syncdb.Open(t.Context(), syncdb.Config{DSN: c.ledger, Master: master})
			if err == nil || !strings.Contains(err.Error(), "999") {
				t.Errorf("a newer schema: got %v, want an error with its version", err)
			}
		})
	}
}

type ledgerCase = struct{ driver, ledger, direct string }

func sqliteCase(t *testing.T) ledgerCase {
	path := filepath.Join(t.TempDir(), "ledger.db")
	return ledgerCase{"sqlite", "sqlite:" + path, path}
}

func postgresCase(t *testing.T) ledgerCase {
	dsn := dbtest.Postgres(t)
	return ledgerCase{"postgres", dsn, dsn}
}

func TestProcessesThatStartAtOnceShareANewLedger(t *testing.T) {
	t.Parallel()
	for _, c := range []ledgerCase{sqliteCase(t), postgresCase(t)} {
		t.Run(c.driver, func(t *testing.T) {
			t.Parallel()
			master := keys.GenerateMaster()
			ids := make([]string, 4)
			var wg sync.WaitGroup
			for i := range ids {
				wg.Go(func() {
					db, err := syncdb.Open(t.Context(), syncdb.Config{DSN: c.ledger, Master: master})
					if err != nil {
						t.Error(err)
						return
					}
					defer db.Close()
					conn, _, err := db.Connection(t.Context(), "tenant", "connection")
					if err != nil {
						t.Error(err)
						return
					}
					ledger, _, err := db.Identity(t.Context())
					if err != nil {
						t.Error(err)
					}
					ids[i] = fmt.Sprint(ledger, conn.ID)
				})
			}
			wg.Wait()
			for _, id := range ids {
				if id != ids[0] {
					t.Errorf("got ledgers and connections %q, want one", ids)
				}
			}
		})
	}
}

func TestPostgresWithoutDurableCommitsIsRefused(t *testing.T) {
	t.Parallel()
	dsn := dbtest.Postgres(t) + "&options=-c%20synchronous_commit%3Doff"
	_, err := syncdb.Open(t.Context(), syncdb.Config{DSN: dsn, Master: keys.GenerateMaster()})
	if err == nil || !strings.Contains(err.Error(), "synchronous_commit") {
		t.Errorf("got %v, want an error about synchronous_commit", err)
	}
}

// TestNothingOfAStudentIsInClear writes unique markers everywhere a value of a student may go and looks for them in every byte kept.
func TestNothingOfAStudentIsInClear(t *testing.T) {
	t.Parallel()
	const resource = "ed-fi/students"
	for _, c := range []ledgerCase{sqliteCase(t), postgresCase(t)} {
		t.Run(c.driver, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			db := open(t, syncdb.Config{DSN: c.ledger, Master: keys.GenerateMaster()})
			conn, _, err := db.Connection(ctx, "tenant", "connection")
			ok(t, err)
			_, _, err = db.RequestRun(ctx, conn.ID, "cli")
			ok(t, err)
			_, l, err := db.StartRun(ctx, conn.ID, "holder", time.Hour)
			ok(t, err)
			var markers []string
			mark := func(kind string, n int) string {
				m := fmt.Sprintf("MARKER-%s-%04d-Åsa", kind, n)
				markers = append(markers, m)
				return m
			}
			var intents []syncdb.Intent
			var results []syncdb.Result
			var problems []syncdb.Problem
			var attempts []syncdb.Attempt
			for i := range 100 {
				op := uint64(i + 1)
				intents = append(intents, syncdb.Intent{
					Op: op, Verb: syncdb.Create, Resource: resource, KeyHash: mixed(op), RecordHash: mixed(op), Key: []byte(mark("key", i)),
				})
				results = append(results, syncdb.Result{Op: op, Effect: syncdb.EffectLive, EdfiID: fmt.Sprint(i), Origin: syncdb.Created})
				problems = append(problems, syncdb.Problem{
					Resource: resource, SourceHash: mixed(op), Outcome: "invalid", Code: "code", Cause: "cause", Owner: "mapping",
					SourceKey: mark("source", i), Detail: []byte(mark("detail", i)), BlockedBy: []byte(mark("blocked", i)),
				})
				attempts = append(attempts, syncdb.Attempt{
					Op: op, Resource: resource, Verb: syncdb.Create, KeyHash: mixed(op), Key: []byte(mark("sent key", i)),
					Payload: []byte(mark("sent payload", i)), Answer: []byte(mark("answer", i)),
				})
			}
			ok(t, db.Append(ctx, l, 1, intents[:50], nil))
			ok(t, db.Append(ctx, l, 1, nil, results[:50]))
			_, err = db.Fold(ctx, l, 1)
			ok(t, err)
			ok(t, db.Append(ctx, l, 2, intents[50:], nil)) // stays in the journal
			ok(t, db.SaveProblems(ctx, l, problems))
			for part := range slices.Chunk(attempts, 10) { // few in a segment compress badly: a marker would show
				ok(t, db.SaveAttempts(ctx, l, part))
			}
			for range 2 {
				_, err = db.SavePlan(ctx, conn.ID, syncdb.Plan{Kind: syncdb.PlanSaved}, func(yield func(syncdb.PlanOp, error) bool) {
					yield(syncdb.PlanOp{Resource: resource, Verb: syncdb.Delete, KeyHash: mixed(1)}, nil)
				})
				ok(t, err)
			}
			if len(markers) < 200 {
				t.Fatalf("only %d markers", len(markers))
			}
			kept := everything(t, c)
			if !bytes.Contains(kept, []byte("ed-fi/students")) {
				t.Fatal("the search does not see what is in clear")
			}
			for _, m := range markers {
				if bytes.Contains(kept, []byte(m)) || bytes.Contains(kept, fmt.Appendf(nil, "%x", m)) {
					t.Errorf("%s is kept in clear", m)
				}
			}

			// Sealed values do not open in another row, so that nobody can pass one record off as another.
			raw, err := sql.Open(c.driver, c.direct)
			ok(t, err)
			defer raw.Close()
			for _, statement := range []string{
				`UPDATE entry SET key_sealed = (SELECT max(key_sealed) FROM entry)`,
				`UPDATE problem SET content_sealed = (SELECT max(content_sealed) FROM problem)`,
				`UPDATE plan_segment SET body_sealed = (SELECT max(body_sealed) FROM plan_segment)`,
				`UPDATE history SET run_id = run_id + 1`,
			} {
				if c.driver == "postgres" { // has no max(bytea)
					statement = strings.NewReplacer("max(key_sealed)", "key_sealed", "max(content_sealed)", "content_sealed", "max(body_sealed)", "body_sealed",
						"FROM entry)", "FROM entry LIMIT 1)", "FROM problem)", "FROM problem LIMIT 1)", "FROM plan_segment)", "FROM plan_segment LIMIT 1)").Replace(statement)
				}
				_, err := raw.ExecContext(ctx, statement)
				ok(t, err)
			}
			if err := db.Each(ctx, conn.ID, resource, func(*syncdb.Entry) error { return nil }); !errors.Is(err, keys.ErrSealBroken) {
				t.Errorf("entries with another row's key: got %v, want ErrSealBroken", err)
			}
			if _, err := db.Problems(ctx, conn.ID, syncdb.ProblemFilter{}); !errors.Is(err, keys.ErrSealBroken) {
				t.Errorf("problems with another row's content: got %v, want ErrSealBroken", err)
			}
			plans, err := db.Plans(ctx, conn.ID, syncdb.PlanFilter{})
			ok(t, err)
			var broken int
			for _, p := range plans { // one of the two has its own ops still
				if err := db.PlanOps(ctx, conn.ID, p.ID, func(syncdb.PlanOp) error { return nil }); errors.Is(err, keys.ErrSealBroken) {
					broken++
				}
			}
			if len(plans) != 2 || broken != 1 {
				t.Errorf("%d of %d plans do not open, want one of two", broken, len(plans))
			}
			if err := db.AttemptsOfRun(ctx, conn.ID, l.RunID+1, func(*syncdb.Attempt) error { return nil }); !errors.Is(err, keys.ErrSealBroken) {
				t.Errorf("history under another run: got %v, want ErrSealBroken", err)
			}
		})
	}
}

// everything returns every byte of the SQLite files, or every value of every table of a PostgreSQL database.
func everything(t *testing.T, c ledgerCase) []byte {
	t.Helper()
	var all []byte
	if c.driver == "sqlite" {
		files, err := filepath.Glob(c.direct + "*")
		ok(t, err)
		if len(files) < 2 {
			t.Fatalf("got files %v, want the database and its WAL", files)
		}
		for _, f := range files {
			info, err := os.Stat(f)
			ok(t, err)
			if info.Mode().Perm() != 0o600 {
				t.Errorf("%s can be read by others: mode %v", filepath.Base(f), info.Mode().Perm())
			}
			b, err := os.ReadFile(f)
			ok(t, err)
			all = append(all, b...)
		}
		return all
	}
	db, err := sql.Open(c.driver, c.direct)
	ok(t, err)
	defer db.Close()
	for _, table := range []string{"meta", "connection", "resource", "scope", "entry", "lease", "run", "step", "journal", "issue", "problem", "plan",
		"plan_segment", "history", "target", "receipt", "audit", "audit_head"} {
		rows, err := db.QueryContext(t.Context(), `SELECT * FROM `+table)
		ok(t, err)
		defer rows.Close()
		columns, err := rows.Columns()
		ok(t, err)
		values := make([]any, len(columns))
		for i := range values {
			values[i] = new(sql.RawBytes)
		}
		for rows.Next() {
			ok(t, rows.Scan(values...))
			for _, v := range values {
				all = append(append(all, *v.(*sql.RawBytes)...), 0)
			}
		}
		ok(t, rows.Err())
	}
	return all
}
