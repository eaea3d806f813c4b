package schema

import (
	"fmt"
	"slices"
	"strings"
)

// Column is one column of a mapping query.
type Column struct {
	Name string // as the database reports it
	Path string // dotted path of the model, "schoolReference.schoolId", "addresses[]"; "" for a column that is no part of the payload ("_key")
}

// DescriptorMaps translate local codes: by descriptor name ("GradeLevelDescriptor"), local code to URI. A value that already is a URI
// needs no entry.
type DescriptorMaps map[string]map[string]string

// ColumnProblem is a reason why a query cannot be compiled.
type ColumnProblem struct {
	Column  string // name of the column; "" when one is missing
	Message string
	Nearest string // the path that was probably meant, or ""
}

// Encoded is one row's payload. Its buffers are reused by the next Encode; the zero value is ready for use. It is not for concurrent
// use.
type Encoded struct {
	Wire     []byte    // the payload as it is sent
	Key      []byte    // canonical natural key, as CanonicalKey(Wire); empty when a part is missing or unreadable
	Body     []byte    // canonical body, as CanonicalBody(Wire)
	Problems []Problem // what Validate(Wire) finds; a payload that has any must not be sent, and Wire is for showing only

	frames []frame
	parts  [][]byte // canonical values of the key's parts
	buf    []byte

	// Of the template of the row before:
	template *Template
	json     *validator
	uris     []map[string]*mappedURI // by op, the URIs that came as URIs so far
}

// Template turns rows of one query into payloads. It is read-only and safe for concurrent use.
type Template struct {
	model    *Model
	resource *Resource
	plan     *plan
	rules    Rules
	ops      []op
	uris     map[string]map[string][]byte // by descriptor name, then local code
	refs     []flatReference
	columns  map[*element]int // column of each leaf that is one

	jsonReferences bool // a column of JSON may hold references
}

// op is one step of writing a payload. What the hot path reads of the element is copied into it.
type op struct {
	*element
	code        opcode
	kind        Kind
	needed      bool // without it the object it is in is not complete
	inBody      bool // (part of) the value is in the body
	fold        bool // key string compared without case
	noBlankEnds bool
	careful     bool // JSON with values inherited from other JSON: fast cannot tell whether they are there
	index       int  // of this op
	column      int
	part        int // index of the key part this value is, -1 = none
	minLength   int
	maxLength   int
	least, most int64
	opening     []byte // `"name":"`
	uris        map[string]*mappedURI
	rules       Rules
}

func (t *Template) newOp(e *element, code opcode, column int) op {
	o := op{
		element: e, code: code, kind: e.Kind, index: len(t.ops), column: column, part: -1, rules: t.rules,
		needed:      e.Required || e.MinItems > 0 || e.parent.Kind == Reference,
		inBody:      !e.stripped,
		fold:        t.rules.FoldKeys && e.foldable,
		noBlankEnds: e.trimmed || e.Required || e.Identity,
		minLength:   e.MinLength,
		maxLength:   e.MaxLength,
		opening:     append(slices.Clone(e.prefix), '"'),
	}
	o.least, o.most = e.limits()
	if e.Kind == Descriptor {
		o.uris = make(map[string]*mappedURI, len(t.uris[e.Target]))
		for code, uri := range t.uris[e.Target] {
			o.uris[code] = o.mapped(uri)
		}
	}
	return o
}

func (o *op) mapped(uri []byte) *mappedURI {
	member := append(appendQuoted(slices.Clone(o.prefix), uri), ',')
	return &mappedURI{uri: uri, member: member, canonical: appendFolded(nil, uri, false)}
}

type opcode uint8

const (
	openOp  opcode = iota + 1 // an object or reference begins
	closeOp                   // and ends
	leafOp                    // a scalar column
	jsonOp                    // a column holding the JSON of an object or collection
)

// flatReference is a reference whose leaves are columns.
type flatReference struct {
	*element
	leaves []int // index into ops, in the order of the target's key
}

