package syncdb_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edfisync/edfisync/syncdb"
)

func hash32(b byte) (h [32]byte) {
	h[0], h[31] = b, b
	return h
}

func byAda(action string) syncdb.AuditRow { return syncdb.AuditRow{Who: "ada", Action: action} }

// lastAct is the action of the newest audit row.
func lastAct(t *testing.T, db *syncdb.DB) string {
	t.Helper()
	rows, err := db.FindAudit(t.Context(), syncdb.AuditFilter{Limit: 1})
	ok(t, err)
	if len(rows) == 0 {
		return ""
	}
	return rows[0].Action
}

func TestAKeyIsMadeRotatedAndRevoked(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, db *syncdb.DB, forward func(time.Duration)) {
		ctx := t.Context()
		start := time.Date(2026, 9, 2, 4, 0, 0, 0, time.UTC)
		made, err := db.CreateKey(ctx, syncdb.APIKey{
			ID: "k1", Name: "SIS button", Role: "operator", Tenant: "acme", StudentData: true, Networks: []string{"10.0.0.0/8", "2001:db8::/32"}, CreatedBy: "ada",
			ExpiresAt: start.Add(24 * time.Hour), Hash: hash32(1),
		}, byAda("key.create"))
		ok(t, err)
		want := syncdb.APIKey{
			ID: "k1", Name: "SIS button", Role: "operator", Tenant: "acme", StudentData: true, Networks: []string{"10.0.0.0/8", "2001:db8::/32"}, CreatedBy: "ada",
			CreatedAt: start, ExpiresAt: start.Add(24 * time.Hour), Hash: hash32(1),
		}
		if d := cmp.Diff(want, made); d != "" {
			t.Errorf("made (-want +got):\n%s", d)
		}
		if got := lastAct(t, db); got != "key.create" {
			t.Errorf("the last act is %q", got)
		}
		_, err = db.CreateKey(ctx, syncdb.APIKey{ID: "k2", Name: "SIS button", Role: "viewer", Tenant: "acme", CreatedBy: "ada", Hash: hash32(2)}, byAda("key.create"))
		if !errors.Is(err, syncdb.ErrKeyName) {
			t.Errorf("a second key of the name: %v", err)
		}
		_, err = db.CreateKey(ctx, syncdb.APIKey{ID: "k3", Name: "SIS button", Role: "viewer", CreatedBy: "ada", Hash: hash32(3)}, byAda("key.create"))
		ok(t, err) // of another tenant

		forward(time.Minute)
		got, err := db.RotateKey(ctx, "k1", hash32(4), time.Hour, byAda("key.rotate"))
		ok(t, err)
		want.Hash, want.OldHash, want.OldUntil, want.RotatedAt = hash32(4), hash32(1), start.Add(61*time.Minute), start.Add(time.Minute)
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("rotated (-want +got):\n%s", d)
		}
		ok(t, db.UseKey(ctx, "k1"))
		forward(time.Minute)
		got, err = db.RevokeKey(ctx, "k1", byAda("key.revoke"))
		ok(t, err)
		want.UsedAt, want.RevokedAt = start.Add(time.Minute), start.Add(2*time.Minute)
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("revoked (-want +got):\n%s", d)
		}
		if got := lastAct(t, db); got != "key.revoke" {
			t.Errorf("the last act is %q", got)
		}
		for name, err := range map[string]error{
			"rotate": second(db.RotateKey(ctx, "k1", hash32(5), 0, byAda("x"))), "revoke": second(db.RevokeKey(ctx, "k1", byAda("x"))),
		} {
			if !errors.Is(err, syncdb.ErrKeyRevoked) {
				t.Errorf("%s a revoked key: %v", name, err)
			}
		}
		if err := second(db.RevokeKey(ctx, "none", byAda("x"))); !errors.Is(err, syncdb.ErrNotFound) {
			t.Errorf("revoke no key: %v", err)
		}
		if err := second(db.APIKey(ctx, "none")); !errors.Is(err, syncdb.ErrNotFound) {
			t.Errorf("read no key: %v", err)
		}
		// The name is free again.
		_, err = db.CreateKey(ctx, syncdb.APIKey{ID: "k5", Name: "SIS button", Role: "viewer", Tenant: "acme", CreatedBy: "ada", Hash: hash32(6)}, byAda("key.create"))
		ok(t, err)
		all, err := db.APIKeys(ctx)
		ok(t, err)
		var ids []string
		for _, k := range all {
			ids = append(ids, k.ID)
		}
		if d := cmp.Diff([]string{"k3", "k1", "k5"}, ids); d != "" {
			t.Errorf("keys (-want +got):\n%s", d)
		}
	})
}

