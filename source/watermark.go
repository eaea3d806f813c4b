package source

import (
	"context"
	"database/sql"
	"fmt"
	"math/big"
	"strconv"
	"strings"
	"time"

	"github.com/jmoiron/sqlx"
)

// The kinds of watermarks; each begins with its name and a colon.
const (
	markPack    = "pack"    // the value of the pack's own query
	markLSN     = "lsn"     // PostgreSQL: system identifier, timeline, position in the write-ahead log
	markGTID    = "gtid"    // MySQL: the set of transactions executed
	markMariaDB = "mariadb" // MariaDB: the last transaction of each domain
	markBinlog  = "binlog"  // MySQL and MariaDB without GTIDs: server, file, position
)

// Watermark says how new the state is that the snapshot shows, for Behind to compare; "" when neither the pack nor the database tells. It was
// read just before the snapshot was taken, so that the state is at least as new.
func (s *Snapshot) Watermark() string { return s.mark }

// readMark reads the database's own watermark. A database that does not tell, or not to this account, has none.
func (d *DB) readMark(ctx context.Context, conn *sqlx.Conn) string {
	switch d.cfg.Driver {
	case Postgres:
		return postgresMark(ctx, conn)
	case MySQL:
		return mysqlMark(ctx, conn)
	}
	return "" // SQLite and SQL Server tell nothing that can be compared: docs/mapping-guide.md
}

func postgresMark(ctx context.Context, conn *sqlx.Conn) string {
	var mark sql.NullString
	err := conn.GetContext(ctx, &mark, `select (select system_identifier from pg_control_system())::text || ':' ||
		(select timeline_id from pg_control_checkpoint())::text || ':' ||
		(case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_lsn() end)::text`)
	if err != nil || !mark.Valid {
		return ""
	}
	return markLSN + ":" + mark.String
}

func mysqlMark(ctx context.Context, conn *sqlx.Conn) string {
	for _, ask := range []struct{ kind, query string }{
		{markGTID, "select @@global.gtid_executed"}, {markMariaDB, "select @@global.gtid_current_pos"},
	} {
		var set sql.NullString
		if err := conn.GetContext(ctx, &set, ask.query); err == nil && strings.TrimSpace(set.String) != "" {
			return ask.kind + ":" + strings.Join(strings.Fields(set.String), "")
		}
	}
	var server string
	if err := conn.GetContext(ctx, &server, "select concat(@@hostname, '/', @@port, '/', @@server_id)"); err != nil {
		return ""
	}
	for _, query := range []string{"show binary log status", "show master status"} {
		if file, position, ok := binlogAt(ctx, conn, query); ok {
			return strings.Join([]string{markBinlog, server, file, position}, ":")
		}
	}
	return ""
}

// binlogAt reads the first two columns of the status: file and position.
func binlogAt(ctx context.Context, conn *sqlx.Conn, query string) (file, position string, ok bool) {
	rows, err := conn.QueryxContext(ctx, query)
	if err != nil {
		return "", "", false
	}
	defer rows.Close()
	if !rows.Next() {
		return "", "", false
	}
	values, err := rows.SliceScan()
	if err != nil || len(values) < 2 || rows.Err() != nil {
		return "", "", false
	}
	return markText(values[0]), markText(values[1]), true
}

// packMark runs the pack's own query in the snapshot. It gives one value, which grows with every change; none counts as the oldest.
func (d *DB) packMark(ctx context.Context, conn *sqlx.Conn, q *Query) (string, error) {
	text, args, err := d.Statement(q)
	if err != nil {
		return "", &Error{Op: "run", File: q.File, Err: err}
	}
	rows, err := conn.QueryxContext(ctx, text, args...)
	if err != nil {
		return "", d.failure("run", q.File, err)
	}
	defer rows.Close()
	value := ""
	if rows.Next() {
		values, err := rows.SliceScan()
		if err == nil && len(values) != 1 {
			err = fmt.Errorf("a watermark is one column, and this query has %d", len(values))
		}
		if err != nil {
			return "", d.failure("run", q.File, err)
		}
		value = markText(values[0])
	}
	if rows.Next() {
		return "", &Error{Op: "run", File: q.File, Err: fmt.Errorf("a watermark is one row, and this query has more")}
	}
	if err := rows.Err(); err != nil {
		return "", d.failure("run", q.File, err)
	}
	return markPack + ":" + value, nil
}

// markText is a value so that later ones compare greater.
func markText(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case []byte:
		return string(v)
	case time.Time:
		return v.UTC().Format("2006-01-02T15:04:05.000000000Z")
	default:
		return fmt.Sprint(v)
	}
}

// Behind reports whether a watermark is of an older state than the last one: the source went back, or another copy of it was read that has not
// caught up (F40). Watermarks of different kinds or servers cannot be compared; then it is not behind.
func Behind(last, now string) bool {
	kind, before, _ := strings.Cut(last, ":")
	kindNow, after, ok := strings.Cut(now, ":")
	if !ok || kind != kindNow {
		return false
	}
	switch kind {
	case markPack:
		return lessMark(after, before)
	case markLSN:
		return lessLSN(after, before)
	case markGTID:
		return !gtidsContain(after, before)
	case markMariaDB:
		return lessDomains(after, before)
	case markBinlog:
		return lessBinlog(after, before)
	}
	return false
}

// lessMark compares two values as numbers when both are, else as text. No value is less than any.
func lessMark(a, b string) bool {
	if a == "" || b == "" {
		return a == "" && b != ""
	}
	x, isX := decimal(a)
	y, isY := decimal(b)
	if isX && isY {
		return x.Cmp(y) < 0
	}
	return a < b
}

// decimal reads a plain number: no exponent, whose value could be too large to hold.
func decimal(text string) (*big.Rat, bool) {
	if len(text) > 100 || strings.Trim(text, "+-.0123456789") != "" {
		return nil, false
	}
	return new(big.Rat).SetString(text)
}

// lessLSN compares "system:timeline:X/Y". A restored server has a new timeline and a lower position; an old primary an older timeline.
func lessLSN(a, b string) bool {
	x, y := strings.Split(a, ":"), strings.Split(b, ":")
	if len(x) != 3 || len(y) != 3 || x[0] != y[0] {
		return false
	}
	timelineX, errX := strconv.ParseUint(x[1], 10, 64)
	timelineY, errY := strconv.ParseUint(y[1], 10, 64)
	if errX != nil || errY != nil {
		return false
	}
	positionX, okX := parseLSN(x[2])
	positionY, okY := parseLSN(y[2])
	return okX && okY && (timelineX < timelineY || positionX < positionY)
}

func parseLSN(text string) (uint64, bool) {
	high, low, ok := strings.Cut(text, "/")
	h, errH := strconv.ParseUint(high, 16, 32)
	l, errL := strconv.ParseUint(low, 16, 32)
	return h<<32 | l, ok && errH == nil && errL == nil
}

// gtidsContain reports whether every transaction of the set b ("uuid:1-5:7,uuid:tag:1-3") is in a.
func gtidsContain(a, b string) bool {
	has := parseGTIDs(a)
	for source, wanted := range parseGTIDs(b) {
		for _, w := range wanted {
			in := false
			for _, h := range has[source] {
				in = in || h[0] <= w[0] && w[1] <= h[1]
			}
			if !in {
				return false
			}
		}
	}
	return true
}

// parseGTIDs lists the ranges of each source and tag. MySQL prints them merged and sorted.
func parseGTIDs(set string) map[string][][2]uint64 {
	out := map[string][][2]uint64{}
	for part := range strings.SplitSeq(set, ",") {
		fields := strings.Split(part, ":")
		source := fields[0]
		for _, field := range fields[1:] {
			from, to, isRange := strings.Cut(field, "-")
			first, err := strconv.ParseUint(from, 10, 64)
			if err != nil {
				source = fields[0] + ":" + field // a tag
				continue
			}
			last := first
			if isRange {
				if last, err = strconv.ParseUint(to, 10, 64); err != nil {
					continue
				}
			}
			out[source] = append(out[source], [2]uint64{first, last})
		}
	}
	return out
}

// lessDomains compares "domain-server-sequence,…": less when the last transaction of any domain is older.
func lessDomains(a, b string) bool {
	now := parseDomains(a)
	for domain, sequence := range parseDomains(b) {
		if now[domain] < sequence {
			return true
		}
	}
	return false
}

func parseDomains(position string) map[string]uint64 {
	out := map[string]uint64{}
	for part := range strings.SplitSeq(position, ",") {
		fields := strings.Split(part, "-")
		if len(fields) != 3 {
			continue
		}
		if n, err := strconv.ParseUint(fields[2], 10, 64); err == nil {
			out[fields[0]] = max(out[fields[0]], n)
		}
	}
	return out
}

// lessBinlog compares "server:file.000012:position".
func lessBinlog(a, b string) bool {
	x, y := strings.Split(a, ":"), strings.Split(b, ":")
	if len(x) != 3 || len(y) != 3 || x[0] != y[0] {
		return false
	}
	number := func(file string) (string, uint64, bool) {
		i := strings.LastIndex(file, ".")
		n, err := strconv.ParseUint(file[i+1:], 10, 64)
		return file[:max(i, 0)], n, i > 0 && err == nil
	}
	baseX, fileX, okX := number(x[1])
	baseY, fileY, okY := number(y[1])
	positionX, errX := strconv.ParseUint(x[2], 10, 64)
	positionY, errY := strconv.ParseUint(y[2], 10, 64)
	if !okX || !okY || errX != nil || errY != nil || baseX != baseY {
		return false
	}
	return fileX < fileY || fileX == fileY && positionX < positionY
}
