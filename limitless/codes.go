package limitless

// codeSet is one domain of local codes: code, label, code, label, …
type codeSet struct {
	domain string
	codes  []string
}

// codeSets are the vendor's code tables. None of the codes is Ed-Fi's: the mapping pack translates them.
func codeSets() []codeSet {
	return []codeSet{
		{"grade", []string{"KG", "Kindergarten", "01", "Grade 1", "02", "Grade 2", "03", "Grade 3", "04", "Grade 4", "05", "Grade 5", "06", "Grade 6",
			"07", "Grade 7", "08", "Grade 8", "09", "Freshman", "10", "Sophomore", "11", "Junior", "12", "Senior"}},
		{"district_type", []string{"R", "Regular district", "C", "Charter district"}},
		{"school_level", []string{"ES", "Elementary", "MS", "Middle", "HS", "High"}},
		{"school_status", []string{"A", "Open", "I", "Closed"}},
		{"calendar_type", []string{"STD", "Standard"}},
		{"day_event", []string{"SD", "School day", "HOL", "Holiday", "TWD", "Teacher work day", "ERD", "Early release", "WX", "Weather closure"}},
		{"term", []string{"FY", "Full year", "S1", "Semester 1", "S2", "Semester 2"}},
		{"grading_period", []string{"T1", "Trimester 1", "T2", "Trimester 2", "T3", "Trimester 3", "Q1", "Quarter 1", "Q2", "Quarter 2", "Q3", "Quarter 3", "Q4", "Quarter 4"}},
		{"subject", []string{"ELA", "Language arts", "RD", "Reading", "WR", "Writing", "MA", "Mathematics", "SC", "Science", "SS", "Social studies", "FA", "Arts and music",
			"PE", "Physical education and health", "WL", "World languages", "CTE", "Career and technical"}},
		{"course_level", []string{"GEN", "General", "HON", "Honors", "AP", "Advanced placement", "CTE", "Career and technical"}},
		{"section_env", []string{"CLS", "Classroom", "LAB", "Laboratory", "SHP", "Shop"}},
		{"gender", []string{"F", "Female", "M", "Male", "X", "Non-binary", "U", "Not stated"}},
		{"race", []string{"W", "White", "B", "Black", "A", "Asian", "I", "American Indian, Alaska Native", "P", "Pacific Islander", "O", "Other"}},
		{"phone", []string{"H", "Home", "C", "Cell", "W", "Work"}},
		{"school_phone", []string{"MAIN", "Main number"}},
		{"email", []string{"ORG", "School account", "PER", "Personal"}},
		{"address", []string{"HOM", "Home", "MAI", "Mailing"}},
		{"degree", []string{"BA", "Bachelor", "MA", "Master", "PHD", "Doctorate", "HS", "High school"}},
		{"job_status", []string{"T", "Tenured", "P", "Probation", "C", "Contract", "S", "Substitute"}},
		{"job_class", []string{"TCH", "Teacher", "PAR", "Paraprofessional", "CNS", "Counselor", "PRN", "Principal", "APR", "Assistant principal",
			"LIB", "Librarian", "CLK", "Office staff", "SUP", "Superintendent", "CUR", "Curriculum coordinator"}},
		{"program", []string{"REG", "Regular", "SPE", "Special education", "ESL", "English as a second language", "T1", "Title I"}},
		{"section_role", []string{"L", "Lead teacher", "A", "Assistant", "S", "Substitute"}},
		{"elp", []string{"L", "Limited", "M1", "Monitored year 1", "M2", "Monitored year 2", "N", "Not limited"}},
		{"language", []string{"ENG", "English", "SPA", "Spanish", "VIE", "Vietnamese", "ZHO", "Chinese", "ARA", "Arabic", "POL", "Polish"}},
		{"trait", []string{"ECD", "Economically disadvantaged", "HML", "Homeless", "MIL", "Parent in military", "FOS", "Foster care", "IMM", "Immigrant"}},
		{"student_id", []string{"STATE", "State id", "LOCAL", "District number", "SIS", "Limitless id"}},
		{"staff_id", []string{"STATE", "State id", "BADGE", "District badge"}},
		{"entry", []string{"E1", "From last year", "E2", "New to the system", "E3", "Transfer", "E4", "Re-entry"}},
		{"exit", []string{"X1", "Transfer", "X2", "Withdrawn", "X3", "Graduated", "X4", "End of year"}},
		{"residency", []string{"IN", "In attendance area", "OA", "Other attendance area", "OD", "Other district"}},
	}
}

// attendanceCodes are: code, label, counts as absent, counts as excused.
func attendanceCodes() [][4]string {
	return [][4]string{
		{"P", "Present", "N", "N"},
		{"UA", "Absent, unexcused", "Y", "N"},
		{"EA", "Absent, excused", "Y", "Y"},
		{"LT", "Late", "N", "N"},
		{"LE", "Left early", "N", "Y"},
	}
}

// gradeCodes are the grades in order; an index into it is a grade here.
func gradeCodes() []string {
	return []string{"KG", "01", "02", "03", "04", "05", "06", "07", "08", "09", "10", "11", "12"}
}

