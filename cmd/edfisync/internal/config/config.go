// Package config is the configuration file of edfisync: its shape, its defaults, and how it is read. Reading is strict and reports every
// problem at once with its line. It only reads the file and the files and variables it names; what the values mean is for others to find out.
package config

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/edfisync/edfisync/internal/httpd"
)

// Config is the whole file. config.example.yaml explains every key.
type Config struct {
	Ledger      Ledger       `yaml:"ledger"`
	Log         Log          `yaml:"log"`
	WorkDir     string       `yaml:"work_dir" validate:"required"` // spool, partitions, the embedded ledger; absolute after Load
	Service     Service      `yaml:"service"`
	Connections []Connection `yaml:"connections" validate:"dive"` // may be none: then all are in the ledger
}

// Service is what edfisync serve and edfisync worker need beside the connections.
type Service struct {
	Listen  string   `yaml:"listen" validate:"required,hostname_port"`
	Workers int      `yaml:"workers" validate:"min=1,max=1000"` // runs at once in one process
	Drain   Duration `yaml:"drain" validate:"min=0,max=86400000000000"`
	Allow   []string `yaml:"allow" validate:"dive,network"`   // who may call; none = everybody
	Proxies []string `yaml:"proxies" validate:"dive,network"` // whose word on where a call comes from is taken
	Embed   []string `yaml:"embed" validate:"dive,origin"`    // whose pages may show a connection's badge in a frame
	TLS     TLS      `yaml:"tls"`
	Metrics Metrics  `yaml:"metrics"`
	Traces  Traces   `yaml:"traces"`
	Egress  Egress   `yaml:"egress"`
	Alerts  Alerts   `yaml:"alerts"`
	OIDC    OIDC     `yaml:"oidc"`

	Quarantine Quarantine `yaml:"quarantine"`
	Retry      Retry      `yaml:"retry"`

	References References `yaml:"references"`
}

// Traces says where OpenTelemetry traces go.
type Traces struct {
	Endpoint  string  `yaml:"endpoint" validate:"omitempty,http_url"` // of an OTLP receiver; "" = as OTEL_EXPORTER_OTLP_ENDPOINT says
	Sample    float64 `yaml:"sample" validate:"min=0,max=1"`          // share of the runs
	Propagate bool    `yaml:"propagate"`                              // traceparent goes with requests to targets
}

// Egress says what may be called although it is not on the public internet: by webhooks and mails, by connections of the ledger, and of what an identity
// provider names.
type Egress struct {
	Allow []string `yaml:"allow" validate:"dive,egress"` // networks, addresses, names of hosts
}

// Guard is what may be called (SSRF). The error is a usage error: Load finds it first.
func (e Egress) Guard() (*httpd.Egress, error) {
	guard, err := httpd.ParseEgress(e.Allow)
	if err != nil {
		return nil, fmt.Errorf("service.egress.allow: %w", err)
	}
	return &guard, nil
}

// Told reports whether there is anybody who is told. A worker that knows nobody leaves alerts to the others: what it noticed first would be told to nobody.
func (a Alerts) Told() bool { return len(a.Webhooks) > 0 || a.SMTP.Address != "" }

// Alerts says when somebody is told that something is wrong, and who.
type Alerts struct {
	Every       Duration  `yaml:"every" validate:"min=10000000,max=3600000000000"` // how often the ledger is looked at
	For         Duration  `yaml:"for" validate:"min=0"`                            // how long something must be wrong before it fires
	Quiet       Duration  `yaml:"quiet" validate:"min=0"`                          // how long it must be right before it has recovered
	FreshWithin Duration  `yaml:"fresh_within" validate:"min=0"`                   // how old the last good run of a connection with a schedule may be; 0 = any age
	Audit       Duration  `yaml:"audit" validate:"min=0"`                          // how often the audit trail is read through; 0 = never
	Webhooks    []Webhook `yaml:"webhooks" validate:"dive"`
	SMTP        SMTP      `yaml:"smtp"`
}

