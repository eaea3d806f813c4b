package limitless

import "fmt"

// planSchools lays out the schools, their terms and their sections for the number of students.
func (g *generator) planSchools() {
	grades := len(gradeCodes())
	courseOf := map[string]int{}
	sectID, termID, calID, periodID := 1, 1, 1, 1
	names := schoolNames()
	for _, lv := range levels() {
		students := g.opts.Students * (lv.grades[1] - lv.grades[0] + 1) / grades
		count := max(1, (students+lv.students/2)/lv.students)
		for k := range count {
			n := len(g.schools)
			name := names[n%len(names)] + " " + lv.suffix
			if n >= len(names) {
				name = fmt.Sprintf("%s %d", name, n/len(names)+1)
			}
			s := &schoolPlan{no: districtNo*1000 + n + 1, level: lv, name: name, calID: calID, cohorts: map[int]int{}, groups: map[int][8][2]group{}}
			calID++
			for grade := lv.grades[0]; grade <= lv.grades[1]; grade++ {
				inGrade := (g.opts.Students - grade + grades - 1) / grades
				s.cohorts[grade] = (inGrade - k + count - 1) / count
			}
			s.terms = g.planTerms(lv, termID)
			termID += len(s.terms)
			for range 9 {
				s.periods = append(s.periods, periodID)
				periodID++
			}
			sectID = g.planSections(s, sectID, courseOf)
			g.schools = append(g.schools, s)
		}
	}
}

func (g *generator) planTerms(lv level, id int) []termPlan {
	if lv.yearLong {
		return []termPlan{{id: id, code: "FY", name: "Full Year", from: 0, to: instructionDays, marks: []string{"T1", "T2", "T3"}}}
	}
	return []termPlan{
		{id: id, code: "S1", name: "Fall Semester", from: 0, to: instructionDays / 2, marks: []string{"Q1", "Q2"}},
		{id: id + 1, code: "S2", name: "Spring Semester", from: instructionDays / 2, to: instructionDays, marks: []string{"Q3", "Q4"}},
	}
}

// planSections makes a school's sections. Elementary: each class of a grade has eight sections all year, one a period. Above: four
// courses a semester in four double periods; half of a cohort takes the first four courses in fall and the others in spring, the other
// half the other way round.
func (g *generator) planSections(s *schoolPlan, id int, courseOf map[string]int) int {
	busy := map[[2]int]int{} // term, block → sections placed, which is the next teacher's index
	numbers := map[[2]int]int{}
	class := 0
	for grade := s.level.grades[0]; grade <= s.level.grades[1]; grade++ {
		slots := s.level.coursesByGrade(grade)
		var groups [8][2]group
		firstClass := class
		for slot, choices := range slots {
			for half := range 2 {
				if s.level.yearLong && half == 1 {
					groups[slot][1] = groups[slot][0]
					continue
				}
				term, seats := 0, s.cohorts[grade]
				if !s.level.yearLong {
					term = (slot/4 + half) % 2
					seats = (seats + 1 - half) / 2
				}
				n := max(1, (seats+s.level.classSize-1)/s.level.classSize)
				groups[slot][half] = group{first: id, n: n, term: term}
				for i := range n {
					c := choices[i%len(choices)]
					at, ok := courseOf[c.code]
					if !ok {
						at = len(g.courses)
						courseOf[c.code] = at
						g.courses = append(g.courses, c)
					}
					numbers[[2]int{term, at}]++
					p := sectionPlan{id: id, term: term, course: at, no: fmt.Sprintf("%s-%02d", c.code, numbers[[2]int{term, at}])}
					if s.level.yearLong {
						p.periods, p.teacher = []int{s.periods[(slot+firstClass+i)%8]}, firstClass+i
						class = max(class, firstClass+i+1)
					} else {
						block := slot % 4
						p.periods, p.teacher = s.periods[2*block:2*block+2], busy[[2]int{term, block}]
						busy[[2]int{term, block}]++
					}
					s.teachers = max(s.teachers, p.teacher+1)
					s.sections = append(s.sections, p)
					id++
				}
			}
		}
		s.groups[grade] = groups
	}
	if s.level.yearLong { // art, music and physical education have teachers of their own
		for i := range s.sections {
			if slot := specialSlot(g.courses[s.sections[i].course].code); slot >= 0 {
				s.sections[i].teacher = s.teachers + slot
			}
		}
		s.teachers += s.level.specialists
	}
	return id
}

func specialSlot(courseCode string) int {
	switch courseCode[:3] {
	case "ART":
		return 0
	case "MUS":
		return 1
	case "PED":
		return 2
	}
	return -1
}

func (g *generator) writeCourses() {
	grades := gradeCodes()
	for i, c := range g.courses {
		var descr, credits any
		if c.level == "AP" || c.level == "HON" {
			descr = c.title + ": for students who want more than the course of the same name."
		}
		if c.credits != "" {
			credits = c.credits
		}
		g.add(course, i+1, districtNo, c.code, nullable(c.state), c.title, descr, c.subject, nullable(c.level), credits, 1)
		g.record("courses")
		for _, grade := range grades { // a course's code ends in its grade
			if c.code[3:] == grade {
				g.add(courseGrade, i+1, grade)
			}
		}
	}
}

