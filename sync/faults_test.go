package sync_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"github.com/edfisync/edfisync/internal/keys"
	"github.com/edfisync/edfisync/sync"
	"github.com/edfisync/edfisync/syncdb"
)

func problemJSON(rw http.ResponseWriter, status int, typ, detail string) {
	rw.Header().Set("Content-Type", "application/problem+json")
	rw.WriteHeader(status)
	fmt.Fprintf(rw, `{"detail":%q,"type":%q,"title":"x","status":%d}`, detail, typ, status)
}

// refuse makes the target answer calls of one method to one collection with a problem.
func (w *world) refuse(method, collection string, status int, typ string) {
	w.front.intercept(func(rw http.ResponseWriter, r *http.Request) bool {
		if r.Method != method || !strings.HasSuffix(r.URL.Path, "/"+collection) {
			return false
		}
		problemJSON(rw, status, typ, "x")
		return true
	})
}

// commitAndDrop lets the sandbox take the call and loses its answer (F6).
func (w *world) commitAndDrop(r *http.Request) {
	w.sandbox.Handler().ServeHTTP(httptest.NewRecorder(), r)
	panic(http.ErrAbortHandler)
}

// key-changing PUT committed, answer lost, source back to the old key: orphan.
func TestKeyChangeWithoutAnswerThatIsTakenBackLeavesNoOrphan(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(2)
	w.mustRun()
	w.exec(`update period set name = 'P1b' where id = 1`)
	w.front.intercept(func(rw http.ResponseWriter, r *http.Request) bool {
		if r.Method == "PUT" && strings.Contains(r.URL.Path, "/classPeriods") {
			w.commitAndDrop(r)
		}
		return false
	})
	w.run()
	w.front.intercept(nil)
	w.exec(`update period set name = 'P1' where id = 1`)
	w.mustRun()
	w.mustRun()
	w.converged()
	if got := w.count("ed-fi/classPeriods"); got != 2 {
		t.Errorf("got %d class periods, want 2: orphan", got)
	}
}

// duplicates do not hold the entry of the row under another key.
func TestDuplicateRowKeepsWhatItProducedUnderAnotherKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(3)
	w.mustRun()
	w.exec(`delete from enrolment where id=1`)
	w.exec(`delete from demographic where id=1`)
	w.mustRun()
	w.exec(`update student set uid = 'S0002' where id = 1`) // typo: collides with student 2
	s, calls := w.mustRun()
	if len(calls) != 0 {
		t.Errorf("calls %v totals %+v: an invalid (duplicate) row's record is deleted (I5f)", calls, s.Totals)
	}
}

// final refusal on a repeat after a committed lost attempt is filed as "nothing happened".
func TestRefusedRepeatDoesNotHideACommittedAttempt(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, method string }{{"create", "POST"}, {"update", "PUT"}, {"delete", "DELETE"}} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			w.fill(3)
			if c.method != "POST" {
				w.mustRun()
			}
			switch c.method {
			case "PUT":
				w.exec(`update demographic set login = 'B' where id = 1`)
			case "DELETE":
				w.exec(`delete from demographic where id = 1`)
			}
			var n atomic.Int64
			w.front.intercept(func(rw http.ResponseWriter, r *http.Request) bool {
				if r.Method != c.method || !strings.Contains(r.URL.Path, "/studentEducationOrganizationAssociations") {
					return false
				}
				if n.Add(1)%2 == 1 {
					w.commitAndDrop(r)
				}
				problemJSON(rw, 403, "urn:ed-fi:api:security:authorization:access-denied", "claim set")
				return true
			})
			w.options.Workers = 1
			w.mustRun()
			w.front.intercept(nil)
			want := 3
			switch c.method {
			case "POST":
				w.exec(`delete from demographic`)
				w.options.Safeguards.ApproveDeletes = []string{"ed-fi/studentEducationOrganizationAssociations"} // an empty table is held otherwise
				want = 0
			case "PUT":
				w.exec(`update demographic set login = 'login1' where id = 1`)
			case "DELETE":
				w.exec(`insert into demographic values (1, 1, 1, 'login1')`)
			}
			_, calls := w.mustRun()
			w.mustRun()
			if c.method == "PUT" && len(calls) == 0 {
				t.Errorf("record stays at B: no call made")
			}
			if got := w.count("ed-fi/studentEducationOrganizationAssociations"); got != want {
				t.Errorf("got %d records, want %d", got, want)
			}
		})
	}
}

