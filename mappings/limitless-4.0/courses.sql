select c.course_id   as "_key",
       c.course_code as "courseCode",
       c.dist_no     as "educationOrganizationReference.educationOrganizationId",
       c.title       as "courseTitle",
       c.descr       as "courseDescription",
       c.parts       as "numberOfParts",
       c.credits     as "maximumAvailableCredits",
       c.subj_code   as "academicSubjectDescriptor",
       case when c.level_code is not null then
         json_array(json_object('courseLevelCharacteristicDescriptor', c.level_code))
       end as "levelCharacteristics[]",
       case when c.state_code is null then
         json_array(json_object('courseIdentificationSystemDescriptor', 'DISTRICT', 'identificationCode', c.course_code))
       else
         json_array(json_object('courseIdentificationSystemDescriptor', 'DISTRICT', 'identificationCode', c.course_code),
                    json_object('courseIdentificationSystemDescriptor', 'STATE', 'identificationCode', c.state_code))
       end as "identificationCodes[]",
       (select json_group_array(json_object('gradeLevelDescriptor', g.grade_code))
          from course_grade g where g.course_id = c.course_id) as "offeredGradeLevels[]"
  from course c
