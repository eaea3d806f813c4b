package sync

import (
	"errors"

	"github.com/edfisync/edfisync/edfi"
	"github.com/edfisync/edfisync/source"
)

// Why a run failed, when it is one of the reasons that operators are told apart.
const (
	FailureTarget      = "target-unreachable"  // the API does not answer, or something else answers in its place
	FailureSource      = "source-unreachable"  // no connection to the SIS database
	FailureCredentials = "credentials-refused" // the target does not take the key
	FailureLedger      = "ledger-restored"     // the ledger is not the one of the last run, or an older state of it
)

// PassingFailures are those of the reasons that pass by themselves: a run that failed for one may be tried again without anybody. A key that is refused, and
// whatever else ended a run, is for somebody to mend.
func PassingFailures() []string { return []string{FailureTarget, FailureSource} }

// FailureOf says which of the reasons ended a run with err; "" = any other, or none.
func FailureOf(err error) string {
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
