package console_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/edfisync/edfisync/console"
	"github.com/edfisync/edfisync/internal/httpd"
	"github.com/edfisync/edfisync/syncdb"
)

type runDoc struct {
	ID         int64           `json:"id"`
	Connection string          `json:"connection"`
	State      string          `json:"state"`
	Reason     string          `json:"reason"`
	Error      string          `json:"error"`
	Totals     json.RawMessage `json:"totals"`
	Progress   json.RawMessage `json:"progress"`
}

type askDoc struct {
	Run    runDoc `json:"run"`
	Joined bool   `json:"joined"`
}

type page[T any] struct {
	Items []T    `json:"items"`
	Next  string `json:"next"`
}

func (s *service) ask(key, connection string, header ...string) (askDoc, answer) {
	s.t.Helper()
	a := s.do("POST", "/api/v1/connections/"+connection+"/runs", key, "", header...)
	var doc askDoc
	if a.status == http.StatusAccepted {
		s.ok(json.Unmarshal([]byte(a.body), &doc))
	}
	return doc, a
}

func TestWhoAsksForARunIsToldWhichItIs(t *testing.T) {
	t.Parallel()
	s := newService(t, nil)
	key := s.key(console.NewKey{Role: "operator"})
	first, a := s.ask(key, "lincoln")
	if a.status != 202 || first.Joined || first.Run.State != "waiting" || first.Run.Reason != "api" || first.Run.Connection != "lincoln" ||
		a.header.Get("Location") != fmt.Sprintf("/api/v1/runs/%d", first.Run.ID) {
		t.Errorf("got %d %s, Location %s", a.status, a.body, a.header.Get("Location"))
	}
	again, _ := s.ask(key, "lincoln")
	if !again.Joined || again.Run.ID != first.Run.ID {
		t.Errorf("the second got %+v, want to join run %d", again, first.Run.ID)
	}
	var got runDoc
	s.get(a.header.Get("Location")[len("/api/v1"):], key, &got)
	if got.ID != first.Run.ID {
		t.Errorf("Location leads to run %d", got.ID)
	}
	if acts := s.acts(); acts[0] != "run.ask" || slices.Contains(acts[1:], "run.ask") {
		t.Errorf("audited: %v, want one who asked, and nobody who joined", acts)
	}
}

// F60.
func TestAThousandWhoAskAtOnceGetOneRun(t *testing.T) {
	t.Parallel()
	onBoth(t, func(c *console.Config) {
		c.Router.PerClient, c.Router.PerPrincipal = httpd.Limit{PerSecond: 1, Burst: 5}, httpd.Limit{PerSecond: 1, Burst: 5}
	}, func(t *testing.T, s *service) {
		key := s.key(console.NewKey{Role: "operator"})
		s.running("lincoln")
		var wg sync.WaitGroup
		runs := make([]int64, 1000)
		for i := range runs {
			wg.Go(func() {
				r := httptest.NewRequestWithContext(t.Context(), "POST", "/api/v1/connections/lincoln/runs", http.NoBody)
				r.Header.Set("Authorization", "Bearer "+key)
				w := httptest.NewRecorder()
				s.console.ServeHTTP(w, r)
				var doc askDoc
				if err := json.Unmarshal(w.Body.Bytes(), &doc); err != nil || w.Code != 202 {
					t.Errorf("got %d %s", w.Code, w.Body)
					return
				}
				runs[i] = doc.Run.ID
			})
		}
		wg.Wait()
		slices.Sort(runs)
		if got := slices.Compact(runs); len(got) != 1 || got[0] == 0 {
			t.Errorf("they got runs %v, want the one that waits", got)
		}
	})
}

func TestARequestThatIsSentAgainGetsTheSameRun(t *testing.T) {
	t.Parallel()
	s := newService(t, nil)
	key, other := s.key(console.NewKey{Role: "operator"}), s.key(console.NewKey{Role: "operator"})
	first, _ := s.ask(key, "lincoln", "Idempotency-Key", "abc")
	_, l, err := s.ledger.StartRun(t.Context(), s.ids["lincoln"], "test", time.Minute)
	s.ok(err)
	s.finish(l, syncdb.RunDone)
	again, a := s.ask(key, "lincoln", "Idempotency-Key", "abc")
	if again.Run.ID != first.Run.ID || !again.Joined || again.Run.State != "done" {
		t.Errorf("sent again: %s, want run %d", a.body, first.Run.ID)
	}
	_, a = s.ask(key, "acme~north", "Idempotency-Key", "abc")
	s.refused(a, 422, "idempotency-key", "another request")
	theirs, _ := s.ask(other, "lincoln", "Idempotency-Key", "abc")
	if theirs.Run.ID == first.Run.ID {
		t.Error("somebody else's key is taken for ours")
	}
	_, a = s.ask(key, "lincoln", "Idempotency-Key", strings.Repeat("a", 201))
	s.refused(a, 422, "invalid", "Idempotency-Key")
	s.clock.Store(int64(25 * time.Hour))
	if next, _ := s.ask(key, "lincoln", "Idempotency-Key", "abc"); next.Run.ID == first.Run.ID {
		t.Error("after a day the key still stands for the old run")
	}
}

