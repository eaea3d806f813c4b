package sync_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/edfisync/edfisync/sandbox"
	"github.com/edfisync/edfisync/sync"
	"github.com/edfisync/edfisync/syncdb"
)

// A hold stays until somebody decides or the rows are back (I5e): that a later run would pass the limits is no answer.

// serveYears gives the world a new sandbox that has these school years.
func (w *world) serveYears(years ...int) {
	w.t.Helper()
	var err error
	w.sandbox, err = sandbox.New(sandbox.Options{
		Model: w.model, Personality: w.api, ClientID: "id", ClientSecret: "secret", SchoolYears: years, MaxTokens: 1000,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { w.sandbox.Close() })
	w.front.next = w.sandbox.Handler()
}

// What the run that held created makes the share of the deletes smaller; they wait all the same, and go once somebody has approved.
func TestHeldDeletesWaitThoughTheirShareHasShrunk(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(240)
	w.exec(`delete from demographic where id > 40`)
	w.mustRun()
	w.exec(`delete from demographic`) // another district's data under the same view
	for i := 41; i <= 240; i++ {
		w.exec(`insert into demographic values (?, ?, 1, ?)`, i, i, fmt.Sprintf("login%d", i))
	}
	for run := range 3 {
		s, calls := w.mustRun()
		if n := tally(calls)["DELETE "+demographics]; n > 0 || len(s.HeldBack) != 1 || s.HeldBack[0].Ops != 40 {
			t.Errorf("run %d: %d deletes, held %+v, want 40 held", run+1, n, s.HeldBack)
		}
	}
	w.exec(`insert into demographic values (1, 1, 1, 'login1')`) // one of them is back
	w.mustRun()
	if h := w.decide(syncdb.PlanApproved); h.Ops != 39 {
		t.Errorf("approved %d calls, want the 39 whose rows are gone", h.Ops)
	}
	if _, calls := w.mustRun(); tally(calls)["DELETE "+demographics] != 39 {
		t.Errorf("after the approval: got calls %v, want 39 deletes", tally(calls))
	}
	w.converged()
}

// F68, the runs after the first: this year's records are in the ledger by then, and last year's still wait.
func TestF68LastYearStaysInTheRunsAfterARollover(t *testing.T) {
	t.Parallel()
	w := newCourses(t, 3)
	w.serveYears(2026, 2027)
	w.options.Safeguards = sync.Safeguards{}
	w.mustRun()
	before := w.records("ed-fi/studentSectionAssociations")
	year := strings.NewReplacer("2026", "2027", "2025-", "2026-")
	for _, file := range []string{"sessions.sql", "gradingPeriods.sql", "courseOfferings.sql", "sections.sql", "studentSectionAssociations.sql", "grades.sql"} {
		w.pack[file].Data = []byte(year.Replace(string(w.pack[file].Data)))
	}
	w.exec(`update seat set begins = '2026-08-18'`)
	for range 3 {
		w.mustRun()
	}
	after := strings.Join(w.records("ed-fi/studentSectionAssociations"), "\n")
	for _, record := range before {
		if !strings.Contains(after, record) {
			t.Errorf("a seat of last year is gone, and nobody approved it: %s", record)
		}
	}
}

// A few rows move to the new year, far below every limit: what they leave behind waits in each run.
func TestF68AFewRowsOfANewYearLeaveLastYearsAlone(t *testing.T) {
	t.Parallel()
	w := newCourses(t, 1)
	w.serveYears(2026, 2027)
	w.options.Safeguards = sync.Safeguards{}
	for _, table := range []string{"grade", "seat", "section", "offering"} {
		w.exec(`delete from ` + table)
	}
	w.exec(`alter table session add column year integer default 2026`)
	for i := 3; i < 43; i++ {
		w.exec(`insert into session values (?, 10, ?, 2026)`, i, "S"+strings.Repeat("x", i))
	}
	for _, f := range []string{"sections.sql", "studentSectionAssociations.sql", "grades.sql", "gradingPeriods.sql", "courseOfferings.sql"} {
		delete(w.pack, f)
	}
	w.pack["sessions.sql"].Data = []byte(strings.ReplaceAll(string(w.pack["sessions.sql"].Data), `2026 as`, `year as`))
	w.mustRun()
	n := w.count("ed-fi/sessions")
	w.exec(`update session set year = 2027 where id < 5`)
	for range 3 {
		w.mustRun()
	}
	if now := w.count("ed-fi/sessions"); now != n+4 {
		t.Errorf("%d sessions before the rollover of 4, %d now, and nobody approved a delete", n, now)
	}
}

// Rows that say neither by _key nor by natural key which record is theirs may be those of any record that seems gone (I5f).
func TestRowsThatNameNoRecordHoldTheDeletesOfTheirResource(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(20)
	w.pack["studentEducationOrganizationAssociations.sql"].Data = []byte(`select s.uid as "_key", s.uid as "studentReference.studentUniqueId",
		d.agency as "educationOrganizationReference.educationOrganizationId", d.login as "loginId" from demographic d left join student s on s.id = d.student`)
	w.mustRun()
	w.exec(`update demographic set student = student + 1000`) // the join breaks
	s, calls := w.mustRun()
	if len(calls) > 0 || len(s.HeldBack) != 1 || s.HeldBack[0].Rule != sync.RuleUnnamedRows {
		t.Errorf("got calls %v and held %+v, want the deletes held", tally(calls), s.HeldBack)
	}
	w.exec(`update demographic set student = student - 1000`)
	if _, calls := w.mustRun(); len(calls) > 0 || len(w.holds(syncdb.PlanOpen)) > 0 {
		t.Errorf("once the join is mended: got calls %v and holds %+v, want none", tally(calls), w.holds(syncdb.PlanOpen))
	}
	w.converged()
}
