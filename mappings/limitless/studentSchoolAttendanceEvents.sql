-- The largest query of the pack: it joins by primary key only, and needs no sorting.
select a.att_id    as "_key",
       a.att_code  as "attendanceEventCategoryDescriptor",
       cast(a.att_date as char(10)) as "eventDate",
       a.reason    as "attendanceEventReason",
       a.time_in   as "arrivalTime",
       a.time_out  as "departureTime",
       a.sch_no    as "schoolReference.schoolId",
       a.sch_no    as "sessionReference.schoolId",
       a.year_id   as "sessionReference.schoolYear",
       t.term_name as "sessionReference.sessionName",
       case :student_identifier when 'state' then s.state_id when 'local' then s.local_no when 'sis' then concat(s.stu_id, '') end as "studentReference.studentUniqueId"
  from att_daily a
  left join student s on s.stu_id = a.stu_id
  left join sch_term t on t.term_id = a.term_id
 where a.year_id = :school_year
