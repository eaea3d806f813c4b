package jobs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	gosync "sync"
	"time"

	"github.com/edfisync/edfisync/syncdb"
)

// Ledger is what jobs needs of the ledger. *syncdb.DB is one.
type Ledger interface {
	// RequestRun asks for a run of a connection; when one waits already, that is the answer, and joined is true.
	RequestRun(ctx context.Context, connection int64, reason string) (run syncdb.Run, joined bool, err error)
	// Tick is RequestRun for the tick of a schedule; fired is false when another process has asked for it.
	Tick(ctx context.Context, connection int64, tick time.Time, reason string) (run syncdb.Run, fired bool, err error)
	RunByID(ctx context.Context, id int64) (syncdb.Run, error)
	// RequestRecovery is RequestRun for the connection of a run that lost its process; asked is false when somebody has seen to it.
	RequestRecovery(ctx context.Context, lost syncdb.Run) (run syncdb.Run, asked bool, err error)
	// OpenRuns are the runs of all connections that wait or run.
	OpenRuns(ctx context.Context) ([]syncdb.OpenRun, error)
	Pauses(ctx context.Context) (map[int64]syncdb.Pause, error)
}

// Config of a Service. Ledger, Run and Queue are required.
type Config struct {
	Ledger Ledger
	Queue  QueueConfig
	// Run does a run that waits, as the holder of its connection's lease, and returns how it came to an end; what the ledger says of the run is
	// the truth. It returns a *syncdb.BusyError while somebody else has the lease, and ErrNotHere when this process cannot do it and another may.
	Run func(ctx context.Context, run syncdb.Run) error
	// Dead reports whether the process that holds a lease under this name is surely gone, so that its lease need not be waited out; nil: nobody knows.
	Dead func(holder string) bool
	// Schedules are those of the connections; they are read again with Reload.
	Schedules func(ctx context.Context) ([]Schedule, error)
	// TookOver is told when this process has asked for a run that goes on for one whose process died; nil: nobody is.
	TookOver func(lost syncdb.Run)
	Logger   *slog.Logger
	Sweep    time.Duration // how often runs without a doorbell are rung for again; 0 means 30 s
	Drain    time.Duration // how long Stop lets runs go on; 0 means 25 s
}

// ErrNotHere means that a process does not have what a run needs, such as its connection's configuration.
var ErrNotHere = errors.New("this process cannot do the run")

// Service asks for runs and does them. Make it with Open. Safe for concurrent use.
type Service struct {
	c    Config
	bell doorbell
	log  *slog.Logger

	cancel context.CancelFunc
	wg     gosync.WaitGroup
	reload chan struct{}
}

// Open opens the queue. Nothing is worked off, and no schedule is kept, before Start.
func Open(ctx context.Context, c Config) (*Service, error) {
	if c.Sweep == 0 {
		c.Sweep = 30 * time.Second
	}
	if c.Drain == 0 {
		c.Drain = 25 * time.Second
	}
	s := &Service{c: c, log: c.Logger, reload: make(chan struct{}, 1)}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	var err error
	s.bell, err = openQueue(ctx, c.Queue, s.answer)
	return s, err
}

// Start begins to work off the queue, to sweep, and to keep the schedules, until Stop. It is called once.
func (s *Service) Start(ctx context.Context) error {
	ctx, s.cancel = context.WithCancel(context.WithoutCancel(ctx))
	if s.c.Queue.Workers > 0 {
		if err := s.bell.Start(ctx); err != nil {
			return fmt.Errorf("start the workers: %w", err)
		}
	}
	s.wg.Go(func() { s.sweep(ctx) })
	if s.c.Schedules != nil {
		s.wg.Go(func() { s.keepSchedules(ctx) })
	}
	return nil
}

// Stop ends the schedules at once and the runs of this process within Config.Drain; those that take longer are asked to end, and what they left
// is gone on with by the next run of their connections. It may be called twice, and without Start.
func (s *Service) Stop(ctx context.Context) error {
	if s.cancel == nil {
		return nil
	}
	var err error
	if s.c.Queue.Workers > 0 {
		drain, done := context.WithTimeout(context.WithoutCancel(ctx), s.c.Drain)
		err = s.bell.Stop(drain)
		done()
	}
	s.cancel()
	s.wg.Wait()
	return err
}

