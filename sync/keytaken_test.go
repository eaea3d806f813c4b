package sync_test

import (
	"strings"
	"testing"
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
