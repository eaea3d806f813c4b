package source

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// The directives a query file's header may hold.
const (
	dirResource = "resource"
	dirPath     = "path"
	dirDirty    = "dirty"
)

func directives() []string { return []string{dirResource, dirPath, dirDirty} }

// header is what the comment lines before a statement say.
type header struct {
	resource     string
	resourceLine int
	paths        map[string]string
	pathLines    map[string]int
	dirty        []Dirty
}

// parseQuery reads one query file: its header and its statement. The query is nil when nothing can be said about its columns.
func parseQuery(part, file, text, driver string) (*Query, []*PackError) {
	var problems []*PackError
	add := func(line int, message, near string) {
		problems = append(problems, &PackError{File: file, Line: line, Message: message, Nearest: near})
	}
	if !utf8.ValidString(text) {
		add(0, "is not UTF-8", "")
		return nil, problems
	}
	st, wrong := parseStatement(text, 1, driver)
	h := parseHeader(st.comments, add)
	for _, p := range wrong {
		add(p.line, p.message, "")
	}
	if driver == Postgres {
		for _, n := range st.quoted {
			if len(n.name) > postgresNameBytes {
				problems = append(problems, &PackError{File: file, Line: n.line, Column: n.name, Message: fmt.Sprintf(
					"is %d bytes long and PostgreSQL cuts names at %d: choose a short alias and add the header line -- path: alias = %s", len(n.name), postgresNameBytes, n.name)})
			}
		}
	}
	q := &Query{Resource: h.resource, Part: part, File: file, SQL: st.text, Paths: h.paths, Dirty: h.dirty, stmt: st, pathLines: h.pathLines}
	if q.Resource == "" {
		q.Resource = "ed-fi/" + part
		if !collectionName(part) {
			add(1, fmt.Sprintf("the header names no resource, and %q is no collection name", part), "")
		}
	}
	return q, problems
}

// postgresNameBytes is NAMEDATALEN - 1 of a PostgreSQL built with defaults.
const postgresNameBytes = 63

// parseHeader reads the directives before the statement, and complains about those after its first word, where they are easily missed.
func parseHeader(comments []lineComment, add func(line int, message, near string)) header {
	h := header{paths: map[string]string{}, pathLines: map[string]int{}}
	for _, c := range comments {
		name, value, ok := directive(c.text)
		if !ok {
			continue
		}
		known := slices.Contains(directives(), name)
		switch {
		case !known && !c.inStatement:
			if near := nearest(name, directives()); near != "" && distance(name, near, 2) == 1 {
				add(c.line, fmt.Sprintf("unknown directive %q", name), near)
			}
		case known && c.inStatement:
			add(c.line, fmt.Sprintf("the directive %q stands after the statement's first word; move it to the top", name), "")
		case known:
			h.directive(name, value, c.line, add)
		}
	}
	return h
}

// directive takes "name: value" apart. A name is one word of letters, so that prose with a colon further on is none.
func directive(comment string) (name, value string, ok bool) {
	name, value, ok = strings.Cut(comment, ":")
	name = strings.TrimSpace(name)
	if !ok || name == "" || strings.HasPrefix(value, ":") {
		return "", "", false
	}
	for _, c := range name {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') {
			return "", "", false
		}
	}
	return strings.ToLower(name), strings.TrimSpace(value), true
}

func (h *header) directive(name, value string, line int, add func(line int, message, near string)) {
	if value == "" {
		add(line, fmt.Sprintf("the directive %q has no value", name), "")
		return
	}
	switch name {
	case dirResource:
		namespace, collection, ok := strings.Cut(strings.TrimPrefix(value, "/"), "/")
		switch {
		case h.resource != "":
			add(line, fmt.Sprintf("a second resource; line %d names %s. One file fills one resource", h.resourceLine, h.resource), "")
		case !ok || !namespaceName(namespace) || !collectionName(collection):
			add(line, fmt.Sprintf("%q is no resource: write schema segment and collection name, as in ed-fi/students", value), "")
		default:
			h.resource, h.resourceLine = namespace+"/"+collection, line
		}
	case dirPath:
		alias, path, ok := strings.Cut(value, "=")
		alias, path = strings.Trim(strings.TrimSpace(alias), `"`), strings.TrimSpace(path)
		switch first, twice := h.pathLines[alias]; {
		case !ok || alias == "" || path == "":
			add(line, "write -- path: alias = dotted.path", "")
		case alias == keyColumn:
			add(line, fmt.Sprintf("%s is the source key and stands for no path", keyColumn), "")
		case twice:
			add(line, fmt.Sprintf("alias %q was given a path at line %d already", alias, first), "")
		default:
			h.paths[alias], h.pathLines[alias] = path, line
		}
	case dirDirty:
		i := strings.LastIndexByte(value, '.')
		if i <= 0 || i == len(value)-1 || strings.ContainsAny(value, " \t") {
			add(line, "write -- dirty: table.column", "")
			return
		}
		h.dirty = append(h.dirty, Dirty{Table: value[:i], Column: value[i+1:], Line: line})
	}
}

// collectionName says whether s can be a collection name of the API: letters and digits, starting with a letter.
func collectionName(s string) bool {
	for i := range len(s) {
		c := s[i]
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}

// namespaceName says whether s can be the schema segment of a URL: "ed-fi", "tpdm", "sample-student".
func namespaceName(s string) bool {
	for i := range len(s) {
		c := s[i]
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !letter && (i == 0 || (c != '-' && c != '_' && (c < '0' || c > '9'))) {
			return false
		}
	}
	return s != ""
}
