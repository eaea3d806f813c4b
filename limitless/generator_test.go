package limitless

import "testing"

// count runs the generator without a database.
func count(t *testing.T, opts Options) Stats {
	t.Helper()
	opts, err := opts.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	g := newGenerator(opts)
	g.begin()
	for i := range g.total() {
		g.student(i)
		*g.out = batch{}
	}
	return g.result()
}

func TestTheDefaultDataSetHasAboutTwoHundredThousandRecords(t *testing.T) {
	t.Parallel()
	stats := count(t, Options{})
	if got, want := stats.Total(), 199_771; got != want { // docs/demo-sis.md and the demo name this number
		t.Errorf("records: got %d, want %d", got, want)
	}
	if got, want := stats.Records["ed-fi/students"], DefaultStudents; got != want {
		t.Errorf("students: got %d, want %d", got, want)
	}
}

func TestElevenDaysGiveTenAttendanceRowsAStudent(t *testing.T) {
	t.Parallel()
	const students = 3_000 // at 100,000 of them that is the million rows of the benchmark
	stats := count(t, Options{Students: students, AttendancePerStudent: 11})
	if got, want := stats.Records["ed-fi/studentSchoolAttendanceEvents"], 10*students; got < want {
		t.Errorf("attendance rows: got %d, want at least %d", got, want)
	}
}

func TestEveryYearHasItsDaysOfInstruction(t *testing.T) {
	t.Parallel()
	for year := 2000; year <= 2100; year++ {
		c := newYearCalendar(year)
		if len(c.instr) != instructionDays {
			t.Errorf("%d: %d days of instruction", year, len(c.instr))
		}
		if last := c.instr[len(c.instr)-1]; last >= dateIn(year, 180) {
			t.Errorf("%d: school ends on %s", year, last)
		}
		for i := 1; i < len(c.instr); i++ {
			if c.instr[i] <= c.instr[i-1] {
				t.Errorf("%d: %s follows %s", year, c.instr[i], c.instr[i-1])
			}
		}
	}
}
