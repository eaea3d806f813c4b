package sync_test

import (
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
