package sandbox

import (
	"bytes"
	"fmt"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/edfisync/edfisync/schema"
)

// The payload reader: one pass over the JSON text, guided by the shape. Unknown members are skipped, names are matched without regard to
// case, null is the same as absent, the last of equal names wins (all as the ODS's Json.NET does).

// syntax is a fault of the JSON text itself.
type syntax string

func (e syntax) Error() string { return string(e) }

const maxDepth = 64 // Json.NET's default MaxDepth

// read fills the draft from its body. It returns an error when the body is not one JSON object; problems of values are in d.problems.
func (d *draft) read(s *shape) (root int32, err error) {
	d.slots = append(d.slots, slot{}) // index 0 means none
	if bytes.HasPrefix(d.body[:d.end], []byte("\xef\xbb\xbf")) {
		d.pos = 3 // a byte order mark
	}
	d.space()
	if d.pos == d.end {
		return 0, syntax("A non-empty request body is required.")
	}
	root = d.block(len(s.props))
	if err := d.object(s, root, nil, 0); err != nil {
		return 0, err
	}
	d.space()
	if d.pos != d.end {
		return 0, d.unexpected()
	}
	return root, nil
}

func (d *draft) unexpected() error {
	if d.pos >= d.end {
		return syntax("Unexpected end of JSON in the request body.")
	}
	return syntax(fmt.Sprintf("Unexpected character in the request body at position %d.", d.pos))
}

func (d *draft) space() {
	for d.pos < d.end {
		switch d.body[d.pos] {
		case ' ', '\t', '\n', '\r':
			d.pos++
		default:
			return
		}
	}
}

func (d *draft) peek() byte {
	if d.pos < d.end {
		return d.body[d.pos]
	}
	return 0
}

func (d *draft) take(c byte) bool {
	if d.pos < d.end && d.body[d.pos] == c {
		d.pos++
		return true
	}
	return false
}

func (d *draft) object(s *shape, block int32, at *where, depth int) error {
	if depth > maxDepth {
		return syntax("The request body is nested too deeply.")
	}
	if !d.take('{') {
		return d.unexpected()
	}
	d.space()
	if d.take('}') {
		return nil
	}
	guess := 0
	for {
		lo, hi, err := d.str()
		if err != nil {
			return err
		}
		d.space()
		if !d.take(':') {
			return d.unexpected()
		}
		d.space()
		name := d.body[lo:hi]
		i, known := s.find(name, guess, d.exactNames)
		switch {
		case !known:
			if at == nil && len(name) == 2 && strings.EqualFold(string(name), "id") && d.peek() != 'n' {
				d.idSet = true
				if d.peek() == '"' && string(name) == "id" {
					from := d.pos + 1
					err = d.skip(depth + 1)
					d.id = string(d.body[from:max(from, d.pos-1)])
					break
				}
			}
			err = d.skip(depth + 1)
		default:
			guess = i + 1
			err = d.value(&s.props[i], block+int32(i), at, depth)
		}
		if err != nil {
			return err
		}
		d.space()
		if d.take('}') {
			return nil
		}
		if !d.take(',') {
			return d.unexpected()
		}
		d.space()
	}
}

// find returns the ordinal of a member. Payloads mostly have their members in the shape's order, so the next one is tried first.
func (s *shape) find(name []byte, guess int, exact bool) (int, bool) {
	if guess < len(s.props) && s.props[guess].Name == string(name) {
		return guess, true
	}
	if i, ok := s.exact[string(name)]; ok {
		return int(i), true
	}
	if exact {
		return 0, false
	}
	if i, ok := s.fold[string(bytes.ToLower(name))]; ok {
		return int(i), true
	}
	return 0, false
}

func (d *draft) value(p *prop, n int32, up *where, depth int) error {
	if d.peek() == 'n' {
		d.slots[n] = slot{}
		return d.literal("null")
	}
	at := where{up, p.Name, -1}
	switch p.Kind {
	case schema.Object, schema.Reference:
		if d.peek() != '{' {
			d.slots[n].state = broken
			d.problem(&at, "Error converting value to an object.")
			return d.skip(depth + 1)
		}
		child := d.block(len(p.shape.props))
		d.slots[n] = slot{state: present, child: child}
		return d.object(p.shape, child, &at, depth+1)
	case schema.Collection:
		return d.collection(p, n, &at, depth)
	}
	return d.scalar(p, n, &at, depth)
}

func (d *draft) collection(p *prop, n int32, at *where, depth int) error {
	if d.peek() != '[' {
		d.slots[n].state = broken
		d.problem(at, "Error converting value to a collection.")
		return d.skip(depth + 1)
	}
	d.pos++
	d.slots[n] = slot{state: present}
	last := int32(0)
	d.space()
	if d.take(']') {
		return nil
	}
	for i := 0; ; i++ {
		at.index = i
		switch d.peek() {
		case '{':
			head := d.block(1 + len(p.shape.props))
			if err := d.object(p.shape, head+1, at, depth+1); err != nil {
				return err
			}
			if last == 0 {
				d.slots[n].child = head
			} else {
				d.slots[last].next = head
			}
			last = head
			d.slots[n].num++
		default:
			d.problem(at, "Error converting value to an object.")
			if err := d.skip(depth + 1); err != nil {
				return err
			}
		}
		d.space()
		if d.take(']') {
			return nil
		}
		if !d.take(',') {
			return d.unexpected()
		}
		d.space()
	}
}

