package sync

import (
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
		if !slices.ContainsFunc(r.cascades(s), func(c cascade) bool { return len(d.lost[c.target]) > 0 || d.below[c.target] }) {
			continue
		}
		for t := range s.targets {
			if slices.Contains(s.targets[t].Resources, i) {
				d.below[uint16(t)] = true
			}
		}
	}
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
	if !s.drift.below[t] {
		return false
	}
	values, err := keyValues(key)
	if err != nil {
		return false
	}
	for _, i := range s.targets[t].Resources {
		for _, c := range found[i].cascades(s) {
			if slices.Max(c.parts) >= len(values) {
				continue
			}
			parent := c.key(values)
			if _, lost := s.drift.lost[c.target][hasher.Sum(parent)]; lost || s.drifts(found, c.target, hasher, parent) {
				return true
			}
		}
	}
	return false
}
