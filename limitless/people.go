package limitless

import "fmt"

// human is what the person table knows of someone.
type human struct {
	id                  int
	first, middle, last string
	dob                 string
	gender              string
}

// newHuman draws a person; dob may be empty.
func newHuman(d dice, id int, dob string) human {
	h := human{id: id, dob: dob, last: pick(d, lastNames())}
	switch n := d.IntN(1000); {
	case n < 490:
		h.gender, h.first, h.middle = "F", pick(d, firstNamesF()), pick(d, firstNamesF())
	case n < 985:
		h.gender, h.first, h.middle = "M", pick(d, firstNamesM()), pick(d, firstNamesM())
	default:
		h.gender, h.first, h.middle = pick(d, []string{"X", "U"}), pick(d, firstNamesF()), pick(d, firstNamesM())
	}
	if d.chance(250) {
		h.middle = ""
	}
	if d.chance(60) {
		h.last += "-" + pick(d, []string{"Smith", "García", "O'Neil", "Novák", "Lee", "Ruiz"})
	}
	return h
}

// writeHuman writes a person with races; what is optional is sometimes NULL.
func (g *generator) writeHuman(d dice, h human) {
	var suffix, preferred, hispanic, born any
	if h.gender == "M" && d.chance(30) {
		suffix = pick(d, []string{"Jr.", "II", "III"})
	}
	if d.chance(80) {
		preferred = pick(d, []string{"Alex", "Sam", "Zé", "Lola", "Max", "Kit", "A.J."})
	}
	if !d.chance(50) {
		hispanic = flag(d.chance(350))
	}
	if d.chance(700) {
		born = pick(d, []string{"Austin", "San José", "El Paso", "Reykjavík", "Hà Nội", "Kraków", "Chicago", "Ciudad de México", "Lagos", "Winston-Salem"})
	}
	g.add(person, h.id, h.first, nullable(h.middle), h.last, suffix, preferred, nullable(h.dob), h.gender, hispanic, born, g.stamp)
	races := []string{"W", "B", "A", "I", "P", "O"}
	weights := []int{550, 150, 120, 60, 30, 90}
	n := d.IntN(1000)
	for i, w := range weights {
		if n -= w; n < 0 {
			g.add(personRace, h.id, races[i])
			if d.chance(70) {
				g.add(personRace, h.id, races[(i+1+d.IntN(4))%len(races)])
			}
			break
		}
	}
}

func (g *generator) writePhones(d dice, id int) {
	for seq, kind := range []string{"C", "H"} {
		if d.chance([]int{800, 300}[seq]) {
			g.add(personPhone, id, seq+1, kind, fmt.Sprintf("(512) 555-%04d", d.IntN(10000)))
		}
	}
}

func (g *generator) writeAddresses(d dice, id int) {
	c := pick(d, cities())
	var apt any
	if d.chance(200) {
		apt = fmt.Sprintf("%d%c", 1+d.IntN(40), 'A'+d.IntN(6))
	}
	var county any = c.county
	if d.chance(100) {
		county = nil
	}
	g.add(personAddr, id, "HOM", fmt.Sprintf("%d %s", 1+d.IntN(9900), pick(d, streetNames())), apt, c.name, stateAbbr, c.zip, county)
	if d.chance(80) {
		g.add(personAddr, id, "MAI", fmt.Sprintf("P.O. Box %d", 1+d.IntN(9000)), nil, c.name, stateAbbr, c.zip, county)
	}
}

// post is a kind of work at a school or at the district office.
type post struct {
	class, title, dept string
	count              int
}