// Webhook is a URL that notices are posted to, signed.
type Webhook struct {
	Name      string   `yaml:"name" validate:"required,slug,ne=smtp"`
	URL       Secret   `yaml:"url" validate:"required"` // some receivers put a secret into it
	Secret    Secret   `yaml:"secret" validate:"required,min=16"`
	OldSecret Secret   `yaml:"old_secret" validate:"omitempty,min=16"` // while the receiver may not have the new one yet
	Tenants   []string `yaml:"tenants" validate:"dive,slug"`           // whose notices it gets; none = all
}

// SMTP is a mail server that sends notices.
type SMTP struct {
	Address  string   `yaml:"address" validate:"omitempty,hostname_port"` // "" = no mails
	From     string   `yaml:"from" validate:"required_with=Address"`
	To       []string `yaml:"to" validate:"required_with=Address,dive,required"`
	Username string   `yaml:"username"`
	Password Secret   `yaml:"password" validate:"required_with=Username"`
	TLS      string   `yaml:"tls" validate:"oneof=starttls tls none"`
	Tenants  []string `yaml:"tenants" validate:"dive,slug"` // whose notices are mailed; none = all
}

// Metrics says where the process answers GET /metrics besides its own address.
type Metrics struct {
	Listen string `yaml:"listen" validate:"omitempty,hostname_port"` // "" = nowhere else
}

// Quarantine says for how long a connection whose runs fail is left alone by its schedule.
type Quarantine struct {
	After       int      `yaml:"after" validate:"min=0,max=1000"` // failed runs in a row; 0 = never
	FirstWait   Duration `yaml:"first_wait" validate:"min=1000000000,max=604800000000000"`
	LongestWait Duration `yaml:"longest_wait" validate:"gtefield=FirstWait,max=604800000000000"`
}

// Retry says when a run of the schedule that failed, for what passes by itself, is tried again before the schedule's next time.
type Retry struct {
	FirstWait   Duration `yaml:"first_wait" validate:"omitempty,min=1000000000,max=604800000000000"` // 0 = never
	LongestWait Duration `yaml:"longest_wait" validate:"gtefield=FirstWait,max=604800000000000"`
}

// References is what connections that are made over the API may take from the machine the service runs on. What is made at the command line may take
// anything: whoever is there can read it anyhow.
type References struct {
	Variables []string `yaml:"variables" validate:"dive,required"` // environment variables, * stands for any text
	Folders   []string `yaml:"folders" validate:"dive,required"`   // for ${file:…}, mapping packs and SQLite sources; absolute after Load
}

// TLS says with which certificate serve listens. Without one it speaks plain HTTP.
type TLS struct {
	Certificate string `yaml:"certificate" validate:"required_with=Key"` // file; absolute after Load
	Key         string `yaml:"key" validate:"required_with=Certificate"` // file; absolute after Load
}

// Ledger says where the sync database is and which key protects it. Without a DSN it is a SQLite file in the work folder, and without a
// key one is made on first start in a file only its owner can read.
type Ledger struct {
	DSN     Secret `yaml:"dsn"` // postgres://…, or sqlite: and a path; absolute after Load
	Key     Secret `yaml:"key" validate:"excluded_with=KeyFile"`
	KeyFile string `yaml:"key_file"`
	// KeyCommand prints the key: a program and its arguments, run without a shell.
	KeyCommand []string `yaml:"key_command" validate:"excluded_with=Key,excluded_with=KeyFile,dive,required"`
	Next       NextKey  `yaml:"next"`
	Witness    string   `yaml:"witness"` // "" = beside the configuration; absolute after Load

	Retention Retention `yaml:"retention"`
}

