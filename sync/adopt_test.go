package sync_test

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/edfisync/edfisync/edfi"
	"github.com/edfisync/edfisync/sync"
	"github.com/edfisync/edfisync/syncdb"
)

// adopt adopts and fails on an error, or when a write call was made.
func (w *world) adopt(o sync.AdoptOptions) map[string]sync.ResourceAdoption {
	w.t.Helper()
	out, calls, err := w.tryAdopt(o)
	if err != nil {
		w.t.Fatalf("adopt: %v", err)
	}
	if len(calls) > 0 {
		w.t.Errorf("adopt made calls %v, want none: it only reads the target", calls)
	}
	by := map[string]sync.ResourceAdoption{}
	for _, r := range out.Resources {
		by[strings.TrimPrefix(r.Resource, "ed-fi/")] = r
	}
	return by
}

func (w *world) tryAdopt(o sync.AdoptOptions) (*sync.Adoption, []string, error) {
	w.t.Helper()
	e, closeAll := w.engine()
	defer closeAll()
	w.front.take()
	out, err := e.Adopt(w.t.Context(), o)
	return out, w.front.take(), err
}

func TestAfterALostLedgerAdoptAndTheNextRunWritesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(30)
	w.mustRun()
	w.loseLedger()
	got := w.adopt(sync.AdoptOptions{})
	if r := got["students"]; r.Adopted != 30 || r.Rows != 30 || r.Read != 30 || r.ToCreate+r.ToUpdate+r.ToDelete+r.Extra != 0 {
		t.Errorf("got %+v, want 30 students adopted and nothing to do", r)
	}
	s, calls := w.mustRun()
	if len(calls) != 0 || s.Unchanged != s.Totals.Rows || s.Totals.Met != 0 {
		t.Errorf("got calls %v, totals %+v: want no call and every row unchanged", calls, s.Totals)
	}
	// What was adopted is ours: its row's end is the record's end.
	for _, table := range []string{"enrolment", "demographic", "student"} {
		w.exec(`delete from ` + table + ` where id = 4`)
	}
	if _, calls := w.mustRun(); len(calls) != 3 {
		t.Errorf("got calls %v, want three deletes", calls)
	}
	w.converged()
}

func TestAdoptedEntriesAreWhatARunWouldHaveWritten(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(12)
	w.mustRun()
	ring, conn := w.ring, w.conn
	before := map[string][]syncdb.Entry{}
	resources := []string{"ed-fi/students", "ed-fi/studentSchoolAssociations", "ed-fi/studentEducationOrganizationAssociations", "ed-fi/schools", "ed-fi/classPeriods"}
	for _, r := range resources {
		before[r] = w.entries(r)
	}
	w.wipeLedger(resources)
	w.adopt(sync.AdoptOptions{})
	if w.ring != ring || w.conn != conn {
		t.Fatal("the connection changed")
	}
	for _, r := range resources {
		want := before[r]
		for i := range want {
			want[i].Origin, want[i].RunID = syncdb.Adopted, 0
		}
		got := w.entries(r)
		for i := range got {
			got[i].RunID = 0
		}
		if diff := cmp.Diff(got, want); diff != "" {
			t.Errorf("%s (-got +want):\n%s", r, diff)
		}
	}
}

// wipeLedger drops all entries of resources.
func (w *world) wipeLedger(resources []string) {
	w.t.Helper()
	ctx := w.t.Context()
	if _, _, err := w.ledger.RequestRun(ctx, w.conn.ID, "test"); err != nil {
		w.t.Fatal(err)
	}
	_, lease, err := w.ledger.StartRun(ctx, w.conn.ID, "test", w.options.LeaseTTL+1e9)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, r := range resources {
		var keys []syncdb.Hash
		for _, e := range w.entries(r) {
			keys = append(keys, e.KeyHash)
		}
		if err := w.ledger.DropEntries(ctx, lease, r, keys); err != nil {
			w.t.Fatal(err)
		}
	}
	if err := w.ledger.FinishRun(ctx, lease, syncdb.RunDone, nil, ""); err != nil {
		w.t.Fatal(err)
	}
}

