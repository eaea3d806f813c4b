package main

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	gosync "sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edfisync/edfisync/internal/dbtest"
	"github.com/edfisync/edfisync/internal/keys"
	"github.com/edfisync/edfisync/internal/tinysis"
	"github.com/edfisync/edfisync/jobs"
	"github.com/edfisync/edfisync/sandbox"
	"github.com/edfisync/edfisync/schema"
	"github.com/edfisync/edfisync/syncdb"
)

// fleetWorld is a ledger on PostgreSQL, districts with an API each, and processes of the program that share the work.
type fleetWorld struct {
	t         *testing.T
	dir       string
	dsn       string // of ledger and queue
	ledger    *syncdb.DB
	ids       []int64
	sandboxes []*sandbox.Server
	processes []*exec.Cmd

	mu     gosync.Mutex
	killAt int32 // writes of all districts together at which fn is called
	fn     func()
	writes atomic.Int32
}

func newFleetWorld(t *testing.T, districts int) *fleetWorld {
	t.Helper()
	w := &fleetWorld{t: t, dir: t.TempDir()}
	model, err := schema.Bundled("5.2")
	if err != nil {
		t.Fatal(err)
	}
	sis, err := tinysis.Create(t.Context(), filepath.Join(w.dir, "sis.sqlite"), 60)
	if err != nil {
		t.Fatal(err)
	}
	if err := sis.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(filepath.Join(w.dir, "pack"), tinysis.Pack()); err != nil {
		t.Fatal(err)
	}
	master, dsn := strings.Repeat("5a", keys.Size), dbtest.Postgres(t)
	text := fmt.Sprintf("work_dir: work\nlog: {level: error}\nledger: {dsn: %q, key: %q}\nconnections:\n", dsn, master)
	for i := range districts {
		server, err := sandbox.New(sandbox.Options{
			Model: model, ClientID: sandboxClientID, ClientSecret: sandboxSecret, SchoolYears: []int{2026}, Latency: 2 * time.Millisecond, MaxTokens: 100,
		})
		if err != nil {
			t.Fatal(err)
		}
		handler := server.Handler()
		front := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if r.Method != http.MethodGet && strings.HasPrefix(r.URL.Path, "/data/") {
				w.wrote()
			}
			handler.ServeHTTP(rw, r)
		}))
		t.Cleanup(func() { front.Close(); server.Close() })
		w.sandboxes = append(w.sandboxes, server)
		text += fmt.Sprintf("  - name: district-%d\n    school_year: 2026\n    source: {driver: sqlite, dsn: sis.sqlite}\n    pack: pack\n    settle_delay: 1ms\n"+
			"    target: {url: %q, client_id: demo, client_secret: demo-secret, timeout: 1s, concurrency: {min: 1, max: 4}}\n", i, front.URL)
	}
	if err := os.WriteFile(filepath.Join(w.dir, "edfisync.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	w.dsn = dsn
	parsed, err := keys.ParseMaster(master)
	if err != nil {
		t.Fatal(err)
	}
	if w.ledger, err = syncdb.Open(t.Context(), syncdb.Config{DSN: dsn, Master: parsed}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.ledger.Close() })
	for i := range districts {
		c, _, err := w.ledger.Connection(t.Context(), "default", fmt.Sprint("district-", i))
		if err != nil {
			t.Fatal(err)
		}
		w.ids = append(w.ids, c.ID)
	}
	return w
}

// wrote counts a write of any district, and calls what is to happen at this one.
func (w *fleetWorld) wrote() {
	n := w.writes.Add(1)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.fn != nil && n >= w.killAt {
		w.fn()
		w.fn = nil
	}
}

// at arranges that fn is called when the districts together have seen n more writes.
func (w *fleetWorld) at(n int32, fn func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.killAt, w.fn = w.writes.Load()+n, fn
}

// start starts a process of the program.
func (w *fleetWorld) start(args ...string) *exec.Cmd {
	w.t.Helper()
	program := os.Getenv("EDFISYNC_TEST_PROGRAM")
	if program == "" {
		program = "edfisync"
	}
	cmd := exec.Command(program, args...)
	var errs bytes.Buffer
	cmd.Dir, cmd.Stderr = w.dir, &errs
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.processes = append(w.processes, cmd)
	w.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if w.t.Failed() {
			w.t.Logf("%s said:\n%s", strings.Join(args, " "), &errs)
		}
	})
	return cmd
}

// askAll asks for a run of each district.
func (w *fleetWorld) askAll() {
	w.t.Helper()
	bell, err := jobs.Open(w.t.Context(), jobs.Config{Ledger: w.ledger, Queue: jobs.QueueConfig{DSN: w.dsn}})
	if err != nil {
		w.t.Fatal(err)
	}
	for _, id := range w.ids {
		if _, _, err := bell.Ask(w.t.Context(), id, "api"); err != nil {
			w.t.Error(err)
		}
	}
	if err := bell.Close(); err != nil {
		w.t.Error(err)
	}
}

// settled waits until no run waits or runs.
func (w *fleetWorld) settled() {
	w.t.Helper()
	for deadline := time.Now().Add(3 * time.Minute); ; time.Sleep(100 * time.Millisecond) {
		open, err := w.ledger.OpenRuns(context.WithoutCancel(w.t.Context()))
		if err != nil {
			w.t.Fatal(err)
		}
		if len(open) == 0 {
			return
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("after 3 minutes there are open runs: %+v", open)
		}
	}
}

// equal fails unless each district's API holds the same, and how often each record was written shows no run that was done twice.
func (w *fleetWorld) equal(records int64) {
	w.t.Helper()
	for i, s := range w.sandboxes {
		stats := s.Stats()
		if stats.Created != records || stats.RepeatedWrites > openAtMost {
			w.t.Errorf("district %d: %d records were created, want %d; %d writes came twice", i, stats.Created, records, stats.RepeatedWrites)
		}
	}
}

// Runs are done once by whichever process is free, also when one of them is killed in the middle.
func TestAFleetDoesEveryRunThoughProcessesAreKilled(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("signals are different")
	}
	w := newFleetWorld(t, 6)
	w.askAll()
	victim := w.start("worker", "--workers", "3")
	w.at(150, func() { _ = victim.Process.Kill() })
	w.start("serve", "--listen", "127.0.0.1:0", "--workers", "2")
	w.start("worker", "--workers", "2")
	w.settled()
	if w.fn != nil {
		t.Fatal("the process was not killed: too few writes")
	}
	lost := 0
	for i, id := range w.ids {
		runs, err := w.ledger.Runs(t.Context(), id, 0)
		if err != nil {
			t.Fatal(err)
		}
		if runs[0].State != syncdb.RunDone {
			t.Errorf("the last run of district %d is %s: %s", i, runs[0].State, runs[0].Error)
		}
		for _, r := range runs[1:] {
			if r.State != syncdb.RunFailed || r.Error != syncdb.LostProcess {
				t.Errorf("district %d has another run that is %s: %s", i, r.State, r.Error)
			}
			lost++
		}
	}
	if lost == 0 {
		t.Error("no run lost its process")
	}
	records := w.sandboxes[0].Stats().Created
	if records < 100 {
		t.Fatalf("%d records were created", records)
	}
	w.equal(records)

	// Nothing changed since, so that the next runs write nothing.
	before := w.writes.Load()
	w.askAll()
	w.settled()
	if n := w.writes.Load() - before; n != 0 {
		t.Errorf("%d writes though nothing changed (I22)", n)
	}
}
