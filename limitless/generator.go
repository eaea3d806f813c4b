package limitless

import (
	"fmt"
	"math/rand/v2"
)

// generator makes rows. It is a pure function of its options: it reads no clock and no database, and every entity draws from a random
// stream of its own, so that no entity depends on how many draws another one took.
type generator struct {
	opts  Options
	out   *batch
	stats Stats
	rows  [tableCount]int

	cal     yearCalendar
	schools []*schoolPlan
	courses []courseSpec
	stamp   string           // last_upd of every row written
	next    map[table]int    // next id of tables whose rows are numbered as they come
	flaws   map[int]FlawKind // student number → flaw
}

// districtNo is the state's number for the district; its schools are numbered from districtNo*1000.
const (
	districtNo   = 255901
	districtName = "Riverbend Unified School District"
	stateAbbr    = "TX"
)

// schoolPlan is a school with everything rosters need to know of it.
type schoolPlan struct {
	no       int
	level    level
	name     string
	calID    int
	terms    []termPlan
	periods  []int // period ids, the eight of the day, then homeroom
	cohorts  map[int]int
	groups   map[int][8][2]group // grade → course slot → half of the cohort
	sections []sectionPlan
	teachers int
	firstEmp int // employee number of the first teacher
}

// termPlan is a term; from and to are places in the calendar's days of instruction, to excluded.
type termPlan struct {
	id       int
	code     string
	name     string
	from, to int
	marks    []string // codes of its grading periods
}

// group is the sections one half of a cohort is spread over for one course slot.
type group struct{ first, n, term int } // section id, count, index of term

// sectionPlan is a section with its place in the schedule.
type sectionPlan struct {
	id      int
	term    int // index in the school's terms
	course  int // index in generator.courses
	periods []int
	teacher int // index among the school's teachers
	no      string
}

func newGenerator(opts Options) *generator {
	g := &generator{
		opts:  opts,
		out:   &batch{},
		stats: Stats{Rows: map[string]int{}, Records: map[string]int{}, Invalid: map[string]int{}, Blocked: map[string]int{}},
		cal:   newYearCalendar(opts.SchoolYear),
		stamp: fmt.Sprintf("%d-08-01 06:00:00", opts.SchoolYear-1),
		next:  map[table]int{enrolment: 1, roster: 1, attDaily: 1},
		flaws: map[int]FlawKind{},
	}
	kinds := []FlawKind{MissingBirthDate, UnmappedCode, LongName, UnknownStudent, NotEnrolled}
	for i := range opts.Flaws {
		g.flaws[7+i*opts.Students/(opts.Flaws+1)] = kinds[i%len(kinds)]
	}
	g.planSchools()
	return g
}

// total is the number of students generated: those of the school year and former ones.
func (g *generator) total() int { return g.opts.Students + g.opts.Students/20 }

// add writes one row; the values are in the order of the columns in schema.sql.
func (g *generator) add(t table, values ...any) {
	g.out.add(t, values...)
	g.rows[t]++
}

// result is what was generated.
func (g *generator) result() Stats {
	for t, l := range layouts() {
		g.stats.Rows[l.name] = g.rows[t]
	}
	return g.stats
}

// record counts one Ed-Fi record the row just written stands for.
func (g *generator) record(resource string) { g.stats.Records["ed-fi/"+resource]++ }

func (g *generator) id(t table) int {
	id := g.next[t]
	g.next[t] = id + 1
	return id
}

// The streams of random numbers.
const (
	streamStudent uint64 = iota + 1
	streamStaff
	streamSchool
	streamEdit
)

// dice is a stream of random numbers.
type dice struct{ *rand.Rand }

// dice returns the stream of one entity.
func (g *generator) dice(stream uint64, entity int) dice {
	return dice{rand.New(rand.NewPCG(g.opts.Seed, stream<<48|uint64(entity)))} //nolint:gosec // reproducible on purpose
}

// chance is true perMille times in a thousand.
func (d dice) chance(perMille int) bool { return d.IntN(1000) < perMille }

func pick[T any](d dice, from []T) T { return from[d.IntN(len(from))] }

// begin writes what is there before students: codes, the district and its schools, calendars, courses, sections and staff.
func (g *generator) begin() {
	for _, set := range codeSets() {
		for i := 0; i < len(set.codes); i += 2 {
			g.add(lkCode, set.domain, set.codes[i], set.codes[i+1], i/2+1)
		}
	}
	for _, c := range attendanceCodes() {
		g.add(attCode, c[0], c[1], c[2], c[3])
	}
	y := g.opts.SchoolYear
	for year := y - 1; year <= y; year++ {
		g.add(schoolYear, year, fmt.Sprintf("%d-%d", year-1, year), fmt.Sprintf("%d-07-01", year-1), fmt.Sprintf("%d-06-30", year))
	}
	g.add(district, districtNo, districtName, "Riverbend USD", "R", "https://www.riverbend.example", "100 Main St", "Riverbend", stateAbbr, "78741", "(512) 555-0100")
	g.record("localEducationAgencies")
	g.writeCourses()
	day, bell, roomNo, offer := 1, 1, 1, 1
	for i, s := range g.schools {
		g.writeSchool(i, s)
		day = g.writeCalendar(s, day)
		bell = g.writePeriods(s, bell)
		roomNo, offer = g.writeSections(s, roomNo, offer)
	}
	g.writeStaff()
}
