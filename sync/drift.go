package sync

import (
	"log/slog"
	"slices"

	"github.com/edfisync/edfisync/schema"
	"github.com/edfisync/edfisync/syncdb"
)

// A record gets another natural key with a parent that is re-keyed by PUT, whatever its own row says. When that still says the parent's old key, which
// no row of the source has any more, it is unchanged for the ledger until the next run looks the record up (stray.go). What refers to it by that key
// would be refused: it waits, in the run that re-keys the parent too (I6).

// drift tells which natural keys name nothing any more once this run has re-keyed what they contain. The zero drift has none. Safe for concurrent use
// once joinKeys is done.
type drift struct {
	lost  map[uint16]map[syncdb.Hash]struct{} // by target: keys that records have before this run and not after it, and no row says
	below map[uint16]bool                     // targets whose keys contain one of those
}

// lose notes the natural keys of a target that are re-keyed and that no row of the resource has.
func (d *drift) lose(t uint16, r *scanned, renamed renames) {
	for old := range renamed {
		if i := r.table.find(old); i >= 0 && r.table.flags[i]&slotSeen != 0 {
			continue
		}
		if d.lost == nil {
			d.lost = map[uint16]map[syncdb.Hash]struct{}{}
		}
		if d.lost[t] == nil {
			d.lost[t] = map[syncdb.Hash]struct{}{}
		}
		d.lost[t][old] = struct{}{}
	}
}

// spread finds the targets whose natural keys contain one that is lost. found are in load order: parents first.
func (d *drift) spread(s *scope, found []*scanned) {
	if len(d.lost) == 0 {
		return
	}
	d.below = map[uint16]bool{}
	for i, r := range found {
		if !d.reaches(r.cascades(s)) {
			continue
		}
		for t := range s.targets {
			if slices.Contains(s.targets[t].Resources, i) {
				d.below[uint16(t)] = true
			}
		}
	}
}

// reaches reports whether one of the identifying references may be to a lost key, or to one that contains it.
func (d *drift) reaches(cs cascades) bool {
	return slices.ContainsFunc(cs, func(c cascade) bool { return len(d.lost[c.target]) > 0 || d.below[c.target] })
}

// adrift returns the first reference of a payload to a record whose natural key contains a lost one; nil when there is none, and when what the payload
// refers to cannot be read: that is found before.
func (s *scope) adrift(found []*scanned, r *schema.Resource, hasher *schema.Hasher, rules schema.Rules, refs []reference, payload []byte) *reference {
	if !slices.ContainsFunc(refs, func(ref reference) bool { return s.drift.below[ref.Target] }) {
		return nil
	}
	keys, err := r.References(s.model, payload, rules)
	if err != nil {
		return nil
	}
	for _, k := range keys {
		if t, ok := s.entity[k.Target]; ok && s.targets[t].Complete && s.drifts(found, t, hasher, k.Key) {
			return &reference{Target: t, Hash: hasher.Sum(k.Key)}
		}
	}
	return nil
}

// drifts reports whether a natural key of a target contains a lost one, at any depth.
func (s *scope) drifts(found []*scanned, t uint16, hasher *schema.Hasher, key []byte) bool {
	return s.drift.below[t] && slices.ContainsFunc(s.targets[t].Resources, func(i int) bool { return s.contains(found, found[i].cascades(s), hasher, key) })
}

// contains reports whether a natural key with these identifying references contains a lost one.
func (s *scope) contains(found []*scanned, cs cascades, hasher *schema.Hasher, key []byte) bool {
	values, err := keyValues(key)
	return err == nil && slices.ContainsFunc(cs, func(c cascade) bool {
		if slices.Max(c.parts) >= len(values) {
			return false
		}
		parent := c.key(values)
		_, lost := s.drift.lost[c.target][hasher.Sum(parent)]
		return lost || s.drifts(found, c.target, hasher, parent)
	})
}

// originAdrift returns whose the record of an id is when an entry whose key drifts has it: 0 for none. Called by workers.
func (s *stepRun) originAdrift(id string) syncdb.Origin { return s.drifting().origin(id) }

// driftingIDs lists the ids of entries whose natural keys drift. A ledger that cannot be read fails the run soon; until then nobody
// knows of any, and a record is rather taken for another's (I9).
func (s *stepRun) driftingIDs() *origins {
	sc, cs := s.x.scope, s.r.cascades(s.x.scope)
	if !sc.drift.reaches(cs) {
		return nil
	}
	hasher, ids := schema.NewHasher(s.x.e.Keys.HashMAC()), newOrigins()
	err := s.x.e.Ledger.Each(s.x.calls, s.x.e.Connection.ID, s.r.Path, func(e *syncdb.Entry) error {
		if sc.contains(s.x.found, cs, hasher, e.Key) {
			ids.note(e.EdfiID, e.Origin)
		}
		return nil
	})
	if err != nil {
		s.x.e.logger().Warn("the ledger could not be read for records whose natural key changes with their parent's", slog.String("resource", s.r.Path), slog.Any("error", err))
		return nil
	}
	return ids
}

// once is what sync.OnceValue is, for an f that reads the ledger: who comes second waits at a channel, as simulated time can pass there and cannot
// at a mutex (testing/synctest). The function may be called concurrently.
func once[T any](f func() T) func() T {
	var (
		turn  = make(chan struct{}, 1)
		value T
		known bool
	)
	return func() T {
		turn <- struct{}{}
		defer func() { <-turn }()
		if !known {
			value, known = f(), true
		}
		return value
	}
}
