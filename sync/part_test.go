package sync_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/edfisync/edfisync/sync"
	"github.com/edfisync/edfisync/syncdb"
)

// ask runs once with a scope.
func (w *world) ask(a sync.Ask) (*sync.Summary, map[string]int, error) {
	w.t.Helper()
	e, closeAll := w.engine()
	scope, err := e.Scoper().Scope(a)
	closeAll()
	if err != nil {
		w.t.Fatal(err)
	}
	before := w.options.Scope
	w.options.Scope = scope
	defer func() { w.options.Scope = before }()
	s, calls, err := w.run()
	return s, tally(calls), err
}

func (w *world) mustAsk(a sync.Ask) (*sync.Summary, map[string]int) {
	w.t.Helper()
	s, calls, err := w.ask(a)
	if err != nil {
		w.t.Fatalf("run %+v: %v", a, err)
	}
	return s, calls
}

const (
	postStudent, putStudent, deleteStudent = "POST ed-fi/students", "PUT ed-fi/students", "DELETE ed-fi/students"
	postEnrol, putEnrol, deleteEnrol       = "POST ed-fi/studentSchoolAssociations", "PUT ed-fi/studentSchoolAssociations", "DELETE ed-fi/studentSchoolAssociations"
	postDemo, putDemo, deleteDemo          = "POST ed-fi/studentEducationOrganizationAssociations", "PUT ed-fi/studentEducationOrganizationAssociations", "DELETE ed-fi/studentEducationOrganizationAssociations"
	postPeriod, putPeriod, deletePeriod    = "POST ed-fi/classPeriods", "PUT ed-fi/classPeriods", "DELETE ed-fi/classPeriods"
	putSchool                              = "PUT ed-fi/schools"
)

