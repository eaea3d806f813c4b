select x.emp_sch_id as "_key",
       x.prog_code  as "programAssignmentDescriptor",
       x.sch_no     as "schoolReference.schoolId",
       x.year_id    as "schoolYearTypeReference.schoolYear",
       case :staff_identifier when 'state' then s.state_id when 'local' then s.badge_no when 'sis' then concat(s.emp_id, '') end as "staffReference.staffUniqueId"
  from staff_school x
  left join staff s on s.emp_id = x.emp_id
 where x.year_id = :school_year
