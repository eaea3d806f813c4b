package config

import (
	"encoding"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// decoder fills structs from a YAML tree. It differs from the library's own decoding in what a configuration needs: it reports every
// problem instead of the first kind of them, knows the line of each key for those who check values later, offers the nearest key for an
// unknown one, expands variables, and never repeats a value, which may be a secret, in a message (I15).
type decoder struct {
	expand   func(text string) (string, error)
	lines    map[string]int // by path: connections[0].target.url
	problems []Problem

	// lenient takes a reference that nothing stands behind on this machine for one that another machine knows.
	lenient    bool
	sealed     bool // the value may refer to a sealed secret
	unresolved []Problem
}

func (d *decoder) fail(line int, path, message, remedy string) {
	d.problems = append(d.problems, Problem{Line: line, Path: path, Message: message, Remedy: remedy})
}

// decode fills to, which holds its defaults, from the node.
func (d *decoder) decode(node *yaml.Node, to reflect.Value, path string) {
	if node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	d.lines[path] = node.Line
	if text, ok := to.Addr().Interface().(encoding.TextUnmarshaler); ok {
		d.text(node, path, text)
		return
	}
	if node.Tag == "!!null" { // "key:" with nothing after it keeps the default
		return
	}
	switch to.Kind() {
	case reflect.Struct:
		d.mapping(node, path, func(key, value *yaml.Node) { d.field(key, value, to, path) })
	case reflect.Map:
		to.Set(reflect.MakeMap(to.Type()))
		d.mapping(node, path, func(key, value *yaml.Node) {
			element := reflect.New(to.Type().Elem()).Elem()
			d.decode(value, element, join(path, key.Value))
			to.SetMapIndex(reflect.ValueOf(key.Value), element)
		})
	case reflect.Slice:
		if node.Kind != yaml.SequenceNode {
			d.fail(node.Line, path, "want a list", "begin each of its lines with a dash")
			return
		}
		if len(node.Content) == 0 { // as when it is left out
			to.SetZero()
			return
		}
		to.Set(reflect.MakeSlice(to.Type(), len(node.Content), len(node.Content)))
		for i, item := range node.Content {
			applyDefaults(to.Index(i))
			d.decode(item, to.Index(i), path+"["+strconv.Itoa(i)+"]")
		}
	default:
		d.scalar(node, to, path)
	}
}

func (d *decoder) mapping(node *yaml.Node, path string, each func(key, value *yaml.Node)) {
	if node.Kind != yaml.MappingNode {
		d.fail(node.Line, path, "want keys with values", `write "key: value" lines, indented below it`)
		return
	}
	seen := map[string]int{}
	for i := 0; i+1 < len(node.Content); i += 2 {
		key := node.Content[i]
		if first, twice := seen[key.Value]; twice {
			message := fmt.Sprintf("is already given on line %d", first)
			if first == 0 { // it was JSON
				message = "is given twice"
			}
			d.fail(key.Line, join(path, key.Value), message, "keep one of them")
			continue
		}
		seen[key.Value] = key.Line
		each(key, node.Content[i+1])
	}
}

func (d *decoder) field(key, value *yaml.Node, to reflect.Value, path string) {
	names := keysOf(to.Type())
	i := slices.Index(names, key.Value)
	names = slices.DeleteFunc(names, func(name string) bool { return name == "-" })
	if i < 0 || key.Value == "-" {
		remedy := "keys here are: " + strings.Join(names, ", ")
		if near := Nearest(key.Value, names); near != "" {
			remedy = "did you mean " + near + "?"
		}
		d.fail(key.Line, join(path, key.Value), "unknown key", remedy)
		return
	}
	d.decode(value, to.Field(i), join(path, key.Value))
	if value.Tag == "!!null" {
		d.lines[join(path, key.Value)] = key.Line
	}
}

func (d *decoder) text(node *yaml.Node, path string, to encoding.TextUnmarshaler) {
	text, ok := d.expanded(node, path)
	if !ok || text == "" {
		return
	}
	if err := to.UnmarshalText([]byte(text)); err != nil {
		message := err.Error()
		if _, level := to.(*slog.Level); level { // its error repeats the text
			message = "want debug, info, warn or error"
		}
		d.fail(node.Line, path, message, "")
	}
}

func (d *decoder) scalar(node *yaml.Node, to reflect.Value, path string) {
	d.sealed = to.Type() == reflect.TypeFor[Secret]() && strings.HasPrefix(path, "connections[") // others are needed to open the ledger
	text, ok := d.expanded(node, path)
	d.sealed = false
	if !ok {
		return
	}
	var err error
	want := ""
	switch to.Kind() {
	case reflect.String:
		to.SetString(text)
	case reflect.Bool:
		want = "want true or false"
		var v bool
		if v, err = strconv.ParseBool(text); err == nil {
			to.SetBool(v)
		}
	case reflect.Int:
		want = "want a whole number"
		var v int
		if v, err = strconv.Atoi(text); err == nil {
			to.SetInt(int64(v))
		}
	case reflect.Float64:
		want = "want a number"
		var v float64
		if v, err = strconv.ParseFloat(text, 64); err == nil && !math.IsNaN(v) && !math.IsInf(v, 0) {
			to.SetFloat(v)
		}
	default:
		panic("config: no rule for type " + to.Type().String()) // a new field's type; the example test meets every field
	}
	if err != nil {
		d.fail(node.Line, path, want, "")
	}
}

// expanded returns the node's text with its variables replaced.
func (d *decoder) expanded(node *yaml.Node, path string) (string, bool) {
	if node.Kind != yaml.ScalarNode {
		d.fail(node.Line, path, "want one value, not a list or keys", "")
		return "", false
	}
	if node.Tag == "!!null" {
		return "", true
	}
	text, err := d.expand(node.Value)
	if err == nil && !d.sealed && strings.Contains(text, sealedMark) {
		err = errors.New("a sealed secret can only stand in source.dsn and target.client_secret of a connection")
	}
	var nothing *unresolvedError
	if d.lenient && errors.As(err, &nothing) {
		d.unresolved = append(d.unresolved, Problem{Line: node.Line, Path: path, Message: err.Error()})
		return "", false
	}
	if err != nil {
		d.fail(node.Line, path, err.Error(), "")
		return "", false
	}
	return text, true
}

// applyDefaults sets the defaults of a struct and of the structs in it.
func applyDefaults(v reflect.Value) {
	if v.Kind() != reflect.Struct {
		return
	}
	for i := range v.NumField() {
		applyDefaults(v.Field(i))
	}
	if part, ok := v.Addr().Interface().(withDefaults); ok {
		part.setDefaults()
	}
}

// keysOf lists the YAML keys of a struct in the order of its fields.
func keysOf(t reflect.Type) []string {
	keys := make([]string, t.NumField())
	for i := range keys {
		keys[i] = t.Field(i).Tag.Get("yaml")
	}
	return keys
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// Nearest returns the candidate that takes the fewest edits to reach, when that is few enough to have been meant.
func Nearest(word string, candidates []string) string {
	best, fewest := "", len(word)/2+1
	for _, candidate := range candidates {
		if n := edits(word, candidate); n < fewest {
			best, fewest = candidate, n
		}
	}
	return best
}

// edits is the Levenshtein distance.
func edits(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			substitute := diagonal
			if a[i] != b[j] {
				substitute++
			}
			diagonal = row[j+1]
			row[j+1] = min(substitute, diagonal+1, row[j]+1)
		}
	}
	return row[len(b)]
}
