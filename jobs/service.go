package jobs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	gosync "sync"
	"time"

	"github.com/edfisync/edfisync/syncdb"
)

// Ledger is what jobs needs of the ledger. *syncdb.DB is one.
type Ledger interface {
	// RequestAudited asks for a run of a connection; when one waits already, that is the answer, with the union of the scopes, and joined is true. It
	// writes to the audit trail in the same transaction who it was, unless nothing changed.
	RequestAudited(ctx context.Context, connection int64, reason string, scope syncdb.RunScope, act syncdb.AuditRow) (run syncdb.Run, joined bool, err error)
	// Tick is RequestAudited, by nobody, for the tick of a schedule; fired is false when another process has asked for it.
	Tick(ctx context.Context, connection int64, tick time.Time, reason string) (run syncdb.Run, fired bool, err error)
	// RequestRecovery is the same for the connection of a run that lost its process; asked is false when somebody has seen to it.
	RequestRecovery(ctx context.Context, lost syncdb.Run) (run syncdb.Run, asked bool, err error)
	// Prospects are what decides when connections are run next without anybody asking, by connection.
	Prospects(ctx context.Context) (map[int64]syncdb.Prospect, error)
	// RequestRetry is the same for the connection of a failed run as long as that is its last; asked is false when another process has asked for it.
	RequestRetry(ctx context.Context, connection, failed int64) (run syncdb.Run, asked bool, err error)
	// OpenRuns are the runs of all connections that wait or run, oldest first.
	OpenRuns(ctx context.Context) ([]syncdb.OpenRun, error)
	// NoteWait notes why a run waits, for people to see; the zero Wait takes the note away. It reports whether that is new.
	NoteWait(ctx context.Context, run int64, w syncdb.Wait) (noted bool, err error)
}

// Config of a Service. Ledger, Run and Queue are required.
type Config struct {
	Ledger Ledger
	Queue  QueueConfig
	// Run does a run that waits, as the holder of its connection's lease, and returns how it came to an end; what the ledger says of the run is
	// the truth. It returns a *syncdb.BusyError while somebody else has the lease, a *syncdb.LimitError while target or source have enough runs, and
	// ErrNotHere when this process cannot do it and another may.
	Run func(ctx context.Context, run syncdb.Run) error
	// Dead reports whether the process that holds a lease under this name is surely gone, so that its lease need not be waited out; nil: nobody knows.
	Dead func(holder string) bool
	// Schedules are those of the connections; they are read again with Reload.
	Schedules func(ctx context.Context) ([]Schedule, error)
	// TookOver is told when this process has asked for a run that goes on for one whose process died; nil: nobody is.
	TookOver func(lost syncdb.Run)
	// Ready says why this process cannot do any run now, such as a full disk; nil = it always can. Runs wait then, for it or for another process.
	Ready func(ctx context.Context) error
	// Quarantine is that of all connections. The processes should agree.
	Quarantine Quarantine
	// Retry is how runs of a schedule that failed are tried again before its next time, those of all connections. The processes should agree.
	Retry  Retry
	Logger *slog.Logger
	Sweep  time.Duration // how often is looked for runs that may begin and for those that lost their process; 0 means 10 s
	Drain  time.Duration // how long Stop lets runs go on; 0 means 25 s
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
		c.Sweep = 10 * time.Second
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

// AskAs asks for a run of a connection and rings for it, for a person or a program that the audit trail is to name: the row is written in the transaction
// that asks, or nothing is asked for (I16). Any number of callers at once get one of two runs: the one that waits, which joined says is not new, or a new
// one (F60), and the run that waits sends what everybody asked for. Who only joins it changes nothing, and is not named. The run is in the ledger when
// AskAs returns, whatever becomes of the doorbell.
func (s *Service) AskAs(ctx context.Context, connection int64, reason string, scope syncdb.RunScope, act syncdb.AuditRow) (run syncdb.Run, joined bool, err error) {
	run, joined, err = s.c.Ledger.RequestAudited(ctx, connection, reason, scope, act)
	return s.asked(ctx, run, joined, reason, err)
}

// asked rings for a run that was asked for.
func (s *Service) asked(ctx context.Context, run syncdb.Run, joined bool, reason string, err error) (syncdb.Run, bool, error) {
	switch {
	case err != nil:
	case !joined:
		s.ring(ctx, run.ID, reason, true)
	case run.Wait != nil && run.Wait.For == syncdb.WaitQuarantine && syncdb.ByPerson(reason):
		run.Wait = nil // nobody waits in quarantine who was asked for
		s.ring(ctx, run.ID, reason, true)
	}
	return run, joined, err
}

// ring rings for a run; once: unless its doorbell rings already. When that fails the sweep rings again. When workers are few they hear those first that
// somebody waits for.
func (s *Service) ring(ctx context.Context, id int64, reason string, once bool) {
	priority := 2
	if syncdb.ByPerson(reason) {
		priority = 1
	}
	if err := s.bell.Ring(ctx, id, priority, once); err != nil {
		s.log.WarnContext(ctx, "the doorbell of a run did not ring; it is rung again soon", slog.Int64("run", id), slog.Any("error", err))
	}
}

// retryWait is how long a doorbell waits when the ledger did not answer, or another process may know the connection.
const retryWait = 5 * time.Second

// answer is what a worker does when a doorbell rings. A run that may not begin is let go: it is rung for again when it may.
func (s *Service) answer(ctx context.Context, id int64) error {
	if s.c.Ready != nil {
		if err := s.c.Ready(ctx); err != nil {
			return &laterError{retryWait, err}
		}
	}
	for range 3 {
		open, err := s.c.Ledger.OpenRuns(ctx)
		if err != nil {
			return &laterError{retryWait, err}
		}
		i := slices.IndexFunc(open, func(r syncdb.OpenRun) bool { return r.ID == id && r.State == syncdb.RunWaiting })
		if i < 0 {
			return nil // somebody does it, or has done it, or its connection is gone; when he dies the sweep notices
		}
		w, waits := turns(open, s.c.Quarantine, s.gone)[id]
		if !waits {
			if w, err = s.do(ctx, open[i]); err != nil || w.For == "" {
				return err
			}
		}
		// Whoever ends what it waits for rings for those who have noted so. What ended before that was noted is seen now.
		if !s.note(ctx, id, w) {
			return nil
		}
	}
	return &laterError{retryWait, errors.New("the run may not begin yet")}
}

// do does a run that may begin. It returns why it waits all the same: another process was faster to take a place.
func (s *Service) do(ctx context.Context, r syncdb.OpenRun) (syncdb.Wait, error) {
	err := s.c.Run(ctx, r.Run)
	var busy *syncdb.BusyError
	var limit *syncdb.LimitError
	switch {
	case errors.As(err, &busy):
		return syncdb.Wait{For: syncdb.WaitRun}, nil
	case errors.As(err, &limit):
		return syncdb.Wait{For: limit.For}, nil
	case errors.Is(err, syncdb.ErrNoRun):
		return syncdb.Wait{}, nil // another process was faster with the run
	case errors.Is(err, ErrNotHere):
		s.note(ctx, r.ID, syncdb.Wait{For: syncdb.WaitConfiguration})
		return syncdb.Wait{}, &laterError{min(max(retryWait, r.Age), time.Minute), err}
	case err != nil:
		s.log.WarnContext(ctx, "a run ended early", slog.Int64("run", r.ID), slog.Any("error", err))
		s.Reload() // it may be due again before the schedule is looked at next
	}
	s.next(ctx)
	return syncdb.Wait{}, nil // the ledger says how it ended; a schedule or a person asks for the next one
}

// gone reports whether the process of a run that runs is no more.
func (s *Service) gone(r syncdb.OpenRun) bool {
	return r.State == syncdb.RunRunning && (r.Lost || s.c.Dead != nil && s.c.Dead(r.Holder))
}

// note notes why a run waits, and reports whether that is new.
func (s *Service) note(ctx context.Context, run int64, w syncdb.Wait) bool {
	noted, err := s.c.Ledger.NoteWait(ctx, run, w)
	if err != nil && ctx.Err() == nil {
		s.log.WarnContext(ctx, "note why a run waits", slog.Int64("run", run), slog.Any("error", err))
	}
	return noted
}

// next rings for the runs that waited for one that has ended now. They are rung for even if somebody is about to let them go.
func (s *Service) next(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second) // one that was cut short lets others go on
	defer cancel()
	open, err := s.c.Ledger.OpenRuns(ctx)
	if err != nil {
		return // the sweep finds them
	}
	waits := turns(open, s.c.Quarantine, s.gone)
	for _, r := range open {
		if _, waits := waits[r.ID]; r.State == syncdb.RunWaiting && !waits && r.Wait != nil && s.note(ctx, r.ID, syncdb.Wait{}) {
			s.ring(ctx, r.ID, reasonOf(r), false)
		}
	}
}

