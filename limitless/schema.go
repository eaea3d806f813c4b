package limitless

import (
	_ "embed"
	"fmt"
	"regexp"
	"strings"
)

//go:embed schema.sql
var schemaSQL string

// ddl returns the statements that make the schema in a dialect.
func ddl(dialect Dialect) ([]string, error) {
	var words *strings.Replacer
	switch dialect {
	case SQLite: // dates as text, the form its date functions take
		words = strings.NewReplacer("@date", "TEXT", "@stamp", "TEXT", " @options", "")
	case Postgres:
		words = strings.NewReplacer("@date", "DATE", "@stamp", "TIMESTAMP", " @options", "")
	case MySQL: // binary collation: keys and codes compare as on the others
		words = strings.NewReplacer("@date", "DATE", "@stamp", "DATETIME", "@options", "ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin")
	default:
		return nil, fmt.Errorf("unknown dialect %q: known are %s, %s and %s", dialect, SQLite, Postgres, MySQL)
	}
	text := regexp.MustCompile(`--.*`).ReplaceAllString(schemaSQL, "")
	var out []string
	for s := range strings.SplitSeq(words.Replace(text), ";") {
		if s = strings.TrimSpace(s); s != "" {
			out = append(out, s)
		}
	}
	return out, nil
}

// table is a table of the schema by its place in schema.sql, which is also the order rows are written in.
type table int

const (
	lkCode table = iota
	attCode
	schoolYear
	district
	school
	schoolGrade
	schCalendar
	calDay
	calDayEvent
	schTerm
	gradingPeriod
	bellSchedule
	schPeriod
	bellTime
	room
	course
	courseGrade
	courseOffer
	courseSection
	sectionMeeting
	person
	personRace
	personPhone
	personEmail
	personAddr
	staff
	staffJob
	staffAssign
	staffSchool
	sectionStaff
	student
	studentTrait
	enrolment
	roster
	attDaily
	tableCount
)

// layout is a table's name and columns, as schema.sql declares them.
type layout struct {
	name    string
	columns []string
}

// layouts reads the tables and columns from schema.sql, so that they are written down once.
func layouts() []layout {
	createTable := regexp.MustCompile(`(?s)CREATE TABLE (\w+) \(.*?\n(.*?)\n\) @options;`)
	column := regexp.MustCompile(`(?m)^  ([a-z_]+) `)
	var out []layout
	for _, m := range createTable.FindAllStringSubmatch(schemaSQL, -1) {
		l := layout{name: m[1]}
		for _, c := range column.FindAllStringSubmatch(m[2], -1) {
			l.columns = append(l.columns, c[1])
		}
		out = append(out, l)
	}
	return out
}