func TestRecordsNoRowHasAreAdoptedOnlyWhenAsked(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(6)
	w.mustRun()
	w.other(func(ctx context.Context, c *edfi.Client) {
		if _, err := c.Post(ctx, "ed-fi/classPeriods", []byte(`{"classPeriodName":"Theirs","schoolReference":{"schoolId":10}}`)); err != nil {
			t.Fatal(err)
		}
	})
	w.loseLedger()
	got := w.adopt(sync.AdoptOptions{IDs: 5})["classPeriods"]
	theirs := w.idsBy("ed-fi/classPeriods", "classPeriodName")["Theirs"]
	if got.Extra != 1 || got.Adopted != 2 || cmp.Diff(got.IDs["extra"], []string{theirs}) != "" {
		t.Errorf("got %+v, want one extra record, named by its id", got)
	}
	w.converged()
	if w.count("ed-fi/classPeriods") != 3 {
		t.Error("another client's record is gone (I9)")
	}
	if got := w.adopt(sync.AdoptOptions{Extra: true})["classPeriods"]; got.Adopted != 1 || got.Extra != 0 || got.ToDelete != 1 {
		t.Errorf("got %+v, want the extra record adopted and to be deleted", got)
	}
	if _, calls := w.mustRun(); cmp.Diff(calls, []string{"DELETE ed-fi/classPeriods"}) != "" {
		t.Errorf("got calls %v, want the adopted record deleted: it is ours and no row has it", calls)
	}
	w.converged()
}

func TestExtraRecordsStayWhereAnInvalidRowMayStandForThem(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(3)
	w.mustRun()
	w.exec(`update student set uid = null where id = 1`) // the row is there, and nobody can tell which record is its
	w.loseLedger()
	got := w.adopt(sync.AdoptOptions{Extra: true})["students"]
	if got.Extra != 1 || got.Unclear == "" {
		t.Errorf("got %+v, want the record left alone, with the reason (I5f)", got)
	}
	if _, calls := w.mustRun(); tally(calls)["DELETE ed-fi/students"] != 0 {
		t.Errorf("got calls %v, want no student deleted", calls)
	}
}

func TestRecordOfAnInvalidRowIsAdoptedWithItsKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(3)
	w.mustRun()
	w.exec(`update student set birth = null where id = 1`)
	w.loseLedger()
	if got := w.adopt(sync.AdoptOptions{})["students"]; got.Adopted != 3 || got.Rows != 2 || got.Extra != 0 {
		t.Errorf("got %+v, want all three adopted: invalid is not absent", got)
	}
	if s, calls := w.mustRun(); len(calls) != 0 || s.Totals.Invalid != 1 {
		t.Errorf("got calls %v, totals %+v: want nothing sent and one invalid row", calls, s.Totals)
	}
	w.exec(`update student set birth = '2011-11-11' where id = 1`)
	if _, calls := w.mustRun(); cmp.Diff(calls, []string{"PUT ed-fi/students"}) != "" {
		t.Errorf("got calls %v, want one PUT once the row is right", calls)
	}
}

func TestAdoptEndsTheFearOfRecordsThatWereThereBefore(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(4)
	w.mustRun()
	w.loseLedger()
	if s, _ := w.mustRun(); s.Totals.Met != s.Totals.Rows {
		t.Fatalf("got totals %+v, want every row met", s.Totals)
	}
	if got := w.openCodes(); !cmp.Equal(got["met-existing"], int64(17)) {
		t.Fatalf("got issues %v, want 17 rows met", got)
	}
	w.adopt(sync.AdoptOptions{})
	if got := w.openCodes(); len(got) != 0 {
		t.Errorf("got open issues %v after adopting, want none", got)
	}
	w.exec(`delete from demographic where id = 1`)
	if _, calls := w.mustRun(); len(calls) != 1 {
		t.Errorf("got calls %v, want the delete: the record is ours now", calls)
	}
}

