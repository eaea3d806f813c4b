package simulate

import (
	"context"
	"errors"
	"io"

	"github.com/edfisync/edfisync/source"
	"github.com/edfisync/edfisync/sync"
)

// reader is a process's way to its source: the rows of the district as they are when a run begins.
type reader struct{ p *process }

var (
	_ sync.Source   = (*reader)(nil)
	_ sync.Snapshot = (*snapshot)(nil)
	_ sync.Rows     = (*rows)(nil)
)

// Queries are those of the district's kinds, in no order that would help.
func (r *reader) Queries() []*source.Bound {
	var out []*source.Bound
	for _, k := range r.p.conn.d.kinds {
		out = append(out, r.p.w.bound(k))
	}
	return out
}

// Begin takes the snapshot.
func (r *reader) Begin(context.Context) (sync.Snapshot, error) {
	if r.p.isDead() {
		return nil, errDead
	}
	s := r.p.conn.snapshot(r.p)
	return &snapshot{p: r.p, scan: s, breakIn: r.p.conn.d.brokenAt}, nil
}

type snapshot struct {
	p       *process
	scan    *scan
	breakIn int // queries until one breaks; 0 = none does
}

// Close releases nothing.
func (s *snapshot) Close() error { return nil }

// Watermark says nothing: the worlds' sources do not go back.
func (s *snapshot) Watermark() string { return "" }

// Open starts a query.
func (s *snapshot) Open(_ context.Context, q *source.Bound) (sync.Rows, error) {
	if s.p.isDead() {
		return nil, errDead
	}
	k := s.p.w.u.byPath[q.Resource.Path]
	out := &rows{p: s.p, resource: q.Resource.Path, width: len(q.Columns)}
	for _, x := range s.scan.records[k] {
		out.left = append(out.left, x.cells)
	}
	if s.breakIn > 0 {
		if s.breakIn--; s.breakIn == 0 {
			s.p.broke()
			out.left, out.breaks = out.left[:len(out.left)/2], true
		}
	}
	return out, nil
}

func (p *process) broke() {
	p.mu.Lock()
	p.broken = true
	p.mu.Unlock()
	p.conn.d.brokenAt = 0
}

type rows struct {
	p        *process
	resource string
	left     [][][]byte
	width    int
	breaks   bool
}

var errSource = errors.New("source: server closed the connection unexpectedly")

// Next hands out at most seven rows, so that small tables make several batches.
func (r *rows) Next(_ context.Context, b *source.Batch) error {
	n := min(7, len(r.left))
	if n == 0 {
		if r.breaks {
			// Without a turn of its own the error would race the mappers, which leave out rows they come to after it.
			r.p.w.gate.pass(r.p.name, "break", r.resource, 0)
			return errSource
		}
		return io.EOF
	}
	b.Fill(r.width, r.left[:n])
	r.left = r.left[n:]
	return nil
}

// Close releases nothing.
func (r *rows) Close() error { return nil }
