package sync

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/edfisync/edfisync/schema"
	"github.com/edfisync/edfisync/syncdb"
)

// family is what natural keys hang together in: the resources of the scope and, while natural keys come or change, those the ledger has records of
// though the connection no longer syncs them. The target re-keys their records with their parents all the same.
type family struct {
	model  *schema.Model
	hasher *schema.Hasher
	all    []*kin // parents before what refers to them
	byPath map[string]*kin

	lines map[string][]lineage // by resource; the rest are answers to questions that are asked for each entry
	depth map[string]int
	comes map[string]bool
	stirs map[string]bool

	// Many records have one parent: what its key awaits is found out once.
	parents map[parentOf][]awaited
	text    []byte
}

type parentOf struct {
	entity string
	key    string
}

// maxParents bounds the memory of what was found out about parents.
const maxParents = 100_000

// kin is one resource of a family.
type kin struct {
	*schema.Resource
	in        *scanned // nil: not in the scope
	off       *scanned // not in the scope, with entries that are known by their natural keys alone: their removal is offered, too
	unsettled bool     // not in the scope, and a record that is known by its natural key alone could not be looked up
}

// family gathers the resources natural keys hang together in.
func (e *Engine) family(ctx context.Context, o Options, found []*scanned) (*family, error) {
	f := &family{
		model: e.Model, hasher: schema.NewHasher(e.Keys.HashMAC()), byPath: map[string]*kin{},
		lines: map[string][]lineage{}, depth: map[string]int{}, comes: map[string]bool{}, stirs: map[string]bool{}, parents: map[parentOf][]awaited{},
	}
	quiet := true
	for _, r := range found {
		if r.off {
			if len(r.lost) > 0 {
				f.add(&kin{Resource: r.Resource, off: r})
			}
			continue
		}
		f.add(&kin{Resource: r.Resource, in: r})
		quiet = quiet && !r.bears()
	}
	if !quiet {
		if err := e.addOutOfScope(ctx, o, f); err != nil {
			return nil, err
		}
	}
	slices.SortStableFunc(f.all, func(a, b *kin) int { return cmp.Compare(f.depthOf(a.Resource), f.depthOf(b.Resource)) })
	return f, nil
}

func (f *family) add(k *kin) {
	f.all = append(f.all, k)
	f.byPath[k.Path] = k
}

// addOutOfScope adds the resources the connection no longer syncs. One whose hashes were made under other rules cannot be compared, and is left out: a
// run refuses it as soon as it is in the scope again.
func (e *Engine) addOutOfScope(ctx context.Context, o Options, f *family) error {
	paths, err := e.Ledger.Resources(ctx, e.Connection.ID)
	if err != nil {
		return fmt.Errorf("list the ledger's resources: %w", err)
	}
	for _, path := range paths {
		r, ok := e.Model.Resource(path)
		if !ok || f.byPath[path] != nil {
			continue
		}
		scope, err := e.Ledger.Scope(ctx, e.Connection.ID, path)
		if err != nil {
			return fmt.Errorf("read the hash rules of %s: %w", path, err)
		}
		if scope.HashRules == hashRules(o.Rules) && scope.KeyGeneration == e.Keys.Generation() {
			f.add(&kin{Resource: r})
		}
	}
	return nil
}

// bears reports whether rows may bring natural keys of the resource into being that one of its records had before, until it was re-keyed.
func (r *scanned) bears() bool { return r.rekeys && r.entries > 0 && r.fresh.count > 0 }

// renames reports whether records of the resource may get another natural key by PUT in this run.
func (r *scanned) renames() bool {
	return r.KeyUpdatable && r.fresh.count > 0 && r.gone.count+r.kept.count > 0
}

// rekeys reports whether records of a resource can get another natural key at the target: by PUT, or with a parent.
func rekeys(m *schema.Model, r *schema.Resource, known map[string]bool) bool {
	return anyAbove(m, r, known, func(r *schema.Resource) bool { return r.KeyUpdatable }, lineages)
}

// anyAbove reports whether is holds for a resource, or for one its natural key contains the key of. Answers are kept in known.
func anyAbove(m *schema.Model, r *schema.Resource, known map[string]bool, is func(*schema.Resource) bool, lines func(*schema.Resource) []lineage) bool {
	if answer, ok := known[r.Path]; ok {
		return answer
	}
	known[r.Path] = false // while a resource that is below itself is looked at
	answer := is(r)
	for _, l := range lines(r) {
		for _, c := range m.Concrete(l.entity) {
			answer = answer || anyAbove(m, c, known, is, lines)
		}
	}
	known[r.Path] = answer
	return answer
}

func (f *family) linesOf(r *schema.Resource) []lineage {
	lines, ok := f.lines[r.Path]
	if !ok {
		lines = lineages(r)
		f.lines[r.Path] = lines
	}
	return lines
}

