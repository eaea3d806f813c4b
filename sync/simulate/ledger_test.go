package simulate

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"time"

	"github.com/edfisync/edfisync/sync"
	"github.com/edfisync/edfisync/syncdb"
)

// ledger is a process's way to the ledger: what it asks may fail before or after it took effect, take a while, or reach nobody.
type ledger struct {
	sync.Ledger
	p *process
}

var _ sync.Ledger = (*ledger)(nil)

var errDatabase = errors.New("ledger: connection reset by peer")

// do runs one operation of the ledger: what, and of which resource or step, "" for none.
func (l *ledger) do(ctx context.Context, what, of string, fn func() error) error {
	p := l.p
	n := p.attempt("ledger", what, of)
	label := what
	if of != "" && (p.w.gate.on() || p.w.plan.verbose) { // else nobody reads it
		label += " " + of
	}
	p.w.gate.pass(p.name, "ledger", label, n)
	late, err := p.enter()
	if err != nil {
		return err
	}
	if p.cutFor > 0 {
		now := time.Duration(time.Now().UnixNano())
		if now >= p.cutFrom && now < p.cutFrom+p.cutFor {
			p.hit()
			p.w.trace("ledger", p.name, label, "cut")
			return errCut
		}
	}
	r := p.w.rollCall(p.name, "ledger", what, of, n)
	if d := r.IntN(8); d < 3 {
		time.Sleep(time.Duration(1+r.IntN(40)) * 100 * time.Microsecond)
		p.w.gate.pass(p.name, "ledger, later", label, n)
	}
	fails := r.Float64() < p.database
	after := r.IntN(2) == 0
	diceCup.Put(r)
	if fails && !after {
		p.hit()
		p.w.note("%s: %s fails", p.name, label)
		p.w.trace("ledger", p.name, label, "fails")
		return errDatabase
	}
	if p.isDead() {
		return errDead
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	err = fn()
	if p.w.gate.on() {
		p.w.trace("ledger", p.name, label, fmt.Sprint(err))
	}
	if late {
		p.dieNow()
		return errDead
	}
	if fails && err == nil {
		p.hit()
		p.w.note("%s: %s takes effect, its answer is lost", p.name, label)
		return errDatabase
	}
	return err
}

func (l *ledger) RequestScoped(ctx context.Context, conn int64, reason string, scope syncdb.RunScope) (run syncdb.Run, joined bool, err error) {
	err = l.do(ctx, "RequestRun", "", func() (err error) { run, joined, err = l.Ledger.RequestScoped(ctx, conn, reason, scope); return })
	return
}

func (l *ledger) StartRun(ctx context.Context, conn int64, holder string, ttl time.Duration) (run syncdb.Run, lease syncdb.Lease, err error) {
	err = l.do(ctx, "StartRun", "", func() (err error) {
		run, lease, err = l.Ledger.StartRun(ctx, conn, holder, ttl)
		if err == nil {
			l.p.w.hold(l.p)
			err = l.p.seeHolds(ctx)
		}
		return
	})
	return
}

func (l *ledger) StartErrand(ctx context.Context, conn int64, reason, holder string, ttl time.Duration) (run syncdb.Run, lease syncdb.Lease, err error) {
	err = l.do(ctx, "StartErrand", "", func() (err error) {
		run, lease, err = l.Ledger.StartErrand(ctx, conn, reason, holder, ttl)
		if err == nil {
			l.p.w.hold(l.p)
		}
		return
	})
	return
}

func (l *ledger) Renew(ctx context.Context, lease syncdb.Lease) (renewed syncdb.Lease, cancel bool, err error) {
	renewed = lease
	err = l.do(ctx, "Renew", "", func() (err error) { renewed, cancel, err = l.Ledger.Renew(ctx, lease); return })
	if err != nil {
		return lease, false, err
	}
	return
}

func (l *ledger) SaveStep(ctx context.Context, lease syncdb.Lease, s syncdb.Step) error {
	return l.do(ctx, "SaveStep", strconv.Itoa(s.Position), func() error { return l.Ledger.SaveStep(ctx, lease, s) })
}

func (l *ledger) NoteFailure(ctx context.Context, lease syncdb.Lease, failure string) error {
	return l.do(ctx, "NoteFailure", "", func() error { return l.Ledger.NoteFailure(ctx, lease, failure) })
}

func (l *ledger) FinishRun(ctx context.Context, lease syncdb.Lease, state syncdb.RunState, totals json.RawMessage, text string) error {
	return l.do(ctx, "FinishRun", "", func() error { return l.Ledger.FinishRun(ctx, lease, state, totals, text) })
}

// announced names what an intent announces.
func announced(in *syncdb.Intent) string {
	if in.Verb == syncdb.Create {
		return "POST " + in.Resource + " " + hex.EncodeToString(in.KeyHash[:])
	}
	if in.Verb == syncdb.Delete {
		return "DELETE " + in.Resource + " " + in.EdfiID
	}
	return "PUT " + in.Resource + " " + in.EdfiID
}

func (l *ledger) Append(ctx context.Context, lease syncdb.Lease, step int, intents []syncdb.Intent, results []syncdb.Result) error {
	return l.do(ctx, "Append", strconv.Itoa(step), func() error {
		if err := l.Ledger.Append(ctx, lease, step, intents, results); err != nil {
			return err
		}
		p := l.p
		p.mu.Lock()
		defer p.mu.Unlock()
		for i := range intents {
			what := announced(&intents[i])
			p.intents[what]++
			p.byOp[intents[i].Op] = what
		}
		for _, r := range results {
			if r.Effect == syncdb.EffectUnknown {
				p.w.leaveUnclear(p.conn, p.byOp[r.Op])
			}
			if p.intents[p.byOp[r.Op]]--; p.intents[p.byOp[r.Op]] <= 0 {
				delete(p.intents, p.byOp[r.Op])
			}
			delete(p.byOp, r.Op)
		}
		return nil
	})
}

func (l *ledger) Fold(ctx context.Context, lease syncdb.Lease, step int) (n int, err error) {
	err = l.do(ctx, "Fold", strconv.Itoa(step), func() (err error) { n, err = l.Ledger.Fold(ctx, lease, step); return })
	return
}

func (l *ledger) Recover(ctx context.Context, lease syncdb.Lease) (s syncdb.RecoverStats, err error) {
	err = l.do(ctx, "Recover", "", func() (err error) { s, err = l.Ledger.Recover(ctx, lease); return })
	return
}

func (l *ledger) Count(ctx context.Context, conn int64, resource string) (n int64, err error) {
	err = l.do(ctx, "Count", resource, func() (err error) { n, err = l.Ledger.Count(ctx, conn, resource); return })
	return
}

func (l *ledger) Hashes(ctx context.Context, conn int64, resource string, fn func(key, record, source syncdb.Hash, state syncdb.State) error) error {
	return l.do(ctx, "Hashes", resource, func() error { return l.Ledger.Hashes(ctx, conn, resource, fn) })
}

func (l *ledger) Each(ctx context.Context, conn int64, resource string, fn func(*syncdb.Entry) error) error {
	return l.do(ctx, "Each", resource, func() error { return l.Ledger.Each(ctx, conn, resource, fn) })
}

func (l *ledger) OwnedElsewhere(ctx context.Context, conn int64, resource string, fn func(string) error) error {
	return l.do(ctx, "OwnedElsewhere", resource, func() error { return l.Ledger.OwnedElsewhere(ctx, conn, resource, fn) })
}

func (l *ledger) Lookup(ctx context.Context, conn int64, resource string, keys []syncdb.Hash) (found map[syncdb.Hash]syncdb.Entry, err error) {
	err = l.do(ctx, "Lookup", resource, func() (err error) { found, err = l.Ledger.Lookup(ctx, conn, resource, keys); return })
	return
}

func (l *ledger) Scope(ctx context.Context, conn int64, resource string) (s syncdb.Scope, err error) {
	err = l.do(ctx, "Scope", resource, func() (err error) { s, err = l.Ledger.Scope(ctx, conn, resource); return })
	return
}

func (l *ledger) SetScope(ctx context.Context, lease syncdb.Lease, s syncdb.Scope) error {
	return l.do(ctx, "SetScope", s.Resource, func() error { return l.Ledger.SetScope(ctx, lease, s) })
}

func (l *ledger) Claim(ctx context.Context, lease syncdb.Lease, resource string, updates []syncdb.Entry) error {
	return l.do(ctx, "Claim", resource, func() error { return l.Ledger.Claim(ctx, lease, resource, updates) })
}

func (l *ledger) PutEntries(ctx context.Context, lease syncdb.Lease, resource string, entries []syncdb.Entry) error {
	return l.do(ctx, "PutEntries", resource, func() error { return l.Ledger.PutEntries(ctx, lease, resource, entries) })
}

func (l *ledger) SaveProblems(ctx context.Context, lease syncdb.Lease, problems []syncdb.Problem) error {
	return l.do(ctx, "SaveProblems", about(problems), func() error { return l.Ledger.SaveProblems(ctx, lease, problems) })
}

func about(problems []syncdb.Problem) string {
	if len(problems) == 0 {
		return ""
	}
	return fmt.Sprintf("%s %x", problems[0].Resource, problems[0].SourceHash)
}

func (l *ledger) CloseProblemsOf(ctx context.Context, lease syncdb.Lease, resource string, sources []syncdb.Hash) (n int, err error) {
	err = l.do(ctx, "CloseProblemsOf", resource, func() (err error) { n, err = l.Ledger.CloseProblemsOf(ctx, lease, resource, sources); return })
	return
}

func (l *ledger) KeepProblems(ctx context.Context, lease syncdb.Lease, resource string, sources []syncdb.Hash) error {
	return l.do(ctx, "KeepProblems", resource, func() error { return l.Ledger.KeepProblems(ctx, lease, resource, sources) })
}

func (l *ledger) SaveRanking(ctx context.Context, lease syncdb.Lease, ranks map[int64]syncdb.Rank) error {
	return l.do(ctx, "SaveRanking", "", func() error { return l.Ledger.SaveRanking(ctx, lease, ranks) })
}

func (l *ledger) CloseProblems(ctx context.Context, lease syncdb.Lease, resources []string) (n int, err error) {
	err = l.do(ctx, "CloseProblems", "", func() (err error) { n, err = l.Ledger.CloseProblems(ctx, lease, resources); return })
	return
}

func (l *ledger) Rejected(ctx context.Context, conn int64, resource string) (found map[syncdb.Hash]syncdb.Hash, err error) {
	err = l.do(ctx, "Rejected", resource, func() (err error) { found, err = l.Ledger.Rejected(ctx, conn, resource); return })
	return
}

func (l *ledger) DropProblems(ctx context.Context, lease syncdb.Lease, resource string, sources []syncdb.Hash) (n int, err error) {
	err = l.do(ctx, "DropProblems", resource, func() (err error) { n, err = l.Ledger.DropProblems(ctx, lease, resource, sources); return })
	return
}

func (l *ledger) SaveAttempts(ctx context.Context, lease syncdb.Lease, attempts []syncdb.Attempt) error {
	return l.do(ctx, "SaveAttempts", "", func() error { return l.Ledger.SaveAttempts(ctx, lease, attempts) })
}

func (l *ledger) SaveReceipt(ctx context.Context, lease syncdb.Lease, r syncdb.Receipt) error {
	return l.do(ctx, "SaveReceipt", "", func() error { return l.Ledger.SaveReceipt(ctx, lease, r) })
}

func (l *ledger) Target(ctx context.Context, conn int64) (t syncdb.TargetState, err error) {
	err = l.do(ctx, "Target", "", func() (err error) { t, err = l.Ledger.Target(ctx, conn); return })
	return
}

func (l *ledger) SetTarget(ctx context.Context, lease syncdb.Lease, t syncdb.TargetState) error {
	return l.do(ctx, "SetTarget", "", func() error { return l.Ledger.SetTarget(ctx, lease, t) })
}

func (l *ledger) SaveHold(ctx context.Context, lease syncdb.Lease, p syncdb.Plan, ops iter.Seq2[syncdb.PlanOp, error]) (out syncdb.Plan, err error) {
	err = l.do(ctx, "SaveHold", p.Resource+p.Rule, func() (err error) { out, err = l.Ledger.SaveHold(ctx, lease, p, ops); return })
	return
}

func (l *ledger) NarrowPlan(ctx context.Context, lease syncdb.Lease, p syncdb.Plan, ops iter.Seq2[syncdb.PlanOp, error]) (out syncdb.Plan, err error) {
	err = l.do(ctx, "NarrowPlan", "", func() (err error) { out, err = l.Ledger.NarrowPlan(ctx, lease, p, ops); return })
	return
}

func (l *ledger) Plans(ctx context.Context, conn int64, f syncdb.PlanFilter) (out []syncdb.Plan, err error) {
	err = l.do(ctx, "Plans", "", func() (err error) { out, err = l.Ledger.Plans(ctx, conn, f); return })
	return
}

func (l *ledger) PlanOps(ctx context.Context, conn, id int64, fn func(syncdb.PlanOp) error) error {
	return l.do(ctx, "PlanOps", "", func() error { return l.Ledger.PlanOps(ctx, conn, id, fn) })
}

func (l *ledger) ClosePlan(ctx context.Context, lease syncdb.Lease, id int64, to syncdb.PlanState) error {
	return l.do(ctx, "ClosePlan", "", func() error { return l.Ledger.ClosePlan(ctx, lease, id, to) })
}
