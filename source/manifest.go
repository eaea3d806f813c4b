package source

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

const (
	packFile         = "pack.yaml"
	mapsFile         = "descriptors.yaml"
	mapsDir          = "descriptors"
	defaultNamespace = "uri://ed-fi.org"
)

// manifest reads pack.yaml strictly: an unknown key is a problem.
func (l *packLoader) manifest() {
	l.pack.Namespace = defaultNamespace
	root, ok := l.yaml(packFile)
	if !ok {
		return
	}
	seen := map[string]bool{}
	for _, e := range l.mapping(packFile, root, "the file") {
		seen[e.key.Value] = true
		switch e.key.Value {
		case "name":
			l.pack.Name = l.text(packFile, e)
			if !packName(l.pack.Name) {
				l.problem(PackError{File: packFile, Line: e.value.Line, Message: "name: lower-case letters, digits, - and _, starting with a letter"})
			}
		case "description":
			l.pack.Description = l.text(packFile, e)
		case "edfi":
			l.pack.Standards = l.texts(packFile, e)
		case "drivers":
			l.drivers(e)
		case "namespace":
			l.pack.Namespace = strings.TrimSuffix(l.text(packFile, e), "/")
			if !strings.HasPrefix(l.pack.Namespace, "uri://") {
				l.problem(PackError{File: packFile, Line: e.value.Line, Message: "namespace: starts with uri://"})
			}
		case "params":
			l.params(e)
		case markStem:
			l.pack.Watermark = l.markQuery(packFile, l.text(packFile, e))
		default:
			l.unknownKey(packFile, e, []string{"name", "description", "edfi", "drivers", "namespace", "params", markStem})
		}
	}
	for _, k := range []string{"name", "edfi"} {
		if !seen[k] {
			l.problem(PackError{File: packFile, Message: "has no " + k})
		}
	}
}

func (l *packLoader) drivers(e entry) {
	l.pack.Drivers = l.texts(packFile, e)
	for _, d := range l.pack.Drivers {
		if !slices.Contains(Drivers(), d) {
			l.problem(PackError{File: packFile, Line: e.value.Line, Message: fmt.Sprintf("unknown driver %q", d), Nearest: nearest(d, Drivers())})
		}
	}
	if len(l.pack.Drivers) > 0 && !slices.Contains(l.pack.Drivers, l.driver) {
		l.problem(PackError{File: packFile, Line: e.value.Line, Message: fmt.Sprintf("the pack does not support the driver %s (it supports %s)", l.driver, strings.Join(l.pack.Drivers, ", "))})
	}
}

func (l *packLoader) params(e entry) {
	for _, e := range l.mapping(packFile, e.value, "params") {
		p := Param{Name: e.key.Value, Type: "string", Line: e.key.Line}
		if !paramName(p.Name) {
			l.problem(PackError{File: packFile, Line: e.key.Line, Message: fmt.Sprintf("parameter %q: a name is lower-case letters, digits and _, starting with a letter", p.Name)})
		}
		for _, e := range l.mapping(packFile, e.value, "a parameter") {
			switch e.key.Value {
			case "description":
				p.Description = l.text(packFile, e)
			case "type":
				p.Type = l.text(packFile, e)
				if !slices.Contains(paramTypes(), p.Type) {
					l.problem(PackError{File: packFile, Line: e.value.Line, Message: fmt.Sprintf("unknown type %q; known: %s", p.Type, strings.Join(paramTypes(), ", ")), Nearest: nearest(p.Type, paramTypes())})
				}
			case "default":
				p.Default, p.HasDefault = l.text(packFile, e), true
			default:
				l.unknownKey(packFile, e, []string{"description", "type", "default"})
			}
		}
		if p.HasDefault {
			if _, err := p.value(p.Default); err != nil {
				l.problem(PackError{File: packFile, Line: p.Line, Message: fmt.Sprintf("default of parameter %s: %v", p.Name, err)})
			}
		}
		l.pack.Params = append(l.pack.Params, p)
	}
	slices.SortFunc(l.pack.Params, func(a, b Param) int { return cmp.Compare(a.Name, b.Name) })
}

