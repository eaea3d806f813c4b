package syncdbtest

import (
	"errors"
	"testing"
	"time"

	"github.com/edfisync/edfisync/syncdb"
)

// errands: what a person does himself takes the connection, and nothing that somebody else asked for.
func errands(t *testing.T, w *world) {
	ctx := t.Context()
	school, other := scopeOf(syncdb.ScopePart{School: 255901001}), scopeOf(syncdb.ScopePart{School: 255901044})
	waits := func(what string, id int64, scope syncdb.RunScope) {
		t.Helper()
		run, err := w.RunByID(ctx, id)
		must(t, err)
		if run.State != syncdb.RunWaiting {
			t.Errorf("%s: the run that was asked for is %s, want it to wait", what, run.State)
		}
		diff(t, what+": the scope of the run that waits", run.Scope, scope)
	}
	count := func() int {
		t.Helper()
		all, err := w.Runs(ctx, w.conn, 0)
		must(t, err)
		return len(all)
	}

	// It is a run of its own: the one that waits goes on waiting.
	asked, _, err := w.RequestScoped(ctx, w.conn, "api", school)
	must(t, err)
	w.clock.advance(time.Second)
	run, l, err := w.StartErrand(ctx, w.conn, "adopt", "process 1", ttl)
	must(t, err)
	diff(t, "the errand", run, syncdb.Run{
		ID: run.ID, ConnectionID: w.conn, State: syncdb.RunRunning, Reason: "adopt", Errand: true, CreatedAt: w.clock.Now(), StartedAt: w.clock.Now(),
	})
	if run.ID == asked.ID || l.RunID != run.ID || l.ConnectionID != w.conn || l.Token == 0 || l.Holder != "process 1" || l.TTL != ttl {
		t.Errorf("got run %d under lease %+v, while run %d waits", run.ID, l, asked.ID)
	}
	kept, err := w.RunByID(ctx, run.ID)
	must(t, err)
	diff(t, "the errand as the ledger has it", kept, run)
	waits("beside an errand", asked.ID, school)
	joinedTo, joined, err := w.RequestScoped(ctx, w.conn, "api", other)
	must(t, err)
	if !joined || joinedTo.ID != asked.ID {
		t.Errorf("who asked beside an errand got run %d, joined %t", joinedTo.ID, joined)
	}
	both := school.Union(other)

	// One writer at a time (I7), and who cannot begin leaves nothing behind that others would do in his place.
	var busy *syncdb.BusyError
	if _, _, err := w.StartRun(ctx, w.conn, "process 2", ttl); !errors.As(err, &busy) || busy.RunID != run.ID {
		t.Errorf("start a run beside an errand: got %v, want a BusyError of run %d", err, run.ID)
	}
	before := count()
	if _, _, err := w.StartErrand(ctx, w.conn, "undo", "process 2", ttl); !errors.As(err, &busy) || busy.RunID != run.ID {
		t.Errorf("start an errand beside another: got %v, want a BusyError of run %d", err, run.ID)
	}
	w.finish(l)
	started, l, err := w.StartRun(ctx, w.conn, "process 2", ttl)
	must(t, err)
	diff(t, "the run after the errand", started.ID, asked.ID)
	diff(t, "its scope", started.Scope, both)
	if _, _, err := w.StartErrand(ctx, w.conn, "undo", "process 1", ttl); !errors.As(err, &busy) || busy.RunID != started.ID {
		t.Errorf("start an errand beside a run: got %v, want a BusyError of run %d", err, started.ID)
	}
	if after := count(); after != before {
		t.Errorf("errands that could not begin left %d runs", after-before)
	}
	w.finish(l)
	if _, _, err := w.StartErrand(ctx, 1<<30, "undo", "process 1", ttl); err == nil {
		t.Error("an errand was started for a connection that does not exist")
	}

	// An errand that lost its process is marked, and no sync is made of it (I20).
	lose := func(reason string) syncdb.Lease {
		t.Helper()
		_, l, err := w.StartErrand(ctx, w.conn, reason, "process 1", ttl)
		must(t, err)
		return l
	}
	marked := func(l syncdb.Lease) {
		t.Helper()
		gone, err := w.RunByID(ctx, l.RunID)
		must(t, err)
		if gone.State != syncdb.RunFailed || gone.Error != syncdb.LostErrand || gone.Failure != syncdb.FailureProcess || gone.EndedAt.IsZero() {
			t.Errorf("the lost errand is %+v", gone)
		}
		_, _, err = w.Renew(ctx, l)
		wantErr(t, "renew the lease of a lost errand", err, syncdb.ErrFenced)
	}
	l = lose("apply")
	before = count()
	w.clock.advance(ttl + grace)
	_, _, err = w.StartRun(ctx, w.conn, "process 2", ttl)
	wantErr(t, "start when only an errand was lost", err, syncdb.ErrNoRun)
	marked(l)
	if after := count(); after != before {
		t.Errorf("a lost errand left %d runs that nobody asked for", after-before)
	}
	l = lose("undo")
	asked, _, err = w.RequestScoped(ctx, w.conn, "api", other)
	must(t, err)
	w.clock.advance(ttl + grace)
	started, next, err := w.StartRun(ctx, w.conn, "process 2", ttl)
	must(t, err)
	marked(l)
	diff(t, "the run after a lost errand", started.ID, asked.ID)
	diff(t, "the scope of the run after a lost errand", started.Scope, other)
	w.finish(next)
	l = lose("undo")
	w.clock.advance(ttl + grace)
	_, next, err = w.StartErrand(ctx, w.conn, "undo", "process 2", ttl)
	must(t, err)
	marked(l)
	w.finish(next)

	// A run that lost its process is gone on with after the errand that found it so.
	lost, _, err := w.RequestScoped(ctx, w.conn, "api", school)
	must(t, err)
	_, _, err = w.StartRun(ctx, w.conn, "process 1", ttl)
	must(t, err)
	w.clock.advance(ttl + grace)
	_, l, err = w.StartErrand(ctx, w.conn, "sync-one", "process 2", ttl)
	must(t, err)
	if gone, err := w.RunByID(ctx, lost.ID); err != nil || gone.State != syncdb.RunFailed || gone.Error != syncdb.LostProcess || gone.Failure != syncdb.FailureProcess {
		t.Errorf("the lost run is %+v, %v", gone, err)
	}
	recovery, joined, err := w.RequestScoped(ctx, w.conn, "api", school)
	must(t, err)
	if !joined || recovery.Reason != "recovery" {
		t.Errorf("after an errand found a lost run, run %d waits for %q, joined %t; want one that goes on with it", recovery.ID, recovery.Reason, joined)
	}
	w.finish(l)
	started, _, err = w.StartRun(ctx, w.conn, "process 2", ttl)
	must(t, err)
	diff(t, "the run after the errand", started.ID, recovery.ID)
	diff(t, "the scope of the run that goes on", started.Scope, school)
	asked, _, err = w.RequestScoped(ctx, w.conn, "api", other)
	must(t, err)
	w.clock.advance(ttl + grace)
	_, l, err = w.StartErrand(ctx, w.conn, "sync-one", "process 2", ttl)
	must(t, err)
	waits("an errand that found a lost run", asked.ID, both)
	w.finish(l)
}
