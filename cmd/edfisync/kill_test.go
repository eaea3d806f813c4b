package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/jmoiron/sqlx"

	"github.com/edfisync/edfisync/cmd/edfisync/internal/config"
	"github.com/edfisync/edfisync/limitless"
	"github.com/edfisync/edfisync/sandbox"
	"github.com/edfisync/edfisync/schema"
)

// killWorld is a district, a sandbox that kills the run when it sees the n-th write, and the program as a process of its own.
type killWorld struct {
	t       *testing.T
	dir     string
	sis     *sqlx.DB
	model   *schema.Model
	sandbox *sandbox.Server
	url     string
	writes  atomic.Int64
	killAt  atomic.Int64 // 0 = never
	victim  atomic.Pointer[os.Process]
}

const killConfig = `work_dir: work
log: { level: error }
connections:
  - name: demo
    school_year: %d
    source: { driver: sqlite, dsn: sis.sqlite }
    pack: embedded:limitless
    settle_delay: 1ms
    target:
      url: %s
      client_id: %s
      client_secret: %s
      timeout: 1s
      concurrency: { min: 4, max: 8 }
`

// openAtMost is two batches of the configuration above (four times the calls in flight, at least 64).
const openAtMost = 2 * 64

func newKillWorld(t *testing.T, sisFile string) *killWorld {
	t.Helper()
	w := &killWorld{t: t, dir: t.TempDir()}
	data, err := os.ReadFile(sisFile)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(w.dir, "sis.sqlite")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if w.sis, err = limitless.OpenSQLite(path); err != nil {
		t.Fatal(err)
	}
	if w.model, err = schema.Bundled("5.2"); err != nil {
		t.Fatal(err)
	}
	year := limitless.DefaultSchoolYear
	if w.sandbox, err = sandbox.New(sandbox.Options{
		Model: w.model, ClientID: sandboxClientID, ClientSecret: sandboxSecret, SchoolYears: []int{year - 1, year, year + 1},
		MaxTokens: 1000, // every run is a process with a token of its own
	}); err != nil {
		t.Fatal(err)
	}
	handler := w.sandbox.Handler()
	srv := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && bytes.HasPrefix([]byte(r.URL.Path), []byte("/data/")) {
			if n := w.writes.Add(1); n == w.killAt.Load() {
				_ = w.victim.Load().Kill()
			}
		}
		handler.ServeHTTP(rw, r)
	}))
	w.url = srv.URL
	text := fmt.Sprintf(killConfig, year, w.url, sandboxClientID, sandboxSecret)
	if err := os.WriteFile(filepath.Join(w.dir, "edfisync.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { srv.Close(); w.sandbox.Close(); w.sis.Close() })
	return w
}

// run runs the program. With killAt it is killed when the target sees that write, and the test fails when it was not.
func (w *killWorld) run(killAt int64) map[string]any {
	w.t.Helper()
	program := os.Getenv("EDFISYNC_TEST_PROGRAM") // the program as it is shipped, several times as fast as with the race detector
	if program == "" {
		program = "edfisync" // this test program under another name (TestMain)
	}
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(w.t.Context(), program, "run", "--json")
	cmd.Dir, cmd.Stdout, cmd.Stderr = w.dir, &out, &errs
	w.writes.Store(0)
	w.killAt.Store(0)
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.victim.Store(cmd.Process)
	w.killAt.Store(killAt)
	err := cmd.Wait()
	if killAt > 0 {
		if cmd.ProcessState.ExitCode() != -1 {
			w.t.Fatalf("the run was to be killed at write %d and ended by itself: %v\n%s%s", killAt, err, &out, &errs)
		}
		return nil
	}
	if err != nil {
		w.t.Fatalf("run: %v\n%s%s", err, &out, &errs)
	}
	var summary map[string]any
	if err := json.Unmarshal(out.Bytes(), &summary); err != nil {
		w.t.Fatalf("read summary: %v\n%s", err, &out)
	}
	return summary
}

// settled fails unless target and source are equal, nothing more is written, and at most two batches came twice.
func (w *killWorld) settled(what string) {
	w.t.Helper()
	if got := w.sandbox.Stats().RepeatedWrites; got > openAtMost {
		w.t.Errorf("%s: %d writes came twice, want at most two batches (%d)", what, got, openAtMost)
	}
	if s := w.run(0); s["calls"] != 0.0 {
		w.t.Errorf("%s: a run with nothing to do made %v calls (I1)", what, s["calls"])
	}
	cfg, err := config.Load(filepath.Join(w.dir, "edfisync.yaml"), os.LookupEnv)
	if err != nil {
		w.t.Fatal(err)
	}
	d := &demo{app: &app{streams: streams{out: io.Discard, err: io.Discard}}, cfg: cfg, model: w.model}
	if err := d.verify(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	for _, diff := range d.result.Differences {
		w.t.Errorf("%s: target and source differ: %+v", what, diff)
	}
}

// killSIS makes a small district once.
func killSIS(t *testing.T) (file string, records int64) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "sis.sqlite")
	db, err := limitless.OpenSQLite(file)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := limitless.Create(t.Context(), db, limitless.SQLite); err != nil {
		t.Fatal(err)
	}
	stats, err := limitless.Generate(t.Context(), db, limitless.SQLite, limitless.Options{Students: limitless.MinStudents, AttendancePerStudent: 20})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec(`pragma wal_checkpoint(truncate)`); err != nil {
		t.Fatal(err)
	}
	return file, int64(stats.Total())
}

