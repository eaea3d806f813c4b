package syncdb_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edfisync/edfisync/internal/keys"
	"github.com/edfisync/edfisync/syncdb"
)

func TestAConnectionIsDefinedChangedAndRemoved(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, db *syncdb.DB, forward func(time.Duration)) {
		ctx := t.Context()
		start := time.Date(2026, 9, 2, 4, 0, 0, 0, time.UTC)
		change := func(from int64, text string) syncdb.Change {
			return syncdb.Change{Tenant: "acme", Name: "one", From: from, Text: json.RawMessage(text), Act: byAda("connection.define")}
		}
		made, err := db.Define(ctx, change(0, `{"a":1}`))
		ok(t, err)
		want := syncdb.Definition{Tenant: "acme", Name: "one", Version: 1, Text: json.RawMessage(`{"a":1}`), Who: "ada", At: start}
		if d := cmp.Diff([]syncdb.Definition{want}, made); d != "" {
			t.Errorf("made (-want +got):\n%s", d)
		}
		for name, from := range map[string]int64{"made again": 0, "changed from a version there never was": 2} {
			if _, err := db.Define(ctx, change(from, `{}`)); !errors.Is(err, syncdb.ErrVersion) {
				t.Errorf("%s: %v", name, err)
			}
		}
		forward(time.Hour)
		two := change(1, `{"a":2}`)
		two.Guarded = true
		two.Secrets = map[string][]byte{"pw": []byte("s3cret")}
		_, err = db.Define(ctx, two)
		ok(t, err)
		if now, err := db.Definition(ctx, "acme", "one"); !now.Guarded || err != nil {
			t.Errorf("it is not guarded: %v", err)
		}
		if value, err := db.OpenSecret(ctx, "acme", "pw"); string(value) != "s3cret" || err != nil {
			t.Errorf("the secret that came with it: %q, %v", value, err)
		}
		// Of two changes in one transaction, one to a version that is gone, none is made; nor are their secrets and audit rows kept.
		other := syncdb.Change{Tenant: "acme", Name: "other", Text: json.RawMessage(`{}`), Secrets: map[string][]byte{"x": []byte("y")}, Act: byAda("never")}
		if _, err := db.Define(ctx, other, change(1, `{}`)); !errors.Is(err, syncdb.ErrVersion) {
			t.Errorf("a change to a version that is gone: %v", err)
		}
		if _, err := db.OpenSecret(ctx, "acme", "x"); !errors.Is(err, syncdb.ErrNotFound) {
			t.Errorf("the secret of a change that was not made: %v", err)
		}
		if got := lastAct(t, db); got != "connection.define" {
			t.Errorf("the last act is %q", got)
		}
		conn, _, err := db.Connection(ctx, "acme", "one")
		ok(t, err)
		run, _, err := db.RequestRun(ctx, conn.ID, "api")
		ok(t, err)
		_, lease, err := db.StartRun(ctx, conn.ID, "test", time.Minute)
		ok(t, err)
		gone := change(2, "")
		gone.Text = nil
		var running *syncdb.RunningError
		if _, err := db.Define(ctx, gone); !errors.As(err, &running) || running.Run != run.ID {
			t.Errorf("removed while it runs: %v", err)
		}
		ok(t, db.FinishRun(ctx, lease, syncdb.RunDone, nil, ""))
		waits, _, err := db.RequestRun(ctx, conn.ID, "api")
		ok(t, err)
		_, err = db.Define(ctx, gone)
		ok(t, err)
		if r, err := db.RunByID(ctx, waits.ID); r.State != syncdb.RunCanceled || err != nil {
			t.Errorf("the run that waited for a connection that was removed is %s: %v", r.State, err)
		}
		if _, err := db.Definition(ctx, "acme", "one"); !errors.Is(err, syncdb.ErrNotFound) {
			t.Errorf("a removed connection: %v", err)
		}
		all, err := db.Definitions(ctx)
		ok(t, err)
		if len(all) != 0 {
			t.Errorf("there are still %v", all)
		}
		again, err := db.Define(ctx, change(0, `{"a":4}`))
		ok(t, err)
		if again[0].Version != 4 {
			t.Errorf("defined again it has version %d, want 4", again[0].Version)
		}
		versions, err := db.DefinitionVersions(ctx, "acme", "one")
		ok(t, err)
		var texts []string
		for _, v := range versions {
			texts = append(texts, string(v.Text))
		}
		if d := cmp.Diff([]string{`{"a":4}`, ``, `{"a":2}`, `{"a":1}`}, texts); d != "" {
			t.Errorf("versions (-want +got):\n%s", d)
		}
	})
}

