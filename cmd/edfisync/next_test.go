package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/edfisync/edfisync/internal/keys"
	"github.com/edfisync/edfisync/internal/tinysis"
	"github.com/edfisync/edfisync/jobs"
	"github.com/edfisync/edfisync/syncdb"
)

// A target is down: the service tries the schedule's run again, and again after a quarantine, each time exactly when API and command line said it would.
func TestRunsBeginWhenTheServiceSaysTheyDo(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	sis, err := tinysis.Create(t.Context(), filepath.Join(dir, "sis.sqlite"), 2)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sis.Close() })
	if err := os.CopyFS(filepath.Join(dir, "pack"), tinysis.Pack()); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "edfisync.yaml")
	text := fmt.Sprintf(`work_dir: work
log: {level: error}
ledger: {key: %q}
service:
  egress: {allow: [127.0.0.1]}
  retry: {first_wait: 4s, longest_wait: 4s}
  quarantine: {after: 2, first_wait: 8s, longest_wait: 8s}
connections:
  - name: north
    school_year: 2026
    source: {driver: sqlite, dsn: sis.sqlite}
    pack: pack
    schedule: {cron: "0 0 29 2 *", time_zone: America/Chicago, catch_up: 1h}
    target: {url: "http://127.0.0.1:1", client_id: demo, client_secret: demo-secret, timeout: 1s, retries: 0}
`, strings.Repeat("5a", 32))
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	do := func(args ...string) []byte {
		t.Helper()
		var out, errs bytes.Buffer
		if code := run(t.Context(), append(args, "-c", file), streams{in: strings.NewReader(""), out: &out, err: &errs}, os.LookupEnv); code != 0 {
			t.Fatalf("%v: code %d: %s", args, code, errs.String())
		}
		return out.Bytes()
	}
	made := do("keys", "create", "test", "--role", "viewer", "--json")

	// The schedule's tick comes while no process is there.
	master, err := keys.ParseMaster(strings.Repeat("5a", keys.Size))
	if err != nil {
		t.Fatal(err)
	}
	db, err := syncdb.Open(t.Context(), syncdb.Config{DSN: "sqlite:" + filepath.Join(dir, "work", "ledger.sqlite"), Master: master})
	if err != nil {
		t.Fatal(err)
	}
	conn, _, err := db.Connection(t.Context(), "default", "north")
	if err == nil {
		_, _, err = db.Tick(t.Context(), conn.ID, time.Now(), "cron")
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}

	s := serveHere(t, "serve", "-c", file, "--listen", "127.0.0.1:0")
	if err := json.Unmarshal(made, s); err != nil {
		t.Fatal(err)
	}
	type document struct {
		ID        int64
		State     string
		Reason    string
		StartedAt time.Time
		Failure   string
		Next      *jobs.Next
	}
	// last is the connection's last run when it has failed, and what comes next.
	last := func(than int64) (document, *jobs.Next) {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
			_, body := s.call("GET", s.URL+"/api/v1/connections/north", s.Key, "")
			var c struct {
				State   string
				LastRun document
				Next    *jobs.Next
			}
			if err := json.Unmarshal(body, &c); err != nil {
				t.Fatalf("%v: %s", err, body)
			}
			if c.State == "failing" && c.LastRun.ID > than {
				return c.LastRun, c.Next
			}
			if time.Now().After(deadline) {
				t.Fatalf("no run failed after run %d: %s\n%s", than, body, s.errs)
			}
		}
	}
	failed, next := last(0)
	for _, want := range []struct {
		reason, text string
		wait         time.Duration
	}{
		{jobs.NextRetry, "attempt 2 of 2 after target-unreachable", 4 * time.Second},
		{jobs.NextQuarantine, "in quarantine until then: 2 runs failed one after the other, attempt 3 after target-unreachable", 8 * time.Second},
	} {
		if failed.Failure != "target-unreachable" || next == nil || next.Reason != want.reason || next.Text != want.text {
			t.Fatalf("after run %d, which failed for %q, what comes next is %+v, want %s: %s", failed.ID, failed.Failure, next, want.reason, want.text)
		}
		var lines []struct{ Next *jobs.Next }
		if err := json.Unmarshal(do("connections", "--json"), &lines); err != nil {
			t.Fatal(err)
		}
		var doc document
		_, body := s.call("GET", fmt.Sprintf("%s/api/v1/runs/%d", s.URL, failed.ID), s.Key, "")
		if err := json.Unmarshal(body, &doc); err != nil {
			t.Fatal(err)
		}
		for where, at := range map[string]*jobs.Next{"the command line": lines[0].Next, "the run": doc.Next} {
			if at == nil || at.Reason != jobs.NextTurn && *at != *next { // it may have begun meanwhile
				t.Errorf("%s shows %+v, the connection %+v", where, at, next)
			}
		}
		chicago := inZone(next.At, "America/Chicago")
		for _, command := range []string{"connections", "runs"} {
			if out := do(command); !bytes.Contains(out, []byte(chicago+", "+want.text)) && time.Now().Before(next.At) {
				t.Errorf("%s does not say %s: %s", command, chicago, out)
			}
		}
		shown := next.At
		failed, next = last(failed.ID)
		if early := shown.Truncate(time.Millisecond); failed.Reason != "retry" || failed.StartedAt.Before(early) || failed.StartedAt.After(shown.Add(20*time.Second)) {
			t.Errorf("run %d (%s) began at %s, and was to at %s", failed.ID, failed.Reason, failed.StartedAt, shown)
		}
	}
}
