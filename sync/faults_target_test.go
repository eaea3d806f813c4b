package sync_test

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edfisync/edfisync/edfi"
	"github.com/edfisync/edfisync/sandbox"
	"github.com/edfisync/edfisync/sync"
	"github.com/edfisync/edfisync/syncdb"
)

// Faults of single calls at the target, by their numbers in the catalogue. docs/guarantees.md has fault → test → outcome.

// editAll changes the SIS so that the next run makes calls of every kind: a student is enrolled (three POSTs), one is renamed, one changes the
// login, a class period is renamed (a PUT of the key), one login goes (DELETE).
func (w *world) editAll() { w.edit(1) }

// edit is editAll of a round, 1 or 2; each touches other records.
func (w *world) edit(round int) {
	w.t.Helper()
	id := 999 + round
	w.exec(`insert into student values (?, ?, 'New', 'Surname', '2010-02-03')`, id, fmt.Sprintf("S%d", id))
	w.exec(`insert into enrolment values (?, ?, 10, '2025-08-18', '9')`, id, id)
	w.exec(`insert into demographic values (?, ?, 1, ?)`, id, id, fmt.Sprintf("login%d", id))
	w.exec(`update student set last = ? where id = 3`, fmt.Sprint("Renamed", round))
	w.exec(`update demographic set login = ? where id = 4`, fmt.Sprint("changed", round))
	w.exec(`update period set name = ? where id = 1`, fmt.Sprint("P1 renamed ", round))
	w.exec(`delete from demographic where id = ?`, []int{0, 2, 5}[round])
}

// breakCalls makes the target break calls until mend.
func (w *world) breakCalls(rules ...sandbox.FaultRule) {
	w.t.Helper()
	if err := w.sandbox.SetFaults(sandbox.Faults{Script: rules}); err != nil {
		w.t.Fatal(err)
	}
}

// broke is how many calls were broken.
func (w *world) broke() (n int64) {
	for _, i := range w.sandbox.Faults().Injected {
		n += i
	}
	return n
}

// heals mends the target and fails unless two runs bring it to what a first load gives, and a third one writes nothing (I1).
func (w *world) heals() {
	w.t.Helper()
	w.breakCalls()
	w.front.intercept(nil)
	w.mustRun()
	w.mustRun()
	w.converged()
	w.sameAsFresh()
}

// oneOfEach are rules that break one POST, one PUT and one DELETE, or all of them.
func oneOfEach(kind sandbox.FaultKind, always bool, delay time.Duration) []sandbox.FaultRule {
	return []sandbox.FaultRule{
		{Method: http.MethodPost, Resource: "ed-fi/studentSchoolAssociations", Kind: kind, Always: always, Delay: delay},
		{Method: http.MethodPut, Resource: "ed-fi/students", Kind: kind, Always: always, Delay: delay},
		{Method: http.MethodDelete, Resource: "ed-fi/studentEducationOrganizationAssociations", Kind: kind, Always: always, Delay: delay},
	}
}

// callFault is a fault of single calls and what the engine makes of it.
type callFault struct {
	kind    sandbox.FaultKind
	delay   time.Duration
	sameRun bool // a single one is put right by the run it happens in; else by the next
	tune    func(*edfi.Config)
}

// survive checks that a fault happening once to each kind of call, and one that lasts for a whole run, leave the target right in the end: nothing
// twice, nothing missing, nothing stale (I1), every row accounted for (I11), and rows without the fault not held up (I17).
func survive(t *testing.T, faults ...callFault) {
	t.Helper()
	for _, f := range faults {
		t.Run(string(f.kind), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.tune = f.tune
			w.fill(6)
			w.mustRun()
			for round, always := range []bool{false, true} {
				w.edit(round + 1)
				w.breakCalls(oneOfEach(f.kind, always, f.delay)...)
				s, _, err := w.run()
				if err != nil {
					t.Fatalf("for a whole run %t: %v: a fault of single calls must not end the run", always, err)
				}
				if w.broke() == 0 {
					t.Fatalf("for a whole run %t: no call was broken", always)
				}
				if s.Totals.Rows != s.Totals.WithRow {
					t.Errorf("for a whole run %t: got totals %+v: rows without an outcome (I11)", always, s.Totals)
				}
				if !always && f.sameRun && (s.Failed != 0 || s.Held != 0) {
					t.Errorf("got totals %+v, want nothing failed: the call is repeated in the run", s.Totals)
				}
				if got := w.records("ed-fi/classPeriods"); !strings.Contains(strings.Join(got, ""), fmt.Sprint("P1 renamed ", round+1)) {
					t.Errorf("for a whole run %t: got %v: a row without the fault was held up (I17)", always, got)
				}
				if !always && f.sameRun {
					w.breakCalls()
					w.converged()
				}
			}
			w.heals()
		})
	}
}

