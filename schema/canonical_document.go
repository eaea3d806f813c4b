package schema

import (
	"errors"
	"fmt"
	"unicode/utf8"
)

// token is the JSON type of a node, and columnToken for text that came from a database column and has none.
type token uint8

const (
	nullToken token = iota
	boolToken
	numberToken
	stringToken
	objectToken
	arrayToken
	columnToken
)

// deepest is how many objects and arrays may be nested. Ed-Fi payloads nest five deep; the bound keeps hostile input off the stack.
const deepest = 64

// mostNodes bounds the memory one text may claim (16 MiB of nodes). The largest Ed-Fi payloads have some ten thousand values.
const mostNodes = 1 << 18

// node is one JSON value. text is the literal of a boolean or number, or a string with its escapes resolved.
type node struct {
	name  []byte // of a member of an object, escapes resolved
	text  []byte
	first int32 // first member or item, 0 = none
	next  int32 // next member or item of the same parent, 0 = none
	kind  token
}

// document is a parsed JSON text. Its storage is reused by the next parse.
type document struct {
	nodes []node // nodes[0] is unused, so that 0 means none
	buf   []byte // resolved strings; nodes may also point into the text, or into storage buf has outgrown
}

// syntaxError says where a text stops being JSON. It holds no part of the text (I14).
type syntaxError struct {
	what   string
	offset int
}

func (e *syntaxError) Error() string { return fmt.Sprintf("%s at byte %d", e.what, e.offset) }

var errNotObject = errors.New("payload is not a JSON object")

// parse reads one JSON value, RFC 8259, and returns its node. Invalid UTF-8 in strings is kept as it is, half a surrogate pair becomes
// the three bytes it would have in UTF-8, which no valid text has: both are for the caller to judge. d points into text afterwards.
func (d *document) parse(text []byte) (int32, error) {
	d.nodes = append(d.nodes[:0], node{})
	d.buf = d.buf[:0]
	return d.more(text)
}

// more reads another JSON value into the same document.
func (d *document) more(text []byte) (int32, error) {
	p := parser{document: d, text: text}
	p.space()
	root, err := p.value(0)
	if err != nil {
		return 0, err
	}
	p.space()
	if p.at < len(text) {
		return 0, p.errorf("unexpected text after the value")
	}
	return root, nil
}

type parser struct {
	*document
	text []byte
	at   int
}

func (p *parser) errorf(what string) error { return &syntaxError{what: what, offset: p.at} }

func (p *parser) space() {
	for p.at < len(p.text) {
		switch p.text[p.at] {
		case ' ', '\t', '\n', '\r':
			p.at++
		default:
			return
		}
	}
}

func (p *parser) peek() byte {
	if p.at < len(p.text) {
		return p.text[p.at]
	}
	return 0
}

func (p *parser) add(kind token, text []byte) int32 {
	p.nodes = append(p.nodes, node{kind: kind, text: text})
	return int32(len(p.nodes) - 1)
}

func (p *parser) value(depth int) (int32, error) {
	if len(p.nodes) == mostNodes {
		return 0, p.errorf("too many values")
	}
	switch c := p.peek(); c {
	case '{', '[':
		if depth == deepest {
			return 0, p.errorf("nested too deep")
		}
		return p.container(c, depth+1)
	case '"':
		s, err := p.string()
		if err != nil {
			return 0, err
		}
		return p.add(stringToken, s), nil
	case 't':
		return p.literal("true", boolToken)
	case 'f':
		return p.literal("false", boolToken)
	case 'n':
		return p.literal("null", nullToken)
	default:
		return p.number()
	}
}

func (p *parser) literal(word string, kind token) (int32, error) {
	end := p.at + len(word)
	if end > len(p.text) || string(p.text[p.at:end]) != word {
		return 0, p.errorf("unexpected character")
	}
	text := p.text[p.at:end:end]
	p.at = end
	return p.add(kind, text), nil
}

func (p *parser) container(open byte, depth int) (int32, error) {
	kind, closing := objectToken, byte('}')
	if open == '[' {
		kind, closing = arrayToken, ']'
	}
	self := p.add(kind, nil)
	p.at++
	p.space()
	if p.peek() == closing {
		p.at++
		return self, nil
	}
	var last int32
	for {
		var name []byte
		if kind == objectToken {
			var err error
			if name, err = p.memberName(); err != nil {
				return 0, err
			}
		}
		child, err := p.value(depth)
		if err != nil {
			return 0, err
		}
		p.nodes[child].name = name
		if last == 0 {
			p.nodes[self].first = child
		} else {
			p.nodes[last].next = child
		}
		last = child
		p.space()
		switch p.peek() {
		case ',':
			p.at++
			p.space()
		case closing:
			p.at++
			return self, nil
		default:
			return 0, p.errorf("unexpected character")
		}
	}
}

