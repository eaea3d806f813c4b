package sync

import (
	"fmt"
	"maps"
	"slices"

	"github.com/edfisync/edfisync/schema"
	"github.com/edfisync/edfisync/syncdb"
)

// predictKept takes out of a plan the deletes a run would not make, because a record that refers to theirs, or another one of its person, stays: an invalid
// row stands for it, it is held, or it was there before us (I6). They count as blocked, as in the run.
func predictKept(s *scope, found []*scanned, p *Plan, hasher *schema.Hasher) error {
	p.kept = make([]map[syncdb.Hash]struct{}, len(found))
	for i := range found {
		p.kept[i] = map[syncdb.Hash]struct{}{}
	}
	goes := func(i int, key syncdb.Hash) bool {
		_, stays := p.stays[i][key]
		return !stays && p.gates[i].judge(syncdb.Delete, key).goes()
	}
	return eachKept(s, found, hasher, goes, func(i int, key syncdb.Hash, ours bool) {
		rp := &p.Resources[i]
		rp.Blocked++
		if !ours {
			return
		}
		p.kept[i][key] = struct{}{}
		rp.Delete--
		if _, moves := found[i].movedFrom[key]; moves {
			rp.Recreate--
		}
	})
}

// eachKept calls fn for each record whose delete goes, and is not made, by the rules of the run (isNeeded, unfinished), and for those that were there before
// us: children before what they refer to.
func eachKept(s *scope, found []*scanned, hasher *schema.Hasher, goes func(int, syncdb.Hash) bool, fn func(resource int, key syncdb.Hash, ours bool)) error {
	needed, people := map[reference]place{}, map[syncdb.Hash]struct{}{}
	for _, r := range found {
		maps.Copy(needed, r.needs)
	}
	for i, r := range slices.Backward(found) {
		as, gives, cs := s.referredAs(i), authorises(r.Name), r.cascades(s)
		err := r.gone.each(func(rec *record) error {
			e := r.goneEntry(rec)
			met := e.Origin == syncdb.Met && e.State != syncdb.Missing
			if r.moved(rec.KeyHash) || r.neverMade(rec.KeyHash) || r.spoken(e) || e.Origin == syncdb.Met && !met {
				return nil
			}
			_, stays := people[rec.PersonHash]
			stays = stays && gives && !rec.PersonHash.IsZero() || slices.ContainsFunc(as, func(t uint16) bool {
				_, is := needed[reference{Target: t, Hash: rec.KeyHash}]
				return is
			})
			made := !met && goes(i, rec.KeyHash)
			if made && !stays {
				return nil
			}
			if made || met {
				fn(i, rec.KeyHash, !met)
			}
			for _, ref := range cs.identifying(hasher, rec.Key) {
				needed[ref] = place{}
			}
			if !r.authorisesItself() {
				people[rec.PersonHash] = struct{}{}
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("look for what stays of %s: %w", r.Path, err)
		}
	}
	return nil
}

// referredAs lists the targets that references to records of a resource mean.
func (s *scope) referredAs(resource int) (as []uint16) {
	for t := range s.targets {
		if s.targets[t].holds(resource) {
			as = append(as, uint16(t))
		}
	}
	return as
}
