package sync_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/edfisync/edfisync/sync"
	"github.com/edfisync/edfisync/syncdb"
)

// errandCases are what a person does himself, by reason: prepare makes what must be so before, and returns how it is done. It never has to do with
// students 1 and 2.
func errandCases() map[string]func(w *world) (do func(ctx context.Context, e *sync.Engine) error) {
	return map[string]func(w *world) func(context.Context, *sync.Engine) error{
		"adopt": func(*world) func(context.Context, *sync.Engine) error {
			return func(ctx context.Context, e *sync.Engine) error {
				_, err := e.Adopt(ctx, sync.AdoptOptions{})
				return err
			}
		},
		"undo": func(w *world) func(context.Context, *sync.Engine) error {
			w.exec(`update student set last = 'Undone' where id = 3`)
			s, _ := w.mustRun()
			return func(ctx context.Context, e *sync.Engine) error {
				_, err := e.Undo(ctx, sync.UndoOptions{Run: s.RunID, Who: "ada"})
				return err
			}
		},
		"sync-one": func(w *world) func(context.Context, *sync.Engine) error {
			w.exec(`update student set last = 'Alone' where id = 3`)
			return func(ctx context.Context, e *sync.Engine) error {
				_, err := e.SendOne(ctx, student("S0003"))
				return err
			}
		},
		"apply": func(w *world) func(context.Context, *sync.Engine) error {
			w.exec(`update student set last = 'Planned' where id = 3`)
			saved := w.save()
			return func(ctx context.Context, e *sync.Engine) error {
				e.Options.Apply = saved.ID
				_, err := e.Run(ctx)
				return err
			}
		},
	}
}

// A run that somebody asked for is done, whatever a person does himself before it: that is a run of its own (F60).
func TestARunThatWaitsIsDoneAfterAnErrand(t *testing.T) {
	t.Parallel()
	for reason, prepare := range errandCases() {
		for what, scope := range map[string]syncdb.RunScope{
			"everything": {},
			"students":   {Parts: []syncdb.ScopePart{{Resource: "ed-fi/students"}}},
		} {
			t.Run(reason+" before a run of "+what, func(t *testing.T) {
				t.Parallel()
				w := newWorldWithHistory(t, 4)
				do := prepare(w)
				asked, _, err := w.ledger.RequestScoped(t.Context(), w.conn.ID, "api", scope)
				if err != nil {
					t.Fatal(err)
				}
				e, closeAll := w.engine()
				defer closeAll()

				if err := do(t.Context(), e); err != nil {
					t.Fatal(err)
				}

				runs := w.runs()
				if own := runs[0]; own.ID <= asked.ID || own.Reason != reason || !own.Errand || own.State != syncdb.RunDone || !own.Scope.All() {
					t.Errorf("the errand is %+v, want a run of its own that is done", own)
				}
				kept := runs[slices.IndexFunc(runs, func(r syncdb.Run) bool { return r.ID == asked.ID })]
				if kept.State != syncdb.RunWaiting || kept.Reason != "api" {
					t.Errorf("the run that was asked for is %+v, want it to wait", kept)
				}
				w.exec(`update student set last = 'Changed' where id in (1, 2)`)
				e.Options.Apply, e.Options.Waiting = 0, true
				s, err := e.Run(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if s.RunID != asked.ID || s.Updated < 2 || !s.Scope.Covers(scope) || !scope.Covers(s.Scope) {
					t.Errorf("run %d, with scope %v, updated %d records; want run %d to send what was asked for", s.RunID, s.Scope, s.Updated, asked.ID)
				}
				if _, err := e.Run(t.Context()); !errors.Is(err, syncdb.ErrNoRun) {
					t.Errorf("after that: got %v, want no run to wait", err)
				}
			})
		}
	}
}

// Who cannot begin because a run is in progress leaves nothing behind: a worker would make a sync of it, and nobody asked for one.
func TestAnErrandThatCannotBeginAsksForNoRun(t *testing.T) {
	t.Parallel()
	for reason, prepare := range errandCases() {
		t.Run(reason, func(t *testing.T) {
			t.Parallel()
			w := newWorldWithHistory(t, 4)
			do := prepare(w)
			ctx := t.Context()
			if _, _, err := w.ledger.RequestRun(ctx, w.conn.ID, "api"); err != nil {
				t.Fatal(err)
			}
			if _, _, err := w.ledger.StartRun(ctx, w.conn.ID, "another process", time.Hour); err != nil {
				t.Fatal(err)
			}
			before := w.runs()
			e, closeAll := w.engine()
			defer closeAll()
			w.front.take()

			var busy *syncdb.BusyError
			if err := do(ctx, e); !errors.As(err, &busy) {
				t.Errorf("got %v, want a BusyError", err)
			}

			if after := w.runs(); len(after) != len(before) {
				t.Errorf("it left %+v", after[0])
			}
			if calls := w.front.take(); len(calls) > 0 {
				t.Errorf("it made the calls %v", calls)
			}
		})
	}
}

// An errand whose process dies is marked, and the run that comes next does what it was asked for and no more of it.
func TestAnErrandThatDiesIsNotGoneOnWithAsASync(t *testing.T) {
	t.Parallel()
	for reason, prepare := range errandCases() {
		t.Run(reason, func(t *testing.T) {
			t.Parallel()
			w := newWorldWithHistory(t, 4)
			prepare(w)
			ctx := t.Context()
			lost, _, err := w.ledger.StartErrand(ctx, w.conn.ID, reason, "a process that dies", time.Nanosecond)
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Millisecond) // its lease and the grace
			e, closeAll := w.engine()
			defer closeAll()
			e.Options.Waiting = true
			if _, err := e.Run(ctx); !errors.Is(err, syncdb.ErrNoRun) {
				t.Errorf("got %v, want no run to wait", err)
			}
			if r := w.runs()[0]; r.ID != lost.ID || r.State != syncdb.RunFailed || r.Error != syncdb.LostErrand {
				t.Errorf("the newest run is %+v, want the lost errand, marked", r)
			}
		})
	}
}