func TestWhatCannotBeMeantIsRefused(t *testing.T) {
	t.Parallel()
	s := newService(t, nil)
	key := s.key(console.NewKey{Role: "admin", StudentData: true})
	_, hold, _ := s.hold("lincoln")
	decide := fmt.Sprintf("POST /holds/%d/approve", hold)
	for _, c := range []struct {
		name, request, body string
		status              int
		code, says          string
	}{
		{"an unknown field", decide, `{"edition": 1, "why": "x", "force": true}`, 422, "invalid", "force"},
		{"an unknown parameter", "GET /runs?stat=done", "", 422, "invalid", "stat"},
		{"a state there is not", "GET /runs?state=finished", "", 422, "invalid", "state"},
		{"a limit of nothing", "GET /runs?limit=0", "", 422, "invalid", "limit"},
		{"a limit too high", "GET /runs?limit=501", "", 422, "invalid", "limit"},
		{"a limit in words", "GET /runs?limit=many", "", 422, "invalid", "limit"},
		{"a cursor that is none", "GET /runs?cursor=abc", "", 422, "invalid", "cursor"},
		{"a cursor of SQL", "GET /runs?cursor=" + "djE6MSBPUiAxPTE", "", 422, "invalid", "cursor"},
		{"an id in words", "GET /runs/last", "", 422, "invalid", "id"},
		{"an id below one", "GET /runs/0", "", 422, "invalid", "id"},
		{"an id too large", "GET /runs/99999999999999999999", "", 422, "invalid", "id"},
		{"a run there is not", "GET /runs/999", "", 404, "not-found", "run"},
		{"events of a run there is not", "GET /runs/999/events", "", 404, "not-found", "run"},
		{"events of no number", "GET /runs/x/events", "", 422, "invalid", "number"},
		{"a connection there is not", "GET /connections/nowhere", "", 404, "not-found", "connection"},
		{"a run of a connection there is not", "POST /connections/nowhere/runs", "", 404, "not-found", "connection"},
		{"runs of a connection there is not", "GET /runs?connection=nowhere", "", 404, "not-found", "connection"},
		{"a body where none is", "POST /connections/lincoln/runs", `{"scope": "everything"}`, 422, "invalid", "scope"},
		{"a body that is no JSON", decide, `edition=1`, 400, "invalid", ""},
		{"half a body", decide, `{"edition": 1,`, 400, "invalid", ""},
		{"no body", decide, "", 400, "invalid", "body"},
		{"a decision without a reason", decide, `{"edition": 1}`, 422, "invalid", "why"},
		{"a decision for a blank reason", decide, `{"edition": 1, "why": "  "}`, 422, "invalid", "why"},
		{"a decision about no edition", decide, `{"why": "x"}`, 422, "invalid", "edition"},
		{"a decision about another edition", decide, `{"edition": 2, "why": "x"}`, 409, "hold-replaced", "edition 1"},
		{"a decision about a hold there is not", "POST /holds/999/approve", `{"edition": 1, "why": "x"}`, 404, "not-found", "hold"},
		{"a decision that was not made", fmt.Sprintf("POST /holds/%d/reopen", hold), `{"edition": 1, "why": "x"}`, 409, "hold-decided", "open"},
		{"a plan that is a hold", fmt.Sprintf("GET /plans/%d", hold), "", 404, "not-found", "plan"},
		{"a pause without a reason", "POST /connections/lincoln/pause", `{}`, 422, "invalid", "why"},
		{"a pause that is over", "POST /connections/lincoln/pause", `{"why": "x", "until": "2020-01-01T00:00:00Z"}`, 422, "invalid", "until"},
		{"a pause until some day", "POST /connections/lincoln/pause", `{"why": "x", "until": "some day"}`, 422, "invalid", "until"},
		{"the end of no pause", "POST /connections/lincoln/resume", "", 409, "not-paused", "not paused"},
		{"the end of a run that has ended", "POST /runs/1/cancel", "", 409, "run-ended", "done"},
		{"a key without a name", "POST /keys", `{"name": " ", "role": "viewer"}`, 422, "invalid", "name"},
		{"a key with line breaks", "POST /keys", `{"name": "a\nb", "role": "viewer"}`, 422, "invalid", "name"},
		{"a key for a king", "POST /keys", `{"name": "x", "role": "king"}`, 422, "invalid", "role"},
		{"a key from nowhere", "POST /keys", `{"name": "x", "role": "viewer", "networks": ["nowhere"]}`, 422, "invalid", "nowhere"},
		{"a key that has expired", "POST /keys", `{"name": "x", "role": "viewer", "expiresAt": "2020-01-01T00:00:00Z"}`, 422, "invalid", "over"},
		{"a key for a strange tenant", "POST /keys", `{"name": "x", "role": "viewer", "tenant": "../etc"}`, 422, "invalid", "tenant"},
		{"a key there is not", "GET /keys/nothing", "", 404, "not-found", "key"},
		{"an overlap of a year", "POST /keys/" + s.keyID(key) + "/rotate", `{"overlap": "9000h"}`, 422, "invalid", "30 days"},
		{"an overlap in words", "POST /keys/" + s.keyID(key) + "/rotate", `{"overlap": "long"}`, 422, "invalid", "24h"},
		{"10 MB", "POST /keys", `{"name": "` + strings.Repeat("a", 10<<20) + `"}`, 413, "too-large", ""},
		{"deep JSON", "POST /keys", strings.Repeat(`{"name":`, 100_000), 400, "invalid", ""},
		{"a path there is not", "GET /students", "", 404, "not-found", ""},
		{"a method there is not", "PUT /runs", "", 405, "method", "GET"},
	} {
		t.Run(c.name, func(t *testing.T) {
			method, path, _ := strings.Cut(c.request, " ")
			a := s.do(method, "/api/v1"+path, key, c.body)
			s.refused(a, c.status, c.code, c.says)
			if len(a.body) > 2000 {
				t.Errorf("the answer has %d characters", len(a.body))
			}
		})
	}
}

func (s *service) keyID(token string) string {
	id, _, ok := httpd.ParseKey(token)
	if !ok {
		s.t.Fatalf("%q is no key", token)
	}
	return id
}

