package syncdb

import (
	"errors"
	"fmt"
	"time"
)

var (
	// ErrFenced says that the lease is no longer ours: it expired, was released or was taken over. Nothing was written (I7). The holder
	// must stop calling the target and must not try again under this lease.
	ErrFenced = errors.New("the lease is lost: another process may be writing for this connection")

	// ErrNoRun says that there is no such run: none waits (StartRun), none is running (Cancel), or no run has the id.
	ErrNoRun = errors.New("no such run")

	// ErrUnsettled says that a step cannot be folded because a call of it has no result yet, or that entries cannot be written past the
	// journal because the journal is not folded.
	ErrUnsettled = errors.New("a call of this step has no result yet")

	// ErrNotFound says that the connection has no plan with that id, or that the run has no receipt.
	ErrNotFound = errors.New("not found")

	// ErrHoldOpen says that a hold cannot be opened again beside the one that is open for the same resource, verb and rule.
	ErrHoldOpen = errors.New("another hold is open for the same ops; decide that one")

	// ErrReceiptKept says that the run has another receipt already. Receipts are never changed.
	ErrReceiptKept = errors.New("the run has another receipt already")
)

// PlanStateError says that a plan is in another state than the act needs: somebody else decided first, or it was applied, released or
// refused meanwhile (F63). Nothing was written.
type PlanStateError struct {
	ID    int64
	State PlanState // the state it is in
}

func (e *PlanStateError) Error() string { return fmt.Sprintf("plan %d is %s already", e.ID, e.State) }

// PlanEditionError says that the ops of a plan were replaced since it was looked at.
type PlanEditionError struct {
	ID      int64
	Asked   int64 // the edition that was looked at
	Edition int64 // the one it is by now; 0 = its ops are not kept any more
	Ops     int64 // of that
}

func (e *PlanEditionError) Error() string {
	return fmt.Sprintf("plan %d is not what it was: edition %d was looked at, it is now edition %d with %d ops", e.ID, e.Asked, e.Edition, e.Ops)
}

// BusyError says that another process runs for this connection.
type BusyError struct {
	Holder string
	RunID  int64
	Until  time.Time // when its lease can be taken over, if it is not renewed
}

func (e *BusyError) Error() string {
	return fmt.Sprintf("run %d is in progress, held by %s until %s", e.RunID, e.Holder, e.Until.UTC().Format(time.RFC3339))
}
