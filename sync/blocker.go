package sync

import (
	"encoding/json"
	"errors"
	"strings"

	"github.com/edfisync/edfisync/edfi"
	"github.com/edfisync/edfisync/schema"
	"github.com/edfisync/edfisync/syncdb"
)

// blocker says what a blocked row waits for, for a person. It holds values of a natural key and is only kept sealed (I14).
type blocker struct {
	Entity     string          `json:"entity"`
	Path       string          `json:"path,omitempty"`       // of the reference, "sections.sectionReference"
	NaturalKey json.RawMessage `json:"naturalKey,omitempty"` // of what is missing, in the order of its key
	// OneOf are the references an answer may mean when it names the entity and several refer to one.
	OneOf []blocker `json:"oneOf,omitempty"`
}

// waitsFor notes what a blocked row waits for: sealed in words, and in clear by hash, so that causes can be ranked (RankCauses).
func waitsFor(p *syncdb.Problem, b blocker, resource string, key syncdb.Hash) {
	p.BlockedBy, p.BlockedResource, p.BlockedKey = detail(b), resource, key
}

// blocked files a row whose reference is missing.
func (s *stepRun) blocked(o *op, ref *reference) {
	target := s.x.scope.targets[ref.Target]
	b := blocker{Entity: target.Entity}
	hasher := schema.NewHasher(s.x.e.Keys.HashMAC())
	for _, r := range s.references(o) {
		if r.Target == target.Entity && hasher.Sum(r.Key) == ref.Hash {
			b.Path, b.NaturalKey = r.Path, r.Key
		}
	}
	code, text := "missing-reference", "the ledger does not know of the "+target.Entity+" it refers to at the target: its row is not in the source, was not sent, or is not settled yet"
	if s.x.ambiguous(ref) {
		code, text = "ambiguous-reference", "several rows of the source have the natural key of the "+target.Entity+" it refers to, so nobody knows which is meant"
	}
	p := s.problem(o, Blocked.String(), code, text, bySource, nil)
	waitsFor(&p, b, s.x.holder(target, ref.Hash), ref.Hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.totals.add(Blocked, o.verb != syncdb.Delete)
	s.problems = append(s.problems, p)
}

// references are the references of the op's payload; none when it cannot be read, which the check before would have found.
func (s *stepRun) references(o *op) []schema.RefKey {
	refs, err := s.r.References(s.x.scope.model, o.payload, s.x.o.Rules)
	if err != nil {
		return nil
	}
	return refs
}

// holder returns the resource a missing record would be of: the only one it can be, or the one whose rows have its key; "" when that is not
// known.
func (x *executor) holder(t target, key syncdb.Hash) string {
	if len(t.Resources) == 1 && t.Complete {
		return x.found[t.Resources[0]].Path
	}
	for _, j := range t.Resources {
		r := x.found[j]
		if _, held := r.heldKey[key]; held {
			return r.Path
		}
		r.mu.Lock()
		i := r.table.find(key)
		r.mu.Unlock()
		if i >= 0 {
			return r.Path
		}
	}
	if concrete := x.scope.model.Concrete(t.Entity); len(concrete) == 1 {
		return concrete[0].Path
	}
	return ""
}

// blame finds out which reference an answer "unresolved reference" means: the answer names the entity, the payload its key. When the payload
// refers to several records of that entity, those the ledger believes to be there are left out; what then cannot be told apart is listed.
func (s *stepRun) blame(p *syncdb.Problem, o *op, err error) {
	var e *edfi.Error
	if !errors.As(err, &e) || e.Code != "unresolved-reference" {
		return
	}
	var candidates, absent []schema.RefKey
	hasher := schema.NewHasher(s.x.e.Keys.HashMAC())
	for _, r := range s.references(o) {
		if !slicesContainsFold(unresolvedEntities(e), r.Target) {
			continue
		}
		candidates = append(candidates, r)
		if t, ok := s.x.scope.entity[r.Target]; ok && !s.x.anyLive(s.x.scope.targets[t], hasher.Sum(r.Key)) {
			absent = append(absent, r)
		}
	}
	if len(absent) > 0 {
		candidates = absent
	}
	switch len(candidates) {
	case 0:
		if names := unresolvedEntities(e); len(names) > 0 {
			p.BlockedBy = detail(blocker{Entity: names[0]})
		}
	case 1:
		r := candidates[0]
		t := target{Entity: r.Target}
		if i, ok := s.x.scope.entity[r.Target]; ok {
			t = s.x.scope.targets[i]
		}
		key := hasher.Sum(r.Key)
		waitsFor(p, blocker{Entity: r.Target, Path: r.Path, NaturalKey: r.Key}, s.x.holder(t, key), key)
	default:
		b := blocker{Entity: candidates[0].Target}
		for _, r := range candidates {
			b.OneOf = append(b.OneOf, blocker{Entity: r.Target, Path: r.Path, NaturalKey: r.Key})
		}
		p.BlockedBy = detail(b)
	}
}

// unresolvedEntities are the entities an answer says are not there.
func unresolvedEntities(e *edfi.Error) []string {
	var names []string
	for _, cause := range e.Causes {
		name, ok := strings.CutPrefix(cause, "referenced ")
		if i := strings.LastIndex(cause, ": referenced "); !ok && i >= 0 {
			name, ok = cause[i+len(": referenced "):], true
		}
		if name, is := strings.CutSuffix(name, " does not exist"); ok && is {
			names = append(names, name)
		}
	}
	return names
}

func slicesContainsFold(names []string, name string) bool {
	for _, n := range names {
		if strings.EqualFold(n, name) {
			return true
		}
	}
	return false
}

// anyLive reports whether the target holds a record with this key in one of the resources a reference can mean, as far as we know.
func (x *executor) anyLive(t target, key syncdb.Hash) bool {
	for _, j := range t.Resources {
		if x.live(x.found[j], key) {
			return true
		}
	}
	return false
}
