package syncdbtest

import (
	"encoding/json"
	"errors"
	"iter"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/edfisync/edfisync/syncdb"
)

// planOp is a delete of a student in that step.
func planOp(step int, key string) syncdb.PlanOp {
	return syncdb.PlanOp{Step: step, Resource: students, Verb: syncdb.Delete, KeyHash: hash(key), SourceHash: hash(key + " source"), OldRecord: hash(key + " record")}
}

// some yields the ops and no error.
func some(ops ...syncdb.PlanOp) iter.Seq2[syncdb.PlanOp, error] {
	return func(yield func(syncdb.PlanOp, error) bool) {
		for _, o := range ops {
			if !yield(o, nil) {
				return
			}
		}
	}
}

// failing yields one op and then the error.
func failingOps(err error) iter.Seq2[syncdb.PlanOp, error] {
	return func(yield func(syncdb.PlanOp, error) bool) {
		if yield(planOp(1, "a"), nil) {
			yield(syncdb.PlanOp{}, err)
		}
	}
}

func inOrder(ops []syncdb.PlanOp) []syncdb.PlanOp {
	ops = slices.Clone(ops)
	slices.SortFunc(ops, func(a, b syncdb.PlanOp) int { return a.Compare(&b) })
	return ops
}

func (w *world) ops(id int64) []syncdb.PlanOp {
	w.t.Helper()
	var out []syncdb.PlanOp
	must(w.t, w.PlanOps(w.t.Context(), w.conn, id, func(o syncdb.PlanOp) error {
		out = append(out, o)
		return nil
	}))
	return out
}

func (w *world) plan(id int64) syncdb.Plan {
	w.t.Helper()
	p, err := w.PlanByID(w.t.Context(), w.conn, id)
	must(w.t, err)
	return p
}

