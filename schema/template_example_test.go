package schema_test

import (
	"fmt"

	"github.com/edfisync/edfisync/schema"
)

// A mapping is compiled once and then encodes rows as a database gives them.
func ExampleModel_Compile() {
	model, err := schema.Bundled("5.2")
	if err != nil {
		panic(err)
	}
	attendance, _ := model.Resource("ed-fi/studentSchoolAttendanceEvents")
	columns := []schema.Column{
		{Name: "attendanceEventCategoryDescriptor", Path: "attendanceEventCategoryDescriptor"},
		{Name: "eventDate", Path: "eventDate"},
		{Name: "schoolReference.schoolId", Path: "schoolReference.schoolId"},
		{Name: "sessionReference.schoolId", Path: "sessionReference.schoolId"},
		{Name: "sessionReference.schoolYear", Path: "sessionReference.schoolYear"},
		{Name: "sessionReference.sessionName", Path: "sessionReference.sessionName"},
		{Name: "student", Path: "studentReference.studentUniqueId"},
	}
	maps := schema.DescriptorMaps{"AttendanceEventCategoryDescriptor": {"T": "uri://ed-fi.org/AttendanceEventCategoryDescriptor#Tardy"}}
	template, problems := model.Compile(attendance, columns, maps, schema.Rules{Version: schema.CanonicalVersion})
	if len(problems) > 0 {
		panic(problems)
	}

	var record schema.Encoded // reused from row to row
	row := func(texts ...string) [][]byte {
		var row [][]byte
		for _, text := range texts {
			row = append(row, []byte(text))
		}
		return row
	}
	template.Encode(row("T", "2026-02-03 00:00:00", "255901001", "255901001", "2026", "Fall", "604824"), &record)
	fmt.Printf("%s\n", record.Key)
	for _, ref := range template.References(row("T", "2026-02-03", "255901001", "255901001", "2026", "Fall", "604824"), nil) {
		fmt.Printf("needs %s %s\n", ref.Target, ref.Key)
	}
	template.Encode(row("X", "2026-02-30", "255901001", "255901002", "2026", "Fall", "604824"), &record)
	for _, p := range record.Problems {
		fmt.Println(p.Code, p.Path)
	}
	// Output:
	// ["uri://ed-fi.org/attendanceeventcategorydescriptor#tardy","2026-02-03",255901001,2026,"Fall","604824"]
	// needs School [255901001]
	// needs Session [255901001,2026,"Fall"]
	// needs Student ["604824"]
	// descriptor-unmapped $.attendanceEventCategoryDescriptor
	// not-a-date $.eventDate
	// unified-differs $.schoolReference.schoolId
	// unified-differs $.sessionReference.schoolId
}
