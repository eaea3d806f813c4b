package console_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/edfisync/edfisync/console"
	"github.com/edfisync/edfisync/syncdb"
)

func TestAlertsAreMutedAndTriedOnTheirPage(t *testing.T) {
	t.Parallel()
	s := newService(t, nil)
	operator, viewer, acme := s.key(console.NewKey{Role: "operator"}), s.key(console.NewKey{Role: "viewer"}), s.key(console.NewKey{Role: "operator", Tenant: "acme"})
	admin := s.key(console.NewKey{Role: "admin"})

	a := s.do("GET", "/alerts?connection=lincoln&condition=not-fresh", operator, "")
	for _, want := range []string{"no alert is firing", "<option selected>lincoln</option>", `<option value="not-fresh" selected>`, "acme~north", "whoever is to be told of alerts is told"} {
		if !strings.Contains(a.body, want) {
			t.Errorf("the page of an operator lacks %q", want)
		}
	}
	if a := s.do("GET", "/alerts", viewer, ""); a.status != 200 || strings.Contains(a.body, "<select") || strings.Contains(a.body, "/alerts/test") {
		t.Errorf("a viewer is offered what viewers may not do: %d", a.status)
	}
	if a := s.do("GET", "/alerts", acme, ""); strings.Contains(a.body, "lincoln") {
		t.Error("a tenant sees connections of others")
	}
	for form, wrong := range map[string]string{"lasts=1h&why=": "say why", "lasts=&why=x": "for how long", "lasts=-1h&why=x": "for how long", "lasts=9000h&why=x": "90 days", "lasts=1h&why=x&condition=rain": "no such condition"} {
		if a := s.do("POST", "/alerts/mutes", operator, form); a.status != 422 || !strings.Contains(a.body, wrong) {
			t.Errorf("%s: %d, want 422 with %q", form, a.status, wrong)
		}
	}
	if a := s.do("POST", "/alerts/mutes", operator, "lasts=1h&why=holidays&connection=lincoln&condition=not-fresh"); a.status != 303 {
		t.Fatalf("muted: %d %s", a.status, a.body)
	}
	mutes, err := s.ledger.Mutes(t.Context())
	s.ok(err)
	if len(mutes) != 1 || mutes[0].Condition != "not-fresh" || time.Until(mutes[0].Until) > time.Hour {
		t.Fatalf("mutes: %+v", mutes)
	}
	if a := s.do("GET", "/alerts", viewer, ""); !strings.Contains(a.body, "not-fresh of lincoln") || !strings.Contains(a.body, "holidays") {
		t.Errorf("the mute is not shown: %s", a.body)
	}
	end := fmt.Sprintf("/alerts/mutes/%d/end", mutes[0].ID)
	if a := s.do("POST", end, acme, "why=mine"); a.status != 404 {
		t.Errorf("another tenant ends it: %d", a.status)
	}
	if a := s.do("POST", end, operator, "why="); a.status != 422 {
		t.Errorf("without a reason: %d", a.status)
	}
	if a := s.do("POST", end, operator, "why=back+from+holidays"); a.status != 303 {
		t.Errorf("ended: %d %s", a.status, a.body)
	}
	if a := s.do("POST", end, operator, "why=again"); a.status != 409 {
		t.Errorf("ended again: %d", a.status)
	}
	if a := s.do("POST", "/alerts/test", admin, ""); a.status != 200 || !strings.Contains(a.body, "<strong>smtp</strong>: not delivered: nobody answers") {
		t.Errorf("tried: %d %s", a.status, a.body)
	}
	rows, err := s.ledger.AuditRows(t.Context(), 0, 0)
	s.ok(err)
	if !slices.ContainsFunc(rows, func(r syncdb.AuditRow) bool {
		return r.Action == "alert.unmute" && strings.Contains(string(r.Detail), "back from holidays")
	}) {
		t.Errorf("why it was ended is not in the audit trail: %v", s.acts())
	}
}