func plans(t *testing.T, w *world) {
	ctx := t.Context()
	saved := syncdb.Plan{
		Kind: syncdb.PlanSaved, Reason: "asked for", Config: "version 7", Counts: json.RawMessage(`{"ed-fi/students":{"delete":2}}`),
	}
	first, err := w.SavePlan(ctx, w.conn, saved, some(planOp(2, "b"), planOp(1, "a")))
	must(t, err)
	saved.ID, saved.ConnectionID, saved.State, saved.Edition, saved.Ops = first.ID, w.conn, syncdb.PlanOpen, 1, 2
	saved.CreatedAt, saved.UpdatedAt = w.clock.Now(), w.clock.Now()
	diff(t, "saved plan", first, saved)
	w.clock.advance(time.Minute)
	undone := syncdb.Plan{Kind: syncdb.PlanUndo, State: syncdb.PlanDiscarded, RunID: 4711, DecidedBy: "ada", Why: "wrong school year"}
	second, err := w.SavePlan(ctx, w.conn, undone, some())
	must(t, err)
	undone.ID, undone.ConnectionID, undone.Edition, undone.CreatedAt, undone.UpdatedAt, undone.DecidedAt = second.ID, w.conn, 1, w.clock.Now(), w.clock.Now(), w.clock.Now()
	diff(t, "plan saved as decided", second, undone)

	w.restart()
	diff(t, "plan by id", w.plan(first.ID), saved)
	diff(t, "ops, by step", w.ops(first.ID), []syncdb.PlanOp{planOp(1, "a"), planOp(2, "b")})
	diff(t, "ops of an empty plan", w.ops(second.ID), []syncdb.PlanOp{})
	for name, c := range map[string]struct {
		filter syncdb.PlanFilter
		want   []syncdb.Plan
	}{
		"all, newest first":       {syncdb.PlanFilter{}, []syncdb.Plan{undone, saved}},
		"one":                     {syncdb.PlanFilter{Limit: 1}, []syncdb.Plan{undone}},
		"of a kind":               {syncdb.PlanFilter{Kind: syncdb.PlanSaved}, []syncdb.Plan{saved}},
		"in one of two states":    {syncdb.PlanFilter{States: []syncdb.PlanState{syncdb.PlanDiscarded, syncdb.PlanStale}}, []syncdb.Plan{undone}},
		"of a kind, in a state":   {syncdb.PlanFilter{Kind: syncdb.PlanUndo, States: []syncdb.PlanState{syncdb.PlanOpen}}, []syncdb.Plan{}},
		"of a kind that has none": {syncdb.PlanFilter{Kind: syncdb.PlanHold}, []syncdb.Plan{}},
	} {
		got, err := w.Plans(ctx, w.conn, c.filter)
		must(t, err)
		diff(t, "plans: "+name, got, c.want)
	}

	for name, p := range map[string]syncdb.Plan{
		"of no kind":                       {},
		"in no state that is":              {Kind: syncdb.PlanSaved, State: "perhaps"},
		"approved by nobody":               {Kind: syncdb.PlanSaved, State: syncdb.PlanApproved},
		"applied by no run":                {Kind: syncdb.PlanSaved, State: syncdb.PlanApplied},
		"open, with a run that applied it": {Kind: syncdb.PlanSaved, AppliedRun: 1},
	} {
		if _, err := w.SavePlan(ctx, w.conn, p, some()); err == nil {
			t.Errorf("a plan %s was saved", name)
		}
	}
	stop := errors.New("the disk of the spool is gone")
	_, err = w.SavePlan(ctx, w.conn, syncdb.Plan{Kind: syncdb.PlanSaved}, failingOps(stop))
	wantErr(t, "plan whose ops end with an error", err, stop)
	for name, o := range map[string]syncdb.PlanOp{
		"without a key":      {Step: 1, Resource: students, Verb: syncdb.Delete},
		"without a verb":     {Step: 1, Resource: students, KeyHash: hash("a")},
		"without a resource": {Step: 1, Verb: syncdb.Delete, KeyHash: hash("a")},
		"without a step":     {Step: -1, Resource: students, Verb: syncdb.Delete, KeyHash: hash("a")},
	} {
		if _, err := w.SavePlan(ctx, w.conn, syncdb.Plan{Kind: syncdb.PlanSaved}, some(planOp(1, "a"), o)); err == nil {
			t.Errorf("a plan with an op %s was saved", name)
		}
	}
	if _, err := w.SavePlan(ctx, 1<<30, syncdb.Plan{Kind: syncdb.PlanSaved}, some()); err == nil {
		t.Error("a plan of a connection that does not exist was saved")
	}
	got, err := w.Plans(ctx, w.conn, syncdb.PlanFilter{})
	must(t, err)
	diff(t, "plans after all that was refused", got, []syncdb.Plan{undone, saved})

	_, err = w.PlanByID(ctx, w.conn, 1<<40)
	wantErr(t, "plan that is not there", err, syncdb.ErrNotFound)
	wantErr(t, "ops of a plan that is not there", w.PlanOps(ctx, w.conn, 1<<40, nil), syncdb.ErrNotFound)
	other := w.connect("other")
	_, err = w.PlanByID(ctx, other, first.ID)
	wantErr(t, "plan of another connection", err, syncdb.ErrNotFound)
	wantErr(t, "ops of another connection's plan", w.PlanOps(ctx, other, first.ID, nil), syncdb.ErrNotFound)
	_, err = w.DecidePlan(ctx, other, first.ID, syncdb.Decision{From: []syncdb.PlanState{syncdb.PlanOpen}, To: syncdb.PlanApproved, Who: "eve"})
	wantErr(t, "decide another connection's plan", err, syncdb.ErrNotFound)
}

