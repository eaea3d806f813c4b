package edfi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/edfisync/edfisync/internal/failpoint"
)

// Info is what the root document says about the API.
type Info struct {
	ApplicationName      string // "Ed-Fi Alliance ODS/API", "Ed-Fi API"; "" in old versions
	Version              string // "7.3"
	InformationalVersion string // "7.3.2"
	Suite                string // "3"
	Build                string
	APIMode              string // "Sandbox", "Shared Instance", "Year Specific", …; "" since 7.0
	DMS                  bool   // the Data Management Service ("Ed-Fi API v8"), not the ODS/API
	Standard             string // version of the Ed-Fi data model, "5.2.0"; "" if the document lists none
	DataModels           []DataModel
	URLs                 URLs
}

// DataModel is a data model the API serves: the standard or an extension.
type DataModel struct {
	Name                 string `json:"name"`
	Version              string `json:"version"`
	InformationalVersion string `json:"informationalVersion"`
}

// URLs are the API's addresses, absolute, without trailing slash, placeholders filled. "" where the host does not offer one.
type URLs struct {
	Data          string // data management API; resources follow, "/ed-fi/students"
	OAuth         string // token endpoint
	TokenInfo     string
	Dependencies  string
	Metadata      string // list of OpenAPI documents
	ChangeQueries string
}

// rootDocument is the body of GET {base}/, of every version.
type rootDocument struct {
	Version              string      `json:"version"`
	ApplicationName      string      `json:"applicationName"`
	InformationalVersion string      `json:"informationalVersion"`
	Suite                string      `json:"suite"`
	Build                string      `json:"build"`
	APIMode              string      `json:"apiMode"`
	DataModels           []DataModel `json:"dataModels"`
	URLs                 rootURLs    `json:"urls"`
}

type rootURLs struct {
	Dependencies            string `json:"dependencies"`
	OpenAPIMetadata         string `json:"openApiMetadata"`
	OAuth                   string `json:"oauth"`
	OAuthTokenIntrospection string `json:"oauthTokenIntrospection"` // ODS/API
	TokenInfo               string `json:"tokenInfo"`               // DMS
	DataManagementAPI       string `json:"dataManagementApi"`
	ChangeQueries           string `json:"changeQueries"`
}

const (
	maxRootDocument = 1 << 20
	rootTries       = 3 // someone may be waiting for the result of a test
)

// discover finds the root document and fills core.info from it. It tries the base URL as given, then what people give instead of it.
func (c *core) discover(ctx context.Context) error {
	base, err := parseBase(c.config.BaseURL)
	if err != nil {
		return err
	}
	var first *Error
	for _, candidate := range rootCandidates(base) {
		failpoint.Reach(failpoint.DiscoveryBefore, "", "")
		document, err := c.rootDocument(ctx, candidate)
		failpoint.Reach(failpoint.DiscoveryAfter, "", "")
		if err == nil {
			if err := c.read(document, candidate); err != nil {
				return err
			}
			return nil
		}
		if err.Code != "no-root-document" {
			return err
		}
		if first == nil {
			first = err
		} else {
			first.Causes = append(first.Causes, "nor is "+candidate.String()+"/")
		}
	}
	return first
}

// rootCandidates lists where the root document may be, given what a person configured: the base URL itself, without a data route pasted
// along, and with the path the installer gives the API.
func rootCandidates(base *url.URL) []*url.URL {
	at := func(path string) *url.URL {
		u := *base
		u.Path, u.RawPath = strings.TrimRight(path, "/"), ""
		return &u
	}
	path := strings.TrimRight(base.Path, "/")
	candidates := []*url.URL{at(path)}
	lower := strings.ToLower(path)
	for _, tail := range []string{"/data/v3", "/data", "/oauth/token", "/metadata", "/swagger", "/docs"} {
		if strings.HasSuffix(lower, tail) {
			candidates = append(candidates, at(path[:len(path)-len(tail)]))
			break
		}
	}
	if !strings.HasSuffix(lower, "/api") {
		candidates = append(candidates, at(path+"/api"))
	}
	return candidates
}

// rootDocument asks one candidate. Code "no-root-document" says that something answered, but not with a root document.
func (c *core) rootDocument(ctx context.Context, at *url.URL) (*rootDocument, *Error) {
	u := *at
	u.Path += "/"
	answer, err := c.call(ctx, &call{method: http.MethodGet, name: "discovery", url: &u, header: c.plainHeader(), limit: maxRootDocument, tries: rootTries})
	if err != nil {
		if noRootStatus(err) {
			return nil, noRoot(at, fmt.Sprintf("answered %d", err.Status), err)
		}
		return nil, err
	}
	var document rootDocument
	if jsonErr := json.Unmarshal(answer.body, &document); jsonErr != nil {
		return nil, noRoot(at, "answered something that is not JSON", nil)
	}
	if document.URLs.DataManagementAPI == "" {
		return nil, noRoot(at, "answered JSON without urls.dataManagementApi", nil)
	}
	return &document, nil
}

