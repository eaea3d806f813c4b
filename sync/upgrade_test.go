package sync_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/edfisync/edfisync/sync"
	"github.com/edfisync/edfisync/syncdb"
)

// What somebody decided under an older program is still decided under this one. Older programs did not say of a delete what its row asks for instead.

// olderLedger is written by an older program.
type olderLedger struct{ ledger }

func asOlder(ops iter.Seq2[syncdb.PlanOp, error]) iter.Seq2[syncdb.PlanOp, error] {
	return func(yield func(syncdb.PlanOp, error) bool) {
		for o, err := range ops {
			if o.Verb == syncdb.Delete {
				o.NewRecord, o.Alone = syncdb.Hash{}, false
			}
			if !yield(o, err) {
				return
			}
		}
	}
}

func (l olderLedger) SaveHold(ctx context.Context, lease syncdb.Lease, p syncdb.Plan, ops iter.Seq2[syncdb.PlanOp, error]) (syncdb.Plan, error) {
	p.Mark = ""
	return l.ledger.SaveHold(ctx, lease, p, asOlder(ops))
}

func (l olderLedger) SavePlan(ctx context.Context, conn int64, p syncdb.Plan, ops iter.Seq2[syncdb.PlanOp, error]) (syncdb.Plan, error) {
	return l.ledger.SavePlan(ctx, conn, p, asOlder(ops))
}

// AttemptsOfRun gives the history that an older program writes: of a create it does not say which key it replaces.
func (l olderLedger) AttemptsOfRun(ctx context.Context, conn, run int64, fn func(*syncdb.Attempt) error) error {
	return l.ledger.AttemptsOfRun(ctx, conn, run, func(a *syncdb.Attempt) error {
		if a.Verb == syncdb.Create {
			a.OldKeyHash = syncdb.Hash{}
		}
		return fn(a)
	})
}

// underOlder does something with a ledger that an older program writes.
func (w *world) underOlder(do func()) {
	w.t.Helper()
	whole := w.ledger
	w.ledger = olderLedger{whole}
	do()
	w.ledger = whole
}

// heldMoves is a world whose demographics of three students would move to another agency, which is a delete and a create each, and were held by an older
// program. No safeguard of this one holds them.
func heldMoves(t *testing.T) *world {
	t.Helper()
	w := newAgencies(t)
	w.options.Safeguards.Resources = map[string]sync.ResourceSafeguards{demographics: {Deletes: sync.Limit{Percent: 1, Count: 1}}}
	w.exec(`update demographic set agency = 2 where id < 4`)
	w.underOlder(func() { w.mustRun() })
	if h := w.oneHold(syncdb.PlanOpen); h.Ops != 3 {
		t.Fatalf("got %+v, want three deletes held", h)
	}
	w.options.Safeguards = lenient()
	return w
}

func TestUpgradeKeepsANoToAKeyChange(t *testing.T) {
	t.Parallel()
	decided := map[string]func(t *testing.T) (*world, syncdb.Plan){
		"discarded": func(t *testing.T) (*world, syncdb.Plan) {
			w := heldMoves(t)
			return w, w.decide(syncdb.PlanDiscarded)
		},
		"undone": func(t *testing.T) (*world, syncdb.Plan) {
			w := newAgencies(t)
			w.exec(`update demographic set agency = 2 where id < 4`)
			s, _ := w.mustRun()
			var u *sync.Undo
			w.underOlder(func() { u, _ = w.undo(sync.UndoOptions{Run: s.RunID, Who: "ada"}) })
			p, err := w.ledger.PlanByID(t.Context(), w.conn.ID, u.Kept)
			if err != nil {
				t.Fatal(err)
			}
			return w, p
		},
	}
	for said, decide := range decided {
		for _, tt := range rowChanges {
			t.Run(said+", "+tt.name, func(t *testing.T) {
				t.Parallel()
				w, p := decide(t)
				for run := range 3 {
					s, calls := w.mustRun()
					if len(calls) > 0 || s.Totals.Kept != 6 || s.Totals.Decided != 6 || len(s.Decided) != 1 || s.Decided[0].Ops != 6 {
						t.Fatalf("run %d: calls %v, totals %+v, not made %+v, want both calls of three rows kept back", run+1, calls, s.Totals, s.Decided)
					}
				}
				if got, err := w.ledger.PlanByID(t.Context(), w.conn.ID, p.ID); err != nil || got.State != syncdb.PlanDiscarded {
					t.Errorf("got %+v, %v, want it still decided", got, err)
				}
				w.afterChange(tt)
			})
		}
	}
}

// The old program kept the record of such a row as it was whatever the row asked for, so the first run of this one does.
func TestUpgradeKeepsANoWhileTheRowIsNotWhatItWas(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		then func(w *world)
	}{
		{"it breaks rules", func(w *world) {
			w.exec(`update demographic set login = replace(hex(zeroblob(200)), '0', 'x') where id = 1`)
			w.mustRun()
			w.exec(`update demographic set login = 'login1' where id = 1`)
		}},
		{"it asks for something else", func(w *world) { w.exec(`update demographic set agency = 3 where id = 1`) }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := heldMoves(t)
			w.decide(syncdb.PlanDiscarded)
			tt.then(w)
			w.mustRun()
			w.converged()
			if diff := cmp.Diff(w.demographic("S0001"), []string{"1 login1"}); diff != "" {
				t.Errorf("records of the row (-got +want):\n%s", diff)
			}
		})
	}
}

