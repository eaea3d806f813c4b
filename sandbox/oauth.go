package sandbox

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/edfisync/edfisync/schema"
)

// tokens are the access tokens of the sandbox's one client.
type tokens struct {
	clientID, secret string
	lifetime         time.Duration
	limit            int
	now              func() time.Time

	mu   sync.RWMutex
	live map[string]time.Time // token → when it expires
}

func newTokens(o Options) *tokens {
	return &tokens{
		clientID: o.ClientID, secret: o.ClientSecret, lifetime: o.TokenLifetime, limit: o.MaxTokens, now: o.Now,
		live: map[string]time.Time{},
	}
}

// issue makes a token; false when the client has as many live ones as it may.
func (t *tokens) issue() (string, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	for token, expires := range t.live {
		if !now.Before(expires) {
			delete(t.live, token)
		}
	}
	if len(t.live) >= t.limit {
		return "", false
	}
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails, says its documentation
	token := hex.EncodeToString(b[:])
	t.live[token] = now.Add(t.lifetime)
	return token, true
}

// forget makes the token of an Authorization header unknown (F19).
func (t *tokens) forget(header string) {
	_, token, _ := strings.Cut(header, " ")
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.live, strings.TrimSpace(token))
}

// check returns what is wrong with an Authorization header, "" when nothing is.
func (t *tokens) check(header string) string {
	if header == "" {
		return "Authorization header is missing."
	}
	scheme, token, _ := strings.Cut(header, " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return "Unknown Authorization header scheme."
	}
	token = strings.TrimSpace(token)
	if token == "" {
		return "Missing Authorization header bearer token value."
	}
	t.mu.RLock()
	expires, ok := t.live[token]
	t.mu.RUnlock()
	if !ok || !t.now().Before(expires) {
		return "Invalid Authorization header."
	}
	return ""
}

func (t *tokens) valid(id, secret string) bool {
	a := subtle.ConstantTimeCompare([]byte(id), []byte(t.clientID))
	b := subtle.ConstantTimeCompare([]byte(secret), []byte(t.secret))
	return a&b == 1
}

// oauthError is a refusal of the token endpoint; its body is the RFC 6749 form, not a problem.
type oauthError struct {
	status      int
	Error       string `json:"error"`
	Description string `json:"error_description,omitempty"`
}

const maxTokenBody = 64 << 10

func (s *Server) serveToken(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		s.refuse(w, r, unsupportedMethod(r.Method))
		return
	}
	params, ok := bodyParams(r)
	if !ok {
		s.refuse(w, r, unsupportedMediaType())
		return
	}
	if e := s.authorize(r.Header.Get("Authorization"), params); e != nil {
		w.Header().Set("Cache-Control", "no-store")
		writeJSON(w, e.status, e)
		return
	}
	token, ok := s.tokens.issue()
	if !ok {
		s.refuse(w, r, tooManyTokens(s.tokens.limit))
		return
	}
	s.store.tally.now.Load().tokens.Add(1)
	answer := map[string]any{"access_token": token, "expires_in": int(s.tokens.lifetime.Seconds()), "token_type": "bearer"}
	if params["scope"] != "" {
		answer["scope"] = params["scope"]
	}
	w.Header().Set("Cache-Control", "no-store")
	writeJSON(w, http.StatusOK, answer)
}

// authorize goes through the cases of the ODS's TokenController, in its order.
func (s *Server) authorize(header string, params map[string]string) *oauthError {
	id, secret := params["client_id"], params["client_secret"]
	if header != "" {
		scheme, encoded, two := strings.Cut(strings.TrimSpace(header), " ")
		encoded = strings.TrimSpace(encoded)
		switch {
		case !two || encoded == "" || strings.Contains(encoded, " "):
			return &oauthError{status: http.StatusBadRequest, Error: "invalid_request"}
		case !strings.EqualFold(scheme, "Basic"):
			return &oauthError{status: http.StatusUnauthorized, Error: "invalid_client"}
		case id != "" || secret != "":
			return &oauthError{status: http.StatusBadRequest, Error: "invalid_client"}
		}
		text, err := base64.StdEncoding.DecodeString(encoded)
		if err != nil {
			return &oauthError{status: http.StatusBadRequest, Error: "invalid_request"}
		}
		parts := strings.Split(string(text), ":")
		if len(parts) != 2 {
			return &oauthError{status: http.StatusBadRequest, Error: "invalid_client"}
		}
		id, secret = parts[0], parts[1]
	}
	switch {
	case id == "" && secret == "":
		return &oauthError{status: http.StatusUnauthorized, Error: "invalid_request"}
	case params["grant_type"] != "client_credentials":
		return &oauthError{status: http.StatusBadRequest, Error: "unsupported_grant_type"}
	case !s.tokens.valid(id, secret):
		return &oauthError{status: http.StatusUnauthorized, Error: "invalid_client"}
	}
	return s.checkScope(params["scope"])
}

