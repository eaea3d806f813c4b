package sync

import (
	"fmt"
	"slices"

	"github.com/edfisync/edfisync/schema"
	"github.com/edfisync/edfisync/syncdb"
)

// keptWith is why a record stays whose row is gone, of a resource that prevent_delete does not list.
const keptWith = "prevent_delete keeps a record that refers to it, or another one of its person: it stays too"

// preserve finds what stays because of prevent_delete beside the resources it lists, and tells the gates: what a kept record's natural key refers to, and
// what authorises us for its person (I6). Nobody can bring these deletes about, so nobody is asked for them and no approval makes them, as if they were
// listed. It decides from the scan alone, by the rules the run then keeps (isNeeded, unfinished). Children come before what they refer to.
func preserve(s *scope, found []*scanned, gates []*gate, g Safeguards, hasher *schema.Hasher) error {
	if len(g.PreventDelete) == 0 {
		return nil
	}
	needed, people := map[reference]struct{}{}, map[syncdb.Hash]struct{}{}
	for i, r := range slices.Backward(found) {
		as, listed, gives, cs := s.referredAs(i), g.prevents(r.Path), authorises(r.Name), r.cascades(s)
		err := r.gone.each(func(rec *record) error {
			if r.moved(rec.KeyHash) || !r.deletable(r.goneEntry(rec)) || r.neverMade(rec.KeyHash) {
				return nil
			}
			_, stays := people[rec.PersonHash]
			stays = stays && gives && !rec.PersonHash.IsZero() || slices.ContainsFunc(as, func(t uint16) bool {
				_, is := needed[reference{Target: t, Hash: rec.KeyHash}]
				return is
			})
			if !listed && !stays {
				return nil
			}
			if !listed {
				gates[i].kept[rec.KeyHash] = struct{}{}
			}
			for _, ref := range cs.identifying(hasher, rec.Key) {
				needed[ref] = struct{}{}
			}
			if !r.authorisesItself() {
				people[rec.PersonHash] = struct{}{}
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("look for what stays of %s: %w", r.Path, err)
		}
		gates[i].with = &HeldPart{Resource: r.Path, Verb: "delete", Rule: RulePreventDelete, Reason: keptWith}
	}
	return nil
}

// keeps reports whether a record stays with one that prevent_delete keeps.
func (g *gate) keeps(verb syncdb.Verb, key syncdb.Hash) bool {
	_, kept := g.kept[key]
	return kept && verb == syncdb.Delete
}
