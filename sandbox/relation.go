package sandbox

import (
	"encoding/binary"
	"slices"
	"sync"

	"github.com/edfisync/edfisync/schema"
)

// educationOrganization is the abstract entity of everything that has an educationOrganizationId.
const educationOrganization = "EducationOrganization"

// relations say which records associations tie people to: students to schools by their enrolments, staff to organizations by assignments and
// employments, contacts to students, and students to organizations by responsibility. They are what an ODS's authorization views are; kept
// while a restricted client exists, and not at all else.
type relations struct {
	mu   sync.RWMutex
	ties map[uint32][]tie // row of the person → what it is tied to
}

// tie counts the associations between a person and one other record.
type tie struct {
	entry uint32 // index entry of the other record
	count int32
}

// association is how a table feeds relations.
type association struct {
	to            *relations
	person, other uint16 // ordinals of the references in the table's shape
}

// tieds are the relations of one sandbox.
type tieds struct {
	enrolled    relations // student → school
	responsible relations // student → organization
	employed    relations // staff → organization
	contacts    relations // contact → student
}

// clear forgets all ties, for a store that is filled anew. A nil receiver is no relations at all.
func (t *tieds) clear() {
	if t == nil {
		return
	}
	for _, r := range []*relations{&t.enrolled, &t.responsible, &t.employed, &t.contacts} {
		clear(r.ties)
	}
}

// relate begins to keep the relations, unless they are kept already.
func (st *store) relate() {
	st.world.Lock()
	defer st.world.Unlock()
	if st.ties != nil {
		return
	}
	st.ties = &tieds{}
	for _, a := range []struct {
		entity, person, other string
		to                    *relations
	}{
		{"StudentSchoolAssociation", "studentReference", "schoolReference", &st.ties.enrolled},
		{"StudentEducationOrganizationResponsibilityAssociation", "studentReference", "educationOrganizationReference", &st.ties.responsible},
		{"StaffEducationOrganizationAssignmentAssociation", "staffReference", "educationOrganizationReference", &st.ties.employed},
		{"StaffEducationOrganizationEmploymentAssociation", "staffReference", "educationOrganizationReference", &st.ties.employed},
		{"StudentContactAssociation", "contactReference", "studentReference", &st.ties.contacts},
		{"StudentParentAssociation", "parentReference", "studentReference", &st.ties.contacts},
	} {
		t := st.cat.byName[a.entity]
		if t == nil {
			continue
		}
		person, ok1 := t.shape.exact[a.person]
		other, ok2 := t.shape.exact[a.other]
		if !ok1 || !ok2 {
			continue
		}
		if a.to.ties == nil {
			a.to.ties = map[uint32][]tie{}
		}
		t.association = &association{a.to, person, other}
		t.each(func(_ uint32, rec []byte) bool {
			t.association.add(t, rec, 1)
			return true
		})
	}
}

// add counts an association record in (+1) or out (-1).
func (a *association) add(t *table, rec []byte, by int32) {
	p, o := cursor{rec}, cursor{rec}
	if !p.find(t.shape, int(a.person)) || !o.find(t.shape, int(a.other)) {
		return
	}
	person, other := uint32(p.uvarint())>>kindBits, uint32(o.uvarint())
	a.to.mu.Lock()
	defer a.to.mu.Unlock()
	ties := a.to.ties[person]
	i := slices.IndexFunc(ties, func(x tie) bool { return x.entry == other })
	if i < 0 {
		i = len(ties)
		ties = append(ties, tie{entry: other})
	}
	if ties[i].count += by; ties[i].count == 0 {
		ties = slices.Delete(ties, i, i+1)
	}
	if len(ties) == 0 {
		delete(a.to.ties, person)
		return
	}
	a.to.ties[person] = ties
}

// any says whether a person is tied to a record for which f holds.
func (r *relations) any(person uint32, f func(entry uint32) bool) bool {
	var buf [8]tie
	r.mu.RLock()
	ties := append(buf[:0], r.ties[person]...) // f looks records up, which no lock may wait for
	r.mu.RUnlock()
	return slices.ContainsFunc(ties, func(t tie) bool { return f(t.entry) })
}

// organization finds an education organization by its id.
func (st *store) organization(id int64) (entry uint32, ok bool) {
	s := st.cat.spaces[educationOrganization]
	if s == nil {
		return 0, false
	}
	return st.lookUp(s, binary.AppendVarint(nil, id))
}

// lookUp finds a record by its encoded natural key.
func (st *store) lookUp(s *space, key []byte) (entry uint32, ok bool) {
	h := st.hash.sum(key)
	s.mu.RLock()
	defer s.mu.RUnlock()
	entry, ok = s.index[h]
	return entry, ok
}

// hasOrganization says whether an education organization has this id.
func (st *store) hasOrganization(id int64) bool {
	st.world.RLock()
	defer st.world.RUnlock()
	_, ok := st.organization(id)
	return ok
}

const maxLevels = 16 // of the hierarchy of organizations: one that goes in circles ends here

// upwards calls f for an education organization and all above it (school, agency, service center, state agency) until f returns false. The
// caller holds world.
func (st *store) upwards(entry uint32, f func(entry uint32, id int64) bool) bool {
	return st.upwardsFrom(entry, 0, f)
}

func (st *store) upwardsFrom(entry uint32, level int, f func(entry uint32, id int64) bool) bool {
	a := st.cat.spaces[educationOrganization].address(entry)
	var buf [512]byte
	rec, ok := st.copyRecord(buf[:0], a)
	if !ok || level == maxLevels {
		return true
	}
	id := cursor{rec}
	if !id.find(a.table.shape, int(a.table.key[0].path.steps[0])) || !f(entry, id.varint()) {
		return false
	}
	c := cursor{rec}
	for i := c.member(); i >= 0; i = c.member() {
		p := &a.table.shape.props[i]
		if p.Kind != schema.Reference || p.ref.space.name != educationOrganization {
			c.skip(p)
			continue
		}
		if !st.upwardsFrom(uint32(c.uvarint()), level+1, f) {
			return false
		}
	}
	return true
}

// within says whether an education organization is one of the caller's or below one.
func (st *store) within(by *caller, entry uint32) bool {
	found := false
	st.upwards(entry, func(_ uint32, id int64) bool {
		_, found = by.reach[id]
		return !found
	})
	return found
}

// above says whether an education organization is above one of the caller's.
func (st *store) above(by *caller, entry uint32) bool {
	for _, id := range by.EducationOrganizations {
		own, ok := st.organization(id)
		if !ok {
			continue
		}
		found := false
		st.upwards(own, func(e uint32, _ int64) bool {
			found = e == entry
			return !found
		})
		if found {
			return true
		}
	}
	return false
}