func second[T any](_ T, err error) error { return err }

func TestNothingIsDoneWithKeysThatCannotBeAudited(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, db *syncdb.DB, _ func(time.Duration)) {
		ctx := t.Context()
		nobody := syncdb.AuditRow{Action: "x"} // names nobody, so it cannot be written
		k := syncdb.APIKey{ID: "k1", Name: "k", Role: "viewer", CreatedBy: "ada", Hash: hash32(1)}
		if err := second(db.CreateKey(ctx, k, nobody)); err == nil {
			t.Error("made")
		}
		k, err := db.CreateKey(ctx, k, byAda("key.create"))
		ok(t, err)
		conn, _, err := db.Connection(ctx, "tenant", "connection")
		ok(t, err)
		run, _, err := db.RequestRun(ctx, conn.ID, "api")
		ok(t, err)
		if second(db.RotateKey(ctx, "k1", hash32(2), 0, nobody)) == nil || second(db.RevokeKey(ctx, "k1", nobody)) == nil ||
			db.CreateSession(ctx, syncdb.Session{Hash: hash32(3), KeyID: "k1", ExpiresAt: time.Now()}, nobody) == nil || second(db.CancelRun(ctx, run.ID, nobody)) == nil {
			t.Error("something was done")
		}
		got, err := db.APIKey(ctx, "k1")
		ok(t, err)
		if d := cmp.Diff(k, got); d != "" {
			t.Errorf("the key changed (-before +after):\n%s", d)
		}
		if run, err = db.RunByID(ctx, run.ID); err != nil || run.State != syncdb.RunWaiting {
			t.Errorf("the run is %s, %v", run.State, err)
		}
	})
}

func TestASessionLivesAsLongAsItsKey(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, db *syncdb.DB, forward func(time.Duration)) {
		ctx := t.Context()
		start := time.Date(2026, 9, 2, 4, 0, 0, 0, time.UTC)
		for i, expires := range []time.Time{{}, start.Add(30 * time.Minute)} {
			_, err := db.CreateKey(ctx, syncdb.APIKey{
				ID: fmt.Sprint("k", i), Name: fmt.Sprint("key ", i), Role: "approver", Tenant: "acme", StudentData: true, CreatedBy: "ada", Hash: hash32(byte(i)), ExpiresAt: expires,
			}, byAda("key.create"))
			ok(t, err)
		}
		end := start.Add(time.Hour)
		ok(t, db.CreateSession(ctx, syncdb.Session{Hash: hash32(1), KeyID: "k0", Name: "old name", Role: "admin", ExpiresAt: end}, byAda("session.open")))
		ok(t, db.CreateSession(ctx, syncdb.Session{Hash: hash32(2), KeyID: "k1", ExpiresAt: end}, byAda("session.open")))
		ok(t, db.CreateSession(ctx, syncdb.Session{Hash: hash32(3), Subject: "ada@idp", Name: "Ada", Role: "viewer", Tenant: "b", ExpiresAt: end}, byAda("session.open")))
		got, err := db.Session(ctx, hash32(1))
		ok(t, err)
		want := syncdb.Session{Hash: hash32(1), KeyID: "k0", Name: "key 0", Role: "approver", Tenant: "acme", StudentData: true, CreatedAt: start, ExpiresAt: end}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("by key (-want +got):\n%s", d)
		}
		got, err = db.Session(ctx, hash32(3))
		ok(t, err)
		want = syncdb.Session{Hash: hash32(3), Subject: "ada@idp", Name: "Ada", Role: "viewer", Tenant: "b", CreatedAt: start, ExpiresAt: end}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("by identity provider (-want +got):\n%s", d)
		}
		gone := func(what string, n byte) {
			t.Helper()
			if err := second(db.Session(ctx, hash32(n))); !errors.Is(err, syncdb.ErrNotFound) {
				t.Errorf("%s: %v, want none", what, err)
			}
		}
		gone("one that never was", 9)
		_, err = db.RevokeKey(ctx, "k0", byAda("key.revoke"))
		ok(t, err)
		gone("the session of a revoked key", 1)
		forward(31 * time.Minute)
		gone("the session of a key that expired", 2)
		ok(t, second(db.Session(ctx, hash32(3))))
		forward(29 * time.Minute)
		gone("a session that ended", 3)
		ok(t, db.CreateSession(ctx, syncdb.Session{Hash: hash32(4), Subject: "x", ExpiresAt: start.Add(5 * time.Hour)}, byAda("session.open")))
		ok(t, db.EndSession(ctx, hash32(4)))
		ok(t, db.EndSession(ctx, hash32(4)))
		gone("a session that was ended", 4)
	})
}

