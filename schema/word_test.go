package schema

import "testing"

func TestVocabularyTellsNamesOfTheStandardFromOthers(t *testing.T) {
	t.Parallel()
	for _, name := range []string{
		"schoolId", "SchoolId", "studentUniqueId", "ClassPeriod", "BellScheduleClassPeriods", "StudentSchoolAssociation", "termDescriptor", "TermDescriptorId", "EducationOrganizationId",
		"students", "addresses", "_ext", "CalendarReference", "LimitedEnglishProficiencyDescriptor", "birthDate", "StudentUSI",
	} {
		if !Vocabulary(name) {
			t.Errorf("%s: got false, want true", name)
		}
	}
	for _, name := range []string{"", "Qanary", "Kowalska", "qanary01fn", "604822", "schoolKowalska", "school604822", "school Id", "O'Neill", "Żółć", "_", "Zdzislawa", "KOWALSKA", "Q", "OK"} {
		if Vocabulary(name) {
			t.Errorf("%s: got true, want false", name)
		}
	}
}
