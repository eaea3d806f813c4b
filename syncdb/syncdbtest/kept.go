package syncdbtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/edfisync/edfisync/syncdb"
)

func name2(kind string, id int64) string { return fmt.Sprintf("%s %d", kind, id) }

func retries(t *testing.T, w *world) {
	ctx := t.Context()
	l := w.start()
	problem := func(resource, row, outcome, code string) syncdb.Problem {
		return syncdb.Problem{
			Resource: resource, SourceHash: hash(row), Outcome: outcome, Code: code, Cause: code, Owner: "target host", KeyHash: hash(row + " key"),
			RecordHash: hash(row + " record"), SourceKey: row,
		}
	}
	a, b := problem(students, "a", syncdb.OutcomeRejected, "data-policy"), problem(students, "b", syncdb.OutcomeRejected, "no-access")
	invalid := problem(students, "c", "invalid", "required-missing")
	const enrolments = "ed-fi/studentSchoolAssociations"
	blocked := with2(problem(enrolments, "d", "blocked", "parent"), func(p *syncdb.Problem) {
		p.BlockedResource, p.BlockedKey, p.BlockedBy = students, hash("c key"), []byte(`{"resource":"ed-fi/students"}`)
	})
	elsewhere := problem(enrolments, "e", syncdb.OutcomeRejected, "data-policy")
	all := []syncdb.Problem{a, b, invalid, blocked, elsewhere}
	must(t, w.SaveProblems(ctx, l, all))
	must(t, w.SaveProblems(ctx, l, all))

	w.restart()
	ps, err := w.Problems(ctx, w.conn, syncdb.ProblemFilter{Outcome: "blocked"})
	must(t, err)
	diff(t, "blocked problem", ps, []syncdb.Problem{blocked})
	is, err := w.Issues(ctx, w.conn, true)
	must(t, err)
	issue := func(p syncdb.Problem) int64 {
		for _, i := range is {
			if i.Code == p.Code && i.Resource == p.Resource {
				return i.ID
			}
		}
		t.Fatalf("no issue %s", p.Code)
		return 0
	}
	links := func() (out []syncdb.ProblemLink) {
		t.Helper()
		must(t, w.ProblemLinks(ctx, w.conn, func(l syncdb.ProblemLink) error {
			out = append(out, l)
			return nil
		}))
		return out
	}
	link := func(p syncdb.Problem) syncdb.ProblemLink {
		return syncdb.ProblemLink{
			Resource: p.Resource, KeyHash: p.KeyHash, SourceHash: p.SourceHash, IssueID: issue(p), Outcome: p.Outcome,
			BlockedResource: p.BlockedResource, BlockedKey: p.BlockedKey,
		}
	}
	var want []syncdb.ProblemLink
	for _, p := range all {
		want = append(want, link(p))
	}
	slices.SortFunc(want, func(a, b syncdb.ProblemLink) int {
		if a.Resource != b.Resource {
			return bytes.Compare([]byte(a.Resource), []byte(b.Resource))
		}
		return bytes.Compare(a.SourceHash[:], b.SourceHash[:])
	})
	diff(t, "links", links(), want)
	stop := errors.New("enough")
	wantErr(t, "links, when fn fails", w.ProblemLinks(ctx, w.conn, func(syncdb.ProblemLink) error { return stop }), stop)
	moved := with2(blocked, func(p *syncdb.Problem) { p.BlockedKey = hash("a key") }) // what blocks it is all that changed
	must(t, w.SaveProblems(ctx, l, []syncdb.Problem{moved}))
	ps, err = w.Problems(ctx, w.conn, syncdb.ProblemFilter{Outcome: "blocked"})
	must(t, err)
	diff(t, "problem blocked by another record", ps, []syncdb.Problem{moved})

	rejected := func(resource string) map[syncdb.Hash]syncdb.Hash {
		t.Helper()
		m, err := w.Rejected(ctx, w.conn, resource)
		must(t, err)
		return m
	}
	retry := func(f syncdb.ProblemFilter, want int) {
		t.Helper()
		n, err := w.RetryProblems(ctx, w.conn, f)
		must(t, err)
		if n != want {
			t.Errorf("%+v: %d rows are sent again, want %d", f, n, want)
		}
	}
	retry(syncdb.ProblemFilter{Resource: "no/such"}, 0)
	retry(syncdb.ProblemFilter{Outcome: "invalid"}, 0)
	diff(t, "rejected", rejected(students), map[syncdb.Hash]syncdb.Hash{a.SourceHash: a.RecordHash, b.SourceHash: b.RecordHash})
	retry(syncdb.ProblemFilter{IssueID: issue(a)}, 1)
	diff(t, "rejected after a retry of one issue", rejected(students), map[syncdb.Hash]syncdb.Hash{b.SourceHash: b.RecordHash})
	must(t, w.SaveProblems(ctx, l, []syncdb.Problem{a})) // it was sent, and refused as before
	diff(t, "rejected again", rejected(students), map[syncdb.Hash]syncdb.Hash{a.SourceHash: a.RecordHash, b.SourceHash: b.RecordHash})
	retry(syncdb.ProblemFilter{Resource: students, Limit: 1}, 1)
	if n := len(rejected(students)); n != 1 {
		t.Errorf("%d rows are still rejected after a retry of one, want 1", n)
	}
	retry(syncdb.ProblemFilter{}, 3)
	diff(t, "rejected after a retry of all", rejected(students), map[syncdb.Hash]syncdb.Hash{})
	diff(t, "rejected elsewhere", rejected(enrolments), map[syncdb.Hash]syncdb.Hash{})
	if n := len(links()); n != len(all) {
		t.Errorf("%d problems are open after the retry, want %d: only the next run knows", n, len(all))
	}
}

