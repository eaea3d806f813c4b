package console

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/edfisync/edfisync/internal/httpd"
	"github.com/edfisync/edfisync/sync"
)

// changesMost is how many calls of a hold are compared at once: the target is asked for each that history does not have.
const changesMost = 25

// heldChangesJSON is what calls of a hold would change.
type heldChangesJSON struct {
	Items   []sync.HeldChange `json:"items" nullable:"false"`
	Next    string            `json:"next,omitempty" doc:"Give it back as cursor to get the next ones; left out at the end."`
	Unasked string            `json:"unasked,omitempty" doc:"Why there are none: the SIS or the target could not be asked."`
}

// listHoldChanges says which elements calls of a hold would change, without values.
func (s *Console) listHoldChanges(ctx context.Context, in *holdCallsInput) (*one[heldChangesJSON], error) {
	return s.holdChanges(ctx, in, false)
}

// showHoldData says what calls of a hold would change, with values.
func (s *Console) showHoldData(ctx context.Context, in *holdCallsInput) (*one[heldChangesJSON], error) {
	return s.holdChanges(ctx, in, true)
}

// holdChanges compares calls of a hold; with data, once that is in the audit trail (I16). At most changesMost at once.
func (s *Console) holdChanges(ctx context.Context, in *holdCallsInput, data bool) (*one[heldChangesJSON], error) {
	p, of, err := s.plan(ctx, in.ID, true)
	if err != nil {
		return nil, err
	}
	c, err := s.connection(ctx, nameOf(of.Tenant, of.Name))
	if err != nil {
		return nil, err
	}
	in.Limit = min(in.Limit, changesMost)
	ops, next, err := s.heldOps(ctx, p, in.Paging)
	if err != nil {
		return nil, err
	}
	if data {
		if err := s.c.Ledger.Audit(ctx, act(ctx, "hold.show", c.Tenant, c.Name, fmt.Sprintf("hold %d", p.ID), map[string]any{"ops": len(ops), "edition": p.Edition})); err != nil {
			return nil, err
		}
	}
	out := &one[heldChangesJSON]{heldChangesJSON{Items: []sync.HeldChange{}, Next: next}}
	if s.c.Records == nil {
		out.Body.Unasked = "this process cannot ask the SIS and the target"
		return out, nil
	}
	asking, cancel := context.WithTimeout(ctx, traceTime)
	defer cancel()
	changes, err := s.c.Records.HeldChanges(asking, c, ops, data)
	switch {
	case err == nil:
		out.Body.Items = append(out.Body.Items, changes...)
	case ctx.Err() != nil:
		return nil, err
	default:
		s.log.WarnContext(ctx, "ask the source and the target about held records", slog.String("request", httpd.RequestID(ctx)), slog.String("connection", nameOf(c.Tenant, c.Name)), slog.Any("error", err))
		out.Body.Unasked = "the SIS or the target could not be asked; the log says why under request " + httpd.RequestID(ctx)
	}
	return out, nil
}
