package source

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jmoiron/sqlx"
)

// Snapshot is one state of the source, read through one or more connections. Open may be called concurrently; at most Readers results
// are open at a time, further calls wait. Everything it gives out ends with Close.
type Snapshot struct {
	db      *DB
	ctx     context.Context // ends with Close, and ends what is still being read
	cancel  context.CancelFunc
	idle    chan *reader
	broken  chan struct{}  // closed when no reader is left
	open    sync.WaitGroup // readers taken
	mu      sync.Mutex
	readers []*reader
	alive   int
	closed  bool
	mark    string
}

// reader is one connection inside the snapshot.
type reader struct {
	conn   *sqlx.Conn
	end    func(context.Context) error
	failed bool // its connection is no longer in the snapshot
}

// endTimeout bounds the rollback of a reader: closing the connection ends the transaction too.
const endTimeout = 5 * time.Second

// errNoReader is what Open answers when every connection of the snapshot was lost or given up.
var errNoReader = errors.New("the snapshot has no connection left") //nolint:gochecknoglobals // a sentinel, never written

// Snapshot fixes a state of the source. It holds Readers connections and a transaction on each until Close: keep it short.
func (d *DB) Snapshot(ctx context.Context) (*Snapshot, error) { return d.snapshot(ctx, d.cfg.Readers) }

func (d *DB) snapshot(ctx context.Context, readers int) (*Snapshot, error) {
	cfg := d.cfg
	cfg.Readers = readers
	s := &Snapshot{db: d, idle: make(chan *reader, readers), broken: make(chan struct{})}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	token := ""
	for range readers {
		conn, err := d.db.Connx(ctx)
		if err != nil {
			return nil, errors.Join(d.failure("connect", "", err), s.Close())
		}
		if token == "" && cfg.Watermark == nil && len(s.readers) == 0 {
			s.mark = d.readMark(ctx, conn)
		}
		shared, end, err := d.dialect.begin(ctx, conn, cfg, token)
		if err != nil {
			discard(conn)
			return nil, errors.Join(d.failure("take the snapshot", "", err), s.Close())
		}
		token = shared
		if cfg.Watermark != nil && len(s.readers) == 0 {
			if s.mark, err = d.packMark(ctx, conn, cfg.Watermark); err != nil {
				discard(conn)
				return nil, errors.Join(err, s.Close())
			}
		}
		r := &reader{conn: conn, end: end}
		s.readers = append(s.readers, r)
		s.alive++
		s.idle <- r
	}
	return s, nil
}

// Readers is how many results can be open at a time.
func (s *Snapshot) Readers() int { return cap(s.idle) }

// Close ends the snapshot and gives its connections back. Rows still being read end with an error. It may be called twice.
func (s *Snapshot) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	s.mu.Unlock()
	s.cancel()
	s.open.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), endTimeout)
	defer cancel()
	for _, r := range s.readers {
		if r.failed || r.end(ctx) != nil {
			discard(r.conn) // the server ends the transaction of a closed connection; there is nothing to lose, it only read
			continue
		}
		_ = r.conn.Close() //nolint:errcheck // gives the connection back to the pool
	}
	return nil
}

// discard closes a connection for good instead of giving it back to the pool.
func discard(conn *sqlx.Conn) {
	_ = conn.Raw(func(any) error { return driver.ErrBadConn })
	_ = conn.Close()
}

// take waits for an idle reader.
func (s *Snapshot) take(ctx context.Context) (*reader, error) {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil, errors.New("the snapshot is closed")
	}
	s.open.Add(1)
	s.mu.Unlock()
	select {
	case r := <-s.idle:
		return r, nil
	case <-s.broken:
		s.open.Done()
		return nil, errNoReader
	case <-ctx.Done():
		s.open.Done()
		return nil, ctx.Err()
	}
}

// release gives a reader back; a failed one leaves the snapshot.
func (s *Snapshot) release(r *reader) {
	defer s.open.Done()
	if !r.failed {
		s.idle <- r
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.alive--; s.alive == 0 {
		close(s.broken)
	}
}

// Open runs a query and returns its rows, which are read ahead on a goroutine of their own. When every reader is busy it waits for one.
// The rows end with io.EOF, an error, or Close; ctx covers all of the reading.
func (s *Snapshot) Open(ctx context.Context, q *Query) (*Rows, error) {
	text, args, err := s.db.Statement(q)
	if err != nil {
		return nil, &Error{Op: "run", File: q.File, Err: err}
	}
	r, err := s.take(ctx)
	if err != nil {
		return nil, &Error{Op: "run", File: q.File, Err: fmt.Errorf("wait for a connection: %w", err)}
	}
	return openRows(ctx, s, r, q, text, args)
}
