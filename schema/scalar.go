package schema

import (
	"bytes"
	"strconv"
	"time"
)

// scalar is one value on its way from a column or a JSON text to a payload: its JSON type and its text, unquoted and unescaped.
type scalar struct {
	kind token
	text []byte
}

// normalise returns a value as it travels: numbers without needless zeros and exponents, dates without an empty time, date-times in UTC,
// times of day with seconds, booleans as such. Strings and descriptors stay untouched (I12: these are all the rules there are). It reads
// what databases write, so it accepts more than an API does. New text is appended to arena. ok is false, and the value returned as it
// was, when it does not read as the property's kind.
func (e *element) normalise(s scalar, arena *[]byte) (_ scalar, ok bool) {
	if s.kind == nullToken || s.kind >= objectToken && s.kind != columnToken {
		return s, false
	}
	switch e.Kind {
	case String, Descriptor:
		if s.kind == boolToken || s.kind == numberToken && e.Kind == Descriptor {
			return s, false
		}
		return scalar{stringToken, s.text}, true
	case Boolean:
		text, ok := normalBoolean(s, arena)
		if !ok {
			return s, false
		}
		return scalar{boolToken, text}, true
	case Integer, Long, Decimal:
		if s.kind == boolToken {
			return s, false
		}
		text, ok := normalNumber(s.text, arena)
		if !ok || e.Kind != Decimal && bytes.IndexByte(text, '.') >= 0 {
			return s, false
		}
		return scalar{numberToken, text}, true
	}
	if s.kind == boolToken || s.kind == numberToken {
		return s, false
	}
	var text []byte
	switch e.Kind {
	case Date:
		text, ok = normalDate(s.text)
	case DateTime:
		text, ok = normalDateTime(s.text, arena)
	case Time:
		text, ok = normalTime(s.text, arena)
	}
	if !ok {
		return s, false
	}
	return scalar{stringToken, text}, true
}

// normalBoolean reads the spellings of SQL engines as true or false.
func normalBoolean(s scalar, arena *[]byte) ([]byte, bool) {
	if s.kind == boolToken {
		return s.text, true
	}
	value, ok := readBoolean(s.text)
	if !ok {
		return nil, false
	}
	begin := len(*arena)
	*arena = strconv.AppendBool(*arena, value)
	return (*arena)[begin:len(*arena):len(*arena)], true
}

// readBoolean reads t/f (PostgreSQL), 1/0 (SQLite, MariaDB), true/false, Y/N, without case, and the single byte of a MySQL BIT(1).
func readBoolean(text []byte) (value, ok bool) {
	switch len(text) {
	case 1:
		switch text[0] {
		case '1', 't', 'T', 'y', 'Y', 1:
			return true, true
		case '0', 'f', 'F', 'n', 'N', 0:
			return false, true
		}
	case 4:
		return true, bytes.EqualFold(text, []byte("true"))
	case 5:
		return false, bytes.EqualFold(text, []byte("false"))
	}
	return false, false
}

// mostDigits bounds a number's digits, so that 1e999999 is refused and not written out.
const mostDigits = 60

// normalNumber returns a number in its shortest form without an exponent: "-0.50" is "-0.5", "1e3" is "1000", "-0" is "0". It copies only
// when the form is not part of the text.
func normalNumber(text []byte, arena *[]byte) ([]byte, bool) {
	rest := text
	negative := len(rest) > 0 && rest[0] == '-'
	if negative {
		rest = rest[1:]
	}
	whole := leadingDigits(rest)
	rest = rest[len(whole):]
	if len(rest) == 0 && isPlain(whole) && !(negative && whole[0] == '0') {
		return text, true
	}
	var fraction []byte
	if len(rest) > 0 && rest[0] == '.' {
		fraction = leadingDigits(rest[1:])
		rest = rest[1+len(fraction):]
		if len(rest) == 0 && isPlain(whole) && len(fraction) <= mostDigits/2 {
			if short := trimZeros(text); len(short) > len(whole)+1 || !negative || whole[0] != '0' {
				return short, true
			}
		}
	}
	exponent, ok := readExponent(rest)
	if !ok || len(whole)+len(fraction) == 0 {
		return nil, false
	}
	begin := len(*arena)
	*arena = appendDecimal(*arena, negative, whole, fraction, exponent)
	if len(*arena) == begin {
		return nil, false
	}
	return (*arena)[begin:len(*arena):len(*arena)], true
}

