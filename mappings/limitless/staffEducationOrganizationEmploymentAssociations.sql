select j.job_id      as "_key",
       j.dist_no     as "educationOrganizationReference.educationOrganizationId",
       case :staff_identifier when 'state' then s.state_id when 'local' then s.badge_no when 'sis' then concat(s.emp_id, '') end as "staffReference.staffUniqueId",
       j.status_code as "employmentStatusDescriptor",
       j.hire_date   as "hireDate",
       j.end_date    as "endDate",
       j.dept        as "department",
       j.fte         as "fullTimeEquivalency"
  from staff_job j
  left join staff s on s.emp_id = j.emp_id
