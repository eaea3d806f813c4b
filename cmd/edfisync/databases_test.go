package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jmoiron/sqlx"

	"github.com/edfisync/edfisync/internal/dbtest"
	"github.com/edfisync/edfisync/limitless"
	"github.com/edfisync/edfisync/sandbox"
	"github.com/edfisync/edfisync/schema"
	"github.com/edfisync/edfisync/sync"
)

const serverConfig = `
work_dir: work
ledger: {dsn: "${LEDGER}", key: "${KEY}"}
connections:
  - name: one
    school_year: 2026
    source: {driver: "${DRIVER}", dsn: "${SIS}", readers: 2}
    pack: embedded:limitless
    target: {url: "${EDFI_URL}", client_id: demo, client_secret: demo-secret}
`

// The same commands work with the source and the ledger on database servers.
func TestRunOnDatabaseServers(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, driver, sqlDriver string
		dialect                 limitless.Dialect
		sis                     func(*testing.T) string
	}{
		{"source and ledger on PostgreSQL", "postgres", "postgres", limitless.Postgres, func(t *testing.T) string { return dbtest.Postgres(t) }},
		{"source on MariaDB, ledger on PostgreSQL", "mysql", "mysql", limitless.MySQL, func(t *testing.T) string { return dbtest.MariaDB(t) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			sis, ledger := tt.sis(t), dbtest.Postgres(t)
			options := limitless.Options{Students: 40, AttendancePerStudent: 5}
			db, err := sqlx.Connect(tt.sqlDriver, sis)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = db.Close() })
			if err := limitless.Create(t.Context(), db, tt.dialect); err != nil {
				t.Fatal(err)
			}
			stats, err := limitless.Generate(t.Context(), db, tt.dialect, options)
			if err != nil {
				t.Fatal(err)
			}
			model, err := schema.Bundled("5.2")
			if err != nil {
				t.Fatal(err)
			}
			api, err := sandbox.New(sandbox.Options{Model: model, ClientID: sandboxClientID, ClientSecret: sandboxSecret, SchoolYears: []int{2026}})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = api.Close() })
			if err := api.Start(context.WithoutCancel(t.Context()), "127.0.0.1:0"); err != nil {
				t.Fatal(err)
			}
			c := commandLine{t: t, file: filepath.Join(t.TempDir(), "edfisync.yaml"), env: map[string]string{
				"LEDGER": ledger, "SIS": sis, "DRIVER": tt.driver, "EDFI_URL": api.URL(),
				"KEY": "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
			}}
			if err := os.WriteFile(c.file, []byte(serverConfig), 0o600); err != nil {
				t.Fatal(err)
			}
			c.run(exitOK, "check", nil)

			var first sync.Summary
			c.run(exitOK, "run", &first)
			if want := int64(stats.Total()); first.Created != want || first.Calls != want {
				t.Errorf("first run: created %d with %d calls, want %d", first.Created, first.Calls, want)
			}
			predicted, err := limitless.Edit(t.Context(), db, tt.dialect, options)
			if err != nil {
				t.Fatal(err)
			}
			var plan sync.Plan
			c.run(exitOK, "plan", &plan)
			if got, want := plan.Writes(), int64(predicted.Total()); got != want {
				t.Errorf("plan after edits: %d calls, want %d", got, want)
			}
			api.ResetStats()
			var second sync.Summary
			c.run(exitOK, "run", &second)
			if got, want := api.Stats().Writes, int64(predicted.Total()); got != want || second.Calls != want {
				t.Errorf("run after edits: the API counted %d calls and the run %d, want %d", got, second.Calls, want)
			}
			var third sync.Summary
			c.run(exitOK, "run", &third)
			if third.Calls != 0 {
				t.Errorf("run without a change: %d calls, want 0", third.Calls)
			}

			// Reading back, and undoing: what was there after the first run is there again.
			var verified sync.Verification
			c.run(exitOK, "verify", &verified)
			var adopted sync.Adoption
			c.run(exitOK, "adopt", &adopted)
			for _, r := range adopted.Resources {
				if r.Known != r.Read || r.Adopted+r.Corrected+r.Gone+r.Extra != 0 {
					t.Errorf("adopt beside a right ledger: got %+v, want every record known", r)
				}
			}
			var undone sync.Undo
			c.run(exitOK, fmt.Sprintf("undo %d --yes", second.RunID), &undone)
			if got, want := undone.Summary.Calls, int64(predicted.Total()); got != want || undone.LeftOut() != 0 {
				t.Errorf("undo: %d calls, %d records left out, want %d and none", got, undone.LeftOut(), want)
			}
			c.run(exitOK, "verify", &verified)
			var records int64
			for _, r := range verified.Resources {
				records += r.Same
			}
			if want := int64(stats.Total()); records != want {
				t.Errorf("after the undo the target has %d records, want the %d of the first run", records, want)
			}
			var fourth sync.Summary
			c.run(exitOK, "run", &fourth)
			if fourth.Calls != 0 || fourth.Totals.Decided == 0 {
				t.Errorf("run after the undo: %d calls, totals %+v: want none, and what was undone kept back", fourth.Calls, fourth.Totals)
			}
		})
	}
}

// commandLine runs commands in this process.
type commandLine struct {
	t    *testing.T
	file string
	env  map[string]string
}

// run runs a command with --json and reads what it prints.
func (c commandLine) run(want exitCode, command string, into any) {
	c.t.Helper()
	var out, errs bytes.Buffer
	lookup := func(name string) (string, bool) { v, ok := c.env[name]; return v, ok }
	got := run(c.t.Context(), append(strings.Fields(command), "--config", c.file, "--json"), streams{out: &out, err: &errs}, lookup)
	if exitCode(got) != want {
		c.t.Fatalf("%s: exit code %d, want %d\n%s%s", command, got, want, out.String(), errs.String())
	}
	if into == nil {
		return
	}
	if err := json.Unmarshal(out.Bytes(), into); err != nil {
		c.t.Fatalf("%s prints no JSON: %v", command, err)
	}
}
