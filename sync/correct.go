package sync

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/edfisync/edfisync/schema"
	"github.com/edfisync/edfisync/syncdb"
)

// correctBatch is how many sightings are compared with whole entries, and written, at once.
const correctBatch = 1000

// correction is what one sighting does to the ledger: entries to write, keys to drop. The zero value does nothing.
type correction struct {
	put  *syncdb.Entry
	drop *syncdb.Hash
}

// rule decides what a sighting does to the ledger. had is the whole entry the reading matched it with, nil when there is none; taken says that another
// entry stands for the record already, under the key it has. It is pure but for its counts.
type rule func(s *sighting, had *syncdb.Entry, taken bool) correction

// corrector brings the entries of one resource to what a reading of the target found. It keeps hashes and keys of one batch, no payload.
type corrector struct {
	e      *Engine
	r      *schema.Resource
	held   *holdings
	decide rule
	write  bool // false: only count what would be written
	keeper *keeper

	wait          []sighting
	Put, Dropped  int64
	beforeWriting func(ctx context.Context) error // once, before the first entry
}

// take adds a sighting. What it holds is copied.
func (c *corrector) take(ctx context.Context, s *sighting) error {
	own := *s
	own.Key = clone(s.Key)
	if c.wait = append(c.wait, own); s.Linked || len(c.wait) < correctBatch { // I9: of records that have each other's keys none is forgotten by a crash
		return nil
	}
	return c.flush(ctx)
}

// flush decides and writes what was gathered. Decisions are made on whole entries: a match of cut hashes alone changes nothing.
func (c *corrector) flush(ctx context.Context) error {
	if len(c.wait) == 0 {
		return nil
	}
	keys := make([]syncdb.Hash, 0, 2*len(c.wait))
	for i := range c.wait {
		s := &c.wait[i]
		if !s.KeyHash.IsZero() {
			keys = append(keys, s.KeyHash)
		}
		if s.Entry >= 0 && c.held.keys[s.Entry] != s.KeyHash {
			keys = append(keys, c.held.keys[s.Entry])
		}
	}
	entries, err := c.e.Ledger.Lookup(ctx, c.e.Connection.ID, c.r.Path, keys)
	if err != nil {
		return fmt.Errorf("look up entries: %w", err)
	}
	after := map[syncdb.Hash]*syncdb.Entry{} // nil = dropped
	for i := range c.wait {
		s := &c.wait[i]
		var had *syncdb.Entry
		if s.Entry >= 0 {
			if entry, ok := entries[c.held.keys[s.Entry]]; ok {
				had = &entry
			}
		}
		other, taken := entries[s.KeyHash]
		taken = taken && other.EdfiID == s.ID && (had == nil || had.KeyHash != s.KeyHash)
		do := c.decide(s, had, taken)
		if do.drop != nil {
			after[*do.drop] = nil
		}
		if do.put != nil {
			after[do.put.KeyHash] = do.put
		}
	}
	var put []syncdb.Entry
	var drop []syncdb.Hash
	for _, key := range slices.SortedFunc(maps.Keys(after), func(a, b syncdb.Hash) int { return bytes.Compare(a[:], b[:]) }) {
		if entry := after[key]; entry != nil {
			put = append(put, *entry)
		} else {
			drop = append(drop, key)
		}
	}
	c.wait = c.wait[:0]
	c.Put, c.Dropped = c.Put+int64(len(put)), c.Dropped+int64(len(drop))
	if !c.write || len(put)+len(drop) == 0 {
		return nil
	}
	if c.beforeWriting != nil {
		if err := c.beforeWriting(ctx); err != nil {
			return err
		}
		c.beforeWriting = nil
	}
	// New keys before old ones go: a crash in between leaves one id under two keys, which the next reading mends, never a record nobody knows.
	if len(put) > 0 {
		if err := c.e.putEntries(ctx, c.keeper, c.r.Path, put); err != nil {
			return fmt.Errorf("write entries: %w", err)
		}
	}
	if len(drop) > 0 {
		if err := c.e.dropEntries(ctx, c.keeper, c.r.Path, drop); err != nil {
			return fmt.Errorf("drop entries: %w", err)
		}
	}
	return nil
}

// putEntries writes entries past the journal, and notes it: no call tells of it, and the resource's root in the last receipt is not true any more.
func (e *Engine) putEntries(ctx context.Context, k *keeper, resource string, entries []syncdb.Entry) error {
	k.correct(resource)
	return e.Ledger.PutEntries(ctx, k.current(), resource, entries)
}

// dropEntries drops entries past the journal, and notes it as putEntries does.
func (e *Engine) dropEntries(ctx context.Context, k *keeper, resource string, keys []syncdb.Hash) error {
	k.correct(resource)
	return e.Ledger.DropEntries(ctx, k.current(), resource, keys)
}

// seen is the entry a sighting makes of what the ledger had: what the target holds, under the key it has there.
func (s *sighting) seen(resource string, had *syncdb.Entry) syncdb.Entry {
	e := syncdb.Entry{Resource: resource}
	if had != nil {
		e = *had
	}
	e.Resource, e.KeyHash, e.RecordHash, e.PersonHash = resource, s.KeyHash, s.Record, s.Person
	e.EdfiID, e.Key, e.SentKey, e.State = s.ID, s.Key, nil, syncdb.Live
	return e
}

// vacated is the key of a record's entry that is dropped because the record has another key now; nil when the next sightings are of a record that has it.
func (s *sighting) vacated(had *syncdb.Entry) *syncdb.Hash {
	if had == nil || s.Finding != foundMoved || !s.Vacant {
		return nil
	}
	return &had.KeyHash
}

// differs tells whether an entry has to be written.
func differs(had *syncdb.Entry, now *syncdb.Entry) bool {
	return had == nil || had.KeyHash != now.KeyHash || had.RecordHash != now.RecordHash || had.SourceHash != now.SourceHash ||
		had.PersonHash != now.PersonHash || had.EdfiID != now.EdfiID || had.State != now.State || had.Origin != now.Origin
}

// replaced tells whether the record at the target is another one than the entry's: ours is gone, and somebody has made one with its key (I9).
func replaced(s *sighting, had *syncdb.Entry) bool { return had.EdfiID != "" && had.EdfiID != s.ID }
