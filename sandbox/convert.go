package sandbox

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/edfisync/edfisync/schema"
)

// convert turns the text of s into a value of p's kind. It returns what the ODS says when it cannot.
func (d *draft) convert(p *prop, s *slot, quoted bool) string {
	text := d.text(s)
	switch p.Kind {
	case schema.Boolean:
		return convertBoolean(text, s)
	case schema.Integer, schema.Long:
		return convertInteger(p, text, s)
	case schema.Decimal:
		return d.convertDecimal(p, text, s)
	case schema.Date:
		days, ok := parseDate(text)
		if !ok || !quoted {
			return "String was not recognized as a valid date."
		}
		s.num = days
	case schema.DateTime:
		t, ok := parseDateTime(string(text))
		if !ok || !quoted {
			return "String was not recognized as a valid DateTime."
		}
		s.num = int64(ticksOf(t))
	case schema.Time:
		sec, ok := parseTime(text)
		if !ok || !quoted {
			return fmt.Sprintf("Unexpected time value format found '%s'.", text)
		}
		s.num = sec
	}
	return ""
}

func convertBoolean(text []byte, s *slot) string {
	switch {
	case bytes.EqualFold(text, []byte("true")), string(text) == "1":
		s.num = 1
	case bytes.EqualFold(text, []byte("false")), string(text) == "0":
		s.num = 0
	default:
		return fmt.Sprintf("Could not convert string to boolean: %s.", text)
	}
	return ""
}

func convertInteger(p *prop, text []byte, s *slot) string {
	n, ok := parseInteger(text)
	switch {
	case p.Kind == schema.Long && !ok:
		return fmt.Sprintf("Error converting value %s to type 'System.Int64'.", text)
	case !ok && isDigits(text), ok && p.Kind == schema.Integer && n != int64(int32(n)):
		return fmt.Sprintf("JSON integer %s is too large or small for an Int32.", text)
	case !ok:
		return fmt.Sprintf("Could not convert string to integer: %s.", text)
	}
	s.num = n
	return ""
}

func isDigits(text []byte) bool {
	text = bytes.TrimPrefix(text, []byte("-"))
	for _, c := range text {
		if c < '0' || c > '9' {
			return false
		}
	}
	return len(text) > 0
}

// parseInteger reads digits, or 0x and hexadecimal digits (Json.NET takes both, also in quotes).
func parseInteger(text []byte) (n int64, ok bool) {
	if len(text) > 0 && len(text) < 19 { // cannot overflow
		neg := text[0] == '-'
		digits := text
		if neg {
			digits = text[1:]
		}
		for _, c := range digits {
			if c < '0' || c > '9' {
				digits = nil
				break
			}
			n = n*10 + int64(c-'0')
		}
		if len(digits) > 0 {
			if neg {
				n = -n
			}
			return n, true
		}
	}
	t := strings.TrimSpace(string(text))
	var err error
	if hex, is := strings.CutPrefix(strings.ToLower(t), "0x"); is {
		n, err = strconv.ParseInt(hex, 16, 64)
	} else {
		n, err = strconv.ParseInt(t, 10, 64)
	}
	return n, err == nil
}

