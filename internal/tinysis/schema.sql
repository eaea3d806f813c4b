create table agency (id integer primary key, name text, parent integer);
create table school (id integer primary key, name text, agency integer);
create table period (id integer primary key, name text, school integer, meetings text not null default '[]');
create table student (id integer primary key, uid text, first text, last text, birth text);
create table enrolment (id integer primary key, student integer, school integer, entry text, grade text);
create table demographic (id integer primary key, student integer, agency integer, login text);
