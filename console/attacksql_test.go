package console_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/edfisync/edfisync/console"
	"github.com/edfisync/edfisync/internal/attacktest"
	"github.com/edfisync/edfisync/internal/httpd"
	"github.com/edfisync/edfisync/syncdb"
)

// injections are what is put where a value goes, as fits the ledgers we have. NUL and what is no UTF-8 are no SQL, but no text for every database either.
func injections() map[string]string {
	return map[string]string{
		"a quote and OR":              `' OR '1'='1`,
		"a second statement":          `x'; DELETE FROM api_key; --`,
		"a union with secrets":        `x' UNION SELECT secret_hash FROM api_key --`,
		"a number and OR":             `1 OR 1=1`,
		"an escaped quote":            `\'; DROP TABLE run; --`,
		"a dollar quote":              `$$; DROP TABLE run; $$`,
		"placeholders":                `?1 $1 :name @x`,
		"a statement that waits":      `'||pg_sleep(5)||'`,
		"a statement that eats work":  `'||(WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM t) SELECT max(n) FROM t)||'`,
		"wildcards":                   `%_%`,
		"a NUL":                       "a\x00' OR 1=1",
		"bytes that are no UTF-8":     "a\xff\xfe'",
		"a quote in other characters": "\u02bc OR \u02bc1\u02bc=\u02bc1",
	}
}

// SQL in whatever a client sends is text, or refused, on both kinds of ledger: nothing of the database is changed by it, or told.
func TestSQLIsOnlyText(t *testing.T) {
	t.Parallel()
	played := map[string]bool{}
	for name, postgres := range map[string]bool{"sqlite": false, "postgres": true} {
		t.Run(name, func(t *testing.T) {
			a := newAttacked(t, postgres, scoped, httpd.Options{}) // who cannot ask for parts at all is refused before anything is looked up
			for _, part := range [][]string{sqlChoosesNothing(t, a), sqlFindsNothing(t, a), noTextIsRefused(t, a), storedSQLStaysText(t, a)} {
				for _, attack := range part {
					played[attack] = true
				}
			}
			a.verified()
		})
	}
	attacktest.Played(t, attacktest.SQL, slices.Collect(maps.Keys(played)))
}

