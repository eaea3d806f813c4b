package console

import (
	"net/http"
	"strings"
	"unicode"
	"unicode/utf8"
)

// legible reports whether a text is one that people write: characters, blanks and line breaks. Others are no text for every database (NUL, bytes that are
// no UTF-8), move the cursor of the terminal an audit trail is read on (ANSI), or show words in another order than they are in.
func legible(text string) bool {
	return utf8.ValidString(text) && !strings.ContainsFunc(text, func(r rune) bool {
		return unicode.IsControl(r) && r != '\n' && r != '\r' && r != '\t' || unicode.Is(unicode.Bidi_Control, r) && r != '\u200e' && r != '\u200f' && r != '\u061c' ||
			r == '\u2028' || r == '\u2029' || r == utf8.RuneError
	})
}

// said refuses what a person gave as a reason, or a program as a name, when it is not legible.
func said(field, text string) error {
	if legible(text) {
		return nil
	}
	return refuse(http.StatusUnprocessableEntity, "invalid", "%s: letters, digits, blanks, punctuation and line breaks only", field)
}
