package sync

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/edfisync/edfisync/schema"
	"github.com/edfisync/edfisync/source"
	"github.com/edfisync/edfisync/syncdb"
)

// RecordName names one record of a resource: by the values of its natural key, by name of the key part, or by the source key of its row. RecordID.Name
// makes one, too.
type RecordName struct {
	Resource  string // "ed-fi/students"
	Key       map[string]string
	SourceKey string

	canonical []byte // the natural key as the ledger has it, instead of Key
}

// ParseNaturalKey reads a natural key as people write it: name=value,name=value. A piece without a name belongs to the value before it: values may hold
// commas. Its errors hold no value.
func ParseNaturalKey(text string) (map[string]string, error) {
	key, last := map[string]string{}, ""
	for piece := range strings.SplitSeq(text, ",") {
		part, value, ok := strings.Cut(piece, "=")
		switch {
		case ok && key[part] != "":
			return nil, fmt.Errorf("the key has %s twice", part)
		case ok:
			key[part], last = value, part
		case last == "":
			return nil, errors.New("the key is not of the form name=value,name=value")
		default:
			key[last] += "," + piece
		}
	}
	return key, nil
}

// UnknownRecordError says that a name cannot be that of a record. Its text holds no value.
type UnknownRecordError struct{ Reason string }

func (e *UnknownRecordError) Error() string { return e.Reason }

// AbsentRecordError is an UnknownRecordError of a name that can be one, and nothing has it.
type AbsentRecordError struct{ UnknownRecordError }

// Unwrap makes it an *UnknownRecordError for those who do not tell them apart.
func (e *AbsentRecordError) Unwrap() error { return &e.UnknownRecordError }

// pickedRow is one source row as a run would see it.
type pickedRow struct {
	query     string
	sourceKey []byte
	source    syncdb.Hash
	key       []byte // canonical; nil when the row does not give it
	keyHash   syncdb.Hash
	record    syncdb.Hash
	payload   []byte // wire form; nil for an invalid row
	refs      []schema.RefKey
	problems  []schema.Problem
}

// maxPicked is how many rows of one name are shown: more than one is a mistake already.
const maxPicked = 5

// subject is the resource a name means, with the queries that fill it; none when the connection does not sync it.
func (e *Engine) subject(name RecordName) (*schema.Resource, []*source.Bound, error) {
	path := name.Resource
	if !strings.Contains(path, "/") {
		path = "ed-fi/" + path
	}
	r, ok := e.Model.Resource(path)
	if !ok {
		return nil, nil, &UnknownRecordError{fmt.Sprintf("the model has no resource %q", name.Resource)}
	}
	var queries []*source.Bound
	for _, q := range e.Source.Queries() {
		if q.Resource.Path == r.Path {
			queries = append(queries, q)
		}
	}
	return r, queries, nil
}

// keyNamed is the canonical key a name gives, nil when it names the source row.
func keyNamed(r *schema.Resource, name RecordName, rules schema.Rules) ([]byte, error) {
	if name.canonical != nil {
		return name.canonical, nil
	}
	if (name.SourceKey == "") == (len(name.Key) == 0) {
		return nil, &UnknownRecordError{"give the natural key, or the source key of the row"}
	}
	if name.SourceKey != "" {
		return nil, nil
	}
	parts := make([]string, len(r.Key))
	for i, p := range r.Key {
		parts[i] = p.Name
	}
	for given := range name.Key {
		if _, ok := name.Key[given]; ok && !bytes.Contains([]byte(","+strings.Join(parts, ",")+","), []byte(","+given+",")) {
			return nil, &UnknownRecordError{fmt.Sprintf("%s is no part of the natural key of %s, which is: %s", given, r.Path, strings.Join(parts, ", "))}
		}
	}
	key, err := r.KeyFromParts(nil, name.Key, rules)
	if err != nil {
		return nil, &UnknownRecordError{fmt.Sprintf("%s: %v; its natural key is: %s", r.Path, err, strings.Join(parts, ", "))}
	}
	return key, nil
}

// pick reads the queries of a resource and returns the rows a name means, a few at most. It keeps nothing of the others in memory. By natural
// key every row is mapped, by source key only the row itself.
func (e *Engine) pick(ctx context.Context, queries []*source.Bound, sourceKey string, key []byte) ([]pickedRow, error) {
	if len(queries) == 0 {
		return nil, nil
	}
	snapshot, err := e.Source.Begin(ctx)
	if err != nil {
		return nil, fmt.Errorf("open a snapshot of the source: %w", err)
	}
	defer snapshot.Close()
	var out []pickedRow
	for _, q := range queries {
		rows, err := e.pickFrom(ctx, snapshot, q, sourceKey, key, maxPicked-len(out))
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", q.Query.File, err)
		}
		if out = append(out, rows...); len(out) >= maxPicked {
			break
		}
	}
	return out, nil
}

