package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// fails runs the program under a shell's limits and returns what it said; the test fails when the run succeeds.
func (w *killWorld) fails(prefix string) string {
	w.t.Helper()
	program := os.Getenv("EDFISYNC_TEST_PROGRAM")
	if program == "" {
		var err error
		if program, err = exec.LookPath("edfisync"); err != nil {
			w.t.Fatal(err)
		}
	}
	var out bytes.Buffer
	cmd := exec.CommandContext(w.t.Context(), "bash", "-c", prefix+` exec "$0" run`, program)
	cmd.Dir, cmd.Stdout, cmd.Stderr = w.dir, &out, &out
	err := cmd.Run()
	if err == nil {
		w.t.Fatalf("the run succeeded:\n%s", &out)
	}
	if code := cmd.ProcessState.ExitCode(); code != int(exitFailed) || strings.Contains(out.String(), "goroutine ") {
		w.t.Errorf("got exit code %d, want %d and no crash:\n%s", code, exitFailed, &out)
	}
	return out.String()
}

// F49: the disk with the ledger and the spools fills up in the middle of a first load. The run ends with a message that says so; with room again
// the next one continues, and nothing is twice.
func TestF49DiskIsFull(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" || os.Getuid() != 0 {
		t.Skip("mounting a small file system needs Linux and root")
	}
	sis, _ := killSIS(t)
	for _, kib := range []int{256, 512, 1024, 2048} {
		t.Run(fmt.Sprintf("of %d KiB", kib), func(t *testing.T) {
			t.Parallel()
			w := newKillWorld(t, sis)
			work := filepath.Join(w.dir, "work")
			if err := os.Mkdir(work, 0o700); err != nil {
				t.Fatal(err)
			}
			mount := func(args ...string) {
				t.Helper()
				if text, err := exec.Command("mount", append(args, work)...).CombinedOutput(); err != nil {
					t.Skipf("mount: %v: %s", err, text)
				}
			}
			mount("-t", "tmpfs", "-o", fmt.Sprintf("size=%dk", kib), "tmpfs")
			t.Cleanup(func() {
				if text, err := exec.Command("umount", work).CombinedOutput(); err != nil {
					t.Errorf("umount: %v: %s", err, text)
				}
			})
			if said := w.fails(""); !strings.Contains(said, "full") && !strings.Contains(said, "no space") {
				t.Errorf("the message does not say that the disk is full:\n%s", said)
			}
			mount("-o", "remount,size=256m")
			w.run(0)
			w.settled("after the disk was full")
		})
	}
}

// F55: the process may open hardly any file or socket. The run ends with a message, or gets by; the next one continues.
func TestF55TooFewFileDescriptors(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("there is no such limit")
	}
	sis, _ := killSIS(t)
	for _, files := range []int{8, 12, 16} {
		t.Run(fmt.Sprintf("%d", files), func(t *testing.T) {
			t.Parallel()
			w := newKillWorld(t, sis)
			if said := w.fails(fmt.Sprintf("ulimit -n %d;", files)); !strings.Contains(said, "too many open files") && !strings.Contains(said, "unable to open database file") {
				t.Errorf("the message does not say what there was too little of:\n%s", said)
			}
			w.run(0)
			w.settled("after too few files")
		})
	}
}
