package limitless

import "fmt"

// First numbers of students and of their persons, far from those of staff.
const (
	firstStudent       = 100_001
	firstStudentPerson = 1_000_001
	unknownStudentID   = 90_000_000
)

// stay is one enrolment of a student in the school year; from and to are places in the days of instruction.
type stay struct {
	school      *schoolPlan
	place       int // in the cohort: decides the sections
	from, to    int // to = instructionDays when it has no end
	entry, exit string
}

// pupil is a student with the enrolments to write.
type pupil struct {
	number int // 0 ≤ number < generator.total()
	id     int
	grade  int
	flaw   FlawKind
	human  human
	stays  []stay
}

// student writes student i: one of the school year, or past those a former one.
func (g *generator) student(i int) {
	d := g.dice(streamStudent, i)
	p := g.newPupil(d, i)
	if i < g.opts.Students {
		g.enrolments(d, &p)
		g.writePupil(d, p)
		for _, s := range p.stays {
			g.writeStay(d, p, s, 0, g.opts.AttendancePerStudent)
		}
		g.plant(p)
	} else {
		g.writePupil(d, p)
		g.writeFormer(d, p)
	}
}

func (g *generator) newPupil(d dice, i int) pupil {
	p := pupil{number: i, id: firstStudent + i, grade: i % len(gradeCodes()), flaw: g.flaws[i]}
	born := g.opts.SchoolYear - 6 - p.grade // five years old on 1 September
	p.human = newHuman(d, firstStudentPerson+i, dateIn(born, 244-d.IntN(365)))
	switch p.flaw {
	case MissingBirthDate:
		p.human.dob = ""
	case LongName:
		p.human.last = longName(p.human.last, 90)
	}
	return p
}

func longName(name string, length int) string {
	out := []rune(name)
	for len(out) < length {
		out = append(append(out, '-'), []rune(name)...)
	}
	return string(out[:length])
}

// enrolments decides where the student spends the year: most stay in one school from the first day on, some come late, leave, or change
// schools.
func (g *generator) enrolments(d dice, p *pupil) {
	var same []*schoolPlan // schools with the student's grade
	for _, s := range g.schools {
		if _, ok := s.cohorts[p.grade]; ok {
			same = append(same, s)
		}
	}
	in := p.number / len(gradeCodes())
	home := stay{school: same[in%len(same)], place: in / len(same), to: instructionDays, entry: "E1"}
	if p.grade == 0 {
		home.entry = "E2"
	}
	switch n := d.IntN(1000); {
	case p.flaw != "": // keep what the flaw is tested on simple
	case n < 40: // changes schools, or leaves for some weeks where there is only one
		out := 20 + d.IntN(50)
		second := home
		second.from, second.entry = out+1, "E3"
		if len(same) > 1 {
			second.school = same[(in+1)%len(same)]
		} else {
			second.from, second.entry = out+1+d.IntN(15), "E4"
		}
		home.to, home.exit = out, "X1"
		p.stays = []stay{home, second}
		return
	case n < 70: // comes late
		home.from, home.entry = 1+d.IntN(60), "E3"
	case n < 90: // leaves
		home.to, home.exit = 30+d.IntN(120), "X2"
	}
	p.stays = []stay{home}
}

// writePupil writes person and student. The three identifiers never collide: each is a permutation of the student's number.
func (g *generator) writePupil(d dice, p pupil) {
	g.writeHuman(d, p.human)
	g.writePhones(d, p.human.id)
	g.writeAddresses(d, p.human.id)
	localNo := fmt.Sprintf("%d", 1_000_000+p.number*37)
	if p.grade >= 6 {
		g.add(personEmail, p.human.id, 1, "ORG", "s"+localNo+"@students.riverbend.example")
	}
	var elp, lang any
	switch {
	case d.chance(120):
		lang, elp = pick(d, []string{"SPA", "VIE", "ZHO", "ARA", "POL"}), pick(d, []string{"L", "L", "M1", "M2", "N"})
	case d.chance(900):
		lang, elp = "ENG", "N"
	}
	g.add(student, p.id, p.human.id, fmt.Sprintf("%010d", 4_000_000_000+p.number*7_919), localNo, elp, lang)
	for i, trait := range []string{"ECD", "HML", "MIL", "FOS", "IMM"} {
		if d.chance([]int{380, 15, 25, 8, 20}[i]) {
			var start any
			if d.chance(600) {
				start = g.cal.instr[d.IntN(10)]
			}
			g.add(studentTrait, p.id, trait, start, nil)
		}
	}
	if len(p.stays) > 0 {
		g.record("students")
		g.record("studentEducationOrganizationAssociations")
		if p.flaw == MissingBirthDate || p.flaw == LongName {
			g.stats.Invalid["ed-fi/students"]++
			g.blocked(p, "studentEducationOrganizationAssociations")
		}
	}
}

// blocked counts a record of a student who is invalid.
func (g *generator) blocked(p pupil, resource string) {
	if p.flaw == MissingBirthDate || p.flaw == LongName {
		g.stats.Blocked["ed-fi/"+resource]++
	}
}

