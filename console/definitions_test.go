package console_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/edfisync/edfisync/console"
	"github.com/edfisync/edfisync/syncdb"
)

// ledgerDefinitions keeps any object with a name; what a connection must be is for the configuration to say.
type ledgerDefinitions struct{ db *syncdb.DB }

func (l ledgerDefinitions) Versions(ctx context.Context, tenant, name string) ([]syncdb.Definition, error) {
	return l.db.DefinitionVersions(ctx, tenant, name)
}

func (l ledgerDefinitions) Put(ctx context.Context, tenant, name string, from int64, text json.RawMessage, dry bool, act syncdb.AuditRow) (console.DefinitionChange, error) {
	if strings.Contains(string(text), "wrong") {
		return console.DefinitionChange{}, &console.InvalidDefinition{Problems: map[string][]string{"target.url": {"is wrong (correct it)"}}}
	}
	if dry {
		return console.DefinitionChange{Version: from + 1, Action: "change"}, nil
	}
	made, err := l.db.Define(ctx, syncdb.Change{Tenant: tenant, Name: name, From: from, Text: text, Act: act})
	if err != nil {
		return console.DefinitionChange{}, err
	}
	return console.DefinitionChange{Version: made[0].Version, Action: "create"}, nil
}

func (l ledgerDefinitions) Clone(ctx context.Context, tenant, from, to string, _ int, act syncdb.AuditRow) (console.DefinitionChange, error) {
	d, err := l.db.Definition(ctx, tenant, from)
	if err != nil {
		return console.DefinitionChange{}, err
	}
	return l.Put(ctx, tenant, to, 0, d.Text, false, act)
}

func (l ledgerDefinitions) Remove(ctx context.Context, tenant, name string, from int64, records string, act syncdb.AuditRow) (console.RemovedDefinition, error) {
	if records == "" {
		return console.RemovedDefinition{}, &console.RecordsLeft{Text: "connection acme/new still owns 3 records at the target"}
	}
	_, err := l.db.Define(ctx, syncdb.Change{Tenant: tenant, Name: name, From: from, Act: act})
	return console.RemovedDefinition{Records: 3}, err
}

func (ledgerDefinitions) Test(context.Context, string, string) ([]console.Finding, error) {
	return []console.Finding{{Part: "source", OK: true, Detail: "answers"}, {Part: "target", Detail: "refused", Remedy: "look at target.url"}}, nil
}

