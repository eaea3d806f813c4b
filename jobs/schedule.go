package jobs

import (
	"context"
	"fmt"
	"hash/fnv"
	"log/slog"
	"strings"
	"time"

	"github.com/robfig/cron/v3"

	"github.com/edfisync/edfisync/syncdb"
)

// Schedule says when a connection is synced without anybody asking.
type Schedule struct {
	Connection int64
	Cron       string // five fields, or @hourly and the like (robfig/cron)
	// Zone is whose clock Cron means; nil = UTC. A time the clock leaves out in spring does not come that day, one it repeats in autumn comes twice.
	Zone *time.Location
	// Jitter spreads connections with the same Cron: each starts later by a part of it that is always the same for one connection.
	Jitter time.Duration
	// CatchUp is how late a tick may be that nobody kept, because no process was there; later ones are left out. Of several only the last is made up for.
	CatchUp time.Duration
	// Last is the tick kept last, zero when none was; what the ledger says of the connection (Prospect.Ticked) counts when it is later.
	Last time.Time
	// Pauses are times in which it starts nothing, and for whose ticks nothing is made up.
	Pauses []PlannedPause
}

// PlannedPause is a time in which a schedule starts nothing.
type PlannedPause struct {
	From time.Time
	To   time.Time // the first moment after it
}

// paused is the end of the pause an instant is in, zero when it is in none.
func (s *Schedule) paused(at time.Time) (end time.Time) {
	for _, p := range s.Pauses {
		if !at.Before(p.From) && at.Before(p.To) && p.To.After(end) {
			end = p.To
		}
	}
	return end
}

// over is the first moment from an instant on that is in no pause.
func (s *Schedule) over(at time.Time) time.Time {
	for end := s.paused(at); !end.IsZero(); end = s.paused(at) {
		at = end
	}
	return at
}

// after is the schedule with the last tick that the ledger has.
func (s Schedule) after(p syncdb.Prospect) Schedule {
	if p.Ticked.After(s.Last) {
		s.Last = p.Ticked
	}
	return s
}

// Ticks reads a schedule's times.
type Ticks struct {
	spec  cron.Schedule
	shift time.Duration
	s     Schedule
}

// parser reads what crontab(5) does, without seconds.
//
//nolint:gochecknoglobals // it has no state
var parser = cron.NewParser(cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow | cron.Descriptor)

// Parse reads a schedule. Its errors say what is wrong with which field.
func (s Schedule) Parse() (*Ticks, error) {
	if strings.Contains(s.Cron, "=") { // TZ=…: the parser panics when nothing follows, and Zone is ours
		return nil, fmt.Errorf("schedule %q: give the time zone beside the cron expression, not in it", s.Cron)
	}
	spec, err := parser.Parse(s.Cron)
	if err != nil {
		return nil, fmt.Errorf("schedule %q: %w (want five fields: minute, hour, day of month, month, day of week; or @hourly, @daily)", s.Cron, err)
	}
	zone := s.Zone
	if zone == nil {
		zone = time.UTC
	}
	if at, ok := spec.(*cron.SpecSchedule); ok {
		at.Location = zone
	}
	if spec.Next(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)).IsZero() {
		return nil, fmt.Errorf("schedule %q never comes", s.Cron)
	}
	t := &Ticks{spec: spec, s: s}
	if s.Jitter > 0 {
		h := fnv.New64a()
		fmt.Fprint(h, s.Connection)
		t.shift = time.Duration(h.Sum64() % uint64(s.Jitter))
	}
	return t, nil
}

// Next is the first tick after an instant that is in no pause.
func (t *Ticks) Next(after time.Time) time.Time {
	for {
		next := t.spec.Next(after.Add(-t.shift))
		if next.IsZero() {
			return next
		}
		next = next.Add(t.shift)
		end := t.s.paused(next)
		if end.IsZero() {
			return next
		}
		after = end.Add(-time.Nanosecond)
	}
}

// leastCatchUp is how late a tick may be in any case: a process may have been asleep for as long.
const leastCatchUp = 2 * time.Minute

// Due is the last tick up to now that nobody kept and that CatchUp still wants; zero when there is none.
func (t *Ticks) Due(now time.Time) time.Time {
	if !t.s.paused(now).IsZero() {
		return time.Time{}
	}
	from := now.Add(-max(t.s.CatchUp, leastCatchUp))
	switch {
	case t.s.Last.After(from):
		from = t.s.Last
	case t.s.Last.IsZero(): // a new schedule has nothing to make up for
		from = now.Add(-leastCatchUp)
	}
	var last time.Time
	for next := t.Next(from); !next.IsZero() && !next.After(now); next = t.Next(next) {
		last = next
	}
	return last
}

// Reload makes the service read the schedules again.
func (s *Service) Reload() {
	select {
	case s.reload <- struct{}{}:
	default:
	}
}

// keepSchedules asks for a run at each tick. Every process does so; the ledger lets one of them ask (Ledger.Tick).
func (s *Service) keepSchedules(ctx context.Context) {
	for {
		wake, err := s.tick(ctx, time.Now())
		if err != nil && ctx.Err() == nil {
			s.log.ErrorContext(ctx, "keep the schedules", slog.Any("error", err))
		}
		timer := time.NewTimer(max(0, min(time.Until(wake), time.Minute)))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-s.reload:
			timer.Stop()
		case <-timer.C:
		}
	}
}

// tick asks for the runs that are due, those of ticks and those that are tried again, and returns when the next one is. Every process does so; the
// ledger lets one of them ask (Ledger.Tick, Ledger.RequestRetry).
func (s *Service) tick(ctx context.Context, now time.Time) (wake time.Time, err error) {
	wake = now.Add(time.Minute)
	schedules, err := s.c.Schedules(ctx)
	if err != nil {
		return wake, fmt.Errorf("read the schedules: %w", err)
	}
	prospects, err := s.c.Ledger.Prospects(ctx)
	if err != nil {
		return wake, err
	}
	for _, sched := range schedules {
		p := prospects[sched.Connection]
		ticks, err := sched.after(p).Parse()
		if err != nil {
			s.log.ErrorContext(ctx, "a schedule cannot be read, so its connection is not synced by itself", slog.Int64("connection", sched.Connection), slog.Any("error", err))
			continue
		}
		tick, retry := ticks.asks(s.c.Retry, s.c.Quarantine, p, now)
		if !tick.IsZero() && !tick.After(now) {
			run, fired, err := s.c.Ledger.Tick(ctx, sched.Connection, tick, "cron")
			if err != nil {
				return wake, fmt.Errorf("ask for a scheduled run: %w", err)
			}
			if fired && run.ID != 0 {
				s.ring(ctx, run.ID, run.Reason, true)
			}
			tick = ticks.Next(now)
		}
		if !retry.IsZero() && !retry.After(now) {
			run, asked, err := s.c.Ledger.RequestRetry(ctx, sched.Connection, p.Failed)
			if err != nil {
				return wake, fmt.Errorf("ask for a run again that failed: %w", err)
			}
			if asked {
				s.log.InfoContext(ctx, "a run that failed is tried again", slog.Int64("connection", sched.Connection), slog.Int64("failed", p.Failed), slog.Int64("run", run.ID))
				s.ring(ctx, run.ID, run.Reason, true)
			}
			retry = time.Time{}
		}
		for _, next := range []time.Time{tick, retry} {
			if !next.IsZero() && next.Before(wake) {
				wake = next
			}
		}
	}
	return wake, nil
}
