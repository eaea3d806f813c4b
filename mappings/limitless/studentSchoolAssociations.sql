select e.enr_id     as "_key",
       e.sch_no     as "schoolReference.schoolId",
       case :student_identifier when 'state' then s.state_id when 'local' then s.local_no when 'sis' then concat(s.stu_id, '') end as "studentReference.studentUniqueId",
       e.year_id    as "schoolYearTypeReference.schoolYear",
       c.cal_code   as "calendarReference.calendarCode",
       c.sch_no     as "calendarReference.schoolId",
       c.year_id    as "calendarReference.schoolYear",
       e.grade_code as "entryGradeLevelDescriptor",
       e.entry_date as "entryDate",
       e.entry_code as "entryTypeDescriptor",
       e.exit_date  as "exitWithdrawDate",
       e.exit_code  as "exitWithdrawTypeDescriptor",
       e.res_code   as "residencyStatusDescriptor",
       e.fte        as "fullTimeEquivalency",
       e.prim_flag  as "primarySchool"
  from enrolment e
  left join student s on s.stu_id = e.stu_id
  left join sch_calendar c on c.cal_id = e.cal_id
 where e.year_id = :school_year
