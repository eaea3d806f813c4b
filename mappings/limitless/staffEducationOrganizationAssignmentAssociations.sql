-- path: job_org = employmentStaffEducationOrganizationEmploymentAssociationReference.educationOrganizationId
-- path: job_status = employmentStaffEducationOrganizationEmploymentAssociationReference.employmentStatusDescriptor
-- path: job_hired = employmentStaffEducationOrganizationEmploymentAssociationReference.hireDate
-- path: job_staff = employmentStaffEducationOrganizationEmploymentAssociationReference.staffUniqueId
select a.asg_id      as "_key",
       a.org_no      as "educationOrganizationReference.educationOrganizationId",
       case :staff_identifier when 'state' then s.state_id when 'local' then s.badge_no when 'sis' then concat(s.emp_id, '') end as "staffReference.staffUniqueId",
       a.class_code  as "staffClassificationDescriptor",
       a.start_date  as "beginDate",
       a.end_date    as "endDate",
       a.title       as "positionTitle",
       j.dist_no     as "job_org",
       j.status_code as "job_status",
       j.hire_date   as "job_hired",
       case when j.job_id is not null then
         case :staff_identifier when 'state' then s.state_id when 'local' then s.badge_no when 'sis' then concat(s.emp_id, '') end
       end           as "job_staff"
  from staff_assign a
  left join staff s on s.emp_id = a.emp_id
  left join staff_job j on j.job_id = a.job_id
