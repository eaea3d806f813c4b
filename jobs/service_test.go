package jobs_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	gosync "sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/edfisync/edfisync/internal/dbtest"
	"github.com/edfisync/edfisync/internal/keys"
	"github.com/edfisync/edfisync/jobs"
	"github.com/edfisync/edfisync/syncdb"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("database/sql.(*DB).connectionOpener"))
}

// fleet is some processes that share a ledger and a queue.
type fleet struct {
	t      *testing.T
	ledger *syncdb.DB
	queue  string
	master *keys.Master
	dsn    string
}

// onBoth runs a test beside an embedded ledger and on PostgreSQL.
func onBoth(t *testing.T, test func(t *testing.T, f *fleet)) {
	dir := t.TempDir()
	for name, dsn := range map[string][2]string{
		"sqlite":   {"sqlite:" + filepath.Join(dir, "ledger.db"), "sqlite:" + filepath.Join(dir, "jobs.db")},
		"postgres": {"", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if name == "postgres" {
				url := dbtest.Postgres(t)
				dsn = [2]string{url, url}
			}
			f := &fleet{t: t, queue: dsn[1], master: keys.GenerateMaster(), dsn: dsn[0]}
			var err error
			f.ledger, err = syncdb.Open(t.Context(), syncdb.Config{DSN: f.dsn, Master: f.master, Grace: 200 * time.Millisecond})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { f.ledger.Close() })
			test(t, f)
		})
	}
}

func (f *fleet) connection(name string) int64 {
	f.t.Helper()
	c, _, err := f.ledger.Connection(f.t.Context(), "default", name)
	if err != nil {
		f.t.Fatal(err)
	}
	return c.ID
}

// start starts a process of the fleet.
func (f *fleet) start(name string, workers int, change func(*jobs.Config)) *jobs.Service {
	f.t.Helper()
	c := jobs.Config{
		Ledger: f.ledger, Queue: jobs.QueueConfig{DSN: f.queue, Name: name, Workers: workers, Poll: 100 * time.Millisecond},
		Run: func(ctx context.Context, run syncdb.Run) error {
			return f.run(ctx, name, run, 5*time.Millisecond)
		},
		Sweep: 200 * time.Millisecond, Drain: 5 * time.Second,
	}
	if change != nil {
		change(&c)
	}
	s, err := jobs.Open(f.t.Context(), c)
	if err != nil {
		f.t.Fatal(err)
	}
	if err := s.Start(f.t.Context()); err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() {
		if err := errors.Join(s.Stop(context.Background()), s.Close()); err != nil {
			f.t.Error(err)
		}
	})
	return s
}

// run does the run that waits, as an engine would.
func (f *fleet) run(ctx context.Context, holder string, run syncdb.Run, takes time.Duration) error {
	_, lease, err := f.ledger.StartRun(ctx, run.ConnectionID, holder, time.Minute)
	if err != nil {
		return err
	}
	time.Sleep(takes)
	return f.ledger.FinishRun(context.WithoutCancel(ctx), lease, syncdb.RunDone, nil, "")
}

// eventually waits until a condition holds.
func (f *fleet) eventually(what string, holds func() bool) {
	f.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !holds(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			f.t.Fatal("not in 30 s: " + what)
		}
	}
}

func (f *fleet) states(connection int64) (out []syncdb.RunState) {
	f.t.Helper()
	runs, err := f.ledger.Runs(f.t.Context(), connection, 0)
	if err != nil {
		f.t.Fatal(err)
	}
	for _, r := range runs {
		out = append(out, r.State)
	}
	return out
}

func (f *fleet) idle() bool {
	f.t.Helper()
	open, err := f.ledger.OpenRuns(f.t.Context())
	if err != nil {
		f.t.Fatal(err)
	}
	return len(open) == 0
}