func TestListsHavePages(t *testing.T) {
	t.Parallel()
	s := newService(t, nil)
	key := s.key(console.NewKey{Role: "admin"})
	var want []int64
	for range 7 {
		l := s.running("acme~north")
		s.finish(l, syncdb.RunDone)
		want = append([]int64{l.RunID}, want...)
	}
	var got []int64
	pages, next := 0, ""
	for {
		var p page[runDoc]
		s.get("/runs?limit=3&cursor="+next, key, &p)
		pages++
		for _, r := range p.Items {
			got = append(got, r.ID)
		}
		if next = p.Next; next == "" {
			break
		}
	}
	if d := cmp.Diff(want, got); d != "" || pages != 3 {
		t.Errorf("%d pages (-want +got):\n%s", pages, d)
	}
	for path, n := range map[string]int{"/connections?limit=3": 3, "/audit?limit=2": 0, "/keys?limit=1": 1, "/runs?connection=lincoln": 0, "/runs?state=done&limit=500": 7} {
		var p page[json.RawMessage]
		s.get(path, key, &p)
		if n > 0 && len(p.Items) != n || p.Items == nil {
			t.Errorf("%s has %d items, want %d", path, len(p.Items), n)
		}
	}
	var p page[struct{ Name string }]
	s.get("/connections?limit=3", key, &p)
	var second page[struct{ Name string }]
	s.get("/connections?limit=3&cursor="+p.Next, key, &second)
	if len(second.Items) != 1 || second.Items[0].Name != "other~north" || second.Next != "" {
		t.Errorf("the second page is %+v", second)
	}
}

func TestATenantSeesItsOwnOnly(t *testing.T) {
	t.Parallel()
	s := newService(t, nil)
	acme := s.key(console.NewKey{Role: "admin", Tenant: "acme"})
	for _, c := range []string{"lincoln", "acme~north", "other~north"} {
		s.hold(c)
	}
	if _, a := s.ask(acme, "acme~south"); a.status != 202 {
		t.Errorf("a run of its own: %d", a.status)
	}
	s.key(console.NewKey{Role: "viewer", Tenant: "other", Name: "theirs"})
	for path, want := range map[string][]string{
		"/connections": {"acme~north", "acme~south"}, "/runs": {"acme~south", "acme~north"},
	} {
		var p page[struct{ Name, Connection string }]
		s.get(path, acme, &p)
		var got []string
		for _, i := range p.Items {
			got = append(got, i.Name+i.Connection)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", path, d)
		}
	}
	for _, path := range []string{"/keys", "/audit", "/connections", "/runs"} {
		a := s.do("GET", "/api/v1"+path, acme, "")
		for _, word := range []string{"lincoln", "other", "theirs"} {
			if strings.Contains(a.body, word) {
				t.Errorf("%s tells of %s: %s", path, word, a.body)
			}
		}
	}
	// What is another's and what is nowhere is answered alike.
	theirs, nowhere := s.do("GET", "/api/v1/connections/lincoln", acme, "", "X-Request-Id", "12345678"), s.do("GET", "/api/v1/connections/nowhere", acme, "", "X-Request-Id", "12345678")
	if d := cmp.Diff(nowhere.body, theirs.body); d != "" {
		t.Errorf("it shows that there is another's connection:\n%s", d)
	}
}

func TestNobodyMakesAKeyThatMayMoreThanTheirs(t *testing.T) {
	t.Parallel()
	s := newService(t, nil)
	all, acme := s.key(console.NewKey{Role: "admin"}), s.key(console.NewKey{Role: "admin", Tenant: "acme"})
	seer := s.key(console.NewKey{Role: "admin", StudentData: true, Name: "seer"})
	for _, c := range []struct {
		name, key, body string
		status          int
	}{
		{"student data without the right", all, `{"name": "a", "role": "viewer", "studentData": true}`, 403},
		{"student data with the right", seer, `{"name": "a", "role": "viewer", "studentData": true}`, 201},
		{"of another tenant", acme, `{"name": "b", "role": "viewer", "tenant": "other"}`, 403},
		{"of its own tenant", acme, `{"name": "b", "role": "viewer", "tenant": "acme"}`, 201},
		{"without a tenant", acme, `{"name": "c", "role": "admin"}`, 201},
		{"of any tenant", all, `{"name": "b", "role": "viewer", "tenant": "other"}`, 201},
		{"with a name there is", all, `{"name": "b", "role": "viewer", "tenant": "other"}`, 409},
	} {
		a := s.do("POST", "/api/v1/keys", c.key, c.body)
		var doc struct {
			Info struct{ Tenant string }
			Key  string
		}
		_ = json.Unmarshal([]byte(a.body), &doc)
		if a.status != c.status {
			t.Errorf("%s: got %d %s, want %d", c.name, a.status, a.body, c.status)
		}
		if c.status == 201 && c.key == acme && doc.Info.Tenant != "acme" {
			t.Errorf("%s: the key is of tenant %q", c.name, doc.Info.Tenant)
		}
	}
	s.refused(s.do("POST", "/api/v1/keys/"+s.keyID(seer)+"/rotate", all, ""), 403, "forbidden", "student data")
	s.refused(s.do("POST", "/api/v1/keys/"+s.keyID(seer)+"/rotate", acme, ""), 404, "not-found", "key")
}

