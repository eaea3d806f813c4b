package edfi

import (
	"crypto/tls"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// connectTo starts a host that serves document as the root document at path and connects to base on it. "BASE" in document is replaced
// by the host's address.
func connectTo(t *testing.T, document, path string, config Config) (*Client, string, error) {
	t.Helper()
	mux := http.NewServeMux()
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	mux.HandleFunc("GET "+path+"{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(strings.ReplaceAll(document, "BASE", server.URL)))
	})
	config.BaseURL = server.URL + config.BaseURL
	config.ClientID, config.ClientSecret = testKey, testSecret
	c, err := Connect(t.Context(), config)
	if c != nil {
		t.Cleanup(c.Close)
	}
	return c, server.URL, err
}

func urlsDocument(apiMode, data, oauth string) string {
	b, _ := json.Marshal(map[string]any{
		"version": "7.3", "apiMode": apiMode, "dataModels": []map[string]string{{"name": "Ed-Fi", "version": "5.2.0"}},
		"urls": map[string]string{"dataManagementApi": data, "oauth": oauth},
	})
	return string(b)
}

func TestConnectFindsTheAddresses(t *testing.T) {
	t.Parallel()
	plain := urlsDocument("", "BASE/v7/api/data/v3/", "BASE/v7/api/oauth/token")
	tests := []struct {
		name     string
		document string
		path     string // where the root document is
		config   Config // BaseURL is a path
		data     string
		oauth    string
	}{
		{"base URL as documented", plain, "/v7/api/", Config{BaseURL: "/v7/api"}, "BASE/v7/api/data/v3", "BASE/v7/api/oauth/token"},
		{"base URL with a trailing slash", plain, "/v7/api/", Config{BaseURL: "/v7/api/"}, "BASE/v7/api/data/v3", "BASE/v7/api/oauth/token"},
		{"base URL without /api", plain, "/v7/api/", Config{BaseURL: "/v7"}, "BASE/v7/api/data/v3", "BASE/v7/api/oauth/token"},
		{"base URL with the data route left on", plain, "/v7/api/", Config{BaseURL: "/v7/api/data/v3/"}, "BASE/v7/api/data/v3", "BASE/v7/api/oauth/token"},
		{"a host without trailing slashes", urlsDocument("", "BASE/api/data/v3", "BASE/api/oauth/token/"), "/api/", Config{BaseURL: "/api"}, "BASE/api/data/v3", "BASE/api/oauth/token"},
		{"a year-specific host names this year, another is configured", urlsDocument("Year Specific", "BASE/api/data/v3/2025", "BASE/api/oauth/token"), "/api/",
			Config{BaseURL: "/api", SchoolYear: 2027}, "BASE/api/data/v3/2027", "BASE/api/oauth/token"},
		{"a year-specific host that names no year", urlsDocument("Year Specific", "BASE/api/data/v3/", "BASE/api/oauth/token"), "/api/",
			Config{BaseURL: "/api", SchoolYear: 2027}, "BASE/api/data/v3/2027", "BASE/api/oauth/token"},
		{"a year in the base path is not the school year", urlsDocument("Year Specific", "BASE/2020/data/v3/2025", "BASE/2020/oauth/token"), "/2020/",
			Config{BaseURL: "/2020", SchoolYear: 2027}, "BASE/2020/data/v3/2027", "BASE/2020/oauth/token"},
		{"a shared host ignores the school year", plain, "/v7/api/", Config{BaseURL: "/v7/api", SchoolYear: 2027}, "BASE/v7/api/data/v3", "BASE/v7/api/oauth/token"},
		{"tenant and school year in the routes", urlsDocument("", "BASE/api/{tenantIdentifier}/{schoolYearFromRoute}/data/v3/", "BASE/api/{tenantIdentifier}/{schoolYearFromRoute}/oauth/token"), "/api/",
			Config{BaseURL: "/api", Tenant: "north", SchoolYear: 2027}, "BASE/api/north/2027/data/v3", "BASE/api/north/2027/oauth/token"},
		{"a context of the host's own", urlsDocument("", "BASE/api/{district}/data/v3/", "BASE/api/{district}/oauth/token"), "/api/",
			Config{BaseURL: "/api", Context: map[string]string{"District": "255901"}}, "BASE/api/255901/data/v3", "BASE/api/255901/oauth/token"},
		{"a tenant that is in the base URL already", urlsDocument("", "BASE/north/data/v3/", "BASE/north/oauth/token"), "/north/",
			Config{BaseURL: "/north", Tenant: "north"}, "BASE/north/data/v3", "BASE/north/oauth/token"},
		{"a root document with a byte order mark", "\xef\xbb\xbf" + plain, "/v7/api/", Config{BaseURL: "/v7/api"}, "BASE/v7/api/data/v3", "BASE/v7/api/oauth/token"},
		{"a host behind a proxy that names its inner address", urlsDocument("", "http://inner:8080/data/v3/", "http://inner:8080/oauth/token"), "/pub/api/",
			Config{BaseURL: "/pub/api"}, "BASE/pub/api/data/v3", "BASE/pub/api/oauth/token"},
		{"a tenant on a host behind a proxy", urlsDocument("", "http://inner:8080/x/{tenantIdentifier}/data/v3/", "http://inner:8080/x/{tenantIdentifier}/oauth/token"), "/pub/",
			Config{BaseURL: "/pub", Tenant: "north"}, "BASE/pub/north/data/v3", "BASE/pub/north/oauth/token"},
		{"relative addresses", urlsDocument("", "/api/data/v3/", "/api/oauth/token"), "/api/", Config{BaseURL: "/api"}, "BASE/api/data/v3", "BASE/api/oauth/token"},
		{"a token service on a host of its own", urlsDocument("", "BASE/api/data", "https://tokens.example.org/connect/token"), "/api/", Config{BaseURL: "/api"}, "BASE/api/data", "https://tokens.example.org/connect/token"},
		{"a token service that is configured", plain, "/v7/api/", Config{BaseURL: "/v7/api", TokenURL: "https://tokens.example.org/t"}, "BASE/v7/api/data/v3", "https://tokens.example.org/t"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c, base, err := connectTo(t, tt.document, tt.path, tt.config)
			if err != nil {
				t.Fatal(err)
			}
			if got, want := c.Info().URLs.Data, strings.ReplaceAll(tt.data, "BASE", base); got != want {
				t.Errorf("data address %s, want %s", got, want)
			}
			if got, want := c.Info().URLs.OAuth, strings.ReplaceAll(tt.oauth, "BASE", base); got != want {
				t.Errorf("token address %s, want %s", got, want)
			}
		})
	}
}

func TestConnectSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	answer := func(status int, contentType, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", contentType)
			if status == 302 {
				w.Header().Set("Location", "https://login.example.org/")
			}
			w.WriteHeader(status)
			_, _ = w.Write([]byte(strings.ReplaceAll(body, "BASE", "http://"+r.Host)))
		}
	}
	tests := []struct {
		name    string
		handler http.HandlerFunc
		config  Config
		class   Class
		code    string
		text    string
	}{
		{"a web page", answer(200, "text/html", "<html>Welcome</html>"), Config{}, Stop, "no-root-document", "not the root document"},
		{"nothing at that path", answer(404, "text/plain", "not here"), Config{}, Stop, "no-root-document", "answered 404"},
		{"JSON of something else", answer(200, "application/json", `{"status":"ok"}`), Config{}, Stop, "no-root-document", "without urls.dataManagementApi"},
		{"a login page behind a redirect", answer(302, "text/html", ""), Config{}, Stop, "no-root-document", "redirects"},
		{"no token address", answer(200, "application/json", `{"urls":{"dataManagementApi":"BASE/data/v3/"}}`), Config{}, Stop, "discovery", "urls.oauth"},
		{"a tenant that is not configured", answer(200, "application/json", urlsDocument("", "BASE/{tenantIdentifier}/data/v3/", "BASE/{tenantIdentifier}/oauth/token")), Config{}, Stop, "discovery", "{tenantIdentifier}"},
		{"a tenant on a host without tenants", answer(200, "application/json", urlsDocument("", "BASE/data/v3/", "BASE/oauth/token")), Config{Tenant: "north"}, Stop, "discovery", "no route for tenants"},
		{"credentials to a scheme that is none", answer(200, "application/json", urlsDocument("", "BASE/data/v3/", "ftp://tokens.example.org/t")), Config{}, Stop, "discovery", "weaker scheme"},
		{"a host that is down", answer(503, "text/html", "<html>Maintenance</html>"), Config{}, Transient, "unavailable", "503"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewServer(tt.handler)
			defer server.Close()
			tt.config.BaseURL, tt.config.ClientID, tt.config.ClientSecret = server.URL, testKey, testSecret
			tt.config.RetryWait = 1
			c, err := Connect(t.Context(), tt.config)
			if c != nil {
				t.Fatal("connected")
			}
			e := failureOf(t, err)
			if e.Class != tt.class || e.Code != tt.code || !strings.Contains(e.Error(), tt.text) || e.Hint == "" {
				t.Errorf("got %v %s %q (hint %q), want %v %s %q", e.Class, e.Code, e.Error(), e.Hint, tt.class, tt.code, tt.text)
			}
		})
	}
}

