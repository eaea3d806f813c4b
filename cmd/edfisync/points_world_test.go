package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/edfisync/edfisync/internal/failpoint"
	"github.com/edfisync/edfisync/internal/tinysis"
	"github.com/edfisync/edfisync/sandbox"
	"github.com/edfisync/edfisync/schema"
)

// pointWorld is a tiny district, a sandbox in this process, and the program as a process of its own, built so that it can be killed at named
// points.
type pointWorld struct {
	t       *testing.T
	program string
	dir     string
	url     string
	sis     *tinysis.DB
	sandbox *sandbox.Server
	api     *tinysis.API
	slow    atomic.Pointer[slowness] // the target takes its time over every write, whether its caller lives or not; nil = it does not
	latency atomic.Int64             // nanoseconds every write waits there
	stall   atomic.Int64             // as many writes take longer than their callers wait, and take effect
	givenUp int64                    // calls since the last edit that a living process got no answer to and sent again
	group   int                      // the group of the SIS that cases work on
	round   int
	backups int  // how many were begun
	told    bool // what the issues are after the first failure
}

const pointConfig = `work_dir: work
log: { level: error }
connections:
  - name: tiny
    school_year: 2026
    source: { driver: sqlite, dsn: sis.sqlite }
    pack: pack
    settle_delay: 1ms
    safeguards: { deletes: { percent: 100, count: 1000 }, run: { deletes: { percent: %d, count: %d } } }
    target:
      url: %s
      client_id: id
      client_secret: secret
      standard: "5.2"
      timeout: 1s # a run after a kill waits as long for late calls
      concurrency: { min: 4, max: 4 }
`

// slowWrite is how long a slow target takes over a write: less than the configuration's timeout.
const slowWrite = 700 * time.Millisecond

// slowness is a time in which the target is slow. It begins with the first write: on a starved machine a process may take seconds to come that far.
type slowness struct {
	lasts time.Duration
	once  sync.Once
	until time.Time
}

func (s *slowness) now() bool {
	s.once.Do(func() { s.until = time.Now().Add(s.lasts) })
	return time.Now().Before(s.until)
}

// failpointProgram returns the program with failpoints in it. make test builds it once; here it is built when nobody did.
func failpointProgram(t *testing.T) string {
	t.Helper()
	if program := os.Getenv("EDFISYNC_TEST_FAILPOINTS"); program != "" {
		return program
	}
	program := filepath.Join(t.TempDir(), "edfisync-failpoints")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-tags", "failpoints", "-o", program, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build the program with failpoints: %v\n%s", err, out)
	}
	return program
}

// baseStudents are the students who are there from the start, groupStudents those of each case.
const (
	baseStudents  = 8
	groupStudents = 6
)

func newPointWorld(t *testing.T, program string) *pointWorld {
	t.Helper()
	w := &pointWorld{t: t, program: program, dir: t.TempDir()}
	model, err := schema.Bundled("5.2")
	w.ok(err)
	w.sis, err = tinysis.Create(t.Context(), filepath.Join(w.dir, "sis.sqlite"), baseStudents)
	w.ok(err)
	w.ok(os.CopyFS(filepath.Join(w.dir, "pack"), tinysis.Pack()))
	w.sandbox, err = sandbox.New(sandbox.Options{Model: model, ClientID: "id", ClientSecret: "secret", MaxTokens: 1 << 30})
	w.ok(err)
	handler := w.sandbox.Handler()
	w.api = &tinysis.API{Handler: handler, ClientID: "id", ClientSecret: "secret"}
	srv := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && strings.HasPrefix(r.URL.Path, "/data/") {
			if slow := w.slow.Load(); slow != nil && slow.now() {
				time.Sleep(slowWrite)
			}
			time.Sleep(time.Duration(w.latency.Load()))
			if w.stall.Add(-1) >= 0 {
				defer time.Sleep(2 * time.Second) // small answers leave when the handler returns
			}
		}
		handler.ServeHTTP(rw, r)
	}))
	w.url = srv.URL
	w.guard(1000)
	t.Cleanup(func() { srv.Close(); w.sandbox.Close(); w.sis.Close() })
	return w
}

