package metrics

import (
	"context"
	"net/http"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/edfisync/edfisync/edfi"
)

// Target counts the requests to the target of one connection.
type Target struct {
	m        *Metrics
	c        Connection
	inFlight prometheus.Gauge
}

var _ edfi.Observer = (*Target)(nil)

// Target returns the observer of a connection's requests, always the same one.
func (m *Metrics) Target(c Connection) *Target {
	m.mu.Lock()
	defer m.mu.Unlock()
	t := m.targets[c]
	if t == nil {
		t = &Target{m: m, c: c, inFlight: m.inFlight.WithLabelValues(c.Tenant, c.Name)}
		m.targets[c] = t
	}
	return t
}

// Begin implements edfi.Observer.
func (t *Target) Begin(_ context.Context, e edfi.Exchange) (http.Header, func(edfi.Result)) {
	if e.Resource == "token" {
		return nil, func(r edfi.Result) { t.m.tokens.WithLabelValues(t.c.Tenant, t.c.Name, tokenOutcome(r)).Inc() }
	}
	t.inFlight.Inc()
	if e.Attempt > 1 {
		t.m.retries.WithLabelValues(t.c.Tenant, t.c.Name).Inc()
	}
	return nil, func(r edfi.Result) {
		t.inFlight.Dec()
		t.m.targetSeconds.WithLabelValues(t.c.Tenant, t.c.Name, e.Method, class(r.Status)).Observe(r.Took.Seconds())
		if r.Status == http.StatusTooManyRequests {
			t.m.throttled.WithLabelValues(t.c.Tenant, t.c.Name).Inc()
		}
	}
}

func tokenOutcome(r edfi.Result) string {
	switch {
	case r.Code == "":
		return "ok"
	case r.Code == "credentials-refused": // docs/errors.md
		return "refused"
	}
	return "failed"
}

// class is the class of a status: 2xx; none when there was no answer.
func class(status int) string {
	if status < 100 || status > 599 {
		return "none"
	}
	return strconv.Itoa(status/100) + "xx"
}

// Limits shows how many requests may be in flight, by connection: what it asks for is read when somebody asks.
type Limits func() map[Connection]int

// Describe implements prometheus.Collector.
func (Limits) Describe(to chan<- *prometheus.Desc) {
	to <- describe("edfisync_target_concurrency_limit")
}

// Collect implements prometheus.Collector.
func (l Limits) Collect(to chan<- prometheus.Metric) {
	d := describe("edfisync_target_concurrency_limit")
	for c, n := range l() {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(n), c.Tenant, c.Name)
	}
}

// describe is how Prometheus knows a family that is read when somebody asks.
func describe(name string) *prometheus.Desc {
	for _, f := range Families() {
		if f.Name == name {
			return prometheus.NewDesc(f.Name, f.Help, f.Labels, nil)
		}
	}
	panic("metrics: there is no " + name)
}
