select p.period_id   as "_key",
       p.period_name as "classPeriodName",
       p.sch_no      as "schoolReference.schoolId",
       p.att_flag    as "officialAttendancePeriod",
       (select json_group_array(json_object('startTime', b.start_time, 'endTime', b.end_time))
          from bell_time b where b.period_id = p.period_id) as "meetingTimes[]"
  from sch_period p
