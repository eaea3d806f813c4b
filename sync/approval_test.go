package sync_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/edfisync/edfisync/sync"
	"github.com/edfisync/edfisync/syncdb"
)

// An approval lasts until its calls are made, or the source does not ask for them any more: a call without an answer, after which the ledger does not know
// what the record is, is made again and asked about no more.

// mutedLedger keeps no results of calls once it is silent, as when the process was killed before it could.
type mutedLedger struct {
	ledger
	silent atomic.Bool
}

func (l *mutedLedger) Append(ctx context.Context, lease syncdb.Lease, step int, intents []syncdb.Intent, results []syncdb.Result) error {
	if l.silent.Load() {
		return errors.New("the process is gone")
	}
	return l.ledger.Append(ctx, lease, step, intents, results)
}

func (l *mutedLedger) Fold(ctx context.Context, lease syncdb.Lease, step int) (int, error) {
	if l.silent.Load() {
		return 0, errors.New("the process is gone")
	}
	return l.ledger.Fold(ctx, lease, step)
}

func TestAnApprovalLastsUntilItsCallsAreMade(t *testing.T) {
	t.Parallel()
	held := sync.Limit{Percent: 1, Count: 1}
	holds := map[string]struct {
		set, edit func(w *world)
		calls     map[string]int // of the runs after the fault
	}{
		"mass-delete": {
			func(w *world) {
				w.options.Safeguards.Resources = map[string]sync.ResourceSafeguards{demographics: {Deletes: held}}
			},
			func(w *world) { w.exec(`delete from demographic where id > 26`) }, map[string]int{"DELETE " + demographics: 4},
		},
		"run-mass-delete": {
			func(w *world) { w.options.Safeguards.RunDeletes = held },
			func(w *world) { w.exec(`delete from demographic where id > 26`) }, map[string]int{"DELETE " + demographics: 4},
		},
		"source-behind": {
			func(w *world) { w.exec(`update clock set seen = 99`) },
			func(w *world) { w.exec(`delete from demographic where id > 26`) }, map[string]int{"DELETE " + demographics: 4},
		},
		"out-of-scope": {
			func(w *world) { delete(w.pack, "studentEducationOrganizationAssociations.sql") },
			func(w *world) {}, map[string]int{"DELETE " + demographics: 30},
		},
		"mass-delete of key changes": {
			func(w *world) {
				w.options.Safeguards.Resources = map[string]sync.ResourceSafeguards{demographics: {Deletes: held}}
			},
			func(w *world) { w.exec(`update demographic set agency = 2 where id > 26`) }, map[string]int{"POST " + demographics: 4, "DELETE " + demographics: 4},
		},
		"mass-update of natural keys": {
			func(w *world) {
				w.options.Safeguards.Resources = map[string]sync.ResourceSafeguards{"ed-fi/classPeriods": {Updates: held}}
			},
			func(w *world) { w.exec(`update period set name = 'X' || id`) }, map[string]int{"PUT ed-fi/classPeriods": 2},
		},
		"mass-update": {
			func(w *world) {
				w.options.Safeguards.Resources = map[string]sync.ResourceSafeguards{demographics: {Updates: held}}
			},
			func(w *world) { w.exec(`update demographic set login = 'other' || id where id > 26`) }, map[string]int{"POST " + demographics: 4}, // which settles them
		},
	}
	faults := map[string]func(w *world, muted *mutedLedger) func(http.ResponseWriter, *http.Request) bool{
		"500": func(*world, *mutedLedger) func(http.ResponseWriter, *http.Request) bool {
			return func(rw http.ResponseWriter, _ *http.Request) bool {
				rw.WriteHeader(http.StatusInternalServerError)
				return true
			}
		},
		"no answer, not arrived": func(*world, *mutedLedger) func(http.ResponseWriter, *http.Request) bool {
			return func(http.ResponseWriter, *http.Request) bool { panic(http.ErrAbortHandler) }
		},
		"no answer, arrived": func(w *world, _ *mutedLedger) func(http.ResponseWriter, *http.Request) bool {
			return func(_ http.ResponseWriter, r *http.Request) bool {
				w.front.next.ServeHTTP(httptest.NewRecorder(), r)
				panic(http.ErrAbortHandler)
			}
		},
		"killed before it": func(_ *world, muted *mutedLedger) func(http.ResponseWriter, *http.Request) bool {
			return func(http.ResponseWriter, *http.Request) bool {
				muted.silent.Store(true)
				panic(http.ErrAbortHandler)
			}
		},
		"killed after it": func(w *world, muted *mutedLedger) func(http.ResponseWriter, *http.Request) bool {
			return func(_ http.ResponseWriter, r *http.Request) bool {
				muted.silent.Store(true)
				w.front.next.ServeHTTP(httptest.NewRecorder(), r)
				panic(http.ErrAbortHandler)
			}
		},
	}
	for rule, tt := range holds {
		for fault, fail := range faults {
			t.Run(rule+", "+fault, func(t *testing.T) {
				t.Parallel()
				w := markedWorld(t)
				w.exec(`insert into agency values (2, 'Other', null)`)
				w.options.Safeguards = lenient()
				w.mustRun()
				tt.set(w)
				tt.edit(w)
				w.mustRun()
				h := w.oneHold(syncdb.PlanOpen)
				w.decide(syncdb.PlanApproved)
				whole := w.ledger
				muted := &mutedLedger{ledger: whole}
				w.ledger = muted
				do := fail(w, muted)
				failed := false
				w.front.intercept(func(rw http.ResponseWriter, r *http.Request) bool {
					if r.Method == http.MethodGet || !strings.Contains(r.URL.Path, "/ed-fi/") {
						return false
					}
					w.front.mu.Lock()
					failed = true
					w.front.mu.Unlock()
					return do(rw, r)
				})
				s, _, err := w.run()
				if !failed || err == nil && s.Failed+s.Held == 0 {
					t.Fatalf("the first run after the approval made all of it: %+v, %v", s.Totals, err)
				}
				w.front.intercept(nil)
				w.ledger = whole
				made := map[string]int{}
				for run := range 3 {
					s, calls := w.mustRun()
					for call, n := range tally(calls) {
						made[call] += n
					}
					if len(s.HeldBack) > 0 || len(w.holds(syncdb.PlanOpen)) > 0 {
						t.Errorf("run %d after it: held back %+v, open %+v, want nobody asked again", run+1, s.HeldBack, w.holds(syncdb.PlanOpen))
					}
				}
				if diff := cmp.Diff(made, tt.calls); diff != "" {
					t.Errorf("calls (-got +want):\n%s", diff)
				}
				if got, err := w.ledger.PlanByID(t.Context(), w.conn.ID, h.ID); err != nil || got.State != syncdb.PlanApplied && (!strings.HasPrefix(rule, "mass-update") || got.State != syncdb.PlanReleased) {
					t.Errorf("got %+v, %v, want the hold closed", got, err)
				}
				w.converged()
			})
		}
	}
}

// What was approved was that rows get other records, not that records go whose rows are not there any more (I5e).
func TestAnApprovedKeyChangeWhoseRowIsGoneIsAskedAboutAnew(t *testing.T) {
	t.Parallel()
	for _, half := range []bool{false, true} {
		t.Run(fmt.Sprintf("its create was made %t", half), func(t *testing.T) {
			t.Parallel()
			w := newAgencies(t)
			w.options.Safeguards.Resources = map[string]sync.ResourceSafeguards{demographics: {Deletes: sync.Limit{Percent: 1, Count: 1}}}
			w.exec(`update demographic set agency = 2 where id < 4`)
			w.mustRun()
			w.decide(syncdb.PlanApproved)
			if half {
				w.refusing(http.MethodDelete, demographics, func() { w.mustRun() })
			}
			w.exec(`delete from demographic where id < 4`)
			s, calls := w.mustRun()
			if slices.Contains(calls, "DELETE "+demographics) || len(s.HeldBack) != 1 {
				t.Errorf("got calls %v, held back %+v, want all deletes held", calls, s.HeldBack)
			}
		})
	}
}
