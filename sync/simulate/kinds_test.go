package simulate

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	gosync "sync"

	"github.com/edfisync/edfisync/schema"
	"github.com/edfisync/edfisync/source"
)

// kind is one resource of the simulated districts: where the values of its payload come from.
type kind struct {
	path    string
	parents []string // resources its rows refer to, by slot; "?" in front: may be absent
	columns []column
	weight  int // how many rows it has beside the others
}

// column is one column of the mapping query of a kind. Its value is the row's own, or that of a column of a parent.
type column struct {
	path   string
	sort   valueSort
	key    bool // own value is part of the natural key
	parent int  // slot, for values that come from a parent
	of     string
	values []string // local codes, or JSON texts
}

type valueSort uint8

const (
	ownID     valueSort = iota // number that names the row
	ownName                    // text that names the row; case may change
	ownText                    // free text of few values
	ownDate                    // date of few values
	ownCount                   // small number
	ownCode                    // local code of a descriptor
	ownJSON                    // a collection
	fixed                      // the same for all rows
	inherited                  // a parent's
	inPeriod                   // the collection of a bell schedule: a reference to its class period
)

func id(path string) column      { return column{path: path, sort: ownID, key: true} }
func name(path string) column    { return column{path: path, sort: ownName, key: true} }
func text(path string) column    { return column{path: path, sort: ownText} }
func date(path string) column    { return column{path: path, sort: ownDate} }
func keyDate(path string) column { return column{path: path, sort: ownDate, key: true} }
func count(path string) column   { return column{path: path, sort: ownCount} }
func code(path string, v ...string) column {
	return column{path: path, sort: ownCode, values: v}
}
func list(path string, v ...string) column { return column{path: path, sort: ownJSON, values: v} }
func always(path, v string) column         { return column{path: path, sort: fixed, values: []string{v}} }
func of(slot int, path, from string) column {
	return column{path: path, sort: inherited, parent: slot, of: from}
}

// through lists the columns of a reference whose leaves are those of the parent's columns.
func through(slot int, reference string, leaves map[string]string) []column {
	var out []column
	for leaf, from := range leaves {
		out = append(out, of(slot, reference+"."+leaf, from))
	}
	slices.SortFunc(out, func(a, b column) int { return strings.Compare(a.path, b.path) })
	return out
}

func uri(descriptor, value string) string { return "uri://ed-fi.org/" + descriptor + "#" + value }