// Compile binds the columns of a query to a resource. It returns every problem at once, and no template when there is one: unknown
// paths, paths given twice, references that can never be complete, required elements without a column, descriptor maps with values that
// are no URIs. maps and cols may be changed afterwards.
func (m *Model) Compile(r *Resource, cols []Column, maps DescriptorMaps, rules Rules) (*Template, []ColumnProblem) {
	b := &binder{model: m, resource: r, plan: r.planned(), cols: cols, columnOf: make(map[*element]int)}
	b.bind()
	b.lacking(b.plan.root)
	t := &Template{model: m, resource: r, plan: b.plan, rules: rules, uris: make(map[string]map[string][]byte)}
	for name, codes := range maps {
		t.uris[name] = b.mapped(name, codes)
	}
	if len(b.problems) > 0 {
		return nil, b.problems
	}
	t.columns = b.columnOf
	t.build(b, b.plan.root)
	t.findKey()
	t.findReferences(b)
	return t, nil
}

// Sends reports whether a column gives the element at a dotted path, something in it, or the whole it is in. Safe for concurrent use.
func (t *Template) Sends(path string) bool {
	for e := range t.columns {
		if e.path == path || strings.HasPrefix(e.path, path+".") || strings.HasPrefix(path, e.path+".") {
			return true
		}
	}
	return false
}

// binder finds the element of each column.
type binder struct {
	model    *Model
	resource *Resource
	plan     *plan
	cols     []Column
	columnOf map[*element]int
	problems []ColumnProblem
}

func (b *binder) problem(column, nearest, format string, args ...any) {
	b.problems = append(b.problems, ColumnProblem{Column: column, Message: fmt.Sprintf(format, args...), Nearest: nearest})
}

func (b *binder) bind() {
	for i, col := range b.cols {
		if col.Path == "" {
			continue
		}
		path, array := strings.CutSuffix(col.Path, "[]")
		e := b.plan.byPath[path]
		switch {
		case e == nil:
			b.problem(col.Name, b.model.Nearest(b.resource, path), "%s has no element %s", b.resource.Name, path)
		case e.collection() != nil:
			b.problem(col.Name, e.collection().path, "%s is in a collection: give the collection %s as one column of JSON", path, e.collection().path)
		case array && e.Kind != Collection:
			b.problem(col.Name, path, "%s is no collection", path)
		default:
			b.place(i, e)
		}
	}
}

func (b *binder) place(i int, e *element) {
	name := b.cols[i].Name
	if other, twice := b.columnOf[e]; twice {
		b.problem(name, "", "%s is given twice, by column %s too", e.path, b.cols[other].Name)
		return
	}
	b.columnOf[e] = i
	for up := e.parent; up != nil; up = up.parent {
		if other, twice := b.columnOf[up]; twice {
			b.problem(name, "", "%s is also given by column %s, which holds the JSON of all of %s", e.path, b.cols[other].Name, up.path)
		}
	}
	for other, j := range b.columnOf {
		if strings.HasPrefix(other.path, e.path+".") {
			b.problem(b.cols[j].Name, "", "%s is also given by column %s, which holds the JSON of all of %s", other.path, name, e.path)
		}
	}
}

// used says whether a column fills an element or something in it.
func (b *binder) used(e *element) bool {
	if _, ok := b.columnOf[e]; ok {
		return true
	}
	return e.Kind != Collection && slices.ContainsFunc(e.kids, b.used)
}

// lacking reports the required elements of an object without a column.
func (b *binder) lacking(e *element) {
	if _, ok := b.columnOf[e]; ok {
		return
	}
	for _, kid := range e.kids {
		required := kid.Required || kid.MinItems > 0 || e.Kind == Reference && kid.isPart()
		switch {
		case b.used(kid):
			b.lacking(kid)
		case !required:
		case kid.Kind == Reference || kid.Kind == Object:
			b.problem("", "", "%s is required, and no column gives %s", kid.path, strings.Join(kid.needed(), ", "))
		case e.Kind == Reference:
			b.problem("", "", "%s is incomplete: no column gives %s%s", e.path, kid.path, b.twin(kid))
		default:
			b.problem("", "", "%s is required, and no column gives it", kid.path)
		}
	}
}

