package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/edfisync/edfisync/limitless"
	"github.com/edfisync/edfisync/sandbox"
	"github.com/edfisync/edfisync/schema"
	"github.com/edfisync/edfisync/sync"
	"github.com/edfisync/edfisync/syncdb"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"edfisync": main, "edfisync-code": expectCode})
}

// expectCode is "exec edfisync-code CODE ARGUMENTS… &name&" in a script: edfisync in the background, which must end with this code.
func expectCode() {
	got := process(os.Args[2:])
	if strconv.Itoa(got) != os.Args[1] {
		fmt.Fprintf(os.Stderr, "exit code %d, want %s\n", got, os.Args[1])
		os.Exit(1)
	}
}

// runForCode is "code CODE ARGUMENTS…" in a script: edfisync, which must end with this code.
func runForCode(ts *testscript.TestScript, _ bool, args []string) {
	err := ts.Exec("edfisync", args[1:]...)
	got := "0"
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		got = strconv.Itoa(exit.ExitCode())
	} else {
		ts.Check(err)
	}
	if got != args[0] {
		ts.Fatalf("exit code %s, want %s", got, args[0])
	}
}

// shippedProgram returns a folder with the program as it is shipped, when EDFISYNC_TEST_PROGRAM names it: make test does, because a
// hundred processes with the race detector take most of its time. Without it the scripts run this test program.
func shippedProgram(t *testing.T) string {
	t.Helper()
	program := os.Getenv("EDFISYNC_TEST_PROGRAM")
	if program == "" {
		return ""
	}
	dir := t.TempDir()
	if err := os.Symlink(program, filepath.Join(dir, "edfisync")); err != nil {
		t.Fatal(err)
	}
	return dir
}

// The scripts are the specification of the command line.
func TestScripts(t *testing.T) {
	t.Parallel()
	shipped := shippedProgram(t)
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script", RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			env.Values[scriptSandbox{}] = new(atomic.Pointer[sandbox.Server])
			if shipped != "" {
				env.Setenv("PATH", shipped+string(os.PathListSeparator)+env.Getenv("PATH"))
			}
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"code": runForCode, "sandbox": startSandbox, "written": waitWritten, "finished": waitFinished, "waits": waitWaits, "address": freeAddress, "printed": waitPrinted, "reachable": waitReachable, "api": callAPI, "sql": execSQL, "wipe": wipeSandbox, "claims": setClaims, "damage": damageFile,
		},
	})
}

// scriptSandbox is the key of the script's sandbox in its values.
type scriptSandbox struct{}

// startSandbox is "sandbox [LATENCY]" in a script: an empty Ed-Fi API whose address is in $EDFI_URL until the script ends.
func startSandbox(ts *testscript.TestScript, _ bool, args []string) {
	model, err := schema.Bundled("5.2")
	ts.Check(err)
	options := sandbox.Options{Model: model, ClientID: sandboxClientID, ClientSecret: sandboxSecret, SchoolYears: []int{2026}}
	if len(args) > 0 {
		options.Latency, err = time.ParseDuration(args[0])
		ts.Check(err)
	}
	server, err := sandbox.New(options)
	ts.Check(err)
	ts.Defer(func() { ts.Check(server.Close()) })
	ts.Check(server.Start(context.Background(), "127.0.0.1:0"))
	ts.Setenv("EDFI_URL", server.URL())
	ts.Value(scriptSandbox{}).(*atomic.Pointer[sandbox.Server]).Store(server)
}

// wipeSandbox is "wipe" in a script: what the host of the API does to it behind our back.
func wipeSandbox(ts *testscript.TestScript, _ bool, _ []string) {
	ts.Check(ts.Value(scriptSandbox{}).(*atomic.Pointer[sandbox.Server]).Load().Wipe())
}

// setClaims is "claims NAME" in a script: the host gives our key another claim set, while its tokens live on.
func setClaims(ts *testscript.TestScript, _ bool, args []string) {
	server := ts.Value(scriptSandbox{}).(*atomic.Pointer[sandbox.Server]).Load()
	ts.Check(server.SetClient(sandbox.Client{ID: sandboxClientID, Secret: sandboxSecret, ClaimSet: args[0]}))
}

// waitWritten is "written N" in a script: wait until the sandbox has been asked N writes since the last time.
func waitWritten(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.ParseInt(args[0], 10, 64)
	ts.Check(err)
	server := ts.Value(scriptSandbox{}).(*atomic.Pointer[sandbox.Server]).Load()
	for server.Stats().Writes < want {
		time.Sleep(5 * time.Millisecond)
	}
	server.ResetStats()
}

