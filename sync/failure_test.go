package sync_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/edfisync/edfisync/edfi"
	"github.com/edfisync/edfisync/source"
	"github.com/edfisync/edfisync/sync"
)

func TestFailuresThatOperatorsAreToldApart(t *testing.T) {
	t.Parallel()
	target := func(code string) error { return fmt.Errorf("read the order: %w", &edfi.Error{Code: code}) }
	_, unreachable := source.Open(t.Context(), source.Config{Driver: source.SQLite, DSN: "file:" + filepath.Join(t.TempDir(), "none.db") + "?mode=ro"})
	if unreachable == nil {
		t.Fatal("a database that is not there was opened")
	}
	for name, c := range map[string]struct {
		err  error
		want string
	}{
		"nothing":                            {nil, ""},
		"the target does not answer":         {target("unreachable"), sync.FailureTarget},
		"the target is down for maintenance": {target("unavailable"), sync.FailureTarget},
		"a page in the API's place":          {target("not-the-api"), sync.FailureTarget},
		"a wrong key":                        {target("credentials-refused"), sync.FailureCredentials},
		"a revoked key":                      {target("unauthenticated"), sync.FailureCredentials},
		"another answer of the target":       {target("route"), ""},
		"the source is not there":            {fmt.Errorf("open: %w", unreachable), sync.FailureSource},
		"the source refuses a query":         {&source.Error{Op: "check", Err: errors.New("no such column")}, ""},
		"the connection to it broke":         {&source.Error{Op: "read", Err: errors.New("broken pipe")}, sync.FailureSource},
		"the run was canceled in between":    {&source.Error{Op: "read", Err: context.Canceled}, ""},
		"the run lost its lease":             {errors.New("fenced"), ""},
		"the target fell silent":             {fmt.Errorf("%w: 20 calls in a row: %w", sync.ErrTargetSilent, target("route")), sync.FailureTarget},
		"the target was wiped in between":    {errors.Join(sync.ErrTargetReset, errors.New("the alarm was not kept")), sync.FailureReset},
		"the run hung":                       {fmt.Errorf("%w (nothing for 15m)", sync.ErrStalled), sync.FailureStalled},
		"another state than the plan's":      {fmt.Errorf("apply: %w", &sync.StalePlanError{Plan: 3}), sync.FailureStale},
	} {
		if got := sync.FailureOf(c.err); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}
