package sync

import (
	"context"
	"errors"
	"fmt"
	gosync "sync"
	"time"

	"github.com/edfisync/edfisync/internal/failpoint"
	"github.com/edfisync/edfisync/syncdb"
)

// ErrLeaseLost means that this process may no longer write for the connection: its lease ran out or another process took over (I7).
var ErrLeaseLost = errors.New("lease lost: another process may be syncing this connection, nothing more is sent")

// ErrCanceled means that somebody asked for the run to be canceled.
var ErrCanceled = errors.New("somebody asked for the run to be canceled")

// keeper holds the lease of a run: it renews it and says before each call whether it still holds (engine.md §4).
type keeper struct {
	ledger      Runs
	callTimeout time.Duration

	mu        gosync.Mutex
	lease     syncdb.Lease
	ended     bool                // the run is over, whoever still asks
	corrected map[string]struct{} // resources with entries that were written past the journal under this lease
}

// current returns the lease as last renewed.
func (k *keeper) current() syncdb.Lease {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.lease
}

// correct notes that entries of a resource are written past the journal.
func (k *keeper) correct(resource string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.corrected == nil {
		k.corrected = map[string]struct{}{}
	}
	k.corrected[resource] = struct{}{}
}

// hasCorrected reports whether entries of a resource were.
func (k *keeper) hasCorrected(resource string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	_, ok := k.corrected[resource]
	return ok
}

// check fails when a call started now could outlive the lease. The greater of the monotonic and the wall clock counts: a suspended machine
// stops the first, a stepped clock the second (F57, F58).
func (k *keeper) check() error {
	l := k.current()
	if k.isEnded() {
		return fmt.Errorf("%w (the run was given up)", ErrLeaseLost)
	}
	age := time.Since(l.RenewedAt)
	if wall := time.Now().Round(0).Sub(l.RenewedAt.Round(0)); wall > age {
		age = wall
	}
	if age+k.callTimeout >= l.TTL {
		return fmt.Errorf("%w (renewed %s ago)", ErrLeaseLost, age.Round(time.Second))
	}
	return nil
}

func (k *keeper) isEnded() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.ended
}

// end makes every later check fail, whatever the clock says.
func (k *keeper) end() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.ended = true
}

// run renews the lease until ctx ends, and calls stop with the reason when the run must end: the lease is gone or a cancel was asked for.
// A ledger that does not answer is tried again; check stops the calls before the lease runs out.
func (k *keeper) run(ctx context.Context, every time.Duration, stop func(error)) {
	// A cancel must take effect within 2 s (I19), so the flag is looked at more often than the lease needs renewing.
	tick := time.NewTicker(min(every, time.Second))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		failpoint.Reach(failpoint.RenewBefore, "", "")
		renewed, cancel, err := k.ledger.Renew(ctx, k.current())
		failpoint.Reach(failpoint.RenewAfter, "", "")
		switch {
		case errors.Is(err, syncdb.ErrFenced):
			stop(fmt.Errorf("%w: %w", ErrLeaseLost, err))
			return
		case err != nil:
			if lost := k.check(); lost != nil {
				stop(errors.Join(lost, err))
				return
			}
			continue
		}
		k.mu.Lock()
		k.lease = renewed
		k.mu.Unlock()
		if cancel {
			stop(ErrCanceled)
			return
		}
	}
}

// tenure is a run with its lease, renewed until release.
type tenure struct {
	run     syncdb.Run
	keeper  *keeper
	ctx     context.Context // ends when the lease is lost or somebody cancels the run; its cause says which
	release func()          // stops renewing; to be called once
}

// errandReason says that a run with these options is an errand, and which: it never waits, and joins no run that does.
func (o *Options) errandReason() string {
	if o.Apply != 0 {
		return "apply"
	}
	return ""
}

// begin asks for a run, unless it is one that waits, and takes its lease. A run another process holds the lease for is *syncdb.BusyError.
func (e *Engine) begin(ctx context.Context, o Options) (*tenure, error) {
	if reason := o.errandReason(); reason != "" {
		return e.beginErrand(ctx, o, reason)
	}
	if !o.Waiting {
		failpoint.Reach(failpoint.RequestBefore, "", "")
		if _, _, err := e.Ledger.RequestScoped(ctx, e.Connection.ID, o.Reason, o.Scope); err != nil {
			return nil, fmt.Errorf("ask for a run: %w", err)
		}
		failpoint.Reach(failpoint.RequestAfter, "", "")
	}
	failpoint.Reach(failpoint.StartBefore, "", "")
	run, lease, err := e.Ledger.StartRun(ctx, e.Connection.ID, o.Holder, o.LeaseTTL)
	if err != nil {
		return nil, err
	}
	failpoint.Reach(failpoint.StartAfter, "", "")
	return e.hold(ctx, o, run, lease), nil
}

// beginErrand takes the lease for a run of its own. The run that others asked for goes on waiting, and when this one cannot begin nothing is asked for.
func (e *Engine) beginErrand(ctx context.Context, o Options, reason string) (*tenure, error) {
	failpoint.Reach(failpoint.StartBefore, "", "")
	run, lease, err := e.Ledger.StartErrand(ctx, e.Connection.ID, reason, o.Holder, o.LeaseTTL)
	if err != nil {
		return nil, err
	}
	failpoint.Reach(failpoint.StartAfter, "", "")
	return e.hold(ctx, o, run, lease), nil
}

// hold keeps the lease of a run that has begun.
func (e *Engine) hold(ctx context.Context, o Options, run syncdb.Run, lease syncdb.Lease) *tenure {
	ctx, stop := context.WithCancelCause(ctx)
	k := &keeper{ledger: e.Ledger, callTimeout: o.CallTimeout, lease: lease}
	var renewing gosync.WaitGroup
	renewCtx, stopRenewing := context.WithCancel(context.WithoutCancel(ctx))
	renewing.Go(func() { k.run(renewCtx, o.RenewEvery, stop) })
	if e.Begun != nil {
		e.Begun(ctx, run)
	}
	return &tenure{run: run, keeper: k, ctx: ctx, release: func() {
		stopRenewing()
		renewing.Wait()
		stop(nil)
	}}
}
