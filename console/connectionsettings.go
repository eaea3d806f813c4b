package console

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/edfisync/edfisync/internal/httpd"
	"github.com/edfisync/edfisync/syncdb"
)

// definition is a connection of the ledger as JSON, for changes of parts of it. What a page does not show stays as it is.
type definition map[string]any

func readDefinition(text json.RawMessage) (definition, error) {
	d := definition{}
	r := json.NewDecoder(bytes.NewReader(text))
	r.UseNumber() // numbers stay as they are written
	if err := r.Decode(&d); err != nil {
		return nil, fmt.Errorf("read the definition: %w", err)
	}
	return d, nil
}

// text is the value at a path, "" when there is none.
func (d definition) text(path ...string) string {
	var at any = map[string]any(d)
	for _, name := range path {
		m, ok := at.(map[string]any)
		if !ok {
			return ""
		}
		at = m[name]
	}
	switch v := at.(type) {
	case string:
		return v
	case json.Number:
		return v.String()
	}
	return ""
}

// list is the list of texts at a path.
func (d definition) list(name string, within ...string) (out []string) {
	at := map[string]any(d)
	for _, w := range within {
		at, _ = at[w].(map[string]any)
	}
	values, _ := at[name].([]any)
	for _, v := range values {
		if text, ok := v.(string); ok {
			out = append(out, text)
		}
	}
	return out
}

// set puts a value at a path; nil takes it away, and what is empty without it.
func (d definition) set(value any, path ...string) {
	if len(path) == 1 {
		if value == nil {
			delete(d, path[0])
		} else {
			d[path[0]] = value
		}
		return
	}
	inner, _ := d[path[0]].(map[string]any)
	if inner == nil {
		inner = map[string]any{}
	}
	definition(inner).set(value, path[1:]...)
	if len(inner) == 0 {
		delete(d, path[0])
	} else {
		d[path[0]] = inner
	}
}

// limits are the safeguards that have a share and a count, with what holds when nothing is said.
func limits() []limitField {
	return []limitField{
		{Path: []string{"deletes"}, Label: "Deletes of one resource", Percent: "20", Count: "25"},
		{Path: []string{"updates"}, Label: "Updates of one resource", Percent: "50", Count: "1000"},
		{Path: []string{"short_source"}, Label: "Rows that one resource lost", Percent: "50", Count: "5"},
		{Path: []string{"run", "deletes"}, Label: "Deletes of a run", Percent: "10", Count: "250"},
		{Path: []string{"run", "updates"}, Label: "Updates of a run", Percent: "30", Count: "5000"},
	}
}

// limitField is one of them in a form.
type limitField struct {
	Path                    []string
	Label                   string
	Percent, Count          string // what holds when nothing is said
	PercentValue, CountText string // as defined
}

// Name is what its fields are called.
func (l limitField) Name() string { return strings.Join(l.Path, ".") }

