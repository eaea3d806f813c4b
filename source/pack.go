package source

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/edfisync/edfisync/schema"
)

// Pack is a mapping pack: the queries that fill Ed-Fi resources, and the maps from local codes to descriptors. It is read-only after
// LoadPack and safe for concurrent use.
type Pack struct {
	Name        string
	Description string
	Standards   []string // Ed-Fi data standard versions it is written for: "4.0", "5.2"
	Drivers     []string // drivers it supports; empty = all
	Namespace   string   // where bare descriptor values live, "uri://ed-fi.org"
	Params      []Param  // sorted by name
	Queries     []*Query // sorted by resource, then part
	Off         []string // resources whose queries were left out, because the connection does not sync them
	Maps        schema.DescriptorMaps
	Watermark   *Query // says how new the source is: one value that grows with every change; nil = the pack has none
}

// Query is one mapping query of a pack, for the driver the pack was loaded for.
type Query struct {
	Resource string            // "ed-fi/students"
	Part     string            // file name up to the first dot: tells several queries for one resource apart
	File     string            // file name in the pack
	SQL      string            // the statement, parameters as :name, without a closing semicolon
	Paths    map[string]string // column alias → dotted path, from -- path: directives
	Dirty    []Dirty           // from -- dirty: directives

	stmt      statement
	pathLines map[string]int
	params    map[string]Param // those the statement uses
}

// Dirty says that a change in a table makes one row of the query dirty: the one whose _key is the column's value.
type Dirty struct {
	Table  string // "student_address", "sis.student_address"
	Column string
	Line   int
}

// PackError is one problem of a pack. Every field but Message may be empty.
type PackError struct {
	File    string
	Line    int    // 1-based; 0 = the whole file
	Column  string // column alias
	Message string
	Nearest string // the nearest valid name or path
	Rows    bool   // rows are wrong, not the pack: a run holds them and sends the others
}

// Error is "file:line: column "x": message (did you mean "y"?)".
func (e *PackError) Error() string {
	var b strings.Builder
	b.WriteString(e.File)
	if e.Line > 0 {
		fmt.Fprintf(&b, ":%d", e.Line)
	}
	if b.Len() > 0 {
		b.WriteString(": ")
	}
	if e.Column != "" {
		fmt.Fprintf(&b, "column %q: ", e.Column)
	}
	b.WriteString(e.Message)
	if e.Nearest != "" {
		fmt.Fprintf(&b, " (did you mean %q?)", e.Nearest)
	}
	return b.String()
}

// LoadPack reads the pack in the root of fsys for a driver. It reports every problem at once: the error joins *PackError values, sorted
// by file and line. It opens no database, so what only the database or the model knows is left to Bind.
func LoadPack(fsys fs.FS, driver string) (*Pack, error) {
	if !slices.Contains(Drivers(), driver) {
		return nil, &PackError{File: packFile, Message: fmt.Sprintf("unknown driver %q", driver), Nearest: nearest(driver, Drivers())}
	}
	l := &packLoader{fsys: fsys, driver: driver, pack: &Pack{Maps: schema.DescriptorMaps{}}}
	l.manifest()
	l.files()
	l.checkParams()
	if len(l.problems) > 0 {
		return nil, joinProblems(l.problems)
	}
	slices.SortFunc(l.pack.Queries, func(a, b *Query) int {
		return cmp.Or(cmp.Compare(a.Resource, b.Resource), cmp.Compare(a.Part, b.Part))
	})
	return l.pack, nil
}

// Problems lists the *PackError values an error of LoadPack, Bind or Check joins.
func Problems(err error) []*PackError {
	var out []*PackError
	var one *PackError
	switch e := err.(type) { //nolint:errorlint // a joined error is taken apart here, not matched
	case nil:
	case interface{ Unwrap() []error }:
		for _, err := range e.Unwrap() {
			out = append(out, Problems(err)...)
		}
	default:
		if errors.As(err, &one) {
			out = append(out, one)
		}
	}
	return out
}

