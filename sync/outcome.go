package sync

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/edfisync/edfisync/syncdb"
)

// Outcome is what became of one source row, or of one entry without a row, in one run. Every row ends with exactly one (I11).
type Outcome uint8

// The outcomes (engine.md §2).
const (
	Unchanged Outcome = iota // the target holds it already; no call
	Created                  // POST, the record is new at the target
	Updated                  // PUT, or POST that met the record
	Rekeyed                  // ledger only: its key follows a parent that was re-keyed by PUT
	Deleted                  // DELETE, or found gone already
	Invalid                  // breaks a rule of the model; held, nothing deleted for it
	Blocked                  // a record it refers to is not at the target
	Held                     // a safeguard keeps it back
	Rejected                 // the target refused it; not sent again while it is the same
	Failed                   // could not be settled in this run; the next one continues
	outcomes
)

var outcomeNames = [outcomes]string{
	"unchanged", "created", "updated", "rekeyed", "deleted", "invalid", "blocked", "held", "rejected", "failed",
}

// String returns the outcome's name in reports and in the ledger.
func (o Outcome) String() string { return outcomeNames[o] }

// Totals counts outcomes.
type Totals struct {
	Rows      int64 `json:"rows"` // source rows read
	Unchanged int64 `json:"unchanged"`
	Created   int64 `json:"created"`
	Updated   int64 `json:"updated"`
	Rekeyed   int64 `json:"rekeyed"`
	Deleted   int64 `json:"deleted"`
	Invalid   int64 `json:"invalid"`
	Blocked   int64 `json:"blocked"`
	Kept      int64 `json:"heldBySafeguard"`
	Decided   int64 `json:"decided,omitempty"` // of the held ones: a person or the configuration said that they stay, nobody is asked again
	Rejected  int64 `json:"rejected"`
	Errors    int64 `json:"failedCalls"`
	Outside   int64 `json:"outOfScope,omitempty"` // rows of schools the connection does not sync, or not in the part the run sends: it says nothing of them
	NotSent   int64 `json:"notSent,omitempty"`    // of the failed ones: a run that ended early did not reach them
	Met       int64 `json:"met"`                  // of Updated: a planned create that met an existing record (I9)
	Calls     int64 `json:"calls"`                // write calls answered, retries not counted
	WithRow   int64 `json:"-"`                    // outcomes given to source rows; equals Rows when the run accounts for every row
	Released  int64 `json:"ledgerOnly"`           // entries dropped from the ledger without a call: the target never held them, or another row owns the record
}

// add counts one outcome. row tells whether it belongs to a source row or to an entry without one.
func (t *Totals) add(o Outcome, row bool) {
	*t.field(o)++
	if row {
		t.WithRow++
	}
}

func (t *Totals) field(o Outcome) *int64 {
	switch o {
	case Unchanged:
		return &t.Unchanged
	case Created:
		return &t.Created
	case Updated:
		return &t.Updated
	case Rekeyed:
		return &t.Rekeyed
	case Deleted:
		return &t.Deleted
	case Invalid:
		return &t.Invalid
	case Blocked:
		return &t.Blocked
	case Held:
		return &t.Kept
	case Rejected:
		return &t.Rejected
	default:
		return &t.Errors
	}
}

// merge adds the counts of other.
func (t *Totals) merge(other Totals) {
	t.Rows += other.Rows
	t.NotSent += other.NotSent
	t.Outside += other.Outside
	t.Decided += other.Decided
	t.Met += other.Met
	t.Calls += other.Calls
	t.WithRow += other.WithRow
	t.Released += other.Released
	for o := range outcomes {
		*t.field(o) += *other.field(o)
	}
}

// Held returns invalid, blocked and held records together, as summaries print them.
func (t Totals) Held() int64 { return t.Invalid + t.Blocked + t.Kept }

// Failed returns rejected and failed records together, as summaries print them.
func (t Totals) Failed() int64 { return t.Rejected + t.Errors }

// StepLedger is the part of the ledger that steps are read from.
type StepLedger interface {
	Steps(ctx context.Context, runID int64) ([]syncdb.Step, error)
}

// TotalsOfSteps adds up what the finished steps of a run did: all that is known of one that lost its process. Rows that were unchanged or invalid are
// not among it, since no step is about them. It only reads.
func TotalsOfSteps(ctx context.Context, l StepLedger, run int64) (Totals, error) {
	steps, err := l.Steps(ctx, run)
	if err != nil {
		return Totals{}, fmt.Errorf("read the steps of run %d: %w", run, err)
	}
	var all Totals
	for _, s := range steps {
		var t Totals
		if len(s.Totals) == 0 {
			continue
		}
		if err := json.Unmarshal(s.Totals, &t); err != nil {
			return Totals{}, fmt.Errorf("read step %d of run %d: %w", s.Position, run, err)
		}
		all.merge(t)
	}
	return all, nil
}
