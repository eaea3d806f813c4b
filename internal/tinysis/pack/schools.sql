select id as "_key", id as "schoolId", name as "nameOfInstitution", agency as "localEducationAgencyReference.localEducationAgencyId",
	json_array(json_object('educationOrganizationCategoryDescriptor', 'School')) as "educationOrganizationCategories",
	json_array(json_object('gradeLevelDescriptor', '9')) as "gradeLevels" from school
