package syncdb

import (
	"fmt"
	"time"

	"github.com/edfisync/edfisync/internal/keys"
)

// DefaultGrace is how long after a lease's end it can be taken over: the engine's call timeout, so that a call its last holder may
// still have in flight has come to an end (engine.md §4).
const DefaultGrace = 30 * time.Second

// LostProcess is the error text of a run whose process went away without finishing it.
const LostProcess = "lost its process"

// LostErrand is the error text of an errand whose process went away without finishing it. Nobody goes on with it.
const LostErrand = "lost its process; nobody goes on with what a person does himself: what it had begun is settled by the next run, ask for the rest again"

// FailureProcess is the code of why such a run or errand failed, as NoteFailure has those of others.
const FailureProcess = "process-lost"

// OutcomeRejected is the outcome of problems that Rejected returns.
const OutcomeRejected = "rejected"

// OutcomeMet is the outcome of problems that stand until somebody adopts the record: it was at the target before our first call (I9).
// CloseProblems leaves them alone.
const OutcomeMet = "met"

// Config says where a ledger is and how it is opened.
type Config struct {
	// DSN is "sqlite:" and the path of a file, or a "postgres://" URL.
	DSN string
	// Master opens the connections' data keys. It must be the key the ledger was made with.
	Master *keys.Master
	// Next, when set, is the master key that Rekey goes over to: Open uses the one of both that the ledger is under by now.
	Next *keys.Master
	// Grace is how long after a lease expired it may be taken over; zero means DefaultGrace. All processes must agree.
	Grace time.Duration
	// Clock, when set, replaces the database's clock and the local one. Tests and simulations use it.
	Clock func() time.Time
}

// WithDefaults returns the configuration with zero fields filled in. Clock stays as it is: nil means the database's own.
func (c Config) WithDefaults() Config {
	if c.Grace == 0 {
		c.Grace = DefaultGrace
	}
	return c
}

// Now is the local clock: Clock when set, else the system's, with its monotonic reading.
func (c Config) Now() time.Time {
	if c.Clock != nil {
		return c.Clock()
	}
	return time.Now()
}

// Final reports whether a run in this state has ended.
func (s RunState) Final() bool { return s == RunDone || s == RunFailed || s == RunCanceled }

// CheckIntents returns an error when an intent could not be settled later. It is checked before anything is written (I3).
func CheckIntents(intents []Intent) error {
	for i := range intents {
		in := &intents[i]
		switch {
		case in.Resource == "":
			return fmt.Errorf("intent of op %d names no resource", in.Op)
		case in.KeyHash.IsZero():
			return fmt.Errorf("intent of op %d has no key hash", in.Op)
		case in.Verb != Create && in.Verb != Update && in.Verb != Delete:
			return fmt.Errorf("intent of op %d has no verb", in.Op)
		case in.Verb != Create && in.EdfiID == "":
			return fmt.Errorf("intent of op %d has no id to call", in.Op)
		case len(in.Key) == 0 && (in.Verb == Create || in.moves()):
			return fmt.Errorf("intent of op %d has no natural key", in.Op)
		}
	}
	return nil
}
