package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/edfisync/edfisync/syncdb"
)

// fleetSize is how many districts the fleet has: EDFISYNC_FLEET of make fleet, or a few.
func fleetSize(few int) (n int, full bool) {
	n, err := strconv.Atoi(os.Getenv("EDFISYNC_FLEET"))
	if err != nil || n <= 0 {
		return few, false
	}
	return n, true
}

// seed is that of the dice of a test, which a failure prints.
func seed(t *testing.T) *rand.Rand {
	t.Helper()
	n, err := strconv.ParseUint(os.Getenv("EDFISYNC_TEST_SEED"), 10, 64)
	if err != nil {
		n = rand.Uint64()
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("again with EDFISYNC_TEST_SEED=%d", n)
		}
	})
	return rand.New(rand.NewPCG(n, 1))
}

// latest returns the runs of a district, the newest first.
func (w *fleetWorld) latest(district int) []syncdb.Run {
	w.t.Helper()
	runs, err := w.ledger.Runs(context.WithoutCancel(w.t.Context()), w.ids[district], 0)
	if err != nil {
		w.t.Fatal(err)
	}
	return runs
}

// eventually waits until a condition holds.
func (w *fleetWorld) eventually(what string, holds func() bool) {
	w.t.Helper()
	for deadline := time.Now().Add(4 * time.Minute); !holds(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			w.t.Fatal("not in 4 minutes: " + what)
		}
	}
}

// Two serve and three worker processes share one ledger, and any of them is killed at any time, and started again as whoever watches over it does: every
// run that was asked for is done once, and what the killed ones left is gone on with by others.
func TestAFleetDoesEveryRunOnceWhoeverIsKilled(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("signals, and the addresses 127.0.0.x, are different")
	}
	districts, full := fleetSize(10)
	kills := 3
	if full {
		kills = 25
	}
	dice := seed(t)
	w := newFleetWorld(t, districts, 12, 4*time.Millisecond)
	roles := [][]string{
		{"serve", "--listen", "127.0.0.1:0", "--workers", "2"}, {"serve", "--listen", "127.0.0.1:0", "--workers", "2"},
		{"worker", "--workers", "2"}, {"worker", "--workers", "2"}, {"worker", "--workers", "2"},
	}
	processes := make([]*exec.Cmd, len(roles))
	for i := range roles {
		processes[i] = w.startAs(i+1, roles[i]...)
	}
	w.askAll()
	type killed struct {
		role    int
		process *exec.Cmd
	}
	deaths := make(chan killed, kills)
	all := int32(districts) * int32(w.records)
	for range kills {
		at, victim := dice.Int32N(all*9/10)+1, dice.IntN(len(roles))
		w.at(at, func() {
			_ = processes[victim].Process.Kill() // it may be dead already
			deaths <- killed{victim, processes[victim]}
		})
	}
	for n := range kills {
		select {
		case k := <-deaths:
			if processes[k.role] != k.process {
				continue // killed twice, and started again already
			}
			_ = k.process.Wait()
			started := w.startAs(k.role+1, roles[k.role]...)
			w.mu.Lock()
			processes[k.role] = started
			w.mu.Unlock()
		case <-time.After(5 * time.Minute):
			t.Fatalf("%d of %d were killed in 5 minutes, after %d of %d writes", n, kills, w.writes.Load(), all)
		}
	}
	w.settled()
	lost := 0
	for i := range w.ids {
		runs := w.latest(i)
		if runs[0].State != syncdb.RunDone {
			t.Errorf("the last run of district %d is %s: %s", i, runs[0].State, runs[0].Error)
		}
		for _, r := range runs[1:] {
			if r.State != syncdb.RunFailed || r.Error != syncdb.LostProcess {
				t.Errorf("district %d has another run that is %s: %s", i, r.State, r.Error)
			}
		}
		lost += len(runs) - 1
		stats := w.sandboxes[i].Stats()
		if stats.Created != w.records || len(runs) == 1 && stats.RepeatedWrites > 0 || stats.RepeatedWrites > int64(openAtMost*(len(runs)-1)) {
			t.Errorf("district %d with %d runs: %d records were created, want %d; %d writes came twice", i, len(runs), stats.Created, w.records, stats.RepeatedWrites)
		}
	}
	if lost == 0 && full {
		t.Error("no run lost its process")
	}
	before := w.writes.Load()
	w.askAll()
	w.settled()
	if n := w.writes.Load() - before; n != 0 {
		t.Errorf("%d writes though nothing changed (I22)", n)
	}
	t.Logf("%d districts of %d records, %d kills, %d runs lost their process, %d writes by %d processes", districts, w.records, kills, lost, before, len(w.by))
}

