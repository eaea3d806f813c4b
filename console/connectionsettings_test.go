package console_test

import (
	"context"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/edfisync/edfisync/console"
)

func TestSettingsOfAConnectionAreChangedPartByPart(t *testing.T) {
	t.Parallel()
	s := newService(t, func(c *console.Config) {
		c.Mapped = func(context.Context, console.Connection) ([]string, error) {
			return []string{"ed-fi/schools", "ed-fi/students"}, nil
		}
	})
	admin, viewer := s.key(console.NewKey{Role: "admin"}), s.key(console.NewKey{Role: "viewer"})
	const first = `{"name":"new","tenant":"acme","resources":["all"],"source":{"driver":"postgres","dsn":"postgres://sync:${sealed:new.pw}@sis.example.org/sis"},"safeguards":{"deletes":{"percent":12.50}}}`
	if a := s.do("POST", "/api/v1/connections", admin, first); a.status != 201 {
		t.Fatalf("made: %d %s", a.status, a.body)
	}
	const page = "/connections/acme~new/settings"
	definition := func() string {
		d, err := s.ledger.Definition(t.Context(), "acme", "new")
		s.ok(err)
		return string(d.Text)
	}
	const rest = `"name":"new"`
	for _, c := range []struct {
		name, form string
		status     int
		says, has  string
		hasNot     string
	}{
		{name: "a schedule", form: "version=1&part=schedule&cron=0+3+*+*+*&time_zone=America/Chicago&jitter=&catch_up=", status: 303, has: `"schedule":{"cron":"0 3 * * *","time_zone":"America/Chicago"}`},
		{name: "an old version", form: "version=1&part=schedule&cron=0+4+*+*+*", status: 412, says: "look again", has: "0 3 * * *"},
		{name: "no schedule", form: "version=2&part=schedule&cron=&time_zone=", status: 303, hasNot: "schedule"},
		{name: "some resources", form: "version=3&part=resources&resource=ed-fi/students", status: 303, has: `"resources":["ed-fi/students"]`},
		{name: "no resources", form: "version=4&part=resources", status: 422, says: "at least one"},
		{name: "all resources", form: "version=4&part=resources&all=yes&resource=ed-fi/students", status: 303, has: `"resources":["all"]`},
		{name: "safeguards", form: "version=5&part=safeguards&deletes.percent=7.5&deletes.count=&run.deletes.count=100&prevent_delete=ed-fi/students,+ed-fi/staffs", status: 303, has: `"safeguards":{"deletes":{"percent":7.5},"prevent_delete":["ed-fi/students","ed-fi/staffs"],"run":{"deletes":{"count":100}}}`},
		{name: "a safeguard that is no number", form: "version=6&part=safeguards&deletes.percent=1e9", status: 422, says: "is no number"},
		{name: "a pause", form: "version=6&part=pause&from=2027-06-20&to=2027-07-06&reason=rollover", status: 303, has: `"pauses":[{"from":"2027-06-20","reason":"rollover","to":"2027-07-06"}]`},
		{name: "another pause", form: "version=7&part=pause&from=2028-06-20&to=2028-07-06&reason=next", status: 303, has: `"reason":"next"`},
		{name: "a pause that is not there", form: "version=8&part=no-pause&pause=2", status: 422, says: "no such planned pause"},
		{name: "the first pause taken away", form: "version=8&part=no-pause&pause=0", status: 303, has: `"reason":"next"`, hasNot: "rollover"},
		{name: "a part there is not", form: "version=9&part=source&dsn=x", status: 422, says: "no such part"},
		{name: "a reference to a secret", form: "version=9&part=schedule&time_zone=${sealed:new.pw}", status: 422, says: "reference"},
		{name: "what the configuration refuses", form: "version=9&part=pause&from=x&to=y&reason=wrong", status: 422, says: "target.url: is wrong"},
	} {
		a := s.do("POST", page, admin, c.form)
		if a.status != c.status || !strings.Contains(a.body, c.says) {
			t.Errorf("%s: %d %s, want %d with %q", c.name, a.status, a.body, c.status, c.says)
		}
		if d := definition(); !strings.Contains(d, c.has) || !strings.Contains(d, rest) || !strings.Contains(d, "${sealed:new.pw}") || c.hasNot != "" && strings.Contains(d, c.hasNot) {
			t.Errorf("after %s: %s", c.name, d)
		}
	}
	if acts := s.acts(); cmp.Diff([]string{"connection.change", "connection.change"}, acts[:2]) != "" {
		t.Errorf("audited: %v", acts)
	}
	if a := s.do("POST", page, viewer, "version=9&part=schedule"); a.status != 403 {
		t.Errorf("a viewer changed it: %d", a.status)
	}
	for key, edits := range map[string]bool{admin: true, viewer: false} {
		a := s.do("GET", page, key, "")
		if a.status != 200 || strings.Contains(a.body, "Save the schedule") != edits || strings.Contains(a.body, "sis.example.org") || strings.Contains(a.body, "new.pw") {
			t.Errorf("the page: %d, offers changes: %v, want %v\n%s", a.status, strings.Contains(a.body, "Save the schedule"), edits, a.body)
		}
	}
	if a := s.do("GET", "/connections/lincoln/settings", admin, ""); a.status != 200 || !strings.Contains(a.body, "configuration file") || strings.Contains(a.body, "<form method=\"post\" action=\"/connections") {
		t.Errorf("the page of a connection of the file: %d %s", a.status, a.body)
	}
	if a := s.do("POST", "/connections/lincoln/settings", admin, "version=0&part=schedule"); a.status != 409 {
		t.Errorf("a connection of the file was changed: %d", a.status)
	}
}