// TestARunWithAScopeSendsThatPartAndTheNextRunTheRest: what was asked for and what must go along with it, then exactly the rest, then nothing. Students 1
// to 8 are enrolled in turn at schools 11 and 10; class periods 1 and 2 are of school 10.
func TestARunWithAScopeSendsThatPartAndTheNextRunTheRest(t *testing.T) {
	t.Parallel()
	type calls = map[string]int
	changes := []string{ // at both schools, and in every resource
		`update student set last = 'Changed' where id in (1, 2)`,
		`update enrolment set grade = '10' where id in (3, 4)`,
		`update demographic set login = 'changed' where student in (5, 6)`,
		`update school set name = name || ' High'`,
		`insert into period values (3, 'P3', 10), (4, 'P1', 11)`,
		`delete from enrolment where student in (7, 8)`, `delete from demographic where student in (7, 8)`, `delete from student where id in (7, 8)`,
	}
	all := calls{
		putStudent: 2, putEnrol: 2, putDemo: 2, putSchool: 2, postPeriod: 2, deleteEnrol: 2, deleteDemo: 2, deleteStudent: 2,
	}
	student := func(uid string) sync.RecordName {
		return sync.RecordName{Resource: "students", Key: map[string]string{"studentUniqueId": uid}}
	}
	for _, c := range []struct {
		name string
		edit []string
		ask  sync.Ask
		want calls
		all  calls // with the rest
	}{
		{"a resource", changes, sync.Ask{Resources: []string{"ed-fi/studentSchoolAssociations"}}, calls{putEnrol: 2, deleteEnrol: 2, deleteDemo: 2, deleteStudent: 2}, all},
		{"a resource nothing hangs on", changes, sync.Ask{Resources: []string{"classPeriods"}}, calls{postPeriod: 2}, all},
		{"two resources", changes, sync.Ask{Resources: []string{"classPeriods", "schools"}}, calls{postPeriod: 2, putSchool: 2}, all},
		{"a resource whose deletes others stand against", changes, sync.Ask{Resources: []string{"students"}}, calls{putStudent: 2, deleteStudent: 2, deleteEnrol: 2, deleteDemo: 2}, all},
		{"a school: its records, and what is of its students", changes, sync.Ask{Schools: []int64{10}}, calls{
			putStudent: 1, putEnrol: 1, putDemo: 1, putSchool: 1, postPeriod: 1, deleteEnrol: 1, deleteDemo: 1, deleteStudent: 1,
		}, all},
		{"both schools", changes, sync.Ask{Schools: []int64{10, 11}}, all, all},
		{"a school that is not there", changes, sync.Ask{Schools: []int64{12}}, calls{}, all},
		{"a resource of a school", changes, sync.Ask{Resources: []string{"students"}, Schools: []int64{11}}, calls{putStudent: 1, deleteStudent: 1, deleteEnrol: 1, deleteDemo: 1}, all},
		{"a record", changes, sync.Ask{Records: []sync.RecordName{student("S0001")}}, calls{putStudent: 1}, all},
		{"a record that is not changed", changes, sync.Ask{Records: []sync.RecordName{student("S0003")}}, calls{}, all},
		{"a record that is gone", changes, sync.Ask{Records: []sync.RecordName{student("S0007")}}, calls{deleteStudent: 1, deleteEnrol: 1, deleteDemo: 1}, all},
		{"a record there never was", changes, sync.Ask{Records: []sync.RecordName{student("nobody")}}, calls{}, all},
		{"rows of the source", changes, sync.Ask{Records: []sync.RecordName{{Resource: "students", SourceKey: "2"}, {Resource: "ed-fi/schools", SourceKey: "11"}}}, calls{putStudent: 1, putSchool: 1}, all},
		{
			"a new record takes what it refers to along, and what gives the right to its person",
			[]string{
				`insert into agency values (2, 'Other', null)`,
				`insert into student values (20, 'S0020', 'New', 'Surname', '2010-02-03'), (21, 'S0021', 'New', 'Surname', '2010-02-03')`,
				`insert into enrolment values (20, 20, 10, '2025-08-18', '9'), (21, 21, 10, '2025-08-18', '9')`,
				`insert into demographic values (20, 20, 2, 'new'), (21, 21, 2, 'new')`,
			},
			sync.Ask{Records: []sync.RecordName{{Resource: "studentEducationOrganizationAssociations", SourceKey: "20"}}},
			calls{"POST ed-fi/localEducationAgencies": 1, postStudent: 1, postEnrol: 1, postDemo: 1},
			calls{"POST ed-fi/localEducationAgencies": 1, postStudent: 2, postEnrol: 2, postDemo: 2},
		},
		{
			"an update of a person somebody else gives us the right to takes no new enrolment along",
			[]string{`update student set last = 'Changed' where id = 1`, `insert into enrolment values (20, 1, 10, '2025-08-18', '9')`},
			sync.Ask{Resources: []string{"students"}},
			calls{putStudent: 1},
			calls{putStudent: 1, postEnrol: 1},
		},
		{
			"the delete of the last right to a person takes what changes of that person along",
			[]string{`delete from enrolment where student = 1`, `update student set last = 'Changed' where id in (1, 2)`, `update demographic set login = 'changed' where student in (1, 2)`},
			sync.Ask{Resources: []string{"studentSchoolAssociations"}},
			calls{deleteEnrol: 1, putStudent: 1, putDemo: 1},
			calls{deleteEnrol: 1, putStudent: 2, putDemo: 2},
		},
		{
			"the delete of one of two rights to a person takes nothing along",
			[]string{`delete from enrolment where id = 30`, `update student set last = 'Changed' where id = 8`},
			sync.Ask{Resources: []string{"studentSchoolAssociations"}},
			calls{deleteEnrol: 1},
			calls{deleteEnrol: 1, putStudent: 1},
		},
		{
			"a natural key that changes is one thing",
			[]string{`update student set uid = 'S9001' where id = 1`},
			sync.Ask{Resources: []string{"students"}},
			calls{postStudent: 1, deleteStudent: 1, postEnrol: 1, deleteEnrol: 1, postDemo: 1, deleteDemo: 1},
			calls{postStudent: 1, deleteStudent: 1, postEnrol: 1, deleteEnrol: 1, postDemo: 1, deleteDemo: 1},
		},
		{
			"by the key it had",
			[]string{`update student set uid = 'S9001' where id = 1`, `update student set last = 'Changed' where id = 2`},
			sync.Ask{Records: []sync.RecordName{student("S0001")}},
			calls{postStudent: 1, deleteStudent: 1, postEnrol: 1, deleteEnrol: 1, postDemo: 1, deleteDemo: 1},
			calls{postStudent: 1, deleteStudent: 1, postEnrol: 1, deleteEnrol: 1, postDemo: 1, deleteDemo: 1, putStudent: 1},
		},
		{
			"one that is out of the scope waits",
			[]string{`update student set uid = 'S9001' where id = 1`, `update period set name = 'Renamed' where id = 1`},
			sync.Ask{Resources: []string{"classPeriods"}},
			calls{putPeriod: 1},
			calls{postStudent: 1, deleteStudent: 1, postEnrol: 1, deleteEnrol: 1, postDemo: 1, deleteDemo: 1, putPeriod: 1},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.options.Safeguards = lenient()
			w.fill(8)
			if strings.Contains(c.name, "two rights") {
				w.exec(`insert into enrolment values (30, 8, 11, '2025-08-18', '9')`)
			}
			w.mustRun()
			for _, statement := range c.edit {
				w.exec(statement)
			}
			s, first := w.mustAsk(c.ask)
			if diff := cmp.Diff(c.want, first); diff != "" {
				t.Errorf("calls in the scope (-want +got):\n%s", diff)
			}
			var done, every int64
			for _, n := range first {
				done += int64(n)
			}
			for _, n := range c.all {
				every += int64(n)
			}
			if s.Scope.All() || s.Pending != every-done || s.Totals.Held()+s.Totals.Failed() != 0 {
				t.Errorf("the run tells of scope %+v, %d calls left, totals %+v; want %d left and nothing held or failed", s.Scope, s.Pending, s.Totals, every-done)
			}
			_, rest := w.mustRun()
			both := tally(rest)
			for name, n := range first {
				both[name] += n
			}
			if diff := cmp.Diff(c.all, both); diff != "" {
				t.Errorf("calls of both runs (-want +got):\n%s", diff)
			}
			w.converged()
		})
	}
}