func putting(t *testing.T, w *world) {
	ctx := t.Context()
	l := w.start()
	w.do(l, 1, create(1, live("a")), create(2, live("b")))
	adopted := func(key string) syncdb.Entry {
		return with(live(key), func(e *syncdb.Entry) { e.Origin, e.SourceHash = syncdb.Adopted, syncdb.Hash{} })
	}
	bare := with(adopted("c"), func(e *syncdb.Entry) { e.Key, e.PersonHash, e.Resource, e.RunID = nil, syncdb.Hash{}, "ignored", 99 })
	must(t, w.PutEntries(ctx, l, students, []syncdb.Entry{adopted("d"), live("c"), adopted("a"), bare}))
	w.restart()
	bare.Resource = students
	w.want(students, adopted("a"), live("b"), bare, adopted("d"))
	for _, e := range w.all(students) {
		if e.RunID != l.RunID {
			t.Errorf("an entry names run %d, want %d", e.RunID, l.RunID)
		}
	}
	must(t, w.PutEntries(ctx, l, students, nil))
	must(t, w.PutEntries(ctx, l, students, []syncdb.Entry{unknown(adopted("d"))}))
	w.want(students, adopted("a"), live("b"), bare, unknown(adopted("d")))

	must(t, w.DropEntries(ctx, l, students, []syncdb.Hash{hash("a"), hash("nobody"), hash("a"), hash("c")}))
	must(t, w.DropEntries(ctx, l, students, []syncdb.Hash{hash("a")}))
	must(t, w.DropEntries(ctx, l, "no/such", []syncdb.Hash{hash("a")}))
	w.want(students, live("b"), unknown(adopted("d")))

	const n = manyEntries
	many := make([]syncdb.Entry, n)
	keys := make([]syncdb.Hash, n)
	for i := range many {
		many[i] = with(live(name("many", i)), func(e *syncdb.Entry) { e.Resource = "ed-fi/staffs" })
		keys[i] = many[i].KeyHash
	}
	must(t, w.PutEntries(ctx, l, "ed-fi/staffs", many[:n/2]))
	must(t, w.PutEntries(ctx, l, "ed-fi/staffs", many))
	if got, err := w.Count(ctx, w.conn, "ed-fi/staffs"); err != nil || got != n {
		t.Errorf("count %d, %v, want %d", got, err, n)
	}
	var last syncdb.Hash
	got := map[syncdb.Hash]syncdb.Hash{}
	must(t, w.SortedHashes(ctx, w.conn, "ed-fi/staffs", func(key, record syncdb.Hash, state syncdb.State) error {
		if bytes.Compare(last[:], key[:]) >= 0 || state != syncdb.Live {
			t.Fatalf("after key %x came %x, state %d", last, key, state)
		}
		last, got[key] = key, record
		return nil
	}))
	want := map[syncdb.Hash]syncdb.Hash{}
	for i := range many {
		want[many[i].KeyHash] = many[i].RecordHash
	}
	diff(t, "sorted hashes", got, want)
	var states []syncdb.State
	must(t, w.SortedHashes(ctx, w.conn, students, func(_, record syncdb.Hash, state syncdb.State) error {
		if record.IsZero() != (state == syncdb.Unknown) {
			t.Errorf("record hash %x in state %d", record, state)
		}
		states = append(states, state)
		return nil
	}))
	if len(states) != 2 {
		t.Errorf("got states %v, want two", states)
	}
	stop := errors.New("enough")
	wantErr(t, "sorted hashes, when fn fails", w.SortedHashes(ctx, w.conn, students, func(_, _ syncdb.Hash, _ syncdb.State) error { return stop }), stop)
	must(t, w.SortedHashes(ctx, w.conn, "no/such", func(_, _ syncdb.Hash, _ syncdb.State) error { return stop }))
	must(t, w.DropEntries(ctx, l, "ed-fi/staffs", keys[1:]))
	w.want("ed-fi/staffs", many[0])

	for name, e := range map[string]syncdb.Entry{
		"without a key":                with(live("x"), func(e *syncdb.Entry) { e.KeyHash = syncdb.Hash{} }),
		"without a state":              with(live("x"), func(e *syncdb.Entry) { e.State = 0 }),
		"in a state that is not one":   with(live("x"), func(e *syncdb.Entry) { e.State = 4 }),
		"without an origin":            with(live("x"), func(e *syncdb.Entry) { e.Origin = 0 }),
		"live without an id":           with(live("x"), func(e *syncdb.Entry) { e.EdfiID = "" }),
		"live without a record hash":   with(live("x"), func(e *syncdb.Entry) { e.RecordHash = syncdb.Hash{} }),
		"of an origin that is not one": with(live("x"), func(e *syncdb.Entry) { e.Origin = 4 }),
	} {
		if err := w.PutEntries(ctx, l, students, []syncdb.Entry{live("y"), e}); err == nil {
			t.Errorf("an entry %s was put", name)
		}
	}
	if w.PutEntries(ctx, l, "", nil) == nil || w.DropEntries(ctx, l, "", nil) == nil {
		t.Error("entries of no resource were put or dropped")
	}
	w.want(students, live("b"), unknown(adopted("d")))

	// Not past calls that are open or not folded: folding them would undo it (I3).
	w.journal(l, 1, create(3, live("f")), lost(create(4, live("g"))))
	wantErr(t, "put while a call is open", w.PutEntries(ctx, l, students, []syncdb.Entry{adopted("g")}), syncdb.ErrUnsettled)
	wantErr(t, "drop while a call is open", w.DropEntries(ctx, l, students, []syncdb.Hash{hash("b")}), syncdb.ErrUnsettled)
	must(t, w.Append(ctx, l, 1, nil, []syncdb.Result{create(4, live("g")).Result}))
	wantErr(t, "put while results are not folded", w.PutEntries(ctx, l, students, []syncdb.Entry{adopted("g")}), syncdb.ErrUnsettled)
	w.want(students, live("b"), unknown(adopted("d")))
	w.fold(l, 1, 2)
	must(t, w.PutEntries(ctx, l, students, []syncdb.Entry{adopted("g")}))
	w.want(students, live("b"), unknown(adopted("d")), live("f"), adopted("g"))
}

