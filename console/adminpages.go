package console

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/edfisync/edfisync/internal/httpd"
)

// Setting is one line of how the service is configured. It holds no secret.
type Setting struct {
	Name  string `json:"name" doc:"As in the configuration."`
	Value string `json:"value"`
	Means string `json:"means,omitempty"`
}

// settingsJSON is how the service is.
type settingsJSON struct {
	Version  string    `json:"version"`
	Settings []Setting `json:"settings" nullable:"false"`
	Wrong    string    `json:"configurationWrong,omitempty" doc:"Why the configuration cannot be used as it is now: the last good one is in force. Left out: it is right."`
}

func (s *Console) showSettings(context.Context, *struct{}) (*one[settingsJSON], error) {
	out := settingsJSON{Version: s.c.Version, Settings: append([]Setting{}, s.c.Settings...)}
	if wrong := s.misconfigured(); wrong != nil {
		out.Wrong = wrong.Error()
	}
	return &one[settingsJSON]{out}, nil
}

func (s *Console) settingsPage(w http.ResponseWriter, r *http.Request) error {
	out, err := s.showSettings(r.Context(), nil)
	if err != nil {
		return err
	}
	s.show(w, r, http.StatusOK, "settings", frame{Title: "Settings", Page: out.Body})
	return nil
}

// auditView is the page of the audit trail.
type auditView struct {
	Rows                    []auditJSON
	Action, Who, Connection string
	Next                    string // path of the next page
	Narrowed                bool
}

func (s *Console) auditPage(w http.ResponseWriter, r *http.Request) error {
	in := auditInput{Paging: Paging{Limit: rowsShown, Cursor: r.FormValue("cursor")}}
	in.Action, in.Who, in.Connection = strings.TrimSpace(r.FormValue("action")), strings.TrimSpace(r.FormValue("who")), strings.TrimSpace(r.FormValue("connection"))
	if len(in.Action)+len(in.Who)+len(in.Connection) > 300 {
		return refuse(http.StatusUnprocessableEntity, "invalid", "that is too long to look for")
	}
	out, err := s.listAudit(r.Context(), &in)
	if err != nil {
		return err
	}
	page := auditView{Rows: out.Body.Items, Action: in.Action, Who: in.Who, Connection: in.Connection, Narrowed: in.Action+in.Who+in.Connection != ""}
	if out.Body.Next != "" {
		page.Next = "/audit?" + url.Values{"action": {in.Action}, "who": {in.Who}, "connection": {in.Connection}, "cursor": {out.Body.Next}}.Encode()
	}
	s.show(w, r, http.StatusOK, "audit", frame{Title: "Audit trail", Page: page})
	return nil
}

func (s *Console) auditVerdictPage(w http.ResponseWriter, r *http.Request) error {
	out, err := s.verifyAudit(r.Context(), nil)
	if err != nil {
		return err
	}
	s.show(w, r, http.StatusOK, "auditverdict", frame{Title: "Verification", Trail: []crumb{{"Audit trail", "/audit"}}, Page: out.Body})
	return nil
}

// keysView is the page of keys.
type keysView struct {
	Keys   []keyJSON
	Ended  []keyJSON // revoked or expired
	Roles  []string
	Secret string // of a key that was just made or rotated: shown this once
	Of     string // its name
}

// showKeys answers with the page of keys, and the secret of one that was just made.
func (s *Console) showKeys(w http.ResponseWriter, r *http.Request, made *secretOutput) error {
	ctx := r.Context()
	all, err := s.c.Ledger.APIKeys(ctx)
	if err != nil {
		return err
	}
	p, page := httpd.PrincipalOf(ctx), keysView{}
	for _, role := range httpd.Roles() {
		page.Roles = append(page.Roles, role.String())
	}
	for _, k := range all {
		switch shown := keyOf(k); {
		case !p.Sees(k.Tenant):
		case shown.State == "good":
			page.Keys = append(page.Keys, shown)
		default:
			page.Ended = append(page.Ended, shown)
		}
	}
	if made != nil {
		page.Secret, page.Of = made.Body.Key, made.Body.Info.Name
	}
	s.show(w, r, http.StatusOK, "keys", frame{Title: "Keys", Page: page})
	return nil
}

func (s *Console) keysPage(w http.ResponseWriter, r *http.Request) error {
	return s.showKeys(w, r, nil)
}

// makeKeyForm answers with the secret itself and not with an address to load: it is shown once, and nowhere to be asked for again.
func (s *Console) makeKeyForm(w http.ResponseWriter, r *http.Request) error {
	in := newKeyInput{}
	in.Body.Name, in.Body.Role, in.Body.Tenant = strings.TrimSpace(r.PostFormValue("name")), r.PostFormValue("role"), strings.TrimSpace(r.PostFormValue("tenant"))
	in.Body.StudentData = r.PostFormValue("studentData") == "yes"
	in.Body.Networks = strings.FieldsFunc(r.PostFormValue("networks"), func(r rune) bool { return r == ',' || r == ' ' || r == '\n' || r == '\r' })
	if days := r.PostFormValue("lasts"); days != "" {
		d, err := time.ParseDuration(days)
		if err != nil || d <= 0 {
			return refuse(http.StatusUnprocessableEntity, "invalid", "the key must be good for a while")
		}
		in.Body.ExpiresAt = time.Now().Add(d)
	}
	out, err := s.createKey(r.Context(), &in)
	if err != nil {
		return err
	}
	return s.showKeys(w, r, out)
}

func (s *Console) rotateKeyForm(w http.ResponseWriter, r *http.Request) error {
	in := rotateInput{KeyPath: KeyPath{r.PathValue("id")}}
	in.Body = &struct {
		Overlap string `json:"overlap,omitempty" required:"false" maxLength:"20" doc:"For so long the old secret is good too: 24h (the default), 0s to 720h."`
	}{Overlap: r.PostFormValue("overlap")}
	out, err := s.rotateKey(r.Context(), &in)
	if err != nil {
		return err
	}
	return s.showKeys(w, r, out)
}

func (s *Console) revokeKeyForm(w http.ResponseWriter, r *http.Request) error {
	if _, err := s.revokeKey(r.Context(), &KeyPath{r.PathValue("id")}); err != nil {
		return err
	}
	return done(w, r, "/keys")
}