// isPlain says whether the digits before the point are in shortest form, and not too many.
func isPlain(whole []byte) bool {
	return len(whole) == 1 || len(whole) > 1 && len(whole) <= mostDigits/2 && whole[0] != '0'
}

// trimZeros cuts the zeros after the last digit of a fraction, and the point when none is left.
func trimZeros(text []byte) []byte {
	n := len(text)
	for text[n-1] == '0' {
		n--
	}
	if text[n-1] == '.' {
		n--
	}
	return text[:n:n]
}

func leadingDigits(text []byte) []byte {
	n := 0
	for n < len(text) && text[n]-'0' <= 9 {
		n++
	}
	return text[:n]
}

func readExponent(text []byte) (int, bool) {
	if len(text) == 0 {
		return 0, true
	}
	if text[0]|0x20 != 'e' {
		return 0, false
	}
	text = text[1:]
	sign := 1
	if len(text) > 0 && (text[0] == '-' || text[0] == '+') {
		if text[0] == '-' {
			sign = -1
		}
		text = text[1:]
	}
	if len(text) == 0 || len(text) > 4 || len(leadingDigits(text)) != len(text) {
		return 0, false
	}
	value := 0
	for _, c := range text {
		value = value*10 + int(c-'0')
	}
	return sign * value, true
}

// appendDecimal appends whole.fraction × 10^exponent in shortest form, or nothing when that has more than mostDigits digits.
func appendDecimal(dst []byte, negative bool, whole, fraction []byte, exponent int) []byte {
	digit := func(i int) byte {
		if i < len(whole) {
			return whole[i]
		}
		return fraction[i-len(whole)]
	}
	from, to := 0, len(whole)+len(fraction)
	point := len(whole) + exponent // digits before it are the integer part
	for from < to && digit(from) == '0' {
		from++
	}
	for to > from && digit(to-1) == '0' {
		to--
	}
	if from == to {
		return append(dst, '0')
	}
	if max(to, point)-min(from, point) > mostDigits {
		return dst
	}
	if negative {
		dst = append(dst, '-')
	}
	if point <= from {
		dst = append(dst, '0')
	}
	for i := from; i < point; i++ {
		if i < to {
			dst = append(dst, digit(i))
		} else {
			dst = append(dst, '0')
		}
	}
	if to <= point {
		return dst
	}
	dst = append(dst, '.')
	for i := point; i < from; i++ {
		dst = append(dst, '0')
	}
	for i := max(from, point); i < to; i++ {
		dst = append(dst, digit(i))
	}
	return dst
}

// normalDate returns the yyyy-MM-dd of a date. A time part of exactly midnight UTC or without zone is what databases add to a date and is
// cut off; any other time part means that the column is no date.
func normalDate(text []byte) ([]byte, bool) {
	if len(text) < 10 || !validDate(text[:10]) {
		return nil, false
	}
	if len(text) == 10 {
		return text, true
	}
	if text[10] != 'T' && text[10] != ' ' {
		return nil, false
	}
	c, rest, ok := readClock(text[11:])
	if !ok || c != (clock{}) {
		return nil, false
	}
	offset, ok := readZone(rest)
	if !ok || offset != 0 {
		return nil, false
	}
	return text[:10:10], true
}

// validDate says whether text is a day of the calendar from 0001-01-01 to 9999-12-31, as yyyy-MM-dd.
func validDate(text []byte) bool {
	if len(text) != 10 || text[4] != '-' || text[7] != '-' {
		return false
	}
	year := twoDigits(text)*100 + twoDigits(text[2:])
	month, day := twoDigits(text[5:]), twoDigits(text[8:])
	if year < 1 || month < 1 || month > 12 || day < 1 {
		return false
	}
	if day <= 28 {
		return true
	}
	switch month {
	case 2:
		return day == 29 && year%4 == 0 && (year%100 != 0 || year%400 == 0)
	case 4, 6, 9, 11:
		return day <= 30
	}
	return day <= 31
}

// twoDigits reads two digits, and returns a number below -9000 when they are not digits.
func twoDigits(text []byte) int {
	tens, ones := text[0]-'0', text[1]-'0'
	if tens > 9 || ones > 9 {
		return -1 << 20
	}
	return int(tens)*10 + int(ones)
}

// clock is a time of day. fraction is the digits after the point without trailing zeros.
type clock struct {
	hour, minute, second int
	fraction             string
}

