package console_test

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/edfisync/edfisync/console"
	"github.com/edfisync/edfisync/internal/httpd"
)

// example is how the matrix calls a route: the path with objects of a tenant, and a body that is right.
type example struct {
	path func(o objects) string
	body func(o objects) string
	open bool // it shows every principal its own part: there is no object of another tenant in its path
}

// objects are some of one tenant.
type objects struct {
	connection string
	run        int64
	hold       int64
	plan       int64
	issue      int64
	key        string
	record     string // its path below the connection
	mute       int64
}

func examples() map[string]example {
	connection := func(rest string) example {
		return example{path: func(o objects) string { return "/api/v1/connections/" + o.connection + rest }}
	}
	of := func(kind string, id func(o objects) any, rest string) example {
		return example{path: func(o objects) string { return fmt.Sprintf("/api/v1/%s/%v%s", kind, id(o), rest) }}
	}
	run := func(rest string) example { return of("runs", func(o objects) any { return o.run }, rest) }
	key := func(rest string) example { return of("keys", func(o objects) any { return o.key }, rest) }
	decide := func(rest string) example {
		e := of("holds", func(o objects) any { return o.hold }, rest)
		e.body = func(objects) string { return `{"edition": 1, "why": "matrix"}` }
		return e
	}
	at := func(path string) example { return example{path: func(objects) string { return path }, open: true} }
	pause := connection("/pause")
	pause.body = func(objects) string { return `{"why": "matrix"}` }
	mute := at("/api/v1/alerts/mutes")
	mute.body = func(o objects) string {
		return fmt.Sprintf(`{"connection": %q, "until": %q, "why": "matrix"}`, o.connection, time.Now().Add(time.Hour).Format(time.RFC3339))
	}
	mute.open = false
	logIn := at("/api/v1/session")
	logIn.body = func(objects) string {
		return `{"key": "efs_` + strings.Repeat("a", 13) + "_" + strings.Repeat("a", 52) + `"}`
	}
	makeKey := at("/api/v1/keys")
	makeKey.body = func(objects) string {
		return fmt.Sprintf(`{"name": "matrix %d", "role": "viewer"}`, time.Now().UnixNano())
	}
	define := at("/api/v1/connections")
	define.body = func(o objects) string {
		tenant, _, found := strings.Cut(o.connection, "~")
		if !found {
			tenant = "default"
		}
		return fmt.Sprintf(`{"name": "matrix%d", "tenant": %q}`, time.Now().UnixNano(), tenant)
	}
	define.open = false
	put := connection("")
	put.body = func(objects) string { return `{}` }
	edit := connection("/descriptors")
	edit.body = func(objects) string { return `{}` }
	clone := connection("/clone")
	clone.body = func(objects) string { return fmt.Sprintf(`{"name": "matrix%d"}`, time.Now().UnixNano()) }
	secret := example{path: func(o objects) string {
		return "/api/v1/secrets/" + strings.Replace(o.connection, "lincoln", "default~lincoln", 1)
	}}
	setSecret := secret
	setSecret.body = func(objects) string { return `{"value": "matrix"}` }
	page := func(path func(o objects) string, body string) example {
		return example{path: path, body: func(objects) string { return body }}
	}
	run1 := func(rest string) func(o objects) string {
		return func(o objects) string { return fmt.Sprintf("/runs/%d%s", o.run, rest) }
	}
	ofConnection := func(rest string) func(o objects) string {
		return func(o objects) string { return "/connections/" + o.connection + rest }
	}
	ofHold := func(rest string) func(o objects) string {
		return func(o objects) string { return fmt.Sprintf("/holds/%d%s", o.hold, rest) }
	}
	logInForm := at("/login")
	logInForm.body = func(objects) string { return "key=wrong" }
	return map[string]example{
		"GET /{$}": at("/"), "GET /login": at("/login"), "GET /login/oidc": at("/login/oidc"), "GET /login/oidc/callback": at("/login/oidc/callback?code=x&state=y"), "GET /assets/{file}": at("/assets/console.css"), "POST /login": logInForm, "POST /logout": at("/logout"),
		"GET /connections/{connection}": page(ofConnection(""), ""), "GET /connections/{connection}/issues": page(ofConnection("/issues"), ""),
		"GET /connections/{connection}/holds": page(ofConnection("/holds"), ""), "GET /runs/{id}": page(run1(""), ""),
		"POST /connections/{connection}/runs": page(ofConnection("/runs"), ""), "POST /connections/{connection}/pause": page(ofConnection("/pause"), "why=matrix&lasts=1h"),
		"POST /connections/{connection}/resume": page(ofConnection("/resume"), ""), "POST /runs/{id}/cancel": page(run1("/cancel"), ""),
		"POST /holds/{id}/approve": page(ofHold("/approve"), "edition=1&why=matrix"), "POST /holds/{id}/discard": page(ofHold("/discard"), "edition=1&why=matrix"),
		"POST /holds/{id}/reopen": page(ofHold("/reopen"), "edition=1&why=matrix"),

		"GET /healthz": at("/healthz"), "GET /readyz": at("/readyz"), "GET /metrics": at("/metrics"), "GET /api/v1/openapi.json": at("/api/v1/openapi.json"), "GET /api/v1/me": at("/api/v1/me"),
		"GET /api/v1/alerts": at("/api/v1/alerts"), "GET /api/v1/alerts/mutes": at("/api/v1/alerts/mutes"), "POST /api/v1/alerts/mutes": mute,
		"DELETE /api/v1/alerts/mutes/{id}": of("alerts/mutes", func(o objects) any { return o.mute }, ""), "POST /api/v1/alerts/test": at("/api/v1/alerts/test"),
		"GET /api/v1/connections": at("/api/v1/connections"), "GET /api/v1/connections/{connection}": connection(""),
		"POST /api/v1/connections/{connection}/pause": pause, "POST /api/v1/connections/{connection}/resume": connection("/resume"),
		"POST /api/v1/connections/{connection}/runs": connection("/runs"), "GET /api/v1/runs": at("/api/v1/runs"), "GET /api/v1/runs/{id}": run(""),
		"GET /api/v1/runs/{id}/steps": run("/steps"), "GET /api/v1/runs/{id}/log": run("/log"), "POST /api/v1/runs/{id}/cancel": run("/cancel"), "GET /api/v1/runs/{id}/receipt": run("/receipt"),
		"GET /api/v1/runs/{id}/events": run("/events"), "GET /api/v1/events": at("/api/v1/events"),
		"GET /api/v1/connections/{connection}/receipts": connection("/receipts"), "GET /api/v1/connections/{connection}/issues": connection("/issues"),
		"GET /api/v1/issues/{id}":                    of("issues", func(o objects) any { return o.issue }, ""),
		"GET /api/v1/connections/{connection}/holds": connection("/holds"), "GET /api/v1/holds/{id}": of("holds", func(o objects) any { return o.hold }, ""),
		"POST /api/v1/holds/{id}/approve": decide("/approve"), "POST /api/v1/holds/{id}/discard": decide("/discard"), "POST /api/v1/holds/{id}/reopen": decide("/reopen"),
		"GET /api/v1/connections/{connection}/plans": connection("/plans"), "GET /api/v1/plans/{id}": of("plans", func(o objects) any { return o.plan }, ""),
		"POST /api/v1/session": logIn, "DELETE /api/v1/session": at("/api/v1/session"),
		"GET /api/v1/audit": at("/api/v1/audit"), "GET /api/v1/audit/verify": at("/api/v1/audit/verify"),
		"GET /api/v1/keys": at("/api/v1/keys"), "POST /api/v1/keys": makeKey, "GET /api/v1/keys/{id}": key(""), "POST /api/v1/keys/{id}/rotate": key("/rotate"),
		"DELETE /api/v1/keys/{id}":   key(""),
		"GET /api/v1/support-bundle": at("/api/v1/support-bundle"),
		"POST /api/v1/connections":   define, "PUT /api/v1/connections/{connection}": put, "DELETE /api/v1/connections/{connection}": connection(""),
		"GET /api/v1/connections/{connection}/definition": connection("/definition"), "GET /api/v1/connections/{connection}/versions": connection("/versions"),
		"POST /api/v1/connections/{connection}/clone": clone, "POST /api/v1/connections/{connection}/test": connection("/test"),
		"PATCH /api/v1/connections/{connection}/descriptors": edit, "POST /connections/{connection}/descriptors": page(ofConnection("/descriptors"), "version=1"),
		"GET /connections/{connection}/settings": page(ofConnection("/settings"), ""), "POST /connections/{connection}/settings": page(ofConnection("/settings"), "version=1&part=schedule"),
		"GET /alerts": at("/alerts"), "POST /alerts/test": at("/alerts/test"), "POST /alerts/mutes/{id}/end": page(func(o objects) string { return fmt.Sprintf("/alerts/mutes/%d/end", o.mute) }, "why=matrix"),
		"POST /alerts/mutes":  {path: func(objects) string { return "/alerts/mutes" }, body: func(o objects) string { return "lasts=1h&why=matrix&connection=" + o.connection }},
		"GET /api/v1/secrets": at("/api/v1/secrets"), "PUT /api/v1/secrets/{secret}": setSecret, "DELETE /api/v1/secrets/{secret}": secret,
	}
}

