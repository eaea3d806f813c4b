package metrics

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/edfisync/edfisync/internal/keys"
	"github.com/edfisync/edfisync/syncdb"
)

// slow is a ledger that can be made not to answer.
type slow struct {
	*syncdb.DB
	hangs bool
	asked int
}

func (s *slow) OpenRuns(ctx context.Context) ([]syncdb.OpenRun, error) {
	s.asked++
	if s.hangs {
		<-ctx.Done()
		return nil, context.Cause(ctx)
	}
	return s.DB.OpenRuns(ctx)
}

func newLedger(t *testing.T) *syncdb.DB {
	t.Helper()
	db, err := syncdb.Open(t.Context(), syncdb.Config{DSN: "sqlite:" + filepath.Join(t.TempDir(), "ledger.db"), Master: keys.GenerateMaster()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func TestALedgerThatDoesNotAnswerCostsAScrapeItsOwnFiguresOnly(t *testing.T) {
	t.Parallel()
	db := newLedger(t)
	c, _, err := db.Connection(t.Context(), "acme", "north")
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := db.RequestRun(t.Context(), c.ID, "api"); err != nil {
		t.Fatal(err)
	}
	ledger := &slow{DB: db}
	f := NewFleet(ledger, func(context.Context) (map[int64]Connection, error) {
		return map[int64]Connection{c.ID: {"acme", "north"}}, nil
	}, slog.New(slog.DiscardHandler))
	f.readTime, f.keptFor = 200*time.Millisecond, time.Hour
	m := New(Build{}, 4)
	m.Collect(f)
	want := func(text, name string) {
		t.Helper()
		if err := testutil.GatherAndCompare(m.Gatherer(), strings.NewReader(text), name); err != nil {
			t.Error(err)
		}
	}
	up := "# HELP edfisync_ledger_up 1 when the ledger answered this scrape in time. When it is 0 the metrics of the fleet are missing.\n# TYPE edfisync_ledger_up gauge\nedfisync_ledger_up "
	waiting := "# HELP edfisync_runs_waiting 1 while a run waits to be done.\n# TYPE edfisync_runs_waiting gauge\nedfisync_runs_waiting{connection=\"north\",tenant=\"acme\"} 1\n"
	want(waiting, "edfisync_runs_waiting")
	want(up+"1\n", "edfisync_ledger_up")
	if ledger.asked != 1 {
		t.Errorf("the ledger was asked %d times for scrapes at once", ledger.asked)
	}

	ledger.hangs, f.keptFor = true, 0
	want(up+"0\n", "edfisync_ledger_up")
	want("", "edfisync_runs_waiting")
	if n, err := testutil.GatherAndCount(m.Gatherer(), "edfisync_workers"); n != 1 || err != nil {
		t.Errorf("the process's own figures: %d, %v", n, err)
	}
	ledger.hangs = false
	want(waiting, "edfisync_runs_waiting")

	f.connections = func(context.Context) (map[int64]Connection, error) { return nil, errors.New("no connections") }
	want(up+"0\n", "edfisync_ledger_up")
	if problems, err := testutil.GatherAndLint(m.Gatherer()); len(problems) > 0 || err != nil {
		t.Errorf("lint: %v, %v", problems, err)
	}
}

// A family of the table that nothing is registered for would be documented and never shown.
func TestEveryFamilyIsRegistered(t *testing.T) {
	t.Parallel()
	m := New(Build{}, 1)
	m.ShowMisconfigured(func() bool { return false })
	m.CountAuditFailures(func() int64 { return 0 })
	m.Collect(Limits(func() map[Connection]int { return nil }))
	m.Collect(NewFleet(newLedger(t), nil, nil))
	for _, f := range Families() {
		err := m.registry.Register(prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: f.Name, Help: f.Help}, f.Labels))
		if err == nil {
			t.Errorf("nothing is registered as %s", f.Name)
		}
	}
}
