package schema

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// mostProblems bounds what a hostile payload can make of itself. No mapping produces as many in one record.
const mostProblems = 1000

// Validate returns every problem of a payload (the first thousand), sorted by path and code, and none for a payload that a target has no reason of form to
// refuse. The rules are those of the ODS/API (7.x), except that it takes unknown properties and convertible texts without a word, and a
// caller who wants the same ignores CodeUnknownProperty and CodeLooseType. Descriptor values are checked for their form; whether they
// exist is the target's to say. id, _etag, _lastModifiedDate and link are no part of a payload and unknown here, as are names that
// differ in case.
func (r *Resource) Validate(payload []byte) []Problem {
	p := r.planned()
	v, ok := p.idleValidators.Get().(*validator)
	if !ok {
		v = newValidator(p)
	}
	problems := v.check(payload)
	v.problems = nil
	if v.reusable() {
		p.idleValidators.Put(v)
	}
	return problems
}

func (v *validator) check(payload []byte) []Problem {
	top, err := v.parse(payload)
	if err != nil {
		return []Problem{{Code: CodeMalformed, Path: "$", Message: "The payload is not JSON: " + err.Error() + "."}}
	}
	v.top = top
	v.report, v.sound = false, true
	v.checkPayload()
	if v.sound {
		return nil
	}
	v.report = true
	v.checkPayload()
	sortProblems(v.problems)
	return v.problems
}

// validator walks a document. It first only looks whether there is a problem at all, without allocating, and where there is one walks
// again to report.
type validator struct {
	canonicaliser
	plan     *plan
	report   bool
	sound    bool // no problem so far
	problems []Problem
	trail    []step // how the walk came here
	unified  []unifiedValue
}

// step is one member name or item index of a path.
type step struct {
	name  []byte
	index int // of an item, when name is nil
}

// unifiedValue is the first value met of a unification group.
type unifiedValue struct {
	text    []byte
	seen    bool
	differs bool
}

func newValidator(p *plan) *validator {
	return &validator{plan: p, sound: true, unified: make([]unifiedValue, len(p.groups))}
}

func (v *validator) checkPayload() {
	if !v.report {
		clear(v.unified)
	}
	if v.nodes[v.top].kind != objectToken {
		v.add(v.plan.root, Problem{Code: CodeWrongType, Message: "The payload is not a JSON object."})
		return
	}
	v.checkObject(v.plan.root, v.top)
}

// checkObject checks the members of an object or item, those that are not there too.
func (v *validator) checkObject(e *element, n int32) { v.checkMembers(e, n, true) }

// checkMembers walks an object's members and the model's in step, both in the order of their names. Absent and null ones are checked
// only in an object that counts as there.
func (v *validator) checkMembers(e *element, n int32, there bool) {
	from, kids := len(v.gathered), e.kids
	for m := v.nodes[n].first; m != 0; m = v.nodes[m].next {
		v.gathered = append(v.gathered, m)
	}
	v.sortByName(v.gathered[from:])
	for i := from; i < len(v.gathered); i++ {
		m := v.gathered[i]
		name := v.nodes[m].name
		twice := i+1 < len(v.gathered) && bytes.Equal(name, v.nodes[v.gathered[i+1]].name)
		for len(kids) > 0 && kids[0].Name < string(name) {
			v.checkAbsent(kids[0], there)
			kids = kids[1:]
		}
		var kid *element
		if len(kids) > 0 && kids[0].Name == string(name) {
			if kid = kids[0]; !twice {
				kids = kids[1:]
			}
		}
		v.trail = append(v.trail, step{name: name})
		switch {
		case twice:
			v.add(nil, Problem{Code: CodeDuplicateKey, Message: "The object has this member more than once."})
		case kid == nil:
			v.reportUnknown(e)
		case v.nodes[m].kind != nullToken:
			v.checkValue(kid, m)
		case there:
			v.absentHere(kid)
		}
		v.trail = v.trail[:len(v.trail)-1]
	}
	for _, kid := range kids {
		v.checkAbsent(kid, there)
	}
	v.gathered = v.gathered[:from]
}

func (v *validator) reportUnknown(owner *element) {
	if v.report {
		v.add(nil, Problem{Code: CodeUnknownProperty, Message: "The model has no such property.", Owner: owner.Fields.Name})
	}
	v.sound = false
}

// checkAbsent checks a member that is not there.
func (v *validator) checkAbsent(e *element, there bool) {
	if !there || !e.Required && e.MinItems == 0 {
		return
	}
	v.trail = append(v.trail, step{name: e.prefix[1 : len(e.prefix)-2]})
	v.absentHere(e)
	v.trail = v.trail[:len(v.trail)-1]
}

func (v *validator) absentHere(e *element) {
	if !e.Required && e.MinItems == 0 || v.hasInherited(e) {
		return
	}
	if e.Kind == Collection {
		v.add(e, Problem{Code: CodeTooFewItems, Message: e.Name + " must have at least one item."})
		return
	}
	v.add(e, Problem{Code: CodeRequired, Message: e.Name + " is required."})
}

// hasInherited says whether the value that an absent one is taken from is there.
func (v *validator) hasInherited(e *element) bool {
	if v.part != nil {
		return false // not known here: let the walk over the whole payload decide
	}
	for _, from := range e.inherits {
		if n := v.find(v.top, from); n != 0 && v.nodes[n].kind != nullToken {
			return true
		}
	}
	return false
}

func (v *validator) checkValue(e *element, n int32) {
	kind := v.nodes[n].kind
	switch e.Kind {
	case Object:
		if kind == objectToken {
			v.checkInline(e, n)
			return
		}
	case Reference:
		if kind == objectToken {
			v.checkReference(e, n)
			return
		}
	case Collection:
		if kind == arrayToken {
			v.checkItems(e, n)
			return
		}
	default:
		if kind < objectToken {
			v.checkScalar(e, n)
			return
		}
	}
	v.add(e, Problem{Code: CodeWrongType, Message: e.Name + " is not " + jsonType(e.Kind) + "."})
}

