package sync_test

import (
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

// resync is a run with Resync.
func (w *world) resync() (*sync.Summary, []string) {
	w.t.Helper()
	w.options.Resync = true
	defer func() { w.options.Resync = false }()
	return w.mustRun()
}

func TestResyncRepairsWhatOtherClientsDid(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		do     func(ctx context.Context, c *edfi.Client, ids map[string]string) error // ids of class periods by name
		want   []string                                                               // write calls of the run
		origin syncdb.Origin                                                          // of P1
	}{
		{
			"an edit is put back",
			func(ctx context.Context, c *edfi.Client, ids map[string]string) error {
				_, err := c.Put(ctx, "ed-fi/classPeriods", ids["P1"],
					[]byte(`{"classPeriodName":"P1","schoolReference":{"schoolId":10},"officialAttendancePeriod":true}`))
				return err
			},
			[]string{"PUT ed-fi/classPeriods"}, syncdb.Created,
		},
		{
			"a deleted record is created again",
			func(ctx context.Context, c *edfi.Client, ids map[string]string) error {
				_, err := c.Delete(ctx, "ed-fi/classPeriods", ids["P1"])
				return err
			},
			[]string{"POST ed-fi/classPeriods"}, syncdb.Created,
		},
		{
			"a record made in the place of ours is kept, and not ours",
			func(ctx context.Context, c *edfi.Client, ids map[string]string) error {
				if _, err := c.Delete(ctx, "ed-fi/classPeriods", ids["P1"]); err != nil {
					return err
				}
				_, err := c.Post(ctx, "ed-fi/classPeriods", []byte(`{"classPeriodName":"P1","schoolReference":{"schoolId":10}}`))
				return err
			},
			nil, syncdb.Met,
		},
		{
			"a changed natural key is put back",
			func(ctx context.Context, c *edfi.Client, ids map[string]string) error {
				_, err := c.Put(ctx, "ed-fi/classPeriods", ids["P1"], []byte(`{"classPeriodName":"Renamed","schoolReference":{"schoolId":10}}`))
				return err
			},
			[]string{"PUT ed-fi/classPeriods"}, syncdb.Created,
		},
		{
			"another client's record stays",
			func(ctx context.Context, c *edfi.Client, _ map[string]string) error {
				_, err := c.Post(ctx, "ed-fi/classPeriods", []byte(`{"classPeriodName":"Theirs","schoolReference":{"schoolId":10}}`))
				return err
			},
			nil, syncdb.Created,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.fill(2)
			w.mustRun()
			ids := w.idsBy("ed-fi/classPeriods", "classPeriodName")
			w.other(func(ctx context.Context, c *edfi.Client) {
				if err := tt.do(ctx, c, ids); err != nil {
					t.Fatal(err)
				}
			})
			w.converged() // a run does not look, and must not notice by accident
			_, calls := w.resync()
			if diff := cmp.Diff(calls, tt.want); diff != "" {
				t.Errorf("calls (-got +want):\n%s", diff)
			}
			if s, calls := w.resync(); len(calls) != 0 || s.Resynced.Corrected != 0 {
				t.Errorf("a second resync made calls %v and corrected %+v, want nothing left to do", calls, s.Resynced)
			}
			now := w.idsBy("ed-fi/classPeriods", "classPeriodName")
			for _, e := range w.entries("ed-fi/classPeriods") {
				if e.EdfiID == now["P1"] && e.Origin != tt.origin {
					t.Errorf("got origin %d of P1, want %d (I9)", e.Origin, tt.origin)
				}
			}
			if _, ok := now["P1"]; !ok {
				t.Errorf("P1 is not at the target: %v", now)
			}
		})
	}
}

func TestResyncHealsAWipedTarget(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(40)
	w.mustRun()
	w.wipe()
	s, calls := w.resync()
	if s.Created != s.Totals.Rows || len(calls) != int(s.Totals.Rows) || s.Resynced.Missing != s.Totals.Rows {
		t.Errorf("got %+v, totals %+v with %d calls: want every row created by one call", s.Resynced, s.Totals, len(calls))
	}
	w.converged()
	for _, e := range w.entries("ed-fi/students") {
		if e.Origin != syncdb.Created || e.State != syncdb.Live {
			t.Fatalf("got origin %d, state %d; want our own live record", e.Origin, e.State)
		}
	}
}

