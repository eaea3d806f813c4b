package sandbox

import (
	"cmp"
	"net/http"
	"slices"
	"strings"

	"github.com/edfisync/edfisync/internal/httpd"
	"github.com/edfisync/edfisync/schema"
)

// Authorization, as an ODS/API does it: the claim set says whether an action is allowed on a resource, its strategies whether on this record.
// A record's subjects are the education organization and person ids of its natural key. Ids with a role name (courseEducationOrganizationId)
// are none: a school may use the state's course. A record whose key has no organization takes one that is required beside the key.

// subject is a value of a table's records that relationship strategies look at.
type subject struct {
	kind subjectKind
	name string // as the ODS's texts have it: "StudentUniqueId"
	path path
}

type subjectKind uint8

const (
	subjectOrganization subjectKind = iota + 1
	subjectStudent
	subjectStaff
	subjectContact
)

// subjects finds the subjects of every table, and where namespaces are.
func (c *catalog) subjects() {
	people := map[string]subjectKind{
		"studentUniqueId": subjectStudent, "staffUniqueId": subjectStaff, "contactUniqueId": subjectContact, "parentUniqueId": subjectContact,
	}
	organizations := map[string]bool{"educationOrganizationId": true}
	if s := c.spaces[educationOrganization]; s != nil {
		for _, t := range s.tables {
			organizations[t.key[0].name] = true
		}
	}
	for _, t := range c.tables {
		if t.res.Descriptor {
			t.namespace = keyPath(t, "namespace")
			continue
		}
		for i := range t.key {
			k := &t.key[i]
			kind := people[k.name]
			if organizations[k.name] {
				kind = subjectOrganization
			}
			if kind != 0 {
				t.subjects = append(t.subjects, subject{kind, upperFirst(k.name), k.path})
			}
		}
		if !slices.ContainsFunc(t.subjects, func(s subject) bool { return s.kind == subjectOrganization }) {
			t.subjects = append(t.subjects, t.otherOrganization()...)
		}
		if t.namespace = keyPath(t, "namespace"); t.namespace == nil {
			if p, err := t.shape.path("namespace"); err == nil {
				t.namespace = &p
			}
		}
		slices.SortFunc(t.subjects, func(a, b subject) int { return cmp.Compare(a.name, b.name) })
	}
}

func keyPath(t *table, name string) *path {
	for i := range t.key {
		if t.key[i].name == name {
			return &t.key[i].path
		}
	}
	return nil
}

// otherOrganization is the subject of a table whose key names no organization without a role: the one it must refer to beside the key, else,
// for a table that names nobody at all, those of its key that have a role.
func (t *table) otherOrganization() []subject {
	var required []subject
	for i := range t.shape.props {
		p := &t.shape.props[i]
		if p.Kind != schema.Reference || !p.Required || p.ref.space.name != educationOrganization {
			continue
		}
		at, err := t.shape.path(p.Name + "." + p.shape.props[p.ref.leaves[0]].Name)
		inKey := slices.ContainsFunc(t.key, func(k keyPart) bool { return slices.Equal(k.path.steps, at.steps) })
		if err == nil && !inKey {
			required = append(required, subject{subjectOrganization, upperFirst(at.last.Name), at})
		}
	}
	if len(required) == 1 {
		return required
	}
	if len(t.subjects) > 0 {
		return nil
	}
	var roled []subject
	for i := range t.key {
		if k := &t.key[i]; strings.HasSuffix(k.name, "EducationOrganizationId") {
			roled = append(roled, subject{subjectOrganization, upperFirst(k.name), k.path})
		}
	}
	return roled
}

// values gives a subject's value, encoded as a key; empty when it is absent.
type values func(dst []byte, at *path, kind schema.Kind) []byte

// recordValues are those of a stored record, draftValues those of a payload.
func (st *store) recordValues(t *table, rec []byte) values {
	return func(dst []byte, at *path, _ schema.Kind) []byte {
		return st.appendStored(dst, t.shape, rec, at, st.personFolding())
	}
}

func (st *store) draftValues(d *draft, t *table, root int32) values {
	return func(dst []byte, at *path, _ schema.Kind) []byte {
		p, s := d.scalarAt(t.shape, root, at.steps)
		if s == nil {
			return dst
		}
		return d.appendKeyValue(dst, p, s, st.personFolding())
	}
}

// personFolding is how keys of people and organizations are compared.
func (st *store) personFolding() folding {
	if st.fold {
		return ignoreTails
	}
	return exact
}

// claimed refuses a request whose method the caller's claim set does not allow on a table, whatever the record. POST may create or update.
func (c *caller) claimed(t *table, method string) *httpd.Problem {
	if !c.restricted() {
		return nil
	}
	var a Action
	switch method {
	case http.MethodGet:
		a = Read
	case http.MethodPost:
		if a = Create; c.rule(t, Create) == nil && c.rule(t, Update) != nil {
			a = Update
		}
	case http.MethodPut:
		a = Update
	case http.MethodDelete:
		a = Delete
	default:
		return nil
	}
	if f := c.allowed(t, a); f != nil {
		return f.problem("")
	}
	return nil
}

// allowed refuses an action the caller's claim set does not have.
func (c *caller) allowed(t *table, a Action) *refusal {
	switch {
	case !c.restricted() || c.rule(t, a) != nil:
		return nil
	case !c.rights[t.number].claimed:
		return denied(denial{kind: deniedResource, by: c, action: a, table: t})
	}
	return denied(denial{kind: deniedAction, by: c, action: a, table: t})
}

func denied(d denial) *refusal {
	return &refusal{kind: refusedDenied, name: d.table.res.Name, denial: &d}
}