// Retention says how long the ledger keeps what it does not need itself. What was sent and answered has a time of its own, Connection.History.
type Retention struct {
	Issues Duration `yaml:"issues" validate:"min=86400000000000"`   // settled causes; at least a day
	Runs   Duration `yaml:"runs" validate:"min=2592000000000000"`   // summaries, steps and receipts; at least 30 days
	Audit  Duration `yaml:"audit" validate:"min=94608000000000000"` // at least three years
}

// NextKey is the key that edfisync secrets rekey goes over to. Until then, and after, the ledger opens with the one it is under.
type NextKey struct {
	Key        Secret   `yaml:"key" validate:"excluded_with=KeyFile"`
	KeyFile    string   `yaml:"key_file"`
	KeyCommand []string `yaml:"key_command" validate:"excluded_with=Key,excluded_with=KeyFile,dive,required"`
}

// Log says what is logged and how. Logs go to standard error.
type Log struct {
	Level  slog.Level `yaml:"level"`
	Format string     `yaml:"format" validate:"oneof=text json"`
}

// Connection is one source, one Ed-Fi target and one school year.
type Connection struct {
	Name       string   `yaml:"name" validate:"required,slug"`
	Tenant     string   `yaml:"tenant" validate:"required,slug"`
	SchoolYear int      `yaml:"school_year" validate:"min=1900,max=2200"` // the year it ends in: 2027 is 2026-27
	Source     Source   `yaml:"source"`
	Pack       string   `yaml:"pack" validate:"required"` // embedded:NAME, or a folder; absolute after Load
	Target     Target   `yaml:"target"`
	Resources  []string `yaml:"resources" validate:"dive,required"` // empty: all that the pack maps
	// The part of a district that is synced, by schoolId: these schools (none: every school), without those.
	Schools       []int                        `yaml:"schools" validate:"max=2000,dive,min=1"`
	ExceptSchools []int                        `yaml:"except_schools" validate:"max=2000,dive,min=1"`
	Descriptors   map[string]map[string]string `yaml:"descriptors"` // over the pack's own maps
	FoldKeys      bool                         `yaml:"fold_keys"`
	Safeguards    Safeguards                   `yaml:"safeguards"`
	SettleDelay   Duration                     `yaml:"settle_delay" validate:"min=0"`
	History       Duration                     `yaml:"history" validate:"min=0"` // 0 = nothing is kept
	Schedule      Schedule                     `yaml:"schedule"`
	Stalled       Duration                     `yaml:"stalled_after" validate:"min=0,max=604800000000000"` // 0 = never
	FreshWithin   Duration                     `yaml:"fresh_within" validate:"min=0"`                      // over service.alerts.fresh_within; 0 = as that says
	Pauses        []PlannedPause               `yaml:"pauses" validate:"dive"`

	// Version of a connection that is defined in the ledger; 0 = the configuration file defines it.
	Version int64 `yaml:"-"`
	// Guard says what may be called as its target; nil = anything. It is set when the target was named over the API.
	Guard *httpd.Egress `yaml:"-" json:"-"`
	// SourceGuard says what may be called as its source; nil = anything. It is set for connections of the ledger: their connection strings are sealed
	// secrets mostly, which may be replaced over the API.
	SourceGuard *httpd.Egress `yaml:"-" json:"-"`
}

// Schedule says when the service syncs a connection without anybody asking.
type Schedule struct {
	Cron     string   `yaml:"cron" validate:"omitempty"` // five fields, or @hourly and the like; "" = never by itself
	TimeZone string   `yaml:"time_zone" validate:"timezone"`
	Jitter   Duration `yaml:"jitter" validate:"min=0,max=86400000000000"`
	CatchUp  Duration `yaml:"catch_up" validate:"min=0,max=2592000000000000"`
}

// PlannedPause is a time in which the schedule starts no run: a year rollover, a maintenance of the SIS. Whoever asks for a run gets it.
type PlannedPause struct {
	From   string `yaml:"from" validate:"required"` // 2027-06-20, 2027-06-20T18:00 in schedule.time_zone, or with an offset as in RFC 3339
	To     string `yaml:"to" validate:"required"`   // the first moment after it
	Reason string `yaml:"reason" validate:"required,max=500"`
}

