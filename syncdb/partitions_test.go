package syncdb_test

import (
	"context"
	"database/sql"
	"fmt"
	"testing"
	"time"

	"github.com/edfisync/edfisync/internal/dbtest"
	"github.com/edfisync/edfisync/internal/keys"
	"github.com/edfisync/edfisync/syncdb"
)

// On PostgreSQL the rows that are not in sync are in one of 64 partitions, by connection. What is done for a connection visits its partition, and what is
// done for all those that have issues visits theirs: never all 64, which each issue would be looked up in.
func TestRowsThatAreNotInSyncAreLookedUpInTheirPartition(t *testing.T) {
	t.Parallel()
	dsn, master := dbtest.Postgres(t), keys.GenerateMaster()
	const resource = "ed-fi/students"
	var connections []syncdb.Connection
	ledger := func(do func(ctx context.Context, d *syncdb.DB) error) {
		t.Helper()
		d, err := syncdb.Open(t.Context(), syncdb.Config{DSN: dsn, Master: master})
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		if err := do(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}
	begin := func(ctx context.Context, d *syncdb.DB, c syncdb.Connection) (syncdb.Lease, error) {
		if _, _, err := d.RequestRun(ctx, c.ID, "test"); err != nil {
			return syncdb.Lease{}, err
		}
		_, l, err := d.StartRun(ctx, c.ID, "test", time.Minute)
		return l, err
	}
	// Each connection has a run, in which do is called.
	each := func(do func(ctx context.Context, d *syncdb.DB, l syncdb.Lease) error) func(ctx context.Context, d *syncdb.DB) error {
		return func(ctx context.Context, d *syncdb.DB) error {
			for _, c := range connections {
				l, err := begin(ctx, d, c)
				if err == nil {
					err = do(ctx, d, l)
				}
				if err == nil {
					err = d.FinishRun(ctx, l, syncdb.RunDone, nil, "")
				}
				if err != nil {
					return err
				}
			}
			return nil
		}
	}
	problems := func(from, to byte) (out []syncdb.Problem) {
		for n := from; n <= to; n++ { // each of its own cause
			out = append(out, syncdb.Problem{
				Resource: resource, SourceHash: syncdb.Hash{n}, Outcome: "invalid", Code: "required-missing", Cause: fmt.Sprint(n), Owner: "source data", SourceKey: "x",
			})
		}
		return out
	}
	ledger(func(ctx context.Context, d *syncdb.DB) error {
		for i := range 2 {
			c, _, err := d.Connection(ctx, "default", fmt.Sprint("c", i))
			if err != nil {
				return err
			}
			connections = append(connections, c)
		}
		return each(func(ctx context.Context, d *syncdb.DB, l syncdb.Lease) error {
			return d.SaveProblems(ctx, l, problems(1, 9))
		})(ctx, d)
	})
	look := func() *sql.DB {
		db, err := sql.Open("postgres", dsn)
		if err != nil {
			t.Fatal(err)
		}
		return db
	}
	var own int
	first := look()
	err := first.QueryRowContext(t.Context(), `SELECT count(DISTINCT tableoid) FROM problem`).Scan(&own)
	first.Close() // what it read is counted now, and not in one of the cases
	if err != nil || own == 0 {
		t.Fatalf("%d partitions, %v", own, err)
	}
	counting := look()
	defer counting.Close()
	cases := []struct {
		name string
		do   func(ctx context.Context, d *syncdb.DB) error
	}{
		{"a run closes what it did not see, of one resource", each(func(ctx context.Context, d *syncdb.DB, l syncdb.Lease) error {
			if err := d.SaveProblems(ctx, l, problems(1, 8)); err != nil {
				return err
			}
			n, err := d.CloseProblems(ctx, l, []string{resource})
			return wanted(n, 1, err)
		})},
		{"a run closes what it did not see, of all resources", each(func(ctx context.Context, d *syncdb.DB, l syncdb.Lease) error {
			if err := d.SaveProblems(ctx, l, problems(1, 7)); err != nil {
				return err
			}
			n, err := d.CloseProblems(ctx, l, nil)
			return wanted(n, 1, err)
		})},
		{"a run of a part closes rows", each(func(ctx context.Context, d *syncdb.DB, l syncdb.Lease) error {
			n, err := d.CloseProblemsOf(ctx, l, resource, []syncdb.Hash{{7}})
			return wanted(n, 1, err)
		})},
		{"rows were set right at the target", each(func(ctx context.Context, d *syncdb.DB, l syncdb.Lease) error {
			n, err := d.DropProblems(ctx, l, resource, []syncdb.Hash{{6}})
			return wanted(n, 1, err)
		})},
		{"issues of all connections are counted", func(ctx context.Context, d *syncdb.DB) error {
			counts, err := d.IssueCounts(ctx)
			if err != nil || len(counts) != 2 || counts[0].Rows != 5 || counts[0].Issues != 5 || counts[1].Rows != 5 {
				return fmt.Errorf("%+v %w", counts, err)
			}
			return nil
		}},
		{"settled issues are looked for that are old", func(ctx context.Context, d *syncdb.DB) error {
			n, err := d.Purgeable(ctx, syncdb.ClassIssues, 0, time.Now().Add(time.Hour))
			return wanted(int(n), 2*4, err)
		}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			before := partitionsRead(t, counting)
			ledger(c.do)
			var read []string
			for name, n := range partitionsRead(t, counting) {
				if n > before[name] {
					read = append(read, name)
				}
			}
			if len(read) != own {
				t.Errorf("it read %d partitions, the rows are in %d: %v", len(read), own, read)
			}
		})
	}
}

func wanted(n, want int, err error) error {
	if err == nil && n != want {
		err = fmt.Errorf("%d rows, want %d", n, want)
	}
	return err
}

// partitionsRead is how often each partition of the rows that are not in sync was read, all clients together. Figures of a client are whole when it is gone.
func partitionsRead(t *testing.T, db *sql.DB) map[string]int64 {
	t.Helper()
	for others := 1; others > 0; time.Sleep(10 * time.Millisecond) {
		if err := db.QueryRowContext(t.Context(), `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'client backend'
			AND pid <> pg_backend_pid()`).Scan(&others); err != nil {
			t.Fatal(err)
		}
	}
	rows, err := db.QueryContext(t.Context(), `SELECT relname, coalesce(seq_scan, 0) + coalesce(idx_scan, 0) FROM pg_stat_user_tables WHERE relname LIKE 'problem\_%'`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	out := map[string]int64{}
	for rows.Next() {
		var name string
		var n int64
		if err := rows.Scan(&name, &n); err != nil {
			t.Fatal(err)
		}
		out[name] = n
	}
	if err := rows.Err(); err != nil || len(out) != 64 {
		t.Fatalf("%d partitions, %v", len(out), err)
	}
	return out
}
