package console

import (
	"bytes"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"

	"github.com/danielgtaylor/huma/v2"

	"github.com/edfisync/edfisync/internal/httpd"
	"github.com/edfisync/edfisync/syncdb"
)

// supportRoutes serves support bundles, to administrators of every tenant: a bundle is about all of them.
func (s *Console) supportRoutes() {
	rule := httpd.Rule{Least: httpd.Admin, EveryTenant: true}
	s.router.Handle("GET "+base+"/support-bundle", rule, http.HandlerFunc(s.supportBundle))
	s.describe(rule, huma.Operation{
		Method: http.MethodGet, Path: "/support-bundle", OperationID: "supportBundle", Tags: []string{"support"},
		Summary:    "Make a zip file with what somebody who helps needs to know, without student data",
		Parameters: []*huma.Param{{Name: "goroutines", In: "query", Description: "With what the process does right now, by function and line.", Schema: &huma.Schema{Type: "boolean"}}},
		Responses: map[string]*huma.Response{
			"200": {Description: "The bundle.", Content: map[string]*huma.MediaType{"application/zip": {Schema: &huma.Schema{Type: "string", Format: "binary"}}}},
		},
	})
}

// supportBundle answers with a bundle. That it left the house is in the audit trail first (I16).
func (s *Console) supportBundle(w http.ResponseWriter, r *http.Request) {
	goroutines, ok := supportQuery(r.URL.Query())
	if !ok {
		httpd.Refuse(w, r, http.StatusUnprocessableEntity, "invalid", "want nothing, or goroutines=true")
		return
	}
	ctx := r.Context()
	err := s.c.Ledger.Audit(ctx, syncdb.AuditRow{Who: httpd.PrincipalOf(ctx).Who(), Action: "support.bundle", Detail: encode(map[string]any{"goroutines": goroutines})})
	var text bytes.Buffer
	if err == nil {
		err = s.c.Support(ctx, &text, goroutines)
	}
	if err != nil {
		s.log.ErrorContext(ctx, "make a support bundle", slog.Any("error", err), slog.String("request", httpd.RequestID(ctx)))
		httpd.Refuse(w, r, http.StatusServiceUnavailable, "unavailable", "the bundle could not be made; edfisync support-bundle makes one beside the service")
		return
	}
	w.Header().Set("Content-Type", "application/zip")
	w.Header().Set("Content-Disposition", `attachment; filename="edfisync-support.zip"`)
	_, _ = w.Write(text.Bytes())
}

// supportQuery reads the parameters; ok is false for any other than goroutines.
func supportQuery(q url.Values) (goroutines, ok bool) {
	for name, values := range q {
		v, err := strconv.ParseBool(values[0])
		if name != "goroutines" || len(values) != 1 || err != nil {
			return false, false
		}
		goroutines = v
	}
	return goroutines, true
}
