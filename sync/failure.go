package sync

import (
	"errors"

	"github.com/edfisync/edfisync/edfi"
	"github.com/edfisync/edfisync/source"
	"github.com/edfisync/edfisync/syncdb"
)

// Why a run failed, when it is one of the reasons that operators are told apart.
const (
	FailureTarget      = "target-unreachable"  // the API does not answer, or something else answers in its place
	FailureSource      = "source-unreachable"  // no connection to the SIS database
	FailureCredentials = "credentials-refused" // the target does not take the key
	FailureLedger      = "ledger-restored"     // the ledger is not the one of the last run, or an older state of it
	FailureReset       = "target-reset"        // the target does not have the records it should have: it was wiped or restored
	FailureStalled     = "no-progress"         // it went on without progress until it was cut short (Options.Stalled)
	FailureStale       = "plan-stale"          // the saved plan it was asked to make is not what a run would do now
	FailureProcess     = syncdb.FailureProcess // its process went away; what notices that is the ledger
)

// FailureHints are all of them, each with what to do about it.
func FailureHints() map[string]string {
	return map[string]string{
		FailureTarget:      "edfisync check says what is wrong; runs go on by themselves when the target answers",
		FailureSource:      "edfisync check says what is wrong; runs go on by themselves when the database answers",
		FailureCredentials: "check the connection's key and secret, or ask the target's host whether they were revoked",
		FailureLedger:      "look whether ledger.dsn or work_dir is wrong; when the ledger was lost or restored: edfisync adopt. Nothing is synced before",
		FailureReset:       "ask the target's host what happened; then edfisync adopt, or edfisync run --resync. Nothing is written before",
		FailureStalled:     "it is tried again by itself; when that happens often: look at what it waited for, or give it longer (stalled_after of the connection)",
		FailureStale:       "look at what changed since, and make a new plan: edfisync plan --out",
		FailureProcess:     "another run goes on with a run by itself; an errand is asked for again. Look why the process ended: its log, the machine's memory",
	}
}

// PassingFailures are those of the reasons that pass by themselves: a run that failed for one may be tried again without anybody. A key that is refused, and
// whatever else ended a run, is for somebody to mend. A run that lost its process is asked for anew at once, and needs no other.
func PassingFailures() []string { return []string{FailureTarget, FailureSource, FailureStalled} }

// FailureOf says which of the reasons ended a run with err; "" = any other, or none.
func FailureOf(err error) string {
	var stale *StalePlanError
	switch {
	case errors.Is(err, ErrTargetReset):
		return FailureReset
	case errors.Is(err, ErrTargetSilent):
		return FailureTarget
	case errors.Is(err, ErrStalled):
		return FailureStalled
	case errors.As(err, &stale):
		return FailureStale
	}
	var target *edfi.Error
	if errors.As(err, &target) {
		switch target.Code {
		case "credentials-refused", "unauthenticated", "no-client":
			return FailureCredentials
		case "unreachable", "unavailable", "timeout", "dropped", "target-error", "not-the-api", "no-root-document", "tls":
			return FailureTarget
		}
		return ""
	}
	var from *source.Error
	if errors.As(err, &from) && from.Unreachable() {
		return FailureSource
	}
	return ""
}