// F5: no answer comes, and nothing was done. The call is repeated; what stays open is settled by the next run.
func TestF05ReadTimeoutBeforeTheCallIsDone(t *testing.T) {
	t.Parallel()
	survive(t, callFault{kind: sandbox.FaultHang, sameRun: true, tune: func(c *edfi.Config) { c.Timeout = 2 * time.Second }})
}

// F6: the call is done and its answer is lost: at once, after a silence, or replaced by a gateway's error.
func TestF06AnswerLostAfterTheCallWasDone(t *testing.T) {
	t.Parallel()
	survive(t,
		callFault{kind: sandbox.FaultDropAfter, sameRun: true},
		callFault{kind: sandbox.FaultHangAfter, sameRun: true, tune: func(c *edfi.Config) { c.Timeout = 2 * time.Second }},
		callFault{kind: sandbox.Fault502After, sameRun: true},
	)
}

// F6: the answers are lost, and the SIS takes everything back before the next run: no orphan, nothing stale, nothing missing (I4).
func TestF06AnswersLostAndTheSourceTakesTheEditsBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(6)
	w.mustRun()
	w.editAll()
	w.breakCalls(sandbox.FaultRule{Method: http.MethodPost, Kind: sandbox.FaultDropAfter, Always: true},
		sandbox.FaultRule{Method: http.MethodPut, Kind: sandbox.FaultDropAfter, Always: true},
		sandbox.FaultRule{Method: http.MethodDelete, Kind: sandbox.FaultDropAfter, Always: true})
	if _, _, err := w.run(); err != nil {
		t.Fatal(err)
	}
	w.exec(`delete from demographic where id = 1000`)
	w.exec(`delete from enrolment where id = 1000`)
	w.exec(`delete from student where id = 1000`)
	w.exec(`update student set last = 'Surname' where id = 3`)
	w.exec(`update demographic set login = 'login4' where id = 4`)
	w.exec(`update period set name = 'P1' where id = 1`)
	w.exec(`insert into demographic values (2, 2, 1, 'login2')`)
	w.heals()
}

// F7: the connection is reset while the request is sent. Nothing was done; the call is repeated.
func TestF07ResetWhileTheRequestIsSent(t *testing.T) {
	t.Parallel()
	survive(t, callFault{kind: sandbox.FaultReset, sameRun: true})
}

// F8: half of the answer arrives. The status line of a write says that it was done.
func TestF08TruncatedAnswer(t *testing.T) {
	t.Parallel()
	survive(t, callFault{kind: sandbox.FaultTruncate, sameRun: true})
}

// F9: a proxy's page with status 200 is no success, whether the call was done behind it or not.
func TestF09PageOfAProxyIsNoSuccess(t *testing.T) {
	t.Parallel()
	survive(t, callFault{kind: sandbox.FaultHTML, sameRun: true}, callFault{kind: sandbox.FaultHTMLAfter, sameRun: true})
}

// F10: 200 with nothing. A POST without an id is asked for again in the next run; a PUT or DELETE answered so is repeated.
func TestF10EmptyAnswerIsNoSuccess(t *testing.T) {
	t.Parallel()
	survive(t, callFault{kind: sandbox.FaultEmpty}, callFault{kind: sandbox.FaultEmptyAfter})
}

// F11: 201 without Location. The record is ours and there, but nobody knows its id until the next run sends it again.
func TestF11CreatedWithoutLocation(t *testing.T) {
	t.Parallel()
	survive(t, callFault{kind: sandbox.FaultNoLocation})
}

