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

// heldOps reads calls of a hold, in the order in which they would be made; next is where more of them begin, "" when there are none.
func (s *Console) heldOps(ctx context.Context, p syncdb.Plan, in Paging) (ops []syncdb.PlanOp, next string, err error) {
	skip, err := in.before()
	if err != nil {
		return nil, "", err
	}
	at := int64(0)
	err = s.c.Ledger.PlanOps(ctx, p.ConnectionID, p.ID, func(o syncdb.PlanOp) error {
		at++
		if at <= skip {
			return nil
		}
		if len(ops) == in.Limit {
			next = cursor(at - 1)
			return errEnough
		}
		ops = append(ops, o)
		return nil
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	return ops, next, err
}

// listHoldCalls lists the calls that a hold keeps back, in the order in which they would be made.
func (s *Console) listHoldCalls(ctx context.Context, in *holdCallsInput) (*list[heldCallJSON], error) {
	p, _, err := s.plan(ctx, in.ID, true)
	if err != nil {
		return nil, err
	}
	ops, next, err := s.heldOps(ctx, p, in.Paging)
	if err != nil {
		return nil, err
	}
	out := &list[heldCallJSON]{}
	out.Body.Items, out.Body.Next = make([]heldCallJSON, len(ops)), next
	for i, o := range ops {
		verb, err := o.Verb.MarshalText()
		if err != nil {
			return nil, err
		}
		id := sync.RecordID{Resource: o.Resource, Key: o.KeyHash, Row: o.SourceHash}
		if !o.OldKeyHash.IsZero() { // its key would change: the ledger knows it by the one it has
			id.Key = o.OldKeyHash
		}
		out.Body.Items[i] = heldCallJSON{o.Resource, string(verb), id.String()}
	}
	return out, nil
}

// holdView is the page of one hold.
type holdView struct {
	planJSON
	Show    string // "" the calls, changes, data
	Calls   []heldCallJSON
	Changes []sync.HeldChange
	Unasked string // why there are no changes
	Next    string
}

// Path is where the record of a call is.
func (v holdView) Path(resource, record string) string {
	return recordPath(v.Connection, resource, record)
}

func (s *Console) holdPage(show string) func(http.ResponseWriter, *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		ctx := r.Context()
		id, err := idOf(r)
		if err != nil {
			return err
		}
		hold, err := s.showHold(ctx, &IDPath{id})
		if err != nil {
			return err
		}
		page := holdView{planJSON: hold.Body, Show: show}
		if show == "" {
			calls, err := s.listHoldCalls(ctx, &holdCallsInput{IDPath{id}, Paging{Limit: rowsShown, Cursor: r.FormValue("cursor")}})
			if err != nil {
				return err
			}
			page.Calls, page.Next = calls.Body.Items, calls.Body.Next
		} else {
			out, err := s.holdChanges(ctx, &holdCallsInput{IDPath{id}, Paging{Limit: changesMost, Cursor: r.FormValue("cursor")}}, show == "data")
			if err != nil {
				return err
			}
			page.Changes, page.Next, page.Unasked = out.Body.Items, out.Body.Next, out.Body.Unasked
		}
		s.show(w, r, http.StatusOK, "hold", frame{
			Title: fmt.Sprintf("Hold %d", id), Page: page, Data: show == "data",
			Trail: []crumb{home(), crumbOf(page.Connection), {"Holds", "/connections/" + url.PathEscape(page.Connection) + "/holds"}},
		})
		return nil
	}
}

// holdRoutes registers what shows the calls of a hold.
func (s *Console) holdRoutes(reads httpd.Rule) {
	sees := httpd.Rule{Least: httpd.Viewer, StudentData: true} // and each look is audited
	register(s, reads, get("/holds/{id}/calls", "listHoldCalls", "holds", "List the calls that a hold keeps back, without student data"), s.listHoldCalls)
	register(s, reads, get("/holds/{id}/changes", "listHoldChanges", "holds", "List which elements the calls of a hold would change, without their values"), s.listHoldChanges)
	register(s, sees, get("/holds/{id}/data", "showHoldData", "holds", "List what the calls of a hold would change, with values before and after; the look is audited"), s.showHoldData)
	s.pageOf("GET /holds/{id}", reads, s.holdPage(""))
	s.pageOf("GET /holds/{id}/changes", reads, s.holdPage("changes"))
	s.pageOf("GET /holds/{id}/data", sees, s.holdPage("data"))
}