const killPoints = 20

// T3: kill -9 while a first load is under way. The next run converges, nothing is twice at the target and nothing is left over (I1–I4).
func TestKill9InAFirstLoad(t *testing.T) {
	t.Parallel()
	sis, records := killSIS(t)
	for i := range int64(killPoints) {
		at := 1 + i*(records-1)/(killPoints-1)
		t.Run(fmt.Sprintf("at write %d of %d", at, records), func(t *testing.T) {
			w := newKillWorld(t, sis)
			w.run(at)
			if s := w.run(0); s["failed"] != 0.0 || s["held"] != 0.0 {
				t.Errorf("the run after the kill left records behind: %v", s)
			}
			w.settled("first load")
		})
	}
}

// T3: kill -9 while edits are sent: updates, new rows and deletes of many resources.
func TestKill9InAnEditRun(t *testing.T) {
	t.Parallel()
	sis, _ := killSIS(t)
	w := newKillWorld(t, sis)
	w.run(0)
	for i := range int64(killPoints) {
		w.sandbox.ResetStats()
		var edits int64
		for _, statement := range []string{
			fmt.Sprintf(`update att_daily set reason = 'edit %d' where att_id %% 5 = %d`, i, i%5),
			fmt.Sprintf(`update person set middle_name = 'M%d' where per_id %% 4 = %d`, i, i%4),
			fmt.Sprintf(`delete from att_daily where att_id %% 31 = %d`, i),
			fmt.Sprintf(`delete from roster where rost_id %% 61 = %d`, i),
			fmt.Sprintf(`insert into att_daily select att_id + %d, stu_id, sch_no, year_id, term_id, '2026-07-%02d', att_code, reason, time_in, time_out, last_upd
				from att_daily where att_id %% 23 = %d and att_id < 1000000`, (i+1)*1000000, i+1, i),
		} {
			result, err := w.sis.Exec(statement)
			if err != nil {
				t.Fatal(err)
			}
			n, err := result.RowsAffected()
			if err != nil {
				t.Fatal(err)
			}
			edits += n
		}
		at := 1 + i*(edits*8/10)/(killPoints-1) // some edits undo each other or make one call together
		w.run(at)
		w.run(0)
		w.settled(fmt.Sprintf("edits %d, killed at write %d of about %d", i, at, edits))
	}
}
