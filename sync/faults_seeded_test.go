package sync_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/edfisync/edfisync/edfi"
	"github.com/edfisync/edfisync/sandbox"
)

// Every transient fault the sandbox has, at one call in five, through a first load and two rounds of edits. Runs may fail, and do; once the faults stop two
// runs bring the target to what the source says, and a third one writes nothing (I1).
func TestTargetUnderSeededFaultsConverges(t *testing.T) {
	t.Parallel()
	for seed := range uint64(8) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.tune = func(c *edfi.Config) { c.MaxRetryAfter = 10 * time.Millisecond }
			w.options.SettleDelay = 2500 * time.Millisecond // longer than the target shows records late
			w.options.Safeguards = lenient()
			w.fill(12)
			if err := w.sandbox.SetFaults(sandbox.Faults{Seed: seed, Rate: 0.2}); err != nil {
				t.Fatal(err)
			}
			for round := range 3 {
				if round > 0 {
					w.edit(round)
				}
				if s, _, _ := w.run(); s != nil && s.Totals.Rows != s.Totals.WithRow {
					t.Errorf("round %d: got totals %+v: rows without an outcome (I11)", round, s.Totals)
				}
			}
			if w.broke() == 0 {
				t.Error("no call was broken")
			}
			w.heals()
		})
	}
}
