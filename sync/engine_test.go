package sync_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edfisync/edfisync/sync"
	"github.com/edfisync/edfisync/syncdb"
)

func TestFirstLoadSendsEveryRecordOnceAndTheSecondRunNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(40)
	s, calls := w.mustRun()
	want := map[string]int{
		"POST ed-fi/localEducationAgencies": 1, "POST ed-fi/schools": 2, "POST ed-fi/classPeriods": 2, "POST ed-fi/students": 40,
		"POST ed-fi/studentSchoolAssociations": 40, "POST ed-fi/studentEducationOrganizationAssociations": 40,
	}
	if diff := cmp.Diff(tally(calls), want); diff != "" {
		t.Errorf("calls (-got +want):\n%s", diff)
	}
	if s.Created != 125 || s.Totals.Rows != 125 || s.Held+s.Failed != 0 {
		t.Errorf("got totals %+v, want 125 rows created", s.Totals)
	}
	if first, last := slices.Index(calls, "POST ed-fi/studentSchoolAssociations"), lastIndex(calls, "POST ed-fi/students"); first < last {
		t.Errorf("an enrolment was sent at %d, before the last student at %d (I6)", first, last)
	}
	w.converged()
}

func lastIndex(calls []string, call string) int {
	for i := len(calls) - 1; i >= 0; i-- {
		if calls[i] == call {
			return i
		}
	}
	return -1
}

func TestEditsArriveAsExactlyTheRightCalls(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(30)
	w.mustRun()
	w.exec(`update student set last = 'Changed' where id in (1, 2)`)
	w.exec(`update demographic set login = null where id = 3`)
	w.exec(`insert into student values (100, 'S0100', 'New', 'Pupil', '2011-01-01')`)
	w.exec(`insert into enrolment values (100, 100, 10, '2025-08-18', '10')`)
	for _, table := range []string{"student", "enrolment", "demographic"} {
		w.exec(`delete from ` + table + ` where id = 4`)
	}
	s, calls := w.mustRun()
	want := map[string]int{
		"PUT ed-fi/students": 2, "PUT ed-fi/studentEducationOrganizationAssociations": 1, "POST ed-fi/students": 1,
		"POST ed-fi/studentSchoolAssociations": 1, "DELETE ed-fi/students": 1, "DELETE ed-fi/studentSchoolAssociations": 1,
		"DELETE ed-fi/studentEducationOrganizationAssociations": 1,
	}
	if diff := cmp.Diff(tally(calls), want); diff != "" {
		t.Errorf("calls (-got +want):\n%s", diff)
	}
	if s.Created != 2 || s.Updated != 3 || s.Deleted != 3 {
		t.Errorf("got totals %+v", s.Totals)
	}
	// Create order inverted (I6): first what hangs on the person, then the enrolment, then the person.
	deletes := calls[len(calls)-3:]
	if diff := cmp.Diff(deletes, []string{
		"DELETE ed-fi/studentEducationOrganizationAssociations", "DELETE ed-fi/studentSchoolAssociations", "DELETE ed-fi/students",
	}); diff != "" {
		t.Errorf("deletes (-got +want):\n%s", diff)
	}
	w.converged()
}

func TestInvalidRowIsHeldAndNothingIsDeletedForIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(10)
	w.mustRun()
	w.exec(`update student set birth = null where id = 1`)
	w.exec(`update enrolment set grade = 'X' where id = 2`)
	s, calls := w.mustRun()
	if len(calls) != 0 {
		t.Errorf("got calls %v, want none: invalid is not absent (I5f)", calls)
	}
	if s.Totals.Invalid != 2 || s.Totals.Unchanged != s.Totals.Rows-2 {
		t.Errorf("got totals %+v, want 2 invalid and the rest unchanged", s.Totals)
	}
	issues, err := w.ledger.Issues(t.Context(), w.conn.ID, true)
	if err != nil {
		t.Fatal(err)
	}
	codes := map[string]string{}
	for _, i := range issues {
		codes[i.Code] = i.Cause
	}
	if _, ok := codes["required-missing"]; !ok || !strings.Contains(codes["descriptor-unmapped"], `"X"`) {
		t.Errorf("got issues %v, want required-missing, and descriptor-unmapped naming the code", codes)
	}
	w.exec(`update student set birth = '2010-02-04' where id = 1`)
	w.exec(`update enrolment set grade = '9' where id = 2`)
	if s, calls := w.mustRun(); len(calls) != 1 || s.Cleared != 2 {
		t.Errorf("got calls %v and %d cleared, want one PUT and 2 cleared", calls, s.Cleared)
	}
}

