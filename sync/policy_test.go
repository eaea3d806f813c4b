package sync_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/edfisync/edfisync/sync"
	"github.com/edfisync/edfisync/syncdb"
)

const invalidData = "urn:ed-fi:api:bad-request:data-validation-failed"

// refuseBodies makes the target refuse the posts to a collection whose body holds a text.
func (w *world) refuseBodies(collection, text string, status int, typ, detail string) {
	w.front.intercept(func(rw http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPost || !strings.HasSuffix(r.URL.Path, "/"+collection) {
			return false
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			w.t.Error(err)
		}
		r.Body = io.NopCloser(strings.NewReader(string(body)))
		if !strings.Contains(string(body), text) {
			return false
		}
		problemJSON(rw, status, typ, detail)
		return true
	})
}

// Each class of refusal has its own reason to be sent again.
func TestRefusedRecordsAreSentAgainForTheRightReasons(t *testing.T) {
	t.Parallel()
	const again = "POST ed-fi/studentSchoolAssociations"
	for _, c := range []struct {
		name   string
		status int
		typ    string
		change func(w *world, config *string)
		want   map[string]int
	}{
		{"refused content waits while nothing changes", 400, invalidData, func(*world, *string) {}, map[string]int{}},
		{"refused content is sent again when its row changes", 400, invalidData, func(w *world, _ *string) {
			w.exec(`update enrolment set grade = '10' where id = 1`)
		}, map[string]int{again: 1}},
		{"refused content is sent again when a record it refers to is written", 400, invalidData, func(w *world, _ *string) {
			w.exec(`update student set last = 'Changed' where id = 1`)
		}, map[string]int{again: 1, "PUT ed-fi/students": 1}},
		{"refused content does not care about other records", 400, invalidData, func(w *world, _ *string) {
			w.exec(`update student set last = 'Changed' where id = 2`)
		}, map[string]int{"PUT ed-fi/students": 1}},
		{"refused content is sent again when configuration or mapping change", 400, invalidData, func(_ *world, config *string) {
			*config = "version 2"
		}, map[string]int{again: 1}},
		{"a second row's doing waits too", 409, "urn:ed-fi:api:data-conflict:non-unique-identity", func(*world, *string) {}, map[string]int{}},
		{"what the host has to mend is sent in every run", 403, "urn:ed-fi:api:security:authorization:access-denied:action", func(*world, *string) {}, map[string]int{again: 1}},
		{"what waits for another record is sent in every run", 409, "urn:ed-fi:api:data-conflict:unresolved-reference", func(*world, *string) {}, map[string]int{again: 1}},
		{"what had no usable answer is sent in every run", 500, "urn:ed-fi:api:internal-server-error", func(*world, *string) {}, map[string]int{again: 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.fill(2)
			config := "version 1"
			w.config = &config
			w.refuseBodies("studentSchoolAssociations", "S0001", c.status, c.typ, "x")
			if s, _ := w.mustRun(); s.Failed+s.Totals.Blocked == 0 {
				t.Fatalf("got totals %+v, want a record that did not arrive", s.Totals)
			}
			w.front.intercept(nil)
			c.change(w, &config)
			s, calls := w.mustRun()
			got := tally(calls)
			delete(got, "PUT ed-fi/studentEducationOrganizationAssociations")
			delete(got, "POST ed-fi/studentEducationOrganizationAssociations")
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("calls (-want +got):\n%s", diff)
			}
			if waits := c.want[again] == 0; waits != (s.Totals.Rejected == 1) {
				t.Errorf("got totals %+v, want the record rejected: %t", s.Totals, waits)
			}
		})
	}
}

// A record is sent again in the run after one that wrote what it refers to and ended before its turn.
func TestRefusedRecordIsSentAgainWhenItsParentWasWrittenInARunThatEndedEarly(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(1)
	w.refuseBodies("studentSchoolAssociations", "S0001", 400, invalidData, "x")
	w.mustRun()
	w.exec(`update school set name = 'Changed' where id = 11`)
	ctx, cancel := context.WithCancel(t.Context())
	w.front.intercept(func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPut {
			cancel() // the call in flight is still answered, and its result kept
		}
		return false
	})
	e, closeAll := w.engine()
	_, err := e.Run(ctx)
	closeAll()
	if err == nil {
		t.Fatal("the run was to end early")
	}
	w.front.intercept(nil)
	if _, calls := w.mustRun(); tally(calls)["POST ed-fi/studentSchoolAssociations"] != 1 {
		t.Errorf("got calls %v, want the enrolment again", calls)
	}
	w.converged()
}