func TestOfManyWhoChangeAConnectionAtOnceOneDoes(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, db *syncdb.DB, _ func(time.Duration)) {
		var done atomic.Int64
		var wg sync.WaitGroup
		for range 12 {
			wg.Go(func() {
				_, err := db.Define(t.Context(), syncdb.Change{Tenant: "t", Name: "one", Text: json.RawMessage(`{}`), Act: byAda("connection.define")})
				switch {
				case err == nil:
					done.Add(1)
				case !errors.Is(err, syncdb.ErrVersion):
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if done.Load() != 1 {
			t.Errorf("%d made the connection, want one", done.Load())
		}
	})
}

func TestASecretIsSealedForItsTenant(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, db *syncdb.DB, forward func(time.Duration)) {
		ctx := t.Context()
		start := time.Date(2026, 9, 2, 4, 0, 0, 0, time.UTC)
		set := func(tenant, value string) {
			t.Helper()
			_, err := db.SetSecret(ctx, tenant, "pw", []byte(value), byAda("secret.set"))
			ok(t, err)
		}
		set("acme", "first value")
		set("other", "of another tenant")
		forward(time.Minute)
		set("acme", "second value")
		for tenant, want := range map[string]string{"acme": "second value", "other": "of another tenant"} {
			if got, err := db.OpenSecret(ctx, tenant, "pw"); string(got) != want || err != nil {
				t.Errorf("the secret of %s is %q, %v", tenant, got, err)
			}
		}
		got, err := db.Secrets(ctx, "acme")
		ok(t, err)
		if d := cmp.Diff([]syncdb.Secret{{Tenant: "acme", Name: "pw", Version: 2, SetAt: start.Add(time.Minute), SetBy: "ada"}}, got); d != "" {
			t.Errorf("secrets (-want +got):\n%s", d)
		}
		all, err := db.Secrets(ctx, "")
		ok(t, err)
		if len(all) != 2 {
			t.Errorf("all secrets: %v", all)
		}
		_, err = db.Define(ctx, syncdb.Change{Tenant: "acme", Name: "one", Text: json.RawMessage(`{"dsn":"u:${sealed:pw}@h"}`), Act: byAda("connection.define")})
		ok(t, err)
		var used *syncdb.SecretUsedError
		if err := db.RemoveSecret(ctx, "acme", "pw", byAda("secret.remove")); !errors.As(err, &used) || !slices.Equal(used.Connections, []string{"one"}) {
			t.Errorf("removing what a connection needs: %v", err)
		}
		ok(t, db.RemoveSecret(ctx, "other", "pw", byAda("secret.remove")))
		if err := db.RemoveSecret(ctx, "other", "pw", byAda("secret.remove")); !errors.Is(err, syncdb.ErrNotFound) {
			t.Errorf("removed twice: %v", err)
		}
		if value, err := db.OpenSecret(ctx, "acme", "pw"); string(value) != "second value" || err != nil {
			t.Errorf("a secret that could not be removed: %q, %v", value, err)
		}
	})
}

// A secret that somebody with access to the database puts in another's place does not open there.
func TestASealedSecretOpensNowhereElse(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, db *syncdb.DB, _ func(time.Duration)) {
		ctx := t.Context()
		for _, name := range []string{"mine", "yours"} {
			_, err := db.SetSecret(ctx, "acme", name, []byte("of "+name), byAda("secret.set"))
			ok(t, err)
		}
		ok(t, db.ExecForTest(ctx, `UPDATE secret SET sealed = (SELECT sealed FROM secret WHERE name = 'yours') WHERE name = 'mine'`))
		if value, err := db.OpenSecret(ctx, "acme", "mine"); !errors.Is(err, keys.ErrSealBroken) {
			t.Errorf("it opens as %q: %v", value, err)
		}
	})
}

