select d.dist_no    as "_key",
       d.dist_no    as "localEducationAgencyId",
       d.dist_name  as "nameOfInstitution",
       d.short_name as "shortNameOfInstitution",
       d.web_site   as "webSite",
       d.type_code  as "localEducationAgencyCategoryDescriptor",
       json_build_array(json_build_object('educationOrganizationCategoryDescriptor', 'DISTRICT')) as "categories[]",
       json_build_array(json_build_object('addressTypeDescriptor', 'MAI', 'streetNumberName', d.street, 'city', d.city,
                              'stateAbbreviationDescriptor', d.state_abbr, 'postalCode', d.zip)) as "addresses[]",
       case when d.phone is not null then
         json_build_array(json_build_object('institutionTelephoneNumberTypeDescriptor', 'MAIN', 'telephoneNumber', d.phone))
       end as "institutionTelephones[]"
  from district d