// readClock reads HH:mm[:ss[.fraction]] and returns what follows.
func readClock(text []byte) (c clock, rest []byte, ok bool) {
	if len(text) < 5 || text[2] != ':' {
		return c, text, false
	}
	c.hour, c.minute = twoDigits(text), twoDigits(text[3:])
	rest = text[5:]
	if len(rest) >= 3 && rest[0] == ':' {
		c.second = twoDigits(rest[1:])
		rest = rest[3:]
		if len(rest) > 1 && rest[0] == '.' {
			digits := leadingDigits(rest[1:])
			if len(digits) == 0 || len(digits) > 9 {
				return c, rest, false
			}
			rest = rest[1+len(digits):]
			if significant := bytes.TrimRight(digits, "0"); len(significant) > 0 {
				c.fraction = string(significant)
			}
		}
	}
	inRange := func(n, limit int) bool { return n >= 0 && n < limit }
	return c, rest, inRange(c.hour, 24) && inRange(c.minute, 60) && inRange(c.second, 60)
}

// readZone reads the rest of a time: nothing, Z, or ±hh, ±hhmm, ±hh:mm, after at most one space. It returns the seconds east of UTC.
func readZone(text []byte) (offset int, ok bool) {
	if len(text) > 1 && text[0] == ' ' {
		text = text[1:]
	}
	if len(text) == 0 || len(text) == 1 && text[0] == 'Z' {
		return 0, true
	}
	sign := 1
	switch text[0] {
	case '-':
		sign = -1
	case '+':
	default:
		return 0, false
	}
	text = text[1:]
	minutes := 0
	switch {
	case len(text) == 2:
	case len(text) == 4:
		minutes = twoDigits(text[2:])
	case len(text) == 5 && text[2] == ':':
		minutes = twoDigits(text[3:])
	default:
		return 0, false
	}
	hours := twoDigits(text)
	if hours < 0 || hours > 14 || minutes < 0 || minutes > 59 {
		return 0, false
	}
	return sign * (hours*3600 + minutes*60), true
}

// normalDateTime returns a moment as yyyy-MM-ddTHH:mm:ss[.fraction]Z. No zone means UTC, as in the ODS; no time means midnight.
func normalDateTime(text []byte, arena *[]byte) ([]byte, bool) {
	if len(text) < 10 || !validDate(text[:10]) {
		return nil, false
	}
	var c clock
	offset := 0
	if len(text) > 10 {
		var ok bool
		var rest []byte
		if text[10] != 'T' && text[10] != ' ' {
			return nil, false
		}
		if c, rest, ok = readClock(text[11:]); !ok {
			return nil, false
		}
		if offset, ok = readZone(rest); !ok {
			return nil, false
		}
	}
	year := twoDigits(text)*100 + twoDigits(text[2:])
	at := time.Date(year, time.Month(twoDigits(text[5:])), twoDigits(text[8:]), c.hour, c.minute, c.second-offset, 0, time.UTC)
	if at.Year() < 1 || at.Year() > 9999 {
		return nil, false
	}
	begin := len(*arena)
	*arena = at.AppendFormat(*arena, "2006-01-02T15:04:05")
	if c.fraction != "" {
		*arena = append(append(*arena, '.'), c.fraction...)
	}
	*arena = append(*arena, 'Z')
	return (*arena)[begin:len(*arena):len(*arena)], true
}

// normalTime returns a time of day as HH:mm:ss. A zone is converted to UTC as the ODS does, so mappings should send local time without
// one. The date 0000-01-01 before it is how Go's drivers print a time of day.
func normalTime(text []byte, arena *[]byte) ([]byte, bool) {
	const noDay = "0000-01-01"
	if len(text) > len(noDay) && string(text[:len(noDay)]) == noDay && (text[len(noDay)] == 'T' || text[len(noDay)] == ' ') {
		text = text[len(noDay)+1:]
	}
	c, rest, ok := readClock(text)
	if !ok || c.fraction != "" {
		return nil, false
	}
	offset, ok := readZone(rest)
	if !ok {
		return nil, false
	}
	if offset == 0 && len(text)-len(rest) >= 8 {
		return text[:8:8], true
	}
	const day = 24 * 3600
	s := ((c.hour*3600+c.minute*60+c.second-offset)%day + day) % day
	begin := len(*arena)
	*arena = append(*arena,
		byte('0'+s/36000), byte('0'+s/3600%10), ':', byte('0'+s/600%6), byte('0'+s/60%10), ':', byte('0'+s%60/10), byte('0'+s%10))
	return (*arena)[begin:len(*arena):len(*arena)], true
}
