select s.sect_id     as "_key",
       s.sect_no     as "sectionIdentifier",
       c.course_code as "courseOfferingReference.localCourseCode",
       s.sch_no      as "courseOfferingReference.schoolId",
       s.year_id     as "courseOfferingReference.schoolYear",
       t.term_name   as "courseOfferingReference.sessionName",
       s.credits     as "availableCredits",
       s.env_code    as "educationalEnvironmentDescriptor",
       r.room_no     as "locationReference.classroomIdentificationCode",
       r.sch_no      as "locationReference.schoolId",
       (select json_agg(json_build_object('classPeriodReference', json_build_object('classPeriodName', p.period_name, 'schoolId', p.sch_no)))
          from section_meeting m
          join sch_period p on p.period_id = m.period_id
         where m.sect_id = s.sect_id) as "classPeriods[]"
  from course_section s
  left join course_offer o on o.offer_id = s.offer_id
  left join course c on c.course_id = o.course_id
  left join sch_term t on t.term_id = o.term_id
  left join room r on r.room_id = s.room_id
 where s.year_id = :school_year