// sqlChoosesNothing: where a value chooses what is read or done, SQL in it chooses nothing. It is refused, or finds nothing, and nothing is stored.
func sqlChoosesNothing(t *testing.T, a *attacked) (played []string) {
	t.Helper()
	q := url.QueryEscape
	places := []struct {
		name    string
		request func(a *attacked, evil string) (method, path, body string, header []string)
	}{
		{"the name of a connection", func(_ *attacked, e string) (string, string, string, []string) {
			return "GET", "/api/v1/connections/" + url.PathEscape(e), "", nil
		}},
		{"the tenant of a connection", func(_ *attacked, e string) (string, string, string, []string) {
			return "POST", "/api/v1/connections/" + url.PathEscape(e) + "~north/runs", "", nil
		}},
		{"a filter by connection", func(_ *attacked, e string) (string, string, string, []string) {
			return "GET", "/api/v1/runs?connection=" + q(e), "", nil
		}},
		{"a filter by state", func(_ *attacked, e string) (string, string, string, []string) {
			return "GET", "/api/v1/runs?state=" + q(e), "", nil
		}},
		{"a sort order", func(_ *attacked, e string) (string, string, string, []string) {
			return "GET", "/api/v1/runs?sort=" + q(e) + "&order=" + q(e), "", nil
		}},
		{"a limit", func(_ *attacked, e string) (string, string, string, []string) {
			return "GET", "/api/v1/audit?limit=" + q(e), "", nil
		}},
		{"a cursor", func(_ *attacked, e string) (string, string, string, []string) {
			return "GET", "/api/v1/keys?cursor=" + q(e), "", nil
		}},
		{"the id of a run", func(_ *attacked, e string) (string, string, string, []string) {
			return "POST", "/api/v1/runs/" + url.PathEscape(e) + "/cancel", "", nil
		}},
		{"the id of a key that is shown", func(_ *attacked, e string) (string, string, string, []string) {
			return "GET", "/api/v1/keys/" + url.PathEscape(e), "", nil
		}},
		{"the id of a key that is ended", func(_ *attacked, e string) (string, string, string, []string) {
			return "DELETE", "/api/v1/keys/" + url.PathEscape(e), "", nil
		}},
		{"the id of a key that gets a new secret", func(_ *attacked, e string) (string, string, string, []string) {
			return "POST", "/api/v1/keys/" + url.PathEscape(e) + "/rotate", "", nil
		}},
		{"the tenant of a new key", func(_ *attacked, e string) (string, string, string, []string) {
			return "POST", "/api/v1/keys", `{"name": "x", "role": "viewer", "tenant": ` + text(e) + `}`, nil
		}},
		{"the role of a new key", func(_ *attacked, e string) (string, string, string, []string) {
			return "POST", "/api/v1/keys", `{"name": "x", "role": ` + text(e) + `}`, nil
		}},
		{"the network of a new key", func(_ *attacked, e string) (string, string, string, []string) {
			return "POST", "/api/v1/keys", `{"name": "x", "role": "viewer", "networks": [` + text(e) + `]}`, nil
		}},
		{"the end of a pause", func(_ *attacked, e string) (string, string, string, []string) {
			return "POST", "/api/v1/connections/lincoln/pause", `{"why": "x", "until": ` + text(e) + `}`, nil
		}},
		{"the schema of a record", func(a *attacked, e string) (string, string, string, []string) {
			return "GET", "/api/v1/connections/lincoln/records/" + url.PathEscape(e) + "/students/" + a.own["default"].record[len("/records/ed-fi/students/"):], "", nil
		}},
		{"the resource of a record", func(a *attacked, e string) (string, string, string, []string) {
			return "GET", "/api/v1/connections/lincoln/records/ed-fi/" + url.PathEscape(e) + "/" + a.own["default"].record[len("/records/ed-fi/students/"):], "", nil
		}},
		{"the id of a record", func(_ *attacked, e string) (string, string, string, []string) {
			return "GET", "/api/v1/connections/lincoln/records/ed-fi/students/" + url.PathEscape(e), "", nil
		}},
		{"a part of a natural key", func(_ *attacked, e string) (string, string, string, []string) {
			return "POST", "/api/v1/connections/lincoln/records/find", `{"resource": "ed-fi/students", "naturalKey": {"studentUniqueId": ` + text(e) + `}}`, nil
		}},
		{"the name of a part of a natural key", func(_ *attacked, e string) (string, string, string, []string) {
			return "POST", "/api/v1/connections/lincoln/records/find", `{"resource": "ed-fi/students", "naturalKey": {` + text(e) + `: "1"}}`, nil
		}},
		{"the key of a row", func(_ *attacked, e string) (string, string, string, []string) {
			return "POST", "/api/v1/connections/lincoln/records/find", `{"resource": "ed-fi/students", "sourceKey": ` + text(e) + `}`, nil
		}},
		{"the resource of what is sent again", func(_ *attacked, e string) (string, string, string, []string) {
			return "POST", "/api/v1/connections/lincoln/retry", `{"resource": ` + text(e) + `}`, nil
		}},
		{"the cookie of a session", func(_ *attacked, e string) (string, string, string, []string) {
			return "GET", "/api/v1/me", "", []string{"Authorization", "", "Cookie", "edfisync=" + q(e)}
		}},
		{"a key to log in with", func(_ *attacked, e string) (string, string, string, []string) {
			return "POST", "/login", "key=" + q(e), nil
		}},
		{"the edition of a hold", func(a *attacked, e string) (string, string, string, []string) {
			return "POST", fmt.Sprintf("/holds/%d/approve", a.own["default"].hold), "why=x&edition=" + q(e), nil
		}},
		{"the length of a pause", func(_ *attacked, e string) (string, string, string, []string) {
			return "POST", "/connections/lincoln/pause", "why=x&lasts=" + q(e), nil
		}},
		{"the name of a connection's copy", func(_ *attacked, e string) (string, string, string, []string) {
			return "POST", "/api/v1/connections/acme~defined/clone", `{"name": ` + text(e) + `}`, nil
		}},
		{"the name of a connection whose versions are listed", func(_ *attacked, e string) (string, string, string, []string) {
			return "GET", "/api/v1/connections/acme~" + url.PathEscape(e) + "/versions", "", nil
		}},
		{"the name of a secret", func(_ *attacked, e string) (string, string, string, []string) {
			return "PUT", "/api/v1/secrets/" + url.PathEscape(e), `{"value": "x"}`, nil
		}},
		{"the name of a secret that is removed", func(_ *attacked, e string) (string, string, string, []string) {
			return "DELETE", "/api/v1/secrets/acme~" + url.PathEscape(e), "", nil
		}},
		{"the connection of a mute", func(_ *attacked, e string) (string, string, string, []string) {
			return "POST", "/api/v1/alerts/mutes", `{"why": "x", "until": "` + time.Now().Add(48*time.Hour).UTC().Format(time.RFC3339) + `", "connection": ` + text(e) + `}`, nil
		}},
		{"the condition of a mute", func(_ *attacked, e string) (string, string, string, []string) {
			return "POST", "/api/v1/alerts/mutes", `{"why": "x", "until": "` + time.Now().Add(48*time.Hour).UTC().Format(time.RFC3339) + `", "condition": ` + text(e) + `}`, nil
		}},
		{"the number of a mute", func(_ *attacked, e string) (string, string, string, []string) {
			return "DELETE", "/api/v1/alerts/mutes/" + url.PathEscape(e), "", nil
		}},
		{"a resource that a run is asked for", func(_ *attacked, e string) (string, string, string, []string) {
			return "POST", "/api/v1/connections/lincoln/runs", `{"scope": {"resources": [` + text(e) + `]}}`, nil
		}},
		{"a school that a run is asked for", func(_ *attacked, e string) (string, string, string, []string) {
			return "POST", "/api/v1/connections/lincoln/runs", `{"scope": {"schools": [` + text(e) + `]}}`, nil
		}},
		{"the resource of a record that a run is asked for", func(_ *attacked, e string) (string, string, string, []string) {
			return "POST", "/api/v1/connections/lincoln/runs", `{"scope": {"records": [{"resource": ` + text(e) + `, "sourceKey": "1"}]}}`, nil
		}},
	}
	key := a.key(console.NewKey{Role: "admin", StudentData: true})
	a.accepted(a.send("POST", "/api/v1/connections", `{"name": "defined", "tenant": "acme"}`, bearer(key)...))
	a.get("/connections/acme~defined", key, &struct{}{}) // the first look at a connection gives it a number
	before := a.stored()
	for _, place := range places {
		for kind, evil := range injections() {
			played = append(played, kind+" in "+place.name)
			t.Run(kind+" in "+place.name, func(t *testing.T) {
				a := a.on(t)
				a.clock.Add(int64(10 * time.Second)) // log-ins that fail must not lock this test out
				method, path, body, header := place.request(a, evil)
				if len(header) == 0 && place.name != "a key to log in with" {
					header = bearer(key)
				}
				if place.name == "the cookie of a session" {
					header = header[2:]
				}
				began := time.Now()
				got := a.send(method, path, body, header...)
				if got.status == 200 && place.name == "the resource of what is sent again" && strings.Contains(got.body, `"records":0`) {
					got.status = 404 // there is no such resource, and so nothing of it
				}
				if got.status < 400 || got.status >= 500 {
					t.Errorf("got %d %s", got.status, got.body)
				}
				if took := time.Since(began); took > 4*time.Second {
					t.Errorf("it took %s: the statement ran", took)
				}
				got.body = strings.ReplaceAll(got.body, strings.Trim(text(evil), `"`), "") // what is told of it are its own words
				a.tells(got)
			})
		}
		a.clock.Add(int64(time.Hour))
		a.unchanged(before)
	}
	return played
}

