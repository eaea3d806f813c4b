package console

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"github.com/edfisync/edfisync/internal/httpd"
	"github.com/edfisync/edfisync/sync"
	"github.com/edfisync/edfisync/syncdb"
)

// heldCallJSON is one call that a hold keeps back, without student data.
type heldCallJSON struct {
	Resource string `json:"resource"`
	Verb     string `json:"verb" enum:"create,update,delete"`
	Record   string `json:"record" doc:"Names the record without student data; its data says what would change."`
}

type holdCallsInput struct {
	IDPath
	Paging
}

// errEnough ends reading calls: a page is full.
var errEnough = errors.New("enough")

// listHoldCalls lists the calls that a hold keeps back, in the order in which they would be made.
func (s *Console) listHoldCalls(ctx context.Context, in *holdCallsInput) (*list[heldCallJSON], error) {
	p, _, err := s.plan(ctx, in.ID, true)
	if err != nil {
		return nil, err
	}
	skip, err := in.before()
	if err != nil {
		return nil, err
	}
	out := &list[heldCallJSON]{}
	out.Body.Items = []heldCallJSON{}
	at := int64(0)
	err = s.c.Ledger.PlanOps(ctx, p.ConnectionID, p.ID, func(o syncdb.PlanOp) error {
		at++
		if at <= skip {
			return nil
		}
		if len(out.Body.Items) == in.Limit {
			out.Body.Next = cursor(at - 1)
			return errEnough
		}
		verb, err := o.Verb.MarshalText()
		if err != nil {
			return err
		}
		id := sync.RecordID{Resource: o.Resource, Key: o.KeyHash, Row: o.SourceHash}
		if !o.OldKeyHash.IsZero() { // its key would change: the ledger knows it by the one it has
			id.Key = o.OldKeyHash
		}
		out.Body.Items = append(out.Body.Items, heldCallJSON{o.Resource, string(verb), id.String()})
		return nil
	})
	if err != nil && !errors.Is(err, errEnough) {
		return nil, err
	}
	return out, nil
}

// holdView is the page of one hold.
type holdView struct {
	planJSON
	Calls []heldCallJSON
	Next  string
}

// Path is where the record of a call is.
func (v holdView) Path(c heldCallJSON) string { return recordPath(v.Connection, c.Resource, c.Record) }

func (s *Console) holdPage(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	id, err := idOf(r)
	if err != nil {
		return err
	}
	hold, err := s.showHold(ctx, &IDPath{id})
	if err != nil {
		return err
	}
	calls, err := s.listHoldCalls(ctx, &holdCallsInput{IDPath{id}, Paging{Limit: rowsShown, Cursor: r.FormValue("cursor")}})
	if err != nil {
		return err
	}
	page := holdView{hold.Body, calls.Body.Items, calls.Body.Next}
	s.show(w, r, http.StatusOK, "hold", frame{
		Title: fmt.Sprintf("Hold %d", id), Page: page, Trail: []crumb{home(), crumbOf(page.Connection), {"Holds", "/connections/" + url.PathEscape(page.Connection) + "/holds"}},
	})
	return nil
}

// holdRoutes registers what shows the calls of a hold.
func (s *Console) holdRoutes(reads httpd.Rule) {
	register(s, reads, get("/holds/{id}/calls", "listHoldCalls", "holds", "List the calls that a hold keeps back, without student data"), s.listHoldCalls)
	s.pageOf("GET /holds/{id}", reads, s.holdPage)
}
