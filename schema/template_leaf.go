package schema

import (
	"bytes"
	"unicode/utf8"
)

// mappedURI is the target of a local code in the forms it is needed in. member is the whole member of the payload, name to comma.
type mappedURI struct{ uri, member, canonical []byte }

// value writes a scalar member from name to comma as it travels. canonical is the value's canonical form, or nil when the two are the
// same. ok is false for a value that breaks a rule, and for some rare ones that do not: the careful way decides.
func (out *Encoded) value(o *op, text []byte) (canonical []byte, ok bool) {
	switch o.kind {
	case String:
		found := scan(text)
		if !o.acceptable(text, found) {
			return nil, false
		}
		if found&special == 0 {
			out.quote(o, text)
		} else {
			out.Wire = append(appendQuoted(append(out.Wire, o.prefix...), text), ',')
		}
		if found&beyondASCII != 0 || o.fold && found&upperCase != 0 {
			from := len(out.buf)
			out.buf = o.appendCanonical(out.buf, scalar{stringToken, text}, o.rules)
			canonical = out.buf[from:]
		}
	case Descriptor:
		u := o.uris[string(text)]
		if u == nil {
			if u = out.uri(o, text); u == nil {
				return nil, false
			}
		}
		out.Wire = append(out.Wire, u.member...)
		canonical, text = u.canonical, u.uri
	case Integer, Long:
		if text, ok = o.integer(text, &out.buf); !ok {
			return nil, false
		}
		out.bare(o, text)
	case Decimal:
		if text, ok = normalNumber(text, &out.buf); !ok || o.fits(text) != "" {
			return nil, false
		}
		out.bare(o, text)
		from := len(out.buf)
		out.buf = o.appendScaled(out.buf, text)
		canonical = out.buf[from:]
	case Date:
		if text, ok = normalDate(text); !ok {
			return nil, false
		}
		out.quote(o, text)
	default:
		s, ok := o.normalise(scalar{columnToken, text}, &out.buf)
		if !ok {
			return nil, false
		}
		text = s.text
		if s.kind == stringToken {
			out.quote(o, text)
		} else {
			out.bare(o, text)
		}
	}
	return canonical, o.group == 0 || out.json.meets(o.element, text)
}

// quote writes a member whose value is a string without characters to escape.
func (out *Encoded) quote(o *op, text []byte) {
	out.Wire = append(append(append(out.Wire, o.opening...), text...), '"', ',')
}

// bare writes a member whose value is a number or a boolean.
func (out *Encoded) bare(o *op, text []byte) {
	out.Wire = append(append(append(out.Wire, o.prefix...), text...), ',')
}

// mostURIs bounds how many URIs are remembered of one column. No descriptor has as many values.
const mostURIs = 2000

// uri returns the forms of a descriptor that came as a URI, nil when it is none. It remembers them: there are few, and each is long.
func (out *Encoded) uri(o *op, text []byte) *mappedURI {
	seen := out.uris[o.index]
	if u := seen[string(text)]; u != nil {
		return u
	}
	if checkDescriptor(text, o.Target) != "" || o.maxLength > 0 && len(text) > o.maxLength {
		return nil
	}
	u := o.mapped(bytes.Clone(text))
	if seen == nil {
		seen = make(map[string]*mappedURI)
		out.uris[o.index] = seen
	}
	if len(seen) < mostURIs {
		seen[string(u.uri)] = u
	}
	return u
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
	upperCase               // A to Z
	beyondASCII             // bytes above 0x7F
)

func scan(text []byte) (found int) {
	for _, c := range text {
		switch {
		case c >= 'a' && c < 0x80:
		case c >= 0x80:
			found |= beyondASCII
		case c-'A' < 26:
			found |= upperCase
		case c < ' ' || c == '"' || c == '\\' || c == '<' || c == '&':
			found |= special
		}
	}
	return found
}

// acceptable says whether a string surely keeps all rules. It may refuse one that keeps them.
func (o *op) acceptable(text []byte, found int) bool {
	length := len(text)
	if found&beyondASCII != 0 {
		if !utf8.Valid(text) {
			return false
		}
		length = textLength(text)
	}
	if o.maxLength > 0 && length > o.maxLength || length < o.minLength {
		return false
	}
	if found&special != 0 && (bytes.IndexByte(text, 0) >= 0 || isDangerous(text)) {
		return false
	}
	if o.form != 0 && !o.form.keptBy(text) {
		return false
	}
	if !o.noBlankEnds {
		return true
	}
	first, last := text[0], text[len(text)-1]
	return first > ' ' && last > ' ' && (first|last < 0x80 || !hasBlankEnds(text))
}

// integer returns a whole number within its limits in normal form.
func (o *op) integer(text []byte, arena *[]byte) ([]byte, bool) {
	n, ok := int64(0), len(text) < 19 && (text[0] != '0' || len(text) == 1)
	for _, c := range text {
		c -= '0'
		if c > 9 {
			ok = false
			break
		}
		n = n*10 + int64(c)
	}
	if !ok {
		if text, ok = normalNumber(text, arena); !ok || bytes.IndexByte(text, '.') >= 0 {
			return text, false
		}
		n, ok = readInteger(text)
	}
	return text, ok && n >= o.least && n <= o.most && (n != 0 || !o.Required)
}