// openCodes counts the rows of open issues by code.
func (w *world) openCodes() map[string]int64 {
	w.t.Helper()
	issues, err := w.ledger.Issues(w.t.Context(), w.conn.ID, true)
	if err != nil {
		w.t.Fatal(err)
	}
	out := map[string]int64{}
	for _, i := range issues {
		out[i.Code] += i.Rows
	}
	return out
}

func TestAdoptKeepsWhatWeCreatedAndTakesOverWhatSomebodyMadeInItsPlace(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(3)
	w.mustRun()
	periods := w.idsBy("ed-fi/classPeriods", "classPeriodName")
	w.other(func(ctx context.Context, c *edfi.Client) { // P1 deleted and made again by somebody else
		if _, err := c.Delete(ctx, "ed-fi/classPeriods", periods["P1"]); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Post(ctx, "ed-fi/classPeriods", []byte(`{"classPeriodName":"P1","schoolReference":{"schoolId":10},"officialAttendancePeriod":true}`)); err != nil {
			t.Fatal(err)
		}
	})
	if got := w.adopt(sync.AdoptOptions{})["classPeriods"]; got.Known != 1 || got.Adopted != 1 || got.ToUpdate != 1 {
		t.Errorf("got %+v, want one known, one adopted and to be updated", got)
	}
	origins := map[syncdb.Origin]int{}
	for _, e := range w.entries("ed-fi/classPeriods") {
		origins[e.Origin]++
	}
	if diff := cmp.Diff(origins, map[syncdb.Origin]int{syncdb.Created: 1, syncdb.Adopted: 1}); diff != "" {
		t.Errorf("origins (-got +want):\n%s", diff)
	}
	if _, calls := w.mustRun(); cmp.Diff(calls, []string{"PUT ed-fi/classPeriods"}) != "" {
		t.Errorf("got calls %v, want one PUT", calls)
	}
	w.converged()
}

func TestAdoptAfterAWipeLetsTheNextRunCreateEverything(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(10)
	w.mustRun()
	w.wipe()
	if got := w.adopt(sync.AdoptOptions{})["students"]; got.Gone != 10 || got.ToCreate != 10 || got.ToDelete != 0 {
		t.Errorf("got %+v, want 10 entries gone and 10 records to create", got)
	}
	s, calls := w.mustRun()
	if s.Created != s.Totals.Rows || tally(calls)["POST ed-fi/students"] != 10 {
		t.Errorf("got totals %+v, want every row created", s.Totals)
	}
	w.converged()
}

func TestPlannedAdoptionWritesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(5)
	w.mustRun()
	w.loseLedger()
	if got := w.adopt(sync.AdoptOptions{Plan: true})["students"]; got.Adopted != 5 {
		t.Errorf("got %+v, want 5 counted", got)
	}
	if got := w.entries("ed-fi/students"); len(got) != 0 {
		t.Errorf("got %d entries, want none", len(got))
	}
	if runs, err := w.ledger.Runs(t.Context(), w.conn.ID, 10); err != nil || len(runs) != 0 {
		t.Errorf("got runs %v, %v; want none", runs, err)
	}
}

