package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/edfisync/edfisync/cmd/edfisync/internal/metrics"
)

// promRules is a file of alert rules of Prometheus.
type promRules struct {
	Groups []struct {
		Name  string `yaml:"name"`
		Rules []struct {
			Alert       string            `yaml:"alert,omitempty"`
			Record      string            `yaml:"record,omitempty"`
			Expr        string            `yaml:"expr"`
			For         string            `yaml:"for,omitempty"`
			Labels      map[string]string `yaml:"labels,omitempty"`
			Annotations map[string]string `yaml:"annotations,omitempty"`
		} `yaml:"rules"`
	} `yaml:"groups"`
}

func readRules(t *testing.T) promRules {
	t.Helper()
	var rules promRules
	d := yaml.NewDecoder(strings.NewReader(document(t, "deploy/prometheus/rules.yaml")))
	d.KnownFields(true)
	if err := d.Decode(&rules); err != nil {
		t.Fatal(err)
	}
	return rules
}

// dashboardQueries are the expressions of the Grafana dashboard, by panel.
func dashboardQueries(t *testing.T) map[string][]string {
	t.Helper()
	var dashboard struct {
		Templating struct {
			List []struct {
				Name  string
				Query json.RawMessage
			}
		}
		Panels []struct {
			ID      int
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal([]byte(document(t, "deploy/grafana/edfisync.json")), &dashboard); err != nil {
		t.Fatal(err)
	}
	out, ids := map[string][]string{}, map[int]bool{}
	for _, p := range dashboard.Panels {
		if ids[p.ID] {
			t.Errorf("two panels have the number %d", p.ID)
		}
		ids[p.ID] = true
		for _, target := range p.Targets {
			out[p.Title] = append(out[p.Title], target.Expr)
		}
	}
	for _, v := range dashboard.Templating.List {
		var query struct{ Query string }
		if json.Unmarshal(v.Query, &query) == nil && query.Query != "" {
			inner := regexp.MustCompile(`^label_values\((.*), (\w+)\)$`).FindStringSubmatch(query.Query)
			if inner == nil {
				t.Errorf("variable %s asks %q", v.Name, query.Query)
				continue
			}
			out["variable "+v.Name] = []string{"max by (" + inner[2] + ") (" + inner[1] + ")"}
		}
	}
	return out
}

var (
	usedMetric = regexp.MustCompile(`\b([a-z][a-z0-9]*_[a-z0-9_]+)\b(\{[^}]*\})?`)
	usedLabel  = regexp.MustCompile(`(\w+)\s*(?:=~|!~|!=|=)\s*"`)
	groupedBy  = regexp.MustCompile(`\bby \(([^)]*)\)`)
)

// What the dashboard and the rules ask for is what is exposed: every metric, and every label of it. The families are held to a real service's by
// TestMetricsOfAServiceThatHasDoneARun.
func TestTheDashboardAndTheRulesUseMetricsThatThereAre(t *testing.T) {
	t.Parallel()
	known := map[string]metrics.Family{}
	for _, f := range metrics.Families() {
		known[f.Name] = f
	}
	queries := dashboardQueries(t)
	for _, g := range readRules(t).Groups {
		for _, r := range g.Rules {
			queries["rule "+r.Alert] = []string{r.Expr}
			if r.Labels["severity"] == "" || r.Annotations["summary"] == "" || r.Annotations["description"] == "" {
				t.Errorf("rule %s has no severity, summary or description", r.Alert)
			}
		}
	}
	used := map[string]bool{}
	functions := []string{"histogram_quantile", "sort_desc", "process_resident_memory_bytes"}
	for where, all := range queries {
		for _, expr := range all {
			labels := []string{"instance", "job"}
			text := regexp.MustCompile(`"[^"]*"`).ReplaceAllString(expr, `"x"`) // no words out of values
			for _, m := range usedMetric.FindAllStringSubmatch(text, -1) {
				name, histogram := m[1], false
				if slices.Contains(functions, name) {
					continue
				}
				for _, suffix := range []string{"_bucket", "_count", "_sum"} {
					if base := strings.TrimSuffix(name, suffix); known[base].Type == "histogram" {
						name, histogram = base, true
					}
				}
				f, ok := known[name]
				if !ok || histogram != (f.Type == "histogram") {
					t.Errorf("%s: there is no metric %s", where, m[1])
					continue
				}
				used[name] = true
				labels = append(labels, f.Labels...)
				if histogram {
					labels = append(labels, "le")
				}
				for _, l := range usedLabel.FindAllStringSubmatch(m[2], -1) {
					if !slices.Contains(f.Labels, l[1]) {
						t.Errorf("%s: %s has no label %s", where, name, l[1])
					}
				}
				if counter := strings.HasSuffix(name, "_total") || histogram; counter && !strings.Contains(text, "rate(") && !strings.Contains(text, "increase(") {
					t.Errorf("%s: the counter %s is shown as it is", where, name)
				}
			}
			for _, by := range groupedBy.FindAllStringSubmatch(text, -1) {
				for _, l := range strings.Split(by[1], ",") {
					if l = strings.TrimSpace(l); !slices.Contains(labels, l) {
						t.Errorf("%s: it is grouped by %s, which its metrics do not have", where, l)
					}
				}
			}
		}
	}
	for name := range known {
		if !used[name] {
			t.Errorf("neither the dashboard nor the rules show %s", name)
		}
	}
}

// Prometheus itself reads the rules, and the expressions of the dashboard as if they were rules, where promtool is installed.
func TestPrometheusReadsTheRulesAndTheDashboard(t *testing.T) {
	t.Parallel()
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("there is no promtool on PATH (Debian: prometheus)")
	}
	rules := readRules(t)
	group := rules.Groups[0]
	group.Name, group.Rules = "dashboard", nil
	for _, all := range dashboardQueries(t) {
		for _, expr := range all {
			group.Rules = append(group.Rules, rules.Groups[0].Rules[0])
			r := &group.Rules[len(group.Rules)-1]
			*r = struct {
				Alert       string            `yaml:"alert,omitempty"`
				Record      string            `yaml:"record,omitempty"`
				Expr        string            `yaml:"expr"`
				For         string            `yaml:"for,omitempty"`
				Labels      map[string]string `yaml:"labels,omitempty"`
				Annotations map[string]string `yaml:"annotations,omitempty"`
			}{Record: "dashboard:x", Expr: strings.NewReplacer("$tenant", ".*", "$connection", ".*").Replace(expr)}
		}
	}
	rules.Groups = append(rules.Groups, group)
	text, err := yaml.Marshal(rules)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "rules.yaml")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), promtool, "check", "rules", "--lint=none", file).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
