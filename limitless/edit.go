package limitless

import (
	"context"
	"fmt"

	"github.com/jmoiron/sqlx"
)

// Predicted is how many calls a sync must make for a set of edits, by resource ("ed-fi/students"). It comes from the edits themselves,
// not from any sync code: which row was written, and what record that row stands for. It holds for data without flaws in the rows edited,
// synced once before the edits.
type Predicted struct {
	Post, Put, Delete map[string]int
}

// Total is the number of calls in all.
func (p Predicted) Total() int { return sum(p.Post) + sum(p.Put) + sum(p.Delete) }

// Edit does what a school office does in a day, on a database filled by Generate with the same Options; it must be called once. For every
// 400 students, at least once:
//
//	names of 2 students, home addresses of 2, reasons of 4 attendance rows, credits of a section, name of a member of staff
//	a withdrawal: enrolment and running rosters end, coming rosters go
//	4 rows of the next day's attendance, and a new student with all that belongs to one
//	4 attendance rows and a roster row deleted
//
// and once: a room's seats, a job's share of full time, an aide taken off a section, and a student deleted with every row. No edit changes
// a natural key: EditKeys does.
func Edit(ctx context.Context, db *sqlx.DB, dialect Dialect, opts Options) (Predicted, error) {
	e, err := newEditor(ctx, db, dialect, opts)
	if err != nil {
		return Predicted{}, fmt.Errorf("edit demo data: %w", err)
	}
	defer e.l.rollback()
	for _, step := range []func(context.Context) error{
		e.rename, e.move, e.excuse, e.withdraw, e.sections, e.staff, e.nextDay, e.newStudents, e.deleteAttendance, e.dropRoster, e.deleteStudent,
	} {
		if err := step(ctx); err != nil {
			return Predicted{}, fmt.Errorf("edit demo data: %w", err)
		}
	}
	if err := e.l.commit(); err != nil {
		return Predicted{}, fmt.Errorf("edit demo data: %w", err)
	}
	return e.predicted, nil
}

// EditKeys changes two natural keys that the Ed-Fi API lets a PUT change: the name of a class period, and the entry date of an
// enrolment. The period's name is in the body of every section that meets in it, so those are predicted as PUTs too.
func EditKeys(ctx context.Context, db *sqlx.DB, dialect Dialect, opts Options) (Predicted, error) {
	e, err := newEditor(ctx, db, dialect, opts)
	if err != nil {
		return Predicted{}, fmt.Errorf("edit keys of demo data: %w", err)
	}
	defer e.l.rollback()
	for _, step := range []func(context.Context) error{e.renamePeriod, e.enterLater} {
		if err := step(ctx); err != nil {
			return Predicted{}, fmt.Errorf("edit keys of demo data: %w", err)
		}
	}
	if err := e.l.commit(); err != nil {
		return Predicted{}, fmt.Errorf("edit keys of demo data: %w", err)
	}
	return e.predicted, nil
}

// EditAttendance gives every nth attendance row another reason, in one statement: a change of a chosen size in the largest table.
func EditAttendance(ctx context.Context, db *sqlx.DB, dialect Dialect, nth int) (Predicted, error) {
	p := newPredicted()
	if nth < 1 {
		return p, fmt.Errorf("edit demo attendance: every %dth row is none", nth)
	}
	e := &editor{l: &loader{dialect: dialect}, predicted: p}
	var err error
	if e.l.tx, err = db.BeginTxx(ctx, nil); err != nil {
		return p, fmt.Errorf("edit demo attendance: %w", err)
	}
	defer e.l.rollback()
	err = e.change(ctx, p.Put, "studentSchoolAttendanceEvents", "UPDATE att_daily SET reason = concat('Reviewed, ', att_code) WHERE att_id % ? = 0", nth)
	if err == nil {
		err = e.l.commit()
	}
	if err != nil {
		return p, fmt.Errorf("edit demo attendance: %w", err)
	}
	return p, nil
}

func newPredicted() Predicted {
	return Predicted{Post: map[string]int{}, Put: map[string]int{}, Delete: map[string]int{}}
}

// editor makes edits in one transaction and counts what they must lead to.
type editor struct {
	l         *loader
	g         *generator
	pupils    []pupil // those no edit has touched yet: enrolled all year in one school, without a flaw
	unit      int     // how often each edit is made
	today     int     // first day of instruction without attendance
	predicted Predicted
}