// TestASafeguardJudgesTheWholeWhateverTheScope: asking school by school passes no limit, and what is held is the same as in any run (I5e).
func TestASafeguardJudgesTheWholeWhateverTheScope(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(60)
	w.mustRun()
	w.exec(`delete from demographic where student <= 40`)
	w.exec(`update school set name = 'Renamed' where id = 10`)
	s, calls := w.mustAsk(sync.Ask{Records: []sync.RecordName{{Resource: "studentEducationOrganizationAssociations", SourceKey: "1"}}})
	if len(calls) != 0 || len(s.HeldBack) != 1 || s.HeldBack[0].Ops != 40 || s.Totals.Kept != 1 {
		t.Fatalf("one of 40 deletes was asked for: calls %v, held %+v, totals %+v; want none made, one hold of all of them", calls, s.HeldBack, s.Totals)
	}
	open := func() []syncdb.Plan {
		t.Helper()
		holds, err := w.ledger.Plans(t.Context(), w.conn.ID, syncdb.PlanFilter{Kind: syncdb.PlanHold, States: []syncdb.PlanState{syncdb.PlanOpen}})
		if err != nil {
			t.Fatal(err)
		}
		return holds
	}
	before := open()
	s, calls = w.mustAsk(sync.Ask{Resources: []string{"schools"}})
	if calls[putSchool] != 1 || len(s.HeldBack) != 0 {
		t.Errorf("another resource was asked for: calls %v, held %+v", calls, s.HeldBack)
	}
	w.exec(`insert into demographic select id, id, 1, 'login' || id from student where id <= 40`)
	w.mustAsk(sync.Ask{Resources: []string{"schools"}})
	if diff := cmp.Diff(before, open()); diff != "" {
		t.Errorf("what is held changed though nobody asked about it (-before +after):\n%s", diff)
	}
	w.mustRun()
	if holds := open(); len(holds) != 0 {
		t.Errorf("the rows are back, and %d holds are open after a run of everything", len(holds))
	}
	w.converged()
}

