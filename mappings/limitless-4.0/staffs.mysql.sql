select s.emp_id      as "_key",
       case :staff_identifier when 'state' then s.state_id when 'local' then s.badge_no when 'sis' then concat(s.emp_id, '') end as "staffUniqueId",
       p.first_name  as "firstName",
       p.middle_name as "middleName",
       p.last_name   as "lastSurname",
       p.suffix      as "generationCodeSuffix",
       p.dob         as "birthDate",
       p.gender_code as "sexDescriptor",
       p.hisp_flag   as "hispanicLatinoEthnicity",
       s.degree_code as "highestCompletedLevelOfEducationDescriptor",
       s.hq_flag     as "highlyQualifiedTeacher",
       s.years_exp   as "yearsOfPriorProfessionalExperience",
       json_array(json_object('staffIdentificationSystemDescriptor', 'STATE', 'identificationCode', s.state_id),
                  json_object('staffIdentificationSystemDescriptor', 'BADGE', 'identificationCode', s.badge_no)) as "identificationCodes[]",
       (select json_arrayagg(json_object('raceDescriptor', r.race_code))
          from person_race r where r.per_id = s.per_id) as "races[]",
       (select json_arrayagg(json_object('electronicMailTypeDescriptor', m.type_code, 'electronicMailAddress', m.email))
          from person_email m where m.per_id = s.per_id) as "electronicMails[]",
       (select json_arrayagg(json_object('telephoneNumberTypeDescriptor', f.type_code, 'telephoneNumber', f.phone_no))
          from person_phone f where f.per_id = s.per_id) as "telephones[]"
  from staff s
  left join person p on p.per_id = s.per_id