func TestChildrenOfAnInvalidParentAreBlockedAndFollowItLater(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(5)
	w.exec(`update student set birth = 'never' where id = 3`)
	s, calls := w.mustRun()
	if s.Totals.Invalid != 1 || s.Totals.Blocked != 2 {
		t.Errorf("got totals %+v, want 1 invalid student and 2 blocked children", s.Totals)
	}
	if got := tally(calls)["POST ed-fi/studentSchoolAssociations"]; got != 4 {
		t.Errorf("got %d enrolments sent, want 4: the child of a missing parent is not sent", got)
	}
	w.exec(`update student set birth = '2010-01-01' where id = 3`)
	if _, calls := w.mustRun(); len(calls) != 3 {
		t.Errorf("got calls %v, want the student and both children", calls)
	}
	w.converged()
}

func TestSelfReferencesAreSentParentFirst(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.exec(`insert into agency values (1, 'Leaf', 2), (2, 'Middle', 3), (3, 'Root', null)`)
	if s, calls := w.mustRun(); s.Created != 3 || len(calls) != 3 {
		t.Errorf("got %+v with calls %v, want three agencies created by one call each", s.Totals, calls)
	}
	w.converged()
}

func TestDuplicateNaturalKeysAreNamedAndNotSent(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(3)
	w.exec(`insert into student values (50, 'S0001', 'Other', 'Person', '2009-09-09')`)
	s, calls := w.mustRun()
	if got := tally(calls)["POST ed-fi/students"]; got != 2 {
		t.Errorf("got %d students sent, want 2: rows with one key and different payloads are not sent", got)
	}
	if s.Totals.Invalid != 2 || s.Totals.Blocked != 2 {
		t.Errorf("got totals %+v, want both rows invalid and the two children blocked", s.Totals)
	}
	problems, err := w.ledger.Problems(t.Context(), w.conn.ID, syncdb.ProblemFilter{Resource: "ed-fi/students", Limit: 10})
	if err != nil || len(problems) != 2 {
		t.Fatalf("got %d problems, %v", len(problems), err)
	}
	for i := range problems { // the first row and the second one say why
		row, err := sync.ReadRow(&problems[i], sync.ShowRules)
		if err != nil || len(row.Problems) != 1 || row.Problems[0].Code != "duplicate-natural-key" || row.Problems[0].Message == "" {
			t.Errorf("row %d of the duplicate: got %+v, %v, want its rule", i, row, err)
		}
	}
	w.exec(`delete from student where id = 50`)
	w.mustRun()
	w.converged()
}

// A student gets another's id by a typing error. The two rows are held, and nothing of the one moves to the other (I5).
func TestRecordsOfARowWithAnothersKeyStayWhereTheyAre(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(4)
	w.exec(`update enrolment set school = 10 where student = 1`)
	w.exec(`update enrolment set school = 11 where student = 2`)
	w.mustRun()
	w.exec(`update student set uid = 'S0001' where id = 2`)
	w.exec(`update enrolment set grade = '10' where student = 1`) // known under that key already: goes on
	e, done := w.engine()
	plan, err := e.Plan(t.Context(), 0)
	done()
	if err != nil || plan.Writes() != 1 {
		t.Errorf("a plan of %d calls (%v), want one: %+v", plan.Writes(), err, plan.Resources)
	}
	s, calls := w.mustRun()
	if diff := cmp.Diff(tally(calls), map[string]int{"PUT " + enrolments: 1}); diff != "" {
		t.Errorf("calls (-got +want):\n%s", diff)
	}
	issues := w.openIssues()
	if s.Totals.Deleted != 0 || issues["duplicate-natural-key"] != 2 || issues["ambiguous-reference"] == 0 {
		t.Errorf("got totals %+v and issues %v", s.Totals, issues)
	}
	w.exec(`update student set uid = 'S0002' where id = 2`)
	if _, calls := w.mustRun(); len(calls) != 0 {
		t.Errorf("after the correction: got calls %v, want none", calls)
	}
	w.converged()
}