func TestResyncHealsATargetRestoredToYesterday(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(20)
	w.mustRun()
	ids := w.idsBy("ed-fi/studentEducationOrganizationAssociations", "loginId")
	// Today: one edited, one new, one gone. Then the target is as it was.
	w.exec(`update demographic set login = 'today' where id = 1`)
	w.exec(`delete from demographic where id = 2`)
	w.exec(`insert into student values (100, 'S0100', 'New', 'Pupil', '2011-01-01')`)
	w.exec(`insert into enrolment values (100, 100, 10, '2025-08-18', '10')`)
	w.mustRun()
	w.other(func(ctx context.Context, c *edfi.Client) {
		const resource = "ed-fi/studentEducationOrganizationAssociations"
		body, _, err := c.Get(ctx, resource, ids["login1"])
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Put(ctx, resource, ids["login1"], []byte(strings.Replace(string(body), "today", "login1", 1))); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Post(ctx, resource, []byte(`{"studentReference":{"studentUniqueId":"S0002"},"educationOrganizationReference":{"educationOrganizationId":1},"loginId":"login2"}`)); err != nil {
			t.Fatal(err)
		}
	})
	for resource, property := range map[string]string{"ed-fi/studentSchoolAssociations": "entryGradeLevelDescriptor", "ed-fi/students": "studentUniqueId"} {
		for value, id := range w.idsBy(resource, property) {
			if strings.Contains(value, "Tenth") || value == "S0100" {
				defer w.other(func(context.Context, *edfi.Client) {})
				w.other(func(ctx context.Context, c *edfi.Client) { _, _ = c.Delete(ctx, resource, id) })
			}
		}
	}
	w.resync()
	w.converged()
	logins := w.idsBy("ed-fi/studentEducationOrganizationAssociations", "loginId")
	if _, ok := logins["today"]; !ok {
		t.Error("the edit of today was not put back")
	}
	if _, ok := w.idsBy("ed-fi/students", "studentUniqueId")["S0100"]; !ok {
		t.Error("the student of today was not created again")
	}
	// The one that came back is not in the ledger, because it was deleted rightly: extra, until somebody adopts it.
	if got := w.adopt(sync.AdoptOptions{Extra: true})["studentEducationOrganizationAssociations"]; got.Adopted != 1 || got.ToDelete != 1 {
		t.Errorf("got %+v, want the record that came back taken over", got)
	}
	if _, calls := w.mustRun(); cmp.Diff(calls, []string{"DELETE ed-fi/studentEducationOrganizationAssociations"}) != "" {
		t.Errorf("got calls %v, want its delete", calls)
	}
}

func TestResyncBelievesNoPageThatHidesARecord(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(5)
	w.mustRun()
	w.front.intercept(func(rw http.ResponseWriter, r *http.Request) bool { // what a delete by somebody else does to pages counted by offset
		if r.Method != http.MethodGet || !strings.HasSuffix(r.URL.Path, "/students") {
			return false
		}
		rec := httptest.NewRecorder()
		w.sandbox.Handler().ServeHTTP(rec, r)
		var items []json.RawMessage
		if json.Unmarshal(rec.Body.Bytes(), &items) != nil || len(items) == 0 {
			return false
		}
		rw.Header().Set("Content-Type", "application/json")
		text, err := json.Marshal(items[1:])
		if err != nil {
			return false
		}
		_, _ = rw.Write(text)
		return true
	})
	s, calls := w.resync()
	if len(calls) != 0 || s.Resynced.Missing != 0 {
		t.Errorf("got calls %v, %+v: want the record that no page had found by its id", calls, s.Resynced)
	}
}

func TestResyncThatCannotReadTheTargetChangesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(5)
	w.mustRun()
	before := w.entries("ed-fi/students")
	w.wipe()
	w.front.intercept(func(rw http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/students") {
			rw.WriteHeader(http.StatusInternalServerError)
			return true
		}
		return false
	})
	w.options.Resync = true
	if _, calls, err := w.run(); err == nil || len(calls) != 0 {
		t.Errorf("got error %v and calls %v, want the run to end before anything is sent", err, calls)
	}
	if diff := cmp.Diff(w.entries("ed-fi/students"), before); diff != "" {
		t.Errorf("entries changed (-got +want):\n%s", diff)
	}
	w.front.intercept(nil)
	w.resync()
	w.converged()
}

