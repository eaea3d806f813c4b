package sync

import (
	"context"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/edfisync/edfisync/schema"
	"github.com/edfisync/edfisync/syncdb"
)

// RecordID names a record without student data, for addresses and lists: by the keyed hashes of its natural key and of its source row, or of one of them
// when the other is not known. Who has not the ledger's keys learns nothing from it. It stays the same as long as the keys do.
type RecordID struct {
	Resource string // "ed-fi/students"
	Key      syncdb.Hash
	Row      syncdb.Hash
}

// IDOf names the record of a problem.
func IDOf(p *syncdb.Problem) RecordID {
	return RecordID{Resource: p.Resource, Key: p.KeyHash, Row: p.SourceHash}
}

// String is the id without its resource: "k" and the key's 32 hexadecimal digits, "r" and those of the row, or both in this order; "" of the zero
// RecordID.
func (id RecordID) String() string {
	text := ""
	if !id.Key.IsZero() {
		text = "k" + hashText(id.Key)
	}
	if !id.Row.IsZero() {
		text += "r" + hashText(id.Row)
	}
	return text
}

// ParseRecordID reads what String wrote. What it did not write is an *UnknownRecordError.
func ParseRecordID(resource, text string) (RecordID, error) {
	id := RecordID{Resource: resource}
	rest := text
	for _, part := range []struct {
		mark string
		hash *syncdb.Hash
	}{{"k", &id.Key}, {"r", &id.Row}} {
		digits, ok := strings.CutPrefix(rest, part.mark)
		if !ok || len(digits) < 2*len(syncdb.Hash{}) {
			continue
		}
		if b, err := hex.DecodeString(digits[:2*len(syncdb.Hash{})]); err == nil {
			*part.hash, rest = syncdb.Hash(b), digits[2*len(syncdb.Hash{}):]
		}
	}
	if text == "" || id.String() != text {
		return RecordID{}, &UnknownRecordError{"this is no record's id"}
	}
	return id, nil
}

// RecallLedger is the part of the ledger that Recall reads.
type RecallLedger interface {
	problemReader
	Lookup(ctx context.Context, connection int64, resource string, keys []syncdb.Hash) (map[syncdb.Hash]syncdb.Entry, error)
	Attempts(ctx context.Context, connection int64, resource string, key syncdb.Hash, fn func(*syncdb.Attempt) error) error
}

// Recall is what the ledger remembers of a record: its entry, why it is not in sync, and the last calls. It asks neither the source nor the target, so
// it answers when they do not. The name is what Engine.Trace takes to ask them, too. A record the ledger knows nothing of is an *UnknownRecordError.
func Recall(ctx context.Context, l RecallLedger, connection int64, id RecordID, o TraceOptions) (*Trace, RecordName, error) {
	if o.Attempts <= 0 {
		o.Attempts = 20
	}
	name := RecordName{Resource: id.Resource}
	t := &tracer{o: o, keyHash: id.Key, out: newTrace(id.Resource)}
	var at []syncdb.Hash
	if !id.Row.IsZero() {
		at = append(at, id.Row)
	}
	if !id.Key.IsZero() {
		at = append(at, filedUnderKey(id.Key)...)
		found, err := l.Lookup(ctx, connection, id.Resource, []syncdb.Hash{id.Key})
		if err != nil {
			return nil, name, fmt.Errorf("look up the entry: %w", err)
		}
		if entry, ok := found[id.Key]; ok {
			name.canonical = entry.Key
			t.out.Entries = append(t.out.Entries, t.entryShown(&entry, false))
			if !entry.SourceHash.IsZero() {
				at = append(at, entry.SourceHash)
			}
		}
	}
	for i, row := range at {
		if slices.Contains(at[:i], row) {
			continue
		}
		p, ok, err := filedUnder(ctx, l, connection, id.Resource, row)
		if err != nil {
			return nil, name, err
		}
		if !ok {
			continue
		}
		t.out.Problems = append(t.out.Problems, t.problemShown(&p))
		if t.keyHash.IsZero() {
			t.keyHash = p.KeyHash
		}
		if name.canonical == nil {
			name.SourceKey = p.SourceKey
		}
	}
	if !t.keyHash.IsZero() {
		err := l.Attempts(ctx, connection, id.Resource, t.keyHash, func(a *syncdb.Attempt) error {
			t.keep(a)
			if name.canonical == nil && name.SourceKey == "" && a.KeyHash == t.keyHash {
				name.canonical = a.Key
			}
			return nil
		})
		if err != nil {
			return nil, name, fmt.Errorf("read history: %w", err)
		}
	}
	if len(t.out.Entries)+len(t.out.Problems)+len(t.out.Attempts) == 0 {
		return nil, name, &UnknownRecordError{"the ledger knows no record with this id"}
	}
	if name.canonical != nil {
		name.SourceKey = ""
	}
	t.out.KeyHash, t.out.NaturalKey = hashText(t.keyHash), t.data(name.canonical)
	return t.out, name, nil
}

// Find names a record without student data. A name that cannot be one, and a source key that no row has, are *UnknownRecordError.
func (e *Engine) Find(ctx context.Context, name RecordName) (RecordID, error) {
	r, queries, err := e.subject(name)
	if err != nil {
		return RecordID{}, err
	}
	key, err := keyNamed(r, name, e.options().Rules)
	if err != nil {
		return RecordID{}, err
	}
	if key != nil {
		return RecordID{Resource: r.Path, Key: schema.NewHasher(e.Keys.HashMAC()).Sum(key)}, nil
	}
	rows, err := e.pick(ctx, queries, name.SourceKey, nil)
	if err != nil {
		return RecordID{}, err
	}
	if len(rows) == 0 {
		return RecordID{}, &AbsentRecordError{UnknownRecordError{"no source row has this key; when it is gone, give the natural key of its record"}}
	}
	if rows[0].key != nil {
		return RecordID{Resource: r.Path, Key: rows[0].keyHash}, nil
	}
	return RecordID{Resource: r.Path, Row: rows[0].source}, nil
}