// A row that breaks a rule keeps its record, so what the record refers to stays too, and the target is not asked for what it must refuse (I6).
func TestWhatAHeldRowsRecordRefersToStays(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(2)
	w.exec(`insert into school values (12, 'West', 1)`)
	w.exec(`insert into period values (9, 'P9', 12)`)
	w.mustRun()
	w.exec(`update period set name = null where id = 9`)
	w.exec(`delete from school where id = 12`)
	if _, calls := w.mustRun(); len(calls) != 0 || w.openIssues()["dependent-kept"] != 1 {
		t.Errorf("got calls %v and issues %v, want no call and one delete that waits", calls, w.openIssues())
	}
	w.exec(`delete from period where id = 9`)
	if _, calls := w.mustRun(); len(calls) != 2 || calls[0] != "DELETE ed-fi/classPeriods" {
		t.Errorf("got calls %v, want both deletes in order", calls)
	}
	w.converged()
}

// An enrolment whose row waits keeps its record, which still authorises its own delete: the student's other enrolments go (I1).
func TestEnrolmentsGoThoughAnotherOneOfTheStudentStays(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.options.Safeguards = lenient()
	w.fill(1)
	const n = 12
	for i := range n {
		w.exec(`insert into school values (?, 'School', 1)`, 100+i)
		w.exec(`insert into enrolment values (?, 1, ?, '2025-08-18', '9')`, 100+i, 100+i)
	}
	w.mustRun()
	w.exec(`update student set uid = 'S1' where id = 1`)
	w.exec(`update enrolment set school = 999 where id = 100`) // no such school
	_, calls := w.mustRun()
	if got := tally(calls)["DELETE "+enrolments]; got != n {
		t.Errorf("got %d enrolments deleted, want all %d but the one whose row waits", got, n)
	}
	w.converged()
	w.exec(`delete from enrolment where id = 100`)
	w.mustRun()
	w.converged()
	if got := w.count("ed-fi/students"); got != 1 {
		t.Errorf("got %d students, want 1", got)
	}
}

func TestMassDeleteIsHeldUntilApproved(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(100)
	w.mustRun()
	w.exec(`delete from demographic where id > 30`)
	s, calls := w.mustRun()
	if len(calls) != 0 || s.Totals.Kept != 70 || len(s.HeldBack) != 1 || s.HeldBack[0].Resource != "ed-fi/studentEducationOrganizationAssociations" || s.HeldBack[0].Ops != 70 {
		t.Errorf("got calls %d, totals %+v, held %v: want 70 deletes held", len(calls), s.Totals, s.HeldBack)
	}
	w.options.Safeguards.ApproveDeletes = []string{"ed-fi/studentEducationOrganizationAssociations"}
	if _, calls := w.mustRun(); len(calls) != 70 {
		t.Errorf("got %d calls after approval, want 70", len(calls))
	}
	w.converged()
}

func TestBrokenScanEndsTheRunBeforeAnythingIsSent(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(10)
	w.mustRun()
	w.exec(`delete from demographic`)
	w.exec(`insert into agency values (2, 'New', null)`)
	w.pack["schools.sql"] = &fstest.MapFile{Data: []byte(strings.Replace(sisPack["schools.sql"], "from school",
		"from school where abs(id - 11 - 9223372036854775807) >= 0", 1))} // abs overflows on row 10: an error in mid-stream
	_, calls, err := w.run()
	if err == nil || len(calls) != 0 {
		t.Errorf("got error %v and calls %v, want an error and no call (I5c)", err, calls)
	}
}

