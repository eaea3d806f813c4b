package sync_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/edfisync/edfisync/sandbox"
)

// versionWorlds are worlds against every version of the API.
func versionWorlds(t *testing.T, test func(t *testing.T, w *world)) {
	t.Helper()
	for _, api := range sandbox.Personalities() {
		t.Run(string(api), func(t *testing.T) {
			t.Parallel()
			test(t, newWorldOn(t, api, api.Standard()))
		})
	}
}

// The engine does the same with every version: a first load, nothing, edits, keys that change, rows that go.
func TestEveryVersionOfTheAPIIsSyncedAlike(t *testing.T) {
	t.Parallel()
	versionWorlds(t, func(t *testing.T, w *world) {
		w.fill(10)
		s, calls := w.mustRun()
		if s.Created != 35 || len(calls) != 35 {
			t.Fatalf("first load: %d created, %d calls: totals %+v", s.Created, len(calls), s.Totals)
		}
		w.converged()
		w.options.Safeguards = lenient()
		for _, step := range []struct {
			name string
			edit []string
			want map[string]int
		}{
			{"a name", []string{`update student set last = 'New' where id = 1`}, map[string]int{"PUT ed-fi/students": 1}},
			{"a property that goes", []string{`update demographic set login = null where id = 2`}, map[string]int{"PUT ed-fi/studentEducationOrganizationAssociations": 1}},
			{"a class period's key, by PUT", []string{`update period set name = 'P9' where id = 1`}, map[string]int{"PUT ed-fi/classPeriods": 1}},
			{"an enrolment's day, by PUT", []string{`update enrolment set entry = '2025-09-01' where id = 3`}, map[string]int{"PUT ed-fi/studentSchoolAssociations": 1}},
			// A version before 7 would say 204 and keep the old agency.
			{"the agency of demographics, deleted and made anew", []string{`insert into agency values (2, 'Other', null)`, `update demographic set agency = 2 where id = 4`},
				map[string]int{"POST ed-fi/localEducationAgencies": 1, "DELETE ed-fi/studentEducationOrganizationAssociations": 1, "POST ed-fi/studentEducationOrganizationAssociations": 1}},
			{"a student's number, with all that is the student's", []string{`update student set uid = 'N0005' where id = 5`}, map[string]int{
				"POST ed-fi/students": 1, "DELETE ed-fi/students": 1, "POST ed-fi/studentSchoolAssociations": 1, "DELETE ed-fi/studentSchoolAssociations": 1,
				"POST ed-fi/studentEducationOrganizationAssociations": 1, "DELETE ed-fi/studentEducationOrganizationAssociations": 1,
			}},
			{"a student who leaves", []string{`delete from demographic where student = 6`, `delete from enrolment where student = 6`, `delete from student where id = 6`}, map[string]int{
				"DELETE ed-fi/students": 1, "DELETE ed-fi/studentSchoolAssociations": 1, "DELETE ed-fi/studentEducationOrganizationAssociations": 1,
			}},
		} {
			for _, statement := range step.edit {
				w.exec(statement)
			}
			s, calls := w.mustRun()
			clean(t, s)
			got := tally(calls)
			if diff := cmp.Diff(step.want, got); diff != "" {
				t.Errorf("%s: calls (-want +got):\n%s", step.name, diff)
			}
			w.converged()
		}
		w.sameAsFirstLoad()
	})
}

// sameAsFirstLoad fails unless the target holds what a first load of the same SIS into an empty target of the same version gives (I1).
func (w *world) sameAsFirstLoad() {
	w.t.Helper()
	fresh := newWorldOn(w.t, w.api, w.api.Standard())
	fresh.sisPath, fresh.pack = w.sisPath, w.pack
	fresh.mustRun()
	for name := range w.pack {
		resource, ok := strings.CutSuffix(name, ".sql")
		if !ok {
			continue
		}
		if diff := cmp.Diff(w.records("ed-fi/"+resource), fresh.records("ed-fi/"+resource)); diff != "" {
			w.t.Errorf("%s (-target +first load):\n%s", resource, diff)
		}
	}
}

// What a version refuses ends in the same outcome and, where the version says as much, the same code.
func TestEveryVersionsRefusalsHaveTheSameOutcome(t *testing.T) {
	t.Parallel()
	versionWorlds(t, func(t *testing.T, w *world) {
		w.fill(6)
		w.exec(`insert into student values (7, 'S0007', 'Not', 'Enrolled', '2010-02-03')`)
		w.mustRun()
		w.options.Safeguards = lenient()
		// Somebody else enrols a student we are to delete, and deletes a student we are to update.
		if err := w.sandbox.SetClient(sandbox.Client{ID: adminID, Secret: "secret"}); err != nil {
			t.Fatal(err)
		}
		w.asAdmin("POST", "classPeriods", `{"classPeriodName":"Theirs","schoolReference":{"schoolId":11}}`)
		w.exec(`delete from enrolment where school = 11`)
		w.exec(`delete from school where id = 11`)
		w.exec(`update student set last = 'Changed' where id = 1`)
		s, _ := w.mustRun()
		if s.Totals.Blocked != 1 || !slices.Contains(w.codes(), "dependent-exists") {
			t.Errorf("a school another client's period refers to: totals %+v, issues %v", s.Totals, w.codes())
		}
		if s.Updated != 1 {
			t.Errorf("it held up something else: totals %+v", s.Totals)
		}
	})
}

// asAdmin makes a call with full access, wherever the version has its addresses.
func (w *world) asAdmin(method, path, body string) {
	w.t.Helper()
	if status, _ := w.as(adminID, method, path, body); status >= 300 {
		w.t.Fatalf("%s %s: %d", method, path, status)
	}
}