// change makes the change of one form in the definition. What the values may be is for the configuration to say, which checks the whole.
func (d definition) change(part string, f url.Values) error {
	wrong := func(format string, args ...any) error {
		return refuse(http.StatusUnprocessableEntity, "invalid", format, args...)
	}
	plain := func(name string) any {
		if v := strings.TrimSpace(f.Get(name)); v != "" {
			return v
		}
		return nil
	}
	switch part {
	case "schedule":
		for _, name := range []string{"cron", "time_zone", "jitter", "catch_up"} {
			d.set(plain(name), "schedule", name)
		}
	case "resources":
		switch on := f["resource"]; {
		case f.Get("all") != "":
			d.set([]any{"all"}, "resources")
		case len(on) == 0:
			return wrong("resources: at least one has to be on; to have no run begin, pause the connection")
		default:
			values := make([]any, len(on))
			for i, name := range on {
				values[i] = name
			}
			d.set(values, "resources")
		}
	case "safeguards":
		for _, l := range limits() {
			for _, field := range []string{"percent", "count"} {
				text := strings.TrimSpace(f.Get(l.Name() + "." + field))
				if text == "" {
					d.set(nil, append(append([]string{"safeguards"}, l.Path...), field)...)
					continue
				}
				if _, err := strconv.ParseFloat(text, 64); err != nil || strings.ContainsAny(text, "eExXpPinINF_") {
					return wrong("safeguards, %s: %q is no number", strings.ToLower(l.Label), text)
				}
				d.set(json.Number(text), append(append([]string{"safeguards"}, l.Path...), field)...)
			}
		}
		var never []any
		for _, name := range strings.FieldsFunc(f.Get("prevent_delete"), func(r rune) bool { return r == ',' || r == ' ' || r == '\n' || r == '\r' || r == '\t' }) {
			never = append(never, name)
		}
		if never == nil {
			d.set(nil, "safeguards", "prevent_delete")
		} else {
			d.set(never, "safeguards", "prevent_delete")
		}
	case "pause":
		have, _ := d["pauses"].([]any)
		d.set(append(slices.Clone(have), map[string]any{"from": f.Get("from"), "to": f.Get("to"), "reason": strings.TrimSpace(f.Get("reason"))}), "pauses")
	case "no-pause":
		have, _ := d["pauses"].([]any)
		i, err := strconv.Atoi(f.Get("pause"))
		if err != nil || i < 0 || i >= len(have) {
			return wrong("there is no such planned pause; look again")
		}
		if have = slices.Delete(slices.Clone(have), i, i+1); len(have) == 0 {
			d.set(nil, "pauses")
		} else {
			d.set(have, "pauses")
		}
	default:
		return wrong("there is no such part of the settings")
	}
	return nil
}

// connectionSettings is the page of a connection's settings. It has no secret, and no address of a source.
type connectionSettings struct {
	Connection string
	Version    int64 // 0 = the configuration file defines it
	Saved      bool
	Warnings   []string

	SchoolYear, Pack, Driver, Target string

	Schedule  map[string]string
	All       bool // every resource that the pack maps is on
	Resources []resourceSwitch
	Limits    []limitField
	Prevent   string
	Pauses    []pauseField
	Versions  []versionJSON
}

// resourceSwitch is one resource that can be on.
type resourceSwitch struct {
	Resource string
	On       bool
}

// pauseField is a planned pause as it is defined.
type pauseField struct{ From, To, Reason string }

// versionsShown is how many versions the page of settings shows.
const versionsShown = 10

func (s *Console) connectionSettingsPage(w http.ResponseWriter, r *http.Request) error {
	ctx, in := r.Context(), pathOf(r)
	c, err := s.connection(ctx, in.Connection)
	if err != nil {
		return err
	}
	page := connectionSettings{Connection: nameOf(c.Tenant, c.Name), Saved: r.FormValue("saved") != ""}
	f := frame{Title: "Settings of " + page.Connection, Trail: []crumb{home(), crumbOf(page.Connection)}}
	def, err := s.inLedger(ctx, in.Connection)
	var p *problem
	if errors.As(err, &p) && p.code == "in-file" {
		f.Page = page
		s.show(w, r, http.StatusOK, "connectionsettings", f)
		return nil
	}
	if err != nil {
		return err
	}
	d, err := readDefinition(def.Text)
	if err != nil {
		return err
	}
	page.Version = def.Version
	page.SchoolYear, page.Pack, page.Driver, page.Target = d.text("school_year"), withoutPaths(d.text("pack")), d.text("source", "driver"), d.text("target", "url")
	page.Schedule = map[string]string{}
	for _, name := range []string{"cron", "time_zone", "jitter", "catch_up"} {
		page.Schedule[name] = d.text("schedule", name)
	}
	if page.All, page.Resources, err = s.switches(r, c, d); err != nil {
		return err
	}
	for _, l := range limits() {
		path := append([]string{"safeguards"}, l.Path...)
		l.PercentValue, l.CountText = d.text(append(slices.Clone(path), "percent")...), d.text(append(slices.Clone(path), "count")...)
		page.Limits = append(page.Limits, l)
	}
	page.Prevent = strings.Join(d.list("prevent_delete", "safeguards"), ", ")
	pauses, _ := d["pauses"].([]any)
	for _, have := range pauses {
		m, _ := have.(map[string]any)
		page.Pauses = append(page.Pauses, pauseField{definition(m).text("from"), definition(m).text("to"), definition(m).text("reason")})
	}
	versions, err := s.c.Definitions.Versions(ctx, def.Tenant, def.Name)
	if err != nil {
		return err
	}
	for _, v := range versions[:min(len(versions), versionsShown)] {
		page.Versions = append(page.Versions, versionJSON{Version: v.Version, At: v.At, Who: v.Who, Removed: v.Text == nil})
	}
	if s.offers.admins.Allows(httpd.PrincipalOf(ctx)) { // what the definition is warned of, such as a resource that is off and is referred to
		change, err := s.c.Definitions.Put(ctx, def.Tenant, def.Name, def.Version, def.Text, true, syncdb.AuditRow{})
		var invalid *InvalidDefinition
		switch {
		case err == nil:
			page.Warnings = change.Warnings
		case !errors.As(err, &invalid) && !errors.Is(err, syncdb.ErrVersion):
			return err
		}
	}
	f.Page = page
	s.show(w, r, http.StatusOK, "connectionsettings", f)
	return nil
}

