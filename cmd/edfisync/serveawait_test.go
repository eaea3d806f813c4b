package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/edfisync/edfisync/internal/dbtest"
)

// awaitWorld is a folder with the configuration of a service whose ledger is at an address.
func awaitWorld(t *testing.T, dsn string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	text := fmt.Sprintf("work_dir: work\nledger: {dsn: %q, key: %q}\nconnections: []\n", dsn, strings.Repeat("5a", 32))
	if err := os.WriteFile(filepath.Join(dir, "edfisync.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// A service whose database is down when it starts lives, says so, and begins by itself when it is there.
func TestAServiceWaitsForItsLedger(t *testing.T) {
	t.Parallel()
	ledger, err := url.Parse(dbtest.Postgres(t))
	if err != nil {
		t.Fatal(err)
	}
	server, away := ledger.Host, unusedAddress(t)
	ledger.Host = away
	for _, command := range []string{"serve", "worker"} {
		address := unusedAddress(t)
		cmd := exec.Command(program(), command, "--listen", address)
		var errs bytes.Buffer
		cmd.Dir, cmd.Stderr = awaitWorld(t, ledger.String()), &errs
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
			if t.Failed() {
				t.Logf("%s said:\n%s", command, &errs)
			}
		})
		answers := func(path string, want int, text string) {
			t.Helper()
			got := ""
			for deadline := time.Now().Add(90 * time.Second); ; time.Sleep(50 * time.Millisecond) {
				r, err := http.Get("http://" + address + path)
				if err == nil {
					body, _ := io.ReadAll(r.Body)
					r.Body.Close()
					if got = fmt.Sprint(r.StatusCode, " ", string(body)); r.StatusCode == want && strings.Contains(got, text) {
						return
					}
				}
				if time.Now().After(deadline) {
					t.Fatalf("%s %s: got %s %v, want %d with %q", command, path, got, err, want, text)
				}
			}
		}
		answers("/healthz", 200, "ok")
		answers("/readyz", 503, "the ledger does not answer")
		answers("/api/v1/connections", 503, "the ledger does not answer")
		if command == "worker" {
			_ = cmd.Process.Signal(os.Interrupt) // it was asked to end, and has nothing to end
			if err := cmd.Wait(); err != nil {
				t.Errorf("worker, interrupted while it waits: %v", err)
			}
			continue
		}
		proxy, err := net.Listen("tcp", away)
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			for {
				from, err := proxy.Accept()
				if err != nil {
					return
				}
				to, err := net.Dial("tcp", server)
				if err != nil {
					_ = from.Close()
					continue
				}
				go func() { _, _ = io.Copy(to, from); _ = to.Close() }()
				go func() { _, _ = io.Copy(from, to); _ = from.Close() }()
			}
		}()
		answers("/readyz", 200, "ready")
		_ = cmd.Process.Kill()
		_ = proxy.Close()
	}
}

// What waiting does not mend ends it at once, with what to do.
func TestAServiceDoesNotWaitForAWrongLedger(t *testing.T) {
	t.Parallel()
	wrong := map[string]struct {
		edit func(*url.URL)
		want string
	}{
		"user":     {func(u *url.URL) { u.User = url.UserPassword("nobody_here", "s3cret") }, "user or password of ledger.dsn is wrong"},
		"database": {func(u *url.URL) { u.Path = "/nowhere" }, "make it with createdb, or correct ledger.dsn"},
		"TLS":      {func(u *url.URL) { u.RawQuery = "" }, "add ?sslmode=disable"},
	}
	for name, c := range wrong {
		u, err := url.Parse(dbtest.Postgres(t))
		if err != nil {
			t.Fatal(err)
		}
		c.edit(u)
		cmd := exec.CommandContext(t.Context(), program(), "serve", "--listen", "127.0.0.1:0")
		cmd.Dir = awaitWorld(t, u.String())
		said, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != int(exitUsage) || !strings.Contains(string(said), c.want) || strings.Contains(string(said), "s3cret") {
			t.Errorf("%s: %v, said %s, want code 2 and %q", name, err, said, c.want)
		}
	}
}

// A configuration that becomes wrong while a service runs is told wherever somebody looks, until it is right again.
func TestAServiceTellsThatItsConfigurationBecameWrong(t *testing.T) {
	t.Parallel()
	address, figures, dir := unusedAddress(t), unusedAddress(t), t.TempDir()
	right := fmt.Sprintf("work_dir: work\nservice: {metrics: {listen: %q}, alerts: {every: 50ms, quiet: 1ms}}\nconnections: []\n", figures)
	write := func(text string) {
		t.Helper()
		next := filepath.Join(dir, "next")
		if err := errors.Join(os.WriteFile(next, []byte(text), 0o600), os.Rename(next, filepath.Join(dir, "edfisync.yaml"))); err != nil {
			t.Fatal(err)
		}
	}
	write(right)
	cmd := exec.Command(program(), "serve", "--listen", address)
	cmd.Dir = dir
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	says := func(url, want, not string) {
		t.Helper()
		got := ""
		for deadline := time.Now().Add(60 * time.Second); ; time.Sleep(50 * time.Millisecond) {
			if r, err := http.Get("http://" + url); err == nil {
				body, _ := io.ReadAll(r.Body)
				r.Body.Close()
				if got = string(body); r.StatusCode == 200 && strings.Contains(got, want) && (not == "" || !strings.Contains(got, not)) {
					return
				}
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s: got %s, want %q and not %q", url, got, want, not)
			}
		}
	}
	firing := `edfisync_alerts_firing{condition="configuration-wrong",connection="",tenant=""} `
	says(address+"/readyz", "ready", "wrong")
	says(figures+"/metrics", "edfisync_configuration_wrong 0", firing)
	write(right + "conections: []\n")
	says(address+"/readyz", "the configuration has become wrong; the last good one stays in force", "conections")
	says(figures+"/metrics", "edfisync_configuration_wrong 1", "")
	says(figures+"/metrics", firing+"1", "")
	write(right)
	says(address+"/readyz", "ready", "wrong")
	says(figures+"/metrics", "edfisync_configuration_wrong 0", "")
	says(figures+"/metrics", firing+"0", "")
}