// sqlFindsNothing: where any text may be looked for, SQL and wildcards are text that nothing has; what is no text is refused.
func sqlFindsNothing(t *testing.T, a *attacked) (played []string) {
	t.Helper()
	key := a.key(console.NewKey{Role: "admin", StudentData: true})
	a.accepted(a.send("POST", "/api/v1/connections/acme~north/pause", `{"why": "x"}`, bearer(key)...)) // somebody did something
	a.accepted(a.send("POST", "/api/v1/connections/acme~north/resume", "", bearer(key)...))
	of := a.key(console.NewKey{Role: "auditor", Tenant: "acme"})
	before := a.stored()
	for _, place := range []struct{ name, query string }{
		{"an act that is looked for", "action="}, {"a kind of acts that is looked for", ""}, {"who did something", "who="},
		{"the connection something was done to", "connection="}, {"the connection of a tenant", "connection=acme~"},
	} {
		for kind, evil := range injections() {
			query := place.query + url.QueryEscape(evil)
			if strings.HasPrefix(place.name, "a kind") {
				query = "action=" + url.QueryEscape(evil+".")
			}
			played = append(played, kind+" in "+place.name)
			t.Run(kind+" in "+place.name, func(t *testing.T) {
				a := a.on(t)
				for who, key := range map[string]string{"everybody's": key, "a tenant's": of} {
					began := time.Now()
					got := a.send("GET", "/api/v1/audit?"+query, "", bearer(key)...)
					if noText := strings.Contains(evil, "\x00") || !utf8.ValidString(evil); noText && got.status != 422 || !noText && (got.status != 200 || !strings.Contains(got.body, `"items":[]`)) {
						t.Errorf("%s: got %d %s", who, got.status, got.body)
					}
					if took := time.Since(began); took > 4*time.Second {
						t.Errorf("%s: it took %s: the statement ran", who, took)
					}
					a.tells(got)
				}
			})
		}
	}
	a.clock.Add(int64(time.Hour))
	a.unchanged(before)
	return played
}

