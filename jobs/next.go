package jobs

import (
	"fmt"
	"time"

	"github.com/edfisync/edfisync/syncdb"
)

// Why the next run of a connection comes when it does. They are part of the API; never rename one.
const (
	NextSchedule   = "schedule"   // its schedule's next time
	NextRetry      = "retry"      // a run of the schedule that failed for what passes by itself is tried again
	NextQuarantine = "quarantine" // its runs failed time after time, and until then its schedule leaves it alone
	NextPause      = "pause"      // it would come earlier, but the connection is paused
	NextTurn       = "turn"       // it waits for its turn: as soon as another run ends, or a process takes it
)

// Next is the run of a connection that comes next when nobody asks for one.
type Next struct {
	At      time.Time `json:"at,omitzero" doc:"When it begins; left out: as soon as its turn comes, or, when paused, as soon as somebody resumes it."`
	Reason  string    `json:"reason" enum:"schedule,retry,quarantine,pause,turn" doc:"Why then. schedule: its schedule's next time. retry: a run that failed is tried again. quarantine: its runs failed time after time, and until then its schedule leaves it alone. pause: it would come earlier, but for a pause. turn: it waits for its turn."`
	Attempt int       `json:"attempt,omitempty" doc:"Of a connection whose last run failed: which run it is since the last that was done, counting failed ones, so 2 after the first failure."`
	Of      int       `json:"of,omitempty" doc:"So many attempts that fail are one after the other, and then it is in quarantine; left out when it is, or never is."`
	Failure string    `json:"failure,omitempty" doc:"Code of why the last run failed."`
	Run     int64     `json:"run,omitempty" doc:"Its number, when it waits already."`
	Text    string    `json:"text" doc:"The reason in words, for people."`
}

// Coming says which run of a connection comes next when nobody asks for one; nil when none does. s is its schedule, nil for none. It decides by what the
// service does (asks, hold), from what the ledger says, so that what is shown is what happens; all but the service may take it from any process with
// the same configuration.
//
//	a run waits       its turn; not before a pause or, of the schedule's, a quarantine is over
//	a run is under way    the schedule's next time: whether that one will fail nobody knows
//	none              the schedule's next time, or before it a failed one is tried again; not before a pause or a quarantine is over
func Coming(s *Schedule, p syncdb.Prospect, r Retry, q Quarantine, now time.Time) *Next {
	next := &Next{Reason: NextTurn, Run: p.Waiting}
	if !p.Running && p.Failing.Runs > 0 {
		next.Attempt, next.Failure = p.Failing.Runs+1, p.Failure
		if next.Attempt <= q.After {
			next.Of = q.After
		}
	}
	from := now
	if p.Waiting == 0 {
		if s == nil {
			return nil
		}
		ticks, err := s.after(p).Parse()
		if err != nil {
			return nil
		}
		tick, retry := ticks.asks(r, q, p, now)
		switch {
		case !retry.IsZero() && (tick.IsZero() || retry.Before(tick)):
			next.At, next.Reason = retry, NextRetry
			if retry.Equal(q.Until(p.Connection, p.Failing)) {
				next.Reason = NextQuarantine
			} else if retry.Equal(p.PausedUntil) {
				next.Reason = NextPause
			}
		case tick.IsZero():
			return nil
		default:
			next.At, next.Reason = tick, NextSchedule
		}
		from = next.At
	}
	failing := p.Failing
	if p.Running {
		failing = syncdb.Failing{} // it ends that when it is done, and makes it longer when it fails
	}
	for {
		w := hold(p.Connection, p.Waiting != 0 && p.Asked, p.Paused, p.PausedUntil, failing, q, from)
		if w.For == "" {
			break
		}
		next.At, next.Reason = w.Until, map[string]string{syncdb.WaitPause: NextPause, syncdb.WaitQuarantine: NextQuarantine}[w.For]
		if w.Until.IsZero() {
			break
		}
		from = w.Until
	}
	next.Text = next.words(failing)
	return next
}

// words says why a run comes when it does.
func (n *Next) words(f syncdb.Failing) string {
	attempt := ""
	if n.Attempt > 0 {
		attempt = fmt.Sprintf("attempt %d", n.Attempt)
		if n.Of > 0 {
			attempt += fmt.Sprintf(" of %d", n.Of)
		}
		if n.Failure != "" {
			attempt += " after " + n.Failure
		}
	}
	also := func(text string) string {
		if attempt == "" {
			return text
		}
		return text + ", " + attempt
	}
	switch n.Reason {
	case NextSchedule:
		return also("by its schedule")
	case NextRetry:
		return attempt
	case NextQuarantine:
		if f.Runs == 1 {
			return also("in quarantine until then: a run failed")
		}
		return also(fmt.Sprintf("in quarantine until then: %d runs failed one after the other", f.Runs))
	case NextPause:
		if n.At.IsZero() {
			return also("paused until somebody resumes it")
		}
		return also("paused until then")
	}
	return also(fmt.Sprintf("run %d waits for its turn", n.Run))
}

// asks says when the service asks for runs of a connection by itself: for the tick of its schedule that is due or comes next, and for one that failed and
// is tried again. What is not after now it asks for now; zero: never. A run asked for begins when nothing holds it (hold) and its turn comes (turns).
func (t *Ticks) asks(r Retry, q Quarantine, p syncdb.Prospect, now time.Time) (tick, retry time.Time) {
	if tick = t.Due(now); tick.IsZero() {
		tick = t.Next(now)
		if over := t.s.over(now); over.After(now) && !t.Due(over).IsZero() {
			tick = over // one before a planned pause, which nobody kept, is made up for after it
		}
	}
	return tick, t.retryAt(r, q, p, now)
}

// hold says what keeps a run that waits, or will, from beginning at an instant, whatever the other runs: a pause, or, unless a person or a program asked
// for it, a quarantine (I18). The zero Wait is nothing.
func hold(connection int64, asked, paused bool, pausedUntil time.Time, f syncdb.Failing, q Quarantine, at time.Time) syncdb.Wait {
	if paused && (pausedUntil.IsZero() || pausedUntil.After(at)) {
		return syncdb.Wait{For: syncdb.WaitPause, Until: pausedUntil}
	}
	if until := q.Until(connection, f); !asked && until.After(at) {
		return syncdb.Wait{For: syncdb.WaitQuarantine, Until: until}
	}
	return syncdb.Wait{}
}
