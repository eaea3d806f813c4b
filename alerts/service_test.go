package alerts_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	gosync "sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/edfisync/edfisync/alerts"
	"github.com/edfisync/edfisync/internal/dbtest"
	"github.com/edfisync/edfisync/internal/keys"
	"github.com/edfisync/edfisync/syncdb"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("database/sql.(*DB).connectionOpener"))
}

// world is a ledger whose clock the test moves, with one connection.
type world struct {
	t          *testing.T
	ledger     *syncdb.DB
	connection alerts.Connection
	clock      *atomic.Int64
}

// onBoth runs a test on an embedded ledger and on PostgreSQL.
func onBoth(t *testing.T, test func(t *testing.T, w *world)) {
	for _, name := range []string{"sqlite", "postgres"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dsn := "sqlite:" + filepath.Join(t.TempDir(), "ledger.db")
			if name == "postgres" {
				dsn = dbtest.Postgres(t)
			}
			w := &world{t: t, clock: &atomic.Int64{}}
			w.clock.Store(time.Now().UnixMilli())
			var err error
			w.ledger, err = syncdb.Open(t.Context(), syncdb.Config{DSN: dsn, Master: keys.GenerateMaster(), Clock: func() time.Time { return time.UnixMilli(w.clock.Load()) }})
			w.ok(err)
			t.Cleanup(func() { w.ledger.Close() })
			c, _, err := w.ledger.Connection(t.Context(), "acme", "north")
			w.ok(err)
			w.connection = alerts.Connection{ID: c.ID, Tenant: "acme", Name: "north", Limits: alerts.Limits{FreshWithin: 26 * time.Hour}}
			test(t, w)
		})
	}
}

func (w *world) ok(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) forward(d time.Duration) { w.clock.Add(d.Milliseconds()) }

// run makes a run that ends so.
func (w *world) run(state syncdb.RunState, failure string) {
	w.t.Helper()
	ctx := w.t.Context()
	_, _, err := w.ledger.RequestRun(ctx, w.connection.ID, "api")
	w.ok(err)
	_, lease, err := w.ledger.StartRun(ctx, w.connection.ID, "test", time.Minute)
	w.ok(err)
	if failure != "" {
		w.ok(w.ledger.NoteFailure(ctx, lease, failure))
	}
	text := ""
	if state == syncdb.RunFailed {
		text = "it failed"
	}
	w.ok(w.ledger.FinishRun(ctx, lease, state, nil, text))
}

// box is a receiver that keeps what it gets.
type box struct {
	name string
	fail atomic.Pointer[error]

	mu  gosync.Mutex
	got []alerts.Notice
}

func (b *box) Name() string      { return b.name }
func (b *box) Wants(string) bool { return true }
func (b *box) notices() []alerts.Notice {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]alerts.Notice(nil), b.got...)
}

func (b *box) Send(_ context.Context, n alerts.Notice) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.got = append(b.got, n)
	if err := b.fail.Load(); err != nil {
		return *err
	}
	return nil
}

// kinds is what a receiver got, in short.
func (b *box) kinds() (out []string) {
	for _, n := range b.notices() {
		out = append(out, n.Kind+" "+string(n.Condition))
	}
	return out
}

// service makes a process that looks when the test says so, unless it is started.
func (w *world) service(change func(*alerts.Config), receivers ...alerts.Receiver) *alerts.Service {
	w.t.Helper()
	c := alerts.Config{
		Ledger: w.ledger, Connections: func(context.Context) ([]alerts.Connection, error) { return []alerts.Connection{w.connection}, nil },
		Receivers: receivers, Damping: alerts.Damping{Quiet: 5 * time.Minute}, Every: 20 * time.Millisecond, AuditEvery: -1, FirstWait: 20 * time.Millisecond,
		SendTime: time.Second,
	}
	if change != nil {
		change(&c)
	}
	s := alerts.New(c)
	w.t.Cleanup(s.Stop)
	return s
}

// eventually waits until a condition holds.
func (w *world) eventually(what string, holds func() bool) {
	w.t.Helper()
	for deadline := time.Now().Add(time.Minute); !holds(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			w.t.Fatal("not in a minute: " + what)
		}
	}
}

