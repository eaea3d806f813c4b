package console

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/edfisync/edfisync/internal/httpd"
	"github.com/edfisync/edfisync/jobs"
	"github.com/edfisync/edfisync/syncdb"
)

// statusJSON is how a connection is, small enough for a SIS to show on its own screen and to ask for often.
type statusJSON struct {
	Connection string        `json:"connection"`
	State      string        `json:"state" enum:"never,ok,attention,failing,canceled,waiting,running,paused,held"`
	Says       string        `json:"says" doc:"The same in a sentence, for people; its times are UTC."`
	FreshAsOf  time.Time     `json:"freshAsOf,omitzero" doc:"The target is as the source was then, but for what waits."`
	NextRun    time.Time     `json:"nextRun,omitzero" doc:"When it is run next, unless somebody asks before; left out: nobody knows."`
	NextReason string        `json:"nextReason,omitempty" enum:"schedule,retry,quarantine,pause,turn" doc:"Why then, as in next of the connection."`
	OpenIssues int64         `json:"openIssues"`
	OpenHolds  int64         `json:"openHolds"`
	Running    *progressJSON `json:"running,omitempty" doc:"While a run is under way."`
	Path       string        `json:"path" doc:"Of the connection's page in the console."`
}

// progressJSON is how far a run is.
type progressJSON struct {
	Run      int64  `json:"run"`
	Phase    string `json:"phase"`
	Resource string `json:"resource,omitempty"`
	Done     int64  `json:"done"`
	Total    int64  `json:"total,omitempty" doc:"Left out: not known yet."`
}

const (
	statusPath = "/connections/{connection}/status"
	badgePath  = "/connections/{connection}/badge.svg"
)

// statusRoutes registers what a SIS shows on its own screen.
func (s *Console) statusRoutes(reads httpd.Rule) {
	s.router.Handle("GET "+base+statusPath, reads, s.statusAs(s.statusDocument))
	s.router.Handle("GET "+base+badgePath, reads, s.statusAs(s.statusPicture))
	s.pageOf("GET /connections/{connection}/badge", reads, s.badgePage)
	register(s, reads, get("/connections/{connection}/resources", "listResources", "connections", "List the resources of a connection: freshness, and what waits"), s.listResources)
}

// addStatus documents what huma does not serve.
func (s *Console) addStatus() {
	reads := httpd.Rule{Least: httpd.Viewer}
	of := []*huma.Param{{Name: "connection", In: "path", Required: true, Schema: &huma.Schema{Type: "string"}}}
	schema := s.api.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[statusJSON](), true, "Status")
	unchanged := &huma.Response{Description: "As If-None-Match has it."}
	s.describe(reads, huma.Operation{
		Method: http.MethodGet, Path: statusPath, OperationID: "showStatus", Tags: []string{"connections"}, Summary: "Show in a few words how a connection is, with an ETag", Parameters: of,
		Responses: map[string]*huma.Response{"200": {Description: "OK", Content: map[string]*huma.MediaType{"application/json": {Schema: schema}}}, "304": unchanged},
	})
	s.describe(reads, huma.Operation{
		Method: http.MethodGet, Path: badgePath, OperationID: "showBadge", Tags: []string{"connections"}, Summary: "Show the same as a picture", Parameters: of,
		Responses: map[string]*huma.Response{"200": {Description: "OK", Content: map[string]*huma.MediaType{"image/svg+xml": {Schema: &huma.Schema{Type: "string"}}}}, "304": unchanged},
	})
}

// status is how a connection is.
func (s *Console) status(ctx context.Context, name string) (statusJSON, error) {
	c, err := s.connection(ctx, name)
	if err != nil {
		return statusJSON{}, err
	}
	a, err := s.around(ctx)
	if err != nil {
		return statusJSON{}, err
	}
	shown := a.show(c, time.Now())
	out := statusJSON{
		Connection: shown.Name, State: shown.State, FreshAsOf: shown.FreshAsOf, OpenIssues: shown.OpenIssues, OpenHolds: shown.OpenHolds, Path: "/connections/" + url.PathEscape(shown.Name),
	}
	if shown.Next != nil {
		out.NextRun, out.NextReason = shown.Next.At, shown.Next.Reason
	}
	if r := shown.LastRun; r != nil && r.State == string(syncdb.RunRunning) {
		p := progressOfRun(r.Progress)
		out.Running = &progressJSON{Run: r.ID, Phase: phase(p.Phase), Resource: p.Resource, Done: p.Done, Total: p.Total}
	}
	out.Says = sayingOf(out)
	return out, nil
}

// sayingOf is a status in a sentence.
func sayingOf(st statusJSON) string {
	fresh := "Students have not been synced yet"
	if !st.FreshAsOf.IsZero() {
		fresh = "Students as of " + when(st.FreshAsOf)
	}
	var more []string
	switch st.State {
	case "running":
		text := "syncing now"
		if p := st.Running; p != nil && p.Total > 0 {
			text += fmt.Sprintf(", %d %%", percent(p.Done, p.Total))
		}
		more = append(more, text)
	case "waiting":
		more = append(more, "a sync is about to begin")
	case "failing":
		text := "the last sync failed"
		if st.NextReason == jobs.NextRetry {
			text += ", and is tried again at " + when(st.NextRun)
		}
		more = append(more, text)
	case "canceled":
		more = append(more, "the last sync was canceled")
	case "paused":
		more = append(more, "paused")
	case "held":
		more = append(more, "everything is held until somebody has looked at the target")
	}
	if st.OpenHolds > 0 {
		more = append(more, words(st.OpenHolds, "decision waits", "decisions wait"))
	}
	if st.OpenIssues > 0 {
		more = append(more, words(st.OpenIssues, "issue is open", "issues are open"))
	}
	if len(more) == 0 {
		return fresh + "."
	}
	return fresh + "; " + strings.Join(more, "; ") + "."
}