func TestRekeyBringsALedgerUnderAnotherMasterKey(t *testing.T) {
	t.Parallel()
	for _, c := range []ledgerCase{sqliteCase(t), postgresCase(t)} {
		t.Run(c.driver, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			before, after := keys.GenerateMaster(), keys.GenerateMaster()
			db := open(t, syncdb.Config{DSN: c.ledger, Master: before})
			other := open(t, syncdb.Config{DSN: c.ledger, Master: before}) // another process
			_, ring, err := db.Connection(ctx, "acme", "one")
			ok(t, err)
			sealed := ring.Seal(nil, []byte("a natural key"), []byte("here"))
			_, err = db.SetSecret(ctx, "acme", "pw", []byte("s3cret"), byAda("secret.set"))
			ok(t, err)

			n, done, err := db.Rekey(ctx, after, byAda("ledger.rekey"))
			ok(t, err)
			if n != 3 || !done { // of the connection, the tenant, the audit chain
				t.Errorf("%d data keys were wrapped anew, done %v", n, done)
			}
			if _, done, err := db.Rekey(ctx, after, byAda("ledger.rekey")); done || err != nil {
				t.Errorf("repeated: done %v, %v", done, err)
			}
			acts := 0
			rows, err := db.AuditRows(ctx, 0, 0)
			ok(t, err)
			for _, r := range rows {
				if r.Action == "ledger.rekey" {
					acts++
				}
			}
			if acts != 1 {
				t.Errorf("%d audit rows tell of it, want one", acts)
			}

			// A process that has the old key notices, and does nothing that needs it, until it has the new one.
			if err := other.CheckMaster(ctx); !errors.Is(err, keys.ErrWrongMaster) {
				t.Errorf("the other process finds its key right: %v", err)
			}
			if _, _, err := other.Connection(ctx, "acme", "two"); !errors.Is(err, keys.ErrWrongMaster) {
				t.Errorf("it makes a connection under the old key: %v", err)
			}
			if _, err := other.SetSecret(ctx, "new", "pw", []byte("x"), byAda("secret.set")); !errors.Is(err, keys.ErrWrongMaster) {
				t.Errorf("it makes a secret under the old key: %v", err)
			}
			if err := other.Audit(ctx, byAda("anything")); !errors.Is(err, keys.ErrWrongMaster) {
				t.Errorf("it audits under the old key: %v", err)
			}
			if _, _, err := other.Rekey(ctx, keys.GenerateMaster(), byAda("ledger.rekey")); !errors.Is(err, keys.ErrWrongMaster) {
				t.Errorf("it brings the ledger under a third key: %v", err)
			}
			if err := other.UseMaster(ctx, before, keys.GenerateMaster()); !errors.Is(err, keys.ErrWrongMaster) {
				t.Errorf("it takes a wrong key: %v", err)
			}
			ok(t, other.UseMaster(ctx, before, after))
			ok(t, other.Audit(ctx, byAda("anything")))

			if _, err := syncdb.Open(ctx, syncdb.Config{DSN: c.ledger, Master: before}); !errors.Is(err, keys.ErrWrongMaster) {
				t.Errorf("opened with the old key: %v", err)
			}
			again := open(t, syncdb.Config{DSN: c.ledger, Master: before, Next: after}) // as between rekey and the next edit of the configuration
			_, ring, err = again.Connection(ctx, "acme", "one")
			ok(t, err)
			if plain, err := ring.Open(nil, sealed, []byte("here")); string(plain) != "a natural key" || err != nil {
				t.Errorf("what was sealed before opens as %q, %v", plain, err)
			}
			if value, err := again.OpenSecret(ctx, "acme", "pw"); !bytes.Equal(value, []byte("s3cret")) || err != nil {
				t.Errorf("the secret opens as %q, %v", value, err)
			}
			if bad, err := again.VerifyAudit(ctx); bad != 0 || err != nil {
				t.Errorf("the audit chain is broken at %d: %v", bad, err)
			}
		})
	}
}
