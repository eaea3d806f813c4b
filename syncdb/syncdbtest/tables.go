package syncdbtest

import (
	"bytes"
	"crypto/rand"
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/edfisync/edfisync/syncdb"
)

func entries(t *testing.T, w *world) {
	ctx := t.Context()
	l := w.start()
	const n = 1200 // more than one look-up carries
	var ops []op
	var asked []syncdb.Hash
	want := map[syncdb.Hash]syncdb.Entry{}
	for i := range n {
		e := live(name("student", i))
		ops = append(ops, create(uint64(i+1), e))
		asked = append(asked, e.KeyHash, hashN("no such", i))
		e.RunID = l.RunID
		want[e.KeyHash] = e
	}
	school := with(live("school"), func(e *syncdb.Entry) { e.Resource, e.PersonHash = "ed-fi/schools", syncdb.Hash{} })
	ops = append(ops, create(n+1, school))
	w.bulk(l, 1, ops)
	w.fold(l, 1, n+1)
	w.restart()
	got, err := w.Lookup(ctx, w.conn, students, asked)
	must(t, err)
	diff(t, "look-up", got, want)
	w.want("ed-fi/schools", school)
	w.want("ed-fi/staffs")
	names, err := w.Resources(ctx, w.conn)
	must(t, err)
	diff(t, "resources", names, []string{"ed-fi/schools", students})
	for _, r := range []string{"ed-fi/staffs", "no/such"} {
		if found, err := w.Lookup(ctx, w.conn, r, asked[:1]); err != nil || len(found) != 0 {
			t.Errorf("look-up in %s: got %v, %v", r, found, err)
		}
	}

	a, b := live(name("student", 1)), live(name("student", 2))
	must(t, w.Claim(ctx, l, students, []syncdb.Entry{
		{KeyHash: a.KeyHash, SourceHash: hash("new row"), PersonHash: hash("new person")}, {KeyHash: b.KeyHash}, {KeyHash: hash("nobody")},
	}))
	got, err = w.Lookup(ctx, w.conn, students, []syncdb.Hash{a.KeyHash, b.KeyHash, hash("nobody")})
	must(t, err)
	diff(t, "claimed", got, map[syncdb.Hash]syncdb.Entry{
		a.KeyHash: with(a, func(e *syncdb.Entry) { e.SourceHash, e.PersonHash = hash("new row"), hash("new person") }),
		b.KeyHash: with(b, func(e *syncdb.Entry) { e.SourceHash, e.PersonHash = syncdb.Hash{}, syncdb.Hash{} }),
	}, cmpopts.IgnoreFields(syncdb.Entry{}, "RunID"))

	other, _, err := w.Connection(ctx, "default", "another one")
	must(t, err)
	// A ledger may have connections of other tests, with the same ids: only one of our own tells.
	alone := with(live("alone"), func(e *syncdb.Entry) { e.EdfiID = rand.Text() })
	w.do(l, 1, create(n+2, alone))
	for _, c := range []struct {
		conn     int64
		resource string
		sees     bool
	}{{other.ID, students, true}, {other.ID, "ed-fi/schools", false}, {other.ID, "no/such", false}, {w.conn, students, false}} {
		sees := false
		must(t, w.OwnedElsewhere(ctx, c.conn, c.resource, func(id string) error { sees = sees || id == alone.EdfiID; return nil }))
		if sees != c.sees {
			t.Errorf("connection %d sees an id of %s of another connection: %v, want %v", c.conn, c.resource, sees, c.sees)
		}
	}
	wantErr(t, "ids of others, when fn fails", w.OwnedElsewhere(ctx, other.ID, students, func(string) error { return errors.ErrUnsupported }), errors.ErrUnsupported)

	stop, calls := errors.New("enough"), 0
	err = w.Each(ctx, w.conn, students, func(e *syncdb.Entry) error {
		if calls++; calls == 3 {
			return stop
		}
		_, err := w.Lookup(ctx, w.conn, students, []syncdb.Hash{e.KeyHash}) // the ledger may be used meanwhile
		return err
	})
	wantErr(t, "each, when fn fails", err, stop)
	calls = 0
	err = w.Hashes(ctx, w.conn, students, func(_, _, _ syncdb.Hash, _ syncdb.State) error {
		if calls++; calls == 3 {
			return stop
		}
		return w.SaveStep(ctx, l, syncdb.Step{Position: calls, Resource: students, Verb: syncdb.Create, State: "running"})
	})
	wantErr(t, "hashes, when fn fails", err, stop)
	if calls != 3 {
		t.Errorf("fn was called %d times, want 3", calls)
	}
}