// Times are the beginning of a pause and the first moment after it; a moment without offset is the zone's.
func (p PlannedPause) Times(zone *time.Location) (from, to time.Time, err error) {
	if from, err = moment(p.From, zone); err != nil {
		return from, to, err
	}
	to, err = moment(p.To, zone)
	return from, to, err
}

func moment(text string, zone *time.Location) (time.Time, error) {
	for _, layout := range []string{time.DateOnly, "2006-01-02T15:04", "2006-01-02T15:04:05", time.RFC3339} {
		if at, err := time.ParseInLocation(layout, text, zone); err == nil {
			return at, nil
		}
	}
	return time.Time{}, errors.New("want a day, 2027-06-20, or a moment, 2027-06-20T18:00 or 2027-06-20T18:00:00-05:00")
}

// Source is the SIS database, read only.
type Source struct {
	Driver           string            `yaml:"driver" validate:"required,oneof=sqlite postgres mysql sqlserver"`
	DSN              Secret            `yaml:"dsn" validate:"required"`
	Readers          int               `yaml:"readers" validate:"min=1,max=64"`
	StatementTimeout Duration          `yaml:"statement_timeout" validate:"min=0"`
	Params           map[string]string `yaml:"params"`                               // values the pack's queries ask for by name
	MaxRuns          int               `yaml:"max_runs" validate:"min=0,max=100000"` // at once, of all connections with this server; 0 = any number
}

// Target is the Ed-Fi API.
type Target struct {
	URL          string            `yaml:"url" validate:"required,http_url"`
	ClientID     string            `yaml:"client_id" validate:"required"`
	ClientSecret Secret            `yaml:"client_secret" validate:"required"`
	Tenant       string            `yaml:"tenant"`
	Context      map[string]string `yaml:"context"`
	Standard     string            `yaml:"standard" validate:"required"` // auto, live, or a bundled version
	Concurrency  Concurrency       `yaml:"concurrency"`
	Timeout      Duration          `yaml:"timeout" validate:"min=1000000000,max=600000000000"` // of one call: 1 s to 10 min
	Retries      int               `yaml:"retries" validate:"min=0,max=100"`
	MaxRuns      int               `yaml:"max_runs" validate:"min=0,max=100000"` // at once, of all connections with this host; 0 = any number
}

// Standards that are not a version: Auto takes the bundled catalog that fits what the target says it is, and the target's own OpenAPI
// document when none does; Live always takes the document, which knows the target's extensions.
const (
	StandardAuto = "auto"
	StandardLive = "live"
)

// Concurrency bounds how many calls are in flight; between the bounds it follows what the target stands.
type Concurrency struct {
	Min int `yaml:"min" validate:"min=1"`
	Max int `yaml:"max" validate:"gtefield=Min,max=1024"`
}

// Safeguards hold what looks like an accident for a person to judge.
type Safeguards struct {
	Deletes       Limit                         `yaml:"deletes"`      // of each resource
	Updates       Limit                         `yaml:"updates"`      // of each resource
	ShortSource   Limit                         `yaml:"short_source"` // records of each resource that have lost their row
	Run           RunSafeguards                 `yaml:"run"`
	Resources     map[string]ResourceSafeguards `yaml:"resources" validate:"dive"`
	PreventDelete []string                      `yaml:"prevent_delete" validate:"dive,required"`
}

// RunSafeguards are limits of all resources of a run together.
type RunSafeguards struct {
	Deletes Limit `yaml:"deletes"`
	Updates Limit `yaml:"updates"`
}

// ResourceSafeguards are limits of one resource, over those of every resource.
type ResourceSafeguards struct {
	Deletes     LimitOverride `yaml:"deletes"`
	Updates     LimitOverride `yaml:"updates"`
	ShortSource LimitOverride `yaml:"short_source"`
}

