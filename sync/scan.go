package sync

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"regexp"
	"runtime"
	gosync "sync"
	"sync/atomic"

	"github.com/edfisync/edfisync/schema"
	"github.com/edfisync/edfisync/source"
	"github.com/edfisync/edfisync/syncdb"
)

// scanned is what a complete scan of one resource found, compared with the ledger.
type scanned struct {
	*scoped
	index int

	mu    gosync.Mutex // guards table from the time steps run side by side
	table *table

	fresh   *spool // rows to POST: no entry, or one that is not known to be live
	changed *spool // rows to PUT: live entry, other record hash
	claims  *spool // unchanged rows under another source key: ledger only
	gone    *spool // entries no row had

	heldSource map[syncdb.Hash]struct{} // source hashes of invalid rows: what they produced before is not gone (I5f)
	heldKey    map[syncdb.Hash]struct{} // natural keys of invalid rows
	dups       map[syncdb.Hash]struct{} // keys several rows have with different payloads: none of them is sent (F42)
	usedIDs    map[string]struct{}      // ids that both a gone entry and one in use have: the record is not deleted (I5d)

	moves     map[syncdb.Hash]move        // new key → natural-key change
	movedFrom map[syncdb.Hash]syncdb.Hash // old key → new key

	scope *syncdb.Scope // to be written before the first entry: the rules the hashes are made under

	dupFresh, dupChanged int64
	entries              int64
	totals               Totals
}

func (r *scanned) close() error {
	return errors.Join(r.fresh.close(), r.changed.close(), r.claims.close(), r.gone.close())
}

// problemSink takes rows that are not in sync. Calls come from one goroutine at a time; the slice is the caller's again afterwards.
type problemSink func([]syncdb.Problem) error

// scanner reads every query of the scope from one snapshot and sorts rows into unchanged, fresh, changed and invalid.
type scanner struct {
	e        *Engine
	o        Options
	scope    *scope
	dir      string
	problems problemSink
	rows     atomic.Int64
	report   func(resource string, done, total int64)
}

// scan reads all resources and closes the snapshot. Any error means the scan is incomplete and nothing may be deleted for it (I5c): the
// caller stops the run.
func (s *scanner) scan(ctx context.Context) ([]*scanned, error) {
	snapshot, err := s.e.Source.Begin(ctx)
	if err != nil {
		return nil, fmt.Errorf("open a snapshot of the source: %w", err)
	}
	defer snapshot.Close()
	var out []*scanned
	for i, r := range s.scope.resources {
		res, err := s.resource(ctx, snapshot, i, r)
		out = append(out, res)
		if err != nil {
			closeAll(out)
			return nil, fmt.Errorf("scan %s: %w", r.Path, err)
		}
	}
	if err := snapshot.Close(); err != nil {
		closeAll(out)
		return nil, fmt.Errorf("close the snapshot of the source: %w", err)
	}
	for _, res := range out {
		if err := s.collectGone(ctx, res); err != nil {
			closeAll(out)
			return nil, fmt.Errorf("compare %s with the ledger: %w", res.Path, err)
		}
	}
	if err := joinKeys(ctx, s.scope, out, schema.NewHasher(s.e.Keys.HashMAC())); err != nil {
		closeAll(out)
		return nil, err
	}
	return out, nil
}

func closeAll(rs []*scanned) {
	for _, r := range rs {
		_ = r.close() // temporary files; the run's error matters more
	}
}

