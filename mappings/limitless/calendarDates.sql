select d.day_id   as "_key",
       d.cal_date as "date",
       c.cal_code as "calendarReference.calendarCode",
       c.sch_no   as "calendarReference.schoolId",
       c.year_id  as "calendarReference.schoolYear",
       (select json_group_array(json_object('calendarEventDescriptor', e.event_code))
          from cal_day_event e where e.day_id = d.day_id) as "calendarEvents[]"
  from cal_day d
  join sch_calendar c on c.cal_id = d.cal_id
 where c.year_id = :school_year