// planOps saves plans of sizes about those of segments and parts, in an order that is not the one they are read in.
func planOps(t *testing.T, w *world) {
	ctx := t.Context()
	for _, n := range []int{1, 8191, 8192, 8193, 2*8192 + 1, manyOps} {
		ops := make([]syncdb.PlanOp, n)
		for i := range ops {
			o := syncdb.PlanOp{Step: i % 3, Resource: []string{"ed-fi/schools", students, "tpdm/candidates"}[i%3], KeyHash: hashN("op", i)}
			switch i % 4 {
			case 0:
				o.Verb, o.SourceHash, o.NewRecord = syncdb.Create, hashN("source", i), hashN("new", i)
			case 1:
				o.Verb, o.SourceHash, o.OldRecord, o.NewRecord = syncdb.Update, hashN("source", i), hashN("old", i), hashN("new", i)
			case 2:
				o.Verb, o.OldKeyHash, o.SourceHash, o.OldRecord, o.NewRecord = syncdb.Update, hashN("key", i), hashN("source", i), hashN("old", i), hashN("new", i)
			case 3:
				o.Verb, o.OldRecord, o.RecordID, o.Alone = syncdb.Delete, hashN("old", i), hashN("id", i), i%8 == 3
			}
			ops[i] = o
		}
		p, err := w.SavePlan(ctx, w.conn, syncdb.Plan{Kind: syncdb.PlanSaved}, some(ops...))
		must(t, err)
		if p.Ops != int64(n) {
			t.Errorf("a plan of %d ops counts %d", n, p.Ops)
		}
		got := w.ops(p.ID)
		if !slices.Equal(got, inOrder(ops)) {
			t.Errorf("%d ops were saved, %d read; they are not the same in order", n, len(got))
		}
	}
	stop, calls := errors.New("enough"), 0
	p, err := w.SavePlan(ctx, w.conn, syncdb.Plan{Kind: syncdb.PlanSaved}, some(planOp(1, "a"), planOp(1, "b"), planOp(1, "c")))
	must(t, err)
	err = w.PlanOps(ctx, w.conn, p.ID, func(syncdb.PlanOp) error {
		if calls++; calls == 2 {
			return stop
		}
		_, err := w.PlanByID(ctx, w.conn, p.ID) // the ledger may be used meanwhile
		return err
	})
	wantErr(t, "ops, when fn fails", err, stop)
}

