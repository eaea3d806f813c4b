package sync_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edfisync/edfisync/schema"
	"github.com/edfisync/edfisync/source"
	"github.com/edfisync/edfisync/sync"
	"github.com/edfisync/edfisync/syncdb"
)

// F41: somebody changes the tables under a mapping pack. A query that no longer fits is named before anything is sent; values of another type
// make their rows invalid, which is not absent.
func TestF41SourceSchemaChanges(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		edit  []string
		names []string // what the error must name; nil = the run goes on and holds rows
	}{
		{"a column is renamed", []string{`alter table student rename column first to given`}, []string{"students.sql", "first"}},
		{"a column is dropped", []string{`alter table student drop column birth`}, []string{"students.sql", "birth"}},
		{"a table is gone", []string{`drop table period`}, []string{"classPeriods.sql", "period"}},
		{"dates come as text of another form", []string{`update student set birth = '03/02/2010'`}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.fill(30)
			w.mustRun()
			for _, statement := range c.edit {
				w.exec(statement)
			}
			if c.names == nil {
				s, calls := w.mustRun()
				if len(calls) > 0 || s.Totals.Invalid != 30 {
					t.Errorf("got calls %v and totals %+v, want thirty invalid rows and no call (I5f)", calls, s.Totals)
				}
				return
			}
			err := w.bindError()
			if err == nil {
				t.Fatal("the pack still binds")
			}
			for _, want := range c.names {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%v does not name %s", err, want)
				}
			}
		})
	}
}

// bindError binds the pack to the source as a run begins with, and returns what is wrong.
func (w *world) bindError() error {
	w.t.Helper()
	pack, err := source.LoadPack(w.pack, source.SQLite)
	if err != nil {
		w.t.Fatal(err)
	}
	db, err := source.Open(w.t.Context(), source.Config{Driver: source.SQLite, DSN: w.sisPath})
	if err != nil {
		w.t.Fatal(err)
	}
	defer db.Close()
	_, err = db.Bind(w.t.Context(), nil, pack, w.model, schema.Rules{Version: 1}, nil)
	return err
}

// F43: values no mapping expects. Each such row is held with a reason, or arrives unchanged when it is legal; all others arrive (I17), and what
// the row had produced stays (I5f).
func TestF43PoisonRows(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		set   string
		arg   any
		legal bool
	}{
		{"a NUL in a name", `last = ?`, "Sur\x00name", false},
		{"bytes that are not UTF-8", `last = cast(? as text)`, []byte{'S', 0xff, 0xfe}, false},
		{"a name of 10 MB", `last = ?`, strings.Repeat("x", 10<<20), false},
		{"not a number for a date", `birth = ?`, "NaN", false},
		{"the year 0000", `birth = ?`, "0000-01-01", false},
		{"no last name", `last = ?`, nil, false},
		{"a name of emoji and combining letters", `last = ?`, "Zoe\u0308 👩‍👩‍👧", true},
		{"a name with quotes and a backslash", `last = ?`, "O'Neil \"Bud\" \\", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.fill(5)
			w.mustRun()
			w.exec(`update student set `+c.set+` where id = 2`, c.arg)
			w.exec(`update student set last = 'Changed' where id = 3`)
			s, calls := w.mustRun()
			want, invalid := map[string]int{"PUT ed-fi/students": 1}, int64(1)
			if c.legal {
				want, invalid = map[string]int{"PUT ed-fi/students": 2}, 0
			}
			if diff := cmp.Diff(tally(calls), want); diff != "" || s.Totals.Invalid != invalid {
				t.Errorf("got totals %+v, calls (-got +want):\n%s", s.Totals, diff)
			}
			w.converged()
			if got := w.count("ed-fi/students"); got != 5 {
				t.Errorf("got %d students, want 5", got)
			}
		})
	}
}

