package sync_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/edfisync/edfisync/edfi"
	"github.com/edfisync/edfisync/syncdb"
)

// A row takes the key of a row that is gone: the target has the record of that one until the end of the run.
func TestKeyThatIsStillTakenIsTriedAgainInTheNextRun(t *testing.T) {
	t.Parallel()
	w := newCourses(t, 1)
	w.mustRun()
	w.exec(`update session set name = 'Autumn' where id = 1`) // the target re-keys both sections with it
	w.exec(`delete from grade where seat in (select id from seat where section = 2)`)
	w.exec(`delete from seat where section = 2`)
	w.exec(`delete from section where id = 2`)
	w.exec(`update section set name = 'A2' where id = 1`)
	w.mustRun()
	if s, _ := w.mustRun(); s.Held+s.Failed > 0 {
		t.Errorf("got totals %+v, want nothing left to do", s.Totals)
	}
	w.converged()
	if got := w.records("ed-fi/sections"); len(got) != 1 || !strings.Contains(got[0], `"sectionIdentifier":"A2"`) {
		t.Errorf("got sections %s, want A2 alone", got)
	}
}

// The target re-keys a record with its parent while the row behind it gets another source key: the create that follows meets our own record.
func TestRecordReKeyedWithItsParentStaysOursThoughItsRowIsMadeAgain(t *testing.T) {
	t.Parallel()
	w := newCourses(t, 1)
	w.mustRun()
	w.exec(`update session set name = 'Autumn' where id = 1`)
	w.exec(`update grade set id = id + 500`)
	if s, _ := w.mustRun(); s.Totals.Met > 0 {
		t.Errorf("got %d records met, want none: they are our own", s.Totals.Met)
	}
	w.exec(`delete from grade where id > 511`)
	w.mustRun()
	w.converged()
	if got := w.count("ed-fi/grades"); got != 1 {
		t.Errorf("got %d grades, want 1: what we created we delete", got)
	}
}

// Another client has made a record with the key a row of ours gets. Nobody gives it up, so the row takes it over, as a create would: it is kept up
// to date and never deleted by us (I9), and our own record goes with what hangs on it (I1).
func TestKeyThatAnotherClientsRecordHasIsTakenOver(t *testing.T) {
	t.Parallel()
	w := newCourses(t, 2)
	w.mustRun()
	w.other(func(ctx context.Context, c *edfi.Client) {
		_, err := c.Post(ctx, "ed-fi/sessions", []byte(`{"schoolReference":{"schoolId":10},"schoolYearTypeReference":{"schoolYear":2026},"sessionName":"Autumn",`+
			`"beginDate":"2025-08-18","endDate":"2025-12-20","termDescriptor":"uri://ed-fi.org/TermDescriptor#Fall Semester","totalInstructionalDays":1}`))
		if err != nil {
			t.Fatal(err)
		}
	})
	w.exec(`update session set name = 'Autumn' where id = 1`)
	s, _ := w.mustRun()
	if s.Totals.Met != 1 {
		t.Errorf("got totals %+v, want one record met", s.Totals)
	}
	w.mustRun()
	w.converged()
	w.sameAsFresh()
	w.exec(`delete from grade`)
	w.exec(`delete from seat`)
	w.exec(`delete from section`)
	w.exec(`delete from offering where session = 1`)
	w.exec(`delete from session where id = 1`)
	w.mustRun()
	if got := w.records("ed-fi/sessions"); len(got) != 2 {
		t.Errorf("got sessions %s, want the other client's still there", got)
	}
}

