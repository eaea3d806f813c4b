package main

import (
	"cmp"
	"context"
	"errors"
	"slices"
)

// exitCode is what the process tells the one who called it. Orchestrators branch on it, so a number keeps its meaning for ever.
type exitCode int

// The exit codes. docs/cli.md has the same table for users.
const (
	exitOK          exitCode = 0
	exitFailed      exitCode = 1   // the run could not finish: the next one continues
	exitUsage       exitCode = 2   // wrong flags or configuration: nothing was done
	exitProblems    exitCode = 3   // finished, with invalid, blocked, rejected or failed records
	exitHeld        exitCode = 4   // a safeguard held something for a person to judge
	exitDiffers     exitCode = 5   // verify: the target is not as the ledger or the receipt says; audit verify: the trail was changed
	exitInterrupted exitCode = 130 // stopped by Ctrl-C or SIGTERM, in good order
)

// meanings is the table of exit codes as help prints it.
func meanings() []struct {
	Code    exitCode
	Meaning string
} {
	return []struct {
		Code    exitCode
		Meaning string
	}{
		{exitOK, "done"},
		{exitFailed, "failed; running it again continues"},
		{exitUsage, "wrong usage or configuration; nothing was done"},
		{exitProblems, "finished, with invalid, blocked, rejected or failed records"},
		{exitHeld, "a safeguard held something back"},
		{exitDiffers, "verify: the target is not as the ledger, or the receipt, says; or the audit trail was changed; connections diff: there are differences"},
		{exitInterrupted, "interrupted"},
	}
}

// worst is the code that wins when several apply: 1, then 4, then 3.
func worst(codes ...exitCode) exitCode {
	rank := []exitCode{exitOK, exitProblems, exitHeld, exitDiffers, exitUsage, exitFailed, exitInterrupted}
	return slices.MaxFunc(append(codes, exitOK), func(a, b exitCode) int {
		return cmp.Compare(slices.Index(rank, a), slices.Index(rank, b))
	})
}

// exitError ends a command with a code. Its message may be empty: then everything was said already.
type exitError struct {
	code exitCode
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return ""
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// usageError ends a command with code 2 and the message of err.
func usageError(err error) error { return &exitError{code: exitUsage, err: err} }

// quietly ends a command with a code and no further message; nil for exitOK.
func quietly(code exitCode) error {
	if code == exitOK {
		return nil
	}
	return &exitError{code: code}
}

// codeOf is the exit code an error means.
func codeOf(ctx context.Context, err error) exitCode {
	var exit *exitError
	switch {
	case err == nil:
		return exitOK
	case ctx.Err() != nil:
		return exitInterrupted
	case errors.As(err, &exit):
		return exit.code
	default:
		return exitFailed
	}
}
