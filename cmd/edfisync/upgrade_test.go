package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/pressly/goose/v3"

	"github.com/edfisync/edfisync/internal/failpoint"
)

// T8: a ledger of schema 1 with open intents, as a killed run of the program before leaves it, is upgraded by a program that is killed while it
// does so. The next one finds the old schema or the new, never something between, and converges. EDFISYNC_TEST_UPGRADES says how many kills
// are made (default 3); make upgrade makes 20 at random and one at each end of the migration.
func TestKill9InAnUpgrade(t *testing.T) {
	t.Parallel()
	w := newPointWorld(t, failpointProgram(t))
	w.finish()
	seed := uint64(wanted(t, "EDFISYNC_TEST_SEED", int(time.Now().Unix())))
	t.Logf("EDFISYNC_TEST_SEED=%d", seed)
	r := rand.New(rand.NewPCG(seed, 8))
	before, after, missed := 0, 0, 0
	moment := 20 * time.Millisecond // about where the migration is, found by trying: machines differ
	kills := wanted(t, "EDFISYNC_TEST_UPGRADES", 3) + 2
	for i := range kills {
		k := kind(i % int(firstLoad))
		w.edit(k)
		wound := killCase{point: failpoint.CallAfter, kind: k, nth: 4, verbs: true}
		if e := w.start(wound.order(), 0); !e.diedAt(wound.point) {
			t.Fatalf("the run of the old program was not killed\n%s", e.output)
		}
		w.downgrade()
		open := w.open()
		if v := w.schemaVersion(); v != 1 || open == 0 {
			t.Fatalf("the old ledger has schema %d and %d open intents", v, open)
		}
		what := fmt.Sprintf("upgrade %d", i)
		var e ended
		switch i {
		case 0:
			e = w.start(string(failpoint.MigrateBefore)+":1", 0)
		case 1:
			e = w.start(string(failpoint.MigrateAfter)+":1", 0)
		default:
			e = w.start("", time.Duration(r.Int64N(int64(2*moment)))+time.Millisecond)
		}
		switch v := w.schemaVersion(); {
		case !e.killed:
			missed++
			moment = moment * 2 / 3
		case v == 1:
			before++
			moment = moment * 5 / 4
		default:
			after++
			moment = moment * 4 / 5
		}
		w.settled(what, open+w.open())
		if v := w.schemaVersion(); v < 2 {
			t.Errorf("%s: the ledger has schema %d afterwards", what, v)
		}
	}
	t.Logf("%d kills: %d left schema 1, %d the new one, %d came too late", kills, before, after, missed)
	if before == 0 || after == 0 {
		t.Error("the kills were all on one side of the migration")
	}
}

// downgrade gives the ledger the schema of the version before, as its own migration takes it back.
func (w *pointWorld) downgrade() {
	w.t.Helper()
	db, err := sqlx.Open("sqlite", "file:"+filepath.Join(w.dir, "work", "ledger.sqlite")+"?_pragma=busy_timeout(5000)")
	w.ok(err)
	defer db.Close()
	p, err := goose.NewProvider(goose.DialectSQLite3, db.DB, os.DirFS(filepath.Join("..", "..", "syncdb", "migrations", "sqlite")),
		goose.WithTableName("ledger_version"), goose.WithDisableGlobalRegistry(true))
	w.ok(err)
	_, err = p.DownTo(w.t.Context(), 1)
	w.ok(err)
}

// schemaVersion is the newest migration the ledger has.
func (w *pointWorld) schemaVersion() (v int) {
	w.t.Helper()
	db, err := sqlx.Open("sqlite", "file:"+filepath.Join(w.dir, "work", "ledger.sqlite")+"?_pragma=busy_timeout(5000)")
	w.ok(err)
	defer db.Close()
	w.ok(db.GetContext(w.t.Context(), &v, `select max(version_id) from ledger_version`))
	return v
}
