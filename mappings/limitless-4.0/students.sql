select s.stu_id      as "_key",
       case :student_identifier when 'state' then s.state_id when 'local' then s.local_no when 'sis' then concat(s.stu_id, '') end as "studentUniqueId",
       p.first_name  as "firstName",
       p.middle_name as "middleName",
       p.last_name   as "lastSurname",
       p.suffix      as "generationCodeSuffix",
       p.dob         as "birthDate",
       p.birth_city  as "birthCity"
  from student s
  left join person p on p.per_id = s.per_id
 where exists (select 1 from enrolment e where e.stu_id = s.stu_id and e.year_id = :school_year)
