package sync

import (
	"context"
	"errors"
	"fmt"
)

// UndoOptions say which run to undo, and who wants it.
type UndoOptions struct {
	Run  int64
	Plan bool // only count: nothing is written
	Who  string
	Why  string // required when a safeguard would hold what the undo makes
}

// Undo is what undoing a run comes to.
type Undo struct {
	Run       int64          `json:"undone"`        // the run that is undone
	By        int64          `json:"run,omitempty"` // the run that did it; 0 when it was only planned
	Planned   bool           `json:"planned,omitempty"`
	Resources []ResourceUndo `json:"resources"`
	// NotKept is how many of the run's calls the history does not have: history was off, is gone by now, or the process was killed.
	NotKept int64 `json:"notKept,omitempty"`
	// Held is what safeguards would hold of the calls if a run made them. An undo makes them, when somebody says why.
	Held []HeldPart `json:"held,omitempty"`
	// Kept is the number of the plan that keeps the next run from doing the same again.
	Kept    int64    `json:"plan,omitempty"`
	Summary *Summary `json:"summary,omitempty"` // what came of the calls
}

// ResourceUndo is the part of one resource: calls by what they do, and records left as they are, by reason.
type ResourceUndo struct {
	Resource string            `json:"resource"`
	Delete   int64             `json:"delete"`   // records the run created
	Restore  int64             `json:"restore"`  // records the run updated, or moved to another natural key
	Recreate int64             `json:"recreate"` // records the run deleted; they get new ids
	Left     map[LeftOut]int64 `json:"left,omitempty"`
}

// Writes returns how many calls the undo makes.
func (u *Undo) Writes() int64 {
	var n int64
	for _, r := range u.Resources {
		n += r.Delete + r.Restore + r.Recreate
	}
	return n
}

// LeftOut returns how many records are left as they are although the run changed them.
func (u *Undo) LeftOut() int64 {
	var n int64
	for _, r := range u.Resources {
		for _, left := range r.Left {
			n += left
		}
	}
	return n
}

// undoReason is why a run was asked for that undoes another one.
const undoReason = "undo"

// HeldUndoError refuses an undo of which a safeguard would hold a part, because nobody said why it has to be. Nothing was written.
type HeldUndoError struct {
	Run  int64
	Held []HeldPart
}

// Error names what would be held.
func (e *HeldUndoError) Error() string {
	text := fmt.Sprintf("run %d is not undone without a reason, for a safeguard would hold a part of it", e.Run)
	for _, h := range e.Held {
		text += fmt.Sprintf("; %s (%d calls): %s", h.What(), h.Ops, h.Reason)
	}
	return text
}

// ErrNothingKept says that the history holds no call of a run.
var ErrNothingKept = errors.New("the history holds no call of that run: it made none, or it was too long ago (history in the configuration)")

// Undo brings the records a run wrote back to what they were before it, from the sealed history: what it created is deleted, what it updated gets its
// previous content, what it deleted is created again, under a new id. Records that were written since, and those of which nothing earlier is kept,
// stay as they are and are counted. It is a run of its own, through the same journal and in the same order as any (I3, I6); it does not read the
// source. The next runs do not do what was undone again until its rows change. Nothing is deleted of a resource under prevent_delete, nothing is written
// while the target's reset is not dealt with, and more calls than the safeguards allow need a reason (*HeldUndoError).
func (e *Engine) Undo(ctx context.Context, uo UndoOptions) (*Undo, error) {
	o := e.options()
	o.RetryRejected = true
	p := newProgress(e.Progress)
	defer p.stop()
	if uo.Plan || uo.Why == "" {
		planned, err := e.planUndo(ctx, o, uo)
		if err != nil || uo.Plan {
			return planned, err
		}
		if len(planned.Held) > 0 {
			return planned, &HeldUndoError{Run: uo.Run, Held: planned.Held}
		}
	}
	var out *Undo
	err := e.errand(ctx, o, undoReason, p, func(ctx context.Context, k *keeper, s *Summary) error {
		dir, err := e.spoolDir(o.WorkDir)
		if err != nil {
			return err
		}
		defer dir.remove()
		u, err := e.newUndoing(ctx, o, uo, k, dir)
		if err != nil {
			return err
		}
		defer closeAll(u.found)
		if len(u.out.Held) > 0 && uo.Why == "" {
			return &HeldUndoError{Run: uo.Run, Held: u.out.Held} // the ledger changed since it was planned
		}
		out = u.out
		out.By, out.Planned, out.Summary = s.RunID, false, s
		return u.send(ctx, k, p, s)
	})
	return out, err
}

// planUndo says what an undo comes to. It writes nothing.
func (e *Engine) planUndo(ctx context.Context, o Options, uo UndoOptions) (*Undo, error) {
	dir, err := e.errandDir(o.WorkDir, nil)
	if err != nil {
		return nil, err
	}
	defer dir.remove()
	u, err := e.newUndoing(ctx, o, uo, nil, dir)
	if err != nil {
		return nil, err
	}
	defer closeAll(u.found)
	return u.out, nil
}