// needed lists the leaves without which an object is not complete.
func (e *element) needed() []string {
	var paths []string
	for _, kid := range e.kids {
		if !kid.Required && kid.MinItems == 0 && !(e.Kind == Reference && kid.isPart()) {
			continue
		}
		if below := kid.needed(); kid.Kind != Collection && len(below) > 0 {
			paths = append(paths, below...)
		} else {
			paths = append(paths, kid.path)
		}
	}
	return paths
}

// twin names a column that key unification forces to have the same value. It is not taken silently: a mapping says what it sends.
func (b *binder) twin(e *element) string {
	if e.group == 0 {
		return ""
	}
	for _, other := range b.plan.groups[e.group-1] {
		if i, ok := b.columnOf[other]; ok {
			return fmt.Sprintf(" (it must equal column %s)", b.cols[i].Name)
		}
	}
	return ""
}

func (b *binder) mapped(name string, codes map[string]string) map[string][]byte {
	uris := make(map[string][]byte, len(codes))
	for _, code := range sortedKeys(codes) {
		uri := []byte(codes[code])
		if wrong := checkDescriptor(uri, name); wrong != "" {
			b.problem("", "", "descriptor map %s: the value of code %q is not a URI of the form uri://organization/%s#code", name, code, name)
			continue
		}
		uris[code] = uri
	}
	return uris
}

func sortedKeys(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// build appends the steps that write an object's used members.
func (t *Template) build(b *binder, e *element) (inBody bool) {
	for _, kid := range e.kids {
		if !b.used(kid) {
			continue
		}
		column, direct := b.columnOf[kid]
		at := len(t.ops)
		switch {
		case direct && kid.isLeaf():
			t.ops = append(t.ops, t.newOp(kid, leafOp, column))
		case direct:
			t.ops = append(t.ops, t.newOp(kid, jsonOp, column))
			t.jsonReferences = t.jsonReferences || kid.hasReference()
			t.ops[at].careful = b.inheritsFromJSON(kid)
		default:
			t.ops = append(t.ops, t.newOp(kid, openOp, -1))
			t.ops[at].inBody = t.build(b, kid) || kid.marksPresence()
			t.ops = append(t.ops, t.newOp(kid, closeOp, -1))
			t.ops[len(t.ops)-1].inBody = t.ops[at].inBody
		}
		inBody = inBody || t.ops[at].inBody
	}
	return inBody
}

// inheritsFromJSON says whether something in e takes its value from an element that a column of JSON gives.
func (b *binder) inheritsFromJSON(e *element) bool {
	for _, from := range e.inherits {
		for up := from.parent; up != nil; up = up.parent {
			if _, ok := b.columnOf[up]; ok {
				return true
			}
		}
	}
	return slices.ContainsFunc(e.kids, b.inheritsFromJSON)
}

func (e *element) hasReference() bool {
	return e.Kind == Reference || slices.ContainsFunc(e.kids, (*element).hasReference)
}

// findKey binds each part of the key to the first of its paths that is a column.
func (t *Template) findKey() {
	for part, paths := range t.plan.keys {
		for _, e := range paths {
			if i := t.leafOp(e); i >= 0 {
				t.ops[i].part = part
				break
			}
		}
	}
}

func (t *Template) leafOp(e *element) int {
	return slices.IndexFunc(t.ops, func(o op) bool { return o.code == leafOp && o.element == e })
}

func (t *Template) findReferences(b *binder) {
	for i := range t.ops {
		e := t.ops[i].element
		if t.ops[i].code != openOp || e.Kind != Reference {
			continue
		}
		ref := flatReference{element: e}
		for _, leaf := range b.model.keyLeaves(e) {
			ref.leaves = append(ref.leaves, t.leafOp(leaf))
		}
		if len(ref.leaves) > 0 && !slices.Contains(ref.leaves, -1) {
			t.refs = append(t.refs, ref)
		}
	}
}
