select s.sch_no      as "_key",
       s.sch_no      as "schoolId",
       s.sch_name    as "nameOfInstitution",
       s.short_name  as "shortNameOfInstitution",
       s.web_site    as "webSite",
       s.dist_no     as "localEducationAgencyReference.localEducationAgencyId",
       s.status_code as "operationalStatusDescriptor",
       json_build_array(json_build_object('educationOrganizationCategoryDescriptor', 'SCHOOL')) as "educationOrganizationCategories[]",
       json_build_array(json_build_object('schoolCategoryDescriptor', s.level_code)) as "schoolCategories[]",
       (select json_agg(json_build_object('gradeLevelDescriptor', g.grade_code))
          from school_grade g where g.sch_no = s.sch_no) as "gradeLevels[]",
       json_build_array(json_build_object('addressTypeDescriptor', 'MAI', 'streetNumberName', s.street, 'city', s.city,
                              'stateAbbreviationDescriptor', s.state_abbr, 'postalCode', s.zip)) as "addresses[]",
       case when s.phone is not null then
         json_build_array(json_build_object('institutionTelephoneNumberTypeDescriptor', 'MAIN', 'telephoneNumber', s.phone))
       end as "institutionTelephones[]"
  from school s