// run ends between a recreate that met our own record and the release of the old entry.
func TestRecordOfALiveRowIsNotDeletedUnderItsOldKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(3)
	w.exec(`delete from enrolment where id=1`)
	w.exec(`delete from demographic where id=1`)
	w.exec(`update student set uid = 'sx1' where id = 1`)
	w.mustRun()
	// a target that compares keys without case: POST SX1 meets sx1
	w.exec(`update student set uid = 'SX1' where id = 1`)
	e, closeAll := w.engine()
	defer closeAll()
	var id string
	if err := w.ledger.Each(t.Context(), w.conn.ID, "ed-fi/students", func(e *syncdb.Entry) error {
		if strings.Contains(string(e.Key), "sx1") {
			id = e.EdfiID
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	w.front.intercept(func(rw http.ResponseWriter, r *http.Request) bool {
		if r.Method == "POST" && strings.HasSuffix(r.URL.Path, "/students") {
			rw.Header().Set("Location", "/data/v3/ed-fi/students/"+id)
			rw.WriteHeader(200)
			go func() { time.Sleep(5 * time.Millisecond); cancel() }()
			time.Sleep(1 * time.Millisecond)
			return true
		}
		return false
	})
	e.Ledger = slowSave{w.ledger}
	if _, err := e.Run(ctx); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v, want a canceled run", err)
	}
	_, calls := w.mustRun()
	if len(calls) != 0 {
		t.Errorf("calls %v: the id of a live row was deleted (I5d)", calls)
	}
	w.mustRun()
	if got := w.count("ed-fi/students"); got != 3 {
		t.Errorf("got %d students, want 3", got)
	}
}

type slowSave struct{ ledger }

func (s slowSave) SaveStep(ctx context.Context, l syncdb.Lease, st syncdb.Step) error {
	err := s.ledger.SaveStep(ctx, l, st)
	time.Sleep(100 * time.Millisecond) // the cancel arrives between two steps
	return err
}

// _key given twice: two PUTs on one id.
func TestSourceKeyGivenTwiceMovesOneRecordOnly(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.pack["classPeriods.sql"] = &fstest.MapFile{Data: []byte(`select 'x' as "_key", name as "classPeriodName", school as "schoolReference.schoolId" from period`)}
	w.fill(2)
	w.mustRun()
	w.exec(`update period set name = name || 'n'`)
	w.mustRun()
	w.mustRun()
	w.converged()
	if got := w.count("ed-fi/classPeriods"); got != 2 {
		t.Errorf("got %d class periods, want 2", got)
	}
}

// claim denied on people: children must not be sent.
func TestChildrenOfARefusedPersonAreNotSent(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(3)
	w.refuse("POST", "students", 403, "urn:ed-fi:api:security:authorization:access-denied:action")
	_, calls := w.mustRun()
	if n := tally(calls); n["POST ed-fi/studentSchoolAssociations"] != 0 {
		t.Errorf("calls %v, want no child sent (I6)", n)
	}
}

// chain of self references is deleted in one run, child first.
func TestNestedRecordsAreDeletedInOneRun(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for i := 1; i <= 6; i++ {
		var p any
		if i > 1 {
			p = i - 1
		}
		w.exec(`insert into agency values (?, 'A', ?)`, i, p)
	}
	w.mustRun()
	w.exec(`delete from agency`)
	w.options.Safeguards.ApproveDeletes = []string{"ed-fi/localEducationAgencies"} // an empty table is held otherwise
	for run := 1; run <= 4; run++ {
		s, calls := w.mustRun()
		if want := map[bool]int64{true: 6}[run == 1]; s.Deleted != want || run > 1 && len(calls) > 0 {
			t.Errorf("run %d deleted %d agencies with %d calls, want %d", run, s.Deleted, len(calls), want)
		}
	}
}

// look-up by key against a target that ignores the parameters deletes another record.
func TestLookUpThatFindsAnotherRecordDeletesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(1)
	w.exec(`delete from period`)
	w.mustRun()
	w.exec(`insert into period values (5, 'Lost', 10)`)
	w.front.intercept(func(rw http.ResponseWriter, r *http.Request) bool {
		if r.Method == "POST" && strings.HasSuffix(r.URL.Path, "/classPeriods") {
			panic(http.ErrAbortHandler) // never committed
		}
		return false
	})
	w.mustRun()
	w.front.intercept(nil)
	w.exec(`delete from period`)
	w.exec(`insert into period values (6, 'Foreign', 10)`)
	other := newMemLedger(t)
	own, oc, or := w.ledger, w.conn, w.ring
	w.ledger = other
	w.conn, w.ring, _ = other.Connection(t.Context(), "default", "tiny")
	w.mustRun() // another client creates Foreign
	w.ledger, w.conn, w.ring = own, oc, or
	w.exec(`delete from period`)
	w.front.intercept(func(rw http.ResponseWriter, r *http.Request) bool {
		if r.Method == "GET" && strings.HasSuffix(r.URL.Path, "/classPeriods") {
			r.URL.RawQuery = "limit=2" // unknown parameters are ignored
		}
		return false
	})
	_, calls := w.mustRun()
	w.front.intercept(nil)
	if len(calls) != 0 || w.count("ed-fi/classPeriods") != 1 {
		t.Errorf("calls %v: another client's record was deleted (I5a, I9)", calls)
	}
}