// checkScope accepts the id of an education organization there is.
func (s *Server) checkScope(scope string) *oauthError {
	if scope == "" {
		return nil
	}
	e := &oauthError{status: http.StatusBadRequest, Error: "invalid_scope"}
	n, err := strconv.ParseInt(scope, 10, 64)
	if err != nil {
		e.Description = "The supplied 'scope' was not a number (it should be an EducationOrganizationId that is explicitly associated with the client)."
		return e
	}
	if !s.store.hasOrganization(n) {
		e.Description = "The client is not explicitly associated with the EducationOrganizationId specified in the requested 'scope'."
		return e
	}
	return nil
}

// bodyParams reads a form or JSON body; false for any other content type. A body that cannot be read has no parameters.
func bodyParams(r *http.Request) (map[string]string, bool) {
	params := map[string]string{}
	ct := r.Header.Get("Content-Type")
	media, _, _ := strings.Cut(ct, ";")
	body, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, maxTokenBody))
	if err != nil {
		return params, true
	}
	switch {
	case isJSON(ct):
		var members map[string]any
		if json.Unmarshal(body, &members) == nil {
			for name, v := range members {
				if text, ok := v.(string); ok {
					params[strings.ToLower(name)] = text
				}
			}
		}
	case strings.EqualFold(strings.TrimSpace(media), "application/x-www-form-urlencoded"):
		form, err := url.ParseQuery(string(body))
		if err != nil {
			break
		}
		for name, values := range form {
			params[strings.ToLower(name)] = values[0]
		}
	default:
		return nil, false
	}
	return params, true
}

func (s *Server) serveTokenInfo(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		s.refuse(w, r, unsupportedMethod(r.Method))
		return
	}
	header := r.Header.Get("Authorization")
	if why := s.tokens.check(header); why != "" {
		s.refuse(w, r, unauthenticated(why))
		return
	}
	params, ok := bodyParams(r)
	_, own, _ := strings.Cut(header, " ")
	switch {
	case !ok:
		s.refuse(w, r, unsupportedMediaType())
	case params["token"] == "":
		s.refuse(w, r, badRequest("An invalid token was provided"))
	case params["token"] != strings.TrimSpace(own):
		s.refuse(w, r, badRequest("The authentication token and the token to inspect must match."))
	default:
		writeJSON(w, http.StatusOK, s.tokenInfo())
	}
}

type claimedResource struct {
	Resource   string   `json:"resource"`
	Operations []string `json:"operations"`
}

// tokenInfo describes the one client: it may do everything.
func (s *Server) tokenInfo() map[string]any {
	resources := make([]claimedResource, 0, len(s.cat.tables))
	for _, t := range s.cat.tables {
		resources = append(resources, claimedResource{"/" + t.path, []string{"Create", "Read", "Update", "Delete"}})
	}
	return map[string]any{
		"active": true, "client_id": s.tokens.clientID, "namespace_prefixes": []string{"uri://"},
		"education_organizations": s.store.organizations(), "assigned_profiles": []string{},
		"claim_set": map[string]string{"name": "Ed-Fi Sandbox"}, "resources": resources, "services": []string{},
	}
}

// hasOrganization says whether an education organization has this id.
func (st *store) hasOrganization(id int64) bool {
	s := st.cat.spaces["EducationOrganization"]
	if s == nil {
		return false
	}
	st.world.RLock()
	defer st.world.RUnlock()
	h := st.hash.sum(binary.AppendVarint(nil, id))
	s.mu.RLock()
	defer s.mu.RUnlock()
	_, ok := s.index[h]
	return ok
}

// organizations lists the education organizations as token_info does.
func (st *store) organizations() []map[string]any {
	st.world.RLock()
	defer st.world.RUnlock()
	out := []map[string]any{}
	s := st.cat.spaces["EducationOrganization"]
	if s == nil {
		return out
	}
	for _, t := range s.tables {
		idAt := t.key[0].path
		name, err := t.shape.path("nameOfInstitution")
		if err != nil || idAt.last.Kind != schema.Long && idAt.last.Kind != schema.Integer {
			continue
		}
		t.each(func(_ uint32, rec []byte) bool {
			c := cursor{rec}
			if !c.find(t.shape, int(idAt.steps[0])) {
				return true
			}
			id := c.varint()
			item := map[string]any{"education_organization_id": id, "type": "edfi." + t.res.Name, snake(t.key[0].name): id}
			if n := (cursor{rec}); n.find(t.shape, int(name.steps[0])) {
				item["name_of_institution"] = string(n.text())
			}
			out = append(out, item)
			return true
		})
	}
	return out
}

// snake turns "localEducationAgencyId" into "local_education_agency_id".
func snake(name string) string {
	var b strings.Builder
	for _, c := range name {
		if c >= 'A' && c <= 'Z' {
			b.WriteByte('_')
			c += 'a' - 'A'
		}
		b.WriteRune(c)
	}
	return b.String()
}