func holds(t *testing.T, w *world) {
	ctx := t.Context()
	l1 := w.start()
	asked := syncdb.Plan{
		Kind: syncdb.PlanSaved, State: syncdb.PlanStale, // both ignored
		Resource: students, Verb: syncdb.Delete, Rule: "delete-percent", Reason: "2 of 10 students would be deleted", Config: "v1", Counts: json.RawMessage(`{"delete":2}`),
	}
	none, err := w.SaveHold(ctx, l1, asked, some())
	must(t, err)
	diff(t, "hold of nothing", none, syncdb.Plan{})
	held, err := w.SaveHold(ctx, l1, asked, some(planOp(1, "a"), planOp(1, "b")))
	must(t, err)
	want := asked
	want.ID, want.ConnectionID, want.Kind, want.State, want.RunID, want.Edition, want.Ops = held.ID, w.conn, syncdb.PlanHold, syncdb.PlanOpen, l1.RunID, 1, 2
	want.CreatedAt, want.UpdatedAt = w.clock.Now(), w.clock.Now()
	diff(t, "hold", held, want)
	diff(t, "ops of the hold", w.ops(held.ID), inOrder([]syncdb.PlanOp{planOp(1, "a"), planOp(1, "b")}))
	others := map[string]syncdb.Plan{
		"verb":     with3(asked, func(p *syncdb.Plan) { p.Verb = syncdb.Update }),
		"rule":     with3(asked, func(p *syncdb.Plan) { p.Rule = "empty-source" }),
		"resource": with3(asked, func(p *syncdb.Plan) { p.Resource = "" }),
	}
	for name, p := range others {
		other, err := w.SaveHold(ctx, l1, p, some(planOp(1, "c")))
		must(t, err)
		if other.ID == held.ID {
			t.Errorf("a hold of another %s replaced the first", name)
		}
	}
	for i, c := range []struct {
		mark    string
		edition int64
	}{{"pack:99", 1}, {"pack:99", 1}, {"pack:98", 2}} { // another mark is another thing to decide about
		p, err := w.SaveHold(ctx, l1, with3(asked, func(p *syncdb.Plan) { p.Rule, p.Mark = "source-behind", c.mark }), some(planOp(1, "d")))
		must(t, err)
		if got := w.plan(p.ID); got.Mark != c.mark || got.Edition != c.edition {
			t.Errorf("hold with a mark, time %d: got mark %q in edition %d, want %q in %d", i+1, got.Mark, got.Edition, c.mark, c.edition)
		}
	}
	w.finish(l1)

	// The next run holds the same ops: whoever looked at them has seen them, in whatever order and step they come.
	w.clock.advance(time.Hour)
	l2 := w.start()
	moved := planOp(2, "a")
	moved.Alone = true // what an older program did not say makes no other op of it
	same, err := w.SaveHold(ctx, l2, asked, some(planOp(2, "b"), moved))
	must(t, err)
	want.UpdatedAt = w.clock.Now()
	diff(t, "hold of the same ops", same, want)
	diff(t, "ops of the hold", len(w.ops(held.ID)), 2)

	// Or other ops for the same reason: the hold is the same, and says when it was opened, but nobody has looked at it.
	asked.Reason, asked.Config, asked.Counts = "1 of 10 students would be deleted", "v2", json.RawMessage(`{"delete":1}`)
	again, err := w.SaveHold(ctx, l2, asked, some(planOp(1, "b")))
	must(t, err)
	want.Reason, want.Config, want.Counts, want.Ops, want.UpdatedAt = asked.Reason, asked.Config, asked.Counts, 1, w.clock.Now()
	want.Edition = 2
	diff(t, "replaced hold", again, want)
	w.restart()
	diff(t, "replaced hold, read", w.plan(held.ID), want)
	diff(t, "ops of the replaced hold", w.ops(held.ID), []syncdb.PlanOp{planOp(1, "b")})

	// An error while the ops are read, or a lost lease, leaves it as it was (I7).
	stop := errors.New("the spool is damaged")
	_, err = w.SaveHold(ctx, l2, asked, failingOps(stop))
	wantErr(t, "hold whose ops end with an error", err, stop)
	_, err = w.SaveHold(ctx, l1, asked, some(planOp(1, "x")))
	wantErr(t, "hold replaced under the last run's lease", err, syncdb.ErrFenced)
	_, err = w.SaveHold(ctx, l1, asked, some())
	wantErr(t, "hold released under the last run's lease", err, syncdb.ErrFenced)
	diff(t, "hold after what was refused", w.plan(held.ID), want)
	diff(t, "ops after what was refused", w.ops(held.ID), []syncdb.PlanOp{planOp(1, "b")})

	// Who looked at the ops before they were replaced has not seen what is to be decided about (I8).
	yes := syncdb.Decision{From: []syncdb.PlanState{syncdb.PlanOpen}, To: syncdb.PlanApproved, Edition: 1, Who: "ada", Why: "they left"}
	before := w.lastAct()
	_, err = w.DecidePlan(ctx, w.conn, held.ID, yes)
	var edition *syncdb.PlanEditionError
	if !errors.As(err, &edition) || *edition != (syncdb.PlanEditionError{ID: held.ID, Asked: 1, Edition: 2, Ops: 1}) {
		t.Errorf("approve the first edition of what is now the second: got %v, want a PlanEditionError", err)
	}
	diff(t, "hold after an approval of its first edition", w.plan(held.ID), want)
	if acts := w.acts(before); len(acts) != 0 {
		t.Errorf("audit rows of what was refused: %+v", acts)
	}

	// Decided holds stand; what is held anew opens another one.
	yes.Edition = 2
	_, err = w.DecidePlan(ctx, w.conn, held.ID, yes)
	must(t, err)
	fresh, err := w.SaveHold(ctx, l2, asked, some(planOp(1, "d")))
	must(t, err)
	if fresh.ID == held.ID || fresh.RunID != l2.RunID {
		t.Errorf("after the decision got hold %+v, want a new one", fresh)
	}
	diff(t, "ops of the decided hold", w.ops(held.ID), []syncdb.PlanOp{planOp(1, "b")})
	_, err = w.DecidePlan(ctx, w.conn, held.ID, syncdb.Decision{From: []syncdb.PlanState{syncdb.PlanApproved}, To: syncdb.PlanOpen, Who: "ada", Why: "oh no"})
	wantErr(t, "a decided hold opened beside a new one", err, syncdb.ErrHoldOpen)

	// Nothing is held any more.
	released, err := w.SaveHold(ctx, l2, asked, some())
	must(t, err)
	diff(t, "released hold", released, with3(fresh, func(p *syncdb.Plan) {
		p.State, p.Edition, p.Ops, p.Counts, p.UpdatedAt = syncdb.PlanReleased, 2, 0, nil, w.clock.Now()
	}))
	diff(t, "ops of the released hold", w.ops(fresh.ID), []syncdb.PlanOp{})
	none, err = w.SaveHold(ctx, l2, asked, some())
	must(t, err)
	diff(t, "hold released twice", none, syncdb.Plan{})
	open, err := w.Plans(ctx, w.conn, syncdb.PlanFilter{Kind: syncdb.PlanHold, States: []syncdb.PlanState{syncdb.PlanOpen}})
	must(t, err)
	if len(open) != len(others)+1 {
		t.Errorf("%d holds are open, want %d", len(open), len(others)+1)
	}
}

