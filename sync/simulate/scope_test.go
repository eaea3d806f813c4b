package simulate

import (
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"github.com/edfisync/edfisync/schema"
	"github.com/edfisync/edfisync/sync"
	"github.com/edfisync/edfisync/syncdb"
)

// nowhere is a school no district has.
const nowhere = 999_999_999

// drawScope gives about half of the runs of a world a scope: resources, schools, records, some of which are not there. Its dice are its own, so that
// a seed is the same world with scopes and without.
func (w *world) drawScope(c *connection, e event) syncdb.RunScope {
	if !w.plan.scoped || e.id < 0 { // the runs that end a world are of everything
		return syncdb.RunScope{}
	}
	rng := w.roll("scope", e.id)
	if rng.IntN(2) == 0 {
		return syncdb.RunScope{}
	}
	var s syncdb.RunScope
	for range 1 + rng.IntN(2) {
		one := syncdb.RunScope{Parts: []syncdb.ScopePart{w.drawPart(c, rng)}}
		if s.All() {
			s = one
		} else {
			s = s.Union(one)
		}
	}
	w.note("  it is asked for a part: %+v", s.Parts)
	return s
}

func (w *world) drawPart(c *connection, rng *rand.Rand) syncdb.ScopePart {
	k := c.d.kinds[rng.IntN(len(c.d.kinds))]
	resource := w.u.kinds[k].path
	switch rng.IntN(6) {
	case 0, 1:
		return syncdb.ScopePart{Resource: resource}
	case 2:
		return syncdb.ScopePart{School: w.drawSchool(c, rng)}
	case 3:
		return syncdb.ScopePart{Resource: resource, School: w.drawSchool(c, rng)}
	case 4:
		return syncdb.ScopePart{School: nowhere}
	}
	rows := c.d.rows[k]
	if len(rows) == 0 {
		return syncdb.ScopePart{Resource: resource, Key: syncdb.Hash{1}}
	}
	x := c.d.record(rows[rng.IntN(len(rows))], w.fold)
	hasher, bound := schema.NewHasher(c.ring.HashMAC()), w.bound(k)
	if rng.IntN(2) == 0 {
		return syncdb.ScopePart{Resource: resource, Source: hasher.Sum([]byte(bound.Query.Part + "\x00" + strconv.Itoa(x.row.id)))}
	}
	var enc schema.Encoded
	bound.Template.Encode(x.cells[:len(w.u.kinds[k].columns)], &enc)
	if len(enc.Key) == 0 {
		return syncdb.ScopePart{Resource: resource, Key: syncdb.Hash{1}}
	}
	return syncdb.ScopePart{Resource: resource, Key: hasher.Sum(enc.Key)}
}

func (w *world) drawSchool(c *connection, rng *rand.Rand) int64 {
	for _, k := range c.d.kinds {
		if !strings.HasSuffix(w.u.kinds[k].path, "/schools") || len(c.d.rows[k]) == 0 {
			continue
		}
		x := c.d.record(c.d.rows[k][rng.IntN(len(c.d.rows[k]))], w.fold)
		if id, err := strconv.ParseInt(strings.TrimSuffix(x.key, "|"), 10, 64); err == nil && id > 0 {
			return id
		}
	}
	return nowhere
}

// checkScope judges what a run with a scope sent: of what is not there nothing.
func (p *process) checkScope(s *sync.Summary) {
	asked := s.Scope
	if asked.All() {
		return
	}
	nothing := true
	for _, part := range asked.Parts {
		nothing = nothing && part.School == nowhere
	}
	if nothing && p.writes > 0 {
		p.w.violate("scope", "%s makes %d write calls though nothing it was asked for is there", p, p.writes)
	}
	if s.Totals.Rows != 0 && s.Totals.Outside == 0 && nothing {
		p.w.violate("scope", "%s counts no row as out of its scope: %+v", p, s.Totals)
	}
}

// TestSimulateScopes plays a few worlds whose runs are asked for parts, too; -seeds with -scoped plays many.
func TestSimulateScopes(t *testing.T) {
	t.Parallel()
	u, err := loadUniverse()
	if err != nil {
		t.Fatal(err)
	}
	for seed := range uint64(30) {
		p := newPlan(u, seed+1)
		p.scoped = true
		if w := play(t, p, 0, t.TempDir()); len(w.violations) > 0 {
			t.Errorf("seed %d breaks a promise: %s; replay it with: go test ./sync/simulate -run TestSimulate$ -scoped -seed %d", seed+1, w.violations[0], seed+1)
		}
	}
}
