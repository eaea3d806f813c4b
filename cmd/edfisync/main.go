// Command edfisync keeps a state's Ed-Fi API true to a school district's SIS database. This package is its command line: it reads the
// configuration, wires the packages together and turns what they report into text, JSON and exit codes.
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// Set by the linker (Makefile); what they leave empty is taken from the build information of the Go tool.
var version, commit, date string

func main() { os.Exit(process(os.Args[1:])) }

// process runs the program as this process: with its streams and environment, and Ctrl-C or SIGTERM as the end of the context.
func process(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the process at once
	return run(ctx, args, streams{in: os.Stdin, out: os.Stdout, err: os.Stderr}, os.LookupEnv)
}

// streams are the standard streams of one invocation.
type streams struct {
	in       io.Reader
	out, err io.Writer
}
