package syncdbtest

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/edfisync/edfisync/syncdb"
)

func connections(t *testing.T, w *world) {
	ctx := t.Context()
	tenant := t.Name()
	a, ringA, err := w.Connection(ctx, tenant, "a")
	must(t, err)
	b, ringB, err := w.Connection(ctx, tenant+" other", "a")
	must(t, err)
	if a.ID == b.ID {
		t.Errorf("two tenants share connection %d", a.ID)
	}
	sealed := ringA.Seal(nil, []byte("value"), []byte("place"))
	if _, err := ringB.Open(nil, sealed, []byte("place")); err == nil {
		t.Error("one connection's key opens what another's sealed")
	}
	w.restart()
	again, ring, err := w.Connection(ctx, tenant, "a")
	must(t, err)
	diff(t, "connection after a restart", again, a)
	if plain, err := ring.Open(nil, sealed, []byte("place")); err != nil || string(plain) != "value" {
		t.Errorf("open after a restart: got %q, %v", plain, err)
	}
	if ring.HashMAC().Size() != 32 {
		t.Error("hash key is missing")
	}
}

func coalescing(t *testing.T, w *world) {
	ctx := t.Context()
	l := w.start()
	const callers = 1000
	var wg sync.WaitGroup
	ids, joins := make([]int64, callers), make([]bool, callers)
	for i := range callers {
		wg.Go(func() {
			r, joined, err := w.RequestRun(ctx, w.conn, "api")
			if err != nil {
				t.Errorf("request run: %v", err)
			}
			ids[i], joins[i] = r.ID, joined
		})
	}
	wg.Wait()
	made := 0
	for i := range callers {
		if ids[i] == 0 || ids[i] != ids[0] {
			t.Fatalf("caller %d got run %d, another got %d", i, ids[i], ids[0])
		}
		if !joins[i] {
			made++
		}
	}
	if made != 1 {
		t.Errorf("%d callers made a run, want 1", made)
	}
	rs, err := w.Runs(ctx, w.conn, 0)
	must(t, err)
	if len(rs) != 2 || rs[0].State != syncdb.RunWaiting || rs[1].State != syncdb.RunRunning || rs[1].ID != l.RunID {
		t.Errorf("got runs %+v, want one waiting and one running", rs)
	}
	if _, _, err := w.RequestRun(ctx, 1<<30, "api"); err == nil {
		t.Error("a run was requested for a connection that does not exist")
	}
}

