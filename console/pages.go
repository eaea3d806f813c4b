package console

import (
	"bytes"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/edfisync/edfisync/internal/httpd"
)

//go:embed web
var web embed.FS

// pages are the console's pages and the files they load.
type pages struct {
	of     map[string]*template.Template // by name of the file: "overview"
	assets map[string]asset              // by name: "console.css"
	badge  *template.Template            // a connection's status as a picture
}

// asset is a file that pages load.
type asset struct {
	kind string // media type
	text []byte
	tag  string // of its content
}

// newPages reads the pages, each with the frame around it.
func newPages() (*pages, error) {
	p := &pages{of: map[string]*template.Template{}, assets: map[string]asset{}}
	frame, err := template.New("frame.html").Funcs(functions()).ParseFS(web, "web/frame.html", "web/parts.html")
	if err != nil {
		return nil, fmt.Errorf("read the console's pages: %w", err)
	}
	kinds := map[string]string{".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
	err = fs.WalkDir(web, "web", func(name string, entry fs.DirEntry, err error) error {
		base := path.Base(name)
		if err != nil || entry.IsDir() || base == "frame.html" || base == "parts.html" {
			return err
		}
		if page, ok := strings.CutSuffix(base, ".html"); ok {
			t, err := frame.Clone()
			if err != nil {
				return err
			}
			p.of[page], err = t.ParseFS(web, name)
			return err
		}
		text, err := web.ReadFile(name)
		sum := sha256.Sum256(text)
		p.assets[base] = asset{kinds[path.Ext(base)], text, `"` + hex.EncodeToString(sum[:8]) + `"`}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read the console's pages: %w", err)
	}
	if p.badge, err = newBadge(); err != nil {
		return nil, fmt.Errorf("read the badge: %w", err)
	}
	return p, nil
}

// asset answers with a file that pages load. Browsers ask each time whether it has changed.
func (s *Console) asset(w http.ResponseWriter, r *http.Request) {
	a, ok := s.pages.assets[r.PathValue("file")]
	if !ok {
		s.refusePage(w, r, http.StatusNotFound, "not-found", "there is no such file")
		return
	}
	h := w.Header()
	h.Set("Content-Type", a.kind)
	h.Set("Cache-Control", "no-cache")
	h.Set("ETag", a.tag)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(a.text))
}

// pageRules are the rules of routes again, for what a page offers to whom.
type pageRules struct{ asks, steers, decides, audits, verifies, admins, settings, tries httpd.Rule }

// frame is what every page shows.
type frame struct {
	Title   string
	Trail   []crumb // above the page's title
	Me      httpd.Principal
	Asks    bool // may have a run done
	Steers  bool // may pause, resume and cancel
	Decides bool // may decide about holds
	Data    bool // it shows student data

	Audits     bool // may read the audit trail
	Verifies   bool // may verify it
	Admins     bool // may make and end keys
	Configures bool // may see how the service is configured
	Events     string

	Misconfigured bool // an older configuration is in force
	Version       string
	Now           time.Time
	Page          any
}

// crumb is a page above the one that is shown.
type crumb struct{ Name, Path string }

// show answers with a page.
func (s *Console) show(w http.ResponseWriter, r *http.Request, status int, name string, f frame) {
	s.showAs(w, r, status, name, "frame.html", f)
}

// showAs answers with a page in a frame of its own.
func (s *Console) showAs(w http.ResponseWriter, r *http.Request, status int, name, root string, f frame) {
	p := httpd.PrincipalOf(r.Context())
	f.Me, f.Version, f.Now, f.Misconfigured = p, s.c.Version, time.Now(), s.misconfigured() != nil
	f.Asks, f.Steers, f.Decides = s.offers.asks.Allows(p), s.offers.steers.Allows(p), s.offers.decides.Allows(p)
	f.Audits, f.Verifies, f.Admins, f.Configures = s.offers.audits.Allows(p), s.offers.verifies.Allows(p), s.offers.admins.Allows(p), s.offers.settings.Allows(p)
	var b bytes.Buffer // so that a page that cannot be drawn is not sent in half
	if err := s.pages.of[name].ExecuteTemplate(&b, root, f); err != nil {
		s.log.ErrorContext(r.Context(), "draw a page", slog.String("page", name), slog.String("request", httpd.RequestID(r.Context())), slog.Any("error", err))
		httpd.Refuse(w, r, http.StatusInternalServerError, "internal", "something went wrong here; the log says more under this correlationId")
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(visible(b.Bytes())) // the browser has gone when this fails
}

// refused is the page that says why something was not done.
type refused struct {
	Status   int
	Detail   string
	Request  string
	Next     string // of the log-in page: where to go then
	Identity bool   // of the log-in page: people can log in at an identity provider, too
}

// refusePage tells a person why not; who is not logged in comes to the log-in page, and from there to where they wanted to go.
func (s *Console) refusePage(w http.ResponseWriter, r *http.Request, status int, _, detail string) {
	page := refused{Status: status, Detail: detail, Request: httpd.RequestID(r.Context())}
	switch {
	case r.URL.Path == "/login" && r.Method == http.MethodPost, strings.HasPrefix(r.URL.Path, "/login/"):
		page.Next, page.Identity = nextOf(r.PostFormValue("next")), s.identity != nil
		s.show(w, r, status, "login", frame{Title: "Log in", Page: page})
		return
	case status == http.StatusUnauthorized && isBadge(r):
		s.showBadge(w, r, status, nil)
		return
	case status == http.StatusUnauthorized && r.Method == http.MethodGet:
		to := "/login"
		if r.URL.Path != "/" {
			to += "?next=" + url.QueryEscape(r.URL.RequestURI())
		}
		http.Redirect(w, r, to, http.StatusSeeOther)
		return
	}
	s.show(w, r, status, "refused", frame{Title: http.StatusText(status), Page: page})
}

// nextOf is a path of this console and nothing else: nobody is sent elsewhere by a link to the log-in page.
func nextOf(text string) string {
	u, err := url.Parse(text)
	if err != nil || u.IsAbs() || u.Host != "" || !strings.HasPrefix(text, "/") || strings.HasPrefix(text, "//") || strings.ContainsAny(text, "\\\r\n\t") ||
		strings.HasPrefix(text, "/login") {
		return "/"
	}
	return text
}

// page makes a handler of one that may refuse.
func (s *Console) page(fn func(w http.ResponseWriter, r *http.Request) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		err := fn(w, r)
		var p *problem
		switch {
		case err == nil:
		case errors.As(err, &p):
			s.refusePage(w, r, p.status, p.code, p.detail)
		case r.Context().Err() != nil:
			s.refusePage(w, r, http.StatusServiceUnavailable, "unavailable", "this took too long; try again")
		default:
			s.log.ErrorContext(r.Context(), "request failed", slog.String("request", httpd.RequestID(r.Context())), slog.Any("error", err))
			s.refusePage(w, r, http.StatusInternalServerError, "internal", "something went wrong here; the log says more")
		}
	})
}