// one look-up the target refuses ends every run.
func TestRefusedLookUpConcernsItsRecordOnly(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(2)
	w.front.intercept(func(rw http.ResponseWriter, r *http.Request) bool {
		if r.Method == "POST" && strings.HasSuffix(r.URL.Path, "/classPeriods") {
			panic(http.ErrAbortHandler)
		}
		return false
	})
	w.mustRun()
	w.exec(`delete from period where id = 1`)
	w.refuse("GET", "classPeriods", 400, "urn:ed-fi:api:bad-request:parameter-validation-failed")
	if _, _, err := w.run(); err != nil {
		t.Errorf("run fails for one record: %v (I17)", err)
	}
}

// commit-unknown Append: results written twice poison the journal.
type flakyAppend struct {
	ledger
	n    *atomic.Int64
	fail int64
}

func (f flakyAppend) Append(ctx context.Context, l syncdb.Lease, step int, in []syncdb.Intent, res []syncdb.Result) error {
	err := f.ledger.Append(ctx, l, step, in, res)
	if err == nil && len(res) > 0 && f.n.Add(1) == f.fail {
		return errors.New("commit: connection reset") // F50: commit-unknown, and it was committed
	}
	return err
}

func TestCommitNobodyConfirmedDoesNotPoisonTheJournal(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	master, _ := keys.ParseMaster("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")
	db, err := syncdb.Open(t.Context(), syncdb.Config{DSN: "sqlite:" + filepath.Join(t.TempDir(), "l.db"), Master: master, Grace: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	w.ledger = db
	if w.conn, w.ring, err = db.Connection(t.Context(), "default", "tiny"); err != nil {
		t.Fatal(err)
	}
	w.fill(200)
	e, closeAll := w.engine()
	defer closeAll()
	e.Ledger = flakyAppend{w.ledger, new(atomic.Int64), 4}
	if _, err := e.Run(t.Context()); err == nil {
		t.Fatal("the run did not notice the failed commit")
	}
	for i := range 2 {
		if _, _, err := w.run(); err != nil {
			t.Errorf("run %d after: %v", i, err)
		}
	}
}

// totals of a step that ends early are lost.
func TestTotalsOfAStoppedStepAreKept(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(300)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var seen atomic.Int64
	w.front.intercept(func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, "/students") && seen.Add(1) == 100 {
			cancel()
		}
		return false
	})
	e, closeAll := w.engine()
	defer closeAll()
	s, _ := e.Run(ctx)
	if s.Created < 60 {
		t.Errorf("about 100 students were created, the summary says %d created of all resources", s.Created)
	}
}

// a row whose new key the target does not take loses its record under the old key.
func TestRefusedRecreateKeepsTheOldRecord(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(3)
	w.mustRun()
	w.exec(`update student set uid = 'S9999' where id = 1`)
	w.refuse("POST", "students", 500, "urn:ed-fi:api:system")
	_, calls := w.mustRun()
	n := 0
	for _, c := range calls {
		if strings.HasPrefix(c, "DELETE") {
			n++
		}
	}
	if n > 0 {
		t.Errorf("%d records deleted although their rows are present and nothing replaced them: %v", n, calls)
	}
}

// a refusal the target's host has mended is never tried again.
func TestRefusalTheHostMendedIsForgotten(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(2)
	w.refuse("POST", "classPeriods", 403, "urn:ed-fi:api:security:authorization:access-denied:action")
	w.mustRun()
	w.front.intercept(nil)
	w.mustRun()
	w.mustRun()
	if got := w.count("ed-fi/classPeriods"); got != 2 {
		t.Errorf("got %d, want 2 once the fault stopped (I1, F35)", got)
	}
}