// convertDecimal brings a number to plain digits without leading or trailing zeros, rounded to the column's scale as the database rounds.
func (d *draft) convertDecimal(p *prop, text []byte, s *slot) string {
	neg, whole, frac, exp, ok := splitDecimal(text)
	if !ok {
		return fmt.Sprintf("Could not convert string to decimal: %s.", text)
	}
	limited := p.Precision > 0 && p.Scale >= 0
	if exp == 0 && (!limited || len(frac) <= p.Scale) {
		s.lo, s.hi = trimDecimal(d.body, s.lo, s.hi)
		if limited && len(whole) > p.Precision-p.Scale {
			return rangeText(p)
		}
		return ""
	}
	if exp < -400 || exp > 400 {
		return fmt.Sprintf("Could not convert string to decimal: %s.", text)
	}
	digits := string(whole) + string(frac)
	point := len(whole) + exp
	if point < 0 {
		digits, point = strings.Repeat("0", -point)+digits, 0
	}
	if point > len(digits) {
		digits += strings.Repeat("0", point-len(digits))
	}
	if limited && len(digits)-point > p.Scale {
		digits, point = roundDigits(digits, point, p.Scale)
	}
	lo := len(d.body)
	if neg {
		d.body = append(d.body, '-')
	}
	d.body = append(append(append(append(d.body, '0'), digits[:point]...), '.'), digits[point:]...)
	s.lo, s.hi = trimDecimal(d.body, uint32(lo), uint32(len(d.body)))
	if limited && len(strings.TrimLeft(digits[:point], "0")) > p.Precision-p.Scale {
		return rangeText(p)
	}
	return ""
}

func rangeText(p *prop) string {
	limit := strings.Repeat("9", max(1, p.Precision-p.Scale))
	if p.Scale > 0 {
		limit += "." + strings.Repeat("9", p.Scale)
	}
	return fmt.Sprintf("%s must be between -%s and %s.", p.title, limit, limit)
}

// splitDecimal takes a number apart: digits before the point without leading zeros, digits after it, exponent.
func splitDecimal(text []byte) (neg bool, whole, frac []byte, exp int, ok bool) {
	text = bytes.TrimSpace(text)
	if len(text) > 0 && text[0] == '-' {
		neg, text = true, text[1:]
	}
	if i := bytes.IndexAny(text, "eE"); i >= 0 {
		var err error
		if exp, err = strconv.Atoi(string(text[i+1:])); err != nil {
			return
		}
		text = text[:i]
	}
	whole, frac, _ = bytes.Cut(text, []byte{'.'})
	for _, part := range [][]byte{whole, frac} {
		for _, c := range part {
			if c < '0' || c > '9' {
				return
			}
		}
	}
	ok = len(whole) > 0
	return neg, bytes.TrimLeft(whole, "0"), frac, exp, ok
}

// roundDigits rounds half away from zero to scale digits after the point.
func roundDigits(digits string, point, scale int) (string, int) {
	keep := []byte(digits[:point+scale])
	up := digits[point+scale] >= '5'
	for i := len(keep) - 1; up && i >= 0; i-- {
		if keep[i] == '9' {
			keep[i] = '0'
			continue
		}
		keep[i]++
		up = false
	}
	if up {
		return "1" + string(keep), point + 1
	}
	return string(keep), point
}

// trimDecimal narrows a plain number to its shortest form. A minus sign in front of dropped zeros moves with the digits.
func trimDecimal(body []byte, lo, hi uint32) (uint32, uint32) {
	neg := body[lo] == '-'
	if neg {
		lo++
	}
	for hi-lo > 1 && body[lo] == '0' && body[lo+1] != '.' {
		lo++
	}
	if bytes.IndexByte(body[lo:hi], '.') >= 0 {
		for body[hi-1] == '0' {
			hi--
		}
		if body[hi-1] == '.' {
			hi--
		}
	}
	if neg && !(hi-lo == 1 && body[lo] == '0') {
		lo--
		body[lo] = '-'
	}
	return lo, hi
}

// ticks is a point in time as .NET counts: 100 ns since the start of year 1.
type ticks int64

const (
	ticksPerSecond = int64(time.Second / 100)
	unixEpochTicks = 621355968000000000
	utcKind        = 1 << 62 // DateTime.ToBinary marks UTC so
)

func ticksOf(t time.Time) ticks {
	return ticks(t.Unix()*ticksPerSecond + int64(t.Nanosecond()/100) + unixEpochTicks)
}

func (t ticks) time() time.Time {
	n := int64(t) - unixEpochTicks
	sec := n / ticksPerSecond
	rest := n % ticksPerSecond
	return time.Unix(sec, rest*100).UTC()
}

// appendTime prints a date-time as the ODS does: UTC, fraction without trailing zeros.
func (t ticks) appendTime(dst []byte) []byte {
	return t.time().AppendFormat(dst, "2006-01-02T15:04:05.9999999Z")
}

// appendETag prints the version of a record that was last changed at t.
func (t ticks) appendETag(dst []byte) []byte { return strconv.AppendInt(dst, int64(t)|utcKind, 10) }

func twoDigits(b []byte) (int, bool) {
	if b[0] < '0' || b[0] > '9' || b[1] < '0' || b[1] > '9' {
		return 0, false
	}
	return int(b[0]-'0')*10 + int(b[1]-'0'), true
}

// parseDate reads yyyy-MM-dd as days since 1970-01-01.
func parseDate(b []byte) (int64, bool) {
	if len(b) != 10 || b[4] != '-' || b[7] != '-' {
		return 0, false
	}
	hi, ok1 := twoDigits(b)
	lo, ok2 := twoDigits(b[2:])
	month, ok3 := twoDigits(b[5:])
	day, ok4 := twoDigits(b[8:])
	if !(ok1 && ok2 && ok3 && ok4) || month < 1 || month > 12 || day < 1 {
		return 0, false
	}
	t := time.Date(hi*100+lo, time.Month(month), day, 0, 0, 0, 0, time.UTC)
	if t.Day() != day || t.Year() == 0 {
		return 0, false
	}
	return t.Unix() / 86400, true
}

func appendDate(dst []byte, days int64) []byte {
	return time.Unix(days*86400, 0).UTC().AppendFormat(dst, "2006-01-02")
}

// parseDateTime reads ISO 8601; without a zone it is UTC.
func parseDateTime(s string) (time.Time, bool) {
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05", "2006-01-02T15:04Z07:00", "2006-01-02T15:04", "2006-01-02 15:04:05", time.DateOnly} {
		if t, err := time.Parse(layout, s); err == nil {
			return t.UTC(), true
		}
	}
	return time.Time{}, false
}

// parseTime reads HH:mm[:ss] with an optional zone as seconds since midnight UTC.
func parseTime(b []byte) (int64, bool) {
	clock := func(b []byte) (sec int64, n int, ok bool) {
		if len(b) < 5 || b[2] != ':' {
			return 0, 0, false
		}
		h, ok1 := twoDigits(b)
		m, ok2 := twoDigits(b[3:])
		if !ok1 || !ok2 || h > 23 || m > 59 {
			return 0, 0, false
		}
		if len(b) < 8 || b[5] != ':' {
			return int64(h*3600 + m*60), 5, true
		}
		s, ok3 := twoDigits(b[6:])
		return int64(h*3600 + m*60 + s), 8, ok3 && s < 60
	}
	sec, n, ok := clock(b)
	if !ok {
		return 0, false
	}
	switch zone := b[n:]; {
	case len(zone) == 0, string(zone) == "Z":
		return sec, true
	case zone[0] == '+' || zone[0] == '-':
		digits := zone[1:]
		if len(digits) == 2 {
			digits = append(append([]byte(nil), digits...), ":00"...)
		}
		offset, n, ok := clock(digits)
		if !ok || n != 5 || len(digits) != 5 {
			return 0, false
		}
		if zone[0] == '+' {
			offset = -offset
		}
		return ((sec+offset)%86400 + 86400) % 86400, true
	}
	return 0, false
}

func appendClock(dst []byte, sec int64) []byte {
	two := func(n int64) { dst = append(dst, byte('0'+n/10), byte('0'+n%10)) }
	two(sec / 3600)
	dst = append(dst, ':')
	two(sec / 60 % 60)
	dst = append(dst, ':')
	two(sec % 60)
	return dst
}

func appendText(dst, text []byte) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(text))), text...)
}
