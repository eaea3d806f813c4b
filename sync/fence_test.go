package sync_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edfisync/edfisync/syncdb"
)

// fencesAt is a ledger that fences the run out when it writes its n-th batch of students.
type fencesAt struct {
	ledger
	n    *atomic.Int64
	then func()
}

func (f fencesAt) Append(ctx context.Context, l syncdb.Lease, step int, in []syncdb.Intent, res []syncdb.Result) error {
	if len(in) > 0 && in[0].Resource == "ed-fi/students" && f.n.Add(-1) <= 0 {
		f.then()
		return syncdb.ErrFenced
	}
	return f.ledger.Append(ctx, l, step, in, res)
}

// A run that learns that it is fenced out stops at once, in all its steps: it does not work off the batches it has open (I7).
func TestRunThatIsFencedOutWorksOffNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(150)
	e, closeAll := w.engine()
	defer closeAll()
	e.Options.Workers = 2
	var fenced atomic.Bool
	var late atomic.Int64
	w.front.intercept(func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPost && fenced.Load() {
			late.Add(1)
		}
		time.Sleep(time.Millisecond)
		return false
	})
	n := new(atomic.Int64)
	n.Store(2)
	e.Ledger = fencesAt{w.ledger, n, func() { fenced.Store(true) }}
	_, err := e.Run(t.Context())
	if !errors.Is(err, syncdb.ErrFenced) {
		t.Errorf("got %v, want the fence", err)
	}
	if got := late.Load(); got > 8 { // in flight at that moment: two steps with two workers, and what they were just about to send
		t.Errorf("%d calls were made after the fence", got)
	}
}

// An agency gets another id, and the answers to the creates of what refers to the new one are lost: what refers to the old one stays, and so must
// the old agency. A delete is not tried against what is known to refer to it (I6).
func TestRecordIsNotDeletedWhileADependentKeepsItsOldKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(2)
	w.mustRun()
	w.exec(`update agency set id = 2`)
	w.exec(`update school set agency = 2`)
	w.exec(`update demographic set agency = 2`)
	w.front.intercept(func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, "/studentEducationOrganizationAssociations") {
			w.commitAndDrop(r)
		}
		return false
	})
	_, calls := w.mustRun()
	w.front.intercept(nil)
	if n := tally(calls)["DELETE ed-fi/localEducationAgencies"]; n > 0 {
		t.Errorf("calls %v: the old agency was to be deleted while demographics refer to it", calls)
	}
	w.mustRun()
	w.converged()
	if n := w.count("ed-fi/localEducationAgencies"); n != 1 {
		t.Errorf("%d agencies at the target, want 1", n)
	}
}

// A record is deleted, its row returns and it is created anew, and nobody hears the answers to either. When the row goes for good, the id the
// ledger knew is not the record's any more: a DELETE of it answered 404 says nothing, and the record would stay for ever (I1, I4).
func TestRecordMadeAnewWithoutAnAnswerIsFoundAndDeleted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(2)
	w.mustRun()
	lose := func(methods ...string) {
		w.front.intercept(func(_ http.ResponseWriter, r *http.Request) bool {
			if slices.Contains(methods, r.Method) && strings.Contains(r.URL.Path, "/studentEducationOrganizationAssociations") {
				w.commitAndDrop(r)
			}
			return false
		})
	}
	lose(http.MethodDelete)
	w.exec(`delete from demographic where id = 1`)
	w.mustRun()
	lose(http.MethodPost)
	w.exec(`insert into demographic values (1, 1, 1, 'login1')`)
	w.mustRun()
	w.front.intercept(nil)
	w.exec(`delete from demographic where id = 1`)
	w.mustRun()
	w.converged()
	if n := w.count("ed-fi/studentEducationOrganizationAssociations"); n != 1 {
		t.Errorf("%d demographics at the target, want 1: an orphan", n)
	}
}

// Another client deletes our record; the PUT that finds it gone is followed by a create whose answer is lost. The new record is ours, and goes
// with its row.
func TestRecordMadeAnewAfter404WithoutAnAnswerStaysOurs(t *testing.T) {
	t.Parallel()
	for name, between := range map[string]string{
		"its row goes at once": ``,
		"its row goes later":   `update demographic set login = 'again' where id = 1`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.fill(2)
			w.mustRun()
			var once atomic.Bool
			w.front.intercept(func(_ http.ResponseWriter, r *http.Request) bool {
				switch {
				case !strings.Contains(r.URL.Path, "/studentEducationOrganizationAssociations"):
				case r.Method == http.MethodPut && once.CompareAndSwap(false, true):
					del := r.Clone(r.Context())
					del.Method, del.Body, del.ContentLength = http.MethodDelete, http.NoBody, 0
					w.sandbox.Handler().ServeHTTP(httptest.NewRecorder(), del)
				case r.Method == http.MethodPost:
					w.commitAndDrop(r)
				}
				return false
			})
			w.exec(`update demographic set login = 'other' where id = 1`)
			w.mustRun()
			w.front.intercept(nil)
			if between != "" {
				w.exec(between)
				w.mustRun()
			}
			w.exec(`delete from demographic where id = 1`)
			w.mustRun()
			w.converged()
			if n := w.count("ed-fi/studentEducationOrganizationAssociations"); n != 1 {
				t.Errorf("%d demographics at the target, want 1: an orphan", n)
			}
		})
	}
}