func TestTwoRecordsUnderOneFoldedKeyAndUnreadableOnesAreIssues(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(2)
	w.mustRun()
	w.other(func(ctx context.Context, c *edfi.Client) {
		body := []byte(`{"studentUniqueId":"s0001","firstName":"Other","lastSurname":"Spelling","birthDate":"2010-01-01"}`)
		if _, err := c.Post(ctx, "ed-fi/students", body); err != nil {
			t.Fatal(err)
		}
	})
	w.loseLedger()
	w.foldKeys = true // wrong for this target, which tells the spellings apart
	w.addToPages("/classPeriods", `{"id":"00000000000000000000000000000bad","classPeriodName":"no school"}`)
	got := w.adopt(sync.AdoptOptions{IDs: 3})
	if got["students"].Duplicate != 1 || got["students"].Adopted != 2 || len(got["students"].IDs["duplicate"]) != 1 {
		t.Errorf("got %+v, want one duplicate left alone", got["students"])
	}
	if got["classPeriods"].Unread != 1 || got["classPeriods"].Adopted != 2 {
		t.Errorf("got %+v, want one unreadable record left alone", got["classPeriods"])
	}
	if got := w.openCodes(); got["duplicate-at-target"] != 1 || got["unreadable-at-target"] != 1 {
		t.Errorf("got issues %v, want one of each", got)
	}
	if s, _ := w.mustRun(); s.State != syncdb.RunDone {
		t.Errorf("got %v", s.State)
	}
	if got := w.openCodes(); got["duplicate-at-target"] != 1 {
		t.Errorf("got issues %v: a run does not see the records and must not close the issue", got)
	}
	w.front.intercept(nil)
	w.adopt(sync.AdoptOptions{})
	if got := w.openCodes(); got["unreadable-at-target"] != 0 || got["duplicate-at-target"] != 1 {
		t.Errorf("got issues %v, want the mended one closed", got)
	}
}

// addToPages puts a record into the first page of a collection.
func (w *world) addToPages(collection, record string) {
	w.front.intercept(func(rw http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodGet || !strings.HasSuffix(r.URL.Path, collection) || r.URL.Query().Get("offset") != "" || r.URL.Query().Get("pageToken") != "" {
			return false
		}
		rec := httptest.NewRecorder()
		w.sandbox.Handler().ServeHTTP(rec, r)
		var items []json.RawMessage
		if json.Unmarshal(rec.Body.Bytes(), &items) != nil {
			return false
		}
		for name, values := range rec.Header() {
			if name != "Content-Length" {
				rw.Header()[name] = values
			}
		}
		text, err := json.Marshal(append(items, json.RawMessage(record)))
		if err != nil {
			return false
		}
		rw.WriteHeader(rec.Code)
		_, _ = rw.Write(text)
		return true
	})
}

func TestResourceThatMayNotBeReadIsNamedAndTheOthersAreAdopted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(3)
	w.mustRun()
	w.front.intercept(func(rw http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodGet || !strings.HasSuffix(r.URL.Path, "/students") {
			return false
		}
		rw.Header().Set("Content-Type", "application/json")
		rw.WriteHeader(http.StatusForbidden)
		_, _ = rw.Write([]byte(`{"detail":"no","type":"urn:ed-fi:api:security:authorization:access-denied:resource","title":"Authorization Denied","status":403}`))
		return true
	})
	w.loseLedger()
	got := w.adopt(sync.AdoptOptions{})
	if got["students"].Failed == "" || got["students"].Adopted != 0 || got["schools"].Adopted != 2 {
		t.Errorf("got %+v and %+v, want students named as unread and schools adopted", got["students"], got["schools"])
	}
}

func TestBrokenScanAdoptsNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(3)
	w.mustRun()
	w.loseLedger()
	w.pack["schools.sql"].Data = bytes.Replace([]byte(sisPack["schools.sql"]), []byte("from school"),
		[]byte("from school where abs(id - 11 - 9223372036854775807) >= 0"), 1)
	if _, _, err := w.tryAdopt(sync.AdoptOptions{}); err == nil {
		t.Error("a scan that broke off was taken for complete (I5c)")
	}
	if got := w.entries("ed-fi/localEducationAgencies"); len(got) != 0 {
		t.Errorf("got %d entries, want none", len(got))
	}
}

