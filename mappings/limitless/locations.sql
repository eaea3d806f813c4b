select r.room_id    as "_key",
       r.room_no    as "classroomIdentificationCode",
       r.sch_no     as "schoolReference.schoolId",
       r.seats      as "maximumNumberOfSeats",
       r.best_seats as "optimalNumberOfSeats"
  from room r
