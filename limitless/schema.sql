-- Schema of the Limitless SIS. One text for all databases; the words that differ between them are written as
-- @date, @stamp and @options and filled in by Create. As in many systems of this kind there are no foreign key
-- constraints: nightly imports arrive in any order, and rows outlive what they point to.

CREATE TABLE lk_code ( -- every local code but attendance codes
  domain      VARCHAR(20)  NOT NULL,
  code        VARCHAR(10)  NOT NULL,
  label       VARCHAR(80)  NOT NULL,
  sort_no     SMALLINT     NOT NULL,
  PRIMARY KEY (domain, code)
) @options;

CREATE TABLE att_code (
  att_code    VARCHAR(4)   NOT NULL,
  label       VARCHAR(60)  NOT NULL,
  absent_flag CHAR(1)      NOT NULL,
  excuse_flag CHAR(1)      NOT NULL,
  PRIMARY KEY (att_code)
) @options;

CREATE TABLE school_year (
  year_id     SMALLINT     NOT NULL, -- the year it ends in
  label       VARCHAR(9)   NOT NULL,
  start_date  @date        NOT NULL,
  end_date    @date        NOT NULL,
  PRIMARY KEY (year_id)
) @options;

CREATE TABLE district (
  dist_no     INTEGER      NOT NULL, -- number given by the state
  dist_name   VARCHAR(75)  NOT NULL,
  short_name  VARCHAR(30),
  type_code   VARCHAR(4)   NOT NULL,
  web_site    VARCHAR(120),
  street      VARCHAR(80)  NOT NULL,
  city        VARCHAR(30)  NOT NULL,
  state_abbr  CHAR(2)      NOT NULL,
  zip         VARCHAR(10)  NOT NULL,
  phone       VARCHAR(20),
  PRIMARY KEY (dist_no)
) @options;

CREATE TABLE school (
  sch_no      INTEGER      NOT NULL, -- number given by the state
  dist_no     INTEGER      NOT NULL,
  sch_name    VARCHAR(75)  NOT NULL,
  short_name  VARCHAR(30),
  level_code  VARCHAR(4)   NOT NULL,
  status_code VARCHAR(4)   NOT NULL,
  web_site    VARCHAR(120),
  street      VARCHAR(80)  NOT NULL,
  city        VARCHAR(30)  NOT NULL,
  state_abbr  CHAR(2)      NOT NULL,
  zip         VARCHAR(10)  NOT NULL,
  phone       VARCHAR(20),
  PRIMARY KEY (sch_no)
) @options;

CREATE TABLE school_grade (
  sch_no      INTEGER      NOT NULL,
  grade_code  VARCHAR(4)   NOT NULL,
  PRIMARY KEY (sch_no, grade_code)
) @options;

CREATE TABLE sch_calendar (
  cal_id      INTEGER      NOT NULL,
  sch_no      INTEGER      NOT NULL,
  year_id     SMALLINT     NOT NULL,
  cal_code    VARCHAR(20)  NOT NULL,
  type_code   VARCHAR(4)   NOT NULL,
  PRIMARY KEY (cal_id)
) @options;

CREATE TABLE cal_day (
  day_id      INTEGER      NOT NULL,
  cal_id      INTEGER      NOT NULL,
  cal_date    @date        NOT NULL,
  instr_flag  CHAR(1)      NOT NULL,
  PRIMARY KEY (day_id)
) @options;

CREATE TABLE cal_day_event (
  day_id      INTEGER      NOT NULL,
  event_code  VARCHAR(4)   NOT NULL,
  PRIMARY KEY (day_id, event_code)
) @options;

CREATE TABLE sch_term (
  term_id     INTEGER      NOT NULL,
  sch_no      INTEGER      NOT NULL,
  year_id     SMALLINT     NOT NULL,
  term_code   VARCHAR(4)   NOT NULL,
  term_name   VARCHAR(40)  NOT NULL,
  start_date  @date        NOT NULL,
  end_date    @date        NOT NULL,
  instr_days  SMALLINT     NOT NULL,
  PRIMARY KEY (term_id)
) @options;

CREATE TABLE grading_period (
  gp_id       INTEGER      NOT NULL,
  term_id     INTEGER      NOT NULL,
  sch_no      INTEGER      NOT NULL,
  year_id     SMALLINT     NOT NULL,
  gp_code     VARCHAR(4)   NOT NULL,
  gp_name     VARCHAR(40)  NOT NULL,
  seq_no      SMALLINT     NOT NULL,
  start_date  @date        NOT NULL,
  end_date    @date        NOT NULL,
  instr_days  SMALLINT     NOT NULL,
  PRIMARY KEY (gp_id)
) @options;

CREATE TABLE bell_schedule (
  bell_id     INTEGER      NOT NULL,
  sch_no      INTEGER      NOT NULL,
  bell_name   VARCHAR(40)  NOT NULL,
  PRIMARY KEY (bell_id)
) @options;