// noRootStatus reports whether an answer means "no root document here", in contrast to "not now".
func noRootStatus(err *Error) bool {
	return err.Status != 0 && err.Status < 500 && err.Status != http.StatusTooManyRequests && err.Status != http.StatusRequestTimeout
}

func noRoot(at *url.URL, got string, answer *Error) *Error {
	e := &Error{
		Class: Stop, Code: "no-root-document", Owner: OwnerMapping, Method: http.MethodGet, Resource: "discovery",
		Title: fmt.Sprintf("%s %s, not the root document of an Ed-Fi API", at.String()+"/", got),
		Hint:  "Set the base URL to the address whose answer is JSON with \"urls\", for example https://host/v7.3/api.",
	}
	if answer != nil {
		e.Status, e.Body = answer.Status, answer.Body
		if answer.Code == moved().code || answer.Code == redirected().code {
			e.Title = fmt.Sprintf("%s redirects; redirects are not followed", at.String()+"/")
			e.Hint = "Set the base URL to where it redirects, if that is the API."
		}
	}
	return e
}

// read turns the root document into Info: placeholders filled, the school year set, foreign hosts rebased.
func (c *core) read(document *rootDocument, base *url.URL) *Error {
	info := Info{
		ApplicationName: document.ApplicationName, Version: document.Version, InformationalVersion: document.InformationalVersion,
		Suite: document.Suite, Build: document.Build, APIMode: document.APIMode, DataModels: document.DataModels,
		DMS: document.ApplicationName == "Ed-Fi API" || document.URLs.TokenInfo != "",
	}
	for _, model := range document.DataModels {
		if strings.EqualFold(model.Name, "Ed-Fi") {
			info.Standard = strings.TrimSuffix(strings.TrimSuffix(model.Version, "-b"), "-a")
		}
	}
	a := addresses{config: c.config, base: base, yearSpecific: strings.Contains(document.APIMode, "Year Specific")}
	if err := a.learn(document.URLs.DataManagementAPI); err != nil {
		return discoveryError(err)
	}
	urls := document.URLs
	info.URLs = URLs{
		Data:          a.resolve(urls.DataManagementAPI),
		OAuth:         a.token(urls.OAuth),
		TokenInfo:     a.token(firstOf(urls.OAuthTokenIntrospection, urls.TokenInfo)),
		Dependencies:  a.resolve(urls.Dependencies),
		Metadata:      a.resolve(urls.OpenAPIMetadata),
		ChangeQueries: a.resolve(urls.ChangeQueries),
	}
	if c.config.TokenURL != "" {
		info.URLs.OAuth = c.config.TokenURL
	}
	if err := errors.Join(a.problems...); err != nil {
		return discoveryError(err)
	}
	if info.URLs.OAuth == "" {
		return discoveryError(errors.New("the root document names no urls.oauth"))
	}
	if a.rebased {
		c.log.Warn("root document names another host; its paths are used on the base URL", "host", a.docHost, "base", base.Host)
	}
	c.info, c.addresses = info, a
	return nil
}

func discoveryError(err error) *Error {
	return &Error{
		Class: Stop, Code: "discovery", Owner: OwnerMapping, Method: http.MethodGet, Resource: "discovery", Err: err,
		Title: "the root document does not fit the configuration",
		Hint:  "Correct the connection's base URL, tenant, school year or context.",
	}
}

func firstOf(values ...string) string {
	for _, value := range values {
		if value != "" {
			return value
		}
	}
	return ""
}

// addresses turns the URLs of one root document into those to call.
type addresses struct {
	config       Config
	base         *url.URL // where the root document was found
	yearSpecific bool     // v5, v6: the year is a segment behind the area

	docRoot  string // path of what the document takes for its own base URL
	docHost  string
	rebased  bool
	problems []error
}

var (
	placeholder = regexp.MustCompile(`\{([A-Za-z0-9_]+)(?::[^}]*)?\}`)
	dataTail    = regexp.MustCompile(`(?i)/data(/v3)?(/\{?\w+\}?){0,2}/?$`)
	yearSegment = regexp.MustCompile(`/(19|20)\d\d(/|$)`)
)

// learn derives the document's own base URL from the address of its data API.
func (a *addresses) learn(data string) error {
	u, err := url.Parse(a.fill(data))
	if err != nil {
		return errors.New("urls.dataManagementApi is not a URL")
	}
	a.problems = nil // resolve reports them again
	u = a.base.ResolveReference(u)
	// What stands before the first placeholder, or else before "/data", is where the document believes itself to be.
	root := dataTail.ReplaceAllString(u.Path, "")
	templated := data
	if strings.Contains(data, "%7") {
		templated = strings.NewReplacer("%7B", "{", "%7b", "{").Replace(data)
	}
	if strings.Contains(templated, "/{") {
		prefix, _, _ := strings.Cut(templated, "/{")
		if p, err := url.Parse(prefix); err == nil && len(p.Path) < len(root) {
			root = p.Path
		}
	}
	a.docRoot, a.docHost = root, u.Host
	if a.config.Tenant != "" && !strings.Contains(data, "{") && !hasSegment(u.Path, a.config.Tenant) {
		return fmt.Errorf("a tenant is configured, but the host has no route for tenants (%s)", u.Path)
	}
	return nil
}

// resolve returns the address to call for one the document names.
func (a *addresses) resolve(raw string) string {
	if raw == "" {
		return ""
	}
	u, err := url.Parse(a.fill(raw))
	if err != nil {
		a.problems = append(a.problems, errors.New("an address in the root document cannot be parsed"))
		return ""
	}
	u = a.base.ResolveReference(u)
	if !sameOrigin(u, a.base) {
		u = a.rebase(u)
	}
	if a.yearSpecific && a.config.SchoolYear != 0 {
		a.setYear(u)
	}
	return strings.TrimRight(u.String(), "/")
}

// token resolves an address that gets credentials. Another host than the base URL's is taken at its word only when it is not merely the
// document's own inner name, and never over a weaker scheme.
func (a *addresses) token(raw string) string {
	if raw == "" {
		return ""
	}
	u, err := url.Parse(a.fill(raw))
	if err != nil {
		a.problems = append(a.problems, errors.New("the token address in the root document cannot be parsed"))
		return ""
	}
	u = a.base.ResolveReference(u)
	switch {
	case sameOrigin(u, a.base):
	case strings.EqualFold(u.Host, a.docHost):
		u = a.rebase(u)
	case u.Scheme != "https" && (u.Scheme != "http" || a.base.Scheme != "http"):
		a.problems = append(a.problems, fmt.Errorf("the root document sends credentials to %s://%s, a weaker scheme than the base URL's", u.Scheme, u.Host))
		return ""
	}
	return strings.TrimRight(u.String(), "/")
}

// rebase keeps the part of an address behind the document's own base URL and puts it behind ours.
func (a *addresses) rebase(u *url.URL) *url.URL {
	a.rebased = true
	out := *a.base
	rest := u.Path
	if root := a.docRoot; len(rest) >= len(root) && strings.EqualFold(rest[:len(root)], root) {
		rest = out.Path + rest[len(root):]
	}
	out.Path, out.RawPath, out.RawQuery = rest, "", u.RawQuery
	return &out
}

// fill substitutes the placeholders of multi-tenant and context-routed hosts.
func (a *addresses) fill(raw string) string {
	if strings.Contains(raw, "%7") {
		raw = strings.NewReplacer("%7B", "{", "%7D", "}", "%7b", "{", "%7d", "}").Replace(raw)
	}
	if !strings.Contains(raw, "{") {
		return raw
	}
	return placeholder.ReplaceAllStringFunc(raw, func(match string) string {
		name := placeholder.FindStringSubmatch(match)[1]
		value := a.value(name)
		if value == "" {
			err := fmt.Errorf("the host's routes need a value for {%s}", name)
			if !slices.ContainsFunc(a.problems, func(p error) bool { return p.Error() == err.Error() }) {
				a.problems = append(a.problems, err)
			}
			return "-"
		}
		return url.PathEscape(value)
	})
}

func (a *addresses) value(name string) string {
	for key, value := range a.config.Context {
		if strings.EqualFold(key, name) {
			return value
		}
	}
	switch lower := strings.ToLower(name); {
	case lower == "tenantidentifier" || lower == "tenant":
		return a.config.Tenant
	case strings.Contains(lower, "year") && a.config.SchoolYear != 0:
		return strconv.Itoa(a.config.SchoolYear)
	}
	return ""
}

// setYear puts the configured school year into an address of a year-specific host, whose document names the current one.
func (a *addresses) setYear(u *url.URL) {
	prefix := len(a.base.Path)
	if prefix > len(u.Path) || !strings.EqualFold(u.Path[:prefix], a.base.Path) {
		prefix = 0
	}
	year := strconv.Itoa(a.config.SchoolYear)
	rest := u.Path[prefix:]
	if at := yearSegment.FindStringIndex(rest); at != nil {
		u.Path = u.Path[:prefix] + rest[:at[0]] + "/" + year + rest[at[0]+len("/2025"):]
		return
	}
	if dataTail.MatchString(u.Path) {
		u.Path = strings.TrimRight(u.Path, "/") + "/" + year
	}
}

func sameOrigin(a, b *url.URL) bool {
	return a.Scheme == b.Scheme && strings.EqualFold(a.Hostname(), b.Hostname()) && port(a) == port(b)
}

func port(u *url.URL) string {
	if p := u.Port(); p != "" {
		return p
	}
	if u.Scheme == "https" {
		return "443"
	}
	return "80"
}

func hasSegment(path, segment string) bool {
	return slices.ContainsFunc(strings.Split(path, "/"), func(s string) bool { return strings.EqualFold(s, segment) })
}
