package schema

import "slices"

// frame is an object that is being written.
type frame struct {
	wire, wireEmpty int // length of the wire form before it, and before its first member
	body, bodyEmpty int
	missing         bool // a required member is absent
}

// largestKept bounds the buffers an Encoded keeps from one row to the next, so that one 10 MB value does not stay in memory (I21).
const largestKept = 1 << 20

// Encode writes a row's payload in all its forms. row[i] is the text of column i, nil for NULL; an empty text is the same as NULL.
//
// A row that is valid and has no unusual text takes one pass that checks while it writes. For any other row the payload is written
// first, with what cannot be read left as it is, and then checked and compared like any payload.
func (t *Template) Encode(row [][]byte, out *Encoded) {
	out.reset(t)
	if !t.fast(row, out) {
		t.slow(row, out)
	}
}

func (out *Encoded) reset(t *Template) {
	if cap(out.Wire)+cap(out.Body)+cap(out.buf) > largestKept || out.json != nil && out.json.size() > largestKept {
		*out = Encoded{}
	}
	if out.template != t {
		out.template, out.json, out.uris = t, newValidator(t.plan), make([]map[string]*mappedURI, len(t.ops))
	}
	out.Wire, out.Key, out.Body, out.Problems = out.Wire[:0], out.Key[:0], out.Body[:0], out.Problems[:0]
	out.buf, out.frames = out.buf[:0], out.frames[:0]
	out.parts = slices.Grow(out.parts[:0], len(t.plan.keys))[:len(t.plan.keys)]
	clear(out.parts)
	clear(out.json.unified)
}

// fast writes a valid row. It returns false as soon as it meets something that needs a closer look. Each member is written with a comma
// after it; the end of the object takes the last one back.
func (t *Template) fast(row [][]byte, out *Encoded) bool {
	out.Wire, out.Body = append(out.Wire, '{'), append(out.Body, '{')
	here := frame{wireEmpty: 1, bodyEmpty: 1}
	for i := range t.ops {
		o := &t.ops[i]
		switch o.code {
		case openOp:
			out.frames = append(out.frames, here)
			here = out.open(o)
		case closeOp:
			outer := out.frames[len(out.frames)-1]
			out.frames = out.frames[:len(out.frames)-1]
			wrote := out.close(o, here)
			if wrote && here.missing {
				return false
			}
			outer.missing = outer.missing || o.needed && !wrote
			here = outer
		default:
			if len(row[o.column]) == 0 {
				here.missing = here.missing || o.needed
				continue
			}
			if o.code == leafOp {
				if !out.leaf(o, row[o.column]) {
					return false
				}
				continue
			}
			absent, ok := t.json(o, row, out)
			if !ok {
				return false
			}
			here.missing = here.missing || absent && o.needed
		}
	}
	if out.Body, _ = closeObject(out.Body, 0, 1); len(out.Body) == 0 {
		out.Body = append(out.Body, "{}"...)
	}
	var wrote bool
	out.Wire, wrote = closeObject(out.Wire, 0, 1)
	return wrote && !here.missing && out.assembleKey()
}

func (out *Encoded) open(o *op) frame {
	f := frame{wire: len(out.Wire), body: len(out.Body)}
	out.Wire = append(append(out.Wire, o.prefix...), '{')
	if o.inBody {
		out.Body = append(append(out.Body, o.prefix...), '{')
	}
	f.wireEmpty, f.bodyEmpty = len(out.Wire), len(out.Body)
	return f
}

// close ends an object, or takes it back when nothing was written into it.
func (out *Encoded) close(o *op, f frame) (wrote bool) {
	if out.Wire, wrote = closeObject(out.Wire, f.wire, f.wireEmpty); wrote {
		out.Wire = append(out.Wire, ',')
	}
	switch {
	case !o.inBody:
	case len(out.Body) > f.bodyEmpty:
		out.Body[len(out.Body)-1] = '}'
		out.Body = append(out.Body, ',')
	case wrote && o.marksPresence():
		out.Body = append(out.Body, '}', ',')
	default:
		out.Body = out.Body[:f.body]
	}
	return wrote
}

// leaf writes a scalar column as a member of both forms, and as a part of the key.
func (out *Encoded) leaf(o *op, text []byte) bool {
	start := len(out.Wire)
	canonical, ok := out.value(o, text)
	if !ok {
		return false
	}
	switch {
	case !o.inBody:
	case canonical == nil:
		out.Body = append(out.Body, out.Wire[start:]...)
	default:
		out.Body = append(append(append(out.Body, o.prefix...), canonical...), ',')
	}
	if o.part >= 0 {
		if canonical == nil {
			canonical = out.Wire[start+len(o.prefix) : len(out.Wire)-1]
		}
		out.parts[o.part] = canonical
	}
	return true
}

// assembleKey writes the key from its parts.
func (out *Encoded) assembleKey() bool {
	out.Key = append(out.Key, '[')
	for i, part := range out.parts {
		if part == nil {
			return false
		}
		if i > 0 {
			out.Key = append(out.Key, ',')
		}
		out.Key = append(out.Key, part...)
	}
	out.Key = append(out.Key, ']')
	return true
}

// json writes a column's JSON as a member of both forms. absent says that there is nothing in it.
func (t *Template) json(o *op, row [][]byte, out *Encoded) (absent, ok bool) {
	v := out.json
	top, ok := t.readJSON(o, row, v, false)
	if !ok || o.careful {
		return false, false
	}
	if v.nodes[top].kind == nullToken {
		return true, true
	}
	v.report, v.sound = false, true
	v.checkValue(o.element, top)
	if !v.sound {
		return false, false
	}
	wire, body := len(out.Wire), len(out.Body)
	out.Wire, out.Body = append(out.Wire, o.prefix...), append(out.Body, o.prefix...)
	w, b, wrote, present := t.canonical(o, top, v, out.Wire, out.Body)
	if present {
		out.Wire = append(w, ',')
	} else {
		out.Wire = w[:wire]
	}
	if wrote {
		out.Body = append(b, ',')
	} else {
		out.Body = b[:body]
	}
	return !present, true
}
