package console_test

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"github.com/edfisync/edfisync/console"
	"github.com/edfisync/edfisync/internal/attacktest"
	"github.com/edfisync/edfisync/internal/httpd"
	"github.com/edfisync/edfisync/syncdb"
)

// objectAttack asks for an object of another tenant by its id, and for one that there is not: nobody must be able to tell the two apart.
type objectAttack struct {
	name    string
	request func(o objects) string // method and path
	body    string
}

func objectAttacks() []objectAttack {
	of := func(format string, id func(o objects) any) func(o objects) string {
		return func(o objects) string { return fmt.Sprintf(format, id(o)) }
	}
	run, hold, plan := func(o objects) any { return o.run }, func(o objects) any { return o.hold }, func(o objects) any { return o.plan }
	issue, key, connection := func(o objects) any { return o.issue }, func(o objects) any { return o.key }, func(o objects) any { return o.connection }
	record := func(format string) func(o objects) string {
		return func(o objects) string { return fmt.Sprintf(format, "/connections/"+o.connection+o.record) }
	}
	const decide, why = `{"edition": 1, "why": "mine"}`, "edition=1&why=mine"
	return []objectAttack{
		{"sees another's run", of("GET /api/v1/runs/%v", run), ""},
		{"sees the steps of another's run", of("GET /api/v1/runs/%v/steps", run), ""},
		{"sees the receipt of another's run", of("GET /api/v1/runs/%v/receipt", run), ""},
		{"follows another's run", of("GET /api/v1/runs/%v/events", run), ""},
		{"cancels another's run", of("POST /api/v1/runs/%v/cancel", run), ""},
		{"sees another's hold", of("GET /api/v1/holds/%v", hold), ""},
		{"approves another's hold", of("POST /api/v1/holds/%v/approve", hold), decide},
		{"discards another's hold", of("POST /api/v1/holds/%v/discard", hold), decide},
		{"reopens another's hold", of("POST /api/v1/holds/%v/reopen", hold), decide},
		{"sees another's plan", of("GET /api/v1/plans/%v", plan), ""},
		{"sees another's hold as a plan", of("GET /api/v1/plans/%v", hold), ""},
		{"decides about another's plan as if it were a hold", of("POST /api/v1/holds/%v/approve", plan), decide},
		{"sees another's issue", of("GET /api/v1/issues/%v", issue), ""},
		{"sees the rows of another's issue", of("GET /api/v1/issues/%v/rows", issue), ""},
		{"sees the student data of another's issue", of("GET /api/v1/issues/%v/data", issue), ""},
		{"has another's refused records sent", of("POST /api/v1/issues/%v/retry", issue), ""},
		{"sees another's key", of("GET /api/v1/keys/%v", key), ""},
		{"gets a new secret of another's key", of("POST /api/v1/keys/%v/rotate", key), ""},
		{"ends another's key", of("DELETE /api/v1/keys/%v", key), ""},
		{"sees another's connection", of("GET /api/v1/connections/%v", connection), ""},
		{"pauses another's connection", of("POST /api/v1/connections/%v/pause", connection), `{"why": "mine"}`},
		{"resumes another's connection", of("POST /api/v1/connections/%v/resume", connection), ""},
		{"has another's connection synced", of("POST /api/v1/connections/%v/runs", connection), ""},
		{"lists another's runs", of("GET /api/v1/runs?connection=%v", connection), ""},
		{"lists another's issues", of("GET /api/v1/connections/%v/issues", connection), ""},
		{"lists another's holds", of("GET /api/v1/connections/%v/holds", connection), ""},
		{"lists another's plans", of("GET /api/v1/connections/%v/plans", connection), ""},
		{"lists another's receipts", of("GET /api/v1/connections/%v/receipts", connection), ""},
		{"has all of another's refused records sent", of("POST /api/v1/connections/%v/retry", connection), "{}"},
		{"sees another's record", record("GET /api/v1%s"), ""},
		{"has another's SIS asked", record("GET /api/v1%s/trace"), ""},
		{"sees the student data of another's record", record("GET /api/v1%s/data"), ""},
		{"looks for another's record", of("POST /api/v1/connections/%v/records/find", connection), `{"resource": "ed-fi/students", "naturalKey": {"studentUniqueId": "604822"}}`},
		{"opens the page of another's connection", of("GET /connections/%v", connection), ""},
		{"opens the page of another's issues", of("GET /connections/%v/issues", connection), ""},
		{"opens the page of another's holds", of("GET /connections/%v/holds", connection), ""},
		{"opens the page of another's run", of("GET /runs/%v", run), ""},
		{"opens the page of another's issue", of("GET /issues/%v", issue), ""},
		{"opens the page of another's student data", of("GET /issues/%v/data", issue), ""},
		{"opens the page of another's record", record("GET %s"), ""},
		{"opens the page of the student data of another's record", record("GET %s/data"), ""},
		{"approves another's hold by its form", of("POST /holds/%v/approve", hold), why},
		{"cancels another's run by its form", of("POST /runs/%v/cancel", run), ""},
		{"pauses another's connection by its form", of("POST /connections/%v/pause", connection), "why=mine"},
		{"has another's refused records sent by its form", of("POST /issues/%v/retry", issue), ""},
		{"looks for another's record by its form", of("POST /connections/%v/records/find", connection), "resource=ed-fi/students&key=studentUniqueId%3D604822"},
	}
}

