package edfi

import (
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// host is an Ed-Fi API of a few routes over real HTTP: root document, token endpoint, and what a test hangs onto /data/v3/.
type host struct {
	*httptest.Server
	mux *http.ServeMux

	tokenCalls atomic.Int64
	lifetime   int // seconds

	mu      sync.Mutex
	valid   map[string]bool
	tokenFn http.HandlerFunc // replaces the token endpoint
}

const testKey, testSecret = "key", "secret"

// newHost starts a v7-style host whose root document is root, or the plain one when root is nil.
func newHost(t testing.TB, root func(base string) map[string]any) *host {
	t.Helper()
	h := &host{mux: http.NewServeMux(), lifetime: 1800, valid: map[string]bool{}}
	h.Server = httptest.NewServer(h.mux)
	t.Cleanup(h.Close)
	if root == nil {
		root = plainRoot
	}
	h.mux.HandleFunc("GET /api/{$}", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, 200, root(h.URL+"/api")) })
	h.mux.HandleFunc("POST /api/oauth/token", h.token)
	return h
}

func plainRoot(base string) map[string]any {
	return map[string]any{
		"version": "7.3", "informationalVersion": "7.3.2", "suite": "3", "applicationName": "Ed-Fi Alliance ODS/API",
		"dataModels": []map[string]string{{"name": "Ed-Fi", "version": "5.2.0"}},
		"urls": map[string]string{
			"dependencies": base + "/metadata/data/v3/dependencies", "openApiMetadata": base + "/metadata/",
			"oauth": base + "/oauth/token", "oauthTokenIntrospection": base + "/oauth/token_info",
			"dataManagementApi": base + "/data/v3/", "changeQueries": base + "/changeQueries/v1/",
		},
	}
}

func dmsRoot(base string) map[string]any {
	return map[string]any{
		"version": "8.0", "applicationName": "Ed-Fi API",
		"dataModels": []map[string]string{{"name": "TPDM", "version": "1.1"}, {"name": "Ed-Fi", "version": "5.2.0"}},
		"urls": map[string]string{
			"dependencies": base + "/metadata/dependencies", "openApiMetadata": base + "/metadata/specifications",
			"oauth": base + "/oauth/token", "tokenInfo": base + "/oauth/token_info",
			"dataManagementApi": base + "/data", "changeQueries": base + "/changeQueries/v1/",
		},
	}
}

func (h *host) token(w http.ResponseWriter, r *http.Request) {
	n := h.tokenCalls.Add(1)
	if h.tokenFn != nil {
		h.tokenFn(w, r)
		return
	}
	id, secret, ok := r.BasicAuth()
	if !ok || id != testKey || secret != testSecret || r.PostFormValue("grant_type") != "client_credentials" {
		writeJSON(w, 401, map[string]string{"error": "invalid_client"})
		return
	}
	h.grant(w, fmt.Sprintf("token-%d", n))
}

func (h *host) grant(w http.ResponseWriter, value string) {
	h.mu.Lock()
	h.valid[value] = true
	h.mu.Unlock()
	writeJSON(w, 200, map[string]any{"access_token": value, "expires_in": h.lifetime, "token_type": "bearer"})
}

// expire makes every token given out so far invalid.
func (h *host) expire() {
	h.mu.Lock()
	defer h.mu.Unlock()
	clear(h.valid)
}

func (h *host) authorized(r *http.Request) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.valid[strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")]
}

// data hangs a handler onto a pattern below the data API, behind the check of the token: "POST /ed-fi/students".
func (h *host) data(pattern string, fn http.HandlerFunc) {
	method, path, found := strings.Cut(pattern, "/")
	if !found {
		panic("pattern without a path")
	}
	h.mux.HandleFunc(method+"/api/data/v3/"+path, func(w http.ResponseWriter, r *http.Request) {
		if !h.authorized(r) {
			writeJSON(w, 401, map[string]any{
				"type": "urn:ed-fi:api:security:authentication", "title": "Authentication Failed", "status": 401,
				"detail": "The caller could not be authenticated.", "errors": []string{"Invalid Authorization header."},
			})
			return
		}
		fn(w, r)
	})
}

func (h *host) created(id string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Location", h.URL+r.URL.Path+"/"+id)
		w.Header().Set("ETag", `"5250093105232954695"`)
		w.WriteHeader(http.StatusCreated)
	}
}

func (h *host) config() Config {
	return Config{
		BaseURL: h.URL + "/api", ClientID: testKey, ClientSecret: testSecret,
		RetryWait: time.Millisecond, MaxRetryWait: 5 * time.Millisecond, MaxRetryAfter: 20 * time.Millisecond, Timeout: 10 * time.Second,
	}
}

// client connects; change may alter the configuration.
func (h *host) client(t testing.TB, change ...func(*Config)) *Client {
	t.Helper()
	config := h.config()
	for _, fn := range change {
		fn(&config)
	}
	c, err := Connect(t.Context(), config)
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	t.Cleanup(c.Close)
	return c
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

const testID = "0123456789abcdef0123456789abcdef"

// failureOf returns err as this package's error, or fails the test.
func failureOf(t *testing.T, err error) *Error {
	t.Helper()
	e, ok := err.(*Error)
	if !ok {
		t.Fatalf("error is %T %v, want *Error", err, err)
	}
	return e
}

// sharedFile reads a file of the shared reference data, or skips the test where that is absent.
func sharedFile(t *testing.T, name string) []byte {
	t.Helper()
	dir := os.Getenv("EDFISYNC_SHARED")
	if dir == "" {
		dir = filepath.Join("..", "..", "shared")
	}
	b, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(name)))
	if err != nil {
		t.Skipf("shared data is not here: %v", err)
	}
	return b
}

// discardLog silences a test server's complaints about broken connections.
func discardLog() *log.Logger { return log.New(io.Discard, "", 0) }