// writeStaff writes the staff of the district office, then of each school; a school's teachers come first, in the order its sections
// number them.
func (g *generator) writeStaff() {
	emp := 1
	for _, p := range []post{{"SUP", "Superintendent", "Office of the Superintendent", 1}, {"CUR", "Curriculum Coordinator", "Curriculum", 2 + len(g.schools)/10}, {"CLK", "Payroll Clerk", "Business Office", 1 + len(g.schools)/5}} {
		for range p.count {
			g.writeEmployee(emp, p, districtNo, "")
			emp++
		}
	}
	sectEmp, empSchool := 1, 1
	for _, s := range g.schools {
		s.firstEmp = emp
		students := 0
		for _, n := range s.cohorts {
			students += n
		}
		helpers := 1 + students/150
		posts := []post{
			{"TCH", "Teacher", "Instruction", s.teachers}, {"PAR", "Instructional Aide", "Instruction", helpers}, {"PRN", "Principal", "School Office", 1},
			{"APR", "Assistant Principal", "School Office", students / 500}, {"CNS", "Counselor", "Student Services", 1 + students/450}, {"LIB", "Librarian", "", 1}, {"CLK", "Registrar", "School Office", 1},
		}
		for _, p := range posts {
			for i := range p.count {
				program := "REG"
				if p.class == "PAR" && i%2 == 1 || p.class == "TCH" && i%15 == 14 {
					program = "SPE"
				}
				g.writeEmployee(emp, p, s.no, program)
				g.add(staffSchool, empSchool, emp, s.no, g.opts.SchoolYear, program)
				g.record("staffSchoolAssociations")
				empSchool++
				emp++
			}
		}
		for i, p := range s.sections {
			t := s.terms[p.term]
			from, to := g.cal.instr[t.from], g.cal.instr[t.to-1]
			g.add(sectionStaff, sectEmp, p.id, s.firstEmp+p.teacher, g.opts.SchoolYear, "L", from, to)
			g.record("staffSectionAssociations")
			sectEmp++
			if i%10 == 9 {
				g.add(sectionStaff, sectEmp, p.id, s.firstEmp+s.teachers+i/10%helpers, g.opts.SchoolYear, "A", from, nil)
				g.record("staffSectionAssociations")
				sectEmp++
			}
		}
	}
}

// writeEmployee writes a member of staff with employment and assignment. An employee's person has the same number.
func (g *generator) writeEmployee(emp int, p post, org int, program string) {
	d := g.dice(streamStaff, emp)
	year := g.opts.SchoolYear
	h := newHuman(d, emp, dateIn(year-25-d.IntN(40), d.IntN(365)))
	if d.chance(100) {
		h.dob = ""
	}
	g.writeHuman(d, h)
	g.add(personEmail, emp, 1, "ORG", fmt.Sprintf("staff%05d@riverbend.example", emp))
	if d.chance(150) {
		g.add(personEmail, emp, 2, "PER", fmt.Sprintf("home%05d@mail.example", emp))
	}
	g.writePhones(d, emp)
	degree, certified := any("BA"), any(nil)
	switch {
	case p.class == "SUP" || p.class == "PRN":
		degree = "PHD"
	case d.chance(400):
		degree = "MA"
	case p.class == "CLK" || p.class == "PAR":
		degree = nil
	}
	years := d.IntN(30)
	if p.class == "TCH" {
		certified = flag(d.chance(930))
	}
	g.add(staff, emp, emp, fmt.Sprintf("%010d", 2_000_000_000+emp*7_919), fmt.Sprintf("B%05d", emp), degree, fmt.Sprintf("%d.%d", years, emp%2*5), certified)
	g.record("staffs")

	status := "T"
	switch {
	case years < 3:
		status = "P"
	case p.class == "CLK" || p.class == "PAR":
		status = "C"
	}
	hired := dateIn(year-1-years, 180+d.IntN(40))
	fte := "1.00"
	if p.class == "PAR" && d.chance(400) {
		fte = "0.50"
	}
	g.add(staffJob, emp, emp, districtNo, status, hired, nil, nullable(p.dept), fte)
	g.record("staffEducationOrganizationEmploymentAssociations")
	g.add(staffAssign, emp, emp, emp, org, p.class, p.title, hired, nil)
	g.record("staffEducationOrganizationAssignmentAssociations")
	if program == "SPE" && p.class == "TCH" { // a second duty, which ended
		g.add(staffAssign, 1_000_000+emp, emp, emp, org, "PAR", "Summer Aide", dateIn(year-1, 155), dateIn(year-1, 200))
		g.record("staffEducationOrganizationAssignmentAssociations")
	}
}
