package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/edfisync/edfisync/syncdb"
)

// Written is a connection as somebody wrote it down, to be kept in the ledger: references are not resolved, and defaults not filled in.
type Written struct {
	Tenant, Name string
	Text         json.RawMessage   // in one spelling: keys in the order of config.example.yaml. It holds no secret
	Secrets      map[string][]byte // secrets that were written in clear, by the names of the sealed ones that Text refers to instead (I15)
	Sealed       []string          // all sealed secrets that Text refers to
	SealedAt     map[string]string // where: the key, by the secret's name
	Needs        []Need
	Unresolved   []Problem   // references that nothing stands behind on this machine; another one may know them
	Connection   *Connection // what it means, as far as its references can be resolved here
	Line         int         // where it begins in its file; 0 = it was in none
}

// FullName is the name, with the tenant in front when it is not the default one.
func (w *Written) FullName() string { return (&Connection{Tenant: w.Tenant, Name: w.Name}).FullName() }

// Need is something that a connection takes from the machine it runs on.
type Need struct {
	Path     string // of the key: source.dsn
	Variable string // an environment variable
	File     string // or a file or folder
}

// Environment is what values are resolved against.
type Environment struct {
	Dir    string                                    // relative paths begin here
	Lookup func(name string) (value string, ok bool) // of environment variables
	Blind  bool                                      // nothing is looked at: no reference stands for anything
}

// ReadConnections reads the connections of a file of the configuration's shape, whose other parts may be left out. The problems name their lines.
func ReadConnections(file string, text []byte, env Environment) ([]Written, Problems) {
	root, problem := document(text)
	if problem != nil {
		problem.File = file
		return nil, Problems{*problem}
	}
	out, problems := written(root, env)
	if len(problems) == 0 && len(out) == 0 {
		problems = Problems{{Line: root.Line, Path: "connections", Message: "want at least 1 of them"}}
	}
	for i := range problems {
		problems[i].File = file
	}
	return out, problems
}

// ReadConnection reads one connection that is written as JSON: what stands below "- " in the configuration. The paths of problems begin in it.
func ReadConnection(text []byte, env Environment) (*Written, Problems) {
	node, err := jsonNode(text)
	if err != nil {
		return nil, Problems{{Message: err.Error()}}
	}
	out, problems := written(listOf(node), env)
	for i := range problems {
		problems[i].Path, problems[i].Line = strings.TrimPrefix(strings.TrimPrefix(problems[i].Path, "connections[0]"), "."), 0
	}
	if len(problems) > 0 {
		return nil, problems
	}
	return &out[0], nil
}

// Decoded is the connection that a definition means on this machine.
type Decoded struct {
	*Connection       // as far as it can be read; its name is right
	Err         error // why it cannot be used
}

// Decode returns the connections that definitions mean on this machine, in their order. What is wrong with one does not concern the others.
func Decode(definitions []syncdb.Definition, env Environment) []Decoded {
	out := make([]Decoded, len(definitions))
	var nodes []*yaml.Node
	var at []int // in out, of each node
	for i := range definitions {
		d := &definitions[i]
		node, err := jsonNode(d.Text)
		if err != nil {
			out[i] = Decoded{&Connection{Tenant: d.Tenant, Name: d.Name, Version: d.Version}, fmt.Errorf("connection %s of the ledger: %w", d.Name, err)}
			continue
		}
		nodes, at = append(nodes, node), append(at, i)
	}
	cfg, decoder := decodeConnections(listOf(nodes...), env, false)
	wrong := map[int]Problems{}
	for _, problem := range decoder.problems {
		var n int
		if _, err := fmt.Sscanf(problem.Path, "connections[%d]", &n); err != nil {
			continue // there is nothing but connections
		}
		problem.Path = strings.TrimPrefix(strings.TrimPrefix(problem.Path, fmt.Sprintf("connections[%d]", n)), ".")
		problem.Line = 0
		wrong[n] = append(wrong[n], problem)
	}
	for n, i := range at {
		d, conn := &definitions[i], &cfg.Connections[n]
		conn.Tenant, conn.Name, conn.Version = d.Tenant, d.Name, d.Version
		out[i].Connection = conn
		if problems := wrong[n]; len(problems) > 0 {
			for j := range problems {
				problems[j].File = "connection " + conn.FullName() + " of the ledger"
			}
			out[i].Err = problems
			continue
		}
		conn.resolve(env.Dir)
	}
	return out
}

