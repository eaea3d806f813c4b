package sync_test

import (
	"context"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/edfisync/edfisync/edfi"
	"github.com/edfisync/edfisync/sync"
	"github.com/edfisync/edfisync/syncdb"
)

// beside is a second connection of the ledger to the same target, with a source of its own in which the same is filled.
func (w *world) beside(n int) *world {
	w.t.Helper()
	b := newWorld(w.t)
	b.fill(n)
	b.sandbox, b.front, b.ledger, b.options = w.sandbox, w.front, w.ledger, w.options
	var err error
	if b.conn, b.ring, err = w.ledger.Connection(w.t.Context(), "default", "beside"); err != nil {
		w.t.Fatal(err)
	}
	return b
}

// TestTwoConnectionsWithOneRecord: the one that created a record owns it (I9). The other keeps it up to date and never deletes it; what the owner
// deletes it learns from a reading of the target, as with any other client, and makes its own.
func TestTwoConnectionsWithOneRecord(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(3)
	w.options.Safeguards = lenient()
	w.exec(`insert into period values (3, 'P3', 10)`)
	w.mustRun()
	b := w.beside(3)
	b.exec(`insert into period values (3, 'P3', 10)`)
	if s, _ := b.mustRun(); s.Totals.Met != s.Totals.Rows {
		t.Fatalf("got totals %+v, want every record met", s.Totals)
	}
	w.converged()
	b.converged()

	b.exec(`delete from period where id = 1`)
	b.converged()
	w.exec(`delete from period where id = 2`)
	if _, calls := w.mustRun(); cmp.Diff(calls, []string{"DELETE " + periods}) != "" {
		t.Errorf("got calls %v, want the owner's delete", calls)
	}
	b.converged() // it cannot know
	if _, calls := b.resync(); cmp.Diff(calls, []string{"POST " + periods}) != "" {
		t.Errorf("got calls %v, want the record made for the row that is left", calls)
	}
	w.converged()
	w.exec(`insert into period values (2, 'P2', 10)`)
	w.mustRun()
	w.exec(`delete from period where id = 2`)
	w.converged() // now it is the other one's
	b.exec(`delete from period where id = 2`)
	if _, calls := b.mustRun(); cmp.Diff(calls, []string{"DELETE " + periods}) != "" {
		t.Errorf("got calls %v, want the new owner's delete", calls)
	}
}

// What another connection of the ledger made is no record that nobody has: adopt leaves it alone whatever it is asked for (I9).
func TestAdoptLeavesTheRecordsOfOtherConnectionsAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(6)
	w.options.Safeguards = lenient()
	w.exec(`insert into period values (3, 'P3', 10)`)
	w.mustRun()
	b := w.beside(6)
	b.exec(`insert into period values (4, 'P4', 10)`)
	b.mustRun()
	theirs := w.neighbour("POST", "classPeriods", `{"classPeriodName":"Nobody knows","schoolReference":{"schoolId":10}}`, 201)
	for _, o := range []sync.AdoptOptions{{Plan: true, Extra: true}, {}, {Extra: true, IDs: 5}} {
		got := w.adopt(o)["classPeriods"]
		extra, adopted := int64(1), int64(1)
		if !o.Extra {
			extra, adopted = 2, 0
		}
		if got.Others != 1 || got.Extra != extra || got.Adopted != adopted || slices.Contains(got.IDs["extra"], theirs) {
			t.Errorf("%+v: got %+v, want %d extra, 1 of another connection, %d adopted", o, got, extra, adopted)
		}
	}
	if _, calls := w.mustRun(); cmp.Diff(calls, []string{"DELETE " + periods}) != "" {
		t.Errorf("got calls %v, want the one delete of what nobody knows", calls)
	}
	b.converged()
}

// TestRecordsWithoutARowTellNothingOfTheTarget: rows are gone, and so are the records that were at the target before us, because their owner deleted
// them. That is no sign of a wipe (F29), and the others go on.
func TestRecordsWithoutARowTellNothingOfTheTarget(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(40)
	w.options.Safeguards = lenient()
	w.mustRun()
	b := w.beside(40)
	b.mustRun()
	for _, x := range []*world{w, b} {
		x.exec(`delete from demographic where id > 5`)
		x.exec(`delete from enrolment where id > 5`)
		x.exec(`delete from student where id > 5`)
		x.exec(`update demographic set login = 'new'`)
		if s, calls := x.mustRun(); s.Alarm != "" || tally(calls)["PUT "+demographics] != 5 {
			t.Errorf("got alarm %q and calls %v, want the five that are left updated", s.Alarm, tally(calls))
		}
	}
}

// TestMetRecordThatIsGoneLeavesTheLedger: the issue of a record we do not delete says that a person may delete it. When somebody has, and the target
// was read, it is over.
func TestMetRecordThatIsGoneLeavesTheLedger(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(3)
	w.other(func(ctx context.Context, c *edfi.Client) {
		body := `{"studentUniqueId":"S0003","firstName":"First3","lastSurname":"Surname","birthDate":"2010-02-03"}`
		if _, err := c.Post(ctx, "ed-fi/students", []byte(body)); err != nil {
			t.Fatal(err)
		}
	})
	w.options.Safeguards = lenient()
	w.mustRun()
	w.exec(`delete from demographic where id = 3`)
	w.exec(`delete from enrolment where id = 3`)
	w.exec(`delete from student where id = 3`)
	w.mustRun()
	if got := w.openIssues()["met-existing-gone"]; got != 1 {
		t.Fatalf("got %d rows with issue met-existing-gone, want 1", got)
	}
	id := w.idsBy("ed-fi/students", "studentUniqueId")["S0003"]
	w.other(func(ctx context.Context, c *edfi.Client) {
		if _, err := c.Delete(ctx, "ed-fi/students", id); err != nil {
			t.Fatal(err)
		}
	})
	if s, calls := w.resync(); len(calls) != 0 || s.Held != 0 {
		t.Errorf("got calls %v and totals %+v, want no call and nothing held", calls, s.Totals)
	}
	if got := w.openIssues(); got["met-existing-gone"] != 0 || got["met-existing"] != 0 {
		t.Errorf("got issues %v though the record is deleted, want none", got)
	}
	for _, e := range w.entries("ed-fi/students") {
		if e.Origin == syncdb.Met {
			t.Errorf("%s is still in the ledger, state %d", e.Key, e.State)
		}
	}
	if v, _ := w.verify(sync.VerifyOptions{}); v.Wrong() != 0 {
		t.Errorf("got %+v, want a target as the ledger says", v)
	}
	w.converged()
}