// F12, F13: the id is taken from the path of whatever Location says; the address is never called.
func TestF12F13LocationOnlyGivesTheID(t *testing.T) {
	t.Parallel()
	for _, kind := range []sandbox.FaultKind{
		sandbox.FaultLocationHost, sandbox.FaultLocationRelative, sandbox.FaultLocationLower, sandbox.FaultLocationSlash,
	} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			other, called := countingServer(t)
			w := newWorld(t)
			var warned atomic.Int64
			w.tune = func(c *edfi.Config) { c.Logger = slog.New(warnings{&warned}) }
			w.fill(6)
			w.breakCalls(sandbox.FaultRule{Method: http.MethodPost, Kind: kind, Always: true, Host: other})
			s, calls := w.mustRun()
			if s.Failed != 0 || int64(len(calls)) != s.Created {
				t.Errorf("got %d calls and totals %+v, want each record created by one call", len(calls), s.Totals)
			}
			w.exec(`update student set last = 'Renamed'`) // by the ids we have
			w.exec(`delete from demographic where id < 3`)
			w.mustRun()
			w.heals()
			if n := called.Load(); n != 0 {
				t.Errorf("%d requests reached the host a Location named", n)
			}
			want := int64(0)
			if kind == sandbox.FaultLocationHost {
				want = 1
			}
			if got := warned.Load(); got < want || want == 0 && got != 0 {
				t.Errorf("got %d warnings, want %d a client", got, want)
			}
		})
	}
}

// countingServer is another host, which nobody should call.
func countingServer(t *testing.T) (url string, called *atomic.Int64) {
	t.Helper()
	called = new(atomic.Int64)
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { called.Add(1) }))
	t.Cleanup(srv.Close)
	return srv.URL, called
}

// F14: 500, 502, 503 and 504: single ones are repeated; for good they end the run before it has tried everything, and the next one continues.
func TestF14ServerErrors(t *testing.T) {
	t.Parallel()
	survive(t,
		callFault{kind: sandbox.Fault500, sameRun: true}, callFault{kind: sandbox.Fault502, sameRun: true},
		callFault{kind: sandbox.Fault503, sameRun: true}, callFault{kind: sandbox.Fault504, sameRun: true},
		callFault{kind: sandbox.Fault500After, sameRun: true}, callFault{kind: sandbox.Fault503After, sameRun: true},
		callFault{kind: sandbox.Fault504After, sameRun: true},
	)
	t.Run("for good from the middle of a load on", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.fill(150)
		w.breakCalls(sandbox.FaultRule{Method: http.MethodPost, Nth: 60, Always: true, Kind: sandbox.Fault503})
		s, calls, err := w.run()
		if !errors.Is(err, sync.ErrTargetSilent) || s.State != syncdb.RunFailed {
			t.Errorf("got %v and state %s, want a run that says the target is silent", err, s.State)
		}
		if len(calls) > 250 {
			t.Errorf("%d calls were made at a target that fails", len(calls))
		}
		w.heals()
	})
}

// F15: too many requests, however Retry-After is given; an absurd pause is capped.
func TestF15TooManyRequests(t *testing.T) {
	t.Parallel()
	patient := func(c *edfi.Config) { c.MaxRetryAfter = 20 * time.Millisecond }
	survive(t,
		callFault{kind: sandbox.Fault429, sameRun: true, tune: patient}, callFault{kind: sandbox.Fault429Seconds, sameRun: true, tune: patient},
		callFault{kind: sandbox.Fault429Date, sameRun: true, tune: patient}, callFault{kind: sandbox.Fault429Absurd, sameRun: true, tune: patient},
	)
}

// F16: an answer that comes a byte at a time, and one that comes late.
func TestF16SlowAnswers(t *testing.T) {
	t.Parallel()
	survive(t,
		callFault{kind: sandbox.FaultSlow, sameRun: true, delay: 300 * time.Millisecond, tune: func(c *edfi.Config) { c.Timeout = 2 * time.Second }},
		callFault{kind: sandbox.FaultDelay, sameRun: true, delay: 50 * time.Millisecond},
	)
}