func TestAKeyIsMadeRotatedAndRevokedOverTheAPI(t *testing.T) {
	t.Parallel()
	s := newService(t, nil)
	admin := s.key(console.NewKey{Role: "admin"})
	a := s.do("POST", "/api/v1/keys", admin, `{"name": "SIS button", "role": "operator", "networks": ["192.0.2.0/24"]}`)
	var made struct{ Key string }
	s.ok(json.Unmarshal([]byte(a.body), &made))
	id := s.keyID(made.Key)
	if a.status != 201 || a.header.Get("Location") != "/api/v1/keys/"+id || a.header.Get("Cache-Control") != "no-store" {
		t.Errorf("got %d %v %s", a.status, a.header, a.body)
	}
	works := func(key string) bool { return s.do("GET", "/api/v1/me", key, "").status == 200 } // httptest's requests come from 192.0.2.1
	a = s.do("POST", "/api/v1/keys/"+id+"/rotate", admin, `{"overlap": "1h"}`)
	var rotated struct{ Key string }
	s.ok(json.Unmarshal([]byte(a.body), &rotated))
	if !works(made.Key) || !works(rotated.Key) || made.Key == rotated.Key {
		t.Error("both secrets must work for an hour")
	}
	s.clock.Store(int64(2 * time.Hour))
	if works(made.Key) || !works(rotated.Key) {
		t.Error("after the overlap only the new one must work")
	}
	var shown struct{ State, UsedAt string }
	s.get("/keys/"+id, admin, &shown)
	if shown.State != "good" || shown.UsedAt == "" {
		t.Errorf("the key is shown as %+v", shown)
	}
	if a := s.do("DELETE", "/api/v1/keys/"+id, admin, ""); a.status != 200 || works(rotated.Key) {
		t.Errorf("revoked: %d %s, and it works: %v", a.status, a.body, works(rotated.Key))
	}
	s.refused(s.do("DELETE", "/api/v1/keys/"+id, admin, ""), 409, "key-revoked", "revoked")
	a = s.do("GET", "/api/v1/keys", admin, "")
	audit := s.do("GET", "/api/v1/audit", admin, "")
	for _, secret := range []string{made.Key[18:], rotated.Key[18:], "Hash"} {
		if strings.Contains(a.body, secret) || strings.Contains(audit.body, secret) {
			t.Error("a secret is shown again")
		}
	}
	if acts := s.acts(); !slices.Contains(acts, "key.create") || !slices.Contains(acts, "key.rotate") || !slices.Contains(acts, "key.revoke") {
		t.Errorf("audited: %v", acts)
	}
}

func TestASessionByKeyMayWhatItsKeyMay(t *testing.T) {
	t.Parallel()
	s := newService(t, nil)
	key := s.key(console.NewKey{Role: "operator", Tenant: "acme", Name: "Ada"})
	token, hash := httpd.NewSecret()
	s.ok(s.ledger.CreateSession(t.Context(), syncdb.Session{Hash: hash, KeyID: s.keyID(key), ExpiresAt: time.Now().Add(time.Hour)}, syncdb.AuditRow{Who: "Ada", Action: "session.open"}))
	person, personHash := httpd.NewSecret()
	s.ok(s.ledger.CreateSession(t.Context(), syncdb.Session{Hash: personHash, Subject: "grace@idp", Name: "Grace", Role: "viewer", ExpiresAt: time.Now().Add(time.Hour)},
		syncdb.AuditRow{Who: "Grace", Action: "session.open"}))
	for cookie, want := range map[string]string{token: `"name":"Ada","role":"operator","tenant":"acme"`, person: `"id":"grace@idp","name":"Grace","role":"viewer"`} {
		if a := s.do("GET", "/api/v1/me", "", "", "Cookie", "edfisync="+cookie); a.status != 200 || !strings.Contains(a.body, want) {
			t.Errorf("got %d %s, want %s", a.status, a.body, want)
		}
	}
	if a := s.do("POST", "/api/v1/connections/acme~north/runs", "", "", "Cookie", "edfisync="+token, "Sec-Fetch-Site", "cross-site"); a.status != 403 {
		t.Errorf("from a page of another site: %d", a.status)
	}
	if a := s.do("POST", "/api/v1/connections/acme~north/runs", "", "", "Cookie", "edfisync="+token, "Sec-Fetch-Site", "same-origin"); a.status != 202 {
		t.Errorf("from our own page: %d %s", a.status, a.body)
	}
	_, err := console.RevokeKey(t.Context(), s.ledger, s.keyID(key), "test")
	s.ok(err)
	if a := s.do("GET", "/api/v1/me", "", "", "Cookie", "edfisync="+token); a.status != 401 {
		t.Errorf("after its key was revoked: %d", a.status)
	}
}

