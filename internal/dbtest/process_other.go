//go:build !unix

package dbtest

import (
	"context"
	"errors"
	"os/exec"
)

var errPlatform = errors.New("test servers are started on Unix only; name running ones in " + EnvPostgres + " and " + EnvMariaDB)

type user struct{}

func lookupUser(string) (*user, error) { return nil, errPlatform }

func (*user) own(string) error { return errPlatform }

func (*user) command(ctx context.Context, _, name string, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, name, args...)
}

type process struct{}

func launch(*exec.Cmd, *user, string, bool, string) (*process, error) { return nil, errPlatform }

func (*process) pid() int { return 0 }

func (*process) stop() {}

func (*process) kill(string) error { return errPlatform }

// End ends a detached server that an earlier process started.
func End(int, string) error { return errPlatform }
