package syncdb

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
)

// PlanKind says why a plan was kept.
type PlanKind string

// The kinds of a plan.
const (
	PlanSaved PlanKind = "plan" // written by `plan --out`, to be applied as it is or refused (I8)
	PlanHold  PlanKind = "hold" // ops a safeguard kept back (I5e)
	PlanUndo  PlanKind = "undo" // ops of a run that was undone: not sent again until their source rows change, or somebody releases it
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
	PlanReleased  PlanState = "released"  // the source does not ask for any of them any more, or a person let go of what was undone
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
	Edition      int64           `json:"edition"`            // +1 whenever its ops are replaced by others: what a person has looked at; 0 = its ops are not kept any more
	Ops          int64           `json:"ops"`
	Counts       json.RawMessage `json:"counts,omitempty"` // by resource and verb
	CreatedAt    time.Time       `json:"createdAt"`
	UpdatedAt    time.Time       `json:"updatedAt"` // when its ops were last replaced
	DecidedAt    time.Time       `json:"decidedAt,omitzero"`
	DecidedBy    string          `json:"decidedBy,omitempty"`
	Why          string          `json:"why,omitempty"` // the words of who decided
	AppliedRun   int64           `json:"appliedRun,omitempty"`
	Mark         string          `json:"-"` // hold of a source that is behind: its watermark, which an approval accepts; "" = none, or accepted already
}

// PlanOp is one op of a plan. Two ops are the same when all fields but Step and Alone are.
type PlanOp struct {
	Step       int // position in load order; ops of a plan are sorted by (Step, KeyHash)
	Resource   string
	Verb       Verb
	KeyHash    Hash
	OldKeyHash Hash // Update that changes the natural key: the key before; zero otherwise
	SourceHash Hash
	OldRecord  Hash // what the ledger had; zero for Create
	NewRecord  Hash // what would be sent; Delete: stands for what the record's row asks for instead, under another natural key; zero = it asks for nothing
	RecordID   Hash // Delete: stands for the record's id; zero = not known
	Alone      bool // Delete without NewRecord: its row asks for nothing instead. Otherwise an older program wrote the op, which did not say
}

// Untold reports whether an older program wrote the op, and did not say what the row of a record to delete asks for instead.
func (o *PlanOp) Untold() bool { return o.Verb == Delete && o.NewRecord.IsZero() && !o.Alone }

// PlanFilter narrows Plans. Zero fields do not narrow.
type PlanFilter struct {
	Kind   PlanKind
	States []PlanState
	Limit  int // newest first; 0 = all
}

// Decision is what a person says about a plan.
type Decision struct {
	From    []PlanState // the states it may be in; it is refused in any other (F63)
	To      PlanState   // approved, discarded, or open again; released for what was undone
	Edition int64       // of the plan that was looked at: another one is refused (I8); 0 = whichever it is by now
	Who     string      // a name for the audit
	Why     string      // kept with the plan
}

// Compare orders ops as a plan gives them out: by step, then by key.
func (o *PlanOp) Compare(p *PlanOp) int {
	return cmp.Or(cmp.Compare(o.Step, p.Step), bytes.Compare(o.KeyHash[:], p.KeyHash[:]), cmp.Compare(o.Resource, p.Resource),
		cmp.Compare(o.Verb, p.Verb), bytes.Compare(o.OldKeyHash[:], p.OldKeyHash[:]))
}