// A worker is stopped in the middle of its runs (SIGSTOP), for longer than its leases last. Another one takes over and ends them. When the first one wakes up,
// it writes nothing more into the ledger, and at the target no more than what was on its way when it was stopped. Then it works on.
func TestAWorkerThatWasStoppedIsFencedOutWhenItWakes(t *testing.T) {
	t.Parallel()
	if _, full := fleetSize(0); !full || runtime.GOOS != "linux" {
		t.Skip("it waits for leases to end, two minutes: make fleet")
	}
	w := newFleetWorld(t, 3, 40, 20*time.Millisecond)
	sleeper := w.startAs(2, "worker", "--workers", "3")
	stopped := make(chan struct{})
	w.at(60, func() {
		if err := sleeper.Process.Signal(stopSignal); err != nil {
			t.Error(err)
		}
		close(stopped)
	})
	w.askAll()
	<-stopped
	w.startAs(3, "worker", "--workers", "3")
	w.settled() // leases end after a minute, and a grace of half a minute
	w.mu.Lock()
	asleep := len(w.by["127.0.0.2"])
	w.mu.Unlock()
	runs := map[int][]syncdb.Run{}
	for i := range w.ids {
		runs[i] = w.latest(i)
		if got := runs[i]; len(got) != 2 || got[0].State != syncdb.RunDone || got[1].State != syncdb.RunFailed || got[1].Error != syncdb.LostProcess {
			t.Errorf("district %d has runs %+v, newest first; want one that was done after one that lost its process", i, got)
		}
	}
	_, generation, err := w.ledger.Identity(t.Context())
	if err != nil {
		t.Fatal(err)
	}

	if err := sleeper.Process.Signal(wakeSignal); err != nil {
		t.Fatal(err)
	}
	time.Sleep(10 * time.Second) // for what must not happen
	w.mu.Lock()
	woken := len(w.by["127.0.0.2"]) - asleep
	w.mu.Unlock()
	if woken > len(w.ids) { // one call of each run, stopped between check and socket (guarantees.md, Limits)
		t.Errorf("%d writes of the one that woke up reached the targets, want one for each of its %d runs at most", woken, len(w.ids))
	}
	for i := range w.ids {
		if got, err := json.Marshal(w.latest(i)); err != nil || string(got) != mustJSON(t, runs[i]) {
			t.Errorf("the runs of district %d changed: %s", i, got)
		}
	}
	if _, now, err := w.ledger.Identity(t.Context()); err != nil || now != generation {
		t.Errorf("the ledger went from generation %d to %d (%v), though no run began or ended", generation, now, err)
	}
	for i, s := range w.sandboxes {
		if stats := s.Stats(); stats.Created != w.records {
			t.Errorf("district %d: %d records were created, want %d", i, stats.Created, w.records)
		}
	}
	before := w.writes.Load()
	w.askAll()
	w.settled()
	if n := w.writes.Load() - before; n != 0 {
		t.Errorf("%d writes though nothing changed (I22)", n)
	}
	t.Logf("%d writes of the one that was stopped, %d of them after it woke up", asleep+woken, woken)
}

func mustJSON(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// Runs of other processes are canceled from the command line and over the API: they end long before they would have, and the next ones go on from there.
func TestARunOfAnotherProcessIsCanceled(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("signals, and the addresses 127.0.0.x, are different")
	}
	w := newFleetWorld(t, 3, 200, 400*time.Millisecond) // a run takes a minute
	url := w.serving("--workers", "0")
	var key struct{ Key string }
	if err := json.Unmarshal(w.says("keys", "create", "button", "--role", "operator", "--json"), &key); err != nil {
		t.Fatal(err)
	}
	w.startAs(2, "worker", "--workers", "2")
	w.ask(w.ids[:2]...)
	alone := w.startAs(3, "run", "--connection", "district-2")
	w.eventually("all three write", func() bool {
		for _, s := range w.sandboxes {
			if s.Stats().Created == 0 {
				return false
			}
		}
		return true
	})
	for i := range w.ids {
		id := w.latest(i)[0].ID
		if i != 1 {
			w.says("cancel", fmt.Sprint(id), "--why", "a test")
			continue
		}
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, fmt.Sprintf("%s/api/v1/runs/%d/cancel", url, id), http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+key.Key)
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		if resp.Body.Close(); resp.StatusCode != http.StatusAccepted {
			t.Fatalf("cancel over the API: %d %s", resp.StatusCode, body)
		}
	}
	w.settled()
	for i, s := range w.sandboxes {
		if run := w.latest(i)[0]; run.State != syncdb.RunCanceled {
			t.Errorf("the run of district %d is %s: %s", i, run.State, run.Error)
		}
		if n := s.Stats().Created; n == w.records {
			t.Errorf("district %d: all %d records were created before the run ended", i, n)
		}
	}
	if _ = alone.Wait(); alone.ProcessState.ExitCode() != int(exitFailed) {
		t.Errorf("edfisync run ended with code %d, want %d", alone.ProcessState.ExitCode(), exitFailed)
	}
	w.latency.Store(0)
	w.askAll()
	w.settled()
	for i := range w.ids {
		if run := w.latest(i)[0]; run.State != syncdb.RunDone {
			t.Errorf("the next run of district %d is %s: %s", i, run.State, run.Error)
		}
	}
	w.equal(w.records)
}

// serving starts a serve process and returns where it answers.
func (w *fleetWorld) serving(args ...string) string {
	w.t.Helper()
	out, in, err := os.Pipe()
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { out.Close() })
	w.stdout = in
	w.start(append([]string{"serve", "--json", "--listen", "127.0.0.1:0"}, args...)...)
	w.stdout = nil
	if err := in.Close(); err != nil {
		w.t.Fatal(err)
	}
	var says struct{ URL string }
	if err := json.NewDecoder(out).Decode(&says); err != nil || !strings.HasPrefix(says.URL, "http://") {
		w.t.Fatalf("serve says %+v (%v)", says, err)
	}
	return says.URL
}

// says runs a command that ends, and returns what it printed.
func (w *fleetWorld) says(args ...string) []byte {
	w.t.Helper()
	cmd := exec.CommandContext(w.t.Context(), program(), args...)
	cmd.Dir = w.dir
	out, err := cmd.Output()
	if err != nil {
		w.t.Fatalf("edfisync %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}