func TestConnectToWhatCannotBeReached(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := listener.Addr().String()
	listener.Close()
	var reached atomic.Int64
	count := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Add(1) })
	secure, open := httptest.NewTLSServer(count), httptest.NewServer(count)
	secure.Config.ErrorLog, open.Config.ErrorLog = discardLog(), discardLog()
	t.Cleanup(secure.Close)
	t.Cleanup(open.Close)
	tests := []struct {
		name, base string
		class      Class
		code       string
	}{
		{"nobody listens (F1)", "http://" + closed, Transient, "unreachable"},
		{"a name that does not resolve (F2)", "http://no-such-host.invalid", Transient, "unreachable"},
		{"an unknown certificate authority (F3)", secure.URL, Stop, "tls"},
		{"a host without TLS (F3)", "https" + strings.TrimPrefix(open.URL, "http"), Stop, "tls"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := Connect(t.Context(), Config{BaseURL: tt.base, ClientID: testKey, ClientSecret: testSecret, RetryWait: 1, MaxRetries: 1})
			e := failureOf(t, err)
			if e.Class != tt.class || e.Code != tt.code || e.Sent {
				t.Errorf("got %v %s sent=%v (%v), want %v %s", e.Class, e.Code, e.Sent, e, tt.class, tt.code)
			}
		})
	}
	t.Cleanup(func() {
		if n := reached.Load(); n != 0 {
			t.Errorf("%d requests were sent over a connection that is not trusted", n)
		}
	})
}

func TestConnectTrustsAConfiguredAuthority(t *testing.T) {
	t.Parallel()
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		writeJSON(w, 200, plainRoot("https://"+r.Host+"/api"))
	}))
	defer server.Close()
	pool := server.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	for _, http2 := range []bool{false, true} {
		c, err := Connect(t.Context(), Config{BaseURL: server.URL + "/api", ClientID: testKey, ClientSecret: testSecret, TLS: &tls.Config{RootCAs: pool}, HTTP2: http2})
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
	}
}

func TestConnectRefusesAWrongConfigurationAtOnce(t *testing.T) {
	t.Parallel()
	_, err := Connect(t.Context(), Config{BaseURL: "ods.example.org", TokenURL: "https://a:b@c/"})
	for _, want := range []string{"base URL: must begin with https://", "token URL: must not hold credentials", "client id and secret"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not mention %q", err, want)
		}
	}
}

