package syncdb_test

import (
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edfisync/edfisync/internal/keys"
	"github.com/edfisync/edfisync/syncdb"
)

// entered writes entries of students to the ledger, each of a state and an origin.
func (w *keptWorld) entered(conn int64, as ...[2]int) {
	w.Helper()
	for i, e := range as {
		hash := fmt.Sprintf("%032x", i+1)
		literal := "x'" + hash + "'"
		if w.c.driver != "sqlite" {
			literal = `'\x` + hash + `'`
		}
		_, err := w.raw.ExecContext(w.Context(), fmt.Sprintf(`INSERT INTO entry (connection_id, resource_id, natural_key_hash, full_record_hash, state, origin, run_id, edfi_id, key_sealed)
			SELECT %d, id, %s, %s, %d, %d, 1, 'an-id', %s FROM resource WHERE path = 'ed-fi/students'`, conn, literal, literal, e[0], e[1], literal))
		ok(w.T, err)
	}
}

// TestAConnectionThatIsForgottenLeavesNothingOfItsRecords, and its runs, receipts and the audit trail stay, as does what is of others.
func TestAConnectionThatIsForgottenLeavesNothingOfItsRecords(t *testing.T) {
	t.Parallel()
	onBothKept(t, func(w *keptWorld) {
		ctx := w.Context()
		w.run("birthDate", true)
		live, unknown, missing := int(syncdb.Live), int(syncdb.Unknown), int(syncdb.Missing)
		created, adopted, met := 1, 2, int(syncdb.Met)
		entries := [][2]int{{live, created}, {live, adopted}, {unknown, created}, {missing, created}, {live, met}}
		w.entered(w.conn, entries...)
		other, _, err := w.Connection(ctx, "default", "other")
		ok(w.T, err)
		w.entered(other.ID, [2]int{live, created})

		have, err := w.HoldingsOf(ctx, "default", "one")
		ok(w.T, err)
		want := syncdb.Holdings{Owned: 3, Met: 1, Resources: []syncdb.ResourceHolding{{Resource: "ed-fi/students", Owned: 3, Met: 1}}}
		if d := cmp.Diff(want, have); d != "" {
			w.Errorf("it has (-want +got):\n%s", d)
		}
		if have, err = w.HoldingsOf(ctx, "default", "nobody"); err != nil || !have.None() {
			w.Errorf("a connection there never was has %+v, %v", have, err)
		}

		_, err = w.Define(ctx, syncdb.Change{Tenant: "default", Name: "one", Text: json.RawMessage(`{}`), Act: byAda("connection.create")})
		ok(w.T, err)
		if err := w.Forget(ctx, "default", "one", byAda("never")); !errors.Is(err, syncdb.ErrVersion) {
			w.Errorf("forgotten while it is defined: %v", err)
		}
		remove := syncdb.Change{Tenant: "default", Name: "one", From: 1, Forget: true, Act: byAda("connection.remove")}
		_, _, err = w.RequestRun(ctx, w.conn, "cron")
		ok(w.T, err)
		_, l, err := w.StartRun(ctx, w.conn, "holder", time.Minute)
		ok(w.T, err)
		var running *syncdb.RunningError
		if _, err := w.Define(ctx, remove); !errors.As(err, &running) {
			w.Errorf("removed while it runs: %v", err)
		}
		ok(w.T, w.FinishRun(ctx, l, syncdb.RunDone, json.RawMessage(`{}`), ""))
		_, err = w.Define(ctx, remove)
		ok(w.T, err)

		for _, table := range []string{"entry", "journal", "problem", "issue", "ranking", "plan", "history", "target", "scope"} {
			if n := w.count(fmt.Sprintf(`SELECT count(*) FROM %s WHERE connection_id = %d`, table, w.conn)); n != 0 {
				w.Errorf("%d rows of %s are left", n, table)
			}
		}
		for table, want := range map[string]int{"run": 2, "receipt": 1, "connection": 2, "entry": 1} {
			if n := w.count(`SELECT count(*) FROM ` + table); n != want {
				w.Errorf("%s has %d rows, want %d", table, n, want)
			}
		}
		if got := lastAct(w.T, w.DB); got != "connection.remove" {
			w.Errorf("the last act is %q", got)
		}

		w.entered(w.conn, entries...)
		ok(w.T, w.Forget(ctx, "default", "one", byAda("connection.remove")))
		if have, err = w.HoldingsOf(ctx, "default", "one"); err != nil || !have.None() || have.Met != 0 {
			w.Errorf("it has %+v, %v", have, err)
		}
		w.run("birthDate", true) // a connection of that name begins anew
		w.verified()
	})
}

// TestAConnectionIsNotRemovedUnderARunThatIsJustBegun: the removal waits for a process that is about to get the lease, and finds its run (I7). SQLite lets
// one transaction write at a time.
func TestAConnectionIsNotRemovedUnderARunThatIsJustBegun(t *testing.T) {
	t.Parallel()
	c := postgresCase(t)
	ctx := t.Context()
	db := open(t, syncdb.Config{DSN: c.ledger, Master: keys.GenerateMaster()})
	conn, _, err := db.Connection(ctx, "default", "one")
	ok(t, err)
	_, err = db.Define(ctx, syncdb.Change{Tenant: "default", Name: "one", Text: json.RawMessage(`{}`), Act: byAda("connection.create")})
	ok(t, err)
	raw, err := sql.Open(c.driver, c.direct)
	ok(t, err)
	defer raw.Close()

	begin, err := raw.BeginTx(ctx, nil) // as StartErrand does, up to its commit
	ok(t, err)
	defer func() { _ = begin.Rollback() }()
	var holder int
	ok(t, begin.QueryRowContext(ctx, `SELECT pg_backend_pid()`).Scan(&holder))
	_, err = begin.ExecContext(ctx, `SELECT 1 FROM lease WHERE connection_id = $1 FOR UPDATE`, conn.ID)
	ok(t, err)
	_, err = begin.ExecContext(ctx, `INSERT INTO run (connection_id, state, reason, errand, asked, created_at, started_at) VALUES ($1, 'running', 'undo', 1, 1, 1, 1)`, conn.ID)
	ok(t, err)
	removed := make(chan error, 1)
	go func() {
		_, err := db.Define(ctx, syncdb.Change{Tenant: "default", Name: "one", From: 1, Forget: true, Act: byAda("connection.remove")})
		removed <- err
	}()
	for waits := false; !waits && len(removed) == 0; { // until it waits for that transaction, or went past it
		ok(t, raw.QueryRowContext(ctx, `SELECT count(*) > 0 FROM pg_stat_activity WHERE $1 = ANY (pg_blocking_pids(pid))`, holder).Scan(&waits))
	}
	ok(t, begin.Commit())
	var running *syncdb.RunningError
	if err := <-removed; !errors.As(err, &running) {
		t.Errorf("removed while a run began: %v, want a RunningError", err)
	}
}
