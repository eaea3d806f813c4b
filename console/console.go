package console

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/edfisync/edfisync/internal/httpd"
	"github.com/edfisync/edfisync/jobs"
	"github.com/edfisync/edfisync/sync"
	"github.com/edfisync/edfisync/syncdb"
)

// Runs is what the console needs to have runs done. *jobs.Service is one.
type Runs interface {
	// AskAs asks for a run of a connection that sends what is in the scope; when one waits already, that is the answer, with the union of the scopes, and
	// joined is true. What changes by it is in the audit trail as act, from the same transaction on (I16).
	AskAs(ctx context.Context, connection int64, reason string, scope syncdb.RunScope, act syncdb.AuditRow) (run syncdb.Run, joined bool, err error)
}

var _ Runs = (*jobs.Service)(nil)

// Connection is what the console needs to know of a connection of the configuration.
type Connection struct {
	ID         int64 // in the ledger
	Tenant     string
	Name       string
	SchoolYear int
	Schedule   *jobs.Schedule // nil = it runs when somebody asks
	Resources  []string       // it syncs these, "ed-fi/students"; nil = all of its mapping pack
	Version    int64          // of a connection that is defined in the ledger; 0 = the configuration file defines it
	Problem    string         // why it cannot be used as it is defined; "" = it can
	Pauses     []PlannedPause // in which its schedule starts no run
}

// PlannedPause is a time in which a schedule starts no run.
type PlannedPause struct {
	From   time.Time `json:"from"`
	To     time.Time `json:"to" doc:"The first moment after it."`
	Reason string    `json:"reason"`
}

// Config of a Console. Ledger, Runs, Connections, Definitions and Secrets are required.
type Config struct {
	Ledger Ledger
	Runs   Runs
	// Connections are those of the configuration as it is now.
	Connections func(ctx context.Context) ([]Connection, error)
	// Descriptors are the descriptor maps of a connection; nil = this process does not know them.
	Descriptors func(ctx context.Context, c Connection) (DescriptorMaps, error)
	// Mapped are the resources that the mapping pack of a connection maps, whether they are on or not; nil = this process does not know them.
	Mapped func(ctx context.Context, c Connection) ([]string, error)
	// Settings are how the service is configured, without secrets.
	Settings []Setting
	// Embed are the origins whose pages may show a connection's badge in a frame: https://sis.example.org.
	Embed []string
	// Records asks the SIS and the target about one record; nil = this process cannot.
	Records     Records
	Definitions Definitions
	Secrets     Secrets
	// Scope is the scope of what somebody asks a run of a connection to send; what cannot be asked for is a *sync.AskError. nil = only everything can.
	Scope func(ctx context.Context, c Connection, ask sync.Ask) (syncdb.RunScope, error)
	// Misconfigured says why the configuration cannot be used as it is now, so that an older one is in force; nil = it can. Only admins of every tenant are
	// told why.
	Misconfigured func() error
	// Ready says what else than the ledger keeps this process from being ready, in words that anybody may see; nil = nothing.
	Ready func(ctx context.Context) error
	// Support writes a support bundle, with what the goroutines of this process do when that is asked for; nil = there is none to be had.
	Support func(ctx context.Context, w io.Writer, goroutines bool) error
	// Quarantine and Retry are the service's, to show when a connection is run next.
	Quarantine jobs.Quarantine
	Retry      jobs.Retry
	Version    string       // of the program
	Metrics    http.Handler // answers GET /metrics, which shows figures of all tenants; nil = there is none
	// TryReceivers sends every receiver of alerts a test notice and says what came of it; nil = there is no way to.
	TryReceivers func(ctx context.Context) []Tried
	// Identity is where people log in besides by key; nil = nowhere.
	Identity *Identity
	// Router has the trusted proxies, the allow-list, limits and the logger; Keys, Sessions, Denied and RefusePage are the console's own.
	Router httpd.RouterConfig
	// Poll is how often the ledger is asked for news while somebody listens to events; 0 means 1 s.
	Poll time.Duration
}

// Console answers over HTTP. Make it with New. Safe for concurrent use.
type Console struct {
	c        Config
	router   *httpd.Router
	api      huma.API
	log      *slog.Logger
	streams  *streams
	pages    *pages
	identity *identity // nil = people log in by key only
	offers   pageRules

	rankings *rankings
}