// reasonOf is the most urgent reason of a run.
func reasonOf(r syncdb.OpenRun) string {
	if r.Asked && !syncdb.ByPerson(r.Reason) {
		return "api"
	}
	return r.Reason
}

// sweep rings for runs whose doorbell got lost or was let go, and for those whose process died.
func (s *Service) sweep(ctx context.Context) {
	ticker := time.NewTicker(s.c.Sweep)
	defer ticker.Stop()
	for age := time.Duration(0); ; age = min(3*s.c.Sweep, 30*time.Second) { // what waits when the process starts may have waited for it
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

// sweepMost is how many runs are rung for in one sweep: a thousand that wait for a worker have their doorbells, and those that have not come to be among
// the oldest.
const sweepMost = 100

func (s *Service) sweepOnce(ctx context.Context, age time.Duration) error {
	open, err := s.c.Ledger.OpenRuns(ctx)
	if err != nil {
		return err
	}
	waits, rung := turns(open, s.c.Quarantine, s.gone), 0
	for _, r := range open {
		w, later := waits[r.ID]
		switch {
		case later:
			if r.Wait == nil || r.Wait.For != w.For || !r.Wait.Until.Equal(w.Until) {
				s.note(ctx, r.ID, w)
			}
		case r.State == syncdb.RunWaiting && (r.Wait != nil || r.Age >= age) && rung < sweepMost:
			s.ring(ctx, r.ID, reasonOf(r), true)
			rung++
		case s.gone(r):
			// Its process died. A new run takes over, and goes on with what is left.
			run, asked, err := s.c.Ledger.RequestRecovery(ctx, r.Run)
			if err != nil {
				return err
			}
			if asked {
				s.ring(ctx, run.ID, run.Reason, true)
				if s.c.TookOver != nil {
					s.c.TookOver(r.Run)
				}
			}
		}
	}
	return nil
}