// waitFinished is "finished RUN [CONFIG]" in a script: wait until a run has come to an end, whatever it is.
func waitFinished(ts *testscript.TestScript, _ bool, args []string) {
	file := "edfisync.yaml"
	if len(args) > 1 {
		file = args[1]
	}
	for {
		ts.Check(ts.Exec("edfisync", "runs", "--json", "--limit", "1000", "--config", file))
		var runs []syncdb.Run
		ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &runs))
		for _, r := range runs {
			if strconv.FormatInt(r.ID, 10) == args[0] && r.State.Final() {
				return
			}
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// waitWaits is "waits RUN WHY" in a script: wait until a run says that it waits for that.
func waitWaits(ts *testscript.TestScript, _ bool, args []string) {
	for {
		ts.Check(ts.Exec("edfisync", "runs", "--json", "--limit", "1000"))
		var runs []syncdb.Run
		ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &runs))
		for _, r := range runs {
			if strconv.FormatInt(r.ID, 10) == args[0] && r.Wait != nil && r.Wait.For == args[1] {
				return
			}
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// freeAddress is "address" in a script: $ADDR becomes an address nobody listens on.
func freeAddress(ts *testscript.TestScript, _ bool, _ []string) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	ts.Setenv("ADDR", listener.Addr().String())
	ts.Check(listener.Close())
}

// waitReachable is "reachable ADDRESS" in a script: wait until somebody listens there.
func waitReachable(ts *testscript.TestScript, _ bool, args []string) {
	for {
		if conn, err := net.Dial("tcp", args[0]); err == nil {
			ts.Check(conn.Close())
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// waitPrinted is "printed FILE" in a script: wait until a program that runs in the background has written a line there.
func waitPrinted(ts *testscript.TestScript, _ bool, args []string) {
	for {
		text, err := os.ReadFile(ts.MkAbs(args[0]))
		if err == nil && bytes.HasSuffix(text, []byte("\n")) {
			return
		}
		if !errors.Is(err, fs.ErrNotExist) {
			ts.Check(err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// callAPI is "api METHOD ADDRESS PATH STATUS [KEYFILE]" in a script: a request of the API that must be answered with this status, with the key of the
// document that keys create printed. The answer goes to the file "answer".
func callAPI(ts *testscript.TestScript, _ bool, args []string) {
	r, err := http.NewRequest(args[0], "http://"+args[1]+args[2], http.NoBody)
	ts.Check(err)
	if len(args) > 4 {
		var made struct{ Key string }
		ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[4])), &made))
		r.Header.Set("Authorization", "Bearer "+made.Key)
	}
	resp, err := http.DefaultClient.Do(r)
	ts.Check(err)
	body, err := io.ReadAll(resp.Body)
	ts.Check(errors.Join(err, resp.Body.Close()))
	ts.Check(os.WriteFile(ts.MkAbs("answer"), append(body, '\n'), 0o600))
	if strconv.Itoa(resp.StatusCode) != args[3] {
		ts.Fatalf("%s %s: got %d %s, want %s", args[0], args[2], resp.StatusCode, body, args[3])
	}
}

// execSQL is "sql FILE STATEMENT" in a script: what somebody does to the SIS.
func execSQL(ts *testscript.TestScript, _ bool, args []string) {
	db, err := limitless.OpenSQLite(ts.MkAbs(args[0]))
	ts.Check(err)
	_, err = db.Exec(args[1])
	ts.Check(errors.Join(err, db.Close()))
}

func TestWorstPrefersFailedToHeldToProblems(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		codes []exitCode
		want  exitCode
	}{
		{"nothing to tell", nil, exitOK},
		{"problems alone", []exitCode{exitOK, exitProblems}, exitProblems},
		{"held beats problems", []exitCode{exitProblems, exitHeld}, exitHeld},
		{"failed beats held", []exitCode{exitHeld, exitFailed, exitProblems}, exitFailed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := worst(tt.codes...); got != tt.want {
				t.Errorf("worst(%v) = %d, want %d", tt.codes, got, tt.want)
			}
		})
	}
}

func TestCodeOfSummary(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		in   sync.Summary
		want exitCode
	}{
		{"a clean run", sync.Summary{State: syncdb.RunDone, Created: 5}, exitOK},
		{"an invalid row", sync.Summary{State: syncdb.RunDone, Held: 1}, exitProblems},
		{"a rejected record", sync.Summary{State: syncdb.RunDone, Failed: 1}, exitProblems},
		{"deletes held back beside an invalid row", sync.Summary{State: syncdb.RunDone, Held: 1, HeldBack: []sync.HeldPart{{Resource: "ed-fi/students"}}}, exitHeld},
		{"only ops that somebody decided about", sync.Summary{State: syncdb.RunDone, Held: 2, Totals: sync.Totals{Kept: 2, Decided: 2}}, exitOK},
		{"held ones beside decided ones", sync.Summary{State: syncdb.RunDone, Held: 3, Totals: sync.Totals{Kept: 3, Decided: 2}}, exitHeld},
		{"a failed run with deletes held back", sync.Summary{State: syncdb.RunFailed, HeldBack: []sync.HeldPart{{Resource: "ed-fi/students"}}}, exitFailed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := codeOfSummary(&tt.in); got != tt.want {
				t.Errorf("codeOfSummary = %d, want %d", got, tt.want)
			}
		})
	}
}

