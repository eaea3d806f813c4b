package sync_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/edfisync/edfisync/source"
	"github.com/edfisync/edfisync/sync"
	"github.com/edfisync/edfisync/syncdb"
)

// hanging is a source whose rows stop coming, as they do when the line to the database is cut without a word.
type hanging struct{ sync.Source }

func (h hanging) Begin(ctx context.Context) (sync.Snapshot, error) {
	s, err := h.Source.Begin(ctx)
	return hangingSnapshot{s}, err
}

type hangingSnapshot struct{ sync.Snapshot }

func (s hangingSnapshot) Open(ctx context.Context, q *source.Bound) (sync.Rows, error) {
	rows, err := s.Snapshot.Open(ctx, q)
	if q.Resource.Path == "ed-fi/students" {
		return hangingRows{rows}, err
	}
	return rows, err
}

type hangingRows struct{ sync.Rows }

func (hangingRows) Next(ctx context.Context, _ *source.Batch) error {
	<-ctx.Done()
	return ctx.Err()
}

// I20: a run whose source does not answer any more is cut short as failed, and the next one goes on.
func TestARunThatMakesNoProgressIsCutShortAndTheNextGoesOn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(20)
	e, closeAll := w.engine()
	defer closeAll()
	e.Source = hanging{e.Source}
	e.Options.Stalled, e.Options.QueryTimeout = 300*time.Millisecond, time.Millisecond
	s, err := e.Run(t.Context())
	if !errors.Is(err, sync.ErrStalled) || s.State != syncdb.RunFailed {
		t.Fatalf("the run is %v: %v", s, err)
	}
	runs, err := w.ledger.Runs(t.Context(), w.conn.ID, 1)
	if err != nil || runs[0].State != syncdb.RunFailed || !strings.Contains(runs[0].Error, "made no progress and was cut short") || runs[0].Failure != sync.FailureStalled {
		t.Errorf("the ledger says %+v (%v)", runs[0], err)
	}
	if s, _ := w.mustRun(); s.Created == 0 {
		t.Errorf("the next run created %d records", s.Created)
	}
}
