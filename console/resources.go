package console

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/edfisync/edfisync/sync"
)

// resourceJSON is how a resource of a connection is.
type resourceJSON struct {
	Resource  string    `json:"resource"`
	On        bool      `json:"on" doc:"The connection syncs it. What it does not stays at the target as it is."`
	FreshAsOf time.Time `json:"freshAsOf,omitzero" doc:"When the last run began that read it: the target is as the source was then, but for what waits."`
	Run       int64     `json:"run,omitempty" doc:"That run."`
	Rows      int64     `json:"rows" doc:"Read from the source."`
	Confirmed int64     `json:"confirmed" doc:"Records that the target has confirmed to hold exactly so."`
	Waits     int64     `json:"waits" doc:"Rows and deletes that are not in sync: invalid, blocked, held, rejected or failed."`
}

// resourceReceipts is how many receipts are looked through for resources that the last run left out.
const resourceReceipts = 20

// listResources lists the resources of a connection in alphabetical order, as its last receipts have them.
func (s *Console) listResources(ctx context.Context, in *ConnectionPath) (*list[resourceJSON], error) {
	c, err := s.connection(ctx, in.Connection)
	if err != nil {
		return nil, err
	}
	out := &list[resourceJSON]{}
	if out.Body.Items, err = s.resourcesOf(ctx, c); err != nil {
		return nil, err
	}
	return out, nil
}

func (s *Console) resourcesOf(ctx context.Context, c Connection) ([]resourceJSON, error) {
	kept, err := s.c.Ledger.ReceiptsBefore(ctx, c.ID, 0, resourceReceipts)
	if err != nil {
		return nil, err
	}
	found := map[string]*resourceJSON{}
	for _, name := range c.Resources {
		found[name] = &resourceJSON{Resource: name, On: true}
	}
	for i, k := range kept {
		var r sync.Receipt
		if err := json.Unmarshal(k.Document, &r); err != nil {
			return nil, fmt.Errorf("read the receipt of run %d: %w", k.RunID, err)
		}
		var began time.Time
		for _, res := range r.Statement.Resources {
			have := found[res.Resource]
			if have == nil && (i == 0 || c.Resources != nil) { // when the configuration does not say which are on, those are that the last run read
				have = &resourceJSON{Resource: res.Resource, On: c.Resources == nil}
				found[res.Resource] = have
			}
			if have == nil || have.Run != 0 {
				continue
			}
			if began.IsZero() {
				run, err := s.c.Ledger.FindProgress(ctx, k.RunID)
				if err != nil {
					return nil, err
				}
				began = run.StartedAt
			}
			x := res.Exceptions
			have.FreshAsOf, have.Run, have.Rows, have.Confirmed = began, k.RunID, res.Rows, res.Live
			have.Waits = x.Invalid + x.Blocked + x.Held + x.Rejected + x.Failed
		}
		if !missingRun(found) {
			break
		}
	}
	out := make([]resourceJSON, 0, len(found))
	for _, r := range found {
		out = append(out, *r)
	}
	slices.SortFunc(out, func(a, b resourceJSON) int { return cmp.Compare(a.Resource, b.Resource) })
	return out, nil
}

// missingRun reports whether a resource is on of which no run is known yet.
func missingRun(found map[string]*resourceJSON) bool {
	for _, r := range found {
		if r.Run == 0 {
			return true
		}
	}
	return len(found) == 0
}