func TestAdoptClearsTheTargetsAlarm(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(3)
	w.mustRun()
	w.raiseAlarm()
	w.adopt(sync.AdoptOptions{})
	if got := w.alarm(); got != "" {
		t.Errorf("got alarm %q after adopting, want none", got)
	}
}

// I1, F29: what could not be read may be gone, so the alarm stands until it was.
func TestAlarmStandsWhileAResourceWithEntriesCouldNotBeRead(t *testing.T) {
	t.Parallel()
	for name, heal := range map[string]func(w *world){
		"adopt":        func(w *world) { w.adopt(sync.AdoptOptions{}) },
		"run --resync": func(w *world) { w.resync() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.fill(20)
			w.options.Safeguards = lenient()
			w.mustRun()
			w.wipe()
			first, _ := w.mustRun()
			if first.Alarm == "" {
				t.Fatal("got no alarm after a wipe")
			}
			w.refuseReads("classPeriods")
			for range 2 {
				heal(w)
			}
			want := first.Alarm + "; it stands because these could not be read since: ed-fi/classPeriods"
			if got := w.alarm(); got != want {
				t.Errorf("got alarm %q, want %q", got, want)
			}
			w.front.intercept(nil)
			if s, calls := w.mustRun(); len(calls) != 0 || s.Alarm != want {
				t.Errorf("got calls %v, alarm %q: want nothing sent and %q", tally(calls), s.Alarm, want)
			}
			heal(w)
			if got := w.alarm(); got != "" {
				t.Errorf("got alarm %q after everything was read, want none", got)
			}
			w.mustRun()
			w.converged()
			if got := w.count("ed-fi/classPeriods"); got != 2 {
				t.Errorf("got %d class periods, want 2", got)
			}
		})
	}
}

func TestAlarmEndsThoughAResourceOutOfScopeCouldNotBeRead(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(3)
	w.mustRun()
	delete(w.pack, "classPeriods.sql")
	w.raiseAlarm()
	w.refuseReads("classPeriods")
	if s, _ := w.resync(); s.Resynced.Left["ed-fi/classPeriods"] == "" {
		t.Fatal("the class periods were read: the test shows nothing")
	}
	if got := w.alarm(); got != "" {
		t.Errorf("got alarm %q, want none: no run writes what could not be read", got)
	}
}

// refuseReads makes the target refuse to let a resource be read.
func (w *world) refuseReads(resource string) {
	w.front.intercept(func(rw http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodGet || !strings.Contains(r.URL.Path, "/"+resource) {
			return false
		}
		rw.Header().Set("Content-Type", "application/problem+json")
		rw.WriteHeader(http.StatusForbidden)
		_, _ = rw.Write([]byte(`{"detail":"no","type":"urn:ed-fi:api:security:authorization:access-denied:action","title":"Access Denied","status":403}`))
		return true
	})
}

func (w *world) alarm() string {
	w.t.Helper()
	state, err := w.ledger.Target(w.t.Context(), w.conn.ID)
	if err != nil {
		w.t.Fatal(err)
	}
	return state.Alarm
}

func (w *world) raiseAlarm() {
	w.t.Helper()
	w.setTarget(syncdb.TargetState{Alarm: "most records are gone", AlarmRun: 1})
}

// setTarget writes what the ledger remembers of the target.
func (w *world) setTarget(state syncdb.TargetState) {
	w.t.Helper()
	ctx := w.t.Context()
	if _, _, err := w.ledger.RequestRun(ctx, w.conn.ID, "test"); err != nil {
		w.t.Fatal(err)
	}
	_, lease, err := w.ledger.StartRun(ctx, w.conn.ID, "test", 1e9)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := w.ledger.SetTarget(ctx, lease, state); err != nil {
		w.t.Fatal(err)
	}
	if err := w.ledger.FinishRun(ctx, lease, syncdb.RunDone, nil, ""); err != nil {
		w.t.Fatal(err)
	}
}
