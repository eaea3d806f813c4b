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
var ErrCanceled = errors.New("run canceled")

// keeper holds the lease of a run: it renews it and says before each call whether it still holds (engine.md §4).
type keeper struct {
	ledger      Runs
	callTimeout time.Duration

	mu    gosync.Mutex
	lease syncdb.Lease
}

// current returns the lease as last renewed.
func (k *keeper) current() syncdb.Lease {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.lease
}

// check fails when a call started now could outlive the lease. The greater of the monotonic and the wall clock counts: a suspended machine
// stops the first, a stepped clock the second (F57, F58).
func (k *keeper) check() error {
	l := k.current()
	age := time.Since(l.RenewedAt)
	if wall := time.Now().Round(0).Sub(l.RenewedAt.Round(0)); wall > age {
		age = wall
	}
	if age+k.callTimeout >= l.TTL {
		return fmt.Errorf("%w (renewed %s ago)", ErrLeaseLost, age.Round(time.Second))
	}
	return nil
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
