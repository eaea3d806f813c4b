package source

import (
	"database/sql"
	"errors"
	"io"
	"testing"

	"github.com/jmoiron/sqlx"

	"github.com/edfisync/edfisync/internal/dbtest"
)

// benchRows is how many attendance rows the benchmarks read.
const benchRows = 200_000

const benchQuery = `select a.id as "_key", a.student as "studentReference.studentUniqueId", a.school as "schoolReference.schoolId",
	a.day as "eventDate", a.session as "sessionReference.sessionName", a.year as "sessionReference.schoolYear",
	a.code as "attendanceEventCategoryDescriptor", a.reason as "attendanceEventReason" from attendance a`

const (
	benchTable  = `create table attendance (id bigint primary key, student text, school integer, day date, session text, year integer, code text, reason text)`
	benchFillPG = `insert into attendance select i, 'S' || (100000 + i / 10), 255901001 + i % 7, date '2026-08-17' + i % 180, '2026-2027 Fall Semester', 2027, 'A' || i % 5,
		case when i % 3 = 0 then 'Doctor appointment' end from generate_series(1, $1) i`
	benchFillLite = `with recursive n(i) as (select 1 union all select i+1 from n where i < ?) insert into attendance
		select i, 'S' || (100000 + i / 10), 255901001 + i % 7, date('2026-08-17', (i % 180) || ' days'), '2026-2027 Fall Semester', 2027, 'A' || i % 5,
		case when i % 3 = 0 then 'Doctor appointment' end from n`
)

func benchSQLite(b *testing.B) string {
	path, w := sqliteFile(b, benchTable)
	if _, err := w.ExecContext(b.Context(), benchFillLite, benchRows); err != nil {
		b.Fatal(err)
	}
	return path
}

func benchPostgres(b *testing.B) string {
	dsn := dbtest.Postgres(b)
	w, err := sql.Open("postgres", dsn)
	if err != nil {
		b.Fatal(err)
	}
	defer w.Close()
	exec(b, w, benchTable)
	if _, err := w.ExecContext(b.Context(), benchFillPG, benchRows); err != nil {
		b.Fatal(err)
	}
	exec(b, w, `analyze attendance`)
	return dsn
}

func BenchmarkRowsSQLite(b *testing.B) { benchmarkRows(b, Config{Driver: SQLite, DSN: benchSQLite(b)}) }
func BenchmarkRowsPostgres(b *testing.B) {
	benchmarkRows(b, Config{Driver: Postgres, DSN: benchPostgres(b)})
}

// benchmarkRows compares the package's rows with a bare loop of sqlx over the same query.
func benchmarkRows(b *testing.B, cfg Config) {
	d := open(b, cfg)
	b.Run("rows", func(b *testing.B) {
		b.ReportAllocs()
		cells := 0
		for b.Loop() {
			s, err := d.Snapshot(b.Context())
			if err != nil {
				b.Fatal(err)
			}
			r, err := s.Open(b.Context(), query(b, cfg.Driver, benchQuery))
			if err != nil {
				b.Fatal(err)
			}
			var batch Batch
			n := 0
			for {
				err := r.Next(b.Context(), &batch)
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil {
					b.Fatal(err)
				}
				for i := range batch.Len() {
					for _, c := range batch.Row(i) {
						cells += len(c)
					}
				}
				n += batch.Len()
			}
			if n != benchRows {
				b.Fatalf("read %d rows", n)
			}
			if err := s.Close(); err != nil {
				b.Fatal(err)
			}
		}
		rate(b)
	})
	b.Run("bare", func(b *testing.B) {
		b.ReportAllocs()
		cells := 0
		for b.Loop() {
			rows, err := d.db.QueryxContext(b.Context(), benchQuery)
			if err != nil {
				b.Fatal(err)
			}
			cells += bareLoop(b, rows)
		}
		rate(b)
	})
}

func bareLoop(b *testing.B, rows *sqlx.Rows) int {
	defer rows.Close()
	raw := make([]sql.RawBytes, 8)
	dest := make([]any, len(raw))
	for i := range raw {
		dest[i] = &raw[i]
	}
	cells, n := 0, 0
	for rows.Next() {
		if err := rows.Scan(dest...); err != nil {
			b.Fatal(err)
		}
		for _, c := range raw {
			cells += len(c)
		}
		n++
	}
	if err := rows.Err(); err != nil || n != benchRows {
		b.Fatalf("read %d rows: %v", n, err)
	}
	return cells
}

func rate(b *testing.B) {
	b.ReportMetric(float64(benchRows)*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
}
