package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/edfisync/edfisync/cmd/edfisync/internal/metrics"
)

// servedHere is a service that runs in the test's own process.
type servedHere struct {
	t          *testing.T
	URL        string `json:"url"`
	Key        string `json:"key"`
	Connection string `json:"connection"`

	errs *bytes.Buffer
	stop func()
}

// serveHere runs a command that serves until the test ends.
func serveHere(t *testing.T, args ...string) *servedHere {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe()
	s := &servedHere{t: t, errs: &bytes.Buffer{}}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		code := run(ctx, append(args, "--json"), streams{in: strings.NewReader(""), out: w, err: s.errs}, os.LookupEnv)
		w.CloseWithError(fmt.Errorf("it ended with code %d", code))
	}()
	s.stop = func() { cancel(); <-ended }
	t.Cleanup(s.stop)
	if err := json.NewDecoder(r).Decode(s); err != nil {
		s.stop()
		t.Fatalf("%v: %v\n%s", args, err, s.errs)
	}
	go io.Copy(io.Discard, r) //nolint:errcheck // it ends with the pipe
	return s
}

// call makes a request with a key and returns status and body.
func (s *servedHere) call(method, url, key, body string) (int, []byte) {
	s.t.Helper()
	request, err := http.NewRequestWithContext(s.t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	if key != "" {
		request.Header.Set("Authorization", "Bearer "+key)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		s.t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return response.StatusCode, text
}

// sync asks for a run and waits until none waits or runs.
func (s *servedHere) sync() {
	s.t.Helper()
	if status, body := s.call("POST", s.URL+"/api/v1/connections/"+s.Connection+"/runs", s.Key, ""); status != http.StatusAccepted {
		s.t.Fatalf("ask for a run: %d %s", status, body)
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		_, body := s.call("GET", s.URL+"/api/v1/runs?limit=1", s.Key, "")
		if !bytes.Contains(body, []byte(`"waiting"`)) && !bytes.Contains(body, []byte(`"running"`)) {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("the run does not end: %s", body)
		}
	}
}

// unusedAddress is one that nobody listens on.
func unusedAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// scrape reads what a scrape gets, with the official parser.
func scrape(t *testing.T, text []byte) map[string]*dto.MetricFamily {
	t.Helper()
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(text))
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return families
}

// ours are the metrics of edfisync among those of a scrape.
func ours(families map[string]*dto.MetricFamily) map[string]*dto.MetricFamily {
	out := maps.Clone(families)
	maps.DeleteFunc(out, func(name string, _ *dto.MetricFamily) bool { return !strings.HasPrefix(name, "edfisync_") })
	return out
}

func TestMetricsOfAServiceThatHasDoneARun(t *testing.T) {
	t.Parallel()
	s := serveHere(t, "serve", "--demo", "--students", "40", "--latency", "0s", "--listen", "127.0.0.1:0")
	s.sync()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if _, text := s.call("GET", s.URL+"/metrics", s.Key, ""); bytes.Contains(text, []byte("\nedfisync_runs_in_progress 0\n")) {
			break // the run is counted before
		}
	}
	status, text := s.call("GET", s.URL+"/metrics", s.Key, "")
	if status != http.StatusOK {
		t.Fatalf("GET /metrics: %d %s", status, text)
	}
	problems, err := promlint.New(bytes.NewReader(text)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("promlint: %s: %s", p.Metric, p.Text)
	}
	got := ours(scrape(t, text))
	known := map[string]metrics.Family{}
	for _, f := range metrics.Families() {
		known[f.Name] = f
	}
	for name, family := range got {
		f, ok := known[name]
		if !ok {
			t.Errorf("%s is not in the table of metrics", name)
			continue
		}
		if typ := strings.ToLower(family.GetType().String()); typ != f.Type {
			t.Errorf("%s is a %s, the table says %s", name, typ, f.Type)
		}
		for _, m := range family.Metric {
			var labels []string
			for _, l := range m.Label {
				labels = append(labels, l.GetName())
				if strings.Contains(l.GetValue(), s.Key) || len(l.GetValue()) > 100 {
					t.Errorf("%s has a label %s that is none: %q", name, l.GetName(), l.GetValue())
				}
			}
			if d := cmp.Diff(slices.Sorted(slices.Values(f.Labels)), slices.Sorted(slices.Values(labels))); d != "" {
				t.Errorf("labels of %s (-table +exposed):\n%s", name, d)
			}
		}
	}
	// What did not happen in this run: another process's death, repeats, full targets.
	idle := []string{
		"edfisync_lease_takeovers_total", "edfisync_target_retries_total", "edfisync_target_throttled_total", "edfisync_issues_open",
		"edfisync_alerts_firing", "edfisync_alert_deliveries_total",
	}
	for name := range known {
		if got[name] == nil && !slices.Contains(idle, name) {
			t.Errorf("%s is not exposed", name)
		}
	}
	value := func(name string, labels ...string) float64 {
		t.Helper()
		var sum float64
		found := false
	next:
		for _, m := range got[name].GetMetric() {
			have := map[string]string{}
			for _, l := range m.Label {
				have[l.GetName()] = l.GetValue()
			}
			for i := 0; i < len(labels); i += 2 {
				if have[labels[i]] != labels[i+1] {
					continue next
				}
			}
			found = true
			sum += m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
		if !found {
			t.Errorf("there is no %s%v", name, labels)
		}
		return sum
	}
	created := value("edfisync_records_total", "connection", "demo", "outcome", "created")
	if created < 1000 || value("edfisync_rows_scanned_total") < created {
		t.Errorf("%v records created of %v rows", created, value("edfisync_rows_scanned_total"))
	}
	if posts := value("edfisync_target_request_duration_seconds", "method", "POST", "status", "2xx"); posts < created {
		t.Errorf("%v POSTs for %v records", posts, created)
	}
	for name, want := range map[string]float64{
		"edfisync_runs_total": 1, "edfisync_run_duration_seconds": 1, "edfisync_ledger_up": 1, "edfisync_runs_waiting": 0, "edfisync_runs_running": 0,
		"edfisync_runs_in_progress": 0, "edfisync_target_requests_in_flight": 0, "edfisync_last_run_failed": 0, "edfisync_token_requests_total": 1,
		"edfisync_audit_failures_total": 0, "edfisync_build_info": 1,
	} {
		if got := value(name); got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
	now := float64(time.Now().Unix())
	if at := value("edfisync_resource_confirmed_timestamp_seconds", "resource", "ed-fi/students"); at > now+1 || at < now-300 {
		t.Errorf("students were confirmed %v seconds ago", now-at)
	}
	if n := value("edfisync_http_requests_total", "route", "POST /api/v1/connections/{connection}/runs", "code", "202"); n != 1 {
		t.Errorf("%v requests asked for a run, want 1", n)
	}

	// Who may read it.
	if status, _ := s.call("GET", s.URL+"/metrics", "", ""); status != http.StatusUnauthorized {
		t.Errorf("without a key: %d", status)
	}
	_, made := s.call("POST", s.URL+"/api/v1/keys", s.Key, `{"name": "prometheus", "role": "viewer"}`)
	var key struct{ Key string }
	if err := json.Unmarshal(made, &key); err != nil {
		t.Fatal(err)
	}
	if status, _ := s.call("GET", s.URL+"/metrics", key.Key, ""); status != http.StatusOK {
		t.Errorf("with a viewer's key: %d", status)
	}
	_, made = s.call("POST", s.URL+"/api/v1/keys", s.Key, `{"name": "a district's", "role": "viewer", "tenant": "acme"}`)
	if err := json.Unmarshal(made, &key); err != nil {
		t.Fatal(err)
	}
	if status, _ := s.call("GET", s.URL+"/metrics", key.Key, ""); status != http.StatusForbidden {
		t.Errorf("with a key of one tenant: %d", status)
	}
}

func TestMetricsAreServedApart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	listen := unusedAddress(t)
	file := filepath.Join(dir, "edfisync.yaml")
	text := fmt.Sprintf("work_dir: work\nlog: {level: error}\nservice: {metrics: {listen: %q}}\nconnections:\n  - name: one\n    school_year: 2026\n    source: {driver: sqlite, dsn: sis.sqlite}\n"+
		"    pack: embedded:limitless\n    target: {url: \"http://127.0.0.1:1\", client_id: demo, client_secret: demo-secret, retries: 0}\n", listen)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s := serveHere(t, "worker", "-c", file, "--listen", "127.0.0.1:0")
	if status, body := s.call("GET", "http://"+listen+"/metrics", "", ""); status != http.StatusOK || !bytes.Contains(body, []byte("edfisync_ledger_up 1")) {
		t.Errorf("on loopback: %d %s", status, body)
	}
	if status, _ := s.call("GET", s.URL+"/metrics", "", ""); status != http.StatusUnauthorized {
		t.Errorf("a worker's own address, without a key: %d", status)
	}
	if status, _ := s.call("GET", s.URL+"/healthz", "", ""); status != http.StatusOK {
		t.Errorf("a worker's health: %d", status)
	}
}

func TestOnlyAddressesOfThisMachineNeedNoKeyForMetrics(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]bool{
		"127.0.0.1:9464": true, "127.8.0.1:9464": true, "[::1]:9464": true, "localhost:9464": true,
		":9464": false, "0.0.0.0:9464": false, "[::]:9464": false, "10.0.0.1:9464": false, "example.org:9464": false, "nonsense": false,
	} {
		if got := isLoopback(address); got != want {
			t.Errorf("%s: %v, want %v", address, got, want)
		}
	}
}

// docs/operations.md has the table of metrics the program has.
func TestOperationsListsEveryMetric(t *testing.T) {
	t.Parallel()
	var want []string
	for _, f := range metrics.Families() {
		labels := "–"
		if len(f.Labels) > 0 {
			labels = strings.Join(f.Labels, ", ")
		}
		want = append(want, fmt.Sprintf("| `%s` | %s | %s | %s | %s |", f.Name, f.Type, labels, f.Where, f.Help))
	}
	got := regexp.MustCompile("(?m)^\\| `edfisync_.*\\|$").FindAllString(document(t, "docs/operations.md"), -1)
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("the table of metrics in docs/operations.md (-program +document):\n%s", d)
	}
}

// printedKey reads what keys create --json printed.
func printedKey(t *testing.T, printed []byte) string {
	t.Helper()
	var made struct{ Key string }
	if err := json.Unmarshal(printed, &made); err != nil || made.Key == "" {
		t.Fatalf("%v: %s", err, printed)
	}
	return made.Key
}
