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

	// ErrUnsettled says that a step cannot be folded because a call of it has no result yet.
	ErrUnsettled = errors.New("a call of this step has no result yet")
)

// BusyError says that another process runs for this connection.
type BusyError struct {
	Holder string
	RunID  int64
	Until  time.Time // when its lease can be taken over, if it is not renewed
}

func (e *BusyError) Error() string {
	return fmt.Sprintf("run %d is in progress, held by %s until %s", e.RunID, e.Holder, e.Until.UTC().Format(time.RFC3339))
}
