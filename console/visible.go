package console

import (
	"bytes"
	"fmt"
	"unicode/utf8"
)

// visible makes characters of a page visible that would change how the text around them is read: controls (a terminal's colours, carriage returns) and
// marks of writing direction. None of them is ever in our own pages, so they are in what people, a SIS or a target wrote. Letters that are written from
// right to left stay as they are.
func visible(page []byte) []byte {
	if !bytes.ContainsFunc(page, hidden) {
		return page
	}
	out := make([]byte, 0, len(page)+64)
	for len(page) > 0 {
		r, n := utf8.DecodeRune(page)
		switch {
		case !hidden(r):
			out = append(out, page[:n]...)
		case r < 0x20:
			out = utf8.AppendRune(out, 0x2400+r) // the picture of the control
		default:
			out = fmt.Appendf(out, "[U+%04X]", r)
		}
		page = page[n:]
	}
	return out
}

// hidden reports whether a character has no shape of its own and changes the reading of others.
func hidden(r rune) bool {
	switch {
	case r == '\n', r == '\t':
		return false
	case r < 0x20, r >= 0x7f && r < 0xa0: // C0, DEL, C1
		return true
	case r == 0x061c, r == 0x200e, r == 0x200f, r >= 0x202a && r <= 0x202e, r >= 0x2066 && r <= 0x2069: // marks of direction
		return true
	case r == 0x2028, r == 0x2029, r == 0xfeff, r >= 0xfff9 && r <= 0xfffb, r >= 0xe0000 && r <= 0xe007f: // separators, annotations, tags
		return true
	}
	return false
}