// F17, F18: an answer of 10 MB, and one of 1 GiB packed into 1 MiB: what a write was answered is in its first line.
func TestF17F18LargeAnswers(t *testing.T) {
	t.Parallel()
	survive(t, callFault{kind: sandbox.FaultBig, sameRun: true}, callFault{kind: sandbox.FaultBomb, sameRun: true})
}

// F19: the token expires while 16 workers are calling: exactly one new one is asked for, and no row notices.
func TestF19TokenExpiresUnderSixteenWorkers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.tune = func(c *edfi.Config) { c.MaxConcurrency, c.MinConcurrency = 16, 16 }
	w.options.Workers = 16
	w.fill(150)
	w.breakCalls(sandbox.FaultRule{Method: http.MethodPost, Resource: "ed-fi/students", Nth: 40, Kind: sandbox.FaultExpired})
	before := w.sandbox.Stats().Tokens
	s, _ := w.mustRun()
	if got := w.sandbox.Stats().Tokens - before; got != 2 || w.broke() != 1 {
		t.Errorf("%d tokens were asked for, want the first one and one more", got)
	}
	if s.Failed != 0 || s.Created != s.Totals.Rows {
		t.Errorf("got totals %+v, want everything created", s.Totals)
	}
	w.heals()
}

// F20: the token endpoint is down when the token expires, is slow, or gives a token for another scope.
func TestF20TokenEndpoint(t *testing.T) {
	t.Parallel()
	t.Run("is down", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.fill(100)
		w.breakCalls(sandbox.FaultRule{Method: http.MethodPost, Resource: "ed-fi/students", Nth: 30, Kind: sandbox.FaultExpired},
			sandbox.FaultRule{Kind: sandbox.FaultTokenDown, Nth: 2, Always: true})
		s, calls, err := w.run()
		if err == nil || s.State != syncdb.RunFailed {
			t.Errorf("got %v and state %s, want a failed run", err, s.State)
		}
		if n := tally(calls)["POST ed-fi/students"]; n > 100 {
			t.Errorf("%d calls were made without a token", n)
		}
		w.heals()
	})
	t.Run("is slow", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.fill(6)
		w.breakCalls(sandbox.FaultRule{Kind: sandbox.FaultTokenSlow, Delay: 100 * time.Millisecond, Always: true})
		if s, _ := w.mustRun(); s.Failed != 0 {
			t.Errorf("got totals %+v", s.Totals)
		}
		w.heals()
	})
	t.Run("gives another scope than asked for", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.fill(6)
		w.mustRun()
		w.editAll()
		w.tune = func(c *edfi.Config) { c.Scope = "1" }
		w.breakCalls(sandbox.FaultRule{Kind: sandbox.FaultTokenScope, Always: true})
		_, calls, err := w.run()
		if err == nil || len(calls) != 0 {
			t.Errorf("got %v and calls %v, want an error and no call", err, calls)
		}
		w.heals()
	})
}

// F21: 403 for want of a relationship. The row is refused and named; what depends on nothing goes on; once the relationship is there it is sent.
func TestF21NoRelationship(t *testing.T) {
	t.Parallel()
	t.Run("on writes", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.fill(6)
		w.mustRun()
		w.editAll()
		w.breakCalls(oneOfEach(sandbox.FaultNoRelationship, true, 0)...)
		s, _ := w.mustRun()
		if s.Totals.Rejected+s.Totals.Blocked == 0 {
			t.Errorf("got totals %+v, want refused rows", s.Totals)
		}
		if !w.hasIssue("no-relationship") {
			t.Error("no issue says so")
		}
		w.heals()
	})
	// A student leaves. While a record of the student cannot be deleted the enrolment stays: without it nobody could delete the rest (I6).
	t.Run("on the delete of a student's last records", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.fill(6)
		w.mustRun()
		for _, table := range []string{"demographic", "enrolment", "student"} {
			w.exec(`delete from ` + table + ` where id = 2`)
		}
		w.breakCalls(sandbox.FaultRule{Method: http.MethodDelete, Resource: "ed-fi/studentEducationOrganizationAssociations", Kind: sandbox.FaultNoRelationship, Always: true})
		_, calls := w.mustRun()
		if n := tally(calls)["DELETE ed-fi/studentSchoolAssociations"]; n != 0 {
			t.Errorf("calls %v: the enrolment was deleted before the student's other records", calls)
		}
		w.breakCalls()
		_, calls = w.mustRun()
		want := []string{"DELETE ed-fi/studentEducationOrganizationAssociations", "DELETE ed-fi/studentSchoolAssociations", "DELETE ed-fi/students"}
		if diff := cmp.Diff(want, calls); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		w.heals()
	})
}

