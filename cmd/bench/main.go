// Command bench measures edfisync against raw limits in one run, prints ratios and writes them to bench.json. Every scenario runs in a
// process of its own, so that peak memory is that scenario's; the target of the load scenarios is a separate process that only answers
// 201. Figures of one run compare with each other and with nothing else: run it on a quiet machine.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
)

// Report is bench.json. Ratios are ours ÷ the baseline of the same run.
type Report struct {
	PipelineRatio        float64 `json:"pipeline_ratio"`             // POST/s of the whole pipeline ÷ bare net/http loop, target answers 201
	PipelinePerSecond    float64 `json:"pipeline_posts_per_s"`       // ours
	BarePerSecond        float64 `json:"bare_posts_per_s"`           // the loop's
	SandboxRatio         float64 `json:"sandbox_pipeline_ratio"`     // the same against the sandbox
	SandboxPerSecond     float64 `json:"sandbox_posts_per_s"`        // ours
	SandboxBarePerSecond float64 `json:"sandbox_bare_posts_per_s"`   // the loop's
	HistoryRatio         float64 `json:"history_ratio"`              // POST/s of the pipeline with history kept, as everywhere here ÷ without
	HistoryProcessor     float64 `json:"history_cpu_us"`             // processor time of our process that keeping it adds to a record
	LatencyRatio         float64 `json:"latency_ratio"`              // 64 connections, 20 ms per answer
	NochangeRows         float64 `json:"nochange_rows_per_s"`        // PostgreSQL source and ledger
	NochangeRatio        float64 `json:"nochange_ratio"`             // ÷ bare loop over the same query with both hashes
	NochangeBare         float64 `json:"nochange_bare_rows_per_s"`   // the loop's
	NochangeSQLite       float64 `json:"nochange_sqlite_rows_per_s"` // SQLite source and ledger
	NochangeSQLiteRatio  float64 `json:"nochange_sqlite_ratio"`      // ÷ bare loop
	NsPerRow             float64 `json:"ns_per_row"`                 // map + validate + canonical + hash, 15 elements
	AllocsPerRow         float64 `json:"allocs_per_row"`
	PeakRSSMiB           float64 `json:"peak_rss_mib"`       // largest of all scenarios
	Calibration          float64 `json:"calibration_sha256"` // ns for SHA-256 of 731 bytes: how fast this machine was during this run
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) > 0 && args[0] == "child" {
		return child(ctx, args[1:])
	}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	rows := flags.Int("rows", 1_000_000, "attendance rows of the no-change scenarios")
	posts := flags.Int("posts", 100_000, "records of the load scenarios")
	out := flags.String("out", "bench.json", "where the figures go")
	postgres := flags.String("postgres", os.Getenv("EDFISYNC_TEST_POSTGRES"), "DSN of a PostgreSQL server that may be written to; empty leaves its scenarios out")
	scale := flags.Bool("scale", false, "instead: 100,000 students in PostgreSQL, load, no change, 1 % change, and the memory it takes")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *scale && *postgres == "" {
		return errors.New("-scale needs -postgres or EDFISYNC_TEST_POSTGRES")
	}
	dir, err := os.MkdirTemp("", "edfisync-bench-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	b := &bench{ctx: ctx, dir: dir}
	if *scale {
		return b.scale(*postgres)
	}
	r, err := b.all(*rows, *posts, *postgres)
	if err != nil {
		return err
	}
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(*out, append(text, '\n'), 0o644); err != nil {
		return err
	}
	fmt.Printf("\n%s\nwritten to %s\n", text, *out)
	return nil
}

// bench runs scenarios as child processes.
type bench struct {
	ctx  context.Context
	dir  string
	peak float64
}

// result is what a child prints.
type result struct {
	PerSecond float64 `json:"perSecond"`
	Count     int64   `json:"count"`
	Seconds   float64 `json:"seconds"`
	Ns        float64 `json:"ns"`
	Allocs    float64 `json:"allocs"`
	Calls     int64   `json:"calls"`
	PeakMiB   float64 `json:"peakMiB"`
	Processor float64 `json:"processor"` // seconds of processor time this process took

	Calibration float64 `json:"calibration"`
}