// scalar reads a string, number or literal and converts it to the property's kind.
func (d *draft) scalar(p *prop, n int32, at *where, depth int) error {
	var lo, hi int
	var quoted bool
	var err error
	switch c := d.peek(); {
	case c == '"':
		quoted = true
		lo, hi, err = d.str()
	case c == '-' || c >= '0' && c <= '9':
		lo, hi, err = d.number()
	case c == 't':
		lo, hi = d.pos, d.pos+4
		err = d.literal("true")
	case c == 'f':
		lo, hi = d.pos, d.pos+5
		err = d.literal("false")
	case c == '{' || c == '[':
		d.slots[n].state = broken
		d.problem(at, fmt.Sprintf("Unexpected character encountered while parsing value: %c.", c))
		return d.skip(depth + 1)
	default:
		return d.unexpected()
	}
	if err != nil {
		return err
	}
	s := slot{state: present, lo: uint32(lo), hi: uint32(hi)}
	if msg := d.convert(p, &s, quoted); msg != "" {
		s.state = broken
		d.problem(at, msg)
	}
	d.slots[n] = s
	return nil
}

func (d *draft) literal(word string) error {
	if d.end-d.pos < len(word) || string(d.body[d.pos:d.pos+len(word)]) != word {
		return d.unexpected()
	}
	d.pos += len(word)
	return nil
}

func (d *draft) number() (lo, hi int, err error) {
	lo = d.pos
	d.take('-')
	digits := func() bool {
		from := d.pos
		for d.pos < d.end && d.body[d.pos] >= '0' && d.body[d.pos] <= '9' {
			d.pos++
		}
		return d.pos > from
	}
	first := d.peek()
	start := d.pos
	ok := digits() && (first != '0' || d.pos == start+1)
	if ok && d.take('.') {
		ok = digits()
	}
	if c := d.peek(); ok && (c == 'e' || c == 'E') {
		d.pos++
		if !d.take('-') {
			d.take('+')
		}
		ok = digits()
	}
	if !ok {
		return 0, 0, d.unexpected()
	}
	return lo, d.pos, nil
}

// str reads a JSON string and returns where its text is in d.body: escapes are decoded in place, the text never gets longer.
func (d *draft) str() (lo, hi int, err error) {
	if !d.take('"') {
		return 0, 0, d.unexpected()
	}
	lo = d.pos
	for d.pos < d.end {
		switch c := d.body[d.pos]; {
		case c == '"':
			d.pos++
			return lo, d.pos - 1, d.valid(lo, d.pos-1)
		case c == '\\':
			return d.escaped(lo)
		case c < ' ':
			return 0, 0, d.unexpected()
		}
		d.pos++
	}
	return 0, 0, d.unexpected()
}

func (d *draft) valid(lo, hi int) error {
	for _, c := range d.body[lo:hi] {
		if c >= utf8.RuneSelf {
			if !utf8.Valid(d.body[lo:hi]) {
				return syntax("The request body is not valid UTF-8.")
			}
			break
		}
	}
	return nil
}

func (d *draft) escaped(lo int) (int, int, error) {
	out := d.pos
	for d.pos < d.end {
		c := d.body[d.pos]
		switch {
		case c == '"':
			d.pos++
			return lo, out, d.valid(lo, out)
		case c < ' ':
			return 0, 0, d.unexpected()
		case c != '\\':
			d.body[out] = c
			out++
			d.pos++
			continue
		}
		d.pos++
		esc := d.peek()
		d.pos++
		switch esc {
		case '"', '\\', '/':
			d.body[out] = esc
			out++
		case 'b', 'f', 'n', 'r', 't':
			d.body[out] = map[byte]byte{'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t'}[esc]
			out++
		case 'u':
			r, ok := d.hex4()
			if !ok {
				return 0, 0, d.unexpected()
			}
			if utf16.IsSurrogate(r) {
				r = d.surrogate(r)
			}
			out += utf8.EncodeRune(d.body[out:d.pos], r)
		default:
			d.pos--
			return 0, 0, d.unexpected()
		}
	}
	return 0, 0, d.unexpected()
}

// surrogate reads the second half of a pair; a half alone becomes U+FFFD.
func (d *draft) surrogate(hi rune) rune {
	back := d.pos
	if d.take('\\') && d.take('u') {
		if lo, ok := d.hex4(); ok {
			if r := utf16.DecodeRune(hi, lo); r != utf8.RuneError {
				return r
			}
		}
	}
	d.pos = back
	return utf8.RuneError
}

func (d *draft) hex4() (r rune, ok bool) {
	if d.end-d.pos < 4 {
		return 0, false
	}
	for _, c := range d.body[d.pos : d.pos+4] {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			c = c | 0x20 - 'a' + 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	d.pos += 4
	return r, true
}

// skip passes over any value.
func (d *draft) skip(depth int) error {
	if depth > maxDepth {
		return syntax("The request body is nested too deeply.")
	}
	var err error
	switch c := d.peek(); {
	case c == '"':
		_, _, err = d.str()
	case c == '-' || c >= '0' && c <= '9':
		_, _, err = d.number()
	case c == 't':
		err = d.literal("true")
	case c == 'f':
		err = d.literal("false")
	case c == 'n':
		err = d.literal("null")
	case c == '{' || c == '[':
		err = d.skipMembers(c, depth)
	default:
		err = d.unexpected()
	}
	return err
}

func (d *draft) skipMembers(open byte, depth int) error {
	end := byte('}')
	if open == '[' {
		end = ']'
	}
	d.pos++
	d.space()
	if d.take(end) {
		return nil
	}
	for {
		if open == '{' {
			if _, _, err := d.str(); err != nil {
				return err
			}
			d.space()
			if !d.take(':') {
				return d.unexpected()
			}
			d.space()
		}
		if err := d.skip(depth + 1); err != nil {
			return err
		}
		d.space()
		if d.take(end) {
			return nil
		}
		if !d.take(',') {
			return d.unexpected()
		}
		d.space()
	}
}
