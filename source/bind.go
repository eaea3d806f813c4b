package source

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/lib/pq"

	"github.com/edfisync/edfisync/schema"
)

// Bound is a query matched with the model: what it yields is known, compiled and complete.
type Bound struct {
	Query     *Query
	Resource  *schema.Resource
	Template  *schema.Template
	Columns   []string // as Rows.Columns of the query names them
	KeyColumn int      // index of _key in a row; the mapped columns are before it
	Warnings  []string // what is odd but allowed: ignored columns
}

// Values is the part of a row the template encodes: the mapped columns.
func (b *Bound) Values(row [][]byte) [][]byte { return row[:b.KeyColumn:b.KeyColumn] }

// Key is the row's source key; nil when the source gave NULL.
func (b *Bound) Key(row [][]byte) []byte { return row[b.KeyColumn] }

// Bind asks the source for the columns of every query of the pack, without running any, and compiles them against the model. maps are added
// to the pack's own and win over them. The queries are described in the snapshot, or in one of its own when s is nil.
// Every problem is reported at once: the error joins *PackError values (see Problems); any other error means that the source could not be asked.
func (d *DB) Bind(ctx context.Context, s *Snapshot, p *Pack, m *schema.Model, rules schema.Rules, extra schema.DescriptorMaps) ([]*Bound, error) {
	if s == nil {
		own, err := d.snapshot(ctx, 1)
		if err != nil {
			return nil, err
		}
		defer func() { _ = own.Close() }()
		s = own
	}
	b := &binder{db: d, snapshot: s, model: m, rules: rules, problems: p.checkGiven(d.cfg.Params)}
	b.mergeMaps(p, extra)
	if len(b.problems) > 0 {
		return nil, joinProblems(b.problems) // without values no query can be described
	}
	var out []*Bound
	for _, q := range p.Queries {
		bound, err := b.bind(ctx, q)
		if err != nil {
			return nil, err
		}
		if bound != nil {
			out = append(out, bound)
		}
	}
	if len(b.problems) > 0 {
		return nil, joinProblems(b.problems)
	}
	return out, nil
}

// binder gathers the bound queries of one pack and its problems.
type binder struct {
	db       *DB
	snapshot *Snapshot
	model    *schema.Model
	rules    schema.Rules
	maps     schema.DescriptorMaps
	problems []*PackError
}

// mergeMaps adds the configured codes to a copy of the pack's.
func (b *binder) mergeMaps(p *Pack, extra schema.DescriptorMaps) {
	b.maps = make(schema.DescriptorMaps, len(p.Maps))
	for descriptor, codes := range p.Maps {
		b.maps[descriptor] = maps.Clone(codes)
	}
	for _, descriptor := range slices.Sorted(maps.Keys(extra)) {
		for _, code := range slices.Sorted(maps.Keys(extra[descriptor])) {
			uri, err := DescriptorURI(p.Namespace, descriptor, extra[descriptor][code])
			if err != nil {
				b.problems = append(b.problems, &PackError{Message: "configured descriptor map: " + err.Error()})
				continue
			}
			if b.maps[descriptor] == nil {
				b.maps[descriptor] = map[string]string{}
			}
			b.maps[descriptor][code] = uri
		}
	}
}

func (b *binder) problem(q *Query, column, message, near string) {
	b.problems = append(b.problems, &PackError{File: q.File, Line: q.line(column), Column: column, Message: message, Nearest: near})
}

// line is where a column's alias is written: in a -- path: directive or quoted in the statement.
func (q *Query) line(alias string) int {
	if n, ok := q.pathLines[alias]; ok {
		return n
	}
	for i := len(q.stmt.quoted) - 1; i >= 0; i-- { // the last one is the outermost select's more often than not
		if q.stmt.quoted[i].name == alias && alias != "" {
			return q.stmt.quoted[i].line
		}
	}
	return 0
}

// bind describes and compiles one query. It returns nil when the query has problems, and an error when the source could not be asked.
func (b *binder) bind(ctx context.Context, q *Query) (*Bound, error) {
	resource, known := b.model.Resource(q.Resource)
	if !known {
		paths := make([]string, len(b.model.Resources))
		for i, r := range b.model.Resources {
			paths[i] = r.Path
		}
		b.problems = append(b.problems, &PackError{File: q.File, Message: fmt.Sprintf("the data standard %s has no resource %s", b.model.Standard, q.Resource), Nearest: nearest(q.Resource, paths)})
	}
	names, err := b.snapshot.describe(ctx, q)
	var refused *Error
	switch {
	case err == nil:
	case ctx.Err() != nil, errors.Is(err, errNoReader), !errors.As(err, &refused), !refused.statement:
		return nil, err
	default:
		b.problems = append(b.problems, &PackError{File: q.File, Line: b.db.errorLine(q, err), Message: refused.text()})
		return nil, nil //nolint:nilnil // the problem is noted
	}
	before := len(b.problems)
	bound := &Bound{Query: q, Resource: resource}
	columns := b.columns(q, names, bound)
	if !known {
		return nil, nil //nolint:nilnil // the problem is noted
	}
	template, wrong := b.model.Compile(resource, columns, b.maps, b.rules)
	for _, p := range wrong {
		b.problem(q, p.Column, p.Message, p.Nearest)
	}
	if len(b.problems) > before {
		return nil, nil //nolint:nilnil // the problems are noted
	}
	bound.Template = template
	return bound, nil
}

