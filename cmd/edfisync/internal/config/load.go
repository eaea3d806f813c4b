package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-playground/validator/v10"
	"go.yaml.in/yaml/v3"

	"github.com/edfisync/edfisync/internal/httpd"
	"github.com/edfisync/edfisync/jobs"
)

// Problem is one thing that is wrong with a configuration file.
type Problem struct {
	File    string `json:"file"`
	Line    int    `json:"line,omitempty"` // 0 = the file as a whole
	Path    string `json:"path,omitempty"` // connections[0].target.url
	Message string `json:"message"`
	Remedy  string `json:"remedy,omitempty"`
}

// Error is the problem on one line: file:line: path: message (remedy).
func (p Problem) Error() string {
	text := p.File
	if p.Line > 0 {
		text += ":" + strconv.Itoa(p.Line)
	}
	if p.Path != "" {
		text += ": " + p.Path
	}
	text += ": " + p.Message
	if p.Remedy != "" {
		text += " (" + p.Remedy + ")"
	}
	return strings.TrimPrefix(text, ": ") // what is in no file
}

// Problems is everything that is wrong with a configuration file, by line. It is the error Load returns.
type Problems []Problem

// Error is one line for each problem.
func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i, problem := range p {
		lines[i] = problem.Error()
	}
	return strings.Join(lines, "\n")
}

// Load reads a configuration file. The error is Problems: every problem at once. The file's paths come back absolute; relative ones are
// relative to the file's folder. lookup gives environment variables (os.LookupEnv).
func Load(file string, lookup func(name string) (string, bool)) (*Config, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, Problems{{
			File: file, Message: "cannot be read: " + cause(err).Error(),
			Remedy: "name it with --config; config.example.yaml is one to start from",
		}}
	}
	dir, err := filepath.Abs(filepath.Dir(file))
	if err != nil {
		return nil, Problems{{File: file, Message: err.Error()}}
	}
	cfg, problems := parse(text, expander{dir: dir, lookup: lookup})
	if len(problems) > 0 {
		for i := range problems {
			problems[i].File = file
		}
		return nil, problems
	}
	cfg.resolve(dir)
	return cfg, nil
}

func parse(text []byte, expand expander) (*Config, Problems) {
	root, problem := document(text)
	if problem != nil {
		return nil, Problems{*problem}
	}
	var cfg Config
	applyDefaults(reflect.ValueOf(&cfg).Elem())
	d := decoder{expand: expand.expand, lines: map[string]int{}}
	d.decode(root, reflect.ValueOf(&cfg).Elem(), "")
	d.problems = append(d.problems, check(&cfg, d.lines, d.problems)...)
	slices.SortStableFunc(d.problems, func(a, b Problem) int { return a.Line - b.Line })
	return &cfg, d.problems
}

var yamlLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?`)

// document returns the top node of the one YAML document in text.
func document(text []byte) (*yaml.Node, *Problem) {
	var doc yaml.Node
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	err := decoder.Decode(&doc)
	if errors.Is(err, io.EOF) {
		return nil, &Problem{Message: "is empty", Remedy: "config.example.yaml is one to start from"}
	}
	if err != nil {
		match := yamlLine.FindStringSubmatch(err.Error())
		if match == nil {
			return nil, &Problem{Message: "is not YAML: " + err.Error()}
		}
		line, _ := strconv.Atoi(match[1]) // the pattern has digits or nothing there
		return nil, &Problem{Line: line, Message: "is not YAML: " + err.Error()[len(match[0]):]}
	}
	var second yaml.Node
	if err := decoder.Decode(&second); !errors.Is(err, io.EOF) {
		return nil, &Problem{Line: second.Line, Message: "has more than one YAML document", Remedy: "keep one, without --- lines"}
	}
	return doc.Content[0], nil
}

var ledgerDSN = regexp.MustCompile(`^(postgres(ql)?://|sqlite:)`)

var slug = regexp.MustCompile(`^[a-z0-9]([a-z0-9_-]*[a-z0-9])?$`)

// check applies the validation tags and the rules they cannot say. Keys that could not be decoded are not reported again.
func check(cfg *Config, lines map[string]int, known []Problem) []Problem {
	validate := validator.New(validator.WithRequiredStructEnabled())
	validate.RegisterTagNameFunc(func(field reflect.StructField) string { return field.Tag.Get("yaml") })
	if err := validate.RegisterValidation("network", func(field validator.FieldLevel) bool {
		_, err := httpd.ParseNetworks([]string{field.Field().String()})
		return err == nil
	}); err != nil {
		panic(err) // only for an empty tag name
	}
	if err := validate.RegisterValidation("egress", func(field validator.FieldLevel) bool {
		_, err := httpd.ParseEgress([]string{field.Field().String()})
		return err == nil
	}); err != nil {
		panic(err) // only for an empty tag name
	}
	if err := validate.RegisterValidation("origin", func(field validator.FieldLevel) bool { return isOrigin(field.Field().String()) }); err != nil {
		panic(err) // only for an empty tag name
	}
	if err := validate.RegisterValidation("slug", func(field validator.FieldLevel) bool { return slug.MatchString(field.Field().String()) }); err != nil {
		panic(err) // only for an empty tag name
	}
	reported := map[string]bool{}
	for _, problem := range known {
		reported[problem.Path] = true
	}
	var problems []Problem
	add := func(path, message, remedy string) {
		if !reported[path] {
			problems = append(problems, Problem{Line: lineOf(lines, path), Path: path, Message: message, Remedy: remedy})
		}
	}
	var invalid validator.ValidationErrors
	if errors.As(validate.Struct(cfg), &invalid) {
		for _, field := range invalid {
			_, path, _ := strings.Cut(field.Namespace(), ".")
			message, remedy := explain(field)
			add(path, message, remedy)
		}
	}
	if dsn := cfg.Ledger.DSN.Reveal(); dsn != "" && !ledgerDSN.MatchString(dsn) {
		add("ledger.dsn", "want postgres://… or sqlite:PATH", "leave it out for a SQLite file in work_dir")
	}
	for i := range cfg.Connections {
		if message, remedy := wrongAddress(cfg.Connections[i].Target.URL); message != "" {
			add(fmt.Sprintf("connections[%d].target.url", i), message, remedy)
		}
	}
	for i := range cfg.Connections {
		cron := cfg.Connections[i].Schedule.Cron
		if cron == "" {
			continue
		}
		if _, err := (jobs.Schedule{Cron: cron}).Parse(); err != nil {
			add(fmt.Sprintf("connections[%d].schedule.cron", i), err.Error(), "0 2 * * * is every night at two")
		}
	}
	receivers := map[string]bool{}
	for i, w := range cfg.Service.Alerts.Webhooks {
		at := fmt.Sprintf("service.alerts.webhooks[%d]", i)
		if u, err := url.Parse(w.URL.Reveal()); w.URL != "" && (err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil) {
			add(at+".url", "want an address that begins with https:// or http://, without user and password", "")
		}
		if receivers[w.Name] {
			add(at+".name", "is already the name of another webhook", "names of webhooks are unique")
		}
		receivers[w.Name] = true
	}
	for i := range cfg.Connections {
		for _, alone := range []string{AllResources, NoResources} {
			if names := cfg.Connections[i].Resources; len(names) > 1 && slices.Contains(names, alone) {
				add(fmt.Sprintf("connections[%d].resources", i), "names "+alone+" beside others", "keep "+alone+" alone, or leave it out")
			}
		}
		zone, err := time.LoadLocation(cfg.Connections[i].Schedule.TimeZone)
		if err != nil {
			zone = time.UTC // its validation tag says so
		}
		for j, pause := range cfg.Connections[i].Pauses {
			path := fmt.Sprintf("connections[%d].pauses[%d]", i, j)
			from, err := moment(pause.From, zone)
			if err != nil && pause.From != "" {
				add(path+".from", err.Error(), "")
			}
			to, err := moment(pause.To, zone)
			switch {
			case err != nil && pause.To != "":
				add(path+".to", err.Error(), "")
			case !from.IsZero() && !to.IsZero() && !to.After(from):
				add(path+".to", "must be after from", "it is the first moment after the pause")
			}
		}
	}
	first := map[string]int{}
	for i := range cfg.Connections {
		name := cfg.Connections[i].FullName()
		if earlier, twice := first[name]; twice && name != "" {
			add(fmt.Sprintf("connections[%d].name", i), fmt.Sprintf("is already the name of connections[%d]", earlier), "names are unique within a tenant")
			continue
		}
		first[name] = i
	}
	return problems
}

// wrongAddress says what of an API's address does not belong there. It never repeats it: it may hold a password.
func wrongAddress(address string) (message, remedy string) {
	u, err := url.Parse(address)
	switch {
	case err != nil:
		return "", "" // its validation tag says so
	case u.User != nil:
		return "must not hold a user name or password", "credentials go into client_id and client_secret"
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return "must end before ? and #", "the API's root, as it is opened in a browser"
	}
	return "", ""
}

// lineOf is the line of a path, or of the nearest part of the file that would hold it.
func lineOf(lines map[string]int, path string) int {
	for path != "" {
		if line, ok := lines[path]; ok {
			return line
		}
		path = path[:max(strings.LastIndexAny(path, ".["), 0)]
	}
	return lines[""]
}

// explain says in words which rule a value breaks. It never repeats the value.
func explain(field validator.FieldError) (message, remedy string) {
	switch field.Tag() {
	case "required":
		return "is required", ""
	case "oneof":
		return "want one of: " + strings.Join(strings.Fields(field.Param()), ", "), ""
	case "slug":
		return "want lower-case letters, digits, - and _", "it becomes part of file names, metrics and addresses"
	case "http_url":
		return "want an address that begins with https:// or http://", "the API's root, as it is opened in a browser"
	case "hostname_port":
		return "want HOST:PORT, such as 127.0.0.1:8780 or :8780", ""
	case "network":
		return "want a network, such as 10.0.0.0/8 or 2001:db8::/32, or one address", ""
	case "origin":
		return "want the origin of pages, such as https://sis.example.org or http://localhost:3000", "without a path"
	case "egress":
		return "want a network, an address or the name of a host, such as 10.20.0.0/16, 127.0.0.1 or hooks.district.example", ""
	case "ne":
		return "must not be " + field.Param(), "it names the mails"
	case "required_with":
		return "is required beside " + strings.ToLower(field.Param()), ""
	case "timezone":
		return "want a time zone of the IANA database, such as America/Chicago", "UTC is the default"
	case "gtefield":
		return "must not be less than " + strings.ToLower(field.Param()), ""
	case "excluded_with":
		other := "key_file"
		if field.Param() == "Key" {
			other = "key"
		}
		return "is given beside " + other, "keep one of them"
	case "gt":
		return "must be more than " + field.Param(), ""
	case "min", "max":
		return limit(field), ""
	default:
		return "breaks the rule " + field.Tag(), ""
	}
}

func limit(field validator.FieldError) string {
	word := map[string]string{"min": "at least", "max": "at most"}[field.Tag()]
	param := field.Param()
	switch field.Kind() {
	case reflect.Slice:
		return "want " + word + " " + param + " of them"
	case reflect.String:
		return "want " + word + " " + param + " characters"
	case reflect.Int64:
		n, err := strconv.ParseInt(param, 10, 64)
		if err == nil && field.Type() == reflect.TypeFor[Duration]() {
			param = Duration(n).String()
		}
	}
	return "want " + word + " " + param
}

// resolve makes the paths of the file absolute.
func (c *Config) resolve(dir string) {
	c.WorkDir = absolute(dir, c.WorkDir)
	if path, isFile := strings.CutPrefix(c.Ledger.DSN.Reveal(), SQLiteLedger); isFile {
		c.Ledger.DSN = Secret(SQLiteLedger + absolute(dir, path))
	}
	c.Ledger.KeyFile = absolute(dir, c.Ledger.KeyFile)
	c.Ledger.Next.KeyFile = absolute(dir, c.Ledger.Next.KeyFile)
	for i, folder := range c.Service.References.Folders {
		c.Service.References.Folders[i] = absolute(dir, folder)
	}
	c.Ledger.Witness = absolute(dir, c.Ledger.Witness)
	c.Service.TLS.Certificate = absolute(dir, c.Service.TLS.Certificate)
	c.Service.TLS.Key = absolute(dir, c.Service.TLS.Key)
	for i := range c.Connections {
		c.Connections[i].resolve(dir)
	}
}

func (c *Connection) resolve(dir string) {
	if len(c.Resources) == 1 && c.Resources[0] == AllResources {
		c.Resources = nil
	}
	if !strings.HasPrefix(c.Pack, EmbeddedPack) {
		c.Pack = absolute(dir, c.Pack)
	}
	if dsn := c.Source.DSN; c.Source.Driver == "sqlite" && !strings.HasPrefix(dsn.Reveal(), "file:") && len(dsn.Sealed()) == 0 {
		c.Source.DSN = Secret(absolute(dir, dsn.Reveal()))
	}
}

// SQLiteLedger begins the DSN of a ledger in a SQLite file.
const SQLiteLedger = "sqlite:"

// AllResources, alone in the list of resources, means all that the pack maps, as no list does.
const AllResources = "all"

// NoResources, alone in the list of resources, means that all are off: what was sent can be removed then.
const NoResources = "none"

// Off reports whether all resources are off.
func (c *Connection) Off() bool { return len(c.Resources) == 1 && c.Resources[0] == NoResources }

// EmbeddedPack begins the name of a mapping pack that is part of the program.
const EmbeddedPack = "embedded:"

// cause is the innermost error: for a file, what is wrong without the path a second time.
func cause(err error) error {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err
		}
		err = inner
	}
}

// isOrigin reports whether a text is an origin as browsers write it, and nothing that would mean more in a policy: scheme, host, perhaps a port.
func isOrigin(text string) bool {
	u, err := url.Parse(text)
	return err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Host != "" && text == u.Scheme+"://"+u.Host && !strings.ContainsAny(u.Host, "*;, '\"\r\n\t")
}
