package console_test

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/edfisync/edfisync/console"
)

// A configuration that has become wrong is told to everybody, and why to those who may see how the service is configured.
func TestAWrongConfigurationIsTold(t *testing.T) {
	t.Parallel()
	const why = "/etc/edfisync/edfisync.yaml:7: conections: unknown key"
	var wrong atomic.Bool
	s := newService(t, func(c *console.Config) {
		c.Misconfigured = func() error {
			if wrong.Load() {
				return errors.New(why)
			}
			return nil
		}
	})
	admin, viewer := s.key(console.NewKey{Name: "ada", Role: "admin"}), s.key(console.NewKey{Name: "bob", Role: "viewer"})
	for _, is := range []bool{false, true} {
		wrong.Store(is)
		ready := s.do("GET", "/readyz", "", "")
		if ready.status != 200 || strings.Contains(ready.body, "the configuration has become wrong") != is || strings.Contains(ready.body, "conections") {
			t.Errorf("wrong %v: /readyz is %d %s", is, ready.status, ready.body)
		}
		if a := s.do("GET", "/api/v1/settings", admin, ""); a.status != 200 || strings.Contains(a.body, why) != is {
			t.Errorf("wrong %v: settings are %d %s", is, a.status, a.body)
		}
		for _, key := range []string{admin, viewer} {
			a := s.do("GET", "/alerts", "", "", "Cookie", s.logIn(key))
			if a.status != 200 || strings.Contains(a.body, "The configuration of the service has become wrong") != is || strings.Contains(a.body, "conections") {
				t.Errorf("wrong %v: a page is %d %s", is, a.status, a.body)
			}
		}
		if a := s.do("GET", "/settings", "", "", "Cookie", s.logIn(admin)); a.status != 200 || strings.Contains(a.body, why) != is {
			t.Errorf("wrong %v: the page of settings is %d %s", is, a.status, a.body)
		}
	}
}
