package sync_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/edfisync/edfisync/sync"
)

// cancel through the ledger: how long after it new calls still arrive, when calls are in retry.
func TestCancelAskedForInTheLedgerStopsCallsWithinTwoSeconds(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(200)
	var at time.Time
	var last time.Time
	n := 0
	w.front.intercept(func(rw http.ResponseWriter, r *http.Request) bool {
		if r.Method == "POST" && strings.HasSuffix(r.URL.Path, "/students") {
			w.front.mu.Lock()
			n++
			if n == 20 {
				at = time.Now()
				go w.ledger.Cancel(context.Background(), w.conn.ID)
			}
			last = time.Now()
			w.front.mu.Unlock()
			time.Sleep(300 * time.Millisecond)
			rw.WriteHeader(503)
			return true
		}
		return false
	})
	_, _, err := w.run()
	if !errors.Is(err, sync.ErrCanceled) || last.Sub(at) > 2*time.Second {
		t.Errorf("got %v and the last call %s after the cancel, want a canceled run and no call after 2 s (I19)", err, last.Sub(at))
	}
}

// small resource, source empty: everything is deleted without a hold (F38).
func TestEmptySourceDeletesNothingHoweverSmall(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(20)
	w.mustRun()
	w.exec(`delete from demographic`)
	s, calls := w.mustRun()
	if len(calls) > 0 {
		t.Errorf("0 rows of 20: %d deletes, held %v", len(calls), s.HeldBack)
	}
}