func TestLostResponseIsSettledByTheNextRun(t *testing.T) {
	t.Parallel()
	for name, lose := range map[string]string{"of a create": "POST", "of an update": "PUT", "of a delete": "DELETE"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.fill(6)
			if lose != "POST" {
				w.mustRun()
				w.exec(`update demographic set login = 'other' where id = 1`)
				w.exec(`delete from demographic where id = 2`)
			}
			w.front.intercept(func(rw http.ResponseWriter, r *http.Request) bool {
				if r.Method != lose || !strings.Contains(r.URL.Path, "/studentEducationOrganizationAssociations") {
					return false
				}
				w.sandbox.Handler().ServeHTTP(httptest.NewRecorder(), r) // F6: committed, the answer is lost
				panic(http.ErrAbortHandler)
			})
			s, _, err := w.run()
			if err != nil {
				t.Fatalf("run with lost answers: %v", err)
			}
			if s.Totals.Errors == 0 {
				t.Errorf("got totals %+v, want failed rows", s.Totals)
			}
			w.front.intercept(nil)
			// Back to what it was, and gone: what a wrong guess about the lost answer would get wrong for good.
			w.exec(`update demographic set login = 'login1' where id = 1`)
			w.exec(`delete from demographic where id = 3`)
			w.mustRun()
			w.converged()
			if got, want := w.count("ed-fi/studentEducationOrganizationAssociations"), map[string]int{"POST": 5, "PUT": 4, "DELETE": 4}[lose]; got != want {
				t.Errorf("got %d records at the target, want %d", got, want)
			}
		})
	}
}

func TestRecordThatWasThereBeforeUsIsReportedAndNeverDeleted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(2)
	w.mustRun()
	w.ledger = newMemLedger(t) // another connection, or a lost ledger
	var err error
	if w.conn, w.ring, err = w.ledger.Connection(t.Context(), "default", "tiny"); err != nil {
		t.Fatal(err)
	}
	s, _ := w.mustRun()
	if s.Totals.Met != s.Totals.Rows || s.Updated != s.Totals.Rows {
		t.Errorf("got totals %+v, want every row met", s.Totals)
	}
	w.exec(`delete from demographic where id = 1`)
	s, calls := w.mustRun()
	if len(calls) != 0 || s.Totals.Blocked != 1 {
		t.Errorf("got calls %v, totals %+v: want the delete blocked (I9)", calls, s.Totals)
	}
}

func TestPersonThatExistsElsewhereIsCreatedAfterTheEnrolment(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(1)
	var enrolled atomic.Bool
	w.front.intercept(func(rw http.ResponseWriter, r *http.Request) bool {
		switch {
		case strings.HasSuffix(r.URL.Path, "/studentSchoolAssociations") && r.Method == http.MethodPost:
			enrolled.Store(true)
			rw.Header().Set("Location", "/data/v3/ed-fi/studentSchoolAssociations/0123456789abcdef0123456789abcdef")
			rw.WriteHeader(http.StatusCreated)
			return true
		case strings.HasSuffix(r.URL.Path, "/students") && r.Method == http.MethodPost && !enrolled.Load():
			rw.Header().Set("Content-Type", "application/json")
			rw.WriteHeader(http.StatusForbidden)
			_, _ = rw.Write([]byte(`{"detail":"Access to the requested data could not be authorized. Hint: You may need to create a corresponding 'StudentSchoolAssociation' item.",` +
				`"type":"urn:ed-fi:api:security:authorization","title":"Authorization Denied","status":403}`))
			return true
		}
		return false
	})
	s, calls := w.mustRun()
	if got := tally(calls)["POST ed-fi/students"]; got != 2 || s.Totals.Rejected != 0 {
		t.Errorf("got %d POSTs of the student, totals %+v: want a second one after the enrolment", got, s.Totals)
	}
}

