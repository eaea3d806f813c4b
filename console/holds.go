package console

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/edfisync/edfisync/internal/httpd"
	"github.com/edfisync/edfisync/syncdb"
)

// planJSON is a plan, a hold or an undone run as the API shows it: hashes and counts, no payload.
type planJSON struct {
	ID         int64           `json:"id"`
	Connection string          `json:"connection"`
	Kind       string          `json:"kind" enum:"plan,hold,undo"`
	State      string          `json:"state" enum:"open,approved,applied,discarded,released,stale"`
	Edition    int64           `json:"edition" doc:"Goes up when its calls are replaced by others; a decision is about one edition."`
	Ops        int64           `json:"ops" doc:"How many calls."`
	Counts     json.RawMessage `json:"counts,omitempty" doc:"Calls by resource and verb."`
	Resource   string          `json:"resource,omitempty" doc:"Left out: of several."`
	Verb       string          `json:"verb,omitempty" doc:"create, update, delete; left out: of several."`
	Rule       string          `json:"rule,omitempty" doc:"The safeguard that held it."`
	Reason     string          `json:"reason,omitempty"`
	Run        int64           `json:"run,omitempty" doc:"The run that opened it, or that was undone."`
	AppliedRun int64           `json:"appliedRun,omitempty"`
	CreatedAt  time.Time       `json:"createdAt"`
	UpdatedAt  time.Time       `json:"updatedAt"`
	DecidedAt  time.Time       `json:"decidedAt,omitzero"`
	DecidedBy  string          `json:"decidedBy,omitempty"`
	Why        string          `json:"why,omitempty" doc:"The words of who decided."`
}

func planOf(p syncdb.Plan, connection string) planJSON {
	verb, _ := p.Verb.MarshalText() // "" for one there is not
	return planJSON{
		ID: p.ID, Connection: connection, Kind: string(p.Kind), State: string(p.State), Edition: p.Edition, Ops: p.Ops, Counts: p.Counts, Resource: p.Resource, Verb: string(verb),
		Rule: p.Rule, Reason: p.Reason, Run: p.RunID, AppliedRun: p.AppliedRun, CreatedAt: p.CreatedAt, UpdatedAt: p.UpdatedAt, DecidedAt: p.DecidedAt, DecidedBy: p.DecidedBy,
		Why: p.Why,
	}
}

type plansInput struct {
	ConnectionPath
	Paging
	State string `query:"state" enum:"open,approved,applied,discarded,released,stale" doc:"Only those in this state."`
}

// listHolds lists what safeguards hold and what was undone; listPlans what was saved to be applied.
func (s *Console) listHolds(ctx context.Context, in *plansInput) (*list[planJSON], error) {
	return s.plans(ctx, in, func(k syncdb.PlanKind) bool { return k != syncdb.PlanSaved })
}

func (s *Console) listPlans(ctx context.Context, in *plansInput) (*list[planJSON], error) {
	return s.plans(ctx, in, func(k syncdb.PlanKind) bool { return k == syncdb.PlanSaved })
}

func (s *Console) plans(ctx context.Context, in *plansInput, wanted func(syncdb.PlanKind) bool) (*list[planJSON], error) {
	c, err := s.connection(ctx, in.Connection)
	if err != nil {
		return nil, err
	}
	before, err := in.before()
	if err != nil {
		return nil, err
	}
	f := syncdb.PlanFilter{}
	if in.State != "" {
		f.States = []syncdb.PlanState{syncdb.PlanState(in.State)}
	}
	all, err := s.c.Ledger.Plans(ctx, c.ID, f)
	if err != nil {
		return nil, err
	}
	page := all[:0]
	for _, p := range all {
		if wanted(p.Kind) && (before == 0 || p.ID < before) {
			page = append(page, p)
		}
	}
	name := nameOf(c.Tenant, c.Name)
	return newList(page, in.Limit, func(p syncdb.Plan) int64 { return p.ID }, func(p syncdb.Plan) planJSON { return planOf(p, name) }), nil
}