// allKinds is a district as small as it can be while having every shape of reference and key that matters: keys that PUT may change and
// keys that it may not, cascades over three levels, references to themselves, to an abstract entity and inside collections, people in two
// phases and what authorises them.
func allKinds() []kind {
	section := map[string]string{
		"localCourseCode": "courseOfferingReference.localCourseCode", "schoolId": "courseOfferingReference.schoolId",
		"schoolYear": "courseOfferingReference.schoolYear", "sessionName": "courseOfferingReference.sessionName", "sectionIdentifier": "sectionIdentifier",
	}
	session := map[string]string{"schoolId": "schoolReference.schoolId", "schoolYear": "schoolYearTypeReference.schoolYear", "sessionName": "sessionName"}
	agency, school := "ed-fi/localEducationAgencies", "ed-fi/schools"
	student := of(0, "studentReference.studentUniqueId", "studentUniqueId")
	grades := func(levels ...string) string {
		var items []string
		for _, l := range levels {
			items = append(items, fmt.Sprintf(`{"gradeLevelDescriptor":%q}`, uri("GradeLevelDescriptor", l)))
		}
		return "[" + strings.Join(items, ",") + "]"
	}
	category := func(v string) string {
		return fmt.Sprintf(`[{"educationOrganizationCategoryDescriptor":%q}]`, uri("EducationOrganizationCategoryDescriptor", v))
	}
	return []kind{
		{path: agency, parents: []string{"?" + agency}, weight: 1, columns: []column{
			id("localEducationAgencyId"), text("nameOfInstitution"),
			code("localEducationAgencyCategoryDescriptor", "Independent", "Charter"),
			of(0, "parentLocalEducationAgencyReference.localEducationAgencyId", "localEducationAgencyId"),
			always("categories[]", category("Local Education Agency")),
		}},
		{path: school, parents: []string{agency}, weight: 2, columns: []column{
			id("schoolId"), text("nameOfInstitution"), of(0, "localEducationAgencyReference.localEducationAgencyId", "localEducationAgencyId"),
			always("educationOrganizationCategories[]", category("School")),
			list("gradeLevels[]", grades("Ninth grade"), grades("Ninth grade", "Tenth grade"), grades("Tenth grade", "Ninth grade"), grades("Tenth grade")),
		}},
		{path: "ed-fi/classPeriods", parents: []string{school}, weight: 2, columns: []column{
			name("classPeriodName"), of(0, "schoolReference.schoolId", "schoolId"),
		}},
		{path: "ed-fi/bellSchedules", parents: []string{"ed-fi/classPeriods"}, weight: 1, columns: []column{
			name("bellScheduleName"), of(0, "schoolReference.schoolId", "schoolReference.schoolId"),
			{path: "classPeriods[]", sort: inPeriod},
		}},
		{path: "ed-fi/courses", parents: []string{agency}, weight: 2, columns: []column{
			name("courseCode"), of(0, "educationOrganizationReference.educationOrganizationId", "localEducationAgencyId"),
			text("courseTitle"), count("numberOfParts"),
			always("identificationCodes[]", fmt.Sprintf(`[{"courseIdentificationSystemDescriptor":%q,"identificationCode":"x"}]`,
				uri("CourseIdentificationSystemDescriptor", "LEA course code"))),
		}},
		{path: "ed-fi/sessions", parents: []string{school}, weight: 2, columns: []column{
			name("sessionName"), of(0, "schoolReference.schoolId", "schoolId"), always("schoolYearTypeReference.schoolYear", "2026"),
			code("termDescriptor", "Fall Semester", "Spring Semester"), date("beginDate"), always("endDate", "2026-12-20"), count("totalInstructionalDays"),
		}},
		{path: "ed-fi/courseOfferings", parents: []string{"ed-fi/sessions", "ed-fi/courses"}, weight: 2, columns: append(append([]column{
			name("localCourseCode"), of(0, "schoolReference.schoolId", "schoolReference.schoolId"), text("localCourseTitle"),
		}, through(0, "sessionReference", session)...), through(1, "courseReference", map[string]string{
			"courseCode": "courseCode", "educationOrganizationId": "educationOrganizationReference.educationOrganizationId",
		})...)},
		{path: "ed-fi/sections", parents: []string{"ed-fi/courseOfferings"}, weight: 3, columns: append([]column{
			name("sectionIdentifier"), text("sectionName"),
		}, through(0, "courseOfferingReference", map[string]string{
			"localCourseCode": "localCourseCode", "schoolId": "schoolReference.schoolId", "schoolYear": "sessionReference.schoolYear",
			"sessionName": "sessionReference.sessionName",
		})...)},
		{path: "ed-fi/programs", parents: []string{agency}, weight: 1, columns: []column{
			name("programName"), of(0, "educationOrganizationReference.educationOrganizationId", "localEducationAgencyId"),
			always("programTypeDescriptor", "Athletics"), text("programId"),
		}},
		{path: "ed-fi/staffs", weight: 2, columns: []column{name("staffUniqueId"), text("firstName"), text("lastSurname")}},
		{path: "ed-fi/staffEducationOrganizationAssignmentAssociations", parents: []string{"ed-fi/staffs", agency}, weight: 3, columns: []column{
			keyDate("beginDate"), of(0, "staffReference.staffUniqueId", "staffUniqueId"), always("staffClassificationDescriptor", "Teacher"),
			of(1, "educationOrganizationReference.educationOrganizationId", "localEducationAgencyId"), text("positionTitle"),
		}},
		{path: "ed-fi/students", weight: 5, columns: []column{name("studentUniqueId"), text("firstName"), text("lastSurname"), date("birthDate")}},
		{path: "ed-fi/studentSchoolAssociations", parents: []string{"ed-fi/students", school}, weight: 6, columns: []column{
			student, of(1, "schoolReference.schoolId", "schoolId"), keyDate("entryDate"), code("entryGradeLevelDescriptor", "Ninth grade", "Tenth grade"),
		}},
		{path: "ed-fi/studentEducationOrganizationAssociations", parents: []string{"ed-fi/students", agency}, weight: 5, columns: []column{
			student, of(1, "educationOrganizationReference.educationOrganizationId", "localEducationAgencyId"), text("loginId"),
		}},
		{path: "ed-fi/studentSectionAssociations", parents: []string{"ed-fi/students", "ed-fi/sections"}, weight: 6, columns: append([]column{
			student, keyDate("beginDate"), date("endDate"),
		}, through(1, "sectionReference", section)...)},
		{path: "ed-fi/studentProgramAssociations", parents: []string{"ed-fi/students", "ed-fi/programs"}, weight: 3, columns: append([]column{
			student, keyDate("beginDate"), date("endDate"),
			of(1, "educationOrganizationReference.educationOrganizationId", "educationOrganizationReference.educationOrganizationId"),
		}, through(1, "programReference", map[string]string{
			"educationOrganizationId": "educationOrganizationReference.educationOrganizationId", "programName": "programName",
			"programTypeDescriptor": "programTypeDescriptor",
		})...)},
		{path: "ed-fi/studentSchoolAttendanceEvents", parents: []string{"ed-fi/students", "ed-fi/sessions"}, weight: 6, columns: append([]column{
			student, keyDate("eventDate"), always("attendanceEventCategoryDescriptor", "Tardy"), text("attendanceEventReason"),
			of(1, "schoolReference.schoolId", "schoolReference.schoolId"),
		}, through(1, "sessionReference", session)...)},
		{path: "ed-fi/contacts", weight: 2, columns: []column{name("contactUniqueId"), text("firstName"), text("lastSurname")}},
		{path: "ed-fi/studentContactAssociations", parents: []string{"ed-fi/students", "ed-fi/contacts"}, weight: 3, columns: []column{
			student, of(1, "contactReference.contactUniqueId", "contactUniqueId"), count("contactPriority"),
		}},
	}
}

