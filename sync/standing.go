package sync

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/edfisync/edfisync/source"
	"github.com/edfisync/edfisync/syncdb"
)

// standingRows are the natural keys the rows of one resource stand for, sealed on disk until their resource's turn.
type standingRows struct {
	keys     *spool
	nameless int64 // invalid rows without a natural key
	outside  func(key syncdb.Hash) bool
}

// rowKey is what adopt needs of a row.
type rowKey struct {
	source syncdb.Hash
	record uint64 // cut
	valid  bool
	met    bool // a record of the target has its key
}

// rows are the rows of one resource by natural key.
type rows struct {
	byKey    map[syncdb.Hash]rowKey
	valid    int64
	nameless int64
}

// standing reads every row of the scope from one snapshot, for its natural key only. A scan that is not complete is an error: a record whose row
// was not seen would look as if nobody wanted it (I5c).
// Rows that are outside are left out: what stands for them is not ours to take (I9).
func (e *Engine) standing(
	ctx context.Context, o Options, sc *scope, dir *workspace, p *progress, outside func(resource int, key syncdb.Hash) bool,
) ([]*standingRows, error) {
	snapshot, err := e.Source.Begin(ctx)
	if err != nil {
		return nil, fmt.Errorf("open a snapshot of the source: %w", err)
	}
	defer snapshot.Close()
	var out []*standingRows
	var done int64
	for i, r := range sc.resources {
		st := &standingRows{keys: newSpool(dir, r.Path+"#keys", e.Keys), outside: func(key syncdb.Hash) bool { return outside(i, key) }}
		out = append(out, st)
		for _, q := range r.Queries {
			m := newMapper(&scanner{e: e, o: o, scope: sc}, nil, q)
			err := eachBatch(ctx, snapshot, q, func(b *source.Batch) error {
				done += int64(b.Len())
				p.scanned(r.Path, done, 0)
				return st.add(m, b)
			})
			if err != nil {
				closeStanding(out)
				return nil, fmt.Errorf("scan %s: %s: %w", r.Path, q.Query.File, err)
			}
		}
	}
	if err := snapshot.Close(); err != nil {
		closeStanding(out)
		return nil, fmt.Errorf("close the snapshot of the source: %w", err)
	}
	return out, nil
}

func eachBatch(ctx context.Context, snapshot Snapshot, q *source.Bound, fn func(*source.Batch) error) (err error) {
	in, err := snapshot.Open(ctx, q)
	if err != nil {
		return fmt.Errorf("start the query: %w", err)
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	var b source.Batch
	for {
		err := in.Next(ctx, &b)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = fn(&b)
		}
		if err != nil {
			return err
		}
	}
}

func closeStanding(all []*standingRows) {
	for _, st := range all {
		_ = st.keys.close() // temporary files
	}
}

// add notes the keys of a batch. An invalid row stands for its key too, when it has one (I5f).
func (st *standingRows) add(m *mapper, b *source.Batch) error {
	for i := range b.Len() {
		row := b.Row(i)
		m.q.Template.Encode(m.q.Values(row), &m.enc)
		if len(m.enc.Key) == 0 {
			st.nameless++
			continue
		}
		rec := record{KeyHash: m.hasher.Sum(m.enc.Key)}
		if st.outside(rec.KeyHash) {
			continue
		}
		if key := m.q.Key(row); key != nil {
			rec.SourceHash = m.sourceHash(key)
			if rec.Known = len(m.enc.Problems) == 0; rec.Known {
				rec.RecordHash = m.hasher.Sum(m.enc.Body)
			}
		}
		if err := st.keys.add(&rec); err != nil {
			return err
		}
	}
	return nil
}

// load reads the keys back. Of rows with one key the first valid one counts, as in a run.
func (st *standingRows) load() (*rows, error) {
	out := &rows{byKey: make(map[syncdb.Hash]rowKey, st.keys.count), nameless: st.nameless}
	err := st.keys.each(func(rec *record) error {
		if rec.Known {
			out.valid++
		}
		if had, twice := out.byKey[rec.KeyHash]; !twice || !had.valid {
			out.byKey[rec.KeyHash] = rowKey{source: rec.SourceHash, record: cut8(rec.RecordHash), valid: rec.Known}
		}
		return nil
	})
	return out, err
}

// take returns the row with a key and notes that a record has it.
func (r *rows) take(key syncdb.Hash) (rowKey, bool) {
	row, ok := r.byKey[key]
	if ok && !row.met {
		met := row
		met.met = true
		r.byKey[key] = met
	}
	return row, ok
}

// unmet counts valid rows no record of the target has the key of.
func (r *rows) unmet() int64 {
	var n int64
	for _, row := range r.byKey {
		if row.valid && !row.met {
			n++
		}
	}
	return n
}