// listOf is a configuration of these connections.
func listOf(connections ...*yaml.Node) *yaml.Node {
	list := &yaml.Node{Kind: yaml.SequenceNode, Content: connections}
	return &yaml.Node{Kind: yaml.MappingNode, Content: []*yaml.Node{{Kind: yaml.ScalarNode, Value: "connections"}, list}}
}

func decodeConnections(root *yaml.Node, env Environment, lenient bool) (*Config, *decoder) {
	var cfg Config
	applyDefaults(reflect.ValueOf(&cfg).Elem())
	d := &decoder{expand: expander{dir: env.Dir, lookup: env.Lookup, blind: env.Blind}.expand, lines: map[string]int{}, lenient: lenient}
	d.decode(root, reflect.ValueOf(&cfg).Elem(), "")
	d.problems = append(d.problems, check(&cfg, d.lines, slices.Concat(d.problems, d.unresolved))...)
	return &cfg, d
}

// written reads the connections below root without resolving their references.
func written(root *yaml.Node, env Environment) ([]Written, Problems) {
	cfg, d := decodeConnections(root, env, true)
	list := child(root, "connections")
	var out []Written
	for i := range cfg.Connections {
		conn, path := &cfg.Connections[i], fmt.Sprintf("connections[%d]", i)
		node := list.Content[i]
		w := Written{Tenant: conn.Tenant, Name: conn.Name, Secrets: map[string][]byte{}, SealedAt: map[string]string{}, Line: node.Line}
		if len(conn.Resources) == 0 && len(d.problems) == 0 {
			d.fail(node.Line, join(path, "resources"), "a connection in the ledger names what it syncs: nothing is on by itself", "list the resources, or say [all] for all that the pack maps")
		}
		for _, problem := range d.unresolved {
			if strings.HasPrefix(problem.Path, path+".") {
				w.Unresolved = append(w.Unresolved, problem)
			}
		}
		if len(d.problems) == 0 {
			c := canonical{w: &w, d: d, driver: conn.Source.Driver}
			c.add(node, reflect.TypeFor[Connection](), path, "")
			w.Text = json.RawMessage(c.out.Bytes())
			slices.Sort(w.Sealed)
			w.Sealed = slices.Compact(w.Sealed)
		}
		conn.resolve(env.Dir)
		w.Connection = conn
		out = append(out, w)
	}
	slices.SortStableFunc(d.problems, func(a, b Problem) int { return a.Line - b.Line })
	return out, d.problems
}

// defaultTenant is the tenant of a connection that names none.
const defaultTenant = "default"

// canonical writes a connection in one spelling, and notes on the way what it refers to.
type canonical struct {
	w      *Written
	d      *decoder
	driver string
	out    bytes.Buffer
}

// add writes a node that was decoded into the type before. path is where it stands in the file, key where in the connection.
func (c *canonical) add(node *yaml.Node, typ reflect.Type, path, key string) {
	if node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	if typ == reflect.TypeFor[Secret]() {
		c.string(c.secret(node, path, key))
		return
	}
	if reflect.PointerTo(typ).Implements(reflect.TypeFor[interface{ UnmarshalText([]byte) error }]()) {
		c.value(node.Value, key)
		return
	}
	switch typ.Kind() {
	case reflect.Struct:
		c.out.WriteByte('{')
		first := true
		for i, name := range keysOf(typ) {
			value := child(node, name)
			if name == "-" || value == nil || value.Tag == "!!null" || key == "" && name == "tenant" && value.Value == defaultTenant {
				continue
			}
			c.key(name, &first)
			c.add(value, typ.Field(i).Type, join(path, name), join(key, name))
		}
		c.out.WriteByte('}')
	case reflect.Map:
		c.out.WriteByte('{')
		first := true
		for _, name := range sortedKeys(node) {
			c.key(name, &first)
			c.add(child(node, name), typ.Elem(), join(path, name), join(key, name))
		}
		c.out.WriteByte('}')
	case reflect.Slice:
		c.out.WriteByte('[')
		for i, item := range node.Content {
			if i > 0 {
				c.out.WriteByte(',')
			}
			index := "[" + strconv.Itoa(i) + "]"
			c.add(item, typ.Elem(), path+index, key+index)
		}
		c.out.WriteByte(']')
	case reflect.Bool:
		if v, err := strconv.ParseBool(node.Value); err == nil {
			c.out.WriteString(strconv.FormatBool(v))
			return
		}
		c.value(node.Value, key)
	case reflect.Int, reflect.Float64:
		if v, err := strconv.ParseFloat(node.Value, 64); err == nil {
			c.out.WriteString(strconv.FormatFloat(v, 'f', -1, 64))
			return
		}
		c.value(node.Value, key)
	default:
		c.value(node.Value, key)
	}
}

