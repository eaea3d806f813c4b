package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
)

const small = `connections:
  - name: one
    school_year: 2027
    source: {driver: sqlite, dsn: sis.sqlite}
    pack: packs/one
    target: {url: "https://api.example.org", client_id: id, client_secret: "${SECRET}"}
`

func env(values map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) { v, ok := values[name]; return v, ok }
}

func write(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "edfisync.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestLoadFillsDefaultsAndResolvesPaths(t *testing.T) {
	t.Parallel()
	file := write(t, small)
	got, err := Load(file, env(map[string]string{"SECRET": "s3cret"}))
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Dir(file)
	const day = Duration(24 * time.Hour)
	want := &Config{
		Ledger:  Ledger{Retention: Retention{Issues: 90 * day, Runs: 396 * day, Audit: 1100 * day}},
		Log:     Log{Level: slog.LevelWarn, Format: "text"},
		WorkDir: filepath.Join(dir, "edfisync-work"),
		Service: Service{
			Listen: "127.0.0.1:8780", Workers: 4, Drain: Duration(25 * time.Second), Quarantine: Quarantine{After: 3, FirstWait: Duration(5 * time.Minute), LongestWait: Duration(6 * time.Hour)},
			Retry:  Retry{FirstWait: Duration(2 * time.Minute), LongestWait: Duration(time.Hour)},
			OIDC:   OIDC{Scopes: []string{"profile", "email"}, RoleClaim: "groups", Algorithms: []string{"RS256"}},
			Traces: Traces{Sample: 1},
			Alerts: Alerts{
				Every: Duration(30 * time.Second), Quiet: Duration(5 * time.Minute), FreshWithin: Duration(26 * time.Hour), Audit: Duration(time.Hour), SMTP: SMTP{TLS: "starttls"},
			},
		},
		Connections: []Connection{{
			Name: "one", Tenant: "default", SchoolYear: 2027,
			Source: Source{Driver: "sqlite", DSN: Secret(filepath.Join(dir, "sis.sqlite")), Readers: 1, StatementTimeout: Duration(30 * time.Minute), MaxRuns: 8},
			Pack:   filepath.Join(dir, "packs/one"),
			Target: Target{
				URL: "https://api.example.org", ClientID: "id", ClientSecret: "s3cret", Standard: StandardAuto,
				Concurrency: Concurrency{Min: 1, Max: 16}, Timeout: Duration(30 * time.Second), Retries: 5, MaxRuns: 8,
			},
			Safeguards: Safeguards{
				Deletes: Limit{Percent: 20, Count: 25}, Updates: Limit{Percent: 50, Count: 1000}, ShortSource: Limit{Percent: 50, Count: 5},
				Run: RunSafeguards{Deletes: Limit{Percent: 10, Count: 250}, Updates: Limit{Percent: 30, Count: 5000}},
			},
			SettleDelay: Duration(5 * time.Second),
			Stalled:     Duration(15 * time.Minute),
			History:     Duration(30 * 24 * time.Hour),
			Schedule:    Schedule{TimeZone: "UTC", CatchUp: Duration(24 * time.Hour)},
		}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Load (-want +got):\n%s", diff)
	}
}

func TestLoadReportsEveryProblemWithItsLine(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		text string
		want []string
	}{
		{"an empty file", "# nothing\n", []string{"is empty (config.example.yaml is one to start from)"}},
		{"not YAML", "a: [\n", []string{":1: is not YAML: did not find expected node content"}},
		{"an unknown key near a known one", strings.Replace(small, "school_year", "shool_year", 1), []string{
			":2: connections[0].school_year: want at least 1900",
			":3: connections[0].shool_year: unknown key (did you mean school_year?)",
		}},
		{"an unknown key near none", "qqqqqqq: 1\n" + small, []string{
			":1: qqqqqqq: unknown key (keys here are: ledger, log, work_dir, service, connections)",
		}},
		{"a key given twice", small + "    pack: other\n", []string{":7: connections[0].pack: is already given on line 5 (keep one of them)"}},
		{"a variable that is not set", strings.ReplaceAll(small, "SECRET", "NOWHERE"), []string{
			":6: connections[0].target.client_secret: environment variable NOWHERE is not set",
		}},
		{"a file that is not there", strings.ReplaceAll(small, "${SECRET}", "${file:/nonexistent}"), []string{
			":6: connections[0].target.client_secret: read the value: open /nonexistent: no such file or directory",
		}},
		{"a variable without its end", strings.ReplaceAll(small, "${SECRET}", "${SECRET"), []string{
			":6: connections[0].target.client_secret: ${ without a closing }; write $${ for the characters themselves",
		}},
		{"wrong types", "work_dir: []\nlog: {level: loud, format: xml}\n" + strings.Replace(small, "2027", "next", 1), []string{
			":1: work_dir: want one value, not a list or keys",
			":2: log.level: want debug, info, warn or error",
			":2: log.format: want one of: text, json",
			":5: connections[0].school_year: want a whole number",
		}},
		{"values out of range", strings.Replace(small, `client_id: id`, `concurrency: {min: 8, max: 4}, timeout: 1ms`, 1), []string{
			":6: connections[0].target.client_id: is required",
			":6: connections[0].target.concurrency.max: must not be less than min",
			":6: connections[0].target.timeout: want at least 1s",
		}},
		{"a sealed secret where none can be", strings.Replace(small, "client_id: id", `client_id: "${sealed:id}"`, 1), []string{
			":6: connections[0].target.client_id: a sealed secret can only stand in source.dsn and target.client_secret of a connection",
		}},
		{"a sealed secret without a name", strings.Replace(small, "${SECRET}", "${sealed:}", 1), []string{
			":6: connections[0].target.client_secret: the name of a sealed secret has lower-case letters, digits, ., - and _",
		}},
		{"pauses that are none", small + "    pauses: [{from: 2027-06-20, to: 2027-06-20, reason: a}, {from: soon, to: 2027-06-20, reason: b}, {from: 2027-06-20, to: 2027-06-21}]\n", []string{
			":7: connections[0].pauses[2].reason: is required",
			":7: connections[0].pauses[0].to: must be after from (it is the first moment after the pause)",
			":7: connections[0].pauses[1].from: want a day, 2027-06-20, or a moment, 2027-06-20T18:00 or 2027-06-20T18:00:00-05:00",
		}},
		{"three keys for the ledger", "ledger: {key_command: [a], key: b, next: {key_command: [a], key_file: b}}\n" + small, []string{
			":1: ledger.key_command: is given beside key (keep one of them)",
			":1: ledger.next.key_command: is given beside key_file (keep one of them)",
		}},
		{"a part that is missing", "connections:\n  - name: one\n", []string{
			":2: connections[0].school_year: want at least 1900",
			":2: connections[0].source.driver: is required",
			":2: connections[0].source.dsn: is required",
			":2: connections[0].pack: is required",
			":2: connections[0].target.url: is required",
			":2: connections[0].target.client_id: is required",
			":2: connections[0].target.client_secret: is required",
		}},
		{"a name used twice", small + strings.TrimPrefix(small, "connections:\n"), []string{
			":7: connections[1].name: is already the name of connections[0] (names are unique within a tenant)",
		}},
		{"two keys for the ledger", "ledger: {key: a, key_file: b}\n" + small, []string{":1: ledger.key: is given beside key_file (keep one of them)"}},
		{"a ledger that is nowhere", "ledger: {dsn: \"mysql://x\"}\n" + small, []string{
			":1: ledger.dsn: want postgres://… or sqlite:PATH (leave it out for a SQLite file in work_dir)",
		}},
		{"a schedule nobody can keep", small + "    schedule: {cron: 0 25 * * *, time_zone: Chicago}\n", []string{
			":7: connections[0].schedule.time_zone: want a time zone of the IANA database, such as America/Chicago (UTC is the default)",
			`:7: connections[0].schedule.cron: schedule "0 25 * * *": end of range (25) above maximum (23): 25 (want five fields: minute, hour, day of month, month, day of week; or @hourly, @daily) (0 2 * * * is every night at two)`,
		}},
		{"an address nobody can listen on", "service: {listen: here}\n" + small, []string{":1: service.listen: want HOST:PORT, such as 127.0.0.1:8780 or :8780"}},
		{"two documents", small + "---\n" + small, []string{":7: has more than one YAML document (keep one, without --- lines)"}},
		{"a list where keys belong", "ledger: [1]\n" + small, []string{`:1: ledger: want keys with values (write "key: value" lines, indented below it)`}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			file := write(t, tt.text)
			_, err := Load(file, env(map[string]string{"SECRET": "s3cret"}))
			var problems Problems
			if !errors.As(err, &problems) {
				t.Fatalf("Load: got error %v, want Problems", err)
			}
			var got []string
			for _, problem := range problems {
				got = append(got, strings.TrimPrefix(strings.TrimPrefix(problem.Error(), file), ": "))
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
		})
	}
}

func TestLoadExpandsVariablesOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "secret"), []byte("from ${A} file\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	expand := expander{dir: dir, lookup: env(map[string]string{"A": "${B}", "B": "b", "CREDENTIALS_DIRECTORY": dir})}
	for _, wrong := range []string{"${credential:}", "${credential:../secret}", "${credential:/etc/passwd}", "${credential:none}"} {
		if got, err := expand.expand(wrong); err == nil {
			t.Errorf("expand(%q) = %q, want an error", wrong, got)
		}
	}
	for text, want := range map[string]string{
		"plain":           "plain",
		"${A}":            "${B}",
		"x${B}y${B}":      "xbyb",
		"$${B}":           "${B}",
		"cost: $5":        "cost: $5",
		"${file:secret}!": "from ${A} file!",

		"${credential:secret}": "from ${A} file",
	} {
		got, err := expand.expand(text)
		if err != nil || got != want {
			t.Errorf("expand(%q) = %q, %v, want %q", text, got, err, want)
		}
	}
}

func TestSecretsAreNotPrinted(t *testing.T) {
	t.Parallel()
	cfg, err := Load(write(t, small), env(map[string]string{"SECRET": "s3cret"}))
	if err != nil {
		t.Fatal(err)
	}
	var logged strings.Builder
	slog.New(slog.NewTextHandler(&logged, nil)).Info("x", "secret", cfg.Connections[0].Target.ClientSecret)
	asJSON, err := json.Marshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{
		fmt.Sprintf("%v %+v %#v %s %q", cfg, cfg.Connections, cfg.Connections, cfg.Connections[0].Target.ClientSecret, cfg.Connections[0].Target.ClientSecret),
		logged.String(), string(asJSON),
	} {
		if strings.Contains(text, "s3cret") {
			t.Errorf("the secret is in %q", text)
		}
	}
	_, err = Load(write(t, strings.Replace(small, "school_year: 2027", `school_year: "${SECRET}"`, 1)), env(map[string]string{"SECRET": "s3cret"}))
	if err == nil || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("Load of a secret where a number belongs: got %v, want an error without it", err)
	}
}

