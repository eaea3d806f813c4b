-- One record per student and district: the district is that of the schools the student is enrolled in this year.
select concat(m.stu_id, '-', m.dist_no) as "_key",
       m.dist_no     as "educationOrganizationReference.educationOrganizationId",
       case :student_identifier when 'state' then s.state_id when 'local' then s.local_no when 'sis' then concat(s.stu_id, '') end as "studentReference.studentUniqueId",
       p.gender_code as "sexDescriptor",
       p.hisp_flag   as "hispanicLatinoEthnicity",
       s.elp_code    as "limitedEnglishProficiencyDescriptor",
       json_array(json_object('studentIdentificationSystemDescriptor', 'STATE', 'assigningOrganizationIdentificationCode', 'State', 'identificationCode', s.state_id),
                  json_object('studentIdentificationSystemDescriptor', 'LOCAL', 'assigningOrganizationIdentificationCode', 'District', 'identificationCode', s.local_no),
                  json_object('studentIdentificationSystemDescriptor', 'SIS', 'assigningOrganizationIdentificationCode', 'Limitless', 'identificationCode', concat(s.stu_id, ''))) as "studentIdentificationCodes[]",
       (select json_group_array(json_object('raceDescriptor', r.race_code))
          from person_race r where r.per_id = s.per_id) as "races[]",
       (select json_group_array(json_object('addressTypeDescriptor', a.addr_code, 'streetNumberName', a.street, 'apartmentRoomSuiteNumber', a.apt,
                                            'city', a.city, 'stateAbbreviationDescriptor', a.state_abbr, 'postalCode', a.zip, 'nameOfCounty', a.county))
          from person_addr a where a.per_id = s.per_id) as "addresses[]",
       (select json_group_array(json_object('telephoneNumberTypeDescriptor', f.type_code, 'telephoneNumber', f.phone_no))
          from person_phone f where f.per_id = s.per_id) as "telephones[]",
       (select json_group_array(json_object('electronicMailTypeDescriptor', n.type_code, 'electronicMailAddress', n.email))
          from person_email n where n.per_id = s.per_id) as "electronicMails[]",
       case when s.home_lang is not null then
         json_array(json_object('languageDescriptor', s.home_lang, 'uses', json_array(json_object('languageUseDescriptor', 'HOME'))))
       end as "languages[]",
       (select json_group_array(json_object('studentCharacteristicDescriptor', x.trait_code, 'periods',
                 json(case when x.start_date is null then json_array() else json_array(json_object('beginDate', x.start_date, 'endDate', x.end_date)) end)))
          from student_trait x where x.stu_id = s.stu_id) as "studentCharacteristics[]"
  from (select distinct e.stu_id, h.dist_no
          from enrolment e
          left join school h on h.sch_no = e.sch_no
         where e.year_id = :school_year) m
  left join student s on s.stu_id = m.stu_id
  left join person p on p.per_id = s.per_id
