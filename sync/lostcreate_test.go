package sync_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/edfisync/edfisync/syncdb"
)

// loseAnswers commits calls at the target and loses every answer to them (F6).
func (w *world) loseAnswers(method, resource string) {
	w.front.intercept(func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method != method || !strings.HasSuffix(r.URL.Path, "/"+resource) {
			return false
		}
		w.sandbox.Handler().ServeHTTP(httptest.NewRecorder(), r)
		panic(http.ErrAbortHandler)
	})
}

// refuseLookUps answers every look-up of a resource by its key with an error.
func (w *world) refuseLookUps(resource string) {
	w.front.intercept(func(rw http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodGet || !strings.HasSuffix(r.URL.Path, "/"+resource) || r.URL.RawQuery == "" {
			return false
		}
		rw.WriteHeader(http.StatusInternalServerError)
		return true
	})
}

// I1, I3: a create was never answered, its row is gone or has another key since, and the target changes the record's key with a parent before
// anybody has looked it up.
func TestLostCreateIsFoundThoughItsParentIsRenamedInTheSameRun(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		edit []string
		want int // offerings in the end
	}{
		"the row is gone":             {[]string{`delete from offering where id = 3`}, 2},
		"the row has another key too": {[]string{`update offering set code = 'ALG-3' where id = 3`}, 3},
		"the row only follows":        {nil, 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newCourses(t, 1)
			w.mustRun()
			w.exec(`insert into offering values (3, 1, 1, 'ALG-2')`)
			w.loseAnswers(http.MethodPost, "courseOfferings")
			w.mustRun()
			w.front.intercept(nil)
			if !slices.ContainsFunc(w.entries("ed-fi/courseOfferings"), func(e syncdb.Entry) bool { return e.EdfiID == "" }) {
				t.Fatal("every entry has an id: the test shows nothing")
			}
			w.exec(`update session set name = 'Autumn' where id = 1`)
			for _, edit := range c.edit {
				w.exec(edit)
			}
			if s, _ := w.mustRun(); s.Totals.Met > 0 {
				t.Errorf("got %d records met, want none: the lost one is ours", s.Totals.Met)
			}
			w.converged()
			w.sameAsFresh()
			if got := w.count("ed-fi/courseOfferings"); got != c.want {
				t.Errorf("got %d course offerings, want %d", got, c.want)
			}
			w.exec(`delete from offering where id = 3`)
			w.mustRun()
			if got := w.count("ed-fi/courseOfferings"); got != 2 {
				t.Errorf("got %d course offerings after the row went, want 2: what we created we delete", got)
			}
		})
	}
}

// While nobody can say whether a lost record is there, no key changes that its own key contains: its natural key is all that is known of it.
func TestKeysStayWhileALostCreateBelowThemCannotBeLookedUp(t *testing.T) {
	t.Parallel()
	w := newCourses(t, 1)
	w.mustRun()
	w.exec(`insert into offering values (3, 1, 1, 'ALG-2')`)
	w.loseAnswers(http.MethodPost, "courseOfferings")
	w.mustRun()
	w.exec(`delete from offering where id = 3`)
	w.exec(`update session set name = 'Autumn' where id = 1`)
	w.exec(`update period set name = 'P1 renamed' where id = 1`)
	w.refuseLookUps("courseOfferings")
	_, calls := w.mustRun()
	if got := tally(calls); got["PUT ed-fi/sessions"] != 0 || got["PUT ed-fi/classPeriods"] != 1 {
		t.Errorf("got calls %v, want the class period renamed and the session not", got)
	}
	if got := w.openIssues()["unsettled-below"]; got != 1 {
		t.Errorf("got %d rows with issue unsettled-below, want 1", got)
	}
	w.front.intercept(nil)
	w.mustRun()
	w.mustRun()
	w.converged()
	w.sameAsFresh()
}

// I20: a target that answers no look-up is not asked for every record.
func TestLookUpsOfLostCreatesEndWhenNoneIsAnswered(t *testing.T) {
	t.Parallel()
	w := newCourses(t, 1)
	w.options.Workers = 4
	w.mustRun()
	for i := range 80 {
		w.exec(`insert into offering values (?, 1, 1, ?)`, 100+i, fmt.Sprintf("X-%d", i))
	}
	every2nd := regexp.MustCompile(`"X-\d*[02468]"`)
	var n atomic.Int64
	w.front.intercept(func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPost || !strings.HasSuffix(r.URL.Path, "/courseOfferings") {
			return false
		}
		body, err := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(body))
		if err != nil || !every2nd.Match(body) { // else the run would end for want of answers
			return false
		}
		w.sandbox.Handler().ServeHTTP(httptest.NewRecorder(), r)
		panic(http.ErrAbortHandler)
	})
	w.mustRun()
	var lost int
	for _, e := range w.entries("ed-fi/courseOfferings") {
		if e.EdfiID == "" {
			lost++
		}
	}
	w.exec(`delete from offering where id >= 100`)
	w.front.intercept(func(rw http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodGet || !strings.HasSuffix(r.URL.Path, "/courseOfferings") || r.URL.RawQuery == "" {
			return false
		}
		n.Add(1)
		rw.WriteHeader(http.StatusInternalServerError)
		return true
	})
	s, _ := w.mustRun()
	if asked, failed := n.Load(), s.Totals.Errors; lost != 40 || asked > 2*(20+8) || failed != int64(lost) {
		t.Errorf("%d records were lost, got %d look-ups and %d failed rows, want 40 of them, at most 56 look-ups, twice each, and every lost record failed", lost, asked, failed)
	}
	w.front.intercept(nil)
	w.mustRun()
	w.converged()
	w.sameAsFresh()
}
