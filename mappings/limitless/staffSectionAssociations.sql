select x.sect_emp_id as "_key",
       c.course_code as "sectionReference.localCourseCode",
       k.sch_no      as "sectionReference.schoolId",
       k.year_id     as "sectionReference.schoolYear",
       k.sect_no     as "sectionReference.sectionIdentifier",
       t.term_name   as "sectionReference.sessionName",
       case :staff_identifier when 'state' then s.state_id when 'local' then s.badge_no when 'sis' then concat(s.emp_id, '') end as "staffReference.staffUniqueId",
       x.role_code   as "classroomPositionDescriptor",
       x.start_date  as "beginDate",
       x.end_date    as "endDate"
  from section_staff x
  left join staff s on s.emp_id = x.emp_id
  left join course_section k on k.sect_id = x.sect_id
  left join course_offer o on o.offer_id = k.offer_id
  left join course c on c.course_id = o.course_id
  left join sch_term t on t.term_id = o.term_id
 where x.year_id = :school_year
