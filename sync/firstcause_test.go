package sync_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/edfisync/edfisync/source"
	"github.com/edfisync/edfisync/sync"
	"github.com/edfisync/edfisync/syncdb"
)

// fullDisk is a ledger that cannot keep the rows that break rules.
type fullDisk struct{ sync.Ledger }

func (fullDisk) SaveProblems(context.Context, syncdb.Lease, []syncdb.Problem) error {
	return errors.New("no space left on device")
}

// endless is a source whose reader learns that the scan is over only from its context, as a database driver does.
type endless struct{ sync.Source }

func (s endless) Begin(ctx context.Context) (sync.Snapshot, error) {
	snapshot, err := s.Source.Begin(ctx)
	return endlessSnapshot{snapshot}, err
}

type endlessSnapshot struct{ sync.Snapshot }

func (s endlessSnapshot) Open(ctx context.Context, q *source.Bound) (sync.Rows, error) {
	rows, err := s.Snapshot.Open(ctx, q)
	return endlessRows{rows, q.Query.File == "students.sql"}, err
}

type endlessRows struct {
	sync.Rows
	waits bool
}

func (r endlessRows) Next(ctx context.Context, b *source.Batch) error {
	err := r.Rows.Next(ctx, b)
	if r.waits && errors.Is(err, io.EOF) {
		<-ctx.Done()
		return fmt.Errorf("source: read students.sql: %w", ctx.Err())
	}
	return err
}

// What ends a scan ends the reading of the source with it. The run says what came first, and that it failed: nobody canceled it (F49).
func TestScanThatEndsSaysWhatCameFirst(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(1)
	w.exec(`with recursive n(i) as (select 2 union all select i + 1 from n where i < 1200)
		insert into student select i, 'S' || i, 'First', null, '2010-02-03' from n`)
	w.options.Mappers = 1
	e, closeAll := w.engine()
	defer closeAll()
	e.Ledger, e.Source = fullDisk{e.Ledger}, endless{e.Source}
	s, err := e.Run(t.Context())
	if err == nil || !strings.Contains(err.Error(), "no space left on device") || strings.Contains(err.Error(), "canceled") {
		t.Errorf("got error %v, want that there is no space left", err)
	}
	if s.State != syncdb.RunFailed {
		t.Errorf("got state %s, want %s", s.State, syncdb.RunFailed)
	}
	runs, err := w.ledger.Runs(t.Context(), w.conn.ID, 1)
	if err != nil || len(runs) != 1 || runs[0].State != syncdb.RunFailed || !strings.Contains(runs[0].Error, "no space left on device") {
		t.Errorf("the ledger has %+v (%v), want a failed run that names the disk", runs, err)
	}
}