func TestResyncHoldsDeletesAsAnyRunDoes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(60)
	w.mustRun()
	w.exec(`delete from demographic`)
	if s, calls := w.resync(); len(calls) != 0 || s.Totals.Kept != 60 {
		t.Errorf("got calls %v, totals %+v: want all deletes held (I5e)", calls, s.Totals)
	}
}

func TestResyncClearsTheTargetsAlarm(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(3)
	w.mustRun()
	w.raiseAlarm()
	w.resync()
	if got := w.alarm(); got != "" {
		t.Errorf("got alarm %q after a resync, want none", got)
	}
}

func TestRecordsTheTargetDoesNotShowStayAsTheyAre(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(4)
	w.mustRun()
	before := w.entries("ed-fi/students")
	hidden := w.idsBy("ed-fi/students", "studentUniqueId")["S0002"]
	w.hide("/students", hidden)
	if _, by := w.verify(sync.VerifyOptions{}); by["students"].Hidden != 1 || by["students"].Missing != 0 {
		t.Errorf("got %+v, want one hidden and none missing", by["students"])
	}
	if s, calls := w.resync(); len(calls) != 0 || s.Resynced.Corrected != 0 {
		t.Errorf("got calls %v, %+v: want nothing corrected", calls, s.Resynced)
	}
	if got := w.adopt(sync.AdoptOptions{})["students"]; got.Hidden != 1 || got.Gone != 0 {
		t.Errorf("got %+v, want one hidden and none gone", got)
	}
	if diff := cmp.Diff(w.entries("ed-fi/students"), before); diff != "" {
		t.Errorf("entries changed (-got +want):\n%s", diff)
	}
}

// hide makes the target keep a record to itself, as it does with people nobody is related to.
func (w *world) hide(collection, id string) {
	w.front.intercept(func(rw http.ResponseWriter, r *http.Request) bool {
		switch {
		case r.Method != http.MethodGet:
			return false
		case strings.HasSuffix(r.URL.Path, collection+"/"+id):
			rw.Header().Set("Content-Type", "application/json")
			rw.WriteHeader(http.StatusForbidden)
			_, _ = rw.Write([]byte(`{"detail":"Access to the requested data could not be authorized.","type":"urn:ed-fi:api:security:authorization","title":"Authorization Denied","status":403}`))
			return true
		case !strings.HasSuffix(r.URL.Path, collection):
			return false
		}
		rec := httptest.NewRecorder()
		w.sandbox.Handler().ServeHTTP(rec, r)
		var items, shown []json.RawMessage
		if json.Unmarshal(rec.Body.Bytes(), &items) != nil {
			return false
		}
		for _, item := range items {
			if !strings.Contains(string(item), id) {
				shown = append(shown, item)
			}
		}
		rw.Header().Set("Content-Type", "application/json")
		text, err := json.Marshal(append([]json.RawMessage{}, shown...))
		if err != nil {
			return false
		}
		_, _ = rw.Write(text)
		return true
	})
}

func TestATargetWipedBehindOurBackIsHealedByAdoptOrByResync(t *testing.T) {
	t.Parallel()
	for name, heal := range map[string]func(w *world) (*sync.Summary, []string){
		"adopt, then a run": func(w *world) (*sync.Summary, []string) {
			w.adopt(sync.AdoptOptions{})
			return w.mustRun()
		},
		"one run with resync": func(w *world) (*sync.Summary, []string) { return w.resync() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.fill(30)
			w.mustRun()
			w.wipe()
			w.exec(`update demographic set login = 'new' where id = 1`)
			s, calls := w.mustRun()
			if len(calls) != 0 || s.Totals.Kept == 0 || w.alarm() == "" {
				t.Fatalf("got calls %v, totals %+v, alarm %q: want nothing sent and an alarm (F29)", calls, s.Totals, w.alarm())
			}
			var r sync.Receipt
			if err := json.Unmarshal(w.receipt(s.RunID), &r); err != nil || r.Statement.Alarm == "" {
				t.Errorf("got receipt %+v, %v: want the alarm in it", r.Statement, err)
			}
			if s, _ := heal(w); s.Created != s.Totals.Rows {
				t.Errorf("got totals %+v, want every row created", s.Totals)
			}
			if got := w.alarm(); got != "" {
				t.Errorf("got alarm %q, want none", got)
			}
			w.converged()
		})
	}
}

