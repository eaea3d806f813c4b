package console

import (
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/edfisync/edfisync/internal/httpd"
	"github.com/edfisync/edfisync/syncdb"
)

// sessionAge is how long a browser stays logged in.
const sessionAge = 12 * time.Hour

// logIn opens a browser's session with a key.
func (s *Console) logIn(w http.ResponseWriter, r *http.Request) {
	key, err := readKey(r)
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	p, ok := s.router.LogIn(w, r, key)
	if !ok {
		return
	}
	if err := s.openSession(w, r, sessionOf(p)); err != nil {
		s.refuse(w, r, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// sessionOf is the session of who logs in with a key: what the key may, the session may, and no longer than the key.
func sessionOf(p httpd.Principal) syncdb.Session {
	return syncdb.Session{KeyID: p.ID, Name: p.Name, Role: p.Role.String(), Tenant: p.Tenant}
}

// openSession opens a session for whoever logged in. Each log-in gets a new token, and the session the browser had is over: a token that somebody planted
// there is worth nothing (session fixation).
func (s *Console) openSession(w http.ResponseWriter, r *http.Request, session syncdb.Session) error {
	ctx := r.Context()
	token, hash := httpd.NewSecret()
	ends := s.now().Add(sessionAge)
	who, object := httpd.Principal{ID: session.KeyID, Name: session.Name}, "key "+session.KeyID
	if session.KeyID == "" {
		who.ID, object = session.Subject, "identity provider"
	}
	detail := map[string]any{"client": httpd.ClientOf(ctx).String(), "request": httpd.RequestID(ctx)}
	if session.KeyID == "" { // what a key may is in the row of the key
		detail["role"], detail["studentData"] = session.Role, session.StudentData
	}
	session.Hash, session.ExpiresAt = hash, ends
	row := syncdb.AuditRow{Who: who.Who(), Action: "session.open", Connection: ofTenant(session.Tenant), Object: object, Detail: encode(detail)}
	if err := s.c.Ledger.CreateSession(ctx, session, row); err != nil {
		return err
	}
	if old := httpd.SessionToken(r); old != "" {
		if err := s.c.Ledger.EndSession(ctx, httpd.HashSecret(old)); err != nil {
			s.log.WarnContext(ctx, "end the session a browser had", slog.Any("error", err))
		}
	}
	httpd.SetSession(w, r, token, ends)
	return nil
}

// readKey reads {"key": "efs_…"}.
func readKey(r *http.Request) (string, error) {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return "", refuse(http.StatusUnsupportedMediaType, "invalid", "send the key as JSON, with the header Content-Type: application/json")
	}
	var in struct {
		Key string `json:"key"`
	}
	d := json.NewDecoder(io.LimitReader(r.Body, 4096))
	d.DisallowUnknownFields()
	if err := d.Decode(&in); err != nil || in.Key == "" {
		return "", refuse(http.StatusUnprocessableEntity, "invalid", `want {"key": "efs_…"}`)
	}
	return in.Key, nil
}

// logOut ends the browser's session. With a key in the header there is none to end.
func (s *Console) logOut(w http.ResponseWriter, r *http.Request) {
	if err := s.closeSession(w, r); err != nil {
		s.refuse(w, r, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// closeSession ends the session of the browser that makes a request.
func (s *Console) closeSession(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	token := httpd.SessionToken(r)
	if token == "" || r.Header.Get("Authorization") != "" {
		return refuse(http.StatusConflict, "no-session", "this is no browser session; keys are ended with DELETE /keys")
	}
	p := httpd.PrincipalOf(ctx)
	err := s.c.Ledger.Audit(ctx, syncdb.AuditRow{Who: p.Who(), Action: "session.close", Connection: ofTenant(p.Tenant)})
	if err = errors.Join(err, s.c.Ledger.EndSession(ctx, httpd.HashSecret(token))); err != nil { // logged out in any case
		return err
	}
	httpd.SetSession(w, r, "", time.Time{})
	return nil
}

// addSession documents logging in and out, which huma does not serve.
func (s *Console) addSession() {
	done := map[string]*huma.Response{"204": {Description: "Done. Set-Cookie has the session."}}
	s.describe(httpd.Rule{Public: true}, huma.Operation{
		Method: http.MethodPost, Path: "/session", OperationID: "logIn", Tags: []string{"keys"}, Summary: "Log a browser in with a key", Responses: done,
		RequestBody: &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{"application/json": {Schema: &huma.Schema{
			Type: "object", Required: []string{"key"}, AdditionalProperties: false, Properties: map[string]*huma.Schema{"key": {Type: "string"}},
		}}}},
	})
	s.describe(httpd.Rule{Least: httpd.Viewer}, huma.Operation{
		Method: http.MethodDelete, Path: "/session", OperationID: "logOut", Tags: []string{"keys"}, Summary: "Log a browser out", Responses: done,
	})
}
