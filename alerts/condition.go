package alerts

import (
	"fmt"
	"slices"
	"time"

	"github.com/edfisync/edfisync/sync"
	"github.com/edfisync/edfisync/syncdb"
)

// Condition is one thing that can be wrong with a connection. Its text is stable: receivers branch on it.
type Condition string

// The conditions of a connection.
const (
	RunFailed          Condition = "run-failed"          // the last run failed, for none of the reasons below
	TargetUnreachable  Condition = "target-unreachable"  // … because the target did not answer
	SourceUnreachable  Condition = "source-unreachable"  // … because there was no connection to the SIS database
	CredentialsRefused Condition = "credentials-refused" // … because the target did not take the key
	LedgerRestored     Condition = "ledger-restored"     // … because the ledger is not the one of the last run, or an older state of it
	NotFresh           Condition = "not-fresh"           // the last good run is longer ago than it may be
	HoldWaiting        Condition = "hold-waiting"        // a safeguard holds something until somebody decides
	TargetReset        Condition = "target-reset"        // the target was wiped or restored: everything is held
	Quarantined        Condition = "quarantined"         // so many runs failed in a row that the schedule leaves it alone for ever longer
)

// AuditBroken is the condition of the ledger as a whole: the audit trail is not as it was written.
const AuditBroken Condition = "audit-broken"

// ConfigurationWrong is a condition of the fleet: a process found its configuration wrong while it served, and goes on with the last good one.
const ConfigurationWrong Condition = "configuration-wrong"

// Conditions lists all of them, those of the ledger last.
func Conditions() []Condition {
	return []Condition{RunFailed, TargetUnreachable, SourceUnreachable, CredentialsRefused, LedgerRestored, NotFresh, HoldWaiting, TargetReset, Quarantined, AuditBroken, ConfigurationWrong}
}

// Title says what a condition means, for a subject line.
func (c Condition) Title() string {
	switch c {
	case RunFailed:
		return "the last run failed"
	case TargetUnreachable:
		return "the target cannot be reached"
	case SourceUnreachable:
		return "the source cannot be reached"
	case CredentialsRefused:
		return "the target refuses the credentials"
	case LedgerRestored:
		return "the ledger was lost or restored"
	case NotFresh:
		return "no good run for too long"
	case HoldWaiting:
		return "a safeguard holds something back"
	case TargetReset:
		return "the target was wiped or restored"
	case Quarantined:
		return "the connection is in quarantine"
	case AuditBroken:
		return "the audit trail was changed"
	case ConfigurationWrong:
		return "the configuration has become wrong"
	}
	return string(c)
}

// Remedy says what to do.
func (c Condition) Remedy() string {
	switch c {
	case RunFailed:
		return "edfisync runs says why; the next run goes on from there"
	case TargetUnreachable, SourceUnreachable, CredentialsRefused, LedgerRestored:
		return sync.FailureHints()[string(c)]
	case NotFresh:
		return "look why no run is done: edfisync runs, the schedule, a pause, the service itself"
	case HoldWaiting:
		return "look at it and approve or discard it: edfisync holds"
	case TargetReset:
		return "ask the target's host what happened; then edfisync adopt, or edfisync run --resync"
	case Quarantined:
		return "look why its runs fail: edfisync runs; a run that somebody asks for goes through, and one that is done ends it"
	case AuditBroken:
		return "edfisync audit verify says where; find out who can write to the ledger's database"
	case ConfigurationWrong:
		return "edfisync check, on the machine of the process, names file, line and remedy; until then the last good configuration stays in force"
	}
	return ""
}

// Claim is what the facts say of a condition at a moment.
type Claim struct {
	Condition Condition
	Holds     bool
	Detail    string // no student values
}

// Limits are how much of a connection is not yet wrong.
type Limits struct {
	FreshWithin time.Duration // how old the last good run may be; 0 = any age
	Failures    int           // failed runs in a row after which it is in quarantine; 0 = never
}

// Of says of each condition of a connection whether it holds. It is a pure function.
func Of(f syncdb.AlertFacts, l Limits, now time.Time) []Claim {
	failed := f.Ended.State == syncdb.RunFailed
	lost := failed && f.Ended.Error == syncdb.LostProcess && f.Open // another process goes on with it
	why := ""
	if failed {
		why = f.Ended.Failure
	}
	run := fmt.Sprintf("run %d", f.Ended.ID)
	claims := []Claim{
		{RunFailed, failed && !lost && !slices.Contains(ownConditions(), why), run},
		{TargetUnreachable, why == sync.FailureTarget, run},
		{SourceUnreachable, why == sync.FailureSource, run},
		{CredentialsRefused, why == sync.FailureCredentials, run},
		{LedgerRestored, why == sync.FailureLedger, run},
		{NotFresh, stale(f, l.FreshWithin, now), "want one every " + l.FreshWithin.String()},
		{HoldWaiting, f.Holds > 0, counted(f.Holds, "hold")},
		{TargetReset, f.Alarm != "", ""},
		{Quarantined, l.Failures > 0 && f.Failures >= l.Failures, counted(int64(f.Failures), "failed run") + " in a row"},
	}
	for i := range claims {
		if !claims[i].Holds {
			claims[i].Detail = ""
		}
	}
	return claims
}

// ownConditions are the reasons of failed runs that have a condition of their own.
func ownConditions() []string {
	return []string{sync.FailureTarget, sync.FailureSource, sync.FailureCredentials, sync.FailureLedger}
}

// stale reports whether the last good run is too long ago. A paused connection is not: somebody wants it so.
func stale(f syncdb.AlertFacts, within time.Duration, now time.Time) bool {
	last := f.FreshAsOf
	if last.IsZero() {
		last = f.FirstRun // there was none yet
	}
	return within > 0 && !f.Paused && !last.IsZero() && now.Sub(last) > within
}

func counted(n int64, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// Damping keeps a condition that comes and goes from telling everybody each time.
type Damping struct {
	For   time.Duration // how long a condition must hold before it fires
	Quiet time.Duration // how long it must not hold before it has recovered
}

// State is where an alert is.
type State struct {
	Firing  bool
	Told    bool      // receivers were told last that it fires
	Since   time.Time // it is so
	Turning time.Time // since when the facts say otherwise; zero = they do not
	Detail  string
}

// Next is the state after a look at the facts, and whether receivers have to be told that it fires, or has recovered. Nobody is told while it is muted; who
// was not told learns it when the mute is over, if it is still so. It is a pure function, and gives the same from the same twice.
func (s State) Next(c Claim, now time.Time, d Damping, muted bool) (next State, tell bool) {
	next = s
	if next.Since.IsZero() {
		next.Since = now
	}
	switch {
	case c.Holds == s.Firing:
		next.Turning = time.Time{}
		if c.Holds {
			next.Detail = c.Detail
		}
	default:
		if next.Turning.IsZero() {
			next.Turning = now
		}
		wait := d.Quiet
		if c.Holds {
			wait = d.For
		}
		if now.Sub(next.Turning) >= wait {
			next.Firing, next.Since, next.Turning, next.Detail = c.Holds, now, time.Time{}, c.Detail
		}
	}
	if !muted && next.Told != next.Firing {
		next.Told, tell = next.Firing, true
	}
	return next, tell
}
