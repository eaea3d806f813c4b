package console

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/edfisync/edfisync/alerts"
	"github.com/edfisync/edfisync/internal/httpd"
	"github.com/edfisync/edfisync/syncdb"
)

type alertLedger interface {
	Alerts(ctx context.Context) ([]syncdb.Alert, error)
	Mutes(ctx context.Context) ([]syncdb.AlertMute, error)
	Mute(ctx context.Context, id int64) (syncdb.AlertMute, error)
	SetMute(ctx context.Context, m syncdb.AlertMute, act syncdb.AuditRow) (syncdb.AlertMute, error)
	EndMute(ctx context.Context, id int64, act syncdb.AuditRow) error
}

// Tried is what came of a test notice.
type Tried struct {
	Receiver string `json:"receiver"`
	Error    string `json:"error,omitempty" doc:"Why it was not delivered; left out: it was."`
}

// alertJSON is an alert as the API shows it.
type alertJSON struct {
	Connection string    `json:"connection,omitempty" doc:"Left out: the ledger as a whole."`
	Condition  string    `json:"condition" doc:"run-failed, target-unreachable, source-unreachable, credentials-refused, ledger-restored, not-fresh, hold-waiting, target-reset, quarantined, audit-broken, configuration-wrong"`
	Firing     bool      `json:"firing"`
	Since      time.Time `json:"since" doc:"It fires, or has recovered, since then."`
	Title      string    `json:"title"`
	Detail     string    `json:"detail,omitempty"`
	Remedy     string    `json:"remedy,omitempty"`
	Muted      bool      `json:"muted"`
}

type alertsInput struct {
	Paging
	State string `query:"state" enum:"firing,all" default:"firing" doc:"all: those that are over too."`
}

// listAlerts lists what is wrong with the connections that the principal sees. What is wrong with the ledger is for those who see every tenant.
func (s *Console) listAlerts(ctx context.Context, in *alertsInput) (*list[alertJSON], error) {
	skip, err := in.before()
	if err != nil {
		return nil, err
	}
	have, err := s.c.Ledger.Alerts(ctx)
	if err != nil {
		return nil, err
	}
	mutes, err := s.c.Ledger.Mutes(ctx)
	if err != nil {
		return nil, err
	}
	all, err := s.c.Connections(ctx)
	if err != nil {
		return nil, err
	}
	p, shown := httpd.PrincipalOf(ctx), []alertJSON{}
	for _, a := range have {
		if !a.Firing && in.State != "all" {
			continue
		}
		out := alertJSON{Condition: a.Condition, Firing: a.Firing, Since: a.Since, Title: alerts.Condition(a.Condition).Title(), Detail: a.Detail}
		tenant := ""
		if a.ConnectionID != 0 {
			i := slices.IndexFunc(all, func(c Connection) bool { return c.ID == a.ConnectionID })
			if i < 0 || !p.Sees(all[i].Tenant) {
				continue
			}
			tenant, out.Connection = all[i].Tenant, nameOf(all[i].Tenant, all[i].Name)
		} else if p.Tenant != "" {
			continue
		}
		if a.Firing {
			out.Remedy = alerts.Condition(a.Condition).Remedy()
		}
		out.Muted = slices.ContainsFunc(mutes, func(m syncdb.AlertMute) bool { return m.Covers(tenant, a.ConnectionID, a.Condition) })
		shown = append(shown, out)
	}
	return window(shown, skip, in.Limit), nil
}

// muteJSON is a mute as the API shows it.
type muteJSON struct {
	syncdb.AlertMute
	Tenant     string `json:"tenant,omitempty" doc:"Left out: every one."`
	Connection string `json:"connection,omitempty" doc:"Left out: all of the tenant."`
}

// seesMute reports whether a mute is about something of the principal's tenant.
func seesMute(p httpd.Principal, m syncdb.AlertMute) bool { return m.Tenant == "" || p.Sees(m.Tenant) }

func (s *Console) showMute(ctx context.Context, m syncdb.AlertMute) (muteJSON, error) {
	out := muteJSON{AlertMute: m, Tenant: m.Tenant}
	all, err := s.c.Ledger.Connections(ctx)
	for _, c := range all {
		if c.ID == m.ConnectionID {
			out.Connection = nameOf(c.Tenant, c.Name)
		}
	}
	return out, err
}

func (s *Console) listMutes(ctx context.Context, in *struct{ Paging }) (*list[muteJSON], error) {
	skip, err := in.before()
	if err != nil {
		return nil, err
	}
	mutes, err := s.c.Ledger.Mutes(ctx)
	if err != nil {
		return nil, err
	}
	shown := []muteJSON{}
	for _, m := range mutes {
		if !seesMute(httpd.PrincipalOf(ctx), m) {
			continue
		}
		one, err := s.showMute(ctx, m)
		if err != nil {
			return nil, err
		}
		shown = append(shown, one)
	}
	return window(shown, skip, in.Limit), nil
}