// A record is re-keyed with its parent while its row waits for something else. What it referred to before is not kept for it (I1), and the ledger
// knows what it refers to now (I2).
func TestRecordReKeyedWhileItsRowWaitsKeepsOnlyWhatItRefersTo(t *testing.T) {
	t.Parallel()
	w := newCourses(t, 1)
	w.pack["courses.sql"].Data = append(w.pack["courses.sql"].Data, " where id < 3"...)
	w.exec(`insert into course values (3, 'LATIN')`)
	w.exec(`insert into school values (12, 'West', 1)`)
	w.exec(`delete from grade`)
	w.exec(`update session set school = 12 where id = 1`)
	w.exec(`insert into offering values (3, 1, 1, 'ALG-3')`)
	w.mustRun()
	w.exec(`insert into school values (13, 'East', 1)`)
	w.exec(`delete from school where id = 12`)
	w.exec(`update session set school = 13 where id = 1`)                 // the target re-keys its offerings
	w.exec(`update offering set code = 'LAT-1', course = 3 where id = 3`) // and one of the rows waits for a course
	s, _ := w.mustRun()
	if s.Totals.Blocked == 0 {
		t.Errorf("got totals %+v, want an offering that waits for its course", s.Totals)
	}
	w.mustRun()
	if got := strings.Join(w.records("ed-fi/schools"), "\n"); strings.Contains(got, `"schoolId":12`) {
		t.Errorf("got schools %s, want the one without a row gone: nothing refers to it", got)
	}
	if got := strings.Join(w.records("ed-fi/courseOfferings"), "\n"); !strings.Contains(got, `"ALG-3"`) {
		t.Errorf("got offerings %s, want the one whose row waits", got)
	}
	for _, e := range w.entries("ed-fi/courseOfferings") {
		if strings.Contains(string(e.Key), ",12,") || e.State != syncdb.Live {
			t.Errorf("the ledger has %s (state %d), want the school the offering is at now", e.Key, e.State)
		}
	}
	w.converged()
	w.exec(`update offering set course = 1 where id = 3`)
	w.mustRun()
	w.converged()
	w.sameAsFresh()
}

// The row whose key changes gets the record that will have that key anyway, once the target has re-keyed it with its parent: nobody else can give the
// key up, for what refers to that record waits for the row.
func TestRowTakesTheRecordThatGetsItsKeyWithTheParent(t *testing.T) {
	t.Parallel()
	w := newCourses(t, 1)
	w.exec(`delete from grade`)
	w.mustRun()
	w.exec(`update session set name = 'Autumn' where id = 1`) // re-keys sections and seats
	w.exec(`delete from section where id = 1`)
	w.exec(`update section set name = 'A1' where id = 2`)
	w.exec(`delete from seat where section = 2`)
	w.exec(`update seat set section = 2`)
	if s, _ := w.mustRun(); s.Held+s.Failed > 0 {
		t.Errorf("got totals %+v, want nothing left to do", s.Totals)
	}
	w.converged()
	w.sameAsFresh()
}

// The record of a parent whose key changes is gone at the target, with what hung on it: nothing followed, so it is made again.
func TestWhatHungOnARecordThatIsGoneDoesNotFollowItsKey(t *testing.T) {
	t.Parallel()
	w := newCourses(t, 1)
	w.mustRun()
	ids := map[string]string{"ed-fi/courseOfferings": w.idsBy("ed-fi/courseOfferings", "localCourseCode")["ART"]}
	for _, e := range w.entries("ed-fi/sessions") {
		if strings.Contains(string(e.Key), "11") {
			ids["ed-fi/sessions"] = e.EdfiID
		}
	}
	w.other(func(ctx context.Context, c *edfi.Client) {
		for _, resource := range []string{"ed-fi/courseOfferings", "ed-fi/sessions"} {
			if _, err := c.Delete(ctx, resource, ids[resource]); err != nil {
				t.Fatal(err)
			}
		}
	})
	w.exec(`update session set name = 'Autumn' where id = 2`)
	w.mustRun()
	w.mustRun()
	w.converged()
	w.sameAsFresh()
}

// Records are re-keyed with their parent while their rows are invalid. When the rows are valid again, one of them has the other one's key.
func TestRecordsReKeyedWhileTheirRowsAreInvalidAreKnownByTheirNewKeys(t *testing.T) {
	t.Parallel()
	w := newCourses(t, 1)
	w.exec(`delete from grade`)
	w.mustRun()
	w.exec(`update section set name = null`)
	w.exec(`update session set name = 'Autumn' where id = 1`)
	if s, _ := w.mustRun(); s.Totals.Invalid != 4 {
		t.Fatalf("got totals %+v, want two invalid sections and two seats", s.Totals)
	}
	w.exec(`delete from section where id = 2`)
	w.exec(`update section set name = 'A2' where id = 1`)
	w.exec(`update seat set section = 1, begins = '2025-09-01' where id = 12`)
	if s, _ := w.mustRun(); s.Held+s.Failed > 0 {
		t.Errorf("got totals %+v, want nothing left to do", s.Totals)
	}
	w.converged()
	w.sameAsFresh()
}