// I4: what we create we delete, though a record that was there before us had its key.
func TestRecordWeCreateInPlaceOfAMetOneIsOurs(t *testing.T) {
	t.Parallel()
	for name, again := range map[string]func(w *world) (*sync.Summary, []string){
		"resync tells that the met one is gone": func(w *world) (*sync.Summary, []string) { return w.resync() },
		"its PUT tells that it is gone": func(w *world) (*sync.Summary, []string) {
			w.exec(`update student set first = 'Anew' where id = 2`)
			return w.mustRun()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.fill(1)
			w.options.Safeguards = lenient()
			w.mustRun()
			w.other(func(ctx context.Context, c *edfi.Client) {
				body := `{"studentUniqueId":"S0002","firstName":"Theirs","lastSurname":"Record","birthDate":"2010-01-01"}`
				if _, err := c.Post(ctx, "ed-fi/students", []byte(body)); err != nil {
					t.Fatal(err)
				}
			})
			w.exec(`insert into student values (2, 'S0002', 'Ours', 'Record', '2010-01-01')`)
			w.mustRun()
			origin := func() syncdb.Origin {
				for _, e := range w.entries("ed-fi/students") {
					if strings.Contains(string(e.Key), "S0002") {
						return e.Origin
					}
				}
				return 0
			}
			if got := origin(); got != syncdb.Met {
				t.Fatalf("got origin %d, want met: the test shows nothing", got)
			}
			id := w.idsBy("ed-fi/students", "studentUniqueId")["S0002"]
			w.other(func(ctx context.Context, c *edfi.Client) {
				if _, err := c.Delete(ctx, "ed-fi/students", id); err != nil {
					t.Fatal(err)
				}
			})
			if _, calls := again(w); tally(calls)["POST ed-fi/students"] != 1 || origin() != syncdb.Created {
				t.Errorf("got calls %v, origin %d: want one POST, and the record ours", calls, origin())
			}
			if got := w.openIssues()["met-existing"]; got != 0 {
				t.Errorf("got %d rows with issue met-existing though the record is ours, want none", got)
			}
			w.exec(`delete from student where id = 2`)
			w.mustRun()
			w.converged()
			if got := w.count("ed-fi/students"); got != 1 {
				t.Errorf("got %d students, want 1: what we created we delete", got)
			}
		})
	}
}

// What we had deleted after the target's backup is there again, and in no entry: anybody's, for all the ledger knows.
func TestResyncAfterARestoreLeavesWhatWeHadDeletedAndAdoptTakesItBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(10)
	w.mustRun()
	w.sandbox.Snapshot("backup")
	w.exec(`delete from demographic where id in (7, 8)`)
	w.mustRun()
	w.exec(`insert into demographic select 7, student, agency, login || 'x' from demographic where id = 6`)
	w.exec(`update demographic set student = 7 where id = 7`)
	if err := w.sandbox.Restore("backup"); err != nil {
		t.Fatal(err)
	}
	s, _ := w.resync()
	if s.Resynced.Extra != 2 || w.count(demographics) != 10 {
		t.Fatalf("got %+v and %d records, want the two of before left alone", s.Resynced, w.count(demographics))
	}
	if got := w.adopt(sync.AdoptOptions{Extra: true})["studentEducationOrganizationAssociations"]; got.ToDelete != 1 {
		t.Errorf("adopt --extra: got %+v, want one to delete", got)
	}
	if _, calls := w.mustRun(); len(calls) != 1 || w.count(demographics) != 9 {
		t.Errorf("got calls %v and %d records, want the one without a row deleted", calls, w.count(demographics))
	}
	w.converged()
}
