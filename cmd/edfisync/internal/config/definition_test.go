package config

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edfisync/edfisync/internal/attacktest"
	"github.com/edfisync/edfisync/syncdb"
)

const inLedger = small + "    resources: [students]\n"

func TestAConnectionHasOneSpelling(t *testing.T) {
	t.Parallel()
	const other = `connections:
- target:
    client_secret: ${SECRET}
    "client_id": 'id'
    url: "https://api.example.org"
  tenant: default
  pack: packs/one
  resources:
    - students # one
  source: &s {dsn: "sis.sqlite", driver: sqlite}
  school_year: "2027"
  name: one
`
	var texts []string
	for _, file := range []string{inLedger, other} {
		all, problems := ReadConnections("f.yaml", []byte(file), Environment{Dir: t.TempDir(), Lookup: env(map[string]string{"SECRET": "s3cret"})})
		if len(problems) > 0 {
			t.Fatal(problems)
		}
		texts = append(texts, string(all[0].Text))
	}
	want := `{"name":"one","school_year":2027,"source":{"driver":"sqlite","dsn":"sis.sqlite"},"pack":"packs/one",` +
		`"target":{"url":"https://api.example.org","client_id":"id","client_secret":"${SECRET}"},"resources":["students"]}`
	for _, got := range texts {
		if got != want {
			t.Errorf("got %s\nwant %s", got, want)
		}
	}
	// It survives the way out and in again.
	file, err := YAML([]syncdb.Definition{{Text: json.RawMessage(want)}})
	if err != nil {
		t.Fatal(err)
	}
	again, problems := ReadConnections("f.yaml", file, Environment{Dir: t.TempDir(), Lookup: env(nil)})
	if len(problems) > 0 || string(again[0].Text) != want {
		t.Errorf("exported and read again: %v %s", problems, again[0].Text)
	}
	if len(again[0].Unresolved) != 1 || again[0].Unresolved[0].Path != "connections[0].target.client_secret" {
		t.Errorf("what is not known here: %+v", again[0].Unresolved)
	}
}

func TestADefinitionMeansWhatTheFileMeans(t *testing.T) {
	t.Parallel()
	full := inLedger + `    tenant: acme
    fold_keys: true
    settle_delay: 1m
    descriptors: {GradeLevelDescriptor: {"KG": Kindergarten}}
    safeguards: {deletes: {percent: 12.5, count: 3}, prevent_delete: [ed-fi/students]}
    schedule: {cron: 0 2 * * *, time_zone: America/Chicago, jitter: 20m}
    pauses: [{from: 2027-06-20, to: 2027-07-06T12:00, reason: rollover}]
`
	lookup := env(map[string]string{"SECRET": "s3cret"})
	file := write(t, full)
	cfg, err := Load(file, lookup)
	if err != nil {
		t.Fatal(err)
	}
	e := Environment{Dir: filepath.Dir(file), Lookup: lookup}
	all, problems := ReadConnections(file, []byte(full), e)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	// One that is wrong beside it does not concern it.
	broken := json.RawMessage(strings.NewReplacer("${SECRET}", "${NOWHERE}", `"one"`, `"broken"`).Replace(string(all[0].Text)))
	decoded := Decode([]syncdb.Definition{{Tenant: "acme", Name: "none", Text: json.RawMessage("{")}, {Tenant: "acme", Name: "broken", Text: broken}, {Tenant: "acme", Name: "one", Text: all[0].Text}}, e)
	for i, want := range []string{
		"connection none of the ledger: is not JSON: unexpected EOF",
		"connection acme/broken of the ledger: target.client_secret: environment variable NOWHERE is not set",
	} {
		if err := decoded[i].Err; err == nil || err.Error() != want || decoded[i].Tenant != "acme" {
			t.Errorf("%v, want %s", err, want)
		}
	}
	got, err := decoded[2].Connection, decoded[2].Err
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(&cfg.Connections[0], got); diff != "" {
		t.Errorf("the ledger's differs from the file's (-file +ledger):\n%s", diff)
	}
	zone, err := time.LoadLocation("America/Chicago")
	if err != nil {
		t.Fatal(err)
	}
	from, to, err := got.Pauses[0].Times(zone)
	if want := "2027-06-20T05:00:00Z 2027-07-06T17:00:00Z"; err != nil || from.UTC().Format(time.RFC3339)+" "+to.UTC().Format(time.RFC3339) != want {
		t.Errorf("the pause is from %s to %s, %v; want %s", from, to, err, want)
	}
}

