package console

import (
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/edfisync/edfisync/alerts"
	"github.com/edfisync/edfisync/internal/httpd"
)

// alertsView is the page of alerts.
type alertsView struct {
	Firing      []alertJSON
	Over        []alertJSON // the last to recover first
	Mutes       []muteJSON  // in force
	Connections []string    // that can be muted
	Conditions  []conditionName
	Tests       bool    // somebody can be sent a test notice
	Tried       []Tried // what came of one
	Muted       string  // connection that a mute was asked for, for its form
	MutedWhat   string
}

// conditionName is a condition in words.
type conditionName struct{ Condition, Title string }

// alertsMost is how many alerts that are over a page shows.
const alertsMost = 50

// pageLimit is how many items a page takes of a list that it shows whole.
const pageLimit = 500

func (s *Console) alertsPage(w http.ResponseWriter, r *http.Request) error {
	return s.showAlerts(w, r, nil)
}

func (s *Console) showAlerts(w http.ResponseWriter, r *http.Request, tried []Tried) error {
	ctx := r.Context()
	have, err := s.listAlerts(ctx, &alertsInput{Paging: Paging{Limit: pageLimit}, State: "all"})
	if err != nil {
		return err
	}
	page := alertsView{Tried: tried, Muted: r.FormValue("connection"), MutedWhat: r.FormValue("condition")}
	for _, a := range have.Body.Items {
		if a.Firing {
			page.Firing = append(page.Firing, a)
		} else {
			page.Over = append(page.Over, a)
		}
	}
	newest := func(a, b alertJSON) int { return b.Since.Compare(a.Since) }
	slices.SortStableFunc(page.Firing, newest)
	slices.SortStableFunc(page.Over, newest)
	page.Over = page.Over[:min(len(page.Over), alertsMost)]
	mutes, err := s.listMutes(ctx, &struct{ Paging }{Paging{Limit: pageLimit}})
	if err != nil {
		return err
	}
	page.Mutes = mutes.Body.Items
	all, err := s.c.Connections(ctx)
	if err != nil {
		return err
	}
	p := httpd.PrincipalOf(ctx)
	for _, c := range all {
		if p.Sees(c.Tenant) {
			page.Connections = append(page.Connections, nameOf(c.Tenant, c.Name))
		}
	}
	slices.Sort(page.Connections)
	for _, c := range alerts.Conditions() {
		page.Conditions = append(page.Conditions, conditionName{string(c), c.Title()})
	}
	page.Tests = s.c.TryReceivers != nil && s.offers.tries.Allows(p)
	s.show(w, r, http.StatusOK, "alerts", frame{Title: "Alerts", Page: page})
	return nil
}

func (s *Console) muteForm(w http.ResponseWriter, r *http.Request) error {
	in := muteInput{}
	var err error
	if in.Body.Why, err = whyOf(r); err != nil {
		return err
	}
	if err := said("why", in.Body.Why); err != nil {
		return err
	}
	lasts, err := time.ParseDuration(r.PostFormValue("lasts"))
	if err != nil || lasts <= 0 {
		return refuse(http.StatusUnprocessableEntity, "invalid", "say for how long nobody is told")
	}
	in.Body.Connection, in.Body.Condition, in.Body.Until = strings.TrimSpace(r.PostFormValue("connection")), r.PostFormValue("condition"), time.Now().Add(lasts)
	if _, err := s.mute(r.Context(), &in); err != nil {
		return err
	}
	return done(w, r, "/alerts#mutes")
}

func (s *Console) unmuteForm(w http.ResponseWriter, r *http.Request) error {
	id, err := idOf(r)
	if err != nil {
		return err
	}
	in := unmuteInput{IDPath: IDPath{id}, Body: &endMuteJSON{}}
	if in.Body.Why, err = whyOf(r); err != nil {
		return err
	}
	if _, err := s.unmute(r.Context(), &in); err != nil {
		return err
	}
	return done(w, r, "/alerts#mutes")
}

func (s *Console) testAlertsForm(w http.ResponseWriter, r *http.Request) error {
	out, err := s.testAlerts(r.Context(), nil)
	if err != nil {
		return err
	}
	return s.showAlerts(w, r, out.Body.Items)
}

// alertRoutes registers the pages of alerts.
func (s *Console) alertRoutes(reads, steers httpd.Rule) {
	s.offers.tries = httpd.Rule{Least: httpd.Admin, EveryTenant: true} // receivers are of all tenants
	s.pageOf("GET /alerts", reads, s.alertsPage)
	s.pageOf("POST /alerts/mutes", steers, s.muteForm)
	s.pageOf("POST /alerts/mutes/{id}/end", steers, s.unmuteForm)
	if s.c.TryReceivers != nil {
		s.pageOf("POST /alerts/test", s.offers.tries, s.testAlertsForm)
	}
}
