package console_test

import (
	"strings"
	"testing"

	"github.com/edfisync/edfisync/console"
)

// A body that says two things is refused: what was checked must be what is taken.
func TestABodySaysOneThing(t *testing.T) {
	t.Parallel()
	s := newService(t, nil)
	admin := s.key(console.NewKey{Role: "admin", StudentData: true})
	keys := len(s.keyNames(admin))
	long := strings.Repeat("x", 10_000)
	for name, body := range map[string]string{
		"the same name twice":                 `{"name": "a", "role": "viewer", "role": "admin"}`,
		"one in capitals":                     `{"name": "a", "role": "viewer", "ROLE": "admin"}`,
		"one in capitals before":              `{"name": "a", "ROLE": "admin", "role": "viewer"}`,
		"a letter that folds to another":      `{"name": "a", "role": "viewer", "tenant": "acme", "expiresAt": "2099-01-01T00:00:00Z", "expire\u017fAt": "2020-01-01T00:00:00Z"}`,
		"a name that is written escaped":      `{"name": "a", "role": "viewer", "r\u006fle": "admin"}`,
		"the second is longer than it may be": `{"name": "a", "NAME": "` + long + `", "role": "viewer"}`,
	} {
		t.Run(name, func(t *testing.T) {
			a := s.do("POST", "/api/v1/keys", admin, body, "Content-Type", "application/json")
			s.refused(a, 400, "invalid", "validation failed")
			if strings.Contains(a.body, long[:100]) {
				t.Errorf("it repeats what was sent: %s", a.body)
			}
		})
	}
	if now := len(s.keyNames(admin)); now != keys {
		t.Errorf("there are %d keys, before %d", now, keys)
	}
	for name, c := range map[string]struct{ path, body string }{
		"an object in an object":                 {"/connections/lincoln/runs", `{"scope": {"schools": [1], "Schools": [2]}}`},
		"an object in a list":                    {"/connections/lincoln/runs", `{"scope": {"records": [{"resource": "ed-fi/students", "sourceKey": "1", "sourcekey": "2"}]}}`},
		"an object that is there twice":          {"/connections/lincoln/runs", `{"scope": {"resources": ["ed-fi/students"]}, "scope": {"schools": [1]}}`},
		"the reason of a pause":                  {"/connections/lincoln/pause", `{"why": "x", "Why": "` + long + `"}`},
		"a reason that is empty the second time": {"/connections/lincoln/pause", `{"why": "x", "WHY": ""}`},
	} {
		t.Run(name, func(t *testing.T) {
			s.refused(s.do("POST", "/api/v1"+c.path, admin, c.body, "Content-Type", "application/json"), 400, "invalid", "validation failed")
		})
	}
	t.Run("names that are equal in different objects are no contradiction", func(t *testing.T) {
		a := s.do("POST", "/api/v1/connections/lincoln/records/find", admin, `{"resource": "ed-fi/students", "naturalKey": {"resource": "1", "naturalKey": "2"}}`, "Content-Type", "application/json")
		if a.status == 400 {
			t.Errorf("got %s", a.body)
		}
	})
}

// keyNames are the names of all keys.
func (s *service) keyNames(key string) (out []string) {
	s.t.Helper()
	var keys page[struct{ Name string }]
	s.get("/keys?limit=500", key, &keys)
	for _, k := range keys.Items {
		out = append(out, k.Name)
	}
	return out
}
