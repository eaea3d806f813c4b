select e.id as "_key", s.uid as "studentReference.studentUniqueId", e.school as "schoolReference.schoolId",
	e.entry as "entryDate", e.grade as "entryGradeLevelDescriptor" from enrolment e join student s on s.id = e.student