// Every key there is means the same in the ledger: the example has them all.
func TestTheExampleMeansTheSameInTheLedger(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join("..", "..", "..", "..", "config.example.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	loadable := strings.ReplaceAll(string(text), "/run/secrets/edfi_client_secret", secret)
	lookup := func(name string) (string, bool) { return "postgres://" + name, true }
	file := write(t, loadable)
	cfg, err := Load(file, lookup)
	if err != nil {
		t.Fatal(err)
	}
	e := Environment{Dir: filepath.Dir(file), Lookup: lookup}
	all, problems := ReadConnections(file, []byte(loadable), e)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	want := cfg.Connections[0]
	got := Decode([]syncdb.Definition{{Tenant: want.Tenant, Name: want.Name, Text: all[0].Text}}, e)[0]
	if got.Err != nil {
		t.Fatal(got.Err)
	}
	if diff := cmp.Diff(&want, got.Connection); diff != "" {
		t.Errorf("the ledger's differs from the file's (-file +ledger):\n%s", diff)
	}
	again, problems := ReadConnection(all[0].Text, e)
	if len(problems) > 0 || string(again.Text) != string(all[0].Text) {
		t.Errorf("read again: %v\n%s\n%s", problems, all[0].Text, again.Text)
	}
}

func TestSecretsInClearBecomeSealed(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name, driver, dsn string
		sealed            bool // the dsn
		problem           string
	}{
		{name: "the path of a file", driver: "sqlite", dsn: "/var/lib/sis.sqlite"},
		{name: "PostgreSQL without a password", driver: "postgres", dsn: "postgres://sync@sis.example.org/sis?sslmode=verify-full"},
		{name: "PostgreSQL with one", driver: "postgres", dsn: "postgres://sync:hunter2@sis.example.org/sis", sealed: true},
		{name: "PostgreSQL with one among the parameters", driver: "postgres", dsn: "postgres://sync@sis.example.org/sis?password=hunter2", sealed: true},
		{name: "PostgreSQL with a reference to one", driver: "postgres", dsn: "postgres://sync:${PW}@sis.example.org/sis"},
		{name: "PostgreSQL with a reference and more", driver: "postgres", dsn: "postgres://sync:${PW}hunter2@sis.example.org/sis", problem: "holds a password in clear"},
		{name: "PostgreSQL in words, with one", driver: "postgres", dsn: "host=sis user=sync password='hunter 2' dbname=sis", sealed: true},
		{name: "PostgreSQL in words, with a reference", driver: "postgres", dsn: "host=sis user=sync password='${PW}' dbname=sis"},
		{name: "PostgreSQL that cannot be read", driver: "postgres", dsn: "postgres://sync:hun%ter2@sis.example.org/sis", sealed: true},
		{name: "MySQL with one", driver: "mysql", dsn: "sync:hun@ter2@tcp(sis:3306)/sis", sealed: true},
		{name: "MySQL without", driver: "mysql", dsn: "sync@tcp(sis:3306)/sis"},
		{name: "MySQL with a reference", driver: "mysql", dsn: "sync:${file:/run/secrets/pw}@tcp(sis:3306)/sis"},
		{name: "SQL Server with one", driver: "sqlserver", dsn: "sqlserver://sync:hunter2@sis:1433?database=sis", sealed: true},
		{name: "SQL Server in words, with one", driver: "sqlserver", dsn: "server=sis;user id=sync;pwd=hunter2", sealed: true},
		{name: "SQL Server in words, with a reference", driver: "sqlserver", dsn: "server=sis;user id=sync;password=${PW};database=sis"},
		{name: "a reference alone", driver: "postgres", dsn: "${sealed:dsn}"},
	}
	var inClear []string
	for _, tt := range cases {
		if tt.sealed || tt.problem != "" {
			inClear = append(inClear, tt.name)
		}
	}
	attacktest.Played(t, attacktest.Secrets, inClear)
	for _, tt := range cases {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			text, err := json.Marshal(map[string]any{
				"name": "one", "school_year": 2027, "pack": "embedded:limitless", "resources": []string{"all"},
				"source": map[string]any{"driver": tt.driver, "dsn": tt.dsn}, "target": map[string]any{"url": "https://a", "client_id": "id", "client_secret": "s3cret"},
			})
			if err != nil {
				t.Fatal(err)
			}
			w, problems := ReadConnection(text, Environment{Dir: t.TempDir(), Lookup: env(nil)})
			if tt.problem != "" {
				if len(problems) != 1 || problems[0].Path != "source.dsn" || problems[0].Message != tt.problem {
					t.Errorf("problems: %v", problems)
				}
				return
			}
			if len(problems) > 0 {
				t.Fatal(problems)
			}
			want := map[string][]byte{"one.client_secret": []byte("s3cret")}
			dsn := tt.dsn
			if tt.sealed {
				want["one.dsn"], dsn = []byte(tt.dsn), "${sealed:one.dsn}"
			}
			if diff := cmp.Diff(want, w.Secrets); diff != "" {
				t.Errorf("secrets (-want +got):\n%s", diff)
			}
			var got struct{ Source struct{ DSN string } }
			if err := json.Unmarshal(w.Text, &got); err != nil || got.Source.DSN != dsn {
				t.Errorf("the dsn is %q, want %q: %v", got.Source.DSN, dsn, err)
			}
			if strings.Contains(string(w.Text), "hunter") || strings.Contains(string(w.Text), "s3cret") {
				t.Errorf("a secret is in %s", w.Text)
			}
		})
	}
}