func TestOriginsAreComparedWithTheirDefaultPorts(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		a, b string
		same bool
	}{
		{"https://host/a", "https://HOST:443/b", true},
		{"http://host/a", "http://host:80/b", true},
		{"http://host/a", "https://host/a", false},
		{"https://host/a", "https://host:8443/a", false},
		{"https://host/a", "https://other/a", false},
	} {
		a, _ := url.Parse(tt.a)
		b, _ := url.Parse(tt.b)
		if got := sameOrigin(a, b); got != tt.same {
			t.Errorf("%s and %s: same origin %v, want %v", tt.a, tt.b, got, tt.same)
		}
	}
}

func TestCredentialsNeverGoOverAWeakerScheme(t *testing.T) {
	t.Parallel()
	base, _ := url.Parse("https://host/api")
	for token, want := range map[string]string{
		"https://tokens.example.org/t":     "https://tokens.example.org/t",
		"http://tokens.example.org/t":      "",
		"http://host/api/oauth/token":      "https://host/api/oauth/token", // the host behind a proxy that ends TLS
		"http://inner:8080/oauth/token/":   "https://host/api/oauth/token",
		"https://host:8443/connect/token":  "https://host:8443/connect/token",
		"https://host/api/{a}/oauth/token": "",
		"http://[::1":                      "",
	} {
		a := addresses{base: base}
		if err := a.learn("http://inner:8080/data/v3/"); err != nil {
			t.Fatal(err)
		}
		if token == "http://host/api/oauth/token" {
			if err := a.learn("http://host/api/data/v3/"); err != nil {
				t.Fatal(err)
			}
		}
		got := a.token(token)
		if len(a.problems) > 0 {
			got = ""
		}
		if got != want {
			t.Errorf("token address %s becomes %q, want %q", token, got, want)
		}
	}
}

func TestInfoOfRealRootDocuments(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, file, path, base string
		year                   int
		want                   Info
	}{
		{"ODS/API 5.3", "data/edfi/discovery/ods-5.3.version.json", "/v5.3/api/", "/v5.3/api", 0, Info{
			Version: "5.3", InformationalVersion: "5.3", Suite: "3", Build: "5.3.1146.0", APIMode: "Sandbox", Standard: "3.3.1",
			URLs: URLs{Data: "/v5.3/api/data/v3", OAuth: "/v5.3/api/oauth/token", Dependencies: "/v5.3/api/metadata/data/v3/dependencies", Metadata: "/v5.3/api/metadata"},
		}},
		{"ODS/API 6.1, year-specific", "data/edfi/discovery/ods-6.1-year-specific.version.json", "/v6.1/WebApi/", "/v6.1/WebApi", 2027, Info{
			Version: "6.1", InformationalVersion: "6.1", Suite: "3", Build: "6.1.901.0", APIMode: "Year Specific", Standard: "4.0.0",
			URLs: URLs{
				Data: "/v6.1/WebApi/data/v3/2027", OAuth: "/v6.1/WebApi/oauth/token", Dependencies: "/v6.1/WebApi/metadata/data/v3/2027/dependencies",
				Metadata: "/v6.1/WebApi/metadata/2027", ChangeQueries: "/v6.1/WebApi/changeQueries/v1/2027",
			},
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			document := string(sharedFile(t, tt.file))
			c, base, err := connectTo(t, document, tt.path, Config{BaseURL: tt.base, SchoolYear: tt.year})
			if err != nil {
				t.Fatal(err)
			}
			got := c.Info()
			got.DataModels = nil
			for _, u := range []*string{&got.URLs.Data, &got.URLs.OAuth, &got.URLs.Dependencies, &got.URLs.Metadata, &got.URLs.ChangeQueries} {
				*u = strings.TrimPrefix(*u, base)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("info (-want +got):\n%s", diff)
			}
		})
	}
}

func TestInfoOfADMS(t *testing.T) {
	t.Parallel()
	h := newHost(t, dmsRoot)
	c := h.client(t)
	info := c.Info()
	if !info.DMS || info.Standard != "5.2.0" || info.URLs.Data != h.URL+"/api/data" || info.URLs.TokenInfo != h.URL+"/api/oauth/token_info" {
		t.Errorf("info of a DMS: %+v", info)
	}
}