func TestRejectedRecordIsNotSentAgainUntilItChanges(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(2)
	refuse := func(rw http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPost || !strings.HasSuffix(r.URL.Path, "/classPeriods") {
			return false
		}
		rw.Header().Set("Content-Type", "application/json")
		rw.WriteHeader(http.StatusBadRequest)
		_, _ = rw.Write([]byte(`{"detail":"no","type":"urn:ed-fi:api:bad-request:data-validation-failed","title":"Data Validation Failed","status":400,` +
			`"validationErrors":{"$.classPeriodName":["ClassPeriodName contains a value that could be dangerous for downstream systems."]}}`))
		return true
	}
	w.front.intercept(refuse)
	if s, _ := w.mustRun(); s.Totals.Rejected != 2 {
		t.Fatalf("got totals %+v, want 2 rejected", s.Totals)
	}
	s, calls := w.mustRun()
	if len(calls) != 0 || s.Totals.Rejected != 2 {
		t.Errorf("got calls %v, totals %+v: want the refused rows on file and no call", calls, s.Totals)
	}
	w.front.intercept(nil)
	w.exec(`update period set name = 'P1b' where id = 1`)
	if _, calls := w.mustRun(); len(calls) != 1 {
		t.Errorf("got calls %v, want the changed row only", calls)
	}
	w.options.RetryRejected = true
	if _, calls := w.mustRun(); len(calls) != 1 {
		t.Errorf("got calls %v, want the other one when asked for", calls)
	}
}

func TestRecordGoneAtTheTargetIsCreatedAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(2)
	w.mustRun()
	w.exec(`update demographic set login = 'x' where id = 1`)
	once := atomic.Bool{}
	w.front.intercept(func(rw http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPut && once.CompareAndSwap(false, true) {
			del := r.Clone(r.Context())
			del.Method, del.Body, del.ContentLength = http.MethodDelete, http.NoBody, 0
			w.sandbox.Handler().ServeHTTP(httptest.NewRecorder(), del) // another client deletes it first (F31)
		}
		return false
	})
	s, calls := w.mustRun()
	if diff := cmp.Diff(tally(calls), map[string]int{
		"PUT ed-fi/studentEducationOrganizationAssociations": 1, "POST ed-fi/studentEducationOrganizationAssociations": 1,
	}); diff != "" || s.Created != 1 {
		t.Errorf("got totals %+v, calls (-got +want):\n%s", s.Totals, diff)
	}
	w.front.intercept(nil)
	w.converged()
}

func TestTargetThatAcceptsNothingStopsTheRunAndTheNextOneContinues(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(20)
	var calls atomic.Int64
	w.front.intercept(func(rw http.ResponseWriter, r *http.Request) bool {
		if strings.HasPrefix(r.URL.Path, "/data/") && r.Method == http.MethodPost && calls.Add(1) > 30 ||
			calls.Load() > 30 && strings.HasSuffix(r.URL.Path, "/token") {
			rw.WriteHeader(http.StatusUnauthorized)
			return true
		}
		return false
	})
	s, _, err := w.run()
	if err == nil || s.State != syncdb.RunFailed {
		t.Errorf("got %v and state %q, want a failed run", err, s.State)
	}
	if s.Totals.WithRow != s.Totals.Rows {
		t.Errorf("got %d outcomes for %d rows (I11)", s.Totals.WithRow, s.Totals.Rows)
	}
	w.front.intercept(nil)
	w.mustRun()
	w.converged()
	if got := w.count("ed-fi/students"); got != 20 {
		t.Errorf("got %d students, want 20", got)
	}
}