// Limit is exceeded by more than Percent of the records and more than Count of them, both.
type Limit struct {
	Percent float64 `yaml:"percent" validate:"gt=0,max=100"`
	Count   int     `yaml:"count" validate:"min=1"`
}

// LimitOverride is a Limit in which zero means what holds for every resource.
type LimitOverride struct {
	Percent float64 `yaml:"percent" validate:"min=0,max=100"`
	Count   int     `yaml:"count" validate:"min=0"`
}

// withDefaults is a part of the configuration that is not zero when the file leaves it out.
type withDefaults interface{ setDefaults() }

func (c *Config) setDefaults() { c.WorkDir = "edfisync-work" }

func (r *Retention) setDefaults() {
	const day = Duration(24 * time.Hour)
	r.Issues, r.Runs, r.Audit = 90*day, 396*day, 1100*day
}

func (s *Service) setDefaults() {
	s.Listen, s.Workers, s.Drain = "127.0.0.1:8780", 4, Duration(25*time.Second)
}

func (q *Quarantine) setDefaults() {
	q.After, q.FirstWait, q.LongestWait = 3, Duration(5*time.Minute), Duration(6*time.Hour)
}

func (r *Retry) setDefaults() {
	r.FirstWait, r.LongestWait = Duration(2*time.Minute), Duration(time.Hour)
}

func (t *Traces) setDefaults() { t.Sample = 1 }

func (a *Alerts) setDefaults() {
	a.Every, a.Quiet, a.FreshWithin, a.Audit = Duration(30*time.Second), Duration(5*time.Minute), Duration(26*time.Hour), Duration(time.Hour)
}

func (s *SMTP) setDefaults() { s.TLS = "starttls" }

func (s *Schedule) setDefaults() { s.TimeZone, s.CatchUp = "UTC", Duration(24*time.Hour) }

func (l *Log) setDefaults() { l.Level, l.Format = slog.LevelWarn, "text" }

func (c *Connection) setDefaults() {
	c.Tenant = defaultTenant
	c.SettleDelay = Duration(5 * time.Second)
	c.Stalled = Duration(15 * time.Minute)
	c.History = Duration(30 * 24 * time.Hour)
}

func (s *Source) setDefaults() {
	s.Readers = 1
	s.StatementTimeout = Duration(30 * time.Minute)
	s.MaxRuns = 8
}

func (t *Target) setDefaults() {
	t.Standard = StandardAuto
	t.Timeout = Duration(30 * time.Second)
	t.Retries = 5
	t.MaxRuns = 8
}

func (c *Concurrency) setDefaults() { c.Min, c.Max = 1, 16 }

func (s *Safeguards) setDefaults() {
	s.Deletes = Limit{Percent: 20, Count: 25}
	s.Updates = Limit{Percent: 50, Count: 1000}
	s.ShortSource = Limit{Percent: 50, Count: 5}
	s.Run.Deletes = Limit{Percent: 10, Count: 250}
	s.Run.Updates = Limit{Percent: 30, Count: 5000}
}

// Connection returns the connection of that name, or, for an empty name, the only one there is. "tenant/name" picks among equal names.
func (c *Config) Connection(name string) (*Connection, bool) {
	var found *Connection
	for i := range c.Connections {
		conn := &c.Connections[i]
		if name == "" || name == conn.Name || name == conn.Tenant+"/"+conn.Name {
			if found != nil {
				return nil, false
			}
			found = conn
		}
	}
	return found, found != nil
}

// Names lists the connections as messages name them, in file order.
func (c *Config) Names() []string {
	names := make([]string, 0, len(c.Connections))
	for i := range c.Connections {
		names = append(names, c.Connections[i].FullName())
	}
	return names
}

// FullName is the name, with the tenant in front when it is not the default one.
func (c *Connection) FullName() string {
	if c.Tenant == defaultTenant {
		return c.Name
	}
	return c.Tenant + "/" + c.Name
}
