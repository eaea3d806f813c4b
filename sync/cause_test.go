package sync

import (
	"context"
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/edfisync/edfisync/syncdb"
)

// links is a ledger of issues and links only.
type links struct {
	issues []syncdb.Issue
	links  []syncdb.ProblemLink
	kept   syncdb.Ranking
	ranked []syncdb.RankedIssue
}

func (l *links) RankingOf(context.Context, int64) (syncdb.Ranking, error) { return l.kept, nil }

func (l *links) MoreProblems(_ context.Context, _ int64, n int) (bool, error) {
	return len(l.links) > n, nil
}

func (l *links) RankedIssues(context.Context, int64) ([]syncdb.RankedIssue, error) {
	return l.ranked, nil
}

func (l *links) Issues(context.Context, int64, bool) ([]syncdb.Issue, error) { return l.issues, nil }

func (l *links) ProblemLinks(_ context.Context, _ int64, fn func(syncdb.ProblemLink) error) error {
	for _, link := range l.links {
		if err := fn(link); err != nil {
			return err
		}
	}
	return nil
}

func hashNumber(n int) (h syncdb.Hash) {
	binary.BigEndian.PutUint64(h[:8], uint64(n)+1)
	return h
}

// row is a problem of record n of a resource, waiting for record of another; "" = for nothing.
func (l *links) row(issue int64, resource string, n int, outcome, waitsFor string, of int) {
	link := syncdb.ProblemLink{Resource: resource, KeyHash: hashNumber(n), SourceHash: hashNumber(n), IssueID: issue, Outcome: outcome}
	if waitsFor != "" {
		link.BlockedResource, link.BlockedKey = waitsFor, hashNumber(of)
	}
	l.links = append(l.links, link)
	for i := range l.issues {
		if l.issues[i].ID == issue {
			l.issues[i].Rows++
			return
		}
	}
	l.issues = append(l.issues, syncdb.Issue{ID: issue, Code: "x", Resource: resource, Outcome: outcome, Rows: 1})
}

func TestCausesAreRankedByWhatTheirSolutionFrees(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		fill func(l *links)
		want []string
	}{
		{"a single row", func(l *links) { l.row(1, "a", 1, "invalid", "", 0) }, []string{"1: own 1 frees 0 waits 0"}},
		{"rows that wait count for what they wait for, through others too", func(l *links) {
			for n := range 5 {
				l.row(1, "other", n, "invalid", "", 0)
			}
			l.row(2, "student", 1, "invalid", "", 0)
			for n := range 3 {
				l.row(3, "enrolment", n, "blocked", "student", 1)
				l.row(4, "attendance", n, "blocked", "enrolment", n)
			}
		}, []string{"2: own 1 frees 6 waits 0", "1: own 5 frees 0 waits 0", "3: own 0 frees 0 waits 3", "4: own 0 frees 0 waits 3"}},
		{"a row that waits for what is nowhere is a cause", func(l *links) {
			l.row(1, "enrolment", 1, "blocked", "student", 9)
			l.row(2, "attendance", 1, "blocked", "enrolment", 1)
		}, []string{"1: own 1 frees 1 waits 0", "2: own 0 frees 0 waits 1"}},
		{"an issue can be cause and consequence", func(l *links) {
			l.row(1, "student", 1, "invalid", "", 0)
			l.row(2, "enrolment", 1, "blocked", "student", 1)
			l.row(2, "enrolment", 2, "blocked", "student", 2)
		}, []string{"1: own 1 frees 1 waits 0", "2: own 1 frees 0 waits 1"}},
		{"rows that wait for each other", func(l *links) {
			l.row(1, "agency", 1, "blocked", "agency", 2)
			l.row(1, "agency", 2, "blocked", "agency", 1)
			l.row(2, "school", 1, "blocked", "agency", 2)
		}, []string{"1: own 1 frees 2 waits 1", "2: own 0 frees 0 waits 1"}},
		{"a row that waits for itself", func(l *links) { l.row(1, "agency", 1, "blocked", "agency", 1) }, []string{"1: own 1 frees 0 waits 0"}},
		{"records that were there before us keep nobody waiting", func(l *links) {
			l.row(1, "student", 1, syncdb.OutcomeMet, "", 0)
			l.row(2, "enrolment", 1, "blocked", "student", 1)
		}, []string{"1: own 1 frees 0 waits 0", "2: own 1 frees 0 waits 0"}},
		{"what only informs comes last", func(l *links) {
			for n := range 9 {
				l.row(1, "student", n, syncdb.OutcomeMet, "", 0)
			}
			l.issues[0].Code = "met-existing"
			l.row(2, "school", 1, "invalid", "", 0)
		}, []string{"2: own 1 frees 0 waits 0", "1: own 9 frees 0 waits 0 informs"}},
		{"one record with two problems", func(l *links) {
			l.row(7, "student", 1, "invalid", "", 0)
			l.row(5, "student", 1, "held", "", 0)
			l.row(6, "enrolment", 1, "blocked", "student", 1)
		}, []string{"5: own 1 frees 1 waits 0", "7: own 1 frees 0 waits 0", "6: own 0 frees 0 waits 1"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var l links
			c.fill(&l)
			causes, err := RankCauses(t.Context(), &l, 1)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			var sum int64
			for _, cause := range causes {
				text := fmt.Sprintf("%d: own %d frees %d waits %d", cause.ID, cause.Own, cause.Frees, cause.Waits)
				if cause.Informs {
					text += " informs"
				}
				got = append(got, text)
				sum += cause.Own + cause.Frees
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("causes (-want +got):\n%s", diff)
			}
			if sum != int64(len(l.links)) {
				t.Errorf("own and freed rows are %d, want all %d", sum, len(l.links))
			}
		})
	}
}