// plan finds a plan that the principal of a request sees; held asks for what can be decided about as a hold.
func (s *Console) plan(ctx context.Context, id int64, held bool) (syncdb.Plan, syncdb.Connection, error) {
	what := "plan"
	if held {
		what = "hold"
	}
	p, err := s.c.Ledger.FindPlan(ctx, id)
	if err != nil {
		return p, syncdb.Connection{}, missingAs(err, what)
	}
	if held != (p.Kind != syncdb.PlanSaved) {
		return p, syncdb.Connection{}, notFound(what)
	}
	c, err := s.owner(ctx, p.ConnectionID, what)
	return p, c, err
}

func (s *Console) showHold(ctx context.Context, in *IDPath) (*one[planJSON], error) {
	p, c, err := s.plan(ctx, in.ID, true)
	if err != nil {
		return nil, err
	}
	return &one[planJSON]{planOf(p, nameOf(c.Tenant, c.Name))}, nil
}

func (s *Console) showPlan(ctx context.Context, in *IDPath) (*one[planJSON], error) {
	p, c, err := s.plan(ctx, in.ID, false)
	if err != nil {
		return nil, err
	}
	return &one[planJSON]{planOf(p, nameOf(c.Tenant, c.Name))}, nil
}

type decideInput struct {
	IDPath
	Body struct {
		Edition int64  `json:"edition" minimum:"1" doc:"The edition that was looked at. Another one is refused: nobody decides about calls they have not seen."`
		Why     string `json:"why" minLength:"1" maxLength:"500" doc:"Kept with the hold and in the audit trail. No student data, please."`
	}
}

func (s *Console) approve(ctx context.Context, in *decideInput) (*one[planJSON], error) {
	return s.decide(ctx, in, []syncdb.PlanState{syncdb.PlanOpen}, syncdb.PlanApproved)
}

func (s *Console) discard(ctx context.Context, in *decideInput) (*one[planJSON], error) {
	return s.decide(ctx, in, []syncdb.PlanState{syncdb.PlanOpen}, syncdb.PlanDiscarded)
}

func (s *Console) reopen(ctx context.Context, in *decideInput) (*one[planJSON], error) {
	return s.decide(ctx, in, []syncdb.PlanState{syncdb.PlanApproved, syncdb.PlanDiscarded}, syncdb.PlanOpen)
}

// decide writes a decision with who made it and why, in one transaction with its audit row (I16). Who comes second, or looked at other calls, is refused
// and told (F63, I8).
func (s *Console) decide(ctx context.Context, in *decideInput, from []syncdb.PlanState, to syncdb.PlanState) (*one[planJSON], error) {
	if strings.TrimSpace(in.Body.Why) == "" {
		return nil, refuse(http.StatusUnprocessableEntity, "invalid", "say why")
	}
	if err := said("why", in.Body.Why); err != nil {
		return nil, err
	}
	seen, c, err := s.plan(ctx, in.ID, true)
	if err != nil {
		return nil, err
	}
	if seen.Kind == syncdb.PlanUndo {
		if to != syncdb.PlanOpen {
			return nil, refuse(http.StatusConflict, "undone", "these calls were undone by a person: they can be reopened, not approved or discarded")
		}
		to = syncdb.PlanReleased // no safeguard asked about it, so there is no question to open again
	}
	p, err := s.c.Ledger.DecidePlan(ctx, c.ID, in.ID, syncdb.Decision{From: from, To: to, Edition: in.Body.Edition, Who: httpd.PrincipalOf(ctx).Who(), Why: in.Body.Why})
	var state *syncdb.PlanStateError
	var edition *syncdb.PlanEditionError
	switch {
	case errors.As(err, &state):
		return nil, refuse(http.StatusConflict, "hold-decided", "hold %d is %s: nothing was changed", in.ID, state.State)
	case errors.As(err, &edition):
		return nil, refuse(http.StatusConflict, "hold-replaced", "hold %d is now edition %d with %d calls: look at it again; nothing was changed", in.ID, edition.Edition, edition.Ops)
	case errors.Is(err, syncdb.ErrHoldOpen):
		return nil, refuse(http.StatusConflict, "hold-open", "a newer hold of the same kind is open: nothing was changed")
	case err != nil:
		return nil, missingAs(err, "hold")
	}
	return &one[planJSON]{planOf(p, nameOf(c.Tenant, c.Name))}, nil
}
