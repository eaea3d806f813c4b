package sync

import (
	"encoding/json"

	"github.com/edfisync/edfisync/schema"
	"github.com/edfisync/edfisync/syncdb"
)

// keptBack reports whether an op is kept back by a safeguard or by what a person said, and files it as held then (I5e, I11).
func (s *stepRun) keptBack(o *op) bool {
	var p pass
	if o.was != nil {
		p = s.gate.recreate(o.key, *o.was)
	} else {
		p = s.gate.judge(o.verb, o.key)
	}
	switch {
	case o.silent != notSilent:
		return false // no call is made
	case p.refused:
		s.mu.Lock()
		defer s.mu.Unlock()
		s.totals.add(Held, o.verb != syncdb.Delete)
		s.totals.Decided++
		return true
	case p.held == nil:
		o.hold = p.hold + 1
		return false
	}
	if p.held.Rule == RulePreventDelete {
		s.mu.Lock()
		s.totals.Decided++
		s.mu.Unlock()
	}
	advice, _ := AdviceOn(string(p.held.Rule))
	s.hold(o, Held, string(p.held.Rule), p.held.Rule.cause(), advice.Owner, nil)
	return true
}

// strand notes a delete that is not made or did not go through: what it was authorised by and what it refers to have to stay (I6).
func (s *stepRun) strand(o *op) {
	s.x.strand(o.person)
	if o.verb != syncdb.Delete || len(o.keyText) == 0 {
		return
	}
	var values []json.RawMessage
	if json.Unmarshal(o.keyText, &values) != nil || len(values) != len(s.r.Key) {
		return // the target itself will not delete what something refers to
	}
	hasher := schema.NewHasher(s.x.e.Keys.HashMAC())
	for _, c := range s.r.cascades(s.x.scope) {
		s.x.mu.Lock()
		s.x.needed[reference{Target: c.target, Hash: hasher.Sum(c.key(values))}] = struct{}{}
		s.x.mu.Unlock()
	}
}

// isNeeded reports whether a record of the resource is referred to by one that should have been deleted and was not. Only references that are part
// of the natural key are known without asking the target.
func (x *executor) isNeeded(resource int, key syncdb.Hash) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if len(x.needed) == 0 {
		return false
	}
	for t, target := range x.scope.targets {
		for _, j := range target.Resources {
			if _, ok := x.needed[reference{Target: uint16(t), Hash: key}]; ok && j == resource {
				return true
			}
		}
	}
	return false
}