// Blocked rows say in clear, by hash, which record stands in their way.
func TestBlockedRowsCarryWhatBlocksThem(t *testing.T) {
	t.Parallel()
	const missing = "urn:ed-fi:api:data-conflict:unresolved-reference"
	type blockedBy struct{ Entity, Path string }
	for _, c := range []struct {
		name     string
		prepare  func(w *world)
		resource string
		want     blockedBy
	}{
		{"a parent that breaks a rule", func(w *world) { w.exec(`update student set birth = null where id = 1`) }, "ed-fi/students", blockedBy{"Student", "studentReference"}},
		{"a parent the target refused", func(w *world) {
			w.refuseBodies("students", "S0001", 400, invalidData, "x")
		}, "ed-fi/students", blockedBy{"Student", "studentReference"}},
		{"an answer that names the entity", func(w *world) {
			w.refuseBodies("studentSchoolAssociations", "S0001", 409, missing, "The referenced 'School' item does not exist.")
		}, "ed-fi/schools", blockedBy{"School", "schoolReference"}},
		{"an answer of an older target", func(w *world) {
			w.refuseBodies("studentSchoolAssociations", "S0001", 409, "", "The value supplied for the related 'student' resource does not exist.")
		}, "ed-fi/students", blockedBy{"Student", "studentReference"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.fill(2)
			c.prepare(w)
			w.mustRun()
			blocked, err := w.ledger.Problems(t.Context(), w.conn.ID, syncdb.ProblemFilter{Resource: "ed-fi/studentSchoolAssociations", Outcome: "blocked"})
			if err != nil || len(blocked) != 1 {
				t.Fatalf("got %d blocked enrolments and %v, want 1", len(blocked), err)
			}
			p := blocked[0]
			var got blockedBy
			if err := json.Unmarshal(p.BlockedBy, &got); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got); diff != "" || p.BlockedResource != c.resource || p.BlockedKey.IsZero() {
				t.Errorf("waits for %s %x (-want +got):\n%s", p.BlockedResource, p.BlockedKey, diff)
			}
			problems, err := w.ledger.Problems(t.Context(), w.conn.ID, syncdb.ProblemFilter{Resource: p.BlockedResource})
			if err != nil {
				t.Fatal(err)
			}
			for _, parent := range problems {
				if parent.KeyHash != p.BlockedKey {
					t.Errorf("the problem of %s has key %x, want what the row waits for", p.BlockedResource, parent.KeyHash)
				}
			}
		})
	}
}

// An unknown parent of an abstract kind is looked for where its row is.
func TestRowBlockedByAnOrganizationOfAnyKindNamesItsResource(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(1)
	w.exec(`insert into school values (12, null, 1)`)
	w.exec(`update demographic set agency = 12`)
	w.mustRun()
	blocked, err := w.ledger.Problems(t.Context(), w.conn.ID, syncdb.ProblemFilter{Outcome: "blocked"})
	if err != nil || len(blocked) == 0 {
		t.Fatalf("got %d blocked rows and %v, want some", len(blocked), err)
	}
	for _, p := range blocked {
		if p.BlockedResource != "ed-fi/schools" {
			t.Errorf("%s waits for %q, want the school whose row breaks a rule", p.Resource, p.BlockedResource)
		}
	}
}

func TestRefusedRecordIsSentAgainOnceWhenAskedFor(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(2)
	w.refuseBodies("studentSchoolAssociations", "S0001", 400, invalidData, "x")
	w.mustRun()
	ask := func(want int) {
		t.Helper()
		if n, err := w.ledger.RetryProblems(t.Context(), w.conn.ID, syncdb.ProblemFilter{Resource: "ed-fi/studentSchoolAssociations"}); err != nil || n != want {
			t.Errorf("RetryProblems = %d, %v, want %d", n, err, want)
		}
	}
	ask(1)
	if _, calls := w.mustRun(); tally(calls)["POST ed-fi/studentSchoolAssociations"] != 1 {
		t.Errorf("got calls %v, want the record again", calls)
	}
	if _, calls := w.mustRun(); tally(calls)["POST ed-fi/studentSchoolAssociations"] != 0 {
		t.Errorf("got calls %v, want none: it was refused again, and nobody asked", calls)
	}
	w.front.intercept(nil)
	ask(1)
	w.mustRun()
	ask(0)
	w.converged()
}

// The links of the engine's own problems lead from every row to the one at the root.
func TestCausesOfARunAreRanked(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(5)
	w.exec(`update student set birth = null where id = 1`)
	w.exec(`update enrolment set grade = 'X' where id in (2, 3)`)
	w.mustRun()
	causes, err := sync.RankCauses(t.Context(), w.ledger, w.conn.ID)
	if err != nil || len(causes) == 0 {
		t.Fatalf("RankCauses = %v, %v", causes, err)
	}
	// Each pupil's demographics wait for the enrolment at the target's side, or for the pupil on ours.
	if first := causes[0]; first.Own+first.Frees < 2 || first.Hint == "" {
		t.Errorf("got %+v first, want a cause that frees other rows, with what to do", first)
	}
	var sum, rows int64
	for _, c := range causes {
		sum, rows = sum+c.Own+c.Frees, rows+c.Rows
	}
	if sum != rows {
		t.Errorf("causes stand for %d rows of %d", sum, rows)
	}

	// Each run keeps the ranking, however it ends, and one that changes no row leaves it.
	kept := func(when string, run int64) {
		t.Helper()
		got, err := w.ledger.RankingOf(t.Context(), w.conn.ID)
		if want := (syncdb.Ranking{Run: run, Current: true}); err != nil || got != want {
			t.Errorf("%s the ranking is %+v, %v; want %+v", when, got, err, want)
		}
		live, err := sync.RankCauses(t.Context(), w.ledger, w.conn.ID)
		if err != nil {
			t.Fatal(err)
		}
		open, err := sync.OpenCauses(t.Context(), w.ledger, w.conn.ID, 1)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(live, open); d != "" {
			t.Errorf("%s what is kept is not what the rows say (-rows +kept):\n%s", when, d)
		}
	}
	kept("after the first run", 1)
	w.mustRun()
	kept("after a run without changes", 1)
	w.exec(`update enrolment set grade = 'X' where id = 4`)
	w.mustRun()
	kept("after a run that met more", 3)
	w.exec(`update student set birth = '2010-01-01' where id = 1`)
	w.front.intercept(func(rw http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPost || r.Method == http.MethodPut {
			rw.WriteHeader(http.StatusUnauthorized)
			return true
		}
		return false
	})
	if _, _, err := w.run(); err == nil {
		t.Fatal("a run without access did not fail")
	}
	kept("after a run that failed", 4)
}