// What belongs to another connection of the ledger is not there for this one, whatever number somebody gives (I13).
func TestAnErrandAboutAnotherConnectionsRunOrPlanIsRefused(t *testing.T) {
	t.Parallel()
	for reason, do := range map[string]func(ctx context.Context, e *sync.Engine, run, plan int64) error{
		"undo": func(ctx context.Context, e *sync.Engine, run, _ int64) error {
			_, err := e.Undo(ctx, sync.UndoOptions{Run: run, Who: "eve", Why: "to harm"})
			return err
		},
		"apply": func(ctx context.Context, e *sync.Engine, _, plan int64) error {
			e.Options.Apply = plan
			_, err := e.Run(ctx)
			return err
		},
	} {
		t.Run(reason, func(t *testing.T) {
			t.Parallel()
			w := newWorldWithHistory(t, 4)
			w.exec(`update student set last = 'Theirs' where id = 3`)
			s, _ := w.mustRun()
			w.exec(`update student set last = 'Planned' where id = 4`)
			saved := w.save()
			theirs := w.conn
			other, ring, err := w.ledger.Connection(t.Context(), "other", "tiny")
			if err != nil {
				t.Fatal(err)
			}
			w.conn, w.ring = other, ring
			e, closeAll := w.engine()
			defer closeAll()
			w.front.take()
			err = do(t.Context(), e, s.RunID, saved.ID)
			if !errors.Is(err, syncdb.ErrNoRun) && !errors.Is(err, syncdb.ErrNotFound) {
				t.Errorf("got %v, want that there is none", err)
			}
			if calls := w.front.take(); len(calls) > 0 {
				t.Errorf("it made the calls %v", calls)
			}
			if p, err := w.ledger.PlanByID(t.Context(), theirs.ID, saved.ID); err != nil || p.State != syncdb.PlanApproved {
				t.Errorf("the other connection's plan is %+v, %v", p, err)
			}
		})
	}
}

func (w *world) runs() []syncdb.Run {
	w.t.Helper()
	runs, err := w.ledger.Runs(w.t.Context(), w.conn.ID, 0)
	if err != nil {
		w.t.Fatal(err)
	}
	return runs
}