// text is a JSON string; bytes that are no UTF-8 stay as they are.
func text(s string) string {
	if strings.Contains(s, "\xff") {
		return `"` + s + `"`
	}
	b, _ := json.Marshal(s) //nolint:errchkjson // a string
	return string(b)
}

// storedSQLStaysText: where any text may stand, SQL stands as it was written, and is text also when it is read again and what was read is used to read
// more (second order).
func storedSQLStaysText(t *testing.T, a *attacked) (played []string) {
	t.Helper()
	type place struct {
		name string
		// store keeps the text and returns what is read of it later.
		store func(a *attacked, key, evil string) string
	}
	places := []place{
		{"the reason of a pause", func(a *attacked, key, e string) string {
			a.accepted(a.send("POST", "/api/v1/connections/lincoln/pause", `{"why": `+text(e)+`}`, bearer(key)...))
			var c struct{ Pause struct{ Why string } }
			a.get("/connections/lincoln", key, &c)
			return c.Pause.Why
		}},
		{"the reason of a decision", func(a *attacked, key, e string) string {
			path := fmt.Sprintf("/holds/%d", a.own["default"].hold)
			a.accepted(a.send("POST", "/api/v1"+path+"/approve", `{"edition": 1, "why": `+text(e)+`}`, bearer(key)...))
			var h struct{ Why string }
			a.get(path, key, &h)
			a.accepted(a.send("POST", "/api/v1"+path+"/reopen", `{"edition": 1, "why": "again"}`, bearer(key)...))
			return h.Why
		}},
		{"the name of a key, which is who did it in the audit trail", func(a *attacked, key, e string) string {
			got := a.send("POST", "/api/v1/keys", `{"role": "operator", "name": `+text(e)+`}`, bearer(key)...)
			a.accepted(got)
			var made struct {
				Info struct{ ID, Name string }
				Key  string
			}
			a.ok(json.Unmarshal([]byte(got.body), &made))
			a.accepted(a.send("POST", "/api/v1/connections/acme~south/pause", `{"why": "x"}`, bearer(made.Key)...))
			a.accepted(a.send("DELETE", "/api/v1/keys/"+made.Info.ID, "", bearer(key)...))
			var audit page[struct{ Who, Action string }]
			a.get("/audit?limit=5", key, &audit)
			for _, row := range audit.Items {
				if row.Action == "connection.pause" {
					return strings.TrimSuffix(row.Who, " ("+made.Info.ID+")")
				}
			}
			return "not audited"
		}},
		{"the reason to archive an issue", func(a *attacked, key, e string) string {
			path := fmt.Sprintf("/issues/%d", a.own["default"].issue)
			a.accepted(a.send("POST", "/api/v1"+path+"/archive", `{"why": `+text(e)+`}`, bearer(key)...))
			var issue struct{ Archived struct{ Why string } }
			a.get(path, key, &issue)
			a.accepted(a.send("POST", "/api/v1"+path+"/unarchive", "", bearer(key)...))
			return issue.Archived.Why
		}},
		{"the reason a run is asked for", func(a *attacked, key, e string) string {
			a.accepted(a.send("POST", "/api/v1/connections/lincoln/runs", `{"why": `+text(e)+`}`, bearer(key)...))
			var acts page[struct{ Detail struct{ Why string } }]
			a.get("/audit?action=run.ask&limit=1", key, &acts)
			a.finish(a.running("lincoln"), syncdb.RunDone) // so that the next one who asks does not join it
			return acts.Items[0].Detail.Why
		}},
		{"the reason to end a mute", func(a *attacked, key, e string) string {
			got := a.send("POST", "/api/v1/alerts/mutes", `{"connection": "acme~north", "until": "`+time.Now().Add(80*24*time.Hour).UTC().Format(time.RFC3339)+`", "why": "x"}`, bearer(key)...)
			a.accepted(got)
			var mute struct{ ID int64 }
			a.ok(json.Unmarshal([]byte(got.body), &mute))
			a.accepted(a.send("DELETE", fmt.Sprintf("/api/v1/alerts/mutes/%d", mute.ID), `{"why": `+text(e)+`}`, bearer(key)...))
			var acts page[struct{ Detail struct{ Why string } }]
			a.get("/audit?action=alert.unmute&limit=1", key, &acts)
			return acts.Items[0].Detail.Why
		}},
		{"the reason of a mute", func(a *attacked, key, e string) string {
			a.accepted(a.send("POST", "/api/v1/alerts/mutes", `{"connection": "acme~south", "until": "`+time.Now().Add(48*time.Hour).UTC().Format(time.RFC3339)+`", "why": `+text(e)+`}`, bearer(key)...))
			var mutes struct{ Items []struct{ Why string } }
			a.get("/alerts/mutes", key, &mutes)
			if len(mutes.Items) == 0 {
				return "not there"
			}
			return mutes.Items[0].Why
		}},
		{"a setting of a connection", func(a *attacked, key, e string) string {
			const path = "/connections/acme~defined"
			etag := a.send("GET", "/api/v1"+path+"/definition", "", bearer(key)...).header.Get("ETag")
			a.accepted(a.send("PUT", "/api/v1"+path, `{"name": "defined", "tenant": "acme", "value": `+text(e)+`}`, append(bearer(key), "If-Match", etag)...))
			var d struct{ Value string }
			a.get(path+"/definition", key, &d)
			return d.Value
		}},
		{"the tenant and name of a connection of the ledger", func(a *attacked, _, e string) string {
			if _, err := a.ledger.Define(a.t.Context(), syncdb.Change{Tenant: "of " + e, Name: e, Text: []byte(`{}`), Act: syncdb.AuditRow{Who: e, Action: "test"}}); err != nil {
				return err.Error()
			}
			versions, err := a.ledger.DefinitionVersions(a.t.Context(), "of "+e, e)
			a.ok(err)
			d, err := a.ledger.Definition(a.t.Context(), "of "+e, e)
			a.ok(err)
			n, err := a.ledger.RecordsOf(a.t.Context(), "of "+e, e)
			a.ok(err)
			_, err = a.ledger.Define(a.t.Context(), syncdb.Change{Tenant: "of " + e, Name: e, From: d.Version, Act: syncdb.AuditRow{Who: e, Action: "test"}}) // removed again
			a.ok(err)
			if len(versions) != 1 || n != 0 || d.Tenant != "of "+e {
				return fmt.Sprintf("%d versions, %d records, %s", len(versions), n, d.Tenant)
			}
			return d.Name
		}},
		{"the tenant and name of a secret", func(a *attacked, _, e string) string {
			_, err := a.ledger.SetSecret(a.t.Context(), "of "+e, e, []byte(e), syncdb.AuditRow{Who: e, Action: "test"})
			a.ok(err)
			value, err := a.ledger.OpenSecret(a.t.Context(), "of "+e, e)
			a.ok(err)
			listed, err := a.ledger.Secrets(a.t.Context(), "of "+e)
			a.ok(err)
			a.ok(a.ledger.RemoveSecret(a.t.Context(), "of "+e, e, syncdb.AuditRow{Who: e, Action: "test"}))
			if len(listed) != 1 || listed[0].Name != e {
				return fmt.Sprintf("%d secrets", len(listed))
			}
			return string(value)
		}},
		{"an idempotency key", func(a *attacked, key, e string) string {
			first, _ := a.ask(key, "lincoln", "Idempotency-Key", e)
			again, _ := a.ask(key, "lincoln", "Idempotency-Key", e)
			if first.Run.ID == 0 || first.Run.ID != again.Run.ID {
				return fmt.Sprintf("runs %d and %d", first.Run.ID, again.Run.ID)
			}
			return e
		}},
		{"the name of a tenant and connection", func(a *attacked, key, e string) string {
			c, _, err := a.ledger.Connection(a.t.Context(), e, e)
			a.ok(err)
			again, _, err := a.ledger.Connection(a.t.Context(), e, e)
			a.ok(err)
			if again.ID != c.ID {
				return "two connections"
			}
			_, _, err = a.ledger.RequestRun(a.t.Context(), c.ID, e)
			a.ok(err)
			runs, err := a.ledger.FindRuns(a.t.Context(), syncdb.RunFilter{Tenant: e})
			a.ok(err)
			if len(runs) != 1 || runs[0].ConnectionID != c.ID {
				return fmt.Sprintf("%d runs of the tenant", len(runs))
			}
			return runs[0].Reason
		}},
		{"a tenant whose audit trail is read", func(a *attacked, _, e string) string {
			a.ok(a.ledger.Audit(a.t.Context(), syncdb.AuditRow{Who: e, Action: "test", Connection: e + "/x", Object: e, Detail: []byte(`{"why":` + text(e) + `}`)}))
			rows, err := a.ledger.FindAudit(a.t.Context(), syncdb.AuditFilter{Tenant: e})
			a.ok(err)
			if len(rows) != 1 {
				return fmt.Sprintf("%d rows of the tenant", len(rows))
			}
			return rows[0].Object
		}},
		{"the resource, code, cause and key of a row that is out of sync", func(a *attacked, key, e string) string {
			l := a.running("acme~south")
			a.ok(a.ledger.SaveProblems(a.t.Context(), l, []syncdb.Problem{{
				Resource: e, SourceHash: syncdb.Hash{7}, KeyHash: syncdb.Hash{8}, Outcome: "rejected", Code: "refused", Cause: e, Owner: e, SourceKey: e,
				Detail: []byte(`{"call":"update","status":400,"answer":` + text(e) + `,"naturalKey":[` + text(e) + `]}`),
			}}))
			a.finish(l, syncdb.RunDone)
			issues, err := a.ledger.Issues(a.t.Context(), a.ids["acme~south"], true)
			a.ok(err)
			if len(issues) != 1 || issues[0].Resource != e {
				return fmt.Sprintf("%d issues", len(issues))
			}
			var rows page[struct{ Resource, SourceKey string }]
			a.get(fmt.Sprintf("/issues/%d/data", issues[0].ID), key, &rows)
			a.accepted(a.send("POST", fmt.Sprintf("/api/v1/issues/%d/retry", issues[0].ID), "", bearer(key)...))
			if len(rows.Items) != 1 || rows.Items[0].Resource != e {
				return fmt.Sprintf("%d rows", len(rows.Items))
			}
			l = a.running("acme~south") // the row is right again
			_, err = a.ledger.CloseProblems(a.t.Context(), l, []string{e})
			a.ok(err)
			a.finish(l, syncdb.RunDone)
			return rows.Items[0].SourceKey
		}},
	}
	stored := func(evil string) bool { return !strings.ContainsAny(evil, "\x00") && !strings.Contains(evil, "\xff") } // what is no text is below
	key := a.key(console.NewKey{Role: "admin", StudentData: true})
	keys := a.digest("receipt")
	for _, p := range places {
		for kind, evil := range injections() {
			if !stored(evil) {
				continue
			}
			played = append(played, kind+" as "+p.name)
			t.Run(kind+" as "+p.name, func(t *testing.T) {
				if got := p.store(a.on(t), key, evil); got != evil {
					t.Errorf("%q became %q", evil, got)
				}
			})
		}
	}
	if a.digest("receipt") != keys {
		t.Error("what nobody touched has changed")
	}
	var me struct{ Role string }
	a.get("/me", key, &me)
	if me.Role != "admin" {
		t.Errorf("the key is now of role %s", me.Role)
	}
	return played
}

