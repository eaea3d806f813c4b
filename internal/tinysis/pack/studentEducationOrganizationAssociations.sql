select d.id as "_key", s.uid as "studentReference.studentUniqueId",
	d.agency as "educationOrganizationReference.educationOrganizationId", d.login as "loginId"
	from demographic d join student s on s.id = d.student