func runs(t *testing.T, w *world) {
	ctx := t.Context()
	_, _, err := w.StartRun(ctx, w.conn, "process 1", ttl)
	wantErr(t, "start without a request", err, syncdb.ErrNoRun)
	wantErr(t, "cancel without a run", w.Cancel(ctx, w.conn), syncdb.ErrNoRun)
	_, err = w.RunByID(ctx, 1<<40)
	wantErr(t, "read a run that never was", err, syncdb.ErrNoRun)

	requested, joined, err := w.RequestRun(ctx, w.conn, "cron")
	must(t, err)
	if joined {
		t.Error("the first request joined a run")
	}
	began := w.clock.Now()
	w.clock.advance(time.Second)
	_, waiting, err := w.Identity(ctx)
	must(t, err)
	started, l, err := w.StartRun(ctx, w.conn, "process 1", ttl)
	must(t, err)
	if _, running, err := w.Identity(ctx); err != nil || running <= waiting {
		t.Errorf("the generation went from %d to %d when a run started (error %v), want a later one", waiting, running, err)
	}
	diff(t, "started run", started, syncdb.Run{
		ID: requested.ID, ConnectionID: w.conn, State: syncdb.RunRunning, Reason: "cron", CreatedAt: began, StartedAt: w.clock.Now(),
	})
	if l.ConnectionID != w.conn || l.RunID != started.ID || l.Token == 0 || l.Holder != "process 1" || l.TTL != ttl {
		t.Errorf("got lease %+v", l)
	}

	later, joined, err := w.RequestRun(ctx, w.conn, "api")
	must(t, err)
	if joined || later.ID == started.ID {
		t.Errorf("a request beside a running run got run %d, joined %t; want a new one", later.ID, joined)
	}
	_, _, err = w.StartRun(ctx, w.conn, "process 2", ttl)
	var busy *syncdb.BusyError
	if !errors.As(err, &busy) {
		t.Fatalf("start beside a running run: got %v, want a BusyError", err)
	}
	diff(t, "busy", *busy, syncdb.BusyError{Holder: "process 1", RunID: started.ID, Until: w.clock.Now().Add(ttl + grace)})

	step := syncdb.Step{Position: 1, Resource: students, Verb: syncdb.Create, State: "running"}
	must(t, w.SaveStep(ctx, l, syncdb.Step{Position: 2, Resource: "ed-fi/schools", Verb: syncdb.Update, State: "waiting"}))
	must(t, w.SaveStep(ctx, l, step))
	step.State, step.Totals = "done", json.RawMessage(`{"created":2}`)
	must(t, w.SaveStep(ctx, l, step))
	steps, err := w.Steps(ctx, l.RunID)
	must(t, err)
	diff(t, "steps", steps, []syncdb.Step{step, {Position: 2, Resource: "ed-fi/schools", Verb: syncdb.Update, State: "waiting"}})

	ledger, before, err := w.Identity(ctx)
	must(t, err)
	if err := w.FinishRun(ctx, l, syncdb.RunWaiting, nil, ""); err == nil {
		t.Error("a run was finished as waiting")
	}
	w.clock.advance(time.Second)
	must(t, w.NoteFailure(ctx, l, "target-unreachable"))
	must(t, w.FinishRun(ctx, l, syncdb.RunFailed, json.RawMessage(`{"created":2}`), "the target is gone"))
	noted, err := w.RunByID(ctx, l.RunID)
	must(t, err)
	if noted.Failure != "target-unreachable" {
		t.Errorf("the run failed because of %q", noted.Failure)
	}
	same, after, err := w.Identity(ctx)
	must(t, err)
	if ledger != same || after <= before { // other tests may finish runs too
		t.Errorf("identity went from %s/%d to %s/%d, want a later generation", ledger, before, same, after)
	}
	w.restart()
	finished, err := w.RunByID(ctx, l.RunID)
	must(t, err)
	diff(t, "finished run", finished, syncdb.Run{
		ID: started.ID, ConnectionID: w.conn, State: syncdb.RunFailed, Reason: "cron", CreatedAt: began, StartedAt: began.Add(time.Second),
		EndedAt: began.Add(2 * time.Second), Totals: json.RawMessage(`{"created":2}`), Error: "the target is gone", Failure: "target-unreachable",
	})

	second, l2, err := w.StartRun(ctx, w.conn, "process 2", ttl)
	must(t, err)
	if second.ID != later.ID || l2.Token <= l.Token {
		t.Errorf("got run %d under token %d, want run %d under more than %d", second.ID, l2.Token, later.ID, l.Token)
	}
	must(t, w.FinishRun(ctx, l2, syncdb.RunCanceled, nil, ""))
	rs, err := w.Runs(ctx, w.conn, 1)
	must(t, err)
	if len(rs) != 1 || rs[0].ID != second.ID || rs[0].State != syncdb.RunCanceled || rs[0].Totals != nil {
		t.Errorf("newest run: got %+v", rs)
	}
}

func lease(t *testing.T, w *world) {
	ctx := t.Context()
	l := w.start()
	for range 5 { // five times half its length: it would have expired without
		w.clock.advance(ttl / 2)
		renewed, cancel, err := w.Renew(ctx, l)
		must(t, err)
		if cancel || !renewed.RenewedAt.Equal(w.clock.Now()) || renewed.Token != l.Token {
			t.Fatalf("renewed to %+v, cancel %t", renewed, cancel)
		}
		l = renewed
	}
	must(t, w.Cancel(ctx, w.conn))
	must(t, w.Cancel(ctx, w.conn))
	_, cancel, err := w.Renew(ctx, l)
	must(t, err)
	if !cancel {
		t.Error("the cancel flag did not arrive")
	}
	must(t, w.FinishRun(ctx, l, syncdb.RunCanceled, nil, ""))

	l = w.start()
	if _, cancel, err = w.Renew(ctx, l); err != nil || cancel {
		t.Errorf("the next run: renew gives cancel %t, %v", cancel, err)
	}
	w.clock.advance(ttl)
	_, _, err = w.Renew(ctx, l)
	wantErr(t, "renew an expired lease", err, syncdb.ErrFenced)
}

