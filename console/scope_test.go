package console_test

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/edfisync/edfisync/console"
	"github.com/edfisync/edfisync/internal/httpd"
	"github.com/edfisync/edfisync/schema"
	engine "github.com/edfisync/edfisync/sync"
	"github.com/edfisync/edfisync/syncdb"
)

// scoped lets a console make scopes, of three resources.
func scoped(c *console.Config) {
	scoper := &engine.Scoper{
		Model: func() (*schema.Model, error) { return schema.Bundled("5.2") },
		Hash:  func(text []byte) syncdb.Hash { sum := sha256.Sum256(text); return syncdb.Hash(sum[:16]) },
		Parts: map[string][]string{"ed-fi/schools": {"schools"}, "ed-fi/students": {"students", "students-old"}, "ed-fi/classPeriods": {"classPeriods"}},
	}
	c.Scope = func(_ context.Context, _ console.Connection, ask engine.Ask) (syncdb.RunScope, error) {
		return scoper.Scope(ask)
	}
}

// F60.
func TestAThousandWhoAskAtOnceForPartsGetOneRunWithTheUnion(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		whole bool // one of them asks for everything
		want  int  // parts of the run that waits
	}{{"parts only", false, 5 + 1}, {"and one asks for everything", true, 0}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			onBoth(t, func(config *console.Config) {
				scoped(config)
				config.Router.PerClient, config.Router.PerPrincipal = httpd.Limit{PerSecond: 1, Burst: 5}, httpd.Limit{PerSecond: 1, Burst: 5}
			}, func(t *testing.T, s *service) {
				key := s.key(console.NewKey{Role: "operator"})
				s.running("lincoln")
				var wg sync.WaitGroup
				runs := make([]int64, 1000)
				for i := range runs {
					body := fmt.Sprintf(`{"scope": {"schools": [%d]}}`, 1+i%5)
					switch {
					case i == 500 && c.whole:
						body = ""
					case i%10 == 0:
						body = `{"scope": {"resources": ["students"]}}`
					case i%10 == 1: // the resource is asked for as a whole by others
						body = `{"scope": {"resources": ["students"], "schools": [7]}}`
					}
					wg.Go(func() {
						r := httptest.NewRequestWithContext(t.Context(), "POST", "/api/v1/connections/lincoln/runs", strings.NewReader(body))
						r.Header.Set("Authorization", "Bearer "+key)
						r.Header.Set("Content-Type", "application/json")
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
					t.Fatalf("they got runs %v, want the one that waits", got)
				}
				waits, err := s.ledger.FindRuns(t.Context(), syncdb.RunFilter{Connection: s.ids["lincoln"], State: syncdb.RunWaiting})
				s.ok(err)
				if len(waits) != 1 || waits[0].ID != runs[0] || len(waits[0].Scope.Parts) != c.want {
					t.Errorf("what waits is %+v, want run %d with %d parts", waits, runs[0], c.want)
				}
			})
		})
	}
}

func TestARunShowsItsScopeAndWhoAskedForItIsAudited(t *testing.T) {
	t.Parallel()
	s := newService(t, scoped)
	key := s.key(console.NewKey{Role: "operator"})
	post := func(body string, header ...string) answer {
		t.Helper()
		return s.do("POST", "/api/v1/connections/lincoln/runs", key, body, header...)
	}
	a := post(`{"why": "one class", "scope": {"records": [{"resource": "students", "key": {"studentUniqueId": "PLANTED-604822"}}, {"resource": "students", "sourceKey": "PLANTED-1017"}]}}`, "Idempotency-Key", "one")
	if a.status != 202 || strings.Count(a.body, `"keyHash"`) != 1 || strings.Count(a.body, `"sourceRowHash"`) != 2 {
		t.Errorf("got %d %s, want one record and a row of each of the two queries", a.status, a.body)
	}
	if strings.Contains(a.body, "PLANTED") {
		t.Errorf("the answer names a record: %s", a.body)
	}
	s.refused(post(`{"scope": {"schools": [1]}}`, "Idempotency-Key", "one"), 422, "idempotency-key", "another request")
	joined := post(`{"scope": {"schools": [255901001], "resources": ["ed-fi/Students", "classPeriods"]}}`)
	if joined.status != 202 || !strings.Contains(joined.body, `"school":255901001`) || strings.Count(joined.body, `"resource"`) != 5 {
		t.Errorf("got %d %s, want the union", joined.status, joined.body)
	}
	post(`{"scope": {"schools": [255901001], "resources": ["students"]}}`)
	whole := post("")
	if whole.status != 202 || strings.Contains(whole.body, `"scope"`) {
		t.Errorf("got %d %s, want a run of everything", whole.status, whole.body)
	}
	asked := 0
	for _, act := range s.acts() {
		if act == "run.ask" {
			asked++
		}
	}
	if asked != 3 {
		t.Errorf("%d asks are in the audit trail, want the three that changed what is sent (I16)", asked)
	}
	rows, err := s.ledger.AuditRows(t.Context(), 0, 0)
	s.ok(err)
	for _, r := range rows {
		if strings.Contains(fmt.Sprintf("%+v %s", r, r.Detail), "PLANTED") {
			t.Errorf("the audit trail names a record: %+v", r)
		}
	}
}

func TestAScopeThatCannotBeMeantIsRefused(t *testing.T) {
	t.Parallel()
	s := newService(t, scoped)
	key := s.key(console.NewKey{Role: "operator"})
	for _, c := range []struct{ name, scope, code, says string }{
		{"a resource that is not synced", `{"resources": ["sections"]}`, "scope", `it syncs: ed-fi/classPeriods, ed-fi/schools, ed-fi/students`},
		{"a school that is no number", `{"schools": ["Lincoln High"]}`, "invalid", "expected integer"},
		{"a school with a fraction", `{"schools": [1.5]}`, "invalid", "expected integer"},
		{"a school there cannot be", `{"schools": [0]}`, "scope", "0 is no schoolId"},
		{"nothing", `{}`, "scope", "the scope names nothing"},
		{"an empty list", `{"schools": []}`, "scope", "the scope names nothing"},
		{"a record without a name", `{"records": [{"resource": "students"}]}`, "scope", "give the natural key, or the source key of the row"},
		{"a record with half a key", `{"records": [{"resource": "classPeriods", "key": {"classPeriodName": "P1"}}]}`, "scope", "key part schoolId: absent"},
		{"a key of something else", `{"records": [{"resource": "students", "key": {"schoolId": "1"}}]}`, "scope", "which is: studentUniqueId"},
		{"a key and a row", `{"records": [{"resource": "students", "key": {"studentUniqueId": "1"}, "sourceKey": "1"}]}`, "scope", "give the natural key, or the source key"},
		{"records and schools", `{"schools": [1], "records": [{"resource": "students", "sourceKey": "1"}]}`, "scope", "not both"},
		{"an unknown field", `{"school": 1}`, "invalid", "school"},
		{"too much", `{"schools": [` + strings.TrimSuffix(strings.Repeat("1,", 201), ",") + `]}`, "invalid", "200"},
	} {
		a := s.do("POST", "/api/v1/connections/lincoln/runs", key, `{"scope": `+c.scope+`}`)
		t.Run(c.name, func(*testing.T) { s.refused(a, 422, c.code, c.says) })
	}
	waits, err := s.ledger.FindRuns(t.Context(), syncdb.RunFilter{State: syncdb.RunWaiting})
	s.ok(err)
	if len(waits) != 0 {
		t.Errorf("%d runs were asked for", len(waits))
	}
}
