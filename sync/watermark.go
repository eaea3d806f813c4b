package sync

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/edfisync/edfisync/source"
	"github.com/edfisync/edfisync/syncdb"
)

// behind says why the source is not trusted to tell what is gone: its snapshot is of an older state than that of an earlier complete scan (F40,
// I5c). "" = it is as new, or nothing tells.
func behind(found []*scanned, mark string) string {
	n := 0
	for _, r := range found {
		if !r.off && source.Behind(r.noted.ScanMark, mark) {
			n++
		}
	}
	if n == 0 {
		return ""
	}
	kind, _, _ := strings.Cut(mark, ":")
	return fmt.Sprintf("the source's watermark (%s) is older than an earlier run has seen, for %d of %d resources", kind, n, len(found))
}

// saveMarks notes the watermark of a complete scan. It never goes back (I10) but by trust.
func (e *Engine) saveMarks(ctx context.Context, k *keeper, found []*scanned, mark string) error {
	if mark == "" {
		return nil
	}
	for _, r := range found {
		switch {
		case r.off:
			continue
		case r.scope != nil:
			r.scope.ScanMark = mark // written before the first entry
			continue
		case r.noted.ScanMark == mark, source.Behind(r.noted.ScanMark, mark):
			continue
		}
		r.noted.ScanMark = mark
		if err := e.Ledger.SetScope(ctx, k.current(), r.noted); err != nil {
			return fmt.Errorf("note the watermark of %s: %w", r.Path, err)
		}
	}
	return nil
}

// covers reports whether a watermark is of the state that was accepted, or of a later one. Marks of two kinds say nothing of each other.
func covers(accepted, mark string) bool {
	kind, _, _ := strings.Cut(accepted, ":")
	now, _, _ := strings.Cut(mark, ":")
	return accepted != "" && kind == now && !source.Behind(accepted, mark)
}

// heldMark is the watermark a hold of a source that is behind is opened under. It stays the same while the source goes on from there, so that whoever
// looked at the hold has seen it (I8).
func heldMark(open []syncdb.Plan, mark string) string {
	for _, h := range open {
		if h.Rule == string(RuleSourceBehind) && covers(h.Mark, mark) {
			return h.Mark
		}
	}
	return mark
}

// acceptances are the holds of a source that was behind which somebody has approved, and no run has gone on from since: what is approved with them is
// that the source is right, though it shows an older state than before.
func (e *Engine) acceptances(ctx context.Context) ([]syncdb.Plan, error) {
	approved, err := e.Ledger.Plans(ctx, e.Connection.ID, syncdb.PlanFilter{Kind: syncdb.PlanHold, States: []syncdb.PlanState{syncdb.PlanApproved}})
	if err != nil {
		return nil, fmt.Errorf("read what was approved: %w", err)
	}
	return slices.DeleteFunc(approved, func(h syncdb.Plan) bool { return h.Rule != string(RuleSourceBehind) || h.Mark == "" }), nil
}

// accepted reports whether somebody has accepted the state the source shows: that of a hold they approved, or a later one, and none that is older still (I5c).
func accepted(acceptances []syncdb.Plan, mark string) bool {
	return slices.ContainsFunc(acceptances, func(h syncdb.Plan) bool { return covers(h.Mark, mark) })
}

// trust says what the source is trusted for, and notes what a person accepted of it: the marks go back to where the source is, which nothing else does
// (I10), and then the acceptance ends, for it is of one restored source and not of every one to come. A run that is cut off between the two leaves marks
// that the next one finds right.
func (e *Engine) trust(ctx context.Context, k *keeper, found []*scanned, st standing) (standing, error) {
	if st.alarm != "" {
		return st, nil
	}
	said, err := e.acceptances(ctx)
	if err != nil || len(said) == 0 || st.behind != "" && !accepted(said, st.mark) {
		return st, err
	}
	st.behind = ""
	for _, r := range found {
		if r.off || !source.Behind(r.noted.ScanMark, st.mark) {
			continue
		}
		r.noted.ScanMark = st.mark
		if err := e.Ledger.SetScope(ctx, k.current(), r.noted); err != nil {
			return st, fmt.Errorf("note the watermark of %s: %w", r.Path, err)
		}
	}
	for _, h := range said {
		h.Mark = ""
		_, err := e.Ledger.NarrowPlan(ctx, k.current(), h, e.opsOf(ctx, h.ID, func(o syncdb.PlanOp) (syncdb.PlanOp, bool) { return o, true }))
		var state *syncdb.PlanStateError
		var edition *syncdb.PlanEditionError
		if err != nil && !errors.As(err, &state) && !errors.As(err, &edition) { // a person decided otherwise meanwhile
			return st, fmt.Errorf("end what was accepted with hold %d: %w", h.ID, err)
		}
		e.logger().Info("the source's state is accepted, as approved", slog.Int64("hold", h.ID), slog.String("who", h.DecidedBy))
	}
	return st, nil
}
