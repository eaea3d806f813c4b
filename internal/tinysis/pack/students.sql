select id as "_key", uid as "studentUniqueId", first as "firstName", last as "lastSurname", birth as "birthDate" from student
