package console_test

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/edfisync/edfisync/console"
	"github.com/edfisync/edfisync/syncdb"
)

func TestArchivedIssuesAreOutOfSightUntilTheirCauseComesUpAgain(t *testing.T) {
	t.Parallel()
	onBoth(t, nil, func(t *testing.T, s *service) {
		issue := s.troubled("lincoln")
		key := s.key(console.NewKey{Role: "operator"})
		cookie := s.logIn(key)
		api := func(method, path, body string) answer { return s.do(method, "/api/v1"+path, key, body) }
		inState := func(state string) bool {
			t.Helper()
			a := api("GET", "/connections/lincoln/issues?state="+state, "")
			if a.status != 200 {
				t.Fatalf("%s: %d %s", state, a.status, a.body)
			}
			return strings.Contains(a.body, fmt.Sprintf(`"id":%d,`, issue))
		}
		counts := func(open, archived int) {
			t.Helper()
			a := api("GET", "/connections/lincoln", "")
			if want := fmt.Sprintf(`"openIssues":%d,"archivedIssues":%d`, open, archived); !strings.Contains(a.body, want) {
				t.Errorf("want %s: %s", want, a.body)
			}
		}
		archive, back := fmt.Sprintf("/issues/%d/archive", issue), fmt.Sprintf("/issues/%d/unarchive", issue)
		counts(3, 0)
		for body, want := range map[string]string{`{"why": " "}`: "say why", `{"why": "a\u0000b"}`: "why", `{}`: "why", `{"why": "x", "until": 1}`: "until"} {
			s.refused(api("POST", archive, body), 422, "invalid", want)
		}
		s.refused(api("POST", back, ""), 409, "not-archived", "not archived")
		counts(3, 0)

		const why = "known <img src=x>"
		a := api("POST", archive, `{"why": "`+why+`"}`)
		if a.status != 200 || !strings.Contains(a.body, `"archived":{"at":"`) || !strings.Contains(a.body, `"who":"`) {
			t.Fatalf("archived: %d %s", a.status, a.body)
		}
		if inState("open") || !inState("archived") || inState("cleared") {
			t.Errorf("open %v, archived %v, cleared %v", inState("open"), inState("archived"), inState("cleared"))
		}
		counts(2, 1)
		if acts := s.acts(); acts[0] != "issue.archive" {
			t.Errorf("audited: %v", acts)
		}
		page := func(path string) string { return s.do("GET", path, "", "", "Cookie", cookie).body }
		link := fmt.Sprintf(`href="/issues/%d"`, issue)
		if strings.Contains(page("/connections/lincoln/issues"), link) || !strings.Contains(page("/connections/lincoln/issues"), "archived (1)") {
			t.Error("the page of issues shows it, or does not say how many are archived")
		}
		for _, path := range []string{"/connections/lincoln/issues?state=archived", fmt.Sprintf("/issues/%d", issue)} {
			if body := page(path); !strings.Contains(body, "known &lt;img src=x&gt;") || strings.Contains(body, why) {
				t.Errorf("%s does not say why: %s", path, body)
			}
		}
		if rejected, err := s.ledger.Rejected(t.Context(), s.ids["lincoln"], "ed-fi/students"); err != nil || len(rejected) != 1 {
			t.Errorf("what is synced has changed: %v, %v", rejected, err)
		}

		// By the forms of the page.
		to := fmt.Sprintf("/issues/%d", issue)
		if a := s.do("POST", back, "", "", "Cookie", cookie); a.status != 303 || a.header.Get("Location") != to {
			t.Errorf("the form: %d to %s", a.status, a.header.Get("Location"))
		}
		counts(3, 0)
		if !inState("open") {
			t.Error("it is not back")
		}
		s.do("POST", archive, "", url.Values{"why": {"known"}}.Encode(), "Cookie", cookie)
		counts(2, 1)
		if acts := s.acts(); !slices.Equal(acts[:3], []string{"issue.archive", "issue.unarchive", "issue.archive"}) {
			t.Errorf("audited: %v", acts)
		}

		// A run that meets the cause at another row brings it back; one that settles it leaves nothing to archive.
		l := s.running("lincoln")
		s.ok(s.ledger.SaveProblems(t.Context(), l, []syncdb.Problem{{
			Resource: "ed-fi/students", SourceHash: syncdb.Hash{9}, Outcome: "rejected", Code: "refused", Cause: "update answered 400", Owner: "target host", SourceKey: "4719",
		}}))
		if !inState("open") || inState("archived") {
			t.Error("a cause that came up for another row is still out of sight")
		}
		s.finish(l, syncdb.RunDone)
		l = s.running("lincoln")
		_, err := s.ledger.CloseProblems(t.Context(), l, nil)
		s.ok(err)
		s.finish(l, syncdb.RunDone)
		s.refused(api("POST", archive, `{"why": "x"}`), 409, "issue-settled", "settled")
	})
}
