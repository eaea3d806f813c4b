package source

import (
	"bytes"
	"database/sql/driver"
	"encoding/hex"
	"fmt"
	"strconv"
	"time"
)

// BatchRows is the most rows a batch holds. A batch of wide rows ends earlier, at batchBytes of text, so that memory stays bounded (I21).
const BatchRows = 1024

const batchBytes = 1 << 20

// Batch is a piece of a result: the text of each cell in one arena that the next Next reuses. The zero value is ready for Next. Reading a
// batch from several goroutines is fine; filling it is Next's business.
type Batch struct {
	width int
	rows  int
	arena []byte
	ends  []int32 // per cell where its text ends in arena; null for NULL
	cells [][]byte
}

const null int32 = -1

// maxArena bounds a batch to what ends can count. Only a single row of this size gets there.
const maxArena = 1 << 30

// Len is the number of rows.
func (b *Batch) Len() int { return b.rows }

// Row is the text of row i, a cell per column as Rows.Columns names them, nil for NULL. It is valid until the next Next.
func (b *Batch) Row(i int) [][]byte {
	return b.cells[i*b.width : (i+1)*b.width : (i+1)*b.width]
}

// reset empties the batch for rows of width cells. An arena that one huge row has blown up is not kept.
func (b *Batch) reset(width int) {
	b.width, b.rows = width, 0
	if cap(b.arena) == 0 || cap(b.arena) > 4*batchBytes {
		b.arena = make([]byte, 0, 64<<10)
	}
	b.arena, b.ends = b.arena[:0], b.ends[:0]
}

// Fill makes the batch hold copies of these rows, each of width cells, nil for NULL: for rows that come from no database (simulations). It
// is what Next does, and ends what was read from the batch before.
func (b *Batch) Fill(width int, rows [][][]byte) {
	if n := width * len(rows); cap(b.cells) < n { // as many as there are: finish would make room for a whole batch
		b.cells, b.arena = make([][]byte, 0, n), make([]byte, 0, 32*n)
	}
	b.reset(width)
	for _, row := range rows {
		for _, cell := range row[:width] {
			if cell == nil {
				b.ends = append(b.ends, null)
				continue
			}
			b.arena = append(b.arena, cell...)
			b.ends = append(b.ends, int32(len(b.arena))) //nolint:gosec // far below maxArena
		}
	}
	b.rows = len(rows)
	b.finish()
}

func (b *Batch) full() bool { return b.rows == BatchRows || len(b.arena) >= batchBytes }

// finish makes the cells, when the arena no longer moves.
func (b *Batch) finish() {
	if cap(b.cells) < len(b.ends) {
		b.cells = make([][]byte, len(b.ends), max(len(b.ends), BatchRows*b.width))
	}
	b.cells = b.cells[:len(b.ends)]
	start := int32(0)
	for i, end := range b.ends {
		if end == null {
			b.cells[i] = nil
			continue
		}
		b.cells[i] = b.arena[start:end:end]
		start = end
	}
}

// format says how a column's values become text, beyond what their Go type says.
type format uint8

const (
	asIs         format = iota
	dateOnly            // time.Time of a date column: 2026-08-17
	timeOnly            // time.Time of a time column: 08:05:00
	dateTimeText        // "2026-08-17 08:05:00.000000" as MySQL writes it: RFC 3339, UTC
	bitField            // big-endian bytes of MySQL's BIT: a number
	guid                // 16 bytes of SQL Server's uniqueidentifier: its usual text
)

// appendCell adds the text of one value. The rules are those of docs/mapping-guide.md, "Values"; they make the databases agree.
func (b *Batch) appendCell(v driver.Value, f format) {
	switch v := v.(type) {
	case nil:
		b.ends = append(b.ends, null)
		return
	case string:
		if f == dateTimeText {
			b.arena = appendDateTimeText(b.arena, []byte(v))
		} else {
			b.arena = append(b.arena, v...)
		}
	case int64:
		b.arena = strconv.AppendInt(b.arena, v, 10)
	case []byte:
		b.appendBytes(v, f)
	case time.Time:
		b.arena = appendTime(b.arena, v, f)
	case bool:
		b.arena = strconv.AppendBool(b.arena, v)
	case float64:
		b.arena = strconv.AppendFloat(b.arena, v, 'f', -1, 64)
	case float32:
		b.arena = strconv.AppendFloat(b.arena, float64(v), 'f', -1, 32)
	case uint64:
		b.arena = strconv.AppendUint(b.arena, v, 10)
	default:
		b.arena = fmt.Append(b.arena, v)
	}
	b.ends = append(b.ends, int32(len(b.arena))) //nolint:gosec // Rows stops at maxArena
}

func (b *Batch) appendBytes(v []byte, f format) {
	switch {
	case f == dateTimeText:
		b.arena = appendDateTimeText(b.arena, v)
	case f == bitField && len(v) <= 8:
		var n uint64
		for _, c := range v {
			n = n<<8 | uint64(c)
		}
		b.arena = strconv.AppendUint(b.arena, n, 10)
	case f == guid && len(v) == 16:
		b.arena = appendGUID(b.arena, v)
	default:
		b.arena = append(b.arena, v...)
	}
}

// appendTime writes a time.Time. A date that has a time of day is written with it, so that the model's check sees it (I12).
func appendTime(dst []byte, t time.Time, f format) []byte {
	if f == timeOnly {
		return t.AppendFormat(dst, "15:04:05.999999999")
	}
	if f != dateOnly {
		return t.UTC().AppendFormat(dst, time.RFC3339Nano)
	}
	if h, m, s := t.Clock(); h|m|s|t.Nanosecond() != 0 {
		return t.AppendFormat(dst, time.RFC3339Nano)
	}
	y, m, d := t.Date()
	if y < 0 || y > 9999 {
		return t.AppendFormat(dst, time.DateOnly)
	}
	return append(dst, // by hand: AppendFormat takes a tenth of the time of reading a row with one date
		'0'+byte(y/1000), '0'+byte(y/100%10), '0'+byte(y/10%10), '0'+byte(y%10), '-',
		'0'+byte(m/10), '0'+byte(m%10), '-', '0'+byte(d/10), '0'+byte(d%10))
}

// appendDateTimeText turns "2026-08-17 08:05:00.500000" into "2026-08-17T08:05:00.5Z"; any other shape passes as it is.
func appendDateTimeText(dst, v []byte) []byte {
	if len(v) < 19 || v[10] != ' ' || v[13] != ':' || v[16] != ':' || (len(v) > 19 && v[19] != '.') {
		return append(dst, v...)
	}
	end := len(v)
	if end > 19 {
		end = 19 + len(bytes.TrimRight(v[19:], "0."))
	}
	dst = append(dst, v[:10]...)
	dst = append(dst, 'T')
	dst = append(dst, v[11:end]...)
	return append(dst, 'Z')
}

// appendGUID writes a uniqueidentifier as SQL Server shows it: its first three groups are stored little-endian.
func appendGUID(dst, v []byte) []byte {
	for i, k := range [16]int{3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15} {
		if i == 4 || i == 6 || i == 8 || i == 10 {
			dst = append(dst, '-')
		}
		dst = hex.AppendEncode(dst, v[k:k+1])
	}
	return dst
}