// attempt is a create of a student answered 201.
func attempt(op uint64, key string, at time.Time) syncdb.Attempt {
	return syncdb.Attempt{
		Op: op, Resource: students, Verb: syncdb.Create, KeyHash: hash(key), SourceHash: hash(key + " source"), RecordHash: hash(key + " record"),
		EdfiID: key + "-id", At: at, Status: 201, Effect: syncdb.EffectLive, Key: []byte(`["` + key + `"]`), Payload: []byte(`{"studentUniqueId":"` + key + `"}`),
	}
}

func (w *world) attempts(key string) []syncdb.Attempt {
	w.t.Helper()
	var out []syncdb.Attempt
	must(w.t, w.Attempts(w.t.Context(), w.conn, students, hash(key), func(a *syncdb.Attempt) error {
		out = append(out, *a)
		return nil
	}))
	return out
}

func keptHistory(t *testing.T, w *world) {
	ctx := t.Context()
	began := w.clock.Now()
	l1 := w.start()
	must(t, w.SaveAttempts(ctx, l1, nil))
	first := attempt(1, "a", began.Add(time.Second))
	refused := syncdb.Attempt{
		Op: 2, Resource: students, Verb: syncdb.Update, KeyHash: hash("a"), RecordHash: hash("new"), EdfiID: "a-id", At: began.Add(3 * time.Second),
		Status: 400, Payload: []byte(`{"birthDate":"x"}`), Answer: []byte(`{"detail":"no"}`),
	}
	school := attempt(3, "a", began.Add(2*time.Second))
	school.Resource = "ed-fi/schools"
	lostCall := syncdb.Attempt{Op: 4, Resource: students, Verb: syncdb.Delete, KeyHash: hash("b"), EdfiID: "b-id", At: began, Effect: syncdb.EffectUnknown}
	must(t, w.SaveAttempts(ctx, l1, []syncdb.Attempt{refused, school}))
	must(t, w.SaveAttempts(ctx, l1, []syncdb.Attempt{lostCall, first}))
	w.finish(l1)
	w.clock.advance(24 * time.Hour)
	l2 := w.start()
	rekeyed := attempt(1, "c", w.clock.Now())
	rekeyed.Verb, rekeyed.OldKeyHash, rekeyed.OldRecord = syncdb.Update, hash("a"), hash("a record")
	must(t, w.SaveAttempts(ctx, l2, []syncdb.Attempt{rekeyed}))

	w.restart()
	of := func(l syncdb.Lease, attempts ...syncdb.Attempt) []syncdb.Attempt {
		out := slices.Clone(attempts)
		for i := range out {
			out[i].RunID = l.RunID
		}
		return out
	}
	diff(t, "attempts of a record, oldest first", w.attempts("a"), append(of(l1, first, refused), of(l2, rekeyed)...))
	diff(t, "attempts under the new key", w.attempts("c"), of(l2, rekeyed))
	diff(t, "attempts of another record", w.attempts("b"), of(l1, lostCall))
	diff(t, "attempts of nobody", w.attempts("nobody"), []syncdb.Attempt{})
	ofRun := func(l syncdb.Lease) (out []syncdb.Attempt) {
		t.Helper()
		must(t, w.AttemptsOfRun(ctx, w.conn, l.RunID, func(a *syncdb.Attempt) error {
			_, err := w.Runs(ctx, w.conn, 1) // the ledger may be used meanwhile
			out = append(out, *a)
			return err
		}))
		return out
	}
	diff(t, "attempts of the first run, as saved", ofRun(l1), of(l1, school, refused, lostCall, first))
	diff(t, "attempts of the second run", ofRun(l2), of(l2, rekeyed))
	stop := errors.New("enough")
	fail := func(*syncdb.Attempt) error { return stop }
	wantErr(t, "attempts, when fn fails", w.Attempts(ctx, w.conn, students, hash("a"), fail), stop)
	wantErr(t, "attempts of a run, when fn fails", w.AttemptsOfRun(ctx, w.conn, l1.RunID, fail), stop)
	must(t, w.Attempts(ctx, w.conn, "no/such", hash("a"), fail))
	other := w.connect("other")
	must(t, w.Attempts(ctx, other, students, hash("a"), fail))
	must(t, w.AttemptsOfRun(ctx, other, l1.RunID, fail))

	for name, a := range map[string]syncdb.Attempt{
		"without a resource": {Op: 1, Verb: syncdb.Create, KeyHash: hash("a")},
		"without a key":      {Op: 1, Verb: syncdb.Create, Resource: students},
		"without a verb":     {Op: 1, Resource: students, KeyHash: hash("a")},
	} {
		if err := w.SaveAttempts(ctx, l2, []syncdb.Attempt{first, a}); err == nil {
			t.Errorf("an attempt %s was saved", name)
		}
	}

	// Many, and large ones: more than one segment.
	var many []syncdb.Attempt
	for i := range manyAttempts {
		many = append(many, attempt(uint64(100+i), name("many", i%3000), w.clock.Now().Add(time.Duration(i)*time.Millisecond)))
	}
	big := attempt(10_000, "big", w.clock.Now())
	big.Payload = bytes.Repeat([]byte(`{"a":1}`), 1_500_000)
	many = append(many, big)
	must(t, w.SaveAttempts(ctx, l2, many))
	diff(t, "attempts of one of many", w.attempts(name("many", 17)), of(l2, many[17], many[3017], many[6017]))
	if got := w.attempts("big"); len(got) != 1 || !bytes.Equal(got[0].Payload, big.Payload) {
		t.Error("a large payload did not come back as it was")
	}
	if got := ofRun(l2); len(got) != 1+len(many) {
		t.Errorf("%d attempts of the run, want %d", len(got), 1+len(many))
	}

	// Retention by time, one connection's only.
	purge := func(before time.Time, want int64) {
		t.Helper()
		n, err := w.PurgeAttempts(ctx, w.conn, before)
		must(t, err)
		if n != want {
			t.Errorf("purged %d attempts, want %d", n, want)
		}
	}
	purge(began, 0)
	n, err := w.PurgeAttempts(ctx, other, w.clock.Now())
	must(t, err)
	if n != 0 {
		t.Errorf("purged %d attempts of another connection", n)
	}
	purge(began.Add(time.Hour), 4)
	purge(began.Add(time.Hour), 0)
	diff(t, "attempts after retention", w.attempts("a"), of(l2, rekeyed))
	diff(t, "attempts of the first run after retention", ofRun(l1), []syncdb.Attempt{})
	purge(w.clock.Now().Add(time.Hour), int64(1+len(many)))
	diff(t, "attempts after all were purged", ofRun(l2), []syncdb.Attempt{})
}