// An admin of one tenant who may see student data guesses ids of another tenant's objects.
func TestAnotherTenantsObjectsAreNotThere(t *testing.T) {
	t.Parallel()
	a := newAttacked(t, false, nil, httpd.Options{})
	key := a.key(console.NewKey{Role: "admin", Tenant: "acme", StudentData: true})
	nowhere := objects{connection: "other~nowhere", run: 999_999, hold: 999_999, plan: 999_999, issue: 999_999, key: "aaaaaaaaaaaaa", record: a.own["other"].record}
	cases, before := objectAttacks(), a.stored()
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			a := a.on(t)
			send := func(o objects) answer {
				method, path, _ := strings.Cut(c.request(o), " ")
				return a.send(method, path, c.body, append(bearer(key), "X-Request-Id", "12345678")...)
			}
			none := send(nowhere)
			for _, tenant := range []string{"default", "other"} {
				theirs := send(a.own[tenant])
				if theirs.status != 404 || theirs.body != none.body {
					t.Errorf("of the tenant %s: %d %s, of nobody: %d %s", tenant, theirs.status, theirs.body, none.status, none.body)
				}
				if strings.HasPrefix(strings.SplitN(c.request(nowhere), " ", 2)[1], "/api/") {
					a.isProblem(theirs, 404, "not-found")
				}
				a.tells(theirs)
			}
			a.unchanged(before)
			if own := send(a.own["acme"]); own.status == 404 && !strings.Contains(c.name, "as if it were") && !strings.Contains(c.name, "as a plan") {
				t.Errorf("its own is not there either: %d %s", own.status, own.body)
			}
			before = a.stored()
		})
	}
	a.verified()
	attacktest.Played(t, attacktest.Objects, names(cases, func(c objectAttack) string { return c.name }))
}

