package source

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Rows is the result of one query, read ahead by a goroutine that stays a batch in front of its consumer. It is for one goroutine.
type Rows struct {
	db      *DB
	query   *Query
	columns []string
	cancel  context.CancelFunc
	opened  chan struct{} // closed when columns are known, or the reading ended before
	full    chan *Batch   // closed at the end; err says which
	free    chan *Batch
	err     error // io.EOF or what went wrong; read after full was closed
	ended   bool
}

// Columns names the cells of a row: the mapped columns in the query's order, then _key. Columns that a query selects and a pack
// ignores (other aliases that start with _) are not read.
func (r *Rows) Columns() []string { return r.columns }

func openRows(ctx context.Context, s *Snapshot, reader *reader, q *Query, text string, args []any) (*Rows, error) {
	ctx, cancel := s.db.deadline(ctx)
	stop := context.AfterFunc(s.ctx, cancel)
	r := &Rows{
		db: s.db, query: q, cancel: func() { stop(); cancel() },
		opened: make(chan struct{}), full: make(chan *Batch, 1), free: make(chan *Batch, 3),
	}
	for range 2 {
		r.free <- &Batch{}
	}
	go r.run(ctx, s, reader, text, args)
	<-r.opened
	if r.columns == nil {
		<-r.full
		r.finish()
		return nil, r.err
	}
	return r, nil
}

// deadline applies the statement timeout where the server does not.
func (d *DB) deadline(ctx context.Context) (context.Context, context.CancelFunc) {
	if d.cfg.StatementTimeout > 0 && (d.cfg.Driver == SQLite || d.cfg.Driver == SQLServer) {
		return context.WithTimeout(ctx, d.cfg.StatementTimeout)
	}
	return context.WithCancel(ctx)
}

// Next fills b with up to BatchRows rows, of which there is at least one, and returns nil. It returns io.EOF after the last row, and then only. Any
// other error means that the scan is incomplete, and nothing may be concluded from what it did not show (I5). What b held before is
// reused.
func (r *Rows) Next(ctx context.Context, b *Batch) error {
	if r.ended {
		return r.err
	}
	select {
	case f, ok := <-r.full:
		if !ok {
			r.finish()
			return r.err
		}
		*b, *f = *f, *b
		r.free <- f
		return nil
	case <-ctx.Done():
		return &Error{Op: "read", File: r.query.File, Err: ctx.Err()}
	}
}

// Close ends the reading and waits for it. Closing before io.EOF cancels the query; the connection leaves the snapshot then. It may be
// called twice.
func (r *Rows) Close() error {
	if r.ended {
		return nil
	}
	r.cancel()
	for range r.full { //nolint:revive // waits until the reading goroutine has closed it
	}
	r.finish()
	r.err = &Error{Op: "read", File: r.query.File, Err: errors.New("the rows are closed")}
	return nil
}

func (r *Rows) finish() {
	r.ended = true
	r.cancel()
}

// run reads the whole result on the driver's own connection: database/sql would convert and copy each cell once more. It ends before
// full is closed and nothing of it is left afterwards.
func (r *Rows) run(ctx context.Context, s *Snapshot, reader *reader, text string, args []any) {
	err := reader.conn.Raw(func(dc any) error { return r.read(ctx, dc, text, args) })
	switch {
	case errors.Is(err, errDone):
		r.err = io.EOF
	case err == nil: // I5: only the driver's own io.EOF after the last row is the end
		r.err = &Error{Op: "read", File: r.query.File, Err: errors.New("the result ended without an end")}
	default:
		reader.failed = true
		if ctx.Err() != nil && !errors.Is(err, ctx.Err()) {
			err = ctx.Err()
		}
		op := "read"
		if r.columns == nil {
			op = "run"
		}
		r.err = r.db.failure(op, r.query.File, err)
	}
	s.release(reader)
	if r.columns == nil {
		close(r.opened)
	}
	close(r.full)
}

// errDone is how read says that the driver reported the end of the result. io.EOF itself may be a lost connection on its way here.
var errDone = errors.New("end of the result") //nolint:gochecknoglobals // a sentinel, never written

