select r.rost_id     as "_key",
       c.course_code as "sectionReference.localCourseCode",
       k.sch_no      as "sectionReference.schoolId",
       k.year_id     as "sectionReference.schoolYear",
       k.sect_no     as "sectionReference.sectionIdentifier",
       t.term_name   as "sectionReference.sessionName",
       case :student_identifier when 'state' then s.state_id when 'local' then s.local_no when 'sis' then concat(s.stu_id, '') end as "studentReference.studentUniqueId",
       cast(r.start_date as char(10)) as "beginDate",
       cast(r.end_date as char(10))   as "endDate",
       r.home_flag   as "homeroomIndicator"
  from roster r
  left join student s on s.stu_id = r.stu_id
  left join course_section k on k.sect_id = r.sect_id
  left join course_offer o on o.offer_id = k.offer_id
  left join course c on c.course_id = o.course_id
  left join sch_term t on t.term_id = o.term_id
 where r.year_id = :school_year