CREATE TABLE sch_period (
  period_id   INTEGER      NOT NULL,
  sch_no      INTEGER      NOT NULL,
  period_name VARCHAR(40)  NOT NULL,
  att_flag    CHAR(1)      NOT NULL, -- Y: the day's official attendance is taken here
  PRIMARY KEY (period_id)
) @options;

CREATE TABLE bell_time (
  period_id   INTEGER      NOT NULL,
  bell_id     INTEGER      NOT NULL,
  start_time  VARCHAR(8)   NOT NULL,
  end_time    VARCHAR(8)   NOT NULL,
  PRIMARY KEY (period_id, bell_id)
) @options;

CREATE TABLE room (
  room_id     INTEGER      NOT NULL,
  sch_no      INTEGER      NOT NULL,
  room_no     VARCHAR(20)  NOT NULL,
  seats       SMALLINT,
  best_seats  SMALLINT,
  PRIMARY KEY (room_id)
) @options;

CREATE TABLE course (
  course_id   INTEGER      NOT NULL,
  dist_no     INTEGER      NOT NULL,
  course_code VARCHAR(12)  NOT NULL,
  state_code  VARCHAR(12),           -- of the state's catalogue, when the course is in it
  title       VARCHAR(200) NOT NULL,
  descr       VARCHAR(1000),
  subj_code   VARCHAR(4)   NOT NULL,
  level_code  VARCHAR(4),
  credits     NUMERIC(5,3),
  parts       SMALLINT     NOT NULL,
  PRIMARY KEY (course_id)
) @options;

CREATE TABLE course_grade (
  course_id   INTEGER      NOT NULL,
  grade_code  VARCHAR(4)   NOT NULL,
  PRIMARY KEY (course_id, grade_code)
) @options;

CREATE TABLE course_offer ( -- a course a school gives in a term
  offer_id    INTEGER      NOT NULL,
  sch_no      INTEGER      NOT NULL,
  year_id     SMALLINT     NOT NULL,
  term_id     INTEGER      NOT NULL,
  course_id   INTEGER      NOT NULL,
  local_title VARCHAR(60),
  PRIMARY KEY (offer_id)
) @options;

CREATE TABLE course_section (
  sect_id     INTEGER      NOT NULL,
  sch_no      INTEGER      NOT NULL,
  year_id     SMALLINT     NOT NULL,
  offer_id    INTEGER      NOT NULL,
  sect_no     VARCHAR(24)  NOT NULL,
  room_id     INTEGER,
  credits     NUMERIC(5,3),
  env_code    VARCHAR(4)   NOT NULL,
  max_seats   SMALLINT,
  last_upd    @stamp       NOT NULL,
  PRIMARY KEY (sect_id)
) @options;

CREATE TABLE section_meeting (
  sect_id     INTEGER      NOT NULL,
  period_id   INTEGER      NOT NULL,
  day_pattern VARCHAR(10)  NOT NULL,
  PRIMARY KEY (sect_id, period_id)
) @options;

CREATE TABLE person (
  per_id      INTEGER      NOT NULL,
  first_name  VARCHAR(100) NOT NULL,
  middle_name VARCHAR(100),
  last_name   VARCHAR(200) NOT NULL,
  suffix      VARCHAR(10),
  pref_first  VARCHAR(100),
  dob         @date,
  gender_code CHAR(1),
  hisp_flag   CHAR(1),
  birth_city  VARCHAR(60),
  last_upd    @stamp       NOT NULL,
  PRIMARY KEY (per_id)
) @options;

CREATE TABLE person_race (
  per_id      INTEGER      NOT NULL,
  race_code   VARCHAR(2)   NOT NULL,
  PRIMARY KEY (per_id, race_code)
) @options;

CREATE TABLE person_phone (
  per_id      INTEGER      NOT NULL,
  seq_no      SMALLINT     NOT NULL,
  type_code   VARCHAR(4)   NOT NULL,
  phone_no    VARCHAR(24)  NOT NULL,
  PRIMARY KEY (per_id, seq_no)
) @options;

CREATE TABLE person_email (
  per_id      INTEGER      NOT NULL,
  seq_no      SMALLINT     NOT NULL,
  type_code   VARCHAR(4)   NOT NULL,
  email       VARCHAR(128) NOT NULL,
  PRIMARY KEY (per_id, seq_no)
) @options;

CREATE TABLE person_addr (
  per_id      INTEGER      NOT NULL,
  addr_code   VARCHAR(4)   NOT NULL,
  street      VARCHAR(80)  NOT NULL,
  apt         VARCHAR(20),
  city        VARCHAR(30)  NOT NULL,
  state_abbr  CHAR(2)      NOT NULL,
  zip         VARCHAR(10)  NOT NULL,
  county      VARCHAR(30),
  PRIMARY KEY (per_id, addr_code)
) @options;