func newEditor(ctx context.Context, db *sqlx.DB, dialect Dialect, opts Options) (*editor, error) {
	opts, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	e := &editor{g: newGenerator(opts), unit: max(1, opts.Students/400), today: opts.AttendancePerStudent, predicted: newPredicted()}
	e.g.stamp = fmt.Sprintf("%d-02-01 06:00:00", opts.SchoolYear)
	for i := range opts.Students {
		d := e.g.dice(streamStudent, i)
		p := e.g.newPupil(d, i)
		e.g.enrolments(d, &p)
		if p.flaw == "" && len(p.stays) == 1 && p.stays[0].from == 0 && p.stays[0].to == instructionDays {
			e.pupils = append(e.pupils, p)
		}
	}
	if e.l, err = newLoader(ctx, db, dialect); err != nil {
		return nil, err
	}
	for t, column := range map[table]string{enrolment: "enr_id", roster: "rost_id", attDaily: "att_id"} {
		last, err := number(ctx, e.l.tx, "SELECT max("+column+") FROM "+e.l.layouts[t].name)
		if err != nil {
			e.l.rollback()
			return nil, err
		}
		e.g.next[t] = last + 1
	}
	return e, nil
}

// take hands out pupils no other edit gets, from all over the list.
func (e *editor) take(n int) []pupil {
	var out []pupil
	for range n {
		i := len(e.pupils) * 5 / 8
		out = append(out, e.pupils[i])
		e.pupils = append(e.pupils[:i], e.pupils[i+1:]...)
	}
	return out
}

// exec runs a statement with ? for parameters and returns the number of rows it touched.
func (e *editor) exec(ctx context.Context, query string, args ...any) (int, error) {
	result, err := e.l.tx.ExecContext(ctx, e.l.tx.Rebind(query), args...)
	if err != nil {
		return 0, err
	}
	n, err := result.RowsAffected()
	return int(n), err
}

// change runs a statement and counts a call for every row it touched, of which there must be one.
func (e *editor) change(ctx context.Context, calls map[string]int, resource, query string, args ...any) error {
	n, err := e.exec(ctx, query, args...)
	if err != nil {
		return err
	}
	if n == 0 {
		return fmt.Errorf("no row to edit for %s: the data is not what these options generate", resource)
	}
	calls["ed-fi/"+resource] += n
	return nil
}

func (e *editor) rename(ctx context.Context) error {
	for _, p := range e.take(2 * e.unit) {
		if err := e.change(ctx, e.predicted.Put, "students", "UPDATE person SET last_name = ?, last_upd = ? WHERE per_id = ?", p.human.last+"-Ëdited", e.g.stamp, p.human.id); err != nil {
			return err
		}
	}
	return nil
}

func (e *editor) move(ctx context.Context) error {
	for i, p := range e.take(2 * e.unit) {
		if err := e.change(ctx, e.predicted.Put, "studentEducationOrganizationAssociations", "UPDATE person_addr SET street = ? WHERE per_id = ? AND addr_code = 'HOM'", fmt.Sprintf("%d New Street", i+1), p.human.id); err != nil {
			return err
		}
	}
	return nil
}

func (e *editor) excuse(ctx context.Context) error {
	for _, p := range e.take(4 * e.unit) {
		if err := e.change(ctx, e.predicted.Put, "studentSchoolAttendanceEvents", "UPDATE att_daily SET reason = 'Note from home', last_upd = ? WHERE stu_id = ? AND att_date = ?", e.g.stamp, p.id, e.g.cal.instr[0]); err != nil {
			return err
		}
	}
	return nil
}

// withdraw ends an enrolment with the first day without attendance.
func (e *editor) withdraw(ctx context.Context) error {
	last := e.g.cal.instr[e.today]
	for _, p := range e.take(e.unit) {
		if err := e.change(ctx, e.predicted.Put, "studentSchoolAssociations", "UPDATE enrolment SET exit_date = ?, exit_code = 'X2', last_upd = ? WHERE stu_id = ? AND year_id = ?", last, e.g.stamp, p.id, e.g.opts.SchoolYear); err != nil {
			return err
		}
		ended, err := e.exec(ctx, "UPDATE roster SET end_date = ?, last_upd = ? WHERE stu_id = ? AND start_date <= ?", last, e.g.stamp, p.id, last)
		if err != nil {
			return err
		}
		dropped, err := e.exec(ctx, "DELETE FROM roster WHERE stu_id = ? AND start_date > ?", p.id, last)
		if err != nil {
			return err
		}
		e.predicted.Put["ed-fi/studentSectionAssociations"] += ended
		if dropped > 0 {
			e.predicted.Delete["ed-fi/studentSectionAssociations"] += dropped
		}
	}
	return nil
}

func (e *editor) sections(ctx context.Context) error {
	for _, s := range e.g.schools[0].sections[:min(e.unit, len(e.g.schools[0].sections))] {
		if err := e.change(ctx, e.predicted.Put, "sections", "UPDATE course_section SET credits = '0.750', last_upd = ? WHERE sect_id = ?", e.g.stamp, s.id); err != nil {
			return err
		}
	}
	if err := e.change(ctx, e.predicted.Put, "locations", "UPDATE room SET seats = 41 WHERE room_id = 1"); err != nil {
		return err
	}
	aide, err := number(ctx, e.l.tx, "SELECT min(sect_emp_id) FROM section_staff WHERE role_code = 'A'")
	if err != nil {
		return err
	}
	return e.change(ctx, e.predicted.Delete, "staffSectionAssociations", "DELETE FROM section_staff WHERE sect_emp_id = ?", aide)
}