// Of many processes that look at the same facts at the same time, one tells a change, and what is told survives all of them.
func TestManyProcessesTellAChangeOnce(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		b := &box{name: "ops"}
		look := func(n int) {
			t.Helper()
			var wg gosync.WaitGroup
			for range n { // each as after a restart: it knows what the ledger knows
				wg.Go(func() {
					if err := w.service(nil, b).Look(t.Context()); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
		}
		w.run(syncdb.RunDone, "")
		look(5)
		for range 4 { // down, up, down: within the quiet time it is one outage
			w.run(syncdb.RunFailed, "target-unreachable")
			look(5)
			w.run(syncdb.RunDone, "")
			look(5)
			w.forward(time.Minute)
		}
		w.forward(5 * time.Minute)
		look(5)
		w.run(syncdb.RunFailed, "source-unreachable")
		look(5)
		for range 3 {
			w.service(nil, b).Start(t.Context())
		}
		want := []string{"firing target-unreachable", "recovered target-unreachable", "firing source-unreachable"}
		w.eventually("all is delivered", func() bool { return len(b.notices()) >= len(want) })
		time.Sleep(100 * time.Millisecond) // others would deliver it now
		if d := cmp.Diff(want, b.kinds()); d != "" {
			t.Errorf("told (-want +got):\n%s", d)
		}
		n := b.notices()[1]
		if n.Tenant != "acme" || n.Connection != "north" || n.Since.IsZero() || n.Title == "" || n.ID == "" {
			t.Errorf("the notice is %+v", n)
		}
	})
}

func TestAReceiverThatHangsKeepsNobodyElseWaitingAndGetsAllInOrder(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		good, bad := &box{name: "good"}, &hanging{box: &box{name: "bad"}}
		bad.hangs.Store(true)
		var outcomes gosync.Map
		s := w.service(func(c *alerts.Config) {
			c.SendTime = 100 * time.Millisecond
			c.Delivered = func(receiver, outcome string) { outcomes.Store(receiver+" "+outcome, true) }
		}, good, bad)
		s.Start(t.Context())
		w.run(syncdb.RunFailed, "")
		w.eventually("the good one is told", func() bool { return len(good.notices()) == 1 })
		w.run(syncdb.RunFailed, "credentials-refused")
		w.eventually("the good one is told more", func() bool { return len(good.notices()) == 2 })
		w.eventually("the bad one has failed", func() bool { w.forward(time.Minute); _, ok := outcomes.Load("bad failed"); return ok })
		bad.hangs.Store(false)
		w.eventually("the bad one is told", func() bool { w.forward(time.Minute); return len(bad.notices()) >= 2 })
		if d := cmp.Diff([]string{"firing run-failed", "firing credentials-refused"}, bad.kinds()[:2]); d != "" {
			t.Errorf("the bad one was told (-want +got):\n%s", d)
		}
	})
}

// hanging is a receiver that does not answer while it hangs.
type hanging struct {
	*box
	hangs atomic.Bool
}

func (h *hanging) Send(ctx context.Context, n alerts.Notice) error {
	if h.hangs.Load() {
		<-ctx.Done()
		return ctx.Err()
	}
	return h.box.Send(ctx, n)
}

// A process that died after it had sent a notice, before it could note so, leaves one that is sent again: with the same id.
func TestANoticeThatMayHaveBeenSentIsSentAgainWithTheSameID(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		b := &box{name: "ops"}
		w.run(syncdb.RunFailed, "")
		w.ok(w.service(nil, b).Look(t.Context()))
		d, found, err := w.ledger.ClaimDelivery(t.Context(), "ops", time.Minute)
		if err != nil || !found || d.Attempts != 1 {
			t.Fatalf("claimed %+v, %t, %v", d, found, err)
		}
		// Sent, and then the process dies.
		s := w.service(nil, b)
		s.Start(t.Context())
		time.Sleep(100 * time.Millisecond)
		if n := b.notices(); len(n) != 0 {
			t.Fatalf("it was sent beside the process that is at it: %v", n)
		}
		w.forward(time.Minute)
		w.eventually("it is sent", func() bool { return len(b.notices()) > 0 })
		if got := b.notices()[0].ID; got != d.ID {
			t.Errorf("sent as %s, was %s", got, d.ID)
		}
		// The one that was held up for so long comes back, and changes nothing.
		w.ok(w.ledger.EndDelivery(t.Context(), d, syncdb.DeliveryEnd{Again: time.Millisecond, Why: "late"}))
		w.forward(time.Hour)
		time.Sleep(100 * time.Millisecond)
		if n := b.notices(); len(n) != 1 {
			t.Errorf("sent %d times", len(n))
		}
	})
}

func TestWhatCannotBeDeliveredIsGivenUp(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		b := &box{name: "ops"}
		no := errors.New("no")
		b.fail.Store(&no)
		var gaveUp atomic.Int64
		s := w.service(func(c *alerts.Config) {
			c.GiveUp = time.Millisecond
			c.Delivered = func(_, outcome string) {
				if outcome == "given-up" {
					gaveUp.Add(1)
				}
			}
		}, b)
		w.run(syncdb.RunFailed, "")
		w.ok(s.Look(t.Context()))
		time.Sleep(10 * time.Millisecond)
		s.Start(t.Context())
		w.eventually("it is given up", func() bool { return gaveUp.Load() == 1 })
		if _, found, err := w.ledger.ClaimDelivery(t.Context(), "ops", time.Minute); found || err != nil {
			t.Errorf("it is still to be delivered, %v", err)
		}
	})
}