func TestProcessesThatStartAtOnceMakeTheQueueOnce(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, f *fleet) {
		var wg gosync.WaitGroup
		for i := range 6 {
			wg.Go(func() {
				s, err := jobs.Open(t.Context(), jobs.Config{Ledger: f.ledger, Queue: jobs.QueueConfig{DSN: f.queue, Name: fmt.Sprint("process ", i)}})
				if err != nil {
					t.Error(err)
					return
				}
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	})
}

func TestEveryRunIsDoneOnceByOneOfManyProcesses(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, f *fleet) {
		var done gosync.Map
		var overlaps, did atomic.Int64
		work := func(name string) func(*jobs.Config) {
			return func(c *jobs.Config) {
				c.Run = func(ctx context.Context, run syncdb.Run) error {
					_, lease, err := f.ledger.StartRun(ctx, run.ConnectionID, name, time.Minute)
					if err != nil {
						return err
					}
					if _, twice := done.LoadOrStore(lease.RunID, name); twice {
						overlaps.Add(1)
					}
					did.Add(1)
					return f.ledger.FinishRun(ctx, lease, syncdb.RunDone, nil, "")
				}
			}
		}
		var services []*jobs.Service
		for i := range 3 {
			name := fmt.Sprint("process ", i)
			services = append(services, f.start(name, 4, work(name)))
		}
		var connections []int64
		for i := range 50 {
			connections = append(connections, f.connection(fmt.Sprint("district-", i)))
		}
		var asked gosync.WaitGroup
		for i, c := range connections {
			asked.Go(func() {
				if _, _, err := ask(t.Context(), services[i%len(services)], c, "api"); err != nil {
					t.Error(err)
				}
			})
		}
		asked.Wait()
		f.eventually("all runs are done", f.idle)
		for _, c := range connections {
			if got := f.states(c); len(got) != 1 || got[0] != syncdb.RunDone {
				t.Errorf("runs of connection %d: %v, want one that is done", c, got)
			}
		}
		if overlaps.Load() != 0 || did.Load() != int64(len(connections)) {
			t.Errorf("%d runs were done, %d of them twice", did.Load(), overlaps.Load())
		}
	})
}

func TestAThousandCallersGetOneRunAndAtMostOneWaits(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, f *fleet) {
		c := f.connection("district")
		release := make(chan struct{})
		var once gosync.Once
		let := func() { once.Do(func() { close(release) }) }
		t.Cleanup(let)
		s := f.start("process", 4, func(cfg *jobs.Config) {
			cfg.Run = func(ctx context.Context, run syncdb.Run) error {
				_, lease, err := f.ledger.StartRun(ctx, run.ConnectionID, "process", time.Minute)
				if err != nil {
					return err
				}
				<-release
				return f.ledger.FinishRun(context.WithoutCancel(ctx), lease, syncdb.RunDone, nil, "")
			}
		})
		var wg gosync.WaitGroup
		ids := make([]int64, 1000)
		for i := range ids {
			wg.Go(func() {
				run, _, err := ask(t.Context(), s, c, "api")
				if err != nil {
					t.Error(err)
				}
				ids[i] = run.ID
			})
		}
		wg.Wait()
		different := map[int64]bool{}
		for i, id := range ids {
			if id == 0 {
				t.Fatalf("caller %d got no run", i)
			}
			different[id] = true
		}
		if len(different) > 2 {
			t.Errorf("the callers got %d runs, want one that runs and one that waits", len(different))
		}
		let()
		f.eventually("both runs are done", f.idle)
		if n := len(f.states(c)); n > 2 {
			t.Errorf("%d runs were made", n)
		}
	})
}

func TestARunWhoseProcessDiedIsTakenOver(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, f *fleet) {
		c := f.connection("district")
		if _, _, err := f.ledger.RequestRun(t.Context(), c, "api"); err != nil {
			t.Fatal(err)
		}
		if _, _, err := f.ledger.StartRun(t.Context(), c, "a process that dies", 300*time.Millisecond); err != nil {
			t.Fatal(err)
		}
		var tookOver atomic.Int64
		f.start("process", 2, func(cfg *jobs.Config) { cfg.TookOver = func(lost syncdb.Run) { tookOver.Add(lost.ConnectionID) } })
		f.eventually("the next run is done", func() bool { return f.idle() && len(f.states(c)) == 2 })
		if tookOver.Load() != c {
			t.Errorf("told of a take-over of connection %d, want %d, once", tookOver.Load(), c)
		}
		if got := f.states(c); got[0] != syncdb.RunDone || got[1] != syncdb.RunFailed {
			t.Errorf("got runs %v, newest first; want the lost one failed and another done", got)
		}
	})
}

// What a person does himself is his: when his process dies it is marked, nobody goes on with it, and the run that waited meanwhile is done.
func TestAnErrandWhoseProcessDiedIsNobodyElses(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, f *fleet) {
		c := f.connection("district")
		errand, _, err := f.ledger.StartErrand(t.Context(), c, "undo", "a process that dies", 300*time.Millisecond)
		if err != nil {
			t.Fatal(err)
		}
		var tookOver atomic.Int64
		s := f.start("process", 2, func(cfg *jobs.Config) { cfg.TookOver = func(lost syncdb.Run) { tookOver.Add(1) } })
		f.eventually("the errand is marked", func() bool {
			r, err := f.ledger.RunByID(t.Context(), errand.ID)
			return err == nil && r.State == syncdb.RunFailed && r.Error == syncdb.LostErrand
		})
		if got := f.states(c); len(got) != 1 {
			t.Errorf("got runs %v, want none but the errand", got)
		}
		_, lease, err := f.ledger.StartErrand(t.Context(), c, "undo", "another process", time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		asked, _, err := ask(t.Context(), s, c, "api")
		if err != nil {
			t.Fatal(err)
		}
		f.eventually("the run waits for the errand", func() bool {
			r, err := f.ledger.RunByID(t.Context(), asked.ID)
			return err == nil && r.State == syncdb.RunWaiting && r.Wait != nil && r.Wait.For == syncdb.WaitRun
		})
		if err := f.ledger.FinishRun(t.Context(), lease, syncdb.RunDone, nil, ""); err != nil {
			t.Fatal(err)
		}
		f.eventually("the run is done", f.idle)
		if got := f.states(c); len(got) != 3 || got[0] != syncdb.RunDone || tookOver.Load() != 0 {
			t.Errorf("got runs %v, newest first, and %d were taken over; want the one that was asked for done, and none taken over", got, tookOver.Load())
		}
	})
}