func TestCancelStopsCallsWithinTwoSeconds(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(300)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var seen atomic.Int64
	w.front.intercept(func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPost && seen.Add(1) == 50 {
			cancel()
		}
		return false
	})
	e, closeAll := w.engine()
	defer closeAll()
	begun := time.Now()
	s, err := e.Run(ctx)
	if !errors.Is(err, context.Canceled) || s.State != syncdb.RunCanceled {
		t.Errorf("got %v and state %q, want a canceled run", err, s.State)
	}
	if took := time.Since(begun); took > 20*time.Second {
		t.Errorf("the run went on for %s after the cancel", took)
	}
	w.front.intercept(nil)
	w.mustRun()
	w.converged()
}

func TestPlanSaysWhatRunDoesAndWritesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(5)
	w.mustRun()
	w.exec(`update student set last = 'Changed' where id = 1`)
	w.exec(`delete from demographic where id = 2`)
	w.exec(`insert into period values (9, 'P9', 11)`)
	e, closeAll := w.engine()
	defer closeAll()
	w.front.take()
	p, err := e.Plan(t.Context(), 100)
	if err != nil {
		t.Fatal(err)
	}
	if calls := w.front.take(); len(calls) != 0 {
		t.Errorf("plan made write calls %v", calls)
	}
	got := map[string]int{}
	for _, c := range p.Changes {
		got[c.Verb+" "+c.Resource]++
		if c.Verb == "update" {
			want := []sync.FieldChange{{Path: "lastSurname", Before: []byte(`"Surname"`), After: []byte(`"Changed"`)}}
			if diff := cmp.Diff(c.Fields, want); diff != "" {
				t.Errorf("fields of the update (-got +want):\n%s", diff)
			}
		}
	}
	want := map[string]int{
		"update ed-fi/students": 1, "delete ed-fi/studentEducationOrganizationAssociations": 1, "create ed-fi/classPeriods": 1,
	}
	if diff := cmp.Diff(got, want); diff != "" {
		t.Errorf("changes (-got +want):\n%s", diff)
	}
	if p.Writes() != 3 {
		t.Errorf("got %d writes, want 3", p.Writes())
	}
	_, calls := w.mustRun()
	if n := slices.Sorted(maps.Values(tally(calls))); len(calls) != 3 || len(n) != 3 {
		t.Errorf("run made calls %v, want what was planned", calls)
	}
}

func TestNaturalKeyChangeIsOnePutWhereTheResourceAllowsIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(4)
	w.mustRun()
	w.exec(`update period set name = 'P1 renamed' where id = 1`)
	w.exec(`update enrolment set entry = '2025-09-01' where id = 2`)
	s, calls := w.mustRun()
	if diff := cmp.Diff(tally(calls), map[string]int{"PUT ed-fi/classPeriods": 1, "PUT ed-fi/studentSchoolAssociations": 1}); diff != "" {
		t.Errorf("calls (-got +want):\n%s", diff)
	}
	if s.Updated != 2 || s.Created != 0 || s.Deleted != 0 {
		t.Errorf("got totals %+v, want two updates", s.Totals)
	}
	w.converged()
	if got := w.count("ed-fi/classPeriods"); got != 2 {
		t.Errorf("got %d class periods, want 2", got)
	}
}

func TestNaturalKeyChangeElsewhereIsDeleteAndCreateInOrder(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(4)
	w.mustRun()
	w.exec(`update student set uid = 'S9999' where id = 1`)
	s, calls := w.mustRun()
	want := []string{
		"POST ed-fi/students", "POST ed-fi/studentSchoolAssociations", "POST ed-fi/studentEducationOrganizationAssociations",
		"DELETE ed-fi/studentEducationOrganizationAssociations", "DELETE ed-fi/studentSchoolAssociations", "DELETE ed-fi/students",
	}
	// The enrolment could change its key by PUT, but then nobody could delete what hangs on the old student (I4).
	if diff := cmp.Diff(calls, want); diff != "" {
		t.Errorf("totals %+v, calls (-got +want):\n%s", s.Totals, diff)
	}
	w.converged()
	if got := w.count("ed-fi/students"); got != 4 {
		t.Errorf("got %d students, want 4", got)
	}
}

