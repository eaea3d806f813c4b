package console_test

import (
	"strings"
	"testing"
	"time"

	"github.com/edfisync/edfisync/console"
	"github.com/edfisync/edfisync/jobs"
	"github.com/edfisync/edfisync/syncdb"
)

func TestAFailingConnectionSaysWhenItIsTriedNextAndWhyItsRunWaits(t *testing.T) {
	t.Parallel()
	quarantine := jobs.Quarantine{After: 2, First: 72 * time.Hour, Longest: 96 * time.Hour}
	onBoth(t, func(c *console.Config) { c.Quarantine = quarantine }, func(t *testing.T, s *service) {
		key := s.key(console.NewKey{Name: "ada", Role: "operator"})
		type waiting struct{ For, Text string }
		var got struct {
			State      string
			Quarantine *struct {
				Failures    int
				NextAttempt time.Time
			}
			LastRun struct {
				ID   int64
				Wait *waiting
			}
		}
		read := func() {
			t.Helper()
			got.Quarantine, got.LastRun.Wait = nil, nil
			s.get("/connections/lincoln", key, &got)
		}
		s.finish(s.running("lincoln"), syncdb.RunFailed)
		if read(); got.Quarantine != nil {
			t.Errorf("after one failure it is in quarantine: %+v", got.Quarantine)
		}
		s.finish(s.running("lincoln"), syncdb.RunFailed)
		if read(); got.Quarantine == nil || got.Quarantine.Failures != 2 || time.Until(got.Quarantine.NextAttempt) < 48*time.Hour {
			t.Fatalf("after two failures it shows %+v", got.Quarantine)
		}
		for _, page := range []string{"/", "/connections/lincoln"} {
			if a := s.do("GET", page, key, ""); !strings.Contains(a.body, "next attempt") {
				t.Errorf("%s does not say when the next attempt is: %s", page, a.body)
			}
		}

		// The schedule asks, and a worker looks.
		run, _, err := s.ledger.RequestRun(t.Context(), s.ids["lincoln"], "cron")
		s.ok(err)
		_, err = s.ledger.NoteWait(t.Context(), run.ID, syncdb.Wait{For: syncdb.WaitQuarantine, Until: got.Quarantine.NextAttempt})
		s.ok(err)
		if read(); got.LastRun.ID != run.ID || got.LastRun.Wait == nil || got.LastRun.Wait.For != "quarantine" {
			t.Errorf("the last run is %+v", got.LastRun)
		}
		for _, page := range []string{"/", "/connections/lincoln", "/runs/3"} {
			if a := s.do("GET", page, key, ""); !strings.Contains(a.body, "failed time after time") {
				t.Errorf("%s does not say why the run waits: %s", page, a.body)
			}
		}
		_, l, err := s.ledger.StartRun(t.Context(), s.ids["lincoln"], "test", time.Minute)
		s.ok(err)
		s.finish(l, syncdb.RunDone)
		if read(); got.Quarantine != nil || got.State != "ok" {
			t.Errorf("after one that was done it is %s, in quarantine %+v", got.State, got.Quarantine)
		}
	})
}

func TestWhoAsksDuringAPauseIsToldSo(t *testing.T) {
	t.Parallel()
	s := newService(t, nil)
	key := s.key(console.NewKey{Name: "ada", Role: "operator"})
	if a := s.do("POST", "/api/v1/connections/lincoln/pause", key, `{"why": "rollover", "until": "2099-01-01T00:00:00Z"}`); a.status != 200 {
		t.Fatal(a.body)
	}
	for _, joined := range []string{`"joined":false`, `"joined":true`} {
		a := s.do("POST", "/api/v1/connections/lincoln/runs", key, "")
		if a.status != 202 || !strings.Contains(a.body, joined) || !strings.Contains(a.body, `"for":"pause","until":"2099-01-01T00:00:00Z"`) {
			t.Errorf("got %d %s", a.status, a.body)
		}
	}
}
