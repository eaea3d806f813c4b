package main

import (
	"fmt"
	"io"
	"sync"
	"unicode"
	"unicode/utf8"
)

// legibleWriter shows control characters instead of passing them on, since what a SIS, a target or a person wrote may reach a terminal: it must not move
// the cursor there, hide lines or turn words around. Line breaks and tabs stay. Safe for concurrent use.
type legibleWriter struct {
	to io.Writer

	mu   sync.Mutex
	rest []byte // the beginning of a character whose end has not been written yet
}

// legible makes the output of an invocation legible.
func (s streams) legible() streams {
	return streams{in: s.in, out: &legibleWriter{to: s.out}, err: &legibleWriter{to: s.err}}
}

// Write implements io.Writer.
func (l *legibleWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	text := append(l.rest, p...) //nolint:gocritic // rest is set anew below
	out := make([]byte, 0, len(text))
	l.rest = nil
	for len(text) > 0 {
		if !utf8.FullRune(text) {
			l.rest = append(l.rest, text...)
			break
		}
		r, n := utf8.DecodeRune(text)
		switch {
		case r == utf8.RuneError && n == 1:
			out = fmt.Appendf(out, `\x%02x`, text[0])
		case r == '\n' || r == '\t':
			out = append(out, byte(r))
		case r < 0x80 && unicode.IsControl(r):
			out = fmt.Appendf(out, `\x%02x`, r)
		case unicode.IsControl(r), unicode.Is(unicode.Bidi_Control, r), r == '\u2028', r == '\u2029':
			out = fmt.Appendf(out, `\u%04x`, r)
		default:
			out = append(out, text[:n]...)
		}
		text = text[n:]
	}
	if _, err := l.to.Write(out); err != nil {
		return 0, err
	}
	return len(p), nil
}
