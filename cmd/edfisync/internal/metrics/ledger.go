package metrics

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	gosync "sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/edfisync/edfisync/sync"
	"github.com/edfisync/edfisync/syncdb"
)

// Ledger is what the figures of the fleet are read from. *syncdb.DB is one.
type Ledger interface {
	OpenRuns(ctx context.Context) ([]syncdb.OpenRun, error)
	EndedRuns(ctx context.Context) (map[int64]syncdb.Run, error)
	LastRuns(ctx context.Context) (last, done map[int64]syncdb.Run, err error)
	Receipts(ctx context.Context, connection int64, limit int) ([]syncdb.Receipt, error)
	RunByID(ctx context.Context, id int64) (syncdb.Run, error)
	IssueCodes(ctx context.Context) ([]syncdb.CodeCount, error)
	OpenCounts(ctx context.Context) (map[int64]syncdb.OpenCount, error)
	Pauses(ctx context.Context) (map[int64]syncdb.Pause, error)
	Alarms(ctx context.Context) ([]syncdb.Alarm, error)
	Alerts(ctx context.Context) ([]syncdb.Alert, error)
}

var _ Ledger = (*syncdb.DB)(nil)

const (
	// readTime is how long the ledger has to answer a scrape.
	readTime = 5 * time.Second
	// keptFor is for how long figures are shown as they were read: of several who scrape at once one asks the ledger.
	keptFor = 5 * time.Second
)

// Fleet reads what the ledger says of all processes when somebody asks. Make it with NewFleet. Safe for concurrent use.
type Fleet struct {
	ledger      Ledger
	connections func(ctx context.Context) (map[int64]Connection, error)
	log         *slog.Logger
	readTime    time.Duration
	keptFor     time.Duration

	mu        gosync.Mutex
	at        time.Time
	took      time.Duration
	up        bool
	kept      []figure
	confirmed map[int64]confirmed // by connection
}

// figure is one value.
type figure struct {
	name   string
	value  float64
	labels []string
}

// confirmed is what the receipts of a connection say of its resources.
type confirmed struct {
	run int64                // the last receipt that was read
	at  map[string]time.Time // by resource: when the last run began that confirmed it
}

// NewFleet shows the figures of these connections: those of the configuration, by their number in the ledger.
func NewFleet(ledger Ledger, connections func(ctx context.Context) (map[int64]Connection, error), log *slog.Logger) *Fleet {
	return &Fleet{ledger: ledger, connections: connections, log: log, readTime: readTime, keptFor: keptFor, confirmed: map[int64]confirmed{}}
}

// Describe implements prometheus.Collector.
func (f *Fleet) Describe(to chan<- *prometheus.Desc) {
	to <- describe("edfisync_ledger_up")
	to <- describe("edfisync_ledger_read_seconds")
	for _, family := range Families() {
		if family.Where == OfFleet {
			to <- describe(family.Name)
		}
	}
}

// Collect implements prometheus.Collector. A ledger that does not answer costs the scrape readTime and the figures of the fleet, and nothing else.
func (f *Fleet) Collect(to chan<- prometheus.Metric) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.at.IsZero() || time.Since(f.at) >= f.keptFor {
		f.refresh()
	}
	up := 0.0
	if f.up {
		up = 1
	}
	to <- prometheus.MustNewConstMetric(describe("edfisync_ledger_up"), prometheus.GaugeValue, up)
	to <- prometheus.MustNewConstMetric(describe("edfisync_ledger_read_seconds"), prometheus.GaugeValue, f.took.Seconds())
	descriptions := map[string]*prometheus.Desc{}
	for _, v := range f.kept {
		if descriptions[v.name] == nil {
			descriptions[v.name] = describe(v.name)
		}
		to <- prometheus.MustNewConstMetric(descriptions[v.name], prometheus.GaugeValue, v.value, v.labels...)
	}
}

// refresh reads the figures, or none of them.
func (f *Fleet) refresh() {
	ctx, cancel := context.WithTimeout(context.Background(), f.readTime) // a scrape's own context does not reach collectors
	defer cancel()
	began := time.Now()
	kept, err := f.read(ctx)
	f.at, f.took, f.up, f.kept = time.Now(), time.Since(began), err == nil, kept
	if err != nil {
		f.kept = nil
		f.log.WarnContext(ctx, "read the metrics of the fleet from the ledger", slog.Any("error", err))
	}
}

