package sync_test

import (
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

// newBells is a world whose schools 10 and 11 each have a bell schedule R for a class period P1, and sections that meet in class periods. What a bell
// schedule refers to shares the school with its natural key: by key unification the target moves the schedule with its class period.
func newBells(t *testing.T) *world {
	t.Helper()
	w := newCourses(t, 2)
	w.exec(`create table bell (id integer primary key, name text, period integer, minutes integer)`)
	w.pack["bellSchedules.sql"] = &fstest.MapFile{Data: []byte(`select b.id as "_key", b.name as "bellScheduleName", p.school as "schoolReference.schoolId",
		b.minutes as "totalInstructionalTime", json_array(json_object('classPeriodReference', json_object('classPeriodName', p.name))) as "classPeriods"
		from bell b join period p on p.id = b.period`)}
	w.exec(`insert into school values (12, 'East', 1), (13, 'West', 1)`)
	w.exec(`insert into period values (3, 'P1', 11)`)
	w.exec(`insert into bell values (1, 'R', 1, 300), (2, 'R', 3, 310)`)
	return w
}

// meetInPeriods lets sections say which class period they meet in.
func (w *world) meetInPeriods() {
	w.pack["sections.sql"] = &fstest.MapFile{Data: []byte(`select x.id as "_key", o.code as "courseOfferingReference.localCourseCode",
		ss.school as "courseOfferingReference.schoolId", 2026 as "courseOfferingReference.schoolYear", ss.name as "courseOfferingReference.sessionName",
		x.name as "sectionIdentifier", json_array(json_object('classPeriodReference', json_object('classPeriodName', p.name))) as "classPeriods"
		from section x join offering o on o.id = x.offering join session ss on ss.id = o.session join period p on p.id = x.period`)}
}

// A class period goes to another school. Whatever the target would do with the schedules and sections that list it, their keys are what the SIS says.
func TestClassPeriodMovesWithTheRecordsThatListIt(t *testing.T) {
	t.Parallel()
	const renumbered = `update period set school = 12 where school = 10`
	for _, c := range []struct {
		name   string
		edit   []string
		before func(w *world)
		leave  string // not synced meanwhile
		after  func(w *world)
		calls  map[string]int // of class periods and bell schedules
	}{
		{
			name: "and nothing else changes",
			edit: []string{`update period set school = 12 where id = 1`},
			calls: map[string]int{
				"POST ed-fi/classPeriods": 1, "DELETE ed-fi/classPeriods": 1, "POST ed-fi/bellSchedules": 1, "DELETE ed-fi/bellSchedules": 1,
			},
		},
		{
			name: "another one with another name takes its place, and the place of its schedule",
			edit: []string{`update period set school = 12 where id = 3`, `update period set school = 11, name = 'P9' where id = 1`},
			calls: map[string]int{
				"POST ed-fi/classPeriods": 2, "DELETE ed-fi/classPeriods": 2, "POST ed-fi/bellSchedules": 1, "PUT ed-fi/bellSchedules": 1, "DELETE ed-fi/bellSchedules": 1,
			},
		},
		{
			name:   "with the school's sessions and sections",
			before: (*world).meetInPeriods,
			edit:   []string{renumbered, `update session set school = 12 where school = 10`},
			after:  func(*world) {}, // the session may be sent before the school's class periods are there
		},
		{
			name:  "while its schedule is invalid",
			edit:  []string{renumbered, `update bell set minutes = 'long' where id = 1`},
			after: func(w *world) { w.exec(`update bell set minutes = 300 where id = 1`) },
		},
		{
			name:  "while schedules are not synced",
			leave: "bellSchedules.sql",
			edit:  []string{`update period set school = 12 where id = 3`, `update period set school = 11, name = 'P9' where id = 1`, `update bell set minutes = 305`},
			after: func(*world) {},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newBells(t)
			if c.before != nil {
				c.before(w)
			}
			w.mustRun()
			left := w.pack[c.leave]
			delete(w.pack, c.leave)
			for _, statement := range c.edit {
				w.exec(statement)
			}
			s, calls := w.mustRun()
			if c.calls != nil {
				if diff := cmp.Diff(tally(calls), c.calls); diff != "" {
					t.Errorf("totals %+v, calls (-got +want):\n%s", s.Totals, diff)
				}
			}
			if c.after != nil {
				if left != nil {
					w.pack[c.leave] = left
				}
				c.after(w)
				w.mustRun()
				w.mustRun()
			}
			w.converged()
			w.sameAsFresh()
		})
	}
}

// A class period's own name is in no key of what lists it: one PUT, and nothing is made again.
func TestClassPeriodThatIsRenamedStaysOnePutUnderBellSchedules(t *testing.T) {
	t.Parallel()
	w := newBells(t)
	w.mustRun()
	w.exec(`update period set name = 'P1 renamed' where id = 1`)
	s, calls := w.mustRun()
	if diff := cmp.Diff(tally(calls), map[string]int{"PUT ed-fi/classPeriods": 1, "PUT ed-fi/bellSchedules": 1}); diff != "" {
		t.Errorf("totals %+v, calls (-got +want):\n%s", s.Totals, diff)
	}
	w.converged()
	w.sameAsFresh()
}