func sortedKeys(node *yaml.Node) []string {
	if node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	var keys []string
	for i := 0; i+1 < len(node.Content); i += 2 {
		keys = append(keys, node.Content[i].Value)
	}
	slices.Sort(keys)
	return keys
}

func (c *canonical) key(name string, first *bool) {
	if !*first {
		c.out.WriteByte(',')
	}
	*first = false
	c.string(name)
	c.out.WriteByte(':')
}

func (c *canonical) string(s string) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(s) // strings always encode
	c.out.Write(bytes.TrimSuffix(b.Bytes(), []byte("\n")))
}

var reference = regexp.MustCompile(`\$?\$\{[^}]*\}`)

// references lists what stands in ${ } in a value.
func references(text string) []string {
	var names []string
	for _, match := range reference.FindAllString(text, -1) {
		if !strings.HasPrefix(match, "$$") {
			names = append(names, match[2:len(match)-1])
		}
	}
	return names
}

// value writes a text, and notes what it needs.
func (c *canonical) value(text, key string) {
	c.needs(text, key)
	if key == "pack" && !strings.HasPrefix(text, EmbeddedPack) {
		c.w.Needs = append(c.w.Needs, Need{Path: key, File: text})
	}
	c.string(text)
}

func (c *canonical) needs(text, key string) {
	for _, name := range references(text) {
		if secret, sealed := strings.CutPrefix(name, "sealed:"); sealed {
			c.w.Sealed = append(c.w.Sealed, secret)
			c.w.SealedAt[secret] = key
		} else if file, isFile := strings.CutPrefix(name, "file:"); isFile {
			c.w.Needs = append(c.w.Needs, Need{Path: key, File: file})
		} else {
			c.w.Needs = append(c.w.Needs, Need{Path: key, Variable: name})
		}
	}
}

// secret returns what is written for a value that is one: what refers to secrets stays, and what is one in clear becomes a sealed one.
func (c *canonical) secret(node *yaml.Node, path, key string) string {
	text := node.Value
	refers := len(references(text)) > 0
	clear := !refers
	if key == "source.dsn" {
		clear = clearPassword(c.driver, text)
		if c.driver == "sqlite" {
			c.w.Needs = append(c.w.Needs, Need{Path: key, File: text})
		}
	}
	switch {
	case clear && refers:
		c.d.fail(node.Line, path, "holds a password in clear", "refer to it as well, or to a sealed secret that is the whole value")
	case clear:
		value, err := c.d.expand(text)
		if err != nil {
			c.d.fail(node.Line, path, err.Error(), "")
			return ""
		}
		name := c.w.Name + "." + key[strings.LastIndexByte(key, '.')+1:]
		c.w.Secrets[name] = []byte(value)
		text = syncdb.SecretReference(name)
	}
	c.needs(text, key)
	return text
}

var (
	keyValuePassword = regexp.MustCompile(`(?i)\b(?:ssl)?password\s*=\s*('[^']*'|\S*)`)
	adoPassword      = regexp.MustCompile(`(?i)\b(?:password|pwd)\s*=\s*([^;]*)`)
)

// clearPassword reports whether a connection string of the driver holds a password that is no reference. When it cannot tell, it does.
func clearPassword(driver, dsn string) bool {
	const referred = "edfisyncreferred"
	text := reference.ReplaceAllString(dsn, referred)
	secret := func(s string) bool { return strings.Trim(strings.ReplaceAll(s, referred, ""), "'") != "" }
	inURL := func() bool {
		u, err := url.Parse(text)
		if err != nil {
			return true
		}
		password, _ := u.User.Password()
		for name, values := range u.Query() {
			if lower := strings.ToLower(name); strings.Contains(lower, "password") || lower == "pwd" {
				password += strings.Join(values, "")
			}
		}
		return secret(password)
	}
	matches := func(pattern *regexp.Regexp) bool {
		return slices.ContainsFunc(pattern.FindAllStringSubmatch(text, -1), func(m []string) bool { return secret(m[1]) })
	}
	switch {
	case text == referred:
		return false
	case driver == "sqlite":
		return false
	case driver == "postgres" && strings.Contains(text, "://"), driver == "sqlserver" && strings.HasPrefix(text, "sqlserver://"):
		return inURL()
	case driver == "postgres":
		return matches(keyValuePassword)
	case driver == "sqlserver":
		return matches(adoPassword)
	case driver == "mysql":
		at := strings.LastIndexByte(text, '@')
		if at < 0 {
			return false
		}
		_, password, _ := strings.Cut(text[:at], ":")
		return secret(password)
	}
	return true
}