// F43: two spellings of one character are one value: no write, and no second record.
func TestF43CompositionOfCharactersChangesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(2)
	w.exec(`update student set last = ? where id = 1`, "Zo\u00eb")
	w.exec(`update period set name = ? where id = 1`, "Caf\u00e9")
	w.mustRun()
	w.exec(`update student set last = ? where id = 1`, "Zoe\u0308")
	w.exec(`update period set name = ? where id = 1`, "Cafe\u0301")
	w.converged()
	if got := w.count("ed-fi/classPeriods"); got != 2 {
		t.Errorf("got %d class periods, want 2", got)
	}
}

// F48: a row changes back and forth, a change each sync, while every third answer is lost. The target follows each time answers come, and is
// right in the end (mechanism 2 of the ways to lose data: PUT(B) committed, answer lost, source back to A).
func TestF48RowFlipsEverySync(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(3)
	w.mustRun()
	var n atomic.Int64
	for i := range 9 {
		lose := i%3 == 1
		w.front.intercept(func(_ http.ResponseWriter, r *http.Request) bool {
			if lose && r.Method != http.MethodGet && strings.HasPrefix(r.URL.Path, "/data/") {
				n.Add(1)
				w.commitAndDrop(r)
			}
			return false
		})
		w.exec(`update student set last = ? where id = 1`, string(rune('A'+i%2)))
		if _, _, err := w.run(); err != nil && !lose {
			t.Fatal(err)
		}
	}
	if n.Load() == 0 {
		t.Fatal("no answer was lost")
	}
	w.front.intercept(nil)
	w.mustRun()
	w.converged()
	if got := strings.Join(w.records("ed-fi/students"), "\n"); !strings.Contains(got, `"lastSurname":"A"`) {
		t.Errorf("the target does not have the last value: %s", got)
	}
}

// F68: the SIS begins a new school year in the rows of the old one. Last year's records are never turned into this year's by a change of
// their keys: they stay, held, and this year's are new.
func TestF68YearRollover(t *testing.T) {
	t.Parallel()
	w := newCourses(t, 40)
	w.options.Safeguards = sync.Safeguards{} // the usual safeguards
	w.mustRun()
	before := w.records("ed-fi/studentSectionAssociations")
	year := strings.NewReplacer("2026", "2027", "2025-", "2026-")
	for _, file := range []string{"sessions.sql", "gradingPeriods.sql", "courseOfferings.sql", "sections.sql", "studentSectionAssociations.sql", "grades.sql"} {
		w.pack[file].Data = []byte(year.Replace(string(w.pack[file].Data)))
	}
	w.exec(`update seat set begins = '2026-08-18'`)
	s, calls, err := w.run()
	if err != nil {
		t.Fatal(err)
	}
	n := tally(calls)
	for call, times := range n {
		if strings.HasPrefix(call, "PUT ") || strings.HasPrefix(call, "DELETE ") {
			t.Errorf("%d × %s: last year's records were touched; held back: %v", times, call, s.HeldBack)
		}
	}
	after := strings.Join(w.records("ed-fi/studentSectionAssociations"), "\n")
	for _, record := range before {
		if !strings.Contains(after, record) {
			t.Fatalf("a seat of last year is gone: %d before, calls %v", len(before), n)
		}
	}
	if len(s.HeldBack) == 0 {
		t.Error("nothing was held back for a person to look at")
	}
}

// F62: configuration and mapping are edited while a run is on its way: the run goes on with what it began with, the next one takes the new.
func TestF62ConfigurationIsEditedDuringARun(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(20)
	edited := make(chan struct{})
	var first atomic.Bool
	w.front.intercept(func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPost && strings.HasPrefix(r.URL.Path, "/data/") && first.CompareAndSwap(false, true) {
			w.pack["students.sql"].Data = []byte(strings.Replace(sisPack["students.sql"], `last as`, `upper(last) as`, 1))
			close(edited)
		}
		return false
	})
	s, _ := w.mustRun()
	<-edited
	if got := strings.Join(w.records("ed-fi/students"), "\n"); strings.Contains(got, "SURNAME") || s.Created == 0 {
		t.Errorf("the run took half of the new mapping: %s", got)
	}
	w.front.intercept(nil)
	if _, calls := w.mustRun(); tally(calls)["PUT ed-fi/students"] != 20 {
		t.Errorf("got calls %v, want all students changed by the new mapping", calls)
	}
	w.converged()
}

