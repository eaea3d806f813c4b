select id as "_key", id as "localEducationAgencyId", name as "nameOfInstitution",
	parent as "parentLocalEducationAgencyReference.localEducationAgencyId",
	'Independent' as "localEducationAgencyCategoryDescriptor",
	json_array(json_object('educationOrganizationCategoryDescriptor', 'Local Education Agency')) as "categories" from agency