func TestAConnectionSaysHowItIs(t *testing.T) {
	t.Parallel()
	onBoth(t, nil, func(t *testing.T, s *service) {
		key := s.key(console.NewKey{Role: "operator", Name: "ada"})
		type doc struct {
			Name, State, FreshAsOf string
			LastRun                *runDoc
			Pause                  *struct{ Who, Why, Until string }
			Schedule               *struct{ Cron, TimeZone, Next string }
		}
		state := func(want string) (d doc) {
			t.Helper()
			s.get("/connections/lincoln", key, &d)
			if d.State != want {
				t.Errorf("the connection is %s, want %s", d.State, want)
			}
			return d
		}
		d := state("never")
		if d.Schedule == nil || d.Schedule.Cron != "0 2 * * *" || d.Schedule.TimeZone != "UTC" || !strings.Contains(d.Schedule.Next, "T02:00:00Z") || d.FreshAsOf != "" {
			t.Errorf("got %+v, schedule %+v", d, d.Schedule)
		}
		s.ask(key, "lincoln")
		state("waiting")
		_, l, err := s.ledger.StartRun(t.Context(), s.ids["lincoln"], "test", time.Minute)
		s.ok(err)
		s.ok(s.ledger.SaveProgress(t.Context(), l.RunID, json.RawMessage(`{"done":7}`)))
		waits, _ := s.ask(key, "lincoln")
		if d = state("running"); d.LastRun == nil || d.LastRun.ID != l.RunID || string(d.LastRun.Progress) != `{"done":7}` {
			t.Errorf("while one runs and one waits the last run is %+v", d.LastRun)
		}
		if a := s.do("POST", fmt.Sprintf("/api/v1/runs/%d/cancel", waits.Run.ID), key, ""); a.status != 202 {
			t.Errorf("cancel the one that waits: %d %s", a.status, a.body)
		}
		s.finish(l, syncdb.RunDone)
		if d = state("ok"); d.FreshAsOf == "" || d.LastRun == nil || d.LastRun.ID != l.RunID || string(d.LastRun.Totals) != `{"created":3}` {
			t.Errorf("got %+v", d)
		}
		fresh := d.FreshAsOf
		s.finish(s.running("lincoln"), syncdb.RunFailed)
		if d = state("failing"); d.FreshAsOf != fresh {
			t.Errorf("a failed run made it fresh as of %s", d.FreshAsOf)
		}
		until := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
		if a := s.do("POST", "/api/v1/connections/lincoln/pause", key, `{"why": "rollover", "until": "`+until+`"}`); a.status != 200 {
			t.Fatalf("pause: %d %s", a.status, a.body)
		}
		if d = state("paused"); d.Pause == nil || d.Pause.Why != "rollover" || !strings.HasPrefix(d.Pause.Who, "ada (") || d.Pause.Until != until {
			t.Errorf("paused: %+v", d.Pause)
		}
		if a := s.do("POST", "/api/v1/connections/lincoln/resume", key, ""); a.status != 200 {
			t.Fatalf("resume: %d %s", a.status, a.body)
		}
		state("failing")
		l = s.running("lincoln")
		s.ok(s.ledger.SetTarget(t.Context(), l, syncdb.TargetState{Alarm: "the target was wiped", AlarmRun: l.RunID}))
		s.finish(l, syncdb.RunDone)
		state("held")
		if acts := s.acts(); !slices.Contains(acts, "connection.pause") || !slices.Contains(acts, "connection.resume") {
			t.Errorf("audited: %v", acts)
		}
	})
}

func TestAHoldIsDecidedOnce(t *testing.T) {
	t.Parallel()
	onBoth(t, nil, func(t *testing.T, s *service) {
		key := s.key(console.NewKey{Role: "approver", Name: "ada"})
		run, hold, issue := s.hold("acme~north")
		type doc struct {
			ID, Edition, Ops, Run                                         int64
			Connection, Kind, State, Verb, Resource, DecidedBy, Why, Rule string
		}
		var holds page[doc]
		s.get("/connections/acme~north/holds?state=open", key, &holds)
		want := doc{ID: hold, Edition: 1, Ops: 1, Run: run, Connection: "acme~north", Kind: "hold", State: "open", Verb: "delete", Resource: "ed-fi/students", Rule: "delete-percent"}
		if d := cmp.Diff([]doc{want}, holds.Items); d != "" {
			t.Errorf("holds (-want +got):\n%s", d)
		}
		type counts struct{ OpenHolds, OpenIssues int64 }
		open := func(connection string, want counts) {
			t.Helper()
			var got counts
			s.get("/connections/"+connection, key, &got)
			if got != want {
				t.Errorf("%s: open are %+v, want %+v", connection, got, want)
			}
		}
		open("acme~north", counts{1, 1})
		open("lincoln", counts{})
		path := fmt.Sprintf("/api/v1/holds/%d/", hold)
		decide := func(verb, why string) answer { return s.do("POST", path+verb, key, `{"edition": 1, "why": "`+why+`"}`) }
		if a := decide("approve", "school 12 closed"); a.status != 200 {
			t.Fatalf("approve: %d %s", a.status, a.body)
		}
		open("acme~north", counts{0, 1})
		var got doc
		s.get(fmt.Sprintf("/holds/%d", hold), key, &got)
		if got.State != "approved" || got.Why != "school 12 closed" || !strings.HasPrefix(got.DecidedBy, "ada (") {
			t.Errorf("got %+v", got)
		}
		s.refused(decide("discard", "no"), 409, "hold-decided", "approved")
		if a := decide("reopen", "wait"); a.status != 200 {
			t.Errorf("reopen: %d %s", a.status, a.body)
		}
		if a := decide("discard", "the export was cut off"); a.status != 200 {
			t.Errorf("discard: %d %s", a.status, a.body)
		}
		if acts := s.acts(); acts[0] != "hold.discard" || acts[1] != "hold.reopen" || acts[2] != "hold.approve" {
			t.Errorf("audited: %v", acts)
		}
		undo, err := s.ledger.SavePlan(t.Context(), s.ids["acme~north"], syncdb.Plan{Kind: syncdb.PlanUndo, State: syncdb.PlanDiscarded, RunID: run, DecidedBy: "ada"},
			func(func(syncdb.PlanOp, error) bool) {})
		s.ok(err)
		path = fmt.Sprintf("/api/v1/holds/%d/", undo.ID)
		s.refused(decide("approve", "x"), 409, "undone", "reopened")
		if a := decide("reopen", "x"); a.status != 200 || !strings.Contains(a.body, `"released"`) {
			t.Errorf("let go of what was undone: %d %s", a.status, a.body)
		}
		plan := s.saved("acme~north")
		var plans page[doc]
		s.get("/connections/acme~north/plans", key, &plans)
		if len(plans.Items) != 1 || plans.Items[0].ID != plan || plans.Items[0].Kind != "plan" {
			t.Errorf("plans %+v", plans)
		}
		var issues page[struct {
			ID, Rows         int64
			Code, Connection string
		}]
		s.get("/connections/acme~north/issues", key, &issues)
		if len(issues.Items) != 1 || issues.Items[0].ID != issue || issues.Items[0].Rows != 1 || issues.Items[0].Code != "required-missing" || issues.Items[0].Connection != "acme~north" {
			t.Errorf("issues %+v", issues)
		}
		if a := s.do("GET", fmt.Sprintf("/api/v1/issues/%d", issue), key, ""); a.status != 200 || strings.Contains(a.body, "Lovelace") || !strings.Contains(a.body, `"hint"`) {
			t.Errorf("issue: %d %s", a.status, a.body)
		}
		for _, p := range []string{fmt.Sprintf("/runs/%d/receipt", run), "/connections/acme~north/receipts", fmt.Sprintf("/runs/%d/steps", run)} {
			if a := s.do("GET", "/api/v1"+p, key, ""); a.status != 200 || !strings.Contains(a.body, `"statement"`) && !strings.Contains(a.body, `"verb":"create"`) {
				t.Errorf("%s: %d %s", p, a.status, a.body)
			}
		}
	})
}

