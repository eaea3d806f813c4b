package main

import (
	"testing"
	"time"

	"github.com/edfisync/edfisync/cmd/edfisync/internal/config"
)

func TestARunIsNotCutShortWhileACallMayStillBeRepeated(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name             string
		stalled, timeout time.Duration
		retries          int
		want             time.Duration
	}{
		{"the defaults", 15 * time.Minute, 30 * time.Second, 5, 15 * time.Minute},
		{"a target that is slow and asked often", 15 * time.Minute, 10 * time.Minute, 5, 72 * time.Minute},
		{"a longer time of one's own", time.Hour, 30 * time.Second, 5, time.Hour},
		{"never", 0, 30 * time.Second, 5, 0},
	} {
		conn := &config.Connection{Stalled: config.Duration(c.stalled), Target: config.Target{Timeout: config.Duration(c.timeout), Retries: c.retries}}
		if got := stalledAfter(conn); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}
