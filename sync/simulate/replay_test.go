//go:debug randseednop=0

package simulate

import (
	"math/rand"
	"testing"
)

// replay plays a plan under the gate. What the program draws by itself (the pauses between attempts) is drawn the same way each time.
func replay(t *testing.T, p *plan, order uint64, dir string) *world {
	//lint:ignore SA1019 the pauses of backoff/v4 come from the global source
	rand.Seed(int64(order)) //nolint:staticcheck // see above
	return play(t, p, order, dir)
}

func TestSameSeedUnderTheGateGivesTheSameTrace(t *testing.T) {
	u, err := loadUniverse()
	if err != nil {
		t.Fatal(err)
	}
	orders := map[uint64]bool{}
	for _, seed := range []uint64{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 50} { // the last one is on SQLite
		a, b := replay(t, newPlan(u, seed), 7, t.TempDir()), replay(t, newPlan(u, seed), 7, t.TempDir())
		if a.hash != b.hash || a.traced == 0 {
			t.Errorf("seed %d: %d operations with hash %016x, then %d with %016x", seed, a.traced, a.hash, b.traced, b.hash)
		}
		if c := replay(t, newPlan(u, seed), 8, t.TempDir()); c.hash != a.hash {
			orders[seed] = true
		}
	}
	if len(orders) < 4 {
		t.Errorf("another order changes the trace of %d seeds only", len(orders))
	}
}
