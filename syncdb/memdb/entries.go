package memdb

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/edfisync/edfisync/syncdb"
)

// Hashes is syncdb.DB.Hashes.
func (d *DB) Hashes(ctx context.Context, connID int64, resource string, fn func(key, record, source syncdb.Hash, state syncdb.State) error) error {
	return d.each(ctx, connID, resource, func(e *syncdb.Entry) error { return fn(e.KeyHash, e.RecordHash, e.SourceHash, e.State) })
}

// Each is syncdb.DB.Each.
func (d *DB) Each(ctx context.Context, connID int64, resource string, fn func(*syncdb.Entry) error) error {
	return d.each(ctx, connID, resource, func(e *syncdb.Entry) error { return fn(clone(e)) })
}

// OwnedElsewhere is syncdb.DB.OwnedElsewhere.
func (d *DB) OwnedElsewhere(_ context.Context, connID int64, resource string, fn func(edfiID string) error) error {
	d.mu.Lock()
	var ids []string
	for i, c := range d.connections {
		if s := c.scopes[resource]; int64(i)+1 != connID && s != nil {
			for _, e := range s.entries {
				if e.EdfiID != "" && e.Origin != syncdb.Met {
					ids = append(ids, e.EdfiID)
				}
			}
		}
	}
	d.mu.Unlock()
	for _, id := range ids {
		if err := fn(id); err != nil {
			return err
		}
	}
	return nil
}

// each calls fn with the stored entries, in the order of their keys.
func (d *DB) each(ctx context.Context, connID int64, resource string, fn func(*syncdb.Entry) error) error {
	d.mu.Lock()
	var all []*syncdb.Entry
	if s := d.connection(connID).scopes[resource]; s != nil {
		all = make([]*syncdb.Entry, 0, len(s.entries))
		for _, e := range s.entries {
			all = append(all, e) // stored entries are replaced, never changed
		}
	}
	d.mu.Unlock()
	slices.SortFunc(all, func(a, b *syncdb.Entry) int { return bytes.Compare(a.KeyHash[:], b.KeyHash[:]) })
	for _, e := range all {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := fn(e); err != nil {
			return err
		}
	}
	return nil
}

// Count is syncdb.DB.Count.
func (d *DB) Count(ctx context.Context, connID int64, resource string) (int64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if s := d.connection(connID).scopes[resource]; s != nil {
		return int64(len(s.entries)), nil
	}
	return 0, nil
}

// Lookup is syncdb.DB.Lookup.
func (d *DB) Lookup(ctx context.Context, connID int64, resource string, hashes []syncdb.Hash) (map[syncdb.Hash]syncdb.Entry, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	found := make(map[syncdb.Hash]syncdb.Entry, len(hashes))
	if s := d.connection(connID).scopes[resource]; s != nil {
		for _, h := range hashes {
			if e := s.entries[h]; e != nil {
				c := *e
				c.Key, c.SentKey = slices.Clone(e.Key), slices.Clone(e.SentKey)
				found[h] = c
			}
		}
	}
	return found, nil
}

// Claim is syncdb.DB.Claim.
func (d *DB) Claim(ctx context.Context, l syncdb.Lease, resource string, updates []syncdb.Entry) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	c, err := d.fenced(ctx, l)
	if err != nil {
		return err
	}
	entries := c.scope(resource).entries
	for i := range updates {
		if e := clone(entries[updates[i].KeyHash]); e != nil {
			e.SourceHash, e.PersonHash, e.RunID = updates[i].SourceHash, updates[i].PersonHash, l.RunID
			entries[e.KeyHash] = e
		}
	}
	return nil
}

// Resources is syncdb.DB.Resources.
func (d *DB) Resources(ctx context.Context, connID int64) ([]string, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []string
	for name, s := range d.connection(connID).scopes {
		if len(s.entries) > 0 {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out, nil
}

// Scope is syncdb.DB.Scope.
func (d *DB) Scope(ctx context.Context, connID int64, resource string) (syncdb.Scope, error) {
	if err := ctx.Err(); err != nil {
		return syncdb.Scope{}, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if s := d.connection(connID).scopes[resource]; s != nil {
		return s.Scope, nil
	}
	return syncdb.Scope{Resource: resource}, nil
}

// SetScope is syncdb.DB.SetScope.
func (d *DB) SetScope(ctx context.Context, l syncdb.Lease, s syncdb.Scope) error {
	if s.Resource == "" {
		return fmt.Errorf("set scope: no resource")
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	c, err := d.fenced(ctx, l)
	if err != nil {
		return err
	}
	c.scope(s.Resource).Scope = s
	return nil
}

// PutEntries is syncdb.DB.PutEntries.
func (d *DB) PutEntries(ctx context.Context, l syncdb.Lease, resource string, entries []syncdb.Entry) error {
	if err := syncdb.CheckEntries(entries); err != nil {
		return err
	}
	return d.pastJournal(ctx, l, resource, func(had map[syncdb.Hash]*syncdb.Entry) {
		for i := range entries {
			e := clone(&entries[i])
			e.Resource, e.RunID = resource, l.RunID
			had[e.KeyHash] = e
		}
	})
}

// DropEntries is syncdb.DB.DropEntries.
func (d *DB) DropEntries(ctx context.Context, l syncdb.Lease, resource string, keys []syncdb.Hash) error {
	return d.pastJournal(ctx, l, resource, func(had map[syncdb.Hash]*syncdb.Entry) {
		for _, k := range keys {
			delete(had, k)
		}
	})
}

func (d *DB) pastJournal(ctx context.Context, l syncdb.Lease, resource string, fn func(map[syncdb.Hash]*syncdb.Entry)) error {
	if resource == "" {
		return errors.New("no resource is named")
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	c, err := d.fenced(ctx, l)
	if err != nil {
		return err
	}
	if len(c.journal) > 0 {
		return fmt.Errorf("%d journal frames are not folded: %w", len(c.journal), syncdb.ErrUnsettled)
	}
	fn(c.scope(resource).entries)
	return nil
}

// SortedHashes is syncdb.DB.SortedHashes.
func (d *DB) SortedHashes(ctx context.Context, connID int64, resource string, fn func(key, record syncdb.Hash, state syncdb.State) error) error {
	return d.each(ctx, connID, resource, func(e *syncdb.Entry) error { return fn(e.KeyHash, e.RecordHash, e.State) })
}
