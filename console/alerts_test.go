package console_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/edfisync/edfisync/console"
	"github.com/edfisync/edfisync/syncdb"
)

// muted mutes a connection for a day, and returns the number of the mute.
func (s *service) muted(tenant, connection string) int64 {
	s.t.Helper()
	m, err := s.ledger.SetMute(s.t.Context(), syncdb.AlertMute{
		Tenant: tenant, ConnectionID: s.ids[connection], Who: "test", Why: "test", Until: time.Now().Add(24 * time.Hour),
	}, syncdb.AuditRow{Who: "test", Action: "alert.mute"})
	s.ok(err)
	return m.ID
}

// fire makes an alert fire.
func (s *service) fire(connection int64, condition string) {
	s.t.Helper()
	changed, err := s.ledger.ChangeAlert(s.t.Context(), syncdb.Alert{ConnectionID: connection, Condition: condition, Firing: true, Since: time.Now(), Detail: "run 7"}, nil)
	s.ok(err)
	if !changed {
		s.t.Fatal("it fired before")
	}
}

type shownAlerts struct {
	Items []struct{ Connection, Condition, Title, Remedy, Detail string }
}

func TestAlertsAreShownToTheirTenant(t *testing.T) {
	t.Parallel()
	onBoth(t, nil, func(t *testing.T, s *service) {
		s.fire(s.ids["acme~north"], "target-unreachable")
		s.fire(s.ids["other~north"], "run-failed")
		s.fire(0, "audit-broken")
		for tenant, want := range map[string]string{
			"": " audit-broken acme~north target-unreachable other~north run-failed", "acme": " acme~north target-unreachable"[1:], "default": "",
		} {
			var got shownAlerts
			s.get("/alerts", s.key(console.NewKey{Role: "viewer", Tenant: tenant}), &got)
			var all []string
			for _, a := range got.Items {
				all = append(all, a.Connection+" "+a.Condition)
				if a.Title == "" || a.Remedy == "" || a.Detail != "run 7" {
					t.Errorf("shown as %+v", a)
				}
			}
			if text := strings.Join(all, " "); text != want {
				t.Errorf("tenant %q sees %q, want %q", tenant, text, want)
			}
		}
	})
}

func TestAlertsAreMutedByAnOperatorOfTheTenant(t *testing.T) {
	t.Parallel()
	onBoth(t, nil, func(t *testing.T, s *service) {
		key := s.key(console.NewKey{Name: "ada", Role: "operator", Tenant: "acme"})
		until := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
		for body, want := range map[string]int{
			`{"until": "` + until + `"}`:                                                                                    422,
			`{"until": "` + until + `", "why": " "}`:                                                                        422,
			`{"until": "2020-01-01T00:00:00Z", "why": "x"}`:                                                                 422,
			`{"until": "2099-01-01T00:00:00Z", "why": "x"}`:                                                                 422,
			`{"until": "` + until + `", "why": "x", "condition": "bad-weather"}`:                                            422,
			`{"until": "` + until + `", "why": "x", "connection": "other~north"}`:                                           404,
			`{"until": "` + until + `", "why": "x", "connections": "acme~north"}`:                                           422,
			`{"until": "` + until + `", "why": "they move", "connection": "acme~north", "condition": "target-unreachable"}`: 201,
			`{"until": "` + until + `", "why": "all of ours"}`:                                                              201,
		} {
			if got := s.do("POST", "/api/v1/alerts/mutes", key, body); got.status != want {
				t.Errorf("%s: %d %s, want %d", body, got.status, got.body, want)
			}
		}
		rows, err := s.ledger.FindAudit(t.Context(), syncdb.AuditFilter{Limit: 2, Tenant: "acme"})
		s.ok(err)
		for _, r := range rows {
			if r.Action != "alert.mute" || !strings.HasPrefix(r.Who, "ada (") || !strings.HasPrefix(r.Connection, "acme/") || !strings.HasPrefix(r.Object, "mute ") {
				t.Errorf("the audit trail says %+v", r)
			}
		}
		var mutes struct {
			Items []struct {
				ID                            int64
				Tenant, Connection, Condition string
			}
		}
		s.get("/alerts/mutes", s.key(console.NewKey{Role: "viewer", Tenant: "other"}), &mutes)
		if len(mutes.Items) != 0 {
			t.Errorf("another tenant sees %+v", mutes.Items)
		}
		s.get("/alerts/mutes", key, &mutes)
		if len(mutes.Items) != 2 {
			t.Fatalf("got %+v", mutes.Items)
		}
		s.fire(s.ids["acme~south"], "run-failed")
		if a := s.do("GET", "/api/v1/alerts", key, ""); !strings.Contains(a.body, `"muted":true`) {
			t.Errorf("not shown as muted: %s", a.body)
		}
		every := s.muted("", "")
		if got := s.do("DELETE", fmt.Sprint("/api/v1/alerts/mutes/", every), key, ""); got.status != 403 {
			t.Errorf("an operator of one tenant ends a mute of every tenant: %d", got.status)
		}
		for _, m := range mutes.Items {
			for i, want := range []int{200, 409} {
				if got := s.do("DELETE", fmt.Sprint("/api/v1/alerts/mutes/", m.ID), key, ""); got.status != want {
					t.Errorf("end mute %d, time %d: %d, want %d", m.ID, i, got.status, want)
				}
			}
		}
	})
}

func TestReceiversAreTried(t *testing.T) {
	t.Parallel()
	s := newService(t, nil)
	a := s.do("POST", "/api/v1/alerts/test", s.key(console.NewKey{Role: "admin"}), "")
	if a.status != 200 || !strings.Contains(a.body, `"error":"nobody answers"`) || !strings.Contains(a.body, `{"receiver":"pager"}`) {
		t.Errorf("got %d %s", a.status, a.body)
	}
	rows, err := s.ledger.FindAudit(t.Context(), syncdb.AuditFilter{Limit: 1})
	s.ok(err)
	if rows[0].Action != "alert.test" {
		t.Errorf("the audit trail says %+v", rows[0])
	}
}
