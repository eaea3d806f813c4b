package schema

import (
	"slices"
)

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
	if cap(out.Wire)+cap(out.Body)+cap(out.buf) > largestKept {
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

// fast writes a valid row. It returns false as soon as it meets something that needs a closer look.
func (t *Template) fast(row [][]byte, out *Encoded) bool {
	w, b := append(out.Wire, '{'), append(out.Body, '{')
	here := frame{wireEmpty: 1, bodyEmpty: 1}
	for i := range t.ops {
		o := &t.ops[i]
		switch o.code {
		case openOp:
			out.frames = append(out.frames, here)
			here = frame{wire: len(w), body: len(b)}
			w = append(append(w, o.prefix...), '{')
			here.wireEmpty = len(w)
			if o.inBody {
				b = append(append(b, o.prefix...), '{')
			}
			here.bodyEmpty = len(b)
		case closeOp:
			outer := out.frames[len(out.frames)-1]
			out.frames = out.frames[:len(out.frames)-1]
			var wrote bool
			if w, wrote = closeObject(w, here.wire, here.wireEmpty); wrote {
				w = append(w, ',')
				if here.missing {
					return false
				}
			} else {
				outer.missing = outer.missing || o.needed
			}
			switch {
			case !o.inBody:
			case len(b) > here.bodyEmpty:
				b[len(b)-1] = '}'
				b = append(b, ',')
			case wrote && o.marksPresence():
				b = append(b, '}', ',')
			default:
				b = b[:here.body]
			}
			here = outer
		case leafOp:
			text := row[o.column]
			if len(text) == 0 {
				here.missing = here.missing || o.needed
				continue
			}
			start := len(w)
			var canonical []byte
			var ok bool
			if w, canonical, ok = o.leaf(w, text, out); !ok {
				out.Wire, out.Body = w, b
				return false
			}
			switch {
			case !o.inBody:
			case canonical == nil:
				b = append(b, w[start:]...)
			default:
				b = append(append(append(b, o.prefix...), canonical...), ',')
			}
			if o.part >= 0 {
				if canonical == nil {
					canonical = w[start+len(o.prefix) : len(w)-1]
				}
				out.parts[o.part] = canonical
			}
		case jsonOp:
			text := row[o.column]
			absent := len(text) == 0
			if !absent {
				var ok bool
				if w, b, absent, ok = t.json(o, w, b, row, out); !ok {
					out.Wire, out.Body = w, b
					return false
				}
			}
			here.missing = here.missing || absent && o.needed
		}
	}
	w, _ = closeObject(w, 0, 1)
	if b, _ = closeObject(b, 0, 1); len(b) == 0 {
		b = append(b, "{}"...)
	}
	out.Wire, out.Body = w, b
	if here.missing || len(w) == 0 {
		return false
	}
	return out.assembleKey()
}

// assembleKey writes the key from its parts.
func (out *Encoded) assembleKey() bool {
	key := append(out.Key, '[')
	for _, part := range out.parts {
		if part == nil {
			return false
		}
		key = append(append(key, part...), ',')
	}
	if len(out.parts) == 0 {
		key = append(key, ',')
	}
	key[len(key)-1] = ']'
	out.Key = key
	return true
}

// json writes a column's JSON. absent says that there is nothing in it.
func (t *Template) json(o *op, w, b []byte, row [][]byte, out *Encoded) (_, _ []byte, absent, ok bool) {
	v := out.json
	top, ok := t.readJSON(o, row, v)
	if !ok || o.careful {
		return w, b, false, false
	}
	if v.nodes[top].kind == nullToken {
		return w, b, true, true
	}
	v.report, v.sound = false, true
	v.value(o.element, top)
	if !v.sound {
		return w, b, false, false
	}
	wire, body := len(w), len(b)
	w, b, wrote, present := t.canonical(o, top, v, append(w, o.prefix...), append(b, o.prefix...))
	if !present {
		return w[:wire], b[:body], true, true
	}
	w = append(w, ',')
	if wrote {
		return w, append(b, ','), false, true
	}
	return w, b[:body], false, true
}