// may says who may call a route, written down apart from the rules of the routes: the weakest of viewer, operator, approver and admin, and whether an
// auditor may.
func may(t *testing.T, pattern string) (least httpd.Role, auditor bool) {
	method, path, _ := strings.Cut(pattern, " ")
	path = strings.TrimPrefix(path, "/api/v1")
	switch {
	case method == http.MethodPost && path == "/session":
		return 0, true
	case method == http.MethodDelete && path == "/session":
		return httpd.Viewer, true
	case path == "/login", path == "/login/oidc", path == "/login/oidc/callback", path == "/assets/{file}":
		return 0, true
	case path == "/logout":
		return httpd.Viewer, true
	case path == "/healthz", path == "/readyz", path == "/openapi.json":
		return 0, true
	case path == "/alerts/test":
		return httpd.Admin, false
	case strings.HasPrefix(path, "/alerts/mutes") && method != http.MethodGet:
		return httpd.Operator, false
	case strings.HasPrefix(path, "/keys"), strings.HasPrefix(path, "/secrets"):
		return httpd.Admin, false
	case strings.HasPrefix(path, "/audit"):
		return httpd.Admin, true
	case strings.HasPrefix(path, "/connections/") && strings.HasSuffix(path, "/settings"):
		if method == http.MethodGet {
			return httpd.Viewer, true
		}
		return httpd.Admin, false
	case path == "/support-bundle", path == "/settings":
		return httpd.Admin, false
	case method == http.MethodGet, showsData(pattern):
		return httpd.Viewer, true
	case strings.HasPrefix(path, "/issues/"):
		return httpd.Operator, false
	case method == http.MethodPut, method == http.MethodDelete, method == http.MethodPatch, path == "/connections", strings.HasSuffix(path, "/clone"), strings.HasSuffix(path, "/descriptors"):
		return httpd.Admin, false
	case strings.HasPrefix(path, "/holds/"):
		return httpd.Approver, false
	case strings.HasPrefix(path, "/connections/"), strings.HasPrefix(path, "/runs/"):
		return httpd.Operator, false
	}
	t.Fatalf("nobody has said who may call %s", pattern)
	return 0, false
}