func scopes(t *testing.T, w *world) {
	ctx := t.Context()
	s, err := w.Scope(ctx, w.conn, students)
	must(t, err)
	diff(t, "scope never set", s, syncdb.Scope{Resource: students})
	l := w.start()
	want := syncdb.Scope{Resource: students, KeyGeneration: 1, HashRules: 3, ScanMark: "0/16B3748"}
	must(t, w.SetScope(ctx, l, want))
	w.do(l, 1, create(1, live("a")))
	w.restart()
	s, err = w.Scope(ctx, w.conn, students)
	must(t, err)
	diff(t, "scope", s, want)
	want.HashRules = 4
	must(t, w.SetScope(ctx, l, want))
	s, err = w.Scope(ctx, w.conn, students)
	must(t, err)
	diff(t, "scope set again", s, want)
	w.want(students, live("a")) // and the count is still right
	if err := w.SetScope(ctx, l, syncdb.Scope{}); err == nil {
		t.Error("a scope without a resource was taken")
	}
}

func problems(t *testing.T, w *world) {
	ctx := t.Context()
	required := syncdb.Problem{
		Resource: students, SourceHash: hash("row 1"), Outcome: "invalid", Code: "required-missing", Cause: "$.birthDate required", Owner: "source data",
		KeyHash: hash("row 1 key"), SourceKey: "4711", Detail: []byte(`[{"path":"$.birthDate"}]`),
	}
	same := with2(required, func(p *syncdb.Problem) { p.SourceHash, p.SourceKey = hash("row 2"), "4712" })
	rejected := syncdb.Problem{
		Resource: students, SourceHash: hash("row 3"), Outcome: syncdb.OutcomeRejected, Code: "data-policy", Cause: "urn:ed-fi:api:bad-request", Owner: "target host",
		KeyHash: hash("row 3 key"), RecordHash: hash("row 3 record"), SourceKey: "4713", Detail: []byte(`{"detail":"no"}`),
	}
	blocked := syncdb.Problem{
		Resource: "ed-fi/studentSchoolAssociations", SourceHash: hash("row 1"), Outcome: "blocked", Code: "parent", Cause: "ed-fi/students", Owner: "source data",
		SourceKey: "9", BlockedBy: []byte(`{"resource":"ed-fi/students"}`),
	}
	save := func(l syncdb.Lease, ps ...syncdb.Problem) {
		t.Helper()
		must(t, w.SaveProblems(ctx, l, ps))
	}
	read := func(f syncdb.ProblemFilter) []syncdb.Problem {
		t.Helper()
		ps, err := w.Problems(ctx, w.conn, f)
		must(t, err)
		return ps
	}
	issues := func(openOnly bool) []syncdb.Issue {
		t.Helper()
		is, err := w.Issues(ctx, w.conn, openOnly)
		must(t, err)
		for i := range is {
			is[i].ID = 0
		}
		return is
	}
	byCode := cmpopts.SortSlices(func(a, b syncdb.Issue) bool { return a.Code < b.Code })
	byHash := cmpopts.SortSlices(func(a, b syncdb.Problem) bool { return a.Resource+a.SourceKey < b.Resource+b.SourceKey })

	l1 := w.start()
	save(l1, with2(required, func(p *syncdb.Problem) { p.SourceKey = "said twice" }), required, same, rejected)
	save(l1, blocked)
	save(l1)
	w.restart()
	diff(t, "problems", read(syncdb.ProblemFilter{}), []syncdb.Problem{required, same, rejected, blocked}, byHash)
	diff(t, "rejected problems", read(syncdb.ProblemFilter{Resource: students, Outcome: syncdb.OutcomeRejected}), []syncdb.Problem{rejected})
	hashes, err := w.Rejected(ctx, w.conn, students)
	must(t, err)
	diff(t, "rejected", hashes, map[syncdb.Hash]syncdb.Hash{rejected.SourceHash: rejected.RecordHash})
	issue := func(p syncdb.Problem, first, last syncdb.Lease, rows int64) syncdb.Issue {
		return syncdb.Issue{Code: p.Code, Resource: p.Resource, Cause: p.Cause, Owner: p.Owner, Outcome: p.Outcome, FirstRun: first.RunID, LastRun: last.RunID, Rows: rows}
	}
	diff(t, "issues", issues(true), []syncdb.Issue{issue(required, l1, l1, 2), issue(rejected, l1, l1, 1), issue(blocked, l1, l1, 1)}, byCode)
	all, err := w.Issues(ctx, w.conn, true)
	must(t, err)
	for _, i := range all {
		if got := read(syncdb.ProblemFilter{IssueID: i.ID}); int64(len(got)) != i.Rows || got[0].Code != i.Code {
			t.Errorf("issue %s has %d rows, the filter gives %d", i.Code, i.Rows, len(got))
		}
	}
	first := read(syncdb.ProblemFilter{Resource: students, Limit: 2})
	rest := read(syncdb.ProblemFilter{Resource: students, After: first[1].SourceHash})
	diff(t, "pages", append(first, rest...), read(syncdb.ProblemFilter{Resource: students}))
	cleared, err := w.CloseProblems(ctx, l1, []string{students, blocked.Resource, "no/such"})
	must(t, err)
	if cleared != 0 {
		t.Errorf("cleared %d problems of this run", cleared)
	}
	w.finish(l1)

	// Second run: row 1 is as before, row 2 now fails for another reason, row 3 is fine; the blocked resource was not looked at.
	l2 := w.start()
	other := with2(same, func(p *syncdb.Problem) {
		p.Code, p.Cause, p.Outcome, p.Detail = "too-long", "$.firstName longer than 75", "invalid", nil
	})
	save(l2, required, other)
	cleared, err = w.CloseProblems(ctx, l2, []string{students})
	must(t, err)
	if cleared != 1 {
		t.Errorf("cleared %d problems, want 1", cleared)
	}
	diff(t, "problems of the second run", read(syncdb.ProblemFilter{}), []syncdb.Problem{required, other, blocked}, byHash)
	gone := issue(rejected, l1, l1, 0)
	gone.ClearedRun = l2.RunID
	open := []syncdb.Issue{issue(required, l1, l2, 1), issue(other, l2, l2, 1), issue(blocked, l1, l1, 1)}
	diff(t, "open issues", issues(true), open, byCode)
	diff(t, "all issues", issues(false), append(open, gone), byCode)
	w.finish(l2)

	// Third run: the cleared issue comes back.
	l3 := w.start()
	save(l3, required, rejected)
	cleared, err = w.CloseProblems(ctx, l3, nil) // the blocked resource is not synced any more
	must(t, err)
	if cleared != 2 {
		t.Errorf("cleared %d problems, want 2", cleared)
	}
	diff(t, "open issues of the third run", issues(true), []syncdb.Issue{issue(required, l1, l3, 1), issue(rejected, l1, l3, 1)}, byCode)

	// A row that was not sent again stands as it is; a record met at the target stands until somebody decides.
	met := with2(rejected, func(p *syncdb.Problem) {
		p.SourceHash, p.SourceKey, p.Outcome, p.Code = hash("row 4"), "4714", syncdb.OutcomeMet, "met"
	})
	save(l3, met)
	w.finish(l3)
	l4 := w.start()
	must(t, w.KeepProblems(ctx, l4, students, []syncdb.Hash{rejected.SourceHash, hash("no problem")}))
	cleared, err = w.CloseProblems(ctx, l4, []string{students})
	must(t, err)
	if cleared != 1 {
		t.Errorf("cleared %d problems, want 1", cleared)
	}
	diff(t, "problems of the fourth run", read(syncdb.ProblemFilter{}), []syncdb.Problem{rejected, met}, byHash)
	diff(t, "open issues of the fourth run", issues(true), []syncdb.Issue{issue(rejected, l1, l4, 1), issue(met, l3, l3, 1)}, byCode)

	// A run that was asked about some rows closes the problems of those, and no others.
	w.finish(l4)
	l5 := w.start()
	fifth := with2(rejected, func(p *syncdb.Problem) { p.SourceHash, p.SourceKey = hash("row 5"), "4715" })
	save(l5, fifth)
	for _, c := range []struct {
		source syncdb.Hash
		want   int
	}{{hash("no problem"), 0}, {met.SourceHash, 0}, {fifth.SourceHash, 0}, {rejected.SourceHash, 1}, {rejected.SourceHash, 0}} {
		cleared, err := w.CloseProblemsOf(ctx, l5, students, []syncdb.Hash{c.source})
		must(t, err)
		if cleared != c.want {
			t.Errorf("cleared %d problems of a row, want %d", cleared, c.want)
		}
	}
	diff(t, "problems of the fifth run", read(syncdb.ProblemFilter{}), []syncdb.Problem{met, fifth}, byHash)
	save(l5, rejected)
	cleared, err = w.CloseProblemsOf(ctx, l5, "no/such", []syncdb.Hash{fifth.SourceHash})
	must(t, err)
	if cleared != 0 {
		t.Errorf("cleared %d problems of a resource that is not there", cleared)
	}
	w.finish(l5)
	l6 := w.start()
	cleared, err = w.CloseProblemsOf(ctx, l6, students, []syncdb.Hash{fifth.SourceHash})
	must(t, err)
	if cleared != 1 {
		t.Errorf("cleared %d problems, want 1", cleared)
	}
	must(t, w.KeepProblems(ctx, l6, students, []syncdb.Hash{rejected.SourceHash}))
	l4 = l6

	// Somebody decided.
	for _, want := range []int{1, 0} {
		dropped, err := w.DropProblems(ctx, l4, students, []syncdb.Hash{met.SourceHash, hash("no problem")})
		must(t, err)
		if dropped != want {
			t.Errorf("dropped %d problems, want %d", dropped, want)
		}
	}
	diff(t, "problems after the decision", read(syncdb.ProblemFilter{}), []syncdb.Problem{rejected})
	diff(t, "open issues after the decision", issues(true), []syncdb.Issue{issue(rejected, l1, l4, 1)})
	w.finish(l4)
	l3 = w.start()
	save(l3, required)

	// Many at once.
	var many []syncdb.Problem
	for i := range 1100 {
		many = append(many, with2(required, func(p *syncdb.Problem) { p.SourceHash, p.SourceKey = hashN("many", i), name("", i) }))
	}
	save(l3, many...)
	save(l3, many...)
	many = append(many, required)
	slices.SortFunc(many, func(a, b syncdb.Problem) int { return bytes.Compare(a.SourceHash[:], b.SourceHash[:]) })
	diff(t, "many problems", read(syncdb.ProblemFilter{Resource: students, Outcome: "invalid"}), many)
}

