package sync_test

import (
	"testing"

	"github.com/edfisync/edfisync/sandbox"
)

// Agencies refer to each other in a circle at the target, and their rows are gone: each would stand against the delete of the other for ever (I1).
func TestRecordsThatReferToEachOtherInACircleAreDeleted(t *testing.T) {
	t.Parallel()
	// Each row is right when it is sent, and the other one is wrong then: that is how the circle gets to the target.
	for _, c := range []struct {
		name    string
		circles []int // how many agencies each has
		deletes int64
	}{
		{"two agencies", []int{2}, 2},
		{"five agencies", []int{5}, 5},
		{"two circles, and agencies below one", []int{3, 2}, 6},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			for _, p := range []sandbox.Personality{sandbox.ODS73, sandbox.DMS} {
				w := newCircles(t, p, c.circles)
				w.exec(`delete from agency where id > 50`)
				s, calls := w.mustRun()
				got := tally(calls)
				if s.Deleted != c.deletes || s.Totals.Blocked != 0 || s.Updated != 0 {
					t.Errorf("%s: got totals %+v, calls %v; want %d deletes and nothing else", p, s.Totals, got, c.deletes)
				}
				if n := got["PUT ed-fi/localEducationAgencies"]; n != len(c.circles) {
					t.Errorf("%s: %d PUTs, want one for each circle", p, n)
				}
				w.converged()
			}
		})
	}
}

// newCircles is a world whose target has agencies that refer to each other, circle by circle from number 51 on, and one below them. All rows are right again.
func newCircles(t *testing.T, p sandbox.Personality, circles []int) *world {
	t.Helper()
	w := newWorldOn(t, p, "5.2")
	w.fill(3)
	w.options.Safeguards = lenient()
	id := 51
	for _, n := range circles {
		for i := range n {
			parent := any(id + i + 1)
			if i == n-1 {
				parent = nil
			}
			w.exec(`insert into agency values (?, 'Agency', ?)`, id+i, parent)
		}
		id += n
	}
	if len(circles) > 1 {
		w.exec(`insert into agency values (99, 'Below', 51)`)
	}
	w.mustRun()
	id = 51
	for _, n := range circles { // the last one goes below the first, whose row is wrong meanwhile
		w.exec(`update agency set name = null where id = ?`, id)
		w.exec(`update agency set parent = ? where id = ?`, id, id+n-1)
		w.mustRun()
		w.exec(`update agency set name = 'Agency' where id = ?`, id)
		id += n
	}
	return w
}

// A circle that something else stands against stays, and nothing is written to it again and again (I22).
func TestACircleThatIsReferredToStaysAsItIs(t *testing.T) {
	t.Parallel()
	w := newCircles(t, sandbox.ODS73, []int{2})
	w.neighbour("POST", "schools", `{"schoolId":900,"nameOfInstitution":"Theirs","localEducationAgencyReference":{"localEducationAgencyId":51},
		"educationOrganizationCategories":[{"educationOrganizationCategoryDescriptor":"uri://ed-fi.org/EducationOrganizationCategoryDescriptor#School"}],
		"gradeLevels":[{"gradeLevelDescriptor":"uri://ed-fi.org/GradeLevelDescriptor#Ninth grade"}]}`, 201)
	w.neighbour("POST", "schools", `{"schoolId":901,"nameOfInstitution":"Theirs","localEducationAgencyReference":{"localEducationAgencyId":52},
		"educationOrganizationCategories":[{"educationOrganizationCategoryDescriptor":"uri://ed-fi.org/EducationOrganizationCategoryDescriptor#School"}],
		"gradeLevels":[{"gradeLevelDescriptor":"uri://ed-fi.org/GradeLevelDescriptor#Ninth grade"}]}`, 201)
	w.exec(`delete from agency where id > 50`)
	w.mustRun()
	for range 2 {
		s, calls := w.mustRun()
		if n := tally(calls)["PUT ed-fi/localEducationAgencies"]; n != 0 || s.Totals.Blocked != 2 {
			t.Errorf("%d PUTs, totals %+v; want both blocked and no more writes", n, s.Totals)
		}
	}
}
