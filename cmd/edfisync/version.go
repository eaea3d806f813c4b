package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/edfisync/edfisync/syncdb"
)

// build says which program this is.
type build struct {
	Version  string `json:"version"`
	Commit   string `json:"commit,omitempty"`
	Date     string `json:"date,omitempty"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
	Schema   int64  `json:"ledgerSchema"` // of ledgers it makes; it brings older ones there and refuses newer ones
}

// buildInfo is what the linker was told, or else what the Go tool recorded.
func buildInfo() build {
	b := build{Version: version, Commit: commit, Date: date, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH, Schema: syncdb.NewestSchema()}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	if b.Version == "" {
		b.Version = info.Main.Version
	}
	for _, setting := range info.Settings {
		switch {
		case setting.Key == "vcs.revision" && b.Commit == "":
			b.Commit = setting.Value
		case setting.Key == "vcs.time" && b.Date == "":
			b.Date = setting.Value
		}
	}
	return b
}

type versionCmd struct{}

// Run prints the build.
func (versionCmd) Run(a *app) error {
	b := buildInfo()
	if a.JSON {
		a.printJSON(b)
		return nil
	}
	fmt.Fprintf(a.out, "edfisync %s\n", b.Version)
	for _, line := range [][2]string{{"commit", b.Commit}, {"date", b.Date}, {"go", b.Go + " " + b.Platform}, {"ledger", fmt.Sprintf("schema %d", b.Schema)}} {
		if line[1] != "" {
			fmt.Fprintf(a.out, "%-7s %s\n", line[0], line[1])
		}
	}
	return nil
}
