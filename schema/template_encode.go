package schema

import (
	"bytes"
	"slices"
	"unicode/utf8"
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
	if out.json == nil || out.json.plan != t.plan {
		out.json = newValidator(t.plan)
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
				outer.missing = outer.missing || o.Required
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
				here.missing = here.missing || o.Required || o.parent.Kind == Reference
				continue
			}
			var ok bool
			if w, b, ok = o.leaf(w, b, text, out); !ok {
				out.Wire, out.Body = w, b
				return false
			}
		case jsonOp:
			text := row[o.column]
			absent := len(text) == 0
			if !absent {
				var ok bool
				if w, b, absent, ok = t.json(o, w, b, text, out); !ok {
					out.Wire, out.Body = w, b
					return false
				}
			}
			here.missing = here.missing || absent && (o.Required || o.MinItems > 0)
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

// leaf writes a scalar member, name, value and comma, in both forms.
func (o *op) leaf(w, b, text []byte, out *Encoded) (_, _ []byte, ok bool) {
	w = append(w, o.prefix...)
	var value, canonical []byte // canonical is the value's canonical form when it differs from the wire form
	start := len(w)
	switch o.Kind {
	case String:
		features := scan(text)
		if !o.acceptable(text, features) {
			return w, b, false
		}
		if features&special != 0 {
			w = appendQuoted(w, text)
		} else {
			w = append(append(append(w, '"'), text...), '"')
		}
		value = text
		if o.fold || features&beyondASCII != 0 {
			from := len(out.buf)
			out.buf = o.appendCanonical(out.buf, scalar{stringToken, text}, o.rules)
			canonical = out.buf[from:]
		}
	case Descriptor:
		if u := o.uris[string(text)]; u != nil {
			w = append(w, u.wire...)
			value, canonical = u.uri, u.canonical
			break
		}
		if checkDescriptor(text, o.Target) != "" || o.MaxLength > 0 && len(text) > o.MaxLength {
			return w, b, false
		}
		w = appendQuoted(w, text)
		value = text
		from := len(out.buf)
		out.buf = appendFolded(out.buf, text, false)
		canonical = out.buf[from:]
	case Boolean:
		truth, ok := readBoolean(text)
		switch {
		case !ok:
			return w, b, false
		case truth:
			w = append(w, "true"...)
		default:
			w = append(w, "false"...)
		}
		value = w[start:]
	case Integer, Long:
		if text, ok = o.integer(text, &out.buf); !ok {
			return w, b, false
		}
		w = append(w, text...)
		value = text
	case Decimal:
		if text, ok = normalNumber(text, &out.buf); !ok || o.fits(text) != "" {
			return w, b, false
		}
		w = append(w, text...)
		value = text
		from := len(out.buf)
		out.buf = o.appendScaled(out.buf, text)
		canonical = out.buf[from:]
	default:
		s, ok := o.normalise(scalar{columnToken, text}, &out.buf)
		if !ok {
			return w, b, false
		}
		w = append(append(append(w, '"'), s.text...), '"')
		value = s.text
	}
	if canonical == nil {
		canonical = w[start:]
	}
	if o.inBody {
		b = append(append(append(b, o.prefix...), canonical...), ',')
	}
	if o.part >= 0 {
		out.parts[o.part] = canonical
	}
	w = append(w, ',')
	return w, b, o.group == 0 || out.json.meets(o.element, value)
}

// meets notes a value of a unification group, and says whether it equals those before.
func (v *validator) meets(e *element, text []byte) bool {
	first := &v.unified[e.group-1]
	if !first.seen {
		first.seen, first.text = true, text
		return true
	}
	return bytes.Equal(first.text, text)
}

// What scan finds in a text.
const (
	special     = 1 << iota // characters that JSON escapes, or that may look like markup
	beyondASCII             // bytes above 0x7F
)

func scan(text []byte) (features int) {
	for _, c := range text {
		switch {
		case c >= 0x80:
			features |= beyondASCII
		case c < ' ' || c == '"' || c == '\\' || c == '<' || c == '&':
			features |= special
		}
	}
	return features
}

// acceptable says whether a string surely keeps all rules. It may refuse one that keeps them.
func (o *op) acceptable(text []byte, features int) bool {
	length := len(text)
	if features&beyondASCII != 0 {
		if !utf8.Valid(text) {
			return false
		}
		length = textLength(text)
	}
	if o.MaxLength > 0 && length > o.MaxLength || length < o.MinLength {
		return false
	}
	if features&special != 0 && (bytes.IndexByte(text, 0) >= 0 || isDangerous(text)) {
		return false
	}
	return !(o.trimmed || o.Required || o.Identity) || !hasBlankEnds(text)
}

// integer returns a whole number within its limits in normal form.
func (o *op) integer(text []byte, arena *[]byte) ([]byte, bool) {
	text, ok := normalNumber(text, arena)
	if !ok || len(text) > 20 || bytes.IndexByte(text, '.') >= 0 {
		return text, false
	}
	least, most := o.limits()
	n, ok := readInteger(text)
	return text, ok && n >= least && n <= most && (n != 0 || !o.Required)
}

// json writes a column's JSON. absent says that there is nothing in it.
func (t *Template) json(o *op, w, b, text []byte, out *Encoded) (_, _ []byte, absent, ok bool) {
	v := out.json
	top, ok := t.readJSON(o, text, v)
	if !ok {
		return w, b, false, false
	}
	if v.nodes[top].kind == nullToken {
		return w, b, true, true
	}
	v.part, v.report, v.sound = true, false, true
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
