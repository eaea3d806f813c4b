select t.term_id    as "_key",
       t.term_name  as "sessionName",
       t.sch_no     as "schoolReference.schoolId",
       t.year_id    as "schoolYearTypeReference.schoolYear",
       t.term_code  as "termDescriptor",
       t.start_date as "beginDate",
       t.end_date   as "endDate",
       t.instr_days as "totalInstructionalDays",
       (select json_agg(json_build_object('gradingPeriodReference', json_build_object(
                 'gradingPeriodDescriptor', g.gp_code, 'periodSequence', g.seq_no,
                 'schoolId', g.sch_no, 'schoolYear', g.year_id)))
          from grading_period g where g.term_id = t.term_id) as "gradingPeriods[]"
  from sch_term t
 where t.year_id = :school_year