func with2(p syncdb.Problem, fn func(*syncdb.Problem)) syncdb.Problem {
	fn(&p)
	return p
}

func isolation(t *testing.T, w *world) {
	ctx := t.Context()
	l := w.start()
	w.do(l, 1, create(1, live("a")))
	must(t, w.SaveProblems(ctx, l, []syncdb.Problem{{Resource: students, SourceHash: hash("row"), Outcome: "invalid", Code: "x"}}))
	must(t, w.SetScope(ctx, l, syncdb.Scope{Resource: students, HashRules: 7}))
	ours := w.conn

	w.conn = w.connect("second")
	w.want(students)
	m := w.start()
	w.do(m, 1, create(1, with(live("a"), func(e *syncdb.Entry) { e.EdfiID = "theirs" })))
	n, err := w.CloseProblems(ctx, m, []string{students})
	must(t, err)
	ps, err := w.Problems(ctx, w.conn, syncdb.ProblemFilter{})
	must(t, err)
	is, err := w.Issues(ctx, w.conn, false)
	must(t, err)
	s, err := w.Scope(ctx, w.conn, students)
	must(t, err)
	if n != 0 || len(ps) != 0 || len(is) != 0 || s.HashRules != 0 {
		t.Errorf("the second connection sees %d, %d problems, %d issues, scope %+v of the first", n, len(ps), len(is), s)
	}
	mixed := m
	mixed.ConnectionID = ours
	wantErr(t, "a lease used for another connection", w.Append(ctx, mixed, 1, []syncdb.Intent{create(9, live("z")).Intent}, nil), syncdb.ErrFenced)
	w.conn = ours
	w.want(students, live("a"))
}
