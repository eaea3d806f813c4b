package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/edfisync/edfisync/cmd/edfisync/internal/config"
)

// commands is the command line as kong reads it.
type commands struct {
	globals

	Demo          demoCmd          `cmd:"" group:"try" help:"Sync a made-up district to a sandbox, three times, and check every count."`
	Sandbox       sandboxCmd       `cmd:"" group:"try" help:"Serve an Ed-Fi API to try things on."`
	Descriptors   descriptorsCmd   `cmd:"" group:"look" help:"List the descriptor maps of a connection: what codes of the SIS stand for."`
	Catalog       catalogCmd       `cmd:"" group:"try" help:"Show the resources of a data standard: keys, references, elements."`
	Check         checkCmd         `cmd:"" group:"sync" help:"Test the configuration, packs, source, target and ledger; send nothing."`
	Plan          planCmd          `cmd:"" group:"sync" help:"Show what a run would send; send nothing."`
	Apply         applyCmd         `cmd:"" group:"sync" help:"Make exactly the calls of a saved plan, or refuse it when anything changed."`
	Run           runCmd           `cmd:"" group:"sync" help:"Run one connection: make the target equal to the source."`
	Serve         serveCmd         `cmd:"" group:"sync" help:"Keep schedules and do runs day and night; answer over HTTP."`
	Worker        workerCmd        `cmd:"" group:"sync" help:"Do runs that others ask for, beside serve, on this machine or another."`
	Cancel        cancelCmd        `cmd:"" group:"sync" help:"End a run that waits or runs, in whatever process."`
	Pause         pauseCmd         `cmd:"" group:"sync" help:"Start no run of a connection until it is resumed."`
	Resume        resumeCmd        `cmd:"" group:"sync" help:"End a pause."`
	Adopt         adoptCmd         `cmd:"" group:"sync" help:"Take over what the target already holds; send nothing."`
	Undo          undoCmd          `cmd:"" group:"sync" help:"Bring the records a run wrote back to what they were before it."`
	Verify        verifyCmd        `cmd:"" group:"look" help:"Re-read the target and compare it with the ledger, or with a receipt."`
	Receipts      receiptsCmd      `cmd:"" group:"look" help:"List, show and check the signed statements of runs."`
	Runs          runsCmd          `cmd:"" group:"look" help:"List past runs; show what one did and met."`
	Holds         holdsCmd         `cmd:"" group:"look" help:"List what safeguards hold back; approve or discard it."`
	Issues        issuesCmd        `cmd:"" group:"look" help:"List what keeps records out of the target, by cause; show the rows of one."`
	Retry         retryCmd         `cmd:"" group:"sync" help:"Let the next run send refused records again."`
	Audit         auditCmd         `cmd:"" group:"look" help:"List what people did; check that the list was not changed."`
	Backup        backupCmd        `cmd:"" group:"other" help:"Copy the embedded ledger to a file, while everything goes on."`
	Restore       restoreCmd       `cmd:"" group:"other" help:"Put a backup in the place of the embedded ledger."`
	Purge         purgeCmd         `cmd:"" group:"other" help:"Remove what was kept for long enough from the ledger; the service does so every day."`
	Trace         traceCmd         `cmd:"" group:"look" help:"Show all that is known of one record, from the SIS to the target."`
	SyncOne       syncOneCmd       `cmd:"" group:"sync" help:"Send one record now, and show each step."`
	Connections   connectionsCmd   `cmd:"" group:"other" help:"List, import, export, copy, test and remove connections that are kept in the ledger."`
	Secrets       secretsCmd       `cmd:"" group:"other" help:"Seal secrets of connections in the ledger; change its master key."`
	Alerts        alertsCmd        `cmd:"" group:"look" help:"List what is wrong with connections; mute it; try who is told."`
	Keys          keysCmd          `cmd:"" group:"other" help:"Make, list, rotate and revoke keys of the API."`
	SupportBundle supportBundleCmd `cmd:"" group:"other" help:"Write what somebody who helps needs to know, without student data."`
	Version       versionCmd       `cmd:"" group:"other" help:"Print version and build."`
	Completion    completionCmd    `cmd:"" group:"other" help:"Print a completion script for a shell."`
}

// globals are the flags of every command.
type globals struct {
	Help   helpFlag `short:"h" help:"Show help."`
	Config string   `short:"c" type:"path" default:"edfisync.yaml" placeholder:"FILE" help:"Configuration file (default: edfisync.yaml)."`
	JSON   bool     `name:"json" help:"Print one JSON document instead of text, and no progress; errors too."`
}

// app is what every command gets: its flags' neighbours and the world around it.
type app struct {
	streams
	globals
	lookupEnv func(name string) (string, bool)
	parser    *kong.Kong
}

const description = `Keeps a state's Ed-Fi API true to a school district's SIS database.

Start with "edfisync demo", which needs nothing; then copy config.example.yaml, edit it, and "edfisync check".`