func TestAConnectionIsMadeChangedAndRemoved(t *testing.T) {
	t.Parallel()
	onBoth(t, nil, func(t *testing.T, s *service) {
		admin, viewer := s.key(console.NewKey{Role: "admin"}), s.key(console.NewKey{Role: "viewer"})
		const path = "/api/v1/connections/acme~new"
		body := `{"name": "new", "tenant": "acme", "v": 1}`
		a := s.do("POST", "/api/v1/connections", admin, body)
		if a.status != 201 || a.header.Get("Location") != path || a.header.Get("ETag") != `"1"` {
			t.Fatalf("made: %d %v %s", a.status, a.header, a.body)
		}
		s.refused(s.do("POST", "/api/v1/connections", admin, body), 409, "connection-name", "already")
		a = s.do("GET", path+"/definition", viewer, "")
		if a.status != 200 || strings.TrimSpace(a.body) != strings.ReplaceAll(body, " ", "") || a.header.Get("ETag") != `"1"` {
			t.Errorf("shown: %d %s %s", a.status, a.header.Get("ETag"), a.body)
		}
		s.refused(s.do("PUT", path, viewer, body), 403, "forbidden", "admin")
		s.refused(s.do("PUT", path, admin, body), 428, "if-match", "If-Match")
		s.refused(s.do("PUT", path, admin, body, "If-Match", `"7"`), 412, "changed", "look again")
		s.refused(s.do("PUT", path, admin, `{"wrong": 1}`, "If-Match", `"1"`), 422, "invalid", `"validationErrors":{"target.url":["is wrong (correct it)"]}`)
		if a := s.do("PUT", path+"?dryRun=true", admin, body, "If-Match", `"1"`); a.status != 200 || a.header.Get("ETag") != `"1"` {
			t.Errorf("dry run: %d %s", a.status, a.body)
		}
		if a := s.do("PUT", path, admin, body, "If-Match", `"1"`); a.status != 200 || a.header.Get("ETag") != `"2"` {
			t.Errorf("changed: %d %s", a.status, a.body)
		}
		s.refused(s.do("PUT", path, admin, body, "If-Match", `"1"`), 412, "changed", "look again")
		var c struct {
			Origin  string
			Version int64
		}
		s.get("/connections/acme~new", viewer, &c)
		if c.Origin != "ledger" || c.Version != 2 {
			t.Errorf("the connection is %+v", c)
		}
		s.get("/connections/lincoln", viewer, &c)
		if c.Origin != "file" {
			t.Errorf("a connection of the file is %+v", c)
		}
		var versions struct {
			Items []struct {
				Version int64
				Who     string
			}
		}
		s.get("/connections/acme~new/versions", viewer, &versions)
		if len(versions.Items) != 2 || versions.Items[0].Version != 2 || !strings.Contains(versions.Items[0].Who, "admin") {
			t.Errorf("versions %+v", versions)
		}
		// Of the file nothing is changed here.
		s.refused(s.do("PUT", "/api/v1/connections/lincoln", admin, body), 409, "in-file", "configuration file")
		s.refused(s.do("DELETE", "/api/v1/connections/lincoln", admin, ""), 409, "in-file", "configuration file")
		s.refused(s.do("GET", "/api/v1/connections/lincoln/definition", viewer, ""), 409, "in-file", "configuration file")

		s.refused(s.do("POST", path+"/clone", admin, `{"name": "Not A Name"}`), 422, "invalid", `"name":["want lower-case`)
		s.refused(s.do("POST", path+"/clone", admin, `{"name": "new"}`), 409, "connection-name", "already")
		if a := s.do("POST", path+"/clone", admin, `{"name": "copy", "schoolYear": 2028}`); a.status != 201 || a.header.Get("Location") != "/api/v1/connections/acme~copy" {
			t.Errorf("copied: %d %s", a.status, a.body)
		}
		if a := s.do("POST", path+"/test", s.key(console.NewKey{Role: "operator"}), ""); a.status != 200 || !strings.Contains(a.body, `"ok":false,"findings"`) || !strings.Contains(a.body, "look at target.url") {
			t.Errorf("tested: %d %s", a.status, a.body)
		}
		id, _, err := s.ledger.Connection(t.Context(), "acme", "new")
		s.ok(err)
		s.ids["acme~new"] = id.ID
		lease := s.running("acme~new")
		s.refused(s.do("DELETE", path+"?records=remember", admin, ""), 409, "running", "under way")
		s.finish(lease, syncdb.RunDone)
		s.refused(s.do("DELETE", path, admin, "", "If-Match", `"1"`), 412, "changed", "look again")
		s.refused(s.do("DELETE", path, admin, "", "If-Match", `"2"`), 409, "records-left", "still owns 3 records")
		s.refused(s.do("DELETE", path+"?records=keep", admin, ""), 422, "confirm", "once more")
		s.refused(s.do("DELETE", path+"?records=keep&confirm=new", admin, ""), 422, "confirm", "once more")
		s.refused(s.do("DELETE", path+"?records=burn", admin, ""), 422, "invalid", "")
		if a := s.do("DELETE", path+"?records=keep&confirm=acme~new", admin, "", "If-Match", `"2"`); a.status != 200 || !strings.Contains(a.body, `"records":3`) {
			t.Errorf("removed: %d %s", a.status, a.body)
		}
		s.refused(s.do("GET", path, viewer, ""), 404, "not-found", "connection")
		s.refused(s.do("DELETE", path, admin, ""), 404, "not-found", "connection")
	})
}