// What one tenant may send beside an id leads to nothing of another's either.
func TestNothingBesideAnIDLeadsToAnotherTenant(t *testing.T) {
	t.Parallel()
	a := newAttacked(t, false, nil, httpd.Options{})
	acme, all := a.key(console.NewKey{Role: "admin", Tenant: "acme"}), a.key(console.NewKey{Role: "admin"})
	theirs, _ := a.ask(all, "other~north", "Idempotency-Key", "shared-key")
	place := base64.RawURLEncoding.EncodeToString
	foreign := a.own["other"]
	cases := []struct {
		name, request, body string
		header              []string
		status              int // 0 = any that succeeds
	}{
		{"an idempotency key that another used", "POST /api/v1/connections/acme~south/runs", "", []string{"Idempotency-Key", "shared-key"}, 0},
		{"a cursor from another's list of runs", "GET /api/v1/runs?cursor=" + place([]byte("v1:999999")), "", nil, 0},
		{"a cursor from another's audit trail", "GET /api/v1/audit?cursor=" + place([]byte("v1:999999")), "", nil, 0},
		{"a cursor from another's list of keys", "GET /api/v1/keys?cursor=" + place([]byte("v1:1")), "", nil, 0},
		{"the last event of another's run", "GET /api/v1/runs/" + fmt.Sprint(foreign.run) + "/events", "", []string{"Last-Event-ID", "end"}, 404},
		{"a tenant in the body of a key", "POST /api/v1/keys", `{"name": "x", "role": "viewer", "tenant": "other"}`, nil, 403},
		{"every tenant in the body of a key", "POST /api/v1/keys", `{"name": "x", "role": "viewer", "tenant": "*"}`, nil, 403},
		{"a tenant in a header", "GET /api/v1/connections/other~north", "", []string{"X-Tenant", "other", "X-Tenant-Id", "other"}, 404},
		{"a tenant in the query", "GET /api/v1/connections/other~north?tenant=other", "", nil, 422},
		{"another's connection in other letters", "GET /api/v1/connections/OTHER~NORTH", "", nil, 404},
		{"another's connection with a slash", "GET /api/v1/connections/acme%2f..%2fother~north", "", nil, 404},
		{"another's connection behind one's own", "GET /api/v1/connections/acme~other~north", "", nil, 404},
		{"the default tenant by name", "GET /api/v1/connections/default~lincoln", "", nil, 404},
		{"the whole audit trail", "GET /api/v1/audit/verify", "", nil, 403},
		{"figures of all tenants", "GET /metrics", "", nil, 403},
		{"a support bundle of all tenants", "GET /api/v1/support-bundle", "", nil, 403},
		{"a negative id", fmt.Sprintf("GET /api/v1/runs/-%d", foreign.run), "", nil, 422},
		{"an id with a fraction", fmt.Sprintf("GET /api/v1/runs/%d.0", foreign.run), "", nil, 422},
		{"an id in other digits", fmt.Sprintf("GET /api/v1/holds/0x%x", foreign.hold), "", nil, 422},
		{"an id that wraps around", fmt.Sprintf("GET /api/v1/runs/%d", 1<<62), "", nil, 404},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			a := a.on(t)
			method, path, _ := strings.Cut(c.request, " ")
			got := a.send(method, path, c.body, append(bearer(acme), c.header...)...)
			if c.status == 0 && got.status >= 300 || c.status != 0 && got.status != c.status {
				t.Fatalf("got %d %s, want %d", got.status, got.body, c.status)
			}
			a.tells(got)
			for _, word := range []string{"other~north", "lincoln", `"tenant":"other"`, fmt.Sprintf(`"id":%d,"connection":"other`, theirs.Run.ID)} {
				if strings.Contains(got.body, word) && !strings.Contains(c.name, "query") {
					t.Errorf("the answer tells of %s: %s", word, got.body)
				}
			}
		})
	}
	runs, err := a.ledger.FindRuns(t.Context(), syncdb.RunFilter{Connection: a.ids["acme~south"]})
	a.ok(err)
	if len(runs) != 1 || runs[0].ID == theirs.Run.ID {
		t.Errorf("the idempotency key of another led to their run: %+v", runs)
	}
	a.verified()
	attacktest.Played(t, attacktest.Objects, names(cases, func(c struct {
		name, request, body string
		header              []string
		status              int
	}) string {
		return c.name
	}))
}

// Made from the routes: on each that names an object, another tenant's is answered as one that there is not, word for word.
func TestNoRouteTellsThatAnothersObjectIsThere(t *testing.T) {
	t.Parallel()
	a := newAttacked(t, false, nil, httpd.Options{})
	key := a.key(console.NewKey{Role: "admin", Tenant: "acme", StudentData: true})
	theirs := a.own["other"]
	nowhere := objects{connection: "other~nowhere", run: 999_999, hold: 999_999, plan: 999_999, issue: 999_999, mute: 999_999, key: "aaaaaaaaaaaaa", record: theirs.record}
	all, before, played := everyExample(), a.stored(), 0
	for _, route := range a.console.Routes() {
		e, known := all[route.Pattern]
		if !known || e.open || strings.HasSuffix(route.Pattern, "/{file}") || !strings.Contains(route.Pattern, "{") || route.Rule.EveryTenant {
			continue
		}
		method, _, _ := strings.Cut(route.Pattern, " ")
		send := func(o objects) answer {
			body := ""
			if e.body != nil {
				body = e.body(o)
			}
			return a.send(method, e.path(o), body, append(bearer(key), "X-Request-Id", "12345678")...)
		}
		played++
		got, none := send(theirs), send(nowhere)
		if got.status != 404 || got.body != none.body {
			t.Errorf("%s: another's %d %s, nobody's %d %s", route.Pattern, got.status, got.body, none.status, none.body)
		}
		a.tells(got)
	}
	a.unchanged(before)
	if played < 40 {
		t.Errorf("%d routes: the test no longer finds them", played)
	}
}

// everyExample is how each route is called.
func everyExample() map[string]example {
	all := examples()
	for pattern, e := range recordExamples() {
		all[pattern] = e
	}
	return all
}