// switches are the resources that the mapping pack maps, and those that are on.
func (s *Console) switches(r *http.Request, c Connection, d definition) (all bool, out []resourceSwitch, err error) {
	on := map[string]bool{}
	for _, name := range d.list("resources") {
		if name == "all" {
			all = true
			continue
		}
		if !strings.Contains(name, "/") {
			name = "ed-fi/" + name
		}
		on[name] = true
	}
	var mapped []string
	if s.c.Mapped != nil {
		if mapped, err = s.c.Mapped(r.Context(), c); err != nil {
			return false, nil, err
		}
	}
	for name := range on {
		if !slices.Contains(mapped, name) {
			mapped = append(mapped, name)
		}
	}
	slices.Sort(mapped)
	for _, name := range mapped {
		out = append(out, resourceSwitch{name, all || on[name]})
	}
	return all, out, nil
}

// connectionSettingsForm changes one part of a connection of the ledger, from the version that the page showed: a new version, audited like every other.
func (s *Console) connectionSettingsForm(w http.ResponseWriter, r *http.Request) error {
	ctx, in := r.Context(), pathOf(r)
	def, err := s.inLedger(ctx, in.Connection)
	if err != nil {
		return err
	}
	version, err := strconv.ParseInt(r.PostFormValue("version"), 10, 64)
	if err != nil {
		return refuse(http.StatusUnprocessableEntity, "invalid", "the version that was looked at is missing; open the settings again")
	}
	if version != def.Version {
		return changedMeanwhile()
	}
	for _, values := range r.PostForm {
		for _, v := range values {
			if err := said("the form", v); err != nil {
				return err
			}
			if strings.Contains(v, "${") {
				return refuse(http.StatusUnprocessableEntity, "invalid", "${ begins a reference, which has no place here; the API takes it")
			}
		}
	}
	d, err := readDefinition(def.Text)
	if err != nil {
		return err
	}
	part := r.PostFormValue("part")
	if err := d.change(part, r.PostForm); err != nil {
		return err
	}
	text, err := json.Marshal(d)
	if err != nil {
		return err
	}
	if _, err := s.put(ctx, def.Tenant, def.Name, def.Version, text, false); err != nil {
		return inWords(err)
	}
	return done(w, r, "/connections/%s/settings?saved=1", url.PathEscape(nameOf(def.Tenant, def.Name)))
}

// connectionSettingsRoutes registers the page of a connection's settings. The API has the same as definition, with PUT.
func (s *Console) connectionSettingsRoutes(reads, admins httpd.Rule) {
	s.pageOf("GET /connections/{connection}/settings", reads, s.connectionSettingsPage)
	s.pageOf("POST /connections/{connection}/settings", admins, s.connectionSettingsForm)
}
