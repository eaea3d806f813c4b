package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/edfisync/edfisync/internal/dbtest"
	"github.com/edfisync/edfisync/syncdb"
)

// status asks a service a path; 0 = it did not answer.
func status(ctx context.Context, method, url, key string) (int, string) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, url, http.NoBody)
	if err != nil {
		return 0, err.Error()
	}
	if key != "" {
		r.Header.Set("Authorization", "Bearer "+key)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, string(body)
}

// operatorKey makes a key of the API.
func (w *fleetWorld) operatorKey() string {
	w.t.Helper()
	var made struct{ Key string }
	if err := json.Unmarshal(w.says("keys", "create", "button", "--role", "operator", "--json"), &made); err != nil {
		w.t.Fatal(err)
	}
	return made.Key
}

// F50 for the service: the server of its ledger is killed and comes back. Meanwhile the service lives, says what is wrong, and refuses what it cannot note; then
// it works on by itself. In make fleet the server goes in the middle of runs: they are gone on with when their leases have ended.
func TestAServiceWhoseLedgerGoesAndComesBackWorksOn(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("signals are different")
	}
	_, full := fleetSize(0)
	server := dbtest.DurablePostgres(t)
	w := newFleetWorldOn(t, server.DSN, 3, 40, 20*time.Millisecond)
	url := w.serving("--workers", "1")
	w.startAs(2, "worker", "--workers", "2")
	key := w.operatorKey()
	w.eventually("the service is ready", func() bool { code, _ := status(t.Context(), "GET", url+"/readyz", ""); return code == 200 })
	if full {
		middle := make(chan struct{})
		w.at(150, func() { close(middle) })
		w.askAll()
		<-middle
	}
	if err := server.Kill(); err != nil {
		t.Fatal(err)
	}
	w.eventually("the service says that its ledger is gone", func() bool {
		code, body := status(t.Context(), "GET", url+"/readyz", "")
		return code == 503 && strings.Contains(body, "the ledger does not answer")
	})
	if code, body := status(t.Context(), "GET", url+"/healthz", ""); code != 200 {
		t.Errorf("without its ledger the process does not look alive: %d %s", code, body)
	}
	if code, body := status(t.Context(), "POST", url+"/api/v1/connections/district-0/runs", key); code != 503 && code != 500 {
		t.Errorf("asked for a run without a ledger it says %d %s", code, body)
	}
	if full {
		time.Sleep(5 * time.Second) // calls under way end
		before := w.writes.Load()
		time.Sleep(5 * time.Second)
		if n := w.writes.Load() - before; n != 0 {
			t.Errorf("%d writes 5 s after the ledger was gone", n)
		}
	}
	if err := server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.eventually("the service is ready again", func() bool { code, _ := status(t.Context(), "GET", url+"/readyz", ""); return code == 200 })
	if !full {
		for i := range w.ids {
			if code, body := status(t.Context(), "POST", fmt.Sprintf("%s/api/v1/connections/district-%d/runs", url, i), key); code != 202 {
				t.Errorf("asked for a run: %d %s", code, body)
			}
		}
	}
	w.eventually("all runs are done", func() bool {
		open, err := w.ledger.OpenRuns(t.Context())
		return err == nil && len(open) == 0
	})
	for i := range w.ids {
		if run := w.latest(i)[0]; run.State != syncdb.RunDone {
			t.Errorf("the last run of district %d is %s: %s", i, run.State, run.Error)
		}
	}
	w.equal(w.records)
}

// F49 for the service: the disk of the embedded ledger fills up in the middle of a run. The service lives and says what is wrong, nothing more is sent; with room
// again it works on by itself, and nothing is twice.
func TestAServiceWhoseDiskIsFullWorksOnWhenThereIsRoom(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" || os.Getuid() != 0 {
		t.Skip("mounting a small file system needs Linux and root")
	}
	w := newFleetWorld(t, 1, 60, 30*time.Millisecond)
	work := filepath.Join(w.dir, "work")
	if err := os.MkdirAll(work, 0o700); err != nil {
		t.Fatal(err)
	}
	if text, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", work).CombinedOutput(); err != nil {
		t.Skipf("mount: %v: %s", err, text)
	}
	t.Cleanup(func() {
		if text, err := exec.Command("umount", "-l", work).CombinedOutput(); err != nil {
			t.Errorf("umount: %v: %s", err, text)
		}
	})
	w.embedded()
	url := w.serving("--workers", "1")
	key := w.operatorKey()
	filler := filepath.Join(work, "filler")
	full := make(chan error, 1)
	w.at(60, func() { full <- fill(filler) })
	if code, body := status(t.Context(), "POST", url+"/api/v1/connections/district-0/runs", key); code != 202 {
		t.Fatalf("asked for a run: %d %s", code, body)
	}
	if err := <-full; err != nil {
		t.Fatal(err)
	}
	w.eventually("the service says that its disk is full", func() bool {
		code, body := status(t.Context(), "GET", url+"/readyz", "")
		return code == 503 && strings.Contains(body, "is full")
	})
	if code, body := status(t.Context(), "GET", url+"/healthz", ""); code != 200 {
		t.Errorf("with a full disk the process does not look alive: %d %s", code, body)
	}
	stopped := func() bool {
		before := w.writes.Load()
		time.Sleep(2 * time.Second)
		return w.writes.Load() == before
	}
	w.eventually("nothing is sent", stopped)
	if n := w.sandboxes[0].Stats().Created; n == w.records {
		t.Fatalf("all %d records were created in spite of the full disk", n)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	w.eventually("the service is ready again", func() bool { code, _ := status(t.Context(), "GET", url+"/readyz", ""); return code == 200 })
	w.eventually("somebody who asks gets a run", func() bool {
		code, _ := status(t.Context(), "POST", url+"/api/v1/connections/district-0/runs", key)
		return code == 202
	})
	w.eventually("the run is done", func() bool {
		return w.sandboxes[0].Stats().Created == w.records && w.latest(0)[0].State == syncdb.RunDone
	})
	w.equal(w.records)
}

// fill writes a file until the disk is full.
func fill(name string) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer f.Close()
	for size := 1 << 20; size > 0; {
		if _, err := f.Write(make([]byte, size)); err != nil {
			size /= 2
		}
	}
	return nil
}