// writes are all the writes a run can make.
func writes(w *world) map[string]func(context.Context, syncdb.Lease) error {
	e := live("fenced")
	return map[string]func(context.Context, syncdb.Lease) error{
		"SaveStep": func(ctx context.Context, l syncdb.Lease) error {
			return w.SaveStep(ctx, l, syncdb.Step{Position: 9, Resource: students, Verb: syncdb.Create, State: "done"})
		},
		"NoteFailure": func(ctx context.Context, l syncdb.Lease) error { return w.NoteFailure(ctx, l, "target-unreachable") },
		"Append": func(ctx context.Context, l syncdb.Lease) error {
			return w.Append(ctx, l, 1, []syncdb.Intent{create(99, e).Intent}, nil)
		},
		"Fold": func(ctx context.Context, l syncdb.Lease) error {
			_, err := w.Fold(ctx, l, 1)
			return err
		},
		"Fold of nothing": func(ctx context.Context, l syncdb.Lease) error {
			_, err := w.Fold(ctx, l, 77)
			return err
		},
		"Recover": func(ctx context.Context, l syncdb.Lease) error {
			_, err := w.Recover(ctx, l)
			return err
		},
		"Claim": func(ctx context.Context, l syncdb.Lease) error {
			return w.Claim(ctx, l, students, []syncdb.Entry{with(live("a"), func(e *syncdb.Entry) { e.SourceHash = hash("fenced") })})
		},
		"SetScope": func(ctx context.Context, l syncdb.Lease) error {
			return w.SetScope(ctx, l, syncdb.Scope{Resource: students, HashRules: 99})
		},
		"SaveProblems": func(ctx context.Context, l syncdb.Lease) error {
			return w.SaveProblems(ctx, l, []syncdb.Problem{{Resource: students, SourceHash: hash("fenced"), Outcome: "invalid", Code: "x"}})
		},
		"KeepProblems": func(ctx context.Context, l syncdb.Lease) error {
			return w.KeepProblems(ctx, l, students, []syncdb.Hash{hash("kept")})
		},
		"CloseProblems": func(ctx context.Context, l syncdb.Lease) error {
			_, err := w.CloseProblems(ctx, l, []string{students})
			return err
		},
		"CloseProblemsOf": func(ctx context.Context, l syncdb.Lease) error {
			_, err := w.CloseProblemsOf(ctx, l, students, []syncdb.Hash{hash("kept")})
			return err
		},
		"DropProblems": func(ctx context.Context, l syncdb.Lease) error {
			_, err := w.DropProblems(ctx, l, students, []syncdb.Hash{hash("kept")})
			return err
		},
		"PutEntries": func(ctx context.Context, l syncdb.Lease) error {
			return w.PutEntries(ctx, l, students, []syncdb.Entry{e})
		},
		"DropEntries": func(ctx context.Context, l syncdb.Lease) error {
			return w.DropEntries(ctx, l, students, []syncdb.Hash{hash("a")})
		},
		"SaveHold": func(ctx context.Context, l syncdb.Lease) error {
			_, err := w.SaveHold(ctx, l, syncdb.Plan{Resource: students, Rule: "delete-percent"}, some(planOp(1, "a")))
			return err
		},
		"NarrowPlan": func(ctx context.Context, l syncdb.Lease) error {
			_, err := w.NarrowPlan(ctx, l, syncdb.Plan{ID: 1 << 40}, some(planOp(1, "a")))
			return err
		},
		"ClosePlan": func(ctx context.Context, l syncdb.Lease) error {
			return w.ClosePlan(ctx, l, 1<<40, syncdb.PlanReleased)
		},
		"SaveAttempts": func(ctx context.Context, l syncdb.Lease) error {
			return w.SaveAttempts(ctx, l, []syncdb.Attempt{attempt(1, "a", w.clock.Now())})
		},
		"SetTarget": func(ctx context.Context, l syncdb.Lease) error {
			return w.SetTarget(ctx, l, syncdb.TargetState{ChangeVersion: 99})
		},
		"SaveReceipt": func(ctx context.Context, l syncdb.Lease) error {
			return w.SaveReceipt(ctx, l, syncdb.Receipt{RunID: l.RunID, Document: []byte(`{}`)})
		},
		"Renew": func(ctx context.Context, l syncdb.Lease) error {
			_, _, err := w.Renew(ctx, l)
			return err
		},
		"FinishRun": func(ctx context.Context, l syncdb.Lease) error {
			return w.FinishRun(ctx, l, syncdb.RunDone, nil, "")
		},
	}
}