// Decide returns the plan after a person's decision and the audit row of it, whose Connection is still to be set. It returns a
// *PlanStateError when the plan is in none of the states the decision is about, and a *PlanEditionError when its ops are not those any more.
func (p *Plan) Decide(d Decision, now time.Time) (Plan, AuditRow, error) {
	verb := map[PlanState]string{PlanApproved: "approve", PlanDiscarded: "discard", PlanOpen: "reopen", PlanReleased: "release"}[d.To]
	if verb == "" {
		return Plan{}, AuditRow{}, fmt.Errorf("a person cannot make a plan %q", d.To)
	}
	if d.Who == "" {
		return Plan{}, AuditRow{}, errors.New("nobody is named who decides")
	}
	if !slices.Contains(d.From, p.State) {
		return Plan{}, AuditRow{}, &PlanStateError{ID: p.ID, State: p.State}
	}
	if (d.To == PlanReleased) != (p.Kind == PlanUndo) { // no run would make what was undone, and no person ends a hold
		return Plan{}, AuditRow{}, fmt.Errorf("a person cannot make a %s %q", p.Kind, d.To)
	}
	if d.Edition != 0 && d.Edition != p.Edition {
		return Plan{}, AuditRow{}, &PlanEditionError{ID: p.ID, Asked: d.Edition, Edition: p.Edition, Ops: p.Ops}
	}
	detail, err := json.Marshal(struct {
		From     PlanState `json:"from"`
		Edition  int64     `json:"edition"`
		Ops      int64     `json:"ops"`
		Resource string    `json:"resource,omitempty"`
		Rule     string    `json:"rule,omitempty"`
		Why      string    `json:"why,omitempty"`
	}{p.State, p.Edition, p.Ops, p.Resource, p.Rule, d.Why})
	if err != nil {
		return Plan{}, AuditRow{}, err
	}
	after := *p
	after.State, after.DecidedAt, after.DecidedBy, after.Why = d.To, now, d.Who, d.Why
	return after, AuditRow{Who: d.Who, Action: string(p.Kind) + "." + verb, Object: fmt.Sprintf("%s %d", p.Kind, p.ID), Detail: detail}, nil
}

// Close returns the plan as a run leaves it: applied by that run, released or stale. Closing it again the same way changes nothing. It
// returns a *PlanStateError when the plan is neither open nor approved.
func (p *Plan) Close(to PlanState, runID int64) (Plan, error) {
	if to != PlanApplied && to != PlanReleased && to != PlanStale {
		return Plan{}, fmt.Errorf("a run cannot make a plan %q", to)
	}
	after := *p
	after.State = to
	if to == PlanApplied {
		after.AppliedRun = runID
	}
	if p.State != PlanOpen && p.State != PlanApproved && (p.State != to || p.AppliedRun != after.AppliedRun) {
		return Plan{}, &PlanStateError{ID: p.ID, State: p.State}
	}
	return after, nil
}

// Narrows returns an error when NarrowPlan must leave the plan as it is, for it is not what a scan looked at: that edition, which somebody has
// approved or discarded. The error is a *PlanStateError or a *PlanEditionError.
func (p *Plan) Narrows(edition int64) error {
	if p.State != PlanApproved && p.State != PlanDiscarded {
		return &PlanStateError{ID: p.ID, State: p.State}
	}
	if p.Edition != edition {
		return &PlanEditionError{ID: p.ID, Asked: edition, Edition: p.Edition, Ops: p.Ops}
	}
	return nil
}

// Check returns an error when the plan cannot be stored as it is.
func (p *Plan) Check() error {
	switch p.Kind {
	case PlanSaved, PlanHold, PlanUndo:
	default:
		return fmt.Errorf("%q is not a kind of plan", p.Kind)
	}
	switch p.State {
	case PlanOpen, PlanReleased, PlanStale:
	case PlanApproved, PlanDiscarded:
		if p.DecidedBy == "" {
			return fmt.Errorf("a plan cannot be %s by nobody", p.State)
		}
	case PlanApplied:
		if p.AppliedRun == 0 {
			return errors.New("a plan cannot be applied by no run")
		}
	default:
		return fmt.Errorf("%q is not a state of a plan", p.State)
	}
	if p.State != PlanApplied && p.AppliedRun != 0 {
		return fmt.Errorf("a %s plan has no run that applied it", p.State)
	}
	return nil
}
