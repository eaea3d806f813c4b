package sync_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	gosync "sync"
	"sync/atomic"
	"testing"

	"github.com/edfisync/edfisync/syncdb"
)

// Defects found in other synchronisers; each test is named after what they do wrong, and fails when we do.

// Peer: the fingerprint is saved when a row is read, so a record that failed is skipped for ever.
func TestPeerFailedRecordIsNeverRetried(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		status int
		typ    string
	}{
		{"the target breaks on it", http.StatusInternalServerError, "urn:ed-fi:api:internal-server-error"},
		{"the host forbids it", http.StatusForbidden, "urn:ed-fi:api:security:authorization:access-denied:action"},
		{"something it needs is missing there", http.StatusConflict, "urn:ed-fi:api:data-conflict:unresolved-reference"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.fill(3)
			w.refuse("POST", "classPeriods", c.status, c.typ)
			s, _ := w.mustRun()
			if s.Failed+s.Held == 0 {
				t.Fatalf("got totals %+v, want two records that did not arrive", s.Totals)
			}
			w.front.intercept(nil) // only the target is mended; source and configuration stay as they are
			if _, calls := w.mustRun(); tally(calls)["POST ed-fi/classPeriods"] != 2 {
				t.Errorf("got calls %v, want both records again", calls)
			}
			w.converged()
		})
	}
}

// Peer: after a failed insert the row counts as sent, and its next change goes out as an update of nothing.
func TestPeerChangeAfterAFailedCreateIsSentAsAnUpdate(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(1)
	w.refuse("POST", "students", http.StatusBadRequest, "urn:ed-fi:api:bad-request:data-validation-failed")
	w.mustRun()
	w.front.intercept(nil)
	w.exec(`update student set last = 'Changed' where id = 1`)
	_, calls := w.mustRun()
	if n := tally(calls); n["POST ed-fi/students"] != 1 || n["PUT ed-fi/students"] != 0 {
		t.Errorf("got calls %v, want the student created", calls)
	}
	w.converged()
}

// Peer: the cursor advances when a batch was read, before it was loaded; a crash in between loses the batch.
func TestPeerCursorAdvancesBeforeTheLoad(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(30)
	e, closeAll := w.engine()
	ctx, cancel := context.WithCancel(t.Context())
	e.Logger = slog.New(onMessage{"planned", cancel}) // everything was read, nothing was sent
	_, err := e.Run(ctx)
	closeAll()
	if calls := w.front.take(); !errors.Is(err, context.Canceled) || len(calls) > 0 {
		t.Fatalf("got %v and %d calls, want a run that ended between scan and load", err, len(calls))
	}
	w.mustRun()
	if got := w.count("ed-fi/students"); got != 30 {
		t.Errorf("got %d students, want 30", got)
	}
	w.converged()
}

// Peer: cancelling a run deletes the state of the rows it had touched, and they are inserted twice or never again.
func TestPeerCancelForgetsRows(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(40)
	w.mustRun()
	w.exec(`update student set last = 'Changed'`)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var puts atomic.Int64
	w.front.intercept(func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPut && puts.Add(1) == 10 {
			cancel()
		}
		return false
	})
	e, closeAll := w.engine()
	defer closeAll()
	if _, err := e.Run(ctx); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v, want a canceled run", err)
	}
	w.front.intercept(nil)
	_, calls := w.mustRun()
	if n := tally(calls); n["POST ed-fi/students"] != 0 || n["PUT ed-fi/students"] == 0 {
		t.Errorf("got calls %v, want only the updates that were left", n)
	}
	w.converged()
	if got := w.count("ed-fi/students"); got != 40 {
		t.Errorf("got %d students, want 40", got)
	}
}