// authorizeWrite authorizes a resolved payload: creating it, or updating the record it is for (d.at, else the one with its key) and that
// with the payload's values. The caller holds world.
func (st *store) authorizeWrite(d *draft, t *table, root int32) *refusal {
	at := d.at
	if at.table == nil {
		st.makeKey(d, t, root)
		t.space.mu.RLock()
		entry, ok := t.space.index[d.hash]
		t.space.mu.RUnlock()
		if a := t.space.address(entry); ok && a.table == t {
			at = a
		}
	}
	d.as = Create
	if at.table != nil {
		d.as = Update
		if d.at.table == nil { // of a PUT the record itself is authorized already
			if f := st.authorizeRecord(d.by, at, Update); f != nil {
				return f
			}
		}
	}
	if f := d.by.allowed(t, d.as); f != nil {
		return f
	}
	return st.authorize(d.by, t, d.as, st.draftValues(d, t, root), false)
}

// authorizeRecord authorizes an action on a record there is. One that is gone is for others to miss. The caller holds world.
func (st *store) authorizeRecord(by *caller, a address, action Action) *refusal {
	if !by.restricted() {
		return nil
	}
	if f := by.allowed(a.table, action); f != nil {
		return f
	}
	if by.rule(a.table, action).open() {
		return nil
	}
	var buf [512]byte
	rec, ok := st.copyRecord(buf[:0], a)
	if !ok {
		return nil
	}
	return st.authorize(by, a.table, action, st.recordValues(a.table, rec), true)
}

// authorize applies the strategies of an allowed action to a record's values.
func (st *store) authorize(by *caller, t *table, action Action, v values, existing bool) *refusal {
	r := by.rule(t, action)
	no := denial{by: by, action: action, table: t, rule: r, existing: existing}
	if r.namespace {
		if no.kind = st.namespaceDenied(by, t, v); no.kind != 0 {
			return denied(no)
		}
	}
	if len(r.relationships) == 0 {
		return nil
	}
	missing := ""
	for _, s := range r.relationships {
		ok, lacks := st.related(by, t, s, v)
		if ok {
			return nil
		}
		missing = cmp.Or(missing, lacks)
	}
	no.kind, no.subject = deniedRelationship, missing
	if missing != "" {
		no.kind = deniedElement
	}
	return denied(no)
}

func (st *store) namespaceDenied(by *caller, t *table, v values) denialKind {
	if len(by.NamespacePrefixes) == 0 {
		return deniedNoNamespaces
	}
	if t.namespace == nil {
		return 0
	}
	var buf [256]byte
	encoded := v(buf[:0], t.namespace, schema.String)
	if len(encoded) == 0 {
		return deniedNamespaceMissing
	}
	c := cursor{encoded}
	text := string(c.text())
	for _, prefix := range by.NamespacePrefixes {
		if len(text) >= len(prefix) && strings.EqualFold(text[:len(prefix)], prefix) {
			return 0
		}
	}
	return deniedNamespace
}

// related says whether a relationship strategy holds: every subject it looks at must be the caller's. missing names one that has no value.
func (st *store) related(by *caller, t *table, s Strategy, v values) (ok bool, missing string) {
	var buf [128]byte
	for i := range t.subjects {
		sub := &t.subjects[i]
		if !s.looksAt(sub.kind) {
			continue
		}
		key := v(buf[:0], &sub.path, sub.path.last.Kind)
		switch {
		case len(key) == 0:
			return false, sub.name
		case !st.owns(by, s, sub.kind, key):
			return false, ""
		}
	}
	return true, ""
}

func (s Strategy) looksAt(k subjectKind) bool {
	switch s {
	case RelationshipsWithEdOrgsOnly:
		return k == subjectOrganization
	case RelationshipsWithStudentsOnly, RelationshipsWithStudentsOnlyThroughResponsibility:
		return k == subjectStudent
	}
	return true
}

// owns says whether the caller has a relationship with a subject, given its encoded key.
func (st *store) owns(by *caller, s Strategy, kind subjectKind, key []byte) bool {
	if kind == subjectOrganization {
		entry, ok := st.lookUp(st.cat.spaces[educationOrganization], key)
		return ok && (st.within(by, entry) || s == RelationshipsWithEdOrgsAndPeopleInverted && st.above(by, entry))
	}
	table := st.cat.byName[kind.entity()]
	if table == nil {
		table = st.cat.byName["Parent"]
	}
	if table == nil {
		return false
	}
	entry, ok := st.lookUp(table.space, key)
	if !ok {
		return false
	}
	person := entry >> kindBits
	mine := func(organization uint32) bool { return st.within(by, organization) }
	switch kind {
	case subjectStaff:
		return st.ties.employed.any(person, mine)
	case subjectContact:
		return st.ties.contacts.any(person, func(student uint32) bool { return st.ties.enrolled.any(student>>kindBits, mine) })
	}
	if s == RelationshipsWithStudentsOnlyThroughResponsibility {
		return st.ties.responsible.any(person, mine)
	}
	return st.ties.enrolled.any(person, mine)
}

// entity is the entity of a person's kind; data standard 4.0 has Parent for Contact.
func (k subjectKind) entity() string {
	switch k {
	case subjectStudent:
		return "Student"
	case subjectStaff:
		return "Staff"
	}
	return "Contact"
}

// mayRead says whether a record is among those the caller's reads show; a collection leaves out the others without a word. The caller
// holds world.
func (st *store) mayRead(by *caller, a address, rec []byte) bool {
	if !by.restricted() {
		return true
	}
	r := by.rule(a.table, Read)
	return r != nil && (r.open() || st.authorize(by, a.table, Read, st.recordValues(a.table, rec), true) == nil)
}