// writeStay writes an enrolment with its rosters, and its attendance on the days of instruction from attFrom to attTo, attTo excluded.
func (g *generator) writeStay(d dice, p pupil, s stay, attFrom, attTo int) {
	y := g.opts.SchoolYear
	var exitDate, exitCode, residency, fte any
	if s.to < instructionDays {
		exitDate, exitCode = g.cal.instr[s.to], s.exit
	}
	if d.chance(900) {
		residency = pick(d, []string{"IN", "IN", "IN", "OA", "OD"})
	}
	if d.chance(500) {
		fte = pick(d, []string{"1.00", "1.00", "0.75"})
	}
	if p.number < g.opts.Students && s.from == 0 && s.entry == "E1" { // last year's enrolment is still on file
		g.add(enrolment, g.id(enrolment), p.id, s.school.no, y-1, nil, gradeCodes()[max(0, p.grade-1)], fmt.Sprintf("%d-08-19", y-2), "E1", fmt.Sprintf("%d-05-29", y-1), "X4", residency, "1.00", "Y", g.stamp)
	}
	g.add(enrolment, g.id(enrolment), p.id, s.school.no, y, s.school.calID, gradeCodes()[p.grade], g.cal.instr[s.from], s.entry, exitDate, exitCode, residency, fte, "Y", g.stamp)
	g.record("studentSchoolAssociations")
	g.blocked(p, "studentSchoolAssociations")
	g.writeRosters(p, s, exitDate)
	g.writeAttendance(d, p, s, max(s.from, attFrom), min(s.to, attTo))
}

func (g *generator) writeRosters(p pupil, s stay, exitDate any) {
	half := s.place % 2
	for slot, halves := range s.school.groups[p.grade] {
		gr := halves[half]
		t := s.school.terms[gr.term]
		from := max(t.from, s.from)
		if from >= min(t.to, s.to) {
			continue
		}
		place := s.place
		if !s.school.level.yearLong {
			place /= 2
		}
		var end any
		if s.to < t.to {
			end = exitDate
		}
		g.add(roster, g.id(roster), gr.first+place%gr.n, p.id, g.opts.SchoolYear, g.cal.instr[from], end, flag(s.school.level.yearLong && slot == 0), g.stamp)
		g.record("studentSectionAssociations")
		g.blocked(p, "studentSectionAssociations")
	}
}

// writeAttendance writes one row a day, present or not: the district takes positive attendance.
func (g *generator) writeAttendance(d dice, p pupil, s stay, from, to int) {
	if p.flaw == UnmappedCode && from < to { // the first of them
		g.flaw(p.flaw, attDaily, g.next[attDaily], "studentSchoolAttendanceEvents", "invalid")
	}
	for at := from; at < to; at++ {
		var reason, in, out any
		code := "P"
		switch n := d.IntN(1000); {
		case n < 22:
			code = "UA"
		case n < 45:
			code, reason = "EA", pick(d, []string{"Illness", "Medical appointment", "Family emergency", "Religious observance", "Déplacement familial"})
		case n < 63:
			code, in = "LT", clock(8*60+5+d.IntN(90))
		case n < 70:
			code, out, reason = "LE", clock(12*60+d.IntN(150)), "Parent's request"
		}
		if p.flaw == UnmappedCode && at == from {
			code = "ZZ"
		}
		term := s.school.terms[0]
		if at >= term.to {
			term = s.school.terms[1]
		}
		g.add(attDaily, g.id(attDaily), p.id, s.school.no, g.opts.SchoolYear, term.id, g.cal.instr[at], code, reason, in, out, g.stamp)
		g.record("studentSchoolAttendanceEvents")
		g.blocked(p, "studentSchoolAttendanceEvents")
	}
}

// writeFormer writes the enrolment of a student who left before the school year.
func (g *generator) writeFormer(d dice, p pupil) {
	y := g.opts.SchoolYear
	s := pick(d, g.schools)
	g.add(enrolment, g.id(enrolment), p.id, s.no, y-1, nil, gradeCodes()[p.grade], fmt.Sprintf("%d-08-19", y-2), "E1", fmt.Sprintf("%d-05-29", y-1), pick(d, []string{"X3", "X1"}), "IN", "1.00", "Y", g.stamp)
}

// plant adds what a flaw needs beside the student's own rows, and notes it.
func (g *generator) plant(p pupil) {
	switch p.flaw {
	case MissingBirthDate, LongName:
		g.stats.Flaws = append(g.stats.Flaws, Flaw{Kind: p.flaw, Table: "student", Key: p.id, Resource: "ed-fi/students", Outcome: "invalid"})
	case UnknownStudent:
		g.flaw(p.flaw, roster, g.next[roster], "studentSectionAssociations", "invalid")
		g.strayRoster(p, unknownStudentID+p.number)
	case NotEnrolled:
		g.flaw(p.flaw, roster, g.next[roster], "studentSectionAssociations", "blocked")
		g.strayRoster(p, firstStudent+g.opts.Students+p.number%(g.opts.Students/20))
	}
}

// strayRoster puts someone on a roster who should not be there.
func (g *generator) strayRoster(p pupil, studentID int) {
	s := p.stays[0]
	gr := s.school.groups[p.grade][0][s.place%2]
	g.add(roster, g.id(roster), gr.first, studentID, g.opts.SchoolYear, g.cal.instr[s.school.terms[gr.term].from], nil, "N", g.stamp)
	g.record("studentSectionAssociations")
}

// flaw notes a planted row.
func (g *generator) flaw(kind FlawKind, t table, key int, resource, outcome string) {
	f := Flaw{Kind: kind, Table: layouts()[t].name, Key: key, Resource: "ed-fi/" + resource, Outcome: outcome}
	g.stats.Flaws = append(g.stats.Flaws, f)
	if outcome == "invalid" {
		g.stats.Invalid[f.Resource]++
	} else {
		g.stats.Blocked[f.Resource]++
	}
}
