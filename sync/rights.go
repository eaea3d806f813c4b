package sync

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	gosync "sync"

	"github.com/edfisync/edfisync/edfi"
	"github.com/edfisync/edfisync/schema"
	"github.com/edfisync/edfisync/syncdb"
)

// Where a target authorises by relationship, records of a person are ours to write while an association gives us the right to the person: an enrolment,
// an assignment. When it refuses one, the ledger and the rows tell why:
//
//	the person's associations                 | what is filed       | sent again
//	one is at the target, as far as we know   | no-relationship     | in every run: the host has to say what else is needed
//	none is, a row for one was not sent       | missing-association | in every run, as soon as that row is mended
//	none is, and no row says one              | no-association      | when one is there; or the row changed, or somebody asks for it
//
// A create of the person itself is always tried again: what ties it to us comes after it.

// rights tell to whom associations of the ledger give us the right. It may be used concurrently.
type rights struct {
	e     *Engine
	scope *scope
	found []*scanned

	mu gosync.Mutex
	of map[kindIn]*rightsTo
}

// kindIn is a kind of people, a target, in the entries of one resource, or in those that give us the right to them (-1).
type kindIn struct {
	kind     uint16
	resource int
}

// rightsTo is what the ledger says of one kind of people, once it was read.
type rightsTo struct {
	read  chan struct{}       // closed then
	has   map[uint64]struct{} // people, by cut hash
	known bool                // the connection syncs such records
	err   error
}

// to returns the people of a kind to whom associations that are live give us the right, or may: of those that are not known to be missing. The ledger is
// read once, when first asked: after the steps that create them, since whatever refers to people waits for these.
func (rs *rights) to(ctx context.Context, kind uint16) (*rightsTo, error) {
	return rs.in(ctx, kindIn{kind, -1})
}