func TestARequestIsAnsweredOnceADay(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, db *syncdb.DB, forward func(time.Duration)) {
		ctx := t.Context()
		var wg sync.WaitGroup
		answers := make([]syncdb.AskedRun, 20)
		for i := range answers {
			wg.Go(func() {
				var err error
				answers[i], err = db.KeepAsked(ctx, syncdb.AskedRun{Owner: "k1", Key: "abc", Fingerprint: "f", RunID: int64(i + 1)})
				if err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		got, err := db.Asked(ctx, "k1", "abc")
		ok(t, err)
		for _, a := range answers {
			if a != got {
				t.Fatalf("one was answered %+v, another %+v", a, got)
			}
		}
		if err := second(db.Asked(ctx, "k2", "abc")); !errors.Is(err, syncdb.ErrNotFound) {
			t.Errorf("somebody else's key: %v", err)
		}
		forward(24 * time.Hour)
		if err := second(db.Asked(ctx, "k1", "abc")); !errors.Is(err, syncdb.ErrNotFound) {
			t.Errorf("after a day: %v", err)
		}
		again, err := db.KeepAsked(ctx, syncdb.AskedRun{Owner: "k1", Key: "abc", Fingerprint: "g", RunID: 77})
		ok(t, err)
		if again.RunID != 77 {
			t.Errorf("after a day the key stands for run %d", again.RunID)
		}
	})
}

func TestARunIsCanceledWhereverItIs(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, db *syncdb.DB, _ func(time.Duration)) {
		ctx := t.Context()
		conn, _, err := db.Connection(ctx, "tenant", "connection")
		ok(t, err)
		waiting, _, err := db.RequestRun(ctx, conn.ID, "api")
		ok(t, err)
		got, err := db.CancelRun(ctx, waiting.ID, byAda("run.cancel"))
		ok(t, err)
		if got.State != syncdb.RunCanceled || got.EndedAt.IsZero() || got.Error == "" || lastAct(t, db) != "run.cancel" {
			t.Errorf("the waiting run is %+v", got)
		}
		var state *syncdb.RunStateError
		if err := second(db.CancelRun(ctx, waiting.ID, byAda("again"))); !errors.As(err, &state) || state.State != syncdb.RunCanceled || lastAct(t, db) != "run.cancel" {
			t.Errorf("cancel it again: %v", err)
		}
		_, _, err = db.RequestRun(ctx, conn.ID, "api")
		ok(t, err)
		run, lease, err := db.StartRun(ctx, conn.ID, "process", time.Minute)
		ok(t, err)
		next, _, err := db.RequestRun(ctx, conn.ID, "api")
		ok(t, err)
		for range 2 {
			if got, err = db.CancelRun(ctx, run.ID, byAda("run.cancel")); err != nil || got.State != syncdb.RunRunning {
				t.Errorf("the running run is %s, %v", got.State, err)
			}
		}
		if _, cancel, err := db.Renew(ctx, lease); !cancel || err != nil {
			t.Errorf("its process is not told: %v", err)
		}
		ok(t, db.FinishRun(ctx, lease, syncdb.RunCanceled, nil, ""))
		if got, err = db.RunByID(ctx, next.ID); err != nil || got.State != syncdb.RunWaiting {
			t.Errorf("the next run is %s, %v", got.State, err)
		}
		if err := second(db.CancelRun(ctx, 999, byAda("x"))); !errors.Is(err, syncdb.ErrNoRun) {
			t.Errorf("cancel no run: %v", err)
		}
	})
}