func jsonType(k Kind) string {
	switch k {
	case Collection:
		return "an array"
	case Object, Reference:
		return "an object"
	case Boolean:
		return "true or false"
	case Integer, Long, Decimal:
		return "a number"
	}
	return "a string"
}

// checkInline checks an object that a payload may also leave out: empty is the same as absent.
func (v *validator) checkInline(e *element, n int32) {
	there := !v.empty(n)
	if !there {
		v.absentHere(e)
	}
	v.checkMembers(e, n, there)
}

func (v *validator) empty(n int32) bool {
	for m := v.nodes[n].first; m != 0; m = v.nodes[m].next {
		if v.nodes[m].kind != nullToken {
			return false
		}
	}
	return true
}

func (v *validator) checkReference(e *element, n int32) {
	v.checkMembers(e, n, false) // what is missing is reported of the reference
	if v.empty(n) {
		v.absentHere(e)
		return
	}
	var missing []string
	for _, leaf := range e.kids {
		if !leaf.Required && !leaf.isPart() {
			continue
		}
		m := v.child(n, leaf.Name)
		if m != 0 && v.nodes[m].kind != nullToken || v.hasInherited(leaf) {
			continue
		}
		v.sound = false
		missing = append(missing, leaf.Name)
	}
	if len(missing) > 0 {
		v.add(e, Problem{
			Code: CodeIncomplete, Missing: missing,
			Message: e.Name + " is missing " + strings.Join(missing, ", ") + ".",
		})
	}
}

// isPart says whether a leaf of a reference carries a part of the target's key.
func (e *element) isPart() bool {
	for i := range e.parent.Parts {
		if e.parent.Parts[i].Leaf == e.Name {
			return true
		}
	}
	return false
}

func (v *validator) checkItems(e *element, n int32) {
	index, count := 0, 0
	for m := v.nodes[n].first; m != 0; m = v.nodes[m].next {
		v.trail = append(v.trail, step{index: index})
		switch {
		case v.nodes[m].kind == objectToken:
			v.checkObject(e, m)
		case v.nodes[m].kind != nullToken:
			v.add(e, Problem{Code: CodeWrongType, Message: "An item of " + e.Name + " is not an object."})
		}
		if v.nodes[m].kind != nullToken {
			count++
		}
		v.trail = v.trail[:len(v.trail)-1]
		index++
	}
	if count == 0 {
		v.absentHere(e)
	}
	if count > 1 {
		v.checkDuplicates(e, n)
	}
}

// checkDuplicates reports items whose key an earlier item has.
func (v *validator) checkDuplicates(e *element, n int32) {
	from, spareFrom := len(v.items), len(v.spare)
	index := 0
	for m := v.nodes[n].first; m != 0; m = v.nodes[m].next {
		if v.nodes[m].kind == objectToken {
			it := item{out: span{from: index}, key: span{from: len(v.spare)}}
			v.spare = v.appendKeyOrWhole(v.spare, e, m)
			it.key.to = len(v.spare)
			v.items = append(v.items, it)
		}
		index++
	}
	items := v.items[from:]
	slices.SortFunc(items, func(a, b item) int {
		if o := bytes.Compare(a.key.of(v.spare), b.key.of(v.spare)); o != 0 {
			return o
		}
		return a.out.from - b.out.from
	})
	for i := 1; i < len(items); i++ {
		if !bytes.Equal(items[i-1].key.of(v.spare), items[i].key.of(v.spare)) {
			continue
		}
		v.sound = false
		if !v.report {
			break
		}
		v.trail = append(v.trail, step{index: items[i].out.from})
		v.add(e, Problem{
			Code: CodeDuplicateItem, Index: items[i].out.from,
			Message: fmt.Sprintf("Item %d of %s has the identifying values of an earlier item.", items[i].out.from+1, e.Name),
		})
		v.trail = v.trail[:len(v.trail)-1]
	}
	v.items, v.spare = v.items[:from], v.spare[:spareFrom]
}

func (v *validator) appendKeyOrWhole(dst []byte, e *element, n int32) []byte {
	if len(e.itemKey) > 0 {
		return v.appendItemKey(dst, e, n)
	}
	from := len(v.out)
	v.object(e, n)
	dst = append(dst, v.out[from:]...)
	v.out = v.out[:from]
	return dst
}

// add records a problem where the walk is.
func (v *validator) add(e *element, p Problem) {
	v.sound = false
	if !v.report || len(v.problems) == mostProblems {
		return
	}
	p.Path = v.path()
	if e != nil {
		p.Property, p.Owner = e.Property, e.owner
	}
	v.problems = append(v.problems, p)
}

// path renders where the walk is. A name that is no identifier is quoted, and cut: names of unknown members are the client's.
func (v *validator) path() string {
	path := []byte{'$'}
	for _, s := range v.trail {
		switch {
		case s.name == nil:
			path = strconv.AppendInt(append(path, '['), int64(s.index), 10)
			path = append(path, ']')
		case isIdentifier(s.name):
			path = append(append(path, '.'), s.name...)
		default:
			path = strconv.AppendQuoteToASCII(append(path, '['), string(s.name[:min(len(s.name), 64)]))
			path = append(path, ']')
		}
	}
	return string(path)
}

func isIdentifier(name []byte) bool {
	for i, c := range name {
		if c != '_' && c|0x20-'a' > 25 && (i == 0 || c-'0' > 9) {
			return false
		}
	}
	return len(name) > 0 && len(name) <= 256
}
