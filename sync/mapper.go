package sync

import (
	"encoding/json"
	"fmt"
	"regexp"

	"github.com/edfisync/edfisync/schema"
	"github.com/edfisync/edfisync/source"
	"github.com/edfisync/edfisync/syncdb"
)

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

// mapper turns rows into records and probes them. One goroutine owns it. It serves one query after the other: res and q are the one at hand.
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
	nameless  int64 // rows of the batch that say neither by source key nor by natural key which record is theirs
}

func newMapper(s *scanner, res *scanned, q *source.Bound) *mapper {
	return &mapper{s: s, res: res, q: q, hasher: schema.NewHasher(s.e.Keys.HashMAC())}
}

// sourceHash hashes the source key with the query's part, since two queries of one resource may number their rows alike.
func (m *mapper) sourceHash(key []byte) syncdb.Hash {
	m.src = sourceText(m.src[:0], m.q.Query.Part, key)
	return m.hasher.Sum(m.src)
}

// sourceText appends what a source hash is of.
func sourceText(dst []byte, part string, key []byte) []byte {
	return append(append(append(dst, part...), 0), key...)
}

// batch maps all rows, probes them together, and spools those that differ.
func (m *mapper) batch(b *source.Batch) error {
	n := b.Len()
	m.reset(n)
	for i := range n {
		row := b.Row(i)
		m.q.Template.Encode(m.q.Values(row), &m.enc)
		m.sources[i] = m.sourceHash(m.q.Key(row))
		if m.s.asked != nil {
			m.noteRow(i, m.q.Key(row))
		}
		if len(m.enc.Key) > 0 {
			m.keys[i] = m.hasher.Sum(m.enc.Key)
		}
		if m.q.Key(row) == nil {
			m.enc.Problems = append(m.enc.Problems, schema.Problem{Code: "source-key-missing", Path: "_key", Message: "the query gives no _key for the row"})
		}
		if len(m.enc.Problems) > 0 {
			m.verdicts[i] = invalidRow
			if m.q.Key(row) == nil && m.keys[i].IsZero() {
				m.nameless++
			}
			m.unsendable(i, row)
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
		if len(m.res.suspects) > 0 && (m.verdicts[i] == sameRow || m.verdicts[i] == claimRow) {
			m.outdated(i, b.Row(i))
		}
		if m.verdicts[i] == sameRow && m.s.schools == nil || m.verdicts[i] == invalidRow {
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
	r.nameless, m.nameless = r.nameless+m.nameless, 0
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
	rec.PersonHash, rec.Refs, rec.Schools = syncdb.Hash{}, rec.Refs[:0], rec.Schools[:0]
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
	if m.s.schools != nil {
		rec.Schools = m.s.schools.ofRow(rec.Schools, m.res.Resource, rec.Key, m.refs)
	}
	r := m.res
	r.mu.Lock()
	defer r.mu.Unlock()
	switch m.verdicts[i] {
	case sameRow:
		rec.Payload = nil
		return r.same.add(rec)
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
	text := "another row has the same natural key and a different payload: what the target has under that key stays as it is"
	if m.identical[i] {
		text = "another row has the same natural key and the same payload: that one is used"
	}
	return m.add(rec.Key, syncdb.Problem{
		Resource: m.res.Path, SourceHash: rec.SourceHash, Outcome: Invalid.String(), Code: "duplicate-natural-key", Cause: text, Owner: "mapping",
		KeyHash: rec.KeyHash, RecordHash: rec.RecordHash, SourceKey: string(rec.SourceKey),
		Detail: detail(map[string]any{"query": m.q.Query.File, "naturalKey": json.RawMessage(rec.Key), "problems": ruleOf("duplicate-natural-key", text)}),
	})
}

// ruleOf is a rule that a row breaks as a whole, as rules of the model are told.
func ruleOf(code, text string) []schema.Problem {
	return []schema.Problem{{Code: code, Path: "$", Message: text}}
}

func (m *mapper) invalid(i int, sourceKey string, problems []schema.Problem) error {
	first := problems[0]
	return m.add(m.enc.Key, syncdb.Problem{
		Resource: m.res.Path, SourceHash: m.sources[i], Outcome: Invalid.String(), Code: first.Code, Cause: cause(first),
		Owner: owner(first), KeyHash: m.keys[i], SourceKey: sourceKey,
		Detail: detail(map[string]any{"query": m.q.Query.File, "problems": problems}),
	})
}

// add files the problem of a row with a natural key, or keeps it until it is known whether the row is in the part that is sent. Which that is the
// key tells: the rest of the row may be what is wrong.
func (m *mapper) add(key []byte, p syncdb.Problem) error {
	if m.s.schools != nil {
		rec := record{KeyHash: p.KeyHash, RecordHash: p.RecordHash, SourceHash: p.SourceHash, Key: key, Payload: detail(p)}
		if len(key) > 0 {
			rec.Schools = m.s.schools.ofRow(nil, m.res.Resource, key, nil)
		}
		m.res.mu.Lock()
		defer m.res.mu.Unlock()
		return m.res.troubled.add(&rec)
	}
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
	if a, ok := AdviceOn(p.Code); ok {
		return a.Owner
	}
	return bySource
}

func detail(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		return []byte(`{}`) // only plain maps of strings come here
	}
	return b
}