// F61: a cancel at any point leaves a state the next run continues from: the n-th request of a first load and of an edit run, for all n.
func TestF61CancelAtAnyPoint(t *testing.T) {
	t.Parallel()
	for n := 1; n <= 40; n += 3 {
		t.Run(fmt.Sprintf("at request %d", n), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.fill(6)
			cancelAt := func(n int64) bool {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				var seen atomic.Int64
				w.front.intercept(func(http.ResponseWriter, *http.Request) bool {
					if seen.Add(1) == n {
						cancel()
					}
					return false
				})
				e, closeAll := w.engine()
				defer closeAll()
				seen.Store(0) // from here on: connecting is not part of the run
				_, err := e.Run(ctx)
				w.front.intercept(nil)
				return err != nil
			}
			canceled := cancelAt(int64(n))
			w.exec(`update student set last = 'Changed' where id < 4`)
			w.exec(`update period set name = 'P1 renamed' where id = 1`)
			w.exec(`delete from demographic where id = 2`)
			canceled = cancelAt(int64(n/2+1)) || canceled
			if !canceled && n < 20 {
				t.Error("no run was canceled")
			}
			w.mustRun()
			w.converged()
			w.sameAsFresh()
		})
	}
}

// F58: a process sleeps for longer than its lease, another one takes over and finishes; when the first wakes up it sends nothing more.
func TestF58PausedProcessIsFencedOut(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(40)
	w.options.LeaseTTL, w.options.CallTimeout, w.options.RenewEvery = 2*time.Second, 200*time.Millisecond, 500*time.Millisecond
	asleep, wake := make(chan struct{}), make(chan struct{})
	var posts atomic.Int64
	w.front.intercept(func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, "/students") && posts.Add(1) == 1 {
			close(asleep)
			<-wake
		}
		return false
	})
	first, closeFirst := w.engine()
	defer closeFirst()
	first.Options.Workers, first.Options.Holder = 1, "sleeper"
	sleeping := &sleeper{Ledger: w.ledger}
	first.Ledger = sleeping
	done := make(chan error, 1)
	go func() {
		_, err := first.Run(t.Context())
		done <- err
	}()
	<-asleep
	sleeping.paused.Store(true) // no renewal reaches the ledger any more, as from a stopped process
	expire, ok := w.ledger.(interface {
		ExpireLease(ctx context.Context, connID int64, holder string) error
	})
	if !ok {
		t.Fatal("the ledger cannot end a lease")
	}
	if err := expire.ExpireLease(t.Context(), w.conn.ID, "sleeper"); err != nil {
		t.Fatal(err)
	}
	time.Sleep(first.Options.LeaseTTL)
	if _, _, err := w.run(); err != nil {
		t.Fatalf("the second process: %v", err)
	}
	w.front.take()
	sleeping.paused.Store(false)
	close(wake)
	if err := <-done; err == nil {
		t.Error("the first process did not notice that it was fenced out")
	}
	if calls := w.front.take(); len(calls) > 0 {
		t.Errorf("the first process sent %v after it had been fenced out (I7)", calls)
	}
	w.front.intercept(nil)
	w.converged()
	w.sameAsFresh()
}

// sleeper is a ledger whose renewals are lost while its process is paused.
type sleeper struct {
	sync.Ledger
	paused atomic.Bool
}

func (s *sleeper) Renew(ctx context.Context, l syncdb.Lease) (syncdb.Lease, bool, error) {
	if s.paused.Load() {
		return l, false, errors.New("paused")
	}
	return s.Ledger.Renew(ctx, l)
}