// descriptorsUsed are the values the target has, by descriptor.
func descriptorsUsed() map[string][]string {
	return map[string][]string{
		"GradeLevelDescriptor":                    {"Ninth grade", "Tenth grade"},
		"EducationOrganizationCategoryDescriptor": {"Local Education Agency", "School"},
		"LocalEducationAgencyCategoryDescriptor":  {"Independent", "Charter"},
		"TermDescriptor":                          {"Fall Semester", "Spring Semester"},
		"CourseIdentificationSystemDescriptor":    {"LEA course code"},
		"ProgramTypeDescriptor":                   {"Athletics"},
		"StaffClassificationDescriptor":           {"Teacher"},
		"AttendanceEventCategoryDescriptor":       {"Tardy"},
	}
}

// person reports whether the records are people, whom a target lets nobody update before an association is there.
func (k *compiledKind) person() bool {
	return k.path == "ed-fi/students" || k.path == "ed-fi/staffs" || k.path == "ed-fi/contacts"
}

// universe is what all worlds share: the cut-down model, the load order, and the kinds compiled against it.
type universe struct {
	model   *schema.Model
	order   []schema.Dependency
	kinds   []*compiledKind
	byPath  map[string]int
	seeds   []schema.DescriptorValue
	compile [2][]*source.Bound // by kind, for exact and for folded keys
}

