package main

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	gosync "sync"
	"testing"

	coltrace "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/edfisync/edfisync/cmd/edfisync/internal/traces"
	"github.com/edfisync/edfisync/internal/tinysis"
	"github.com/edfisync/edfisync/sandbox"
	"github.com/edfisync/edfisync/schema"
)

// collector is an OTLP receiver.
type collector struct {
	*httptest.Server
	mu    gosync.Mutex
	raw   bytes.Buffer
	spans []*tracepb.Span
}

func newCollector(t *testing.T) *collector {
	t.Helper()
	c := &collector{}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var batch coltrace.ExportTraceServiceRequest
		if err == nil {
			err = proto.Unmarshal(body, &batch)
		}
		if err != nil || r.URL.Path != "/v1/traces" {
			t.Errorf("%s: %v", r.URL.Path, err)
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.raw.Write(body)
		for _, rs := range batch.ResourceSpans {
			for _, ss := range rs.ScopeSpans {
				c.spans = append(c.spans, ss.Spans...)
			}
		}
	}))
	t.Cleanup(c.Close)
	return c
}

// attributes of a span, as text.
func attributes(s *tracepb.Span) map[string]string {
	out := map[string]string{}
	for _, a := range s.Attributes {
		out[a.Key] = a.Value.GetStringValue()
		if out[a.Key] == "" {
			out[a.Key] = fmt.Sprint(a.Value.GetIntValue())
		}
	}
	return out
}

func TestTracesOfARun(t *testing.T) {
	t.Parallel()
	for _, propagate := range []bool{false, true} {
		t.Run(fmt.Sprintf("propagate %t", propagate), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			model, err := schema.Bundled("5.2")
			if err != nil {
				t.Fatal(err)
			}
			sis, err := tinysis.Create(t.Context(), filepath.Join(dir, "sis.sqlite"), 20)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { sis.Close() })
			// Two letters are among the random bytes of some trace now and then.
			if _, err := sis.ExecContext(t.Context(), `UPDATE student SET uid = 'Unique' || uid`); err != nil {
				t.Fatal(err)
			}
			if err := os.CopyFS(filepath.Join(dir, "pack"), tinysis.Pack()); err != nil {
				t.Fatal(err)
			}
			api, err := sandbox.New(sandbox.Options{Model: model, ClientID: sandboxClientID, ClientSecret: sandboxSecret, SchoolYears: []int{2026}})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { api.Close() })
			var mu gosync.Mutex
			parents := map[string]bool{} // span ids the target was told of
			told := 0
			handler := api.Handler()
			front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if h := r.Header.Get("traceparent"); h != "" {
					mu.Lock()
					parents[strings.Split(h, "-")[2]], told = true, told+1
					mu.Unlock()
				}
				handler.ServeHTTP(w, r)
			}))
			t.Cleanup(front.Close)
			to := newCollector(t)
			file := filepath.Join(dir, "edfisync.yaml")
			text := fmt.Sprintf("work_dir: work\nlog: {level: error}\nservice: {traces: {endpoint: %q, propagate: %t}}\nconnections:\n  - name: north\n    school_year: 2026\n"+
				"    source: {driver: sqlite, dsn: sis.sqlite}\n    pack: pack\n    settle_delay: 1ms\n    target: {url: %q, client_id: demo, client_secret: demo-secret}\n", to.URL, propagate, front.URL)
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			var made bytes.Buffer
			if code := run(t.Context(), []string{"keys", "create", "test", "--role", "admin", "--json", "-c", file}, streams{out: &made, err: &made}, os.LookupEnv); code != 0 {
				t.Fatal(made.String())
			}
			s := serveHere(t, "serve", "-c", file, "--listen", "127.0.0.1:0")
			s.Key, s.Connection = printedKey(t, made.Bytes()), "north"
			s.sync()
			s.stop() // sends what is left

			to.mu.Lock()
			defer to.mu.Unlock()
			byID, kinds := map[string]*tracepb.Span{}, map[string]int{}
			for _, span := range to.spans {
				byID[string(span.SpanId)] = span
			}
			kind := func(span *tracepb.Span) string {
				a := attributes(span)
				switch {
				case a["edfisync.run"] != "":
					return "run"
				case a["edfisync.verb"] != "":
					return "step"
				case a["url.template"] != "":
					return "request"
				}
				return "something else"
			}
			for _, span := range to.spans {
				what, above := kind(span), "none"
				if parent := byID[string(span.ParentSpanId)]; parent != nil {
					above = kind(parent)
				}
				kinds[what+" of "+above]++
				a := attributes(span)
				if what == "request" && a["http.request.method"] == "POST" && (a["http.response.status_code"] == "" || !strings.HasPrefix(a["url.template"], "/ed-fi/") && a["url.template"] != "/token") {
					t.Errorf("a request: %v", a)
				}
				if what == "request" && a["url.template"] != "/token" && propagate && !parents[hex.EncodeToString(span.SpanId)] {
					t.Errorf("the target was not told of %s", span.Name)
				}
			}
			if kinds["run of none"] != 1 || kinds["step of run"] < 4 || kinds["request of step"] < 40 || kinds["request of run"] < 1 {
				t.Errorf("got spans %v", kinds)
			}
			for what := range kinds {
				if strings.Contains(what, "something else") || what == "step of none" {
					t.Errorf("got spans %v", kinds)
				}
			}
			if (told > 0) != propagate {
				t.Errorf("the target was told of %d requests' traces", told)
			}
			var values []string
			if err := sis.SelectContext(t.Context(), &values, `SELECT uid FROM student UNION SELECT first FROM student WHERE length(first) > 3 UNION SELECT last FROM student WHERE length(last) > 3`); err != nil {
				t.Fatal(err)
			}
			for _, v := range append(values, front.URL, "data/v3", "Bearer", "demo-secret") {
				if bytes.Contains(to.raw.Bytes(), []byte(v)) {
					t.Errorf("the traces hold %q", v)
				}
			}
			if len(values) < 20 {
				t.Errorf("looked for %d values only", len(values))
			}
		})
	}
}

func TestTracesAreOffUnlessSomebodyWantsThem(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		endpoint string
		env      map[string]string
		want     bool
	}{
		"nothing is said":               {"", nil, false},
		"the configuration":             {"http://127.0.0.1:4318", nil, true},
		"the environment":               {"", map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}, true},
		"the environment, of traces":    {"", map[string]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:4318/v1/traces"}, true},
		"the environment is empty":      {"", map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, false},
		"OpenTelemetry is switched off": {"http://127.0.0.1:4318", map[string]string{"OTEL_SDK_DISABLED": "true"}, false},
	} {
		if got := traces.On(c.endpoint, func(n string) (string, bool) { v, ok := c.env[n]; return v, ok }); got != c.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}