// our record was deleted and another client made its own under the same key: PUT 404, POST 200 with another id.
func TestRecordReplacedByAnotherClientIsNotOurs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(2)
	w.mustRun()
	w.exec(`update demographic set login = 'x' where id = 1`)
	once := atomic.Bool{}
	w.front.intercept(func(rw http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPut && once.CompareAndSwap(false, true) {
			body, _ := io.ReadAll(r.Body)
			r.Body = io.NopCloser(bytes.NewReader(body))
			del := r.Clone(r.Context())
			del.Method, del.Body, del.ContentLength = http.MethodDelete, http.NoBody, 0
			w.sandbox.Handler().ServeHTTP(httptest.NewRecorder(), del)
			post := r.Clone(r.Context())
			post.Method, post.Body = http.MethodPost, io.NopCloser(bytes.NewReader(body))
			u := *r.URL
			u.Path = u.Path[:strings.LastIndexByte(u.Path, '/')]
			post.URL = &u
			rec := httptest.NewRecorder()
			w.sandbox.Handler().ServeHTTP(rec, post)
			if rec.Code != http.StatusCreated {
				t.Errorf("the other client's POST was answered %d", rec.Code)
			}
		}
		return false
	})
	w.mustRun()
	w.front.intercept(nil)
	w.exec(`delete from demographic where id = 1`)
	if _, calls := w.mustRun(); len(calls) != 0 {
		t.Errorf("calls %v (I9)", calls)
	}
}

// an Append that fails while creates follow PUTs answered 404: the error is lost, the run looks canceled.
func TestLedgerFailureWhileCreatingAgainIsReported(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(150)
	w.mustRun()
	w.exec(`update demographic set login = login || 'x'`)
	w.front.intercept(func(rw http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPut {
			problemJSON(rw, 404, "urn:ed-fi:api:not-found", "The specified resource item could not be found.")
			return true
		}
		return false
	})
	e, closeAll := w.engine()
	defer closeAll()
	e.Ledger = failCreates{w.ledger}
	s, err := e.Run(t.Context())
	if s.State != syncdb.RunFailed {
		t.Errorf("state %s, err %v, want failed with the ledger's error", s.State, err)
	}
}

type failCreates struct{ ledger }

func (f failCreates) Append(ctx context.Context, l syncdb.Lease, step int, in []syncdb.Intent, res []syncdb.Result) error {
	for _, i := range in {
		if i.Verb == syncdb.Create {
			return errors.New("disk full")
		}
	}
	return f.ledger.Append(ctx, l, step, in, res)
}

// the old record's delete overwrites the rejected problem of the row: it is sent again in every run.
func TestProblemOfAnEntryDoesNotReplaceTheRows(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(3)
	w.mustRun()
	w.exec(`update student set uid = 'S9999' where id = 1`)
	w.front.intercept(func(rw http.ResponseWriter, r *http.Request) bool {
		if r.Method == "POST" && strings.HasSuffix(r.URL.Path, "/students") {
			problemJSON(rw, 400, "urn:ed-fi:api:bad-request:data-validation-failed", "x")
			return true
		}
		if r.Method == "DELETE" && strings.Contains(r.URL.Path, "/students/") {
			problemJSON(rw, 409, "urn:ed-fi:api:data-conflict:dependent-item-exists", "x")
			return true
		}
		return false
	})
	w.mustRun()
	w.mustRun()
	if _, calls := w.mustRun(); tally(calls)["POST ed-fi/students"] != 0 {
		t.Errorf("calls %v: a rejected row is sent again and again", calls)
	}
}

// A target that dies in the middle of a run.
func TestTargetThatDiesEndsTheRunSoonAndTheNextOneContinues(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(400)
	var seen atomic.Int64
	w.front.intercept(func(http.ResponseWriter, *http.Request) bool {
		if seen.Add(1) > 100 {
			panic(http.ErrAbortHandler)
		}
		return false
	})
	s, calls, err := w.run()
	if !errors.Is(err, sync.ErrTargetSilent) || s.State != syncdb.RunFailed {
		t.Errorf("got %v and state %q, want a run that says the target is silent", err, s.State)
	}
	if len(calls) > 300 {
		t.Errorf("%d calls were made at a dead target", len(calls))
	}
	if s.Totals.NotSent == 0 || s.Totals.WithRow != s.Totals.Rows {
		t.Errorf("got totals %+v, want the rows nobody reached named", s.Totals)
	}
	w.front.intercept(nil)
	w.mustRun()
	w.converged()
}