func targets(t *testing.T, w *world) {
	ctx := t.Context()
	state := func() syncdb.TargetState {
		t.Helper()
		s, err := w.Target(ctx, w.conn)
		must(t, err)
		return s
	}
	diff(t, "target state never set", state(), syncdb.TargetState{})
	l := w.start()
	want := syncdb.TargetState{ChangeVersion: 4711, UpdatedAt: time.Unix(1, 0)}
	must(t, w.SetTarget(ctx, l, want))
	w.restart()
	want.UpdatedAt = w.clock.Now()
	diff(t, "target state", state(), want)
	w.clock.advance(time.Second)
	want = syncdb.TargetState{ChangeVersion: 17, Alarm: "the newest change version went back", AlarmRun: l.RunID}
	must(t, w.SetTarget(ctx, l, want))
	want.UpdatedAt = w.clock.Now()
	diff(t, "target state replaced", state(), want)

	read := func(limit int) []syncdb.Receipt {
		t.Helper()
		rs, err := w.Receipts(ctx, w.conn, limit)
		must(t, err)
		return rs
	}
	_, err := w.ReceiptOf(ctx, w.conn, l.RunID)
	wantErr(t, "receipt that is not there", err, syncdb.ErrNotFound)
	diff(t, "no receipts", read(0), []syncdb.Receipt{})
	first := syncdb.Receipt{RunID: l.RunID, At: w.clock.Now().Add(-time.Minute), Document: json.RawMessage("{ \"b\": 1,\n\"a\": \"\\u00e5\" }")}
	must(t, w.SaveReceipt(ctx, l, first))
	must(t, w.SaveReceipt(ctx, l, first))
	changed := first
	changed.Document = json.RawMessage(`{"b":1,"a":"å"}`)
	wantErr(t, "another receipt of the run", w.SaveReceipt(ctx, l, changed), syncdb.ErrReceiptKept)
	for name, r := range map[string]syncdb.Receipt{
		"of another run":   {RunID: l.RunID + 1, Document: json.RawMessage(`{}`)},
		"that is not JSON": {RunID: l.RunID, Document: json.RawMessage(`{`)},
	} {
		if err := w.SaveReceipt(ctx, l, r); err == nil {
			t.Errorf("a receipt %s was saved", name)
		}
	}
	w.finish(l)
	l = w.start()
	second := syncdb.Receipt{RunID: l.RunID, Document: json.RawMessage(`{"run":2}`)}
	must(t, w.SaveReceipt(ctx, l, second))
	second.At = w.clock.Now()
	w.restart()
	diff(t, "receipts, newest first", read(0), []syncdb.Receipt{second, first})
	diff(t, "newest receipt", read(1), []syncdb.Receipt{second})
	got, err := w.ReceiptOf(ctx, w.conn, first.RunID)
	must(t, err)
	diff(t, "receipt of the first run", got, first)
	_, err = w.ReceiptOf(ctx, w.connect("other"), first.RunID)
	wantErr(t, "another connection's receipt", err, syncdb.ErrNotFound)
}