// entry is one member of a YAML mapping.
type entry struct{ key, value *yaml.Node }

// yaml reads a file of one YAML document.
func (l *packLoader) yaml(name string) (*yaml.Node, bool) {
	text, ok := l.read(name)
	if !ok {
		return nil, false
	}
	dec := yaml.NewDecoder(strings.NewReader(string(text)))
	var doc yaml.Node
	if err := dec.Decode(&doc); err != nil {
		if errors.Is(err, io.EOF) {
			return &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Line: 1}, true
		}
		l.yamlError(name, err)
		return nil, false
	}
	var more yaml.Node
	if err := dec.Decode(&more); !errors.Is(err, io.EOF) {
		if err != nil {
			l.yamlError(name, err)
		} else {
			l.problem(PackError{File: name, Line: more.Line, Message: "holds a second document"})
		}
	}
	if len(doc.Content) != 1 {
		return &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Line: 1}, true
	}
	return doc.Content[0], true
}

// yamlErrorLine finds the line in the parser's own messages: "yaml: line 3: …".
var yamlErrorLine = regexp.MustCompile(`^(?:yaml: )?line (\d+): (.*)$`) //nolint:gochecknoglobals // compiled once, never written

func (l *packLoader) yamlError(name string, err error) {
	p := PackError{File: name, Message: strings.TrimPrefix(err.Error(), "yaml: ")}
	if m := yamlErrorLine.FindStringSubmatch(err.Error()); m != nil {
		p.Line, _ = strconv.Atoi(m[1])
		p.Message = m[2]
	}
	l.problem(p)
}

// mapping lists the members of a mapping; a member given twice is a problem and its first value counts.
func (l *packLoader) mapping(file string, n *yaml.Node, what string) []entry {
	if n.Kind == yaml.ScalarNode && n.Tag == "!!null" {
		return nil
	}
	if n.Kind != yaml.MappingNode {
		l.problem(PackError{File: file, Line: n.Line, Message: what + " must be a mapping (name: value)"})
		return nil
	}
	seen := map[string]int{}
	var out []entry
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		if k.Kind != yaml.ScalarNode || k.Tag == "!!merge" {
			l.problem(PackError{File: file, Line: k.Line, Message: "a name must be plain text"})
			continue
		}
		if first, twice := seen[k.Value]; twice {
			l.problem(PackError{File: file, Line: k.Line, Message: fmt.Sprintf("%q is given twice, first at line %d", k.Value, first)})
			continue
		}
		seen[k.Value] = k.Line
		out = append(out, entry{k, v})
	}
	return out
}

// scalar is a value as it is written, so that 09 stays 09.
func (l *packLoader) scalar(file string, e entry) (string, bool) {
	if e.value.Kind != yaml.ScalarNode || e.value.Tag == "!!null" {
		l.problem(PackError{File: file, Line: e.value.Line, Message: fmt.Sprintf("%s must be a text or number", e.key.Value)})
		return "", false
	}
	return e.value.Value, true
}

func (l *packLoader) text(file string, e entry) string {
	s, _ := l.scalar(file, e)
	return s
}

func (l *packLoader) texts(file string, e entry) []string {
	if e.value.Kind != yaml.SequenceNode {
		l.problem(PackError{File: file, Line: e.value.Line, Message: fmt.Sprintf("%s must be a list", e.key.Value)})
		return nil
	}
	var out []string
	for _, v := range e.value.Content {
		if s := l.text(file, entry{e.key, v}); s != "" {
			out = append(out, s)
		}
	}
	if len(out) == 0 {
		l.problem(PackError{File: file, Line: e.value.Line, Message: fmt.Sprintf("%s is empty", e.key.Value)})
	}
	return out
}

func (l *packLoader) unknownKey(file string, e entry, known []string) {
	l.problem(PackError{File: file, Line: e.key.Line, Message: fmt.Sprintf("unknown key %q; known: %s", e.key.Value, strings.Join(known, ", ")), Nearest: nearest(e.key.Value, known)})
}

func packName(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (i == 0 || (c != '-' && c != '_' && (c < '0' || c > '9'))) {
			return false
		}
	}
	return s != ""
}
