package sync_test

import (
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edfisync/edfisync/internal/keys"
	"github.com/edfisync/edfisync/syncdb"
	"github.com/edfisync/edfisync/syncdb/memdb"
)

// attempts are the calls of a run as the ledger kept them.
func (w *world) attempts(run int64) []syncdb.Attempt {
	w.t.Helper()
	var out []syncdb.Attempt
	if err := w.ledger.AttemptsOfRun(w.t.Context(), w.conn.ID, run, func(a *syncdb.Attempt) error { out = append(out, *a); return nil }); err != nil {
		w.t.Fatal(err)
	}
	return out
}

func TestHistoryKeepsWhatWasSentAndWhatRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.options.History = time.Hour
	w.fill(3)
	w.refuseBodies("students", "S0002", 400, invalidData, "x")
	first, calls := w.mustRun()
	w.front.intercept(nil)
	kept := w.attempts(first.RunID)
	if len(kept) != len(calls) {
		t.Fatalf("kept %d calls of %d", len(kept), len(calls))
	}
	refused := 0
	for _, a := range kept {
		if a.Resource != "ed-fi/students" {
			continue
		}
		if !strings.Contains(string(a.Payload), `"studentUniqueId"`) || !strings.HasPrefix(string(a.Key), `["S000`) || a.Verb != syncdb.Create || a.At.IsZero() {
			t.Errorf("got %+v, want payload and key as sent", a)
		}
		switch a.Status {
		case http.StatusCreated:
			if a.Effect != syncdb.EffectLive || a.EdfiID == "" || len(a.Answer) != 0 {
				t.Errorf("a create that succeeded is kept as %+v", a)
			}
		case http.StatusBadRequest:
			refused++
			if a.Effect != syncdb.EffectNone || !strings.Contains(string(a.Answer), invalidData) {
				t.Errorf("a create that was refused is kept as %+v", a)
			}
		default:
			t.Errorf("got status %d", a.Status)
		}
	}
	if refused != 1 {
		t.Errorf("kept %d refused calls, want 1", refused)
	}

	w.exec(`update student set last = 'Changed' where id = 1`)
	w.exec(`delete from demographic where id = 3`)
	w.exec(`delete from enrolment where id = 3`)
	w.exec(`delete from student where id = 3`)
	second, calls := w.mustRun()
	got := map[string]int{}
	for _, a := range w.attempts(second.RunID) {
		got[map[syncdb.Verb]string{syncdb.Create: "POST", syncdb.Update: "PUT", syncdb.Delete: "DELETE"}[a.Verb]+" "+a.Resource]++
		if a.Verb == syncdb.Delete && (len(a.Payload) != 0 || a.Effect != syncdb.EffectGone || a.EdfiID == "") {
			t.Errorf("a delete is kept as %+v", a)
		}
	}
	if diff := cmp.Diff(tally(calls), got); diff != "" {
		t.Errorf("history (-calls +kept):\n%s", diff)
	}
}

func TestHistoryIsKeptForAsLongAsAskedAndNotWithoutAsking(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(2)
	s, _ := w.mustRun()
	if n := len(w.attempts(s.RunID)); n != 0 {
		t.Errorf("kept %d calls, want none: nobody asked", n)
	}
	w.options.History = time.Hour
	w.exec(`update student set last = 'Changed' where id = 1`)
	s, _ = w.mustRun()
	if n := len(w.attempts(s.RunID)); n != 1 {
		t.Fatalf("kept %d calls, want 1", n)
	}
	w.mustRun()
	if n := len(w.attempts(s.RunID)); n != 1 {
		t.Errorf("a run within the time left %d calls, want 1", n)
	}
	w.options.History = 0
	w.mustRun()
	if n := len(w.attempts(s.RunID)); n != 0 {
		t.Errorf("a run without history left %d calls, want none", n)
	}
}

// F57: a clock that was set forward drops no history before the next run says the same; one that was set back keeps none that is switched off.
func TestHistoryUnderASteppedClock(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	for name, c := range map[string]struct {
		kept    time.Duration
		written time.Duration // when the history was, from now
		left    []int         // calls that are left after each of the next runs
	}{
		"a leap over what is kept":                      {30 * day, -90 * day, []int{1, 0}},
		"a leap that is less than what is kept":         {30 * day, -20 * day, []int{1, 1}},
		"written by a clock ahead of ours":              {30 * day, 90 * day, []int{1, 1}},
		"switched off after it was written":             {0, -90 * day, []int{0}},
		"switched off, written by a clock before us":    {0, 90 * day, []int{0}},
		"nothing unusual: a day, and more than is kept": {day / 2, -day, []int{0}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			var ahead atomic.Int64
			w.ledger = memdb.Open(syncdb.Config{
				Master: keys.GenerateMaster(), Grace: time.Millisecond, Clock: func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) },
			})
			var err error
			if w.conn, w.ring, err = w.ledger.Connection(t.Context(), "default", "tiny"); err != nil {
				t.Fatal(err)
			}
			w.fill(2)
			ahead.Store(int64(c.written))
			if _, _, err := w.ledger.RequestRun(t.Context(), w.conn.ID, "cron"); err != nil {
				t.Fatal(err)
			}
			run, l, err := w.ledger.StartRun(t.Context(), w.conn.ID, "test", time.Minute)
			if err != nil {
				t.Fatal(err)
			}
			call := syncdb.Attempt{Op: 1, Resource: "ed-fi/students", KeyHash: syncdb.Hash{1}, Key: []byte(`["S0001"]`), Verb: syncdb.Create, At: time.Now().Add(c.written), Status: 201, Effect: syncdb.EffectLive}
			if err := errors.Join(w.ledger.SaveAttempts(t.Context(), l, []syncdb.Attempt{call}), w.ledger.FinishRun(t.Context(), l, syncdb.RunDone, nil, "")); err != nil {
				t.Fatal(err)
			}
			ahead.Store(0)
			w.options.History = c.kept
			for i, want := range c.left {
				w.mustRun()
				if got := len(w.attempts(run.ID)); got != want {
					t.Errorf("after run %d the history has %d calls, want %d", i+1, got, want)
				}
			}
		})
	}
}

func TestLongHistoryIsSavedInPieces(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.options.History = time.Hour
	w.exec(`with recursive n(i) as (select 1 union all select i + 1 from n where i < 1100)
		insert into student select i, 'S' || i, 'First', 'Surname', '2010-02-03' from n`)
	s, calls := w.mustRun()
	seen := map[uint64]bool{}
	for _, a := range w.attempts(s.RunID) {
		if a.Resource == "ed-fi/students" && !strings.Contains(string(a.Payload), strings.Trim(string(a.Key), "[]")) {
			t.Fatalf("the payload kept for %s is %s", a.Key, a.Payload)
		}
		seen[a.Op] = true
	}
	if len(seen) != len(calls) {
		t.Errorf("kept %d calls of %d", len(seen), len(calls))
	}
}
