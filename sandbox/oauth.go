package sandbox

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// tokens are the sandbox's clients and their access tokens.
type tokens struct {
	lifetime time.Duration
	limit    int // of each client
	now      func() time.Time

	mu      sync.RWMutex
	clients map[string]*caller // by ID
	live    map[string]token
}

type token struct {
	client  string // ID
	scope   int64  // education organization it is for, 0: all of the client's
	expires time.Time
}

func newTokens(o Options) *tokens {
	return &tokens{lifetime: o.TokenLifetime, limit: o.MaxTokens, now: o.Now, clients: map[string]*caller{}, live: map[string]token{}}
}

// set adds or replaces a client.
func (t *tokens) set(c *caller) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.clients[c.ID] = c
}

// all are the clients, by id.
func (t *tokens) all() []*caller {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return slices.SortedFunc(maps.Values(t.clients), func(a, b *caller) int { return strings.Compare(a.ID, b.ID) })
}

// issue makes a token; when the client has as many live ones as it may there is none, and free is when the first of them expires.
func (t *tokens) issue(client string, scope int64) (text string, free time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	count := 0
	for text, k := range t.live {
		switch {
		case !now.Before(k.expires):
			delete(t.live, text)
		case k.client == client:
			count++
			if free.IsZero() || k.expires.Before(free) {
				free = k.expires
			}
		}
	}
	if count >= t.limit {
		return "", free
	}
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails, says its documentation
	text = hex.EncodeToString(b[:])
	t.live[text] = token{client, scope, now.Add(t.lifetime)}
	return text, time.Time{}
}

// forget makes the token of an Authorization header unknown (F19).
func (t *tokens) forget(header string) {
	_, token, _ := strings.Cut(header, " ")
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.live, strings.TrimSpace(token))
}

// check returns whose token an Authorization header carries, or what is wrong with it.
func (t *tokens) check(header string) (by *caller, wrong string) {
	if header == "" {
		return nil, "Authorization header is missing."
	}
	scheme, text, _ := strings.Cut(header, " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return nil, "Unknown Authorization header scheme."
	}
	text = strings.TrimSpace(text)
	if text == "" {
		return nil, "Missing Authorization header bearer token value."
	}
	t.mu.RLock()
	k, ok := t.live[text]
	by = t.clients[k.client]
	t.mu.RUnlock()
	if !ok || !t.now().Before(k.expires) {
		return nil, "Invalid Authorization header."
	}
	if k.scope != 0 {
		by = by.scoped(k.scope)
	}
	return by, ""
}

// client returns the client of an id and secret, nil when there is none.
func (t *tokens) client(id, secret string) *caller {
	t.mu.RLock()
	c := t.clients[id]
	t.mu.RUnlock()
	if c == nil || subtle.ConstantTimeCompare([]byte(secret), []byte(c.Secret)) != 1 {
		return nil
	}
	return c
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
	by, scope, e := s.authenticate(r.Header.Get("Authorization"), params)
	if e != nil {
		w.Header().Set("Cache-Control", "no-store")
		writeJSON(w, e.status, e)
		return
	}
	token, free := s.tokens.issue(by.ID, scope)
	if token == "" {
		s.refuse(w, r, tooManyTokens(s.tokens.limit, free))
		return
	}
	s.store.tally.now.Load().tokens.Add(1)
	answer := map[string]any{"access_token": token, "expires_in": int(s.tokens.lifetime.Seconds()), "token_type": s.like.tokenType()}
	if params["scope"] != "" {
		answer["scope"] = params["scope"]
	}
	w.Header().Set("Cache-Control", "no-store")
	writeJSON(w, http.StatusOK, answer)
}

// authenticate goes through the cases of the ODS's TokenController, in its order. scope is 0 when none is asked for.
func (s *Server) authenticate(header string, params map[string]string) (by *caller, scope int64, e *oauthError) {
	id, secret := params["client_id"], params["client_secret"]
	if header != "" {
		scheme, encoded, two := strings.Cut(strings.TrimSpace(header), " ")
		encoded = strings.TrimSpace(encoded)
		switch {
		case !two || encoded == "" || strings.Contains(encoded, " "):
			return nil, 0, &oauthError{status: http.StatusBadRequest, Error: "invalid_request"}
		case !strings.EqualFold(scheme, "Basic"):
			return nil, 0, &oauthError{status: http.StatusUnauthorized, Error: "invalid_client"}
		case id != "" || secret != "":
			return nil, 0, &oauthError{status: http.StatusBadRequest, Error: "invalid_client"}
		}
		text, err := base64.StdEncoding.DecodeString(encoded)
		if err != nil {
			return nil, 0, &oauthError{status: http.StatusBadRequest, Error: "invalid_request"}
		}
		parts := strings.Split(string(text), ":")
		if len(parts) != 2 {
			return nil, 0, &oauthError{status: http.StatusBadRequest, Error: "invalid_client"}
		}
		id, secret = parts[0], parts[1]
	}
	switch {
	case id == "" && secret == "":
		return nil, 0, &oauthError{status: http.StatusUnauthorized, Error: "invalid_request"}
	case params["grant_type"] != "client_credentials":
		return nil, 0, &oauthError{status: http.StatusBadRequest, Error: "unsupported_grant_type"}
	}
	if by = s.tokens.client(id, secret); by == nil {
		return nil, 0, &oauthError{status: http.StatusUnauthorized, Error: "invalid_client"}
	}
	scope, e = s.checkScope(by, params["scope"])
	return by, scope, e
}

// checkScope accepts the id of an education organization of the client: with full access, of any there is.
func (s *Server) checkScope(by *caller, scope string) (int64, *oauthError) {
	if scope == "" {
		return 0, nil
	}
	e := &oauthError{status: http.StatusBadRequest, Error: "invalid_scope"}
	n, err := strconv.ParseInt(scope, 10, 64)
	if err != nil {
		e.Description = "The supplied 'scope' was not a number (it should be an EducationOrganizationId that is explicitly associated with the client)."
		return 0, e
	}
	_, own := by.reach[n]
	if !own && (by.restricted() || !s.store.hasOrganization(n)) {
		e.Description = "The client is not explicitly associated with the EducationOrganizationId specified in the requested 'scope'."
		return 0, e
	}
	return n, nil
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
	by, why := s.tokens.check(header)
	if why != "" {
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
		writeJSON(w, http.StatusOK, s.tokenInfo(by))
	}
}
