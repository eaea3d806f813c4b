select o.offer_id    as "_key",
       c.course_code as "localCourseCode",
       o.local_title as "localCourseTitle",
       c.course_code as "courseReference.courseCode",
       c.dist_no     as "courseReference.educationOrganizationId",
       o.sch_no      as "schoolReference.schoolId",
       o.sch_no      as "sessionReference.schoolId",
       o.year_id     as "sessionReference.schoolYear",
       t.term_name   as "sessionReference.sessionName"
  from course_offer o
  left join course c on c.course_id = o.course_id
  left join sch_term t on t.term_id = o.term_id
 where o.year_id = :school_year
