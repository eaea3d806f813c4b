// Command testdb starts the database servers of a whole test run once, instead of once per test program:
//
//	eval "$(go run ./internal/dbtest/cmd/testdb start)"
//	go test ./...
//	go run ./internal/dbtest/cmd/testdb stop
//
// start prints export lines for the shell and may be called again while the servers run. A server whose programs are missing is left
// out with a note, unless EDFISYNC_TEST_REQUIRE_DB=1. The second argument names the file that remembers the servers.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/edfisync/edfisync/internal/dbtest"
)

type remembered struct {
	Env string `json:"env"`
	DSN string `json:"dsn"`
	Dir string `json:"dir"`
	PID int    `json:"pid"`
}

func main() {
	state := filepath.Join(os.TempDir(), fmt.Sprintf("edfisync-testdb-%d.json", os.Getuid()))
	if len(os.Args) > 2 {
		state = os.Args[2]
	}
	var err error
	switch {
	case len(os.Args) > 1 && os.Args[1] == "start":
		err = start(context.Background(), state)
	case len(os.Args) > 1 && os.Args[1] == "stop":
		err = stop(state)
	default:
		err = errors.New("usage: testdb start|stop [state file]")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "testdb:", err)
		os.Exit(1)
	}
}

func start(ctx context.Context, state string) error {
	if err := stop(state); err != nil { // servers of an earlier run, perhaps gone with a restart of the machine
		return err
	}
	var all []remembered
	for _, kind := range []struct {
		env   string
		start func(context.Context, bool) (*dbtest.Server, error)
	}{{dbtest.EnvPostgres, dbtest.StartPostgres}, {dbtest.EnvMariaDB, dbtest.StartMariaDB}} {
		s, err := kind.start(ctx, true)
		if err != nil {
			if os.Getenv(dbtest.EnvRequire) == "1" {
				return err
			}
			fmt.Fprintln(os.Stderr, "testdb:", err)
			continue
		}
		all = append(all, remembered{kind.env, s.DSN, s.Dir, s.PID})
		text, err := json.Marshal(all)
		if err == nil {
			err = os.WriteFile(state, text, 0o600)
		}
		if err != nil {
			return errors.Join(fmt.Errorf("remember servers: %w", err), s.Stop())
		}
		fmt.Printf("export %s='%s'\n", kind.env, s.DSN)
	}
	return nil
}

func stop(state string) error {
	text, err := os.ReadFile(state)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var all []remembered
	if err == nil {
		err = json.Unmarshal(text, &all)
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", state, err)
	}
	for _, s := range all {
		err = errors.Join(err, dbtest.End(s.PID, s.Dir))
	}
	return errors.Join(err, os.Remove(state))
}