// Whoever administers one tenant neither sees nor touches the connections and secrets of another (I13).
func TestConnectionsAndSecretsOfAnotherTenantAreNotThere(t *testing.T) {
	t.Parallel()
	s := newService(t, nil)
	everybody, acme := s.key(console.NewKey{Role: "admin"}), s.key(console.NewKey{Role: "admin", Tenant: "acme"})
	if a := s.do("POST", "/api/v1/connections", everybody, `{"name": "mine", "tenant": "other"}`); a.status != 201 {
		t.Fatalf("made: %d %s", a.status, a.body)
	}
	for _, request := range []string{"GET /connections/other~mine/definition", "GET /connections/other~mine/versions", "DELETE /connections/other~mine", "POST /connections/other~mine/test"} {
		method, path, _ := strings.Cut(request, " ")
		s.refused(s.do(method, "/api/v1"+path, acme, ""), 404, "not-found", "there is no such connection")
	}
	s.refused(s.do("PUT", "/api/v1/connections/other~mine", acme, `{}`, "If-Match", `"1"`), 404, "not-found", "connection")
	s.refused(s.do("PUT", "/api/v1/connections/other~new", acme, `{}`), 404, "not-found", "connection")
	s.refused(s.do("POST", "/api/v1/connections/other~mine/clone", acme, `{"name": "stolen"}`), 404, "not-found", "connection")
	s.refused(s.do("POST", "/api/v1/connections", acme, `{"name": "mine", "tenant": "other"}`), 403, "forbidden", "acme")

	const value = "s3cret-of-other"
	if a := s.do("PUT", "/api/v1/secrets/other~pw", everybody, `{"value": "`+value+`"}`); a.status != 200 || strings.Contains(a.body, value) {
		t.Errorf("set: %d %s", a.status, a.body)
	}
	s.refused(s.do("PUT", "/api/v1/secrets/other~pw", acme, `{"value": "x"}`), 404, "not-found", "secret")
	s.refused(s.do("DELETE", "/api/v1/secrets/other~pw", acme, ""), 404, "not-found", "secret")
	if a := s.do("GET", "/api/v1/secrets", acme, ""); a.status != 200 || strings.Contains(a.body, "pw") {
		t.Errorf("secrets of another tenant are listed: %s", a.body)
	}
	if a := s.do("GET", "/api/v1/secrets", everybody, ""); !strings.Contains(a.body, `"name":"other~pw"`) || strings.Contains(a.body, value) {
		t.Errorf("secrets: %s", a.body)
	}
	got, err := s.ledger.OpenSecret(t.Context(), "other", "pw")
	s.ok(err)
	if string(got) != value {
		t.Errorf("the secret is %q", got)
	}
	for name, body := range map[string]string{"empty": `{"value": ""}`, "none": `{}`, "with a NUL": `{"value": "a\u0000b"}`, "with more": `{"value": "a", "x": 1}`} {
		if a := s.do("PUT", "/api/v1/secrets/pw", everybody, body); a.status != 422 {
			t.Errorf("a secret that is %s: %d %s", name, a.status, a.body)
		}
	}
	s.refused(s.do("PUT", "/api/v1/secrets/Not%20A%20Name", everybody, `{"value": "a"}`), 422, "invalid", "name")
	if a := s.do("POST", "/api/v1/connections", everybody, `{"name": "uses", "tenant": "other", "dsn": "${sealed:pw}"}`); a.status != 201 {
		t.Fatalf("made: %d %s", a.status, a.body)
	}
	s.refused(s.do("DELETE", "/api/v1/secrets/other~pw", everybody, ""), 409, "secret-used", "uses")
	rows, err := s.ledger.AuditRows(t.Context(), 0, 0)
	s.ok(err)
	for _, r := range rows {
		if strings.Contains(string(r.Detail)+r.Object, value) {
			t.Errorf("the audit trail has the secret: %+v", r)
		}
	}
}
