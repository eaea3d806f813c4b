package sync_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edfisync/edfisync/sandbox"
	"github.com/edfisync/edfisync/sync"
)

// Whatever became of natural keys in a run, with PUT or without, an undo brings all of it back or leaves the row's record as it is; and rows that change
// afterwards are sent.
func TestUndoOfMovesAndSwapsLeavesEveryRowOneRecord(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, edit string }{
		{"an enrolment moves to another school", `update enrolment set school = 21 - school where id = 1`},
		{"enrolments change places", `update enrolment set student = 3 - student where id < 3`},
		{"demographics change places", `update demographic set student = 3 - student where id < 3`},
		{"class periods take each other's names in a row", `update period set name = 'P' || (id + 1)`},
		{"a student gets another number", `update student set uid = 'X0001' where id = 1`},
		{"students change numbers", `update student set uid = 'S000' || (3 - id) where id < 3`},
	}
	for _, on := range []struct {
		api      sandbox.Personality
		standard string
	}{{sandbox.ODS73, "5.2"}, {sandbox.ODS53, "4.0"}} {
		for _, tt := range tests {
			t.Run(fmt.Sprintf("%s, on %v", tt.name, on.api), func(t *testing.T) {
				t.Parallel()
				w := newWorldOn(t, on.api, on.standard)
				w.options.History, w.options.Safeguards = time.Hour, lenient()
				w.fill(4)
				w.mustRun()
				before := w.everything()
				w.exec(tt.edit)
				s, _ := w.mustRun()
				w.mustRun() // what had to wait for the other
				u, calls := w.undo(sync.UndoOptions{Run: s.RunID, Who: "ada", Why: "wrong"})
				if diff := cmp.Diff(w.everything(), before); u.LeftOut() > 0 || diff != "" {
					t.Errorf("left %v, calls %v, the target (-got +before):\n%s", leftBy(u), tally(calls), diff)
				}
				w.mustRun()
				w.converged()
				w.exec(`update student set first = first || 'x'`)
				w.exec(`update demographic set login = login || 'x'`)
				w.exec(`update enrolment set grade = '10'`)
				w.exec(`update period set name = name || 'x'`)
				w.mustRun()
				w.mustRun()
				w.converged()
				for resource, want := range map[string]int{"ed-fi/classPeriods": 2, "ed-fi/students": 4, enrolments: 4, demographics: 4} {
					if got := w.count(resource); got != want {
						t.Errorf("the target has %d %s, want %d", got, resource, want)
					}
				}
				if v, _ := w.verify(sync.VerifyOptions{}); v.Wrong() != 0 {
					t.Errorf("got %+v, want a ledger that says what the target holds (I2)", v)
				}
			})
		}
	}
}

// Each row of a resource takes the key of the next one, so that no call tells whose record one was; and the record at the end of it cannot come back.
func TestUndoOfRowsThatTookEachOthersKeysLeavesAllOfThemOrNone(t *testing.T) {
	t.Parallel()
	w := newWorldWithHistory(t, 1)
	w.options.History = 0
	w.mustRun()
	w.options.History = time.Hour
	w.exec(`update period set name = 'P' || (id + 1)`)
	s, _ := w.mustRun()
	u, calls := w.undo(sync.UndoOptions{Run: s.RunID, Who: "ada", Why: "wrong"})
	if diff := cmp.Diff(leftBy(u), map[sync.LeftOut]int64{sync.LeftNoPrevious: 1, sync.LeftHalf: 1}); diff != "" || len(calls) > 0 {
		t.Errorf("got calls %v, left (-got +want):\n%s", calls, diff)
	}
	w.converged()
	if got := w.count("ed-fi/classPeriods"); got != 2 {
		t.Errorf("the target has %d class periods, want 2", got)
	}
}