func TestSealedSecretsAreFilledIn(t *testing.T) {
	t.Parallel()
	text := json.RawMessage(`{"name":"one","school_year":2027,"pack":"embedded:limitless","resources":["all"],
		"source":{"driver":"postgres","dsn":"postgres://sync:${sealed:pw}@sis/sis"},"target":{"url":"https://a","client_id":"id","client_secret":"$${sealed:x}"}}`)
	conn := Decode([]syncdb.Definition{{Tenant: "default", Name: "one", Text: text, Version: 3}}, Environment{Dir: t.TempDir(), Lookup: env(nil)})[0]
	if err := conn.Err; err != nil {
		t.Fatal(err)
	}
	open := func(name string) (string, error) { return "of " + name, nil }
	dsn, err := conn.Source.DSN.Unseal(open)
	if err != nil || dsn.Reveal() != "postgres://sync:of pw@sis/sis" || cmp.Diff([]string{"pw"}, conn.Source.DSN.Sealed()) != "" {
		t.Errorf("the dsn is %q of %v: %v", dsn.Reveal(), conn.Source.DSN.Sealed(), err)
	}
	if s := conn.Target.ClientSecret; s.Reveal() != "${sealed:x}" || len(s.Sealed()) > 0 || conn.Version != 3 || conn.Resources != nil {
		t.Errorf("the connection is %+v, its secret %q", conn.Connection, s.Reveal())
	}
}

// Whoever makes connections over the API cannot have the service read what is not theirs (I13, I15).
func TestWhatTheAPIMayNotReferTo(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	allowed := filepath.Join(dir, "allowed")
	for _, folder := range []string{allowed, filepath.Join(allowed, "pack"), filepath.Join(dir, "secret")} {
		if err := os.MkdirAll(folder, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(filepath.Join(dir, "secret"), filepath.Join(allowed, "link")); err != nil {
		t.Skip(err)
	}
	references := References{Variables: []string{"SIS_*"}, Folders: []string{allowed}}
	cases := []struct {
		name, dsn, driver, secret, pack, url string
		refused                              string // path; "" = nothing
	}{
		{name: "nothing of the machine"},
		{name: "a variable that is allowed", secret: "${SIS_SECRET}"},
		{name: "a variable that is not", secret: "${EDFISYNC_KEY}", refused: "target.client_secret"},
		{name: "a variable in another place", url: "https://evil.example/${EDFISYNC_KEY}", refused: "target.url"},
		{name: "a variable whose name begins like one", secret: "${XSIS_SECRET}", refused: "target.client_secret"},
		{name: "a file in the folder", secret: "${file:allowed/secret}"},
		{name: "a file elsewhere", secret: "${file:/etc/passwd}", refused: "target.client_secret"},
		{name: "a way out of the folder", secret: "${file:allowed/../secret/x}", refused: "target.client_secret"},
		{name: "a link out of the folder", secret: "${file:allowed/link}", refused: "target.client_secret"},
		{name: "a pack in the folder", pack: "allowed/pack"},
		{name: "a pack elsewhere", pack: "/etc", refused: "pack"},
		{name: "a SQLite source in the folder", driver: "sqlite", dsn: "allowed/sis.sqlite"},
		{name: "the ledger as source", driver: "sqlite", dsn: "work/ledger.sqlite", refused: "source.dsn"},
		{name: "a SQLite source as URL", driver: "sqlite", dsn: "file:/etc/x?mode=ro", refused: "source.dsn"},
		{name: "a SQLite source behind a secret", driver: "sqlite", dsn: "${sealed:x}", refused: "source.dsn"},
	}
	var attacks []string
	for _, tt := range cases {
		if tt.refused != "" {
			attacks = append(attacks, tt.name)
		}
	}
	attacktest.Played(t, attacktest.Secrets, attacks)
	for _, tt := range cases {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			or := func(text, otherwise string) string {
				if text == "" {
					return otherwise
				}
				return text
			}
			text, err := json.Marshal(map[string]any{
				"name": "one", "school_year": 2027, "pack": or(tt.pack, "embedded:limitless"), "resources": []string{"all"},
				"source": map[string]any{"driver": or(tt.driver, "postgres"), "dsn": or(tt.dsn, "postgres://sync@sis/sis")},
				"target": map[string]any{"url": or(tt.url, "https://a"), "client_id": "id", "client_secret": or(tt.secret, "${sealed:x}")},
			})
			if err != nil {
				t.Fatal(err)
			}
			w, problems := ReadConnection(text, Environment{Dir: dir, Blind: true})
			if len(problems) > 0 {
				t.Fatal(problems)
			}
			refused := w.Refused(references, nil, dir)
			if got := len(refused) > 0; got != (tt.refused != "") || got && refused[0].Path != tt.refused {
				t.Errorf("refused: %v", refused)
			}
			if again := w.Refused(references, w.Needs, dir); len(again) > 0 {
				t.Errorf("what was there before is refused: %v", again)
			}
		})
	}
}