// Refused returns a problem for each thing that a connection takes from the machine and that its maker may not use: what references do not allow. What
// the version before took at the same place is allowed.
func (w *Written) Refused(allowed References, before []Need, dir string) Problems {
	var problems Problems
	for _, need := range w.Needs {
		if slices.Contains(before, need) {
			continue
		}
		switch {
		case need.Variable != "" && !slices.ContainsFunc(allowed.Variables, func(pattern string) bool { return matchName(pattern, need.Variable) }):
			problems = append(problems, Problem{
				Path: need.Path, Message: "the environment variable may not be referred to over the API",
				Remedy: "keep it as a sealed secret, or allow it with service.references.variables",
			})
		// A reference or a URL could stand for any file.
		case strings.Contains(need.File, "${") || strings.HasPrefix(need.File, "file:") || need.File != "" && !slices.ContainsFunc(allowed.Folders, func(folder string) bool { return within(folder, absolute(dir, need.File)) }):
			problems = append(problems, Problem{
				Path: need.Path, Message: "the file or folder may not be referred to over the API", Remedy: "allow its folder with service.references.folders",
			})
		}
	}
	return problems
}

// within reports whether a path is the folder or below it, symbolic links followed as far as they exist.
func within(folder, path string) bool {
	for _, p := range []*string{&folder, &path} {
		if real, err := filepath.EvalSymlinks(*p); err == nil {
			*p = real
		}
	}
	rel, err := filepath.Rel(folder, path)
	return err == nil && filepath.IsLocal(rel)
}

// matchName matches a name with a pattern in which * stands for any text.
func matchName(pattern, name string) bool {
	parts := strings.Split(pattern, "*")
	for i, part := range parts {
		parts[i] = regexp.QuoteMeta(part)
	}
	ok, err := regexp.MatchString("^"+strings.Join(parts, ".*")+"$", name)
	return ok && err == nil
}

// jsonNode reads a JSON document as the node of a configuration file.
func jsonNode(text []byte) (*yaml.Node, error) {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	node, err := readNode(decoder, 0)
	if err != nil {
		return nil, fmt.Errorf("is not JSON: %w", err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("is not JSON: there is more after its end")
	}
	return node, nil
}

// deepest is how deep a definition nests at most; it needs four levels.
const deepest = 12

func readNode(decoder *json.Decoder, depth int) (*yaml.Node, error) {
	if depth > deepest {
		return nil, errors.New("it nests too deep")
	}
	token, err := decoder.Token()
	if errors.Is(err, io.EOF) {
		return nil, io.ErrUnexpectedEOF
	}
	if err != nil {
		return nil, err
	}
	switch v := token.(type) {
	case json.Delim:
		node := &yaml.Node{Kind: yaml.SequenceNode}
		if v == '{' {
			node.Kind = yaml.MappingNode
		}
		for decoder.More() { // of an object keys and values in turn
			item, err := readNode(decoder, depth+1)
			if err != nil {
				return nil, err
			}
			node.Content = append(node.Content, item)
		}
		_, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return node, err
	case nil:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!null"}, nil
	case string:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: v}, nil
	default:
		return &yaml.Node{Kind: yaml.ScalarNode, Value: fmt.Sprint(v)}, nil // a number as it was written, or true or false
	}
}

// YAML writes definitions as a file of the configuration's shape.
func YAML(definitions []syncdb.Definition) ([]byte, error) {
	list := &yaml.Node{Kind: yaml.SequenceNode}
	for i := range definitions {
		node, err := jsonNode(definitions[i].Text)
		if err != nil {
			return nil, fmt.Errorf("connection %s: %w", definitions[i].Name, err)
		}
		list.Content = append(list.Content, node)
	}
	root := &yaml.Node{Kind: yaml.MappingNode, Content: []*yaml.Node{{Kind: yaml.ScalarNode, Value: "connections"}, list}}
	var out bytes.Buffer
	enc := yaml.NewEncoder(&out)
	enc.SetIndent(2)
	err := enc.Encode(root)
	return out.Bytes(), errors.Join(err, enc.Close())
}