// A million rows in one long chain and many short ones are ranked without recursion and without a look at each other row.
func TestManyRowsAreRanked(t *testing.T) {
	t.Parallel()
	var r ranking
	const rows = 1_000_000
	for n := range rows {
		link := syncdb.ProblemLink{Resource: "a", KeyHash: hashNumber(n), IssueID: 2, Outcome: "blocked", BlockedResource: "a", BlockedKey: hashNumber(n - 1)}
		if n == 0 {
			link.IssueID, link.BlockedResource = 1, ""
		}
		r.add(link)
	}
	causes := r.rank([]syncdb.Issue{{ID: 1}, {ID: 2}})
	if causes[0].ID != 1 || causes[0].Own != 1 || causes[0].Frees != rows-1 || causes[1].Waits != rows-1 {
		t.Errorf("got %+v", causes)
	}
}

func TestCausesAreThoseOfTheLastRunUntilRowsChange(t *testing.T) {
	t.Parallel()
	l := &links{}
	l.row(1, "a", 1, "invalid", "", 0)
	l.row(2, "b", 2, "blocked", "a", 1)
	l.row(3, "c", 3, "invalid", "", 0)
	l.row(3, "c", 4, "invalid", "", 0)
	rank := func(id int64, outcome string, rows int64, r syncdb.Rank, ranked bool) syncdb.RankedIssue {
		return syncdb.RankedIssue{Issue: syncdb.Issue{ID: id, Code: "x", Outcome: outcome, Rows: rows}, Rank: r, Ranked: ranked}
	}
	l.ranked = []syncdb.RankedIssue{
		rank(1, "invalid", 1, syncdb.Rank{Own: 1, Frees: 40}, true), rank(3, "invalid", 9, syncdb.Rank{}, false), rank(4, "blocked", 50, syncdb.Rank{}, false),
		{Issue: syncdb.Issue{ID: 5, Code: "met-existing", Rows: 99}, Rank: syncdb.Rank{Own: 99}, Ranked: true},
	}
	rows := []string{"3: own 2 frees 0 waits 0", "1: own 1 frees 1 waits 0", "2: own 0 frees 0 waits 1"}
	kept := []string{"1: own 1 frees 40 waits 0", "3: own 9 frees 0 waits 0", "4: own 0 frees 0 waits 50", "5: own 99 frees 0 waits 0"}
	for _, c := range []struct {
		name  string
		kept  syncdb.Ranking
		limit int
		want  []string
		stale bool
	}{
		{"the last run's, as long as no row has changed", syncdb.Ranking{Run: 7, Current: true}, 1, kept, false},
		{"ranked anew, when one has", syncdb.Ranking{Run: 7}, 0, rows, false},
		{"ranked anew, when there are no more rows than the limit", syncdb.Ranking{Run: 7}, 4, rows, false},
		{"the last run's, when there are more; younger issues are counted", syncdb.Ranking{Run: 7}, 3, kept, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			l := *l
			l.kept = c.kept
			causes, err := OpenCauses(t.Context(), &l, 1, c.limit)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, cause := range causes {
				got = append(got, fmt.Sprintf("%d: own %d frees %d waits %d", cause.ID, cause.Own, cause.Frees, cause.Waits))
				if cause.Stale != c.stale {
					t.Errorf("issue %d: stale %v, want %v", cause.ID, cause.Stale, c.stale)
				}
			}
			if d := cmp.Diff(c.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestResourcesTheSourceDoesNotShowComeBeforeWhatFollowsFromThem(t *testing.T) {
	t.Parallel()
	l := &links{issues: []syncdb.Issue{
		{ID: 1, Code: "missing-reference", Resource: "ed-fi/grades"}, {ID: 2, Code: string(RuleEmptySource), Resource: "ed-fi/students"},
		{ID: 3, Code: "met-existing", Resource: "ed-fi/schools"}, {ID: 4, Code: string(RuleMassDelete), Resource: "ed-fi/grades"},
	}}
	for n := range 9 {
		l.row(1, "ed-fi/grades", n, "invalid", "", 0)
	}
	l.row(2, "ed-fi/students", 0, "held", "", 0)
	l.row(3, "ed-fi/schools", 0, "updated", "", 0)
	l.row(4, "ed-fi/grades", 20, "held", "", 0)
	causes, err := RankCauses(t.Context(), l, 1)
	if err != nil {
		t.Fatal(err)
	}
	var got []int64
	for _, c := range causes {
		got = append(got, c.ID)
	}
	if diff := cmp.Diff(got, []int64{2, 1, 4, 3}); diff != "" {
		t.Errorf("order of issues (-got +want):\n%s", diff)
	}
}