// The example is the manual: it must load, mention every key, and say the defaults as they are.
func TestExampleIsComplete(t *testing.T) {
	t.Parallel()
	file := filepath.Join("..", "..", "..", "..", "config.example.yaml")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	loadable := strings.ReplaceAll(string(text), "/run/secrets/edfi_client_secret", secret)
	cfg, err := Load(write(t, loadable), func(name string) (string, bool) { return "postgres://" + name, true })
	if err != nil {
		t.Fatalf("the example does not load:\n%v", err)
	}
	if got, want := cfg.Connections[0].Target.ClientSecret.Reveal(), "s3cret"; got != want {
		t.Errorf("client_secret = %q, want %q", got, want)
	}
	root, problem := document([]byte(strings.Replace(string(text), "# key:", "key:", 1)))
	if problem != nil {
		t.Fatal(problem)
	}
	mentions(t, root, reflect.TypeFor[Config](), "")
}

// mentions fails for every key of a struct that the YAML does not have.
func mentions(t *testing.T, node *yaml.Node, typ reflect.Type, path string) {
	t.Helper()
	if typ.Kind() == reflect.Slice && len(node.Content) > 0 {
		mentions(t, node.Content[0], typ.Elem(), path+"[0]")
		return
	}
	if typ.Kind() != reflect.Struct {
		return
	}
	for i := range typ.NumField() {
		key := typ.Field(i).Tag.Get("yaml")
		if key == "-" {
			continue
		}
		var value *yaml.Node
		for j := 0; j+1 < len(node.Content); j += 2 {
			if node.Content[j].Value == key {
				value = node.Content[j+1]
			}
		}
		if key == "" || value == nil {
			t.Errorf("the example does not mention %s", join(path, key))
			continue
		}
		mentions(t, value, typ.Field(i).Type, join(path, key))
	}
}

func TestConnectionFindsByName(t *testing.T) {
	t.Parallel()
	cfg := &Config{Connections: []Connection{{Name: "a", Tenant: "default"}, {Name: "b", Tenant: "x"}, {Name: "b", Tenant: "y"}}}
	for name, want := range map[string]int{"a": 0, "x/b": 1, "y/b": 2, "b": -1, "": -1, "c": -1} {
		got, ok := cfg.Connection(name)
		if ok != (want >= 0) || ok && got != &cfg.Connections[want] {
			t.Errorf("Connection(%q) = %v, %v, want number %d", name, got, ok, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(small)
	f.Add("ledger: &a {key: *a}\n")
	f.Add("connections: [{target: {context: {a: b}}}]\n")
	f.Fuzz(func(t *testing.T, text string) {
		cfg, problems := parse([]byte(text), expander{dir: t.TempDir(), lookup: env(nil)})
		if cfg == nil && len(problems) == 0 {
			t.Error("neither a configuration nor a problem")
		}
	})
}