// hasIssue reports whether an open issue has the code.
func (w *world) hasIssue(code string) bool {
	w.t.Helper()
	issues, err := w.ledger.Issues(w.t.Context(), w.conn.ID, true)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, i := range issues {
		if i.Code == code {
			return true
		}
	}
	return false
}

// F22: a reference does not resolve at the target although we sent its target: blocked, and sent by itself in the next run.
func TestF22UnresolvedReference(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(6)
	w.mustRun()
	w.editAll()
	w.breakCalls(sandbox.FaultRule{Method: http.MethodPost, Resource: "ed-fi/studentSchoolAssociations", Kind: sandbox.FaultUnresolved, Always: true})
	s, _ := w.mustRun()
	if s.Totals.Blocked == 0 || s.Totals.Rejected != 0 || !w.hasIssue("unresolved-reference") {
		t.Errorf("got totals %+v, want a blocked row and its issue", s.Totals)
	}
	w.heals()
}

// F23: another vendor's record refers to ours: our delete is blocked and says so, their record is left alone, and ours goes when theirs has gone.
func TestF23OtherVendorsRecordRefersToOurs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(6)
	w.mustRun()
	theirs := w.neighbour(http.MethodPost, "studentSchoolAssociations", `{"studentReference":{"studentUniqueId":"S0002"},"schoolReference":{"schoolId":11},
		"entryDate":"2024-08-18","entryGradeLevelDescriptor":"uri://ed-fi.org/GradeLevelDescriptor#Ninth grade"}`, http.StatusCreated)
	for _, table := range []string{"demographic", "enrolment", "student"} {
		w.exec(`delete from ` + table + ` where id = 2`)
	}
	s, calls := w.mustRun()
	if s.Totals.Blocked != 1 || !w.hasIssue("dependent-exists") {
		t.Errorf("got totals %+v and calls %v, want the student's delete blocked", s.Totals, calls)
	}
	w.neighbour(http.MethodGet, "studentSchoolAssociations/"+theirs, "", http.StatusOK)
	w.neighbour(http.MethodDelete, "studentSchoolAssociations/"+theirs, "", http.StatusNoContent)
	w.heals()
}

