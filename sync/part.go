package sync

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/edfisync/edfisync/schema"
	"github.com/edfisync/edfisync/syncdb"
)

// A run with a scope scans and judges as any: what is gone, what the safeguards hold and what people decided is of the whole source (I5). Then a part of
// the changes is chosen, and the executor leaves the rest as if nobody had asked: entries, issues and holds stay.

// part is what a run with a scope may send, by resource. A nil part is everything.
type part struct {
	asked  syncdb.RunScope
	chosen []chosen
	asks   map[string]map[syncdb.Hash]bool // problems the ledger had before the run, by resource and source row: whether the row is in the part
	left   int64                           // calls that are not made because they are not in the part
	in     func(*scanned, *record) bool    // whether a record was asked for
}

// chosen are the ops of one resource that are in the part, by the natural key they are about.
type chosen struct {
	writes map[syncdb.Hash]struct{} // of a row
	gone   map[syncdb.Hash]struct{} // of an entry without one
}

// writes reports whether the row with a natural key is in the part.
func (p *part) writes(resource int, key syncdb.Hash) bool {
	if p == nil {
		return true
	}
	_, ok := p.chosen[resource].writes[key]
	return ok
}

// deletes reports whether the entry without a row that has a natural key is in the part.
func (p *part) deletes(resource int, key syncdb.Hash) bool {
	if p == nil {
		return true
	}
	_, ok := p.chosen[resource].gone[key]
	return ok
}

// has reports whether an op is in the part.
func (p *part) has(resource int, o syncdb.PlanOp) bool {
	if o.Verb == syncdb.Delete {
		return p.deletes(resource, o.KeyHash)
	}
	return p.writes(resource, o.KeyHash)
}

// schoolNames finds the schools that records name. It is used by mappers at once, while the schools themselves are not scanned.
type schoolNames struct {
	model *schema.Model
	hash  func(key []byte) syncdb.Hash
	asked map[int64]*atomic.Bool // whether a row names it
	known *scanned               // the schools of the source, once they are scanned
}

func (e *Engine) schoolNames(asked syncdb.RunScope, lasting Schools) *schoolNames {
	if asked.All() && lasting.All() {
		return nil
	}
	n := &schoolNames{model: e.Model, asked: map[int64]*atomic.Bool{}, hash: func(key []byte) syncdb.Hash { return schema.NewHasher(e.Keys.HashMAC()).Sum(key) }}
	for _, p := range asked.Parts {
		if p.School != 0 {
			n.asked[p.School] = new(atomic.Bool)
		}
	}
	for _, id := range slices.Concat(lasting.Only, lasting.Except) {
		n.asked[id] = new(atomic.Bool)
	}
	return n
}

// ofRow is of for a row of the source. Which of the schools that were asked for rows name is noted.
func (n *schoolNames) ofRow(dst []int64, r *schema.Resource, key []byte, refs []schema.RefKey) []int64 {
	dst = n.of(dst, r, key, refs)
	for _, id := range dst {
		if at, ok := n.asked[id]; ok && !at.Load() {
			at.Store(true)
		}
	}
	return dst
}

// of appends the schools a record names: in its natural key, or, when that names none, in what it refers to beside it.
func (n *schoolNames) of(dst []int64, r *schema.Resource, key []byte, refs []schema.RefKey) []int64 {
	if len(n.asked) == 0 {
		return dst
	}
	if dst = n.inKey(dst, r.Key, key); len(dst) > 0 {
		return dst
	}
	for _, ref := range refs {
		if ref.Target == "EducationOrganization" {
			dst = n.inKey(dst, []schema.KeyPart{{Name: "educationOrganizationId"}}, ref.Key)
		} else if kinds := n.model.Concrete(ref.Target); len(kinds) > 0 {
			dst = n.inKey(dst, kinds[0].Key, ref.Key)
		}
	}
	return dst
}