func with3(p syncdb.Plan, fn func(*syncdb.Plan)) syncdb.Plan {
	fn(&p)
	return p
}

func decisions(t *testing.T, w *world) {
	ctx := t.Context()
	before := w.lastAct()
	p, err := w.SavePlan(ctx, w.conn, syncdb.Plan{Kind: syncdb.PlanHold, Resource: students, Rule: "delete-percent"}, some(planOp(1, "a")))
	must(t, err)

	// Of many who decide at once exactly one wins, and the others learn how (F63).
	const deciders = 16
	decided := make([]error, deciders)
	to := func(i int) syncdb.PlanState {
		return []syncdb.PlanState{syncdb.PlanApproved, syncdb.PlanDiscarded}[i%2]
	}
	var wg sync.WaitGroup
	for i := range deciders {
		wg.Go(func() {
			_, decided[i] = w.DecidePlan(ctx, w.conn, p.ID, syncdb.Decision{From: []syncdb.PlanState{syncdb.PlanOpen}, To: to(i), Who: name("user ", i), Why: "because"})
		})
	}
	wg.Wait()
	winner := -1
	for i, err := range decided {
		var state *syncdb.PlanStateError
		switch {
		case err == nil && winner >= 0:
			t.Errorf("both %d and %d decided", winner, i)
		case err == nil:
			winner = i
		case !errors.As(err, &state):
			t.Errorf("decider %d got %v, want a PlanStateError", i, err)
		}
	}
	if winner < 0 {
		t.Fatal("nobody decided")
	}
	for i, err := range decided {
		var state *syncdb.PlanStateError
		if i != winner && errors.As(err, &state) && (state.State != to(winner) || state.ID != p.ID) {
			t.Errorf("decider %d learnt of plan %d that it is %s, want plan %d, %s", i, state.ID, state.State, p.ID, to(winner))
		}
	}
	got := w.plan(p.ID)
	diff(t, "decided plan", got, with3(p, func(p *syncdb.Plan) {
		p.State, p.DecidedAt, p.DecidedBy, p.Why = to(winner), w.clock.Now(), name("user ", winner), "because"
	}))
	acts := w.acts(before)
	if len(acts) != 1 || acts[0].Who != got.DecidedBy {
		t.Fatalf("got audit rows %+v, want one of %s", acts, got.DecidedBy)
	}
	verb := map[syncdb.PlanState]string{syncdb.PlanApproved: "approve", syncdb.PlanDiscarded: "discard"}[got.State]
	diff(t, "audit row of the decision", acts[0], syncdb.AuditRow{
		At: w.clock.Now(), Who: got.DecidedBy, Action: "hold." + verb, Connection: t.Name() + "/connection", Object: name2("hold", p.ID),
		Detail: json.RawMessage(`{"from":"open","edition":1,"ops":1,"resource":"ed-fi/students","rule":"delete-percent","why":"because"}`),
	}, cmpopts.IgnoreFields(syncdb.AuditRow{}, "ID", "Hash"))

	// What is refused leaves neither a decision nor an audit row.
	before = w.lastAct()
	any := []syncdb.PlanState{syncdb.PlanOpen, syncdb.PlanApproved, syncdb.PlanDiscarded}
	for name, c := range map[string]struct {
		id  int64
		to  syncdb.PlanState
		who string
	}{
		"of a plan that is not there": {1 << 40, syncdb.PlanApproved, "ada"},
		"of nobody":                   {p.ID, syncdb.PlanApproved, ""},
		"that only a run can take":    {p.ID, syncdb.PlanApplied, "ada"},
		"to a state that is not one":  {p.ID, "perhaps", "ada"},
	} {
		if _, err := w.DecidePlan(ctx, w.conn, c.id, syncdb.Decision{From: any, To: c.to, Who: c.who}); err == nil {
			t.Errorf("a decision %s was taken", name)
		}
	}
	diff(t, "plan after what was refused", w.plan(p.ID), got)
	if acts := w.acts(before); len(acts) != 0 {
		t.Errorf("audit rows of what was refused: %+v", acts)
	}

	w.clock.advance(time.Minute)
	back, err := w.DecidePlan(ctx, w.conn, p.ID, syncdb.Decision{From: any, To: syncdb.PlanOpen, Who: "ada", Why: "not sure"})
	must(t, err)
	diff(t, "plan opened again", back, with3(p, func(p *syncdb.Plan) { p.DecidedAt, p.DecidedBy, p.Why = w.clock.Now(), "ada", "not sure" }))
	if acts := w.acts(before); len(acts) != 1 || acts[0].Action != "hold.reopen" {
		t.Errorf("got audit rows %+v, want one of the reopening", acts)
	}
}