func TestARunIsCanceledOverTheAPI(t *testing.T) {
	t.Parallel()
	s := newService(t, nil)
	key := s.key(console.NewKey{Role: "operator"})
	waits, _ := s.ask(key, "lincoln")
	a := s.do("POST", fmt.Sprintf("/api/v1/runs/%d/cancel", waits.Run.ID), key, "")
	if a.status != 202 || !strings.Contains(a.body, `"canceled"`) {
		t.Errorf("one that waits: %d %s", a.status, a.body)
	}
	l := s.running("lincoln")
	if a := s.do("POST", fmt.Sprintf("/api/v1/runs/%d/cancel", l.RunID), key, ""); a.status != 202 || !strings.Contains(a.body, `"running"`) {
		t.Errorf("one that runs: %d %s", a.status, a.body)
	}
	if _, canceled, err := s.ledger.Renew(t.Context(), l); !canceled || err != nil {
		t.Errorf("its process is not told: %v", err)
	}
}

func TestABrowserLogsInWithAKey(t *testing.T) {
	t.Parallel()
	onBoth(t, nil, func(t *testing.T, s *service) {
		key := s.key(console.NewKey{Role: "operator", Name: "Ada"})
		logIn := func(body string, header ...string) (answer, string) {
			a := s.do("POST", "/api/v1/session", "", body, header...)
			cookie, _, _ := strings.Cut(a.header.Get("Set-Cookie"), ";")
			return a, cookie
		}
		a, first := logIn(`{"key": "` + key + `"}`)
		if a.status != 204 || !strings.HasPrefix(first, "edfisync=") || !strings.Contains(a.header.Get("Set-Cookie"), "HttpOnly") {
			t.Fatalf("got %d, %s", a.status, a.header.Get("Set-Cookie"))
		}
		in := func(cookie string) bool { return s.do("GET", "/api/v1/me", "", "", "Cookie", cookie).status == 200 }
		if !in(first) {
			t.Error("the session does not work")
		}
		_, second := logIn(`{"key": "`+key+`"}`, "Cookie", first)
		if second == first || in(first) || !in(second) {
			t.Error("a new log-in must make a new session and end the old one")
		}
		// A token that somebody else chose becomes no session.
		planted := "edfisync=" + strings.Repeat("a", 52)
		if _, third := logIn(`{"key": "`+key+`"}`, "Cookie", planted); third == planted || in(planted) {
			t.Error("a planted token became a session")
		}
		if a := s.do("DELETE", "/api/v1/session", "", "", "Cookie", second, "Sec-Fetch-Site", "cross-site"); a.status != 403 {
			t.Errorf("another site logs it out: %d", a.status)
		}
		if a := s.do("DELETE", "/api/v1/session", "", "", "Cookie", second); a.status != 204 || in(second) || !strings.Contains(a.header.Get("Set-Cookie"), "Max-Age=0") {
			t.Errorf("log out: %d, %s", a.status, a.header.Get("Set-Cookie"))
		}
		s.refused(s.do("DELETE", "/api/v1/session", key, ""), 409, "no-session", "")
		for _, c := range []struct {
			body   string
			header []string
			status int
			code   string
		}{
			{`{"key": "` + key + `x"}`, nil, 401, "unauthorized"}, {`{"key": ""}`, nil, 422, "invalid"}, {`{"key": "x", "role": "admin"}`, nil, 422, "invalid"}, {`{`, nil, 422, "invalid"},
			{`key=` + key, []string{"Content-Type", "application/x-www-form-urlencoded"}, 415, "invalid"}, {`{"key": "` + key + `"}`, []string{"Origin", "https://evil.example"}, 403, "cross-origin"},
		} {
			a, cookie := logIn(c.body, c.header...)
			s.refused(a, c.status, c.code, "")
			if cookie != "" {
				t.Errorf("%s set the cookie %s", c.body, cookie)
			}
		}
		_, last := logIn(`{"key": "` + key + `"}`)
		s.clock.Store(int64(12*time.Hour + time.Minute))
		if in(last) {
			t.Error("after 12 hours it is still logged in")
		}
		if acts := s.acts(); !slices.Contains(acts, "session.open") || !slices.Contains(acts, "session.close") {
			t.Errorf("audited: %v", acts)
		}
		wrong, _ := httpd.NewSecret()
		for range 10 {
			logIn(`{"key": "` + httpd.FormatKey(s.keyID(key), wrong) + `"}`)
		}
		a, _ = logIn(`{"key": "` + key + `"}`)
		s.refused(a, 429, "locked-out", "")
	})
}