// compiledKind is a kind with what is looked up often.
type compiledKind struct {
	kind
	index    int
	resource *schema.Resource
	parent   []int  // kind of each slot
	optional []bool // of each slot
	column   map[string]int
	paths    []string // of each column: in the payload
	required []bool   // of each column
	folds    []bool   // of each column: text the target may compare without case
	keyPart  []bool   // of each column: in the natural key
	desc     []string // of each column: descriptor its codes are of
	codes    [][]string
	dates    []bool // of each column: a date
	from     []int  // of each inherited column: the parent's column
	owns     []int  // columns with a value of the row's own
}

var loadUniverse = gosync.OnceValues(newUniverse)

func newUniverse() (*universe, error) {
	full, err := schema.Bundled("5.2")
	if err != nil {
		return nil, err
	}
	u := &universe{byPath: map[string]int{}}
	kinds := allKinds()
	if u.model, err = cutModel(full, kinds); err != nil {
		return nil, err
	}
	if u.order, err = schema.Dependencies(u.model); err != nil {
		return nil, err
	}
	maps := schema.DescriptorMaps{}
	for descriptor, values := range descriptorsUsed() {
		maps[descriptor] = map[string]string{}
		for _, v := range values {
			maps[descriptor][v] = uri(descriptor, v)
			u.seeds = append(u.seeds, schema.DescriptorValue{Name: descriptor, CodeValue: v, Namespace: "uri://ed-fi.org/" + descriptor, ShortDescription: v})
		}
	}
	slices.SortFunc(u.seeds, func(a, b schema.DescriptorValue) int { return strings.Compare(a.URI(), b.URI()) })
	for i, k := range kinds {
		u.byPath[k.path] = i
	}
	for i, k := range kinds {
		c, err := compileKind(u, i, k)
		if err != nil {
			return nil, err
		}
		u.kinds = append(u.kinds, c)
		for fold := range u.compile {
			b, err := bind(u.model, c, maps, schema.Rules{Version: 1, FoldKeys: fold == 1})
			if err != nil {
				return nil, err
			}
			u.compile[fold] = append(u.compile[fold], b)
		}
	}
	return u, nil
}

func compileKind(u *universe, index int, k kind) (*compiledKind, error) {
	r, ok := u.model.Resource(k.path)
	if !ok {
		return nil, fmt.Errorf("the model has no %s", k.path)
	}
	c := &compiledKind{kind: k, index: index, resource: r, column: map[string]int{}}
	for _, p := range k.parents {
		path, optional := strings.CutPrefix(p, "?")
		c.parent, c.optional = append(c.parent, u.byPath[path]), append(c.optional, optional)
	}
	inKey := map[string]bool{}
	for _, part := range r.Key {
		inKey[part.Paths[0]] = true
	}
	for i, col := range k.columns {
		path := strings.TrimSuffix(col.path, "[]")
		p, ok := r.Property(path)
		if !ok {
			return nil, fmt.Errorf("%s has no %s", k.path, path)
		}
		top, _ := r.Property(strings.Split(path, ".")[0])
		c.column[col.path] = i
		c.paths = append(c.paths, path)
		c.required = append(c.required, top.Required && (p == top || p.Required))
		c.keyPart = append(c.keyPart, inKey[path])
		c.folds = append(c.folds, p.Kind == schema.String && (inKey[path] || top.Kind == schema.Reference) || col.sort == inPeriod)
		desc := ""
		if p.Kind == schema.Descriptor {
			desc = p.Target
		}
		c.desc, c.codes = append(c.desc, desc), append(c.codes, descriptorsUsed()[desc])
		c.dates = append(c.dates, strings.HasSuffix(strings.ToLower(col.path), "date"))
		from := 0
		if col.sort == inherited {
			if from, ok = u.parentOf(c, index, col).column[col.of]; !ok {
				return nil, fmt.Errorf("the parent of %s has no %s", k.path, col.of)
			}
		}
		c.from = append(c.from, from)
		if col.sort < fixed {
			c.owns = append(c.owns, i)
		}
	}
	return c, nil
}