func closing(t *testing.T, w *world) {
	ctx := t.Context()
	l := w.start()
	states := []syncdb.PlanState{syncdb.PlanOpen, syncdb.PlanApproved, syncdb.PlanDiscarded, syncdb.PlanReleased, syncdb.PlanStale}
	for _, from := range states {
		for _, to := range []syncdb.PlanState{syncdb.PlanApplied, syncdb.PlanReleased, syncdb.PlanStale} {
			p, err := w.SavePlan(ctx, w.conn, syncdb.Plan{Kind: syncdb.PlanSaved, State: from, DecidedBy: "ada"}, some(planOp(1, "a")))
			must(t, err)
			allowed := from == to || from == syncdb.PlanOpen || from == syncdb.PlanApproved
			err = w.ClosePlan(ctx, l, p.ID, to)
			var state *syncdb.PlanStateError
			if allowed != (err == nil) || !allowed && (!errors.As(err, &state) || state.State != from) {
				t.Errorf("%s plan closed as %s: got %v, want allowed %t", from, to, err, allowed)
			}
			if !allowed {
				diff(t, "plan that could not be closed", w.plan(p.ID), p)
				continue
			}
			must(t, w.ClosePlan(ctx, l, p.ID, to)) // twice
			p.State = to
			if to == syncdb.PlanApplied {
				p.AppliedRun = l.RunID
			}
			diff(t, "closed plan", w.plan(p.ID), p)
			_, err = w.DecidePlan(ctx, w.conn, p.ID, syncdb.Decision{From: []syncdb.PlanState{syncdb.PlanOpen}, To: syncdb.PlanApproved, Who: "ada", Why: "too late"})
			if !errors.As(err, &state) || state.State != to {
				t.Errorf("decide on a plan that is %s: got %v, want a PlanStateError", to, err)
			}
		}
	}
	p, err := w.SavePlan(ctx, w.conn, syncdb.Plan{Kind: syncdb.PlanSaved}, some())
	must(t, err)
	for _, to := range []syncdb.PlanState{syncdb.PlanOpen, syncdb.PlanApproved, syncdb.PlanDiscarded, "perhaps"} {
		if err := w.ClosePlan(ctx, l, p.ID, to); err == nil {
			t.Errorf("a run made a plan %s", to)
		}
	}
	wantErr(t, "close a plan that is not there", w.ClosePlan(ctx, l, 1<<40, syncdb.PlanStale), syncdb.ErrNotFound)
	must(t, w.ClosePlan(ctx, l, p.ID, syncdb.PlanApplied))
	w.finish(l)
	l = w.start()
	var state *syncdb.PlanStateError
	if err := w.ClosePlan(ctx, l, p.ID, syncdb.PlanApplied); !errors.As(err, &state) {
		t.Errorf("a plan was applied by two runs: got %v", err)
	}
}