func (e *Engine) pickFrom(ctx context.Context, snapshot Snapshot, q *source.Bound, sourceKey string, key []byte, most int) ([]pickedRow, error) {
	rows, err := snapshot.Open(ctx, q)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	m := newMapper(&scanner{e: e}, nil, q)
	var (
		batch source.Batch
		out   []pickedRow
	)
	for len(out) < most {
		err := rows.Next(ctx, &batch)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		for i := range batch.Len() {
			row := batch.Row(i)
			if key == nil && string(q.Key(row)) != sourceKey {
				continue
			}
			q.Template.Encode(q.Values(row), &m.enc)
			if key != nil && !bytes.Equal(m.enc.Key, key) {
				continue
			}
			if out = append(out, m.picked(row)); len(out) == most {
				break
			}
		}
	}
	return out, nil
}

// share finds, in one snapshot, which of the wanted natural keys rows with different payloads share, and notes them as a scan does (F42). Wanted are key
// hashes by resource. It keeps nothing of the rows in memory.
func (e *Engine) share(ctx context.Context, sc *scope, found []*scanned, wanted map[int]map[syncdb.Hash]struct{}) error {
	snapshot, err := e.Source.Begin(ctx)
	if err != nil {
		return fmt.Errorf("open a snapshot of the source: %w", err)
	}
	defer snapshot.Close()
	for i, keys := range wanted {
		first := map[syncdb.Hash]syncdb.Hash{} // record hash of the first row, by key
		for _, q := range sc.resources[i].Queries {
			if err := e.shareFrom(ctx, snapshot, q, found[i], keys, first); err != nil {
				return fmt.Errorf("read %s: %w", q.Query.File, err)
			}
		}
	}
	return nil
}

func (e *Engine) shareFrom(ctx context.Context, snapshot Snapshot, q *source.Bound, r *scanned, keys map[syncdb.Hash]struct{}, first map[syncdb.Hash]syncdb.Hash) error {
	rows, err := snapshot.Open(ctx, q)
	if err != nil {
		return err
	}
	defer rows.Close()
	m := newMapper(&scanner{e: e}, nil, q)
	var batch source.Batch
	for {
		err := rows.Next(ctx, &batch)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		for i := range batch.Len() {
			row := batch.Row(i)
			q.Template.Encode(q.Values(row), &m.enc)
			if q.Key(row) == nil || len(m.enc.Problems) > 0 { // an invalid row shares nothing: it is not sent
				continue
			}
			key := m.hasher.Sum(m.enc.Key)
			if _, ok := keys[key]; !ok {
				continue
			}
			record := m.hasher.Sum(m.enc.Body)
			if before, again := first[key]; !again {
				first[key] = record
			} else if before != record {
				r.dups[key] = struct{}{}
			}
		}
	}
}

// picked copies what the mapper has just encoded.
func (m *mapper) picked(row [][]byte) pickedRow {
	p := pickedRow{
		query: m.q.Query.File, sourceKey: clone(m.q.Key(row)), source: m.sourceHash(m.q.Key(row)), problems: append([]schema.Problem(nil), m.enc.Problems...),
	}
	if m.q.Key(row) == nil {
		p.problems = append(p.problems, schema.Problem{Code: "source-key-missing", Path: "_key", Message: "the query gives no _key for the row"})
	}
	if len(m.enc.Key) > 0 {
		p.key, p.keyHash = clone(m.enc.Key), m.hasher.Sum(m.enc.Key)
	}
	if len(p.problems) > 0 {
		return p
	}
	p.record, p.payload = m.hasher.Sum(m.enc.Body), clone(m.enc.Wire)
	for _, ref := range m.q.Template.References(m.q.Values(row), nil) {
		ref.Key = clone(ref.Key)
		p.refs = append(p.refs, ref)
	}
	return p
}

// ObjectOf names a record for the audit trail: by the keyed hash that a trace shows of its key or row, which says nothing to a reader and finds every look at one record.
func (e *Engine) ObjectOf(name RecordName) (string, error) {
	r, queries, err := e.subject(name)
	if err != nil {
		return "", err
	}
	key, err := keyNamed(r, name, e.options().Rules)
	if err != nil {
		return "", err
	}
	hasher := schema.NewHasher(e.Keys.HashMAC())
	if key != nil {
		return r.Path + " key " + hashText(hasher.Sum(key)), nil
	}
	var rows []string // one for each part of the resource's queries: which of them has the row is not known before it was looked for
	for _, q := range queries {
		if row := hashText(hasher.Sum(sourceText(nil, q.Query.Part, []byte(name.SourceKey)))); !slices.Contains(rows, row) {
			rows = append(rows, row)
		}
	}
	return r.Path + " row " + strings.Join(rows, " or "), nil
}