// columns checks the names a query yields, as far as that needs no model, and gives those that are mapped.
func (b *binder) columns(q *Query, names []string, bound *Bound) []schema.Column {
	var columns []schema.Column
	for _, i := range arrange(names, q.Paths) {
		name := names[i]
		bound.Columns = append(bound.Columns, name)
		if path, short := q.Paths[name]; short {
			columns = append(columns, schema.Column{Name: name, Path: path})
		} else if name != keyColumn {
			columns = append(columns, schema.Column{Name: name, Path: name})
		}
	}
	for _, alias := range slices.Sorted(maps.Keys(q.Paths)) {
		if !slices.Contains(names, alias) {
			b.problem(q, alias, "has a -- path: directive, but the query has no such column", nearest(alias, names))
		}
	}
	for _, name := range names {
		if _, mapped := q.Paths[name]; strings.HasPrefix(name, "_") && !mapped && name != keyColumn && name != personColumn {
			bound.Warnings = append(bound.Warnings, fmt.Sprintf("%s: column %q is ignored, as its name starts with _", q.File, name))
		}
	}
	switch n := count(names, keyColumn); {
	case n == 0:
		b.problems = append(b.problems, &PackError{File: q.File, Column: keyColumn, Message: `is missing: select the row's stable source key as "_key"`, Nearest: nearest(keyColumn, names)})
	case n > 1:
		b.problem(q, keyColumn, "is selected twice", "")
	}
	bound.KeyColumn = len(bound.Columns) - 1
	return columns
}

func count(names []string, name string) int {
	n := 0
	for _, s := range names {
		if s == name {
			n++
		}
	}
	return n
}

// sqliteNumber is what SQLite adds to the second of two equal names of a derived table. No path of the model has a colon.
var sqliteNumber = regexp.MustCompile(`:[0-9]+$`) //nolint:gochecknoglobals // compiled once, never written

// describe asks the database for a query's columns without running it.
func (s *Snapshot) describe(ctx context.Context, q *Query) ([]string, error) {
	text, args, err := s.db.Statement(q)
	if err != nil {
		return nil, &Error{Op: "check", File: q.File, Err: err, statement: true}
	}
	r, err := s.take(ctx)
	if err != nil {
		return nil, &Error{Op: "check", File: q.File, Err: fmt.Errorf("wait for a connection: %w", err)}
	}
	defer s.release(r)
	names, err := s.db.inSavepoint(ctx, r, func() ([]string, error) {
		rows, err := r.conn.QueryxContext(ctx, s.db.dialect.describe(text), args...)
		if err != nil {
			return nil, err
		}
		names, err := rows.Columns()
		for rows.Next() { //nolint:revive // there is no row; this reads the end
		}
		if s.db.cfg.Driver == SQLite {
			for i, n := range names {
				names[i] = sqliteNumber.ReplaceAllString(n, "")
			}
		}
		return names, errors.Join(err, rows.Err(), rows.Close())
	})
	if err != nil {
		return nil, s.db.failure("check", q.File, err)
	}
	return names, nil
}

// errorLine is the line of the file a database found fault with, 0 when it does not say. The text it was given begins with the file's.
func (d *DB) errorLine(q *Query, err error) int {
	var pqErr *pq.Error
	if !errors.As(err, &pqErr) {
		return 0
	}
	position, err := strconv.Atoi(pqErr.Position)
	if err != nil || position < 1 {
		return 0
	}
	text, _, err := d.Statement(q)
	if err != nil {
		return 0
	}
	runes := []rune(d.dialect.describe(text))
	return 1 + strings.Count(string(runes[:min(position-1, len(runes))]), "\n")
}

// inSavepoint keeps a failing statement from ending the reader's transaction, which PostgreSQL does.
func (d *DB) inSavepoint(ctx context.Context, r *reader, f func() ([]string, error)) ([]string, error) {
	if d.cfg.Driver != Postgres {
		return f()
	}
	if err := execAll(ctx, r.conn, "savepoint edfisync"); err != nil {
		r.failed = true
		return nil, err
	}
	names, err := f()
	if back := execAll(ctx, r.conn, "rollback to savepoint edfisync", "release savepoint edfisync"); back != nil {
		r.failed = true
		return names, errors.Join(err, back)
	}
	return names, err
}
