package console_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/edfisync/edfisync/console"
)

func TestSupportBundleIsForAdministratorsAndAudited(t *testing.T) {
	t.Parallel()
	s := newService(t, nil)
	admin := s.key(console.NewKey{Role: "admin"})
	a := s.do("GET", "/api/v1/support-bundle?goroutines=true", admin, "")
	if a.status != 200 || a.body != "a bundle, goroutines: true" || a.header.Get("Content-Type") != "application/zip" || !strings.Contains(a.header.Get("Content-Disposition"), ".zip") {
		t.Errorf("got %d %v %s", a.status, a.header, a.body)
	}
	if acts := s.acts(); acts[0] != "support.bundle" {
		t.Errorf("the last act is %s, want support.bundle", acts[0])
	}
	if a := s.do("GET", "/api/v1/support-bundle", admin, ""); a.body != "a bundle, goroutines: false" {
		t.Errorf("without the parameter: %d %s", a.status, a.body)
	}
	for _, query := range []string{"?goroutines=perhaps", "?other=true", "?goroutines=true&goroutines=true"} {
		s.refused(s.do("GET", "/api/v1/support-bundle"+query, admin, ""), 422, "invalid", "goroutines=true")
	}
	s.refused(s.do("GET", "/api/v1/support-bundle", s.key(console.NewKey{Role: "auditor"}), ""), 403, "forbidden", "")
}

func TestSupportBundleThatCannotBeMadeIsAProblem(t *testing.T) {
	t.Parallel()
	s := newService(t, func(c *console.Config) {
		c.Support = func(_ context.Context, w io.Writer, _ bool) error {
			_, _ = io.WriteString(w, "half of it")
			return errors.New("broken")
		}
	})
	s.refused(s.do("GET", "/api/v1/support-bundle", s.key(console.NewKey{Role: "admin"}), ""), 503, "unavailable", "edfisync support-bundle")
}
