package syncdbtest

import (
	"errors"
	"testing"

	"github.com/edfisync/edfisync/syncdb"
)

// archived: an issue that somebody put out of sight stays so for the rows it had, and comes back with the first that was not of it. Without an audit row
// nothing happens.
func archived(t *testing.T, w *world) {
	ctx := t.Context()
	problem := func(row, code string) syncdb.Problem {
		return syncdb.Problem{Resource: students, SourceHash: hash(row), Outcome: "invalid", Code: code, Cause: code, Owner: "mapping", KeyHash: hash(row + " key"), SourceKey: row}
	}
	a, b := problem("a", "required-missing"), problem("b", "required-missing")
	says := func(p syncdb.Problem, detail string) syncdb.Problem {
		return with2(p, func(p *syncdb.Problem) { p.Detail = []byte(detail) })
	}
	was := w.lastAct()
	act := func(action string) syncdb.AuditRow {
		return syncdb.AuditRow{Who: "ada", Action: action, Connection: t.Name() + "/connection", Object: "issue"}
	}
	issue := func(code string) syncdb.Issue {
		t.Helper()
		all, err := w.Issues(ctx, w.conn, false)
		must(t, err)
		ranked, err := w.RankedIssues(ctx, w.conn)
		must(t, err)
		for _, i := range all {
			for _, r := range ranked {
				if r.ID == i.ID {
					diff(t, "the same of the ranked issue", r.Archived, i.Archived)
				}
			}
			if i.Code == code {
				return i
			}
		}
		t.Fatalf("there is no issue %s", code)
		return syncdb.Issue{}
	}
	hidden := func(when, code string, want bool) {
		t.Helper()
		if got := !issue(code).Archived.IsZero(); got != want {
			t.Errorf("%s: %s is archived: %v, want %v", when, code, got, want)
		}
	}
	archive := func(code string) {
		t.Helper()
		must(t, w.ArchiveIssue(ctx, w.conn, issue(code).ID, syncdb.Archived{Who: "ada", Why: "known"}, act("issue.archive")))
		hidden("once archived", code, true)
	}
	next := func(l syncdb.Lease, problems ...syncdb.Problem) syncdb.Lease {
		t.Helper()
		_, err := w.CloseProblems(ctx, l, nil)
		must(t, err)
		w.finish(l)
		l = w.start()
		must(t, w.SaveProblems(ctx, l, problems))
		return l
	}

	l := w.start()
	must(t, w.SaveProblems(ctx, l, []syncdb.Problem{a, problem("x", "too-long")}))
	archive(a.Code)
	got := issue(a.Code).Archived
	if got.At.IsZero() || got.Who != "ada" || got.Why != "known" {
		t.Errorf("archived: %+v", got)
	}
	hidden("another", "too-long", false)
	w.restart()
	hidden("in another process", a.Code, true)

	// What is not audited is not done.
	if err := w.ArchiveIssue(ctx, w.conn, issue("too-long").ID, syncdb.Archived{Who: "ada", Why: "x"}, syncdb.AuditRow{}); err == nil {
		t.Error("archived without an audit row")
	}
	hidden("without an audit row", "too-long", false)
	_, err := w.UnarchiveIssue(ctx, w.conn, issue(a.Code).ID, syncdb.AuditRow{})
	if err == nil {
		t.Error("brought back without an audit row")
	}
	hidden("a return without an audit row", a.Code, true)

	// By hand.
	for i, want := range []bool{true, false} {
		back, err := w.UnarchiveIssue(ctx, w.conn, issue(a.Code).ID, act("issue.unarchive"))
		must(t, err)
		if back != want {
			t.Errorf("brought back, call %d: %v, want %v", i+1, back, want)
		}
	}
	hidden("brought back", a.Code, false)
	wantErr(t, "an issue that is not there", w.ArchiveIssue(ctx, w.conn, 1<<40, syncdb.Archived{Who: "ada", Why: "x"}, act("issue.archive")), syncdb.ErrNotFound)
	wantErr(t, "an issue of another connection", w.ArchiveIssue(ctx, w.connect("other"), issue(a.Code).ID, syncdb.Archived{Who: "ada", Why: "x"}, act("issue.archive")), syncdb.ErrNotFound)
	_, err = w.UnarchiveIssue(ctx, w.conn, 1<<40, act("issue.unarchive"))
	wantErr(t, "an issue that is not there, brought back", err, syncdb.ErrNotFound)

	// By itself: with a row that was not of it, whether new or of another issue until now; not with its own, whatever they say.
	archive(a.Code)
	l = next(l, a, problem("x", "too-long"))
	hidden("the same row again", a.Code, true)
	l = next(l, says(a, `{"problems":[]}`), problem("x", "too-long"))
	hidden("the same row, which says more", a.Code, true)
	must(t, w.KeepProblems(ctx, l, students, []syncdb.Hash{a.SourceHash}))
	hidden("a row that is kept", a.Code, true)
	must(t, w.SaveProblems(ctx, l, []syncdb.Problem{b}))
	hidden("a new row", a.Code, false)
	archive(a.Code)
	must(t, w.SaveProblems(ctx, l, []syncdb.Problem{a, b, problem("x", a.Code)}))
	hidden("a row of another issue", a.Code, false)
	archive(a.Code)
	must(t, w.SaveProblems(ctx, l, []syncdb.Problem{problem("a", "too-long")}))
	hidden("a row that has another code now", "too-long", false)
	hidden("the issue it was of", a.Code, true)

	// Settled: it cannot be archived, and when its cause comes up again, it is in sight.
	l = next(l, problem("y", "too-long"))
	_, err = w.CloseProblems(ctx, l, nil)
	must(t, err)
	var settled *syncdb.IssueSettledError
	if err := w.ArchiveIssue(ctx, w.conn, issue(a.Code).ID, syncdb.Archived{Who: "ada", Why: "x"}, act("issue.archive")); !errors.As(err, &settled) || settled.Run != l.RunID {
		t.Errorf("a settled issue: %v", err)
	}
	must(t, w.SaveProblems(ctx, l, []syncdb.Problem{a}))
	hidden("a cause that comes up again", a.Code, false)

	var acts []string
	for _, row := range w.acts(was) {
		acts = append(acts, row.Action)
	}
	diff(t, "audited", acts, []string{"issue.archive", "issue.unarchive", "issue.archive", "issue.archive", "issue.archive"})
}