func fencing(t *testing.T, w *world) {
	ctx := t.Context()
	l := w.start()
	w.do(l, 1, create(1, live("a")))
	w.journal(l, 1, create(2, live("b")))
	must(t, w.SaveProblems(ctx, l, []syncdb.Problem{{Resource: students, SourceHash: hash("kept"), Outcome: "invalid", Code: "x"}}))

	refused := func(when string, l syncdb.Lease) {
		t.Helper()
		for name, write := range writes(w) {
			wantErr(t, name+" "+when, write(ctx, l), syncdb.ErrFenced)
		}
	}
	forged := l
	forged.Token++
	refused("with a token that was never given", forged)
	forged = l
	forged.RunID++
	refused("with another run's id", forged)
	w.clock.advance(ttl)
	refused("after the lease expired", l)
	newer := w.die()
	refused("after a take-over", l)

	w.want(students, live("a"))
	steps, err := w.Steps(ctx, l.RunID)
	must(t, err)
	diff(t, "steps", steps, []syncdb.Step{})
	s, err := w.Scope(ctx, w.conn, students)
	must(t, err)
	diff(t, "scope", s, syncdb.Scope{Resource: students})
	ps, err := w.Problems(ctx, w.conn, syncdb.ProblemFilter{})
	must(t, err)
	if len(ps) != 1 || ps[0].SourceHash != hash("kept") {
		t.Errorf("problems changed: %+v", ps)
	}

	held, err := w.Plans(ctx, w.conn, syncdb.PlanFilter{})
	must(t, err)
	diff(t, "plans", held, []syncdb.Plan{})
	diff(t, "attempts", w.attempts("a"), []syncdb.Attempt{})
	target, err := w.Target(ctx, w.conn)
	must(t, err)
	diff(t, "target state", target, syncdb.TargetState{})
	receipts, err := w.Receipts(ctx, w.conn, 0)
	must(t, err)
	diff(t, "receipts", receipts, []syncdb.Receipt{})

	stats, err := w.Recover(ctx, newer)
	must(t, err)
	diff(t, "recovered", stats, syncdb.RecoverStats{Folded: 1})
	w.want(students, live("a"), live("b"))
	w.finish(newer)
	refused("after the run was finished", newer)
}

func takeOver(t *testing.T, w *world) {
	ctx := t.Context()
	l := w.start()
	_, _, err := w.RequestRun(ctx, w.conn, "cli")
	must(t, err)
	var busy *syncdb.BusyError
	for _, at := range []time.Duration{0, ttl, ttl + grace - time.Millisecond} {
		w.clock.advance(at - w.clock.Now().Sub(l.RenewedAt))
		if _, _, err := w.StartRun(ctx, w.conn, "process 2", ttl); !errors.As(err, &busy) {
			t.Errorf("take-over %s after the last renewal: got %v, want a BusyError", at, err)
		}
	}
	w.clock.advance(time.Millisecond)
	run, next, err := w.StartRun(ctx, w.conn, "process 2", ttl)
	must(t, err)
	if next.Token <= l.Token || run.ID == l.RunID {
		t.Errorf("took over with run %d, token %d; was run %d, token %d", run.ID, next.Token, l.RunID, l.Token)
	}
	gone, err := w.RunByID(ctx, l.RunID)
	must(t, err)
	if gone.State != syncdb.RunFailed || gone.Error != syncdb.LostProcess || gone.Failure != syncdb.FailureProcess || gone.EndedAt.IsZero() {
		t.Errorf("the lost run is %+v", gone)
	}

	// The wait is spared when the holder is known to be dead.
	_, _, err = w.RequestRun(ctx, w.conn, "cli")
	must(t, err)
	must(t, w.ExpireLease(ctx, w.conn, "process 1"))
	if _, _, err := w.StartRun(ctx, w.conn, "process 3", ttl); !errors.As(err, &busy) {
		t.Errorf("take-over after another holder's lease was expired: got %v, want a BusyError", err)
	}
	must(t, w.ExpireLease(ctx, w.conn, "process 2"))
	_, third, err := w.StartRun(ctx, w.conn, "process 3", ttl)
	must(t, err)
	_, _, err = w.Renew(ctx, next)
	wantErr(t, "renew an expired lease", err, syncdb.ErrFenced)
	next = third

	// A lost run does not look as if it ran for ever, even when nothing waits.
	w.clock.advance(ttl + grace)
	_, _, err = w.StartRun(ctx, w.conn, "process 3", ttl)
	wantErr(t, "start without a request", err, syncdb.ErrNoRun)
	if gone, err = w.RunByID(ctx, next.RunID); err != nil || gone.State != syncdb.RunFailed {
		t.Errorf("the second lost run is %+v, %v", gone, err)
	}
	_, _, err = w.Renew(ctx, next)
	wantErr(t, "renew after that", err, syncdb.ErrFenced)

	// Nor is it forgotten: a run that goes on with it waits.
	if runs, err := w.Runs(ctx, w.conn, 1); err != nil || runs[0].State != syncdb.RunWaiting || runs[0].Reason != "recovery" {
		t.Errorf("after that the newest run is %+v (%v), want one that waits to go on", runs[0], err)
	}
}