func (b *bench) child(what string, args ...string) (result, error) {
	self, err := os.Executable()
	if err != nil {
		return result{}, err
	}
	cmd := exec.CommandContext(b.ctx, self, append([]string{"child", what}, args...)...)
	cmd.Stderr = os.Stderr
	text, err := cmd.Output()
	if err != nil {
		return result{}, fmt.Errorf("%s: %w", what, err)
	}
	var r result
	if err := json.Unmarshal(text, &r); err != nil {
		return result{}, fmt.Errorf("%s: %w", what, err)
	}
	b.peak = max(b.peak, r.PeakMiB)
	fmt.Printf("%-60s %12.0f /s  %8d in %6.2f s  peak %4.0f MiB\n", what+" "+strings.Join(shorten(b.dir, args), " "), r.PerSecond, r.Count, r.Seconds, r.PeakMiB)
	return r, nil
}

func shorten(dir string, args []string) []string {
	var out []string
	for _, a := range args {
		switch {
		case strings.HasPrefix(a, dir):
			a = filepath.Base(a)
		case strings.HasPrefix(a, "postgres://"):
			a = "postgres"
		case strings.HasPrefix(a, "http://"):
			continue
		}
		out = append(out, a)
	}
	return out
}

// server starts a target in a process of its own and returns its URL.
func (b *bench) server(args ...string) (url string, stop func(), err error) {
	self, err := os.Executable()
	if err != nil {
		return "", nil, err
	}
	cmd := exec.CommandContext(b.ctx, self, append([]string{"child", "serve"}, args...)...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return "", nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", nil, err
	}
	if err := cmd.Start(); err != nil {
		return "", nil, err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return "", nil, errors.Join(err, cmd.Wait())
	}
	return strings.TrimSpace(line), func() {
		_ = in.Close() // the server ends with its standard input
		_, _ = io.Copy(io.Discard, out)
		_ = cmd.Wait()
	}, nil
}

func (b *bench) all(rows, posts int, postgres string) (*Report, error) {
	r := &Report{}
	micro, err := b.child("encode")
	if err != nil {
		return nil, err
	}
	r.NsPerRow, r.AllocsPerRow, r.Calibration = micro.Ns, micro.Allocs, micro.Calibration

	path := func(name string) string { return filepath.Join(b.dir, name) }
	if _, err := b.child("generate", "sqlite", path("load.db"), fmt.Sprint(posts/100), "88"); err != nil {
		return nil, err
	}
	pair := func(ledger string, n int, connections, latency string, server ...string) (ours, bare result, err error) {
		url, stop, err := b.server(server...)
		if err != nil {
			return ours, bare, err
		}
		defer stop()
		if bare, err = b.child("bare", url, fmt.Sprint(n), connections); err != nil {
			return ours, bare, err
		}
		ours, err = b.child("load", url, "sqlite", path("load.db"), "sqlite:"+path(ledger), connections, latency, kept)
		return ours, bare, err
	}
	ours, bare, err := pair("pipeline.ledger", posts, "32", "all", "201", "0s")
	if err != nil {
		return nil, err
	}
	r.PipelineRatio, r.PipelinePerSecond, r.BarePerSecond = ours.PerSecond/bare.PerSecond, ours.PerSecond, bare.PerSecond
	if err := b.history(r, path); err != nil {
		return nil, err
	}
	if ours, bare, err = pair("sandbox.ledger", posts, "32", "all", "sandbox", "0s"); err != nil {
		return nil, err
	}
	r.SandboxRatio, r.SandboxPerSecond, r.SandboxBarePerSecond = ours.PerSecond/bare.PerSecond, ours.PerSecond, bare.PerSecond
	if ours, bare, err = pair("latency.ledger", posts/3, "64", "attendance", "201", "20ms"); err != nil {
		return nil, err
	}
	r.LatencyRatio = ours.PerSecond / bare.PerSecond

	nochange := func(driver, source, ledger string) (ours, bare result, err error) {
		url, stop, err := b.server("201", "0s")
		if err != nil {
			return ours, bare, err
		}
		defer stop()
		if _, err = b.child("generate", driver, source, fmt.Sprint(rows/97), "110"); err != nil {
			return ours, bare, err
		}
		if _, err = b.child("load", url, driver, source, ledger, "32", "attendance", kept); err != nil {
			return ours, bare, err
		}
		if bare, err = b.child("bare-rows", driver, source); err != nil {
			return ours, bare, err
		}
		ours, err = b.child("load", url, driver, source, ledger, "32", "attendance", kept)
		return ours, bare, err
	}
	if ours, bare, err = nochange("sqlite", path("nochange.db"), "sqlite:"+path("nochange.ledger")); err != nil {
		return nil, err
	}
	r.NochangeSQLite, r.NochangeSQLiteRatio = ours.PerSecond, ours.PerSecond/bare.PerSecond
	if postgres != "" {
		source, ledger, drop, err := databases(b.ctx, postgres)
		if err != nil {
			return nil, err
		}
		defer drop()
		if ours, bare, err = nochange("postgres", source, ledger); err != nil {
			return nil, err
		}
		r.NochangeRows, r.NochangeBare, r.NochangeRatio = ours.PerSecond, bare.PerSecond, ours.PerSecond/bare.PerSecond
	} else {
		fmt.Println("no PostgreSQL given: its scenarios are left out (-postgres or EDFISYNC_TEST_POSTGRES)")
	}
	r.PeakRSSMiB = b.peak
	return r, nil
}

