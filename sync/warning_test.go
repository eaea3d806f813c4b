package sync_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/edfisync/edfisync/sync"
	"github.com/edfisync/edfisync/syncdb"
)

// told are the warnings by code, what names it and what it is about.
func told(ws []sync.Warning) []string {
	out := []string{}
	for _, w := range ws {
		about := w.Resource
		if w.School != 0 {
			about = strings.Fields(w.Text)[1]
		}
		switch {
		case w.KeyHash != "":
			about += " key"
		case w.SourceRowHash != "":
			about += " row"
		case w.More > 0:
			about = "more"
		}
		out = append(out, w.Code+" "+w.From+" "+about)
	}
	slices.Sort(out)
	return out
}

// TestWhatIsNamedAndNotThereIsTold: a run says so, in its summary and in the ledger. Students 1 to 8 are enrolled in turn at schools 11 and 10.
func TestWhatIsNamedAndNotThereIsTold(t *testing.T) {
	t.Parallel()
	student := func(uid string) sync.RecordName {
		return sync.RecordName{Resource: "students", Key: map[string]string{"studentUniqueId": uid}}
	}
	row := func(resource, key string) sync.RecordName { return sync.RecordName{Resource: resource, SourceKey: key} }
	for _, c := range []struct {
		name    string
		edit    []string
		schools sync.Schools
		ask     sync.Ask
		want    []string
	}{
		{"schools that are there", nil, sync.Schools{Only: []int64{10, 11}}, sync.Ask{}, nil},
		{"a school that is not", nil, sync.Schools{Only: []int64{10, 12}}, sync.Ask{}, []string{"school-not-in-source schools 12"}},
		{"a school that is not there is left out", nil, sync.Schools{Except: []int64{12}}, sync.Ask{}, []string{"school-not-in-source exceptSchools 12"}},
		{"a school that is there is left out", nil, sync.Schools{Except: []int64{10}}, sync.Ask{}, nil},
		{"asked for a school that is there", nil, sync.Schools{}, sync.Ask{Schools: []int64{10}}, nil},
		{"asked for one that is not", nil, sync.Schools{}, sync.Ask{Schools: []int64{10, 12}}, []string{"school-not-in-source scope 12"}},
		{"asked for one that is not, of two resources", nil, sync.Schools{}, sync.Ask{Schools: []int64{12}, Resources: []string{"students", "schools"}}, []string{"school-not-in-source scope 12"}},
		{"asked for a school of which the resource has nothing", nil, sync.Schools{}, sync.Ask{Schools: []int64{11}, Resources: []string{"classPeriods"}}, nil},
		{"asked for one the connection leaves out", nil, sync.Schools{Only: []int64{10}}, sync.Ask{Schools: []int64{11}}, []string{"school-not-synced scope 11"}},
		{
			"a school whose only row breaks a rule", []string{`insert into enrolment values (20, 1, 12, '2025-08-18', 'no such grade')`},
			sync.Schools{Only: []int64{12}}, sync.Ask{}, nil,
		},
		{
			"a school of which all rows are gone, though the ledger has entries of it",
			[]string{
				`delete from enrolment where school = 10`, `delete from period where school = 10`, `delete from school where id = 10`,
			},
			sync.Schools{Only: []int64{10, 11}}, sync.Ask{}, []string{"school-not-in-source schools 10"},
		},
		{"asked for a record", nil, sync.Schools{}, sync.Ask{Records: []sync.RecordName{student("S0001"), row("students", "2")}}, nil},
		{
			"asked for records that are gone", []string{`delete from enrolment where student = 7`, `delete from demographic where student = 7`, `delete from student where id = 7`},
			sync.Schools{}, sync.Ask{Records: []sync.RecordName{student("S0007"), row("students", "7")}}, nil,
		},
		{
			"asked for records there never were", nil, sync.Schools{}, sync.Ask{Records: []sync.RecordName{student("nobody"), row("students", "4711"), row("schools", "10")}},
			[]string{"record-not-found scope ed-fi/students key", "record-not-found scope ed-fi/students row"},
		},
		{
			"asked for rows that break a rule", []string{`update student set last = null where id = 3`},
			sync.Schools{}, sync.Ask{Records: []sync.RecordName{student("S0003"), row("students", "3")}}, nil,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.fill(8)
			w.mustRun()
			for _, statement := range c.edit {
				w.exec(statement)
			}
			w.options.Schools = c.schools
			s, _ := w.mustAsk(c.ask)
			if got := told(s.Warnings); !slices.Equal(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
			runs, err := w.ledger.Runs(t.Context(), w.conn.ID, 1)
			if err != nil {
				t.Fatal(err)
			}
			kept, totals := sync.WarningsOf(runs[0].Totals)
			if diff := cmp.Diff(kept, s.Warnings); diff != "" {
				t.Errorf("the ledger has other warnings (-ledger +summary):\n%s", diff)
			}
			if strings.Contains(string(totals), "warnings") || !strings.Contains(string(totals), `"rows":`) {
				t.Errorf("the totals are %s, want counts only", totals)
			}
		})
	}
}

// TestPlansAndForecastsTellOfSchoolsNobodyHas, before anything is sent.
func TestPlansAndForecastsTellOfSchoolsNobodyHas(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(4)
	w.options.Schools = sync.Schools{Only: []int64{10, 255901999}}
	want := "school 255901999 (schools of the connection) is named by no row of the source: "
	e, closeAll := w.engine()
	defer closeAll()
	p, err := e.Plan(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Warnings) != 1 || !strings.HasPrefix(p.Warnings[0].Text, want) {
		t.Errorf("the plan warns of %+v", p.Warnings)
	}
	if f := w.forecast(nil, ""); len(f.Warnings) != 1 || !strings.HasPrefix(f.Warnings[0].Text, want) {
		t.Errorf("the forecast warns of %+v", f.Warnings)
	}
}

// TestManyWarningsOfOneKindAreCounted: a list of schools of another district.
func TestManyWarningsOfOneKindAreCounted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(2)
	for id := range int64(50) {
		w.options.Schools.Only = append(w.options.Schools.Only, 1000+id)
	}
	s, _ := w.mustRun()
	if len(s.Warnings) != 21 || s.Warnings[20].More != 30 || s.Warnings[20].School != 0 {
		t.Errorf("got %d warnings, the last %+v; want 20 and one for the other 30", len(s.Warnings), s.Warnings[len(s.Warnings)-1])
	}
}

// TestAScopeWhoseResourceWasSwitchedOffMeanwhileIsTold: it was asked for before.
func TestAScopeWhoseResourceWasSwitchedOffMeanwhileIsTold(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fill(2)
	w.options.Scope = syncdb.RunScope{Parts: []syncdb.ScopePart{{Resource: "ed-fi/grades"}, {Resource: "ed-fi/schools"}}}
	s, _, err := w.run()
	if err != nil {
		t.Fatal(err)
	}
	if got := told(s.Warnings); !slices.Equal(got, []string{"resource-not-synced scope ed-fi/grades"}) {
		t.Errorf("got %q", got)
	}
}
