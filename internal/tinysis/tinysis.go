// Package tinysis is a school information system of six tables for tests that kill and break things: its schema, its mapping pack, edits
// that touch every verb, and a comparison with an Ed-Fi API that shares no code with the engine, so that a fault of the engine cannot hide
// in it.
package tinysis

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"

	"github.com/jmoiron/sqlx"
	_ "modernc.org/sqlite" // the driver "sqlite"
)

//go:embed schema.sql
var schemaSQL string

//go:embed pack
var pack embed.FS

// Pack is the mapping pack, for data standard 5.2.
func Pack() fs.FS {
	sub, err := fs.Sub(pack, "pack")
	if err != nil {
		panic(err) // the folder is in the program
	}
	return sub
}

// DB is the SIS. Safe for concurrent use.
type DB struct {
	*sqlx.DB
	Path string
}

// Create makes the SIS at path, with a district of two schools, two class periods and n enrolled students, and one student whose birth date
// is none: he is invalid and what refers to him is blocked, in every run.
func Create(ctx context.Context, path string, n int) (*DB, error) {
	db, err := sqlx.Open("sqlite", "file:"+path+"?_pragma=busy_timeout(10000)&_pragma=synchronous(OFF)")
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	d := &DB{DB: db, Path: path}
	statements := []string{
		schemaSQL,
		`insert into agency values (1, 'District', null)`,
		`insert into school values (10, 'North', 1), (11, 'South', 1)`,
		`insert into student values (2000000001, 'INVALID', 'No', 'Birthday', 'soon')`,
		`insert into enrolment values (2000000001, 2000000001, 10, '2025-08-18', '9')`,
	}
	if err := d.all(ctx, statements...); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	if err := d.Add(ctx, 0, n); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return d, nil
}

// all executes statements in one transaction.
func (d *DB) all(ctx context.Context, statements ...string) error {
	tx, err := d.BeginTxx(ctx, nil)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	defer tx.Rollback() //nolint:errcheck // after Commit it does nothing
	for _, s := range statements {
		if _, err := tx.ExecContext(ctx, s); err != nil {
			return fmt.Errorf("%s: %w", s, err)
		}
	}
	return tx.Commit()
}

// GroupSize is the greatest n that Add takes.
const GroupSize = 500

// Add inserts a group: two class periods and n students, each with an enrolment and demographics.
func (d *DB) Add(ctx context.Context, group, n int) error {
	from := group * GroupSize
	numbers := fmt.Sprintf(`with recursive n(i) as (select %d union all select i + 1 from n where i < %d)`, from+1, from+n)
	return d.all(
		ctx,
		fmt.Sprintf(`insert into period (id, name, school) values (%d, 'P%[2]dA', 10), (%[1]d + 1, 'P%[2]dB', 11)`, from+1, group),
		numbers+` insert into student select i, 'S' || i, 'First' || i, 'Surname', '2010-02-03' from n`,
		numbers+` insert into enrolment select i, i, 10 + i % 2, '2025-08-18', '9' from n`,
		numbers+` insert into demographic select i, i, 1, 'login' || i from n`,
	)
}

// Change edits the group in every way a row can change. round tells one call from the next, so that each changes something.
//
//	values     first names, log-ins, grades            PUT
//	keys       class period names                      PUT with a new natural key
//	           the unique id of one student            delete and recreate, with all that refers to him
//	           a school of one enrolment               delete and recreate
//	claim      demographics under another source key   ledger only
func (d *DB) Change(ctx context.Context, group, round int) error {
	from, to := group*GroupSize, (group+1)*GroupSize
	of := func(column string) string { return fmt.Sprintf(` where %s > %d and %[1]s <= %[3]d`, column, from, to) }
	one := func(column string) string { return fmt.Sprintf(` where %s = %d`, column, from+1) }
	return d.all(
		ctx,
		fmt.Sprintf(`update student set first = 'First' || id || 'r%d'`, round)+of("id"),
		fmt.Sprintf(`update demographic set login = 'login' || id || 'r%d'`, round)+of("student")+` and student % 2 = 0`,
		`update enrolment set grade = case grade when '9' then '10' else '9' end`+of("student"),
		fmt.Sprintf(`update period set name = 'P%d' || case id %% 2 when 1 then 'A' else 'B' end || 'r%d'`, group, round)+of("id"),
		fmt.Sprintf(`update student set uid = 'S' || id || 'r%d'`, round)+one("id"),
		`update enrolment set school = 21 - school`+fmt.Sprintf(` where student = %d`, from+2),
		fmt.Sprintf(`update demographic set id = 1000000000 + %d * 1000 + student %% 1000`, round)+of("student")+` and student % 2 = 1`,
	)
}

// Drop deletes the group's rows.
func (d *DB) Drop(ctx context.Context, group int) error {
	from, to := group*GroupSize, (group+1)*GroupSize
	of := func(column string) string { return fmt.Sprintf(` where %s > %d and %[1]s <= %[3]d`, column, from, to) }
	return d.all(
		ctx,
		`delete from demographic`+of("student"), `delete from enrolment`+of("student"), `delete from student`+of("id"), `delete from period`+of("id"),
	)
}

// Swell gives the group's class periods n meeting times each: some sixty bytes of payload for every one.
func (d *DB) Swell(ctx context.Context, group, n int) error {
	from, to := group*GroupSize, (group+1)*GroupSize
	return d.all(ctx, fmt.Sprintf(`with recursive n(i) as (select 1 union all select i + 1 from n where i < %d)
		update period set meetings = (select json_group_array(json_object(
			'startTime', printf('%%02d:%%02d:%%02d', i / 3600, i / 60 %% 60, i %% 60), 'endTime', '23:00:00')) from n)
		where id > %d and id <= %d`, n, from, to))
}