func (r *Rows) read(ctx context.Context, dc any, text string, args []any) (err error) {
	rows, done, err := driverQuery(ctx, dc, text, args)
	if err != nil {
		return notEnd(err)
	}
	defer func() {
		closeErr := errors.Join(rows.Close(), done())
		if errors.Is(err, errDone) && closeErr != nil {
			err = notEnd(closeErr)
		}
	}()
	names := rows.Columns()
	order := arrange(names, r.query.Paths)
	formats := make([]format, len(order))
	columns := make([]string, len(order))
	for i, c := range order {
		columns[i] = names[c]
		formats[i] = columnFormat(r.db.dialect, rows, c)
	}
	r.columns = columns
	close(r.opened)
	values := make([]driver.Value, len(names))
	for {
		b, err := r.batch(ctx)
		if err != nil {
			return err
		}
		end := false
		for !b.full() {
			if err := rows.Next(values); err != nil {
				if err != io.EOF { //nolint:errorlint // the driver contract: the end is io.EOF itself
					return notEnd(err)
				}
				end = true
				break
			}
			for i, c := range order {
				b.appendCell(values[c], formats[i])
				if len(b.arena) > maxArena {
					return errors.New("a row is larger than 1 GiB")
				}
			}
			b.rows++
		}
		if b.rows > 0 {
			b.finish()
			select {
			case r.full <- b:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		if end {
			return atEnd(rows)
		}
	}
}

// batch waits for an empty batch.
func (r *Rows) batch(ctx context.Context) (*Batch, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	select {
	case b := <-r.free:
		b.reset(len(r.columns))
		return b, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// atEnd makes sure that the end of the rows is the end of the answer.
func atEnd(rows driver.Rows) error {
	if more, ok := rows.(driver.RowsNextResultSet); ok && more.HasNextResultSet() {
		return errors.New("the query yields more than one result")
	}
	return errDone
}

// notEnd keeps an io.EOF that is no end of rows (a lost connection) from being taken for one (I5).
func notEnd(err error) error {
	if err == io.EOF { //nolint:errorlint // exactly this value is the end of rows to a caller
		return io.ErrUnexpectedEOF
	}
	return err
}

// driverQuery runs a query on a driver's connection, prepared when the driver wants that for parameters. done closes the statement.
func driverQuery(ctx context.Context, dc any, text string, args []any) (rows driver.Rows, done func() error, err error) {
	named := make([]driver.NamedValue, len(args))
	for i, a := range args {
		named[i] = driver.NamedValue{Ordinal: i + 1, Value: a}
	}
	if q, ok := dc.(driver.QueryerContext); ok {
		rows, err := q.QueryContext(ctx, text, named)
		if !errors.Is(err, driver.ErrSkip) {
			return rows, func() error { return nil }, err
		}
	}
	p, ok := dc.(driver.ConnPrepareContext)
	if !ok {
		return nil, nil, fmt.Errorf("driver connection %T cannot prepare", dc)
	}
	stmt, err := p.PrepareContext(ctx, text)
	if err != nil {
		return nil, nil, err
	}
	q, ok := stmt.(driver.StmtQueryContext)
	if !ok {
		return nil, nil, errors.Join(fmt.Errorf("driver statement %T cannot query", stmt), stmt.Close())
	}
	rows, err = q.QueryContext(ctx, named)
	if err != nil {
		return nil, nil, errors.Join(err, stmt.Close())
	}
	return rows, stmt.Close, nil
}

func columnFormat(d dialect, rows driver.Rows, column int) format {
	t, ok := rows.(driver.RowsColumnTypeDatabaseTypeName)
	if !ok {
		return asIs
	}
	return d.format(strings.ToUpper(t.ColumnTypeDatabaseTypeName(column)))
}

// The aliases that stand for no path.
const (
	keyColumn    = "_key"
	personColumn = "_person" // reserved
)

// arrange gives the order cells are read in: mapped columns as the query has them, then _key. Other names that start with _ are left out.
func arrange(names []string, paths map[string]string) []int {
	var order []int
	for i, n := range names {
		if _, mapped := paths[n]; mapped || !strings.HasPrefix(n, "_") {
			order = append(order, i)
		}
	}
	if i := slices.Index(names, keyColumn); i >= 0 {
		order = append(order, i)
	}
	return order
}
