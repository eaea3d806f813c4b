select id as "_key", name as "classPeriodName", school as "schoolReference.schoolId", meetings as "meetingTimes" from period