// kept is for how long the scenarios keep history, as the product does when nobody says otherwise.
const kept = "720h"

// history loads the same records with and without history, by turns, each time into a new ledger and a new target.
func (b *bench) history(r *Report, path func(string) string) error {
	const rounds = 3
	var with, without result
	for round := range rounds {
		for _, c := range []struct {
			keep string
			sum  *result
		}{{"0", &without}, {kept, &with}} {
			url, stop, err := b.server("201", "0s")
			if err != nil {
				return err
			}
			ledger := path(fmt.Sprintf("history-%s-%d.ledger", c.keep, round))
			one, err := b.child("load", url, "sqlite", path("load.db"), "sqlite:"+ledger, "32", "all", c.keep)
			stop()
			if err != nil {
				return err
			}
			c.sum.Count, c.sum.Seconds, c.sum.Processor = c.sum.Count+one.Count, c.sum.Seconds+one.Seconds, c.sum.Processor+one.Processor
		}
	}
	r.HistoryRatio = without.Seconds / with.Seconds
	r.HistoryProcessor = (with.Processor - without.Processor) / float64(with.Count) * 1e6
	return nil
}

// processorSeconds is the processor time this process has taken, from /proc.
func processorSeconds() float64 {
	const ticks = 100 // per second, on every Linux there is
	stat, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		return 0
	}
	_, rest, _ := bytes.Cut(stat, []byte(") ")) // the name before may hold spaces
	fields := strings.Fields(string(rest))
	if len(fields) < 13 {
		return 0
	}
	var user, system float64
	if _, err := fmt.Sscan(fields[11]+" "+fields[12], &user, &system); err != nil {
		return 0
	}
	return (user + system) / ticks
}

// peakMiB is this process's largest resident set so far; 0 where the system does not tell.
func peakMiB() float64 {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for line := range bytes.Lines(status) {
		var kib float64
		if n, _ := fmt.Sscanf(string(line), "VmHWM: %f kB", &kib); n == 1 {
			return kib / 1024
		}
	}
	return 0
}

// memoryLimitMiB is what our process may take at any size of district (I21).
const memoryLimitMiB = 512

// scale loads a district of 100,000 students with a million attendance rows into the sandbox, runs again with nothing to do, and again
// after one attendance row in a hundred changed. It fails when a run needs too much memory or makes other calls than it should.
func (b *bench) scale(postgres string) error {
	source, ledger, drop, err := databases(b.ctx, postgres)
	if err != nil {
		return err
	}
	defer drop()
	url, stop, err := b.server("sandbox", "0s")
	if err != nil {
		return err
	}
	defer stop()
	const students, perStudent = "100000", "11"
	made, err := b.child("generate", "postgres", source, students, perStudent)
	if err != nil {
		return err
	}
	b.peak = 0
	run := func(what string, want int64) error {
		r, err := b.child("load", url, "postgres", source, ledger, "32", "all", kept)
		if err != nil {
			return err
		}
		if r.Calls != want {
			return fmt.Errorf("%s: %d calls, expected %d", what, r.Calls, want)
		}
		fmt.Printf("  %s: %d calls as expected\n", what, r.Calls)
		return nil
	}
	if err := run("first load", made.Count); err != nil {
		return err
	}
	if err := run("no change", 0); err != nil {
		return err
	}
	edited, err := b.child("edit", "postgres", source, "100")
	if err != nil {
		return err
	}
	if err := run("1 % change", edited.Count); err != nil {
		return err
	}
	fmt.Printf("peak memory of our process: %.0f MiB, limit %d\n", b.peak, memoryLimitMiB)
	if b.peak > memoryLimitMiB {
		return errors.New("too much memory")
	}
	return nil
}
