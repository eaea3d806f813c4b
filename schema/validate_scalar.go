package schema

import (
	"bytes"
	"fmt"
	"strconv"
	"unicode"
	"unicode/utf8"
)

// checkScalar checks one value that is not null.
func (v *validator) checkScalar(e *element, n int32) {
	s := scalar{v.nodes[n].kind, v.nodes[n].text}
	switch e.Kind {
	case String:
		v.checkText(e, s)
	case Descriptor:
		v.checkDescriptorValue(e, s)
	case Boolean:
		v.converted(e, s, boolToken, CodeNotBoolean)
	case Integer, Long:
		v.checkInteger(e, s)
	case Decimal:
		v.checkDecimal(e, s)
	case Date:
		v.checkMoment(e, s, len(s.text) == 10 && validDate(s.text), CodeNotDate, "a date (yyyy-MM-dd)")
	case DateTime:
		_, ok := normalDateTime(s.text, &v.buf)
		v.checkMoment(e, s, ok, CodeNotDateTime, "a date-time (ISO 8601)")
	case Time:
		v.checkMoment(e, s, validTime(s.text), CodeNotTime, "a time of day (HH:mm:ss)")
	}
	v.checkUnified(e, s)
}

// fail reports a value that breaks a rule.
func (v *validator) fail(e *element, code, format string, args ...any) {
	v.sound = false
	if v.report {
		v.add(e, Problem{Code: code, Message: e.Name + " " + fmt.Sprintf(format, args...) + "."})
	}
}

func (v *validator) wrongType(e *element) { v.fail(e, CodeWrongType, "is not %s", jsonType(e.Kind)) }

func (v *validator) looseType(e *element) {
	v.fail(e, CodeLooseType, "is not sent as %s", jsonType(e.Kind))
}

func (v *validator) checkText(e *element, s scalar) {
	switch s.kind {
	case boolToken:
		v.wrongType(e)
		return
	case numberToken:
		v.looseType(e)
	}
	if !utf8.Valid(s.text) {
		v.fail(e, CodeInvalidUTF8, "is not valid UTF-8")
		return
	}
	if bytes.IndexByte(s.text, 0) >= 0 {
		v.fail(e, CodeNUL, "contains the NUL character")
	}
	blank := isBlank(s.text)
	if blank && (e.Required || e.Identity) {
		v.fail(e, CodeEmpty, "is required and should not be left empty")
		return
	}
	v.checkLength(e, s.text)
	if e.trimmed && !blank && hasBlankEnds(s.text) {
		v.fail(e, CodeBlankEnds, "cannot begin or end with white space")
	}
	if isDangerous(s.text) {
		v.fail(e, CodeDangerous, "contains a value that could be dangerous for downstream systems")
	}
	switch {
	case e.form.keptBy(s.text):
	case e.form == namespaceForm:
		v.fail(e, CodeNotNamespace, "is not of the form uri://organization/DescriptorName")
	default:
		v.fail(e, CodeNotCodeValue, "contains a #")
	}
}

func (f form) keptBy(text []byte) bool {
	switch f {
	case namespaceForm:
		org, name, ok := bytes.Cut(text[min(len(text), len(uriScheme)):], []byte("/"))
		return ok && isDescriptorURI(text) && len(org) > 0 && len(name) > 0 && bytes.IndexByte(name, '/') < 0 && bytes.IndexByte(text, '#') < 0
	case codeValueForm:
		return bytes.IndexByte(text, '#') < 0
	}
	return true
}

func (v *validator) checkLength(e *element, text []byte) {
	length := textLength(text)
	if e.MaxLength > 0 && length > e.MaxLength {
		v.fail(e, CodeTooLong, "must be at most %d characters long", e.MaxLength)
	}
	if length < e.MinLength {
		v.fail(e, CodeTooShort, "must be at least %d characters long", e.MinLength)
	}
}

// textLength counts UTF-16 units, as .NET and SQL Server count characters: one beyond the basic plane (an emoji) is two.
func textLength(text []byte) int {
	if isASCII(text) {
		return len(text)
	}
	n := 0
	for _, r := range string(text) {
		n++
		if r > 0xFFFF {
			n++
		}
	}
	return n
}

func isBlank(text []byte) bool { return len(bytes.TrimSpace(text)) == 0 }

func hasBlankEnds(text []byte) bool {
	first, _ := utf8.DecodeRune(text)
	last, _ := utf8.DecodeLastRune(text)
	return unicode.IsSpace(first) || unicode.IsSpace(last)
}

