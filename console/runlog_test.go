package console_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/edfisync/edfisync/console"
	"github.com/edfisync/edfisync/syncdb"
)

func TestTheLogOfARunIsShownInPagesAndFollowed(t *testing.T) {
	t.Parallel()
	onBoth(t, nil, func(t *testing.T, s *service) {
		key := s.key(console.NewKey{Role: "viewer"})
		l := s.running("lincoln")
		at := time.Date(2027, 3, 1, 2, 0, 0, 0, time.UTC)
		lines := []syncdb.LogLine{
			{Line: 1, At: at, Text: "the run begins", Detail: json.RawMessage(`{"asked_by":"cron"}`)},
			{Line: 2, At: at, Text: "step done", Detail: json.RawMessage(`{"calls":7,"resource":"ed-fi/students","verb":"create"}`)},
			{Line: 3, At: at, Level: slog.LevelWarn, Text: "held back <b>", Detail: json.RawMessage(`{"why":"cannot read /srv/secret/place.db"}`)},
		}
		s.ok(s.ledger.AddRunLog(t.Context(), l.RunID, lines[:2]))
		s.ok(s.ledger.AddRunLog(t.Context(), l.RunID, lines)) // again, after an answer that was lost

		type line struct {
			Line                int64
			At                  time.Time
			Level, Text, Detail string
		}
		var got struct {
			Items []struct {
				line
				Detail json.RawMessage
			}
			Next string
		}
		path := fmt.Sprintf("/runs/%d", l.RunID)
		s.get(path+"/log?limit=2", key, &got)
		if len(got.Items) != 2 || got.Items[1].Text != "step done" || !got.Items[0].At.Equal(at) || got.Items[0].Level != "info" || got.Next == "" {
			t.Fatalf("first page: %+v", got)
		}
		s.get(path+"/log?limit=2&cursor="+got.Next, key, &got)
		if len(got.Items) != 1 || got.Items[0].Line != 3 || got.Items[0].Level != "warning" || string(got.Items[0].Detail) != `{"why":"cannot read …/place.db"}` {
			t.Errorf("second page: %+v", got)
		}

		s.ok(s.ledger.SaveProgress(t.Context(), l.RunID, json.RawMessage(`{"phase":"scan","resource":"ed-fi/students","done":4000,"since":"2027-03-01T02:00:00Z","rate":812.4}`)))
		page := s.do("GET", path, key, "").body
		for _, want := range []string{"812/s", "unknown", "How long it takes is known once", "held back &lt;b&gt;", "<strong>warning:</strong>", "<strong>students</strong>", "calls 7"} {
			if !strings.Contains(page, want) {
				t.Errorf("the page of a run that reads the source lacks %q", want)
			}
		}
		if strings.Contains(page, "/srv/secret") {
			t.Error("the page names a folder of the server")
		}
		s.ok(s.ledger.SaveProgress(t.Context(), l.RunID, json.RawMessage(`{"phase":"send","done":10,"total":9010,"rate":2.5,"secondsLeft":3600}`)))
		if page := s.do("GET", path, key, "").body; !strings.Contains(page, "60 min") || !strings.Contains(page, "2.5/s") || strings.Contains(page, "known once") {
			t.Errorf("the page of a run that sends does not say how long that takes: %s", page)
		}

		events, _ := s.listen(path+"/events", key)
		var texts []string
		for len(texts) < 3 {
			if e, _ := s.next(events); e.name == "log" {
				texts = append(texts, e.data)
			}
		}
		if !strings.Contains(texts[2], `"line":3`) {
			t.Errorf("followed: %v", texts)
		}
		s.finish(l, syncdb.RunDone)
		events, _ = s.listen(path+"/events", key, "Last-Event-ID", "line-2")
		texts = nil
		for e := range events {
			if e.name == "log" {
				texts = append(texts, e.data)
			}
		}
		if len(texts) != 1 || !strings.Contains(texts[0], `"line":3`) {
			t.Errorf("who connects again after line 2 gets %v", texts)
		}
	})
}

// TestARunSaysWhatWasNamedAndIsNotThere over the API and on its page, and its totals are counts only.
func TestARunSaysWhatWasNamedAndIsNotThere(t *testing.T) {
	t.Parallel()
	onBoth(t, nil, func(t *testing.T, s *service) {
		key := s.key(console.NewKey{Role: "viewer"})
		l := s.running("lincoln")
		s.ok(s.ledger.FinishRun(t.Context(), l, syncdb.RunDone, json.RawMessage(`{"created":3,"warnings":[
			{"code":"school-not-in-source","from":"schools","school":255901999,"text":"school 255901999 is named by no row","hint":"Correct the schoolId."}]}`), ""))
		var run struct {
			Totals   map[string]any
			Warnings []struct {
				Code, From, Text, Hint string
				School                 int64
			}
		}
		path := fmt.Sprintf("/runs/%d", l.RunID)
		s.get(path, key, &run)
		if len(run.Warnings) != 1 || run.Warnings[0].School != 255901999 || run.Warnings[0].Code != "school-not-in-source" || len(run.Totals) != 1 || run.Totals["created"] != 3.0 {
			t.Errorf("got %+v", run)
		}
		page := s.do("GET", path, key, "").body
		for _, want := range []string{"school 255901999 is named by no row", "school-not-in-source", "Correct the schoolId."} {
			if !strings.Contains(page, want) {
				t.Errorf("the page does not say %q", want)
			}
		}
	})
}