// New returns the handler of the service's HTTP server.
func New(c Config) (*Console, error) {
	if c.Ledger == nil || c.Runs == nil || c.Connections == nil || c.Definitions == nil || c.Secrets == nil {
		return nil, errors.New("console: Ledger, Runs, Connections, Definitions and Secrets are required")
	}
	if c.Poll == 0 {
		c.Poll = time.Second
	}
	if c.Router.Logger == nil {
		c.Router.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Console{c: c, log: c.Router.Logger, streams: newStreams(), rankings: newRankings()}
	var err error
	if s.pages, err = newPages(); err != nil {
		return nil, err
	}
	c.Router.Keys, c.Router.Sessions, c.Router.Denied, c.Router.RefusePage = keyStore{c.Ledger}, keyStore{c.Ledger}, s.denied, s.refusePage
	if c.Identity != nil {
		if s.identity, err = newIdentity(*c.Identity, s.now); err != nil {
			return nil, err
		}
	}
	s.router = httpd.NewRouter(c.Router)
	s.api = s.newAPI()
	s.routes()
	return s, s.finishDocument()
}

// ServeHTTP answers a request.
func (s *Console) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.router.ServeHTTP(w, r) }

// Routes lists the routes with their rules.
func (s *Console) Routes() []httpd.Route { return s.router.Routes() }

// OpenAPI returns the OpenAPI 3.1 document of the API, as JSON.
func (s *Console) OpenAPI() ([]byte, error) { return json.Marshal(s.api.OpenAPI()) }

// now is the time by the clock that keys and sessions end by.
func (s *Console) now() time.Time {
	if s.c.Router.Now != nil {
		return s.c.Router.Now()
	}
	return time.Now()
}

// denied notes a refused request in the audit trail. The request is refused whether or not it can be noted.
func (s *Console) denied(ctx context.Context, d httpd.Denial) {
	who := "unknown"
	if d.Principal.ID != "" {
		who = d.Principal.Who()
	}
	detail := map[string]any{"client": d.Client.String(), "request": d.RequestID}
	if d.KeyID != "" {
		detail["key"] = d.KeyID
	}
	s.log.WarnContext(ctx, "request refused", slog.String("reason", d.Reason), slog.String("route", d.Route), slog.String("client", d.Client.String()), slog.String("who", who),
		slog.String("request", d.RequestID))
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	row := syncdb.AuditRow{Who: who, Action: "refused." + d.Reason, Connection: ofTenant(d.Principal.Tenant), Object: d.Route, Detail: encode(detail)}
	if err := s.c.Ledger.Audit(ctx, row); err != nil {
		s.log.ErrorContext(ctx, "note a refused request in the audit trail", slog.Any("error", err))
	}
}

// encode writes a value that always marshals: strings, numbers and maps of them.
func encode(v any) json.RawMessage {
	b, err := json.Marshal(v)
	if err != nil {
		return json.RawMessage(`{}`)
	}
	return b
}

// healthz says that the process lives.
func (s *Console) healthz(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write([]byte(`{"status":"ok"}` + "\n"))
}

// readyz says whether the process can do its work: whether the ledger answers.
func (s *Console) readyz(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), 5*time.Second)
	defer cancel()
	reason := ""
	if _, _, err := s.c.Ledger.Identity(ctx); err != nil {
		s.log.ErrorContext(ctx, "not ready", slog.Any("error", err))
		reason = "the ledger does not answer"
	} else if s.c.Ready != nil {
		if err := s.c.Ready(ctx); err != nil {
			reason = err.Error()
		}
	}
	if reason != "" {
		httpd.Refuse(w, r, http.StatusServiceUnavailable, "unavailable", reason)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	TellReady(w, s.misconfigured())
}

// misconfiguredText is what anybody may know of a configuration that has become wrong.
const misconfiguredText = "the configuration has become wrong; the last good one stays in force"

// misconfigured is Config.Misconfigured.
func (s *Console) misconfigured() error {
	if s.c.Misconfigured == nil {
		return nil
	}
	return s.c.Misconfigured()
}

// TellReady answers that a process is ready, and names what is wrong all the same, without saying why.
func TellReady(w io.Writer, misconfigured error) {
	out := struct {
		Status  string   `json:"status"`
		Reasons []string `json:"reasons,omitempty"`
	}{Status: "ready"}
	if misconfigured != nil {
		out.Reasons = []string{misconfiguredText}
	}
	_ = json.NewEncoder(w).Encode(out) // who asked has gone when this fails
}