func TestNobodyIsToldWhileAnAlertIsMuted(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		ctx, b := t.Context(), &box{name: "ops"}
		s := w.service(func(c *alerts.Config) { c.Damping.Quiet = 0 }, b)
		s.Start(ctx)
		now := time.UnixMilli(w.clock.Load())
		act := syncdb.AuditRow{Who: "ada", Action: "alert.mute", Connection: "acme/north"}
		if _, err := w.ledger.SetMute(ctx, syncdb.AlertMute{Tenant: "acme", Why: "x", Who: "ada", Until: now.Add(time.Hour)}, syncdb.AuditRow{}); err == nil {
			t.Error("muted without a row in the audit trail (I16)")
		}
		m, err := w.ledger.SetMute(ctx, syncdb.AlertMute{Tenant: "acme", ConnectionID: w.connection.ID, Who: "ada", Why: "they move", Until: now.Add(time.Hour)}, act)
		w.ok(err)
		rows, err := w.ledger.FindAudit(ctx, syncdb.AuditFilter{Limit: 1})
		w.ok(err)
		if rows[0].Action != "alert.mute" || rows[0].Object != fmt.Sprint("mute ", m.ID) {
			t.Errorf("the audit trail says %+v", rows[0])
		}
		w.run(syncdb.RunFailed, "")
		firing := func() bool {
			have, err := w.ledger.Alerts(ctx)
			w.ok(err)
			return len(have) == 1 && have[0].Firing && !have[0].Told
		}
		w.eventually("it fires in silence", firing)
		time.Sleep(60 * time.Millisecond)
		if got := b.kinds(); len(got) != 0 {
			t.Errorf("told %v", got)
		}
		w.ok(w.ledger.EndMute(ctx, m.ID, syncdb.AuditRow{Who: "ada", Action: "alert.unmute"}))
		if err := w.ledger.EndMute(ctx, m.ID, syncdb.AuditRow{Who: "ada", Action: "alert.unmute"}); !errors.Is(err, syncdb.ErrNotFound) {
			t.Errorf("ended twice: %v", err)
		}
		w.eventually("what fires still is told", func() bool { return len(b.notices()) == 1 })
	})
}

// changedTrail is a ledger whose audit trail somebody has changed, once changed is set.
type changedTrail struct {
	*syncdb.DB
	changed atomic.Bool
	checks  atomic.Int64
	saved   atomic.Int64
}

func (l *changedTrail) VerifyAudit(ctx context.Context) (int64, error) {
	l.checks.Add(1)
	if l.changed.Load() {
		return 1, nil
	}
	return l.DB.VerifyAudit(ctx)
}

func (l *changedTrail) SaveAuditCheck(ctx context.Context, firstBad int64) error {
	defer l.saved.Add(1)
	return l.DB.SaveAuditCheck(ctx, firstBad)
}

func TestAnAuditTrailThatWasChangedIsAnAlert(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		ctx, b := t.Context(), &box{name: "ops"}
		w.ok(w.ledger.Audit(ctx, syncdb.AuditRow{Who: "ada", Action: "look"}))
		ledger := &changedTrail{DB: w.ledger}
		for range 3 {
			w.service(func(c *alerts.Config) { c.Ledger, c.AuditEvery = ledger, time.Minute }, b).Start(ctx)
		}
		w.eventually("it is checked", func() bool { return ledger.saved.Load() == 1 })
		time.Sleep(60 * time.Millisecond)
		if got := b.kinds(); len(got) != 0 || ledger.checks.Load() != 1 {
			t.Errorf("told %v of a trail that is as it was written, after %d checks", got, ledger.checks.Load())
		}
		ledger.changed.Store(true)
		w.forward(2 * time.Minute)
		w.service(func(c *alerts.Config) { c.Ledger, c.AuditEvery = ledger, time.Minute }, b).Start(ctx) // looks at once
		w.eventually("it is told", func() bool { return len(b.notices()) > 0 })
		if d := cmp.Diff([]string{"firing audit-broken"}, b.kinds()); d != "" {
			t.Errorf("told (-want +got):\n%s", d)
		}
	})
}

func TestOldNoticesAreForgotten(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, w *world) {
		w.run(syncdb.RunFailed, "")
		w.ok(w.service(nil, &box{name: "ops"}).Look(t.Context()))
		for _, want := range []int64{0, 1, 0} {
			if n, err := w.ledger.PurgeNotices(t.Context(), time.Hour); n != want || err != nil {
				t.Errorf("forgot %d, %v, want %d", n, err, want)
			}
			w.forward(2 * time.Hour)
		}
	})
}