// guard lets a run make at most so many deletes without asking.
func (w *pointWorld) guard(deletes int) {
	w.t.Helper()
	w.ok(os.WriteFile(filepath.Join(w.dir, "edfisync.yaml"), fmt.Appendf(nil, pointConfig, 1, deletes, w.url), 0o600))
}

func (w *pointWorld) ok(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// fresh takes ledger, key and witness away and empties the target.
func (w *pointWorld) fresh() {
	w.t.Helper()
	w.ok(os.RemoveAll(filepath.Join(w.dir, "work")))
	if err := os.Remove(filepath.Join(w.dir, "edfisync.yaml.witness")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		w.t.Fatal(err)
	}
	w.ok(w.api.Wipe())
}

// edit makes work for one run of the kind.
func (w *pointWorld) edit(k kind) {
	w.t.Helper()
	ctx := w.t.Context()
	w.round++
	switch k {
	case firstLoad:
		w.fresh()
	case posts:
		if w.group > 0 { // 0 are the students who stay
			w.ok(w.sis.Drop(ctx, w.group))
		}
		w.group++
		w.ok(w.sis.Add(ctx, w.group, groupStudents))
	case puts:
		w.ok(w.sis.Change(ctx, w.group, w.round))
	case deletes:
		w.ok(w.sis.Drop(ctx, w.group))
	}
	w.sandbox.ResetStats()
	w.givenUp = 0
}

// ended is what became of a process.
type ended struct {
	killed  bool
	code    exitCode
	stdout  []byte
	summary map[string]any
	output  string
	reached []string // lines of the log of failpoints
}

// start runs a sync once. order is EDFISYNC_FAILPOINT, "" for none; after kills it from outside that long after its start, 0 never does.
func (w *pointWorld) start(order string, after time.Duration) ended {
	w.t.Helper()
	e := w.command(order, after, "run", "--json")
	if e.killed {
		return e
	}
	if e.code != exitOK && e.code != exitProblems { // the invalid student is a problem
		w.t.Fatalf("run ended with code %d\n%s", e.code, e.output)
	}
	if err := json.Unmarshal(e.stdout, &e.summary); err != nil {
		w.t.Fatalf("read summary: %v\n%s", err, e.output)
	}
	return e
}

// command runs the program once with any arguments.
func (w *pointWorld) command(order string, after time.Duration, args ...string) ended {
	w.t.Helper()
	log := filepath.Join(w.dir, "failpoints.log")
	_ = os.Remove(log)
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(w.t.Context(), w.program, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = w.dir, &out, &errs
	cmd.Env = append(os.Environ(), "EDFISYNC_FAILPOINT="+order, "EDFISYNC_FAILPOINT_LOG="+log)
	w.ok(cmd.Start())
	if after > 0 {
		timer := time.AfterFunc(after, func() { _ = cmd.Process.Kill() })
		defer timer.Stop()
	}
	_ = cmd.Wait() // the code says more
	code := cmd.ProcessState.ExitCode()
	e := ended{killed: code == -1, code: exitCode(code), stdout: out.Bytes(), output: out.String() + errs.String()}
	if text, rerr := os.ReadFile(log); rerr == nil {
		e.reached = strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	}
	w.givenUp += e.sentAgain()
	return e
}

// finish runs the program to its end, without being killed.
func (w *pointWorld) finish() ended {
	w.t.Helper()
	e := w.start("", 0)
	if e.killed {
		w.t.Fatalf("the program was killed by something else\n%s", e.output)
	}
	return e
}

// open counts the intents without a result that are in the ledger now.
func (w *pointWorld) open() int64 {
	w.t.Helper()
	db, err := sqlx.Open("sqlite", "file:"+filepath.Join(w.dir, "work", "ledger.sqlite")+"?mode=ro&_pragma=busy_timeout(5000)")
	w.ok(err)
	defer db.Close()
	var n int64
	w.ok(db.GetContext(w.t.Context(), &n, `select coalesce(sum(intents - results), 0) from journal`))
	return n
}

// settled runs the program until the second run after a kill and fails unless the target equals the source, no more came twice than was
// open at the kills or, on a starved machine, given up by its living caller, and another run writes nothing (I1–I5).
func (w *pointWorld) settled(what string, open int64) {
	w.t.Helper()
	w.slow.Store(nil)
	w.finish()
	repeated, givenUp := w.sandbox.Stats().RepeatedWrites, w.givenUp
	w.equal(what)
	if e := w.finish(); e.summary["calls"] != 0.0 {
		w.t.Errorf("%s: a run with nothing to do made %v calls (I1, I22)", what, e.summary["calls"])
	}
	if repeated > open+givenUp {
		w.t.Errorf("%s: %d writes came twice, %d intents were open, %d calls were given up and sent again", what, repeated, open, givenUp)
	}
	if givenUp > 0 {
		w.t.Logf("%s: %d calls were given up by their living caller and sent again (the machine is starved); %d writes came twice, %d intents were open",
			what, givenUp, repeated, open)
	}
	if n := w.open(); n != 0 {
		w.t.Errorf("%s: %d intents are open after a run that ended well (I3)", what, n)
	}
}

// equal fails unless the target holds what the SIS says.
func (w *pointWorld) equal(what string) {
	w.t.Helper()
	want, err := w.sis.Expected(w.t.Context())
	w.ok(err)
	got, err := w.api.Held()
	w.ok(err)
	for _, d := range tinysis.Diff(want, got) {
		w.t.Errorf("%s, group %d: %s (I1)", what, w.group, d)
	}
	if w.t.Failed() && !w.told {
		w.told = true
		cmd := exec.CommandContext(w.t.Context(), w.program, "issues")
		cmd.Dir = w.dir
		out, err := cmd.CombinedOutput()
		w.t.Logf("issues: %v\n%s", err, out)
	}
}

// counts says how often each point was reached, and how often with each verb.
func (e ended) counts() map[string]int {
	out := map[string]int{}
	for _, line := range e.reached {
		parts := strings.Split(line, " ")
		if len(parts) != 3 {
			continue
		}
		out[parts[0]]++
		if parts[2] != "" {
			out[parts[0]+" "+parts[2]]++
		}
	}
	return out
}

// sentAgain counts the writes the process, while it lived, got no answer to within its timeout and sent again: attempts beyond the first of a
// call, and of them no more than attempts that ended without an answer. Those it was killed in are not among them.
func (e ended) sentAgain() (n int64) {
	calls, attempts, ended, answered := map[string]int64{}, map[string]int64{}, map[string]int64{}, map[string]int64{}
	for _, line := range e.reached {
		parts := strings.Split(line, " ")
		if len(parts) != 3 || parts[2] == http.MethodGet {
			continue
		}
		key := strings.TrimPrefix(parts[1], "/") + " " + parts[2]
		switch failpoint.Point(parts[0]) {
		case failpoint.CallBefore:
			calls[key]++
		case failpoint.AttemptBefore:
			attempts[key]++
		case failpoint.AttemptHeaders:
			ended[key]++
		case failpoint.AttemptAfter:
			answered[key]++
		}
	}
	for key := range calls {
		n += max(0, min(attempts[key]-calls[key], ended[key]-answered[key]))
	}
	return n
}

// diedAt reports whether the process killed itself at the point.
func (e ended) diedAt(p failpoint.Point) bool {
	return e.killed && len(e.reached) > 0 && strings.HasPrefix(e.reached[len(e.reached)-1], "KILL "+string(p)+" ")
}

// tables names the tables of the ledger, none when it is not there or not made.
func (w *pointWorld) tables() (names []string) {
	w.t.Helper()
	file := filepath.Join(w.dir, "work", "ledger.sqlite")
	if _, err := os.Stat(file); err != nil {
		return nil
	}
	db, err := sqlx.Open("sqlite", "file:"+file+"?_pragma=busy_timeout(5000)")
	w.ok(err)
	defer db.Close()
	w.ok(db.SelectContext(w.t.Context(), &names, `select name from sqlite_master where type = 'table'`))
	return names
}