func (s *scanner) resource(ctx context.Context, snapshot Snapshot, index int, r *scoped) (*scanned, error) {
	res := &scanned{
		scoped: r, index: index,
		fresh:   newSpool(s.dir, r.Path+"#fresh", s.e.Keys),
		changed: newSpool(s.dir, r.Path+"#changed", s.e.Keys),
		claims:  newSpool(s.dir, r.Path+"#claims", s.e.Keys),
		gone:    newSpool(s.dir, r.Path+"#gone", s.e.Keys),

		heldSource: map[syncdb.Hash]struct{}{}, heldKey: map[syncdb.Hash]struct{}{},
		dups: map[syncdb.Hash]struct{}{}, usedIDs: map[string]struct{}{},
	}
	if err := s.checkRules(ctx, res); err != nil {
		return res, err
	}
	n, err := s.e.Ledger.Count(ctx, s.e.Connection.ID, r.Path)
	if err != nil {
		return res, fmt.Errorf("count entries: %w", err)
	}
	res.table = newTable(int(n))
	err = s.e.Ledger.Hashes(ctx, s.e.Connection.ID, r.Path, func(key, record, src syncdb.Hash, state syncdb.State) error {
		flags := slotEntry
		if state == syncdb.Live {
			flags |= slotLive
		}
		res.table.put(key, record, src, flags)
		res.entries++
		return nil
	})
	if err != nil {
		return res, fmt.Errorf("read entries: %w", err)
	}
	for _, q := range r.Queries {
		if err := s.query(ctx, snapshot, res, q); err != nil {
			return res, fmt.Errorf("%s: %w", q.Query.File, err)
		}
	}
	if err := res.holdDuplicates(); err != nil {
		return res, err
	}
	if !r.wanted && res.table.unseen() == 0 {
		res.table = newTable(0) // nobody asks again; a million slots are worth giving back
	}
	return res, nil
}

// holdDuplicates adds the first rows of duplicated keys to the held ones: they are not sent either, so nothing is deleted for them (I5f).
func (r *scanned) holdDuplicates() error {
	if len(r.dups) == 0 {
		return nil
	}
	hold := func(rec *record) error {
		if _, dup := r.dups[rec.KeyHash]; dup {
			r.heldSource[rec.SourceHash] = struct{}{}
		}
		return nil
	}
	return errors.Join(r.fresh.each(hold), r.changed.each(hold))
}