// event is one server-sent event.
type event struct{ name, data string }

// listen opens a stream and returns its events as they come, until it ends.
func (s *service) listen(path, key string, header ...string) (<-chan event, int) {
	s.t.Helper()
	srv := httptest.NewServer(s.console)
	s.t.Cleanup(srv.Close)
	ctx, cancel := context.WithTimeout(s.t.Context(), 30*time.Second)
	s.t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, "GET", srv.URL+"/api/v1"+path, nil)
	s.ok(err)
	r.Header.Set("Authorization", "Bearer "+key)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(r)
	s.ok(err)
	out := make(chan event, 100)
	go func() {
		defer close(out)
		defer resp.Body.Close()
		var e event
		for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
			switch name, text, _ := strings.Cut(lines.Text(), ": "); name {
			case "event":
				e.name = text
			case "data":
				e.data = text
			case "":
				if e != (event{}) {
					out <- e
				}
				e = event{}
			}
		}
	}()
	return out, resp.StatusCode
}

// next is the next event of a stream.
func (s *service) next(events <-chan event) (e event, run runDoc) {
	s.t.Helper()
	select {
	case e = <-events:
	case <-time.After(20 * time.Second):
		s.t.Fatal("no event came")
	}
	if e.name == "run" {
		s.ok(json.Unmarshal([]byte(e.data), &run))
	}
	return e, run
}

func TestARunIsFollowedFromAnyProcess(t *testing.T) {
	t.Parallel()
	onBoth(t, nil, func(t *testing.T, s *service) {
		key := s.key(console.NewKey{Role: "viewer"})
		l := s.running("acme~north")
		path := fmt.Sprintf("/runs/%d/events", l.RunID)
		events, status := s.listen(path, key)
		if status != 200 {
			t.Fatalf("status %d", status)
		}
		if _, run := s.next(events); run.ID != l.RunID || run.State != "running" || run.Connection != "acme~north" {
			t.Errorf("first event: %+v", run)
		}
		s.ok(s.ledger.SaveProgress(t.Context(), l.RunID, json.RawMessage(`{"phase":"send","done":5,"total":9}`))) // as another process would
		if _, run := s.next(events); string(run.Progress) != `{"phase":"send","done":5,"total":9}` {
			t.Errorf("progress: %+v", run)
		}
		s.finish(l, syncdb.RunDone)
		if _, run := s.next(events); run.State != "done" || run.Progress != nil {
			t.Errorf("end: %+v", run)
		}
		if e, _ := s.next(events); e.name != "end" || e.data != `{"state":"done"}` {
			t.Errorf("last event: %+v", e)
		}
		if e, open := <-events; open {
			t.Errorf("after the end came %+v", e)
		}
		if _, status := s.listen(path, key, "Last-Event-ID", "end"); status != http.StatusNoContent {
			t.Errorf("who connects again gets %d, want 204", status)
		}
	})
}

func TestAllRunsOfATenantAreFollowed(t *testing.T) {
	t.Parallel()
	onBoth(t, nil, func(t *testing.T, s *service) {
		key := s.key(console.NewKey{Role: "viewer", Tenant: "acme"})
		l := s.running("acme~north")
		s.running("lincoln")
		events, _ := s.listen("/events", key)
		if _, run := s.next(events); run.ID != l.RunID || run.State != "running" {
			t.Errorf("first event: %+v", run)
		}
		s.running("other~north")
		s.finish(l, syncdb.RunFailed)
		if _, run := s.next(events); run.ID != l.RunID || run.State != "failed" {
			t.Errorf("second event: %+v", run)
		}
		_, _, err := s.ledger.RequestRun(t.Context(), s.ids["acme~south"], "test")
		s.ok(err)
		if _, run := s.next(events); run.State != "waiting" || run.Connection != "acme~south" {
			t.Errorf("third event: %+v", run)
		}
	})
}

func TestOnePrincipalHoldsTwentyStreamsAtMost(t *testing.T) {
	t.Parallel()
	s := newService(t, nil)
	key := s.key(console.NewKey{Role: "viewer"})
	for i := range 21 {
		_, status := s.listen("/events", key)
		want := 200
		if i == 20 {
			want = 429
		}
		if status != want {
			t.Errorf("stream %d: %d, want %d", i+1, status, want)
		}
	}
	if _, status := s.listen("/events", s.key(console.NewKey{Role: "viewer"})); status != 200 {
		t.Errorf("another principal: %d", status)
	}
}

// brokenLedger fails where it is told to.
type brokenLedger struct {
	console.Ledger
	audit, identity, runs error
}

func (b *brokenLedger) Audit(ctx context.Context, a syncdb.AuditRow) error {
	if b.audit != nil {
		return b.audit
	}
	return b.Ledger.Audit(ctx, a)
}

func (b *brokenLedger) Identity(ctx context.Context) (string, int64, error) {
	if b.identity != nil {
		return "", 0, b.identity
	}
	return b.Ledger.Identity(ctx)
}

func (b *brokenLedger) LastRuns(ctx context.Context) (last, done map[int64]syncdb.Run, err error) {
	if b.runs != nil {
		return nil, nil, b.runs
	}
	return b.Ledger.LastRuns(ctx)
}