// The same one level further down: the parents' keys are learned first, then those of what hangs on them.
func TestKeysAreLearnedLevelByLevel(t *testing.T) {
	t.Parallel()
	w := newCourses(t, 1)
	w.exec(`delete from grade`)
	w.mustRun()
	w.exec(`update section set name = null`)
	w.exec(`update session set name = 'Autumn' where id = 1`)
	w.mustRun()
	w.exec(`update section set name = 'A' || id`)
	w.exec(`delete from seat where id = 12`)
	w.exec(`update seat set section = 2 where id = 11`) // gets the key of the other one
	if s, _ := w.mustRun(); s.Held+s.Failed > 0 {
		t.Errorf("got totals %+v, want nothing left to do", s.Totals)
	}
	w.converged()
	w.sameAsFresh()
}

// A second row says the same as the one whose record the target re-keys: the record still is the row's that is sent, and no other row moves it later.
func TestTwinDoesNotTakeARecordThatFollowedItsParent(t *testing.T) {
	t.Parallel()
	w := newCourses(t, 1)
	w.exec(`delete from grade`)
	w.mustRun()
	w.exec(`insert into seat values (5, 1, 1, '2025-08-18')`) // as seat 11, and read before it
	w.exec(`update session set name = 'Autumn' where id = 1`)
	if _, calls := w.mustRun(); tally(calls)["PUT ed-fi/sessions"] != len(calls) {
		t.Errorf("got calls %v, want the session only: the seats follow", calls)
	}
	w.exec(`update seat set begins = '2025-09-01' where id = 11`)
	w.mustRun()
	w.converged()
	w.sameAsFresh()
	w.exec(`delete from seat where id = 5`)
	w.mustRun()
	w.converged()
	w.sameAsFresh()
}

// I5f: a record gets, with its parent, the key of a row that is invalid. Its own row has another key now, but it is not gone.
func TestRecordThatGetsTheKeyOfAnInvalidRowStays(t *testing.T) {
	t.Parallel()
	w := newCourses(t, 1)
	w.exec(`insert into offering values (3, 1, 1, 'ALG-3'), (4, 1, 1, 'ALG-4')`)
	w.mustRun()
	w.exec(`insert into course values (3, null)`)
	w.exec(`update offering set code = 'ALG-4' where id = 3`)
	w.exec(`update offering set code = 'ALG-3', course = 3 where id = 4`)
	w.exec(`update session set name = 'Autumn' where id = 1`)
	s, calls := w.mustRun()
	if n := tally(calls)["DELETE ed-fi/courseOfferings"]; n > 0 || s.Totals.Invalid != 2 {
		t.Errorf("got %d deletes of offerings and totals %+v, want none for the row that is invalid", n, s.Totals)
	}
	w.exec(`update offering set course = 1 where id = 4`)
	w.exec(`delete from course where id = 3`)
	if _, calls := w.mustRun(); len(calls) > 0 {
		t.Errorf("got calls %v, want none: the target holds what the rows say", calls)
	}
	w.sameAsFresh()
}

// brokenLedger fails to drop entries.
type brokenLedger struct{ ledger }

func (brokenLedger) DropEntries(context.Context, syncdb.Lease, string, []syncdb.Hash) error {
	return errors.New("disk I/O error")
}

// The ledger fails while it learns keys: the run ends with its error, and the next one goes on from what is half done.
func TestLedgerThatFailsWhileItLearnsKeysEndsTheRun(t *testing.T) {
	t.Parallel()
	w := newCourses(t, 1)
	w.exec(`delete from grade`)
	w.mustRun()
	w.exec(`update section set name = null`)
	w.exec(`update session set name = 'Autumn' where id = 1`)
	w.mustRun()
	sound := w.ledger
	w.ledger = brokenLedger{sound}
	if _, calls, err := w.run(); err == nil || !strings.Contains(err.Error(), "disk I/O error") || len(calls) > 0 {
		t.Errorf("got calls %v and error %v, want none and the ledger's", calls, err)
	}
	w.ledger = sound
	w.exec(`update section set name = 'A' || id`)
	w.mustRun()
	w.converged()
	w.sameAsFresh()
	if got := len(w.entries("ed-fi/sections")); got != 2 {
		t.Errorf("got %d entries of sections, want 2", got)
	}
}
