package jobs_test

import (
	"database/sql"
	"fmt"
	"strings"
	"testing"
	"time"

	_ "github.com/lib/pq"

	"github.com/edfisync/edfisync/syncdb"
)

// doorbells counts the jobs of the queue that are not over.
func (f *fleet) doorbells() int {
	f.t.Helper()
	driver, dsn, table := "postgres", f.queue, "river.river_job"
	if path, embedded := strings.CutPrefix(f.queue, "sqlite:"); embedded {
		driver, dsn, table = "sqlite", "file:"+path, "river_job"
	}
	db, err := sql.Open(driver, dsn)
	if err != nil {
		f.t.Fatal(err)
	}
	defer db.Close()
	var n int
	if err := db.QueryRowContext(f.t.Context(), `SELECT count(*) FROM `+table+` WHERE finalized_at IS NULL`).Scan(&n); err != nil {
		f.t.Fatal(err)
	}
	return n
}

// A connection that is paused for a week must not be rung for a million times.
func TestDoorbellsOfARunThatWaitsDoNotPileUp(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, f *fleet) {
		c := f.connection("paused")
		act := syncdb.AuditRow{Who: "ada", Action: "connection.pause"}
		if err := f.ledger.SetPause(t.Context(), c, &syncdb.Pause{Who: "ada", Why: "rollover"}, act); err != nil {
			t.Fatal(err)
		}
		s := f.start("process 0", 1, nil)
		for i := range 3 {
			f.start(fmt.Sprint("process ", i+1), 1, nil)
		}
		if _, _, err := ask(t.Context(), s, c, "api"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second) // ten sweeps of each
		if n := f.doorbells(); n > 1 {
			t.Errorf("%d doorbells ring for one run, want one at most", n)
		}
	})
}
