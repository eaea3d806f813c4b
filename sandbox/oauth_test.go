package sandbox

import (
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestTokenEndpointRefusesAsAnODSDoes(t *testing.T) {
	t.Parallel()
	basic := func(text string) string { return "Basic " + base64.StdEncoding.EncodeToString([]byte(text)) }
	const form, asJSON = "application/x-www-form-urlencoded", "application/json"
	good := "grant_type=client_credentials"
	c := start(t)
	c.must(http.StatusCreated, http.MethodPost, "localEducationAgencies", leaBody)
	inBody := good + "&client_id=" + testID + "&client_secret=" + testSecret
	for _, tt := range []struct {
		name, header, contentType, body string
		status                          int
		err                             string // "" expects a token
	}{
		{"basic header", basic(testID + ":" + testSecret), form, good, 200, ""},
		{"form body", "", form, inBody, 200, ""},
		{"JSON body", "", asJSON, `{"grant_type":"client_credentials","client_id":"key","client_secret":"secret"}`, 200, ""},
		{"basic header and JSON body", basic(testID + ":" + testSecret), asJSON, `{"grant_type":"client_credentials"}`, 200, ""},
		{"header of one word", "Basic", form, good, 400, "invalid_request"},
		{"header that is no base64", "Basic %%%", form, good, 400, "invalid_request"},
		{"another scheme", "Digest abc", form, good, 401, "invalid_client"},
		{"a colon in the secret", basic("key:sec:ret"), form, good, 400, "invalid_client"},
		{"no colon at all", basic("key"), form, good, 400, "invalid_client"},
		{"header and body credentials", basic(testID + ":" + testSecret), form, inBody, 400, "invalid_client"},
		{"no credentials", "", form, good, 401, "invalid_request"},
		{"wrong secret", basic(testID + ":wrong"), form, good, 401, "invalid_client"},
		{"wrong key", basic("wrong:" + testSecret), form, good, 401, "invalid_client"},
		{"another grant type", basic(testID + ":" + testSecret), form, "grant_type=password", 400, "unsupported_grant_type"},
		{"a scope that is no number", basic(testID + ":" + testSecret), form, good + "&scope=x", 400, "invalid_scope"},
		{"a scope of no organization", basic(testID + ":" + testSecret), form, good + "&scope=9", 400, "invalid_scope"},
		{"a scope of an organization", basic(testID + ":" + testSecret), form, good + "&scope=255901", 200, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, c.s.URL()+"/oauth/token", strings.NewReader(tt.body))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Content-Type", tt.contentType)
			if tt.header != "" {
				req.Header.Set("Authorization", tt.header)
			}
			r, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = r.Body.Close() }()
			var got struct {
				AccessToken string `json:"access_token"`
				ExpiresIn   int    `json:"expires_in"`
				TokenType   string `json:"token_type"`
				Error       string `json:"error"`
				Description string `json:"error_description"`
			}
			if err := json.NewDecoder(r.Body).Decode(&got); err != nil {
				t.Fatal(err)
			}
			if r.StatusCode != tt.status || got.Error != tt.err || (got.Description != "") != (tt.err == "invalid_scope") {
				t.Errorf("got %d %+v, want %d %s", r.StatusCode, got, tt.status, tt.err)
			}
			if tt.err == "" && (len(got.AccessToken) != 32 || got.ExpiresIn != 1800 || got.TokenType != "bearer" || r.Header.Get("Cache-Control") != "no-store") {
				t.Errorf("got %+v %v", got, r.Header)
			}
		})
	}
}

func TestTokensExpireAndAreLimited(t *testing.T) {
	t.Parallel()
	now := make(chan time.Time, 1)
	now <- time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	clock := func() time.Time { v := <-now; now <- v; return v }
	c := start(t, func(o *Options) { o.Now = clock; o.MaxTokens = 2 })
	c.must(http.StatusOK, http.MethodGet, "students", "")
	c.login(testID, testSecret)
	a := c.raw(http.MethodPost, "/oauth/token", `{"grant_type":"client_credentials","client_id":"key","client_secret":"secret"}`, "Authorization: ")
	want := "Too many access tokens have been requested (limit is 2). Access tokens should be reused until they expire."
	if a.Status != http.StatusTooManyRequests || a.Problem.Type != "urn:ed-fi:api:security:authentication:too-many-tokens" || a.Problem.Errors[0] != want ||
		!strings.Contains(a.Problem.Errors[1], "expires at 2026-01-01T00:30:00Z") {
		t.Errorf("got %d %s", a.Status, a.Body)
	}
	now <- (<-now).Add(30 * time.Minute)
	if a := c.do(http.MethodGet, "students", ""); a.Status != http.StatusUnauthorized || a.Problem.Errors[0] != "Invalid Authorization header." {
		t.Errorf("after its lifetime: %d %s", a.Status, a.Body)
	}
	c.login(testID, testSecret)
	c.must(http.StatusOK, http.MethodGet, "students", "")
}

func TestTokenInfoTellsOwnToken(t *testing.T) {
	t.Parallel()
	c := start(t)
	c.district()
	a := c.raw(http.MethodPost, "/oauth/token_info", `{"token":"`+c.token+`"}`)
	var info struct {
		Active        bool   `json:"active"`
		ClientID      string `json:"client_id"`
		Organizations []struct {
			ID   int64  `json:"education_organization_id"`
			Name string `json:"name_of_institution"`
			Type string `json:"type"`
		} `json:"education_organizations"`
		Resources []claimedResource `json:"resources"`
	}
	if err := json.Unmarshal([]byte(a.Body), &info); err != nil || a.Status != http.StatusOK {
		t.Fatalf("%d %v %s", a.Status, err, a.Body)
	}
	if !info.Active || info.ClientID != testID || len(info.Organizations) != 2 || info.Organizations[0].Name != "Grand Bend" ||
		info.Organizations[0].Type != "edfi.LocalEducationAgency" || len(info.Resources) != len(c.s.cat.tables) {
		t.Errorf("got %+v", info)
	}
	for token, want := range map[string]string{
		"":  "An invalid token was provided",
		"x": "The authentication token and the token to inspect must match.",
	} {
		if a := c.raw(http.MethodPost, "/oauth/token_info", `{"token":"`+token+`"}`); a.Status != http.StatusBadRequest || a.Problem.Errors[0] != want {
			t.Errorf("token %q: %d %s", token, a.Status, a.Body)
		}
	}
}

func TestSecretsMayNotHoldAColon(t *testing.T) {
	t.Parallel()
	if _, err := New(Options{Model: model(t, "5.2"), ClientID: "a", ClientSecret: "b:c"}); err == nil {
		t.Error("no error")
	}
}

func readAll(t *testing.T, r io.Reader) string {
	t.Helper()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
