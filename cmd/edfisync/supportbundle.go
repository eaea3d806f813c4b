package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"time"

	"github.com/edfisync/edfisync/cmd/edfisync/internal/config"
	"github.com/edfisync/edfisync/cmd/edfisync/internal/support"
	"github.com/edfisync/edfisync/syncdb"
)

type supportBundleCmd struct {
	File string `arg:"" placeholder:"FILE" help:"Zip file to write; there must be none."`
}

// Help is the long help of the command.
func (supportBundleCmd) Help() string {
	return `Writes what somebody who helps needs to know: version and platform, the configuration without secrets and addresses, schema and counts of the
ledger, last runs with their counts, open issues by code, health, recent acts, states of jobs. It holds no student data: nothing in it is text that came
from the SIS, the target or a person. contents.txt in it says what is there and what was left out. It is made also when the ledger cannot be opened.

The service makes one that shows what it is doing right now: GET /api/v1/support-bundle?goroutines=true.

Examples:

    edfisync support-bundle edfisync-support.zip`
}

// supportMade is what the command prints with --json.
type supportMade struct {
	File   string           `json:"file"`
	Bytes  int64            `json:"bytes"`
	Unread []support.Unread `json:"unread"` // parts that could not be read
}

// Run writes the bundle.
func (c *supportBundleCmd) Run(ctx context.Context, a *app) (err error) {
	cfg, err := a.load()
	if err != nil {
		return err
	}
	file, err := os.OpenFile(c.File, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return usageError(fmt.Errorf("%s is there already; name another file", c.File))
	}
	if err != nil {
		return usageError(err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, file.Close(), os.Remove(c.File))
		}
	}()
	ledger, failed := existingLedger(ctx, cfg)
	if ledger != nil {
		defer func() { err = errors.Join(err, ledger.Close()) }()
		// What leaves the house is noted, as far as there is something to note it in.
		if err := ledger.Audit(ctx, syncdb.AuditRow{Who: operator(), Action: "support.bundle"}); err != nil {
			failed = err
		}
	}
	b := a.supportBundle(ctx, cfg, ledger, failed)
	if err := support.Write(file, b, false); err != nil {
		return err
	}
	info, err := file.Stat()
	if err == nil {
		err = file.Close()
	}
	if err != nil {
		return err
	}
	if a.JSON {
		a.printJSON(supportMade{c.File, info.Size(), append([]support.Unread{}, b.Unread...)})
		return nil
	}
	fmt.Fprintf(a.out, "%s is made (%s bytes); it holds no student data, and contents.txt in it says what it holds\n", c.File, grouped(info.Size()))
	for _, u := range b.Unread {
		fmt.Fprintf(a.out, "not in it, because it could not be read: %s\n", u.Part)
	}
	return nil
}

// support writes the bundle of a process of the service.
func (s *service) support(ctx context.Context, w io.Writer, goroutines bool) error {
	b := s.supportBundle(ctx, s.config(ctx), s.ledger, nil)
	b.About.Service, b.About.Up = true, support.Seconds(time.Since(s.begun).Round(time.Second).Seconds())
	var text bytes.Buffer // whole or not at all
	if err := support.Write(&text, b, goroutines); err != nil {
		return err
	}
	_, err := w.Write(text.Bytes())
	return err
}

// supportBundle gathers what is in a bundle. A part that cannot be read is named in it and does not keep the others out: bundles are made when things
// are broken. ledger is nil when it could not be opened; failed says why.
func (a *app) supportBundle(ctx context.Context, cfg *config.Config, ledger *syncdb.DB, failed error) *support.Bundle {
	g := &gatherer{app: a, cfg: cfg, ledger: ledger, b: &support.Bundle{About: aboutUs()}, ids: map[string]int64{}}
	g.note("ledger", failed)
	if ledger != nil {
		for _, part := range []struct {
			name string
			read func(context.Context) error
		}{
			{"connections", g.numbers}, {"ledger", g.shape}, {"runs", g.runs}, {"issues", g.issues}, {"health", g.health}, {"audit", g.audit},
		} {
			g.note(part.name, part.read(ctx))
		}
	}
	g.configuration()
	g.note("jobs", g.jobs(ctx))
	return g.b
}

func aboutUs() support.About {
	b := buildInfo()
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	return support.About{
		Made: time.Now().UTC().Truncate(time.Second), Version: support.Version(b.Version), Commit: support.Version(b.Commit), Go: support.Version(b.Go),
		Platform: support.Version(b.Platform), CPUs: runtime.NumCPU(), Goroutines: runtime.NumGoroutine(), Heap: memory.HeapAlloc, Memory: memory.Sys, Collected: memory.NumGC,
	}
}

// numbersOf reads counts; what is no whole number is left out.
func numbersOf(totals json.RawMessage) map[string]int64 {
	var all map[string]json.RawMessage
	if json.Unmarshal(totals, &all) != nil {
		return nil
	}
	out := map[string]int64{}
	for _, name := range totalNames() {
		var n int64
		if text, ok := all[name]; ok && json.Unmarshal(text, &n) == nil {
			out[name] = n
		}
	}
	return out
}
