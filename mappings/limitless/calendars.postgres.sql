select c.cal_id    as "_key",
       c.cal_code  as "calendarCode",
       c.sch_no    as "schoolReference.schoolId",
       c.year_id   as "schoolYearTypeReference.schoolYear",
       c.type_code as "calendarTypeDescriptor",
       (select json_agg(json_build_object('gradeLevelDescriptor', g.grade_code))
          from school_grade g where g.sch_no = c.sch_no) as "gradeLevels[]"
  from sch_calendar c
 where c.year_id = :school_year