func TestCloneLeavesSecretsOut(t *testing.T) {
	t.Parallel()
	text := json.RawMessage(`{"name":"one","school_year":2027,"source":{"driver":"postgres","dsn":"postgres://sync:${sealed:pw}@sis/sis"},"pack":"p",` +
		`"target":{"url":"https://a","client_id":"id","client_secret":"${file:/run/x}","concurrency":{"min":1}},"fold_keys":true,"resources":["all"]}`)
	got, err := Clone(text, "two", 2028)
	want := `{"name":"two","school_year":"2028","source":{"driver":"postgres","dsn":"${sealed:two.dsn}"},"pack":"p",` +
		`"target":{"url":"https://a","client_id":"id","client_secret":"${sealed:two.client_secret}","concurrency":{"min":1}},"fold_keys":true,"resources":["all"]}`
	if err != nil || string(got) != want {
		t.Errorf("got %s, %v\nwant %s", got, err, want)
	}
	changes, err := Changes(text, got)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]FieldChange{
		{"name", "one", "two"}, {"school_year", "2027", "2028"}, {"source.dsn", "postgres://sync:${sealed:pw}@sis/sis", "${sealed:two.dsn}"},
		{"target.client_secret", "${file:/run/x}", "${sealed:two.client_secret}"},
	}, changes); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
}

func TestJSONThatIsNoConnection(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ text, want string }{
		"not JSON":          {`{"name": `, "is not JSON: unexpected EOF"},
		"more than one":     {`{} {}`, "is not JSON: there is more after its end"},
		"nested too deep":   {strings.Repeat("[", 100_000), "is not JSON: it nests too deep"},
		"a list":            {`[1]`, `want keys with values (write "key: value" lines, indented below it)`},
		"a key given twice": {`{"name": "a", "name": "b"}`, "name: is given twice (keep one of them)"},
		"an unknown key":    {`{"nmae": "a"}`, "nmae: unknown key (did you mean name?)"},
	} {
		_, problems := ReadConnection([]byte(tt.text), Environment{Dir: t.TempDir(), Lookup: env(nil)})
		if !strings.Contains(problems.Error(), tt.want) {
			t.Errorf("%s: got %v, want %s", name, problems, tt.want)
		}
	}
}

func FuzzReadConnection(f *testing.F) {
	f.Add(`{"name":"one","source":{"dsn":"${sealed:x}"}}`)
	f.Add(`{"descriptors":{"a":{"b":"c"}},"pauses":[{"from":1}],"resources":[null]}`)
	f.Fuzz(func(t *testing.T, text string) {
		w, problems := ReadConnection([]byte(text), Environment{Dir: t.TempDir(), Lookup: env(nil), Blind: true})
		if (w == nil) != (len(problems) > 0) {
			t.Errorf("%v and %v", w, problems)
		}
		if w != nil && !json.Valid(w.Text) {
			t.Errorf("it is kept as %s", w.Text)
		}
	})
}