// Every route, as every role of every tenant and without a key, for objects of one's own and of another tenant.
func TestAuthorizationMatrix(t *testing.T) {
	t.Parallel()
	p := newProvider(t)
	s := newService(t, func(c *console.Config) { c.Identity = identityOf(p) })
	own := map[string]objects{}
	for tenant, connection := range map[string]string{"default": "lincoln", "acme": "acme~north", "other": "other~north"} {
		o := objects{connection: connection}
		o.run, o.hold, o.issue = s.hold(connection)
		o.plan, o.record = s.saved(connection), "/records/ed-fi/students/r02"+strings.Repeat("00", 15)
		o.mute = s.muted(tenant, connection)
		id, _, _ := httpd.ParseKey(s.key(console.NewKey{Role: "viewer", Tenant: tenant}))
		o.key = id
		own[tenant] = o
	}
	type caller struct {
		name, tenant string
		role         httpd.Role
		data         bool // may see student data
		key          string
	}
	callers := []caller{{name: "nobody"}, {name: "a wrong key", key: httpd.FormatKey(httpd.NewKeyID(), strings.Repeat("a", 52))}}
	for _, tenant := range []string{"", "acme", "other"} {
		for _, role := range httpd.Roles() {
			callers = append(callers, caller{fmt.Sprintf("%s of %q", role, tenant), tenant, role, false, s.key(console.NewKey{Role: role.String(), Tenant: tenant})})
		}
	}
	for _, tenant := range []string{"", "acme"} {
		for _, role := range []httpd.Role{httpd.Viewer, httpd.Auditor} {
			callers = append(callers, caller{fmt.Sprintf("%s of %q who may see student data", role, tenant), tenant, role, true, s.key(console.NewKey{Role: role.String(), Tenant: tenant, StudentData: true})})
		}
	}
	all := examples()
	maps.Copy(all, recordExamples())
	cases := 0
	for _, route := range s.console.Routes() {
		e, known := all[route.Pattern]
		if !known {
			t.Errorf("the matrix has no example of %s", route.Pattern)
			continue
		}
		delete(all, route.Pattern)
		method, _, _ := strings.Cut(route.Pattern, " ")
		least, auditor := may(t, route.Pattern)
		for _, c := range callers {
			for tenant, o := range own {
				body := ""
				if e.body != nil {
					body = e.body(o)
				}
				if least == 0 && c.role == 0 && c.key != "" {
					continue // a public route does not look at the key
				}
				got := s.status(method, e.path(o), c.key, body)
				cases++
				allowed := least == 0 || c.role != 0 && (c.role == httpd.Auditor && auditor || c.role != httpd.Auditor && c.role >= least)
				everyTenant := strings.HasSuffix(route.Pattern, "/audit/verify") || strings.HasSuffix(route.Pattern, "/support-bundle") || strings.HasSuffix(route.Pattern, "GET /settings") || strings.HasSuffix(route.Pattern, "/v1/settings") || route.Pattern == "GET /metrics" ||
					strings.HasSuffix(route.Pattern, "/alerts/test")
				if everyTenant && c.tenant != "" || showsData(route.Pattern) && !c.data {
					allowed = false
				}
				var want []int
				switch {
				case !allowed && c.role == 0 && route.Rule.Page && method == http.MethodGet && !strings.HasSuffix(route.Pattern, "/badge"):
					want = []int{303, 429} // to the log-in page
				case !allowed && c.role == 0:
					want = []int{401, 429} // who tries too often is locked out
				case !allowed:
					want = []int{403}
				case route.Pattern == "POST /api/v1/connections" && c.tenant != "" && c.tenant != tenant:
					want = []int{403} // its body names the tenant
				case !e.open && c.tenant != "" && c.tenant != tenant:
					want = []int{404}
				case route.Pattern == "POST /api/v1/session", route.Pattern == "POST /login", route.Pattern == "GET /login/oidc/callback":
					want = []int{401, 429} // the key in its body is wrong, whoever sends it
				case strings.HasPrefix(route.Pattern, "DELETE /api/v1/secrets/"):
					want = []int{204, 404} // somebody before removed it
				default: // whatever the state of the object lets happen
					want = []int{200, 201, 202, 303, 409}
				}
				if !slices.Contains(want, got) {
					t.Errorf("%s as %s, object of %s: got %d, want one of %v", route.Pattern, c.name, tenant, got, want)
				}
			}
		}
	}
	for pattern := range all {
		t.Errorf("the matrix has an example of %s, which is no route", pattern)
	}
	if routes := len(s.console.Routes()); cases < routes*len(callers)*2 {
		t.Errorf("%d cases for %d routes and %d callers", cases, routes, len(callers))
	}
	if bad, err := s.ledger.VerifyAudit(t.Context()); bad != 0 || err != nil {
		t.Errorf("audit row %d does not verify, %v", bad, err)
	}
}