func narrowing(t *testing.T, w *world) {
	ctx := t.Context()
	l := w.start()
	abc := []syncdb.PlanOp{planOp(1, "a"), planOp(1, "b"), planOp(1, "c")}
	for _, kind := range []syncdb.PlanKind{syncdb.PlanHold, syncdb.PlanUndo} {
		for _, state := range []syncdb.PlanState{syncdb.PlanOpen, syncdb.PlanApproved, syncdb.PlanDiscarded, syncdb.PlanReleased, syncdb.PlanStale} {
			p, err := w.SavePlan(ctx, w.conn, syncdb.Plan{Kind: kind, State: state, DecidedBy: "ada", Rule: string(kind) + string(state), Mark: "pack:99", Counts: json.RawMessage(`{"delete":3}`)}, some(abc...))
			must(t, err)
			w.clock.advance(time.Second)
			asked := p
			asked.Counts, asked.Mark = json.RawMessage(`{"delete":2}`), ""
			got, err := w.NarrowPlan(ctx, l, asked, some(abc[2], abc[0]))
			if state != syncdb.PlanApproved && state != syncdb.PlanDiscarded {
				var other *syncdb.PlanStateError
				if !errors.As(err, &other) || other.State != state {
					t.Errorf("narrow a %s that is %s: got %v, want a PlanStateError", kind, state, err)
				}
				diff(t, "plan that was not narrowed", w.plan(p.ID), p)
				continue
			}
			must(t, err)
			want := asked
			want.Edition, want.Ops, want.UpdatedAt = 2, 2, w.clock.Now()
			diff(t, "narrowed plan", got, want)
			w.restart()
			diff(t, "narrowed plan, read", w.plan(p.ID), want)
			diff(t, "ops of the narrowed plan", w.ops(p.ID), inOrder([]syncdb.PlanOp{abc[0], abc[2]}))

			// Its own ops may be what it is narrowed to, one after the other.
			own := func(yield func(syncdb.PlanOp, error) bool) {
				stop := errors.New("enough")
				err := w.PlanOps(ctx, w.conn, p.ID, func(o syncdb.PlanOp) error {
					if o.KeyHash != abc[0].KeyHash && !yield(o, nil) {
						return stop
					}
					return nil
				})
				if err != nil && !errors.Is(err, stop) {
					yield(syncdb.PlanOp{}, err)
				}
			}
			got, err = w.NarrowPlan(ctx, l, got, own)
			must(t, err)
			want.Edition, want.Ops = 3, 1
			diff(t, "plan narrowed twice", got, want)

			// What was read before is not what there is now; an error or a lost lease changes nothing.
			_, err = w.NarrowPlan(ctx, l, asked, some())
			var edition *syncdb.PlanEditionError
			if !errors.As(err, &edition) || edition.Edition != 3 {
				t.Errorf("narrow an edition that is replaced: got %v, want a PlanEditionError", err)
			}
			damaged := errors.New("the spool is damaged")
			_, err = w.NarrowPlan(ctx, l, got, failingOps(damaged))
			wantErr(t, "narrow to ops that end with an error", err, damaged)
			w.finish(l)
			_, err = w.NarrowPlan(ctx, l, got, some())
			wantErr(t, "narrow under the last run's lease", err, syncdb.ErrFenced)
			l = w.start()
			diff(t, "plan after what was refused", w.plan(p.ID), want)

			released, err := w.NarrowPlan(ctx, l, got, some())
			must(t, err)
			want.State, want.Edition, want.Ops, want.Counts = syncdb.PlanReleased, 4, 0, nil
			diff(t, "plan without ops", released, want)
			diff(t, "ops of a plan without any", w.ops(p.ID), []syncdb.PlanOp{})
		}
	}
	_, err := w.NarrowPlan(ctx, l, syncdb.Plan{ID: 1 << 40}, some())
	wantErr(t, "narrow a plan that is not there", err, syncdb.ErrNotFound)
}

