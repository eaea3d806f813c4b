package sync_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/edfisync/edfisync/edfi"
	"github.com/edfisync/edfisync/schema"
	"github.com/edfisync/edfisync/sync"
)

// asked is a target that says what a test wants of the credentials.
type asked struct {
	*edfi.Client
	info edfi.TokenInfo
}

func (a asked) OpenAPI(context.Context) (resources, descriptors []byte, err error) {
	return nil, nil, errors.New("not offered here")
}

func (a asked) TokenInfo(context.Context) (*edfi.TokenInfo, error) { return &a.info, nil }

// forecast predicts a run, and fails when that makes a write call or leaves anything in the ledger.
func (w *world) forecast(info *edfi.TokenInfo, leaveOut string) *sync.Forecast {
	w.t.Helper()
	e, closeAll := w.engine()
	defer closeAll()
	client := e.Reader.(*edfi.Client)
	var target sync.ForecastTarget = client
	if info != nil {
		target = asked{client, *info} // reading OpenAPI documents takes most of a test's time, so most do without
	}
	if leaveOut != "" {
		e.Dependencies = slices.DeleteFunc(e.Dependencies, func(d schema.Dependency) bool { return strings.HasSuffix(d.Resource, leaveOut) })
	}
	w.front.take()
	f, err := e.Forecast(w.t.Context(), target)
	if err != nil {
		w.t.Fatal(err)
	}
	if calls := w.front.take(); len(calls) != 0 {
		w.t.Errorf("a forecast made write calls: %v", calls)
	}
	if issues, err := w.ledger.Issues(w.t.Context(), w.conn.ID, false); err != nil || len(issues) != 0 && !w.ran {
		w.t.Errorf("a forecast left issues %v, %v", issues, err)
	}
	return f
}

func reasons(f *sync.Forecast) []string {
	var out []string
	for _, r := range f.Reasons {
		out = append(out, fmt.Sprintf("%s %s (%s): %d, frees %d", r.Code, r.Resource, r.Owner, r.Rows, r.Frees))
	}
	return out
}

// What is predicted is what happens.
func TestForecastSaysWhatTheRunThenShows(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		change func(w *world)
		want   []string
	}{
		{"nothing is wrong", func(*world) {}, nil},
		{"a row breaks a rule", func(w *world) { w.exec(`update student set birth = null where id = 1`) },
			[]string{"required-missing ed-fi/students (source data): 1, frees 2"}},
		{"a code has no descriptor", func(w *world) { w.exec(`update enrolment set grade = 'X' where id in (1, 2)`) },
			[]string{"descriptor-unmapped ed-fi/studentSchoolAssociations (mapping): 2, frees 0"}},
		{"the target lacks a descriptor", func(w *world) {
			w.pack["descriptors.yaml"].Data = []byte(strings.Replace(string(w.pack["descriptors.yaml"].Data), "Tenth grade", "No such grade", 1))
			w.exec(`update enrolment set grade = '10' where id = 3`)
		}, []string{"descriptor-unknown ed-fi/studentSchoolAssociations (mapping): 1, frees 0"}},
		{"a record refers to what is nowhere", func(w *world) { w.exec(`update demographic set agency = 77 where id = 1`) },
			[]string{"unresolved-reference ed-fi/studentEducationOrganizationAssociations (source data): 1, frees 0"}},
		{"a record refers to a row that is not there", func(w *world) {
			w.exec(`insert into period values (9, 'P9', 99)`)
		}, []string{"missing-reference ed-fi/classPeriods (source data): 1, frees 0"}},
		{"two rows say different things", func(w *world) {
			w.exec(`insert into student values (9, 'S0002', 'Another', 'Pupil', '2011-01-01')`)
		}, []string{"duplicate-natural-key ed-fi/students (mapping): 1, frees 2", "duplicate-natural-key ed-fi/students (mapping): 1, frees 0"}},
		{"two rows say the same", func(w *world) {
			w.exec(`insert into student select 9, uid, first, last, birth from student where id = 2`)
		}, []string{"duplicate-natural-key ed-fi/students (mapping): 1, frees 0"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.fill(4)
			c.change(w)
			var info *edfi.TokenInfo
			if c.want != nil {
				info = &edfi.TokenInfo{}
			}
			f := w.forecast(info, "")
			slices.SortStableFunc(f.Reasons, func(a, b sync.ForecastReason) int { return int(b.Frees - a.Frees) })
			if diff := cmp.Diff(c.want, reasons(f)); diff != "" {
				t.Errorf("reasons (-want +got):\n%s", diff)
			}
			s, _ := w.mustRun()
			if f.Rows != s.Totals.Rows || f.Arrive != s.Created+s.Updated || f.Fail != s.Held+s.Failed {
				t.Errorf("predicted %d rows, %d arrive, %d fail; the run shows %+v", f.Rows, f.Arrive, f.Fail, s.Totals)
			}
			w.ran = true
			if again := w.forecast(&edfi.TokenInfo{}, ""); again.Unchanged != s.Created || again.Fail != f.Fail {
				t.Errorf("after the run the forecast is %+v, want what was created unchanged and the same rows failing", again)
			}
		})
	}
}

func TestForecastKnowsWhatTheCredentialsAreFor(t *testing.T) {
	t.Parallel()
	claims := func(leaveOut string) []edfi.ResourceClaim {
		var out []edfi.ResourceClaim
		for file := range sisPack {
			if name, ok := strings.CutSuffix(file, ".sql"); ok && name != leaveOut {
				out = append(out, edfi.ResourceClaim{Resource: "/ed-fi/" + name, Operations: []string{"Create", "Read", "Update", "Delete"}})
			}
		}
		return out
	}
	agency := func(id int64) []edfi.EducationOrganization { return []edfi.EducationOrganization{{ID: id}} }
	for _, c := range []struct {
		name     string
		info     edfi.TokenInfo
		leaveOut string
		want     []string
	}{
		{"all is allowed", edfi.TokenInfo{EducationOrganizations: agency(1), Resources: claims("")}, "", nil},
		{"the claim set lacks a resource", edfi.TokenInfo{EducationOrganizations: agency(1), Resources: claims("students")}, "",
			[]string{"claim-denied ed-fi/students (target host): 2, frees 4"}},
		{"the credentials are for one of the schools", edfi.TokenInfo{EducationOrganizations: agency(10)}, "", []string{
			"no-relationship ed-fi/localEducationAgencies (target host): 1, frees 4",
			"no-relationship ed-fi/studentEducationOrganizationAssociations (target host): 2, frees 0",
			"no-relationship ed-fi/schools (target host): 1, frees 0",
			"no-relationship ed-fi/studentSchoolAssociations (target host): 1, frees 0",
		}},
		{"the target does not have a resource", edfi.TokenInfo{EducationOrganizations: agency(1)}, "/classPeriods", []string{"no-such-resource ed-fi/classPeriods (mapping): 0, frees 0"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.fill(2)
			f := w.forecast(&c.info, c.leaveOut)
			if diff := cmp.Diff(c.want, reasons(f)); diff != "" {
				t.Errorf("reasons (-want +got):\n%s\nnotes: %v", diff, f.Notes)
			}
			for _, r := range f.Reasons {
				if r.Hint == "" {
					t.Errorf("nobody is told what to do about %s", r.Code)
				}
			}
		})
	}
}