// A delete whose row was gone is one whose row asks for nothing: that it did is known after the first run of this program.
func TestUpgradeKeepsANoToADeleteUntilItsRowIsBack(t *testing.T) {
	t.Parallel()
	w := newAgencies(t)
	w.options.Safeguards.Resources = map[string]sync.ResourceSafeguards{demographics: {Deletes: sync.Limit{Percent: 1, Count: 1}}}
	w.exec(`delete from demographic where id < 4`)
	w.underOlder(func() { w.mustRun() })
	w.options.Safeguards = lenient()
	w.decide(syncdb.PlanDiscarded)
	w.converged()
	w.converged()
	w.exec(`insert into demographic values (1, 1, 2, 'login1')`)
	w.mustRun()
	if diff := cmp.Diff(w.demographic("S0001"), []string{"2 login1"}); diff != "" {
		t.Errorf("records of the row that is back (-got +want):\n%s", diff)
	}
	if diff := cmp.Diff(w.demographic("S0002"), []string{"1 login2"}); diff != "" {
		t.Errorf("records of one that is not (-got +want):\n%s", diff)
	}
	w.converged()
}

// What was approved is made, and nobody is asked again.
func TestUpgradeKeepsAYesToAKeyChange(t *testing.T) {
	t.Parallel()
	for name, later := range map[string]func(w *world){
		"approved before the upgrade": func(*world) {},
		"approved after it":           func(w *world) { w.mustRun() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := heldMoves(t)
			held := w.options.Safeguards
			held.Resources = map[string]sync.ResourceSafeguards{demographics: {Deletes: sync.Limit{Percent: 1, Count: 1}}}
			w.options.Safeguards = held
			later(w)
			if h := w.oneHold(syncdb.PlanOpen); h.Ops != 3 {
				t.Fatalf("got %+v, want it still open", h)
			}
			w.decide(syncdb.PlanApproved)
			s, calls := w.mustRun()
			if diff := cmp.Diff(tally(calls), map[string]int{"POST " + demographics: 3, "DELETE " + demographics: 3}); diff != "" || len(s.HeldBack) > 0 {
				t.Errorf("held back %+v, calls (-got +want):\n%s", s.HeldBack, diff)
			}
			if len(w.holds(syncdb.PlanApplied)) != 1 || len(w.holds(syncdb.PlanOpen)) != 0 {
				t.Errorf("got holds %+v, want the one applied", append(w.holds(syncdb.PlanApplied), w.holds(syncdb.PlanOpen)...))
			}
			w.converged()
		})
	}
}

// A saved plan is made as it was approved, or not at all.
func TestUpgradeKeepsASavedPlan(t *testing.T) {
	t.Parallel()
	for _, changed := range []bool{false, true} {
		t.Run(fmt.Sprintf("changed since %t", changed), func(t *testing.T) {
			t.Parallel()
			w := newAgencies(t)
			w.exec(`update demographic set agency = 2 where id < 4`)
			var saved *sync.SavedPlan
			w.underOlder(func() { saved = w.save() })
			if changed {
				w.exec(`update demographic set agency = 3 where id = 1`)
			}
			_, calls, err := w.apply(saved.ID)
			var stale *sync.StalePlanError
			switch {
			case changed && (!errors.As(err, &stale) || len(calls) > 0 || stale.Counts[sync.SourceChanged] == 0):
				t.Errorf("got calls %v, %v, want a stale plan", calls, err)
			case !changed && err != nil:
				t.Error(err)
			case !changed:
				if diff := cmp.Diff(tally(calls), map[string]int{"POST " + demographics: 3, "DELETE " + demographics: 3}); diff != "" {
					t.Errorf("calls (-got +want):\n%s", diff)
				}
			}
			w.mustRun()
			w.converged()
		})
	}
}

// A run of an older program is undone by this one.
func TestUpgradeKeepsBothHalvesOfAKeyChangeForAnUndo(t *testing.T) {
	t.Parallel()
	w := newAgencies(t)
	w.exec(`update demographic set agency = 2 where id = 1`)
	s, _ := w.mustRun()
	w.underOlder(func() { w.undo(sync.UndoOptions{Run: s.RunID, Who: "ada"}) })
	for range 2 {
		if diff := cmp.Diff(w.demographic("S0001"), []string{"1 login1"}); diff != "" {
			t.Errorf("records of the row (-got +want):\n%s", diff)
		}
		w.converged()
	}
}

// A hold of a source that is behind was approved before an approval accepted the source's state: its deletes are made, and nothing more is accepted (I5c).
func TestUpgradeKeepsAYesToDeletesOfASourceThatIsBehind(t *testing.T) {
	t.Parallel()
	for name, reopened := range map[string]bool{"approved before the upgrade": false, "held once more after it": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := markedWorld(t)
			w.exec(`update clock set seen = 99`)
			w.exec(`delete from demographic where id > 28`)
			w.underOlder(func() { w.mustRun() })
			seen := w.oneHold(syncdb.PlanOpen)
			if reopened {
				w.mustRun()
				if h := w.oneHold(syncdb.PlanOpen); h.Edition == seen.Edition {
					t.Errorf("got %+v: to approve it accepts more than it did, and it is the same edition", h)
				}
			}
			w.decide(syncdb.PlanApproved)
			w.exec(`delete from demographic where id = 28`)
			s, calls := w.mustRun()
			if reopened {
				if len(calls) != 3 || len(s.HeldBack) != 0 || w.mark() != "pack:99" {
					t.Errorf("got calls %v, held back %v, watermark %q; want the state accepted", calls, s.HeldBack, w.mark())
				}
			} else if len(calls) != 2 || len(s.HeldBack) != 1 || s.HeldBack[0].Ops != 1 || w.mark() != "pack:101" {
				t.Errorf("got calls %v, held back %v, watermark %q; want the two approved deletes and the third held", calls, s.HeldBack, w.mark())
			}
		})
	}
}