// Close closes the queue.
func (s *Service) Close() error { return s.bell.Close() }

// Ask asks for a run of a connection and rings for it. Any number of callers at once get one of two runs: the one that waits, which joined says
// is not new, or a new one (F60). The run is in the ledger when Ask returns, whatever becomes of the doorbell.
func (s *Service) Ask(ctx context.Context, connection int64, reason string) (run syncdb.Run, joined bool, err error) {
	run, joined, err = s.c.Ledger.RequestRun(ctx, connection, reason)
	if err != nil || joined {
		return run, joined, err
	}
	s.ring(ctx, run.ID)
	return run, false, nil
}

// ring rings once; when that fails the sweep rings again.
func (s *Service) ring(ctx context.Context, id int64) {
	if err := s.bell.Ring(ctx, id, 1); err != nil {
		s.log.WarnContext(ctx, "the doorbell of a run did not ring; it is rung again soon", slog.Int64("run", id), slog.Any("error", err))
	}
}

// busyWait is how long a doorbell waits that met a run under way.
const busyWait = 5 * time.Second

// answer is what a worker does when a doorbell rings.
func (s *Service) answer(ctx context.Context, id int64) error {
	run, err := s.c.Ledger.RunByID(ctx, id)
	if errors.Is(err, syncdb.ErrNoRun) {
		return nil // its connection is gone
	}
	if err != nil {
		return &laterError{busyWait, err}
	}
	if run.State != syncdb.RunWaiting {
		return nil // somebody does it, or has done it; when he dies the sweep notices
	}
	if paused, err := s.paused(ctx, run.ConnectionID); err != nil || paused {
		return &laterError{s.c.Sweep, errors.Join(err, errors.New("the connection is paused"))}
	}
	err = s.c.Run(ctx, run)
	var busy *syncdb.BusyError
	switch {
	case errors.As(err, &busy):
		return &laterError{min(max(time.Until(busy.Until), time.Second), busyWait), err}
	case errors.Is(err, syncdb.ErrNoRun):
		return nil // somebody was faster
	case errors.Is(err, ErrNotHere):
		return &laterError{busyWait, err}
	case err != nil:
		s.log.WarnContext(ctx, "a run ended early", slog.Int64("run", id), slog.Any("error", err))
	}
	return nil // the ledger says how it ended; a schedule or a person asks for the next one
}

func (s *Service) paused(ctx context.Context, connection int64) (bool, error) {
	pauses, err := s.c.Ledger.Pauses(ctx)
	if err != nil {
		return false, err
	}
	_, ok := pauses[connection]
	return ok, nil
}

// sweep rings again for runs whose doorbell got lost, and for those whose process did.
func (s *Service) sweep(ctx context.Context) {
	ticker := time.NewTicker(s.c.Sweep)
	defer ticker.Stop()
	for age := time.Duration(0); ; age = s.c.Sweep { // what waits when the process starts may have waited for it
		if err := s.sweepOnce(ctx, age); err != nil && ctx.Err() == nil {
			s.log.WarnContext(ctx, "look for runs nobody does", slog.Any("error", err))
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

func (s *Service) sweepOnce(ctx context.Context, age time.Duration) error {
	open, err := s.c.Ledger.OpenRuns(ctx)
	if err != nil {
		return err
	}
	for _, r := range open {
		switch {
		case r.State == syncdb.RunWaiting && r.Age >= age:
			s.ring(ctx, r.ID)
		case r.State == syncdb.RunRunning && (r.Lost || s.c.Dead != nil && s.c.Dead(r.Holder)):
			// Its process died. A new run takes over, and goes on with what is left.
			run, asked, err := s.c.Ledger.RequestRecovery(ctx, r.Run)
			if err != nil {
				return err
			}
			if asked {
				s.ring(ctx, run.ID)
				if s.c.TookOver != nil {
					s.c.TookOver(r.Run)
				}
			}
		}
	}
	return nil
}
