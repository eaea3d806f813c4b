package schema

import (
	"crypto/hmac"
	"crypto/sha256"
	"strconv"
	"testing"
)

// enrolment is a mapping of studentSchoolAssociations with 15 columns, all filled.
func enrolment(tb testing.TB) (*Template, [][]byte) {
	tb.Helper()
	m := mustBundled(tb, "5.2")
	r, _ := m.Resource("ed-fi/studentSchoolAssociations")
	fields := [][2]string{
		{"entryDate", "2024-08-14"},
		{"schoolReference.schoolId", "255901001"},
		{"studentReference.studentUniqueId", "604824"},
		{"entryGradeLevelDescriptor", "09"},
		{"entryTypeDescriptor", "E1"},
		{"exitWithdrawDate", "2025-05-30"},
		{"exitWithdrawTypeDescriptor", "W1"},
		{"primarySchool", "t"},
		{"repeatGradeIndicator", "f"},
		{"fullTimeEquivalency", "1.0000"},
		{"residencyStatusDescriptor", "R"},
		{"calendarReference.calendarCode", "2010605675"},
		{"calendarReference.schoolId", "255901001"},
		{"calendarReference.schoolYear", "2025"},
		{"schoolYearTypeReference.schoolYear", "2025"},
	}
	maps := DescriptorMaps{
		"GradeLevelDescriptor":       {},
		"EntryTypeDescriptor":        {"E1": "uri://ed-fi.org/EntryTypeDescriptor#Transfer from a public school in the same LEA"},
		"ExitWithdrawTypeDescriptor": {"W1": "uri://ed-fi.org/ExitWithdrawTypeDescriptor#Completed"},
		"ResidencyStatusDescriptor":  {"R": "uri://ed-fi.org/ResidencyStatusDescriptor#Resident of admin unit and usual school attendance area"},
	}
	for i := range 13 {
		code := strconv.Itoa(i)
		maps["GradeLevelDescriptor"]["0"[:max(0, 2-len(code))]+code] = "uri://ed-fi.org/GradeLevelDescriptor#Grade " + code
	}
	var cols []Column
	var row [][]byte
	for _, f := range fields {
		cols = append(cols, Column{Name: f[0], Path: f[0]})
		row = append(row, []byte(f[1]))
	}
	t, problems := m.Compile(r, cols, maps, Rules{Version: 1, FoldKeys: true})
	if len(problems) > 0 {
		tb.Fatal(problems)
	}
	return t, row
}

func BenchmarkEncode(b *testing.B) {
	t, row := enrolment(b)
	hasher := NewHasher(hmac.New(sha256.New, []byte("0123456789abcdef0123456789abcdef")))
	for _, hashed := range []bool{false, true} {
		name := "map validate canonical"
		if hashed {
			name += " and both hashes"
		}
		b.Run(name, func(b *testing.B) {
			var out Encoded
			var sum byte
			b.ReportAllocs()
			for b.Loop() {
				t.Encode(row, &out)
				if hashed {
					key, body := hasher.Sum(out.Key), hasher.Sum(out.Body)
					sum += key[0] ^ body[0]
				}
			}
			if len(out.Problems) > 0 {
				b.Fatal(out.Problems)
			}
			b.ReportMetric(float64(len(out.Wire)), "wire_B")
			b.ReportMetric(float64(len(out.Body)), "body_B")
		})
	}
}

// BenchmarkEncodeCollections encodes a student's addresses, characteristics and identification codes from three columns of JSON.
func BenchmarkEncodeCollections(b *testing.B) {
	m := mustBundled(b, "5.2")
	r, _ := m.Resource("ed-fi/studentEducationOrganizationAssociations")
	maps := DescriptorMaps{
		"AddressTypeDescriptor":                 {"H": "uri://ed-fi.org/AddressTypeDescriptor#Home"},
		"StateAbbreviationDescriptor":           {"TX": "uri://ed-fi.org/StateAbbreviationDescriptor#TX"},
		"StudentCharacteristicDescriptor":       {"ELL": "uri://ed-fi.org/StudentCharacteristicDescriptor#Limited English", "ECO": "uri://ed-fi.org/StudentCharacteristicDescriptor#Economic"},
		"StudentIdentificationSystemDescriptor": {"S": "uri://ed-fi.org/StudentIdentificationSystemDescriptor#State"},
	}
	var cols []Column
	var row [][]byte
	for _, f := range [][2]string{
		{"educationOrganizationReference.educationOrganizationId", "255901"},
		{"studentReference.studentUniqueId", "604824"},
		{"addresses[]", `[{"addressTypeDescriptor":"H","city":"Grand Bend","postalCode":"78834","stateAbbreviationDescriptor":"TX","streetNumberName":"980 Green New Boulevard","doNotPublishIndicator":0}]`},
		{"studentCharacteristics[]", `[{"studentCharacteristicDescriptor":"ELL"},{"studentCharacteristicDescriptor":"ECO"}]`},
		{"studentIdentificationCodes[]", `[{"studentIdentificationSystemDescriptor":"S","assigningOrganizationIdentificationCode":"State","identificationCode":"1234567"}]`},
	} {
		cols = append(cols, Column{Name: f[0], Path: f[0]})
		row = append(row, []byte(f[1]))
	}
	t, problems := m.Compile(r, cols, maps, Rules{Version: 1})
	if len(problems) > 0 {
		b.Fatal(problems)
	}
	var out Encoded
	b.ReportAllocs()
	for b.Loop() {
		t.Encode(row, &out)
	}
	if len(out.Problems) > 0 {
		b.Fatal(out.Problems)
	}
}