// lastAct is the number of the last audit row. Other tests may audit in the same ledger.
func (w *world) lastAct() int64 {
	w.t.Helper()
	rows, err := w.AuditRows(w.t.Context(), 0, 0)
	must(w.t, err)
	if len(rows) == 0 {
		return 0
	}
	return rows[len(rows)-1].ID
}

// acts are the audit rows of this test's connection after that one.
func (w *world) acts(after int64) []syncdb.AuditRow {
	w.t.Helper()
	rows, err := w.AuditRows(w.t.Context(), after, 0)
	must(w.t, err)
	return slices.DeleteFunc(rows, func(a syncdb.AuditRow) bool { return a.Connection != w.t.Name()+"/connection" })
}

func audit(t *testing.T, w *world) {
	ctx := t.Context()
	verify := func() {
		t.Helper()
		if bad, err := w.VerifyAudit(ctx); bad != 0 || err != nil {
			t.Fatalf("row %d does not verify, %v", bad, err)
		}
	}
	verify()
	act := syncdb.AuditRow{
		Who: "ada", Action: "trace.show", Connection: t.Name(), Object: "run 7", Detail: json.RawMessage(`{ "rows": 1 }`),
		ID: 99, At: time.Unix(1, 0), Hash: []byte("ignored"),
	}
	must(t, w.Audit(ctx, act))
	w.clock.advance(time.Second)
	must(t, w.Audit(ctx, syncdb.AuditRow{Who: "bob", Action: "adopt", Connection: t.Name()}))
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			if err := w.Audit(ctx, syncdb.AuditRow{Who: name("user ", i), Action: "adopt", Connection: t.Name()}); err != nil {
				t.Error(err)
			}
		})
	}
	for range 5 { // rows written while the chain is read do not look wrong
		wg.Go(func() {
			if bad, err := w.VerifyAudit(ctx); bad != 0 || err != nil {
				t.Errorf("row %d does not verify beside writers, %v", bad, err)
			}
		})
	}
	wg.Wait()
	w.restart()
	verify()
	all, err := w.AuditRows(ctx, 0, 0)
	must(t, err)
	ours := slices.DeleteFunc(slices.Clone(all), func(a syncdb.AuditRow) bool { return a.Connection != t.Name() })
	if len(ours) != 22 {
		t.Fatalf("got %d rows, want 22", len(ours))
	}
	act.ID, act.At, act.Hash = ours[0].ID, w.clock.Now().Add(-time.Second), ours[0].Hash
	diff(t, "first row", ours[0], act)
	diff(t, "second row", ours[1], syncdb.AuditRow{ID: ours[1].ID, At: w.clock.Now(), Who: "bob", Action: "adopt", Connection: t.Name(), Hash: ours[1].Hash})
	for i := range all {
		if all[i].ID != int64(i+1) || len(all[i].Hash) != 32 {
			t.Errorf("row %d has number %d and a hash of %d bytes", i+1, all[i].ID, len(all[i].Hash))
		}
	}
	some, err := w.AuditRows(ctx, ours[0].ID, 1)
	must(t, err)
	diff(t, "a page of rows", some, all[ours[0].ID:ours[0].ID+1])
	none, err := w.AuditRows(ctx, 1<<40, 0)
	must(t, err)
	diff(t, "rows after the last", none, []syncdb.AuditRow{})

	for name, a := range map[string]syncdb.AuditRow{
		"of nobody":                     {Action: "adopt"},
		"of no action":                  {Who: "ada"},
		"with a detail that is no JSON": {Who: "ada", Action: "adopt", Detail: json.RawMessage(`{`)},
	} {
		if err := w.Audit(ctx, a); err == nil {
			t.Errorf("a row %s was written", name)
		}
	}
	verify()
}