// statusAs answers with a status in a form of it. Its tag says whether it has changed: who asks often asks for little.
func (s *Console) statusAs(form func(statusJSON) (kind string, text []byte, err error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		st, err := s.status(r.Context(), r.PathValue("connection"))
		var kind string
		var text []byte
		if err == nil {
			kind, text, err = form(st)
		}
		if err != nil {
			s.refuse(w, r, err)
			return
		}
		sum := sha256.Sum256(text)
		h := w.Header()
		h.Set("ETag", `"`+hex.EncodeToString(sum[:12])+`"`)
		h.Set("Cache-Control", "private, no-cache") // kept, and asked again each time whether it has changed
		if match := r.Header.Get("If-None-Match"); match == h.Get("ETag") || match == "W/"+h.Get("ETag") {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		h.Set("Content-Type", kind)
		_, _ = w.Write(text) // the client has gone when this fails
	})
}

func (s *Console) statusDocument(st statusJSON) (string, []byte, error) {
	text, err := json.Marshal(st)
	return "application/json", append(text, '\n'), err
}

// badge is a status as a picture.
type badge struct {
	statusJSON
	Label string
	Wide  int
}

// badgeWide is how wide a character is at most, in the units of the picture.
const badgeWide = 7

func badgeOf(st statusJSON) badge {
	label := "not synced yet"
	if !st.FreshAsOf.IsZero() {
		label = "as of " + when(st.FreshAsOf)
	}
	switch {
	case st.State == "running" && st.Running != nil && st.Running.Total > 0:
		label = fmt.Sprintf("syncing, %d %%", percent(st.Running.Done, st.Running.Total))
	case st.State == "running":
		label = "syncing"
	case st.State != "ok" && st.State != "never":
		label = stateWords(st.State) + ", " + label
	}
	return badge{st, label, 84 + badgeWide*len(label)}
}

func (s *Console) statusPicture(st statusJSON) (string, []byte, error) {
	var b strings.Builder
	err := s.pages.badge.Execute(&b, badgeOf(st))
	return "image/svg+xml", []byte(b.String()), err
}

// badgeText is the picture. It is drawn without style sheets: who embeds it may allow none.
const badgeText = `<svg xmlns="http://www.w3.org/2000/svg" width="{{.Wide}}" height="24" role="img" aria-label="{{.Says}}"><title>{{.Says}}</title>
<rect width="{{.Wide}}" height="24" rx="4" fill="#3d4a58"/><path d="M72 0h{{less .Wide 76}}a4 4 0 0 1 4 4v16a4 4 0 0 1-4 4H72z" fill="{{colour .State}}"/>
<g fill="#fff" font-family="Verdana,DejaVu Sans,sans-serif" font-size="12"><text x="8" y="16">edfisync</text><text x="80" y="16">{{.Label}}</text></g></svg>
`

// newBadge reads the picture. Text in it is escaped as in any page.
func newBadge() (*template.Template, error) {
	return template.New("badge").Funcs(template.FuncMap{"less": func(a, b int) int { return a - b }, "colour": stateColour}).Parse(badgeText)
}

// stateColour is the colour of a state behind white text: the contrast is 4.5 : 1 at least.
func stateColour(state string) string {
	switch state {
	case "ok":
		return "#166534"
	case "failing", "held":
		return "#991b1b"
	case "attention", "paused", "canceled":
		return "#854d0e"
	case "running", "waiting":
		return "#1e40af"
	}
	return "#4d5b6a"
}

// stateWords is a state as people read it.
func stateWords(state string) string {
	switch state {
	case "never":
		return "not synced yet"
	case "attention":
		return "needs somebody"
	}
	return state
}

// badgePage is the status as a page for a frame on a SIS's screen. Frames are allowed to the origins of the configuration only.
func (s *Console) badgePage(w http.ResponseWriter, r *http.Request) error {
	st, err := s.status(r.Context(), r.PathValue("connection"))
	if err != nil {
		return err
	}
	b := badgeOf(st)
	s.showBadge(w, r, http.StatusOK, &b)
	return nil
}

// showBadge answers with a status in a frame, or, without one, with where to log in.
func (s *Console) showBadge(w http.ResponseWriter, r *http.Request, status int, b *badge) {
	if len(s.c.Embed) > 0 {
		h := w.Header()
		h.Set("Content-Security-Policy", strings.Replace(h.Get("Content-Security-Policy"), "frame-ancestors 'none'", "frame-ancestors 'self' "+strings.Join(s.c.Embed, " "), 1))
		h.Del("X-Frame-Options") // it cannot name origins; the policy above counts
	}
	f := frame{Title: "Status", Page: b}
	if b != nil {
		f.Title = b.Connection
	}
	s.showAs(w, r, status, "badge", "badge.html", f)
}

// isBadge reports whether a request is for a status in a frame.
func isBadge(r *http.Request) bool {
	return strings.HasPrefix(r.URL.Path, "/connections/") && strings.HasSuffix(r.URL.Path, "/badge")
}