func TestPagesAreNarrowedToATenant(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, db *syncdb.DB, _ func(time.Duration)) {
		ctx := t.Context()
		ids := map[string]int64{}
		for _, name := range []string{"a/one", "a/two", "ab/one", "default/one"} {
			tenant, n := name[:len(name)-4], name[len(name)-3:]
			conn, _, err := db.Connection(ctx, tenant, n)
			ok(t, err)
			ids[name] = conn.ID
			for range 2 {
				_, _, err = db.RequestRun(ctx, conn.ID, name)
				ok(t, err)
				_, l, err := db.StartRun(ctx, conn.ID, "process", time.Minute)
				ok(t, err)
				ok(t, db.SaveProgress(ctx, l.RunID, []byte(`{"done":1}`)))
				ok(t, db.SaveReceipt(ctx, l, syncdb.Receipt{RunID: l.RunID, Document: []byte(`{}`)}))
				ok(t, db.FinishRun(ctx, l, syncdb.RunDone, nil, ""))
			}
			ok(t, db.Audit(ctx, syncdb.AuditRow{Who: "ada", Action: "act", Connection: name}))
		}
		ok(t, db.Audit(ctx, syncdb.AuditRow{Who: "ada", Action: "act"}))
		ok(t, db.Audit(ctx, syncdb.AuditRow{Who: "ada", Action: "act", Connection: "a/"}))
		runs := func(f syncdb.RunFilter) (out []int64) {
			t.Helper()
			found, err := db.FindRuns(ctx, f)
			ok(t, err)
			for _, r := range found {
				out = append(out, r.ID)
			}
			return out
		}
		for _, c := range []struct {
			f    syncdb.RunFilter
			want []int64
		}{
			{syncdb.RunFilter{}, []int64{8, 7, 6, 5, 4, 3, 2, 1}},
			{syncdb.RunFilter{Tenant: "a"}, []int64{4, 3, 2, 1}},
			{syncdb.RunFilter{Tenant: "a", Before: 4, Limit: 2}, []int64{3, 2}},
			{syncdb.RunFilter{Tenant: "a", Connection: ids["ab/one"]}, nil},
			{syncdb.RunFilter{Connection: ids["a/two"]}, []int64{4, 3}},
			{syncdb.RunFilter{State: syncdb.RunRunning}, nil},
			{syncdb.RunFilter{Tenant: "' OR 1=1 --"}, nil},
		} {
			if d := cmp.Diff(c.want, runs(c.f)); d != "" {
				t.Errorf("runs of %+v (-want +got):\n%s", c.f, d)
			}
		}
		var acts []string
		rows, err := db.FindAudit(ctx, syncdb.AuditFilter{Tenant: "a"})
		ok(t, err)
		for _, r := range rows {
			acts = append(acts, r.Connection)
		}
		if d := cmp.Diff([]string{"a/", "a/two", "a/one"}, acts); d != "" {
			t.Errorf("audit rows (-want +got):\n%s", d)
		}
		rows, err = db.FindAudit(ctx, syncdb.AuditFilter{Before: 3, Limit: 1})
		ok(t, err)
		if len(rows) != 1 || rows[0].ID != 2 {
			t.Errorf("got %+v", rows)
		}
		last, done, err := db.LastRuns(ctx)
		ok(t, err)
		if len(last) != 4 || len(done) != 4 || last[ids["a/one"]].ID != 2 || done[ids["default/one"]].ID != 8 {
			t.Errorf("last %v, done %v", last, done)
		}
		receipts, err := db.ReceiptsBefore(ctx, ids["a/one"], 2, 5)
		ok(t, err)
		if len(receipts) != 1 || receipts[0].RunID != 1 {
			t.Errorf("receipts %+v", receipts)
		}
		p, err := db.FindProgress(ctx, 1)
		ok(t, err)
		if p.ID != 1 || p.State != syncdb.RunDone || string(p.Progress) != `{"done":1}` || p.ProgressAt.IsZero() {
			t.Errorf("progress %+v", p)
		}
		_, _, err = db.RequestRun(ctx, ids["a/one"], "x")
		ok(t, err)
		_, l, err := db.StartRun(ctx, ids["a/one"], "process", time.Minute)
		ok(t, err)
		ok(t, db.SaveProgress(ctx, l.RunID, []byte(`{"done":2}`)))
		_, _, err = db.RequestRun(ctx, ids["a/one"], "x")
		ok(t, err)
		_, _, err = db.RequestRun(ctx, ids["ab/one"], "x")
		ok(t, err)
		for tenant, want := range map[string]string{"": "9 running {\"done\":2}; 10 waiting ; 11 waiting ; ", "a": "9 running {\"done\":2}; 10 waiting ; ", "b": ""} {
			open, err := db.OpenProgress(ctx, tenant)
			ok(t, err)
			got := ""
			for _, r := range open {
				got += fmt.Sprintf("%d %s %s; ", r.ID, r.State, r.Progress)
			}
			if got != want {
				t.Errorf("open runs of %q: %s, want %s", tenant, got, want)
			}
		}
		if err := second(db.FindProgress(ctx, 99)); !errors.Is(err, syncdb.ErrNoRun) {
			t.Errorf("progress of no run: %v", err)
		}
		if err := second(db.FindPlan(ctx, 99)); !errors.Is(err, syncdb.ErrNotFound) {
			t.Errorf("no plan: %v", err)
		}
		if _, _, err := db.FindIssue(ctx, 99); !errors.Is(err, syncdb.ErrNotFound) {
			t.Errorf("no issue: %v", err)
		}
	})
}