func (p *parser) memberName() ([]byte, error) {
	if p.peek() != '"' {
		return nil, p.errorf("member name expected")
	}
	name, err := p.string()
	if err != nil {
		return nil, err
	}
	p.space()
	if p.peek() != ':' {
		return nil, p.errorf("colon expected")
	}
	p.at++
	p.space()
	return name, nil
}

func (p *parser) number() (int32, error) {
	start := p.at
	end, ok := scanNumber(p.text, start)
	if !ok {
		return 0, p.errorf("unexpected character")
	}
	p.at = end
	return p.add(numberToken, p.text[start:end:end]), nil
}

// scanNumber returns where the JSON number that begins at start ends.
func scanNumber(text []byte, start int) (end int, ok bool) {
	at := start
	digits := func() bool {
		begin := at
		for at < len(text) && text[at]-'0' <= 9 {
			at++
		}
		return at > begin
	}
	if at < len(text) && text[at] == '-' {
		at++
	}
	if at < len(text) && text[at] == '0' {
		at++
	} else if !digits() {
		return at, false
	}
	if at < len(text) && text[at] == '.' {
		at++
		if !digits() {
			return at, false
		}
	}
	if at < len(text) && text[at]|0x20 == 'e' {
		at++
		if at < len(text) && (text[at] == '+' || text[at] == '-') {
			at++
		}
		if !digits() {
			return at, false
		}
	}
	return at, true
}

// string reads a string from its opening quote. The result points into the text when there was no escape.
func (p *parser) string() ([]byte, error) {
	p.at++
	start := p.at
	for p.at < len(p.text) {
		switch c := p.text[p.at]; {
		case c == '"':
			s := p.text[start:p.at:p.at]
			p.at++
			return s, nil
		case c == '\\':
			return p.escapedString(start)
		case c < ' ':
			return nil, p.errorf("control character in a string")
		}
		p.at++
	}
	return nil, p.errorf("unexpected end")
}

func (p *parser) escapedString(start int) ([]byte, error) {
	begin := len(p.buf)
	p.buf = append(p.buf, p.text[start:p.at]...)
	for p.at < len(p.text) {
		switch c := p.text[p.at]; {
		case c == '"':
			p.at++
			return p.buf[begin:len(p.buf):len(p.buf)], nil
		case c == '\\':
			if err := p.escape(); err != nil {
				return nil, err
			}
		case c < ' ':
			return nil, p.errorf("control character in a string")
		default:
			p.buf = append(p.buf, c)
			p.at++
		}
	}
	return nil, p.errorf("unexpected end")
}

func (p *parser) escape() error {
	if p.at+1 >= len(p.text) {
		return p.errorf("unexpected end")
	}
	c := p.text[p.at+1]
	switch c {
	case '"', '\\', '/':
	case 'b':
		c = '\b'
	case 'f':
		c = '\f'
	case 'n':
		c = '\n'
	case 'r':
		c = '\r'
	case 't':
		c = '\t'
	case 'u':
		return p.unicodeEscape()
	default:
		return p.errorf("unknown escape")
	}
	p.buf = append(p.buf, c)
	p.at += 2
	return nil
}

func (p *parser) unicodeEscape() error {
	r, ok := hex4(p.text, p.at)
	if !ok {
		return p.errorf("bad \\u escape")
	}
	p.at += 6
	if r >= 0xD800 && r < 0xDC00 {
		if low, ok := hex4(p.text, p.at); ok && low >= 0xDC00 && low < 0xE000 {
			p.at += 6
			p.buf = utf8.AppendRune(p.buf, (r-0xD800)<<10|(low-0xDC00)+0x10000)
			return nil
		}
	}
	if r >= 0xD800 && r < 0xE000 {
		p.buf = append(p.buf, 0xE0|byte(r>>12), 0x80|byte(r>>6)&0x3F, 0x80|byte(r)&0x3F)
		return nil
	}
	p.buf = utf8.AppendRune(p.buf, r)
	return nil
}

// hex4 reads the four digits of a \u escape at an offset.
func hex4(text []byte, at int) (rune, bool) {
	if at+6 > len(text) || text[at] != '\\' || text[at+1] != 'u' {
		return 0, false
	}
	var r rune
	for _, c := range text[at+2 : at+6] {
		switch {
		case c-'0' <= 9:
			c -= '0'
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			c = c | 0x20 - 'a' + 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}

// child returns the last member of an object with the name, as Json.NET reads duplicates; 0 when there is none or n is no object.
func (d *document) child(n int32, name string) int32 {
	var found int32
	if d.nodes[n].kind != objectToken {
		return 0
	}
	for c := d.nodes[n].first; c != 0; c = d.nodes[c].next {
		if string(d.nodes[c].name) == name {
			found = c
		}
	}
	return found
}