CREATE TABLE staff (
  emp_id      INTEGER      NOT NULL,
  per_id      INTEGER      NOT NULL,
  state_id    VARCHAR(12)  NOT NULL,
  badge_no    VARCHAR(10)  NOT NULL,
  degree_code VARCHAR(4),
  years_exp   NUMERIC(4,1),
  hq_flag     CHAR(1),
  PRIMARY KEY (emp_id)
) @options;

CREATE TABLE staff_job ( -- employment by the district
  job_id      INTEGER      NOT NULL,
  emp_id      INTEGER      NOT NULL,
  dist_no     INTEGER      NOT NULL,
  status_code VARCHAR(4)   NOT NULL,
  hire_date   @date        NOT NULL,
  end_date    @date,
  dept        VARCHAR(40),
  fte         NUMERIC(3,2) NOT NULL,
  PRIMARY KEY (job_id)
) @options;

CREATE TABLE staff_assign ( -- what a job is, and where: a school or the district office
  asg_id      INTEGER      NOT NULL,
  job_id      INTEGER      NOT NULL,
  emp_id      INTEGER      NOT NULL,
  org_no      INTEGER      NOT NULL,
  class_code  VARCHAR(4)   NOT NULL,
  title       VARCHAR(60),
  start_date  @date        NOT NULL,
  end_date    @date,
  PRIMARY KEY (asg_id)
) @options;

CREATE TABLE staff_school (
  emp_sch_id  INTEGER      NOT NULL,
  emp_id      INTEGER      NOT NULL,
  sch_no      INTEGER      NOT NULL,
  year_id     SMALLINT     NOT NULL,
  prog_code   VARCHAR(4)   NOT NULL,
  PRIMARY KEY (emp_sch_id)
) @options;

CREATE TABLE section_staff (
  sect_emp_id INTEGER      NOT NULL,
  sect_id     INTEGER      NOT NULL,
  emp_id      INTEGER      NOT NULL,
  year_id     SMALLINT     NOT NULL,
  role_code   VARCHAR(4)   NOT NULL,
  start_date  @date        NOT NULL,
  end_date    @date,
  PRIMARY KEY (sect_emp_id)
) @options;

CREATE TABLE student (
  stu_id      INTEGER      NOT NULL, -- the SIS's own id
  per_id      INTEGER      NOT NULL,
  state_id    VARCHAR(12)  NOT NULL,
  local_no    VARCHAR(10)  NOT NULL,
  elp_code    VARCHAR(4),
  home_lang   VARCHAR(4),
  PRIMARY KEY (stu_id)
) @options;

CREATE TABLE student_trait (
  stu_id      INTEGER      NOT NULL,
  trait_code  VARCHAR(4)   NOT NULL,
  start_date  @date,
  end_date    @date,
  PRIMARY KEY (stu_id, trait_code)
) @options;

CREATE TABLE enrolment (
  enr_id      INTEGER      NOT NULL,
  stu_id      INTEGER      NOT NULL,
  sch_no      INTEGER      NOT NULL,
  year_id     SMALLINT     NOT NULL,
  cal_id      INTEGER,
  grade_code  VARCHAR(4)   NOT NULL,
  entry_date  @date        NOT NULL,
  entry_code  VARCHAR(4),
  exit_date   @date,
  exit_code   VARCHAR(4),
  res_code    VARCHAR(4),
  fte         NUMERIC(3,2),
  prim_flag   CHAR(1)      NOT NULL,
  last_upd    @stamp       NOT NULL,
  PRIMARY KEY (enr_id)
) @options;
CREATE INDEX enrolment_student ON enrolment (stu_id, year_id);

CREATE TABLE roster (
  rost_id     INTEGER      NOT NULL,
  sect_id     INTEGER      NOT NULL,
  stu_id      INTEGER      NOT NULL,
  year_id     SMALLINT     NOT NULL,
  start_date  @date        NOT NULL,
  end_date    @date,
  home_flag   CHAR(1)      NOT NULL,
  last_upd    @stamp       NOT NULL,
  PRIMARY KEY (rost_id)
) @options;
CREATE INDEX roster_student ON roster (stu_id);

CREATE TABLE att_daily (
  att_id      INTEGER      NOT NULL,
  stu_id      INTEGER      NOT NULL,
  sch_no      INTEGER      NOT NULL,
  year_id     SMALLINT     NOT NULL,
  term_id     INTEGER      NOT NULL,
  att_date    @date        NOT NULL,
  att_code    VARCHAR(4)   NOT NULL,
  reason      VARCHAR(120),
  time_in     VARCHAR(8),            -- of a late arrival
  time_out    VARCHAR(8),            -- of an early leave
  last_upd    @stamp       NOT NULL,
  PRIMARY KEY (att_id)
) @options;
CREATE INDEX att_daily_student ON att_daily (stu_id);
