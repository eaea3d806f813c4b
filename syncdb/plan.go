package syncdb

import (
	"encoding/json"
	"time"
)

// PlanKind says why a plan was kept.
type PlanKind string

// The kinds of a plan.
const (
	PlanSaved PlanKind = "plan" // written by `plan --out`, to be applied as it is or refused (I8)
	PlanHold  PlanKind = "hold" // ops a safeguard kept back (I5e)
	PlanUndo  PlanKind = "undo" // ops of a run that was undone: not sent again until their source rows change
)

// PlanState is the life of a plan.
type PlanState string

// The states of a plan. open → approved → applied; open → discarded; open → released, when nothing of it is wanted any more; open → stale,
// when an apply was refused.
const (
	PlanOpen      PlanState = "open"
	PlanApproved  PlanState = "approved"  // a person allowed exactly these ops; the next run makes those it still wants
	PlanApplied   PlanState = "applied"   // a run has made them
	PlanDiscarded PlanState = "discarded" // a person said no: exactly these ops are not made, nor asked about again
	PlanReleased  PlanState = "released"  // the source does not ask for any of them any more
	PlanStale     PlanState = "stale"     // an apply found that source, ledger or configuration had changed
)

// Plan is a set of ops that waits for a person (engine.md §6). It holds hashes and counts, no payload.
type Plan struct {
	ID           int64           `json:"id"`
	ConnectionID int64           `json:"-"`
	Kind         PlanKind        `json:"kind"`
	State        PlanState       `json:"state"`
	RunID        int64           `json:"run,omitempty"`      // run that opened the hold, or that was undone
	Resource     string          `json:"resource,omitempty"` // hold: the resource whose ops are kept back; "" = of several
	Verb         Verb            `json:"verb,omitempty"`     // hold: 0 = of several
	Rule         string          `json:"rule,omitempty"`     // hold: the safeguard, a stable code: "delete-percent", "empty-source", "target-reset"
	Reason       string          `json:"reason,omitempty"`   // the same for a person, with counts; no student values
	Config       string          `json:"config,omitempty"`   // version of configuration and mapping it was made under
	Ops          int64           `json:"ops"`
	Counts       json.RawMessage `json:"counts,omitempty"` // by resource and verb
	CreatedAt    time.Time       `json:"createdAt"`
	UpdatedAt    time.Time       `json:"updatedAt"` // when its ops were last replaced
	DecidedAt    time.Time       `json:"decidedAt,omitzero"`
	DecidedBy    string          `json:"decidedBy,omitempty"`
	Why          string          `json:"why,omitempty"` // the words of who decided
	AppliedRun   int64           `json:"appliedRun,omitempty"`
}

// PlanOp is one op of a plan. Two ops are the same when all fields but Step are.
type PlanOp struct {
	Step       int // position in load order; ops of a plan are sorted by (Step, KeyHash)
	Resource   string
	Verb       Verb
	KeyHash    Hash
	OldKeyHash Hash // Update that changes the natural key: the key before; zero otherwise
	SourceHash Hash
	OldRecord  Hash // what the ledger had; zero for Create
	NewRecord  Hash // what would be sent; zero for Delete
}

// PlanFilter narrows Plans. Zero fields do not narrow.
type PlanFilter struct {
	Kind   PlanKind
	States []PlanState
	Limit  int // newest first; 0 = all
}