// done sends the browser to the page that shows what was done: loading that again does nothing again.
func done(w http.ResponseWriter, r *http.Request, format string, args ...any) error {
	http.Redirect(w, r, fmt.Sprintf(format, args...), http.StatusSeeOther)
	return nil
}

// pageRoutes registers the pages. What is read, they show with the rule reads; what is done, they do with the rule of the API's route.
func (s *Console) pageRoutes(reads httpd.Rule) {
	public, asks, steers, decides := httpd.Rule{Public: true}, s.offers.asks, s.offers.steers, s.offers.decides
	s.router.Handle("GET /assets/{file}", httpd.Rule{Public: true, Page: true}, http.HandlerFunc(s.asset))
	s.pageOf("GET /login", public, s.logInPage)
	s.pageOf("POST /login", public, s.logInForm)
	s.pageOf("POST /logout", reads, s.logOutForm)
	s.pageOf("GET /{$}", reads, s.overviewPage)
	s.pageOf("GET /connections/{connection}", reads, s.connectionPage)
	s.pageOf("GET /connections/{connection}/issues", reads, s.issuesPage)
	s.pageOf("GET /connections/{connection}/holds", reads, s.holdsPage)
	s.pageOf("GET /runs/{id}", reads, s.runPage)
	s.pageOf("POST /connections/{connection}/runs", asks, s.askForm)
	s.pageOf("POST /connections/{connection}/pause", steers, s.pauseForm)
	s.pageOf("POST /connections/{connection}/resume", steers, s.resumeForm)
	s.pageOf("POST /runs/{id}/cancel", steers, s.cancelForm)
	s.pageOf("POST /holds/{id}/approve", decides, s.decideForm(s.approve))
	s.pageOf("POST /holds/{id}/discard", decides, s.decideForm(s.discard))
	s.pageOf("POST /holds/{id}/reopen", decides, s.decideForm(s.reopen))
}

