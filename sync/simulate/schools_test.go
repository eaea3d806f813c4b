package simulate

import (
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/edfisync/edfisync/sync"
)

// drawSchools lets a connection be of some schools for a few runs, then of others, then of all: what is out of its scope meanwhile nobody may delete, and
// in the end, with every school again, all must be there. Its dice are its own, so that a seed is the same world with schools and without.
func (w *world) drawSchools(c *connection, e event) sync.Schools {
	if !w.plan.narrowed || e.id < 0 { // the runs that end a world are of every school
		return sync.Schools{}
	}
	rng := w.roll("schools", e.id/8)
	some := []int64{w.drawSchool(c, rng)}
	if rng.IntN(3) == 0 {
		some = append(some, w.drawSchool(c, rng))
	}
	var s sync.Schools
	switch rng.IntN(5) {
	case 0:
		return s
	case 1, 2:
		s.Only = some
	case 3:
		s.Except = some
	default:
		s.Only = []int64{nowhere}
	}
	w.note("  it is of some schools: %+v", s)
	return s
}

// outside reports whether a record of the target names a school in its natural key, and none that is synced.
func (c *compiledKind) outside(s sync.Schools, h *held) bool {
	if s.All() {
		return false
	}
	outside := false
	for i, col := range c.columns {
		if !c.keyPart[i] || !strings.HasSuffix(col.path, "choolId") {
			continue
		}
		id, err := strconv.ParseInt(h.flat[col.path], 10, 64)
		if err != nil || len(s.Only) == 0 && !slices.Contains(s.Except, id) || slices.Contains(s.Only, id) {
			return false
		}
		outside = true
	}
	return outside
}

// TestSimulateSchools plays a few worlds whose connections are of some schools for a while; -seeds with -schools plays many.
func TestSimulateSchools(t *testing.T) {
	t.Parallel()
	u, err := loadUniverse()
	if err != nil {
		t.Fatal(err)
	}
	for seed := range uint64(30) {
		p := newPlan(u, seed+1)
		p.narrowed, p.scoped = true, seed%3 == 0
		if w := play(t, p, 0, t.TempDir()); len(w.violations) > 0 {
			t.Errorf("seed %d breaks a promise: %s; replay it with: go test ./sync/simulate -run TestSimulate$ -schools -scoped=%t -seed %d", seed+1, w.violations[0], p.scoped, seed+1)
		}
	}
}