// accepted expects that something was done.
func (a *attacked) accepted(got answer) {
	a.t.Helper()
	if got.status >= 300 {
		a.t.Fatalf("got %d %s", got.status, got.body)
	}
}

// noTextIsRefused: what is no text for every database is refused wherever text may stand, rather than by the database: a NUL, and bytes that are no UTF-8.
func noTextIsRefused(t *testing.T, a *attacked) []string {
	t.Helper()
	cases := []struct{ name, method, path, body, idempotency string }{
		{"a NUL in the reason of a pause", "POST", "/api/v1/connections/lincoln/pause", `{"why": "a\u0000b"}`, ""},
		{"a NUL in the reason of a decision", "POST", "/api/v1/holds/HOLD/approve", `{"edition": 1, "why": "a\u0000b"}`, ""},
		{"a NUL in the reason of a form", "POST", "/connections/lincoln/pause", "why=a%00b", ""},
		{"a NUL in the name of a key", "POST", "/api/v1/keys", `{"role": "viewer", "name": "a\u0000b"}`, ""},
		{"a NUL in the resource of what is sent again", "POST", "/api/v1/connections/lincoln/retry", `{"resource": "a\u0000b"}`, ""},
		{"a reason that is no UTF-8", "POST", "/connections/lincoln/pause", "why=a%ffb", ""},
		{"a decision for a reason that is no UTF-8", "POST", "/holds/HOLD/approve", "edition=1&why=a%ffb", ""},
		{"an idempotency key that is no UTF-8", "POST", "/api/v1/connections/lincoln/runs", "", "a\xffb"},
	}
	key := a.key(console.NewKey{Role: "admin"})
	before := a.stored()
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			a := a.on(t)
			header := bearer(key)
			if c.idempotency != "" {
				header = append(header, "Idempotency-Key", c.idempotency)
			}
			got := a.send(c.method, strings.Replace(c.path, "HOLD", fmt.Sprint(a.own["default"].hold), 1), c.body, header...)
			if got.status != 422 {
				t.Errorf("got %d %s", got.status, got.body)
			}
			a.tells(got)
			a.unchanged(before)
		})
	}
	return names(cases, func(c struct{ name, method, path, body, idempotency string }) string { return c.name })
}