// depthOf is how many keys are contained in each other above a resource.
func (f *family) depthOf(r *schema.Resource) int {
	if n, ok := f.depth[r.Path]; ok {
		return n
	}
	f.depth[r.Path] = 0
	n := 0
	for _, l := range f.linesOf(r) {
		for _, c := range f.model.Concrete(l.entity) {
			n = max(n, 1+f.depthOf(c))
		}
	}
	f.depth[r.Path] = n
	return n
}

// bearsAbove reports whether rows may bring natural keys into being that keys of the resource contain, or are.
func (f *family) bearsAbove(r *schema.Resource) bool {
	return anyAbove(f.model, r, f.comes, func(r *schema.Resource) bool {
		k := f.byPath[r.Path]
		return k != nil && k.in != nil && k.in.bears()
	}, f.linesOf)
}

// renamesAbove reports whether natural keys that keys of the resource contain, or are, may change by PUT in this run.
func (f *family) renamesAbove(r *schema.Resource) bool {
	return anyAbove(f.model, r, f.stirs, func(r *schema.Resource) bool {
		k := f.byPath[r.Path]
		return k != nil && k.in != nil && k.in.renames()
	}, f.linesOf)
}

// leftKeys are natural keys by resource.
type leftKeys map[string]map[syncdb.Hash]struct{}

func (l leftKeys) add(path string, key syncdb.Hash) {
	if l[path] == nil {
		l[path] = map[syncdb.Hash]struct{}{}
	}
	l[path][key] = struct{}{}
}

// refersTo reports whether a natural key contains one of the keys.
func (f *family) refersTo(r *schema.Resource, key []byte, keys leftKeys) bool {
	values, err := keyValues(key)
	if err != nil {
		return false
	}
	for _, l := range f.linesOf(r) {
		if slices.Max(l.parts) >= len(values) {
			continue
		}
		hash := f.hasher.Sum(l.key(values))
		for _, c := range f.model.Concrete(l.entity) {
			if _, ok := keys[c.Path][hash]; ok {
				return true
			}
		}
	}
	return false
}

// awaited is a natural key that a row of this run brings into being: the ledger has no entry of it.
type awaited struct {
	in  *scanned
	key syncdb.Hash
}

// awaits returns the keys contained in a natural key, directly or through a key the ledger does not know either, that rows of this run bring into being.
// A record cannot refer to what is not there, so the one whose key it is has got another key with its parent, or other clients keep the parent.
func (f *family) awaits(r *schema.Resource, key []byte) []awaited {
	var values []json.RawMessage
	var out []awaited
	for _, l := range f.linesOf(r) {
		if !f.bearsIn(l.entity) {
			continue
		}
		if values == nil {
			var err error
			if values, err = keyValues(key); err != nil {
				return nil
			}
		}
		if slices.Max(l.parts) >= len(values) {
			continue
		}
		f.text = l.appendKey(f.text[:0], values)
		found, ok := f.parents[parentOf{l.entity, string(f.text)}]
		if !ok {
			text := clone(f.text)
			found = f.awaitedOf(l.entity, text)
			if len(f.parents) < maxParents {
				f.parents[parentOf{l.entity, string(text)}] = found
			}
		}
		out = append(out, found...)
	}
	return out
}

// bearsIn reports whether rows may bring natural keys of an entity's resources into being, or keys those contain.
func (f *family) bearsIn(entity string) bool {
	return slices.ContainsFunc(f.model.Concrete(entity), f.bearsAbove)
}

// awaitedOf is awaits for the key of a record that is referred to.
func (f *family) awaitedOf(entity string, key []byte) []awaited {
	var out []awaited
	hash, known := f.hasher.Sum(key), false
	for _, c := range f.model.Concrete(entity) {
		k := f.byPath[c.Path]
		if k == nil || k.in == nil {
			continue
		}
		i := k.in.table.find(hash)
		known = known || i >= 0 && k.in.table.flags[i]&slotEntry != 0
		if i >= 0 && k.in.table.flags[i]&(slotEntry|slotNew) == slotNew && k.in.bears() {
			out = append(out, awaited{k.in, hash})
		}
	}
	if known {
		return out
	}
	for _, c := range f.model.Concrete(entity) {
		out = append(out, f.awaits(c, key)...)
	}
	return out
}

// keepKeysAbove lets no natural key change in this run that keys of a resource contain.
func (f *family) keepKeysAbove(r *schema.Resource) {
	for _, l := range f.linesOf(r) {
		for _, c := range f.model.Concrete(l.entity) {
			if c.Path == r.Path {
				continue
			}
			if k := f.byPath[c.Path]; k != nil && k.in != nil {
				k.in.keysStay = true
			}
			f.keepKeysAbove(c)
		}
	}
}
