package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
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
	records   int64  // of one district
	config    string // of a process, with %s for the host it calls the APIs by: so that a write tells who made it

	stdout io.Writer // of the next process that is started; nil = nowhere

	mu     gosync.Mutex
	events []fleetEvent
	by     map[string][]time.Time // when writes came, by the host they were sent to
	writes atomic.Int32

	latency atomic.Int64 // of a write, ns
}

// fleetEvent is what is to happen when all districts together have seen so many writes.
type fleetEvent struct {
	at int32
	fn func()
}

func newFleetWorld(t *testing.T, districts, students int, latency time.Duration) *fleetWorld {
	t.Helper()
	return newFleetWorldOn(t, dbtest.Postgres(t), districts, students, latency)
}

// newFleetWorldOn is newFleetWorld with a ledger of one's own.
func newFleetWorldOn(t *testing.T, dsn string, districts, students int, latency time.Duration) *fleetWorld {
	t.Helper()
	w := &fleetWorld{t: t, dir: t.TempDir(), by: map[string][]time.Time{}}
	w.latency.Store(int64(latency))
	model, err := schema.Bundled("5.2")
	if err != nil {
		t.Fatal(err)
	}
	sis, err := tinysis.Create(t.Context(), filepath.Join(w.dir, "sis.sqlite"), students)
	if err != nil {
		t.Fatal(err)
	}
	expected, err := sis.Expected(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	w.records = int64(len(expected))
	if err := sis.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(filepath.Join(w.dir, "pack"), tinysis.Pack()); err != nil {
		t.Fatal(err)
	}
	master := strings.Repeat("5a", keys.Size)
	text := fmt.Sprintf("work_dir: work\nlog: {level: error}\nledger: {dsn: %q, key: %q}\nconnections:\n", dsn, master)
	for i := range districts {
		server, err := sandbox.New(sandbox.Options{
			Model: model, ClientID: sandboxClientID, ClientSecret: sandboxSecret, SchoolYears: []int{2026}, MaxTokens: 100,
		})
		if err != nil {
			t.Fatal(err)
		}
		handler := server.Handler()
		listener, err := net.Listen("tcp4", "0.0.0.0:0") // every 127.0.0.x leads here
		if err != nil {
			t.Fatal(err)
		}
		front := httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if r.Method != http.MethodGet && strings.HasPrefix(r.URL.Path, "/data/") {
				host, _, _ := strings.Cut(r.Host, ":")
				w.wrote(host)
				time.Sleep(time.Duration(w.latency.Load()))
			}
			handler.ServeHTTP(rw, r)
		}))
		_ = front.Listener.Close()
		front.Listener = listener
		front.Start()
		t.Cleanup(func() { front.Close(); server.Close() })
		w.sandboxes = append(w.sandboxes, server)
		text += fmt.Sprintf("  - name: district-%d\n    school_year: 2026\n    source: {driver: sqlite, dsn: sis.sqlite}\n    pack: pack\n    settle_delay: 1ms\n"+
			"    target: {url: %q, client_id: demo, client_secret: demo-secret, timeout: 1s, concurrency: {min: 1, max: 4}}\n", i, fmt.Sprintf("http://%%s:%d", listener.Addr().(*net.TCPAddr).Port))
	}
	w.dsn, w.config = dsn, text
	w.configure("edfisync.yaml", "127.0.0.1")
	w.open()
	return w
}

// open opens the ledger, and has it number the districts.
func (w *fleetWorld) open() {
	w.t.Helper()
	master, err := keys.ParseMaster(strings.Repeat("5a", keys.Size))
	if err != nil {
		w.t.Fatal(err)
	}
	ledger, err := syncdb.Open(w.t.Context(), syncdb.Config{DSN: w.dsn, Master: master})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { ledger.Close() })
	w.ledger, w.ids = ledger, nil
	for i := range w.sandboxes {
		c, _, err := ledger.Connection(w.t.Context(), "default", fmt.Sprint("district-", i))
		if err != nil {
			w.t.Fatal(err)
		}
		w.ids = append(w.ids, c.ID)
	}
}

// embedded puts the ledger into the work folder.
func (w *fleetWorld) embedded() {
	w.t.Helper()
	dsn := "sqlite:" + filepath.Join(w.dir, "work", "ledger.db")
	w.config = strings.Replace(w.config, fmt.Sprintf("%q", w.dsn), fmt.Sprintf("%q", dsn), 1)
	w.dsn = dsn
	w.configure("edfisync.yaml", "127.0.0.1")
	w.open()
}

// configure writes the configuration of a process that calls the APIs by a host.
func (w *fleetWorld) configure(file, host string) {
	w.t.Helper()
	if err := os.WriteFile(filepath.Join(w.dir, file), []byte(strings.ReplaceAll(w.config, "http://%s:", "http://"+host+":")), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// startAs starts a process that calls the APIs by 127.0.0.n.
func (w *fleetWorld) startAs(n int, args ...string) *exec.Cmd {
	w.t.Helper()
	file := fmt.Sprintf("edfisync-%d.yaml", n)
	w.configure(file, fmt.Sprintf("127.0.0.%d", n))
	return w.start(append(args, "--config", file)...)
}

// wrote counts a write of any district, and calls what is to happen at this one.
func (w *fleetWorld) wrote(host string) {
	n := w.writes.Add(1)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.by[host] = append(w.by[host], time.Now())
	w.events = slices.DeleteFunc(w.events, func(e fleetEvent) bool {
		if n >= e.at {
			e.fn()
		}
		return n >= e.at
	})
}

// pending is how many events have not happened.
func (w *fleetWorld) pending() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.events)
}

// at arranges that fn is called when the districts together have seen n more writes.
func (w *fleetWorld) at(n int32, fn func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events = append(w.events, fleetEvent{w.writes.Load() + n, fn})
}

// program is the one that is tested.
func program() string {
	if program := os.Getenv("EDFISYNC_TEST_PROGRAM"); program != "" {
		return program
	}
	return "edfisync"
}

// start starts a process of the program.
func (w *fleetWorld) start(args ...string) *exec.Cmd {
	w.t.Helper()
	cmd := exec.Command(program(), args...)
	var errs bytes.Buffer
	cmd.Dir, cmd.Stdout, cmd.Stderr = w.dir, w.stdout, &errs
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
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
	w.ask(w.ids...)
}

func (w *fleetWorld) ask(ids ...int64) {
	w.t.Helper()
	bell, err := jobs.Open(w.t.Context(), jobs.Config{Ledger: w.ledger, Queue: jobs.QueueConfig{DSN: w.dsn}})
	if err != nil {
		w.t.Fatal(err)
	}
	for _, id := range ids {
		if _, _, err := bell.AskAs(w.t.Context(), id, "api", syncdb.RunScope{}, syncdb.AuditRow{Who: "test", Action: "run.ask"}); err != nil {
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
	w := newFleetWorld(t, 6, 60, 2*time.Millisecond)
	w.askAll()
	victim := w.start("worker", "--workers", "3")
	w.at(150, func() { _ = victim.Process.Kill() })
	w.start("serve", "--listen", "127.0.0.1:0", "--workers", "2")
	w.start("worker", "--workers", "2")
	w.settled()
	if w.pending() > 0 {
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
	w.equal(w.records)

	// Nothing changed since, so that the next runs write nothing.
	before := w.writes.Load()
	w.askAll()
	w.settled()
	if n := w.writes.Load() - before; n != 0 {
		t.Errorf("%d writes though nothing changed (I22)", n)
	}
}
