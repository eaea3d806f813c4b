package sandbox

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/edfisync/edfisync/schema"
)

// Defaults of Options, as an ODS/API 7.3 is shipped (its appsettings).
const (
	DefaultTokenLifetime = 30 * time.Minute // BearerTokenTimeoutMinutes
	DefaultMaxTokens     = 15               // BearerTokenPerClientLimit
	DefaultPageLimit     = 500              // DefaultPageSizeLimit
)

// Options says what a sandbox serves. Model and a client are required, everything else has a working zero value.
type Options struct {
	Model        *schema.Model
	ClientID     string // an API client that may do everything; may be "" when Clients has one. May not hold a colon
	ClientSecret string // may not hold a colon either

	Clients   []Client   // further API clients, each with its own claim set; ids must differ
	ClaimSets []ClaimSet // claim sets beside, or in place of, the shipped ones

	Personality Personality // the version of the API it passes for; "" means ODS73
	Route       Route       // tenant and school year in its addresses

	Store string // path of the SQLite file everything is kept in; "" keeps it in memory only

	SchoolYears []int                    // school years that exist at start as schoolYearTypes; the last one is current
	Descriptors []schema.DescriptorValue // descriptor values that exist at start; nil means Model.DescriptorValues()

	CaseInsensitiveKeys bool // natural keys that differ only in case or trailing spaces are equal, as on SQL Server with its usual collation

	Latency       time.Duration // added to every answer under /data, to imitate a distant or slow host
	TokenLifetime time.Duration // 0 means DefaultTokenLifetime
	MaxTokens     int           // live tokens a client may have; 0 means DefaultMaxTokens
	PageLimit     int           // largest limit and pageSize; 0 means DefaultPageLimit

	BaseURL string           // base of the URLs in answers when clients reach the sandbox under another name, without what Personality and Route put behind it; "" means as the request says
	Logger  *slog.Logger     // nil discards; never gets payloads
	Now     func() time.Time // clock; nil means time.Now
}

func (o *Options) setDefaults() error {
	switch {
	case o.Model == nil:
		return errors.New("sandbox: Model is required")
	case o.PageLimit < 0 || o.MaxTokens < 0 || o.TokenLifetime < 0 || o.Latency < 0:
		return errors.New("sandbox: PageLimit, MaxTokens, TokenLifetime and Latency may not be negative")
	}
	seen := map[string]bool{}
	for _, c := range o.clients() {
		if err := c.check(); err != nil {
			return fmt.Errorf("sandbox: %w", err)
		}
		if seen[c.ID] {
			return fmt.Errorf("sandbox: there are two clients %s", c.ID)
		}
		seen[c.ID] = true
	}
	for _, y := range o.SchoolYears {
		if y < 1900 || y > 2200 {
			return fmt.Errorf("sandbox: %d is not a school year", y)
		}
	}
	o.BaseURL = strings.TrimRight(o.BaseURL, "/")
	if o.Descriptors == nil {
		o.Descriptors = o.Model.DescriptorValues()
	}
	if o.TokenLifetime == 0 {
		o.TokenLifetime = DefaultTokenLifetime
	}
	if o.MaxTokens == 0 {
		o.MaxTokens = DefaultMaxTokens
	}
	if o.PageLimit == 0 {
		o.PageLimit = DefaultPageLimit
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return nil
}
