package source

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/edfisync/edfisync/schema"
)

// Check does what Bind does, and then runs every query to the end, in the database, to see what only the rows show: that _key is never
// NULL and unique, and that no two rows have the same natural key. It reports every problem at once as Bind does, and returns the bound
// queries beside problems of rows. The database does the counting, but it reads everything: not for a busy hour. SQL Server cannot count over every
// kind of query; such a query is left out.
func (d *DB) Check(ctx context.Context, p *Pack, m *schema.Model, rules schema.Rules, extra schema.DescriptorMaps) ([]*Bound, error) {
	s, err := d.snapshot(ctx, 1)
	if err != nil {
		return nil, err
	}
	defer func() { _ = s.Close() }()
	bound, err := d.Bind(ctx, s, p, m, rules, extra)
	if err != nil {
		return nil, err
	}
	var problems []*PackError
	for _, b := range bound {
		found, err := s.checkRows(ctx, b)
		if err != nil {
			return nil, err
		}
		problems = append(problems, found...)
	}
	if len(problems) > 0 {
		return bound, joinProblems(problems)
	}
	return bound, nil
}

// checkRows counts what is wrong with the keys of one query.
func (s *Snapshot) checkRows(ctx context.Context, b *Bound) ([]*PackError, error) {
	key := s.db.dialect.exact(quoteName(keyColumn))
	counts, err := s.counts(ctx, b.Query, 3, func(from string) string {
		return fmt.Sprintf("select count(*), count(%s), count(distinct %s) from %s", quoteName(keyColumn), key, from)
	})
	if err != nil || counts == nil {
		return s.rowProblem(b.Query, err)
	}
	var problems []*PackError
	add := func(column, message string) {
		problems = append(problems, &PackError{File: b.Query.File, Line: b.Query.line(column), Column: column, Message: message, Rows: true})
	}
	rows, keyed, distinct := counts[0], counts[1], counts[2]
	if rows > keyed {
		add(keyColumn, fmt.Sprintf("is NULL in %d of %d rows", rows-keyed, rows))
	}
	if keyed > distinct {
		add(keyColumn, fmt.Sprintf("is not unique: %d of %d rows repeat a source key", keyed-distinct, rows))
	}
	aliases := b.keyAliases()
	if aliases == nil {
		return problems, nil
	}
	group := make([]string, len(aliases))
	for i, a := range aliases {
		group[i] = s.db.dialect.exact(quoteName(a))
	}
	there := make([]string, len(aliases)) // a key with a part missing is no key, however many rows lack it
	for i, a := range aliases {
		there[i] = quoteName(a) + " is not null"
	}
	counts, err = s.counts(ctx, b.Query, 1, func(from string) string {
		return fmt.Sprintf("select count(*) from (select 1 as one from %s where %s group by %s having count(*) > 1) as edfisync_d",
			from, strings.Join(there, " and "), strings.Join(group, ", "))
	})
	if err != nil {
		found, err := s.rowProblem(b.Query, err)
		return append(problems, found...), err
	}
	if counts != nil && counts[0] > 0 {
		add(aliases[0], fmt.Sprintf("%d natural keys (%s) come from more than one row; only one can be sent", counts[0], strings.Join(aliases, ", ")))
	}
	return problems, nil
}

// rowProblem turns the refusal of a query into a problem of the pack; other errors stay errors.
func (s *Snapshot) rowProblem(q *Query, err error) ([]*PackError, error) {
	var e *Error
	if errors.As(err, &e) && e.statement {
		return []*PackError{{File: q.File, Message: e.text()}}, nil
	}
	return nil, err
}

// keyAliases are the columns that make up the natural key, nil when one part is no column of the query.
func (b *Bound) keyAliases() []string {
	var out []string
	for _, part := range b.Resource.Key {
		alias := ""
		for _, path := range part.Paths {
			for _, c := range b.Columns[:b.KeyColumn] {
				if c == path || b.Query.Paths[c] == path {
					alias = c
				}
			}
			if alias != "" {
				break
			}
		}
		if alias == "" {
			return nil
		}
		out = append(out, alias)
	}
	return out
}

// counts runs a query over a query that yields one row of n numbers; nil when the database cannot wrap it.
func (s *Snapshot) counts(ctx context.Context, q *Query, n int, over func(from string) string) ([]int64, error) {
	text, args, err := s.db.Statement(q)
	if err != nil {
		return nil, &Error{Op: "check", File: q.File, Err: err}
	}
	if s.db.cfg.Driver == SQLServer && q.stmt.first != "select" {
		return nil, nil //nolint:nilnil // a derived table of SQL Server may not begin with WITH
	}
	r, err := s.take(ctx)
	if err != nil {
		return nil, &Error{Op: "check", File: q.File, Err: fmt.Errorf("wait for a connection: %w", err)}
	}
	defer s.release(r)
	out := make([]int64, n)
	dest := make([]any, n)
	for i := range out {
		dest[i] = &out[i]
	}
	ctx, cancel := s.db.deadline(ctx)
	defer cancel()
	_, err = s.db.inSavepoint(ctx, r, func() ([]string, error) {
		return nil, r.conn.QueryRowxContext(ctx, over(wrapped(text)), args...).Scan(dest...)
	})
	if err != nil {
		return nil, s.db.failure("check", q.File, err)
	}
	return out, nil
}

// quoteName quotes a column's alias as all four databases (MySQL with ANSI_QUOTES) read it.
func quoteName(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }
