package sync_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/edfisync/edfisync/sync"
	"github.com/edfisync/edfisync/syncdb"
)

func TestF40SourceThatIsBehindDeletesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.pack["watermark.sql"] = &fstest.MapFile{Data: []byte(`select max(seen) from clock`)}
	w.exec(`create table clock (seen integer)`)
	w.exec(`insert into clock values (100)`)
	mark := func() string {
		t.Helper()
		scope, err := w.ledger.Scope(t.Context(), w.conn.ID, demographics)
		if err != nil {
			t.Fatal(err)
		}
		return scope.ScanMark
	}
	w.fill(30)
	w.mustRun()
	w.exec(`update clock set seen = 101`)
	w.converged()
	if got := mark(); got != "pack:101" {
		t.Errorf("got watermark %q after a complete scan, want that of the scan", got)
	}

	w.exec(`update clock set seen = 99`) // yesterday's copy: two rows are not there yet
	w.exec(`delete from demographic where id > 28`)
	w.exec(`update student set first = 'Ada' where id = 1`)
	s, calls := w.mustRun()
	if diff := cmp.Diff(tally(calls), map[string]int{"PUT ed-fi/students": 1}); diff != "" {
		t.Errorf("calls (-got +want):\n%s", diff)
	}
	if len(s.HeldBack) != 1 || s.HeldBack[0].Rule != sync.RuleSourceBehind || s.HeldBack[0].Ops != 2 || w.openIssues()["source-behind"] != 2 {
		t.Errorf("got held back %v, issues %v", s.HeldBack, w.openIssues())
	}
	if got := mark(); got != "pack:101" {
		t.Errorf("the watermark went back to %q (I10)", got)
	}
	w.options.Safeguards.ApproveDeletes = []string{demographics} // does not overrule it
	if _, calls := w.mustRun(); len(calls) != 0 {
		t.Errorf("got calls %v", calls)
	}
	w.options.Safeguards.ApproveDeletes = nil

	w.exec(`update clock set seen = 102`) // it has caught up, and the rows are really gone
	if s, calls := w.mustRun(); len(calls) != 2 || s.Deleted != 2 || len(w.holds(syncdb.PlanReleased)) != 1 {
		t.Errorf("got calls %v, totals %+v, holds %v", calls, s.Totals, w.holds(syncdb.PlanReleased))
	}
	if got := mark(); got != "pack:102" {
		t.Errorf("got watermark %q", got)
	}
}

func TestF40ApprovedDeletesOfASourceThatIsBehindAreMade(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.pack["watermark.sql"] = &fstest.MapFile{Data: []byte(`select max(seen) from clock`)}
	w.exec(`create table clock (seen text)`)
	w.exec(`insert into clock values ('2026-11-20')`)
	w.fill(30)
	w.mustRun()
	w.exec(`update clock set seen = '2026-11-19'`) // restored on purpose
	w.exec(`delete from demographic where id > 28`)
	w.mustRun()
	w.decide(syncdb.PlanApproved)
	if _, calls := w.mustRun(); len(calls) != 2 {
		t.Errorf("got calls %v, want the two approved deletes", calls)
	}
}

// markedWorld is a world of 30 students that was synced at mark 101 of its source.
func markedWorld(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	w.pack["watermark.sql"] = &fstest.MapFile{Data: []byte(`select max(seen) from clock`)}
	w.exec(`create table clock (seen integer)`)
	w.exec(`insert into clock values (101)`)
	w.fill(30)
	w.mustRun()
	return w
}

// behindWorld is a world whose source was restored to the state of mark 99, and has lost two rows since.
func behindWorld(t *testing.T) *world {
	t.Helper()
	w := markedWorld(t)
	w.converged()
	w.exec(`update clock set seen = 99`)
	w.exec(`delete from demographic where id > 28`)
	w.mustRun()
	return w
}

// mark is the watermark the ledger has.
func (w *world) mark() string {
	w.t.Helper()
	scope, err := w.ledger.Scope(w.t.Context(), w.conn.ID, demographics)
	if err != nil {
		w.t.Fatal(err)
	}
	return scope.ScanMark
}

func TestF40ASourceThatIsBehindAsksNobodyWhenNothingIsGone(t *testing.T) {
	t.Parallel()
	w := markedWorld(t)
	w.exec(`update clock set seen = 99`)
	s, calls := w.mustRun()
	if len(calls) != 0 || len(s.HeldBack) != 0 || s.SourceBehind == "" || len(w.holds(syncdb.PlanOpen)) != 0 {
		t.Errorf("got calls %v, held back %v, behind %q; want no call, no hold, and that the source is behind", calls, s.HeldBack, s.SourceBehind)
	}
	e, done := w.engine()
	defer done()
	if p, err := e.Plan(t.Context(), 0); err != nil || len(p.Held) != 0 || p.SourceBehind == "" {
		t.Errorf("got plan %+v, error %v", p, err)
	}
	if _, _, err := e.SavePlan(t.Context(), 0); err == nil {
		t.Error("a plan was saved of a source that is behind")
	}
}

func TestF40WhoApprovesTheHoldOfASourceThatIsBehindAcceptsItsState(t *testing.T) {
	t.Parallel()
	for name, then := range map[string]string{"as it was": "", "and it went on": "update clock set seen = 100"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := behindWorld(t)
			w.decide(syncdb.PlanApproved)
			if then != "" {
				w.exec(then)
			}
			w.exec(`delete from demographic where id = 28`) // not in the hold, and no more than the limits allow
			if p := w.plannedCalls(); p != 3 {
				t.Errorf("the plan has %d calls, want 3", p)
			}
			if got := w.mark(); got != "pack:101" {
				t.Errorf("a plan wrote the watermark %q", got)
			}
			s, calls := w.mustRun()
			if len(calls) != 3 || len(s.HeldBack) != 0 || s.SourceBehind != "" {
				t.Errorf("got calls %v, held back %v, behind %q", calls, s.HeldBack, s.SourceBehind)
			}
			w.exec(`delete from demographic where id = 27`)
			if s, calls := w.mustRun(); len(calls) != 1 || len(s.HeldBack) != 0 {
				t.Errorf("after it was accepted: got calls %v, held back %v", calls, s.HeldBack)
			}
			w.exec(`update clock set seen = 98`) // another restore is another question
			w.exec(`delete from demographic where id = 26`)
			if s, calls := w.mustRun(); len(calls) != 0 || len(s.HeldBack) != 1 {
				t.Errorf("restored once more: got calls %v, held back %v", calls, s.HeldBack)
			}
		})
	}
}

func TestF40WhatIsOlderThanWhatWasAcceptedIsHeld(t *testing.T) {
	t.Parallel()
	w := behindWorld(t)
	w.decide(syncdb.PlanApproved)
	w.exec(`update clock set seen = 98`)
	w.exec(`delete from demographic where id = 28`)
	if s, calls := w.mustRun(); len(calls) != 2 || len(s.HeldBack) != 1 || s.HeldBack[0].Ops != 1 || w.mark() != "pack:101" {
		t.Errorf("got calls %v, held back %v, watermark %q; want the two approved deletes and the third held", calls, s.HeldBack, w.mark())
	}
}

func TestF40AHoldOfAnOlderStateThanItsOwnIsANewEdition(t *testing.T) {
	t.Parallel()
	w := behindWorld(t)
	first := w.oneHold(syncdb.PlanOpen).Edition
	w.exec(`update clock set seen = 100`)
	w.mustRun()
	if got := w.oneHold(syncdb.PlanOpen).Edition; got != first {
		t.Errorf("the source went on: got edition %d, want %d", got, first)
	}
	w.exec(`update clock set seen = 98`)
	w.mustRun()
	if got := w.oneHold(syncdb.PlanOpen).Edition; got == first {
		t.Errorf("the source is older than whoever looked at edition %d has seen, and it is the same edition", got)
	}
}

func TestF40WhoDiscardsTheHoldOfASourceThatIsBehindAcceptsNothing(t *testing.T) {
	t.Parallel()
	w := behindWorld(t)
	w.decide(syncdb.PlanDiscarded)
	if s, calls := w.mustRun(); len(calls) != 0 || len(s.HeldBack) != 0 || w.mark() != "pack:101" {
		t.Errorf("got calls %v, held back %v, watermark %q", calls, s.HeldBack, w.mark())
	}
	w.exec(`delete from demographic where id = 28`)
	if s, calls := w.mustRun(); len(calls) != 0 || len(s.HeldBack) != 1 || s.HeldBack[0].Ops != 1 {
		t.Errorf("got calls %v, held back %v; want the new delete held", calls, s.HeldBack)
	}
}

func TestF40AnAcceptanceEndsWhenTheSourceHasCaughtUp(t *testing.T) {
	t.Parallel()
	w := behindWorld(t)
	w.front.intercept(func(rw http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodDelete {
			return false
		}
		problemJSON(rw, http.StatusConflict, "urn:ed-fi:api:data-conflict:dependent-item-exists", "x")
		return true
	})
	w.decide(syncdb.PlanApproved)
	w.exec(`update clock set seen = 102`)
	if _, _, err := w.run(); err != nil {
		t.Logf("the run ended with %v", err)
	}
	if len(w.holds(syncdb.PlanApproved)) != 1 {
		t.Fatal("the hold is not approved any more, so the test shows nothing")
	}
	w.front.intercept(nil)
	w.exec(`update clock set seen = 99`)
	w.exec(`delete from demographic where id = 28`)
	if s, calls := w.mustRun(); len(calls) != 2 || len(s.HeldBack) != 1 || s.HeldBack[0].Ops != 1 {
		t.Errorf("got calls %v, held back %v; want the approved deletes made and the new one held", calls, s.HeldBack)
	}
}

// The ledger fails at each of its writes in turn, as when the process is killed there, between the approval and the end of the run.
func TestF40AnAcceptanceThatIsCutOffIsGoneOnWith(t *testing.T) {
	t.Parallel()
	for n := range 12 {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			w := behindWorld(t)
			w.decide(syncdb.PlanApproved)
			w.exec(`delete from demographic where id = 28`)
			whole := w.ledger
			w.ledger = &dyingLedger{ledger: whole, left: n}
			_, first, err := w.run()
			w.ledger = whole
			_, second := w.mustRun()
			if got := len(first) + len(second); got != 3 {
				t.Errorf("the first run ended with %v; got %d deletes in both (%v, %v), want 3", err, got, first, second)
			}
			if s, calls := w.mustRun(); len(calls) != 0 || len(s.HeldBack) != 0 || w.mark() != "pack:99" {
				t.Errorf("got calls %v, held back %v, watermark %q", calls, s.HeldBack, w.mark())
			}
		})
	}
}

// dyingLedger lets a number of writes of marks and decisions through, and fails from then on.
type dyingLedger struct {
	ledger
	left int
}

func (l *dyingLedger) dies() error {
	if l.left--; l.left < 0 {
		return errors.New("the ledger is gone")
	}
	return nil
}

func (l *dyingLedger) SetScope(ctx context.Context, lease syncdb.Lease, s syncdb.Scope) error {
	if err := l.dies(); err != nil {
		return err
	}
	return l.ledger.SetScope(ctx, lease, s)
}

func (l *dyingLedger) NarrowPlan(ctx context.Context, lease syncdb.Lease, p syncdb.Plan, ops iter.Seq2[syncdb.PlanOp, error]) (syncdb.Plan, error) {
	if err := l.dies(); err != nil {
		return syncdb.Plan{}, err
	}
	return l.ledger.NarrowPlan(ctx, lease, p, ops)
}

func (l *dyingLedger) ClosePlan(ctx context.Context, lease syncdb.Lease, id int64, to syncdb.PlanState) error {
	if err := l.dies(); err != nil {
		return err
	}
	return l.ledger.ClosePlan(ctx, lease, id, to)
}