// run is the whole program but for the process around it.
func run(ctx context.Context, args []string, std streams, lookupEnv func(string) (string, bool)) int {
	std = std.legible()
	var flags commands
	parser, err := kong.New(&flags,
		kong.Name("edfisync"),
		kong.Description(description),
		kong.Writers(std.out, std.err),
		kong.NoDefaultHelp(),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 100}),
		kong.ExplicitGroups([]kong.Group{
			{Key: "try", Title: "Try it:"},
			{Key: "sync", Title: "Sync:"},
			{Key: "look", Title: "Look:"},
			{Key: "other", Title: "Other:"},
		}),
	)
	if err != nil {
		fmt.Fprintln(std.err, "edfisync:", err) // a mistake in the struct tags above; every test meets it
		return int(exitFailed)
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	selected, err := parser.Parse(args)
	a := &app{streams: std, globals: flags.globals, lookupEnv: lookupEnv, parser: parser}
	switch {
	case errors.Is(err, errHelpPrinted):
		return int(exitOK)
	case err != nil:
		a.JSON = wantsJSON(args) // parsing may have ended before the flag
		return a.finish(ctx, usageError(withUsage(err)))
	}
	selected.BindTo(ctx, (*context.Context)(nil))
	return a.finish(ctx, selected.Run(a))
}

// wantsJSON finds --json in arguments that could not be parsed.
func wantsJSON(args []string) bool {
	for _, arg := range args {
		switch arg {
		case "--":
			return false
		case "--json", "--json=true":
			return true
		}
	}
	return false
}

// helpFlag prints help and ends parsing. Kong's own ends the process instead.
type helpFlag bool

var errHelpPrinted = errors.New("help printed")

// IgnoreDefault keeps the flag out of kong's handling of defaults.
func (helpFlag) IgnoreDefault() {}

// BeforeReset is kong's hook for a flag that was given.
func (helpFlag) BeforeReset(ctx *kong.Context) error {
	if err := ctx.PrintUsage(false); err != nil {
		return err
	}
	return errHelpPrinted
}

// withUsage adds to a parse error where to read on.
func withUsage(err error) error {
	command := "edfisync"
	var wrong *kong.ParseError
	if errors.As(err, &wrong) && wrong.Context != nil {
		if selected := wrong.Context.Selected(); selected != nil {
			command = selected.FullPath()
		}
	}
	return fmt.Errorf("%w\nSee: %s --help", err, command)
}

// errInterrupted is what is said of anything that a signal ended, however far it had come.
var errInterrupted = errors.New("interrupted; the next run continues")

// finish reports an error to the user and returns the exit code.
func (a *app) finish(ctx context.Context, err error) int {
	code := codeOf(ctx, err)
	if err == nil || err.Error() == "" {
		return int(code)
	}
	if code == exitInterrupted {
		err = errInterrupted
	}
	if a.JSON {
		a.printJSON(failure(err, code))
		return int(code)
	}
	fmt.Fprintln(a.err, "edfisync: "+err.Error())
	return int(code)
}

// failureJSON is what --json prints for an error.
type failureJSON struct {
	Error    string           `json:"error"`
	Code     exitCode         `json:"exitCode"`
	Problems []config.Problem `json:"problems,omitempty"`
}

func failure(err error, code exitCode) failureJSON {
	f := failureJSON{Error: err.Error(), Code: code}
	if problems := (config.Problems)(nil); errors.As(err, &problems) {
		f.Error, f.Problems = "the configuration has problems", problems
	}
	return f
}

// printJSON writes one JSON document, indented, to standard output.
func (a *app) printJSON(v any) {
	enc := json.NewEncoder(a.out)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		fmt.Fprintln(a.err, "edfisync: write JSON:", err)
	}
}

// load reads the configuration file.
func (a *app) load() (*config.Config, error) {
	cfg, err := config.Load(a.Config, a.lookupEnv)
	if err != nil {
		return nil, usageError(err)
	}
	return cfg, nil
}

// pick finds the connection a flag names.
func pick(cfg *config.Config, name string) (*config.Connection, error) {
	conn, ok := cfg.Connection(name)
	switch {
	case ok:
		return conn, nil
	case len(cfg.Connections) == 0:
		return nil, usageError(errors.New("there is no connection: write one into the configuration (config.example.yaml shows how), or import one with edfisync connections import"))
	case name == "":
		return nil, usageError(fmt.Errorf("which connection? give --connection, one of: %s", strings.Join(cfg.Names(), ", ")))
	default:
		return nil, usageError(fmt.Errorf("connection %q is not, or not only once, in the configuration, which has: %s", name, strings.Join(cfg.Names(), ", ")))
	}
}

// logger writes to w as the configuration says.
func logger(w io.Writer, cfg config.Log) *slog.Logger {
	options := &slog.HandlerOptions{Level: cfg.Level}
	if cfg.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}
