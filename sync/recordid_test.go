package sync_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/edfisync/edfisync/sync"
	"github.com/edfisync/edfisync/syncdb"
)

func TestAnIDOfARecordIsReadAsItIsWritten(t *testing.T) {
	t.Parallel()
	for _, id := range []sync.RecordID{
		{Resource: "ed-fi/students", Key: syncdb.Hash{1, 0xab}}, {Resource: "ed-fi/students", Row: syncdb.Hash{2}}, {Resource: "tpdm/x", Key: syncdb.Hash{1}, Row: syncdb.Hash{2}},
	} {
		if got, err := sync.ParseRecordID(id.Resource, id.String()); err != nil || got != id {
			t.Errorf("%s: got %+v, %v, want %+v", id, got, err, id)
		}
	}
	good := strings.Repeat("1", 32)
	for _, text := range []string{
		"", "k", "r", good, "k" + good[:31], "k" + good + "1", "x" + good, "k" + strings.Repeat("A", 32), "k" + strings.Repeat("0", 32), "r" + good + "k" + good, "k" + good + "k" + good, "k" + good + "r", "kr",
	} {
		var unknown *sync.UnknownRecordError
		if got, err := sync.ParseRecordID("ed-fi/students", text); !errors.As(err, &unknown) || got != (sync.RecordID{}) {
			t.Errorf("%q: got %+v, %v", text, got, err)
		}
	}
}

// What the ledger remembers is what a trace shows of it, also when source and target are away.
func TestTheLedgerRemembersARecord(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.options.History = time.Hour
	w.fill(3)
	w.exec(`update enrolment set grade = 'nonsense' where id = 3`)
	w.refuseBodies("students", "S0002", 400, invalidData, "S0002 is not good")
	w.mustRun()
	w.front.intercept(nil)
	problems, err := w.ledger.Problems(t.Context(), w.conn.ID, syncdb.ProblemFilter{})
	if err != nil || len(problems) < 3 {
		t.Fatalf("%d problems, %v", len(problems), err)
	}
	e, closeAll := w.engine()
	defer closeAll()
	recall := func(id sync.RecordID, data bool) (*sync.Trace, sync.RecordName) {
		t.Helper()
		got, name, err := sync.Recall(t.Context(), w.ledger, w.conn.ID, id, sync.TraceOptions{Data: data})
		if err != nil {
			t.Fatal(err)
		}
		return got, name
	}
	for i := range problems {
		id := sync.IDOf(&problems[i])
		got, name := recall(id, false)
		if len(got.Problems) != 1 || got.Problems[0].Code != problems[i].Code || got.Problems[0].Hint == "" {
			t.Errorf("%s %s: problems %+v", id.Resource, problems[i].Code, got.Problems)
		}
		if text, _ := json.Marshal(got); strings.Contains(string(text), "S000") {
			t.Errorf("without data: %s", text)
		}
		trace, err := e.Trace(t.Context(), w.ledger, name, sync.TraceOptions{})
		if err != nil || len(trace.Rows) != 1 || len(trace.Problems) != 1 || trace.Problems[0].Code != problems[i].Code || len(trace.Attempts) != len(got.Attempts) {
			t.Errorf("%s %s: a trace by the same name shows %+v, %v", id.Resource, problems[i].Code, trace, err)
		}
		if problems[i].Outcome == "rejected" {
			with, _ := recall(id, true)
			if len(with.Attempts) != 1 || !strings.Contains(string(with.Attempts[0].Payload), "S0002") || !strings.Contains(with.Attempts[0].Answer, "not good") {
				t.Errorf("calls with data: %+v", with.Attempts)
			}
		}
	}
	// A record that arrived is found by its natural key and by its row's.
	for _, name := range []sync.RecordName{student("S0001"), {Resource: "students", SourceKey: "1"}} {
		id, err := e.Find(t.Context(), name)
		if err != nil || id.Resource != "ed-fi/students" || id.Key.IsZero() {
			t.Fatalf("find: %+v, %v", id, err)
		}
		got, again := recall(id, true)
		if len(got.Entries) != 1 || got.Entries[0].State != "live" || string(got.NaturalKey) != `["S0001"]` || len(got.Attempts) != 1 {
			t.Errorf("%+v", got)
		}
		if trace, err := e.Trace(t.Context(), w.ledger, again, sync.TraceOptions{}); err != nil || trace.Target == nil || !trace.Target.Found {
			t.Errorf("a trace by the name that was recalled: %+v, %v", trace, err)
		}
	}
	var unknown *sync.UnknownRecordError
	if _, err := e.Find(t.Context(), sync.RecordName{Resource: "students", SourceKey: "999"}); !errors.As(err, &unknown) {
		t.Errorf("a row there is not: %v", err)
	}
	if _, _, err := sync.Recall(t.Context(), w.ledger, w.conn.ID, sync.RecordID{Resource: "ed-fi/students", Key: syncdb.Hash{9}}, sync.TraceOptions{}); !errors.As(err, &unknown) {
		t.Errorf("a record there is not: %v", err)
	}
}