// neighbour makes a call as another client of the API and returns the id in Location.
func (w *world) neighbour(method, path, body string, want int) (id string) {
	w.t.Helper()
	srv := httptest.NewServer(w.sandbox.Handler())
	defer srv.Close()
	token := w.token(srv.URL)
	req, err := http.NewRequestWithContext(w.t.Context(), method, srv.URL+"/data/v3/ed-fi/"+path, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/json")
	r, err := http.DefaultClient.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer r.Body.Close()
	if r.StatusCode != want {
		w.t.Fatalf("%s %s: got %d, want %d", method, path, r.StatusCode, want)
	}
	at := r.Header.Get("Location")
	return at[strings.LastIndexByte(at, '/')+1:]
}

// F24: the key belongs to a record of another kind: a school with the id of an agency. Refused, named, not sent again until it changes.
func TestF24KeyOfAnotherKind(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(6)
	w.exec(`insert into school values (1, 'Named like the agency', 1)`)
	s, _ := w.mustRun()
	if s.Totals.Rejected != 1 || !w.hasIssue("identity-conflict") {
		t.Errorf("got totals %+v, want one school refused", s.Totals)
	}
	w.converged()
	w.exec(`update school set id = 12 where id = 1`)
	s, calls := w.mustRun()
	if diff := cmp.Diff([]string{"POST ed-fi/schools"}, calls); diff != "" {
		t.Errorf("totals %+v, calls (-want +got):\n%s", s.Totals, diff)
	}
	w.heals()
}

// F25: the target does not take a key change where the resource should allow it: refused and named, the record stays as it was under its old key.
// Sent again on request.
func TestF25KeyChangeIsNotSupported(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(6)
	w.mustRun()
	before := w.records("ed-fi/classPeriods")
	w.exec(`update period set name = 'P1 renamed' where id = 1`)
	w.breakCalls(sandbox.FaultRule{Method: http.MethodPut, Kind: sandbox.FaultKeyChange, Always: true})
	s, _ := w.mustRun()
	if s.Totals.Rejected != 1 || !w.hasIssue("key-change-not-supported") {
		t.Errorf("got totals %+v, want the change refused", s.Totals)
	}
	if diff := cmp.Diff(before, w.records("ed-fi/classPeriods")); diff != "" {
		t.Error(diff)
	}
	w.breakCalls()
	w.options.RetryRejected = true
	w.heals()
}

// F26: an item that is gone is created again, a delete of it is done; a route that is wrong is believed in nothing.
func TestF26NotFound(t *testing.T) {
	t.Parallel()
	t.Run("items that are gone", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.fill(6)
		w.mustRun()
		for _, n := range []int{2, 4} { // one whose row goes, one whose row changes
			w.neighbour(http.MethodDelete, "studentEducationOrganizationAssociations/"+w.idOf("studentEducationOrganizationAssociations", fmt.Sprintf("studentUniqueId=S%04d", n)), "", http.StatusNoContent)
		}
		w.editAll()
		s, calls := w.mustRun()
		got := tally(calls)
		if s.Failed != 0 || got["PUT ed-fi/studentEducationOrganizationAssociations"] != 1 || got["POST ed-fi/studentEducationOrganizationAssociations"] != 2 ||
			got["DELETE ed-fi/studentEducationOrganizationAssociations"] != 1 {
			t.Errorf("got totals %+v, calls %v", s.Totals, got)
		}
		w.heals()
	})
	t.Run("a wrong route", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.fill(6)
		w.mustRun()
		w.editAll()
		w.breakCalls(sandbox.FaultRule{Kind: sandbox.FaultNoRoute, Always: true})
		s, _, _ := w.run()
		if s.Deleted != 0 || s.Created != 0 || s.Updated != 0 {
			t.Errorf("got totals %+v, want nothing believed", s.Totals)
		}
		w.options.RetryRejected = true
		w.heals()
	})
}

// F27: 412, the record has changed meanwhile: nothing is lost, the row is sent again.
func TestF27PreconditionFailed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(6)
	w.mustRun()
	w.editAll()
	w.breakCalls(sandbox.FaultRule{Method: http.MethodPut, Kind: sandbox.FaultChanged, Always: true}, sandbox.FaultRule{Method: http.MethodDelete, Kind: sandbox.FaultChanged, Always: true})
	s, _ := w.mustRun()
	if s.Updated != 0 || s.Deleted != 0 || s.Failed == 0 {
		t.Errorf("got totals %+v, want refused updates and deletes", s.Totals)
	}
	w.heals()
}

// F28: a redirect is not followed: neither the token nor the record goes to another host. The run ends, since every call would be redirected.
func TestF28RedirectIsNotFollowed(t *testing.T) {
	t.Parallel()
	for _, kind := range []sandbox.FaultKind{sandbox.FaultRedirect301, sandbox.FaultRedirect302, sandbox.FaultRedirect307} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			other, called := countingServer(t)
			w := newWorld(t)
			w.fill(6)
			w.mustRun()
			w.editAll()
			w.breakCalls(sandbox.FaultRule{Kind: kind, Host: other, Always: true}, sandbox.FaultRule{Kind: kind, Resource: sandbox.TokenResource, Nth: 2, Host: other, Always: true})
			s, _, _ := w.run()
			if s.Created+s.Updated+s.Deleted != 0 {
				t.Errorf("got totals %+v, want nothing done", s.Totals)
			}
			if n := called.Load(); n != 0 {
				t.Errorf("%d requests reached the other host", n)
			}
			w.heals()
		})
	}
}