func (n *schoolNames) inKey(dst []int64, parts []schema.KeyPart, key []byte) []int64 {
	values, err := keyValues(key)
	if err != nil || len(values) != len(parts) {
		return dst
	}
	for i, part := range parts {
		name := strings.ToLower(part.Name)
		school := strings.HasSuffix(name, "schoolid")
		if !school && !strings.HasSuffix(name, "educationorganizationid") {
			continue
		}
		id, err := strconv.ParseInt(string(values[i]), 10, 64)
		if err != nil || !school && !n.isSchool(id) || slices.Contains(dst, id) {
			continue
		}
		dst = append(dst, id)
	}
	return dst
}

// isSchool tells a school from another education organization.
func (n *schoolNames) isSchool(id int64) bool {
	if _, ok := n.asked[id]; ok {
		return true
	}
	return n.known != nil && n.known.table.find(n.hash([]byte(fmt.Sprintf("[%d]", id)))) >= 0
}

// chooser finds out what is in the part.
type chooser struct {
	*part
	kinship
	e     *Engine
	found []*scanned
	of    map[int64]map[reference]struct{} // people of the schools that were asked for

	right  map[reference]struct{} // people an entry gives us the right to
	stays  map[reference]struct{} // of these: those to whom one that stays does
	needs  map[reference]struct{} // people of whom something is written
	leaves map[reference]struct{} // people whose last right may be deleted
	grew   bool
}

// choose finds the ops that are in the scope of a run, and those that must go along with them (I6). It reads the ledger and the spools, and changes neither.
func (e *Engine) choose(ctx context.Context, s *scope, found []*scanned, asked syncdb.RunScope) (*part, error) {
	if asked.All() {
		return nil, nil
	}
	asked.Parts = slices.Clone(asked.Parts)
	for i, p := range asked.Parts { // as the model spells it
		for _, r := range found {
			if strings.EqualFold(p.Resource, r.Path) {
				asked.Parts[i].Resource = r.Path
			}
		}
	}
	c := &chooser{
		part:    &part{asked: asked, chosen: make([]chosen, len(found)), asks: map[string]map[syncdb.Hash]bool{}},
		kinship: newKinship(e, s, found), e: e, found: found, of: map[int64]map[reference]struct{}{},
		right: map[reference]struct{}{}, stays: map[reference]struct{}{}, needs: map[reference]struct{}{}, leaves: map[reference]struct{}{},
	}
	c.part.in = c.in
	for i := range found {
		c.chosen[i] = chosen{map[syncdb.Hash]struct{}{}, map[syncdb.Hash]struct{}{}}
	}
	if err := e.Ledger.ProblemLinks(ctx, e.Connection.ID, func(l syncdb.ProblemLink) error {
		if c.asks[l.Resource] == nil {
			c.asks[l.Resource] = map[syncdb.Hash]bool{}
		}
		c.asks[l.Resource][l.SourceHash] = c.whole(l.Resource)
		return nil
	}); err != nil {
		return nil, fmt.Errorf("read problems: %w", err)
	}
	for _, step := range []func(context.Context) error{c.people, c.rights, c.pick, c.close, c.count} {
		if err := step(ctx); err != nil {
			return nil, fmt.Errorf("find out what is in the scope of the run: %w", err)
		}
	}
	return c.part, nil
}

// whole reports whether everything of a resource was asked for.
func (p *part) whole(resource string) bool {
	return slices.Contains(p.asked.Parts, syncdb.ScopePart{Resource: resource})
}

