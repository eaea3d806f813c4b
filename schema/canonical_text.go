package schema

import (
	"bytes"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// appendQuoted appends a JSON string with the fewest escapes RFC 8259 allows. Bytes that are no UTF-8 are kept.
func appendQuoted(dst, text []byte) []byte {
	dst = append(dst, '"')
	start := 0
	for i, c := range text {
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		dst = append(dst, text[start:i]...)
		dst = appendEscape(dst, c)
		start = i + 1
	}
	dst = append(dst, text[start:]...)
	return append(dst, '"')
}

func appendEscape(dst []byte, c byte) []byte {
	const hex = "0123456789abcdef"
	switch c {
	case '"', '\\':
		return append(dst, '\\', c)
	case '\b':
		return append(dst, '\\', 'b')
	case '\f':
		return append(dst, '\\', 'f')
	case '\n':
		return append(dst, '\\', 'n')
	case '\r':
		return append(dst, '\\', 'r')
	case '\t':
		return append(dst, '\\', 't')
	}
	return append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
}

func isASCII(text []byte) bool {
	for len(text) >= 8 {
		if (text[0]|text[1]|text[2]|text[3]|text[4]|text[5]|text[6]|text[7])&0x80 != 0 {
			return false
		}
		text = text[8:]
	}
	for _, c := range text {
		if c >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// appendText appends a string in canonical form: NFC, quoted.
func appendText(dst, text []byte) []byte {
	if isASCII(text) || norm.NFC.IsNormal(text) {
		return appendQuoted(dst, text)
	}
	return appendQuoted(dst, norm.NFC.Bytes(text))
}

// appendFolded appends a string as a comparison without case sees it: NFC, lower case, quoted; without trailing spaces when trim is set.
func appendFolded(dst, text []byte, trim bool) []byte {
	if trim {
		text = bytes.TrimRight(text, " ")
	}
	if !isASCII(text) {
		// Lower case first composes what upper case has no composed form of (H̱ → ẖ), hence the second normalisation.
		text = norm.NFC.Bytes(bytes.ToLower(norm.NFC.Bytes(text)))
		return appendQuoted(dst, text)
	}
	begin := len(dst)
	dst = appendQuoted(dst, text)
	for i, c := range dst[begin:] {
		if c-'A' < 26 {
			dst[begin+i] = c | 0x20
		}
	}
	return dst
}

// appendCanonical appends a normalised value in canonical form 1.
func (e *element) appendCanonical(dst []byte, s scalar, rules Rules) []byte {
	switch {
	case e.Kind == Descriptor && s.kind == stringToken:
		return appendFolded(dst, s.text, false)
	case e.foldable && rules.FoldKeys && s.kind == stringToken:
		return appendFolded(dst, s.text, true)
	case s.kind == stringToken:
		return appendText(dst, s.text)
	case e.Kind == Decimal && s.kind == numberToken:
		return e.appendScaled(dst, s.text)
	}
	return append(dst, s.text...)
}

// appendScaled appends a number in shortest form with zeros up to the property's scale. It never rounds: a number with more digits is
// written whole.
func (e *element) appendScaled(dst, text []byte) []byte {
	dst = append(dst, text...)
	if !e.scaled() || e.Scale == 0 {
		return dst
	}
	digits := 0
	if point := bytes.IndexByte(text, '.'); point >= 0 {
		digits = len(text) - point - 1
	} else {
		dst = append(dst, '.')
	}
	for ; digits < e.Scale; digits++ {
		dst = append(dst, '0')
	}
	return dst
}

// scaled says whether the model knows how many digits a decimal keeps.
func (p *Property) scaled() bool { return p.Kind == Decimal && p.Precision > 0 && p.Scale >= 0 }