func joinProblems(problems []*PackError) error {
	slices.SortStableFunc(problems, func(a, b *PackError) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	errs := make([]error, len(problems))
	for i, p := range problems {
		errs[i] = p
	}
	return errors.Join(errs...)
}

// packLoader gathers one pack and its problems.
type packLoader struct {
	fsys     fs.FS
	driver   string
	pack     *Pack
	problems []*PackError
}

func (l *packLoader) problem(p PackError) { l.problems = append(l.problems, &p) }

func (l *packLoader) read(name string) ([]byte, bool) {
	b, err := fs.ReadFile(l.fsys, name)
	if err != nil {
		var pe *fs.PathError
		if errors.As(err, &pe) {
			err = pe.Err
		}
		l.problem(PackError{File: name, Message: "cannot be read: " + err.Error()})
		return nil, false
	}
	return bytes.TrimPrefix(b, []byte("\ufeff")), true
}

// files walks the pack: query files in its root, maps in descriptors.yaml and descriptors/*.csv. What would be ignored without notice
// is a problem.
func (l *packLoader) files() {
	variants := map[string]map[string]string{} // NAME → driver or "" → file
	maps := newMapReader(l)
	err := fs.WalkDir(l.fsys, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir():
			if name != "." && strings.HasPrefix(d.Name(), ".") {
				return fs.SkipDir
			}
		case path.Ext(name) == ".sql":
			l.variant(variants, name)
		case name == packFile:
		case name == mapsFile:
			maps.yaml(name)
		case path.Ext(name) == ".csv" && path.Dir(name) == mapsDir:
			maps.csv(name)
		case path.Ext(name) == ".csv", path.Ext(name) == ".yaml", path.Ext(name) == ".yml":
			l.problem(PackError{File: name, Message: "is no file of a pack: maps are descriptors.yaml and descriptors/*.csv"})
		}
		return nil
	})
	if err != nil {
		l.problem(PackError{Message: "list the pack: " + err.Error()})
	}
	if len(variants) == 0 || len(variants) == 1 && variants[markStem] != nil {
		l.problem(PackError{Message: "the pack has no query (no *.sql file)"})
	}
	for name, files := range variants {
		file, ok := files[l.driver]
		if !ok {
			file, ok = files[""]
		}
		if !ok {
			l.problem(PackError{File: name + ".sql", Message: fmt.Sprintf("is missing, and there is no %s.%s.sql: on this driver the query would fall away", name, l.driver)})
			continue
		}
		if name == markStem {
			l.watermark(file)
			continue
		}
		l.query(name, file)
	}
}

// markStem is the name of the query that gives the watermark.
const markStem = "watermark"

// watermark reads watermark.sql.
func (l *packLoader) watermark(file string) {
	text, ok := l.read(file)
	if !ok {
		return
	}
	if l.pack.Watermark != nil {
		l.problem(PackError{File: file, Message: "the pack has a watermark in " + packFile + " too: keep one"})
		return
	}
	l.pack.Watermark = l.markQuery(file, string(text))
}

// markQuery is the query of a watermark. It fills no resource, so it needs no columns of any name.
func (l *packLoader) markQuery(file, text string) *Query {
	st, wrong := parseStatement(text, 1, l.driver)
	for _, p := range wrong {
		l.problem(PackError{File: file, Line: p.line, Message: p.message})
	}
	return &Query{Part: markStem, File: file, SQL: st.text, stmt: st}
}

func (l *packLoader) variant(variants map[string]map[string]string, name string) {
	if path.Dir(name) != "." {
		l.problem(PackError{File: name, Message: "query files belong in the pack's own folder, not in a sub-folder"})
		return
	}
	stem, driver, _ := strings.Cut(strings.TrimSuffix(name, ".sql"), ".")
	if stem == "" {
		l.problem(PackError{File: name, Message: "has no name before the first dot"})
		return
	}
	if driver != "" && !slices.Contains(Drivers(), driver) {
		l.problem(PackError{File: name, Message: fmt.Sprintf("unknown driver %q in the file name; known: %s", driver, strings.Join(Drivers(), ", ")), Nearest: nearest(driver, Drivers())})
		return
	}
	if variants[stem] == nil {
		variants[stem] = map[string]string{}
	}
	variants[stem][driver] = name
}

// query reads one query file.
func (l *packLoader) query(part, file string) {
	text, ok := l.read(file)
	if !ok {
		return
	}
	q, problems := parseQuery(part, file, string(text), l.driver)
	l.problems = append(l.problems, problems...)
	if q != nil {
		l.pack.Queries = append(l.pack.Queries, q)
	}
}

// checkParams matches the parameters used with those declared.
func (l *packLoader) checkParams() {
	declared := map[string]Param{}
	var names []string
	for _, p := range l.pack.Params {
		declared[p.Name] = p
		names = append(names, p.Name)
	}
	queries := l.pack.Queries
	if l.pack.Watermark != nil {
		queries = append(slices.Clone(queries), l.pack.Watermark)
	}
	for _, q := range queries {
		q.params = map[string]Param{}
		for _, ref := range q.stmt.params {
			p, ok := declared[ref.name]
			if !ok {
				l.problem(PackError{File: q.File, Line: ref.line, Message: fmt.Sprintf("parameter :%s is not declared in %s", ref.name, packFile), Nearest: nearest(ref.name, names)})
				continue
			}
			q.params[ref.name] = p
		}
	}
}