func (g *generator) writeSchool(i int, s *schoolPlan) {
	d := g.dice(streamSchool, i)
	c := pick(d, cities())
	var site any
	if i%4 != 3 {
		site = fmt.Sprintf("https://s%03d.riverbend.example", i+1)
	}
	g.add(school, s.no, districtNo, s.name, fmt.Sprintf("%s %02d", s.level.code, i+1), s.level.code, "A", site,
		fmt.Sprintf("%d %s", 100+d.IntN(9800), pick(d, streetNames())), c.name, stateAbbr, c.zip, fmt.Sprintf("(512) 555-%04d", 1000+i))
	g.record("schools")
	for grade := s.level.grades[0]; grade <= s.level.grades[1]; grade++ {
		g.add(schoolGrade, s.no, gradeCodes()[grade])
	}
}

// writeCalendar writes calendar, days, terms and grading periods.
func (g *generator) writeCalendar(s *schoolPlan, dayID int) int {
	y := g.opts.SchoolYear
	g.add(schCalendar, s.calID, s.no, y, fmt.Sprintf("STD-%d", y), "STD")
	g.record("calendars")
	for _, d := range g.cal.days {
		g.add(calDay, dayID, s.calID, d.date, flag(d.instr))
		g.record("calendarDates")
		for _, e := range d.events {
			g.add(calDayEvent, dayID, e)
		}
		dayID++
	}
	gp := s.terms[0].id * 3 // a term has at most three
	seq := 1
	for _, t := range s.terms {
		g.add(schTerm, t.id, s.no, y, t.code, t.name, g.cal.instr[t.from], g.cal.instr[t.to-1], t.to-t.from)
		g.record("sessions")
		length := (t.to - t.from) / len(t.marks)
		for i, code := range t.marks {
			from := t.from + i*length
			g.add(gradingPeriod, gp, t.id, s.no, y, code, markName(code), seq, g.cal.instr[from], g.cal.instr[from+length-1], length)
			g.record("gradingPeriods")
			gp++
			seq++
		}
	}
	return dayID
}

func markName(code string) string {
	kind := "Quarter "
	if code[0] == 'T' {
		kind = "Trimester "
	}
	return kind + code[1:]
}

// writePeriods writes two bell schedules, regular and early release, and the periods they ring.
func (g *generator) writePeriods(s *schoolPlan, bell int) int {
	g.add(bellSchedule, bell, s.no, "Regular")
	g.add(bellSchedule, bell+1, s.no, "Early Release")
	for i, id := range s.periods {
		name := fmt.Sprintf("Period %02d", i+1)
		if i == 8 {
			name = "Homeroom"
		}
		g.add(schPeriod, id, s.no, name, flag(i == 8))
		g.record("classPeriods")
		start := 8*60 + 20 + i*50 // minutes of the day
		early := 8*60 + 20 + i*30
		length, earlyLength := 45, 27
		if i == 8 {
			start, early, length, earlyLength = 8*60, 8*60, 15, 10
		}
		g.add(bellTime, id, bell, clock(start), clock(start+length))
		g.add(bellTime, id, bell+1, clock(early), clock(early+earlyLength))
	}
	return bell + 2
}

// writeSections writes rooms, course offerings, sections and their meetings.
func (g *generator) writeSections(s *schoolPlan, roomID, offerID int) (nextRoom, nextOffer int) {
	y := g.opts.SchoolYear
	for i := range s.teachers {
		var seats any
		if i%9 != 8 {
			seats = 26 + i%3*2
		}
		no := fmt.Sprintf("%d%02d", i/30+1, i%30+1)
		if i%12 == 11 {
			no = "Lab " + no
		}
		g.add(room, roomID+i, s.no, no, seats, s.level.classSize)
		g.record("locations")
	}
	offers := map[[2]int]int{}
	for _, p := range s.sections {
		c := g.courses[p.course]
		key := [2]int{p.term, p.course}
		if offers[key] == 0 {
			offers[key] = offerID
			var local any
			if c.level == "CTE" {
				local = c.title + " @ " + s.level.code
			}
			g.add(courseOffer, offerID, s.no, y, s.terms[p.term].id, p.course+1, local)
			g.record("courseOfferings")
			offerID++
		}
		env := "CLS"
		switch {
		case c.subject == "SC" && p.id%2 == 0:
			env = "LAB"
		case c.subject == "CTE":
			env = "SHP"
		}
		var credits any
		if c.credits != "" {
			credits = c.credits
		}
		var place any = roomID + p.teacher
		if c.subject == "PE" {
			place = nil // in the field
		}
		g.add(courseSection, p.id, s.no, y, offers[key], p.no, place, credits, env, s.level.classSize+5, g.stamp)
		g.record("sections")
		for _, period := range p.periods {
			g.add(sectionMeeting, p.id, period, "MTWHF")
		}
	}
	return roomID + s.teachers, offerID
}

func flag(b bool) string {
	if b {
		return "Y"
	}
	return "N"
}

func nullable(s string) any {
	if s == "" {
		return nil
	}
	return s
}

func clock(minute int) string { return fmt.Sprintf("%02d:%02d:00", minute/60, minute%60) }