// Peer: whole records go into the log, and a record's failure only there.
func TestPeerStudentDataIsLoggedAndFailuresAreNot(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(6)
	const canary = "CANARY"
	w.exec(`update student set uid = 'CANARY' || id, first = 'CANARYF' || id, last = 'CANARYL' || id`)
	w.exec(`update demographic set login = 'CANARYD' || id`)
	w.exec(`update student set birth = 'CANARYB' where id = 2`)                           // invalid
	w.exec(`insert into student select 7, 'CANARY1', 'CANARYX', 'CANARYY', '2010-01-01'`) // the key of another row
	w.front.intercept(func(rw http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPost || !strings.HasSuffix(r.URL.Path, "/studentEducationOrganizationAssociations") {
			return false
		}
		rw.Header().Set("Content-Type", "application/problem+json") // answers hold values of the record they refuse
		rw.WriteHeader(http.StatusConflict)
		fmt.Fprint(rw, `{"type":"urn:ed-fi:api:conflict:non-unique-identity","title":"Identifying Values Are Not Unique","status":409,`+
			`"detail":"A record of CANARYD exists.","errors":["the duplicate key is (LoginId) = (CANARYD4)"]}`)
		return true
	})
	e, closeAll := w.engine()
	defer closeAll()
	var log bytes.Buffer
	e.Logger = slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	s, err := e.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]string{"log": log.String()}
	summary, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	seen["summary"] = string(summary)
	issues, err := w.ledger.Issues(t.Context(), w.conn.ID, true)
	if err != nil {
		t.Fatal(err)
	}
	var rows int64
	for _, i := range issues {
		seen["issue "+i.Code] = i.Cause + i.Code + i.Owner + i.Resource
		rows += i.Rows
	}
	for where, text := range seen {
		if strings.Contains(text, canary) {
			t.Errorf("%s holds student data: %s", where, text)
		}
	}
	if rows != s.Held+s.Failed || rows == 0 {
		t.Errorf("%d rows are named by issues, and %d did not arrive: every failure must be visible", rows, s.Held+s.Failed)
	}
}

// Peer: inserts and updates only; what is gone from the source stays at the target.
func TestPeerDeletesAreNotSent(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(8)
	w.mustRun()
	for _, table := range []string{"demographic", "enrolment", "student"} {
		w.exec(`delete from ` + table + ` where id = 3`)
	}
	if _, calls := w.mustRun(); len(calls) != 3 {
		t.Errorf("got calls %v, want three deletes", calls)
	}
	if got := w.count("ed-fi/students"); got != 7 {
		t.Errorf("got %d students, want 7", got)
	}
	w.converged()
}

// Peer: two starters, two runs at once over the same records.
func TestPeerRunsOverlap(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(30)
	inside := make(chan struct{})
	var once gosync.Once
	release := make(chan struct{})
	w.front.intercept(func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPost && strings.HasPrefix(r.URL.Path, "/data/") {
			once.Do(func() { close(inside) })
			<-release
		}
		return false
	})
	first, closeFirst := w.engine()
	defer closeFirst()
	second, closeSecond := w.engine()
	defer closeSecond()
	done := make(chan error, 1)
	go func() {
		_, err := first.Run(t.Context())
		done <- err
	}()
	<-inside // the first run holds the lease and has a call out
	_, err := second.Run(t.Context())
	var busy *syncdb.BusyError
	if !errors.As(err, &busy) {
		t.Errorf("the second run got %v, want to be told that the connection is busy (I7)", err)
	}
	close(release)
	if err := <-done; err != nil {
		t.Error(err)
	}
	w.front.intercept(nil)
	if n := tally(w.front.take()); n["POST ed-fi/students"] != 30 {
		t.Errorf("got %d student creates, want 30: each once", n["POST ed-fi/students"])
	}
}

// Peer: a school taken out of the sync leaves its data behind.
func TestPeerExcludedSchoolsDataStays(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(10)
	w.options.Safeguards = lenient()
	w.mustRun()
	// The pack's queries leave school 11 out from now on: its rows are still in the SIS.
	leaveOut := map[string]string{
		"schools.sql": " where id <> 11", "classPeriods.sql": " where school <> 11", "studentSchoolAssociations.sql": " where e.school <> 11",
	}
	for file, clause := range leaveOut {
		w.pack[file].Data = append(bytes.Clone(w.pack[file].Data), clause...)
	}
	_, calls := w.mustRun()
	if n := tally(calls); n["DELETE ed-fi/schools"] != 1 || n["DELETE ed-fi/studentSchoolAssociations"] != 5 {
		t.Errorf("got calls %v, want the school and its five enrolments deleted", n)
	}
	w.converged()
}

// onMessage calls fn at the first log record with a message.
type onMessage struct {
	message string
	fn      func()
}

func (onMessage) Enabled(context.Context, slog.Level) bool { return true }
func (h onMessage) Handle(_ context.Context, r slog.Record) error {
	if r.Message == h.message {
		h.fn()
	}
	return nil
}
func (h onMessage) WithAttrs([]slog.Attr) slog.Handler { return h }
func (h onMessage) WithGroup(string) slog.Handler      { return h }