// longestMute is the longest time for which somebody may be kept from knowing.
const longestMute = 90 * 24 * time.Hour

type muteInput struct {
	Body struct {
		Connection string    `json:"connection,omitempty" maxLength:"200" doc:"Name, or tenant~name; left out: all that the key sees."`
		Condition  string    `json:"condition,omitempty" maxLength:"40" doc:"Left out: all conditions."`
		Until      time.Time `json:"until" doc:"At most 90 days from now."`
		Why        string    `json:"why" minLength:"1" maxLength:"500" doc:"For those who will ask. No student data, please."`
	}
}

func (s *Console) mute(ctx context.Context, in *muteInput) (*one[muteJSON], error) {
	p, now := httpd.PrincipalOf(ctx), time.Now()
	m := syncdb.AlertMute{Tenant: p.Tenant, Condition: in.Body.Condition, Who: p.Who(), Why: in.Body.Why, Until: in.Body.Until}
	about := [2]string{p.Tenant, ""}
	switch {
	case in.Body.Condition != "" && !slices.Contains(alerts.Conditions(), alerts.Condition(in.Body.Condition)):
		return nil, refuse(http.StatusUnprocessableEntity, "invalid", "there is no such condition")
	case !in.Body.Until.After(now):
		return nil, refuse(http.StatusUnprocessableEntity, "invalid", "until is over already")
	case in.Body.Until.After(now.Add(longestMute)):
		return nil, refuse(http.StatusUnprocessableEntity, "invalid", "until is more than 90 days away")
	case strings.TrimSpace(in.Body.Why) == "":
		return nil, refuse(http.StatusUnprocessableEntity, "invalid", "say why")
	}
	if in.Body.Connection != "" {
		c, err := s.connection(ctx, in.Body.Connection)
		if err != nil {
			return nil, err
		}
		m.Tenant, m.ConnectionID, about = c.Tenant, c.ID, [2]string{c.Tenant, c.Name}
	}
	row := act(ctx, "alert.mute", about[0], about[1], "", map[string]any{"condition": m.Condition, "until": m.Until.UTC().Format(time.RFC3339), "why": m.Why})
	if about[0] == "" {
		row.Connection = ""
	}
	kept, err := s.c.Ledger.SetMute(ctx, m, row)
	if err != nil {
		return nil, err
	}
	shown, err := s.showMute(ctx, kept)
	return &one[muteJSON]{shown}, err
}

// endMuteJSON is why a mute ends.
type endMuteJSON struct {
	Why string `json:"why,omitempty" required:"false" maxLength:"500" doc:"Kept in the audit trail. No student data, please."`
}

type unmuteInput struct {
	IDPath
	Body *endMuteJSON `required:"false"`
}

// unmute ends a mute. One of every tenant is ended by who sees every tenant only.
func (s *Console) unmute(ctx context.Context, in *unmuteInput) (*one[muteJSON], error) {
	m, err := s.c.Ledger.Mute(ctx, in.ID)
	if err != nil {
		return nil, missingAs(err, "mute")
	}
	p := httpd.PrincipalOf(ctx)
	if !seesMute(p, m) {
		return nil, notFound("mute")
	}
	if m.Tenant == "" && p.Tenant != "" {
		return nil, refuse(http.StatusForbidden, "forbidden", "this mute is of every tenant")
	}
	shown, err := s.showMute(ctx, m)
	if err != nil {
		return nil, err
	}
	detail := map[string]any(nil)
	if in.Body != nil && in.Body.Why != "" {
		if err := said("why", in.Body.Why); err != nil {
			return nil, err
		}
		detail = map[string]any{"why": in.Body.Why}
	}
	row := act(ctx, "alert.unmute", m.Tenant, "", "", detail)
	if m.Tenant == "" {
		row.Connection = ""
	}
	if err := s.c.Ledger.EndMute(ctx, in.ID, row); errors.Is(err, syncdb.ErrNotFound) {
		return nil, refuse(http.StatusConflict, "mute-over", "the mute is over already")
	} else if err != nil {
		return nil, err
	}
	return &one[muteJSON]{shown}, nil
}

// testAlerts sends every receiver a notice, and says what came of it.
func (s *Console) testAlerts(ctx context.Context, _ *struct{}) (*list[Tried], error) {
	row := act(ctx, "alert.test", "", "", "", nil)
	row.Connection = ""
	if err := s.c.Ledger.Audit(ctx, row); err != nil {
		return nil, err // I16
	}
	out := &list[Tried]{}
	out.Body.Items = append([]Tried{}, s.c.TryReceivers(ctx)...)
	return out, nil
}
