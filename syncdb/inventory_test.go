package syncdb_test

import (
	"encoding/json"
	"path/filepath"
	"testing"
	"time"

	"github.com/edfisync/edfisync/internal/dbtest"
	"github.com/edfisync/edfisync/internal/keys"
	"github.com/edfisync/edfisync/syncdb"
)

func TestInventoryCountsWhatTheLedgerHolds(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"sqlite", "postgres"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			dsn := "sqlite:" + filepath.Join(t.TempDir(), "ledger.db")
			if kind == "postgres" {
				dsn = dbtest.Postgres(t)
			}
			ctx := t.Context()
			d, err := syncdb.Open(ctx, syncdb.Config{DSN: dsn, Master: keys.GenerateMaster()})
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			c, _, err := d.Connection(ctx, "default", "one")
			if err != nil {
				t.Fatal(err)
			}
			if _, _, err := d.RequestRun(ctx, c.ID, "test"); err != nil {
				t.Fatal(err)
			}
			_, l, err := d.StartRun(ctx, c.ID, "test", time.Minute)
			if err != nil {
				t.Fatal(err)
			}
			entry := syncdb.Entry{
				Resource: "ed-fi/students", KeyHash: syncdb.Hash{1}, RecordHash: syncdb.Hash{2}, EdfiID: "id", Key: []byte(`{}`), State: syncdb.Live, Origin: syncdb.Adopted, RunID: l.RunID,
			}
			if err := d.PutEntries(ctx, l, "ed-fi/students", []syncdb.Entry{entry}); err != nil {
				t.Fatal(err)
			}
			problem := func(n byte, cause string) syncdb.Problem {
				return syncdb.Problem{
					Resource: "ed-fi/students", SourceHash: syncdb.Hash{n}, Outcome: "invalid", Code: "required-missing", Cause: cause, Owner: "source data", SourceKey: "Lovelace",
				}
			}
			if err := d.SaveProblems(ctx, l, []syncdb.Problem{problem(3, "birthDate"), problem(4, "birthDate"), problem(5, "lastSurname")}); err != nil {
				t.Fatal(err)
			}
			if err := d.FinishRun(ctx, l, syncdb.RunDone, json.RawMessage(`{}`), ""); err != nil {
				t.Fatal(err)
			}
			got, err := d.Inventory(ctx)
			if err != nil {
				t.Fatal(err)
			}
			rows := map[string]int64{}
			for _, table := range got.Tables {
				rows[table.Table] = table.Rows
			}
			if got.Kind != kind || got.Database == "" || got.Schema < 4 || got.Bytes < 10_000 || rows["run"] != 1 || rows["problem"] != 3 || rows["issue"] != 2 {
				t.Errorf("got %+v", got)
			}
			if len(got.Entries) != 1 || got.Entries[0] != (syncdb.EntryCount{Connection: c.ID, Resource: "ed-fi/students", Entries: 1}) {
				t.Errorf("entries: got %+v", got.Entries)
			}
			counts, err := d.IssueCounts(ctx)
			want := syncdb.IssueCount{Connection: c.ID, Resource: "ed-fi/students", Code: "required-missing", Owner: "source data", Outcome: "invalid", Issues: 2, Rows: 3}
			if err != nil || len(counts) != 1 || counts[0] != want {
				t.Errorf("issues: got %+v, %v, want %+v", counts, err, want)
			}
		})
	}
}