// people finds who belongs to the schools that were asked for: those whom an association that gives us the right to them ties to one. Students come
// before contacts, who belong where their students do.
func (c *chooser) people(context.Context) error {
	for _, p := range c.asked.Parts {
		if p.School != 0 && c.of[p.School] == nil {
			c.of[p.School] = map[reference]struct{}{}
		}
	}
	if len(c.of) == 0 {
		return nil
	}
	for range 2 {
		for _, r := range c.found {
			if !authorises(r.Name) {
				continue
			}
			err := r.every(func(rec *record) error {
				for school, of := range c.of {
					if !c.inSchool(r, rec, school) {
						continue
					}
					c.persons(r, rec, func(person reference, entity string) {
						if slices.Contains(people[entity], r.Name) {
							of[person] = struct{}{}
						}
					})
				}
				return nil
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// every calls fn for all rows and entries of the scan.
func (r *scanned) every(fn func(*record) error) error {
	for _, sp := range []*spool{r.same, r.claims, r.troubled, r.fresh, r.changed, r.gone, r.kept} {
		if err := sp.each(fn); err != nil {
			return err
		}
	}
	return nil
}

// inSchool reports whether a record belongs to a school: it names it, or it names none, and one of the people it refers to, or is, belongs to it.
func (c *chooser) inSchool(r *scanned, rec *record, school int64) bool {
	if len(rec.Schools) > 0 {
		return slices.Contains(rec.Schools, school)
	}
	in := false
	c.persons(r, rec, func(person reference, _ string) {
		_, of := c.of[school][person]
		in = in || of
	})
	return in
}

// in reports whether a record was asked for.
func (c *chooser) in(r *scanned, rec *record) bool {
	return slices.ContainsFunc(c.asked.Parts, func(p syncdb.ScopePart) bool {
		return (p.Resource == "" || p.Resource == r.Path) && (p.Key.IsZero() || p.Key == rec.KeyHash) &&
			(p.Source.IsZero() || p.Source == rec.SourceHash) && (p.School == 0 || c.inSchool(r, rec, p.School))
	})
}

// rights finds out to whom the ledger's entries give us the right.
func (c *chooser) rights(ctx context.Context) error {
	for _, r := range c.found {
		if !authorises(r.Name) || r.entries == 0 {
			continue
		}
		err := c.e.Ledger.Each(ctx, c.e.Connection.ID, r.Path, func(entry *syncdb.Entry) error {
			if entry.State != syncdb.Live {
				return nil
			}
			rec := record{KeyHash: entry.KeyHash, Key: entry.Key}
			c.persons(r, &rec, func(person reference, entity string) {
				if !slices.Contains(people[entity], r.Name) {
					return
				}
				c.right[person] = struct{}{}
				if r.inUse(entry) {
					c.stays[person] = struct{}{}
				}
			})
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// pick takes what was asked for.
func (c *chooser) pick(context.Context) error {
	for i, r := range c.found {
		take := func(set map[syncdb.Hash]struct{}) func(*record) error {
			return func(rec *record) error {
				if c.in(r, rec) {
					set[rec.KeyHash] = struct{}{}
				}
				return nil
			}
		}
		writes, gone := take(c.chosen[i].writes), take(c.chosen[i].gone)
		if err := errors.Join(r.fresh.each(writes), r.changed.each(writes), r.claims.each(writes), r.gone.each(gone)); err != nil {
			return err
		}
	}
	return nil
}

func (c *chooser) write(resource int, key syncdb.Hash) {
	if _, had := c.chosen[resource].writes[key]; !had {
		c.chosen[resource].writes[key], c.grew = struct{}{}, true
	}
}

func (c *chooser) erase(resource int, key syncdb.Hash) {
	if _, had := c.chosen[resource].gone[key]; !had {
		c.chosen[resource].gone[key], c.grew = struct{}{}, true
	}
}

func (c *chooser) person(set map[reference]struct{}, person reference) {
	if _, had := set[person]; !had {
		set[person], c.grew = struct{}{}, true
	}
}

// close adds what must go along, until nothing is missing (I6):
//
//	taken                                | goes along
//	create, update                       | the creates of what it refers to, and of what gives us the right to its people
//	create in place of a delete, or back | the other one: a natural-key change is one thing
//	natural-key change by PUT            | the rows whose keys the target changes with it
//	delete                               | the deletes of what refers to it by key
//	delete of the last right to a person | all that changes of that person: afterwards nobody could send it
func (c *chooser) close(ctx context.Context) error {
	for c.grew = true; c.grew; {
		c.grew = false
		for _, r := range slices.Backward(c.found) {
			if err := ctx.Err(); err != nil {
				return err
			}
			written := func(rec *record) error { c.written(r, rec); return nil }
			erased := func(rec *record) error { c.erased(r, rec); return nil }
			if err := errors.Join(r.fresh.each(written), r.changed.each(written), r.gone.each(erased)); err != nil {
				return err
			}
		}
	}
	return nil
}

// written looks at a row that differs from the ledger.
func (c *chooser) written(r *scanned, rec *record) {
	m, moves := r.moves[rec.KeyHash]
	in := c.writes(r.index, rec.KeyHash)
	if !in && (moves && m.how == moveFollow && c.follows(r, rec) || c.bringsRight(r, rec) || c.about(r, rec, c.leaves)) {
		c.write(r.index, rec.KeyHash)
		in = true
	}
	if !in {
		return
	}
	if moves && m.how == moveRecreate {
		c.erase(r.index, m.old)
	}
	for _, ref := range rec.Refs {
		for _, j := range c.scope.targets[ref.Target].Resources {
			t := c.found[j].table
			if i := t.find(ref.Hash); i >= 0 && t.flags[i]&(slotNew|slotLive) == slotNew {
				c.write(j, ref.Hash)
			}
		}
	}
	c.persons(r, rec, func(person reference, _ string) { c.person(c.needs, person) })
}

// follows reports whether the target gives a row's record its new key together with one that is taken.
func (c *chooser) follows(r *scanned, rec *record) bool {
	return slices.ContainsFunc(c.cs[r.index].identifying(c.hasher, rec.Key), func(ref reference) bool {
		return slices.ContainsFunc(c.scope.targets[ref.Target].Resources, func(j int) bool {
			m, moves := c.found[j].moves[ref.Hash]
			return moves && m.how != moveRecreate && c.writes(j, ref.Hash)
		})
	})
}

// bringsRight reports whether a new row gives us the right to a person of whom something is taken, and nothing at the target does.
func (c *chooser) bringsRight(r *scanned, rec *record) bool {
	if !authorises(r.Name) || r.table.live(rec.KeyHash) {
		return false
	}
	brings := false
	c.persons(r, rec, func(person reference, entity string) {
		_, needed := c.needs[person]
		_, had := c.right[person]
		brings = brings || needed && !had && slices.Contains(people[entity], r.Name)
	})
	return brings
}

// about reports whether a record is of, or refers to, one of the people.
func (c *chooser) about(r *scanned, rec *record, of map[reference]struct{}) bool {
	is := false
	c.persons(r, rec, func(person reference, _ string) {
		_, ok := of[person]
		is = is || ok
	})
	return is
}

// erased looks at an entry without a row.
func (c *chooser) erased(r *scanned, rec *record) {
	in := c.deletes(r.index, rec.KeyHash)
	if !in && (c.about(r, rec, c.leaves) || slices.ContainsFunc(c.cs[r.index].identifying(c.hasher, rec.Key), func(ref reference) bool {
		return slices.ContainsFunc(c.scope.targets[ref.Target].Resources, func(j int) bool { return c.gone(j, ref.Hash) })
	})) {
		c.erase(r.index, rec.KeyHash)
		in = true
	}
	if !in {
		return
	}
	if now, moved := r.movedFrom[rec.KeyHash]; moved {
		c.write(r.index, now)
	}
	if r.moved(rec.KeyHash) || !authorises(r.Name) {
		return
	}
	c.persons(r, rec, func(person reference, entity string) {
		if _, stays := c.stays[person]; !stays && slices.Contains(people[entity], r.Name) {
			c.person(c.leaves, person)
		}
	})
}

// gone reports whether the record under a natural key is to be deleted, and not only to get another key.
func (c *chooser) gone(resource int, key syncdb.Hash) bool {
	return c.deletes(resource, key) && !c.found[resource].moved(key)
}

// count notes which problems the part is about, and counts the calls it leaves out.
func (c *chooser) count(context.Context) error {
	for i, r := range c.found {
		note := func(source syncdb.Hash) {
			if _, had := c.asks[r.Path][source]; had {
				c.asks[r.Path][source] = true
			}
		}
		row := func(rec *record) error {
			if c.writes(i, rec.KeyHash) {
				note(rec.SourceHash)
			} else {
				c.left++
			}
			return nil
		}
		asked := func(rec *record) error {
			if c.in(r, rec) {
				note(rec.SourceHash)
			}
			return nil
		}
		entry := func(rec *record) error {
			switch {
			case c.deletes(i, rec.KeyHash):
				note(goneProblem(rec.KeyHash))
			case !r.moved(rec.KeyHash) && r.deletable(r.goneEntry(rec)) && !r.neverMade(rec.KeyHash):
				c.left++
			}
			return nil
		}
		if err := errors.Join(r.fresh.each(row), r.changed.each(row), r.same.each(asked), r.claims.each(asked), r.gone.each(entry)); err != nil {
			return err
		}
	}
	return nil
}

// leave counts the rows that are not in the part as such, and files the problems of those that are (I11). It comes after the safeguards have judged
// the whole.
func (p *part) leave(found []*scanned, file problemSink) error {
	if p == nil {
		return nil
	}
	for i, r := range found {
		outside := func(of Outcome) func(*record) error {
			return func(rec *record) error {
				if p.in(r, rec) {
					return nil
				}
				*r.totals.field(of)--
				r.totals.Outside++
				return nil
			}
		}
		pending := func(rec *record) error {
			if !p.writes(i, rec.KeyHash) {
				r.totals.Outside++
				r.totals.WithRow++
			}
			return nil
		}
		in := func(rec *record) (bool, error) {
			if p.in(r, rec) {
				return true, nil
			}
			return false, outside(Invalid)(rec)
		}
		err := errors.Join(r.same.each(outside(Unchanged)), r.claims.each(outside(Unchanged)), r.troubles(in, file), r.fresh.each(pending), r.changed.each(pending))
		if err != nil {
			return err
		}
	}
	return nil
}

// troubles files the problems the scan kept of the rows that in wants.
func (r *scanned) troubles(in func(*record) (bool, error), file problemSink) error {
	var problems []syncdb.Problem
	err := r.troubled.each(func(rec *record) error {
		if wanted, err := in(rec); err != nil || !wanted {
			return err
		}
		var problem syncdb.Problem
		if err := json.Unmarshal(rec.Payload, &problem); err != nil {
			return fmt.Errorf("read a problem of the scan: %w", err)
		}
		problems = append(problems, problem)
		return nil
	})
	if err != nil {
		return err
	}
	for some := range slices.Chunk(problems, 500) {
		if err := file(some); err != nil {
			return err
		}
	}
	return nil
}

// filed are the source rows whose problems are the part's, by resource.
func (p *part) filed() map[string][]syncdb.Hash {
	out := map[string][]syncdb.Hash{}
	for resource, rows := range p.asks {
		for row, in := range rows {
			if in {
				out[resource] = append(out[resource], row)
			}
		}
	}
	return out
}

// closeProblems removes the problems that are gone: all, or those of the part.
func (e *Engine) closeProblems(ctx context.Context, k *keeper, p *part) (cleared int, err error) {
	if p == nil {
		return e.Ledger.CloseProblems(ctx, k.current(), nil)
	}
	of := p.filed()
	for _, resource := range slices.Sorted(maps.Keys(of)) {
		slices.SortFunc(of[resource], compareHashes)
		n, err := e.Ledger.CloseProblemsOf(ctx, k.current(), resource, of[resource])
		if err != nil {
			return cleared, err
		}
		cleared += n
	}
	return cleared, nil
}

// touched are the parts of a plan that hold something of the part a run sends. The others stay as they are: nobody asked about them.
func (e *Engine) touched(ctx context.Context, s *scope, found []*scanned, p *Plan) ([]HeldPart, error) {
	if p.part == nil {
		return p.Held, nil
	}
	held := map[*HeldPart]bool{}
	err := e.eachOp(ctx, s, found, func(resource int, o syncdb.PlanOp) error {
		if by := p.gates[resource].judge(o.Verb, o.KeyHash).held; by != nil && p.part.has(resource, o) {
			held[by] = true
		}
		return nil
	})
	var out []HeldPart
	for i := range p.Held {
		if held[&p.Held[i]] || !p.Held[i].asked() {
			out = append(out, p.Held[i])
		}
	}
	return out, err
}