// level is a kind of school.
type level struct {
	code, suffix   string
	grades         [2]int // first and last
	students       int    // a school of this level has about so many
	yearLong       bool   // one term, trimesters; else two terms, quarters
	classSize      int
	specialists    int // teachers who teach a subject rather than a class
	coursesByGrade func(grade int) [8][]courseSpec
}

func levels() []level {
	return []level{
		{code: "ES", suffix: "Elementary School", grades: [2]int{0, 5}, students: 550, yearLong: true, classSize: 22, specialists: 3, coursesByGrade: elementaryCourses},
		{code: "MS", suffix: "Middle School", grades: [2]int{6, 8}, students: 800, classSize: 25, coursesByGrade: middleCourses},
		{code: "HS", suffix: "High School", grades: [2]int{9, 12}, students: 1_400, classSize: 25, coursesByGrade: highCourses},
	}
}

// courseSpec is a course of the catalogue.
type courseSpec struct{ code, state, title, subject, level, credits string }

// elementaryCourses are taken all year in one class.
func elementaryCourses(grade int) [8][]courseSpec {
	g := gradeCodes()[grade]
	name := "Grade " + g
	if grade == 0 {
		name = "Kindergarten"
	}
	of := func(prefix, state, title, subject string) []courseSpec {
		return []courseSpec{{prefix + g, state, title + ", " + name, subject, "GEN", ""}}
	}
	return [8][]courseSpec{
		of("RDG", "01028", "Reading", "RD"), of("WRT", "01105", "Writing", "WR"), of("MAT", "02030", "Mathematics", "MA"), of("SCI", "03230", "Science", "SC"),
		of("SOC", "04430", "Social Studies", "SS"), of("ART", "", "Visual Art", "FA"), of("MUS", "", "Music", "FA"), of("PED", "08035", "Physical Education", "PE"),
	}
}

func middleCourses(grade int) [8][]courseSpec {
	g := gradeCodes()[grade]
	of := func(prefix, state, title, subject, level string) courseSpec {
		return courseSpec{prefix + g, state, title + " " + g[1:], subject, level, "0.500"}
	}
	one := func(c courseSpec) []courseSpec { return []courseSpec{c} }
	return [8][]courseSpec{
		one(of("ENG", "01034", "English", "ELA", "GEN")), one(of("MTH", "02036", "Mathematics", "MA", "GEN")), one(of("SCI", "03236", "Integrated Science", "SC", "GEN")),
		{of("BND", "05101", "Band", "FA", "GEN"), of("ORC", "05104", "Orchestra", "FA", "GEN"), of("ARS", "05154", "Studio Art", "FA", "GEN")},
		one(of("HIS", "04436", "History and Civics", "SS", "GEN")), one(of("PED", "08036", "Physical Education", "PE", "GEN")), one(of("RDG", "01046", "Reading Workshop", "RD", "GEN")),
		{of("SPA", "06101", "Spanish", "WL", "GEN"), of("FRA", "06121", "Français", "WL", "GEN"), of("TEC", "21051", "Technology and Design", "CTE", "CTE")},
	}
}

func highCourses(grade int) [8][]courseSpec {
	g := gradeCodes()[grade]
	year := grade - 9
	of := func(prefix, title, subject, level, state string) courseSpec {
		return courseSpec{prefix + g, state, title, subject, level, "1.000"}
	}
	half := func(c courseSpec) courseSpec { c.credits = "0.500"; return c }
	english := [4]string{"English I", "English II", "American Literature", "World Literature"}
	math := [4]string{"Algebra I", "Geometry", "Algebra II", "Pre-Calculus"}
	science := [4]string{"Biology", "Chemistry", "Physics", "Environmental Science"}
	social := [4]string{"World Geography", "World History", "U.S. History", "Government and Economics"}
	return [8][]courseSpec{
		{of("ENG", english[year], "ELA", "GEN", "01001"), of("ENH", english[year]+" (Honors)", "ELA", "HON", "01001")},
		{of("MTH", math[year], "MA", "GEN", "02052"), of("MTA", math[year]+" (Advanced)", "MA", "HON", "02056")},
		{of("SCI", science[year], "SC", "GEN", "03051"), of("SCA", "AP "+science[year], "SC", "AP", "03056")},
		{half(of("PED", "Physical Education and Health", "PE", "GEN", "08001")), half(of("DAN", "Dance", "FA", "GEN", "05001"))},
		{of("SOC", social[year], "SS", "GEN", "04001"), of("SOA", "AP "+social[year], "SS", "AP", "04004")},
		{of("SPA", "Español "+roman(year+1), "WL", "GEN", "06101"), of("FRA", "Français "+roman(year+1), "WL", "GEN", "06121"), of("GER", "Deutsch für Anfänger "+roman(year+1), "WL", "GEN", "06201")},
		{half(of("ART", "Art "+roman(year+1), "FA", "GEN", "05154")), half(of("CHO", "Choir", "FA", "GEN", "05110")), half(of("THE", "Theater", "FA", "GEN", "05053"))},
		{of("CTA", "Automotive Technology", "CTE", "CTE", "20104"), of("CTC", "Computer Science", "CTE", "CTE", "10152"), of("CTH", "Health Science", "CTE", "CTE", "")},
	}
}

func roman(n int) string { return [...]string{"", "I", "II", "III", "IV"}[n] }
