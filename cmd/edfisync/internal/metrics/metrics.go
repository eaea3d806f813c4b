// Package metrics is what edfisync tells Prometheus: what this process does, counted as it happens, and what the ledger says of the whole fleet, read
// when somebody asks. It decides nothing.
package metrics

import (
	"net/http"
	"runtime"
	"strconv"
	gosync "sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/edfisync/edfisync/sync"
)

// Build says which program it is.
type Build struct{ Version, Commit string }

// Metrics are those of one process. Make them with New. Safe for concurrent use.
type Metrics struct {
	registry *prometheus.Registry
	families map[string]Family

	runs, rows, records, takeovers, alerts   *prometheus.CounterVec
	retries, throttled, tokens, httpRequests *prometheus.CounterVec
	inFlight                                 *prometheus.GaugeVec
	runSeconds, targetSeconds, httpSeconds   *prometheus.HistogramVec
	workers, running                         *prometheus.GaugeVec

	mu      gosync.Mutex
	targets map[Connection]*Target
}

// New returns the metrics of a process that does so many runs at once.
func New(b Build, workers int) *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry(), families: map[string]Family{}, targets: map[Connection]*Target{}}
	for _, f := range Families() {
		m.families[f.Name] = f
	}
	m.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.runs, m.rows, m.records = m.counter("edfisync_runs_total"), m.counter("edfisync_rows_scanned_total"), m.counter("edfisync_records_total")
	m.takeovers, m.retries = m.counter("edfisync_lease_takeovers_total"), m.counter("edfisync_target_retries_total")
	m.throttled, m.tokens = m.counter("edfisync_target_throttled_total"), m.counter("edfisync_token_requests_total")
	m.httpRequests, m.inFlight = m.counter("edfisync_http_requests_total"), m.gauge("edfisync_target_requests_in_flight")
	m.alerts = m.counter("edfisync_alert_deliveries_total")
	m.workers, m.running = m.gauge("edfisync_workers"), m.gauge("edfisync_runs_in_progress")
	m.runSeconds = m.histogram("edfisync_run_duration_seconds", 1, 5, 15, 60, 300, 900, 3600, 4*3600, 12*3600, 24*3600)
	m.targetSeconds = m.histogram("edfisync_target_request_duration_seconds", .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30)
	m.httpSeconds = m.histogram("edfisync_http_request_duration_seconds", .005, .025, .1, .5, 2.5, 10)
	m.workers.WithLabelValues().Set(float64(workers))
	m.running.WithLabelValues().Set(0)
	m.gauge("edfisync_build_info").WithLabelValues(b.Version, b.Commit, runtime.Version()).Set(1)
	return m
}

// Connection is whose figures they are.
type Connection struct{ Tenant, Name string }

func (m *Metrics) counter(name string) *prometheus.CounterVec {
	f := m.families[name]
	v := prometheus.NewCounterVec(prometheus.CounterOpts{Name: f.Name, Help: f.Help}, f.Labels)
	m.registry.MustRegister(v)
	return v
}

func (m *Metrics) gauge(name string) *prometheus.GaugeVec {
	f := m.families[name]
	v := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: f.Name, Help: f.Help}, f.Labels)
	m.registry.MustRegister(v)
	return v
}

func (m *Metrics) histogram(name string, buckets ...float64) *prometheus.HistogramVec {
	f := m.families[name]
	v := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: f.Name, Help: f.Help, Buckets: buckets}, f.Labels)
	m.registry.MustRegister(v)
	return v
}

// CountAuditFailures shows a count that is kept elsewhere. It is called once.
func (m *Metrics) CountAuditFailures(count func() int64) {
	f := m.families["edfisync_audit_failures_total"]
	m.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: f.Name, Help: f.Help}, func() float64 { return float64(count()) }))
}

// ShowMisconfigured shows whether the process goes on with an older configuration than the file has. It is called once.
func (m *Metrics) ShowMisconfigured(wrong func() bool) {
	f := m.families["edfisync_configuration_wrong"]
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: f.Name, Help: f.Help}, func() float64 { return flag(wrong()) }))
}

// Collect adds figures that are read when somebody asks. It is called once for each collector.
func (m *Metrics) Collect(c prometheus.Collector) { m.registry.MustRegister(c) }

// Gatherer gives the figures of this moment.
func (m *Metrics) Gatherer() prometheus.Gatherer { return m.registry }

// Handler answers a scrape. Two at once are answered, more get 503.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError, MaxRequestsInFlight: 4, Timeout: 30 * time.Second})
}

// RunBegins counts a run that this process does; the caller calls ends once.
func (m *Metrics) RunBegins() (ends func()) {
	m.running.WithLabelValues().Inc()
	return func() { m.running.WithLabelValues().Dec() }
}

// RunEnded counts a run: its outcome is ok, problems, held, failed or canceled. Of a run that could not begin there is no summary.
func (m *Metrics) RunEnded(c Connection, ended string, s *sync.Summary) {
	m.runs.WithLabelValues(c.Tenant, c.Name, ended).Inc()
	if s == nil {
		return
	}
	if ended != "failed" && ended != "canceled" {
		m.runSeconds.WithLabelValues(c.Tenant, c.Name).Observe(s.Took.Seconds())
	}
	for i := range s.Resources {
		r := &s.Resources[i]
		m.rows.WithLabelValues(c.Tenant, c.Name, r.Resource).Add(float64(r.Rows))
		for name, n := range map[string]int64{
			"unchanged": r.Unchanged, "created": r.Created, "updated": r.Updated, "rekeyed": r.Rekeyed, "deleted": r.Deleted,
			"invalid": r.Invalid, "blocked": r.Blocked, "held": r.Kept, "rejected": r.Rejected, "failed": r.Errors,
		} {
			m.records.WithLabelValues(c.Tenant, c.Name, r.Resource, name).Add(float64(n))
		}
	}
}

// Delivered counts an attempt to deliver a notice: sent, failed or given-up.
func (m *Metrics) Delivered(to, ended string) { m.alerts.WithLabelValues(to, ended).Inc() }

// TookOver counts a run that goes on for a process that died.
func (m *Metrics) TookOver(c Connection) { m.takeovers.WithLabelValues(c.Tenant, c.Name).Inc() }

// Request counts a request to this process's own server. stream says that its answer goes on for as long as the client listens.
func (m *Metrics) Request(pattern string, stream bool, answered int, took time.Duration) {
	if pattern == "" {
		pattern = "other"
	}
	m.httpRequests.WithLabelValues(pattern, strconv.Itoa(answered)).Inc()
	if !stream {
		m.httpSeconds.WithLabelValues(pattern).Observe(took.Seconds())
	}
}
