// Package limitless is the demo student information system: the normalised schema of a vendor that never heard of Ed-Fi, with its own
// names and codes, and a generator that fills it with the same rows for the same seed and size in SQLite, PostgreSQL and MariaDB. It
// knows nothing of mapping and sync; what it says about Ed-Fi records (Stats, Predicted) it says from its own rows, so that
// tests can hold the sync against it.
package limitless

import (
	"context"
	"fmt"

	"github.com/jmoiron/sqlx"
)

// Dialect is the SQL spoken by the database the SIS lives in.
type Dialect string

// The dialects the demo SIS exists in.
const (
	SQLite   Dialect = "sqlite"
	Postgres Dialect = "postgres"
	MySQL    Dialect = "mysql" // MariaDB
)

// Defaults and limits of Options.
const (
	DefaultStudents             = 2_000
	DefaultSchoolYear           = 2026
	DefaultAttendancePerStudent = 88  // 2,000 students give about 200,000 Ed-Fi records
	MaxAttendancePerStudent     = 170 // of the year's 180 days of instruction: the rest is left for edits
	MinStudents                 = 40  // fewer leave no room for the edits and flaws
	MaxStudents                 = 1_000_000
)

// Options say what to generate. The same Options give the same rows, on every database and at any time. The zero value is the default
// data set.
type Options struct {
	Seed                 uint64
	Students             int                   // students enrolled in the school year; 0 = DefaultStudents
	SchoolYear           int                   // the year it ends in; 0 = DefaultSchoolYear
	AttendancePerStudent int                   // school days on which attendance was taken; 0 = DefaultAttendancePerStudent
	Flaws                int                   // rows to plant that Ed-Fi cannot accept; Stats lists them
	Progress             func(done, total int) // students written so far; called from Generate's goroutine, may be nil
}

func (o Options) withDefaults() (Options, error) {
	if o.Students == 0 {
		o.Students = DefaultStudents
	}
	if o.SchoolYear == 0 {
		o.SchoolYear = DefaultSchoolYear
	}
	if o.AttendancePerStudent == 0 {
		o.AttendancePerStudent = DefaultAttendancePerStudent
	}
	if o.Progress == nil {
		o.Progress = func(int, int) {}
	}
	switch {
	case o.Students < MinStudents || o.Students > MaxStudents:
		return o, fmt.Errorf("students must be %d to %d, not %d", MinStudents, MaxStudents, o.Students)
	case o.AttendancePerStudent < 0 || o.AttendancePerStudent > MaxAttendancePerStudent:
		return o, fmt.Errorf("attendance per student must be 1 to %d, not %d", MaxAttendancePerStudent, o.AttendancePerStudent)
	case o.SchoolYear < 2000 || o.SchoolYear > 2100:
		return o, fmt.Errorf("school year must be 2000 to 2100, not %d", o.SchoolYear)
	case o.Flaws < 0 || o.Flaws > o.Students/10:
		return o, fmt.Errorf("flaws must be 0 to a tenth of the students, not %d", o.Flaws)
	}
	return o, nil
}

// Stats say what was generated.
type Stats struct {
	Rows    map[string]int // SIS table → rows
	Records map[string]int // Ed-Fi resource ("ed-fi/students") → records the SIS holds for the school year, flawed ones included
	Invalid map[string]int // of Records, those that break a rule of Ed-Fi themselves
	Blocked map[string]int // of Records, those that are right themselves but refer to an invalid or missing one
	Flaws   []Flaw
}

// Total is the number of Ed-Fi records of all resources.
func (s Stats) Total() int { return sum(s.Records) }

// Flaw is one row that was planted to be refused.
type Flaw struct {
	Kind     FlawKind
	Table    string // SIS table and primary key of the row
	Key      int
	Resource string // the resource the row is mapped to; Key is its source key there
	Outcome  string // "invalid" or "blocked"
}

// FlawKind names what is wrong with a planted row.
type FlawKind string

// The kinds of flaws, planted in turn.
const (
	MissingBirthDate FlawKind = "missing-birth-date" // student without a date of birth
	UnmappedCode     FlawKind = "unmapped-code"      // attendance row with a code that is in no map
	LongName         FlawKind = "long-name"          // student with a last name of 90 characters; Ed-Fi allows 75
	UnknownStudent   FlawKind = "unknown-student"    // roster row of a student the SIS does not have
	NotEnrolled      FlawKind = "not-enrolled"       // roster row of a former student, who is not sent
)

// Create makes the tables in an empty database, or in an empty schema of one.
func Create(ctx context.Context, db *sqlx.DB, dialect Dialect) error {
	statements, err := ddl(dialect)
	if err != nil {
		return err
	}
	for _, s := range statements {
		if _, err := db.ExecContext(ctx, s); err != nil {
			return fmt.Errorf("create demo schema: %w", err)
		}
	}
	return nil
}

// Generate fills the tables Create made, in one transaction. It must be called once on a database.
func Generate(ctx context.Context, db *sqlx.DB, dialect Dialect, opts Options) (Stats, error) {
	opts, err := opts.withDefaults()
	if err != nil {
		return Stats{}, fmt.Errorf("generate demo data: %w", err)
	}
	l, err := newLoader(ctx, db, dialect)
	if err != nil {
		return Stats{}, fmt.Errorf("generate demo data: %w", err)
	}
	defer l.rollback()
	g := newGenerator(opts)
	g.begin()
	if err := l.flush(ctx, g.out); err != nil {
		return Stats{}, fmt.Errorf("generate demo data: %w", err)
	}
	const chunk = 500
	for done := 0; done < g.total(); {
		next := min(done+chunk, g.total())
		for i := done; i < next; i++ {
			g.student(i)
		}
		if err := l.flush(ctx, g.out); err != nil {
			return Stats{}, fmt.Errorf("generate demo data: %w", err)
		}
		done = next
		opts.Progress(done, g.total())
	}
	if err := l.commit(); err != nil {
		return Stats{}, fmt.Errorf("generate demo data: %w", err)
	}
	return g.result(), nil
}

func sum(m map[string]int) int {
	n := 0
	for _, v := range m {
		n += v
	}
	return n
}
