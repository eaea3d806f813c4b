package sync_test

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edfisync/edfisync/syncdb"
)

// fencesAt is a ledger that fences the run out when it writes its n-th batch of students.
type fencesAt struct {
	ledger
	n    *atomic.Int64
	then func()
}

func (f fencesAt) Append(ctx context.Context, l syncdb.Lease, step int, in []syncdb.Intent, res []syncdb.Result) error {
	if len(in) > 0 && in[0].Resource == "ed-fi/students" && f.n.Add(-1) <= 0 {
		f.then()
		return syncdb.ErrFenced
	}
	return f.ledger.Append(ctx, l, step, in, res)
}

// A run that learns that it is fenced out stops at once, in all its steps: it does not work off the batches it has open (I7).
func TestRunThatIsFencedOutWorksOffNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(300)
	e, closeAll := w.engine()
	defer closeAll()
	e.Options.Workers = 2
	var fenced atomic.Bool
	var late atomic.Int64
	w.front.intercept(func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPost && fenced.Load() {
			late.Add(1)
		}
		time.Sleep(time.Millisecond)
		return false
	})
	n := new(atomic.Int64)
	n.Store(2)
	e.Ledger = fencesAt{w.ledger, n, func() { fenced.Store(true) }}
	_, err := e.Run(t.Context())
	if !errors.Is(err, syncdb.ErrFenced) {
		t.Errorf("got %v, want the fence", err)
	}
	if got := late.Load(); got > 8 { // in flight at that moment: two steps with two workers, and what they were just about to send
		t.Errorf("%d calls were made after the fence", got)
	}
}
