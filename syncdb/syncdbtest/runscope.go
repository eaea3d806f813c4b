package syncdbtest

import (
	"sync"
	"testing"

	"github.com/edfisync/edfisync/syncdb"
)

func scopeOf(parts ...syncdb.ScopePart) syncdb.RunScope { return syncdb.RunScope{Parts: parts} }

// runScopes: a run that waits sends what anybody asked for, whoever comes first.
func runScopes(t *testing.T, w *world) {
	ctx := t.Context()
	school, other := syncdb.ScopePart{School: 255901001}, syncdb.ScopePart{School: 255901044}
	resource := syncdb.ScopePart{Resource: students}
	both := syncdb.ScopePart{Resource: students, School: 255901001}
	record := syncdb.ScopePart{Resource: "ed-fi/schools", Key: syncdb.Hash{1}}
	row := syncdb.ScopePart{Resource: "ed-fi/schools", Source: syncdb.Hash{1}}
	whole := syncdb.RunScope{}

	ask := func(scope syncdb.RunScope, wantJoined bool, want syncdb.RunScope) {
		t.Helper()
		run, joined, err := w.RequestScoped(ctx, w.conn, "api", scope)
		must(t, err)
		diff(t, "joined", joined, wantJoined)
		diff(t, "the scope of what was asked for", run.Scope, want)
		kept, err := w.RunByID(ctx, run.ID)
		must(t, err)
		diff(t, "the scope the ledger has", kept.Scope, want)
	}
	begin := func() syncdb.Lease {
		t.Helper()
		_, l, err := w.StartRun(ctx, w.conn, "process 1", ttl)
		must(t, err)
		return l
	}

	ask(scopeOf(school), false, scopeOf(school))
	ask(scopeOf(school), true, scopeOf(school))
	ask(scopeOf(both), true, scopeOf(school)) // the school is asked for as a whole already
	ask(scopeOf(record, row), true, scopeOf(school, record, row).Union(scopeOf(school)))
	started, l, err := w.StartRun(ctx, w.conn, "process 1", ttl)
	must(t, err)
	diff(t, "the scope of the run that began", started.Scope, scopeOf(school, record, row).Union(scopeOf(row)))

	// What comes after it began is for the next.
	ask(scopeOf(other, both), false, scopeOf(other, both))
	ask(scopeOf(resource), true, scopeOf(other, resource).Union(scopeOf(resource)))
	ask(whole, true, whole)
	ask(scopeOf(school), true, whole)
	w.finish(l)
	l = begin()
	w.finish(l)

	ask(whole, false, whole)
	ask(scopeOf(school), true, whole)
	w.finish(begin())

	// A run that takes over does the lost one's part, too.
	ask(scopeOf(school), false, scopeOf(school))
	begin()
	ask(scopeOf(other), false, scopeOf(other))
	w.clock.advance(ttl + grace)
	over, l, err := w.StartRun(ctx, w.conn, "process 2", ttl)
	must(t, err)
	diff(t, "the scope of the run that took over", over.Scope, scopeOf(school, other))
	kept, err := w.RunByID(ctx, over.ID)
	must(t, err)
	diff(t, "the scope the ledger has of it", kept.Scope, scopeOf(school, other))
	_, _, err = w.RequestScoped(ctx, w.conn, "api", scopeOf(record))
	must(t, err)
	w.finish(l)
	_, whole1, err := w.StartRun(ctx, w.conn, "process 2", ttl)
	must(t, err)
	w.finish(whole1)
	all, err := w.Runs(ctx, w.conn, 1)
	must(t, err)
	diff(t, "the scope of the last run", all[0].Scope, scopeOf(record))
}

// scopedCoalescing: however many ask for parts at once, one run waits, with the union of them.
func scopedCoalescing(t *testing.T, w *world) {
	ctx := t.Context()
	w.start()
	const callers, schools = 400, 20
	var wg sync.WaitGroup
	ids := make([]int64, callers)
	for i := range callers {
		wg.Go(func() {
			part := syncdb.ScopePart{School: int64(1 + i%schools)}
			r, _, err := w.RequestScoped(ctx, w.conn, "api", scopeOf(part))
			if err != nil {
				t.Errorf("request run: %v", err)
			}
			if !r.Scope.Covers(scopeOf(part)) {
				t.Errorf("caller %d got a run whose scope %+v leaves out what was asked for", i, r.Scope)
			}
			ids[i] = r.ID
		})
	}
	wg.Wait()
	for i := range callers {
		if ids[i] == 0 || ids[i] != ids[0] {
			t.Fatalf("caller %d got run %d, another got %d", i, ids[i], ids[0])
		}
	}
	run, err := w.RunByID(ctx, ids[0])
	must(t, err)
	if len(run.Scope.Parts) != schools {
		t.Errorf("the run that waits has %d parts, want the union: %d", len(run.Scope.Parts), schools)
	}
}