func (e *editor) staff(ctx context.Context) error {
	if err := e.change(ctx, e.predicted.Put, "staffs", "UPDATE person SET last_name = 'Ñew-Name', last_upd = ? WHERE per_id > 1 AND per_id <= ?", e.g.stamp, 1+min(e.unit, 6)); err != nil {
		return err
	}
	return e.change(ctx, e.predicted.Put, "staffEducationOrganizationEmploymentAssociations", "UPDATE staff_job SET fte = '0.80' WHERE job_id = 1")
}

func (e *editor) nextDay(ctx context.Context) error {
	for _, p := range e.take(4 * e.unit) {
		e.g.writeAttendance(e.g.dice(streamEdit, p.number), p, p.stays[0], e.today, e.today+1)
	}
	return e.insert(ctx)
}

func (e *editor) newStudents(ctx context.Context) error {
	for i := range e.unit {
		number := e.g.total() + i
		d := e.g.dice(streamStudent, number)
		p := e.g.newPupil(d, number)
		e.g.enrolments(d, &p)
		s := p.stays[0]
		s.from, s.to, s.entry = e.today, instructionDays, "E3"
		p.stays = []stay{s}
		e.g.writePupil(d, p)
		e.g.writeStay(d, p, s, 0, min(e.today+5, instructionDays))
	}
	return e.insert(ctx)
}

// insert writes what the generator made and counts its records as POSTs.
func (e *editor) insert(ctx context.Context) error {
	for resource, n := range e.g.stats.Records {
		e.predicted.Post[resource] += n
	}
	clear(e.g.stats.Records)
	return e.l.flush(ctx, e.g.out)
}

func (e *editor) deleteAttendance(ctx context.Context) error {
	for _, p := range e.take(4 * e.unit) {
		if err := e.change(ctx, e.predicted.Delete, "studentSchoolAttendanceEvents", "DELETE FROM att_daily WHERE stu_id = ? AND att_date = ?", p.id, e.g.cal.instr[e.today-1]); err != nil {
			return err
		}
	}
	return nil
}

func (e *editor) dropRoster(ctx context.Context) error {
	for _, p := range e.take(e.unit) {
		last, err := number(ctx, e.l.tx, e.l.tx.Rebind("SELECT max(rost_id) FROM roster WHERE stu_id = ?"), p.id)
		if err != nil {
			return err
		}
		if err := e.change(ctx, e.predicted.Delete, "studentSectionAssociations", "DELETE FROM roster WHERE rost_id = ?", last); err != nil {
			return err
		}
	}
	return nil
}

// deleteStudent removes a student as if never entered.
func (e *editor) deleteStudent(ctx context.Context) error {
	p := e.take(1)[0]
	for _, t := range []string{"person_race", "person_phone", "person_email", "person_addr", "person"} {
		if _, err := e.exec(ctx, "DELETE FROM "+t+" WHERE per_id = ?", p.human.id); err != nil {
			return err
		}
	}
	if _, err := e.exec(ctx, "DELETE FROM student_trait WHERE stu_id = ?", p.id); err != nil {
		return err
	}
	if _, err := e.exec(ctx, "DELETE FROM enrolment WHERE stu_id = ? AND year_id <> ?", p.id, e.g.opts.SchoolYear); err != nil {
		return err
	}
	for _, gone := range [][2]string{{"att_daily", "studentSchoolAttendanceEvents"}, {"roster", "studentSectionAssociations"}, {"enrolment", "studentSchoolAssociations"}, {"student", "students"}} {
		if err := e.change(ctx, e.predicted.Delete, gone[1], "DELETE FROM "+gone[0]+" WHERE stu_id = ?", p.id); err != nil {
			return err
		}
	}
	e.predicted.Delete["ed-fi/studentEducationOrganizationAssociations"]++
	return nil
}

func (e *editor) renamePeriod(ctx context.Context) error {
	period := e.g.schools[0].periods[0]
	if err := e.change(ctx, e.predicted.Put, "classPeriods", "UPDATE sch_period SET period_name = 'First Period' WHERE period_id = ?", period); err != nil {
		return err
	}
	n, err := number(ctx, e.l.tx, e.l.tx.Rebind("SELECT count(*) FROM section_meeting WHERE period_id = ?"), period)
	if n > 0 {
		e.predicted.Put["ed-fi/sections"] += n
	}
	return err
}

func (e *editor) enterLater(ctx context.Context) error {
	p := e.pupils[0]
	return e.change(ctx, e.predicted.Put, "studentSchoolAssociations", "UPDATE enrolment SET entry_date = ?, last_upd = ? WHERE stu_id = ? AND year_id = ?", e.g.cal.instr[1], e.g.stamp, p.id, e.g.opts.SchoolYear)
}
