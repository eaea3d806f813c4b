select g.gp_id      as "_key",
       g.gp_code    as "gradingPeriodDescriptor",
       g.sch_no     as "schoolReference.schoolId",
       g.year_id    as "schoolYearTypeReference.schoolYear",
       g.seq_no     as "periodSequence",
       g.start_date as "beginDate",
       g.end_date   as "endDate",
       g.instr_days as "totalInstructionalDays"
  from grading_period g
 where g.year_id = :school_year