// parentOf is the kind an inherited column has its value from. Parents are compiled before their children; an agency may be its own.
func (u *universe) parentOf(c *compiledKind, index int, col column) *compiledKind {
	if c.parent[col.parent] == index {
		return c
	}
	return u.kinds[c.parent[col.parent]]
}

func bind(m *schema.Model, c *compiledKind, maps schema.DescriptorMaps, rules schema.Rules) (*source.Bound, error) {
	b := &source.Bound{Query: &source.Query{Resource: c.path, File: c.path + ".sql"}, Resource: c.resource, KeyColumn: len(c.columns)}
	var columns []schema.Column
	for _, col := range c.columns {
		b.Columns = append(b.Columns, col.path)
		columns = append(columns, schema.Column{Name: col.path, Path: col.path})
	}
	b.Columns = append(b.Columns, "_key")
	template, problems := m.Compile(c.resource, columns, maps, rules)
	if len(problems) > 0 {
		return nil, fmt.Errorf("compile %s: %v", c.path, problems)
	}
	b.Template = template
	return b, nil
}

// cutModel keeps of a model what the kinds use: the resources, of each the properties with a column, and the descriptors. A sandbox of the
// whole model takes longer to set up than a world takes to play.
func cutModel(full *schema.Model, kinds []kind) (*schema.Model, error) {
	used := map[string]map[string]bool{"ed-fi/schoolYearTypes": nil}
	for descriptor := range descriptorsUsed() {
		r, ok := full.Entity(descriptor)
		if !ok {
			return nil, fmt.Errorf("the model has no %s", descriptor)
		}
		used[r.Path] = nil
	}
	for _, k := range kinds {
		used[k.path] = map[string]bool{}
		for _, c := range k.columns {
			used[k.path][strings.TrimSuffix(strings.Split(c.path, ".")[0], "[]")] = true
		}
	}
	var out []*schema.Resource
	for path, properties := range used {
		r, ok := full.Resource(path)
		if !ok {
			return nil, fmt.Errorf("the model has no %s", path)
		}
		text, err := json.Marshal(r)
		if err != nil {
			return nil, err
		}
		own := new(schema.Resource)
		if err := json.Unmarshal(text, own); err != nil {
			return nil, err
		}
		if properties != nil {
			own.Root.Properties = slices.DeleteFunc(own.Root.Properties, func(p *schema.Property) bool { return !properties[p.Name] })
		}
		cutItems(own.Root, used, full)
		keep := func(p string) bool { return properties == nil || properties[strings.Split(p, ".")[0]] }
		for i, part := range own.Key {
			own.Key[i].Paths = slices.DeleteFunc(part.Paths, func(p string) bool { return !keep(p) })
		}
		for i, group := range own.Unify {
			own.Unify[i] = slices.DeleteFunc(group, func(p string) bool { return !keep(p) })
		}
		own.Unify = slices.DeleteFunc(own.Unify, func(group []string) bool { return len(group) < 2 })
		out = append(out, own)
	}
	return schema.NewModel("ds-5.2-simulated", "5.2.0", out)
}

// cutItems drops optional properties of collections and objects that name what the cut model does not have.
func cutItems(f *schema.Fields, used map[string]map[string]bool, full *schema.Model) {
	for _, p := range f.Properties {
		if p.Fields == nil || p.Kind == schema.Reference {
			continue
		}
		p.Fields.Properties = slices.DeleteFunc(p.Fields.Properties, func(q *schema.Property) bool {
			if q.Target == "" || q.Required {
				return false
			}
			for _, c := range full.Concrete(q.Target) {
				if _, ok := used[c.Path]; ok {
					return false
				}
			}
			return true
		})
		cutItems(p.Fields, used, full)
	}
}
