package sync_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// What a record refers to outside its key changes with a class period's name, at the target alone. When the record's row could not say so then, and says
// again later what was sent once, of another class period that has the old name now, it is not unchanged.
func TestReferenceThatFollowedARenameIsNotTakenForWhatWasSent(t *testing.T) {
	t.Parallel()
	const (
		broken = `update bell set minutes = 'long' where id = 1`
		mended = `update bell set minutes = 300 where id = 1`
		rename = `update period set name = 'P1 renamed' where id = 1`
		anew   = `insert into period values (9, 'P1', 10)`
		turn   = `update bell set period = 9 where id = 1`
	)
	for _, c := range []struct {
		name  string
		runs  [][]string // statements before each run after the first
		leave int        // run in which bell schedules are not synced, counted from 1
	}{
		{name: "the row is right again when the name is there again", runs: [][]string{{broken, rename}, {mended, anew, turn}}},
		{name: "the row is right again only after that", runs: [][]string{{broken, rename}, {anew}, {mended, turn}}},
		{name: "another row claimed the schedule meanwhile", runs: [][]string{
			{`insert into period values (8, 'P8', 10)`, `insert into bell values (9, 'R', 8, 320)`, rename}, {anew}, {`delete from bell where id = 9`, turn},
		}},
		{name: "the name is given back", runs: [][]string{{broken, rename}, {mended, `update period set name = 'P1' where id = 1`}}},
		{name: "schedules were not synced meanwhile", runs: [][]string{{rename}, {anew, turn}, {}}, leave: 1},
		{name: "schedules were not synced until the name was there again", runs: [][]string{{rename}, {anew, turn}, {}}, leave: 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newBells(t)
			w.mustRun()
			const file = "bellSchedules.sql"
			query := w.pack[file]
			for i, statements := range c.runs {
				for _, s := range statements {
					w.exec(s)
				}
				w.pack[file] = query
				if i < c.leave {
					delete(w.pack, file)
				}
				w.mustRun()
			}
			w.converged()
			w.sameAsFresh()
			if _, calls := w.mustRun(); len(calls) > 0 {
				t.Errorf("a run without changes made calls (-got +want):\n%s", cmp.Diff(tally(calls), map[string]int{}))
			}
		})
	}
}

// Nobody knows whether a class period got its new name when another one gets the old name. A run that finds out that it did looks for such references
// after that, too.
func TestReferenceThatFollowedARenameNobodyKnewOfIsNotTakenForWhatWasSent(t *testing.T) {
	t.Parallel()
	w := newBells(t)
	w.mustRun()
	w.exec(`update period set name = 'P1 renamed' where id = 1`)
	w.loseNames("classPeriods")
	w.exec(`insert into period values (9, 'P1', 10)`)
	w.exec(`update bell set period = 9 where id = 1`)
	w.mustRun()
	w.converged()
	w.sameAsFresh()
	if _, calls := w.mustRun(); len(calls) > 0 {
		t.Errorf("a run without changes made calls (-got +want):\n%s", cmp.Diff(tally(calls), map[string]int{}))
	}
}