// isDangerous is ASP.NET's request validation, which the ODS runs on every string: "<" before a letter, "!", "/" or "?", and "&#".
func isDangerous(text []byte) bool {
	for i, c := range text {
		if c != '<' && c != '&' || i+1 == len(text) {
			continue
		}
		next := text[i+1]
		if c == '&' && next == '#' || c == '<' && (next|0x20-'a' < 26 || next == '!' || next == '/' || next == '?') {
			return true
		}
	}
	return false
}

// converted checks a value that must be of one JSON type, or a text that converts to it.
func (v *validator) converted(e *element, s scalar, want token, code string) (scalar, bool) {
	if s.kind == want {
		return s, true
	}
	converted, ok := e.normalise(s, &v.buf)
	if ok {
		v.looseType(e)
	} else {
		v.fail(e, code, "is not %s", jsonType(e.Kind))
	}
	return converted, ok
}

func (v *validator) checkInteger(e *element, s scalar) {
	s, ok := v.converted(e, s, numberToken, CodeNotInteger)
	if !ok {
		return
	}
	text, ok := normalNumber(s.text, &v.buf)
	switch {
	case !ok:
		v.fail(e, CodeOutOfRange, "is outside the range of its type")
		return
	case bytes.IndexByte(text, '.') >= 0:
		v.fail(e, CodeNotInteger, "is not a whole number")
		return
	case len(text) != len(s.text):
		v.looseType(e) // 12.0 or 1e3
	}
	least, most := e.limits()
	n, ok := readInteger(text)
	switch {
	case !ok || n < least || n > most:
		v.fail(e, CodeOutOfRange, "must be between %d and %d", least, most)
	case n == 0 && e.Required:
		v.fail(e, CodeZero, "must be different from 0")
	}
}

// limits returns the range of an Integer or Long.
func (p *Property) limits() (least, most int64) {
	least, most = -1<<63, 1<<63-1
	if p.Kind == Integer {
		least, most = -1<<31, 1<<31-1
	}
	if p.HasRange {
		least, most = max(least, p.Min), min(most, p.Max)
	}
	return least, most
}

// readInteger reads a whole number in normal form.
func readInteger(text []byte) (int64, bool) {
	if len(text) < 19 {
		digits, n := text, int64(0)
		if digits[0] == '-' {
			digits = digits[1:]
		}
		for _, c := range digits {
			n = n*10 + int64(c-'0')
		}
		if text[0] == '-' {
			n = -n
		}
		return n, true
	}
	n, err := strconv.ParseInt(string(text), 10, 64)
	return n, err == nil
}

func (v *validator) checkDecimal(e *element, s scalar) {
	s, ok := v.converted(e, s, numberToken, CodeNotNumber)
	if !ok {
		return
	}
	text, ok := normalNumber(s.text, &v.buf)
	if !ok {
		v.fail(e, CodeOutOfRange, "has too many digits")
		return
	}
	switch e.fits(text) {
	case CodeTooPrecise:
		v.fail(e, CodeTooPrecise, "must have at most %d digits after the point", e.Scale)
	case CodeOutOfRange:
		least, most := e.decimalLimits()
		v.fail(e, CodeOutOfRange, "must be between %s and %s", least, most)
	}
}

// fits says whether a decimal in normal form has no more digits than the model keeps, before and after the point.
func (p *Property) fits(text []byte) string {
	if !p.scaled() {
		return ""
	}
	whole, fraction, _ := bytes.Cut(bytes.TrimPrefix(text, []byte("-")), []byte("."))
	if len(whole) == 1 && whole[0] == '0' {
		whole = nil
	}
	switch {
	case len(whole) > p.Precision-p.Scale:
		return CodeOutOfRange
	case len(fraction) > p.Scale:
		return CodeTooPrecise
	}
	return ""
}

// decimalLimits returns the range of a decimal as the ODS prints it: "-999.99" and "999.99" for five digits, two after the point.
func (p *Property) decimalLimits() (least, most string) {
	b := make([]byte, 0, p.Precision+1)
	for i := range p.Precision {
		if i == p.Precision-p.Scale {
			if i == 0 {
				b = append(b, '0')
			}
			b = append(b, '.')
		}
		b = append(b, '9')
	}
	return "-" + string(b), string(b)
}