// TestIssuesOutOfTheScopeStay: a run tells only of what it was asked about.
func TestIssuesOutOfTheScopeStay(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(6)
	w.exec(`update student set last = null where id in (1, 2)`)
	w.mustRun()
	problems := func() map[string]string {
		t.Helper()
		ps, err := w.ledger.Problems(t.Context(), w.conn.ID, syncdb.ProblemFilter{Resource: "ed-fi/students"})
		if err != nil {
			t.Fatal(err)
		}
		out := map[string]string{}
		for _, p := range ps {
			out[p.SourceKey] = p.Code
		}
		return out
	}
	before := problems()
	if len(before) != 2 {
		t.Fatalf("problems %v, want two", before)
	}
	w.exec(`update student set last = 'Mended' where id in (1, 2)`)
	w.exec(`update student set last = null where id in (3, 4)`) // 4 is of school 10, as 2
	s, _ := w.mustAsk(sync.Ask{Resources: []string{"classPeriods"}})
	if diff := cmp.Diff(before, problems()); diff != "" || s.Held != 0 {
		t.Errorf("problems changed though nobody asked, and %d records are told to be held (-before +after):\n%s", s.Held, diff)
	}
	s, _ = w.mustAsk(sync.Ask{Schools: []int64{10}})
	want := map[string]string{"1": before["1"], "4": before["1"]}
	if diff := cmp.Diff(want, problems()); diff != "" || s.Totals.Invalid != 1 {
		t.Errorf("after school 10 was asked for, %d rows are invalid (-want +got):\n%s", s.Totals.Invalid, diff)
	}
	s, _ = w.mustRun()
	if diff := cmp.Diff(map[string]string{"3": before["1"], "4": before["1"]}, problems()); diff != "" || s.Totals.Invalid != 2 {
		t.Errorf("after everything was asked for, %d rows are invalid (-want +got):\n%s", s.Totals.Invalid, diff)
	}
}

// TestARunWithAScopeThatDiesIsGoneOnWith: whatever a scoped run leaves, the next run of everything ends it (I1, I3).
func TestARunWithAScopeThatDiesIsGoneOnWith(t *testing.T) {
	t.Parallel()
	for _, answered := range []bool{true, false} {
		for at := range 6 {
			t.Run(fmt.Sprintf("call %d, its answer lost %t", at, !answered), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t)
				w.options.Safeguards = lenient()
				w.fill(6)
				w.mustRun()
				w.exec(`update student set last = 'Changed'`)
				w.exec(`delete from enrolment where student in (1, 2)`)
				w.exec(`insert into student values (20, 'S0020', 'New', 'Surname', '2010-02-03')`)
				w.exec(`insert into enrolment values (20, 20, 10, '2025-08-18', '9')`)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				n := 0
				w.front.intercept(func(rw http.ResponseWriter, r *http.Request) bool {
					if r.Method == http.MethodGet || !strings.Contains(r.URL.Path, "/ed-fi/") {
						return false
					}
					if n++; n <= at {
						return false
					}
					cancel()
					if !answered {
						w.front.next.ServeHTTP(&lostAnswer{}, r)
						panic(http.ErrAbortHandler)
					}
					return false
				})
				e, closeAll := w.engine()
				scope, err := e.Scoper().Scope(sync.Ask{Resources: []string{"students"}})
				if err != nil {
					t.Fatal(err)
				}
				e.Options.Scope, e.Options.Workers = scope, 1
				if _, err := e.Run(ctx); err == nil && n > at {
					t.Error("the run was not told that it ended early")
				}
				closeAll()
				w.front.intercept(nil)
				w.mustRun()
				w.converged()
				if got := w.count("ed-fi/students"); got != 7 {
					t.Errorf("the target has %d students, want 7", got)
				}
				if got := w.count("ed-fi/studentSchoolAssociations"); got != 5 {
					t.Errorf("the target has %d enrolments, want 5", got)
				}
			})
		}
	}
}