func (s *Console) logInPage(w http.ResponseWriter, r *http.Request) error {
	s.show(w, r, http.StatusOK, "login", frame{Title: "Log in", Page: refused{Next: nextOf(r.FormValue("next")), Identity: s.identity != nil}})
	return nil
}

func (s *Console) logInForm(w http.ResponseWriter, r *http.Request) error {
	p, ok := s.router.LogIn(w, r, r.PostFormValue("key"))
	if !ok {
		return nil // answered by refusePage
	}
	if err := s.openSession(w, r, sessionOf(p)); err != nil {
		return err
	}
	return done(w, r, "%s", nextOf(r.PostFormValue("next")))
}

func (s *Console) logOutForm(w http.ResponseWriter, r *http.Request) error {
	if err := s.closeSession(w, r); err != nil {
		return err
	}
	return done(w, r, "/login")
}

func (s *Console) askForm(w http.ResponseWriter, r *http.Request) error {
	out, err := s.askAs(r.Context(), &askInput{ConnectionPath: pathOf(r)}, "console")
	if err != nil {
		return err
	}
	return done(w, r, "/runs/%d", out.Body.Run.ID)
}

func (s *Console) pauseForm(w http.ResponseWriter, r *http.Request) error {
	in := pauseInput{ConnectionPath: pathOf(r)}
	var err error
	if in.Body.Why, err = whyOf(r); err != nil {
		return err
	}
	if lasts := r.PostFormValue("lasts"); lasts != "" {
		d, err := time.ParseDuration(lasts)
		if err != nil || d <= 0 {
			return refuse(http.StatusUnprocessableEntity, "invalid", "the pause must last for a while, or until somebody resumes it")
		}
		in.Body.Until = time.Now().Add(d)
	}
	out, err := s.pause(r.Context(), &in)
	if err != nil {
		return err
	}
	return done(w, r, "/connections/%s", url.PathEscape(out.Body.Name))
}

func (s *Console) resumeForm(w http.ResponseWriter, r *http.Request) error {
	in := pathOf(r)
	out, err := s.resume(r.Context(), &in)
	if err != nil {
		return err
	}
	return done(w, r, "/connections/%s", url.PathEscape(out.Body.Name))
}

func (s *Console) cancelForm(w http.ResponseWriter, r *http.Request) error {
	id, err := idOf(r)
	if err != nil {
		return err
	}
	if _, err := s.cancel(r.Context(), &IDPath{id}); err != nil {
		return err
	}
	return done(w, r, "/runs/%d", id)
}

// decideForm makes the form of a decision about a hold.
func (s *Console) decideForm(decide func(context.Context, *decideInput) (*one[planJSON], error)) func(http.ResponseWriter, *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		id, err := idOf(r)
		if err != nil {
			return err
		}
		in := decideInput{IDPath: IDPath{id}}
		if in.Body.Why, err = whyOf(r); err != nil {
			return err
		}
		if in.Body.Edition, err = strconv.ParseInt(r.PostFormValue("edition"), 10, 64); err != nil {
			return refuse(http.StatusUnprocessableEntity, "invalid", "the edition that was looked at is missing; open the page of holds again")
		}
		out, err := decide(r.Context(), &in)
		if err != nil {
			return err
		}
		return done(w, r, "/connections/%s/holds#hold-%d", url.PathEscape(out.Body.Connection), id)
	}
}

func pathOf(r *http.Request) ConnectionPath { return ConnectionPath{r.PathValue("connection")} }

func idOf(r *http.Request) (int64, error) {
	id, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
	if err != nil || id < 1 {
		return 0, notFound("page")
	}
	return id, nil
}

// whyOf is the reason a person gives in a form.
func whyOf(r *http.Request) (string, error) {
	why := strings.TrimSpace(r.PostFormValue("why"))
	if why == "" || len(why) > 500 {
		return "", refuse(http.StatusUnprocessableEntity, "invalid", "say why, in at most 500 characters")
	}
	return why, nil
}