func (v *validator) checkMoment(e *element, s scalar, ok bool, code, what string) {
	switch {
	case s.kind != stringToken:
		v.wrongType(e)
	case !ok:
		v.fail(e, code, "is not %s", what)
	}
}

// validTime is the ODS's pattern \d\d:\d\d(:\d\d)?(Z|[+-]hh(:mm)?)? with hours, minutes and seconds in their ranges.
func validTime(text []byte) bool {
	c, rest, ok := readClock(text)
	if !ok || c.fraction != "" || len(rest) > 0 && rest[0] == ' ' || bytes.IndexByte(text, '.') >= 0 || len(rest) == 5 && rest[3] != ':' {
		return false
	}
	_, ok = readZone(rest)
	return ok
}

func (v *validator) checkDescriptorValue(e *element, s scalar) {
	if s.kind != stringToken {
		v.wrongType(e)
		return
	}
	if len(s.text) == 0 && e.Required {
		v.fail(e, CodeEmpty, "is required and should not be left empty")
		return
	}
	code := checkDescriptor(s.text, e.Target)
	if code == "" && e.MaxLength > 0 && textLength(s.text) > e.MaxLength {
		code = CodeTooLong
	}
	if code == "" {
		return
	}
	v.sound = false
	if !v.report {
		return
	}
	p := Problem{Code: code, Value: shownDescriptor(s.text)}
	switch code {
	case CodeInvalidUTF8:
		p.Message = e.Name + " is not valid UTF-8."
	case CodeNUL:
		p.Message = e.Name + " contains the NUL character."
	case CodeWrongDescriptor:
		p.Message = e.Name + " is not a value of " + e.Target + "."
	case CodeTooLong:
		p.Message = fmt.Sprintf("%s must be at most %d characters long.", e.Name, max(e.MaxLength, longestDescriptor))
	default:
		p.Message = e.Name + " is not a descriptor URI (uri://organization/" + e.Target + "#code)."
	}
	v.add(e, p)
}

// checkDescriptor checks the form uri://org/Name#code, and the name against target unless target is empty. It returns a code, or "".
func checkDescriptor(uri []byte, target string) string {
	if !isASCII(uri) && !utf8.Valid(uri) {
		return CodeInvalidUTF8
	}
	if bytes.IndexByte(uri, 0) >= 0 {
		return CodeNUL
	}
	if !isDescriptorURI(uri) {
		return CodeNotDescriptor
	}
	rest := uri[len(uriScheme):]
	slash := bytes.IndexByte(rest, '/')
	if slash <= 0 {
		return CodeNotDescriptor
	}
	rest = rest[slash+1:]
	hash := bytes.IndexByte(rest, '#')
	if hash <= 0 || isBlank(rest[hash+1:]) {
		return CodeNotDescriptor
	}
	name := rest[:hash]
	if bytes.IndexByte(name, '/') >= 0 {
		return CodeNotDescriptor
	}
	if target != "" && !equalFoldString(name, target) {
		return CodeWrongDescriptor
	}
	if len(uri) > longestDescriptor && textLength(uri) > longestDescriptor {
		return CodeTooLong
	}
	return ""
}

const uriScheme = "uri://"

// isDescriptorURI says whether a text is meant as a URI and not as a local code.
func isDescriptorURI(text []byte) bool {
	return len(text) >= len(uriScheme) && equalFoldString(text[:len(uriScheme)], uriScheme)
}

// equalFoldString compares ASCII without case.
func equalFoldString(text []byte, s string) bool {
	if len(text) != len(s) {
		return false
	}
	for i, c := range text {
		d := s[i]
		if c != d && (c|0x20 != d|0x20 || c|0x20-'a' > 25) {
			return false
		}
	}
	return true
}

// shownDescriptor is what a problem shows of a descriptor's value.
func shownDescriptor(text []byte) string {
	return string(bytes.ToValidUTF8(text[:min(len(text), longestDescriptor)], []byte("\uFFFD")))
}

// checkUnified compares a value with the first one of its group.
func (v *validator) checkUnified(e *element, s scalar) {
	if e.group == 0 {
		return
	}
	s, _ = e.normalise(s, &v.buf)
	first := &v.unified[e.group-1]
	if v.report {
		if first.differs {
			v.fail(e, CodeUnified, "must equal the other values it is unified with")
		}
		return
	}
	if !first.seen {
		first.seen, first.text = true, s.text
		return
	}
	if !e.same(first.text, s.text) {
		first.differs = true
		v.sound = false
	}
}