// read asks the ledger.
func (f *Fleet) read(ctx context.Context) (out []figure, err error) {
	connections, err := f.connections(ctx)
	if err != nil {
		return nil, err
	}
	open, err1 := f.ledger.OpenRuns(ctx)
	ended, err2 := f.ledger.EndedRuns(ctx)
	_, done, err3 := f.ledger.LastRuns(ctx)
	codes, err4 := f.ledger.IssueCodes(ctx)
	counts, err5 := f.ledger.OpenCounts(ctx)
	pauses, err6 := f.ledger.Pauses(ctx)
	alarms, err7 := f.ledger.Alarms(ctx)
	alerts, err8 := f.ledger.Alerts(ctx)
	if err := errors.Join(err1, err2, err3, err4, err5, err6, err7, err8); err != nil {
		return nil, err
	}
	alarmed := map[Connection]bool{}
	for _, a := range alarms {
		alarmed[Connection{a.Tenant, a.Name}] = true
	}
	add := func(name string, value float64, labels ...string) { out = append(out, figure{name, value, labels}) }
	waiting, running, waited := map[int64]bool{}, map[int64]bool{}, map[int64]time.Duration{}
	for i := range open {
		id := open[i].ConnectionID
		if open[i].State == syncdb.RunRunning {
			running[id] = true
			continue
		}
		waiting[id], waited[id] = true, open[i].Age
	}
	for id, c := range connections {
		add("edfisync_runs_waiting", flag(waiting[id]), c.Tenant, c.Name)
		add("edfisync_run_waiting_seconds", waited[id].Seconds(), c.Tenant, c.Name)
		add("edfisync_runs_running", flag(running[id]), c.Tenant, c.Name)
		add("edfisync_last_run_failed", flag(ended[id].State == syncdb.RunFailed), c.Tenant, c.Name)
		add("edfisync_holds_open", float64(counts[id].Holds), c.Tenant, c.Name)
		_, paused := pauses[id]
		add("edfisync_connection_paused", flag(paused), c.Tenant, c.Name)
		add("edfisync_target_alarm", flag(alarmed[c]), c.Tenant, c.Name)
		if run, ok := done[id]; ok {
			add("edfisync_fresh_as_of_timestamp_seconds", seconds(run.StartedAt), c.Tenant, c.Name)
			if err := f.learn(ctx, id, run.ID); err != nil {
				return nil, err
			}
		}
		for name, at := range f.confirmed[id].at {
			add("edfisync_resource_confirmed_timestamp_seconds", seconds(at), c.Tenant, c.Name, name)
		}
	}
	for _, a := range alerts {
		if c, ok := connections[a.ConnectionID]; ok {
			add("edfisync_alerts_firing", flag(a.Firing), c.Tenant, c.Name, a.Condition)
		} else if a.ConnectionID == 0 {
			add("edfisync_alerts_firing", flag(a.Firing), "", "", a.Condition) // of the ledger as a whole
		}
	}
	for _, n := range codes {
		if c, ok := connections[n.ConnectionID]; ok {
			add("edfisync_issues_open", float64(n.Issues), c.Tenant, c.Name, n.Code)
		}
	}
	return out, nil
}

// receiptsAtOnce is how many receipts are looked through for the last ones that confirmed something.
const receiptsAtOnce = 10

// learn reads what the newest receipts of a connection confirm, when there was a run since they were read last.
func (f *Fleet) learn(ctx context.Context, connection, run int64) error {
	known := f.confirmed[connection]
	if known.run == run {
		return nil
	}
	receipts, err := f.ledger.Receipts(ctx, connection, receiptsAtOnce)
	if err != nil {
		return err
	}
	at := map[string]time.Time{}
	maps.Copy(at, known.at) // in case of runs with a scope only
	for i := range receipts {
		var r sync.Receipt
		if err := json.Unmarshal(receipts[i].Document, &r); err != nil {
			return err
		}
		if r.Statement.Alarm != "" { // it confirms nothing
			continue
		}
		began, err := f.ledger.RunByID(ctx, receipts[i].RunID)
		if err != nil {
			return err
		}
		if !began.Scope.All() { // it sent a part only
			continue
		}
		clear(at)
		for _, s := range r.Statement.Resources {
			at[s.Resource] = began.StartedAt
		}
		break // such a run confirms all resources of the connection
	}
	f.confirmed[connection] = confirmed{run, at}
	return nil
}

func flag(set bool) float64 {
	if set {
		return 1
	}
	return 0
}

func seconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }
