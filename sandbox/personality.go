package sandbox

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/edfisync/edfisync/schema"
)

// Personality is the version of the Ed-Fi API a sandbox passes for: its addresses, error bodies and the rules in which versions differ.
type Personality string

// The personalities. The data standard they serve is that of the model; ODS53 really has 3.3b, of which 4.0 is the nearest bundled.
const (
	ODS53 Personality = "ods-5.3" // {"message"} errors, key changes by PUT silently ignored, data standard 4.0
	ODS61 Personality = "ods-6.1" // the same with data standard 4.0
	ODS73 Personality = "ods-7.3" // problem details, cursor paging; any data standard
	DMS   Personality = "dms"     // the Data Management Service, "Ed-Fi API v8"; data standard 5 and later
)

// Personalities are those there are, oldest first.
func Personalities() []Personality { return []Personality{ODS53, ODS61, ODS73, DMS} }

// Standard is the bundled data standard a personality serves when nobody says which.
func (p Personality) Standard() string {
	if p == ODS53 || p == ODS61 {
		return "4.0"
	}
	return "5.2"
}

// traits are what a personality differs in.
type traits struct {
	name          Personality
	version       string
	informational string
	build         string
	application   string

	messages     bool // errors are {"message"} and {"modelState"}; an unresolved person is 400
	swagger      bool // OpenAPI documents are Swagger 2.0
	keepsKeys    bool // a PUT never changes a key that cannot be changed, and says nothing
	lastModified bool // items have _lastModifiedDate
	cursors      bool // page tokens and partitions
	tellsClaims  bool // token_info tells claim set and resources
	dms          bool
}

func (p Personality) traits() (*traits, error) {
	switch p {
	case ODS53:
		return &traits{name: p, version: "5.3", informational: "5.3", build: "5.3.1146.0", messages: true, swagger: true, keepsKeys: true}, nil
	case ODS61:
		return &traits{name: p, version: "6.1", informational: "6.1", build: "6.1.901.0", messages: true, keepsKeys: true}, nil
	case ODS73, "":
		return &traits{
			name: ODS73, version: "7.3", informational: "7.3.2", build: "7.3.2.0", application: "Ed-Fi Alliance ODS/API",
			lastModified: true, cursors: true, tellsClaims: true,
		}, nil
	case DMS:
		return &traits{
			name: p, version: "8.0", informational: "8.0.0", build: "8.0.0", application: "Ed-Fi API",
			lastModified: true, cursors: true, tellsClaims: true, dms: true,
		}, nil
	}
	return nil, fmt.Errorf("there is no personality %q; there are %s", p, joinNames(Personalities()))
}

func joinNames(all []Personality) string {
	names := make([]string, len(all))
	for i, p := range all {
		names[i] = string(p)
	}
	return strings.Join(names, ", ")
}

// serves says whether a version of the API can have a model's data standard.
func (l *traits) serves(m *schema.Model) error {
	major, _, _ := strings.Cut(m.Standard, ".")
	n, err := strconv.Atoi(major)
	switch {
	case err != nil: // a model that does not say
		return nil
	case l.messages && n > 4:
		return fmt.Errorf("%s does not serve data standard %s; use 4.0", l.name, m.Standard)
	case l.dms && n < 5:
		return fmt.Errorf("%s does not serve data standard %s; use 5.2", l.name, m.Standard)
	}
	return nil
}

// appendETag prints the version of a record as the personality does, without quotes.
func (l *traits) appendETag(dst []byte, t ticks) []byte {
	dst = t.appendETag(dst)
	if l.dms { // content version, hash, format, profile, links, content coding
		dst = append(dst, '-')
		hash := strconv.FormatUint(uint64(t)*0x9e3779b97f4a7c15>>32, 16)
		for range 8 - len(hash) {
			dst = append(dst, '0')
		}
		dst = append(dst, hash...)
		dst = append(dst, ".j._.l.i"...)
	}
	return dst
}

// pageSize is how many items a page has when nobody says.
func (l *traits) pageSize() int {
	if l.dms {
		return DefaultPageLimit
	}
	return 25
}

func (l *traits) tokenType() string {
	if l.dms {
		return "Bearer"
	}
	return "bearer"
}

// routes are where a sandbox's addresses lie. The inner form of a path, which the handlers know, is that of an ODS/API 7.3 without tenant and
// year.
type routes struct {
	root    string   // before everything: "", "/api/tenant/2026"
	data    string   // root and what comes before a resource: "/data/v3/"
	mounts  []mount  // outer path → inner path; the first that fits counts
	context []string // segments a 7.3 or DMS host wants behind its own root, and their placeholders
	holders []string
}

// mount maps paths that begin with outer to inner. exact: nothing may follow.
type mount struct {
	outer, inner string
	exact        bool
}

// Route narrows a sandbox's addresses as hosts with many tenants or years do. The sandbox holds one set of records: addresses of any other
// tenant or year are not there.
type Route struct {
	Tenant     string // 7.3 and DMS
	SchoolYear int    // 5.3 and 6.1: behind the area ("Year Specific"); 7.3 and DMS: behind the tenant
}

func (l *traits) routes(o Route) (*routes, error) {
	year := ""
	if o.SchoolYear != 0 {
		year = "/" + strconv.Itoa(o.SchoolYear)
	}
	switch {
	case l.messages && o.Tenant != "":
		return nil, fmt.Errorf("%s has no tenants in its routes", l.name)
	case strings.ContainsAny(o.Tenant, "/{}?#% "):
		return nil, errors.New("a tenant is one segment of a URL's path")
	case l.messages:
		return &routes{data: "/data/v3" + year + "/", mounts: []mount{
			{"/data/v3" + year + "/", dataPrefix, false},
			{"/metadata/data/v3" + year + "/", "/metadata/data/v3/", false},
			{"/metadata" + year, metadataPrefix, true},
			{changeQueriesPrefix[:len(changeQueriesPrefix)-1] + year + "/", changeQueriesPrefix, false},
			{"/oauth/", "/oauth/", false},
			{"/", "/", true},
		}}, nil
	}
	r := &routes{}
	if l.dms {
		r.root = "/api"
	}
	base := r.root
	for _, c := range [][2]string{{o.Tenant, "{tenantIdentifier}"}, {strings.TrimPrefix(year, "/"), "{schoolYearFromRoute}"}} {
		if c[0] != "" {
			r.context, r.holders = append(r.context, c[0]), append(r.holders, c[1])
			r.root += "/" + c[0]
		}
	}
	r.data = r.root + "/data/v3/"
	r.mounts = []mount{{r.root + "/", "/", false}, {r.root, "/", true}}
	if l.dms {
		r.data = r.root + "/data/"
		r.mounts = []mount{
			{r.data, dataPrefix, false},
			{r.root + "/metadata/dependencies", "/metadata/data/v3/dependencies", true},
			{r.root + "/metadata/specifications/resources-spec.json", "/metadata/data/v3/resources/swagger.json", true},
			{r.root + "/metadata/specifications/descriptors-spec.json", "/metadata/data/v3/descriptors/swagger.json", true},
			{r.root + "/metadata/specifications", metadataPrefix + "/", true},
			{r.root + "/metadata", metadataIndex, true},
			{r.root + changeQueriesPrefix, changeQueriesPrefix, false},
			{r.root + "/oauth/", "/oauth/", false},
			{r.root, "/", true},
		}
	}
	if len(r.context) > 0 {
		r.mounts = append(r.mounts, mount{base, rootTemplate, true})
	}
	return r, nil
}

// Inner paths of what an ODS does not have.
const (
	metadataIndex = "/metadata-index"
	rootTemplate  = "/root-template"
)

// plain says that inner and outer paths are the same.
func (r *routes) plain() bool { return r.root == "" && len(r.context) == 0 && r.data == dataPrefix }

// inner translates a request's path; false when nothing is there.
func (r *routes) inner(path string) (string, bool) {
	if r.plain() || strings.HasPrefix(path, adminPrefix) {
		return path, true
	}
	for _, m := range r.mounts {
		switch {
		case m.exact && strings.EqualFold(strings.TrimRight(path, "/"), strings.TrimRight(m.outer, "/")):
			return m.inner, true
		case !m.exact && len(path) >= len(m.outer) && strings.EqualFold(path[:len(m.outer)], m.outer):
			return m.inner + path[len(m.outer):], true
		}
	}
	return "", false
}

// urls are the addresses of the root document. template gives those of a host's own root, with placeholders for tenant and year.
func (l *traits) urls(base string, r *routes, template bool) map[string]string {
	root := base + r.root
	if template {
		root = base + strings.TrimSuffix(r.root, "/"+strings.Join(r.context, "/")) + "/" + strings.Join(r.holders, "/")
	}
	switch {
	case l.dms:
		return map[string]string{
			"dependencies": root + "/metadata/dependencies", "openApiMetadata": root + "/metadata/specifications", "oauth": root + "/oauth/token",
			"tokenInfo": root + "/oauth/token_info", "dataManagementApi": root + "/data", "changeQueries": root + changeQueriesPrefix,
		}
	case l.messages:
		year := strings.Trim(strings.TrimPrefix(r.data, "/data/v3"), "/")
		out := map[string]string{
			"dependencies": base + "/metadata/data/v3/dependencies", "openApiMetadata": base + "/metadata/", "oauth": base + "/oauth/token",
			"dataManagementApi": base + "/data/v3/",
		}
		if l.name != ODS53 { // whose root document does not name its change queries
			out["changeQueries"] = base + changeQueriesPrefix
		}
		if year != "" { // and no trailing slashes then
			out["dependencies"] = base + "/metadata/data/v3/" + year + "/dependencies"
			out["openApiMetadata"] = base + "/metadata/" + year
			out["dataManagementApi"] = base + "/data/v3/" + year
			if l.name != ODS53 {
				out["changeQueries"] = base + changeQueriesPrefix + year
			}
		}
		return out
	}
	return map[string]string{
		"dependencies": root + "/metadata/data/v3/dependencies", "openApiMetadata": root + "/metadata/", "oauth": root + "/oauth/token",
		"oauthTokenIntrospection": root + "/oauth/token_info", "dataManagementApi": root + "/data/v3/", "changeQueries": root + changeQueriesPrefix,
	}
}

// sections lists the OpenAPI documents.
func (l *traits) sections(base string, r *routes) []metadataSection {
	if l.dms {
		at := base + r.root + "/metadata/specifications/"
		return []metadataSection{{"Descriptors", at + "descriptors-spec.json", ""}, {"Resources", at + "resources-spec.json", ""}}
	}
	at := base + r.root + metadataPrefix + strings.TrimPrefix(r.data, r.root)
	return []metadataSection{{"Descriptors", at + "descriptors/swagger.json", ""}, {"Resources", at + "resources/swagger.json", ""}}
}

// apiMode is what versions before 7 say of their deployment.
func (l *traits) apiMode(r *routes) string {
	switch {
	case !l.messages:
		return ""
	case r.data != dataPrefix:
		return "Year Specific"
	}
	return "Shared Instance"
}

// jsonNames gives the texts of a DMS, which name properties as JSON does.
func (c *catalog) jsonNames() {
	var walk func(s *shape)
	walk = func(s *shape) {
		for i := range s.props {
			p := &s.props[i]
			p.title = p.Name
			if p.shape != nil {
				walk(p.shape)
			}
		}
	}
	for _, t := range c.tables {
		walk(t.shape)
	}
}

// withOldKey gives a payload the key its record has. Versions before 7 ignore another key in a PUT and take the rest; nobody is told. It
// returns false when the record, or something its key refers to, is gone.
func (st *store) withOldKey(d *draft, a address, root int32) bool {
	t := a.table
	body, ok := renderer{st: st, bare: true}.record(nil, a)
	if !ok {
		return false
	}
	old := &draft{body: body, end: len(body)}
	oldRoot, err := old.read(t.shape)
	if err != nil {
		return false
	}
	for i, k := range t.res.Key {
		p, from := old.scalarAt(t.shape, oldRoot, t.key[i].path.steps)
		if from == nil {
			continue
		}
		value := *from
		if p.Kind == schema.String || p.Kind == schema.Decimal || p.Kind == schema.Descriptor {
			value.lo = uint32(len(d.body))
			d.body = append(d.body, old.text(from)...)
			value.hi = uint32(len(d.body))
		}
		set := aligner{d: d, value: &value}
		for _, dotted := range k.Paths {
			if steps, _, err := t.shape.steps(dotted); err == nil {
				set.walk(t.shape, root, steps, nil, nil, true)
			}
		}
		for _, g := range t.unify { // places that must hold the same value
			if !slices.ContainsFunc(g.paths, func(at path) bool { return slices.Contains(k.Paths, at.dotted) }) {
				continue
			}
			for _, at := range g.paths {
				set.walk(t.shape, root, at.steps, nil, nil, true)
			}
		}
	}
	return true
}