// lostAnswer takes an answer nobody gets.
type lostAnswer struct{ header http.Header }

func (l *lostAnswer) Header() http.Header {
	if l.header == nil {
		l.header = http.Header{}
	}
	return l.header
}
func (*lostAnswer) Write(b []byte) (int, error) { return len(b), nil }
func (*lostAnswer) WriteHeader(int)             {}

// TestTheReceiptSaysTheScope: it vouches for nothing that was not asked about.
func TestTheReceiptSaysTheScope(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(6)
	w.mustRun()
	w.exec(`update student set last = 'Changed' where id = 1`)
	s, _ := w.mustAsk(sync.Ask{Schools: []int64{10}})
	kept, err := w.ledger.ReceiptOf(t.Context(), w.conn.ID, s.RunID)
	if err != nil {
		t.Fatal(err)
	}
	r, err := sync.ReadReceipt(kept.Document)
	if err != nil {
		t.Fatal(err)
	}
	if r.Statement.Scope == nil || !r.Statement.Scope.Covers(s.Scope) || s.Scope.All() {
		t.Errorf("the receipt has scope %+v, the run %+v", r.Statement.Scope, s.Scope)
	}
	for _, res := range r.Statement.Resources {
		if res.Resource == "ed-fi/students" && (res.Rows != 6 || res.OutOfScope != 3 || res.Valid != 3) {
			t.Errorf("of students the receipt says %+v, want 3 of 6 rows out of the scope", res)
		}
	}
	s, _ = w.mustRun()
	if kept, err = w.ledger.ReceiptOf(t.Context(), w.conn.ID, s.RunID); err != nil {
		t.Fatal(err)
	}
	if r, err = sync.ReadReceipt(kept.Document); err != nil || r.Statement.Scope != nil {
		t.Errorf("the receipt of a run of everything: %v, scope %+v", err, r.Statement.Scope)
	}
}

// TestWhatCannotBeAskedForIsSaid: with what could.
func TestWhatCannotBeAskedForIsSaid(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	e, closeAll := w.engine()
	defer closeAll()
	for _, c := range []struct {
		name string
		ask  sync.Ask
		want string
	}{
		{"a resource that is not synced", sync.Ask{Resources: []string{"sections"}}, `resources: the connection does not sync "sections"; it syncs: ed-fi/classPeriods, ed-fi/localEducationAgencies,`},
		{"no resource", sync.Ask{Resources: []string{""}}, `resources: the connection does not sync ""`},
		{"a school that cannot be", sync.Ask{Schools: []int64{-1}}, "schools: -1 is no schoolId"},
		{"records and schools", sync.Ask{Schools: []int64{10}, Records: []sync.RecordName{{Resource: "students", SourceKey: "1"}}}, "records: give records, or resources and schools"},
		{"a record without a name", sync.Ask{Records: []sync.RecordName{{Resource: "students"}}}, "records: give the natural key, or the source key"},
		{"a record of another key", sync.Ask{Records: []sync.RecordName{{Resource: "students", Key: map[string]string{"schoolId": "1"}}}}, "records: schoolId is no part of the natural key of ed-fi/students, which is: studentUniqueId"},
		{"a record with half a key", sync.Ask{Records: []sync.RecordName{{Resource: "classPeriods", Key: map[string]string{"classPeriodName": "P1"}}}}, "records: ed-fi/classPeriods: key part schoolId: absent"},
		{"too much", sync.Ask{Schools: make([]int64, 1)}, "schools: 0 is no schoolId"},
	} {
		_, err := e.Scoper().Scope(c.ask)
		var ask *sync.AskError
		if !errors.As(err, &ask) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
	if s, err := e.Scoper().Scope(sync.Ask{}); err != nil || !s.All() {
		t.Errorf("nothing in particular: %+v, %v; want everything", s, err)
	}
}
