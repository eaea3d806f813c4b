package syncdbtest

import (
	"testing"

	"github.com/edfisync/edfisync/syncdb"
)

// rankings: what is kept of a ranking is current until a problem changes, and an issue that is younger has no rank.
func rankings(t *testing.T, w *world) {
	ctx := t.Context()
	l := w.start()
	problem := func(row, code string) syncdb.Problem {
		return syncdb.Problem{Resource: students, SourceHash: hash(row), Outcome: "invalid", Code: code, Cause: code, Owner: "mapping", KeyHash: hash(row + " key"), SourceKey: row}
	}
	a, b, c := problem("a", "required-missing"), problem("b", "required-missing"), problem("c", "too-long")
	want := func(when string, ranking syncdb.Ranking, issues ...syncdb.RankedIssue) {
		t.Helper()
		got, err := w.RankingOf(ctx, w.conn)
		must(t, err)
		diff(t, when+": the ranking", got, ranking)
		ranked, err := w.RankedIssues(ctx, w.conn)
		must(t, err)
		for i := range ranked {
			ranked[i].ID = 0
		}
		diff(t, when+": issues", ranked, issues)
	}
	issue := func(p syncdb.Problem, first, last, rows int64) syncdb.RankedIssue {
		return syncdb.RankedIssue{Issue: syncdb.Issue{Code: p.Code, Resource: students, Cause: p.Cause, Owner: p.Owner, Outcome: p.Outcome, FirstRun: first, LastRun: last, Rows: rows}}
	}
	ranked := func(i syncdb.RankedIssue, r syncdb.Rank) syncdb.RankedIssue {
		i.Rank, i.Ranked = r, true
		return i
	}
	save := func(ranks ...syncdb.Rank) {
		t.Helper()
		issues, err := w.Issues(ctx, w.conn, true)
		must(t, err)
		all := map[int64]syncdb.Rank{}
		for i, r := range ranks {
			all[issues[i].ID] = r
		}
		must(t, w.SaveRanking(ctx, l, all))
	}
	run := l.RunID
	want("at first", syncdb.Ranking{})
	must(t, w.SaveProblems(ctx, l, []syncdb.Problem{a, b}))
	for n, want := range map[int]bool{0: true, 1: true, 2: false, 1000: false} {
		more, err := w.MoreProblems(ctx, w.conn, n)
		must(t, err)
		if more != want {
			t.Errorf("more than %d problems of two: %v", n, more)
		}
	}
	want("before anybody ranked", syncdb.Ranking{}, issue(a, run, run, 2))
	save(syncdb.Rank{Own: 1, Frees: 5, Waits: 1})
	save(syncdb.Rank{Own: 1, Frees: 7, Waits: 1})
	w.restart()
	first := ranked(issue(a, run, run, 2), syncdb.Rank{Own: 1, Frees: 7, Waits: 1})
	want("once ranked", syncdb.Ranking{Run: run, Current: true}, first)
	w.finish(l)

	// What changes nothing leaves it as it is.
	l = w.start()
	first.LastRun = l.RunID
	must(t, w.SaveProblems(ctx, l, []syncdb.Problem{a}))
	must(t, w.KeepProblems(ctx, l, students, []syncdb.Hash{b.SourceHash}))
	_, err := w.CloseProblems(ctx, l, nil)
	must(t, err)
	_, err = w.DropProblems(ctx, l, students, []syncdb.Hash{hash("nobody")})
	must(t, err)
	want("when the same problems are there", syncdb.Ranking{Run: run, Current: true}, first)

	// Each way to change a problem takes it back.
	for name, change := range map[string]func() error{
		"a problem more": func() error { return w.SaveProblems(ctx, l, []syncdb.Problem{c}) },
		"a problem says something": func() error {
			return w.SaveProblems(ctx, l, []syncdb.Problem{with2(a, func(p *syncdb.Problem) { p.BlockedResource, p.BlockedKey = students, hash("x") })})
		},
		"a problem that is gone": func() error { _, err := w.CloseProblemsOf(ctx, l, students, []syncdb.Hash{hash("gone")}); return err },
		"a problem that is dropped": func() error {
			_, err := w.DropProblems(ctx, l, students, []syncdb.Hash{hash("dropped")})
			return err
		},
		"all that are gone": func() error { _, err := w.CloseProblems(ctx, l, nil); return err },
	} {
		must(t, w.SaveProblems(ctx, l, []syncdb.Problem{a, b, problem("gone", "gone"), problem("dropped", "dropped")}))
		w.finish(l)
		l = w.start()
		must(t, w.SaveProblems(ctx, l, []syncdb.Problem{a}))
		save(syncdb.Rank{Own: 1})
		must(t, change())
		got, err := w.RankingOf(ctx, w.conn)
		must(t, err)
		diff(t, "the ranking after "+name, got, syncdb.Ranking{Run: l.RunID})
		_, err = w.CloseProblems(ctx, l, nil)
		must(t, err)
	}

	// Who has lost the lease keeps no ranking.
	w.finish(l)
	wantErr(t, "the ranking of a run that has ended", w.SaveRanking(ctx, l, nil), syncdb.ErrFenced)

	// A cause that is solved and comes back is a new one for the ranking.
	l = w.start()
	must(t, w.SaveProblems(ctx, l, []syncdb.Problem{a, c}))
	_, err = w.CloseProblems(ctx, l, nil)
	must(t, err)
	save(syncdb.Rank{Own: 1, Frees: 3}, syncdb.Rank{Own: 1})
	w.finish(l)
	l = w.start()
	must(t, w.SaveProblems(ctx, l, []syncdb.Problem{c}))
	_, err = w.CloseProblems(ctx, l, nil)
	must(t, err)
	save(syncdb.Rank{Own: 1})
	w.finish(l)
	run = l.RunID
	l = w.start()
	must(t, w.SaveProblems(ctx, l, []syncdb.Problem{a, c}))
	issues, err := w.RankedIssues(ctx, w.conn)
	must(t, err)
	for _, i := range issues {
		diff(t, "ranked: "+i.Code, i.Ranked, i.Code == c.Code)
		diff(t, "rows of "+i.Code, i.Rows, int64(1))
	}
	got, err := w.RankingOf(ctx, w.conn)
	must(t, err)
	diff(t, "the ranking in the next run", got, syncdb.Ranking{Run: run})
}