// query streams one query: a reader fills batches, mappers encode, hash and probe them.
func (s *scanner) query(ctx context.Context, snapshot Snapshot, res *scanned, q *source.Bound) error {
	rows, err := snapshot.Open(ctx, q)
	if err != nil {
		return fmt.Errorf("start the query: %w", err)
	}
	defer rows.Close()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	mappers := s.o.Mappers
	if mappers <= 0 {
		mappers = runtime.GOMAXPROCS(0)
	}
	free := make(chan *source.Batch, mappers+2)
	full := make(chan *source.Batch, mappers+2)
	for range cap(free) {
		free <- new(source.Batch)
	}
	var wg gosync.WaitGroup
	for range mappers {
		wg.Go(func() {
			m := newMapper(s, res, q)
			for b := range full {
				if ctx.Err() == nil {
					if err := m.batch(b); err != nil {
						cancel(err)
					}
				}
				free <- b
			}
			if err := m.flush(); err != nil {
				cancel(err)
			}
		})
	}
	readErr := func() error {
		defer close(full)
		for {
			var b *source.Batch
			select {
			case b = <-free:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			if err := rows.Next(ctx, b); errors.Is(err, io.EOF) {
				return nil
			} else if err != nil {
				return fmt.Errorf("read rows: %w", err)
			}
			done := s.rows.Add(int64(b.Len()))
			s.report(res.Path, done, 0)
			full <- b
		}
	}()
	wg.Wait()
	if readErr != nil {
		return readErr
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

// verdict is what the probe says of one row.
type verdict uint8

const (
	sameRow verdict = iota
	claimRow
	freshRow
	knownRow // entry exists but is not live: POST settles it
	changedRow
	duplicateRow
	invalidRow
)

// mapper turns rows into records and probes them. One goroutine owns it.
type mapper struct {
	s        *scanner
	res      *scanned
	q        *source.Bound
	hasher   *schema.Hasher
	enc      schema.Encoded
	refs     []schema.RefKey
	rec      record
	problems []syncdb.Problem
	src      []byte

	verdicts  []verdict
	keys      []syncdb.Hash
	records   []syncdb.Hash
	sources   []syncdb.Hash
	wire      []byte // payloads of the batch, one after the other
	wireEnd   []int
	keyText   []byte
	keyEnd    []int
	identical []bool
}

func newMapper(s *scanner, res *scanned, q *source.Bound) *mapper {
	return &mapper{s: s, res: res, q: q, hasher: schema.NewHasher(s.e.Keys.HashMAC())}
}

// sourceHash hashes the source key with the query's part, since two queries of one resource may number their rows alike.
func (m *mapper) sourceHash(key []byte) syncdb.Hash {
	m.src = append(append(append(m.src[:0], m.q.Query.Part...), 0), key...)
	return m.hasher.Sum(m.src)
}

// batch maps all rows, probes them together, and spools those that differ.
func (m *mapper) batch(b *source.Batch) error {
	n := b.Len()
	m.reset(n)
	for i := range n {
		row := b.Row(i)
		m.q.Template.Encode(m.q.Values(row), &m.enc)
		m.sources[i] = m.sourceHash(m.q.Key(row))
		if len(m.enc.Key) > 0 {
			m.keys[i] = m.hasher.Sum(m.enc.Key)
		}
		if m.q.Key(row) == nil {
			m.enc.Problems = append(m.enc.Problems, schema.Problem{Code: "source-key-missing", Path: "_key", Message: "the query gives no _key for the row"})
		}
		if len(m.enc.Problems) > 0 {
			m.verdicts[i] = invalidRow
			if err := m.invalid(i, string(m.q.Key(row)), m.enc.Problems); err != nil {
				return err
			}
		} else {
			m.records[i] = m.hasher.Sum(m.enc.Body)
			m.wire = append(m.wire, m.enc.Wire...)
			m.keyText = append(m.keyText, m.enc.Key...)
		}
		m.wireEnd[i], m.keyEnd[i] = len(m.wire), len(m.keyText)
	}
	m.probe(n)
	for i := range n {
		if m.verdicts[i] == sameRow || m.verdicts[i] == invalidRow {
			continue
		}
		if err := m.keep(i, b.Row(i)); err != nil {
			return err
		}
	}
	return nil
}

func (m *mapper) reset(n int) {
	if cap(m.keys) < n {
		m.verdicts, m.identical = make([]verdict, n), make([]bool, n)
		m.keys, m.records, m.sources = make([]syncdb.Hash, n), make([]syncdb.Hash, n), make([]syncdb.Hash, n)
		m.wireEnd, m.keyEnd = make([]int, n), make([]int, n)
	}
	m.verdicts, m.identical = m.verdicts[:n], m.identical[:n]
	m.keys, m.records, m.sources = m.keys[:n], m.records[:n], m.sources[:n]
	m.wireEnd, m.keyEnd = m.wireEnd[:n], m.keyEnd[:n]
	clear(m.verdicts)
	clear(m.keys)
	m.wire, m.keyText = m.wire[:0], m.keyText[:0]
}

// probe asks the table about every row of the batch under one lock.
func (m *mapper) probe(n int) {
	r := m.res
	r.mu.Lock()
	defer r.mu.Unlock()
	r.totals.Rows += int64(n)
	for i := range n {
		if m.verdicts[i] == invalidRow {
			r.totals.add(Invalid, true)
			r.heldSource[m.sources[i]] = struct{}{} // I5f: invalid is not absent
			if !m.keys[i].IsZero() {
				r.heldKey[m.keys[i]] = struct{}{}
			}
			continue
		}
		m.verdicts[i], m.identical[i] = r.judge(m.keys[i], m.records[i], m.sources[i])
		switch m.verdicts[i] {
		case sameRow, claimRow:
			r.totals.add(Unchanged, true)
		case duplicateRow:
			r.totals.add(Invalid, true)
			r.heldSource[m.sources[i]] = struct{}{} // I5f: what the row produced under another key stays
		}
	}
}

// judge compares one row with the ledger's entry and with the rows seen before it.
//
//	entry for the key | seen before         | record hash | verdict
//	no                | no                  |             | fresh
//	live              | no                  | same        | same (or claim: other source key)
//	live              | no                  | other       | changed
//	unknown, missing  | no                  |             | known: POST settles it
//	any               | yes, same record    |             | duplicate, the first row stands
//	any               | yes, other record   |             | duplicate, none of them is sent
func (r *scanned) judge(key, record, src syncdb.Hash) (v verdict, identical bool) {
	t := r.table
	i := t.find(key)
	if i < 0 {
		t.put(key, record, src, slotSeen|slotNew)
		return freshRow, false
	}
	if t.flags[i]&slotSeen != 0 {
		if t.recs[i] == cut8(record) {
			return duplicateRow, true
		}
		if _, again := r.dups[key]; !again {
			r.dups[key] = struct{}{}
			switch {
			case t.flags[i]&slotNew == 0: // the first row is unchanged and stays so
			case t.flags[i]&slotLive != 0:
				r.dupChanged++
			default:
				r.dupFresh++
			}
		}
		return duplicateRow, false
	}
	t.flags[i] |= slotSeen
	switch {
	case t.flags[i]&slotLive == 0:
		t.recs[i], t.flags[i] = cut8(record), t.flags[i]|slotNew
		return knownRow, false
	case t.recs[i] == cut8(record):
		if t.srcs[i] != cut4(src) {
			return claimRow, false
		}
		return sameRow, false
	}
	t.recs[i], t.flags[i] = cut8(record), t.flags[i]|slotNew
	return changedRow, false
}

// keep spools one row that is not simply unchanged.
func (m *mapper) keep(i int, row [][]byte) error {
	wireFrom, keyFrom := 0, 0
	if i > 0 {
		wireFrom, keyFrom = m.wireEnd[i-1], m.keyEnd[i-1]
	}
	rec := &m.rec
	rec.Known = m.verdicts[i] == knownRow
	rec.KeyHash, rec.RecordHash, rec.SourceHash = m.keys[i], m.records[i], m.sources[i]
	rec.SourceKey = m.q.Key(row)
	rec.Key = m.keyText[keyFrom:m.keyEnd[i]]
	rec.Payload = m.wire[wireFrom:m.wireEnd[i]]
	rec.PersonHash, rec.Refs = syncdb.Hash{}, rec.Refs[:0]
	if m.verdicts[i] == duplicateRow {
		return m.duplicate(i, rec)
	}
	m.refs = m.q.Template.References(m.q.Values(row), m.refs[:0])
	for _, ref := range m.refs {
		target, ok := m.s.scope.entity[ref.Target]
		if !ok {
			continue
		}
		hash := m.hasher.Sum(ref.Key)
		rec.Refs = append(rec.Refs, reference{Target: target, Hash: hash})
		if _, person := people[ref.Target]; person && rec.PersonHash.IsZero() {
			rec.PersonHash = hash
		}
	}
	r := m.res
	r.mu.Lock()
	defer r.mu.Unlock()
	switch m.verdicts[i] {
	case claimRow:
		rec.Payload = nil
		return r.claims.add(rec)
	case changedRow:
		return r.changed.add(rec)
	default:
		return r.fresh.add(rec)
	}
}

func (m *mapper) duplicate(i int, rec *record) error {
	text := "another row has the same natural key and a different payload: none of them is sent"
	if m.identical[i] {
		text = "another row has the same natural key and the same payload: that one is used"
	}
	return m.add(syncdb.Problem{
		Resource: m.res.Path, SourceHash: rec.SourceHash, Outcome: Invalid.String(), Code: "duplicate-natural-key", Cause: text, Owner: "mapping",
		KeyHash: rec.KeyHash, RecordHash: rec.RecordHash, SourceKey: string(rec.SourceKey),
		Detail: detail(map[string]any{"query": m.q.Query.File, "naturalKey": json.RawMessage(rec.Key), "message": text}),
	})
}

func (m *mapper) invalid(i int, sourceKey string, problems []schema.Problem) error {
	first := problems[0]
	return m.add(syncdb.Problem{
		Resource: m.res.Path, SourceHash: m.sources[i], Outcome: Invalid.String(), Code: first.Code, Cause: cause(first),
		Owner: owner(first), KeyHash: m.keys[i], SourceKey: sourceKey,
		Detail: detail(map[string]any{"query": m.q.Query.File, "problems": problems}),
	})
}

func (m *mapper) add(p syncdb.Problem) error {
	m.problems = append(m.problems, p)
	if len(m.problems) >= 500 {
		return m.flush()
	}
	return nil
}

func (m *mapper) flush() error {
	if len(m.problems) == 0 {
		return nil
	}
	err := m.s.problems(m.problems)
	m.problems = m.problems[:0]
	return err
}

// itemIndex finds the positions of collection items in a JSON path: they do not tell causes apart.
var itemIndex = regexp.MustCompile(`\[\d+\]`)

// cause names what rows with this problem have in common. Of values only local codes are named: mapping them is the remedy (I14).
func cause(p schema.Problem) string {
	c := itemIndex.ReplaceAllString(p.Path, "[*]") + ": " + p.Message
	if p.Code == schema.CodeUnmapped && len(p.Value) <= 60 {
		c += fmt.Sprintf(" (code %q)", p.Value)
	}
	return c
}

// owner says who can mend a problem found before any call.
func owner(p schema.Problem) string {
	if p.Code == schema.CodeUnmapped || p.Code == "source-key-missing" {
		return "mapping"
	}
	return "source data"
}

func detail(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		return []byte(`{}`) // only plain maps of strings come here
	}
	return b
}

// collectGone spools the entries no row had, leaving out those an invalid row stands for.
func (s *scanner) collectGone(ctx context.Context, r *scanned) error {
	if r.table.unseen() == 0 {
		return nil
	}
	inUse := func(e *syncdb.Entry) bool {
		i := r.table.find(e.KeyHash)
		return i < 0 || r.table.flags[i]&slotSeen != 0
	}
	seed := maphash.MakeSeed()
	ids := map[uint64]struct{}{} // of gone entries, hashed to keep a mass delete small
	err := s.e.Ledger.Each(ctx, s.e.Connection.ID, r.Path, func(e *syncdb.Entry) error {
		if inUse(e) {
			return nil
		}
		_, bySource := r.heldSource[e.SourceHash]
		_, byKey := r.heldKey[e.KeyHash]
		if bySource || byKey {
			return nil // I5f
		}
		ids[maphash.String(seed, e.EdfiID)] = struct{}{}
		return r.gone.add(goneRecord(e))
	})
	if err != nil || r.gone.count == 0 {
		return err
	}
	return s.e.Ledger.Each(ctx, s.e.Connection.ID, r.Path, func(e *syncdb.Entry) error {
		if _, shared := ids[maphash.String(seed, e.EdfiID)]; shared && e.EdfiID != "" && inUse(e) {
			r.usedIDs[e.EdfiID] = struct{}{}
		}
		return nil
	})
}

// goneRecord and goneEntry carry an entry through a spool.
func goneRecord(e *syncdb.Entry) *record {
	return &record{
		Known: true, KeyHash: e.KeyHash, RecordHash: e.RecordHash, SourceHash: e.SourceHash, PersonHash: e.PersonHash,
		SourceKey: []byte{byte(e.State), byte(e.Origin)}, Key: e.Key, Payload: []byte(e.EdfiID),
	}
}

func goneEntry(resource string, r *record) syncdb.Entry {
	return syncdb.Entry{
		Resource: resource, KeyHash: r.KeyHash, RecordHash: r.RecordHash, SourceHash: r.SourceHash, PersonHash: r.PersonHash,
		Key: append([]byte(nil), r.Key...), EdfiID: string(r.Payload), State: syncdb.State(r.SourceKey[0]), Origin: syncdb.Origin(r.SourceKey[1]),
	}
}