func TestARunWhoseDoorbellGotLostIsDone(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, f *fleet) {
		c := f.connection("district")
		if _, _, err := f.ledger.RequestRun(t.Context(), c, "cli"); err != nil { // nobody rings
			t.Fatal(err)
		}
		f.start("process", 2, nil)
		f.eventually("the run is done", f.idle)
	})
}

func TestAPausedConnectionWaitsUntilItIsResumed(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, f *fleet) {
		c, other := f.connection("paused"), f.connection("other")
		act := syncdb.AuditRow{Who: "ada", Action: "connection.pause"}
		if err := f.ledger.SetPause(t.Context(), c, &syncdb.Pause{Who: "ada", Why: "rollover"}, act); err != nil {
			t.Fatal(err)
		}
		s := f.start("process", 2, nil)
		for _, id := range []int64{c, other} {
			if _, _, err := ask(t.Context(), s, id, "api"); err != nil {
				t.Fatal(err)
			}
		}
		f.eventually("the other one is synced", func() bool { return f.states(other)[0] == syncdb.RunDone })
		if got := f.states(c); got[0] != syncdb.RunWaiting {
			t.Errorf("the paused one is %v", got)
		}
		if err := f.ledger.SetPause(t.Context(), c, nil, act); err != nil {
			t.Fatal(err)
		}
		f.eventually("it is synced after all", f.idle)
	})
}

func TestStopLetsARunEnd(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, f *fleet) {
		c := f.connection("district")
		begun := make(chan struct{})
		s := f.start("process", 1, func(cfg *jobs.Config) {
			cfg.Run = func(ctx context.Context, run syncdb.Run) error {
				close(begun)
				return f.run(ctx, "process", run, 300*time.Millisecond)
			}
		})
		if _, _, err := ask(t.Context(), s, c, "api"); err != nil {
			t.Fatal(err)
		}
		<-begun
		if err := s.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := f.states(c); got[0] != syncdb.RunDone {
			t.Errorf("after Stop the run is %v, want done", got)
		}
	})
}

func TestStopAsksARunThatTakesTooLongToEnd(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, f *fleet) {
		c := f.connection("district")
		begun := make(chan struct{})
		s := f.start("process", 1, func(cfg *jobs.Config) {
			cfg.Drain = 100 * time.Millisecond
			cfg.Run = func(ctx context.Context, run syncdb.Run) error {
				_, lease, err := f.ledger.StartRun(ctx, run.ConnectionID, "process", time.Minute)
				if err != nil {
					return err
				}
				close(begun)
				<-ctx.Done()
				return f.ledger.FinishRun(context.WithoutCancel(ctx), lease, syncdb.RunCanceled, nil, "the service stops")
			}
		})
		if _, _, err := ask(t.Context(), s, c, "api"); err != nil {
			t.Fatal(err)
		}
		<-begun
		if err := s.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := f.states(c); got[0] != syncdb.RunCanceled {
			t.Errorf("after Stop the run is %v, want canceled", got)
		}
	})
}

func TestASchedulesTickIsKeptByOneProcess(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, f *fleet) {
		c := f.connection("district")
		schedules := func(context.Context) ([]jobs.Schedule, error) {
			// Its last tick was kept yesterday: one is due now, whatever time it is.
			return []jobs.Schedule{{Connection: c, Cron: "0 2 * * *", CatchUp: 25 * time.Hour, Last: time.Now().Add(-24 * time.Hour)}}, nil
		}
		for i := range 4 {
			f.start(fmt.Sprint("process ", i), 1, func(cfg *jobs.Config) { cfg.Schedules = schedules })
		}
		f.eventually("the scheduled run is done", func() bool { return len(f.states(c)) > 0 && f.idle() })
		time.Sleep(300 * time.Millisecond) // the others look, too
		if got := f.states(c); len(got) != 1 {
			t.Errorf("%d runs were made for one tick", len(got))
		}
	})
}

// ask asks for a run of everything as somebody.
func ask(ctx context.Context, s *jobs.Service, connection int64, reason string) (run syncdb.Run, joined bool, err error) {
	return s.AskAs(ctx, connection, reason, syncdb.RunScope{}, syncdb.AuditRow{Who: "test", Action: "run.ask"})
}