// in returns the people of a kind whom the ledger's entries of a resource name.
func (rs *rights) in(ctx context.Context, where kindIn) (*rightsTo, error) {
	rs.mu.Lock()
	of, had := rs.of[where]
	if !had {
		if rs.of == nil {
			rs.of = map[kindIn]*rightsTo{}
		}
		of = &rightsTo{read: make(chan struct{}), has: map[uint64]struct{}{}}
		rs.of[where] = of
	}
	rs.mu.Unlock()
	if !had {
		of.err = rs.read(ctx, where, of)
		close(of.read)
	}
	select {
	case <-of.read:
		return of, of.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (rs *rights) read(ctx context.Context, where kindIn, of *rightsTo) error {
	kind, hasher := where.kind, schema.NewHasher(rs.e.Keys.HashMAC())
	gives := people[rs.scope.targets[kind].Entity]
	for i, r := range rs.found {
		if wanted := i == where.resource || where.resource < 0 && slices.Contains(gives, r.Name); r.off || !wanted {
			continue
		}
		of.known = true
		cs := r.cascades(rs.scope)
		err := rs.e.Ledger.Each(ctx, rs.e.Connection.ID, r.Path, func(entry *syncdb.Entry) error {
			if entry.State == syncdb.Missing {
				return nil
			}
			for _, ref := range cs.identifying(hasher, entry.Key) {
				if ref.Target == kind {
					of.has[cut8(ref.Hash)] = struct{}{}
				}
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("read whom the ledger's %s name: %w", r.Path, err)
		}
	}
	return nil
}

// lacking are those of some people to whom nothing of the ledger gives us the right, though the connection syncs what would.
func (rs *rights) lacking(ctx context.Context, of []reference) ([]reference, error) {
	var out []reference
	for _, person := range of {
		to, err := rs.to(ctx, person.Target)
		if err != nil {
			return nil, err
		}
		if _, has := to.has[cut8(person.Hash)]; to.known && !has {
			out = append(out, person)
		}
	}
	return out, nil
}

// peopleOf are the people through whom a record is authorised, as far as they are in the scope: those it refers to, and itself. What gives the right to
// a person is not among what that right is needed for.
func (s *scope) peopleOf(r *scanned, refs []reference, key syncdb.Hash) []reference {
	var out []reference
	if _, is := people[r.Name]; is {
		if t, ok := s.entity[r.Name]; ok {
			out = append(out, reference{t, key})
		}
	}
	for _, ref := range refs {
		by := people[s.targets[ref.Target].Entity]
		if by != nil && !slices.Contains(by, r.Name) && !slices.Contains(out, ref) {
			out = append(out, ref)
		}
	}
	return out
}

// lack says why a call had no right to a person.
type lack struct {
	by    place       // the row that would give it and was not sent
	of    []reference // people to whom nothing gives it, and no row would
	under bool        // the person is to be deleted, and other records of hers, which it is about, stand against that
}

// lacks finds out why a call was refused for want of a relationship; nil when it was not, or when the ledger knows an association that should do.
func (s *stepRun) lacks(o *op, err error) *lack {
	var e *edfi.Error
	switch {
	case !errors.As(err, &e):
		return nil
	case e.Code == "dependent-exists" && o.verb == syncdb.Delete:
		return s.lacksUnder(o, e)
	case e.Code != "no-relationship":
		return nil
	}
	var refs []reference
	if o.verb == syncdb.Delete {
		refs = s.r.cascades(s.x.scope).identifying(schema.NewHasher(s.x.e.Keys.HashMAC()), o.keyText)
	} else {
		refs = s.referred(o)
	}
	of, lerr := s.x.rights.lacking(s.x.ctx, s.x.scope.peopleOf(s.r, refs, o.key))
	if lerr != nil || len(of) == 0 {
		return nil // a ledger that cannot be read ends the run by itself
	}
	s.x.mu.Lock()
	defer s.x.mu.Unlock()
	for _, person := range of {
		if at, ok := s.x.gives[person]; ok {
			return &lack{by: at}
		}
	}
	return &lack{of: of}
}

// lacksUnder finds out whether a person cannot be deleted because of records of ours that nothing gives us the right to any more: to delete their rows in the
// SIS would not help.
func (s *stepRun) lacksUnder(o *op, e *edfi.Error) *lack {
	t, in := s.x.scope.entity[s.r.Name]
	if _, person := people[s.r.Name]; !person || !in {
		return nil
	}
	of, err := s.x.rights.lacking(s.x.ctx, []reference{{t, o.key}})
	if err != nil || len(of) == 0 {
		return nil
	}
	for _, cause := range e.Causes {
		name, _ := strings.CutPrefix(cause, "referenced by ")
		for i, r := range s.x.found {
			if !strings.EqualFold(r.Name, name) {
				continue
			}
			if named, err := s.x.rights.in(s.x.ctx, kindIn{t, i}); err == nil {
				if _, ours := named.has[cut8(o.key)]; ours {
					return &lack{of: of, under: true}
				}
			}
		}
	}
	return nil
}

// final reports whether the call is not worth repeating before something about it changes.
func (l *lack) final(o *op, r *scanned) bool {
	_, person := people[r.Name]
	return l != nil && len(l.of) > 0 && !l.under && !(person && o.verb == syncdb.Create)
}

// describe says it for a person.
func (l *lack) describe() (code, text string) {
	if l.by.resource != "" {
		return "missing-association", "nothing gives us the right to its person yet: the row of the enrolment, or of the assignment, that would was not sent"
	}
	if l.under {
		return "no-association", "other records of the person stand against its delete, and nothing gives us the right to them: no enrolment, or assignment, of the person is at the target or in the source"
	}
	return "no-association", "nothing gives us the right to its person: no enrolment, or assignment, of the person is at the target or in the source"
}

// attemptedWithout is attempted for a call that was refused because nothing gives us the right to some people: it is another sum as soon as something does.
func (x *executor) attemptedWithout(attempted syncdb.Hash, of []reference) syncdb.Hash {
	if len(of) == 0 {
		return attempted
	}
	keys := make([]syncdb.Hash, len(of))
	for i, person := range of {
		keys[i] = person.Hash
	}
	slices.SortFunc(keys, compareHashes)
	b := binary.BigEndian.AppendUint32([]byte("without\x00"), uint32(len(keys)))
	b = append(b, attempted[:]...)
	for _, key := range keys {
		b = append(b, key[:]...)
	}
	return schema.NewHasher(x.e.Keys.HashMAC()).Sum(b)
}

// attemptedDelete stands for all that decides whether a delete that was refused for want of a relationship would be again.
func (x *executor) attemptedDelete(o *op, of []reference) syncdb.Hash {
	return x.attemptedWithout(x.attempted(o.key, o.before, nil), of)
}

// stillRefused reports whether a delete was refused in an earlier run because nothing gives us the right to its person, and nothing does now.
func (s *stepRun) stillRefused(o *op) (bool, error) {
	last, ok := s.rejected[goneProblem(o.key)]
	if !ok {
		return false, nil
	}
	refs := s.r.cascades(s.x.scope).identifying(schema.NewHasher(s.x.e.Keys.HashMAC()), o.keyText)
	of, err := s.x.rights.lacking(s.x.ctx, s.x.scope.peopleOf(s.r, refs, o.key))
	return len(of) > 0 && last == s.x.attemptedDelete(o, of), err
}

// goneProblem is where the problem of an entry without a row is filed.
func goneProblem(key syncdb.Hash) syncdb.Hash { return whole(key, syncdb.Hash{'g', 'o', 'n', 'e'}) }