func TestSummarySaysWhatWasNotReachedAndWhereToLook(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name      string
		in        sync.Summary
		want, not string
	}{
		{"only rows that were not reached", sync.Summary{Failed: 1204, Totals: sync.Totals{NotSent: 1204}}, "1,204 records were not reached; the next run sends them\n", "edfisync issues"},
		{"one row", sync.Summary{Failed: 1, Totals: sync.Totals{NotSent: 1}}, "1 record was not reached; the next run sends it\n", "edfisync issues"},
		{"refused ones beside them", sync.Summary{Failed: 3, Totals: sync.Totals{NotSent: 2}}, "what stands in the way: edfisync issues\n", "adopt"},
		{"held ones beside them", sync.Summary{Held: 1, Failed: 2, Totals: sync.Totals{NotSent: 2}}, "what stands in the way: edfisync issues\n", "adopt"},
		{"records that were there before", sync.Summary{Totals: sync.Totals{Met: 1}}, "1 record was at the target before our first call", "issues"},
		{"a clean run", sync.Summary{Calls: 1}, ": 1 write call\n", "not reached"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var out strings.Builder
			writeSummary(&out, &tt.in)
			if got := out.String(); !strings.Contains(got, tt.want) || strings.Contains(got, tt.not) {
				t.Errorf("summary is\n%s\nwant %q and no %q", got, tt.want, tt.not)
			}
		})
	}
}

func TestProgressLines(t *testing.T) {
	t.Parallel()
	got := []string{
		plainLine("sending", "ed-fi/students", 1500, 6000, 3*time.Second),
		plainLine("reading the source", "", 1234567, 0, 2*time.Second),
		plainLine("sending", "", 10, 10, time.Second),
	}
	want := []string{
		"sending ed-fi/students: 1,500 of 6,000 (25 %), 500/s, 9s left",
		"reading the source: 1,234,567, 617,283/s",
		"sending: 10 of 10 (100 %), 10/s",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("plainLine (-want +got):\n%s", diff)
	}
}

func TestGrouped(t *testing.T) {
	t.Parallel()
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567", -1000: "-1,000", -999: "-999"} {
		if got := grouped(n); got != want {
			t.Errorf("grouped(%d) = %q, want %q", n, got, want)
		}
	}
}

func TestHolderIsDeadOnlyWhenItsLockIsFree(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	h, err := newHolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	if isDead(dir, h.name) {
		t.Error("a holder with its lock is taken for dead")
	}
	if isDead(dir, "elsewhere/"+h.name) || isDead(t.TempDir(), h.name) || isDead(dir, "") || isDead(dir, machine()+"/../x") {
		t.Error("a holder that cannot be judged is taken for dead")
	}
	if err := h.file.Close(); err != nil { // what the system does for a process that was killed
		t.Fatal(err)
	}
	for range 2 { // who asked first may die before it has ended the lease: the second must see it too
		if !isDead(dir, h.name) {
			t.Error("a holder whose lock is free is not taken for dead")
		}
	}
	bury(dir, h.name)
	if left, err := filepath.Glob(lockPath(dir, "*")); err != nil || len(left) > 0 {
		t.Errorf("files left after the funeral: %v %v", left, err)
	}
}

func TestYearsAroundChangeInJuly(t *testing.T) {
	t.Parallel()
	for date, want := range map[string][]int{"2026-06-30": {2025, 2026, 2027}, "2026-07-01": {2026, 2027, 2028}} {
		now, err := time.Parse(time.DateOnly, date)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, yearsAround(now)); diff != "" {
			t.Errorf("yearsAround(%s) (-want +got):\n%s", date, diff)
		}
	}
}

// damageFile is "damage FILE COPY" in a script: a copy of which one byte in the middle is another one.
func damageFile(ts *testscript.TestScript, _ bool, args []string) {
	text, err := os.ReadFile(ts.MkAbs(args[0]))
	ts.Check(err)
	text[len(text)/2] ^= 0x55
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), text, 0o600))
}