func TestOtherRulesForComparingKeysAreRefusedBeforeAnythingIsSent(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(3)
	w.mustRun()
	w.foldKeys = true
	_, calls, err := w.run()
	if err == nil || !strings.Contains(err.Error(), "fold_keys") || len(calls) != 0 {
		t.Errorf("got error %v and calls %v, want a refusal that names fold_keys", err, calls)
	}
}

func TestResourceTakenOutOfThePackIsLeftAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(3)
	w.mustRun()
	delete(w.pack, "studentEducationOrganizationAssociations.sql")
	s, calls := w.mustRun()
	if len(calls) != 0 || !slices.Equal(s.LeftAlone, []string{"ed-fi/studentEducationOrganizationAssociations"}) {
		t.Errorf("got calls %v and left alone %v, want no call and the resource named (I5g)", calls, s.LeftAlone)
	}
}

func TestIssuesOfAResourceTakenOutOfThePackAreCleared(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(3)
	w.exec(`update demographic set login = printf('%500d', 1) where id = 1`)
	w.mustRun()
	if got := w.openIssues(); len(got) == 0 {
		t.Fatal("no issue to clear")
	}
	delete(w.pack, "studentEducationOrganizationAssociations.sql")
	if s, _ := w.mustRun(); s.Cleared == 0 || !cmp.Equal(w.openIssues(), map[string]int64{string(sync.RuleOutOfScope): 2}) {
		t.Errorf("cleared %d, open are %v; want only that two records are out of scope", s.Cleared, w.openIssues())
	}
}

func TestPlanKnowsRowsThatWillBeBlockedAndKeysThatChange(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(4)
	w.mustRun()
	w.exec(`insert into student values (60, 'S0060', 'No', 'Birthday', null)`)
	w.exec(`insert into enrolment values (60, 60, 10, '2025-08-18', '9')`)
	w.exec(`insert into demographic values (60, 60, 1, 'x')`)
	w.exec(`update period set name = 'P1 renamed' where id = 1`)
	e, closeAll := w.engine()
	defer closeAll()
	p, err := e.Plan(t.Context(), 100)
	if err != nil {
		t.Fatal(err)
	}
	var blocked int64
	for _, r := range p.Resources {
		blocked += r.Blocked
	}
	if p.Writes() != 1 || blocked != 2 {
		t.Errorf("got %d writes and %d blocked rows, want the renamed period and two children of the invalid student", p.Writes(), blocked)
	}
	for _, c := range p.Changes {
		if c.Resource == "ed-fi/classPeriods" && (c.Verb != "rekey" || len(c.Fields) != 1 || c.Fields[0].Path != "classPeriodName") {
			t.Errorf("got %+v, want a change of the key", c)
		}
	}
	if _, calls := w.mustRun(); len(calls) != 1 {
		t.Errorf("run made calls %v, want what was planned", calls)
	}
}

// A plan shows values as they are sent, though they are compared without case.
func TestPlanShowsValuesAsTheyAreSent(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(1)
	w.mustRun()
	w.exec(`update enrolment set grade = '10'`)
	w.exec(`insert into period values (9, 'Homeroom A', 10)`)
	e, closeAll := w.engine()
	defer closeAll()
	p, err := e.Plan(t.Context(), 100)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range p.Changes {
		for _, f := range c.Fields {
			got = append(got, fmt.Sprintf("%s %s: %s → %s", c.Key, f.Path, f.Before, f.After))
		}
	}
	want := []string{
		`["Homeroom A",10] classPeriodName:  → "Homeroom A"`,
		`["Homeroom A",10] schoolReference.schoolId:  → 10`,
		`["2025-08-18",11,"S0001"] entryGradeLevelDescriptor: "uri://ed-fi.org/GradeLevelDescriptor#Ninth grade" → "uri://ed-fi.org/GradeLevelDescriptor#Tenth grade"`,
	}
	if diff := cmp.Diff(got, want); diff != "" {
		t.Errorf("changes (-got +want):\n%s", diff)
	}
}