func TestWhatFailsInsideIsNotTold(t *testing.T) {
	t.Parallel()
	broken := &brokenLedger{}
	s := newService(t, func(c *console.Config) { broken.Ledger, c.Ledger = c.Ledger, broken })
	key := s.key(console.NewKey{Role: "operator"})
	broken.runs = errors.New("duplicate key (lastSurname) = (Lovelace)")
	s.refused(s.do("GET", "/api/v1/connections", key, ""), 500, "internal", "correlationId")
	if a := s.do("GET", "/api/v1/connections", key, ""); strings.Contains(a.body, "Lovelace") {
		t.Errorf("told: %s", a.body)
	}
	broken.identity = errors.New("password=secret")
	a := s.do("GET", "/readyz", "", "")
	s.refused(a, 503, "unavailable", "ledger")
	if strings.Contains(a.body, "secret") {
		t.Errorf("told: %s", a.body)
	}
	if a := s.do("GET", "/healthz", "", ""); a.status != 200 {
		t.Errorf("the process lives: %d", a.status)
	}
	broken.audit = errors.New("disk full")
	s.refused(s.do("POST", "/api/v1/keys", key, `{"name": "x", "role": "viewer"}`), 403, "forbidden", "admin")
}

func TestARefusedRequestIsAudited(t *testing.T) {
	t.Parallel()
	s := newService(t, nil)
	key := s.key(console.NewKey{Role: "viewer", Tenant: "acme", Name: "eve"})
	s.do("POST", "/api/v1/keys", key, `{"name": "Lovelace", "role": "admin"}`)
	rows, err := s.ledger.FindAudit(t.Context(), syncdb.AuditFilter{Limit: 1})
	s.ok(err)
	r := rows[0]
	if r.Action != "refused.forbidden" || !strings.HasPrefix(r.Who, "eve (") || r.Object != "POST /api/v1/keys" || r.Connection != "acme/" || strings.Contains(string(r.Detail), "Lovelace") {
		t.Errorf("got %+v, detail %s", r, r.Detail)
	}
	// Who opens a page and is sent to log in tried nothing; who calls the API without a key, or comes with a cookie that is no session, did.
	before := len(s.acts())
	if a := s.do("GET", "/connections/lincoln", "", ""); a.status != 303 || len(s.acts()) != before {
		t.Errorf("a visit: %d, %v", a.status, s.acts())
	}
	s.do("GET", "/api/v1/connections", "", "")
	s.do("GET", "/runs/1", "", "", "Cookie", "edfisync_session=forged")
	s.do("POST", "/connections/lincoln/runs", "", "")
	if acts := s.acts(); len(acts) != before+3 || acts[0] != "refused.no-key" {
		t.Errorf("tried: %v", acts)
	}
}

func TestTheDocumentDescribesEveryRoute(t *testing.T) {
	t.Parallel()
	s := newService(t, nil)
	a := s.do("GET", "/api/v1/openapi.json", "", "")
	var doc struct {
		OpenAPI string `json:"openapi"`
		Paths   map[string]map[string]struct {
			Summary  string           `json:"summary"`
			Role     string           `json:"x-role"`
			Security []map[string]any `json:"security"`
		} `json:"paths"`
	}
	s.ok(json.Unmarshal([]byte(a.body), &doc))
	if a.status != 200 || !strings.HasPrefix(doc.OpenAPI, "3.1") {
		t.Errorf("got %d, OpenAPI %s", a.status, doc.OpenAPI)
	}
	text, err := os.ReadFile(filepath.Join("..", "docs", "api.md"))
	s.ok(err)
	documented := map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^\\| `(GET|POST|PUT|PATCH|DELETE) ([^`]+)` \\| ([^|]+) \\|").FindAllStringSubmatch(string(text), -1) {
		op, ok := doc.Paths["/api/v1"+m[2]][strings.ToLower(m[1])]
		if !ok && !strings.HasSuffix(m[2], "z") && m[2] != "/openapi.json" && m[2] != "/metrics" {
			t.Errorf("docs/api.md has %s %s, which there is not", m[1], m[2])
		}
		if ok && op.Role != strings.TrimSpace(m[3]) {
			t.Errorf("docs/api.md says that %s %s is for %s, it is for %s", m[1], m[2], m[3], op.Role)
		}
		documented[m[1]+" "+m[2]] = true
	}
	for _, route := range s.console.Routes() {
		if route.Rule.Page {
			continue
		}
		method, path, _ := strings.Cut(route.Pattern, " ")
		short := strings.TrimPrefix(path, "/api/v1")
		if !documented[method+" "+short] {
			t.Errorf("docs/api.md does not have %s %s", method, short)
		}
		if short == path || short == "/openapi.json" {
			continue
		}
		op, ok := doc.Paths[path][strings.ToLower(method)]
		if !ok || op.Summary == "" || (len(op.Security) == 0) != route.Rule.Public {
			t.Errorf("the document says of %s: %+v", route.Pattern, op)
		}
	}
	// Each code that a problem can have is explained.
	codes := regexp.MustCompile(`(?:refuse\(http\.Status\w+, |httpd\.Refuse\(w, r, http\.Status\w+, |httpd\.TypeOf\(|code: )"([a-z-]+)"`)
	n := 0
	for _, dir := range []string{".", filepath.Join("..", "internal", "httpd")} {
		files, err := filepath.Glob(filepath.Join(dir, "*.go"))
		s.ok(err)
		for _, f := range files {
			if strings.HasSuffix(f, "_test.go") {
				continue
			}
			src, err := os.ReadFile(f)
			s.ok(err)
			for _, m := range codes.FindAllStringSubmatch(string(src), -1) {
				n++
				if !strings.Contains(string(text), "| `"+m[1]+"` |") {
					t.Errorf("docs/api.md does not explain the problem %s", m[1])
				}
			}
		}
	}
	if n < 25 {
		t.Errorf("found %d places that answer with a problem: the test no longer finds them", n)
	}
}
