package console_test

import (
	"fmt"
	"html"
	"strings"
	"testing"

	"github.com/edfisync/edfisync/console"
	"github.com/edfisync/edfisync/sync"
	"github.com/edfisync/edfisync/syncdb"
)

// Why a run failed is a stable code with what to do, for programs and on its page; a failure that has none says what happened, and no more.
func TestAFailedRunSaysWhyAndWhatToDo(t *testing.T) {
	t.Parallel()
	onBoth(t, nil, func(t *testing.T, s *service) {
		key := s.key(console.NewKey{Role: "admin"})
		cookie := s.logIn(key)
		fail := func(code string) string {
			l := s.running("lincoln")
			if code != "" {
				s.ok(s.ledger.NoteFailure(t.Context(), l, code))
			}
			s.ok(s.ledger.FinishRun(t.Context(), l, syncdb.RunFailed, nil, "something was wrong"))
			return fmt.Sprintf("runs/%d", l.RunID)
		}
		for code, hint := range sync.FailureHints() {
			of := fail(code)
			var run struct{ Failure, Remedy string }
			if s.get("/"+of, key, &run); run.Failure != code || run.Remedy != hint {
				t.Errorf("%s: the API says %+v", code, run)
			}
			page := html.UnescapeString(s.do("GET", "/"+of, "", "", "Cookie", cookie).body)
			if !strings.Contains(page, "It failed: something was wrong (<code>"+code+"</code>)") || !strings.Contains(page, hint) {
				t.Errorf("%s: its page does not say so with what to do", code)
			}
		}
		var run map[string]any
		s.get("/"+fail(""), key, &run)
		if run["failure"] != nil || run["remedy"] != nil || run["error"] != "something was wrong" {
			t.Errorf("a failure without a code: %v", run)
		}
	})
}