// Clone is a definition under another name, and of another school year when that is not 0. Its secrets are left out: where there was one, or a reference
// to one, is the place of a sealed secret that has the clone's name.
func Clone(text json.RawMessage, name string, year int) (json.RawMessage, error) {
	root, err := jsonNode(text)
	if err != nil {
		return nil, err
	}
	set := func(node *yaml.Node, key, value string) {
		if at := child(node, key); at != nil {
			*at = yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: value}
		}
	}
	set(root, "name", name)
	if year != 0 {
		set(root, "school_year", strconv.Itoa(year))
	}
	if source := child(root, "source"); source != nil && child(source, "driver").Value != "sqlite" { // the path of a file is no secret
		set(source, "dsn", syncdb.SecretReference(name+".dsn"))
	}
	if target := child(root, "target"); target != nil {
		set(target, "client_secret", syncdb.SecretReference(name+".client_secret"))
	}
	return nodeJSON(root), nil
}

// nodeJSON writes a node that jsonNode could have read.
func nodeJSON(node *yaml.Node) json.RawMessage {
	var c canonical
	var write func(node *yaml.Node)
	write = func(node *yaml.Node) {
		switch {
		case node.Kind == yaml.MappingNode:
			c.out.WriteByte('{')
			first := true
			for i := 0; i+1 < len(node.Content); i += 2 {
				c.key(node.Content[i].Value, &first)
				write(node.Content[i+1])
			}
			c.out.WriteByte('}')
		case node.Kind == yaml.SequenceNode:
			c.out.WriteByte('[')
			for i, item := range node.Content {
				if i > 0 {
					c.out.WriteByte(',')
				}
				write(item)
			}
			c.out.WriteByte(']')
		case node.Tag == "!!str":
			c.string(node.Value)
		case node.Tag == "!!null":
			c.out.WriteString("null")
		default:
			c.out.WriteString(node.Value)
		}
	}
	write(node)
	return json.RawMessage(c.out.Bytes())
}

// FieldChange is what a change makes of one key.
type FieldChange struct {
	Path string `json:"path"`           // target.url
	From string `json:"from,omitempty"` // "" = it was left out
	To   string `json:"to,omitempty"`   // "" = it is left out
}

// Changes compares two definitions key by key. nil is one without keys.
func Changes(from, to json.RawMessage) ([]FieldChange, error) {
	before, order, err := flat(from)
	if err != nil {
		return nil, err
	}
	after, also, err := flat(to)
	if err != nil {
		return nil, err
	}
	var out []FieldChange
	for _, path := range also {
		if before[path] != after[path] {
			out = append(out, FieldChange{path, before[path], after[path]})
		}
	}
	for _, path := range order {
		if _, still := after[path]; !still {
			out = append(out, FieldChange{path, before[path], ""})
		}
	}
	return out, nil
}

// flat lists the values of a definition by path; a list of values is one.
func flat(text json.RawMessage) (values map[string]string, order []string, err error) {
	values = map[string]string{}
	if text == nil {
		return values, nil, nil
	}
	root, err := jsonNode(text)
	if err != nil {
		return nil, nil, err
	}
	var walk func(node *yaml.Node, path string)
	set := func(path, value string) { values[path] = value; order = append(order, path) }
	walk = func(node *yaml.Node, path string) {
		switch {
		case node.Kind == yaml.MappingNode && len(node.Content) > 0:
			for i := 0; i+1 < len(node.Content); i += 2 {
				walk(node.Content[i+1], join(path, node.Content[i].Value))
			}
		case node.Kind == yaml.SequenceNode && len(node.Content) > 0 && node.Content[0].Kind == yaml.MappingNode:
			for i, item := range node.Content {
				walk(item, path+"["+strconv.Itoa(i)+"]")
			}
		case node.Kind == yaml.ScalarNode:
			set(path, node.Value)
		default:
			items := make([]string, len(node.Content))
			for i, item := range node.Content {
				items[i] = item.Value
			}
			set(path, "["+strings.Join(items, ", ")+"]")
		}
	}
	walk(root, "")
	return values, order, nil
}