func releasing(t *testing.T, w *world) {
	ctx := t.Context()
	before := w.lastAct()
	undone, err := w.SavePlan(ctx, w.conn, syncdb.Plan{Kind: syncdb.PlanUndo, State: syncdb.PlanDiscarded, DecidedBy: "ada", RunID: 7}, some(planOp(1, "a")))
	must(t, err)
	discarded := []syncdb.PlanState{syncdb.PlanDiscarded}
	for _, to := range []syncdb.PlanState{syncdb.PlanOpen, syncdb.PlanApproved} {
		if _, err := w.DecidePlan(ctx, w.conn, undone.ID, syncdb.Decision{From: discarded, To: to, Who: "ada", Why: "x"}); err == nil {
			t.Errorf("what was undone became %s, which no run looks at", to)
		}
	}
	hold, err := w.SavePlan(ctx, w.conn, syncdb.Plan{Kind: syncdb.PlanHold, State: syncdb.PlanDiscarded, DecidedBy: "ada"}, some(planOp(1, "a")))
	must(t, err)
	if _, err := w.DecidePlan(ctx, w.conn, hold.ID, syncdb.Decision{From: discarded, To: syncdb.PlanReleased, Who: "ada", Why: "x"}); err == nil {
		t.Error("a person released a hold, which only a run can")
	}
	if acts := w.acts(before); len(acts) != 0 {
		t.Errorf("audit rows of what was refused: %+v", acts)
	}
	got, err := w.DecidePlan(ctx, w.conn, undone.ID, syncdb.Decision{From: discarded, To: syncdb.PlanReleased, Who: "bob", Why: "it was right"})
	must(t, err)
	diff(t, "what was undone, released", got, with3(undone, func(p *syncdb.Plan) {
		p.State, p.DecidedAt, p.DecidedBy, p.Why = syncdb.PlanReleased, w.clock.Now(), "bob", "it was right"
	}))
	if acts := w.acts(before); len(acts) != 1 || acts[0].Action != "undo.release" {
		t.Errorf("got audit rows %+v, want one of the release", acts)
	}
}

func planRetention(t *testing.T, w *world) {
	ctx := t.Context()
	began := w.clock.Now()
	save := func(kind syncdb.PlanKind, state syncdb.PlanState) syncdb.Plan {
		t.Helper()
		p := syncdb.Plan{Kind: kind, State: state}
		switch state {
		case syncdb.PlanApproved, syncdb.PlanDiscarded:
			p.DecidedBy = "ada"
		case syncdb.PlanApplied:
			p.AppliedRun = 1
		}
		saved, err := w.SavePlan(ctx, w.conn, p, some(planOp(1, "a")))
		must(t, err)
		return saved
	}
	done := []syncdb.Plan{
		save(syncdb.PlanSaved, syncdb.PlanApplied), save(syncdb.PlanHold, syncdb.PlanApplied), save(syncdb.PlanSaved, syncdb.PlanStale),
		save(syncdb.PlanHold, syncdb.PlanReleased), save(syncdb.PlanUndo, syncdb.PlanReleased),
	}
	wanted := []syncdb.Plan{
		save(syncdb.PlanSaved, syncdb.PlanOpen), save(syncdb.PlanHold, syncdb.PlanApproved), save(syncdb.PlanHold, syncdb.PlanDiscarded),
		save(syncdb.PlanUndo, syncdb.PlanDiscarded), save(syncdb.PlanUndo, syncdb.PlanApplied),
	}
	w.clock.advance(time.Hour)
	wanted = append(wanted, save(syncdb.PlanSaved, syncdb.PlanStale)) // younger
	purge := func(conn int64, before time.Time, want int) {
		t.Helper()
		n, err := w.PurgePlans(ctx, conn, before)
		must(t, err)
		if n != int64(want) {
			t.Errorf("purged %d plans, want %d", n, want)
		}
	}
	purge(w.conn, began, 0)
	purge(w.connect("other"), w.clock.Now(), 0)
	purge(w.conn, w.clock.Now(), len(done))
	purge(w.conn, w.clock.Now(), 0)
	for _, p := range done {
		p.Edition = 0
		diff(t, "plan whose ops were purged", w.plan(p.ID), p)
		wantErr(t, "ops that were purged", w.PlanOps(ctx, w.conn, p.ID, nil), syncdb.ErrNotFound)
	}
	for _, p := range wanted {
		diff(t, "ops of a plan that is still wanted", w.ops(p.ID), []syncdb.PlanOp{planOp(1, "a")})
	}
}
